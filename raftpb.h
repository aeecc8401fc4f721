/*
 * raftpb.h - the messages of Raft as etcd writes them to the log and sends
 * them to peers: raftpb.Entry, HardState, ConfState, Snapshot, Message,
 * ConfChange. Pure codecs over pb.h.
 *
 * Writers emit every scalar, even zero, in field order, and the empty
 * sub-messages that etcd 3.2 to 3.6 always writes; readers take fields in
 * any order, skip unknown ones and treat missing ones as zero.
 */
#ifndef RAFTPB_H
#define RAFTPB_H

#include "buf.h"

typedef uint64_t raft_id;    /* a member; 0 is nobody */
typedef uint64_t raft_index; /* of a log entry; the first is 1, 0 is none */
typedef uint64_t raft_term;

enum raft_entry_type {
    RAFT_ENTRY_NORMAL = 0,
    RAFT_ENTRY_CONF_CHANGE = 1,
    RAFT_ENTRY_CONF_CHANGE_V2 = 2,
};

struct raft_entry {
    enum raft_entry_type type;
    raft_term term;
    raft_index index;
    struct blob *data; /* shared; NULL when empty */
};

struct raft_hard_state {
    raft_term term;
    raft_id vote;
    raft_index commit;
};

/* A set of member ids, sorted ascending. {0} is empty. */
struct raft_ids {
    raft_id *ids;
    size_t n;
};

struct raft_conf_state {
    struct raft_ids voters, learners, voters_outgoing, learners_next;
    bool auto_leave;
};

struct raft_snapshot {
    struct raft_conf_state conf_state;
    raft_index index;  /* last_included_index */
    raft_term term;    /* last_included_term */
    struct blob *data; /* state machine; NULL when empty */
};

enum raft_msg_type {
    RAFT_MSG_HUP = 0,
    RAFT_MSG_BEAT = 1,
    RAFT_MSG_PROP = 2,
    RAFT_MSG_APP = 3,
    RAFT_MSG_APP_RESP = 4,
    RAFT_MSG_VOTE = 5,
    RAFT_MSG_VOTE_RESP = 6,
    RAFT_MSG_SNAP = 7,
    RAFT_MSG_HEARTBEAT = 8,
    RAFT_MSG_HEARTBEAT_RESP = 9,
    RAFT_MSG_UNREACHABLE = 10,
    RAFT_MSG_SNAP_STATUS = 11,
    RAFT_MSG_CHECK_QUORUM = 12,
    RAFT_MSG_TRANSFER_LEADER = 13,
    RAFT_MSG_TIMEOUT_NOW = 14,
    RAFT_MSG_READ_INDEX = 15,
    RAFT_MSG_READ_INDEX_RESP = 16,
    RAFT_MSG_PRE_VOTE = 17,
    RAFT_MSG_PRE_VOTE_RESP = 18,
};

struct raft_msg {
    enum raft_msg_type type;
    raft_id to, from;
    raft_term term;
    raft_term log_term; /* prev_log_term of an append */
    raft_index index;   /* prev_log_index of an append */
    struct raft_entry *entries;
    size_t n_entries;
    raft_index commit;
    struct raft_snapshot *snapshot; /* MsgSnap only, else NULL */
    bool reject;
    raft_index reject_hint;
    struct blob *context; /* NULL when empty */
};

enum raft_conf_change_type {
    RAFT_ADD_NODE = 0,
    RAFT_REMOVE_NODE = 1,
    RAFT_UPDATE_NODE = 2,
    RAFT_ADD_LEARNER_NODE = 3,
};

struct raft_conf_change {
    uint64_t id; /* of the request, for its waiter */
    enum raft_conf_change_type type;
    raft_id node_id;
    struct str context; /* member JSON; borrowed */
};

#define RAFT_CONF_CHANGES_MAX 16 /* of one ConfChangeV2 */

/* A ConfChangeV2, and a ConfChange read as one of a single change. */
struct raft_conf_change_v2 {
    int transition; /* 0 auto, 1 joint implicit, 2 joint explicit */
    struct raft_conf_change changes[RAFT_CONF_CHANGES_MAX];
    size_t n;
    struct str context;
};

enum { RAFTPB_EINVAL = -1 };

/* Of an entry, a context or a snapshot: what one blob can hold. */
#define RAFTPB_DATA_MAX (UINT32_MAX - 64)

/* Names as in etcd's log lines: "MsgVoteResp". */
const char *raft_msg_name(enum raft_msg_type type);

/* --- Encoding: appends to b. -------------------------------------------- */

void raftpb_encode_entry(struct buf *b, const struct raft_entry *e);
/* All of it but the data's own bytes, which come last. */
void raftpb_encode_entry_head(struct buf *b, const struct raft_entry *e);
size_t raftpb_entry_size(const struct raft_entry *e); /* encoded bytes */
void raftpb_encode_hard_state(struct buf *b, const struct raft_hard_state *h);
void raftpb_encode_conf_state(struct buf *b, const struct raft_conf_state *c);
void raftpb_encode_snapshot(struct buf *b, const struct raft_snapshot *s);
/* All of it but the data, which comes first. */
void raftpb_encode_snapshot_meta(struct buf *b, const struct raft_snapshot *s);
void raftpb_encode_msg(struct buf *b, const struct raft_msg *m);
void raftpb_encode_conf_change(struct buf *b, const struct raft_conf_change *c);

/* --- Decoding: 0 and an owned *out, or RAFTPB_EINVAL and *out untouched. - */

int raftpb_decode_entry(const void *p, size_t n, struct raft_entry *out);
int raftpb_decode_hard_state(const void *p, size_t n,
                             struct raft_hard_state *out);
int raftpb_decode_conf_state(const void *p, size_t n,
                             struct raft_conf_state *out);
int raftpb_decode_snapshot(const void *p, size_t n, struct raft_snapshot *out);
int raftpb_decode_msg(const void *p, size_t n, struct raft_msg *out);
/* These two borrow from p. The second reads both forms, which the wire type
 * of their second field tells apart. Unknown types of entries, messages and
 * changes are refused, as no state machine could act on them. */
int raftpb_decode_conf_change(const void *p, size_t n,
                              struct raft_conf_change *out);
int raftpb_decode_conf_change_v2(const void *p, size_t n,
                                 struct raft_conf_change_v2 *out);

/* --- Memory. ------------------------------------------------------------ */

void raft_entry_release(struct raft_entry *e);
void raft_entries_free(struct raft_entry *e, size_t n); /* array and data */
/* An array of n entries that shares the data; returns owned. */
struct raft_entry *raft_entries_dup(const struct raft_entry *e, size_t n);
void raft_snapshot_release(struct raft_snapshot *s);
void raft_msg_release(struct raft_msg *m);
/* A deep copy but for the shared blobs. */
void raft_msg_copy(struct raft_msg *dst, const struct raft_msg *src);

bool raft_ids_has(const struct raft_ids *s, raft_id id);
void raft_ids_add(struct raft_ids *s, raft_id id);    /* keeps the order */
void raft_ids_remove(struct raft_ids *s, raft_id id); /* absent is fine */
void raft_conf_state_copy(struct raft_conf_state *dst,
                          const struct raft_conf_state *src);
void raft_conf_state_release(struct raft_conf_state *c);

#endif
