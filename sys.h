/*
 * sys.h - the operating system: clocks, random bytes, files, threads.
 *
 * Functions that can fail return -1 and fill *e with path and errno's text.
 */
#ifndef SYS_H
#define SYS_H

#include "buf.h"

#include <pthread.h>
#include <time.h>

/* --- Time. -------------------------------------------------------------- */

#define NS_PER_MS 1000000LL
#define NS_PER_S 1000000000LL

int64_t sys_mono_ns(void); /* CLOCK_MONOTONIC: for every timer */
int64_t sys_wall_ns(void); /* unix time: for TTLs, logs and ids only */
void sys_sleep_ms(int64_t ms);

/* RFC 3339 in UTC with nanoseconds, trailing zeros cut, as Go prints it. */
#define SYS_RFC3339_MAX 40
size_t sys_rfc3339(char out[SYS_RFC3339_MAX], int64_t wall_ns);
/* The inverse, any zone. False if malformed. */
bool sys_parse_rfc3339(struct str s, int64_t *wall_ns);

/* Go's duration text: "1.5s", "347.05124ms", "2h0m0s". */
#define SYS_DURATION_MAX 32
size_t sys_duration(char out[SYS_DURATION_MAX], int64_t ns);
bool sys_parse_duration(struct str s, int64_t *ns);

/* --- Random. ------------------------------------------------------------ */

void sys_random(void *p, size_t n); /* getrandom, else /dev/urandom */

/* --- Files. ------------------------------------------------------------- */

int sys_mkdir_all(const char *path, unsigned mode, struct err *e);
bool sys_exists(const char *path);
/* The same where a wrong no does harm: -1 and e if it cannot be told. */
int sys_find(const char *path, bool *there, struct err *e);
int sys_read_file(const char *path, size_t max, struct buf *out, struct err *e);
/* All n bytes, through EINTR and short writes. */
int sys_write_all(int fd, const void *p, size_t n);
/*
 * Let the disk write these n bytes of what was written to fd, and wait for it,
 * so that a sync, of another file too, will not have to. They are not durable
 * before a sync. -1 with errno: they could not be written, which that sync may
 * not tell again.
 */
int sys_write_back(int fd, uint64_t at, uint64_t n);
int sys_fsync_dir(const char *path, struct err *e);
/* Of the directory that path's name is in. 0 if we may not read that one: then
 * it belongs to others, and what is in it was there before. */
int sys_fsync_parent(const char *path, struct err *e);
/*
 * Write path by way of path+".tmp": write, fsync, rename, fsync the directory.
 * A crash leaves the old file or the new one, never a mixture.
 */
int sys_write_file_atomic(const char *path, const void *p, size_t n,
                          unsigned mode, struct err *e);
int sys_remove_all(const char *path, struct err *e);
/* Entries of a directory, sorted, without . and ..; returns owned. */
int sys_list_dir(const char *path, char ***names, size_t *n, struct err *e);
void sys_free_list(char **names, size_t n);
/* The pid that holds a flock(2) on fd's file, from /proc/locks; 0 unknown. */
int sys_flock_holder(int fd);

/* --- Threads. ----------------------------------------------------------- */

/*
 * Stacks are small on purpose: ten thousand idle connections each hold one.
 * Only touched pages cost memory; nothing here recurses without a bound. The
 * deepest call takes a sixth of the small one: it is the addresses that count,
 * on a 32-bit machine or under ulimit -v.
 */
#define SYS_STACK_SMALL (64 * 1024)
#define SYS_STACK_LARGE (512 * 1024)

/* Start a joinable thread. 0, or -1 (out of threads or memory). */
int sys_thread(pthread_t *out, size_t stack, void *(*fn)(void *), void *arg);
/* As above, detached: the thing that counts such threads says who waits. */
int sys_thread_detached(size_t stack, void *(*fn)(void *), void *arg);
/*
 * Give the kernel back the pages of this thread's stack below the caller's
 * frame: they hold what deeper calls left behind. They come back as zeros
 * when they are needed. Before a long wait, from the function that waits.
 */
void sys_stack_trim(void);
/* After much was freed: give back what the allocator does not give by itself,
 * where it can be told to. */
void sys_heap_trim(void);
void sys_thread_name(const char *name); /* the calling thread's, for ps(1) */

/*
 * A 64-bit number that threads share without a lock of their own. Each call
 * is atomic; a load sees all that was written before the store or addition
 * whose result it gives. sys_u64_add() returns the sum.
 *
 * Some 32-bit machines (mips, old arm) have no instruction for this, and the
 * compiler would call a library beside libc: there, one lock in sys.c does it.
 */
#if __GCC_ATOMIC_LLONG_LOCK_FREE == 2
static inline uint64_t sys_u64_load(const uint64_t *p)
{
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static inline void sys_u64_store(uint64_t *p, uint64_t v)
{
    __atomic_store_n(p, v, __ATOMIC_RELEASE);
}

static inline uint64_t sys_u64_add(uint64_t *p, uint64_t n)
{
    return __atomic_add_fetch(p, n, __ATOMIC_ACQ_REL);
}
#else
uint64_t sys_u64_load(const uint64_t *p);
void sys_u64_store(uint64_t *p, uint64_t v);
uint64_t sys_u64_add(uint64_t *p, uint64_t n);
#endif

/* A condition variable on CLOCK_MONOTONIC. */
void sys_cond_init(pthread_cond_t *c);
/* Wait until signalled or until deadline (sys_mono_ns). False: time is up. */
bool sys_cond_wait_until(pthread_cond_t *c, pthread_mutex_t *mu,
                         int64_t deadline_ns);

/*
 * An event that one thread waits for and another sets, once. Cheaper than a
 * mutex with a condition: setting it is one exchange, and a system call only
 * if somebody sleeps; the waiter has nothing to lock again. The waiter owns
 * the storage and may reuse it as soon as its wait returned: sys_event_set()
 * does not look at it after the exchange (a wake-up that comes late finds
 * nobody, or wakes in vain).
 */
struct sys_event {
    uint32_t state; /* 0: not set, 1: set, 2: not set and waited for */
};

void sys_event_set(struct sys_event *ev);
bool sys_event_is_set(const struct sys_event *ev);
/* Until set, or until deadline (sys_mono_ns). False: time is up. */
bool sys_event_wait_until(struct sys_event *ev, int64_t deadline_ns);

#endif
