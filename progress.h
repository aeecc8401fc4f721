/*
 * progress.h - what a leader knows of one member: how far its log agrees
 * with ours, and how fast we may send it more.
 *
 *   PROBE      we do not know where the logs part: one append at a time, then
 *              wait for its answer or for a heartbeat's
 *   REPLICATE  the member keeps up: appends are sent ahead of the answers, up
 *              to a window of inflight_max
 *   SNAPSHOT   it needs entries that are compacted: nothing is sent until the
 *              snapshot under way has arrived or failed
 *
 * Used by raft.c only. raft.c also keeps a struct progress for this member
 * itself, and counts votes here while a candidate.
 */
#ifndef PROGRESS_H
#define PROGRESS_H

#include "raft.h"

enum progress_vote { VOTE_NONE, VOTE_GRANTED, VOTE_REJECTED };

struct progress {
    raft_id id;
    bool learner; /* replicated to, but not counted */

    enum raft_progress_state state;
    raft_index match_index;      /* known to agree, and durable there */
    raft_index next_index;       /* to be sent next; above match_index */
    raft_index commit_sent;      /* highest commit index in an append */
    raft_index pending_snapshot; /* SNAPSHOT: index that was sent */
    bool probe_sent;             /* PROBE: wait for an answer */
    bool poke;                   /* send an append even if it is empty */
    bool recent_active;          /* heard of since the last quorum check */

    uint64_t read_round;     /* latest read round it has confirmed */
    enum progress_vote vote; /* in the current election */

    /* Last index of each append under way; REPLICATE only. A queue. */
    raft_index *inflight; /* [inflight_head .. inflight_head+n_inflight) */
    size_t inflight_head, n_inflight, inflight_cap, inflight_max;
};

void progress_init(struct progress *p, raft_id id, bool learner,
                   raft_index next, size_t inflight_max);
void progress_release(struct progress *p);

/* A new term or role: forget all but who it is. */
void progress_reset(struct progress *p, raft_index next);

void progress_become_probe(struct progress *p);
void progress_become_replicate(struct progress *p);
void progress_become_snapshot(struct progress *p, raft_index index);

/* No append may be sent now. */
bool progress_paused(const struct progress *p);

/* An append of n entries that ends at last has been sent. */
void progress_sent(struct progress *p, size_t n, raft_index last);

/* The member accepted everything up to match. False if we knew. */
bool progress_accepted(struct progress *p, raft_index match);

/*
 * The member rejected an append behind index `rejected`; it may agree at
 * `hint`. False if that is old news. Does not change the state.
 */
bool progress_rejected(struct progress *p, raft_index rejected,
                       raft_index hint);

/* A heartbeat was answered: the member lives, so try again what stalled. */
void progress_heartbeat(struct progress *p);

void progress_check(const struct progress *p);

#endif
