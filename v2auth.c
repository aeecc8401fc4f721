/*
 * v2auth.c - users, roles and access checks of the v2 API.
 *
 * STATE  stands in the replicated store and nowhere else:
 *
 *   /2/enabled      true | false
 *   /2/users/NAME   {"user":"bob","password":"$2a$10$...","roles":["r1"]}
 *   /2/roles/NAME   {"role":"r1","permissions":{"kv":{"read":["/a*"],...}}}
 *
 * The role root is built in and may do everything. A list is null or an array
 * in these files and in answers, and the difference is kept, as clients see
 * it.
 *
 * READING  An access check reads the local store: a revoked right may work on
 * a lagging member for a moment, as in etcd. A change first waits until this
 * member has applied all that was acknowledged (server_read_index()), and is
 * then written by compare-and-swap against the very bytes that it was
 * computed from: of two changes at once none is lost.
 *
 * NAMES  come from clients and become paths: one that holds a slash, or is
 * "." or "..", names nothing. Without that rule a user "../../1/key" would be
 * read from a key that anybody can write.
 *
 * PASSWORDS  are bcrypt hashes; a check costs as much as the hash was made to
 * cost, some 70 ms, on each request. So a small table remembers checks that
 * succeeded: the hash from the store, and SHA-1 of a secret salt and the
 * password. Why that is sound: an entry counts only together with the hash
 * that is in the store now, so it dies with any change of the password. The
 * salt is random, made anew by each process, and never leaves it, and SHA-1 is
 * asked for resistance to second preimages only, which still holds: to be let
 * in, a guess must collide with a digest that nobody has seen. Who can read
 * this process's memory can also read the passwords as they arrive. Failed
 * checks are not remembered: they always cost a guesser full price.
 */
#include "crypto.h"
#include "hash.h"
#include "json.h"
#include "log.h"
#include "sys.h"
#include "url.h"
#include "v2.h"

#include <stdio.h>

#define BODY_MAX (1024 * 1024)
#define NAMES_MAX 10000 /* in one list of a request */
#define UPDATE_TRIES 10
#define READ_INDEX_MS 5000
#define CHECKED_MAX 64 /* remembered passwords */

#define ROOT "root"
#define GUEST "guest"
#define NO_RIGHTS "Insufficient credentials"

/* --- Lists of names. ---------------------------------------------------- */

struct names {
    struct str *v; /* owned; the strings are borrowed from JSON or literals */
    size_t n, cap;
    bool null;
};

static void names_release(struct names *l)
{
    free(l->v);
    *l = (struct names){0};
}

static void names_insert(struct names *l, size_t at, struct str name)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 8;
        l->v = xrealloc(l->v, l->cap * sizeof(*l->v));
    }
    memmove(l->v + at + 1, l->v + at, (l->n - at) * sizeof(*l->v));
    l->v[at] = name;
    l->n++;
    l->null = false;
}

static bool names_contain(const struct names *l, struct str name)
{
    for (size_t i = 0; i < l->n; i++)
        if (str_eq(l->v[i], name))
            return true;
    return false;
}

/* Where name stands, or would stand, in a sorted list. */
static size_t names_find(const struct names *l, struct str name, bool *found)
{
    size_t low = 0, high = l->n;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (str_cmp(l->v[mid], name) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    *found = low < l->n && str_eq(l->v[low], name);
    return low;
}

static bool names_eq(const struct names *a, const struct names *b)
{
    if (a->null != b->null || a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (!str_eq(a->v[i], b->v[i]))
            return false;
    return true;
}

/* null or absent, or an array of strings; false if it is anything else. */
static bool names_parse(struct names *out, const struct json *j)
{
    *out = (struct names){.null = true};
    if (!j || j->type == JSON_NULL)
        return true;
    if (j->type != JSON_ARRAY || j->n > NAMES_MAX)
        return false;
    out->null = false;
    for (const struct json *e = j->first; e; e = e->next) {
        if (e->type != JSON_STRING && e->type != JSON_NULL)
            return false;
        names_insert(out, out->n, json_text(e, ""));
    }
    return true;
}

static void names_json(struct buf *b, const struct names *l)
{
    if (l->null) {
        buf_adds(b, "null");
        return;
    }
    buf_addc(b, '[');
    for (size_t i = 0; i < l->n; i++) {
        if (i)
            buf_addc(b, ',');
        json_add_string(b, l->v[i]);
    }
    buf_addc(b, ']');
}

/*
 * out = the set old + grant - revoke, sorted. Returns the first name of grant
 * that was there already, or the first of revoke that was not, else NULL.
 */
struct change {
    const struct str *duplicate, *missing;
};

static struct change names_change(struct names *out, const struct names *old,
                                  const struct names *grant,
                                  const struct names *revoke)
{
    struct change c = {NULL, NULL};
    bool found;
    size_t at;

    *out = (struct names){0};
    for (size_t i = 0; i < old->n; i++) {
        at = names_find(out, old->v[i], &found);
        if (!found)
            names_insert(out, at, old->v[i]);
    }
    for (size_t i = 0; i < grant->n; i++) {
        at = names_find(out, grant->v[i], &found);
        if (!found)
            names_insert(out, at, grant->v[i]);
        else if (!c.duplicate)
            c.duplicate = &grant->v[i];
    }
    for (size_t i = 0; i < revoke->n; i++) {
        at = names_find(out, revoke->v[i], &found);
        if (found)
            memmove(out->v + at, out->v + at + 1,
                    (--out->n - at) * sizeof(*out->v));
        else if (!c.missing)
            c.missing = &revoke->v[i];
    }
    return c;
}

/* --- Users and roles as JSON. ------------------------------------------- */

struct rights {
    struct names read, write;
};

struct user {
    struct json *json; /* owned; the strings stand in it */
    struct str name, password;
    struct names roles, grant, revoke;
};

struct role {
    struct json *json; /* owned; NULL for the built-in root */
    struct str name;
    struct rights permissions, grant, revoke;
};

static void rights_release(struct rights *r)
{
    names_release(&r->read);
    names_release(&r->write);
}

static void user_release(struct user *u)
{
    names_release(&u->roles);
    names_release(&u->grant);
    names_release(&u->revoke);
    json_free(u->json);
    *u = (struct user){0};
}

static void role_release(struct role *r)
{
    rights_release(&r->permissions);
    rights_release(&r->grant);
    rights_release(&r->revoke);
    json_free(r->json);
    *r = (struct role){0};
}

/* As Go decodes a struct: null is like absent, another type is an error. */
static bool text_field(const struct json *object, const char *name,
                       struct str *out)
{
    const struct json *j = json_get(object, name);

    *out = json_text(j, "");
    return !j || j->type == JSON_STRING || j->type == JSON_NULL;
}

static bool object_field(const struct json *object, const char *name,
                         const struct json **out)
{
    *out = object ? json_get(object, name) : NULL;
    if (*out && (*out)->type == JSON_NULL)
        *out = NULL;
    return !*out || (*out)->type == JSON_OBJECT;
}

/* {"kv":{"read":[...],"write":[...]}} */
static bool rights_field(const struct json *object, const char *name,
                         struct rights *out)
{
    const struct json *rights, *kv;

    *out = (struct rights){.read = {.null = true}, .write = {.null = true}};
    if (!object_field(object, name, &rights) ||
        !object_field(rights, "kv", &kv))
        return false;
    return !kv || (names_parse(&out->read, json_get(kv, "read")) &&
                   names_parse(&out->write, json_get(kv, "write")));
}

static bool user_parse(struct user *u, struct str text)
{
    *u = (struct user){0};
    if (json_parse(text.p, text.n, &u->json, NULL) < 0 ||
        (u->json->type != JSON_OBJECT && u->json->type != JSON_NULL))
        return false;
    return text_field(u->json, "user", &u->name) &&
           text_field(u->json, "password", &u->password) &&
           names_parse(&u->roles, json_get(u->json, "roles")) &&
           names_parse(&u->grant, json_get(u->json, "grant")) &&
           names_parse(&u->revoke, json_get(u->json, "revoke"));
}

static bool role_parse(struct role *r, struct str text)
{
    *r = (struct role){0};
    if (json_parse(text.p, text.n, &r->json, NULL) < 0 ||
        (r->json->type != JSON_OBJECT && r->json->type != JSON_NULL))
        return false;
    return text_field(r->json, "role", &r->name) &&
           rights_field(r->json, "permissions", &r->permissions) &&
           rights_field(r->json, "grant", &r->grant) &&
           rights_field(r->json, "revoke", &r->revoke);
}

/* password: the hash for the store, or NULL to leave the field out. */
static void user_json(struct buf *b, struct str name, const char *password,
                      const struct names *roles)
{
    buf_adds(b, "{\"user\":");
    json_add_string(b, name);
    if (password) {
        buf_adds(b, ",\"password\":");
        json_add_string(b, str_of(password));
    }
    buf_adds(b, ",\"roles\":");
    names_json(b, roles);
    buf_addc(b, '}');
}

static void role_json(struct buf *b, struct str name, const struct rights *r)
{
    buf_adds(b, "{\"role\":");
    json_add_string(b, name);
    buf_adds(b, ",\"permissions\":{\"kv\":{\"read\":");
    names_json(b, &r->read);
    buf_adds(b, ",\"write\":");
    names_json(b, &r->write);
    buf_adds(b, "}}}");
}

/* The user root has the role root, whatever is stored. */
static void attach_root(struct user *u)
{
    if (str_eqz(u->name, ROOT) && !names_contain(&u->roles, STR(ROOT)))
        names_insert(&u->roles, u->roles.n, STR(ROOT));
}

/* --- Reading the store. ------------------------------------------------- */

static bool is_name(struct str name)
{
    return name.n && !memchr(name.p, '/', name.n) && !str_eqz(name, ".") &&
           !str_eqz(name, "..");
}

/* The file of a user ("users") or role; NULL if there is none. Owned. */
static struct blob *load(struct server *s, const char *dir, struct str name)
{
    struct blob *value = NULL;
    struct buf path = {0};

    if (!is_name(name))
        return NULL;
    buf_printf(&path, "/2/%s/", dir);
    buf_addstr(&path, name);
    server_v2_peek(s, buf_str(&path), &value);
    buf_release(&path);
    return value;
}

/* False: no such user. u is to be released either way. */
static bool load_user(struct server *s, struct str name, struct user *u)
{
    struct blob *value = load(s, "users", name);
    bool ok = false;

    *u = (struct user){0};
    if (value)
        ok = user_parse(u, blob_str(value));
    blob_unref(value);
    if (ok)
        attach_root(u);
    return ok;
}

static bool load_role(struct server *s, struct str name, struct role *r)
{
    struct blob *value;
    bool ok = false;

    *r = (struct role){0};
    if (str_eqz(name, ROOT)) {
        r->name = STR(ROOT);
        names_insert(&r->permissions.read, 0, STR("/*"));
        names_insert(&r->permissions.write, 0, STR("/*"));
        return true;
    }
    value = load(s, "roles", name);
    if (value)
        ok = role_parse(r, blob_str(value));
    blob_unref(value);
    return ok;
}

/* --- Passwords. --------------------------------------------------------- */

static pthread_mutex_t checked_mu = PTHREAD_MUTEX_INITIALIZER;
static struct {
    char hash[BCRYPT_HASH_SIZE]; /* "" in an unused entry */
    uint8_t digest[SHA1_SIZE];
} checked[CHECKED_MAX];          /* checked_mu; found by the digest */
static uint8_t checked_salt[32]; /* checked_mu */
static bool checked_ready;       /* checked_mu; the salt has been drawn */

static void salted_digest(struct str password, uint8_t out[SHA1_SIZE])
{
    struct buf b = {0};

    pthread_mutex_lock(&checked_mu);
    if (!checked_ready)
        sys_random(checked_salt, sizeof(checked_salt));
    checked_ready = true;
    buf_add(&b, checked_salt, sizeof(checked_salt));
    pthread_mutex_unlock(&checked_mu);
    buf_reserve(&b, password.n);
    buf_addstr(&b, password);
    hash_once(HASH_SHA1, b.data, b.len, out);
    explicit_bzero(b.data, b.len);
    buf_release(&b);
}

static bool check_password(struct str password, struct str hash)
{
    uint8_t digest[SHA1_SIZE];
    size_t slot;
    bool ok;

    if (hash.n != BCRYPT_HASH_SIZE - 1)
        return false;
    salted_digest(password, digest);
    slot = digest[0] % CHECKED_MAX;
    pthread_mutex_lock(&checked_mu);
    ok = str_eqz(hash, checked[slot].hash) &&
         ct_eq(digest, checked[slot].digest, SHA1_SIZE);
    pthread_mutex_unlock(&checked_mu);
    if (ok || !bcrypt_check(password, hash))
        return ok;

    pthread_mutex_lock(&checked_mu);
    memcpy(checked[slot].hash, hash.p, hash.n);
    checked[slot].hash[hash.n] = '\0';
    memcpy(checked[slot].digest, digest, SHA1_SIZE);
    pthread_mutex_unlock(&checked_mu);
    return true;
}

static void hash_password(struct server *s, struct str password,
                          char out[BCRYPT_HASH_SIZE])
{
    uint8_t salt[16];

    sys_random(salt, sizeof(salt));
    bcrypt_hash(password, (int)server_config(s)->bcrypt_cost, salt, out);
}

/* --- Access. ------------------------------------------------------------ */

/* "Basic " and base64 of user:password (RFC 7617); b holds the text. */
static bool basic_credentials(struct str header, struct buf *b,
                              struct str *name, struct str *password)
{
    struct str scheme;

    if (!str_cut(&header, ' ', &scheme) || !str_caseeqz(scheme, "basic") ||
        base64_decode(b, header) < 0)
        return false;
    *password = buf_str(b);
    return str_cut(password, ':', name);
}

/* The user whose name and password the header gives; u is to be released. */
static bool authenticate(struct server *s, struct str header, struct user *u)
{
    struct str name, password;
    char shown[V2_SHOWN_MAX];
    struct buf b = {0};
    bool ok = false;

    *u = (struct user){0};
    if (!basic_credentials(header, &b, &name, &password)) {
        log_warn("auth", "malformed basic auth encoding");
    } else if (load_user(s, name, u)) {
        ok = check_password(password, u->password);
        if (!ok)
            log_warn("auth", "incorrect password for user: %s",
                     v2_shown(shown, name));
    }
    if (b.len)
        explicit_bzero(b.data, b.len);
    buf_release(&b);
    return ok;
}

/* A pattern that ends in * stands for all that begin so; only such a one
 * covers a whole tree. */
static bool matches(struct str pattern, struct str key, bool recursive)
{
    if (pattern.n == 0 || pattern.p[pattern.n - 1] != '*')
        return !recursive && str_eq(pattern, key);
    pattern.n--;
    return key.n >= pattern.n &&
           str_eq(pattern, (struct str){key.p, pattern.n});
}

static bool role_allows(struct server *s, struct str name, struct str key,
                        bool write, bool recursive)
{
    const struct names *patterns;
    struct role r;
    bool ok = false;

    if (load_role(s, name, &r)) {
        patterns = write ? &r.permissions.write : &r.permissions.read;
        ok = str_eqz(r.name, ROOT);
        for (size_t i = 0; i < patterns->n && !ok; i++)
            ok = matches(patterns->v[i], key, recursive);
    }
    role_release(&r);
    return ok;
}

/*
 * Whom the request comes from: by its header, or without one by the client's
 * certificate. False: nobody; *guest tells if that is for want of both. u is to
 * be released.
 */
static bool identify(struct server *s, struct http_exchange *x, struct user *u,
                     bool *guest)
{
    struct str header = http_header(http_request(x), "Authorization");
    struct str cn = net_peer_cn(http_stream(x));

    *guest = false;
    if (header.n)
        return authenticate(s, header, u);
    *u = (struct user){0};
    if (server_config(s)->client_tls.client_cert_auth && cn.n &&
        load_user(s, cn, u))
        return true;
    *guest = true;
    return false;
}

bool v2auth_key_allowed(struct server *s, struct http_exchange *x,
                        struct str path, bool write, bool recursive)
{
    char user[V2_SHOWN_MAX], key[V2_SHOWN_MAX];
    bool known, guest, ok = false;
    struct user u;

    if (!server_v2_auth_on(s))
        return true;
    known = identify(s, x, &u, &guest);
    if (guest) {
        /* As in etcd, a guest's exact pattern covers the tree below it. */
        ok = role_allows(s, STR(GUEST), path, write, false);
        if (!ok)
            log_warn("auth",
                     "invalid access for unauthenticated user on resource "
                     "%s.",
                     v2_shown(key, path));
    } else if (known) {
        for (size_t i = 0; i < u.roles.n && !ok; i++)
            ok = role_allows(s, u.roles.v[i], path, write, recursive);
        if (!ok)
            log_warn("auth", "invalid access for user %s on key %s.",
                     v2_shown(user, u.name), v2_shown(key, path));
    }
    user_release(&u);
    return ok;
}

bool v2auth_is_root(struct server *s, struct http_exchange *x)
{
    char user[V2_SHOWN_MAX], path[V2_SHOWN_MAX];
    struct user u;
    bool guest, ok;

    if (!server_v2_auth_on(s))
        return true;
    ok = identify(s, x, &u, &guest);
    if (ok && !names_contain(&u.roles, STR(ROOT))) {
        log_warn("auth", "user %s does not have the root role for resource %s.",
                 v2_shown(user, u.name), v2_shown(path, http_path(x)));
        ok = false;
    }
    user_release(&u);
    return ok;
}

/* --- Writing the store. ------------------------------------------------- */

/* What a request does; each handler answers x itself. */
struct context {
    struct server *s;
    struct http_exchange *x;
};

/* {"message":"auth: ..."}; in fmt $1 stands for a and $2 for b. */
static void auth_error(const struct context *c, int status, const char *fmt,
                       struct str a, struct str b)
{
    struct buf text = {0};

    for (const char *f = fmt; *f; f++) {
        if (*f != '$')
            buf_addc(&text, *f);
        else
            buf_addstr(&text, *++f == '1' ? a : b);
    }
    v2_message_named(c->x, status, "auth: ", buf_str(&text));
    buf_release(&text);
}

/* "created user bob" */
static void log_change(const char *what, struct str name)
{
    char shown[V2_SHOWN_MAX];

    log_notice("auth", "%s %s", what, v2_shown(shown, name));
}

static void reply(const struct context *c, int status, const struct buf *b)
{
    http_reply(c->x, status, "application/json", b->data, b->len);
}

/* All that was acknowledged is applied here. False: an error was answered. */
static bool catch_up(const struct context *c)
{
    int rc = server_read_index(c->s, READ_INDEX_MS);

    if (rc < 0)
        v2_internal_error(c->x, server_error_text(rc));
    return rc == 0;
}

/* Answer what is no expected outcome of a write. */
static void unexpected(const struct context *c, const struct v2_result *out)
{
    if (out->code == STORE_RAFT_INTERNAL)
        v2_internal_error(c->x, out->error.cause ? out->error.cause : "");
    else
        v2_error(c->x, &out->error);
}

/* Propose; returns the code. out is to be released. */
static int propose(const struct context *c, struct v2_request *r,
                   struct v2_result *out)
{
    server_v2_write(c->s, r, out);
    return out->code;
}

/* The directories, once for the cluster's life. The code of a failure was
 * answered. */
static bool ensure_directories(const struct context *c)
{
    static const char *const paths[] = {"/2", "/2/users", "/2/roles",
                                        "/2/enabled"};
    struct blob *value;
    int code = 0;

    if (server_v2_peek(c->s, STR("/2/enabled"), &value)) {
        blob_unref(value);
        return true;
    }
    for (size_t i = 0; i < ARRAY_LEN(paths) && code == 0; i++) {
        bool dir = i + 1 < ARRAY_LEN(paths);
        struct v2_request r = {.method = STR("PUT"),
                               .path = str_of(paths[i]),
                               .val = dir ? STR("") : STR("false"),
                               .dir = dir,
                               .prev_value = STR(""),
                               .prev_exist = TRI_FALSE};
        struct v2_result out;

        code = propose(c, &r, &out);
        if (code == STORE_NODE_EXIST) /* another member was quicker */
            code = 0;
        if (code) {
            log_error("auth",
                      "failed to create auth directories in the store (%s)",
                      store_error_message(code));
            unexpected(c, &out);
        }
        v2_result_release(&out);
    }
    return code == 0;
}

/*
 * Write a file. old: what it must hold now; NULL: it must not exist yet.
 * 0, or the code, which has been answered unless it is `expected`.
 */
static int put_file(const struct context *c, const char *dir, struct str name,
                    const struct buf *value, const struct blob *old,
                    int expected)
{
    struct buf path = {0};
    struct v2_request r = {.method = STR("PUT"),
                           .val = buf_str(value),
                           .prev_value = blob_str(old),
                           .prev_exist = old ? TRI_TRUE : TRI_FALSE};
    struct v2_result out;
    int code;

    buf_printf(&path, "/2/%s/", dir);
    buf_addstr(&path, name);
    r.path = buf_str(&path);
    code = propose(c, &r, &out);
    if (code && code != expected)
        unexpected(c, &out);
    v2_result_release(&out);
    buf_release(&path);
    return code;
}

/* 0, or the code, answered unless it is STORE_KEY_NOT_FOUND. As etcd does, it
 * makes the directories even then: all later indexes count them. */
static int delete_file(const struct context *c, const char *dir,
                       struct str name)
{
    struct buf path = {0};
    struct v2_request r = {
        .method = STR("DELETE"), .val = STR(""), .prev_value = STR("")};
    struct v2_result out;
    int code;

    if (!ensure_directories(c))
        return -1;
    buf_printf(&path, "/2/%s/", dir);
    buf_addstr(&path, name);
    r.path = buf_str(&path);
    code = propose(c, &r, &out);
    if (code && code != STORE_KEY_NOT_FOUND)
        unexpected(c, &out);
    v2_result_release(&out);
    buf_release(&path);
    return code;
}

/* --- /v2/auth/enable. --------------------------------------------------- */

/* 0, or a code that has been answered; STORE_NODE_EXIST only if expected. */
static int create_role(const struct context *c, struct str name,
                       const struct rights *rights)
{
    struct buf value = {0};
    int code;

    role_json(&value, name, rights);
    code = put_file(c, "roles", name, &value, NULL, STORE_NODE_EXIST);
    buf_release(&value);
    if (code == 0)
        log_change("created new role", name);
    return code;
}

static bool ensure_guest(const struct context *c)
{
    struct rights all = {{0}, {0}};
    struct role r;
    bool exists = load_role(c->s, STR(GUEST), &r);
    int code = 0;

    role_release(&r);
    if (exists)
        return true;
    log_info("auth", "no guest role access found, creating default");
    names_insert(&all.read, 0, STR("/*"));
    names_insert(&all.write, 0, STR("/*"));
    code = create_role(c, STR(GUEST), &all);
    rights_release(&all);
    return code == 0 || code == STORE_NODE_EXIST;
}

static void set_enabled(const struct context *c, bool on)
{
    struct v2_request r = {.method = STR("PUT"),
                           .path = STR("/2/enabled"),
                           .val = on ? STR("true") : STR("false"),
                           .prev_value = STR(""),
                           .prev_exist = TRI_TRUE};
    struct buf empty = {0};
    struct v2_result out;

    if (propose(c, &r, &out)) {
        log_error("auth", "error %s auth", on ? "enabling" : "disabling");
        unexpected(c, &out);
    } else {
        log_notice("auth", "%s auth", on ? "enabled" : "disabled");
        reply(c, 200, &empty);
    }
    v2_result_release(&out);
}

static void enable(const struct context *c)
{
    bool fresh = server_read_index(c->s, READ_INDEX_MS) == 0, exists;
    struct user u;

    if (server_v2_auth_on(c->s)) {
        auth_error(c, 409, "already enabled", STR(""), STR(""));
        return;
    }
    exists = load_user(c->s, STR(ROOT), &u);
    user_release(&u);
    if (!exists || !fresh) /* etcd, too, says so if nobody can tell */
        auth_error(c, 409, "No root user available, please create one", STR(""),
                   STR(""));
    else if (ensure_directories(c) && ensure_guest(c))
        set_enabled(c, true);
}

static void disable(const struct context *c)
{
    if (!catch_up(c))
        return;
    if (!server_v2_auth_on(c->s))
        auth_error(c, 409, "already disabled", STR(""), STR(""));
    else
        set_enabled(c, false);
}

static void show_enabled(const struct context *c)
{
    struct buf b = {0};

    buf_printf(&b, "{\"enabled\":%s}\n",
               server_v2_auth_on(c->s) ? "true" : "false");
    reply(c, 200, &b);
    buf_release(&b);
}

/* --- Users. ------------------------------------------------------------- */

/*
 * {"user":NAME,"roles":[whole roles]}; no roles key if there are none. A role
 * that does not exist is left out, or, if *missing is wanted, named there.
 */
static bool user_page(const struct context *c, struct buf *b,
                      const struct user *u, struct str *missing)
{
    bool any = false;

    buf_adds(b, "{\"user\":");
    json_add_string(b, u->name);
    for (size_t i = 0; i < u->roles.n; i++) {
        struct role r;
        bool exists = load_role(c->s, u->roles.v[i], &r);

        if (exists) {
            buf_adds(b, any ? "," : ",\"roles\":[");
            role_json(b, r.name, &r.permissions);
            any = true;
        }
        role_release(&r);
        if (!exists && missing) {
            *missing = u->roles.v[i];
            return false;
        }
    }
    buf_adds(b, any ? "]}" : "}");
    return true;
}

static void list_users(const struct context *c)
{
    char **names;
    size_t n = server_v2_list(c->s, STR("/2/users"), &names), shown = 0;
    struct buf b = {0};

    buf_adds(&b, "{\"users\":");
    for (size_t i = 0; i < n; i++) {
        struct user u;

        if (load_user(c->s, str_of(names[i]), &u)) {
            buf_addc(&b, shown++ ? ',' : '[');
            user_page(c, &b, &u, NULL);
        }
        user_release(&u);
    }
    buf_adds(&b, shown ? "]}\n" : "null}\n");
    reply(c, 200, &b);
    buf_release(&b);
    sys_free_list(names, n);
}

static void no_such_user(const struct context *c, struct str name)
{
    auth_error(c, 404, "User $1 does not exist.", name, STR(""));
}

static void no_such_role(const struct context *c, struct str name)
{
    auth_error(c, 404, "Role $1 does not exist.", name, STR(""));
}

static void get_user(const struct context *c, struct str name)
{
    struct str missing;
    struct buf b = {0};
    struct user u;

    if (!load_user(c->s, name, &u)) {
        no_such_user(c, name);
    } else if (!user_page(c, &b, &u, &missing)) {
        no_such_role(c, missing);
    } else {
        buf_addc(&b, '\n');
        reply(c, 200, &b);
    }
    buf_release(&b);
    user_release(&u);
}

static void reply_user(const struct context *c, int status, struct str name,
                       const struct names *roles)
{
    struct buf b = {0};

    user_json(&b, name, NULL, roles);
    buf_addc(&b, '\n');
    reply(c, status, &b);
    buf_release(&b);
}

static void create_user(const struct context *c, struct user *in, int status)
{
    char hash[BCRYPT_HASH_SIZE];
    struct buf value = {0};
    int code;

    attach_root(in);
    if (in->password.n == 0) {
        auth_error(c, 400, "Cannot create user $1 with an empty password",
                   in->name, STR(""));
        return;
    }
    if (!ensure_directories(c))
        return;
    hash_password(c->s, in->password, hash);
    user_json(&value, in->name, hash, &in->roles);
    code = put_file(c, "users", in->name, &value, NULL, STORE_NODE_EXIST);
    buf_release(&value);
    if (code == STORE_NODE_EXIST) {
        auth_error(c, 409, "User $1 already exists.", in->name, STR(""));
    } else if (code == 0) {
        log_change("created user", in->name);
        reply_user(c, status, in->name, &in->roles);
    }
}

/*
 * One try to change a user by grant, revoke and password (hash, or NULL to
 * keep the old). Returns STORE_TEST_FAILED if the file changed meanwhile;
 * else the request has been answered.
 */
static int try_update_user(const struct context *c, const struct user *in,
                           const char *hash)
{
    struct blob *file = load(c->s, "users", in->name);
    struct names roles = {0};
    struct buf value = {0};
    struct change change;
    struct user old = {0};
    char *kept = NULL;
    int code = 0;

    if (!file || !user_parse(&old, blob_str(file))) {
        no_such_user(c, in->name);
        goto out;
    }
    attach_root(&old);
    change = names_change(&roles, &old.roles, &in->grant, &in->revoke);
    if (change.duplicate) {
        auth_error(c, 409, "Granting duplicate role $1 for user $2",
                   *change.duplicate, in->name);
        goto out;
    }
    if (change.missing) {
        auth_error(c, 409, "Revoking ungranted role $1 for user $2",
                   *change.missing, in->name);
        goto out;
    }
    if (!hash && names_eq(&roles, &old.roles)) {
        auth_error(c, 400,
                   "User not updated. Use grant/revoke/password to update "
                   "the user.",
                   STR(""), STR(""));
        goto out;
    }
    kept = xstrndup(old.password.p, old.password.n);
    user_json(&value, in->name, hash ? hash : kept, &roles);
    code = put_file(c, "users", in->name, &value, file, STORE_TEST_FAILED);
    if (code == 0) {
        log_change("updated user", in->name);
        reply_user(c, 200, in->name, &roles);
    }
out:
    free(kept);
    buf_release(&value);
    names_release(&roles);
    user_release(&old);
    blob_unref(file);
    return code;
}

static void update_user(const struct context *c, const struct user *in)
{
    char hash[BCRYPT_HASH_SIZE];

    if (in->password.n)
        hash_password(c->s, in->password, hash);
    for (int i = 0; i < UPDATE_TRIES; i++)
        if (try_update_user(c, in, in->password.n ? hash : NULL) !=
            STORE_TEST_FAILED)
            return;
    v2_internal_error(c->x, "the user is being changed by others");
}

static bool user_exists(const struct context *c, struct str name)
{
    struct user u;
    bool exists = load_user(c->s, name, &u);

    user_release(&u);
    return exists;
}

static void put_user(const struct context *c, struct str name, struct str body)
{
    struct user in;

    if (!user_parse(&in, body))
        v2_message(c->x, 400, "Invalid JSON in request body.");
    else if (!str_eq(in.name, name) || !is_name(name))
        v2_message(c->x, 400,
                   "User JSON name does not match the name in the URL");
    else if (in.roles.n && (in.grant.n || in.revoke.n))
        v2_message(c->x, 400, "User JSON contains both roles and grant/revoke");
    else if (!catch_up(c))
        ; /* answered */
    else if (in.grant.n || in.revoke.n)
        update_user(c, &in);
    else if (in.roles.n)
        create_user(c, &in, 200);
    else if (user_exists(c, name))
        update_user(c, &in);
    else
        create_user(c, &in, 201);
    user_release(&in);
}

static void delete_user(const struct context *c, struct str name)
{
    struct buf empty = {0};
    int code;

    if (str_eqz(name, ROOT) && server_v2_auth_on(c->s)) {
        auth_error(c, 403, "Cannot delete root user while auth is enabled.",
                   STR(""), STR(""));
        return;
    }
    code = is_name(name) ? delete_file(c, "users", name) : STORE_KEY_NOT_FOUND;
    if (code == STORE_KEY_NOT_FOUND) {
        auth_error(c, 404, "User $1 does not exist", name, STR(""));
    } else if (code == 0) {
        log_change("deleted user", name);
        reply(c, 200, &empty);
    }
}

/* --- Roles. ------------------------------------------------------------- */

static void list_roles(const struct context *c)
{
    char **files;
    size_t n = server_v2_list(c->s, STR("/2/roles"), &files), shown = 0;
    struct names names = {0};
    struct buf b = {0};
    bool found;
    size_t at;

    for (size_t i = 0; i < n; i++)
        names_insert(&names, names.n, str_of(files[i]));
    at = names_find(&names, STR(ROOT), &found);
    if (!found)
        names_insert(&names, at, STR(ROOT));

    buf_adds(&b, "{\"roles\":");
    for (size_t i = 0; i < names.n; i++) {
        struct role r;

        if (load_role(c->s, names.v[i], &r)) {
            buf_addc(&b, shown++ ? ',' : '[');
            role_json(&b, r.name, &r.permissions);
        }
        role_release(&r);
    }
    buf_adds(&b, "]}\n");
    reply(c, 200, &b);
    buf_release(&b);
    names_release(&names);
    sys_free_list(files, n);
}

static void reply_role(const struct context *c, int status, struct str name,
                       const struct rights *rights)
{
    struct buf b = {0};

    role_json(&b, name, rights);
    buf_addc(&b, '\n');
    reply(c, status, &b);
    buf_release(&b);
}

static void get_role(const struct context *c, struct str name)
{
    struct role r;

    if (load_role(c->s, name, &r))
        reply_role(c, 200, r.name, &r.permissions);
    else
        no_such_role(c, name);
    role_release(&r);
}

static bool is_root_role(const struct context *c, struct str name)
{
    if (!str_eqz(name, ROOT))
        return false;
    auth_error(c, 403, "Cannot modify role $1: is root role.", name, STR(""));
    return true;
}

static void add_role(const struct context *c, const struct role *in)
{
    int code;

    if (is_root_role(c, in->name) || !ensure_directories(c))
        return;
    code = create_role(c, in->name, &in->permissions);
    if (code == STORE_NODE_EXIST)
        auth_error(c, 409, "Role $1 already exists.", in->name, STR(""));
    else if (code == 0)
        reply_role(c, 201, in->name, &in->permissions);
}

/* As try_update_user(). Revoking what was not granted is no error. */
static int try_update_role(const struct context *c, const struct role *in)
{
    struct blob *file = load(c->s, "roles", in->name);
    struct change read, write;
    struct rights now = {{0}, {0}};
    struct buf value = {0};
    struct role old = {0};
    int code = 0;

    if (!file || !role_parse(&old, blob_str(file))) {
        no_such_role(c, in->name);
        goto out;
    }
    read = names_change(&now.read, &old.permissions.read, &in->grant.read,
                        &in->revoke.read);
    write = names_change(&now.write, &old.permissions.write, &in->grant.write,
                         &in->revoke.write);
    if (read.duplicate || write.duplicate) {
        auth_error(c, 409, "Granting duplicate $2 permission $1",
                   read.duplicate ? *read.duplicate : *write.duplicate,
                   read.duplicate ? STR("read") : STR("write"));
        goto out;
    }
    if (names_eq(&now.read, &old.permissions.read) &&
        names_eq(&now.write, &old.permissions.write)) {
        auth_error(c, 400,
                   "Role not updated. Use grant/revoke to update the role.",
                   STR(""), STR(""));
        goto out;
    }
    role_json(&value, in->name, &now);
    code = put_file(c, "roles", in->name, &value, file, STORE_TEST_FAILED);
    if (code == 0) {
        log_change("updated role", in->name);
        reply_role(c, 200, in->name, &now);
    }
out:
    buf_release(&value);
    rights_release(&now);
    role_release(&old);
    blob_unref(file);
    return code;
}

static void update_role(const struct context *c, const struct role *in)
{
    if (is_root_role(c, in->name))
        return;
    for (int i = 0; i < UPDATE_TRIES; i++)
        if (try_update_role(c, in) != STORE_TEST_FAILED)
            return;
    v2_internal_error(c->x, "the role is being changed by others");
}

static bool is_empty(const struct rights *r)
{
    return r->read.n == 0 && r->write.n == 0;
}

static void put_role(const struct context *c, struct str name, struct str body)
{
    struct role in;

    if (!role_parse(&in, body))
        v2_message(c->x, 400, "Invalid JSON in request body.");
    else if (!str_eq(in.name, name) || !is_name(name))
        v2_message(c->x, 400,
                   "Role JSON name does not match the name in the URL");
    else if (is_empty(&in.grant) && is_empty(&in.revoke))
        add_role(c, &in);
    else if (!is_empty(&in.permissions))
        v2_message(c->x, 400,
                   "Role JSON contains both permissions and grant/revoke");
    else if (catch_up(c))
        update_role(c, &in);
    role_release(&in);
}

static void delete_role(const struct context *c, struct str name)
{
    struct buf empty = {0};
    int code;

    if (is_root_role(c, name))
        return;
    code = is_name(name) ? delete_file(c, "roles", name) : STORE_KEY_NOT_FOUND;
    if (code == STORE_KEY_NOT_FOUND) {
        auth_error(c, 404, "Role $1 doesn't exist.", name, STR(""));
    } else if (code == 0) {
        log_change("deleted role", name);
        reply(c, 200, &empty);
    }
}

/* --- Routes. ------------------------------------------------------------ */

/* What differs between users and roles. */
struct collection {
    void (*list)(const struct context *c);
    void (*get)(const struct context *c, struct str name);
    void (*put)(const struct context *c, struct str name, struct str body);
    void (*delete_)(const struct context *c, struct str name);
};

static const struct collection users = {list_users, get_user, put_user,
                                        delete_user};
static const struct collection roles = {list_roles, get_role, put_role,
                                        delete_role};

static bool may_pass(const struct context *c)
{
    if (v2auth_is_root(c->s, c->x)) {
        v2_set_cluster_id(c->s, c->x);
        return true;
    }
    v2_message(c->x, 401, NO_RIGHTS);
    return false;
}

static void serve_enable(const struct context *c)
{
    if (!v2_allow(c->x, "GET,PUT,DELETE"))
        return;
    if (http_method_is(c->x, "GET")) { /* open to all */
        v2_set_cluster_id(c->s, c->x);
        show_enabled(c);
    } else if (may_pass(c)) {
        if (http_method_is(c->x, "PUT"))
            enable(c);
        else
            disable(c);
    }
}

static void serve_list(const struct context *c, const struct collection *k)
{
    struct form f = {0};
    struct err e;

    if (!v2_allow(c->x, "GET") || !may_pass(c))
        return;
    if (form_parse(&f, 1, http_query(c->x), &e) < 0)
        v2_internal_error(c->x, e.msg); /* as etcd has it */
    else
        k->list(c);
    form_release(&f);
}

static void serve_put(const struct context *c, const struct collection *k,
                      struct str name)
{
    struct buf body = {0};
    const char *why;

    if (http_read_body(c->x, &body, BODY_MAX, &why) < 0)
        v2_message(c->x, 400, "Invalid JSON in request body.");
    else
        k->put(c, name,
               (struct str){buf_z(&body), json_first(body.data, body.len)});
    if (body.len)
        explicit_bzero(body.data, body.len); /* it may hold a password */
    buf_release(&body);
}

static void serve_one(const struct context *c, const struct collection *k,
                      struct str name)
{
    if (!v2_allow(c->x, "GET,PUT,DELETE") || !may_pass(c))
        return;
    if (http_method_is(c->x, "GET"))
        k->get(c, name);
    else if (http_method_is(c->x, "PUT"))
        serve_put(c, k, name);
    else
        k->delete_(c, name);
}

/* Paths arrive clean: /v2/auth/KIND[/][NAME] */
void v2auth_handle(struct server *s, struct http_exchange *x)
{
    struct context c = {s, x};
    struct str rest = http_path(x), kind;
    size_t n = strlen("/v2/auth/");

    rest = (struct str){rest.p + n, rest.n - n};
    str_cut(&rest, '/', &kind);
    if (str_eqz(kind, "enable")) {
        serve_enable(&c);
        return;
    }
    if (rest.n && rest.p[rest.n - 1] == '/')
        rest.n--;
    if (rest.n == 0)
        serve_list(&c, str_eqz(kind, "users") ? &users : &roles);
    else if (memchr(rest.p, '/', rest.n))
        v2_message(x, 400, "Invalid path");
    else
        serve_one(&c, str_eqz(kind, "users") ? &users : &roles, rest);
}
