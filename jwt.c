/*
 * jwt.c - signed tokens: three parts in base64url (RFC 4648, 5) with dots
 * between them,
 *
 *     {"alg":"HS256","typ":"JWT"} . {"exp":...,"revision":...,"username":...}
 *     . the signature of these two parts as they stand
 *
 * Nothing of a token is believed before its signature is right, but for the
 * algorithm's name, which can only make it wrong.
 */
#include "jwt.h"

#include "crypto.h"
#include "hash.h"
#include "json.h"
#include "sys.h"

#include <assert.h>
#include <inttypes.h>

static const struct {
    const char *name;
    enum hash_type hash; /* of a MAC */
    bool hmac;
} algs[JWT_N_ALGS] = {
    [JWT_HS256] = {"HS256", HASH_SHA256, true},
    [JWT_HS384] = {"HS384", HASH_SHA384, true},
    [JWT_HS512] = {"HS512", HASH_SHA512, true},
    [JWT_RS256] = {.name = "RS256"},
    [JWT_RS384] = {.name = "RS384"},
    [JWT_RS512] = {.name = "RS512"},
    [JWT_PS256] = {.name = "PS256"},
    [JWT_PS384] = {.name = "PS384"},
    [JWT_PS512] = {.name = "PS512"},
    [JWT_ES256] = {.name = "ES256"},
    [JWT_ES384] = {.name = "ES384"},
    [JWT_ES512] = {.name = "ES512"},
    [JWT_EDDSA] = {.name = "EdDSA"},
};

const char *jwt_alg_name(enum jwt_alg alg)
{
    return algs[alg].name;
}

bool jwt_alg_is_hmac(enum jwt_alg alg)
{
    return algs[alg].hmac;
}

/* --- The option. -------------------------------------------------------------- */

static int bad_option(struct err *e, const char *what, struct str s)
{
    return err_set(e, JWT_EINVAL, "auth: invalid auth options: %s%.*s", what,
                   STR_FMT(s));
}

static bool find_alg(struct str name, enum jwt_alg *out)
{
    for (size_t i = 0; i < JWT_N_ALGS; i++) {
        if (str_eqz(name, algs[i].name)) {
            *out = (enum jwt_alg)i;
            return true;
        }
    }
    return false;
}

/* What has been given: each at most once. Others are ignored, as in etcd. */
struct given {
    struct str pub_key, priv_key, method, ttl;
};

static int parse_pair(struct str pair, struct given *g, struct err *e)
{
    struct {
        const char *name;
        struct str *value;
    } known[] = {
        {"pub-key", &g->pub_key},
        {"priv-key", &g->priv_key},
        {"sign-method", &g->method},
        {"ttl", &g->ttl},
    };
    struct str name, value = pair;

    if (!str_cut(&value, '=', &name) ||
        (value.n && memchr(value.p, '=', value.n)))
        return bad_option(e, "not NAME=VALUE: ", pair);
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (!str_eqz(name, known[i].name))
            continue;
        if (known[i].value->n)
            return bad_option(e, "given twice: ", name);
        *known[i].value = value;
    }
    return 0;
}

static int take_jwt(const struct given *g, struct jwt_options *o, struct err *e)
{
    if (!find_alg(g->method, &o->alg))
        return bad_option(e, "sign-method is none of ours: ", g->method);
    if (g->priv_key.n == 0 && (g->pub_key.n == 0 || jwt_alg_is_hmac(o->alg)))
        return bad_option(e, "no key file for ", g->method);
    o->ttl_ns = JWT_TTL_NS_DEFAULT;
    if (g->ttl.n && (!sys_parse_duration(g->ttl, &o->ttl_ns) || o->ttl_ns <= 0))
        return bad_option(e, "ttl is not a time such as 10m: ", g->ttl);
    o->pub_key = g->pub_key;
    o->priv_key = g->priv_key;
    o->jwt = true;
    return 0;
}

int jwt_parse_options(struct str s, struct jwt_options *out, struct err *e)
{
    struct jwt_options o = {.pub_key = STR(""), .priv_key = STR("")};
    struct given g = {0};
    struct str type, pair;
    int rc = 0;
    bool more = str_cut(&s, ',', &type);

    if (!str_eqz(type, "simple") && !str_eqz(type, "jwt"))
        return bad_option(e, "neither simple nor jwt: ", type);
    while (more) {
        more = str_cut(&s, ',', &pair);
        rc = parse_pair(pair, &g, e);
        if (rc < 0)
            return rc;
    }
    if (str_eqz(type, "jwt"))
        rc = take_jwt(&g, &o, e);
    if (rc == 0)
        *out = o;
    return rc;
}

/* --- Base64url without padding (RFC 7515, 2). ------------------------------------ */

static void url_encode(struct buf *b, struct str s)
{
    size_t start = b->len;

    base64_encode(b, s.p, s.n);
    while (b->len > start && b->data[b->len - 1] == '=')
        b->len--;
    for (size_t i = start; i < b->len; i++) {
        if (b->data[i] == '+')
            b->data[i] = '-';
        else if (b->data[i] == '/')
            b->data[i] = '_';
    }
}

/* False, with nothing of use appended, if s is not what url_encode() makes. */
static bool url_decode(struct buf *b, struct str s)
{
    struct buf plain = {0}, again = {0};
    size_t start = b->len;
    bool good = false;

    for (size_t i = 0; i < s.n; i++)
        buf_addc(&plain, s.p[i] == '-' ? '+' : s.p[i] == '_' ? '/' : s.p[i]);
    while (plain.len % 4 != 0)
        buf_addc(&plain, '=');
    if (base64_decode(b, buf_str(&plain)) == 0) {
        struct str made = buf_str(b);

        url_encode(&again, (struct str){made.p + start, made.n - start});
        good = str_eq(buf_str(&again), s);
    }
    buf_release(&plain);
    buf_release(&again);
    return good;
}

/* --- Keys. --------------------------------------------------------------------------- */

static size_t mac(const struct jwt_key *k, struct str input,
                  uint8_t out[HASH_SIZE_MAX])
{
    enum hash_type type = algs[k->alg].hash;

    hmac_once(type, k->secret.p, k->secret.n, input.p, input.n, out);
    return hash_size(type);
}

static int mac_sign(const struct jwt_key *k, struct str input,
                    const uint8_t random[JWT_RANDOM_SIZE],
                    struct buf *signature)
{
    uint8_t sum[HASH_SIZE_MAX];
    size_t n = mac(k, input, sum);

    (void)random;
    buf_add(signature, sum, n);
    return 0;
}

static bool mac_verify(const struct jwt_key *k, struct str input,
                       struct str signature)
{
    uint8_t sum[HASH_SIZE_MAX];
    size_t n = mac(k, input, sum);
    bool good = signature.n == n && ct_eq(sum, signature.p, n);

    wipe(sum, sizeof(sum));
    return good;
}

struct jwt_key jwt_hmac(enum jwt_alg alg, struct str secret)
{
    assert(jwt_alg_is_hmac(alg));
    assert(secret.n > 0);
    return (struct jwt_key){
        .alg = alg,
        .sign = mac_sign,
        .verify = mac_verify,
        .secret = secret,
    };
}

/* --- Signing. ------------------------------------------------------------------------- */

/* Byte for byte what Go's members write. */
static void add_claims(struct buf *b, const struct jwt_claims *c)
{
    buf_printf(b, "{\"exp\":%" PRId64 ",\"revision\":%" PRIu64 ",\"username\":",
               c->expiry_s, c->revision);
    json_add_string(b, c->username);
    buf_addc(b, '}');
}

int jwt_sign(const struct jwt_key *k, const struct jwt_claims *claims,
             const uint8_t random[JWT_RANDOM_SIZE], struct buf *token)
{
    struct buf part = {0}, out = {0};
    int rc;

    if (!k->sign)
        return JWT_EINVAL;
    buf_printf(&part, "{\"alg\":\"%s\",\"typ\":\"JWT\"}", jwt_alg_name(k->alg));
    url_encode(&out, buf_str(&part));
    buf_addc(&out, '.');
    buf_clear(&part);
    add_claims(&part, claims);
    url_encode(&out, buf_str(&part));
    buf_clear(&part);
    rc = k->sign(k, buf_str(&out), random, &part);
    if (rc == 0) {
        buf_addc(&out, '.');
        url_encode(&out, buf_str(&part));
        buf_addstr(token, buf_str(&out));
    }
    buf_release(&part);
    buf_release(&out);
    return rc;
}

/* --- Verifying. ------------------------------------------------------------------------ */

/* A part that has to be an object; NULL if it is not. Owned. */
static struct json *parse_part(struct str part)
{
    struct buf b = {0};
    struct json *j = NULL;
    struct err e;

    if (url_decode(&b, part) && json_parse(b.data, b.len, &j, &e) < 0)
        j = NULL;
    buf_release(&b);
    if (j && j->type != JSON_OBJECT) {
        json_free(j);
        j = NULL;
    }
    return j;
}

/* By its exact name, unlike json_get(): "Alg" is another header. */
static const struct json *member(const struct json *object, const char *name)
{
    const struct json *found = NULL;

    for (const struct json *j = object->first; j; j = j->next) {
        if (str_eqz(j->name, name))
            found = j;
    }
    return found;
}

/* "crit" names extensions that must be understood: none is (RFC 7515, 4.1.11). */
static bool header_fits(struct str part, enum jwt_alg alg)
{
    struct json *j = parse_part(part);
    const struct json *name = j ? member(j, "alg") : NULL;
    bool fits = name && name->type == JSON_STRING &&
                str_eqz(name->text, jwt_alg_name(alg)) && !member(j, "crit");

    json_free(j);
    return fits;
}

static bool signature_fits(const struct jwt_key *k, struct str input,
                           struct str part)
{
    struct buf signature = {0};
    bool fits = k->verify && url_decode(&signature, part) &&
                k->verify(k, input, buf_str(&signature));

    buf_release(&signature);
    return fits;
}

#define TIME_END 1e18 /* in seconds; an int64_t holds it */

/* Cut at the point: there may be fractions of a second (RFC 7519, 2). */
static bool to_whole(struct str text, int64_t *out)
{
    char *z;
    double d;

    if (str_to_i64(text, out))
        return true;
    z = xstrndup(text.p, text.n);
    d = strtod(z, NULL);
    free(z);
    if (d <= -TIME_END || d >= TIME_END)
        return false;
    *out = (int64_t)d;
    return true;
}

/* A time among the claims, in seconds: otherwise if there is none. */
static bool get_time(const struct json *claims, const char *name,
                     int64_t otherwise, int64_t *out)
{
    const struct json *j = member(claims, name);

    *out = otherwise;
    return !j || (j->type == JSON_NUMBER && to_whole(j->text, out));
}

static bool claims_fit(const struct json *j, int64_t now_s,
                       struct jwt_claims *out)
{
    const struct json *user = member(j, "username");
    const struct json *revision = member(j, "revision");
    int64_t not_before, issued_at;

    if (!user || user->type != JSON_STRING || user->text.n == 0 || !revision ||
        revision->type != JSON_NUMBER ||
        !str_to_u64(revision->text, &out->revision))
        return false;
    out->username = user->text;
    return get_time(j, "exp", INT64_MAX, &out->expiry_s) &&
           get_time(j, "nbf", INT64_MIN, &not_before) &&
           get_time(j, "iat", INT64_MIN, &issued_at) &&
           now_s < out->expiry_s && now_s >= not_before && now_s >= issued_at;
}

int jwt_verify(const struct jwt_key *k, struct str token, int64_t now_s,
               struct buf *user, struct jwt_claims *claims)
{
    struct str rest = token, header, body, input;
    struct jwt_claims got = {0};
    struct json *j;
    bool good;

    if (token.n > JWT_TOKEN_MAX || !str_cut(&rest, '.', &header) ||
        !str_cut(&rest, '.', &body))
        return JWT_EINVAL;
    input = (struct str){token.p, header.n + 1 + body.n};
    if (!header_fits(header, k->alg) || !signature_fits(k, input, rest))
        return JWT_EINVAL;
    j = parse_part(body);
    good = j && claims_fit(j, now_s, &got);
    if (good) {
        size_t start = user->len;

        buf_addstr(user, got.username);
        *claims = got;
        claims->username =
            (struct str){(char *)user->data + start, got.username.n};
    }
    json_free(j);
    return good ? 0 : JWT_EINVAL;
}
