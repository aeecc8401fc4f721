/*
 * websocket.c - WebSocket frames.
 *
 *   OFFSET  SIZE  FIELD (RFC 6455, 5.2)
 *        0     1  bit 7 FIN: the message's last frame; bits 6-4 reserved;
 *                 bits 3-0 the opcode
 *        1     1  bit 7 MASK: 1 from a client, 0 from a server; bits 6-0 the
 *                 length, or 126: the next 2 bytes are it, or 127: the next 8
 *        2   0-8  the length, big-endian
 *        -   0-4  the masking key, if MASK
 *        -     n  the payload; byte i is masked by byte i % 4 of the key
 *
 * A message is a text or binary frame and as many continuations as it likes, up
 * to one with FIN; control frames may come between them (5.4).
 */
#include "websocket.h"

#include "crypto.h"
#include "hash.h"

#include <assert.h>

#define FIN 0x80
#define RESERVED 0x70
#define OP 0x0f
#define MASK 0x80
#define LENGTH 0x7f
#define LENGTH_16 126
#define LENGTH_64 127

/* --- The handshake. ----------------------------------------------------- */

int websocket_check(const struct http_head *h)
{
    if (h->minor < 1 || !http_has_token(h, "Upgrade", "websocket") ||
        !http_has_token(h, "Connection", "upgrade"))
        return 0;
    if (!str_eqz(h->method, "GET"))
        return 405;
    if (!http_has_token(h, "Sec-WebSocket-Version", "13") ||
        http_header(h, "Sec-WebSocket-Key").n == 0)
        return 400;
    return 101;
}

void websocket_add_head(struct buf *b, const struct http_head *h,
                        const char *protocol)
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; /* 1.3 */
    struct str key = http_header(h, "Sec-WebSocket-Key");
    uint8_t digest[SHA1_SIZE];
    struct hash sha1;

    hash_init(&sha1, HASH_SHA1);
    hash_update(&sha1, key.p, key.n);
    hash_update(&sha1, guid, sizeof(guid) - 1);
    hash_final(&sha1, digest);
    buf_adds(b, "HTTP/1.1 101 Switching Protocols\r\n"
                "Upgrade: websocket\r\n"
                "Connection: Upgrade\r\n"
                "Sec-WebSocket-Accept: ");
    base64_encode(b, digest, sizeof(digest));
    if (protocol)
        buf_printf(b, "\r\nSec-WebSocket-Protocol: %s", protocol);
    buf_adds(b, "\r\n\r\n");
}

/* --- What comes: the head of a frame. ----------------------------------- */

static int fail(struct websocket *w, int code, const char *why)
{
    w->why = why;
    return -code;
}

static bool is_control(int op)
{
    return op >= WEBSOCKET_CLOSE;
}

static bool is_known(int op)
{
    return op <= WEBSOCKET_BINARY ||
           (op >= WEBSOCKET_CLOSE && op <= WEBSOCKET_PONG);
}

/* The first two bytes say nearly all that can be wrong. */
static int begin_head(struct websocket *w)
{
    uint8_t length = w->head[1] & LENGTH;

    w->last = w->head[0] & FIN;
    w->op = w->head[0] & OP;
    if (w->head[0] & RESERVED)
        return fail(w, WEBSOCKET_PROTOCOL_ERROR, "a reserved bit is set");
    if (!is_known(w->op))
        return fail(w, WEBSOCKET_PROTOCOL_ERROR, "unknown opcode");
    if (!(w->head[1] & MASK))
        return fail(w, WEBSOCKET_PROTOCOL_ERROR, "a frame without a mask");
    if (is_control(w->op)) {
        if (!w->last)
            return fail(w, WEBSOCKET_PROTOCOL_ERROR, "control frame in parts");
        if (length > WEBSOCKET_CONTROL_MAX)
            return fail(w, WEBSOCKET_PROTOCOL_ERROR, "too long control frame");
    } else if (w->op == WEBSOCKET_CONTINUATION && !w->message) {
        return fail(w, WEBSOCKET_PROTOCOL_ERROR, "nothing to continue");
    } else if (w->op != WEBSOCKET_CONTINUATION && w->message) {
        return fail(w, WEBSOCKET_PROTOCOL_ERROR, "a message within another");
    }
    return 0;
}

/* Bytes of the length behind the first two. */
static size_t length_size(uint8_t length)
{
    return length == LENGTH_64 ? 8 : length == LENGTH_16 ? 2 : 0;
}

static size_t head_size(const struct websocket *w)
{
    return 2 + length_size(w->head[1] & LENGTH) + sizeof(w->mask);
}

static int end_head(struct websocket *w)
{
    size_t n = length_size(w->head[1] & LENGTH);
    uint64_t length = n ? 0 : w->head[1] & LENGTH;

    for (size_t i = 0; i < n; i++)
        length = length << 8 | w->head[2 + i];
    if (n && length < (n == 2 ? LENGTH_16 : UINT64_C(65536)))
        return fail(w, WEBSOCKET_PROTOCOL_ERROR, "a length in too many bytes");
    if (length >> 63)
        return fail(w, WEBSOCKET_PROTOCOL_ERROR, "a length beyond 63 bits");
    memcpy(w->mask, w->head + 2 + n, sizeof(w->mask));
    w->n_masked = 0;
    w->n_head = 0;
    w->left = length;
    w->in_payload = true;
    w->n_control = 0;
    if (is_control(w->op))
        return 0;
    if (w->op != WEBSOCKET_CONTINUATION) {
        w->message = w->op;
        w->n_message = 0;
    }
    if (length > w->max - w->n_message)
        return fail(w, WEBSOCKET_TOO_LARGE, "message too large");
    w->n_message += length;
    return 0;
}

static int take_head(struct websocket *w, const uint8_t *p, size_t n,
                     size_t *used)
{
    int rc = 0;

    while (*used < n && !w->in_payload && rc == 0) {
        w->head[w->n_head++] = p[(*used)++];
        if (w->n_head == 2)
            rc = begin_head(w);
        else if (w->n_head > 2 && w->n_head == head_size(w))
            rc = end_head(w);
    }
    return rc;
}

/* --- What comes: its payload. ------------------------------------------- */

/* Are the bytes UTF-8 behind what came before (RFC 3629)? */
static bool take_utf8(struct websocket *w, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint8_t c = p[i];

        if (w->lack) {
            if (c < w->low || c > w->high)
                return false;
            w->lack--;
            w->low = 0x80;
            w->high = 0xbf;
        } else if (c >= 0x80) {
            if (c < 0xc2 || c > 0xf4)
                return false;
            w->lack = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
            w->low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80; /* overlong */
            w->high = c == 0xed   ? 0x9f /* surrogates */
                      : c == 0xf4 ? 0x8f /* above U+10FFFF */
                                  : 0xbf;
        }
    }
    return true;
}

/* Codes that may stand in a Close: those of 7.4.1 and of IANA's registry, and
 * what libraries and applications may choose (7.4.2). */
static bool is_code(int code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
           (code >= 3000 && code <= 4999);
}

static int end_close(struct websocket *w)
{
    struct websocket reason = {0};

    w->code = WEBSOCKET_NO_CODE;
    if (w->n_control == 0)
        return WEBSOCKET_CLOSED;
    if (w->n_control < 2)
        return fail(w, WEBSOCKET_PROTOCOL_ERROR, "half a code to close with");
    w->code = w->control[0] << 8 | w->control[1];
    if (!is_code(w->code))
        return fail(w, WEBSOCKET_PROTOCOL_ERROR, "no code to close with");
    if (!take_utf8(&reason, w->control + 2, w->n_control - 2) || reason.lack)
        return fail(w, WEBSOCKET_NOT_UTF8, "a reason that is not UTF-8");
    return WEBSOCKET_CLOSED;
}

static int take_control(struct websocket *w, const uint8_t *p, size_t n,
                        struct str *data)
{
    int rc = WEBSOCKET_PINGED;

    memcpy(w->control + w->n_control, p, n);
    w->n_control += n;
    if (w->left)
        return WEBSOCKET_MORE;
    w->in_payload = false;
    if (w->op == WEBSOCKET_PONG)
        rc = WEBSOCKET_PONGED;
    else if (w->op == WEBSOCKET_CLOSE)
        rc = end_close(w);
    if (rc > 0)
        *data = (struct str){(const char *)w->control, w->n_control};
    return rc;
}

static int take_data(struct websocket *w, const uint8_t *p, size_t n,
                     struct str *data)
{
    bool text = w->message == WEBSOCKET_TEXT;
    bool end = w->left == 0 && w->last;

    if (text && (!take_utf8(w, p, n) || (end && w->lack)))
        return fail(w, WEBSOCKET_NOT_UTF8, "a text that is not UTF-8");
    *data = (struct str){(const char *)p, n};
    w->in_payload = w->left > 0;
    if (end)
        w->message = 0;
    return end ? WEBSOCKET_END : WEBSOCKET_DATA;
}

int websocket_next(struct websocket *w, void *p, size_t n, size_t *used,
                   struct str *data)
{
    uint8_t *in = p;
    size_t at = 0, got;
    int rc;

    assert(n > 0);
    *data = (struct str){"", 0};
    rc = take_head(w, in, n, &at);
    *used = at;
    if (rc < 0 || !w->in_payload)
        return rc;
    got = (size_t)min_u64(w->left, n - at);
    for (size_t i = at; i < at + got; i++)
        in[i] ^= w->mask[w->n_masked++ % sizeof(w->mask)];
    w->left -= got;
    *used = at + got;
    return is_control(w->op) ? take_control(w, in + at, got, data)
                             : take_data(w, in + at, got, data);
}

/* --- What goes. --------------------------------------------------------- */

void websocket_add_frame(struct buf *b, enum websocket_op op, bool last,
                         const void *p, size_t n)
{
    uint8_t length = n < LENGTH_16 ? (uint8_t)n
                     : n < 65536   ? LENGTH_16
                                   : LENGTH_64;

    assert(!is_control(op) || (last && n <= WEBSOCKET_CONTROL_MAX));
    buf_addc(b, (char)((last ? FIN : 0) | op));
    buf_addc(b, (char)length);
    for (size_t i = length_size(length); i > 0; i--)
        buf_addc(b, (char)((uint64_t)n >> 8 * (i - 1)));
    buf_add(b, p, n);
}

void websocket_add_close(struct buf *b, int code, const char *why)
{
    uint8_t payload[WEBSOCKET_CONTROL_MAX] = {(uint8_t)(code >> 8),
                                              (uint8_t)code};
    size_t n = strlen(why);

    assert(n + 2 <= sizeof(payload));
    memcpy(payload + 2, why, n);
    websocket_add_frame(b, WEBSOCKET_CLOSE, true, payload,
                        code == WEBSOCKET_NO_CODE ? 0 : n + 2);
}
