/*
 * aead_impl.h - what aead.c shares with the ciphers: each is a key stream in
 * units of 64 bytes and a sum over blocks of 16.
 */
#ifndef AEAD_IMPL_H
#define AEAD_IMPL_H

#include "aead.h"
#include "hash.h" /* wipe(), ct_eq() */

#define AEAD_UNIT 64  /* four blocks of AES, one of ChaCha20 */
#define AEAD_BLOCK 16 /* of GHASH and Poly1305 */

struct aead_stream {
    uint8_t nonce[AEAD_NONCE_SIZE];
    uint32_t counter; /* of blocks: of the next unit's first */
};

struct aead_mac {
    uint64_t y[2];       /* GHASH: the sum, low half first */
    uint32_t r[5], h[5]; /* Poly1305: key and sum, in limbs of 26 bits */
    uint8_t mask[AEAD_TAG_SIZE]; /* what is added to the sum at the end */
};

struct aead_body {
    uint32_t counter; /* of the unit that mac_init gets */
    bool little;      /* the lengths at the end, in bytes; else in bits */
    /* out = in ^ stream for n units, which advances s; out may be in. */
    void (*stream)(const struct aead *a, struct aead_stream *s,
                   const uint8_t *in, uint8_t *out, size_t n);
    void (*mac_init)(struct aead_mac *m, const uint8_t unit[AEAD_UNIT]);
    void (*mac_add)(const struct aead *a, struct aead_mac *m, const uint8_t *p,
                    size_t n); /* n blocks */
    void (*mac_final)(struct aead_mac *m, uint8_t tag[AEAD_TAG_SIZE]);
};

/* Fill all of a; portable: without the processor's own instructions. */
void aead_gcm_init(struct aead *a, const uint8_t *key, size_t n_key,
                   bool portable);
void aead_chacha_init(struct aead *a, const uint8_t key[32], bool portable);

#endif
