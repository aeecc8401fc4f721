/*
 * http2_impl.h - what the files of the HTTP/2 engine share: a connection, its
 * streams, and what waits to be sent. For nobody else.
 *
 *   http2.c      the connection: life, streams, the frames that come in
 *   http2send.c  what goes out: control frames, heads, bodies, batches
 *   http2head.c  what a list of fields must look like (RFC 9113, section 8)
 */
#ifndef HTTP2_IMPL_H
#define HTTP2_IMPL_H

#include "http2.h"

#include <assert.h>

enum frame_type { /* 6 */
                  F_DATA,
                  F_HEADERS,
                  F_PRIORITY,
                  F_RST_STREAM,
                  F_SETTINGS,
                  F_PUSH_PROMISE,
                  F_PING,
                  F_GOAWAY,
                  F_WINDOW_UPDATE,
                  F_CONTINUATION,
};

enum frame_flag {
    END_STREAM = 0x1, /* DATA, HEADERS */
    ACK = 0x1,        /* SETTINGS, PING */
    END_HEADERS = 0x4,
    PADDED = 0x8,
    PRIORITY = 0x20,
};

enum setting { /* 6.5.2 */
               S_HEADER_TABLE_SIZE = 1,
               S_ENABLE_PUSH,
               S_MAX_CONCURRENT_STREAMS,
               S_INITIAL_WINDOW_SIZE,
               S_MAX_FRAME_SIZE,
               S_MAX_HEADER_LIST_SIZE,
};

#define FRAME_HEAD 9
#define FRAME_MAX 16384 /* ours, and never more to the peer: turns are short */
#define WINDOW_DEFAULT 65535
#define WINDOW_MAX INT32_MAX
#define STREAM_MAX INT32_MAX
#define FIELDS_MAX 512       /* of a list */
#define CONTINUATIONS_MAX 32 /* of a block */
#define CLOSED_REMEMBERED 64 /* streams */
#define COPY_MAX 256         /* what is shorter is copied, not referred to */
#define PARTS_MAX 512        /* of a batch; a frame may add 64 */
#define SHUTDOWN_WAIT_NS (5 * INT64_C(1000000000))
#define PING_KEEPALIVE "keepaliv"
#define PING_SHUTDOWN "shutdown"

/* A piece of a body: bytes of its own, of a blob, or a source. */
struct piece {
    struct piece *next;
    size_t n; /* left; 0 for a source */
    struct blob *blob;
    size_t at; /* in the blob, or in data */
    struct h2_source source;
    bool waiting; /* for h2_wake() */
    uint8_t data[];
};

struct trailers { /* one allocation, with the strings behind */
    size_t n;
    struct hpack_field fields[];
};

/*
 * A stream that is not closed. It is idle until it is here, and closed when it
 * is not here any more (5.1); the flags tell the states between.
 */
struct h2_stream {
    struct h2_stream *next;           /* of the same bucket */
    struct h2_stream *before, *after; /* in the ring of those with something
                                           to send; NULL: not in it */
    void *user;
    uint32_t id;
    bool head_received, recv_end;     /* the peer's side */
    bool head_sent, ending, sent_end; /* ours; ending: behind what waits */
    bool head_request;                /* a response has no body (9.3.2) */
    int32_t send_window; /* may fall below 0 by new settings (6.9.2) */
    int32_t recv_window; /* what the peer may still send */
    uint32_t consumed;   /* of the window, and not given back yet */
    uint32_t unconsumed; /* told to the user, who still has it */
    int64_t body_left;   /* of content-length; -1: none was given */
    struct piece *first, **last;
    size_t queued; /* bytes of pieces */
    struct trailers *trailers;
};

struct bucket {
    uint32_t level;
    int64_t at_ns; /* drained until then */
};

/* How a stream that we remember was closed. */
enum closed_how { NOT_REMEMBERED, BY_END, BY_PEER, BY_US };

/* What one call of h2_output() returned and was not sent in full yet. */
struct part {
    struct blob *ref; /* NULL: in scratch */
    size_t at, n;
};

struct batch {
    struct buf scratch; /* control frames, heads of frames, short pieces */
    struct part *parts;
    struct iovec *iov; /* of the parts */
    size_t n_parts, parts_cap, bytes;
    size_t iov_at;
    bool active; /* being sent */
};

struct h2 {
    struct h2_options o;
    int64_t now_ns;

    /* What comes in. */
    bool preface_seen, settings_seen;
    struct hpack_decoder decoder;
    struct hpack_list list; /* what the last event's fields borrow from */
    struct buf block;       /* of a head whose CONTINUATION is awaited */
    uint32_t block_stream;  /* 0: none is */
    uint32_t block_frames;
    bool block_end, block_bad; /* END_STREAM; depends on itself (5.3.1) */
    int32_t recv_window;
    uint32_t consumed; /* not given back yet */

    /* What goes out. */
    struct hpack_encoder encoder;
    struct buf control; /* frames that go before any body, in order */
    struct batch batch;
    struct h2_stream *ring; /* whose turn it is */
    int32_t send_window;
    size_t queued;
    uint32_t replies; /* in control, that only the peer made us send */

    /* The peer's settings. */
    uint32_t peer_streams_max, peer_window, peer_frame_max;

    /* Streams. */
    struct h2_stream **buckets;
    size_t n_buckets, n_streams;        /* a power of two */
    uint32_t last_peer;                 /* a server's highest id */
    uint32_t next_id;                   /* a client's */
    uint32_t closed[CLOSED_REMEMBERED]; /* (id >> 1) << 2 | enum closed_how */
    uint32_t closed_at;

    /* The end. */
    bool failed, told, broken; /* GOAWAY was said; H2_FAILED too; h2_eof() */
    uint32_t code;
    bool by_peer;
    const char *debug;
    int shutdown; /* 1: all are admitted still; 2: up to the last */
    int64_t shutdown_at_ns;
    uint32_t shutdown_last;
    bool peer_goaway;
    bool sweeping; /* h2_receive() closes streams above sweep_above */
    uint32_t sweep_above;
    size_t sweep_at; /* the bucket */

    /* Pings and abuse. */
    int64_t read_ns;      /* when bytes came last */
    int64_t ping_sent_ns; /* 0: none is under way */
    int64_t pinged_ns;    /* by the peer */
    uint32_t ping_strikes;
    bool ping_forgiven; /* something was sent since */
    struct bucket resets, frames;
};

/* --- http2.c ---------------------------------------------------------------- */

struct h2_stream *h2_find(const struct h2 *c, uint32_t id);
/* Frees s and all that waits; remembers how, unless NOT_REMEMBERED. */
void h2_close_stream(struct h2 *c, struct h2_stream *s, enum closed_how how);
/* Our side has ended: the stream may be closed, or reset (8.1). s is gone then. */
void h2_sent_end(struct h2 *c, struct h2_stream *s);

/* --- http2send.c -------------------------------------------------------------- */

void h2_put_frame(struct buf *b, size_t n, enum frame_type type, unsigned flags,
                  uint32_t stream);
void h2_put_u32(struct buf *b, uint32_t v);
void h2_put_rst(struct h2 *c, uint32_t stream, uint32_t code);
void h2_put_goaway(struct h2 *c, uint32_t last, uint32_t code,
                   const char *debug);
void h2_put_ping(struct h2 *c, const void *data, unsigned flags);
void h2_put_window(struct h2 *c, uint32_t stream, uint32_t n);
void h2_put_settings(struct h2 *c);
/* In the ring if it may send, out of it if not. */
void h2_update_ring(struct h2 *c, struct h2_stream *s);
void h2_leave_ring(struct h2 *c, struct h2_stream *s);
void h2_drop_pieces(struct h2 *c, struct h2_stream *s);
void h2_batch_release(struct batch *b);

/* --- http2head.c ---------------------------------------------------------------- */

enum head_kind { REQUEST, RESPONSE, TRAILERS };

/*
 * Check the list (8.2, 8.3) and fill the event's fields. False: malformed.
 * *length is content-length, or -1.
 */
bool h2_check_head(const struct hpack_list *l, enum head_kind kind,
                   struct h2_event *ev, int64_t *length);

#endif
