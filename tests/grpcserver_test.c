/*
 * grpcserver_test.c - calls over real connections: the gRPC door, and the
 * services of keys and watchers on a server without log (fakev3.h).
 */
#include "check.h"
#include "fakev3.h"
#include "gcall.h"
#include "grpc.h"
#include "grpcserver.h"
#include "hex.h"
#include "http.h"
#include "http2_impl.h"
#include "rpc.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define WAIT_MS 30000
#define WINDOW 65535

#define PUT "/etcdserverpb.KV/Put"
#define RANGE "/etcdserverpb.KV/Range"
#define TXN "/etcdserverpb.KV/Txn"
#define WATCH "/etcdserverpb.Watch/Watch"

static struct server fake;
static struct grpcserver *door;
static struct http_server *http;
static struct net_listener listener;
static uint16_t port;

static void http1(struct http_exchange *x, void *arg)
{
    (void)arg;
    http_reply(x, 200, "text/plain", "one", 3);
}

static void start(void)
{
    struct http_server_options o = {.handler = http1};

    fakev3_init(&fake);
    door = grpcserver_new(&fake);
    o.h2 = grpcserver_serve;
    o.h2_arg = door;
    port = fakev3_listen(&o, &listener, &http);
}

static void stop(void)
{
    grpcserver_shutdown(door);
    http_server_stop(http, 1000);
    fakev3_wait_idle(&fake);
    rpc_wait_idle();
    grpcserver_free(door);
    net_listener_close(&listener);
    fakev3_release(&fake);
}

/* --- Small helpers. ------------------------------------------------------------ */

static struct str lit(const char *s)
{
    return str_of(s);
}

static struct gc_call *ask(struct gc *c, const char *path,
                           const struct msg_desc *d, const void *m)
{
    struct gc_call *k = gc_call(c, path, NULL);

    gc_send_message(c, k, d, m, true);
    return k;
}

static struct gc_call *put(struct gc *c, const char *key, struct str value)
{
    struct rpcpb_put_request r = {.key = lit(key), .value = value};

    return ask(c, PUT, &rpcpb_put_request_desc, &r);
}

static bool put_wait(struct gc *c, const char *key, struct str value)
{
    struct gc_call *k = put(c, key, value);

    return gc_wait(c, k, SIZE_MAX, WAIT_MS) && k->status == 0;
}

static struct rpcpb_range_response read_range(struct arena *a, struct str m)
{
    struct rpcpb_range_response out = {.more = false};

    CHECK(msg_decode(&rpcpb_range_response_desc, m.p, m.n, a, &out) == 0);
    return out;
}

/* --- Unary calls. ---------------------------------------------------------------- */

static void test_put_and_range(void)
{
    struct rpcpb_range_request q = {.key = STR("a")};
    struct rpcpb_range_response got;
    struct arena a = {.limit = 1 << 20};
    struct gc_call *k;
    struct str m;
    struct gc c;

    gc_open(&c, port, WINDOW);
    CHECK(put_wait(&c, "a", STR("1")));
    k = ask(&c, RANGE, &rpcpb_range_request_desc, &q);
    CHECK(gc_message(&c, k, &m, WAIT_MS));
    CHECK(gc_wait(&c, k, SIZE_MAX, WAIT_MS));
    CHECK(k->http == 200 && k->status == 0);
    got = read_range(&a, m);
    CHECK(got.header->cluster_id == 12 && got.header->member_id == 11 &&
          got.header->revision == 2 && got.header->raft_term == 2);
    CHECK(got.kvs.n == 1 && got.count == 1 && !got.more);
    CHECK(str_eq(got.kvs.items[0].value, STR("1")));
    arena_release(&a);
    gc_close(&c);
}

static void test_txn(void)
{
    struct rpcpb_put_request p = {.key = STR("t"), .value = STR("v")};
    struct rpcpb_range_request q = {.key = STR("t"), .keys_only = true};
    struct rpcpb_request_op ops[] = {{.request_put = &p},
                                     {.request_range = &q}};
    struct rpcpb_txn_request t = {.success = {ops, 2}};
    struct rpcpb_txn_response got = {.succeeded = false};
    struct arena a = {.limit = 1 << 20};
    struct gc_call *k;
    struct str m;
    struct gc c;

    gc_open(&c, port, WINDOW);
    k = ask(&c, TXN, &rpcpb_txn_request_desc, &t);
    CHECK(gc_message(&c, k, &m, WAIT_MS));
    CHECK(msg_decode(&rpcpb_txn_response_desc, m.p, m.n, &a, &got) == 0);
    CHECK(got.succeeded && got.responses.n == 2);
    CHECK(got.responses.items[0].response_put->header->revision ==
          got.header->revision);
    CHECK(got.responses.items[1].response_range->kvs.n == 1);
    CHECK(got.responses.items[1].response_range->kvs.items[0].value.n == 0);
    arena_release(&a);
    gc_close(&c);
}

/* What is no call, or a bad one: path, metadata, bytes sent, what comes back. */
static void test_refusals(void)
{
    static const struct {
        const char *path, *extra;
        struct str bytes;
        int http, status;
        const char *text;
    } rows[] = {
        {"/etcdserverpb.KV/Nothing",
         NULL,
         {"\0\0\0\0\0", 5},
         200,
         12,
         "unknown method Nothing for service etcdserverpb.KV"},
        {"/no.Such/Thing",
         NULL,
         {"\0\0\0\0\0", 5},
         200,
         12,
         "unknown service no.Such"},
        {PUT,
         "content-type: application/json",
         {"{}", 2},
         415,
         3,
         "invalid gRPC request content-type \"application/json\""},
        {PUT,
         "grpc-encoding: gzip",
         {"\1\0\0\0\1x", 6},
         200,
         12,
         "grpc: Decompressor is not installed for grpc-encoding \"gzip\""},
        {PUT,
         NULL,
         {"\0\0\0\0\0", 5},
         200,
         3,
         "etcdserver: key is not provided"},
        {PUT,
         NULL,
         {"\0\0\0\0\1\xff", 6},
         200,
         13,
         "grpc: failed to unmarshal the received message"},
        {PUT,
         NULL,
         {"\0\x7f\xff\xff\xff", 5},
         200,
         8,
         "grpc: received message larger than max (2147483647 vs. 2097152)"},
        {PUT,
         NULL,
         {"\7\0\0\0\0", 5},
         200,
         13,
         "grpc: received unexpected payload format"},
        {PUT, NULL, {"\0\0\0\0\5ab", 7}, 200, 13, "unexpected EOF"},
        {PUT, NULL, {"", 0}, 200, 13, "unexpected EOF"},
        {PUT,
         "grpc-timeout: 1x",
         {"\0\0\0\0\0", 5},
         200,
         13,
         "malformed grpc-timeout"},
        {PUT,
         "token: bad",
         {"\0\0\0\0\3\12\1a", 8},
         200,
         16,
         "etcdserver: invalid auth token"},
        {PUT,
         "token: ",
         {"\0\0\0\0\3\12\1a", 8},
         200,
         16,
         "etcdserver: invalid auth token"},
        {PUT,
         "token: bad", /* what is wrong with the request comes first */
         {"\0\0\0\0\0", 5},
         200,
         3,
         "etcdserver: key is not provided"},
        {"/etcdserverpb.Auth/UserList",
         NULL,
         {"\0\0\0\0\0", 5},
         200,
         7,
         "etcdserver: permission denied"},
    };
    struct gc c;

    gc_open(&c, port, WINDOW);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct gc_call *k = gc_call(&c, rows[i].path, rows[i].extra);

        gc_send(&c, k, rows[i].bytes.p, rows[i].bytes.n, true);
        CHECK(gc_wait(&c, k, SIZE_MAX, WAIT_MS));
        CHECK(k->http == rows[i].http);
        CHECK(k->status == rows[i].status);
        CHECK_STR(buf_z(&k->text), rows[i].text);
        if (c.closed)
            break;
    }
    CHECK(!c.closed && put_wait(&c, "still", STR("alive")));
    gc_close(&c);
}

/* Answers by other threads, many at a time; and clients that do not wait. */
static void test_slow_writes(void)
{
    enum { N = 100 };
    struct gc_call *calls[N];
    struct gc c, gone;
    int well = 0;

    __atomic_store_n(&fake.slowly, true, __ATOMIC_RELEASE);
    gc_open(&gone, port, WINDOW);
    put(&gone, "gone", STR("x"));
    gc_run(&gone, 5);
    gc_close(&gone); /* the write is under way */

    gc_open(&c, port, WINDOW);
    for (int i = 0; i < N; i++)
        calls[i] = put(&c, "slow", STR("x"));
    h2_reset(c.h2, calls[7]->stream, H2_CANCEL);
    for (int i = 0; i < N; i++)
        if (i != 7 && gc_wait(&c, calls[i], SIZE_MAX, WAIT_MS))
            well += calls[i]->status == 0;
    CHECK(well == N - 1);
    gc_close(&c);
    __atomic_store_n(&fake.slowly, false, __ATOMIC_RELEASE);
}

static void test_deadline(void)
{
    struct rpcpb_put_request r = {.key = STR("late")};
    struct gc_call *k;
    struct gc c;

    __atomic_store_n(&fake.slowly, true, __ATOMIC_RELEASE);
    gc_open(&c, port, WINDOW);
    k = gc_call(&c, PUT, "grpc-timeout: 5m");
    gc_send_message(&c, k, &rpcpb_put_request_desc, &r, true);
    CHECK(gc_wait(&c, k, SIZE_MAX, WAIT_MS));
    CHECK(k->status == GRPC_DEADLINE_EXCEEDED);
    CHECK_STR(buf_z(&k->text), "context deadline exceeded");
    k = gc_call(&c, PUT, "grpc-timeout: 0S");
    CHECK(gc_wait(&c, k, SIZE_MAX, WAIT_MS));
    CHECK(k->status == GRPC_DEADLINE_EXCEEDED);
    k = gc_call(&c, PUT, "grpc-timeout: 10S");
    gc_send_message(&c, k, &rpcpb_put_request_desc, &r, true);
    CHECK(gc_wait(&c, k, SIZE_MAX, WAIT_MS) && k->status == 0);
    gc_close(&c);
    __atomic_store_n(&fake.slowly, false, __ATOMIC_RELEASE);
}

/* --- Ranges of any size. ------------------------------------------------------------ */

#define LARGE_KEYS 3000

static char large_value[10000];

static void fill_large(struct gc *c)
{
    memset(large_value, 'v', sizeof(large_value));
    for (int i = 0; i < LARGE_KEYS; i++) {
        char key[20];
        struct gc_call *k;

        snprintf(key, sizeof(key), "large%05d", i);
        c->n = 0; /* answers are awaited: slots may be used again */
        k = put(c, key,
                (struct str){large_value,
                             i % 3 ? sizeof(large_value) : (size_t)i % 50});
        if (!gc_wait(c, k, SIZE_MAX, WAIT_MS) || k->status != 0)
            CHECK(!"a put failed");
        buf_release(&k->body);
    }
}

static void check_large(struct str m, int64_t limit)
{
    struct arena a = {.limit = 1 << 26};
    struct rpcpb_range_response got = read_range(&a, m);
    bool same = true;

    CHECK(got.kvs.n == (size_t)(limit ? limit : LARGE_KEYS));
    CHECK(got.count == LARGE_KEYS);
    CHECK(got.more == (limit != 0));
    for (size_t i = 0; i < got.kvs.n; i++) {
        const struct rpcpb_key_value *kv = &got.kvs.items[i];
        char key[20];

        snprintf(key, sizeof(key), "large%05d", (int)i);
        same &= str_eqz(kv->key, key) && kv->version == 1 &&
                kv->value.n == (i % 3 ? sizeof(large_value) : i % 50);
    }
    CHECK(same);
    arena_release(&a);
}

/* limit 5: whole; 900: references at the client's pace; none: in steps. */
static void test_large_ranges(void)
{
    static const int64_t limits[] = {5, 900, 0};
    struct gc c;

    gc_open(&c, port, WINDOW);
    fill_large(&c);
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        struct rpcpb_range_request q = {
            .key = STR("large"), .range_end = STR("largf"), .limit = limits[i]};
        struct gc_call *k;
        struct str m;

        c.n = 0;
        k = ask(&c, RANGE, &rpcpb_range_request_desc, &q);
        CHECK(gc_message(&c, k, &m, WAIT_MS));
        CHECK(gc_wait(&c, k, SIZE_MAX, WAIT_MS) && k->status == 0);
        check_large(m, limits[i]);
        buf_release(&k->body);
    }
    gc_close(&c);
}

/* A client that takes nothing of it holds up nobody, nor does one that leaves. */
static void test_large_and_slow(void)
{
    struct rpcpb_range_request q = {.key = STR("large"),
                                    .range_end = STR("largf")};
    struct gc_call *k;
    struct gc c;

    gc_open(&c, port, WINDOW);
    k = gc_call(&c, RANGE, NULL);
    k->unread = true;
    gc_send_message(&c, k, &rpcpb_range_request_desc, &q, true);
    gc_wait(&c, k, WINDOW, WAIT_MS);
    CHECK(k->body.len == WINDOW);
    CHECK(put_wait(&c, "other", STR("x")));
    h2_reset(c.h2, k->stream, H2_CANCEL);
    CHECK(put_wait(&c, "other", STR("y")));
    k = gc_call(&c, RANGE, NULL);
    k->unread = true;
    gc_send_message(&c, k, &rpcpb_range_request_desc, &q, true);
    gc_wait(&c, k, WINDOW, WAIT_MS);
    gc_close(&c); /* hangs up in the midst */
}

/* Who asks and asks, and reads nothing, is answered when it does. */
static void test_not_read(void)
{
    enum { N = 500 };
    struct rpcpb_range_request q = {.key = STR("held")};
    static char value[60000];
    unsigned before;
    int well = 0;
    struct gc c;

    gc_open(&c, port, WINDOW);
    CHECK(put_wait(&c, "held", (struct str){value, sizeof(value)}));
    before = __atomic_load_n(&fake.n_ranges, __ATOMIC_RELAXED);
    for (int i = 0; i < N; i++)
        ask(&c, RANGE, &rpcpb_range_request_desc, &q);
    sys_sleep_ms(200);
    CHECK(__atomic_load_n(&fake.n_ranges, __ATOMIC_RELAXED) - before < N - 50);
    h2_reset(c.h2, c.calls[N].stream, H2_CANCEL); /* one that is held */
    for (int i = 1; i < N; i++)
        if (gc_wait(&c, &c.calls[i], SIZE_MAX, WAIT_MS))
            well += c.calls[i].status == 0;
    CHECK(well == N - 1);
    CHECK(__atomic_load_n(&fake.n_ranges, __ATOMIC_RELAXED) - before <= N);
    gc_close(&c);
}

static void test_range_stream(void)
{
    struct rpcpb_range_request q = {.key = STR("large"),
                                    .range_end = STR("largf")};
    struct arena a = {.limit = 1 << 26};
    struct gc_call *k;
    size_t n = 0;
    struct str m;
    struct gc c;

    gc_open(&c, port, WINDOW);
    k = ask(&c, "/etcdserverpb.KV/RangeStream", &rpcpb_range_request_desc, &q);
    while (gc_message(&c, k, &m, WAIT_MS)) {
        struct rpcpb_range_stream_response r;

        CHECK(msg_decode(&rpcpb_range_stream_response_desc, m.p, m.n, &a, &r) ==
              0);
        n += r.range_response->kvs.n;
        if (r.range_response->header)
            CHECK(r.range_response->count == LARGE_KEYS);
    }
    CHECK(k->status == 0);
    CHECK(n == LARGE_KEYS);
    arena_release(&a);
    gc_close(&c);
}

/* --- Watch. -------------------------------------------------------------------------- */

static struct arena watch_arena = {.limit = 1 << 24};

static void watch_send(struct gc *c, struct gc_call *k, const char *key,
                       int64_t from)
{
    struct rpcpb_watch_create_request r = {.key = lit(key),
                                           .start_revision = from};
    struct rpcpb_watch_request req = {.create_request = &r};

    gc_send_message(c, k, &rpcpb_watch_request_desc, &req, false);
}

static struct rpcpb_watch_response watch_next(struct gc *c, struct gc_call *k)
{
    struct rpcpb_watch_response r = {.watch_id = -99};
    struct str m;

    CHECK(gc_message(c, k, &m, WAIT_MS) &&
          msg_decode(&rpcpb_watch_response_desc, m.p, m.n, &watch_arena, &r) ==
              0);
    return r;
}

static void test_watch(void)
{
    struct rpcpb_watch_cancel_request cancel = {.watch_id = 1};
    struct rpcpb_watch_progress_request progress = {0};
    struct rpcpb_watch_request req = {.cancel_request = &cancel};
    struct rpcpb_watch_response r;
    struct gc_call *k;
    struct gc c, other;
    int64_t ids = 0;

    gc_open(&c, port, WINDOW);
    gc_open(&other, port, WINDOW);
    k = gc_call(&c, WATCH, NULL);
    watch_send(&c, k, "w", 0);
    r = watch_next(&c, k);
    CHECK(r.created && !r.canceled && r.watch_id == 0 && r.header->revision);
    watch_send(&c, k, "w", 0);
    r = watch_next(&c, k);
    CHECK(r.created && r.watch_id == 1);
    watch_send(&c, k, "secret", 0);
    r = watch_next(&c, k);
    CHECK(r.created && r.canceled && r.watch_id == -1);
    CHECK(str_eqz(r.cancel_reason, "rpc error: code = PermissionDenied desc = "
                                   "etcdserver: permission denied"));

    CHECK(put_wait(&other, "w", STR("1"))); /* from another connection */
    for (int i = 0; i < 2; i++) {           /* in any order */
        r = watch_next(&c, k);
        CHECK(r.events.n == 1 && (r.watch_id == 0 || r.watch_id == 1));
        ids += r.watch_id;
        CHECK(str_eqz(r.events.items[0].kv->value, "1"));
        CHECK(r.header->revision == r.events.items[0].kv->mod_revision);
    }
    CHECK(ids == 1);
    gc_send_message(&c, k, &rpcpb_watch_request_desc, &req, false);
    r = watch_next(&c, k);
    CHECK(r.canceled && !r.created && r.watch_id == 1);

    req = (struct rpcpb_watch_request){.progress_request = &progress};
    gc_send_message(&c, k, &rpcpb_watch_request_desc, &req, false);
    r = watch_next(&c, k);
    CHECK(r.watch_id == -1 && r.header->revision > 1 && r.events.n == 0);

    h2_end(c.h2, k->stream, NULL, 0); /* half-closed: events still come */
    CHECK(put_wait(&c, "w", (struct str){large_value, 5000}));
    r = watch_next(&c, k);
    CHECK(r.events.n == 1 && r.events.items[0].kv->value.n == 5000);
    CHECK(k->status == -1);
    arena_reset(&watch_arena);
    gc_close(&other);
    gc_close(&c);
}

/* A watcher from now on begins behind what this member had yet to hear of when it
 * was asked for, and what was asked for behind it keeps its place. */
static void test_watch_from_now(void)
{
    struct rpcpb_watch_progress_request progress = {0};
    struct rpcpb_watch_request req = {.progress_request = &progress};
    struct rpcpb_watch_response r;
    struct gc_call *k;
    struct gc c, other;
    int64_t before;
    struct str m;
    int told = 0;

    gc_open(&c, port, WINDOW);
    gc_open(&other, port, WINDOW);
    k = gc_call(&c, WATCH, NULL);
    before = v3_header(&fake).revision;
    fakev3_hold_reads(&fake);
    watch_send(&c, k, "w", 0);
    watch_send(&c, k, "w", before + 1);
    gc_send_message(&c, k, &rpcpb_watch_request_desc, &req, false);
    watch_send(&c, k, "w", 0);
    CHECK(put_wait(&other, "w", STR("heard late")));
    CHECK(!gc_message(&c, k, &m, 50));
    CHECK(fakev3_let_reads_go(&fake) == 2);
    r = watch_next(&c, k);
    CHECK(r.created && r.watch_id == 0 && r.header->revision == before + 1);
    r = watch_next(&c, k);
    CHECK(r.created && r.watch_id == 1);
    for (int i = 0; i < 3; i++) { /* history comes when it comes */
        r = watch_next(&c, k);
        told |= r.created && r.watch_id == 2          ? 1
                : r.watch_id == 1 && r.events.n == 1  ? 2
                : r.watch_id == -1 && r.events.n == 0 ? 4
                                                      : 0;
    }
    CHECK(told == 7);

    /* Nothing to wait for: nobody would tell. */
    __atomic_store_n(&fake.leaderless, true, __ATOMIC_RELEASE);
    fakev3_hold_reads(&fake);
    watch_send(&c, k, "w", 0);
    r = watch_next(&c, k);
    CHECK(r.created && r.watch_id == 3);
    __atomic_store_n(&fake.leaderless, false, __ATOMIC_RELEASE);

    /* Its client does not wait for it. */
    watch_send(&c, k, "w", 0);
    CHECK(!gc_message(&c, k, &m, 50));
    gc_close(&c);
    CHECK(put_wait(&other, "w", STR("nobody hears")));
    CHECK(fakev3_let_reads_go(&fake) == 1);
    arena_reset(&watch_arena);
    gc_close(&other);
}

/* Many watchers of a stream, told the same or nearly: each of each revision once,
 * in order. More than one item of the outbox holds. */
static void test_watch_alike(void)
{
    enum { N = 1000, PUTS = 3 };
    struct rpcpb_watch_create_request r = {.key = STR("alike")};
    struct rpcpb_watch_request req = {.create_request = &r};
    int64_t *last = xcalloc(N, sizeof(*last));
    int64_t first;
    struct gc_call *k;
    struct gc c, other;

    gc_open(&c, port, WINDOW);
    gc_open(&other, port, WINDOW);
    k = gc_call(&c, WATCH, NULL);
    CHECK(put_wait(&other, "alike", STR("before")));
    first = v3_header(&fake).revision + 1;
    for (int i = 0; i < N; i++) {
        r.prev_kv = i % 7 == 0 || i > 800;
        r.fragment = i % 50 == 0;
        gc_send_message(&c, k, &rpcpb_watch_request_desc, &req, false);
        CHECK(watch_next(&c, k).watch_id == i);
        last[i] = first - 1;
        arena_reset(&watch_arena);
    }
    for (int i = 0; i < PUTS; i++)
        CHECK(put_wait(&other, "alike", (struct str){large_value, 100}));
    for (int i = 0; i < N * PUTS; i++) {
        struct rpcpb_watch_response m = watch_next(&c, k);
        const struct rpcpb_event *e = m.events.items;
        int64_t id = m.watch_id;

        CHECK(m.events.n == 1 && id >= 0 && id < N && !m.fragment);
        if (m.events.n != 1 || id < 0 || id >= N)
            break;
        CHECK(m.header->revision == ++last[id]);
        CHECK(e->kv->mod_revision == last[id] && e->kv->value.n == 100);
        CHECK((e->prev_kv != NULL) == (id % 7 == 0 || id > 800));
        arena_reset(&watch_arena);
    }
    for (int i = 0; i < N; i++)
        CHECK(last[i] == first + PUTS - 1);
    free(last);
    gc_close(&other);
    gc_close(&c);
}

/* A watcher that does not read is given everything when it does. */
static void test_slow_watcher(void)
{
    enum { N = 600 };
    int64_t last = 0, seen = 0;
    struct gc c, other;
    struct gc_call *k;

    gc_open(&c, port, WINDOW);
    gc_open(&other, port, WINDOW);
    k = gc_call(&c, WATCH, NULL);
    watch_send(&c, k, "slow", 0);
    watch_next(&c, k);
    for (int i = 0; i < N; i++) { /* 6 MB: more than outbox and window */
        other.n = 0;
        CHECK(put_wait(&other, "slow",
                       (struct str){large_value, sizeof(large_value)}));
        buf_release(&other.calls[0].body);
    }
    while (seen < N) {
        struct rpcpb_watch_response r = watch_next(&c, k);

        if (r.watch_id == -99)
            break;
        for (size_t i = 0; i < r.events.n; i++) {
            CHECK(r.events.items[i].kv->mod_revision > last);
            last = r.events.items[i].kv->mod_revision;
        }
        seen += (int64_t)r.events.n;
        arena_reset(&watch_arena);
    }
    CHECK(seen == N);
    gc_close(&other);
    gc_close(&c);
}

static void test_leader_lost(void)
{
    struct gc_call *k, *without;
    struct gc c;

    gc_open(&c, port, WINDOW);
    k = gc_call(&c, WATCH, "hasleader: true");
    without = gc_call(&c, WATCH, NULL);
    watch_send(&c, k, "w", 0);
    watch_next(&c, k);
    __atomic_store_n(&fake.leaderless, true, __ATOMIC_RELEASE);
    CHECK(gc_wait(&c, k, SIZE_MAX, WAIT_MS));
    CHECK(k->status == GRPC_UNAVAILABLE);
    CHECK_STR(buf_z(&k->text), "etcdserver: no leader");
    CHECK(without->status == -1);
    k = gc_call(&c, RANGE, "hasleader: true");
    gc_send(&c, k, "\0\0\0\0\3\x0a\1a", 8, true);
    CHECK(gc_wait(&c, k, SIZE_MAX, WAIT_MS) && k->status == GRPC_UNAVAILABLE);
    __atomic_store_n(&fake.leaderless, false, __ATOMIC_RELEASE);
    gc_close(&c);
}

/* Clients that are gone before they are answered, by threads that end at the
 * same moment as their connection's: for the sanitizers. */
static void test_hang_ups(void)
{
    struct gc c;

    __atomic_store_n(&fake.slowly, true, __ATOMIC_RELEASE);
    for (int i = 0; i < 60; i++) {
        gc_open(&c, port, WINDOW);
        for (int k = 0; k < 20; k++)
            put(&c, "h", STR("v"));
        gc_close(&c);
    }
    __atomic_store_n(&fake.slowly, false, __ATOMIC_RELEASE);
    gc_open(&c, port, WINDOW);
    CHECK(put_wait(&c, "still", STR("alive")));
    gc_close(&c);
}

static struct gc_call *ask_lock(struct gc *c, const char *path)
{
    struct gc_call *k = gc_call(c, path, NULL);

    gc_send(c, k, "\0\0\0\0\0", 5, true);
    return k;
}

/* Any number of those who wait for locks leave room for others, also on their
 * own connection. */
static void test_waiters(void)
{
    struct gc *c = xcalloc(2, sizeof(*c));
    struct gc_call *k;

    gc_open(&c[0], port, WINDOW);
    gc_open(&c[1], port, WINDOW);
    for (int i = 0; i < RPC_WAITING_MAX; i++)
        ask_lock(&c[i > 1100], "/v3lockpb.Lock/Lock");
    for (int i = 0;
         i < WAIT_MS &&
         __atomic_load_n(&fake.n_waits, __ATOMIC_ACQUIRE) < RPC_WAITING_MAX;
         i++)
        sys_sleep_ms(1);
    k = ask_lock(&c[1], "/v3lockpb.Lock/Lock");
    CHECK(gc_wait(&c[1], k, SIZE_MAX, WAIT_MS));
    CHECK_STR(buf_z(&k->text), "etcdserver: too many requests");
    k = ask_lock(&c[0], "/v3lockpb.Lock/Unlock");
    CHECK(gc_wait(&c[0], k, SIZE_MAX, WAIT_MS));
    CHECK_STR(buf_z(&k->text), "served");
    gc_close(&c[0]);
    gc_close(&c[1]);
    free(c);
}

static void test_learner(void)
{
    struct rpcpb_range_request q = {.key = STR("a")};
    struct gc_call *k;
    struct gc c;

    __atomic_store_n(&fake.learner, true, __ATOMIC_RELEASE);
    gc_open(&c, port, WINDOW);
    CHECK(!put_wait(&c, "a", STR("x")));
    k = gc_call(&c, WATCH, NULL);
    CHECK(gc_wait(&c, k, SIZE_MAX, WAIT_MS) && k->status == GRPC_UNAVAILABLE);
    k = ask(&c, RANGE, &rpcpb_range_request_desc, &q);
    CHECK(gc_wait(&c, k, SIZE_MAX, WAIT_MS) && k->status == GRPC_UNAVAILABLE);
    CHECK_STR(buf_z(&k->text), "etcdserver: rpc not supported for learner");
    q.serializable = true;
    k = ask(&c, RANGE, &rpcpb_range_request_desc, &q);
    CHECK(gc_wait(&c, k, SIZE_MAX, WAIT_MS) && k->status == GRPC_OK);
    __atomic_store_n(&fake.learner, false, __ATOMIC_RELEASE);
    gc_close(&c);
}

/* --- Errors on the wire: what a client sees of RFC 9113's. ---------------------- */

#define GET_ "828684"

/* Frames as text, until the connection is closed or a PING answered. */
static const char *heard(int fd, struct buf *text)
{
    struct buf in = {0};
    bool over = false;

    while (!over) {
        const uint8_t *p = in.data;
        size_t n = in.len < 9 ? 0 : (size_t)p[0] << 16 | p[1] << 8 | p[2];
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        ssize_t got = 1;

        if (in.len < 9 + n || in.len < 9) {
            buf_reserve(&in, 4096);
            if (poll(&wait, 1, WAIT_MS) > 0)
                got = recv(fd, in.data + in.len, 4096, 0);
            in.len += got > 0 ? (size_t)got : 0;
            over = got <= 0;
            continue;
        }
        over = p[3] == F_PING && p[4] == ACK;
        if (over)
            buf_adds(text, "PING");
        if (p[3] == F_HEADERS || p[3] == F_DATA)
            buf_printf(text, "%s %u%s ", p[3] == F_DATA ? "DATA" : "HEADERS",
                       p[8], p[4] & END_STREAM ? " end" : "");
        if (p[3] == F_RST_STREAM)
            buf_printf(text, "RST %u %s ", p[8], h2_code_name(p[12]));
        if (p[3] == F_GOAWAY)
            buf_printf(text, "GOAWAY %s", h2_code_name(p[16]));
        buf_consume(&in, 9 + n);
    }
    buf_release(&in);
    return buf_z(text);
}

/* Each with a PING behind it. The connection of an error is closed. */
static void test_wire(void)
{
    static const struct {
        const char *section, *frames, *heard;
    } rows[] = {
        {"5.5 unknown frame", "0000017700000000007f", "PING"},
        {"4.2 too large", "004001000000000001", "GOAWAY FRAME_SIZE_ERROR"},
        {"4.3 block", "000001010500000001ff", "GOAWAY COMPRESSION_ERROR"},
        {"5.1 DATA while idle", "00000100010000000161",
         "GOAWAY PROTOCOL_ERROR"},
        {"5.1 DATA after both ends",
         "000003010500000001" GET_ "00000100010000000161",
         "HEADERS 1 end GOAWAY STREAM_CLOSED"},
        {"5.1.1 even id", "000003010500000002" GET_, "GOAWAY PROTOCOL_ERROR"},
        {"5.3.1 on itself", "0000080125000000010000000110" GET_,
         "RST 1 PROTOCOL_ERROR PING"},
        {"6.5 with a stream", "000000040000000001", "GOAWAY PROTOCOL_ERROR"},
        {"6.7 length",
         "000007060000000000"
         "00000000000000",
         "GOAWAY FRAME_SIZE_ERROR"},
        {"6.9.1 connection",
         "000004080000000000"
         "7fffffff",
         "GOAWAY FLOW_CONTROL_ERROR"},
        {"6.3 length when closed",
         "000003010500000001" GET_ "00000402000000000100000000",
         "HEADERS 1 end RST 1 FRAME_SIZE_ERROR PING"},
        {"8.1 a call that ends with its head",
         "00002b0105000000018386"
         "04142f6574636473657276657270622e4b562f507574" /* PUT */
         "0f10106170706c69636174696f6e2f67727063",      /* content-type */
         "HEADERS 1 end PING"},
        {"8.1 no call, a head alone", "000003010500000001" GET_,
         "HEADERS 1 end PING"},
        {"8.1 no call, with a body",
         "000003010400000001838684"
         "00000100000000000161"
         "00000100010000000161",
         "HEADERS 1 DATA 1 end PING"},
        {"8.1 no call, with trailers",
         "000003010400000001838684"
         "000005010500000001"
         "0001610162",
         "HEADERS 1 DATA 1 end PING"},
        {"8.1 no call, twice",
         "000003010400000001838684"
         "000003010400000003838684",
         "HEADERS 1 HEADERS 3 DATA 1 end RST 1 NO_ERROR PING"},
        {"8.1.1 no call, content-length",
         "000007010400000001838684"
         "0f0d0131"
         "0000020001000000016161",
         "HEADERS 1 RST 1 PROTOCOL_ERROR PING"},
        {"8.3.1 no path", "0000020105000000018286",
         "RST 1 PROTOCOL_ERROR PING"},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char *hex = xasprintf("000000040000000000%s000008060000000000"
                              "0000000000000000",
                              rows[i].frames);
        struct buf frames = unhex(hex), text = {0};
        struct gc c;

        gc_open(&c, port, WINDOW);
        CHECK(send(c.fd, H2_PREFACE, H2_PREFACE_LEN, 0) > 0);
        CHECK(send(c.fd, frames.data, frames.len, 0) > 0);
        CHECK_STR(heard(c.fd, &text), rows[i].heard);
        if (strcmp(buf_z(&text), rows[i].heard) != 0)
            fprintf(stderr, "in \"%s\"\n", rows[i].section);
        gc_close(&c);
        buf_release(&frames);
        buf_release(&text);
        free(hex);
    }
}

/* --- The door. -------------------------------------------------------------------------- */

static void test_shutdown(void)
{
    unsigned n = __atomic_load_n(&fake.n_waits, __ATOMIC_ACQUIRE);
    struct gc_call *watch, *lock, *plain;
    struct gc c;

    gc_open(&c, port, WINDOW);
    watch = gc_call(&c, WATCH, NULL);
    watch_send(&c, watch, "w", 0);
    watch_next(&c, watch);
    plain = gc_call(&c, "/", "content-type: text/plain"); /* and no end */
    lock = ask_lock(&c, "/v3lockpb.Lock/Lock");
    while (__atomic_load_n(&fake.n_waits, __ATOMIC_ACQUIRE) == n)
        gc_run(&c, 1);
    grpcserver_shutdown(door);
    CHECK(gc_wait(&c, watch, SIZE_MAX, WAIT_MS));
    CHECK(gc_wait(&c, lock, SIZE_MAX, WAIT_MS));
    CHECK(watch->status == GRPC_UNAVAILABLE && lock->status == watch->status);
    CHECK_STR(buf_z(&watch->text), "etcdserver: server stopped");
    CHECK_STR(buf_z(&lock->text), "etcdserver: server stopped");
    gc_run(&c, WAIT_MS);
    CHECK(c.goaway && c.closed && plain->http == 415);
    gc_close(&c);
}

int main(void)
{
    start();
    test_put_and_range();
    test_txn();
    test_refusals();
    test_slow_writes();
    test_deadline();
    test_large_ranges();
    test_large_and_slow();
    test_not_read();
    test_range_stream();
    test_watch();
    test_watch_from_now();
    test_watch_alike();
    test_slow_watcher();
    test_leader_lost();
    test_learner();
    test_hang_ups();
    test_waiters();
    test_wire();
    test_shutdown();
    stop();
    arena_release(&watch_arena);
    return check_done("grpcserver_test");
}
