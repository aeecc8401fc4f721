/*
 * mvcc.c - versions in two orders, write transactions, compaction.
 *
 *     keys   one B+tree, by key:        a ------ b ------ c
 *                                       |        |        |      newest
 *            each version's `older`:    v        v        v
 *                                       v                 v      oldest
 *
 *     log    one B+tree, by revision:   v  v  v  v  v  v  v  v
 *
 * The log holds the reference that the store has of each version. It serves
 * what goes by revision: watchers that catch up, checkpoints, hashes, and
 * compaction.
 *
 * COMPACTION at revision R takes effect by one number: reads below it fail.
 * Memory is freed by a pass over the log, in steps, from where the last pass
 * ended up to R. What a version in that stretch supersedes is its `older`:
 * that one goes. A tombstone from before R goes as well if it is the key's
 * newest version, and then the key leaves the index. If it is not, it stays
 * until the pass comes to the version that follows it: there it means
 * "nothing", which is just what reads of R and later are to find. So a step
 * never walks a chain, and costs O(log n) for each version that it frees.
 *
 * A tombstone exactly at R stays, as in etcd since 3.4.34: who watches from R
 * must hear of it. The next pass begins there again.
 *
 * A pin at P < R holds the pass up at P: until then, whatever can be seen at P
 * stays where it is.
 *
 * INVARIANTS  keys holds the newest version of each key that has any. The
 * chains hold together what the log holds. They go down in revision, strictly
 * but for changes of one key in one transaction, which go down in sub.
 * compacted >= finished. No pin is below finished.
 */
#include "mvcc_impl.h"

#include "crypto.h"
#include "pb.h"

#include <assert.h>

/* --- Versions. ---------------------------------------------------------------- */

struct mvcc_kv *mvcc_ref(struct mvcc_kv *kv)
{
    if (kv)
        __atomic_fetch_add(&kv->refs, 1, __ATOMIC_RELAXED);
    return kv;
}

void mvcc_unref(struct mvcc_kv *kv)
{
    if (kv && __atomic_fetch_sub(&kv->refs, 1, __ATOMIC_ACQ_REL) == 1)
        free(kv);
}

void mvcc_unref_all(struct mvcc_kv **kvs, size_t n)
{
    for (size_t i = 0; i < n; i++)
        mvcc_unref(kvs[i]);
    free(kvs);
}

struct mvcc_kv *mvcc_new_kv(struct str key, struct str value)
{
    struct mvcc_kv *kv;

    assert(key.n <= UINT32_MAX && value.n <= UINT32_MAX);
    kv = xmalloc(sizeof(*kv) + key.n + value.n);
    *kv = (struct mvcc_kv){
        .refs = 1,
        .key_len = (uint32_t)key.n,
        .value_len = (uint32_t)value.n,
    };
    if (key.n)
        memcpy(kv->bytes, key.p, key.n);
    if (value.n)
        memcpy(kv->bytes + key.n, value.p, value.n);
    return kv;
}

/* What is shown of kv: its numbers by field, 0 where there is none. */
struct shown {
    int64_t numbers[7];
    struct str value;
};

static struct shown show(const struct mvcc_kv *kv, enum mvcc_form form)
{
    struct shown s = {.value = {"", 0}};

    if (mvcc_is_tombstone(kv)) {
        s.numbers[3] = form == MVCC_EVENT ? kv->mod_revision : 0;
        return s;
    }
    s.numbers[2] = kv->create_revision;
    s.numbers[3] = kv->mod_revision;
    s.numbers[4] = kv->version;
    s.numbers[6] = kv->lease;
    if (form != MVCC_KEYS_ONLY)
        s.value = mvcc_value(kv);
    return s;
}

static size_t str_size(struct str s)
{
    return s.n ? 1 + pb_varint_len(s.n) + s.n : 0;
}

size_t mvcc_kv_size(const struct mvcc_kv *kv, enum mvcc_form form)
{
    struct shown s = show(kv, form);
    size_t size = str_size(mvcc_key(kv)) + str_size(s.value);

    for (unsigned i = 0; i < ARRAY_LEN(s.numbers); i++)
        if (s.numbers[i] != 0)
            size += 1 + pb_varint_len((uint64_t)s.numbers[i]);
    return size;
}

static void add_str(struct buf *b, uint32_t number, struct str s)
{
    if (s.n > 0)
        pb_add_str(b, number, s);
}

void mvcc_kv_encode(struct buf *b, const struct mvcc_kv *kv,
                    enum mvcc_form form)
{
    struct shown s = show(kv, form);

    add_str(b, 1, mvcc_key(kv));
    for (uint32_t i = 2; i < ARRAY_LEN(s.numbers); i++) {
        if (i == 5)
            add_str(b, 5, s.value);
        else if (s.numbers[i] != 0)
            pb_add_u64(b, i, (uint64_t)s.numbers[i]);
    }
}

size_t mvcc_revision_encode(const struct mvcc_kv *kv,
                            uint8_t out[MVCC_REVISION_BYTES])
{
    put_u64be(out, (uint64_t)kv->mod_revision);
    out[8] = '_';
    put_u64be(out + 9, kv->sub);
    out[17] = 't';
    return mvcc_is_tombstone(kv) ? 18 : 17;
}

/* --- The store. ------------------------------------------------------------------ */

struct mvcc *mvcc_new(void)
{
    struct mvcc *m = xcalloc(1, sizeof(*m));

    kvtree_init(&m->keys, KVTREE_BY_KEY);
    kvtree_init(&m->log, KVTREE_BY_REVISION);
    m->revision = 1;
    m->compacted = m->finished = -1;
    m->pins.prev = m->pins.next = &m->pins;
    return m;
}

static struct kvtree_place key_place(struct str key)
{
    return (struct kvtree_place){.key = key};
}

static struct kvtree_place revision_place(int64_t main, int64_t sub)
{
    return (struct kvtree_place){.main = main, .sub = sub};
}

/* The trees of a const store are not changed by seeking in them. */
static struct mvcc *unconst(const struct mvcc *m)
{
    return (struct mvcc *)(uintptr_t)m;
}

static void seek_log(const struct mvcc *m, int64_t main, int64_t sub,
                     struct kvtree_cursor *c)
{
    kvtree_seek(&unconst(m)->log, revision_place(main, sub), c);
}

void mvcc_free(struct mvcc *m)
{
    struct kvtree_cursor c;

    assert(m->pins.next == &m->pins);
    mvcc_restore_abandon(m);
    seek_log(m, 0, 0, &c);
    for (struct mvcc_kv *kv; (kv = kvtree_get(&c)); kvtree_next(&c))
        mvcc_unref(kv);
    kvtree_release(&m->keys);
    kvtree_release(&m->log);
    free(m);
}

int64_t mvcc_revision(const struct mvcc *m)
{
    return m->revision;
}

int64_t mvcc_compacted(const struct mvcc *m)
{
    return m->compacted;
}

struct mvcc_stats mvcc_stats(const struct mvcc *m)
{
    return (struct mvcc_stats){m->keys.n_live, m->log.n, m->bytes};
}

struct mvcc_kv *mvcc_find(struct mvcc *m, struct str key,
                          struct kvtree_cursor *c)
{
    return kvtree_seek(&m->keys, key_place(key), c) ? kvtree_get(c) : NULL;
}

/* --- Spans of keys. --------------------------------------------------------------- */

void mvcc_walk(struct mvcc *m, struct mvcc_span span, struct mvcc_walk *w)
{
    w->span = span;
    kvtree_seek(&m->keys, key_place(span.begin), &w->c);
}

struct mvcc_kv *mvcc_walk_next(struct mvcc_walk *w)
{
    struct mvcc_kv *kv = kvtree_get(&w->c);

    if (!kv || mvcc_span_ends(&w->span, mvcc_key(kv)))
        return NULL;
    kvtree_next(&w->c);
    return kv;
}

size_t mvcc_span_count(struct mvcc *m, struct mvcc_span span, size_t *before)
{
    struct kvtree_cursor c;
    bool found = kvtree_seek(&m->keys, key_place(span.begin), &c);
    size_t end;

    *before = kvtree_rank(&c);
    if (span.point)
        return found && !mvcc_is_tombstone(kvtree_get(&c));
    if (span.open_end)
        return m->keys.n_live - *before;
    if (str_cmp(span.end, span.begin) <= 0)
        return 0;
    kvtree_seek(&m->keys, key_place(span.end), &c);
    end = kvtree_rank(&c);
    return end - *before;
}

/* --- Write transactions. ------------------------------------------------------------- */

void mvcc_begin(struct mvcc *m)
{
    assert(!m->writing);
    m->writing = true;
}

int64_t mvcc_end(struct mvcc *m)
{
    assert(m->writing);
    m->revision = mvcc_view(m);
    m->writing = false;
    m->n_changes = 0;
    return m->revision;
}

/* Into the log, at its end; it owns kv from now on. */
static void append(struct mvcc *m, struct mvcc_kv *kv)
{
    struct kvtree_cursor c;

    kvtree_seek_end(&m->log, &c);
    kvtree_insert(&c, kv);
    m->bytes += (uint64_t)kv->key_len + kv->value_len;
}

/* kv becomes the newest version of its key, whose place c is. */
static void supersede(struct mvcc *m, struct kvtree_cursor *c,
                      struct mvcc_kv *newest, struct mvcc_kv *kv)
{
    kv->older = newest;
    if (newest)
        kvtree_replace(c, kv);
    else
        kvtree_insert(c, kv);
    append(m, kv);
}

static void stamp(struct mvcc *m, struct mvcc_kv *kv)
{
    assert(m->writing && m->n_changes < UINT32_MAX);
    kv->mod_revision = m->revision + 1;
    kv->sub = m->n_changes++;
}

void mvcc_do_put(struct mvcc *m, const struct mvcc_put *p,
                 struct mvcc_put_result *out)
{
    struct kvtree_cursor c;
    struct mvcc_kv *newest = mvcc_find(m, p->key, &c), *kv;
    bool alive = newest && !mvcc_is_tombstone(newest);

    kv = mvcc_new_kv(p->key,
                     p->ignore_value && alive ? mvcc_value(newest) : p->value);
    stamp(m, kv);
    kv->lease = p->ignore_lease && alive ? newest->lease : p->lease;
    kv->create_revision = alive ? newest->create_revision : kv->mod_revision;
    kv->version = alive ? newest->version + 1 : 1;
    out->revision = kv->mod_revision;
    out->prev = p->prev_kv && alive ? mvcc_ref(newest) : NULL;
    supersede(m, &c, newest, kv);
}

static void delete_span(struct mvcc *m, const struct mvcc_delete_range *d,
                        struct mvcc_delete_result *out)
{
    struct mvcc_walk w;
    struct mvcc_kv *newest, *kv;

    mvcc_walk(m, mvcc_span(d->key, d->range_end), &w);
    while ((newest = kvtree_get(&w.c)) &&
           !mvcc_span_ends(&w.span, mvcc_key(newest))) {
        if (!mvcc_is_tombstone(newest)) {
            kv = mvcc_new_kv(mvcc_key(newest), (struct str){"", 0});
            stamp(m, kv);
            supersede(m, &w.c, newest, kv);
            if (d->prev_kv)
                out->prevs[out->n++] = mvcc_ref(newest);
        }
        kvtree_next(&w.c);
    }
}

void mvcc_delete_range(struct mvcc *m, const struct mvcc_delete_range *d,
                       struct mvcc_delete_result *out)
{
    bool own = !m->writing;
    size_t before, n;

    if (own)
        mvcc_begin(m);
    n = mvcc_span_count(m, mvcc_span(d->key, d->range_end), &before);
    *out = (struct mvcc_delete_result){.deleted = (int64_t)n};
    if (n > 0 && d->prev_kv)
        out->prevs = xmalloc(n * sizeof(struct mvcc_kv *));
    if (n > 0)
        delete_span(m, d, out);
    assert(out->n == 0 || out->n == n);
    out->revision = mvcc_view(m);
    if (own)
        mvcc_end(m);
}

void mvcc_delete_release(struct mvcc_delete_result *r)
{
    mvcc_unref_all(r->prevs, r->n);
    *r = (struct mvcc_delete_result){0};
}

void mvcc_put_release(struct mvcc_put_result *r)
{
    mvcc_unref(r->prev);
    *r = (struct mvcc_put_result){0};
}

/* --- The log. -------------------------------------------------------------------------- */

/* Left over from a pass, where nobody can see it: see the top. */
static bool is_spent(const struct mvcc *m, const struct mvcc_kv *kv)
{
    return mvcc_is_tombstone(kv) && kv->mod_revision < m->finished;
}

size_t mvcc_log_peek(const struct mvcc *m, struct mvcc_cursor *at, int64_t last,
                     struct mvcc_kv **kvs, size_t max)
{
    struct kvtree_cursor c;
    size_t n = 0;

    seek_log(m, at->main, at->sub, &c);
    for (struct mvcc_kv *kv; n < max && (kv = kvtree_get(&c));
         kvtree_next(&c)) {
        if (kv->mod_revision > last)
            break;
        *at = (struct mvcc_cursor){kv->mod_revision, (int64_t)kv->sub + 1};
        if (!is_spent(m, kv))
            kvs[n++] = kv;
    }
    return n;
}

size_t mvcc_log_next(const struct mvcc *m, struct mvcc_cursor *c, int64_t last,
                     struct mvcc_kv **kvs, size_t max)
{
    size_t n = mvcc_log_peek(m, c, last, kvs, max);

    for (size_t i = 0; i < n; i++)
        mvcc_ref(kvs[i]);
    return n;
}

size_t mvcc_log_live(const struct mvcc *m, int64_t revision)
{
    struct kvtree_cursor c;

    seek_log(m, revision, 0, &c);
    return m->log.n_live - kvtree_rank(&c);
}

struct mvcc_kv *mvcc_prev(const struct mvcc *m, const struct mvcc_kv *kv)
{
    if (kv->mod_revision - 1 < m->compacted)
        return NULL; /* as one who reads there would be told */
    return mvcc_at(kv->older, kv->mod_revision - 1);
}

void mvcc_changes(const struct mvcc *m, int64_t revision, mvcc_visit *visit,
                  void *arg)
{
    struct kvtree_cursor c;

    seek_log(m, revision, 0, &c);
    for (struct mvcc_kv *kv; (kv = kvtree_get(&c)); kvtree_next(&c)) {
        struct mvcc_kv *prev = kv->older;

        if (kv->mod_revision != revision)
            return;
        visit(arg, kv, prev && !mvcc_is_tombstone(prev) ? prev : NULL);
    }
}

/* --- Pins. -------------------------------------------------------------------------------- */

void mvcc_pin(struct mvcc *m, struct mvcc_pin *p, int64_t revision)
{
    struct mvcc_pin *before = m->pins.prev;

    assert(revision >= m->finished);
    while (before != &m->pins && before->revision > revision)
        before = before->prev;
    p->revision = revision;
    p->prev = before;
    p->next = before->next;
    p->prev->next = p->next->prev = p;
}

void mvcc_unpin(struct mvcc *m, struct mvcc_pin *p)
{
    assert(m->pins.next != &m->pins);
    p->prev->next = p->next;
    p->next->prev = p->prev;
}

/* --- Compaction. ---------------------------------------------------------------------------- */

int mvcc_compact(struct mvcc *m, int64_t revision)
{
    assert(!m->writing);
    if (revision <= m->compacted)
        return MVCC_COMPACTED;
    if (revision > m->revision)
        return MVCC_FUTURE_REV;
    m->compacted = revision;
    return 0;
}

int64_t mvcc_compact_finished(const struct mvcc *m)
{
    return m->finished;
}

/* How far memory may be freed now. */
static int64_t compact_target(const struct mvcc *m)
{
    int64_t pinned =
        m->pins.next == &m->pins ? INT64_MAX : m->pins.next->revision;

    return pinned < m->compacted ? pinned : m->compacted;
}

/* Out of the log and away; nothing of the store points at kv any more. */
static void drop(struct mvcc *m, struct mvcc_kv *kv)
{
    struct kvtree_cursor c;
    bool found =
        kvtree_seek(&m->log, revision_place(kv->mod_revision, kv->sub), &c);

    assert(found);
    kvtree_remove(&c);
    m->bytes -= (uint64_t)kv->key_len + kv->value_len;
    mvcc_unref(kv);
}

/* The pass has come to kv: see the top. */
static void compact_one(struct mvcc *m, struct mvcc_kv *kv, int64_t target)
{
    struct mvcc_kv *superseded = kv->older, *next;
    struct kvtree_cursor c;

    /* One at most, but a file that was restored may hold more. */
    for (kv->older = NULL; superseded; superseded = next) {
        next = superseded->older;
        drop(m, superseded);
    }
    if (!mvcc_is_tombstone(kv) || kv->mod_revision >= target)
        return;
    if (mvcc_find(m, mvcc_key(kv), &c) != kv)
        return;
    kvtree_remove(&c);
    drop(m, kv);
}

bool mvcc_compact_step(struct mvcc *m, size_t budget)
{
    int64_t target = compact_target(m);
    struct mvcc_kv *kvs[64];
    size_t n, max;

    if (target <= m->finished)
        return false;
    if (!m->compacting) {
        m->compacting = true;
        m->swept = (struct mvcc_cursor){m->finished, 0};
    }
    for (; budget > 0; budget -= n) {
        max = budget < ARRAY_LEN(kvs) ? budget : ARRAY_LEN(kvs);
        n = mvcc_log_peek(m, &m->swept, target, kvs, max);
        for (size_t i = 0; i < n; i++)
            compact_one(m, kvs[i], target);
        if (n < max) {
            m->finished = target;
            m->compacting = false;
            return false;
        }
    }
    return true;
}

/* --- HashKV. ------------------------------------------------------------------------------------- */

int mvcc_hash_open(struct mvcc *m, int64_t revision, struct mvcc_hash *h)
{
    uint32_t seed;

    if (revision <= 0)
        revision = m->revision;
    if (revision < m->compacted)
        return MVCC_COMPACTED;
    if (revision > m->revision)
        return MVCC_FUTURE_REV;
    seed = crc32c(0, "key", 3);
    *h = (struct mvcc_hash){
        .revision = revision,
        .compacted = m->compacted,
        .m = m,
        .kept = seed,
        .all = seed,
    };
    mvcc_pin(m, &h->pin, m->compacted);
    return 0;
}

/* Does kv stand at the revision, and is it not a deletion? */
static bool is_kept(const struct mvcc_hash *h, const struct mvcc_kv *kv,
                    int64_t revision)
{
    struct kvtree_cursor c;

    return !mvcc_is_tombstone(kv) &&
           mvcc_at(mvcc_find(h->m, mvcc_key(kv), &c), revision) == kv;
}

static uint32_t hash_record(uint32_t crc, const struct mvcc_kv *kv,
                            struct buf *scratch)
{
    uint8_t revision[MVCC_REVISION_BYTES];
    size_t n = mvcc_revision_encode(kv, revision);

    buf_clear(scratch);
    mvcc_kv_encode(scratch, kv, MVCC_RECORD);
    crc = crc32c(crc, revision, n);
    return crc32c(crc, scratch->data, scratch->len);
}

/*
 * Above the compacted revision everything counts; below, what stands at the
 * hash's revision. But if nothing stands there at all, as when all keys are
 * deleted, then all that compaction has left counts: both sums are made until
 * it is known which one is wanted.
 */
static void hash_one(struct mvcc_hash *h, const struct mvcc_kv *kv,
                     struct buf *scratch)
{
    bool below = kv->mod_revision <= h->compacted;
    bool kept = (below || !h->any_kept) && is_kept(h, kv, h->revision);

    h->any_kept |= kept;
    if (!below || kept)
        h->kept = hash_record(h->kept, kv, scratch);
    if (!h->any_kept && (!below || is_kept(h, kv, h->compacted)))
        h->all = hash_record(h->all, kv, scratch);
}

void mvcc_hash_step(struct mvcc_hash *h, size_t budget)
{
    struct mvcc_kv *kvs[64];
    struct buf scratch = {0};
    size_t n, max;

    for (; budget > 0 && !h->done; budget -= n) {
        max = budget < ARRAY_LEN(kvs) ? budget : ARRAY_LEN(kvs);
        n = mvcc_log_peek(h->m, &h->at, h->revision, kvs, max);
        for (size_t i = 0; i < n; i++)
            hash_one(h, kvs[i], &scratch);
        h->done = n < max;
    }
    h->result = h->any_kept ? h->kept : h->all;
    buf_release(&scratch);
}

void mvcc_hash_close(struct mvcc_hash *h)
{
    mvcc_unpin(h->m, &h->pin);
}

/* --- Checking. --------------------------------------------------------------------------------------- */

static bool is_in_order(const struct mvcc_kv *newer,
                        const struct mvcc_kv *older)
{
    return newer->mod_revision > older->mod_revision ||
           (newer->mod_revision == older->mod_revision &&
            newer->sub > older->sub);
}

void mvcc_check(const struct mvcc *m)
{
    struct kvtree_cursor c;
    struct mvcc_kv *newest;
    size_t n = 0;

    kvtree_check(&m->keys);
    kvtree_check(&m->log);
    kvtree_seek(&unconst(m)->keys, key_place((struct str){"", 0}), &c);
    for (; (newest = kvtree_get(&c)); kvtree_next(&c)) {
        for (struct mvcc_kv *kv = newest; kv; kv = kv->older) {
            n++;
            assert(kv->refs >= 1);
            assert(kv->mod_revision <= mvcc_view(m));
            assert(!kv->older || is_in_order(kv, kv->older));
            assert(!kv->older || str_eq(mvcc_key(kv), mvcc_key(kv->older)));
        }
    }
    assert(n == m->log.n);
    assert(m->compacted >= m->finished && m->revision >= m->compacted);
    assert(m->pins.next == &m->pins || m->pins.next->revision >= m->finished);
}
