/*
 * mvccread.c - ranges of the key space, read in bounded steps.
 *
 * A read goes through these phases; which ones, is decided when it is opened:
 *
 *     LOOK_BACK      undo what the log's later versions did to the count
 *     COUNT          only count, along the keys
 *     WALK           hand out along the keys: key order needs no sorting
 *     GATHER         collect references along the keys
 *     SORT, EMIT     then sort them, and hand them out
 *     END
 *
 * At the present revision the tree knows the count, and so, without bounds on
 * revisions, whether limit will cut. The count at an earlier one follows from
 * it by way of all that changed since: who lists page by page reads at the
 * revision of the first page, which is a moment ago. Where more has changed
 * than there is in the range, the walk goes on to the end of the range after
 * limit is reached, only to count.
 *
 * Between two steps the read remembers a version of the key that it saw last.
 * It need not be in the tree any more: its key says where to go on. New keys
 * and versions do not disturb it, for they are above the pinned revision.
 */
#include "mvcc_impl.h"

#include <assert.h>

enum { LOOK_BACK, COUNT, WALK, GATHER, SORT, EMIT, END };

static bool has_bounds(const struct mvcc_range *q)
{
    return q->min_mod_revision != 0 || q->max_mod_revision != 0 ||
           q->min_create_revision != 0 || q->max_create_revision != 0;
}

static bool is_within(const struct mvcc_range *q, const struct mvcc_kv *kv)
{
    int64_t mod = kv->mod_revision, create = kv->create_revision;

    return (q->min_mod_revision == 0 || mod >= q->min_mod_revision) &&
           (q->max_mod_revision == 0 || mod <= q->max_mod_revision) &&
           (q->min_create_revision == 0 || create >= q->min_create_revision) &&
           (q->max_create_revision == 0 || create <= q->max_create_revision);
}

static bool is_sorted_by_key(const struct mvcc_range *q)
{
    return q->target == MVCC_BY_KEY && q->order != MVCC_DESCEND;
}

/*
 * How many of the range, along the keys, are of interest; 0: all. In etcd a
 * limit without an order is applied before sorting, whatever the target: one
 * more is looked at, sorted, and perhaps cut off.
 */
static int64_t gather_max(const struct mvcc_range *q)
{
    return q->order == MVCC_NONE && !has_bounds(q) && q->limit > 0
               ? q->limit + (q->limit < INT64_MAX)
               : 0;
}

/* --- Opening. ------------------------------------------------------------- */

/*
 * The last keys of a range, in descending order, are found without a walk
 * over all that stand before them: begin at the first of these.
 */
static void skip_to_last(struct mvcc_read *r, size_t before)
{
    const struct mvcc_range *q = &r->req;
    struct kvtree_cursor c;

    if (q->target != MVCC_BY_KEY || q->order != MVCC_DESCEND ||
        r->at != r->revision || has_bounds(q) || q->limit <= 0 ||
        q->limit >= r->count)
        return;
    kvtree_seek_live(&r->m->keys, before + (size_t)(r->count - q->limit), &c);
    r->last = mvcc_ref(kvtree_get(&c));
    r->inclusive = true;
    r->more = true;
}

/*
 * Is the walk shorter if it knows the count, and is less to be looked at for
 * that than the range holds? (Not all: of later versions only the live ones
 * are counted.)
 */
static bool should_look_back(const struct mvcc_read *r, size_t in_range)
{
    const struct mvcc_range *q = &r->req;
    bool cut = q->count_only || gather_max(q) > 0 ||
               (q->limit > 0 && is_sorted_by_key(q));

    return cut && mvcc_log_live(r->m, r->at + 1) < in_range;
}

/* The count is known, or has to be found out along the way. */
static void begin(struct mvcc_read *r)
{
    const struct mvcc_range *q = &r->req;

    if (r->counted && (q->count_only || r->count == 0))
        r->phase = END;
    else if (q->count_only)
        r->phase = COUNT;
    else
        r->phase = is_sorted_by_key(q) ? WALK : GATHER;
    r->done = r->phase == END;
    if (r->phase == WALK && r->counted && !has_bounds(q))
        r->more = q->limit > 0 && r->count > q->limit;
}

int mvcc_read_open(struct mvcc *m, const struct mvcc_range *req,
                   struct mvcc_read *r)
{
    int64_t view = mvcc_view(m), at = req->revision > 0 ? req->revision : view;
    struct mvcc_span span = mvcc_span(req->key, req->range_end);
    size_t before = 0, now = 0;

    if (at > view)
        return MVCC_FUTURE_REV;
    if (at < m->compacted)
        return MVCC_COMPACTED;
    *r = (struct mvcc_read){.m = m, .req = *req, .revision = view, .at = at};
    if (!span.point)
        now = mvcc_span_count(m, span, &before);
    if (at < view && should_look_back(r, now)) {
        r->phase = LOOK_BACK;
        r->later = (struct mvcc_cursor){at + 1, 0};
        r->count = (int64_t)now;
    } else {
        r->counted = !span.point && at == view;
        r->count = r->counted ? (int64_t)now : 0;
        begin(r);
    }
    if (r->phase == GATHER)
        skip_to_last(r, before);
    mvcc_pin(m, &r->pin, at);
    return 0;
}

static void forget_place(struct mvcc_read *r)
{
    mvcc_unref(r->last);
    r->last = NULL;
    r->inclusive = false;
}

void mvcc_read_close(struct mvcc_read *r)
{
    forget_place(r);
    mvcc_unref_all(r->kvs, r->n);
    r->kvs = NULL;
    mvcc_unpin(r->m, &r->pin);
}

/* --- Looking back. ---------------------------------------------------------- */

static bool is_live(const struct mvcc_kv *kv)
{
    return kv && !mvcc_is_tombstone(kv);
}

/* Above the revision that is read, the pin keeps the log as it is. */
static void look_back(struct mvcc_read *r)
{
    struct mvcc_span span = mvcc_span(r->req.key, r->req.range_end);
    struct mvcc_kv *kvs[100];
    size_t n;

    for (size_t looked = 0; looked < MVCC_READ_STEP; looked += n) {
        n = mvcc_log_peek(r->m, &r->later, r->revision, kvs, ARRAY_LEN(kvs));
        for (size_t i = 0; i < n; i++) {
            struct str key = mvcc_key(kvs[i]);

            if (str_cmp(key, span.begin) >= 0 && !mvcc_span_ends(&span, key))
                r->count += is_live(kvs[i]->older) - is_live(kvs[i]);
        }
        if (n < ARRAY_LEN(kvs)) {
            r->counted = true;
            begin(r);
            return;
        }
    }
}

/* --- Walking. --------------------------------------------------------------- */

static void resume(struct mvcc_read *r, struct mvcc_walk *w)
{
    struct mvcc_span rest = mvcc_span(r->req.key, r->req.range_end);
    struct mvcc_kv *kv;

    if (r->last)
        rest.begin = mvcc_key(r->last);
    mvcc_walk(r->m, rest, w);
    if (!r->last || r->inclusive)
        return;
    kv = kvtree_get(&w->c);
    if (kv && str_eq(mvcc_key(kv), rest.begin))
        kvtree_next(&w->c);
}

static void gather(struct mvcc_read *r, struct mvcc_kv *kv)
{
    if (r->n == r->cap) {
        r->cap = r->cap ? r->cap * 2 : 16;
        r->kvs = xrealloc(r->kvs, r->cap * sizeof(struct mvcc_kv *));
    }
    r->kvs[r->n++] = mvcc_ref(kv);
}

/* The walk is over. */
static void end_walk(struct mvcc_read *r)
{
    forget_place(r);
    if (r->phase == GATHER) {
        r->phase = SORT;
        r->unsorted = true;
        return;
    }
    r->phase = END;
    r->done = true;
}

/* Is all known that a further walk could tell? */
static bool is_satisfied(const struct mvcc_read *r)
{
    bool bounds = has_bounds(&r->req);
    int64_t limit = r->req.limit;

    if (!r->counted || r->phase == COUNT)
        return false;
    if (!bounds && r->taken == r->count)
        return true;
    if (r->phase == GATHER)
        return gather_max(&r->req) > 0 && r->taken == gather_max(&r->req);
    return limit > 0 && r->taken - bounds == limit;
}

/* Take what stands at the revision under one key: true if it is handed out. */
static bool take(struct mvcc_read *r, struct mvcc_kv *kv)
{
    int64_t max;

    r->count += !r->counted;
    if (r->phase == COUNT || !is_within(&r->req, kv))
        return false;
    max = r->phase == GATHER ? gather_max(&r->req) : r->req.limit;
    r->taken++;
    if (max > 0 && r->taken > max) {
        r->more |= r->phase == WALK;
        return false;
    }
    if (r->phase == GATHER)
        gather(r, kv);
    return r->phase == WALK;
}

static size_t walk(struct mvcc_read *r, struct mvcc_kv **kvs, size_t max)
{
    struct mvcc_walk w;
    struct mvcc_kv *newest = NULL, *kv;
    size_t n = 0;

    resume(r, &w);
    for (int looked = 0; looked < MVCC_READ_STEP && n < max; looked++) {
        kv = mvcc_walk_next(&w);
        if (!kv) {
            end_walk(r);
            return n;
        }
        newest = kv;
        kv = mvcc_at(newest, r->at);
        if (kv && take(r, kv))
            kvs[n++] = mvcc_ref(kv);
        if (w.span.point || is_satisfied(r)) {
            end_walk(r);
            return n;
        }
    }
    mvcc_ref(newest);
    forget_place(r);
    r->last = newest;
    return n;
}

/* --- Sorting. ------------------------------------------------------------------ */

static int compare_i64(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static int compare_key(const struct mvcc_kv *a, const struct mvcc_kv *b)
{
    return str_cmp(mvcc_key(a), mvcc_key(b));
}

/* Equal ones stay in the order of their keys, whatever the direction: so they
 * are in small answers of etcd, and here in all, on every machine. */
#define SORTER(name, expr)                                                     \
    static int name(const void *pa, const void *pb)                            \
    {                                                                          \
        const struct mvcc_kv *a = *(struct mvcc_kv *const *)pa;                \
        const struct mvcc_kv *b = *(struct mvcc_kv *const *)pb;                \
        int c = (expr);                                                        \
                                                                               \
        return c ? c : compare_key(a, b);                                      \
    }                                                                          \
    static int name##_down(const void *pa, const void *pb)                     \
    {                                                                          \
        const struct mvcc_kv *a = *(struct mvcc_kv *const *)pa;                \
        const struct mvcc_kv *b = *(struct mvcc_kv *const *)pb;                \
        int c = (expr);                                                        \
                                                                               \
        return c ? -c : compare_key(a, b);                                     \
    }

SORTER(by_version, compare_i64(a->version, b->version))
SORTER(by_create, compare_i64(a->create_revision, b->create_revision))
SORTER(by_mod, compare_i64(a->mod_revision, b->mod_revision))
SORTER(by_value, str_cmp(mvcc_value(a), mvcc_value(b)))

typedef int sorter(const void *a, const void *b);

static sorter *const sorters[][2] = {
    [MVCC_BY_VERSION] = {by_version, by_version_down},
    [MVCC_BY_CREATE] = {by_create, by_create_down},
    [MVCC_BY_MOD] = {by_mod, by_mod_down},
    [MVCC_BY_VALUE] = {by_value, by_value_down},
};

static void reverse(struct mvcc_kv **kvs, size_t n)
{
    for (size_t i = 0; i < n / 2; i++) {
        struct mvcc_kv *kv = kvs[i];

        kvs[i] = kvs[n - 1 - i];
        kvs[n - 1 - i] = kv;
    }
}

void mvcc_read_sort(struct mvcc_read *r)
{
    int target = r->req.target;
    bool down = r->req.order == MVCC_DESCEND;
    size_t limit = r->req.limit > 0 && (uint64_t)r->req.limit < r->n
                       ? (size_t)r->req.limit
                       : r->n;

    assert(r->phase == SORT);
    if (target > MVCC_BY_KEY && target <= MVCC_BY_VALUE && r->n > 0)
        qsort(r->kvs, r->n, sizeof(struct mvcc_kv *), sorters[target][down]);
    else if (down)
        reverse(r->kvs, r->n);
    if (limit < r->n)
        r->more = true;
    while (r->n > limit)
        mvcc_unref(r->kvs[--r->n]);
    r->unsorted = false;
    r->phase = EMIT;
}

static size_t emit(struct mvcc_read *r, struct mvcc_kv **kvs, size_t max)
{
    size_t n = 0;

    while (n < max && r->next < r->n)
        kvs[n++] = mvcc_ref(r->kvs[r->next++]);
    r->done = r->next == r->n;
    return n;
}

/* --- Stepping. -------------------------------------------------------------------- */

size_t mvcc_read_next(struct mvcc_read *r, struct mvcc_kv **kvs, size_t max)
{
    assert(max > 0);
    switch (r->phase) {
    case LOOK_BACK:
        look_back(r);
        return r->counted ? mvcc_read_next(r, kvs, max) : 0;
    case COUNT:
    case WALK:
    case GATHER:
        return walk(r, kvs, max);
    case SORT:
        mvcc_read_sort(r); /* the caller did not care to */
        return emit(r, kvs, max);
    case EMIT:
        return emit(r, kvs, max);
    default:
        return 0;
    }
}

void mvcc_read_rewind(struct mvcc_read *r)
{
    assert(r->done);
    if (r->phase == EMIT) {
        r->next = 0;
        r->done = r->n == 0;
        return;
    }
    if (r->req.count_only || (r->counted && r->count == 0))
        return;
    r->phase = WALK;
    r->done = false;
    r->taken = 0;
    if (!r->counted)
        r->count = 0;
}

int mvcc_range(struct mvcc *m, const struct mvcc_range *req,
               struct mvcc_range_result *out)
{
    struct mvcc_read r;
    struct mvcc_kv **kvs = NULL;
    size_t n = 0, cap = 0;
    int rc = mvcc_read_open(m, req, &r);

    if (rc < 0)
        return rc;
    while (!r.done) {
        if (n == cap) {
            cap = cap ? cap * 2 : 8;
            kvs = xrealloc(kvs, cap * sizeof(struct mvcc_kv *));
        }
        n += mvcc_read_next(&r, kvs + n, cap - n);
    }
    *out = (struct mvcc_range_result){r.revision, r.count, r.more, n, kvs};
    mvcc_read_close(&r);
    return 0;
}

void mvcc_range_release(struct mvcc_range_result *r)
{
    mvcc_unref_all(r->kvs, r->n);
    *r = (struct mvcc_range_result){0};
}
