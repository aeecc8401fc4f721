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
    [JWT_EDDSA] = {PK_ED25519, PK_ED25519_PURE, 0},
};

static bool is_ec(enum jwt_alg alg)
{
    return alg == JWT_ES256 || alg == JWT_ES384;
}

static bool is_pss(enum jwt_alg alg)
{
    return alg == JWT_PS256 || alg == JWT_PS384 || alg == JWT_PS512;
}

static size_t scalar_size(enum jwt_alg alg)
{
    return ec_size(alg == JWT_ES256 ? EC_P256 : EC_P384);
}

/* --- r and s, with and without DER. --------------------------------------------- */

/* Both scalars are short: every length is one byte (X.690, 8.1.3.4). */
static_assert(EC_SIG_MAX < 128 + 2, "lengths of DER fit a byte");

static size_t add_integer(uint8_t *out, const uint8_t *p, size_t n)
{
    size_t pad;

    while (n > 1 && *p == 0) {
        p++;
        n--;
    }
    pad = *p >> 7; /* it would be negative */
    out[0] = 0x02;
    out[1] = (uint8_t)(n + pad);
    out[2] = 0;
    memcpy(out + 2 + pad, p, n);
    return 2 + pad + n;
}

static size_t to_der(const uint8_t *raw, size_t n_scalar,
                     uint8_t out[EC_SIG_MAX])
{
    size_t n = 2;

    n += add_integer(out + n, raw, n_scalar);
    n += add_integer(out + n, raw + n_scalar, n_scalar);
    out[0] = 0x30;
    out[1] = (uint8_t)(n - 2);
    return n;
}

/* The integer at *p, which we wrote, as a scalar. */
static void add_scalar(struct buf *b, const uint8_t **p, size_t n_scalar)
{
    size_t n = (*p)[1];
    const uint8_t *digits = *p + 2;

    *p = digits + n;
    while (n > n_scalar) {
        assert(*digits == 0);
        digits++;
        n--;
    }
    for (size_t i = n; i < n_scalar; i++)
        buf_addc(b, '\0');
    buf_add(b, digits, n);
}

static void from_der(const uint8_t *sig, size_t n_scalar, struct buf *out)
{
    const uint8_t *p = sig + 2;

    add_scalar(out, &p, n_scalar);
    add_scalar(out, &p, n_scalar);
}

/* --- Signing and verifying. ---------------------------------------------------------- */

static_assert(JWT_RANDOM_SIZE == PK_RANDOM_SIZE, "randomness is handed on");

static int pk_sign_token(const struct jwt_key *k, struct str input,
                         const uint8_t random[JWT_RANDOM_SIZE],
                         struct buf *signature)
{
    uint8_t sig[PK_SIG_MAX];
    size_t n;

    if (pk_sign(k->priv, pk_algs[k->alg].scheme, input, random, sig, &n) < 0)
        return JWT_EINVAL;
    if (is_ec(k->alg))
        from_der(sig, scalar_size(k->alg), signature);
    else
        buf_add(signature, sig, n);
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
        if (n != 2 * scalar_size(k->alg))
            return false;
        n = to_der(sig, n / 2, der);
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
