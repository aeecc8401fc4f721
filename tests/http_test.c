/*
 * http_test.c - the grammar of HTTP/1: heads and chunked bodies, from tables.
 *
 * Input is always copied to a block of its exact size, so that the sanitizers
 * see a read past its end.
 */
#include "check.h"
#include "http.h"

#include <stdio.h>

#define OK_HOST "Host: x\r\n"

static int64_t parse(bool request, const char *p, size_t n, struct http_head *h,
                     const char **why, char **copy)
{
    *copy = xmalloc(n);
    memcpy(*copy, p, n);
    return request ? http_parse_request(*copy, n, h, why)
                   : http_parse_response(*copy, n, h, why);
}

/* The verdict alone. */
static int64_t verdict(bool request, const char *p, size_t n, char why[64])
{
    struct http_head h = {0};
    const char *text;
    char *copy;
    int64_t rc = parse(request, p, n, &h, &text, &copy);

    snprintf(why, 64, "%s", text);
    free(copy);
    http_head_release(&h);
    return rc;
}

static void check_str_n(int line, struct str got, const char *want)
{
    if (!str_eqz(got, want))
        fprintf(stderr, "line %d: got \"%.*s\", want \"%s\"\n", line,
                STR_FMT(got), want);
    CHECK(str_eqz(got, want));
}

/* --- Requests. ---------------------------------------------------------- */

/* clang-format off */
static const struct {
    const char *text;
    const char *method, *authority, *path, *query;
    int minor;
    int64_t length;
    bool chunked, keep, expect, expect_other;
} good[] = {
    {"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
     "GET", "", "/", "", 1, -1, false, true, false, false},
    {"GET /v2/keys/a%20b?x=1&y=%zz HTTP/1.1\r\nhOsT:x\r\nX-Empty:\r\nX-Tab:\ttab\r\n\r\n",
     "GET", "", "/v2/keys/a%20b", "x=1&y=%zz", 1, -1, false, true, false, false},
    {"\r\nGET / HTTP/1.1\nHost: x\n\n", /* blank line first, lone LF */
     "GET", "", "/", "", 1, -1, false, true, false, false},
    {"GET http://u:p@h.example:80/a?b HTTP/1.1\r\nHost: other\r\n\r\n",
     "GET", "h.example:80", "/a", "b", 1, -1, false, true, false, false},
    {"GET http://h?q HTTP/1.1\r\nHost: h\r\n\r\n",
     "GET", "h", "/", "q", 1, -1, false, true, false, false},
    {"GET /\xe2\x82\xac HTTP/1.1\r\nHost: [::1]:2379\r\n\r\n",
     "GET", "", "/\xe2\x82\xac", "", 1, -1, false, true, false, false},
    {"GET //a//b HTTP/1.0\r\n\r\n",
     "GET", "", "//a//b", "", 0, -1, false, false, false, false},
    {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
     "GET", "", "/", "", 0, -1, false, true, false, false},
    {"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n",
     "GET", "", "/", "", 0, -1, false, false, false, false},
    {"GET / HTTP/1.1\r\n" OK_HOST "Connection: x , CLOSE\r\n\r\n",
     "GET", "", "/", "", 1, -1, false, false, false, false},
    {"PUT /k HTTP/1.1\r\n" OK_HOST "Content-Length: 7\r\n\r\n",
     "PUT", "", "/k", "", 1, 7, false, true, false, false},
    {"PUT /k HTTP/1.1\r\n" OK_HOST "Content-Length: 7\r\ncontent-length: 7\r\n\r\n",
     "PUT", "", "/k", "", 1, 7, false, true, false, false},
    {"PUT /k HTTP/1.1\r\n" OK_HOST "Transfer-Encoding: Chunked\r\n\r\n",
     "PUT", "", "/k", "", 1, -1, true, true, false, false},
    /* two framings: the coding wins, and the connection ends (RFC 9112, 6.1) */
    {"PUT /k HTTP/1.1\r\n" OK_HOST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
     "PUT", "", "/k", "", 1, -1, true, false, false, false},
    /* 1.0 has no codings: ignored, and the connection ends */
    {"PUT /k HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\n",
     "PUT", "", "/k", "", 0, 3, false, false, false, false},
    {"PUT /k HTTP/1.1\r\n" OK_HOST "Expect: 100-Continue\r\n\r\n",
     "PUT", "", "/k", "", 1, -1, false, true, true, false},
    {"PUT /k HTTP/1.1\r\n" OK_HOST "Expect: magic\r\n\r\n",
     "PUT", "", "/k", "", 1, -1, false, true, false, true},
    {"OPTIONS * HTTP/1.1\r\n" OK_HOST "\r\n",
     "OPTIONS", "", "*", "", 1, -1, false, true, false, false},
    {"CONNECT h:1 HTTP/1.1\r\n\r\n",
     "CONNECT", "h:1", "/", "", 1, -1, false, true, false, false},
    {"get /a HTTP/1.9\r\n" OK_HOST "\r\n",
     "get", "", "/a", "", 9, -1, false, true, false, false},
};

static const struct {
    const char *text;
    int status;
    const char *why;
} bad[] = {
    {"GET /k HTTP/1.1\r\n\r\n", 400, "missing required Host header"},
    {"GET /k HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400, ""},
    {"GET /k HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "malformed Host header"},
    {"GET /k HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "malformed Host header"},
    {"GET /k HTTP/3.7\r\nHost: x\r\n\r\n", 505, "unsupported protocol version"},
    {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "unsupported protocol version"},
    {"GET /k HTTP/0.9\r\nHost: x\r\n\r\n", 505, "unsupported protocol version"},
    {"GET /k\r\nHost: x\r\n\r\n", 400, ""},
    {"GET /k HTTP/1.1 \r\nHost: x\r\n\r\n", 400, ""},
    {"GET  /k HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""},
    {"GET /k http/1.1\r\nHost: x\r\n\r\n", 400, ""},
    {"GET /k HTTP/1.10\r\nHost: x\r\n\r\n", 400, ""},
    {"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""},
    {"G(T /k HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""},
    {" /k HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""},
    {"GARBAGE\r\n", 400, ""}, /* refused before the head is complete */
    {"GET v2/keys HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""},
    {"GET mailto:x HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""},
    {"GET http:///x HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""},
    {"GET http://a\"b/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""},
    {"GET * HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""},
    {"CONNECT h/x HTTP/1.1\r\n\r\n", 400, ""},
    {"GET /bad%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""},
    {"GET /bad%2 HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""},
    {"GET /bad% HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""},
    {"GET /a\tb HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""},
    {"GET /a\x7f HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""},
    {"GET / HTTP/1.1\r\nHost: x\r\nNo-Colon\r\n\r\n", 400, ""},
    {"GET / HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n", 400, ""},
    {"GET / HTTP/1.1\r\nHost: x\r\nBad Name: y\r\n\r\n", 400, "invalid header name"},
    {"GET / HTTP/1.1\r\nHost: x\r\nB(d: y\r\n\r\n", 400, "invalid header name"},
    {"GET / HTTP/1.1\r\nHost: x\r\nA: y\x01\r\n\r\n", 400, "invalid header value"},
    {"GET / HTTP/1.1\r\nHost: x\r\nA: y\rz\r\n\r\n", 400, "invalid header value"},
    /* smuggling: what two readers may understand in two ways */
    {"GET / HTTP/1.1\r\n Host: x\r\n\r\n", 400, ""},
    {"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n folded\r\n\r\n", 400, ""},
    {"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length : 5\r\n\r\n", 400, "invalid header name"},
    {"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n", 400, "invalid header name"},
    {"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length\t: 5\r\n\r\n", 400, "invalid header name"},
    {"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n", 400, ""},
    {"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n", 400, ""},
    {"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\n", 400, ""},
    {"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n", 400, ""},
    {"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x5\r\n\r\n", 400, ""},
    {"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5\r\n\r\n", 400, ""},
    {"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400, ""},
    {"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 05\r\n\r\n", 400, ""},
    {"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9223372036854775808\r\n\r\n", 400, ""},
    {"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "Unsupported transfer encoding"},
    {"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501, "Unsupported transfer encoding"},
    {"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n", 501, "Unsupported transfer encoding"},
    {"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 501, "Unsupported transfer encoding"},
    {"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \x0b" "chunked\r\n\r\n", 501, "Unsupported transfer encoding"},
};
/* clang-format on */

static void test_good_requests(void)
{
    struct http_head h = {0}; /* its table serves them all */

    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        size_t n = strlen(good[i].text);
        const char *why;
        char *copy;

        CHECK(parse(true, good[i].text, n, &h, &why, &copy) == (int64_t)n);
        CHECK_STR(why, "");
        check_str_n((int)i, h.method, good[i].method);
        check_str_n((int)i, h.authority, good[i].authority);
        check_str_n((int)i, h.path, good[i].path);
        check_str_n((int)i, h.query, good[i].query);
        CHECK(h.minor == good[i].minor);
        CHECK(h.content_length == good[i].length);
        CHECK(h.chunked == good[i].chunked);
        CHECK(h.keep_alive == good[i].keep);
        CHECK(h.expect_continue == good[i].expect);
        CHECK(h.expect_other == good[i].expect_other);
        free(copy);
    }
    http_head_release(&h);
}

/* Of a good head every prefix is incomplete, and what follows is left. */
static void test_prefixes(void)
{
    char why[64], more[512];

    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        size_t n = strlen(good[i].text);

        for (size_t k = 0; k < n; k++)
            CHECK(verdict(true, good[i].text, k, why) == 0);
        snprintf(more, sizeof(more), "%sGET", good[i].text);
        CHECK(verdict(true, more, n + 3, why) == (int64_t)n);
    }
}

static void test_bad_requests(void)
{
    char why[64];

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        int64_t rc = verdict(true, bad[i].text, strlen(bad[i].text), why);

        if (rc != -bad[i].status)
            fprintf(stderr, "%s -> %d\n", bad[i].text, (int)rc);
        CHECK(rc == -bad[i].status);
        CHECK_STR(why, bad[i].why);
    }
}

/* Each single byte changed to each value: any verdict, but no misreading of
 * memory, and never more consumed than there is. */
static void test_mutations(void)
{
    static const char text[] =
        "PUT http://h/a%20b?q HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n"
        "Expect: 100-continue\r\nConnection: close\r\n\r\n";
    char copy[sizeof(text)], why[64];
    size_t n = sizeof(text) - 1;

    for (size_t i = 0; i < n; i++) {
        for (int c = 0; c < 256; c++) {
            int64_t rc;

            memcpy(copy, text, n);
            copy[i] = (char)c;
            rc = verdict(true, copy, n, why);
            if (rc < -505 || rc > (int64_t)n || (rc < 0 && rc > -400))
                CHECK(!"verdict out of range");
        }
    }
    CHECK(true);
}

static void test_limits(void)
{
    struct buf b = {0};
    char why[64];

    buf_adds(&b, "GET / HTTP/1.1\r\nHost: x\r\n");
    for (int i = 1; i < HTTP_HEADERS_MAX; i++)
        buf_printf(&b, "H%d: v\r\n", i);
    buf_adds(&b, "\r\n");
    CHECK(verdict(true, (char *)b.data, b.len, why) == (int64_t)b.len);
    b.len -= 2;
    buf_adds(&b, "One: more\r\n\r\n");
    CHECK(verdict(true, (char *)b.data, b.len, why) == -431);

    /* one byte below the limit is incomplete, at the limit it is refused */
    b.len = 0;
    buf_adds(&b, "GET / HTTP/1.1\r\nHost: x\r\nX: ");
    buf_reserve(&b, HTTP_HEAD_MAX);
    memset(b.data + b.len, 'a', HTTP_HEAD_MAX - b.len);
    b.len = HTTP_HEAD_MAX;
    CHECK(verdict(true, (char *)b.data, b.len - 1, why) == 0);
    CHECK(verdict(true, (char *)b.data, b.len, why) == -431);
    b.len -= 4;
    buf_adds(&b, "\r\n\r\n");
    CHECK(verdict(true, (char *)b.data, b.len, why) == (int64_t)b.len);
    b.len -= 4;
    buf_adds(&b, "a\r\n\r\n");
    CHECK(verdict(true, (char *)b.data, b.len, why) == -431);

    /* a request line alone, too */
    memset(b.data, 'a', HTTP_HEAD_MAX);
    CHECK(verdict(true, (char *)b.data, HTTP_HEAD_MAX, why) == -431);
    buf_release(&b);
}

static void test_header(void)
{
    static const char text[] = "GET / HTTP/1.1\r\nHost: x\r\nA: 1\r\n"
                               "a: 2\r\nB:  two words \t\r\nC:\r\n\r\n";
    struct http_head h = {0};
    const char *why;

    CHECK(http_parse_request(text, sizeof(text) - 1, &h, &why) > 0);
    CHECK(h.n_headers == 5);
    check_str_n(__LINE__, http_header(&h, "A"), "1");
    check_str_n(__LINE__, http_header(&h, "b"), "two words");
    CHECK(http_header(&h, "C").p && http_header(&h, "C").n == 0);
    CHECK(!http_header(&h, "D").p);
    http_head_release(&h);
}

/* --- Responses. --------------------------------------------------------- */

static void test_responses(void)
{
    /* clang-format off */
    static const struct {
        const char *text;
        int status;
        const char *reason;
        int64_t length;
        bool chunked, keep;
        const char *why; /* refused */
    } cases[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200, "OK", 5, false, true, ""},
        {"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n", 404, "Not Found", -1, true, true, ""},
        {"HTTP/1.0 200 OK\r\n\r\n", 200, "OK", -1, false, false, ""},
        {"HTTP/1.1 204\r\n\r\n", 204, "", -1, false, true, ""},
        {"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", 200, "OK", -1, false, false, ""},
        {"HTTP/2.0 200 OK\r\n\r\n", 0, "", 0, false, false, "malformed HTTP version"},
        {"SSH-2.0-OpenSSH\r\n", 0, "", 0, false, false, "malformed HTTP version"},
        {"HTTP/1.1 20 OK\r\n\r\n", 0, "", 0, false, false, "malformed HTTP status code"},
        {"HTTP/1.1 099 OK\r\n\r\n", 0, "", 0, false, false, "malformed HTTP status code"},
        {"HTTP/1.1 2x0 OK\r\n\r\n", 0, "", 0, false, false, "malformed HTTP status code"},
        {"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", 0, "", 0, false, false, "malformed HTTP header"},
        {"HTTP/1.1 200 OK\r\nA b: c\r\n\r\n", 0, "", 0, false, false, "malformed HTTP header"},
        {"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", 0, "", 0, false, false, "malformed HTTP header"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: br\r\n\r\n", 0, "", 0, false, false, "Unsupported transfer encoding"},
    };
    /* clang-format on */

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t n = strlen(cases[i].text);
        struct http_head h = {0};
        const char *why;
        char *copy, text[64];
        int64_t rc = parse(false, cases[i].text, n, &h, &why, &copy);

        CHECK_STR(why, cases[i].why);
        if (cases[i].status) {
            CHECK(rc == (int64_t)n);
            CHECK(h.status == cases[i].status);
            check_str_n((int)i, h.reason, cases[i].reason);
            CHECK(h.content_length == cases[i].length);
            CHECK(h.chunked == cases[i].chunked);
            CHECK(h.keep_alive == cases[i].keep);
            for (size_t k = 0; k < n; k++)
                CHECK(verdict(false, cases[i].text, k, text) == 0);
        } else {
            CHECK(rc < 0);
        }
        free(copy);
        http_head_release(&h);
    }
}

/* --- Chunks. ------------------------------------------------------------ */

/* Decode text fed in pieces of `step` bytes. 1 at the end, 0 if it wants more,
 * HTTP_ECHUNK. *used: bytes consumed. */
static int decode(const char *text, size_t n, size_t step, struct buf *body,
                  size_t *used, const char **why)
{
    struct http_chunks c = {0};
    size_t at = 0;
    int rc = 0;

    *why = "";
    while (rc == 0 && at < n) {
        size_t piece = n - at < step ? n - at : step, took, n_out;
        uint8_t *copy = xmalloc(piece);
        const uint8_t *out;

        memcpy(copy, text + at, piece);
        rc = http_chunks_next(&c, copy, piece, &took, &out, &n_out, why);
        if (rc >= 0) {
            CHECK(took <= piece && took > 0);
            buf_add(body, out, n_out);
            at += took;
        }
        free(copy);
    }
    *used = at;
    return rc;
}

static void test_chunks(void)
{
    /* clang-format off */
    static const struct {
        const char *text, *body;
        size_t left; /* bytes after the end */
        const char *why;
    } cases[] = {
        {"5\r\nhello\r\n0\r\n\r\n", "hello", 0, ""},
        {"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nGET", "hello world", 3, ""},
        {"0\r\n\r\n", "", 0, ""},
        {"000\r\n\r\n", "", 0, ""},
        {"A\r\n0123456789\r\na \t\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789", 0, ""},
        {"5;name=\"v;\r\"\r\nhello\r\n0;x\r\n\r\n", "", 0, "malformed chunked encoding"},
        {"5;name=\"v;\"\r\nhello\r\n0;x\r\n\r\n", "hello", 0, ""},
        {"0\r\nTrailer: x\r\nOther: y\r\n\r\nX", "", 1, ""},
        {"zz\r\n", "", 0, "invalid byte in chunk length"},
        {" 5\r\nhello\r\n", "", 0, "invalid byte in chunk length"},
        {"5 5\r\n", "", 0, "invalid byte in chunk length"},
        {"5 ;x\r\n", "", 0, "invalid byte in chunk length"},
        {"-5\r\n", "", 0, "invalid byte in chunk length"},
        {"0x5\r\n", "", 0, "invalid byte in chunk length"},
        {"\r\n", "", 0, "empty hex number for chunk length"},
        {";x\r\n", "", 0, "empty hex number for chunk length"},
        {"00000000000000005\r\n", "", 0, "http chunk length too large"},
        {"5\nhello\r\n", "", 0, "malformed chunked encoding"},
        {"5\rhello\r\n", "", 0, "malformed chunked encoding"},
        {"5;x\nhello\r\n", "", 0, "malformed chunked encoding"},
        {"5\r\nhello\n0\r\n\r\n", "hello", 0, "malformed chunked encoding"},
        {"5\r\nhelloX\r\n", "hello", 0, "malformed chunked encoding"},
        {"5\r\nhello\rX", "hello", 0, "malformed chunked encoding"},
        {"0\r\n\n", "", 0, "malformed chunked encoding"},
        {"0\r\nA: b\n\r\n", "", 0, "malformed chunked encoding"},
        {"0\r\n\rX", "", 0, "malformed chunked encoding"},
    };
    /* clang-format on */

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t n = strlen(cases[i].text), used;

        for (size_t step = 1; step <= n; step++) {
            struct buf body = {0};
            const char *why;
            int rc = decode(cases[i].text, n, step, &body, &used, &why);

            CHECK(rc == (cases[i].why[0] ? HTTP_ECHUNK : 1));
            CHECK_STR(why, cases[i].why);
            CHECK(str_eqz(buf_str(&body), cases[i].body));
            if (rc == 1)
                CHECK(n - used == cases[i].left);
            buf_release(&body);
        }
        if (cases[i].why[0])
            continue;
        for (size_t k = 0; k < n - cases[i].left; k++) { /* prefixes */
            struct buf body = {0};
            const char *why;

            CHECK(decode(cases[i].text, k, n, &body, &used, &why) == 0);
            buf_release(&body);
        }
    }
}

static int decode_buf(struct buf *b, const char **why)
{
    struct buf body = {0};
    size_t used;
    int rc = decode((char *)b->data, b->len, 1000, &body, &used, why);

    buf_release(&body);
    buf_clear(b);
    return rc;
}

static void test_chunk_limits(void)
{
    struct buf b = {0};
    const char *why;

    for (int over = 0; over <= 1; over++) {
        buf_adds(&b, "5;");
        for (int i = 0; i < 4096 - 3 + over; i++)
            buf_addc(&b, 'x');
        buf_adds(&b, "\r\nhello\r\n0\r\n\r\n");
        CHECK(decode_buf(&b, &why) == (over ? HTTP_ECHUNK : 1));
        CHECK_STR(why, over ? "header line too long" : "");
    }

    buf_adds(&b, "0\r\n");
    for (int i = 0; i < 1000; i++)
        buf_adds(&b, "A: b\r\n");
    CHECK(decode_buf(&b, &why) == HTTP_ECHUNK);
    CHECK_STR(why, "http: suspiciously long trailer after chunked body");

    /* long extensions on tiny chunks are an attack, tiny chunks are not */
    for (int i = 0; i < 1000; i++)
        buf_adds(&b, "1;xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\na\r\n");
    CHECK(decode_buf(&b, &why) == HTTP_ECHUNK);
    CHECK_STR(why, "chunked encoding contains too much non-data");
    for (int i = 0; i < 10000; i++)
        buf_adds(&b, "1\r\na\r\n");
    CHECK(decode_buf(&b, &why) == 0);

    /* sizes near 2^64 do not wrap */
    buf_adds(&b, "ffffffffffffffff\r\nabc");
    CHECK(decode_buf(&b, &why) == 0);
    buf_release(&b);
}

static void test_status_texts(void)
{
    CHECK_STR(http_status_text(200), "OK");
    CHECK_STR(http_status_text(431), "Request Header Fields Too Large");
    CHECK_STR(http_status_text(999), "");
}

int main(void)
{
    test_good_requests();
    test_prefixes();
    test_bad_requests();
    test_mutations();
    test_limits();
    test_header();
    test_responses();
    test_chunks();
    test_chunk_limits();
    test_status_texts();
    return check_done("http");
}
