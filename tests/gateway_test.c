/*
 * gateway_test.c - the JSON gateway over real connections, on a server without
 * log (fakev3.h). What etcd answers to all kinds of requests is recorded
 * elsewhere; here are the ways through the door.
 */
#include "check.h"
#include "fakev3.h"
#include "gateway.h"
#include "http.h"
#include "rpc.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define WAIT_MS 30000
#define STALL_MS 1000

static struct server fake;
static struct http_server *http;
static struct net_listener listener;
static uint16_t port;

static void handle(struct http_exchange *x, void *arg)
{
    if (!gateway_handle(arg, x))
        http_error(x, 404, "not the gateway's");
}

static void start(void)
{
    struct http_server_options o = {
        .handler = handle, .arg = &fake, .stall_ms = STALL_MS};

    fakev3_init(&fake);
    port = fakev3_listen(&o, &listener, &http);
}

/* --- A client of HTTP/1. --------------------------------------------------------- */

static int dial(void)
{
    struct sockaddr_in sa = {.sin_family = AF_INET,
                             .sin_port = htons(port),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
        abort();
    return fd;
}

static void ask(int fd, const char *path, const char *headers, const char *body)
{
    struct buf b = {0};

    buf_printf(&b,
               "POST %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %zu\r\n\r\n%s",
               path, headers, strlen(body), body);
    if (send(fd, b.data, b.len, MSG_NOSIGNAL) != (ssize_t)b.len)
        abort();
    buf_release(&b);
}

/* Read on until text is there; false: the end, or time is up. */
static bool read_until(int fd, struct buf *b, const char *text)
{
    int64_t until = sys_mono_ns() + WAIT_MS * NS_PER_MS;

    while (b->len == 0 || !memmem(b->data, b->len, text, strlen(text))) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ssize_t got;

        if (sys_mono_ns() > until || poll(&p, 1, WAIT_MS) <= 0)
            return false;
        buf_reserve(b, 65536);
        got = recv(fd, b->data + b->len, 65536, 0);
        if (got <= 0)
            return false;
        b->len += (size_t)got;
    }
    return true;
}

/* One request on a connection of its own: all that comes back. */
static struct buf talk(const char *path, const char *headers, const char *body)
{
    struct buf b = {0}, all = {0};
    int fd = dial();

    buf_printf(&all, "Connection: close\r\n%s", headers);
    ask(fd, path, buf_z(&all), body);
    read_until(fd, &b, "\1 never");
    buf_release(&all);
    close(fd);
    return b;
}

static void check_has(struct buf *b, const char *text)
{
    if (!strstr(buf_z(b), text))
        CHECK_STR(buf_z(b), text);
    else
        check_passed++;
}

/* --- Unary calls. --------------------------------------------------------------------- */

static void test_unary(void)
{
    static const struct {
        const char *path, *headers, *body, *status, *has;
    } rows[] = {
        {"/v3/kv/put", "", "{\"key\":\"YQ==\",\"value\":\"MQ==\"}", "200 OK",
         "{\"header\":{\"cluster_id\":\"12\",\"member_id\":\"11\",\"revision\":"
         "\"2\",\"raft_term\":\"2\"}}"},
        {"/v3beta/kv/range", "", "{\"key\":\"YQ==\"}", "200 OK",
         "\"kvs\":[{\"key\":\"YQ==\",\"create_revision\":\"2\",\"mod_"
         "revision\":"
         "\"2\",\"version\":\"1\",\"value\":\"MQ==\"}],\"count\":\"1\"}"},
        {"/v3/kv/range", "", "{\"key\":\"YQ==\"}", "200 OK",
         "Content-Length: "},
        {"/v3/kv/put", "", "{", "400 Bad Request",
         "{\"error\":\"unexpected EOF\",\"message\":\"unexpected EOF\","
         "\"code\":3}"},
        {"/v3/kv/put", "", "", "400 Bad Request",
         "{\"error\":\"etcdserver: key is not provided\",\"message\":"
         "\"etcdserver: key is not provided\",\"code\":3}"},
        {"/v3/kv/put", "Grpc-Metadata-Token: bad\r\n", "{\"key\":\"YQ==\"}",
         "401 Unauthorized", "\"code\":16}"},
        {"/v3/kv/put", "Authorization: bad\r\n", "{\"key\":\"YQ==\"}",
         "401 Unauthorized", "etcdserver: invalid auth token"},
        {"/v3/kv/put", "Grpc-Metadata-Authorization: bad\r\n",
         "{\"key\":\"YQ==\"}", "401 Unauthorized",
         "etcdserver: invalid auth token"},
        {"/v3/kv/put", "Authorization:\r\n", "{\"key\":\"YQ==\"}",
         "401 Unauthorized", "etcdserver: invalid auth token"},
        {"/v3/kv/put", "Grpc-Metadata-Token: \r\nAuthorization: good\r\n",
         "{\"key\":\"YQ==\"}", "401 Unauthorized",
         "etcdserver: invalid auth token"},
        {"/v3/kv/range",
         "Authorization:\r\nGrpc-Metadata-Authorization: good\r\n",
         "{\"key\":\"YQ==\"}", "200 OK", "\"count\":\"1\"}"},
        {"/v3/kv/put", "Authorization: bad\r\n", "{}", "400 Bad Request",
         "etcdserver: key is not provided"},
        {"/v3/kv/deleterange", "Authorization: bad\r\n", "{}",
         "400 Bad Request", "etcdserver: key is not provided"},
        {"/v3/kv/range", "Authorization: bad\r\n", "{}", "400 Bad Request",
         "etcdserver: key is not provided"},
        {"/v3/kv/txn", "Authorization: bad\r\n", "{\"success\":[{}]}",
         "400 Bad Request", "etcdserver: key not found"},
        {"/v3/kv/txn", "Authorization: bad\r\n", "{}", "401 Unauthorized",
         "etcdserver: invalid auth token"},
        {"/v3/kv/put", "Grpc-Timeout: xx\r\n", "{}", "400 Bad Request",
         "invalid grpc-timeout: xx"},
        {"/v3/kv/put", "Grpc-Timeout: S\r\n", "{}", "400 Bad Request",
         "invalid grpc-timeout: S"},
        {"/v3/kv/range", "Grpc-Timeout: 100000000S\r\n", "{\"key\":\"YQ==\"}",
         "200 OK", "\"count\":\"1\"}"},
        {"/v3/kv/range", "Grpc-Timeout: 0S\r\n", "{\"key\":\"YQ==\"}", "200 OK",
         "\"count\":\"1\"}"},
        {"/v3/kv/range", "Grpc-Timeout: -1S\r\n", "{\"key\":\"YQ==\"}",
         "504 Gateway Timeout", "context deadline exceeded"},
        {"/v3/kv/range", "Grpc-Timeout: 1n\r\n", "{\"key\":\"YQ==\"}",
         "504 Gateway Timeout", "context deadline exceeded"},
        {"/v3/auth/user/list", "", "{}", "403 Forbidden",
         "etcdserver: permission denied"},
        {"/v3/kv/nothing", "", "{}", "404 Not Found", "Not Found\n"},
        {"/v3", "", "{}", "301 Moved Permanently", "Location: /v3/\r\n"},
        {"/v3beta", "", "{}", "404 Not Found", "not the gateway's\n"},
        {"/v2/keys", "", "{}", "404 Not Found", "not the gateway's\n"},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf b = talk(rows[i].path, rows[i].headers, rows[i].body);

        check_has(&b, rows[i].status);
        check_has(&b, rows[i].has);
        buf_release(&b);
    }
}

/* The answer comes from another thread; the next request on the connection may
 * be there already. */
static void test_deferred(void)
{
    const char *put = "{\"key\":\"ZA==\"}";
    struct buf b = {0};
    int fd = dial();

    fake.slowly = true;
    ask(fd, "/v3/kv/put", "", put);
    ask(fd, "/v3/kv/range", "", put);
    CHECK(read_until(fd, &b, "\"count\":\"1\"}"));
    check_has(&b, "\"revision\":\"3\"");
    buf_release(&b);
    close(fd);

    fd = dial(); /* who hangs up meanwhile does no harm */
    ask(fd, "/v3/kv/put", "", put);
    close(fd);
    b = talk("/v3/kv/put", "Grpc-Timeout: 1m\r\n", put);
    check_has(&b, "504 Gateway Timeout");
    check_has(&b, "\"context deadline exceeded\",\"code\":4}");
    buf_release(&b);
    b = talk("/v3/kv/put", "Grpc-Timeout: 10S\r\n", put);
    check_has(&b, "200 OK");
    buf_release(&b);
    sys_sleep_ms(50); /* for what is under way */
    fake.slowly = false;
}

#define LARGE_KEYS 3000

static void fill_large(void)
{
    char value[1000], key[20];
    struct mvcc_put_result unused;

    memset(value, 'v', sizeof(value));
    pthread_mutex_lock(&fake.mu);
    for (int i = 0; i < LARGE_KEYS; i++) {
        struct mvcc_put p = {.value = {value, sizeof(value)}};

        snprintf(key, sizeof(key), "large%05d", i);
        p.key = str_of(key);
        mvcc_put(fake.v3->mvcc, &p, NULL, &unused);
    }
    watch_notify(fake.v3->watch);
    pthread_mutex_unlock(&fake.mu);
}

static size_t count(struct buf *b, const char *text)
{
    const char *at = buf_z(b);
    size_t n = 0;

    for (; (at = strstr(at, text)) != NULL; at++)
        n++;
    return n;
}

/* Made at the client's pace: references, and in steps. "large" to "largf". */
static void test_large(void)
{
    struct buf b = talk("/v3/kv/range", "",
                        "{\"key\":\"bGFyZ2U=\",\"range_end\":\"bGFyZ2Y=\","
                        "\"limit\":900}");

    CHECK(count(&b, "\"version\":\"1\"") == 900);
    check_has(&b, "\"}],\"more\":true,\"count\":\"3000\"}");
    buf_release(&b);
    b = talk("/v3/kv/range", "",
             "{\"key\":\"bGFyZ2U=\",\"range_end\":\"bGFyZ2Y=\"}");
    CHECK(count(&b, "\"version\":\"1\"") == LARGE_KEYS);
    check_has(&b, "\"}],\"count\":\"3000\"}");
    CHECK(strcmp(buf_z(&b) + b.len - 7, "\r\n0\r\n\r\n") == 0);
    buf_release(&b);
}

/* --- Streams. ------------------------------------------------------------------------------ */

static size_t n_watchers(void)
{
    size_t n;

    pthread_mutex_lock(&fake.mu);
    n = watch_stats(fake.v3->watch).n_streams;
    pthread_mutex_unlock(&fake.mu);
    return n;
}

static bool await_watchers(size_t n)
{
    int64_t until = sys_mono_ns() + WAIT_MS * NS_PER_MS;

    while (n_watchers() != n && sys_mono_ns() < until)
        sys_sleep_ms(1);
    return n_watchers() == n;
}

static void put(const char *key)
{
    struct buf body = {0}, b;

    buf_printf(&body, "{\"key\":\"%s\"}", key);
    b = talk("/v3/kv/put", "", buf_z(&body));
    check_has(&b, "200 OK");
    buf_release(&b);
    buf_release(&body);
}

static void test_watch(void)
{
    struct buf b = {0};
    int fd = dial();

    ask(fd, "/v3/watch", "",
        "{\"create_request\":{\"key\":\"dzE=\"}} "
        "{\"createRequest\":{\"key\":\"dzI=\"}}");
    CHECK(read_until(fd, &b, "\"watch_id\":\"1\",\"created\":true}}\n"));
    check_has(&b, "Transfer-Encoding: chunked\r\n");
    check_has(&b, "{\"result\":{\"header\":{");
    put("dzE=");
    CHECK(read_until(fd, &b, "\"events\":[{\"kv\":{\"key\":\"dzE=\""));
    put("dzI=");
    CHECK(read_until(fd, &b,
                     "\"watch_id\":\"1\",\"events\":[{\"kv\":{\"key\":"
                     "\"dzI=\""));
    CHECK(n_watchers() == 1);
    close(fd);
    CHECK(await_watchers(0)); /* the hang-up is noticed */
    buf_release(&b);
}

/* Small changes of the past come by the thousand. "many" to "manz". */
static void test_watch_history(void)
{
    static const char created[] = "\"created\":true}}\n";
    static const char event[] = "{\"kv\":{\"key\":";
    enum { MANY = 1200, AT_ONCE = 1000 };
    struct buf b = {0}, body = {0};
    struct mvcc_put_result unused;
    char key[20], *first, *second;
    int fd = dial();

    pthread_mutex_lock(&fake.mu);
    buf_printf(&body,
               "{\"create_request\":{\"key\":\"bWFueQ==\",\"range_end\":"
               "\"bWFueg==\",\"start_revision\":%d}}",
               (int)mvcc_revision(fake.v3->mvcc) + 1);
    for (int i = 0; i < MANY; i++) {
        snprintf(key, sizeof(key), "many%04d", i);
        mvcc_put(fake.v3->mvcc, &(struct mvcc_put){.key = str_of(key)}, NULL,
                 &unused);
    }
    watch_notify(fake.v3->watch);
    pthread_mutex_unlock(&fake.mu);
    ask(fd, "/v3/watch", "", buf_z(&body));
    CHECK(read_until(fd, &b, "\"bWFueTExOTk=\"")); /* the last */
    CHECK(read_until(fd, &b, "]}}\n"));
    first = strstr(buf_z(&b), created);
    second = first ? strstr(first + sizeof(created), "\"events\"") : NULL;
    second = second ? strstr(second, "]}}\n") : NULL;
    if (second) {
        struct buf rest = {0};

        buf_adds(&rest, second);
        CHECK(count(&rest, event) == MANY - AT_ONCE);
        CHECK(count(&rest, "\"events\"") == 1);
        buf_release(&rest);
    }
    CHECK(second && count(&b, event) == MANY);
    close(fd);
    CHECK(await_watchers(0));
    buf_release(&b);
    buf_release(&body);
}

static void test_watch_ends(void)
{
    struct buf b = talk("/v3/watch", "", "nonsense");

    check_has(&b, "500 Internal Server Error");
    check_has(&b, "\"code\":2}");
    buf_release(&b);
    b = talk("/v3/watch", "Grpc-Timeout: 50m\r\n", "{}");
    check_has(&b, "504 Gateway Timeout");
    buf_release(&b);
    b = talk("/v3/watch", "Grpc-Timeout: 50m\r\n",
             "{\"create_request\":{\"key\":\"dzE=\"}}nonsense");
    check_has(&b, "\"created\":true}}\n");
    check_has(&b, "{\"error\":{\"grpc_code\":4,\"http_code\":504,\"message\":"
                  "\"context deadline exceeded\",\"http_status\":"
                  "\"Gateway Timeout\"}}");
    buf_release(&b);
    CHECK(await_watchers(0));
}

/* A stream that is refused ends as others do, with nothing before. */
static void test_stream_refused(void)
{
    struct buf b;

    __atomic_store_n(&fake.leaderless, true, __ATOMIC_RELEASE);
    b = talk("/v3/watch", "Grpc-Metadata-Hasleader: true\r\n", "{}");
    check_has(&b, "503 Service Unavailable");
    check_has(&b, "\r\n\r\n{\"error\":{\"grpc_code\":14,\"http_code\":503,"
                  "\"message\":\"etcdserver: no leader\",\"http_status\":"
                  "\"Service Unavailable\"}}");
    buf_release(&b);
    b = talk("/v3/kv/range", "Grpc-Metadata-Hasleader: true\r\n", "{}");
    check_has(&b, "{\"error\":\"etcdserver: no leader\"");
    buf_release(&b);
    __atomic_store_n(&fake.leaderless, false, __ATOMIC_RELEASE);
}

/* Or it is lost, while the stream runs: one that has begun, and one that was told
 * nothing yet. Who did not ask for a leader hears nothing of it. */
static void test_leader_lost(void)
{
    static const char no_leader[] =
        "{\"error\":{\"grpc_code\":14,\"http_code\":503,\"message\":"
        "\"etcdserver: no leader\",\"http_status\":\"Service Unavailable\"}}";
    static const char watch[] = "{\"create_request\":{\"key\":\"dzE=\"}}";
    struct buf b = {0}, silent = {0}, other = {0};
    int begun = dial(), empty = dial(), without = dial();

    ask(begun, "/v3/watch", "Grpc-Metadata-Hasleader: true\r\n", watch);
    ask(empty, "/v3/watch", "Grpc-Metadata-Hasleader: true\r\n", "{}");
    ask(without, "/v3/watch", "", watch);
    CHECK(read_until(begun, &b, "\"created\":true}}\n"));
    CHECK(read_until(without, &other, "\"created\":true}}\n"));
    CHECK(await_watchers(3));
    __atomic_store_n(&fake.leaderless, true, __ATOMIC_RELEASE);
    CHECK(read_until(begun, &b, no_leader));
    CHECK(read_until(begun, &b, "\r\n0\r\n\r\n"));
    CHECK(read_until(empty, &silent, no_leader));
    check_has(&silent, "503 Service Unavailable");
    CHECK(await_watchers(1));
    __atomic_store_n(&fake.leaderless, false, __ATOMIC_RELEASE);
    put("dzE=");
    CHECK(read_until(without, &other, "\"events\":[{\"kv\":{"));
    close(begun);
    close(empty);
    close(without);
    CHECK(await_watchers(0));
    buf_release(&b);
    buf_release(&silent);
    buf_release(&other);
}

/* The client's side ends with its body, or with what is no message in it. */
static void test_client_stream(void)
{
    static const char *const bodies[] = {"{\"ID\":\"7\"}{\"ID\":8}",
                                         "{\"ID\":\"7\"} {\"ID\":8} nonsense",
                                         "{\"ID\":\"7\"}\n{\"ID\":8}\n{\"ID\""};

    for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
        struct buf b = talk("/v3/lease/keepalive", "", bodies[i]);

        check_has(&b,
                  "{\"result\":{\"ID\":\"7\"}}\n{\"result\":{\"ID\":\"8\"}}\n");
        check_has(&b, "\r\n0\r\n\r\n");
        buf_release(&b);
    }
}

static bool reaches(const unsigned *what, unsigned n)
{
    for (int i = 0; i < WAIT_MS && __atomic_load_n(what, __ATOMIC_ACQUIRE) < n;
         i++)
        sys_sleep_ms(1);
    return __atomic_load_n(what, __ATOMIC_ACQUIRE) == n;
}

/* Who waits for a lock does so no longer than its client. */
static void test_wait_ends(void)
{
    int fd = dial();

    ask(fd, "/v3/lock/lock", "", "{}");
    CHECK(reaches(&fake.n_waits, 1));
    close(fd);
    CHECK(reaches(&fake.n_gone, 1));
}

/* --- WebSockets. -------------------------------------------------------------------------- */

#define SWITCHED                                                               \
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"               \
    "Connection: Upgrade\r\n"                                                  \
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"

static void upgrade(int fd, const char *method, const char *path,
                    const char *headers)
{
    struct buf b = {0};

    buf_printf(&b,
               "%s %s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
               "Connection: Upgrade\r\n"
               "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n",
               method, path, headers);
    if (send(fd, b.data, b.len, MSG_NOSIGNAL) != (ssize_t)b.len)
        abort();
    buf_release(&b);
}

/* A connection behind its handshake. */
static int dial_socket(const char *path)
{
    struct buf b = {0};
    int fd = dial();

    upgrade(fd, "GET", path, "Sec-WebSocket-Version: 13\r\n");
    CHECK(read_until(fd, &b, "\r\n\r\n"));
    CHECK_STR(buf_z(&b), SWITCHED "\r\n");
    buf_release(&b);
    return fd;
}

static void add_frame(struct buf *b, int first, const char *text)
{
    size_t n = strlen(text);

    buf_addc(b, (char)first);
    buf_addc(b, (char)(0x80 | n));
    buf_add(b, "\0\0\0\0", 4); /* a mask that changes nothing */
    buf_add(b, text, n);
}

static void say(int fd, int first, const char *text)
{
    struct buf b = {0};

    add_frame(&b, first, text);
    if (send(fd, b.data, b.len, MSG_NOSIGNAL) != (ssize_t)b.len)
        abort();
    buf_release(&b);
}

static bool hears(int fd, const char *text)
{
    struct buf b = {0};
    bool heard = read_until(fd, &b, text);

    buf_release(&b);
    return heard;
}

/* The end of the stream, and nothing before it. */
static bool is_at_end(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char c;

    return poll(&p, 1, WAIT_MS) == 1 && recv(fd, &c, 1, 0) == 0;
}

#define CLOSE_1000 "\x88\x02\x03\xe8"

static void test_handshake(void)
{
    static const struct {
        const char *method, *headers, *status;
    } rows[] = {
        {"POST", "Sec-WebSocket-Version: 13\r\n", "405 Method Not Allowed"},
        {"GET", "", "400 Bad Request"},
        {"GET", "Sec-WebSocket-Version: 8\r\n", "400 Bad Request"},
        {"GET", "Sec-WebSocket-Version: 13\r\nContent-Length: 2\r\n",
         "400 Bad Request"},
    };
    int fd;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf b = {0};

        fd = dial();
        upgrade(fd, rows[i].method, "/v3/watch", rows[i].headers);
        CHECK(read_until(fd, &b, "\r\n\r\n"));
        check_has(&b, rows[i].status);
        check_has(&b, "Sec-WebSocket-Version: 13\r\n");
        close(fd);
        buf_release(&b);
    }
    fd = dial(); /* more than a client may send before it is answered */
    upgrade(fd, "GET", "/v3/watch",
            "Sec-WebSocket-Version: 13\r\n\r\n\x81\x80");
    CHECK(hears(fd, "400 Bad Request"));
    close(fd);
    fd = dial();
    upgrade(fd, "GET", "/v3/nothing", "Sec-WebSocket-Version: 13\r\n");
    CHECK(hears(fd, "\x81\x09Not Found" CLOSE_1000));
    CHECK(is_at_end(fd));
    close(fd);
}

static void test_socket_unary(void)
{
    int fd = dial_socket("/v3/kv/put");
    struct buf b = {0};

    say(fd, 0x81, " ");
    say(fd, 0x81, "{\"key\":");
    say(fd, 0x81, "\"czE=\"} what follows is ignored");
    CHECK(read_until(fd, &b, "\"raft_term\":\"2\"}}" CLOSE_1000));
    CHECK(b.len > 4 && memcmp(b.data, "\x81", 1) == 0);
    CHECK(is_at_end(fd));
    close(fd);
    fd = dial_socket("/v3/kv/put");
    say(fd, 0x82, "{\"key\":nonsense");
    CHECK(hears(fd, "\"code\":3}" CLOSE_1000));
    close(fd);
    fd = dial_socket("/v3/kv/range");
    say(fd, 0x81, "{\"key\":\"bGFyZ2U=\",\"range_end\":\"bGFyZ2Y=\"}");
    buf_clear(&b);
    CHECK(read_until(fd, &b, "\"count\":\"3000\"}" CLOSE_1000));
    CHECK(memcmp(b.data, "\x01\x7e\x80", 3) == 0); /* 32 KB, to be continued */
    close(fd);
    buf_release(&b);
}

static void test_socket_token(void)
{
    int fd = dial();

    upgrade(fd, "GET", "/v3/kv/put",
            "Sec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Protocol: Bearer, bad\r\n");
    CHECK(hears(fd, SWITCHED "Sec-WebSocket-Protocol: Bearer\r\n\r\n"));
    say(fd, 0x81, "{\"key\":\"czE=\"}");
    CHECK(hears(fd, "etcdserver: invalid auth token"));
    close(fd);
}

/* However a client's messages hold its requests. */
static void test_socket_stream(void)
{
    int fd = dial_socket("/v3/lease/keepalive");

    say(fd, 0x81, "{\"ID\":1}");
    CHECK(hears(fd, "\x81\x15{\"result\":{\"ID\":\"1\"}}"));
    say(fd, 0x82, "{\"ID\":2}{\"ID\":3} {");
    CHECK(hears(fd, "\"2\"}}\x81\x15{\"result\":{\"ID\":\"3\"}}"));
    say(fd, 0x81, "");
    say(fd, 0x01, "\"ID\"");
    say(fd, 0x00, "");
    say(fd, 0x89, "ping");
    CHECK(hears(fd, "\x8a\x04ping"));
    say(fd, 0x8a, "pong");
    say(fd, 0x80, ":4}");
    CHECK(hears(fd, "{\"result\":{\"ID\":\"4\"}}"));
    say(fd, 0x81, "{\"x\":");
    say(fd, 0x81, "\"\\\"\",\"ID\":5}");
    CHECK(hears(fd, "{\"result\":{\"ID\":\"5\"}}"));
    say(fd, 0x88,
        "\x0f\xa0"
        "bye");
    CHECK(hears(fd, "\x88\x02\x0f\xa0"));
    CHECK(is_at_end(fd));
    close(fd);
    fd = dial_socket("/v3/lease/keepalive");
    say(fd, 0x81, "{\"ID\":1}");
    say(fd, 0x81, "{nonsense");
    CHECK(hears(fd, "{\"result\":{\"ID\":\"1\"}}" CLOSE_1000));
    close(fd);
    fd = dial_socket("/v3/lease/keepalive");
    say(fd, 0x81, "nonsense");
    CHECK(hears(fd, "\"code\":2}" CLOSE_1000));
    close(fd);
}

#define PARTS 100000

/* A request in very many messages costs what its bytes cost, not their square. */
static void test_socket_parts(void)
{
    int fd = dial_socket("/v3/lease/keepalive");
    struct buf b = {0};

    add_frame(&b, 0x81, "{\"x\":[\"\\\"]}\"");
    for (int i = 0; i < PARTS; i++)
        add_frame(&b, 0x81, ",1");
    add_frame(&b, 0x81, "],\"ID\":\"7\"}");
    CHECK(send(fd, b.data, b.len, MSG_NOSIGNAL) == (ssize_t)b.len);
    CHECK(hears(fd, "{\"result\":{\"ID\":\"7\"}}"));
    buf_release(&b);
    close(fd);
}

static void test_socket_watch(void)
{
    int fd = dial_socket("/v3/watch");
    struct buf b = {0};

    say(fd, 0x81, "{\"create_request\":{\"key\":\"dzE=\"}}");
    CHECK(hears(fd, "\"created\":true}}"));
    say(fd, 0x81, "{\"create_request\":{\"key\":\"dzI=\"}}");
    CHECK(hears(fd, "\"watch_id\":\"1\",\"created\":true}}"));
    say(fd, 0x81, "{\"create_request\":{\"key\":\"dzI=\"}}");
    CHECK(hears(fd, "\"watch_id\":\"2\",\"created\":true}}"));
    put("dzI=");
    CHECK(read_until(fd, &b, "\"watch_id\":\"1\",\"events\":[{\"kv\":{") &&
          read_until(fd, &b, "\"watch_id\":\"2\",\"events\":[{\"kv\":{"));
    buf_release(&b);
    CHECK(n_watchers() == 1);
    close(fd);
    CHECK(await_watchers(0));
}

static void test_socket_refused(void)
{
    static const struct {
        const char *frame;
        size_t n;
        const char *close;
    } rows[] = {
        {"\x81\x02{}", 4, "\x03\xea"}, /* 1002: no mask */
        {"\x83\x80\0\0\0\0", 6, "\x03\xea"},
        {"\x81\xff\x80\0\0\0\0\0\0\0\0\0\0\0", 14, "\x03\xea"},
        {"\x81\x81\0\0\0\0\xff", 7, "\x03\xef"},                /* 1007 */
        {"\x82\xff\0\0\0\0\x01\0\0\0\0\0\0\0", 14, "\x03\xf1"}, /* 1009 */
        {"\x82\x81\0\0\0\0{", 7, "\x03\xf0"}, /* 1008: and no more */
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int fd = dial_socket("/v3/lease/keepalive");

        CHECK(send(fd, rows[i].frame, rows[i].n, MSG_NOSIGNAL) ==
              (ssize_t)rows[i].n);
        CHECK(hears(fd, rows[i].close));
        close(fd);
    }
}

/* Requests that are not complete count together, too. */
static void test_socket_limit(void)
{
    static const char blank[] = "{                                        ";
    int fd = dial_socket("/v3/kv/put");
    struct buf b = {0};

    for (int i = 0; i < 30000; i++)
        add_frame(&b, 0x81, blank);
    for (int i = 0; i < 5 && send(fd, b.data, b.len, MSG_NOSIGNAL) > 0; i++)
        ;
    CHECK(hears(fd, "\x03\xf1"));
    buf_release(&b);
    close(fd);
}

/* Who waits is asked whether he is still there, and may leave. */
static void test_socket_wait(void)
{
    int fd = dial_socket("/v3/lock/lock");

    say(fd, 0x81, "{}");
    CHECK(reaches(&fake.n_waits, 2));
    say(fd, 0x89, "?");
    CHECK(hears(fd, "\x8a\x01?"));
    say(fd, 0x88, "");
    CHECK(reaches(&fake.n_gone, 2));
    CHECK(hears(fd, "\x88"));
    CHECK(is_at_end(fd));
    close(fd);
}

/* --- The end. ------------------------------------------------------------------------------ */

#define CLOSE_1001                                                             \
    "\x88\x1c\x03\xe9"                                                         \
    "etcdserver: server stopped"

static void test_stop(void)
{
    struct buf b = {0}, locked = {0};
    int fd = dial(), waiter = dial();
    int idle = dial_socket("/v3/kv/put"), watch = dial_socket("/v3/watch");

    say(watch, 0x81, "{\"create_request\":{\"key\":\"dzE=\"}}");
    CHECK(hears(watch, "\"created\":true}}"));
    ask(waiter, "/v3/lock/lock", "", "{}");
    CHECK(reaches(&fake.n_waits, 3));
    ask(fd, "/v3/watch", "", "{\"create_request\":{\"key\":\"dzE=\"}}");
    CHECK(read_until(fd, &b, "\"created\":true}}\n"));
    gateway_stop();
    CHECK(read_until(fd, &b, "etcdserver: server stopped"));
    CHECK(read_until(waiter, &locked, "etcdserver: server stopped"));
    CHECK(hears(idle, CLOSE_1001));
    CHECK(hears(watch, "\"Service Unavailable\"}}" CLOSE_1001));
    close(idle);
    close(watch);
    http_server_stop(http, WAIT_MS);
    CHECK(n_watchers() == 0);
    close(fd);
    close(waiter);
    buf_release(&b);
    buf_release(&locked);
}

int main(void)
{
    start();
    test_unary();
    test_deferred();
    fill_large();
    test_large();
    test_watch();
    test_watch_history();
    test_watch_ends();
    test_stream_refused();
    test_leader_lost();
    test_client_stream();
    test_wait_ends();
    test_handshake();
    test_socket_unary();
    test_socket_token();
    test_socket_stream();
    test_socket_parts();
    test_socket_watch();
    test_socket_refused();
    test_socket_limit();
    test_socket_wait();
    test_stop();
    rpc_wait_idle();
    net_park_stop();
    net_listener_close(&listener);
    fakev3_release(&fake);
    return check_done("gateway_test");
}
