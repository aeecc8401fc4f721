/*
 * http2.h - HTTP/2 (RFC 9113) as a pure engine, for a server and for a client.
 *
 * Bytes of the peer go in, events come out one by one (h2_receive()); heads,
 * pieces of bodies and trailers go in, bytes for the peer come out as iovecs
 * (h2_output()). No I/O, no lock, no clock: time is passed in, in nanoseconds
 * of a monotonic clock. Functions that are given no time use the last one.
 *
 * THREADS  The engine has none and locks nothing: the shell has one lock per
 * connection and calls all of this under it, but for the system calls:
 *
 *   reader: read(fd)    | lock | h2_receive() until H2_NONE; wake writer | unlock
 *   others:             | lock | h2_headers(), h2_send()...; wake writer | unlock
 *   writer: | lock | h2_output() | unlock | writev(fd) | lock | h2_sent() | unlock
 *
 * "Wake the writer" is due whenever h2_wants_write() is true after a call.
 * What h2_output() returned stays valid and unchanged while others call, until
 * h2_sent(); so there is one writer at a time, which may be any thread.
 *
 * STREAMS  are named by their ids, not by pointers: who holds an id that was
 * closed meanwhile is told H2_EGONE and harms nothing. A stream carries one
 * pointer for its user, which the engine only hands back. It is closed (and the
 * pointer handed back no more) when both sides have ended, by h2_reset(), or by
 * an event H2_RESET.
 *
 * MEMORY  What is sent is not copied: pieces are shared blobs, or come from a
 * source that is asked for just as much as the peer's windows allow at the time
 * it is sent. What waits is counted (h2_queued()), and bounded by queue_max.
 * What is received is borrowed from the reader's buffer. The peer may send so
 * much as the receive windows allow, and they open as h2_consumed() says. A
 * connection costs 1.6 KB when idle (h2_trim()), a stream about 110 bytes.
 *
 * ABUSE  What a peer can make us do without any use is counted in buckets that
 * drain with time: resets of streams (by it, or by us for its mistakes), and
 * frames that carry nothing. A full bucket ends the connection with
 * ENHANCE_YOUR_CALM, as do answers that pile up because it does not read, too
 * long a header block, and pings against gRPC's rules ("too_many_pings").
 *
 * Priorities are ignored (5.3), as are frames, flags and settings that are not
 * known (5.5, 6.5.2). Nothing is pushed, and no push accepted (8.4).
 */
#ifndef HTTP2_H
#define HTTP2_H

#include "hpack.h"

#include <sys/types.h>
#include <sys/uio.h>

/* Error codes of the wire (7). */
enum h2_code {
    H2_NO_ERROR = 0x0,
    H2_PROTOCOL_ERROR = 0x1,
    H2_INTERNAL_ERROR = 0x2,
    H2_FLOW_CONTROL_ERROR = 0x3,
    H2_SETTINGS_TIMEOUT = 0x4,
    H2_STREAM_CLOSED = 0x5,
    H2_FRAME_SIZE_ERROR = 0x6,
    H2_REFUSED_STREAM = 0x7, /* not acted upon: may be tried again (8.7) */
    H2_CANCEL = 0x8,
    H2_COMPRESSION_ERROR = 0x9,
    H2_CONNECT_ERROR = 0xa,
    H2_ENHANCE_YOUR_CALM = 0xb,
    H2_INADEQUATE_SECURITY = 0xc,
    H2_HTTP_1_1_REQUIRED = 0xd,
};

const char *h2_code_name(uint32_t code); /* "PROTOCOL_ERROR"; "" if unknown */

/* What functions return if they do not succeed; nothing was changed then. */
enum {
    H2_EGONE = -1,   /* no such stream, or our side of it has ended */
    H2_EFULL = -2,   /* more waits to be sent already than queue_max */
    H2_EBUSY = -3,   /* as many streams as the peer allows are open */
    H2_ECLOSED = -4, /* the connection takes no new streams any more */
};

/* --- Which protocol is it? (3.4) ------------------------------------------ */

#define H2_PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define H2_PREFACE_LEN 24

/* Do p[0..n), a connection's first bytes, begin HTTP/2? 1 yes, 0 it takes more
 * bytes to tell, -1 no. Three bytes tell any HTTP/1 method apart. */
int h2_sniff(const void *p, size_t n);

/* --- A connection. --------------------------------------------------------- */

struct h2;

/* {0} but for `server` gives what is said below. */
struct h2_options {
    bool server;

    uint32_t streams_max;     /* of the peer, at a time; 0: no limit */
    uint32_t window_stream;   /* bytes; 0 or less than 65535: 65535 */
    uint32_t window_conn;     /* likewise, for all streams together */
    uint32_t header_list_max; /* 0: 64 KB; bounds encoded blocks, too */
    size_t queue_max;         /* bytes of all streams that wait; 0: no limit */

    /* Pings of ours: after so long without a byte from the peer (0: none), and
     * how long it has to answer (0: for ever). As grpc-keepalive-interval and
     * -timeout. A client pings only while it has streams unless told so. */
    int64_t keepalive_ns, keepalive_timeout_ns;
    bool keepalive_without_stream;

    /* A server's rule for its client's pings, as grpc-keepalive-min-time: three
     * that come sooner end the connection. 0: no rule. Without a stream, two
     * hours, unless ping_without_stream. Answers of ours start anew. */
    int64_t ping_min_ns;
    bool ping_without_stream;

    /* Buckets: so many at once, and how many more a second. 0: 1000, 100. */
    uint32_t resets_max, resets_per_s;
    uint32_t frames_max, frames_per_s; /* useless ones; 0: 1000, 200 */
};

struct h2 *h2_new(const struct h2_options *o, int64_t now_ns); /* copies o */
void h2_free(struct h2 *c); /* releases what is queued; NULL is fine */

/* --- What comes in. --------------------------------------------------------- */

enum h2_event_type {
    H2_NONE,
    H2_HEADERS,  /* a request's or a response's head; a server's new stream */
    H2_DATA,     /* a piece of body, of 1 byte or more, or 0 with `end` */
    H2_TRAILERS, /* `end` is set */
    H2_RESET,    /* the stream is closed: by the peer, by an error, with all */
    H2_GOAWAY,   /* the peer takes no new streams; those it will not serve are
                    H2_RESET with H2_REFUSED_STREAM by the events that follow */
    H2_FAILED,   /* the connection is over: write h2_output()'s last, close.
                    H2_RESET for each stream by the events that follow */
};

struct h2_event { /* borrowed: valid until the next h2_receive() */
    enum h2_event_type type;
    uint32_t stream; /* 0 if the event is about the connection */
    void *user;      /* what h2_set_user() or h2_request() left there */
    bool end;        /* the peer's side has ended with this (END_STREAM) */

    /* HEADERS, TRAILERS: fields but the pseudo ones, which have their own
     * places: authority.p may be NULL, and scheme's and path's for CONNECT.
     * All are as 8.2 and 8.3 demand: anything else was answered already. */
    const struct hpack_field *fields;
    size_t n_fields;
    struct str method, scheme, authority, path;
    int status; /* of a response; 1xx are passed over */

    const uint8_t *data; /* DATA: inside the bytes passed in */
    size_t n;

    uint32_t code;    /* RESET, GOAWAY, FAILED */
    bool by_peer;     /* RESET, FAILED: it said so; else we did */
    uint32_t last;    /* GOAWAY: the last stream that it may have acted upon */
    struct str debug; /* GOAWAY, FAILED: what the matter is, perhaps "" */
};

/* The value of the first field of this name; p is NULL if there is none. */
struct str h2_field(const struct h2_event *ev, const char *name);

/*
 * One step: take from p[0..n) and tell one event. Returns the bytes consumed.
 * H2_NONE with 0 consumed means that no frame is complete: come again with
 * these bytes and more. Else go on with the rest, also if it is empty: events
 * may wait. A frame takes at most H2_INPUT_MAX bytes, so a buffer of that size
 * suffices. After H2_FAILED bytes are consumed without being looked at.
 */
#define H2_INPUT_MAX (9 + 16384)
size_t h2_receive(struct h2 *c, const void *p, size_t n, int64_t now_ns,
                  struct h2_event *ev);
/* The connection is broken or closed by the peer: nothing more will be read.
 * Go on with h2_receive(c, NULL, 0...) until H2_NONE for an H2_RESET each. */
void h2_eof(struct h2 *c);
/*
 * n bytes of this stream's H2_DATA are done with, so that the peer may send as
 * many again (5.2). Call it at once, or when what waits in memory has gone.
 * Closing a stream gives back the rest: H2_EGONE may be ignored.
 */
int h2_consumed(struct h2 *c, uint32_t stream, size_t n);

/* --- What goes out. ---------------------------------------------------------- */

int h2_set_user(struct h2 *c, uint32_t stream, void *user);
/*
 * A client's new stream: its head, pseudo fields first (8.3.1). Returns the id,
 * which is positive, or H2_EBUSY (try again when a stream has closed), or
 * H2_ECLOSED (dial anew). Copies the fields, as all of these do.
 */
int64_t h2_request(struct h2 *c, const struct hpack_field *fields, size_t n,
                   bool end, void *user);
/* A server's head: ":status" first. 0 or H2_EGONE. */
int h2_headers(struct h2 *c, uint32_t stream, const struct hpack_field *fields,
               size_t n, bool end);
/*
 * Pieces of the body, in order. h2_send() copies, for what is small. A blob is
 * shared: h2_send_blob() takes a reference of its own to n bytes from off. 0,
 * H2_EGONE or H2_EFULL; a piece is queued whole or not at all.
 */
int h2_send(struct h2 *c, uint32_t stream, const void *p, size_t n);
int h2_send_blob(struct h2 *c, uint32_t stream, struct blob *b, size_t off,
                 size_t n);
/*
 * The end of our side, behind all pieces: with trailers, or (n is 0) without.
 * A server that ends while its client is still sending resets the stream with
 * NO_ERROR once that is sent (8.1): nobody reads the rest.
 */
int h2_end(struct h2 *c, uint32_t stream, const struct hpack_field *trailers,
           size_t n);
/*
 * Close the stream at once, with an h2_code, dropping what waits. A peer that
 * goes on sending is not heard.
 */
int h2_reset(struct h2 *c, uint32_t stream, uint32_t code);

/* --- A source: a body that is made at the pace of the windows. ---------------- */

struct h2_sink;

enum h2_pulled {
    H2_PULL_MORE, /* there is more, and a byte at least was added */
    H2_PULL_WAIT, /* nothing now: ask again after h2_wake() */
    H2_PULL_DONE, /* that was all: the next piece of the stream follows */
};

/*
 * pull() adds at most room (1 or more) bytes to the sink. It is called from
 * h2_output(), so under the connection's lock: it must not block, nor call the
 * engine but for the sink. release() is called once, when the source is done or
 * its stream closed, from any function.
 */
struct h2_source {
    enum h2_pulled (*pull)(void *arg, struct h2_sink *s, size_t room);
    void (*release)(void *arg); /* may be NULL */
    void *arg;
};

int h2_send_source(struct h2 *c, uint32_t stream, const struct h2_source *s);
int h2_wake(struct h2 *c, uint32_t stream);
void h2_sink_add(struct h2_sink *s, const void *p, size_t n); /* copies */
/* n bytes of b from off; takes a reference of its own until they are sent. */
void h2_sink_blob(struct h2_sink *s, struct blob *b, size_t off, size_t n);

/* --- The writer. ---------------------------------------------------------------- */

bool h2_wants_write(const struct h2 *c);
/*
 * What is to be sent next: *iov and its count, 0 if nothing is. About max bytes
 * at most (control frames and heads are not cut): streams with something to
 * send take turns, a frame each, as far as the peer's windows reach. While a
 * batch is not sent in full, its rest is returned again.
 */
int h2_output(struct h2 *c, size_t max, struct iovec **iov);
void h2_sent(struct h2 *c, size_t n); /* n bytes of that were sent */

size_t h2_queued(const struct h2 *c); /* bytes of pieces that wait, in all */
size_t h2_stream_queued(const struct h2 *c, uint32_t stream);
size_t h2_streams(const struct h2 *c); /* open ones */
/* Give memory back that only a busy connection needs. */
void h2_trim(struct h2 *c);

/* --- Time and the end. ------------------------------------------------------------ */

/*
 * Do what is due: pings, and the second step of a shutdown. Returns when to call
 * again (INT64_MAX: no need to), or H2_TIMED_OUT: no answer to our ping in time;
 * close the connection (h2_eof()).
 */
#define H2_TIMED_OUT (-1)
int64_t h2_tick(struct h2 *c, int64_t now_ns);
/*
 * Shut down gracefully (6.8): GOAWAY that admits all streams on their way, then,
 * after a round trip (or five seconds), one that names the last. A client just
 * stops. What is open goes on; the connection is done with once h2_done().
 */
void h2_shutdown(struct h2 *c, int64_t now_ns);
/* End at once with GOAWAY of this code; then as after H2_FAILED. */
void h2_fail(struct h2 *c, uint32_t code, const char *debug);
/* All is sent, and nothing more will come: close. */
bool h2_done(const struct h2 *c);

#endif
