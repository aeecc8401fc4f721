/*
 * simdisk_test.c - the model of a disk itself: what a crash may leave, what
 * errors come when, and that all else goes on to the kernel.
 */
#include "simdisk.h"

#include "check.h"
#include "sys.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static char page[4096]; /* 'a's: 8 sectors */

static int create_file(const char *path)
{
    return open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
}

/* A durable file of n bytes, each c, durable name included. */
static void make_file(const char *path, const char *dir, char c, size_t n)
{
    char *bytes = malloc(n + 1);
    int fd = create_file(path);

    memset(bytes, c, n);
    CHECK(write(fd, bytes, n) == (ssize_t)n);
    CHECK(fsync(fd) == 0);
    CHECK(close(fd) == 0);
    CHECK(sys_fsync_dir(dir, NULL) == 0);
    free(bytes);
}

/* Answers from a script, one letter for each part: l, k, z; at its end the
 * last one holds on. Notes what it was asked. */
struct script {
    const char *at;
    char asked[512];
};

static enum simdisk_fate follow(void *arg, enum simdisk_op op, const char *path,
                                uint64_t offset, size_t n)
{
    struct script *s = arg;
    char c = *s->at;
    size_t used = strlen(s->asked);

    snprintf(s->asked + used, sizeof(s->asked) - used, "%d %s %d+%zu;", op,
             path, (int)offset, n);
    if (s->at[1])
        s->at++;
    return c == 'l' ? SIMDISK_LOST : c == 'z' ? SIMDISK_ZEROED : SIMDISK_KEPT;
}

static void crash(struct simdisk *d, const char *answers)
{
    struct script s = {answers, ""};

    simdisk_crash(d, follow, &s);
}

/* "aaab..": the first byte of each sector, "0" for a zero; or "-": no file. */
static const char *shape(struct simdisk *d, const char *path)
{
    static char out[64];
    size_t n, used = 0;
    const uint8_t *p = simdisk_bytes(d, path, &n);

    if (!p)
        return "-";
    for (size_t off = 0; off < n && used < sizeof(out) - 1;
         off += SIMDISK_SECTOR)
        out[used++] = p[off] ? (char)p[off] : '0';
    out[used] = '\0';
    return out;
}

static void test_lost_and_kept(void)
{
    struct simdisk *d = simdisk_new("t"), *c;
    int fd;

    make_file("/sim/t/f", "/sim/t", 'o', 1024);
    CHECK(simdisk_pending(d) == 0);
    fd = open("/sim/t/f", O_RDWR);
    CHECK(pwrite(fd, page, 1024, 512) == 1024); /* over and beyond the end */
    CHECK(simdisk_pending(d) == 2);
    CHECK_STR(shape(d, "f"), "oaa");

    c = simdisk_copy(d, "copy");
    CHECK(simdisk_digest(c) == simdisk_digest(d));
    crash(c, "l");
    CHECK_STR(shape(c, "f"), "oo");
    CHECK(simdisk_digest(c) != simdisk_digest(d));
    simdisk_free(c);

    c = simdisk_copy(d, "copy");
    crash(c, "lk");
    CHECK_STR(shape(c, "f"), "ooa");
    simdisk_free(c);

    c = simdisk_copy(d, "copy");
    crash(c, "kl");
    CHECK_STR(shape(c, "f"), "oa");
    simdisk_free(c);

    c = simdisk_copy(d, "copy");
    crash(c, "z");
    CHECK_STR(shape(c, "f"), "oo0");
    simdisk_free(c);

    /* The original goes on, and what is synced stays. */
    CHECK(fdatasync(fd) == 0);
    CHECK(simdisk_pending(d) == 0);
    crash(d, "l");
    CHECK_STR(shape(d, "f"), "oaa");
    CHECK(write(fd, page, 1) < 0 && errno == EBADF);
    simdisk_free(d);
}

/* What was in a sector and not synced comes along with a later write. */
static void test_sectors_bring_all_along(void)
{
    struct simdisk *d = simdisk_new("t");
    int fd;
    size_t n;
    const uint8_t *p;

    make_file("/sim/t/f", "/sim/t", 'o', 600);
    fd = open("/sim/t/f", O_RDWR);
    CHECK(pwrite(fd, page, 4, 0) == 4);
    CHECK(pwrite(fd, page, 4, 4) == 4);
    CHECK(pwrite(fd, page, 4, 508) == 4);
    crash(d, "lkl");
    p = simdisk_bytes(d, "f", &n);
    CHECK(n == 600 && memcmp(p, "aaaaaaaao", 9) == 0 && p[511] == 'o');
    simdisk_free(d);
}

static void test_truncate_and_allocate(void)
{
    struct simdisk *d = simdisk_new("t"), *c;
    struct script s = {"k", ""};
    int fd;

    make_file("/sim/t/f", "/sim/t", 'o', 1024);
    fd = open("/sim/t/f", O_RDWR);
    CHECK(ftruncate(fd, 512) == 0);
    CHECK(fallocate(fd, 0, 0, 2048) == 0);
    CHECK(pwrite(fd, page, 512, 1024) == 512);
    CHECK_STR(shape(d, "f"), "o0a0");
    CHECK(simdisk_pending(d) == 3);

    c = simdisk_copy(d, "copy");
    crash(c, "lkk");
    CHECK_STR(shape(c, "f"), "ooa0");
    simdisk_free(c);
    c = simdisk_copy(d, "copy");
    crash(c, "kll");
    CHECK_STR(shape(c, "f"), "o");
    simdisk_free(c);
    c = simdisk_copy(d, "copy");
    crash(c, "klk"); /* reordered: the later write without the allocation */
    CHECK_STR(shape(c, "f"), "o0a");
    simdisk_free(c);

    simdisk_crash(d, follow, &s);
    CHECK_STR(s.asked, "3 f 512+0;2 f 0+2048;1 f 1024+512;");
    CHECK_STR(shape(d, "f"), "o0a0");
    simdisk_free(d);
}

static void test_names(void)
{
    struct simdisk *d = simdisk_new("t"), *c;
    char **names;
    size_t n;

    make_file("/sim/t/old", "/sim/t", 'o', 1);
    make_file("/sim/t/gone", "/sim/t", 'g', 1);
    CHECK(close(create_file("/sim/t/new")) == 0);         /* 1 */
    CHECK(rename("/sim/t/old", "/sim/t/renamed") == 0);   /* 2 */
    CHECK(unlink("/sim/t/gone") == 0);                    /* 3 */
    CHECK(rename("/sim/t/renamed", "/sim/t/again") == 0); /* 4 */
    CHECK(simdisk_pending(d) == 4);
    n = simdisk_list(d, &names);
    CHECK(n == 2);
    CHECK_STR(names[0], "again");
    CHECK_STR(names[1], "new");
    sys_free_list(names, n);

    c = simdisk_copy(d, "copy");
    crash(c, "l"); /* asked once: the first that is lost ends all */
    CHECK_STR(shape(c, "old"), "o");
    CHECK_STR(shape(c, "gone"), "g");
    CHECK_STR(shape(c, "new"), "-");
    simdisk_free(c);

    c = simdisk_copy(d, "copy");
    crash(c, "kklk");
    CHECK_STR(shape(c, "new"), "");
    CHECK_STR(shape(c, "renamed"), "o");
    CHECK_STR(shape(c, "gone"), "g");
    CHECK_STR(shape(c, "again"), "-");
    simdisk_free(c);

    CHECK(sys_fsync_dir("/sim/t", NULL) == 0);
    CHECK(simdisk_pending(d) == 0);
    crash(d, "l");
    CHECK_STR(shape(d, "again"), "o");
    CHECK_STR(shape(d, "gone"), "-");
    simdisk_free(d);
}

/* A rename across directories is in both or in none, and brings what was
 * before it in either. */
static void test_two_directories(void)
{
    struct simdisk *d = simdisk_new("t"), *c;

    CHECK(mkdir("/sim/t/x", 0700) == 0);
    CHECK(mkdir("/sim/t/y", 0700) == 0);
    make_file("/sim/t/x/f", "/sim/t/x", 'o', 1);
    CHECK(sys_fsync_dir("/sim/t", NULL) == 0);
    CHECK(close(create_file("/sim/t/x/one")) == 0);
    CHECK(close(create_file("/sim/t/y/two")) == 0);
    CHECK(rename("/sim/t/x/f", "/sim/t/y/f") == 0);
    CHECK(close(create_file("/sim/t/y/three")) == 0);

    c = simdisk_copy(d, "copy");
    crash(c, "lk"); /* x ends, so the rename cannot be, nor what is behind */
    CHECK_STR(shape(c, "x/f"), "o");
    CHECK_STR(shape(c, "y/two"), "");
    CHECK_STR(shape(c, "y/f"), "-");
    CHECK_STR(shape(c, "y/three"), "-");
    simdisk_free(c);

    CHECK(sys_fsync_dir("/sim/t/y", NULL) == 0);
    CHECK(simdisk_pending(d) == 0); /* x/one had to come along */
    crash(d, "l");
    CHECK_STR(shape(d, "x/f"), "-");
    CHECK_STR(shape(d, "y/f"), "o");
    CHECK_STR(shape(d, "x/one"), "");
    simdisk_free(d);
}

/* A directory moves with all that is in it; replaced names are gone. */
static void test_directory_renamed(void)
{
    struct simdisk *d = simdisk_new("t"), *c;

    CHECK(sys_mkdir_all("/sim/t/a/tmp", 0700, NULL) == 0);
    make_file("/sim/t/a/tmp/f", "/sim/t/a/tmp", 'o', 1);
    CHECK(sys_fsync_dir("/sim/t", NULL) == 0);
    CHECK(sys_fsync_dir("/sim/t/a", NULL) == 0);
    CHECK(rename("/sim/t/a/tmp", "/sim/t/a/b") == 0);
    CHECK_STR(shape(d, "a/b/f"), "o");
    c = simdisk_copy(d, "copy");
    crash(c, "l");
    CHECK_STR(shape(c, "a/tmp/f"), "o");
    CHECK_STR(shape(c, "a/b/f"), "-");
    simdisk_free(c);
    CHECK(rename("/sim/t/a", "/sim/t/a/b/c") < 0 && errno == EINVAL);
    CHECK(rename("/sim/t/a/b/f", "/sim/t/a") < 0 && errno == EISDIR);
    CHECK(rename("/sim/t/a/b", "/sim/t/a/b/f") < 0 && errno == EINVAL);
    CHECK(sys_remove_all("/sim/t/a", NULL) == 0);
    CHECK(!sys_exists("/sim/t/a"));
    crash(d, "l");
    CHECK_STR(shape(d, "a/tmp/f"), "o");
    simdisk_free(d);
}

/* sys_write_file_atomic()'s promise, in each of its crashes. */
static void test_atomic_file(void)
{
    static const char *answers[] = {"l", "k", "lk", "kl", "z"};

    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        struct simdisk *d = simdisk_new("t");

        make_file("/sim/t/f", "/sim/t", 'o', 1000);
        CHECK(sys_write_file_atomic("/sim/t/f", page, 2000, 0600, NULL) == 0);
        CHECK(sys_write_file_atomic("/sim/t/g", page, 2000, 0600, NULL) == 0);
        crash(d, answers[i]);
        CHECK_STR(shape(d, "f"), "aaaa");
        CHECK_STR(shape(d, "g"), "aaaa");
        simdisk_free(d);
    }
}

/* --- Hooks. ------------------------------------------------------------- */

struct trap {
    enum simdisk_op op; /* on the first of these */
    int error;          /* fail so; or, 0, cut to n */
    size_t n;
    jmp_buf *crash; /* or never come back */
    char seen[512];
};

static int spring(void *arg, struct simdisk *d, enum simdisk_op op,
                  const char *path, size_t *n)
{
    struct trap *t = arg;
    size_t used = strlen(t->seen);

    (void)d;
    snprintf(t->seen + used, sizeof(t->seen) - used, "%d %s;", op, path);
    if (op != t->op)
        return 0;
    if (t->crash)
        longjmp(*t->crash, 1);
    if (t->error)
        return t->error;
    if (*n > t->n)
        *n = t->n;
    return 0;
}

static void test_hook(void)
{
    struct simdisk *d = simdisk_new("t");
    struct trap t = {.op = SIMDISK_SYNC, .error = EIO};
    struct trap crossing = {.op = SIMDISK_READ, .error = EIO};
    char b[8];
    int fd;

    simdisk_set_hook(d, spring, &crossing);
    CHECK(mkdir("/sim/t/m", 0700) == 0);
    CHECK(mkdir("/sim/t/m", 0700) < 0 && errno == EEXIST);
    fd = create_file("/sim/t/m/f");
    CHECK(write(fd, page, 8) == 8);
    CHECK(read(fd, b, 1) < 0 && errno == EIO);
    CHECK(rename("/sim/t/m/f", "/sim/t/m/g") == 0);
    CHECK(unlink("/sim/t/m/f") < 0 && errno == ENOENT);
    CHECK(fsync(fd) == 0);
    CHECK(sys_fsync_dir("/sim/t/m", NULL) == 0);
    CHECK_STR(crossing.seen, "6 m;9 m;6 m/f;1 m/f;0 m/f;7 m/f;9 m/f;4 m/g;"
                             "9 m;5 m;");

    simdisk_set_hook(d, spring, &t);
    CHECK(pwrite(fd, page, 4, 0) == 4);
    CHECK(fsync(fd) < 0 && errno == EIO);
    CHECK(simdisk_pending(d) == 1); /* the name of m; of f nothing any more */
    CHECK(pwrite(fd, page, 4, 0) == 4);
    t = (struct trap){.op = SIMDISK_WRITE, .n = 3};
    CHECK(pwrite(fd, page, 8, 0) == 3);
    t = (struct trap){.op = SIMDISK_CREATE, .error = ENOSPC};
    CHECK(create_file("/sim/t/other") < 0 && errno == ENOSPC);
    CHECK(create_file("/sim/t/m/g") >= 0); /* it makes nothing */
    simdisk_free(d);
}

/* What a sync failed to write no later one writes; readers still see it. */
static void test_failed_sync(void)
{
    struct simdisk *d = simdisk_new("t"), *c;
    struct trap t = {.op = SIMDISK_SYNC, .error = EIO};
    int fd;

    make_file("/sim/t/f", "/sim/t", 'o', 600);
    fd = open("/sim/t/f", O_RDWR);
    CHECK(pwrite(fd, page, 1024, 0) == 1024);
    simdisk_set_hook(d, spring, &t);
    CHECK(fsync(fd) < 0 && errno == EIO);
    simdisk_set_hook(d, NULL, NULL);
    CHECK(fsync(fd) == 0);
    CHECK_STR(shape(d, "f"), "aa");
    c = simdisk_copy(d, "copy");
    crash(c, "k");
    CHECK_STR(shape(c, "f"), "oo");
    simdisk_free(c);
    CHECK(pwrite(fd, page, 1, 512) == 1); /* its sector is whole in memory */
    crash(d, "k");
    CHECK_STR(shape(d, "f"), "oa");
    simdisk_free(d);
}

static int crash_in_hook(struct simdisk *d)
{
    jmp_buf out;
    struct trap t = {.op = SIMDISK_SYNC, .crash = &out};
    int fd;

    simdisk_set_hook(d, spring, &t);
    if (setjmp(out) == 0) {
        fd = create_file("/sim/t/f");
        CHECK(flock(fd, LOCK_EX | LOCK_NB) == 0);
        CHECK(write(fd, page, 512) == 512);
        fsync(fd);
        return -1;
    }
    simdisk_set_hook(d, NULL, NULL);
    return 0;
}

static void test_crash_in_hook(void)
{
    struct simdisk *d = simdisk_new("t");

    CHECK(crash_in_hook(d) == 0);
    CHECK(simdisk_pending(d) == 2);
    crash(d, "k");
    CHECK_STR(shape(d, "f"), "a");
    simdisk_free(d);
}

/* The process that waits in a hook may find its disk crashed, or gone. */
static int pull_away(void *arg, struct simdisk *d, enum simdisk_op op,
                     const char *path, size_t *n)
{
    (void)arg, (void)path, (void)n;
    if (op == SIMDISK_SYNC)
        crash(d, "l");
    else if (op == SIMDISK_UNLINK)
        simdisk_free(d);
    return 0;
}

static void test_gone_behind_hook(void)
{
    struct simdisk *d = simdisk_new("t");
    int fd;

    make_file("/sim/t/f", "/sim/t", 'o', 1);
    fd = open("/sim/t/f", O_RDWR);
    simdisk_set_hook(d, pull_away, NULL);
    CHECK(fsync(fd) < 0 && errno == EBADF);
    CHECK(unlink("/sim/t/f") < 0 && errno == ENOENT);
}

/* --- Errors, locks, space. ---------------------------------------------- */

static void test_errors(void)
{
    struct simdisk *d = simdisk_new("t");
    struct stat st;
    char b[4];
    int fd, dir;

    CHECK(mkdir("/sim", 0700) < 0 && errno == EEXIST);
    CHECK(mkdir("/sim/t", 0700) < 0 && errno == EEXIST);
    CHECK(mkdir("/sim/none/x", 0700) < 0 && errno == ENOENT);
    CHECK(open("/sim", O_RDONLY) < 0 && errno == EACCES);
    CHECK(open("/sim/t/none", O_RDWR) < 0 && errno == ENOENT);
    CHECK(open("/sim/t/none/x", O_RDWR | O_CREAT, 0600) < 0 && errno == ENOENT);
    make_file("/sim/t/f", "/sim/t", 'o', 10);
    CHECK(open("/sim/t/f", O_RDWR | O_CREAT | O_EXCL, 0600) < 0 &&
          errno == EEXIST);
    CHECK(open("/sim/t/f", O_RDONLY | O_DIRECTORY) < 0 && errno == ENOTDIR);
    CHECK(open("/sim/t/f/x", O_RDONLY) < 0 && errno == ENOTDIR);
    CHECK(open("/sim/t", O_RDWR) < 0 && errno == EISDIR);
    CHECK(mkdir("/sim/t/m", 0700) == 0);
    CHECK(unlink("/sim/t/m") < 0 && errno == EISDIR);
    CHECK(rmdir("/sim/t/f") < 0 && errno == ENOTDIR);
    CHECK(rmdir("/sim/t") < 0);
    CHECK(rename("/sim/t/f", "/tmp/f") < 0 && errno == EXDEV);
    CHECK(rename("/sim/t/x", "/sim/t/y") < 0 && errno == ENOENT);
    CHECK(!opendir("/sim/t/x") && errno == ENOENT);
    CHECK(!opendir("/sim/t/f") && errno == ENOTDIR);
    CHECK(access("/sim/t/f", F_OK) == 0 && access("/sim/t/x", F_OK) < 0);

    fd = open("/sim/t/f", O_RDONLY);
    CHECK(write(fd, page, 1) < 0 && errno == EBADF);
    CHECK(ftruncate(fd, 1) < 0 && errno == EINVAL);
    CHECK(fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == 10);
    CHECK(lseek(fd, 8, SEEK_SET) == 8);
    CHECK(read(fd, b, 4) == 2 && read(fd, b, 4) == 0);
    CHECK(pread(fd, b, 4, 20) == 0);
    CHECK(lseek(fd, 0, SEEK_DATA) == 0);
    CHECK(lseek(fd, 10, SEEK_DATA) < 0 && errno == ENXIO);
    CHECK(lseek(fd, 0, SEEK_HOLE) == 10);
    CHECK(close(fd) == 0 && close(fd) < 0 && errno == EBADF);
    dir = open("/sim/t", O_RDONLY | O_DIRECTORY);
    CHECK(fstat(dir, &st) == 0 && S_ISDIR(st.st_mode));
    CHECK(read(dir, b, 1) < 0 && errno == EISDIR);
    fd = open("/sim/t/f", O_WRONLY | O_APPEND);
    CHECK(write(fd, page, 2) == 2 && write(fd, page, 1) == 1);
    CHECK(read(fd, b, 1) < 0 && errno == EBADF);
    CHECK(fstat(fd, &st) == 0 && st.st_size == 13);
    simdisk_free(d);
}

static void test_locks(void)
{
    struct simdisk *d = simdisk_new("t");
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int a = create_file("/sim/t/f"), b = open("/sim/t/f", O_RDWR);

    CHECK(flock(a, LOCK_EX | LOCK_NB) == 0);
    CHECK(flock(a, LOCK_EX | LOCK_NB) == 0);
    CHECK(flock(b, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK);
    CHECK(flock(b, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK);
    CHECK(flock(a, LOCK_SH) == 0);
    CHECK(flock(b, LOCK_SH) == 0);
    CHECK(fcntl(a, F_OFD_SETLK, &whole) == 0);
    CHECK(fcntl(b, F_OFD_SETLK, &whole) < 0 && errno == EAGAIN);
    CHECK(close(a) == 0);
    CHECK(flock(b, LOCK_EX | LOCK_NB) == 0);
    CHECK(fcntl(b, F_OFD_SETLK, &whole) == 0);
    simdisk_close_all(d); /* the process ends; another one starts */
    a = open("/sim/t/f", O_RDWR);
    CHECK(a >= 0 && flock(a, LOCK_EX | LOCK_NB) == 0);
    CHECK(fcntl(a, F_OFD_SETLK, &whole) == 0);
    simdisk_free(d);
}

static void test_space(void)
{
    struct simdisk *d = simdisk_new("t");
    int fd = create_file("/sim/t/f"), other;

    simdisk_set_capacity(d, 2000);
    CHECK(fallocate(fd, 0, 0, 2001) < 0 && errno == ENOSPC);
    CHECK(fallocate(fd, 0, 0, 1500) == 0);
    other = create_file("/sim/t/g");
    CHECK(write(other, page, 600) == 500); /* what there is room for */
    CHECK(write(other, page, 100) < 0 && errno == ENOSPC);
    CHECK(pwrite(fd, page, 1500, 0) == 1500);
    CHECK(pwrite(other, page, 500, 0) == 500);
    CHECK(ftruncate(fd, 500) == 0);
    CHECK(write(other, page, 1000) == 1000);
    CHECK(rename("/sim/t/f", "/sim/t/g") == 0); /* g lives in `other` only */
    CHECK(pwrite(fd, page, 600, 0) == 500);
    CHECK(close(other) == 0);
    CHECK(pwrite(fd, page, 2000, 0) == 2000);
    CHECK(unlink("/sim/t/g") == 0 && close(fd) == 0);
    fd = create_file("/sim/t/h");
    CHECK(write(fd, page, 2500) == 2000);
    simdisk_free(d);
}

static void test_damage(void)
{
    struct simdisk *d = simdisk_new("t");
    uint64_t before;

    make_file("/sim/t/f", "/sim/t", 'a', 100);
    before = simdisk_digest(d);
    CHECK(simdisk_flip(d, "f", 99, 1));
    CHECK(!simdisk_flip(d, "f", 100, 1) && !simdisk_flip(d, "g", 0, 1));
    CHECK(simdisk_digest(d) != before);
    crash(d, "l");
    CHECK(simdisk_bytes(d, "f", &(size_t){0})[99] == ('a' ^ 2));
    simdisk_free(d);
}

/* Zeros that were written and zeros that were never are equal for a reader;
 * the order of names does not matter. */
static void test_digest(void)
{
    struct simdisk *a = simdisk_new("a"), *b = simdisk_new("b");
    static const char zeros[1000];
    int fd = create_file("/sim/a/f");

    CHECK(write(fd, zeros, 1000) == 1000);
    CHECK(close(create_file("/sim/a/g")) == 0);
    CHECK(close(create_file("/sim/b/g")) == 0);
    CHECK(simdisk_digest(a) != simdisk_digest(b));
    fd = create_file("/sim/b/f");
    CHECK(simdisk_digest(a) != simdisk_digest(b));
    CHECK(fallocate(fd, 0, 0, 1000) == 0);
    CHECK(simdisk_digest(a) == simdisk_digest(b));
    CHECK(rename("/sim/b/g", "/sim/b/h") == 0);
    CHECK(simdisk_digest(a) != simdisk_digest(b));
    simdisk_free(a);
    simdisk_free(b);
}

/* An open file whose name is gone lives on; a stream shows what was there. */
static void test_open_and_gone(void)
{
    struct simdisk *d = simdisk_new("t"), *c;
    int fd = create_file("/sim/t/f"), n = 0;
    DIR *dir = opendir("/sim/t");
    char b[2];

    CHECK(write(fd, page, 2) == 2);
    CHECK(unlink("/sim/t/f") == 0);
    CHECK(sys_fsync_dir("/sim/t", NULL) == 0);
    c = simdisk_copy(d, "copy");
    CHECK(simdisk_pending(c) == 0);
    CHECK(pread(fd, b, 2, 0) == 2);
    while (readdir(dir))
        n++;
    CHECK(n == 1 && closedir(dir) == 0);
    dir = opendir("/sim/t");
    CHECK(dir && !readdir(dir));
    simdisk_free(c);
    simdisk_free(d); /* closes both */
}

static void test_kernel(void)
{
    char path[] = "/tmp/simdisk_test.XXXXXX", *below, b[4];
    DIR *dir;
    int fd, n = 0;

    CHECK(mkdtemp(path) != NULL);
    below = xasprintf("%s/f", path);
    CHECK(sys_write_file_atomic(below, "abc", 3, 0600, NULL) == 0);
    fd = open(below, O_RDWR);
    CHECK(fd >= 0 && fd < SIMDISK_FD_FIRST);
    CHECK(flock(fd, LOCK_EX | LOCK_NB) == 0);
    CHECK(fcntl(fd, F_SETFD, FD_CLOEXEC) == 0);
    CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);
    CHECK(read(fd, b, 4) == 3 && pread(fd, b, 4, 1) == 2);
    CHECK(ftruncate(fd, 1) == 0 && lseek(fd, 0, SEEK_END) == 1);
    CHECK(close(fd) == 0);
    dir = opendir(path);
    while (readdir(dir))
        n++;
    CHECK(n == 3 && closedir(dir) == 0);
    CHECK(sys_remove_all(path, NULL) == 0);
    free(below);
}

int main(void)
{
    memset(page, 'a', sizeof(page));
    test_lost_and_kept();
    test_sectors_bring_all_along();
    test_truncate_and_allocate();
    test_names();
    test_two_directories();
    test_directory_renamed();
    test_atomic_file();
    test_hook();
    test_failed_sync();
    test_crash_in_hook();
    test_gone_behind_hook();
    test_errors();
    test_locks();
    test_space();
    test_damage();
    test_digest();
    test_open_and_gone();
    test_kernel();
    return check_done("simdisk");
}
