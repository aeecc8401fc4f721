/*
 * client.c - an HTTP/1.1 client on one connection.
 *
 * An answer is read as http.c reads requests: one buffer that keeps the head,
 * bodies straight to where the caller wants them. A connection is used again
 * if both sides agree that the answer has ended and that another may follow.
 *
 * The stream is owned by the thread that uses the client; the lock is there
 * for the guard alone, which must find a stream that is not being closed or
 * replaced in the same moment.
 */
#include "client.h"
#include "net.h"
#include "sys.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define BODY_MAX (64u * 1024 * 1024)
#define BODY_STEP 65536
#define IN_SIZE 16384
#define CHUNK_END 2 /* bytes behind what a chunk holds */

struct client {
    pthread_mutex_t mu;
    struct net_stream *stream; /* mu to change it; NULL: none */
    bool interrupted;          /* mu to change it; read by atomic loads */

    struct client_guard *guard;
    struct client *prev, *next; /* guard->mu: its list */

    struct http_in in;
    struct http_head head;
    bool keep;        /* the connection may carry another request */
    bool chunked_out; /* the body that client_write() sends */
    bool is_head;     /* asked with HEAD: no body comes */
    int64_t deadline_ns;
    size_t body_max;
};

/* --- Guards. ------------------------------------------------------------ */

void client_guard_init(struct client_guard *g)
{
    *g = (struct client_guard){.first = NULL};
    pthread_mutex_init(&g->mu, NULL);
}

void client_guard_release(struct client_guard *g)
{
    assert(!g->first);
    pthread_mutex_destroy(&g->mu);
}

static void guard_enter(struct client_guard *g, struct client *c)
{
    c->guard = g;
    if (!g)
        return;
    pthread_mutex_lock(&g->mu);
    c->interrupted = g->closed;
    c->next = g->first;
    if (c->next)
        c->next->prev = c;
    g->first = c;
    pthread_mutex_unlock(&g->mu);
}

static void guard_leave(struct client *c)
{
    if (!c->guard)
        return;
    pthread_mutex_lock(&c->guard->mu);
    if (c->prev)
        c->prev->next = c->next;
    else
        c->guard->first = c->next;
    if (c->next)
        c->next->prev = c->prev;
    pthread_mutex_unlock(&c->guard->mu);
}

static void interrupt(struct client *c)
{
    pthread_mutex_lock(&c->mu);
    __atomic_store_n(&c->interrupted, true, __ATOMIC_RELAXED);
    if (c->stream)
        net_shutdown(c->stream);
    pthread_mutex_unlock(&c->mu);
}

static void end_requests(struct client_guard *g, bool for_good)
{
    pthread_mutex_lock(&g->mu);
    g->closed |= for_good;
    for (struct client *c = g->first; c; c = c->next)
        interrupt(c);
    pthread_mutex_unlock(&g->mu);
}

void client_guard_interrupt(struct client_guard *g)
{
    end_requests(g, false);
}

void client_guard_close(struct client_guard *g)
{
    end_requests(g, true);
}

/* --- Connecting. -------------------------------------------------------- */

static int64_t deadline_after(int64_t ms)
{
    return ms ? sys_mono_ns() + ms * NS_PER_MS : 0;
}

static int64_t earlier(int64_t a, int64_t b)
{
    if (!a || !b)
        return a ? a : b;
    return a < b ? a : b;
}

static int dial_code(const struct err *e)
{
    return e->code == NET_ETIMEOUT ? CLIENT_ETIMEOUT : CLIENT_EDIAL;
}

/* Give c another stream (or none) in place of its own. */
static int replace_stream(struct client *c, struct net_stream *s, struct err *e)
{
    struct net_stream *old;
    bool interrupted;

    pthread_mutex_lock(&c->mu);
    interrupted = c->interrupted;
    old = c->stream;
    c->stream = interrupted ? NULL : s;
    pthread_mutex_unlock(&c->mu);

    net_close(old);
    c->in.stream = c->stream;
    c->in.pos = c->in.buf.len = 0;
    c->in.framing = HTTP_BROKEN;
    c->in.code = HTTP_EBODY_IO;
    c->keep = false;
    if (!interrupted)
        return 0;
    net_close(s);
    return err_set(e, CLIENT_EIO, "request canceled");
}

/* A handshake has its own time: connecting is quick or fails. */
static int64_t tls_deadline(const struct client_request *r,
                            const struct client *c)
{
    int64_t ms = r->dial_ms > SECURE_HANDSHAKE_MS || !r->dial_ms
                     ? SECURE_HANDSHAKE_MS
                     : r->dial_ms;

    return earlier(deadline_after(ms), c->deadline_ns);
}

static int dial(struct client *c, const struct client_request *r, struct err *e)
{
    int64_t deadline = earlier(deadline_after(r->dial_ms), c->deadline_ns);
    struct net_stream *s;
    struct err why;
    int rc;

    replace_stream(c, NULL, NULL);
    s = net_dial(r->base, deadline, &c->interrupted, &why);
    if (!s)
        return err_set(e, dial_code(&why), "%s", why.msg);
    rc = replace_stream(c, s, e); /* the guard may end a handshake, too */
    if (rc < 0 || !url_is_tls(r->base))
        return rc;
    if (secure_connect(r->secure, s, r->base, tls_deadline(r, c), &why) == 0)
        return 0;
    replace_stream(c, NULL, NULL);
    return err_set(e, dial_code(&why), "%s", why.msg);
}

/* --- Sending. ----------------------------------------------------------- */

/* What went wrong on the wire, after NET_E* with errno set. An alert is no failure
 * of the connection, for Go's clients. */
static int wire_error(const struct client *c, const char *verb, ssize_t code,
                      struct err *e)
{
    bool late = code == NET_ETIMEOUT;
    const char *why = late ? "i/o timeout" : net_trouble(c->stream);

    if (str_has_prefix(str_of(why), "remote error: "))
        return err_set(e, CLIENT_EIO, "%s", why);
    return err_set(e, late ? CLIENT_ETIMEOUT : CLIENT_EIO, "%s tcp %s: %s",
                   verb, net_peer_name(c->stream), why);
}

static void add_host(struct buf *b, const struct url *u)
{
    bool v6 = !url_is_unix(u) && strchr(u->host, ':');

    buf_printf(b, v6 ? "Host: [%s]" : "Host: %s", u->host);
    if (u->port[0])
        buf_printf(b, ":%s", u->port);
    buf_adds(b, "\r\n");
}

static bool wants_length(const char *method)
{
    return strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0 ||
           strcmp(method, "PATCH") == 0;
}

/* n: bytes of the body, -1 for chunked. */
static void add_head(struct buf *b, const struct client_request *r, int64_t n,
                     bool once)
{
    buf_printf(b, "%s %s HTTP/1.1\r\n", r->method, r->target);
    add_host(b, r->base);
    if (r->headers)
        buf_adds(b, r->headers);
    if (n < 0)
        buf_adds(b, "Transfer-Encoding: chunked\r\n");
    else if (n > 0 || wants_length(r->method))
        buf_printf(b, "Content-Length: %" PRId64 "\r\n", n);
    if (once)
        buf_adds(b, "Connection: close\r\n");
    buf_adds(b, "\r\n");
}

/* Send the head and what there is of the body. */
static int send_request(struct client *c, const struct client_request *r,
                        int64_t n, bool once, struct err *e)
{
    struct buf head = {0};
    struct iovec iov[2];
    int rc;

    add_head(&head, r, n, once);
    iov[0].iov_base = head.data;
    iov[0].iov_len = head.len;
    iov[1].iov_base = (void *)(uintptr_t)r->body;
    iov[1].iov_len = r->body ? r->n_body : 0;
    c->chunked_out = n < 0;
    c->is_head = strcmp(r->method, "HEAD") == 0;
    c->body_max = r->body_max ? r->body_max : BODY_MAX;
    c->keep = false; /* until the answer says so */
    rc = net_writev(c->stream, iov, 2, c->deadline_ns);
    buf_release(&head);
    return rc < 0 ? wire_error(c, "write", rc, e) : 0;
}

/* --- The answer. -------------------------------------------------------- */

/* Where the body of this answer ends (RFC 9112, 6.3). */
static void frame_body(struct client *c)
{
    const struct http_head *h = &c->head;

    if (c->is_head || h->status == 204 || h->status == 304)
        http_in_body(&c->in, HTTP_NO_BODY, 0);
    else if (h->chunked)
        http_in_body(&c->in, HTTP_CHUNKED, 0);
    else if (h->content_length >= 0)
        http_in_body(&c->in, HTTP_LENGTH, (uint64_t)h->content_length);
    else
        http_in_body(&c->in, HTTP_TO_CLOSE, 0);
    c->keep = h->keep_alive && c->in.framing != HTTP_TO_CLOSE;
}

/* Read the head of the answer, past any 100 Continue. *began: bytes came. */
static int read_head(struct client *c, bool *began, struct err *e)
{
    const char *why;
    int rc;

    *began = false;
    do {
        rc = http_in_head(&c->in, false, &c->head, c->deadline_ns, 0, &why);
        *began |= rc > 0 || !http_in_empty(&c->in);
    } while (rc > 0 && c->head.status < 200 && c->head.status != 101);
    if (rc > 0) {
        frame_body(c);
        return 0;
    }

    c->in.framing = HTTP_BROKEN;
    c->in.code = HTTP_EBODY_IO;
    if (rc == 0)
        return err_set(e, CLIENT_EIO, "EOF");
    if (rc <= -400)
        return err_set(e, CLIENT_EIO,
                       "net/http: HTTP/1.x transport connection"
                       " broken: %s",
                       why);
    return wire_error(c, "read", rc, e);
}

ssize_t client_read(struct client *c, void *p, size_t n, int64_t deadline_ns)
{
    ssize_t r = http_in_read(&c->in, p, n, deadline_ns);

    if (r >= 0)
        return r;
    return r == HTTP_EBODY_TIMEOUT ? CLIENT_ETIMEOUT : CLIENT_EIO;
}

void client_set_read_ms(struct client *c, int64_t read_ms)
{
    net_set_timeouts(c->stream, read_ms, 0);
}

bool client_has_more(const struct client *c)
{
    const struct buf *b = &c->in.buf;

    return b->len - c->in.pos > CHUNK_END || b->len == b->cap ||
           net_buffered(c->stream);
}

int client_read_full(struct client *c, void *p, size_t n, int64_t deadline_ns)
{
    uint8_t *to = p;

    while (n > 0) {
        ssize_t r = client_read(c, to, n, deadline_ns);

        if (r <= 0)
            return r < 0 ? (int)r : CLIENT_EIO;
        to += r;
        n -= (size_t)r;
    }
    return 0;
}

/* The whole body into b. */
static int read_body(struct client *c, struct buf *b, struct err *e)
{
    while (c->in.framing != HTTP_NO_BODY) {
        ssize_t r;

        if (b->len > c->body_max ||
            (c->in.framing == HTTP_LENGTH && c->in.left > c->body_max - b->len))
            return err_set(e, CLIENT_ELARGE,
                           "response body is larger than %zu bytes",
                           c->body_max);
        if (c->in.framing == HTTP_LENGTH)
            buf_reserve(b, (size_t)min_u64(c->in.left, BODY_STEP));
        else
            buf_reserve(b, IN_SIZE);
        r = client_read(c, b->data + b->len, b->cap - b->len, c->deadline_ns);
        if (r < 0)
            return err_set(e, (int)r, "%s",
                           r == CLIENT_ETIMEOUT
                               ? "i/o timeout while reading the body"
                               : c->in.why);
        b->len += (size_t)r;
    }
    return 0;
}

/* The body, and head and all, for the caller to own. */
static int take_response(struct client *c, struct client_response *out,
                         struct err *e)
{
    struct buf body = {0};
    int rc = read_body(c, &body, e);

    if (rc < 0) {
        buf_release(&body);
        return rc;
    }
    out->status = c->head.status;
    out->body = body;
    out->head = c->head;
    out->head_bytes = c->in.buf; /* the same memory: the strings stay valid */
    c->head = (struct http_head){0};
    c->in.buf = (struct buf){0};
    c->in.pos = c->in.body = 0;
    return 0;
}

void client_response_release(struct client_response *r)
{
    http_head_release(&r->head);
    buf_release(&r->head_bytes);
    buf_release(&r->body);
    r->status = 0;
}

/* --- Exchanges. --------------------------------------------------------- */

static int64_t body_len(const struct client_request *r)
{
    return r->body ? (int64_t)r->n_body : 0;
}

/* A connected client that has sent r's head, and the body if there is one. */
static int begin(const struct client_request *r, int64_t n, bool once,
                 struct client **out, struct err *e)
{
    struct client *c = xcalloc(1, sizeof(*c));
    int rc;

    pthread_mutex_init(&c->mu, NULL);
    guard_enter(r->guard, c);
    c->in.size = IN_SIZE;
    c->deadline_ns = deadline_after(r->timeout_ms);
    rc = dial(c, r, e);
    if (rc == 0)
        rc = send_request(c, r, n, once, e);
    if (rc < 0) {
        client_close(c);
        return rc;
    }
    *out = c;
    return 0;
}

static int open_exchange(const struct client_request *r, bool once,
                         struct client **out, struct err *e)
{
    struct client *c;
    bool began;
    int rc = begin(r, body_len(r), once, &c, e);

    if (rc < 0)
        return rc;
    rc = read_head(c, &began, e);
    if (rc < 0) {
        client_close(c);
        return rc;
    }
    *out = c;
    return 0;
}

int client_do(const struct client_request *r, struct client_response *out,
              struct err *e)
{
    struct client *c;
    int rc = open_exchange(r, true, &c, e);

    if (rc < 0)
        return rc;
    rc = take_response(c, out, e);
    client_close(c);
    return rc;
}

int client_open(const struct client_request *r, struct client **out,
                struct err *e)
{
    return open_exchange(r, false, out, e);
}

static bool is_replayable(const char *method)
{
    return strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0 ||
           strcmp(method, "OPTIONS") == 0;
}

int client_again(struct client *c, const struct client_request *r,
                 struct err *e)
{
    bool reuse = c->stream && c->keep && c->in.framing == HTTP_NO_BODY &&
                 http_in_empty(&c->in) && !net_stale(c->stream);
    bool began = false;
    int rc;

    c->deadline_ns = deadline_after(r->timeout_ms);
    if (reuse) {
        rc = send_request(c, r, body_len(r), false, e);
        if (rc == 0)
            rc = read_head(c, &began, e);
        if (rc != CLIENT_EIO || began || !is_replayable(r->method))
            return rc;
    }
    rc = dial(c, r, e);
    if (rc == 0)
        rc = send_request(c, r, body_len(r), false, e);
    return rc < 0 ? rc : read_head(c, &began, e);
}

int client_status(const struct client *c)
{
    return c->head.status;
}

const struct http_head *client_head(const struct client *c)
{
    return &c->head;
}

void client_close(struct client *c)
{
    if (!c)
        return;
    guard_leave(c);
    net_close(c->stream);
    http_in_release(&c->in);
    http_head_release(&c->head);
    pthread_mutex_destroy(&c->mu);
    free(c);
}

/* --- Bodies written piecewise. ------------------------------------------ */

int client_begin(const struct client_request *r, int64_t n_body_total,
                 struct client **out, struct err *e)
{
    struct client_request head = *r;

    head.body = NULL;
    return begin(&head, n_body_total, false, out, e);
}

int client_write(struct client *c, const void *p, size_t n, int64_t deadline_ns)
{
    char size[24];
    struct iovec iov[3] = {{.iov_base = size},
                           {.iov_base = (void *)(uintptr_t)p, .iov_len = n},
                           {.iov_base = (char[]){"\r\n"}, .iov_len = 2}};
    int rc;

    if (n == 0)
        return 0; /* an empty chunk would be the end */
    if (!c->chunked_out) {
        rc = net_write(c->stream, p, n, deadline_ns);
    } else {
        iov[0].iov_len = (size_t)snprintf(size, sizeof(size), "%zx\r\n", n);
        rc = net_writev(c->stream, iov, 3, deadline_ns);
    }
    if (rc == 0)
        return 0;
    return rc == NET_ETIMEOUT ? CLIENT_ETIMEOUT : CLIENT_EIO;
}

int client_finish(struct client *c, struct client_response *out, struct err *e)
{
    bool began;
    int rc;

    if (c->chunked_out) /* if that fails, the answer may say why */
        (void)net_write(c->stream, "0\r\n\r\n", 5, c->deadline_ns);
    rc = read_head(c, &began, e);
    return rc < 0 ? rc : take_response(c, out, e);
}
