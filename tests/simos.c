/*
 * simos.c - fibers on virtual time (see simos.h).
 *
 * Fibers switch to one another directly: who has to wait picks the next one.
 * Runnable ones stand in an array without order, because the next is drawn
 * from it anyway; sleepers and future calls in a heap by time, then by number.
 */
#undef _FORTIFY_SOURCE /* its longjmp() knows one stack only */

#include "simos.h"

#include "buf.h"

#include <assert.h>
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef __GLIBC__ /* musl has no contexts: sim_test says so and ends */
#define getcontext(c) ((void)(c), abort())
#define setcontext(c) ((void)(c), abort())
#define makecontext(c, fn, n) ((void)(c), (void)(fn), abort())
#define swapcontext(from, to) ((void)(from), (void)(to), abort())
#endif

#if defined(__SANITIZE_ADDRESS__)
#define SIM_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIM_ASAN 1
#endif
#endif
#ifdef SIM_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define STACK_BYTES (1024 * 1024)
#else
#include <setjmp.h>
#define STACK_BYTES (256 * 1024)
#endif

#define FIBERS_MAX 1500
#define SPURIOUS_PER_MILLE 2
#define STEP_NS 1000             /* what a switch takes */
#define SWITCHES_MAX 60000000ULL /* a run that does not end */

enum fiber_state { FIBER_FREE, FIBER_RUNNABLE, FIBER_BLOCKED, FIBER_DONE };

struct sim_fiber {
    unsigned number; /* its place in fibers[] */
    enum fiber_state state;
    uint64_t ticket; /* moves with each wake-up; timers remember it */
    struct sim_proc *proc;
    struct sim_fiber *proc_prev, *proc_next; /* of its process */
    struct sim_queue *queue;                 /* where it waits */
    struct sim_fiber *prev, *next;
    const void *futex;
    bool timed_out, started, in_run, detached, joinable_done;
    bool first; /* its end is the process's */
    struct sim_queue joiners;
    void *(*thread_fn)(void *);
    sim_fn *fn;
    void *arg;
    char *stack;
    ucontext_t context;
#ifdef SIM_ASAN
    void *fake_stack;
#else
    jmp_buf jump;
#endif
};

struct timer {
    int64_t when;
    uint64_t number;
    struct sim_fiber *fiber; /* or fn */
    uint64_t ticket;
    sim_fn *fn;
    void *arg;
};

static struct sim_fiber *fibers;
static unsigned free_fibers[FIBERS_MAX], n_free;

static struct {
    bool running;
    uint64_t random, digest, switches, timer_number;
    unsigned yield_per_mille;
    unsigned preempt_per_100k; /* of the locks taken: away for a while */
    int64_t now;
    struct sim_fiber *current, *zombie;
    struct sim_fiber *run[FIBERS_MAX];
    unsigned n_run;
    struct timer *timers;
    size_t n_timers, cap_timers;
    struct sim_queue futexes;
    void (*on_exit)(struct sim_proc *p, int status);
    ucontext_t home;
#ifdef SIM_ASAN
    void *home_fake;
    const void *home_stack;
    size_t home_size;
#endif
} os;

/* --- Chance. ------------------------------------------------------------ */

/* Sebastiano Vigna's splitmix64. */
uint64_t sim_rand(void)
{
    uint64_t z = os.random += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

uint64_t sim_below(uint64_t n)
{
    return n ? sim_rand() % n : 0;
}

int64_t sim_between(int64_t lo, int64_t hi)
{
    return lo + (int64_t)sim_below((uint64_t)(hi - lo + 1));
}

bool sim_chance(unsigned per_mille)
{
    return per_mille && sim_rand() % 1000 < per_mille;
}

/* --- The heap of timers. ------------------------------------------------ */

static bool before(const struct timer *a, const struct timer *b)
{
    return a->when < b->when || (a->when == b->when && a->number < b->number);
}

static void add_timer(struct timer t)
{
    size_t i = os.n_timers++;

    if (i == os.cap_timers) {
        os.cap_timers = os.cap_timers ? os.cap_timers * 2 : 256;
        os.timers = xrealloc(os.timers, os.cap_timers * sizeof(*os.timers));
    }
    t.number = ++os.timer_number;
    while (i > 0 && before(&t, &os.timers[(i - 1) / 2])) {
        os.timers[i] = os.timers[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    os.timers[i] = t;
}

static struct timer pop_timer(void)
{
    struct timer top = os.timers[0], last = os.timers[--os.n_timers];
    size_t i = 0, child;

    while ((child = 2 * i + 1) < os.n_timers) {
        if (child + 1 < os.n_timers &&
            before(&os.timers[child + 1], &os.timers[child]))
            child++;
        if (!before(&os.timers[child], &last))
            break;
        os.timers[i] = os.timers[child];
        i = child;
    }
    os.timers[i] = last;
    return top;
}

/* --- Fibers. ------------------------------------------------------------ */

void simos_reserve(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *all =
        mmap(NULL, (size_t)FIBERS_MAX * STACK_BYTES, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (all == MAP_FAILED)
        abort();
    fibers = xcalloc(FIBERS_MAX, sizeof(*fibers));
    for (unsigned i = 0; i < FIBERS_MAX; i++) {
        fibers[i].number = i;
        fibers[i].stack = all + (size_t)i * STACK_BYTES;
        mprotect(fibers[i].stack, page, PROT_NONE);
        free_fibers[i] = FIBERS_MAX - 1 - i;
    }
    n_free = FIBERS_MAX;
}

static void make_runnable(struct sim_fiber *f)
{
    f->state = FIBER_RUNNABLE;
    f->ticket++;
    if (f->in_run)
        return;
    f->in_run = true;
    os.run[os.n_run++] = f;
}

static void queue_remove(struct sim_fiber *f)
{
    struct sim_queue *q = f->queue;

    if (!q)
        return;
    if (f->prev)
        f->prev->next = f->next;
    else
        q->first = f->next;
    if (f->next)
        f->next->prev = f->prev;
    else
        q->last = f->prev;
    f->queue = NULL;
    f->prev = f->next = NULL;
}

static void queue_append(struct sim_queue *q, struct sim_fiber *f)
{
    f->queue = q;
    f->next = NULL;
    f->prev = q->last;
    if (q->last)
        q->last->next = f;
    else
        q->first = f;
    q->last = f;
}

static void recycle(struct sim_fiber *f)
{
    f->state = FIBER_FREE;
    f->ticket++;
    if (!f->in_run)
        free_fibers[n_free++] = f->number;
}

static void leave_proc(struct sim_fiber *f)
{
    if (!f->proc)
        return;
    if (f->proc_prev)
        f->proc_prev->proc_next = f->proc_next;
    else
        f->proc->fibers = f->proc_next;
    if (f->proc_next)
        f->proc_next->proc_prev = f->proc_prev;
    f->proc_prev = f->proc_next = NULL;
}

static void after_switch(void)
{
    if (os.zombie) {
        recycle(os.zombie);
        os.zombie = NULL;
    }
}

_Noreturn static void fiber_main(void);

#ifdef SIM_ASAN
static void switch_to(struct sim_fiber *from, struct sim_fiber *to)
{
    bool ends = os.zombie == from;

    if (!to->started) {
        to->started = true;
        getcontext(&to->context);
        to->context.uc_stack.ss_sp = to->stack;
        to->context.uc_stack.ss_size = STACK_BYTES;
        to->context.uc_link = NULL;
        makecontext(&to->context, (void (*)(void))fiber_main, 0);
        __asan_unpoison_memory_region(to->stack + 4096, STACK_BYTES - 4096);
        to->fake_stack = NULL;
    }
    __sanitizer_start_switch_fiber(ends ? NULL : &from->fake_stack, to->stack,
                                   STACK_BYTES);
    swapcontext(&from->context, &to->context);
    __sanitizer_finish_switch_fiber(from->fake_stack, NULL, NULL);
}
#else
/* A new fiber is entered by its context; later switches save the system call
 * for the signal mask that swapcontext() makes. */
static void switch_to(struct sim_fiber *from, struct sim_fiber *to)
{
    if (_setjmp(from->jump))
        return;
    if (to->started)
        _longjmp(to->jump, 1);
    to->started = true;
    getcontext(&to->context);
    to->context.uc_stack.ss_sp = to->stack;
    to->context.uc_stack.ss_size = STACK_BYTES;
    to->context.uc_link = NULL;
    makecontext(&to->context, (void (*)(void))fiber_main, 0);
    setcontext(&to->context);
}
#endif

/* Fire the next timer: a fiber that is due, or a call. */
static void fire_timer(void)
{
    struct timer t = pop_timer();

    if (t.when > os.now)
        os.now = t.when;
    if (t.fn) {
        t.fn(t.arg);
    } else if (t.fiber->ticket == t.ticket && t.fiber->state == FIBER_BLOCKED) {
        t.fiber->timed_out = true;
        queue_remove(t.fiber);
        make_runnable(t.fiber);
    }
}

static struct sim_fiber *pick(void)
{
    for (;;) {
        struct sim_fiber *f;
        unsigned i;

        while (os.n_timers && (os.n_run == 0 || os.timers[0].when <= os.now))
            fire_timer();
        if (os.n_run == 0) {
            fprintf(stderr, "simos: nobody can run, and nobody waits\n");
            abort();
        }
        i = os.n_run == 1 ? 0 : (unsigned)sim_below(os.n_run);
        f = os.run[i];
        os.run[i] = os.run[--os.n_run];
        f->in_run = false;
        if (f->state == FIBER_FREE) {
            free_fibers[n_free++] = f->number; /* killed meanwhile */
        } else if (f->proc && f->proc->paused) {
            f->next = f->proc->parked;
            f->proc->parked = f;
        } else {
            return f;
        }
    }
}

/* Let another fiber go on; the caller has said what it waits for. */
static void schedule(void)
{
    struct sim_fiber *from = os.current, *to;

    os.now += STEP_NS;
    to = pick();
    os.switches++;
    os.digest = (os.digest ^ (uint64_t)os.now ^ (uint64_t)to->number << 48 ^
                 os.random << 7) *
                0x100000001b3;
    if (os.switches > SWITCHES_MAX) {
        fprintf(stderr, "simos: the run does not end\n");
        abort();
    }
    if (to == from)
        return;
    os.current = to;
    switch_to(from, to);
    after_switch();
}

/* The end of the current fiber, which is in nobody's list any more. */
_Noreturn static void vanish(void)
{
    struct sim_fiber *f = os.current;

    f->state = FIBER_DONE;
    os.zombie = f;
    schedule();
    abort();
}

static void go_home(void);

_Noreturn static void fiber_main(void)
{
    struct sim_fiber *f;

#ifdef SIM_ASAN
    {
        const void *bottom;
        size_t size;

        __sanitizer_finish_switch_fiber(NULL, &bottom, &size);
        if (!os.home_stack) {
            os.home_stack = bottom;
            os.home_size = size;
        }
    }
#endif
    after_switch();
    f = os.current;
    if (f->thread_fn)
        f->thread_fn(f->arg);
    else
        f->fn(f->arg);
    if (f->first && !f->proc)
        go_home();
    if (f->first)
        sim_kill(f->proc);
    if (f->thread_fn && !f->detached) {
        f->joinable_done = true;
        sim_wake(&f->joiners);
        f->state = FIBER_BLOCKED; /* until it is joined */
        schedule();
        abort();
    }
    leave_proc(f);
    vanish();
}

static struct sim_fiber *new_fiber(struct sim_proc *p)
{
    struct sim_fiber *f;
    char *stack;
    unsigned number;
    uint64_t ticket;

    if (n_free == 0) {
        fprintf(stderr, "simos: too many fibers\n");
        abort();
    }
    f = &fibers[free_fibers[--n_free]];
    stack = f->stack;
    number = f->number;
    ticket = f->ticket;
    memset(f, 0, offsetof(struct sim_fiber, context));
    f->stack = stack;
    f->number = number;
    f->ticket = ticket;
    f->proc = p;
    if (p) {
        f->first = !p->fibers;
        f->proc_next = p->fibers;
        if (p->fibers)
            p->fibers->proc_prev = f;
        p->fibers = f;
    }
    make_runnable(f);
    return f;
}

#ifdef SIM_ASAN
static void go_home(void)
{
    __sanitizer_start_switch_fiber(NULL, os.home_stack, os.home_size);
    setcontext(&os.home);
}
#else
static void go_home(void)
{
    setcontext(&os.home);
}
#endif

void simos_seed(uint64_t seed)
{
    os.random = seed * 0x9e3779b97f4a7c15 + 1;
}

void simos_run(unsigned yield_per_mille, sim_fn *main_fn, void *arg)
{
    volatile bool over = false;
    struct sim_fiber *f;

    os.yield_per_mille = yield_per_mille;
    os.preempt_per_100k = sim_chance(300) ? (unsigned)sim_below(3000) : 20;
    os.now = SIM_S;
    os.digest = 0xcbf29ce484222325;
    f = new_fiber(NULL);
    f->first = true;
    f->fn = main_fn;
    f->arg = arg;
    os.current = pick();
    os.running = true;
    getcontext(&os.home);
    if (!over) {
        over = true;
        f->started = true;
        getcontext(&f->context);
        f->context.uc_stack.ss_sp = f->stack;
        f->context.uc_stack.ss_size = STACK_BYTES;
        makecontext(&f->context, (void (*)(void))fiber_main, 0);
#ifdef SIM_ASAN
        __sanitizer_start_switch_fiber(&os.home_fake, f->stack, STACK_BYTES);
#endif
        setcontext(&f->context);
    }
#ifdef SIM_ASAN
    __sanitizer_finish_switch_fiber(os.home_fake, NULL, NULL);
#endif
    os.running = false;
    os.current = NULL;
}

uint64_t simos_digest(void)
{
    return os.digest;
}

uint64_t simos_switches(void)
{
    return os.switches;
}

void simos_on_exit(void (*fn)(struct sim_proc *p, int status))
{
    os.on_exit = fn;
}

/* --- Time and processes. ------------------------------------------------ */

int64_t sim_now(void)
{
    return os.now;
}

int64_t sim_wall(const struct sim_proc *p)
{
    return SIM_WALL_BASE + os.now + (p ? p->wall_skew_ns : 0);
}

struct sim_proc *sim_self(void)
{
    return os.current ? os.current->proc : NULL;
}

struct sim_proc *sim_proc_new(int number)
{
    struct sim_proc *p = xcalloc(1, sizeof(*p));

    p->number = number;
    return p;
}

void sim_spawn(struct sim_proc *p, sim_fn *fn, void *arg)
{
    struct sim_fiber *f = new_fiber(p);

    f->fn = fn;
    f->arg = arg;
}

void sim_kill(struct sim_proc *p)
{
    bool self = false;

    if (p->dead)
        return;
    p->dead = true;
    while (p->fibers) {
        struct sim_fiber *f = p->fibers;

        queue_remove(f);
        leave_proc(f);
        f->proc = NULL;
        if (f == os.current)
            self = true;
        else
            recycle(f);
    }
    p->parked = NULL;
    if (self)
        vanish();
}

void sim_pause(struct sim_proc *p)
{
    p->paused = true;
}

void sim_resume(struct sim_proc *p)
{
    struct sim_fiber *f = p->parked;

    p->paused = false;
    p->parked = NULL;
    while (f) {
        struct sim_fiber *next = f->next;

        f->next = NULL;
        f->in_run = true;
        os.run[os.n_run++] = f;
        f = next;
    }
}

static bool block(struct sim_queue *q, int64_t deadline)
{
    struct sim_fiber *f = os.current;

    f->state = FIBER_BLOCKED;
    f->timed_out = false;
    f->ticket++;
    if (q)
        queue_append(q, f);
    if (deadline != SIM_NEVER)
        add_timer(
            (struct timer){.when = deadline, .fiber = f, .ticket = f->ticket});
    schedule();
    return !f->timed_out;
}

void sim_sleep(int64_t ns)
{
    block(NULL, os.now + (ns > 0 ? ns : 0));
}

void sim_at(int64_t when, sim_fn *fn, void *arg)
{
    add_timer((struct timer){.when = when, .fn = fn, .arg = arg});
}

bool sim_wait(struct sim_queue *q, int64_t deadline)
{
    if (deadline <= os.now)
        return false;
    return block(q, deadline);
}

void sim_wake_one(struct sim_queue *q)
{
    struct sim_fiber *f = q->first;

    if (f) {
        queue_remove(f);
        make_runnable(f);
    }
}

void sim_wake(struct sim_queue *q)
{
    while (q->first)
        sim_wake_one(q);
}

static void yield(void)
{
    make_runnable(os.current);
    schedule();
}

/* Where threads may well meet others. */
static void maybe_yield(void)
{
    if (!os.yield_per_mille)
        return;
    if (sim_chance(os.yield_per_mille))
        yield();
    else if (sim_below(100000) < os.preempt_per_100k)
        sim_sleep(sim_between(1, 20 * SIM_MS));
}

/* --- Threads, in place of libc's. --------------------------------------- */

int __real_pthread_create(pthread_t *out, const pthread_attr_t *attr,
                          void *(*fn)(void *), void *arg);
int __wrap_pthread_create(pthread_t *out, const pthread_attr_t *attr,
                          void *(*fn)(void *), void *arg);
int __real_pthread_join(pthread_t t, void **result);
int __wrap_pthread_join(pthread_t t, void **result);
pthread_t __real_pthread_self(void);
pthread_t __wrap_pthread_self(void);
int __real_pthread_setname_np(pthread_t t, const char *name);
int __wrap_pthread_setname_np(pthread_t t, const char *name);
int __real_pthread_setaffinity_np(pthread_t t, size_t n, const cpu_set_t *cpus);
int __wrap_pthread_setaffinity_np(pthread_t t, size_t n, const cpu_set_t *cpus);
int __real_sched_yield(void);
int __wrap_sched_yield(void);

int __wrap_pthread_create(pthread_t *out, const pthread_attr_t *attr,
                          void *(*fn)(void *), void *arg)
{
    struct sim_fiber *f;
    int state = PTHREAD_CREATE_JOINABLE;

    if (!os.running)
        return __real_pthread_create(out, attr, fn, arg);
    if (attr)
        pthread_attr_getdetachstate(attr, &state);
    f = new_fiber(sim_self());
    f->thread_fn = fn;
    f->arg = arg;
    f->detached = state == PTHREAD_CREATE_DETACHED;
    *out = (pthread_t)(f->number + 1);
    maybe_yield();
    return 0;
}

int __wrap_pthread_join(pthread_t t, void **result)
{
    struct sim_fiber *f;

    if (!os.running)
        return __real_pthread_join(t, result);
    f = &fibers[(unsigned long)t - 1];
    assert(f->thread_fn && !f->detached && f->proc == sim_self());
    while (!f->joinable_done)
        block(&f->joiners, SIM_NEVER);
    if (result)
        *result = NULL;
    leave_proc(f);
    f->proc = NULL;
    recycle(f);
    return 0;
}

pthread_t __wrap_pthread_self(void)
{
    return os.running ? (pthread_t)(os.current->number + 1)
                      : __real_pthread_self();
}

int __wrap_pthread_setname_np(pthread_t t, const char *name)
{
    return os.running ? 0 : __real_pthread_setname_np(t, name);
}

int __wrap_pthread_setaffinity_np(pthread_t t, size_t n, const cpu_set_t *cpus)
{
    return os.running ? 0 : __real_pthread_setaffinity_np(t, n, cpus);
}

/* Time passes, or who waits awake would wait for ever. */
int __wrap_sched_yield(void)
{
    if (!os.running)
        return __real_sched_yield();
    sim_sleep(sim_between(1, SIM_MS / 20));
    return 0;
}

/* --- Mutexes and conditions: our own state in the storage of libc's. ---- */

struct mutex {
    struct sim_fiber *owner;
    struct sim_queue waiters;
};

static_assert(sizeof(struct mutex) <= sizeof(pthread_mutex_t), "room");
static_assert(sizeof(struct sim_queue) <= sizeof(pthread_cond_t), "room");

int __real_pthread_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *a);
int __wrap_pthread_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *a);
int __real_pthread_mutex_destroy(pthread_mutex_t *m);
int __wrap_pthread_mutex_destroy(pthread_mutex_t *m);
int __real_pthread_mutex_lock(pthread_mutex_t *m);
int __wrap_pthread_mutex_lock(pthread_mutex_t *m);
int __real_pthread_mutex_unlock(pthread_mutex_t *m);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *m);
int __real_pthread_cond_init(pthread_cond_t *c, const pthread_condattr_t *a);
int __wrap_pthread_cond_init(pthread_cond_t *c, const pthread_condattr_t *a);
int __real_pthread_cond_destroy(pthread_cond_t *c);
int __wrap_pthread_cond_destroy(pthread_cond_t *c);
int __real_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m);
int __wrap_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m);
int __real_pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m,
                                  const struct timespec *t);
int __wrap_pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m,
                                  const struct timespec *t);
int __real_pthread_cond_signal(pthread_cond_t *c);
int __wrap_pthread_cond_signal(pthread_cond_t *c);
int __real_pthread_cond_broadcast(pthread_cond_t *c);
int __wrap_pthread_cond_broadcast(pthread_cond_t *c);

int __wrap_pthread_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *a)
{
    if (!os.running)
        return __real_pthread_mutex_init(m, a);
    *(struct mutex *)m = (struct mutex){NULL, {NULL, NULL}};
    return 0;
}

int __wrap_pthread_mutex_destroy(pthread_mutex_t *m)
{
    if (!os.running)
        return __real_pthread_mutex_destroy(m);
    assert(!((struct mutex *)m)->owner);
    return 0;
}

static void lock(struct mutex *m)
{
    assert(m->owner != os.current);
    while (m->owner)
        block(&m->waiters, SIM_NEVER);
    m->owner = os.current;
}

static void unlock(struct mutex *m)
{
    assert(m->owner == os.current);
    m->owner = NULL;
    sim_wake_one(&m->waiters);
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *m)
{
    if (!os.running)
        return __real_pthread_mutex_lock(m);
    maybe_yield();
    lock((struct mutex *)m);
    return 0;
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *m)
{
    if (!os.running)
        return __real_pthread_mutex_unlock(m);
    unlock((struct mutex *)m);
    maybe_yield();
    return 0;
}

int __wrap_pthread_cond_init(pthread_cond_t *c, const pthread_condattr_t *a)
{
    if (!os.running)
        return __real_pthread_cond_init(c, a);
    *(struct sim_queue *)c = (struct sim_queue){NULL, NULL};
    return 0;
}

int __wrap_pthread_cond_destroy(pthread_cond_t *c)
{
    return os.running ? 0 : __real_pthread_cond_destroy(c);
}

static bool cond_wait(pthread_cond_t *c, pthread_mutex_t *m, int64_t deadline)
{
    bool woken;

    /* POSIX allows to wake for no reason; and what is over need not wait. */
    if (sim_chance(SPURIOUS_PER_MILLE) || deadline <= os.now) {
        woken = deadline > os.now;
        unlock((struct mutex *)m);
        yield();
    } else {
        unlock((struct mutex *)m);
        woken = block((struct sim_queue *)c, deadline);
    }
    lock((struct mutex *)m);
    return woken;
}

int __wrap_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m)
{
    if (!os.running)
        return __real_pthread_cond_wait(c, m);
    cond_wait(c, m, SIM_NEVER);
    return 0;
}

int __wrap_pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m,
                                  const struct timespec *t)
{
    if (!os.running)
        return __real_pthread_cond_timedwait(c, m, t);
    return cond_wait(c, m, (int64_t)t->tv_sec * SIM_S + t->tv_nsec) ? 0
                                                                    : ETIMEDOUT;
}

int __wrap_pthread_cond_signal(pthread_cond_t *c)
{
    if (!os.running)
        return __real_pthread_cond_signal(c);
    sim_wake_one((struct sim_queue *)c);
    return 0;
}

int __wrap_pthread_cond_broadcast(pthread_cond_t *c)
{
    if (!os.running)
        return __real_pthread_cond_broadcast(c);
    sim_wake((struct sim_queue *)c);
    return 0;
}

/* --- The futex of sys_event; everything else goes to the kernel. -------- */

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);

static long futex_wait(const uint32_t *word, uint32_t value,
                       const struct timespec *timeout)
{
    int64_t deadline = SIM_NEVER;

    if (*word != value) {
        errno = EAGAIN;
        return -1;
    }
    if (timeout && timeout->tv_sec < INT32_MAX)
        deadline = os.now + (int64_t)timeout->tv_sec * SIM_S + timeout->tv_nsec;
    os.current->futex = word;
    if (block(&os.futexes, deadline))
        return 0;
    errno = ETIMEDOUT;
    return -1;
}

static long futex_wake(const uint32_t *word, int n)
{
    struct sim_fiber *f = os.futexes.first;
    long woken = 0;

    while (f && woken < n) {
        struct sim_fiber *next = f->next;

        if (f->futex == word) {
            queue_remove(f);
            make_runnable(f);
            woken++;
        }
        f = next;
    }
    return woken;
}

long __wrap_syscall(long number, ...)
{
    long a[6];
    va_list ap;

    va_start(ap, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(ap, long);
    va_end(ap);
    if (!os.running || number != SYS_futex)
        return __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (((int)a[1] & FUTEX_CMD_MASK) == FUTEX_WAIT)
        return futex_wait((const uint32_t *)a[0], (uint32_t)a[2],
                          (const struct timespec *)a[3]);
    return futex_wake((const uint32_t *)a[0], (int)a[2]);
}

/* --- Clocks, sleep, random numbers, the end. ---------------------------- */

int __real_clock_gettime(clockid_t id, struct timespec *t);
int __wrap_clock_gettime(clockid_t id, struct timespec *t);
int __real_nanosleep(const struct timespec *t, struct timespec *rest);
int __wrap_nanosleep(const struct timespec *t, struct timespec *rest);
ssize_t __real_getrandom(void *p, size_t n, unsigned flags);
ssize_t __wrap_getrandom(void *p, size_t n, unsigned flags);
_Noreturn void __real__exit(int status);
_Noreturn void __wrap__exit(int status);

int __wrap_clock_gettime(clockid_t id, struct timespec *t)
{
    int64_t ns;

    if (!os.running)
        return __real_clock_gettime(id, t);
    ns = id == CLOCK_REALTIME ? sim_wall(sim_self()) : os.now;
    t->tv_sec = (time_t)(ns / SIM_S);
    t->tv_nsec = (long)(ns % SIM_S);
    return 0;
}

int __wrap_nanosleep(const struct timespec *t, struct timespec *rest)
{
    if (!os.running)
        return __real_nanosleep(t, rest);
    sim_sleep((int64_t)t->tv_sec * SIM_S + t->tv_nsec);
    return 0;
}

ssize_t __wrap_getrandom(void *p, size_t n, unsigned flags)
{
    uint8_t *out = p;

    if (!os.running)
        return __real_getrandom(p, n, flags);
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)sim_rand();
    return (ssize_t)n;
}

_Noreturn void __wrap__exit(int status)
{
    struct sim_proc *p = sim_self();

    if (!os.running || !p)
        __real__exit(status);
    if (os.on_exit)
        os.on_exit(p, status);
    sim_kill(p);
    abort();
}
