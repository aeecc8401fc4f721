/*
 * grpc_test.c - gRPC's messages cut at every byte, its codes, timeouts, and the
 * encodings of its header fields.
 */
#include "grpc.h"

#include "check.h"

/* --- Messages. --------------------------------------------------------------- */

static void add_message(struct buf *b, struct str s, bool compressed)
{
    uint8_t prefix[GRPC_PREFIX];

    grpc_put_prefix(prefix, (uint32_t)s.n, compressed);
    buf_add(b, prefix, sizeof(prefix));
    buf_addstr(b, s);
}

/* Read all of b in pieces of `step` bytes; "abc;" for each message. */
static const char *read_by(struct grpc_reader *r, const struct buf *b,
                           size_t step, int *rc)
{
    static struct buf text;

    buf_clear(&text);
    *rc = 0;
    for (size_t at = 0; at < b->len && *rc >= 0; at += step) {
        size_t n = (size_t)min_u64(step, b->len - at);
        uint8_t *exact = xmalloc(n);
        const uint8_t *p = exact;
        struct grpc_message m;

        memcpy(exact, b->data + at, n);
        while ((*rc = grpc_read(r, &p, &n, &m)) > 0) {
            buf_addstr(&text, m.bytes);
            buf_adds(&text, m.compressed ? "!" : ";");
        }
        CHECK(*rc < 0 || n == 0);
        free(exact);
    }
    return buf_z(&text);
}

static void test_messages(void)
{
    struct buf b = {0};
    int rc;

    add_message(&b, STR("abc"), false);
    add_message(&b, STR(""), false);
    add_message(&b, STR("defgh"), true);
    add_message(&b, STR(""), true);
    add_message(&b, STR("i"), false);
    for (size_t step = 1; step <= b.len; step++) {
        struct grpc_reader r = {.n_max = 5};

        CHECK_STR(read_by(&r, &b, step, &rc), "abc;;defgh!!i;");
        CHECK(rc == 0 && grpc_reader_idle(&r));
        grpc_reader_release(&r);
    }
    for (size_t cut = 1; cut < 8; cut++) {
        struct grpc_reader r = {.n_max = 5};

        read_by(&r, &(struct buf){b.data, cut, 0}, 1, &rc);
        CHECK(rc == 0 && !grpc_reader_idle(&r));
        grpc_reader_release(&r);
    }
    buf_release(&b);
}

static void test_refused(void)
{
    static const uint8_t flag[] = {2, 0, 0, 0, 0},
                         huge[] = {0, 255, 255, 255, 255};
    struct grpc_reader r = {.n_max = 4};
    struct grpc_message m;
    struct buf b = {0};
    const uint8_t *p = flag;
    size_t n = sizeof(flag);
    int rc;

    CHECK(grpc_read(&r, &p, &n, &m) == GRPC_EINVAL);
    r = (struct grpc_reader){.n_max = 1 << 20};
    p = huge;
    n = sizeof(huge);
    CHECK(grpc_read(&r, &p, &n, &m) == GRPC_ELARGE && r.n == UINT32_MAX);
    r = (struct grpc_reader){.n_max = 4};
    add_message(&b, STR("abcd"), false);
    add_message(&b, STR("abcde"), false);
    CHECK_STR(read_by(&r, &b, b.len, &rc), "abcd;");
    CHECK(rc == GRPC_ELARGE && r.n == 5);
    buf_release(&b);
}

/* A prefix that promises much takes no memory; a whole message is not copied. */
static void test_memory(void)
{
    static const uint8_t large[] = {0, 0x10, 0, 0, 0, 'x'};
    struct grpc_reader r = {.n_max = UINT32_MAX};
    struct grpc_message m;
    struct buf b = {0};
    const uint8_t *p = large;
    size_t n = sizeof(large);

    CHECK(grpc_read(&r, &p, &n, &m) == 0 && r.buf.cap < 4096);
    grpc_reader_release(&r);

    r = (struct grpc_reader){.n_max = 10};
    add_message(&b, STR("abc"), false);
    p = b.data;
    n = b.len;
    CHECK(grpc_read(&r, &p, &n, &m) == 1);
    CHECK(m.bytes.p == (const char *)b.data + 5 && r.buf.cap == 0);
    buf_release(&b);
}

/* --- Codes. ---------------------------------------------------------------------- */

static void test_codes(void)
{
    CHECK_STR(grpc_status_name(GRPC_OK), "OK");
    CHECK_STR(grpc_status_name(GRPC_RESOURCE_EXHAUSTED), "ResourceExhausted");
    CHECK_STR(grpc_status_name(16), "Unauthenticated");
    CHECK(!grpc_status_name(17) && !grpc_status_name(-1));
    CHECK(grpc_status_of_http(401) == GRPC_UNAUTHENTICATED);
    CHECK(grpc_status_of_http(404) == GRPC_UNIMPLEMENTED);
    CHECK(grpc_status_of_http(503) == GRPC_UNAVAILABLE);
    CHECK(grpc_status_of_http(418) == GRPC_UNKNOWN);
    CHECK(grpc_status_of_h2(7) == GRPC_UNAVAILABLE);
    CHECK(grpc_status_of_h2(8) == GRPC_CANCELLED);
    CHECK(grpc_status_of_h2(11) == GRPC_RESOURCE_EXHAUSTED);
    CHECK(grpc_status_of_h2(12345) == GRPC_INTERNAL);
    CHECK(grpc_parse_status(STR("14")) == GRPC_UNAVAILABLE);
    CHECK(grpc_parse_status(STR("")) == GRPC_UNKNOWN);
    CHECK(grpc_parse_status(STR("99999999999")) == GRPC_UNKNOWN);
    CHECK(grpc_content_type(STR("application/grpc")));
    CHECK(grpc_content_type(STR("application/grpc+proto")));
    CHECK(grpc_content_type(STR("Application/grpc;charset=x")));
    CHECK(!grpc_content_type(STR("application/grpc-web")));
    CHECK(!grpc_content_type(STR("application/json")));
    CHECK(!grpc_content_type(STR("")));
}

/* --- Fields. ------------------------------------------------------------------------ */

static void test_parse_timeout(void)
{
    static const struct {
        const char *text;
        int64_t ns; /* -1: malformed */
    } cases[] = {
        {"1n", 1},
        {"100m", 100000000},
        {"5S", 5000000000},
        {"00000002M", 120000000000},
        {"1H", 3600000000000},
        {"99999999u", 99999999000},
        {"99999999H", INT64_MAX},
        {"0n", 0},
        {"", -1},
        {"S", -1},
        {"1", -1},
        {"1s", -1},
        {"-1S", -1},
        {"1.5S", -1},
        {"100000000n", -1},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t ns = -1;

        CHECK(grpc_parse_timeout(str_of(cases[i].text), &ns) ==
              (cases[i].ns >= 0));
        CHECK(ns == cases[i].ns);
    }
}

static void test_format_timeout(void)
{
    static const struct {
        int64_t ns;
        const char *text;
    } cases[] = {
        {-5, "0n"},
        {0, "0n"},
        {1, "1n"},
        {99999999, "99999999n"},
        {100000000, "100000u"},
        {100000001, "100001u"},
        {INT64_C(5000000000), "5000000u"},
        {INT64_C(7200000000000), "7200000m"},
        {INT64_MAX, "2562048H"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[GRPC_TIMEOUT_MAX];
        int64_t back = 0;
        size_t n = grpc_format_timeout(text, cases[i].ns);

        CHECK_STR(text, cases[i].text);
        CHECK(n == strlen(text) && grpc_parse_timeout(str_of(text), &back));
        CHECK(back >= cases[i].ns);
    }
}

static void check_message(struct str plain, const char *coded)
{
    struct buf b = {0}, back = {0};

    grpc_encode_message(&b, plain);
    CHECK_STR(buf_z(&b), coded);
    grpc_decode_message(&back, buf_str(&b));
    CHECK(str_eq(buf_str(&back), plain));
    buf_release(&b);
    buf_release(&back);
}

static void test_text(void)
{
    struct buf b = {0};

    check_message(STR("etcdserver: key is not provided"),
                  "etcdserver: key is not provided");
    check_message(STR(""), "");
    check_message(STR("100%\r\n\0~\x7f"), "100%25%0D%0A%00~%7F");
    check_message(STR("\xc3\xa4"), "%C3%A4");
    check_message(STR(" a b "), "%20a b%20");
    grpc_decode_message(&b, STR("%4a%4%zz%"));
    CHECK_STR(buf_z(&b), "J%4%zz%");
    buf_release(&b);
}

static void test_binary(void)
{
    static const char *const coded[] = {"", "AA", "AAE", "AAEC", "AAECAw"};
    static const uint8_t bytes[] = {0, 1, 2, 3};
    struct buf b = {0};

    for (size_t n = 0; n <= 4; n++) {
        buf_clear(&b);
        grpc_encode_binary(&b, bytes, n);
        CHECK_STR(buf_z(&b), coded[n]);
        buf_clear(&b);
        CHECK(grpc_decode_binary(&b, str_of(coded[n])) == 0);
        CHECK(b.len == n && (n == 0 || memcmp(b.data, bytes, n) == 0));
    }
    buf_clear(&b);
    CHECK(grpc_decode_binary(&b, STR("AAE=")) == 0 && b.len == 2);
    CHECK(grpc_decode_binary(&b, STR("A")) < 0);
    CHECK(grpc_decode_binary(&b, STR("A*==")) < 0);
    CHECK(grpc_is_binary(STR("grpc-status-details-bin")));
    CHECK(!grpc_is_binary(STR("bin")) && !grpc_is_binary(STR("x-bin-")));
    buf_release(&b);
}

int main(void)
{
    test_messages();
    test_refused();
    test_memory();
    test_codes();
    test_parse_timeout();
    test_format_timeout();
    test_text();
    test_binary();
    return check_done("grpc");
}
