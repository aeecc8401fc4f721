/*
 * ctlv3mirror.c - make-mirror: copy the keys of a prefix to another cluster, as
 * they are at one revision, then what happens from there on, for ever.
 *
 * All events of one revision go in one transaction, so that the mirror shows
 * no state that the source has not shown; one with more than --max-txn-ops is
 * cut.
 */
#include "ctlv3.h"

#include "sys.h"

#include <inttypes.h>
#include <stdio.h>

#define BATCH 1000 /* keys of the base at a time */
#define REPORT_MS 30000
#define MAX_OPS 128

struct mirror {
    struct ctl *c;
    struct grpc_client *to;
    struct str prefix, to_prefix;
    size_t ops_max;
    int64_t revision;   /* of the source, whose events come next */
    struct arena arena; /* of the batch that is on its way */
    struct rpcpb_txn_request txn;
    uint64_t n; /* atomic: keys mirrored */
};

static int to_fail(struct mirror *m, const struct err *e)
{
    return ctlv3_fail_status(m->c, CTLV3_ERROR, e);
}

/* The key's name over there, in the arena. */
static struct str there(struct mirror *m, struct str key)
{
    size_t n = m->to_prefix.n + key.n - m->prefix.n;
    char *p = arena_alloc(&m->arena, n + 1);

    memcpy(p, m->to_prefix.p, m->to_prefix.n);
    memcpy(p + m->to_prefix.n, key.p + m->prefix.n, key.n - m->prefix.n);
    return (struct str){p, n};
}

static int commit(struct mirror *m)
{
    struct rpcpb_txn_response response = {0};
    size_t n = m->txn.success.n;
    struct err e;

    if (n == 0)
        return 0;
    if (ctlv3_try(m->c, m->to, RPC_KV_TXN, &m->txn, &response, &e) != GRPC_OK)
        return to_fail(m, &e);
    (void)sys_u64_add(&m->n, n);
    m->txn = (struct rpcpb_txn_request){0};
    arena_reset(&m->arena);
    return 0;
}

static int add_op(struct mirror *m, const struct rpcpb_request_op *op)
{
    size_t n = m->txn.success.n, size = sizeof(*m->txn.success.items);

    m->txn.success.items =
        arena_grow(&m->arena, m->txn.success.items, n * size, (n + 1) * size);
    m->txn.success.items[n] = *op;
    m->txn.success.n++;
    return m->txn.success.n == m->ops_max ? commit(m) : 0;
}

static int add_put(struct mirror *m, const struct rpcpb_key_value *kv)
{
    struct rpcpb_put_request *r = arena_alloc(&m->arena, sizeof(*r));

    r->key = there(m, kv->key);
    (void)arena_str(&m->arena, kv->value, &r->value);
    return add_op(m, &(struct rpcpb_request_op){.request_put = r});
}

static int add_delete(struct mirror *m, const struct rpcpb_key_value *kv)
{
    struct rpcpb_delete_range_request *r = arena_alloc(&m->arena, sizeof(*r));

    r->key = there(m, kv->key);
    return add_op(m, &(struct rpcpb_request_op){.request_delete_range = r});
}

/* --- The base. --------------------------------------------------------------------------- */

/* Where the next batch begins: behind this key. */
static struct str behind(struct arena *a, struct str key)
{
    char *p = arena_alloc(a, key.n + 1);

    memcpy(p, key.p, key.n);
    return (struct str){p, key.n + 1};
}

static int copy_base(struct mirror *m, struct ctlv3_range range)
{
    struct arena answers = {.limit = SIZE_MAX / 2}, own = m->c->v3->arena;
    struct rpcpb_range_response r;
    struct buf next = {0};
    int rc = 0;

    do {
        struct rpcpb_range_request q = {.key = range.key,
                                        .range_end = range.end,
                                        .limit = BATCH,
                                        .revision = m->revision};

        if (next.len > 0)
            q.key = buf_str(&next);
        r = (struct rpcpb_range_response){0};
        m->c->v3->arena = answers;
        rc = ctlv3_call(m->c, RPC_KV_RANGE, &q, &r);
        for (size_t i = 0; i < r.kvs.n && rc == 0; i++)
            rc = add_put(m, &r.kvs.items[i]);
        if (rc == 0)
            rc = commit(m);
        if (rc == 0 && m->revision == 0 && r.header)
            m->revision = r.header->revision;
        if (r.kvs.n > 0) {
            struct str key =
                behind(&m->c->v3->arena, r.kvs.items[r.kvs.n - 1].key);

            buf_clear(&next);
            buf_addstr(&next, key);
        }
        answers = m->c->v3->arena;
        arena_reset(&answers);
        m->c->v3->arena = own;
    } while (rc == 0 && r.more && r.kvs.n > 0);
    arena_release(&answers);
    buf_release(&next);
    return rc;
}

/* --- What happens then. -------------------------------------------------------------------- */

static int copy_events(struct mirror *m, const struct rpcpb_watch_response *r)
{
    int64_t revision = 0;
    int rc = 0;

    for (size_t i = 0; i < r->events.n && rc == 0; i++) {
        const struct rpcpb_event *e = &r->events.items[i];

        if (!e->kv)
            continue;
        if (e->kv->mod_revision != revision)
            rc = commit(m);
        revision = e->kv->mod_revision;
        if (rc == 0)
            rc = e->type == RPCPB_EVENT_DELETE ? add_delete(m, e->kv)
                                               : add_put(m, e->kv);
    }
    if (rc == 0)
        rc = commit(m);
    if (rc == 0 && revision > 0)
        m->revision = revision;
    return rc;
}

/* One stream, as long as it lasts. *status is how it ended; returns an exit
 * code if all is over. */
static int follow_stream(struct mirror *m, struct ctlv3_range range,
                         int *status, struct err *e)
{
    struct rpcpb_watch_create_request create = {
        .key = range.key,
        .range_end = range.end,
        .start_revision = m->revision + 1,
    };
    struct rpcpb_watch_request request = {.create_request = &create};
    struct arena a = {.limit = SIZE_MAX / 2};
    struct grpc_stream *s;
    int rc = 0;

    *status = grpc_client_stream(m->c->v3->client,
                                 rpc_methods[RPC_WATCH_WATCH].path.p, 0, &s, e);
    if (*status != GRPC_OK)
        return 0;
    ctlv3_send(s, RPC_WATCH_WATCH, &request);
    while (rc == 0 && *status == GRPC_OK) {
        struct rpcpb_watch_response r = {0};

        arena_reset(&a);
        *status = ctlv3_receive(s, RPC_WATCH_WATCH, &a, &r, 0, e);
        if (*status == GRPC_OK && r.canceled)
            rc = ctlv3_fail(CTLV3_ERROR, "watch is canceled by the server");
        else if (*status == GRPC_OK)
            rc = copy_events(m, &r);
    }
    grpc_stream_close(s);
    arena_release(&a);
    return rc;
}

static int follow(struct mirror *m, struct ctlv3_range range)
{
    int rc, status;
    struct err e;

    for (;;) {
        rc = follow_stream(m, range, &status, &e);
        if (rc != 0)
            return rc;
        if (status != GRPC_UNAVAILABLE && status != GRPC_STREAM_END)
            return ctlv3_fail_status(m->c, CTLV3_ERROR, &e);
        grpc_client_next(m->c->v3->client);
        sys_sleep_ms(100);
    }
}

static void *report(void *arg)
{
    struct mirror *m = arg;

    for (;;) {
        sys_sleep_ms(REPORT_MS);
        printf("%" PRIu64 "\n", sys_u64_load(&m->n));
        (void)fflush(stdout);
    }
    return NULL;
}

/* --- The command. ----------------------------------------------------------------------------- */

/* user[:password] of the destination, into the options. */
static struct grpc_client *client_of_destination(struct ctl *c,
                                                 const char *endpoint,
                                                 struct secure *secure,
                                                 struct err *e)
{
    const char *given = ctl_string(c, "dest-user", "");
    const char *password = ctl_string(c, "dest-password", NULL);
    const char *colon = password ? NULL : strchr(given, ':');
    char *user =
        xstrndup(given, colon ? (size_t)(colon - given) : strlen(given));
    struct grpc_client_options o = {
        .endpoints = &endpoint,
        .n_endpoints = 1,
        .dial_ns = ctlv3_dial_ns(c),
        .user = user[0] ? user : NULL,
        .password = password ? password
                    : colon  ? colon + 1
                             : "",
        .tls = ctl_wants_tls(c, "dest-"),
        .conn.secure = secure,
    };
    struct grpc_client *client = grpc_client_new(&o, e);

    free(user);
    return client;
}

int ctlv3_make_mirror(struct ctl *c)
{
    struct mirror m = {.c = c, .ops_max = MAX_OPS};
    const char *to = ctl_string(c, "dest-prefix", NULL);
    int64_t ops = ctl_int(c, "max-txn-ops", MAX_OPS);
    struct ctlv3_range range;
    struct secure *secure;
    struct err e;
    int rc;

    if (c->n_args != 1)
        return ctlv3_fail(CTLV3_BAD_ARGS,
                          "make-mirror takes one destination argument");
    if (to && to[0] && ctl_bool(c, "no-dest-prefix"))
        return ctlv3_fail(CTLV3_BAD_ARGS,
                          "`--dest-prefix` and `--no-dest-prefix` "
                          "cannot be set at the same time, choose "
                          "one");
    if (ops > 0)
        m.ops_max = (size_t)ops;
    m.prefix = str_of(ctl_string(c, "prefix", ""));
    m.to_prefix = to && to[0] ? str_of(to) : m.prefix;
    if (ctl_bool(c, "no-dest-prefix"))
        m.to_prefix = STR("");
    m.arena.limit = SIZE_MAX / 2;
    if (ctl_secure(c, "dest-", true, &secure, &e) < 0)
        return ctlv3_fail(CTLV3_BAD_ARGS, "%s", e.msg);
    m.to = client_of_destination(c, c->args[0], secure, &e);
    if (!m.to)
        return ctlv3_fail(CTLV3_BAD_CONNECTION, "%s", e.msg);
    c->v3->command_ns = INT64_MAX; /* it outlives what clusters do */
    (void)sys_thread_detached(SYS_STACK_SMALL, report, &m);
    range = ctlv3_range_of(c, ctl_string(c, "prefix", ""), NULL, true, false);
    m.revision = ctl_int(c, "rev", 0);
    rc = ctlv3_connect(c);
    if (rc == 0 && m.revision > 0)
        m.revision--; /* events from --rev on, and no base */
    else if (rc == 0)
        rc = copy_base(&m, range);
    if (rc == 0)
        rc = follow(&m, range);
    (void)ctl_flush();
    _Exit(rc); /* with a thread that reports from m */
}
