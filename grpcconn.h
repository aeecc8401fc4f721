/*
 * grpcconn.h - a client's gRPC connection: calls as streams of one HTTP/2
 * connection, over whatever net.h dials.
 *
 * A connection has one thread, which reads; what is to be sent is sent by
 * whoever has something to send. All functions may be called from any thread,
 * but each stream belongs to one reader and one sender at a time.
 *
 * RESULTS  Functions return GRPC_OK or the status of grpc.h, with its text in
 * e->msg; e->code is the status, too. A deadline is a sys_mono_ns() time, 0
 * none; when it has passed, the status is GRPC_DEADLINE_EXCEEDED and the text
 * "context deadline exceeded", as from Go's clients.
 *
 * MEMORY  A stream holds at most GRPC_WINDOW bytes that nobody has read, beyond
 * the message that is being put together, which message_max bounds.
 */
#ifndef GRPCCONN_H
#define GRPCCONN_H

#include "grpc.h"
#include "secure.h"
#include "url.h"

#define GRPC_WINDOW (1024 * 1024)

struct grpc_conn;
struct grpc_stream;

struct grpc_conn_options {
    int64_t keepalive_ns;         /* of silence before a ping; 0: no pings */
    int64_t keepalive_timeout_ns; /* for its answer; 0: for ever */
    uint32_t message_max;         /* of an answer; 0: INT32_MAX */
    struct secure *secure;        /* for https; NULL: see secure_connect() */
};

/*
 * Connect, and hear HTTP/2 from the other side. The caller owns a reference:
 * grpc_conn_unref(). NULL and e if it cannot be; GRPC_UNIMPLEMENTED if what
 * answers is no gRPC server.
 */
struct grpc_conn *grpc_conn_dial(const struct url *u,
                                 const struct grpc_conn_options *o,
                                 int64_t deadline_ns, struct err *e);
struct grpc_conn *grpc_conn_ref(struct grpc_conn *c);
/* The last one closes the connection. NULL is fine. */
void grpc_conn_unref(struct grpc_conn *c);
/* It takes new streams, as far as is known. */
bool grpc_conn_usable(struct grpc_conn *c);

/* One metadata field. */
struct grpc_metadata {
    const char *name; /* lower case */
    struct str value;
};

/*
 * Begin a call of path, "/package.Service/Method". The stream holds a reference
 * of the connection. The deadline travels along and ends the call. meta ends
 * with a row whose name is NULL; NULL: none.
 */
int grpc_stream_open(struct grpc_conn *c, const char *path,
                     const struct grpc_metadata *meta, int64_t deadline_ns,
                     struct grpc_stream **out, struct err *e);
enum grpc_more { GRPC_MORE, GRPC_LAST };
/* Send a message (copied); GRPC_LAST: our side ends with it. A stream that the
 * server has ended already takes it without a complaint: the reader is told. */
void grpc_stream_send(struct grpc_stream *s, struct str message,
                      enum grpc_more more);
void grpc_stream_end(struct grpc_stream *s); /* our side ends */
/*
 * The next message of the server, in *message (cleared first): GRPC_OK.
 * GRPC_STREAM_END: the server has ended well. GRPC_STREAM_WAIT: wait_until_ns
 * (0: none) has come before a message, which changes nothing.
 */
enum { GRPC_STREAM_END = -1, GRPC_STREAM_WAIT = -2 };
int grpc_stream_read(struct grpc_stream *s, struct buf *message,
                     int64_t wait_until_ns, struct err *e);
/* The server has not acted upon the call: it may be made again. */
bool grpc_stream_unserved(const struct grpc_stream *s);
void grpc_stream_close(struct grpc_stream *s); /* cancels; NULL is fine */

#endif
