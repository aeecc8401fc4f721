/*
 * curve25519.c - X25519 and Ed25519.
 *
 * FIELD  Numbers modulo p = 2^255 - 19 in limbs of equal width: five of 51 bits
 *        where products of 128 bits come cheap, ten of 26 elsewhere. Since 2^255
 *        is 19 and 2^260 is 608, what overflows comes back at the bottom, times
 *        that. All else is written once for both.
 *
 *   A limb is *tight* if it exceeds its width by less than a bit: at most
 *   2^B + 2^(B-8). Multiplication takes limbs of up to B + 3 bits and gives
 *   tight ones; sums and differences of tight ones may be multiplied, and a
 *   difference takes away only what is tight.
 *
 * X25519 Montgomery's ladder (RFC 7748, 5).
 *
 * POINTS of Ed25519 are (X : Y : Z : T) with x = X/Z, y = Y/Z, xy = T/Z; their
 *        addition formulas have no exceptions (Hisil and others 2008), so that
 *        the neutral element needs no branch. Scalars go in digits of 4 bits,
 *        each of which picks one of 16 multiples by looking at all.
 */
#include "curve25519.h"

#include "hash.h"

#include <assert.h>

/* --- Field. -------------------------------------------------------------- */

#if defined(__SIZEOF_INT128__) && !defined(CURVE25519_NARROW) /* by tests */
typedef uint64_t limb;
__extension__ typedef unsigned __int128 wide;
#define LIMBS 5
#define LIMB_BITS 51
#define COLUMNS LIMBS /* of products: what overflows is folded limb by limb */
#else
typedef uint32_t limb;
typedef uint64_t wide;
#define LIMBS 10
#define LIMB_BITS 26
#define COLUMNS (2 * LIMBS) /* in columns of their own, folded afterwards */
#endif

#define LIMB_MASK (((limb)1 << LIMB_BITS) - 1)
#define SPARE_BITS (LIMBS * LIMB_BITS - 255)
#define TOP_BITS (LIMB_BITS - SPARE_BITS) /* of the last limb, below 2^255 */
#define FOLD (19 << SPARE_BITS) /* what is above all limbs, modulo p */

struct field {
    limb v[LIMBS];
};

static const struct field zero, one = {{1}};

static void field_load(struct field *out, const uint8_t p[32])
{
    uint64_t bits = 0;
    int n = 0, at = 0;

    for (int i = 0; i < 32; i++) {
        bits |= (uint64_t)p[i] << n;
        n += 8;
        if (n >= LIMB_BITS && at < LIMBS - 1) {
            out->v[at++] = (limb)bits & LIMB_MASK;
            bits >>= LIMB_BITS;
            n -= LIMB_BITS;
        }
    }
    out->v[at] = (limb)bits;
}

static void field_add(struct field *out, const struct field *a,
                      const struct field *b)
{
    for (int i = 0; i < LIMBS; i++)
        out->v[i] = a->v[i] + b->v[i];
}

/* a - b + 2p or 64p, which is twice what is above, less FOLD, in limbs that
 * exceed b's. */
static void field_subtract(struct field *out, const struct field *a,
                           const struct field *b)
{
    out->v[0] = a->v[0] + 2 * (LIMB_MASK + 1 - FOLD) - b->v[0];
    for (int i = 1; i < LIMBS; i++)
        out->v[i] = a->v[i] + 2 * LIMB_MASK - b->v[i];
}

/*
 * Columns of products to tight limbs. The loops here and in what calls it are
 * unrolled, which compilers leave undone at -O2, to keep columns in registers.
 */
static inline void field_fold(struct field *out, wide c[COLUMNS])
{
    wide carry = 0;

#pragma GCC unroll 10
    for (int i = LIMBS; i < COLUMNS - 1; i++) {
        carry += c[i];
        c[i - LIMBS] += (wide)((limb)carry & LIMB_MASK) * FOLD;
        carry >>= LIMB_BITS;
    }
    c[LIMBS - 1] += carry * FOLD;
    carry = 0;
#pragma GCC unroll 10
    for (int i = 0; i < LIMBS; i++) {
        carry += c[i];
        out->v[i] = (limb)carry & LIMB_MASK;
        carry >>= LIMB_BITS;
    }
    carry = carry * FOLD + out->v[0];
    out->v[0] = (limb)carry & LIMB_MASK;
    out->v[1] += (limb)(carry >> LIMB_BITS);
}

static void field_multiply(struct field *out, const struct field *a,
                           const struct field *b)
{
    wide c[COLUMNS] = {0};

#pragma GCC unroll 10
    for (int i = 0; i < LIMBS; i++)
#pragma GCC unroll 10
        for (int j = 0; j < LIMBS; j++)
            c[(i + j) % COLUMNS] +=
                (wide)a->v[i] * (b->v[j] * (i + j < COLUMNS ? 1 : FOLD));
    field_fold(out, c);
}

static void field_square(struct field *out, const struct field *a)
{
    wide c[COLUMNS] = {0};

#pragma GCC unroll 10
    for (int i = 0; i < LIMBS; i++)
#pragma GCC unroll 10
        for (int j = i; j < LIMBS; j++)
            c[(i + j) % COLUMNS] += (wide)(a->v[i] * (i < j ? 2 : 1)) *
                                    (a->v[j] * (i + j < COLUMNS ? 1 : FOLD));
    field_fold(out, c);
}

static void field_scale(struct field *out, const struct field *a, limb by)
{
    wide c[COLUMNS] = {0};

#pragma GCC unroll 10
    for (int i = 0; i < LIMBS; i++)
        c[i] = (wide)a->v[i] * by;
    field_fold(out, c);
}

/* Tight, of what may be a sum or a difference. */
static void field_tighten(struct field *a)
{
    field_scale(a, a, 1);
}

static void field_negate(struct field *a) /* which is tight, and stays so */
{
    field_subtract(a, &zero, a);
    field_tighten(a);
}

/* Move what a limb has above its width, and carry, into the next; the last
 * keeps it. */
static void field_carry(struct field *a, limb carry)
{
    for (int i = 0; i < LIMBS - 1; i++) {
        carry += a->v[i];
        a->v[i] = carry & LIMB_MASK;
        carry >>= LIMB_BITS;
    }
    a->v[LIMBS - 1] += carry;
}

/*
 * The least number of its class, little-endian, of what may be multiplied. With
 * what is above 2^255 moved to the bottom, times 19, p is in it at most once,
 * and is so exactly if 19 more reach 2^255.
 */
static void field_store(uint8_t p[32], const struct field *a)
{
    struct field t = *a;
    uint64_t bits = 0;
    int n = 0, at = 0;
    limb top, carry = 19;

    field_tighten(&t);
    field_carry(&t, 0);
    top = t.v[LIMBS - 1] >> TOP_BITS;
    t.v[LIMBS - 1] &= ((limb)1 << TOP_BITS) - 1;
    field_carry(&t, 19 * top);
    for (int i = 0; i < LIMBS; i++)
        carry = (carry + t.v[i]) >> (i < LIMBS - 1 ? LIMB_BITS : TOP_BITS);
    field_carry(&t, 19 * carry);
    for (int i = 0; i < 32; i++) {
        if (n < 8 && at < LIMBS) {
            bits |= (uint64_t)t.v[at++] << n;
            n += LIMB_BITS;
        }
        p[i] = (uint8_t)bits;
        bits >>= 8;
        n -= 8;
    }
    p[31] &= 0x7f; /* 2^255, if p was in it */
    wipe(&t, sizeof(t));
}

static void field_square_times(struct field *out, const struct field *a, int n)
{
    field_square(out, a);
    while (--n > 0)
        field_square(out, out);
}

/* a^(2^250 - 1), where all the powers that are needed begin; and a^11. */
static void field_power_250(struct field *out, struct field *eleventh,
                            const struct field *a)
{
    struct field t, u, v;

    field_square(&t, a); /* 2 */
    field_square_times(&u, &t, 2);
    field_multiply(&u, &u, a);        /* 9 */
    field_multiply(eleventh, &t, &u); /* 11 */
    field_square(&t, eleventh);       /* 22 */
    field_multiply(&t, &t, &u);       /* 2^5 - 1 */
    field_square_times(&u, &t, 5);
    field_multiply(&t, &t, &u); /* 2^10 - 1 */
    field_square_times(&u, &t, 10);
    field_multiply(&u, &u, &t); /* 2^20 - 1 */
    field_square_times(&v, &u, 20);
    field_multiply(&u, &u, &v); /* 2^40 - 1 */
    field_square_times(&u, &u, 10);
    field_multiply(&t, &t, &u); /* 2^50 - 1 */
    field_square_times(&u, &t, 50);
    field_multiply(&u, &u, &t); /* 2^100 - 1 */
    field_square_times(&v, &u, 100);
    field_multiply(&u, &u, &v); /* 2^200 - 1 */
    field_square_times(&u, &u, 50);
    field_multiply(out, &t, &u);
    wipe(&t, sizeof(t));
    wipe(&u, sizeof(u));
    wipe(&v, sizeof(v));
}

/* a^(p-2), which is 1/a, and 0 for 0. */
static void field_invert(struct field *out, const struct field *a)
{
    struct field t, eleventh;

    field_power_250(&t, &eleventh, a);
    field_square_times(&t, &t, 5);
    field_multiply(out, &t, &eleventh);
    wipe(&t, sizeof(t));
    wipe(&eleventh, sizeof(eleventh));
}

static bool field_equal(const struct field *a, const struct field *b)
{
    uint8_t x[32], y[32];

    field_store(x, a);
    field_store(y, b);
    return ct_eq(x, y, sizeof(x));
}

static bool field_is_odd(const struct field *a)
{
    uint8_t x[32];

    field_store(x, a);
    return x[0] & 1;
}

/* --- X25519 (RFC 7748, 5). ----------------------------------------------- */

/* Exchange a and b if swap is 1, not if it is 0. */
static void field_swap(struct field *a, struct field *b, limb swap)
{
    limb mask = 0 - swap;

    for (int i = 0; i < LIMBS; i++) {
        limb differ = (a->v[i] ^ b->v[i]) & mask;

        a->v[i] ^= differ;
        b->v[i] ^= differ;
    }
}

/* Two points in a row, n P and (n + 1) P, as x/z. */
struct ladder {
    struct field x1, x2, z2, x3, z3, t[5];
};

/* Double the first and add both, by the names of the RFC. */
static void ladder_step(struct ladder *l)
{
    struct field *a = &l->t[0], *b = &l->t[1], *e = &l->t[2];
    struct field *da = &l->t[3], *cb = &l->t[4];

    field_add(a, &l->x2, &l->z2);
    field_subtract(b, &l->x2, &l->z2);
    field_add(e, &l->x3, &l->z3);
    field_multiply(cb, e, b);
    field_subtract(e, &l->x3, &l->z3);
    field_multiply(da, e, a);
    field_add(e, da, cb);
    field_square(&l->x3, e);
    field_subtract(e, da, cb);
    field_square(e, e);
    field_multiply(&l->z3, &l->x1, e);
    field_square(a, a);
    field_square(b, b);
    field_multiply(&l->x2, a, b);
    field_subtract(e, a, b);
    field_scale(b, e, 121665);
    field_add(a, a, b);
    field_multiply(&l->z2, e, a);
}

bool x25519(const uint8_t secret[X25519_SIZE],
            const uint8_t theirs[X25519_SIZE], uint8_t out[X25519_SIZE])
{
    static const uint8_t zeros[X25519_SIZE];
    uint8_t k[X25519_SIZE], u[X25519_SIZE];
    struct ladder l = {.x2 = one, .z3 = one};
    limb swap = 0;

    memcpy(k, secret, sizeof(k));
    k[0] &= 248;
    k[31] = (k[31] & 127) | 64;
    memcpy(u, theirs, sizeof(u));
    u[31] &= 127;
    field_load(&l.x1, u);
    l.x3 = l.x1;
    for (int i = 254; i >= 0; i--) {
        limb bit = k[i / 8] >> i % 8 & 1;

        swap ^= bit;
        field_swap(&l.x2, &l.x3, swap);
        field_swap(&l.z2, &l.z3, swap);
        swap = bit;
        ladder_step(&l);
    }
    field_swap(&l.x2, &l.x3, swap);
    field_swap(&l.z2, &l.z3, swap);
    field_invert(&l.z2, &l.z2);
    field_multiply(&l.x2, &l.x2, &l.z2);
    field_store(out, &l.x2);
    wipe(&l, sizeof(l));
    wipe(k, sizeof(k));
    return !ct_eq(out, zeros, sizeof(zeros));
}

void x25519_public(const uint8_t secret[X25519_SIZE], uint8_t out[X25519_SIZE])
{
    static const uint8_t nine[X25519_SIZE] = {9};

    x25519(secret, nine, out);
}

/* --- Points of Ed25519 (RFC 8032, 5.1). ---------------------------------- */

/* -121665/121666, of the curve's equation; twice that; a root of -1; the base
 * point. */
static const uint8_t curve_2d[32] = {
    0x59, 0xf1, 0xb2, 0x26, 0x94, 0x9b, 0xd6, 0xeb, 0x56, 0xb1, 0x83,
    0x82, 0x9a, 0x14, 0xe0, 0x00, 0x30, 0xd1, 0xf3, 0xee, 0xf2, 0x80,
    0x8e, 0x19, 0xe7, 0xfc, 0xdf, 0x56, 0xdc, 0xd9, 0x06, 0x24,
};
static const uint8_t curve_d[32] = {
    0xa3, 0x78, 0x59, 0x13, 0xca, 0x4d, 0xeb, 0x75, 0xab, 0xd8, 0x41,
    0x41, 0x4d, 0x0a, 0x70, 0x00, 0x98, 0xe8, 0x79, 0x77, 0x79, 0x40,
    0xc7, 0x8c, 0x73, 0xfe, 0x6f, 0x2b, 0xee, 0x6c, 0x03, 0x52,
};
static const uint8_t sqrt_minus_one[32] = {
    0xb0, 0xa0, 0x0e, 0x4a, 0x27, 0x1b, 0xee, 0xc4, 0x78, 0xe4, 0x2f,
    0xad, 0x06, 0x18, 0x43, 0x2f, 0xa7, 0xd7, 0xfb, 0x3d, 0x99, 0x00,
    0x4d, 0x2b, 0x0b, 0xdf, 0xc1, 0x4f, 0x80, 0x24, 0x83, 0x2b,
};
static const uint8_t base_x[32] = {
    0x1a, 0xd5, 0x25, 0x8f, 0x60, 0x2d, 0x56, 0xc9, 0xb2, 0xa7, 0x25,
    0x95, 0x60, 0xc7, 0x2c, 0x69, 0x5c, 0xdc, 0xd6, 0xfd, 0x31, 0xe2,
    0xa4, 0xc0, 0xfe, 0x53, 0x6e, 0xcd, 0xd3, 0x36, 0x69, 0x21,
};
static const uint8_t base_y[32] = {
    0x58, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
    0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
    0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
};

struct point {
    struct field x, y, z, t;
};

/* What an addition wants of its second point: Y + X, Y - X, 2Z, 2dT. */
struct addend {
    struct field plus, minus, z2, t2d;
};

static void addend_of(struct addend *out, const struct point *p)
{
    struct field d2;

    field_load(&d2, curve_2d);
    field_add(&out->plus, &p->y, &p->x);
    field_subtract(&out->minus, &p->y, &p->x);
    field_add(&out->z2, &p->z, &p->z);
    field_multiply(&out->t2d, &p->t, &d2);
}

/* x, y, z, t from E, F, G, H of the formulas. */
static void point_join(struct point *out, const struct field *e,
                       const struct field *f, const struct field *g,
                       const struct field *h)
{
    field_multiply(&out->x, e, f);
    field_multiply(&out->y, g, h);
    field_multiply(&out->z, f, g);
    field_multiply(&out->t, e, h);
}

static void point_add(struct point *p, const struct addend *q)
{
    struct field a, b, c, d, e, f;

    field_subtract(&a, &p->y, &p->x);
    field_multiply(&a, &a, &q->minus);
    field_add(&b, &p->y, &p->x);
    field_multiply(&b, &b, &q->plus);
    field_multiply(&c, &p->t, &q->t2d);
    field_multiply(&d, &p->z, &q->z2);
    field_subtract(&e, &b, &a);
    field_subtract(&f, &d, &c);
    field_add(&d, &d, &c);
    field_add(&b, &b, &a);
    point_join(p, &e, &f, &d, &b);
}

static void point_double(struct point *p)
{
    struct field a, b, c, e, f, g, h;

    field_square(&a, &p->x);
    field_square(&b, &p->y);
    field_square(&c, &p->z);
    field_add(&e, &p->x, &p->y);
    field_square(&e, &e);
    field_add(&h, &a, &b);
    field_subtract(&e, &h, &e);
    field_subtract(&g, &a, &b);
    field_add(&c, &c, &c);
    field_add(&f, &c, &g);
    point_join(p, &e, &f, &g, &h);
}

static void point_base(struct point *out)
{
    field_load(&out->x, base_x);
    field_load(&out->y, base_y);
    out->z = one;
    field_multiply(&out->t, &out->x, &out->y);
}

/* 0 to 15 times p. */
static void table_fill(struct addend table[16], const struct point *p)
{
    struct point multiple = {zero, one, one, zero};

    addend_of(&table[0], &multiple);
    multiple = *p;
    for (int i = 1; i < 16; i++) {
        addend_of(&table[i], &multiple);
        point_add(&multiple, &table[1]);
    }
}

static void field_pick(struct field *out, const struct field *a, limb mask)
{
    for (int i = 0; i < LIMBS; i++)
        out->v[i] |= a->v[i] & mask;
}

/* table[digit], by looking at all of them. */
static void table_pick(struct addend *out, const struct addend table[16],
                       unsigned digit)
{
    memset(out, 0, sizeof(*out));
    for (unsigned i = 0; i < 16; i++) {
        limb mask = 0 - (limb)(((i ^ digit) - 1) >> 31);

        field_pick(&out->plus, &table[i].plus, mask);
        field_pick(&out->minus, &table[i].minus, mask);
        field_pick(&out->z2, &table[i].z2, mask);
        field_pick(&out->t2d, &table[i].t2d, mask);
    }
}

/* A scalar times a point. */
struct term {
    const uint8_t *scalar; /* 32 bytes, little-endian */
    const struct point *point;
    struct addend table[16];
};

/* The sum of one term, or of two at little more than the price. */
static void point_multiply(struct point *out, struct term *terms, size_t n)
{
    struct addend picked;

    for (size_t i = 0; i < n; i++)
        table_fill(terms[i].table, terms[i].point);
    *out = (struct point){zero, one, one, zero};
    for (int at = 63; at >= 0; at--) {
        for (int i = 0; i < 4; i++)
            point_double(out);
        for (size_t i = 0; i < n; i++) {
            unsigned digit = terms[i].scalar[at / 2] >> 4 * (at % 2) & 15;

            table_pick(&picked, terms[i].table, digit);
            point_add(out, &picked);
        }
    }
    wipe(&picked, sizeof(picked));
}

static void point_multiply_base(struct point *out, const uint8_t scalar[32])
{
    struct term term = {.scalar = scalar};
    struct point base;

    point_base(&base);
    term.point = &base;
    point_multiply(out, &term, 1);
}

/* y, and whether x is odd (RFC 8032, 5.1.2). */
static void point_store(uint8_t out[32], const struct point *p)
{
    struct field inverse, x, y;

    field_invert(&inverse, &p->z);
    field_multiply(&x, &p->x, &inverse);
    field_multiply(&y, &p->y, &inverse);
    field_store(out, &y);
    out[31] |= (uint8_t)(field_is_odd(&x) << 7);
    wipe(&inverse, sizeof(inverse)); /* Z tells of the scalar */
}

/*
 * A root of u/v (RFC 8032, 5.1.3, 2 and 3): u v^3 (u v^7)^((p-5)/8), or that
 * times the root of -1. False if there is none.
 */
static bool field_root(struct field *out, const struct field *u,
                       const struct field *v)
{
    struct field v3, t, unused, minus, check;

    field_square(&v3, v);
    field_multiply(&v3, &v3, v);
    field_square(&t, &v3);
    field_multiply(&t, &t, v);
    field_multiply(&t, &t, u);
    field_power_250(&check, &unused, &t);
    field_square_times(&check, &check, 2);
    field_multiply(&t, &check, &t); /* to the 2^252 - 3 */
    field_multiply(&t, &t, &v3);
    field_multiply(&t, &t, u);

    field_square(&check, &t);
    field_multiply(&check, &check, v);
    field_subtract(&minus, &zero, u);
    *out = t;
    if (field_equal(&check, u))
        return true;
    field_load(&unused, sqrt_minus_one);
    field_multiply(out, &t, &unused);
    return field_equal(&check, &minus);
}

/* False if the encoding is not canonical, or of no point. p is public. */
static bool point_load(struct point *out, const uint8_t p[32])
{
    uint8_t bytes[32], again[32];
    bool odd = p[31] >> 7;
    struct field d, u, v;

    memcpy(bytes, p, sizeof(bytes));
    bytes[31] &= 127;
    field_load(&out->y, bytes);
    field_store(again, &out->y);
    if (!ct_eq(again, bytes, sizeof(bytes)))
        return false;

    /* x^2 = (y^2 - 1) / (d y^2 + 1) */
    field_load(&d, curve_d);
    field_square(&v, &out->y);
    field_subtract(&u, &v, &one);
    field_tighten(&u);
    field_multiply(&v, &v, &d);
    field_add(&v, &v, &one);
    field_tighten(&v);
    if (!field_root(&out->x, &u, &v))
        return false;
    if (field_is_odd(&out->x) != odd) {
        if (field_equal(&out->x, &zero))
            return false;
        field_negate(&out->x);
    }
    out->z = one;
    field_multiply(&out->t, &out->x, &out->y);
    return true;
}

/* --- Scalars, modulo the order of the base point. ------------------------ */

/* 2^252 + 27742317777372353535851937790883648493, lowest word first. */
static const uint32_t order[8] = {
    0x5cf5d3ed, 0x5812631a, 0xa2f79cd6, 0x14def9de, 0, 0, 0, 0x10000000};

/* s - order, if that is not negative; whether it is. */
static bool scalar_reduce_once(uint32_t s[8])
{
    uint32_t less[8], keep;
    uint64_t borrow = 0;

    for (int i = 0; i < 8; i++) {
        uint64_t t = (uint64_t)s[i] - order[i] - borrow;

        less[i] = (uint32_t)t;
        borrow = t >> 63;
    }
    keep = 0 - (uint32_t)borrow;
    for (int i = 0; i < 8; i++)
        s[i] = (s[i] & keep) | (less[i] & ~keep);
    wipe(less, sizeof(less));
    return borrow;
}

/* 512 bits, little-endian, modulo the order: bit by bit, from the top. */
static void scalar_reduce(uint8_t out[32], const uint8_t in[64])
{
    uint32_t s[8] = {0};

    for (int at = 511; at >= 0; at--) {
        for (int i = 7; i > 0; i--)
            s[i] = s[i] << 1 | s[i - 1] >> 31;
        s[0] = s[0] << 1 | (in[at / 8] >> at % 8 & 1);
        if (at <= 511 - 252) /* the first 252 bits are below the order */
            scalar_reduce_once(s);
    }
    for (int i = 0; i < 8; i++)
        put_u32le(out + 4 * i, s[i]);
    wipe(s, sizeof(s));
}

/* a * b + c modulo the order; any 256 bits will do. */
static void scalar_multiply_add(uint8_t out[32], const uint8_t a[32],
                                const uint8_t b[32], const uint8_t c[32])
{
    uint8_t product[64] = {0};

    memcpy(product, c, 32);
    for (int i = 0; i < 32; i += 4) {
        uint64_t carry = 0;

        for (int j = 0; j < 32; j += 4) {
            carry += (uint64_t)get_u32le(a + i) * get_u32le(b + j);
            carry += get_u32le(product + i + j);
            put_u32le(product + i + j, (uint32_t)carry);
            carry >>= 32;
        }
        put_u32le(product + i + 32, (uint32_t)carry);
    }
    scalar_reduce(out, product);
    wipe(product, sizeof(product));
}

static bool scalar_is_reduced(const uint8_t p[32])
{
    uint32_t s[8];

    for (int i = 0; i < 8; i++)
        s[i] = get_u32le(p + 4 * i);
    return scalar_reduce_once(s);
}

/* --- Ed25519 (RFC 8032, 5.1). -------------------------------------------- */

/* SHA-512 of up to three pieces, as a scalar. */
static void hash_scalar(uint8_t out[32], const uint8_t first[32],
                        const uint8_t second[32], const void *p, size_t n)
{
    uint8_t digest[SHA512_SIZE];
    struct hash h;

    hash_init(&h, HASH_SHA512);
    hash_update(&h, first, 32);
    if (second)
        hash_update(&h, second, 32);
    hash_update(&h, p, n);
    hash_final(&h, digest);
    scalar_reduce(out, digest);
    wipe(digest, sizeof(digest));
}

void ed25519_init(struct ed25519_key *k, const uint8_t seed[ED25519_SEED_SIZE])
{
    uint8_t digest[SHA512_SIZE];
    struct point p;

    hash_once(HASH_SHA512, seed, ED25519_SEED_SIZE, digest);
    memcpy(k->scalar, digest, 32);
    memcpy(k->prefix, digest + 32, 32);
    k->scalar[0] &= 248;
    k->scalar[31] = (k->scalar[31] & 127) | 64;
    point_multiply_base(&p, k->scalar);
    point_store(k->public, &p);
    wipe(&p, sizeof(p));
    wipe(digest, sizeof(digest));
}

void ed25519_sign(const struct ed25519_key *k, const void *p, size_t n,
                  uint8_t out[ED25519_SIZE])
{
    uint8_t nonce[32], challenge[32];
    struct point r;

    assert(k);
    hash_scalar(nonce, k->prefix, NULL, p, n);
    point_multiply_base(&r, nonce);
    point_store(out, &r);
    hash_scalar(challenge, out, k->public, p, n);
    scalar_multiply_add(out + 32, challenge, k->scalar, nonce);
    wipe(nonce, sizeof(nonce));
    wipe(&r, sizeof(r));
}

/* Is R what S B - challenge A is? */
bool ed25519_verify(const uint8_t public[ED25519_PUBLIC_SIZE], const void *p,
                    size_t n, const uint8_t signature[ED25519_SIZE])
{
    uint8_t challenge[32], r[32];
    struct point a, base, sum;
    struct term terms[2] = {{.scalar = signature + 32, .point = &base},
                            {.scalar = challenge, .point = &a}};

    if (!scalar_is_reduced(signature + 32) || !point_load(&a, public))
        return false;
    field_negate(&a.x);
    field_negate(&a.t);
    point_base(&base);
    hash_scalar(challenge, signature, public, p, n);
    point_multiply(&sum, terms, ARRAY_LEN(terms));
    point_store(r, &sum);
    return ct_eq(r, signature, sizeof(r));
}
