/*
 * http2_test.c - HTTP/2: what each rule of RFC 9113 asks to be answered, to a
 * server and to a client, whole and byte by byte; windows to the byte; floods;
 * pings; the way to the end; and two engines that talk to each other at random,
 * held against a model of what they said.
 */
#include "chance.h"
#include "check.h"
#include "h2sane.h"
#include "hex.h"

#define SECOND INT64_C(1000000000)
#define NOW (1000 * SECOND)

/* --- Frames by hand. ---------------------------------------------------------- */

static void add_frame(struct buf *b, unsigned type, unsigned flags,
                      uint32_t stream, struct str payload)
{
    h2_put_frame(b, payload.n, (enum frame_type)type, flags, stream);
    buf_addstr(b, payload);
}

/* "type flags stream hex | ...": numbers in hex; hex may be missing, and "*n"
 * behind it repeats the frame. */
static void add_frames(struct buf *b, const char *text)
{
    while (*text) {
        unsigned type = 0, flags = 0, stream = 0, times = 1;
        char hex[256] = "";
        const char *star, *bar = strchr(text, '|');
        struct buf p;

        sscanf(text, "%x %x %x %255[0-9a-f]", &type, &flags, &stream, hex);
        star = strchr(text, '*');
        if (star && (!bar || star < bar))
            times = (unsigned)atoi(star + 1);
        p = unhex(hex);
        while (times-- > 0)
            add_frame(b, type, flags, stream, buf_str(&p));
        buf_release(&p);
        text = bar ? bar + 1 : "";
    }
}

/* What a side has written, frame by frame, as text. */
static void frame_text(struct buf *out, const uint8_t *p, uint32_t n)
{
    static const char *const names[] = {
        "DATA", "HEADERS", "PRIORITY", "RST",    "SETTINGS",
        "PUSH", "PING",    "GOAWAY",   "WINDOW", "CONTINUATION"};
    unsigned type = p[3], flags = p[4];
    unsigned id = (unsigned)p[7] << 8 | p[8];
    const uint8_t *at = p + FRAME_HEAD;

    if (type == F_SETTINGS)
        return;
    buf_printf(out, "%s %u", names[type], id);
    if (type == F_DATA)
        buf_printf(out, " %u", n);
    if ((type == F_DATA || type == F_HEADERS || type == F_PING) && flags & 1)
        buf_adds(out, type == F_PING ? " ack" : " end");
    if (type == F_RST_STREAM)
        buf_printf(out, " %s", h2_code_name(at[3]));
    if (type == F_WINDOW_UPDATE)
        buf_printf(out, " %u",
                   (unsigned)at[1] << 16 | (unsigned)at[2] << 8 | at[3]);
    if (type == F_GOAWAY)
        buf_printf(out, " %s %s%.*s", at[0] == 0x7f ? "all" : "last",
                   h2_code_name(at[7]), (int)(n - 8), (const char *)at + 8);
    buf_adds(out, "; ");
}

static void collect(struct h2 *c, struct buf *bytes, size_t max)
{
    struct iovec *iov;
    int n;

    while ((n = h2_output(c, max, &iov)) > 0) {
        size_t sum = 0;

        for (int i = 0; i < n; i++) {
            buf_add(bytes, iov[i].iov_base, iov[i].iov_len);
            sum += iov[i].iov_len;
        }
        h2_sent(c, sum);
        CHECK(h2_sane(c));
    }
    CHECK(!h2_wants_write(c));
}

static const char *written(struct h2 *c)
{
    static struct buf text;
    struct buf bytes = {0};
    size_t at = 0;

    buf_clear(&text);
    collect(c, &bytes, 1 << 20);
    if (!c->o.server && bytes.len >= H2_PREFACE_LEN &&
        h2_sniff(bytes.data, bytes.len) == 1)
        at = H2_PREFACE_LEN;
    while (at < bytes.len) {
        const uint8_t *p = bytes.data + at;
        uint32_t n = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];

        frame_text(&text, p, n);
        at += FRAME_HEAD + n;
    }
    CHECK(at == bytes.len);
    buf_release(&bytes);
    return buf_z(&text);
}

/* --- One engine, fed by hand. --------------------------------------------------- */

static void event_text(struct buf *out, const struct h2_event *ev)
{
    static const char *const names[] = {"NONE",  "HEADERS", "DATA",  "TRAILERS",
                                        "RESET", "GOAWAY",  "FAILED"};

    buf_printf(out, "%s", names[ev->type]);
    if (ev->stream)
        buf_printf(out, " %u", ev->stream);
    if (ev->type == H2_HEADERS && ev->status)
        buf_printf(out, " %d", ev->status);
    else if (ev->type == H2_HEADERS)
        buf_printf(out, " %.*s %.*s", STR_FMT(ev->method), STR_FMT(ev->path));
    if (ev->type == H2_DATA)
        buf_printf(out, " %zu", ev->n);
    if (ev->type == H2_RESET || ev->type == H2_FAILED)
        buf_printf(out, " %s", h2_code_name(ev->code));
    else if (ev->end)
        buf_adds(out, " end");
    buf_adds(out, "; ");
}

/* Feed bytes in steps; the events as text. */
static const char *feed_bytes(struct h2 *c, const struct buf *b, size_t step,
                              int64_t now)
{
    static struct buf text;
    size_t at = 0, have = 0;

    buf_clear(&text);
    for (;;) {
        struct h2_event ev;
        /* Of exactly this length: a sanitizer sees a byte too many. */
        uint8_t *exact = xmalloc(have - at + 1);
        size_t used;

        if (have > at)
            memcpy(exact, b->data + at, have - at);
        used = h2_receive(c, exact, have - at, now, &ev);
        CHECK(used <= have - at);
        CHECK(h2_sane(c));
        at += used;
        if (ev.type != H2_NONE)
            event_text(&text, &ev);
        free(exact);
        if (used || ev.type != H2_NONE)
            continue;
        if (have == b->len)
            break;
        have = (size_t)min_u64(have + step, b->len);
    }
    return buf_z(&text);
}

static const char *feed_at(struct h2 *c, const char *frames, int64_t now)
{
    struct buf b = {0};
    const char *text;

    add_frames(&b, frames);
    text = feed_bytes(c, &b, SIZE_MAX / 2, now);
    buf_release(&b);
    return text;
}

static const char *feed(struct h2 *c, const char *frames)
{
    return feed_at(c, frames, NOW);
}

static struct h2 *server_with(const struct h2_options *o)
{
    struct h2 *c = h2_new(o, NOW);
    struct buf b = {0};

    buf_adds(&b, H2_PREFACE);
    add_frames(&b, "4 0 0");
    CHECK_STR(feed_bytes(c, &b, b.len, NOW), "");
    CHECK_STR(written(c), o->window_conn ? "WINDOW 0 983041; " : "");
    buf_release(&b);
    return c;
}

static struct h2 *server(void)
{
    return server_with(&(struct h2_options){.server = true});
}

static struct h2 *client_with(const struct h2_options *o)
{
    struct h2 *c = h2_new(o, NOW);

    CHECK_STR(feed(c, "4 0 0"), "");
    CHECK_STR(written(c), "");
    return c;
}

static struct h2 *client(void)
{
    return client_with(&(struct h2_options){0});
}

static const struct hpack_field get[] = {HPACK_FIELD(":method", "GET"),
                                         HPACK_FIELD(":scheme", "http"),
                                         HPACK_FIELD(":path", "/")};
static const struct hpack_field ok[] = {HPACK_FIELD(":status", "200")};
static const struct hpack_field status_0[] = {HPACK_FIELD("grpc-status", "0")};

/* --- The rules. --------------------------------------------------------------------- */

#define GET_ "828684"
#define POST_ "838684"
#define H(name, value) "00" name value

struct rule {
    const char *section, *frames, *events, *written;
};

static const struct rule server_rules[] = {
    {"a request", "1 5 1 " GET_, "HEADERS 1 GET / end; ", ""},
    {"a body", "1 4 1 " POST_ "|0 0 1 6162|0 1 1 63",
     "HEADERS 1 POST /; DATA 1 2; DATA 1 1 end; ", ""},
    {"trailers", "1 4 1 " POST_ "|1 5 1 " H("0161", "0162"),
     "HEADERS 1 POST /; TRAILERS 1 end; ", ""},
    {"4.1 unknown frame", "77 ff 3 616263|1 5 1 " GET_, "HEADERS 1 GET / end; ",
     ""},
    {"4.1 undefined flags", "6 fe 0 0000000000000000", "", "PING 0 ack; "},
    {"4.1 reserved bit", "6 0 80000000 0000000000000000", "", "PING 0 ack; "},
    {"4.3 cannot be decoded", "1 5 1 ff", "FAILED COMPRESSION_ERROR; ",
     "GOAWAY 0 last COMPRESSION_ERRORheader block cannot be decoded; "},
    {"5.1 DATA while idle", "0 1 1 61", "FAILED PROTOCOL_ERROR; ",
     "GOAWAY 0 last PROTOCOL_ERRORDATA for an idle stream; "},
    {"5.1 RST_STREAM while idle", "3 0 1 00000008", "FAILED PROTOCOL_ERROR; ",
     "GOAWAY 0 last PROTOCOL_ERRORRST_STREAM for an idle stream; "},
    {"5.1 WINDOW_UPDATE while idle", "8 0 1 00000064",
     "FAILED PROTOCOL_ERROR; ",
     "GOAWAY 0 last PROTOCOL_ERRORWINDOW_UPDATE for an idle stream; "},
    {"5.1 CONTINUATION while idle", "9 4 1 " GET_, "FAILED PROTOCOL_ERROR; ",
     "GOAWAY 0 last PROTOCOL_ERRORCONTINUATION without HEADERS; "},
    {"5.1 DATA when half-closed", "1 5 1 " GET_ "|0 1 1 61",
     "HEADERS 1 GET / end; RESET 1 STREAM_CLOSED; ", "RST 1 STREAM_CLOSED; "},
    {"5.1 HEADERS when half-closed", "1 5 1 " GET_ "|1 5 1 " GET_,
     "HEADERS 1 GET / end; RESET 1 STREAM_CLOSED; ", "RST 1 STREAM_CLOSED; "},
    {"5.1 DATA after their reset", "1 4 1 " POST_ "|3 0 1 00000008|0 1 1 61",
     "HEADERS 1 POST /; RESET 1 CANCEL; ", "RST 1 STREAM_CLOSED; "},
    {"5.1 HEADERS after their reset",
     "1 4 1 " POST_ "|3 0 1 00000008|1 5 1 " GET_,
     "HEADERS 1 POST /; RESET 1 CANCEL; ", "RST 1 STREAM_CLOSED; "},
    {"5.1 DATA after our reset", "1 4 1 " POST_ "|8 0 1 00000000|0 0 1 61*3",
     "HEADERS 1 POST /; RESET 1 PROTOCOL_ERROR; ", "RST 1 PROTOCOL_ERROR; "},
    {"5.1 WINDOW_UPDATE, RST_STREAM, PRIORITY when closed",
     "1 5 1 " GET_ "|3 0 1 00000008|8 0 1 00000001|3 0 1 00000008"
     "|2 0 1 0000000010",
     "HEADERS 1 GET / end; RESET 1 CANCEL; ", ""},
    {"5.1.1 even id", "1 5 2 " GET_, "FAILED PROTOCOL_ERROR; ",
     "GOAWAY 0 last PROTOCOL_ERRORHEADERS for a stream of the wrong side; "},
    {"5.1.1 smaller id", "1 5 5 " GET_ "|1 5 3 " GET_,
     "HEADERS 5 GET / end; FAILED PROTOCOL_ERROR; RESET 5 PROTOCOL_ERROR; ",
     "GOAWAY 0 last PROTOCOL_ERRORstream id is not new; "},
    {"5.1.2 too many streams", "1 5 1 " GET_ "*1|1 5 3 " GET_ "|1 5 5 " GET_,
     "HEADERS 1 GET / end; HEADERS 3 GET / end; ", "RST 5 REFUSED_STREAM; "},
    {"5.3.1 depends on itself", "1 25 1 0000000110" GET_, "",
     "RST 1 PROTOCOL_ERROR; "},
    {"5.3.1 and the next does not", "1 25 1 0000000110" GET_ "|1 5 3 " GET_,
     "HEADERS 3 GET / end; ", "RST 1 PROTOCOL_ERROR; "},
    {"5.3.1 trailers on themselves", "1 4 1 " POST_ "|1 25 1 0000000110" GET_,
     "HEADERS 1 POST /; RESET 1 PROTOCOL_ERROR; ", "RST 1 PROTOCOL_ERROR; "},
    {"5.3.1 PRIORITY of an idle stream on itself", "2 0 7 0000000710",
     "FAILED PROTOCOL_ERROR; ", "GOAWAY 0 last PROTOCOL_ERRORbad PRIORITY; "},
    {"5.3 priority is ignored", "1 25 1 8000000510" GET_ "|2 0 7 0000000110",
     "HEADERS 1 GET / end; ", ""},
    {"5.3.1 PRIORITY on itself", "1 5 1 " GET_ "|2 0 1 0000000110",
     "HEADERS 1 GET / end; RESET 1 PROTOCOL_ERROR; ", "RST 1 PROTOCOL_ERROR; "},
    {"5.3.1 PRIORITY on itself when closed",
     "1 4 1 " POST_ "|3 0 1 00000008|2 0 1 0000000110|2 0 1 0000000110",
     "HEADERS 1 POST /; RESET 1 CANCEL; ", "RST 1 PROTOCOL_ERROR; "},
    {"5.3 any weight, of any stream",
     "2 0 1 0000000000|2 0 3 80000001ff|1 5 1 " GET_ "|2 0 1 0000000010",
     "HEADERS 1 GET / end; ", ""},
    {"5.1 WINDOW_UPDATE when half-closed", "1 5 1 " GET_ "|8 0 1 00000064",
     "HEADERS 1 GET / end; ", ""},
    {"5.1 CONTINUATION after their reset",
     "1 4 1 " POST_ "|3 0 1 00000008|9 4 1 84",
     "HEADERS 1 POST /; RESET 1 CANCEL; FAILED PROTOCOL_ERROR; ",
     "GOAWAY 0 last PROTOCOL_ERRORCONTINUATION without HEADERS; "},
    {"6.1 DATA on 0", "0 0 0 61", "FAILED PROTOCOL_ERROR; ",
     "GOAWAY 0 last PROTOCOL_ERRORframe on a wrong stream; "},
    {"6.1 padding", "1 4 1 " POST_ "|0 9 1 02610000",
     "HEADERS 1 POST /; DATA 1 1 end; ", ""},
    {"6.1 nothing but padding", "1 4 1 " POST_ "|0 8 1 020000|0 8 1 00",
     "HEADERS 1 POST /; ", ""},
    {"6.1 too much padding", "1 4 1 " POST_ "|0 9 1 0461000000",
     "HEADERS 1 POST /; DATA 1 0 end; ", ""},
    {"6.1 more padding than frame", "1 4 1 " POST_ "|0 9 1 0561000000",
     "HEADERS 1 POST /; FAILED PROTOCOL_ERROR; RESET 1 PROTOCOL_ERROR; ",
     "GOAWAY 0 last PROTOCOL_ERRORpadding is longer than the frame; "},
    {"6.1 PADDED without a length", "1 4 1 " POST_ "|0 9 1",
     "HEADERS 1 POST /; FAILED PROTOCOL_ERROR; RESET 1 PROTOCOL_ERROR; ",
     "GOAWAY 0 last PROTOCOL_ERRORpadding is longer than the frame; "},
    {"6.2 HEADERS on 0", "1 5 0 " GET_, "FAILED PROTOCOL_ERROR; ",
     "GOAWAY 0 last PROTOCOL_ERRORframe on a wrong stream; "},
    {"6.2 padding and priority", "1 2d 1 020000000010" GET_ "0000",
     "HEADERS 1 GET / end; ", ""},
    {"6.2 padding", "1 d 1 ff" GET_, "FAILED PROTOCOL_ERROR; ",
     "GOAWAY 0 last PROTOCOL_ERRORHEADERS do not fit into their frame; "},
    {"6.2 interrupted", "1 1 1 8286|0 0 1 61", "FAILED PROTOCOL_ERROR; ",
     "GOAWAY 0 last PROTOCOL_ERRORheader block is interrupted; "},
    {"4.3 by PRIORITY", "1 1 1 8286|2 0 1 0000000010",
     "FAILED PROTOCOL_ERROR; ",
     "GOAWAY 0 last PROTOCOL_ERRORheader block is interrupted; "},
    {"4.2 too short for a priority", "1 25 1 80000000",
     "FAILED FRAME_SIZE_ERROR; ",
     "GOAWAY 0 last FRAME_SIZE_ERRORlength of HEADERS; "},
    {"6.2 by another stream", "1 1 1 8286|1 5 3 " GET_,
     "FAILED PROTOCOL_ERROR; ",
     "GOAWAY 0 last PROTOCOL_ERRORheader block is interrupted; "},
    {"5.5 by an unknown frame", "1 1 1 8286|77 0 0 61",
     "FAILED PROTOCOL_ERROR; ",
     "GOAWAY 0 last PROTOCOL_ERRORheader block is interrupted; "},
    {"6.3 PRIORITY on 0", "2 0 0 8000000010", "FAILED PROTOCOL_ERROR; ",
     "GOAWAY 0 last PROTOCOL_ERRORframe on a wrong stream; "},
    {"6.3 length", "1 5 1 " GET_ "|2 0 1 80000010",
     "HEADERS 1 GET / end; RESET 1 FRAME_SIZE_ERROR; ",
     "RST 1 FRAME_SIZE_ERROR; "},
    {"6.4 RST_STREAM on 0", "3 0 0 00000008", "FAILED PROTOCOL_ERROR; ",
     "GOAWAY 0 last PROTOCOL_ERRORframe on a wrong stream; "},
    {"6.4 length", "1 5 1 " GET_ "|3 0 1 000008",
     "HEADERS 1 GET / end; FAILED FRAME_SIZE_ERROR; "
     "RESET 1 FRAME_SIZE_ERROR; ",
     "GOAWAY 0 last FRAME_SIZE_ERRORlength of a frame; "},
    {"6.5 SETTINGS with a stream", "4 0 1", "FAILED PROTOCOL_ERROR; ",
     "GOAWAY 0 last PROTOCOL_ERRORframe on a wrong stream; "},
    {"6.5 ACK with a payload", "4 1 0 00", "FAILED FRAME_SIZE_ERROR; ",
     "GOAWAY 0 last FRAME_SIZE_ERRORlength of SETTINGS; "},
    {"6.5 not a multiple of 6", "4 0 0 00030000", "FAILED FRAME_SIZE_ERROR; ",
     "GOAWAY 0 last FRAME_SIZE_ERRORlength of SETTINGS; "},
    {"6.5.2 ENABLE_PUSH", "4 0 0 000200000002", "FAILED PROTOCOL_ERROR; ",
     "GOAWAY 0 last PROTOCOL_ERRORSETTINGS_ENABLE_PUSH; "},
    {"6.5.2 INITIAL_WINDOW_SIZE", "4 0 0 000480000000",
     "FAILED FLOW_CONTROL_ERROR; ",
     "GOAWAY 0 last FLOW_CONTROL_ERRORSETTINGS_INITIAL_WINDOW_SIZE; "},
    {"6.5.2 MAX_FRAME_SIZE small", "4 0 0 000500003fff",
     "FAILED PROTOCOL_ERROR; ",
     "GOAWAY 0 last PROTOCOL_ERRORSETTINGS_MAX_FRAME_SIZE; "},
    {"6.5.2 MAX_FRAME_SIZE large", "4 0 0 000501000000",
     "FAILED PROTOCOL_ERROR; ",
     "GOAWAY 0 last PROTOCOL_ERRORSETTINGS_MAX_FRAME_SIZE; "},
    {"6.5.2 unknown setting", "4 0 0 00ff00000001|6 0 0 0000000000000000", "",
     "PING 0 ack; "},
    {"6.6 PUSH_PROMISE", "5 4 1 00000002" GET_, "FAILED PROTOCOL_ERROR; ",
     "GOAWAY 0 last PROTOCOL_ERRORPUSH_PROMISE; "},
    {"6.7 PING ACK is not answered", "6 1 0 0000000000000000", "", ""},
    {"6.7 PING with a stream", "6 0 1 0000000000000000",
     "FAILED PROTOCOL_ERROR; ",
     "GOAWAY 0 last PROTOCOL_ERRORframe on a wrong stream; "},
    {"6.7 length", "6 0 0 000000000000", "FAILED FRAME_SIZE_ERROR; ",
     "GOAWAY 0 last FRAME_SIZE_ERRORlength of a frame; "},
    {"6.8 GOAWAY with a stream", "7 0 1 0000000000000000",
     "FAILED PROTOCOL_ERROR; ",
     "GOAWAY 0 last PROTOCOL_ERRORframe on a wrong stream; "},
    {"6.8 GOAWAY", "1 5 1 " GET_ "|7 0 0 000000000000000061|1 5 3 " GET_,
     "HEADERS 1 GET / end; GOAWAY; HEADERS 3 GET / end; ", ""},
    {"6.9 WINDOW_UPDATE of 0 on 0", "8 0 0 00000000", "FAILED PROTOCOL_ERROR; ",
     "GOAWAY 0 last PROTOCOL_ERRORWINDOW_UPDATE; "},
    {"6.9 WINDOW_UPDATE of 0", "1 4 1 " POST_ "|8 0 1 00000000",
     "HEADERS 1 POST /; RESET 1 PROTOCOL_ERROR; ", "RST 1 PROTOCOL_ERROR; "},
    {"6.9 length", "8 0 0 000001", "FAILED FRAME_SIZE_ERROR; ",
     "GOAWAY 0 last FRAME_SIZE_ERRORlength of a frame; "},
    {"6.9.1 too large a window on 0", "8 0 0 7fffffff",
     "FAILED FLOW_CONTROL_ERROR; ",
     "GOAWAY 0 last FLOW_CONTROL_ERRORWINDOW_UPDATE; "},
    {"6.9.1 too large a window", "1 4 1 " POST_ "|8 0 1 7fffffff",
     "HEADERS 1 POST /; RESET 1 FLOW_CONTROL_ERROR; ",
     "RST 1 FLOW_CONTROL_ERROR; "},
    {"6.9.2 too large by a setting",
     "1 4 1 " POST_ "|8 0 1 7fff0000|4 0 0 00047fffffff",
     "HEADERS 1 POST /; FAILED FLOW_CONTROL_ERROR; "
     "RESET 1 FLOW_CONTROL_ERROR; ",
     "GOAWAY 0 last FLOW_CONTROL_ERRORa window becomes too large; "},
    {"6.10 CONTINUATION", "1 1 1 82|9 0 1 86|9 0 1|9 4 1 84",
     "HEADERS 1 GET / end; ", ""},
    {"6.10 on another stream", "1 1 1 82|9 4 3 8684", "FAILED PROTOCOL_ERROR; ",
     "GOAWAY 0 last PROTOCOL_ERRORheader block is interrupted; "},
    {"6.10 on 0", "1 1 1 82|9 4 0 8684", "FAILED PROTOCOL_ERROR; ",
     "GOAWAY 0 last PROTOCOL_ERRORheader block is interrupted; "},
    {"6.10 after the end", "1 5 1 " GET_ "|9 4 1 82",
     "HEADERS 1 GET / end; FAILED PROTOCOL_ERROR; RESET 1 PROTOCOL_ERROR; ",
     "GOAWAY 0 last PROTOCOL_ERRORCONTINUATION without HEADERS; "},
    {"6.10 behind the last CONTINUATION", "1 1 1 82|9 4 1 8684|9 4 1 84",
     "HEADERS 1 GET / end; FAILED PROTOCOL_ERROR; RESET 1 PROTOCOL_ERROR; ",
     "GOAWAY 0 last PROTOCOL_ERRORCONTINUATION without HEADERS; "},
    {"6.10 behind DATA", "1 4 1 " POST_ "|0 0 1 61|9 4 1 84",
     "HEADERS 1 POST /; DATA 1 1; FAILED PROTOCOL_ERROR; "
     "RESET 1 PROTOCOL_ERROR; ",
     "GOAWAY 0 last PROTOCOL_ERRORCONTINUATION without HEADERS; "},
    {"7 unknown error codes",
     "1 4 1 " POST_ "|3 0 1 000000ff|7 0 0 00000000000000ff|1 5 3 " GET_,
     "HEADERS 1 POST /; RESET 1 ; GOAWAY; HEADERS 3 GET / end; ", ""},
    {"8.1 HEADERS that are no trailers", "1 4 1 " POST_ "|1 4 1 " POST_,
     "HEADERS 1 POST /; RESET 1 PROTOCOL_ERROR; ", "RST 1 PROTOCOL_ERROR; "},
    {"8.1 pseudo field in trailers", "1 4 1 " POST_ "|1 5 1 84",
     "HEADERS 1 POST /; RESET 1 PROTOCOL_ERROR; ", "RST 1 PROTOCOL_ERROR; "},
    {"8.2.1 upper case", "1 5 1 " GET_ H("0141", "0162"), "",
     "RST 1 PROTOCOL_ERROR; "},
    {"8.2.1 empty name", "1 5 1 " GET_ H("00", "0162"), "",
     "RST 1 PROTOCOL_ERROR; "},
    {"8.2.1 newline", "1 5 1 " GET_ H("0161", "03610a62"), "",
     "RST 1 PROTOCOL_ERROR; "},
    {"8.2.1 blank at the end", "1 5 1 " GET_ H("0161", "026220"), "",
     "RST 1 PROTOCOL_ERROR; "},
    {"8.2.2 connection", "1 5 1 " GET_ H("0a636f6e6e656374696f6e", "0161"), "",
     "RST 1 PROTOCOL_ERROR; "},
    {"8.2.2 keep-alive", "1 5 1 " GET_ H("0a6b6565702d616c697665", "0161"), "",
     "RST 1 PROTOCOL_ERROR; "},
    {"8.2.2 proxy-connection",
     "1 5 1 " GET_ H("1070726f78792d636f6e6e656374696f6e", "0161"), "",
     "RST 1 PROTOCOL_ERROR; "},
    {"8.2.2 transfer-encoding",
     "1 5 1 " GET_ H("117472616e736665722d656e636f64696e67", "0161"), "",
     "RST 1 PROTOCOL_ERROR; "},
    {"8.2.2 upgrade", "1 5 1 " GET_ H("0775706772616465", "0161"), "",
     "RST 1 PROTOCOL_ERROR; "},
    {"8.2.2 te: gzip", "1 5 1 " GET_ H("027465", "04677a6970"), "",
     "RST 1 PROTOCOL_ERROR; "},
    {"8.2.2 te: trailers", "1 5 1 " GET_ H("027465", "08747261696c657273"),
     "HEADERS 1 GET / end; ", ""},
    {"8.3 unknown pseudo field", "1 5 1 " GET_ H("053a74657374", "0161"), "",
     "RST 1 PROTOCOL_ERROR; "},
    {"8.3 a response's", "1 5 1 " GET_ "88", "", "RST 1 PROTOCOL_ERROR; "},
    {"8.3 behind others", "1 5 1 8286" H("0161", "0162") "84", "",
     "RST 1 PROTOCOL_ERROR; "},
    {"8.3.1 no method", "1 5 1 8684", "", "RST 1 PROTOCOL_ERROR; "},
    {"8.3.1 no scheme", "1 5 1 8284", "", "RST 1 PROTOCOL_ERROR; "},
    {"8.3.1 no path", "1 5 1 8286", "", "RST 1 PROTOCOL_ERROR; "},
    {"8.3.1 empty path", "1 5 1 82860400", "", "RST 1 PROTOCOL_ERROR; "},
    {"8.3.1 blank in a path", "1 5 1 828604022f20", "",
     "RST 1 PROTOCOL_ERROR; "},
    {"8.3.1 twice", "1 5 1 82" GET_, "", "RST 1 PROTOCOL_ERROR; "},
    {"8.3.1 :scheme twice", "1 5 1 86" GET_, "", "RST 1 PROTOCOL_ERROR; "},
    {"8.3.1 :path twice", "1 5 1 84" GET_, "", "RST 1 PROTOCOL_ERROR; "},
    {"8.1.1 content-length", "1 4 1 " POST_ "0f0d0133|0 1 1 616263",
     "HEADERS 1 POST /; DATA 1 3 end; ", ""},
    {"8.1.1 less", "1 4 1 " POST_ "0f0d0133|0 1 1 6162",
     "HEADERS 1 POST /; RESET 1 PROTOCOL_ERROR; ", "RST 1 PROTOCOL_ERROR; "},
    {"8.1.1 more", "1 4 1 " POST_ "0f0d0133|0 0 1 6162*2",
     "HEADERS 1 POST /; DATA 1 2; RESET 1 PROTOCOL_ERROR; ",
     "RST 1 PROTOCOL_ERROR; "},
    {"8.1.1 none", "1 5 1 " POST_ "0f0d0133", "", "RST 1 PROTOCOL_ERROR; "},
    {"8.1.1 less, then trailers",
     "1 4 1 " POST_ "0f0d0133|0 0 1 6162|1 5 1 " H("0161", "0162"),
     "HEADERS 1 POST /; DATA 1 2; RESET 1 PROTOCOL_ERROR; ",
     "RST 1 PROTOCOL_ERROR; "},
    {"8.5 CONNECT", "1 4 1 0207434f4e4e4543540103613a31",
     "HEADERS 1 CONNECT ; ", ""},
    {"8.5 with a path", "1 4 1 0207434f4e4e4543540103613a3184", "",
     "RST 1 PROTOCOL_ERROR; "},
};

#undef H
#define H(name, value) "00" name value

/* Stream 1 asked for "/", with a body to come; 3 is idle. */
static const struct rule client_rules[] = {
    {"a response", "1 4 1 88|0 1 1 61", "HEADERS 1 200; DATA 1 1 end; ", ""},
    {"nothing but trailers", "1 5 1 88", "HEADERS 1 200 end; ", ""},
    {"interim", "1 4 1 0803313030|1 5 1 88", "HEADERS 1 200 end; ", ""},
    {"interim that ends", "1 5 1 0803313030", "RESET 1 PROTOCOL_ERROR; ",
     "RST 1 PROTOCOL_ERROR; "},
    {"DATA first", "0 0 1 61", "RESET 1 PROTOCOL_ERROR; ",
     "RST 1 PROTOCOL_ERROR; "},
    {"no status", "1 4 1 " H("0161", "0162"), "RESET 1 PROTOCOL_ERROR; ",
     "RST 1 PROTOCOL_ERROR; "},
    {"a request's", "1 4 1 8884", "RESET 1 PROTOCOL_ERROR; ",
     "RST 1 PROTOCOL_ERROR; "},
    {"bad status", "1 4 1 08023230", "RESET 1 PROTOCOL_ERROR; ",
     "RST 1 PROTOCOL_ERROR; "},
    {"idle", "1 4 3 88", "FAILED PROTOCOL_ERROR; RESET 1 PROTOCOL_ERROR; ",
     "GOAWAY 0 last PROTOCOL_ERRORHEADERS for a stream of the wrong side; "},
    {"a server's", "1 4 2 88",
     "FAILED PROTOCOL_ERROR; RESET 1 PROTOCOL_ERROR; ",
     "GOAWAY 0 last PROTOCOL_ERRORHEADERS for a stream of the wrong side; "},
    {"push", "5 4 1 00000002" GET_,
     "FAILED PROTOCOL_ERROR; RESET 1 PROTOCOL_ERROR; ",
     "GOAWAY 0 last PROTOCOL_ERRORPUSH_PROMISE; "},
    {"push allowed", "4 0 0 000200000001",
     "FAILED PROTOCOL_ERROR; RESET 1 PROTOCOL_ERROR; ",
     "GOAWAY 0 last PROTOCOL_ERRORSETTINGS_ENABLE_PUSH; "},
    {"refused", "7 0 0 0000000000000000", "GOAWAY; RESET 1 REFUSED_STREAM; ",
     ""},
    {"not refused", "7 0 0 0000000100000000|1 5 1 88",
     "GOAWAY; HEADERS 1 200 end; ", ""},
    {"content-length", "1 4 1 880f0d0132|0 1 1 61",
     "HEADERS 1 200; RESET 1 PROTOCOL_ERROR; ", "RST 1 PROTOCOL_ERROR; "},
    {"204 with content-length", "1 5 1 890f0d0132", "HEADERS 1 204 end; ", ""},
    {"blank at the end of grpc-message",
     "1 5 1 88" H("0c677270632d6d657373616765", "026220"),
     "HEADERS 1 200 end; ", ""},
    {"after the end", "1 5 1 88|0 1 1 61",
     "HEADERS 1 200 end; RESET 1 STREAM_CLOSED; ", "RST 1 STREAM_CLOSED; "},
};

static void check_rule(const struct rule *r, struct h2 *c, size_t step)
{
    struct buf b = {0};
    const char *events;
    int failed = check_failed;

    add_frames(&b, r->frames);
    events = feed_bytes(c, &b, step, NOW);
    CHECK_STR(events, r->events);
    CHECK_STR(written(c), r->written);
    if (strstr(events, "FAILED")) {
        CHECK(h2_done(c) && h2_streams(c) == 0);
        CHECK_STR(feed(c, "6 0 0 0000000000000000"), "");
        CHECK_STR(written(c), "");
    }
    if (failed != check_failed)
        fprintf(stderr, "in \"%s\", by steps of %zu\n", r->section, step);
    buf_release(&b);
    h2_free(c);
}

static void test_rules(void)
{
    static const size_t steps[] = {1, 2, 3, 8, 9, 10, 1 << 20};

    for (size_t k = 0; k < ARRAY_LEN(steps); k++) {
        for (size_t i = 0; i < ARRAY_LEN(server_rules); i++)
            check_rule(&server_rules[i],
                       server_with(&(struct h2_options){.server = true,
                                                        .streams_max = 2}),
                       steps[k]);
        for (size_t i = 0; i < ARRAY_LEN(client_rules); i++) {
            struct h2 *c = client();

            CHECK(h2_request(c, get, 3, false, NULL) == 1);
            written(c);
            check_rule(&client_rules[i], c, steps[k]);
        }
    }
}

/* 3.4 */
static void test_preface(void)
{
    static const struct {
        const char *text;
        int is;
    } cases[] = {
        {"", 0},
        {"P", 0},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", 0},
        {H2_PREFACE, 1},
        {H2_PREFACE "more", 1},
        {"PUT", -1},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\rx", -1},
        {"\x16\x03\x01", -1},
    };
    struct h2 *c = h2_new(&(struct h2_options){.server = true}, NOW);
    struct buf b = {0};

    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        CHECK(h2_sniff(cases[i].text, strlen(cases[i].text)) == cases[i].is);
    buf_adds(&b, "GET / HTTP/1.1\r\n");
    CHECK_STR(feed_bytes(c, &b, 1, NOW), "FAILED PROTOCOL_ERROR; ");
    h2_free(c);

    c = h2_new(&(struct h2_options){.server = true}, NOW);
    buf_clear(&b);
    buf_adds(&b, H2_PREFACE);
    add_frames(&b, "6 0 0 0000000000000000");
    CHECK_STR(feed_bytes(c, &b, 1, NOW), "FAILED PROTOCOL_ERROR; ");
    h2_free(c);
    buf_release(&b);
}

/* 4.2: one byte more than a frame may have. Known before it is there. */
static void test_frame_size(void)
{
    static const char big[FRAME_MAX + 1];
    struct h2 *c = server();
    struct buf b = {0};

    add_frames(&b, "1 4 1 " POST_);
    add_frame(&b, 0, 0, 1, (struct str){big, FRAME_MAX});
    CHECK(b.len - 12 <= H2_INPUT_MAX);
    CHECK_STR(feed_bytes(c, &b, 4096, NOW), "HEADERS 1 POST /; DATA 1 16384; ");
    buf_clear(&b);
    add_frame(&b, 0, 0, 1, (struct str){big, FRAME_MAX + 1});
    b.len = FRAME_HEAD;
    CHECK_STR(feed_bytes(c, &b, 4096, NOW),
              "FAILED FRAME_SIZE_ERROR; RESET 1 FRAME_SIZE_ERROR; ");
    h2_free(c);
    for (unsigned type = F_DATA; type <= F_CONTINUATION + 1; type++) {
        c = server();
        buf_clear(&b);
        add_frame(&b, type, 0, 1, (struct str){big, FRAME_MAX + 1});
        b.len = FRAME_HEAD;
        CHECK_STR(feed_bytes(c, &b, 4096, NOW), "FAILED FRAME_SIZE_ERROR; ");
        h2_free(c);
    }
    buf_release(&b);
}

/* --- Heads. --------------------------------------------------------------------------- */

/* A list above SETTINGS_MAX_HEADER_LIST_SIZE costs its stream; a block above
 * it, the connection. */
static void test_large_head(void)
{
    struct h2 *c = server_with(
        &(struct h2_options){.server = true, .header_list_max = 300});
    struct buf b = {0};
    char value[250];

    memset(value, 'x', sizeof(value));
    add_frames(&b, "1 1 1 " GET_ "|9 0 1 00016101");
    buf_clear(&b);
    buf_add(&b, "\x82\x86\x84\x00\x01x\x7f\x61", 8); /* 127 + 97 */
    buf_add(&b, value, 224);
    {
        struct buf f = {0};

        add_frame(&f, F_HEADERS, 5, 1, buf_str(&b));
        add_frames(&f, "1 5 3 " GET_);
        CHECK_STR(feed_bytes(c, &f, 100, NOW), "HEADERS 3 GET / end; ");
        CHECK_STR(written(c), "RST 1 ENHANCE_YOUR_CALM; ");
        buf_clear(&f);
        add_frame(&f, F_HEADERS, 1, 5, buf_str(&b));
        add_frame(&f, F_CONTINUATION, 4, 5, (struct str){value, 100});
        CHECK_STR(feed_bytes(c, &f, 100, NOW),
                  "FAILED ENHANCE_YOUR_CALM; RESET 3 ENHANCE_YOUR_CALM; ");
        buf_release(&f);
    }
    buf_release(&b);
    h2_free(c);
}

/* 6.10: our own heads that take several frames. */
static void test_long_head_sent(void)
{
    for (size_t n = FRAME_MAX - 40; n < 3 * FRAME_MAX + 60; n += 16301) {
        struct h2 *a = client(),
                  *b = server_with(&(struct h2_options){
                      .server = true, .header_list_max = 1 << 17});
        char *value = xmalloc(n);
        struct hpack_field f[4] = {get[0], get[1], get[2]};
        struct buf bytes = {0};
        struct h2_event ev;
        size_t used = 0;

        memset(value, 0x7e, n); /* '~': longer in Huffman's code */
        f[3] = (struct hpack_field){{"x", 1}, {value, n}, HPACK_PLAIN};
        CHECK(h2_request(a, f, 4, true, NULL) == 1);
        collect(a, &bytes, 1 << 20);
        do
            used +=
                h2_receive(b, bytes.data + used, bytes.len - used, NOW, &ev);
        while (ev.type == H2_NONE && used < bytes.len);
        CHECK(ev.type == H2_HEADERS && ev.end && ev.n_fields == 1);
        CHECK(h2_field(&ev, "x").n == n);
        CHECK(h2_field(&ev, "y").p == NULL);
        buf_release(&bytes);
        free(value);
        h2_free(a);
        h2_free(b);
    }
}

/* --- Windows. ---------------------------------------------------------------------------- */

static void open_and_answer(struct h2 *c, uint32_t id)
{
    char frames[32];

    snprintf(frames, sizeof(frames), "1 5 %x " GET_, id);
    feed(c, frames);
    CHECK(h2_headers(c, id, ok, 1, false) == 0);
}

static void send_bytes(struct h2 *c, uint32_t id, size_t n)
{
    uint8_t *p = xcalloc(1, n);

    CHECK(h2_send(c, id, p, n) == 0);
    free(p);
}

/* To the byte: 65535, then what each update grants; below 0 by a setting. */
static void test_send_windows(void)
{
    struct h2 *c = server();

    open_and_answer(c, 1);
    send_bytes(c, 1, 100000);
    CHECK(h2_queued(c) == 100000 && h2_stream_queued(c, 1) == 100000);
    CHECK_STR(written(c), "HEADERS 1; DATA 1 16384; DATA 1 16384; "
                          "DATA 1 16384; DATA 1 16383; ");
    CHECK(h2_queued(c) == 34465);
    feed(c, "8 0 1 00000064"); /* the connection's is still shut */
    CHECK_STR(written(c), "");
    feed(c, "8 0 0 00000001");
    CHECK_STR(written(c), "DATA 1 1; ");
    feed(c, "8 0 0 00010000");
    CHECK_STR(written(c), "DATA 1 99; ");
    feed(c, "4 0 0 00040000ffff|4 0 0 00040000fffe|8 0 1 00000001");
    CHECK_STR(written(c), ""); /* it had fallen to -1 */
    feed(c, "4 0 0 000400010003");
    CHECK_STR(written(c), "DATA 1 5; ");
    feed(c, "4 0 0 000400100000");
    CHECK_STR(written(c), "DATA 1 16384; DATA 1 16384; DATA 1 1592; ");
    CHECK(h2_queued(c) == 0 && h2_end(c, 1, status_0, 1) == 0);
    CHECK_STR(written(c), "HEADERS 1 end; ");
    CHECK(h2_streams(c) == 0);
    h2_free(c);
}

/* 6.5: SETTINGS are acknowledged; of a value that is there twice the last one
 * counts (6.5.3), down to a window of a byte (6.9.1). */
static void test_settings(void)
{
    static const uint8_t ack[FRAME_HEAD] = {0, 0, 0, F_SETTINGS, ACK};
    struct h2 *c = server();
    struct buf b = {0};

    feed(c, "4 0 0 000400000064000400000001");
    collect(c, &b, 1 << 20);
    CHECK(b.len == sizeof(ack) && memcmp(b.data, ack, sizeof(ack)) == 0);
    buf_release(&b);
    open_and_answer(c, 1);
    send_bytes(c, 1, 10);
    CHECK_STR(written(c), "HEADERS 1; DATA 1 1; ");
    h2_free(c);
}

/* Turns: no stream waits for another's large body. */
static void test_fair(void)
{
    struct h2 *c = server();

    for (uint32_t id = 1; id <= 5; id += 2)
        open_and_answer(c, id);
    send_bytes(c, 1, 40000);
    send_bytes(c, 3, 10);
    send_bytes(c, 5, 20000);
    CHECK(h2_end(c, 1, NULL, 0) == 0 && h2_end(c, 3, status_0, 1) == 0);
    CHECK_STR(written(c),
              "HEADERS 1; HEADERS 3; HEADERS 5; DATA 1 16384; DATA 3 10; "
              "HEADERS 3 end; DATA 5 16384; DATA 1 16384; DATA 5 3616; "
              "DATA 1 7232 end; ");
    CHECK(h2_streams(c) == 1);
    CHECK(h2_send(c, 3, "x", 1) == H2_EGONE && h2_wake(c, 3) == H2_EGONE);
    h2_free(c);
}

/* What comes in is granted again as it is consumed, and not before. */
static void test_receive_windows(void)
{
    static const char big[FRAME_MAX];
    struct h2 *c = server();
    struct buf b = {0};

    add_frames(&b, "1 4 1 " POST_);
    for (int i = 0; i < 3; i++)
        add_frame(&b, 0, 0, 1, (struct str){big, FRAME_MAX});
    add_frame(&b, 0, 0, 1, (struct str){big, FRAME_MAX - 1});
    feed_bytes(c, &b, 1 << 20, NOW);
    CHECK_STR(written(c), "");
    CHECK(h2_consumed(c, 1, 32766) == 0);
    CHECK_STR(written(c), "");
    CHECK(h2_consumed(c, 1, 1) == 0);
    CHECK_STR(written(c), "WINDOW 0 32767; WINDOW 1 32767; ");
    CHECK(h2_consumed(c, 1, 32768) == 0);
    CHECK_STR(written(c), "WINDOW 0 32768; WINDOW 1 32768; ");
    CHECK(h2_consumed(c, 3, 1) == H2_EGONE);
    /* A byte too many for both windows: it is the connection's error. */
    feed_bytes(c, &(struct buf){b.data + 12, b.len - 12, 0}, 1 << 20, NOW);
    CHECK_STR(feed(c, "0 0 1 61"),
              "FAILED FLOW_CONTROL_ERROR; RESET 1 FLOW_CONTROL_ERROR; ");
    h2_free(c);

    /* For the stream's alone. */
    c = server_with(
        &(struct h2_options){.server = true, .window_conn = 1 << 20});
    feed_bytes(c, &b, 1 << 20, NOW);
    CHECK_STR(feed(c, "0 0 1 61"), "RESET 1 FLOW_CONTROL_ERROR; ");
    CHECK_STR(written(c), "RST 1 FLOW_CONTROL_ERROR; ");
    h2_free(c);

    /* A stream that is closed gives back what its user never took. */
    c = server();
    feed_bytes(c, &b, 1 << 20, NOW);
    CHECK(h2_reset(c, 1, H2_CANCEL) == 0);
    CHECK_STR(written(c), "RST 1 CANCEL; WINDOW 0 65535; ");
    h2_free(c);
    buf_release(&b);
}

/* 6.9.1: padding counts, and nobody else will consume it. */
static void test_padding_window(void)
{
    static const char padded[256] = {(char)255};
    struct h2 *c = server();
    struct buf b = {0};

    add_frames(&b, "1 4 1 " POST_);
    for (int i = 0; i < 128; i++)
        add_frame(&b, F_DATA, PADDED, 1, (struct str){padded, sizeof(padded)});
    CHECK_STR(feed_bytes(c, &b, 1000, NOW), "HEADERS 1 POST /; ");
    CHECK_STR(written(c), "WINDOW 0 32768; WINDOW 1 32768; ");
    buf_release(&b);
    h2_free(c);
}

/* 6.5.2: the peer's table, to which our encoder keeps. */
static void test_table_size(void)
{
    static const struct hpack_field f[] = {HPACK_FIELD(":status", "200"),
                                           HPACK_FIELD("custom", "value")};
    struct h2 *c = server();
    size_t first;

    feed(c, "4 0 0 000100000000|1 5 1 " GET_ "|1 5 3 " GET_);
    written(c);
    CHECK(h2_headers(c, 1, f, 2, true) == 0);
    first = c->control.len;
    CHECK(c->control.data[FRAME_HEAD] == 0x20); /* a table of size 0 */
    CHECK(h2_headers(c, 3, f, 2, true) == 0);
    CHECK(c->control.len == 2 * first - 1);
    h2_free(c);
}

/* 5.1: who ended a stream must not go on; who was reset may, for a while, and
 * what is forgotten is taken for that. */
static void test_late(void)
{
    struct h2 *c = server();
    char frames[32];

    feed(c, "1 5 1 " GET_);
    CHECK(h2_headers(c, 1, ok, 1, true) == 0 && h2_streams(c) == 0);
    CHECK_STR(feed(c, "2 0 1 0000000010|8 0 1 00000001|3 0 1 00000008"), "");
    CHECK_STR(feed(c, "0 1 1 61"), "FAILED STREAM_CLOSED; ");
    h2_free(c);

    c = server();
    feed(c, "1 5 1 " GET_);
    CHECK(h2_headers(c, 1, ok, 1, true) == 0);
    CHECK_STR(feed(c, "1 5 1 " GET_), "FAILED STREAM_CLOSED; ");
    h2_free(c);

    c = server();
    for (uint32_t id = 1; id < 2 * CLOSED_REMEMBERED + 4; id += 2) {
        snprintf(frames, sizeof(frames), "1 4 %x " POST_, id);
        feed(c, frames);
        CHECK(h2_reset(c, id, H2_CANCEL) == 0);
    }
    written(c);
    CHECK_STR(feed(c, "0 0 7f 61"), "");
    CHECK_STR(written(c), "");
    CHECK_STR(feed(c, "0 0 1 61"), "");
    CHECK_STR(written(c), "RST 1 STREAM_CLOSED; ");
    h2_free(c);

    c = client();
    for (uint32_t id = 1; id < 2 * CLOSED_REMEMBERED + 4; id += 2) {
        CHECK(h2_request(c, get, 3, true, NULL) == id);
        CHECK(h2_reset(c, id, H2_CANCEL) == 0);
    }
    written(c);
    CHECK_STR(feed(c, "1 4 1 88|0 1 1 61|1 4 7f 88|0 1 7f 61"), "");
    CHECK_STR(written(c), "");
    h2_free(c);
}

static void test_queue_max(void)
{
    struct h2 *c =
        server_with(&(struct h2_options){.server = true, .queue_max = 100});
    struct blob *blob = blob_new(NULL, 100);

    open_and_answer(c, 1);
    CHECK(h2_send(c, 1, "abc", 3) == 0);
    CHECK(h2_send_blob(c, 1, blob, 0, 98) == H2_EFULL);
    CHECK(h2_send_blob(c, 1, blob, 1, 97) == 0);
    CHECK(h2_send(c, 1, "a", 1) == H2_EFULL && h2_send(c, 1, NULL, 0) == 0);
    CHECK_STR(written(c), "HEADERS 1; DATA 1 100; ");
    CHECK(h2_send(c, 1, "a", 1) == 0);
    h2_free(c);
    blob_unref(blob);
}

/* --- Sources. ------------------------------------------------------------------------------ */

struct counter {
    size_t left, step, pulled, released;
    bool wait;
    struct blob *blob;
};

static enum h2_pulled pull_counter(void *arg, struct h2_sink *s, size_t room)
{
    struct counter *k = arg;
    size_t n = (size_t)min_u64(min_u64(k->step, room), k->left);

    k->pulled++;
    if (k->wait && n == 0)
        return H2_PULL_WAIT;
    if (k->blob)
        h2_sink_blob(s, k->blob, 0, n);
    else
        h2_sink_add(s, "01234567890123456789", n);
    k->left -= n;
    if (k->left)
        return H2_PULL_MORE;
    return k->wait ? H2_PULL_WAIT : H2_PULL_DONE;
}

static void release_counter(void *arg)
{
    ((struct counter *)arg)->released++;
}

static void test_sources(void)
{
    struct h2 *c = server();
    struct counter k = {.left = 100000, .step = 1000, .wait = true};
    struct h2_source src = {pull_counter, release_counter, &k};

    k.blob = blob_new(NULL, 1000);
    open_and_answer(c, 1);
    CHECK(h2_send_source(c, 1, &src) == 0);
    CHECK(h2_end(c, 1, status_0, 1) == 0);
    CHECK(k.pulled == 0);
    CHECK_STR(written(c), "HEADERS 1; DATA 1 16384; DATA 1 16384; "
                          "DATA 1 16384; DATA 1 16383; ");
    CHECK(k.left == 34465 && k.blob->refs == 1);
    feed(c, "8 0 0 00100000|8 0 1 00100000");
    CHECK_STR(written(c), "DATA 1 16384; DATA 1 16384; DATA 1 1697; ");
    CHECK(k.left == 0 && k.released == 0);
    CHECK_STR(written(c), "");
    k.left = 5;
    CHECK(h2_wake(c, 1) == 0);
    CHECK_STR(written(c), "DATA 1 5; ");
    k.wait = false; /* nothing more: DONE without a byte, then the trailers */
    CHECK(h2_wake(c, 1) == 0);
    CHECK_STR(written(c), "HEADERS 1 end; ");
    CHECK(k.released == 1 && h2_streams(c) == 0);

    /* Behind a piece and before another; and dropped by a reset. */
    blob_unref(k.blob);
    k = (struct counter){.left = 30, .step = 10};
    open_and_answer(c, 3);
    CHECK(h2_send(c, 3, "abc", 3) == 0 && h2_send_source(c, 3, &src) == 0);
    CHECK(h2_send(c, 3, "abc", 3) == 0 && h2_end(c, 3, NULL, 0) == 0);
    CHECK_STR(written(c), "HEADERS 3; DATA 3 36 end; ");
    CHECK(k.released == 1);
    open_and_answer(c, 5);
    CHECK(h2_send_source(c, 5, &src) == 0);
    CHECK_STR(feed(c, "3 0 5 00000008"), "RESET 5 CANCEL; ");
    CHECK(k.released == 2);
    CHECK_STR(written(c), "HEADERS 5; ");
    h2_free(c);
}

/* A batch is its own: a stream's end by reset does not touch it. */
static void test_batch_stays(void)
{
    struct h2 *c = server();
    struct blob *blob = blob_new(NULL, 10000);
    struct iovec *iov;
    int n;
    size_t sum = 0;

    open_and_answer(c, 1);
    CHECK(h2_send_blob(c, 1, blob, 0, 10000) == 0);
    n = h2_output(c, 1 << 20, &iov);
    CHECK(n == 2 && blob->refs == 2); /* heads; the blob itself */
    CHECK(iov[1].iov_base == blob->data && iov[1].iov_len == 10000);
    feed(c, "3 0 1 00000008");
    CHECK(h2_streams(c) == 0 && blob->refs == 2);
    h2_sent(c, 5);
    open_and_answer(c, 3); /* queued behind */
    n = h2_output(c, 1 << 20, &iov);
    CHECK(n == 2 && iov[1].iov_len == 10000);
    for (int i = 0; i < n; i++)
        sum += iov[i].iov_len;
    h2_sent(c, sum - 1);
    CHECK(h2_output(c, 1, &iov) == 1 && iov[0].iov_len == 1);
    h2_sent(c, 1);
    CHECK(blob->refs == 1);
    CHECK_STR(written(c), "HEADERS 3; ");
    h2_trim(c);
    h2_free(c);
    blob_unref(blob);
}

/* 8.1: a server that has answered does not want the rest. */
static void test_early_answer(void)
{
    struct h2 *c = server();

    CHECK_STR(feed(c, "1 4 1 " POST_), "HEADERS 1 POST /; ");
    CHECK(h2_headers(c, 1, ok, 1, true) == 0);
    CHECK_STR(feed(c, "0 0 1 61*5|0 1 1"), "");
    CHECK_STR(written(c), "HEADERS 1 end; RST 1 NO_ERROR; ");
    CHECK_STR(feed(c, "1 4 3 " POST_), "HEADERS 3 POST /; ");
    CHECK(h2_headers(c, 3, ok, 1, false) == 0 && h2_send(c, 3, "x", 1) == 0);
    CHECK(h2_end(c, 3, status_0, 1) == 0);
    CHECK_STR(written(c),
              "HEADERS 3; DATA 3 1; HEADERS 3 end; RST 3 NO_ERROR; ");
    CHECK(h2_streams(c) == 0 && h2_headers(c, 3, ok, 1, true) == H2_EGONE);
    h2_free(c);
}

/* --- Floods. -------------------------------------------------------------------------------- */

#define CALM "ENHANCE_YOUR_CALM"

static void check_flood(const char *open, const char *frames, int fine,
                        int64_t every)
{
    struct h2 *c = server_with(&(struct h2_options){
        .server = true, .frames_max = 100, .frames_per_s = 10});
    int n = 0;

    if (open)
        feed(c, open);
    while (n < 1000 && !strstr(feed_at(c, frames, NOW + n * every), CALM)) {
        written(c);
        n++;
    }
    if (fine < 0)
        CHECK(n == 1000);
    else
        CHECK(n >= fine - 2 && n <= fine + 1);
    if (fine >= 0)
        CHECK(strstr(written(c), CALM));
    h2_free(c);
}

static void test_floods(void)
{
    static const char *const useless[] = {
        "4 0 0",                  /* SETTINGS */
        "6 0 0 0000000000000000", /* PING */
        "6 1 0 0000000000000000", /* its ACK */
        "2 0 3 0000000110",       /* PRIORITY */
        "0 0 1",                  /* DATA without data */
        "0 8 1 020000",           /* nothing but padding */
        "8 0 0 00000001",         /* WINDOW_UPDATE */
        "77 0 0 61",              /* unknown */
    };

    for (size_t i = 0; i < ARRAY_LEN(useless); i++) {
        check_flood("1 4 1 " POST_, useless[i], 100, 0);
        check_flood("1 4 1 " POST_, useless[i], 200, SECOND / 20);
        check_flood("1 4 1 " POST_, useless[i], -1, SECOND / 10);
    }
    /* Useful frames in between keep it going. */
    check_flood("1 4 1 " POST_, "8 0 1 00000001|0 0 1 61", -1, 0);
}

/* Streams that are opened and reset at once, or made to be reset by us. */
static void test_rapid_reset(void)
{
    static const char *const second[] = {"3 0 %x 00000008", "8 0 %x 00000000"};

    for (size_t k = 0; k < ARRAY_LEN(second); k++) {
        for (int64_t every = 0; every <= SECOND / 100; every += SECOND / 100) {
            struct h2 *c = server_with(&(struct h2_options){
                .server = true, .resets_max = 50, .resets_per_s = 100});
            uint32_t id = 1;
            const char *events = "";
            int64_t now = NOW;

            while (id < 1000 && !strstr(events, CALM)) {
                char f[64], g[32];

                snprintf(g, sizeof(g), second[k], id);
                snprintf(f, sizeof(f), "1 5 %x " GET_ "|%s", id, g);
                events = feed_at(c, f, now += every);
                written(c);
                id += 2;
            }
            CHECK(every ? id > 1000 : id == 2 * 51 + 1);
            CHECK(h2_streams(c) == 0);
            h2_free(c);
        }
    }
}

static void test_continuation_flood(void)
{
    struct h2 *c = server();

    CHECK_STR(feed(c, "1 1 1 82|9 0 1*32"), "");
    CHECK_STR(feed(c, "9 0 1"), "FAILED " CALM "; ");
    h2_free(c);
}

/* Answers pile up only so far while the peer does not read. */
static void test_unread_replies(void)
{
    struct h2 *c = server_with(&(struct h2_options){
        .server = true, .frames_max = 100, .frames_per_s = 1000000});
    int n = 0;

    while (
        n < 1000 &&
        !strstr(feed_at(c, "6 0 0 0000000000000000", NOW + n * SECOND), CALM))
        n++;
    CHECK(n == 200 && c->control.len < 200 * 17 + 100);
    h2_free(c);
}

/* --- Pings. ---------------------------------------------------------------------------------- */

#define PING "6 0 0 0000000000000000"
#define CALM_FRAME "PING 0 ack; GOAWAY 0 last ENHANCE_YOUR_CALMtoo_many_pings; "

static void test_ping_rules(void)
{
    const struct h2_options o = {.server = true, .ping_min_ns = 5 * SECOND};
    struct h2 *c = server_with(&o);

    /* With a stream: one every 5 s. The first is free, the third strike out. */
    feed(c, "1 4 1 " POST_);
    for (int i = 0; i < 10; i++)
        CHECK_STR(feed_at(c, PING, NOW + i * 5 * SECOND), "");
    CHECK_STR(feed_at(c, PING, NOW + 46 * SECOND), "");
    CHECK_STR(feed_at(c, PING, NOW + 47 * SECOND), "");
    CHECK(strlen(written(c)) == 12 * strlen("PING 0 ack; "));
    CHECK_STR(feed_at(c, PING, NOW + 48 * SECOND),
              "FAILED " CALM "; RESET 1 " CALM "; ");
    CHECK_STR(written(c), CALM_FRAME);
    h2_free(c);

    /* Without one: one every two hours. */
    c = server_with(&o);
    for (int i = 0; i < 3; i++)
        CHECK_STR(feed_at(c, PING, NOW + i * 60 * SECOND), "");
    CHECK_STR(feed_at(c, PING, NOW + 240 * SECOND), "FAILED " CALM "; ");
    h2_free(c);

    /* What we send forgives, once. */
    c = server_with(&o);
    feed(c, "1 5 1 " GET_);
    CHECK(h2_headers(c, 1, ok, 1, false) == 0);
    for (int i = 0; i < 20; i++) {
        CHECK_STR(feed(c, PING), "");
        CHECK(h2_send(c, 1, "x", 1) == 0);
        written(c);
    }
    for (int i = 0; i < 3; i++)
        CHECK_STR(feed(c, PING), "");
    CHECK(strstr(feed(c, PING), "FAILED " CALM));
    h2_free(c);
}

static void test_keepalive(void)
{
    struct h2_options o = {.server = true,
                           .keepalive_ns = 10 * SECOND,
                           .keepalive_timeout_ns = 3 * SECOND};
    struct h2 *c = server_with(&o);

    CHECK(h2_tick(c, NOW) == NOW + 10 * SECOND);
    feed_at(c, "6 1 0 0000000000000000", NOW + 4 * SECOND);
    CHECK(h2_tick(c, NOW + 10 * SECOND) == NOW + 14 * SECOND);
    CHECK_STR(written(c), "");
    CHECK(h2_tick(c, NOW + 14 * SECOND) == NOW + 17 * SECOND);
    CHECK_STR(written(c), "PING 0; ");
    CHECK(h2_tick(c, NOW + 16 * SECOND) == NOW + 17 * SECOND);
    feed_at(c, "6 1 0 0000000000000000", NOW + 16 * SECOND);
    CHECK(h2_tick(c, NOW + 17 * SECOND) == NOW + 26 * SECOND);
    CHECK(h2_tick(c, NOW + 26 * SECOND) == NOW + 29 * SECOND);
    CHECK(h2_tick(c, NOW + 29 * SECOND) == H2_TIMED_OUT);
    h2_eof(c);
    CHECK(h2_done(c) && !h2_wants_write(c));
    h2_free(c);

    /* A client is quiet while it has no stream. */
    o.server = false;
    c = client_with(&o);
    CHECK(h2_tick(c, NOW + 60 * SECOND) == INT64_MAX);
    h2_request(c, get, 3, true, NULL);
    CHECK(h2_tick(c, NOW + 60 * SECOND) == NOW + 63 * SECOND);
    CHECK_STR(written(c), "HEADERS 1 end; PING 0; ");
    h2_free(c);
}

/* --- The end. ----------------------------------------------------------------------------------- */

/* 6.8: what was on its way is served; what comes later is not. */
static void test_shutdown(void)
{
    struct h2 *c = server();

    feed(c, "1 5 1 " GET_);
    h2_shutdown(c, NOW);
    CHECK_STR(written(c), "GOAWAY 0 all NO_ERRORgraceful_stop; PING 0; ");
    CHECK(h2_tick(c, NOW) == NOW + 5 * SECOND && !h2_done(c));
    CHECK_STR(feed(c, "1 5 3 " GET_), "HEADERS 3 GET / end; ");
    CHECK_STR(feed(c, "6 1 0 73687574646f776e"), ""); /* "shutdown" */
    CHECK_STR(written(c), "GOAWAY 0 last NO_ERROR; ");
    CHECK_STR(feed(c, "1 5 5 " GET_), "");
    CHECK_STR(feed(c, "1 4 7 " POST_ "|0 1 7 61"), "");
    CHECK_STR(written(c), "");
    CHECK(h2_headers(c, 1, ok, 1, true) == 0 && !h2_done(c));
    CHECK(h2_headers(c, 3, ok, 1, true) == 0 && !h2_done(c));
    CHECK_STR(written(c), "HEADERS 1 end; HEADERS 3 end; ");
    CHECK(h2_done(c));
    h2_free(c);

    c = server(); /* a client that does not answer */
    h2_shutdown(c, NOW);
    CHECK(h2_tick(c, NOW + 5 * SECOND) == INT64_MAX);
    CHECK_STR(written(c), "GOAWAY 0 all NO_ERRORgraceful_stop; PING 0; "
                          "GOAWAY 0 last NO_ERROR; ");
    CHECK(h2_done(c));
    h2_free(c);
}

static void test_client_end(void)
{
    struct h2 *c = client();
    int a = 0, b = 0;

    CHECK_STR(feed(c, "4 0 0 000300000002"), "");
    CHECK(h2_request(c, get, 3, true, &a) == 1);
    CHECK(h2_request(c, get, 3, true, &b) == 3);
    CHECK(h2_request(c, get, 3, true, NULL) == H2_EBUSY);
    CHECK_STR(feed(c, "1 5 1 88"), "HEADERS 1 200 end; ");
    CHECK(h2_streams(c) == 1 && h2_request(c, get, 3, false, NULL) == 5);
    CHECK_STR(feed(c, "7 0 0 0000000300000000"),
              "GOAWAY; RESET 5 REFUSED_STREAM; ");
    CHECK(h2_request(c, get, 3, true, NULL) == H2_ECLOSED && !h2_done(c));
    h2_eof(c);
    CHECK_STR(feed(c, ""), "RESET 3 CANCEL; ");
    CHECK(h2_done(c) && h2_streams(c) == 0);
    h2_free(c);

    c = client();
    CHECK(h2_request(c, get, 3, true, NULL) == 1);
    h2_shutdown(c, NOW);
    CHECK_STR(written(c), "HEADERS 1 end; GOAWAY 0 last NO_ERROR; ");
    CHECK(h2_request(c, get, 3, true, NULL) == H2_ECLOSED && !h2_done(c));
    feed(c, "1 5 1 88");
    CHECK(h2_done(c));
    h2_free(c);

    c = server();
    feed(c, "1 4 1 " POST_);
    CHECK(h2_set_user(c, 1, &a) == 0 && h2_set_user(c, 3, &a) == H2_EGONE);
    h2_fail(c, H2_INTERNAL_ERROR, "why");
    CHECK(h2_send(c, 1, "a", 1) == H2_EGONE);
    CHECK_STR(feed(c, ""), "FAILED INTERNAL_ERROR; RESET 1 INTERNAL_ERROR; ");
    CHECK_STR(written(c), "GOAWAY 0 last INTERNAL_ERRORwhy; ");
    h2_free(c);
}

/* --- Two engines at random. ------------------------------------------------------------------------ */

#define TALKS 40

/* One direction of a stream: what is said, and how much of it was heard. */
struct speech {
    size_t said, heard, held; /* held: not yet consumed */
    size_t source_left;
    bool source_waits, source_gone, end_said, end_heard;
};

struct talk {
    struct speech up, down; /* client to server, and back */
    bool over;              /* reset */
    bool early;             /* answered before all was heard (8.1) */
};

struct side {
    struct h2 *c;
    struct buf in;
    bool server;
};

static struct talk talks[TALKS]; /* stream 2i + 1 */
static struct side sides[2];     /* client, server */

static uint8_t byte_at(uint32_t id, bool up, size_t at)
{
    return (uint8_t)(at * 7 + at / 251 + id + (up ? 128 : 0));
}

static struct speech *speech_of(uint32_t id, bool up)
{
    struct talk *t = &talks[id / 2];

    return up ? &t->up : &t->down;
}

static void close_talk(uint32_t id)
{
    talks[id / 2].over = true;
}

static void heard(struct side *me, const struct h2_event *ev)
{
    struct speech *s;

    if (ev->type == H2_FAILED || ev->type == H2_GOAWAY) {
        CHECK(!"no errors");
        return;
    }
    s = speech_of(ev->stream, me->server);
    if (ev->type == H2_RESET) {
        close_talk(ev->stream);
        return;
    }
    for (size_t i = 0; i < ev->n; i++)
        if (ev->data[i] != byte_at(ev->stream, me->server, s->heard + i)) {
            CHECK(!"the bytes that were said");
            break;
        }
    s->heard += ev->n;
    s->held += ev->n;
    if (ev->end) {
        s->end_heard = true;
        if (!talks[ev->stream / 2].over)
            CHECK(s->end_said && s->heard == s->said);
    }
    if (me->server && ev->type == H2_HEADERS)
        CHECK(h2_headers(me->c, ev->stream, ok, 1, false) == 0);
}

/* Move at most n bytes from one side to the other. */
static size_t carry(struct side *from, struct side *to, size_t n)
{
    struct iovec *iov;
    int k = h2_output(from->c, 1 + rnd(50000), &iov);
    size_t sent = 0, at = 0;
    struct h2_event ev;

    for (int i = 0; i < k && sent < n; i++) {
        size_t part = (size_t)min_u64(iov[i].iov_len, n - sent);

        buf_add(&to->in, iov[i].iov_base, part);
        sent += part;
    }
    if (k)
        h2_sent(from->c, sent);
    for (;;) {
        size_t used =
            h2_receive(to->c, to->in.data + at, to->in.len - at, NOW, &ev);

        at += used;
        if (ev.type != H2_NONE)
            heard(to, &ev);
        else if (used == 0)
            break;
    }
    buf_consume(&to->in, at);
    return sent;
}

struct speaker {
    uint32_t id;
    bool up;
};

static enum h2_pulled pull_speech(void *arg, struct h2_sink *sink, size_t room)
{
    struct speaker *k = arg;
    struct speech *s = speech_of(k->id, k->up);
    size_t n = (size_t)min_u64(min_u64(room, s->source_left), 1 + rnd(3000));
    struct blob *b = blob_new(NULL, n);

    for (size_t i = 0; i < n; i++)
        b->data[i] = byte_at(k->id, k->up, s->said + i);
    if (rnd(2))
        h2_sink_blob(sink, b, 0, n);
    else
        h2_sink_add(sink, b->data, n);
    blob_unref(b);
    s->said += n;
    s->source_left -= n;
    if (s->source_left == 0)
        return H2_PULL_DONE;
    s->source_waits = rnd(4) == 0 || n == 0;
    return s->source_waits ? H2_PULL_WAIT : H2_PULL_MORE;
}

static void release_speech(void *arg)
{
    struct speaker *k = arg;

    speech_of(k->id, k->up)->source_left = 0;
    speech_of(k->id, k->up)->source_gone = true;
    free(k);
}

/* Say something, in one of the ways, unless a source is speaking. */
static void say(struct h2 *c, uint32_t id, bool up)
{
    struct speech *s = speech_of(id, up);
    size_t n = rnd(3) ? rnd(300) : rnd(40000);
    struct blob *b;
    int rc;

    if (s->end_said || s->source_left)
        return;
    if (rnd(5) == 0 && n) {
        struct speaker *k = xmalloc(sizeof(*k));

        *k = (struct speaker){id, up};
        s->source_left = n;
        s->source_waits = s->source_gone = false;
        if (h2_send_source(
                c, id, &(struct h2_source){pull_speech, release_speech, k}) < 0)
            release_speech(k);
        return;
    }
    b = blob_new(NULL, n);
    for (size_t i = 0; i < n; i++)
        b->data[i] = byte_at(id, up, s->said + i);
    rc = rnd(2) ? h2_send(c, id, b->data, n) : h2_send_blob(c, id, b, 0, n);
    if (rc == 0)
        s->said += n;
    blob_unref(b);
    if (rc == 0 && rnd(4) == 0 &&
        (up || talks[id / 2].up.end_heard ||
         (talks[id / 2].early = rnd(9) == 0)) &&
        h2_end(c, id, status_0, rnd(2)) == 0)
        s->end_said = true;
}

static bool exists(struct side *me, uint32_t id)
{
    struct h2_stream *s = h2_find(me->c, id);

    return s && s->head_sent;
}

static void act(struct side *me, uint32_t id)
{
    struct speech *mine = speech_of(id, !me->server);
    struct speech *theirs = speech_of(id, me->server);

    switch (rnd(8)) {
    case 0:
        if (rnd(20) == 0 && h2_reset(me->c, id, H2_CANCEL) == 0)
            close_talk(id);
        break;
    case 1:
    case 2:
    case 3:
        if (exists(me, id))
            say(me->c, id, !me->server);
        break;
    case 4:
        if (mine->source_waits)
            h2_wake(me->c, id);
        break;
    default:
        if (theirs->held && h2_find(me->c, id)) {
            size_t n = rnd(2) ? theirs->held : rnd((uint32_t)theirs->held);

            CHECK(h2_consumed(me->c, id, n) == 0);
            theirs->held -= n;
        }
        break;
    }
}

/* Let all be said, woken, consumed and heard. */
static void settle(uint32_t n)
{
    for (int round = 0; round < 2000; round++) {
        size_t moved = carry(&sides[0], &sides[1], 100000) +
                       carry(&sides[1], &sides[0], 100000);

        for (uint32_t id = 1; id < 2 * n; id += 2) {
            for (int k = 0; k < 2; k++) {
                struct side *me = &sides[k];
                struct speech *mine = speech_of(id, !me->server);
                struct speech *theirs = speech_of(id, me->server);

                if (h2_consumed(me->c, id, theirs->held) == 0)
                    theirs->held = 0;
                if (h2_wake(me->c, id) == 0 && mine->source_waits)
                    moved++;
                if (exists(me, id) && !mine->end_said && !mine->source_left &&
                    (!me->server || theirs->end_heard) &&
                    h2_end(me->c, id, status_0, 1) == 0)
                    mine->end_said = true, moved++;
            }
        }
        if (!moved && sides[0].c->n_streams + sides[1].c->n_streams == 0)
            return;
    }
    CHECK(!"all is said");
}

static void converse(uint32_t with)
{
    struct h2_options o = {.window_conn = 65535 + rnd(3) * 40000,
                           .window_stream = 65535 + rnd(2) * 100000,
                           .frames_max = 1000000,
                           .resets_max = 1000000};
    uint32_t n = 0;

    rnd_seed = with;
    memset(talks, 0, sizeof(talks));
    sides[0] = (struct side){h2_new(&o, NOW), {0}, false};
    o.server = true;
    o.window_conn = 65535 + rnd(3) * 40000;
    sides[1] = (struct side){h2_new(&o, NOW), {0}, true};
    for (int i = 0; i < 1200; i++) {
        uint32_t k = rnd(2);

        if (n < TALKS && rnd(20) == 0)
            CHECK(h2_request(sides[0].c, get, 3, false, NULL) == 2 * n++ + 1);
        if (n)
            act(&sides[k], 2 * rnd(n) + 1);
        carry(&sides[k], &sides[!k], rnd(3) ? rnd(100) : rnd(60000));
        if (i % 8 == 0) {
            CHECK(h2_sane(sides[0].c));
            CHECK(h2_sane(sides[1].c));
        }
    }
    settle(n);
    for (uint32_t i = 0; i < n; i++) {
        struct talk *t = &talks[i];

        CHECK(t->over || (t->down.end_heard && (t->early || t->up.end_heard)));
        CHECK(t->over || t->down.heard == t->down.said);
        CHECK(t->up.heard <= t->up.said && t->down.heard <= t->down.said);
    }
    for (int k = 0; k < 2; k++) {
        CHECK(h2_sane(sides[k].c));
        CHECK(h2_queued(sides[k].c) == 0 && !h2_wants_write(sides[k].c));
        h2_free(sides[k].c);
        buf_release(&sides[k].in);
    }
}

int main(void)
{
    const char *one = getenv("HTTP2_SEED");

    test_rules();
    test_preface();
    test_frame_size();
    test_large_head();
    test_long_head_sent();
    test_send_windows();
    test_settings();
    test_fair();
    test_receive_windows();
    test_padding_window();
    test_table_size();
    test_late();
    test_queue_max();
    test_sources();
    test_batch_stays();
    test_early_answer();
    test_floods();
    test_rapid_reset();
    test_continuation_flood();
    test_unread_replies();
    test_ping_rules();
    test_keepalive();
    test_shutdown();
    test_client_end();
    for (uint32_t i = 1; i <= 20 && !one; i++) {
        int failed = check_failed;

        converse(i);
        if (failed != check_failed)
            fprintf(stderr, "again by HTTP2_SEED=%u\n", i);
    }
    if (one)
        converse((uint32_t)atoi(one));
    return check_done("http2");
}
