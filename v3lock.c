/*
 * v3lock.c - the Lock and Election services: recipes over the same keys, leases
 * and watches that any client could follow, so that both kinds of contender
 * respect each other (spec: v3-api, 6).
 *
 * A contender's key is NAME "/" LEASE in hex, and hangs on its lease. Whoever has
 * the key with the oldest create_revision below NAME "/" holds the lock or leads.
 * The others each wait for the key right before their own to go away: one
 * wake-up for each change of hands.
 *
 * All handlers here are RPC_BLOCKING. Errors carry code Unknown whatever their
 * text, as etcd's do, which come out of a client in the server.
 */
#include "grpc.h"
#include "rpc.h"
#include "sys.h"

#include <inttypes.h>

#define SESSION_TTL 60 /* seconds: of a lease that the server grants itself */
#define SEEN_MAX 1024  /* changes that wait for an observer */
#define NOT_LEADER "election: not leader"
#define NO_LEADER "election: no leader"
#define NO_LEADER_FIELD "\"leader\" field must be provided"

static void fail(struct rpc_call *c, const char *text)
{
    rpc_fail(c, GRPC_UNKNOWN, text);
}

/* --- Requests of our own, in the caller's name. ------------------------------- */

/* V3's text, or NULL if all is well. */
static const char *result_text(const struct v3_result *r)
{
    return r->text ? r->text : r->error ? v3error_text(r->error) : NULL;
}

/* Through the log; NULL, or why not. *out is to be released in either case. */
static const char *propose(struct rpc_call *c, uint32_t field,
                           const struct msg_desc *d, const void *request,
                           struct v3_result *out)
{
    struct buf b = {0};

    msg_encode(d, request, &b);
    v3_write_wait(c->server, field, buf_str(&b), &c->who, out);
    buf_release(&b);
    return result_text(out);
}

static const char *delete_key(struct rpc_call *c, struct str key,
                              struct v3_header *h)
{
    struct rpcpb_delete_range_request del = {.key = key};
    struct v3_result r;
    const char *why =
        propose(c, V3_DELETE_RANGE, &rpcpb_delete_range_request_desc, &del, &r);

    *h = r.header;
    v3_result_release(&r);
    return why;
}

/* If key was created at `revision` (0: is not there), do `then`, else
 * `otherwise` (may be NULL). */
static const char *if_created_at(struct rpc_call *c, struct str key,
                                 int64_t revision,
                                 struct rpcpb_request_op *then,
                                 struct rpcpb_request_op *otherwise,
                                 struct v3_result *out)
{
    struct rpcpb_compare cmp = {.result = RPCPB_COMPARE_EQUAL,
                                .target = RPCPB_COMPARE_TO_CREATE,
                                .key = key,
                                .create_revision = &revision};
    struct rpcpb_txn_request txn = {.compare = {&cmp, 1}, .success = {then, 1}};

    if (otherwise) {
        txn.failure.items = otherwise;
        txn.failure.n = 1;
    }
    return propose(c, V3_TXN, &rpcpb_txn_request_desc, &txn, out);
}

/* --- Keys. -------------------------------------------------------------------- */

/* The end of the range of all that begins with prefix; "\0" is open. */
static struct str prefix_end(struct rpc_call *c, struct str prefix)
{
    struct str end;
    char *p;

    if (!arena_str(&c->arena, prefix, &end))
        return STR("\0");
    p = (char *)end.p;
    while (end.n > 0 && (unsigned char)p[end.n - 1] == 0xff)
        end.n--;
    if (end.n == 0)
        return STR("\0");
    p[end.n - 1]++;
    return end;
}

struct contender {
    struct str prefix, prefix_end, key;
    int64_t lease;
    int64_t revision;        /* of its key's creation */
    struct v3_header header; /* of the transaction that made or found it */
};

static bool name_prefix(struct rpc_call *c, struct str name,
                        struct contender *me)
{
    char *p = arena_alloc(&c->arena, name.n + 1);

    if (!p)
        return false;
    if (name.n)
        memcpy(p, name.p, name.n);
    p[name.n] = '/';
    me->prefix = (struct str){p, name.n + 1};
    me->prefix_end = prefix_end(c, me->prefix);
    return true;
}

static bool name_key(struct rpc_call *c, struct contender *me)
{
    struct buf b = {0};
    bool ok;

    buf_addstr(&b, me->prefix);
    buf_printf(&b, "%" PRIx64, (uint64_t)me->lease);
    ok = arena_str(&c->arena, buf_str(&b), &me->key);
    buf_release(&b);
    return ok;
}

/* Lease 0: one of the server's own, which nobody keeps alive. */
static const char *need_lease(struct rpc_call *c, struct contender *me)
{
    struct rpcpb_lease_grant_request grant = {.TTL = SESSION_TTL,
                                              .ID = v3_lease_new_id(c->server)};
    struct v3_result r;
    const char *why;

    if (me->lease)
        return NULL;
    why =
        propose(c, V3_LEASE_GRANT, &rpcpb_lease_grant_request_desc, &grant, &r);
    me->lease = grant.ID;
    v3_result_release(&r);
    return why;
}

/*
 * Enter the race. The key that is there already, from an earlier call with the
 * same lease, keeps its place; *old (owned, or NULL) is what it holds.
 */
static const char *enter(struct rpc_call *c, struct str name, struct str value,
                         struct contender *me, struct mvcc_kv **old)
{
    struct rpcpb_put_request put = {.value = value};
    struct rpcpb_range_request get = {0};
    struct rpcpb_request_op then = {.request_put = &put},
                            otherwise = {.request_range = &get};
    struct v3_result r;
    const char *why;

    *old = NULL;
    if (!name_prefix(c, name, me))
        return v3error_text(V3_REQUEST_TOO_LARGE);
    why = need_lease(c, me);
    if (why)
        return why;
    if (!name_key(c, me))
        return v3error_text(V3_REQUEST_TOO_LARGE);
    put.key = get.key = me->key;
    put.lease = me->lease;
    why = if_created_at(c, me->key, 0, &then, &otherwise, &r);
    me->header = r.header;
    me->revision = r.header.revision;
    if (!why && !r.u.txn.succeeded && r.u.txn.results[0].u.range.n == 1) {
        *old = mvcc_ref(r.u.txn.results[0].u.range.kvs[0]);
        me->revision = (*old)->create_revision;
    }
    v3_result_release(&r);
    return why;
}

/* --- Waiting for events. --------------------------------------------------------- */

/* Versions as they come from a watch, for one thread that waits. */
struct seen {
    pthread_mutex_t mu;
    pthread_cond_t cond;
    struct mvcc_kv *kvs[SEEN_MAX]; /* mu; a ring of references */
    size_t first, n;               /* mu */
    bool refused;                  /* mu; a batch found no room */
    bool lost;                     /* mu; compacted: look anew */
    struct rpc_call *call;
    struct watch_stream *stream;
};

static bool on_event(void *arg, const struct watch_message *m)
{
    struct seen *s = arg;
    bool taken = true;

    pthread_mutex_lock(&s->mu);
    if (m->kind == WATCH_COMPACTED || m->kind == WATCH_REFUSED) {
        s->lost = true;
    } else if (m->kind == WATCH_EVENTS) {
        /* A batch that is larger than the ring could never be taken. */
        taken = m->n <= SEEN_MAX - s->n || s->n == 0;
        s->refused = !taken;
        s->lost = s->lost || m->n > SEEN_MAX;
        for (size_t i = 0; taken && i < m->n && i < SEEN_MAX; i++)
            s->kvs[(s->first + s->n++) % SEEN_MAX] =
                mvcc_ref(m->batch->events[m->which[i]].kv);
    }
    pthread_cond_signal(&s->cond);
    pthread_mutex_unlock(&s->mu);
    return taken;
}

/* The client is gone: whoever waits is to look. */
static void on_gone(struct rpc_call *c)
{
    struct seen *s = c->state;

    pthread_mutex_lock(&s->mu);
    pthread_cond_signal(&s->cond);
    pthread_mutex_unlock(&s->mu);
}

static struct seen *seen_new(struct rpc_call *c)
{
    struct seen *s = xcalloc(1, sizeof(*s));

    pthread_mutex_init(&s->mu, NULL);
    sys_cond_init(&s->cond);
    s->call = c;
    rpc_listen_gone(c, on_gone, s);
    return s;
}

static void seen_close(struct seen *s)
{
    if (s->stream)
        v3_watch_close(s->call->server, s->stream);
    s->stream = NULL;
    for (; s->n; s->n--)
        mvcc_unref(s->kvs[s->first++ % SEEN_MAX]);
    s->first = 0;
    s->refused = s->lost = false;
}

static void seen_free(struct seen *s)
{
    rpc_listen_gone(s->call, NULL, NULL);
    seen_close(s);
    pthread_cond_destroy(&s->cond);
    pthread_mutex_destroy(&s->mu);
    free(s);
}

static void seen_open(struct seen *s, struct str key, struct str range_end,
                      int64_t from)
{
    struct watch_create create = {
        .key = key, .range_end = range_end, .start_revision = from};

    seen_close(s);
    s->stream = v3_watch_open(s->call->server, on_event, s);
    v3_watch_create(s->call->server, s->stream, &create);
}

/* The next version, owned; NULL: gone, or look at the keys anew. */
static struct mvcc_kv *seen_next(struct seen *s)
{
    struct mvcc_kv *kv = NULL;
    bool ready;

    pthread_mutex_lock(&s->mu);
    while (s->n == 0 && !s->lost && !rpc_is_gone(s->call))
        pthread_cond_wait(&s->cond, &s->mu);
    if (s->n > 0) {
        kv = s->kvs[s->first++ % SEEN_MAX];
        s->n--;
    }
    ready = s->refused && s->n == 0;
    if (ready)
        s->refused = false;
    pthread_mutex_unlock(&s->mu);
    if (ready)
        v3_watch_ready(s->call->server, s->stream);
    return kv;
}

/* --- The race. --------------------------------------------------------------------- */

/* The first or last created below the prefix, not after max; *kv owned, or
 * NULL if there is none. */
static const char *get_one(struct rpc_call *c, const struct contender *me,
                           int order, int64_t max, struct mvcc_kv **kv,
                           struct v3_header *h)
{
    struct mvcc_range req = {.key = me->prefix,
                             .range_end = me->prefix_end,
                             .order = order,
                             .target = MVCC_BY_CREATE,
                             .limit = 1,
                             .max_create_revision = max};
    struct mvcc_range_result r;
    enum v3_error e = v3_read_index_wait(c->server);

    *kv = NULL;
    if (!e)
        e = v3_range(c->server, &c->who, &req, &r, h);
    if (e)
        return v3error_text(e);
    if (r.n)
        *kv = mvcc_ref(r.kvs[0]);
    mvcc_range_release(&r);
    return NULL;
}

/*
 * Until no key is left that is older than mine. NULL, and in *h the revision at
 * which that was seen; or why not.
 */
static const char *wait_turn(struct rpc_call *c, const struct contender *me,
                             struct v3_header *h)
{
    struct seen *seen = seen_new(c);
    struct mvcc_kv *before, *kv;
    const char *why;

    for (;;) {
        bool is_gone = false;

        why = get_one(c, me, MVCC_DESCEND, me->revision - 1, &before, h);
        if (why || !before)
            break;
        seen_open(seen, mvcc_key(before), STR(""), h->revision + 1);
        while (!is_gone && (kv = seen_next(seen))) {
            is_gone = mvcc_is_tombstone(kv);
            mvcc_unref(kv);
        }
        mvcc_unref(before);
        if (rpc_is_gone(c)) {
            why = "context canceled";
            break;
        }
    }
    seen_free(seen);
    return why;
}

/* Is it still there? Its lease may have ended while it waited. */
static bool is_alive(struct rpc_call *c, const struct contender *me,
                     struct v3_header *h)
{
    struct mvcc_range req = {.key = me->key};
    struct mvcc_range_result r;
    bool alive;

    if (v3_range(c->server, &c->who, &req, &r, h))
        return false;
    alive = r.n == 1 && r.kvs[0]->create_revision == me->revision;
    mvcc_range_release(&r);
    return alive;
}

static bool is_first(struct rpc_call *c, const struct contender *me,
                     const char **why)
{
    struct v3_header h;
    struct mvcc_kv *kv;
    bool first;

    *why = get_one(c, me, MVCC_ASCEND, 0, &kv, &h);
    first = kv && kv->create_revision == me->revision;
    mvcc_unref(kv);
    return first;
}

void v3lock_lock(struct rpc_call *c)
{
    const struct rpcpb_lock_request *req = c->request;
    struct contender me = {.lease = req->lease};
    struct rpcpb_lock_response r = {0};
    struct v3_header h;
    struct mvcc_kv *old;
    const char *why = enter(c, req->name, STR(""), &me, &old);

    mvcc_unref(old);
    if (!why && !is_first(c, &me, &why) && !why) {
        why = wait_turn(c, &me, &me.header);
        if (!why && !is_alive(c, &me, &me.header))
            why = "mutex: session is expired";
        else if (why)
            delete_key(c, me.key, &h);
    }
    if (why) {
        fail(c, why);
        return;
    }
    r.header = rpc_header(c, me.header);
    r.key = me.key;
    rpc_reply(c, &r);
}

static bool given(struct rpc_call *c, bool is_there, const char *why)
{
    if (!is_there)
        fail(c, why);
    return is_there;
}

bool v3lock_check_unlock(struct rpc_call *c)
{
    const struct rpcpb_unlock_request *req = c->request;

    return given(c, req->key.n > 0, v3error_text(V3_EMPTY_KEY));
}

void v3lock_unlock(struct rpc_call *c)
{
    const struct rpcpb_unlock_request *req = c->request;
    struct rpcpb_unlock_response r = {0};
    struct v3_header h = {0};
    const char *why;

    if (!v3lock_check_unlock(c))
        return;
    why = delete_key(c, req->key, &h);
    if (why) {
        fail(c, why);
        return;
    }
    r.header = rpc_header(c, h);
    rpc_reply(c, &r);
}

/* --- Elections. ------------------------------------------------------------------- */

static const char *resign(struct rpc_call *c, struct str key, int64_t revision,
                          struct v3_header *h)
{
    struct rpcpb_delete_range_request del = {.key = key};
    struct rpcpb_request_op then = {.request_delete_range = &del};
    struct v3_result r;
    const char *why = if_created_at(c, key, revision, &then, NULL, &r);

    *h = r.header;
    v3_result_release(&r);
    return why;
}

static const char *proclaim(struct rpc_call *c, struct str key,
                            int64_t revision, int64_t lease, struct str value,
                            struct v3_header *h)
{
    struct rpcpb_put_request put = {.key = key, .value = value, .lease = lease};
    struct rpcpb_request_op then = {.request_put = &put};
    struct v3_result r;
    const char *why = if_created_at(c, key, revision, &then, NULL, &r);

    if (!why && !r.u.txn.succeeded)
        why = NOT_LEADER;
    *h = r.header;
    v3_result_release(&r);
    return why;
}

void v3lock_campaign(struct rpc_call *c)
{
    const struct rpcpb_campaign_request *req = c->request;
    struct contender me = {.lease = req->lease};
    struct rpcpb_campaign_response r = {0};
    struct rpcpb_leader_key leader = {0};
    struct v3_header h;
    struct mvcc_kv *old;
    const char *why = enter(c, req->name, req->value, &me, &old);
    bool entered = !why;

    if (old && !str_eq(mvcc_value(old), req->value))
        why = proclaim(c, me.key, me.revision, me.lease, req->value, &h);
    mvcc_unref(old);
    if (!why)
        why = wait_turn(c, &me, &h);
    if (why) {
        if (entered)
            resign(c, me.key, me.revision, &h);
        fail(c, why);
        return;
    }
    leader = (struct rpcpb_leader_key){.name = req->name,
                                       .key = me.key,
                                       .rev = me.revision,
                                       .lease = me.lease};
    r.header = rpc_header(c, me.header);
    r.leader = &leader;
    rpc_reply(c, &r);
}

bool v3lock_check_proclaim(struct rpc_call *c)
{
    const struct rpcpb_proclaim_request *req = c->request;

    return given(c, req->leader, NO_LEADER_FIELD);
}

void v3lock_proclaim(struct rpc_call *c)
{
    const struct rpcpb_proclaim_request *req = c->request;
    const struct rpcpb_leader_key *l = req->leader;
    struct rpcpb_proclaim_response r = {0};
    struct contender me = {0};
    struct v3_header h;
    const char *why;

    if (!v3lock_check_proclaim(c))
        return;
    me.lease = l->lease;
    why = need_lease(c, &me);
    if (!why)
        why = proclaim(c, l->key, l->rev, me.lease, req->value, &h);
    if (why) {
        fail(c, why);
        return;
    }
    r.header = rpc_header(c, h);
    rpc_reply(c, &r);
}

bool v3lock_check_resign(struct rpc_call *c)
{
    const struct rpcpb_resign_request *req = c->request;

    return given(c, req->leader, NO_LEADER_FIELD);
}

void v3lock_resign(struct rpc_call *c)
{
    const struct rpcpb_resign_request *req = c->request;
    const struct rpcpb_leader_key *l = req->leader;
    struct rpcpb_resign_response r = {0};
    struct v3_header h;
    const char *why;

    if (!v3lock_check_resign(c))
        return;
    why = resign(c, l->key, l->rev, &h);
    if (why) {
        fail(c, why);
        return;
    }
    r.header = rpc_header(c, h);
    rpc_reply(c, &r);
}

static void fill_kv(const struct mvcc_kv *kv, struct rpcpb_key_value *out)
{
    *out = (struct rpcpb_key_value){.key = mvcc_key(kv),
                                    .value = mvcc_value(kv),
                                    .create_revision = kv->create_revision,
                                    .mod_revision = kv->mod_revision,
                                    .version = kv->version,
                                    .lease = kv->lease};
}

void v3lock_leader(struct rpc_call *c)
{
    const struct rpcpb_leader_request *req = c->request;
    struct contender race = {.lease = 0};
    struct rpcpb_leader_response r = {0};
    struct rpcpb_key_value out;
    struct v3_header h;
    struct mvcc_kv *kv = NULL;
    const char *why = name_prefix(c, req->name, &race)
                          ? get_one(c, &race, MVCC_ASCEND, 0, &kv, &h)
                          : v3error_text(V3_REQUEST_TOO_LARGE);

    if (!why && !kv)
        why = NO_LEADER;
    if (why) {
        fail(c, why);
        return;
    }
    fill_kv(kv, &out);
    r.header = rpc_header(c, h);
    r.kv = &out;
    rpc_reply(c, &r);
    mvcc_unref(kv);
}

/* False: the client is gone. */
static bool tell(struct rpc_call *c, const struct mvcc_kv *kv, int64_t revision)
{
    struct rpcpb_response_header header;
    struct rpcpb_key_value out;
    struct rpcpb_leader_response r = {.header = &header, .kv = &out};
    struct v3_header h = v3_header(c->server);

    h.revision = revision;
    rpc_set_header(c, h, &header);
    fill_kv(kv, &out);
    return rpc_send_wait(c, &r);
}

/* The first put below the prefix from a revision on; owned; NULL: look anew. */
static struct mvcc_kv *next_put(struct seen *seen, const struct contender *race,
                                int64_t from)
{
    struct mvcc_kv *kv;

    seen_open(seen, race->prefix, race->prefix_end, from);
    while ((kv = seen_next(seen)) && mvcc_is_tombstone(kv))
        mvcc_unref(kv);
    return kv;
}

/* Tell what the leader says, until it goes; kv is taken. */
static bool follow_leader(struct rpc_call *c, struct seen *seen,
                          struct mvcc_kv *kv, int64_t revision)
{
    bool going_on = tell(c, kv, revision), leads = true;

    seen_open(seen, mvcc_key(kv), STR(""), revision + 1);
    mvcc_unref(kv);
    while (going_on && leads && (kv = seen_next(seen))) {
        leads = !mvcc_is_tombstone(kv);
        if (leads)
            going_on = tell(c, kv, kv->mod_revision);
        mvcc_unref(kv);
    }
    return going_on;
}

/* The same of one who is refused at once. */
bool v3lock_check_observe(struct rpc_call *c)
{
    rpc_finish(c);
    return false;
}

void v3lock_observe(struct rpc_call *c)
{
    const struct rpcpb_leader_request *req = c->request;
    struct contender race = {.lease = 0};
    struct seen *seen = seen_new(c);
    const char *why = name_prefix(c, req->name, &race)
                          ? NULL
                          : v3error_text(V3_REQUEST_TOO_LARGE);

    while (!why && !rpc_is_gone(c)) {
        struct v3_header h = {0};
        struct mvcc_kv *kv = NULL;

        if (get_one(c, &race, MVCC_ASCEND, 0, &kv, &h))
            break; /* etcd's observer ends without a word about it */
        if (!kv) {
            kv = next_put(seen, &race, h.revision + 1);
            if (kv)
                h.revision = kv->mod_revision;
        }
        if (kv && !follow_leader(c, seen, kv, h.revision))
            break;
    }
    seen_free(seen);
    if (why)
        fail(c, why);
    else
        rpc_finish(c);
}
