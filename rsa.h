/*
 * rsa.h - RSA signatures: PKCS#1 v1.5 and PSS (RFC 8017, 8.1 and 8.2). Pure and
 * thread-safe. No encryption: TLS 1.3 has none, and TLS 1.2 does without.
 *
 * Numbers are big-endian. Moduli have RSA_BITS_MIN to RSA_BITS_MAX bits.
 *
 * Constant time: no branch, no address and no loop depends on p, q or the
 * exponents, only on their lengths. A signature is computed by the Chinese
 * remainder theorem from a blinded message, and checked with the public key
 * before it leaves: one that a fault made wrong would give away p (Boneh,
 * DeMillo, Lipton 1997). Signing takes about 20 KB of stack, verifying 6 KB.
 */
#ifndef RSA_H
#define RSA_H

#include "buf.h"
#include "hash.h"

#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 4096
#define RSA_SIZE_MAX (RSA_BITS_MAX / 8)
#define RSA_HALF_MAX (RSA_SIZE_MAX / 2)

enum {
    RSA_EINVAL = -1, /* a key out of bounds, or whose parts do not fit */
    RSA_ESIG = -2,   /* not a signature of this message by this key */
    RSA_EFAULT = -3, /* the computed signature is wrong: bad key or fault */
};

struct rsa_public {
    size_t size;             /* bytes of n, without leading zeros */
    uint32_t e;              /* odd, 3 to 2^31 - 1, as in Go */
    uint8_t n[RSA_SIZE_MAX]; /* the first size bytes */
};

/* Wiped by its owner. Numbers of half bytes, with zeros in front. */
struct rsa_private {
    struct rsa_public pub;
    size_t half; /* bytes of p and of q */
    uint8_t p[RSA_HALF_MAX], q[RSA_HALF_MAX];
    uint8_t dp[RSA_HALF_MAX], dq[RSA_HALF_MAX]; /* d mod p-1, d mod q-1 */
    uint8_t qinv[RSA_HALF_MAX];                 /* 1/q mod p */
};

/*
 * Copy numbers as they stand in a key file; leading zeros are fine. RSA_EINVAL
 * if one is out of bounds. For a private key also if p times q is not n, or if
 * p and q differ in length (multi-prime keys do): d itself is not needed. The
 * rest of its parts are proven by the first signature (RSA_EFAULT).
 */
int rsa_public_set(struct rsa_public *k, struct str n, struct str e);
struct rsa_parts {
    struct str n, e, p, q, dp, dq, qinv;
};
int rsa_private_set(struct rsa_private *k, const struct rsa_parts *parts);

enum rsa_padding {
    RSA_PKCS1, /* RSASSA-PKCS1-v1_5 */
    RSA_PSS,   /* RSASSA-PSS, MGF1 with the same hash, salt of its length */
};

/*
 * Is sig a signature of the message with this digest (of hash's size)? Strict:
 * sig is exactly as long as n, and there is one right encoding.
 */
int rsa_verify(const struct rsa_public *k, enum rsa_padding padding,
               enum hash_type hash, const uint8_t *digest, const uint8_t *sig,
               size_t n_sig);

/* rsa_verify() for PSS with a salt of n_salt bytes. */
int rsa_verify_pss(const struct rsa_public *k, enum hash_type hash,
                   size_t n_salt, const uint8_t *digest, const uint8_t *sig,
                   size_t n_sig);

/*
 * Write a signature of k->pub.size bytes. The salt of PSS and the blinding come
 * from random, fresh for each signature.
 */
#define RSA_RANDOM_SIZE 32
int rsa_sign(const struct rsa_private *k, enum rsa_padding padding,
             enum hash_type hash, const uint8_t *digest,
             const uint8_t random[RSA_RANDOM_SIZE], uint8_t *sig);

#endif
