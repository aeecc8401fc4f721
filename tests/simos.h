/*
 * simos.h - threads, clocks and random numbers of a simulated machine: the
 * product's own code, unchanged, on fibers of one thread, on virtual time,
 * from one seed.
 *
 * A test program links with the symbols of tests/simos.wrap wrapped. While a
 * fiber runs, pthread_*(), the futex, the clocks, nanosleep(), sched_yield(),
 * getrandom() and _exit() are those of the simulation; outside of fibers they
 * are the real ones. Which fiber goes on is drawn from the seed wherever one
 * waits, and now and then where one takes a lock. Time passes when nobody can
 * run, and a microsecond with each switch. Nothing depends on addresses: equal
 * seeds give equal runs, which simos_digest() tells.
 *
 * A process is a group of fibers. It ends when its first fiber does, when one
 * calls _exit(), or by sim_kill(): all its fibers vanish where they are, and
 * its memory is leaked on purpose. So a run belongs into a child of its own.
 */
#ifndef SIMOS_H
#define SIMOS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_MS INT64_C(1000000)
#define SIM_S INT64_C(1000000000)
#define SIM_NEVER INT64_MAX

/* Unix time when virtual time is 0. */
#define SIM_WALL_BASE (INT64_C(1700000000) * SIM_S)

struct sim_proc {
    int number; /* for traces */
    bool dead, paused;
    int64_t wall_skew_ns; /* how far its wall clock is off */
    void *user;
    struct sim_fiber *fibers, *parked;
};

typedef void sim_fn(void *arg);

/* Stacks; before fork(). */
void simos_reserve(void);
void simos_seed(uint64_t seed);
/* Run main_fn(arg) as the first fiber, without a process, until it returns.
 * yield_per_mille: how often taking a lock lets others go first. */
void simos_run(unsigned yield_per_mille, sim_fn *main_fn, void *arg);
/* Told when a process ends by _exit(). */
void simos_on_exit(void (*fn)(struct sim_proc *p, int status));

uint64_t simos_digest(void); /* of all that was scheduled */
uint64_t simos_switches(void);

/* --- Chance. ------------------------------------------------------------ */

uint64_t sim_rand(void);
uint64_t sim_below(uint64_t n);              /* [0, n) */
int64_t sim_between(int64_t lo, int64_t hi); /* [lo, hi] */
bool sim_chance(unsigned per_mille);

/* --- Time and processes. ------------------------------------------------ */

int64_t sim_now(void);
int64_t sim_wall(const struct sim_proc *p); /* NULL: a right clock */
struct sim_proc *sim_self(void);            /* NULL: the test itself */

struct sim_proc *sim_proc_new(int number);
void sim_spawn(struct sim_proc *p, sim_fn *fn, void *arg);
void sim_kill(struct sim_proc *p); /* by itself: does not return */
void sim_pause(struct sim_proc *p);
void sim_resume(struct sim_proc *p);
void sim_sleep(int64_t ns);
/* Call fn(arg) at that time, on any stack: it must not wait. */
void sim_at(int64_t when, sim_fn *fn, void *arg);

/* --- Waiting. {0} is an empty queue. ------------------------------------ */

struct sim_queue {
    struct sim_fiber *first, *last;
};

bool sim_wait(struct sim_queue *q, int64_t deadline); /* false: time is up */
void sim_wake(struct sim_queue *q);                   /* all */
void sim_wake_one(struct sim_queue *q);

#endif
