/*
 * propose.c - from a request to an answer: proposals and who waits for them,
 * and the v2 keys. Linearizable reads are in reads.c.
 *
 * A WAITER is entered under its request's id before the request is proposed,
 * and taken out by whoever finishes it: the applier with a result, the ticker
 * when its time is up, a stop. Taking it out of the table is what decides, so
 * it is finished exactly once.
 *
 * WITHOUT A LEADER a thread that proposes waits for one; a proposal that must
 * not hold up its thread is parked, and proposed when there is a leader. What
 * is parked ends with its waiter.
 */
#include "log.h"
#include "metrics.h"
#include "server_impl.h"

#include <inttypes.h>

/* So many who wait are served by the thread that brings them, without waking
 * another; with more of them a connection's thread has better things to do. */
#define ALONE_MAX 1

/* So many proposals wait for the disk to become free. */
#define HOLD_MAX 64

/* --- Ids, timeouts, errors. --------------------------------------------- */

uint64_t server_next_id(struct server *s)
{
    return sys_u64_add(&s->next_id, 1);
}

int64_t server_request_timeout_ms(const struct server *s)
{
    return 5000 + 2 * s->config->election_ms;
}

const char *server_error_text(int code)
{
    switch (code) {
    case SERVER_ETIMEOUT:
        return "etcdserver: request timed out";
    case SERVER_ETIMEOUT_LEADER:
        return "etcdserver: request timed out, possibly due to previous "
               "leader failure";
    case SERVER_ETIMEOUT_CONN:
        return "etcdserver: request timed out, possibly due to connection lost";
    case SERVER_ESTOPPED:
        return "etcdserver: server stopped";
    case SERVER_EUNHEALTHY:
        return "etcdserver: unhealthy cluster";
    case SERVER_ENOT_STARTED:
        return "etcdserver: re-configuration failed due to not enough started "
               "members";
    case SERVER_ENO_LEADER:
        return "etcdserver: no leader";
    case SERVER_ETOO_MANY:
        return "etcdserver: too many requests";
    case SERVER_ETOO_LARGE:
        return "etcdserver: request is too large";
    case SERVER_ELEARNER_NOT_READY:
        return "etcdserver: can only promote a learner member which is in "
               "sync with leader";
    default:
        return cluster_error_text(code);
    }
}

/* --- Waiters. ----------------------------------------------------------- */

static void waiter_add(struct server *s, struct waiter *w)
{
    struct waiter **bucket = &s->waiters[w->id % WAITER_BUCKETS];

    pthread_mutex_lock(&s->wait_mu);
    w->next = *bucket;
    *bucket = w;
    s->n_waiters++;
    pthread_mutex_unlock(&s->wait_mu);
}

static bool is_alone(struct server *s)
{
    bool alone;

    pthread_mutex_lock(&s->wait_mu);
    alone = s->n_waiters <= ALONE_MAX;
    pthread_mutex_unlock(&s->wait_mu);
    return alone;
}

/* Whoever takes a waiter out of the table alone may finish it. */
struct waiter *waiter_take(struct server *s, uint64_t id)
{
    struct waiter **at = &s->waiters[id % WAITER_BUCKETS], *w;

    pthread_mutex_lock(&s->wait_mu);
    while (*at && (*at)->id != id)
        at = &(*at)->next;
    w = *at;
    if (w) {
        *at = w->next;
        s->n_waiters--;
    }
    pthread_mutex_unlock(&s->wait_mu);
    return w;
}

void waiters_finish(struct waiter *list)
{
    while (list) {
        struct waiter *next = list->next;

        /* Its thread may go on now, and list be gone with it. */
        if (list->finish)
            list->finish(list);
        else
            sys_event_set(&list->done);
        list = next;
    }
}

/* False: time is up, and nobody will finish w any more. */
static bool waiter_wait(struct server *s, struct waiter *w, int64_t deadline)
{
    if (sys_event_wait_until(&w->done, deadline))
        return true;
    if (waiter_take(s, w->id))
        return false;
    /* It is being finished this very moment. */
    return sys_event_wait_until(&w->done, INT64_MAX);
}

/* Take out of the table those that `lost` says are. */
static struct waiter *
take_waiters(struct server *s,
             bool (*lost)(const struct waiter *w, uint64_t arg), uint64_t arg)
{
    struct waiter *taken = NULL;

    pthread_mutex_lock(&s->wait_mu);
    for (size_t i = 0; i < WAITER_BUCKETS && s->n_waiters; i++) {
        struct waiter **at = &s->waiters[i];

        while (*at) {
            struct waiter *w = *at;

            if (!lost(w, arg)) {
                at = &w->next;
                continue;
            }
            *at = w->next;
            w->next = taken;
            taken = w;
            s->n_waiters--;
        }
    }
    pthread_mutex_unlock(&s->wait_mu);
    return taken;
}

static bool is_any(const struct waiter *w, uint64_t arg)
{
    (void)w;
    (void)arg;
    return true;
}

/* Nobody waits for it in person, and its time is up. */
static bool is_late(const struct waiter *w, uint64_t now_ns)
{
    return w->finish && now_ns >= (uint64_t)w->deadline_ns;
}

/* An entry of a later term has been applied, and it not before: it got lost
 * with its leader, or at best comes back by a very late message. */
static bool is_of_earlier_term(const struct waiter *w, uint64_t term)
{
    raft_term proposed = sys_u64_load(&w->term);

    return proposed && proposed < term;
}

void waiters_expire(struct server *s)
{
    struct waiter *list = take_waiters(s, is_late, (uint64_t)sys_mono_ns());

    for (struct waiter *w = list; w; w = w->next) {
        w->code = server_timeout_reason(s, w->began_ns);
        metric_add(M_PROPOSALS_FAILED, 1);
    }
    waiters_finish(list);
}

struct waiter *waiters_before_term(struct server *s, raft_term term)
{
    struct waiter *list = take_waiters(s, is_of_earlier_term, term);

    for (struct waiter *w = list; w; w = w->next) {
        w->code = SERVER_ETIMEOUT_LEADER;
        metric_add(M_PROPOSALS_FAILED, 1);
    }
    return list;
}

void waiters_fail(struct server *s, int code)
{
    struct waiter *list = take_waiters(s, is_any, 0);

    for (struct waiter *w = list; w; w = w->next)
        w->code = code;
    waiters_finish(list);
}

/* --- Proposing. --------------------------------------------------------- */

/* Wait for a leader, and give it the entry. raft_mu is held. Takes data. */
static int propose_locked(struct server *s, struct blob *data, bool conf_change,
                          struct waiter *w, int64_t deadline)
{
    for (;;) {
        int rc = conf_change ? raft_propose_conf_change(s->raft, data)
                             : raft_propose(s->raft, &data, 1);
        int64_t now = sys_mono_ns(), until = deadline;

        if (rc == 0) {
            blob_unref(data);
            sys_u64_store(&w->term, s->term);
            return 0;
        }
        if (rc == RAFT_EBUSY) /* it passes without a change of leader */
            until = now + 10 * NS_PER_MS < deadline ? now + 10 * NS_PER_MS
                                                    : deadline;
        if (s->stopping || now >= deadline) {
            blob_unref(data);
            return s->stopping ? SERVER_ESTOPPED : SERVER_ETIMEOUT;
        }
        sys_cond_wait_until(&s->leader_cond, &s->raft_mu, until);
    }
}

/* Why did it take too long? began is when the request came. */
int server_timeout_reason(struct server *s, int64_t began)
{
    int code = SERVER_ETIMEOUT;

    pthread_mutex_lock(&s->raft_mu);
    if (s->stopping)
        code = SERVER_ESTOPPED;
    else if (s->leader && s->leader_since_ns > began)
        code = SERVER_ETIMEOUT_LEADER;
    else if (!s->leader && s->leader_lost_ns > began)
        code = SERVER_ETIMEOUT_CONN;
    server_leave_raft(s);
    return code;
}

static bool too_far_behind(struct server *s)
{
    struct raft_status st = raft_status(s->raft);

    return st.commit > st.applied + REQUESTS_AHEAD_MAX;
}

/*
 * The disk is busy, and by experience not for long: what is proposed meanwhile
 * stays in raft, and whoever gives the disk free hands it on, as one batch for
 * the disk and one message for each follower. A disk that takes its time holds
 * up nobody else's; but before it begins it waits for those who are about to.
 */
static bool hold_locked(struct server *s)
{
    bool wait = s->disk_busy ? server_syncs_soon(s) : server_gather(s);

    return ++s->held < HOLD_MAX && wait;
}

/* raft_mu is held, and released meanwhile. */
static void hand_on(struct server *s)
{
    if (hold_locked(s))
        return;
    server_handle_ready(s);
    server_work(s);
}

/* Put data (taken) into the log; w is told of the rest. SERVER_*, and then
 * nobody will finish w. */
static int propose(struct server *s, struct blob *data, bool conf_change,
                   struct waiter *w, int64_t deadline)
{
    int rc;

    waiter_add(s, w);
    pthread_mutex_lock(&s->raft_mu);
    if (too_far_behind(s)) {
        blob_unref(data);
        rc = SERVER_ETOO_MANY;
    } else {
        rc = propose_locked(s, data, conf_change, w, deadline);
    }
    if (rc == 0)
        hand_on(s);
    server_leave_raft(s);
    /* Not found: it was finished meanwhile, for the server is stopping. */
    return rc < 0 && !waiter_take(s, w->id) ? 0 : rc;
}

/* --- Proposing without waiting. ------------------------------------------ */

struct parked { /* a proposal that found no leader */
    struct parked *next;
    struct blob *data;
    uint64_t id; /* of its waiter */
};

/* It is about to be proposed in this term (0: it was not, after all). False:
 * nobody waits for it any more. */
static bool waiter_mark(struct server *s, uint64_t id, raft_term term)
{
    struct waiter *w;

    pthread_mutex_lock(&s->wait_mu);
    w = s->waiters[id % WAITER_BUCKETS];
    while (w && w->id != id)
        w = w->next;
    if (w) {
        sys_u64_store(&w->term, term);
        w->proposed_ns = sys_mono_ns();
    }
    pthread_mutex_unlock(&s->wait_mu);
    return w != NULL;
}

/* raft_mu is held. 0, RAFT_E* or SERVER_ESTOPPED. Shares data. */
static int propose_marked(struct server *s, struct blob *data, uint64_t id)
{
    int rc;

    if (!waiter_mark(s, id, s->term))
        return SERVER_ESTOPPED;
    rc = raft_propose(s->raft, &data, 1);
    if (rc < 0)
        waiter_mark(s, id, 0);
    return rc;
}

static int park(struct server *s, struct blob *data, uint64_t id)
{
    struct parked *p;

    if (s->n_parked >= PARKED_MAX ||
        s->parked_bytes + data->len > PARKED_BYTES_MAX)
        return SERVER_ETOO_MANY;
    p = xcalloc(1, sizeof(*p));
    p->data = blob_ref(data);
    p->id = id;
    if (s->parked_last)
        s->parked_last->next = p;
    else
        s->parked_first = p;
    s->parked_last = p;
    s->n_parked++;
    s->parked_bytes += data->len;
    return 0;
}

static void unpark_first(struct server *s)
{
    struct parked *p = s->parked_first;

    s->parked_first = p->next;
    if (!p->next)
        s->parked_last = NULL;
    s->n_parked--;
    s->parked_bytes -= p->data->len;
    blob_unref(p->data);
    free(p);
}

bool parked_retry(struct server *s)
{
    bool any = false;

    while (s->leader && s->parked_first) {
        int rc = propose_marked(s, s->parked_first->data, s->parked_first->id);

        if (rc == RAFT_ENOLEADER || rc == RAFT_EBUSY)
            break; /* the ticker comes again */
        any |= rc == 0;
        unpark_first(s);
    }
    return any;
}

void parked_drop(struct server *s, bool all)
{
    /* They expire in the order in which they came. */
    while (s->parked_first && (all || !waiter_mark(s, s->parked_first->id, 0)))
        unpark_first(s);
}

/* The same for a thread that serves others, too. */
static void hand_on_quickly(struct server *s)
{
    if (hold_locked(s))
        return;
    server_handle_ready(s);
    if (is_alone(s))
        server_work(s);
    else
        server_wake_workers(s);
}

static int propose_or_park(struct server *s, struct blob *data,
                           const struct waiter *w, bool more)
{
    int rc;

    if (s->stopping)
        return SERVER_ESTOPPED;
    if (too_far_behind(s))
        return SERVER_ETOO_MANY;
    rc = s->parked_first ? RAFT_ENOLEADER : propose_marked(s, data, w->id);
    if (rc == RAFT_ENOLEADER || rc == RAFT_EBUSY)
        return park(s, data, w->id);
    if (rc == 0 && !more)
        hand_on_quickly(s);
    return rc;
}

void server_propose_flush(struct server *s)
{
    pthread_mutex_lock(&s->raft_mu);
    hand_on_quickly(s);
    server_leave_raft(s);
}

void server_propose_async(struct server *s, struct blob *data, struct waiter *w,
                          bool more)
{
    uint64_t id = w->id;
    int rc;

    waiter_add(s, w);
    pthread_mutex_lock(&s->raft_mu);
    rc = propose_or_park(s, data, w, more);
    server_leave_raft(s);
    blob_unref(data);
    if (rc == 0)
        return; /* w may be gone */
    w = waiter_take(s, id);
    if (!w)
        return;
    metric_add(M_PROPOSALS_FAILED, 1);
    w->code = rc;
    w->finish(w);
}

/* --- Proposing and waiting. ------------------------------------------------ */

int server_propose(struct server *s, struct blob *data, bool conf_change,
                   struct waiter *w, int64_t timeout_ms)
{
    int64_t began = sys_mono_ns(), deadline = began + timeout_ms * NS_PER_MS;
    int rc = propose(s, data, conf_change, w, deadline);

    if (rc == 0) {
        if (!waiter_wait(s, w, deadline))
            rc = SERVER_ETIMEOUT;
        else if (w->code <= SERVER_ETIMEOUT) /* not a refusal (cluster.h) */
            rc = w->code;
    }
    if (rc == SERVER_ETIMEOUT)
        rc = server_timeout_reason(s, began);
    if (rc < 0)
        metric_add(M_PROPOSALS_FAILED, 1);
    return rc;
}

/* --- v2 keys. ----------------------------------------------------------- */

void v2_result_release(struct v2_result *r)
{
    store_event_unref(r->event);
    store_error_release(&r->error);
    *r = (struct v2_result){0};
}

static void raft_internal_error(struct v2_result *out, int code)
{
    *out = (struct v2_result){.code = STORE_RAFT_INTERNAL};
    store_error_set(&out->error, STORE_RAFT_INTERNAL,
                    str_of(server_error_text(code)));
}

static struct blob *encode_v2(const struct v2_request *r)
{
    struct buf encoded = {0};
    struct blob *data;

    buf_reserve(&encoded, r->path.n + r->val.n + 128);
    etcdpb_encode_v2_request(&encoded, r);
    data = blob_new(encoded.data, encoded.len);
    buf_release(&encoded);
    return data;
}

void server_v2_write(struct server *s, struct v2_request *r,
                     struct v2_result *out)
{
    struct waiter w = {.result = out};
    int rc;

    *out = (struct v2_result){0};
    r->id = w.id = server_next_id(s);
    rc = server_propose(s, encode_v2(r), false, &w,
                        server_request_timeout_ms(s));
    if (rc < 0)
        raft_internal_error(out, rc);
}

static void finish_write(struct waiter *w)
{
    struct v2_write *op =
        (struct v2_write *)((char *)w - offsetof(struct v2_write, waiter));

    if (w->code < 0)
        raft_internal_error(&op->result, w->code);
    op->done(op);
}

void server_v2_write_async(struct server *s, struct v2_request *r,
                           struct v2_write *op)
{
    struct waiter *w = &op->waiter;
    int rc;

    *w = (struct waiter){.result = &op->result, .finish = finish_write};
    op->result = (struct v2_result){0};
    w->began_ns = sys_mono_ns();
    w->deadline_ns = w->began_ns + server_request_timeout_ms(s) * NS_PER_MS;
    r->id = w->id = server_next_id(s);
    rc = propose(s, encode_v2(r), false, w, w->deadline_ns);
    if (rc == 0)
        return; /* w may be gone */
    metric_add(M_PROPOSALS_FAILED, 1);
    w->code =
        rc == SERVER_ETIMEOUT ? server_timeout_reason(s, w->began_ns) : rc;
    finish_write(w);
}

/* Index and term for the headers of an answer from the local store. */
static void local_result(struct server *s, struct v2_result *out)
{
    out->etcd_index = out->code ? out->error.index : store_index(s->store);
    out->raft_index = s->last_applied;
    out->raft_term = s->applied_term;
}

void server_v2_get(struct server *s, struct str path, int flags, bool quorum,
                   struct v2_result *out)
{
    int rc = quorum ? server_read_index(s, server_request_timeout_ms(s)) : 0;

    *out = (struct v2_result){0};
    if (rc < 0) {
        raft_internal_error(out, rc);
        return;
    }
    pthread_mutex_lock(&s->mu);
    out->code = store_get(s->store, path, flags, &out->event, &out->error);
    local_result(s, out);
    pthread_mutex_unlock(&s->mu);
}

void server_v2_watch(struct server *s, struct str path, bool recursive,
                     bool stream, uint64_t since, store_deliver *deliver,
                     void *arg, struct store_watcher **w, struct v2_result *out)
{
    *out = (struct v2_result){0};
    *w = NULL;
    pthread_mutex_lock(&s->mu);
    out->code = store_watch(s->store, path, recursive, stream, since, deliver,
                            arg, w, &out->error);
    local_result(s, out);
    pthread_mutex_unlock(&s->mu);
}

void server_v2_unwatch(struct server *s, struct store_watcher *w,
                       const bool *over)
{
    pthread_mutex_lock(&s->mu);
    if (!*over)
        store_unwatch(s->store, w);
    pthread_mutex_unlock(&s->mu);
}

bool server_v2_auth_on(const struct server *s)
{
    return __atomic_load_n(&s->v2_auth_on, __ATOMIC_ACQUIRE);
}

bool server_v2_peek(struct server *s, struct str path, struct blob **out)
{
    const struct blob *b;

    pthread_mutex_lock(&s->mu);
    b = store_peek(s->store, path);
    *out = b ? blob_new(b->data, b->len) : NULL; /* b goes with its node */
    pthread_mutex_unlock(&s->mu);
    return *out != NULL;
}

struct name_list {
    char **names;
    size_t n;
};

static void collect_name(void *arg, struct str name, bool dir,
                         const struct blob *value)
{
    struct name_list *l = arg;

    (void)dir;
    (void)value;
    if (name.n && name.p[0] == '_')
        return; /* hidden, as in every listing of v2 */
    l->names = xrealloc(l->names, (l->n + 1) * sizeof(*l->names));
    l->names[l->n++] = xstrndup(name.p, name.n);
}

size_t server_v2_list(struct server *s, struct str dir, char ***names)
{
    struct name_list l = {NULL, 0};

    pthread_mutex_lock(&s->mu);
    store_each(s->store, dir, collect_name, &l);
    pthread_mutex_unlock(&s->mu);
    *names = l.names;
    return l.n;
}

void server_v2_stats(struct server *s, struct buf *b)
{
    pthread_mutex_lock(&s->mu);
    store_stats_json(b, s->store);
    pthread_mutex_unlock(&s->mu);
}

struct store_counters server_v2_counters(struct server *s)
{
    struct store_counters c;

    pthread_mutex_lock(&s->mu);
    c = store_counters(s->store);
    pthread_mutex_unlock(&s->mu);
    return c;
}
