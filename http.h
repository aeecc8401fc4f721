/*
 * http.h - HTTP/1.0 and 1.1 (RFC 9110, 9112): a pure request and response
 * parser, and a server with a thread per connection.
 *
 * The server answers as Go's net/http does where clients can tell: status
 * texts of refused requests, the form of a body (up to 2,048 bytes and known:
 * Content-Length; else chunked, or until close for 1.0), HEAD, 100-continue,
 * keep-alive and pipelining.
 *
 * LIMITS  request line and headers 1 MB (431), headers 1,000, chunk-size line
 * 4 KB, trailer 4 KB, 20 s for a head once its first byte came, 15 min idle,
 * 30 s without progress while reading a body or writing a response. What large
 * heads and bodies take together is bounded, too (struct http_budget). With TLS,
 * 10 s for a handshake, and HTTP_HALF_OPEN_MAX of them at a time, or half of
 * conns_max if that is less: who comes then ends the one that began first, of
 * those that keep us waiting; half as many again if none does.
 */
#ifndef HTTP_H
#define HTTP_H

#include "buf.h"
#include "net.h"
#include "secure.h"

#define HTTP_HEAD_MAX (1024 * 1024 + 4096) /* as Go's default */
#define HTTP_HEADERS_MAX 1000
#define HTTP_HEAD_MS 20000
#define HTTP_IDLE_MS (15 * 60 * 1000)
#define HTTP_STALL_MS 30000
#define HTTP_HALF_OPEN_MAX 1024

struct http_header {
    struct str name, value; /* value without blanks at its ends */
};

/* --- Grammar: pure; results borrow the input. --------------------------- */

struct http_head {
    /* A request's. */
    struct str method, target;
    /* The parts of the target; still encoded. Path is never empty. */
    struct str authority; /* "host:port" of an absolute target, else "" */
    struct str path, query;
    /* A response's. */
    int status;
    struct str reason;

    int minor;                   /* HTTP/1.minor */
    struct http_header *headers; /* owned: http_head_release() */
    size_t n_headers, headers_cap;

    int64_t content_length; /* -1: not given, or chunked */
    bool chunked;
    bool keep_alive; /* what version and Connection ask for; false also if the
                        framing could be read in two ways (RFC 9112, 6.1) */
    bool expect_continue;
    bool expect_other; /* an expectation that we cannot meet: 417 */
};

/*
 * Parse a head from p[0..n). Returns bytes consumed, 0 if the head is not
 * complete yet, or a negative status to refuse with, such as -400, and then
 * *why says more in Go's words ("missing required Host header") or is "".
 * *out is {0} or was filled before, when its table is used again; it is to be
 * released whatever is returned.
 *
 * Stricter than Go, in favour of safety: no folded lines.
 */
int64_t http_parse_request(const void *p, size_t n, struct http_head *out,
                           const char **why);
int64_t http_parse_response(const void *p, size_t n, struct http_head *out,
                            const char **why);
void http_head_release(struct http_head *h);
/* First header of that name, ignoring case; p is NULL if absent. */
struct str http_header(const struct http_head *h, const char *name);
/* Does a header of that name, a comma list, hold the token? Ignores case. */
bool http_has_token(const struct http_head *h, const char *name,
                    const char *token);

/*
 * A chunked body, decoded in place, incrementally (RFC 9112, 7.1); {0} is the
 * start. Lines must end in CRLF: a lone LF is how requests are smuggled.
 */
struct http_chunks {
    int state;
    uint64_t left;   /* of the present chunk */
    size_t line;     /* length of the line (or trailer) that is being read */
    uint64_t excess; /* bytes that were neither data nor its fair framing */
};

enum { HTTP_ECHUNK = -1 };

/*
 * Read from p[0..n): *used input bytes were consumed and *out,*n_out is a
 * piece of body inside p (possibly empty; never longer than n). 1 when the
 * body has ended, 0 to go on, HTTP_ECHUNK with *why ("invalid byte in chunk
 * length"). Returns early, before all is used, after a piece and at the end.
 */
int http_chunks_next(struct http_chunks *c, const uint8_t *p, size_t n,
                     size_t *used, const uint8_t **out, size_t *n_out,
                     const char **why);
/* The next so many bytes are data for sure, and how to say that n of them
 * were read without passing through http_chunks_next(). */
uint64_t http_chunks_data(const struct http_chunks *c);
void http_chunks_took(struct http_chunks *c, uint64_t n);

const char *http_status_text(int status); /* "Not Found" */

/* --- A message that comes in: its head, then its body. ------------------ */

/*
 * What http.c reads requests with, and client.c answers; it stands in httpin.c.
 * One buffer, kept for all messages of a connection: the head that is being
 * served, to which struct http_head points, and behind it what else has
 * arrived.
 */
enum {
    HTTP_EBODY_LARGE = -1,
    HTTP_EBODY_BAD = -2,
    HTTP_EBODY_IO = -3,
    HTTP_EBODY_TIMEOUT = -4, /* of http_in_read() only */
    HTTP_EBODY_BUSY = -5,    /* of http_read_body() only: see http_budget */
};

enum http_framing {
    HTTP_NO_BODY, /* or its end was reached */
    HTTP_LENGTH,
    HTTP_CHUNKED,
    HTTP_TO_CLOSE,
    HTTP_BROKEN, /* the end is lost: this connection cannot go on */
};

/*
 * What all connections of a server may hold together, beyond 16 KB each, of
 * heads and bodies: many clients with large requests must not use up the
 * memory of the machine. Who finds too little left is refused.
 */
struct http_budget {
    size_t left; /* atomic */
};

struct http_in {
    struct net_stream *stream;  /* borrowed */
    struct http_budget *budget; /* borrowed; NULL: without a limit */
    size_t taken;               /* of it, for buf */
    struct buf buf;
    size_t pos;  /* next unread byte in buf */
    size_t body; /* where the head ends */
    enum http_framing framing;
    uint64_t left; /* of HTTP_LENGTH */
    struct http_chunks chunks;
    size_t size;     /* of buf when it is allocated; 0: little */
    int code;        /* of HTTP_BROKEN: HTTP_EBODY_* */
    const char *why; /* likewise, in Go's words */
};

/*
 * Read the next head. 1; 0 if the stream ended before it, or in the first line
 * of a request; NET_E*; or a negative status with *why. The first byte is
 * awaited until deadline_ns (0: the stream's timeout; NET_ETIMEOUT with
 * http_in_empty() then), the rest until deadline_ns too or, if rest_ms is not
 * 0, for so long. The caller then sets the framing.
 */
int http_in_head(struct http_in *in, bool request, struct http_head *out,
                 int64_t deadline_ns, int64_t rest_ms, const char **why);
bool http_in_empty(const struct http_in *in); /* nothing unread in buf */
void http_in_body(struct http_in *in, enum http_framing framing, uint64_t n);
/* Bytes of the body, 0 at its end, or HTTP_EBODY_BAD, _IO, _TIMEOUT. After a
 * timeout nothing is lost: one may go on reading. */
ssize_t http_in_read(struct http_in *in, void *p, size_t n,
                     int64_t deadline_ns);
void http_in_release(struct http_in *in);

/* --- An exchange: one request and its response, in a handler. ----------- */

struct http_exchange;
struct http_server;

/* Borrowed until the handler returns. */
const struct http_head *http_request(const struct http_exchange *x);
struct str http_method(const struct http_exchange *x);
bool http_method_is(const struct http_exchange *x, const char *m);
struct str http_path(const struct http_exchange *x); /* decoded */
struct str http_raw_path(const struct http_exchange *x);
struct str http_query(const struct http_exchange *x); /* after ?, raw */
/* The host it was sent to: of an absolute target, else the Host header. */
struct str http_host(const struct http_exchange *x);
struct net_stream *http_stream(struct http_exchange *x);

/*
 * Read the whole body (at most max bytes) into b, which does not outlive the
 * exchange. 0; HTTP_EBODY_LARGE: longer than max; HTTP_EBODY_BAD with *why in
 * Go's words, "unexpected EOF" among them; HTTP_EBODY_BUSY: others have large
 * requests under way; or HTTP_EBODY_IO: the client is gone or silent. After
 * any of these the connection will be closed.
 */
int http_read_body(struct http_exchange *x, struct buf *b, size_t max,
                   const char **why);
/* Piece by piece, for bodies of any size: bytes, 0 at the end, HTTP_EBODY_*. */
ssize_t http_read_some(struct http_exchange *x, void *p, size_t n);

/*
 * Response headers, before the first byte of the body; copied, and sent in
 * the order of their names. Setting one again replaces it. Line breaks in a
 * value become blanks. Date, and Content-Length or Transfer-Encoding, are
 * added here; a handler that knows the length of a body in pieces may set
 * Content-Length itself.
 */
void http_set_status(struct http_exchange *x, int status);
void http_set_header(struct http_exchange *x, const char *name, const char *fmt,
                     ...) PRINTF(3, 4);
/* The same without the cost of a format: on the path of every answer. */
void http_set_header_text(struct http_exchange *x, const char *name,
                          struct str text);
void http_set_header_u64(struct http_exchange *x, const char *name, uint64_t v);
void http_close_after(struct http_exchange *x); /* Connection: close */

/* A whole response: body of n bytes (may be 0). One write for head and body.
 * 0, or -1 if the client is gone. */
int http_send(struct http_exchange *x, const void *body, size_t n);
/* Content-Type and status in one call. */
int http_reply(struct http_exchange *x, int status, const char *content_type,
               const void *body, size_t n);
/* Go's http.Error: text/plain, nosniff, and a newline after the text. */
int http_error(struct http_exchange *x, int status, const char *text);

/*
 * A body in pieces. http_begin() sends the head at once; a piece is sent at
 * once. The end is written when the handler returns. -1: the client is gone.
 */
int http_begin(struct http_exchange *x);
int http_write(struct http_exchange *x, const void *p, size_t n);
/* What goes of a piece without waiting. 1: some is left, and http_write_rest()
 * must be what comes next; which waits, as http_write() does. */
int http_try_write(struct http_exchange *x, const void *p, size_t n);
int http_write_rest(struct http_exchange *x);

/*
 * An answer that another thread gives, such as the one that applies a write,
 * so that the connection's own thread need not be woken for it. http_defer()
 * promises it, and the handler returns; the other thread sets status and
 * headers and calls http_send() once, which does not block: what the socket
 * does not take at once is sent by a thread of its own. Then the connection's
 * thread calls release(arg) and goes on. Possible once the body is read.
 */
bool http_can_defer(const struct http_exchange *x);
void http_defer(struct http_exchange *x, void (*release)(void *arg), void *arg);

/* When more of a body must have come that is awaited from now on. */
int64_t http_stall_at(const struct http_exchange *x);

/*
 * Another protocol takes over (RFC 9110, 7.8): the handler answers, reads and
 * writes by http_stream() alone from now on, and the connection is closed when it
 * returns. False, with nothing done: a body, or more than the request, has come
 * already, which the client was to keep until it is answered.
 */
bool http_take_over(struct http_exchange *x);
/* Room for n more bytes in b, in place of a body: it counts in the http_budget
 * until http_drop_room(), or the exchange's end. One such buffer an exchange.
 * False: others have large requests under way. */
bool http_take_room(struct http_exchange *x, struct buf *b, size_t n);
void http_drop_room(struct http_exchange *x, struct buf *b); /* frees, too */

/*
 * Give the idle memory of this exchange back before a long wait: buffers and
 * the unused part of the thread's stack. The request head stays valid. Call it
 * after http_begin(), from the function that waits.
 */
void http_prepare_to_wait(struct http_exchange *x);

/* --- The server. -------------------------------------------------------- */

typedef void http_handler(struct http_exchange *x, void *arg);

struct http_server_options {
    http_handler *handler;
    void *arg;
    /* Connections, and descriptors that they may take: one each, and one more
     * that are handed over as HTTP/2, which are closed if there is none. Further
     * connections wait in the kernel's queue. 0: no limit. */
    size_t conns_max, fds_max;
    const char *name; /* of its threads, for ps(1) */

    /* A connection that begins as HTTP/2 is handed over for good, on its own
     * thread, with what was read of it (which h2 takes); http_server_stop() shuts
     * it down when the time of grace is over. NULL: it is refused. */
    void (*h2)(struct net_stream *stream, struct buf *first, void *h2_arg);
    void *h2_arg;

    /* For listeners that want TLS: handshakes, on the connection's thread. A
     * certificate's common name is net_peer_cn() of the stream. */
    struct secure *secure; /* borrowed */

    size_t large_max; /* the http_budget; 0: 512 MB or 1/4 of the machine's */

    /* 0: the defaults above. */
    int64_t head_ms, idle_ms, stall_ms;
    int64_t quiet_ms; /* idle for so long, memory is given back; 0: a second */
    size_t stack;     /* of a connection's thread; 0: SYS_STACK_SMALL */
};

/*
 * One accept thread per listener; borrows the listeners until stop, which
 * shuts them down. Without threads for a connection, it is answered 503 and
 * closed. 0, or -1 and e.
 */
int http_server_start(struct net_listener *listeners, size_t n,
                      const struct http_server_options *o,
                      struct http_server **out, struct err *e);
/*
 * Stop accepting, wake idle connections, let exchanges under way end for
 * grace_ms, then shut the rest down, wait for all threads and free s. Handlers
 * that wait for events must be woken by their owner first.
 */
void http_server_stop(struct http_server *s, int64_t grace_ms);
/* The beginning of a stop: true if all has ended within grace_ms. What has not
 * goes on. */
bool http_server_drain(struct http_server *s, int64_t grace_ms);
size_t http_connections(const struct http_server *s);

#endif
