/*
 * failcalls.h - the calls that failetcd can let fail, shared with fail_test.
 */
#ifndef FAILCALLS_H
#define FAILCALLS_H

/* clang-format off */
#define FAIL_EACH(X) \
    X(malloc) X(calloc) X(realloc) \
    X(accept4) X(recv) X(send) X(sendmsg) X(poll) X(epoll_create1) X(eventfd) \
    X(epoll_ctl) X(epoll_wait) X(socket) X(setsockopt) X(getsockname) \
    X(bind) X(listen) X(pthread_create) X(getrandom) \
    X(open) X(read) X(pread) X(write) X(pwrite) X(fdatasync) X(fsync) \
    X(fallocate) X(ftruncate) X(lseek) X(fstat) X(flock) X(fcntl) \
    X(rename) X(mkdir) X(unlink) X(opendir)
/* clang-format on */

#define FAIL_NUMBER(name) FAIL_##name,
#define FAIL_NAME(name) #name,

enum { FAIL_EACH(FAIL_NUMBER) FAIL_CALLS };

static const char *const fail_names[] = {FAIL_EACH(FAIL_NAME)};

#endif
