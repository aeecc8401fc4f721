/*
 * authperm.c - who may do what.
 *
 * What a user's roles grant is merged, for reading and for writing, into
 * ranges that neither overlap nor touch: then a request is covered if one of
 * them holds it, and that one is found by halves. They are made when they are
 * first asked for and again when the epoch has moved.
 *
 * Single keys are ranges up to the key's successor, "key\0", so that a key and
 * the range behind it join.
 */
#include "auth_impl.h"

#include <assert.h>

/* --- Ranges. -------------------------------------------------------------------- */

static bool is_open_end(struct str range_end)
{
    return range_end.n == 1 && range_end.p[0] == '\0';
}

static bool grants(int type, enum auth_access access)
{
    return type == AUTH_PERM_READWRITE ||
           type == (access == AUTH_READ ? AUTH_PERM_READ : AUTH_PERM_WRITE);
}

static void add_span(struct auth_spans *s, const struct auth_permission *p)
{
    struct auth_span span = {
        .begin = p->key,
        .end = p->range_end,
        .open_end = is_open_end(p->range_end),
    };

    if (p->key.n == 0) /* to etcd that is behind all keys, not before them */
        return;
    if (p->range_end.n == 0) { /* a NUL stands behind the key's copy */
        assert(p->key.p[p->key.n] == '\0');
        span.end = (struct str){p->key.p, p->key.n + 1};
    }
    if (!span.open_end && str_cmp(span.begin, span.end) >= 0)
        return;
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 8;
        s->v = xrealloc(s->v, s->cap * sizeof(*s->v));
    }
    s->v[s->n++] = span;
}

static int compare_spans(const void *a, const void *b)
{
    return str_cmp(((const struct auth_span *)a)->begin,
                   ((const struct auth_span *)b)->begin);
}

static void merge(struct auth_spans *s)
{
    size_t n = 0;

    if (s->n == 0)
        return;
    qsort(s->v, s->n, sizeof(*s->v), compare_spans);
    for (size_t i = 1; i < s->n; i++) {
        struct auth_span *last = &s->v[n];

        if (last->open_end)
            break;
        if (str_cmp(s->v[i].begin, last->end) > 0)
            s->v[++n] = s->v[i];
        else if (s->v[i].open_end)
            last->open_end = true;
        else if (str_cmp(s->v[i].end, last->end) > 0)
            last->end = s->v[i].end;
    }
    s->n = n + 1;
}

static void gather(const struct auth *a, const struct user *u,
                   enum auth_access access, struct auth_spans *s)
{
    s->n = 0;
    for (size_t i = 0; i < u->pub.n_roles; i++) {
        const struct auth_role *r = auth_role(a, u->roles[i]);

        for (size_t k = 0; r && k < r->n_permissions; k++) {
            if (grants(r->permissions[k].type, access))
                add_span(s, &r->permissions[k]);
        }
    }
    merge(s);
}

static const struct auth_spans *spans_of(const struct auth *a, struct user *u,
                                         enum auth_access access)
{
    if (u->spans_of != a->epoch) {
        gather(a, u, AUTH_READ, &u->spans[AUTH_READ]);
        gather(a, u, AUTH_WRITE, &u->spans[AUTH_WRITE]);
        u->spans_of = a->epoch;
    }
    return &u->spans[access];
}

/* The last one that does not begin behind the key, or NULL. */
static const struct auth_span *span_at(const struct auth_spans *s,
                                       struct str key)
{
    size_t lo = 0, hi = s->n;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;

        if (str_cmp(s->v[mid].begin, key) <= 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo > 0 ? &s->v[lo - 1] : NULL;
}

/* An empty range, whose end is not behind its key, counts as the key. */
static bool covers(const struct auth_spans *s, struct str key,
                   struct str range_end)
{
    const struct auth_span *span = span_at(s, key);

    if (!span)
        return false;
    if (span->open_end)
        return true;
    if (str_cmp(key, span->end) >= 0 || is_open_end(range_end))
        return false;
    return range_end.n == 0 || str_cmp(range_end, span->end) <= 0;
}

/* --- Who asks. ---------------------------------------------------------------------- */

/* One request's check. */
struct check {
    const struct auth *a;
    struct user *user; /* NULL: may do all */
    const struct lessor *leases;
    struct buf attached; /* int64_t: leases to which a transaction attaches */
};

/* 0 and *c, or why there is no need to look at the request. */
static int begin(struct auth *a, struct auth_who who,
                 const struct lessor *leases, struct check *c)
{
    struct user *u;

    *c = (struct check){.a = a, .leases = leases};
    if (!a->enabled)
        return 0;
    if (who.revision == 0 || who.user.n == 0)
        return AUTH_USER_EMPTY;
    if (who.revision < a->revision)
        return AUTH_OLD_REVISION;
    u = auth_names_find(&a->users, who.user, NULL);
    if (!u)
        return AUTH_DENIED;
    if (!auth_has_role(&u->pub, STR(AUTH_ROOT)))
        c->user = u;
    return 0;
}

static bool may(const struct check *c, enum auth_access access, struct str key,
                struct str range_end)
{
    return !c->user || covers(spans_of(c->a, c->user, access), key, range_end);
}

static int answer(bool allowed)
{
    return allowed ? 0 : AUTH_DENIED;
}

/* --- Leases. -------------------------------------------------------------------------- */

static bool may_write_key(void *arg, struct str key)
{
    return may(arg, AUTH_WRITE, key, STR(""));
}

static bool may_read_key(void *arg, struct str key)
{
    return may(arg, AUTH_READ, key, STR(""));
}

/*
 * Who attaches a key to a lease gets to revoke the lease, and with it all its
 * keys; and whoever may write those could, by revoking, delete the new one.
 */
static bool may_write_lease(struct check *c, int64_t id)
{
    return !c->user || id == 0 ||
           lease_visit_keys(c->leases, id, may_write_key, c);
}

static bool is_none(void *arg, struct str key)
{
    (void)arg, (void)key;
    return false;
}

/* A lease without keys is nobody's: etcd lets anybody grant and revoke it. */
int auth_check_lease_revoke(struct auth *a, struct auth_who who,
                            const struct lessor *leases, int64_t id)
{
    struct check c;
    int rc = begin(a, who, leases, &c);

    if (rc == AUTH_USER_EMPTY && lease_visit_keys(leases, id, is_none, NULL))
        return 0;
    return rc < 0 ? rc : answer(may_write_lease(&c, id));
}

int auth_check_lease_keys(struct auth *a, struct auth_who who,
                          const struct lessor *leases, int64_t id)
{
    struct check c;
    int rc = begin(a, who, leases, &c);

    if (rc < 0 || !c.user)
        return rc;
    return answer(lease_visit_keys(leases, id, may_read_key, &c));
}

/* --- Requests. --------------------------------------------------------------------------- */

static bool may_range(const struct check *c, const struct mvcc_range *r)
{
    return may(c, AUTH_READ, r->key, r->range_end);
}

/* All but its lease. */
static bool may_put(const struct check *c, const struct mvcc_put *p)
{
    return may(c, AUTH_WRITE, p->key, STR("")) &&
           (!p->prev_kv || may(c, AUTH_READ, p->key, STR("")));
}

static bool may_delete_range(const struct check *c,
                             const struct mvcc_delete_range *d)
{
    return may(c, AUTH_WRITE, d->key, d->range_end) &&
           (!d->prev_kv || may(c, AUTH_READ, d->key, d->range_end));
}

int auth_check_range(struct auth *a, struct auth_who who,
                     const struct mvcc_range *r)
{
    struct check c;
    int rc = begin(a, who, NULL, &c);

    return rc < 0 ? rc : answer(may_range(&c, r));
}

int auth_check_put(struct auth *a, struct auth_who who,
                   const struct lessor *leases, const struct mvcc_put *p)
{
    struct check c;
    int rc = begin(a, who, leases, &c);

    return rc < 0 ? rc
                  : answer(may_put(&c, p) && may_write_lease(&c, p->lease));
}

int auth_check_delete_range(struct auth *a, struct auth_who who,
                            const struct mvcc_delete_range *d)
{
    struct check c;
    int rc = begin(a, who, NULL, &c);

    return rc < 0 ? rc : answer(may_delete_range(&c, d));
}

int auth_check_watch(struct auth *a, struct auth_who who, struct str key,
                     struct str range_end)
{
    struct mvcc_range r = {.key = key.n ? key : STR("\0"),
                           .range_end = range_end};

    return auth_check_range(a, who, &r);
}

/* --- Transactions. ------------------------------------------------------------------------- */

static bool may_txn(struct check *c, const struct mvcc_txn *t, int depth);

static bool may_op(struct check *c, const struct mvcc_op *op, int depth)
{
    switch (op->kind) {
    case MVCC_OP_EMPTY:
        return true;
    case MVCC_OP_RANGE:
        return may_range(c, &op->u.range);
    case MVCC_OP_PUT:
        if (op->u.put.lease != 0)
            buf_add(&c->attached, &op->u.put.lease, sizeof(int64_t));
        return may_put(c, &op->u.put);
    case MVCC_OP_DELETE_RANGE:
        return may_delete_range(c, &op->u.delete_range);
    case MVCC_OP_TXN:
        return may_txn(c, &op->u.txn, depth + 1);
    }
    return false;
}

/* Both branches: which one runs would tell what the compares saw. */
static bool may_txn(struct check *c, const struct mvcc_txn *t, int depth)
{
    if (depth > AUTH_TXN_DEPTH_MAX)
        return false;
    for (size_t i = 0; i < t->n_compares; i++) {
        if (!may(c, AUTH_READ, t->compares[i].key, t->compares[i].range_end))
            return false;
    }
    for (size_t i = 0; i < t->n_success; i++) {
        if (!may_op(c, &t->success[i], depth))
            return false;
    }
    for (size_t i = 0; i < t->n_failure; i++) {
        if (!may_op(c, &t->failure[i], depth))
            return false;
    }
    return true;
}

static int compare_ids(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

/* Each lease once: it may have many keys, and be named by every put. */
static bool may_attach(struct check *c)
{
    size_t n = c->attached.len / sizeof(int64_t);
    int64_t *ids = xmalloc((n + 1) * sizeof(*ids));
    bool allowed = true;

    if (n > 0)
        memcpy(ids, c->attached.data, n * sizeof(*ids));
    qsort(ids, n, sizeof(*ids), compare_ids);
    for (size_t i = 0; allowed && i < n; i++) {
        if (i == 0 || ids[i] != ids[i - 1])
            allowed = may_write_lease(c, ids[i]);
    }
    free(ids);
    return allowed;
}

int auth_check_txn(struct auth *a, struct auth_who who,
                   const struct lessor *leases, const struct mvcc_txn *t)
{
    struct check c;
    int rc;

    if (t->n_compares + t->n_success + t->n_failure == 0)
        return 0; /* it asks for nothing: etcd answers anybody */
    rc = begin(a, who, leases, &c);
    if (rc < 0 || !c.user)
        return rc;
    rc = answer(may_txn(&c, t, 0) && may_attach(&c));
    buf_release(&c.attached);
    return rc;
}

/* --- Management. ----------------------------------------------------------------------------- */

int auth_check_user(const struct auth *a, struct auth_who who)
{
    if (!a->enabled)
        return 0;
    if (who.revision == 0 || who.user.n == 0)
        return AUTH_USER_EMPTY;
    return auth_user(a, who.user) ? 0 : AUTH_USER_NOT_FOUND;
}

int auth_check_admin(const struct auth *a, struct auth_who who)
{
    int rc = auth_check_user(a, who);

    if (rc < 0 || !a->enabled)
        return rc;
    return answer(auth_has_role(auth_user(a, who.user), STR(AUTH_ROOT)));
}

int auth_check_user_get(const struct auth *a, struct auth_who who,
                        struct str user)
{
    int rc = auth_check_user(a, who);

    if (rc == 0 && str_eq(who.user, user))
        return 0;
    return auth_check_admin(a, who);
}

int auth_check_role_get(const struct auth *a, struct auth_who who,
                        struct str role)
{
    const struct auth_user *u = auth_user(a, who.user);
    int rc = auth_check_user(a, who);

    if (rc == 0 && u && auth_has_role(u, role))
        return 0;
    return auth_check_admin(a, who);
}
