/*
 * lease_test.c - leases: the rules by examples, and random operations beside a
 * naive twin.
 *
 *     lease_test            the tests
 *     lease_test bench [N]  times for N leases with a key each
 */
#include "chance.h"
#include "check.h"

#include "lease.h"

#include <inttypes.h>
#include <time.h>

static const struct lease_config plain = {.min_ttl = 2};
static const struct lease_config rounds = {
    .min_ttl = 2,
    .checkpoint_ms = LEASE_CHECKPOINT_MS,
    .persist_checkpoints = true,
};

/* --- A key space with a lessor. ---------------------------------------------- */

struct world {
    struct mvcc *m;
    struct lessor *l;
};

static void world_init(struct world *w, const struct lease_config *config)
{
    w->m = mvcc_new();
    w->l = lessor_new(config);
}

static void world_release(struct world *w)
{
    lessor_free(w->l);
    mvcc_free(w->m);
}

static int put(struct world *w, const char *key, int64_t lease)
{
    struct mvcc_leases leases = {lease_exists, w->l};
    struct mvcc_put p = {
        .key = str_of(key), .value = str_of("v"), .lease = lease};
    struct mvcc_put_result r;
    int rc = mvcc_put(w->m, &p, &leases, &r);

    if (rc < 0)
        return rc;
    mvcc_changes(w->m, r.revision, lease_change, w->l);
    mvcc_put_release(&r);
    return 0;
}

static void del(struct world *w, const char *key)
{
    struct mvcc_delete_range d = {.key = str_of(key)};
    struct mvcc_delete_result r;

    mvcc_delete_range(w->m, &d, &r);
    if (r.deleted)
        mvcc_changes(w->m, r.revision, lease_change, w->l);
    mvcc_delete_release(&r);
}

static int grant(struct world *w, int64_t id, int64_t ttl, int64_t now)
{
    return lease_grant(w->l, id, ttl, now, NULL);
}

/* As the header says it is done. */
static int revoke(struct world *w, int64_t id)
{
    struct mvcc_kv **kvs;
    size_t n;
    int rc = lease_revoke(w->l, id, &kvs, &n);

    if (rc < 0)
        return rc;
    mvcc_begin(w->m);
    for (size_t i = 0; i < n; i++) {
        struct mvcc_delete_range d = {.key = mvcc_key(kvs[i])};
        struct mvcc_delete_result r;

        mvcc_delete_range(w->m, &d, &r);
        CHECK(r.deleted == 1);
        mvcc_delete_release(&r);
    }
    mvcc_changes(w->m, mvcc_end(w->m), lease_change, w->l);
    mvcc_unref_all(kvs, n);
    return 0;
}

/* "a b c " */
static const char *keys_of(struct world *w, int64_t id)
{
    static struct buf b;
    struct mvcc_kv **kvs;
    size_t n = lease_keys(w->l, id, &kvs);

    CHECK(n == lease_n_keys(w->l, id));
    buf_clear(&b);
    for (size_t i = 0; i < n; i++)
        buf_printf(&b, "%.*s ", STR_FMT(mvcc_key(kvs[i])));
    mvcc_unref_all(kvs, n);
    return buf_z(&b);
}

/* --- Rules. --------------------------------------------------------------------- */

static void test_grant(void)
{
    static const struct {
        int64_t id, ttl;
        int rc;
        int64_t effective;
    } cases[] = {
        {1, 100, 0, 100},
        {1, 100, LEASE_EXISTS, 0},
        {2, 1, 0, 2},
        {3, 0, 0, 2},
        {4, -5, 0, 2},
        {5, LEASE_TTL_MAX, 0, LEASE_TTL_MAX},
        {6, LEASE_TTL_MAX + 1, LEASE_TTL_TOO_LARGE, 0},
        {1, LEASE_TTL_MAX + 1, LEASE_TTL_TOO_LARGE, 0},
        {0, 5, LEASE_NOT_FOUND, 0},
        {-7, 5, 0, 5},
    };
    struct world w;

    world_init(&w, &plain);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t ttl = 0;

        CHECK(lease_check_grant(w.l, cases[i].id, cases[i].ttl) == cases[i].rc);
        CHECK(lease_grant(w.l, cases[i].id, cases[i].ttl, 0, &ttl) ==
              cases[i].rc);
        CHECK(ttl == cases[i].effective);
        lease_check(w.l);
    }
    CHECK(lease_count(w.l) == 6);
    world_release(&w);
    CHECK(lease_min_ttl(10, 100) == 2);
    CHECK(lease_min_ttl(10, 1000) == 15);
    CHECK(lease_min_ttl(3, 100) == 1);
}

static void test_keys(void)
{
    struct world w;

    world_init(&w, &plain);
    CHECK(grant(&w, 1, 100, 0) == 0 && grant(&w, 2, 100, 0) == 0);
    CHECK(put(&w, "x", 3) == MVCC_LEASE_NOT_FOUND);
    CHECK(put(&w, "b", 1) == 0 && put(&w, "a", 1) == 0);
    CHECK(put(&w, "c", 1) == 0 && put(&w, "b", 1) == 0);
    CHECK_STR(keys_of(&w, 1), "a b c ");
    CHECK(put(&w, "b", 2) == 0);
    CHECK_STR(keys_of(&w, 1), "a c ");
    CHECK_STR(keys_of(&w, 2), "b ");
    CHECK(put(&w, "a", 0) == 0); /* without a lease: it has none any more */
    CHECK_STR(keys_of(&w, 1), "c ");
    del(&w, "c");
    CHECK_STR(keys_of(&w, 1), "");
    CHECK(put(&w, "d", 2) == 0);
    lease_check(w.l);
    CHECK(revoke(&w, 2) == 0);
    CHECK(revoke(&w, 2) == LEASE_NOT_FOUND);
    CHECK(mvcc_stats(w.m).n_keys == 1); /* a */
    CHECK(!lease_exists(w.l, 2) && lease_exists(w.l, 1));
    CHECK_STR(keys_of(&w, 2), "");
    lease_check(w.l);
    world_release(&w);
}

/* A key's lease does not hold the bytes of what it was before. */
static void test_newest_version(void)
{
    struct world w;
    struct mvcc_kv **kvs;
    size_t n;

    world_init(&w, &plain);
    CHECK(grant(&w, 1, 100, 0) == 0);
    CHECK(put(&w, "a", 1) == 0 && put(&w, "a", 1) == 0);
    n = lease_keys(w.l, 1, &kvs);
    CHECK(n == 1 && kvs[0]->version == 2);
    mvcc_unref_all(kvs, n);
    world_release(&w);
}

static void test_time(void)
{
    struct world w;
    int64_t ids[4], ttl = 0;
    bool un = false;

    world_init(&w, &plain);
    CHECK(grant(&w, 1, 10, 0) == 0);
    CHECK(lease_time_to_live(w.l, 1, 0).ttl == 10); /* not primary */
    CHECK(lease_renew(w.l, 1, 0, &ttl, &un) == LEASE_NOT_FOUND);
    CHECK(lease_expired(w.l, INT64_MAX, ids, 4) == 0);
    CHECK(lease_next_expiry_ms(w.l) == INT64_MAX);

    lease_promote(w.l, 1000, 500);
    CHECK(lease_next_expiry_ms(w.l) == 11500);
    CHECK(grant(&w, 2, 5, 1000) == 0);
    CHECK(lease_time_to_live(w.l, 2, 1001).ttl == 4);
    CHECK(lease_time_to_live(w.l, 2, 1001).granted_ttl == 5);
    CHECK(lease_time_to_live(w.l, 3, 1001).ttl == -1);
    CHECK(lease_time_to_live(w.l, 3, 1001).granted_ttl == 0);
    CHECK(lease_renew(w.l, 2, 5999, &ttl, &un) == 0 && ttl == 5 && !un);
    CHECK(lease_expired(w.l, 10998, ids, 4) == 0);

    /* Due: it cannot be renewed, is reported, and again if nothing happens. */
    CHECK(lease_renew(w.l, 2, 10999, &ttl, &un) == LEASE_NOT_FOUND);
    CHECK(lease_time_to_live(w.l, 2, 10999).ttl == 0);
    CHECK(lease_expired(w.l, 10999, ids, 4) == 1 && ids[0] == 2);
    CHECK(lease_expired(w.l, 11499, ids, 4) == 0);
    CHECK(lease_expired(w.l, 14000, ids, 4) == 2 && ids[0] == 1 && ids[1] == 2);
    CHECK(revoke(&w, 1) == 0 && revoke(&w, 2) == 0);
    CHECK(lease_expired(w.l, 99999, ids, 4) == 0);
    lease_check(w.l);

    CHECK(grant(&w, 3, 5, 0) == 0);
    lease_demote(w.l);
    CHECK(lease_expired(w.l, INT64_MAX, ids, 4) == 0);
    lease_check(w.l);
    world_release(&w);
}

static void test_checkpoints(void)
{
    struct world w;
    struct lease_remaining due[8];
    int64_t ttl;
    bool un = false;

    world_init(&w, &rounds);
    CHECK(grant(&w, 1, 1000, 0) == 0 && grant(&w, 2, 300, 0) == 0);
    lease_promote(w.l, 0, 1000);
    CHECK(grant(&w, 3, 400, 0) == 0);
    lease_check(w.l);
    CHECK(lease_checkpoints_due(w.l, 299999, due, 8) == 0);
    CHECK(lease_checkpoints_due(w.l, 300000, due, 1) == 1); /* in parts */
    CHECK(due[0].id == 1 && due[0].remaining_ttl == 701);
    CHECK(lease_checkpoints_due(w.l, 300001, due, 8) == 1);
    CHECK(due[0].id == 3 && due[0].remaining_ttl == 100);
    lease_checkpoint(w.l, 1, 701, 300500);
    lease_checkpoint(w.l, 9, 701, 300500); /* gone meanwhile */
    CHECK(lease_checkpoints_due(w.l, 600499, due, 8) == 0);
    lease_check(w.l);

    /* The next leader goes on from there; a renewal begins anew. */
    lease_demote(w.l);
    lease_promote(w.l, 0, 0);
    CHECK(lease_time_to_live(w.l, 1, 0).ttl == 701);
    CHECK(lease_time_to_live(w.l, 2, 0).ttl == 300);
    CHECK(lease_renew(w.l, 1, 0, &ttl, &un) == 0 && ttl == 1000 && un);
    lease_checkpoint(w.l, 1, 0, 0);
    CHECK(lease_renew(w.l, 1, 0, &ttl, &un) == 0 && !un);
    lease_checkpoint(w.l, 1, 5000, 0); /* nonsense gives nobody more */
    lease_checkpoint(w.l, 2, -1, 0);
    lease_promote(w.l, 0, 0);
    CHECK(lease_time_to_live(w.l, 1, 0).ttl == 1000);
    CHECK(lease_time_to_live(w.l, 2, 0).ttl == 300);
    lease_check(w.l);
    world_release(&w);
}

static void test_spread(void)
{
    enum { N = 3000 };
    struct world w;
    static int64_t ids[N];

    world_init(&w, &plain);
    for (int64_t i = 1; i <= N; i++)
        CHECK(grant(&w, i, i <= 2000 ? 10 : 60, 0) == 0);
    lease_promote(w.l, 0, 0);
    lease_check(w.l);
    CHECK(lease_expired(w.l, 9999, ids, N) == 0);
    CHECK(lease_expired(w.l, 10000, ids, N) == 750);
    for (int64_t i = 1; i <= 750; i++)
        CHECK(revoke(&w, i) == 0);
    CHECK(lease_expired(w.l, 11000, ids, N) == 750);
    for (int64_t i = 751; i <= 1500; i++)
        CHECK(revoke(&w, i) == 0);
    CHECK(lease_expired(w.l, 12000, ids, N) == 500);
    for (int64_t i = 1501; i <= 2000; i++)
        CHECK(revoke(&w, i) == 0);
    CHECK(lease_time_to_live(w.l, 2500, 12000).ttl == 48);
    CHECK(lease_expired(w.l, 60000, ids, N) == 750);
    CHECK(lease_expired(w.l, 61000, ids, N) == 250);
    lease_check(w.l);
    world_release(&w);
}

static void test_list(void)
{
    struct world w;
    struct lease_record *r;
    size_t n;

    world_init(&w, &plain);
    lease_promote(w.l, 0, 0);
    CHECK(grant(&w, 1, 30, 0) == 0 && grant(&w, -1, 10, 0) == 0);
    CHECK(grant(&w, 3, 10, 0) == 0 && grant(&w, 2, 20, 0) == 0);
    r = lease_records(w.l, &n);
    CHECK(n == 4);
    lease_sort_by_id(r, n);
    CHECK(r[0].id == 1 && r[1].id == 2 && r[2].id == 3 && r[3].id == -1);
    lease_sort_by_expiry(r, n);
    CHECK(r[0].id == 3 && r[1].id == -1 && r[2].id == 2 && r[3].id == 1);
    CHECK(r[0].expiry_ms == 10000);
    free(r);
    world_release(&w);
}

/* --- Records. ----------------------------------------------------------------------- */

static void test_records(void)
{
    const struct {
        struct str key, value;
        int rc;
    } cases[] = {
        {STR("\0\0\0\0\0\0\0\7"), STR("\x08\x07\x10\x64"), 0},
        {STR("\0\0\0\0\0\0\0\7"), STR("\x08\x07\x10\x64\x18\x32"), 0},
        {STR("\0\0\0\0\0\0\0\7"), STR("\x08\x07\x10\x64\x22\x01x"), 0},
        {STR("\0\0\0\0\0\0\0\10"), STR("\x08\x07\x10\x64"), LEASE_CORRUPT},
        {STR("\0\0\0\0\0\0\7"), STR("\x08\x07\x10\x64"), LEASE_CORRUPT},
        {STR("\0\0\0\0\0\0\0\0"), STR("\x10\x64"), LEASE_CORRUPT},
        {STR("\0\0\0\0\0\0\0\7"), STR("\x08\x07\x10"), LEASE_CORRUPT},
        {STR("\0\0\0\0\0\0\0\7"), STR("\x0a\x07\x10\x64"), LEASE_CORRUPT},
    };
    struct lease_record r = {.id = 7, .ttl = 100, .remaining_ttl = 50};
    struct buf b = {0};

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct lease_record got = {0};

        CHECK(lease_decode(cases[i].key, cases[i].value, &got) == cases[i].rc);
        CHECK(cases[i].rc < 0 || (got.id == 7 && got.ttl == 100));
    }
    lease_encode(&b, &r);
    CHECK(str_eq(buf_str(&b), cases[1].value));
    buf_release(&b);
}

/* Records, decoded, into a new lessor, and the keys attached from the store. */
static struct lessor *copy_of(struct world *w,
                              const struct lease_config *config)
{
    struct lessor *l = lessor_new(config);
    size_t n;
    struct lease_record *r = lease_records(w->l, &n);
    struct mvcc_range all = {STR("\0"), {"\0", 1}, .revision = 0};
    struct mvcc_range_result found;
    struct buf b = {0};

    for (size_t i = 0; i < n; i++) {
        uint8_t key[LEASE_KEY_BYTES];
        struct lease_record got;

        buf_clear(&b);
        lease_encode(&b, &r[i]);
        lease_encode_key(r[i].id, key);
        CHECK(lease_decode((struct str){(char *)key, sizeof(key)}, buf_str(&b),
                           &got) == 0);
        CHECK(lease_restore(l, &got) == 0);
        CHECK(lease_restore(l, &got) == LEASE_CORRUPT);
    }
    CHECK(mvcc_range(w->m, &all, &found) == 0);
    for (size_t i = 0; i < found.n; i++)
        lease_change(l, found.kvs[i], NULL);
    mvcc_range_release(&found);
    buf_release(&b);
    free(r);
    return l;
}

/* --- The twin. ------------------------------------------------------------------------ */

enum { IDS = 12, KEYS = 40 };

struct twin {
    struct {
        bool there;
        int64_t ttl, remaining, expiry, wake;
    } leases[IDS]; /* id - 1 */
    int64_t lease_of[KEYS];
    bool there[KEYS];
    bool primary;
    int64_t now;
};

static const char *key_name(uint64_t i)
{
    static char name[8];

    snprintf(name, sizeof(name), "k%02u", (unsigned)i);
    return name;
}

static void twin_put(struct twin *t, struct world *w)
{
    uint64_t key = rnd(KEYS), id = rnd(IDS + 1);
    bool fits = id == 0 || t->leases[id - 1].there;

    CHECK((put(w, key_name(key), (int64_t)id) == 0) == fits);
    if (fits) {
        t->there[key] = true;
        t->lease_of[key] = (int64_t)id;
    }
}

static void twin_del(struct twin *t, struct world *w)
{
    uint64_t key = rnd(KEYS);

    del(w, key_name(key));
    t->there[key] = false;
    t->lease_of[key] = 0;
}

static void twin_grant(struct twin *t, struct world *w)
{
    uint64_t i = rnd(IDS);
    int64_t ttl = (int64_t)rnd(700);
    int rc = grant(w, (int64_t)i + 1, ttl, t->now);

    CHECK(rc == (t->leases[i].there ? LEASE_EXISTS : 0));
    if (rc < 0)
        return;
    t->leases[i].there = true;
    t->leases[i].ttl = ttl < 2 ? 2 : ttl;
    t->leases[i].remaining = 0;
    t->leases[i].expiry = t->leases[i].wake = t->now + t->leases[i].ttl * 1000;
}

static void twin_revoke(struct twin *t, struct world *w)
{
    uint64_t i = rnd(IDS);

    CHECK(revoke(w, (int64_t)i + 1) ==
          (t->leases[i].there ? 0 : LEASE_NOT_FOUND));
    t->leases[i].there = false;
    for (size_t k = 0; k < KEYS; k++) {
        if (t->lease_of[k] == (int64_t)i + 1) {
            t->lease_of[k] = 0;
            t->there[k] = false;
        }
    }
}

static void twin_renew(struct twin *t, struct world *w)
{
    uint64_t i = rnd(IDS);
    int64_t ttl = 0;
    bool un = false, good = t->primary && t->leases[i].there &&
                            t->leases[i].expiry > t->now;

    CHECK((lease_renew(w->l, (int64_t)i + 1, t->now, &ttl, &un) == 0) == good);
    if (!good)
        return;
    CHECK(ttl == t->leases[i].ttl && un == (t->leases[i].remaining > 0));
    t->leases[i].expiry = t->leases[i].wake = t->now + ttl * 1000;
}

static void twin_promote(struct twin *t, struct world *w)
{
    t->primary = rnd(4) > 0;
    if (!t->primary) {
        lease_demote(w->l);
        return;
    }
    lease_promote(w->l, t->now, 1000);
    for (size_t i = 0; i < IDS; i++) {
        int64_t left = t->leases[i].remaining;

        if (left <= 0 || left > t->leases[i].ttl)
            left = t->leases[i].ttl;
        t->leases[i].expiry = t->leases[i].wake = t->now + left * 1000 + 1000;
    }
}

static void twin_expire(struct twin *t, struct world *w)
{
    int64_t ids[IDS];
    size_t n, due = 0;

    t->now += (int64_t)rnd(20000);
    for (size_t i = 0; t->primary && i < IDS; i++)
        due += t->leases[i].there && t->leases[i].wake <= t->now;
    n = lease_expired(w->l, t->now, ids, IDS);
    CHECK(n == due);
    for (size_t i = 0; i < n; i++) {
        CHECK(t->leases[ids[i] - 1].wake <= t->now);
        CHECK(i == 0 ||
              t->leases[ids[i - 1] - 1].wake <= t->leases[ids[i] - 1].wake);
    }
    for (size_t i = 0; i < n; i++)
        t->leases[ids[i] - 1].wake = t->now + LEASE_RETRY_MS;
}

static void twin_checkpoint(struct twin *t, struct world *w)
{
    struct lease_remaining due[IDS];
    size_t n = lease_checkpoints_due(w->l, t->now, due, IDS);

    CHECK(t->primary || n == 0);
    for (size_t i = 0; i < n; i++) {
        int64_t left = (t->leases[due[i].id - 1].expiry - t->now + 999) / 1000;

        CHECK(t->leases[due[i].id - 1].there);
        CHECK(due[i].remaining_ttl == left);
        CHECK(left < t->leases[due[i].id - 1].ttl);
        lease_checkpoint(w->l, due[i].id, left, t->now);
        t->leases[due[i].id - 1].remaining = left;
    }
}

static void twin_compare(const struct twin *t, struct world *w)
{
    struct buf b = {0};
    size_t n = 0;

    for (size_t i = 0; i < IDS; i++) {
        struct lease_ttl got = lease_time_to_live(w->l, (int64_t)i + 1, t->now);
        int64_t left = t->leases[i].expiry - t->now;

        n += t->leases[i].there;
        buf_clear(&b);
        for (size_t k = 0; k < KEYS; k++) {
            if (t->lease_of[k] == (int64_t)i + 1)
                buf_printf(&b, "%s ", key_name(k));
        }
        CHECK_STR(keys_of(w, (int64_t)i + 1), buf_z(&b));
        if (!t->leases[i].there) {
            CHECK(got.ttl == -1);
            continue;
        }
        CHECK(got.granted_ttl == t->leases[i].ttl);
        CHECK(!t->primary || got.ttl == (left > 0 ? left / 1000 : 0));
    }
    CHECK(lease_count(w->l) == n);
    lease_check(w->l);
    buf_release(&b);
}

static void test_twin(uint64_t with_seed, int steps)
{
    static void (*const ops[])(struct twin *, struct world *) = {
        twin_put,   twin_put,     twin_put,    twin_put,    twin_del,
        twin_del,   twin_grant,   twin_grant,  twin_revoke, twin_renew,
        twin_renew, twin_promote, twin_expire, twin_expire, twin_checkpoint,
    };
    struct twin t = {0};
    struct world w;

    rnd_seed = with_seed;
    world_init(&w, &rounds);
    for (int i = 0; i < steps; i++) {
        ops[rnd(ARRAY_LEN(ops))](&t, &w);
        twin_compare(&t, &w);
        if (i % 50 == 0) {
            struct lessor *copy = copy_of(&w, &rounds);

            CHECK(lease_digest(copy) == lease_digest(w.l));
            lease_check(copy);
            lessor_free(copy);
        }
    }
    world_release(&w);
}

/* --- Bench. ------------------------------------------------------------------------------ */

static double seconds(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void report(const char *what, double since, size_t n)
{
    printf("%-22s %8.1f ms  %6.0f ns each\n", what, (seconds() - since) * 1e3,
           (seconds() - since) * 1e9 / (double)n);
}

static int bench(size_t n)
{
    struct world w;
    int64_t *ids = xmalloc(n * sizeof(*ids)), ttl;
    struct lease_record *r;
    bool un;
    size_t got;
    double at;

    world_init(&w, &rounds);
    lease_promote(w.l, 0, 0);
    at = seconds();
    for (size_t i = 1; i <= n; i++)
        grant(&w, (int64_t)(i * 0x9e3779b97f4a7c15 >> 1), 600 + (int64_t)i % 99,
              0);
    report("grant", at, n);
    at = seconds();
    for (size_t i = 1; i <= n; i++) {
        char key[32];

        snprintf(key, sizeof(key), "key%zu", i);
        put(&w, key, (int64_t)(i * 0x9e3779b97f4a7c15 >> 1));
    }
    report("put with lease", at, n);
    at = seconds();
    for (size_t i = 1; i <= n; i++)
        lease_renew(w.l, (int64_t)(i * 0x9e3779b97f4a7c15 >> 1),
                    (int64_t)(i / 100), &ttl, &un);
    report("renew", at, n);
    at = seconds();
    r = lease_records(w.l, &got);
    report("records", at, n);
    at = seconds();
    lease_sort_by_id(r, got);
    report("sort", at, n);
    free(r);
    at = seconds();
    lease_promote(w.l, 1000, 1000);
    report("promote", at, n);
    at = seconds();
    for (int64_t now = 0; now < 500000; now += 500)
        CHECK(lease_expired(w.l, now, ids, n) == 0);
    report("look for expired ones", at, 1000);
    at = seconds();
    got = lease_expired(w.l, INT64_MAX / 2, ids, n);
    report("all expire", at, n);
    at = seconds();
    for (size_t i = 0; i < got; i++)
        revoke(&w, ids[i]);
    report("revoke", at, n);
    free(ids);
    world_release(&w);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "bench") == 0)
        return bench(argc > 2 ? strtoul(argv[2], NULL, 10) : 100000);
    test_grant();
    test_keys();
    test_newest_version();
    test_time();
    test_checkpoints();
    test_spread();
    test_list();
    test_records();
    for (uint64_t s = 1; s <= 10; s++)
        test_twin(s, 1000);
    return check_done("lease_test");
}
