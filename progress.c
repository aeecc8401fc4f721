/*
 * progress.c - what a leader knows of one member; see progress.h for the
 * states. Transitions:
 *
 *   PROBE --accepted--> REPLICATE --rejected, unreachable--> PROBE
 *   any --needs compacted entries--> SNAPSHOT --reported--> PROBE
 *   SNAPSHOT --accepted, and our log reaches back that far--> REPLICATE
 */
#include "progress.h"

#include "raftlog.h"

#include <assert.h>

void progress_init(struct progress *p, raft_id id, bool learner,
                   raft_index next, size_t inflight_max)
{
    *p = (struct progress){.id = id, .learner = learner};
    p->inflight_max = inflight_max;
    progress_reset(p, next);
}

void progress_release(struct progress *p)
{
    free(p->inflight);
    p->inflight = NULL;
}

static void set_state(struct progress *p, enum raft_progress_state state)
{
    p->state = state;
    p->probe_sent = false;
    p->poke = false;
    p->pending_snapshot = 0;
    p->inflight_head = p->n_inflight = 0;
}

void progress_reset(struct progress *p, raft_index next)
{
    set_state(p, RAFT_PROBE);
    p->match_index = 0;
    p->next_index = next;
    p->commit_sent = 0;
    p->recent_active = false;
    p->read_round = 0;
    p->vote = VOTE_NONE;
}

void progress_become_probe(struct progress *p)
{
    raft_index next = p->match_index + 1;

    /* A snapshot that arrived is the best guess of where it stands. */
    if (p->state == RAFT_SNAPSHOT)
        next = max_u64(next, p->pending_snapshot + 1);
    set_state(p, RAFT_PROBE);
    p->next_index = next;
}

void progress_become_replicate(struct progress *p)
{
    set_state(p, RAFT_REPLICATE);
    p->next_index = p->match_index + 1;
}

void progress_become_snapshot(struct progress *p, raft_index index)
{
    set_state(p, RAFT_SNAPSHOT);
    p->pending_snapshot = index;
}

bool progress_paused(const struct progress *p)
{
    switch (p->state) {
    case RAFT_PROBE:
        return p->probe_sent;
    case RAFT_REPLICATE:
        return p->n_inflight >= p->inflight_max;
    case RAFT_SNAPSHOT:
        break;
    }
    return true;
}

void progress_sent(struct progress *p, size_t n, raft_index last)
{
    assert(!progress_paused(p));
    p->poke = false;
    if (p->state == RAFT_PROBE) {
        p->probe_sent = true;
        return;
    }
    if (n == 0)
        return;
    p->next_index = last + 1;
    p->inflight =
        raftlog_room(p->inflight, sizeof(*p->inflight), &p->inflight_head,
                     p->n_inflight, &p->inflight_cap);
    p->inflight[p->inflight_head + p->n_inflight++] = last;
}

static void inflight_pop(struct progress *p)
{
    p->inflight_head++;
    if (--p->n_inflight == 0)
        p->inflight_head = 0;
}

bool progress_accepted(struct progress *p, raft_index match)
{
    bool news = match > p->match_index;

    while (p->n_inflight > 0 && p->inflight[p->inflight_head] <= match)
        inflight_pop(p);
    p->match_index = max_u64(p->match_index, match);
    p->next_index = max_u64(p->next_index, match + 1);
    if (news)
        p->probe_sent = false;
    return news;
}

bool progress_rejected(struct progress *p, raft_index rejected, raft_index hint)
{
    switch (p->state) {
    case RAFT_SNAPSHOT:
        return false;
    case RAFT_REPLICATE:
        /* Something on the way was lost; what matched stays matched. */
        return rejected > p->match_index;
    case RAFT_PROBE:
        break;
    }

    /* Only the answer to the one probe under way says something. */
    if (rejected != p->next_index - 1 || rejected <= p->match_index)
        return false;
    p->next_index = max_u64(min_u64(rejected, hint + 1), p->match_index + 1);
    p->probe_sent = false;
    return true;
}

void progress_heartbeat(struct progress *p)
{
    p->recent_active = true;
    p->probe_sent = false;
    /* A full window may be full of lost messages: let one more out. */
    if (p->state == RAFT_REPLICATE && p->n_inflight >= p->inflight_max)
        inflight_pop(p);
}

void progress_check(const struct progress *p)
{
    raft_index last = p->match_index;

    assert(p->id != 0);
    assert(p->next_index > p->match_index);
    assert(p->n_inflight <= p->inflight_max);
    assert(p->n_inflight == 0 || p->state == RAFT_REPLICATE);
    assert(p->pending_snapshot == 0 || p->state == RAFT_SNAPSHOT);
    for (size_t i = 0; i < p->n_inflight; i++) {
        assert(p->inflight[p->inflight_head + i] > last);
        last = p->inflight[p->inflight_head + i];
    }
    assert(last < p->next_index);
}
