/*
 * httpd_test.c - the HTTP server and the client over sockets on 127.0.0.1.
 *
 * Most tests are rows: bytes sent, bytes expected until the server closes.
 */
#include "check.h"
#include "client.h"
#include "http.h"
#include "http2.h"
#include "net.h"
#include "secure.h"
#include "sys.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define BODY_MAX 100000
#define WAIT_S 20 /* until a test gives up */

/* --- The server under test. --------------------------------------------- */

static struct {
    pthread_mutex_t mu;
    pthread_cond_t changed;
    int waiting, hung_up; /* mu */
    int odd;              /* mu; what other threads found wrong */
    int released;         /* mu; deferred answers that are over */
    bool release;         /* mu; lets /hold go on */
} shared = {.mu = PTHREAD_MUTEX_INITIALIZER};

static void note_hang_up(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&shared.mu);
    shared.hung_up++;
    pthread_cond_broadcast(&shared.changed);
    pthread_mutex_unlock(&shared.mu);
}

/* A watcher: its head is sent, then it waits for the client to go. */
static void handle_watch(struct http_exchange *x)
{
    int64_t deadline = sys_mono_ns() + WAIT_S * NS_PER_S;
    struct net_park park;
    int seen;

    http_begin(x);
    http_prepare_to_wait(x);
    pthread_mutex_lock(&shared.mu);
    seen = shared.hung_up;
    shared.waiting++;
    pthread_cond_broadcast(&shared.changed);
    pthread_mutex_unlock(&shared.mu);
    net_park(&park, http_stream(x), note_hang_up, NULL);
    pthread_mutex_lock(&shared.mu);
    while (shared.hung_up == seen && !shared.release)
        if (!sys_cond_wait_until(&shared.changed, &shared.mu, deadline))
            break;
    shared.odd +=
        !str_eqz(http_path(x), "/watch"); /* the head is still there */
    pthread_mutex_unlock(&shared.mu);
    net_unpark(&park);
    http_write(x, "event\n", 6);
}

/* Stay until released, then answer. */
static void handle_hold(struct http_exchange *x)
{
    int64_t deadline = sys_mono_ns() + WAIT_S * NS_PER_S;

    pthread_mutex_lock(&shared.mu);
    shared.waiting++;
    pthread_cond_broadcast(&shared.changed);
    while (!shared.release)
        if (!sys_cond_wait_until(&shared.changed, &shared.mu, deadline))
            break;
    pthread_mutex_unlock(&shared.mu);
    http_send(x, "held", 4);
}

/* Until n handlers wait. Nothing is checked here: CHECK is for one thread. */
static void wait_for_waiting(int n)
{
    int64_t deadline = sys_mono_ns() + WAIT_S * NS_PER_S;

    pthread_mutex_lock(&shared.mu);
    while (shared.waiting < n)
        if (!sys_cond_wait_until(&shared.changed, &shared.mu, deadline))
            break;
    shared.odd += shared.waiting < n;
    pthread_mutex_unlock(&shared.mu);
}

static void set_release(bool on)
{
    pthread_mutex_lock(&shared.mu);
    shared.release = on;
    if (!on)
        shared.waiting = 0;
    pthread_cond_broadcast(&shared.changed);
    pthread_mutex_unlock(&shared.mu);
}

static void handle_echo(struct http_exchange *x)
{
    struct buf b = {0};
    const char *why;
    int rc = http_read_body(x, &b, BODY_MAX, &why);

    if (rc == HTTP_EBODY_LARGE)
        http_error(x, 400, "too large");
    else if (rc == HTTP_EBODY_BAD)
        http_error(x, 400, why);
    else if (rc == HTTP_EBODY_BUSY)
        http_error(x, 500, "busy");
    else if (rc == 0)
        http_reply(x, 200, "text/plain", b.data, b.len);
    buf_release(&b);
}

/* A body of as many bytes as the query says. */
static void handle_size(struct http_exchange *x)
{
    struct buf b = {0};
    uint64_t n = 0;

    str_to_u64(http_query(x), &n);
    buf_reserve(&b, (size_t)n + 26);
    while (b.len < n)
        buf_adds(&b, "abcdefghijklmnopqrstuvwxyz");
    http_send(x, b.data, (size_t)n);
    buf_release(&b);
}

static void handle_headers(struct http_exchange *x)
{
    http_set_header(x, "X-Etcd-Index", "%d", 1);
    http_set_header(x, "Allow", "GET");
    http_set_header(x, "X-A", "1");
    http_set_header(x, "X-Etcd-Index", "%d", 22222);
    http_set_header(x, "Location", "%s", "/a\r\nX-Evil: 1");
    http_set_header(x, "X-A-B", "2");
    http_reply(x, 201, NULL, "ok", 2);
}

static void handle_own_length(struct http_exchange *x)
{
    http_set_header(x, "Content-Length", "6");
    http_begin(x);
    http_write(x, "abc", 3);
    http_write(x, "def", str_eqz(http_query(x), "short") ? 0 : 3);
}

static void handle_pieces(struct http_exchange *x)
{
    http_begin(x);
    http_write(x, "one", 3);
    http_write(x, "", 0);
    http_write(x, "two", 3);
}

/* No http_begin(): head and first piece go together. */
static void handle_at_once(struct http_exchange *x)
{
    http_write(x, "one", 3);
    http_write(x, "two", 3);
}

static void handle_closing(struct http_exchange *x)
{
    http_set_header(x, "Connection", "Close");
    http_set_header(x, "Connection", "keep-alive"); /* cannot take it back */
    http_send(x, "a", 1);
}

static void note_release(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&shared.mu);
    shared.released++;
    pthread_cond_broadcast(&shared.changed);
    pthread_mutex_unlock(&shared.mu);
}

static void *answer_later(void *arg)
{
    handle_size(arg);
    return NULL;
}

/* As /size, from another thread. */
static void handle_later(struct http_exchange *x)
{
    http_defer(x, note_release, NULL);
    if (sys_thread_detached(SYS_STACK_SMALL, answer_later, x) < 0)
        abort();
}

/* Ends while a piece is not out. */
static void handle_unsent(struct http_exchange *x)
{
    static char piece[65536]; /* more than a stack holds */

    memset(piece, 'x', sizeof(piece));
    http_begin(x);
    while (http_try_write(x, piece, sizeof(piece)) == 0)
        continue;
    note_release(NULL);
}

/* What kind of request was it? */
static void handle_show(struct http_exchange *x)
{
    struct buf b = {0};

    buf_printf(&b, "%.*s|%.*s|%.*s|%.*s|%.*s", STR_FMT(http_method(x)),
               STR_FMT(http_path(x)), STR_FMT(http_raw_path(x)),
               STR_FMT(http_query(x)), STR_FMT(http_host(x)));
    http_send(x, b.data, b.len);
    buf_release(&b);
}

static void handle_status(struct http_exchange *x)
{
    uint64_t status = 200;

    str_to_u64(http_query(x), &status);
    http_set_status(x, (int)status);
}

static void handler(struct http_exchange *x, void *arg)
{
    static const struct {
        const char *path;
        void (*fn)(struct http_exchange *);
    } routes[] = {
        {"/watch", handle_watch},     {"/hold", handle_hold},
        {"/echo", handle_echo},       {"/size", handle_size},
        {"/headers", handle_headers}, {"/own-length", handle_own_length},
        {"/pieces", handle_pieces},   {"/status", handle_status},
        {"/at-once", handle_at_once}, {"/closing", handle_closing},
        {"/later", handle_later},     {"/unsent", handle_unsent},
    };

    (void)arg;
    for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
        if (str_eqz(http_path(x), routes[i].path)) {
            routes[i].fn(x);
            return;
        }
    }
    if (str_has_prefix(http_path(x), "/show") || str_eqz(http_path(x), "/"))
        handle_show(x);
    else
        http_error(x, 404, "404 page not found");
}

static struct net_listener listener;
static struct http_server *server;

static void listen_on(const char *text)
{
    struct err e = {0};
    struct url u;

    CHECK(url_parse(str_of(text), &u, &e) == 0);
    net_listen(&u, NULL, &listener, &e);
    CHECK_STR(e.msg, "");
    url_release(&u);
}

static void start(struct http_server_options o)
{
    struct err e;

    if (!listener.url.raw)
        listen_on("http://127.0.0.1:0");
    o.handler = handler;
    o.name = "test";
    CHECK(http_server_start(&listener, 1, &o, &server, &e) == 0);
}

static void stop(int64_t grace_ms)
{
    http_server_stop(server, grace_ms);
    net_listener_close(&listener);
    listener = (struct net_listener){.fd = -1};
}

static void check_no_connections(void)
{
    for (int i = 0; i < 300 && http_connections(server) > 0; i++)
        sys_sleep_ms(10);
    CHECK(http_connections(server) == 0);
}

/* --- A client that knows nothing of HTTP. ------------------------------- */

static int dial(void)
{
    struct sockaddr_in sa = {.sin_family = AF_INET};
    struct timeval tv = {.tv_sec = WAIT_S};
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;

    sa.sin_port = htons((uint16_t)atoi(listener.url.port));
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    CHECK(connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0);
    return fd;
}

static void put(int fd, const char *text)
{
    CHECK(send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text));
}

/* All until the server closes. */
static char *get_all(int fd)
{
    struct buf b = {0};
    char piece[4096];
    ssize_t n;

    while ((n = recv(fd, piece, sizeof(piece), 0)) > 0)
        buf_add(&b, piece, (size_t)n);
    if (n < 0)
        buf_printf(&b, "<%s>", strerror(errno));
    return buf_steal(&b);
}

/* This process's CPU time. */
static int64_t cpu_us(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000LL +
           u.ru_utime.tv_usec + u.ru_stime.tv_usec;
}

/* Bytes until text has come; false if it does not. */
static bool get_until(int fd, const char *text)
{
    struct buf b = {0};
    bool found = false;
    char c;

    while (!found && recv(fd, &c, 1, 0) == 1) {
        buf_addc(&b, c);
        found = strstr(buf_z(&b), text) != NULL;
    }
    buf_release(&b);
    return found;
}

/* Cut "Date: ..., GMT\r\n" out, everywhere. */
static void hide_dates(char *text)
{
    char *at;

    while ((at = strstr(text, "Date: ")) != NULL) {
        char *end = strstr(at, " GMT\r\n");

        CHECK(end && end - at == 31);
        if (!end)
            return;
        memmove(at, end + 6, strlen(end + 6) + 1);
    }
}

static void check_talk(const char *request, const char *want)
{
    int fd = dial();
    char *got;

    put(fd, request);
    got = get_all(fd);
    hide_dates(got);
    CHECK_STR(got, want);
    free(got);
    close(fd);
}

#define REFUSED(status_and_why)                                                \
    "HTTP/1.1 " status_and_why "\r\n"                                          \
    "Content-Type: text/plain; charset=utf-8\r\nConnection: "                  \
    "close\r\n\r\n" status_and_why
#define H "Host: x\r\n"
#define CLOSE "Connection: close\r\n"
#define LAST "GET /status?200 HTTP/1.1\r\n" H CLOSE "\r\n"
#define LAST_OK "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" CLOSE "\r\n"

static void test_talks(void)
{
    /* clang-format off */
    static const struct {
        const char *request, *want;
    } cases[] = {
        /* keep-alive, pipelining, and the end that the client asks for */
        {"GET /show/a%20b?q=%20 HTTP/1.1\r\nHost: h:1\r\n\r\n" LAST,
         "HTTP/1.1 200 OK\r\nContent-Length: 35\r\n\r\nGET|/show/a b|/show/a%20b|q=%20|h:1" LAST_OK},
        {"GET http://abs:2/show HTTP/1.1\r\nHost: h:1\r\n\r\n" LAST,
         "HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\nGET|/show|/show||abs:2" LAST_OK},
        {"\r\n" LAST, LAST_OK},
        {"GET /show HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK\r\nContent-Length: 17\r\n\r\nGET|/show|/show||"},
        /* headers: sorted, replaced, and no line break gets through */
        {"GET /headers HTTP/1.1\r\n" H "\r\n" LAST,
         "HTTP/1.1 201 Created\r\nAllow: GET\r\nLocation: /a  X-Evil: 1\r\nX-A: 1\r\nX-A-B: 2\r\n"
         "X-Etcd-Index: 22222\r\nContent-Length: 2\r\n\r\nok" LAST_OK},
        {"GET /nothing HTTP/1.1\r\n" H "\r\n" LAST,
         "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n"
         "Content-Length: 19\r\n\r\n404 page not found\n" LAST_OK},
        {"GET /closing HTTP/1.1\r\n" H "\r\n" LAST, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\na"},
        /* HTTP/1.0: ends with the connection unless asked for more */
        {"GET /size?3 HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc"},
        {"GET /size?3 HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /size?1 HTTP/1.0\r\n\r\n",
         "HTTP/1.0 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc"
         "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na"},
        {"GET /pieces HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\nonetwo"},
        /* the forms of a body */
        {"GET /pieces HTTP/1.1\r\n" H "\r\n" LAST,
         "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n" LAST_OK},
        {"GET /at-once HTTP/1.1\r\n" H "\r\n" LAST,
         "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n" LAST_OK},
        {"GET /status?304 HTTP/1.1\r\n" H "\r\n" LAST, "HTTP/1.1 304 Not Modified\r\n\r\n" LAST_OK},
        {"GET /own-length HTTP/1.1\r\n" H "\r\n" LAST, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabcdef" LAST_OK},
        {"GET /own-length?short HTTP/1.1\r\n" H "\r\n" LAST, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc"},
        {"GET /status?204 HTTP/1.1\r\n" H "\r\n" LAST, "HTTP/1.1 204 No Content\r\n\r\n" LAST_OK},
        {"GET /status?799 HTTP/1.1\r\n" H "\r\n" LAST, "HTTP/1.1 799 status code 799\r\nContent-Length: 0\r\n\r\n" LAST_OK},
        /* HEAD: as GET, without the body; the length if Go knew it */
        {"HEAD /size?3 HTTP/1.1\r\n" H "\r\n" LAST, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n" LAST_OK},
        {"HEAD /size?0 HTTP/1.1\r\n" H "\r\n" LAST, "HTTP/1.1 200 OK\r\n\r\n" LAST_OK},
        {"HEAD /size?2049 HTTP/1.1\r\n" H "\r\n" LAST, "HTTP/1.1 200 OK\r\n\r\n" LAST_OK},
        {"HEAD /pieces HTTP/1.1\r\n" H "\r\n" LAST, "HTTP/1.1 200 OK\r\n\r\n" LAST_OK},
        {"HEAD /size?2049 HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /size?1 HTTP/1.0\r\n\r\n",
         "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nHTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na"},
        /* request bodies */
        {"PUT /echo HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhello" LAST,
         "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello" LAST_OK},
        {"PUT /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n" LAST,
         "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello" LAST_OK},
        {"PUT /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n" LAST,
         "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n"
         "Content-Length: 29\r\nConnection: close\r\n\r\ninvalid byte in chunk length\n"},
        {"PUT /echo HTTP/1.1\r\n" H "Content-Length: 100001\r\n\r\n" LAST,
         "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n"
         "Content-Length: 10\r\nConnection: close\r\n\r\ntoo large\n"},
        {"PUT /echo HTTP/1.1\r\n" H "Content-Length: 0\r\nExpect: 100-continue\r\n\r\n" LAST,
         "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n" LAST_OK},
        /* both framings: chunked counts, and what follows is not trusted */
        {"PUT /echo HTTP/1.1\r\n" H "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n" LAST,
         "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1\r\nConnection: close\r\n\r\na"},
        /* a body left unread is passed over, if it is small */
        {"PUT /size?1 HTTP/1.1\r\n" H "Content-Length: 7\r\n\r\nGET / H" LAST, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na" LAST_OK},
        {"PUT /size?1 HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n" LAST,
         "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na" LAST_OK},
        {"PUT /size?1 HTTP/1.1\r\n" H "Content-Length: 262144\r\n\r\n" LAST,
         "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\na"},
        {"PUT /size?1 HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\nbad\n" LAST,
         "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\na"},
        /* 100-continue: never asked for, so the body will not come */
        {"PUT /size?1 HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n" LAST,
         "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\na"},
        {"PUT /echo HTTP/1.1\r\n" H "Expect: else\r\nContent-Length: 0\r\n\r\n" LAST,
         "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"},
        {"PUT /echo HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi", /* 1.0 knows no 100 */
         "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi"},
        /* half a hang-up in the middle */
        {"PUT /echo HTTP/1.1\r\n" H "Content-Length: 9\r\n\r\nvalue",
         "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n"
         "Content-Length: 15\r\nConnection: close\r\n\r\nunexpected EOF\n"},
        {"GET /siz", ""},
        {"GET /size?1 HTTP/1.1\r\nHo", REFUSED("400 Bad Request")},
        /* refused */
        {"GET / HTTP/1.1\r\n\r\n", REFUSED("400 Bad Request: missing required Host header")},
        {"GARBAGE\r\n", REFUSED("400 Bad Request")},
        {"GET /%zz HTTP/1.1\r\n" H "\r\n", REFUSED("400 Bad Request")},
        {"GET / HTTP/2.0\r\n" H "\r\n", REFUSED("505 HTTP Version Not Supported: unsupported protocol version")},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", REFUSED("505 HTTP Version Not Supported: unsupported protocol version")},
        {"PUT / HTTP/1.1\r\n" H "Transfer-Encoding: gzip\r\n\r\n",
         "HTTP/1.1 501 Not Implemented\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
         "Unsupported transfer encoding"},
        {LAST "GET / HTTP/1.1\r\n\r\n", LAST_OK},
        {"GET /size?1 HTTP/1.1\r\n" H "\r\nGARBAGE\n", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na" REFUSED("400 Bad Request")},
    };
    /* clang-format on */

    start((struct http_server_options){0});
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        /* the server lingers after what it refuses; let it see our end */
        int fd = dial();
        char *got;

        put(fd, cases[i].request);
        shutdown(fd, SHUT_WR);
        got = get_all(fd);
        hide_dates(got);
        CHECK_STR(got, cases[i].want);
        free(got);
        close(fd);
    }
    stop(1000);
}

/* A request in single bytes; and a body that comes after its 100 Continue. */
static void test_pieces(void)
{
    const char *request =
        "PUT /echo HTTP/1.1\r\n" H CLOSE "Transfer-Encoding: chunked\r\n\r\n"
        "3\r\nabc\r\n1\r\nd\r\n0\r\nT: x\r\n\r\n";
    int fd;
    char *got;

    start((struct http_server_options){0});
    fd = dial();
    for (const char *p = request; *p; p++)
        CHECK(send(fd, p, 1, MSG_NOSIGNAL) == 1);
    got = get_all(fd);
    CHECK(strstr(got, "\r\n\r\nabcd"));
    free(got);
    close(fd);

    fd = dial();
    put(fd, "PUT /echo HTTP/1.1\r\n" H CLOSE "Expect: 100-continue\r\n"
            "Content-Length: 3\r\n\r\n");
    CHECK(get_until(fd, "HTTP/1.1 100 Continue\r\n\r\n"));
    put(fd, "yes");
    got = get_all(fd);
    CHECK(strncmp(got, "HTTP/1.1 200 OK\r\n", 17) == 0);
    CHECK(strstr(got, "\r\n\r\nyes"));
    free(got);
    close(fd);
    stop(1000);
}

static void never(struct net_stream *stream, struct buf *first, void *arg)
{
    (void)stream;
    (void)arg;
    CHECK(!"HTTP/2");
    buf_release(first);
}

/* Only a connection's first bytes may be another protocol's: later ones are
 * not waited for when a request is there. */
static void test_sniffs_once(void)
{
    int64_t began = sys_mono_ns();
    char *got;
    int fd;

    start((struct http_server_options){.h2 = never});
    fd = dial();
    for (int i = 0; i < 3; i++) {
        put(fd, "GET /size?1 HTTP/1.1\r\n" H "\r\n"
                "GET /size?1 HTTP/1.1\r\n" H "\r\n"
                "GET /size?1 HTTP/1.1\r\n" H "\r\n");
        for (int k = 0; k < 3; k++)
            CHECK(get_until(fd, "\r\n\r\na"));
    }
    put(fd, LAST);
    got = get_all(fd);
    CHECK(strstr(got, "200 OK"));
    CHECK(sys_mono_ns() - began < NS_PER_S);
    free(got);
    close(fd);
    stop(1000);
}

/* Heads as large as allowed, and larger; and bodies of every size class. */
static void test_sizes(void)
{
    static const size_t sizes[] = {0,    1,    2047, 2048,  2049,
                                   4095, 4096, 8192, 65536, 1000000};
    struct buf b = {0};
    char *got;
    int fd;

    start((struct http_server_options){0});
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        char *request =
            xasprintf("GET /size?%zu HTTP/1.1\r\n" H CLOSE "\r\n", sizes[i]);

        fd = dial();
        put(fd, request);
        got = get_all(fd);
        CHECK(!strstr(got, "Content-Length") == (sizes[i] > 2048));
        CHECK(!strstr(got, "chunked") == (sizes[i] <= 2048));
        if (sizes[i] <= 2048)
            CHECK(strlen(strstr(got, "\r\n\r\n") + 4) == sizes[i]);
        free(got);
        free(request);
        close(fd);
    }

    for (int over = 0; over <= 1; over++) {
        buf_clear(&b);
        buf_adds(&b, "GET /size?1 HTTP/1.1\r\n" H CLOSE "X-Big: ");
        while (b.len < (over ? 1100000 : 100000))
            buf_addc(&b, 'h');
        buf_adds(&b, "\r\n\r\n");
        fd = dial();
        put(fd, buf_z(&b));
        shutdown(fd, SHUT_WR);
        got = get_all(fd);
        hide_dates(got);
        CHECK_STR(got, over ? REFUSED("431 Request Header Fields Too Large")
                            : "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n" CLOSE
                              "\r\na");
        free(got);
        close(fd);
    }
    buf_release(&b);
    stop(1000);
}

/* A body as chunks of 1,000 bytes, but the last; and what may follow it. */
static void put_chunks(int fd, const char *path, size_t n, const char *end)
{
    struct buf b = {0};

    buf_printf(&b, "PUT %s HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n",
               path);
    while (n > 0) {
        size_t step = n < 1000 ? n : 1000;

        buf_printf(&b, "%zx\r\n", step);
        buf_reserve(&b, step);
        memset(b.data + b.len, 'x', step);
        b.len += step;
        buf_adds(&b, "\r\n");
        n -= step;
    }
    buf_adds(&b, end);
    put(fd, buf_z(&b));
    buf_release(&b);
}

/* Of a body without a length only reading tells that it is too large: for the
 * handler, and for whoever passes over what the handler left unread. */
static void test_endless_bodies(void)
{
    static const char end[] = "0\r\n\r\n" LAST;
    static const struct {
        const char *path;
        size_t n;
        const char *end, *status;
        bool kept;
    } cases[] = {
        {"/echo", BODY_MAX, end, "200", true},
        {"/echo", BODY_MAX + 1, end, "400", false},
        {"/echo", 2 * BODY_MAX, "", "400", false}, /* it goes on and on */
        {"/size?1", 200000, end, "200", true},
        {"/size?1", 600000, "", "200", false},
    };

    start((struct http_server_options){0});
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int fd = dial();
        char *got;

        put_chunks(fd, cases[i].path, cases[i].n, cases[i].end);
        got = get_all(fd);
        CHECK(strlen(got) > 12 && strncmp(got + 9, cases[i].status, 3) == 0);
        hide_dates(got);
        CHECK((strstr(got, LAST_OK) != NULL) == cases[i].kept);
        free(got);
        close(fd);
    }
    stop(1000);
}

static bool wait_for_released(int n)
{
    int64_t deadline = sys_mono_ns() + WAIT_S * NS_PER_S;
    bool done;

    pthread_mutex_lock(&shared.mu);
    while (shared.released < n)
        if (!sys_cond_wait_until(&shared.changed, &shared.mu, deadline))
            break;
    done = shared.released == n;
    pthread_mutex_unlock(&shared.mu);
    return done;
}

/* Answers that another thread gives: in order, whatever follows them; whole,
 * however slowly they are read; and over, if nobody reads them at all. */
static void test_deferred(void)
{
    static const char two[] =
        "GET /later?3 HTTP/1.1\r\n" H "\r\nGET /later?1 HTTP/1.1\r\n" H "\r\n";
    size_t n;
    char *got;
    int fd;

    /* Who wants nothing more is not waited for. */
    start((struct http_server_options){.quiet_ms = 3 * WAIT_S * 1000});
    shared.released = 0;
    fd = dial();
    put(fd, two);
    CHECK(get_until(fd, "\r\n\r\nabc"));
    CHECK(get_until(fd, "\r\n\r\na"));
    put(fd, "GET /later?0 HTTP/1.1\r\n" H CLOSE "\r\n");
    got = get_all(fd);
    hide_dates(got);
    CHECK_STR(got, LAST_OK);
    free(got);
    close(fd);
    CHECK(wait_for_released(3));

    fd = dial();
    put(fd, "GET /later?9000000 HTTP/1.1\r\n" H CLOSE "\r\n");
    CHECK(get_until(fd, "895440\r\n")); /* the chunk, in hex */
    got = get_all(fd);
    n = strlen(got);
    CHECK(n == 9000000 + strlen("\r\n0\r\n\r\n"));
    CHECK(n > 8840010 && memcmp(got + 8840000, "abcdefghij", 10) == 0);
    free(got);
    close(fd);
    CHECK(wait_for_released(4));
    stop(1000);

    start((struct http_server_options){.stall_ms = 60, .quiet_ms = 60});
    fd = dial();
    put(fd, "GET /later?20000000 HTTP/1.1\r\n" H "\r\n");
    CHECK(wait_for_released(5));
    check_no_connections();
    close(fd);
    stop(1000);
}

/* A piece that is not out is not ended as if it were: what says so would be
 * taken for the rest of it. */
static void test_unsent(void)
{
    char *got;
    size_t n;
    int fd;

    start((struct http_server_options){0});
    fd = dial();
    put(fd, "GET /unsent HTTP/1.1\r\n" H "\r\n");
    CHECK(wait_for_released(6));
    got = get_all(fd);
    n = strlen(got);
    CHECK(n > 65536 && got[n - 1] == 'x');
    free(got);
    close(fd);
    stop(1000);
}

static void test_timeouts(void)
{
    struct http_server_options o = {
        .head_ms = 60, .idle_ms = 60, .stall_ms = 60};
    int fd, size = 4096;
    int64_t began;
    char *got;

    start(o);
    began = sys_mono_ns();
    check_talk("", "");                             /* idle from the start */
    check_talk("GET /size?1 HTTP/1.1\r\n" H "\r\n", /* idle after a request */
               "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na");
    check_talk("GET / HT", ""); /* a head that stops */
    check_talk("PUT /size?1 HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nabc",
               "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n"
               "\r\na"); /* a body that stops, while it is passed over */
    CHECK(sys_mono_ns() - began < 10 * NS_PER_S); /* far from the defaults */

    /* a reader that stops does not keep the thread */
    fd = dial();
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    put(fd, "GET /size?20000000 HTTP/1.1\r\n" H "\r\n");
    check_no_connections();
    close(fd);

    /* a head in time, though later than the idle limit */
    stop(1000);
    o.head_ms = 2000;
    start(o);
    fd = dial();
    put(fd, "GET /size?1 HTTP/1.1\r\n");
    sys_sleep_ms(100);
    put(fd, H CLOSE "\r\n");
    got = get_all(fd);
    CHECK(strstr(got, "\r\n\r\na"));
    free(got);
    close(fd);
    stop(1000);
}

/* A quiet connection's memory is given back, and it works on. */
static void test_quiet(void)
{
    int fd;
    char *got;

    start((struct http_server_options){.idle_ms = 5000, .quiet_ms = 20});
    fd = dial();
    put(fd, "GET /size?1 HTTP/1.1\r\n" H "\r\n");
    CHECK(get_until(fd, "\r\n\r\na"));
    sys_sleep_ms(60);
    put(fd, LAST);
    got = get_all(fd);
    hide_dates(got);
    CHECK_STR(got, LAST_OK);
    free(got);
    close(fd);
    stop(1000);
}

/* A client that sends one request after the other is waited for awake, but not
 * any longer when it falls silent. */
static void test_prompt(void)
{
    int64_t before;
    int fd;

    start((struct http_server_options){.idle_ms = 5000});
    fd = dial();
    for (int i = 0; i < 500; i++) {
        put(fd, "GET /size?1 HTTP/1.1\r\n" H "\r\n");
        CHECK(get_until(fd, "\r\n\r\na"));
    }
    before = cpu_us();
    sys_sleep_ms(300);
    CHECK(cpu_us() - before < 100000);
    close(fd);
    stop(1000);
}

static void test_hang_up(void)
{
    int fd[3];

    set_release(false);
    shared.hung_up = 0;
    start((struct http_server_options){0});
    for (int i = 0; i < 3; i++) { /* one after another: each tells its own */
        fd[i] = dial();
        put(fd[i], "GET /watch HTTP/1.1\r\n" H "\r\n");
        wait_for_waiting(i + 1);
        if (i == 1)
            shutdown(fd[i], SHUT_WR); /* half a hang-up is one */
        else
            close(fd[i]);
        for (int k = 0; k < 300; k++) {
            int seen;

            pthread_mutex_lock(&shared.mu);
            seen = shared.hung_up;
            pthread_mutex_unlock(&shared.mu);
            if (seen == i + 1)
                break;
            sys_sleep_ms(5);
        }
        pthread_mutex_lock(&shared.mu);
        CHECK(shared.hung_up == i + 1);
        pthread_mutex_unlock(&shared.mu);
    }
    CHECK(get_until(fd[1], "event\n"));
    close(fd[1]);
    stop(1000);
}

static void *stop_main(void *arg)
{
    stop(*(int64_t *)arg);
    return NULL;
}

/* Stop: no new ones, idle ones end, one under way is answered. */
static void test_stop(void)
{
    int64_t grace_ms = WAIT_S * 1000;
    int fresh, idle, busy;
    pthread_t stopper;
    char *got;

    set_release(false);
    start((struct http_server_options){0});
    fresh = dial();
    idle = dial();
    put(idle, "GET /size?1 HTTP/1.1\r\n" H "\r\n");
    CHECK(get_until(idle, "\r\n\r\na"));
    busy = dial();
    put(busy, "GET /hold HTTP/1.1\r\n" H "\r\n");
    wait_for_waiting(1);
    CHECK(http_connections(server) == 3);

    pthread_create(&stopper, NULL, stop_main, &grace_ms);
    got = get_all(fresh);
    CHECK_STR(got, "");
    free(got);
    got = get_all(idle);
    CHECK_STR(got, "");
    free(got);
    set_release(true);
    got = get_all(busy);
    hide_dates(got);
    CHECK_STR(got, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n" CLOSE "\r\nheld");
    free(got);
    pthread_join(stopper, NULL);
    close(fresh);
    close(idle);
    close(busy);
}

/* Grace runs out: what waits is cut off, and told so by its parking. */
static void test_stop_cuts(void)
{
    int64_t began = sys_mono_ns();
    int fd;

    set_release(false);
    start((struct http_server_options){0});
    fd = dial();
    put(fd, "GET /watch HTTP/1.1\r\n" H "\r\n");
    wait_for_waiting(1);
    stop(30);
    CHECK(sys_mono_ns() - began < 4 * NS_PER_S);
    close(fd);
}

#define HOARDS 8
#define HOARD_SIZE ((size_t)512 << 20)

/* Take the address space of a 32-bit machine, in pieces, so that nothing larger
 * than one of them can be mapped. Where there is more, this does no harm. */
static void hoard(void *pieces[HOARDS])
{
    for (int i = 0; i < HOARDS; i++)
        pieces[i] = mmap(NULL, HOARD_SIZE, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

static void unhoard(void *pieces[HOARDS])
{
    for (int i = 0; i < HOARDS; i++)
        if (pieces[i] != MAP_FAILED)
            munmap(pieces[i], HOARD_SIZE);
}

/* No thread to be had: 503. (A stack of this size cannot be mapped.) */
static void test_no_threads(void)
{
    void *pieces[HOARDS];

    start((struct http_server_options){.stack = SIZE_MAX / 4 + 1});
    hoard(pieces);
    check_talk("", REFUSED("503 Service Unavailable"));
    unhoard(pieces);
    check_no_connections();
    stop(1000);
}

/* A third connection waits in the kernel until one of two has ended. */
static void test_conns_max(void)
{
    struct pollfd p = {.events = POLLIN};
    int fd[3];

    start((struct http_server_options){.conns_max = 2});
    for (int i = 0; i < 3; i++) {
        fd[i] = dial();
        put(fd[i], "GET /size?1 HTTP/1.1\r\n" H "\r\n");
        if (i < 2)
            CHECK(get_until(fd[i], "\r\n\r\na"));
    }
    p.fd = fd[2];
    CHECK(poll(&p, 1, 50) == 0);
    CHECK(http_connections(server) == 2);
    close(fd[0]);
    CHECK(get_until(fd[2], "\r\n\r\na"));
    close(fd[1]);
    close(fd[2]);
    stop(1000);
}

/* --- Unfinished handshakes. ------------------------------------------------ */

#define SILENT 200
#define CROWD 40 /* in a server for 32 of them */

/* In its place: a server that has heard from the client, and takes its time. */
int __wrap_secure_accept(struct secure *c, struct net_stream *s,
                         int64_t deadline_ns);
int __wrap_secure_accept(struct secure *c, struct net_stream *s,
                         int64_t deadline_ns)
{
    char byte;

    (void)c, (void)deadline_ns;
    if (net_peek(s, &byte, 1) <= 0)
        return NET_EIO;
    pthread_mutex_lock(&shared.mu);
    shared.waiting++;
    pthread_cond_broadcast(&shared.changed);
    while (!shared.release)
        pthread_cond_wait(&shared.changed, &shared.mu);
    pthread_mutex_unlock(&shared.mu);
    return 0;
}

static bool is_at_end(int fd)
{
    char byte;

    return recv(fd, &byte, 1, MSG_DONTWAIT) == 0;
}

/* Newcomers end those that are silent; the oldest waits for us, and stays. */
static void test_half_open(void)
{
    struct http_server_options o = {.conns_max = 64};
    int fd[SILENT], n = 0, ended = 0, first;

    set_release(false);
    listen_on("http://127.0.0.1:0");
    listener.schemes = NET_TLS;
    start(o);
    first = dial();
    put(first, "G");
    wait_for_waiting(1);
    while (ended < CROWD && n < SILENT) {
        fd[n++] = dial();
        for (int i = 0; i < n; i++)
            if (fd[i] >= 0 && is_at_end(fd[i])) {
                close(fd[i]);
                fd[i] = -1;
                ended++;
            }
        /* Time for their threads to wait for them. */
        sys_sleep_ms(n - ended < CROWD ? 1 : 100);
    }
    CHECK(ended >= CROWD);
    CHECK(!is_at_end(first));
    set_release(true);
    put(first, "ET /size?1 HTTP/1.1\r\n" H "\r\n");
    CHECK(get_until(first, "\r\n\r\na"));
    close(first);
    for (int i = 0; i < n; i++)
        if (fd[i] >= 0)
            close(fd[i]);
    check_no_connections();
    stop(1000);
}

static int n_held;

/* Another protocol's connection, until its client has gone. */
static void hold(struct net_stream *stream, struct buf *first, void *arg)
{
    char byte;

    (void)arg;
    buf_release(first);
    __atomic_add_fetch(&n_held, 1, __ATOMIC_ACQ_REL);
    while (recv(net_fd(stream), &byte, 1, 0) > 0)
        ;
    __atomic_sub_fetch(&n_held, 1, __ATOMIC_ACQ_REL);
}

/* One that is handed over takes two descriptors, or is closed. */
static void test_fds_max(void)
{
    struct pollfd p = {.events = POLLIN};
    char byte;
    int fd[4];

    start((struct http_server_options){.fds_max = 4, .h2 = hold});
    for (int i = 0; i < 3; i++) {
        fd[i] = dial();
        put(fd[i], i ? "GET /size?1 HTTP/1.1\r\n" H "\r\n" : H2_PREFACE);
        if (i)
            CHECK(get_until(fd[i], "\r\n\r\na"));
        while (!i && !__atomic_load_n(&n_held, __ATOMIC_ACQUIRE))
            sys_sleep_ms(1);
    }
    fd[3] = dial();
    put(fd[3], "GET /size?1 HTTP/1.1\r\n" H "\r\n");
    p.fd = fd[3];
    CHECK(poll(&p, 1, 50) == 0);
    close(fd[0]);
    CHECK(get_until(fd[3], "\r\n\r\na"));
    fd[0] = dial();
    put(fd[0], H2_PREFACE);
    CHECK(recv(fd[0], &byte, 1, 0) <= 0);
    for (int i = 0; i < 4; i++)
        close(fd[i]);
    stop(1000);
}

/* A request with so long a body, and all or nothing of it. */
static int put_body(size_t n, bool all)
{
    struct buf b = {0};
    int fd = dial();

    buf_printf(&b,
               "PUT /echo HTTP/1.1\r\n" H "Connection: close\r\n"
               "Content-Length: %zu\r\n%s\r\n",
               n, all ? "" : "Expect: 100-continue\r\n");
    for (size_t i = 0; all && i < n; i++)
        buf_addc(&b, 'a');
    put(fd, buf_z(&b));
    buf_release(&b);
    return fd;
}

/* Large bodies and heads share a budget: beyond it they are refused, while
 * small requests pass; it is there again when they are over. */
static void test_budget(void)
{
    char *text = xmalloc(30001);
    int first, fd;

    memset(text, 'a', 30000);
    text[30000] = '\0';
    start((struct http_server_options){.large_max = 20000});
    first = put_body(30000, false);
    CHECK(get_until(first, "100 Continue\r\n\r\n")); /* it has its share */

    for (int i = 0; i < 3; i++) {
        fd = put_body(30000, true);
        CHECK(get_until(fd, "500 Internal Server Error"));
        close(fd);
        fd = put_body(1000, true);
        CHECK(get_until(fd, "\r\n\r\naaaa"));
        close(fd);
        fd = dial();
        put(fd, "GET /echo HTTP/1.1\r\n" H "X-A: ");
        put(fd, text);
        CHECK(get_until(fd, "HTTP/1.1 503 Service Unavailable"));
        close(fd);
    }
    put(first, text);
    CHECK(get_until(first, "HTTP/1.1 200 OK"));
    CHECK(get_until(first, "aaa\r\n0\r\n\r\n"));
    close(first);
    check_no_connections();
    for (int i = 0; i < 3; i++) { /* not used up by those before */
        fd = put_body(30000, true);
        CHECK(get_until(fd, "HTTP/1.1 200 OK"));
        CHECK(get_until(fd, "aaa\r\n0\r\n\r\n"));
        close(fd);
    }
    check_no_connections();
    stop(1000);
    free(text);
}

/* Out of descriptors, accepting waits, without spinning, for better days. */
static void test_no_descriptors(void)
{
    struct rlimit was, low;
    int spare[512], n = 0, fd;
    int64_t before;

    start((struct http_server_options){0});
    CHECK(getrlimit(RLIMIT_NOFILE, &was) == 0);
    low = was;
    low.rlim_cur = 256;
    CHECK(setrlimit(RLIMIT_NOFILE, &low) == 0);
    while (n < 512 && (fd = dup(0)) >= 0)
        spare[n++] = fd;
    CHECK(n > 2 && errno == EMFILE);
    if (n > 0)
        close(spare[--n]);

    fd = dial();
    put(fd, LAST);
    before = cpu_us();
    sys_sleep_ms(150);
    CHECK(cpu_us() - before < 50000);
    if (n > 0)
        close(spare[--n]);
    CHECK(get_until(fd, "Content-Length: 0\r\n" CLOSE "\r\n"));
    close(fd);
    while (n > 0)
        close(spare[--n]);
    setrlimit(RLIMIT_NOFILE, &was);
    stop(1000);
}

/* --- The client. -------------------------------------------------------- */

static struct client_request request_of(const char *method, const char *target)
{
    return (struct client_request){.method = method,
                                   .base = &listener.url,
                                   .target = target,
                                   .dial_ms = 2000,
                                   .timeout_ms = 5000};
}

static void test_client_do(void)
{
    struct client_request r = request_of("GET", "/show/a%20b?q=1");
    struct client_response resp;
    struct err e = {0};
    char *want = xasprintf("GET|/show/a b|/show/a%%20b|q=1|127.0.0.1:%s",
                           listener.url.port);

    CHECK(client_do(&r, &resp, &e) == 0);
    CHECK(resp.status == 200);
    CHECK_STR(buf_z(&resp.body), want);
    CHECK(str_eqz(http_header(&resp.head, "connection"), "close"));
    client_response_release(&resp);
    free(want);

    r = request_of("GET", "/size?1000000"); /* chunked */
    CHECK(client_do(&r, &resp, &e) == 0);
    CHECK(resp.body.len == 1000000 && resp.body.data[27] == 'b');
    client_response_release(&resp);

    r.body_max = 999999;
    CHECK(client_do(&r, &resp, &e) == CLIENT_ELARGE);
    CHECK_STR(e.msg, "response body is larger than 999999 bytes");

    r = request_of("PUT", "/echo");
    r.body = "hello";
    r.n_body = 5;
    r.headers = "X-A: 1\r\n";
    CHECK(client_do(&r, &resp, &e) == 0);
    CHECK_STR(buf_z(&resp.body), "hello");
    client_response_release(&resp);

    r = request_of("HEAD", "/size?100");
    CHECK(client_do(&r, &resp, &e) == 0);
    CHECK(resp.status == 200 && resp.body.len == 0);
    CHECK(resp.head.content_length == 100);
    client_response_release(&resp);

    set_release(false);
    r = request_of("GET", "/hold");
    r.timeout_ms = 50;
    CHECK(client_do(&r, &resp, &e) == CLIENT_ETIMEOUT);
    CHECK(strstr(e.msg, "i/o timeout") != NULL);
    set_release(true);
}

/* One connection, many requests: kept, closed by the server, cut in between. */
static void test_client_again(void)
{
    struct client_request r = request_of("GET", "/size?10");
    struct client_guard guard;
    struct client *c = NULL;
    struct err e = {0};
    char text[16];

    client_guard_init(&guard);
    r.guard = &guard;
    CHECK(client_open(&r, &c, &e) == 0);
    if (!c)
        return;
    CHECK(client_status(c) == 200);
    CHECK(client_read_full(c, text, 10, 0) == 0);
    CHECK(memcmp(text, "abcdefghij", 10) == 0);
    CHECK(client_read(c, text, 1, 0) == 0);
    CHECK(client_read_full(c, text, 1, 0) == CLIENT_EIO);
    r.target = "/pieces";
    /* Connections of earlier tests may still be ending. */
    for (int i = 0; i < 200 && http_connections(server) > 1; i++)
        sys_sleep_ms(10);
    for (int i = 0; i < 5; i++) {
        CHECK(client_again(c, &r, &e) == 0);
        CHECK(client_read_full(c, text, 6, 0) == 0);
        CHECK(memcmp(text, "onetwo", 6) == 0);
        CHECK(client_read(c, text, 1, 0) == 0);
        CHECK(http_connections(server) == 1);
    }
    r.headers = CLOSE;
    CHECK(client_again(c, &r, &e) == 0);
    r.headers = NULL;
    CHECK(client_again(c, &r, &e) == 0); /* body unread, too: a new one */
    CHECK(client_read_full(c, text, 6, 0) == 0);

    /* whoever asks from outside ends it */
    client_guard_interrupt(&guard);
    CHECK(client_read(c, text, 1, 0) <= 0);
    CHECK(client_again(c, &r, &e) < 0);
    client_close(c);

    /* the server dies under an idle connection, and another takes its place */
    r.target = "/size?10";
    CHECK(client_open(&r, &c, &e) == 0);
    CHECK(client_read_full(c, text, 10, 0) == 0);
    stop(0);
    start((struct http_server_options){0});
    r.base = &listener.url;
    CHECK(client_again(c, &r, &e) == 0);
    CHECK(client_read_full(c, text, 10, 0) == 0);
    client_close(c);
    client_guard_release(&guard);
}

static void test_client_pieces(void)
{
    struct client_request r = request_of("POST", "/echo");
    struct client_response resp;
    struct client *c;
    struct err e = {0};

    for (int chunked = 0; chunked <= 1; chunked++) {
        CHECK(client_begin(&r, chunked ? -1 : 6, &c, &e) == 0);
        CHECK(client_write(c, "abc", 3, 0) == 0);
        CHECK(client_write(c, "", 0, 0) == 0);
        CHECK(client_write(c, "def", 3, 0) == 0);
        CHECK(client_finish(c, &resp, &e) == 0);
        CHECK_STR(buf_z(&resp.body), "abcdef");
        client_response_release(&resp);
        client_close(c);
    }

    /* refused before it is all written: the answer still arrives */
    CHECK(client_begin(&r, 1000000, &c, &e) == 0);
    CHECK(client_finish(c, &resp, &e) == 0);
    CHECK(resp.status == 400);
    client_response_release(&resp);
    client_close(c);
}

/* A server that gives one answer, whatever it is asked. */
struct one_answer {
    int fd;
    const char *text;
};

static void *give_answer(void *arg)
{
    struct one_answer *a = arg;
    struct pollfd p = {.fd = a->fd, .events = POLLIN};
    int fd = poll(&p, 1, WAIT_S * 1000) == 1 ? accept(a->fd, NULL, NULL) : -1;
    char request[4096];

    if (recv(fd, request, sizeof(request), 0) > 0)
        send(fd, a->text, strlen(a->text), MSG_NOSIGNAL);
    close(fd);
    return NULL;
}

/* The forms in which an answer may end, too early among them. */
static void test_client_answers(void)
{
#define OK11 "HTTP/1.1 200 OK\r\n"
    static const struct {
        const char *answer, *body, *why;
    } cases[] = {
        {"HTTP/1.0 200 OK\r\n\r\nto the end", "to the end", NULL},
        {OK11 "\r\n", "", NULL},
        {OK11 "Content-Length: 2\r\n\r\nhi, and more", "hi", NULL},
        {"HTTP/1.1 100 Continue\r\nX: 1\r\n\r\n" OK11
         "Content-Length: 2\r\n\r\nhi",
         "hi", NULL},
        {"HTTP/1.1 204 No Content\r\n\r\nnothing", "", NULL},
        {"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "", NULL},
        {OK11 "Content-Length: 3\r\n\r\nhi", NULL, "unexpected EOF"},
        {OK11 "Transfer-Encoding: chunked\r\n\r\n3\r\nhi", NULL,
         "unexpected EOF"},
        {OK11 "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", NULL,
         "unexpected EOF"},
        {OK11 "Transfer-Encoding: chunked\r\n\r\nzz\r\n", NULL,
         "invalid byte in chunk length"},
        {OK11 "Content-Le", NULL,
         "net/http: HTTP/1.x transport connection broken: unexpected EOF"},
        {"HTTP/1.1 20", NULL,
         "net/http: HTTP/1.x transport connection broken: unexpected EOF"},
        {"HTTP/1.1 100 Continue\r\n\r\n", NULL, "EOF"},
        {"", NULL, "EOF"},
    };
#undef OK11

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct one_answer a = {.fd = listener.fd, .text = cases[i].answer};
        struct client_request r = request_of("GET", "/");
        struct client_response resp = {0};
        struct err e = {0};
        pthread_t t;
        int rc;

        pthread_create(&t, NULL, give_answer, &a);
        rc = client_do(&r, &resp, &e);
        pthread_join(t, NULL);
        CHECK(rc == (cases[i].body ? 0 : CLIENT_EIO));
        if (rc == 0)
            CHECK_STR(buf_z(&resp.body), cases[i].body ? cases[i].body : "?");
        else
            CHECK_STR(e.msg, cases[i].why ? cases[i].why : "?");
        client_response_release(&resp);
    }
}

/* A body whose end is lost stays lost. */
static void test_client_broken(void)
{
    struct one_answer a = {.fd = listener.fd,
                           .text = "HTTP/1.1 200 OK\r\n"
                                   "Content-Length: 9\r\n\r\nhi"};
    struct client_request r = request_of("GET", "/");
    struct client *c = NULL;
    struct err e;
    pthread_t t;
    char text[9];

    pthread_create(&t, NULL, give_answer, &a);
    CHECK(client_open(&r, &c, &e) == 0);
    pthread_join(t, NULL);
    if (!c)
        return;
    CHECK(client_read(c, text, 0, 0) == 0); /* asks for nothing */
    CHECK(client_read(c, text, 9, 0) == 2 && memcmp(text, "hi", 2) == 0);
    for (int i = 0; i < 2; i++)
        CHECK(client_read(c, text, 9, 0) == CLIENT_EIO);
    client_close(c);
}

static void *interrupt_main(void *arg)
{
    wait_for_waiting(1);
    sys_sleep_ms(20);
    client_guard_close(arg);
    return NULL;
}

/* An endless answer ends when another thread says so, or with the deadline. */
static void test_client_stream(void)
{
    struct client_request r = request_of("GET", "/watch");
    struct client_guard guard;
    struct client *c = NULL;
    struct err e = {0};
    pthread_t t;
    char text[8];

    client_guard_init(&guard);
    r.guard = &guard;
    set_release(false);
    CHECK(client_open(&r, &c, &e) == 0);
    if (!c)
        return;
    CHECK(client_read(c, text, 8, sys_mono_ns() + 20 * NS_PER_MS) ==
          CLIENT_ETIMEOUT);
    pthread_create(&t, NULL, interrupt_main, &guard);
    CHECK(client_read(c, text, 8, 0) == CLIENT_EIO);
    pthread_join(t, NULL);
    client_close(c);
    CHECK(client_open(&r, &c, &e) < 0); /* and none after it */
    client_guard_release(&guard);
    r.guard = NULL;

    set_release(true);
    CHECK(client_open(&r, &c, &e) == 0);
    CHECK(client_read_full(c, text, 6, 0) == 0);
    CHECK(memcmp(text, "event\n", 6) == 0);
    client_close(c);
}

/* A listener that takes connections and never says a word. */
static int mute_listener(int backlog, struct url *u)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    char *text;

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 ||
        listen(fd, backlog) < 0 ||
        getsockname(fd, (struct sockaddr *)&at, &len) < 0)
        abort();
    text = xasprintf("http://127.0.0.1:%d", ntohs(at.sin_port));
    CHECK(url_parse(str_of(text), u, NULL) == 0);
    free(text);
    return fd;
}

/* A connection attempt that stands in the listener's queue. */
static int fill_backlog(const struct url *u)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    at.sin_port = htons((uint16_t)atoi(u->port));
    (void)connect(fd, (struct sockaddr *)&at, sizeof(at));
    return fd;
}

static void *close_soon(void *guard)
{
    sys_sleep_ms(30);
    client_guard_close(guard);
    return NULL;
}

/* Interrupted before there is an answer; and, where even the connection does
 * not come about, while it connects. */
static void test_client_guard(void)
{
    for (int full = 0; full < 2; full++) {
        struct client_request r = {
            .method = "GET", .target = "/", .dial_ms = 20000};
        struct client_guard guard;
        struct client *c;
        struct err e = {0};
        struct url u;
        int64_t began;
        pthread_t t;
        int fd = mute_listener(0, &u), filled[8];

        r.base = &u;
        for (int i = 0; full && i < 8; i++)
            filled[i] = fill_backlog(&u);
        client_guard_init(&guard);
        r.guard = &guard;
        pthread_create(&t, NULL, close_soon, &guard);
        began = sys_mono_ns();
        CHECK(client_open(&r, &c, &e) < 0);
        CHECK(sys_mono_ns() - began < NS_PER_S);
        pthread_join(t, NULL);
        client_guard_release(&guard);
        for (int i = 0; full && i < 8; i++)
            close(filled[i]);
        close(fd);
        url_release(&u);
    }
}

static void check_dial_error(const char *url, const char *want)
{
    struct client_response resp;
    struct client_request r = {.method = "GET", .target = "/", .dial_ms = 500};
    struct err e = {0};
    struct url u;

    CHECK(url_parse(str_of(url), &u, &e) == 0);
    r.base = &u;
    CHECK(client_do(&r, &resp, &e) == CLIENT_EDIAL);
    CHECK_STR(e.msg, want);
    url_release(&u);
}

static void test_client(void)
{
    start((struct http_server_options){0});
    test_client_do();
    test_client_again();
    test_client_pieces();
    test_client_stream();
    test_client_guard();
    stop(1000);
    listen_on("http://127.0.0.1:0");
    test_client_answers();
    test_client_broken();
    net_listener_close(&listener);
    listener = (struct net_listener){.fd = -1};

    check_dial_error("http://127.0.0.1:1",
                     "dial tcp 127.0.0.1:1: connect: connection refused");
    check_dial_error("https://127.0.0.1:1",
                     "dial tcp 127.0.0.1:1: connect: connection refused");
}

/* --- Listening. --------------------------------------------------------- */

static void test_listen(void)
{
    static const char *const hosts[] = {"localhost", "0.0.0.0", ""};
    struct net_listener second;
    struct err e = {0};
    char want[128];
    socklen_t len = sizeof(int);
    int fd, on = 0;

    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        char *text = xasprintf("http://%s:0", hosts[i]);

        listen_on(text);
        CHECK_STR(listener.url.host, hosts[i]);
        CHECK(strcmp(listener.url.port, "0") != 0);
        start((struct http_server_options){0});
        check_talk(LAST, LAST_OK);
        stop(1000);
        free(text);
    }

    listen_on("http://127.0.0.1:0");
    snprintf(want, sizeof(want),
             "listen tcp %s:%s: bind: address already in use",
             listener.url.host, listener.url.port);
    CHECK(net_listen(&listener.url, NULL, &second, &e) == NET_EIO);
    CHECK_STR(e.msg, want);

    /* accepted sockets have the options that were set on the listener */
    fd = dial();
    {
        bool again;
        struct net_stream *s = net_accept(&listener, &again);

        CHECK(s != NULL);
        if (s) {
            getsockopt(net_fd(s), IPPROTO_TCP, TCP_NODELAY, &on, &len);
            CHECK(on == 1);
            getsockopt(net_fd(s), IPPROTO_TCP, TCP_KEEPIDLE, &on, &len);
            CHECK(on == 30);
            CHECK(strncmp(net_peer_name(s), "127.0.0.1:", 10) == 0);
        }
        net_close(s);
    }
    close(fd);
    net_listener_close(&listener);
}

static void *give_up_port(void *arg)
{
    sys_sleep_ms(50);
    close(*(int *)arg);
    return NULL;
}

/* A port that is somebody's for a moment more is waited for. */
static void test_listen_when_free(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(a);
    pthread_t holder;
    char *text;

    CHECK(bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&a, &len) == 0);
    text = xasprintf("http://127.0.0.1:%d", ntohs(a.sin_port));
    pthread_create(&holder, NULL, give_up_port, &fd);
    listen_on(text);
    pthread_join(holder, NULL);
    net_listener_close(&listener);
    free(text);
}

static void test_unix(void)
{
    char dir[] = "/tmp/httpd_test.XXXXXX", was[512];
    struct client_request r;
    struct client_response resp;
    struct net_listener second;
    struct err e = {0};
    struct url u;
    struct stat st;

    CHECK(getcwd(was, sizeof(was)) && mkdtemp(dir) && chdir(dir) == 0);
    for (int i = 0; i < 2; i++) { /* the second time over a stale file */
        listen_on("unix://etcd.unix:1");
        CHECK(lstat("etcd.unix:1", &st) == 0 && S_ISSOCK(st.st_mode));
        CHECK(net_listen(&listener.url, NULL, &second, &e) == NET_EIO);
        CHECK_STR(e.msg,
                  "listen unix etcd.unix:1: bind: address already in use");
        start((struct http_server_options){0});
        r = request_of("GET", "/show");
        CHECK(client_do(&r, &resp, &e) == 0);
        CHECK_STR(buf_z(&resp.body), "GET|/show|/show||etcd.unix:1");
        client_response_release(&resp);
        if (i == 0) { /* as after kill -9 */
            free(listener.unix_path);
            listener.unix_path = NULL;
        }
        stop(1000);
        CHECK((lstat("etcd.unix:1", &st) == 0) == (i == 0));
    }
    CHECK(url_parse(STR("unix://etcd.unix:1"), &u, &e) == 0);
    r.base = &u;
    CHECK(client_do(&r, &resp, &e) == CLIENT_EDIAL);
    CHECK_STR(e.msg,
              "dial unix etcd.unix:1: connect: no such file or directory");
    url_release(&u);
    CHECK(chdir(was) == 0 && rmdir(dir) == 0);
}

int main(void)
{
    sys_cond_init(&shared.changed);
    test_talks();
    test_pieces();
    test_sniffs_once();
    test_sizes();
    test_endless_bodies();
    test_deferred();
    test_unsent();
    test_timeouts();
    test_quiet();
    test_prompt();
    test_hang_up();
    test_stop();
    test_stop_cuts();
    test_no_threads();
    test_conns_max();
    test_half_open();
    test_fds_max();
    test_budget();
    test_no_descriptors();
    test_client();
    test_listen();
    test_listen_when_free();
    test_unix();
    net_park_stop();
    CHECK(shared.odd == 0);
    return check_done("httpd");
}
