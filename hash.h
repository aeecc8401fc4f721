/*
 * hash.h - SHA-1 and SHA-2 (FIPS 180-4), HMAC (RFC 2104), HKDF (RFC 5869), and
 * what all code that touches secrets needs. Pure; nothing here allocates.
 *
 * All state lives in the caller's storage and may be copied by assignment: a
 * copy goes on independently, which is how a TLS transcript gets its many
 * hashes, and how one keyed HMAC serves many messages. What may be secret is
 * wiped by the last call of each sequence, and from the stack by each call; a
 * copy, or a sequence that is given up, is the caller's to wipe().
 *
 * Time depends on lengths only. SHA-256 uses the processor's instructions (SHA
 * of x86, SHA2 of ARMv8) where they are there.
 */
#ifndef HASH_H
#define HASH_H

#include "buf.h"

/* --- Secrets. ------------------------------------------------------------ */

/* Zeros that the compiler may not leave out. n may be 0. */
static inline void wipe(void *p, size_t n)
{
    if (n)
        memset(p, 0, n);
    __asm__ volatile("" : : "r"(p) : "memory");
}

/* Whether n bytes are equal, in time that does not depend on which are. */
bool ct_eq(const void *a, const void *b, size_t n);

/* --- Digests. ------------------------------------------------------------ */

enum hash_type {
    HASH_SHA1, /* ids, and protocols that say so: collisions are known */
    HASH_SHA256,
    HASH_SHA384,
    HASH_SHA512,
};

#define SHA1_SIZE 20
#define SHA256_SIZE 32
#define SHA384_SIZE 48
#define SHA512_SIZE 64
#define HASH_SIZE_MAX SHA512_SIZE
#define HASH_BLOCK_MAX 128

struct hash { /* its fields are hash.c's own */
    enum hash_type type;
    uint64_t n; /* bytes so far; up to 2^61 - 1 */
    union hash_state {
        uint32_t w32[8];
        uint64_t w64[8];
    } state;
    uint8_t block[HASH_BLOCK_MAX]; /* the beginning of the next block */
};

size_t hash_size(enum hash_type type);  /* of the digest, in bytes */
size_t hash_block(enum hash_type type); /* that HMAC pads its key to */

void hash_init(struct hash *h, enum hash_type type);
void hash_update(struct hash *h, const void *p, size_t n);
/* Writes hash_size() bytes and wipes h. */
void hash_final(struct hash *h, uint8_t *out);
/* The digest of what came so far; h goes on. */
void hash_peek(const struct hash *h, uint8_t *out);
/* All at once. */
void hash_once(enum hash_type type, const void *p, size_t n, uint8_t *out);

/* SHA-256 without the processor's own instructions, for tests. */
void sha256_portable(const void *p, size_t n, uint8_t out[SHA256_SIZE]);

/* --- HMAC: a keyed digest of any hash's size. ---------------------------- */

struct hmac { /* its fields are hash.c's own */
    struct hash inner, outer;
};

/* Keys of any length; they are not kept, but m stays as secret as they are. */
void hmac_init(struct hmac *m, enum hash_type type, const void *key,
               size_t n_key);
void hmac_update(struct hmac *m, const void *p, size_t n);
/* Writes hash_size() bytes and wipes m. Compare by ct_eq(). */
void hmac_final(struct hmac *m, uint8_t *out);
void hmac_once(enum hash_type type, const void *key, size_t n_key,
               const void *p, size_t n, uint8_t *out);

/* --- HKDF: keys from a shared secret. ------------------------------------ */

/* The pseudorandom key, hash_size() bytes. No salt (n_salt 0) is zeros. */
void hkdf_extract(enum hash_type type, const void *salt, size_t n_salt,
                  const void *secret, size_t n_secret, uint8_t *out);
/* False, with out untouched, if n_out is above 255 * hash_size(). */
bool hkdf_expand(enum hash_type type, const void *prk, size_t n_prk,
                 const void *info, size_t n_info, uint8_t *out, size_t n_out);

#endif
