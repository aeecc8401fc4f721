/*
 * benchv3.c - what scripts/bench.sh measures of the v3 API beside h2load:
 *
 *   benchv3 body KIND ARG...     a request as gRPC frames it, for h2load:
 *       put KEY N                a value of N bytes
 *       range KEY [serializable] [END]
 *       txn PUTS N               a transaction of PUTS puts of N bytes each
 *       keepalive ID N           N of them, for one stream
 *   benchv3 fill HOST:PORT KEYS N [CONNECTIONS [AHEAD]]
 *                                put KEYS keys of 32 bytes with N bytes each;
 *                                prints puts per second
 *   benchv3 watch HOST:PORT STREAMS WATCHERS SECONDS
 *                                WATCHERS on as many streams, of one key that
 *                                is put all the time; events per second
 *   benchv3 grant HOST:PORT      a lease of an hour; its ID
 *   benchv3 latency put|range HOST:PORT SECONDS
 *                                one call after another: median, 99th
 *                                percentile and maximum in microseconds
 *   benchv3 readers PORT PID CLIENTS SECONDS
 *                                CLIENTS that each ask for all that was filled
 *                                and take it slowly: what the
 *                                server PID holds more meanwhile, in kB, and the
 *                                MB that were read
 *   benchv3 start HOST:PORT CMD...
 *                                milliseconds from starting CMD to its first
 *                                linearizable read, and the pid of CMD, which
 *                                is left running
 */
#include "child.h"
#include "gcall.h"
#include "grpcconn.h"
#include "pb.h"
#include "rpcpb.h"
#include "sys.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_PUT "/etcdserverpb.KV/Put"
#define PATH_RANGE "/etcdserverpb.KV/Range"
#define PATH_WATCH "/etcdserverpb.Watch/Watch"
#define PATH_GRANT "/etcdserverpb.Lease/LeaseGrant"

#define FILL_AHEAD 64              /* calls under way on each connection */
#define WATCH_WINDOW (1024 * 1024) /* of a stream */
#define WATCH_AHEAD 8              /* puts whose events have not all come */
#define LEASE_TTL 3600
#define READERS_WINDOW (1024 * 1024)
#define READERS_PACE_MS 100 /* a window each time: 10 MB/s for each */
#define START_LIMIT_NS (60 * NS_PER_S)

static void die(const char *what, const struct err *e)
{
    fprintf(stderr, "%s: %s\n", what, e ? e->msg : "failed");
    exit(1);
}

static struct grpc_conn *dial(const char *to)
{
    struct grpc_conn_options o = {0};
    char *text = xasprintf("http://%s", to);
    struct grpc_conn *c;
    struct url u;
    struct err e;

    if (url_parse(str_of(text), &u, &e) < 0)
        die(to, &e);
    c = grpc_conn_dial(&u, &o, 0, &e);
    if (!c)
        die(to, &e);
    url_release(&u);
    free(text);
    return c;
}

static struct grpc_stream *open_stream(struct grpc_conn *c, const char *path)
{
    struct grpc_stream *s;
    struct err e;

    if (grpc_stream_open(c, path, NULL, 0, &s, &e) != GRPC_OK)
        die(path, &e);
    return s;
}

/* Of a unary call that was begun. */
static void finish(struct grpc_stream *s, struct buf *answer)
{
    struct err e;

    if (grpc_stream_read(s, answer, 0, &e) != GRPC_OK)
        die("call", &e);
    grpc_stream_close(s);
}

static struct grpc_stream *begin(struct grpc_conn *c, const char *path,
                                 const struct buf *request)
{
    struct grpc_stream *s = open_stream(c, path);

    grpc_stream_send(s, buf_str(request), GRPC_LAST);
    return s;
}

static void call(struct grpc_conn *c, const char *path,
                 const struct buf *request, struct buf *answer)
{
    finish(begin(c, path, request), answer);
}

/* --- Requests. ------------------------------------------------------------ */

static void put_request(struct buf *b, const char *key, size_t n)
{
    char *value = xmalloc(n + 1);

    memset(value, 'x', n);
    pb_add_str(b, 1, str_of(key));
    pb_add_bytes(b, 2, value, n);
    free(value);
}

static void txn_request(struct buf *b, size_t puts, size_t n)
{
    for (size_t i = 0; i < puts; i++) {
        char key[32];
        size_t op = pb_begin(b, 2), put = pb_begin(b, 2);

        snprintf(key, sizeof(key), "bench/t%03zu", i);
        put_request(b, key, n);
        pb_end(b, put);
        pb_end(b, op);
    }
}

/* As gRPC frames it. */
static void print_message(const struct buf *b)
{
    uint8_t prefix[GRPC_PREFIX];

    grpc_put_prefix(prefix, (uint32_t)b->len, false);
    fwrite(prefix, 1, sizeof(prefix), stdout);
    fwrite(b->data, 1, b->len, stdout);
}

static void range_request(struct buf *b, int argc, char **argv)
{
    bool serializable = argc > 1 && strcmp(argv[1], "serializable") == 0;

    pb_add_str(b, 1, str_of(argv[0]));
    if (argc > 1 + serializable)
        pb_add_str(b, 2, str_of(argv[1 + serializable]));
    if (serializable)
        pb_add_u64(b, 7, 1);
}

static int body(int argc, char **argv)
{
    struct buf b = {0};
    long times = 1;

    if (argc == 3 && strcmp(argv[0], "put") == 0) {
        put_request(&b, argv[1], (size_t)atol(argv[2]));
    } else if (argc == 3 && strcmp(argv[0], "txn") == 0) {
        txn_request(&b, (size_t)atol(argv[1]), (size_t)atol(argv[2]));
    } else if (argc == 3 && strcmp(argv[0], "keepalive") == 0) {
        pb_add_u64(&b, 1, strtoull(argv[1], NULL, 10));
        times = atol(argv[2]);
    } else if (argc >= 2 && strcmp(argv[0], "range") == 0) {
        range_request(&b, argc - 1, argv + 1);
    } else {
        return 2;
    }
    while (times-- > 0)
        print_message(&b);
    buf_release(&b);
    return 0;
}

/* --- Many keys. ----------------------------------------------------------- */

struct filler {
    pthread_t thread;
    const char *to;
    size_t from, end, value_bytes, ahead;
};

static void *fill_some(void *arg)
{
    struct filler *f = arg;
    struct grpc_conn *c = dial(f->to);
    struct grpc_stream *under_way[FILL_AHEAD] = {NULL};
    struct buf request = {0}, answer = {0};

    for (size_t i = f->from; i < f->end + f->ahead; i++) {
        struct grpc_stream **slot = &under_way[i % f->ahead];
        char key[40];

        if (*slot)
            finish(*slot, &answer);
        *slot = NULL;
        if (i >= f->end)
            continue;
        /* In no order: as hashes and names of users are. */
        snprintf(key, sizeof(key), "fill/%08zx/%018zu",
                 i * 2654435761u & 0xffffffff, i);
        buf_clear(&request);
        put_request(&request, key, f->value_bytes);
        *slot = begin(c, PATH_PUT, &request);
    }
    buf_release(&request);
    buf_release(&answer);
    grpc_conn_unref(c);
    return NULL;
}

static int fill(const char *to, size_t keys, size_t value_bytes, size_t n,
                size_t ahead)
{
    struct filler *f = xcalloc(n, sizeof(*f));
    int64_t began = sys_mono_ns();

    for (size_t i = 0; i < n; i++) {
        f[i] = (struct filler){.to = to,
                               .from = keys * i / n,
                               .end = keys * (i + 1) / n,
                               .value_bytes = value_bytes,
                               .ahead = (size_t)min_u64(ahead, FILL_AHEAD)};
        sys_thread(&f[i].thread, SYS_STACK_LARGE, fill_some, &f[i]);
    }
    for (size_t i = 0; i < n; i++)
        pthread_join(f[i].thread, NULL);
    free(f);
    printf("%.0f\n", (double)keys * NS_PER_S / (double)(sys_mono_ns() - began));
    return 0;
}

/* --- Watchers. ------------------------------------------------------------ */

/* All streams are on one connection, and one thread reads it. */
struct watching {
    struct gc gc;
    size_t watchers; /* of a stream */
    uint64_t
        slowest; /* atomic; events to each watcher of the stream that lags */
};

/* The tags of WatchResponse that matter here. */
static size_t events_of(struct str message)
{
    struct pb_reader r = pb_reader(message.p, message.n);
    struct pb_field f;
    size_t n = 0;

    while (pb_next(&r, &f) > 0)
        n += f.number == 11;
    return n;
}

static void create_watchers(struct watching *w, struct gc_call *k)
{
    struct rpcpb_watch_create_request create = {.key = STR("bench/watched")};
    struct rpcpb_watch_request request = {.create_request = &create};
    struct str answer;

    for (size_t i = 0; i < w->watchers; i++) {
        gc_send_message(&w->gc, k, &rpcpb_watch_request_desc, &request, false);
        if (!gc_message(&w->gc, k, &answer, 20000))
            die("a watcher was not made", NULL);
    }
    gc_forget(k);
}

static void *count_events(void *arg)
{
    struct watching *w = arg;
    uint64_t *events = xcalloc(w->gc.n, sizeof(*events));
    struct str message;

    while (!w->gc.closed) {
        uint64_t least = UINT64_MAX;

        gc_read(&w->gc);
        for (size_t i = 0; i < w->gc.n; i++) {
            struct gc_call *k = &w->gc.calls[i];

            while (gc_message(&w->gc, k, &message, 0))
                events[i] += events_of(message);
            gc_forget(k);
            least = min_u64(least, events[i] / w->watchers);
        }
        sys_u64_store(&w->slowest, least);
    }
    free(events);
    return NULL;
}

static int watch(const char *to, size_t streams, size_t watchers, int seconds)
{
    struct watching *w = xcalloc(1, sizeof(*w));
    struct grpc_conn *putter = dial(to);
    struct buf request = {0}, answer = {0};
    pthread_t thread;
    int64_t began, took;
    uint64_t puts = 0;

    gc_open(&w->gc, (uint16_t)atoi(strrchr(to, ':') + 1), WATCH_WINDOW);
    w->watchers = watchers / streams;
    for (size_t i = 0; i < streams; i++)
        create_watchers(w, gc_call(&w->gc, PATH_WATCH, NULL));
    sys_thread(&thread, SYS_STACK_LARGE, count_events, w);
    put_request(&request, "bench/watched", 64);
    began = sys_mono_ns();
    while ((took = sys_mono_ns() - began) < seconds * NS_PER_S) {
        call(putter, PATH_PUT, &request, &answer);
        puts++;
        while (sys_u64_load(&w->slowest) + WATCH_AHEAD < puts)
            sys_sleep_ms(1);
    }
    printf("%.0f\n", (double)sys_u64_load(&w->slowest) * (double)watchers *
                         NS_PER_S / (double)took);
    fflush(stdout);
    _exit(0); /* nobody waits for the thread */
}

/* --- Leases. -------------------------------------------------------------- */

static int grant(const char *to)
{
    struct buf request = {0}, answer = {0};
    struct grpc_conn *c = dial(to);
    struct pb_reader r;
    struct pb_field f;

    pb_add_u64(&request, 1, LEASE_TTL);
    call(c, PATH_GRANT, &request, &answer);
    r = pb_reader(answer.data, answer.len);
    while (pb_next(&r, &f) > 0)
        if (f.number == 2)
            printf("%" PRIu64 "\n", f.u64);
    buf_release(&request);
    buf_release(&answer);
    grpc_conn_unref(c);
    return 0;
}

/* --- Latency. ------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static int latency(const char *what, const char *to, int seconds)
{
    bool put = strcmp(what, "put") == 0;
    int64_t until = sys_mono_ns() + seconds * NS_PER_S;
    struct grpc_conn *c = dial(to);
    struct buf request = {0}, answer = {0};
    int64_t *took = NULL;
    size_t n = 0, cap = 0;

    if (put)
        put_request(&request, "bench/latency", 64);
    else
        pb_add_str(&request, 1, STR("bench/latency"));
    while (sys_mono_ns() < until) {
        int64_t began = sys_mono_ns();

        call(c, put ? PATH_PUT : PATH_RANGE, &request, &answer);
        if (n == cap) {
            cap = cap ? 2 * cap : 4096;
            took = xrealloc(took, cap * sizeof(*took));
        }
        took[n++] = sys_mono_ns() - began;
    }
    qsort(took, n, sizeof(*took), by_value);
    printf("%.1f %.1f %.1f\n", (double)took[n / 2] / 1000,
           (double)took[n * 99 / 100] / 1000, (double)took[n - 1] / 1000);
    free(took);
    buf_release(&request);
    buf_release(&answer);
    grpc_conn_unref(c);
    return 0;
}

/* --- Memory. -------------------------------------------------------------- */

static long rss_kb(const char *pid)
{
    char *path = xasprintf("/proc/%s/status", pid);
    struct buf b = {0};
    const char *line;
    long kb = 0;

    sys_read_file(path, 1 << 16, &b, NULL);
    line = strstr(buf_z(&b), "VmRSS:");
    if (line)
        kb = atol(line + strlen("VmRSS:"));
    buf_release(&b);
    free(path);
    return kb;
}

/* All have been answered with a first piece; then they read at their pace. */
static int readers(uint16_t port, const char *pid, size_t n, int seconds)
{
    struct rpcpb_range_request q = {.key = STR("fill/"),
                                    .range_end = STR("fill0")};
    struct gc *c = xcalloc(n, sizeof(*c));
    long before = rss_kb(pid), most = before, kb;
    size_t got = 0;
    int64_t until;

    for (size_t i = 0; i < n; i++) {
        struct gc_call *k;

        gc_open(&c[i], port, READERS_WINDOW);
        k = gc_call(&c[i], PATH_RANGE, NULL);
        k->unread = true;
        gc_send_message(&c[i], k, &rpcpb_range_request_desc, &q, true);
    }
    for (size_t i = 0; i < n; i++)
        if (!gc_wait(&c[i], &c[i].calls[0], READERS_WINDOW, 20000))
            die("a reader was not served", NULL);
    until = sys_mono_ns() + seconds * NS_PER_S;
    while (sys_mono_ns() < until) {
        for (size_t i = 0; i < n; i++) {
            gc_run(&c[i], 2); /* of 1 it would be past */
            got += gc_skip(&c[i], &c[i].calls[0]);
            if (c[i].closed)
                die("a reader was cut off", NULL);
        }
        kb = rss_kb(pid);
        most = kb > most ? kb : most;
        sys_sleep_ms(READERS_PACE_MS);
    }
    for (size_t i = 0; i < n; i++)
        gc_close(&c[i]);
    free(c);
    printf("%ld %zu\n", most - before, got / (1024 * 1024));
    return 0;
}

/* --- Start. --------------------------------------------------------------- */

static bool reads(const char *to)
{
    struct grpc_conn_options o = {0};
    char *text = xasprintf("http://%s", to);
    struct buf request = {0}, answer = {0};
    struct grpc_conn *c = NULL;
    struct grpc_stream *s;
    struct url u;
    struct err e;
    bool ok;

    pb_add_str(&request, 1, STR("fill/"));
    ok = url_parse(str_of(text), &u, &e) == 0 &&
         (c = grpc_conn_dial(&u, &o, 0, &e)) &&
         grpc_stream_open(c, PATH_RANGE, NULL, 0, &s, &e) == GRPC_OK;
    if (ok) {
        grpc_stream_send(s, buf_str(&request), GRPC_LAST);
        ok = grpc_stream_read(s, &answer, 0, &e) == GRPC_OK;
        grpc_stream_close(s);
    }
    grpc_conn_unref(c);
    url_release(&u);
    buf_release(&request);
    buf_release(&answer);
    free(text);
    return ok;
}

static int start(const char *to, char **cmd)
{
    int64_t began = sys_mono_ns();
    pid_t pid = spawn_quietly(cmd);

    while (!reads(to)) {
        if (sys_mono_ns() - began > START_LIMIT_NS)
            die(cmd[0], NULL);
        sys_sleep_ms(1);
    }
    printf("%.1f %d\n", (double)(sys_mono_ns() - began) / NS_PER_MS, (int)pid);
    return 0;
}

int main(int argc, char **argv)
{
    const char *what = argc > 2 ? argv[1] : "";
    int rc = 2;

    signal(SIGPIPE, SIG_IGN);
    if (strcmp(what, "body") == 0)
        rc = body(argc - 2, argv + 2);
    else if (strcmp(what, "fill") == 0 && argc >= 5)
        rc = fill(argv[2], (size_t)atol(argv[3]), (size_t)atol(argv[4]),
                  argc > 5 ? (size_t)atol(argv[5]) : 4,
                  argc > 6 ? (size_t)atol(argv[6]) : FILL_AHEAD);
    else if (strcmp(what, "watch") == 0 && argc == 6)
        rc = watch(argv[2], (size_t)atol(argv[3]), (size_t)atol(argv[4]),
                   atoi(argv[5]));
    else if (strcmp(what, "grant") == 0)
        rc = grant(argv[2]);
    else if (strcmp(what, "latency") == 0 && argc == 5)
        rc = latency(argv[2], argv[3], atoi(argv[4]));
    else if (strcmp(what, "readers") == 0 && argc == 6)
        rc = readers((uint16_t)atoi(argv[2]), argv[3], (size_t)atol(argv[4]),
                     atoi(argv[5]));
    else if (strcmp(what, "start") == 0 && argc >= 4)
        rc = start(argv[2], argv + 3);
    if (rc == 2)
        fprintf(stderr, "usage: see the head of benchv3.c\n");
    return rc;
}
