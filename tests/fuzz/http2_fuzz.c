/*
 * http2_fuzz.c - frames of HTTP/2, to a server and to a client that answer. The
 * first byte says which, and what the options are. However the bytes are cut on
 * their way, the same things happen; what must hold holds after each step; and
 * what is written is made of whole frames.
 */
#include "../h2sane.h"
#include "fuzz.h"

#define NOW INT64_C(1000000000)

static const struct hpack_field request[] = {HPACK_FIELD(":method", "POST"),
                                             HPACK_FIELD(":scheme", "http"),
                                             HPACK_FIELD(":path", "/a")};
static const struct hpack_field response[] = {HPACK_FIELD(":status", "200")};
static const struct hpack_field trailers[] = {HPACK_FIELD("grpc-status", "0")};

#define SLEEPER 11 /* a stream whose source has to be woken once */
#define SLOW 21    /* one during which time passes */

struct source {
    size_t left;
    bool sleeps;
};

static enum h2_pulled pull(void *arg, struct h2_sink *s, size_t room)
{
    static const char zeros[1000];
    struct source *k = arg;
    size_t n = (size_t)min_u64(min_u64(k->left, room), sizeof(zeros));

    if (k->sleeps) {
        k->sleeps = false;
        return H2_PULL_WAIT;
    }
    h2_sink_add(s, zeros, n);
    k->left -= n;
    return k->left ? H2_PULL_MORE : H2_PULL_DONE;
}

/* What happened, to be compared. */
static void log_event(struct buf *log, const struct h2_event *ev)
{
    buf_printf(log, "%d %u %d %u %d %u ", ev->type, ev->stream, ev->end,
               ev->code, ev->status, ev->last);
    buf_addstr(log, ev->method);
    buf_addstr(log, ev->path);
    for (size_t i = 0; i < ev->n_fields; i++) {
        FUZZ_CHECK(ev->fields[i].name.n > 0);
        buf_addstr(log, ev->fields[i].name);
        buf_addstr(log, ev->fields[i].value);
    }
    buf_add(log, ev->data, ev->n);
    buf_adds(log, "\n");
}

static void send_source(struct h2 *c, uint32_t stream)
{
    struct source *k = xmalloc(sizeof(*k));
    struct h2_source s = {pull, free, k};

    *k = (struct source){3000, stream == SLEEPER};
    if (h2_send_source(c, stream, &s) < 0)
        free(k);
}

/* What a server decides by itself, in the middle of things. */
static void interfere(struct h2 *c, const struct h2_event *ev)
{
    if (ev->stream % 32 == 17)
        h2_reset(c, ev->stream, H2_CANCEL);
    if (ev->stream % 32 == 19)
        h2_shutdown(c, NOW);
}

/* A server: its answer depends on the stream alone. */
static void answer(struct h2 *c, const struct h2_event *ev)
{
    if (ev->type == H2_HEADERS && c->o.server) {
        FUZZ_CHECK(h2_headers(c, ev->stream, response, 1, false) == 0);
        h2_send(c, ev->stream, "0123456789", 10);
        if (ev->stream % 8 == SLEEPER % 8)
            send_source(c, ev->stream);
        if (ev->stream % 8 == 5)
            h2_end(c, ev->stream, trailers, 1);
    }
    if (ev->type == H2_DATA && ev->stream % 8 != 7) {
        h2_consumed(c, ev->stream, ev->n);
        if (c->o.server)
            h2_send(c, ev->stream, ev->data, ev->n);
    }
    if (c->o.server && ev->end &&
        (ev->type == H2_HEADERS || ev->type == H2_DATA ||
         ev->type == H2_TRAILERS))
        h2_end(c, ev->stream, trailers, ev->stream % 16 == 1);
    if (ev->type == H2_HEADERS && c->o.server)
        interfere(c, ev);
}

static void collect(struct h2 *c, struct buf *out)
{
    struct iovec *iov;
    int n;

    while ((n = h2_output(c, 10000, &iov)) > 0) {
        for (int i = 0; i < n; i++) {
            FUZZ_CHECK(iov[i].iov_len > 0);
            buf_add(out, iov[i].iov_base, iov[i].iov_len);
            h2_sent(c, iov[i].iov_len);
        }
        FUZZ_CHECK(h2_sane(c));
    }
    FUZZ_CHECK(!h2_wants_write(c));
}

static struct h2 *start(uint8_t how)
{
    struct h2_options o = {.server = how & 1,
                           .streams_max = how & 2 ? 2 : 0,
                           .frames_max = how & 4 ? 8 : 0,
                           .resets_max = how & 8 ? 4 : 0,
                           .header_list_max = how & 16 ? 200 : 0,
                           .ping_min_ns = how & 32 ? NOW : 0,
                           .queue_max = how & 64 ? 2000 : 0};
    struct h2 *c = h2_new(&o, NOW);
    struct h2_event ev;

    if (how & 2) { /* less than it can be told to: inputs are short */
        c->recv_window = 1000;
        c->o.window_conn = 1000;
        c->o.window_stream = 600;
    }
    if (o.server) {
        h2_receive(c, H2_PREFACE, H2_PREFACE_LEN, NOW, &ev);
        return c;
    }
    for (int i = 0; i < 3; i++) {
        h2_request(c, request, 3, i == 0, NULL);
        if (i == 1)
            send_source(c, 3);
    }
    return c;
}

static void run(uint8_t how, struct str in, size_t step, struct buf *log,
                struct buf *out)
{
    struct h2 *c = start(how);
    size_t at = 0, have = 0;
    int64_t now = NOW;
    struct h2_event ev;

    for (;;) {
        size_t used = h2_receive(c, in.p + at, have - at, now, &ev);

        FUZZ_CHECK(used <= have - at && h2_sane(c));
        at += used;
        if (ev.type != H2_NONE) {
            now += ev.stream % 32 == SLOW ? NOW / 4 : 0;
            log_event(log, &ev);
            answer(c, &ev);
            FUZZ_CHECK(h2_sane(c));
        } else if (used == 0 && have == in.n) {
            break;
        } else if (used == 0) {
            FUZZ_CHECK(have - at < H2_INPUT_MAX);
            have = (size_t)min_u64(in.n, have + step);
        }
    }
    collect(c, out);
    h2_wake(c, SLEEPER);
    collect(c, out);
    if (how & 128)
        h2_eof(c);
    while (h2_receive(c, NULL, 0, now, &ev), ev.type != H2_NONE)
        FUZZ_CHECK(ev.type == H2_RESET);
    FUZZ_CHECK(!(how & 128) || (h2_streams(c) == 0 && h2_queued(c) == 0));
    h2_free(c);
}

/* What was written is HTTP/2: whole frames, of lengths that are allowed. */
static void check_output(const struct buf *out, bool client)
{
    size_t at = client ? H2_PREFACE_LEN : 0;

    while (at < out->len) {
        const uint8_t *p = out->data + at;
        size_t n = (size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2];

        FUZZ_CHECK(out->len - at >= FRAME_HEAD && n <= FRAME_MAX);
        FUZZ_CHECK(p[3] <= F_CONTINUATION && p[3] != F_PRIORITY);
        at += FRAME_HEAD + n;
    }
    FUZZ_CHECK(at == out->len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t steps[] = {1, 7, 100};
    struct fuzz_in in = {data, size};
    uint8_t how = fuzz_u8(&in);
    struct str rest = {(const char *)in.p, in.n};
    struct buf log = {0}, out = {0}, log_cut = {0}, out_cut = {0};

    run(how, rest, SIZE_MAX / 2, &log, &out);
    check_output(&out, !(how & 1));
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        if (steps[i] * 4096 < rest.n)
            continue;
        buf_clear(&log_cut);
        buf_clear(&out_cut);
        run(how, rest, steps[i], &log_cut, &out_cut);
        FUZZ_CHECK(str_eq(buf_str(&log), buf_str(&log_cut)));
        FUZZ_CHECK(str_eq(buf_str(&out), buf_str(&out_cut)));
    }
    buf_release(&log);
    buf_release(&out);
    buf_release(&log_cut);
    buf_release(&out_cut);
    return 0;
}
