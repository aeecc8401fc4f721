/*
 * mvcctxn.c - requests: what is wrong with them, and transactions.
 *
 * A transaction is evaluated as etcd does it. First all its compares are
 * decided, those of nested transactions too, by what was there before: the
 * *path*, a decision for each transaction that will run, in the order in which
 * they are met. Then what its puts and ranges ask for is checked along that
 * path. Then it runs, and nothing can fail any more.
 */
#include "mvcc_impl.h"

#include <assert.h>

/* --- Single requests. -------------------------------------------------------- */

int mvcc_check_range(const struct mvcc_range *r)
{
    if (r->key.n == 0)
        return MVCC_EMPTY_KEY;
    if (r->order < MVCC_NONE || r->order > MVCC_DESCEND ||
        r->target < MVCC_BY_KEY || r->target > MVCC_BY_VALUE)
        return MVCC_INVALID_SORT;
    return 0;
}

int mvcc_check_put(const struct mvcc_put *p)
{
    if (p->key.n == 0)
        return MVCC_EMPTY_KEY;
    if (p->ignore_value && p->value.n > 0)
        return MVCC_VALUE_PROVIDED;
    if (p->ignore_lease && p->lease != 0)
        return MVCC_LEASE_PROVIDED;
    return 0;
}

int mvcc_check_delete_range(const struct mvcc_delete_range *d)
{
    return d->key.n == 0 ? MVCC_EMPTY_KEY : 0;
}

static int check_txn_shape(const struct mvcc_txn *t, size_t max_ops);

static int check_op(const struct mvcc_op *op, size_t max_ops)
{
    switch (op->kind) {
    case MVCC_OP_RANGE:
        return mvcc_check_range(&op->u.range);
    case MVCC_OP_PUT:
        return mvcc_check_put(&op->u.put);
    case MVCC_OP_DELETE_RANGE:
        return mvcc_check_delete_range(&op->u.delete_range);
    case MVCC_OP_TXN:
        return check_txn_shape(&op->u.txn, max_ops);
    default:
        return MVCC_KEY_NOT_FOUND; /* etcd's word for it */
    }
}

static int check_ops(const struct mvcc_op *ops, size_t n, size_t max_ops)
{
    int rc = 0, worst = 0;

    for (size_t i = 0; i < n; i++) {
        rc = check_op(&ops[i], max_ops);
        if (rc < 0 && rc != MVCC_INVALID_SORT)
            return rc;
        worst = rc < 0 ? rc : worst;
    }
    return worst;
}

static size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Limits and single requests. Each level uses up some of max_ops. */
static int check_txn_shape(const struct mvcc_txn *t, size_t max_ops)
{
    size_t longest =
        max_size(t->n_compares, max_size(t->n_success, t->n_failure));
    int success, failure;

    if (longest > max_ops)
        return MVCC_TOO_MANY_OPS;
    for (size_t i = 0; i < t->n_compares; i++)
        if (t->compares[i].key.n == 0)
            return MVCC_EMPTY_KEY;
    success = check_ops(t->success, t->n_success, max_ops - longest);
    if (success < 0 && success != MVCC_INVALID_SORT)
        return success;
    failure = check_ops(t->failure, t->n_failure, max_ops - longest);
    return failure < 0 ? failure : success;
}

/* --- Does a list put a key twice, or put it and delete it? --------------------- */

/*
 * What a list of operations writes: keys that are put, sorted and each once;
 * and the spans that are deleted, as disjoint ones in order, without ends in
 * common. A span that etcd's interval tree takes for empty is left out: those
 * with an end that is not behind the begin, and so, too, those that end at
 * "\0", although they delete all keys from the begin on.
 */
struct span {
    struct str begin, end;
    bool point;
};

struct writes {
    struct str *puts;
    struct span *dels;
    size_t n_puts, n_dels;
};

static void writes_release(struct writes *w)
{
    free(w->puts);
    free(w->dels);
    *w = (struct writes){0};
}

static int compare_puts(const void *a, const void *b)
{
    return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

static int compare_begins(const void *a, const void *b)
{
    return str_cmp(((const struct span *)a)->begin,
                   ((const struct span *)b)->begin);
}

static bool holds(const struct span *s, struct str key)
{
    int c = str_cmp(key, s->end);

    return str_cmp(s->begin, key) <= 0 && (c < 0 || (c == 0 && s->point));
}

static bool is_put(const struct writes *w, struct str key)
{
    return w->n_puts > 0 &&
           bsearch(&key, w->puts, w->n_puts, sizeof(key), compare_puts);
}

static bool is_deleted(const struct writes *w, struct str key)
{
    size_t lo = 0, hi = w->n_dels;

    while (lo < hi) { /* the last that begins at or before key */
        size_t mid = (lo + hi) / 2;

        if (str_cmp(w->dels[mid].begin, key) <= 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo > 0 && holds(&w->dels[lo - 1], key);
}

/* Two sorted sets into one. */
static void add_puts(struct writes *w, const struct str *puts, size_t n)
{
    size_t n_all = 0, i = 0, j = 0;
    struct str *all;

    if (n == 0)
        return;
    all = xmalloc((w->n_puts + n) * sizeof(*all));
    while (i < w->n_puts || j < n) {
        int c = i == w->n_puts ? 1 : j == n ? -1 : str_cmp(w->puts[i], puts[j]);

        all[n_all++] = c <= 0 ? w->puts[i] : puts[j];
        i += c <= 0;
        j += c >= 0;
    }
    free(w->puts);
    w->puts = all;
    w->n_puts = n_all;
}

/* Behind the spans so far, or joined to the last of them. */
static void push_span(struct span *all, size_t *n, struct span s)
{
    struct span *last = *n > 0 ? &all[*n - 1] : NULL;

    if (!last || !holds(last, s.begin)) {
        all[(*n)++] = s;
    } else if (str_cmp(s.end, last->end) > 0) {
        last->end = s.end;
        last->point = false;
    }
}

static void add_dels(struct writes *w, const struct span *dels, size_t n)
{
    size_t n_all = 0, i = 0, j = 0;
    struct span *all;

    if (n == 0)
        return;
    all = xmalloc((w->n_dels + n) * sizeof(*all));
    while (i < w->n_dels || j < n) {
        if (j == n ||
            (i < w->n_dels && str_cmp(w->dels[i].begin, dels[j].begin) <= 0))
            push_span(all, &n_all, w->dels[i++]);
        else
            push_span(all, &n_all, dels[j++]);
    }
    free(w->dels);
    w->dels = all;
    w->n_dels = n_all;
}

static void add_own_dels(struct writes *w, const struct mvcc_op *ops, size_t n)
{
    struct span *dels = xmalloc(n * sizeof(*dels));
    size_t n_dels = 0;

    for (size_t i = 0; i < n; i++) {
        struct str key = ops[i].u.delete_range.key, end;

        if (ops[i].kind != MVCC_OP_DELETE_RANGE)
            continue;
        end = ops[i].u.delete_range.range_end;
        if (end.n == 0)
            dels[n_dels++] = (struct span){key, key, true};
        else if (str_cmp(key, end) < 0)
            dels[n_dels++] = (struct span){key, end, false};
    }
    if (n_dels > 0)
        qsort(dels, n_dels, sizeof(*dels), compare_begins);
    add_dels(w, dels, n_dels);
    free(dels);
}

/* 0, or MVCC_DUPLICATE_KEY if one of the puts meets a write of w. */
static int check_puts(const struct writes *w, const struct str *puts, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (is_put(w, puts[i]) || is_deleted(w, puts[i]))
            return MVCC_DUPLICATE_KEY;
    return 0;
}

static int add_own_puts(struct writes *w, const struct mvcc_op *ops, size_t n)
{
    struct str *puts = xmalloc(n * sizeof(*puts));
    size_t n_puts = 0;
    int rc;

    for (size_t i = 0; i < n; i++)
        if (ops[i].kind == MVCC_OP_PUT)
            puts[n_puts++] = ops[i].u.put.key;
    if (n_puts > 0)
        qsort(puts, n_puts, sizeof(*puts), compare_puts);
    rc = check_puts(w, puts, n_puts);
    for (size_t i = 1; i < n_puts; i++)
        if (str_eq(puts[i - 1], puts[i]))
            rc = MVCC_DUPLICATE_KEY;
    add_puts(w, puts, n_puts);
    free(puts);
    return rc;
}

static int collect_writes(const struct mvcc_op *ops, size_t n,
                          struct writes *w);

/* The branches of one nested transaction may share keys: one of them runs. */
static int add_nested(struct writes *w, const struct mvcc_txn *t)
{
    struct writes yes = {0}, no = {0};
    int rc = collect_writes(t->success, t->n_success, &yes);

    if (rc == 0)
        rc = collect_writes(t->failure, t->n_failure, &no);
    if (rc == 0)
        rc = check_puts(w, yes.puts, yes.n_puts);
    if (rc == 0)
        rc = check_puts(w, no.puts, no.n_puts);
    add_puts(w, yes.puts, yes.n_puts);
    add_puts(w, no.puts, no.n_puts);
    add_dels(w, yes.dels, yes.n_dels);
    add_dels(w, no.dels, no.n_dels);
    writes_release(&yes);
    writes_release(&no);
    return rc;
}

/*
 * In etcd's order, which matters: a put is compared with the deletions of its
 * own list and with those of nested transactions before it, but not with
 * those of later ones.
 */
static int collect_writes(const struct mvcc_op *ops, size_t n, struct writes *w)
{
    int rc = 0;

    add_own_dels(w, ops, n);
    for (size_t i = 0; i < n && rc == 0; i++)
        if (ops[i].kind == MVCC_OP_TXN)
            rc = add_nested(w, &ops[i].u.txn);
    return rc < 0 ? rc : add_own_puts(w, ops, n);
}

static int check_list(const struct mvcc_op *ops, size_t n)
{
    struct writes w = {0};
    int rc = collect_writes(ops, n, &w);

    writes_release(&w);
    return rc;
}

int mvcc_check_txn(const struct mvcc_txn *t, size_t max_ops)
{
    int shape = check_txn_shape(t, max_ops), rc;

    if (shape < 0 && shape != MVCC_INVALID_SORT)
        return shape;
    rc = check_list(t->success, t->n_success);
    if (rc == 0)
        rc = check_list(t->failure, t->n_failure);
    return rc < 0 ? rc : shape;
}

static bool ops_are_read_only(const struct mvcc_op *ops, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (ops[i].kind == MVCC_OP_TXN && mvcc_txn_is_read_only(&ops[i].u.txn))
            continue;
        if (ops[i].kind != MVCC_OP_RANGE)
            return false;
    }
    return true;
}

bool mvcc_txn_is_read_only(const struct mvcc_txn *t)
{
    return ops_are_read_only(t->success, t->n_success) &&
           ops_are_read_only(t->failure, t->n_failure);
}

/* --- Compares. ------------------------------------------------------------------- */

static int compare_i64(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static int compare_target(const struct mvcc_compare *c,
                          const struct mvcc_kv *kv)
{
    switch (c->target) {
    case MVCC_VERSION:
        return compare_i64(kv->version, c->number);
    case MVCC_CREATE:
        return compare_i64(kv->create_revision, c->number);
    case MVCC_MOD:
        return compare_i64(kv->mod_revision, c->number);
    case MVCC_LEASE:
        return compare_i64(kv->lease, c->number);
    case MVCC_VALUE:
        return str_cmp(mvcc_value(kv), c->value);
    default:
        return 0; /* as in etcd */
    }
}

static bool is_true(const struct mvcc_compare *c, const struct mvcc_kv *kv)
{
    int order = compare_target(c, kv);

    switch (c->result) {
    case MVCC_EQUAL:
        return order == 0;
    case MVCC_NOT_EQUAL:
        return order != 0;
    case MVCC_GREATER:
        return order > 0;
    case MVCC_LESS:
        return order < 0;
    default:
        return true; /* as in etcd */
    }
}

/*
 * True if it is so for each key of the range. Where there is none, numbers
 * count as 0, and there is no value to compare.
 */
static bool evaluate(struct mvcc *m, const struct mvcc_compare *c)
{
    static const struct mvcc_kv missing;
    struct mvcc_walk w;
    struct mvcc_kv *kv;
    bool any = false;

    mvcc_walk(m, mvcc_span(c->key, c->range_end), &w);
    while ((kv = mvcc_walk_next(&w))) {
        if (mvcc_is_tombstone(kv))
            continue;
        if (!is_true(c, kv))
            return false;
        any = true;
    }
    return any || (c->target != MVCC_VALUE && is_true(c, &missing));
}

/* --- Transactions. ------------------------------------------------------------------ */

/* Which branch each transaction takes, in the order in which they are met. */
struct path {
    bool *taken;
    size_t n, cap, next;
};

struct branch {
    const struct mvcc_op *ops;
    size_t n;
};

static struct branch branch(const struct mvcc_txn *t, bool success)
{
    return success ? (struct branch){t->success, t->n_success}
                   : (struct branch){t->failure, t->n_failure};
}

static void decide(struct mvcc *m, const struct mvcc_txn *t, struct path *p)
{
    bool all = true;
    struct branch b;

    for (size_t i = 0; i < t->n_compares && all; i++)
        all = evaluate(m, &t->compares[i]);
    if (p->n == p->cap) {
        p->cap = p->cap ? p->cap * 2 : 16;
        p->taken = xrealloc(p->taken, p->cap * sizeof(p->taken[0]));
    }
    p->taken[p->n++] = all;
    b = branch(t, all);
    for (size_t i = 0; i < b.n; i++)
        if (b.ops[i].kind == MVCC_OP_TXN)
            decide(m, &b.ops[i].u.txn, p);
}

static bool lease_exists(const struct mvcc_leases *leases, int64_t lease)
{
    return lease == 0 || !leases || leases->exists(leases->arg, lease);
}

static bool is_alive(struct mvcc *m, struct str key)
{
    struct kvtree_cursor c;
    struct mvcc_kv *kv = mvcc_find(m, key, &c);

    return kv && !mvcc_is_tombstone(kv);
}

static bool lacks_key(struct mvcc *m, const struct mvcc_put *p)
{
    return (p->ignore_value || p->ignore_lease) && !is_alive(m, p->key);
}

typedef int check_now(struct mvcc *m, const struct mvcc_op *op,
                      const struct mvcc_leases *leases);

static int check_put_now(struct mvcc *m, const struct mvcc_op *op,
                         const struct mvcc_leases *leases)
{
    if (op->kind != MVCC_OP_PUT)
        return 0;
    if (lacks_key(m, &op->u.put))
        return MVCC_KEY_NOT_FOUND;
    return lease_exists(leases, op->u.put.lease) ? 0 : MVCC_LEASE_NOT_FOUND;
}

/* Unlike alone, a range with a negative revision may find it compacted. */
static int check_range_now(struct mvcc *m, const struct mvcc_op *op,
                           const struct mvcc_leases *leases)
{
    int64_t revision = op->u.range.revision;

    (void)leases;
    if (op->kind != MVCC_OP_RANGE || revision == 0)
        return 0;
    if (revision > mvcc_view(m))
        return MVCC_FUTURE_REV;
    return revision < m->compacted ? MVCC_COMPACTED : 0;
}

static int check_path(struct mvcc *m, const struct mvcc_txn *t, struct path *p,
                      const struct mvcc_leases *leases, check_now *check)
{
    struct branch b = branch(t, p->taken[p->next++]);
    int rc = 0;

    for (size_t i = 0; i < b.n && rc == 0; i++) {
        if (b.ops[i].kind == MVCC_OP_TXN)
            rc = check_path(m, &b.ops[i].u.txn, p, leases, check);
        else
            rc = check(m, &b.ops[i], leases);
    }
    return rc;
}

static void run_txn(struct mvcc *m, const struct mvcc_txn *t, struct path *p,
                    struct mvcc_txn_result *out);

static void run_op(struct mvcc *m, const struct mvcc_op *op, struct path *p,
                   struct mvcc_op_result *out)
{
    int rc;

    out->kind = op->kind;
    switch (op->kind) {
    case MVCC_OP_RANGE:
        rc = mvcc_range(m, &op->u.range, &out->u.range);
        assert(rc == 0); /* check_range_now() */
        break;
    case MVCC_OP_PUT:
        mvcc_do_put(m, &op->u.put, &out->u.put);
        break;
    case MVCC_OP_DELETE_RANGE:
        mvcc_delete_range(m, &op->u.delete_range, &out->u.delete_range);
        break;
    case MVCC_OP_TXN:
        run_txn(m, &op->u.txn, p, &out->u.txn);
        break;
    case MVCC_OP_EMPTY:
        break;
    }
}

static void run_txn(struct mvcc *m, const struct mvcc_txn *t, struct path *p,
                    struct mvcc_txn_result *out)
{
    bool success = p->taken[p->next++];
    struct branch b = branch(t, success);

    *out = (struct mvcc_txn_result){.succeeded = success, .n = b.n};
    if (b.n > 0)
        out->results = xcalloc(b.n, sizeof(out->results[0]));
    for (size_t i = 0; i < b.n; i++)
        run_op(m, &b.ops[i], p, &out->results[i]);
}

int mvcc_txn(struct mvcc *m, const struct mvcc_txn *t,
             const struct mvcc_leases *leases, struct mvcc_txn_result *out)
{
    struct path p = {0};
    bool own = !m->writing;
    int rc;

    decide(m, t, &p);
    rc = check_path(m, t, &p, leases, check_put_now);
    p.next = 0;
    if (rc == 0)
        rc = check_path(m, t, &p, leases, check_range_now);
    p.next = 0;
    if (rc == 0) {
        if (own)
            mvcc_begin(m);
        run_txn(m, t, &p, out);
        out->revision = mvcc_view(m);
        if (own)
            mvcc_end(m);
    }
    free(p.taken);
    return rc;
}

int mvcc_put(struct mvcc *m, const struct mvcc_put *p,
             const struct mvcc_leases *leases, struct mvcc_put_result *out)
{
    bool own = !m->writing;

    if (!lease_exists(leases, p->lease))
        return MVCC_LEASE_NOT_FOUND;
    if (lacks_key(m, p))
        return MVCC_KEY_NOT_FOUND;
    if (own)
        mvcc_begin(m);
    mvcc_do_put(m, p, out);
    if (own)
        mvcc_end(m);
    return 0;
}

static void op_release(struct mvcc_op_result *r)
{
    switch (r->kind) {
    case MVCC_OP_RANGE:
        mvcc_range_release(&r->u.range);
        break;
    case MVCC_OP_PUT:
        mvcc_put_release(&r->u.put);
        break;
    case MVCC_OP_DELETE_RANGE:
        mvcc_delete_release(&r->u.delete_range);
        break;
    case MVCC_OP_TXN:
        mvcc_txn_release(&r->u.txn);
        break;
    case MVCC_OP_EMPTY:
        break;
    }
}

void mvcc_txn_release(struct mvcc_txn_result *r)
{
    for (size_t i = 0; i < r->n; i++)
        op_release(&r->results[i]);
    free(r->results);
    *r = (struct mvcc_txn_result){0};
}
