/*
 * simtwin.c - see simtwin.h. Time and memory do not matter much here, that
 * it is plainly right does.
 */
#include "sim.h"

#include "simtwin.h"

#include <inttypes.h>
#include <stdio.h>

#define VERSIONS_MAX (1 << 16)
#define KEYS_MAX 64
#define LEASES_MAX 256
#define ALARMS_MAX 16

static struct {
    struct twin_version versions[VERSIONS_MAX];
    size_t n;
    struct str keys[KEYS_MAX];
    const struct twin_version *newest[KEYS_MAX];
    size_t n_keys;
    int64_t revision, compacted;
    int64_t n_changes; /* of the transaction that is open */
    struct twin_lease leases[LEASES_MAX];
    size_t n_leases;
    struct v3_alarm alarms[ALARMS_MAX];
    size_t n_alarms;
} twin = {.revision = 1, .compacted = -1};

size_t twin_size(void)
{
    return twin.n;
}

const struct twin_version *twin_get(size_t i)
{
    return &twin.versions[i];
}

bool twin_is_tombstone(const struct twin_version *v)
{
    return v->version == 0;
}

int64_t twin_revision(void)
{
    return twin.revision;
}

int64_t twin_compacted(void)
{
    return twin.compacted;
}

size_t twin_leases(const struct twin_lease **out)
{
    *out = twin.leases;
    return twin.n_leases;
}

size_t twin_alarms(const struct v3_alarm **out)
{
    *out = twin.alarms;
    return twin.n_alarms;
}

size_t twin_keys(const struct str **out)
{
    *out = twin.keys;
    return twin.n_keys;
}

/* --- Keys. -------------------------------------------------------------- */

static size_t key_place(struct str key, bool *there)
{
    size_t i = 0;

    while (i < twin.n_keys && str_cmp(twin.keys[i], key) < 0)
        i++;
    *there = i < twin.n_keys && str_eq(twin.keys[i], key);
    return i;
}

static struct str keep(struct str s)
{
    return (struct str){xstrndup(s.p, s.n), s.n};
}

static size_t key_made(struct str key)
{
    bool there;
    size_t i = key_place(key, &there), after = twin.n_keys - i;

    if (there)
        return i;
    REQUIRE(twin.n_keys < KEYS_MAX, "too many keys");
    memmove(twin.keys + i + 1, twin.keys + i, after * sizeof(twin.keys[0]));
    memmove(twin.newest + i + 1, twin.newest + i,
            after * sizeof(twin.newest[0]));
    twin.keys[i] = keep(key);
    twin.newest[i] = NULL;
    twin.n_keys++;
    return i;
}

static const struct twin_version *alive_at(size_t k, int64_t revision)
{
    const struct twin_version *v = twin.newest[k];

    while (v && v->main > revision)
        v = v->older;
    return v && !twin_is_tombstone(v) ? v : NULL;
}

const struct twin_version *twin_at(struct str key, int64_t revision)
{
    bool there;
    size_t k = key_place(key, &there);

    return there ? alive_at(k, revision) : NULL;
}

bool twin_in_range(struct str k, struct str key, struct str end)
{
    if (end.n == 0)
        return str_eq(k, key);
    if (str_cmp(k, key) < 0)
        return false;
    return (end.n == 1 && end.p[0] == 0) || str_cmp(k, end) < 0;
}

static void add_version(size_t k, struct twin_version v)
{
    struct twin_version *at = &twin.versions[twin.n++];

    REQUIRE(twin.n < VERSIONS_MAX, "too many versions");
    v.key = twin.keys[k];
    v.main = twin.revision + 1;
    v.sub = twin.n_changes++;
    v.older = twin.newest[k];
    *at = v;
    twin.newest[k] = at;
}

static void end_transaction(void)
{
    twin.revision += twin.n_changes > 0;
    twin.n_changes = 0;
}

/* --- Words. ------------------------------------------------------------- */

static void tell_version(struct buf *b, const struct twin_version *v)
{
    if (!v)
        return;
    buf_printf(b,
               " %.*s=%.*s@%" PRId64 ".%" PRId64 "/%" PRId64 "/%" PRId64
               "/%" PRId64,
               STR_FMT(v->key), STR_FMT(v->value), v->main, v->sub, v->create,
               v->version, v->lease);
}

static struct twin_version version_of(const struct mvcc_kv *kv)
{
    return (struct twin_version){.key = mvcc_key(kv),
                                 .value = mvcc_value(kv),
                                 .main = kv->mod_revision,
                                 .sub = kv->sub,
                                 .create = kv->create_revision,
                                 .version = kv->version,
                                 .lease = kv->lease};
}

static void tell_kv(struct buf *b, const struct mvcc_kv *kv)
{
    struct twin_version v;

    if (!kv)
        return;
    v = version_of(kv);
    tell_version(b, &v);
}

bool twin_is_version(const struct mvcc_kv *kv, const struct twin_version *v)
{
    return str_eq(mvcc_key(kv), v->key) && str_eq(mvcc_value(kv), v->value) &&
           kv->mod_revision == v->main && kv->sub == v->sub &&
           kv->create_revision == v->create && kv->version == v->version &&
           kv->lease == v->lease;
}

static void tell_kvs(struct buf *b, struct mvcc_kv *const *kvs, size_t n)
{
    for (size_t i = 0; i < n; i++)
        tell_kv(b, kvs[i]);
}

static void tell_range(struct buf *b, const struct mvcc_range_result *r)
{
    buf_printf(b, " count %" PRId64 "%s", r->count, r->more ? " more" : "");
    tell_kvs(b, r->kvs, r->n);
}

void twin_tell_range(struct buf *b, int64_t view,
                     const struct mvcc_range_result *r)
{
    buf_printf(b, "0 at %" PRId64, view);
    tell_range(b, r);
}

static void tell_txn(struct buf *b, const struct mvcc_txn_result *t)
{
    buf_printf(b, " %s {", t->succeeded ? "success" : "failure");
    for (size_t i = 0; i < t->n; i++) {
        const struct mvcc_op_result *r = &t->results[i];

        buf_printf(b, " [%d", (int)r->kind);
        if (r->kind == MVCC_OP_RANGE) {
            tell_range(b, &r->u.range);
        } else if (r->kind == MVCC_OP_PUT) {
            tell_kv(b, r->u.put.prev);
        } else if (r->kind == MVCC_OP_DELETE_RANGE) {
            buf_printf(b, " deleted %" PRId64, r->u.delete_range.deleted);
            tell_kvs(b, r->u.delete_range.prevs, r->u.delete_range.n);
        } else {
            tell_txn(b, &r->u.txn);
        }
        buf_adds(b, "]");
    }
    buf_adds(b, " }");
}

static void tell_alarms(struct buf *b, const struct v3_alarm *a, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf_printf(b, " %" PRIx64 ":%d", a[i].member_id, a[i].alarm);
}

void twin_tell_result(struct buf *b, const struct v3_result *r)
{
    buf_printf(b, "%d at %" PRId64, (int)r->error, r->header.revision);
    if (r->error != V3_OK)
        return;
    if (r->field == V3_PUT) {
        tell_kv(b, r->u.put.prev);
    } else if (r->field == V3_DELETE_RANGE) {
        buf_printf(b, " deleted %" PRId64, r->u.delete_range.deleted);
        tell_kvs(b, r->u.delete_range.prevs, r->u.delete_range.n);
    } else if (r->field == V3_TXN) {
        tell_txn(b, &r->u.txn);
    } else if (r->field == V3_LEASE_GRANT) {
        buf_printf(b, " lease %" PRId64 " ttl %" PRId64, r->u.lease_grant.id,
                   r->u.lease_grant.ttl);
    } else if (r->field == V3_ALARM) {
        tell_alarms(b, r->u.alarm.alarms, r->u.alarm.n);
    }
}

/* --- Reads. ------------------------------------------------------------- */

/* At a revision as seen where the newest one is view. */
static void range_at(struct buf *b, const struct rpcpb_range_request *r,
                     int64_t view)
{
    int64_t at = r->revision > 0 ? r->revision : view, count = 0;
    struct buf kvs = {0};

    for (size_t k = 0; k < twin.n_keys; k++) {
        const struct twin_version *v = alive_at(k, at);

        if (!v || !twin_in_range(twin.keys[k], r->key, r->range_end))
            continue;
        count++;
        if (!r->count_only && (r->limit <= 0 || count <= r->limit))
            tell_version(&kvs, v);
    }
    buf_printf(b, " count %" PRId64 "%s", count,
               !r->count_only && r->limit > 0 && count > r->limit ? " more"
                                                                  : "");
    buf_addstr(b, buf_str(&kvs));
    buf_release(&kvs);
}

void twin_read(struct buf *b, const struct rpcpb_range_request *r, int64_t view)
{
    buf_printf(b, "0 at %" PRId64, view);
    range_at(b, r, view);
}

/* --- Writes. ------------------------------------------------------------ */

static bool lease_there(int64_t id)
{
    for (size_t i = 0; i < twin.n_leases; i++)
        if (twin.leases[i].id == id)
            return true;
    return id == 0;
}

static void put(struct buf *b, const struct rpcpb_put_request *r)
{
    size_t k = key_made(r->key);
    const struct twin_version *prev = alive_at(k, INT64_MAX);

    if (r->prev_kv)
        tell_version(b, prev);
    add_version(k, (struct twin_version){
                       .value = r->ignore_value ? prev->value : keep(r->value),
                       .create = prev ? prev->create : twin.revision + 1,
                       .version = prev ? prev->version + 1 : 1,
                       .lease = r->ignore_lease ? prev->lease : r->lease});
}

static void delete_range(struct buf *b,
                         const struct rpcpb_delete_range_request *r)
{
    struct buf prevs = {0};
    int64_t deleted = 0;

    for (size_t k = 0; k < twin.n_keys; k++) {
        const struct twin_version *prev = alive_at(k, INT64_MAX);

        if (!prev || !twin_in_range(twin.keys[k], r->key, r->range_end))
            continue;
        if (r->prev_kv)
            tell_version(&prevs, prev);
        add_version(k, (struct twin_version){.value = STR("")});
        deleted++;
    }
    buf_printf(b, " deleted %" PRId64, deleted);
    buf_addstr(b, buf_str(&prevs));
    buf_release(&prevs);
}

/* What stands in the way of a put; V3_OK. Outside of a transaction etcd looks
 * for the lease first. */
static enum v3_error check_put(const struct rpcpb_put_request *r, bool in_txn)
{
    bool no_lease = !lease_there(r->lease);

    if (no_lease && !in_txn)
        return V3_LEASE_NOT_FOUND;
    if ((r->ignore_value || r->ignore_lease) && !twin_at(r->key, INT64_MAX))
        return V3_KEY_NOT_FOUND;
    return no_lease ? V3_LEASE_NOT_FOUND : V3_OK;
}

/* --- Transactions: all compares are decided before anything changes. ---- */

static int64_t given_number(const struct rpcpb_compare *c)
{
    const int64_t *n = c->target == RPCPB_COMPARE_TO_VERSION ? c->version
                       : c->target == RPCPB_COMPARE_TO_CREATE
                           ? c->create_revision
                       : c->target == RPCPB_COMPARE_TO_MOD ? c->mod_revision
                                                           : c->lease;

    return n ? *n : 0;
}

static bool compare_one(const struct rpcpb_compare *c,
                        const struct twin_version *v)
{
    static const struct twin_version none;
    int64_t is, want = given_number(c);
    int r;

    v = v ? v : &none;
    is = c->target == RPCPB_COMPARE_TO_VERSION  ? v->version
         : c->target == RPCPB_COMPARE_TO_CREATE ? v->create
         : c->target == RPCPB_COMPARE_TO_MOD    ? v->main
                                                : v->lease;
    r = c->target == RPCPB_COMPARE_TO_VALUE
            ? str_cmp(v->value, c->value ? *c->value : STR(""))
            : (is > want) - (is < want);
    return c->result == RPCPB_COMPARE_EQUAL     ? r == 0
           : c->result == RPCPB_COMPARE_GREATER ? r > 0
           : c->result == RPCPB_COMPARE_LESS    ? r < 0
                                                : r != 0;
}

static bool compare(const struct rpcpb_compare *c)
{
    size_t n = 0;

    for (size_t k = 0; k < twin.n_keys; k++) {
        const struct twin_version *v = alive_at(k, INT64_MAX);

        if (!v || !twin_in_range(twin.keys[k], c->key, c->range_end))
            continue;
        n++;
        if (!compare_one(c, v))
            return false;
    }
    return n > 0 ||
           (c->target != RPCPB_COMPARE_TO_VALUE && compare_one(c, NULL));
}

#define DECISIONS_MAX 64

static struct { /* in the order in which the run comes to them */
    bool success[DECISIONS_MAX];
    size_t n, next;
} decided;

static const struct rpcpb_request_op *branch(const struct rpcpb_txn_request *t,
                                             bool success, size_t *n)
{
    *n = success ? t->success.n : t->failure.n;
    return success ? t->success.items : t->failure.items;
}

static void decide(const struct rpcpb_txn_request *t)
{
    const struct rpcpb_request_op *ops;
    bool success = true;
    size_t n;

    for (size_t i = 0; i < t->compare.n; i++)
        success &= compare(&t->compare.items[i]);
    REQUIRE(decided.n < DECISIONS_MAX, "too many transactions in one");
    decided.success[decided.n++] = success;
    ops = branch(t, success, &n);
    for (size_t i = 0; i < n; i++)
        if (ops[i].request_txn)
            decide(ops[i].request_txn);
}

static enum v3_error check_puts(const struct rpcpb_txn_request *t)
{
    const struct rpcpb_request_op *ops;
    enum v3_error error = V3_OK;
    size_t n;

    ops = branch(t, decided.success[decided.next++], &n);
    for (size_t i = 0; i < n && error == V3_OK; i++) {
        if (ops[i].request_txn)
            error = check_puts(ops[i].request_txn);
        else if (ops[i].request_put)
            error = check_put(ops[i].request_put, true);
    }
    return error;
}

static void run(struct buf *b, const struct rpcpb_txn_request *t)
{
    const struct rpcpb_request_op *ops;
    bool success = decided.success[decided.next++];
    size_t n;

    buf_printf(b, " %s {", success ? "success" : "failure");
    ops = branch(t, success, &n);
    for (size_t i = 0; i < n; i++) {
        if (ops[i].request_range) {
            buf_printf(b, " [%d", MVCC_OP_RANGE);
            range_at(b, ops[i].request_range, INT64_MAX);
        } else if (ops[i].request_put) {
            buf_printf(b, " [%d", MVCC_OP_PUT);
            put(b, ops[i].request_put);
        } else if (ops[i].request_delete_range) {
            buf_printf(b, " [%d", MVCC_OP_DELETE_RANGE);
            delete_range(b, ops[i].request_delete_range);
        } else {
            buf_printf(b, " [%d", MVCC_OP_TXN);
            run(b, ops[i].request_txn);
        }
        buf_adds(b, "]");
    }
    buf_adds(b, " }");
}

static enum v3_error txn(struct buf *b, const struct rpcpb_txn_request *t)
{
    enum v3_error error;

    decided.n = decided.next = 0;
    decide(t);
    error = check_puts(t);
    decided.next = 0;
    if (error == V3_OK)
        run(b, t);
    return error;
}

static bool has_put(const struct rpcpb_request_op *ops, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (ops[i].request_put)
            return true;
    return false;
}

/* --- Leases and alarms. ------------------------------------------------- */

static enum v3_error
grant(struct buf *b, const struct rpcpb_lease_grant_request *r, int64_t min_ttl)
{
    int64_t ttl = r->TTL > min_ttl ? r->TTL : min_ttl;

    if (lease_there(r->ID))
        return V3_LEASE_EXIST;
    REQUIRE(twin.n_leases < LEASES_MAX, "too many leases");
    twin.leases[twin.n_leases++] = (struct twin_lease){r->ID, ttl};
    buf_printf(b, " lease %" PRId64 " ttl %" PRId64, r->ID, ttl);
    return V3_OK;
}

static enum v3_error revoke(int64_t id)
{
    size_t i = 0;

    while (i < twin.n_leases && twin.leases[i].id != id)
        i++;
    if (i == twin.n_leases)
        return V3_LEASE_NOT_FOUND;
    twin.leases[i] = twin.leases[--twin.n_leases];
    for (size_t k = 0; k < twin.n_keys; k++) {
        const struct twin_version *v = alive_at(k, INT64_MAX);

        if (v && v->lease == id)
            add_version(k, (struct twin_version){.value = STR("")});
    }
    return V3_OK;
}

static bool has_alarm(int kind)
{
    for (size_t i = 0; i < twin.n_alarms; i++)
        if (twin.alarms[i].alarm == kind)
            return true;
    return false;
}

static void alarm_request(struct buf *b, const struct rpcpb_alarm_request *r)
{
    const struct v3_alarm x = {r->memberID, r->alarm};
    size_t i = 0;

    while (i < twin.n_alarms && (twin.alarms[i].member_id != x.member_id ||
                                 twin.alarms[i].alarm != x.alarm))
        i++;
    if (r->action == RPCPB_ALARM_DO_ACTIVATE) {
        REQUIRE(i < ALARMS_MAX, "too many alarms");
        tell_alarms(b, &x, 1);
        twin.alarms[i] = x;
        twin.n_alarms = i == twin.n_alarms ? i + 1 : twin.n_alarms;
    } else if (i < twin.n_alarms) {
        tell_alarms(b, &x, 1);
        twin.alarms[i] = twin.alarms[--twin.n_alarms];
    }
}

/* --- Requests. ---------------------------------------------------------- */

static enum v3_error stopped_by_alarm(uint32_t field, const void *msg)
{
    const struct rpcpb_txn_request *t = msg;
    bool grows = field == V3_PUT || field == V3_LEASE_GRANT ||
                 (field == V3_TXN && (has_put(t->success.items, t->success.n) ||
                                      has_put(t->failure.items, t->failure.n)));

    if (field == V3_ALARM)
        return V3_OK;
    if (has_alarm(V3_ALARM_CORRUPT))
        return V3_CORRUPT;
    return grows && has_alarm(V3_ALARM_NOSPACE) ? V3_NO_SPACE : V3_OK;
}

static enum v3_error compaction(int64_t revision)
{
    if (revision <= twin.compacted)
        return V3_COMPACTED;
    if (revision > twin.revision)
        return V3_FUTURE_REV;
    twin.compacted = revision;
    return V3_OK;
}

static enum v3_error apply(struct buf *b, uint32_t field, const void *msg,
                           int64_t min_ttl)
{
    enum v3_error error = stopped_by_alarm(field, msg);

    if (error != V3_OK)
        return error;
    switch (field) {
    case V3_PUT:
        error = check_put(msg, false);
        if (error == V3_OK)
            put(b, msg);
        return error;
    case V3_DELETE_RANGE:
        delete_range(b, msg);
        return V3_OK;
    case V3_TXN:
        return txn(b, msg);
    case V3_COMPACTION:
        return compaction(
            ((const struct rpcpb_compaction_request *)msg)->revision);
    case V3_LEASE_GRANT:
        return grant(b, msg, min_ttl);
    case V3_LEASE_REVOKE:
        return revoke(((const struct rpcpb_lease_revoke_request *)msg)->ID);
    default:
        alarm_request(b, msg);
        return V3_OK;
    }
}

bool twin_apply(struct buf *text, uint32_t field, struct str bytes,
                int64_t min_ttl)
{
    const struct msg_field *f =
        msg_field(&rpcpb_internal_raft_request_desc, field);
    struct arena arena = {.limit = 1 << 20};
    struct buf body = {0};
    enum v3_error error;
    void *msg;

    if (field > V3_ALARM)
        return false;
    msg = arena_alloc(&arena, f->message->size);
    REQUIRE(msg && msg_decode(f->message, bytes.p, bytes.n, &arena, msg) == 0,
            "a v3 request does not decode");
    error = apply(&body, field, msg, min_ttl);
    end_transaction();
    buf_printf(text, "%d at %" PRId64, (int)error, twin.revision);
    buf_addstr(text, buf_str(&body));
    buf_release(&body);
    arena_release(&arena);
    return true;
}
