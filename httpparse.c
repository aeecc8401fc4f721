/*
 * httpparse.c - the grammar of HTTP/1 (RFC 9112): heads and chunked bodies.
 *
 * Pure: no I/O, and no memory but the table of headers, which is used again.
 * A head is cut into lines, each checked and noted as it is passed; what must
 * be known of the whole (Host, framing) is settled at its end.
 *
 * Everything that two readers could understand differently is refused, as it
 * could hide one request in another (RFC 9112, 11.2): different lengths,
 * blanks before a colon, folded lines, lone LF in chunked framing. Where a
 * transfer coding overrides a length, the connection ends with the exchange.
 *
 * Refusals come in the order and words of Go's net/http.
 */
#include "http.h"

#include <strings.h>

#define BLANK_LINES_MAX 4 /* CR and LF bytes skipped before a request */
#define TABLE_MIN 8
#define CHUNK_LINE_MAX 4096
#define CHUNK_DIGITS_MAX 16
#define CHUNK_EXCESS_MAX (16 * 1024) /* as in Go */
#define CHUNK_CREDIT 16              /* framing bytes that a chunk may take */

/* --- Characters. -------------------------------------------------------- */

/* The sets that a character may be in; the table holds their sums. */
enum {
    TOKEN = 1, /* a method, the name of a header */
    HOST = 2,
    TEXT = 4,  /* no control character */
    VALUE = 8, /* TEXT and tabs (RFC 9110, 5.5) */
};

/* clang-format off */
#define X16(v) v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v
static const uint8_t sets[256] = {
     0,  0,  0,  0,  0,  0,  0,  0,  0,  8,  0,  0,  0,  0,  0,  0, /* 00 */
     0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0, /* 10 */
    12, 15, 12, 13, 15, 15, 15, 15, 14, 14, 15, 15, 14, 15, 15, 12, /* 20 */
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 14, 14, 12, 14, 12, 12, /* 30 */
    12, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, /* 40 */
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 14, 12, 14, 13, 15, /* 50 */
    13, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, /* 60 */
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 12, 13, 12, 15,  0, /* 70 */
    X16(TEXT | VALUE), X16(TEXT | VALUE), X16(TEXT | VALUE), X16(TEXT | VALUE),
    X16(TEXT | VALUE), X16(TEXT | VALUE), X16(TEXT | VALUE), X16(TEXT | VALUE),
};
#undef X16
/* clang-format on */

static bool all_in_set(int set, struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!(sets[(unsigned char)s.p[i]] & set))
            return false;
    return true;
}

/* Does a comma list hold this token? */
static bool has_token(struct str list, const char *token)
{
    struct str item;
    bool more;

    do {
        more = str_cut(&list, ',', &item);
        if (str_caseeqz(str_trim(item), token))
            return true;
    } while (more);
    return false;
}

/* --- Lines. ------------------------------------------------------------- */

/* What a head says before it is all read. */
struct notes {
    unsigned n_hosts, n_codings, n_lengths;
    struct str host, coding, length;
    bool lengths_differ;
    bool close, keep_alive;
    bool bad_name, bad_value;
};

/* The next line of *rest without its end; false if it is not complete. A lone
 * LF ends a line, too, as it always has. */
static bool next_line(struct str *rest, struct str *line)
{
    const char *lf = rest->n ? memchr(rest->p, '\n', rest->n) : NULL;

    if (!lf)
        return false;
    line->p = rest->p;
    line->n = (size_t)(lf - rest->p);
    rest->n -= line->n + 1;
    rest->p = lf + 1;
    if (line->n && line->p[line->n - 1] == '\r')
        line->n--;
    return true;
}

static void note_length(struct notes *s, struct str value)
{
    if (s->n_lengths++ == 0)
        s->length = value;
    else if (!str_eq(s->length, value))
        s->lengths_differ = true;
}

/* The headers that steer the parsing. Told apart by length first: it is cheap
 * and most others end here. */
static void note_header(struct http_head *h, struct notes *s, struct str name,
                        struct str value)
{
    switch (name.n) {
    case 4:
        if (str_caseeqz(name, "Host") && s->n_hosts++ == 0)
            s->host = value;
        break;
    case 6:
        if (str_caseeqz(name, "Expect") && !h->expect_continue) {
            h->expect_continue = has_token(value, "100-continue");
            h->expect_other = !h->expect_continue && value.n;
        }
        break;
    case 10:
        if (str_caseeqz(name, "Connection")) {
            s->close |= has_token(value, "close");
            s->keep_alive |= has_token(value, "keep-alive");
        }
        break;
    case 14:
        if (str_caseeqz(name, "Content-Length"))
            note_length(s, value);
        break;
    case 17:
        if (str_caseeqz(name, "Transfer-Encoding") && s->n_codings++ == 0)
            s->coding = value;
        break;
    }
}

static void add_header(struct http_head *h, struct str name, struct str value)
{
    if (h->n_headers == h->headers_cap) {
        h->headers_cap = h->headers_cap ? 2 * h->headers_cap : TABLE_MIN;
        h->headers = xrealloc(h->headers, h->headers_cap * sizeof(*h->headers));
    }
    h->headers[h->n_headers++] = (struct http_header){name, value};
}

/* One "Name: value". 0, or the negative status that refuses it at once. */
static int parse_header(struct http_head *h, struct notes *s, struct str line)
{
    struct str name, value = line;

    if (!str_cut(&value, ':', &name) || name.n == 0 || name.p[0] == ' ' ||
        name.p[0] == '\t')
        return -400;
    s->bad_name |= !all_in_set(TOKEN, name); /* told at the end, as Go */
    if (h->n_headers == HTTP_HEADERS_MAX)
        return -431;
    value = str_trim(value);
    s->bad_value |= !all_in_set(VALUE, value);
    add_header(h, name, value);
    note_header(h, s, name, value);
    return 0;
}

/* All headers and the empty line: 1, 0 if there is more to come, or a negative
 * status. */
static int parse_headers(struct http_head *h, struct notes *s, struct str *rest)
{
    struct str line;

    while (next_line(rest, &line)) {
        int rc;

        if (line.n == 0)
            return 1;
        rc = parse_header(h, s, line);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* "HTTP/1.1": the minor version, or -400; -505 if it is not HTTP/1. */
static int parse_version(struct str s)
{
    if (s.n != 8 || !str_has_prefix(s, "HTTP/") || s.p[6] != '.' ||
        s.p[5] < '0' || s.p[5] > '9' || s.p[7] < '0' || s.p[7] > '9')
        return -400;
    return s.p[5] == '1' ? s.p[7] - '0' : -505;
}

/* --- Targets (RFC 9112, 3.2). ------------------------------------------- */

static bool has_good_escapes(struct str s)
{
    struct str plain;

    while (str_cut(&s, '%', &plain))
        if (s.n < 2 || hex_digit(s.p[0]) < 0 || hex_digit(s.p[1]) < 0)
            return false;
    return true;
}

/* Cut "scheme://authority" off the front of *t. */
static bool cut_authority(struct str *t, struct str *authority)
{
    struct str scheme, rest = *t;
    size_t n = 0;

    if (!str_cut(&rest, ':', &scheme) || scheme.n == 0 ||
        !all_in_set(TOKEN, scheme) || !str_has_prefix(rest, "//"))
        return false;
    rest = (struct str){rest.p + 2, rest.n - 2};
    while (n < rest.n && rest.p[n] != '/' && rest.p[n] != '?')
        n++;
    *authority = (struct str){rest.p, n};
    *t = (struct str){rest.p + n, rest.n - n};
    for (size_t i = n; i > 0; i--) { /* user information is not for us */
        if (authority->p[i - 1] == '@') {
            *authority = (struct str){authority->p + i, n - i};
            break;
        }
    }
    return authority->n && all_in_set(HOST, *authority);
}

static bool parse_target(struct http_head *h)
{
    struct str t = h->target;

    if (t.n == 0 || !all_in_set(TEXT, t))
        return false;
    h->authority = h->query = STR("");
    if (str_eqz(h->method, "CONNECT") && t.p[0] != '/') {
        h->authority = t;
        h->path = STR("/");
        return all_in_set(HOST, t);
    }
    if (str_eqz(t, "*")) {
        h->path = t;
        return str_eqz(h->method, "OPTIONS");
    }
    if (t.p[0] != '/' && !cut_authority(&t, &h->authority))
        return false;
    str_cut(&t, '?', &h->path);
    h->query = t;
    if (h->path.n == 0)
        h->path = STR("/");
    return has_good_escapes(h->path);
}

/* --- Heads. ------------------------------------------------------------- */

static void reset(struct http_head *h)
{
    struct http_header *table = h->headers;
    size_t cap = h->headers_cap;

    *h = (struct http_head){
        .headers = table, .headers_cap = cap, .content_length = -1};
}

/* "GET /v2/keys HTTP/1.1": 0, or a negative status. A version that is not ours
 * is noted in *version only: Go refuses it after the headers. */
static int parse_request_line(struct http_head *h, struct str line,
                              int *version)
{
    if (!str_cut(&line, ' ', &h->method) || !str_cut(&line, ' ', &h->target))
        return -400;
    if (h->method.n == 0 || !all_in_set(TOKEN, h->method))
        return -400;
    *version = parse_version(line);
    if (*version == -400 || (*version >= 0 && !parse_target(h)))
        return -400;
    h->minor = *version;
    return 0;
}

static int settle_length(struct http_head *h, const struct notes *s)
{
    uint64_t n;

    if (s->n_lengths == 0)
        return 0;
    if (s->lengths_differ || !str_to_u64(s->length, &n) || n > INT64_MAX)
        return -400;
    h->content_length = (int64_t)n;
    return 0;
}

/* How long the body is, and whether another message may follow it. */
static int settle_framing(struct http_head *h, const struct notes *s,
                          const char **why)
{
    h->keep_alive = !s->close && (h->minor >= 1 || s->keep_alive);
    if (s->n_codings && h->minor >= 1) {
        if (s->n_codings > 1 || !str_caseeqz(s->coding, "chunked")) {
            *why = "Unsupported transfer encoding";
            return -501;
        }
        h->chunked = true;
    }
    if (settle_length(h, s) < 0)
        return -400;
    if (s->n_codings && (s->n_lengths || h->minor == 0))
        h->keep_alive = false;
    if (h->chunked)
        h->content_length = -1; /* overridden */
    return 0;
}

static int settle_request(struct http_head *h, const struct notes *s,
                          int version, const char **why)
{
    int rc;

    if (s->n_hosts > 1)
        return -400;
    rc = settle_framing(h, s, why);
    if (rc < 0)
        return rc;
    if (version < 0) {
        *why = "unsupported protocol version";
        return version;
    }
    if (h->minor >= 1 && s->n_hosts == 0 && !str_eqz(h->method, "CONNECT"))
        *why = "missing required Host header";
    else if (!all_in_set(HOST, s->host))
        *why = "malformed Host header";
    else if (s->bad_name)
        *why = "invalid header name";
    else if (s->bad_value)
        *why = "invalid header value";
    return **why ? -400 : 0;
}

/* The verdict on a head of which only n bytes are here. */
static int64_t incomplete(size_t n)
{
    return n >= HTTP_HEAD_MAX ? -431 : 0;
}

int64_t http_parse_request(const void *p, size_t n, struct http_head *out,
                           const char **why)
{
    struct str rest = {p, n}, line;
    struct notes s = {0};
    int rc, version;

    *why = "";
    reset(out);
    for (int i = 0; i < BLANK_LINES_MAX && rest.n &&
                    (rest.p[0] == '\r' || rest.p[0] == '\n');
         i++)
        rest.p++, rest.n--;
    if (!next_line(&rest, &line))
        return incomplete(n);
    rc = parse_request_line(out, line, &version);
    if (rc < 0)
        return rc;
    rc = parse_headers(out, &s, &rest);
    if (rc == 0)
        return incomplete(n);
    if (rc < 0)
        return rc;
    if (n - rest.n > HTTP_HEAD_MAX)
        return -431;
    rc = settle_request(out, &s, version, why);
    return rc < 0 ? rc : (int64_t)(n - rest.n);
}

/* "HTTP/1.1 200 OK"; the reason may be missing. */
static int parse_status_line(struct http_head *h, struct str line,
                             const char **why)
{
    struct str version, status;
    uint64_t code;

    str_cut(&line, ' ', &version);
    str_cut(&line, ' ', &status);
    h->reason = line;
    h->minor = parse_version(version);
    if (h->minor < 0)
        *why = "malformed HTTP version";
    else if (status.n != 3 || !str_to_u64(status, &code) || code < 100)
        *why = "malformed HTTP status code";
    else
        h->status = (int)code;
    return **why ? -400 : 0;
}

int64_t http_parse_response(const void *p, size_t n, struct http_head *out,
                            const char **why)
{
    struct str rest = {p, n}, line;
    struct notes s = {0};
    int rc;

    *why = "";
    reset(out);
    if (!next_line(&rest, &line))
        return incomplete(n);
    rc = parse_status_line(out, line, why);
    if (rc < 0)
        return rc;
    rc = parse_headers(out, &s, &rest);
    if (rc == 0)
        return incomplete(n);
    if (rc > 0)
        rc = n - rest.n > HTTP_HEAD_MAX ? -431 : settle_framing(out, &s, why);
    if (rc == 0 && (s.bad_name || s.bad_value))
        rc = -400;
    if (rc < 0 && !**why)
        *why = "malformed HTTP header";
    return rc < 0 ? rc : (int64_t)(n - rest.n);
}

void http_head_release(struct http_head *h)
{
    free(h->headers);
    *h = (struct http_head){0};
}

struct str http_header(const struct http_head *h, const char *name)
{
    size_t n = strlen(name);

    for (size_t i = 0; i < h->n_headers; i++) {
        const struct http_header *f = &h->headers[i];

        if (f->name.n == n && strncasecmp(f->name.p, name, n) == 0)
            return f->value;
    }
    return (struct str){0};
}

bool http_has_token(const struct http_head *h, const char *name,
                    const char *token)
{
    for (size_t i = 0; i < h->n_headers; i++)
        if (str_caseeqz(h->headers[i].name, name) &&
            has_token(h->headers[i].value, token))
            return true;
    return false;
}

/* --- Chunks. ------------------------------------------------------------ */

/*
 *   SIZE -> [BLANK] -> [EXTENSION] -> SIZE_LF -> DATA -> DATA_CR -> DATA_LF
 *    ^                                  | size 0                        |
 *    |                                  v                               |
 *    |                               TRAILER <-> TRAILER_LINE           |
 *    |                                  | empty line                    |
 *    +----------------------------------|-------------------------------+
 *                                       v
 *                                     END_LF -> DONE
 */
enum chunk_state {
    SIZE, /* 0: a struct http_chunks starts as {0} */
    BLANK,
    EXTENSION,
    SIZE_LF,
    DATA,
    DATA_CR,
    DATA_LF,
    TRAILER,
    TRAILER_LINE,
    TRAILER_LF,
    END_LF,
    DONE,
};

static const char bad_chunk[] = "malformed chunked encoding";

/* A character of the size line. The next state, or -1. */
static int size_byte(struct http_chunks *c, uint8_t b, const char **why)
{
    int digit = hex_digit((char)b);

    *why = bad_chunk;
    if (b == '\n')
        return -1;
    if (c->state == EXTENSION)
        return b == '\r' ? SIZE_LF : EXTENSION;
    if (c->state == SIZE && digit >= 0) {
        *why = "http chunk length too large";
        if (c->line == CHUNK_DIGITS_MAX)
            return -1;
        c->left = c->left << 4 | (unsigned)digit;
        return SIZE;
    }
    if (c->state == SIZE && c->line == 0 && (b == '\r' || b == ';')) {
        *why = "empty hex number for chunk length";
        return -1;
    }
    *why = "invalid byte in chunk length";
    if (b == '\r')
        return SIZE_LF;
    if (b == ';' && c->state == SIZE)
        return EXTENSION;
    if ((b == ' ' || b == '\t') && c->line)
        return BLANK;
    return -1;
}

/* The size line has ended. Go's defence against much framing for little data:
 * each chunk earns credit for its line and its bytes. */
static int begin_chunk(struct http_chunks *c, const char **why)
{
    uint64_t credit = CHUNK_CREDIT + 2 * min_u64(c->left, CHUNK_EXCESS_MAX);

    c->excess += c->line + 2;
    c->excess -= min_u64(c->excess, credit);
    if (c->excess > CHUNK_EXCESS_MAX) {
        *why = "chunked encoding contains too much non-data";
        return -1;
    }
    c->line = 0;
    return c->left ? DATA : TRAILER;
}

/* One byte of framing. The next state, or -1. */
static int framing_byte(struct http_chunks *c, uint8_t b, const char **why)
{
    *why = bad_chunk;
    switch (c->state) {
    case SIZE:
    case BLANK:
    case EXTENSION:
        return size_byte(c, b, why);
    case SIZE_LF:
        return b == '\n' ? begin_chunk(c, why) : -1;
    case DATA_CR:
        return b == '\r' ? DATA_LF : -1;
    case DATA_LF:
        return b == '\n' ? SIZE : -1;
    case TRAILER:
        return b == '\r' ? END_LF : b == '\n' ? -1 : TRAILER_LINE;
    case TRAILER_LINE:
        return b == '\r' ? TRAILER_LF : b == '\n' ? -1 : TRAILER_LINE;
    case TRAILER_LF:
        return b == '\n' ? TRAILER : -1;
    default: /* END_LF */
        return b == '\n' ? DONE : -1;
    }
}

/* Count the byte that led to state next, within its line or the trailer. */
static int count_byte(struct http_chunks *c, int next, const char **why)
{
    if (next == DATA || next == DATA_LF || c->state == DATA_LF ||
        (c->state == SIZE_LF && next == TRAILER))
        return 0; /* a new line begins at 0 */
    if (++c->line <= CHUNK_LINE_MAX)
        return 0;
    *why = next >= TRAILER
               ? "http: suspiciously long trailer after chunked body"
               : "header line too long";
    return -1;
}

int http_chunks_next(struct http_chunks *c, const uint8_t *p, size_t n,
                     size_t *used, const uint8_t **out, size_t *n_out,
                     const char **why)
{
    size_t i = 0;

    *out = p;
    *n_out = 0;
    *why = "";
    while (i < n && c->state != DATA && c->state != DONE) {
        int next = framing_byte(c, p[i], why);

        if (next < 0 || count_byte(c, next, why) < 0)
            return HTTP_ECHUNK;
        c->state = next;
        i++;
    }
    if (c->state == DATA && i < n) {
        *out = p + i;
        *n_out = (size_t)min_u64(c->left, n - i);
        http_chunks_took(c, *n_out);
        i += *n_out;
    }
    *why = "";
    *used = i;
    return c->state == DONE;
}

uint64_t http_chunks_data(const struct http_chunks *c)
{
    return c->state == DATA ? c->left : 0;
}

void http_chunks_took(struct http_chunks *c, uint64_t n)
{
    c->left -= n;
    if (c->left == 0)
        c->state = DATA_CR;
}

/* --- Status texts (IANA's list, as Go spells it). ----------------------- */

const char *http_status_text(int status)
{
    /* clang-format off */
    static const struct {
        int status;
        const char *text;
    } texts[] = {
        {200, "OK"},
        {100, "Continue"},
        {101, "Switching Protocols"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {303, "See Other"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {411, "Length Required"},
        {412, "Precondition Failed"},
        {413, "Request Entity Too Large"},
        {414, "Request URI Too Long"},
        {415, "Unsupported Media Type"},
        {416, "Requested Range Not Satisfiable"},
        {417, "Expectation Failed"},
        {421, "Misdirected Request"},
        {422, "Unprocessable Entity"},
        {428, "Precondition Required"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {507, "Insufficient Storage"},
    };
    /* clang-format on */

    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (texts[i].status == status)
            return texts[i].text;
    return "";
}
