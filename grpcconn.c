/*
 * grpcconn.c - a client's gRPC connection.
 *
 * The engine (http2.h) stands under the connection's lock. Its reader thread
 * feeds it; what comes for a stream is left in the stream's own buffer, and the
 * windows open again only as its user takes it from there, so that a slow user
 * slows its server down and costs nobody else anything.
 *
 * INVARIANTS
 *   1. One thread at a time writes to the socket (writing); who finds another
 *      one at it leaves its bytes to that one, which looks again before it
 *      stops.
 *   2. A stream that the engine may still tell events of is not freed:
 *      grpc_stream_close() resets it first.
 *   3. Once broken, a connection never works again, and each of its streams has
 *      ended with a status.
 */
#include "grpcconn.h"

#include "http2.h"
#include "net.h"
#include "sys.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

#define WINDOW_CONN (64 * 1024 * 1024)
#define OUTPUT_MAX (256 * 1024)
#define INPUT_SIZE (64 * 1024)
#define WRITE_MS 20000 /* without progress: the connection is dead */
#define TICK_NS NS_PER_S
#define FRAME_HEAD 9
#define TLS_ALERT 21

static_assert(INPUT_SIZE >= H2_INPUT_MAX, "a frame fits");

struct grpc_conn {
    pthread_mutex_t mu;
    struct net_stream *net;
    struct h2 *h2;         /* mu */
    bool writing;          /* mu */
    bool broken, going;    /* mu; going: takes no new streams */
    unsigned refs;         /* mu */
    char why[ERR_MSG_MAX]; /* mu; once broken */
    pthread_cond_t room;   /* mu; a stream has closed, or all is over */
    pthread_t reader;
    bool stop; /* mu */
    struct grpc_conn_options o;
    char *authority;
    uint8_t *input;
    size_t have; /* in input; the reader's */
};

struct grpc_stream {
    struct grpc_conn *conn;
    uint32_t id;
    int64_t deadline_ns;
    pthread_cond_t cond; /* conn->mu, as all below */
    struct buf in;       /* DATA that nobody has read yet, from in_at on */
    size_t in_at;
    struct grpc_reader reader;
    bool got_head;
    bool ended; /* status is known */
    bool unserved;
    int status;
    struct buf text;
};

static int say(struct err *e, int status, const char *fmt, ...) PRINTF(3, 4);

static int say(struct err *e, int status, const char *fmt, ...)
{
    struct buf b = {0};
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&b, fmt, ap);
    va_end(ap);
    err_set(e, status, "%s", buf_z(&b));
    buf_release(&b);
    return status;
}

/* --- Ends of streams. ---------------------------------------------------- */

static void end_stream(struct grpc_stream *s, int status, struct str text)
{
    if (s->ended)
        return;
    s->ended = true;
    s->status = status;
    buf_addstr(&s->text, text);
    pthread_cond_broadcast(&s->cond);
}

static void end_stream_text(struct grpc_stream *s, int status, const char *text)
{
    end_stream(s, status, str_of(text));
}

/* grpc-status and grpc-message, of trailers or of a head that is all. */
static void take_status(struct grpc_stream *s, const struct h2_event *ev)
{
    struct str status = h2_field(ev, "grpc-status");
    struct buf text = {0};

    if (!status.p) {
        end_stream_text(s, GRPC_INTERNAL,
                        "server closed the stream without sending trailers");
        return;
    }
    grpc_decode_message(&text, h2_field(ev, "grpc-message"));
    end_stream(s, grpc_parse_status(status), buf_str(&text));
    buf_release(&text);
}

static void take_head(struct grpc_stream *s, const struct h2_event *ev)
{
    struct str type = h2_field(ev, "content-type");
    struct buf text = {0};

    s->got_head = true;
    if (ev->status == 200 && type.p && grpc_content_type(type)) {
        if (ev->end)
            take_status(s, ev);
        return;
    }
    buf_printf(&text, "unexpected HTTP status code received from server: %d",
               ev->status);
    end_stream(s, grpc_status_of_http(ev->status), buf_str(&text));
    buf_release(&text);
}

static void take_data(struct grpc_stream *s, const struct h2_event *ev)
{
    if (s->in_at > 0 && s->in_at == s->in.len)
        s->in_at = s->in.len = 0;
    buf_add(&s->in, ev->data, ev->n);
    pthread_cond_broadcast(&s->cond);
    if (ev->end)
        end_stream_text(s, GRPC_INTERNAL,
                        "server closed the stream without sending trailers");
}

static void take_reset(struct grpc_conn *c, struct grpc_stream *s,
                       const struct h2_event *ev)
{
    char *text;

    s->unserved = ev->code == H2_REFUSED_STREAM;
    if (c->broken) {
        end_stream_text(s, GRPC_UNAVAILABLE, c->why);
        return;
    }
    text = xasprintf("stream terminated by RST_STREAM with error code: %s",
                     h2_code_name(ev->code));
    end_stream_text(s, (int)grpc_status_of_h2(ev->code), text);
    free(text);
}

/* --- Input. --------------------------------------------------------------- */

static void break_conn(struct grpc_conn *c, const char *why)
{
    if (c->broken)
        return;
    c->broken = true;
    snprintf(c->why, sizeof(c->why), "%s", why);
    h2_eof(c->h2);
    net_shutdown(c->net);
}

static void on_event(struct grpc_conn *c, const struct h2_event *ev)
{
    struct grpc_stream *s = ev->user;

    if (ev->type == H2_GOAWAY || ev->type == H2_FAILED)
        c->going = true;
    if (ev->type == H2_FAILED && !c->broken) {
        char *why =
            xasprintf("connection error: %s%s%.*s", h2_code_name(ev->code),
                      ev->debug.n ? ": " : "", STR_FMT(ev->debug));

        break_conn(c, why);
        free(why);
    }
    if (!s)
        return;
    if (ev->type == H2_HEADERS)
        take_head(s, ev);
    else if (ev->type == H2_DATA)
        take_data(s, ev);
    else if (ev->type == H2_TRAILERS)
        take_status(s, ev);
    else if (ev->type == H2_RESET)
        take_reset(c, s, ev);
}

/* Feed the engine. Returns the bytes that are done with. */
static size_t feed(struct grpc_conn *c, size_t n)
{
    struct h2_event ev;
    size_t at = 0, used;

    do {
        used = h2_receive(c->h2, c->input + at, n - at, sys_mono_ns(), &ev);
        at += used;
        if (ev.type != H2_NONE)
            on_event(c, &ev);
    } while (ev.type != H2_NONE || used > 0);
    pthread_cond_broadcast(&c->room);
    return at;
}

/* Send what waits, unless another thread is at it (invariant 1). Unlocks. */
static void flush_locked(struct grpc_conn *c)
{
    struct iovec *iov, *copy = NULL;
    int n;

    if (c->writing)
        return;
    c->writing = true;
    while (!c->broken && (n = h2_output(c->h2, OUTPUT_MAX, &iov)) > 0) {
        size_t total = 0;
        int rc;

        copy = xrealloc(copy, (size_t)n * sizeof(*copy));
        memcpy(copy, iov, (size_t)n * sizeof(*copy));
        for (int i = 0; i < n; i++)
            total += iov[i].iov_len;
        pthread_mutex_unlock(&c->mu);
        rc = net_writev(c->net, copy, n, 0);
        pthread_mutex_lock(&c->mu);
        if (rc == 0)
            h2_sent(c->h2, total);
        else if (!c->broken)
            net_shutdown_write(c->net); /* what came may still say why */
        if (rc != 0)
            break;
    }
    free(copy);
    c->writing = false;
}

static void read_failed(struct grpc_conn *c, ssize_t n, int errnum)
{
    char *why;

    if (c->stop || c->broken) {
        break_conn(c, "grpc: the client connection is closing");
        return;
    }
    errno = errnum;
    why = n == 0 ? xstrdup("transport is closing")
                 : xasprintf("read tcp %s: %s", net_peer_name(c->net),
                             net_trouble(c->net));
    break_conn(c, why);
    free(why);
}

static int64_t next_wake(struct grpc_conn *c)
{
    int64_t now = sys_mono_ns(), next = h2_tick(c->h2, now);

    if (next == H2_TIMED_OUT) {
        break_conn(c, "keepalive ping failed to receive ACK within timeout");
        return now;
    }
    /* Streams that open meanwhile may want pings sooner. */
    if (c->o.keepalive_ns && next > now + TICK_NS)
        next = now + TICK_NS;
    return next == INT64_MAX ? 0 : next;
}

static void *read_loop(void *arg)
{
    struct grpc_conn *c = arg;
    size_t have = c->have;

    sys_thread_name("grpc-read");
    pthread_mutex_lock(&c->mu);
    while (!c->broken) {
        int64_t until = next_wake(c);
        ssize_t n;
        int errnum;

        flush_locked(c);
        if (c->broken)
            break;
        pthread_mutex_unlock(&c->mu);
        n = net_read(c->net, c->input + have, INPUT_SIZE - have, until);
        errnum = errno;
        pthread_mutex_lock(&c->mu);
        if (n > 0) {
            size_t used = feed(c, have + (size_t)n);

            have = have + (size_t)n - used;
            memmove(c->input, c->input + used, have);
        } else if (n != NET_ETIMEOUT) {
            read_failed(c, n, errnum);
        }
    }
    (void)feed(c, 0); /* an H2_RESET for each stream that is left */
    pthread_mutex_unlock(&c->mu);
    return NULL;
}

/* --- A connection. --------------------------------------------------------- */

static void free_conn(struct grpc_conn *c)
{
    net_close(c->net);
    h2_free(c->h2);
    pthread_cond_destroy(&c->room);
    pthread_mutex_destroy(&c->mu);
    free(c->authority);
    free(c->input);
    free(c);
}

/*
 * The first frame of a server is SETTINGS (RFC 9113, 3.4). What begins otherwise
 * is something else; or it wants TLS and is given none, which it answers with an
 * alert (RFC 8446, 6).
 */
static int judge(const uint8_t *p, size_t n, struct err *e)
{
    if (p[0] == TLS_ALERT)
        return err_set(e, GRPC_UNAVAILABLE, "the server wants TLS: https://");
    if (p[0] != 0 || (n >= FRAME_HEAD && (p[3] != 4 || p[5] != 0 || p[8] != 0)))
        return err_set(e, GRPC_UNIMPLEMENTED,
                       "the server does not speak HTTP/2");
    return 0;
}

/*
 * Wait for the server's first word: a proxy with nobody behind it, or a server
 * of another kind, takes connections, too, and no call must be lost to it. With
 * TLS 1.3 our half of the handshake ends before the server has looked at our
 * certificate: what it thinks of that comes in place of HTTP/2, and belongs to
 * the dialling.
 */
static int hear_server(struct grpc_conn *c, int64_t until, struct err *e)
{
    size_t have = 0;

    pthread_mutex_lock(&c->mu);
    flush_locked(c);
    pthread_mutex_unlock(&c->mu);
    while (have < FRAME_HEAD) {
        ssize_t n =
            net_read(c->net, c->input + have, INPUT_SIZE - have, until);

        if (n <= 0)
            return err_set(e, NET_EIO, "read tcp %s: %s", net_peer_name(c->net),
                           n == 0              ? "EOF"
                           : n == NET_ETIMEOUT ? "i/o timeout"
                                               : net_trouble(c->net));
        have += (size_t)n;
        if (judge(c->input, have, e) != 0)
            return -1;
    }
    pthread_mutex_lock(&c->mu);
    c->have = have - feed(c, have);
    memmove(c->input, c->input + (have - c->have), c->have);
    pthread_mutex_unlock(&c->mu);
    return 0;
}

static int64_t handshake_until(int64_t deadline_ns)
{
    int64_t until = sys_mono_ns() + SECURE_HANDSHAKE_MS * NS_PER_MS;

    return deadline_ns && deadline_ns < until ? deadline_ns : until;
}

struct grpc_conn *grpc_conn_dial(const struct url *u,
                                 const struct grpc_conn_options *o,
                                 int64_t deadline_ns, struct err *e)
{
    static const bool never; /* the deadline ends it soon enough */
    struct net_stream *net = net_dial(u, deadline_ns, &never, e);
    struct h2_options h = {
        .window_stream = GRPC_WINDOW,
        .window_conn = WINDOW_CONN,
        .keepalive_ns = o->keepalive_ns,
        .keepalive_timeout_ns = o->keepalive_timeout_ns,
    };
    struct grpc_conn *c;

    if (!net)
        return NULL;
    if (url_is_tls(u) && secure_connect(o->secure, net, u,
                                        handshake_until(deadline_ns), e) < 0) {
        net_close(net);
        return NULL;
    }
    net_set_timeouts(net, 0, WRITE_MS);
    c = xcalloc(1, sizeof(*c));
    pthread_mutex_init(&c->mu, NULL);
    sys_cond_init(&c->room);
    c->net = net;
    c->o = *o;
    c->h2 = h2_new(&h, sys_mono_ns());
    c->refs = 1;
    c->input = xmalloc(INPUT_SIZE);
    c->authority = url_is_unix(u) ? xstrdup("localhost")
                                  : xasprintf("%s:%s", u->host, u->port);
    if (hear_server(c, handshake_until(deadline_ns), e) < 0) {
        free_conn(c);
        return NULL;
    }
    if (sys_thread(&c->reader, SYS_STACK_SMALL, read_loop, c) != 0) {
        err_set(e, GRPC_UNAVAILABLE, "cannot start a thread");
        free_conn(c);
        return NULL;
    }
    return c;
}

struct grpc_conn *grpc_conn_ref(struct grpc_conn *c)
{
    pthread_mutex_lock(&c->mu);
    c->refs++;
    pthread_mutex_unlock(&c->mu);
    return c;
}

void grpc_conn_unref(struct grpc_conn *c)
{
    bool last;

    if (!c)
        return;
    pthread_mutex_lock(&c->mu);
    last = --c->refs == 0;
    if (last) {
        c->stop = true;
        flush_locked(c); /* resets of streams */
        net_shutdown(c->net);
    }
    pthread_mutex_unlock(&c->mu);
    if (!last)
        return;
    pthread_join(c->reader, NULL);
    free_conn(c);
}

bool grpc_conn_usable(struct grpc_conn *c)
{
    bool usable;

    pthread_mutex_lock(&c->mu);
    usable = !c->broken && !c->going;
    pthread_mutex_unlock(&c->mu);
    return usable;
}

/* --- Streams. ----------------------------------------------------------------- */

#define META_MAX 4

static void add_field(struct hpack_field *fields, size_t *n, const char *name,
                      struct str value)
{
    fields[(*n)++] = (struct hpack_field){str_of(name), value, HPACK_AUTO};
}

/* Send the head, as soon as the server takes one more stream. */
static int64_t request_locked(struct grpc_stream *s,
                              const struct hpack_field *fields, size_t n)
{
    struct grpc_conn *c = s->conn;
    int64_t id = H2_ECLOSED;

    while (!c->broken && !c->going) {
        id = h2_request(c->h2, fields, n, false, s);
        if (id != H2_EBUSY)
            break;
        if (!s->deadline_ns) {
            pthread_cond_wait(&c->room, &c->mu);
        } else if (!sys_cond_wait_until(&c->room, &c->mu, s->deadline_ns)) {
            return H2_EBUSY;
        }
        id = H2_ECLOSED;
    }
    return id;
}

static int out_of_time(struct err *e)
{
    return say(e, GRPC_DEADLINE_EXCEEDED, "context deadline exceeded");
}

static struct grpc_stream *new_stream(struct grpc_conn *c, int64_t deadline_ns)
{
    struct grpc_stream *s = xcalloc(1, sizeof(*s));

    s->conn = grpc_conn_ref(c);
    s->deadline_ns = deadline_ns;
    s->reader.n_max = c->o.message_max ? c->o.message_max : INT32_MAX;
    sys_cond_init(&s->cond);
    return s;
}

int grpc_stream_open(struct grpc_conn *c, const char *path,
                     const struct grpc_metadata *meta, int64_t deadline_ns,
                     struct grpc_stream **out, struct err *e)
{
    struct hpack_field fields[8 + META_MAX];
    struct grpc_stream *s = new_stream(c, deadline_ns);
    char timeout[GRPC_TIMEOUT_MAX];
    size_t n = 0;
    int64_t id;

    add_field(fields, &n, ":method", STR("POST"));
    add_field(fields, &n, ":scheme", STR("http"));
    add_field(fields, &n, ":path", str_of(path));
    add_field(fields, &n, ":authority", str_of(c->authority));
    add_field(fields, &n, "content-type", STR("application/grpc"));
    add_field(fields, &n, "user-agent", STR("etcd-c"));
    add_field(fields, &n, "te", STR("trailers"));
    if (deadline_ns) {
        size_t len = grpc_format_timeout(timeout, deadline_ns - sys_mono_ns());

        add_field(fields, &n, "grpc-timeout", (struct str){timeout, len});
    }
    for (size_t i = 0; meta && meta[i].name && i < META_MAX; i++)
        add_field(fields, &n, meta[i].name, meta[i].value);

    pthread_mutex_lock(&c->mu);
    id = request_locked(s, fields, n);
    if (id > 0)
        s->id = (uint32_t)id;
    else
        say(e, GRPC_UNAVAILABLE, "%s",
            c->broken ? c->why : "transport is closing");
    pthread_mutex_unlock(&c->mu);
    if (id > 0) {
        *out = s;
        return GRPC_OK;
    }
    grpc_stream_close(s);
    return id == H2_EBUSY ? out_of_time(e) : e->code;
}

void grpc_stream_send(struct grpc_stream *s, struct str message,
                      enum grpc_more more)
{
    struct grpc_conn *c = s->conn;
    struct blob *b = blob_new(NULL, GRPC_PREFIX + message.n);

    grpc_put_prefix(b->data, (uint32_t)message.n, false);
    if (message.n)
        memcpy(b->data + GRPC_PREFIX, message.p, message.n);
    pthread_mutex_lock(&c->mu);
    if (!s->ended) {
        (void)h2_send_blob(c->h2, s->id, b, 0, b->len);
        if (more == GRPC_LAST)
            (void)h2_end(c->h2, s->id, NULL, 0);
        flush_locked(c);
    }
    pthread_mutex_unlock(&c->mu);
    blob_unref(b);
}

void grpc_stream_end(struct grpc_stream *s)
{
    pthread_mutex_lock(&s->conn->mu);
    (void)h2_end(s->conn->h2, s->id, NULL, 0);
    flush_locked(s->conn);
    pthread_mutex_unlock(&s->conn->mu);
}

/* A whole message out of what came: 1, 0 if more is needed, or a status below
 * 0: minus what it is. */
static int next_message(struct grpc_stream *s, struct buf *out, struct err *e)
{
    const uint8_t *p = s->in.data + s->in_at;
    size_t before = s->in.len - s->in_at, n = before;
    struct grpc_message m;
    int rc = before ? grpc_read(&s->reader, &p, &n, &m) : 0;

    s->in_at += before - n;
    if (before > n)
        (void)h2_consumed(s->conn->h2, s->id, before - n);
    if (rc == GRPC_ELARGE)
        return -say(e, GRPC_RESOURCE_EXHAUSTED,
                    "grpc: received message larger than max (%u vs. %u)",
                    s->reader.n, s->reader.n_max);
    if (rc < 0 || (rc > 0 && m.compressed))
        return -say(e, GRPC_INTERNAL, "grpc: malformed or compressed message");
    if (rc > 0)
        buf_addstr(out, m.bytes);
    return rc;
}

/* Wait for news. False: the time is up. */
static bool wait_locked(struct grpc_stream *s, int64_t until_ns)
{
    if (until_ns)
        return sys_cond_wait_until(&s->cond, &s->conn->mu, until_ns);
    pthread_cond_wait(&s->cond, &s->conn->mu);
    return true;
}

static int stream_ended(struct grpc_stream *s, struct err *e)
{
    struct str text = buf_str(&s->text);

    if (s->status == GRPC_OK && !grpc_reader_idle(&s->reader))
        return say(e, GRPC_INTERNAL, "unexpected EOF");
    if (s->status == GRPC_OK)
        return GRPC_STREAM_END;
    return say(e, s->status, "%.*s", STR_FMT(text));
}

int grpc_stream_read(struct grpc_stream *s, struct buf *message,
                     int64_t wait_until_ns, struct err *e)
{
    int64_t until = s->deadline_ns;
    int rc;

    if (wait_until_ns && (!until || wait_until_ns < until))
        until = wait_until_ns;
    buf_clear(message);
    pthread_mutex_lock(&s->conn->mu);
    for (;;) {
        rc = next_message(s, message, e);
        if (rc != 0) {
            rc = rc > 0 ? GRPC_OK : -rc;
            break;
        }
        if (s->ended) {
            rc = stream_ended(s, e);
            break;
        }
        flush_locked(s->conn); /* windows */
        if (s->in_at == s->in.len && !s->ended && !wait_locked(s, until)) {
            rc = until == s->deadline_ns ? out_of_time(e) : GRPC_STREAM_WAIT;
            break;
        }
    }
    flush_locked(s->conn);
    pthread_mutex_unlock(&s->conn->mu);
    return rc;
}

bool grpc_stream_unserved(const struct grpc_stream *s)
{
    return s->unserved;
}

void grpc_stream_close(struct grpc_stream *s)
{
    struct grpc_conn *c;

    if (!s)
        return;
    c = s->conn;
    pthread_mutex_lock(&c->mu);
    if (s->id) {
        (void)h2_reset(c->h2, s->id, H2_CANCEL);
        pthread_cond_broadcast(&c->room);
        flush_locked(c);
    }
    pthread_mutex_unlock(&c->mu);
    grpc_reader_release(&s->reader);
    buf_release(&s->in);
    buf_release(&s->text);
    pthread_cond_destroy(&s->cond);
    free(s);
    grpc_conn_unref(c);
}
