/*
 * bignum.h - constant-time arithmetic on numbers of fixed length, for RSA and
 * elliptic curves. Pure; all storage is the caller's.
 *
 * A number is n limbs, the least significant first; n is public, what stands in
 * the limbs is secret. No branch and no address depends on it, and no
 * instruction takes longer for it where the processor multiplies in constant
 * time (x86, ARMv7-A and up, MIPS; some microcontrollers do not).
 *
 * Truth values that stem from secrets are masks: all ones or zero. Results may
 * be written over operands unless it says otherwise.
 */
#ifndef BIGNUM_H
#define BIGNUM_H

#include "buf.h"

/* BN_LIMB_BITS=32 on the command line tests the other path. */
#ifndef BN_LIMB_BITS
#ifdef __SIZEOF_INT128__
#define BN_LIMB_BITS 64
#else
#define BN_LIMB_BITS 32
#endif
#endif

#if BN_LIMB_BITS == 64
typedef uint64_t bn_limb;
__extension__ typedef unsigned __int128 bn_wide;
#else
typedef uint32_t bn_limb;
typedef uint64_t bn_wide;
#endif

#define BN_BITS_MAX 4096 /* of a modulus */
#define BN_LIMBS(bits) (((bits) + BN_LIMB_BITS - 1) / BN_LIMB_BITS)
#define BN_LIMBS_MAX BN_LIMBS(BN_BITS_MAX)
#define BN_INLINE static inline __attribute__((always_inline))

/* --- Bytes, big-endian. ---------------------------------------------------- */

/* A mask: does p[0..len) fit n limbs? If not, the top is cut off. */
bn_limb bn_from_bytes(bn_limb *x, size_t n, const uint8_t *p, size_t len);
/* The low len bytes of x, with zeros in front if it has fewer. */
void bn_to_bytes(uint8_t *p, size_t len, const bn_limb *x, size_t n);

/* --- Secrets that become public. ------------------------------------------ */

/*
 * The two doors between what is secret and what may show: whether a key or a
 * result is right, and the result itself. tests/ct_test.c watches the rest.
 */
bool bn_public(bn_limb mask); /* is it set? */
void bn_publish(uint8_t *p, size_t len, const bn_limb *x, size_t n);

/* --- Masks. ---------------------------------------------------------------- */

/*
 * All ones for 1, zero for 0. The empty statement hides from the compiler that
 * the value is one of two, or it might make a branch of what follows.
 */
BN_INLINE bn_limb bn_mask(bn_limb bit)
{
    __asm__("" : "+r"(bit));
    return (bn_limb)0 - bit;
}

BN_INLINE bn_limb bn_nonzero(bn_limb x) /* a mask */
{
    return bn_mask((x | ((bn_limb)0 - x)) >> (BN_LIMB_BITS - 1));
}

bn_limb bn_is_zero(const bn_limb *a, size_t n);                 /* a mask */
bn_limb bn_equal(const bn_limb *a, const bn_limb *b, size_t n); /* a mask */
bn_limb bn_less(const bn_limb *a, const bn_limb *b, size_t n);  /* a mask */

/* Where mask is all ones r becomes a, else it stays. */
BN_INLINE void bn_select(bn_limb *r, bn_limb mask, const bn_limb *a, size_t n)
{
_Pragma("GCC unroll 8")
    for (size_t i = 0; i < n; i++)
        r[i] ^= mask & (r[i] ^ a[i]);
}

/* Entry number index of n_entries numbers of n limbs each; reads all. */
void bn_lookup(bn_limb *r, const bn_limb *table, size_t n_entries, size_t n,
               bn_limb index);

/* --- Whole numbers. -------------------------------------------------------- */

BN_INLINE bn_limb bn_add(bn_limb *r, const bn_limb *a, const bn_limb *b,
                         size_t n) /* the carry */
{
    bn_limb carry = 0;

_Pragma("GCC unroll 8")
    for (size_t i = 0; i < n; i++) {
        bn_wide w = (bn_wide)a[i] + b[i] + carry;

        r[i] = (bn_limb)w;
        carry = (bn_limb)(w >> BN_LIMB_BITS);
    }
    return carry;
}

BN_INLINE bn_limb bn_sub(bn_limb *r, const bn_limb *a, const bn_limb *b,
                         size_t n) /* the borrow */
{
    bn_limb borrow = 0;

_Pragma("GCC unroll 8")
    for (size_t i = 0; i < n; i++) {
        bn_wide w = (bn_wide)a[i] - b[i] - borrow;

        r[i] = (bn_limb)w;
        borrow = (bn_limb)(w >> BN_LIMB_BITS) & 1;
    }
    return borrow;
}

/* r, of 2n limbs and apart from a and b, becomes a times b. */
void bn_mul(bn_limb *r, const bn_limb *a, const bn_limb *b, size_t n);

/* --- Modulo an odd number m of n limbs. ----------------------------------- */

/*
 * a and b below m. Sums of a carry and n limbs are brought below m by one
 * subtraction that is done, and then kept or not.
 */
BN_INLINE void bn_reduce_once(bn_limb *r, bn_limb carry, const bn_limb *t,
                              const bn_limb *m, size_t n)
{
    bn_limb borrow = bn_sub(r, t, m, n);

    bn_select(r, bn_mask(borrow & (carry ^ 1)), t, n);
}

/*
 * Montgomery's product (Mathematics of Computation 44, 1985): a * b / R mod m,
 * R = 2^(limb bits * n), m0inv = -1/m mod 2^(limb bits). a may be any n limbs
 * if b is below m. With a constant n compilers unroll it.
 *
 * INVARIANT: before each round t < 2m, so t fits n limbs and a carry bit; a
 * round adds less than 2^w * 2m and divides by 2^w.
 */
BN_INLINE void bn_mont_mul_n(bn_limb *r, const bn_limb *a, const bn_limb *b,
                             const bn_limb *m, bn_limb m0inv, bn_limb *t,
                             size_t n)
{
    bn_limb top = 0;

_Pragma("GCC unroll 8")
    for (size_t j = 0; j < n; j++)
        t[j] = 0;
_Pragma("GCC unroll 8")
    for (size_t i = 0; i < n; i++) {
        bn_wide ab = (bn_wide)a[i] * b[0] + t[0];
        bn_limb f = (bn_limb)ab * m0inv;
        bn_wide fm = (bn_wide)f * m[0] + (bn_limb)ab; /* low limb: 0 */

_Pragma("GCC unroll 8")
        for (size_t j = 1; j < n; j++) {
            ab = (bn_wide)a[i] * b[j] + t[j] + (bn_limb)(ab >> BN_LIMB_BITS);
            fm =
                (bn_wide)f * m[j] + (bn_limb)ab + (bn_limb)(fm >> BN_LIMB_BITS);
            t[j - 1] = (bn_limb)fm;
        }
        ab = (bn_wide)top + (bn_limb)(ab >> BN_LIMB_BITS) +
             (bn_limb)(fm >> BN_LIMB_BITS);
        t[n - 1] = (bn_limb)ab;
        top = (bn_limb)(ab >> BN_LIMB_BITS);
    }
    bn_reduce_once(r, top, t, m, n);
}

BN_INLINE void bn_mod_add_n(bn_limb *r, const bn_limb *a, const bn_limb *b,
                            const bn_limb *m, bn_limb *t, size_t n)
{
    bn_limb carry = bn_add(t, a, b, n);

    bn_reduce_once(r, carry, t, m, n);
}

BN_INLINE void bn_mod_sub_n(bn_limb *r, const bn_limb *a, const bn_limb *b,
                            const bn_limb *m, bn_limb *t, size_t n)
{
    bn_limb borrow = bn_sub(r, a, b, n);

    bn_add(t, r, m, n);
    bn_select(r, bn_mask(borrow), t, n);
}

struct bn_mod {
    const bn_limb *m;  /* odd; its top limb is not zero */
    const bn_limb *rr; /* R^2 mod m: bn_mont_mul() by it gives x * R */
    bn_limb m0inv;
    size_t n; /* at most BN_LIMBS_MAX */
};

/* For a modulus of n limbs; both arrays are the caller's and stay in use. */
void bn_mod_init(struct bn_mod *mod, const bn_limb *m, bn_limb *rr, size_t n);

void bn_mont_mul(bn_limb *r, const bn_limb *a, const bn_limb *b,
                 const struct bn_mod *mod);
void bn_mod_add(bn_limb *r, const bn_limb *a, const bn_limb *b,
                const struct bn_mod *mod);
void bn_mod_sub(bn_limb *r, const bn_limb *a, const bn_limb *b,
                const struct bn_mod *mod);
void bn_mod_halve(bn_limb *r, const struct bn_mod *mod); /* r / 2 mod m */

/* To and from Montgomery's form x * R; a may be any n limbs. */
void bn_to_mont(bn_limb *r, const bn_limb *a, const struct bn_mod *mod);
void bn_from_mont(bn_limb *r, const bn_limb *a, const struct bn_mod *mod);

/*
 * a, of 2n limbs, modulo m, in Montgomery's form. r is apart from a.
 */
void bn_mod_wide(bn_limb *r, const bn_limb *a, const struct bn_mod *mod);

/*
 * base^e, both in Montgomery's form; e big-endian, all of it secret but n_e.
 * table is the caller's, BN_EXP_ENTRIES * n limbs, to be wiped if base or e is
 * a secret. r is apart from base.
 */
#define BN_EXP_ENTRIES 16
void bn_mod_exp(bn_limb *r, const bn_limb *base, const uint8_t *e, size_t n_e,
                const struct bn_mod *mod, bn_limb *table);

/* The same for an exponent that everybody may know, e >= 1. */
void bn_mod_exp_public(bn_limb *r, const bn_limb *base, uint32_t e,
                       const struct bn_mod *mod);

#endif
