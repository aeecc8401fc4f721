/*
 * raft.h - the Raft consensus algorithm as a pure state machine.
 *
 * Sources: "In Search of an Understandable Consensus Algorithm" (the paper),
 * Ongaro's dissertation (the thesis), and etcd's behaviour on the wire.
 *
 * Inputs are raft_tick(), raft_step(), raft_propose() and its like, and the
 * two answers of the outside world, raft_stable() and raft_applied(); output
 * is struct raft_ready. No clock, socket, file, thread or lock, and randomness
 * only from the configured seed: equal inputs give equal outputs, so failures
 * replay. A struct raft is not thread-safe. After any input the caller asks
 * raft_ready() and handles each Ready in this order:
 *
 *   1. send the messages: they promise nothing that is not yet on disk, so a
 *      leader's entries travel while its own disk works (thesis, 10.2.1)
 *   2. queue snapshot, hard_state and entries for the disk, in this order, and
 *      do not wait; once they are durable, raft_stable(disk_seq)
 *   3. queue the snapshot, then committed, for the state machine, in index
 *      order; once they are applied, raft_applied(index)
 *   4. raft_advance()
 *
 * Between raft_ready() and raft_advance() the only input is raft_read_index().
 *
 * Whatever a message promises (a vote, an accepted append) must survive a
 * crash. raft keeps such messages back until raft_stable() has covered the
 * Ready that carried the promise; they appear among the messages of a later
 * Ready. A candidate's own vote and a leader's own match_index count from
 * raft_stable() on as well. Elections, heartbeats and reads therefore never
 * wait for a slow disk, and nothing is acknowledged before it is durable.
 *
 * Committed entries are handed out as soon as a quorum has them on disk, even
 * if this member's own disk lags: the quorum's disks hold them.
 *
 * BAD INPUT. Messages come from peers and are not trusted to be sane: one that
 * cannot be true (a commit index beyond the log, entries with gaps, a term
 * that runs backwards, an unknown sender or type) is dropped and counted; it
 * never trips an assertion. Assertions guard what this code itself must hold.
 */
#ifndef RAFT_H
#define RAFT_H

#include "raftpb.h"

enum raft_role {
    RAFT_FOLLOWER,
    RAFT_PRE_CANDIDATE,
    RAFT_CANDIDATE,
    RAFT_LEADER
};

enum {
    RAFT_ENOLEADER = -1, /* nobody to take the proposal: dropped */
    RAFT_EBUSY = -2,     /* uncommitted-size limit, or a transfer under way */
    RAFT_ENOTLEADER = -3,
    RAFT_ETRANSFEREE = -4, /* not a voter of the configuration */
    RAFT_ECONFIG = -5,     /* an inconsistent initial state */
};

struct raft_config {
    raft_id id;
    int election_ticks;  /* timeout is drawn from [election, 2 election) */
    int heartbeat_ticks; /* at least 1, below election_ticks */
    bool pre_vote;       /* thesis, 9.6 */
    bool check_quorum;   /* a leader without a quorum steps down; thesis, 6.2 */
    size_t msg_bytes_max; /* of entries in one append; one always goes */
    size_t inflight_max;  /* appends under way per follower */
    size_t uncommitted_bytes_max; /* proposals beyond it: RAFT_EBUSY; 0: none */
    uint64_t seed;                /* of the election timeouts */
};

/* What was found on disk. {0} for a new member. Borrowed by raft_new(). */
struct raft_initial {
    struct raft_hard_state hard_state;
    struct raft_conf_state conf_state; /* as of the snapshot */
    raft_index snapshot_index;         /* log begins behind it; 0: none */
    raft_term snapshot_term;
    raft_index applied;               /* at least snapshot_index */
    const struct raft_entry *entries; /* snapshot_index+1.., durable */
    size_t n_entries;
};

struct raft;

/* RAFT_ECONFIG and *e on a log with gaps or a commit index beyond it. */
int raft_new(const struct raft_config *config, const struct raft_initial *init,
             struct raft **out, struct err *e);
void raft_free(struct raft *r); /* NULL is fine */

/* --- Inputs. ------------------------------------------------------------ */

void raft_tick(struct raft *r); /* one tick of the logical clock */

/*
 * A message from a peer. Borrows m; shares its blobs. The caller has checked
 * that m->to is this member. MsgHup..MsgCheckQuorum and other local types are
 * dropped when they come from a peer.
 */
void raft_step(struct raft *r, const struct raft_msg *m);

/*
 * Propose entries of normal type, all or none. Shares the blobs: the caller
 * keeps its references. A follower forwards to its leader, and never hears if
 * that one drops them. 0, RAFT_ENOLEADER, RAFT_EBUSY.
 */
int raft_propose(struct raft *r, struct blob *const *data, size_t n);

/*
 * Propose an encoded ConfChange. While an earlier one is not applied yet, it
 * becomes an empty normal entry instead (etcd's rule; one change at a time,
 * thesis 4.1), and its proposer never hears of it.
 */
int raft_propose_conf_change(struct raft *r, struct blob *data);

/*
 * A configuration change has been applied by the caller (or refused: then
 * pass changes with n = 0). To be called once for each entry of such a type
 * in raft_ready.committed, in order, before raft_applied(). Applies every
 * change of cc, one after another; the last voter cannot be removed. Returns
 * the configuration as of that entry, borrowed until the next input.
 */
const struct raft_conf_state *
raft_apply_conf_change(struct raft *r, const struct raft_conf_change_v2 *cc);

/*
 * Ask for a linearizable read (thesis, 6.4). ctx, unique for this member's
 * life, restarts included, comes back in raft_ready.reads with the index to
 * wait for; or it is lost with a message or a leader: ask again after a while,
 * with the same ctx or another. With no leader it is dropped. A leader that
 * has committed nothing in its term keeps it until it has.
 */
void raft_read_index(struct raft *r, uint64_t ctx);

/* Become a candidate now, whatever the timer says. */
void raft_campaign(struct raft *r);

/*
 * Count n ticks of the election timer at once (etcd's fast first election);
 * never enough to start an election by itself.
 */
void raft_skip_election_ticks(struct raft *r, int n);

/* Hand leadership over (thesis, 3.10). Leader only. Aborted after one
 * election timeout; watch raft_status().leader. */
int raft_transfer_leader(struct raft *r, raft_id to);

void raft_report_unreachable(struct raft *r, raft_id id);
void raft_report_snapshot(struct raft *r, raft_id id, bool ok);

/* All Readies up to and including disk_seq are durable. */
void raft_stable(struct raft *r, uint64_t disk_seq);

/* The state machine has applied everything up to index. */
void raft_applied(struct raft *r, raft_index index);

/*
 * Forget entries up to index, which must be applied: the state machine's
 * snapshot covers them. A follower that needs them gets a MsgSnap.
 */
void raft_compact(struct raft *r, raft_index index);

/*
 * What lies behind this index a follower will want that gets a snapshot, or
 * lags but answers: if more is compacted, one snapshot follows the other. The
 * last index where nobody will, and where we do not lead.
 */
raft_index raft_wanted(const struct raft *r);

/* --- Output. ------------------------------------------------------------ */

struct raft_read {
    uint64_t ctx;
    raft_index index; /* linearizable once this is applied */
};

struct raft_ready { /* borrowed: valid until raft_advance() */
    /*
     * A snapshot from the leader that replaces log and state machine; save it
     * before hard_state. Entries and committed follow its index.
     */
    const struct raft_snapshot *snapshot; /* NULL: none */

    const struct raft_hard_state *hard_state; /* NULL: unchanged */
    const struct raft_entry *entries;         /* new, to be made durable */
    size_t n_entries;

    /*
     * 0: nothing for the disk. Otherwise answer raft_stable(disk_seq); numbers
     * rise by one. must_sync is false when only the commit index moved, and
     * not past a conf change.
     */
    uint64_t disk_seq;
    bool must_sync;

    const struct raft_entry *committed; /* to be applied, in order */
    size_t n_committed;

    /*
     * To be sent. A MsgSnap has snapshot->data NULL and the index and term
     * where this log begins: the sender fills in the state machine's current
     * snapshot, whose index is that or a higher one.
     */
    const struct raft_msg *messages;
    size_t n_messages;

    const struct raft_read *reads;
    size_t n_reads;
};

bool raft_ready(struct raft *r, struct raft_ready *rd); /* false: idle */
void raft_advance(struct raft *r);

/* --- Looking inside. ---------------------------------------------------- */

struct raft_status {
    raft_id id, leader; /* leader 0: unknown */
    enum raft_role role;
    raft_term term;
    raft_id vote;
    raft_index commit, applied, last_index, first_index;
    raft_id lead_transferee;
    size_t log_bytes;      /* entry data held in memory */
    uint64_t bad_messages; /* dropped as impossible */
};

struct raft_status raft_status(const struct raft *r);
const struct raft_conf_state *raft_conf_state(const struct raft *r);
bool raft_term_of(const struct raft *r, raft_index index, raft_term *out);

enum raft_progress_state { RAFT_PROBE, RAFT_REPLICATE, RAFT_SNAPSHOT };

struct raft_progress {
    raft_id id;
    raft_index match_index, next_index;
    enum raft_progress_state state;
    bool learner, recent_active;
};

/* Leader only: up to max members in id order; returns how many there are. */
size_t raft_progress(const struct raft *r, struct raft_progress *out,
                     size_t max);

/*
 * What happened since the last call, for the log ("raft: ..." lines in etcd's
 * words, one per line), appended to b. At most 64 KB are kept between calls.
 */
void raft_take_log(struct raft *r, struct buf *b);

/* Asserts what must hold between any two inputs. Tests call it each step. */
void raft_check(const struct raft *r);

#endif
