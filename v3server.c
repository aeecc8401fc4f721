/*
 * v3server.c - the v3 state in its member: proposals, what applying them means
 * here, and small reads.
 *
 * QUOTA  is each member's own matter. One that is asked to write more than its
 * own quota refuses, and raises the alarm, which all members hear of through
 * the log. What was proposed before that is still applied, or the members
 * would differ; only the answer is the error.
 */
#include "grpc.h"
#include "log.h"
#include "metrics.h"
#include "rpcpb.h"
#include "server_impl.h"

#include <inttypes.h>

#define QUOTA_DEFAULT (INT64_C(2) << 30)
#define QUOTA_WARN_PERCENT 80
/* v3_cost() of n bytes of request is at most this: a put within a transaction
 * takes four bytes and counts for 256. */
#define COST_MAX(n) (512 + (uint64_t)(n)*64)

/* --- Errors. -------------------------------------------------------------- */

enum v3_error v3_error_of_server(int code)
{
    switch (code) {
    case SERVER_OK:
        return V3_OK;
    case SERVER_ESTOPPED:
        return V3_STOPPED;
    case SERVER_EUNHEALTHY:
        return V3_UNHEALTHY;
    case SERVER_ENOT_STARTED:
        return V3_MEMBER_NOT_ENOUGH_STARTED;
    case SERVER_ENO_LEADER:
        return V3_NO_LEADER;
    case SERVER_ETOO_MANY:
        return V3_REQUEST_TOO_MANY_REQUESTS;
    case SERVER_ETOO_LARGE:
        return V3_REQUEST_TOO_LARGE;
    case SERVER_ELEARNER_NOT_READY:
        return V3_LEARNER_NOT_READY;
    case SERVER_ETIMEOUT_LEADER:
        return V3_TIMEOUT_DUE_TO_LEADER_FAIL;
    case SERVER_ETIMEOUT_CONN:
        return V3_TIMEOUT_DUE_TO_CONNECTION_LOST;
    case CLUSTER_EID_EXISTS:
        return V3_MEMBER_EXIST;
    case CLUSTER_EURL_EXISTS:
        return V3_PEER_URLEXIST;
    case CLUSTER_EID_REMOVED:
    case CLUSTER_EID_NOT_FOUND:
        return V3_MEMBER_NOT_FOUND;
    case CLUSTER_ETOO_MANY_LEARNERS:
        return V3_TOO_MANY_LEARNERS;
    case CLUSTER_ENOT_LEARNER:
        return V3_MEMBER_NOT_LEARNER;
    case CLUSTER_EINVAL:
        return V3_MEMBER_BAD_URLS;
    default:
        return V3_TIMEOUT;
    }
}

static struct auth_who auth_who_of(const struct v3_who *who)
{
    return who ? (struct auth_who){who->user, who->auth_revision}
               : (struct auth_who){STR(""), 0};
}

/* --- Quota. --------------------------------------------------------------- */

/* UINT64_MAX: none. */
static uint64_t quota(const struct server *s)
{
    int64_t bytes = s->config->quota_backend_bytes;

    return bytes < 0   ? UINT64_MAX
           : bytes > 0 ? (uint64_t)bytes
                       : (uint64_t)QUOTA_DEFAULT;
}

/* mu is held. */
static bool exceeds_quota(const struct server *s, uint32_t field,
                          struct str bytes)
{
    uint64_t size = v3_size(s->v3), cost;

    if (size + COST_MAX(bytes.n) < quota(s))
        return false;
    cost = v3_cost(field, bytes);
    return cost > 0 && size + cost >= quota(s);
}

static bool is_near_quota(const struct server *s, uint64_t size)
{
    return size >= quota(s) / 100 * QUOTA_WARN_PERCENT;
}

/* A line when four fifths are reached, and once more after it sank. */
static void watch_quota(struct server *s)
{
    uint64_t size = v3_size(s->v3);
    bool near = is_near_quota(s, size);

    sys_u64_store(&s->v3_bytes, size);
    if (near && !s->near_quota)
        log_warn("etcdserver",
                 "the v3 store takes %" PRIu64 " bytes, more than %d%% of the "
                 "quota of %" PRIu64 ": compact it, or raise "
                 "--quota-backend-bytes; beyond it writes are refused",
                 size, QUOTA_WARN_PERCENT, quota(s));
    s->near_quota = near;
}

/* --- Writes. -------------------------------------------------------------- */

struct blob *v3_encode(uint64_t id, uint32_t field, struct str bytes,
                       struct auth_who who)
{
    struct buf b = {0};
    struct blob *data;

    etcdpb_encode_internal(&b, id, who.user, who.revision, field, bytes);
    data = blob_new(b.data, b.len);
    buf_release(&b);
    return data;
}

void v3_propose(struct server *s, uint32_t field, struct str bytes,
                struct auth_who who)
{
    struct blob *data = v3_encode(server_next_id(s), field, bytes, who);

    server_lock_raft(s);
    raft_propose(s->raft, &data, 1); /* if it is lost, the next one comes */
    server_unlock_raft(s);
    blob_unref(data);
}

void v3_raise_alarm(struct server *s, uint64_t member, int kind)
{
    struct rpcpb_alarm_request req = {
        .action = RPCPB_ALARM_DO_ACTIVATE, .memberID = member, .alarm = kind};
    struct buf b = {0};

    msg_encode(&rpcpb_alarm_request_desc, &req, &b);
    v3_propose(s, V3_ALARM, buf_str(&b), (struct auth_who){STR(""), 0});
    buf_release(&b);
}

static enum v3_error check_write(struct server *s, uint32_t field,
                                 struct str bytes)
{
    bool full, raised;

    /* Far from the quota it takes no lock. */
    if ((field != V3_PUT && field != V3_TXN && field != V3_LEASE_GRANT) ||
        sys_u64_load(&s->v3_bytes) + COST_MAX(bytes.n) < quota(s))
        return V3_OK;
    pthread_mutex_lock(&s->mu);
    full = exceeds_quota(s, field, bytes);
    raised = v3_has_alarm(s->v3, V3_ALARM_NOSPACE);
    pthread_mutex_unlock(&s->mu);
    if (!full)
        return V3_OK;
    if (!raised)
        v3_raise_alarm(s, s->id, V3_ALARM_NOSPACE);
    return V3_NO_SPACE;
}

static void finish_write(struct waiter *w)
{
    struct v3_write *op =
        (struct v3_write *)((char *)w - offsetof(struct v3_write, waiter));

    if (w->code == SERVER_ETIMEOUT && !w->term) { /* in etcd's words, too */
        op->result.text = "context deadline exceeded";
        op->result.code = GRPC_UNKNOWN;
    } else if (w->code < 0) {
        op->result.error = v3_error_of_server(w->code);
    }
    op->done(op);
}

void v3_write(struct server *s, uint32_t field, struct str bytes,
              const struct v3_who *who, struct v3_write *op)
{
    struct waiter *w = &op->waiter;
    struct blob *data;

    *w = (struct waiter){.v3 = &op->result, .finish = finish_write};
    op->result = (struct v3_result){.field = field};
    w->id = server_next_id(s);
    data = v3_encode(w->id, field, bytes, auth_who_of(who));
    op->result.error = data->len > s->config->max_request_bytes
                           ? V3_REQUEST_TOO_LARGE
                           : check_write(s, field, bytes);
    /* In the log it would end every member. */
    if (op->result.error == V3_OK && !v3_readable(field, bytes)) {
        op->result.error = V3_REQUEST_TOO_LARGE;
        op->result.text = "etcdserver: request cannot be read";
        op->result.code = GRPC_INVALID_ARGUMENT;
    }
    if (op->result.error != V3_OK) {
        blob_unref(data);
        op->result.header = v3_header(s);
        op->done(op);
        return;
    }
    w->began_ns = sys_mono_ns();
    w->deadline_ns = w->began_ns + server_request_timeout_ms(s) * NS_PER_MS;
    server_propose_async(s, data, w, op->more);
}

void v3_write_flush(struct server *s)
{
    server_propose_flush(s);
}

static void wake(struct v3_write *op)
{
    sys_event_set(op->arg);
}

void v3_write_wait(struct server *s, uint32_t field, struct str bytes,
                   const struct v3_who *who, struct v3_result *out)
{
    struct sys_event done = {0};
    struct v3_write op = {.done = wake, .arg = &done};

    v3_write(s, field, bytes, who, &op);
    sys_event_wait_until(&done, INT64_MAX);
    *out = op.result;
}

/* --- Applying. ------------------------------------------------------------ */

/* What 3.6 sends in place of v2 requests below /0. */
static void apply_membership(struct server *s, uint32_t field, struct str bytes)
{
    struct rpcpb_cluster_version_set_request version;
    struct rpcpb_cluster_member_attr_set_request attr;
    struct arena arena = {.limit = 1 << 20};
    struct buf path = {0}, json = {0};

    if (field == V3_CLUSTER_VERSION &&
        msg_decode(&rpcpb_cluster_version_set_request_desc, bytes.p, bytes.n,
                   &arena, &version) == 0) {
        server_put_membership(s, STR("/0/version"), version.ver);
    } else if (field == V3_MEMBER_ATTRIBUTES &&
               msg_decode(&rpcpb_cluster_member_attr_set_request_desc, bytes.p,
                          bytes.n, &arena, &attr) == 0 &&
               attr.member_attributes) {
        cluster_attributes_path(&path, attr.member_ID);
        cluster_attributes_json_of(&json, attr.member_attributes->name,
                                   attr.member_attributes->client_urls.items,
                                   attr.member_attributes->client_urls.n);
        server_put_membership(s, buf_str(&path), buf_str(&json));
    }
    buf_release(&path);
    buf_release(&json);
    arena_release(&arena);
}

/* Without mu: it takes tens of milliseconds. The applier alone changes users,
 * and it is what we are. */
static void hash_password(struct server *s, struct v3_request *r, struct buf *b,
                          uint64_t index)
{
    if (r->field != V3_USER_ADD && r->field != V3_USER_CHANGE_PASSWORD)
        return;
    v3_applied(s);
    pthread_mutex_unlock(&s->mu);
    v3_hash_password(b, r, index);
    pthread_mutex_lock(&s->mu);
    r->password = buf_str(b);
}

static void tell_alarms(struct server *s, const struct v3_result *r)
{
    for (size_t i = 0; i < r->u.alarm.n; i++) {
        const struct v3_alarm *a = &r->u.alarm.alarms[i];
        const char *name = a->alarm == V3_ALARM_NOSPACE   ? "NOSPACE"
                           : a->alarm == V3_ALARM_CORRUPT ? "CORRUPT"
                                                          : "of another kind";

        if (v3_has_alarm(s->v3, a->alarm))
            log_warn("etcdserver", "alarm %s raised by peer %" PRIx64, name,
                     a->member_id);
        else
            log_info("etcdserver",
                     "alarm disarmed {memberID:%" PRIu64 " alarm:%s}",
                     a->member_id, name);
    }
}

static void finish_apply(struct server *s, struct v3_result *r, bool full)
{
    if (r->field == V3_ALARM && r->error == V3_OK)
        tell_alarms(s, r);
    if (r->field == V3_LEASE_GRANT && r->error == V3_OK)
        metric_observe_ns(H_LEASE_TTL,
                          r->u.lease_grant.ttl < INT64_MAX / NS_PER_S
                              ? r->u.lease_grant.ttl * NS_PER_S
                              : INT64_MAX);
    if (full && r->error == V3_OK) {
        struct v3_header h = r->header;
        uint32_t field = r->field;

        v3_result_release(r);
        *r = (struct v3_result){
            .error = V3_NO_SPACE, .header = h, .field = field};
    }
    if (full && !v3_has_alarm(s->v3, V3_ALARM_NOSPACE))
        s->nospace_due = true;
}

bool v3_apply_entry(struct server *s, const struct raft_entry *entry,
                    const struct entry_request *req, struct waiter *w)
{
    struct v3_request r = {.field = req->field,
                           .bytes = req->bytes,
                           .who = {req->username, req->auth_revision}};
    struct v3_moment at = {entry->index, entry->term,
                           sys_mono_ns() / NS_PER_MS};
    struct v3_result result;
    struct buf password = {0};
    bool full;

    if (req->field == V3_CLUSTER_VERSION || req->field == V3_MEMBER_ATTRIBUTES)
        apply_membership(s, req->field, req->bytes);
    if (entry->index <= s->v3->index)
        return true;
    hash_password(s, &r, &password, entry->index);
    full = exceeds_quota(s, r.field, r.bytes);
    if (v3_apply(s->v3, &r, &at, &result) < 0)
        log_fatal("etcdserver",
                  "entry %" PRIu64
                  " of the log has a v3 request, field %" PRIu32
                  ", that is unreadable: it was written by a newer version; "
                  "nothing was changed",
                  entry->index, r.field);
    buf_release(&password);
    finish_apply(s, &result, full);
    if (!w || !w->v3) {
        v3_result_release(&result);
        return true;
    }
    *w->v3 = result;
    return result.error != V3_OK || result.field != V3_COMPACTION ||
           !result.u.compaction.physical || !v3_sweep_wait(s, w);
}

void v3_applied(struct server *s)
{
    struct watch_stats st;

    watch_notify(s->v3->watch);
    watch_quota(s);
    st = watch_stats(s->v3->watch);
    if (st.n_lagging ||
        mvcc_compact_finished(s->v3->mvcc) < mvcc_compacted(s->v3->mvcc))
        v3_sweep_wake(s);
}

/* --- Reads. --------------------------------------------------------------- */

static struct v3_header header_locked(const struct server *s)
{
    return (struct v3_header){mvcc_revision(s->v3->mvcc), s->applied_term};
}

struct v3_header v3_header(struct server *s)
{
    struct v3_header h;

    pthread_mutex_lock(&s->mu);
    h = header_locked(s);
    pthread_mutex_unlock(&s->mu);
    return h;
}

/* Of auth.h as a row; those without one cannot come of a check. */
static enum v3_error check_error(int rc)
{
    const char *text;
    int code;

    return v3_error_of_auth(rc, &text, &code);
}

static enum v3_error may_range(const struct server *s, const struct v3_who *who,
                               const struct mvcc_range *r)
{
    return check_error(auth_check_range(s->v3->auth, auth_who_of(who), r));
}

enum v3_error v3_range(struct server *s, const struct v3_who *who,
                       const struct mvcc_range *r,
                       struct mvcc_range_result *out, struct v3_header *h)
{
    enum v3_error error;

    pthread_mutex_lock(&s->mu);
    error = may_range(s, who, r);
    if (error == V3_OK) {
        s->v3->counts.ranges++;
        error = v3_error_of_mvcc(mvcc_range(s->v3->mvcc, r, out));
    }
    *h = header_locked(s);
    pthread_mutex_unlock(&s->mu);
    return error;
}

enum v3_error v3_txn_read(struct server *s, const struct v3_who *who,
                          const struct mvcc_txn *t, struct mvcc_txn_result *out,
                          struct v3_header *h)
{
    enum v3_error error;

    pthread_mutex_lock(&s->mu);
    error = check_error(
        auth_check_txn(s->v3->auth, auth_who_of(who), s->v3->lessor, t));
    if (error == V3_OK)
        error = v3_error_of_mvcc(mvcc_txn(s->v3->mvcc, t, NULL, out));
    if (error == V3_OK)
        v3_count_txn(s->v3, t->n_compares, out);
    *h = header_locked(s);
    pthread_mutex_unlock(&s->mu);
    return error;
}

enum v3_error v3_read_open(struct server *s, const struct v3_who *who,
                           const struct mvcc_range *r, struct mvcc_read *read,
                           struct v3_header *h)
{
    enum v3_error error;

    pthread_mutex_lock(&s->mu);
    error = may_range(s, who, r);
    if (error == V3_OK)
        error = v3_error_of_mvcc(mvcc_read_open(s->v3->mvcc, r, read));
    if (error == V3_OK) {
        v3_hold(s);
        s->v3->counts.ranges++;
    }
    *h = header_locked(s);
    pthread_mutex_unlock(&s->mu);
    return error;
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
    struct mvcc *m = read->m;

    pthread_mutex_lock(&s->mu);
    mvcc_read_close(read);
    m = v3_unhold(s, m);
    pthread_mutex_unlock(&s->mu);
    if (m)
        mvcc_free(m);
}

enum v3_error v3_hash_kv(struct server *s, int64_t revision, uint32_t *hash,
                         int64_t *compacted, struct v3_header *h)
{
    struct mvcc_hash at;
    enum v3_error error;
    struct mvcc *m;

    pthread_mutex_lock(&s->mu);
    error = v3_error_of_mvcc(mvcc_hash_open(s->v3->mvcc, revision, &at));
    *h = header_locked(s);
    if (error != V3_OK) {
        pthread_mutex_unlock(&s->mu);
        return error;
    }
    m = s->v3->mvcc;
    v3_hold(s);
    while (!at.done) {
        mvcc_hash_step(&at, V3_STEP);
        pthread_mutex_unlock(&s->mu);
        v3_give_way(s);
        pthread_mutex_lock(&s->mu);
    }
    mvcc_hash_close(&at);
    m = v3_unhold(s, m);
    pthread_mutex_unlock(&s->mu);
    if (m)
        mvcc_free(m);
    *hash = at.result;
    *compacted = at.compacted;
    return V3_OK;
}

enum v3_error v3_may_read(struct server *s, const struct v3_who *who,
                          struct str key, struct str range_end)
{
    int rc;

    pthread_mutex_lock(&s->mu);
    rc = auth_check_watch(s->v3->auth, auth_who_of(who), key, range_end);
    pthread_mutex_unlock(&s->mu);
    return check_error(rc);
}

/* As a file's size is told, which has whole pages. */
static uint64_t whole_pages(uint64_t n)
{
    return (n + BOLT_PAGE_BYTES - 1) / BOLT_PAGE_BYTES * BOLT_PAGE_BYTES;
}

/* --- Maintenance. --------------------------------------------------------- */

static size_t copy_alarms(const struct v3 *v, int kind, struct v3_alarm **out)
{
    size_t n = 0;

    *out = xcalloc(v->n_alarms + 1, sizeof(**out));
    for (size_t i = 0; i < v->n_alarms; i++)
        if (kind == 0 || v->alarms[i].alarm == kind)
            (*out)[n++] = v->alarms[i];
    return n;
}

size_t v3_alarms(struct server *s, int kind, struct v3_alarm **out,
                 struct v3_header *h)
{
    size_t n;

    pthread_mutex_lock(&s->mu);
    n = copy_alarms(s->v3, kind, out);
    *h = header_locked(s);
    pthread_mutex_unlock(&s->mu);
    return n;
}

void v3_stats(struct server *s, struct v3_stats *out)
{
    pthread_mutex_lock(&s->mu);
    out->size = whole_pages(v3_size(s->v3));
    out->db_bytes = max_u64(out->size, s->db_bytes);
    out->near_quota = is_near_quota(s, v3_size(s->v3));
    out->n_keys = mvcc_stats(s->v3->mvcc).n_keys;
    out->n_leases = lease_count(s->v3->lessor);
    out->revision = mvcc_revision(s->v3->mvcc);
    out->compacted = mvcc_compacted(s->v3->mvcc);
    out->auth_revision = auth_revision(s->v3->auth);
    out->watch = watch_stats(s->v3->watch);
    out->counts = s->v3->counts;
    pthread_mutex_unlock(&s->mu);
}

void v3_status(struct server *s, struct v3_status *out)
{
    *out = (struct v3_status){.quota = quota(s)};
    pthread_mutex_lock(&s->mu);
    out->db_size_in_use = whole_pages(v3_size(s->v3));
    out->db_size = max_u64(out->db_size_in_use, s->db_bytes);
    out->n_alarms = copy_alarms(s->v3, 0, &out->alarms);
    pthread_mutex_unlock(&s->mu);
}

void v3_status_release(struct v3_status *st)
{
    free(st->alarms);
    *st = (struct v3_status){0};
}
