/*
 * http2.c - the HTTP/2 connection: its life, its streams, and the frames that
 * come in (RFC 9113; sections are named where their rules are).
 *
 *   OFFSET  SIZE  FIELD OF A FRAME (4.1)
 *        0     3  n, big-endian
 *        3     1  type
 *        4     1  flags
 *        5     4  a bit to be ignored, and the stream's id, or 0
 *        9     n  payload
 *
 * INVARIANTS
 *   1. Every header block passes through the decoder, whatever becomes of its
 *      stream: the tables of both ends stay the same (4.3).
 *   2. Every byte of DATA leaves the connection's window, and comes back to it
 *      when it is consumed, or when its stream is closed, or at once.
 *   3. A stream is in the table as long as one side may still speak; its user
 *      hears of every end but those that he brought about himself.
 *   4. What the peer makes us do without any use costs it a place in a bucket.
 *
 * ERRORS (5.4)  stream_error() resets one stream. fail() ends the connection:
 * GOAWAY is queued, nothing is read any more, and what else waits is dropped.
 */
#include "http2_impl.h"

#include <stdio.h>

struct frame {
    uint32_t n;
    uint8_t type, flags;
    uint32_t stream;
    const uint8_t *p;
};

const char *h2_code_name(uint32_t code)
{
    static const char *const names[] = {"NO_ERROR",
                                        "PROTOCOL_ERROR",
                                        "INTERNAL_ERROR",
                                        "FLOW_CONTROL_ERROR",
                                        "SETTINGS_TIMEOUT",
                                        "STREAM_CLOSED",
                                        "FRAME_SIZE_ERROR",
                                        "REFUSED_STREAM",
                                        "CANCEL",
                                        "COMPRESSION_ERROR",
                                        "CONNECT_ERROR",
                                        "ENHANCE_YOUR_CALM",
                                        "INADEQUATE_SECURITY",
                                        "HTTP_1_1_REQUIRED"};

    return code < ARRAY_LEN(names) ? names[code] : "";
}

int h2_sniff(const void *p, size_t n)
{
    size_t len = n < H2_PREFACE_LEN ? n : H2_PREFACE_LEN;

    if (len && memcmp(p, H2_PREFACE, len) != 0)
        return -1;
    return len == H2_PREFACE_LEN;
}

/* --- Life. ------------------------------------------------------------------ */

static uint32_t or_else(uint32_t v, uint32_t fallback)
{
    return v ? v : fallback;
}

static void set_defaults(struct h2_options *o)
{
    o->window_stream = (uint32_t)min_u64(
        max_u64(o->window_stream, WINDOW_DEFAULT), WINDOW_MAX);
    o->window_conn =
        (uint32_t)min_u64(max_u64(o->window_conn, WINDOW_DEFAULT), WINDOW_MAX);
    o->header_list_max = or_else(o->header_list_max, 65536);
    o->resets_max = or_else(o->resets_max, 1000);
    o->resets_per_s = or_else(o->resets_per_s, 100);
    o->frames_max = or_else(o->frames_max, 1000);
    o->frames_per_s = or_else(o->frames_per_s, 200);
}

struct h2 *h2_new(const struct h2_options *o, int64_t now_ns)
{
    struct h2 *c = xcalloc(1, sizeof(*c));

    c->o = *o;
    set_defaults(&c->o);
    c->now_ns = c->read_ns = now_ns;
    c->resets.at_ns = c->frames.at_ns = now_ns;
    c->pinged_ns = INT64_MIN;
    hpack_decoder_init(&c->decoder, c->o.header_list_max, FIELDS_MAX);
    hpack_encoder_init(&c->encoder, HPACK_TABLE_SIZE);
    c->recv_window = (int32_t)c->o.window_conn;
    c->send_window = WINDOW_DEFAULT;
    c->peer_streams_max = UINT32_MAX;
    c->peer_window = WINDOW_DEFAULT;
    c->peer_frame_max = FRAME_MAX;
    c->next_id = 1;
    c->n_buckets = 8;
    c->buckets = xcalloc(c->n_buckets, sizeof(*c->buckets));
    c->preface_seen = !o->server;
    h2_put_settings(c);
    return c;
}

void h2_free(struct h2 *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->n_buckets; i++)
        while (c->buckets[i])
            h2_close_stream(c, c->buckets[i], NOT_REMEMBERED);
    free(c->buckets);
    hpack_decoder_release(&c->decoder);
    hpack_encoder_release(&c->encoder);
    hpack_list_release(&c->list);
    buf_release(&c->block);
    buf_release(&c->control);
    h2_batch_release(&c->batch);
    free(c);
}

size_t h2_streams(const struct h2 *c)
{
    return c->n_streams;
}

void h2_trim(struct h2 *c)
{
    hpack_list_release(&c->list);
    buf_release(&c->decoder.scratch);
    if (!c->block_stream)
        buf_release(&c->block);
    if (c->control.len == 0)
        buf_release(&c->control);
    if (!c->batch.active)
        h2_batch_release(&c->batch);
}

/* --- Streams. ------------------------------------------------------------------ */

static struct h2_stream **bucket_of(const struct h2 *c, uint32_t id)
{
    return &c->buckets[(id >> 1) & (c->n_buckets - 1)]; /* all are odd */
}

struct h2_stream *h2_find(const struct h2 *c, uint32_t id)
{
    struct h2_stream *s = *bucket_of(c, id);

    while (s && s->id != id)
        s = s->next;
    return s;
}

static void grow_table(struct h2 *c)
{
    struct h2_stream **old = c->buckets;
    size_t n = c->n_buckets;

    c->n_buckets *= 2;
    c->buckets = xcalloc(c->n_buckets, sizeof(*c->buckets));
    for (size_t i = 0; i < n; i++) {
        for (struct h2_stream *s = old[i], *next; s; s = next) {
            struct h2_stream **b = bucket_of(c, s->id);

            next = s->next;
            s->next = *b;
            *b = s;
        }
    }
    free(old);
}

static struct h2_stream *open_stream(struct h2 *c, uint32_t id)
{
    struct h2_stream *s = xcalloc(1, sizeof(*s)), **b;

    if (c->n_streams == c->n_buckets)
        grow_table(c);
    b = bucket_of(c, id);
    s->id = id;
    s->send_window = (int32_t)c->peer_window;
    s->recv_window = (int32_t)c->o.window_stream;
    s->body_left = -1;
    s->last = &s->first;
    s->next = *b;
    *b = s;
    c->n_streams++;
    return s;
}

/*
 * What comes for a stream that is closed depends on how it was closed (5.1).
 * That is known of the last ones only; see late().
 */
static void remember(struct h2 *c, uint32_t id, enum closed_how how)
{
    c->closed[c->closed_at++ % CLOSED_REMEMBERED] = (id >> 1) << 2 | how;
}

/* The last that was remembered: we may have reset what had been closed. */
static enum closed_how recall(const struct h2 *c, uint32_t id)
{
    for (uint32_t i = 1; i <= CLOSED_REMEMBERED; i++) {
        uint32_t v = c->closed[(c->closed_at - i) % CLOSED_REMEMBERED];

        if (v && v >> 2 == id >> 1)
            return (enum closed_how)(v & 3);
    }
    return NOT_REMEMBERED;
}

/* n bytes of the connection's window are free again: tell it when it is worth
 * a frame. */
static void conn_consumed(struct h2 *c, size_t n)
{
    c->consumed += (uint32_t)n;
    if (c->consumed < c->o.window_conn / 2 || c->failed || c->broken)
        return;
    h2_put_window(c, 0, c->consumed);
    c->recv_window += (int32_t)c->consumed;
    c->consumed = 0;
}

void h2_close_stream(struct h2 *c, struct h2_stream *s, enum closed_how how)
{
    struct h2_stream **at = bucket_of(c, s->id);

    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    c->n_streams--;
    h2_leave_ring(c, s);
    h2_drop_pieces(c, s);
    conn_consumed(c, s->unconsumed);
    if (how != NOT_REMEMBERED)
        remember(c, s->id, how);
    free(s);
}

void h2_sent_end(struct h2 *c, struct h2_stream *s)
{
    s->sent_end = true;
    if (s->recv_end) {
        h2_close_stream(c, s, BY_END);
    } else if (c->o.server) {
        h2_put_rst(c, s->id, H2_NO_ERROR);
        h2_close_stream(c, s, BY_US);
    }
}

int h2_set_user(struct h2 *c, uint32_t stream, void *user)
{
    struct h2_stream *s = h2_find(c, stream);

    if (!s)
        return H2_EGONE;
    s->user = user;
    return 0;
}

int h2_reset(struct h2 *c, uint32_t stream, uint32_t code)
{
    struct h2_stream *s = h2_find(c, stream);

    if (!s)
        return H2_EGONE;
    if (!c->failed && !c->broken)
        h2_put_rst(c, stream, code);
    h2_close_stream(c, s, BY_US);
    return 0;
}

int h2_consumed(struct h2 *c, uint32_t stream, size_t n)
{
    struct h2_stream *s = h2_find(c, stream);

    if (!s)
        return H2_EGONE;
    assert(n <= s->unconsumed);
    s->unconsumed -= (uint32_t)n;
    conn_consumed(c, n);
    s->consumed += (uint32_t)n;
    if (s->recv_end || s->consumed < c->o.window_stream / 2 || c->failed)
        return 0;
    h2_put_window(c, stream, s->consumed);
    s->recv_window += (int32_t)s->consumed;
    s->consumed = 0;
    return 0;
}

/* A client's own stream, but for its head. */
static struct h2_stream *new_request(struct h2 *c,
                                     const struct hpack_field *fields, size_t n)
{
    struct h2_stream *s = open_stream(c, c->next_id);

    c->next_id += 2;
    for (size_t i = 0; i < n; i++)
        if (str_eqz(fields[i].name, ":method"))
            s->head_request = str_eqz(fields[i].value, "HEAD");
    return s;
}

int64_t h2_request(struct h2 *c, const struct hpack_field *fields, size_t n,
                   bool end, void *user)
{
    struct h2_stream *s;
    uint32_t id = c->next_id;

    assert(!c->o.server);
    if (c->failed || c->broken || c->shutdown || c->peer_goaway ||
        id > STREAM_MAX)
        return H2_ECLOSED;
    if (c->n_streams >= c->peer_streams_max)
        return H2_EBUSY;
    s = new_request(c, fields, n);
    s->user = user;
    h2_headers(c, id, fields, n, end);
    return id;
}

/* --- Errors and abuse. ------------------------------------------------------------ */

static void start_sweep(struct h2 *c, uint32_t above)
{
    c->sweeping = true;
    c->sweep_above = above;
    c->sweep_at = 0;
}

/* 5.4.1. debug is a literal. */
static void fail(struct h2 *c, uint32_t code, const char *debug)
{
    if (c->failed || c->broken)
        return;
    h2_put_goaway(c, c->last_peer, code, debug);
    c->failed = true;
    c->code = code;
    c->debug = debug;
    start_sweep(c, 0);
}

void h2_fail(struct h2 *c, uint32_t code, const char *debug)
{
    fail(c, code, debug);
}

void h2_eof(struct h2 *c)
{
    c->broken = true;
    if (!c->failed)
        c->code = H2_CANCEL;
    start_sweep(c, 0);
}

/* Fill a bucket; is it full? */
static bool overflows(struct bucket *b, uint32_t max, uint32_t per_s,
                      int64_t now_ns)
{
    const int64_t second = 1000000000;
    int64_t passed = now_ns - b->at_ns;

    if (passed > second * max / per_s) {
        b->level = 0;
        b->at_ns = now_ns;
    } else if (passed > 0) {
        int64_t drained = passed * per_s / second;

        b->level -= (uint32_t)min_u64(b->level, (uint64_t)drained);
        b->at_ns += drained * second / per_s;
    }
    return ++b->level > max;
}

/* The peer had us handle a frame that is of no use to anyone. */
static void useless(struct h2 *c)
{
    if (overflows(&c->frames, c->o.frames_max, c->o.frames_per_s, c->now_ns))
        fail(c, H2_ENHANCE_YOUR_CALM, "too many useless frames");
}

static void useful(struct h2 *c)
{
    if (c->frames.level)
        c->frames.level--;
}

/*
 * A stream was reset: by the peer, or by us for its mistake (which a peer can
 * make on purpose just as well). Streams that are opened and reset at once are
 * work for us, and not bounded by the number of streams.
 */
static void count_reset(struct h2 *c)
{
    if (c->o.server &&
        overflows(&c->resets, c->o.resets_max, c->o.resets_per_s, c->now_ns))
        fail(c, H2_ENHANCE_YOUR_CALM, "too many resets");
}

/* What only the peer made us queue: it cannot pile up without its reading. */
static void count_reply(struct h2 *c)
{
    if (++c->replies > 2 * c->o.frames_max)
        fail(c, H2_ENHANCE_YOUR_CALM, "answers are not read");
}

/* A stream that is not in the table any more, or never was. */
static void refuse(struct h2 *c, uint32_t id, uint32_t code)
{
    h2_put_rst(c, id, code);
    remember(c, id, BY_US);
    count_reply(c);
    count_reset(c);
}

static void tell_reset(struct h2_event *ev, const struct h2_stream *s,
                       uint32_t code, bool by_peer)
{
    *ev = (struct h2_event){.type = H2_RESET,
                            .stream = s->id,
                            .user = s->user,
                            .end = true,
                            .code = code,
                            .by_peer = by_peer};
}

/* 5.4.2 */
static void stream_error(struct h2 *c, struct h2_stream *s, uint32_t code,
                         struct h2_event *ev)
{
    uint32_t id = s->id;

    tell_reset(ev, s, code, false);
    h2_close_stream(c, s, BY_US);
    refuse(c, id, code);
}

/* --- Frames: one function each. ------------------------------------------------------ */

/* Neither side has opened it (5.1). */
static bool is_idle(const struct h2 *c, uint32_t id)
{
    if (c->o.server)
        return id % 2 == 0 || id > c->last_peer;
    return id % 2 == 0 || id >= c->next_id;
}

/*
 * A frame for a closed stream (5.1). Whoever reset it is not to blame if the
 * other had not heard of it yet; who ended it has no business to go on. Of a
 * stream that is forgotten, the milder is assumed.
 */
static void late(struct h2 *c, uint32_t id, bool head)
{
    enum closed_how how = recall(c, id);

    useless(c);
    if (how == BY_US)
        return;
    if (how == BY_END)
        fail(c, H2_STREAM_CLOSED, "frame for a closed stream");
    else if (how == BY_PEER)
        refuse(c, id, H2_STREAM_CLOSED);
    else if (!c->o.server)
        return; /* of a request that was cancelled long ago */
    else if (head)
        fail(c, H2_PROTOCOL_ERROR, "stream id is not new"); /* 5.1.1 */
    else
        refuse(c, id, H2_STREAM_CLOSED);
}

/* 6.1, 6.2: take the padding off. False: there is more of it than frame. */
static bool unpad(struct frame *f)
{
    uint8_t pad;

    if (!(f->flags & PADDED))
        return true;
    if (f->n == 0 || f->p[0] >= f->n)
        return false;
    pad = f->p[0];
    f->p++;
    f->n -= 1u + pad;
    return true;
}

/* What has been received of a body must agree with content-length (8.1.1). */
static bool count_body(struct h2_stream *s, size_t n, bool end)
{
    if (s->body_left < 0)
        return true;
    if ((uint64_t)s->body_left < n || (end && (uint64_t)s->body_left != n))
        return false;
    s->body_left -= (int64_t)n;
    return true;
}

/* The peer's side has ended. Closes s if ours has, too. */
static void received_end(struct h2 *c, struct h2_stream *s)
{
    s->recv_end = true;
    if (s->sent_end)
        h2_close_stream(c, s, BY_END);
}

/* DATA for an open stream; `taken` bytes of window, f->n of them body. */
static void recv_body(struct h2 *c, struct h2_stream *s, struct frame *f,
                      uint32_t taken, struct h2_event *ev)
{
    bool end = f->flags & END_STREAM;

    s->recv_window -= (int32_t)taken;
    s->unconsumed += taken;
    if (!count_body(s, f->n, end)) {
        stream_error(c, s, H2_PROTOCOL_ERROR, ev);
        return;
    }
    if (taken > f->n)
        h2_consumed(c, s->id, taken - f->n);
    if (f->n == 0 && !end) {
        useless(c);
        return;
    }
    useful(c);
    *ev = (struct h2_event){.type = H2_DATA,
                            .stream = s->id,
                            .user = s->user,
                            .end = end,
                            .data = f->p,
                            .n = f->n};
    if (end)
        received_end(c, s);
}

/* 6.1 */
static void recv_data(struct h2 *c, struct frame *f, struct h2_event *ev)
{
    struct h2_stream *s = h2_find(c, f->stream);
    uint32_t taken = f->n;

    if (is_idle(c, f->stream)) {
        fail(c, H2_PROTOCOL_ERROR, "DATA for an idle stream");
        return;
    }
    if (!unpad(f)) {
        fail(c, H2_PROTOCOL_ERROR, "padding is longer than the frame");
        return;
    }
    if ((int64_t)taken > c->recv_window) { /* 6.9.1 */
        fail(c, H2_FLOW_CONTROL_ERROR, "connection window exceeded");
        return;
    }
    c->recv_window -= (int32_t)taken;
    if (!s || s->recv_end || !s->head_received ||
        (int64_t)taken > s->recv_window)
        conn_consumed(c, taken);
    if (!s)
        late(c, f->stream, false);
    else if (s->recv_end)
        stream_error(c, s, H2_STREAM_CLOSED, ev);
    else if (!s->head_received)
        stream_error(c, s, H2_PROTOCOL_ERROR, ev);
    else if ((int64_t)taken > s->recv_window)
        stream_error(c, s, H2_FLOW_CONTROL_ERROR, ev);
    else
        recv_body(c, s, f, taken, ev);
}

/* A head's place in the life of a stream that is open. */
static void recv_second_head(struct h2 *c, struct h2_stream *s, bool end,
                             bool ok, struct h2_event *ev)
{
    bool first = !s->head_received;
    int64_t length;

    ok =
        ok && h2_check_head(&c->list, first ? RESPONSE : TRAILERS, ev, &length);
    if (ok && first && ev->status < 200) { /* 8.1: interim, passed over */
        *ev = (struct h2_event){0};
        useless(c);
        ok = !end;
        if (ok)
            return;
    }
    if (ok && first && !s->head_request && ev->status != 204 &&
        ev->status != 304)
        s->body_left = length;
    if (!ok || (!first && !end) || (end && !count_body(s, 0, true))) {
        stream_error(c, s, H2_PROTOCOL_ERROR, ev); /* 8.1.1 */
        return;
    }
    useful(c);
    s->head_received = true;
    ev->type = first ? H2_HEADERS : H2_TRAILERS;
    ev->stream = s->id;
    ev->user = s->user;
    ev->end = end;
    if (end)
        received_end(c, s);
}

/* A request: the one head that opens a stream. */
static void recv_request(struct h2 *c, uint32_t id, bool end, int rc,
                         struct h2_event *ev)
{
    struct h2_stream *s;
    int64_t length;

    c->last_peer = id;
    if (c->shutdown == 2) { /* 6.8: it knows, or will, that we do not act */
        useless(c);
        remember(c, id, BY_US);
        return;
    }
    if (c->o.streams_max && c->n_streams >= c->o.streams_max) {
        refuse(c, id, H2_REFUSED_STREAM); /* 5.1.2 */
        return;
    }
    if (rc == HPACK_ELARGE) { /* gRPC says RESOURCE_EXHAUSTED to this */
        refuse(c, id, H2_ENHANCE_YOUR_CALM);
        return;
    }
    if (!h2_check_head(&c->list, REQUEST, ev, &length) || (end && length > 0)) {
        *ev = (struct h2_event){0};
        refuse(c, id, H2_PROTOCOL_ERROR);
        return;
    }
    useful(c);
    s = open_stream(c, id);
    s->head_received = true;
    s->recv_end = end;
    s->body_left = length;
    ev->type = H2_HEADERS;
    ev->stream = id;
    ev->end = end;
}

/* A whole header block. */
static void recv_block(struct h2 *c, uint32_t id, bool end, const uint8_t *p,
                       size_t n, struct h2_event *ev)
{
    struct h2_stream *s = h2_find(c, id);
    int rc = hpack_decode(&c->decoder, p, n, &c->list);

    if (rc == HPACK_EINVAL)
        fail(c, H2_COMPRESSION_ERROR, "header block cannot be decoded");
    else if (s && s->recv_end)
        stream_error(c, s, H2_STREAM_CLOSED, ev);
    else if (s && c->block_bad)
        stream_error(c, s, H2_PROTOCOL_ERROR, ev);
    else if (s)
        recv_second_head(c, s, end, rc == 0, ev);
    else if (!is_idle(c, id))
        late(c, id, true);
    else if (c->block_bad)
        c->last_peer = id, refuse(c, id, H2_PROTOCOL_ERROR);
    else
        recv_request(c, id, end, rc, ev);
    buf_trim(&c->block, 4096);
    buf_clear(&c->block);
}

/* 6.2. What RFC 7540 said of priorities is passed over, but that nothing may
 * depend on itself (its 5.3.1). */
static void recv_headers(struct h2 *c, struct frame *f, struct h2_event *ev)
{
    if (is_idle(c, f->stream) && (!c->o.server || f->stream % 2 == 0)) {
        fail(c, H2_PROTOCOL_ERROR, "HEADERS for a stream of the wrong side");
        return;
    }
    if (!unpad(f)) {
        fail(c, H2_PROTOCOL_ERROR, "HEADERS do not fit into their frame");
        return;
    }
    if (f->flags & PRIORITY && f->n < 5) { /* 4.2 */
        fail(c, H2_FRAME_SIZE_ERROR, "length of HEADERS");
        return;
    }
    c->block_bad = false;
    if (f->flags & PRIORITY) {
        c->block_bad = (get_u32be(f->p) & STREAM_MAX) == f->stream;
        f->p += 5;
        f->n -= 5;
    }
    if (f->flags & END_HEADERS) {
        recv_block(c, f->stream, f->flags & END_STREAM, f->p, f->n, ev);
        return;
    }
    c->block_stream = f->stream;
    c->block_end = f->flags & END_STREAM;
    c->block_frames = 0;
    buf_add(&c->block, f->p, f->n);
}

/* 6.10. A list within its bounds is longer than its block, unless someone
 * takes pains; and frames are of no use if they are many and short. */
static void recv_continuation(struct h2 *c, struct frame *f,
                              struct h2_event *ev)
{
    if (c->block_stream == 0) {
        fail(c, H2_PROTOCOL_ERROR, "CONTINUATION without HEADERS");
        return;
    }
    if (c->block.len + f->n > c->o.header_list_max ||
        ++c->block_frames > CONTINUATIONS_MAX) {
        fail(c, H2_ENHANCE_YOUR_CALM, "header block is too long");
        return;
    }
    buf_add(&c->block, f->p, f->n);
    if (f->flags & END_HEADERS) {
        c->block_stream = 0;
        recv_block(c, f->stream, c->block_end, c->block.data, c->block.len, ev);
    }
}

/* 6.3 */
static void recv_priority(struct h2 *c, struct frame *f, struct h2_event *ev)
{
    struct h2_stream *s = h2_find(c, f->stream);
    uint32_t code = H2_NO_ERROR;

    useless(c);
    if (f->n != 5)
        code = H2_FRAME_SIZE_ERROR;
    else if ((get_u32be(f->p) & STREAM_MAX) == f->stream)
        code = H2_PROTOCOL_ERROR;
    if (code == H2_NO_ERROR)
        return;
    if (s)
        stream_error(c, s, code, ev);
    else if (is_idle(c, f->stream)) /* which cannot be reset */
        fail(c, code, "bad PRIORITY");
    else if (recall(c, f->stream) != BY_US)
        refuse(c, f->stream, code);
}

/* 6.4 */
static void recv_rst_stream(struct h2 *c, struct frame *f, struct h2_event *ev)
{
    struct h2_stream *s = h2_find(c, f->stream);

    if (is_idle(c, f->stream)) {
        fail(c, H2_PROTOCOL_ERROR, "RST_STREAM for an idle stream");
        return;
    }
    if (!s) {
        useless(c);
        return;
    }
    tell_reset(ev, s, get_u32be(f->p), true);
    h2_close_stream(c, s, BY_PEER);
    count_reset(c);
}

/* 6.9.2: all streams' windows move by the difference. */
static void set_peer_window(struct h2 *c, uint32_t v)
{
    int64_t by = (int64_t)v - c->peer_window;

    if (v > WINDOW_MAX) {
        fail(c, H2_FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE");
        return;
    }
    c->peer_window = v;
    for (size_t i = 0; i < c->n_buckets && by; i++) {
        for (struct h2_stream *s = c->buckets[i]; s; s = s->next) {
            if (s->send_window + by > WINDOW_MAX) {
                fail(c, H2_FLOW_CONTROL_ERROR, "a window becomes too large");
                return;
            }
            s->send_window += (int32_t)by;
            h2_update_ring(c, s);
        }
    }
}

/* 6.5.2 */
static void set_one(struct h2 *c, uint32_t id, uint32_t v)
{
    switch (id) {
    case S_HEADER_TABLE_SIZE:
        hpack_encoder_limit(&c->encoder, v);
        break;
    case S_ENABLE_PUSH:
        if (v > (c->o.server ? 1 : 0))
            fail(c, H2_PROTOCOL_ERROR, "SETTINGS_ENABLE_PUSH");
        break;
    case S_MAX_CONCURRENT_STREAMS:
        c->peer_streams_max = v;
        break;
    case S_INITIAL_WINDOW_SIZE:
        set_peer_window(c, v);
        break;
    case S_MAX_FRAME_SIZE:
        if (v < 16384 || v > 16777215)
            fail(c, H2_PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE");
        c->peer_frame_max = v;
        break;
    default:
        break;
    }
}

/* 6.5 */
static void recv_settings(struct h2 *c, struct frame *f, struct h2_event *ev)
{
    (void)ev;
    if ((f->flags & ACK) ? f->n != 0 : f->n % 6 != 0) {
        fail(c, H2_FRAME_SIZE_ERROR, "length of SETTINGS");
        return;
    }
    useless(c);
    if (f->flags & ACK)
        return;
    for (uint32_t i = 0; i < f->n && !c->failed; i += 6)
        set_one(c, (uint32_t)f->p[i] << 8 | f->p[i + 1],
                get_u32be(f->p + i + 2));
    if (c->failed)
        return;
    h2_put_frame(&c->control, 0, F_SETTINGS, ACK, 0);
    count_reply(c);
}

/* 8.4: we never allow it, as a client, and a client must not, to us. */
static void recv_push_promise(struct h2 *c, struct frame *f,
                              struct h2_event *ev)
{
    (void)f;
    (void)ev;
    fail(c, H2_PROTOCOL_ERROR, "PUSH_PROMISE");
}

/*
 * gRPC's rule, as its Go server has it: a ping is a strike if it comes sooner
 * than it may after the last one; the third ends the connection; what we send
 * in between forgives, since a client may measure by pings what it receives.
 */
static void judge_ping(struct h2 *c)
{
    const int64_t without_stream_ns = INT64_C(7200) * 1000000000;
    bool idle = c->n_streams == 0 && !c->o.ping_without_stream;
    int64_t least = idle ? without_stream_ns : c->o.ping_min_ns;

    if (c->ping_forgiven) {
        c->ping_forgiven = false;
        c->ping_strikes = 0;
    } else if (c->pinged_ns != INT64_MIN && c->now_ns - c->pinged_ns < least &&
               ++c->ping_strikes > 2) {
        fail(c, H2_ENHANCE_YOUR_CALM, "too_many_pings");
    }
    c->pinged_ns = c->now_ns;
}

static void say_last(struct h2 *c)
{
    c->shutdown = 2;
    c->shutdown_last = c->last_peer;
    h2_put_goaway(c, c->last_peer, H2_NO_ERROR, "");
}

/* 6.7 */
static void recv_ping(struct h2 *c, struct frame *f, struct h2_event *ev)
{
    (void)ev;
    useless(c);
    if (f->flags & ACK) {
        if (c->shutdown == 1 && memcmp(f->p, PING_SHUTDOWN, 8) == 0)
            say_last(c);
        return;
    }
    h2_put_ping(c, f->p, ACK);
    count_reply(c);
    if (c->o.server && c->o.ping_min_ns)
        judge_ping(c);
}

/* 6.8. To a server it means nothing: it opens no streams. */
static void recv_goaway(struct h2 *c, struct frame *f, struct h2_event *ev)
{
    uint32_t last = get_u32be(f->p) & STREAM_MAX;

    useless(c);
    *ev = (struct h2_event){.type = H2_GOAWAY,
                            .code = get_u32be(f->p + 4),
                            .by_peer = true,
                            .last = last,
                            .debug = {(const char *)f->p + 8, f->n - 8}};
    c->peer_goaway = true;
    if (!c->o.server)
        start_sweep(c, last);
}

/* 6.9 */
static void recv_window_update(struct h2 *c, struct frame *f,
                               struct h2_event *ev)
{
    struct h2_stream *s = f->stream ? h2_find(c, f->stream) : NULL;
    uint32_t by = get_u32be(f->p) & WINDOW_MAX;
    int32_t *window = s ? &s->send_window : &c->send_window;

    useless(c);
    if (f->stream && is_idle(c, f->stream)) {
        fail(c, H2_PROTOCOL_ERROR, "WINDOW_UPDATE for an idle stream");
        return;
    }
    if (f->stream && !s)
        return;
    if (by == 0 || (int64_t)*window + by > WINDOW_MAX) {
        uint32_t code = by ? H2_FLOW_CONTROL_ERROR : H2_PROTOCOL_ERROR;

        if (s)
            stream_error(c, s, code, ev);
        else
            fail(c, code, "WINDOW_UPDATE");
        return;
    }
    *window += (int32_t)by;
    if (s)
        h2_update_ring(c, s);
}

/* --- What may arrive. ------------------------------------------------------------------- */

#define ON_CONN 1
#define ON_STREAM 2

/* clang-format off */

static const struct {
    uint32_t n_min, n_max;
    int on;
    void (*recv)(struct h2 *, struct frame *, struct h2_event *);
} frame_rules[] = {
    [F_DATA]          = {0, FRAME_MAX, ON_STREAM,           recv_data},
    [F_HEADERS]       = {0, FRAME_MAX, ON_STREAM,           recv_headers},
    [F_PRIORITY]      = {0, FRAME_MAX, ON_STREAM,           recv_priority}, /* 6.3: of 5, else a stream error */
    [F_RST_STREAM]    = {4, 4,         ON_STREAM,           recv_rst_stream},
    [F_SETTINGS]      = {0, FRAME_MAX, ON_CONN,             recv_settings},
    [F_PUSH_PROMISE]  = {0, FRAME_MAX, ON_STREAM,           recv_push_promise},
    [F_PING]          = {8, 8,         ON_CONN,             recv_ping},
    [F_GOAWAY]        = {8, FRAME_MAX, ON_CONN,             recv_goaway},
    [F_WINDOW_UPDATE] = {4, 4,         ON_CONN | ON_STREAM, recv_window_update},
    [F_CONTINUATION]  = {0, FRAME_MAX, ON_STREAM,           recv_continuation},
};

/* clang-format on */

/* What the head of a frame tells already. False: the connection failed. */
static bool head_ok(struct h2 *c, const struct frame *f)
{
    if (f->n > FRAME_MAX) /* 4.2 */
        fail(c, H2_FRAME_SIZE_ERROR, "frame is too large");
    else if (!c->settings_seen && (f->type != F_SETTINGS || f->flags & ACK))
        fail(c, H2_PROTOCOL_ERROR, "SETTINGS do not come first"); /* 3.4 */
    else if (c->block_stream &&
             (f->type != F_CONTINUATION || f->stream != c->block_stream))
        fail(c, H2_PROTOCOL_ERROR, "header block is interrupted"); /* 6.10 */
    else if (f->type >= ARRAY_LEN(frame_rules))
        return true; /* 5.5 */
    else if (!(frame_rules[f->type].on & (f->stream ? ON_STREAM : ON_CONN)))
        fail(c, H2_PROTOCOL_ERROR, "frame on a wrong stream");
    else if (f->n < frame_rules[f->type].n_min ||
             f->n > frame_rules[f->type].n_max)
        fail(c, H2_FRAME_SIZE_ERROR, "length of a frame");
    return !c->failed;
}

/* The next stream that goes with the connection, or with the peer's GOAWAY. */
static bool sweep(struct h2 *c, struct h2_event *ev)
{
    bool over = c->failed || c->broken;

    for (; c->sweeping && c->sweep_at < c->n_buckets; c->sweep_at++) {
        struct h2_stream *s = c->buckets[c->sweep_at];

        while (s && s->id <= c->sweep_above)
            s = s->next;
        if (!s)
            continue;
        tell_reset(ev, s, over ? c->code : H2_REFUSED_STREAM,
                   over ? c->by_peer : true);
        h2_close_stream(c, s, BY_PEER);
        return true;
    }
    c->sweeping = false;
    return false;
}

static void tell_failed(struct h2 *c, struct h2_event *ev)
{
    c->told = true;
    *ev = (struct h2_event){.type = H2_FAILED,
                            .end = true,
                            .code = c->code,
                            .debug = str_of(c->debug ? c->debug : "")};
}

/* 3.4. Bytes consumed; 0: it is not complete. */
static size_t recv_preface(struct h2 *c, const void *p, size_t n)
{
    int is = h2_sniff(p, n);

    if (is < 0)
        fail(c, H2_PROTOCOL_ERROR, "this is not HTTP/2");
    c->preface_seen = is > 0;
    return is > 0 ? H2_PREFACE_LEN : 0;
}

/* A frame. Bytes consumed; 0: it is not complete, or the connection failed. */
static size_t recv_frame(struct h2 *c, const uint8_t *p, size_t n,
                         struct h2_event *ev)
{
    struct frame f;

    if (n < FRAME_HEAD)
        return 0;
    f.n = get_u32be(p) >> 8;
    f.type = p[3];
    f.flags = p[4];
    f.stream = get_u32be(p + 5) & STREAM_MAX;
    f.p = p + FRAME_HEAD;
    if (!head_ok(c, &f) || n - FRAME_HEAD < f.n)
        return 0;
    n = FRAME_HEAD + f.n;
    c->settings_seen = true;
    if (f.type < ARRAY_LEN(frame_rules))
        frame_rules[f.type].recv(c, &f, ev);
    else
        useless(c);
    return n;
}

size_t h2_receive(struct h2 *c, const void *p, size_t n, int64_t now_ns,
                  struct h2_event *ev)
{
    size_t used = 0;

    *ev = (struct h2_event){0};
    c->now_ns = now_ns;
    if (n)
        c->read_ns = now_ns;
    if (!c->failed && sweep(c, ev))
        return 0;
    if (!c->failed && !c->broken && n)
        used =
            c->preface_seen ? recv_frame(c, p, n, ev) : recv_preface(c, p, n);
    if (ev->type != H2_NONE || !(c->failed || c->broken))
        return used;
    if (c->failed && !c->told)
        tell_failed(c, ev);
    else
        sweep(c, ev);
    return n;
}

/* --- Time and the end. ---------------------------------------------------------------------- */

void h2_shutdown(struct h2 *c, int64_t now_ns)
{
    c->now_ns = now_ns;
    if (c->shutdown || c->failed || c->broken)
        return;
    if (!c->o.server) {
        say_last(c);
        return;
    }
    c->shutdown = 1;
    c->shutdown_at_ns = now_ns + SHUTDOWN_WAIT_NS;
    h2_put_goaway(c, STREAM_MAX, H2_NO_ERROR, "graceful_stop");
    h2_put_ping(c, PING_SHUTDOWN, 0);
}

bool h2_done(const struct h2 *c)
{
    if (c->broken)
        return true;
    if (h2_wants_write(c))
        return false;
    if (c->failed)
        return true;
    return c->n_streams == 0 &&
           (c->shutdown == 2 || (c->peer_goaway && !c->o.server));
}

static int64_t tick_keepalive(struct h2 *c)
{
    int64_t due = c->read_ns + c->o.keepalive_ns;

    if (c->ping_sent_ns && c->read_ns > c->ping_sent_ns)
        c->ping_sent_ns = 0;
    if (c->ping_sent_ns) {
        if (c->o.keepalive_timeout_ns == 0)
            return INT64_MAX;
        due = c->ping_sent_ns + c->o.keepalive_timeout_ns;
        return c->now_ns >= due ? H2_TIMED_OUT : due;
    }
    if (!c->o.server && c->n_streams == 0 && !c->o.keepalive_without_stream)
        return INT64_MAX;
    if (c->now_ns < due)
        return due;
    h2_put_ping(c, PING_KEEPALIVE, 0);
    c->ping_sent_ns = c->now_ns;
    return c->o.keepalive_timeout_ns ? c->now_ns + c->o.keepalive_timeout_ns
                                     : INT64_MAX;
}

int64_t h2_tick(struct h2 *c, int64_t now_ns)
{
    int64_t next = INT64_MAX;

    c->now_ns = now_ns;
    if (c->failed || c->broken)
        return INT64_MAX;
    if (c->shutdown == 1 && now_ns >= c->shutdown_at_ns)
        say_last(c);
    if (c->o.keepalive_ns)
        next = tick_keepalive(c);
    if (next >= 0 && c->shutdown == 1)
        next = (int64_t)min_u64((uint64_t)next, (uint64_t)c->shutdown_at_ns);
    return next;
}
