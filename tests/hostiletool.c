/*
 * hostiletool.c - clients that mean harm, and an honest one beside them. For
 * tests/hostile_test.sh.
 *
 *   hostiletool SERVER-PID PORT CONNECTIONS SECONDS
 *
 * Each attack keeps so many connections busy for so long, while one honest
 * client puts and gets over a connection of its own. Printed for each: the
 * delays of the honest client, and the server's memory before, at most, and
 * after. Exit 0 if no honest request failed, none of them waited longer than
 * is bearable, and the memory came back.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define NS_PER_MS 1000000
#define NS_PER_S 1000000000LL
#define DELAYS_MAX 200000
#define PIECE 16384
#define BUDGET_KB (600L * 1024) /* of large requests (http.h), and some */

struct conn {
    int fd;      /* -1: to be opened */
    unsigned at; /* how far the attack is on it */
};

struct attack {
    const char *name;
    /* What a connection does at its turn; -1: it is over, open another. */
    int (*turn)(struct conn *c);
    int pace_ms;    /* between two turns of a connection */
    unsigned share; /* one in so many of the connections is enough */
    bool busy;      /* asks for real work: only a wide bound for delays */
    long cost_kb;   /* of memory that a connection may cost */
    bool h2;        /* over HTTP/2 */
};

static struct {
    int port, pid;
    unsigned n, number; /* connections; of the attack */
    struct conn *conns;
    int stop;    /* atomic */
    int attacks; /* atomic: the honest client is to go on */
    long opened, failed_to_open;
    rlim_t fds;     /* that we, and so the server, may have */
    bool sanitized; /* the server: then neither time nor memory tells much */
} w;

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * NS_PER_S + t.tv_nsec;
}

static void sleep_ns(int64_t ns)
{
    struct timespec t = {ns / NS_PER_S, ns % NS_PER_S};

    if (ns > 0)
        nanosleep(&t, NULL);
}

/* --- Connections. ------------------------------------------------------- */

/* Each attack comes from an address of its own, so that ports do not run out
 * while the kernel still remembers closed connections. */
static int dial(unsigned from)
{
    struct sockaddr_in own = {.sin_family = AF_INET},
                       to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)w.port)};
    struct linger rst = {1, 0};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    own.sin_addr.s_addr = htonl(INADDR_LOOPBACK + from);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &rst, sizeof(rst));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&own, sizeof(own)) == 0 &&
        connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0)
        return fd;
    close(fd);
    return -1;
}

/* As much as the socket takes. -1: the connection is over. */
static ssize_t push(struct conn *c, const void *p, size_t n)
{
    ssize_t r = send(c->fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);

    if (r < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return 0;
    return r;
}

static int push_text(struct conn *c, const char *s)
{
    return push(c, s, strlen(s)) < 0 ? -1 : 0;
}

/* Has the other side ended it? What it said is thrown away. */
static bool is_over(struct conn *c)
{
    char scratch[PIECE];
    ssize_t r = recv(c->fd, scratch, sizeof(scratch), MSG_DONTWAIT);

    return r == 0 || (r < 0 && errno != EAGAIN && errno != EINTR);
}

/* --- The attacks. ------------------------------------------------------- */

static int slow_headers(struct conn *c)
{
    static const char head[] = "GET /v2/keys/a HTTP/1.1\r\nHost: x\r\nX-Slow: ";
    char byte = c->at < sizeof(head) - 1 ? head[c->at] : 'a';

    c->at++;
    return is_over(c) || push(c, &byte, 1) < 0 ? -1 : 0;
}

static int idle(struct conn *c)
{
    return is_over(c) ? -1 : 0;
}

static int endless_chunks(struct conn *c)
{
    static char piece[PIECE];

    if (c->at++ == 0) {
        memset(piece, 'a', sizeof(piece));
        memcpy(piece, "3ff8\r\n", 6);
        memcpy(piece + sizeof(piece) - 2, "\r\n", 2);
        return push_text(c, "PUT /v2/keys/a HTTP/1.1\r\nHost: x\r\n"
                            "Content-Type: application/x-www-form-urlencoded"
                            "\r\nTransfer-Encoding: chunked\r\n\r\n");
    }
    return is_over(c) || push(c, piece, sizeof(piece)) < 0 ? -1 : 0;
}

static int tiny_chunks(struct conn *c)
{
    if (c->at++ == 0)
        return push_text(c, "PUT /v2/keys/a HTTP/1.1\r\nHost: x\r\n"
                            "Content-Type: application/x-www-form-urlencoded"
                            "\r\nTransfer-Encoding: chunked\r\n\r\n");
    return is_over(c) ? -1 : push_text(c, "1;aaaaaaaaaaaaaaaa\r\na\r\n");
}

static const char gigabyte[] =
    "PUT /v2/keys/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n"
    "Content-Type: application/x-www-form-urlencoded\r\n\r\nvalue=";

static int promised_gigabyte(struct conn *c)
{
    if (c->at++ == 0)
        return push_text(c, gigabyte);
    return is_over(c) ? -1 : 0;
}

static int sent_gigabyte(struct conn *c)
{
    static char piece[PIECE];

    if (c->at++ == 0)
        return push_text(c, gigabyte);
    memset(piece, 'a', sizeof(piece));
    return is_over(c) || push(c, piece, sizeof(piece)) < 0 ? -1 : 0;
}

/* They never read, while the honest client writes what they watch. */
static int deaf_watchers(struct conn *c)
{
    if (c->at++ == 0)
        return push_text(c, "GET /v2/keys/?wait=true&stream=true&recursive=true"
                            " HTTP/1.1\r\nHost: x\r\n\r\n");
    return push(c, "", 0) < 0 ? -1 : 0;
}

static int header_flood(struct conn *c)
{
    static char lines[PIECE];
    static size_t n;

    while (n + 16 < sizeof(lines))
        n += (size_t)snprintf(lines + n, sizeof(lines) - n, "X-%zu: y\r\n", n);
    if (c->at++ == 0)
        return push_text(c, "GET /v2/keys/a HTTP/1.1\r\nHost: x\r\n");
    return is_over(c) || push(c, lines, n) < 0 ? -1 : 0;
}

static int huge_target(struct conn *c)
{
    static char piece[PIECE];

    if (c->at++ == 0)
        return push_text(c, "GET /v2/keys/");
    memset(piece, 'a', sizeof(piece));
    return is_over(c) || push(c, piece, sizeof(piece)) < 0 ? -1 : 0;
}

/* Requests by the thousand, and no answer is ever read. */
static int unread_pipeline(struct conn *c)
{
    static const char one[] = "GET /v2/keys/honest HTTP/1.1\r\nHost: x\r\n\r\n";
    static char many[64 * sizeof(one)];

    if (!many[0])
        for (size_t i = 0; i < 64; i++)
            memcpy(many + i * (sizeof(one) - 1), one, sizeof(one) - 1);
    if (c->at >= 10000)
        return 0;
    c->at += 64;
    return push(c, many, 64 * (sizeof(one) - 1)) < 0 ? -1 : 0;
}

static int noise(struct conn *c)
{
    unsigned char piece[256];

    for (size_t i = 0; i < sizeof(piece); i++)
        piece[i] = (unsigned char)rand();
    c->at++;
    return is_over(c) || push(c, piece, sizeof(piece)) < 0 ? -1 : 0;
}

static int half_close(struct conn *c)
{
    if (c->at++ > 0)
        return is_over(c) ? -1 : 0;
    if (push_text(c, "PUT /v2/keys/a HTTP/1.1\r\nHost: x\r\nContent-Length: 9"
                     "\r\n\r\nval") < 0)
        return -1;
    shutdown(c->fd, SHUT_WR);
    return 0;
}

static int reset_midway(struct conn *c)
{
    static const char *const starts[] = {
        "G", "GET /v2/keys/honest HTTP/1.1\r\nHost: x\r\n\r\n",
        "PUT /v2/keys/a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nva",
        "GET /v2/keys/a?wait=true HTTP/1.1\r\nHost: x\r\n\r\n"};

    push_text(c, starts[(unsigned)rand() % ARRAY_LEN(starts)]);
    return -1; /* and closing resets it */
}

/* A form of n parameters, as one request. */
static int form_bomb(struct conn *c)
{
    static char *body;
    static size_t n, sent_head;
    char head[256];

    if (!body) {
        body = malloc(100000 * 8);
        for (int i = 0; i < 100000 && body; i++)
            n += (size_t)snprintf(body + n, 8, "a%d&", i % 1000);
    }
    if (!body || is_over(c))
        return -1;
    if (c->at == 0) {
        sent_head = (size_t)snprintf(
            head, sizeof(head),
            "PUT /v2/keys/a HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n\r\n",
            n);
        if (push(c, head, sent_head) < 0)
            return -1;
    }
    if (c->at < n) {
        ssize_t r = push(c, body + c->at, n - c->at);

        if (r < 0)
            return -1;
        c->at += (unsigned)r;
    }
    return c->at < n ? 0 : ((c->at = 0), 0);
}

/* A request whose key is `elements` of `length` letters each. */
static int key_request(struct conn *c, const char *method, int elements,
                       int length, const char *query)
{
    char request[20000];
    size_t n = (size_t)snprintf(request, sizeof(request), "%s /v2/keys/deep%u",
                                method, c->at % 4);

    for (int i = 0; i < elements && n < 16500; i++) {
        request[n++] = '/';
        memset(request + n, 'd', (size_t)length);
        n += (size_t)length;
    }
    n += (size_t)snprintf(request + n, sizeof(request) - n,
                          "%s HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
                          query);
    return push(c, request, n) < 0 ? -1 : 0;
}

static int largest_keys(struct conn *c)
{
    c->at++;
    return is_over(c) ? -1 : key_request(c, "PUT", 1, 16000, "");
}

static int deep_trees(struct conn *c)
{
    if (is_over(c))
        return -1;
    switch (c->at++ % 3) {
    case 0:
        return key_request(c, "PUT", 990, 1, "");
    case 1:
        return key_request(c, "GET", 0, 0, "?recursive=true&sorted=true");
    default:
        return key_request(c, "DELETE", 0, 0, "?recursive=true&dir=true");
    }
}

/* --- The same over HTTP/2, and of the v3 API. --------------------------- */

#define H2_HELLO "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
#define GRPC_TYPE                                                              \
    "\x0f\x10\x10"                                                             \
    "application/grpc"

enum { DATA, HEADERS, RST_STREAM = 3, SETTINGS, CONTINUATION = 9 };
enum { END_STREAM = 1, END_HEADERS = 4 };

/* A frame, to the end of what is to be sent. */
static size_t add_frame(unsigned char *out, size_t at, int type, int flags,
                        unsigned stream, const void *p, size_t n)
{
    unsigned char *f = out + at;

    f[0] = (unsigned char)(n >> 16);
    f[1] = (unsigned char)(n >> 8);
    f[2] = (unsigned char)n;
    f[3] = (unsigned char)type;
    f[4] = (unsigned char)flags;
    for (int i = 0; i < 4; i++)
        f[5 + i] = (unsigned char)(stream >> (24 - 8 * i));
    if (n)
        memcpy(f + 9, p, n);
    return at + 9 + n;
}

/* The head of a call. */
static size_t add_call(unsigned char *out, size_t at, unsigned stream,
                       const char *path)
{
    unsigned char block[128] = {0x83, 0x86, 0x04};
    size_t n = strlen(path);

    block[3] = (unsigned char)n;
    memcpy(block + 4, path, n);
    memcpy(block + 4 + n, GRPC_TYPE, sizeof(GRPC_TYPE) - 1);
    return add_frame(out, at, HEADERS, END_HEADERS, stream, block,
                     4 + n + sizeof(GRPC_TYPE) - 1);
}

static int push_all(struct conn *c, const unsigned char *p, size_t n)
{
    return push(c, p, n) < (ssize_t)n ? -1 : 0;
}

static int say_hello(struct conn *c)
{
    return push_all(c, (const unsigned char *)H2_HELLO, sizeof(H2_HELLO) - 1);
}

static int h2_idle(struct conn *c)
{
    return c->at++ ? (is_over(c) ? -1 : 0) : say_hello(c);
}

/* Frames that ask for an answer, which is never read. */
static int h2_settings(struct conn *c)
{
    unsigned char many[64 * 9];
    size_t n = 0;

    if (c->at++ == 0)
        return say_hello(c);
    while (n < sizeof(many))
        n = add_frame(many, n, SETTINGS, 0, 0, NULL, 0);
    return push(c, many, n) < 0 ? -1 : 0;
}

/* Calls that are taken back at once. */
static int h2_rapid_reset(struct conn *c)
{
    unsigned char many[8192];
    size_t n = 0;

    if (c->at == 0 && say_hello(c) < 0)
        return -1;
    for (int i = 0; i < 32; i++) {
        unsigned stream = 2 * c->at++ + 1;

        n = add_call(many, n, stream, "/etcdserverpb.KV/Range");
        n = add_frame(many, n, DATA, END_STREAM, stream, "\0\0\0\0\3\x0a\1a",
                      8);
        n = add_frame(many, n, RST_STREAM, 0, stream, "\0\0\0\x08", 4);
    }
    return is_over(c) ? -1 : push_all(c, many, n);
}

static int h2_endless_head(struct conn *c)
{
    static unsigned char piece[PIECE];
    static const unsigned char fill[PIECE - 9];
    size_t n;

    if (c->at++ == 0) {
        n = add_frame(piece, 0, HEADERS, 0, 1, "\x83", 1);
        return say_hello(c) < 0 ? -1 : push_all(c, piece, n);
    }
    n = add_frame(piece, 0, CONTINUATION, 0, 1, fill, sizeof(fill));
    return is_over(c) || push(c, piece, n) < 0 ? -1 : 0;
}

/* Reads by the thousand, and no answer is ever taken. */
static int h2_unread(struct conn *c)
{
    unsigned char many[4096];
    size_t n = 0;

    if (c->at == 0 && say_hello(c) < 0)
        return -1;
    if (c->at >= 10000)
        return 0;
    for (int i = 0; i < 16; i++) {
        unsigned stream = 2 * c->at++ + 1;

        n = add_call(many, n, stream, "/etcdserverpb.KV/Range");
        n = add_frame(many, n, DATA, END_STREAM, stream,
                      "\0\0\0\0\6\x0a\1\0\x12\1\0", 11);
    }
    return push_all(c, many, n);
}

/* A message of a megabyte that never comes to its end. */
static int h2_unfinished(struct conn *c)
{
    static unsigned char piece[PIECE];
    static const unsigned char fill[PIECE - 9];
    size_t n;

    if (c->at++ == 0) {
        n = add_call(piece, 0, 1, "/etcdserverpb.KV/Put");
        n = add_frame(piece, n, DATA, 0, 1, "\0\0\x10\0\0", 5);
        return say_hello(c) < 0 ? -1 : push_all(c, piece, n);
    }
    n = add_frame(piece, 0, DATA, 0, 1, fill, sizeof(fill));
    if (is_over(c))
        return -1;
    return c->at > 60 ? 0 : push_all(c, piece, n);
}

/* Of all keys, and nothing is ever read. */
static int v3_deaf_watchers(struct conn *c)
{
    unsigned char open[512];
    size_t n;

    if (c->at++ > 0)
        return push(c, "", 0) < 0 ? -1 : 0;
    n = add_call(open, 0, 1, "/etcdserverpb.Watch/Watch");
    n = add_frame(open, n, DATA, 0, 1, "\0\0\0\0\x08\x0a\6\x0a\1\0\x12\1\0",
                  13);
    return say_hello(c) < 0 ? -1 : push_all(c, open, n);
}

/* JSON that is deeper than anybody means. */
static int json_bomb(struct conn *c)
{
    static char deep[PIECE];

    memset(deep, '[', sizeof(deep));
    if (c->at++ == 0)
        return push_text(c, "POST /v3/kv/txn HTTP/1.1\r\nHost: x\r\n"
                            "Content-Length: 1048576\r\n\r\n{\"success\":");
    return is_over(c) || push(c, deep, sizeof(deep)) < 0 ? -1 : 0;
}

static const struct attack attacks[] = {
    {"slow headers", slow_headers, 1000, 1, false, 24, false},
    {"idle connections", idle, 1000, 1, false, 24, false},
    {"watchers that do not read", deaf_watchers, 1000, 1, true, 24, false},
    {"a promised gigabyte", promised_gigabyte, 200, 1, false, 24, false},
    {"a sent gigabyte", sent_gigabyte, 20, 20, true, 64, false},
    {"endless chunks", endless_chunks, 20, 20, true, 32768, false},
    {"tiny chunks", tiny_chunks, 5, 10, true, 64, false},
    {"header flood", header_flood, 20, 20, true, 4096, false},
    {"huge targets", huge_target, 20, 20, true, 4096, false},
    {"pipelines never read", unread_pipeline, 5, 20, true, 64, false},
    {"noise", noise, 50, 10, true, 24, false},
    {"half-closed", half_close, 100, 2, true, 24, false},
    {"reset midway", reset_midway, 20, 10, true, 64, false},
    {"form bombs", form_bomb, 20, 20, true, 4096, false},
    {"largest keys", largest_keys, 20, 20, true, 4096, false},
    {"deep trees", deep_trees, 20, 20, true, 4096, false},
    {"h2 idle", h2_idle, 1000, 1, false, 24, true},
    {"h2 settings flood", h2_settings, 5, 20, true, 64, true},
    {"h2 rapid reset", h2_rapid_reset, 5, 20, true, 128, true},
    {"h2 endless head", h2_endless_head, 20, 20, true, 256, true},
    {"h2 answers never read", h2_unread, 5, 20, true, 6144, true},
    {"h2 unfinished messages", h2_unfinished, 20, 4, true, 2048, true},
    {"v3 watchers, deaf", v3_deaf_watchers, 1000, 1, true, 96, true},
    {"json bombs", json_bomb, 20, 20, true, 4096, false},
};

/* --- The honest client. ------------------------------------------------- */

static struct {
    int64_t delays[DELAYS_MAX];
    size_t n, failed;
} honest;

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static double delay_ms(double part)
{
    size_t i = (size_t)(part * (double)honest.n);

    if (honest.n == 0)
        return 0;
    return (double)honest.delays[i < honest.n ? i : honest.n - 1] / NS_PER_MS;
}

/* One request and its answer, which is short and comes with its length. */
static bool exchange(int fd, const char *request)
{
    char answer[8192];
    size_t got = 0;

    if (send(fd, request, strlen(request), MSG_NOSIGNAL) < 0)
        return false;
    for (;;) {
        ssize_t r = recv(fd, answer + got, sizeof(answer) - 1 - got, 0);
        char *end, *length;

        if (r <= 0)
            return false;
        got += (size_t)r;
        answer[got] = '\0';
        end = strstr(answer, "\r\n\r\n");
        length = strstr(answer, "Content-Length: ");
        if (end && length &&
            got >= (size_t)(end + 4 - answer) + strtoul(length + 16, NULL, 10))
            return strncmp(answer, "HTTP/1.1 20", 11) == 0;
    }
}

static void honest_once(int *fd, unsigned number)
{
    static const char get[] = "GET /v2/keys/honest HTTP/1.1\r\nHost: x\r\n\r\n";
    static const char v3_get[] =
        "POST /v3/kv/range HTTP/1.1\r\nHost: x\r\nContent-Length: 18\r\n\r\n"
        "{\"key\":\"aG9uZXN0\"}";
    char put[512], v3_put[512];
    const char *const requests[] = {put, get, v3_put, v3_get};
    int64_t began = now_ns();
    struct timeval limit = {10, 0};
    bool ok;

    if (*fd < 0) {
        *fd = dial(0);
        setsockopt(*fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    }
    snprintf(put, sizeof(put),
             "PUT /v2/keys/honest HTTP/1.1\r\nHost: x\r\nContent-Length: 206"
             "\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n"
             "value=%0200u",
             number);
    snprintf(v3_put, sizeof(v3_put),
             "POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nContent-Length: 229\r\n"
             "\r\n{\"key\":\"aG9uZXN0\",\"value\":\"%0200u\"}",
             number);
    ok = exchange(*fd, requests[number % 4]);
    if (!ok) {
        honest.failed++;
        close(*fd);
        *fd = -1;
    }
    if (honest.n < DELAYS_MAX)
        honest.delays[honest.n++] = now_ns() - began;
}

/* Until the attack is over; a request each millisecond at most. */
static void *be_honest(void *arg)
{
    int fd = -1;

    (void)arg;
    honest.n = honest.failed = 0;
    for (unsigned i = 0; !__atomic_load_n(&w.stop, __ATOMIC_RELAXED); i++) {
        honest_once(&fd, i);
        sleep_ns(NS_PER_MS);
    }
    if (fd >= 0)
        close(fd);
    qsort(honest.delays, honest.n, sizeof(honest.delays[0]), by_size);
    return NULL;
}

/* --- The server's memory. ----------------------------------------------- */

static long server_kb(void)
{
    char path[64], line[256];
    long kb = -1;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/status", w.pid);
    f = fopen(path, "r");
    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "VmRSS: %ld kB", &kb) == 1)
            break;
    if (f)
        fclose(f);
    return kb;
}

/* --- The run. ----------------------------------------------------------- */

static void one_round(const struct attack *a, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct conn *c = &w.conns[i];

        if (c->fd < 0) {
            c->fd = dial(w.number + 1);
            c->at = 0;
            w.opened++;
            w.failed_to_open += c->fd < 0;
        }
        if (c->fd >= 0 && a->turn(c) < 0) {
            close(c->fd);
            c->fd = -1;
        }
    }
}

static void hang_up(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if (w.conns[i].fd >= 0)
            close(w.conns[i].fd);
        w.conns[i].fd = -1;
    }
}

/* Give the server a while to come back to what it needed before. */
static long settled_kb(long wanted_kb)
{
    int64_t until = now_ns() + 5 * NS_PER_S;
    long kb = server_kb();

    while (kb > wanted_kb && now_ns() < until) {
        sleep_ns(50 * NS_PER_MS);
        kb = server_kb();
    }
    return kb;
}

static bool expect(bool ok, const char *what)
{
    if (!ok)
        printf("    FAILED: %s\n", what);
    return ok;
}

/* Whose connections cost the server two descriptors are half as many at most. */
static unsigned conns_of(const struct attack *a)
{
    unsigned room = w.fds / 2 > 200 ? (unsigned)(w.fds / 2 - 200) : 1;

    return a->h2 && w.n > room ? room : w.n;
}

/* a NULL: only the honest client, for comparison. */
static bool run(const struct attack *a, double seconds, double usual_p99_ms)
{
    unsigned n = a ? (conns_of(a) + a->share - 1) / a->share : 0;
    long before = server_kb(), most = before, after;
    /* In a short run p99 is the worst that the machine did meanwhile. */
    double bound_ms = (seconds < 2    ? 1500
                       : a && a->busy ? 3000
                                      : 100) +
                      20 * usual_p99_ms;
    long grow_kb = 24 * 1024 + (a ? a->cost_kb * (long)n : 0);
    int64_t until;
    pthread_t thread;
    bool ok;

    if (grow_kb > BUDGET_KB + 24 * (long)n)
        grow_kb = BUDGET_KB + 24 * (long)n;
    w.opened = w.failed_to_open = 0;
    __atomic_store_n(&w.stop, 0, __ATOMIC_RELAXED);
    if (a)
        one_round(a, n); /* all of them are there before we look */
    if (pthread_create(&thread, NULL, be_honest, NULL) != 0)
        return false;
    until = now_ns() + (int64_t)(seconds * NS_PER_S);
    while (now_ns() < until) {
        int64_t began = now_ns(), pace = a ? a->pace_ms : 10;
        long kb;

        if (a)
            one_round(a, n);
        kb = server_kb();
        most = kb > most ? kb : most;
        pace = pace * NS_PER_MS - (now_ns() - began);
        sleep_ns(pace < until - now_ns() ? pace : until - now_ns());
    }
    __atomic_store_n(&w.stop, 1, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    hang_up(n);
    after = settled_kb(before + 8 * 1024);

    printf("%-26s %6u %7ld %7zu  %7.2f %8.2f %9.2f  %7ld %7ld %7ld\n",
           a ? a->name : "(nobody else)", n, w.opened, honest.n, delay_ms(0.5),
           delay_ms(0.99), delay_ms(1), before / 1024, most / 1024,
           after / 1024);
    fflush(stdout);
    ok = expect(honest.failed == 0, "an honest request failed");
    ok = expect(honest.n > 0, "the honest client was not served") && ok;
    ok = expect(before > 0 && after > 0, "the server is gone") && ok;
    if (w.sanitized || !a)
        return ok;
    ok = expect(w.failed_to_open == 0, "connections were refused") && ok;
    ok = expect(delay_ms(0.99) <= bound_ms, "it waited too long") && ok;
    ok = expect(most - before <= grow_kb, "the server grew too much") && ok;
    return expect(after - before <= 32 * 1024 + (most - before) / 2,
                  "its memory did not come back") &&
           ok;
}

/* How many connections are possible: said if it is less than was asked for. */
static unsigned allowed(unsigned n)
{
    struct rlimit l;

    w.fds = 2 * (n + 200);
    if (getrlimit(RLIMIT_NOFILE, &l) < 0)
        return n;
    l.rlim_cur = l.rlim_max;
    setrlimit(RLIMIT_NOFILE, &l);
    if (l.rlim_cur < w.fds)
        w.fds = l.rlim_cur;
    if (l.rlim_cur == RLIM_INFINITY || l.rlim_cur >= n + 200)
        return n;
    printf("only %u connections: the hard limit of open files is %lu\n",
           (unsigned)l.rlim_cur - 200, (unsigned long)l.rlim_cur);
    return (unsigned)l.rlim_cur - 200;
}

int main(int argc, char **argv)
{
    double seconds, usual;
    bool ok;

    if (argc < 5) {
        fprintf(stderr, "usage: hostiletool PID PORT CONNECTIONS SECONDS "
                        "[ATTACK]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    w.pid = atoi(argv[1]);
    w.port = atoi(argv[2]);
    w.sanitized = getenv("SAN") && *getenv("SAN");
    w.n = allowed((unsigned)atoi(argv[3]));
    seconds = atof(argv[4]);
    w.conns = calloc(w.n, sizeof(*w.conns));
    if (!w.conns)
        return 2;
    for (unsigned i = 0; i < w.n; i++)
        w.conns[i].fd = -1;

    printf("%-26s %6s %7s %7s  %7s %8s %9s  %7s %7s %7s\n", "", "conns",
           "opened", "honest", "p50 ms", "p99", "max", "MB", "most", "after");
    ok = run(NULL, seconds, 0);
    usual = delay_ms(0.99);
    for (w.number = 0; w.number < ARRAY_LEN(attacks); w.number++)
        if (argc < 6 || strcmp(argv[5], attacks[w.number].name) == 0)
            ok = run(&attacks[w.number], seconds, usual) && ok;
    free(w.conns);
    return ok ? 0 : 1;
}
