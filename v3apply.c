/*
 * v3apply.c - what a request of the log does to the v3 state.
 *
 * One row for each field of InternalRaftRequest says who may ask, which alarms
 * stop it, and what it does. A request is decoded into an arena that is gone
 * when it is applied; what the answer holds is owned by the answer.
 */
#include "v3.h"
#include "v3convert.h"

#include <assert.h>

/* What a message may take in memory, decoded: a list of empty items is two
 * bytes for each, and tens in memory. It depends on the request alone, so that
 * all members agree whether it can be applied. */
#define ARENA_MIN ((size_t)1 << 20)
#define ARENA_FACTOR 512

/* etcd's reckoning of what a request adds (spec: raft-and-storage, 5). */
#define PUT_COST 256
#define GRANT_COST 64

/* A request while it is applied. */
struct applying {
    struct v3 *v;
    const struct v3_request *r;
    const struct v3_moment *at;
    const void *msg; /* decoded */
    struct arena arena;
    struct v3_result *out;
};

enum access { ANYBODY, ADMIN };
enum stopped { BY_CORRUPT = 1, BY_NOSPACE = 2 };

/* Sets a->out. */
typedef void apply_fn(struct applying *a);

/* --- Errors. -------------------------------------------------------------- */

static void fail_mvcc(struct applying *a, int rc)
{
    a->out->error = v3_error_of_mvcc(rc);
}

static void fail_lease(struct applying *a, int rc)
{
    a->out->error = v3_error_of_lease(rc);
}

static void set_auth(struct applying *a, int rc)
{
    a->out->error = v3_error_of_auth(rc, &a->out->text, &a->out->code);
}

/* True if the user may. */
static bool allowed(struct applying *a, int rc)
{
    set_auth(a, rc);
    return rc == 0;
}

/* --- Keys. ---------------------------------------------------------------- */

static void follow_leases(struct applying *a, int64_t before)
{
    int64_t now = mvcc_revision(a->v->mvcc);

    if (now != before)
        mvcc_changes(a->v->mvcc, now, lease_change, a->v->lessor);
}

static void apply_range(struct applying *a)
{
    struct mvcc_range range;

    /* Nobody proposes reads any more: there is no answer to be given. */
    v3_range_of(a->msg, &range);
    allowed(a, auth_check_range(a->v->auth, a->r->who, &range));
}

static void apply_put(struct applying *a)
{
    const struct mvcc_leases leases = {lease_exists, a->v->lessor};
    int64_t before = mvcc_revision(a->v->mvcc);
    struct mvcc_put put;
    int rc;

    v3_put_of(a->msg, &put);
    if (!allowed(a, auth_check_put(a->v->auth, a->r->who, a->v->lessor, &put)))
        return;
    rc = mvcc_check_put(&put);
    if (rc == 0)
        rc = mvcc_put(a->v->mvcc, &put, &leases, &a->out->u.put);
    fail_mvcc(a, rc);
    follow_leases(a, before);
}

static void apply_delete_range(struct applying *a)
{
    int64_t before = mvcc_revision(a->v->mvcc);
    struct mvcc_delete_range del;
    int rc;

    v3_delete_range_of(a->msg, &del);
    if (!allowed(a, auth_check_delete_range(a->v->auth, a->r->who, &del)))
        return;
    rc = mvcc_check_delete_range(&del);
    if (rc == 0)
        mvcc_delete_range(a->v->mvcc, &del, &a->out->u.delete_range);
    fail_mvcc(a, rc);
    follow_leases(a, before);
}

/* How many operations a list has was for who proposed it to say. */
static int check_txn(const struct mvcc_txn *txn)
{
    int rc = mvcc_check_txn(txn, SIZE_MAX / 2);

    return rc == MVCC_INVALID_SORT ? 0 : rc;
}

static void apply_txn(struct applying *a)
{
    const struct mvcc_leases leases = {lease_exists, a->v->lessor};
    int64_t before = mvcc_revision(a->v->mvcc);
    struct mvcc_txn txn;
    int rc;

    if (!v3_txn_of(a->msg, &a->arena, &txn)) {
        a->out->error = V3_REQUEST_TOO_LARGE;
        return;
    }
    if (!allowed(a, auth_check_txn(a->v->auth, a->r->who, a->v->lessor, &txn)))
        return;
    rc = check_txn(&txn);
    if (rc == 0)
        rc = mvcc_txn(a->v->mvcc, &txn, &leases, &a->out->u.txn);
    fail_mvcc(a, rc);
    follow_leases(a, before);
}

static void apply_compaction(struct applying *a)
{
    const struct rpcpb_compaction_request *req = a->msg;

    watch_notify(a->v->watch);
    fail_mvcc(a, mvcc_compact(a->v->mvcc, req->revision));
    a->out->u.compaction.revision = req->revision;
    a->out->u.compaction.physical = req->physical;
}

/* --- Leases. -------------------------------------------------------------- */

static void apply_lease_grant(struct applying *a)
{
    const struct rpcpb_lease_grant_request *req = a->msg;
    int64_t ttl = 0;

    fail_lease(
        a, lease_grant(a->v->lessor, req->ID, req->TTL, a->at->now_ms, &ttl));
    a->out->u.lease_grant.id = req->ID;
    a->out->u.lease_grant.ttl = ttl;
}

static void apply_lease_revoke(struct applying *a)
{
    const struct rpcpb_lease_revoke_request *req = a->msg;
    struct mvcc *m = a->v->mvcc;
    int64_t before = mvcc_revision(m);
    struct mvcc_kv **kvs;
    size_t n;
    int rc;

    if (!allowed(a, auth_check_lease_revoke(a->v->auth, a->r->who, a->v->lessor,
                                            req->ID)))
        return;
    rc = lease_revoke(a->v->lessor, req->ID, &kvs, &n);
    fail_lease(a, rc);
    if (rc < 0)
        return;
    mvcc_begin(m);
    for (size_t i = 0; i < n; i++) {
        const struct mvcc_delete_range key = {.key = mvcc_key(kvs[i])};
        struct mvcc_delete_result gone;

        mvcc_delete_range(m, &key, &gone);
        mvcc_delete_release(&gone);
    }
    mvcc_end(m);
    follow_leases(a, before);
    mvcc_unref_all(kvs, n);
}

static void apply_lease_checkpoint(struct applying *a)
{
    const struct rpcpb_lease_checkpoint_request *req = a->msg;

    for (size_t i = 0; i < req->checkpoints.n; i++)
        lease_checkpoint(a->v->lessor, req->checkpoints.items[i].ID,
                         req->checkpoints.items[i].remaining_TTL,
                         a->at->now_ms);
}

/* --- Alarms. -------------------------------------------------------------- */

/* Where it stands or belongs. */
static size_t alarm_place(const struct v3 *v, struct v3_alarm x, bool *there)
{
    size_t i = 0;

    while (i < v->n_alarms && (v->alarms[i].member_id < x.member_id ||
                               (v->alarms[i].member_id == x.member_id &&
                                v->alarms[i].alarm < x.alarm)))
        i++;
    *there = i < v->n_alarms && v->alarms[i].member_id == x.member_id &&
             v->alarms[i].alarm == x.alarm;
    return i;
}

static void answer_alarm(struct applying *a, struct v3_alarm x)
{
    size_t n = a->out->u.alarm.n++;

    a->out->u.alarm.alarms =
        xrealloc(a->out->u.alarm.alarms, (n + 1) * sizeof(x));
    a->out->u.alarm.alarms[n] = x;
}

static void activate(struct applying *a, struct v3_alarm x)
{
    struct v3 *v = a->v;
    bool there;
    size_t i = alarm_place(v, x, &there);

    if (x.member_id == 0 && x.alarm == RPCPB_ALARM_NONE)
        return; /* its key would be empty; etcd stops at that */
    answer_alarm(a, x);
    if (there)
        return;
    v->alarms = xrealloc(v->alarms, (v->n_alarms + 1) * sizeof(x));
    memmove(v->alarms + i + 1, v->alarms + i, (v->n_alarms - i) * sizeof(x));
    v->alarms[i] = x;
    v->n_alarms++;
}

static void deactivate(struct applying *a, struct v3_alarm x)
{
    struct v3 *v = a->v;
    bool there;
    size_t i = alarm_place(v, x, &there);

    if (!there)
        return;
    answer_alarm(a, x);
    v->n_alarms--;
    memmove(v->alarms + i, v->alarms + i + 1, (v->n_alarms - i) * sizeof(x));
}

static void apply_alarm(struct applying *a)
{
    const struct rpcpb_alarm_request *req = a->msg;
    struct v3_alarm x = {req->memberID, req->alarm};

    if (req->action == RPCPB_ALARM_DO_ACTIVATE)
        activate(a, x);
    else if (req->action == RPCPB_ALARM_DO_DEACTIVATE)
        deactivate(a, x);
    else if (req->action == RPCPB_ALARM_DO_GET)
        for (size_t i = 0; i < a->v->n_alarms; i++)
            if (x.alarm == RPCPB_ALARM_NONE || x.alarm == a->v->alarms[i].alarm)
                answer_alarm(a, a->v->alarms[i]);
}

/* --- Users and roles. ----------------------------------------------------- */

static void apply_auth_enable(struct applying *a)
{
    set_auth(a, auth_enable(a->v->auth));
}

static void apply_auth_disable(struct applying *a)
{
    set_auth(a, auth_disable(a->v->auth));
}

static void apply_authenticate(struct applying *a)
{
    const struct rpcpb_internal_authenticate_request *req = a->msg;
    struct buf token = {0};
    int rc = auth_authenticate(a->v->auth, req->name, req->simple_token,
                               a->at->index, a->at->now_ms, &token);

    set_auth(a, rc);
    if (rc == 0)
        a->out->u.token = xstrndup(buf_str(&token).p, token.len);
    buf_release(&token);
}

/* Appends what is to be stored. */
static int stored_password(const struct applying *a, struct buf *b,
                           struct str plain, struct str hashed,
                           bool no_password, struct str name)
{
    if (a->r->password.n) {
        buf_addstr(b, a->r->password);
        return 0;
    }
    return auth_stored_password(b, plain, hashed, no_password, name,
                                a->at->index);
}

static void apply_user_add(struct applying *a)
{
    const struct rpcpb_auth_user_add_request *req = a->msg;
    bool no_password = req->options && req->options->no_password;
    struct buf b = {0};
    int rc = stored_password(a, &b, req->password, req->hashedPassword,
                             no_password, req->name);

    if (rc == 0)
        rc = auth_user_add(a->v->auth, req->name, buf_str(&b), no_password);
    set_auth(a, rc);
    buf_release(&b);
}

static void apply_user_delete(struct applying *a)
{
    const struct rpcpb_auth_user_delete_request *req = a->msg;

    set_auth(a, auth_user_delete(a->v->auth, req->name));
}

static void apply_user_change_password(struct applying *a)
{
    const struct rpcpb_auth_user_change_password_request *req = a->msg;
    const struct auth_user *user = auth_user(a->v->auth, req->name);
    struct buf b = {0};
    int rc = stored_password(a, &b, req->password, req->hashedPassword,
                             user && user->no_password, req->name);

    if (rc == 0)
        rc = auth_user_change_password(a->v->auth, req->name, buf_str(&b));
    set_auth(a, rc);
    buf_release(&b);
}

static void apply_user_grant_role(struct applying *a)
{
    const struct rpcpb_auth_user_grant_role_request *req = a->msg;

    set_auth(a, auth_user_grant_role(a->v->auth, req->user, req->role));
}

static void apply_user_revoke_role(struct applying *a)
{
    const struct rpcpb_auth_user_revoke_role_request *req = a->msg;

    set_auth(a, auth_user_revoke_role(a->v->auth, req->name, req->role));
}

static void apply_role_add(struct applying *a)
{
    const struct rpcpb_auth_role_add_request *req = a->msg;

    set_auth(a, auth_role_add(a->v->auth, req->name));
}

static void apply_role_delete(struct applying *a)
{
    const struct rpcpb_auth_role_delete_request *req = a->msg;

    set_auth(a, auth_role_delete(a->v->auth, req->role));
}

static void apply_role_grant(struct applying *a)
{
    const struct rpcpb_auth_role_grant_permission_request *req = a->msg;
    struct auth_permission p = {0};

    if (req->perm)
        p = (struct auth_permission){req->perm->permType, req->perm->key,
                                     req->perm->range_end};
    set_auth(a, auth_role_grant(a->v->auth, req->name, req->perm ? &p : NULL));
}

static void apply_role_revoke(struct applying *a)
{
    const struct rpcpb_auth_role_revoke_permission_request *req = a->msg;

    set_auth(a,
             auth_role_revoke(a->v->auth, req->role, req->key, req->range_end));
}

/* Questions, which other versions of etcd send through the log, and what the
 * server itself sees to: nothing changes here. */
static void apply_nothing(struct applying *a)
{
    (void)a;
}

/* --- The table. ----------------------------------------------------------- */

static const struct row {
    uint32_t field;
    enum access access;
    int stopped; /* enum stopped */
    apply_fn *apply;
} rows[] = {
    /* clang-format off */
    {V3_RANGE,                  ANYBODY, BY_CORRUPT,              apply_range},
    {V3_PUT,                    ANYBODY, BY_CORRUPT | BY_NOSPACE, apply_put},
    {V3_DELETE_RANGE,           ANYBODY, BY_CORRUPT,              apply_delete_range},
    {V3_TXN,                    ANYBODY, BY_CORRUPT | BY_NOSPACE, apply_txn},
    {V3_COMPACTION,             ANYBODY, BY_CORRUPT,              apply_compaction},
    {V3_LEASE_GRANT,            ANYBODY, BY_CORRUPT | BY_NOSPACE, apply_lease_grant},
    {V3_LEASE_REVOKE,           ANYBODY, BY_CORRUPT,              apply_lease_revoke},
    {V3_ALARM,                  ANYBODY, 0,                       apply_alarm},
    {V3_LEASE_CHECKPOINT,       ANYBODY, 0,                       apply_lease_checkpoint},
    {V3_AUTH_ENABLE,            ADMIN,   0,                       apply_auth_enable},
    {V3_AUTH_DISABLE,           ADMIN,   0,                       apply_auth_disable},
    {V3_AUTHENTICATE,           ANYBODY, 0,                       apply_authenticate},
    {V3_AUTH_STATUS,            ANYBODY, 0,                       apply_nothing},
    {V3_USER_ADD,               ADMIN,   0,                       apply_user_add},
    {V3_USER_DELETE,            ADMIN,   0,                       apply_user_delete},
    {V3_USER_GET,               ANYBODY, 0,                       apply_nothing},
    {V3_USER_CHANGE_PASSWORD,   ADMIN,   0,                       apply_user_change_password},
    {V3_USER_GRANT_ROLE,        ADMIN,   0,                       apply_user_grant_role},
    {V3_USER_REVOKE_ROLE,       ADMIN,   0,                       apply_user_revoke_role},
    {V3_USER_LIST,              ANYBODY, 0,                       apply_nothing},
    {V3_ROLE_LIST,              ANYBODY, 0,                       apply_nothing},
    {V3_ROLE_ADD,               ADMIN,   0,                       apply_role_add},
    {V3_ROLE_DELETE,            ADMIN,   0,                       apply_role_delete},
    {V3_ROLE_GET,               ANYBODY, 0,                       apply_nothing},
    {V3_ROLE_GRANT_PERMISSION,  ADMIN,   0,                       apply_role_grant},
    {V3_ROLE_REVOKE_PERMISSION, ADMIN,   0,                       apply_role_revoke},
    {V3_CLUSTER_VERSION,        ANYBODY, 0,                       apply_nothing},
    {V3_MEMBER_ATTRIBUTES,      ANYBODY, 0,                       apply_nothing},
    {V3_DOWNGRADE,              ANYBODY, 0,                       apply_nothing},
    /* clang-format on */
};

static const struct row *find_row(uint32_t field)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (rows[i].field == field)
            return &rows[i];
    return NULL;
}

/* The decoded message in the arena, which the caller releases; NULL if there
 * is no such field, or it does not read. */
static const void *decode(uint32_t field, struct str bytes, struct arena *a)
{
    const struct msg_field *f =
        msg_field(&rpcpb_internal_raft_request_desc, field);
    void *msg;

    *a = (struct arena){.limit = ARENA_MIN + ARENA_FACTOR * bytes.n};
    if (!find_row(field) || !f || f->type != MSG_MESSAGE)
        return NULL;
    msg = arena_alloc(a, f->message->size);
    return msg && msg_decode(f->message, bytes.p, bytes.n, a, msg) == 0 ? msg
                                                                        : NULL;
}

bool v3_readable(uint32_t field, struct str bytes)
{
    struct arena a;
    bool ok = decode(field, bytes, &a) != NULL;

    arena_release(&a);
    return ok;
}

/* --- What it costs. ------------------------------------------------------- */

static uint64_t put_cost(const struct rpcpb_put_request *p)
{
    return PUT_COST + p->key.n + p->value.n;
}

/* Those of nested transactions are left out, as etcd leaves them. */
static uint64_t ops_cost(const struct rpcpb_request_op *ops, size_t n)
{
    uint64_t cost = 0;

    for (size_t i = 0; i < n; i++)
        if (ops[i].request_put)
            cost += put_cost(ops[i].request_put);
    return cost;
}

static uint64_t cost_of(uint32_t field, const void *msg)
{
    const struct rpcpb_txn_request *txn = msg;

    switch (field) {
    case V3_PUT:
        return put_cost(msg);
    case V3_TXN:
        return max_u64(ops_cost(txn->success.items, txn->success.n),
                       ops_cost(txn->failure.items, txn->failure.n));
    case V3_LEASE_GRANT:
        return GRANT_COST;
    default:
        return 0;
    }
}

uint64_t v3_cost(uint32_t field, struct str bytes)
{
    struct arena a = {0};
    const void *msg;
    uint64_t cost;

    if (field != V3_PUT && field != V3_TXN && field != V3_LEASE_GRANT)
        return 0;
    msg = decode(field, bytes, &a);
    cost = msg ? cost_of(field, msg) : 0;
    arena_release(&a);
    return cost;
}

/* --- Passwords. ----------------------------------------------------------- */

void v3_hash_password(struct buf *b, const struct v3_request *r, uint64_t index)
{
    const struct rpcpb_auth_user_change_password_request *change;
    const struct rpcpb_auth_user_add_request *add;
    struct arena a;

    if (r->field != V3_USER_ADD && r->field != V3_USER_CHANGE_PASSWORD)
        return;
    add = decode(r->field, r->bytes, &a);
    change = (const void *)add;
    if (add && r->field == V3_USER_ADD)
        auth_stored_password(b, add->password, add->hashedPassword,
                             add->options && add->options->no_password,
                             add->name, index);
    else if (add)
        auth_stored_password(b, change->password, change->hashedPassword, false,
                             change->name, index);
    arena_release(&a);
}

/* --- Counting. ------------------------------------------------------------ */

static void count_txn(struct v3_counts *c, const struct mvcc_txn_result *t,
                      size_t *n)
{
    for (size_t i = 0; i < t->n; i++) {
        const struct mvcc_op_result *op = &t->results[i];

        *n += op->kind != MVCC_OP_TXN;
        c->puts += op->kind == MVCC_OP_PUT;
        c->deletes += op->kind == MVCC_OP_DELETE_RANGE;
        c->ranges += op->kind == MVCC_OP_RANGE;
        if (op->kind == MVCC_OP_TXN)
            count_txn(c, &op->u.txn, n);
    }
}

/* A transaction counts as one only with several operations. */
void v3_count_txn(struct v3 *v, size_t n_compares,
                  const struct mvcc_txn_result *t)
{
    size_t n = n_compares;

    v->counts.ranges += n_compares;
    count_txn(&v->counts, t, &n);
    v->counts.txns += n > 1;
}

static void count(struct applying *a)
{
    struct v3_counts *c = &a->v->counts;
    const struct v3_result *r = a->out;

    if (r->error != V3_OK)
        return;
    c->puts += r->field == V3_PUT;
    c->deletes += r->field == V3_DELETE_RANGE;
    c->granted += r->field == V3_LEASE_GRANT;
    c->revoked += r->field == V3_LEASE_REVOKE;
    if (r->field == V3_PUT) {
        const struct rpcpb_put_request *put = a->msg;

        c->put_bytes += put->key.n + put->value.n;
    } else if (r->field == V3_TXN) {
        const struct rpcpb_txn_request *txn = a->msg;

        v3_count_txn(a->v, txn->compare.n, &r->u.txn);
    }
}

/* --- Applying. ------------------------------------------------------------ */

static enum v3_error stopped_by(const struct applying *a, const struct row *row)
{
    if ((row->stopped & BY_CORRUPT) && v3_has_alarm(a->v, V3_ALARM_CORRUPT))
        return V3_CORRUPT;
    if ((row->stopped & BY_NOSPACE) && v3_has_alarm(a->v, V3_ALARM_NOSPACE) &&
        cost_of(row->field, a->msg) > 0)
        return V3_NO_SPACE;
    return V3_OK;
}

int v3_apply(struct v3 *v, const struct v3_request *r,
             const struct v3_moment *at, struct v3_result *out)
{
    const struct row *row = find_row(r->field);
    struct v3_result unwanted;
    struct applying a = {.v = v, .r = r, .at = at};

    assert(at->index > v->index);
    a.out = out ? out : &unwanted;
    *a.out = (struct v3_result){.field = r->field};
    a.msg = decode(r->field, r->bytes, &a.arena);
    if (!a.msg) {
        arena_release(&a.arena);
        return -1;
    }
    a.out->error = stopped_by(&a, row);
    if (a.out->error == V3_OK &&
        (row->access != ADMIN ||
         allowed(&a, auth_check_admin(v->auth, r->who))))
        row->apply(&a);
    v->index = at->index;
    a.out->header = (struct v3_header){mvcc_revision(v->mvcc), at->term};
    count(&a);
    arena_release(&a.arena);
    if (!out)
        v3_result_release(&unwanted);
    return 0;
}

void v3_result_release(struct v3_result *r)
{
    if (r->error == V3_OK && r->field == V3_PUT)
        mvcc_put_release(&r->u.put);
    else if (r->error == V3_OK && r->field == V3_DELETE_RANGE)
        mvcc_delete_release(&r->u.delete_range);
    else if (r->error == V3_OK && r->field == V3_TXN)
        mvcc_txn_release(&r->u.txn);
    else if (r->field == V3_ALARM)
        free(r->u.alarm.alarms);
    else if (r->field == V3_AUTHENTICATE)
        free(r->u.token);
    *r = (struct v3_result){0};
}
