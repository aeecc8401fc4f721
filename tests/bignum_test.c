/*
 * bignum_test.c - limbs beside a twin that works as one does at school, digit
 * by digit in base 256, with division by doubling and subtracting. Random
 * numbers, and those at the edges: zeros, ones, all bits set.
 */
#include "bignum.h"

#include "check.h"

#define BYTES_MAX (2 * BN_BITS_MAX / 8 + 8)
#define LIMB_BYTES sizeof(bn_limb)

static uint64_t seed = 1;

static uint64_t next_random(void) /* splitmix64 */
{
    uint64_t z = seed += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* --- The twin: little-endian digits of base 256. --------------------------- */

struct twin {
    uint8_t d[BYTES_MAX];
};

static size_t digits; /* that are looked at: enough for a product */

static void twin_use(size_t n_limbs)
{
    digits = 2 * n_limbs * LIMB_BYTES + 1;
}

static struct twin twin_of(const bn_limb *x, size_t n)
{
    struct twin t = {{0}};

    for (size_t i = 0; i < n * LIMB_BYTES; i++)
        t.d[i] = (uint8_t)(x[i / LIMB_BYTES] >> (i % LIMB_BYTES * 8));
    return t;
}

static int twin_cmp(const struct twin *a, const struct twin *b)
{
    for (size_t i = digits; i-- > 0;)
        if (a->d[i] != b->d[i])
            return a->d[i] < b->d[i] ? -1 : 1;
    return 0;
}

static void twin_add(struct twin *r, const struct twin *a)
{
    unsigned carry = 0;

    for (size_t i = 0; i < digits; i++) {
        carry += (unsigned)r->d[i] + a->d[i];
        r->d[i] = (uint8_t)carry;
        carry >>= 8;
    }
}

static void twin_sub(struct twin *r, const struct twin *a)
{
    int borrow = 0;

    for (size_t i = 0; i < digits; i++) {
        int v = r->d[i] - a->d[i] - borrow;

        borrow = v < 0;
        r->d[i] = (uint8_t)v;
    }
}

/* Of n digits each. */
static struct twin twin_mul(const struct twin *a, const struct twin *b,
                            size_t n)
{
    struct twin r = {{0}};

    for (size_t i = 0; i < n; i++) {
        unsigned carry = 0;

        for (size_t j = 0; j < n || carry; j++) {
            carry += (unsigned)a->d[i] * (j < n ? b->d[j] : 0) + r.d[i + j];
            r.d[i + j] = (uint8_t)carry;
            carry >>= 8;
        }
    }
    return r;
}

static struct twin twin_mod(const struct twin *a, const struct twin *m)
{
    struct twin r = {{0}};

    for (size_t bit = digits * 8; bit-- > 0;) {
        struct twin same = r;

        twin_add(&r, &same);
        r.d[0] |= a->d[bit / 8] >> (bit % 8) & 1;
        if (twin_cmp(&r, m) >= 0)
            twin_sub(&r, m);
    }
    return r;
}

static bool twin_is(const struct twin *t, const bn_limb *x, size_t n)
{
    struct twin other = twin_of(x, n);

    return twin_cmp(t, &other) == 0;
}

/* --- Numbers to try. -------------------------------------------------------- */

static void fill(bn_limb *x, size_t n)
{
    unsigned kind = next_random() % 8;

    for (size_t i = 0; i < n; i++) {
        bn_limb any = (bn_limb)next_random();

        if (kind == 0)
            x[i] = 0;
        else if (kind == 1)
            x[i] = (bn_limb)-1;
        else if (kind == 2)
            x[i] = any & 1 ? (bn_limb)-1 : 0;
        else
            x[i] = any;
    }
}

static void fill_below(bn_limb *x, const bn_limb *m, size_t n)
{
    fill(x, n);
    if (next_random() % 8 == 0) { /* the largest */
        memcpy(x, m, n * sizeof(*x));
        x[0]--;
    }
    while (!bn_less(x, m, n))
        x[n - 1] = n > 1 || next_random() % 2 ? x[n - 1] / 2 : 0;
}

static void fill_modulus(bn_limb *m, size_t n)
{
    fill(m, n);
    m[0] |= 1;
    if (m[n - 1] == 0 || (n == 1 && m[0] == 1))
        m[n - 1] |= 5;
}

/* --- Tests. ------------------------------------------------------------------ */

static void test_bytes(void)
{
    static const uint8_t in[11] = {0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    bn_limb x[BN_LIMBS(128)];
    uint8_t out[20];

    CHECK(bn_from_bytes(x, BN_LIMBS(128), in, sizeof(in)));
    CHECK((x[0] & 0xffffffff) == 0x06070809);
    bn_to_bytes(out, sizeof(out), x, BN_LIMBS(128));
    CHECK(memcmp(out + 9, in, sizeof(in)) == 0 && out[8] == 0 && out[0] == 0);
    bn_to_bytes(out, 3, x, BN_LIMBS(128));
    CHECK(memcmp(out, in + 8, 3) == 0);
    CHECK(!bn_from_bytes(x, BN_LIMBS(64), in, sizeof(in)));
    CHECK(bn_from_bytes(x, BN_LIMBS(64), in + 3, sizeof(in) - 3));
    CHECK(bn_from_bytes(x, 1, NULL, 0) && x[0] == 0);
}

static void test_masks(size_t n)
{
    bn_limb a[BN_LIMBS_MAX], b[BN_LIMBS_MAX], r[BN_LIMBS_MAX];
    struct twin ta, tb;
    int cmp;

    twin_use(n);
    fill(a, n);
    fill(b, n);
    if (next_random() % 4 == 0)
        memcpy(b, a, n * sizeof(*a));
    ta = twin_of(a, n);
    tb = twin_of(b, n);
    cmp = twin_cmp(&ta, &tb);
    CHECK(bn_less(a, b, n) == (cmp < 0 ? (bn_limb)-1 : 0));
    CHECK(bn_equal(a, b, n) == (cmp == 0 ? (bn_limb)-1 : 0));
    memcpy(r, a, n * sizeof(*a));
    bn_select(r, 0, b, n);
    CHECK(twin_is(&ta, r, n));
    bn_select(r, (bn_limb)-1, b, n);
    CHECK(twin_is(&tb, r, n));
    memset(r, 0, sizeof(r));
    CHECK(bn_is_zero(r, n) == (bn_limb)-1);
    r[next_random() % n] = (bn_limb)1 << next_random() % BN_LIMB_BITS;
    CHECK(bn_is_zero(r, n) == 0);
}

static void test_lookup(void)
{
    bn_limb table[16 * 3], r[3];

    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        table[i] = (bn_limb)next_random();
    for (size_t k = 0; k < 16; k++) {
        bn_lookup(r, table, 16, 3, (bn_limb)k);
        CHECK(memcmp(r, table + 3 * k, sizeof(r)) == 0);
    }
}

/* One round of everything modulo a new m of n limbs. */
static void test_modulo(size_t n)
{
    bn_limb m[BN_LIMBS_MAX], rr[BN_LIMBS_MAX], a[BN_LIMBS_MAX], b[BN_LIMBS_MAX];
    bn_limb r[BN_LIMBS_MAX], wide[2 * BN_LIMBS_MAX];
    struct twin tm, ta, tb, want;
    struct bn_mod mod;

    twin_use(n);
    fill_modulus(m, n);
    bn_mod_init(&mod, m, rr, n);
    fill_below(a, m, n);
    fill_below(b, m, n);
    tm = twin_of(m, n);
    ta = twin_of(a, n);
    tb = twin_of(b, n);

    bn_mul(wide, a, b, n);
    want = twin_mul(&ta, &tb, n * LIMB_BYTES);
    CHECK(twin_is(&want, wide, 2 * n));
    want = twin_mod(&want, &tm);
    bn_to_mont(r, a, &mod);
    bn_mont_mul(r, r, b, &mod);
    CHECK(twin_is(&want, r, n));

    want = twin_mul(&ta, &ta, n * LIMB_BYTES);
    want = twin_mod(&want, &tm);
    bn_to_mont(r, a, &mod);
    bn_mont_mul(r, r, r, &mod);
    bn_from_mont(r, r, &mod);
    CHECK(twin_is(&want, r, n));

    fill(wide, 2 * n);
    want = twin_of(wide, 2 * n);
    want = twin_mod(&want, &tm);
    bn_mod_wide(r, wide, &mod);
    bn_from_mont(r, r, &mod);
    CHECK(twin_is(&want, r, n));

    want = ta;
    twin_add(&want, &tb);
    want = twin_mod(&want, &tm);
    bn_mod_add(r, a, b, &mod);
    CHECK(twin_is(&want, r, n));
    bn_mod_sub(r, r, b, &mod);
    CHECK(twin_is(&ta, r, n));
    bn_mod_halve(r, &mod);
    CHECK(bn_less(r, m, n));
    bn_mod_add(r, r, r, &mod);
    CHECK(twin_is(&ta, r, n));
}

static void test_powers(size_t n)
{
    bn_limb m[BN_LIMBS_MAX], rr[BN_LIMBS_MAX], a[BN_LIMBS_MAX], r[BN_LIMBS_MAX];
    static bn_limb table[BN_EXP_ENTRIES * BN_LIMBS_MAX];
    uint32_t e = (uint32_t)next_random() >> next_random() % 31 | 1;
    uint8_t e_be[5] = {0, (uint8_t)(e >> 24), (uint8_t)(e >> 16),
                       (uint8_t)(e >> 8), (uint8_t)e};
    struct twin tm, ta, want = {{1}};
    struct bn_mod mod;

    twin_use(n);
    fill_modulus(m, n);
    bn_mod_init(&mod, m, rr, n);
    fill_below(a, m, n);
    tm = twin_of(m, n);
    ta = twin_of(a, n);
    want = twin_mod(&want, &tm);
    for (int bit = 31; bit >= 0; bit--) {
        want = twin_mul(&want, &want, n * LIMB_BYTES);
        want = twin_mod(&want, &tm);
        if (e >> bit & 1) {
            want = twin_mul(&want, &ta, n * LIMB_BYTES);
            want = twin_mod(&want, &tm);
        }
    }

    bn_to_mont(a, a, &mod);
    bn_mod_exp(r, a, e_be, sizeof(e_be), &mod, table);
    bn_from_mont(r, r, &mod);
    CHECK(twin_is(&want, r, n));
    bn_mod_exp_public(r, a, e, &mod);
    bn_from_mont(r, r, &mod);
    CHECK(twin_is(&want, r, n));
}

int main(void)
{
    test_bytes();
    test_lookup();
    for (int i = 0; i < 300; i++) {
        test_masks(1 + next_random() % 9);
        test_modulo(1 + next_random() % 6);
    }
    for (int i = 0; i < 4; i++) {
        test_powers(1 + next_random() % 4);
        test_masks(BN_LIMBS_MAX);
        test_modulo(16 + (size_t)next_random() % 8);
        test_modulo(BN_LIMBS(2048));
        test_modulo(BN_LIMBS_MAX);
    }
    return check_done("bignum_test");
}
