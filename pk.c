/*
 * pk.c - public-key signatures under the names of TLS.
 *
 * One table says what a scheme is; the rest is which function to call.
 */
#include "pk.h"

#include <assert.h>

enum family { RSA, ECDSA, ED25519 };

static const struct scheme {
    uint16_t number;
    enum family family;
    enum hash_type hash;      /* not of Ed25519 */
    enum rsa_padding padding; /* of RSA */
    enum pk_type tls13;       /* the only type it is for there, or PK_NONE */
} schemes[] = {
    {PK_RSA_PKCS1_SHA256, RSA, HASH_SHA256, RSA_PKCS1, PK_NONE},
    {PK_RSA_PKCS1_SHA384, RSA, HASH_SHA384, RSA_PKCS1, PK_NONE},
    {PK_RSA_PKCS1_SHA512, RSA, HASH_SHA512, RSA_PKCS1, PK_NONE},
    {PK_RSA_PSS_SHA256, RSA, HASH_SHA256, RSA_PSS, PK_RSA},
    {PK_RSA_PSS_SHA384, RSA, HASH_SHA384, RSA_PSS, PK_RSA},
    {PK_RSA_PSS_SHA512, RSA, HASH_SHA512, RSA_PSS, PK_RSA},
    {PK_ECDSA_SHA256, ECDSA, HASH_SHA256, 0, PK_P256},
    {PK_ECDSA_SHA384, ECDSA, HASH_SHA384, 0, PK_P384},
    {PK_ECDSA_SHA512, ECDSA, HASH_SHA512, 0, PK_P521},
    {PK_ED25519_PURE, ED25519, 0, 0, PK_ED25519},
};

/* --- Schemes. --------------------------------------------------------------- */

static const struct scheme *scheme_of(unsigned number)
{
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++)
        if (schemes[i].number == number)
            return &schemes[i];
    return NULL;
}

/* The curves stand in one order here and in ec.h. */
static bool is_ec(enum pk_type type)
{
    return type >= PK_P256 && type <= PK_P521;
}

/* The scheme, if it fits a key of this type. */
static const struct scheme *scheme_for(enum pk_type type, unsigned number)
{
    const struct scheme *s = scheme_of(number);
    bool fits = false;

    if (s && s->family == RSA)
        fits = type == PK_RSA;
    else if (s && s->family == ECDSA)
        fits = is_ec(type);
    else if (s)
        fits = type == PK_ED25519;
    return fits ? s : NULL;
}

bool pk_fits(enum pk_type type, unsigned scheme)
{
    return scheme_for(type, scheme) != NULL;
}

bool pk_fits_tls13(enum pk_type type, unsigned scheme)
{
    const struct scheme *s = scheme_for(type, scheme);

    return s && s->tls13 == type;
}

bool pk_scheme_hash(unsigned scheme, enum hash_type *hash)
{
    const struct scheme *s = scheme_of(scheme);

    if (!s || s->family == ED25519)
        return false;
    *hash = s->hash;
    return true;
}

/* --- Keys. ------------------------------------------------------------------ */

static enum ec_curve curve_of(enum pk_type type)
{
    assert(is_ec(type));
    return (enum ec_curve)(EC_P256 + (type - PK_P256));
}

static const uint8_t *bytes_of(struct str s)
{
    return (const uint8_t *)s.p;
}

int pk_public_rsa(struct pk_public *k, struct str n, struct str e)
{
    memset(k, 0, sizeof(*k));
    if (rsa_public_set(&k->u.rsa, n, e) < 0)
        return PK_EKEY;
    k->type = PK_RSA;
    return 0;
}

int pk_public_ec(struct pk_public *k, enum pk_type type, struct str point)
{
    memset(k, 0, sizeof(*k));
    if (ec_check_point(curve_of(type), bytes_of(point), point.n) < 0)
        return PK_EKEY;
    memcpy(k->u.point, point.p, point.n);
    k->type = type;
    return 0;
}

int pk_public_ed25519(struct pk_public *k, struct str point)
{
    memset(k, 0, sizeof(*k));
    if (point.n != ED25519_PUBLIC_SIZE)
        return PK_EKEY;
    memcpy(k->u.ed25519, point.p, point.n);
    k->type = PK_ED25519;
    return 0;
}

int pk_private_rsa(struct pk_private *k, const struct rsa_parts *parts)
{
    memset(k, 0, sizeof(*k));
    if (rsa_private_set(&k->u.rsa, parts) < 0)
        return PK_EKEY;
    k->pub.u.rsa = k->u.rsa.pub;
    k->pub.type = PK_RSA;
    return 0;
}

int pk_private_ec(struct pk_private *k, enum pk_type type, struct str scalar)
{
    enum ec_curve c = curve_of(type);

    memset(k, 0, sizeof(*k));
    for (; scalar.n > ec_size(c) && scalar.p[0] == 0; scalar.n--)
        scalar.p++;
    if (scalar.n == 0 || scalar.n > ec_size(c))
        return PK_EKEY;
    memcpy(k->u.scalar + ec_size(c) - scalar.n, scalar.p, scalar.n);
    if (ec_public(c, k->u.scalar, k->pub.u.point) < 0) {
        pk_wipe(k);
        return PK_EKEY;
    }
    k->pub.type = type;
    return 0;
}

int pk_private_ed25519(struct pk_private *k, struct str seed)
{
    memset(k, 0, sizeof(*k));
    if (seed.n != ED25519_SEED_SIZE)
        return PK_EKEY;
    ed25519_init(&k->u.ed25519, bytes_of(seed));
    memcpy(k->pub.u.ed25519, k->u.ed25519.public, ED25519_PUBLIC_SIZE);
    k->pub.type = PK_ED25519;
    return 0;
}

void pk_wipe(struct pk_private *k)
{
    wipe(k, sizeof(*k));
}

bool pk_public_eq(const struct pk_public *a, const struct pk_public *b)
{
    if (a->type != b->type)
        return false;
    switch (a->type) {
    case PK_RSA:
        return a->u.rsa.size == b->u.rsa.size && a->u.rsa.e == b->u.rsa.e &&
               memcmp(a->u.rsa.n, b->u.rsa.n, a->u.rsa.size) == 0;
    case PK_P256:
    case PK_P384:
    case PK_P521:
        return memcmp(a->u.point, b->u.point,
                      ec_point_size(curve_of(a->type))) == 0;
    case PK_ED25519:
        return memcmp(a->u.ed25519, b->u.ed25519, ED25519_PUBLIC_SIZE) == 0;
    case PK_NONE:
        break;
    }
    return false;
}

/* --- Signatures. ------------------------------------------------------------- */

int pk_verify_digest(const struct pk_public *k, unsigned scheme,
                     const uint8_t *digest, const uint8_t *sig, size_t n_sig)
{
    const struct scheme *s = scheme_for(k->type, scheme);
    enum ec_curve c;
    int rc;

    if (!s || s->family == ED25519)
        return PK_EINVAL;
    if (s->family == RSA) {
        rc = rsa_verify(&k->u.rsa, s->padding, s->hash, digest, sig, n_sig);
    } else {
        c = curve_of(k->type);
        rc = ec_verify(c, k->u.point, ec_point_size(c), s->hash, digest, sig,
                       n_sig);
    }
    return rc == 0 ? 0 : PK_ESIG;
}

int pk_verify(const struct pk_public *k, unsigned scheme, struct str msg,
              const uint8_t *sig, size_t n_sig)
{
    const struct scheme *s = scheme_for(k->type, scheme);
    uint8_t digest[HASH_SIZE_MAX];

    if (!s)
        return PK_EINVAL;
    if (s->family == ED25519)
        return n_sig == ED25519_SIZE &&
                       ed25519_verify(k->u.ed25519, msg.p, msg.n, sig)
                   ? 0
                   : PK_ESIG;
    hash_once(s->hash, msg.p, msg.n, digest);
    return pk_verify_digest(k, scheme, digest, sig, n_sig);
}

int pk_sign_digest(const struct pk_private *k, unsigned scheme,
                   const uint8_t *digest, const uint8_t random[PK_RANDOM_SIZE],
                   uint8_t sig[PK_SIG_MAX], size_t *n_sig)
{
    const struct scheme *s = scheme_for(k->pub.type, scheme);
    int rc;

    if (!s || s->family == ED25519)
        return PK_EINVAL;
    if (s->family == RSA) {
        rc = rsa_sign(&k->u.rsa, s->padding, s->hash, digest, random, sig);
        *n_sig = k->u.rsa.pub.size;
    } else {
        rc = ec_sign(curve_of(k->pub.type), k->u.scalar, s->hash, digest,
                     random, PK_RANDOM_SIZE, sig, n_sig);
    }
    return rc == 0 ? 0 : PK_EKEY;
}

int pk_sign(const struct pk_private *k, unsigned scheme, struct str msg,
            const uint8_t random[PK_RANDOM_SIZE], uint8_t sig[PK_SIG_MAX],
            size_t *n_sig)
{
    const struct scheme *s = scheme_for(k->pub.type, scheme);
    uint8_t digest[HASH_SIZE_MAX];

    if (!s)
        return PK_EINVAL;
    if (s->family == ED25519) {
        ed25519_sign(&k->u.ed25519, msg.p, msg.n, sig);
        *n_sig = ED25519_SIZE;
        return 0;
    }
    hash_once(s->hash, msg.p, msg.n, digest);
    return pk_sign_digest(k, scheme, digest, random, sig, n_sig);
}
