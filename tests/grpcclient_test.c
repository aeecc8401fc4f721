/*
 * grpcclient_test.c - the gRPC client against servers of ours that answer, do
 * not, refuse, hang up and forget tokens, each as its method's name says.
 */
#include "check.h"
#include "grpcclient.h"
#include "http2.h"
#include "net.h"
#include "pb.h"
#include "sys.h"

#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define LIMIT_MS 30000 /* for a call; beyond it hangs */

/* --- A server. ------------------------------------------------------------------- */

#define BIG (3 * 1024 * 1024)

struct server {
    struct net_listener l;
    pthread_t thread;
    char url[64];
    unsigned calls, logins; /* atomic */
    unsigned token;         /* atomic: the valid one is "t<token>" */
    bool refuse;            /* atomic: once */
};

/* A call on a connection. */
struct serving {
    struct server *s;
    struct h2 *h2;
    struct {
        uint32_t id;
        char path[32];
        bool right_token;
        struct buf in;
    } calls[8];
    bool hang_up;
};

static const struct hpack_field head[] = {
    HPACK_FIELD(":status", "200"),
    HPACK_FIELD("content-type", "application/grpc")};

static void finish(struct h2 *c, uint32_t id, const char *status,
                   const char *text)
{
    struct hpack_field trailers[] = {
        {STR("grpc-status"), str_of(status), HPACK_AUTO},
        {STR("grpc-message"), str_of(text), HPACK_AUTO}};

    h2_end(c, id, trailers, ARRAY_LEN(trailers));
}

static void send_message(struct h2 *c, uint32_t id, const void *p, size_t n)
{
    struct buf b = {0};
    uint8_t prefix[GRPC_PREFIX];

    grpc_put_prefix(prefix, (uint32_t)n, false);
    buf_add(&b, prefix, sizeof(prefix));
    buf_add(&b, p, n);
    h2_send(c, id, b.data, b.len);
    buf_release(&b);
}

static unsigned count(unsigned *n)
{
    return __atomic_add_fetch(n, 1, __ATOMIC_RELAXED);
}

static void authenticate(struct serving *v, uint32_t id)
{
    struct buf b = {0};
    char token[16];

    snprintf(token, sizeof(token), "t%u",
             __atomic_load_n(&v->s->token, __ATOMIC_RELAXED));
    count(&v->s->logins);
    pb_add_str(&b, 2, str_of(token));
    h2_headers(v->h2, id, head, ARRAY_LEN(head), false);
    send_message(v->h2, id, b.data, b.len);
    finish(v->h2, id, "0", "");
    buf_release(&b);
}

/* The request is complete: in is its message, without the prefix. */
static void answer(struct serving *v, size_t i)
{
    const char *path = v->calls[i].path;
    uint32_t id = v->calls[i].id;
    struct buf *in = &v->calls[i].in;
    struct h2 *c = v->h2;

    count(&v->s->calls);
    if (strcmp(path, "/etcdserverpb.Auth/Authenticate") == 0) {
        authenticate(v, id);
    } else if (strcmp(path, "/t/Late") == 0) {
        return;
    } else if (strcmp(path, "/t/Die") == 0) {
        v->hang_up = true;
    } else if (strcmp(path, "/t/Refuse") == 0 &&
               __atomic_exchange_n(&v->s->refuse, false, __ATOMIC_RELAXED)) {
        h2_reset(c, id, H2_REFUSED_STREAM);
    } else if (strcmp(path, "/t/Busy") == 0) {
        h2_headers(c, id, head, ARRAY_LEN(head), false);
        finish(c, id, "14", "etcdserver: no leader");
    } else if (strcmp(path, "/t/Fail") == 0) {
        h2_headers(c, id, head, ARRAY_LEN(head), false);
        finish(c, id, "5", "caf%C3%A9: none");
    } else if (strcmp(path, "/t/Token") == 0 && !v->calls[i].right_token) {
        h2_headers(c, id, head, ARRAY_LEN(head), false);
        finish(c, id, "16", "etcdserver: invalid auth token");
    } else {
        h2_headers(c, id, head, ARRAY_LEN(head), false);
        if (strcmp(path, "/t/Big") == 0) {
            void *big = xcalloc(1, BIG);

            send_message(c, id, big, BIG);
            free(big);
        } else if (strcmp(path, "/t/Stream") != 0) {
            send_message(c, id, in->data + GRPC_PREFIX, in->len - GRPC_PREFIX);
        }
        finish(c, id, "0", "");
    }
}

static size_t call_of(struct serving *v, uint32_t id)
{
    return id / 2 % ARRAY_LEN(v->calls);
}

static void on_head(struct serving *v, const struct h2_event *ev)
{
    size_t i = call_of(v, ev->stream);
    struct str token = h2_field(ev, "token");
    char right[16];

    snprintf(right, sizeof(right), "t%u",
             __atomic_load_n(&v->s->token, __ATOMIC_RELAXED));
    v->calls[i].id = ev->stream;
    v->calls[i].right_token = token.p && str_eqz(token, right);
    snprintf(v->calls[i].path, sizeof(v->calls[i].path), "%.*s",
             STR_FMT(ev->path));
    buf_clear(&v->calls[i].in);
    if (strcmp(v->calls[i].path, "/t/Stream") == 0)
        h2_headers(v->h2, ev->stream, head, ARRAY_LEN(head), false);
}

static void on_event(struct serving *v, const struct h2_event *ev)
{
    size_t i = call_of(v, ev->stream);

    if (ev->type == H2_HEADERS)
        on_head(v, ev);
    if (ev->type == H2_DATA) {
        h2_consumed(v->h2, ev->stream, ev->n);
        if (strcmp(v->calls[i].path, "/t/Stream") == 0)
            h2_send(v->h2, ev->stream, ev->data, ev->n);
        else
            buf_add(&v->calls[i].in, ev->data, ev->n);
    }
    if ((ev->type == H2_HEADERS || ev->type == H2_DATA) && ev->end) {
        if (strcmp(v->calls[i].path, "/t/Stream") == 0)
            finish(v->h2, ev->stream, "0", "");
        else
            answer(v, i);
    }
}

static void flush_all(struct serving *v, struct net_stream *net)
{
    struct iovec *iov, copy[64];
    int n;

    while ((n = h2_output(v->h2, 65536, &iov)) > 0) {
        size_t total = 0;

        n = n < 64 ? n : 64;
        memcpy(copy, iov, (size_t)n * sizeof(*copy));
        for (int i = 0; i < n; i++)
            total += iov[i].iov_len;
        if (net_writev(net, copy, n, 0) != 0)
            return;
        h2_sent(v->h2, total);
    }
}

struct door {
    struct server *s;
    struct net_stream *net;
};

static void *serve_one(void *arg)
{
    struct door *d = arg;
    struct h2_options o = {.server = true};
    struct serving v = {.s = d->s, .h2 = h2_new(&o, sys_mono_ns())};
    uint8_t in[H2_INPUT_MAX * 2];
    size_t have = 0;
    ssize_t n = 1;

    while (!v.hang_up && n > 0) {
        struct h2_event ev;
        size_t at = 0, used;

        flush_all(&v, d->net);
        n = net_read(d->net, in + have, sizeof(in) - have, 0);
        have += n > 0 ? (size_t)n : 0;
        do {
            used = h2_receive(v.h2, in + at, have - at, sys_mono_ns(), &ev);
            at += used;
            on_event(&v, &ev);
        } while (ev.type != H2_NONE || used > 0);
        memmove(in, in + at, have - at);
        have -= at;
    }
    net_close(d->net);
    h2_free(v.h2);
    for (size_t i = 0; i < ARRAY_LEN(v.calls); i++)
        buf_release(&v.calls[i].in);
    free(d);
    return NULL;
}

static void *accept_loop(void *arg)
{
    struct server *s = arg;
    bool again;

    for (;;) {
        struct net_stream *net = net_accept(&s->l, &again);
        struct door *d;

        if (!net && !again)
            return NULL;
        if (!net)
            continue;
        d = xcalloc(1, sizeof(*d));
        *d = (struct door){s, net};
        sys_thread_detached(SYS_STACK_LARGE, serve_one, d);
    }
}

static void server_run(struct server *s, void *(*loop)(void *), void *arg)
{
    struct url u;
    struct err e;

    *s = (struct server){0};
    CHECK(url_parse(STR("http://127.0.0.1:0"), &u, &e) == 0);
    CHECK(net_listen(&u, NULL, &s->l, &e) == 0);
    snprintf(s->url, sizeof(s->url), "127.0.0.1:%s", s->l.url.port);
    url_release(&u);
    sys_thread(&s->thread, SYS_STACK_LARGE, loop, arg);
}

static void server_start(struct server *s)
{
    server_run(s, accept_loop, s);
}

static void server_stop(struct server *s)
{
    net_listener_shutdown(&s->l);
    pthread_join(s->thread, NULL);
    net_listener_close(&s->l);
}

/* --- Clients. ------------------------------------------------------------------------ */

static struct grpc_client *client_of(const char *a, const char *b,
                                     const char *user)
{
    const char *endpoints[] = {a, b};
    struct grpc_client_options o = {
        .endpoints = endpoints,
        .n_endpoints = b ? 2 : 1,
        .dial_ns = NS_PER_S,
        .user = user,
        .password = "pw",
        .conn.keepalive_ns = 2 * NS_PER_S,
        .conn.keepalive_timeout_ns = NS_PER_S,
    };
    struct err e;
    struct grpc_client *c = grpc_client_new(&o, &e);

    CHECK(c != NULL);
    return c;
}

static struct err last;

static int call(struct grpc_client *c, const char *path, enum grpc_kind kind,
                int64_t ms)
{
    struct buf in = {0};
    int rc = grpc_client_call(c, path, kind, STR("hello"),
                              sys_mono_ns() + ms * NS_PER_MS, &in, &last);

    if (rc == GRPC_OK && strcmp(path, "/t/Big") == 0)
        CHECK(in.len == BIG);
    else if (rc == GRPC_OK)
        CHECK(str_eqz(buf_str(&in), "hello"));
    buf_release(&in);
    return rc;
}

static unsigned calls_of(struct server *s)
{
    return __atomic_exchange_n(&s->calls, 0, __ATOMIC_RELAXED);
}

static void test_unary(struct server *s)
{
    struct grpc_client *c = client_of(s->url, NULL, NULL);
    int64_t began;

    CHECK(call(c, "/t/Echo", GRPC_WRITES, LIMIT_MS) == GRPC_OK);
    CHECK(call(c, "/t/Big", GRPC_READS, LIMIT_MS) == GRPC_OK);
    CHECK(call(c, "/t/Fail", GRPC_WRITES, LIMIT_MS) == GRPC_NOT_FOUND);
    CHECK_STR(last.msg, "caf\xc3\xa9: none");
    began = sys_mono_ns();
    CHECK(call(c, "/t/Late", GRPC_READS, 50) == GRPC_DEADLINE_EXCEEDED);
    CHECK_STR(last.msg, "context deadline exceeded");
    CHECK(sys_mono_ns() - began < 2 * NS_PER_S);
    grpc_client_close(c);
}

/* What may be sent twice, and what must not be. */
static void test_retries(struct server *a, struct server *b)
{
    struct grpc_client *c = client_of(a->url, b->url, NULL);

    calls_of(a);
    calls_of(b);
    CHECK(call(c, "/t/Busy", GRPC_WRITES, LIMIT_MS) == GRPC_UNAVAILABLE);
    CHECK_STR(last.msg, "etcdserver: no leader");
    CHECK(calls_of(a) + calls_of(b) == 1);
    CHECK(call(c, "/t/Busy", GRPC_READS, 200) == GRPC_DEADLINE_EXCEEDED);
    CHECK(calls_of(a) >= 1 && calls_of(b) >= 1);

    CHECK(call(c, "/t/Die", GRPC_WRITES, LIMIT_MS) == GRPC_UNAVAILABLE);
    CHECK(calls_of(a) + calls_of(b) == 1);

    __atomic_store_n(&a->refuse, true, __ATOMIC_RELAXED);
    __atomic_store_n(&b->refuse, true, __ATOMIC_RELAXED);
    CHECK(call(c, "/t/Refuse", GRPC_WRITES, LIMIT_MS) == GRPC_OK);
    CHECK(calls_of(a) + calls_of(b) == 3);
    grpc_client_close(c);
}

static void test_dead_endpoint(struct server *s)
{
    struct grpc_client *c = client_of("127.0.0.1:1", s->url, NULL);
    struct buf why = {0};

    CHECK(call(c, "/t/Echo", GRPC_WRITES, LIMIT_MS) == GRPC_OK);
    grpc_client_close(c);
    c = client_of("127.0.0.1:1", NULL, NULL);
    CHECK(call(c, "/t/Echo", GRPC_READS, 100) == GRPC_DEADLINE_EXCEEDED);
    grpc_client_why(c, &why);
    CHECK_STR(buf_z(&why), "dial tcp 127.0.0.1:1: connect: connection refused");
    buf_release(&why);
    grpc_client_close(c);
}

static void test_tokens(struct server *s)
{
    struct grpc_client *c = client_of(s->url, NULL, "root");

    CHECK(call(c, "/t/Token", GRPC_WRITES, LIMIT_MS) == GRPC_OK);
    CHECK(call(c, "/t/Token", GRPC_WRITES, LIMIT_MS) == GRPC_OK);
    CHECK(__atomic_load_n(&s->logins, __ATOMIC_RELAXED) == 1);
    __atomic_add_fetch(&s->token, 1, __ATOMIC_RELAXED); /* it restarted */
    CHECK(call(c, "/t/Token", GRPC_WRITES, LIMIT_MS) == GRPC_OK);
    CHECK(__atomic_load_n(&s->logins, __ATOMIC_RELAXED) == 2);
    grpc_client_close(c);
    c = client_of(s->url, NULL, NULL);
    CHECK(call(c, "/t/Token", GRPC_WRITES, LIMIT_MS) == GRPC_UNAUTHENTICATED);
    grpc_client_close(c);
}

static void test_streams(struct server *s)
{
    struct grpc_client *c = client_of(s->url, NULL, NULL);
    struct grpc_stream *one, *two;
    struct buf m = {0};
    struct err e;

    CHECK(grpc_client_stream(c, "/t/Stream", 0, &one, &e) == GRPC_OK);
    CHECK(grpc_client_stream(c, "/t/Stream", 0, &two, &e) == GRPC_OK);
    CHECK(grpc_stream_read(one, &m, sys_mono_ns() + 20 * NS_PER_MS, &e) ==
          GRPC_STREAM_WAIT);
    for (int i = 0; i < 100; i++) {
        char text[16];

        snprintf(text, sizeof(text), "%d", i);
        grpc_stream_send(one, str_of(text), GRPC_MORE);
        grpc_stream_send(two, STR(""), GRPC_MORE);
        CHECK(grpc_stream_read(one, &m, 0, &e) == GRPC_OK);
        CHECK(str_eqz(buf_str(&m), text));
        CHECK(grpc_stream_read(two, &m, 0, &e) == GRPC_OK && m.len == 0);
    }
    grpc_stream_end(one);
    CHECK(grpc_stream_read(one, &m, 0, &e) == GRPC_STREAM_END);
    grpc_stream_close(one);
    grpc_stream_close(two); /* in the midst of it */
    CHECK(call(c, "/t/Echo", GRPC_WRITES, LIMIT_MS) == GRPC_OK);
    buf_release(&m);
    grpc_client_close(c);
}

/* --- What is no gRPC server. ----------------------------------------------------- */

struct alien {
    struct server s;
    struct str text; /* what it says to everyone before it hangs up */
};

static void *say_text(void *arg)
{
    struct alien *a = arg;
    bool again;

    for (;;) {
        struct net_stream *net = net_accept(&a->s.l, &again);

        if (!net && !again)
            return NULL;
        if (net)
            net_write(net, a->text.p, a->text.n, 0);
        net_close(net);
    }
}

/* Alone, an alien fails a call with alone; a write goes on to the next endpoint. */
static void check_alien(struct server *good, struct str text, int alone)
{
    struct alien a = {.text = text};
    struct grpc_client *c;

    server_run(&a.s, say_text, &a);
    c = client_of(a.s.url, NULL, NULL);
    CHECK(call(c, "/t/Echo", GRPC_WRITES, 300) == alone);
    CHECK(grpc_client_alien(c) == (alone == GRPC_UNIMPLEMENTED));
    grpc_client_close(c);
    c = client_of(a.s.url, good->url, NULL);
    CHECK(call(c, "/t/Echo", GRPC_WRITES, LIMIT_MS) == GRPC_OK);
    CHECK(!grpc_client_alien(c));
    grpc_client_close(c);
    server_stop(&a.s);
}

static void test_aliens(struct server *good)
{
    static const char http[] = "HTTP/1.1 505 HTTP Version Not Supported\r\n"
                               "Content-Length: 0\r\n\r\n";
    static const char alert[] = "\x15\3\1\0\2\2\x46";

    check_alien(good, str_of(http), GRPC_UNIMPLEMENTED);
    check_alien(good, (struct str){alert, sizeof(alert) - 1},
                GRPC_DEADLINE_EXCEEDED);
    check_alien(good, STR(""), GRPC_DEADLINE_EXCEEDED);
}

int main(void)
{
    struct server a, b;

    server_start(&a);
    server_start(&b);
    test_unary(&a);
    test_retries(&a, &b);
    test_dead_endpoint(&a);
    test_tokens(&a);
    test_streams(&a);
    test_aliens(&a);
    server_stop(&a);
    server_stop(&b);
    return check_done("grpcclient");
}
