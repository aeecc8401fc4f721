/*
 * jwtpk.c - tokens signed with RSA, ECDSA or Ed25519 keys.
 *
 * What the rest of the world signs with DER in it, JOSE signs without: an ES
 * signature is r and s, each as long as the curve's scalars (RFC 7518, 3.4).
 */
#include "jwt.h"

#include "pk.h"

#include <assert.h>

static const struct {
    enum pk_type type; /* PK_NONE: not ours */
    unsigned scheme;
    enum hash_type hash;
} pk_algs[JWT_N_ALGS] = {
    [JWT_RS256] = {PK_RSA, PK_RSA_PKCS1_SHA256, HASH_SHA256},
    [JWT_RS384] = {PK_RSA, PK_RSA_PKCS1_SHA384, HASH_SHA384},
    [JWT_RS512] = {PK_RSA, PK_RSA_PKCS1_SHA512, HASH_SHA512},
    [JWT_PS256] = {PK_RSA, PK_RSA_PSS_SHA256, HASH_SHA256},
    [JWT_PS384] = {PK_RSA, PK_RSA_PSS_SHA384, HASH_SHA384},
    [JWT_PS512] = {PK_RSA, PK_RSA_PSS_SHA512, HASH_SHA512},
    [JWT_ES256] = {PK_P256, PK_ECDSA_SHA256, HASH_SHA256},
    [JWT_ES384] = {PK_P384, PK_ECDSA_SHA384, HASH_SHA384},
    [JWT_ES512] = {PK_P521, PK_ECDSA_SHA512, HASH_SHA512},
    [JWT_EDDSA] = {PK_ED25519, PK_ED25519_PURE, 0},
};

static bool is_ec(enum jwt_alg alg)
{
    return alg >= JWT_ES256 && alg <= JWT_ES512;
}

static bool is_pss(enum jwt_alg alg)
{
    return alg == JWT_PS256 || alg == JWT_PS384 || alg == JWT_PS512;
}

static enum ec_curve curve_of(enum jwt_alg alg)
{
    return (enum ec_curve)(EC_P256 + (alg - JWT_ES256));
}

/* --- Signing and verifying. ---------------------------------------------------------- */

static_assert(JWT_RANDOM_SIZE == PK_RANDOM_SIZE, "randomness is handed on");

static int pk_sign_token(const struct jwt_key *k, struct str input,
                         const uint8_t random[JWT_RANDOM_SIZE],
                         struct buf *signature)
{
    uint8_t sig[PK_SIG_MAX], rs[2 * EC_SIZE_MAX];
    enum ec_curve c;
    size_t n;

    if (pk_sign(k->priv, pk_algs[k->alg].scheme, input, random, sig, &n) < 0)
        return JWT_EINVAL;
    if (!is_ec(k->alg)) {
        buf_add(signature, sig, n);
        return 0;
    }
    c = curve_of(k->alg);
    if (ec_sig_from_der(c, sig, n, rs) < 0)
        return JWT_EINVAL;
    buf_add(signature, rs, 2 * ec_size(c));
    return 0;
}

/* Members in Go sign PSS with the longest salt that there is room for. */
static bool verify_long_salt(const struct jwt_key *k, struct str input,
                             struct str signature)
{
    enum hash_type hash = pk_algs[k->alg].hash;
    uint8_t digest[HASH_SIZE_MAX];
    size_t spent = hash_size(hash) + 2;

    if (signature.n <= spent)
        return false;
    hash_once(hash, input.p, input.n, digest);
    return rsa_verify_pss(&k->pub->u.rsa, hash, signature.n - spent, digest,
                          (const uint8_t *)signature.p, signature.n) == 0;
}

static bool pk_verify_token(const struct jwt_key *k, struct str input,
                            struct str signature)
{
    const uint8_t *sig = (const uint8_t *)signature.p;
    uint8_t der[EC_SIG_MAX];
    size_t n = signature.n;

    if (is_ec(k->alg)) {
        enum ec_curve c = curve_of(k->alg);

        if (n != 2 * ec_size(c))
            return false;
        n = ec_sig_to_der(c, sig, der);
        sig = der;
    }
    if (pk_verify(k->pub, pk_algs[k->alg].scheme, input, sig, n) == 0)
        return true;
    return is_pss(k->alg) && verify_long_salt(k, input, signature);
}

int jwt_pk(struct jwt_key *out, enum jwt_alg alg, const struct pk_public *pub,
           const struct pk_private *priv)
{
    enum pk_type type = pk_algs[alg].type;

    if (!pub && priv)
        pub = &priv->pub;
    if (type == PK_NONE || !pub || pub->type != type ||
        (priv && !pk_public_eq(&priv->pub, pub)))
        return JWT_EINVAL;
    *out = (struct jwt_key){
        .alg = alg,
        .sign = priv ? pk_sign_token : NULL,
        .verify = pk_verify_token,
        .pub = pub,
        .priv = priv,
    };
    return 0;
}
