/*
 * curve25519.h - key agreement, X25519 (RFC 7748), and signatures, Ed25519
 * (RFC 8032). Pure; nothing here allocates.
 *
 * Time does not depend on secrets, only on lengths and, when a signature is
 * checked, on what is public. Where the secret bytes come from, and wiping
 * them, is the caller's business; what is derived from them here is wiped.
 */
#ifndef CURVE25519_H
#define CURVE25519_H

#include "buf.h"

/* --- X25519. ------------------------------------------------------------- */

#define X25519_SIZE 32 /* of a secret, a public key and what is agreed on */

/* Any 32 random bytes are a secret. */
void x25519_public(const uint8_t secret[X25519_SIZE], uint8_t out[X25519_SIZE]);
/*
 * The shared secret. False, with zeros in out, if theirs is one of the few
 * points that would make it the same for all: RFC 8446, 7.4.2, wants that
 * connection ended.
 */
bool x25519(const uint8_t secret[X25519_SIZE],
            const uint8_t theirs[X25519_SIZE], uint8_t out[X25519_SIZE]);

/* --- Ed25519. ------------------------------------------------------------ */

#define ED25519_SEED_SIZE 32 /* what RFC 8032 calls the private key */
#define ED25519_PUBLIC_SIZE 32
#define ED25519_SIZE 64 /* of a signature */

struct ed25519_key { /* of the caller's storage; wipe() it in the end */
    uint8_t scalar[32], prefix[32];
    uint8_t public[ED25519_PUBLIC_SIZE];
};

void ed25519_init(struct ed25519_key *k, const uint8_t seed[ED25519_SEED_SIZE]);
void ed25519_sign(const struct ed25519_key *k, const void *p, size_t n,
                  uint8_t out[ED25519_SIZE]);
/*
 * Strict: S must be below the group's order, and the public key's encoding
 * canonical. As in Go, the equation is checked without the cofactor.
 */
bool ed25519_verify(const uint8_t public[ED25519_PUBLIC_SIZE], const void *p,
                    size_t n, const uint8_t signature[ED25519_SIZE]);

#endif
