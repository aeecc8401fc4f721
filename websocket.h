/*
 * websocket.h - the server's side of the WebSocket protocol (RFC 6455): the
 * handshake, frames that come and frames that go. Pure.
 *
 *   websocket_check()       is a request a handshake, and may it go on?
 *   websocket_add_head()    the answer to it
 *   websocket_next()        what has come: pieces of messages, pings, the end
 *   websocket_add_frame()   what goes
 *
 * No extension and no version but 13 is spoken. What the client must not send
 * is answered by a Close with the code that the RFC names; it is stricter than
 * etcd's in three points: a text must be UTF-8 (8.1), a length must be in its
 * shortest form (5.2), and one of 2^63 and more gets a Close, too.
 *
 * LIMITS  Nothing is kept of a message: its pieces stay where they were read,
 * and its whole length is known to be within `max` before the first one is
 * given out. The payload of a control frame has at most 125 bytes (5.5).
 */
#ifndef WEBSOCKET_H
#define WEBSOCKET_H

#include "http.h"

#define WEBSOCKET_HEAD_MAX 14 /* 2, a length of 8, a mask of 4 */
#define WEBSOCKET_CONTROL_MAX 125

enum websocket_op {
    WEBSOCKET_CONTINUATION = 0,
    WEBSOCKET_TEXT = 1,
    WEBSOCKET_BINARY = 2,
    WEBSOCKET_CLOSE = 8,
    WEBSOCKET_PING = 9,
    WEBSOCKET_PONG = 10,
};

/* Why a connection ends (7.4.1). */
enum websocket_code {
    WEBSOCKET_NORMAL = 1000,
    WEBSOCKET_GOING_AWAY = 1001, /* the server stops */
    WEBSOCKET_PROTOCOL_ERROR = 1002,
    WEBSOCKET_NO_CODE = 1005, /* a Close without one; never on the wire */
    WEBSOCKET_NOT_UTF8 = 1007,
    WEBSOCKET_POLICY = 1008,
    WEBSOCKET_TOO_LARGE = 1009,
    WEBSOCKET_TRY_LATER = 1013,
};

/* --- The handshake (4.2). ----------------------------------------------- */

/* 101: it is one, to be answered by websocket_add_head(); 0: it is a request
 * like any other; 405 or 400: it asks for a WebSocket, but not as it should. */
int websocket_check(const struct http_head *h);
/* The head of the answer; protocol is the subprotocol agreed on, or NULL. */
void websocket_add_head(struct buf *b, const struct http_head *h,
                        const char *protocol);

/* --- What comes. -------------------------------------------------------- */

struct websocket {
    uint64_t max; /* the caller's: bytes of a message; all else is {0} */

    int code;        /* of WEBSOCKET_CLOSED */
    const char *why; /* of an error */

    /* Its own. */
    uint8_t head[WEBSOCKET_HEAD_MAX]; /* of the frame, as far as it came */
    size_t n_head;
    bool in_payload;
    bool last; /* FIN */
    int op;
    uint64_t left; /* of the payload */
    uint8_t mask[4];
    size_t n_masked;
    int message;        /* the type of the one that is under way, or 0 */
    uint64_t n_message; /* its bytes, with those of the present frame */
    uint8_t lack;       /* bytes that a UTF-8 sequence lacks, */
    uint8_t low, high;  /* and what the next one may be */
    uint8_t control[WEBSOCKET_CONTROL_MAX];
    size_t n_control;
};

enum websocket_event {
    WEBSOCKET_MORE,   /* nothing yet */
    WEBSOCKET_DATA,   /* a piece of a message, or nothing of it */
    WEBSOCKET_END,    /* the last piece */
    WEBSOCKET_PINGED, /* to be answered by a pong with the same data */
    WEBSOCKET_PONGED,
    WEBSOCKET_CLOSED, /* the client says no more; to be answered by w->code */
};

/*
 * Reads p[0..n), n > 0, which is unmasked in place: *used bytes of it, at least
 * one. *data is borrowed from p or w. An event; or the negative of the code to
 * close with, and w->why. After that, and after WEBSOCKET_CLOSED, w is of no more
 * use.
 */
int websocket_next(struct websocket *w, void *p, size_t n, size_t *used,
                   struct str *data);

/* --- What goes: appended to b. ------------------------------------------ */

/* The last frame of a message, or not; control frames are always. */
void websocket_add_frame(struct buf *b, enum websocket_op op, bool last,
                         const void *p, size_t n);
/* why: up to 123 bytes of UTF-8. */
void websocket_add_close(struct buf *b, int code, const char *why);

#endif
