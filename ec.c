/*
 * ec.c - P-256, P-384 and P-521.
 *
 * COORDINATES  Elements of the field are in Montgomery's form. Points are
 *   projective, (X : Y : Z) for (X/Z, Y/Z), infinity is (0 : 1 : 0). The
 *   formulas of Renes, Costello and Batina ("Complete addition formulas for
 *   prime order elliptic curves", 2016, for a = -3) hold for every pair of
 *   points, equal, opposite or infinite: there is no special case, so there is
 *   none to forget, to branch on or to be forced by an attacker. Doublings in a
 *   row are cheaper in Jacobian coordinates, (X/Z^2, Y/Z^3), worth the way there
 *   and back; with an odd order no point but infinity is special there.
 *
 * MULTIPLES    Of any point: four bits of the scalar at a time, by a table of
 *   0..15 times the point. Of the base point: a comb (Lim and Lee 1994). The
 *   scalar's bits stand in COMB_TEETH rows; a column, a bit from each row,
 *   chooses an entry of a table, and there is a table for each quarter of the
 *   columns. That leaves a sixteenth of the doublings. Tables are read whole,
 *   whatever the entry. The comb's are computed when first needed: cheaper to
 *   trust than a list.
 *
 * INVERSES     by Fermat, a^(p-2): slower than Euclid, but the same for all.
 */
#include "ec.h"

#include "bignum.h"

#include <assert.h>
#include <pthread.h>

#define EC_LIMBS BN_LIMBS(8 * EC_SIZE_MAX)
#define P256_LIMBS BN_LIMBS(256)
#define P384_LIMBS BN_LIMBS(384)
#define P521_LIMBS BN_LIMBS(521)
#define COMB_TEETH 4
#define COMB_QUARTERS 4
#define ENTRIES 16 /* of a table for four bits */

/* --- Constants (SP 800-186, 3.2.1.3 to 3.2.1.5), low words first. ---------- */

#if BN_LIMB_BITS == 64
#define W(v) UINT64_C(v)
#else
#define W(v) (bn_limb)(UINT64_C(v) & UINT32_MAX), (bn_limb)(UINT64_C(v) >> 32)
#endif

static const bn_limb p256_p[] = {W(0xffffffffffffffff), W(0x00000000ffffffff),
                                 W(0x0000000000000000), W(0xffffffff00000001)};
static const bn_limb p256_order[] = {
    W(0xf3b9cac2fc632551), W(0xbce6faada7179e84), W(0xffffffffffffffff),
    W(0xffffffff00000000)};
static const bn_limb p256_b[] = {W(0x3bce3c3e27d2604b), W(0x651d06b0cc53b0f6),
                                 W(0xb3ebbd55769886bc), W(0x5ac635d8aa3a93e7)};
static const bn_limb p256_gx[] = {W(0xf4a13945d898c296), W(0x77037d812deb33a0),
                                  W(0xf8bce6e563a440f2), W(0x6b17d1f2e12c4247)};
static const bn_limb p256_gy[] = {W(0xcbb6406837bf51f5), W(0x2bce33576b315ece),
                                  W(0x8ee7eb4a7c0f9e16), W(0x4fe342e2fe1a7f9b)};
static const bn_limb p384_p[] = {W(0x00000000ffffffff), W(0xffffffff00000000),
                                 W(0xfffffffffffffffe), W(0xffffffffffffffff),
                                 W(0xffffffffffffffff), W(0xffffffffffffffff)};
static const bn_limb p384_order[] = {
    W(0xecec196accc52973), W(0x581a0db248b0a77a), W(0xc7634d81f4372ddf),
    W(0xffffffffffffffff), W(0xffffffffffffffff), W(0xffffffffffffffff)};
static const bn_limb p384_b[] = {W(0x2a85c8edd3ec2aef), W(0xc656398d8a2ed19d),
                                 W(0x0314088f5013875a), W(0x181d9c6efe814112),
                                 W(0x988e056be3f82d19), W(0xb3312fa7e23ee7e4)};
static const bn_limb p384_gx[] = {W(0x3a545e3872760ab7), W(0x5502f25dbf55296c),
                                  W(0x59f741e082542a38), W(0x6e1d3b628ba79b98),
                                  W(0x8eb1c71ef320ad74), W(0xaa87ca22be8b0537)};
static const bn_limb p384_gy[] = {W(0x7a431d7c90ea0e5f), W(0x0a60b1ce1d7e819d),
                                  W(0xe9da3113b5f0b8c0), W(0xf8f41dbd289a147c),
                                  W(0x5d9e98bf9292dc29), W(0x3617de4a96262c6f)};
static const bn_limb p521_p[] = {
    W(0xffffffffffffffff), W(0xffffffffffffffff), W(0xffffffffffffffff),
    W(0xffffffffffffffff), W(0xffffffffffffffff), W(0xffffffffffffffff),
    W(0xffffffffffffffff), W(0xffffffffffffffff), W(0x00000000000001ff)};
static const bn_limb p521_order[] = {
    W(0xbb6fb71e91386409), W(0x3bb5c9b8899c47ae), W(0x7fcc0148f709a5d0),
    W(0x51868783bf2f966b), W(0xfffffffffffffffa), W(0xffffffffffffffff),
    W(0xffffffffffffffff), W(0xffffffffffffffff), W(0x00000000000001ff)};
static const bn_limb p521_b[] = {
    W(0xef451fd46b503f00), W(0x3573df883d2c34f1), W(0x1652c0bd3bb1bf07),
    W(0x56193951ec7e937b), W(0xb8b489918ef109e1), W(0xa2da725b99b315f3),
    W(0x929a21a0b68540ee), W(0x953eb9618e1c9a1f), W(0x0000000000000051)};
static const bn_limb p521_gx[] = {
    W(0xf97e7e31c2e5bd66), W(0x3348b3c1856a429b), W(0xfe1dc127a2ffa8de),
    W(0xa14b5e77efe75928), W(0xf828af606b4d3dba), W(0x9c648139053fb521),
    W(0x9e3ecb662395b442), W(0x858e06b70404e9cd), W(0x00000000000000c6)};
static const bn_limb p521_gy[] = {
    W(0x88be94769fd16650), W(0x353c7086a272c240), W(0xc550b9013fad0761),
    W(0x97ee72995ef42640), W(0x17afbd17273e662c), W(0x98f54449579b4468),
    W(0x5c8a5fb42c7d1bd9), W(0x39296a789a3bc004), W(0x0000000000000118)};

/* -1/p modulo a limb. */
#define P256_M0INV ((bn_limb)1)
#define P384_M0INV ((bn_limb)UINT64_C(0x100000001))
#define P521_M0INV ((bn_limb)1)

typedef bn_limb fe[EC_LIMBS]; /* the first n limbs count */

struct point {
    fe x, y, z;
};

struct curve {
    size_t n, size; /* limbs; bytes */
    unsigned spare; /* bits of size bytes above those of the order */
    struct bn_mod p, order;
    fe p_rr, order_rr;
    fe one, b; /* of the field */
    uint8_t p_less_2[EC_SIZE_MAX], order_less_2[EC_SIZE_MAX];
    struct point comb[COMB_QUARTERS][ENTRIES];
};

/* --- The field. ------------------------------------------------------------ */

/* By constants, so that compilers see through p's zeros and ones. */
static void fe_mul(const struct curve *c, fe r, const fe a, const fe b)
{
    fe t;

    if (c->n == P256_LIMBS)
        bn_mont_mul_n(r, a, b, p256_p, P256_M0INV, t, P256_LIMBS);
    else if (c->n == P384_LIMBS)
        bn_mont_mul_n(r, a, b, p384_p, P384_M0INV, t, P384_LIMBS);
    else
        bn_mont_mul_n(r, a, b, p521_p, P521_M0INV, t, P521_LIMBS);
}

static void fe_add(const struct curve *c, fe r, const fe a, const fe b)
{
    fe t;

    if (c->n == P256_LIMBS)
        bn_mod_add_n(r, a, b, p256_p, t, P256_LIMBS);
    else if (c->n == P384_LIMBS)
        bn_mod_add_n(r, a, b, p384_p, t, P384_LIMBS);
    else
        bn_mod_add_n(r, a, b, p521_p, t, P521_LIMBS);
}

static void fe_sub(const struct curve *c, fe r, const fe a, const fe b)
{
    fe t;

    if (c->n == P256_LIMBS)
        bn_mod_sub_n(r, a, b, p256_p, t, P256_LIMBS);
    else if (c->n == P384_LIMBS)
        bn_mod_sub_n(r, a, b, p384_p, t, P384_LIMBS);
    else
        bn_mod_sub_n(r, a, b, p521_p, t, P521_LIMBS);
}

static void fe_triple(const struct curve *c, fe r)
{
    fe twice;

    fe_add(c, twice, r, r);
    fe_add(c, r, r, twice);
}

/* 1/a, or 0 of 0; in Montgomery's form, modulo p or the order. */
static void invert(const struct curve *c, const struct bn_mod *mod, fe r,
                   const fe a)
{
    const uint8_t *e = mod == &c->p ? c->p_less_2 : c->order_less_2;
    bn_limb table[BN_EXP_ENTRIES * EC_LIMBS];

    bn_mod_exp(r, a, e, c->size, mod, table);
    wipe(table, sizeof(table));
}

/* --- Points. --------------------------------------------------------------- */

/* Products of the coordinates of two points: X1*X2 in xx, X1*Y2 + X2*Y1 in xy. */
struct products {
    fe xx, yy, zz, xy, xz, yz;
};

/* What addition and doubling end with. Uses up t. */
static void point_finish(const struct curve *c, struct point *r,
                         struct products *t)
{
    fe u, v, w, plus, minus;

    fe_mul(c, u, c->b, t->zz);
    fe_sub(c, u, t->xz, u);
    fe_triple(c, u); /* 3 (xz - b zz) */
    fe_add(c, plus, t->yy, u);
    fe_sub(c, minus, t->yy, u);

    fe_triple(c, t->zz);
    fe_mul(c, v, c->b, t->xz);
    fe_sub(c, v, v, t->zz);
    fe_sub(c, v, v, t->xx);
    fe_triple(c, v); /* 3 (b xz - 3 zz - xx) */

    fe_triple(c, t->xx);
    fe_sub(c, w, t->xx, t->zz); /* 3 xx - 3 zz */

    fe_mul(c, u, t->yz, v);
    fe_mul(c, r->x, t->xy, plus);
    fe_sub(c, r->x, r->x, u);
    fe_mul(c, u, w, v);
    fe_mul(c, r->y, plus, minus);
    fe_add(c, r->y, r->y, u);
    fe_mul(c, u, t->xy, w);
    fe_mul(c, r->z, t->yz, minus);
    fe_add(c, r->z, r->z, u);
}

/* a1*b2 + a2*b1, as (a1 + b1)(a2 + b2) less the products that we have. */
static void cross(const struct curve *c, fe r, const fe a1, const fe b1,
                  const fe a2, const fe b2, const fe aa, const fe bb)
{
    fe t;

    fe_add(c, r, a1, b1);
    fe_add(c, t, a2, b2);
    fe_mul(c, r, r, t);
    fe_sub(c, r, r, aa);
    fe_sub(c, r, r, bb);
}

static void point_add(const struct curve *c, struct point *r,
                      const struct point *p, const struct point *q)
{
    struct products t;

    fe_mul(c, t.xx, p->x, q->x);
    fe_mul(c, t.yy, p->y, q->y);
    fe_mul(c, t.zz, p->z, q->z);
    cross(c, t.xy, p->x, p->y, q->x, q->y, t.xx, t.yy);
    cross(c, t.xz, p->x, p->z, q->x, q->z, t.xx, t.zz);
    cross(c, t.yz, p->y, p->z, q->y, q->z, t.yy, t.zz);
    point_finish(c, r, &t);
}

static void point_double(const struct curve *c, struct point *r,
                         const struct point *p)
{
    struct products t;

    fe_mul(c, t.xx, p->x, p->x);
    fe_mul(c, t.yy, p->y, p->y);
    fe_mul(c, t.zz, p->z, p->z);
    fe_mul(c, t.xy, p->x, p->y);
    fe_add(c, t.xy, t.xy, t.xy);
    fe_mul(c, t.xz, p->x, p->z);
    fe_add(c, t.xz, t.xz, t.xz);
    fe_mul(c, t.yz, p->y, p->z);
    fe_add(c, t.yz, t.yz, t.yz);
    point_finish(c, r, &t);
}

static void point_infinity(const struct curve *c, struct point *r)
{
    memset(r, 0, sizeof(*r));
    memcpy(r->y, c->one, sizeof(r->y));
}

/*
 * Double in Jacobian coordinates (the Explicit-Formulas Database's dbl-2001-b).
 * 2 Y Z is zero where Z is: infinity stays.
 */
static void jacobian_double(const struct curve *c, struct point *p)
{
    fe delta, gamma, beta4, alpha, t;

    fe_mul(c, delta, p->z, p->z);
    fe_mul(c, gamma, p->y, p->y);
    fe_mul(c, p->z, p->y, p->z);
    fe_add(c, p->z, p->z, p->z);
    fe_mul(c, beta4, p->x, gamma);
    fe_add(c, beta4, beta4, beta4);
    fe_add(c, beta4, beta4, beta4);

    fe_sub(c, t, p->x, delta);
    fe_add(c, alpha, p->x, delta);
    fe_mul(c, alpha, alpha, t);
    fe_triple(c, alpha);

    fe_mul(c, p->x, alpha, alpha);
    fe_sub(c, p->x, p->x, beta4);
    fe_sub(c, p->x, p->x, beta4);

    fe_sub(c, t, beta4, p->x);
    fe_mul(c, p->y, alpha, t);
    fe_add(c, gamma, gamma, gamma);
    fe_mul(c, gamma, gamma, gamma);
    fe_add(c, gamma, gamma, gamma);
    fe_sub(c, p->y, p->y, gamma);
}

/* (X : Y : Z) is (XZ, YZ^2, Z) there, and (X, Y, Z) there (XZ : Y : Z^3). */
static void point_double_times(const struct curve *c, struct point *p, int n)
{
    bn_limb infinite;
    fe t;

    fe_mul(c, p->x, p->x, p->z);
    fe_mul(c, t, p->z, p->z);
    fe_mul(c, p->y, p->y, t);
    while (n-- > 0)
        jacobian_double(c, p);
    fe_mul(c, p->x, p->x, p->z);
    fe_mul(c, t, p->z, p->z);
    fe_mul(c, p->z, p->z, t);
    infinite = bn_is_zero(p->z, c->n);
    bn_select(p->y, infinite, c->one, c->n);
}

/* Entry number index; reads all. */
static void point_lookup(const struct curve *c, struct point *r,
                         const struct point table[ENTRIES], bn_limb index)
{
    memset(r, 0, sizeof(*r));
    for (size_t k = 0; k < ENTRIES; k++) {
        bn_limb mask = ~bn_nonzero((bn_limb)k ^ index);

        for (size_t i = 0; i < c->n; i++) {
            r->x[i] |= mask & table[k].x[i];
            r->y[i] |= mask & table[k].y[i];
            r->z[i] |= mask & table[k].z[i];
        }
    }
}

/* k times p; k is size bytes. */
static void point_mul(const struct curve *c, struct point *r, const uint8_t *k,
                      const struct point *p)
{
    struct point table[ENTRIES], entry;

    point_infinity(c, &table[0]);
    for (size_t i = 1; i < ENTRIES; i++)
        point_add(c, &table[i], &table[i - 1], p);

    point_infinity(c, r);
    for (size_t i = 0; i < 2 * c->size; i++) {
        point_double_times(c, r, 4);
        point_lookup(c, &entry, table, k[i / 2] >> (i % 2 ? 0 : 4) & 15);
        point_add(c, r, r, &entry);
    }
    wipe(&entry, sizeof(entry));
}

/* --- The comb. ------------------------------------------------------------- */

/* Bits of the scalar between a quarter's columns, and between two teeth. */
static size_t comb_quarter(const struct curve *c)
{
    return c->size * 8 / (COMB_TEETH * COMB_QUARTERS);
}

/* comb[h][i]: the sum of 2^(h * quarter + t * tooth) times the base, t in i. */
static void comb_init(struct curve *c, const struct point *base)
{
    struct point p = *base;
    size_t quarter = comb_quarter(c);

    for (size_t bit = 0; bit < COMB_TEETH * COMB_QUARTERS * quarter; bit++) {
        size_t h = bit / quarter % COMB_QUARTERS;
        size_t tooth = bit / quarter / COMB_QUARTERS;
        struct point *table = c->comb[h];

        if (bit % quarter == 0) {
            if (tooth == 0)
                point_infinity(c, &table[0]);
            for (size_t i = 0; i < (size_t)1 << tooth; i++)
                point_add(c, &table[i | (size_t)1 << tooth], &table[i], &p);
        }
        point_double(c, &p, &p);
    }
}

/* k times the base point; k is size bytes. */
static void point_mul_base(const struct curve *c, struct point *r,
                           const uint8_t *k)
{
    size_t quarter = comb_quarter(c);
    struct point entry;

    point_infinity(c, r);
    for (size_t column = quarter; column-- > 0;) {
        point_double(c, r, r);
        for (size_t h = 0; h < COMB_QUARTERS; h++) {
            bn_limb index = 0;

            for (size_t t = 0; t < COMB_TEETH; t++) {
                size_t bit = (t * COMB_QUARTERS + h) * quarter + column;

                index |= (bn_limb)(k[c->size - 1 - bit / 8] >> (bit % 8) & 1)
                         << t;
            }
            point_lookup(c, &entry, c->comb[h], index);
            point_add(c, r, r, &entry);
        }
    }
    wipe(&entry, sizeof(entry));
}

/* --- The curves. ----------------------------------------------------------- */

static struct curve p256, p384, p521;
static pthread_once_t p256_once = PTHREAD_ONCE_INIT;
static pthread_once_t p384_once = PTHREAD_ONCE_INIT;
static pthread_once_t p521_once = PTHREAD_ONCE_INIT;

static void less_2(const struct curve *c, uint8_t *out, const bn_limb *m)
{
    fe t;

    memcpy(t, m, c->n * sizeof(*t));
    t[0] -= 2; /* all primes and orders end in more */
    bn_to_bytes(out, c->size, t, c->n);
}

static void curve_init(struct curve *c, size_t bits, const bn_limb *p,
                       const bn_limb *order, const bn_limb *b,
                       const bn_limb *gx, const bn_limb *gy)
{
    struct point base;

    c->size = (bits + 7) / 8;
    c->spare = (unsigned)(8 * c->size - bits);
    c->n = BN_LIMBS(bits);
    bn_mod_init(&c->p, p, c->p_rr, c->n);
    bn_mod_init(&c->order, order, c->order_rr, c->n);
    less_2(c, c->p_less_2, p);
    less_2(c, c->order_less_2, order);
    c->one[0] = 1;
    bn_to_mont(c->one, c->one, &c->p);
    bn_to_mont(c->b, b, &c->p);

    memcpy(base.z, c->one, sizeof(base.z));
    bn_to_mont(base.x, gx, &c->p);
    bn_to_mont(base.y, gy, &c->p);
    comb_init(c, &base);
}

static void p256_init(void)
{
    curve_init(&p256, 256, p256_p, p256_order, p256_b, p256_gx, p256_gy);
}

static void p384_init(void)
{
    curve_init(&p384, 384, p384_p, p384_order, p384_b, p384_gx, p384_gy);
}

static void p521_init(void)
{
    curve_init(&p521, 521, p521_p, p521_order, p521_b, p521_gx, p521_gy);
}

static const struct curve *curve_of(enum ec_curve id)
{
    if (id == EC_P256) {
        pthread_once(&p256_once, p256_init);
        return &p256;
    }
    if (id == EC_P384) {
        pthread_once(&p384_once, p384_init);
        return &p384;
    }
    assert(id == EC_P521);
    pthread_once(&p521_once, p521_init);
    return &p521;
}

size_t ec_size(enum ec_curve c)
{
    static const uint8_t sizes[] = {32, 48, 66};

    return sizes[c];
}

size_t ec_point_size(enum ec_curve c)
{
    return 1 + 2 * ec_size(c);
}

/* --- Points and scalars as bytes. ------------------------------------------ */

/* y^2 = x^3 - 3x + b */
static bool on_curve(const struct curve *c, const struct point *p)
{
    fe left, right, three_x;

    fe_mul(c, left, p->y, p->y);
    fe_mul(c, right, p->x, p->x);
    fe_mul(c, right, right, p->x);
    memcpy(three_x, p->x, sizeof(three_x));
    fe_triple(c, three_x);
    fe_sub(c, right, right, three_x);
    fe_add(c, right, right, c->b);
    return bn_public(bn_equal(left, right, c->n));
}

/* Infinity has no such form, and no other point has an order but the curve's. */
static int point_read(const struct curve *c, struct point *p, const uint8_t *in,
                      size_t n)
{
    if (n != 1 + 2 * c->size || in[0] != 4)
        return EC_EINVAL;
    memcpy(p->z, c->one, sizeof(p->z));
    bn_from_bytes(p->x, c->n, in + 1, c->size);
    bn_from_bytes(p->y, c->n, in + 1 + c->size, c->size);
    if (!bn_public(bn_less(p->x, c->p.m, c->n) & bn_less(p->y, c->p.m, c->n)))
        return EC_EINVAL;
    bn_to_mont(p->x, p->x, &c->p);
    bn_to_mont(p->y, p->y, &c->p);
    return on_curve(c, p) ? 0 : EC_EINVAL;
}

/* The affine coordinates, as numbers; y may be NULL. Infinity gives zeros. */
static void point_affine(const struct curve *c, fe x, fe y,
                         const struct point *p)
{
    fe z;

    invert(c, &c->p, z, p->z);
    fe_mul(c, x, p->x, z);
    bn_from_mont(x, x, &c->p);
    if (y) {
        fe_mul(c, y, p->y, z);
        bn_from_mont(y, y, &c->p);
    }
    wipe(z, sizeof(z));
}

/* A mask: 0 < k < order? */
static bn_limb scalar_read(const struct curve *c, fe k, const uint8_t *in)
{
    bn_from_bytes(k, c->n, in, c->size);
    return bn_less(k, c->order.m, c->n) & ~bn_is_zero(k, c->n);
}

/* A coordinate or a digest below 2^bits; all orders are above half of that. */
static void order_reduce(const struct curve *c, fe r, const fe a)
{
    fe t;

    memcpy(t, a, c->n * sizeof(*t));
    bn_reduce_once(r, 0, t, c->order.m, c->n);
}

int ec_check_point(enum ec_curve id, const uint8_t *point, size_t n)
{
    struct point p;

    return point_read(curve_of(id), &p, point, n);
}

/* --- Uniform scalars: HMAC_DRBG (SP 800-90A), as RFC 6979 uses it. ---------- */

struct drbg {
    enum hash_type hash;
    uint8_t k[HASH_SIZE_MAX], v[HASH_SIZE_MAX];
};

static void drbg_next(struct drbg *g)
{
    size_t n = hash_size(g->hash);

    hmac_once(g->hash, g->k, n, g->v, n, g->v);
}

static void drbg_mix(struct drbg *g, uint8_t tag, const struct str *parts,
                     size_t n_parts)
{
    size_t n = hash_size(g->hash);
    struct hmac m;

    hmac_init(&m, g->hash, g->k, n);
    hmac_update(&m, g->v, n);
    hmac_update(&m, &tag, 1);
    for (size_t i = 0; i < n_parts; i++)
        hmac_update(&m, parts[i].p, parts[i].n);
    hmac_final(&m, g->k);
    drbg_next(g);
}

static void drbg_init(struct drbg *g, enum hash_type hash,
                      const struct str *parts, size_t n_parts)
{
    g->hash = hash;
    memset(g->k, 0, sizeof(g->k));
    memset(g->v, 1, sizeof(g->v));
    drbg_mix(g, 0, parts, n_parts);
    drbg_mix(g, 1, parts, n_parts);
}

/* Only the first bits count (RFC 6979, 2.3.2). */
static void drop_spare(const struct curve *c, uint8_t *bytes)
{
    unsigned carry = 0;

    for (size_t i = 0; i < c->size; i++) {
        carry = (carry & 0xff) << 8 | bytes[i];
        bytes[i] = (uint8_t)(carry >> c->spare);
    }
}

/*
 * The next scalar, as a number and as bytes. That one was out of range may
 * show: it is gone, and the next has nothing to do with it.
 */
static void drbg_scalar(struct drbg *g, const struct curve *c, fe k,
                        uint8_t *bytes)
{
    for (;;) {
        for (size_t done = 0; done < c->size; done += hash_size(g->hash)) {
            drbg_next(g);
            memcpy(bytes + done, g->v,
                   min_u64(c->size - done, hash_size(g->hash)));
        }
        drop_spare(c, bytes);
        if (bn_public(scalar_read(c, k, bytes)))
            return;
        drbg_mix(g, 0, NULL, 0);
    }
}

static struct str str_bytes(const uint8_t *p, size_t n)
{
    return (struct str){(const char *)p, n};
}

/* --- Keys. ----------------------------------------------------------------- */

void ec_generate(enum ec_curve id, const uint8_t seed[EC_SEED_SIZE],
                 uint8_t *priv)
{
    struct str part = str_bytes(seed, EC_SEED_SIZE);
    struct drbg g;
    fe k;

    drbg_init(&g, HASH_SHA384, &part, 1);
    drbg_scalar(&g, curve_of(id), k, priv);
    wipe(&g, sizeof(g));
    wipe(k, sizeof(k));
}

int ec_public(enum ec_curve id, const uint8_t *priv, uint8_t *point)
{
    const struct curve *c = curve_of(id);
    struct point p;
    fe k, y;
    int rc = EC_EINVAL;

    if (bn_public(scalar_read(c, k, priv))) {
        point_mul_base(c, &p, priv);
        point_affine(c, k, y, &p);
        point[0] = 4;
        bn_publish(point + 1, c->size, k, c->n);
        bn_publish(point + 1 + c->size, c->size, y, c->n);
        rc = 0;
    }
    wipe(&p, sizeof(p));
    wipe(k, sizeof(k));
    return rc;
}

int ec_ecdh(enum ec_curve id, const uint8_t *priv, const uint8_t *point,
            size_t n, uint8_t *out)
{
    const struct curve *c = curve_of(id);
    struct point p;
    fe k;
    int rc = point_read(c, &p, point, n);

    if (rc == 0 && !bn_public(scalar_read(c, k, priv)))
        rc = EC_EINVAL;
    if (rc == 0) {
        point_mul(c, &p, priv, &p);
        point_affine(c, k, NULL, &p);
        bn_to_bytes(out, c->size, k, c->n);
    }
    wipe(&p, sizeof(p));
    wipe(k, sizeof(k));
    return rc;
}

/* --- Signatures in DER: SEQUENCE of two INTEGERs, each in one way only. ----- */

#define DER_INTEGER 0x02
#define DER_SEQUENCE 0x30
#define DER_SHORT_MAX 0x7f /* a length of one byte; DER_LONG_1 goes before */
#define DER_LONG_1 0x81    /* a longer one of one byte */

/* Writes a positive number of size bytes; returns how many bytes that took. */
static size_t der_put(uint8_t *out, const uint8_t *p, size_t size)
{
    size_t pad;

    while (size > 1 && p[0] == 0) {
        p++;
        size--;
    }
    pad = p[0] >> 7; /* it would read as negative */
    out[0] = DER_INTEGER;
    out[1] = (uint8_t)(size + pad);
    out[2] = 0;
    memcpy(out + 2 + pad, p, size);
    return 2 + pad + size;
}

/* Takes a number of up to size bytes from *p, right-aligned into out. */
static int der_take(const uint8_t **p, const uint8_t *end, uint8_t *out,
                    size_t size)
{
    const uint8_t *in = *p;
    size_t n;

    if (end - in < 3 || in[0] != DER_INTEGER)
        return EC_ESIG;
    n = in[1];
    in += 2;
    if (n == 0 || n > (size_t)(end - in) || in[0] & 0x80)
        return EC_ESIG;
    *p = in + n;
    if (in[0] == 0 && n > 1) { /* only in front of a high bit */
        if (!(in[1] & 0x80))
            return EC_ESIG;
        in++;
        n--;
    }
    if (n > size)
        return EC_ESIG;
    memset(out, 0, size - n);
    memcpy(out + size - n, in, n);
    return 0;
}

size_t ec_sig_to_der(enum ec_curve id, const uint8_t *rs, uint8_t *sig)
{
    uint8_t body[EC_SIG_MAX];
    size_t size = ec_size(id), n = der_put(body, rs, size), head = 0;

    n += der_put(body + n, rs + size, size);
    sig[head++] = DER_SEQUENCE;
    if (n > DER_SHORT_MAX)
        sig[head++] = DER_LONG_1;
    sig[head++] = (uint8_t)n;
    memcpy(sig + head, body, n);
    return head + n;
}

int ec_sig_from_der(enum ec_curve id, const uint8_t *sig, size_t n, uint8_t *rs)
{
    const uint8_t *end = sig + n;
    size_t size = ec_size(id), head = 2;

    if (n > DER_SHORT_MAX + 3 && sig[1] == DER_LONG_1)
        head++; /* and what is shorter has it the short way */
    if (n < head || sig[0] != DER_SEQUENCE || sig[head - 1] != n - head ||
        (head == 2 && n - head > DER_SHORT_MAX))
        return EC_ESIG;
    sig += head;
    if (der_take(&sig, end, rs, size) < 0 ||
        der_take(&sig, end, rs + size, size) < 0 || sig != end)
        return EC_ESIG;
    return 0;
}

/* --- ECDSA (FIPS 186-5, 6.4). ----------------------------------------------- */

/* The digest's first bits as a number below the order. */
static void digest_read(const struct curve *c, fe z, enum hash_type hash,
                        const uint8_t *digest)
{
    bn_from_bytes(z, c->n, digest, min_u64(hash_size(hash), c->size));
    order_reduce(c, z, z);
}

/* Is the x of u1 times the base plus u2 times q, modulo the order, r? */
static bool sum_has(const struct curve *c, const fe u1, const fe u2,
                    const struct point *q, const fe r)
{
    uint8_t k[EC_SIZE_MAX];
    struct point a, b;
    fe x;

    bn_to_bytes(k, c->size, u1, c->n);
    point_mul_base(c, &a, k);
    bn_to_bytes(k, c->size, u2, c->n);
    point_mul(c, &b, k, q);
    point_add(c, &a, &a, &b);
    point_affine(c, x, NULL, &a);
    order_reduce(c, x, x);
    return bn_public(~bn_is_zero(a.z, c->n) & bn_equal(x, r, c->n));
}

int ec_verify(enum ec_curve id, const uint8_t *point, size_t n,
              enum hash_type hash, const uint8_t *digest, const uint8_t *sig,
              size_t n_sig)
{
    const struct curve *c = curve_of(id);
    uint8_t rs[2 * EC_SIZE_MAX];
    struct point q;
    fe r, s, u1, u2;

    if (point_read(c, &q, point, n) < 0)
        return EC_EINVAL;
    if (ec_sig_from_der(id, sig, n_sig, rs) < 0)
        return EC_ESIG;
    if (!bn_public(scalar_read(c, r, rs) & scalar_read(c, s, rs + c->size)))
        return EC_ESIG;

    /* 1/s in Montgomery's form; a product with it leaves that form. */
    bn_to_mont(s, s, &c->order);
    invert(c, &c->order, u2, s);
    digest_read(c, u1, hash, digest);
    bn_mont_mul(u1, u1, u2, &c->order);
    bn_mont_mul(u2, r, u2, &c->order);
    return sum_has(c, u1, u2, &q, r) ? 0 : EC_ESIG;
}

/* What a signature is made of, and must not stay on the stack. */
struct ec_signing {
    fe d, z, k, s;
    struct point kg;
    struct drbg g;
    uint8_t bytes[EC_SIZE_MAX];
};

/* r, the x of k times the base, and s = (z + r d) / k. */
static void sign_once(const struct curve *c, struct ec_signing *t, fe r)
{
    fe inverse;

    drbg_scalar(&t->g, c, t->k, t->bytes);
    point_mul_base(c, &t->kg, t->bytes);
    point_affine(c, r, NULL, &t->kg);
    order_reduce(c, r, r);

    bn_to_mont(t->s, r, &c->order);
    bn_mont_mul(t->s, t->s, t->d, &c->order);
    bn_mod_add(t->s, t->s, t->z, &c->order);
    bn_to_mont(t->k, t->k, &c->order);
    invert(c, &c->order, inverse, t->k);
    bn_mont_mul(t->s, t->s, inverse, &c->order);
    wipe(inverse, sizeof(inverse));
}

int ec_sign(enum ec_curve id, const uint8_t *priv, enum hash_type hash,
            const uint8_t *digest, const uint8_t *extra, size_t n_extra,
            uint8_t *sig, size_t *n_sig)
{
    const struct curve *c = curve_of(id);
    uint8_t rs[2 * EC_SIZE_MAX];
    struct ec_signing t;
    fe r;

    if (!bn_public(scalar_read(c, t.d, priv))) {
        wipe(t.d, sizeof(t.d));
        return EC_EINVAL;
    }
    digest_read(c, t.z, hash, digest);
    bn_to_bytes(t.bytes, c->size, t.z, c->n);
    drbg_init(&t.g, hash,
              (struct str[]){str_bytes(priv, c->size),
                             str_bytes(t.bytes, c->size),
                             str_bytes(extra, n_extra)},
              3);
    do
        sign_once(c, &t, r);
    while (!bn_public(~bn_is_zero(r, c->n) & ~bn_is_zero(t.s, c->n)));

    bn_publish(rs, c->size, r, c->n);
    bn_publish(rs + c->size, c->size, t.s, c->n);
    wipe(&t, sizeof(t));
    *n_sig = ec_sig_to_der(id, rs, sig);
    return 0;
}
