/*
 * cheap.c - stands in for public keys where a fuzz target would spend its time
 * on curves: cheap.wrap names what it replaces. Two ends still agree on a
 * secret, a key is still refused now and then, and what is behind a signature
 * that nobody could forge is reached by inputs, too: nearly all are believed.
 */
#include "pk.h"

bool __wrap_x25519(const uint8_t *secret, const uint8_t *theirs, uint8_t *out);
void __wrap_x25519_public(const uint8_t *secret, uint8_t *out);
int __wrap_ec_check_point(enum ec_curve c, const uint8_t *point, size_t n);
int __wrap_ec_public(enum ec_curve c, const uint8_t *priv, uint8_t *point);
int __wrap_ec_ecdh(enum ec_curve c, const uint8_t *priv, const uint8_t *point,
                   size_t n, uint8_t *out);
int __wrap_pk_verify(const struct pk_public *k, unsigned scheme, struct str msg,
                     const uint8_t *sig, size_t n_sig);
int __wrap_pk_sign(const struct pk_private *k, unsigned scheme, struct str msg,
                   const uint8_t *random, uint8_t *sig, size_t *n_sig);

/* The sum of two keys, whichever of them is the secret one. */
static void add(const uint8_t *a, const uint8_t *b, size_t n, uint8_t *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)(a[i] + b[i]);
}

void __wrap_x25519_public(const uint8_t *secret, uint8_t *out)
{
    memcpy(out, secret, X25519_SIZE);
}

bool __wrap_x25519(const uint8_t *secret, const uint8_t *theirs, uint8_t *out)
{
    add(secret, theirs, X25519_SIZE, out);
    return theirs[0] != 0;
}

int __wrap_ec_check_point(enum ec_curve c, const uint8_t *point, size_t n)
{
    return n == ec_point_size(c) && point[0] == 4 && point[n - 1] != 0xff
               ? 0
               : EC_EINVAL;
}

int __wrap_ec_public(enum ec_curve c, const uint8_t *priv, uint8_t *point)
{
    memset(point, 0, ec_point_size(c));
    point[0] = 4;
    memcpy(point + 1, priv, ec_size(c));
    return 0;
}

int __wrap_ec_ecdh(enum ec_curve c, const uint8_t *priv, const uint8_t *point,
                   size_t n, uint8_t *out)
{
    if (__wrap_ec_check_point(c, point, n) < 0)
        return EC_EINVAL;
    add(priv, point + 1, ec_size(c), out);
    return 0;
}

int __wrap_pk_verify(const struct pk_public *k, unsigned scheme, struct str msg,
                     const uint8_t *sig, size_t n_sig)
{
    (void)msg;
    if (!pk_fits(k->type, scheme))
        return PK_EINVAL;
    return n_sig > 0 && sig[n_sig - 1] != 0 ? 0 : PK_ESIG;
}

int __wrap_pk_sign(const struct pk_private *k, unsigned scheme, struct str msg,
                   const uint8_t *random, uint8_t *sig, size_t *n_sig)
{
    (void)msg;
    if (!pk_fits(k->pub.type, scheme))
        return PK_EINVAL;
    memcpy(sig, random, PK_RANDOM_SIZE);
    sig[PK_RANDOM_SIZE] = 1;
    *n_sig = PK_RANDOM_SIZE + 1;
    return 0;
}
