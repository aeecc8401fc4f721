/*
 * v3who.c - who asks: tokens, passwords, and the right to manage.
 *
 * A simple token is known to each member that has applied the entry which
 * assigned it; the entry's index is part of the token, so that one that has not
 * come so far can wait a moment. A signed one (--auth-token jwt) needs nothing
 * but the key.
 */
#include "log.h"
#include "rpcpb.h"
#include "server_impl.h"
#include "x509.h"

#define TOKEN_WAIT_MS 50 /* for an entry that others have applied already */
#define SECRET_MAX 65536

/* --- The option. ---------------------------------------------------------- */

static int read_key(struct str path, struct buf *out, struct err *e)
{
    char *z = xstrndup(path.p, path.n);
    int rc = sys_read_file(z, SECRET_MAX, out, e);

    free(z);
    return rc;
}

static int load_secret(struct server *s, struct err *e)
{
    if (read_key(s->jwt.priv_key, &s->jwt_secret, e) < 0)
        return -1;
    if (s->jwt_secret.len == 0)
        return err_set(e, -1, "--auth-token: the file of the key is empty");
    s->jwt_key = jwt_hmac(s->jwt.alg, buf_str(&s->jwt_secret));
    return 0;
}

/* Either half of a pair will do: with the private one alone the public one is
 * known, and with the public one alone tokens can be checked. */
static int load_keys(struct server *s, struct err *e)
{
    const struct jwt_options *o = &s->jwt;
    struct buf pem = {0};
    struct err why = {0};
    int rc = 0;

    if (o->priv_key.n) {
        s->jwt_private = xcalloc(1, sizeof(*s->jwt_private));
        rc = read_key(o->priv_key, &pem, &why);
        if (rc == 0)
            rc = x509_key_load(buf_str(&pem), s->jwt_private, &why);
        if (pem.data)
            explicit_bzero(pem.data, pem.cap);
    }
    buf_clear(&pem);
    if (rc == 0 && o->pub_key.n) {
        s->jwt_public = xcalloc(1, sizeof(*s->jwt_public));
        rc = read_key(o->pub_key, &pem, &why);
        if (rc == 0)
            rc = x509_public_load(buf_str(&pem), s->jwt_public, &why);
    }
    buf_release(&pem);
    if (rc < 0)
        return err_set(e, -1, "--auth-token: %s", why.msg);
    if (jwt_pk(&s->jwt_key, o->alg, s->jwt_public, s->jwt_private) < 0)
        return err_set(e, -1,
                       "--auth-token: the keys are not a pair, or not for %s",
                       jwt_alg_name(o->alg));
    return 0;
}

int v3_who_init(struct server *s, struct err *e)
{
    struct jwt_options *o = &s->jwt;
    const char *option = s->config->auth_token;

    if (!option)
        return 0; /* simple */
    if (jwt_parse_options(str_of(option), o, e) < 0)
        return -1;
    if (!o->jwt)
        return 0;
    return jwt_alg_is_hmac(o->alg) ? load_secret(s, e) : load_keys(s, e);
}

void v3_who_release(struct server *s)
{
    if (s->jwt_private)
        pk_wipe(s->jwt_private);
    free(s->jwt_private);
    free(s->jwt_public);
    if (s->jwt_secret.len)
        explicit_bzero(s->jwt_secret.data, s->jwt_secret.len);
    buf_release(&s->jwt_secret);
}

/* --- Who is it? ----------------------------------------------------------- */

static enum v3_error row_of(int rc)
{
    const char *text;
    int code;

    return v3_error_of_auth(rc, &text, &code);
}

/* The name, and the revision to go with it. */
static int signed_user(struct server *s, struct str token, struct buf *user,
                       uint64_t *revision)
{
    struct jwt_claims claims;

    if (jwt_verify(&s->jwt_key, token, sys_wall_ns() / NS_PER_S, user,
                   &claims) < 0)
        return AUTH_INVALID_TOKEN;
    *revision = claims.revision;
    return 0;
}

static int simple_user(struct server *s, struct str token, struct buf *user,
                       uint64_t *revision)
{
    uint64_t index;
    int rc;

    if (!auth_token_index(token, &index))
        return AUTH_INVALID_TOKEN;
    server_wait_applied(s, index, sys_mono_ns() + TOKEN_WAIT_MS * NS_PER_MS);
    pthread_mutex_lock(&s->mu);
    rc = auth_token_user(s->v3->auth, token, sys_mono_ns() / NS_PER_MS, user);
    *revision = auth_revision(s->v3->auth);
    pthread_mutex_unlock(&s->mu);
    return rc;
}

enum v3_error v3_who_is(struct server *s, struct str token, struct str cn,
                        struct v3_who *who, char *storage, size_t n)
{
    struct buf user = {0};
    uint64_t revision;
    bool enabled;
    int rc = 0;

    *who = (struct v3_who){STR(""), 0};
    pthread_mutex_lock(&s->mu);
    enabled = auth_enabled(s->v3->auth);
    revision = auth_revision(s->v3->auth);
    pthread_mutex_unlock(&s->mu);
    if (token.p && s->jwt.jwt)
        rc = signed_user(s, token, &user, &revision);
    else if (token.p) /* with auth off there is none that is valid */
        rc = simple_user(s, token, &user, &revision);
    else if (enabled)
        buf_addstr(&user, cn);
    if (rc == 0 && user.len > n)
        rc = AUTH_INVALID_TOKEN;
    if (rc == 0 && user.len) {
        memcpy(storage, user.data, user.len);
        *who = (struct v3_who){{storage, user.len}, revision};
    }
    buf_release(&user);
    return row_of(rc);
}

enum v3_error v3_is_admin(struct server *s, const struct v3_who *who)
{
    int rc;

    pthread_mutex_lock(&s->mu);
    rc = auth_check_admin(s->v3->auth,
                          (struct auth_who){who->user, who->auth_revision});
    pthread_mutex_unlock(&s->mu);
    return row_of(rc);
}

void v3_with_auth(struct server *s, void (*fn)(struct auth *a, void *arg),
                  void *arg)
{
    pthread_mutex_lock(&s->mu);
    fn(s->v3->auth, arg);
    pthread_mutex_unlock(&s->mu);
}

/* --- Passwords. ----------------------------------------------------------- */

static int begin_login(struct server *s, struct str name,
                       struct auth_login *login)
{
    int rc;

    pthread_mutex_lock(&s->mu);
    rc = auth_login(s->v3->auth, name, login);
    pthread_mutex_unlock(&s->mu);
    /* etcd tells everybody who has no password. */
    if (rc == AUTH_NO_PASSWORD_USER && s->config->strict_auth)
        rc = AUTH_FAILED;
    return rc;
}

static bool has_changed(struct server *s, uint64_t revision)
{
    bool changed;

    pthread_mutex_lock(&s->mu);
    changed = auth_revision(s->v3->auth) != revision;
    pthread_mutex_unlock(&s->mu);
    return changed;
}

/* Through the log, so that every member knows the token. */
static void assign(struct server *s, struct str name, struct v3_result *r)
{
    struct rpcpb_internal_authenticate_request req = {.name = name};
    uint8_t random[AUTH_TOKEN_RANDOM];
    char letters[AUTH_TOKEN_LETTERS];
    struct buf b = {0};

    if (!s->jwt.jwt) {
        sys_random(random, sizeof(random));
        auth_token_letters(random, letters);
        req.simple_token = (struct str){letters, sizeof(letters)};
    }
    msg_encode(&rpcpb_internal_authenticate_request_desc, &req, &b);
    v3_write_wait(s, V3_AUTHENTICATE, buf_str(&b), NULL, r);
    buf_release(&b);
}

static enum v3_error sign(struct server *s, struct str name, uint64_t revision,
                          char **token)
{
    struct jwt_claims claims = {name, revision,
                                (sys_wall_ns() + s->jwt.ttl_ns) / NS_PER_S};
    uint8_t random[JWT_RANDOM_SIZE];
    struct buf b = {0};
    int rc;

    sys_random(random, sizeof(random));
    rc = jwt_sign(&s->jwt_key, &claims, random, &b);
    *token = buf_steal(&b);
    if (rc == 0)
        return V3_OK;
    free(*token);
    *token = NULL;
    return V3_VERIFY_ONLY_KEY;
}

enum v3_error v3_authenticate(struct server *s, struct str name,
                              struct str password, char **token,
                              struct v3_header *h)
{
    struct auth_login login;
    struct v3_result r = {.error = V3_OK};
    enum v3_error error;

    *token = NULL;
    *h = v3_header(s);
    error = v3_read_index_wait(s);
    if (error != V3_OK)
        return error;
    do {
        int rc = begin_login(s, name, &login);

        v3_result_release(&r);
        if (rc == 0)
            rc = auth_login_check(&login, password);
        if (rc < 0)
            return row_of(rc);
        assign(s, name, &r);
        if (r.error != V3_OK) {
            error = r.error;
            v3_result_release(&r);
            return error;
        }
        /* The password may not be that any more. */
    } while (has_changed(s, login.revision));
    *h = r.header;
    if (s->jwt.jwt)
        error = sign(s, name, login.revision, token);
    else {
        error = V3_OK;
        *token = xstrdup(r.u.token);
    }
    v3_result_release(&r);
    return error;
}
