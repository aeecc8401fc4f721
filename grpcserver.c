/*
 * grpcserver.c - gRPC over HTTP/2: connections and their calls.
 *
 *   struct conn   one HTTP/2 connection. `mu` covers the engine (http2.h) and
 *                 the list of calls; it is held for microseconds, never over
 *                 I/O, and never while a handler runs.
 *   struct call   one stream: a struct rpc_call, and what gRPC needs around it
 *
 * WRITING  pump() writes what the engine has, unless somebody else is at it
 * (`writing`) or the rest is the connection's thread's (`owed`): because the
 * socket was full, another thread has written PUMP_MAX already, or more calls are
 * under way, whose answers had better be sent together.
 * Then the thread is woken, and waits for the socket to become writable. While
 * it works through what it has read (`batching`), its own answers wait, to be
 * sent together.
 *
 * HOLDING  A client that asks and does not read what it is answered must not fill
 * the memory. When ANSWERS_MAX bytes wait for it, or RUNNING_MAX of its calls are
 * under way, further unary calls are read and held, unconsumed, so that its
 * window for requests closes; they run, in order, when there is room.
 *
 * WAKING  Who wants the connection's thread to do something sets it down under
 * wake_mu, a leaf, and writes to the eventfd if that thread sleeps. It says that it does
 * under the same lock, after it found nothing there. So rpc_wake() is allowed
 * under any lock, such as the server's, under which watchers are told.
 *
 * LIVES  A call is referred to by its stream (until that is closed or the call
 * ended), by its handler (until it ended the call), by a source that the engine
 * holds, by the list of the woken, and by who runs a callback. Each call refers
 * to its connection, whose memory therefore outlives socket and thread as long
 * as a late answer may come.
 *
 * LOCK ORDER  mu of a connection, then the server's locks (taken by on_pull()),
 * then wake_mu.
 */
#include "grpcserver.h"
#include "grpc.h"
#include "http2.h"
#include "log.h"
#include "rpc.h"
#include "rpccount.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define INPUT_SIZE (2 * H2_INPUT_MAX)
#define INPUT_LEAST 4096
#define OUTPUT_STEP (64 * 1024) /* of a batch of the engine's */
#define PUMP_MAX (128 * 1024)   /* bytes that others write for a connection */
#define ANSWERS_MAX (4 * 1024 * 1024) /* bytes, before requests are held */
#define RUNNING_MAX 1000              /* calls, likewise */
#define IOV_AT_ONCE 64
#define BUSY_CALLS 4               /* whose answers are sent together */
#define OWN_PUMP_MAX (1024 * 1024) /* and its own thread, before it reads */
#define WINDOW_STREAM (256 * 1024) /* what clients may send ahead */
#define WINDOW_CONN (1024 * 1024)
#define QUIET_NS NS_PER_S /* then idle memory is given back */
#define LINGER_MS 500
#define PULL_STEP 16384
#define TOKEN_MAX 8192
#define TEXT_MAX 256
#define PEER_MAX 64

struct call;

struct conn {
    struct grpcserver *g;
    struct net_stream *stream;
    char peer[PEER_MAX]; /* the client's address */
    pthread_t thread;
    int wake_fd;
    struct buf in; /* the thread's: what is read and not parsed */

    pthread_mutex_t mu;
    struct h2 *h2; /* mu; NULL when the connection has ended */
    int refs;      /* mu; calls, and the thread */
    bool writing, owed, batching;
    bool more;           /* the thread's: more is read than was looked at */
    bool flush;          /* the thread's: calls were told so */
    bool broken;         /* mu; nothing can be written any more */
    pthread_cond_t room; /* mu; progress, for who waits to send, or for the
                              end of writing */
    unsigned n_waiting;  /* mu; for room */
    uint32_t plain;      /* the thread's: a stream; see refuse_plain() */
    struct call *calls;  /* mu */
    struct call *dead;   /* mu; for unlock() */
    unsigned n_unary;    /* mu; calls that are not streams */
    unsigned n_running;  /* mu; of these, with their handlers, but RPC_WAITS */
    struct call *held_first, **held_last; /* mu */
    unsigned n_refused;     /* mu; calls that on_writable() is due to */
    unsigned n_has_leader;  /* mu; streams */
    int64_t leader_seen_ns; /* the thread's */
    int64_t next_due_ns;    /* mu; no call's is sooner; INT64_MAX: none */

    pthread_mutex_t wake_mu;    /* a leaf */
    bool sleeping, woken, deaf; /* wake_mu; deaf: nobody reads on */
    struct call *woken_calls;   /* wake_mu */

    struct conn *prev, *next; /* g->mu */
};

struct call {
    struct rpc_call rpc; /* first: they are one */
    struct conn *conn;
    struct call *prev, *next; /* conn->calls */
    uint32_t stream;
    int refs;      /* atomic; dropped under conn->mu */
    bool attached; /* it is the stream's, and in the list */
    bool started;  /* the handler was called */
    bool ended;    /* it ended the call */
    bool head_sent, half_closed, refused, told_gone, sourced;
    bool is_woken;           /* wake_mu */
    struct call *next_woken; /* wake_mu */
    struct call *next_held;
    bool held;
    struct grpc_reader reader;
    size_t partial; /* counted of g->partial */
    struct str encoding;
    struct arena message_arena; /* of a stream's present message */
    struct rpc_out out;         /* what on_pull() made */
    bool pulled_all, source_over;
};

struct grpcserver {
    struct server *server;
    struct h2_options h2;
    uint32_t message_max;
    size_t partial; /* atomic: bytes of unfinished messages */
    size_t n_calls; /* atomic */
    pthread_mutex_t mu;
    struct conn *conns; /* mu */
    bool stopping;      /* mu for writing; atomic for reading */
};

static const struct rpc_door door;

/* --- Waking the connection's thread. ------------------------------------------ */

static void wake_locked(struct conn *c) /* wake_mu is held */
{
    uint64_t one = 1;

    c->woken = true;
    if (!c->sleeping)
        return;
    c->sleeping = false;
    while (write(c->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

static void wake(struct conn *c)
{
    pthread_mutex_lock(&c->wake_mu);
    wake_locked(c);
    pthread_mutex_unlock(&c->wake_mu);
}

/* --- Lives. --------------------------------------------------------------------- */

static void conn_free(struct conn *c)
{
    pthread_cond_destroy(&c->room);
    pthread_mutex_destroy(&c->mu);
    pthread_mutex_destroy(&c->wake_mu);
    close(c->wake_fd);
    free(c);
}

static void partial_add(struct call *k, size_t n)
{
    __atomic_fetch_add(&k->conn->g->partial, n - k->partial, __ATOMIC_RELAXED);
    k->partial = n;
}

/* Its connection may be gone. */
static void call_free(struct call *k)
{
    grpc_reader_release(&k->reader);
    rpc_out_release(&k->out);
    arena_release(&k->rpc.arena);
    arena_release(&k->message_arena);
    free(k);
}

/* Calls that nobody refers to any more are freed behind the lock. */
static void unlock(struct conn *c)
{
    struct call *dead = c->dead, *next;

    c->dead = NULL;
    pthread_mutex_unlock(&c->mu);
    for (; dead; dead = next) {
        next = dead->next;
        call_free(dead);
    }
}

/* For threads other than its own: mu, and a reference, so that c is there until
 * conn_unlock(). */
static void conn_lock(struct conn *c)
{
    pthread_mutex_lock(&c->mu);
    c->refs++;
}

static void conn_unlock(struct conn *c)
{
    bool last = --c->refs == 0;

    unlock(c);
    if (last)
        conn_free(c);
}

static void call_ref(struct call *k)
{
    __atomic_fetch_add(&k->refs, 1, __ATOMIC_RELAXED);
}

static void call_unref(struct call *k) /* mu is held */
{
    struct conn *c = k->conn;

    if (__atomic_sub_fetch(&k->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    assert(!k->attached);
    partial_add(k, 0);
    __atomic_fetch_sub(&c->g->n_calls, 1, __ATOMIC_RELAXED);
    k->next = c->dead;
    c->dead = k;
    c->refs--; /* whoever holds mu has one still */
}

static struct call *call_new(struct conn *c, uint32_t stream,
                             const struct rpc_method *m)
{
    struct call *k = xcalloc(1, sizeof(*k));

    k->rpc.door = &door;
    k->rpc.peer = c->peer;
    k->rpc.server = c->g->server;
    k->rpc.arena.limit = k->message_arena.limit = RPC_ARENA_MAX;
    k->conn = c;
    k->stream = stream;
    k->reader.n_max = c->g->message_max;
    k->refs = 1;
    __atomic_fetch_add(&c->g->n_calls, 1, __ATOMIC_RELAXED);
    k->attached = true;
    c->refs++;
    k->rpc.method = m;
    c->n_unary += m->streams == 0;
    k->next = c->calls;
    if (k->next)
        k->next->prev = k;
    c->calls = k;
    h2_set_user(c->h2, stream, k);
    return k;
}

/* The stream is closed, or nobody is to hear of it any more. */
static void detach(struct call *k)
{
    struct conn *c = k->conn;

    if (!k->attached)
        return;
    k->attached = false;
    if (k->prev)
        k->prev->next = k->next;
    else
        c->calls = k->next;
    if (k->next)
        k->next->prev = k->prev;
    c->n_unary -= k->rpc.method->streams == 0;
    if (k->refused)
        c->n_refused--;
    if (k->started && k->rpc.has_leader && k->rpc.method->streams)
        c->n_has_leader--;
    if (c->n_waiting)
        pthread_cond_broadcast(&c->room);
    h2_set_user(c->h2, k->stream, NULL);
    call_unref(k);
}

/* --- Writing. ---------------------------------------------------------------------- */

static size_t iov_bytes(const struct iovec *iov, int n)
{
    size_t sum = 0;

    for (int i = 0; i < n; i++)
        sum += iov[i].iov_len;
    return sum;
}

/* Write a batch, as far as it goes without waiting. mu is released meanwhile.
 * Bytes written; *full: the socket took no more. */
static size_t write_batch(struct conn *c, const struct iovec *iov, int n,
                          bool *full)
{
    struct iovec copy[IOV_AT_ONCE], *rest = copy; /* the engine's stay as they
                                                     are: h2_sent() counts */
    int n_rest = n < IOV_AT_ONCE ? n : IOV_AT_ONCE;
    size_t all = iov_bytes(iov, n_rest), done;
    int rc;

    memcpy(copy, iov, (size_t)n_rest * sizeof(*copy));
    pthread_mutex_unlock(&c->mu);
    rc = net_try_writev(c->stream, &rest, &n_rest);
    pthread_mutex_lock(&c->mu);
    if (rc < 0) {
        c->broken = true;
        return 0;
    }
    done = all - iov_bytes(rest, n_rest);
    *full = done < all;
    return done;
}

/* The rest is for the connection's own thread. */
static void owe(struct conn *c)
{
    c->owed = true;
    if (!pthread_equal(pthread_self(), c->thread))
        wake(c);
}

/* Write what there is, unless others do. mu is held. */
static void pump(struct conn *c)
{
    bool own = pthread_equal(pthread_self(), c->thread);
    size_t max = own ? OWN_PUMP_MAX : PUMP_MAX, sum = 0;
    bool full = false;

    if (!c->h2 || c->writing || c->owed || c->broken || (own && c->batching))
        return;
    if (!own && c->n_unary >= BUSY_CALLS && h2_wants_write(c->h2)) {
        owe(c); /* more answers are to be expected: they go together */
        return;
    }
    c->writing = true;
    while (!c->broken && !full && sum < max && h2_wants_write(c->h2)) {
        struct iovec *iov;
        int n = h2_output(c->h2, OUTPUT_STEP, &iov);
        size_t done;

        if (n == 0)
            break;
        done = write_batch(c, iov, n, &full);
        h2_sent(c->h2, done);
        sum += done;
    }
    c->writing = false;
    if (!c->broken && h2_wants_write(c->h2))
        owe(c);
    else if (c->broken || (c->n_refused && !own))
        wake(c);
    if (c->held_first && !own)
        wake(c);
    if (c->n_waiting)
        pthread_cond_broadcast(&c->room);
}

/* --- Answers. ------------------------------------------------------------------------ */

static const struct hpack_field head_fields[] = {
    HPACK_FIELD(":status", "200"),
    HPACK_FIELD("content-type", "application/grpc"),
};

static void send_head(struct call *k)
{
    if (k->head_sent)
        return;
    k->head_sent = true;
    h2_headers(k->conn->h2, k->stream, head_fields, ARRAY_LEN(head_fields),
               false);
}

/* Status and text as trailers, or as all there is. */
static void send_end(struct call *k, int code, const char *text)
{
    struct h2 *h2 = k->conn->h2;
    struct buf message = {0};
    char digits[12];
    int n = snprintf(digits, sizeof(digits), "%d", code);
    struct hpack_field f[] = {
        head_fields[0],
        head_fields[1],
        {STR("grpc-status"), {digits, (size_t)n}, HPACK_AUTO},
        {STR("grpc-message"), {"", 0}, HPACK_AUTO},
    };

    grpc_encode_message(&message, str_of(text));
    f[3].value = buf_str(&message);
    if (message.len)
        f[3].how = HPACK_PLAIN;
    if (k->head_sent) {
        h2_end(h2, k->stream, f + 2, 2);
        if (k->sourced)
            h2_wake(h2, k->stream);
    } else {
        k->head_sent = true;
        h2_headers(h2, k->stream, f, 4, true);
    }
    buf_release(&message);
}

/* May the call still say something? */
static bool can_send(const struct call *k)
{
    return k->attached && k->conn->h2 && !k->conn->broken;
}

/* Who waits for a lock takes no time of others: it may be the very connection's
 * next request that lets go of it. */
static bool counts_as_running(const struct call *k)
{
    return !rpc_is_endless(k->rpc.method);
}

/* The handler ends the call: with a message (or none) and a status. Takes b. */
static void end_call(struct rpc_call *r, struct buf *b, int code,
                     const char *text)
{
    struct call *k = (struct call *)r;
    struct conn *c = k->conn;

    if (b)
        rpc_sent(r, b->len - GRPC_PREFIX);
    rpc_ended(r, code);
    conn_lock(c);
    assert(k->started && !k->ended);
    k->ended = true;
    if (counts_as_running(k))
        c->n_running--;
    if (c->held_first)
        wake(c);
    if (can_send(k)) {
        if (b) {
            send_head(k);
            h2_send(c->h2, k->stream, b->data, b->len);
        }
        send_end(k, code, text);
        detach(k);
        pump(c);
    }
    call_unref(k); /* the handler's; k may be gone */
    conn_unlock(c);
    if (b)
        buf_release(b);
}

static void encode(struct call *k, const void *response, struct buf *b)
{
    const struct msg_desc *d = k->rpc.method->response;
    size_t n = msg_size(d, response);

    buf_reserve(b, GRPC_PREFIX + n);
    b->len = GRPC_PREFIX;
    msg_encode(d, response, b);
    grpc_put_prefix(b->data, (uint32_t)n, false);
}

static void door_reply(struct rpc_call *r, const void *response)
{
    struct buf b = {0};

    encode((struct call *)r, response, &b);
    end_call(r, &b, GRPC_OK, "");
}

static_assert(RPC_ROOM == GRPC_PREFIX, "what handlers leave room for");

static void door_reply_bytes(struct rpc_call *r, struct buf *message)
{
    grpc_put_prefix(message->data, (uint32_t)(message->len - GRPC_PREFIX),
                    false);
    end_call(r, message, GRPC_OK, "");
}

static void door_fail(struct rpc_call *r, int code, const char *text)
{
    end_call(r, NULL, code, text);
}

static void door_finish(struct rpc_call *r)
{
    end_call(r, NULL, GRPC_OK, "");
}

/* --- Streams. ------------------------------------------------------------------------ */

static bool has_room(const struct call *k)
{
    return h2_stream_queued(k->conn->h2, k->stream) < RPC_QUEUE_MAX;
}

/* True: there is room. False: the call is gone, or there is none yet. */
static bool await_room(struct call *k, bool wait)
{
    struct conn *c = k->conn;

    while (wait && can_send(k) && !has_room(k)) {
        c->n_waiting++;
        pthread_cond_wait(&c->room, &c->mu);
        c->n_waiting--;
    }
    return can_send(k) && has_room(k);
}

static bool door_send(struct rpc_call *r, const void *response, bool wait)
{
    struct call *k = (struct call *)r;
    struct conn *c = k->conn;
    struct buf b = {0};
    bool sent;

    encode(k, response, &b);
    conn_lock(c);
    assert(!k->ended);
    sent = await_room(k, wait);
    if (sent) {
        send_head(k);
        h2_send(c->h2, k->stream, b.data, b.len);
        rpc_sent(r, b.len - GRPC_PREFIX);
        pump(c);
    } else if (k->attached && !k->refused) {
        k->refused = true;
        c->n_refused++;
    }
    conn_unlock(c);
    buf_release(&b);
    return sent;
}

static void door_wake(struct rpc_call *r)
{
    struct call *k = (struct call *)r;
    struct conn *c = k->conn;

    pthread_mutex_lock(&c->wake_mu);
    if (!k->is_woken && !c->deaf) {
        k->is_woken = true;
        call_ref(k);
        k->next_woken = c->woken_calls;
        c->woken_calls = k;
        wake_locked(c);
    }
    pthread_mutex_unlock(&c->wake_mu);
}

/* The engine asks for at most room bytes: under mu. */
static enum h2_pulled pull(void *arg, struct h2_sink *sink, size_t room)
{
    struct call *k = arg;

    while (room > 0) {
        struct str piece = rpc_out_next(&k->out);
        enum rpc_pulled rc;

        if (piece.n > 0) {
            if (piece.n > room)
                piece.n = room;
            h2_sink_add(sink, piece.p, piece.n);
            rpc_out_took(&k->out, piece.n);
            room -= piece.n;
            continue;
        }
        if (k->ended || k->rpc.gone || k->pulled_all)
            return H2_PULL_DONE;
        rc = k->rpc.on_pull(&k->rpc, &k->out, PULL_STEP);
        k->pulled_all = rc == RPC_PULL_DONE;
        if (rc == RPC_PULL_WAIT && rpc_out_next(&k->out).n == 0)
            return H2_PULL_WAIT;
    }
    return H2_PULL_MORE;
}

/* All is made, or the stream was closed first. */
static void release_source(void *arg)
{
    struct call *k = arg;

    k->source_over = true;
    if (!k->ended)
        door_wake(&k->rpc); /* on_gone() is due, on the connection's thread */
    call_unref(k);
}

/* The body is made by on_pull() from here on. mu is held. */
static void add_source(struct call *k)
{
    struct h2_source source = {pull, release_source, k};

    send_head(k);
    k->sourced = true;
    call_ref(k);
    h2_send_source(k->conn->h2, k->stream, &source);
}

static void door_reply_paced(struct rpc_call *r, uint64_t size,
                             void (*done)(struct rpc_call *r))
{
    struct call *k = (struct call *)r;
    struct conn *c = k->conn;
    uint8_t prefix[GRPC_PREFIX];
    bool gone;

    grpc_put_prefix(prefix, (uint32_t)size, false);
    conn_lock(c);
    gone = !can_send(k);
    if (!gone) {
        r->on_gone = done;
        rpc_sent(r, (size_t)size);
        send_head(k);
        h2_send(c->h2, k->stream, prefix, sizeof(prefix));
        add_source(k);
        send_end(k, GRPC_OK, "");
        pump(c);
    }
    conn_unlock(c);
    if (gone)
        done(r);
}

/* --- Callbacks: on the connection's thread, mu released meanwhile. ------------------- */

static void call_back(struct call *k, void (*fn)(struct rpc_call *r))
{
    struct conn *c = k->conn;

    if (!fn || !k->started || k->ended)
        return;
    call_ref(k);
    pthread_mutex_unlock(&c->mu);
    fn(&k->rpc);
    pthread_mutex_lock(&c->mu);
    call_unref(k);
}

static void tell_gone(struct call *k)
{
    if (k->told_gone)
        return;
    k->told_gone = true;
    call_back(k, k->rpc.on_gone);
}

/* Nothing can be sent to its client any more. */
static void lose(struct call *k)
{
    call_ref(k);
    __atomic_store_n(&k->rpc.gone, true, __ATOMIC_RELEASE);
    detach(k);
    tell_gone(k);
    call_unref(k);
}

/* End a call over its handler's head. */
static void kill_call(struct call *k, int code, const char *text)
{
    k->rpc.gone_code = code;
    if (k->source_over || (k->sourced && !k->rpc.method->streams))
        h2_reset(k->conn->h2, k->stream, H2_CANCEL);
    else
        send_end(k, code, text);
    lose(k);
}

static void door_cancel(struct rpc_call *r, int code, const char *text)
{
    struct call *k = (struct call *)r;
    struct conn *c = k->conn;

    conn_lock(c);
    if (can_send(k)) {
        kill_call(k, code, text);
        pump(c);
    }
    conn_unlock(c);
}

/* --- Requests. ------------------------------------------------------------------------ */

/* Answers a request that never becomes a call; end: that is all. */
static void refuse_http(struct conn *c, uint32_t stream, const char *status,
                        int code, const char *text, bool end)
{
    struct buf message = {0};
    char digits[12];
    int n = snprintf(digits, sizeof(digits), "%d", code);
    struct hpack_field f[] = {
        {STR(":status"), str_of(status), HPACK_AUTO},
        head_fields[1],
        {STR("grpc-status"), {digits, (size_t)n}, HPACK_AUTO},
        {STR("grpc-message"), {"", 0}, HPACK_PLAIN},
    };

    grpc_encode_message(&message, str_of(text));
    f[3].value = buf_str(&message);
    h2_headers(c->h2, stream, f, ARRAY_LEN(f), end);
    buf_release(&message);
}

static void end_plain(struct conn *c)
{
    if (c->plain)
        h2_end(c->h2, c->plain, NULL, 0);
    c->plain = 0;
}

/*
 * What is no gRPC hears so at once. But if the request goes on, its stream ends
 * with it only, or with the next such one: so what is wrong with its body is
 * still answered as RFC 9113 demands.
 */
static void refuse_plain(struct conn *c, const struct h2_event *ev,
                         const char *status, int code, const char *text)
{
    bool end = ev->end || __atomic_load_n(&c->g->stopping, __ATOMIC_ACQUIRE);

    refuse_http(c, ev->stream, status, code, text, end);
    if (end)
        return;
    end_plain(c);
    c->plain = ev->stream;
}

/* Is it a gRPC request at all? */
static bool is_grpc(struct conn *c, const struct h2_event *ev)
{
    struct str type = h2_field(ev, "content-type");
    char text[TEXT_MAX];

    if (!type.p || !grpc_content_type(type)) {
        snprintf(text, sizeof(text),
                 "invalid gRPC request content-type \"%.*s\"",
                 (int)min_u64(type.n, 100), type.p ? type.p : "");
        refuse_plain(c, ev, "415", GRPC_INVALID_ARGUMENT, text);
        return false;
    }
    if (!str_eqz(ev->method, "POST")) {
        refuse_plain(c, ev, "405", GRPC_INTERNAL,
                     "a gRPC request has the method POST");
        return false;
    }
    return true;
}

static void look_forward(struct conn *c, int64_t at_ns)
{
    if (at_ns && at_ns < c->next_due_ns)
        c->next_due_ns = at_ns;
}

static void set_deadline(struct call *k, int64_t ns)
{
    int64_t now = sys_mono_ns();

    k->rpc.deadline_ns = ns > INT64_MAX - now ? INT64_MAX : now + ns;
    look_forward(k->conn, k->rpc.deadline_ns);
}

/* Who may do without a token: the name in a certificate that was asked for. */
static struct str certified_name(const struct conn *c)
{
    struct str cn = net_peer_cn(c->stream);

    if (!server_config(c->g->server)->client_tls.client_cert_auth ||
        !auth_name_from_certificate(cn, false))
        return STR("");
    return cn;
}

/* What the head says; false if the call was refused for it. */
static bool read_head(struct call *k, const struct h2_event *ev)
{
    struct str timeout = h2_field(ev, "grpc-timeout");
    struct str token = h2_field(ev, "token");
    struct str encoding = h2_field(ev, "grpc-encoding");
    int64_t ns;

    if (!token.p)
        token = h2_field(ev, "authorization");
    k->rpc.has_leader = str_eqz(h2_field(ev, "hasleader"), "true");
    if (!rpc_set_token(&k->rpc, token) ||
        !arena_str(&k->rpc.arena, h2_field(ev, "client-api-version"),
                   &k->rpc.api_version) ||
        !arena_str(&k->rpc.arena, certified_name(k->conn), &k->rpc.cn) ||
        !arena_str(&k->rpc.arena, encoding, &k->encoding)) {
        kill_call(k, GRPC_RESOURCE_EXHAUSTED, "too long metadata");
        return false;
    }
    if (!timeout.p)
        return true;
    if (!grpc_parse_timeout(timeout, &ns)) {
        kill_call(k, GRPC_INTERNAL, "malformed grpc-timeout");
        return false;
    }
    set_deadline(k, ns);
    if (k->rpc.deadline_ns <= sys_mono_ns()) {
        kill_call(k, GRPC_DEADLINE_EXCEEDED, "context deadline exceeded");
        return false;
    }
    return true;
}

static void door_set_timer(struct rpc_call *r, int64_t at_ns)
{
    struct conn *c = ((struct call *)r)->conn;

    pthread_mutex_lock(&c->mu);
    r->timer_ns = at_ns;
    look_forward(c, at_ns);
    pthread_mutex_unlock(&c->mu);
}

static const struct rpc_door door = {
    .reply = door_reply,
    .reply_bytes = door_reply_bytes,
    .reply_paced = door_reply_paced,
    .fail = door_fail,
    .send = door_send,
    .wake = door_wake,
    .set_timer = door_set_timer,
    .cancel = door_cancel,
    .finish = door_finish,
};

/* The handler runs, mu released meanwhile; the call may be gone then. */
static void run(struct call *k)
{
    struct conn *c = k->conn;
    bool streams = k->rpc.method->streams != 0;

    k->started = true;
    if (k->rpc.has_leader && streams && c->n_has_leader++ == 0)
        c->leader_seen_ns = sys_mono_ns();
    call_ref(k); /* the handler's */
    call_ref(k); /* ours */
    k->rpc.more = c->more;
    c->flush |= c->more;
    c->n_running += counts_as_running(k);
    pthread_mutex_unlock(&c->mu);
    rpc_run(&k->rpc);
    pthread_mutex_lock(&c->mu);
    if (can_send(k) && !k->ended && streams && k->rpc.on_pull && !k->sourced)
        add_source(k);
    call_unref(k);
}

/* --- Messages. ------------------------------------------------------------------------- */

static const char *decode_error_text(int rc)
{
    switch (rc) {
    case MSG_ELIMIT:
        return "grpc: the message unfolds to too much";
    case MSG_EDEPTH:
        return "grpc: the message is nested too deeply";
    default:
        return "grpc: failed to unmarshal the received message";
    }
}

static void kill_undecodable(struct call *k, int rc)
{
    kill_call(k, rc == MSG_ELIMIT ? GRPC_RESOURCE_EXHAUSTED : GRPC_INTERNAL,
              decode_error_text(rc));
}

/* Decode into an arena; bytes that lie in the input are copied first. NULL if
 * the call was ended for it. */
static const void *decode(struct call *k, struct arena *a, struct str *bytes)
{
    const struct msg_desc *d = k->rpc.method->request;
    void *out = arena_alloc(a, d->size);
    int rc = MSG_ELIMIT;

    if (out && (k->reader.buf.len || arena_str(a, *bytes, bytes)))
        rc = msg_decode(d, bytes->p, bytes->n, a, out);
    if (rc == 0)
        return out;
    kill_undecodable(k, rc);
    return NULL;
}

static bool must_hold(const struct conn *c)
{
    return c->n_running >= RUNNING_MAX || h2_queued(c->h2) >= ANSWERS_MAX;
}

static void hold(struct call *k)
{
    struct conn *c = k->conn;

    call_ref(k);
    k->held = true;
    *c->held_last = k;
    c->held_last = &k->next_held;
}

static struct call *unhold(struct conn *c)
{
    struct call *k = c->held_first;

    c->held_first = k->next_held;
    if (!c->held_first)
        c->held_last = &c->held_first;
    return k;
}

static void on_unary(struct call *k, struct str bytes)
{
    if (k->started || k->held) {
        kill_call(k, GRPC_INTERNAL, "more than one message");
        return;
    }
    k->rpc.request = decode(k, &k->rpc.arena, &bytes);
    if (!k->rpc.request)
        return;
    k->rpc.request_bytes = bytes;
    if (k->conn->held_first || must_hold(k->conn))
        hold(k);
    else
        run(k);
}

static void on_stream_message(struct call *k, struct str bytes)
{
    struct conn *c = k->conn;
    const void *request;

    if (k->ended || !k->rpc.on_message)
        return;
    arena_reset(&k->message_arena);
    request = decode(k, &k->message_arena, &bytes);
    if (!request)
        return;
    rpc_count_received(k->rpc.method, bytes.n);
    call_ref(k);
    pthread_mutex_unlock(&c->mu);
    k->rpc.on_message(&k->rpc, request);
    pthread_mutex_lock(&c->mu);
    call_unref(k);
}

static void on_message(struct call *k, const struct grpc_message *m)
{
    char text[TEXT_MAX];

    if (m->compressed) {
        snprintf(text, sizeof(text),
                 "grpc: Decompressor is not installed for grpc-encoding "
                 "\"%.*s\"",
                 (int)min_u64(k->encoding.n, 100),
                 k->encoding.p ? k->encoding.p : "");
        kill_call(k, GRPC_UNIMPLEMENTED, text);
    } else if (k->rpc.method->streams & RPC_CLIENT_STREAM) {
        on_stream_message(k, m->bytes);
    } else {
        on_unary(k, m->bytes);
    }
}

static void kill_unreadable(struct call *k, int rc)
{
    char text[TEXT_MAX];

    if (rc == GRPC_ELARGE) {
        snprintf(text, sizeof(text),
                 "grpc: received message larger than max (%lu vs. %lu)",
                 (unsigned long)k->reader.n, (unsigned long)k->reader.n_max);
        kill_call(k, GRPC_RESOURCE_EXHAUSTED, text);
    } else {
        kill_call(k, GRPC_INTERNAL, "grpc: received unexpected payload format");
    }
}

/* May what is unfinished wait in memory? */
static bool within_budget(struct call *k)
{
    partial_add(k,
                k->started && !k->rpc.method->streams ? 0 : k->reader.buf.cap);
    return __atomic_load_n(&k->conn->g->partial, __ATOMIC_RELAXED) <=
           GRPC_PARTIAL_MAX;
}

static void on_data(struct call *k, const uint8_t *p, size_t n)
{
    struct grpc_message m;
    int rc = 0;

    call_ref(k);
    while (k->attached && (rc = grpc_read(&k->reader, &p, &n, &m)) > 0)
        on_message(k, &m);
    if (k->attached && rc < 0)
        kill_unreadable(k, rc);
    else if (k->attached && !within_budget(k))
        kill_call(k, GRPC_RESOURCE_EXHAUSTED,
                  "too many large requests are under way");
    call_unref(k);
}

static void on_end(struct call *k)
{
    call_ref(k);
    k->half_closed = true;
    if (k->attached && !k->started && !k->held)
        kill_call(k, GRPC_INTERNAL, "unexpected EOF");
    else if (k->attached && !grpc_reader_idle(&k->reader))
        kill_call(k, GRPC_INTERNAL, "unexpected EOF");
    else if (k->attached)
        call_back(k, k->rpc.on_end);
    call_unref(k);
}

/* False: these bytes are not done with yet. */
static bool on_body(struct call *k, const uint8_t *p, size_t n, bool end)
{
    bool held;

    call_ref(k);
    if (n)
        on_data(k, p, n);
    if (end && k->attached)
        on_end(k);
    held = k->held && k->attached && !k->started;
    call_unref(k);
    return !held;
}

static void on_request(struct conn *c, const struct h2_event *ev)
{
    struct err e;
    const struct rpc_method *m;
    struct call *k;

    if (!is_grpc(c, ev))
        return;
    m = rpc_find(ev->path, &e);
    if (!m) {
        refuse_http(c, ev->stream, "200", GRPC_UNIMPLEMENTED, e.msg, true);
        return;
    }
    if (__atomic_load_n(&c->g->n_calls, __ATOMIC_RELAXED) >= GRPC_CALLS_MAX) {
        refuse_http(c, ev->stream, "200", GRPC_RESOURCE_EXHAUSTED,
                    "too many calls are under way", true);
        return;
    }
    k = call_new(c, ev->stream, m);
    call_ref(k);
    if (__atomic_load_n(&c->g->stopping, __ATOMIC_ACQUIRE))
        kill_call(k, GRPC_UNAVAILABLE, v3error_text(V3_STOPPED));
    else if (read_head(k, ev) && (m->streams & RPC_CLIENT_STREAM))
        run(k);
    if (ev->end && k->attached)
        on_end(k);
    call_unref(k);
}

static void on_event(struct conn *c, const struct h2_event *ev)
{
    struct call *k = ev->user;
    uint32_t stream = ev->stream;
    size_t n = ev->n;
    bool end = ev->end;

    switch (ev->type) {
    case H2_HEADERS:
        on_request(c, ev);
        break;
    case H2_DATA:
        if (!k || on_body(k, ev->data, n, end))
            h2_consumed(c->h2, stream, n);
        if (end && stream == c->plain)
            end_plain(c);
        break;
    case H2_TRAILERS:
        if (k)
            on_end(k);
        else if (stream == c->plain)
            end_plain(c);
        break;
    case H2_RESET:
        if (k)
            lose(k);
        break;
    case H2_FAILED:
        log_debug("etcdserver/api/v3rpc",
                  "an HTTP/2 connection failed: %s %.*s",
                  h2_code_name(ev->code), STR_FMT(ev->debug));
        break;
    case H2_GOAWAY:
    case H2_NONE:
        break;
    }
}

/* --- A connection's thread. -------------------------------------------------------------- */

/* Work through p[0..n): bytes used; what is left is no whole frame. */
static size_t receive(struct conn *c, const uint8_t *p, size_t n)
{
    int64_t now = sys_mono_ns();
    size_t at = 0, used;
    struct h2_event ev;

    c->batching = true;
    do {
        used = h2_receive(c->h2, p + at, n - at, now, &ev);
        at += used;
        c->more = at < n;
        on_event(c, &ev);
    } while (used || ev.type != H2_NONE);
    c->batching = c->more = false;
    return at;
}

/* Requests that came together go into the log together. */
static void flush_writes(struct conn *c)
{
    if (!c->flush)
        return;
    c->flush = false;
    c->batching = true;
    pthread_mutex_unlock(&c->mu);
    v3_write_flush(c->g->server);
    pthread_mutex_lock(&c->mu);
    c->batching = false;
}

static void process_input(struct conn *c)
{
    pthread_mutex_lock(&c->mu);
    buf_consume(&c->in, receive(c, c->in.data, c->in.len));
    pump(c); /* what is answered already need not wait for the disk */
    flush_writes(c);
    pump(c);
    unlock(c);
}

/* Room to read into: little, as most requests are small, and as much again when
 * that was filled, so that a large one is read in few steps. */
static size_t make_room(struct conn *c, bool more)
{
    size_t room = more ? c->in.cap : INPUT_LEAST;

    room = (size_t)min_u64(max_u64(room, INPUT_LEAST), INPUT_SIZE - c->in.len);
    buf_reserve(&c->in, room);
    return (size_t)min_u64(c->in.cap, INPUT_SIZE) - c->in.len;
}

/* Read what there is. False: the client is gone. */
static bool read_input(struct conn *c)
{
    bool more = false;
    ssize_t r;
    size_t room;

    do {
        room = make_room(c, more);
        r = net_try_read(c->stream, c->in.data + c->in.len, room);
        if (r == NET_ETIMEOUT)
            return true;
        if (r <= 0)
            return false;
        c->in.len += (size_t)r;
        process_input(c);
        more = (size_t)r == room;
    } while (more);
    return true;
}

/* What others asked for. */
static void handle_woken(struct conn *c, struct call *list)
{
    pthread_mutex_lock(&c->mu);
    while (list) {
        struct call *k = list;

        list = k->next_woken;
        pthread_mutex_lock(&c->wake_mu);
        k->is_woken = false;
        pthread_mutex_unlock(&c->wake_mu);
        if (k->source_over)
            tell_gone(k);
        else if (k->attached)
            h2_wake(c->h2, k->stream);
        call_unref(k);
    }
    pump(c);
    unlock(c);
}

/* Calls that were held, as far as there is room now. */
static void run_held(struct conn *c)
{
    pthread_mutex_lock(&c->mu);
    while (c->held_first && !must_hold(c)) {
        struct call *k = unhold(c);

        c->more = c->held_first != NULL;
        c->batching = true;
        if (k->attached)
            run(k);
        c->batching = c->more = false;
        call_unref(k);
    }
    flush_writes(c);
    pump(c);
    unlock(c);
}

/* Tell those who were refused and now have room. */
static void offer_room(struct conn *c)
{
    struct call *k, *next;

    pthread_mutex_lock(&c->mu);
    for (k = c->n_refused ? c->calls : NULL; k; k = next) {
        call_ref(k);
        if (k->refused &&
            h2_stream_queued(c->h2, k->stream) < RPC_QUEUE_MAX / 2) {
            k->refused = false;
            c->n_refused--;
            call_back(k, k->rpc.on_writable);
        }
        next = k->attached ? k->next : c->calls;
        call_unref(k);
    }
    pump(c);
    unlock(c);
}

/* True: mu was released. */
static bool expire_call(struct call *k, int64_t now)
{
    if (k->rpc.deadline_ns && k->rpc.deadline_ns <= now) {
        kill_call(k, GRPC_DEADLINE_EXCEEDED, "context deadline exceeded");
        return true;
    }
    if (k->rpc.timer_ns && k->rpc.timer_ns <= now) {
        k->rpc.timer_ns = 0;
        call_back(k, k->rpc.on_timer);
        return true;
    }
    return false;
}

/* Calls whose time is up; then looks for the next. */
static void expire(struct conn *c, int64_t now)
{
    struct call *k = c->calls, *next;

    for (; k; k = next) {
        next = k->next;
        if (expire_call(k, now))
            next = c->calls;
    }
    c->next_due_ns = INT64_MAX;
    for (k = c->calls; k; k = k->next) {
        look_forward(c, k->rpc.deadline_ns);
        look_forward(c, k->rpc.timer_ns);
    }
}

static bool is_endless(const struct call *k)
{
    return k->started && rpc_is_endless(k->rpc.method);
}

static bool wants_leader(const struct call *k)
{
    return k->started && k->rpc.method->streams && k->rpc.has_leader;
}

static void kill_calls(struct conn *c, bool (*which)(const struct call *k),
                       enum v3_error e)
{
    struct call *k = c->calls, *next;

    for (; k; k = next) {
        next = k->next;
        if (which(k)) {
            kill_call(k, v3error_code(e), v3error_text(e));
            next = c->calls;
        }
    }
}

/* Do what is due; returns when to come again, or -1: the client is silent. */
static int64_t tick(struct conn *c, int64_t now, bool *stopping)
{
    int64_t due;

    pthread_mutex_lock(&c->mu);
    if (c->next_due_ns <= now)
        expire(c, now);
    if (!*stopping && __atomic_load_n(&c->g->stopping, __ATOMIC_ACQUIRE)) {
        *stopping = true;
        kill_calls(c, is_endless, V3_STOPPED);
        end_plain(c);
        h2_shutdown(c->h2, now);
    }
    if (c->n_has_leader &&
        rpc_leader_is_lost(c->g->server, now, &c->leader_seen_ns))
        kill_calls(c, wants_leader, V3_NO_LEADER);
    due = h2_tick(c->h2, now);
    pump(c);
    if (due != H2_TIMED_OUT) {
        due = (int64_t)min_u64((uint64_t)due, (uint64_t)c->next_due_ns);
        if (c->n_has_leader)
            due = (int64_t)min_u64((uint64_t)due,
                                   (uint64_t)(now + RPC_LEADER_NS));
    }
    unlock(c);
    return due;
}

/* Nothing has come for a while: hold as little as possible. */
static void trim(struct conn *c)
{
    if (c->in.len == 0)
        buf_release(&c->in);
    net_trim(c->stream);
    pthread_mutex_lock(&c->mu);
    h2_trim(c->h2);
    pthread_mutex_unlock(&c->mu);
    sys_stack_trim();
}

/* About to sleep? False: somebody wants something first. */
static bool may_sleep(struct conn *c, struct call **woken)
{
    bool may;

    pthread_mutex_lock(&c->wake_mu);
    may = !c->woken;
    c->sleeping = may;
    c->woken = false;
    *woken = c->woken_calls;
    c->woken_calls = NULL;
    pthread_mutex_unlock(&c->wake_mu);
    return may;
}

static void wake_up(struct conn *c, bool rung)
{
    uint64_t n;

    pthread_mutex_lock(&c->wake_mu);
    c->sleeping = false;
    pthread_mutex_unlock(&c->wake_mu);
    if (rung && read(c->wake_fd, &n, sizeof(n)) < 0)
        log_debug("etcdserver/api/v3rpc", "eventfd: %s", net_errno_text(errno));
}

static int ms_until(int64_t due, int64_t now)
{
    int64_t ms = due <= now ? 0 : (due - now + NS_PER_MS - 1) / NS_PER_MS;

    return due == INT64_MAX ? -1 : (int)min_u64((uint64_t)ms, INT32_MAX);
}

static bool set_owed(struct conn *c, bool owed)
{
    bool was;

    pthread_mutex_lock(&c->mu);
    was = c->owed;
    c->owed = owed;
    if (was && !owed)
        pump(c);
    pthread_mutex_unlock(&c->mu);
    return was;
}

static bool is_broken(struct conn *c)
{
    bool broken;

    pthread_mutex_lock(&c->mu);
    broken = c->broken;
    pthread_mutex_unlock(&c->mu);
    return broken;
}

/* Is it over: broken, or shut down and all said? */
static bool is_over(struct conn *c)
{
    bool over;

    pthread_mutex_lock(&c->mu);
    over = c->broken || h2_done(c->h2);
    pthread_mutex_unlock(&c->mu);
    return over;
}

/* Wait for the client, the socket's room, others, or time. False: the client
 * is gone. */
static bool await(struct conn *c, int64_t due, bool *quiet)
{
    int64_t now = sys_mono_ns();
    int64_t until =
        *quiet ? due
               : (int64_t)min_u64((uint64_t)due, (uint64_t)(now + QUIET_NS));
    struct pollfd p[2] = {{.fd = net_fd(c->stream), .events = POLLIN},
                          {.fd = c->wake_fd, .events = POLLIN}};
    struct call *woken;
    int n = 0;

    if (net_buffered(c->stream)) {
        *quiet = false;
        if (!read_input(c))
            return false;
    }
    if (may_sleep(c, &woken)) {
        bool owed;

        pthread_mutex_lock(&c->mu);
        owed = c->owed;
        pthread_mutex_unlock(&c->mu);
        if (owed)
            p[0].events |= POLLOUT;
        n = net_poll(c->stream, p, 2, ms_until(until, now));
        wake_up(c, n > 0 && p[1].revents);
        if (n == 0 && until < due) {
            trim(c);
            *quiet = true;
        }
    }
    if (woken)
        handle_woken(c, woken);
    if (n <= 0)
        return true;
    if (p[0].revents & POLLOUT)
        set_owed(c, false);
    if (p[0].revents & ~POLLOUT) {
        *quiet = false;
        return read_input(c);
    }
    return true;
}

static void serve(struct conn *c)
{
    bool stopping = false, quiet = false;

    process_input(c);
    while (!is_over(c)) {
        int64_t due = tick(c, sys_mono_ns(), &stopping);

        if (due == H2_TIMED_OUT || !await(c, due, &quiet))
            break;
        if (c->held_first)
            run_held(c);
        offer_room(c);
    }
}

/* --- Connections. ------------------------------------------------------------------------- */

static struct conn *conn_new(struct grpcserver *g, struct net_stream *stream)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct conn *c;

    if (fd < 0)
        return NULL;
    c = xcalloc(1, sizeof(*c));
    c->g = g;
    c->stream = stream;
    snprintf(c->peer, sizeof(c->peer), "%s", net_peer_name(stream));
    c->thread = pthread_self();
    c->wake_fd = fd;
    c->refs = 1;
    c->next_due_ns = INT64_MAX;
    c->held_last = &c->held_first;
    pthread_mutex_init(&c->mu, NULL);
    pthread_mutex_init(&c->wake_mu, NULL);
    sys_cond_init(&c->room);
    c->h2 = h2_new(&g->h2, sys_mono_ns());
    return c;
}

static void enter(struct grpcserver *g, struct conn *c)
{
    pthread_mutex_lock(&g->mu);
    c->next = g->conns;
    if (c->next)
        c->next->prev = c;
    g->conns = c;
    pthread_mutex_unlock(&g->mu);
}

static void leave(struct grpcserver *g, struct conn *c)
{
    pthread_mutex_lock(&g->mu);
    if (c->prev)
        c->prev->next = c->next;
    else
        g->conns = c->next;
    if (c->next)
        c->next->prev = c->prev;
    pthread_mutex_unlock(&g->mu);
}

/* All calls hear that their client is gone; nobody writes or wakes any more. */
static void end(struct conn *c)
{
    struct h2_event ev;
    struct call *woken;

    pthread_mutex_lock(&c->mu);
    c->broken = true;
    h2_eof(c->h2);
    do {
        h2_receive(c->h2, NULL, 0, sys_mono_ns(), &ev);
        if (ev.type == H2_RESET && ev.user)
            lose(ev.user);
    } while (ev.type != H2_NONE);
    while (c->calls) /* whose streams had their end */
        lose(c->calls);
    while (c->held_first)
        call_unref(unhold(c));
    unlock(c);

    pthread_mutex_lock(&c->wake_mu);
    c->deaf = true;
    woken = c->woken_calls;
    c->woken_calls = NULL;
    pthread_mutex_unlock(&c->wake_mu);
    handle_woken(c, woken);

    pthread_mutex_lock(&c->mu);
    while (c->writing) {
        c->n_waiting++;
        pthread_cond_wait(&c->room, &c->mu);
        c->n_waiting--;
    }
    h2_free(c->h2);
    c->h2 = NULL;
    unlock(c);
}

void grpcserver_serve(struct net_stream *stream, struct buf *first, void *arg)
{
    struct grpcserver *g = arg;
    struct conn *c = conn_new(g, stream);

    if (!c) {
        log_warn("embed", "no file descriptor is left to serve a connection");
        buf_release(first);
        return;
    }
    c->in = *first;
    *first = (struct buf){0};
    enter(g, c);
    serve(c);
    leave(g, c);
    if (!is_broken(c)) /* handlers may still be writing */
        net_linger(stream, LINGER_MS);
    end(c);
    buf_release(&c->in);
    pthread_mutex_lock(&c->mu);
    conn_unlock(c);
}

/* --- The server. ----------------------------------------------------------------------------- */

struct grpcserver *grpcserver_new(struct server *s)
{
    const struct config *config = server_config(s);
    struct grpcserver *g = xcalloc(1, sizeof(*g));

    g->server = s;
    g->message_max = (uint32_t)min_u64(
        config->max_request_bytes + RPC_MESSAGE_EXTRA, INT32_MAX);
    g->h2 = (struct h2_options){
        .server = true,
        .streams_max = (uint32_t)(config->max_concurrent_streams >= UINT32_MAX
                                      ? 0
                                      : config->max_concurrent_streams),
        .window_stream = WINDOW_STREAM,
        .window_conn = WINDOW_CONN,
        .keepalive_ns = config->grpc_keepalive_interval_ns,
        .keepalive_timeout_ns = config->grpc_keepalive_timeout_ns,
        .keepalive_without_stream = true,
        .ping_min_ns = config->grpc_keepalive_min_ns,
    };
    pthread_mutex_init(&g->mu, NULL);
    return g;
}

void grpcserver_shutdown(struct grpcserver *g)
{
    pthread_mutex_lock(&g->mu);
    __atomic_store_n(&g->stopping, true, __ATOMIC_RELEASE);
    for (struct conn *c = g->conns; c; c = c->next)
        wake(c);
    pthread_mutex_unlock(&g->mu);
}

void grpcserver_free(struct grpcserver *g)
{
    if (!g)
        return;
    assert(!g->conns);
    pthread_mutex_destroy(&g->mu);
    free(g);
}
