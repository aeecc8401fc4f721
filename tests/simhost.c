/*
 * simhost.c - simulated machines: a disk, and on it a member's process that is
 * started, stopped, crashed. The process runs the real server from its start
 * to its end, as etcd.c does.
 */
#include "sim.h"

#include "log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

static int processes;

/* --- Finding them. ------------------------------------------------------ */

struct host *host_self(void)
{
    struct sim_proc *p = sim_self();

    return p ? p->user : NULL;
}

struct host *host_by_url(const char *url)
{
    for (int i = 1; i <= HOSTS_MAX; i++)
        if (strcmp(sim.hosts[i].url, url) == 0)
            return &sim.hosts[i];
    return NULL;
}

struct host *host_by_id(uint64_t id)
{
    for (int i = 1; i <= HOSTS_MAX; i++)
        if (id && sim.hosts[i].id == id)
            return &sim.hosts[i];
    return NULL;
}

/* --- The disk. ---------------------------------------------------------- */

static int64_t sync_time(const struct host *h)
{
    if (sim.storm && h->sync_ns_max > SIM_MS && sim_chance(200))
        return sim_between(SIM_MS, h->sync_ns_max);
    return sim_between(SIM_MS / 10, SIM_MS);
}

static int on_disk(void *arg, struct simdisk *d, enum simdisk_op op,
                   const char *path, size_t *n)
{
    struct host *h = arg;

    (void)d;
    if (host_self() != h || op == SIMDISK_READ || op == SIMDISK_OPEN)
        return 0;
    if (h->crash_in > 0 && --h->crash_in == 0) {
        TRACE(h->n, "crashes at operation %d on %s", (int)op, path);
        host_crash(h, true);
    }
    if (op == SIMDISK_SYNC || op == SIMDISK_SYNC_DIR)
        sim_sleep(sync_time(h));
    else if (sim_chance(50))
        sim_sleep(sim_between(0, SIM_MS));
    /* Linux cuts a write short at the end of a page only, which a log's
     * records, if they are small, do not show; so elsewhere only. */
    if (op == SIMDISK_WRITE && *n > 1 && !strstr(path, ".wal") && sim.storm &&
        sim_chance(20))
        *n = (size_t)sim_between(1, (int64_t)*n);
    if (h->disk_failing && sim_chance(op == SIMDISK_SYNC ? 200 : 20)) {
        TRACE(h->n, "I/O error on %s", path);
        return EIO;
    }
    return 0;
}

static enum simdisk_fate choose_fate(void *arg, enum simdisk_op op,
                                     const char *path, uint64_t offset,
                                     size_t n)
{
    const unsigned *kept = arg; /* per mille */

    (void)op;
    (void)path;
    (void)offset;
    (void)n;
    if (sim_chance(*kept))
        return SIMDISK_KEPT;
    return sim_chance(500) ? SIMDISK_LOST : SIMDISK_ZEROED;
}

/* --- The process. ------------------------------------------------------- */

static void fill_config(struct host *h, struct config *c)
{
    char *member = xasprintf("%s/member", h->dir);
    struct err e;

    *c = (struct config){
        .name = h->name,
        .data_dir = h->dir,
        .wal_dir = "",
        .member_dir = member,
        .snap_dir = xasprintf("%s/snap", member),
        .snapshot_count = sim.p.snapshot_count,
        .snapshot_catchup_entries = sim.p.catchup,
        .heartbeat_ms = 100,
        .election_ms = 1000,
        .initial_election_tick_advance = true,
        .max_snapshots = 3,
        .max_wals = 3,
        .initial_cluster = h->initial_cluster,
        .initial_cluster_token = "sim",
        .initial_cluster_existing = h->existing,
        .discovery = "",
        .strict_reconfig_check = sim.p.strict,
        .pre_vote = sim.p.pre_vote,
        .max_learners = 1,
        .warning_apply_ms = 100,
        .max_request_bytes = 1536 * 1024,
        .max_txn_ops = 128,
        .auto_compaction_mode = "periodic",
        .auto_compaction_retention = "0",
        .auth_token = "simple",
        .bcrypt_cost = 4,
    };
    if (url_list_parse(str_of(h->url), &c->initial_advertise_peer_urls, &e) <
            0 ||
        url_list_parse(str_of(h->client_url), &c->advertise_client_urls, &e) <
            0)
        sim_fail("configuration: %s", e.msg);
}

/* The process has ended, or is just about to. */
static void mark_down(struct host *h)
{
    h->proc = NULL;
    h->server = NULL;
    h->transport = NULL;
    h->state = HOST_DOWN;
    h->stop_asked = false;
    h->stop = (struct sim_queue){NULL, NULL};
    h->handlers = 0;
    h->crash_in = 0;
    h->restart_at = sim_now() + sim_between(SIM_MS, 3 * SIM_S);
    check_host_gone(h);
}

/* A start that fails is right only if there is a reason. */
static void start_failed(struct host *h, const char *why)
{
    TRACE(h->n, "does not start: %s", why);
    if (h->damaged)
        h->refused = true;
    else if (strstr(why, "was removed from this cluster"))
        h->retired = true; /* before it ever ran */
    else if (!h->disk_failing && !strstr(why, "cannot fetch cluster info") &&
             !strstr(why, "error validating peerURLs") &&
             !strstr(why, "has already been bootstrapped"))
        sim_fail("Recovery: %s does not start from its own data: %s", h->name,
                 why);
}

static void serve_until_asked(struct host *h, struct server *s)
{
    server_publish(s);
    if (!server_removed(s))
        h->state = HOST_READY;
    while (!h->stop_asked && !server_removed(s))
        sim_wait(&h->stop, sim_now() + 100 * SIM_MS);
    if (server_removed(s)) {
        server_wait_removed(s, 0);
        TRACE(h->n, "ends, for it was removed");
        h->retired = true;
    }
}

static void process_main(void *arg)
{
    struct host *h = arg;
    struct config *c = xcalloc(1, sizeof(*c));
    struct server *s;
    struct err e;

    fill_config(h, c);
    if (server_start(c, &s, &e) < 0) {
        start_failed(h, e.msg);
    } else {
        h->server = s;
        h->state = HOST_SERVING;
        TRACE(h->n, "serves as %" PRIx64, h->id);
        serve_until_asked(h, s);
        h->state = HOST_BOOTING; /* no more requests */
        server_stop(s);
        while (h->handlers)
            sim_sleep(10 * SIM_MS);
        server_free(s);
        TRACE(h->n, "has stopped");
    }
    simdisk_close_all(h->disk);
    mark_down(h);
}

/* --- What the product says, and how it dies. ---------------------------- */

void __wrap_log_msg(enum log_level level, const char *pkg, const char *fmt, ...)
    PRINTF(3, 4);
_Noreturn void __wrap_log_fatal(const char *pkg, const char *fmt, ...)
    PRINTF(2, 3);
_Noreturn void __wrap___assert_fail(const char *what, const char *file,
                                    unsigned line, const char *function);

static void trace_log(const char *pkg, const char *fmt, va_list ap)
{
    char text[512];

    vsnprintf(text, sizeof(text), fmt, ap);
    TRACE(host_self() ? host_self()->n : 0, "| %s: %s", pkg, text);
}

void __wrap_log_msg(enum log_level level, const char *pkg, const char *fmt, ...)
{
    va_list ap;

    (void)level;
    if (!sim_tracing)
        return;
    va_start(ap, fmt);
    trace_log(pkg, fmt, ap);
    va_end(ap);
}

/* Only a failing disk is a reason to give up. */
_Noreturn void __wrap_log_fatal(const char *pkg, const char *fmt, ...)
{
    struct host *h = host_self();
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (!h || !h->disk_failing)
        sim_fail("%s dies: %s: %s", h ? h->name : "?", pkg, text);
    TRACE(h->n, "dies: %s: %s", pkg, text);
    host_crash(h, sim_chance(500));
    abort();
}

_Noreturn void __wrap___assert_fail(const char *what, const char *file,
                                    unsigned line, const char *function)
{
    struct host *h = host_self();

    sim_fail("%s: assertion %s failed at %s:%u (%s)", h ? h->name : "?", what,
             file, line, function);
}

/* --- Lives. ------------------------------------------------------------- */

void host_init(struct host *h, int n)
{
    h->n = n;
    snprintf(h->name, sizeof(h->name), "m%d", n);
    snprintf(h->url, sizeof(h->url), "http://10.0.0.%d:2380", n);
    snprintf(h->client_url, sizeof(h->client_url), "http://10.0.0.%d:2379", n);
    snprintf(h->dir, sizeof(h->dir), SIMDISK_ROOT "%s/data", h->name);
    h->disk = simdisk_new(h->name);
    simdisk_set_hook(h->disk, on_disk, h);
    h->sync_ns_max = SIM_MS;
}

void host_start(struct host *h)
{
    REQUIRE(!h->proc, "%s runs already", h->name);
    TRACE(h->n, "starts%s", h->existing && !h->id ? " to join" : "");
    h->proc = sim_proc_new(++processes);
    h->proc->user = h;
    h->proc->wall_skew_ns = sim_between(-sim.p.skew_max, sim.p.skew_max);
    h->since = sim_now();
    h->state = HOST_BOOTING;
    sim_spawn(h->proc, process_main, h);
}

void host_stop(struct host *h)
{
    TRACE(h->n, "is asked to stop");
    h->stop_asked = true;
    sim_wake(&h->stop);
}

void host_crash(struct host *h, bool power)
{
    struct sim_proc *p = h->proc;
    unsigned kept = (unsigned)sim_between(0, 1000);

    if (!p)
        return;
    TRACE(h->n, power ? "loses its power" : "is killed");
    sim.count.crashes++;
    mark_down(h);
    if (power) {
        if (sim_chance(300))
            kept = sim_chance(500) ? 1000 : 0;
        simdisk_crash(h->disk, choose_fate, &kept);
    } else {
        simdisk_close_all(h->disk);
    }
    sim_kill(p);
}

void host_wipe(struct host *h)
{
    REQUIRE(!h->proc, "%s still runs", h->name);
    TRACE(h->n, "is wiped");
    simdisk_free(h->disk);
    h->disk = simdisk_new(h->name);
    simdisk_set_hook(h->disk, on_disk, h);
    h->id = 0;
    h->retired = h->refused = h->damaged = h->disk_failing = false;
    h->in_use = false;
    check_host_wiped(h);
}
