/*
 * auth_test.c - users, roles and permissions: what etcd 3.4.23 was seen to
 * answer, a regression for each hole that etcd once had, merged ranges beside
 * a naive twin, tokens, records.
 */
#include "chance.h"
#include "check.h"

#include "auth.h"

#include <inttypes.h>

static struct str END = {"\0", 1}; /* all from the key on */

/* --- Short words. ------------------------------------------------------------- */

static int grant(struct auth *a, const char *role, int type, const char *key,
                 struct str end)
{
    struct auth_permission p = {type, str_of(key), end};

    return auth_role_grant(a, str_of(role), &p);
}

static void add_user(struct auth *a, const char *name, const char *role)
{
    CHECK(auth_user_add(a, str_of(name), STR("x"), false) == 0);
    if (!auth_role(a, str_of(role)))
        CHECK(auth_role_add(a, str_of(role)) == 0);
    CHECK(auth_user_grant_role(a, str_of(name), str_of(role)) == 0);
}

/* root, and u with role r, which may read [a, c) and do all with rw. */
static struct auth *recorded(void)
{
    struct auth *a = auth_new();

    add_user(a, "root", "root");
    add_user(a, "u", "r");
    CHECK(grant(a, "r", AUTH_PERM_READ, "a", STR("c")) == 0);
    CHECK(grant(a, "r", AUTH_PERM_READWRITE, "rw", STR("")) == 0);
    CHECK(auth_enable(a) == 0);
    return a;
}

static struct auth_who who(const struct auth *a, const char *user)
{
    return (struct auth_who){str_of(user), auth_revision(a)};
}

static int range(struct auth *a, const char *user, const char *key,
                 struct str end)
{
    struct mvcc_range r = {.key = str_of(key), .range_end = end};

    return auth_check_range(a, who(a, user), &r);
}

static int put(struct auth *a, const char *user, const char *key, bool prev)
{
    struct mvcc_put p = {.key = str_of(key), .prev_kv = prev};

    return auth_check_put(a, who(a, user), NULL, &p);
}

static int del(struct auth *a, const char *user, const char *key,
               struct str end, bool prev)
{
    struct mvcc_delete_range d = {str_of(key), end, prev};

    return auth_check_delete_range(a, who(a, user), &d);
}

/* --- Management, row by row: the answer, and the revision behind it. ------------ */

enum verb {
    ENABLE,
    DISABLE,
    USER_ADD,
    USER_DELETE,
    PASSWORD,
    USER_GRANT,
    USER_REVOKE,
    ROLE_ADD,
    ROLE_DELETE,
    ROLE_READ,
    ROLE_WRITE,
    ROLE_NOTHING,
    ROLE_REVOKE,
};

struct row {
    enum verb verb;
    const char *name, *arg, *end;
    int rc;
    uint64_t revision;
};

static int permit(struct auth *a, const struct row *r, int type)
{
    return grant(a, r->name, type, r->arg, str_of(r->end ? r->end : ""));
}

static int run(struct auth *a, const struct row *r)
{
    struct str name = str_of(r->name ? r->name : "");
    struct str arg = str_of(r->arg ? r->arg : "");

    switch (r->verb) {
    case ENABLE:
        return auth_enable(a);
    case DISABLE:
        return auth_disable(a);
    case USER_ADD:
        return auth_user_add(a, name, arg, false);
    case USER_DELETE:
        return auth_user_delete(a, name);
    case PASSWORD:
        return auth_user_change_password(a, name, arg);
    case USER_GRANT:
        return auth_user_grant_role(a, name, arg);
    case USER_REVOKE:
        return auth_user_revoke_role(a, name, arg);
    case ROLE_ADD:
        return auth_role_add(a, name);
    case ROLE_DELETE:
        return auth_role_delete(a, name);
    case ROLE_READ:
        return permit(a, r, AUTH_PERM_READ);
    case ROLE_WRITE:
        return permit(a, r, AUTH_PERM_WRITE);
    case ROLE_NOTHING:
        return auth_role_grant(a, name, NULL);
    case ROLE_REVOKE:
        return auth_role_revoke(a, name, arg, str_of(r->end ? r->end : ""));
    }
    return -99;
}

/* "a-c:0 rw:2 " */
static const char *permissions(const struct auth *a, const char *role)
{
    static struct buf b;
    const struct auth_role *r = auth_role(a, str_of(role));

    buf_clear(&b);
    for (size_t i = 0; r && i < r->n_permissions; i++) {
        const struct auth_permission *p = &r->permissions[i];

        buf_printf(&b, "%.*s%s%.*s:%d ", STR_FMT(p->key),
                   p->range_end.n ? "-" : "", STR_FMT(p->range_end), p->type);
    }
    return buf_z(&b);
}

static void test_management(void)
{
    static const struct row rows[] = {
        {ENABLE, 0, 0, 0, AUTH_ROOT_USER_NOT_EXIST, 1},
        {DISABLE, 0, 0, 0, 0, 1},
        {USER_ADD, "alice", "h", 0, 0, 2},
        {USER_ADD, "alice", "h", 0, AUTH_USER_EXISTS, 2},
        {USER_ADD, "", "h", 0, AUTH_USER_EMPTY, 2},
        {ROLE_ADD, "r1", 0, 0, 0, 3},
        {ROLE_ADD, "r1", 0, 0, AUTH_ROLE_EXISTS, 3},
        {ROLE_ADD, "", 0, 0, AUTH_ROLE_EMPTY, 3},
        {ROLE_READ, "r1", "a", "c", 0, 4},
        {ROLE_WRITE, "r1", "w", 0, 0, 5},
        {ROLE_WRITE, "r1", "rw", 0, 0, 6},
        {ROLE_READ, "r1", "rw", 0, 0, 7},
        {ROLE_READ, "none", "a", 0, AUTH_ROLE_NOT_FOUND, 7},
        {ROLE_NOTHING, "r1", 0, 0, AUTH_PERMISSION_NOT_GIVEN, 7},
        {ROLE_REVOKE, "r1", "w", 0, 0, 8},
        {ROLE_REVOKE, "r1", "w", 0, AUTH_PERMISSION_NOT_GRANTED, 8},
        {ROLE_REVOKE, "r1", "a", 0, AUTH_PERMISSION_NOT_GRANTED, 8},
        {ROLE_REVOKE, "r1", "a", "c", 0, 9},
        {ROLE_REVOKE, "none", "a", 0, AUTH_ROLE_NOT_FOUND, 9},
        {USER_GRANT, "alice", "r1", 0, 0, 10},
        {USER_GRANT, "alice", "r1", 0, 0, 10}, /* has it */
        {USER_GRANT, "alice", "none", 0, AUTH_ROLE_NOT_FOUND, 10},
        {USER_GRANT, "nobody", "r1", 0, AUTH_USER_NOT_FOUND, 10},
        {USER_REVOKE, "alice", "none", 0, AUTH_ROLE_NOT_GRANTED, 10},
        {USER_REVOKE, "nobody", "r1", 0, AUTH_USER_NOT_FOUND, 10},
        {USER_REVOKE, "alice", "r1", 0, 0, 11},
        {USER_REVOKE, "alice", "r1", 0, AUTH_ROLE_NOT_GRANTED, 11},
        {PASSWORD, "alice", "new", 0, 0, 12},
        {PASSWORD, "nobody", "new", 0, AUTH_USER_NOT_FOUND, 12},
        {USER_DELETE, "alice", 0, 0, 0, 13},
        {USER_DELETE, "alice", 0, 0, AUTH_USER_NOT_FOUND, 13},
        {ROLE_DELETE, "r1", 0, 0, 0, 14},
        {ROLE_DELETE, "r1", 0, 0, AUTH_ROLE_NOT_FOUND, 14},
        {USER_ADD, "root", "x", 0, 0, 15},
        {ENABLE, 0, 0, 0, AUTH_ROOT_ROLE_NOT_EXIST, 15},
        {USER_GRANT, "root", "root", 0, 0, 16}, /* needs no such role */
        {ENABLE, 0, 0, 0, 0, 16},
        {ENABLE, 0, 0, 0, 0, 16},
        {ROLE_ADD, "root", 0, 0, 0, 17},
        {USER_DELETE, "root", 0, 0, AUTH_INVALID_MGMT, 17},
        {ROLE_DELETE, "root", 0, 0, AUTH_INVALID_MGMT, 17},
        {USER_REVOKE, "root", "root", 0, AUTH_INVALID_MGMT, 17},
        {DISABLE, 0, 0, 0, 0, 18},
        {DISABLE, 0, 0, 0, 0, 18},
        {ROLE_DELETE, "root", 0, 0, 0, 19},
        {ENABLE, 0, 0, 0, AUTH_ROOT_ROLE_NOT_EXIST, 19}, /* root lost it */
        {USER_DELETE, "root", 0, 0, 0, 20},
    };
    struct auth *a = auth_new();

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int rc = run(a, &rows[i]);

        CHECK(rc == rows[i].rc && auth_revision(a) == rows[i].revision);
        if (rc != rows[i].rc || auth_revision(a) != rows[i].revision)
            fprintf(stderr, "row %zu: %d, revision %" PRIu64 "\n", i, rc,
                    auth_revision(a));
        auth_check(a);
    }
    auth_free(a);
}

static void test_lists(void)
{
    struct auth *a = auth_new();
    const struct auth_user *u;

    CHECK(auth_role_add(a, STR("z")) == 0 && auth_role_add(a, STR("m")) == 0);
    CHECK(auth_role_add(a, STR("q")) == 0);
    CHECK(auth_user_add(a, STR("b"), STR("h"), false) == 0);
    CHECK(auth_user_add(a, STR("a"), STR(""), true) == 0);
    CHECK(auth_user_grant_role(a, STR("b"), STR("z")) == 0);
    CHECK(auth_user_grant_role(a, STR("b"), STR("m")) == 0);
    CHECK(str_eqz(auth_user_at(a, 0)->name, "a") &&
          auth_user_at(a, 0)->no_password);
    CHECK(str_eqz(auth_user_at(a, 1)->name, "b") && !auth_user_at(a, 2));
    CHECK(str_eqz(auth_role_at(a, 0)->name, "m") && !auth_role_at(a, 3));
    u = auth_user(a, STR("b"));
    CHECK(u && u->n_roles == 2 && str_eqz(u->roles[0], "m") &&
          str_eqz(u->roles[1], "z") && str_eqz(u->password, "h"));
    CHECK(auth_role_delete(a, STR("m")) == 0);
    CHECK(u->n_roles == 1 && str_eqz(u->roles[0], "z"));
    CHECK(!auth_user(a, STR("c")) && !auth_role(a, STR("m")));

    /* A user without password does not get one. */
    CHECK(auth_user_change_password(a, STR("a"), STR("h")) == 0);
    CHECK(auth_user(a, STR("a"))->password.n == 0);

    /* By key; of one key in the order of their coming; unknown types stay. */
    CHECK(grant(a, "q", 7, "a", STR("")) == 0);
    CHECK(grant(a, "q", AUTH_PERM_READ, "a", STR("b")) == 0);
    CHECK(grant(a, "q", AUTH_PERM_WRITE, "a", STR("aa")) == 0);
    CHECK(grant(a, "q", AUTH_PERM_READ, "A", STR("")) == 0);
    CHECK(grant(a, "q", AUTH_PERM_READWRITE, "a", STR("b")) == 0);
    CHECK_STR(permissions(a, "q"), "A:0 a:7 a-b:2 a-aa:1 ");
    auth_check(a);
    auth_free(a);
}

static void test_errors(void)
{
    for (int e = -1; e >= AUTH_CORRUPT; e--)
        CHECK(auth_error_text(e) && auth_error_code(e) > 0);
    CHECK_STR(auth_error_text(AUTH_OLD_REVISION),
              "etcdserver: revision of auth store is old");
    CHECK(auth_error_code(AUTH_INVALID_TOKEN) == 16);
    CHECK(auth_error_code(AUTH_DENIED) == 7);
    CHECK(auth_error_code(AUTH_NOT_ENABLED) == 9);
}

/* --- Who may: as recorded. ------------------------------------------------------------ */

static void test_recorded(void)
{
    struct auth *a = recorded();

    CHECK(range(a, "", "before", STR("")) == AUTH_USER_EMPTY);
    CHECK(range(a, "root", "before", STR("")) == 0);
    CHECK(range(a, "u", "before", STR("")) == 0); /* in [a, c) */
    CHECK(range(a, "u", "a", STR("c")) == 0);
    CHECK(range(a, "u", "a", STR("d")) == AUTH_DENIED);
    CHECK(range(a, "ghost", "a", STR("")) == AUTH_DENIED);
    CHECK(put(a, "u", "b", false) == AUTH_DENIED);
    CHECK(put(a, "u", "rw", true) == 0);
    CHECK(del(a, "u", "a", STR(""), false) == AUTH_DENIED);
    CHECK(del(a, "u", "rw", STR(""), true) == 0);
    CHECK(del(a, "root", "\0", END, true) == 0);
    CHECK(range(a, "root", "\0", END) == 0);
    auth_check(a);
    auth_free(a);
}

static void test_off(void)
{
    struct auth *a = auth_new();
    struct auth_who nobody = {{"", 0}, 0};
    struct mvcc_range r = {.key = STR("a")};

    CHECK(auth_check_range(a, nobody, &r) == 0);
    CHECK(auth_check_admin(a, nobody) == 0 && auth_check_user(a, nobody) == 0);
    CHECK(auth_check_user_get(a, nobody, STR("x")) == 0);
    CHECK(auth_check_role_get(a, nobody, STR("x")) == 0);
    auth_free(a);
}

static void test_revisions(void)
{
    struct auth *a = recorded();
    struct auth_who u = who(a, "u"), root = who(a, "root"), none = who(a, "u");
    struct mvcc_range r = {.key = STR("a")};

    none.revision = 0;
    CHECK(auth_check_range(a, none, &r) == AUTH_USER_EMPTY);
    CHECK(auth_check_admin(a, none) == AUTH_USER_EMPTY);
    CHECK(auth_check_range(a, u, &r) == 0);
    CHECK(auth_user_revoke_role(a, STR("u"), STR("r")) == 0);
    CHECK(auth_check_range(a, u, &r) == AUTH_OLD_REVISION);
    CHECK(auth_check_range(a, root, &r) == AUTH_OLD_REVISION);
    CHECK(auth_check_admin(a, root) == 0); /* as in etcd */
    CHECK(auth_check_range(a, who(a, "u"), &r) == AUTH_DENIED);
    u.revision = auth_revision(a) + 5; /* of a member that is ahead of us */
    CHECK(auth_user_grant_role(a, STR("u"), STR("r")) == 0);
    CHECK(auth_check_range(a, u, &r) == 0);
    auth_free(a);
}

static void test_management_rights(void)
{
    struct auth *a = recorded();

    CHECK(auth_check_admin(a, who(a, "root")) == 0);
    CHECK(auth_check_admin(a, who(a, "u")) == AUTH_DENIED);
    CHECK(auth_check_admin(a, who(a, "ghost")) == AUTH_USER_NOT_FOUND);
    CHECK(auth_check_user(a, who(a, "u")) == 0);
    CHECK(auth_check_user_get(a, who(a, "u"), STR("u")) == 0);
    CHECK(auth_check_user_get(a, who(a, "u"), STR("root")) == AUTH_DENIED);
    CHECK(auth_check_user_get(a, who(a, "root"), STR("u")) == 0);
    CHECK(auth_check_user_get(a, who(a, "ghost"), STR("ghost")) ==
          AUTH_USER_NOT_FOUND);
    CHECK(auth_check_role_get(a, who(a, "u"), STR("r")) == 0);
    CHECK(auth_check_role_get(a, who(a, "u"), STR("root")) == AUTH_DENIED);
    CHECK(auth_check_role_get(a, who(a, ""), STR("r")) == AUTH_USER_EMPTY);
    auth_free(a);
}

/* --- A change of rights counts at once, for everyone who has the role. ------------------ */

static void test_change(void)
{
    struct auth *a = recorded();

    add_user(a, "v", "r");
    CHECK(range(a, "u", "x", STR("")) == AUTH_DENIED);
    CHECK(range(a, "v", "x", STR("")) == AUTH_DENIED);
    CHECK(grant(a, "r", AUTH_PERM_READ, "x", STR("")) == 0);
    CHECK(range(a, "u", "x", STR("")) == 0 && range(a, "v", "x", STR("")) == 0);
    CHECK(grant(a, "r", AUTH_PERM_WRITE, "x", STR("")) == 0); /* replaces */
    CHECK(range(a, "u", "x", STR("")) == AUTH_DENIED);
    CHECK(put(a, "v", "x", false) == 0);
    CHECK(auth_role_revoke(a, STR("r"), STR("x"), STR("")) == 0);
    CHECK(put(a, "v", "x", false) == AUTH_DENIED);
    CHECK(auth_role_delete(a, STR("r")) == 0);
    CHECK(range(a, "u", "a", STR("")) == AUTH_DENIED);
    CHECK(auth_role_add(a, STR("r")) == 0); /* of old it has nothing */
    CHECK(range(a, "u", "a", STR("")) == AUTH_DENIED);
    auth_free(a);
}

/* --- Holes that etcd once had. -------------------------------------------------------------- */

static int check_ops(struct auth *a, const char *user, const struct lessor *l,
                     const struct mvcc_op *ops, size_t n)
{
    struct mvcc_txn then = {.success = ops, .n_success = n};
    struct mvcc_txn otherwise = {.failure = ops, .n_failure = n};
    int rc = auth_check_txn(a, who(a, user), l, &then);

    CHECK(auth_check_txn(a, who(a, user), l, &otherwise) == rc);
    return rc;
}

static int check_op(struct auth *a, const char *user, const struct lessor *l,
                    struct mvcc_op op)
{
    return check_ops(a, user, l, &op, 1);
}

static struct mvcc_op op_range(const char *key, struct str end)
{
    return (struct mvcc_op){.kind = MVCC_OP_RANGE,
                            .u.range = {.key = str_of(key), .range_end = end}};
}

static struct mvcc_op op_put(const char *key, int64_t lease, bool prev)
{
    return (struct mvcc_op){
        .kind = MVCC_OP_PUT,
        .u.put = {.key = str_of(key), .lease = lease, .prev_kv = prev}};
}

static struct mvcc_op op_del(const char *key, struct str end, bool prev)
{
    return (struct mvcc_op){.kind = MVCC_OP_DELETE_RANGE,
                            .u.delete_range = {str_of(key), end, prev}};
}

static void test_txn(void)
{
    struct auth *a = recorded();
    struct mvcc_compare reads = {.key = STR("b")};
    struct mvcc_compare reads_all = {.key = STR("b"), .range_end = END};
    struct mvcc_txn t = {.compares = &reads, .n_compares = 1};

    CHECK(auth_check_txn(a, who(a, "u"), NULL, &t) == 0);
    CHECK(auth_check_txn(a, who(a, ""), NULL, &t) == AUTH_USER_EMPTY);
    t.compares = &reads_all;
    CHECK(auth_check_txn(a, who(a, "u"), NULL, &t) == AUTH_DENIED);
    CHECK(auth_check_txn(a, who(a, "root"), NULL, &t) == 0);
    CHECK(check_op(a, "u", NULL, op_range("rw", STR(""))) == 0);
    CHECK(check_op(a, "u", NULL, op_put("rw", 0, true)) == 0);
    CHECK(check_op(a, "u", NULL, op_put("b", 0, false)) == AUTH_DENIED);
    CHECK(check_op(a, "u", NULL, op_del("a", STR("c"), false)) == AUTH_DENIED);
    CHECK(check_op(a, "u", NULL, op_range("a", END)) == AUTH_DENIED);
    CHECK(check_op(a, "u", NULL, (struct mvcc_op){.kind = MVCC_OP_EMPTY}) == 0);
    auth_free(a);
}

/* CVE-2026-33343: what is nested in a transaction was not looked at. */
static void test_nested_txn(void)
{
    struct auth *a = recorded();
    struct mvcc_op inner[] = {
        op_range("secret", STR("")), op_put("secret", 0, false),
        op_del("secret", STR(""), false), op_put("rw", 0, false)};
    struct mvcc_compare secret = {.key = STR("secret")};

    for (size_t i = 0; i < ARRAY_LEN(inner); i++) {
        struct mvcc_op ops[6] = {inner[i]};

        for (size_t depth = 1; depth < ARRAY_LEN(ops); depth++) {
            struct mvcc_txn *t = &ops[depth].u.txn;

            ops[depth].kind = MVCC_OP_TXN;
            *(depth % 2 ? &t->success : &t->failure) = &ops[depth - 1];
            *(depth % 2 ? &t->n_success : &t->n_failure) = 1;
            CHECK(check_op(a, "u", NULL, ops[depth]) ==
                  (i == 3 ? 0 : AUTH_DENIED));
        }
    }
    {
        struct mvcc_op compares = {
            .kind = MVCC_OP_TXN,
            .u.txn = {.compares = &secret, .n_compares = 1}};
        struct mvcc_op outer = {
            .kind = MVCC_OP_TXN,
            .u.txn = {.failure = &compares, .n_failure = 1}};

        CHECK(check_op(a, "u", NULL, outer) == AUTH_DENIED);
        CHECK(check_op(a, "root", NULL, outer) == 0);
    }
    auth_free(a);
}

static void test_deep_txn(void)
{
    struct auth *a = recorded();
    struct mvcc_op *ops = xcalloc(AUTH_TXN_DEPTH_MAX + 2, sizeof(*ops));

    ops[0] = op_put("rw", 0, false);
    for (size_t i = 1; i < AUTH_TXN_DEPTH_MAX + 2; i++)
        ops[i] =
            (struct mvcc_op){.kind = MVCC_OP_TXN,
                             .u.txn = {.success = &ops[i - 1], .n_success = 1}};
    CHECK(check_op(a, "u", NULL, ops[AUTH_TXN_DEPTH_MAX]) == 0);
    CHECK(check_op(a, "u", NULL, ops[AUTH_TXN_DEPTH_MAX + 1]) == AUTH_DENIED);
    free(ops);
    auth_free(a);
}

/* A lessor with lease 9 on the keys given, and 5 without keys. */
static struct lessor *leased(const char *const *keys, size_t n,
                             struct mvcc **store)
{
    struct lessor *l = lessor_new(&(struct lease_config){.min_ttl = 2});
    struct mvcc *m = mvcc_new();

    CHECK(lease_grant(l, 9, 100, 0, NULL) == 0);
    CHECK(lease_grant(l, 5, 100, 0, NULL) == 0);
    for (size_t i = 0; i < n; i++) {
        struct mvcc_put p = {.key = str_of(keys[i]), .lease = 9};
        struct mvcc_put_result r;

        CHECK(mvcc_put(m, &p, NULL, &r) == 0);
        mvcc_changes(m, r.revision, lease_change, l);
        mvcc_put_release(&r);
    }
    *store = m;
    return l;
}

static int put_leased(struct auth *a, const struct lessor *l, int64_t lease)
{
    struct mvcc_put p = {.key = STR("rw"), .lease = lease};

    return auth_check_put(a, who(a, "u"), l, &p);
}

/*
 * CVE-2023-32082: LeaseTimeToLive told keys that its asker may not read.
 * CVE-2026-44283: a put in a transaction gave previous values away, and
 * attached to any lease. And what was always right: revoking, and attaching,
 * need the right to write all keys of the lease.
 */
static void test_leases(void)
{
    static const char *const mine[] = {"rw"}, *const both[] = {"rw", "secret"},
                             *const seen[] = {"rw", "b"};
    static const struct {
        const char *const *keys;
        size_t n;
        int write, read;
    } cases[] = {
        {mine, 0, 0, 0},
        {mine, 1, 0, 0},
        {both, 2, AUTH_DENIED, AUTH_DENIED},
        {seen, 2, AUTH_DENIED, 0},
    };
    struct auth *a = recorded();

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct mvcc *m;
        struct lessor *l = leased(cases[i].keys, cases[i].n, &m);
        struct mvcc_op two[] = {op_put("rw", 5, false), op_put("rw", 9, false)};
        struct mvcc_op nested = {.kind = MVCC_OP_TXN,
                                 .u.txn = {.success = two, .n_success = 2}};

        CHECK(auth_check_lease_revoke(a, who(a, "u"), l, 9) == cases[i].write);
        CHECK(auth_check_lease_revoke(a, who(a, "root"), l, 9) == 0);
        CHECK(auth_check_lease_revoke(a, who(a, ""), l, 9) ==
              (cases[i].n ? AUTH_USER_EMPTY : 0));
        CHECK(auth_check_lease_revoke(a, who(a, "u"), l, 77) == 0);
        CHECK(auth_check_lease_revoke(a, who(a, ""), l, 77) == 0);
        CHECK(auth_check_lease_keys(a, who(a, "u"), l, 9) == cases[i].read);
        CHECK(auth_check_lease_keys(a, who(a, "root"), l, 9) == 0);
        CHECK(auth_check_lease_keys(a, who(a, ""), l, 9) == AUTH_USER_EMPTY);
        CHECK(put_leased(a, l, 9) == cases[i].write);
        CHECK(put_leased(a, l, 5) == 0);
        CHECK(check_op(a, "u", l, two[1]) == cases[i].write);
        CHECK(check_ops(a, "u", l, two, 2) == cases[i].write);
        CHECK(check_op(a, "u", l, nested) == cases[i].write);
        CHECK(check_op(a, "root", l, nested) == 0);
        lessor_free(l);
        mvcc_free(m);
    }
    CHECK(grant(a, "r", AUTH_PERM_WRITE, "w", STR("")) == 0);
    CHECK(put(a, "u", "w", false) == 0);
    CHECK(put(a, "u", "w", true) == AUTH_DENIED);
    CHECK(del(a, "u", "w", STR(""), false) == 0);
    CHECK(del(a, "u", "w", STR(""), true) == AUTH_DENIED);
    CHECK(check_op(a, "u", NULL, op_put("w", 0, false)) == 0);
    CHECK(check_op(a, "u", NULL, op_put("w", 0, true)) == AUTH_DENIED);
    CHECK(check_op(a, "u", NULL, op_del("w", STR(""), false)) == 0);
    CHECK(check_op(a, "u", NULL, op_del("w", STR(""), true)) == AUTH_DENIED);
    auth_free(a);
}

/*
 * GHSA-xg4h-6gfc-h4m8: the right to one key let watch all keys from it on,
 * because the open end had become an empty one on its way.
 */
static void test_watch(void)
{
    const struct auth_permission all = {AUTH_PERM_READ, END, END};
    struct auth *a = recorded();
    struct auth_who u = who(a, "u");

    CHECK(auth_check_watch(a, u, STR("rw"), STR("")) == 0);
    CHECK(auth_check_watch(a, u, STR("rw"), END) == AUTH_DENIED);
    CHECK(auth_check_watch(a, u, STR("a"), STR("c")) == 0);
    CHECK(auth_check_watch(a, u, STR("a"), END) == AUTH_DENIED);
    CHECK(auth_check_watch(a, u, STR(""), END) == AUTH_DENIED);
    CHECK(auth_check_watch(a, u, STR(""), STR("")) == AUTH_DENIED);
    CHECK(auth_check_watch(a, who(a, ""), STR("b"), STR("")) ==
          AUTH_USER_EMPTY);
    CHECK(grant(a, "r", AUTH_PERM_READ, "", END) == 0); /* grants nothing */
    CHECK(auth_check_watch(a, who(a, "u"), STR(""), END) == AUTH_DENIED);
    CHECK(auth_check_watch(a, who(a, "u"), STR("x"), END) == AUTH_DENIED);
    CHECK(auth_role_grant(a, STR("r"), &all) == 0);
    CHECK(auth_check_watch(a, who(a, "u"), END, END) == 0);
    auth_free(a);
}

/* CVE-2026-33413: without a token one could do what names no key. */
static void test_nobody(void)
{
    struct auth *a = recorded();

    CHECK(auth_check_user(a, who(a, "")) == AUTH_USER_EMPTY);
    CHECK(auth_check_user(a, who(a, "ghost")) == AUTH_USER_NOT_FOUND);
    CHECK(auth_check_user(a, who(a, "u")) == 0);
    CHECK(auth_check_admin(a, who(a, "")) == AUTH_USER_EMPTY);
    auth_free(a);
}

/* CVE-2018-16886: through the gateway, the certificate was the server's. */
static void test_certificates(void)
{
    CHECK(auth_name_from_certificate(STR("root"), false));
    CHECK(!auth_name_from_certificate(STR("root"), true));
    CHECK(!auth_name_from_certificate(STR(""), false));
}

/* --- Ranges beside a twin. ------------------------------------------------------------------- */

/* All strings of up to three of "\0", "a", "b": between two ends of at most
 * two letters, or their successors, there is one, or there is nothing. */
enum { UNIVERSE = 1 + 3 + 9 + 27 };
static char universe_bytes[UNIVERSE][3];
static struct str universe[UNIVERSE];

static void fill_universe(void)
{
    static const char letters[] = "\0ab";
    size_t n = 0;

    for (unsigned len = 0, count = 1; len <= 3; len++, count *= 3) {
        for (unsigned i = 0; i < count; i++, n++) {
            unsigned x = i;

            for (unsigned k = 0; k < len; k++, x /= 3)
                universe_bytes[n][k] = letters[x % 3];
            universe[n] = (struct str){universe_bytes[n], len};
        }
    }
    CHECK(n == UNIVERSE);
}

/* One of the first: at most two letters. Not empty. */
static struct str some_key(void)
{
    struct str s;

    do {
        s = universe[1 + rnd(12)];
    } while (memchr(s.p, '\0', s.n));
    return s;
}

static struct str some_end(void)
{
    uint64_t x = rnd(8);

    return x == 0 ? END : x < 4 ? STR("") : some_key();
}

static bool holds(struct str key, struct str end, struct str x)
{
    if (end.n == 0)
        return str_eq(key, x);
    if (str_cmp(x, key) < 0)
        return false;
    return str_eq(end, END) || str_cmp(x, end) < 0;
}

static bool naive(const struct auth_permission *p, size_t n, struct str key,
                  struct str end)
{
    bool empty = end.n > 0 && !str_eq(end, END) && str_cmp(end, key) <= 0;

    for (size_t i = 0; i < UNIVERSE; i++) {
        bool good = false;

        if (!holds(key, empty ? STR("") : end, universe[i]))
            continue;
        for (size_t k = 0; k < n; k++)
            good = good || (p[k].type != AUTH_PERM_WRITE && p[k].key.n > 0 &&
                            holds(p[k].key, p[k].range_end, universe[i]));
        if (!good)
            return false;
    }
    return true;
}

static void test_ranges(void)
{
    int n_covered = 0;

    fill_universe();
    for (int round = 0; round < 400; round++) {
        struct auth *a = recorded();
        struct auth_permission p[6];
        size_t n = 1 + rnd(ARRAY_LEN(p));

        add_user(a, "v", "r0");
        CHECK(auth_role_add(a, STR("r1")) == 0);
        CHECK(auth_user_grant_role(a, STR("v"), STR("r1")) == 0);
        for (size_t i = 0; i < n; i++) {
            p[i] =
                (struct auth_permission){(int)rnd(3), some_key(), some_end()};
            CHECK(auth_role_grant(a, STR("r0"), &p[i]) == 0);
            for (size_t k = 0; k < i; k++) { /* replaced */
                if (str_eq(p[k].key, p[i].key) &&
                    str_eq(p[k].range_end, p[i].range_end))
                    p[k].type = p[i].type;
            }
        }
        for (int i = 0; i < 100; i++) {
            struct mvcc_range r = {.key = some_key(), .range_end = some_end()};
            bool covered = naive(p, n, r.key, r.range_end);

            n_covered += covered;
            CHECK(auth_check_range(a, who(a, "v"), &r) ==
                  (covered ? 0 : AUTH_DENIED));
        }
        auth_free(a);
    }
    CHECK(n_covered > 1000);
}

/* --- Passwords and tokens. ---------------------------------------------------------------------- */

static void test_passwords(void)
{
    static const uint8_t salt[16] = "salt of a test";
    struct auth *a = recorded();
    struct auth_login login;
    struct buf hash = {0}, again = {0}, encoded = {0};

    auth_hash_password(&hash, STR("pw"), 4, salt);
    CHECK(auth_user_change_password(a, STR("u"), buf_str(&hash)) == 0);
    CHECK(auth_user_add(a, STR("cert"), STR(""), true) == 0);
    CHECK(auth_user_add(a, STR("old"), STR(""), false) == 0);
    CHECK(auth_login(a, STR("u"), &login) == 0);
    CHECK(login.revision == auth_revision(a));
    CHECK(auth_login_check(&login, STR("pw")) == 0);
    CHECK(auth_login_check(&login, STR("pW")) == AUTH_FAILED);
    CHECK(auth_login_check(&login, STR("")) == AUTH_FAILED);
    CHECK(auth_login(a, STR("nobody"), &login) == 0);
    CHECK(strlen(login.hash) == BCRYPT_HASH_SIZE - 1);
    CHECK(auth_login_check(&login, STR("pw")) == AUTH_FAILED);
    CHECK(auth_login(a, STR("old"), &login) == 0);
    CHECK(auth_login_check(&login, STR("")) == AUTH_FAILED);
    CHECK(auth_login(a, STR("cert"), &login) == AUTH_NO_PASSWORD_USER);

    /* As it is applied: hashed as it came; plain the same on each member, and
     * different for each user and entry. */
    base64_encode(&encoded, hash.data, hash.len);
    CHECK(auth_stored_password(&again, STR("no"), buf_str(&encoded), false,
                               STR("u"), 7) == 0);
    CHECK(str_eq(buf_str(&again), buf_str(&hash)));
    CHECK(auth_stored_password(&again, STR("no"), STR("*"), false, STR("u"),
                               7) == AUTH_BAD_HASH);
    buf_clear(&again);
    CHECK(auth_stored_password(&again, STR("no"), STR("*"), true, STR("u"),
                               7) == 0);
    CHECK(again.len == 0);
    buf_clear(&hash);
    CHECK(auth_stored_password(&hash, STR("pw"), STR(""), false, STR("u"), 7) ==
          0);
    CHECK(auth_stored_password(&again, STR("pw"), STR(""), false, STR("u"),
                               7) == 0);
    CHECK(str_eq(buf_str(&again), buf_str(&hash)));
    CHECK(bcrypt_check(STR("pw"), buf_str(&hash)));
    buf_clear(&again);
    CHECK(auth_stored_password(&again, STR("pw"), STR(""), false, STR("u"),
                               8) == 0);
    CHECK(!str_eq(buf_str(&again), buf_str(&hash)));

    CHECK(auth_disable(a) == 0);
    CHECK(auth_login(a, STR("u"), &login) == AUTH_NOT_ENABLED);
    buf_release(&hash);
    buf_release(&again);
    buf_release(&encoded);
    auth_free(a);
}

/* The user of a token, or the error's number. */
static const char *user_of(struct auth *a, const char *token, int64_t now)
{
    static struct buf b;
    int rc;

    buf_clear(&b);
    rc = auth_token_user(a, str_of(token), now, &b);
    if (rc < 0)
        buf_printf(&b, "%d", rc);
    auth_check(a);
    return buf_z(&b);
}

#define GONE "-16" /* AUTH_INVALID_TOKEN */

static int login(struct auth *a, const char *user, const char *letters,
                 uint64_t index, int64_t now)
{
    return auth_authenticate(a, str_of(user), str_of(letters), index, now,
                             NULL);
}

static void test_tokens(void)
{
    struct auth *a = recorded();
    struct buf b = {0};

    CHECK(auth_authenticate(a, STR("u"), STR("ZyfReaGhJscsCoGa"), 33, 0, &b) ==
          0);
    CHECK_STR(buf_z(&b), "ZyfReaGhJscsCoGa.33");
    CHECK_STR(user_of(a, "ZyfReaGhJscsCoGa.33", 0), "u");
    CHECK_STR(user_of(a, "ZyfReaGhJscsCoGa.34", 0), GONE);
    CHECK_STR(user_of(a, "ZyfReaGhJscsCoGa", 0), GONE);
    CHECK_STR(user_of(a, "", 0), GONE);
    CHECK_STR(user_of(a, "wrong.token", 0), GONE);
    CHECK(login(a, "nobody", "x", 34, 0) == AUTH_FAILED);
    CHECK(login(a, "u", "", 34, 0) == 0 && auth_n_tokens(a) == 1);

    /* Idle for its TTL; each use begins it anew. */
    CHECK(login(a, "u", "x", 35, 100) == 0);
    CHECK(login(a, "root", "y", 36, 200) == 0);
    CHECK_STR(user_of(a, "x.35", 300099), "u");
    CHECK_STR(user_of(a, "ZyfReaGhJscsCoGa.33", 300099), GONE);
    CHECK_STR(user_of(a, "y.36", 300200), GONE);
    CHECK_STR(user_of(a, "x.35", 600098), "u");
    CHECK(auth_n_tokens(a) == 1);

    /* A change of rights leaves it, a new password does not. */
    CHECK(login(a, "root", "y", 37, 600000) == 0);
    CHECK(auth_role_add(a, STR("new")) == 0);
    CHECK_STR(user_of(a, "x.35", 600100), "u");
    CHECK(auth_user_change_password(a, STR("u"), STR("h")) == 0);
    CHECK_STR(user_of(a, "x.35", 600100), GONE);
    CHECK_STR(user_of(a, "y.37", 600100), "root");
    CHECK(login(a, "u", "z", 38, 600100) == 0);
    CHECK(auth_user_delete(a, STR("u")) == 0);
    CHECK_STR(user_of(a, "z.38", 600100), GONE);
    CHECK(auth_user_add(a, STR("u"), STR("h"), false) == 0);
    CHECK_STR(user_of(a, "z.38", 600100), GONE);
    CHECK(auth_disable(a) == 0);
    CHECK_STR(user_of(a, "y.37", 600100), GONE);
    CHECK(login(a, "root", "q", 39, 0) == AUTH_NOT_ENABLED);
    CHECK(auth_enable(a) == 0);
    CHECK_STR(user_of(a, "y.37", 600100), GONE);
    auth_set_token_ttl(a, 1000);
    CHECK(login(a, "root", "q", 40, 0) == 0);
    CHECK(login(a, "root", "q", 40, 500) == 0); /* the same: once */
    CHECK(auth_n_tokens(a) == 1);
    CHECK_STR(user_of(a, "q.40", 1499), "root");
    CHECK_STR(user_of(a, "q.40", 2499), GONE);
    auth_set_token_ttl(a, 5000);
    CHECK(login(a, "root", "long", 41, 3000) == 0);
    auth_set_token_ttl(a, 1000);
    CHECK(login(a, "root", "short", 42, 3000) == 0);
    CHECK_STR(user_of(a, "short.42", 4000), GONE);
    CHECK_STR(user_of(a, "long.41", 4000), "root");
    buf_release(&b);
    auth_free(a);
}

/* Another state takes the place of this one, as with a leader's snapshot. */
static void test_kept_tokens(void)
{
    struct auth *a = recorded(), *b = recorded(), *off = recorded();

    CHECK(login(a, "u", "x", 35, 100) == 0);
    CHECK(login(a, "root", "y", 36, 200) == 0);
    CHECK(auth_user_change_password(b, STR("u"), STR("another")) == 0);
    CHECK(auth_disable(off) == 0);
    auth_keep_tokens(b, a);
    auth_keep_tokens(off, a);
    CHECK(auth_n_tokens(b) == 1 && auth_n_tokens(off) == 0);
    CHECK_STR(user_of(b, "x.35", 300), GONE);
    CHECK_STR(user_of(a, "y.36", 300199), "root");
    CHECK_STR(user_of(b, "y.36", 300199), "root");
    CHECK_STR(user_of(b, "y.36", 600199), GONE);
    auth_free(a);
    auth_free(b);
    auth_free(off);
}

static void test_many_tokens(void)
{
    struct auth *a = recorded();
    char text[64];

    for (uint64_t i = 0; i < AUTH_TOKENS_MAX + 100; i++)
        CHECK(login(a, i % 2 ? "u" : "root", "t", i, (int64_t)i) == 0);
    CHECK(auth_n_tokens(a) == AUTH_TOKENS_MAX);
    CHECK_STR(user_of(a, "t.99", 70000), GONE);
    CHECK_STR(user_of(a, "t.100", 70000), "root");
    CHECK(login(a, "u", "t", 999999, 70000) == 0);
    CHECK_STR(user_of(a, "t.101", 70000), GONE); /* 100 was used since */
    CHECK_STR(user_of(a, "t.100", 70000), "root");
    CHECK(auth_user_delete(a, STR("u")) == 0);
    snprintf(text, sizeof(text), "t.%d", AUTH_TOKENS_MAX + 99);
    CHECK_STR(user_of(a, text, 70000), GONE);
    CHECK(auth_n_tokens(a) == AUTH_TOKENS_MAX / 2);
    auth_free(a);
}

static void test_token_text(void)
{
    static const struct {
        const char *token;
        bool good;
        uint64_t index;
    } cases[] = {
        {"ZyfReaGhJscsCoGa.33", true, 33},
        {"x.18446744073709551615", true, UINT64_MAX},
        {"x.18446744073709551616", false, 0},
        {"x.", false, 0},
        {"x", false, 0},
        {".5", false, 0},
        {"x.y", false, 0},
        {"x.5.6", false, 0},
        {"", false, 0},
    };
    uint8_t random[AUTH_TOKEN_RANDOM] = {0, 0, 51, 0, 52, 0, 26, 0, 0, 1};
    char letters[AUTH_TOKEN_LETTERS];

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint64_t index = 0;

        CHECK(auth_token_index(str_of(cases[i].token), &index) ==
              cases[i].good);
        CHECK(!cases[i].good || index == cases[i].index);
    }
    auth_token_letters(random, letters);
    CHECK(memcmp(letters, "aZaAWaaaaaaaaaaa", sizeof(letters)) == 0);
}

/* --- Records. --------------------------------------------------------------------------------------- */

struct record {
    enum auth_bucket bucket;
    char *key, *value;
    size_t n_key, n_value;
};

struct records {
    struct record r[16];
    size_t n;
};

static char *bytes_of(struct str s)
{
    char *p = xmalloc(s.n + 1);

    memcpy(p, s.p, s.n);
    return p;
}

static void keep(void *arg, enum auth_bucket bucket, struct str key,
                 struct str value)
{
    struct records *all = arg;

    CHECK(all->n < ARRAY_LEN(all->r));
    all->r[all->n++] =
        (struct record){bucket, bytes_of(key), bytes_of(value), key.n, value.n};
}

static void drop(struct records *all)
{
    for (size_t i = 0; i < all->n; i++) {
        free(all->r[i].key);
        free(all->r[i].value);
    }
}

static int restore(struct auth *a, const struct record *r)
{
    return auth_restore(a, r->bucket, (struct str){r->key, r->n_key},
                        (struct str){r->value, r->n_value});
}

static struct auth *sample(void)
{
    struct auth *a = recorded();

    CHECK(auth_user_add(a, STR("cert"), STR(""), true) == 0);
    CHECK(auth_user_grant_role(a, STR("cert"), STR("root")) == 0);
    CHECK(auth_user_grant_role(a, STR("cert"), STR("r")) == 0);
    CHECK(grant(a, "r", -1, "odd", END) == 0);
    return a;
}

static void test_records(void)
{
    struct auth *a = sample(), *b = auth_new();
    struct records all = {0}, again = {0};

    auth_save(a, keep, &all);
    CHECK(all.n == 7);               /* 2 flags, 2 roles, 3 users */
    for (size_t i = all.n; i-- > 0;) /* in any order */
        CHECK(restore(b, &all.r[i]) == 0);
    auth_check(b);
    CHECK(auth_enabled(b) && auth_revision(b) == auth_revision(a));
    CHECK(range(b, "u", "a", STR("c")) == 0);
    CHECK(range(b, "u", "a", STR("d")) == AUTH_DENIED);
    CHECK(range(b, "cert", "zzz", END) == 0);
    auth_save(b, keep, &again);
    CHECK(again.n == all.n);
    for (size_t i = 0; i < all.n; i++) {
        CHECK(all.r[i].bucket == again.r[i].bucket);
        CHECK(all.r[i].n_value == again.r[i].n_value &&
              memcmp(all.r[i].value, again.r[i].value, all.r[i].n_value) == 0);
    }
    for (size_t i = 2; i < all.n; i++)
        CHECK(restore(b, &all.r[i]) == AUTH_CORRUPT); /* twice */
    drop(&all);
    drop(&again);
    auth_free(a);
    auth_free(b);
}

/* The bytes themselves, in etcd's form. */
static void test_record_bytes(void)
{
    static const struct {
        enum auth_bucket bucket;
        const char *key;
        const char *value;
        size_t n;
    } want[] = {
        {AUTH_BUCKET_AUTH, "authEnabled", "\1", 1},
        {AUTH_BUCKET_AUTH, "authRevision", "\0\0\0\0\0\0\0\x0d", 8},
        {AUTH_BUCKET_ROLES, "r",
         "\x0a\1r\x12\6\x12\1a\x1a\1c\x12\x13\x08\xff\xff\xff\xff\xff\xff\xff"
         "\xff\xff\1\x12\3odd\x1a\1\0\x12\6\x08\2\x12\2rw",
         40},
        {AUTH_BUCKET_ROLES, "root", "\x0a\4root", 6},
        {AUTH_BUCKET_USERS, "cert", "\x0a\4cert\x1a\1r\x1a\4root\x22\2\x08\1",
         19},
        {AUTH_BUCKET_USERS, "root", "\x0a\4root\x12\1x\x1a\4root", 15},
        {AUTH_BUCKET_USERS, "u", "\x0a\1u\x12\1x\x1a\1r", 9},
    };
    struct auth *a = sample();
    struct records all = {0};

    auth_save(a, keep, &all);
    CHECK(all.n == ARRAY_LEN(want));
    for (size_t i = 0; i < all.n && i < ARRAY_LEN(want); i++) {
        CHECK(all.r[i].bucket == want[i].bucket);
        CHECK(str_eqz((struct str){all.r[i].key, all.r[i].n_key}, want[i].key));
        CHECK(str_eq((struct str){all.r[i].value, all.r[i].n_value},
                     (struct str){want[i].value, want[i].n}));
    }
    CHECK_STR(auth_bucket_names[AUTH_BUCKET_USERS], "authUsers");
    drop(&all);
    auth_free(a);
}

static void test_bad_records(void)
{
    const struct {
        enum auth_bucket bucket;
        struct str key, value;
        int rc;
    } cases[] = {
        {AUTH_BUCKET_AUTH, STR("authEnabled"), STR("\2"), AUTH_CORRUPT},
        {AUTH_BUCKET_AUTH, STR("authEnabled"), STR(""), AUTH_CORRUPT},
        {AUTH_BUCKET_AUTH, STR("authRevision"), STR("\1"), AUTH_CORRUPT},
        {AUTH_BUCKET_AUTH, STR("more"), STR("\1"), 0},
        {AUTH_BUCKET_USERS, STR(""), STR(""), AUTH_CORRUPT},
        {AUTH_BUCKET_USERS, STR("u"), STR("\x0a\1v"), AUTH_CORRUPT},
        {AUTH_BUCKET_USERS, STR("u"), STR("\x08\1"), AUTH_CORRUPT},
        {AUTH_BUCKET_USERS, STR("u"), STR("\x0a\1u\x22\1\x08"), AUTH_CORRUPT},
        {AUTH_BUCKET_USERS, STR("u"), STR("\x0a\1u\x2a\1x"), 0},
        {AUTH_BUCKET_ROLES, STR("r"), STR("\x0a\1q"), AUTH_CORRUPT},
        {AUTH_BUCKET_ROLES, STR("r"), STR("\x12\2\x08"), AUTH_CORRUPT},
        {AUTH_BUCKET_ROLES, STR("r"), STR("\x12\2\x12\1"), AUTH_CORRUPT},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct auth *a = auth_new();

        CHECK(auth_restore(a, cases[i].bucket, cases[i].key, cases[i].value) ==
              cases[i].rc);
        auth_free(a);
    }
}

/* etcd 3.4 may leave two for one range: they are joined, and can be revoked. */
static void test_double_permission(void)
{
    struct auth *a = auth_new();

    CHECK(auth_restore(a, AUTH_BUCKET_ROLES, STR("q"),
                       STR("\x0a\1q\x12\3\x12\1z\x12\6\x12\1a\x1a\1b"
                           "\x12\x08\x08\1\x12\1a\x1a\1b")) == 0);
    CHECK_STR(permissions(a, "q"), "a-b:2 z:0 ");
    CHECK(auth_role_revoke(a, STR("q"), STR("a"), STR("b")) == 0);
    CHECK_STR(permissions(a, "q"), "z:0 ");
    auth_check(a);
    auth_free(a);
}

/* Each prefix, each byte changed: an error or a sane state, never a crash. */
static void test_damaged_records(void)
{
    struct auth *a = sample();
    struct records all = {0};

    auth_save(a, keep, &all);
    for (size_t i = 2; i < all.n; i++) {
        struct record r = all.r[i];

        for (size_t n = 0; n < r.n_value; n++) {
            struct auth *b = auth_new();
            struct record cut = r;

            cut.n_value = n;
            if (restore(b, &cut) == 0)
                auth_check(b);
            auth_free(b);
        }
        for (size_t at = 0; at < r.n_value * 8; at++) {
            struct auth *b = auth_new();

            r.value[at / 8] = (char)(r.value[at / 8] ^ 1 << at % 8);
            if (restore(b, &r) == 0)
                auth_check(b);
            r.value[at / 8] = (char)(r.value[at / 8] ^ 1 << at % 8);
            auth_free(b);
        }
    }
    drop(&all);
    auth_free(a);
}

int main(void)
{
    test_management();
    test_lists();
    test_errors();
    test_recorded();
    test_off();
    test_revisions();
    test_management_rights();
    test_change();
    test_txn();
    test_nested_txn();
    test_deep_txn();
    test_leases();
    test_watch();
    test_nobody();
    test_certificates();
    test_ranges();
    test_passwords();
    test_tokens();
    test_kept_tokens();
    test_many_tokens();
    test_token_text();
    test_records();
    test_record_bytes();
    test_bad_records();
    test_double_permission();
    test_damaged_records();
    return check_done("auth_test");
}
