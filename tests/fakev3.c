/*
 * fakev3.c - the calls of v3server.h and server.h that handlers of keys and
 * watchers make.
 */
#include "fakev3.h"
#include "grpc.h"
#include "rpc.h"

#include <stdio.h>

#define SLOW_MS 20
#define STEP 1000

void fakev3_init(struct server *s)
{
    *s = (struct server){.config = {.max_request_bytes = 1536 * 1024,
                                    .max_txn_ops = 128,
                                    .max_concurrent_streams = UINT32_MAX,
                                    .election_ms = 100,
                                    .grpc_keepalive_interval_ns = 0}};
    pthread_mutex_init(&s->mu, NULL);
    s->v3 = v3_new(&(struct v3_config){.lease = {.min_ttl = 2}});
}

uint16_t fakev3_listen(const struct http_server_options *o,
                       struct net_listener *listener, struct http_server **http)
{
    struct url u;
    struct err e;

    if (url_parse(STR("http://127.0.0.1:0"), &u, &e) < 0 ||
        net_listen(&u, NULL, listener, &e) < 0 ||
        http_server_start(listener, 1, o, http, &e) < 0) {
        fprintf(stderr, "%s\n", e.msg);
        exit(1);
    }
    url_release(&u);
    return (uint16_t)strtoul(listener->url.port, NULL, 10);
}

void fakev3_wait_idle(struct server *s)
{
    while (__atomic_load_n(&s->n_later, __ATOMIC_ACQUIRE))
        sys_sleep_ms(1);
}

void fakev3_release(struct server *s)
{
    v3_free(s->v3);
    pthread_mutex_destroy(&s->mu);
}

/* --- server.h, cluster.h ---------------------------------------------------- */

const struct config *server_config(const struct server *s)
{
    return &s->config;
}

struct cluster *server_cluster(struct server *s)
{
    (void)s;
    return NULL;
}

uint64_t server_id(const struct server *s)
{
    (void)s;
    return 11;
}

uint64_t cluster_id(const struct cluster *c)
{
    (void)c;
    return 12;
}

void server_status(struct server *s, struct server_status *out)
{
    *out = (struct server_status){.proposals_pending = 0};
    out->raft.leader =
        __atomic_load_n(&s->leaderless, __ATOMIC_ACQUIRE) ? 0 : 11;
}

bool server_has_leader(struct server *s)
{
    return !__atomic_load_n(&s->leaderless, __ATOMIC_ACQUIRE);
}

bool server_is_learner(const struct server *s)
{
    return __atomic_load_n(&s->learner, __ATOMIC_ACQUIRE);
}

/* --- Writes. ----------------------------------------------------------------- */

static struct v3_header header_locked(struct server *s)
{
    return (struct v3_header){mvcc_revision(s->v3->mvcc), 2};
}

/* What lags goes on when something is done to the hub. */
static void step_locked(struct server *s)
{
    while (watch_step(s->v3->watch, STEP))
        ;
}

static void apply(struct server *s, uint32_t field, struct str bytes,
                  struct v3_write *op)
{
    struct v3_request r = {.field = field, .bytes = bytes};

    pthread_mutex_lock(&s->mu);
    v3_apply(s->v3, &r, &(struct v3_moment){.index = ++s->index, .term = 2},
             &op->result);
    watch_notify(s->v3->watch);
    step_locked(s);
    pthread_mutex_unlock(&s->mu);
    op->done(op);
}

struct later {
    struct server *s;
    uint32_t field;
    struct buf bytes;
    struct v3_write *op;
};

static void *apply_later(void *arg)
{
    struct later *l = arg;

    sys_sleep_ms(SLOW_MS);
    apply(l->s, l->field, buf_str(&l->bytes), l->op);
    __atomic_fetch_sub(&l->s->n_later, 1, __ATOMIC_ACQ_REL);
    buf_release(&l->bytes);
    free(l);
    return NULL;
}

void v3_write(struct server *s, uint32_t field, struct str bytes,
              const struct v3_who *who, struct v3_write *op)
{
    struct later *l;

    (void)who;
    if (!__atomic_load_n(&s->slowly, __ATOMIC_ACQUIRE)) {
        apply(s, field, bytes, op);
        return;
    }
    l = xcalloc(1, sizeof(*l));
    l->s = s;
    __atomic_fetch_add(&s->n_later, 1, __ATOMIC_ACQ_REL);
    l->field = field;
    l->op = op;
    buf_addstr(&l->bytes, bytes);
    if (sys_thread_detached(SYS_STACK_LARGE, apply_later, l) < 0)
        abort();
}

void v3_write_flush(struct server *s)
{
    (void)s;
}

/* --- Reads. --------------------------------------------------------------------- */

void v3_read_index(struct server *s, struct v3_read *op, int64_t timeout_ms)
{
    bool hold;

    (void)timeout_ms;
    op->error = V3_OK;
    pthread_mutex_lock(&s->mu);
    hold = s->hold_reads;
    if (hold) {
        op->next = s->held;
        s->held = op;
    }
    pthread_mutex_unlock(&s->mu);
    if (!hold)
        op->done(op);
}

void fakev3_hold_reads(struct server *s)
{
    pthread_mutex_lock(&s->mu);
    s->hold_reads = true;
    pthread_mutex_unlock(&s->mu);
}

size_t fakev3_let_reads_go(struct server *s)
{
    struct v3_read *op, *next;
    size_t n = 0;

    pthread_mutex_lock(&s->mu);
    s->hold_reads = false;
    op = s->held;
    s->held = NULL;
    pthread_mutex_unlock(&s->mu);
    for (; op; op = next, n++) {
        next = op->next;
        op->done(op);
    }
    return n;
}

struct v3_header v3_header(struct server *s)
{
    struct v3_header h;

    pthread_mutex_lock(&s->mu);
    h = header_locked(s);
    pthread_mutex_unlock(&s->mu);
    return h;
}

enum v3_error v3_range(struct server *s, const struct v3_who *who,
                       const struct mvcc_range *r,
                       struct mvcc_range_result *out, struct v3_header *h)
{
    int rc;

    (void)who;
    pthread_mutex_lock(&s->mu);
    rc = mvcc_range(s->v3->mvcc, r, out);
    __atomic_fetch_add(&s->n_ranges, 1, __ATOMIC_RELAXED);
    *h = header_locked(s);
    pthread_mutex_unlock(&s->mu);
    return v3_error_of_mvcc(rc);
}

enum v3_error v3_txn_read(struct server *s, const struct v3_who *who,
                          const struct mvcc_txn *t, struct mvcc_txn_result *out,
                          struct v3_header *h)
{
    int rc;

    (void)who;
    pthread_mutex_lock(&s->mu);
    rc = mvcc_txn(s->v3->mvcc, t, NULL, out);
    *h = header_locked(s);
    pthread_mutex_unlock(&s->mu);
    return v3_error_of_mvcc(rc);
}

enum v3_error v3_read_open(struct server *s, const struct v3_who *who,
                           const struct mvcc_range *r, struct mvcc_read *read,
                           struct v3_header *h)
{
    int rc;

    (void)who;
    pthread_mutex_lock(&s->mu);
    rc = mvcc_read_open(s->v3->mvcc, r, read);
    *h = header_locked(s);
    pthread_mutex_unlock(&s->mu);
    return v3_error_of_mvcc(rc);
}

size_t v3_read_next(struct server *s, struct mvcc_read *read,
                    struct mvcc_kv **kvs, size_t max)
{
    size_t n;

    pthread_mutex_lock(&s->mu);
    n = mvcc_read_next(read, kvs, max);
    pthread_mutex_unlock(&s->mu);
    return n;
}

void v3_read_close(struct server *s, struct mvcc_read *read)
{
    pthread_mutex_lock(&s->mu);
    mvcc_read_close(read);
    pthread_mutex_unlock(&s->mu);
}

/* --- Watch. ----------------------------------------------------------------------- */

struct watch_stream *v3_watch_open(struct server *s, watch_deliver *deliver,
                                   void *arg)
{
    struct watch_stream *w;

    pthread_mutex_lock(&s->mu);
    w = watch_stream_new(s->v3->watch, deliver, arg);
    pthread_mutex_unlock(&s->mu);
    return w;
}

void v3_watch_close(struct server *s, struct watch_stream *w)
{
    pthread_mutex_lock(&s->mu);
    watch_stream_free(w);
    pthread_mutex_unlock(&s->mu);
}

int64_t v3_watch_create(struct server *s, struct watch_stream *w,
                        const struct watch_create *c)
{
    int64_t id;

    pthread_mutex_lock(&s->mu);
    id = watch_create(w, c);
    step_locked(s);
    pthread_mutex_unlock(&s->mu);
    return id;
}

void v3_watch_cancel(struct server *s, struct watch_stream *w, int64_t id)
{
    pthread_mutex_lock(&s->mu);
    watch_cancel(w, id);
    pthread_mutex_unlock(&s->mu);
}

void v3_watch_progress(struct server *s, struct watch_stream *w)
{
    pthread_mutex_lock(&s->mu);
    watch_progress(w);
    step_locked(s);
    pthread_mutex_unlock(&s->mu);
}

void v3_watch_tick(struct server *s, struct watch_stream *w)
{
    pthread_mutex_lock(&s->mu);
    watch_tick(w);
    pthread_mutex_unlock(&s->mu);
}

void v3_watch_ready(struct server *s, struct watch_stream *w)
{
    pthread_mutex_lock(&s->mu);
    watch_ready(w);
    step_locked(s);
    pthread_mutex_unlock(&s->mu);
}

/* --- Auth: off. -------------------------------------------------------------------- */

enum v3_error v3_who_is(struct server *s, struct str token, struct str cn,
                        struct v3_who *who, char *storage, size_t n)
{
    (void)s, (void)cn, (void)storage, (void)n;
    *who = (struct v3_who){{"", 0}, 0};
    return (token.p && token.n == 0) || str_eqz(token, "bad")
               ? V3_INVALID_AUTH_TOKEN
               : V3_OK;
}

enum v3_error v3_may_read(struct server *s, const struct v3_who *who,
                          struct str key, struct str range_end)
{
    (void)s, (void)who, (void)range_end;
    return str_eqz(key, "secret") ? V3_PERMISSION_DENIED : V3_OK;
}

enum v3_error v3_is_admin(struct server *s, const struct v3_who *who)
{
    (void)s, (void)who;
    return V3_OK;
}

void v3_with_auth(struct server *s, void (*fn)(struct auth *a, void *arg),
                  void *arg)
{
    pthread_mutex_lock(&s->mu);
    fn(s->v3->auth, arg);
    pthread_mutex_unlock(&s->mu);
}

/* --- The table of methods: those that are tried here. ------------------------- */

static void wake_gone(struct rpc_call *c)
{
    sys_event_set(c->state);
}

/* As who waits for a lock that is never let go. */
static void wait_until_gone(struct rpc_call *c)
{
    struct server *s = c->server;
    struct sys_event gone = {0};

    rpc_listen_gone(c, wake_gone, &gone);
    __atomic_fetch_add(&s->n_waits, 1, __ATOMIC_ACQ_REL);
    if (!rpc_is_gone(c))
        sys_event_wait_until(&gone, INT64_MAX);
    rpc_listen_gone(c, NULL, NULL);
    __atomic_fetch_add(&s->n_gone, 1, __ATOMIC_ACQ_REL);
    rpc_fail(c, GRPC_CANCELLED, "context canceled");
}

static void answer_at_once(struct rpc_call *c)
{
    rpc_fail(c, GRPC_ABORTED, "served");
}

/* A stream with an answer to each message, until the client has ended its side. */
static void echo(struct rpc_call *c, const void *request)
{
    const struct rpcpb_lease_keep_alive_request *r = request;

    rpc_send(c, &(struct rpcpb_lease_keep_alive_response){.ID = r->ID});
}

static void echo_stream(struct rpc_call *c)
{
    c->on_message = echo;
    c->on_end = c->on_gone = rpc_finish;
}

const struct rpc_row rpc_rows[RPC_METHOD_N] = {
    [RPC_KV_RANGE] = {RPC_KEYS, RPC_KEYS, RPC_LEARNER, v3kv_range},
    [RPC_KV_PUT] = {RPC_KEYS, RPC_KEYS, 0, v3kv_put},
    [RPC_KV_DELETE_RANGE] = {RPC_KEYS, RPC_KEYS, 0, v3kv_delete_range},
    [RPC_KV_TXN] = {RPC_KEYS, RPC_KEYS, 0, v3kv_txn},
    [RPC_KV_COMPACT] = {RPC_ANY, RPC_ADMIN, 0, v3kv_compact},
    [RPC_KV_RANGE_STREAM] = {RPC_KEYS, RPC_KEYS, 0, v3kv_range_stream},
    [RPC_WATCH_WATCH] = {RPC_OPEN, RPC_OPEN, 0, v3watch_watch},
    [RPC_LEASE_KEEP_ALIVE] = {RPC_OPEN, RPC_OPEN, 0, echo_stream},
    [RPC_LOCK_LOCK] = {RPC_OPEN, RPC_OPEN, RPC_BLOCKING | RPC_WAITS,
                       wait_until_gone},
    [RPC_LOCK_UNLOCK] = {RPC_OPEN, RPC_OPEN, RPC_BLOCKING, answer_at_once},
};

rpc_check *const rpc_checks[RPC_METHOD_N] = {
    [RPC_KV_RANGE] = v3kv_check_range,
    [RPC_KV_PUT] = v3kv_check_put,
    [RPC_KV_DELETE_RANGE] = v3kv_check_delete_range,
    [RPC_KV_TXN] = v3kv_check_txn,
};
