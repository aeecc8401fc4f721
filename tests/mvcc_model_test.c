/*
 * mvcc_model_test.c - random operations on the v3 key space and on a naive
 * twin, which keeps all of history in plain arrays and follows etcd's own
 * words. Reads stay open while the store changes; compaction goes on in steps;
 * now and then the store is written out and restored.
 *
 *     mvcc_model_test [STEPS [SEED]]
 *
 * kvtree.c is included rather than linked, with small nodes.
 */
#include "chance.h"
#include "check.h"

#define KVTREE_NODE_MAX 8
#include "../kvtree.c"

#include "crypto.h"
#include "mvcc.h"
#include "pb.h"

#include <stdio.h>

#define KEYS 120
#define MAX_OPS 6
#define READS 6

/* Keys in order: some are prefixes of others, and some hold odd bytes. */
static struct str keys[KEYS];
static char key_bytes[KEYS][8];

static int compare_strs(const void *a, const void *b)
{
    return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

static void make_keys(void)
{
    for (unsigned i = 0; i < KEYS; i++) {
        int n = snprintf(key_bytes[i], sizeof(key_bytes[i]), "%c%02u",
                         (char)(i % 7 == 0 ? 1 : 'a' + i % 3), i / 3);

        if (i % 5 == 0)
            key_bytes[i][n++] = (char)(i % 2 ? 0 : 0xff);
        keys[i] = (struct str){key_bytes[i], (size_t)n};
    }
    qsort(keys, KEYS, sizeof(keys[0]), compare_strs);
}

static struct str random_key(void)
{
    return keys[one_in(3) ? rnd(8) : rnd(KEYS)];
}

static struct str random_end(void)
{
    static const char *const odd[] = {"", "a", "b", "b1", "zzz"};

    switch (rnd(6)) {
    case 0:
    case 1:
        return (struct str){"", 0};
    case 2:
        return (struct str){"\0", 1};
    case 3:
        return str_of(odd[rnd(ARRAY_LEN(odd))]);
    default:
        return keys[rnd(KEYS)];
    }
}

static struct str random_value(void)
{
    static const char *const values[] = {"", "0", "1", "10", "a\nb", "zz"};

    return str_of(values[rnd(ARRAY_LEN(values))]);
}

/* --- The twin. ------------------------------------------------------------------- */

struct past { /* one version */
    int64_t main, sub, create, version, lease;
    bool tombstone;
    struct str value;
};

struct twin {
    struct past *past[KEYS]; /* oldest first; never forgotten but by trim() */
    size_t n[KEYS], cap[KEYS];
    int64_t revision, compacted;
    int64_t n_changes; /* of the open transaction */
};

static struct twin twin = {.revision = 1, .compacted = -1};

static int64_t view(void)
{
    return twin.revision + (twin.n_changes > 0);
}

/* The version at a revision; NULL if there is none or a tombstone. */
static const struct past *past_at(unsigned k, int64_t revision)
{
    const struct past *found = NULL;

    for (size_t i = 0; i < twin.n[k]; i++)
        if (twin.past[k][i].main <= revision)
            found = &twin.past[k][i];
    return found && !found->tombstone ? found : NULL;
}

static bool in_range(unsigned k, struct str key, struct str end)
{
    if (end.n == 0)
        return str_eq(keys[k], key);
    if (str_cmp(keys[k], key) < 0)
        return false;
    return (end.n == 1 && end.p[0] == 0) || str_cmp(keys[k], end) < 0;
}

static void remember(unsigned k, struct past p)
{
    if (twin.n[k] == twin.cap[k]) {
        twin.cap[k] = twin.cap[k] ? twin.cap[k] * 2 : 8;
        twin.past[k] =
            xrealloc(twin.past[k], twin.cap[k] * sizeof(struct past));
    }
    p.main = twin.revision + 1;
    p.sub = twin.n_changes++;
    twin.past[k][twin.n[k]++] = p;
}

/* What compaction leaves, so that the twin does not grow for ever. */
static bool is_left(unsigned k, size_t i, int64_t at)
{
    const struct past *p = &twin.past[k][i];

    if (p->main > at)
        return true;
    if (i + 1 < twin.n[k] && p[1].main <= at)
        return false;
    return !p->tombstone || p->main == at;
}

static void trim(void)
{
    for (unsigned k = 0; k < KEYS; k++) {
        size_t n = 0;

        for (size_t i = 0; i < twin.n[k]; i++) {
            struct past p = twin.past[k][i];

            /* A read at the revision itself looks for it here. */
            if (is_left(k, i, twin.compacted))
                twin.past[k][n++] = p;
        }
        twin.n[k] = n;
    }
}

static unsigned key_index(struct str key)
{
    for (unsigned k = 0; k < KEYS; k++)
        if (str_eq(keys[k], key))
            return k;
    abort();
}

/* --- Answers of the twin, made to compare. --------------------------------------- */

struct pair {
    unsigned k;
    struct past p;
};

static struct pair pairs[KEYS];

static int64_t sort_number(const struct pair *a, int target)
{
    return target == MVCC_BY_VERSION  ? a->p.version
           : target == MVCC_BY_CREATE ? a->p.create
           : target == MVCC_BY_MOD    ? a->p.main
                                      : 0;
}

/* Ties are in the order of keys, whatever the direction. */
static int compare_pairs(const struct pair *a, const struct pair *b, int target,
                         bool descend)
{
    int64_t x = sort_number(a, target), y = sort_number(b, target);
    int c = target == MVCC_BY_VALUE ? str_cmp(a->p.value, b->p.value)
            : target == MVCC_BY_KEY ? (a->k > b->k) - (a->k < b->k)
                                    : (x > y) - (x < y);

    if (c)
        return descend ? -c : c;
    return (a->k > b->k) - (a->k < b->k);
}

/* By insertion. */
static void sort_pairs(size_t n, int target, bool descend)
{
    for (size_t i = 1; i < n; i++) {
        for (size_t j = i; j > 0; j--) {
            int c = compare_pairs(&pairs[j - 1], &pairs[j], target, descend);
            struct pair swap = pairs[j];

            if (c <= 0)
                break;
            pairs[j] = pairs[j - 1];
            pairs[j - 1] = swap;
        }
    }
}

static bool is_pruned(const struct mvcc_range *q, const struct past *p)
{
    return (q->max_mod_revision && p->main > q->max_mod_revision) ||
           (q->min_mod_revision && p->main < q->min_mod_revision) ||
           (q->max_create_revision && p->create > q->max_create_revision) ||
           (q->min_create_revision && p->create < q->min_create_revision);
}

/* As applierV3backend.Range() does it, step by step. Fills pairs[]. */
static int twin_range(const struct mvcc_range *q, struct mvcc_range_result *out)
{
    int64_t at = q->revision > 0 ? q->revision : view(), limit = q->limit;
    int order = q->order;
    size_t n = 0, kept = 0;

    if (q->revision > view())
        return MVCC_FUTURE_REV;
    if (at < twin.compacted)
        return MVCC_COMPACTED;
    *out = (struct mvcc_range_result){.revision = view()};
    if (order != MVCC_NONE || q->min_mod_revision || q->max_mod_revision ||
        q->min_create_revision || q->max_create_revision)
        limit = 0;
    for (unsigned k = 0; k < KEYS; k++) {
        const struct past *p = past_at(k, at);

        if (!p || !in_range(k, q->key, q->range_end))
            continue;
        out->count++;
        if (!q->count_only && (limit <= 0 || n < (size_t)limit + 1))
            pairs[n++] = (struct pair){k, *p};
    }
    for (size_t i = 0; i < n; i++)
        if (!is_pruned(q, &pairs[i].p))
            pairs[kept++] = pairs[i];
    if (q->target != MVCC_BY_KEY && order == MVCC_NONE)
        order = MVCC_ASCEND;
    if (order != MVCC_NONE)
        sort_pairs(kept, q->target, order == MVCC_DESCEND);
    if (q->limit > 0 && kept > (size_t)q->limit) {
        kept = (size_t)q->limit;
        out->more = true;
    }
    out->n = kept;
    return 0;
}

static bool is_pair(const struct mvcc_kv *kv, const struct pair *want)
{
    return str_eq(mvcc_key(kv), keys[want->k]) &&
           str_eq(mvcc_value(kv), want->p.value) &&
           kv->mod_revision == want->p.main && kv->sub == want->p.sub &&
           kv->create_revision == want->p.create &&
           kv->version == want->p.version && kv->lease == want->p.lease;
}

static void check_range(const struct mvcc_range_result *got,
                        const struct mvcc_range_result *want)
{
    CHECK(got->revision == want->revision);
    CHECK(got->count == want->count);
    CHECK(got->more == want->more);
    CHECK(got->n == want->n);
    for (size_t i = 0; i < got->n && i < want->n; i++)
        CHECK(is_pair(got->kvs[i], &pairs[i]));
}

static void check_prev(const struct mvcc_kv *kv, const struct past *want,
                       unsigned k)
{
    CHECK(!kv == !want);
    if (kv && want)
        CHECK(is_pair(kv, &(struct pair){k, *want}));
}

/* --- Random requests. --------------------------------------------------------------- */

static int64_t random_revision(void)
{
    return twin.revision - 12 + (int64_t)rnd(16);
}

static int64_t random_bound(void)
{
    return one_in(8) ? random_revision() : 0;
}

static struct mvcc_range random_range(void)
{
    struct mvcc_range q = {.key = random_key(), .range_end = random_end()};

    q.limit = one_in(2) ? 0 : (int64_t)rnd(12) - 1;
    q.revision = one_in(2) ? 0 : random_revision();
    q.order = one_in(2) ? 0 : (int)rnd(3);
    q.target = one_in(2) ? 0 : (int)rnd(5);
    q.count_only = one_in(6);
    if (one_in(4)) {
        q.min_mod_revision = random_bound();
        q.max_mod_revision = random_bound();
        q.min_create_revision = random_bound();
        q.max_create_revision = random_bound();
    }
    return q;
}

static struct mvcc_put random_put(void)
{
    struct mvcc_put p = {.key = random_key()};

    p.ignore_value = one_in(8);
    p.ignore_lease = one_in(8);
    p.prev_kv = one_in(2);
    p.value = p.ignore_value && !one_in(20) ? STR("") : random_value();
    p.lease = p.ignore_lease && !one_in(20) ? 0 : (int64_t)rnd(4);
    return p;
}

static struct mvcc_delete_range random_delete(void)
{
    struct mvcc_delete_range d = {random_key(), STR(""), one_in(2)};

    if (one_in(3))
        d.range_end = random_end();
    else if (one_in(2))
        d.range_end = keys[rnd(KEYS)];
    if (d.range_end.n == 1 && !one_in(20)) /* all of them: seldom */
        d.range_end = STR("");
    return d;
}

static struct mvcc_compare random_compare(void)
{
    struct mvcc_compare c = {.key = random_key()};

    c.result = (int)rnd(4);
    c.target = (int)rnd(5);
    c.range_end = one_in(3) ? random_end() : STR("");
    c.value = random_value();
    c.number = c.target == MVCC_CREATE || c.target == MVCC_MOD
                   ? (one_in(4) ? 0 : random_revision())
                   : (int64_t)rnd(4);
    return c;
}

/* Requests of one transaction, at any depth. */
static struct mvcc_op op_pool[400];
static struct mvcc_compare compare_pool[400];
static size_t n_ops, n_compares;

static struct mvcc_txn random_txn(unsigned depth);

static struct mvcc_op random_op(unsigned depth)
{
    struct mvcc_op op = {.kind = MVCC_OP_PUT};

    switch (rnd(depth > 0 ? 9 : 7)) {
    case 0:
    case 1:
        op.kind = MVCC_OP_RANGE;
        op.u.range = random_range();
        if (!one_in(8))
            op.u.range.revision = 0;
        break;
    case 2:
        op.kind = MVCC_OP_DELETE_RANGE;
        op.u.delete_range = random_delete();
        break;
    case 7:
    case 8:
        op.kind = MVCC_OP_TXN;
        op.u.txn = random_txn(depth - 1);
        break;
    default:
        op.u.put = random_put();
        if (one_in(300))
            op.kind = MVCC_OP_EMPTY;
        break;
    }
    return op;
}

static struct mvcc_txn random_txn(unsigned depth)
{
    struct mvcc_txn t = {.n_compares = rnd(3)};
    struct mvcc_op *ops;

    t.n_success = rnd(4);
    t.n_failure = rnd(3);
    ops = op_pool + n_ops;
    n_ops += t.n_success + t.n_failure;
    t.compares = compare_pool + n_compares;
    for (size_t i = 0; i < t.n_compares; i++)
        compare_pool[n_compares++] = random_compare();
    for (size_t i = 0; i < t.n_success + t.n_failure; i++)
        ops[i] = random_op(depth);
    t.success = ops;
    t.failure = ops + t.n_success;
    return t;
}

/* --- The twin's transactions, in the words of etcd's apply.go. ------------------------ */

static bool twin_lease_exists(void *arg, int64_t lease)
{
    (void)arg;
    return lease != 3;
}

static const struct mvcc_leases leases = {twin_lease_exists, NULL};

static void twin_put(const struct mvcc_put *p, struct mvcc_put_result *got)
{
    unsigned k = key_index(p->key);
    const struct past *prev = past_at(k, INT64_MAX);
    struct past new = {.value = p->value, .lease = p->lease, .version = 1};

    new.create = twin.revision + 1;
    if (got)
        check_prev(got->prev, p->prev_kv ? prev : NULL, k);
    if (prev) {
        new.create = prev->create;
        new.version = prev->version + 1;
        if (p->ignore_value)
            new.value = prev->value;
        if (p->ignore_lease)
            new.lease = prev->lease;
    }
    remember(k, new);
    if (got)
        CHECK(got->revision == view());
}

static void twin_delete(const struct mvcc_delete_range *d,
                        struct mvcc_delete_result *got)
{
    int64_t deleted = 0;

    for (unsigned k = 0; k < KEYS; k++) {
        const struct past *prev = past_at(k, INT64_MAX);

        if (!prev || !in_range(k, d->key, d->range_end))
            continue;
        if (d->prev_kv)
            check_prev((size_t)deleted < got->n ? got->prevs[deleted] : NULL,
                       prev, k);
        remember(k, (struct past){.tombstone = true, .value = STR("")});
        deleted++;
    }
    CHECK(got->deleted == deleted);
    CHECK(got->n == (d->prev_kv ? (size_t)deleted : 0));
    CHECK(got->revision == view());
}

static bool twin_compare_kv(const struct mvcc_compare *c, const struct past *p)
{
    static const struct past none;
    int64_t number;
    int r;

    p = p ? p : &none;
    number = c->target == MVCC_VERSION  ? p->version
             : c->target == MVCC_CREATE ? p->create
             : c->target == MVCC_MOD    ? p->main
                                        : p->lease;
    r = c->target == MVCC_VALUE ? str_cmp(p->value, c->value)
                                : (number > c->number) - (number < c->number);
    return c->result == MVCC_EQUAL     ? r == 0
           : c->result == MVCC_GREATER ? r > 0
           : c->result == MVCC_LESS    ? r < 0
                                       : r != 0;
}

static bool twin_compare(const struct mvcc_compare *c)
{
    size_t n = 0;

    for (unsigned k = 0; k < KEYS; k++) {
        const struct past *p = past_at(k, INT64_MAX);

        if (!p || !in_range(k, c->key, c->range_end))
            continue;
        n++;
        if (!twin_compare_kv(c, p))
            return false;
    }
    if (n == 0)
        return c->target != MVCC_VALUE && twin_compare_kv(c, NULL);
    return true;
}

/* Compares are decided beforehand: by the transaction's address. */
static struct {
    const struct mvcc_txn *t;
    bool success;
} decided[400];
static size_t n_decided;

static const struct mvcc_op *branch_of(const struct mvcc_txn *t, size_t *n)
{
    size_t i = 0;

    while (decided[i].t != t)
        i++;
    *n = decided[i].success ? t->n_success : t->n_failure;
    return decided[i].success ? t->success : t->failure;
}

static void twin_decide(const struct mvcc_txn *t)
{
    const struct mvcc_op *ops;
    bool all = true;
    size_t n;

    for (size_t i = 0; i < t->n_compares; i++)
        all &= twin_compare(&t->compares[i]);
    decided[n_decided].t = t;
    decided[n_decided++].success = all;
    ops = branch_of(t, &n);
    for (size_t i = 0; i < n; i++)
        if (ops[i].kind == MVCC_OP_TXN)
            twin_decide(&ops[i].u.txn);
}

static int twin_check_puts(const struct mvcc_txn *t)
{
    size_t n;
    const struct mvcc_op *ops = branch_of(t, &n);
    int rc = 0;

    for (size_t i = 0; i < n && rc == 0; i++) {
        const struct mvcc_put *p = &ops[i].u.put;

        if (ops[i].kind == MVCC_OP_TXN)
            rc = twin_check_puts(&ops[i].u.txn);
        if (ops[i].kind != MVCC_OP_PUT)
            continue;
        if ((p->ignore_value || p->ignore_lease) &&
            !past_at(key_index(p->key), INT64_MAX))
            return MVCC_KEY_NOT_FOUND;
        if (p->lease == 3)
            return MVCC_LEASE_NOT_FOUND;
    }
    return rc;
}

static int twin_check_ranges(const struct mvcc_txn *t)
{
    size_t n;
    const struct mvcc_op *ops = branch_of(t, &n);
    int rc = 0;

    for (size_t i = 0; i < n && rc == 0; i++) {
        int64_t revision = ops[i].u.range.revision;

        if (ops[i].kind == MVCC_OP_TXN)
            rc = twin_check_ranges(&ops[i].u.txn);
        else if (ops[i].kind != MVCC_OP_RANGE || revision == 0)
            continue;
        else if (revision > twin.revision)
            rc = MVCC_FUTURE_REV;
        else if (revision < twin.compacted)
            rc = MVCC_COMPACTED;
    }
    return rc;
}

static void twin_run(const struct mvcc_txn *t, struct mvcc_txn_result *got)
{
    size_t n;
    const struct mvcc_op *ops = branch_of(t, &n);
    struct mvcc_range_result want;

    CHECK(got->succeeded == (ops == t->success && n == t->n_success) ||
          t->n_success == 0);
    CHECK(got->n == n);
    for (size_t i = 0; i < n; i++) {
        struct mvcc_op_result *r = &got->results[i];

        CHECK(r->kind == ops[i].kind);
        if (ops[i].kind == MVCC_OP_PUT)
            twin_put(&ops[i].u.put, &r->u.put);
        else if (ops[i].kind == MVCC_OP_DELETE_RANGE)
            twin_delete(&ops[i].u.delete_range, &r->u.delete_range);
        else if (ops[i].kind == MVCC_OP_TXN)
            twin_run(&ops[i].u.txn, &r->u.txn);
        else if (twin_range(&ops[i].u.range, &want) == 0)
            check_range(&r->u.range, &want);
    }
}

/* --- Duplicate keys: v3rpc's checkIntervals(), with lists for its maps. ------------------ */

struct twin_writes {
    struct str puts[400];
    struct mvcc_delete_range dels[400];
    size_t n_puts, n_dels;
};

static bool has_put(const struct twin_writes *w, struct str key)
{
    for (size_t i = 0; i < w->n_puts; i++)
        if (str_eq(w->puts[i], key))
            return true;
    return false;
}

static bool has_del(const struct twin_writes *w, struct str key)
{
    for (size_t i = 0; i < w->n_dels; i++) {
        const struct mvcc_delete_range *d = &w->dels[i];

        if (d->range_end.n == 0
                ? str_eq(d->key, key)
                : str_cmp(d->key, key) <= 0 && str_cmp(key, d->range_end) < 0)
            return true;
    }
    return false;
}

static bool twin_intervals(const struct mvcc_op *ops, size_t n,
                           struct twin_writes *w);

static bool twin_nested(const struct mvcc_txn *t, struct twin_writes *w)
{
    struct twin_writes *yes = xcalloc(2, sizeof(*yes)), *no = yes + 1;
    bool ok = twin_intervals(t->success, t->n_success, yes) &&
              twin_intervals(t->failure, t->n_failure, no);

    for (size_t i = 0; i < yes->n_puts; i++) {
        ok &= !has_put(w, yes->puts[i]) && !has_del(w, yes->puts[i]);
        w->puts[w->n_puts++] = yes->puts[i];
    }
    for (size_t i = 0; i < no->n_puts; i++) {
        ok &= !has_put(w, no->puts[i]) || has_put(yes, no->puts[i]);
        ok &= !has_del(w, no->puts[i]);
        if (!has_put(w, no->puts[i]))
            w->puts[w->n_puts++] = no->puts[i];
    }
    for (size_t i = 0; i < yes->n_dels; i++)
        w->dels[w->n_dels++] = yes->dels[i];
    for (size_t i = 0; i < no->n_dels; i++)
        w->dels[w->n_dels++] = no->dels[i];
    free(yes);
    return ok;
}

static bool twin_intervals(const struct mvcc_op *ops, size_t n,
                           struct twin_writes *w)
{
    for (size_t i = 0; i < n; i++)
        if (ops[i].kind == MVCC_OP_DELETE_RANGE)
            w->dels[w->n_dels++] = ops[i].u.delete_range;
    for (size_t i = 0; i < n; i++)
        if (ops[i].kind == MVCC_OP_TXN && !twin_nested(&ops[i].u.txn, w))
            return false;
    for (size_t i = 0; i < n; i++) {
        if (ops[i].kind != MVCC_OP_PUT)
            continue;
        if (has_put(w, ops[i].u.put.key) || has_del(w, ops[i].u.put.key))
            return false;
        w->puts[w->n_puts++] = ops[i].u.put.key;
    }
    return true;
}

static int twin_shape(const struct mvcc_txn *t, size_t max_ops)
{
    size_t longest = t->n_compares;
    int rc = 0;

    longest = t->n_success > longest ? t->n_success : longest;
    longest = t->n_failure > longest ? t->n_failure : longest;
    if (longest > max_ops)
        return MVCC_TOO_MANY_OPS;
    for (size_t i = 0; i < t->n_success + t->n_failure && rc == 0; i++) {
        const struct mvcc_op *op =
            i < t->n_success ? &t->success[i] : &t->failure[i - t->n_success];

        if (op->kind == MVCC_OP_EMPTY)
            rc = MVCC_KEY_NOT_FOUND;
        else if (op->kind == MVCC_OP_PUT)
            rc = mvcc_check_put(&op->u.put);
        else if (op->kind == MVCC_OP_TXN)
            rc = twin_shape(&op->u.txn, max_ops - longest);
    }
    return rc;
}

static int twin_check(const struct mvcc_txn *t, size_t max_ops)
{
    struct twin_writes *w = xcalloc(2, sizeof(*w));
    int rc = twin_shape(t, max_ops);

    if (rc == 0 && !(twin_intervals(t->success, t->n_success, w) &&
                     twin_intervals(t->failure, t->n_failure, w + 1)))
        rc = MVCC_DUPLICATE_KEY;
    free(w);
    return rc;
}

/* --- Steps. -------------------------------------------------------------------------------- */

static struct mvcc *m;

static void twin_end(void)
{
    twin.revision = view();
    twin.n_changes = 0;
    CHECK(mvcc_revision(m) == twin.revision);
}

static void step_put(void)
{
    struct mvcc_put p = random_put();
    struct mvcc_put_result got;
    int want = 0, rc;

    if (mvcc_check_put(&p) < 0)
        return;
    if ((p.ignore_value || p.ignore_lease) &&
        !past_at(key_index(p.key), INT64_MAX))
        want = MVCC_KEY_NOT_FOUND;
    if (p.lease == 3)
        want = MVCC_LEASE_NOT_FOUND;
    rc = mvcc_put(m, &p, &leases, &got);
    CHECK(rc == want);
    if (rc < 0)
        return;
    twin_put(&p, &got);
    twin_end();
    mvcc_put_release(&got);
}

static void step_delete(void)
{
    struct mvcc_delete_range d = random_delete();
    struct mvcc_delete_result got;

    mvcc_delete_range(m, &d, &got);
    twin_delete(&d, &got);
    twin_end();
    mvcc_delete_release(&got);
}

static void step_txn(void)
{
    struct mvcc_txn_result got;
    struct mvcc_txn t;
    int rc, want;

    n_ops = n_compares = n_decided = 0;
    t = random_txn(2);
    rc = mvcc_check_txn(&t, MAX_OPS);
    CHECK(rc == twin_check(&t, MAX_OPS));
    /* The log of a foreign member might hold it all the same. */
    if (rc < 0 && (rc != MVCC_DUPLICATE_KEY || one_in(2)))
        return;
    twin_decide(&t);
    want = twin_check_puts(&t);
    if (want == 0)
        want = twin_check_ranges(&t);
    rc = mvcc_txn(m, &t, &leases, &got);
    CHECK(rc == want);
    if (rc < 0)
        return;
    twin_run(&t, &got);
    CHECK(got.revision == view());
    twin_end();
    mvcc_txn_release(&got);
}

static void step_range(void)
{
    struct mvcc_range q = random_range();
    struct mvcc_range_result got, want;
    int rc = mvcc_range(m, &q, &got);

    CHECK(rc == twin_range(&q, &want));
    if (rc < 0)
        return;
    check_range(&got, &want);
    mvcc_range_release(&got);
}

/* Reads that stay open while other things happen. */
static struct open_read {
    bool open;
    struct mvcc_read read;
    struct mvcc_range_result want;
    struct pair pairs[KEYS];
    size_t seen;
    bool again;
} reads[READS];

static void open_read(struct open_read *r)
{
    struct mvcc_range q = random_range();
    int rc = mvcc_read_open(m, &q, &r->read);

    CHECK(rc == twin_range(&q, &r->want));
    if (rc < 0)
        return;
    memcpy(r->pairs, pairs, sizeof(pairs));
    r->open = true;
    r->again = one_in(2);
    r->seen = 0;
}

static void close_read(struct open_read *r)
{
    mvcc_read_close(&r->read);
    r->open = false;
}

static void step_read(void)
{
    struct open_read *r = &reads[rnd(READS)];
    struct mvcc_kv *kvs[5];
    size_t n;

    if (!r->open) {
        open_read(r);
        return;
    }
    if (one_in(30)) {
        close_read(r);
        return;
    }
    if (!r->read.done) {
        n = mvcc_read_next(&r->read, kvs, 1 + rnd(5));
        for (size_t i = 0; i < n; i++, r->seen++) {
            CHECK(r->seen < r->want.n && is_pair(kvs[i], &r->pairs[r->seen]));
            mvcc_unref(kvs[i]);
        }
        return;
    }
    CHECK(r->seen == r->want.n);
    CHECK(r->read.count == r->want.count && r->read.more == r->want.more);
    CHECK(r->read.revision == r->want.revision);
    if (!r->again) {
        close_read(r);
        return;
    }
    r->again = false;
    r->seen = 0;
    mvcc_read_rewind(&r->read);
}

static void close_reads(void)
{
    for (unsigned i = 0; i < READS; i++)
        if (reads[i].open)
            close_read(&reads[i]);
}

/* Once a pass has ended, no more is held than must be. */
static void check_left(void)
{
    size_t left = 0, spent = 0;

    for (unsigned k = 0; k < KEYS; k++) {
        for (size_t i = 0; i < twin.n[k]; i++) {
            bool stays = is_left(k, i, twin.compacted);

            left += stays;
            /* A tombstone whose successor is above: see mvcc.c. */
            spent += !stays && twin.past[k][i].tombstone && i + 1 < twin.n[k] &&
                     twin.past[k][i + 1].main > twin.compacted;
        }
    }
    CHECK(mvcc_stats(m).n_versions >= left);
    CHECK(mvcc_stats(m).n_versions <= left + spent + KEYS);
    trim();
}

static void step_compact(void)
{
    int64_t at = random_revision();
    int want = at <= twin.compacted ? MVCC_COMPACTED
               : at > twin.revision ? MVCC_FUTURE_REV
                                    : 0;

    CHECK(mvcc_compact(m, at) == want);
    if (want == 0)
        twin.compacted = at;
}

static void step_pass(void)
{
    bool more = mvcc_compact_step(m, 1 + rnd(20));

    CHECK(mvcc_compacted(m) == twin.compacted);
    if (!more && mvcc_compact_finished(m) == twin.compacted)
        check_left();
}

static void encode_past(struct buf *b, unsigned k, const struct past *p)
{
    pb_add_str(b, 1, keys[k]);
    if (p->tombstone)
        return;
    pb_add_u64(b, 2, (uint64_t)p->create);
    pb_add_u64(b, 3, (uint64_t)p->main);
    pb_add_u64(b, 4, (uint64_t)p->version);
    if (p->value.n)
        pb_add_str(b, 5, p->value);
    if (p->lease)
        pb_add_u64(b, 6, (uint64_t)p->lease);
}

/* The next of history behind (main, sub); false at the end. */
static bool next_past(int64_t *main, int64_t *sub, unsigned *k, size_t *i)
{
    const struct past *best = NULL;

    for (unsigned kk = 0; kk < KEYS; kk++) {
        for (size_t ii = 0; ii < twin.n[kk]; ii++) {
            const struct past *p = &twin.past[kk][ii];

            if (p->main < *main || (p->main == *main && p->sub <= *sub))
                continue;
            if (best && (p->main > best->main ||
                         (p->main == best->main && p->sub > best->sub)))
                continue;
            best = p;
            *k = kk;
            *i = ii;
        }
    }
    if (best) {
        *main = best->main;
        *sub = best->sub;
    }
    return best;
}

static uint32_t twin_hash(int64_t rev)
{
    int64_t main = 0, sub = -1;
    uint32_t crc = crc32c(0, "key", 3);
    bool keep_any = false;
    unsigned k = 0;
    size_t i = 0;

    for (unsigned kk = 0; kk < KEYS; kk++)
        keep_any |= past_at(kk, rev) != NULL;
    while (next_past(&main, &sub, &k, &i) && main <= rev) {
        const struct past *p = &twin.past[k][i];
        struct buf b = {0};

        if (p->main <= twin.compacted && keep_any && past_at(k, rev) != p)
            continue;
        if (p->main <= twin.compacted &&
            (!is_left(k, i, twin.compacted) || p->tombstone))
            continue;
        buf_reserve(&b, 18);
        put_u64be(b.data, (uint64_t)p->main);
        b.data[8] = '_';
        put_u64be(b.data + 9, (uint64_t)p->sub);
        b.data[17] = 't';
        b.len = p->tombstone ? 18 : 17;
        encode_past(&b, k, p);
        crc = crc32c(crc, b.data, b.len);
        buf_release(&b);
    }
    return crc;
}

static void step_hash(void)
{
    int64_t rev = one_in(2) ? 0 : random_revision(), at;
    struct mvcc_hash h;
    uint32_t want;
    int rc = mvcc_hash_open(m, rev, &h);

    at = rev > 0 ? rev : twin.revision;
    CHECK(rc == (at < twin.compacted  ? MVCC_COMPACTED
                 : at > twin.revision ? MVCC_FUTURE_REV
                                      : 0));
    if (rc < 0)
        return;
    want = twin_hash(at);
    while (!h.done) {
        mvcc_hash_step(&h, 1 + rnd(40));
        if (one_in(4))
            step_compact();
        mvcc_compact_step(m, 10); /* held up */
    }
    mvcc_hash_close(&h);
    CHECK(h.result == want);
}

/* Write the store out, read it in, and go on with that. */
static void step_restore(void)
{
    struct mvcc *copy = mvcc_new();
    struct mvcc_cursor c = {0, 0};
    struct mvcc_kv *kvs[16];
    size_t n;

    close_reads();
    do {
        n = mvcc_log_next(m, &c, mvcc_revision(m), kvs, ARRAY_LEN(kvs));
        for (size_t i = 0; i < n; i++) {
            struct mvcc_record r = {
                .key = mvcc_key(kvs[i]),
                .value = mvcc_value(kvs[i]),
                .main = kvs[i]->mod_revision,
                .sub = kvs[i]->sub,
                .create_revision = kvs[i]->create_revision,
                .version = kvs[i]->version,
                .lease = kvs[i]->lease,
                .tombstone = mvcc_is_tombstone(kvs[i]),
            };

            CHECK(mvcc_restore(copy, &r) == 0);
            CHECK(mvcc_restore(copy, &r) == MVCC_CORRUPT);
            mvcc_unref(kvs[i]);
        }
    } while (n == ARRAY_LEN(kvs));
    mvcc_restore_end(copy, mvcc_compact_finished(m), mvcc_compacted(m));
    CHECK(mvcc_revision(copy) == mvcc_revision(m));
    CHECK(mvcc_stats(copy).n_keys == mvcc_stats(m).n_keys);
    CHECK(mvcc_stats(copy).bytes <= mvcc_stats(m).bytes);
    mvcc_free(m);
    m = copy;
}

static void check_change(void *arg, struct mvcc_kv *kv, struct mvcc_kv *prev)
{
    unsigned k = key_index(mvcc_key(kv));
    size_t *n = arg;
    const struct past *p = NULL, *before = NULL;

    for (size_t i = 0; i < twin.n[k]; i++) {
        if (twin.past[k][i].main == kv->mod_revision &&
            twin.past[k][i].sub == kv->sub)
            p = &twin.past[k][i];
        if (!p)
            before = &twin.past[k][i];
    }
    /* What an event shows is what stood before the whole transaction. */
    check_prev(mvcc_prev(m, kv),
               kv->mod_revision - 1 < twin.compacted
                   ? NULL
                   : past_at(k, kv->mod_revision - 1),
               k);
    CHECK(p != NULL && p->tombstone == mvcc_is_tombstone(kv));
    check_prev(prev, before && !before->tombstone ? before : NULL, k);
    CHECK(kv->sub == (*n)++);
}

/* What leases and watchers are told. */
static void step_changes(void)
{
    size_t n = 0;

    if (twin.revision > twin.compacted)
        mvcc_changes(m, twin.revision, check_change, &n);
}

static void step(void)
{
    unsigned what = rnd(100);

    if (what < 25)
        step_put();
    else if (what < 33)
        step_delete();
    else if (what < 50)
        step_txn();
    else if (what < 68)
        step_range();
    else if (what < 85)
        step_read();
    else if (what < 87)
        step_compact();
    else if (what < 96)
        step_pass();
    else if (what < 98)
        step_changes();
    else if (one_in(4))
        step_hash();
    else if (one_in(20))
        step_restore();
    if (one_in(200))
        mvcc_check(m);
}

int main(int argc, char **argv)
{
    long steps = argc > 1 ? atol(argv[1]) : 60000;

    rnd_seed = argc > 2 ? (uint64_t)atoll(argv[2]) : 1;
    make_keys();
    m = mvcc_new();
    for (long i = 0; i < steps && check_failed == 0; i++) {
        step();
        if (check_failed)
            fprintf(stderr, "at step %ld\n", i);
    }
    close_reads();
    mvcc_check(m);
    mvcc_free(m);
    for (unsigned k = 0; k < KEYS; k++)
        free(twin.past[k]);
    return check_done("mvcc_model_test");
}
