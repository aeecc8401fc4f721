/*
 * raftconf.c - membership: who votes, who learns, and how that changes.
 *
 * A configuration counts from when it is applied (etcd's rule), and a second
 * change is not appended before the first is applied. So whoever has the
 * second in its log has heard that the first is committed, and does not
 * campaign before it has applied it: any two configurations in use differ by
 * one change, and their majorities meet (thesis, 4.1).
 */
#include "raft_impl.h"

#include <assert.h>

struct progress *raft_member(const struct raft *r, raft_id id)
{
    size_t lo = 0, hi = r->n_members;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (r->members[mid].id < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < r->n_members && r->members[lo].id == id ? &r->members[lo]
                                                        : NULL;
}

bool raft_is_voter(const struct raft *r, raft_id id)
{
    const struct progress *p = raft_member(r, id);

    return p && !p->learner;
}

bool raft_sole_voter(const struct raft *r)
{
    return r->conf.voters.n == 1 && r->conf.voters.ids[0] == r->config.id;
}

size_t raft_quorum(const struct raft *r)
{
    return r->conf.voters.n / 2 + 1;
}

/* Rebuild members from conf; who stays keeps its progress. */
void raft_rebuild_members(struct raft *r)
{
    const struct raft_ids *voters = &r->conf.voters;
    const struct raft_ids *learners = &r->conf.learners;
    size_t n = voters->n + learners->n, v = 0, l = 0;
    struct progress *now = xcalloc(n, sizeof(*now));

    for (size_t i = 0; i < n; i++) {
        bool learner = v == voters->n ||
                       (l < learners->n && learners->ids[l] < voters->ids[v]);
        raft_id id = learner ? learners->ids[l++] : voters->ids[v++];
        struct progress *old = raft_member(r, id);

        if (old) {
            now[i] = *old;
            now[i].learner = learner;
            old->inflight = NULL;
            continue;
        }
        progress_init(&now[i], id, learner, raftlog_last_index(&r->log) + 1,
                      r->config.inflight_max);
        /* It has not had a chance yet to be heard of by the quorum check. */
        now[i].recent_active = true;
        if (id == r->config.id)
            now[i].match_index = r->log.stable;
    }
    for (size_t i = 0; i < r->n_members; i++)
        progress_release(&r->members[i]);
    free(r->members);
    r->members = now;
    r->n_members = n;
    r->sorted = xrealloc(r->sorted, n * sizeof(*r->sorted));
}

static void change_conf(struct raft_conf_state *c,
                        const struct raft_conf_change_v2 *cc)
{
    for (size_t i = 0; i < cc->n; i++) {
        raft_id id = cc->changes[i].node_id;

        if (id == 0)
            continue;
        /* Without its last voter the cluster could not even undo it. */
        if (c->voters.n == 1 && c->voters.ids[0] == id)
            continue;
        switch (cc->changes[i].type) {
        case RAFT_ADD_NODE:
            raft_ids_remove(&c->learners, id);
            raft_ids_add(&c->voters, id);
            break;
        case RAFT_ADD_LEARNER_NODE:
            raft_ids_remove(&c->voters, id);
            raft_ids_add(&c->learners, id);
            break;
        case RAFT_REMOVE_NODE:
            raft_ids_remove(&c->voters, id);
            raft_ids_remove(&c->learners, id);
            break;
        case RAFT_UPDATE_NODE:
            break;
        }
    }
}

const struct raft_conf_state *
raft_apply_conf_change(struct raft *r, const struct raft_conf_change_v2 *cc)
{
    assert(!r->ready_out);
    if (r->conf_changes_out > 0)
        r->conf_changes_out--;
    if (r->conf_changes_behind > 0) {
        r->conf_changes_behind--;
        change_conf(&r->conf_behind, cc);
        return &r->conf_behind;
    }

    change_conf(&r->conf, cc);
    raft_rebuild_members(r);
    if (r->role == RAFT_LEADER)
        raft_quorum_changed(r);
    return &r->conf;
}

bool raft_conf_plausible(const struct raft_conf_state *c)
{
    const struct raft_ids *sets[] = {&c->voters, &c->learners};

    /* etcd never proposes a joint configuration; we could not follow one. */
    if (c->voters.n == 0 || c->voters_outgoing.n > 0 || c->learners_next.n > 0)
        return false;
    for (size_t s = 0; s < ARRAY_LEN(sets); s++)
        for (size_t i = 0; i < sets[s]->n; i++)
            if (sets[s]->ids[i] <= (i > 0 ? sets[s]->ids[i - 1] : 0))
                return false;
    for (size_t i = 0; i < c->learners.n; i++)
        if (raft_ids_has(&c->voters, c->learners.ids[i]))
            return false;
    return true;
}
