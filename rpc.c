/*
 * rpc.c - who may call what, where handlers run, and what is made for doors.
 * The table of methods is in rpcrows.c.
 */
#include "rpc.h"
#include "grpc.h"
#include "rpccount.h"
#include "rpcslow.h"
#include "sys.h"

#include <assert.h>

/* --- Errors and headers. ---------------------------------------------------------- */

void rpc_fail(struct rpc_call *c, int grpc_code, const char *text)
{
    c->door->fail(c, grpc_code, text);
}

void rpc_fail_error(struct rpc_call *c, enum v3_error e)
{
    assert(e != V3_OK);
    rpc_fail(c, v3error_code(e), v3error_text(e));
}

void rpc_fail_unread(struct rpc_call *c, enum v3_error e)
{
    if (e == V3_TIMEOUT && !server_has_leader(c->server))
        rpc_fail(c, GRPC_UNKNOWN, "context deadline exceeded");
    else
        rpc_fail_error(c, e);
}

void rpc_set_header(struct rpc_call *c, struct v3_header h,
                    struct rpcpb_response_header *out)
{
    *out = (struct rpcpb_response_header){
        .cluster_id = cluster_id(server_cluster(c->server)),
        .member_id = server_id(c->server),
        .revision = h.revision,
        .raft_term = h.raft_term,
    };
}

struct rpcpb_response_header *rpc_header(struct rpc_call *c, struct v3_header h)
{
    struct rpcpb_response_header *out;

    c->arena.limit = SIZE_MAX; /* it bounds requests only */
    out = arena_alloc(&c->arena, sizeof(*out));
    rpc_set_header(c, h, out);
    return out;
}

/* --- Admission. --------------------------------------------------------------------- */

static void get_enabled(struct auth *a, void *arg)
{
    *(bool *)arg = auth_enabled(a);
}

static enum v3_error check_user(struct rpc_call *c)
{
    bool on;

    v3_with_auth(c->server, get_enabled, &on);
    return on && c->who.user.n == 0 ? V3_USER_EMPTY : V3_OK;
}

static enum v3_error check_access(struct rpc_call *c, enum rpc_access access)
{
    enum v3_error e;

    if (access == RPC_DENIED)
        return V3_PERMISSION_DENIED;
    if (access == RPC_OPEN)
        return V3_OK;
    e = v3_who_is(c->server, c->token, c->cn, &c->who, c->who_storage,
                  sizeof(c->who_storage));
    if (e == V3_OK && access == RPC_ADMIN)
        e = v3_is_admin(c->server, &c->who);
    if (e == V3_OK && access == RPC_USER)
        e = check_user(c);
    return e;
}

/* etcd's Maintenance service does not translate what its auth store says. */
static void fail_plainly(struct rpc_call *c, enum v3_error e)
{
    rpc_fail(c, GRPC_UNKNOWN,
             e == V3_USER_EMPTY           ? "auth: user name is empty"
             : e == V3_USER_NOT_FOUND     ? "auth: user not found"
             : e == V3_PERMISSION_DENIED  ? "auth: permission denied"
             : e == V3_INVALID_AUTH_TOKEN ? "auth: invalid auth token"
                                          : v3error_text(e));
}

static bool admit(struct rpc_call *c, const struct rpc_row *row)
{
    rpc_check *check = rpc_checks[c->method->id];
    bool strict = server_config(c->server)->strict_auth;
    enum v3_error e = check_access(c, strict ? row->strict : row->access);

    if (e == V3_OK)
        return true;
    if (check && !check(c))
        return false;
    if (row->flags & RPC_PLAIN_ERRORS)
        fail_plainly(c, e);
    else if (row->flags & RPC_UNKNOWN_ERRORS)
        rpc_fail(c, GRPC_UNKNOWN, v3error_text(e));
    else
        rpc_fail_error(c, e);
    return false;
}

/* A learner serves little: of ranges, those that need no leader. */
static bool may_serve(const struct rpc_call *c, const struct rpc_row *row)
{
    const struct rpcpb_range_request *range = c->request;

    if (!server_is_learner(c->server))
        return true;
    if (!(row->flags & RPC_LEARNER) || c->method->id != RPC_KV_RANGE)
        return row->flags & RPC_LEARNER;
    assert(range);
    return range->serializable;
}

/* --- Proposals. ----------------------------------------------------------------------- */

struct proposal {
    struct v3_write op;
    rpc_answer *answer;
};

/* What never came so far has no times. */
static void note_stages(struct rpc_call *c, const struct waiter *w)
{
    if (!w->proposed_ns)
        return;
    c->stage_ns[RPC_IN_QUEUE] = w->proposed_ns - w->began_ns;
    if (!w->applying_ns)
        return;
    c->stage_ns[RPC_IN_LOG] = w->applying_ns - w->proposed_ns;
    c->stage_ns[RPC_IN_APPLY] = sys_mono_ns() - w->applying_ns;
}

static void proposed(struct v3_write *op)
{
    struct rpc_call *c = op->arg;
    rpc_answer *answer = ((struct proposal *)op)->answer;
    struct v3_result result = op->result; /* op goes with the call */

    note_stages(c, &op->waiter);

    if (result.text)
        rpc_fail(c, result.code, result.text);
    else if (result.error != V3_OK)
        rpc_fail_error(c, result.error);
    else
        answer(c, &result);
    v3_result_release(&result);
}

void rpc_propose(struct rpc_call *c, uint32_t field, struct str bytes,
                 rpc_answer *answer)
{
    struct proposal *p = arena_alloc(&c->arena, sizeof(*p));

    if (!p) {
        rpc_fail_error(c, V3_REQUEST_TOO_LARGE);
        return;
    }
    p->op.done = proposed;
    p->op.arg = c;
    p->op.more = c->more;
    p->answer = answer;
    v3_write(c->server, field, bytes, &c->who, &p->op);
}

/* --- Threads of blocking handlers. ----------------------------------------------------- */

static struct {
    pthread_mutex_t mu;
    pthread_cond_t idle; /* n is 0 */
    unsigned n;          /* how many run */
} blocking = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0};

static bool enter_blocking(unsigned max)
{
    bool may;

    pthread_mutex_lock(&blocking.mu);
    may = blocking.n < max;
    blocking.n += may;
    pthread_mutex_unlock(&blocking.mu);
    return may;
}

static void leave_blocking(void)
{
    pthread_mutex_lock(&blocking.mu);
    if (--blocking.n == 0)
        pthread_cond_broadcast(&blocking.idle);
    pthread_mutex_unlock(&blocking.mu);
}

void rpc_wait_idle(void)
{
    pthread_mutex_lock(&blocking.mu);
    while (blocking.n)
        pthread_cond_wait(&blocking.idle, &blocking.mu);
    pthread_mutex_unlock(&blocking.mu);
}

struct blocking_job {
    void (*fn)(struct rpc_call *c);
    struct rpc_call *call;
};

static void *blocking_main(void *arg)
{
    struct blocking_job *job = arg;

    sys_thread_name("rpc");
    job->fn(job->call);
    free(job);
    leave_blocking();
    return NULL;
}

static bool block(struct rpc_call *c, void (*fn)(struct rpc_call *c),
                  unsigned max)
{
    struct blocking_job *job;

    if (!enter_blocking(max))
        return false;
    job = xmalloc(sizeof(*job));
    *job = (struct blocking_job){fn, c};
    if (sys_thread_detached(SYS_STACK_LARGE, blocking_main, job) == 0)
        return true;
    free(job);
    leave_blocking();
    return false;
}

bool rpc_block(struct rpc_call *c, void (*fn)(struct rpc_call *c))
{
    return block(c, fn, RPC_BLOCKING_MAX);
}

/* One lock for all: it is held for a moment, when a client has gone. */
static pthread_mutex_t listen_mu = PTHREAD_MUTEX_INITIALIZER;

void rpc_listen_gone(struct rpc_call *c, void (*fn)(struct rpc_call *c),
                     void *state)
{
    pthread_mutex_lock(&listen_mu);
    c->listener = fn;
    c->state = state;
    pthread_mutex_unlock(&listen_mu);
}

static void tell_listener(struct rpc_call *c)
{
    pthread_mutex_lock(&listen_mu);
    if (c->listener)
        c->listener(c);
    pthread_mutex_unlock(&listen_mu);
}

bool rpc_set_token(struct rpc_call *c, struct str token)
{
    return !token.p || arena_str(&c->arena, token, &c->token);
}

void rpc_run(struct rpc_call *c)
{
    const struct rpc_row *row = &rpc_rows[c->method->id];

    c->began_ns = sys_mono_ns();
    rpc_count_start(c->method, c->api_version);
    if (c->request)
        rpc_count_received(c->method, c->request_bytes.n);
    if (!may_serve(c, row)) {
        rpc_fail_error(c, V3_NOT_SUPPORTED_FOR_LEARNER);
        return;
    }
    if (c->has_leader && !server_has_leader(c->server)) {
        rpc_fail_error(c, V3_NO_LEADER);
        return;
    }
    if (!admit(c, row))
        return;
    if (row->flags & RPC_BLOCKING)
        c->on_gone = tell_listener;
    if (!(row->flags & RPC_BLOCKING))
        row->handler(c);
    else if (!block(c, row->handler,
                    row->flags & RPC_WAITS ? RPC_WAITING_MAX
                                           : RPC_BLOCKING_MAX))
        rpc_fail_error(c, V3_REQUEST_TOO_MANY_REQUESTS);
}

bool rpc_leader_is_lost(struct server *s, int64_t now, int64_t *seen_ns)
{
    int64_t patience_ns = 3 * server_config(s)->election_ms * NS_PER_MS;

    if (patience_ns < RPC_LEADER_NS * 3 / 2) /* one look is no absence */
        patience_ns = RPC_LEADER_NS * 3 / 2;
    if (server_has_leader(s))
        *seen_ns = now;
    return now - *seen_ns > patience_ns;
}

void rpc_sent(struct rpc_call *c, size_t bytes)
{
    rpc_count_sent(c->method, bytes);
    c->response_bytes += bytes;
}

void rpc_ended(const struct rpc_call *c, int code)
{
    int64_t took = sys_mono_ns() - c->began_ns;
    int64_t slow = server_config(c->server)->warning_unary_ms;

    if (c->method->streams && rpc_is_gone(c))
        code = c->gone_code ? c->gone_code : GRPC_CANCELLED;
    rpc_count_end(c->method, code, took);
    if (slow && took >= slow * NS_PER_MS)
        rpc_slow(c, code, took);
}

/* --- What on_pull() adds to. -------------------------------------------------------------- */

void rpc_out_add(struct rpc_out *out, const void *p, size_t n)
{
    buf_add(&out->bytes, p, n);
}

struct buf *rpc_out_buf(struct rpc_out *out)
{
    return &out->bytes;
}

void rpc_out_ref(struct rpc_out *out, struct str bytes,
                 void (*release)(void *owner), void *owner)
{
    if (bytes.n == 0) {
        release(owner);
        return;
    }
    if (out->n_refs == out->refs_cap) {
        out->refs_cap = out->refs_cap ? out->refs_cap * 2 : 4;
        out->refs = xrealloc(out->refs, out->refs_cap * sizeof(*out->refs));
    }
    out->refs[out->n_refs++] =
        (struct rpc_out_ref){out->bytes.len, bytes, release, owner};
}

void rpc_out_begin(struct rpc_out *out)
{
    out->mark = out->bytes.len;
    out->mark_refs = out->n_refs;
    buf_reserve(&out->bytes, GRPC_PREFIX);
    out->bytes.len += GRPC_PREFIX;
}

void rpc_out_end(struct rpc_call *c, struct rpc_out *out)
{
    size_t n = out->bytes.len - out->mark - GRPC_PREFIX;

    for (size_t i = out->mark_refs; i < out->n_refs; i++)
        n += out->refs[i].bytes.n;
    grpc_put_prefix(out->bytes.data + out->mark, (uint32_t)n, false);
    rpc_sent(c, n);
}

void rpc_out_message(struct rpc_call *c, struct rpc_out *out,
                     const void *response)
{
    const struct msg_desc *d = c->method->response;

    if (c->door->json) {
        buf_adds(&out->bytes, "{\"result\":");
        msg_encode_json(d, response, &out->bytes);
        buf_adds(&out->bytes, "}\n");
        rpc_sent(c, msg_size(d, response));
        return;
    }
    rpc_out_begin(out);
    msg_encode(d, response, &out->bytes);
    rpc_out_end(c, out);
}

static void drop_refs(struct rpc_out *out)
{
    for (size_t i = 0; i < out->n_refs; i++)
        out->refs[i].release(out->refs[i].owner);
    out->n_refs = out->ref = out->ref_pos = 0;
    out->pos = out->bytes.len = 0;
}

struct str rpc_out_next(struct rpc_out *out)
{
    const struct rpc_out_ref *r =
        out->ref < out->n_refs ? &out->refs[out->ref] : NULL;
    size_t end = r ? r->at : out->bytes.len;

    if (out->pos < end)
        return (struct str){(const char *)out->bytes.data + out->pos,
                            end - out->pos};
    if (r)
        return (struct str){r->bytes.p + out->ref_pos,
                            r->bytes.n - out->ref_pos};
    drop_refs(out);
    return (struct str){"", 0};
}

void rpc_out_took(struct rpc_out *out, size_t n)
{
    const struct rpc_out_ref *r =
        out->ref < out->n_refs ? &out->refs[out->ref] : NULL;

    if (out->pos < (r ? r->at : out->bytes.len)) {
        out->pos += n;
        return;
    }
    assert(r);
    out->ref_pos += n;
    if (out->ref_pos == r->bytes.n) {
        out->ref++;
        out->ref_pos = 0;
    }
}

void rpc_out_release(struct rpc_out *out)
{
    drop_refs(out);
    buf_release(&out->bytes);
    free(out->refs);
    out->refs = NULL;
    out->refs_cap = 0;
}
