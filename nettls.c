/*
 * nettls.c - TLS on a stream: the pump between a socket and the engine of
 * tls.h.
 *
 * READING is one thread's. `in` is its own: bytes of the socket, records of
 * which tls_receive() decrypts in place; `plain` is what came out and nobody
 * has taken.
 *
 *   in.data | taken | plain (inside a record) | further records | free |
 *           0                                 in_at             in.len
 *
 * WRITING  The engine has one lock, which covers tls_receive(), tls_write() and
 * the sends, none of which waits. So whoever reads can send what the engine
 * says by itself (alerts, new keys) while others write.
 *
 * What the engine has encrypted must go out whole, but a writer that does not
 * wait has to learn that the socket is full, and whoever waits for room only
 * knows bytes of his own. So bytes count as written once the records they are
 * in have left; until then they are `held`: the writer is told that they are
 * left, comes again with them, and they are skipped.
 */
#include "net_impl.h"

#include "sys.h"
#include "tls.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>

#define RECORD_MS 20000 /* from a record's first byte to its last */

struct nettls {
    pthread_mutex_t mu;
    struct tls *engine; /* mu */
    size_t held;        /* mu */

    /* The reader's. */
    struct buf in;
    size_t in_at;
    struct str plain;
    int64_t partial_since_ns; /* of a record that is not complete; or 0 */
    bool cut;                 /* the socket ended before the stream did */
};

/* --- Under the lock. ------------------------------------------------------ */

/* Send what the engine has. 0: all of it; 1: the socket is full; NET_EIO. */
static int send_locked(struct net_stream *s)
{
    struct tls *t = s->tls->engine;

    while (tls_wants_write(t)) {
        struct str out = tls_output(t);
        ssize_t r = send(s->fd, out.p, out.n, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (r >= 0)
            tls_sent(t, (size_t)r);
        else if (errno != EINTR)
            return net_would_block(errno) ? 1 : NET_EIO;
    }
    return 0;
}

/* --- Reading. ------------------------------------------------------------- */

enum step {
    STEP_FAILED = -1,
    STEP_MORE, /* no complete record is here */
    STEP_DONE, /* one was taken; there may be plaintext */
    STEP_END,  /* the other side has said that it ends */
};

static bool is_late(struct nettls *n)
{
    int64_t now;

    if (n->in_at == n->in.len)
        return false;
    now = sys_mono_ns();
    if (!n->partial_since_ns)
        n->partial_since_ns = now;
    return now - n->partial_since_ns > RECORD_MS * NS_PER_MS;
}

/* Take the next record, and send what the engine says to it. */
static enum step take_record(struct net_stream *s)
{
    struct nettls *n = s->tls;
    enum tls_state state;
    ssize_t used;

    pthread_mutex_lock(&n->mu);
    used = tls_receive(n->engine, n->in.data + n->in_at, n->in.len - n->in_at,
                       &n->plain);
    state = tls_state(n->engine);
    if (tls_wants_write(n->engine) && state != TLS_HANDSHAKE)
        (void)send_locked(s); /* a broken socket shows at the next call */
    pthread_mutex_unlock(&n->mu);

    if (used < 0 || state == TLS_FAILED) {
        errno = EPROTO;
        return STEP_FAILED;
    }
    if (used > 0) {
        n->in_at += (size_t)used;
        n->partial_since_ns = 0;
        return STEP_DONE;
    }
    if (state == TLS_CLOSED)
        return STEP_END;
    if (is_late(n)) {
        errno = ETIMEDOUT;
        return STEP_FAILED;
    }
    return STEP_MORE;
}

static void make_room(struct nettls *n)
{
    buf_consume(&n->in, n->in_at);
    n->in_at = 0;
    if (n->in.cap < TLS_INPUT_MAX)
        buf_reserve(&n->in, TLS_INPUT_MAX - n->in.len);
}

/* Bytes of the socket, without waiting or until deadline_ns: their number, or
 * NET_E*. An end here is not one that the other side has spoken of. */
static ssize_t fill(struct net_stream *s, bool wait, int64_t deadline_ns)
{
    struct nettls *n = s->tls;
    uint8_t *to;
    size_t room;
    ssize_t r;

    make_room(n);
    to = n->in.data + n->in.len;
    room = n->in.cap - n->in.len;
    r = wait ? net_raw_read(s, to, room, deadline_ns)
             : net_raw_try_read(s, to, room);
    if (r > 0) {
        n->in.len += (size_t)r;
    } else if (r == 0) {
        n->cut = true;
        errno = ECONNRESET;
        return NET_EIO;
    }
    return r;
}

static size_t give(struct nettls *n, void *p, size_t room)
{
    size_t k = n->plain.n < room ? n->plain.n : room;

    memcpy(p, n->plain.p, k);
    n->plain.p += k;
    n->plain.n -= k;
    return k;
}

static ssize_t layer_read(struct net_stream *s, void *p, size_t room,
                          int64_t deadline_ns)
{
    struct nettls *n = s->tls;

    while (n->plain.n == 0) {
        enum step step = take_record(s);
        ssize_t r;

        if (step == STEP_FAILED)
            return NET_EIO;
        if (step == STEP_END)
            return 0;
        if (step == STEP_DONE)
            continue;
        r = fill(s, true, deadline_ns);
        if (r < 0)
            return r;
    }
    return (ssize_t)give(n, p, room);
}

/* As much as fits: see net_buffered(). */
static ssize_t layer_try_read(struct net_stream *s, void *p, size_t room)
{
    struct nettls *n = s->tls;
    enum step step = STEP_DONE;
    bool dry = false; /* the socket gave less than there was room for */
    ssize_t r = 0;
    size_t got = 0;

    for (;;) {
        got += give(n, (uint8_t *)p + got, room - got);
        if (got == room)
            return (ssize_t)got;
        step = take_record(s);
        if (step == STEP_MORE) {
            if (got && dry)
                break;
            r = fill(s, false, 0);
            dry = n->in.len < n->in.cap;
        }
        if (step == STEP_FAILED || step == STEP_END || r < 0)
            break;
    }
    if (got)
        return (ssize_t)got;
    return step == STEP_FAILED ? NET_EIO : step == STEP_END ? 0 : r;
}

static bool layer_buffered(struct net_stream *s)
{
    struct nettls *n = s->tls;
    enum step step = STEP_DONE;

    while (n->plain.n == 0 && step == STEP_DONE)
        step = take_record(s);
    return step != STEP_MORE;
}

static bool layer_stale(struct net_stream *s)
{
    ssize_t r = 1;

    while (r > 0) { /* what comes may be no more than a ticket */
        if (layer_buffered(s))
            return true;
        r = fill(s, false, 0);
    }
    return r != NET_ETIMEOUT;
}

/* --- Writing. ------------------------------------------------------------- */

static size_t bytes_of(const struct iovec *iov, int n)
{
    size_t sum = 0;

    for (int i = 0; i < n; i++)
        sum += iov[i].iov_len;
    return sum;
}

static int layer_try_writev(struct net_stream *s, struct iovec **iov, int *n)
{
    struct nettls *t = s->tls;
    size_t done;
    int rc;

    pthread_mutex_lock(&t->mu);
    for (;;) {
        rc = send_locked(s);
        if (rc != 0)
            break;
        done = bytes_of(*iov, *n);
        if (done > t->held)
            done = t->held;
        t->held -= done; /* some stay held if less than was left came again */
        *iov = net_iov_skip(*iov, n, done);
        if (*n == 0)
            break;
        t->held = tls_write(t->engine, *iov,
                            *n < NET_IOV_AT_ONCE ? *n : NET_IOV_AT_ONCE);
        if (t->held == 0) { /* it failed, or we have ended it */
            errno = EPIPE;
            rc = NET_EIO;
            break;
        }
    }
    pthread_mutex_unlock(&t->mu);
    return rc < 0 ? rc : 0;
}

static void layer_end(struct net_stream *s)
{
    struct nettls *n = s->tls;

    pthread_mutex_lock(&n->mu);
    tls_close(n->engine);
    (void)send_locked(s); /* what does not fit is not worth a wait */
    pthread_mutex_unlock(&n->mu);
}

/* --- The rest. -------------------------------------------------------------- */

static const char *layer_trouble(const struct net_stream *s)
{
    struct nettls *n = s->tls;
    const char *text;

    pthread_mutex_lock(&n->mu);
    text = tls_error(n->engine);
    pthread_mutex_unlock(&n->mu);
    return *text || !n->cut ? text : "unexpected EOF";
}

static struct str layer_peer_cn(const struct net_stream *s)
{
    const struct x509_certs *chain = tls_peer(s->tls->engine);

    return chain->n ? chain->certs[0]->cn : (struct str){"", 0};
}

static void layer_trim(struct net_stream *s)
{
    struct nettls *n = s->tls;

    if (n->plain.n == 0 && n->in_at == n->in.len) {
        buf_release(&n->in);
        n->in_at = 0;
    }
    pthread_mutex_lock(&n->mu);
    tls_trim(n->engine);
    pthread_mutex_unlock(&n->mu);
}

static void layer_release(struct net_stream *s)
{
    struct nettls *n = s->tls;

    tls_free(n->engine);
    if (n->in.data)
        explicit_bzero(n->in.data, n->in.cap);
    buf_release(&n->in);
    pthread_mutex_destroy(&n->mu);
    free(n);
}

static const struct net_layer layer = {
    .read = layer_read,
    .try_read = layer_try_read,
    .try_writev = layer_try_writev,
    .buffered = layer_buffered,
    .stale = layer_stale,
    .trouble = layer_trouble,
    .peer_cn = layer_peer_cn,
    .end = layer_end,
    .trim = layer_trim,
    .release = layer_release,
};

/* --- Shaking hands. --------------------------------------------------------- */

/* All that the engine has to say. 0 or NET_E*. */
static int say(struct net_stream *s, int64_t deadline_ns)
{
    for (;;) {
        int rc;

        pthread_mutex_lock(&s->tls->mu);
        rc = send_locked(s);
        pthread_mutex_unlock(&s->tls->mu);
        if (rc <= 0)
            return rc;
        rc = net_wait_socket(s, POLLOUT, deadline_ns);
        if (rc < 0)
            return rc;
    }
}

static int shake_hands(struct net_stream *s, int64_t deadline_ns)
{
    for (;;) {
        int rc = say(s, deadline_ns);
        enum step step;

        if (rc < 0)
            return rc;
        if (tls_state(s->tls->engine) == TLS_OPEN)
            return 0;
        step = take_record(s);
        if (step == STEP_FAILED || step == STEP_END)
            return NET_EIO;
        if (step == STEP_DONE)
            continue;
        rc = (int)fill(s, true, deadline_ns);
        if (rc < 0)
            return rc;
    }
}

int net_start_tls(struct net_stream *s, struct tls *t, int64_t deadline_ns,
                  struct err *e)
{
    struct nettls *n = xcalloc(1, sizeof(*n));
    const char *why;
    int rc;

    pthread_mutex_init(&n->mu, NULL);
    n->engine = t;
    s->tls = n;
    s->layer = &layer;
    rc = shake_hands(s, deadline_ns);
    if (rc == 0)
        return 0;
    why = rc == NET_ETIMEOUT ? "i/o timeout" : net_trouble(s);
    if (n->cut && n->in.len == 0 && *tls_error(t) == '\0')
        why = "EOF"; /* it went away between two records */
    return err_set(e, rc, "%s", why);
}

const struct tls *net_tls(const struct net_stream *s)
{
    return s->tls->engine;
}
