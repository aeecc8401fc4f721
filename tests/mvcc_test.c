/*
 * mvcc_test.c - the v3 key space by examples: answers that etcd 3.4.23 gave,
 * errors, pins and compaction, what a large range costs.
 *
 *     mvcc_test            the tests
 *     mvcc_test bench [N]  times, and memory for N keys of 32 + 256 bytes
 */
#include "check.h"

#include "mvcc.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static struct str END = {"\0", 1}; /* all from the key on */

/* --- Short words for requests. ------------------------------------------------ */

static int64_t put(struct mvcc *m, const char *key, const char *value)
{
    struct mvcc_put p = {.key = str_of(key), .value = str_of(value)};
    struct mvcc_put_result r;
    int64_t revision;

    CHECK(mvcc_put(m, &p, NULL, &r) == 0);
    revision = r.revision;
    mvcc_put_release(&r);
    return revision;
}

static int64_t del(struct mvcc *m, const char *key, struct str end)
{
    struct mvcc_delete_range d = {str_of(key), end, false};
    struct mvcc_delete_result r;
    int64_t deleted;

    mvcc_delete_range(m, &d, &r);
    deleted = r.deleted;
    mvcc_delete_release(&r);
    return deleted;
}

static void compact(struct mvcc *m, int64_t revision)
{
    CHECK(mvcc_compact(m, revision) == 0);
    while (mvcc_compact_step(m, 3))
        continue;
    CHECK(mvcc_compact_finished(m) == revision);
}

/* "a=1 b=2 |more count" of a range, or the error's number. */
static const char *show(struct mvcc *m, const struct mvcc_range *q)
{
    static struct buf b;
    struct mvcc_range_result r;
    int rc = mvcc_range(m, q, &r);

    buf_clear(&b);
    if (rc < 0) {
        buf_printf(&b, "%d", rc);
        return buf_z(&b);
    }
    for (size_t i = 0; i < r.n; i++)
        buf_printf(&b, "%.*s=%.*s ", STR_FMT(mvcc_key(r.kvs[i])),
                   STR_FMT(mvcc_value(r.kvs[i])));
    buf_printf(&b, "|%s%" PRId64, r.more ? "more " : "", r.count);
    mvcc_range_release(&r);
    return buf_z(&b);
}

static struct mvcc_op op_put(const char *key)
{
    return (struct mvcc_op){.kind = MVCC_OP_PUT, .u.put.key = str_of(key)};
}

static struct mvcc_op op_del(const char *key, struct str end)
{
    return (struct mvcc_op){.kind = MVCC_OP_DELETE_RANGE,
                            .u.delete_range = {str_of(key), end, false}};
}

static struct mvcc_op op_txn(const struct mvcc_op *success, size_t n_success,
                             const struct mvcc_op *failure, size_t n_failure)
{
    return (struct mvcc_op){.kind = MVCC_OP_TXN,
                            .u.txn = {.success = success,
                                      .n_success = n_success,
                                      .failure = failure,
                                      .n_failure = n_failure}};
}

static int check_list(const struct mvcc_op *ops, size_t n)
{
    return mvcc_check_txn(&(struct mvcc_txn){.success = ops, .n_success = n},
                          128);
}

/* --- Ranges. -------------------------------------------------------------------- */

static void test_ranges(void)
{
    struct mvcc *m = mvcc_new();
    const struct {
        struct mvcc_range q;
        const char *want;
    } cases[] = {
        {{.key = STR("b")}, "b=3 |1"},
        {{.key = STR("x")}, "|0"},
        {{.key = STR("a"), .range_end = STR("c")}, "a=1 b=3 |2"},
        {{.key = STR("c"), .range_end = STR("a")}, "|0"},
        {{.key = STR("b"), .range_end = END}, "b=3 c=2 d=1 |3"},
        {{.key = END, .range_end = END}, "a=1 b=3 c=2 d=1 |4"},
        {{.key = END, .range_end = END, .limit = 2}, "a=1 b=3 |more 4"},
        {{.key = END, .range_end = END, .limit = 4}, "a=1 b=3 c=2 d=1 |4"},
        {{.key = END, .range_end = END, .limit = -1}, "a=1 b=3 c=2 d=1 |4"},
        {{.key = END, .range_end = END, .count_only = true}, "|4"},
        {{.key = END, .range_end = END, .count_only = true, .limit = 1}, "|4"},
        {{.key = END, .range_end = END, .limit = 3, .order = MVCC_DESCEND},
         "d=1 c=2 b=3 |more 4"},
        {{.key = END, .range_end = END, .order = 2, .target = MVCC_BY_VERSION},
         "b=3 a=1 c=2 d=1 |4"},
        {{.key = END, .range_end = END, .target = MVCC_BY_VALUE},
         "a=1 d=1 c=2 b=3 |4"},
        /* the limit comes first, and is one more than asked for */
        {{.key = END, .range_end = END, .limit = 2, .target = MVCC_BY_VALUE},
         "a=1 c=2 |more 4"},
        {{.key = END,
          .range_end = END,
          .limit = 2,
          .order = MVCC_ASCEND,
          .target = MVCC_BY_VALUE},
         "a=1 d=1 |more 4"},
        {{.key = END, .range_end = END, .min_mod_revision = 4}, "c=2 d=1 |4"},
        {{.key = END, .range_end = END, .max_mod_revision = 3, .limit = 1},
         "a=1 |more 4"},
        {{.key = END,
          .range_end = END,
          .min_create_revision = 3,
          .max_create_revision = 4},
         "b=3 c=2 |4"},
        {{.key = END, .range_end = END, .revision = 3}, "a=1 b=3 |2"},
        {{.key = END, .range_end = END, .revision = 3, .limit = 1},
         "a=1 |more 2"},
        {{.key = END, .range_end = END, .revision = 7}, "-8"},
        {{.key = END, .range_end = END, .revision = 1}, "-7"},
        {{.key = END, .range_end = END, .revision = -5}, "a=1 b=3 c=2 d=1 |4"},
    };
    struct mvcc_op twice[2] = {op_put("b"), op_put("b")};
    struct mvcc_txn t = {.success = twice, .n_success = 2};
    struct mvcc_txn_result r;

    put(m, "a", "1"); /* 2 */
    twice[0].u.put.value = STR("0");
    twice[1].u.put.value = STR("3");
    CHECK(mvcc_check_txn(&t, 128) == MVCC_DUPLICATE_KEY);
    CHECK(mvcc_txn(m, &t, NULL, &r) == 0); /* 3 */
    CHECK(r.revision == 3);
    mvcc_txn_release(&r);
    put(m, "c", "2"); /* 4 */
    put(m, "d", "1"); /* 5 */
    compact(m, 2);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        CHECK_STR(show(m, &cases[i].q), cases[i].want);
    mvcc_check(m);
    mvcc_free(m);
}

/* --- Requests that are wrong. ---------------------------------------------------- */

static void test_single_checks(void)
{
    struct mvcc_range r = {.key = STR("a")};
    struct mvcc_put p = {.key = STR("a"), .value = STR("v"), .lease = 1};
    struct mvcc_delete_range d = {.key = STR("a")};

    CHECK(mvcc_check_range(&r) == 0);
    r.order = 3;
    CHECK(mvcc_check_range(&r) == MVCC_INVALID_SORT);
    r.order = 2;
    r.target = 5;
    CHECK(mvcc_check_range(&r) == MVCC_INVALID_SORT);
    r.key.n = 0;
    CHECK(mvcc_check_range(&r) == MVCC_EMPTY_KEY);
    CHECK(mvcc_check_put(&p) == 0);
    p.ignore_lease = true;
    CHECK(mvcc_check_put(&p) == MVCC_LEASE_PROVIDED);
    p.ignore_value = true;
    CHECK(mvcc_check_put(&p) == MVCC_VALUE_PROVIDED);
    p.key.n = 0;
    CHECK(mvcc_check_put(&p) == MVCC_EMPTY_KEY);
    CHECK(mvcc_check_delete_range(&d) == 0);
    d.key.n = 0;
    CHECK(mvcc_check_delete_range(&d) == MVCC_EMPTY_KEY);
}

static void test_txn_shape(void)
{
    struct mvcc_compare compares[3] = {
        {.key = STR("a")}, {.key = STR("b")}, {.key = STR("c")}};
    struct mvcc_op empty = {.kind = MVCC_OP_EMPTY};
    struct mvcc_op range = {.kind = MVCC_OP_RANGE, .u.range.key = STR("a")};
    struct mvcc_op inner = op_txn(&range, 1, NULL, 0);
    struct mvcc_op outer[2] = {inner, inner};
    struct mvcc_txn t = {compares, outer, NULL, 3, 2, 0};

    CHECK(mvcc_check_txn(&t, 2) == MVCC_TOO_MANY_OPS);
    CHECK(mvcc_check_txn(&t, 3) == MVCC_TOO_MANY_OPS); /* none for inner */
    CHECK(mvcc_check_txn(&t, 4) == 0);
    CHECK(mvcc_txn_is_read_only(&t));
    outer[1] = empty;
    CHECK(mvcc_check_txn(&t, 4) == MVCC_KEY_NOT_FOUND);
    CHECK(!mvcc_txn_is_read_only(&t));
    compares[1].key.n = 0;
    CHECK(mvcc_check_txn(&t, 4) == MVCC_EMPTY_KEY);
    compares[1].key.n = 1;
    outer[1] = op_put("a");
    CHECK(mvcc_check_txn(&t, 4) == 0);
    CHECK(!mvcc_txn_is_read_only(&t));
    range.u.range.order = 9;
    CHECK(mvcc_check_txn(&t, 4) == MVCC_INVALID_SORT);
    outer[1].u.put.key.n = 0; /* weighs more */
    CHECK(mvcc_check_txn(&t, 4) == MVCC_EMPTY_KEY);
}

/* What etcd 3.4.23 said to each of these. */
static void test_duplicate_keys(void)
{
    struct mvcc_op b = op_put("b"), del_b = op_del("b", STR(""));
    struct mvcc_op puts = op_txn(&b, 1, NULL, 0);
    struct mvcc_op dels = op_txn(&del_b, 1, NULL, 0);
    struct mvcc_op either = op_txn(&b, 1, &b, 1);
    struct mvcc_op mixed = op_txn(&b, 1, &del_b, 1);
    const struct {
        struct mvcc_op ops[2];
        int want;
    } cases[] = {
        {{b, op_put("c")}, 0},
        {{b, b}, MVCC_DUPLICATE_KEY},
        {{b, del_b}, MVCC_DUPLICATE_KEY},
        {{del_b, b}, MVCC_DUPLICATE_KEY},
        {{b, op_del("a", STR("c"))}, MVCC_DUPLICATE_KEY},
        {{b, op_del("a", STR("b"))}, 0},
        {{b, op_del("c", STR("a"))}, 0},
        {{b, op_del("a", END)}, 0}, /* etcd does not see it */
        {{b, op_del("b", END)}, 0},
        {{del_b, op_del("a", STR("c"))}, 0},
        {{puts, dels}, 0}, /* nor this */
        {{dels, puts}, MVCC_DUPLICATE_KEY},
        {{puts, puts}, MVCC_DUPLICATE_KEY},
        {{b, dels}, MVCC_DUPLICATE_KEY},
        {{b, puts}, MVCC_DUPLICATE_KEY},
        {{either, op_put("c")}, 0},
        {{either, b}, MVCC_DUPLICATE_KEY},
        {{mixed, op_put("c")}, 0},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        CHECK(check_list(cases[i].ops, 2) == cases[i].want);
}

static bool no_lease(void *arg, int64_t lease)
{
    (void)arg;
    (void)lease;
    return false;
}

/* Nothing is changed by what fails, however late it is found out. */
static void test_late_errors(void)
{
    static const struct mvcc_leases none = {no_lease, NULL};
    struct mvcc *m = mvcc_new();
    struct mvcc_op ops[2] = {op_put("a"), op_put("b")};
    struct mvcc_txn t = {.success = ops, .n_success = 2};
    struct mvcc_put p = {.key = STR("a"), .ignore_value = true};
    struct mvcc_txn_result tr;
    struct mvcc_put_result pr;

    CHECK(mvcc_put(m, &p, NULL, &pr) == MVCC_KEY_NOT_FOUND);
    p.lease = 1;
    CHECK(mvcc_put(m, &p, &none, &pr) == MVCC_LEASE_NOT_FOUND);
    ops[1].u.put.ignore_lease = true;
    CHECK(mvcc_txn(m, &t, &none, &tr) == MVCC_KEY_NOT_FOUND);
    ops[1].u.put.ignore_lease = false;
    ops[1].u.put.lease = 9;
    CHECK(mvcc_txn(m, &t, &none, &tr) == MVCC_LEASE_NOT_FOUND);
    ops[1].kind = MVCC_OP_RANGE;
    ops[1].u.range = (struct mvcc_range){.key = STR("a"), .revision = 2};
    CHECK(mvcc_txn(m, &t, &none, &tr) == MVCC_FUTURE_REV);
    ops[1].u.range.revision = -2;
    CHECK(mvcc_txn(m, &t, &none, &tr) == MVCC_COMPACTED);
    CHECK(mvcc_revision(m) == 1 && mvcc_stats(m).n_versions == 0);
    ops[1].u.range.revision = -1;
    CHECK(mvcc_txn(m, &t, &none, &tr) == 0);
    CHECK(tr.revision == 2 && tr.results[1].u.range.revision == 2);
    CHECK(tr.results[1].u.range.n == 1); /* it is the present, after all */
    mvcc_txn_release(&tr);
    mvcc_free(m);
}

/* --- HashKV: the same history as etcd 3.4.23 was given, and its answers. ----------- */

static void check_hash(struct mvcc *m, int64_t revision, uint32_t want)
{
    struct mvcc_hash h;

    CHECK(mvcc_hash_open(m, revision, &h) == 0);
    while (!h.done)
        mvcc_hash_step(&h, 2);
    if (h.result != want)
        fprintf(stderr, "hash at %" PRId64 "\n", revision);
    CHECK(h.result == want);
    mvcc_hash_close(&h);
}

static void hash_history(struct mvcc *m)
{
    struct mvcc_op ops[3] = {op_put("c"), op_put("d"), op_del("b", STR(""))};
    struct mvcc_txn t = {.success = ops, .n_success = 3};
    struct mvcc_put p = {.key = STR("e"), .value = STR("5"), .lease = 77};
    struct mvcc_txn_result tr;
    struct mvcc_put_result pr;

    check_hash(m, 0, 1084519789);
    put(m, "a", "1");
    put(m, "b", "2");
    put(m, "a", "3");
    ops[0].u.put.value = STR("4");
    CHECK(mvcc_txn(m, &t, NULL, &tr) == 0); /* 5 */
    mvcc_txn_release(&tr);
    check_hash(m, 0, 404820899);
    check_hash(m, 3, 1827592406);
    CHECK(mvcc_put(m, &p, NULL, &pr) == 0);
    mvcc_put_release(&pr);
    CHECK(del(m, "c", STR("e")) == 2); /* 7 */
    put(m, "c", "6");
    put(m, "b", "7"); /* 9 */
}

static void test_hash(void)
{
    static const uint32_t uncompacted[] = {2587454935, 1827592406, 2069675932,
                                           404820899,  2699020397, 2535962154,
                                           1648098601, 235850420};
    struct mvcc *m = mvcc_new();
    struct mvcc_hash h;

    hash_history(m);
    for (int i = 0; i < 8; i++)
        check_hash(m, 2 + i, uncompacted[i]);
    CHECK(mvcc_hash_open(m, 10, &h) == MVCC_FUTURE_REV);
    compact(m, 5);
    CHECK(mvcc_hash_open(m, 4, &h) == MVCC_COMPACTED);
    check_hash(m, 6, 79492084);
    check_hash(m, 7, 2200552005);
    check_hash(m, 8, 1902252549);
    check_hash(m, 9, 2244199623);
    compact(m, 7);
    check_hash(m, 8, 3725107870);
    check_hash(m, 9, 4142997028);
    mvcc_free(m);
}

/* When nothing is alive, all that is left counts. */
static void test_hash_of_nothing(void)
{
    struct mvcc *m = mvcc_new();
    struct mvcc_delete_range all = {END, END, false};
    struct mvcc_delete_result r;

    hash_history(m);
    compact(m, 5);
    compact(m, 7);
    mvcc_delete_range(m, &all, &r);
    CHECK(r.deleted == 4 && r.revision == 10);
    mvcc_delete_release(&r);
    check_hash(m, 0, 4175183915);
    check_hash(m, 9, 4142997028);
    compact(m, 9);
    check_hash(m, 0, 4175183915);
    compact(m, 10);
    check_hash(m, 0, 1084519789);
    CHECK(mvcc_stats(m).n_versions == 4); /* for who watches from 10 */
    put(m, "z", "1");
    check_hash(m, 0, 974378710);
    compact(m, 11);
    CHECK(mvcc_stats(m).n_versions == 1);
    mvcc_check(m);
    mvcc_free(m);
}

/* --- Compaction, pins, restoring. ---------------------------------------------------- */

static void test_compaction_errors(void)
{
    struct mvcc *m = mvcc_new();

    CHECK(mvcc_compact(m, -5) == MVCC_COMPACTED);
    CHECK(mvcc_compact(m, 2) == MVCC_FUTURE_REV);
    CHECK(mvcc_compact(m, 0) == 0); /* as on a fresh etcd */
    CHECK(mvcc_compact(m, 1) == 0);
    CHECK(mvcc_compact(m, 1) == MVCC_COMPACTED);
    CHECK(!mvcc_compact_step(m, 1) && mvcc_compact_finished(m) == 1);
    mvcc_free(m);
}

static void test_pin_holds_versions(void)
{
    struct mvcc *m = mvcc_new();
    struct mvcc_range q = {.key = STR("a")};
    struct mvcc_read read;
    struct mvcc_kv *kv;

    put(m, "a", "old");
    CHECK(mvcc_read_open(m, &q, &read) == 0);
    for (int i = 0; i < 9; i++)
        put(m, "a", "new");
    del(m, "a", STR(""));
    put(m, "b", "other");
    CHECK(mvcc_compact(m, 12) == 0);
    while (mvcc_compact_step(m, 1))
        continue;
    CHECK(mvcc_compact_finished(m) == 2);
    q.revision = 2;
    CHECK_STR(show(m, &q), "-7"); /* for others it is in effect */
    CHECK(mvcc_read_next(&read, &kv, 1) == 1);
    CHECK(str_eqz(mvcc_value(kv), "old"));
    mvcc_read_close(&read);
    while (mvcc_compact_step(m, 1))
        continue;
    CHECK(mvcc_compact_finished(m) == 12);
    CHECK(mvcc_stats(m).n_versions == 2);  /* b, and the tombstone at 12 */
    CHECK(str_eqz(mvcc_value(kv), "old")); /* the reference holds it */
    mvcc_unref(kv);
    mvcc_check(m);
    mvcc_free(m);
}

/* A pass that was cut off by a crash is taken up again. */
static void test_resumed_compaction(void)
{
    struct mvcc *m = mvcc_new(), *again = mvcc_new();
    struct mvcc_cursor c = {0, 0};
    struct mvcc_kv *kv;

    for (int i = 0; i < 20; i++)
        put(m, i % 2 ? "a" : "b", "v");
    CHECK(mvcc_compact(m, 20) == 0);
    CHECK(mvcc_compact_step(m, 7));
    while (mvcc_log_peek(m, &c, 21, &kv, 1) == 1) {
        struct mvcc_record r = {.key = mvcc_key(kv),
                                .value = mvcc_value(kv),
                                .main = kv->mod_revision,
                                .create_revision = kv->create_revision,
                                .version = kv->version};

        CHECK(mvcc_restore(again, &r) == 0);
    }
    mvcc_restore_end(again, -1, 20);
    CHECK(mvcc_compacted(again) == 20 && mvcc_revision(again) == 21);
    while (mvcc_compact_step(again, 4))
        continue;
    CHECK(mvcc_stats(again).n_versions == 3);
    mvcc_check(again);
    mvcc_free(again);
    mvcc_free(m);
}

/*
 * Keys of every shape, in random order and several versions each: long common
 * beginnings, one within the other, zero bytes at the end.
 */
static size_t make_odd_key(char *key, unsigned i)
{
    static const char *const bases[] = {"", "/registry/pods/default/", "q"};
    unsigned kind = i % 5, x = i * 2654435761u >> 16;
    size_t n;

    if (kind == 3) { /* only a's, or only zeros */
        memset(key, x % 2 ? 'a' : '\0', 600);
        return 1 + x % 600;
    }
    if (kind == 4) { /* hundreds of bytes in common, in many ways */
        memset(key, 'z', 600);
        key[x % 600] = 'y';
        return 600;
    }
    n = (size_t)snprintf(key, 600, "%s%x", bases[kind], x % 3000);
    memset(key + n, '\0', 10);
    return n + (x % 16 == 0 ? x / 16 % 10 : 0);
}

static void test_restore_sorts(void)
{
    struct mvcc *m = mvcc_new(), *again = mvcc_new();
    struct mvcc_put_result put;
    struct mvcc_record r = {.version = 1, .value = STR("v")};
    char key[700];

    for (unsigned i = 0; i < 20000; i++) {
        struct mvcc_put p = {.key = {key, make_odd_key(key, i)}};

        CHECK(mvcc_put(m, &p, NULL, &put) == 0);
        mvcc_put_release(&put);
        r.key = p.key;
        r.main = mvcc_revision(m);
        r.tombstone = i % 7 == 0;
        if (mvcc_restore(again, &r) < 0)
            CHECK(!"in order");
    }
    mvcc_restore_end(again, -1, -1);
    mvcc_check(again);
    CHECK(mvcc_stats(again).n_versions == 20000);
    CHECK(mvcc_revision(again) == mvcc_revision(m));
    for (unsigned i = 0; i < 20000; i++) {
        struct mvcc_range q = {.key = {key, make_odd_key(key, i)}};
        struct mvcc_range_result a, b;

        q.revision = 2 + (int64_t)i;
        CHECK(mvcc_range(m, &q, &a) == 0 && mvcc_range(again, &q, &b) == 0);
        CHECK(a.n == 1 && b.n == (i % 7 != 0));
        CHECK(b.n == 0 || b.kvs[0]->mod_revision == q.revision);
        mvcc_range_release(&a);
        mvcc_range_release(&b);
    }
    mvcc_free(m);
    mvcc_free(again);
}

/* As etcdutl raises a revision; and what is given up half-way. */
static void test_restore_empty_record(void)
{
    struct mvcc *m = mvcc_new();
    struct mvcc_record a = {.key = STR("a"), .main = 2, .version = 1};
    struct mvcc_record empty = {.main = 1000};

    CHECK(mvcc_restore(m, &a) == 0);
    CHECK(mvcc_restore(m, &empty) == 0);
    a.main = 999;
    CHECK(mvcc_restore(m, &a) == MVCC_CORRUPT);
    a.main = 1001;
    CHECK(mvcc_restore(m, &a) == 0);
    mvcc_free(m);

    m = mvcc_new();
    CHECK(mvcc_restore(m, &empty) == 0);
    mvcc_restore_end(m, -1, -1);
    CHECK(mvcc_revision(m) == 1000 && mvcc_stats(m).n_versions == 0);
    mvcc_check(m);
    mvcc_free(m);
}

static void test_bad_records(void)
{
    const struct mvcc_record bad[] = {
        {.main = 3, .version = 1},
        {.key = STR("k"), .main = 0, .version = 1},
        {.key = STR("k"), .main = 3, .sub = -1, .version = 1},
        {.key = STR("k"), .main = 3, .version = 0},
        {.key = STR("k"), .main = 1, .version = 1},
    };
    struct mvcc *m = mvcc_new();
    struct mvcc_record first = {.key = STR("a"), .main = 2, .version = 1};

    CHECK(mvcc_restore(m, &first) == 0);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        CHECK(mvcc_restore(m, &bad[i]) == MVCC_CORRUPT);
    mvcc_free(m);
}

static void count_visit(void *arg, struct mvcc_kv *kv, struct mvcc_kv *prev)
{
    int64_t *sum = arg;

    sum[0]++;
    sum[1] += kv->lease;
    sum[2] += prev ? prev->lease : 0;
}

/* The revocation of a lease: several deletions, one revision. */
static void test_joined_operations(void)
{
    struct mvcc *m = mvcc_new();
    struct mvcc_put p = {.key = STR("a"), .lease = 7};
    struct mvcc_put_result r;
    int64_t sum[3] = {0, 0, 0};

    CHECK(mvcc_put(m, &p, NULL, &r) == 0);
    p.key = STR("b");
    CHECK(mvcc_put(m, &p, NULL, &r) == 0);
    mvcc_begin(m);
    CHECK(del(m, "x", STR("")) == 0);
    CHECK(del(m, "a", STR("")) == 1);
    CHECK(del(m, "a", STR("")) == 0);
    CHECK(del(m, "b", STR("")) == 1);
    CHECK(mvcc_end(m) == 4);
    mvcc_changes(m, 4, count_visit, sum);
    CHECK(sum[0] == 2 && sum[1] == 0 && sum[2] == 14);
    mvcc_begin(m);
    CHECK(mvcc_end(m) == 4);
    mvcc_free(m);
}

/* --- Counting at an earlier revision. ------------------------------------------ */

static const char *numbered(unsigned i, const char *more)
{
    static char key[32];

    snprintf(key, sizeof(key), "k%05u%s", i, more);
    return key;
}

/* What changes the count, and what does not: more than a step looks at. */
static void change_many(struct mvcc *m)
{
    CHECK(del(m, "k03000", STR("k04000")) == 1000);
    for (unsigned i = 0; i < 500; i++) {
        put(m, numbered(2500 + i, "x"), "new");
        put(m, numbered(4500 + i, ""), "again");
        del(m, numbered(5000 + i, ""), STR(""));
        put(m, numbered(5000 + i, ""), "back");
        put(m, numbered(3000 + i, ""), "back, for a while");
    }
    CHECK(del(m, "k03000", STR("k03500")) == 500);
    CHECK(del(m, "k06990", STR("k07010")) == 20);
}

/* The steps of a read; writes and compaction go on between them. */
static unsigned read_among_writes(struct mvcc *m, const struct mvcc_range *q)
{
    struct mvcc_read r;
    struct mvcc_kv *kvs[64];
    unsigned steps = 0, seen = 0;

    CHECK(mvcc_read_open(m, q, &r) == 0);
    for (; !r.done; steps++) {
        size_t n;

        put(m, numbered(2000 + steps, "y"), "");
        del(m, numbered(2100 + steps, ""), STR(""));
        mvcc_compact(m, mvcc_revision(m));
        mvcc_compact_step(m, 1000);
        n = mvcc_read_next(&r, kvs, ARRAY_LEN(kvs));
        for (size_t i = 0; i < n; i++) {
            CHECK(str_eqz(mvcc_key(kvs[i]), numbered(2000 + seen++, "")));
            mvcc_unref(kvs[i]);
        }
    }
    CHECK(seen == (q->count_only ? 0 : q->limit));
    CHECK(r.count == 5000);
    CHECK(r.more == !q->count_only);
    mvcc_read_close(&r);
    return steps;
}

static void test_count_at_revision(void)
{
    struct mvcc_range q = {.key = STR("k02000"), .range_end = STR("k07000")};

    for (int limit = 0; limit <= 100; limit += 100) {
        struct mvcc *m = mvcc_new();
        unsigned steps;

        for (unsigned i = 0; i < 10000; i++)
            q.revision = put(m, numbered(i, ""), "old");
        change_many(m);
        q.limit = limit;
        q.count_only = limit == 0;
        steps = read_among_writes(m, &q);
        /* of some 4,500 versions; not along 5,000 keys and as many tombstones */
        CHECK(steps == (limit == 0 ? 3 : 4));
        mvcc_free(m);
    }
}

/* --- Benchmark. ------------------------------------------------------------------------ */

static double now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); /* others are busy, too */
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double rss_mb(void)
{
    long size = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");

    if (f && fscanf(f, "%ld %ld", &size, &resident) != 2)
        resident = 0;
    if (f)
        fclose(f);
    return (double)resident * (double)sysconf(_SC_PAGESIZE) / (1 << 20);
}

static struct str bench_key(unsigned i, char out[64], bool in_order)
{
    uint64_t x = in_order ? i : (uint64_t)i * 0x9e3779b97f4a7c15;

    snprintf(out, 64, "/registry/pods/%017" PRIu64, x % 100000000000000000);
    return (struct str){out, 32};
}

static double since(const char *what, double start, unsigned n)
{
    printf("%-34s %10.0f ns/op\n", what, (now_ns() - start) / n);
    return now_ns();
}

/* From so many keys all over. */
static void read_many(struct mvcc *m, struct mvcc_range q, unsigned n,
                      unsigned times)
{
    struct mvcc_range_result r;
    char key[64];

    for (unsigned i = 0; i < times; i++) {
        q.key = bench_key(i * 7919 % n, key, false);
        CHECK(mvcc_range(m, &q, &r) == 0);
        mvcc_range_release(&r);
    }
}

static void bench_reads(struct mvcc *m, unsigned n)
{
    struct mvcc_range q = {.range_end = END, .count_only = true};
    double t = now_ns();

    q.range_end = STR("");
    q.count_only = false;
    read_many(m, q, n, 200000);
    t = since("get", t, 200000);
    q.range_end = END;
    q.limit = 10;
    read_many(m, q, n, 200000);
    t = since("range, limit 10, count and more", t, 200000);
    q.order = MVCC_DESCEND;
    read_many(m, q, n, 200000);
    t = since("range, limit 10, descending", t, 200000);
    q.order = MVCC_NONE;
    q.limit = 0;
    q.count_only = true;
    read_many(m, q, n, 200000);
    since("count_only", t, 200000);
}

static void bench_look_back(struct mvcc *m, unsigned n)
{
    struct mvcc_range q = {
        .range_end = END, .limit = 10, .revision = mvcc_revision(m)};
    double t;

    for (unsigned i = 0; i < 1000; i++)
        put(m, "one key", "");
    t = now_ns();
    read_many(m, q, n, 1000);
    since("range, limit 10, 1,000 writes ago", t, 1000);
}

static void bench_all(struct mvcc *m, unsigned n)
{
    struct mvcc_range q = {.key = END, .range_end = END};
    struct mvcc_read read;
    struct mvcc_kv *kvs[1000];
    double t = now_ns(), before = rss_mb(), longest = 0;
    size_t seen = 0, got;

    mvcc_read_open(m, &q, &read);
    while (!read.done) {
        double step = now_ns();

        got = mvcc_read_next(&read, kvs, ARRAY_LEN(kvs));
        step = now_ns() - step;
        longest = step > longest ? step : longest;
        for (size_t i = 0; i < got; i++)
            mvcc_unref(kvs[i]);
        seen += got;
    }
    mvcc_read_close(&read);
    CHECK(seen == n);
    since("all keys in steps, per key", t, n);
    printf("%-34s %10.0f us, %+.1f MB\n", "  longest step, memory",
           longest / 1000, rss_mb() - before);
}

/* Clients who read everything at the same time, each at its own pace. */
static void bench_many(struct mvcc *m, unsigned n)
{
    struct mvcc_range q = {.key = END, .range_end = END};
    struct mvcc_read *reads = xcalloc(50, sizeof(*reads));
    struct mvcc_kv *kvs[1000];
    double before = rss_mb(), most = before, now;
    uint64_t bytes = 0;
    unsigned open = 50;
    size_t got;

    for (unsigned i = 0; i < 50; i++)
        CHECK(mvcc_read_open(m, &q, &reads[i]) == 0);
    while (open > 0) {
        for (unsigned i = 0; i < 50; i++) {
            if (reads[i].done)
                continue;
            got = mvcc_read_next(&reads[i], kvs, ARRAY_LEN(kvs));
            for (size_t j = 0; j < got; j++) {
                bytes += kvs[j]->value_len;
                mvcc_unref(kvs[j]);
            }
            open -= reads[i].done;
        }
        now = rss_mb();
        most = now > most ? now : most;
    }
    for (unsigned i = 0; i < 50; i++)
        mvcc_read_close(&reads[i]);
    free(reads);
    printf("50 readers of all %u keys at once: %.1f GB of values, %+.1f MB\n",
           n, (double)bytes / 1e9, most - before);
}

static void bench_hash(struct mvcc *m, unsigned n)
{
    double t = now_ns();
    struct mvcc_hash h;

    mvcc_hash_open(m, 0, &h);
    while (!h.done)
        mvcc_hash_step(&h, 1000);
    mvcc_hash_close(&h);
    since("hash, per version", t, n);
}

static void put_many(struct mvcc *m, unsigned n, unsigned n_keys, unsigned hop,
                     bool in_order)
{
    static char value[256];
    struct mvcc_put p = {.value = {value, sizeof(value)}};
    struct mvcc_put_result r;
    char key[64];

    for (unsigned i = 0; i < n; i++) {
        p.key = bench_key(i * hop % n_keys, key, in_order);
        CHECK(mvcc_put(m, &p, NULL, &r) == 0);
    }
}

static void bench_compaction(struct mvcc *m, unsigned n)
{
    double t = now_ns(), longest = 0;
    unsigned steps = 0;

    put_many(m, 200000, n, 7919, false);
    t = since("put, present", t, 200000);
    CHECK(mvcc_compact(m, mvcc_revision(m)) == 0);
    for (bool more = true; more; steps++) {
        double step = now_ns();

        more = mvcc_compact_step(m, 1000);
        step = now_ns() - step;
        longest = step > longest ? step : longest;
    }
    since("compaction, per version passed", t, n + 200000);
    printf("%-34s %10.0f us of %u\n", "  longest step of 1000", longest / 1000,
           steps);
    CHECK(mvcc_stats(m).n_versions == n);
}

static void bench(unsigned n, bool in_order)
{
    struct mvcc *m = mvcc_new();
    double before = rss_mb(), t = now_ns(), used;

    printf("%u keys of 32 + 256 bytes, %s\n", n,
           in_order ? "in order" : "at random");
    put_many(m, n, n, 1, in_order);
    since("put, new", t, n);
    used = rss_mb() - before;
    printf("%-34s %10.0f MB, overhead %.1f bytes a key\n", "memory", used,
           used * (1 << 20) / n - 288);
    if (!in_order) {
        bench_reads(m, n);
        bench_all(m, n);
        bench_many(m, n);
        bench_compaction(m, n);
        bench_hash(m, n);
        bench_look_back(m, n);
    }
    mvcc_free(m);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "bench") == 0) {
        unsigned n = argc > 2 ? (unsigned)atoi(argv[2]) : 1000000;

        bench(n, true);
        bench(n, false);
        return check_failed ? 1 : 0;
    }
    test_ranges();
    test_single_checks();
    test_txn_shape();
    test_duplicate_keys();
    test_late_errors();
    test_hash();
    test_hash_of_nothing();
    test_compaction_errors();
    test_pin_holds_versions();
    test_resumed_compaction();
    test_restore_sorts();
    test_restore_empty_record();
    test_bad_records();
    test_joined_operations();
    test_count_at_revision();
    return check_done("mvcc_test");
}
