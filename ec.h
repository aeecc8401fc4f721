/*
 * ec.h - the NIST curves P-256, P-384 and P-521 (SP 800-186): key agreement
 * (ECDH, SP 800-56A) and signatures (ECDSA, FIPS 186-5). Pure and thread-safe.
 *
 * Scalars and coordinates are big-endian, of ec_size() bytes each; a point is
 * uncompressed (SEC 1, 2.3.3): 0x04, x, y. Every point from outside is checked
 * to lie on the curve, whose order is prime, before it is used.
 *
 * Constant time: no branch, no address and no loop depends on a private key,
 * a nonce or a shared secret. What is public (points, signatures, messages,
 * whether a function failed) may show.
 */
#ifndef EC_H
#define EC_H

#include "buf.h"
#include "hash.h"

enum ec_curve {
    EC_P256, /* secp256r1, prime256v1 */
    EC_P384, /* secp384r1 */
    EC_P521, /* secp521r1 */
};

#define EC_SIZE_MAX 66 /* of a scalar or a coordinate */
#define EC_POINT_MAX (1 + 2 * EC_SIZE_MAX)
#define EC_SIG_MAX (2 * (EC_SIZE_MAX + 3) + 3) /* of (r, s) in DER */
#define EC_SEED_SIZE 48                        /* randomness for a key */

enum {
    EC_EINVAL = -1, /* not a point of the curve, not a scalar below its order */
    EC_ESIG = -2,   /* not a signature of this message by this key */
};

size_t ec_size(enum ec_curve c);       /* 32, 48 or 66 */
size_t ec_point_size(enum ec_curve c); /* 65, 97 or 133 */

/* 0, or EC_EINVAL: another form, coordinates out of range, off the curve. */
int ec_check_point(enum ec_curve c, const uint8_t *point, size_t n);

/* --- Keys. ---------------------------------------------------------------- */

/* A private key of ec_size() bytes, uniform below the order, from the seed. */
void ec_generate(enum ec_curve c, const uint8_t seed[EC_SEED_SIZE],
                 uint8_t *priv);

/*
 * The public point of a private key, ec_point_size() bytes. EC_EINVAL if the
 * scalar is zero or not below the order.
 */
int ec_public(enum ec_curve c, const uint8_t *priv, uint8_t *point);

/*
 * The shared secret, the x coordinate of priv times point: ec_size() bytes.
 * EC_EINVAL, with out untouched, if either is no key.
 */
int ec_ecdh(enum ec_curve c, const uint8_t *priv, const uint8_t *point,
            size_t n, uint8_t *out);

/* --- Signatures of a digest, in DER (RFC 3279, 2.2.3). -------------------- */

/*
 * Is sig a signature of the message with this digest? Of a digest longer than
 * the order only the first bits count (FIPS 186-5, 6.4). 0 or a code.
 */
int ec_verify(enum ec_curve c, const uint8_t *point, size_t n,
              enum hash_type hash, const uint8_t *digest, const uint8_t *sig,
              size_t n_sig);

/*
 * Write a signature, at most EC_SIG_MAX bytes; *n_sig becomes its length. The
 * nonce is RFC 6979's, from key and digest; extra, n_extra bytes of fresh
 * randomness or none, is mixed in (3.6 there), so that what a fault or a side
 * channel shows cannot be compared between two signatures of one message.
 * EC_EINVAL, with nothing written, if priv is no key.
 */
int ec_sign(enum ec_curve c, const uint8_t *priv, enum hash_type hash,
            const uint8_t *digest, const uint8_t *extra, size_t n_extra,
            uint8_t *sig, size_t *n_sig);

/*
 * The same without DER, as JOSE has it (RFC 7518, 3.4): r and s, of ec_size()
 * bytes each. The length of what is written to sig, which has room for
 * EC_SIG_MAX; 0, or EC_ESIG if sig is not such a pair in the one right way.
 */
size_t ec_sig_to_der(enum ec_curve c, const uint8_t *rs, uint8_t *sig);
int ec_sig_from_der(enum ec_curve c, const uint8_t *sig, size_t n, uint8_t *rs);

#endif
