/*
 * client.h - an HTTP/1.1 client: one blocking call for a request and its
 * answer, and an open exchange for bodies that never end (peer streams,
 * watches). For peers, discovery and etcdctl.
 */
#ifndef CLIENT_H
#define CLIENT_H

#include "buf.h"
#include "http.h"
#include "secure.h"
#include "url.h"

#include <pthread.h>

enum {
    CLIENT_EDIAL = -1, /* could not connect */
    CLIENT_EIO = -2,   /* broken or unparseable answer */
    CLIENT_ETIMEOUT = -3,
    CLIENT_ELARGE = -4, /* body beyond the limit */
};

/*
 * Ends requests from another thread: whatever they wait for then, also while
 * they connect, fails within a moment (not so the lookup of a host's name).
 * client_guard_interrupt() ends those under way, client_guard_close() also all
 * that come. It must outlive the clients that were opened with it.
 */
struct client;
struct client_guard {
    pthread_mutex_t mu; /* guards all below; taken before a client's */
    struct client *first;
    bool closed;
};

void client_guard_init(struct client_guard *g);
void client_guard_release(struct client_guard *g);
void client_guard_interrupt(struct client_guard *g);
void client_guard_close(struct client_guard *g);

struct client_request {
    const char *method;
    const struct url *base; /* scheme, host and port */
    const char *target;     /* path and query, already encoded: "/v2/keys" */
    const char *headers;    /* whole lines "Name: value\r\n...", or NULL */
    const void *body;       /* NULL: none */
    size_t n_body;
    int64_t dial_ms, timeout_ms; /* 0: none; the second for all of it */
    size_t body_max;             /* of the answer; 0: 64 MB */
    struct client_guard *guard;  /* NULL: none; for the client's whole life */
    struct secure *secure; /* for an https base; NULL: see secure_connect() */
};

struct client_response {
    int status;
    struct http_head head; /* strings point into head_bytes */
    struct buf head_bytes;
    struct buf body;
};

/* 0 and an owned *out, or CLIENT_E* and e in Go's words ("dial tcp ..."). The
 * connection is used once. */
int client_do(const struct client_request *r, struct client_response *out,
              struct err *e);
void client_response_release(struct client_response *r);

/* --- Open exchanges and kept connections. ------------------------------- */

/* Dial, send r, read the head of the answer. The body is read piecewise. */
int client_open(const struct client_request *r, struct client **out,
                struct err *e);
int client_status(const struct client *c);
const struct http_head *client_head(const struct client *c);
/* Exactly n bytes of the decoded body: 0, or CLIENT_E* (the end included). */
int client_read_full(struct client *c, void *p, size_t n, int64_t deadline_ns);
/* Some bytes, 0 at the end of the body, or CLIENT_E*. Without a deadline each
 * read may take read_ms, and costs a single system call. */
ssize_t client_read(struct client *c, void *p, size_t n, int64_t deadline_ns);
void client_set_read_ms(struct client *c, int64_t read_ms);
/* Is more of a chunked body here, or probably, than has been read? */
bool client_has_more(const struct client *c);
/*
 * After the body's end: send another request on the same connection. One that
 * the server had closed meanwhile is dialled anew, as one is that cannot be
 * used again. A request that may have reached the server is sent a second time
 * only if that changes nothing (GET, HEAD, OPTIONS).
 */
int client_again(struct client *c, const struct client_request *r,
                 struct err *e);
void client_close(struct client *c); /* NULL is fine */

/*
 * A request whose body is written piecewise: head first (Content-Length or
 * chunked when n_body_total < 0), then pieces, then the answer. After a write
 * that failed, client_finish() may still have an answer: a server that refuses
 * a body says so early. It leaves c to be closed.
 */
int client_begin(const struct client_request *r, int64_t n_body_total,
                 struct client **out, struct err *e);
int client_write(struct client *c, const void *p, size_t n,
                 int64_t deadline_ns);
int client_finish(struct client *c, struct client_response *out, struct err *e);

#endif
