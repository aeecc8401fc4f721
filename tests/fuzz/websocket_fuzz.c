/*
 * websocket_fuzz.c - frames of a client, and handshakes. However the bytes are
 * cut on their way, the same messages and the same verdict come out; what was
 * framed comes back; no message is longer than was allowed.
 */
#include "fuzz.h"
#include "websocket.h"

#define MAX 1000

/* All that came: data as it is, events as bytes behind it. */
struct story {
    struct buf bytes;
    size_t end; /* of what was read */
    int rc;
};

static void tell(const uint8_t *p, size_t n, size_t step, struct story *out)
{
    struct websocket w = {.max = MAX};
    struct buf in = {0};
    size_t at = 0, message = 0, used;
    struct str data;

    *out = (struct story){.rc = 0};
    buf_add(&in, p, n);
    while (at < n && out->rc >= 0 && out->rc != WEBSOCKET_CLOSED) {
        size_t room = n - at < step ? n - at : step;

        out->rc = websocket_next(&w, in.data + at, room, &used, &data);
        FUZZ_CHECK(used > 0 && used <= room);
        at += used;
        FUZZ_CHECK(out->rc >= 0 || (*w.why && strlen(w.why) <= 123));
        FUZZ_CHECK(data.n == 0 || out->rc > WEBSOCKET_MORE);
        if (out->rc == WEBSOCKET_DATA || out->rc == WEBSOCKET_END)
            message += data.n;
        else
            FUZZ_CHECK(data.n <= WEBSOCKET_CONTROL_MAX);
        FUZZ_CHECK(message <= MAX);
        buf_addstr(&out->bytes, data);
        if (out->rc == WEBSOCKET_END)
            message = 0;
        if (out->rc > WEBSOCKET_DATA)
            buf_addc(&out->bytes, (char)out->rc);
    }
    out->end = at;
    buf_release(&in);
}

static void check_cuts(const uint8_t *p, size_t n)
{
    static const size_t steps[] = {1, 2, 7, 64};
    struct story whole, cut;

    tell(p, n, SIZE_MAX, &whole);
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        tell(p, n, steps[i], &cut);
        /* Bytes in front of bad UTF-8 may have been given out, or not. */
        FUZZ_CHECK((cut.rc < 0) == (whole.rc < 0));
        if (whole.rc < 0)
            FUZZ_CHECK(cut.rc == whole.rc);
        else
            FUZZ_CHECK(str_eq(buf_str(&cut.bytes), buf_str(&whole.bytes)));
        FUZZ_CHECK(cut.end <= whole.end);
        buf_release(&cut.bytes);
    }
    buf_release(&whole.bytes);
}

/* A frame as a client sends it. */
static void add_masked(struct buf *b, enum websocket_op op, bool last,
                       struct str s, uint8_t key)
{
    size_t at = b->len;
    struct buf plain = {0};

    websocket_add_frame(&plain, op, last, s.p, s.n);
    at = plain.len - s.n;
    plain.data[1] |= 0x80;
    buf_add(b, plain.data, at);
    for (uint8_t i = 0; i < 4; i++)
        buf_addc(b, (char)(key * (i + 1)));
    for (size_t i = 0; i < s.n; i++)
        buf_addc(b, (char)(s.p[i] ^ (uint8_t)(key * (i % 4 + 1))));
    buf_release(&plain);
}

/* One binary message in fragments, with pings between them. */
static void check_round(struct fuzz_in in)
{
    struct buf frames = {0}, want = {0};
    enum websocket_op op = WEBSOCKET_BINARY;
    struct story got;

    while (fuzz_more(&in) && want.len < MAX / 2) {
        uint8_t choice = fuzz_u8(&in);
        struct str s = fuzz_bytes(&in, choice % 150);

        if (choice >= 150 && s.n <= WEBSOCKET_CONTROL_MAX) {
            add_masked(&frames, WEBSOCKET_PING, true, s, choice);
            buf_addstr(&want, s);
            buf_addc(&want, WEBSOCKET_PINGED);
        } else {
            add_masked(&frames, op, false, s, choice);
            buf_addstr(&want, s);
            op = WEBSOCKET_CONTINUATION;
        }
    }
    add_masked(&frames, op, true, STR(""), 1);
    buf_addc(&want, WEBSOCKET_END);
    tell(frames.data, frames.len, SIZE_MAX, &got);
    FUZZ_CHECK(got.rc == WEBSOCKET_END && got.end == frames.len);
    FUZZ_CHECK(str_eq(buf_str(&got.bytes), buf_str(&want)));
    buf_release(&got.bytes);
    buf_release(&frames);
    buf_release(&want);
}

static void check_handshake(const uint8_t *p, size_t n)
{
    struct http_head h = {0}, answer = {0};
    struct buf b = {0};
    const char *why;

    if (http_parse_request(p, n, &h, &why) > 0 && websocket_check(&h) == 101) {
        websocket_add_head(&b, &h, NULL);
        FUZZ_CHECK(http_parse_response(b.data, b.len, &answer, &why) ==
                   (int64_t)b.len);
        FUZZ_CHECK(answer.status == 101 &&
                   http_header(&answer, "Sec-WebSocket-Accept").n == 28);
    }
    http_head_release(&answer);
    http_head_release(&h);
    buf_release(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_cuts(data, size);
    check_round((struct fuzz_in){data, size});
    check_handshake(data, size);
    return 0;
}
