/*
 * crypto.h - checksums, encodings and password hashes. Pure.
 */
#ifndef CRYPTO_H
#define CRYPTO_H

#include "buf.h"

/* CRC-32C (Castagnoli), continued from crc; begin with 0. */
uint32_t crc32c(uint32_t crc, const void *p, size_t n);
/* The same without the processor's own instruction, for tests. */
uint32_t crc32c_portable(uint32_t crc, const void *p, size_t n);
/* The sum of a followed by b, from the sums of each and b's length. */
uint32_t crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t n_b);

/* Base64, standard alphabet with padding (RFC 4648, 4). */
void base64_encode(struct buf *b, const void *p, size_t n);
int base64_decode(struct buf *b, struct str s); /* 0, or -1 */
/*
 * The same into out, which has base64_room() bytes. False if malformed, then
 * *bad is the place that Go's decoder names. As there, line ends count for
 * nothing, nor do bits that are left over in the last digit.
 */
bool base64_read(struct str s, uint8_t *out, size_t *n, size_t *bad);
static inline size_t base64_room(size_t n_digits)
{
    return n_digits / 4 * 3 + 3;
}

/*
 * bcrypt (Provos and Mazieres 1999), "$2a$10$..." of 60 characters, the form
 * that Go's members write and check. cost 4..31: 2^cost rounds.
 */
#define BCRYPT_HASH_SIZE 61 /* with the NUL */
void bcrypt_hash(struct str password, int cost, const uint8_t salt[16],
                 char out[BCRYPT_HASH_SIZE]);
/* In time that does not depend on where the hashes differ. */
bool bcrypt_check(struct str password, struct str hash);

#endif
