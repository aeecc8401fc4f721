/*
 * net_impl.h - what net.c and nettls.c share: a stream, and the layer that
 * speaks for it when there is TLS on its socket.
 *
 * net.c knows TLS by this table alone, so that a program without TLS does not
 * link any of it.
 */
#ifndef NET_IMPL_H
#define NET_IMPL_H

#include "net.h"
#include "ways.h"

#define NET_NAME_MAX 56 /* "[" IPv6 "]:65535" */
#define NET_IOV_AT_ONCE 64

/* Contracts are those of the functions of net.h with the same names. */
struct net_layer {
    ssize_t (*read)(struct net_stream *s, void *p, size_t n,
                    int64_t deadline_ns);
    ssize_t (*try_read)(struct net_stream *s, void *p, size_t n);
    int (*try_writev)(struct net_stream *s, struct iovec **iov, int *n);
    bool (*buffered)(struct net_stream *s);
    bool (*stale)(struct net_stream *s);
    const char *(*trouble)(const struct net_stream *s); /* "": errno's */
    struct str (*peer_cn)(const struct net_stream *s);
    void (*end)(struct net_stream *s); /* tells the other side that we end */
    void (*trim)(struct net_stream *s);
    void (*release)(struct net_stream *s);
};

/* How fast requests follow one another, to choose how their reader waits. */
struct net_waits {
    int64_t heard_ns; /* when a wait ended */
    struct ways ways; /* asleep, awake; the time from one to the next */
};

struct net_stream {
    int fd;
    int64_t write_ms; /* of one wait, in writes without a deadline; 0: none */
    char peer[NET_NAME_MAX];
    const struct net_layer *layer; /* NULL: the socket's bytes are the stream */
    struct nettls *tls;            /* the layer's */
    struct net_waits waits;        /* the reader's */
    short awaits; /* atomic: events that a wait with a deadline is for; or 0 */
};

/* Wait for events on the socket: 0, or NET_ETIMEOUT, or NET_EIO. */
int net_wait_socket(struct net_stream *s, short events, int64_t deadline_ns);
bool net_would_block(int errnum);
/* Drop what has been written from the front of iov[0..*n). */
struct iovec *net_iov_skip(struct iovec *iov, int *n, size_t written);
/* The socket's own bytes, as net_read() and net_try_read() without a layer. */
ssize_t net_raw_read(struct net_stream *s, void *p, size_t n,
                     int64_t deadline_ns);
ssize_t net_raw_try_read(struct net_stream *s, void *p, size_t n);

#endif
