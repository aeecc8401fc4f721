/*
 * ctlv3check.c - check perf and check datascale: puts of many clients, at a
 * given rate or as fast as they go, and a verdict.
 *
 * Each client is a thread with a connection of its own, as a real one would
 * be. The rate is kept by slots: whoever is free takes the next and waits for
 * its time.
 */
#include "ctlv3.h"

#include "sys.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define PERF_S 60
#define KEY_SIZE 256
#define VALUE_SIZE 1024
#define SLOWEST_NS (500 * NS_PER_MS)
#define STDDEV_NS (100 * NS_PER_MS)

struct load {
    /* What to do. */
    struct ctl *c;
    const char *prefix;
    uint64_t rate;  /* puts in a second, of all; 0: no limit */
    uint64_t total; /* puts in all; 0: until the end */
    size_t key_size;
    int64_t start_ns, end_ns; /* the end: 0, none */

    uint64_t slot; /* atomic: the next put's number, from 1 */
    pthread_mutex_t mu;
    uint64_t n, n_failed; /* mu, as all below */
    int64_t slowest_ns;
    double sum_s, squares_s;
    struct err e; /* the first failure */
};

static void note(struct load *l, int64_t took_ns, int status,
                 const struct err *e)
{
    double s = (double)took_ns / NS_PER_S;

    pthread_mutex_lock(&l->mu);
    if (status == GRPC_OK) {
        l->n++;
        l->sum_s += s;
        l->squares_s += s * s;
        if (took_ns > l->slowest_ns)
            l->slowest_ns = took_ns;
    } else if (l->n_failed++ == 0) {
        l->e = *e;
    }
    pthread_mutex_unlock(&l->mu);
}

/* PREFIX and so many bytes that no other put has. */
static void make_key(struct buf *b, const struct load *l, uint64_t slot)
{
    buf_clear(b);
    buf_adds(b, l->prefix);
    buf_printf(b, "%0*" PRIu64, (int)l->key_size, slot);
}

/* Wait for the slot's time. False: beyond the end. */
static bool wait_slot(const struct load *l, uint64_t slot)
{
    int64_t at = l->start_ns, now;

    if (l->total && slot > l->total)
        return false;
    if (l->rate)
        at += (int64_t)(slot - 1) * (NS_PER_S / (int64_t)l->rate);
    if (l->end_ns && at >= l->end_ns)
        return false;
    now = sys_mono_ns();
    if (at > now)
        sys_sleep_ms((at - now) / NS_PER_MS);
    return !l->end_ns || sys_mono_ns() < l->end_ns;
}

static void put_all(struct load *l, struct grpc_client *client)
{
    struct buf key = {0}, out = {0}, in = {0};
    char value[VALUE_SIZE];
    uint64_t slot;

    memset(value, 'v', sizeof(value));
    while (wait_slot(l, slot = sys_u64_add(&l->slot, 1))) {
        struct rpcpb_put_request r = {.value = {value, sizeof(value)}};
        int64_t began = sys_mono_ns();
        struct err e;
        int status;

        make_key(&key, l, slot);
        r.key = buf_str(&key);
        buf_clear(&out);
        msg_encode(&rpcpb_put_request_desc, &r, &out);
        status = grpc_client_call(client, rpc_methods[RPC_KV_PUT].path.p,
                                  GRPC_WRITES, buf_str(&out),
                                  ctlv3_deadline(l->c), &in, &e);
        note(l, sys_mono_ns() - began, status, &e);
    }
    buf_release(&key);
    buf_release(&out);
    buf_release(&in);
}

static void *client_thread(void *arg)
{
    struct load *l = arg;
    struct err e;
    struct grpc_client *client =
        ctlv3_client_of(l->c, (const char *const *)l->c->v3->endpoints,
                        l->c->v3->n_endpoints, &e);

    if (client)
        put_all(l, client);
    else
        note(l, 0, GRPC_UNAVAILABLE, &e);
    grpc_client_close(client);
    return NULL;
}

static void run_load(struct load *l, size_t n_clients)
{
    pthread_t *threads = xcalloc(n_clients, sizeof(*threads));
    size_t n = 0;

    pthread_mutex_init(&l->mu, NULL);
    l->start_ns = sys_mono_ns();
    while (n < n_clients &&
           sys_thread(&threads[n], SYS_STACK_LARGE, client_thread, l) == 0)
        n++;
    for (size_t i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    if (n == 0)
        (void)client_thread(l);
    pthread_mutex_destroy(&l->mu);
    free(threads);
}

/* --- The keys' prefix: empty before, and empty again behind. ------------------------ */

static int check_empty(struct ctl *c, const char *prefix)
{
    struct rpcpb_range_response response = {0};
    struct ctlv3_range range = ctlv3_range_of(c, prefix, NULL, true, false);
    struct rpcpb_range_request r = {
        .key = range.key, .range_end = range.end, .limit = 1};
    int rc = ctlv3_call(c, RPC_KV_RANGE, &r, &response);

    if (rc == 0 && response.kvs.n > 0)
        rc = ctlv3_fail(
            CTLV3_INVALID_INPUT,
            "prefix \"%s\" has keys. Delete with etcdctl del --prefix "
            "%s first",
            prefix, prefix);
    return rc;
}

static int delete_keys(struct ctl *c, const char *prefix, int64_t *revision)
{
    struct rpcpb_delete_range_response response = {0};
    struct ctlv3_range range = ctlv3_range_of(c, prefix, NULL, true, false);
    struct rpcpb_delete_range_request r = {.key = range.key,
                                           .range_end = range.end};
    int rc = ctlv3_call(c, RPC_KV_DELETE_RANGE, &r, &response);

    *revision = response.header ? response.header->revision : 0;
    return rc;
}

static int defragment(struct ctl *c)
{
    for (size_t i = 0; i < c->v3->n_endpoints; i++) {
        struct rpcpb_defragment_response response = {0};
        struct rpcpb_defragment_request r = {0};
        const char *endpoint = c->v3->endpoints[i];
        struct err e;

        printf("Defragmenting \"%s\"\n", endpoint);
        if (ctlv3_ask(c, endpoint, RPC_MAINTENANCE_DEFRAGMENT, &r, &response,
                      &e) != GRPC_OK)
            return ctlv3_fail_status(c, CTLV3_ERROR, &e);
        printf("Defragmented \"%s\"\n", endpoint);
    }
    return 0;
}

static int clean_up(struct ctl *c, const char *prefix)
{
    int64_t revision = 0;
    int rc = delete_keys(c, prefix, &revision);

    if (rc == 0 && ctl_bool(c, "auto-compact")) {
        struct rpcpb_compaction_response response = {0};
        struct rpcpb_compaction_request r = {.revision = revision,
                                             .physical = true};

        printf("Compacting with revision %" PRId64 "\n", revision);
        rc = ctlv3_call(c, RPC_KV_COMPACT, &r, &response);
        if (rc == 0)
            printf("Compacted with revision %" PRId64 "\n", revision);
    }
    if (rc == 0 && ctl_bool(c, "auto-defrag"))
        rc = defragment(c);
    return rc;
}

/* --- Loads. ------------------------------------------------------------------------ */

/* By name: s, m, l, xl and what they are also called. */
static int load_of(const char *name)
{
    static const char *const names[][3] = {{"s", "small", NULL},
                                           {"m", "medium", NULL},
                                           {"l", "large", NULL},
                                           {"xl", "xLarge", "xlarge"}};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        for (size_t k = 0; k < 3 && names[i][k]; k++) {
            if (strcmp(names[i][k], name) == 0)
                return (int)i;
        }
    }
    return -1;
}

/* The one that is asked for, once its keys' prefix is seen to be free. */
static int choose_load(struct ctl *c, const char *prefix, int *which)
{
    const char *name = ctl_string(c, "load", "s");

    *which = load_of(name);
    if (*which < 0)
        return ctlv3_fail(CTLV3_BAD_FEATURE, "unknown load option %s", name);
    return check_empty(c, prefix);
}

/* --- Perf. -------------------------------------------------------------------------------- */

/* There is no libm here: Newton's way. */
static double square_root(double v)
{
    double r = v > 1 ? v : 1;

    if (v <= 0)
        return 0;
    for (int i = 0; i < 64; i++)
        r = (r + v / r) / 2;
    return r;
}

static int judge(const struct load *l, uint64_t rate)
{
    double n = l->n ? (double)l->n : 1, mean = l->sum_s / n;
    double stddev = square_root(l->squares_s / n - mean * mean);
    uint64_t throughput = l->n / PERF_S;
    bool ok = true;

    if (l->n_failed > 0) {
        printf("FAIL: too many errors\n");
        printf("FAIL: ERROR(%s) -> %" PRIu64 "\n", l->e.msg, l->n_failed);
        ok = false;
    }
    if (throughput * 10 <= rate * 9) {
        printf("FAIL: Throughput too low: %" PRIu64 " writes/s\n", throughput);
        ok = false;
    } else {
        printf("PASS: Throughput is %" PRIu64 " writes/s\n", throughput);
    }
    if (l->slowest_ns > SLOWEST_NS) {
        printf("Slowest request took too long: %fs\n",
               (double)l->slowest_ns / NS_PER_S);
        ok = false;
    } else {
        printf("PASS: Slowest request took %fs\n",
               (double)l->slowest_ns / NS_PER_S);
    }
    if (stddev * NS_PER_S > STDDEV_NS) {
        printf("Stddev too high: %fs\n", stddev);
        ok = false;
    } else {
        printf("PASS: Stddev is %fs\n", stddev);
    }
    printf(ok ? "PASS\n" : "FAIL\n");
    return ok ? 0 : CTLV3_ERROR;
}

int ctlv3_check_perf(struct ctl *c)
{
    static const struct {
        uint64_t rate;
        size_t n_clients;
    } loads[] = {{150, 50}, {1000, 200}, {8000, 500}, {15000, 1000}};
    struct load l = {.c = c,
                     .prefix = ctl_string(c, "prefix", "/etcdctl-check-perf/"),
                     .key_size = KEY_SIZE};
    int which, rc = choose_load(c, l.prefix, &which);

    if (rc != 0)
        return rc;
    l.rate = loads[which].rate;
    l.end_ns = sys_mono_ns() + PERF_S * NS_PER_S;
    run_load(&l, loads[which].n_clients);
    rc = clean_up(c, l.prefix);
    return rc ? rc : judge(&l, l.rate);
}

/* --- Datascale. ---------------------------------------------------------------------------- */

/* process_resident_memory_bytes of the first endpoint's /metrics; 0: unknown. */
static uint64_t resident_bytes(struct ctl *c)
{
    static const char name[] = "\nprocess_resident_memory_bytes ";
    const char *endpoint = c->v3->endpoints[0];
    char *url = xasprintf("%s%s/metrics",
                          strstr(endpoint, "://") ? "" : "http://", endpoint);
    struct ctl_answer a = {0};
    uint64_t bytes = 0;
    struct err e;

    if (ctl_connect(c, CTL_NO_SYNC) == 0 && ctl_get_url(c, url, &a, &e) == 0) {
        const char *at = strstr(buf_z(&a.body), name);

        if (at)
            bytes = (uint64_t)strtod(at + strlen(name), NULL);
        ctl_answer_release(&a);
    }
    ctl_disconnect(c);
    free(url);
    return bytes;
}

static int verdict(const struct load *l, uint64_t before, uint64_t after)
{
    double mb = after > before ? (double)(after - before) / (1024 * 1024) : 0;

    if (before == 0 || after == 0) {
        printf("FAIL: Could not read process_resident_memory_bytes.\n");
        return CTLV3_ERROR;
    }
    if (l->n_failed > 0) {
        printf("FAIL: ERROR(%s) -> %" PRIu64 "\n", l->e.msg, l->n_failed);
        return CTLV3_ERROR;
    }
    printf("PASS: Approximate system memory used : %.2f MB.\n", mb);
    return 0;
}

int ctlv3_check_datascale(struct ctl *c)
{
    static const struct {
        uint64_t total;
        size_t n_clients;
    } loads[] = {{10000, 50}, {100000, 200}, {1000000, 500}, {3000000, 1000}};
    struct load l = {.c = c,
                     .prefix =
                         ctl_string(c, "prefix", "/etcdctl-check-datascale/"),
                     .key_size = KEY_SIZE};
    uint64_t before, after;
    int which, rc = choose_load(c, l.prefix, &which);

    if (rc != 0)
        return rc;
    l.total = loads[which].total;
    printf("Start data scale check for work load [%" PRIu64
           " key-value pairs, %d bytes per key-value, %zu concurrent "
           "clients].\n",
           l.total, VALUE_SIZE, loads[which].n_clients);
    rc = ctl_flush();
    before = resident_bytes(c);
    run_load(&l, loads[which].n_clients);
    after = resident_bytes(c);
    if (rc == 0)
        rc = clean_up(c, l.prefix);
    return rc ? rc : verdict(&l, before, after);
}
