/*
 * aeadchacha.c - ChaCha20 and Poly1305 (RFC 8439).
 *
 * ChaCha20 hashes key, block number and nonce into 64 bytes of stream, all in
 * additions, rotations and exclusive ors. Four blocks at once fit the lanes of
 * vectors, which every x86-64 and ARMv8 processor has; the compiler makes the
 * instructions from vectors of its own notation.
 *
 * Poly1305 takes the blocks as the coefficients of a polynomial, evaluated at
 * r modulo 2^130 - 5: in five limbs of 26 bits, whose products, and sums of
 * them, fit 64 bits on any processor.
 */
#include "aead_impl.h"

/* --- ChaCha20 (RFC 8439, 2.3). ------------------------------------------- */

/* Of uint32_t, or of vectors of them. */
#define ROTL(v, n) ((v) << (n) | (v) >> (32 - (n)))
#define QUARTER_ROUND(a, b, c, d)                                              \
    do {                                                                       \
        (a) += (b), (d) ^= (a), (d) = ROTL(d, 16);                             \
        (c) += (d), (b) ^= (c), (b) = ROTL(b, 12);                             \
        (a) += (b), (d) ^= (a), (d) = ROTL(d, 8);                              \
        (c) += (d), (b) ^= (c), (b) = ROTL(b, 7);                              \
    } while (0)
#define DOUBLE_ROUND(x)                                                        \
    do {                                                                       \
        QUARTER_ROUND((x)[0], (x)[4], (x)[8], (x)[12]);                        \
        QUARTER_ROUND((x)[1], (x)[5], (x)[9], (x)[13]);                        \
        QUARTER_ROUND((x)[2], (x)[6], (x)[10], (x)[14]);                       \
        QUARTER_ROUND((x)[3], (x)[7], (x)[11], (x)[15]);                       \
        QUARTER_ROUND((x)[0], (x)[5], (x)[10], (x)[15]);                       \
        QUARTER_ROUND((x)[1], (x)[6], (x)[11], (x)[12]);                       \
        QUARTER_ROUND((x)[2], (x)[7], (x)[8], (x)[13]);                        \
        QUARTER_ROUND((x)[3], (x)[4], (x)[9], (x)[14]);                        \
    } while (0)

/* "expand 32-byte k", the key, the block's number, the nonce. */
static void chacha_start(uint32_t x[16], const struct aead *a,
                         const struct aead_stream *s)
{
    x[0] = 0x61707865, x[1] = 0x3320646e, x[2] = 0x79622d32, x[3] = 0x6b206574;
    memcpy(x + 4, a->key.chacha, sizeof(a->key.chacha));
    x[12] = s->counter;
    for (int i = 0; i < 3; i++)
        x[13 + i] = get_u32le(s->nonce + 4 * i);
}

static void chacha_portable(const struct aead *a, struct aead_stream *s,
                            const uint8_t *in, uint8_t *out, size_t n)
{
    uint32_t start[16], x[16];

    chacha_start(start, a, s);
    for (; n > 0; n--, in += AEAD_UNIT, out += AEAD_UNIT) {
        memcpy(x, start, sizeof(x));
        for (int i = 0; i < 10; i++)
            DOUBLE_ROUND(x);
        for (int i = 0; i < 16; i++)
            put_u32le(out + 4 * i, get_u32le(in + 4 * i) ^ (x[i] + start[i]));
        start[12]++;
    }
    s->counter = start[12];
    wipe(start, sizeof(start));
    wipe(x, sizeof(x));
}

#if defined(__SSE2__) || defined(__ARM_NEON)

#define CHACHA_LANES 4

typedef uint32_t lanes __attribute__((vector_size(4 * CHACHA_LANES)));

/* Four units; lane k of each word belongs to unit k. */
static void chacha_four(const uint32_t start[16], const uint8_t *in,
                        uint8_t *out)
{
    lanes x[16], first[16];

    for (int i = 0; i < 16; i++)
        first[i] = (lanes){start[i], start[i], start[i], start[i]};
    first[12] += (lanes){0, 1, 2, 3};
    memcpy(x, first, sizeof(x));
    for (int i = 0; i < 10; i++)
        DOUBLE_ROUND(x);
    for (int i = 0; i < 16; i++)
        x[i] += first[i];
    for (int k = 0; k < CHACHA_LANES; k++)
        for (int i = 0; i < 16; i++) {
            size_t at = (size_t)(AEAD_UNIT * k + 4 * i);

            put_u32le(out + at, get_u32le(in + at) ^ x[i][k]);
        }
    wipe(x, sizeof(x));
    wipe(first, sizeof(first));
}

static void chacha_fast(const struct aead *a, struct aead_stream *s,
                        const uint8_t *in, uint8_t *out, size_t n)
{
    uint32_t start[16];

    chacha_start(start, a, s);
    for (; n >= CHACHA_LANES; n -= CHACHA_LANES) {
        chacha_four(start, in, out);
        in += CHACHA_LANES * AEAD_UNIT, out += CHACHA_LANES * AEAD_UNIT;
        start[12] += CHACHA_LANES;
    }
    s->counter = start[12];
    wipe(start, sizeof(start));
    if (n)
        chacha_portable(a, s, in, out, n);
}

#else
#define chacha_fast chacha_portable
#endif

/* --- Poly1305 (RFC 8439, 2.5). ------------------------------------------- */

#define LIMB_MASK 0x3ffffffU
#define MUL(a, b) ((uint64_t)(a) * (b))
#define BIT_128 (1U << 24) /* in the fifth limb: each block has one on top */

/* 16 bytes, little-endian, as five limbs. */
static void poly_load(uint32_t limb[5], const uint8_t *p)
{
    limb[0] = get_u32le(p) & LIMB_MASK;
    limb[1] = get_u32le(p + 3) >> 2 & LIMB_MASK;
    limb[2] = get_u32le(p + 6) >> 4 & LIMB_MASK;
    limb[3] = get_u32le(p + 9) >> 6 & LIMB_MASK;
    limb[4] = get_u32le(p + 12) >> 8;
}

static void poly_init(struct aead_mac *m, const uint8_t unit[AEAD_UNIT])
{
    uint8_t r[16];

    memcpy(r, unit, sizeof(r));
    for (int i = 3; i < 16; i += 4)
        r[i] &= 15;
    for (int i = 4; i < 16; i += 4)
        r[i] &= 252;
    poly_load(m->r, r);
    memset(m->h, 0, sizeof(m->h));
    memcpy(m->mask, unit + 16, sizeof(m->mask));
    wipe(r, sizeof(r));
}

/* h = (h + block) * r. 2^130 is 5: products that far up come back at the
 * bottom, times 5. Limbs stay below 2^26, but for a bit in the second. */
static void poly_add(const struct aead *a, struct aead_mac *m, const uint8_t *p,
                     size_t n)
{
    uint32_t r0 = m->r[0], r1 = m->r[1], r2 = m->r[2], r3 = m->r[3];
    uint32_t r4 = m->r[4], s1 = 5 * r1, s2 = 5 * r2, s3 = 5 * r3, s4 = 5 * r4;
    uint32_t h0 = m->h[0], h1 = m->h[1], h2 = m->h[2], h3 = m->h[3];
    uint32_t h4 = m->h[4];

    (void)a;
    for (; n > 0; n--, p += AEAD_BLOCK) {
        uint64_t d0, d1, d2, d3, d4;
        uint32_t limb[5];

        poly_load(limb, p);
        h0 += limb[0], h1 += limb[1], h2 += limb[2], h3 += limb[3];
        h4 += limb[4] | BIT_128;
        d0 =
            MUL(h0, r0) + MUL(h1, s4) + MUL(h2, s3) + MUL(h3, s2) + MUL(h4, s1);
        d1 =
            MUL(h0, r1) + MUL(h1, r0) + MUL(h2, s4) + MUL(h3, s3) + MUL(h4, s2);
        d2 =
            MUL(h0, r2) + MUL(h1, r1) + MUL(h2, r0) + MUL(h3, s4) + MUL(h4, s3);
        d3 =
            MUL(h0, r3) + MUL(h1, r2) + MUL(h2, r1) + MUL(h3, r0) + MUL(h4, s4);
        d4 =
            MUL(h0, r4) + MUL(h1, r3) + MUL(h2, r2) + MUL(h3, r1) + MUL(h4, r0);
        d1 += d0 >> 26, h0 = d0 & LIMB_MASK;
        d2 += d1 >> 26, h1 = d1 & LIMB_MASK;
        d3 += d2 >> 26, h2 = d2 & LIMB_MASK;
        d4 += d3 >> 26, h3 = d3 & LIMB_MASK;
        d0 = h0 + 5 * (d4 >> 26), h4 = d4 & LIMB_MASK;
        h1 += (uint32_t)(d0 >> 26), h0 = d0 & LIMB_MASK;
    }
    m->h[0] = h0, m->h[1] = h1, m->h[2] = h2, m->h[3] = h3, m->h[4] = h4;
}

/* Carry from limb to limb, up to the last. */
static void poly_carry(uint32_t h[5])
{
    for (int i = 0; i < 4; i++) {
        h[i + 1] += h[i] >> 26;
        h[i] &= LIMB_MASK;
    }
}

/* h modulo 2^130 - 5, plus the mask, modulo 2^128. */
static void poly_final(struct aead_mac *m, uint8_t tag[AEAD_TAG_SIZE])
{
    uint32_t *h = m->h, g[5], keep, word[4];
    uint64_t sum = 0;

    poly_carry(h);
    h[0] += 5 * (h[4] >> 26);
    h[4] &= LIMB_MASK;
    poly_carry(h);

    /* g = h - (2^130 - 5), which counts unless it is negative. */
    memcpy(g, h, sizeof(g));
    g[0] += 5;
    poly_carry(g);
    keep = (g[4] >> 26) - 1; /* all ones if h is below the modulus */
    g[4] &= LIMB_MASK;
    for (int i = 0; i < 5; i++)
        h[i] = (h[i] & keep) | (g[i] & ~keep);

    word[0] = h[0] | h[1] << 26;
    word[1] = h[1] >> 6 | h[2] << 20;
    word[2] = h[2] >> 12 | h[3] << 14;
    word[3] = h[3] >> 18 | h[4] << 8;
    for (int i = 0; i < 4; i++) {
        sum += (uint64_t)word[i] + get_u32le(m->mask + 4 * i);
        put_u32le(tag + 4 * i, (uint32_t)sum);
        sum >>= 32;
    }
    wipe(g, sizeof(g));
    wipe(word, sizeof(word));
}

/* --- Both. --------------------------------------------------------------- */

static const struct aead_body bodies[] = {
    {0, true, chacha_fast, poly_init, poly_add, poly_final},
    {0, true, chacha_portable, poly_init, poly_add, poly_final},
};

void aead_chacha_init(struct aead *a, const uint8_t key[32], bool portable)
{
    memset(a, 0, sizeof(*a));
    for (int i = 0; i < 8; i++)
        a->key.chacha[i] = get_u32le(key + 4 * i);
    a->body = &bodies[portable];
}
