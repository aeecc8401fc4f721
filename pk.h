/*
 * pk.h - public-key signatures under the names of TLS: one door to RSA, ECDSA
 * and Ed25519 for certificates (x509.h) and handshakes (tls.h). Pure and
 * thread-safe; keys own their bytes and hold no pointers, so they are copied by
 * assignment.
 *
 * A scheme is a SignatureScheme of TLS 1.3 (RFC 8446, 4.2.3). Whether a key can
 * be used with one is asked in two ways: TLS 1.3 ties an ECDSA scheme to its
 * curve; certificates and TLS 1.2 do not, there P-256 may sign SHA-384.
 * SHA-1 and MD5 are not here: nothing signed with them proves anything.
 *
 * Constant time in all that is secret: see ec.h, rsa.h and curve25519.h.
 */
#ifndef PK_H
#define PK_H

#include "curve25519.h"
#include "ec.h"
#include "hash.h"
#include "rsa.h"

enum pk_type {
    PK_NONE, /* of {0}: no key; nothing verifies, nothing is signed */
    PK_RSA,
    PK_P256,
    PK_P384,
    PK_P521,
    PK_ED25519,
};

enum pk_scheme {
    PK_RSA_PKCS1_SHA256 = 0x0401, /* TLS 1.2 and certificates only */
    PK_RSA_PKCS1_SHA384 = 0x0501,
    PK_RSA_PKCS1_SHA512 = 0x0601,
    PK_ECDSA_SHA256 = 0x0403,   /* in TLS 1.3: with secp256r1 */
    PK_ECDSA_SHA384 = 0x0503,   /* in TLS 1.3: with secp384r1 */
    PK_ECDSA_SHA512 = 0x0603,   /* in TLS 1.3: with secp521r1 */
    PK_RSA_PSS_SHA256 = 0x0804, /* rsa_pss_rsae: salt as long as the hash */
    PK_RSA_PSS_SHA384 = 0x0805,
    PK_RSA_PSS_SHA512 = 0x0806,
    PK_ED25519_PURE = 0x0807,
};

enum {
    PK_EINVAL = -1, /* no such scheme, or not for this type of key */
    PK_ESIG = -2,   /* not a signature of this message by this key */
    PK_EKEY = -3,   /* not a key, or one whose parts do not fit */
};

#define PK_SIG_MAX RSA_SIZE_MAX
#define PK_RANDOM_SIZE 32

struct pk_public {
    enum pk_type type;
    union {
        struct rsa_public rsa;
        uint8_t point[EC_POINT_MAX]; /* ec_point_size() bytes of it */
        uint8_t ed25519[ED25519_PUBLIC_SIZE];
    } u;
};

struct pk_private { /* secret: end with pk_wipe() */
    struct pk_public pub;
    union {
        struct rsa_private rsa;
        uint8_t scalar[EC_SIZE_MAX]; /* ec_size() bytes of it */
        struct ed25519_key ed25519;
    } u;
};

/* --- Keys from raw numbers, all big-endian. Each returns 0 or PK_EKEY, and
 *     then leaves the key with type PK_NONE. ----------------------------- */

int pk_public_rsa(struct pk_public *k, struct str n, struct str e);
/* type PK_P256, PK_P384 or PK_P521; an uncompressed point, checked. */
int pk_public_ec(struct pk_public *k, enum pk_type type, struct str point);
int pk_public_ed25519(struct pk_public *k, struct str point);

/*
 * The public half is computed or copied. A scalar may be shorter than it should
 * be, or have zeros in front; a seed is the 32 bytes that RFC 8032 calls the
 * private key.
 */
int pk_private_rsa(struct pk_private *k, const struct rsa_parts *parts);
int pk_private_ec(struct pk_private *k, enum pk_type type, struct str scalar);
int pk_private_ed25519(struct pk_private *k, struct str seed);

void pk_wipe(struct pk_private *k); /* zeros that no compiler leaves out */

/* Does a certificate's key belong to this private key (compare to ->pub)? */
bool pk_public_eq(const struct pk_public *a, const struct pk_public *b);

/* --- Schemes. -------------------------------------------------------------- */

/* In certificates and TLS 1.2; and, stricter, in handshakes of TLS 1.3. */
bool pk_fits(enum pk_type type, unsigned scheme);
bool pk_fits_tls13(enum pk_type type, unsigned scheme);

/*
 * The hash that a scheme signs: true and *hash, or false for Ed25519, which
 * takes the message itself, and for what is not a scheme of ours.
 */
bool pk_scheme_hash(unsigned scheme, enum hash_type *hash);

/* --- Signatures. ------------------------------------------------------------ */

/*
 * Is sig a signature of msg? 0, PK_ESIG, or PK_EINVAL if the scheme does not
 * fit the key (pk_fits(); a handshake of TLS 1.3 asks pk_fits_tls13() first).
 */
int pk_verify(const struct pk_public *k, unsigned scheme, struct str msg,
              const uint8_t *sig, size_t n_sig);

/*
 * Sign msg into sig; *n_sig becomes the length. random is fresh for every call
 * (sys_random()); it salts PSS, blinds RSA and hedges the nonce of ECDSA, so a
 * repeated or weak one does not give away the key. PK_EINVAL as above, or
 * PK_EKEY if the result does not verify: parts of an RSA key that do not fit.
 */
int pk_sign(const struct pk_private *k, unsigned scheme, struct str msg,
            const uint8_t random[PK_RANDOM_SIZE], uint8_t sig[PK_SIG_MAX],
            size_t *n_sig);

/*
 * The same where only the digest of the message is left, of the size of the
 * scheme's hash (CertificateVerify of TLS 1.2 signs a long transcript). Not
 * for Ed25519: PK_EINVAL.
 */
int pk_verify_digest(const struct pk_public *k, unsigned scheme,
                     const uint8_t *digest, const uint8_t *sig, size_t n_sig);
int pk_sign_digest(const struct pk_private *k, unsigned scheme,
                   const uint8_t *digest, const uint8_t random[PK_RANDOM_SIZE],
                   uint8_t sig[PK_SIG_MAX], size_t *n_sig);

#endif
