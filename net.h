/*
 * net.h - sockets: listeners, connected streams, dialling, and being told of
 * hang-ups without a thread that waits for them.
 *
 * A struct net_stream is a connected byte stream: TCP or a Unix-domain socket,
 * plain or, after net_start_tls(), with TLS behind the same calls. Deadlines are
 * sys_mono_ns() times; 0 means none, and then net_set_timeouts() counts.
 */
#ifndef NET_H
#define NET_H

#include "buf.h"
#include "url.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

enum {
    NET_EIO = -1,      /* broken; errno's text is in err where one is given */
    NET_ETIMEOUT = -2, /* the deadline passed */
};

/* --- Streams. Used by one reader and one writer thread at a time. ------- */

struct net_stream;

/*
 * Bytes read, 0 at the end of the stream, or NET_E* with errno set. Without a
 * deadline this is a single system call.
 */
ssize_t net_read(struct net_stream *s, void *p, size_t n, int64_t deadline_ns);
/* What is there, without waiting: NET_ETIMEOUT if nothing is. */
ssize_t net_try_read(struct net_stream *s, void *p, size_t n);
/*
 * With TLS, bytes may be read that nobody was given yet. A poll(2) of net_fd()
 * does not tell of those; this does, also of an end that was read. After a
 * net_try_read() that gave less than asked for there are none but such an end.
 */
bool net_buffered(struct net_stream *s);
/* Look at the socket's own bytes, without waiting or taking them: before TLS.
 * Bytes, 0 at the end, NET_ETIMEOUT if there are none, or NET_EIO. */
ssize_t net_peek(struct net_stream *s, void *p, size_t n);
/* poll(2), for the reader of s: awake for a moment if its peer is prompt. */
int net_poll(struct net_stream *s, struct pollfd *p, int n, int ms);
/* Wait until net_read() has something to say: 0, or NET_E*. */
int net_wait_readable(struct net_stream *s, int64_t deadline_ns);
/* All of it, or NET_E* with errno set. Never raises SIGPIPE. */
int net_write(struct net_stream *s, const void *p, size_t n,
              int64_t deadline_ns);
int net_writev(struct net_stream *s, struct iovec *iov, int n,
               int64_t deadline_ns); /* changes iov */
/*
 * What calls without a deadline may wait: a read for its first byte, a write
 * for each step of progress, so that a slow but living reader is served
 * however much there is to write. 0: for ever, as for a new stream.
 */
void net_set_timeouts(struct net_stream *s, int64_t read_ms, int64_t write_ms);
/* True if the other side has closed, or sent what nobody asked for: a kept
 * connection that is to be dialled anew. Does not wait. */
bool net_stale(struct net_stream *s);

/* Does the other side keep one of our threads waiting just now, rather than be
 * kept waiting by us? From any thread. */
bool net_keeps_waiting(const struct net_stream *s);

/* These wake whoever waits for that side; from any thread. */
void net_shutdown(struct net_stream *s);       /* both sides */
void net_shutdown_read(struct net_stream *s);  /* reads what came, then ends */
void net_shutdown_write(struct net_stream *s); /* tells the other side so */
/*
 * The other side may still be sending what we do not want to read. Were we just
 * to close, the kernel would reset the connection, and our last words with it:
 * end our side and read on for a while.
 */
void net_linger(struct net_stream *s, int64_t ms);
void net_close(struct net_stream *s); /* frees; NULL is fine */
/*
 * As much of it as goes without waiting: iov and *n are what is left. 0 or
 * NET_EIO. What is left must be what is written next, as a stream's bytes are:
 * with TLS its beginning may be encrypted already.
 */
int net_try_writev(struct net_stream *s, struct iovec **iov, int *n);
void net_trim(struct net_stream *s); /* frees idle memory; by the reader */
int net_fd(const struct net_stream *s);
/* "127.0.0.1:4711" of the other side; "@" for a Unix-domain socket. */
const char *net_peer_name(const struct net_stream *s);
/* Is this the address ip, in the form that net_peer_name() has it? */
bool net_addr_is(const struct sockaddr_storage *ss, struct str ip);
/* Text of an errno as Go prints it, the same under every libc. */
const char *net_errno_text(int errnum);
/* Why the last call gave NET_EIO: errno's text, or what TLS says: "remote error:
 * tls: bad certificate". */
const char *net_trouble(const struct net_stream *s);

/* --- TLS on a stream (nettls.c). ---------------------------------------- */

struct tls;

/*
 * Shake hands, on the thread that will read. Takes t, whose configuration says
 * all else (tls.h). 0; or NET_E* and e in Go's words, and then only
 * net_close() is left. Any one thread may write at a time, as before: the
 * engine has a lock, held over sends that do not wait, never over a wait.
 */
int net_start_tls(struct net_stream *s, struct tls *t, int64_t deadline_ns,
                  struct err *e);
/* The engine, for what was agreed on and the other side's certificates: those
 * do not change after net_start_tls(). The stream is one with TLS. */
const struct tls *net_tls(const struct net_stream *s);
bool net_is_tls(const struct net_stream *s);
/* The common name in the certificate that the other side has proven to be its
 * own; "" without one, or if we did not ask for a proof. Borrowed. */
struct str net_peer_cn(const struct net_stream *s);

/* --- Listening. --------------------------------------------------------- */

enum { NET_PLAIN = 1, NET_TLS = 2 }; /* bits */

struct net_listener {
    int fd;
    int schemes;     /* what its URL asks for; the owner may allow both */
    struct url url;  /* as configured; port 0 is replaced by the real one */
    char *unix_path; /* removed on close; NULL for TCP */
};

struct net_listen_options {
    bool reuse_port, reuse_address;
};

/*
 * Bind and listen. Errors in etcd's words: "listen tcp 127.0.0.1:2379: bind:
 * address already in use", which is said after a second of trying. o may be
 * NULL. SO_REUSEADDR is always set, as Go does: it lets a restarted server have
 * its port while old connections linger. A Unix-domain socket is named
 * host:port of its URL; a file of that name that nobody listens on is removed
 * first.
 */
int net_listen(const struct url *u, const struct net_listen_options *o,
               struct net_listener *out, struct err *e);
void net_listener_shutdown(struct net_listener *l); /* ends net_accept() */
void net_listener_close(struct net_listener *l);

/*
 * Accept one connection with TCP_NODELAY and 30 s keepalive. NULL with *again
 * true: try again after a pause (out of descriptors or memory; this function
 * has slept for it, so the caller does not spin). NULL with *again false: the
 * listener was shut down.
 */
struct net_stream *net_accept(struct net_listener *l, bool *again);

/* --- Dialling. ---------------------------------------------------------- */

/*
 * Connect to u's host and port (or Unix path). Errors as Go prints them:
 * "dial tcp 127.0.0.1:2379: connect: connection refused"; e->code NET_E*.
 * Gives up within a moment after another thread has set *stop (atomically).
 */
struct net_stream *net_dial(const struct url *u, int64_t deadline_ns,
                            const bool *stop, struct err *e);

/* --- Hang-ups. ---------------------------------------------------------- */

/*
 * A thread that waits for an event, such as a watcher's, cannot wait for its
 * client's hang-up as well. net_park() hands the socket to one shared epoll
 * thread, which calls fn(arg) once if the client closes or half-closes. fn
 * must only set a flag and signal. net_unpark() returns after a call of fn
 * that is under way has ended, so do not hold a lock then that fn takes.
 */
struct net_park {
    int fd;
    uint32_t ticket; /* tells this parking from an earlier one of the fd */
    void (*fn)(void *arg);
    void *arg;
    bool fired;
};

/* 0, or -1 (out of memory or descriptors: no notice will come). */
int net_park(struct net_park *p, struct net_stream *s, void (*fn)(void *),
             void *arg);
/* The same, and fn is also called if there is something to read. That is once,
 * too: park anew, when net_try_read() has found nothing more. */
int net_park_input(struct net_park *p, struct net_stream *s, void (*fn)(void *),
                   void *arg);
void net_unpark(struct net_park *p); /* also after a net_park() that failed */
/* End the epoll thread; nothing may be parked. For a clean exit. */
void net_park_stop(void);

/* Raise RLIMIT_NOFILE to its hard limit; returns the limit. */
uint64_t net_raise_fd_limit(void);

#endif
