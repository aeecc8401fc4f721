/*
 * wal_test.c - the write-ahead log: bytes as etcd 3.4 wrote them, segments,
 * crashes at each step, torn writes told from lost data, every changed byte.
 */
#include "wal_impl.h"

#include "pb.h"
#include "sys.h"

#include "check.h"
#include "files.h"
#include "hex.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEGMENT 4096 /* bytes; see wal_set_segment_bytes() */
#define FIRST "0000000000000000-0000000000000000.wal"

static const struct wal_metadata us = {UINT64_C(0xbdae9bbc11dd390d),
                                       UINT64_C(0xd1cfaf999eb97a2a)};
static const struct wal_snapshot none;

/* The path of a segment by its number, or NULL; returns owned. */
static char *segment(unsigned seq)
{
    char *prefix = xasprintf("%016x-", seq), *found = NULL;
    char **names;
    size_t n;

    CHECK(sys_list_dir(dir, &names, &n, NULL) == 0);
    for (size_t i = 0; i < n && !found; i++)
        if (strncmp(names[i], prefix, strlen(prefix)) == 0)
            found = in_dir(names[i]);
    sys_free_list(names, n);
    free(prefix);
    return found;
}

static void start_over(void)
{
    sys_remove_all(dir, NULL);
}

static int open_file(const char *name)
{
    char *path = in_dir(name);
    int fd = open(path, O_RDWR);

    CHECK(fd >= 0);
    free(path);
    return fd;
}

static void poke(const char *name, int64_t off, const void *p, size_t n)
{
    int fd = open_file(name);

    CHECK(pwrite(fd, p, n, (off_t)off) == (ssize_t)n);
    close(fd);
}

static void poke_zeros(const char *name, int64_t off, size_t n)
{
    void *zeros = xcalloc(n, 1);

    poke(name, off, zeros, n);
    free(zeros);
}

static void cut_file(const char *name, int64_t size)
{
    int fd = open_file(name);

    CHECK(ftruncate(fd, (off_t)size) == 0);
    close(fd);
}

/* --- A log to play with. ------------------------------------------------ */

static struct wal *create(void)
{
    struct wal *w = NULL;
    struct err e = {0};

    CHECK(wal_create(dir, &us, true, &w, &e) == 0);
    if (!w) {
        fprintf(stderr, "%s\n", e.msg);
        exit(1);
    }
    return w;
}

/* Entries first..first+n-1 with some bytes each, and a state; synced. */
static void append(struct wal *w, raft_index first, size_t n, raft_term term,
                   size_t size)
{
    struct raft_hard_state hs = {term, us.node_id, first - 1};
    struct raft_entry *entries = xcalloc(n, sizeof(*entries));
    char *bytes = xmalloc(size);
    struct err e;

    memset(bytes, 'x', size);
    for (size_t i = 0; i < n; i++) {
        entries[i].index = first + i;
        entries[i].term = term;
        entries[i].data = size ? blob_new(bytes, size) : NULL;
    }
    CHECK(wal_append(w, &hs, entries, n, &e) == 0);
    CHECK(wal_sync(w, &e) == 0);
    raft_entries_free(entries, n);
    free(bytes);
}

static void append_snapshot(struct wal *w, raft_index index, raft_term term)
{
    struct wal_snapshot snap = {index, term};

    CHECK(wal_append_snapshot(w, snap, NULL, NULL) == 0);
    CHECK(wal_sync(w, NULL) == 0);
}

/* What the log holds behind snap: the number of entries, or a WAL_E* code. */
static int read_back(struct wal_snapshot snap, raft_index *commit)
{
    struct wal_contents c;
    struct err e;
    int rc = wal_read(dir, snap, &c, &e);

    if (rc < 0)
        return rc;
    rc = (int)c.n_entries;
    *commit = c.hard_state.commit;
    CHECK(c.metadata.node_id == us.node_id);
    CHECK(c.metadata.cluster_id == us.cluster_id);
    for (size_t i = 0; i < c.n_entries; i++)
        CHECK(c.entries[i].index == snap.index + 1 + i);
    wal_contents_release(&c);
    return rc;
}

static int count(struct wal_snapshot snap)
{
    raft_index commit;

    return read_back(snap, &commit);
}

/* Opens for appending; the number of entries or a code. */
static int reopen(struct wal_snapshot snap, struct wal **w, bool *repaired)
{
    struct wal_contents c;
    struct err e = {0};
    int rc = wal_open(dir, snap, true, w, &c, &e);

    if (rc < 0) {
        CHECK(e.code == rc && e.msg[0]);
        return rc;
    }
    rc = (int)c.n_entries;
    *repaired = c.repaired != NULL;
    wal_contents_release(&c);
    return rc;
}

/* The offset of frame number n of a file, and that of its end. */
static int64_t frame_at(const char *name, int n, int64_t *end)
{
    struct buf b = read_file(name);
    struct wal_record rec;
    uint32_t crc = 0;
    int64_t off = 0, used = 0;

    for (int i = 0; i <= n; i++) {
        off += used;
        used = wal_decode(b.data + off, b.len - (size_t)off, &crc, &rec);
        if (used <= 0)
            break;
    }
    buf_release(&b);
    *end = off + (used > 0 ? used : 0);
    return off;
}

static int64_t end_of(const char *name)
{
    int64_t end;

    return frame_at(name, 1 << 20, &end);
}

/* --- Formats. ----------------------------------------------------------- */

/* The first records that etcd 3.4.23 wrote. */
static const uint8_t known[] = {
    0x04, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x84, 0x08, 0x04, 0x10, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x1f, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x81,
    0x08, 0x01, 0x10, 0xc0, 0xee, 0xe0, 0x5a, 0x1a, 0x16, 0x08, 0x8d, 0xf2,
    0xf4, 0x8e, 0xc1, 0xf7, 0xa6, 0xd7, 0xbd, 0x01, 0x10, 0xaa, 0xf4, 0xe5,
    0xf5, 0x99, 0xf3, 0xeb, 0xe7, 0xd1, 0x01, 0x00, 0x0d, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x83, 0x08, 0x05, 0x10, 0xb6, 0xf7, 0xe4, 0x58, 0x1a,
    0x04, 0x08, 0x00, 0x10, 0x00, 0x00, 0x00, 0x00,
};

static void test_known_bytes(void)
{
    struct buf b;

    wal_close(create());
    b = read_file(FIRST);
    CHECK(b.len == SEGMENT);
    CHECK(memcmp(b.data, known, sizeof(known)) == 0);
    for (size_t i = sizeof(known); i < b.len; i++)
        if (b.data[i])
            CHECK(!"zeros behind the last record");
    buf_release(&b);
    CHECK(!exists("0.tmp"));
    CHECK(count(none) == 0);
}

static void test_codec(void)
{
    struct buf b = {0};
    uint32_t crc = 7, sum = 7;
    struct wal_record rec;
    char data[40];

    memset(data, 'd', sizeof(data));
    for (size_t n = 0; n < sizeof(data); n++) {
        int64_t used;

        buf_clear(&b);
        wal_encode(&b, WAL_ENTRY, data, n, &crc);
        CHECK(b.len % 8 == 0);
        for (size_t cut = 0; cut < b.len; cut++)
            CHECK(wal_decode(b.data, cut, &sum, &rec) == 0);
        used = wal_decode(b.data, b.len, &sum, &rec);
        CHECK(used == (int64_t)b.len && sum == crc);
        CHECK(rec.type == WAL_ENTRY && rec.crc == crc && rec.data.n == n);
        sum ^= 1;
        CHECK(wal_decode(b.data, b.len, &sum, &rec) == WAL_ECRC);
        sum ^= 1;
        b.data[7] ^= 0x08; /* a bit that has no meaning */
        CHECK(wal_decode(b.data, b.len, &sum, &rec) == WAL_EFORMAT);
    }
    CHECK(wal_decode((const uint8_t *)"\0\0\0\0\0\0\0\0", 8, &sum, &rec) == 0);
    buf_release(&b);
}

/* --- Life without crashes. ---------------------------------------------- */

static void test_append_and_reopen(void)
{
    struct wal *w = create();
    raft_index commit = 0;
    bool repaired;

    CHECK(wal_exists(dir));
    append(w, 1, 3, 1, 10);
    append(w, 4, 2, 2, 0);
    CHECK(wal_bytes_written(w) == (uint64_t)end_of(FIRST));
    wal_close(w);
    CHECK(read_back(none, &commit) == 5 && commit == 3);

    CHECK(reopen(none, &w, &repaired) == 5 && !repaired);
    append(w, 4, 1, 3, 5); /* overwrites 4 and drops 5 */
    append(w, 5, 4, 3, 5);
    wal_close(w);
    CHECK(count(none) == 8);
    CHECK(reopen(none, &w, &repaired) == 8 && !repaired);
    wal_close(w);
}

static void test_segments(void)
{
    struct wal *w = create();
    raft_index i = 1, commit;
    bool repaired;

    for (; i <= 40; i++)
        append(w, i, 1, 1 + i / 10, 400);
    CHECK(exists("0000000000000004-0000000000000026.wal") ||
          exists("0000000000000003-000000000000001c.wal"));
    wal_close(w);
    CHECK(read_back(none, &commit) == 40 && commit == 39);
    CHECK(reopen(none, &w, &repaired) == 40 && !repaired);
    for (; i <= 80; i++)
        append(w, i, 1, 9, 400);
    wal_close(w);
    CHECK(count(none) == 80);
}

/* One append that is larger than a segment, and than the write buffer. */
static void test_large(void)
{
    struct wal *w = create();

    append(w, 1, 2, 1, 700000);
    append(w, 3, 1, 1, 1);
    wal_close(w);
    CHECK(count(none) == 3);
    CHECK(exists("0000000000000001-0000000000000003.wal"));
}

static void test_snapshots(void)
{
    struct wal_snapshot ten = {10, 1}, other = {10, 2}, missing = {11, 1};
    struct wal_snapshot *all;
    struct wal *w = create();
    bool repaired;
    size_t n;

    for (raft_index i = 1; i <= 15; i++)
        append(w, i, 1, 1, 300);
    append_snapshot(w, 10, 1);
    for (raft_index i = 16; i <= 30; i++)
        append(w, i, 1, 1, 300);
    append_snapshot(w, 30, 1); /* ahead of the commit index, 29 */
    wal_close(w);

    CHECK(count(none) == 30 && count(ten) == 20);
    CHECK(count(missing) == WAL_ENOSNAP);
    CHECK(count(other) == WAL_EFORMAT);
    CHECK(wal_snapshots(dir, &all, &n, NULL) == 0);
    CHECK(n == 2 && all[0].index == 0);
    CHECK(all[1].index == 10 && all[1].term == 1);
    free(all);
    CHECK(reopen(ten, &w, &repaired) == 20 && !repaired);
    append(w, 31, 1, 1, 3);
    wal_close(w);
    CHECK(count(ten) == 21);
}

/*
 * The leader's snapshot replaces a log that lacks its last entry: what stood
 * behind it was never committed (paper, Figure 13).
 */
static void test_received_snapshot(void)
{
    struct wal_snapshot ten = {10, 4};
    struct raft_hard_state hs = {4, us.node_id, 10};
    struct wal *w = create();

    append(w, 1, 20, 3, 5);
    append_snapshot(w, 10, 4);
    CHECK(wal_append(w, &hs, NULL, 0, NULL) == 0);
    CHECK(count(ten) == 0);
    append(w, 11, 2, 4, 5);
    wal_close(w);
    CHECK(count(ten) == 2);
    CHECK(count((struct wal_snapshot){10, 3}) == WAL_EFORMAT);
}

static void test_snapshot_with_conf_state(void)
{
    struct raft_conf_state cs = {0};
    struct wal_snapshot three = {3, 1};
    struct wal *w = create();

    append(w, 1, 4, 1, 5);
    raft_ids_add(&cs.voters, us.node_id);
    CHECK(wal_append_snapshot(w, three, &cs, NULL) == 0);
    wal_close(w);
    CHECK(count(three) == 1);
    raft_conf_state_release(&cs);
}

/* Whatever still exists of what is deleted is held open for the caller. */
static int purge_some_gone(struct wal *w, raft_index index, size_t keep,
                           size_t gone)
{
    struct wal_deleted deleted;
    int n = wal_purge(w, index, keep, &deleted);
    struct stat st;

    CHECK(n >= 0 && deleted.n + gone == (size_t)n);
    for (size_t i = 0; i < deleted.n; i++)
        CHECK(fstat(deleted.fds[i], &st) == 0 && st.st_nlink == 0);
    wal_deleted_release(&deleted);
    return n;
}

static int purge(struct wal *w, raft_index index, size_t keep)
{
    return purge_some_gone(w, index, keep, 0);
}

static void test_purge(void)
{
    struct wal_snapshot thirty = {30, 1};
    struct wal *w = create();
    bool repaired;
    int n;

    for (raft_index i = 1; i <= 40; i++)
        append(w, i, 1, 1, 400);
    append_snapshot(w, 30, 1);
    CHECK(purge(w, 30, 0) == 0);
    CHECK(purge(w, 5, 1) == 0);
    CHECK(purge(w, 30, 100) == 0);
    n = purge(w, 30, 1);
    CHECK(n >= 2);
    CHECK(purge(w, 30, 1) == 0);
    CHECK(!exists(FIRST));
    CHECK(purge(w, 1, 1) == 0); /* what holds that is gone already */
    append(w, 41, 1, 1, 1);
    wal_close(w);
    CHECK(count(thirty) == 11);
    CHECK(count(none) == WAL_EMISSING);
    CHECK(reopen(thirty, &w, &repaired) == 11);
    wal_close(w);
}

/* What is opened behind a snapshot has older segments, too; one of them may
 * be gone by somebody else's hand. */
static void test_purge_after_restart(void)
{
    struct wal_snapshot thirty = {30, 1};
    struct wal *w = create();
    bool repaired;
    char *first = in_dir(FIRST);
    int n;

    for (raft_index i = 1; i <= 40; i++)
        append(w, i, 1, 1, 400);
    append_snapshot(w, 30, 1);
    wal_close(w);
    CHECK(reopen(thirty, &w, &repaired) == 10);
    CHECK(unlink(first) == 0);
    n = purge_some_gone(w, 30, 1, 1);
    CHECK(n >= 2);
    append(w, 41, 1, 1, 1);
    wal_close(w);
    CHECK(count(thirty) == 11 && count(none) == WAL_EMISSING);
    free(first);
}

static void test_locks(void)
{
    struct wal *w = create(), *second = NULL;
    bool repaired;
    int fd;

    CHECK(reopen(none, &second, &repaired) == WAL_ELOCKED && !second);
    CHECK(count(none) == 0); /* reading needs no lock */
    wal_close(w);
    /* etcd's own kind of lock counts as well. */
#ifdef F_OFD_SETLK
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    fd = open_file(FIRST);
    if (fcntl(fd, F_OFD_SETLK, &whole) == 0)
        CHECK(reopen(none, &w, &repaired) == WAL_ELOCKED);
    close(fd);
#endif
    CHECK(reopen(none, &w, &repaired) == 0);
    fd = open_file(FIRST);
    CHECK(flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK);
    close(fd);
    wal_close(w);
}

/* With real syncs, once, and the segment after the tail prepared in time. */
static void test_with_syncs(void)
{
    struct wal *w = NULL;
    struct wal_contents c;
    struct stat st;
    char *file = in_dir(FIRST);

    CHECK(wal_create(dir, &us, false, &w, NULL) == 0);
    append(w, 1, 1, 1, 3000);
    append(w, 2, 1, 1, 3000);
    append(w, 3, 1, 1, 3000);
    wal_close(w);
    CHECK(!exists("0.tmp"));
    CHECK(stat(file, &st) == 0 && (st.st_mode & 0777) == 0600);
    CHECK(stat(dir, &st) == 0 && (st.st_mode & 0777) == 0700);
    CHECK(wal_open(dir, none, false, &w, &c, NULL) == 0);
    CHECK(c.n_entries == 3);
    wal_contents_release(&c);
    wal_close(w);
    free(file);
}

static void test_state_never_goes_back(void)
{
    static const struct raft_hard_state back[] = {
        {4, 9, 4},
        {5, 9, 2},
        {5, 8, 4},
        {0, 9, 4},
    };
    struct raft_hard_state hs = {5, 9, 4};
    struct wal *w = create();
    uint64_t before;

    CHECK(wal_append(w, &hs, NULL, 0, NULL) == 0);
    before = wal_bytes_written(w);
    for (size_t i = 0; i < ARRAY_LEN(back); i++)
        CHECK(wal_append(w, &back[i], NULL, 0, NULL) == WAL_EFORMAT);
    CHECK(wal_bytes_written(w) == before);
    hs = (struct raft_hard_state){6, 0, 4};
    CHECK(wal_append(w, &hs, NULL, 0, NULL) == 0);
    wal_close(w);
    CHECK(count(none) == 0);
}

/* A new member has entries before it has a state; none is made up for it. */
static void test_no_state(void)
{
    struct raft_hard_state zeros = {0};
    struct raft_entry ent = {.term = 1};
    struct wal_contents c;
    struct wal *w = create();
    uint64_t before = wal_bytes_written(w);
    struct wal_record rec = {0};
    uint32_t crc = 0;
    int64_t at = 0;
    char *second;
    struct buf b;

    CHECK(wal_append(w, &zeros, NULL, 0, NULL) == 0);
    CHECK(wal_bytes_written(w) == before);
    ent.data = blob_new(known, sizeof(known));
    for (bool cut = false; !cut && ent.index < 100;) {
        ent.index++;
        CHECK(wal_append(w, ent.index % 2 ? NULL : &zeros, &ent, 1, NULL) == 0);
        CHECK(wal_sync(w, NULL) == 0);
        second = segment(1);
        cut = second != NULL;
        free(second);
    }
    ent.index++; /* into the second segment */
    CHECK(wal_append(w, NULL, &ent, 1, NULL) == 0);
    wal_close(w);
    blob_unref(ent.data);
    CHECK(wal_read(dir, none, &c, NULL) == 0);
    CHECK(c.n_entries == ent.index && ent.index < 100);
    CHECK(c.hard_state.term == 0 && c.hard_state.commit == 0);
    wal_contents_release(&c);
    second = segment(1);
    b = read_file(strrchr(second, '/') + 1);
    for (int i = 0; i < 3; i++) /* behind crc and metadata */
        at += wal_decode(b.data + at, b.len - (size_t)at, &crc, &rec);
    CHECK(rec.type == WAL_ENTRY);
    buf_release(&b);
    free(second);
    wal_close(NULL);
}

/* --- Crashes while files are made. -------------------------------------- */

static void test_crash_in_create(void)
{
    char *tmp = xasprintf("%s.tmp", dir), *file;

    CHECK(sys_mkdir_all(tmp, 0700, NULL) == 0);
    file = xasprintf("%s/" FIRST, tmp);
    CHECK(sys_write_file_atomic(file, "half", 4, 0600, NULL) == 0);
    CHECK(!wal_exists(dir));
    CHECK(count(none) == WAL_EIO);
    wal_close(create());
    CHECK(wal_exists(dir) && !sys_exists(tmp));
    CHECK(count(none) == 0);
    free(file);
    free(tmp);
}

static void test_foreign_files(void)
{
    struct wal *w = NULL;
    struct err e = {0};
    char *file = in_dir("precious");

    CHECK(sys_mkdir_all(dir, 0700, NULL) == 0);
    CHECK(!wal_exists(dir));
    wal_close(create()); /* an empty directory is taken over */
    sys_remove_all(dir, NULL);
    CHECK(sys_mkdir_all(dir, 0700, NULL) == 0);
    CHECK(sys_write_file_atomic(file, "x", 1, 0600, NULL) == 0);
    CHECK(wal_create(dir, &us, true, &w, &e) == WAL_EIO && !w);
    CHECK(sys_exists(file));
    free(file);
}

/* The tail was closed, but the next segment never got its name. */
static void test_crash_in_cut(void)
{
    struct wal *w = create();
    bool repaired;
    char *tmp = in_dir("0.tmp");

    append(w, 1, 9, 1, 400);
    wal_close(w);
    cut_file(FIRST, end_of(FIRST));
    CHECK(sys_write_file_atomic(tmp, known, sizeof(known), 0600, NULL) == 0);
    CHECK(reopen(none, &w, &repaired) == 9 && !repaired);
    CHECK(!exists("0.tmp"));
    append(w, 10, 1, 1, 400);
    append(w, 11, 5, 1, 400);
    wal_close(w);
    CHECK(exists("0000000000000001-000000000000000b.wal"));
    CHECK(count(none) == 15);
    free(tmp);
}

static void test_missing_segments(void)
{
    struct wal *w = create();
    char *second, *away = in_dir("away");

    for (raft_index i = 1; i <= 30; i++)
        append(w, i, 1, 1, 400);
    wal_close(w);
    second = segment(1);
    CHECK(rename(second, away) == 0);
    CHECK(count(none) == WAL_EMISSING);
    CHECK(rename(away, second) == 0);
    CHECK(count(none) == 30);
    free(second);
    free(away);
}

/* Purging deletes the oldest first, but a crash may keep one of them: what is
 * before the gap is no longer needed. */
static void test_gap_in_front(void)
{
    struct wal_snapshot last = {40, 4}, *all = NULL;
    struct wal *w = create();
    bool repaired;
    size_t n;
    char *second;

    for (raft_index i = 1; i <= 40; i++)
        append(w, i, 1, 1 + i / 10, 400);
    append_snapshot(w, 40, 4);
    append(w, 41, 1, 5, 1); /* with it the commit index is 40 */
    wal_close(w);
    second = segment(1);
    CHECK(second && unlink(second) == 0);
    free(second);
    CHECK(count(none) == WAL_EMISSING);
    CHECK(wal_snapshots(dir, &all, &n, NULL) == 0);
    CHECK(n == 1 && all[0].index == 40);
    free(all);
    CHECK(count(last) == 1);
    CHECK(reopen(last, &w, &repaired) == 1 && !repaired);
    wal_close(w);

    /* And a log may have no snapshot at all behind the gap. */
    start_over();
    w = create();
    for (raft_index i = 1; i <= 14; i++)
        append(w, i, 1, 1, 400);
    wal_close(w);
    second = in_dir(FIRST);
    CHECK(unlink(second) == 0);
    CHECK(wal_snapshots(dir, &all, &n, NULL) == 0 && n == 0 && all);
    free(all);
    free(second);
}

/* --- Torn writes. ------------------------------------------------------- */

/* Ten synced entries, the tenth of n10 bytes, then one of n bytes that the test
 * will tear. */
static int64_t log_with_two_last(size_t n10, size_t n, int64_t *end)
{
    struct wal *w = create();
    int frames = 3 + 2 * 10;

    for (raft_index i = 1; i <= 9; i++)
        append(w, i, 1, 1, 20);
    append(w, 10, 1, 1, n10);
    append(w, 11, 1, 1, n);
    wal_close(w);
    return frame_at(FIRST, frames, end);
}

static int64_t log_with_last(size_t n, int64_t *end)
{
    return log_with_two_last(20, n, end);
}

/* Repaired to ten entries, writable again, and repaired for good. */
static void check_repaired(void)
{
    struct wal *w = NULL;
    bool repaired = false;
    struct buf b;

    CHECK(count(none) == 10); /* a reader leaves the tail out, and in place */
    CHECK(!exists(FIRST ".broken"));
    CHECK(reopen(none, &w, &repaired) == 10 && repaired);
    CHECK(exists(FIRST ".broken"));
    if (!w)
        return;
    append(w, 11, 1, 1, 0);
    wal_close(w);
    b = read_file(FIRST);
    for (size_t i = (size_t)end_of(FIRST); i < b.len; i++)
        if (b.data[i])
            CHECK(!"zeros behind the last record");
    buf_release(&b);
    CHECK(reopen(none, &w, &repaired) == 11 && !repaired);
    wal_close(w);
}

/* The file ends inside the last write: at each length. */
static void test_short_tail(void)
{
    int64_t end, off = log_with_last(40, &end);
    struct wal *w;
    bool repaired;

    for (int64_t size = off + 1; size < end; size++) {
        start_over();
        log_with_last(40, &end);
        cut_file(FIRST, size);
        check_repaired();
    }
    start_over();
    log_with_last(40, &end);
    cut_file(FIRST, off); /* just before it: nothing is torn */
    CHECK(reopen(none, &w, &repaired) == 10 && !repaired);
    wal_close(w);
}

/* Each sector of the last write missing, alone and with all that follow. */
static void test_missing_sectors(void)
{
    int64_t end, off = log_with_last(1800, &end);

    for (int64_t s = (off / 512 + 1) * 512; s < end; s += 512) {
        start_over();
        log_with_last(1800, &end);
        poke_zeros(FIRST, s, 512);
        check_repaired();
        start_over();
        log_with_last(1800, &end);
        poke_zeros(FIRST, s, (size_t)(SEGMENT - s));
        check_repaired();
    }
    /* Nothing of it but later sectors. */
    start_over();
    log_with_last(1800, &end);
    poke_zeros(FIRST, off, (size_t)(512 - off % 512));
    check_repaired();
}

/* Its length is the last word of a sector that was never written. */
static void test_missing_length(void)
{
    int64_t end, off;

    for (size_t n10 = 20;; n10 += 8) {
        off = log_with_two_last(n10, 40, &end);
        if (off % 512 == 504)
            break;
        start_over();
    }
    poke_zeros(FIRST, off, 8);
    check_repaired();
}

/*
 * A whole zero sector, but in a write that later ones prove to have been
 * synced: lost data, not a torn write.
 */
static void test_hole_in_the_middle(void)
{
    struct err e = {0};
    struct wal_contents c;

    for (int64_t s = 512; s < 2048; s += 512) {
        struct wal *w = create(), *again = NULL;
        bool repaired;
        int rc;

        for (raft_index i = 1; i <= 12; i++)
            append(w, i, 1, 1, 200);
        wal_close(w);
        poke_zeros(FIRST, s, 512);
        rc = count(none);
        CHECK(rc == WAL_ECRC || rc == WAL_EFORMAT);
        CHECK(reopen(none, &again, &repaired) < 0 && !again);
        CHECK(!exists(FIRST ".broken"));
        CHECK(wal_read(dir, none, &c, &e) < 0);
        CHECK(strstr(e.msg, FIRST) && strstr(e.msg, "offset"));
        start_over();
    }
}

/* The unused end may be a hole of any length; what a crash left in it, whose
 * beginning never came, is cut. */
static void test_sparse_tail(void)
{
    struct wal *w = create();
    bool repaired;

    append(w, 1, 10, 1, 20);
    wal_close(w);
    cut_file(FIRST, end_of(FIRST));
    cut_file(FIRST, 1 << 20);
    CHECK(reopen(none, &w, &repaired) == 10 && !repaired);
    wal_close(w);
    poke(FIRST, 900001, "x", 1);
    check_repaired();
}

/* A hole in one large unsynced write, whose later parts reached the disk. */
static void test_hole_in_a_batch(void)
{
    struct wal *w = create();
    bool repaired;

    append(w, 1, 10, 1, 20);
    append(w, 11, 8, 1, 200);
    wal_close(w);
    poke_zeros(FIRST, 1024, 512);
    CHECK(reopen(none, &w, &repaired) >= 10 && repaired);
    wal_close(w);
}

/* Damage in a closed segment is never torn, whatever it looks like. */
static void test_damage_in_closed_segment(void)
{
    struct wal *w = create();
    int64_t end;

    for (raft_index i = 1; i <= 14; i++)
        append(w, i, 1, 1, 400);
    wal_close(w);
    end = end_of(FIRST);
    poke_zeros(FIRST, (end - 1) / 512 * 512, 512);
    CHECK(count(none) < 0);
    cut_file(FIRST, (end - 1) / 512 * 512);
    CHECK(count(none) < 0);
}

static void test_damaged_head(void)
{
    wal_close(create());
    poke_zeros(FIRST, 0, SEGMENT);
    CHECK(count(none) == WAL_EFORMAT);
    cut_file(FIRST, 0);
    CHECK(count(none) == WAL_EFORMAT);
}

/* --- Every changed byte. ------------------------------------------------ */

/* Is c what the undamaged log has, or that without its last write? */
static int compare(const struct wal_contents *c, const struct wal_contents *ok)
{
    struct buf a = {0}, b = {0};
    bool differ;

    if (c->n_entries > ok->n_entries)
        return -1;
    for (size_t i = 0; i < c->n_entries; i++) {
        raftpb_encode_entry(&a, &c->entries[i]);
        raftpb_encode_entry(&b, &ok->entries[i]);
    }
    differ = !str_eq(buf_str(&a), buf_str(&b));
    buf_release(&a);
    buf_release(&b);
    if (differ)
        return -1;
    if (c->n_entries < ok->n_entries)
        return 1;
    return memcmp(&c->hard_state, &ok->hard_state, sizeof(c->hard_state)) ? 1
                                                                          : 0;
}

static void test_changed_bytes(void)
{
    static const uint8_t masks[] = {0x01, 0x80, 0x04, 0xff, 0x00};
    struct wal_snapshot two = {2, 1};
    struct wal *w = create();
    struct wal_contents ok, c;
    int64_t end, last;
    struct buf b;
    int fd, wrong = 0, shorter = 0;

    append(w, 1, 3, 1, 30);
    append_snapshot(w, 2, 1);
    append(w, 4, 1, 2, 0);
    append(w, 5, 2, 2, 700);
    append(w, 7, 1, 2, 0);
    append(w, 8, 1, 2, 9);
    wal_close(w);
    end = end_of(FIRST);
    last = frame_at(FIRST, 16, &end); /* the last write: entry 8 and state */
    b = read_file(FIRST);
    end = end_of(FIRST);
    CHECK(wal_read(dir, two, &ok, NULL) == 0 && ok.n_entries == 6);
    fd = open_file(FIRST);
    for (int64_t i = 0; i < end; i++) {
        for (size_t m = 0; m < ARRAY_LEN(masks); m++) {
            uint8_t was = b.data[i];
            uint8_t is = masks[m] ? (uint8_t)(was ^ masks[m]) : 0;
            int differs;

            if (is == was)
                continue;
            CHECK(pwrite(fd, &is, 1, (off_t)i) == 1);
            if (wal_read(dir, two, &c, NULL) == 0) {
                differs = compare(&c, &ok);
                wrong += differs < 0 || (differs > 0 && i < last);
                shorter += differs > 0;
                if (differs < 0 || (differs > 0 && i < last))
                    fprintf(stderr, "offset %" PRId64 ": %02x to %02x\n", i,
                            was, is);
                wal_contents_release(&c);
            }
            CHECK(pwrite(fd, &was, 1, (off_t)i) == 1);
        }
    }
    CHECK(wrong == 0);
    CHECK(shorter == 0); /* no change of one byte looks like a torn write */
    close(fd);
    buf_release(&b);
    wal_contents_release(&ok);
}

/* --- Sums that are right do not make a log. ----------------------------- */

struct record {
    enum wal_record_type type;
    const char *hex; /* of its data */
};

/* A log that begins as etcd's do and goes on with these; all sums are right. */
static void write_log(const struct record *records, size_t n)
{
    struct wal_record rec;
    struct buf b = {0};
    uint32_t crc = 0;
    size_t at = 0;
    int64_t used;

    start_over();
    wal_close(create());
    while ((used = wal_decode(known + at, sizeof(known) - at, &crc, &rec)) > 0)
        at += (size_t)used;
    CHECK(at == sizeof(known));
    for (size_t i = 0; i < n && records[i].type; i++) {
        struct buf data = unhex(records[i].hex);

        wal_encode(&b, records[i].type, data.data, data.len, &crc);
        buf_release(&data);
    }
    poke(FIRST, (int64_t)at, b.data, b.len);
    buf_release(&b);
}

#define ENTRY(index, term)                                                     \
    {                                                                          \
        WAL_ENTRY, "080010" term "18" index                                    \
    }

static void test_impossible_records(void)
{
    static const struct {
        struct record records[3];
        const char *why;
        bool early; /* wal_snapshots() sees it, too */
    } cases[] = {
        {{ENTRY("02", "01")}, "a gap between entries", false},
        {{ENTRY("01", "01"), ENTRY("03", "01")}, "a gap between", false},
        {{ENTRY("01", "02"), ENTRY("02", "01")}, "term goes back", false},
        {{ENTRY("00", "01")}, "an entry that Raft does not write", false},
        {{ENTRY("01", "00")}, "an entry that Raft does not write", false},
        {{{WAL_ENTRY, "080110011801"}}, "that Raft does not write", false},
        {{{WAL_ENTRY, "080310011801"}}, "malformed entry", false},
        {{{WAL_ENTRY, "08"}}, "malformed entry", false},
        {{{WAL_STATE, "08"}}, "malformed state", true},
        {{{WAL_STATE, ""}}, NULL, false}, /* a state of zeros */
        {{{WAL_STATE, "0801100218032001"}}, "malformed state", true},
        {{{WAL_STATE, "080010021800"}}, "a vote without a term", false},
        {{{WAL_STATE, "080210001800"}, {WAL_STATE, "080110001800"}},
         "a term that goes back",
         false},
        {{{WAL_STATE, "080110001805"}, {WAL_STATE, "080110001804"}},
         "a commit index that goes back",
         false},
        {{{WAL_STATE, "080110021800"}, {WAL_STATE, "080110031800"}},
         "a second vote in one term",
         false},
        {{{WAL_STATE, "080110001800"}, {WAL_STATE, "080110031800"}},
         NULL,
         false},
        {{{WAL_STATE, "080110021800"}, {WAL_STATE, "080210031800"}},
         NULL,
         false},
        {{{WAL_SNAPSHOT, "08"}}, "malformed snapshot record", true},
        {{{WAL_METADATA, "08"}}, "malformed metadata", true},
        {{{WAL_METADATA, "0801"}}, "conflicting metadata", true},
        {{{WAL_METADATA, "088df2f48ec1f7a6d7bd011001"}},
         "conflicting metadata",
         true},
        {{{WAL_METADATA, "088df2f48ec1f7a6d7bd0110aaf4e5f599f3ebe7d101"},
          ENTRY("01", "01")},
         NULL,
         false}, /* the same once more */
        {{{WAL_CRC, ""}, ENTRY("01", "01")}, NULL, false},
        {{{(enum wal_record_type)9, ""}}, "unexpected block type", true},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct wal_contents c = {0};
        struct wal_snapshot *all = NULL;
        struct err e = {0};
        size_t n;
        int rc;

        write_log(cases[i].records, ARRAY_LEN(cases[i].records));
        rc = wal_read(dir, none, &c, &e);
        CHECK(rc == (cases[i].why ? WAL_EFORMAT : 0));
        if (cases[i].why)
            CHECK(strstr(e.msg, cases[i].why) && strstr(e.msg, FIRST));
        wal_contents_release(&c);
        rc = wal_snapshots(dir, &all, &n, &e);
        CHECK(rc == (cases[i].early ? WAL_EFORMAT : 0));
        free(all);
    }
}

/* Beside a member that writes, what looks like damage is looked at again: what
 * is damaged says the same twice, and what changes for ever is given up. */
static void test_look_again(void)
{
    struct wal_look l = {0};
    struct err e = {0};
    int n = 0;

    CHECK(!wal_look_again(&l, 0));
    err_set(&l.e, WAL_ECRC, "at 8");
    CHECK(wal_look_again(&l, WAL_ECRC));
    err_set(&l.e, WAL_ECRC, "at 16");
    CHECK(wal_look_again(&l, WAL_ECRC));
    CHECK(!wal_look_again(&l, WAL_ECRC));
    CHECK(wal_looked(&l, WAL_ECRC, &e) == WAL_ECRC);
    CHECK(strcmp(e.msg, "at 16") == 0);
    CHECK(wal_looked(&l, WAL_ECRC, NULL) == WAL_ECRC);
    l = (struct wal_look){0};
    do
        err_set(&l.e, WAL_EFORMAT, "at %d", n++);
    while (n < 1000 && wal_look_again(&l, WAL_EFORMAT));
    CHECK(n == 16);
}

/* Only a name that is one names a segment. */
static void test_foreign_names(void)
{
    static const char *const names[] = {
        "0000000000000001-000000000000000g.wal",
        "000000000000000g-0000000000000001.wal",
        "0000000000000001_0000000000000001.wal",
        "0000000000000001-0000000000000001.wam",
        "0000000000000001-0000000000000001.wal.broken",
        "1-1.wal",
    };
    struct wal *w = create();
    bool repaired;

    append(w, 1, 1, 1, 5);
    wal_close(w);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        write_file(names[i], STR("x"));
    CHECK(count(none) == 1);
    CHECK(reopen(none, &w, &repaired) == 1 && !repaired);
    wal_close(w);
}

/* The folder's name may end in slashes. */
static void test_slashes(void)
{
    struct wal *w = NULL;
    struct err e;
    char *slashes = xasprintf("%s//", dir), was[4096];

    CHECK(wal_create(slashes, &us, true, &w, &e) == 0);
    append(w, 1, 1, 1, 5);
    wal_close(w);
    CHECK(count(none) == 1 && exists(FIRST));
    free(slashes);

    /* Nor need it have any. */
    start_over();
    CHECK(getcwd(was, sizeof(was)) && chdir(base) == 0);
    CHECK(wal_create("wal", &us, false, &w, &e) == 0);
    wal_close(w);
    CHECK(chdir(was) == 0);
    CHECK(count(none) == 0 && exists(FIRST));
}

/* What a person is told before anything is done to a log. */
static void test_inspect(void)
{
    int64_t end, off = log_with_last(40, &end);
    struct wal_report r;
    struct err e = {0};
    char *where;

    CHECK(wal_inspect(dir, none, &r, &e) == 0);
    CHECK(r.contents.n_entries == 11 && r.n_segments == 1 && !r.torn);
    CHECK(r.bytes == end_of(FIRST));
    wal_report_release(&r);

    cut_file(FIRST, end - 8);
    where = xasprintf("offset %" PRId64, off);
    CHECK(wal_inspect(dir, none, &r, &e) == 0);
    CHECK(r.contents.n_entries == 10 && r.torn && strstr(r.torn, where));
    CHECK(r.n_torn > 0 && r.n_torn <= end - 8 - off && r.bytes == off);
    CHECK(!exists(FIRST ".broken"));
    wal_report_release(&r);
    free(where);

    /* Damage: what stands before it, and where it is. */
    poke(FIRST, frame_at(FIRST, 9, &end) + 20, "x", 1);
    CHECK(wal_inspect(dir, none, &r, &e) < 0);
    CHECK(strstr(e.msg, FIRST) && strstr(e.msg, "offset"));
    CHECK(r.contents.n_entries == 3 && r.contents.metadata.node_id);
    wal_report_release(&r);
}

/* Any segment's head tells whose log it is. */
static void test_inspect_ids(void)
{
    struct wal *w = create();
    struct wal_report r;
    struct err e;

    for (raft_index i = 1; i <= 14; i++)
        append(w, i, 1, 1, 400);
    wal_close(w);
    poke_zeros(FIRST, 0, SEGMENT);
    CHECK(wal_inspect(dir, none, &r, &e) < 0);
    CHECK(r.n_segments > 1 && r.contents.n_entries == 0);
    CHECK(r.contents.metadata.node_id == us.node_id);
    CHECK(r.contents.metadata.cluster_id == us.cluster_id);
    wal_report_release(&r);
    start_over();
    CHECK(wal_inspect(dir, none, &r, &e) == WAL_EIO && r.n_segments == 0);
    wal_report_release(&r);
}

int main(void)
{
    static void (*const tests[])(void) = {
        test_known_bytes,
        test_codec,
        test_append_and_reopen,
        test_segments,
        test_large,
        test_snapshots,
        test_received_snapshot,
        test_snapshot_with_conf_state,
        test_purge,
        test_purge_after_restart,
        test_locks,
        test_with_syncs,
        test_state_never_goes_back,
        test_no_state,
        test_crash_in_create,
        test_foreign_files,
        test_crash_in_cut,
        test_missing_segments,
        test_gap_in_front,
        test_short_tail,
        test_missing_sectors,
        test_missing_length,
        test_hole_in_the_middle,
        test_sparse_tail,
        test_hole_in_a_batch,
        test_damage_in_closed_segment,
        test_damaged_head,
        test_changed_bytes,
        test_impossible_records,
        test_look_again,
        test_foreign_names,
        test_slashes,
        test_inspect,
        test_inspect_ids,
    };

    wal_set_segment_bytes(SEGMENT);
    run_in_fresh_folders(tests, ARRAY_LEN(tests), "wal");
    return check_done("wal");
}
