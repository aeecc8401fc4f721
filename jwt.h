/*
 * jwt.h - signed tokens (JSON Web Token, RFC 7519) as etcd gives them out with
 * --auth-token jwt, and that option. Pure: keys, time and randomness are given.
 *
 * A token says who and at which auth revision, and until when; a member knows
 * it by the signature alone. Verification is strict where forgeries were made
 * elsewhere: the algorithm is that of our own key, whatever the token says,
 * and "none" is none of them (RFC 8725, 3.1).
 */
#ifndef JWT_H
#define JWT_H

#include "buf.h"

struct pk_public; /* pk.h */
struct pk_private;

enum { JWT_EINVAL = -1 };

#define JWT_TOKEN_MAX 16384 /* a longer one is none */
#define JWT_RANDOM_SIZE 32

/* --- The option. -------------------------------------------------------------- */

/* RFC 7518, 3.1, and RFC 8037 for EdDSA. */
enum jwt_alg {
    JWT_HS256,
    JWT_HS384,
    JWT_HS512,
    JWT_RS256,
    JWT_RS384,
    JWT_RS512,
    JWT_PS256,
    JWT_PS384,
    JWT_PS512,
    JWT_ES256,
    JWT_ES384,
    JWT_ES512,
    JWT_EDDSA,
    JWT_N_ALGS,
};

const char *jwt_alg_name(enum jwt_alg alg); /* "HS256" */
bool jwt_alg_is_hmac(enum jwt_alg alg);

#define JWT_TTL_NS_DEFAULT (300 * INT64_C(1000000000))

/*
 * The value of --auth-token: "simple", or "jwt,sign-method=HS256,
 * pub-key=FILE,priv-key=FILE,ttl=10m". Strings are borrowed; "" if not given.
 */
struct jwt_options {
    bool jwt; /* else simple, and the rest means nothing */
    enum jwt_alg alg;
    struct str pub_key,
        priv_key; /* files; a MAC's secret is priv_key's bytes */
    int64_t ttl_ns;
};

/* 0, or JWT_EINVAL with what is wrong, which begins as etcd's message does. */
int jwt_parse_options(struct str s, struct jwt_options *out, struct err *e);

/* --- Keys. ---------------------------------------------------------------------- */

/*
 * How input is signed and checked; jwt_hmac() or jwt_pk() makes one. Either function may
 * be NULL: a member with only the public key cannot give out tokens. Neither
 * may change the key: any thread uses it.
 */
struct jwt_key {
    enum jwt_alg alg;
    /* Appends the signature. 0 or JWT_EINVAL. */
    int (*sign)(const struct jwt_key *k, struct str input,
                const uint8_t random[JWT_RANDOM_SIZE], struct buf *signature);
    bool (*verify)(const struct jwt_key *k, struct str input,
                   struct str signature);
    /* Borrowed as long as the key is used: a MAC's, or a pair's. */
    struct str secret;
    const struct pk_public *pub;
    const struct pk_private *priv; /* NULL: it cannot sign */
};

/* alg is one of HS256, HS384, HS512; the secret is not empty. */
struct jwt_key jwt_hmac(enum jwt_alg alg, struct str secret);
/*
 * Any other alg. Either half may be NULL. 0, or JWT_EINVAL if the keys are not
 * of alg's type, or not a pair.
 */
int jwt_pk(struct jwt_key *out, enum jwt_alg alg, const struct pk_public *pub,
           const struct pk_private *priv);

/* --- Tokens. -------------------------------------------------------------------- */

struct jwt_claims {
    struct str username;
    uint64_t revision;
    int64_t expiry_s; /* unix seconds, from which on it is worth nothing */
};

/* Appends the token. 0, or JWT_EINVAL if the key cannot sign. */
int jwt_sign(const struct jwt_key *k, const struct jwt_claims *claims,
             const uint8_t random[JWT_RANDOM_SIZE], struct buf *token);
/*
 * 0 and the claims, whose username is appended to *user and borrows from it,
 * or JWT_EINVAL. A token without "exp" is good for ever, as in etcd, whose 3.3
 * made such; INT64_MAX is its expiry.
 */
int jwt_verify(const struct jwt_key *k, struct str token, int64_t now_s,
               struct buf *user, struct jwt_claims *claims);

#endif
