/*
 * websocket_test.c - the handshake and frames, by the examples of RFC 6455, what
 * it forbids, and streams of frames cut at each byte.
 */
#include "check.h"
#include "websocket.h"

#define MAX 100000

/* --- The handshake. ------------------------------------------------------ */

#define ASKS                                                                   \
    "Host: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"                 \
    "Sec-WebSocket-Version: 13\r\n"
#define KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

static void test_check(void)
{
    static const struct {
        const char *request;
        int rc;
    } rows[] = {
        {"GET /v3/watch HTTP/1.1\r\n" ASKS KEY, 101},
        {"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: h2c, WebSocket\r\n"
         "connection: keep-alive, UPGRADE\r\nSec-WebSocket-Version: 8, "
         "13\r\n" KEY,
         101},
        {"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nConnection: "
         "upgrade\r\nUpgrade: a\r\nUpgrade: websocket\r\n"
         "Sec-WebSocket-Version: 13\r\n" KEY,
         101},
        {"GET / HTTP/1.0\r\n" ASKS KEY, 0}, /* RFC 9110, 7.8 */
        {"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n" KEY, 0},
        {"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\n" KEY, 0},
        {"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\n"
         "Upgrade: websocket/13\r\n" KEY,
         0},
        {"POST / HTTP/1.1\r\n" ASKS KEY, 405},
        {"GET / HTTP/1.1\r\n" ASKS, 400},
        {"GET / HTTP/1.1\r\n" ASKS "Sec-WebSocket-Key: \r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\n"
         "Upgrade: websocket\r\nSec-WebSocket-Version: 8\r\n" KEY,
         400},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct http_head h = {0};
        struct buf b = {0};
        const char *why;

        buf_printf(&b, "%s\r\n", rows[i].request);
        CHECK(http_parse_request(b.data, b.len, &h, &why) == (int64_t)b.len);
        CHECK(websocket_check(&h) == rows[i].rc);
        http_head_release(&h);
        buf_release(&b);
    }
}

/* RFC 6455, 1.3. */
static void test_head(void)
{
    static const char request[] = "GET /chat HTTP/1.1\r\n" ASKS KEY "\r\n";
    struct http_head h = {0};
    struct buf b = {0};
    const char *why;

    CHECK(http_parse_request(request, sizeof(request) - 1, &h, &why) > 0);
    websocket_add_head(&b, &h, NULL);
    CHECK_STR(buf_z(&b),
              "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
              "Connection: Upgrade\r\n"
              "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
    buf_clear(&b);
    websocket_add_head(&b, &h, "chat");
    CHECK(strstr(buf_z(&b), "=\r\nSec-WebSocket-Protocol: chat\r\n\r\n"));
    buf_release(&b);
    http_head_release(&h);
}

/* --- What goes. ----------------------------------------------------------- */

static void check_bytes(struct buf *b, const void *want, size_t n)
{
    CHECK(b->len == n && memcmp(b->data, want, n) == 0);
    buf_clear(b);
}

/* RFC 6455, 5.7: those without a mask. */
static void test_add(void)
{
    uint8_t *payload = xcalloc(1, 65536);
    struct buf b = {0};

    websocket_add_frame(&b, WEBSOCKET_TEXT, true, "Hello", 5);
    check_bytes(&b, "\x81\x05Hello", 7);
    websocket_add_frame(&b, WEBSOCKET_TEXT, false, "Hel", 3);
    websocket_add_frame(&b, WEBSOCKET_CONTINUATION, true, "lo", 2);
    check_bytes(&b, "\x01\x03Hel\x80\x02lo", 9);
    websocket_add_frame(&b, WEBSOCKET_PING, true, "Hello", 5);
    check_bytes(&b, "\x89\x05Hello", 7);
    websocket_add_frame(&b, WEBSOCKET_BINARY, true, payload, 125);
    CHECK(b.len == 2 + 125 && memcmp(b.data, "\x82\x7d", 2) == 0);
    buf_clear(&b);
    websocket_add_frame(&b, WEBSOCKET_BINARY, true, payload, 126);
    CHECK(b.len == 4 + 126 && memcmp(b.data, "\x82\x7e\0\x7e", 4) == 0);
    buf_clear(&b);
    websocket_add_frame(&b, WEBSOCKET_BINARY, true, payload, 256);
    CHECK(b.len == 4 + 256 && memcmp(b.data, "\x82\x7e\x01\0", 4) == 0);
    buf_clear(&b);
    websocket_add_frame(&b, WEBSOCKET_BINARY, true, payload, 65535);
    CHECK(b.len == 4 + 65535 && memcmp(b.data, "\x82\x7e\xff\xff", 4) == 0);
    buf_clear(&b);
    websocket_add_frame(&b, WEBSOCKET_BINARY, true, payload, 65536);
    CHECK(b.len == 10 + 65536 &&
          memcmp(b.data, "\x82\x7f\0\0\0\0\0\x01\0\0", 10) == 0);
    buf_clear(&b);
    websocket_add_close(&b, WEBSOCKET_GOING_AWAY, "bye");
    check_bytes(&b,
                "\x88\x05\x03\xe9"
                "bye",
                7);
    websocket_add_close(&b, WEBSOCKET_NO_CODE, "");
    check_bytes(&b, "\x88\x00", 2);
    buf_release(&b);
    free(payload);
}

/* --- What comes. ---------------------------------------------------------- */

/* A frame as a client sends it; first has FIN and the opcode. */
static void add_masked(struct buf *b, uint8_t first, const char *p, size_t n)
{
    static const uint8_t key[4] = {0x37, 0xfa, 0x21, 0x3d};
    struct buf plain = {0};
    size_t head;

    websocket_add_frame(&plain, first & 15, true, p, n);
    head = plain.len - n;
    buf_addc(b, (char)first);
    buf_addc(b, (char)(plain.data[1] | 0x80));
    buf_add(b, plain.data + 2, head - 2);
    buf_add(b, key, sizeof(key));
    for (size_t i = 0; i < n; i++)
        buf_addc(b, (char)(p[i] ^ key[i % 4]));
    buf_release(&plain);
}

/*
 * What bytes that come in steps of so many mean, as a text: messages, each with
 * "!" at its end, ">ping<", ")pong(", "#1000" for a close, "*1002" for an error.
 */
static void tell(struct str bytes, size_t step, struct buf *story)
{
    struct websocket w = {.max = MAX};
    uint8_t *in = xmalloc(bytes.n + 1);
    size_t at = 0;
    int rc = 0;

    memcpy(in, bytes.p, bytes.n);
    while (at < bytes.n && rc >= 0 && rc != WEBSOCKET_CLOSED) {
        size_t n = bytes.n - at < step ? bytes.n - at : step, used = 0;
        struct str data;

        rc = websocket_next(&w, in + at, n, &used, &data);
        CHECK(used > 0 && used <= n);
        at += used;
        if (rc == WEBSOCKET_PINGED)
            buf_printf(story, ">%.*s<", STR_FMT(data));
        else if (rc == WEBSOCKET_PONGED)
            buf_printf(story, ")%.*s(", STR_FMT(data));
        else if (rc == WEBSOCKET_CLOSED)
            buf_printf(story, "#%d", w.code);
        else if (rc < 0)
            buf_printf(story, "*%d", -rc);
        else
            buf_addstr(story, data);
        if (rc == WEBSOCKET_END)
            buf_addc(story, '!');
        CHECK(rc >= 0 || w.why[0]);
    }
    free(in);
}

/* However it is cut. */
static void check_story(struct str bytes, const char *want)
{
    struct buf story = {0};
    size_t steps = bytes.n < 300 ? bytes.n : 40;

    for (size_t step = 1; step <= steps; step++) {
        buf_clear(&story);
        tell(bytes, step, &story);
        CHECK_STR(buf_z(&story), want);
    }
    buf_clear(&story);
    tell(bytes, bytes.n, &story);
    CHECK_STR(buf_z(&story), want);
    buf_release(&story);
}

static void test_examples(void)
{
    struct buf b = {0};

    /* RFC 6455, 5.7: those with a mask. */
    check_story(STR("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"), "Hello!");
    check_story(STR("\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"), ")Hello(");

    add_masked(&b, 0x01, "Hel", 3);
    add_masked(&b, 0x89, "are you", 7); /* between fragments: 5.4 */
    add_masked(&b, 0x00, "", 0);
    add_masked(&b, 0x80, "lo", 2);
    add_masked(&b, 0x81, "", 0);
    add_masked(&b, 0x82, "\x7f", 1);
    add_masked(&b, 0x88, "\x0f\xa0why", 5);
    add_masked(&b, 0x81, "unheard", 7);
    check_story(buf_str(&b), "Hel>are you<lo!!\x7f!#4000");
    buf_release(&b);
}

static void test_lengths(void)
{
    static const size_t lengths[] = {125, 126,   127,   255,
                                     256, 65535, 65536, MAX};
    char *payload = xmalloc(MAX + 2);

    memset(payload, 'x', MAX + 1);
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        size_t n = lengths[i];
        struct buf b = {0};

        add_masked(&b, 0x81, payload, n);
        payload[n] = '!';
        payload[n + 1] = '\0';
        check_story(buf_str(&b), payload);
        payload[n] = 'x';
        buf_release(&b);
    }
    free(payload);
}

/* --- What must not come. --------------------------------------------------- */

#define M "\0\0\0\0" /* a mask that changes nothing */
#define S(lit)                                                                 \
    {                                                                          \
        lit, sizeof(lit) - 1                                                   \
    }

static void test_refused(void)
{
    static const struct {
        struct str bytes;
        const char *story;
    } rows[] = {
        {S("\x81\x01x"), "*1002"}, /* no mask */
        {S("\xc1\x80" M), "*1002"},
        {S("\xa1\x80" M), "*1002"},
        {S("\x91\x80" M), "*1002"},
        {S("\x83\x80" M), "*1002"}, /* opcodes */
        {S("\x87\x80" M), "*1002"},
        {S("\x8b\x80" M), "*1002"},
        {S("\x8f\x80" M), "*1002"},
        {S("\x89\xfe\0\x7e" M), "*1002"}, /* a ping of 126 */
        {S("\x88\xff\0\0\0\0\0\1\0\0" M), "*1002"},
        {S("\x09\x80" M), "*1002"},                /* a ping in parts */
        {S("\x80\x80" M), "*1002"},                /* nothing to continue */
        {S("\x01\x81" M "a\x81\x80" M), "a*1002"}, /* within another */
        {S("\x81\x80" M "\x80\x80" M), "!*1002"},
        {S("\x81\xfe\0\x7d" M), "*1002"}, /* too many bytes of length */
        {S("\x81\xff\0\0\0\0\0\0\xff\xff" M), "*1002"},
        {S("\x81\xff\x80\0\0\0\0\0\0\0" M), "*1002"}, /* 2^63 */
        {S("\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff" M), "*1002"},
        {S("\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff" M), "*1009"},
        {S("\x82\xff\0\0\0\0\0\1\x86\xa1" M), "*1009"}, /* MAX + 1 */
        {S("\x01\x81" M "a\x80\xff\0\0\0\0\0\1\x86\xa0" M), "a*1009"},
        {S("\x88\x81" M "\x03"), "*1002"},     /* half a code */
        {S("\x88\x82" M "\x03\xe7"), "*1002"}, /* 999 */
        {S("\x88\x82" M "\x03\xec"), "*1002"}, /* 1004 */
        {S("\x88\x82" M "\x03\xed"), "*1002"}, /* 1005 */
        {S("\x88\x82" M "\x03\xee"), "*1002"}, /* 1006 */
        {S("\x88\x82" M "\x03\xf7"), "*1002"}, /* 1015 */
        {S("\x88\x82" M "\x0b\xb7"), "*1002"}, /* 2999 */
        {S("\x88\x82" M "\x13\x88"), "*1002"}, /* 5000 */
        {S("\x88\x83" M "\x03\xe8\xff"), "*1007"},
        {S("\x88\x84" M "\x03\xe8\xc3\xa4"), "#1000"},
        {S("\x88\x80" M), "#1005"},
        {S("\x88\x82" M "\x03\xeb"), "#1003"},
        {S("\x88\x82" M "\x03\xef"), "#1007"},
        {S("\x88\x82" M "\x03\xf6"), "#1014"},
        {S("\x88\x82" M "\x0b\xb8"), "#3000"},
        {S("\x88\x82" M "\x13\x87"), "#4999"},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check_story(rows[i].bytes, rows[i].story);
}

/* Texts are UTF-8, whatever frames they come in; binary messages need not be. */
static void test_utf8(void)
{
    static const struct {
        struct str bytes;
        bool good;
    } rows[] = {
        {S("\xc2\x80"), true},
        {S("\xdf\xbf"), true},
        {S("\xe0\xa0\x80"), true},
        {S("\xed\x9f\xbf"), true},
        {S("\xee\x80\x80"), true},
        {S("\xef\xbf\xbf"), true},
        {S("\xf0\x90\x80\x80"), true},
        {S("\xf4\x8f\xbf\xbf"), true},
        {S("\x80"), false},
        {S("\xbf"), false},
        {S("\xc0\xaf"), false},
        {S("\xc1\xbf"), false},
        {S("\xe0\x9f\xbf"), false},
        {S("\xed\xa0\x80"), false},
        {S("\xf0\x8f\xbf\xbf"), false},
        {S("\xf4\x90\x80\x80"), false},
        {S("\xf5\x80\x80\x80"), false},
        {S("\xff"), false},
        {S("\xc3"), false},
        {S("\xe2\x82"), false},
        {S("\xf0\x9f\x98"), false},
        {S("\xe2"
           "a"),
         false},
        {S("\xc3\xa4\xa4"), false},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct str s = rows[i].bytes;

        for (size_t cut = 0; cut <= s.n; cut++) {
            struct buf text = {0}, binary = {0}, story = {0};

            add_masked(&text, 0x01, s.p, cut);
            add_masked(&text, 0x80, s.p + cut, s.n - cut);
            tell(buf_str(&text), SIZE_MAX, &story);
            CHECK(!strstr(buf_z(&story), "*1007") == rows[i].good);
            buf_clear(&story);
            add_masked(&binary, 0x02, s.p, cut);
            add_masked(&binary, 0x80, s.p + cut, s.n - cut);
            tell(buf_str(&binary), SIZE_MAX, &story);
            CHECK(!strstr(buf_z(&story), "*1007"));
            buf_release(&text);
            buf_release(&binary);
            buf_release(&story);
        }
    }
}

/* A message without an end costs nothing here, and ends at max all the same. */
static void test_endless(void)
{
    struct websocket w = {.max = MAX};
    struct buf b = {0};
    struct str data;
    size_t n = 0, used;
    int rc = 0;

    add_masked(&b, 0x82, "another", 7); /* does not count */
    CHECK(websocket_next(&w, b.data, b.len, &used, &data) == WEBSOCKET_END);
    for (uint8_t first = 0x02; rc >= 0; first = 0x00) {
        buf_clear(&b);
        add_masked(&b, first, "0123456789", 10);
        rc = websocket_next(&w, b.data, b.len, &used, &data);
        n += data.n;
    }
    CHECK(rc == -WEBSOCKET_TOO_LARGE && n == MAX);
    buf_release(&b);
}

int main(void)
{
    test_check();
    test_head();
    test_add();
    test_examples();
    test_lengths();
    test_refused();
    test_utf8();
    test_endless();
    return check_done("websocket_test");
}
