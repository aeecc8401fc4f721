/*
 * walkill_test.c - a log whose process was killed between a write and its
 * sync: what the next start reads of it must survive the power from there on,
 * because Raft answers for it at once. And one whose last write lost its first
 * sector to a crash, wherever in the sector it began: that is a torn write.
 */
#include "check.h"
#include "simdisk.h"
#include "sys.h"
#include "wal.h"

static struct simdisk *disk;

static char zeros[600];

static struct raft_entry entry_of(raft_index index, size_t size)
{
    return (struct raft_entry){
        .term = 1, .index = index, .data = blob_new(zeros, size)};
}

static struct raft_entry entry_at(raft_index index)
{
    return entry_of(index, 5);
}

static struct wal *create(const char *dir)
{
    const struct wal_metadata m = {1, 2};
    struct wal *w = NULL;
    struct err e;

    CHECK(sys_mkdir_all("/sim/d/data/member", 0700, &e) == 0);
    CHECK(wal_create(dir, &m, false, &w, &e) == 0);
    return w;
}

static void append(struct wal *w, raft_index index, bool sync)
{
    struct raft_hard_state hs = {9, 1, index - 1};
    struct raft_entry entry = entry_at(index);
    struct err e;

    CHECK(wal_append(w, &hs, &entry, 1, &e) == 0);
    if (sync)
        CHECK(wal_sync(w, &e) == 0);
    raft_entry_release(&entry);
}

/* How many entries a start reads. */
static size_t open_and_count(const char *dir)
{
    struct wal_contents c = {0};
    struct wal *w = NULL;
    struct err e;
    size_t n;

    CHECK(wal_exists(dir));
    CHECK(wal_open(dir, (struct wal_snapshot){0}, false, &w, &c, &e) == 0);
    n = c.n_entries;
    wal_contents_release(&c);
    /* The process is killed: descriptors and memory just go. */
    simdisk_close_all(disk);
    wal_close(w);
    return n;
}

static void test_write_without_sync(void)
{
    static const char dir[] = "/sim/d/data/member/wal";
    struct wal *w;

    disk = simdisk_new("d");
    w = create(dir);
    append(w, 1, true);
    append(w, 2, false);
    simdisk_close_all(disk);
    wal_close(w);

    CHECK(open_and_count(dir) == 2);
    simdisk_crash(disk, simdisk_lose, NULL);
    CHECK(open_and_count(dir) == 2);
    simdisk_free(disk);
}

/* Fails what *arg says. */
static int fail_op(void *arg, struct simdisk *d, enum simdisk_op op,
                   const char *path, size_t *n)
{
    const enum simdisk_op *failing = arg;

    (void)d;
    (void)path;
    (void)n;
    return op == *failing ? 5 /* EIO */ : 0;
}

/* A sync fails, and its pages count as clean: the next start still reads them,
 * and must make them durable all the same. */
static void test_sync_failed(void)
{
    static const char dir[] = "/sim/d/data/member/wal";
    struct raft_hard_state vote = {9, 1, 0};
    enum simdisk_op sync = SIMDISK_SYNC;
    struct wal *w;
    struct err e;

    for (size_t states = 1; states <= 3; states++) {
        disk = simdisk_new("d");
        w = create(dir);
        append(w, 1, true);
        for (size_t i = 1; i < states; i++)
            CHECK(wal_append(w, &vote, NULL, 0, &e) == 0 &&
                  wal_sync(w, &e) == 0);
        append(w, 2, false);
        simdisk_set_hook(disk, fail_op, &sync);
        CHECK(wal_sync(w, &e) == WAL_EIO);
        simdisk_set_hook(disk, NULL, NULL);
        simdisk_close_all(disk);
        wal_close(w);

        CHECK(open_and_count(dir) == 2);
        simdisk_crash(disk, simdisk_lose, NULL);
        CHECK(open_and_count(dir) == 2);
        simdisk_free(disk);
    }
}

/* The name of a new segment. */
static void test_name_without_sync(void)
{
    static const char dir[] = "/sim/d/data/member/wal";
    enum simdisk_op sync_dir = SIMDISK_SYNC_DIR;
    struct raft_hard_state hs = {9, 1, 1};
    struct wal_contents c = {0};
    struct wal *w;
    struct err e;
    size_t n;

    disk = simdisk_new("d");
    wal_set_segment_bytes(1024);
    w = create(dir);
    for (n = 1; n < 8; n++)
        append(w, n, true);
    simdisk_set_hook(disk, fail_op, &sync_dir);
    for (int rc = 0; rc == 0; n++) {
        struct raft_entry entry = entry_at(n);

        hs.commit = n - 1;
        rc = wal_append(w, &hs, &entry, 1, &e);
        if (rc == 0)
            rc = wal_sync(w, &e);
        raft_entry_release(&entry);
    }
    simdisk_set_hook(disk, NULL, NULL);
    simdisk_close_all(disk);
    wal_close(w);

    /* The start after it goes on in the new segment. */
    CHECK(wal_open(dir, (struct wal_snapshot){0}, false, &w, &c, &e) == 0);
    n = c.n_entries + 1;
    wal_contents_release(&c);
    append(w, n, true);
    simdisk_crash(disk, simdisk_lose, NULL);
    wal_close(w);
    CHECK(open_and_count(dir) == n);
    simdisk_free(disk);
    wal_set_segment_bytes(WAL_SEGMENT_BYTES);
}

/* The first sector of the write is lost, the others are kept. */
static enum simdisk_fate lose_first(void *arg, enum simdisk_op op,
                                    const char *path, uint64_t offset, size_t n)
{
    int *asked = arg;

    (void)path;
    (void)offset;
    (void)n;
    return op == SIMDISK_WRITE && (*asked)++ == 0 ? SIMDISK_LOST : SIMDISK_KEPT;
}

static void test_first_sector_lost(void)
{
    static const char dir[] = "/sim/d/data/member/wal";

    for (size_t size = 0; size < SIMDISK_SECTOR; size += 8) {
        struct raft_entry first = entry_of(1, size), second = entry_of(2, 300);
        struct raft_hard_state hs = {1, 1, 0};
        int asked = 0;
        struct wal *w;
        struct err e;

        disk = simdisk_new("d");
        w = create(dir);
        CHECK(wal_append(w, &hs, &first, 1, &e) == 0 && wal_sync(w, &e) == 0);
        CHECK(wal_append(w, &hs, &second, 1, &e) == 0);
        simdisk_crash(disk, lose_first, &asked);
        wal_close(w);
        CHECK(asked > 0);
        CHECK(open_and_count(dir) == 1);
        raft_entry_release(&first);
        raft_entry_release(&second);
        simdisk_free(disk);
    }
}

int main(void)
{
    test_first_sector_lost();
    test_write_without_sync();
    test_sync_failed();
    test_name_without_sync();
    return check_done("walkill_test");
}
