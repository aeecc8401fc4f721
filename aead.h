/*
 * aead.h - authenticated encryption for TLS records: AES-GCM (NIST SP 800-38D)
 * and ChaCha20-Poly1305 (RFC 8439). Pure; nothing here allocates.
 *
 * A struct aead is one key in the caller's storage. It never changes after
 * aead_init(), so that threads may share it. Each message needs a nonce of its
 * own: two messages under one nonce give away both, and the power to forge.
 * Counting them, and changing the key in time, is the caller's duty.
 *
 * Time depends on lengths only, never on keys or data: there is no table that
 * a secret indexes, and no branch on one. AES and GHASH run on the processor's
 * instructions (AES and PCLMULQDQ of x86, AES and PMULL of ARMv8) where they
 * are there, and bitsliced otherwise.
 */
#ifndef AEAD_H
#define AEAD_H

#include "buf.h"

enum aead_type {
    AEAD_AES_128_GCM,
    AEAD_AES_256_GCM,
    AEAD_CHACHA20_POLY1305,
};

#define AEAD_KEY_MAX 32
#define AEAD_NONCE_SIZE 12
#define AEAD_TAG_SIZE 16
#define AEAD_LEN_MAX ((size_t)1 << 30) /* of a message; asserted */

#define AEAD_POWERS 8

struct aead { /* its fields are the modules' own */
    const struct aead_body *body;
    union {
        uint8_t aes[15][16];    /* round keys */
        uint64_t sliced[15][8]; /* the same, bitsliced */
        uint32_t chacha[8];
    } key;
    int rounds;                      /* of AES */
    uint64_t powers[AEAD_POWERS][2]; /* of GHASH's key: [i] is H^(i+1) */
};

size_t aead_key_size(enum aead_type type);

/* Does the processor have instructions for AES? If not, ChaCha20-Poly1305 is
 * several times as fast, and should be preferred. */
bool aead_aes_is_fast(void);

/* Copies the key, of aead_key_size(). aead_release() wipes it. */
void aead_init(struct aead *a, enum aead_type type, const uint8_t *key);
void aead_release(struct aead *a);
/* Without the processor's own instructions, for tests. */
void aead_init_portable(struct aead *a, enum aead_type type,
                        const uint8_t *key);

/*
 * Encrypt n_parts parts as one message to out, as long as they are together,
 * and write its tag, which also vouches for aad. Each part may lie exactly
 * where its ciphertext goes, but must not overlap the rest of out.
 */
void aead_seal(const struct aead *a, const uint8_t nonce[AEAD_NONCE_SIZE],
               struct str aad, const struct str *parts, size_t n_parts,
               uint8_t *out, uint8_t tag[AEAD_TAG_SIZE]);

/*
 * Check the tag, then decrypt in[0..n) to out, which may be in. False, with
 * out untouched, if key, nonce, aad, in and tag are not from one seal.
 */
bool aead_open(const struct aead *a, const uint8_t nonce[AEAD_NONCE_SIZE],
               struct str aad, const uint8_t *in, size_t n,
               const uint8_t tag[AEAD_TAG_SIZE], uint8_t *out);

#endif
