/*
 * faults.c - a library for LD_PRELOAD that stands between a member and its
 * disk and clock. The file that CHAOS_FAULTS names is mapped; whoever else maps
 * it (chaos.py) turns the faults on and off while the member runs.
 *
 *   OFFSET SIZE
 *        0    4  delay_ms    each fsync and fdatasync takes so much longer
 *        4    4  fail_syncs  so many of the next syncs of the log fail (EIO)
 *        8    4  no_prealloc fallocate is not supported: files grow as they
 *                            are written, so that a full disk meets a write
 *       12    4  unused
 *       16    8  clock_ns    added to CLOCK_REALTIME
 *       24    8  syncs       counted here
 *       32    8  log_inode   the log's file that was written last, and up to
 *       40    8  log_synced  where it is on disk for sure: what is behind, a
 *                            power cut may take, all or in part
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000

struct control {
    int32_t delay_ms, fail_syncs, no_prealloc, unused;
    int64_t clock_ns;
    uint64_t syncs;
    uint64_t log_inode;
    int64_t log_synced;
};

static struct control no_faults, *control = &no_faults;
static int64_t log_written; /* the log has one writer at a time */

static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_fallocate)(int, int, off_t, off_t);
static int (*real_clock_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("CHAOS_FAULTS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *p;

    /* POSIX lets a void pointer hold a function; ISO C has no words for it. */
    *(void **)&real_fsync = dlsym(RTLD_NEXT, "fsync");
    *(void **)&real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    *(void **)&real_pwrite = dlsym(RTLD_NEXT, "pwrite");
    *(void **)&real_fallocate = dlsym(RTLD_NEXT, "fallocate");
    *(void **)&real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    if (fd < 0)
        return;
    p = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p != MAP_FAILED)
        control = p;
    close(fd);
}

static bool is_log(int fd)
{
    char link[64], path[4096];
    ssize_t n;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof(path) - 1);
    path[n < 0 ? 0 : n] = '\0';
    return strstr(path, "/wal/") != NULL;
}

/* The disk takes its time, and may not do it: 0, or -1 with errno. */
static int before_sync(int fd)
{
    int32_t ms = __atomic_load_n(&control->delay_ms, __ATOMIC_RELAXED);
    struct timespec t = {ms / 1000, ms % 1000 * 1000000L};

    __atomic_fetch_add(&control->syncs, 1, __ATOMIC_RELAXED);
    if (ms > 0)
        nanosleep(&t, NULL);
    if (__atomic_load_n(&control->fail_syncs, __ATOMIC_RELAXED) <= 0 ||
        !is_log(fd))
        return 0;
    __atomic_fetch_sub(&control->fail_syncs, 1, __ATOMIC_RELAXED);
    errno = EIO;
    return -1;
}

/* Before a byte is written: whoever is killed in between has written more than
 * is known, not less. What a life before this one wrote to the same file and did
 * not sync is not synced yet. */
static void before_write(int fd, off_t offset)
{
    struct stat st;

    if (fstat(fd, &st) < 0 || control->log_inode == st.st_ino)
        return;
    __atomic_store_n(&log_written, offset, __ATOMIC_SEQ_CST);
    __atomic_store_n(&control->log_synced, offset, __ATOMIC_SEQ_CST);
    __atomic_store_n(&control->log_inode, st.st_ino, __ATOMIC_SEQ_CST);
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t offset)
{
    bool log = is_log(fd);
    ssize_t rc;

    if (log)
        before_write(fd, offset);
    rc = real_pwrite(fd, data, n, offset);
    if (log && rc > 0)
        __atomic_store_n(&log_written, offset + rc, __ATOMIC_SEQ_CST);
    return rc;
}

static int sync_by(int (*real)(int), int fd)
{
    int64_t written = __atomic_load_n(&log_written, __ATOMIC_SEQ_CST);
    struct stat st;
    int rc;

    if (fstat(fd, &st) < 0)
        return -1;
    rc = before_sync(fd) < 0 ? -1 : real(fd);
    /* One that has written nothing itself: all of the file is on disk now. */
    if (rc == 0 && control->log_inode == st.st_ino)
        __atomic_store_n(&control->log_synced, written ? written : st.st_size,
                         __ATOMIC_SEQ_CST);
    return rc;
}

int fsync(int fd)
{
    return sync_by(real_fsync, fd);
}

int fdatasync(int fd)
{
    return sync_by(real_fdatasync, fd);
}

int fallocate(int fd, int mode, off_t offset, off_t len)
{
    if (__atomic_load_n(&control->no_prealloc, __ATOMIC_RELAXED)) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return real_fallocate(fd, mode, offset, len);
}

int clock_gettime(clockid_t id, struct timespec *t)
{
    int rc = real_clock_gettime(id, t);
    int64_t ns;

    if (rc < 0 || id != CLOCK_REALTIME)
        return rc;
    ns = (int64_t)t->tv_sec * NS_PER_S + t->tv_nsec +
         __atomic_load_n(&control->clock_ns, __ATOMIC_RELAXED);
    t->tv_sec = (time_t)(ns / NS_PER_S);
    t->tv_nsec = (long)(ns % NS_PER_S);
    return 0;
}
