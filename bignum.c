/*
 * bignum.c - constant-time arithmetic on numbers of fixed length.
 *
 * Plain loops over limbs. The one that counts is Montgomery's product: inline
 * in bignum.h, so that the curves get it unrolled for their few limbs, and here
 * for RSA's many: the whole product, for which a square needs but half of the
 * limbs' products, then the reduction. Both are made of rows, row_add().
 */
#include "bignum.h"

#include <assert.h>

#if BN_LIMB_BITS == 64 && defined(__x86_64__) && defined(__LP64__)
#include <cpuid.h>
#define HAVE_ADX 1
#endif

#define ROWS_MIN 16 /* limbs, from which on rows are faster */

/* --- Bytes. ---------------------------------------------------------------- */

bn_limb bn_from_bytes(bn_limb *x, size_t n, const uint8_t *p, size_t len)
{
    bn_limb over = 0;

    memset(x, 0, n * sizeof(*x));
    for (size_t i = 0; i < len; i++) {
        size_t at = i / sizeof(*x);
        bn_limb byte = p[len - 1 - i];

        if (at < n)
            x[at] |= byte << (i % sizeof(*x) * 8);
        else
            over |= byte;
    }
    return ~bn_nonzero(over);
}

void bn_to_bytes(uint8_t *p, size_t len, const bn_limb *x, size_t n)
{
    for (size_t i = 0; i < len; i++) {
        size_t at = i / sizeof(*x);
        bn_limb limb = at < n ? x[at] : 0;

        p[len - 1 - i] = (uint8_t)(limb >> (i % sizeof(*x) * 8));
    }
}

/* --- Secrets that become public. ------------------------------------------ */

bool bn_public(bn_limb mask)
{
    return mask != 0;
}

void bn_publish(uint8_t *p, size_t len, const bn_limb *x, size_t n)
{
    bn_to_bytes(p, len, x, n);
}

/* --- Masks. ---------------------------------------------------------------- */

bn_limb bn_is_zero(const bn_limb *a, size_t n)
{
    bn_limb any = 0;

    for (size_t i = 0; i < n; i++)
        any |= a[i];
    return ~bn_nonzero(any);
}

bn_limb bn_equal(const bn_limb *a, const bn_limb *b, size_t n)
{
    bn_limb any = 0;

    for (size_t i = 0; i < n; i++)
        any |= a[i] ^ b[i];
    return ~bn_nonzero(any);
}

bn_limb bn_less(const bn_limb *a, const bn_limb *b, size_t n)
{
    bn_limb borrow = 0;

    for (size_t i = 0; i < n; i++) {
        bn_wide w = (bn_wide)a[i] - b[i] - borrow;

        borrow = (bn_limb)(w >> BN_LIMB_BITS) & 1;
    }
    return bn_mask(borrow);
}

void bn_lookup(bn_limb *r, const bn_limb *table, size_t n_entries, size_t n,
               bn_limb index)
{
    memset(r, 0, n * sizeof(*r));
    for (size_t k = 0; k < n_entries; k++) {
        bn_limb mask = ~bn_nonzero((bn_limb)k ^ index);

        for (size_t i = 0; i < n; i++)
            r[i] |= mask & table[k * n + i];
    }
}

/* --- Whole numbers. -------------------------------------------------------- */

#ifdef HAVE_ADX

static bool has_adx(void)
{
    static int known; /* 1: no, 2: yes; whoever finds it finds the same */
    unsigned eax, ebx, ecx, edx;
    int k = __atomic_load_n(&known, __ATOMIC_RELAXED);

    if (!k) {
        k = __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) &&
                    (ebx & bit_BMI2) && (ebx & bit_ADX)
                ? 2
                : 1;
        __atomic_store_n(&known, k, __ATOMIC_RELAXED);
    }
    return k == 2;
}

/*
 * Two chains of carries at once, which compilers do not make: the products' in
 * CF, the sums' in OF. What counts the steps may change neither.
 */
static bn_limb row_add_adx(bn_limb *r, const bn_limb *a, size_t n4, bn_limb b)
{
    bn_limb carry = 0, low, high;

    __asm__ volatile(
        "xorl %k[low], %k[low]\n" /* both carries are zero */
        "1: jrcxz 2f\n"
        "mulxq (%[a]), %[low], %[high]\n"
        "adcxq %[carry], %[low]\n"
        "adoxq (%[r]), %[low]\n"
        "movq %[low], (%[r])\n"
        "mulxq 8(%[a]), %[low], %[carry]\n"
        "adcxq %[high], %[low]\n"
        "adoxq 8(%[r]), %[low]\n"
        "movq %[low], 8(%[r])\n"
        "mulxq 16(%[a]), %[low], %[high]\n"
        "adcxq %[carry], %[low]\n"
        "adoxq 16(%[r]), %[low]\n"
        "movq %[low], 16(%[r])\n"
        "mulxq 24(%[a]), %[low], %[carry]\n"
        "adcxq %[high], %[low]\n"
        "adoxq 24(%[r]), %[low]\n"
        "movq %[low], 24(%[r])\n"
        "leaq 32(%[a]), %[a]\n"
        "leaq 32(%[r]), %[r]\n"
        "leaq -1(%%rcx), %%rcx\n"
        "jmp 1b\n"
        "2: movl $0, %k[low]\n"
        "adcxq %[low], %[carry]\n"
        "adoxq %[low], %[carry]\n"
        : [r] "+r"(r), [a] "+r"(a),
          "+c"(n4), [carry] "+r"(carry), [low] "=&r"(low), [high] "=&r"(high)
        : "d"(b)
        : "cc", "memory");
    return carry;
}

#endif

/* r += a * b; the limb that it carries out. */
static bn_limb row_add(bn_limb *r, const bn_limb *a, size_t n, bn_limb b)
{
    bn_limb carry = 0;
    size_t i = 0;

#ifdef HAVE_ADX
    if (has_adx()) {
        carry = row_add_adx(r, a, n / 4, b);
        i = n & ~(size_t)3;
    }
#endif
    _Pragma("GCC unroll 4") for (; i < n; i++)
    {
        bn_wide w = (bn_wide)a[i] * b + r[i] + carry;

        r[i] = (bn_limb)w;
        carry = (bn_limb)(w >> BN_LIMB_BITS);
    }
    return carry;
}

void bn_mul(bn_limb *r, const bn_limb *a, const bn_limb *b, size_t n)
{
    memset(r, 0, 2 * n * sizeof(*r));
    for (size_t i = 0; i < n; i++)
        r[i + n] = row_add(r + i, b, n, a[i]);
}

/* The products of two different limbs once, then doubled; then the squares. */
static void square(bn_limb *r, const bn_limb *a, size_t n)
{
    bn_limb carry = 0;

    memset(r, 0, 2 * n * sizeof(*r));
    for (size_t i = 0; i < n; i++)
        r[i + n] = row_add(r + 2 * i + 1, a + i + 1, n - i - 1, a[i]);
    bn_add(r, r, r, 2 * n);
    for (size_t i = 0; i < n; i++) {
        bn_wide w = (bn_wide)a[i] * a[i] + r[2 * i] + carry;

        r[2 * i] = (bn_limb)w;
        w = (w >> BN_LIMB_BITS) + r[2 * i + 1];
        r[2 * i + 1] = (bn_limb)w;
        carry = (bn_limb)(w >> BN_LIMB_BITS);
    }
}

/* --- Modulo m. ------------------------------------------------------------- */

void bn_mont_mul(bn_limb *r, const bn_limb *a, const bn_limb *b,
                 const struct bn_mod *mod)
{
    bn_limb t[2 * BN_LIMBS_MAX], top = 0;
    size_t n = mod->n;

    if (n < ROWS_MIN) { /* what curves invert by: unrolled for the usual two */
        if (n == BN_LIMBS(256))
            bn_mont_mul_n(r, a, b, mod->m, mod->m0inv, t, BN_LIMBS(256));
        else if (n == BN_LIMBS(384))
            bn_mont_mul_n(r, a, b, mod->m, mod->m0inv, t, BN_LIMBS(384));
        else
            bn_mont_mul_n(r, a, b, mod->m, mod->m0inv, t, n);
        return;
    }
    if (a == b)
        square(t, a, n);
    else
        bn_mul(t, a, b, n);
    for (size_t i = 0; i < n; i++) {
        bn_limb carry = row_add(t + i, mod->m, n, t[i] * mod->m0inv);
        bn_wide w = (bn_wide)t[i + n] + carry + top;

        t[i + n] = (bn_limb)w;
        top = (bn_limb)(w >> BN_LIMB_BITS);
    }
    bn_reduce_once(r, top, t + n, mod->m, n);
}

void bn_mod_add(bn_limb *r, const bn_limb *a, const bn_limb *b,
                const struct bn_mod *mod)
{
    bn_limb t[BN_LIMBS_MAX];

    bn_mod_add_n(r, a, b, mod->m, t, mod->n);
}

void bn_mod_sub(bn_limb *r, const bn_limb *a, const bn_limb *b,
                const struct bn_mod *mod)
{
    bn_limb t[BN_LIMBS_MAX];

    bn_mod_sub_n(r, a, b, mod->m, t, mod->n);
}

/* An odd number becomes even by adding m, which is odd. */
void bn_mod_halve(bn_limb *r, const struct bn_mod *mod)
{
    bn_limb t[BN_LIMBS_MAX];
    bn_limb odd = bn_mask(r[0] & 1);
    bn_limb high = bn_add(t, r, mod->m, mod->n) & odd;

    bn_select(r, odd, t, mod->n);
    for (size_t i = mod->n; i-- > 0;) {
        bn_limb low = r[i] & 1;

        r[i] = r[i] >> 1 | high << (BN_LIMB_BITS - 1);
        high = low;
    }
}

/* -1/m mod 2^w by Newton's method: m itself is right in three bits. */
static bn_limb m0inv_of(bn_limb m)
{
    bn_limb x = m;

    for (int bits = 3; bits < BN_LIMB_BITS; bits *= 2)
        x *= 2 - m * x;
    return (bn_limb)0 - x;
}

/*
 * R^2 = R * 2^w', w' = w * n. Begin with R / 2^w, which is below m since m's
 * top limb is not zero; double it to R * 2^k, where w' = k * 2^s and k is odd;
 * then s Montgomery squarings turn R * 2^k into R * 2^w'.
 */
void bn_mod_init(struct bn_mod *mod, const bn_limb *m, bn_limb *rr, size_t n)
{
    size_t k = BN_LIMB_BITS * n, s = 0;

    assert(n > 0 && n <= BN_LIMBS_MAX);
    *mod = (struct bn_mod){m, rr, m0inv_of(m[0]), n};
    for (; k % 2 == 0; k /= 2)
        s++;
    memset(rr, 0, n * sizeof(*rr));
    rr[n - 1] = 1;
    for (size_t i = 0; i < BN_LIMB_BITS + k; i++)
        bn_mod_add(rr, rr, rr, mod);
    for (size_t i = 0; i < s; i++)
        bn_mont_mul(rr, rr, rr, mod);
}

void bn_to_mont(bn_limb *r, const bn_limb *a, const struct bn_mod *mod)
{
    bn_mont_mul(r, a, mod->rr, mod);
}

void bn_from_mont(bn_limb *r, const bn_limb *a, const struct bn_mod *mod)
{
    bn_limb one[BN_LIMBS_MAX];

    memset(one, 0, mod->n * sizeof(*one));
    one[0] = 1;
    bn_mont_mul(r, a, one, mod);
}

/* a = high * R + low, and each product by R^2 puts in one R. */
void bn_mod_wide(bn_limb *r, const bn_limb *a, const struct bn_mod *mod)
{
    bn_limb low[BN_LIMBS_MAX];

    bn_to_mont(r, a + mod->n, mod);
    bn_to_mont(r, r, mod);
    bn_to_mont(low, a, mod);
    bn_mod_add(r, r, low, mod);
}

/* --- Powers. --------------------------------------------------------------- */

/* Four bits at a time: four squarings and a product, by one for 0000 too. */
void bn_mod_exp(bn_limb *r, const bn_limb *base, const uint8_t *e, size_t n_e,
                const struct bn_mod *mod, bn_limb *table)
{
    size_t n = mod->n;
    bn_limb factor[BN_LIMBS_MAX];

    memset(r, 0, n * sizeof(*r));
    r[0] = 1;
    bn_to_mont(r, r, mod);
    memcpy(table, r, n * sizeof(*r));
    for (size_t k = 1; k < BN_EXP_ENTRIES; k++)
        bn_mont_mul(table + k * n, table + (k - 1) * n, base, mod);

    for (size_t i = 0; i < 2 * n_e; i++) {
        bn_limb bits = e[i / 2] >> (i % 2 ? 0 : 4) & 15;

        for (int k = 0; k < 4; k++)
            bn_mont_mul(r, r, r, mod);
        bn_lookup(factor, table, BN_EXP_ENTRIES, n, bits);
        bn_mont_mul(r, r, factor, mod);
    }
}

void bn_mod_exp_public(bn_limb *r, const bn_limb *base, uint32_t e,
                       const struct bn_mod *mod)
{
    uint32_t bit = UINT32_C(1) << 31;

    assert(e > 0);
    while (!(e & bit))
        bit >>= 1;
    memcpy(r, base, mod->n * sizeof(*r));
    while (bit >>= 1) {
        bn_mont_mul(r, r, r, mod);
        if (e & bit)
            bn_mont_mul(r, r, base, mod);
    }
}
