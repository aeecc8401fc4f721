/*
 * sim_test.c - whole clusters in one thread, on virtual time, from a seed: the
 * real server under a bad network, bad disks and busy operators. What must
 * hold is checked at each step (simcheck.c), for each client (simclient.c) and
 * at the end (simfault.c). docs/simulator.md tells how it works.
 *
 *   sim_test [--seeds N] [--first S] [--jobs N] [--members N] [--trace]
 *
 * Each seed runs in a child of its own. One that fails is run again with a
 * trace, whose end is printed with what did not hold. --trace prints all of
 * the trace of the first seed.
 */
#include "sim.h"

#include "crypto.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define DEFAULT_SEEDS 25
#else
#define DEFAULT_SEEDS 200
#endif

/* Where it makes no sense, why. */
#if !defined(__GLIBC__)
static const char *const skipped = "this libc has no contexts (ucontext.h)";
#elif defined(__SANITIZE_THREAD__)
static const char *const skipped =
    "to the thread sanitizer, fibers of one thread are no threads";
#else
static const char *const skipped = NULL;
#endif

#define TRACE_LINES 400
#define TRACE_WIDTH 320
#define JOBS_MAX 64
#define SEED_SECONDS 100 /* of the wall clock: it hangs */

struct world sim;
bool sim_tracing;

/* --- The trace, and the end of a bad run. ------------------------------- */

struct result { /* of a child, in memory shared with the parent */
    uint64_t seed, digest, switches;
    bool finished;
    char why[600];
    struct sim_counts count;
};

static struct result *result;
static char (*trace)[TRACE_WIDTH]; /* a ring of lines */
static size_t n_trace;
static bool trace_all;

void sim_trace_line(int host, const char *fmt, ...)
{
    char *line = trace[n_trace++ % TRACE_LINES];
    va_list ap;
    int n = snprintf(line, TRACE_WIDTH, "%11.6f  ",
                     (double)sim_now() / (double)SIM_S);

    if (host)
        n += snprintf(line + n, TRACE_WIDTH - (size_t)n, "m%-2d ", host);
    else
        n += snprintf(line + n, TRACE_WIDTH - (size_t)n, "    ");
    va_start(ap, fmt);
    vsnprintf(line + n, TRACE_WIDTH - (size_t)n, fmt, ap);
    va_end(ap);
    if (trace_all)
        puts(line);
}

static void print_trace(void)
{
    size_t from = n_trace > TRACE_LINES ? n_trace - TRACE_LINES : 0;

    if (trace_all)
        return;
    for (size_t i = from; i < n_trace; i++)
        puts(trace[i % TRACE_LINES]);
}

_Noreturn static void end_child(int status)
{
    result->digest = simos_digest();
    result->switches = simos_switches();
    if (*result->why && sim_tracing) {
        print_trace();
        if (trace_all)
            printf("seed %" PRIu64 ": %s\n", sim.seed, result->why);
        fflush(stdout);
    }
    syscall(SYS_exit_group, status); /* no exit handlers, no leak check */
    abort();
}

void sim_fail(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(result->why, sizeof(result->why), fmt, ap);
    va_end(ap);
    end_child(1);
}

static void on_signal(int sig)
{
    snprintf(result->why, sizeof(result->why),
             sig == SIGALRM ? "the run takes too long" : "signal %d", sig);
    end_child(1);
}

static void catch_signals(void)
{
    static char stack[64 * 1024];
    const stack_t alt = {.ss_sp = stack, .ss_size = sizeof(stack)};
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};

    sigaltstack(&alt, NULL);
    sigaction(SIGABRT, &sa, NULL);
    sigaction(SIGALRM, &sa, NULL);
#if !defined(__SANITIZE_ADDRESS__)
    sigaction(SIGSEGV, &sa, NULL);
    sigaction(SIGBUS, &sa, NULL);
    sigaction(SIGFPE, &sa, NULL);
#endif
    alarm(SEED_SECONDS);
}

/* --- One run. ----------------------------------------------------------- */

static int members_wanted;

static void draw_params(struct sim_params *p)
{
    static const int sizes[] = {1, 3, 3, 3, 3, 5, 5};
    bool calm = sim_chance(100);

    *p = (struct sim_params){
        .members = sizes[sim_below(ARRAY_LEN(sizes))],
        .clients = (int)sim_between(2, 4),
        .keys = (int)sim_between(2, 6),
        .fifo = sim_chance(500),
        .delay_max = sim_between(1, 300) * SIM_MS,
        .storm = sim_between(8, 40) * SIM_S,
        .snapshot_count = (uint64_t)sim_between(10, 100),
        .catchup = (uint64_t)sim_between(5, 60),
        .segment_bytes = sim_between(2, 32) * 1024,
        .pre_vote = sim_chance(500),
        .strict = sim_chance(500),
        .yield = sim_chance(300) ? 0 : (unsigned)sim_between(1, 200),
    };
    if (members_wanted)
        p->members = members_wanted;
    if (calm)
        return;
    p->loss = sim_chance(500) ? (unsigned)sim_between(0, 100) : 0;
    p->duplicate = sim_chance(500) ? (unsigned)sim_between(0, 100) : 0;
    p->skew_max = sim_chance(500) ? sim_between(0, 3 * SIM_S) : 0;
    p->partitions = sim_chance(600);
    p->crashes = sim_chance(700);
    p->pauses = sim_chance(400);
    p->membership = sim_chance(400);
    p->transfers = sim_chance(400);
    p->slow_disks = sim_chance(400);
    p->disk_errors = sim_chance(250);
    p->flips = sim_chance(250);
}

static void trace_params(const struct sim_params *p)
{
    TRACE(0,
          "%d members, %d clients, %d keys, loss %u, duplicates %u, delay to "
          "%d ms, skew %d ms,%s%s%s%s%s%s%s%s%s%s%s storm of %d s, snapshot "
          "after %d, catch-up %d, segments of %d, yield %u",
          p->members, p->clients, p->keys, p->loss, p->duplicate,
          (int)(p->delay_max / SIM_MS), (int)(p->skew_max / SIM_MS),
          p->fifo ? " fifo" : "", p->partitions ? " partitions" : "",
          p->crashes ? " crashes" : "", p->pauses ? " pauses" : "",
          p->membership ? " membership" : "", p->transfers ? " transfers" : "",
          p->slow_disks ? " slow-disks" : "",
          p->disk_errors ? " disk-errors" : "", p->flips ? " flips" : "",
          p->pre_vote ? " pre-vote" : "", p->strict ? " strict" : "",
          (int)(p->storm / SIM_S), (int)p->snapshot_count, (int)p->catchup,
          (int)p->segment_bytes, p->yield);
}

static void found_cluster(void)
{
    struct buf flag = {0};
    char *cluster;

    for (int i = 1; i <= sim.p.members; i++)
        buf_printf(&flag, "%sm%d=%s", i > 1 ? "," : "", i, sim.hosts[i].url);
    cluster = buf_steal(&flag);
    for (int i = 1; i <= sim.p.members; i++) {
        sim.hosts[i].initial_cluster = cluster;
        sim.hosts[i].in_use = true;
        host_start(&sim.hosts[i]);
    }
}

static void run_main(void *arg)
{
    (void)arg;
    trace_params(&sim.p);
    wal_set_segment_bytes(sim.p.segment_bytes);
    check_init();
    snprintf(sim.hosts[0].name, sizeof(sim.hosts[0].name), "op");
    for (int i = 1; i <= HOSTS_MAX; i++)
        host_init(&sim.hosts[i], i);
    found_cluster();
    clients_start();
    v3clients_start();
    faults_run();
    faults_heal();
    clients_stop();
    v3clients_stop();
    v3clients_settle();
    clients_judge();
    result->finished = true;
}

static void run_seed(uint64_t seed)
{
    sim.seed = seed;
    result->seed = seed;
    catch_signals();
    simos_seed(seed);
    draw_params(&sim.p);
    simos_run(sim.p.yield, run_main, NULL);
    result->count = sim.count;
    end_child(0);
}

/* --- Many runs. --------------------------------------------------------- */

struct job {
    pid_t pid;
    struct result *result;
};

static struct options {
    uint64_t seeds, first, jobs;
} options = {DEFAULT_SEEDS, 1, 0};

static struct sim_counts total;
static uint64_t n_done, n_switches;

static struct result *shared_result(void)
{
    struct result *r = mmap(NULL, sizeof(*r), PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (r == MAP_FAILED)
        abort();
    return r;
}

static void start_job(struct job *j, uint64_t seed)
{
    memset(j->result, 0, sizeof(*j->result));
    fflush(NULL);
    j->pid = fork();
    if (j->pid < 0)
        abort();
    if (j->pid == 0) {
        result = j->result;
        run_seed(seed);
    }
}

/* To its end; false: it failed. */
static bool finish_job(struct job *j)
{
    const uint64_t *from = (const uint64_t *)&j->result->count;
    uint64_t *to = (uint64_t *)&total;

    j->pid = 0;
    n_done++;
    n_switches += j->result->switches;
    for (size_t i = 0; i < sizeof(total) / sizeof(*to); i++)
        to[i] += from[i];
    if (j->result->finished)
        return true;
    if (!*j->result->why)
        snprintf(j->result->why, sizeof(j->result->why),
                 "the process ended by itself");
    return false;
}

static void run_and_wait(struct job *j, uint64_t seed)
{
    start_job(j, seed);
    waitpid(j->pid, NULL, 0);
}

/* Once more, with a trace; it must end the same way. */
static void explain(struct job *j)
{
    uint64_t seed = j->result->seed, digest = j->result->digest;
    char why[sizeof(j->result->why)];

    memcpy(why, j->result->why, sizeof(why));
    sim_tracing = true;
    run_and_wait(j, seed);
    sim_tracing = false;
    if (strcmp(why, j->result->why) != 0 || digest != j->result->digest)
        printf("seed %" PRIu64 " ended another way before: %s\n", seed, why);
    printf("seed %" PRIu64 " FAILED: %s\n"
           "replay: sim_test --first %" PRIu64 " --trace",
           seed, why, seed);
    if (members_wanted)
        printf(" --members %d", members_wanted);
    putchar('\n');
    fflush(stdout);
}

static struct job *job_of(struct job *jobs, pid_t pid)
{
    for (size_t i = 0; i < options.jobs; i++)
        if (jobs[i].pid == pid)
            return &jobs[i];
    return NULL;
}

static bool run_all(struct job *jobs)
{
    uint64_t next = options.first, end = options.first + options.seeds;
    size_t running = 0;
    bool good = true;

    while (running || (good && next < end)) {
        struct job *j = job_of(jobs, 0);

        if (good && next < end && j) {
            start_job(j, next++);
            running++;
            continue;
        }
        j = job_of(jobs, waitpid(-1, NULL, 0));
        running--;
        if (!finish_job(j) && good) {
            good = false;
            explain(j);
        }
    }
    return good;
}

/* The same seed twice is the same run. */
static bool check_replay(struct job *j)
{
    for (uint64_t seed = options.first; seed < options.first + 2; seed++) {
        uint64_t digest;

        run_and_wait(j, seed);
        digest = j->result->digest;
        sim_tracing = true; /* which must change nothing */
        run_and_wait(j, seed);
        sim_tracing = false;
        if (digest != j->result->digest) {
            printf("seed %" PRIu64 " does not replay\n", seed);
            return false;
        }
    }
    return true;
}

static void print_summary(double seconds)
{
    printf("sim_test: %" PRIu64 " seeds from %" PRIu64 ", %.1f s\n", n_done,
           options.first, seconds);
    printf("  clients: %" PRIu64 " writes, %" PRIu64 " reads, %" PRIu64
           " unknown, %" PRIu64 " refused, %" PRIu64 " watches\n",
           total.writes, total.reads, total.unknown, total.refused,
           total.watches);
    printf("  store: %" PRIu64 " applied, %" PRIu64 " changes, %" PRIu64
           " expired, %" PRIu64 " checkpoints\n",
           total.applied, total.events, total.expired, total.checkpoints);
    printf("  v3: %" PRIu64 " writes, %" PRIu64 " reads, %" PRIu64
           " unknown, %" PRIu64 " applied, %" PRIu64 " events, %" PRIu64
           " watches resumed\n",
           total.v3_writes, total.v3_reads, total.v3_unknown, total.v3_applied,
           total.v3_events, total.v3_resumed);
    printf("  v3: %" PRIu64 " compactions, %" PRIu64 " leases, %" PRIu64
           " expired, %" PRIu64 " renewals, %" PRIu64 " states loaded\n",
           total.v3_compacted, total.v3_leases, total.v3_expired,
           total.v3_renewed, total.v3_loaded);
    printf("  network: %" PRIu64 " messages, %" PRIu64 " lost, %" PRIu64
           " snapshots sent\n",
           total.messages, total.lost, total.snapshots);
    printf("  faults: %" PRIu64 " elections, %" PRIu64 " crashes, %" PRIu64
           " restarts, %" PRIu64 " pauses, %" PRIu64 " flips\n",
           total.elections, total.crashes, total.restarts, total.pauses,
           total.flips);
    printf("  operators: %" PRIu64 " added, %" PRIu64 " promoted, %" PRIu64
           " removed, %" PRIu64 " transfers\n",
           total.added, total.promoted, total.removed, total.transfers);
}

static void parse_options(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        uint64_t v = 0;
        bool has = i + 1 < argc && str_to_u64(str_of(argv[i + 1]), &v);

        if (strcmp(argv[i], "--trace") == 0) {
            trace_all = true;
            continue;
        }
        if (has && strcmp(argv[i], "--seeds") == 0)
            options.seeds = v;
        else if (has && strcmp(argv[i], "--first") == 0)
            options.first = v;
        else if (has && strcmp(argv[i], "--jobs") == 0)
            options.jobs = v;
        else if (has && strcmp(argv[i], "--members") == 0 && v <= HOSTS_MAX)
            members_wanted = (int)v;
        else {
            fprintf(stderr, "usage: sim_test [--seeds N] [--first S] [--jobs N]"
                            " [--members N] [--trace]\n");
            exit(2);
        }
        i++;
    }
    if (options.jobs == 0)
        options.jobs = (uint64_t)sysconf(_SC_NPROCESSORS_ONLN);
    options.jobs = min_u64(max_u64(options.jobs, 1), JOBS_MAX);
}

int main(int argc, char **argv)
{
    struct job jobs[JOBS_MAX] = {{0, NULL}};
    struct timespec began, now;
    bool good;

    if (skipped) {
        printf("sim_test: skipped: %s\n", skipped);
        return 0;
    }
    parse_options(argc, argv);
    clock_gettime(CLOCK_MONOTONIC, &began);
    simos_reserve();
    trace = xcalloc(TRACE_LINES, TRACE_WIDTH);
    crc32c(0, "", 0); /* looks at the processor once */
    for (size_t i = 0; i < options.jobs; i++)
        jobs[i].result = shared_result();
    if (trace_all) {
        sim_tracing = true;
        run_and_wait(&jobs[0], options.first);
        good = finish_job(&jobs[0]);
    } else {
        good = run_all(jobs) && check_replay(&jobs[0]);
    }
    clock_gettime(CLOCK_MONOTONIC, &now);
    print_summary((double)(now.tv_sec - began.tv_sec) +
                  (double)(now.tv_nsec - began.tv_nsec) / 1e9);
    puts(good ? "sim_test: passed" : "sim_test: FAILED");
    return good ? 0 : 1;
}
