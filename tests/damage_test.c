/*
 * damage_test.c - the medium itself is damaged: on a disk where everything is
 * synced a bit flips, a sector reads as zeros, a file ends early or is gone.
 * The next boot must find all that was acknowledged, or refuse, and say which
 * file is bad, at which offset of a log, and what to do.
 *
 * What etcd's format cannot tell from a crash, and therefore nobody can, is
 * allowed, and only there: the boot finds the state before the first record
 * that is damaged, and nothing else.
 *
 *   1. The tail of the log ends early: cut, zero to its end, or gone as a
 *      whole. That is how a log looks to which no more was written. (If it has
 *      nothing but its head left, the first boot of all is done again.)
 *   2. A sector of zeros in what may be the last write: behind it no record
 *      shows that writing went on (an entry behind a state, or anything behind
 *      a snapshot record). That is how a torn write looks. If the length of a
 *      record is all there is of it in a sector, one flipped bit can do it.
 *
 * The v3 state's file, db, is bbolt's, which has checksums of two pages only:
 * bits of the others may show in what is read. And a member that served v2
 * alone has none. So all that is asked of a bad one is that the boot ends well,
 * or says so.
 *
 *   damage_test [--long] [--seed N]
 */
#include "diskscript.h"

#include "check.h"
#include "sys.h"

#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

static struct {
    int bits; /* of each byte that is taken, one at a time */
    /* In logs and in snapshots one in so many bytes and lengths is taken. */
    uint64_t log_stride, snap_stride;
    int seeds;
} effort = {1, 9, 200, 4};

static struct {
    uint64_t images, whole, refused, limit;
} count;

enum kind { FLIPPED, ZEROED, ZEROED_TO_END, CUT, GONE };

static const char *const kind_names[] = {"flipped", "zeroed",
                                         "zeroed to the end", "cut", "gone"};

struct damage {
    enum kind kind;
    const char *path;
    uint64_t from, to; /* damaged bytes */
    int bit;
};

/* --- The log's tail. ---------------------------------------------------- */

struct found {
    uint64_t off, end;
    int64_t type;
};

static struct {
    const char *path; /* NULL: there is no log */
    struct found *v;
    size_t n;
    size_t head; /* so many open the segment */
} tail;

static size_t founding; /* records of the first boot of all */

static bool ends_in(const char *path, const char *end)
{
    size_t n = strlen(path), k = strlen(end);

    return n > k && strcmp(path + n - k, end) == 0;
}

static bool is_segment(const char *path)
{
    return ends_in(path, ".wal");
}

static void tail_read(const struct simdisk *d, const char *path)
{
    struct wal_record rec;
    const uint8_t *p;
    uint32_t crc = 0;
    size_t n, off = 0;
    int64_t used;

    p = simdisk_bytes(d, path, &n);
    tail.path = path;
    tail.n = 0;
    while ((used = wal_decode(p + off, n - off, &crc, &rec)) > 0) {
        tail.v = xrealloc(tail.v, (tail.n + 1) * sizeof(*tail.v));
        tail.v[tail.n++] = (struct found){off, off + (uint64_t)used, rec.type};
        off += (size_t)used;
    }
    tail.head = 3; /* crc, metadata, and a state or the empty snapshot */
}

/* Do records from i on show that what is before them had been synced? */
static bool went_on(size_t i)
{
    bool closed = false;

    for (; i < tail.n; i++) {
        if (closed && tail.v[i].type == WAL_ENTRY)
            return true;
        if (tail.v[i].type == WAL_SNAPSHOT && i + 1 < tail.n)
            return true;
        closed |= tail.v[i].type == WAL_STATE;
    }
    return false;
}

/* A word of zeros that is the last one of its sector. */
static bool ends_sector(const struct damage *x, const struct found *r)
{
    return x->from < r->off + 8 && (r->off + 8) % SIMDISK_SECTOR == 0;
}

/* Does such damage look like a crash? Then *records says how many of the
 * account's n are before it. */
static bool looks_like_crash(const struct damage *x, size_t n, size_t *records)
{
    size_t first = 0, behind = 0;

    if (!tail.path || strcmp(x->path, tail.path) != 0)
        return false;
    while (first < tail.n && tail.v[first].end <= x->from)
        first++;
    while (behind < tail.n && tail.v[behind].off < x->to)
        behind++;
    if (first == tail.n)
        return false;
    *records = n - (tail.n - (first < tail.head ? tail.head : first));
    if (*records < founding)
        *records = founding;
    switch (x->kind) {
    case CUT:
    case ZEROED_TO_END:
        return first >= 2; /* the head's crc and metadata are always there */
    case ZEROED:
        return first >= 2 &&
               (x->to >= tail.v[tail.n - 1].end || !went_on(behind));
    case FLIPPED:
        return first >= 2 && ends_sector(x, &tail.v[first]) &&
               !went_on(first + 1);
    default:
        return true;
    }
}

/* --- Judging. ----------------------------------------------------------- */

static void check_says(const struct damage *x, bool crash_like,
                       const char *message)
{
    bool log = is_segment(x->path);
    const char *name = strrchr(x->path, '/') + 1;
    bool good;

    /* A segment that ends too early shows in the next one. */
    if (log && (x->kind == CUT || x->kind == ZEROED_TO_END))
        good = strstr(message, ".wal at offset ") != NULL;
    else if (log && x->kind == GONE)
        good = strstr(message, "/wal") != NULL;
    else
        good = strstr(message, name) != NULL &&
               (!log || strstr(message, "offset ") != NULL);
    /* A tail that looks torn may have told of the snapshot. */
    good |= crash_like && strstr(message, "the end of the log is lost") != NULL;
    good &= strstr(message, "estore") != NULL;
    /* And db may be ahead of it. */
    good |= crash_like && strstr(message, "end of this one is lost") != NULL &&
            strstr(message, "recover rejoin") != NULL;
    CHECK(good);
    if (!good)
        fprintf(stderr, "%s: bytes %" PRIu64 " to %" PRIu64 " %s, says: %s\n",
                x->path, x->from, x->to, kind_names[x->kind], message);
}

/* A snapshot that is bad, gone or unknown may be done without. */
static void forgive_snapshots(struct account *a)
{
    for (size_t i = 0; i < a->n_saved; i++)
        a->saved[i].durable = false;
}

static enum script_result boot(struct script *t, struct simdisk *d,
                               const char *name, const struct account *a,
                               const struct damage *x, size_t n)
{
    script_init(t, d, name, BESIDE, a, 1);
    t->without_v3 = ends_in(x->path, "db");
    if (!is_segment(x->path) || n < a->n)
        forgive_snapshots(&t->account);
    t->account.n = t->account.acked = n;
    return script_boot(t);
}

static void judge(const struct damage *x, struct simdisk *c,
                  const struct account *a)
{
    struct simdisk *again = simdisk_copy(c, "again");
    struct script t, t2;
    size_t records;
    bool good = true;

    count.images++;
    switch (boot(&t, c, "image", a, x, a->n)) {
    case SCRIPT_OK:
        count.whole++;
        break;
    case SCRIPT_REPORTED:
        count.refused++;
        check_says(x, looks_like_crash(x, a->n, &records), t.why);
        break;
    case SCRIPT_WRONG:
        count.limit++;
        good = looks_like_crash(x, a->n, &records);
        if (good) {
            good = boot(&t2, again, "again", a, x, records) == SCRIPT_OK;
            script_release(&t2);
        }
    }
    CHECK(good);
    if (!good)
        fprintf(stderr, "%s: bytes %" PRIu64 " to %" PRIu64 " %s: %s\n",
                x->path, x->from, x->to, kind_names[x->kind], t.why);
    script_release(&t);
    simdisk_free(again);
    simdisk_free(c);
}

static void damage(const struct simdisk *d, const struct account *a,
                   struct damage x)
{
    struct simdisk *c = simdisk_copy(d, "image");
    char *path = xasprintf("/sim/image/%s", x.path);
    size_t n = (size_t)(x.to - x.from);
    uint8_t *zeros = xcalloc(n + 1, 1);
    int fd = open(path, O_RDWR);

    if (x.kind == FLIPPED)
        CHECK(simdisk_flip(c, x.path, x.from, x.bit));
    else if (x.kind == ZEROED || x.kind == ZEROED_TO_END)
        CHECK(pwrite(fd, zeros, n, (off_t)x.from) == (ssize_t)n);
    else if (x.kind == CUT)
        CHECK(ftruncate(fd, (off_t)x.from) == 0);
    else
        CHECK(unlink(path) == 0 && sys_fsync_parent(path, NULL) == 0);
    CHECK(fsync(fd) == 0 && close(fd) == 0);
    judge(&x, c, a);
    free(zeros);
    free(path);
}

static void damage_file(const struct simdisk *d, const struct account *a,
                        const char *path)
{
    uint64_t stride = is_segment(path) ? effort.log_stride : effort.snap_stride;
    uint64_t dice = stride, n, at;
    size_t size;

    simdisk_bytes(d, path, &size);
    n = size;
    for (at = 0; at < n; at += 1 + script_random(&dice) % (2 * stride - 1))
        for (int i = 0; i < effort.bits; i++) {
            int bit = effort.bits == 8 ? i : (int)(script_random(&dice) % 8);

            damage(d, a, (struct damage){FLIPPED, path, at, at + 1, bit});
        }
    for (at = 0; at < n; at += SIMDISK_SECTOR) {
        uint64_t end = at + SIMDISK_SECTOR;

        if (end < n)
            damage(d, a, (struct damage){ZEROED, path, at, end, 0});
        damage(d, a, (struct damage){ZEROED_TO_END, path, at, n, 0});
    }
    for (at = 0; at < n; at++)
        if (at % stride == 0 || (is_segment(path) && at % 8 == 0))
            damage(d, a, (struct damage){CUT, path, at, n, 0});
    damage(d, a, (struct damage){GONE, path, 0, n, 0});
}

static void test_damage(uint64_t seed)
{
    struct simdisk *d = simdisk_new("life");
    struct script s;
    char **paths;
    size_t n;

    script_init(&s, d, "life", BESIDE, NULL, seed);
    founding = s.account.n;
    CHECK(script_boot(&s) == SCRIPT_OK);
    CHECK(script_live(&s, 16 + (int)seed % 8) == SCRIPT_OK);
    script_stop(&s);
    CHECK(script_boot(&s) == SCRIPT_OK); /* so that all is synced */
    script_stop(&s);
    n = simdisk_list(d, &paths);
    tail.path = NULL;
    for (size_t i = 0; i < n; i++)
        if (is_segment(paths[i]))
            tail_read(d, paths[i]);
    for (size_t i = 0; i < n; i++)
        damage_file(d, &s.account, paths[i]);
    sys_free_list(paths, n);
    script_release(&s);
    simdisk_free(d);
}

int main(int argc, char **argv)
{
    uint64_t seed = 1;
    int64_t began = sys_mono_ns();

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--long") == 0) {
            effort.bits = 8;
            effort.log_stride = effort.snap_stride = 1;
            effort.seeds = 10;
        } else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
            seed = strtoull(argv[++i], NULL, 10);
        }
    }
    script_setup();
    for (int i = 0; i < effort.seeds; i++)
        test_damage(seed + (uint64_t)i);
    free(tail.v);
    printf("damage: %" PRIu64 " images, %" PRIu64 " booted whole, %" PRIu64
           " refused, %" PRIu64 " beyond what the format can tell, %.1f s\n",
           count.images, count.whole, count.refused, count.limit,
           (double)(sys_mono_ns() - began) / 1e9);
    return check_done("damage");
}
