/*
 * v3lease.c - the Lease service (spec: v3-api, 6). What is granted and revoked
 * goes through the log; how long a lease still lives only the leader knows, and a
 * follower asks it.
 *
 * A keep-alive waits, without a thread, for a round of ReadIndex, which is free
 * for a single voter: then a leader may answer it. On a follower it queues up for
 * a thread that asks the leader for one after the other, and that lives as long
 * as there are any.
 */
#include "grpc.h"
#include "rpc.h"
#include "sys.h"

#define ASKED_MAX 1024 /* keep-alives of a stream that wait for the leader */

/* --- Grant, revoke. ------------------------------------------------------------- */

static void answer_grant(struct rpc_call *c, const struct v3_result *r)
{
    struct rpcpb_lease_grant_response out = {
        .header = rpc_header(c, r->header),
        .ID = r->u.lease_grant.id,
        .TTL = r->u.lease_grant.ttl,
    };

    rpc_reply(c, &out);
}

void v3lease_grant(struct rpc_call *c)
{
    struct rpcpb_lease_grant_request req =
        *(const struct rpcpb_lease_grant_request *)c->request;
    struct buf b = {0};

    if (req.ID) {
        rpc_propose(c, V3_LEASE_GRANT, c->request_bytes, answer_grant);
        return;
    }
    req.ID = v3_lease_new_id(c->server);
    msg_encode(&rpcpb_lease_grant_request_desc, &req, &b);
    rpc_propose(c, V3_LEASE_GRANT, buf_str(&b), answer_grant);
    buf_release(&b);
}

static void answer_revoke(struct rpc_call *c, const struct v3_result *r)
{
    struct rpcpb_lease_revoke_response out = {.header =
                                                  rpc_header(c, r->header)};

    rpc_reply(c, &out);
}

void v3lease_revoke(struct rpc_call *c)
{
    rpc_propose(c, V3_LEASE_REVOKE, c->request_bytes, answer_revoke);
}

/* --- Questions. ------------------------------------------------------------------- */

void v3lease_time_to_live(struct rpc_call *c)
{
    const struct rpcpb_lease_time_to_live_request *req = c->request;
    struct rpcpb_lease_time_to_live_response r = {.ID = req->ID};
    struct v3_lease_info info;
    bool strict = server_config(c->server)->strict_auth;
    enum v3_error e = v3_lease_time_to_live(c->server, strict ? &c->who : NULL,
                                            req->ID, req->keys, &info);

    if (e) {
        rpc_fail_error(c, e);
        return;
    }
    r.header = rpc_header(c, v3_header(c->server));
    r.TTL = info.ttl;
    r.grantedTTL = info.granted_ttl;
    r.keys.items = info.keys;
    r.keys.n = info.n_keys;
    rpc_reply(c, &r);
    v3_lease_info_release(&info);
}

void v3lease_leases(struct rpc_call *c)
{
    struct rpcpb_lease_leases_response r = {0};
    struct v3_header h;
    int64_t *ids;
    size_t n = v3_lease_list(c->server, &ids, &h);

    r.leases.items = xcalloc(n, sizeof(*r.leases.items));
    r.leases.n = n;
    for (size_t i = 0; i < n; i++)
        r.leases.items[i].ID = ids[i];
    free(ids);
    r.header = rpc_header(c, h);
    rpc_reply(c, &r);
    free(r.leases.items);
}

/* --- Keep-alive. ------------------------------------------------------------------- */

/* In the arena: a callback that is under way when the call ends still finds it. */
struct keep_alive {
    pthread_mutex_t mu;
    int64_t ids[ASKED_MAX]; /* mu; a ring: the leader is asked for them */
    size_t first, n;        /* mu */
    bool asking;            /* mu; a thread will look at the ring */
    size_t pending;         /* mu; requests that are not answered yet */
    bool over;              /* mu; nothing more will come */
    bool ended;             /* mu; the call has, or is about to */
    enum v3_error failed;   /* mu; how it is to end */
};

/* A request that waits for this member to be sure of its role. */
struct renewal {
    struct v3_read read;
    struct rpc_call *call;
    int64_t id;
};

static bool send_ttl(struct rpc_call *c, int64_t id, int64_t ttl)
{
    struct rpcpb_response_header header;
    struct rpcpb_lease_keep_alive_response r = {
        .header = &header, .ID = id, .TTL = ttl};

    rpc_set_header(c, v3_header(c->server), &header);
    return rpc_send(c, &r) || rpc_is_gone(c);
}

/* Note what happened, and end the call if it is time. */
static void settle(struct rpc_call *c, size_t answered, bool over,
                   enum v3_error e)
{
    struct keep_alive *k = c->state;
    enum v3_error failed;
    bool end;

    pthread_mutex_lock(&k->mu);
    k->pending -= answered;
    k->over = k->over || over;
    if (!k->failed)
        k->failed = e;
    failed = k->failed;
    end = !k->ended && k->pending == 0 && (k->over || failed);
    k->ended = k->ended || end;
    pthread_mutex_unlock(&k->mu);
    if (end && failed)
        rpc_fail_error(c, failed);
    else if (end)
        rpc_finish(c);
}

/* Answer a request; its stream fails with a client that does not read. */
static void answer_ttl(struct rpc_call *c, int64_t id, int64_t ttl)
{
    settle(c, 1, false,
           send_ttl(c, id, ttl) ? V3_OK : V3_REQUEST_TOO_MANY_REQUESTS);
}

/* Takes the next; false: it was the last, and another thread will see to what
 * comes behind it. With its answer the call may be gone. */
static bool next_asked(struct keep_alive *k, int64_t *id)
{
    bool more;

    pthread_mutex_lock(&k->mu);
    *id = k->ids[k->first++ % ASKED_MAX];
    more = --k->n > 0;
    k->asking = more;
    pthread_mutex_unlock(&k->mu);
    return more;
}

static void ask_leader(struct rpc_call *c)
{
    int64_t id, ttl = 0;
    bool more;

    do {
        enum v3_error e = V3_OK;

        more = next_asked(c->state, &id);
        if (!rpc_is_gone(c))
            e = v3_lease_renew(c->server, id, &ttl);
        if (e || rpc_is_gone(c))
            settle(c, 1, false, e);
        else
            answer_ttl(c, id, ttl);
    } while (more);
}

static void queue_for_leader(struct rpc_call *c, int64_t id)
{
    struct keep_alive *k = c->state;
    bool start, more;

    pthread_mutex_lock(&k->mu);
    k->ids[(k->first + k->n++) % ASKED_MAX] = id; /* pending bounds it */
    start = !k->asking;
    k->asking = true;
    pthread_mutex_unlock(&k->mu);
    if (!start || rpc_block(c, ask_leader))
        return;
    do {
        more = next_asked(k, &id);
        settle(c, 1, false, V3_REQUEST_TOO_MANY_REQUESTS);
    } while (more);
}

static void confirmed(struct v3_read *read)
{
    struct renewal *r = read->arg;
    struct rpc_call *c = r->call;
    enum v3_error e = read->error;
    int64_t id = r->id, ttl;

    free(r);
    if (e == V3_TIMEOUT && !server_has_leader(c->server))
        e = V3_NO_LEADER; /* whom it waited for */
    if (e)
        settle(c, 1, false, e);
    else if (v3_lease_renew_local(c->server, id, &ttl))
        answer_ttl(c, id, ttl);
    else
        queue_for_leader(c, id);
}

/* A leader that was cut off must not renew what another lets end. */
static void on_keep_alive(struct rpc_call *c, const void *request)
{
    const struct rpcpb_lease_keep_alive_request *req = request;
    struct keep_alive *k = c->state;
    struct renewal *r;
    bool take, full;

    pthread_mutex_lock(&k->mu);
    full = k->pending == ASKED_MAX;
    take = !full && !k->ended && !k->failed;
    k->pending += take;
    pthread_mutex_unlock(&k->mu);
    if (!take) {
        settle(c, 0, false, full ? V3_REQUEST_TOO_MANY_REQUESTS : V3_OK);
        return;
    }
    r = xmalloc(sizeof(*r));
    *r = (struct renewal){
        .read = {.done = confirmed, .arg = r}, .call = c, .id = req->ID};
    v3_read_index(c->server, &r->read, 0);
}

/* The client has ended its side, or is gone. */
static void on_over(struct rpc_call *c)
{
    settle(c, 0, true, V3_OK);
}

void v3lease_keep_alive(struct rpc_call *c)
{
    struct keep_alive *k = arena_alloc(&c->arena, sizeof(*k));

    if (!k) {
        rpc_fail_error(c, V3_REQUEST_TOO_LARGE);
        return;
    }
    pthread_mutex_init(&k->mu, NULL);
    c->state = k;
    c->on_message = on_keep_alive;
    c->on_end = on_over;
    c->on_gone = on_over;
}
