/*
 * simcheck.c - what must hold at every step of a run, seen where the parts of
 * the server meet: the calls of raft.h, wal.h, snap.h and store.h, wrapped.
 *
 * ELECTION SAFETY       at most one leader, of one life, in a term, for whom a
 *                       quorum's disks have a vote
 * LEADER APPEND-ONLY    who leads only appends to its log
 * LOG MATCHING          an (index, term) has one content and one predecessor;
 *                       by induction, logs that share an entry share all
 *                       before it
 * LEADER COMPLETENESS   a new leader has the last entry that was known to be
 *                       committed in an earlier term (and, by the above, all)
 * STATE MACHINE SAFETY  at each index one entry is handed out as committed,
 *                       and applied in order, without gap or repeat
 * COMMITMENT            a leader commits by an entry of its own term (5.4.2)
 * ONE CHANGE            of membership at a time (thesis, 4.1)
 * COMMITTED MEANS       when a leader commits, the entry is on the disks of a
 * DURABLE               quorum of its configuration
 * PROMISES              a granted vote or an accepted append leaves only when
 *                       the disk has it, and with it its term
 * RECOVERY              what was synced is read again at the next start
 * ONE STATE             what an entry answers, and the store's bytes, are
 *                       equal on all members at equal applied index
 * ONE MEANING           for the keys below /1 a small twin of the store says
 *                       what each request must answer and change; TTLs end by
 *                       SYNC entries only, in order, and never early
 */
#include "sim.h"

#include "snap.h"
#include "storesnap.h"

#include <inttypes.h>
#include <stdio.h>

#define DIGEST_EVERY 64 /* indexes between two comparisons of whole stores */

/* FNV-1a: in pieces it gives what it gives in one. */
static uint64_t mix(uint64_t h, const void *p, size_t n)
{
    const uint8_t *at = p;

    for (size_t i = 0; i < n; i++)
        h = (h ^ at[i]) * 0x100000001b3;
    return h;
}

static uint64_t mix_u64(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9e3779b97f4a7c15;
    return h ^ h >> 31;
}

/* --- What is known of all members together. ----------------------------- */

struct logged { /* an entry that stood in somebody's log */
    raft_index index;
    raft_term term, before; /* before: term of the entry in front; or: */
    bool knows_before;
    uint64_t hash;
};

struct committed {
    raft_term term, by; /* by: the term in which it was seen to be committed */
    uint64_t hash, answer, digest, store_index, modified;
    int code;
    bool answered, digested;
};

struct twin_key {
    char *path;
    char *value; /* NULL: not there */
    uint64_t modified;
    int64_t expire_ns;
    struct past {
        uint64_t index, modified;
        const char *value;
    } * past;
    size_t n_past;
};

static struct {
    struct logged *logged; /* a hash table, open addressing */
    size_t n_logged, cap_logged;
    struct committed *at; /* by index */
    raft_index last, cap;
    raft_index applied;     /* highest index that anybody applied */
    raft_index conf_change; /* the last one that is committed */
    struct {
        raft_id id;         /* of the member there, or that was there last */
        raft_index changed; /* by the last committed change of it */
    } hosts[HOSTS_MAX + 1];
    struct {
        uint64_t id;
        int life;
    } leaders[4096]; /* by term */
    struct twin_key keys[64];
    size_t n_keys;
    struct change *changes;
    size_t n_changes, cap_changes;
} all;

void check_init(void)
{
    all.cap_logged = 1 << 14;
    all.logged = xcalloc(all.cap_logged, sizeof(*all.logged));
}

raft_index check_last_committed(void)
{
    return all.last;
}

bool check_knows_members(const struct server *s)
{
    return s->last_applied >= all.conf_change;
}

bool check_knows_host(const struct server *s, const struct host *h)
{
    return s->last_applied >= all.hosts[h->n].changed;
}

static void note_conf_change(const struct raft_entry *e)
{
    struct str data = blob_str(e->data);
    struct raft_conf_change_v2 cc;

    all.conf_change = e->index;
    if (raftpb_decode_conf_change_v2(data.p, data.n, &cc) < 0)
        sim_fail("a change of members at index %" PRIu64 " cannot be read",
                 e->index);
    for (size_t k = 0; k < cc.n; k++)
        for (int i = 1; i <= HOSTS_MAX; i++) {
            struct str member = cc.changes[k].context;
            const char *url = sim.hosts[i].url;

            if (member.n && memmem(member.p, member.n, url, strlen(url)))
                all.hosts[i].id = cc.changes[k].node_id;
            if (all.hosts[i].id == cc.changes[k].node_id)
                all.hosts[i].changed = e->index;
        }
}

static struct committed *committed_at(raft_index i)
{
    if (i >= all.cap) {
        raft_index cap = i * 2 + 1024;

        all.at = xrealloc(all.at, cap * sizeof(*all.at));
        memset(all.at + all.cap, 0, (cap - all.cap) * sizeof(*all.at));
        all.cap = cap;
    }
    return &all.at[i];
}

static uint64_t hash_entry(const struct raft_entry *e)
{
    struct str data = blob_str(e->data);

    return mix(mix_u64(e->type, data.n), data.p, data.n);
}

/* --- Log matching. ------------------------------------------------------ */

static struct logged *find_logged(raft_index index, raft_term term)
{
    size_t mask = all.cap_logged - 1;
    size_t i = mix_u64(index * 31, term) & mask;

    while (all.logged[i].index &&
           (all.logged[i].index != index || all.logged[i].term != term))
        i = (i + 1) & mask;
    return &all.logged[i];
}

static void grow_logged(void)
{
    struct logged *old = all.logged;
    size_t n = all.cap_logged;

    if (all.n_logged * 2 < n)
        return;
    all.cap_logged = n * 2;
    all.logged = xcalloc(all.cap_logged, sizeof(*all.logged));
    for (size_t i = 0; i < n; i++)
        if (old[i].index)
            *find_logged(old[i].index, old[i].term) = old[i];
    free(old);
}

static void check_logged(const struct host *h, const struct raft_entry *e,
                         bool knows_before, raft_term term_before)
{
    uint64_t hash = hash_entry(e);
    struct logged *l = find_logged(e->index, e->term);

    if (!l->index) {
        *l = (struct logged){.index = e->index, .term = e->term, .hash = hash};
        all.n_logged++;
    }
    REQUIRE(l->hash == hash,
            "Log Matching: %s has another entry at index %" PRIu64
            " term %" PRIu64,
            h->name, e->index, e->term);
    REQUIRE(!l->knows_before || !knows_before || l->before == term_before,
            "Log Matching: before index %" PRIu64 " term %" PRIu64
            " %s has term %" PRIu64 ", another %" PRIu64,
            e->index, e->term, h->name, term_before, l->before);
    if (knows_before && !l->knows_before) {
        l->knows_before = true;
        l->before = term_before;
    }
    grow_logged();
}

static void check_new_entries(struct host *h, struct raft *r,
                              const struct raft_ready *rd,
                              const struct raft_status *st)
{
    struct host_check *c = &h->check;

    for (size_t i = 0; i < rd->n_entries; i++) {
        const struct raft_entry *e = &rd->entries[i];
        raft_term before = 0;
        bool knows = e->index == 1 || raft_term_of(r, e->index - 1, &before);

        check_logged(h, e, knows, before);
        REQUIRE(st->role != RAFT_LEADER || c->lead_term != st->term ||
                    e->index > c->lead_last,
                "Leader Append-Only: %s leads term %" PRIu64
                " and writes index %" PRIu64 " again",
                h->name, st->term, e->index);
        if (st->role != RAFT_LEADER || c->lead_term != st->term)
            continue;
        c->lead_last = e->index;
        if (e->type == RAFT_ENTRY_NORMAL)
            continue;
        REQUIRE(c->lead_conf <= st->applied,
                "One Change: %s proposes a change of membership at index "
                "%" PRIu64 " while that at %" PRIu64 " is not applied",
                h->name, e->index, c->lead_conf);
        c->lead_conf = e->index;
    }
}

/* --- Leaders. ----------------------------------------------------------- */

static void check_complete(const struct host *h, struct raft *r,
                           const struct raft_status *st)
{
    for (raft_index i = all.last; i > 0 && i + 50 > all.last; i--) {
        const struct committed *c = committed_at(i);
        raft_term term;

        if (c->by >= st->term || i < st->first_index)
            continue; /* later than this election, or compacted */
        REQUIRE(raft_term_of(r, i, &term) && term == c->term,
                "Leader Completeness: %s leads term %" PRIu64
                " without index %" PRIu64 " of term %" PRIu64
                ", which was committed in term %" PRIu64,
                h->name, st->term, i, c->term, c->by);
    }
}

/* A quorum's disks say that it voted so in this term; or they are in a later
 * one by now, or were wiped since. */
static void check_votes(const struct host *h, struct raft *r,
                        const struct raft_status *st)
{
    const struct raft_ids *voters = &raft_conf_state(r)->voters;
    size_t votes = 0;

    for (size_t i = 0; i < voters->n; i++) {
        const struct host *v = host_by_id(voters->ids[i]);
        const struct raft_hard_state *hs = v ? &v->check.disk.hard_state : NULL;

        votes += !v || hs->term > st->term ||
                 (hs->term == st->term && hs->vote == st->id);
    }
    REQUIRE(votes > voters->n / 2,
            "Election Safety: %s leads term %" PRIu64 " by %zu votes of %zu",
            h->name, st->term, votes, voters->n);
}

static void check_leader(struct host *h, struct raft *r,
                         const struct raft_status *st)
{
    struct host_check *c = &h->check;

    if (st->role != RAFT_LEADER || c->lead_term == st->term)
        return;
    REQUIRE(st->term < ARRAY_LEN(all.leaders), "too many terms");
    REQUIRE(!all.leaders[st->term].id ||
                (all.leaders[st->term].id == st->id &&
                 all.leaders[st->term].life == h->proc->number),
            "Election Safety: %s leads term %" PRIu64
            " that already had a leader",
            h->name, st->term);
    all.leaders[st->term].id = st->id;
    all.leaders[st->term].life = h->proc->number;
    c->lead_term = st->term;
    c->lead_last = c->lead_conf = 0;
    c->lead_commit = st->commit;
    sim.count.elections++;
    TRACE(h->n, "leads term %" PRIu64, st->term);
    check_votes(h, r, st);
    check_complete(h, r, st);
}

/* Entries of earlier terms are committed by one of the leader's own that
 * follows: copies alone prove nothing (paper, 5.4.2, Figure 8). */
static void check_commitment(struct host *h, struct raft *r,
                             const struct raft_status *st)
{
    struct host_check *c = &h->check;
    raft_term term;

    if (st->role != RAFT_LEADER || st->commit == c->lead_commit)
        return;
    c->lead_commit = st->commit;
    REQUIRE(!raft_term_of(r, st->commit, &term) || term == st->term,
            "Commitment: %s leads term %" PRIu64 " and commits index %" PRIu64
            " of term %" PRIu64 " by counting",
            h->name, st->term, st->commit, term);
}

/* --- What is committed. ------------------------------------------------- */

static bool on_disk_of(const struct host *h, raft_index index, raft_term term)
{
    const struct durable *d = &h->check.disk;

    if (index <= d->snapshot.index)
        return true;
    return index <= d->last && index < d->cap && d->terms[index] == term;
}

/* The leader's own commit: a quorum of its voters has it on disk. */
static void check_quorum(const struct host *h, struct raft *r,
                         const struct raft_entry *e)
{
    const struct raft_ids *voters = &raft_conf_state(r)->voters;
    size_t have = 0;

    for (size_t i = 0; i < voters->n; i++)
        for (int k = 1; k <= HOSTS_MAX; k++)
            have += sim.hosts[k].id == voters->ids[i] &&
                    on_disk_of(&sim.hosts[k], e->index, e->term);
    REQUIRE(have > voters->n / 2,
            "Committed Means Durable: %s commits index %" PRIu64
            " term %" PRIu64 ", which %zu of %zu disks have",
            h->name, e->index, e->term, have, voters->n);
}

/* Attributes that a removed member published late are not applied. */
static bool may_be_skipped(const struct entry_request *req)
{
    return str_eqz(req->v2.method, "PUT") &&
           str_has_prefix(req->v2.path, "/0/members/");
}

static void expect_apply(struct host *h, const struct raft_entry *e)
{
    struct host_check *c = &h->check;
    struct str data = blob_str(e->data);
    struct entry_request req = {.kind = ENTRY_EMPTY};
    struct expected *x;

    if (c->n == c->cap) {
        struct expected *ring = xcalloc(c->cap * 2 + 64, sizeof(*ring));

        for (size_t i = 0; i < c->n; i++)
            ring[i] = c->queue[(c->head + i) % c->cap];
        free(c->queue);
        c->queue = ring;
        c->cap = c->cap * 2 + 64;
        c->head = 0;
    }
    x = &c->queue[(c->head + c->n++) % c->cap];
    if (e->type == RAFT_ENTRY_NORMAL)
        REQUIRE(etcdpb_decode_entry(data.p, data.n, &req) == 0,
                "an entry does not decode");
    *x = (struct expected){.index = e->index,
                           .is_v2 = req.kind == ENTRY_V2,
                           .id = req.kind == ENTRY_V2 ? req.v2.id : 0,
                           .may_skip =
                               req.kind == ENTRY_V2 && may_be_skipped(&req)};
}

static void check_committed(struct host *h, struct raft *r,
                            const struct raft_ready *rd,
                            const struct raft_status *st)
{
    if (rd->snapshot)
        h->check.handed = rd->snapshot->index;
    for (size_t i = 0; i < rd->n_committed; i++) {
        const struct raft_entry *e = &rd->committed[i];
        struct committed *c = committed_at(e->index);
        uint64_t hash = hash_entry(e);

        REQUIRE(!h->check.handed || e->index == h->check.handed + 1,
                "%s: index %" PRIu64 " is handed out after %" PRIu64, h->name,
                e->index, h->check.handed);
        h->check.handed = e->index;
        if (!c->term) {
            REQUIRE(e->index == all.last + 1 || all.last == 0,
                    "%s: index %" PRIu64 " is committed after %" PRIu64,
                    h->name, e->index, all.last);
            c->term = e->term;
            c->by = st->term;
            c->hash = hash;
            all.last = e->index;
            if (e->type != RAFT_ENTRY_NORMAL)
                note_conf_change(e);
            if (st->role == RAFT_LEADER && e->term == st->term)
                check_quorum(h, r, e);
        }
        REQUIRE(c->term == e->term && c->hash == hash,
                "State Machine Safety: %s commits term %" PRIu64
                " at index %" PRIu64 ", others term %" PRIu64,
                h->name, e->term, e->index, c->term);
        expect_apply(h, e);
    }
}

bool __real_raft_ready(struct raft *r, struct raft_ready *rd);
bool __wrap_raft_ready(struct raft *r, struct raft_ready *rd);

bool __wrap_raft_ready(struct raft *r, struct raft_ready *rd)
{
    struct host *h = host_self();
    bool any = __real_raft_ready(r, rd);
    struct raft_status st;

    if (!h)
        return any;
    h->check.raft = r;
    st = raft_status(r);
    check_leader(h, r, &st);
    check_commitment(h, r, &st);
    if (any) {
        check_new_entries(h, r, rd, &st);
        check_committed(h, r, rd, &st);
    }
    return any;
}

/* --- Promises. ---------------------------------------------------------- */

static void check_append_promise(struct host *h, const struct raft_msg *m)
{
    const struct durable *d = &h->check.disk;
    raft_term term;

    if (m->index <= d->snapshot.index)
        return;
    REQUIRE(m->index <= d->last,
            "Promises: %s accepts index %" PRIu64 " but has synced %" PRIu64,
            h->name, m->index, d->last);
    if (raft_term_of(h->check.raft, m->index, &term))
        REQUIRE(d->terms[m->index] == term || !d->terms[m->index],
                "Promises: %s accepts index %" PRIu64 " of term %" PRIu64
                " but has synced term %" PRIu64,
                h->name, m->index, term, d->terms[m->index]);
}

void check_sent(struct host *h, const struct raft_msg *m)
{
    const struct raft_hard_state *hs = &h->check.disk.hard_state;

    if (m->reject)
        return;
    if (m->type == RAFT_MSG_VOTE_RESP)
        REQUIRE(hs->term > m->term ||
                    (hs->term == m->term && hs->vote == m->to),
                "Promises: %s votes for %" PRIx64 " in term %" PRIu64
                ", its disk says %" PRIx64 " in %" PRIu64,
                h->name, m->to, m->term, hs->vote, hs->term);
    /* With index 0 it only tells a stale leader of the term. */
    if (m->type == RAFT_MSG_APP_RESP && m->index > 0) {
        REQUIRE(hs->term >= m->term,
                "Promises: %s accepts an append of term %" PRIu64
                ", its disk knows %" PRIu64,
                h->name, m->term, hs->term);
        check_append_promise(h, m);
    }
}

/* --- The log on disk. --------------------------------------------------- */

static void set_term(struct durable *d, raft_index i, raft_term term)
{
    if (i >= d->cap) {
        size_t cap = (size_t)i * 2 + 256;

        d->terms = xrealloc(d->terms, cap * sizeof(*d->terms));
        memset(d->terms + d->cap, 0, (cap - d->cap) * sizeof(*d->terms));
        d->cap = cap;
    }
    d->terms[i] = term;
}

static raft_term term_at(const struct durable *d, raft_index i)
{
    return i < d->cap ? d->terms[i] : 0;
}

/* A snapshot record counts once a commit index that covers it is there. */
static void note_commit(struct host_check *c)
{
    struct durable *w = &c->written;
    struct wal_snapshot mark = c->mark;

    if (mark.index <= w->snapshot.index || mark.index > w->hard_state.commit)
        return;
    w->snapshot = mark;
    /* In the place of a log that is shorter, or another one there. */
    if (mark.index > w->last || term_at(w, mark.index) != mark.term) {
        set_term(w, mark.index, mark.term);
        if (!c->dirty_from || mark.index < c->dirty_from)
            c->dirty_from = mark.index;
        w->last = mark.index;
    }
}

static void copy_durable(struct durable *to, const struct durable *from,
                         raft_index since)
{
    for (raft_index i = since; i <= from->last; i++)
        set_term(to, i, term_at(from, i));
    to->last = from->last;
    to->hard_state = from->hard_state;
    to->snapshot = from->snapshot;
}

int __real_wal_append(struct wal *w, const struct raft_hard_state *hs,
                      const struct raft_entry *entries, size_t n,
                      struct err *e);
int __wrap_wal_append(struct wal *w, const struct raft_hard_state *hs,
                      const struct raft_entry *entries, size_t n,
                      struct err *e);

int __wrap_wal_append(struct wal *w, const struct raft_hard_state *hs,
                      const struct raft_entry *entries, size_t n, struct err *e)
{
    struct host_check *c = &host_self()->check;

    if (hs)
        c->written.hard_state = *hs;
    note_commit(c); /* the entries stand behind its snapshot */
    /* From now on any part of it may be on disk. */
    for (size_t i = 0; i < n; i++) {
        if (!c->dirty_from || entries[i].index < c->dirty_from)
            c->dirty_from = entries[i].index;
        set_term(&c->written, entries[i].index, entries[i].term);
        c->written.last = entries[i].index;
    }
    return __real_wal_append(w, hs, entries, n, e);
}

int __real_wal_append_snapshot(struct wal *w, struct wal_snapshot snap,
                               const struct raft_conf_state *cs, struct err *e);
int __wrap_wal_append_snapshot(struct wal *w, struct wal_snapshot snap,
                               const struct raft_conf_state *cs, struct err *e);

int __wrap_wal_append_snapshot(struct wal *w, struct wal_snapshot snap,
                               const struct raft_conf_state *cs, struct err *e)
{
    struct host_check *c = &host_self()->check;

    if (snap.index > c->mark.index)
        c->mark = snap;
    note_commit(c);
    return __real_wal_append_snapshot(w, snap, cs, e);
}

int __real_wal_sync(struct wal *w, struct err *e);
int __wrap_wal_sync(struct wal *w, struct err *e);

int __wrap_wal_sync(struct wal *w, struct err *e)
{
    struct host_check *c = &host_self()->check;
    int rc = __real_wal_sync(w, e);

    if (rc == 0) {
        copy_durable(&c->disk, &c->written,
                     c->dirty_from ? c->dirty_from : c->written.last + 1);
        c->dirty_from = 0;
    }
    return rc;
}

/* What is deleted must be covered by a snapshot that the next start will take:
 * one whose record and a commit index as high are durable. */
int __real_wal_purge(struct wal *w, raft_index index, size_t keep,
                     struct wal_deleted *out);
int __wrap_wal_purge(struct wal *w, raft_index index, size_t keep,
                     struct wal_deleted *out);

int __wrap_wal_purge(struct wal *w, raft_index index, size_t keep,
                     struct wal_deleted *out)
{
    struct host *h = host_self();

    REQUIRE(h->check.disk.snapshot.index >= index,
            "Recovery: %s purges its log up to index %" PRIu64
            ", but a start would take the snapshot at %" PRIu64,
            h->name, index, h->check.disk.snapshot.index);
    return __real_wal_purge(w, index, keep, out);
}

/* The log as it was read must be the synced one, or that with a beginning of
 * what was being written. */
static void check_recovered(struct host *h, struct wal_snapshot snap,
                            const struct wal_contents *k)
{
    const struct host_check *c = &h->check;
    raft_index last = snap.index + k->n_entries;
    raft_index dirty = c->dirty_from ? c->dirty_from : UINT64_MAX;
    bool overwritten = snap.index >= dirty &&
                       snap.term == term_at(&c->written, snap.index) &&
                       snap.term != term_at(&c->disk, snap.index);

    for (size_t i = 0; i < k->n_entries; i++) {
        const struct raft_entry *e = &k->entries[i];
        raft_term disk =
            e->index <= c->disk.last ? term_at(&c->disk, e->index) : 0;

        overwritten |= e->index >= dirty &&
                       e->term == term_at(&c->written, e->index) &&
                       e->term != disk;
        REQUIRE(e->term == disk || !disk || e->index >= dirty,
                "Recovery: %s reads term %" PRIu64 " at index %" PRIu64
                ", had synced term %" PRIu64,
                h->name, e->term, e->index, disk);
    }
    REQUIRE(last >= c->disk.last || (overwritten && last + 1 >= dirty),
            "Recovery: %s reads up to index %" PRIu64
            ", had synced up to %" PRIu64,
            h->name, last, c->disk.last);
}

static void check_recovered_state(struct host *h,
                                  const struct raft_hard_state *hs)
{
    const struct raft_hard_state *disk = &h->check.disk.hard_state;

    REQUIRE(hs->term >= disk->term && hs->commit >= disk->commit,
            "Recovery: %s reads term %" PRIu64 " commit %" PRIu64
            ", had synced term %" PRIu64 " commit %" PRIu64,
            h->name, hs->term, hs->commit, disk->term, disk->commit);
    REQUIRE(hs->term > disk->term || !disk->vote || hs->vote == disk->vote,
            "Recovery: %s has forgotten its vote in term %" PRIu64, h->name,
            disk->term);
}

static void start_from(struct host_check *c, struct wal_snapshot snap,
                       const struct wal_contents *k)
{
    raft_index last = snap.index + k->n_entries;

    c->written.last = last;
    c->written.hard_state = k->hard_state;
    c->written.snapshot = c->mark = snap;
    if (snap.index)
        set_term(&c->written, snap.index, snap.term);
    for (size_t i = 0; i < k->n_entries; i++)
        set_term(&c->written, k->entries[i].index, k->entries[i].term);
    copy_durable(&c->disk, &c->written, snap.index);
    c->dirty_from = 0;
}

int __real_wal_open(const char *dir, struct wal_snapshot snap, bool no_fsync,
                    struct wal **out, struct wal_contents *contents,
                    struct err *e);
int __wrap_wal_open(const char *dir, struct wal_snapshot snap, bool no_fsync,
                    struct wal **out, struct wal_contents *contents,
                    struct err *e);

int __wrap_wal_open(const char *dir, struct wal_snapshot snap, bool no_fsync,
                    struct wal **out, struct wal_contents *contents,
                    struct err *e)
{
    struct host *h = host_self();
    int rc = __real_wal_open(dir, snap, no_fsync, out, contents, e);

    if (rc < 0)
        return rc;
    TRACE(h->n,
          "reads its log: snapshot %" PRIu64 ", %zu entries, term %" PRIu64
          ", commit %" PRIu64 "%s%s",
          snap.index, contents->n_entries, contents->hard_state.term,
          contents->hard_state.commit, contents->repaired ? ", repaired: " : "",
          contents->repaired ? contents->repaired : "");
    check_recovered(h, snap, contents);
    check_recovered_state(h, &contents->hard_state);
    start_from(&h->check, snap, contents);
    return rc;
}

void check_host_gone(struct host *h)
{
    struct host_check *c = &h->check;

    c->raft = NULL;
    c->v3_seen = 0;
    c->lead_term = 0;
    c->n = c->head = 0;
    c->handed = 0;
}

void check_host_wiped(struct host *h)
{
    struct host_check *c = &h->check;

    free(c->disk.terms);
    free(c->written.terms);
    free(c->queue);
    *c = (struct host_check){.raft = NULL};
}

/* --- The twin of the store: files below /1. ----------------------------- */

static struct twin_key *twin_find(struct str path)
{
    for (size_t i = 0; i < all.n_keys; i++)
        if (str_eqz(path, all.keys[i].path))
            return &all.keys[i];
    REQUIRE(all.n_keys < ARRAY_LEN(all.keys), "too many keys");
    all.keys[all.n_keys].path = xstrndup(path.p, path.n);
    return &all.keys[all.n_keys++];
}

static void twin_change(struct twin_key *k, const char *action, uint64_t index,
                        char *value, int64_t expire_ns)
{
    if (all.n_changes == all.cap_changes) {
        all.cap_changes = all.cap_changes * 2 + 256;
        all.changes =
            xrealloc(all.changes, all.cap_changes * sizeof(*all.changes));
    }
    all.changes[all.n_changes++] =
        (struct change){index, action, k->path + 2, value};
    k->value = value; /* never freed: the past has it too */
    k->modified = index;
    k->expire_ns = expire_ns;
    if (k->n_past % 64 == 0)
        k->past = xrealloc(k->past, (k->n_past + 64) * sizeof(*k->past));
    k->past[k->n_past++] = (struct past){index, index, value};
    sim.count.events++;
}

static int twin_compare(const struct twin_key *k, const struct v2_request *r)
{
    if (!k->value)
        return STORE_KEY_NOT_FOUND;
    if (r->prev_value.n && !str_eqz(r->prev_value, k->value))
        return STORE_TEST_FAILED;
    if (r->prev_index && r->prev_index != k->modified)
        return STORE_TEST_FAILED;
    return 0;
}

static int twin_put(struct twin_key *k, const struct v2_request *r,
                    uint64_t index, const char **action)
{
    bool compare = r->prev_value.n || r->prev_index;
    int code = 0;

    *action = "set";
    if (compare) {
        *action = "compareAndSwap";
        code = twin_compare(k, r);
    } else if (r->prev_exist == TRI_FALSE) {
        *action = "create";
        code = k->value ? STORE_NODE_EXIST : 0;
    } else if (r->prev_exist == TRI_TRUE) {
        *action = "update";
        code = k->value ? 0 : STORE_KEY_NOT_FOUND;
    }
    if (code == 0)
        twin_change(k, *action, index, xstrndup(r->val.p, r->val.n),
                    r->expiration);
    return code;
}

static int twin_delete(struct twin_key *k, const struct v2_request *r,
                       uint64_t index)
{
    bool compare = r->prev_value.n || r->prev_index;
    int code = compare    ? twin_compare(k, r)
               : k->value ? 0
                          : STORE_KEY_NOT_FOUND;

    if (code == 0)
        twin_change(k, compare ? "compareAndDelete" : "delete", index, NULL, 0);
    return code;
}

static struct twin_key *next_to_expire(int64_t cutoff)
{
    struct twin_key *best = NULL;

    for (size_t i = 0; i < all.n_keys; i++) {
        struct twin_key *k = &all.keys[i];

        if (!k->value || !k->expire_ns || k->expire_ns > cutoff)
            continue;
        if (!best || k->expire_ns < best->expire_ns ||
            (k->expire_ns == best->expire_ns &&
             strcmp(k->path, best->path) < 0))
            best = k;
    }
    return best;
}

static uint64_t twin_expire(int64_t cutoff, uint64_t index)
{
    struct twin_key *k;

    REQUIRE(cutoff <= sim_wall(NULL) + sim.p.skew_max,
            "a SYNC has a time that nobody's clock has reached");
    while ((k = next_to_expire(cutoff))) {
        twin_change(k, "expire", ++index, NULL, 0);
        sim.count.expired++;
    }
    return index;
}

/* Apply to the twin what was just applied to a store for the first time;
 * index: the store's before. */
static void twin_apply(const struct host *h, const struct v2_request *r,
                       uint64_t index, int code, uint64_t index_after)
{
    const char *action = "SYNC";
    int want = 0;

    if (str_eqz(r->method, "SYNC")) {
        index = twin_expire(r->time, index);
    } else if (!str_has_prefix(r->path, "/1/")) {
        return;
    } else if (str_eqz(r->method, "PUT")) {
        want = twin_put(twin_find(r->path), r, index + 1, &action);
        index += want == 0;
    } else if (str_eqz(r->method, "DELETE")) {
        action = "delete";
        want = twin_delete(twin_find(r->path), r, index + 1);
        index += want == 0;
    } else {
        return;
    }
    REQUIRE(code == want && index_after == index,
            "One Meaning: %s answers %d at store index %" PRIu64
            " to %s of %.*s, the twin %d at %" PRIu64,
            h->name, code, index_after, action, STR_FMT(r->path), want, index);
}

size_t check_changes(const struct change **out)
{
    *out = all.changes;
    return all.n_changes;
}

const char *check_value_at(const char *path, uint64_t index, uint64_t *modified)
{
    struct twin_key *k = twin_find(str_of(path));

    for (size_t i = k->n_past; i-- > 0;) {
        if (k->past[i].index <= index) {
            *modified = k->past[i].modified;
            return k->past[i].value;
        }
    }
    return NULL;
}

bool check_result(raft_index i, int *code, uint64_t *modified)
{
    if (i >= all.cap || !all.at[i].answered)
        return false;
    *code = all.at[i].code;
    *modified = all.at[i].modified;
    return true;
}

/* --- Applying. ---------------------------------------------------------- */

/* The entry that is being applied: the next one that is for the store. */
static raft_index next_expected(struct host *h, const struct v2_request *r)
{
    struct host_check *c = &h->check;

    while (c->n > 0) {
        struct expected x = c->queue[c->head];

        c->head = (c->head + 1) % c->cap;
        c->n--;
        if (x.is_v2 && x.id == r->id)
            return x.index;
        REQUIRE(!x.is_v2 || x.may_skip, "%s does not apply index %" PRIu64,
                h->name, x.index);
    }
    sim_fail("%s applies a request that was not committed, or again", h->name);
}

static uint64_t hash_answer(int code, struct store_event *event,
                            const struct store_error *error,
                            uint64_t index_after)
{
    uint64_t h = mix_u64((uint64_t)code, index_after);

    if (event) {
        struct str value = blob_str(store_event_value(event));

        h = mix_u64(h, store_event_action(event));
        h = mix_u64(h, store_event_index(event));
        h = mix(h, value.p, value.n);
    }
    if (code)
        h = mix_u64(h, error->index);
    return h;
}

int __real_store_apply(struct store *s, const struct v2_request *r,
                       int64_t now_ns, struct store_event **out,
                       struct store_error *err);
int __wrap_store_apply(struct store *s, const struct v2_request *r,
                       int64_t now_ns, struct store_event **out,
                       struct store_error *err);

int __wrap_store_apply(struct store *s, const struct v2_request *r,
                       int64_t now_ns, struct store_event **out,
                       struct store_error *err)
{
    struct host *h = host_self();
    raft_index at = next_expected(h, r);
    struct committed *c = committed_at(at);
    uint64_t before = store_index(s), answer;
    int code = __real_store_apply(s, r, now_ns, out, err);

    answer = hash_answer(code, *out, err, store_index(s));
    sim.count.applied++;
    if (!c->answered) {
        c->answered = true;
        c->code = code;
        c->answer = answer;
        c->modified = *out ? store_event_index(*out) : 0;
        TRACE(h->n,
              "applies %" PRIu64 ": %.*s %.*s=%.*s: %d, store index %" PRIu64,
              at, STR_FMT(r->method), STR_FMT(r->path), STR_FMT(r->val), code,
              store_index(s));
        twin_apply(h, r, before, code, store_index(s));
    }
    REQUIRE(c->answer == answer,
            "One State: %s answers %d to index %" PRIu64
            " at store index %" PRIu64 ", another answered %d",
            h->name, code, at, store_index(s), c->code);
    return code;
}

/* All of a store's JSON but what reads count and what wall clocks show. */
static uint64_t hash_store(struct str json)
{
    static const char ttl[] = "\"ttl\":", stats[] = "\"Stats\":{";
    const char *p = json.p, *end = p + json.n;
    uint64_t h = 1;

    while (p < end) {
        const char *quote = memchr(p, '"', (size_t)(end - p));
        const char *stop = quote ? quote : end;

        h = mix(h, p, (size_t)(stop - p));
        p = stop;
        if (p == end)
            break;
        if ((size_t)(end - p) > sizeof(stats) &&
            memcmp(p, stats, sizeof(stats) - 1) == 0) {
            p = memchr(p, '}', (size_t)(end - p));
        } else if ((size_t)(end - p) > sizeof(ttl) &&
                   memcmp(p, ttl, sizeof(ttl) - 1) == 0) {
            for (p += sizeof(ttl) - 1; *p == '-' || (*p >= '0' && *p <= '9');)
                p++;
            p += *p == ','; /* a TTL of 0 is left out */
        } else {
            h = mix(h, p++, 1);
        }
    }
    return h;
}

uint64_t check_store_digest(struct server *s)
{
    struct store_view *v = store_pin(s->store);
    struct buf b = {0};
    uint64_t h;

    store_view_json(&b, v);
    store_unpin(v);
    h = hash_store(buf_str(&b));
    buf_release(&b);
    return h;
}

/* digest: of the store at index; with the membership it is the whole state. */
static void compare_digest(const struct host *h, raft_index index,
                           uint64_t digest, const struct raft_conf_state *cs)
{
    struct committed *c = committed_at(index);

    for (size_t i = 0; i < cs->voters.n; i++)
        digest = mix_u64(digest, cs->voters.ids[i]);
    for (size_t i = 0; i < cs->learners.n; i++)
        digest = mix_u64(digest, ~cs->learners.ids[i]);
    if (!c->digested) {
        c->digested = true;
        c->digest = digest;
    }
    REQUIRE(c->digest == digest,
            "One State: the state of %s at index %" PRIu64 " is another one",
            h->name, index);
}

/* The store's own index, out of its JSON. */
static uint64_t index_in(struct str json)
{
    static const char name[] = "\"CurrentIndex\":";
    const char *at = memmem(json.p, json.n, name, sizeof(name) - 1);

    REQUIRE(at, "a snapshot without an index");
    return strtoull(at + sizeof(name) - 1, NULL, 10);
}

void check_snapshot(const struct host *h, const struct raft_snapshot *meta,
                    struct str json)
{
    const struct committed *c = committed_at(meta->index);

    REQUIRE(!c->store_index || c->store_index == index_in(json),
            "One State: a snapshot of %s at index %" PRIu64
            " has store index %" PRIu64 ", the store had %" PRIu64,
            h->name, meta->index, index_in(json), c->store_index);
    compare_digest(h, meta->index, hash_store(json), &meta->conf_state);
}

void __real_raft_applied(struct raft *r, raft_index index);
void __wrap_raft_applied(struct raft *r, raft_index index);

void __wrap_raft_applied(struct raft *r, raft_index index)
{
    struct host *h = host_self();
    struct host_check *c = &h->check;

    while (c->n > 0 && c->queue[c->head].index <= index) {
        REQUIRE(!c->queue[c->head].is_v2 || c->queue[c->head].may_skip,
                "%s does not apply index %" PRIu64, h->name,
                c->queue[c->head].index);
        c->head = (c->head + 1) % c->cap;
        c->n--;
    }
    REQUIRE(index <= all.last || index <= c->disk.snapshot.index,
            "%s has applied index %" PRIu64 ", which is not committed", h->name,
            index);
    all.applied = max_u64(all.applied, index);
    if (h->server) {
        struct committed *at = committed_at(index);

        if (!at->store_index)
            at->store_index = store_index(h->server->store);
        REQUIRE(at->store_index == store_index(h->server->store),
                "One State: %s has store index %" PRIu64 " at index %" PRIu64
                ", another had %" PRIu64,
                h->name, store_index(h->server->store), index, at->store_index);
    }
    if (h->server)
        check_v3_applied(h, index, index % DIGEST_EVERY == 0);
    if (h->server && index % DIGEST_EVERY == 0)
        compare_digest(h, index, check_store_digest(h->server),
                       &h->server->conf_state);
    __real_raft_applied(r, index);
}

/* --- Snapshots. --------------------------------------------------------- */

/* An older state never replaces a newer one. */
int __real_store_recover(struct store *s, const void *json, size_t n,
                         struct err *e);
int __wrap_store_recover(struct store *s, const void *json, size_t n,
                         struct err *e);

int __wrap_store_recover(struct store *s, const void *json, size_t n,
                         struct err *e)
{
    uint64_t before = store_index(s);
    int rc = __real_store_recover(s, json, n, e);

    REQUIRE(rc < 0 || store_index(s) >= before,
            "%s installs a snapshot at store index %" PRIu64
            " over one at %" PRIu64,
            host_self()->name, store_index(s), before);
    if (rc == 0)
        TRACE(host_self()->n, "recovers a store at index %" PRIu64,
              store_index(s));
    return rc;
}

static int add_piece(void *arg, const void *p, size_t n)
{
    buf_add(arg, p, n);
    return 0;
}

int __real_snap_save(const char *dir, const struct raft_snapshot *meta,
                     snap_source *source, void *from, bool no_fsync,
                     struct err *e);
int __wrap_snap_save(const char *dir, const struct raft_snapshot *meta,
                     snap_source *source, void *from, bool no_fsync,
                     struct err *e);

int __wrap_snap_save(const char *dir, const struct raft_snapshot *meta,
                     snap_source *source, void *from, bool no_fsync,
                     struct err *e)
{
    struct buf b = {0};
    int rc;

    source(from, add_piece, &b);
    check_snapshot(host_self(), meta, buf_str(&b));
    buf_release(&b);
    rc = __real_snap_save(dir, meta, source, from, no_fsync, e);
    sim.count.checkpoints += rc == 0;
    TRACE(host_self()->n, "saves a snapshot at index %" PRIu64 ": %s",
          meta->index, rc == 0 ? "done" : e->msg);
    return rc;
}
