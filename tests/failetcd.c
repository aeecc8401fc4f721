/*
 * failetcd.c - etcd, with system calls and allocations that fail on demand. For
 * tests/fail_test.c. Linked with --wrap for each call (failetcd.wrap).
 *
 *   FAIL_CALL=name FAIL_NTH=n FAIL_COUNT=k FAIL_ERRNO=e
 *       the calls n .. n+k-1 of this name fail with this errno
 *   FAIL_COUNTS=file
 *       how often each was called, as an array of uint64_t in the order of
 *       failcalls.h; mapped, so that it is right however the process ends
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <dirent.h>
#include <sys/file.h>
#include <sys/random.h>

#include "failcalls.h"

static struct {
    int call; /* -1: none is to fail */
    uint64_t first, last;
    int error;
    uint64_t *counts;
} plan = {.call = -1};

static uint64_t own_counts[FAIL_CALLS];

static uint64_t number(const char *name, uint64_t otherwise)
{
    const char *z = getenv(name);

    return z ? strtoull(z, NULL, 10) : otherwise;
}

/* Before main: the first calls count, too. */
__attribute__((constructor)) static void read_plan(void)
{
    const char *name = getenv("FAIL_CALL"), *file = getenv("FAIL_COUNTS");
    size_t size = sizeof(own_counts);
    int fd = -1;

    plan.counts = own_counts;
    if (file)
        fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0 && ftruncate(fd, (off_t)size) == 0) {
        void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

        if (p != MAP_FAILED)
            plan.counts = p;
    }
    if (fd >= 0)
        close(fd);
    memset(plan.counts, 0, size);
    plan.first = number("FAIL_NTH", 1);
    plan.last = plan.first + number("FAIL_COUNT", 1) - 1;
    plan.error = (int)number("FAIL_ERRNO", ENOMEM);
    for (int i = 0; name && i < FAIL_CALLS; i++)
        if (strcmp(name, fail_names[i]) == 0)
            plan.call = i;
}

/* Count this call. True: it is to fail, and errno is set. */
static int fails(int call)
{
    uint64_t n;

    if (!plan.counts) /* what runs before the plan is read */
        return 0;
    n = __atomic_add_fetch(&plan.counts[call], 1, __ATOMIC_RELAXED);
    if (call != plan.call || n < plan.first || n > plan.last)
        return 0;
    errno = plan.error;
    return 1;
}

/* WRAP(type, name, (parameters), (arguments), what a failure returns) */
#define WRAP(type, name, params, args, failed)                                 \
    type __real_##name params;                                                 \
    type __wrap_##name params;                                                 \
    type __wrap_##name params                                                  \
    {                                                                          \
        return fails(FAIL_##name) ? (failed) : __real_##name args;             \
    }

WRAP(void *, malloc, (size_t n), (n), NULL)
WRAP(void *, calloc, (size_t n, size_t size), (n, size), NULL)
WRAP(void *, realloc, (void *p, size_t n), (p, n), NULL)
WRAP(int, accept4, (int fd, struct sockaddr *a, socklen_t *n, int flags),
     (fd, a, n, flags), -1)
WRAP(ssize_t, recv, (int fd, void *p, size_t n, int flags), (fd, p, n, flags),
     -1)
WRAP(ssize_t, send, (int fd, const void *p, size_t n, int flags),
     (fd, p, n, flags), -1)
WRAP(ssize_t, sendmsg, (int fd, const struct msghdr *m, int flags),
     (fd, m, flags), -1)
WRAP(int, poll, (struct pollfd * p, nfds_t n, int ms), (p, n, ms), -1)
WRAP(int, epoll_create1, (int flags), (flags), -1)
WRAP(int, eventfd, (unsigned n, int flags), (n, flags), -1)
WRAP(int, epoll_ctl, (int ep, int op, int fd, struct epoll_event *e),
     (ep, op, fd, e), -1)
WRAP(int, epoll_wait, (int ep, struct epoll_event *e, int n, int ms),
     (ep, e, n, ms), -1)
WRAP(int, socket, (int domain, int type, int protocol),
     (domain, type, protocol), -1)
WRAP(int, setsockopt, (int fd, int level, int name, const void *p, socklen_t n),
     (fd, level, name, p, n), -1)
WRAP(int, getsockname, (int fd, struct sockaddr *a, socklen_t *n), (fd, a, n),
     -1)
WRAP(int, bind, (int fd, const struct sockaddr *a, socklen_t n), (fd, a, n), -1)
WRAP(int, listen, (int fd, int n), (fd, n), -1)
WRAP(int, pthread_create,
     (pthread_t * t, const pthread_attr_t *a, void *(*fn)(void *), void *arg),
     (t, a, fn, arg), plan.error)
WRAP(ssize_t, getrandom, (void *p, size_t n, unsigned flags), (p, n, flags), -1)
WRAP(ssize_t, read, (int fd, void *p, size_t n), (fd, p, n), -1)
WRAP(ssize_t, pread, (int fd, void *p, size_t n, off_t at), (fd, p, n, at), -1)
WRAP(ssize_t, write, (int fd, const void *p, size_t n), (fd, p, n), -1)
WRAP(ssize_t, pwrite, (int fd, const void *p, size_t n, off_t at),
     (fd, p, n, at), -1)
WRAP(int, fdatasync, (int fd), (fd), -1)
WRAP(int, fsync, (int fd), (fd), -1)
WRAP(int, fallocate, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n),
     -1)
WRAP(int, ftruncate, (int fd, off_t n), (fd, n), -1)
WRAP(off_t, lseek, (int fd, off_t at, int whence), (fd, at, whence), -1)
WRAP(int, fstat, (int fd, struct stat *st), (fd, st), -1)
WRAP(int, flock, (int fd, int op), (fd, op), -1)
WRAP(int, rename, (const char *from, const char *to), (from, to), -1)
WRAP(int, mkdir, (const char *path, mode_t mode), (path, mode), -1)
WRAP(int, unlink, (const char *path), (path), -1)
WRAP(DIR *, opendir, (const char *path), (path), NULL)

/* Those with an argument that may be missing. */
int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    mode_t mode = 0;
    va_list ap;

    if (flags & O_CREAT) {
        va_start(ap, flags);
        mode = (mode_t)va_arg(ap, int);
        va_end(ap);
    }
    return fails(FAIL_open) ? -1 : __real_open(path, flags, mode);
}

int __real_fcntl(int fd, int cmd, ...);
int __wrap_fcntl(int fd, int cmd, ...);
int __wrap_fcntl(int fd, int cmd, ...)
{
    va_list ap;
    void *arg;

    va_start(ap, cmd);
    arg = va_arg(ap, void *);
    va_end(ap);
    return fails(FAIL_fcntl) ? -1 : __real_fcntl(fd, cmd, arg);
}
