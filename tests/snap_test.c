/*
 * snap_test.c - snapshot files: bytes as etcd 3.4 wrote them, streaming, bad
 * files set aside, purging.
 */
#include "snap.h"

#include "crypto.h"
#include "metrics.h"
#include "pb.h"
#include "sys.h"
#include "wal.h"

#include "check.h"
#include "files.h"

#include <unistd.h>

static struct raft_snapshot meta_of(raft_index index, raft_term term)
{
    struct raft_snapshot s = {.index = index, .term = term};

    raft_ids_add(&s.conf_state.voters, UINT64_C(0xbdae9bbc11dd390d));
    return s;
}

static void save(raft_index index, raft_term term, struct str data)
{
    struct raft_snapshot s = meta_of(index, term);
    struct err e;

    CHECK(snap_save(dir, &s, snap_source_str, &data, true, &e) == 0);
    raft_snapshot_release(&s);
}

/* The layout that etcd 3.4 wrote for index 21, term 2, one voter. */
static void test_known_bytes(void)
{
    static const uint8_t inner[] =
        "\x0a\x02{}\x12\x13\x0a\x0d\x08\x8d\xf2\xf4\x8e\xc1\xf7\xa6\xd7\xbd"
        "\x01\x28\x00\x10\x15\x18\x02";
    size_t n = sizeof(inner) - 1;
    struct raft_snapshot s = meta_of(21, 2), back;
    struct buf b = {0}, file;
    struct pb_reader r;
    struct pb_field f;

    s.data = blob_new("{}", 2);
    snap_encode(&b, &s);
    CHECK(b.len > n && memcmp(b.data + b.len - n, inner, n) == 0);
    r = pb_reader(b.data, b.len);
    CHECK(pb_next(&r, &f) == 1);
    CHECK(f.number == 1 && f.u64 == crc32c(0, inner, n));
    CHECK(snap_decode(b.data, b.len, &back, NULL) == 0);
    CHECK(back.index == 21 && back.term == 2);
    CHECK(str_eqz(blob_str(back.data), "{}"));

    save(21, 2, STR("{}"));
    file = read_file("0000000000000002-0000000000000015.snap");
    CHECK(str_eq(buf_str(&b), buf_str(&file)));
    raft_snapshot_release(&back);
    raft_snapshot_release(&s);
    buf_release(&b);
    buf_release(&file);
}

/* A state of 200 KB in odd pieces is the same file as in one piece. */
static int odd_source(void *from, snap_sink *sink, void *arg)
{
    const struct str *s = from;
    size_t step = 1;

    for (size_t at = 0; at < s->n;) {
        size_t n = s->n - at < step ? s->n - at : step;

        if (sink(arg, s->p + at, n) != 0)
            return -1;
        at += n;
        step = step * 5 % 70001;
    }
    return 0;
}

static void test_streaming(void)
{
    char *big = xmalloc(200000);
    struct str data = {big, 200000};
    struct raft_snapshot s = meta_of(5, 1), back;
    struct buf want = {0}, got;
    char *note;

    for (size_t i = 0; i < data.n; i++)
        big[i] = (char)(i * 31 >> 3);
    s.data = blob_new(data.p, data.n);
    snap_encode(&want, &s);
    CHECK(snap_save(dir, &s, odd_source, &data, false, NULL) == 0);
    got = read_file("0000000000000001-0000000000000005.snap");
    CHECK(str_eq(buf_str(&want), buf_str(&got)));
    CHECK(snap_load_newest(dir, NULL, 0, &back, &note, NULL) == 0);
    CHECK(!note && str_eq(blob_str(back.data), data));
    raft_snapshot_release(&back);
    raft_snapshot_release(&s);
    buf_release(&want);
    buf_release(&got);
    free(big);
}

static unsigned long fsyncs_counted(void)
{
    static const char name[] = "\netcd_snap_fsync_duration_seconds_count ";
    struct metrics_page *page = metrics_page_new();
    struct buf b = {0};
    const char *at;
    unsigned long n;

    metrics_page_write(page, &b);
    at = strstr(buf_z(&b), name);
    CHECK(at != NULL);
    n = at ? strtoul(at + strlen(name), NULL, 10) : 0;
    buf_release(&b);
    metrics_page_free(page);
    return n;
}

/* Each sync of a file is measured, and nothing that is none. */
static void test_metrics(void)
{
    struct raft_snapshot s = meta_of(5, 1);
    struct str data = STR("x");
    unsigned long before = fsyncs_counted();

    CHECK(snap_save(dir, &s, snap_source_str, &data, true, NULL) == 0);
    CHECK(fsyncs_counted() == before);
    CHECK(snap_save(dir, &s, snap_source_str, &data, false, NULL) == 0);
    CHECK(fsyncs_counted() == before + 1);
    raft_snapshot_release(&s);
}

static int changing_source(void *from, snap_sink *sink, void *arg)
{
    int *calls = from;

    return sink(arg, ++*calls == 1 ? "one" : "two", 3);
}

static int failing_source(void *from, snap_sink *sink, void *arg)
{
    int *calls = from;

    return ++*calls == 2 ? -1 : sink(arg, "one", 3);
}

static int growing_source(void *from, snap_sink *sink, void *arg)
{
    int *calls = from;

    return sink(arg, "ones", ++*calls == 1 ? 3 : 4);
}

static void test_bad_source(void)
{
    snap_source *const bad[] = {changing_source, failing_source,
                                growing_source};

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct raft_snapshot s = meta_of(9, 1);
        struct err e = {0};
        int calls = 0;

        CHECK(snap_save(dir, &s, bad[i], &calls, true, &e) == SNAP_EIO);
        CHECK(calls == 2 && e.msg[0]);
        CHECK(!exists("0000000000000001-0000000000000009.snap"));
        CHECK(!exists("0000000000000001-0000000000000009.snap.tmp"));
        calls = 1; /* the first time already */
        if (bad[i] == failing_source)
            CHECK(snap_save(dir, &s, bad[i], &calls, true, &e) == SNAP_EIO);
        CHECK(!exists("0000000000000001-0000000000000009.snap.tmp"));
        raft_snapshot_release(&s);
    }
}

static void test_no_directory(void)
{
    struct raft_snapshot s = meta_of(1, 1), out;
    struct str data = STR("x");
    char *gone = in_dir("gone"), *note;
    struct err e = {0};

    CHECK(snap_save(gone, &s, snap_source_str, &data, true, &e) == SNAP_EIO);
    CHECK(strstr(e.msg, gone) != NULL);
    CHECK(snap_load_newest(gone, NULL, 0, &out, &note, &e) == SNAP_EIO);
    snap_purge(gone, 1, 1);
    CHECK(!exists("gone"));
    raft_snapshot_release(&s);
    free(gone);
}

/* No prefix and no changed byte of a file gives another snapshot. */
static void test_bad_bytes(void)
{
    struct raft_snapshot s = meta_of(21, 2), out;
    struct buf b = {0};

    s.data = blob_new("{\"Root\":{}}", 11);
    snap_encode(&b, &s);
    for (size_t n = 0; n < b.len; n++) {
        uint8_t *copy = xmalloc(n);

        memcpy(copy, b.data, n);
        CHECK(snap_decode(copy, n, &out, NULL) < 0);
        free(copy);
    }
    for (size_t i = 0; i < b.len * 8; i++) {
        b.data[i / 8] ^= (uint8_t)(1 << i % 8);
        CHECK(snap_decode(b.data, b.len, &out, NULL) < 0);
        b.data[i / 8] ^= (uint8_t)(1 << i % 8);
    }
    raft_snapshot_release(&s);
    buf_release(&b);
}

/* A sum that is right does not make a snapshot. */
static void test_bad_contents(void)
{
    static const char *const contents[] = {
        "\x08",             /* cut in the middle of a number */
        "\x0a\x05{}",       /* or of the data */
        "\x12\x02\x10\x80", /* or of the index */
    };

    for (size_t i = 0; i < ARRAY_LEN(contents); i++) {
        struct str data = str_of(contents[i]);
        struct raft_snapshot out;
        struct buf b = {0};
        struct err e;

        pb_add_u64(&b, 1, crc32c(0, data.p, data.n));
        pb_add_bytes(&b, 2, data.p, data.n);
        CHECK(snap_decode(b.data, b.len, &out, &e) == SNAP_EFORMAT);
        CHECK_STR(e.msg, "snap: malformed snapshot data");
        buf_release(&b);
    }
}

static raft_index newest(const struct wal_snapshot *allowed, size_t n,
                         bool *noted)
{
    struct raft_snapshot s;
    char *note;
    int rc = snap_load_newest(dir, allowed, n, &s, &note, NULL);
    raft_index index = rc == 0 ? s.index : 0;

    CHECK(rc == 0 || rc == SNAP_ENONE);
    if (rc == 0)
        raft_snapshot_release(&s);
    *noted = note != NULL;
    free(note);
    return index;
}

static void test_newest(void)
{
    static const struct wal_snapshot allowed[] = {{10, 1}, {20, 2}, {30, 1}};
    bool noted;

    CHECK(newest(NULL, 0, &noted) == 0);
    save(10, 1, STR("a"));
    save(30, 2, STR("b"));
    save(20, 2, STR(""));
    write_file("0000000000000009-00000000000000ff.snap.db", STR("not ours"));
    CHECK(newest(NULL, 0, &noted) == 30 && !noted);
    CHECK(newest(allowed, 3, &noted) == 20 && !noted);
    CHECK(newest(allowed, 1, &noted) == 10 && !noted);
    CHECK(newest(allowed, 0, &noted) == 0 && !noted);

    /* A bad one is set aside, and the next one is used. */
    write_file("0000000000000003-0000000000000028.snap", STR("\x08\x01"));
    write_file("0000000000000003-0000000000000029.snap", STR(""));
    CHECK(newest(NULL, 0, &noted) == 30 && noted);
    CHECK(!exists("0000000000000003-0000000000000028.snap"));
    CHECK(exists("0000000000000003-0000000000000028.snap.broken"));
    CHECK(exists("0000000000000003-0000000000000029.snap.broken"));
    CHECK(newest(NULL, 0, &noted) == 30 && !noted);
}

static int cut_off_source(void *from, snap_sink *sink, void *arg)
{
    struct str whole = STR("whole");
    uint64_t n;

    (void)from;
    CHECK(sink(arg, "cut off", 7) == 0);
    CHECK(snap_save_db(dir, 9, snap_source_str, &whole, true, &n, NULL) == 0);
    CHECK(n == 5);
    return -1;
}

/* The leader begins anew while we still read from its lost connection. */
static void test_db_twice(void)
{
    struct buf b;
    struct err e;

    write_file("0000000000000009.snap.db.7.tmp", STR("of a crash"));
    write_file("0000000000000009.snap.db.tmp", STR("of an older version"));
    snap_drop_unfinished_db(dir);
    CHECK(!exists("0000000000000009.snap.db.7.tmp"));
    CHECK(!exists("0000000000000009.snap.db.tmp"));
    CHECK(snap_save_db(dir, 9, cut_off_source, NULL, true, NULL, &e) < 0);
    b = read_file("0000000000000009.snap.db");
    CHECK(str_eqz(buf_str(&b), "whole"));
    buf_release(&b);
    snap_drop_unfinished_db(dir);
    CHECK(exists("0000000000000009.snap.db"));
    snap_purge(dir, 10, 5);
    CHECK(!exists("0000000000000009.snap.db"));
}

/* Who only looks gets the same, and leaves the bad one where it is. */
static void test_read_only(void)
{
    struct raft_snapshot s;
    char *note;

    save(10, 1, STR("a"));
    write_file("0000000000000003-0000000000000028.snap", STR("\x08\x01"));
    CHECK(snap_read_newest(dir, NULL, 0, &s, &note, NULL) == 0);
    CHECK(s.index == 10 && note && strstr(note, "cannot use"));
    CHECK(exists("0000000000000003-0000000000000028.snap"));
    raft_snapshot_release(&s);
    free(note);
}

/* One snapshot under the name of another is not what its name promises. */
static void test_wrong_name(void)
{
    struct buf b;
    bool noted;

    save(10, 1, STR("a"));
    b = read_file("0000000000000001-000000000000000a.snap");
    write_file("0000000000000001-000000000000000b.snap", buf_str(&b));
    write_file("0000000000000002-000000000000000a.snap", buf_str(&b));
    CHECK(newest(NULL, 0, &noted) == 10 && noted);
    CHECK(exists("0000000000000001-000000000000000b.snap.broken"));
    CHECK(exists("0000000000000002-000000000000000a.snap.broken"));
    buf_release(&b);
}

/* A file that cannot be read may be the newest one all the same: it stays
 * where it is, and none that is older takes its place. */
static void test_unreadable(void)
{
    char *path = in_dir("0000000000000001-000000000000000b.snap"), *note;
    struct raft_snapshot s;
    struct err e = {0};

    save(10, 1, STR("a"));
    CHECK(sys_mkdir_all(path, 0700, NULL) == 0); /* reads as an error */
    CHECK(snap_load_newest(dir, NULL, 0, &s, &note, &e) == SNAP_EIO);
    CHECK(!note && strstr(e.msg, path));
    CHECK(exists("0000000000000001-000000000000000b.snap"));
    free(path);
}

/* Only a name that is one names a snapshot: others are neither used nor set
 * aside nor purged. */
static void test_foreign_names(void)
{
    static const char *const names[] = {
        "000000000000000g-0000000000000005.snap",
        "0000000000000009-000000000000000g.snap",
        "0000000000000009_0000000000000005.snap",
        "0000000000000009-0000000000000005.snip",
        "0000000000000009-0000000000000005.snap.old",
        "9-5.snap",
    };
    bool noted;

    save(10, 1, STR("a"));
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        write_file(names[i], STR("x"));
    CHECK(newest(NULL, 0, &noted) == 10 && !noted);
    snap_purge(dir, 10, 1);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        CHECK(exists(names[i]));
    CHECK(newest(NULL, 0, &noted) == 10 && !noted);
}

static void test_purge(void)
{
    for (raft_index i = 1; i <= 6; i++)
        save(i, 1, STR("x"));
    write_file("0000000000000001-0000000000000007.snap.tmp", STR("half"));
    write_file("db", STR("the backend"));
    snap_purge(dir, 6, 0);
    CHECK(!exists("0000000000000001-0000000000000007.snap.tmp"));
    CHECK(exists("0000000000000001-0000000000000001.snap"));
    save(9, 1, STR("nobody knows this one"));
    snap_purge(dir, 6, 2);
    CHECK(exists("0000000000000001-0000000000000009.snap"));
    CHECK(exists("0000000000000001-0000000000000006.snap"));
    CHECK(exists("0000000000000001-0000000000000005.snap"));
    CHECK(!exists("0000000000000001-0000000000000004.snap"));
    CHECK(!exists("0000000000000001-0000000000000001.snap"));
    CHECK(exists("db"));
}

int main(void)
{
    static void (*const tests[])(void) = {
        test_known_bytes,   test_metrics,   test_streaming,    test_bad_source,
        test_no_directory,  test_bad_bytes, test_bad_contents, test_newest,
        test_read_only,     test_db_twice,  test_wrong_name,   test_unreadable,
        test_foreign_names, test_purge,
    };

    run_in_fresh_folders(tests, ARRAY_LEN(tests), NULL);
    return check_done("snap");
}
