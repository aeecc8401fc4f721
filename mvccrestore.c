/*
 * mvccrestore.c - filling a new v3 key space, all at once.
 *
 * Versions come in order of revision, which is the log's own. To put each one
 * into the index by key would cost a search among keys that are all over the
 * memory. So they are sorted at the end, and both trees are built from what
 * is in order.
 *
 * SORTING  Seven bytes of the key at a time, and one that says how many of
 *   them there were, make a word. Words are sorted by their bytes, from the
 *   last to the first, which keeps equal ones as they stood; each run of equal
 *   ones goes on behind what it has in common, unless the key has ended: then
 *   these are the versions of one key, from the oldest to the newest.
 *
 *       foo/bar/1   foo/bar/2   foo      in common: "foo"
 *       /bar/1. 6   /bar/2. 6   ....... 0
 *
 * Small runs are sorted by insertion, and what is left at great depth, where
 * many keys have hundreds of bytes in common in many ways, by comparison.
 */
#include "mvcc_impl.h"

#include <assert.h>

enum {
    WORD_BYTES = 7, /* of a key */
    GOES_ON = 8,    /* the last byte, if the key is longer than that */
    SMALL = 24,
    DEPTH_MAX = 32,
    FETCH_AHEAD = 16,
};

struct entry {
    uint64_t word;
    struct mvcc_kv *kv;
};

/* --- Words. -------------------------------------------------------------------- */

static uint64_t word_at(const struct mvcc_kv *kv, size_t offset)
{
    size_t n = kv->key_len - offset;
    const char *p = kv->bytes + offset;
    uint64_t word = 0;

    if (n > WORD_BYTES)
        return (get_u64be((const uint8_t *)p) & ~UINT64_C(0xff)) | GOES_ON;
    for (size_t i = 0; i < n; i++)
        word |= (uint64_t)(uint8_t)p[i] << (56 - 8 * i);
    return word | n;
}

static bool has_ended(uint64_t word)
{
    return (word & 0xff) != GOES_ON;
}

static void load_words(struct entry *es, size_t n, size_t offset)
{
    for (size_t i = 0; i < n; i++) {
        if (i + FETCH_AHEAD < n)
            __builtin_prefetch(es[i + FETCH_AHEAD].kv->bytes + offset);
        es[i].word = word_at(es[i].kv, offset);
    }
}

/* --- Sorting. -------------------------------------------------------------------- */

static int compare_full(const void *a, const void *b)
{
    const struct mvcc_kv *x = ((const struct entry *)a)->kv;
    const struct mvcc_kv *y = ((const struct entry *)b)->kv;
    int order = str_cmp(mvcc_key(x), mvcc_key(y));

    if (order == 0)
        order = (x->mod_revision > y->mod_revision) -
                (x->mod_revision < y->mod_revision);
    return order ? order : (x->sub > y->sub) - (x->sub < y->sub);
}

/* By words that are loaded, else by the whole key. */
static bool is_before(const struct entry *a, const struct entry *b)
{
    if (a->word != b->word)
        return a->word < b->word;
    return !has_ended(a->word) && compare_full(a, b) < 0;
}

static void sort_small(struct entry *es, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        struct entry e = es[i];
        size_t at = i;

        for (; at > 0 && is_before(&e, &es[at - 1]); at--)
            es[at] = es[at - 1];
        es[at] = e;
    }
}

/* By one byte of the words, from `from` to `to`. False: all have the same. */
static bool sort_byte(const struct entry *from, struct entry *to, size_t n,
                      unsigned shift)
{
    size_t begin[257] = {0};

    for (size_t i = 0; i < n; i++)
        begin[(from[i].word >> shift & 0xff) + 1]++;
    if (begin[(from[0].word >> shift & 0xff) + 1] == n)
        return false;
    for (unsigned i = 1; i < 257; i++)
        begin[i] += begin[i - 1];
    for (size_t i = 0; i < n; i++)
        to[begin[from[i].word >> shift & 0xff]++] = from[i];
    return true;
}

static void sort_words(struct entry *es, struct entry *scratch, size_t n)
{
    struct entry *from = es, *to = scratch;

    for (unsigned shift = 0; shift < 64; shift += 8) {
        if (sort_byte(from, to, n, shift)) {
            struct entry *sorted = to;

            to = from;
            from = sorted;
        }
    }
    if (from != es)
        memcpy(es, from, n * sizeof(*es));
}

static size_t run_length(const struct entry *es, size_t n)
{
    size_t run = 1;

    while (run < n && es[run].word == es[0].word)
        run++;
    return run;
}

static void sort(struct entry *es, struct entry *scratch, size_t n,
                 unsigned depth);

/* These keys have the same word; so they are one, or have more in common. */
static void sort_run(struct entry *es, struct entry *scratch, size_t n,
                     unsigned depth)
{
    if (n == 1 || has_ended(es[0].word))
        return;
    if (depth < DEPTH_MAX)
        sort(es, scratch, n, depth + 1);
    else
        qsort(es, n, sizeof(*es), compare_full);
}

/* How much all keys have in common. */
static size_t common_length(const struct entry *es, size_t n)
{
    const struct mvcc_kv *first = es[0].kv;
    size_t common = first->key_len;

    for (size_t i = 1; i < n && common > 0; i++) {
        const struct mvcc_kv *kv = es[i].kv;
        size_t at = 0;

        if (i + FETCH_AHEAD < n)
            __builtin_prefetch(es[i + FETCH_AHEAD].kv->bytes);
        if (common > kv->key_len)
            common = kv->key_len;
        if (memcmp(kv->bytes, first->bytes, common) == 0)
            continue;
        while (kv->bytes[at] == first->bytes[at])
            at++;
        common = at;
    }
    return common;
}

static void sort(struct entry *es, struct entry *scratch, size_t n,
                 unsigned depth)
{
    size_t offset = common_length(es, n), run;

    load_words(es, n, offset);
    if (n <= SMALL) {
        sort_small(es, n);
        return;
    }
    sort_words(es, scratch, n);
    for (size_t i = 0; i < n; i += run) {
        run = run_length(es + i, n - i);
        sort_run(es + i, scratch, run, depth);
    }
}

/* --- Trees. --------------------------------------------------------------------------- */

/* The versions of each key, in order, become a chain; kvs gets the newest. */
static size_t link_versions(const struct entry *es, size_t n,
                            struct mvcc_kv **kvs)
{
    size_t n_keys = 0;

    for (size_t i = 0; i < n; i++) {
        struct mvcc_kv *kv = es[i].kv;

        if (i + FETCH_AHEAD < n)
            __builtin_prefetch(es[i + FETCH_AHEAD].kv->bytes);
        if (n_keys > 0 && str_eq(mvcc_key(kvs[n_keys - 1]), mvcc_key(kv)))
            kv->older = kvs[--n_keys];
        kvs[n_keys++] = kv;
    }
    return n_keys;
}

static void build_trees(struct mvcc *m)
{
    size_t n = m->n_restored, n_keys;
    struct entry *es = xmalloc(n * sizeof(*es));
    struct entry *scratch = xmalloc(n * sizeof(*scratch));

    kvtree_build(&m->log, m->restored, n);
    for (size_t i = 0; i < n; i++)
        es[i].kv = m->restored[i];
    sort(es, scratch, n, 0);
    n_keys = link_versions(es, n, m->restored);
    kvtree_build(&m->keys, m->restored, n_keys);
    free(es);
    free(scratch);
}

/* --- Records. -------------------------------------------------------------------------- */

static bool is_behind(const struct mvcc *m, const struct mvcc_record *r)
{
    const struct mvcc_kv *last =
        m->n_restored ? m->restored[m->n_restored - 1] : NULL;

    if (last && r->main == last->mod_revision)
        return r->main == m->revision && r->sub > (int64_t)last->sub;
    return r->main >= 1 && (!last || r->main >= m->revision);
}

static struct mvcc_kv *new_version(const struct mvcc_record *r)
{
    struct mvcc_kv *kv =
        mvcc_new_kv(r->key, r->tombstone ? (struct str){"", 0} : r->value);

    kv->mod_revision = r->main;
    kv->sub = (uint32_t)r->sub;
    if (!r->tombstone) {
        kv->create_revision = r->create_revision;
        kv->version = r->version;
        kv->lease = r->lease;
    }
    return kv;
}

static void push(struct mvcc *m, struct mvcc_kv *kv)
{
    if (m->n_restored == m->cap_restored) {
        m->cap_restored = m->cap_restored ? 2 * m->cap_restored : 256;
        m->restored =
            xrealloc(m->restored, m->cap_restored * sizeof(struct mvcc_kv *));
    }
    m->restored[m->n_restored++] = kv;
    m->bytes += (uint64_t)kv->key_len + kv->value_len;
}

int mvcc_restore(struct mvcc *m, const struct mvcc_record *r)
{
    bool empty = !r->tombstone && r->key.n == 0 && r->version == 0;

    assert(m->log.n == 0);
    if (!is_behind(m, r) || r->sub < 0 || r->sub >= UINT32_MAX)
        return MVCC_CORRUPT;
    if (!empty && (r->key.n == 0 || (!r->tombstone && r->version < 1)))
        return MVCC_CORRUPT;
    if (!empty)
        push(m, new_version(r));
    if (r->main > m->revision)
        m->revision = r->main;
    return 0;
}

void mvcc_restore_abandon(struct mvcc *m)
{
    mvcc_unref_all(m->restored, m->n_restored);
    m->restored = NULL;
    m->n_restored = m->cap_restored = 0;
}

void mvcc_restore_end(struct mvcc *m, int64_t finished, int64_t scheduled)
{
    if (m->n_restored > 0)
        build_trees(m);
    m->n_restored = 0; /* the log has their references now */
    mvcc_restore_abandon(m);
    m->finished = finished;
    m->compacted = scheduled > finished ? scheduled : finished;
    if (m->compacted > m->revision)
        m->revision = m->compacted;
}
