/*
 * hash.c - SHA-1, SHA-2, HMAC, HKDF.
 *
 * The four hashes are one construction (Merkle and Damgard): blocks are mixed
 * into a state, one after another, and the last one ends in 0x80, zeros and
 * the length in bits. A table says how they differ. SHA-384 is SHA-512 from
 * another state, and the constants of SHA-256 are the upper halves of those of
 * SHA-512, the digits of the same cube roots, so that one list serves both.
 *
 * SHA-256 is what most of TLS hashes with, so it has three bodies: portable,
 * and for the instructions of x86 and of ARMv8, chosen at run time.
 */
#include "hash.h"

#include <assert.h>
#include <pthread.h>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#include <immintrin.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <arm_neon.h>
#include <sys/auxv.h>
#endif

bool ct_eq(const void *a, const void *b, size_t n)
{
    const uint8_t *x = a, *y = b;
    unsigned differ = 0;

    for (size_t i = 0; i < n; i++)
        differ |= x[i] ^ y[i];
    return differ == 0;
}

/* --- SHA-1 (FIPS 180-4, 6.1). ------------------------------------------- */

static uint32_t rotl32(uint32_t v, int n)
{
    return v << n | v >> (32 - n);
}

static void sha1_block(uint32_t h[5], uint32_t w[80], const uint8_t *p)
{
    uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];

    for (int t = 0; t < 16; t++)
        w[t] = get_u32be(p + 4 * t);
    for (int t = 16; t < 80; t++)
        w[t] = rotl32(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
    for (int t = 0; t < 80; t++) {
        uint32_t f, k, next;

        if (t < 20)
            f = (b & c) | (~b & d), k = 0x5a827999;
        else if (t < 40)
            f = b ^ c ^ d, k = 0x6ed9eba1;
        else if (t < 60)
            f = (b & c) | (b & d) | (c & d), k = 0x8f1bbcdc;
        else
            f = b ^ c ^ d, k = 0xca62c1d6;
        next = rotl32(a, 5) + f + e + k + w[t];
        e = d, d = c, c = rotl32(b, 30), b = a, a = next;
    }
    h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
}

static void sha1_blocks(union hash_state *s, const uint8_t *p, size_t n)
{
    uint32_t w[80];

    for (; n > 0; n--, p += 64)
        sha1_block(s->w32, w, p);
    wipe(w, sizeof(w));
}

/* --- SHA-2 (FIPS 180-4, 6.2 and 6.4). ----------------------------------- */

/* The fractions of the cube roots of the first 80 primes (4.2.3). */
static const uint64_t sha2_k[80] = {
    0x428a2f98d728ae22, 0x7137449123ef65cd, 0xb5c0fbcfec4d3b2f,
    0xe9b5dba58189dbbc, 0x3956c25bf348b538, 0x59f111f1b605d019,
    0x923f82a4af194f9b, 0xab1c5ed5da6d8118, 0xd807aa98a3030242,
    0x12835b0145706fbe, 0x243185be4ee4b28c, 0x550c7dc3d5ffb4e2,
    0x72be5d74f27b896f, 0x80deb1fe3b1696b1, 0x9bdc06a725c71235,
    0xc19bf174cf692694, 0xe49b69c19ef14ad2, 0xefbe4786384f25e3,
    0x0fc19dc68b8cd5b5, 0x240ca1cc77ac9c65, 0x2de92c6f592b0275,
    0x4a7484aa6ea6e483, 0x5cb0a9dcbd41fbd4, 0x76f988da831153b5,
    0x983e5152ee66dfab, 0xa831c66d2db43210, 0xb00327c898fb213f,
    0xbf597fc7beef0ee4, 0xc6e00bf33da88fc2, 0xd5a79147930aa725,
    0x06ca6351e003826f, 0x142929670a0e6e70, 0x27b70a8546d22ffc,
    0x2e1b21385c26c926, 0x4d2c6dfc5ac42aed, 0x53380d139d95b3df,
    0x650a73548baf63de, 0x766a0abb3c77b2a8, 0x81c2c92e47edaee6,
    0x92722c851482353b, 0xa2bfe8a14cf10364, 0xa81a664bbc423001,
    0xc24b8b70d0f89791, 0xc76c51a30654be30, 0xd192e819d6ef5218,
    0xd69906245565a910, 0xf40e35855771202a, 0x106aa07032bbd1b8,
    0x19a4c116b8d2d0c8, 0x1e376c085141ab53, 0x2748774cdf8eeb99,
    0x34b0bcb5e19b48a8, 0x391c0cb3c5c95a63, 0x4ed8aa4ae3418acb,
    0x5b9cca4f7763e373, 0x682e6ff3d6b2b8a3, 0x748f82ee5defb2fc,
    0x78a5636f43172f60, 0x84c87814a1f0ab72, 0x8cc702081a6439ec,
    0x90befffa23631e28, 0xa4506cebde82bde9, 0xbef9a3f7b2c67915,
    0xc67178f2e372532b, 0xca273eceea26619c, 0xd186b8c721c0c207,
    0xeada7dd6cde0eb1e, 0xf57d4f7fee6ed178, 0x06f067aa72176fba,
    0x0a637dc5a2c898a6, 0x113f9804bef90dae, 0x1b710b35131c471b,
    0x28db77f523047d84, 0x32caab7b40c72493, 0x3c9ebe0a15c9bebc,
    0x431d67c49c100d4c, 0x4cc5d4becb3e42b6, 0x597f299cfc657e2a,
    0x5fcb6fab3ad6faec, 0x6c44198c4a475817,
};

/* The two differ in width, number of rounds and amounts of rotation. */
#define SHA2_ROTR(v, n) ((v) >> (n) | (v) << (8 * sizeof(v) - (n)))
#define SHA2_MIX(v, a, b, c)                                                   \
    (SHA2_ROTR(v, a) ^ SHA2_ROTR(v, b) ^ SHA2_ROTR(v, c))
#define SHA2_STIR(v, a, b, c) (SHA2_ROTR(v, a) ^ SHA2_ROTR(v, b) ^ (v) >> (c))

static void sha256_block(uint32_t h[8], uint32_t w[64], const uint8_t *p)
{
    uint32_t a = h[0], b = h[1], c = h[2], d = h[3];
    uint32_t e = h[4], f = h[5], g = h[6], last = h[7];

    for (int t = 0; t < 16; t++)
        w[t] = get_u32be(p + 4 * t);
    for (int t = 16; t < 64; t++)
        w[t] = SHA2_STIR(w[t - 2], 17, 19, 10) + w[t - 7] +
               SHA2_STIR(w[t - 15], 7, 18, 3) + w[t - 16];
    for (int t = 0; t < 64; t++) {
        uint32_t t1 = last + SHA2_MIX(e, 6, 11, 25) + (g ^ (e & (f ^ g))) +
                      (uint32_t)(sha2_k[t] >> 32) + w[t];
        uint32_t t2 = SHA2_MIX(a, 2, 13, 22) + ((a & b) | (c & (a | b)));

        last = g, g = f, f = e, e = d + t1;
        d = c, c = b, b = a, a = t1 + t2;
    }
    h[0] += a, h[1] += b, h[2] += c, h[3] += d;
    h[4] += e, h[5] += f, h[6] += g, h[7] += last;
}

static void sha256_blocks_portable(union hash_state *s, const uint8_t *p,
                                   size_t n)
{
    uint32_t w[64];

    for (; n > 0; n--, p += 64)
        sha256_block(s->w32, w, p);
    wipe(w, sizeof(w));
}

static void sha512_block(uint64_t h[8], uint64_t w[80], const uint8_t *p)
{
    uint64_t a = h[0], b = h[1], c = h[2], d = h[3];
    uint64_t e = h[4], f = h[5], g = h[6], last = h[7];

    for (int t = 0; t < 16; t++)
        w[t] = get_u64be(p + 8 * t);
    for (int t = 16; t < 80; t++)
        w[t] = SHA2_STIR(w[t - 2], 19, 61, 6) + w[t - 7] +
               SHA2_STIR(w[t - 15], 1, 8, 7) + w[t - 16];
    for (int t = 0; t < 80; t++) {
        uint64_t t1 = last + SHA2_MIX(e, 14, 18, 41) + (g ^ (e & (f ^ g))) +
                      sha2_k[t] + w[t];
        uint64_t t2 = SHA2_MIX(a, 28, 34, 39) + ((a & b) | (c & (a | b)));

        last = g, g = f, f = e, e = d + t1;
        d = c, c = b, b = a, a = t1 + t2;
    }
    h[0] += a, h[1] += b, h[2] += c, h[3] += d;
    h[4] += e, h[5] += f, h[6] += g, h[7] += last;
}

static void sha512_blocks(union hash_state *s, const uint8_t *p, size_t n)
{
    uint64_t w[80];

    for (; n > 0; n--, p += 128)
        sha512_block(s->w64, w, p);
    wipe(w, sizeof(w));
}

/* --- SHA-256 by instructions of the processor. --------------------------- */

#if defined(__x86_64__) || defined(__i386__)

#define HAVE_SHA256_FAST 1
#define CPUID7_EBX_SHA (1U << 29)
#define TARGET_SHA __attribute__((target("sha,sse4.1")))

static bool sha256_fast_works(void)
{
    unsigned eax, ebx, ecx, edx;

    return __builtin_cpu_supports("sse4.1") &&
           __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) &&
           (ebx & CPUID7_EBX_SHA);
}

/* Four rounds, whose constants are the upper halves of k[0..4). */
#define SHA256_ROUNDS(m, k)                                                    \
    do {                                                                       \
        __m128i wk = _mm_castps_si128(_mm_shuffle_ps(                          \
            _mm_castsi128_ps(_mm_loadu_si128((const __m128i *)(k))),           \
            _mm_castsi128_ps(_mm_loadu_si128((const __m128i *)(k) + 1)),       \
            0xdd));                                                            \
        wk = _mm_add_epi32(wk, m);                                             \
        cdgh = _mm_sha256rnds2_epu32(cdgh, abef, wk);                          \
        wk = _mm_shuffle_epi32(wk, 0x0e);                                      \
        abef = _mm_sha256rnds2_epu32(abef, cdgh, wk);                          \
    } while (0)

TARGET_SHA static void sha256_blocks_fast(union hash_state *s, const uint8_t *p,
                                          size_t n)
{
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i *state = (__m128i *)s->w32;
    __m128i badc = _mm_shuffle_epi32(_mm_loadu_si128(state), 0xb1);
    __m128i hgfe = _mm_shuffle_epi32(_mm_loadu_si128(state + 1), 0x1b);
    __m128i abef = _mm_alignr_epi8(badc, hgfe, 8);
    __m128i cdgh = _mm_blend_epi16(hgfe, badc, 0xf0);

    for (; n > 0; n--, p += 64) {
        const __m128i *in = (const __m128i *)p;
        __m128i m0 = _mm_shuffle_epi8(_mm_loadu_si128(in), swap);
        __m128i m1 = _mm_shuffle_epi8(_mm_loadu_si128(in + 1), swap);
        __m128i m2 = _mm_shuffle_epi8(_mm_loadu_si128(in + 2), swap);
        __m128i m3 = _mm_shuffle_epi8(_mm_loadu_si128(in + 3), swap);
        __m128i abef_before = abef, cdgh_before = cdgh;

        for (int t = 0; t < 48; t += 4) {
            __m128i next = _mm_add_epi32(_mm_sha256msg1_epu32(m0, m1),
                                         _mm_alignr_epi8(m3, m2, 4));

            SHA256_ROUNDS(m0, sha2_k + t);
            m0 = m1, m1 = m2, m2 = m3;
            m3 = _mm_sha256msg2_epu32(next, m2);
        }
        SHA256_ROUNDS(m0, sha2_k + 48);
        SHA256_ROUNDS(m1, sha2_k + 52);
        SHA256_ROUNDS(m2, sha2_k + 56);
        SHA256_ROUNDS(m3, sha2_k + 60);
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    badc = _mm_shuffle_epi32(abef, 0x1b); /* feba */
    hgfe = _mm_shuffle_epi32(cdgh, 0xb1); /* dchg */
    _mm_storeu_si128(state, _mm_blend_epi16(badc, hgfe, 0xf0));
    _mm_storeu_si128(state + 1, _mm_alignr_epi8(hgfe, badc, 8));
}

#elif defined(__aarch64__) && defined(__linux__) && !defined(__AARCH64EB__)

#define HAVE_SHA256_FAST 1
#define HWCAP_SHA2_BIT (1UL << 6) /* HWCAP_SHA2 of <asm/hwcap.h> */

static bool sha256_fast_works(void)
{
    return getauxval(AT_HWCAP) & HWCAP_SHA2_BIT;
}

/* In assembly, since the names of the intrinsics depend on the compiler. */
static inline void sha256_rounds(uint32x4_t *abcd, uint32x4_t *efgh,
                                 uint32x4_t m, const uint64_t *k)
{
    uint32x4_t wk = vuzp2q_u32(vreinterpretq_u32_u64(vld1q_u64(k)),
                               vreinterpretq_u32_u64(vld1q_u64(k + 2)));
    uint32x4_t before = *abcd;

    wk = vaddq_u32(wk, m);
    __asm__(".arch_extension sha2\n\tsha256h %q0, %q1, %2.4s"
            : "+w"(*abcd)
            : "w"(*efgh), "w"(wk));
    __asm__(".arch_extension sha2\n\tsha256h2 %q0, %q1, %2.4s"
            : "+w"(*efgh)
            : "w"(before), "w"(wk));
}

/* The next four words of the schedule, after the sixteen in m. */
static inline uint32x4_t sha256_schedule(uint32x4_t m0, uint32x4_t m1,
                                         uint32x4_t m2, uint32x4_t m3)
{
    __asm__(".arch_extension sha2\n\tsha256su0 %0.4s, %1.4s"
            : "+w"(m0)
            : "w"(m1));
    __asm__(".arch_extension sha2\n\tsha256su1 %0.4s, %1.4s, %2.4s"
            : "+w"(m0)
            : "w"(m2), "w"(m3));
    return m0;
}

static void sha256_blocks_fast(union hash_state *s, const uint8_t *p, size_t n)
{
    uint32x4_t abcd = vld1q_u32(s->w32), efgh = vld1q_u32(s->w32 + 4);

    for (; n > 0; n--, p += 64) {
        uint32x4_t abcd_before = abcd, efgh_before = efgh, m[4];

        for (int i = 0; i < 4; i++)
            m[i] = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(p + 16 * i)));
        for (int t = 0; t < 64; t += 4) {
            uint32x4_t next = sha256_schedule(m[0], m[1], m[2], m[3]);

            sha256_rounds(&abcd, &efgh, m[0], sha2_k + t);
            m[0] = m[1], m[1] = m[2], m[2] = m[3], m[3] = next;
        }
        abcd = vaddq_u32(abcd, abcd_before);
        efgh = vaddq_u32(efgh, efgh_before);
    }
    vst1q_u32(s->w32, abcd);
    vst1q_u32(s->w32 + 4, efgh);
}

#endif

static void (*sha256_body)(union hash_state *, const uint8_t *, size_t);
static pthread_once_t sha256_chosen = PTHREAD_ONCE_INIT;

static void sha256_choose(void)
{
    sha256_body = sha256_blocks_portable;
#ifdef HAVE_SHA256_FAST
    if (sha256_fast_works())
        sha256_body = sha256_blocks_fast;
#endif
}

static void sha256_blocks(union hash_state *s, const uint8_t *p, size_t n)
{
    pthread_once(&sha256_chosen, sha256_choose);
    sha256_body(s, p, n);
}

/* --- What the hashes have in common. ------------------------------------ */

#define WORDS32(...)                                                           \
    {                                                                          \
        .w32 = { __VA_ARGS__ }                                                 \
    }
#define WORDS64(...)                                                           \
    {                                                                          \
        .w64 = { __VA_ARGS__ }                                                 \
    }

static const struct hash_rule {
    size_t size, block, length; /* length: of the field that ends the last */
    size_t word;
    void (*blocks)(union hash_state *, const uint8_t *, size_t);
    union hash_state start;
} hash_rules[] = {
    [HASH_SHA1] = {SHA1_SIZE, 64, 8, 4, sha1_blocks,
                   WORDS32(0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476,
                           0xc3d2e1f0)},
    [HASH_SHA256] = {SHA256_SIZE, 64, 8, 4, sha256_blocks,
                     WORDS32(0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                             0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19)},
    [HASH_SHA384] = {SHA384_SIZE, 128, 16, 8, sha512_blocks,
                     WORDS64(0xcbbb9d5dc1059ed8, 0x629a292a367cd507,
                             0x9159015a3070dd17, 0x152fecd8f70e5939,
                             0x67332667ffc00b31, 0x8eb44a8768581511,
                             0xdb0c2e0d64f98fa7, 0x47b5481dbefa4fa4)},
    [HASH_SHA512] = {SHA512_SIZE, 128, 16, 8, sha512_blocks,
                     WORDS64(0x6a09e667f3bcc908, 0xbb67ae8584caa73b,
                             0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
                             0x510e527fade682d1, 0x9b05688c2b3e6c1f,
                             0x1f83d9abfb41bd6b, 0x5be0cd19137e2179)},
};

static const struct hash_rule *rule_of(enum hash_type type)
{
    const struct hash_rule *rule;

    assert((size_t)type < ARRAY_LEN(hash_rules));
    rule = &hash_rules[type];
    assert(rule->block > 0);
    return rule;
}

size_t hash_size(enum hash_type type)
{
    return rule_of(type)->size;
}

size_t hash_block(enum hash_type type)
{
    return rule_of(type)->block;
}

void hash_init(struct hash *h, enum hash_type type)
{
    h->type = type;
    h->n = 0;
    h->state = rule_of(type)->start;
}

void hash_update(struct hash *h, const void *p, size_t n)
{
    const struct hash_rule *rule = rule_of(h->type);
    const uint8_t *in = p;
    size_t block = rule->block, have = h->n % block;

    h->n += n;
    if (have) {
        size_t take = (size_t)min_u64(n, block - have);

        if (take)
            memcpy(h->block + have, in, take);
        if (have + take < block)
            return;
        rule->blocks(&h->state, h->block, 1);
        in += take;
        n -= take;
    }
    if (n >= block)
        rule->blocks(&h->state, in, n / block);
    if (n % block)
        memcpy(h->block, in + n - n % block, n % block);
}

/* 0x80, zeros, and the length in bits: one block more, or two. */
static void hash_pad(struct hash *h, const struct hash_rule *rule)
{
    size_t have = h->n % rule->block;

    h->block[have++] = 0x80;
    memset(h->block + have, 0, rule->block - have);
    if (have > rule->block - rule->length) {
        rule->blocks(&h->state, h->block, 1);
        memset(h->block, 0, rule->block);
    }
    put_u64be(h->block + rule->block - 8, h->n << 3);
    rule->blocks(&h->state, h->block, 1);
}

void hash_final(struct hash *h, uint8_t *out)
{
    const struct hash_rule *rule = rule_of(h->type);

    hash_pad(h, rule);
    for (size_t i = 0; i < rule->size / rule->word; i++) {
        if (rule->word == 4)
            put_u32be(out + 4 * i, h->state.w32[i]);
        else
            put_u64be(out + 8 * i, h->state.w64[i]);
    }
    wipe(h, sizeof(*h));
}

void hash_peek(const struct hash *h, uint8_t *out)
{
    struct hash copy = *h;

    hash_final(&copy, out);
}

void hash_once(enum hash_type type, const void *p, size_t n, uint8_t *out)
{
    struct hash h;

    hash_init(&h, type);
    hash_update(&h, p, n);
    hash_final(&h, out);
}

void sha256_portable(const void *p, size_t n, uint8_t out[SHA256_SIZE])
{
    struct hash h;
    const uint8_t *in = p;
    size_t whole = n / 64;

    hash_init(&h, HASH_SHA256);
    sha256_blocks_portable(&h.state, in, whole);
    h.n = 64 * whole;
    hash_update(&h, in + 64 * whole, n % 64);
    hash_final(&h, out);
}

/* --- HMAC (RFC 2104). ---------------------------------------------------- */

void hmac_init(struct hmac *m, enum hash_type type, const void *key,
               size_t n_key)
{
    uint8_t pad[HASH_BLOCK_MAX] = {0};
    size_t n_block = hash_block(type);

    if (n_key > n_block)
        hash_once(type, key, n_key, pad);
    else if (n_key)
        memcpy(pad, key, n_key);
    for (size_t i = 0; i < n_block; i++)
        pad[i] ^= 0x36;
    hash_init(&m->inner, type);
    hash_update(&m->inner, pad, n_block);
    for (size_t i = 0; i < n_block; i++)
        pad[i] ^= 0x36 ^ 0x5c;
    hash_init(&m->outer, type);
    hash_update(&m->outer, pad, n_block);
    wipe(pad, sizeof(pad));
}

void hmac_update(struct hmac *m, const void *p, size_t n)
{
    hash_update(&m->inner, p, n);
}

void hmac_final(struct hmac *m, uint8_t *out)
{
    uint8_t digest[HASH_SIZE_MAX];
    size_t n = hash_size(m->inner.type);

    hash_final(&m->inner, digest);
    hash_update(&m->outer, digest, n);
    hash_final(&m->outer, out);
    wipe(digest, sizeof(digest));
}

void hmac_once(enum hash_type type, const void *key, size_t n_key,
               const void *p, size_t n, uint8_t *out)
{
    struct hmac m;

    hmac_init(&m, type, key, n_key);
    hmac_update(&m, p, n);
    hmac_final(&m, out);
}

/* --- HKDF (RFC 5869). ---------------------------------------------------- */

void hkdf_extract(enum hash_type type, const void *salt, size_t n_salt,
                  const void *secret, size_t n_secret, uint8_t *out)
{
    /* HMAC pads its key with zeros: no salt is a salt of zeros. */
    hmac_once(type, salt, n_salt, secret, n_secret, out);
}

bool hkdf_expand(enum hash_type type, const void *prk, size_t n_prk,
                 const void *info, size_t n_info, uint8_t *out, size_t n_out)
{
    uint8_t t[HASH_SIZE_MAX], count = 0;
    size_t size = hash_size(type);
    struct hmac keyed, m;

    if (n_out > 255 * size)
        return false;
    hmac_init(&keyed, type, prk, n_prk);
    for (size_t at = 0; at < n_out; at += size) {
        m = keyed;
        if (count++)
            hmac_update(&m, t, size);
        hmac_update(&m, info, n_info);
        hmac_update(&m, &count, 1);
        hmac_final(&m, t);
        memcpy(out + at, t, (size_t)min_u64(size, n_out - at));
    }
    wipe(t, sizeof(t));
    wipe(&keyed, sizeof(keyed));
    return true;
}
