/*
 * http_fuzz.c - heads of requests and responses, and chunked bodies. However
 * the bytes are cut on their way, the verdict is the same.
 */
#include "fuzz.h"
#include "http.h"

#define WHOLE_MAX 1024 /* every prefix of a head up to here, else some */

typedef int64_t parse_fn(const void *p, size_t n, struct http_head *out,
                         const char **why);

static bool inside(struct str s, const uint8_t *p, size_t n)
{
    return s.n == 0 ||
           ((const uint8_t *)s.p >= p && (const uint8_t *)s.p + s.n <= p + n);
}

/* The first header of this name is the one that is found. */
static void check_lookup(const struct http_head *h)
{
    char *name = xstrndup(h->headers[0].name.p, h->headers[0].name.n);
    struct str value = http_header(h, name);

    FUZZ_CHECK(value.p == h->headers[0].value.p &&
               value.n == h->headers[0].value.n);
    free(name);
}

/* What an accepted head says lies in the bytes that were consumed. */
static void check_head(const struct http_head *h, const uint8_t *p, size_t n)
{
    FUZZ_CHECK(inside(h->method, p, n) && inside(h->target, p, n));
    FUZZ_CHECK(inside(h->query, p, n) && inside(h->reason, p, n));
    FUZZ_CHECK(h->n_headers <= HTTP_HEADERS_MAX);
    FUZZ_CHECK(!h->chunked || h->content_length == -1);
    for (size_t i = 0; i < h->n_headers; i++) {
        FUZZ_CHECK(inside(h->headers[i].name, p, n));
        FUZZ_CHECK(inside(h->headers[i].value, p, n));
        FUZZ_CHECK(h->headers[i].name.n > 0);
        FUZZ_CHECK(http_header(h, "\n").p == NULL);
    }
    if (h->n_headers > 0)
        check_lookup(h);
}

/*
 * Of a head that is cut anywhere, either nothing is known yet, or what is said
 * of the whole; and a refusal does not change as more comes. Which is why the
 * server may parse whenever it likes.
 */
static void check_prefixes(parse_fn *parse, const uint8_t *p, size_t n,
                           int64_t whole)
{
    size_t step = n <= WHOLE_MAX ? 1 : n / 64;
    struct http_head h = {0};
    const char *why;
    bool refused = false;

    for (size_t i = 0; i < n; i += step) {
        int64_t rc = parse(p, i, &h, &why);

        if (refused || rc < 0)
            FUZZ_CHECK(rc == whole);
        else
            FUZZ_CHECK(rc == 0 || rc == whole);
        FUZZ_CHECK(whole <= 0 || rc == 0 || i >= (size_t)whole);
        refused = rc < 0;
    }
    http_head_release(&h);
}

static void check_parser(parse_fn *parse, const uint8_t *p, size_t n)
{
    struct http_head h = {0}, again = {0};
    const char *why;
    int64_t rc = parse(p, n, &h, &why);

    FUZZ_CHECK(rc <= (int64_t)n && why);
    FUZZ_CHECK(rc >= 0 || (rc <= -400 && rc > -600));
    if (rc > 0) {
        check_head(&h, p, (size_t)rc);
        FUZZ_CHECK(parse(p, (size_t)rc, &again, &why) == rc);
        FUZZ_CHECK(again.n_headers == h.n_headers && again.minor == h.minor &&
                   again.content_length == h.content_length &&
                   again.chunked == h.chunked &&
                   again.keep_alive == h.keep_alive);
    }
    check_prefixes(parse, p, n, rc);
    http_head_release(&h);
    http_head_release(&again);
}

/*
 * Decode p in steps of at most `step` bytes (0: all at once), and, if `direct`,
 * take data as the server does, past the decoder. The verdict: 1 ended, 0 more
 * is needed, HTTP_ECHUNK.
 */
static int decode(const uint8_t *p, size_t n, size_t step, bool direct,
                  struct buf *data, size_t *end)
{
    struct http_chunks c = {0};
    const char *why = "";
    size_t at = 0;
    int rc = 0;

    while (at < n && rc == 0) {
        size_t room = step ? (size_t)min_u64(step, n - at) : n - at;
        size_t used = 0, n_out = 0;
        const uint8_t *out = NULL;
        uint64_t sure = direct ? http_chunks_data(&c) : 0;

        if (sure) {
            used = n_out = (size_t)min_u64(sure, room);
            out = p + at;
            http_chunks_took(&c, used);
        } else {
            rc = http_chunks_next(&c, p + at, room, &used, &out, &n_out, &why);
        }
        if (rc < 0)
            break;
        FUZZ_CHECK(used > 0 && used <= room && n_out <= used);
        buf_add(data, out, n_out);
        at += used;
    }
    FUZZ_CHECK(rc >= 0 || *why);
    *end = rc == 1 ? at : 0;
    return rc;
}

static void check_chunks(const uint8_t *p, size_t n)
{
    static const size_t steps[] = {1, 2, 7, 64};
    struct buf whole = {0}, cut = {0};
    size_t end, end_cut;
    int rc = decode(p, n, 0, false, &whole, &end);

    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        buf_clear(&cut);
        FUZZ_CHECK(decode(p, n, steps[i], i % 2, &cut, &end_cut) == rc);
        FUZZ_CHECK(end == end_cut && str_eq(buf_str(&whole), buf_str(&cut)));
    }
    buf_release(&whole);
    buf_release(&cut);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_parser(http_parse_request, data, size);
    check_parser(http_parse_response, data, size);
    check_chunks(data, size);
    return 0;
}
