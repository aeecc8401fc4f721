/*
 * walreplay.c - records as Raft's persistent state, and the snapshots that
 * they tell of. Refuses what Raft never writes.
 */
#include "wal_impl.h"

#include <inttypes.h>

#define LOOKS_MAX 16 /* at a log that changes meanwhile */

void wal_contents_release(struct wal_contents *c)
{
    raft_entries_free(c->entries, c->n_entries);
    free(c->repaired);
    *c = (struct wal_contents){0};
}

static void replay_truncate(struct replay *r, size_t n)
{
    while (r->c.n_entries > n)
        raft_entry_release(&r->c.entries[--r->c.n_entries]);
}

/* These take one record each, and return what is wrong with it or NULL. */

static const char *replay_entry(struct replay *r, struct str data)
{
    struct raft_entry ent;
    size_t at;

    if (raftpb_decode_entry(data.p, data.n, &ent) < 0)
        return "malformed entry";
    if (ent.index == 0 || ent.term == 0 ||
        (ent.type != RAFT_ENTRY_NORMAL && !ent.data)) {
        raft_entry_release(&ent);
        return "an entry that Raft does not write";
    }
    if (ent.index <= r->from.index) { /* the snapshot has it */
        replay_truncate(r, 0);
        if (ent.index == r->from.index)
            r->from_term = ent.term;
        raft_entry_release(&ent);
        return NULL;
    }
    if (ent.index - r->from.index - 1 > r->c.n_entries) {
        raft_entry_release(&ent);
        return "a gap between entries";
    }
    at = (size_t)(ent.index - r->from.index - 1);
    replay_truncate(r, at);
    if (at == r->cap) {
        r->cap = r->cap ? 2 * r->cap : 64;
        r->c.entries = xrealloc(r->c.entries, r->cap * sizeof(*r->c.entries));
    }
    r->c.entries[r->c.n_entries++] = ent;
    return NULL;
}

static const char *replay_state(struct replay *r, struct str data)
{
    struct raft_hard_state hs;
    const char *wrong = wal_decode_state(data, &hs);

    if (!wrong)
        wrong = wal_state_fault(&r->c.hard_state, &hs);
    if (!wrong)
        r->c.hard_state = hs;
    return wrong;
}

static const char *replay_snapshot(struct replay *r, struct str data)
{
    struct wal_snapshot snap;

    if (wal_decode_snapshot(data, &snap) < 0)
        return "malformed snapshot record";
    if (snap.index != r->from.index)
        return NULL;
    if (snap.term != r->from.term)
        return "wal: snapshot mismatch: another term";
    /*
     * One from the leader replaces a log that does not hold its last entry
     * (paper, Figure 13, rule 7); what was read so far is such a log.
     */
    if (snap.index > 0 && r->from_term != snap.term)
        replay_truncate(r, 0);
    r->found = true;
    return NULL;
}

static const char *replay_record(struct replay *r, const struct wal_record *rec)
{
    switch (rec->type) {
    case WAL_ENTRY:
        return replay_entry(r, rec->data);
    case WAL_STATE:
        return replay_state(r, rec->data);
    case WAL_SNAPSHOT:
        return replay_snapshot(r, rec->data);
    default:
        return "unexpected block type";
    }
}

/* Terms never fall along a log. */
static bool replay_terms_rise(const struct replay *r)
{
    raft_term last = r->from.term;

    for (size_t i = 0; i < r->c.n_entries; i++) {
        if (r->c.entries[i].term < last)
            return false;
        last = r->c.entries[i].term;
    }
    return true;
}

/* What follows a snapshot record, or entries behind an earlier write's state,
 * proves what stands before it (invariant 4). */
static void note_write(struct scan *s, int64_t type)
{
    if (s->last_type == WAL_SNAPSHOT) {
        s->unproven = s->record_off;
        s->next_write = 0;
        s->has_entries = false;
    } else if (s->last_type == WAL_STATE && s->has_entries && !s->next_write) {
        s->next_write = s->record_off;
    }
    if (type == WAL_ENTRY && s->next_write) {
        s->unproven = s->next_write;
        s->next_write = 0;
    }
    s->has_entries |= type == WAL_ENTRY;
    s->last_type = type;
}

int wal_replay_records(struct replay *r, struct scan *s, struct err *e)
{
    struct wal_record rec;
    int rc;

    while ((rc = wal_scan_next(s, &rec, e)) > 0) {
        const char *wrong = replay_record(r, &rec);

        if (wrong)
            return wal_scan_damaged(s, WAL_EFORMAT, s->record_off, wrong, e);
        note_write(s, rec.type);
    }
    if (rc < 0)
        return rc;
    if (!r->found && r->from.index > 0)
        return err_set(e, WAL_ENOSNAP,
                       "wal: snapshot not found: %s has no record of the "
                       "snapshot at index %" PRIu64 ", term %" PRIu64
                       "; its .snap file belongs to another log",
                       s->dir, r->from.index, r->from.term);
    if (!replay_terms_rise(r))
        return wal_scan_damaged(s, WAL_EFORMAT, s->r.off,
                                "entries whose term goes back, before the end",
                                e);
    r->c.metadata = s->metadata;
    return 0;
}

int wal_replay(const char *dir, const struct segments *segs, size_t from,
               struct wal_snapshot snap, struct scan *s,
               struct wal_contents *out, struct err *e)
{
    struct replay r = {.from = snap};
    int rc = wal_scan_start(s, dir, segs, from, e);

    if (rc == 0)
        rc = wal_replay_records(&r, s, e);
    wal_scan_release(s);
    if (rc < 0) {
        wal_contents_release(&r.c);
        return rc;
    }
    *out = r.c;
    return 0;
}

bool wal_look_again(struct wal_look *l, int rc)
{
    if (rc == 0 || ++l->n == LOOKS_MAX ||
        (l->n > 1 && strcmp(l->e.msg, l->before.msg) == 0))
        return false;
    l->before = l->e;
    return true;
}

int wal_looked(const struct wal_look *l, int rc, struct err *e)
{
    if (rc < 0 && e)
        *e = l->e;
    return rc;
}

static int read_once(const char *dir, struct wal_snapshot snap,
                     struct wal_contents *contents, struct err *e)
{
    struct segments segs;
    struct scan s;
    size_t from;
    int rc = wal_segments_list(dir, &segs, e);

    if (rc < 0)
        return rc;
    from = wal_segments_find(&segs, snap.index);
    rc = wal_segments_check(dir, &segs, from, e);
    if (rc == 0)
        rc = wal_segments_open(dir, &segs, from, WAL_TO_READ, e);
    if (rc == 0)
        rc = wal_replay(dir, &segs, from, snap, &s, contents, e);
    wal_segments_close(&segs);
    return rc;
}

int wal_read(const char *dir, struct wal_snapshot snap,
             struct wal_contents *contents, struct err *e)
{
    struct wal_look look = {0};
    int rc;

    do
        rc = read_once(dir, snap, contents, &look.e);
    while (wal_look_again(&look, rc));
    return wal_looked(&look, rc, e);
}

/* --- The snapshots of a log. --------------------------------------------- */

struct snapshots {
    struct wal_snapshot *v;
    size_t n;
    raft_index commit;
};

static const char *snapshots_record(struct snapshots *all,
                                    const struct wal_record *rec)
{
    struct raft_hard_state hs;
    struct wal_snapshot snap;
    const char *wrong;

    switch (rec->type) {
    case WAL_ENTRY:
        return NULL;
    case WAL_STATE:
        wrong = wal_decode_state(rec->data, &hs);
        if (!wrong)
            all->commit = hs.commit;
        return wrong;
    case WAL_SNAPSHOT:
        if (wal_decode_snapshot(rec->data, &snap) < 0)
            return "malformed snapshot record";
        all->v = xrealloc(all->v, (all->n + 1) * sizeof(*all->v));
        all->v[all->n++] = snap;
        return NULL;
    default: /* a snapshot's record could be overlooked */
        return "unexpected block type";
    }
}

static int snapshots_scan(struct snapshots *all, const char *dir,
                          const struct segments *segs, size_t from,
                          struct err *e)
{
    struct wal_record rec;
    struct scan s;
    int rc = wal_scan_start(&s, dir, segs, from, e);

    while (rc == 0 && (rc = wal_scan_next(&s, &rec, e)) > 0) {
        const char *wrong = snapshots_record(all, &rec);

        rc = wrong ? wal_scan_damaged(&s, WAL_EFORMAT, s.record_off, wrong, e)
                   : 0;
        if (rc < 0)
            break;
    }
    wal_scan_release(&s);
    return rc;
}

/* Purging may leave a gap if a crash keeps an older deletion back: what is
 * before it is no longer needed. */
static size_t segments_unbroken(const struct segments *s)
{
    size_t i = s->n;

    while (i > 0 && (i == s->n || s->v[i - 1].seq + 1 == s->v[i].seq))
        i--;
    return i;
}

static int snapshots_once(const char *dir, struct wal_snapshot **out, size_t *n,
                          struct err *e)
{
    struct snapshots all = {0};
    struct segments segs;
    size_t from, kept = 0;
    int rc = wal_segments_list(dir, &segs, e);

    if (rc < 0)
        return rc;
    from = segments_unbroken(&segs);
    rc = wal_segments_check(dir, &segs, from, e);
    if (rc == 0)
        rc = wal_segments_open(dir, &segs, from, WAL_TO_READ, e);
    if (rc == 0)
        rc = snapshots_scan(&all, dir, &segs, from, e);
    wal_segments_close(&segs);
    if (rc < 0) {
        free(all.v);
        return rc;
    }
    for (size_t i = 0; i < all.n; i++)
        if (all.v[i].index <= all.commit)
            all.v[kept++] = all.v[i];
    *out = all.v ? all.v : xmalloc(1);
    *n = kept;
    return 0;
}

int wal_snapshots(const char *dir, struct wal_snapshot **out, size_t *n,
                  struct err *e)
{
    struct wal_look look = {0};
    int rc;

    do
        rc = snapshots_once(dir, out, n, &look.e);
    while (wal_look_again(&look, rc));
    return wal_looked(&look, rc, e);
}
