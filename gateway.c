/*
 * gateway.c - calls in JSON over HTTP/1.
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
 */
#include "gateway.h"
#include "grpc.h"
#include "json.h"
#include "rpc.h"
#include "rpccount.h"
#include "sys.h"

#include <assert.h>
#include <stdio.h>

#define BODY_EXTRA (64 * 1024) /* of JSON around what a message may hold */
#define PULL_STEP 32768
#define TEXT_MAX 256
#define QUIET_NS NS_PER_S /* then idle memory is given back */

struct call {
    struct rpc_call rpc; /* first: they are one */
    struct http_exchange *x;
    char peer[64];
    bool deferred;
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

static void send_error(struct http_exchange *x, int code, const char *text)
{
    struct buf b = {0};

    buf_adds(&b, "{\"error\":");
    json_add_string(&b, str_of(text));
    buf_adds(&b, ",\"message\":");
    json_add_string(&b, str_of(text));
    buf_printf(&b, ",\"code\":%d}", code);
    http_set_header_text(x, "Content-Type", STR("application/json"));
    http_set_status(x, http_status_of(code));
    http_send(x, b.data, b.len);
    buf_release(&b);
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

/* The last line of a stream that had others before. */
static void write_error_line(struct call *k, int code, const char *text)
{
    int status = http_status_of(code);
    struct buf b = {0};

    buf_printf(&b, "{\"error\":{\"grpc_code\":%d,\"http_code\":%d,\"message\":",
               code, status);
    json_add_string(&b, str_of(text));
    buf_printf(&b, ",\"http_status\":\"%s\"}}\n", http_status_text(status));
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
    k->rpc.arena.limit = RPC_ARENA_MAX;
    k->x = x;
    k->refs = 1;
    pthread_mutex_init(&k->mu, NULL);
    sys_cond_init(&k->changed);
    return k;
}

static void call_free(void *call)
{
    struct call *k = call;

    arena_release(&k->rpc.arena);
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
        send_error(k->x, code, text);
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

/* Tell the client why, over the handler's head. */
static void give_up(struct call *k, int code, const char *text)
{
    if (rpc_is_gone(&k->rpc))
        return;
    k->rpc.gone_code = code;
    if (k->begun)
        write_error_line(k, code, text);
    else
        send_error(k->x, code, text);
    k->begun = true;
    lose(k);
}

static void write_out(struct call *k, const void *p, size_t n)
{
    if (n == 0 || rpc_is_gone(&k->rpc))
        return;
    if (!k->begun)
        set_headers(k->x);
    k->begun = true;
    if (http_write(k->x, p, n) < 0)
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

/* Until there is news, or time is up. What lasts costs as little as it can. */
static void await_news(struct call *k)
{
    const struct rpc_call *r = &k->rpc;
    int64_t until = INT64_MAX, quiet = sys_mono_ns() + QUIET_NS;

    if (r->deadline_ns && !rpc_is_gone(r))
        until = r->deadline_ns;
    if (r->timer_ns && r->timer_ns < until)
        until = r->timer_ns;
    pthread_mutex_lock(&k->mu);
    while (
        !has_news(k) &&
        sys_cond_wait_until(&k->changed, &k->mu,
                            (int64_t)min_u64((uint64_t)until, (uint64_t)quiet)))
        ;
    if (!has_news(k) && quiet < until)
        http_prepare_to_wait(k->x);
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
}

static void serve_paced(struct call *k)
{
    write_pulled(k);
    k->done(&k->rpc);
}

/* Has the client gone, or is the server about to? */
static void look_at_client(struct call *k)
{
    bool gone, stopping;

    pthread_mutex_lock(&k->mu);
    gone = k->hung_up;
    pthread_mutex_unlock(&k->mu);
    pthread_mutex_lock(&served.mu);
    stopping = served.stopping;
    pthread_mutex_unlock(&served.mu);
    if (gone)
        lose(k);
    else if (stopping && rpc_is_endless(k->rpc.method))
        give_up(k, v3error_code(V3_STOPPED), v3error_text(V3_STOPPED));
}

/* A stream of nothing. */
static void begin_empty(struct http_exchange *x)
{
    http_set_header_text(x, "Content-Type", STR("application/json"));
    http_begin(x);
}

/* What a call came to is known: the last that the client hears. */
static void say_end(struct call *k)
{
    if (k->code == GRPC_OK && !k->begun && !k->rpc.method->streams) {
        set_headers(k->x);
        http_send(k->x, k->out.data, k->out.len);
        return;
    }
    write_pending(k);
    if (rpc_is_gone(&k->rpc))
        return;
    if (k->code != GRPC_OK && k->begun)
        write_error_line(k, k->code, k->text);
    else if (k->code != GRPC_OK)
        send_error(k->x, k->code, k->text);
    else if (!k->begun)
        begin_empty(k->x);
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
    struct net_park park;

    net_park(&park, http_stream(k->x), hung_up, k);
    while (!is_over(k) && (streams || !rpc_is_gone(&k->rpc)))
        serve_news(k, streams);
    net_unpark(&park);
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

static void refuse_large(struct call *k, size_t n)
{
    char text[TEXT_MAX];

    snprintf(text, sizeof(text),
             "grpc: received message larger than max (%zu vs. %zu)", n,
             message_max(k->rpc.server));
    send_error(k->x, GRPC_RESOURCE_EXHAUSTED, text);
}

/* False: it was answered. */
static bool read_body(struct call *k)
{
    size_t max = message_max(k->rpc.server) * 2 + BODY_EXTRA;
    const char *why;
    int rc = http_read_body(k->x, &k->body, max, &why);

    if (rc == HTTP_EBODY_LARGE)
        refuse_large(k, max);
    else if (rc == HTTP_EBODY_BUSY)
        send_error(k->x, GRPC_RESOURCE_EXHAUSTED,
                   "too many large requests are under way");
    else if (rc < 0)
        send_error(k->x, GRPC_INVALID_ARGUMENT, why);
    return rc == 0;
}

static struct str header(const struct call *k, const char *name)
{
    struct str v = http_header(http_request(k->x), name);

    return v.p ? v : STR("");
}

/* What header fields say. False: it was answered. */
static bool read_metadata(struct call *k)
{
    struct str token = header(k, "Grpc-Metadata-Token");
    struct str timeout = header(k, "Grpc-Timeout");
    struct buf text = {0};
    int64_t ns;

    if (token.n == 0)
        token = header(k, "Authorization");
    if (!arena_str(&k->rpc.arena, token, &k->rpc.token)) {
        send_error(k->x, GRPC_RESOURCE_EXHAUSTED, "too long metadata");
        return false;
    }
    k->rpc.has_leader = str_eqz(header(k, "Grpc-Metadata-Hasleader"), "true");
    if (timeout.n == 0)
        return true;
    if (grpc_parse_timeout(timeout, &ns)) {
        int64_t now = sys_mono_ns();

        k->rpc.deadline_ns = ns > INT64_MAX - now ? INT64_MAX : now + ns;
        return true;
    }
    buf_printf(&text, "invalid grpc-timeout: %.*s",
               (int)min_u64(timeout.n, TEXT_MAX), timeout.p);
    send_error(k->x, GRPC_INVALID_ARGUMENT, buf_z(&text));
    buf_release(&text);
    return false;
}

/* The next message of the body from *at on. 1, 0 at the end, or an error. */
static int decode(struct call *k, size_t *at, void *out, struct err *e)
{
    const struct msg_desc *d = k->rpc.method->request;
    size_t used = 0;
    int rc = msg_decode_json(d, k->body.data + *at, k->body.len - *at,
                             &k->rpc.arena, out, &used, e);

    *at += used;
    return rc == 0 ? 1 : rc == MSG_EEND ? 0 : rc;
}

/* The one message; nothing is the empty one. False: it was answered. */
static bool read_request(struct call *k)
{
    const struct msg_desc *d = k->rpc.method->request;
    void *out = arena_alloc(&k->rpc.arena, d->size);
    struct err e;
    size_t at = 0;
    int rc = decode(k, &at, out, &e);

    if (rc < 0) {
        send_error(k->x,
                   rc == MSG_ELIMIT ? GRPC_RESOURCE_EXHAUSTED
                                    : GRPC_INVALID_ARGUMENT,
                   e.msg);
        return false;
    }
    msg_encode(d, out, &k->bytes);
    if (k->bytes.len > message_max(k->rpc.server)) {
        refuse_large(k, k->bytes.len);
        return false;
    }
    k->rpc.request = out;
    k->rpc.request_bytes = buf_str(&k->bytes);
    return true;
}

/* Hand all messages of the body to the handler. What is no message ends the
 * client's side, too; as in etcd, it is told only if it is the first. */
static void feed(struct call *k)
{
    void *m = xcalloc(1, k->rpc.method->request->size);
    size_t at = 0, n = 0;
    struct err e;
    int rc = 1;

    while (rc > 0 && !is_over(k) && !rpc_is_gone(&k->rpc)) {
        rc = decode(k, &at, m, &e);
        if (rc <= 0)
            break;
        n++;
        rpc_count_received(k->rpc.method, msg_size(k->rpc.method->request, m));
        if (k->rpc.on_message)
            k->rpc.on_message(&k->rpc, m);
    }
    free(m);
    if (is_over(k) || rpc_is_gone(&k->rpc))
        return;
    if (rc < 0 && n == 0)
        give_up(k, GRPC_UNKNOWN, e.msg);
    else if (k->rpc.on_end)
        k->rpc.on_end(&k->rpc);
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
    k->refs++; /* the handler's */
    enter(k);
    rpc_run(&k->rpc);
    if (k->rpc.method->streams & RPC_CLIENT_STREAM)
        feed(k);
    serve(k);
    leave(k);
    pthread_mutex_lock(&k->mu);
    unlock_unref(k);
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
    struct str path = http_path(x);

    http_set_header(x, "Location", "%.*s/", STR_FMT(path));
    http_set_status(x, 301);
    http_send(x, NULL, 0);
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

    if (str_eqz(path, "/v3") || str_eqz(path, "/v3beta") ||
        str_eqz(path, "/v3alpha")) {
        redirect(x);
        return true;
    }
    if (!rpc_gateway_path(path))
        return false;
    m = rpc_find_gateway(path);
    if (relies_on_certificate(s, x))
        http_error(x, 400,
                   "CommonName of client sending a request against gateway "
                   "will be ignored and not used as expected");
    else if (!m)
        http_error(x, 404, "Not Found");
    else if (!http_method_is(x, "POST"))
        http_error(x, 405, "Method Not Allowed");
    else
        call(s, x, m);
    return true;
}
