/*
 * auth.c - users, roles, and their records.
 *
 *     users     sorted by name; each with its roles' names, sorted
 *     roles     sorted by name; each with its permissions, sorted by key
 *
 * There are few of either, they change rarely, and every list that leaves
 * this module is sorted: so arrays of pointers, searched by halves.
 *
 * A user holds the names of roles, not the roles: "root" need not exist as a
 * role, and a record may be restored before those that it names.
 */
#include "auth_impl.h"

#include "hash.h"
#include "pb.h"

#include <assert.h>

/* --- What clients are told. ------------------------------------------------- */

enum { /* of gRPC */
       UNKNOWN = 2,
       INVALID_ARGUMENT = 3,
       PERMISSION_DENIED = 7,
       FAILED_PRECONDITION = 9,
       UNAUTHENTICATED = 16,
};

/* clang-format off */
static const struct {
    int code;
    const char *text;
} errors[] = {
    [-AUTH_ROOT_USER_NOT_EXIST]    = {FAILED_PRECONDITION, "etcdserver: root user does not exist"},
    [-AUTH_ROOT_ROLE_NOT_EXIST]    = {FAILED_PRECONDITION, "etcdserver: root user does not have root role"},
    [-AUTH_USER_EXISTS]            = {FAILED_PRECONDITION, "etcdserver: user name already exists"},
    [-AUTH_USER_EMPTY]             = {INVALID_ARGUMENT,    "etcdserver: user name is empty"},
    [-AUTH_USER_NOT_FOUND]         = {FAILED_PRECONDITION, "etcdserver: user name not found"},
    [-AUTH_ROLE_EXISTS]            = {FAILED_PRECONDITION, "etcdserver: role name already exists"},
    [-AUTH_ROLE_NOT_FOUND]         = {FAILED_PRECONDITION, "etcdserver: role name not found"},
    [-AUTH_ROLE_EMPTY]             = {INVALID_ARGUMENT,    "etcdserver: role name is empty"},
    [-AUTH_FAILED]                 = {INVALID_ARGUMENT,    "etcdserver: authentication failed, invalid user ID or password"},
    [-AUTH_NO_PASSWORD_USER]       = {UNKNOWN,             "auth: authentication failed, password was given for no password user"},
    [-AUTH_PERMISSION_NOT_GIVEN]   = {INVALID_ARGUMENT,    "etcdserver: permission not given"},
    [-AUTH_DENIED]                 = {PERMISSION_DENIED,   "etcdserver: permission denied"},
    [-AUTH_ROLE_NOT_GRANTED]       = {FAILED_PRECONDITION, "etcdserver: role is not granted to the user"},
    [-AUTH_PERMISSION_NOT_GRANTED] = {FAILED_PRECONDITION, "etcdserver: permission is not granted to the role"},
    [-AUTH_NOT_ENABLED]            = {FAILED_PRECONDITION, "etcdserver: authentication is not enabled"},
    [-AUTH_INVALID_TOKEN]          = {UNAUTHENTICATED,     "etcdserver: invalid auth token"},
    [-AUTH_INVALID_MGMT]           = {INVALID_ARGUMENT,    "etcdserver: invalid auth management"},
    [-AUTH_OLD_REVISION]           = {INVALID_ARGUMENT,    "etcdserver: revision of auth store is old"},
    [-AUTH_BAD_HASH]               = {UNKNOWN,             "auth: hashed password is not base64"},
    [-AUTH_CORRUPT]                = {UNKNOWN,             "auth: damaged record"},
};
/* clang-format on */

const char *auth_error_text(int error)
{
    assert(error < 0 && -error < (int)ARRAY_LEN(errors));
    return errors[-error].text;
}

int auth_error_code(int error)
{
    assert(error < 0 && -error < (int)ARRAY_LEN(errors));
    return errors[-error].code;
}

/* --- Strings and names. ------------------------------------------------------- */

/* A NUL follows, which makes a key its own successor: see authperm.c. */
static struct str copy(struct str s)
{
    return (struct str){xstrndup(s.n ? s.p : "", s.n), s.n};
}

static void drop(struct str s) /* from copy() */
{
    free((char *)s.p);
}

static void drop_secret(struct str s)
{
    if (s.p)
        wipe((char *)s.p, s.n);
    drop(s);
}

void *auth_names_find(const struct auth_names *t, struct str name, size_t *at)
{
    size_t lo = 0, hi = t->n;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;

        if (str_cmp(*t->items[mid], name) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (at)
        *at = lo;
    return lo < t->n && str_eq(*t->items[lo], name) ? t->items[lo] : NULL;
}

static void names_insert(struct auth_names *t, size_t at, struct str *item)
{
    if (t->n == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 8;
        t->items = xrealloc(t->items, t->cap * sizeof(struct str *));
    }
    memmove(t->items + at + 1, t->items + at,
            (t->n - at) * sizeof(struct str *));
    t->items[at] = item;
    t->n++;
}

static void names_remove(struct auth_names *t, size_t at)
{
    t->n--;
    memmove(t->items + at, t->items + at + 1,
            (t->n - at) * sizeof(struct str *));
}

static struct user *find_user(const struct auth *a, struct str name)
{
    return auth_names_find(&a->users, name, NULL);
}

static struct role *find_role(const struct auth *a, struct str name)
{
    return auth_names_find(&a->roles, name, NULL);
}

/* --- Users. ---------------------------------------------------------------------- */

static struct user *new_user(struct str name, struct str password,
                             bool no_password)
{
    struct user *u = xcalloc(1, sizeof(*u));

    u->pub.name = copy(name);
    u->pub.password = copy(password);
    u->pub.no_password = no_password;
    return u;
}

/* Without tokens. */
static void free_user(struct user *u)
{
    assert(!u->tokens);
    for (size_t i = 0; i < u->pub.n_roles; i++)
        drop(u->roles[i]);
    free(u->roles);
    free(u->spans[AUTH_READ].v);
    free(u->spans[AUTH_WRITE].v);
    drop(u->pub.name);
    drop_secret(u->pub.password);
    free(u);
}

/* Where the role's name is among the user's, or belongs. */
static size_t role_place(const struct auth_user *u, struct str role)
{
    size_t lo = 0, hi = u->n_roles;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;

        if (str_cmp(u->roles[mid], role) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

bool auth_has_role(const struct auth_user *u, struct str role)
{
    size_t i = role_place(u, role);

    return i < u->n_roles && str_eq(u->roles[i], role);
}

/* Not if the user has it. */
static void add_role(struct user *u, struct str role)
{
    size_t at = role_place(&u->pub, role), n = u->pub.n_roles;

    u->roles = xrealloc(u->roles, (n + 1) * sizeof(*u->roles));
    memmove(u->roles + at + 1, u->roles + at, (n - at) * sizeof(*u->roles));
    u->roles[at] = copy(role);
    u->pub.roles = u->roles;
    u->pub.n_roles = n + 1;
}

/* False if the user does not have it. */
static bool remove_role(struct user *u, struct str role)
{
    size_t at = role_place(&u->pub, role);

    if (!auth_has_role(&u->pub, role))
        return false;
    drop(u->roles[at]);
    u->pub.n_roles--;
    memmove(u->roles + at, u->roles + at + 1,
            (u->pub.n_roles - at) * sizeof(*u->roles));
    return true;
}

/* --- Roles. ------------------------------------------------------------------------ */

static struct role *new_role(struct str name)
{
    struct role *r = xcalloc(1, sizeof(*r));

    r->pub.name = copy(name);
    return r;
}

static void drop_permission(struct auth_permission *p)
{
    drop(p->key);
    drop(p->range_end);
}

static void free_role(struct role *r)
{
    for (size_t i = 0; i < r->pub.n_permissions; i++)
        drop_permission(&r->permissions[i]);
    free(r->permissions);
    drop(r->pub.name);
    free(r);
}

static size_t first_with_key(const struct role *r, struct str key)
{
    size_t lo = 0, hi = r->pub.n_permissions;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;

        if (str_cmp(r->permissions[mid].key, key) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* The one for just this range; else NULL, and *at is where a new one goes:
 * behind those of the same key, which keep the order of their coming. */
static struct auth_permission *find_permission(const struct role *r,
                                               struct str key,
                                               struct str range_end, size_t *at)
{
    size_t i = first_with_key(r, key);

    for (; i < r->pub.n_permissions && str_eq(r->permissions[i].key, key);
         i++) {
        if (str_eq(r->permissions[i].range_end, range_end)) {
            *at = i;
            return &r->permissions[i];
        }
    }
    *at = i;
    return NULL;
}

static void insert_permission(struct role *r, size_t at,
                              const struct auth_permission *p)
{
    size_t n = r->pub.n_permissions;

    r->permissions = xrealloc(r->permissions, (n + 1) * sizeof(*p));
    memmove(r->permissions + at + 1, r->permissions + at,
            (n - at) * sizeof(*p));
    r->permissions[at] =
        (struct auth_permission){p->type, copy(p->key), copy(p->range_end)};
    r->pub.permissions = r->permissions;
    r->pub.n_permissions = n + 1;
}

/* --- The whole. ---------------------------------------------------------------------- */

struct auth *auth_new(void)
{
    struct auth *a = xcalloc(1, sizeof(*a));

    a->revision = 1;
    a->epoch = 1;
    a->token_ttl_ms = AUTH_TOKEN_TTL_MS;
    return a;
}

void auth_free(struct auth *a)
{
    if (!a)
        return;
    auth_tokens_drop_all(a);
    for (size_t i = 0; i < a->users.n; i++)
        free_user((struct user *)a->users.items[i]);
    for (size_t i = 0; i < a->roles.n; i++)
        free_role((struct role *)a->roles.items[i]);
    free(a->users.items);
    free(a->roles.items);
    free(a);
}

bool auth_enabled(const struct auth *a)
{
    return a->enabled;
}

uint64_t auth_revision(const struct auth *a)
{
    return a->revision;
}

const struct auth_user *auth_user(const struct auth *a, struct str name)
{
    struct user *u = find_user(a, name);

    return u ? &u->pub : NULL;
}

const struct auth_role *auth_role(const struct auth *a, struct str name)
{
    struct role *r = find_role(a, name);

    return r ? &r->pub : NULL;
}

const struct auth_user *auth_user_at(const struct auth *a, size_t i)
{
    return i < a->users.n ? (struct auth_user *)a->users.items[i] : NULL;
}

const struct auth_role *auth_role_at(const struct auth *a, size_t i)
{
    return i < a->roles.n ? (struct auth_role *)a->roles.items[i] : NULL;
}

static int changed(struct auth *a)
{
    a->revision++;
    a->epoch++;
    return 0;
}

/* --- Switching. ------------------------------------------------------------------------ */

int auth_enable(struct auth *a)
{
    const struct auth_user *root = auth_user(a, STR(AUTH_ROOT));

    if (a->enabled)
        return 0;
    if (!root)
        return AUTH_ROOT_USER_NOT_EXIST;
    if (!auth_has_role(root, STR(AUTH_ROOT)))
        return AUTH_ROOT_ROLE_NOT_EXIST;
    a->enabled = true; /* and no new revision, as in etcd */
    return 0;
}

int auth_disable(struct auth *a)
{
    if (!a->enabled)
        return 0;
    a->enabled = false;
    auth_tokens_drop_all(a);
    return changed(a);
}

/* While auth is on, root stays, and stays root. */
static bool is_kept(const struct auth *a, struct str name)
{
    return a->enabled && str_eq(name, STR(AUTH_ROOT));
}

/* --- Changes of users. ------------------------------------------------------------------ */

int auth_user_add(struct auth *a, struct str name, struct str password,
                  bool no_password)
{
    struct user *u;
    size_t at;

    if (name.n == 0)
        return AUTH_USER_EMPTY;
    if (auth_names_find(&a->users, name, &at))
        return AUTH_USER_EXISTS;
    u = new_user(name, password, no_password);
    names_insert(&a->users, at, &u->pub.name);
    return changed(a);
}

int auth_user_delete(struct auth *a, struct str name)
{
    struct user *u;
    size_t at;

    if (is_kept(a, name))
        return AUTH_INVALID_MGMT;
    u = auth_names_find(&a->users, name, &at);
    if (!u)
        return AUTH_USER_NOT_FOUND;
    auth_tokens_drop_user(a, u);
    names_remove(&a->users, at);
    free_user(u);
    return changed(a);
}

int auth_user_change_password(struct auth *a, struct str name,
                              struct str password)
{
    struct user *u = find_user(a, name);

    if (!u)
        return AUTH_USER_NOT_FOUND;
    if (!u->pub.no_password) {
        drop_secret(u->pub.password);
        u->pub.password = copy(password);
    }
    auth_tokens_drop_user(a, u);
    return changed(a);
}

int auth_user_grant_role(struct auth *a, struct str name, struct str role)
{
    struct user *u = find_user(a, name);

    if (!u)
        return AUTH_USER_NOT_FOUND;
    if (!str_eq(role, STR(AUTH_ROOT)) && !find_role(a, role))
        return AUTH_ROLE_NOT_FOUND;
    if (auth_has_role(&u->pub, role))
        return 0; /* and no new revision, as in etcd */
    add_role(u, role);
    return changed(a);
}

int auth_user_revoke_role(struct auth *a, struct str name, struct str role)
{
    struct user *u;

    if (is_kept(a, name) && is_kept(a, role))
        return AUTH_INVALID_MGMT;
    u = find_user(a, name);
    if (!u)
        return AUTH_USER_NOT_FOUND;
    if (!remove_role(u, role))
        return AUTH_ROLE_NOT_GRANTED;
    return changed(a);
}

/* --- Changes of roles. ------------------------------------------------------------------- */

int auth_role_add(struct auth *a, struct str name)
{
    struct role *r;
    size_t at;

    if (name.n == 0)
        return AUTH_ROLE_EMPTY;
    if (auth_names_find(&a->roles, name, &at))
        return AUTH_ROLE_EXISTS;
    r = new_role(name);
    names_insert(&a->roles, at, &r->pub.name);
    return changed(a);
}

int auth_role_delete(struct auth *a, struct str name)
{
    struct role *r;
    size_t at;

    if (is_kept(a, name))
        return AUTH_INVALID_MGMT;
    r = auth_names_find(&a->roles, name, &at);
    if (!r)
        return AUTH_ROLE_NOT_FOUND;
    for (size_t i = 0; i < a->users.n; i++)
        remove_role((struct user *)a->users.items[i], name);
    names_remove(&a->roles, at);
    free_role(r);
    return changed(a);
}

int auth_role_grant(struct auth *a, struct str role,
                    const struct auth_permission *p)
{
    struct role *r = find_role(a, role);
    struct auth_permission *have;
    size_t at;

    if (!p)
        return AUTH_PERMISSION_NOT_GIVEN;
    if (!r)
        return AUTH_ROLE_NOT_FOUND;
    have = find_permission(r, p->key, p->range_end, &at);
    if (have)
        have->type = p->type;
    else
        insert_permission(r, at, p);
    return changed(a);
}

int auth_role_revoke(struct auth *a, struct str role, struct str key,
                     struct str range_end)
{
    struct role *r = find_role(a, role);
    struct auth_permission *have;
    size_t at;

    if (!r)
        return AUTH_ROLE_NOT_FOUND;
    have = find_permission(r, key, range_end, &at);
    if (!have)
        return AUTH_PERMISSION_NOT_GRANTED;
    drop_permission(have);
    r->pub.n_permissions--;
    memmove(have, have + 1, (r->pub.n_permissions - at) * sizeof(*have));
    return changed(a);
}

/* --- Records. ------------------------------------------------------------------------------ */

const char *const auth_bucket_names[AUTH_N_BUCKETS] = {
    [AUTH_BUCKET_AUTH] = "auth",
    [AUTH_BUCKET_ROLES] = "authRoles",
    [AUTH_BUCKET_USERS] = "authUsers",
};

#define KEY_ENABLED "authEnabled"
#define KEY_REVISION "authRevision"

static void add_nonempty(struct buf *b, uint32_t number, struct str s)
{
    if (s.n > 0)
        pb_add_str(b, number, s);
}

/* authpb.User {1 name, 2 password, 3 roles, 4 options {1 no_password}} */
static void encode_user(struct buf *b, const struct auth_user *u)
{
    add_nonempty(b, 1, u->name);
    add_nonempty(b, 2, u->password);
    for (size_t i = 0; i < u->n_roles; i++)
        pb_add_str(b, 3, u->roles[i]);
    if (u->no_password) {
        size_t mark = pb_begin(b, 4);

        pb_add_u64(b, 1, 1);
        pb_end(b, mark);
    }
}

/* authpb.Role {1 name, 2 keyPermission {1 permType, 2 key, 3 range_end}} */
static void encode_role(struct buf *b, const struct auth_role *r)
{
    add_nonempty(b, 1, r->name);
    for (size_t i = 0; i < r->n_permissions; i++) {
        const struct auth_permission *p = &r->permissions[i];
        size_t mark = pb_begin(b, 2);

        if (p->type != 0)
            pb_add_u64(b, 1, (uint64_t)(int64_t)p->type);
        add_nonempty(b, 2, p->key);
        add_nonempty(b, 3, p->range_end);
        pb_end(b, mark);
    }
}

void auth_save(const struct auth *a, auth_emit *emit, void *arg)
{
    struct buf b = {0};
    uint8_t revision[8];

    emit(arg, AUTH_BUCKET_AUTH, STR(KEY_ENABLED),
         a->enabled ? STR("\1") : STR("\0"));
    put_u64be(revision, a->revision);
    emit(arg, AUTH_BUCKET_AUTH, STR(KEY_REVISION),
         (struct str){(char *)revision, sizeof(revision)});
    for (size_t i = 0; i < a->roles.n; i++) {
        buf_clear(&b);
        encode_role(&b, auth_role_at(a, i));
        emit(arg, AUTH_BUCKET_ROLES, *a->roles.items[i], buf_str(&b));
    }
    for (size_t i = 0; i < a->users.n; i++) {
        buf_clear(&b);
        encode_user(&b, auth_user_at(a, i));
        emit(arg, AUTH_BUCKET_USERS, *a->users.items[i], buf_str(&b));
        wipe(b.data, b.len);
    }
    buf_release(&b);
}

static int restore_auth(struct auth *a, struct str key, struct str value)
{
    if (str_eqz(key, KEY_ENABLED)) {
        if (value.n != 1 || (unsigned char)value.p[0] > 1)
            return AUTH_CORRUPT;
        a->enabled = value.p[0] == 1;
    } else if (str_eqz(key, KEY_REVISION)) {
        if (value.n != 8)
            return AUTH_CORRUPT;
        a->revision = max_u64(1, get_u64be((const uint8_t *)value.p));
    }
    return 0;
}

/* 3.4 may write two for one range: together they grant what both do. */
static int joined_type(int x, int y)
{
    if (x == y || y < AUTH_PERM_READ || y > AUTH_PERM_READWRITE)
        return x;
    if (x < AUTH_PERM_READ || x > AUTH_PERM_READWRITE)
        return y;
    return AUTH_PERM_READWRITE;
}

static int decode_permission(struct role *r, struct str s)
{
    uint64_t type = 0;
    struct auth_permission p = {0}, *have;
    const struct pb_target targets[] = {
        [1] = {.u64 = &type},
        [2] = {.bytes = &p.key},
        [3] = {.bytes = &p.range_end},
    };
    size_t at;

    if (pb_read(s.p, s.n, targets, ARRAY_LEN(targets)) < 0)
        return AUTH_CORRUPT;
    p.type = (int)(int32_t)(uint32_t)type;
    have = find_permission(r, p.key, p.range_end, &at);
    if (have)
        have->type = joined_type(have->type, p.type);
    else
        insert_permission(r, at, &p);
    return 0;
}

static int decode_role(struct role *r, struct str value)
{
    struct pb_reader in = pb_reader(value.p, value.n);
    struct pb_field f;
    int rc;

    while ((rc = pb_next(&in, &f)) > 0) {
        if (f.number != 1 && f.number != 2)
            continue;
        if (f.wire != PB_BYTES)
            return AUTH_CORRUPT;
        if (f.number == 1 && !str_eq(f.bytes, r->pub.name))
            return AUTH_CORRUPT;
        if (f.number == 2 && decode_permission(r, f.bytes) < 0)
            return AUTH_CORRUPT;
    }
    return rc < 0 ? AUTH_CORRUPT : 0;
}

static int decode_options(struct user *u, struct str s)
{
    uint64_t no_password = 0;
    const struct pb_target targets[] = {[1] = {.u64 = &no_password}};

    if (pb_read(s.p, s.n, targets, ARRAY_LEN(targets)) < 0)
        return AUTH_CORRUPT;
    u->pub.no_password = no_password != 0;
    return 0;
}

static int decode_user_field(struct user *u, const struct pb_field *f)
{
    if (f->number < 1 || f->number > 4)
        return 0;
    if (f->wire != PB_BYTES)
        return AUTH_CORRUPT;
    if (f->number == 1 && !str_eq(f->bytes, u->pub.name))
        return AUTH_CORRUPT;
    if (f->number == 2) {
        drop_secret(u->pub.password);
        u->pub.password = copy(f->bytes);
    }
    if (f->number == 3 && !auth_has_role(&u->pub, f->bytes))
        add_role(u, f->bytes);
    return f->number == 4 ? decode_options(u, f->bytes) : 0;
}

static int decode_user(struct user *u, struct str value)
{
    struct pb_reader in = pb_reader(value.p, value.n);
    struct pb_field f;
    int rc;

    while ((rc = pb_next(&in, &f)) > 0) {
        if (decode_user_field(u, &f) < 0)
            return AUTH_CORRUPT;
    }
    return rc < 0 ? AUTH_CORRUPT : 0;
}

static int restore_role(struct auth *a, struct str key, struct str value)
{
    struct role *r;
    size_t at;

    if (key.n == 0 || auth_names_find(&a->roles, key, &at))
        return AUTH_CORRUPT;
    r = new_role(key);
    names_insert(&a->roles, at, &r->pub.name);
    return decode_role(r, value);
}

static int restore_user(struct auth *a, struct str key, struct str value)
{
    struct user *u;
    size_t at;

    if (key.n == 0 || auth_names_find(&a->users, key, &at))
        return AUTH_CORRUPT;
    u = new_user(key, STR(""), false);
    names_insert(&a->users, at, &u->pub.name);
    return decode_user(u, value);
}

int auth_restore(struct auth *a, enum auth_bucket bucket, struct str key,
                 struct str value)
{
    a->epoch++;
    if (bucket == AUTH_BUCKET_AUTH)
        return restore_auth(a, key, value);
    if (bucket == AUTH_BUCKET_ROLES)
        return restore_role(a, key, value);
    return restore_user(a, key, value);
}

/* --- For tests. ------------------------------------------------------------------------------ */

static void check_order(const struct auth_names *t)
{
    for (size_t i = 1; i < t->n; i++)
        assert(str_cmp(*t->items[i - 1], *t->items[i]) < 0);
}

static size_t check_user(const struct user *u)
{
    size_t n = 0;

    assert(u->pub.roles == u->roles);
    for (size_t i = 1; i < u->pub.n_roles; i++)
        assert(str_cmp(u->roles[i - 1], u->roles[i]) < 0);
    for (const struct auth_token *t = u->tokens; t; t = t->next_own, n++)
        assert(t->user == u);
    return n;
}

void auth_check(const struct auth *a)
{
    size_t n_tokens = 0, n_used = 0;

    check_order(&a->users);
    check_order(&a->roles);
    for (size_t i = 0; i < a->users.n; i++)
        n_tokens += check_user((struct user *)a->users.items[i]);
    for (size_t i = 0; i < a->roles.n; i++) {
        const struct auth_role *r = auth_role_at(a, i);

        for (size_t k = 1; k < r->n_permissions; k++)
            assert(str_cmp(r->permissions[k - 1].key, r->permissions[k].key) <=
                   0);
    }
    for (const struct auth_token *t = a->oldest; t; t = t->next, n_used++)
        assert(t->next ? t->next->prev == t : a->newest == t);
    assert(n_tokens == a->n_tokens && n_used == a->n_tokens);
    assert(a->n_tokens <= AUTH_TOKENS_MAX);
    assert(a->enabled || a->n_tokens == 0);
}
