/*
 * http.c - the HTTP/1 server, with a thread for each connection. Requests are
 * read by httpin.c.
 *
 * A connection is one struct http_exchange, used again for each request on it:
 *
 *   in       the request, and what has come behind it
 *   lines    the handler's header lines, sorted; then Date and the rest
 *
 * A kept connection costs one recv and one sendmsg per request, and no
 * allocation.
 *
 * A DEFERRED ANSWER is sent by another thread, which owns the exchange until it
 * sets `answered`. Meanwhile the connection's thread only waits for the socket
 * to become readable: mostly the answer is out long before the next request.
 *
 * IDLE MEMORY  A second after its last request, a connection gives up its
 * buffers and the pages of its stack that it does not stand on, and waits with
 * poll. http_prepare_to_wait() does the same for a handler that waits.
 *
 * STOPPING  A connection says `idle` before it looks at `stopping`; stop says
 * `stopping` before it looks at `idle`; both in sequential order. So either
 * the connection sees that it should end, or stop sees that it sleeps and ends
 * its input. Only reading is shut down then: a request that came in the same
 * moment still gets its answer.
 */
#include "http_impl.h"

#include "http2.h"
#include "log.h"
#include "sys.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#define LINES_MIN 256 /* of the response's headers at first */
#define LINES_KEEP 1024
#define BUDGET_MAX (512u * 1024 * 1024)
#define BODY_STEP 65536 /* trust in a Content-Length: bytes reserved ahead */
#define BODY_ROOM 4096  /* of a body that does not tell its length */
#define KNOWN_BODY_MAX 2048    /* up to here Go knows the length of a body */
#define DRAIN_MAX (256 * 1024) /* of a body that the handler left unread */
#define DRAIN_STEP 16384
#define LINGER_MS 500 /* for a client that still sends what we refused */
#define QUIET_MS 1000
#define WARN_EVERY_NS (60 * NS_PER_S)
#define STATUS_LINE_MAX 64
#define DATE_LEN 29

enum out_body {
    OUT_NONE, /* HEAD, or a status without a body */
    OUT_LENGTH,
    OUT_CHUNKED,
    OUT_TO_CLOSE,
};

struct http_exchange {
    struct http_server *server;
    struct http_exchange *prev, *next;           /* server->mu */
    struct http_exchange *half_prev, *half_next; /* likewise */
    bool half_open;                              /* likewise: it shakes hands */
    atomic_bool idle;                            /* between two requests */
    bool sniffed;                                /* it is HTTP/1 */
    int schemes; /* of its listener: NET_PLAIN, NET_TLS */

    struct http_in in;
    struct http_head head;
    struct buf path;   /* decoded; used if the path has escapes */
    bool continue_due; /* 100 Continue is awaited, and not sent */
    size_t taken;      /* of the budget, for the body */

    int status;
    struct buf lines;
    size_t last_line; /* where it begins */
    int64_t declared; /* the handler's own Content-Length, or -1 */
    uint64_t written; /* bytes of the body */
    enum out_body out;
    bool begun;  /* the head is sent */
    bool ended;  /* so is the end of the body */
    bool close;  /* no further request on this connection */
    bool broken; /* the client is gone */

    bool deferred; /* another thread answers; until then all of this is its */
    struct sys_event answered;
    struct buf rest; /* of the answer, when the socket was full */
    void (*release)(void *arg);
    void *release_arg;

    int64_t date_s; /* the second of date */
    char date[DATE_LEN];
};

struct acceptor {
    struct http_server *server;
    struct net_listener *listener;
    pthread_t thread;
    int64_t next_warning_ns; /* that the server is full */
};

struct http_server {
    struct http_server_options o;
    struct acceptor *acceptors;
    size_t n_acceptors;
    atomic_bool stopping;
    struct http_budget budget;

    pthread_mutex_t mu;
    pthread_cond_t changed;      /* mu; a connection ended, or stopping */
    struct http_exchange *conns; /* mu */
    atomic_size_t n_conns;       /* written under mu */
    atomic_size_t n_h2;          /* of them, handed over; likewise */

    /* mu. Those that shake hands, linked by half_prev and half_next. */
    struct http_exchange *half_oldest, *half_newest;
    size_t n_half_open;
};

/* --- The request, for handlers. ----------------------------------------- */

const struct http_head *http_request(const struct http_exchange *x)
{
    return &x->head;
}

struct str http_method(const struct http_exchange *x)
{
    return x->head.method;
}

bool http_method_is(const struct http_exchange *x, const char *m)
{
    return str_eqz(x->head.method, m);
}

struct str http_path(const struct http_exchange *x)
{
    return x->path.len ? buf_str(&x->path) : x->head.path;
}

struct str http_raw_path(const struct http_exchange *x)
{
    return x->head.path;
}

struct str http_query(const struct http_exchange *x)
{
    return x->head.query;
}

struct str http_host(const struct http_exchange *x)
{
    struct str host = x->head.authority;

    if (host.n == 0)
        host = http_header(&x->head, "Host");
    return host.p ? host : STR("");
}

struct net_stream *http_stream(struct http_exchange *x)
{
    return x->in.stream;
}

static int write_iov(struct http_exchange *x, struct iovec *iov, int n)
{
    if (!x->broken && net_writev(x->in.stream, iov, n, 0) < 0)
        x->broken = true;
    return x->broken ? -1 : 0;
}

static int write_text(struct http_exchange *x, const char *text)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)text,
                        .iov_len = strlen(text)};

    return write_iov(x, &iov, 1);
}

int64_t http_stall_at(const struct http_exchange *x)
{
    return sys_mono_ns() + x->server->o.stall_ms * NS_PER_MS;
}

ssize_t http_read_some(struct http_exchange *x, void *p, size_t n)
{
    ssize_t r;

    if (x->in.framing == HTTP_NO_BODY)
        return 0;
    if (x->continue_due) {
        x->continue_due = false;
        if (write_text(x, "HTTP/1.1 100 Continue\r\n\r\n") < 0)
            return http_in_break(&x->in, HTTP_EBODY_IO, "");
    }
    r = http_in_read(&x->in, p, n, http_stall_at(x));
    if (r < 0)
        x->close = true;
    return r == HTTP_EBODY_TIMEOUT ? HTTP_EBODY_IO : r;
}

/* Room for the next piece; 0: no memory is left for it. A Content-Length is a
 * promise that costs nothing, so it is believed only a step ahead. */
static size_t body_room(struct http_exchange *x, struct buf *b)
{
    const struct http_in *in = &x->in;
    size_t n = 0;

    if (in->framing == HTTP_LENGTH)
        n = (size_t)min_u64(in->left, BODY_STEP);
    else if (b->cap - b->len < BODY_ROOM / 4)
        n = BODY_ROOM;
    if (!http_budget_reserve(in->budget, &x->taken, b, n))
        return 0;
    return b->cap - b->len;
}

int http_read_body(struct http_exchange *x, struct buf *b, size_t max,
                   const char **why)
{
    struct http_in *in = &x->in;
    size_t got = 0;

    *why = "";
    while (in->framing != HTTP_NO_BODY) {
        size_t room;
        ssize_t r;

        if (got > max || (in->framing == HTTP_LENGTH && in->left > max - got)) {
            x->close = true;
            return HTTP_EBODY_LARGE;
        }
        room = body_room(x, b);
        if (room == 0) {
            x->close = true;
            return HTTP_EBODY_BUSY;
        }
        if (room > max - got)
            room = max - got + 1; /* one more byte tells that it is too large */
        r = http_read_some(x, b->data + b->len, room);
        if (r < 0) {
            *why = in->why;
            return (int)r;
        }
        b->len += (size_t)r;
        got += (size_t)r;
    }
    if (got <= max)
        return 0;
    x->close = true;
    return HTTP_EBODY_LARGE;
}

/* --- The response: headers. --------------------------------------------- */

void http_set_status(struct http_exchange *x, int status)
{
    x->status = status;
}

void http_close_after(struct http_exchange *x)
{
    x->close = true;
}

/* Order of two header lines by name. */
static int compare_names(const uint8_t *a, const uint8_t *b)
{
    while (*a == *b && *a != ':')
        a++, b++;
    return (*a == ':' ? 0 : *a) - (*b == ':' ? 0 : *b);
}

static size_t line_len(const struct buf *b, size_t at)
{
    const uint8_t *lf = memchr(b->data + at, '\n', b->len - at);

    return (size_t)(lf - (b->data + at)) + 1;
}

/* Move the line that was appended at `from` to its place among the others,
 * over an earlier one of its name. */
static void place_line(struct buf *b, size_t from)
{
    size_t at = 0, n = b->len - from;

    while (at < from) {
        size_t len = line_len(b, at);
        int order = compare_names(b->data + at, b->data + from);

        if (order == 0) {
            memmove(b->data + at, b->data + at + len, b->len - at - len);
            b->len -= len;
            from -= len;
            break;
        }
        if (order > 0)
            break;
        at += len;
    }
    if (at == from)
        return;
    buf_reserve(b, n);
    memcpy(b->data + b->len, b->data + from, n);
    memmove(b->data + at + n, b->data + at, from - at);
    memcpy(b->data + at, b->data + b->len, n);
}

static size_t last_line(const struct buf *b)
{
    size_t at = 0, len;

    while (at + (len = line_len(b, at)) < b->len)
        at += len;
    return at;
}

/* The line at from is complete: put it in its place. Mostly that is the end,
 * where handlers set their headers in order. */
static void end_line(struct http_exchange *x, size_t from)
{
    struct buf *b = &x->lines;

    buf_add(b, "\r\n", 2);
    if (from == 0 ||
        compare_names(b->data + x->last_line, b->data + from) < 0) {
        x->last_line = from;
        return;
    }
    place_line(b, from);
    x->last_line = last_line(b);
}

/* The line "name: value" has been added at from; the value begins at value. */
static void settle_line(struct http_exchange *x, const char *name, size_t from,
                        size_t value)
{
    struct buf *b = &x->lines;
    struct str text = {(char *)b->data + value, b->len - value};
    uint64_t n;

    if (memchr(text.p, '\r', text.n) || memchr(text.p, '\n', text.n))
        for (size_t i = value; i < b->len; i++)
            if (b->data[i] == '\r' || b->data[i] == '\n')
                b->data[i] = ' '; /* or it could forge a header */

    if (strcmp(name, "Connection") == 0) { /* decided when the head is sent */
        x->close |= str_caseeqz(text, "close");
        b->len = from;
        return;
    }
    if (strcmp(name, "Content-Length") == 0 && str_to_u64(text, &n) &&
        n <= INT64_MAX)
        x->declared = (int64_t)n;
    end_line(x, from);
}

/* Where the line begins. */
static size_t begin_line(struct http_exchange *x, const char *name)
{
    size_t from = x->lines.len;

    assert(!x->begun);
    buf_adds(&x->lines, name);
    buf_add(&x->lines, ": ", 2);
    return from;
}

void http_set_header(struct http_exchange *x, const char *name, const char *fmt,
                     ...)
{
    size_t from = begin_line(x, name), value = x->lines.len;
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&x->lines, fmt, ap);
    va_end(ap);
    settle_line(x, name, from, value);
}

void http_set_header_text(struct http_exchange *x, const char *name,
                          struct str text)
{
    size_t from = begin_line(x, name), value = x->lines.len;

    buf_addstr(&x->lines, text);
    settle_line(x, name, from, value);
}

void http_set_header_u64(struct http_exchange *x, const char *name, uint64_t v)
{
    size_t from = begin_line(x, name);

    buf_add_u64(&x->lines, v);
    end_line(x, from);
}

static void put_number(char *at, int width, int64_t v)
{
    for (int i = width - 1; i >= 0; i--, v /= 10)
        at[i] = (char)('0' + v % 10);
}

/*
 * "Tue, 15 Nov 1994 08:12:31 GMT" (RFC 9110, 5.6.7). By hand, for gmtime_r()
 * may take a lock and read a file. Years are counted from March, so that the
 * leap day is the last of its year; 719468 days lead from 0000-03-01 to 1970.
 */
static void format_date(char out[DATE_LEN], int64_t s)
{
    static const char days[] = "ThuFriSatSunMonTueWed";
    static const char months[] = "MarAprMayJunJulAugSepOctNovDecJanFeb";
    int64_t day = s / 86400, n = day + 719468;
    int64_t era = n / 146097, of_era = n % 146097; /* days of 400 years */
    int64_t year =
        (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
    int64_t month = (5 * of_year + 2) / 153;

    memcpy(out, "Day, 00 Mon 0000 00:00:00 GMT", DATE_LEN);
    memcpy(out, days + 3 * (day % 7), 3);
    put_number(out + 5, 2, of_year - (153 * month + 2) / 5 + 1);
    memcpy(out + 8, months + 3 * month, 3);
    put_number(out + 12, 4, era * 400 + year + (month >= 10));
    put_number(out + 17, 2, s / 3600 % 24);
    put_number(out + 20, 2, s / 60 % 60);
    put_number(out + 23, 2, s % 60);
}

/* Made once a second. */
static const char *date_of(struct http_exchange *x)
{
    int64_t s = sys_wall_ns() / NS_PER_S;

    if (s != x->date_s) {
        format_date(x->date, s > 0 ? s : 0);
        x->date_s = s;
    }
    return x->date;
}

/* "HTTP/1.1 200 OK\r\n" into out; its length. */
static size_t status_line(const struct http_exchange *x,
                          char out[STATUS_LINE_MAX])
{
    const char *text = http_status_text(x->status);
    size_t n = strlen(text);

    if (n == 0 || x->status > 999 || n + 16 > STATUS_LINE_MAX)
        return (size_t)snprintf(out, STATUS_LINE_MAX,
                                "HTTP/1.%d %03d status code %d\r\n",
                                x->head.minor >= 1, x->status, x->status);
    memcpy(out, x->head.minor >= 1 ? "HTTP/1.1 " : "HTTP/1.0 ", 9);
    out[9] = (char)('0' + x->status / 100);
    out[10] = (char)('0' + x->status / 10 % 10);
    out[11] = (char)('0' + x->status % 10);
    out[12] = ' ';
    memcpy(out + 13, text, n);
    memcpy(out + 13 + n, "\r\n", 2);
    return n + 15;
}

/* --- The response: what is left of the request first. ------------------- */

/* Read and drop up to DRAIN_MAX bytes of the request's body: 0 at its end. */
static int drain(struct http_exchange *x)
{
    struct http_in *in = &x->in;
    size_t total = 0;
    uint8_t *scratch;

    if (in->framing == HTTP_LENGTH) { /* mostly it is all here */
        size_t n = (size_t)min_u64(in->left, in->buf.len - in->pos);

        in->pos += n;
        http_in_body(in, HTTP_LENGTH, in->left - n);
    }
    if (in->framing == HTTP_NO_BODY)
        return 0;

    scratch = xmalloc(DRAIN_STEP);
    while (total <= DRAIN_MAX) {
        ssize_t r = http_read_some(x, scratch, DRAIN_STEP);

        if (r <= 0)
            break;
        total += (size_t)r;
    }
    free(scratch);
    return in->framing == HTTP_NO_BODY ? 0 : -1;
}

/* A body that the handler left unread stands before the next request. As Go:
 * read a little of it, or else close. */
static void settle_request_body(struct http_exchange *x)
{
    const struct http_in *in = &x->in;

    if (x->close || in->framing == HTTP_NO_BODY)
        return;
    if (in->framing == HTTP_BROKEN || x->continue_due ||
        (in->framing == HTTP_LENGTH && in->left >= DRAIN_MAX) || drain(x) < 0)
        x->close = true;
}

/* --- The response: head and body. --------------------------------------- */

static bool is_head(const struct http_exchange *x)
{
    return http_method_is(x, "HEAD");
}

static bool status_has_body(int status)
{
    return status >= 200 && status != 204 && status != 304;
}

/* May another request follow, and must the client be told? has_end: the
 * response ends by itself. */
static void settle_connection(struct http_exchange *x, bool has_end)
{
    bool is_11 = x->head.minor >= 1;

    if (!x->head.keep_alive || !has_end)
        x->close = true;
    if (x->close && is_11)
        buf_adds(&x->lines, "Connection: close\r\n");
    if (!x->close && !is_11)
        buf_adds(&x->lines, "Connection: keep-alive\r\n");
}

/* Decide on the body's form and complete the header lines. whole: the body is
 * known, n bytes. */
static void compose(struct http_exchange *x, bool whole, size_t n)
{
    bool has_body = status_has_body(x->status), head = is_head(x);
    struct buf *b = &x->lines;

    settle_request_body(x);
    if (atomic_load_explicit(&x->server->stopping, memory_order_relaxed))
        x->close = true;

    buf_adds(b, "Date: ");
    buf_add(b, date_of(x), DATE_LEN);
    buf_adds(b, "\r\n");
    if (has_body && x->declared < 0 && whole && n <= KNOWN_BODY_MAX &&
        (n || !head)) {
        buf_adds(b, "Content-Length: ");
        buf_add_u64(b, n);
        buf_adds(b, "\r\n");
        x->declared = (int64_t)n;
    }

    if (head || !has_body)
        x->out = OUT_NONE;
    else if (x->declared >= 0)
        x->out = OUT_LENGTH;
    else
        x->out = x->head.minor >= 1 ? OUT_CHUNKED : OUT_TO_CLOSE;
    settle_connection(x, x->out != OUT_TO_CLOSE);
    if (x->out == OUT_CHUNKED)
        buf_adds(b, "Transfer-Encoding: chunked\r\n");
    buf_adds(b, "\r\n");
    x->begun = true;
}

/* Parts of a response on their way to one writev. */
struct parts {
    struct iovec iov[6];
    int n;
    char status[STATUS_LINE_MAX];
    char size[24]; /* of a chunk */
};

static void add_part(struct parts *p, const void *data, size_t n)
{
    if (n == 0)
        return;
    p->iov[p->n].iov_base = (void *)(uintptr_t)data;
    p->iov[p->n++].iov_len = n;
}

static void add_head(struct parts *p, struct http_exchange *x)
{
    add_part(p, p->status, status_line(x, p->status));
    add_part(p, x->lines.data, x->lines.len);
}

/* A piece of the body in the form decided on; last: its end, too. */
static void add_body(struct parts *p, struct http_exchange *x, const void *data,
                     size_t n, bool last)
{
    if (x->out == OUT_NONE)
        return;
    x->written += n;
    if (x->out == OUT_CHUNKED && n) {
        add_part(p, p->size,
                 (size_t)snprintf(p->size, sizeof(p->size), "%zx\r\n", n));
        add_part(p, data, n);
        add_part(p, "\r\n", 2);
    } else {
        add_part(p, data, n);
    }
    if (x->out == OUT_CHUNKED && last)
        add_part(p, "0\r\n\r\n", 5);
}

/* A slow client's own thread: nobody else may wait for it. */
static void *send_rest(void *arg)
{
    struct http_exchange *x = arg;

    if (net_write(x->in.stream, x->rest.data, x->rest.len, 0) < 0)
        x->broken = true;
    sys_event_set(&x->answered);
    return NULL;
}

/* What goes without waiting; x->rest is what is left. */
static void try_write_iov(struct http_exchange *x, struct iovec *iov, int n)
{
    if (!x->broken && net_try_writev(x->in.stream, &iov, &n) < 0)
        x->broken = true;
    for (int i = 0; i < n && !x->broken; i++)
        buf_add(&x->rest, iov[i].iov_base, iov[i].iov_len);
}

static int send_deferred(struct http_exchange *x, struct iovec *iov, int n)
{
    try_write_iov(x, iov, n);
    if (x->rest.len) {
        if (sys_thread_detached(x->server->o.stack, send_rest, x) == 0)
            return 0;
        x->broken = true;
    }
    sys_event_set(&x->answered); /* x is the connection's thread's again */
    return 0;
}

int http_send(struct http_exchange *x, const void *body, size_t n)
{
    struct parts p = {.n = 0};

    assert(!x->begun);
    compose(x, true, n);
    add_head(&p, x);
    add_body(&p, x, body, n, true);
    x->ended = true;
    return x->deferred ? send_deferred(x, p.iov, p.n)
                       : write_iov(x, p.iov, p.n);
}

bool http_can_defer(const struct http_exchange *x)
{
    return x->in.framing == HTTP_NO_BODY && !x->begun;
}

void http_defer(struct http_exchange *x, void (*release)(void *arg), void *arg)
{
    assert(http_can_defer(x));
    x->answered = (struct sys_event){0};
    x->release = release;
    x->release_arg = arg;
    x->deferred = true;
}

int http_begin(struct http_exchange *x)
{
    struct parts p = {.n = 0};

    assert(!x->begun);
    compose(x, false, 0);
    add_head(&p, x);
    return write_iov(x, p.iov, p.n);
}

int http_write(struct http_exchange *x, const void *data, size_t n)
{
    struct parts p = {.n = 0};

    assert(!x->ended);
    if (!x->begun) { /* head and first piece together */
        compose(x, false, 0);
        add_head(&p, x);
    }
    add_body(&p, x, data, n, false);
    return write_iov(x, p.iov, p.n);
}

int http_try_write(struct http_exchange *x, const void *data, size_t n)
{
    struct parts p = {.n = 0};

    assert(x->begun && !x->ended && x->rest.len == 0);
    add_body(&p, x, data, n, false);
    try_write_iov(x, p.iov, p.n);
    if (x->broken)
        return -1;
    return x->rest.len > 0;
}

int http_write_rest(struct http_exchange *x)
{
    struct iovec iov = {.iov_base = x->rest.data, .iov_len = x->rest.len};
    int rc = write_iov(x, &iov, 1);

    buf_release(&x->rest);
    return rc;
}

int http_reply(struct http_exchange *x, int status, const char *content_type,
               const void *body, size_t n)
{
    http_set_status(x, status);
    if (content_type)
        http_set_header(x, "Content-Type", "%s", content_type);
    return http_send(x, body, n);
}

int http_error(struct http_exchange *x, int status, const char *text)
{
    struct buf body = {0};
    int rc;

    buf_adds(&body, text);
    buf_addc(&body, '\n');
    http_set_header(x, "X-Content-Type-Options", "nosniff");
    rc =
        http_reply(x, status, "text/plain; charset=utf-8", body.data, body.len);
    buf_release(&body);
    return rc;
}

/* --- Other protocols. --------------------------------------------------- */

bool http_take_over(struct http_exchange *x)
{
    assert(!x->begun);
    if (x->in.framing != HTTP_NO_BODY || !http_in_empty(&x->in))
        return false;
    x->begun = x->ended = x->close = true;
    x->out = OUT_NONE;
    return true;
}

bool http_take_room(struct http_exchange *x, struct buf *b, size_t n)
{
    return http_budget_reserve(x->in.budget, &x->taken, b, n);
}

void http_drop_room(struct http_exchange *x, struct buf *b)
{
    buf_release(b);
    http_budget_give(x->in.budget, &x->taken);
}

/* --- Idle memory. ------------------------------------------------------- */

void http_prepare_to_wait(struct http_exchange *x)
{
    if (x->begun)
        buf_release(&x->lines); /* else they are still to be sent */
    sys_stack_trim();
}

/* Nothing came for a second: wait for more with as little as possible. */
static bool wait_idle(struct http_exchange *x)
{
    const struct http_server_options *o = &x->server->o;
    int64_t ms = o->idle_ms - o->quiet_ms;

    http_in_release(&x->in);
    http_head_release(&x->head);
    buf_release(&x->lines);
    buf_release(&x->path);
    net_trim(x->in.stream);
    sys_stack_trim();
    return ms > 0 &&
           net_wait_readable(x->in.stream, sys_mono_ns() + ms * NS_PER_MS) == 0;
}

/* --- A connection's thread. --------------------------------------------- */

static void linger(struct http_exchange *x)
{
    if (!x->broken)
        net_linger(x->in.stream, LINGER_MS);
}

/* Answer what is not a request, in the form that Go gives such answers. */
static void refuse(struct http_exchange *x, int status, const char *why)
{
    const char *text = http_status_text(status);
    const char *more = status == 501 ? "" : why; /* do not echo its coding */
    struct buf *b = &x->lines;

    buf_clear(b);
    buf_printf(b, "HTTP/1.1 %d %s%s%s\r\n", status, text, *more ? ": " : "",
               more);
    buf_adds(b, "Content-Type: text/plain; charset=utf-8\r\n"
                "Connection: close\r\n\r\n");
    if (status == 501)
        buf_adds(b, why);
    else
        buf_printf(b, "%d %s%s%s", status, text, *more ? ": " : "", more);
    write_text(x, buf_z(b));
    linger(x);
}

/* Does the connection begin as HTTP/2? Reads until that is clear, which for
 * HTTP/1 is at the first bytes. False also if they do not come. */
static bool is_h2(struct http_exchange *x)
{
    struct http_in *in = &x->in;
    int64_t deadline_ns = 0;
    int is;

    do {
        ssize_t r = http_in_more(in, deadline_ns);

        if (r <= 0)
            return false;
        if (!deadline_ns)
            deadline_ns = sys_mono_ns() + x->server->o.head_ms * NS_PER_MS;
        is = h2_sniff(in->buf.data, in->buf.len);
    } while (is == 0);
    return is > 0;
}

/* Is there room for another descriptor? */
static bool has_fd(struct http_server *s)
{
    return !s->o.fds_max ||
           atomic_load(&s->n_conns) + atomic_load(&s->n_h2) < s->o.fds_max;
}

/* False: there is no second descriptor. To wait for one would be to wait for
 * others who wait, too. */
static bool enter_h2(struct http_server *s)
{
    bool room;

    pthread_mutex_lock(&s->mu);
    room = has_fd(s);
    if (room)
        atomic_fetch_add(&s->n_h2, 1);
    pthread_mutex_unlock(&s->mu);
    return room;
}

static void leave_h2(struct http_server *s)
{
    pthread_mutex_lock(&s->mu);
    atomic_fetch_sub(&s->n_h2, 1);
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->mu);
}

/* Another protocol takes over until the connection's end. It is told of a stop
 * by its owner, and is not idle. */
static void hand_over(struct http_exchange *x)
{
    const struct http_server_options *o = &x->server->o;
    struct buf first = x->in.buf;

    x->in.buf = (struct buf){0};
    x->in.pos = 0;
    http_budget_give(x->in.budget, &x->in.taken);
    atomic_store(&x->idle, false);
    if (enter_h2(x->server)) {
        o->h2(x->in.stream, &first, o->h2_arg);
        leave_h2(x->server);
    } else {
        buf_release(&first);
    }
}

/* The next request of a connection; false when there is none. */
static bool read_request(struct http_exchange *x)
{
    const struct http_server_options *o = &x->server->o;
    const char *why = "";
    int rc;

    atomic_store(&x->idle, true); /* before looking at stopping: see the top */
    do {
        if (atomic_load(&x->server->stopping))
            return false;
        if (!x->sniffed && o->h2 && is_h2(x)) {
            hand_over(x);
            return false;
        }
        x->sniffed = x->sniffed || !http_in_empty(&x->in);
        rc = http_in_head(&x->in, true, &x->head, 0, o->head_ms, &why);
    } while (rc == NET_ETIMEOUT && http_in_empty(&x->in) && wait_idle(x));
    atomic_store(&x->idle, false);

    if (rc <= -400)
        refuse(x, -rc, why);
    return rc > 0;
}

static void begin_exchange(struct http_exchange *x)
{
    const struct http_head *h = &x->head;

    if (h->chunked)
        http_in_body(&x->in, HTTP_CHUNKED, 0);
    else if (h->content_length > 0)
        http_in_body(&x->in, HTTP_LENGTH, (uint64_t)h->content_length);
    x->continue_due =
        h->expect_continue && h->minor >= 1 && x->in.framing != HTTP_NO_BODY;

    buf_clear(&x->path);
    if (memchr(h->path.p, '%', h->path.n)) /* the parser checked its escapes */
        url_decode(&x->path, h->path, false, NULL);

    buf_clear(&x->lines);
    buf_trim(&x->lines, LINES_KEEP);
    buf_reserve(&x->lines, LINES_MIN);
    x->status = 200;
    x->declared = -1;
    x->written = 0;
    x->begun = x->ended = x->close = x->broken = false;
}

/* Complete the response. True if another request may follow. */
static bool finish_exchange(struct http_exchange *x)
{
    if (x->rest.len > 0) /* of a piece: what came now would be taken for it */
        x->broken = true;
    else if (!x->begun)
        http_send(x, NULL, 0);
    else if (!x->ended && x->out == OUT_CHUNKED)
        write_text(x, "0\r\n\r\n");
    http_budget_give(&x->server->budget, &x->taken);
    if (x->out == OUT_LENGTH && x->written != (uint64_t)x->declared)
        x->close = true; /* all that the client can notice */
    return !x->close && !x->broken;
}

/* Wait for a deferred answer: rather for what follows it, for that is what
 * comes next, unless the client wants to see the end. */
static void await_answer(struct http_exchange *x)
{
    atomic_store(&x->idle, true); /* stop may end our input, not the answer */
    if (x->head.keep_alive && !sys_event_is_set(&x->answered))
        http_in_ahead(&x->in);
    sys_event_wait_until(&x->answered, INT64_MAX);
    atomic_store(&x->idle, false);
    x->deferred = false;
    buf_release(&x->rest);
    x->release(x->release_arg);
}

static bool serve(struct http_exchange *x)
{
    const struct http_server_options *o = &x->server->o;

    begin_exchange(x);
    if (x->head.expect_other) {
        http_close_after(x);
        http_set_status(x, 417);
    } else {
        o->handler(x, o->arg);
        if (x->deferred)
            await_answer(x);
    }
    if (finish_exchange(x))
        return true;
    if (x->in.framing != HTTP_NO_BODY)
        linger(x);
    return false;
}

/* Off the list first, where stop would find it; counted until it is closed.
 * The count is the last thing touched: stop may free the server after it. */
static void leave(struct http_exchange *x)
{
    struct http_server *s = x->server;

    pthread_mutex_lock(&s->mu);
    if (x->prev)
        x->prev->next = x->next;
    else
        s->conns = x->next;
    if (x->next)
        x->next->prev = x->prev;
    pthread_mutex_unlock(&s->mu);

    net_close(x->in.stream);
    http_in_release(&x->in);
    http_head_release(&x->head);
    buf_release(&x->lines);
    buf_release(&x->path);
    buf_release(&x->rest);
    free(x);

    pthread_mutex_lock(&s->mu);
    atomic_fetch_sub(&s->n_conns, 1);
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->mu);
}

/* --- TLS. ---------------------------------------------------------------- */

#define TLS_FIRST_BYTE 22 /* of a record of the handshake */
#define SNIFF_MAX 5
#define HALF_OPEN_LOOK 32 /* at so many, for each newcomer */

/* Go's text for a client that has taken https for http. */
static void refuse_plain(struct http_exchange *x)
{
    write_text(x, "HTTP/1.0 400 Bad Request\r\n\r\n"
                  "Client sent an HTTP request to an HTTPS server.\n");
    linger(x);
}

static bool looks_like_http(const char *p, ssize_t n)
{
    static const char *const begins[] = {"GET /", "HEAD ", "POST ",
                                         "PUT /", "DELET", "OPTIO"};

    for (size_t i = 0; i < ARRAY_LEN(begins); i++)
        if (n == SNIFF_MAX && memcmp(p, begins[i], SNIFF_MAX) == 0)
            return true;
    return false;
}

static size_t half_open_max(const struct http_server *s)
{
    size_t half = s->o.conns_max / 2;

    return half && half < HTTP_HALF_OPEN_MAX ? half : HTTP_HALF_OPEN_MAX;
}

static void half_open_leave_locked(struct http_exchange *x)
{
    struct http_server *s = x->server;

    if (!x->half_open)
        return;
    x->half_open = false;
    s->n_half_open--;
    *(x->half_prev ? &x->half_prev->half_next : &s->half_oldest) = x->half_next;
    *(x->half_next ? &x->half_next->half_prev : &s->half_newest) = x->half_prev;
}

static void half_open_enter_locked(struct http_exchange *x)
{
    struct http_server *s = x->server;

    x->half_open = true;
    x->half_prev = s->half_newest;
    x->half_next = NULL;
    *(x->half_prev ? &x->half_prev->half_next : &s->half_oldest) = x;
    s->half_newest = x;
    s->n_half_open++;
}

static void half_open_end_locked(struct http_exchange *x)
{
    net_shutdown(x->in.stream);
    half_open_leave_locked(x);
}

/*
 * One too many ends the oldest that keeps us waiting, not the newcomer:
 * handshakes are quick, and who holds places with unfinished ones would else
 * keep all others out. Whoever waits for us, as all do on a busy machine, is
 * passed over and counts as new. If those looked at all do, there is one more,
 * up to half as many again, and later newcomers look further.
 */
static void half_open_enter(struct http_exchange *x)
{
    struct http_server *s = x->server;
    size_t max = half_open_max(s);

    pthread_mutex_lock(&s->mu);
    for (int i = 0; i < HALF_OPEN_LOOK && s->n_half_open >= max; i++) {
        struct http_exchange *oldest = s->half_oldest;

        if (net_keeps_waiting(oldest->in.stream)) {
            half_open_end_locked(oldest);
        } else {
            half_open_leave_locked(oldest);
            half_open_enter_locked(oldest);
        }
    }
    if (s->n_half_open >= max + max / 2)
        half_open_end_locked(s->half_oldest);
    half_open_enter_locked(x);
    pthread_mutex_unlock(&s->mu);
}

static void half_open_leave(struct http_exchange *x)
{
    pthread_mutex_lock(&x->server->mu);
    half_open_leave_locked(x);
    pthread_mutex_unlock(&x->server->mu);
}

static bool shake_hands(struct http_exchange *x)
{
    int64_t deadline_ns = sys_mono_ns() + SECURE_HANDSHAKE_MS * NS_PER_MS;
    char first[SNIFF_MAX];
    bool ok = false;
    ssize_t n;

    if (net_wait_readable(x->in.stream, deadline_ns) < 0)
        return false;
    n = net_peek(x->in.stream, first, sizeof(first));
    if (looks_like_http(first, n)) {
        refuse_plain(x);
        return false;
    }
    ok = secure_accept(x->server->o.secure, x->in.stream, deadline_ns) == 0;
    if (!ok)
        linger(x); /* so that the client reads why */
    return ok;
}

/*
 * What the listener wants before the first request; where it takes both plain
 * connections and TLS, the first byte tells them apart. False: no more to do.
 */
static bool open_connection(struct http_exchange *x)
{
    int64_t idle_ns = x->server->o.idle_ms * NS_PER_MS;
    uint8_t first;
    bool ok;

    if (!(x->schemes & NET_TLS))
        return true;
    if (x->schemes & NET_PLAIN) {
        if (net_wait_readable(x->in.stream, sys_mono_ns() + idle_ns) < 0 ||
            net_peek(x->in.stream, &first, 1) <= 0)
            return false;
        if (first != TLS_FIRST_BYTE)
            return true;
    }
    half_open_enter(x);
    ok = shake_hands(x);
    half_open_leave(x);
    return ok;
}

static void *conn_main(void *arg)
{
    struct http_exchange *x = arg;

    if (x->server->o.name)
        sys_thread_name(x->server->o.name);
    if (open_connection(x))
        while (read_request(x) && serve(x))
            ;
    leave(x);
    return NULL;
}

/* --- Accepting. --------------------------------------------------------- */

static void enter(struct http_server *s, struct http_exchange *x)
{
    pthread_mutex_lock(&s->mu);
    x->next = s->conns;
    if (x->next)
        x->next->prev = x;
    s->conns = x;
    atomic_fetch_add(&s->n_conns, 1);
    pthread_mutex_unlock(&s->mu);
}

static void start_connection(struct http_server *s, struct net_stream *stream,
                             int schemes)
{
    struct http_exchange *x = xcalloc(1, sizeof(*x));

    net_set_timeouts(stream, s->o.quiet_ms, s->o.stall_ms);
    x->server = s;
    x->schemes = schemes;
    x->in.stream = stream;
    x->in.budget = &s->budget;
    x->date_s = INT64_MIN;
    atomic_init(&x->idle, true);
    enter(s, x);
    if (sys_thread_detached(s->o.stack, conn_main, x) == 0)
        return;
    if (schemes & NET_PLAIN)
        write_text(x, "HTTP/1.1 503 Service Unavailable\r\n"
                      "Content-Type: text/plain; charset=utf-8\r\n"
                      "Connection: close\r\n\r\n"
                      "503 Service Unavailable");
    leave(x);
}

static bool has_room(struct http_server *s)
{
    return (!s->o.conns_max || atomic_load(&s->n_conns) < s->o.conns_max) &&
           has_fd(s);
}

/* Wait until there is room for a connection; false: stopping. */
static bool wait_for_room(struct acceptor *a)
{
    struct http_server *s = a->server;

    if (!has_room(s)) {
        int64_t now = sys_mono_ns();

        if (now >= a->next_warning_ns)
            log_warn("embed",
                     "%zu connections are open, as many as the limits of file "
                     "descriptors and memory allow; further ones wait (see "
                     "ulimit -n and -v)",
                     atomic_load(&s->n_conns));
        a->next_warning_ns = now + WARN_EVERY_NS;
        pthread_mutex_lock(&s->mu);
        while (!atomic_load(&s->stopping) && !has_room(s))
            pthread_cond_wait(&s->changed, &s->mu);
        pthread_mutex_unlock(&s->mu);
    }
    return !atomic_load(&s->stopping);
}

static void *accept_main(void *arg)
{
    struct acceptor *a = arg;
    struct http_server *s = a->server;
    bool again = true;

    if (s->o.name)
        sys_thread_name(s->o.name);
    while (again && wait_for_room(a)) {
        struct net_stream *stream = net_accept(a->listener, &again);

        if (stream)
            start_connection(s, stream, a->listener->schemes);
    }
    return NULL;
}

/* --- The server. -------------------------------------------------------- */

static size_t default_budget(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);

    if (pages <= 0 || page <= 0)
        return BUDGET_MAX;
    return (size_t)min_u64(BUDGET_MAX, (uint64_t)pages * (uint64_t)page / 4);
}

static void set_defaults(struct http_server_options *o)
{
    if (!o->large_max)
        o->large_max = default_budget();
    if (!o->head_ms)
        o->head_ms = HTTP_HEAD_MS;
    if (!o->idle_ms)
        o->idle_ms = HTTP_IDLE_MS;
    if (!o->stall_ms)
        o->stall_ms = HTTP_STALL_MS;
    if (!o->quiet_ms)
        o->quiet_ms = QUIET_MS;
    if (o->quiet_ms > o->idle_ms)
        o->quiet_ms = o->idle_ms;
    if (!o->stack)
        o->stack = SYS_STACK_SMALL;
}

int http_server_start(struct net_listener *listeners, size_t n,
                      const struct http_server_options *o,
                      struct http_server **out, struct err *e)
{
    struct http_server *s = xcalloc(1, sizeof(*s));

    s->o = *o;
    set_defaults(&s->o);
    s->budget.left = s->o.large_max;
    atomic_init(&s->stopping, false);
    atomic_init(&s->n_conns, 0);
    atomic_init(&s->n_h2, 0);
    pthread_mutex_init(&s->mu, NULL);
    sys_cond_init(&s->changed);
    s->acceptors = xcalloc(n, sizeof(*s->acceptors));
    for (size_t i = 0; i < n; i++) {
        struct acceptor *a = &s->acceptors[i];

        a->server = s;
        a->listener = &listeners[i];
        if (sys_thread(&a->thread, SYS_STACK_SMALL, accept_main, a) < 0) {
            http_server_stop(s, 0);
            return err_set(e, -1, "cannot start a thread to accept on %s",
                           listeners[i].url.raw);
        }
        s->n_acceptors++;
    }
    *out = s;
    return 0;
}

/* Wait until all connections have ended; false if time is up first. */
static bool wait_empty_locked(struct http_server *s, int64_t deadline_ns)
{
    while (atomic_load(&s->n_conns))
        if (!sys_cond_wait_until(&s->changed, &s->mu, deadline_ns))
            return atomic_load(&s->n_conns) == 0;
    return true;
}

bool http_server_drain(struct http_server *s, int64_t grace_ms)
{
    int64_t deadline = sys_mono_ns() + grace_ms * NS_PER_MS;
    bool empty;

    pthread_mutex_lock(&s->mu);
    atomic_store(&s->stopping, true);
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->mu);
    for (size_t i = 0; i < s->n_acceptors; i++)
        net_listener_shutdown(s->acceptors[i].listener);
    for (size_t i = 0; i < s->n_acceptors; i++)
        pthread_join(s->acceptors[i].thread, NULL);
    s->n_acceptors = 0;

    pthread_mutex_lock(&s->mu);
    for (struct http_exchange *x = s->conns; x; x = x->next)
        if (atomic_load(&x->idle))
            net_shutdown_read(x->in.stream);
    empty = wait_empty_locked(s, deadline);
    pthread_mutex_unlock(&s->mu);
    return empty;
}

void http_server_stop(struct http_server *s, int64_t grace_ms)
{
    while (!http_server_drain(s, grace_ms)) {
        pthread_mutex_lock(&s->mu);
        for (struct http_exchange *x = s->conns; x; x = x->next)
            net_shutdown(x->in.stream);
        pthread_mutex_unlock(&s->mu);
        grace_ms = HTTP_STALL_MS;
    }
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->mu);
    free(s->acceptors);
    free(s);
}

size_t http_connections(const struct http_server *s)
{
    return atomic_load(&s->n_conns);
}
