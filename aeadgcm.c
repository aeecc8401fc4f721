/*
 * aeadgcm.c - AES (FIPS 197) in counter mode and GHASH (NIST SP 800-38D).
 *
 * PORTABLE
 *   Tables that a secret indexes tell it to whoever shares the cache, so AES
 *   is bitsliced: bit k of all 64 bytes of four blocks makes word k of eight,
 *   and the S-box is a circuit of gates that work on all bytes at once.
 *
 *     bit 16 * row + 4 * column + block of each word
 *
 *   turns ShiftRows and MixColumns into rotations. GHASH multiplies without
 *   carries by the multiplier for integers, of numbers with three zeros after
 *   each bit, which have room for the carries.
 *
 * FAST
 *   The instructions of x86 and of ARMv8: eight and four blocks at once, and
 *   sums over eight blocks between two reductions.
 *
 * Both take the round keys from one expansion, which is bitsliced too.
 */
#include "aead_impl.h"

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <arm_neon.h>
#include <sys/auxv.h>
#endif

/* --- AES, bitsliced. ----------------------------------------------------- */

/*
 * The S-box in 115 gates (Boyar and Peralta 2010, "A new combinational logic
 * minimization technique"): linear, an inversion in GF(2^4) over GF(2^4),
 * linear again. Names are the paper's; x0 is the most significant bit.
 */
static void sub_bytes(uint64_t q[8])
{
    uint64_t x0 = q[7], x1 = q[6], x2 = q[5], x3 = q[4];
    uint64_t x4 = q[3], x5 = q[2], x6 = q[1], x7 = q[0];

    uint64_t y14 = x3 ^ x5, y13 = x0 ^ x6, y9 = x0 ^ x3, y8 = x0 ^ x5;
    uint64_t t0 = x1 ^ x2, y1 = t0 ^ x7, y4 = y1 ^ x3, y12 = y13 ^ y14;
    uint64_t y2 = y1 ^ x0, y5 = y1 ^ x6, y3 = y5 ^ y8, t1 = x4 ^ y12;
    uint64_t y15 = t1 ^ x5, y20 = t1 ^ x1, y6 = y15 ^ x7, y10 = y15 ^ t0;
    uint64_t y11 = y20 ^ y9, y7 = x7 ^ y11, y17 = y10 ^ y11, y19 = y10 ^ y8;
    uint64_t y16 = t0 ^ y11, y21 = y13 ^ y16, y18 = x0 ^ y16;

    uint64_t t2 = y12 & y15, t3 = y3 & y6, t4 = t3 ^ t2, t5 = y4 & x7;
    uint64_t t6 = t5 ^ t2, t7 = y13 & y16, t8 = y5 & y1, t9 = t8 ^ t7;
    uint64_t t10 = y2 & y7, t11 = t10 ^ t7, t12 = y9 & y11, t13 = y14 & y17;
    uint64_t t14 = t13 ^ t12, t15 = y8 & y10, t16 = t15 ^ t12, t17 = t4 ^ t14;
    uint64_t t18 = t6 ^ t16, t19 = t9 ^ t14, t20 = t11 ^ t16, t21 = t17 ^ y20;
    uint64_t t22 = t18 ^ y19, t23 = t19 ^ y21, t24 = t20 ^ y18, t25 = t21 ^ t22;
    uint64_t t26 = t21 & t23, t27 = t24 ^ t26, t28 = t25 & t27, t29 = t28 ^ t22;
    uint64_t t30 = t23 ^ t24, t31 = t22 ^ t26, t32 = t31 & t30, t33 = t32 ^ t24;
    uint64_t t34 = t23 ^ t33, t35 = t27 ^ t33, t36 = t24 & t35, t37 = t36 ^ t34;
    uint64_t t38 = t27 ^ t36, t39 = t29 & t38, t40 = t25 ^ t39, t41 = t40 ^ t37;
    uint64_t t42 = t29 ^ t33, t43 = t29 ^ t40, t44 = t33 ^ t37, t45 = t42 ^ t41;

    uint64_t z0 = t44 & y15, z1 = t37 & y6, z2 = t33 & x7, z3 = t43 & y16;
    uint64_t z4 = t40 & y1, z5 = t29 & y7, z6 = t42 & y11, z7 = t45 & y17;
    uint64_t z8 = t41 & y10, z9 = t44 & y12, z10 = t37 & y3, z11 = t33 & y4;
    uint64_t z12 = t43 & y13, z13 = t40 & y5, z14 = t29 & y2, z15 = t42 & y9;
    uint64_t z16 = t45 & y14, z17 = t41 & y8;

    uint64_t t46 = z15 ^ z16, t47 = z10 ^ z11, t48 = z5 ^ z13, t49 = z9 ^ z10;
    uint64_t t50 = z2 ^ z12, t51 = z2 ^ z5, t52 = z7 ^ z8, t53 = z0 ^ z3;
    uint64_t t54 = z6 ^ z7, t55 = z16 ^ z17, t56 = z12 ^ t48, t57 = t50 ^ t53;
    uint64_t t58 = z4 ^ t46, t59 = z3 ^ t54, t60 = t46 ^ t57, t61 = z14 ^ t57;
    uint64_t t62 = t52 ^ t58, t63 = t49 ^ t58, t64 = z4 ^ t59, t65 = t61 ^ t62;
    uint64_t t66 = z1 ^ t63, t67 = t64 ^ t65;

    q[7] = t59 ^ t63;
    q[6] = t64 ^ ~(t53 ^ t66);
    q[5] = t55 ^ ~t67;
    q[4] = t53 ^ t66;
    q[3] = t51 ^ t66;
    q[2] = t47 ^ t65;
    q[1] = t56 ^ ~t62;
    q[0] = t48 ^ ~t60;
}

/* Row r moves left by r columns, in its 16 bits. */
static void shift_rows(uint64_t q[8])
{
    for (int k = 0; k < 8; k++) {
        uint64_t x = q[k];

        q[k] = (x & 0x000000000000ffff) | (x & 0x00000000fff00000) >> 4 |
               (x & 0x00000000000f0000) << 12 | (x & 0x0000ff0000000000) >> 8 |
               (x & 0x000000ff00000000) << 8 | (x & 0x0fff000000000000) << 4 |
               (x & 0xf000000000000000) >> 12;
    }
}

static uint64_t rotr64(uint64_t v, int n)
{
    return v >> n | v << (64 - n);
}

/* Row r becomes 2 * (r ^ r1) ^ r1 ^ r2 ^ r3, where r1 is the next row. */
static void mix_columns(uint64_t q[8])
{
    uint64_t next[8], both[8];

    for (int k = 0; k < 8; k++) {
        next[k] = rotr64(q[k], 16);
        both[k] = q[k] ^ next[k];
    }
    for (int k = 0; k < 8; k++) { /* doubling: x^8 is x^4 + x^3 + x + 1 */
        uint64_t twice = both[(k + 7) & 7];

        if (k == 1 || k == 3 || k == 4)
            twice ^= both[7];
        q[k] = twice ^ next[k] ^ rotr64(both[k], 32);
    }
}

/* Exchange the bits of a that are in mask << n with those of b in mask. */
static void swap_bits(uint64_t *a, uint64_t *b, int n, uint64_t mask)
{
    uint64_t differ = (*a >> n ^ *b) & mask;

    *b ^= differ;
    *a ^= differ << n;
}

/* Bit k of byte s of word g <-> bit g of byte s of word k. */
static void transpose(uint64_t q[8])
{
    for (int k = 0; k < 8; k += 2)
        swap_bits(&q[k], &q[k + 1], 1, 0x5555555555555555);
    for (int k = 0; k < 8; k += k & 1 ? 3 : 1)
        swap_bits(&q[k], &q[k + 2], 2, 0x3333333333333333);
    for (int k = 0; k < 4; k++)
        swap_bits(&q[k], &q[k + 4], 4, 0x0f0f0f0f0f0f0f0f);
}

/* Four bytes, each followed by a zero; and back. */
static uint64_t spread(uint32_t v)
{
    uint64_t x = v;

    x = (x | x << 16) & 0x0000ffff0000ffff;
    return (x | x << 8) & 0x00ff00ff00ff00ff;
}

static uint32_t gather(uint64_t x)
{
    x &= 0x00ff00ff00ff00ff;
    x = (x | x >> 8) & 0x0000ffff0000ffff;
    return (uint32_t)(x | x >> 16);
}

/* Blocks are four columns each, the first row in the lowest byte. */
static void slice(uint64_t q[8], const uint32_t columns[16])
{
    for (int b = 0; b < 4; b++) {
        const uint32_t *c = columns + 4 * b;

        q[b] = spread(c[0]) | spread(c[2]) << 8;
        q[b + 4] = spread(c[1]) | spread(c[3]) << 8;
    }
    transpose(q);
}

static void unslice(uint32_t columns[16], uint64_t q[8])
{
    transpose(q);
    for (int b = 0; b < 4; b++) {
        uint32_t *c = columns + 4 * b;

        c[0] = gather(q[b]), c[2] = gather(q[b] >> 8);
        c[1] = gather(q[b + 4]), c[3] = gather(q[b + 4] >> 8);
    }
}

static void add_round_key(uint64_t q[8], const uint64_t key[8])
{
    for (int k = 0; k < 8; k++)
        q[k] ^= key[k];
}

static void encrypt_sliced(const struct aead *a, uint64_t q[8])
{
    add_round_key(q, a->key.sliced[0]);
    for (int i = 1; i < a->rounds; i++) {
        sub_bytes(q);
        shift_rows(q);
        mix_columns(q);
        add_round_key(q, a->key.sliced[i]);
    }
    sub_bytes(q);
    shift_rows(q);
    add_round_key(q, a->key.sliced[a->rounds]);
}

static void aes_portable(const struct aead *a, struct aead_stream *s,
                         const uint8_t *in, uint8_t *out, size_t n)
{
    uint32_t columns[16];
    uint64_t q[8];

    for (; n > 0; n--, in += AEAD_UNIT, out += AEAD_UNIT) {
        for (int b = 0; b < 4; b++, s->counter++) {
            for (int i = 0; i < 3; i++)
                columns[4 * b + i] = get_u32le(s->nonce + 4 * i);
            columns[4 * b + 3] = __builtin_bswap32(s->counter);
        }
        slice(q, columns);
        encrypt_sliced(a, q);
        unslice(columns, q);
        for (int i = 0; i < 16; i++)
            put_u32le(out + 4 * i, get_u32le(in + 4 * i) ^ columns[i]);
    }
    wipe(columns, sizeof(columns));
    wipe(q, sizeof(q));
}

/* --- The key's expansion (FIPS 197, 5.2). -------------------------------- */

static uint32_t sub_word(uint32_t w)
{
    uint32_t columns[16] = {w};
    uint64_t q[8];

    slice(q, columns);
    sub_bytes(q);
    unslice(columns, q);
    w = columns[0];
    wipe(columns, sizeof(columns));
    wipe(q, sizeof(q));
    return w;
}

/* w: four words for each of the rounds and one more. */
static void expand_key(uint32_t *w, int rounds, const uint8_t *key, int n_key)
{
    int n = n_key / 4;
    uint32_t constant = 1, last = 0;

    for (int i = 0; i < 4 * (rounds + 1); i++) {
        if (i < n) {
            last = get_u32le(key + 4 * i);
        } else {
            if (i % n == 0) {
                last = sub_word(last >> 8 | last << 24) ^ constant;
                constant = constant << 1 ^ (constant >> 7) * 0x11b;
            } else if (n > 6 && i % n == 4) {
                last = sub_word(last);
            }
            last ^= w[i - n];
        }
        w[i] = last;
    }
}

/* --- GHASH (NIST SP 800-38D, 6.3 and 6.4). ------------------------------- */

/*
 * The specification counts bits from the left, so that a block, read as a
 * big-endian number, is a polynomial whose lowest coefficient is the highest
 * bit. A product of two has one bit too few: it is moved up by one before it
 * is reduced, from the bottom, modulo x^128 + x^7 + x^2 + x + 1.
 */
static void ghash_reduce(uint64_t y[2], const uint64_t v[4])
{
    uint64_t v0 = v[0] << 1;
    uint64_t v1 = v[1] << 1 | v[0] >> 63;
    uint64_t v2 = v[2] << 1 | v[1] >> 63;
    uint64_t v3 = v[3] << 1 | v[2] >> 63;

    v1 ^= v0 << 63 ^ v0 << 62 ^ v0 << 57;
    v2 ^= v0 ^ v0 >> 1 ^ v0 >> 2 ^ v0 >> 7;
    v2 ^= v1 << 63 ^ v1 << 62 ^ v1 << 57;
    v3 ^= v1 ^ v1 >> 1 ^ v1 >> 2 ^ v1 >> 7;
    y[0] = v2;
    y[1] = v3;
}

/*
 * The low half of a product without carries. Of each factor every fourth bit
 * is taken: the 15 products, at most, that add up where another bit follows
 * fit the four bits in between.
 */
static uint64_t multiply_low(uint64_t a, uint64_t b)
{
    const uint64_t mask = 0x1111111111111111;
    uint64_t a0 = a & mask, a1 = a & mask << 1, a2 = a & mask << 2;
    uint64_t a3 = a & mask << 3;
    uint64_t b0 = b & mask, b1 = b & mask << 1, b2 = b & mask << 2;
    uint64_t b3 = b & mask << 3;

    return ((a0 * b0 ^ a1 * b3 ^ a2 * b2 ^ a3 * b1) & mask) |
           ((a0 * b1 ^ a1 * b0 ^ a2 * b3 ^ a3 * b2) & mask << 1) |
           ((a0 * b2 ^ a1 * b1 ^ a2 * b0 ^ a3 * b3) & mask << 2) |
           ((a0 * b3 ^ a1 * b2 ^ a2 * b1 ^ a3 * b0) & mask << 3);
}

static uint64_t reverse(uint64_t v)
{
    v = (v >> 1 & 0x5555555555555555) | (v & 0x5555555555555555) << 1;
    v = (v >> 2 & 0x3333333333333333) | (v & 0x3333333333333333) << 2;
    v = (v >> 4 & 0x0f0f0f0f0f0f0f0f) | (v & 0x0f0f0f0f0f0f0f0f) << 4;
    v = (v >> 8 & 0x00ff00ff00ff00ff) | (v & 0x00ff00ff00ff00ff) << 8;
    v = (v >> 16 & 0x0000ffff0000ffff) | (v & 0x0000ffff0000ffff) << 16;
    return v >> 32 | v << 32;
}

/* Reversed factors have a reversed product, whose low half is the high one. */
struct product {
    uint64_t low, high;
};

static struct product multiply(uint64_t a, uint64_t b)
{
    return (struct product){multiply_low(a, b),
                            reverse(multiply_low(reverse(a), reverse(b))) >> 1};
}

/* y = y * h, in three products of halves (Karatsuba). */
static void ghash_multiply(uint64_t y[2], const uint64_t h[2])
{
    struct product low = multiply(y[0], h[0]), high = multiply(y[1], h[1]);
    struct product mid = multiply(y[0] ^ y[1], h[0] ^ h[1]);
    uint64_t v[4];

    v[0] = low.low;
    v[1] = low.high ^ mid.low ^ low.low ^ high.low;
    v[2] = high.low ^ mid.high ^ low.high ^ high.high;
    v[3] = high.high;
    ghash_reduce(y, v);
}

static void ghash_portable(const struct aead *a, struct aead_mac *m,
                           const uint8_t *p, size_t n)
{
    for (; n > 0; n--, p += AEAD_BLOCK) {
        m->y[0] ^= get_u64be(p + 8);
        m->y[1] ^= get_u64be(p);
        ghash_multiply(m->y, a->powers[0]);
    }
}

static void ghash_init(struct aead_mac *m, const uint8_t unit[AEAD_UNIT])
{
    m->y[0] = m->y[1] = 0;
    memcpy(m->mask, unit, sizeof(m->mask));
}

static void ghash_final(struct aead_mac *m, uint8_t tag[AEAD_TAG_SIZE])
{
    put_u64be(tag, m->y[1]);
    put_u64be(tag + 8, m->y[0]);
    for (int i = 0; i < AEAD_TAG_SIZE; i++)
        tag[i] ^= m->mask[i];
}

/* --- Both by the instructions of x86. ------------------------------------ */

#if defined(__x86_64__) || defined(__i386__)

#define HAVE_GCM_FAST 1
#define TARGET_AES __attribute__((target("aes,pclmul,sse4.1")))

static bool gcm_fast_works(void)
{
    return __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul") &&
           __builtin_cpu_supports("sse4.1");
}

/* Spelled out, so that the blocks stay in registers. */
#define FOUR(do_one) do_one(0) do_one(1) do_one(2) do_one(3)
#define EIGHT(do_one) FOUR(do_one) do_one(4) do_one(5) do_one(6) do_one(7)

#define BLOCK_START(i)                                                         \
    __m128i b##i = _mm_xor_si128(                                              \
        _mm_insert_epi32(base, (int)__builtin_bswap32(counter + (i)), 3), k);
#define BLOCK_ROUND(i) b##i = _mm_aesenc_si128(b##i, k);
#define BLOCK_END(i)                                                           \
    _mm_storeu_si128(                                                          \
        (__m128i *)out + (i),                                                  \
        _mm_xor_si128(_mm_aesenclast_si128(b##i, k),                           \
                      _mm_loadu_si128((const __m128i *)in + (i))));

#define ROUND_KEY(i) _mm_loadu_si128((const __m128i *)a->key.aes[i])
#define CRYPT_BLOCKS(blocks)                                                   \
    do {                                                                       \
        __m128i k = ROUND_KEY(0);                                              \
        blocks(BLOCK_START);                                                   \
        for (int i = 1; i < a->rounds; i++) {                                  \
            k = ROUND_KEY(i);                                                  \
            blocks(BLOCK_ROUND);                                               \
        }                                                                      \
        k = ROUND_KEY(a->rounds);                                              \
        blocks(BLOCK_END);                                                     \
    } while (0)

TARGET_AES static void aes_fast(const struct aead *a, struct aead_stream *s,
                                const uint8_t *in, uint8_t *out, size_t n)
{
    __m128i base =
        _mm_set_epi32(0, (int)get_u32le(s->nonce + 8),
                      (int)get_u32le(s->nonce + 4), (int)get_u32le(s->nonce));
    uint32_t counter = s->counter;

    for (; n >= 2; n -= 2, counter += 8) {
        CRYPT_BLOCKS(EIGHT);
        in += 2 * AEAD_UNIT, out += 2 * AEAD_UNIT;
    }
    if (n) {
        CRYPT_BLOCKS(FOUR);
        counter += 4;
    }
    s->counter = counter;
}

TARGET_AES static void ghash_fast(const struct aead *a, struct aead_mac *m,
                                  const uint8_t *p, size_t n)
{
    const __m128i swap = _mm_set_epi64x(0x0001020304050607, 0x08090a0b0c0d0e0f);
    __m128i y = _mm_loadu_si128((const __m128i *)m->y);

    while (n > 0) {
        size_t take = n < AEAD_POWERS ? n : AEAD_POWERS;
        __m128i low = _mm_setzero_si128(), mid = low, high = low;
        uint64_t v[4];

        for (size_t i = 0; i < take; i++, p += AEAD_BLOCK) {
            __m128i h =
                _mm_loadu_si128((const __m128i *)a->powers[take - 1 - i]);
            __m128i x = _mm_loadu_si128((const __m128i *)p);

            x = _mm_xor_si128(_mm_shuffle_epi8(x, swap), y);
            y = _mm_setzero_si128();
            low = _mm_xor_si128(low, _mm_clmulepi64_si128(x, h, 0x00));
            high = _mm_xor_si128(high, _mm_clmulepi64_si128(x, h, 0x11));
            mid = _mm_xor_si128(mid, _mm_clmulepi64_si128(x, h, 0x01));
            mid = _mm_xor_si128(mid, _mm_clmulepi64_si128(x, h, 0x10));
        }
        low = _mm_xor_si128(low, _mm_slli_si128(mid, 8));
        high = _mm_xor_si128(high, _mm_srli_si128(mid, 8));
        _mm_storeu_si128((__m128i *)v, low);
        _mm_storeu_si128((__m128i *)(v + 2), high);
        ghash_reduce(m->y, v);
        y = _mm_loadu_si128((const __m128i *)m->y);
        n -= take;
    }
}

/* --- Both by the instructions of ARMv8. ---------------------------------- */

#elif defined(__aarch64__) && defined(__linux__) && !defined(__AARCH64EB__)

#define HAVE_GCM_FAST 1
#define HWCAP_AES_BIT (1UL << 3) /* of <asm/hwcap.h> */
#define HWCAP_PMULL_BIT (1UL << 4)

static bool gcm_fast_works(void)
{
    unsigned long both = HWCAP_AES_BIT | HWCAP_PMULL_BIT;

    return (getauxval(AT_HWCAP) & both) == both;
}

/* In assembly, since the names of the intrinsics depend on the compiler. */
static inline uint8x16_t aes_round(uint8x16_t b, uint8x16_t k)
{
    __asm__(".arch_extension aes\n\taese %0.16b, %1.16b\n\t"
            "aesmc %0.16b, %0.16b"
            : "+w"(b)
            : "w"(k));
    return b;
}

static inline uint8x16_t aes_last_round(uint8x16_t b, uint8x16_t k)
{
    __asm__(".arch_extension aes\n\taese %0.16b, %1.16b" : "+w"(b) : "w"(k));
    return b;
}

static inline uint64x2_t multiply_lows(uint64x2_t x, uint64x2_t y)
{
    uint64x2_t product;

    __asm__(".arch_extension aes\n\tpmull %0.1q, %1.1d, %2.1d"
            : "=w"(product)
            : "w"(x), "w"(y));
    return product;
}

static inline uint64x2_t multiply_highs(uint64x2_t x, uint64x2_t y)
{
    uint64x2_t product;

    __asm__(".arch_extension aes\n\tpmull2 %0.1q, %1.2d, %2.2d"
            : "=w"(product)
            : "w"(x), "w"(y));
    return product;
}

static uint8x16_t counter_block(uint32x4_t base, uint32_t counter)
{
    return vreinterpretq_u8_u32(
        vsetq_lane_u32(__builtin_bswap32(counter), base, 3));
}

static inline void xor_block(uint8_t *out, const uint8_t *in, uint8x16_t with)
{
    vst1q_u8(out, veorq_u8(vld1q_u8(in), with));
}

static void aes_fast(const struct aead *a, struct aead_stream *s,
                     const uint8_t *in, uint8_t *out, size_t n)
{
    const uint32_t words[4] = {get_u32le(s->nonce), get_u32le(s->nonce + 4),
                               get_u32le(s->nonce + 8), 0};
    uint32x4_t base = vld1q_u32(words);
    uint8x16_t last = vld1q_u8(a->key.aes[a->rounds]);

    for (; n > 0; n--, in += AEAD_UNIT, out += AEAD_UNIT) {
        uint8x16_t b0 = counter_block(base, s->counter++);
        uint8x16_t b1 = counter_block(base, s->counter++);
        uint8x16_t b2 = counter_block(base, s->counter++);
        uint8x16_t b3 = counter_block(base, s->counter++), k;

        for (int i = 0; i < a->rounds - 1; i++) {
            k = vld1q_u8(a->key.aes[i]);
            b0 = aes_round(b0, k), b1 = aes_round(b1, k);
            b2 = aes_round(b2, k), b3 = aes_round(b3, k);
        }
        k = vld1q_u8(a->key.aes[a->rounds - 1]);
        xor_block(out, in, veorq_u8(aes_last_round(b0, k), last));
        xor_block(out + 16, in + 16, veorq_u8(aes_last_round(b1, k), last));
        xor_block(out + 32, in + 32, veorq_u8(aes_last_round(b2, k), last));
        xor_block(out + 48, in + 48, veorq_u8(aes_last_round(b3, k), last));
    }
}

static void ghash_fast(const struct aead *a, struct aead_mac *m,
                       const uint8_t *p, size_t n)
{
    const uint64x2_t zero = vdupq_n_u64(0);
    uint64x2_t y = vld1q_u64(m->y);

    while (n > 0) {
        size_t take = n < AEAD_POWERS ? n : AEAD_POWERS;
        uint64x2_t low = zero, mid = zero, high = zero;
        uint64_t v[4];

        for (size_t i = 0; i < take; i++, p += AEAD_BLOCK) {
            uint64x2_t h = vld1q_u64(a->powers[take - 1 - i]), crossed;
            uint64x2_t x = vreinterpretq_u64_u8(vrev64q_u8(vld1q_u8(p)));

            x = veorq_u64(vextq_u64(x, x, 1), y);
            y = zero;
            crossed = vextq_u64(h, h, 1);
            low = veorq_u64(low, multiply_lows(x, h));
            high = veorq_u64(high, multiply_highs(x, h));
            mid = veorq_u64(mid, multiply_lows(x, crossed));
            mid = veorq_u64(mid, multiply_highs(x, crossed));
        }
        vst1q_u64(v, veorq_u64(low, vextq_u64(zero, mid, 1)));
        vst1q_u64(v + 2, veorq_u64(high, vextq_u64(mid, zero, 1)));
        ghash_reduce(m->y, v);
        y = vld1q_u64(m->y);
        n -= take;
    }
}

#endif

#ifndef HAVE_GCM_FAST
#define aes_fast aes_portable
#define ghash_fast ghash_portable

static bool gcm_fast_works(void)
{
    return false;
}
#endif

/* --- Both bodies. -------------------------------------------------------- */

static const struct aead_body portable_body = {
    1, false, aes_portable, ghash_init, ghash_portable, ghash_final};
static const struct aead_body fast_body = {1,          false,      aes_fast,
                                           ghash_init, ghash_fast, ghash_final};

bool aead_aes_is_fast(void)
{
    return gcm_fast_works();
}

/* Round key i, bitsliced, once for each of four blocks. */
static void slice_round_key(uint64_t q[8], const uint32_t *w)
{
    uint32_t columns[16];

    for (int b = 0; b < 4; b++)
        memcpy(columns + 4 * b, w, 4 * sizeof(*w));
    slice(q, columns);
    wipe(columns, sizeof(columns));
}

/* GHASH's key is the encryption of a block of zeros. */
static void set_powers(struct aead *a)
{
    struct aead_stream zeros = {{0}, 0};
    uint8_t unit[AEAD_UNIT] = {0};

    a->body->stream(a, &zeros, unit, unit, 1);
    a->powers[0][0] = get_u64be(unit + 8);
    a->powers[0][1] = get_u64be(unit);
    for (int i = 1; i < AEAD_POWERS; i++) {
        memcpy(a->powers[i], a->powers[i - 1], sizeof(a->powers[i]));
        ghash_multiply(a->powers[i], a->powers[0]);
    }
    wipe(unit, sizeof(unit));
}

void aead_gcm_init(struct aead *a, const uint8_t *key, size_t n_key,
                   bool portable)
{
    uint32_t w[4 * 15];

    memset(a, 0, sizeof(*a));
    a->body = portable || !gcm_fast_works() ? &portable_body : &fast_body;
    a->rounds = n_key == 16 ? 10 : 14;
    expand_key(w, a->rounds, key, (int)n_key);
    for (int i = 0; i <= a->rounds; i++) {
        if (a->body == &portable_body)
            slice_round_key(a->key.sliced[i], w + 4 * i);
        for (int j = 0; j < 4 && a->body == &fast_body; j++)
            put_u32le(a->key.aes[i] + 4 * j, w[4 * i + j]);
    }
    set_powers(a);
    wipe(w, sizeof(w));
}
