/*
 * raft_impl.h - the state of a struct raft, and what raft.c (terms, elections,
 * following), raftlead.c (leading), raftconf.c (membership) and raftready.c
 * (output) call of each other. Private to them.
 */
#ifndef RAFT_IMPL_H
#define RAFT_IMPL_H

#include "progress.h"
#include "raft.h"
#include "raftlog.h"

struct msg_list {
    struct raft_msg *list;
    size_t n, cap;
};

struct held_msg {
    uint64_t seq; /* may be sent once this write is durable */
    struct raft_msg msg;
};

struct read_request {
    raft_id from; /* this member itself: own_ctx counts, else ctx */
    uint64_t own_ctx;
    struct blob *ctx;
    uint64_t round;   /* 0: not begun */
    raft_index index; /* the commit index when it began */
};

struct raft {
    struct raft_config config;

    /* Persistent state (Figure 2); the log knows what of it is on disk. */
    raft_term current_term;
    raft_id voted_for;
    struct raftlog log;
    struct raft_hard_state offered_hs; /* as last handed to the disk */
    uint64_t vote_seq; /* last write with a change of term or vote */
    bool sync_commit;  /* the commit index has passed a conf change */

    /* Volatile state. */
    enum raft_role role;
    raft_id leader_id;
    raft_index commit_index;
    raft_index handed_index; /* given to the state machine */
    raft_index last_applied; /* and acknowledged by it */
    uint64_t random;
    int election_elapsed, heartbeat_elapsed, election_timeout;

    /* Membership, as applied; members holds voters and learners by id. */
    struct raft_conf_state conf;
    struct progress *members;
    size_t n_members;
    uint64_t *sorted; /* scratch of majority() */

    /*
     * Conf changes handed out, but not answered yet. A snapshot overtakes
     * them: then that many belong to the old configuration in conf_behind.
     */
    size_t conf_changes_out, conf_changes_behind;
    struct raft_conf_state conf_behind;

    /* Leader only. */
    raft_id lead_transferee;
    raft_index pending_conf_index; /* none may follow until it is applied */
    size_t uncommitted_bytes;
    uint64_t read_round;        /* the last one begun */
    struct read_request *reads; /* a queue: [reads_head .. +n_reads) */
    size_t reads_head, n_reads, reads_cap, n_reads_new;

    /* Output. What a Ready shows is kept apart, so that a read may be asked
     * for before raft_advance(). */
    struct msg_list msgs, shown;
    struct held_msg *held; /* a queue, by rising seq */
    size_t held_head, n_held, held_cap;
    struct raft_read *reads_done, *reads_shown;
    size_t n_reads_done, reads_done_cap, reads_shown_cap;
    struct raft_snapshot *snapshot; /* from the leader, not handed out */
    struct raft_snapshot *snapshot_shown;
    uint64_t snapshot_seq; /* the write that holds the last one */
    bool ready_out;

    /* For people. */
    struct buf lines;
    int lines_left;
    uint64_t lines_lost, bad_messages;
    raft_id reported_leader;
};

/* --- raftlead.c: the leader's side. ------------------------------------- */

/* All up to index is committed; also for followers. */
void raft_commit_to(struct raft *r, raft_index index);

/* More of the leader's own log is durable. */
void raft_leader_stable(struct raft *r);

/* The leader's configuration has changed, perhaps to a smaller quorum. */
void raft_quorum_changed(struct raft *r);

void raft_append_as_leader(struct raft *r, enum raft_entry_type type,
                           struct blob *data);
/* A MsgProp; any role. What cannot be done is dropped. */
void raft_handle_proposal(struct raft *r, const struct raft_msg *m);
/* Any other message of the current term. */
void raft_step_leader(struct raft *r, const struct raft_msg *m);

/* Appends, or snapshots, that the members are due now. */
void raft_send_all_appends(struct raft *r);
void raft_send_heartbeats(struct raft *r);

/* One heartbeat round for all reads that came since the last one. */
void raft_begin_read_round(struct raft *r);
void raft_answer_read(struct raft *r, const struct read_request *q);
void raft_drop_reads(struct raft *r);

/* --- raftconf.c: membership. -------------------------------------------- */

struct progress *raft_member(const struct raft *r, raft_id id); /* or NULL */
bool raft_is_voter(const struct raft *r, raft_id id);
bool raft_sole_voter(const struct raft *r); /* this member is the only one */
size_t raft_quorum(const struct raft *r);

/* Make members follow conf; who stays keeps its progress. */
void raft_rebuild_members(struct raft *r);
bool raft_conf_plausible(const struct raft_conf_state *c);

/* --- raftready.c: output. ----------------------------------------------- */

/* A line for raft_take_log(): the first begins with this member's id. */
void raft_note(struct raft *r, const char *fmt, ...) PRINTF(2, 3);
void raft_say(struct raft *r, const char *fmt, ...) PRINTF(2, 3);
/* A tick has passed: lines may flow again; tells how many were lost. */
void raft_note_tick(struct raft *r);
void raft_bad_message(struct raft *r, const struct raft_msg *m);

/* A message from this member in its present term. */
struct raft_msg raft_message(const struct raft *r, enum raft_msg_type type,
                             raft_id to);
/* Send m; takes what it owns. */
void raft_post(struct raft *r, struct raft_msg m);
/* Send m once write seq is durable; takes what it owns. */
void raft_hold(struct raft *r, struct raft_msg m, uint64_t seq);
/* The next held message whose write is durable; the caller owns it. */
bool raft_pop_held(struct raft *r, struct raft_msg *out);
void raft_drop_held(struct raft *r);
/* Entries above last are taken back: no held message may promise them. */
void raft_lower_held(struct raft *r, raft_index last);
/* The write that makes our term and vote durable; 0: they are. */
uint64_t raft_vote_durable_seq(const struct raft *r);
void raft_release_msgs(struct msg_list *q);

#endif
