/*
 * rpcslow.c - lines about slow calls.
 */
#include "rpcslow.h"
#include "grpc.h"
#include "log.h"
#include "sys.h"

#include <inttypes.h>

#define KEY_SHOWN_MAX 64

static struct {
    pthread_mutex_t mu;
    int64_t second; /* that n counts in */
    unsigned n;
    uint64_t left_out;
} lines = {.mu = PTHREAD_MUTEX_INITIALIZER};

/* May there be a line now? Then *left_out were not shown before it. */
static bool may_tell(uint64_t *left_out)
{
    int64_t now = sys_mono_ns() / NS_PER_S;
    bool may;

    pthread_mutex_lock(&lines.mu);
    if (now != lines.second) {
        lines.second = now;
        lines.n = 0;
    }
    may = lines.n < SLOW_LINES_MAX;
    lines.n += may;
    *left_out = lines.left_out;
    lines.left_out = may ? 0 : lines.left_out + 1;
    pthread_mutex_unlock(&lines.mu);
    return may;
}

static bool waits_by_nature(const struct rpc_method *m)
{
    return m->streams || m->id == RPC_LOCK_LOCK ||
           m->id == RPC_ELECTION_CAMPAIGN;
}

/* The first key that a transaction names. */
static struct str key_of_txn(const struct rpcpb_txn_request *t)
{
    const struct rpcpb_request_op *op =
        t->success.n ? t->success.items : t->failure.items;

    if (t->compare.n)
        return t->compare.items[0].key;
    if (t->success.n + t->failure.n == 0)
        return STR("");
    if (op->request_put)
        return op->request_put->key;
    if (op->request_range)
        return op->request_range->key;
    return op->request_delete_range ? op->request_delete_range->key : STR("");
}

static struct str key_of(const struct rpc_call *c)
{
    if (!c->request)
        return STR("");
    switch (c->method->id) {
    case RPC_KV_RANGE:
        return ((const struct rpcpb_range_request *)c->request)->key;
    case RPC_KV_PUT:
        return ((const struct rpcpb_put_request *)c->request)->key;
    case RPC_KV_DELETE_RANGE:
        return ((const struct rpcpb_delete_range_request *)c->request)->key;
    case RPC_KV_TXN:
        return key_of_txn(c->request);
    default:
        return STR("");
    }
}

/* ` name "beginning"`, if there is any. Keys and names are any bytes. */
static void add_shown(struct buf *b, const char *name, struct str s)
{
    if (s.n == 0)
        return;
    buf_printf(b, ", %s \"", name);
    for (size_t i = 0; i < s.n && i < KEY_SHOWN_MAX; i++) {
        bool plain = s.p[i] >= ' ' && s.p[i] < 127 && s.p[i] != '"';

        buf_addc(b, plain ? s.p[i] : '?');
    }
    buf_adds(b, s.n > KEY_SHOWN_MAX ? "...\"" : "\"");
}

static int64_t ms_of(int64_t ns)
{
    return ns / NS_PER_MS;
}

static void add_stages(struct buf *b, const struct rpc_call *c, int64_t took_ns)
{
    static const char *const names[RPC_STAGES + 1] = {
        [RPC_IN_QUEUE] = "queue", [RPC_IN_LOG] = "raft and disk",
        [RPC_IN_APPLY] = "apply", [RPC_IN_READ_INDEX] = "read index",
        [RPC_IN_SEND] = "send",   [RPC_STAGES] = "handler",
    };
    int64_t ns[RPC_STAGES + 1], rest = took_ns;
    size_t longest = 0;

    for (size_t i = 0; i < RPC_STAGES; i++) {
        ns[i] = c->stage_ns[i];
        if (i == RPC_IN_SEND && c->stage_began_ns)
            ns[i] = c->began_ns + took_ns - c->stage_began_ns;
        rest -= ns[i];
    }
    ns[RPC_STAGES] = rest > 0 ? rest : 0;
    for (size_t i = 1; i <= RPC_STAGES; i++)
        longest = ns[i] > ns[longest] ? i : longest;
    buf_printf(b, ", most of it in %s (", names[longest]);
    for (size_t i = 0; i <= RPC_STAGES; i++)
        buf_printf(b, "%s%s %" PRId64 "ms", i ? ", " : "", names[i],
                   ms_of(ns[i]));
    buf_addc(b, ')');
}

void rpc_slow(const struct rpc_call *c, int code, int64_t took_ns)
{
    struct buf b = {0};
    uint64_t left_out;

    if (waits_by_nature(c->method) || !may_tell(&left_out))
        return;
    buf_printf(&b, "slow request: %.*s", STR_FMT(c->method->path));
    add_shown(&b, "key", key_of(c));
    buf_printf(&b, ", from %s", c->peer);
    add_shown(&b, "user", c->who.user);
    buf_printf(&b, ", took %" PRId64 "ms", ms_of(took_ns));
    add_stages(&b, c, took_ns);
    buf_printf(&b, ", %zu bytes in, %zu out, %s", c->request_bytes.n,
               c->response_bytes, grpc_status_name(code));
    if (left_out)
        buf_printf(&b, "; %" PRIu64 " more were not shown", left_out);
    log_warn("etcdserver", "%s", buf_z(&b));
    buf_release(&b);
}
