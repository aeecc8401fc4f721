/*
 * backend_test.c - the v3 state in a file and back: keys with their history,
 * while compaction is under way, or the file is appended to; all other buckets;
 * what etcd's versions leave out or add; what is damaged.
 */
#include "backend.h"

#include "files.h"
#include "hash.h"
#include "sys.h"
#include "v3.h"

#include <inttypes.h>
#include <sys/stat.h>

/* --- A state. ------------------------------------------------------------------ */

static void put(struct mvcc *m, const char *key, const char *value,
                int64_t lease)
{
    struct mvcc_put p = {
        .key = str_of(key), .value = str_of(value), .lease = lease};
    struct mvcc_put_result r;

    CHECK(mvcc_put(m, &p, NULL, &r) == 0);
    mvcc_put_release(&r);
}

static void del(struct mvcc *m, const char *key, const char *end)
{
    struct mvcc_delete_range d = {.key = str_of(key), .range_end = str_of(end)};
    struct mvcc_delete_result r;

    mvcc_delete_range(m, &d, &r);
    mvcc_delete_release(&r);
}

/* 2000 keys, some of them changed, deleted, and in one transaction. */
static struct mvcc *some_keys(void)
{
    struct mvcc *m = mvcc_new();
    char key[32], value[32];

    for (unsigned i = 0; i < 3000; i++) {
        snprintf(key, sizeof(key), "key/%u", i * 7919 % 2000);
        snprintf(value, sizeof(value), "value %u", i);
        put(m, key, value, i % 3 ? 0 : 7);
    }
    del(m, "key/10", "key/12");
    put(m, "key/11", "again", 0);
    return m;
}

static struct backend_image image_of(const struct mvcc *m)
{
    struct backend_image im = {.last = mvcc_revision(m)};
    struct backend_meta meta = {
        .consistent_index = 17,
        .finished = mvcc_compact_finished(m),
        .scheduled = mvcc_compacted(m),
    };

    backend_set_meta(&im, &meta);
    backend_add_lease(&im, 0x7000000000000001, 60, 0);
    backend_add_lease(&im, 7, 3600, 1200);
    backend_add_alarm(&im, 0x8e9e05c52164694d, 1);
    backend_set_auth(&im, 1, 3);
    backend_add(&im, BACKEND_AUTH_USERS, STR("root"), STR("old"));
    backend_add(&im, BACKEND_AUTH_ROLES, STR("root"), STR("\n\4root"));
    backend_add(&im, BACKEND_AUTH_USERS, STR("alice"), STR("\n\5alice"));
    backend_add(&im, BACKEND_AUTH_USERS, STR("root"), STR("\n\4root"));
    backend_add_member(&im, 0x8e9e05c52164694d, STR("{\"id\":1}"));
    backend_add_removed(&im, 0xabc);
    backend_set_cluster_version(&im, STR("3.4.0"));
    return im;
}

static size_t next_versions(void *arg, struct mvcc_cursor *c, int64_t last,
                            struct mvcc_kv **kvs, size_t max)
{
    return mvcc_log_next(arg, c, last, kvs, max);
}

static struct backend_source source_of(const struct backend_image *im,
                                       struct mvcc *m)
{
    return (struct backend_source){im, next_versions, m};
}

static int buf_sink(void *arg, const void *p, size_t n)
{
    buf_add(arg, p, n);
    return 0;
}

static struct buf written(const struct backend_source *src)
{
    struct buf b = {0};
    struct bolt_plan plan;

    backend_measure(src, &plan);
    CHECK(backend_write(src, &plan, buf_sink, &b, NULL) == 0);
    CHECK(b.len == plan.n_pages * BOLT_PAGE_BYTES);
    return b;
}

/* --- Read back. -------------------------------------------------------------------- */

/* A line for each item, "bucket key value", in hex where it is binary. */
static int list_items(void *arg, enum backend_bucket b, struct str key,
                      struct str value, struct err *e)
{
    struct backend_lease lease;
    struct buf *out = arg;
    uint64_t member;
    int alarm;

    (void)e;
    buf_adds(out, backend_bucket_name(b));
    if (b == BACKEND_LEASE && backend_decode_lease(key, value, &lease))
        buf_printf(out, " %llx %lld %lld", (unsigned long long)lease.id,
                   (long long)lease.ttl, (long long)lease.remaining_ttl);
    else if (b == BACKEND_ALARM && backend_decode_alarm(key, &member, &alarm))
        buf_printf(out, " %llx %d", (unsigned long long)member, alarm);
    else
        buf_printf(out, " %.*s %u", STR_FMT(key), (unsigned)value.n);
    buf_addc(out, '\n');
    return 0;
}

static int load_buf(const struct buf *file, struct mvcc *m, struct buf *items,
                    struct backend_meta *meta, struct err *e)
{
    struct bolt *b = NULL;
    int rc = bolt_open_bytes(buf_str(file), "test.db", &b, e);

    if (rc == 0)
        rc = backend_load_bolt(b, m, items ? list_items : NULL, items, meta, e);
    bolt_close(b);
    return rc;
}

static void check_same_log(const struct mvcc *a, const struct mvcc *b)
{
    struct mvcc_cursor ca = {0, 0}, cb = {0, 0};
    struct mvcc_kv *x, *y;
    bool same = true;

    while (mvcc_log_peek(a, &ca, INT64_MAX, &x, 1)) {
        same = same && mvcc_log_peek(b, &cb, INT64_MAX, &y, 1);
        same = same && x->mod_revision == y->mod_revision && x->sub == y->sub &&
               x->version == y->version && x->lease == y->lease &&
               x->create_revision == y->create_revision &&
               str_eq(mvcc_key(x), mvcc_key(y)) &&
               str_eq(mvcc_value(x), mvcc_value(y));
    }
    CHECK(same && !mvcc_log_peek(b, &cb, INT64_MAX, &y, 1));
    CHECK(mvcc_revision(a) == mvcc_revision(b));
    CHECK(mvcc_compacted(a) == mvcc_compacted(b));
    CHECK(mvcc_compact_finished(a) == mvcc_compact_finished(b));
}

static void check_round_trip(struct mvcc *m)
{
    struct backend_image im = image_of(m);
    struct backend_source src = source_of(&im, m), again;
    struct buf file = written(&src), items = {0}, copy_file;
    struct mvcc *copy = mvcc_new();
    struct backend_meta meta;

    CHECK(load_buf(&file, copy, &items, &meta, NULL) == 0);
    mvcc_check(copy);
    check_same_log(m, copy);
    CHECK(meta.consistent_index == 17 && meta.term == 0);
    CHECK_STR(buf_z(&items), "alarm 8e9e05c52164694d 1\n"
                             "auth authEnabled 1\n"
                             "auth authRevision 8\n"
                             "authRoles root 6\n"
                             "authUsers alice 7\n"
                             "authUsers root 6\n"
                             "cluster clusterVersion 5\n"
                             "lease 7 3600 1200\n"
                             "lease 7000000000000001 60 0\n"
                             "members 8e9e05c52164694d 8\n"
                             "members_removed abc 7\n");
    again = source_of(&im, copy);
    copy_file = written(&again);
    CHECK(str_eq(buf_str(&file), buf_str(&copy_file)));
    CHECK(backend_hash(&src) == backend_hash(&again));
    buf_release(&file);
    buf_release(&copy_file);
    buf_release(&items);
    backend_image_release(&im);
    mvcc_free(copy);
}

static void test_round_trips(void)
{
    struct mvcc *empty = mvcc_new(), *m = some_keys();

    check_round_trip(empty);
    check_round_trip(m);
    CHECK(mvcc_compact(m, 2500) == 0);
    check_round_trip(m);
    CHECK(mvcc_compact_step(m, 700)); /* half-way */
    check_round_trip(m);
    while (mvcc_compact_step(m, 700))
        continue;
    check_round_trip(m);
    CHECK(mvcc_compact(m, mvcc_revision(m)) == 0);
    while (mvcc_compact_step(m, 700))
        continue;
    check_round_trip(m);
    mvcc_free(empty);
    mvcc_free(m);
}

/* Compaction goes on between the passes, as far as the pin lets it. */
static void test_pinned(void)
{
    struct mvcc *m = some_keys();
    struct backend_image im;
    struct backend_source src;
    struct bolt_plan plan;
    struct mvcc_pin pin;
    struct buf b = {0};

    CHECK(mvcc_compact(m, 1000) == 0);
    CHECK(mvcc_compact_step(m, 300));
    mvcc_pin(m, &pin, mvcc_compact_finished(m));
    im = image_of(m);
    src = source_of(&im, m);
    backend_measure(&src, &plan);
    CHECK(mvcc_compact(m, 2900) == 0);
    CHECK(!mvcc_compact_step(m, 100000));
    put(m, "key/1", "later", 0);
    CHECK(backend_write(&src, &plan, buf_sink, &b, NULL) == 0);
    mvcc_unpin(m, &pin);
    CHECK(!mvcc_compact_step(m, 100000));
    CHECK(mvcc_compact_finished(m) == 2900);
    buf_release(&b);
    backend_image_release(&im);
    mvcc_free(m);
}

static void test_changed_between_passes(void)
{
    struct mvcc *m = some_keys();
    struct backend_image im = image_of(m);
    struct backend_source src = source_of(&im, m);
    struct bolt_plan plan;
    struct buf b = {0};
    struct err e = {0};

    backend_measure(&src, &plan);
    CHECK(mvcc_compact(m, 2900) == 0);
    CHECK(!mvcc_compact_step(m, 100000));
    CHECK(backend_write(&src, &plan, buf_sink, &b, &e) == BOLT_EFORMAT);
    CHECK(strstr(e.msg, "changed"));
    buf_release(&b);
    backend_image_release(&im);
    mvcc_free(m);
}

/* --- Files. ---------------------------------------------------------------------------- */

static void test_save(void)
{
    struct mvcc *m = some_keys(), *copy = mvcc_new();
    struct backend_image im = image_of(m);
    struct backend_source src = source_of(&im, m);
    char *path = in_dir("db"), *lost = in_dir("none/db");
    struct buf want = written(&src), got;
    struct backend_meta meta;
    uint64_t bytes = 0;
    struct err e = {0};

    CHECK(backend_save(lost, &src, true, NULL, &e) == BOLT_EIO);
    CHECK(strstr(e.msg, "none/db.tmp"));
    CHECK(backend_save(path, &src, false, &bytes, &e) == 0);
    got = read_file("db");
    CHECK(str_eq(buf_str(&got), buf_str(&want)) && bytes == got.len);
    CHECK(!exists("db.tmp"));
    CHECK(backend_load(path, copy, NULL, NULL, &meta, &e) == 0);
    check_same_log(m, copy);
    CHECK(backend_load(lost, copy, NULL, NULL, &meta, &e) == BOLT_EIO);
    free(path);
    free(lost);
    buf_release(&want);
    buf_release(&got);
    backend_image_release(&im);
    mvcc_free(copy);
    mvcc_free(m);
}

static ino_t inode_of(const char *path)
{
    struct stat st;

    CHECK(stat(path, &st) == 0);
    return st.st_ino;
}

/* Save m and find it again. Was the file appended to? */
static bool update(struct backend_file **file, struct mvcc *m)
{
    struct mvcc *copy = mvcc_new();
    struct backend_image im = image_of(m);
    struct backend_source src = source_of(&im, m);
    char *path = in_dir("db");
    bool goes_on = backend_file_goes_on(*file, mvcc_compact_finished(m));
    ino_t before = goes_on ? inode_of(path) : 0;
    struct backend_meta meta;
    struct buf got;
    uint64_t bytes = 0;

    CHECK(backend_update(file, path, &src, false, &bytes, NULL) == 0);
    got = read_file("db");
    CHECK(bytes == got.len);
    CHECK(backend_load(path, copy, NULL, NULL, &meta, NULL) == 0);
    mvcc_check(copy);
    check_same_log(m, copy);
    CHECK(!goes_on || inode_of(path) == before);
    CHECK(!exists("db.tmp"));
    free(path);
    buf_release(&got);
    backend_image_release(&im);
    mvcc_free(copy);
    return goes_on;
}

static void test_update(void)
{
    struct mvcc *m = some_keys(), *empty = mvcc_new();
    struct backend_file *file = NULL;
    char key[32];

    CHECK(!update(&file, empty));
    put(empty, "first", "x", 0);
    CHECK(update(&file, empty));
    backend_file_close(file);
    file = NULL;

    CHECK(!update(&file, m));
    CHECK(update(&file, m)); /* nothing new */
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(key, sizeof(key), "key/%u", i * 31);
        put(m, key, "new", i % 2);
        if (i % 100 == 0)
            CHECK(update(&file, m));
    }
    del(m, "key/20", "key/30");
    CHECK(update(&file, m));
    CHECK(mvcc_compact(m, 2500) == 0); /* nothing is gone yet */
    CHECK(update(&file, m));
    while (mvcc_compact_step(m, 700))
        continue;
    CHECK(!update(&file, m));
    put(m, "key/again", "x", 0);
    CHECK(update(&file, m));
    backend_file_close(file);
    mvcc_free(empty);
    mvcc_free(m);
}

/* --- Read while it is appended to. ---------------------------------------------- */

#define BESIDE_NS (500 * NS_PER_MS)

static uint64_t is_over, n_saved; /* atomic */

/* As a server's checkpoints do: applied index i stands for i keys. */
static void *append_all_the_time(void *path)
{
    struct backend_file *file = NULL;
    struct mvcc *m = mvcc_new();
    char key[32];

    for (uint64_t i = 1; !sys_u64_load(&is_over); i++) {
        struct backend_image im = {0};
        struct backend_source src = source_of(&im, m);
        struct backend_meta meta = {
            .consistent_index = i, .finished = -1, .scheduled = -1};
        struct mvcc_put p = {.key = {key, sizeof(key)},
                             .value = STR("so long that pages become full")};
        struct mvcc_put_result r;

        snprintf(key, sizeof(key), "key/%026" PRIu64, i);
        if (mvcc_put(m, &p, NULL, &r) != 0)
            abort();
        mvcc_put_release(&r);
        backend_set_meta(&im, &meta);
        im.last = mvcc_revision(m);
        if (backend_update(&file, path, &src, true, NULL, NULL) != 0)
            abort();
        backend_image_release(&im);
        sys_u64_store(&n_saved, i);
    }
    backend_file_close(file);
    mvcc_free(m);
    return NULL;
}

static void check_whole(const char *path, uint64_t index_min)
{
    struct backend_meta meta = {0};
    struct mvcc *m = mvcc_new();

    CHECK(backend_load(path, m, NULL, NULL, &meta, NULL) == 0);
    CHECK(mvcc_revision(m) == (int64_t)meta.consistent_index + 1);
    CHECK(meta.consistent_index >= index_min);
    mvcc_free(m);
}

/* Whoever looks on (etcdctl recover status, a backup) finds a whole file. */
static void test_read_beside(void)
{
    int64_t end = sys_mono_ns() + BESIDE_NS;
    char *path = in_dir("db");
    pthread_t thread;

    CHECK(sys_thread(&thread, SYS_STACK_LARGE, append_all_the_time, path) == 0);
    while (sys_u64_load(&n_saved) == 0)
        sys_sleep_ms(1);
    for (unsigned i = 0; sys_mono_ns() < end; i++) {
        uint64_t before = sys_u64_load(&n_saved), index = 0;
        struct err e = {0};

        CHECK(v3_peek_index(path, &index, &e) == 0);
        CHECK_STR(e.msg, "");
        CHECK(index >= before && index <= sys_u64_load(&n_saved) + 1);
        if (i % 100 == 0)
            check_whole(path, index);
    }
    sys_u64_store(&is_over, 1);
    pthread_join(thread, NULL);
    free(path);
}

static void check_trailer(const char *path, enum backend_trailer want,
                          uint64_t want_bytes)
{
    enum backend_trailer got;
    uint64_t bytes = 0;

    CHECK(backend_check_trailer(path, &got, &bytes, NULL) == 0);
    CHECK(got == want && bytes == want_bytes);
}

static void test_trailer(void)
{
    struct mvcc *m = some_keys();
    struct backend_image im = image_of(m);
    struct backend_source src = source_of(&im, m);
    struct buf file = written(&src);
    size_t n = file.len;
    char *path = in_dir("snapshot");
    struct backend_status with, without;
    uint8_t sum[SHA256_SIZE];
    enum backend_trailer t;
    uint64_t bytes;

    write_file("snapshot", buf_str(&file));
    check_trailer(path, BACKEND_NO_TRAILER, n);
    CHECK(backend_status(path, &without, NULL) == 0);
    hash_once(HASH_SHA256, file.data, file.len, sum);
    buf_add(&file, sum, sizeof(sum));
    write_file("snapshot", buf_str(&file));
    check_trailer(path, BACKEND_TRAILER_OK, n);
    CHECK(backend_status(path, &with, NULL) == 0);
    CHECK(with.hash == without.hash && with.total_size == n);
    CHECK(with.revision == mvcc_revision(m));
    CHECK(with.total_keys == mvcc_stats(m).n_versions + 12);
    file.data[n / 2] ^= 1;
    write_file("snapshot", buf_str(&file));
    check_trailer(path, BACKEND_TRAILER_BAD, n);
    CHECK(backend_check_trailer("/none", &t, &bytes, NULL) == BOLT_EIO);
    free(path);
    buf_release(&file);
    backend_image_release(&im);
    mvcc_free(m);
}

/* --- What other versions leave. ---------------------------------------------------------- */

struct row {
    const char *bucket;
    struct str key, value; /* no key: the bucket alone */
};

static struct buf rows_file(const struct row *rows, size_t n)
{
    struct buf b = {0};
    struct bolt_writer *w = bolt_writer_new(buf_sink, &b, NULL);
    struct bolt_plan plan;

    for (size_t i = 0; i < n; i++) {
        if (i == 0 || strcmp(rows[i].bucket, rows[i - 1].bucket) != 0)
            CHECK(bolt_writer_bucket(w, str_of(rows[i].bucket)) == 0);
        if (rows[i].key.n)
            CHECK(bolt_writer_put(w, rows[i].key, rows[i].value) == 0);
    }
    CHECK(bolt_writer_end(w, &plan) == 0);
    bolt_writer_free(w);
    bolt_first_pages(&plan, b.data);
    return b;
}

#define REV(n) STR("\0\0\0\0\0\0\0" n "_\0\0\0\0\0\0\0\0")

/* As etcd 3.6 leaves it after a restore that raised the revision to 9. */
static void test_newer_file(void)
{
    const struct row rows[] = {
        {"key", REV("\2"), STR("\n\1k\20\2\30\2 \1*\1v")},
        {"key", REV("\11"), STR("")},
        {"meta", STR("confState"), STR("{\"voters\":[1]}")},
        {"meta", STR("consistent_index"), STR("\0\0\0\0\0\0\0\5")},
        {"meta", STR("storageVersion"), STR("3.6.0")},
        {"meta", STR("term"), STR("\0\0\0\0\0\0\0\3")},
        {"new_bucket", STR("what"), STR("ever")},
    };
    struct buf file = rows_file(rows, ARRAY_LEN(rows)), again;
    struct mvcc *m = mvcc_new(), *copy = mvcc_new();
    struct backend_meta meta;
    struct backend_image im;
    struct backend_source src;

    CHECK(load_buf(&file, m, NULL, &meta, NULL) == 0);
    CHECK(meta.consistent_index == 5 && meta.term == 3);
    CHECK(meta.finished == -1 && meta.scheduled == -1);
    CHECK(mvcc_revision(m) == 9 && mvcc_stats(m).n_keys == 1);
    im = image_of(m);
    src = source_of(&im, m);
    again = written(&src);
    CHECK(load_buf(&again, copy, NULL, &meta, NULL) == 0);
    CHECK(mvcc_revision(copy) == 9 && mvcc_stats(copy).n_versions == 1);
    buf_release(&file);
    buf_release(&again);
    backend_image_release(&im);
    mvcc_free(m);
    mvcc_free(copy);
}

static void test_bare_file(void)
{
    struct buf file = rows_file(NULL, 0);
    struct mvcc *m = mvcc_new();
    struct backend_meta meta;

    CHECK(load_buf(&file, m, NULL, &meta, NULL) == 0);
    CHECK(meta.consistent_index == 0 && mvcc_revision(m) == 1);
    buf_release(&file);
    mvcc_free(m);
}

static void test_optional_meta(void)
{
    struct mvcc *m = mvcc_new(), *copy = mvcc_new();
    struct backend_image im = {.last = 1};
    struct backend_source src = source_of(&im, m);
    struct backend_meta meta = {
        .consistent_index = 3,
        .finished = 0,
        .scheduled = 1,
        .term = 9,
        .conf_state = STR("{}"),
        .storage_version = STR("3.6.0"),
    };
    uint32_t hash;
    struct buf file;

    backend_set_meta(&im, &meta);
    file = written(&src);
    hash = backend_hash(&src);
    CHECK(load_buf(&file, copy, NULL, &meta, NULL) == 0);
    CHECK(meta.term == 9 && meta.finished == 0 && meta.scheduled == 1);
    /* not what each member has for itself */
    meta.consistent_index = 4;
    meta.term = 10;
    backend_set_meta(&im, &meta);
    CHECK(backend_hash(&src) == hash);
    meta.scheduled = 2;
    backend_set_meta(&im, &meta);
    CHECK(backend_hash(&src) != hash);
    buf_release(&file);
    backend_image_release(&im);
    mvcc_free(m);
    mvcc_free(copy);
}

/* --- Damage. -------------------------------------------------------------------------------- */

static void test_malformed(void)
{
    const struct row bad[] = {
        {"key", STR("short"), STR("")},
        {"key", STR("\0\0\0\0\0\0\0\2-\0\0\0\0\0\0\0\0"), STR("\n\1k\30\2 \1")},
        {"key", STR("\0\0\0\0\0\0\0\2_\0\0\0\0\0\0\0\0x"), STR("\n\1k")},
        {"key", STR("\377\0\0\0\0\0\0\2_\0\0\0\0\0\0\0\0"), STR("\n\1k")},
        {"key", STR("\0\0\0\0\0\0\0\2_\0\0\0\0\0\0\0\0t"), STR("")},
        {"key", REV("\2"), STR("\n\1k\30\3 \1")}, /* another revision */
        {"key", REV("\2"), STR("\n\1k\30\2")},    /* no version */
        {"key", REV("\2"), STR("\30\2 \1")},      /* no key */
        {"key", REV("\2"), STR("\n\5k")},         /* cut off */
        {"meta", STR("consistent_index"), STR("\1")},
        {"meta", STR("finishedCompactRev"), STR("\1")},
        {"meta", STR("scheduledCompactRev"), STR("")},
        {"meta", STR("scheduledCompactRev"),
         STR("\177\377\377\377\377\377\377\377_\0\0\0\0\0\0\0\0")},
        {"meta", STR("term"), STR("123456789")},
    };

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct buf file = rows_file(&bad[i], 1);
        struct mvcc *m = mvcc_new();
        struct backend_meta meta;
        struct err e = {0};

        CHECK(load_buf(&file, m, NULL, &meta, &e) == BOLT_EFORMAT);
        CHECK(strstr(e.msg, "test.db: page 3: ") && strstr(e.msg, "malformed"));
        buf_release(&file);
        mvcc_free(m);
    }
}

static void test_decoders(void)
{
    struct backend_lease l;
    uint64_t id;
    int alarm;

    CHECK(
        backend_decode_lease(STR("\0\0\0\0\0\0\0\7"), STR("\10\7\20\74"), &l));
    CHECK(l.id == 7 && l.ttl == 60 && l.remaining_ttl == 0);
    CHECK(!backend_decode_lease(STR("\0\0\0\0\0\0\0\7"), STR("\10\10"), &l));
    CHECK(!backend_decode_lease(STR("\7"), STR("\10\7\20\74"), &l));
    CHECK(!backend_decode_lease(STR("\0\0\0\0\0\0\0\7"), STR("\10"), &l));
    CHECK(backend_decode_alarm(STR("\10\5\20\1"), &id, &alarm));
    CHECK(id == 5 && alarm == 1);
    CHECK(!backend_decode_alarm(STR("\10"), &id, &alarm));
    CHECK(!backend_decode_alarm(STR("\20\377\377\377\377\377\377\1"), &id,
                                &alarm));
    CHECK(backend_decode_id(STR("8e9e05c52164694d"), &id));
    CHECK(id == 0x8e9e05c52164694d);
    CHECK(!backend_decode_id(STR("x"), &id));
}

static int refuse(void *arg, enum backend_bucket b, struct str key,
                  struct str value, struct err *e)
{
    (void)arg, (void)b, (void)key, (void)value;
    return err_set(e, -77, "no");
}

static void test_visitor_refuses(void)
{
    const struct row rows[] = {{"lease", STR("k"), STR("v")}};
    struct buf file = rows_file(rows, 1);
    struct mvcc *m = mvcc_new();
    struct backend_meta meta;
    struct bolt *b = NULL;
    struct err e = {0};

    CHECK(bolt_open_bytes(buf_str(&file), "test.db", &b, &e) == 0);
    CHECK(backend_load_bolt(b, m, refuse, NULL, &meta, &e) == -77);
    CHECK_STR(e.msg, "no");
    bolt_close(b);
    buf_release(&file);
    mvcc_free(m);
}

int main(void)
{
    void (*const tests[])(void) = {
        test_round_trips,
        test_pinned,
        test_changed_between_passes,
        test_save,
        test_update,
        test_read_beside,
        test_trailer,
        test_newer_file,
        test_bare_file,
        test_optional_meta,
        test_malformed,
        test_decoders,
        test_visitor_refuses,
    };

    run_in_fresh_folders(tests, ARRAY_LEN(tests), NULL);
    return check_done("backend_test");
}
