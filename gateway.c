/*
 * gateway.c - calls in JSON over HTTP/1, and over WebSockets.
 *
 * TWO WAYS  A unary call that does not wait long, such as a put, is deferred
 * (http.h): whoever has the result sends it, and nobody is woken for that. In all
 * other calls the connection's thread serves the call: it waits for what the
 * handler has to say, for time, and for the client's hang-up, and writes. So
 * slow clients hold up nobody but themselves.
 *
 * LIVES  A call is referred to by its handler, until that ended it, and by the
 * connection's thread, which may leave first when time is up. A deferred call is
 * its exchange's: it lasts until that is over.
 *
 * WEBSOCKETS  As in etcd, messages that come are lines of what would be the body
 * of a request, and lines of the answer are messages that go: so a handler does
 * not know the difference. It runs from the first whole request on. The thread is
 * told by net_park_input() when there is something to read. What is not whole
 * yet is bounded as a body is, in size, in time, and with all others'; what goes
 * is cut into frames of 32 KB. Unlike etcd, we say Close before we hang up.
 */
#include "gateway.h"
#include "grpc.h"
#include "json.h"
#include "rpc.h"
#include "rpccount.h"
#include "sys.h"
#include "websocket.h"

#include <assert.h>
#include <stdio.h>

#define BODY_EXTRA (64 * 1024) /* of JSON around what a message may hold */
#define PULL_STEP 32768
#define TEXT_MAX 256
#define QUIET_NS NS_PER_S /* then idle memory is given back */
#define FRAME_MAX 32768   /* longer messages go in several frames */
#define READ_STEP 4096    /* of a WebSocket */
#define CLOSE_MS 500      /* for a client that has not heard our Close yet */

/* What a call has that came by a WebSocket. */
struct socket {
    struct websocket in;
    bool deaf;       /* it has had all its requests: what follows is dropped */
    int64_t late_ns; /* when a request must have gone on; 0: there is none */

    /* Of the body: may it hold a whole request that was not tried yet? */
    bool due;
    bool string, escaped; /* within a string, and behind a backslash */
    int64_t depth;        /* brackets that are open */

    struct buf line;   /* of the message that is written: the next frame */
    bool continued;    /* others of it have gone */
    struct buf frames; /* to be sent */
    bool broken;       /* nothing can be */
    int code;          /* to close with */
    const char *why;
};

struct call {
    struct rpc_call rpc; /* first: they are one */
    struct http_exchange *x;
    char peer[64];
    bool deferred;
    struct socket *socket; /* of a WebSocket; NULL: HTTP */
    struct net_park park;
    struct arena message_arena; /* of a stream's present message */
    size_t n_messages;          /* of the client's, so far */
    struct buf body;  /* the request's; deferred calls borrow from it */
    struct buf bytes; /* the same as protobuf */

    pthread_mutex_t mu;
    pthread_cond_t changed;
    int refs;                   /* mu */
    bool woken, hung_up, paced; /* mu; news for the thread */
    bool left;                  /* mu; the thread waits no more */
    bool ended;                 /* mu; by the handler */
    int code;                   /* mu; how */
    char *text;                 /* mu; owned */
    struct buf out;             /* mu; what waits to be written */
    bool refused; /* mu; on_writable() is due when there is room */
    void (*done)(struct rpc_call *r); /* of a paced reply */

    bool begun;               /* the thread's: something was written */
    bool started;             /* the thread's: the handler has run */
    int64_t leader_seen_ns;   /* the thread's: rpc_leader_is_lost() */
    struct call *prev, *next; /* streams.mu */
};

static const struct rpc_door door;

/* Calls that a thread serves, so that a stop finds them. */
static struct {
    pthread_mutex_t mu;
    struct call *first; /* mu */
    bool stopping;      /* mu */
} served = {PTHREAD_MUTEX_INITIALIZER, NULL, false};

/* --- Answers. -------------------------------------------------------------------- */

/* gRPC's codes as the statuses that etcd 3.4 gives them. */
static int http_status_of(int code)
{
    static const int statuses[GRPC_STATUS_N] = {
        [GRPC_OK] = 200,
        [GRPC_CANCELLED] = 408,
        [GRPC_UNKNOWN] = 500,
        [GRPC_INVALID_ARGUMENT] = 400,
        [GRPC_DEADLINE_EXCEEDED] = 504,
        [GRPC_NOT_FOUND] = 404,
        [GRPC_ALREADY_EXISTS] = 409,
        [GRPC_PERMISSION_DENIED] = 403,
        [GRPC_RESOURCE_EXHAUSTED] = 429,
        [GRPC_FAILED_PRECONDITION] = 412,
        [GRPC_ABORTED] = 409,
        [GRPC_OUT_OF_RANGE] = 400,
        [GRPC_UNIMPLEMENTED] = 501,
        [GRPC_INTERNAL] = 500,
        [GRPC_UNAVAILABLE] = 503,
        [GRPC_DATA_LOSS] = 500,
        [GRPC_UNAUTHENTICATED] = 401,
    };

    return code >= 0 && code < GRPC_STATUS_N ? statuses[code] : 500;
}

static void socket_write(struct call *k, struct str bytes);
static void socket_end(struct call *k, int code, const char *why);
static void socket_read(struct call *k);

/* All that there is; body is released. */
static void send_error_body(struct call *k, int code, struct buf *body)
{
    if (k->socket) {
        socket_write(k, buf_str(body));
    } else {
        http_set_header_text(k->x, "Content-Type", STR("application/json"));
        http_set_status(k->x, http_status_of(code));
        http_send(k->x, body->data, body->len);
    }
    buf_release(body);
}

static void send_error(struct call *k, int code, const char *text)
{
    struct buf b = {0};

    buf_adds(&b, "{\"error\":");
    json_add_string(&b, str_of(text));
    buf_adds(&b, ",\"message\":");
    json_add_string(&b, str_of(text));
    buf_printf(&b, ",\"code\":%d}", code);
    send_error_body(k, code, &b);
}

/* What a stream ends with, even if nothing came before. */
static void add_stream_error(struct buf *b, int code, const char *text)
{
    int status = http_status_of(code);

    buf_printf(b, "{\"error\":{\"grpc_code\":%d,\"http_code\":%d,\"message\":",
               code, status);
    json_add_string(b, str_of(text));
    buf_printf(b, ",\"http_status\":\"%s\"}}", http_status_text(status));
}

static void set_headers(struct http_exchange *x)
{
    http_set_header_text(x, "Content-Type", STR("application/json"));
    http_set_header_text(x, "Grpc-Metadata-Content-Type",
                         STR("application/grpc"));
}

static void send_message(struct call *k, const void *response)
{
    struct buf b = {0};

    msg_encode_json(k->rpc.method->response, response, &b);
    set_headers(k->x);
    http_send(k->x, b.data, b.len);
    buf_release(&b);
}

/* The end of a stream that had lines before. */
static void write_error_line(struct call *k, int code, const char *text)
{
    struct buf b = {0};

    add_stream_error(&b, code, text);
    if (k->socket)
        socket_write(k, buf_str(&b));
    else
        http_write(k->x, b.data, b.len);
    buf_release(&b);
}

/* --- Lives. -------------------------------------------------------------------------- */

static struct call *call_new(struct server *s, struct http_exchange *x,
                             const struct rpc_method *m)
{
    struct call *k = xcalloc(1, sizeof(*k));

    k->rpc.door = &door;
    snprintf(k->peer, sizeof(k->peer), "%s", net_peer_name(http_stream(x)));
    k->rpc.peer = k->peer;
    k->rpc.server = s;
    k->rpc.method = m;
    k->rpc.arena.limit = k->message_arena.limit = RPC_ARENA_MAX;
    k->x = x;
    k->park.fd = -1;
    k->refs = 1;
    pthread_mutex_init(&k->mu, NULL);
    sys_cond_init(&k->changed);
    return k;
}

static void call_free(void *call)
{
    struct call *k = call;

    if (k->socket) {
        buf_release(&k->socket->line);
        buf_release(&k->socket->frames);
        free(k->socket);
    }
    arena_release(&k->rpc.arena);
    arena_release(&k->message_arena);
    buf_release(&k->body);
    buf_release(&k->bytes);
    buf_release(&k->out);
    free(k->text);
    pthread_mutex_destroy(&k->mu);
    pthread_cond_destroy(&k->changed);
    free(k);
}

/* Lets go of mu, and of a reference. */
static void unlock_unref(struct call *k)
{
    bool last = --k->refs == 0;

    pthread_mutex_unlock(&k->mu);
    if (last)
        call_free(k);
}

/* --- What handlers call. --------------------------------------------------------------- */

/* The handler ends the call. Lets go of mu. */
static void end_locked(struct call *k, int code, const char *text)
{
    assert(!k->ended);
    k->ended = true;
    k->code = code;
    k->text = xstrdup(text);
    pthread_cond_signal(&k->changed);
    unlock_unref(k);
}

static void door_reply(struct rpc_call *r, const void *response)
{
    struct call *k = (struct call *)r;

    rpc_sent(r, msg_size(r->method->response, response));
    rpc_ended(r, GRPC_OK);
    if (k->deferred) {
        send_message(k, response);
        return;
    }
    pthread_mutex_lock(&k->mu);
    msg_encode_json(r->method->response, response, &k->out);
    end_locked(k, GRPC_OK, "");
}

static void door_fail(struct rpc_call *r, int code, const char *text)
{
    struct call *k = (struct call *)r;

    rpc_ended(r, code);
    if (k->deferred) {
        send_error(k, code, text);
        return;
    }
    pthread_mutex_lock(&k->mu);
    end_locked(k, code, text);
}

static void door_finish(struct rpc_call *r)
{
    door_fail(r, GRPC_OK, "");
}

static bool door_send(struct rpc_call *r, const void *response, bool wait)
{
    struct call *k = (struct call *)r;
    bool room;

    pthread_mutex_lock(&k->mu);
    while (wait && !rpc_is_gone(r) && k->out.len >= RPC_QUEUE_MAX)
        pthread_cond_wait(&k->changed, &k->mu);
    room = !rpc_is_gone(r) && k->out.len < RPC_QUEUE_MAX;
    if (room) {
        buf_adds(&k->out, "{\"result\":");
        msg_encode_json(r->method->response, response, &k->out);
        buf_adds(&k->out, "}\n");
        rpc_sent(r, msg_size(r->method->response, response));
    }
    k->refused |= !room;
    pthread_cond_broadcast(&k->changed);
    pthread_mutex_unlock(&k->mu);
    return room;
}

static void door_wake(struct rpc_call *r)
{
    struct call *k = (struct call *)r;

    pthread_mutex_lock(&k->mu);
    k->woken = true;
    pthread_cond_broadcast(&k->changed);
    pthread_mutex_unlock(&k->mu);
}

static void door_reply_paced(struct rpc_call *r, uint64_t size,
                             void (*done)(struct rpc_call *r))
{
    struct call *k = (struct call *)r;

    bool left;

    assert(!k->deferred);
    rpc_sent(r, (size_t)size);
    pthread_mutex_lock(&k->mu);
    left = k->left;
    k->done = done;
    k->paced = !left;
    pthread_cond_broadcast(&k->changed);
    pthread_mutex_unlock(&k->mu);
    if (left)
        done(r);
}

static void door_set_timer(struct rpc_call *r, int64_t at_ns)
{
    r->timer_ns = at_ns;
}

static void give_up(struct call *k, int code, const char *text);

static void door_cancel(struct rpc_call *r, int code, const char *text)
{
    give_up((struct call *)r, code, text);
}

static const struct rpc_door door = {
    .json = true,
    .reply = door_reply,
    .reply_paced = door_reply_paced,
    .fail = door_fail,
    .send = door_send,
    .wake = door_wake,
    .set_timer = door_set_timer,
    .cancel = door_cancel,
    .finish = door_finish,
};

/* --- The thread that serves a call. ------------------------------------------------------- */

static void hung_up(void *call)
{
    struct call *k = call;

    pthread_mutex_lock(&k->mu);
    k->hung_up = true;
    pthread_cond_broadcast(&k->changed);
    pthread_mutex_unlock(&k->mu);
}

static bool is_over(struct call *k)
{
    bool over;

    pthread_mutex_lock(&k->mu);
    over = k->ended;
    pthread_mutex_unlock(&k->mu);
    return over;
}

/* The client is to hear no more; the handler is told so, once. */
static void lose(struct call *k)
{
    pthread_mutex_lock(&k->mu);
    if (rpc_is_gone(&k->rpc)) {
        pthread_mutex_unlock(&k->mu);
        return;
    }
    __atomic_store_n(&k->rpc.gone, true, __ATOMIC_RELEASE);
    pthread_cond_broadcast(&k->changed);
    pthread_mutex_unlock(&k->mu);
    if (k->rpc.on_gone && !is_over(k))
        k->rpc.on_gone(&k->rpc);
}

/* The client was told with what code its call is over. */
static void drop(struct call *k, int code)
{
    k->rpc.gone_code = code;
    k->begun = true;
    lose(k);
}

/* Tell the client why, over the handler's head. */
static void give_up(struct call *k, int code, const char *text)
{
    if (rpc_is_gone(&k->rpc))
        return;
    if (k->begun)
        write_error_line(k, code, text);
    else
        send_error(k, code, text);
    drop(k, code);
}

/* In a stream, as if the handler had said it. */
static void send_stream_error(struct call *k, int code, const char *text)
{
    struct buf b = {0};

    if (k->begun) {
        write_error_line(k, code, text);
        return;
    }
    add_stream_error(&b, code, text);
    send_error_body(k, code, &b);
}

static bool wants_leader(const struct call *k)
{
    return k->started && k->rpc.method->streams && k->rpc.has_leader &&
           !rpc_is_gone(&k->rpc);
}

static void write_out(struct call *k, const void *p, size_t n)
{
    if (n == 0 || rpc_is_gone(&k->rpc))
        return;
    if (!k->begun && !k->socket)
        set_headers(k->x);
    k->begun = true;
    if (k->socket)
        socket_write(k, (struct str){p, n});
    else if (http_write(k->x, p, n) < 0)
        lose(k);
}

/* Write what send() left; then those who were refused may go on. */
static void write_pending(struct call *k)
{
    struct buf out;
    bool refused;

    pthread_mutex_lock(&k->mu);
    out = k->out;
    k->out = (struct buf){0};
    refused = k->refused;
    k->refused = false;
    if (out.len)
        pthread_cond_broadcast(&k->changed);
    pthread_mutex_unlock(&k->mu);
    write_out(k, out.data, out.len);
    buf_release(&out);
    if (refused && k->rpc.on_writable && !is_over(k))
        k->rpc.on_writable(&k->rpc);
}

/* Write what on_pull() makes, until there is nothing more for now. */
static void write_pulled(struct call *k)
{
    struct rpc_out out = {.n_refs = 0};
    enum rpc_pulled rc = RPC_PULL_MORE;
    struct str piece;

    while (rc == RPC_PULL_MORE && !rpc_is_gone(&k->rpc)) {
        rc = k->rpc.on_pull(&k->rpc, &out, PULL_STEP);
        while ((piece = rpc_out_next(&out)).n > 0) {
            write_out(k, piece.p, piece.n);
            rpc_out_took(&out, piece.n);
        }
    }
    rpc_out_release(&out);
}

/* mu is held. */
static bool has_news(const struct call *k)
{
    return k->ended || k->woken || k->paced || k->out.len > 0 ||
           (k->hung_up && !rpc_is_gone(&k->rpc));
}

static void prepare_to_wait(struct call *k)
{
    if (k->socket) {
        buf_release(&k->socket->frames);
        if (k->socket->line.len == 0)
            buf_release(&k->socket->line);
        net_trim(http_stream(k->x));
    }
    http_prepare_to_wait(k->x);
}

/* Until there is news, or time is up. What lasts costs as little as it can. */
static void await_news(struct call *k)
{
    const struct rpc_call *r = &k->rpc;
    int64_t now = sys_mono_ns(), until = INT64_MAX, quiet = now + QUIET_NS;

    if (wants_leader(k))
        until = now + RPC_LEADER_NS;
    if (r->deadline_ns && !rpc_is_gone(r) && r->deadline_ns < until)
        until = r->deadline_ns;
    if (r->timer_ns && r->timer_ns < until)
        until = r->timer_ns;
    if (k->socket && k->socket->late_ns && k->socket->late_ns < until)
        until = k->socket->late_ns;
    pthread_mutex_lock(&k->mu);
    while (
        !has_news(k) &&
        sys_cond_wait_until(&k->changed, &k->mu,
                            (int64_t)min_u64((uint64_t)until, (uint64_t)quiet)))
        ;
    if (!has_news(k) && quiet <= until)
        prepare_to_wait(k);
    while (!has_news(k) && sys_cond_wait_until(&k->changed, &k->mu, until))
        ;
    k->woken = false;
    pthread_mutex_unlock(&k->mu);
}

/* Is a reply in pieces due? Once true, it is this thread's. */
static bool take_paced(struct call *k)
{
    bool paced;

    pthread_mutex_lock(&k->mu);
    paced = k->paced;
    k->paced = false;
    pthread_mutex_unlock(&k->mu);
    return paced;
}

static void look_at_clock(struct call *k)
{
    int64_t now = sys_mono_ns();

    if (k->rpc.timer_ns && k->rpc.timer_ns <= now) {
        k->rpc.timer_ns = 0;
        k->rpc.on_timer(&k->rpc);
    }
    if (k->rpc.deadline_ns && k->rpc.deadline_ns <= now)
        give_up(k, GRPC_DEADLINE_EXCEEDED, "context deadline exceeded");
    if (wants_leader(k) &&
        rpc_leader_is_lost(k->rpc.server, now, &k->leader_seen_ns)) {
        send_stream_error(k, v3error_code(V3_NO_LEADER),
                          v3error_text(V3_NO_LEADER));
        drop(k, v3error_code(V3_NO_LEADER));
    }
    if (k->socket && k->socket->late_ns && k->socket->late_ns <= now) {
        k->socket->late_ns = 0;
        socket_end(k, WEBSOCKET_POLICY, "the rest of a request did not come");
    }
}

static void serve_paced(struct call *k)
{
    write_pulled(k);
    k->done(&k->rpc);
}

/* Has the client something to say, or gone, or is the server about to? */
static void look_at_client(struct call *k)
{
    bool gone, stopping;

    pthread_mutex_lock(&k->mu);
    gone = k->hung_up;
    pthread_mutex_unlock(&k->mu);
    pthread_mutex_lock(&served.mu);
    stopping = served.stopping;
    pthread_mutex_unlock(&served.mu);
    if (gone && k->socket)
        socket_read(k);
    else if (gone)
        lose(k);
    if (!stopping || (k->started && !rpc_is_endless(k->rpc.method)))
        return;
    if (k->started)
        give_up(k, v3error_code(V3_STOPPED), v3error_text(V3_STOPPED));
    if (k->socket)
        socket_end(k, WEBSOCKET_GOING_AWAY, v3error_text(V3_STOPPED));
}

/* A stream of nothing. */
static void begin_empty(struct call *k)
{
    if (k->socket)
        return;
    http_set_header_text(k->x, "Content-Type", STR("application/json"));
    http_begin(k->x);
}

/* What a call came to is known: the last that the client hears. */
static void say_end(struct call *k)
{
    if (k->code == GRPC_OK && !k->begun && !k->rpc.method->streams &&
        !k->socket) {
        set_headers(k->x);
        http_send(k->x, k->out.data, k->out.len);
        return;
    }
    write_pending(k);
    if (rpc_is_gone(&k->rpc))
        return;
    if (k->code == GRPC_OK && !k->begun) {
        begin_empty(k);
    } else if (k->code != GRPC_OK && k->rpc.method->streams) {
        send_stream_error(k, k->code, k->text);
    } else if (k->code != GRPC_OK && k->begun) {
        write_error_line(k, k->code, k->text);
    } else if (k->code != GRPC_OK) {
        send_error(k, k->code, k->text);
    }
}

/* One round: what the handler has, then what the client and the clock say. */
static void serve_news(struct call *k, bool streams)
{
    await_news(k);
    if (take_paced(k))
        serve_paced(k);
    else if (streams && k->rpc.on_pull && !is_over(k))
        write_pulled(k);
    if (streams)
        write_pending(k);
    look_at_client(k);
    if (!is_over(k))
        look_at_clock(k);
}

/* Until the handler has ended the call. A unary one whose client is gone may go
 * on alone. */
static void serve(struct call *k)
{
    bool streams = k->rpc.method->streams != 0;

    if (!k->socket)
        net_park(&k->park, http_stream(k->x), hung_up, k);
    while (!is_over(k) && ((streams && k->started) || !rpc_is_gone(&k->rpc)))
        serve_news(k, streams);
    net_unpark(&k->park);
    if (is_over(k))
        say_end(k);
    pthread_mutex_lock(&k->mu);
    k->left = true;
    pthread_mutex_unlock(&k->mu);
    if (take_paced(k))
        serve_paced(k);
}

static void enter(struct call *k)
{
    pthread_mutex_lock(&served.mu);
    k->woken = served.stopping; /* nobody else will tell it */
    k->next = served.first;
    if (k->next)
        k->next->prev = k;
    served.first = k;
    pthread_mutex_unlock(&served.mu);
}

static void leave(struct call *k)
{
    pthread_mutex_lock(&served.mu);
    if (k->prev)
        k->prev->next = k->next;
    else
        served.first = k->next;
    if (k->next)
        k->next->prev = k->prev;
    pthread_mutex_unlock(&served.mu);
}

void gateway_stop(void)
{
    pthread_mutex_lock(&served.mu);
    served.stopping = true;
    for (struct call *k = served.first; k; k = k->next)
        door_wake(&k->rpc);
    pthread_mutex_unlock(&served.mu);
}

/* --- Requests. -------------------------------------------------------------------------------- */

static size_t message_max(const struct server *s)
{
    return server_config(s)->max_request_bytes + RPC_MESSAGE_EXTRA;
}

static size_t body_max(const struct server *s)
{
    return message_max(s) * 2 + BODY_EXTRA;
}

static void refuse_large(struct call *k, size_t n)
{
    char text[TEXT_MAX];

    snprintf(text, sizeof(text),
             "grpc: received message larger than max (%zu vs. %zu)", n,
             message_max(k->rpc.server));
    send_error(k, GRPC_RESOURCE_EXHAUSTED, text);
}

/* False: it was answered. */
static bool read_body(struct call *k)
{
    size_t max = body_max(k->rpc.server);
    const char *why;
    int rc = http_read_body(k->x, &k->body, max, &why);

    if (rc == HTTP_EBODY_LARGE)
        refuse_large(k, max);
    else if (rc == HTTP_EBODY_BUSY)
        send_error(k, GRPC_RESOURCE_EXHAUSTED,
                   "too many large requests are under way");
    else if (rc < 0)
        send_error(k, GRPC_INVALID_ARGUMENT, why);
    return rc == 0;
}

static struct str header(const struct call *k, const char *name)
{
    struct str v = http_header(http_request(k->x), name);

    return v.p ? v : STR("");
}

/* p is NULL: none is given. One that is given and empty is none that is valid. */
static struct str token_header(const struct call *k)
{
    const struct http_head *h = http_request(k->x);
    struct str token = http_header(h, "Grpc-Metadata-Token");

    if (!token.p)
        token = http_header(h, "Authorization");
    if (token.n == 0) {
        struct str other = http_header(h, "Grpc-Metadata-Authorization");

        if (other.p)
            token = other;
    }
    return token;
}

/*
 * "300m" to nanoseconds, by the rules of etcd's gateway: any whole number, while
 * gRPC has at most eight digits; what is negative has passed already.
 */
static bool parse_timeout(struct str s, int64_t *ns)
{
    struct str digits = {s.p, s.n ? s.n - 1 : 0};
    char one[2] = {'1', s.n ? s.p[s.n - 1] : '\0'};
    int64_t n;

    if (!str_to_i64(digits, &n) ||
        !grpc_parse_timeout((struct str){one, sizeof(one)}, ns))
        return false;
    *ns = n > INT64_MAX / *ns ? INT64_MAX : n < 0 ? -1 : n * *ns;
    return true;
}

/* What header fields say. False: it was answered. */
static bool read_metadata(struct call *k)
{
    struct str timeout = header(k, "Grpc-Timeout");
    struct buf text = {0};
    int64_t ns;

    if (!rpc_set_token(&k->rpc, token_header(k))) {
        send_error(k, GRPC_RESOURCE_EXHAUSTED, "too long metadata");
        return false;
    }
    k->rpc.has_leader = str_eqz(header(k, "Grpc-Metadata-Hasleader"), "true");
    if (timeout.n == 0)
        return true;
    if (parse_timeout(timeout, &ns)) {
        int64_t now = sys_mono_ns();

        if (ns == 0) /* is none */
            return true;
        k->rpc.deadline_ns = ns > INT64_MAX - now ? INT64_MAX : now + ns;
        if (k->rpc.deadline_ns > sys_mono_ns())
            return true;
        send_error(k, GRPC_DEADLINE_EXCEEDED, "context deadline exceeded");
        return false;
    }
    buf_printf(&text, "invalid grpc-timeout: %.*s",
               (int)min_u64(timeout.n, TEXT_MAX), timeout.p);
    send_error(k, GRPC_INVALID_ARGUMENT, buf_z(&text));
    buf_release(&text);
    return false;
}

/* The next message of the body from *at on. 1, 0 at the end, or an error. */
static int decode(struct call *k, struct arena *a, size_t *at, void *out,
                  struct err *e)
{
    const struct msg_desc *d = k->rpc.method->request;
    size_t used = 0;
    int rc = msg_decode_json(d, k->body.data + *at, k->body.len - *at, a, out,
                             &used, e);

    if (rc == 0)
        *at += used;
    return rc == 0 ? 1 : rc == MSG_EEND ? 0 : rc;
}

/* The one message, as decode() told of it. False: it was answered. */
static bool take_request(struct call *k, void *request, int rc,
                         const struct err *e)
{
    if (rc < 0) {
        send_error(k,
                   rc == MSG_ELIMIT ? GRPC_RESOURCE_EXHAUSTED
                                    : GRPC_INVALID_ARGUMENT,
                   e->msg);
        return false;
    }
    msg_encode(k->rpc.method->request, request, &k->bytes);
    if (k->bytes.len > message_max(k->rpc.server)) {
        refuse_large(k, k->bytes.len);
        return false;
    }
    k->rpc.request = request;
    k->rpc.request_bytes = buf_str(&k->bytes);
    return true;
}

/* From the whole body; nothing is the empty message. */
static bool read_request(struct call *k)
{
    void *out = arena_alloc(&k->rpc.arena, k->rpc.method->request->size);
    struct err e;
    size_t at = 0;
    int rc = decode(k, &k->rpc.arena, &at, out, &e);

    return take_request(k, out, rc, &e);
}

static void start(struct call *k)
{
    k->refs++; /* the handler's */
    k->started = true;
    k->leader_seen_ns = sys_mono_ns();
    rpc_run(&k->rpc);
}

/* Hand all messages of the body to the handler, and drop them. 0 at the end, or
 * why it was not reached. */
static int feed(struct call *k, struct err *e)
{
    void *m = xcalloc(1, k->rpc.method->request->size);
    size_t at = 0;
    int rc = 1;

    while (rc > 0 && !is_over(k) && !rpc_is_gone(&k->rpc)) {
        arena_reset(&k->message_arena);
        rc = decode(k, &k->message_arena, &at, m, e);
        if (rc <= 0)
            break;
        k->n_messages++;
        rpc_count_received(k->rpc.method, msg_size(k->rpc.method->request, m));
        if (!k->started)
            start(k);
        if (k->rpc.on_message && !is_over(k))
            k->rpc.on_message(&k->rpc, m);
    }
    free(m);
    buf_consume(&k->body, at);
    return rc;
}

/* The client's side ends: with its body, or at what is no message; as in etcd,
 * it is told only if that is the first. */
static void end_input(struct call *k, int rc, const struct err *e)
{
    if (is_over(k) || rpc_is_gone(&k->rpc))
        return;
    if (rc < 0 && k->n_messages == 0)
        give_up(k, GRPC_UNKNOWN, e->msg);
    else if (k->rpc.on_end)
        k->rpc.on_end(&k->rpc);
}

/* --- WebSockets: what goes. --------------------------------------------------------------- */

static void socket_flush(struct call *k)
{
    struct socket *w = k->socket;

    if (!w->broken &&
        net_write(http_stream(k->x), w->frames.data, w->frames.len, 0) < 0) {
        w->broken = true;
        lose(k);
    }
    buf_clear(&w->frames);
}

/* A frame of the message that is being written. */
static void add_frame(struct socket *w, bool last)
{
    websocket_add_frame(&w->frames,
                        w->continued ? WEBSOCKET_CONTINUATION : WEBSOCKET_TEXT,
                        last, w->line.data, w->line.len);
    w->continued = !last;
    buf_clear(&w->line);
}

/* The rest of a line may follow. */
static void socket_write(struct call *k, struct str bytes)
{
    struct socket *w = k->socket;

    while (bytes.n > 0) {
        struct str room = {bytes.p, FRAME_MAX - w->line.len}, line;
        bool end;

        if (room.n > bytes.n)
            room.n = bytes.n;
        end = str_cut(&room, '\n', &line);
        buf_addstr(&w->line, line);
        bytes.p += line.n + end;
        bytes.n -= line.n + end;
        if (end || w->line.len == FRAME_MAX)
            add_frame(w, end);
        if (w->frames.len >= FRAME_MAX)
            socket_flush(k);
    }
    socket_flush(k);
}

/* What the call was answered is written: say so, and hang up. */
static void socket_close(struct call *k)
{
    struct socket *w = k->socket;

    if (w->line.len > 0 || w->continued)
        add_frame(w, true);
    websocket_add_close(&w->frames, w->code ? w->code : WEBSOCKET_NORMAL,
                        w->why ? w->why : "");
    socket_flush(k);
    if (!w->broken)
        net_linger(http_stream(k->x), CLOSE_MS);
}

/* The client is to hear no more but this. */
static void socket_end(struct call *k, int code, const char *why)
{
    if (!k->socket->code) {
        k->socket->code = code;
        k->socket->why = why;
    }
    lose(k);
}

/* --- WebSockets: what comes. --------------------------------------------------------------- */

/* Brackets and strings are counted as they come, so that a request in a thousand
 * messages is decoded once or twice, and not a thousand times. */
static void count_brackets(struct socket *w, struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];

        if (w->string && !w->escaped && c == '"')
            w->string = false;
        else if (w->string)
            w->escaped = c == '\\' && !w->escaped;
        else if (c == '"')
            w->string = true;
        else
            w->depth += (c == '{' || c == '[') - (c == '}' || c == ']');
        w->due |= !w->string && w->depth <= 0;
    }
}

static void keep(struct call *k, struct str piece)
{
    struct socket *w = k->socket;

    if (w->deaf)
        return;
    if (piece.n >= body_max(k->rpc.server) - k->body.len) {
        socket_end(k, WEBSOCKET_TOO_LARGE, "request too large");
    } else if (!http_take_room(k->x, &k->body, piece.n + 1)) {
        socket_end(k, WEBSOCKET_TRY_LATER, "too many large requests");
    } else {
        buf_addstr(&k->body, piece);
        count_brackets(w, piece);
    }
}

/* What decode() said: must it wait for more? The first message of the next request
 * is tried at once, so that what can be none is told. */
static bool must_wait(struct call *k, int rc)
{
    if (rc == 0) /* nothing but blanks is left */
        http_drop_room(k->x, &k->body);
    k->socket->due = rc == 0;
    return rc == 0 || rc == MSG_ESHORT;
}

static void take_stream_messages(struct call *k)
{
    struct err e;
    int rc = feed(k, &e);

    if (must_wait(k, rc))
        return;
    k->socket->deaf = true;
    end_input(k, rc, &e);
}

static void take_unary_message(struct call *k)
{
    const struct msg_desc *d = k->rpc.method->request;
    struct err e;
    void *request;
    size_t at = 0;
    int rc;

    arena_reset(&k->message_arena);
    request = arena_alloc(&k->message_arena, d->size);
    rc = decode(k, &k->message_arena, &at, request, &e);
    if (must_wait(k, rc))
        return;
    k->socket->deaf = true;
    if (take_request(k, request, rc, &e))
        start(k);
    else
        lose(k);
}

static void take_message(struct call *k)
{
    struct socket *w = k->socket;

    if (w->deaf)
        return;
    buf_addc(&k->body, '\n');
    if (!w->due)
        return;
    if (k->rpc.method->streams & RPC_CLIENT_STREAM)
        take_stream_messages(k);
    else
        take_unary_message(k);
}

static void take_frames(struct call *k, uint8_t *p, size_t n)
{
    struct socket *w = k->socket;
    struct str data;
    size_t used;

    while (n > 0 && !is_over(k) && !rpc_is_gone(&k->rpc)) {
        int rc = websocket_next(&w->in, p, n, &used, &data);

        p += used;
        n -= used;
        if (rc == WEBSOCKET_DATA || rc == WEBSOCKET_END)
            keep(k, data);
        if (rc == WEBSOCKET_END && !rpc_is_gone(&k->rpc))
            take_message(k);
        if (rc == WEBSOCKET_PINGED) {
            websocket_add_frame(&w->frames, WEBSOCKET_PONG, true, data.p,
                                data.n);
            socket_flush(k);
        }
        if (rc == WEBSOCKET_CLOSED)
            socket_end(k, w->in.code, NULL);
        if (rc < 0)
            socket_end(k, -rc, w->in.why);
    }
    w->late_ns = k->body.len > 0 && !w->deaf ? http_stall_at(k->x) : 0;
}

/* Nothing more to read: have it told when there is. */
static void await_input(struct call *k)
{
    net_unpark(&k->park);
    pthread_mutex_lock(&k->mu);
    k->hung_up = false;
    pthread_mutex_unlock(&k->mu);
    if (net_park_input(&k->park, http_stream(k->x), hung_up, k) < 0)
        socket_end(k, WEBSOCKET_TRY_LATER, "out of descriptors");
}

static void socket_read(struct call *k)
{
    uint8_t in[READ_STEP];
    ssize_t n = net_try_read(http_stream(k->x), in, sizeof(in));

    if (n > 0) {
        take_frames(k, in, (size_t)n);
    } else if (n == NET_ETIMEOUT) {
        await_input(k);
    } else {
        k->socket->broken = true;
        lose(k);
    }
}

/* --- The two ways. -------------------------------------------------------------------------------- */

static void call_deferred(struct call *k)
{
    k->deferred = true;
    http_defer(k->x, call_free, k);
    rpc_run(&k->rpc);
}

static void call_served(struct call *k)
{
    struct err e;

    enter(k);
    start(k);
    if (k->rpc.method->streams & RPC_CLIENT_STREAM)
        end_input(k, feed(k, &e), &e);
    serve(k);
    leave(k);
    pthread_mutex_lock(&k->mu);
    unlock_unref(k);
}

/* "Bearer, TOKEN", all that a browser lets a script say. As in etcd, no other field
 * of the handshake counts. False: these are other subprotocols. */
static bool read_bearer(struct str protocols, struct str *token)
{
    struct str first;

    str_cut(&protocols, ',', &first);
    *token = str_trim(protocols);
    return str_eqz(str_trim(first), "Bearer");
}

/* Also of a path that is no method's: as in etcd, that is told by a message. */
static void call_by_socket(struct server *s, struct http_exchange *x,
                           const struct rpc_method *m)
{
    struct call *k = call_new(s, x, m);
    struct str token;
    bool bearer = read_bearer(header(k, "Sec-WebSocket-Protocol"), &token);

    k->socket = xcalloc(1, sizeof(*k->socket));
    k->socket->in.max = body_max(s);
    k->socket->due = true;
    k->hung_up = true; /* to look first, and be told later */
    websocket_add_head(&k->socket->frames, http_request(x),
                       bearer ? "Bearer" : NULL);
    if (!m) {
        socket_write(k, STR("Not Found"));
    } else if (bearer && token.n && !rpc_set_token(&k->rpc, token)) {
        send_error(k, GRPC_RESOURCE_EXHAUSTED, "too long metadata");
    } else {
        socket_flush(k);
        enter(k);
        serve(k);
        leave(k);
    }
    socket_close(k);
    pthread_mutex_lock(&k->mu);
    unlock_unref(k);
}

static void by_socket(struct server *s, struct http_exchange *x,
                      const struct rpc_method *m, int status)
{
    if (status == 101 && http_take_over(x)) {
        call_by_socket(s, x, m);
        return;
    }
    if (status == 101) { /* it did not wait for an answer */
        http_close_after(x);
        status = 400;
    }
    http_set_header_text(x, "Sec-WebSocket-Version", STR("13"));
    http_error(x, status, http_status_text(status));
}

/* Is the answer short, and the handler's doing alone? One that waits for others,
 * as for a lock, must hear that its client has gone. */
static bool may_defer(const struct call *k)
{
    const struct rpc_method *m = k->rpc.method;

    return m->streams == 0 && m->id != RPC_KV_RANGE &&
           !(rpc_rows[m->id].flags & RPC_BLOCKING) && !k->rpc.deadline_ns &&
           http_can_defer(k->x);
}

static void call(struct server *s, struct http_exchange *x,
                 const struct rpc_method *m)
{
    struct call *k = call_new(s, x, m);

    if (!read_metadata(k) || !read_body(k) ||
        (!(m->streams & RPC_CLIENT_STREAM) && !read_request(k)))
        call_free(k);
    else if (may_defer(k))
        call_deferred(k);
    else
        call_served(k);
}

/* "/v3" alone, as Go's mux has it. */
static void redirect(struct http_exchange *x)
{
    static const char note[] = "<a href=\"/v3/\">Moved Permanently</a>.\n\n";
    bool get = http_method_is(x, "GET");

    http_set_header_text(x, "Location", STR("/v3/"));
    http_set_status(x, 301);
    if (get || http_method_is(x, "HEAD"))
        http_set_header_text(x, "Content-Type",
                             STR("text/html; charset=utf-8"));
    http_send(x, note, get ? sizeof(note) - 1 : 0);
}

static void get_enabled(struct auth *a, void *arg)
{
    *(bool *)arg = auth_enabled(a);
}

/*
 * Does the client expect that its certificate says who it is? Here it does not,
 * so that nobody's request is carried out in somebody else's name
 * (CVE-2018-16886).
 */
static bool relies_on_certificate(struct server *s, struct http_exchange *x)
{
    bool on;

    if (!server_config(s)->client_tls.client_cert_auth ||
        net_peer_cn(http_stream(x)).n == 0)
        return false;
    v3_with_auth(s, get_enabled, &on);
    return on;
}

bool gateway_handle(struct server *s, struct http_exchange *x)
{
    struct str path = http_path(x);
    const struct rpc_method *m;
    int upgrade;

    if (str_eqz(path, "/v3")) {
        redirect(x);
        return true;
    }
    if (!rpc_gateway_path(path))
        return false;
    m = rpc_find_gateway(path);
    upgrade = websocket_check(http_request(x));
    if (relies_on_certificate(s, x))
        http_error(x, 400,
                   "CommonName of client sending a request against gateway "
                   "will be ignored and not used as expected");
    else if (upgrade)
        by_socket(s, x, m, upgrade);
    else if (!m)
        http_error(x, 404, "Not Found");
    else if (!http_method_is(x, "POST"))
        http_error(x, 405, "Method Not Allowed");
    else
        call(s, x, m);
    return true;
}
