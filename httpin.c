/*
 * httpin.c - a message that comes in: a request to http.c, or a response to
 * client.c. The grammar is in httpparse.c.
 *
 *   in.buf   | head being served | body, next messages ... | free |
 *            0                   in.body   in.pos      len
 *
 * The head stays where it was read while the message is served, for http_head
 * points to it: so in.buf is never moved then, and bodies go straight to where
 * they are wanted. What is allocated is counted against the server's budget.
 */
#include "http_impl.h"

#include "sys.h"

#include <assert.h>

#define IN_MIN 1024      /* of in.buf at first: most requests fit */
#define IN_KEEP 4096     /* and as far as it grows to have them fit */
#define CHUNK_ROOM 1024  /* least space behind a head for chunked input */
#define FREE_BYTES 16384 /* of each buffer that no budget counts */

/* --- The budget of memory. ---------------------------------------------- */

/* A buffer of cap bytes is all right, or would be more than there is. */
static bool budget_take(struct http_budget *b, size_t *taken, size_t cap)
{
    size_t want = cap > FREE_BYTES ? cap - FREE_BYTES : 0, left, more;

    if (!b || want <= *taken)
        return true;
    more = want - *taken;
    left = __atomic_load_n(&b->left, __ATOMIC_RELAXED);
    do {
        if (left < more)
            return false;
    } while (!__atomic_compare_exchange_n(&b->left, &left, left - more, true,
                                          __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    *taken = want;
    return true;
}

void http_budget_give(struct http_budget *b, size_t *taken)
{
    if (b && *taken)
        __atomic_fetch_add(&b->left, *taken, __ATOMIC_RELAXED);
    *taken = 0;
}

/* What buf_reserve() would make of it. */
static size_t grown_cap(const struct buf *b, size_t n)
{
    size_t cap = b->cap ? b->cap : 64;

    while (cap < b->len + n)
        cap *= 2;
    return cap;
}

bool http_budget_reserve(struct http_budget *budget, size_t *taken,
                         struct buf *b, size_t n)
{
    if (!budget_take(budget, taken, grown_cap(b, n)))
        return false;
    buf_reserve(b, n);
    return true;
}

/* --- A head. ------------------------------------------------------------ */

bool http_in_empty(const struct http_in *in)
{
    return in->pos == in->buf.len;
}

/* Read once, behind what there is; makes room by dropping what was consumed,
 * then by growing. Bytes, 0 at the end, NET_E*, or -503: no memory left. */
static ssize_t read_more(struct http_in *in, int64_t deadline_ns)
{
    struct buf *b = &in->buf;
    ssize_t r;

    if (b->len == b->cap) {
        buf_consume(b, in->pos);
        in->pos = 0;
        if (b->len == b->cap) {
            size_t more = b->cap ? b->cap : in->size;

            if (!http_budget_reserve(in->budget, &in->taken, b, more))
                return -503;
        }
    }
    r = net_read(in->stream, b->data + b->len, b->cap - b->len, deadline_ns);
    if (r > 0)
        b->len += (size_t)r;
    return r;
}

/* The first bytes of a message, in an empty buffer. If a client fills that,
 * the next one is larger, so that one system call may do again. */
static ssize_t read_first(struct http_in *in, int64_t deadline_ns)
{
    size_t keep = in->size > IN_KEEP ? in->size : IN_KEEP;
    ssize_t r;

    in->pos = in->buf.len = 0;
    if (in->size < IN_MIN)
        in->size = IN_MIN;
    if (in->buf.cap > keep || in->buf.cap < in->size) {
        buf_release(&in->buf);
        http_budget_give(in->budget, &in->taken);
    }
    r = read_more(in, deadline_ns);
    if (in->buf.len == in->buf.cap && in->size < IN_KEEP)
        in->size *= 2;
    return r;
}

ssize_t http_in_more(struct http_in *in, int64_t deadline_ns)
{
    return http_in_empty(in) ? read_first(in, deadline_ns)
                             : read_more(in, deadline_ns);
}

/* How far an incomplete head has been looked at. Without this, a head that
 * comes byte by byte would cost the square of its length. */
struct progress {
    size_t scanned;  /* bytes of the head without an empty line in them */
    bool first_line; /* it was complete at the last parse */
};

/* Is there something new to parse: the first line, or the end of the head? */
static bool worth_parsing(const struct http_in *in, struct progress *s)
{
    const uint8_t *p = in->buf.data + in->pos;
    size_t n = in->buf.len - in->pos;
    size_t i = s->scanned > 2 ? s->scanned - 2 : 0;
    const uint8_t *lf;

    s->scanned = n;
    while (i < n && (lf = memchr(p + i, '\n', n - i)) != NULL) {
        i = (size_t)(lf - p) + 1;
        if (!s->first_line) {
            s->first_line = true;
            return true;
        }
        if ((i < n && p[i] == '\n') ||
            (i + 1 < n && p[i] == '\r' && p[i + 1] == '\n'))
            return true;
    }
    return n >= HTTP_HEAD_MAX;
}

static int64_t parse_head(const struct http_in *in, bool request,
                          struct http_head *out, const char **why)
{
    const uint8_t *p = in->buf.data + in->pos;
    size_t n = in->buf.len - in->pos;

    return request ? http_parse_request(p, n, out, why)
                   : http_parse_response(p, n, out, why);
}

/* The rest of a head whose beginning is here. Result as http_in_head(). */
static int64_t read_rest(struct http_in *in, bool request,
                         struct http_head *out, int64_t deadline_ns,
                         const char **why)
{
    struct progress seen = {0};
    int64_t used = 0;

    worth_parsing(in, &seen);
    while (used == 0) {
        do {
            ssize_t r = read_more(in, deadline_ns);

            if (r < 0)
                return r;
            if (r == 0 && request && !seen.first_line)
                return 0; /* as etcd's port multiplexer: no answer */
            if (r == 0) {
                *why = request ? "" : "unexpected EOF";
                return -400;
            }
        } while (!worth_parsing(in, &seen));
        used = parse_head(in, request, out, why);
    }
    return used;
}

int http_in_head(struct http_in *in, bool request, struct http_head *out,
                 int64_t deadline_ns, int64_t rest_ms, const char **why)
{
    int64_t used;

    if (http_in_empty(in)) {
        ssize_t r = read_first(in, deadline_ns);

        if (r <= 0)
            return (int)r;
    }
    used = parse_head(in, request, out, why);
    if (used == 0) {
        if (rest_ms)
            deadline_ns = sys_mono_ns() + rest_ms * NS_PER_MS;
        used = read_rest(in, request, out, deadline_ns, why);
    }
    if (used <= 0)
        return (int)used;

    if (out->chunked && in->buf.cap - in->buf.len < CHUNK_ROOM) {
        buf_reserve(&in->buf, CHUNK_ROOM); /* moves it: point anew */
        parse_head(in, request, out, why);
    }
    in->pos += (size_t)used;
    in->body = in->pos;
    in->framing = HTTP_NO_BODY;
    return 1;
}

/* --- Its body. ---------------------------------------------------------- */

void http_in_body(struct http_in *in, enum http_framing framing, uint64_t n)
{
    in->framing = framing;
    in->left = n;
    in->chunks = (struct http_chunks){0};
    in->why = "";
    if (framing == HTTP_LENGTH && n == 0)
        in->framing = HTTP_NO_BODY;
}

ssize_t http_in_break(struct http_in *in, int code, const char *why)
{
    in->framing = HTTP_BROKEN;
    in->code = code;
    in->why = why;
    return code;
}

/* A read of the body gave r <= 0 where there should have been bytes. An end
 * may be half a hang-up: then the client still reads what we say to it. */
static ssize_t body_failed(struct http_in *in, ssize_t r)
{
    if (r == NET_ETIMEOUT)
        return HTTP_EBODY_TIMEOUT;
    return http_in_break(in, r == 0 ? HTTP_EBODY_BAD : HTTP_EBODY_IO,
                         "unexpected EOF");
}

/* Up to n bytes: what is in the buffer, or else one read straight to p. */
static ssize_t take(struct http_in *in, void *p, size_t n, int64_t deadline_ns)
{
    size_t here = in->buf.len - in->pos;

    if (here == 0)
        return net_read(in->stream, p, n, deadline_ns);
    if (n > here)
        n = here;
    memcpy(p, in->buf.data + in->pos, n);
    in->pos += n;
    return (ssize_t)n;
}

/* Pass buffered bytes through the decoder. 1 at the end, 0, HTTP_ECHUNK. */
static int decode_some(struct http_in *in, void *p, size_t n, size_t *n_out)
{
    const uint8_t *piece;
    size_t used;
    int rc = http_chunks_next(&in->chunks, in->buf.data + in->pos,
                              (size_t)min_u64(n, in->buf.len - in->pos), &used,
                              &piece, n_out, &in->why);

    if (rc < 0)
        return rc;
    in->pos += used;
    if (*n_out)
        memcpy(p, piece, *n_out);
    return rc;
}

static ssize_t read_chunked(struct http_in *in, void *p, size_t n,
                            int64_t deadline_ns)
{
    for (;;) {
        uint64_t data = http_chunks_data(&in->chunks);
        size_t n_out = 0;
        ssize_t r = 1;

        if (!http_in_empty(in)) {
            int rc = decode_some(in, p, n, &n_out);

            if (rc < 0)
                return http_in_break(in, HTTP_EBODY_BAD, in->why);
            if (rc == 1)
                in->framing = HTTP_NO_BODY;
            if (rc == 1 || n_out)
                return (ssize_t)n_out;
        } else if (data) {
            r = take(in, p, (size_t)min_u64(n, data), deadline_ns);
            if (r > 0) {
                http_chunks_took(&in->chunks, (uint64_t)r);
                return r;
            }
        } else {
            in->pos = in->buf.len = in->body; /* the head stays */
            assert(in->buf.len < in->buf.cap);
            r = read_more(in, deadline_ns);
        }
        if (r <= 0)
            return body_failed(in, r);
    }
}

ssize_t http_in_read(struct http_in *in, void *p, size_t n, int64_t deadline_ns)
{
    ssize_t r = 0;

    if (n == 0)
        return 0;
    switch (in->framing) {
    case HTTP_NO_BODY:
        return 0;
    case HTTP_CHUNKED:
        return read_chunked(in, p, n, deadline_ns);
    case HTTP_LENGTH:
        r = take(in, p, (size_t)min_u64(n, in->left), deadline_ns);
        if (r <= 0)
            return body_failed(in, r);
        in->left -= (uint64_t)r;
        break;
    case HTTP_TO_CLOSE:
        r = take(in, p, n, deadline_ns);
        if (r < 0)
            return body_failed(in, r);
        break;
    case HTTP_BROKEN:
        return in->code;
    }
    if (r == 0 || (in->framing == HTTP_LENGTH && in->left == 0))
        in->framing = HTTP_NO_BODY;
    return r;
}

void http_in_ahead(struct http_in *in)
{
    struct buf *b = &in->buf;
    ssize_t r;

    if (!http_in_empty(in) || b->len == b->cap)
        return;
    r = net_read(in->stream, b->data + b->len, b->cap - b->len, 0);
    if (r > 0)
        b->len += (size_t)r;
}

void http_in_release(struct http_in *in)
{
    buf_release(&in->buf);
    http_budget_give(in->budget, &in->taken);
    in->pos = in->body = 0;
}
