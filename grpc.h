/*
 * grpc.h - what gRPC adds to HTTP/2 (grpc/doc/PROTOCOL-HTTP2.md): messages and
 * their framing, status codes, timeouts, and text and bytes in header fields.
 * Pure, not thread-safe.
 *
 *   request   :method POST, :path /package.Service/Method, te: trailers,
 *             content-type: application/grpc[+proto], grpc-timeout, metadata
 *   response  :status 200, content-type; trailers: grpc-status, grpc-message
 *             (all of it in one head if there is no message)
 *   message   1 byte: compressed or not; 4 bytes, big-endian: n; n bytes
 */
#ifndef GRPC_H
#define GRPC_H

#include "buf.h"

/* --- Status codes. --------------------------------------------------------- */

enum grpc_status {
    GRPC_OK = 0,
    GRPC_CANCELLED = 1,
    GRPC_UNKNOWN = 2,
    GRPC_INVALID_ARGUMENT = 3,
    GRPC_DEADLINE_EXCEEDED = 4,
    GRPC_NOT_FOUND = 5,
    GRPC_ALREADY_EXISTS = 6,
    GRPC_PERMISSION_DENIED = 7,
    GRPC_RESOURCE_EXHAUSTED = 8,
    GRPC_FAILED_PRECONDITION = 9,
    GRPC_ABORTED = 10,
    GRPC_OUT_OF_RANGE = 11,
    GRPC_UNIMPLEMENTED = 12,
    GRPC_INTERNAL = 13,
    GRPC_UNAVAILABLE = 14,
    GRPC_DATA_LOSS = 15,
    GRPC_UNAUTHENTICATED = 16,
};

#define GRPC_STATUS_N 17

/* "NotFound", as Go prints it; "Code(99)" is the caller's. NULL if unknown. */
const char *grpc_status_name(int status);
/* Of an answer that is not gRPC (grpc/doc/http-grpc-status-mapping.md). */
enum grpc_status grpc_status_of_http(int http);
/* Of a stream that was reset with this error code of HTTP/2. */
enum grpc_status grpc_status_of_h2(uint32_t code);
/* The value of grpc-status: decimal. Nonsense is GRPC_UNKNOWN. */
int grpc_parse_status(struct str s);

/* Is this the content-type of a gRPC request? */
bool grpc_content_type(struct str s);

/* --- Messages. --------------------------------------------------------------- */

#define GRPC_PREFIX 5

void grpc_put_prefix(uint8_t out[GRPC_PREFIX], uint32_t n, bool compressed);

enum {
    GRPC_EINVAL = -1, /* the flag is neither 0 nor 1: GRPC_INTERNAL */
    GRPC_ELARGE = -2, /* longer than n_max: GRPC_RESOURCE_EXHAUSTED */
};

/*
 * Messages out of a stream of bytes that comes in pieces. {.n_max = ...} is the
 * start; nothing is held between messages. Memory grows with what has come, not
 * with what a prefix promises.
 */
struct grpc_reader {
    uint32_t n_max; /* longest message */
    uint32_t n;     /* length of the present one, once its prefix is known */
    uint8_t prefix[GRPC_PREFIX];
    size_t have; /* bytes of the prefix */
    bool given;  /* buf was given out and is to be cleared */
    struct buf buf;
};

struct grpc_message {
    struct str bytes;
    bool compressed;
};

/*
 * Take from *p and *n, which move on. 1: a message, borrowed until the next call
 * (it lies in the input if it is whole there); come again with the rest. 0: all
 * is taken, and more is needed. GRPC_E*: r is of no use any more, but r->n is
 * the length that was too large.
 */
int grpc_read(struct grpc_reader *r, const uint8_t **p, size_t *n,
              struct grpc_message *out);
/* False in the midst of a message: an end here is GRPC_INTERNAL. */
bool grpc_reader_idle(const struct grpc_reader *r);
void grpc_reader_release(struct grpc_reader *r);

/* --- Header fields. ------------------------------------------------------------- */

/*
 * grpc-timeout: at most 8 digits and a unit (H M S m u n). Nanoseconds, at most
 * INT64_MAX. False if malformed.
 */
bool grpc_parse_timeout(struct str s, int64_t *ns);
#define GRPC_TIMEOUT_MAX 12
/* The finest unit that has room for it, rounded up; not positive: "0n". */
size_t grpc_format_timeout(char out[GRPC_TIMEOUT_MAX], int64_t ns);

/* grpc-message: bytes outside of blank to '~', and '%', as %XX. Also blanks at
 * both ends, which HTTP does not allow. Appends to out. */
void grpc_encode_message(struct buf *out, struct str s);
/* The inverse; what is no %XX stays as it is. */
void grpc_decode_message(struct buf *out, struct str s);

/* Metadata whose name ends in -bin: base64, padded or not. */
bool grpc_is_binary(struct str name);
void grpc_encode_binary(struct buf *out, const void *p, size_t n);
int grpc_decode_binary(struct buf *out, struct str s); /* 0, or -1 */

#endif
