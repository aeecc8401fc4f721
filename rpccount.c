/*
 * rpccount.c - counters of calls, by method.
 */
#include "rpccount.h"
#include "grpc.h"
#include "sys.h"

#include <pthread.h>
#include <stdio.h>

#define LABELS_MAX 160
#define VERSIONS_MAX 16
#define VERSION_MAX 16

static const double bounds[] = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                0.5,   1,    2.5,   5,    10};
#define N_BOUNDS ARRAY_LEN(bounds)

/* All are shared through sys_u64_...(). */
static struct method_counts {
    uint64_t started, received, sent, took_ns;
    uint64_t handled[GRPC_STATUS_N];
    uint64_t took[N_BOUNDS + 1];
} counts[RPC_METHOD_N];
static uint64_t received_bytes, sent_bytes;

/*
 * Clients name what they like as their version: only so many are told apart,
 * and only what looks like one. Rows are filled in order, under the lock, and
 * read without it up to n_versions; the first stands for all others.
 */
static struct client_version {
    char name[VERSION_MAX];
    uint64_t requests[2]; /* unary, stream; sys_u64_...() */
} versions[VERSIONS_MAX] = {{.name = "unknown"}};
static size_t n_versions = 1; /* atomic */
static pthread_mutex_t versions_mu = PTHREAD_MUTEX_INITIALIZER;

static struct client_version *find_version(struct str name)
{
    size_t n = __atomic_load_n(&n_versions, __ATOMIC_ACQUIRE);

    for (size_t i = 0; i < n; i++) {
        if (str_eqz(name, versions[i].name))
            return &versions[i];
    }
    return NULL;
}

static bool is_version(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        if ((s.p[i] < '0' || s.p[i] > '9') && s.p[i] != '.')
            return false;
    }
    return s.n > 0 && s.n < VERSION_MAX;
}

static struct client_version *add_version(struct str name)
{
    struct client_version *v;

    pthread_mutex_lock(&versions_mu);
    v = find_version(name);
    if (!v && n_versions < VERSIONS_MAX) {
        v = &versions[n_versions];
        memcpy(v->name, name.p, name.n);
        __atomic_store_n(&n_versions, n_versions + 1, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&versions_mu);
    return v;
}

static struct client_version *version_of(struct str name)
{
    struct client_version *v = NULL;

    if (is_version(name)) {
        v = find_version(name);
        v = v ? v : add_version(name);
    }
    return v ? v : &versions[0];
}

void rpc_count_start(const struct rpc_method *m, struct str version)
{
    sys_u64_add(&counts[m->id].started, 1);
    sys_u64_add(&version_of(version)->requests[m->streams != 0], 1);
}

void rpc_count_received(const struct rpc_method *m, size_t bytes)
{
    sys_u64_add(&counts[m->id].received, 1);
    sys_u64_add(&received_bytes, bytes);
}

void rpc_count_sent(const struct rpc_method *m, size_t bytes)
{
    sys_u64_add(&counts[m->id].sent, 1);
    sys_u64_add(&sent_bytes, bytes);
}

void rpc_count_end(const struct rpc_method *m, int code, int64_t took_ns)
{
    struct method_counts *c = &counts[m->id];
    double s = (double)took_ns / (double)NS_PER_S;
    size_t i = 0;

    if (code < 0 || code >= GRPC_STATUS_N)
        code = GRPC_UNKNOWN;
    while (i < N_BOUNDS && s > bounds[i])
        i++;
    sys_u64_add(&c->handled[code], 1);
    sys_u64_add(&c->took[i], 1);
    sys_u64_add(&c->took_ns, (uint64_t)took_ns);
}

/* --- Exposition. ---------------------------------------------------------------- */

static const char *type_of(const struct rpc_method *m)
{
    static const char *const names[] = {
        [0] = "unary",
        [RPC_CLIENT_STREAM] = "client_stream",
        [RPC_SERVER_STREAM] = "server_stream",
        [RPC_BIDI_STREAM] = "bidi_stream",
    };

    return names[m->streams];
}

static void add_counter(struct metrics_page *p, const char *name,
                        const char *help, const char *labels, const uint64_t *v)
{
    metrics_page_add(p, name, "counter", help, labels, (double)sys_u64_load(v));
}

static void add_handled(struct metrics_page *p, const struct method_counts *c,
                        const char *labels)
{
    char with_code[LABELS_MAX + 40];

    for (int code = 0; code < GRPC_STATUS_N; code++) {
        snprintf(with_code, sizeof(with_code), "grpc_code=\"%s\",%s",
                 grpc_status_name(code), labels);
        add_counter(p, "grpc_server_handled_total",
                    "Total number of RPCs completed on the server, regardless "
                    "of success or failure.",
                    with_code, &c->handled[code]);
    }
}

static void add_times(struct metrics_page *p, const struct method_counts *c,
                      const char *labels)
{
    uint64_t took[N_BOUNDS + 1];
    struct metrics_histogram h = {bounds, took, N_BOUNDS, 0};

    for (size_t i = 0; i <= N_BOUNDS; i++)
        took[i] = sys_u64_load(&c->took[i]);
    h.sum = (double)sys_u64_load(&c->took_ns) / (double)NS_PER_S;
    metrics_page_add_histogram(p, "grpc_server_handling_seconds",
                               "Histogram of response latency (seconds) of "
                               "gRPC that had been application-level handled "
                               "by the server.",
                               labels, &h);
}

static void add_method(struct metrics_page *p, const struct rpc_method *m,
                       bool extensive)
{
    const struct method_counts *c = &counts[m->id];
    char labels[LABELS_MAX];

    snprintf(labels, sizeof(labels),
             "grpc_method=\"%.*s\",grpc_service=\"%.*s\",grpc_type=\"%s\"",
             STR_FMT(m->name), STR_FMT(rpc_services[m->service]), type_of(m));
    add_counter(p, "grpc_server_started_total",
                "Total number of RPCs started on the server.", labels,
                &c->started);
    add_counter(p, "grpc_server_msg_received_total",
                "Total number of RPC stream messages received on the server.",
                labels, &c->received);
    add_counter(p, "grpc_server_msg_sent_total",
                "Total number of gRPC stream messages sent by the server.",
                labels, &c->sent);
    add_handled(p, c, labels);
    if (extensive)
        add_times(p, c, labels);
}

/* What etcd shows from the start; the rest comes with its first call. */
static bool is_shown(const struct rpc_method *m)
{
    if (sys_u64_load(&counts[m->id].started))
        return true;
    return m->id != RPC_KV_RANGE_STREAM && m->id != RPC_AUTH_STATUS &&
           m->id != RPC_MAINTENANCE_DOWNGRADE &&
           m->service != RPC_SERVICE_LOCK && m->service != RPC_SERVICE_ELECTION;
}

static void add_versions(struct metrics_page *p)
{
    size_t n = __atomic_load_n(&n_versions, __ATOMIC_ACQUIRE);
    char labels[LABELS_MAX];

    for (size_t i = 0; i < 2 * n; i++) {
        struct client_version *v = &versions[i / 2];

        if (sys_u64_load(&v->requests[i % 2]) == 0)
            continue;
        snprintf(labels, sizeof(labels),
                 "client_api_version=\"%s\",type=\"%s\"", v->name,
                 i % 2 ? "stream" : "unary");
        add_counter(p, "etcd_server_client_requests_total",
                    "The total number of client requests per client version.",
                    labels, &v->requests[i % 2]);
    }
}

void rpc_count_page(struct metrics_page *p, bool extensive)
{
    add_versions(p);
    for (size_t i = 0; i < RPC_METHOD_N; i++)
        if (is_shown(&rpc_methods[i]))
            add_method(p, &rpc_methods[i], extensive);
    add_counter(p, "etcd_network_client_grpc_received_bytes_total",
                "The total number of bytes received from grpc clients.", NULL,
                &received_bytes);
    add_counter(p, "etcd_network_client_grpc_sent_bytes_total",
                "The total number of bytes sent to grpc clients.", NULL,
                &sent_bytes);
}
