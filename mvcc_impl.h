/*
 * mvcc_impl.h - what the files of the v3 key space share: mvcc.c (versions,
 * transactions, compaction), mvccread.c (ranges), mvcctxn.c (checks and
 * transactions of requests), mvccrestore.c (filling a new store).
 */
#ifndef MVCC_IMPL_H
#define MVCC_IMPL_H

#include "kvtree.h"
#include "mvcc.h"

struct mvcc {
    struct kvtree keys; /* the newest version of each key */
    struct kvtree log;  /* all versions; it holds their one reference */
    int64_t revision;   /* the last one that ended */
    int64_t compacted;  /* in effect */
    int64_t finished;   /* nothing is left to free up to here */
    bool compacting;    /* a pass is under way, and has come to: */
    struct mvcc_cursor swept;
    bool writing; /* between begin and end, with so many changes: */
    uint32_t n_changes;
    uint64_t bytes;
    struct mvcc_pin pins; /* head of a ring, in order of revision */
    /* Versions on their way into the trees, in order: mvccrestore.c. */
    struct mvcc_kv **restored;
    size_t n_restored, cap_restored;
};

struct mvcc_kv *mvcc_new_kv(struct str key, struct str value); /* copies */
void mvcc_restore_abandon(struct mvcc *m); /* if one is under way */

/* What a read of the present sees: an open transaction's changes, too. */
static inline int64_t mvcc_view(const struct mvcc *m)
{
    return m->revision + (m->n_changes > 0);
}

/* kv or the version before it that stands at revision; NULL if none is. */
static inline struct mvcc_kv *mvcc_at(struct mvcc_kv *kv, int64_t revision)
{
    while (kv && kv->mod_revision > revision)
        kv = kv->older;
    return kv && !mvcc_is_tombstone(kv) ? kv : NULL;
}

/* The key's newest version, or NULL; and its place. */
struct mvcc_kv *mvcc_find(struct mvcc *m, struct str key,
                          struct kvtree_cursor *c);

/* etcd's range_end in parts. */
struct mvcc_span {
    struct str begin, end;
    bool point;    /* begin alone */
    bool open_end; /* all from begin on */
};

static inline struct mvcc_span mvcc_span(struct str key, struct str range_end)
{
    return (struct mvcc_span){
        .begin = key,
        .end = range_end,
        .point = range_end.n == 0,
        .open_end = range_end.n == 1 && range_end.p[0] == '\0',
    };
}

/* key is not before the begin of the span: is it behind its end? */
static inline bool mvcc_span_ends(const struct mvcc_span *s, struct str key)
{
    if (s->point)
        return !str_eq(key, s->begin);
    return !s->open_end && str_cmp(key, s->end) >= 0;
}

/* Walk the keys of a span, tombstones included. */
struct mvcc_walk {
    struct mvcc_span span;
    struct kvtree_cursor c;
};

void mvcc_walk(struct mvcc *m, struct mvcc_span span, struct mvcc_walk *w);
struct mvcc_kv *mvcc_walk_next(struct mvcc_walk *w); /* NULL at the end */

/* The number of keys of the span that are alive in the present, and how many
 * are alive before it. */
size_t mvcc_span_count(struct mvcc *m, struct mvcc_span span, size_t *before);

/* How many versions that are no tombstones there are from a revision on. */
size_t mvcc_log_live(const struct mvcc *m, int64_t revision);

/* A put that has passed all checks. */
void mvcc_do_put(struct mvcc *m, const struct mvcc_put *p,
                 struct mvcc_put_result *out);

#endif
