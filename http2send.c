/*
 * http2send.c - what an HTTP/2 connection sends: control frames and heads at
 * once and in order, bodies at the pace of the peer's windows.
 *
 * QUEUES  `control` holds frames that wait for no window: heads are encoded
 * into it when they are given, so that their order is the encoder's. A stream
 * holds pieces of body and, behind them, its end. A stream whose own window is
 * open and which has a piece to send is in the ring.
 *
 * BATCH  h2_output() takes all of control, then a frame of each stream in the
 * ring by turns. Frames' heads and short pieces are copied to the batch's
 * scratch, behind control's bytes; longer pieces are referred to by their
 * blobs. The batch owns all of that until it is sent, so nothing that happens
 * to streams meanwhile can touch it, and a frame once begun is sent in full.
 *
 * INVARIANT  A stream in the ring has a piece, and send_window > 0. So there is
 * something to write if there is control, or a batch, or a ring and a
 * connection window that is open.
 */
#include "http2_impl.h"

/* --- Control frames. -------------------------------------------------------- */

static void set_frame_head(uint8_t *p, size_t n, enum frame_type type,
                           unsigned flags, uint32_t stream)
{
    p[0] = (uint8_t)(n >> 16);
    p[1] = (uint8_t)(n >> 8);
    p[2] = (uint8_t)n;
    p[3] = (uint8_t)type;
    p[4] = (uint8_t)flags;
    p[5] = (uint8_t)(stream >> 24);
    p[6] = (uint8_t)(stream >> 16);
    p[7] = (uint8_t)(stream >> 8);
    p[8] = (uint8_t)stream;
}

void h2_put_frame(struct buf *b, size_t n, enum frame_type type, unsigned flags,
                  uint32_t stream)
{
    buf_reserve(b, FRAME_HEAD + n);
    set_frame_head(b->data + b->len, n, type, flags, stream);
    b->len += FRAME_HEAD;
}

void h2_put_u32(struct buf *b, uint32_t v)
{
    uint8_t p[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8),
                    (uint8_t)v};

    buf_add(b, p, 4);
}

void h2_put_rst(struct h2 *c, uint32_t stream, uint32_t code)
{
    h2_put_frame(&c->control, 4, F_RST_STREAM, 0, stream);
    h2_put_u32(&c->control, code);
}

void h2_put_goaway(struct h2 *c, uint32_t last, uint32_t code,
                   const char *debug)
{
    h2_put_frame(&c->control, 8 + strlen(debug), F_GOAWAY, 0, 0);
    h2_put_u32(&c->control, last);
    h2_put_u32(&c->control, code);
    buf_adds(&c->control, debug);
}

void h2_put_ping(struct h2 *c, const void *data, unsigned flags)
{
    h2_put_frame(&c->control, 8, F_PING, flags, 0);
    buf_add(&c->control, data, 8);
}

void h2_put_window(struct h2 *c, uint32_t stream, uint32_t n)
{
    h2_put_frame(&c->control, 4, F_WINDOW_UPDATE, 0, stream);
    h2_put_u32(&c->control, n);
}

static void put_setting(struct buf *b, enum setting id, uint32_t v)
{
    buf_addc(b, 0);
    buf_addc(b, (char)id);
    h2_put_u32(b, v);
}

/* 3.4: what each side says first. Only what is not the default (6.5.2). */
void h2_put_settings(struct h2 *c)
{
    struct buf b = {0};

    if (!c->o.server)
        put_setting(&b, S_ENABLE_PUSH, 0);
    if (c->o.streams_max)
        put_setting(&b, S_MAX_CONCURRENT_STREAMS, c->o.streams_max);
    if (c->o.window_stream != WINDOW_DEFAULT)
        put_setting(&b, S_INITIAL_WINDOW_SIZE, c->o.window_stream);
    put_setting(&b, S_MAX_HEADER_LIST_SIZE, c->o.header_list_max);

    if (!c->o.server)
        buf_add(&c->control, H2_PREFACE, H2_PREFACE_LEN);
    h2_put_frame(&c->control, b.len, F_SETTINGS, 0, 0);
    buf_addstr(&c->control, buf_str(&b));
    if (c->o.window_conn != WINDOW_DEFAULT)
        h2_put_window(c, 0, c->o.window_conn - WINDOW_DEFAULT);
    buf_release(&b);
}

/* --- Heads. ------------------------------------------------------------------- */

/* 4.3, 6.10: a block from b->data[at..) on that is longer than a frame gets
 * heads of CONTINUATION in between; the last piece ends it. */
static void split_block(struct buf *b, size_t at, unsigned flags,
                        uint32_t stream)
{
    size_t n = b->len - at, n_more = (n - 1) / FRAME_MAX;

    buf_reserve(b, n_more * FRAME_HEAD);
    b->len += n_more * FRAME_HEAD;
    for (size_t i = n_more; i > 0; i--) {
        uint8_t *from = b->data + at + i * FRAME_MAX;
        size_t len = i == n_more ? n - i * FRAME_MAX : FRAME_MAX;

        memmove(from + i * FRAME_HEAD, from, len);
        set_frame_head(from + (i - 1) * FRAME_HEAD, len, F_CONTINUATION,
                       i == n_more ? END_HEADERS : 0, stream);
    }
    set_frame_head(b->data + at - FRAME_HEAD, FRAME_MAX, F_HEADERS, flags,
                   stream);
}

static void put_head(struct h2 *c, struct buf *b, uint32_t stream,
                     const struct hpack_field *fields, size_t n, bool end)
{
    unsigned flags = end ? END_STREAM : 0;
    size_t at;

    h2_put_frame(b, 0, F_HEADERS, 0, stream);
    at = b->len;
    hpack_encode(&c->encoder, fields, n, b);
    if (b->len - at > FRAME_MAX)
        split_block(b, at, flags, stream);
    else
        set_frame_head(b->data + at - FRAME_HEAD, b->len - at, F_HEADERS,
                       flags | END_HEADERS, stream);
    c->ping_forgiven = true;
}

/* A stream for which our side may still speak. */
static struct h2_stream *find_open(const struct h2 *c, uint32_t stream)
{
    struct h2_stream *s = h2_find(c, stream);

    return s && !s->ending && !c->failed && !c->broken ? s : NULL;
}

int h2_headers(struct h2 *c, uint32_t stream, const struct hpack_field *fields,
               size_t n, bool end)
{
    struct h2_stream *s = find_open(c, stream);

    if (!s)
        return H2_EGONE;
    assert(!s->head_sent);
    put_head(c, &c->control, stream, fields, n, end);
    s->head_sent = true;
    s->ending = end;
    if (end)
        h2_sent_end(c, s);
    return 0;
}

/* --- Pieces. -------------------------------------------------------------------- */

void h2_leave_ring(struct h2 *c, struct h2_stream *s)
{
    if (!s->after)
        return;
    if (c->ring == s)
        c->ring = s->after == s ? NULL : s->after;
    s->before->after = s->after;
    s->after->before = s->before;
    s->before = s->after = NULL;
}

/* Behind all others. */
static void enter_ring(struct h2 *c, struct h2_stream *s)
{
    if (s->after)
        return;
    if (!c->ring) {
        c->ring = s->before = s->after = s;
        return;
    }
    s->after = c->ring;
    s->before = c->ring->before;
    s->before->after = s;
    c->ring->before = s;
}

void h2_update_ring(struct h2 *c, struct h2_stream *s)
{
    if (s->first && !s->first->waiting && s->send_window > 0)
        enter_ring(c, s);
    else
        h2_leave_ring(c, s);
}

static void free_piece(struct piece *p)
{
    blob_unref(p->blob);
    if (p->source.release)
        p->source.release(p->source.arg);
    free(p);
}

static void pop_piece(struct h2_stream *s)
{
    struct piece *p = s->first;

    s->first = p->next;
    if (!s->first)
        s->last = &s->first;
    free_piece(p);
}

void h2_drop_pieces(struct h2 *c, struct h2_stream *s)
{
    while (s->first)
        pop_piece(s);
    c->queued -= s->queued;
    s->queued = 0;
    free(s->trailers);
    s->trailers = NULL;
}

static void push_piece(struct h2 *c, struct h2_stream *s, struct piece *p)
{
    assert(s->head_sent);
    *s->last = p;
    s->last = &p->next;
    s->queued += p->n;
    c->queued += p->n;
    h2_update_ring(c, s);
}

/* May n bytes more be queued? 0 with *out, or a code. */
static int may_queue(struct h2 *c, uint32_t stream, size_t n,
                     struct h2_stream **out)
{
    *out = find_open(c, stream);
    if (!*out)
        return H2_EGONE;
    if (c->o.queue_max && c->queued + n > c->o.queue_max)
        return H2_EFULL;
    return 0;
}

int h2_send(struct h2 *c, uint32_t stream, const void *p, size_t n)
{
    struct h2_stream *s;
    struct piece *piece;
    int rc = may_queue(c, stream, n, &s);

    if (rc < 0 || n == 0)
        return rc;
    piece = xcalloc(1, sizeof(*piece) + (n > COPY_MAX ? 0 : n));
    piece->n = n;
    if (n > COPY_MAX)
        piece->blob = blob_new(p, n);
    else
        memcpy(piece->data, p, n);
    push_piece(c, s, piece);
    return 0;
}

int h2_send_blob(struct h2 *c, uint32_t stream, struct blob *b, size_t off,
                 size_t n)
{
    struct h2_stream *s;
    struct piece *piece;
    int rc = may_queue(c, stream, n, &s);

    if (rc < 0 || n == 0)
        return rc;
    assert(off + n <= b->len);
    piece = xcalloc(1, sizeof(*piece));
    piece->n = n;
    piece->at = off;
    piece->blob = blob_ref(b);
    push_piece(c, s, piece);
    return 0;
}

int h2_send_source(struct h2 *c, uint32_t stream, const struct h2_source *src)
{
    struct h2_stream *s = find_open(c, stream);
    struct piece *piece;

    if (!s)
        return H2_EGONE;
    piece = xcalloc(1, sizeof(*piece));
    piece->source = *src;
    push_piece(c, s, piece);
    return 0;
}

int h2_wake(struct h2 *c, uint32_t stream)
{
    struct h2_stream *s = h2_find(c, stream);

    if (!s)
        return H2_EGONE;
    if (s->first && s->first->waiting) {
        s->first->waiting = false;
        h2_update_ring(c, s);
    }
    return 0;
}

static struct trailers *copy_fields(const struct hpack_field *fields, size_t n)
{
    size_t bytes = 0;
    struct trailers *t;
    char *at;

    for (size_t i = 0; i < n; i++)
        bytes += fields[i].name.n + fields[i].value.n;
    t = xmalloc(sizeof(*t) + n * sizeof(*fields) + bytes);
    at = (char *)&t->fields[n];
    t->n = n;
    for (size_t i = 0; i < n; i++) {
        struct hpack_field f = fields[i];

        if (f.name.n)
            memcpy(at, f.name.p, f.name.n);
        if (f.value.n)
            memcpy(at + f.name.n, f.value.p, f.value.n);
        t->fields[i] = (struct hpack_field){
            {at, f.name.n}, {at + f.name.n, f.value.n}, f.how};
        at += f.name.n + f.value.n;
    }
    return t;
}

int h2_end(struct h2 *c, uint32_t stream, const struct hpack_field *trailers,
           size_t n)
{
    struct h2_stream *s = find_open(c, stream);

    if (!s)
        return H2_EGONE;
    assert(s->head_sent);
    s->ending = true;
    if (s->first) {
        s->trailers = n ? copy_fields(trailers, n) : NULL;
        return 0;
    }
    if (n)
        put_head(c, &c->control, stream, trailers, n, true);
    else
        h2_put_frame(&c->control, 0, F_DATA, END_STREAM, stream);
    h2_sent_end(c, s);
    return 0;
}

size_t h2_queued(const struct h2 *c)
{
    return c->queued;
}

size_t h2_stream_queued(const struct h2 *c, uint32_t stream)
{
    const struct h2_stream *s = h2_find(c, stream);

    return s ? s->queued : 0;
}

/* --- Batches. --------------------------------------------------------------------- */

static void drop_refs(struct batch *b)
{
    for (size_t i = 0; i < b->n_parts; i++)
        blob_unref(b->parts[i].ref);
    b->n_parts = b->bytes = 0;
}

void h2_batch_release(struct batch *b)
{
    drop_refs(b);
    buf_release(&b->scratch);
    free(b->parts);
    free(b->iov);
    *b = (struct batch){0};
}

static struct part *add_part(struct batch *b)
{
    if (b->n_parts == b->parts_cap) {
        b->parts_cap = b->parts_cap ? b->parts_cap * 2 : 8;
        b->parts = xrealloc(b->parts, b->parts_cap * sizeof(*b->parts));
        b->iov = xrealloc(b->iov, b->parts_cap * sizeof(*b->iov));
    }
    return &b->parts[b->n_parts++];
}

/* All of scratch from `at` on is due next. */
static void add_scratch(struct batch *b, size_t at)
{
    struct part *last = b->n_parts ? &b->parts[b->n_parts - 1] : NULL;
    size_t n = b->scratch.len - at;

    if (n == 0)
        return;
    b->bytes += n;
    if (last && !last->ref && last->at + last->n == at)
        last->n += n;
    else
        *add_part(b) = (struct part){NULL, at, n};
}

static void add_copy(struct batch *b, const void *p, size_t n)
{
    size_t at = b->scratch.len;

    buf_add(&b->scratch, p, n);
    add_scratch(b, at);
}

static void add_blob(struct batch *b, struct blob *blob, size_t off, size_t n)
{
    if (n <= COPY_MAX) {
        add_copy(b, blob->data + off, n);
        return;
    }
    *add_part(b) = (struct part){blob_ref(blob), off, n};
    b->bytes += n;
}

struct h2_sink {
    struct batch *batch;
    size_t room;
};

void h2_sink_add(struct h2_sink *s, const void *p, size_t n)
{
    assert(n <= s->room);
    s->room -= n;
    add_copy(s->batch, p, n);
}

void h2_sink_blob(struct h2_sink *s, struct blob *b, size_t off, size_t n)
{
    assert(n <= s->room && off + n <= b->len);
    s->room -= n;
    if (n)
        add_blob(s->batch, b, off, n);
}

/* Ask the source for at most room bytes. Returns how many came; the piece is
 * gone when it is done. *again: there may be more, now. */
static size_t pull(struct h2 *c, struct h2_stream *s, size_t room, bool *again)
{
    struct piece *p = s->first;
    struct h2_sink sink = {&c->batch, room};
    enum h2_pulled rc = p->source.pull(p->source.arg, &sink, room);
    size_t n = room - sink.room;

    assert(n > 0 || rc != H2_PULL_MORE); /* it would be asked for ever */
    p->waiting = rc == H2_PULL_WAIT;
    *again = rc != H2_PULL_WAIT;
    if (rc == H2_PULL_DONE)
        pop_piece(s);
    return n;
}

static size_t take(struct h2 *c, struct h2_stream *s, size_t room)
{
    struct piece *p = s->first;
    size_t n = (size_t)min_u64(p->n, room);

    if (p->blob)
        add_blob(&c->batch, p->blob, p->at, n);
    else
        add_copy(&c->batch, p->data + p->at, n);
    p->at += n;
    p->n -= n;
    s->queued -= n;
    c->queued -= n;
    if (p->n == 0)
        pop_piece(s);
    return n;
}

/* Fill a frame from the stream's pieces: at most room bytes. */
static size_t fill(struct h2 *c, struct h2_stream *s, size_t room)
{
    size_t n = 0;
    bool again = true;

    while (s->first && again && n < room) {
        if (s->first->source.pull)
            n += pull(c, s, room - n, &again);
        else
            n += take(c, s, room - n);
    }
    return n;
}

static size_t frame_room(const struct h2 *c, const struct h2_stream *s)
{
    size_t room =
        (size_t)min_u64((uint64_t)s->send_window, (uint64_t)c->send_window);

    return (size_t)min_u64(room, FRAME_MAX);
}

/* The head of a frame that turned out to be empty is taken back. */
static void drop_frame_head(struct batch *b)
{
    struct part *last = &b->parts[b->n_parts - 1];

    b->scratch.len -= FRAME_HEAD;
    last->n -= FRAME_HEAD;
    b->bytes -= FRAME_HEAD;
    if (last->n == 0)
        b->n_parts--;
}

/* The stream's turn: a frame of DATA and, if nothing is left, its end. */
static void emit(struct h2 *c, struct h2_stream *s)
{
    struct batch *b = &c->batch;
    size_t head = b->scratch.len, n;
    uint32_t id = s->id;
    bool end;

    h2_put_frame(&b->scratch, 0, F_DATA, 0, id);
    add_scratch(b, head);
    n = fill(c, s, frame_room(c, s));
    s->send_window -= (int32_t)n;
    c->send_window -= (int32_t)n;
    end = !s->first && s->ending;
    if (n || (end && !s->trailers))
        set_frame_head(b->scratch.data + head, n, F_DATA,
                       end && !s->trailers ? END_STREAM : 0, id);
    else
        drop_frame_head(b);
    if (n) {
        c->ping_forgiven = true;
        /* Window updates that it takes are not useless. */
        c->frames.level -= (uint32_t)min_u64(c->frames.level, 2);
    }
    h2_leave_ring(c, s); /* back to the end of the row */
    h2_update_ring(c, s);
    if (!end)
        return;
    if (s->trailers) {
        head = b->scratch.len;
        put_head(c, &b->scratch, id, s->trailers->fields, s->trailers->n, true);
        add_scratch(b, head);
    }
    h2_sent_end(c, s);
}

/* Parts have found their places: now pointers can be told. */
static void make_iov(struct batch *b)
{
    b->active = true;
    b->iov_at = 0;
    for (size_t i = 0; i < b->n_parts; i++) {
        const struct part *p = &b->parts[i];

        b->iov[i].iov_base = (p->ref ? p->ref->data : b->scratch.data) + p->at;
        b->iov[i].iov_len = p->n;
    }
}

/* Control becomes the beginning of scratch, whose memory it gets in turn. */
static void take_control(struct h2 *c)
{
    struct buf b = c->batch.scratch;

    c->batch.scratch = c->control;
    c->control = b;
    buf_clear(&c->control);
    c->replies = 0;
    add_scratch(&c->batch, 0);
}

/* May a stream send? After a failure only GOAWAY is due. */
static bool may_send_body(const struct h2 *c)
{
    return c->ring && c->send_window > 0 && !c->failed;
}

bool h2_wants_write(const struct h2 *c)
{
    return !c->broken &&
           (c->batch.active || c->control.len > 0 || may_send_body(c));
}

int h2_output(struct h2 *c, size_t max, struct iovec **iov)
{
    struct batch *b = &c->batch;

    if (c->broken)
        return 0;
    if (!b->active) {
        take_control(c);
        while (may_send_body(c) && b->n_parts < PARTS_MAX && b->bytes < max)
            emit(c, c->ring);
        if (b->n_parts == 0)
            return 0;
        make_iov(b);
    }
    *iov = b->iov + b->iov_at;
    return (int)(b->n_parts - b->iov_at);
}

void h2_sent(struct h2 *c, size_t n)
{
    struct batch *b = &c->batch;

    while (n > 0) {
        struct iovec *v = &b->iov[b->iov_at];

        assert(b->active && b->iov_at < b->n_parts);
        if (n < v->iov_len) {
            v->iov_base = (char *)v->iov_base + n;
            v->iov_len -= n;
            return;
        }
        n -= v->iov_len;
        b->iov_at++;
    }
    if (!b->active || b->iov_at < b->n_parts)
        return;
    b->active = false;
    drop_refs(b);
    buf_clear(&b->scratch);
    buf_trim(&b->scratch, 16384);
}
