/*
 * lease.c - leases, their keys and their ends.
 *
 *     table     id -> lease                      open addressing
 *     lease     keys: a set of references to the newest version of each
 *     heap      primary only: all leases, the next to look at first
 *     rounds    primary only: long leases in the order in which their
 *               checkpoints are due
 *
 * KEYS      A lease refers to versions that the key space holds anyway, and
 *           so a key costs it a pointer or two. Neither a crowd of leases with
 *           one key nor a lease with a crowd of keys is a special case.
 *
 * HEAP      Each lease knows its place, so that a renewal moves it in
 *           O(log n). It is ordered by wake_ms: the expiry, or later, when a
 *           revocation has been asked for and may have got lost.
 *
 * ROUNDS    All wait equally long, so a list in order of arrival will do.
 */
#include "lease.h"

#include "pb.h"
#include "trie.h"

#include <assert.h>

#define NEVER INT64_MAX

/* --- A set of pointers. ------------------------------------------------------ */

/*
 * Open addressing with linear probing. At least one slot stays free, so that
 * every search ends; a removal closes the gap, so that there are no marks.
 */
struct set {
    void **slots;
    size_t n, cap; /* cap: 0 or a power of two */
};

struct set_kind {
    uint64_t (*hash)(const void *item);
    bool (*equal)(const void *item, const void *what);
};

static size_t set_home(const struct set *s, uint64_t hash)
{
    return (size_t)hash & (s->cap - 1);
}

static size_t set_next(const struct set *s, size_t i)
{
    return (i + 1) & (s->cap - 1);
}

/* Where what is, or the free slot where it belongs. cap > 0. */
static size_t set_seek(const struct set *s, const struct set_kind *k,
                       uint64_t hash, const void *what)
{
    size_t i = set_home(s, hash);

    while (s->slots[i] && !k->equal(s->slots[i], what))
        i = set_next(s, i);
    return i;
}

static void *set_find(const struct set *s, const struct set_kind *k,
                      uint64_t hash, const void *what)
{
    return s->cap ? s->slots[set_seek(s, k, hash, what)] : NULL;
}

static void set_resize(struct set *s, const struct set_kind *k, size_t cap)
{
    struct set bigger = {xcalloc(cap, sizeof(*s->slots)), s->n, cap};

    assert(s->n < cap);
    for (size_t i = 0; i < s->cap; i++) {
        void *item = s->slots[i];
        size_t at;

        if (!item)
            continue;
        at = set_home(&bigger, k->hash(item));
        while (bigger.slots[at])
            at = set_next(&bigger, at);
        bigger.slots[at] = item;
    }
    free(s->slots);
    *s = bigger;
}

/* item is not in the set. */
static void set_add(struct set *s, const struct set_kind *k, void *item)
{
    if ((s->n + 1) * 4 > s->cap * 3)
        set_resize(s, k, s->cap ? s->cap * 2 : 2);
    s->slots[set_seek(s, k, k->hash(item), item)] = item;
    s->n++;
}

/* What stands behind the gap moves into it unless it is at home there. */
static void set_close_gap(struct set *s, const struct set_kind *k, size_t gap)
{
    size_t mask = s->cap - 1;

    for (size_t i = set_next(s, gap); s->slots[i]; i = set_next(s, i)) {
        size_t home = set_home(s, k->hash(s->slots[i]));

        if (((i - home) & mask) < ((i - gap) & mask))
            continue;
        s->slots[gap] = s->slots[i];
        gap = i;
    }
    s->slots[gap] = NULL;
}

static void set_remove_at(struct set *s, const struct set_kind *k, size_t at)
{
    set_close_gap(s, k, at);
    s->n--;
    if (s->n == 0) {
        free(s->slots);
        *s = (struct set){0};
    } else if (s->n * 8 < s->cap) {
        set_resize(s, k, s->cap / 2);
    }
}

/* --- Leases and keys as items. ------------------------------------------------ */

struct lease {
    int64_t id, ttl;
    int64_t remaining_ttl; /* of the last checkpoint; 0: none */
    struct set keys;       /* struct mvcc_kv, a reference each */

    /* Primary only. */
    int64_t expiry_ms;                     /* else NEVER */
    int64_t wake_ms;                       /* what the heap goes by */
    size_t place;                          /* in the heap */
    int64_t round_ms;                      /* a checkpoint is due then */
    struct lease *prev_round, *next_round; /* both NULL: in no round */
};

struct lessor {
    struct lease_config config;
    struct set table; /* struct lease, owned */
    bool primary;
    struct lease **heap; /* primary: all of the table */
    size_t n_heap, cap_heap;
    struct lease rounds; /* head of a ring; only its links are used */
};

static uint64_t hash_id(int64_t id)
{
    uint8_t bytes[LEASE_KEY_BYTES];

    lease_encode_key(id, bytes);
    return trie_key((struct str){(const char *)bytes, sizeof(bytes)}).hash;
}

static uint64_t lease_hash(const void *item)
{
    return hash_id(((const struct lease *)item)->id);
}

static bool lease_equal(const void *item, const void *what)
{
    return ((const struct lease *)item)->id == ((const struct lease *)what)->id;
}

static const struct set_kind leases_kind = {lease_hash, lease_equal};

static uint64_t key_hash(const void *item)
{
    return trie_key(mvcc_key(item)).hash;
}

static bool key_equal(const void *item, const void *what)
{
    return str_eq(mvcc_key(item), mvcc_key(what));
}

static const struct set_kind keys_kind = {key_hash, key_equal};

static struct lease *find(const struct lessor *l, int64_t id)
{
    struct lease what = {.id = id};

    if (id == 0)
        return NULL;
    return set_find(&l->table, &leases_kind, hash_id(id), &what);
}

/* --- The heap. ------------------------------------------------------------------ */

static void heap_put(struct lessor *l, size_t place, struct lease *it)
{
    l->heap[place] = it;
    it->place = place;
}

static void heap_up(struct lessor *l, struct lease *it)
{
    size_t i = it->place;

    while (i > 0 && l->heap[(i - 1) / 2]->wake_ms > it->wake_ms) {
        heap_put(l, i, l->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    heap_put(l, i, it);
}

static void heap_down(struct lessor *l, struct lease *it)
{
    size_t i = it->place;

    for (;;) {
        size_t child = 2 * i + 1;

        if (child >= l->n_heap)
            break;
        if (child + 1 < l->n_heap &&
            l->heap[child + 1]->wake_ms < l->heap[child]->wake_ms)
            child++;
        if (l->heap[child]->wake_ms >= it->wake_ms)
            break;
        heap_put(l, i, l->heap[child]);
        i = child;
    }
    heap_put(l, i, it);
}

static void heap_add(struct lessor *l, struct lease *it)
{
    if (l->n_heap == l->cap_heap) {
        l->cap_heap = l->cap_heap ? l->cap_heap * 2 : 16;
        l->heap = xrealloc(l->heap, l->cap_heap * sizeof(*l->heap));
    }
    it->place = l->n_heap++;
    heap_up(l, it);
}

static void heap_move(struct lessor *l, struct lease *it, int64_t wake_ms)
{
    it->wake_ms = wake_ms;
    heap_up(l, it);
    heap_down(l, it);
}

static void heap_remove(struct lessor *l, struct lease *it)
{
    struct lease *last = l->heap[--l->n_heap];

    if (last == it)
        return;
    last->place = it->place;
    heap_up(l, last);
    heap_down(l, last);
}

/* --- Rounds of checkpoints. ------------------------------------------------------ */

static void round_leave(struct lease *it)
{
    if (!it->next_round)
        return;
    it->prev_round->next_round = it->next_round;
    it->next_round->prev_round = it->prev_round;
    it->prev_round = it->next_round = NULL;
}

/* What is left of a lease when nobody renews it, in seconds. */
static int64_t ttl_left(const struct lease *it)
{
    bool cut = it->remaining_ttl > 0 && it->remaining_ttl < it->ttl;

    return cut ? it->remaining_ttl : it->ttl;
}

static int64_t ms_of(int64_t ttl) /* 3.2 had no upper bound */
{
    return (ttl < LEASE_TTL_MAX ? ttl : LEASE_TTL_MAX) * 1000;
}

/* A lease that ends before its next checkpoint needs none. */
static void round_enter(struct lessor *l, struct lease *it, int64_t now_ms)
{
    struct lease *head = &l->rounds;

    round_leave(it);
    if (!l->primary || l->config.checkpoint_ms <= 0 ||
        ms_of(ttl_left(it)) <= l->config.checkpoint_ms)
        return;
    it->round_ms = now_ms + l->config.checkpoint_ms;
    it->prev_round = head->prev_round;
    it->next_round = head;
    head->prev_round->next_round = it;
    head->prev_round = it;
}

/* Rounded up; what never was checkpointed and was just renewed needs none. */
static bool needs_checkpoint(const struct lease *it, int64_t now_ms,
                             int64_t *remaining_ttl)
{
    if (it->expiry_ms <= now_ms)
        return false;
    *remaining_ttl = (it->expiry_ms - now_ms + 999) / 1000;
    return *remaining_ttl < it->ttl;
}

size_t lease_checkpoints_due(struct lessor *l, int64_t now_ms,
                             struct lease_remaining *out, size_t max)
{
    struct lease *head = &l->rounds;
    size_t n = 0;

    while (n < max && head->next_round != head &&
           head->next_round->round_ms <= now_ms) {
        struct lease *it = head->next_round;

        if (needs_checkpoint(it, now_ms, &out[n].remaining_ttl))
            out[n++].id = it->id;
        round_enter(l, it, now_ms);
    }
    return n;
}

void lease_checkpoint(struct lessor *l, int64_t id, int64_t remaining_ttl,
                      int64_t now_ms)
{
    struct lease *it = find(l, id);

    if (!it)
        return;
    it->remaining_ttl = remaining_ttl;
    round_enter(l, it, now_ms);
}

/* --- Life. --------------------------------------------------------------------- */

int64_t lease_min_ttl(int64_t election_ticks, int64_t heartbeat_ms)
{
    return (3 * election_ticks / 2 * heartbeat_ms + 999) / 1000;
}

struct lessor *lessor_new(const struct lease_config *config)
{
    struct lessor *l = xcalloc(1, sizeof(*l));

    l->config = *config;
    l->rounds.prev_round = l->rounds.next_round = &l->rounds;
    return l;
}

static void free_lease(struct lease *it)
{
    for (size_t i = 0; i < it->keys.cap; i++)
        mvcc_unref(it->keys.slots[i]);
    free(it->keys.slots);
    free(it);
}

void lessor_free(struct lessor *l)
{
    if (!l)
        return;
    for (size_t i = 0; i < l->table.cap; i++) {
        if (l->table.slots[i])
            free_lease(l->table.slots[i]);
    }
    free(l->table.slots);
    free(l->heap);
    free(l);
}

size_t lease_count(const struct lessor *l)
{
    return l->table.n;
}

bool lease_exists(void *lessor, int64_t id)
{
    return find(lessor, id) != NULL;
}

/* --- Grant and revoke. ----------------------------------------------------------- */

int lease_check_grant(const struct lessor *l, int64_t id, int64_t ttl)
{
    if (id == 0)
        return LEASE_NOT_FOUND;
    if (ttl > LEASE_TTL_MAX)
        return LEASE_TTL_TOO_LARGE;
    return find(l, id) ? LEASE_EXISTS : 0;
}

static struct lease *add_lease(struct lessor *l, int64_t id, int64_t ttl)
{
    struct lease *it = xcalloc(1, sizeof(*it));

    it->id = id;
    it->ttl = ttl > l->config.min_ttl ? ttl : l->config.min_ttl;
    it->expiry_ms = NEVER;
    set_add(&l->table, &leases_kind, it);
    return it;
}

int lease_grant(struct lessor *l, int64_t id, int64_t ttl, int64_t now_ms,
                int64_t *effective_ttl)
{
    int rc = lease_check_grant(l, id, ttl);
    struct lease *it;

    if (rc < 0)
        return rc;
    it = add_lease(l, id, ttl);
    if (effective_ttl)
        *effective_ttl = it->ttl;
    if (l->primary) {
        it->expiry_ms = it->wake_ms = now_ms + ms_of(it->ttl);
        heap_add(l, it);
        round_enter(l, it, now_ms);
    }
    return 0;
}

static int compare_keys(const void *a, const void *b)
{
    return str_cmp(mvcc_key(*(struct mvcc_kv *const *)a),
                   mvcc_key(*(struct mvcc_kv *const *)b));
}

/* The set's items, sorted, in an array that the caller frees. */
static size_t sorted_keys(const struct lease *it, struct mvcc_kv ***out)
{
    struct mvcc_kv **kvs = xmalloc((it->keys.n + 1) * sizeof(struct mvcc_kv *));
    size_t n = 0;

    for (size_t i = 0; i < it->keys.cap; i++) {
        if (it->keys.slots[i])
            kvs[n++] = it->keys.slots[i];
    }
    assert(n == it->keys.n);
    qsort(kvs, n, sizeof(struct mvcc_kv *), compare_keys);
    *out = kvs;
    return n;
}

int lease_revoke(struct lessor *l, int64_t id, struct mvcc_kv ***kvs, size_t *n)
{
    struct lease *it = find(l, id);

    if (!it)
        return LEASE_NOT_FOUND;
    *n = sorted_keys(it, kvs);
    free(it->keys.slots); /* the references are the caller's now */
    if (l->primary)
        heap_remove(l, it);
    round_leave(it);
    set_remove_at(&l->table, &leases_kind,
                  set_seek(&l->table, &leases_kind, hash_id(id), it));
    free(it);
    return 0;
}

/* --- Keys. ------------------------------------------------------------------------- */

static void detach(struct lease *it, const struct mvcc_kv *kv)
{
    size_t at;

    if (!it->keys.cap)
        return;
    at = set_seek(&it->keys, &keys_kind, key_hash(kv), kv);
    if (!it->keys.slots[at])
        return;
    mvcc_unref(it->keys.slots[at]);
    set_remove_at(&it->keys, &keys_kind, at);
}

/* An older version of the key gives way: it need not live for our sake. */
static void attach(struct lease *it, struct mvcc_kv *kv)
{
    size_t at;

    if (it->keys.cap) {
        at = set_seek(&it->keys, &keys_kind, key_hash(kv), kv);
        if (it->keys.slots[at]) {
            mvcc_ref(kv);
            mvcc_unref(it->keys.slots[at]);
            it->keys.slots[at] = kv;
            return;
        }
    }
    set_add(&it->keys, &keys_kind, mvcc_ref(kv));
}

void lease_change(void *lessor, struct mvcc_kv *kv, struct mvcc_kv *prev)
{
    struct lease *from = prev ? find(lessor, prev->lease) : NULL;
    struct lease *to = mvcc_is_tombstone(kv) ? NULL : find(lessor, kv->lease);

    if (from && from != to)
        detach(from, kv);
    if (to)
        attach(to, kv);
}

size_t lease_n_keys(const struct lessor *l, int64_t id)
{
    const struct lease *it = find(l, id);

    return it ? it->keys.n : 0;
}

size_t lease_keys(const struct lessor *l, int64_t id, struct mvcc_kv ***kvs)
{
    const struct lease *it = find(l, id);
    size_t n;

    if (!it) {
        *kvs = NULL;
        return 0;
    }
    n = sorted_keys(it, kvs);
    for (size_t i = 0; i < n; i++)
        mvcc_ref((*kvs)[i]);
    return n;
}

bool lease_visit_keys(const struct lessor *l, int64_t id,
                      lease_key_visit *visit, void *arg)
{
    const struct lease *it = find(l, id);

    for (size_t i = 0; it && i < it->keys.cap; i++) {
        if (it->keys.slots[i] && !visit(arg, mvcc_key(it->keys.slots[i])))
            return false;
    }
    return true;
}

/* --- The leader's part. --------------------------------------------------------------- */

static int compare_expiry(const void *a, const void *b)
{
    const struct lease *x = *(struct lease *const *)a;
    const struct lease *y = *(struct lease *const *)b;

    if (x->expiry_ms != y->expiry_ms)
        return x->expiry_ms < y->expiry_ms ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

/*
 * A new leader restarts every lease, so that many may end at once, more than
 * can be revoked in time. Of any LEASE_EXPIRIES_PER_SECOND + 1 in a row the
 * last ends a second after the first. A sorted array is a heap already.
 */
static void spread(struct lessor *l)
{
    if (l->n_heap > 0)
        qsort(l->heap, l->n_heap, sizeof(struct lease *), compare_expiry);
    for (size_t i = 0; i < l->n_heap; i++) {
        struct lease *it = l->heap[i];

        if (i >= LEASE_EXPIRIES_PER_SECOND) {
            int64_t least =
                l->heap[i - LEASE_EXPIRIES_PER_SECOND]->expiry_ms + 1000;

            if (it->expiry_ms < least)
                it->expiry_ms = least;
        }
        it->wake_ms = it->expiry_ms;
        it->place = i;
    }
}

void lease_promote(struct lessor *l, int64_t now_ms, int64_t extend_ms)
{
    lease_demote(l);
    l->primary = true;
    for (size_t i = 0; i < l->table.cap; i++) {
        struct lease *it = l->table.slots[i];

        if (!it)
            continue;
        it->expiry_ms = it->wake_ms = now_ms + ms_of(ttl_left(it)) + extend_ms;
        heap_add(l, it);
        round_enter(l, it, now_ms);
    }
    spread(l);
}

void lease_demote(struct lessor *l)
{
    for (size_t i = 0; i < l->n_heap; i++) {
        l->heap[i]->expiry_ms = NEVER;
        round_leave(l->heap[i]);
    }
    free(l->heap);
    l->heap = NULL;
    l->n_heap = l->cap_heap = 0;
    l->primary = false;
}

bool lease_is_primary(const struct lessor *l)
{
    return l->primary;
}

int lease_renew(struct lessor *l, int64_t id, int64_t now_ms, int64_t *ttl,
                bool *uncheckpoint)
{
    struct lease *it = find(l, id);

    if (!it || !l->primary || it->expiry_ms <= now_ms)
        return LEASE_NOT_FOUND;
    it->expiry_ms = now_ms + ms_of(it->ttl);
    heap_move(l, it, it->expiry_ms);
    *uncheckpoint = it->remaining_ttl > 0;
    *ttl = it->ttl;
    return 0;
}

size_t lease_expired(struct lessor *l, int64_t now_ms, int64_t *ids, size_t max)
{
    size_t n = 0;

    while (n < max && l->n_heap > 0 && l->heap[0]->wake_ms <= now_ms) {
        ids[n++] = l->heap[0]->id;
        heap_move(l, l->heap[0], now_ms + LEASE_RETRY_MS);
    }
    return n;
}

int64_t lease_next_expiry_ms(const struct lessor *l)
{
    return l->n_heap > 0 ? l->heap[0]->wake_ms : NEVER;
}

/* --- Questions. --------------------------------------------------------------------------- */

struct lease_ttl lease_time_to_live(const struct lessor *l, int64_t id,
                                    int64_t now_ms)
{
    const struct lease *it = find(l, id);
    int64_t left;

    if (!it)
        return (struct lease_ttl){-1, 0};
    if (!l->primary)
        return (struct lease_ttl){it->ttl, it->ttl};
    left = it->expiry_ms > now_ms ? (it->expiry_ms - now_ms) / 1000 : 0;
    return (struct lease_ttl){left, it->ttl};
}

struct lease_record *lease_records(const struct lessor *l, size_t *n)
{
    struct lease_record *out = xmalloc((l->table.n + 1) * sizeof(*out));

    *n = 0;
    for (size_t i = 0; i < l->table.cap; i++) {
        const struct lease *it = l->table.slots[i];

        if (it)
            out[(*n)++] = (struct lease_record){
                .id = it->id,
                .ttl = it->ttl,
                .remaining_ttl =
                    l->config.persist_checkpoints ? it->remaining_ttl : 0,
                .expiry_ms = it->expiry_ms,
            };
    }
    return out;
}

/* As the bytes of the key go: negative ids come last. */
static int record_by_id(const void *a, const void *b)
{
    uint64_t x = (uint64_t)((const struct lease_record *)a)->id;
    uint64_t y = (uint64_t)((const struct lease_record *)b)->id;

    return (x > y) - (x < y);
}

static int record_by_expiry(const void *a, const void *b)
{
    const struct lease_record *x = a, *y = b;

    if (x->expiry_ms != y->expiry_ms)
        return x->expiry_ms < y->expiry_ms ? -1 : 1;
    return record_by_id(a, b);
}

void lease_sort_by_id(struct lease_record *records, size_t n)
{
    qsort(records, n, sizeof(*records), record_by_id);
}

void lease_sort_by_expiry(struct lease_record *records, size_t n)
{
    qsort(records, n, sizeof(*records), record_by_expiry);
}

/* --- Records. -------------------------------------------------------------------------------- */

void lease_encode_key(int64_t id, uint8_t out[LEASE_KEY_BYTES])
{
    put_u64be(out, (uint64_t)id);
}

void lease_encode(struct buf *b, const struct lease_record *r)
{
    pb_add_u64(b, 1, (uint64_t)r->id);
    if (r->ttl != 0)
        pb_add_u64(b, 2, (uint64_t)r->ttl);
    if (r->remaining_ttl != 0)
        pb_add_u64(b, 3, (uint64_t)r->remaining_ttl);
}

int lease_decode(struct str key, struct str value, struct lease_record *out)
{
    uint64_t id = 0, ttl = 0, remaining_ttl = 0;
    const struct pb_target targets[] = {
        [1] = {.u64 = &id},
        [2] = {.u64 = &ttl},
        [3] = {.u64 = &remaining_ttl},
    };

    if (key.n != LEASE_KEY_BYTES ||
        pb_read(value.p, value.n, targets, ARRAY_LEN(targets)) < 0 || id == 0 ||
        get_u64be((const uint8_t *)key.p) != id)
        return LEASE_CORRUPT;
    *out = (struct lease_record){
        .id = (int64_t)id,
        .ttl = (int64_t)ttl,
        .remaining_ttl = (int64_t)remaining_ttl,
        .expiry_ms = NEVER,
    };
    return 0;
}

int lease_restore(struct lessor *l, const struct lease_record *r)
{
    assert(!l->primary);
    if (r->id == 0 || find(l, r->id))
        return LEASE_CORRUPT;
    add_lease(l, r->id, r->ttl)->remaining_ttl = r->remaining_ttl;
    return 0;
}

/* --- For tests. --------------------------------------------------------------------------------- */

uint64_t lease_digest(const struct lessor *l)
{
    struct buf b = {0};
    size_t n;
    struct lease_record *records = lease_records(l, &n);
    uint64_t digest;

    lease_sort_by_id(records, n);
    for (size_t i = 0; i < n; i++) {
        const struct lease *it = find(l, records[i].id);
        struct mvcc_kv **kvs;
        size_t n_kvs = sorted_keys(it, &kvs);

        records[i].remaining_ttl = it->remaining_ttl;
        lease_encode(&b, &records[i]);
        for (size_t k = 0; k < n_kvs; k++)
            pb_add_str(&b, 4, mvcc_key(kvs[k]));
        free(kvs);
    }
    digest = trie_key(buf_str(&b)).hash;
    buf_release(&b);
    free(records);
    return digest;
}

static void check_set(const struct set *s, const struct set_kind *k)
{
    size_t n = 0;

    assert((s->cap & (s->cap - 1)) == 0 && (s->cap == 0 || s->n < s->cap));
    for (size_t i = 0; i < s->cap; i++) {
        const void *item = s->slots[i];

        if (!item)
            continue;
        n++;
        assert(set_find(s, k, k->hash(item), item) == item);
    }
    assert(n == s->n);
}

static void check_rounds(const struct lessor *l)
{
    const struct lease *it = l->rounds.next_round, *prev = &l->rounds;
    int64_t due = INT64_MIN;

    for (; it != &l->rounds; prev = it, it = it->next_round) {
        assert(l->primary && it->prev_round == prev);
        assert(it->round_ms >= due);
        due = it->round_ms;
    }
    assert(l->rounds.prev_round == prev);
}

void lease_check(const struct lessor *l)
{
    check_set(&l->table, &leases_kind);
    check_rounds(l);
    assert(l->n_heap == (l->primary ? l->table.n : 0));
    for (size_t i = 0; i < l->n_heap; i++) {
        assert(l->heap[i]->place == i);
        assert(l->heap[i]->wake_ms >= l->heap[i]->expiry_ms);
        assert(i == 0 || l->heap[(i - 1) / 2]->wake_ms <= l->heap[i]->wake_ms);
    }
    for (size_t i = 0; i < l->table.cap; i++) {
        const struct lease *it = l->table.slots[i];

        if (!it)
            continue;
        check_set(&it->keys, &keys_kind);
        assert(l->primary || it->expiry_ms == NEVER);
        for (size_t k = 0; k < it->keys.cap; k++) {
            const struct mvcc_kv *kv = it->keys.slots[k];

            assert(!kv || kv->lease == it->id);
        }
    }
}
