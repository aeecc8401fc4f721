/*
 * gcall.c - see gcall.h.
 */
#include "gcall.h"
#include "grpc.h"
#include "sys.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define FIELDS_MAX 16

void gc_open(struct gc *c, uint16_t port, uint32_t window)
{
    struct sockaddr_in sa = {.sin_family = AF_INET,
                             .sin_port = htons(port),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int on = 1;

    *c = (struct gc){.fd = socket(AF_INET, SOCK_STREAM, 0), .window = window};
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
        abort();
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    c->h2 = h2_new(
        &(struct h2_options){.window_stream = window, .window_conn = 1 << 30},
        sys_mono_ns());
}

void gc_close(struct gc *c)
{
    for (size_t i = 0; i < c->n; i++) {
        buf_release(&c->calls[i].body);
        buf_release(&c->calls[i].text);
    }
    h2_free(c->h2);
    buf_release(&c->in);
    close(c->fd);
}

static void flush(struct gc *c)
{
    struct iovec *iov;
    int n;

    while ((n = h2_output(c->h2, 1 << 18, &iov)) > 0) {
        struct msghdr m = {.msg_iov = iov};
        ssize_t sent;

        m.msg_iovlen = (size_t)n;
        sent = sendmsg(c->fd, &m, MSG_NOSIGNAL);
        if (sent < 0) {
            c->closed = true;
            return;
        }
        h2_sent(c->h2, (size_t)sent);
    }
}

struct gc_call *gc_call(struct gc *c, const char *path, const char *extra)
{
    struct hpack_field f[FIELDS_MAX] = {
        HPACK_FIELD(":method", "POST"), HPACK_FIELD(":scheme", "http"),
        HPACK_FIELD(":path", ""), HPACK_FIELD(":authority", "test"),
        HPACK_FIELD("te", "trailers")};
    struct str lines = str_of(extra ? extra : ""), line, name;
    struct gc_call *k = &c->calls[c->n];
    size_t n = 5;
    int64_t id;

    f[2].value = str_of(path);
    if (!strstr(lines.p, "content-type"))
        f[n++] =
            (struct hpack_field)HPACK_FIELD("content-type", "application/grpc");
    while (lines.n) {
        str_cut(&lines, '\n', &line);
        str_cut(&line, ':', &name);
        f[n++] = (struct hpack_field){name, str_trim(line), HPACK_AUTO};
    }
    if (c->n == GC_CALLS)
        abort();
    c->n++;
    *k = (struct gc_call){.status = -1};
    id = h2_request(c->h2, f, n, false, k);
    k->stream = (uint32_t)id;
    flush(c);
    return k;
}

void gc_send(struct gc *c, struct gc_call *k, const void *p, size_t n, bool end)
{
    h2_send(c->h2, k->stream, p, n);
    if (end)
        h2_end(c->h2, k->stream, NULL, 0);
    flush(c);
}

void gc_send_message(struct gc *c, struct gc_call *k, const struct msg_desc *d,
                     const void *m, bool end)
{
    struct buf b = {0};

    buf_reserve(&b, GRPC_PREFIX);
    b.len = GRPC_PREFIX;
    msg_encode(d, m, &b);
    grpc_put_prefix(b.data, (uint32_t)(b.len - GRPC_PREFIX), false);
    gc_send(c, k, b.data, b.len, end);
    buf_release(&b);
}

static void on_head(struct gc_call *k, const struct h2_event *ev)
{
    struct str status = h2_field(ev, "grpc-status");
    struct str text = h2_field(ev, "grpc-message");

    if (ev->type == H2_HEADERS)
        k->http = ev->status;
    if (!status.p)
        return;
    k->status = grpc_parse_status(status);
    if (text.p)
        grpc_decode_message(&k->text, text);
}

static void on_event(struct gc *c, const struct h2_event *ev)
{
    struct gc_call *k = ev->user;

    if (ev->type == H2_GOAWAY)
        c->goaway = true;
    if (ev->type == H2_FAILED)
        c->closed = true;
    if (!k)
        return;
    if (ev->type == H2_HEADERS || ev->type == H2_TRAILERS)
        on_head(k, ev);
    if (ev->type == H2_RESET && k->status == -1)
        k->status = -2;
    if (ev->type == H2_DATA) {
        buf_add(&k->body, ev->data, ev->n);
        if (!k->unread)
            h2_consumed(c->h2, ev->stream, ev->n);
    }
}

void gc_read(struct gc *c)
{
    struct h2_event ev;
    size_t used, at = 0;
    ssize_t got;

    buf_reserve(&c->in, 1 << 17);
    got = recv(c->fd, c->in.data + c->in.len, c->in.cap - c->in.len, 0);
    if (got <= 0) {
        c->closed = true;
        h2_eof(c->h2);
    } else {
        c->in.len += (size_t)got;
    }
    do {
        used = h2_receive(c->h2, c->in.data + at, c->in.len - at, sys_mono_ns(),
                          &ev);
        at += used;
        on_event(c, &ev);
    } while (used || ev.type != H2_NONE);
    buf_consume(&c->in, at);
    flush(c);
}

bool gc_wait(struct gc *c, struct gc_call *k, size_t n, int64_t ms)
{
    int64_t until = sys_mono_ns() + ms * NS_PER_MS;

    while (k->status == -1 && k->body.len - k->taken < n && !c->closed) {
        struct pollfd p = {.fd = c->fd, .events = POLLIN};
        int64_t left = (until - sys_mono_ns()) / NS_PER_MS;

        if (left <= 0 || poll(&p, 1, (int)left) <= 0)
            return false;
        gc_read(c);
    }
    return true;
}

bool gc_message(struct gc *c, struct gc_call *k, struct str *out, int64_t ms)
{
    const uint8_t *p;
    size_t n;

    if (!gc_wait(c, k, GRPC_PREFIX, ms) || k->body.len - k->taken < GRPC_PREFIX)
        return false;
    p = k->body.data + k->taken;
    n = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
    if (!gc_wait(c, k, GRPC_PREFIX + n, ms) ||
        k->body.len - k->taken < GRPC_PREFIX + n)
        return false;
    *out = (struct str){(char *)k->body.data + k->taken + GRPC_PREFIX, n};
    k->taken += GRPC_PREFIX + n;
    return true;
}

void gc_forget(struct gc_call *k)
{
    buf_consume(&k->body, k->taken);
    k->taken = 0;
}

void gc_run(struct gc *c, int64_t ms)
{
    int64_t until = sys_mono_ns() + ms * NS_PER_MS;

    while (!c->closed) {
        struct pollfd p = {.fd = c->fd, .events = POLLIN};
        int64_t left = (until - sys_mono_ns()) / NS_PER_MS;

        if (left <= 0 || poll(&p, 1, (int)left) <= 0)
            return;
        gc_read(c);
    }
}

size_t gc_skip(struct gc *c, struct gc_call *k)
{
    size_t n = k->body.len;

    buf_clear(&k->body);
    k->taken = 0;
    h2_consumed(c->h2, k->stream, n);
    flush(c);
    return n;
}
