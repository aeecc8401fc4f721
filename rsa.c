/*
 * rsa.c - RSA signatures.
 *
 * A private operation, on c = the padded message:
 *
 *   blind     c' = c * u^e mod n, u = 2^x with x of 128 secret random bits: the
 *             exponentiations below see nothing that an attacker chose or can
 *             guess (Kocher 1996). A power of two has its inverse for nothing,
 *             by halving where u doubles, so none is computed.
 *   halves    s1 = c'^dp mod p, s2 = c'^dq mod q
 *   whole     s' = s2 + q * ((s1 - s2) / q mod p)      (RFC 8017, 5.1.2)
 *   unblind   s = s' / u mod n
 *   check     s^e = c mod n, or nothing is given out
 */
#include "rsa.h"

#include "bignum.h"

#include <assert.h>

#define HALF_LIMBS BN_LIMBS(8 * RSA_HALF_MAX)
#define BLIND_SIZE 16 /* of x, in bytes */
#define PREFIX_SIZE 19
#define PSS_END 0xbc

/* --- Keys. ------------------------------------------------------------------ */

static struct str strip_zeros(struct str s)
{
    while (s.n > 0 && s.p[0] == 0) {
        s.p++;
        s.n--;
    }
    return s;
}

/* Into out[0..size), right-aligned. False if it is longer. */
static bool put_number(uint8_t *out, size_t size, struct str s)
{
    s = strip_zeros(s);
    memset(out, 0, size);
    if (s.n > size)
        return false;
    if (s.n)
        memcpy(out + size - s.n, s.p, s.n);
    return true;
}

static size_t bits_of(const struct rsa_public *k)
{
    size_t bits = k->size * 8;

    for (unsigned top = k->n[0]; !(top & 0x80); top <<= 1)
        bits--;
    return bits;
}

int rsa_public_set(struct rsa_public *k, struct str n, struct str e)
{
    uint8_t e_be[4];

    n = strip_zeros(n);
    if (n.n == 0 || n.n > RSA_SIZE_MAX || !put_number(e_be, sizeof(e_be), e))
        return RSA_EINVAL;
    memset(k, 0, sizeof(*k));
    k->size = n.n;
    k->e = get_u32be(e_be);
    memcpy(k->n, n.p, n.n);
    if (bits_of(k) < RSA_BITS_MIN || !(k->n[k->size - 1] & 1))
        return RSA_EINVAL;
    if (k->e < 3 || k->e > INT32_MAX || !(k->e & 1))
        return RSA_EINVAL;
    return 0;
}

/* p * q = n; both are odd and of full length; and 1/q is below p. */
static bool parts_fit(const struct rsa_private *k)
{
    size_t h = BN_LIMBS(8 * k->half);
    bn_limb p[HALF_LIMBS], q[HALF_LIMBS], qinv[HALF_LIMBS];
    bn_limb n[2 * HALF_LIMBS], product[2 * HALF_LIMBS];
    bn_limb fit = bn_from_bytes(n, 2 * h, k->pub.n, k->pub.size);

    bn_from_bytes(p, h, k->p, k->half);
    bn_from_bytes(q, h, k->q, k->half);
    bn_from_bytes(qinv, h, k->qinv, k->half);
    bn_mul(product, p, q, h);
    fit &= bn_equal(product, n, 2 * h) & bn_less(qinv, p, h);
    fit &= bn_nonzero(k->p[0]) & bn_nonzero(k->q[0]);
    wipe(p, sizeof(p));
    wipe(q, sizeof(q));
    wipe(qinv, sizeof(qinv));
    return bn_public(fit);
}

int rsa_private_set(struct rsa_private *k, const struct rsa_parts *parts)
{
    size_t half;

    memset(k, 0, sizeof(*k));
    if (rsa_public_set(&k->pub, parts->n, parts->e) < 0)
        return RSA_EINVAL;
    half = k->half = (k->pub.size + 1) / 2;
    if (put_number(k->p, half, parts->p) && put_number(k->q, half, parts->q) &&
        put_number(k->dp, half, parts->dp) &&
        put_number(k->dq, half, parts->dq) &&
        put_number(k->qinv, half, parts->qinv) && parts_fit(k))
        return 0;
    wipe(k, sizeof(*k));
    return RSA_EINVAL;
}

/* --- Padding. --------------------------------------------------------------- */

static bool hash_allowed(enum hash_type hash)
{
    return hash == HASH_SHA256 || hash == HASH_SHA384 || hash == HASH_SHA512;
}

/* DER of a DigestInfo up to the digest (RFC 8017, 9.2, note 1). */
static void digest_prefix(uint8_t out[PREFIX_SIZE], enum hash_type hash)
{
    static const uint8_t sha256[PREFIX_SIZE] = {
        0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01,
        0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20};

    memcpy(out, sha256, PREFIX_SIZE);
    out[1] = (uint8_t)(17 + hash_size(hash));
    out[14] = hash == HASH_SHA256 ? 1 : hash == HASH_SHA384 ? 2 : 3;
    out[PREFIX_SIZE - 1] = (uint8_t)hash_size(hash);
}

/* 00 01 ff ... ff 00 DigestInfo: no randomness, so verifying encodes too. */
static void pkcs1_encode(uint8_t *em, size_t size, enum hash_type hash,
                         const uint8_t *digest)
{
    uint8_t *info = em + size - hash_size(hash) - PREFIX_SIZE;

    memset(em, 0xff, (size_t)(info - em));
    em[0] = 0;
    em[1] = 1;
    info[-1] = 0;
    digest_prefix(info, hash);
    memcpy(info + PREFIX_SIZE, digest, hash_size(hash));
}

/* MGF1 (RFC 8017, B.2.1): xor a stream made from seed, a digest, into p. */
static void mgf1_xor(uint8_t *p, size_t n, enum hash_type hash,
                     const uint8_t *seed)
{
    uint8_t block[HASH_SIZE_MAX], counter[4];
    size_t step = hash_size(hash);
    struct hash h;

    for (uint32_t i = 0; i * step < n; i++) {
        put_u32be(counter, i);
        hash_init(&h, hash);
        hash_update(&h, seed, step);
        hash_update(&h, counter, sizeof(counter));
        hash_final(&h, block);
        for (size_t j = 0; j < step && i * step + j < n; j++)
            p[i * step + j] ^= block[j];
    }
}

/* H of 9.1: the digest and the salt behind eight zeros. */
static void pss_hash(uint8_t *out, enum hash_type hash, const uint8_t *digest,
                     const uint8_t *salt, size_t n_salt)
{
    static const uint8_t zeros[8];
    struct hash h;

    hash_init(&h, hash);
    hash_update(&h, zeros, sizeof(zeros));
    hash_update(&h, digest, hash_size(hash));
    hash_update(&h, salt, n_salt);
    hash_final(&h, out);
}

/*
 * EM of PSS, one bit shorter than n:  masked (0 ... 0 1 salt) | H | bc
 * Where n has 8k + 1 bits EM is a byte shorter and a zero goes before it.
 */
struct pss {
    uint8_t *db, *h; /* the masked part, and H behind it */
    size_t n_db;
    uint8_t first; /* mask of the bits of db[0] that are in use */
};

static struct pss pss_layout(uint8_t *em, const struct rsa_public *k,
                             enum hash_type hash)
{
    size_t bits = bits_of(k) - 1, n = (bits + 7) / 8;
    struct pss l;

    l.db = em + k->size - n;
    l.n_db = n - hash_size(hash) - 1;
    l.h = l.db + l.n_db;
    l.first = (uint8_t)(0xff >> (8 * n - bits));
    return l;
}

static void pss_encode(uint8_t *em, const struct rsa_public *k,
                       enum hash_type hash, const uint8_t *digest,
                       const uint8_t *salt)
{
    size_t n_salt = hash_size(hash);
    struct pss l = pss_layout(em, k, hash);

    memset(em, 0, k->size);
    pss_hash(l.h, hash, digest, salt, n_salt);
    l.db[l.n_db - n_salt - 1] = 1;
    memcpy(l.db + l.n_db - n_salt, salt, n_salt);
    mgf1_xor(l.db, l.n_db, hash, l.h);
    l.db[0] &= l.first;
    em[k->size - 1] = PSS_END;
}

/* Uses up em. All of it is public. */
static bool pss_right(uint8_t *em, const struct rsa_public *k,
                      enum hash_type hash, size_t n_salt, const uint8_t *digest)
{
    struct pss l = pss_layout(em, k, hash);
    uint8_t want[HASH_SIZE_MAX];
    size_t zeros;

    if (n_salt > l.n_db - 1 || em[k->size - 1] != PSS_END)
        return false;
    if ((l.db != em && em[0] != 0) || (l.db[0] & ~l.first) != 0)
        return false;
    mgf1_xor(l.db, l.n_db, hash, l.h);
    l.db[0] &= l.first;
    zeros = l.n_db - n_salt - 1;
    for (size_t i = 0; i < zeros; i++)
        if (l.db[i] != 0)
            return false;
    pss_hash(want, hash, digest, l.db + zeros + 1, n_salt);
    return l.db[zeros] == 1 && ct_eq(want, l.h, hash_size(hash));
}

/* --- Verifying. -------------------------------------------------------------- */

struct modulus { /* n, ready for use */
    bn_limb n[BN_LIMBS_MAX], rr[BN_LIMBS_MAX];
    struct bn_mod mod;
};

static void modulus_init(struct modulus *m, const struct rsa_public *k)
{
    size_t n = BN_LIMBS(8 * k->size);

    bn_from_bytes(m->n, n, k->n, k->size);
    bn_mod_init(&m->mod, m->n, m->rr, n);
}

static void raise_to_e(bn_limb *r, const bn_limb *s, uint32_t e,
                       const struct bn_mod *mod)
{
    bn_limb t[BN_LIMBS_MAX];

    bn_to_mont(t, s, mod);
    bn_mod_exp_public(r, t, e, mod);
    bn_from_mont(r, r, mod);
}

/* The padded message that sig stands for (RSAVP1): k->size bytes. */
static int open_sig(const struct rsa_public *k, const uint8_t *sig,
                    size_t n_sig, uint8_t *em)
{
    bn_limb s[BN_LIMBS_MAX], c[BN_LIMBS_MAX];
    struct modulus m;

    if (n_sig != k->size)
        return RSA_ESIG;
    modulus_init(&m, k);
    bn_from_bytes(s, m.mod.n, sig, n_sig);
    if (!bn_public(bn_less(s, m.n, m.mod.n)))
        return RSA_ESIG;
    raise_to_e(c, s, k->e, &m.mod);
    bn_publish(em, k->size, c, m.mod.n);
    return 0;
}

int rsa_verify_pss(const struct rsa_public *k, enum hash_type hash,
                   size_t n_salt, const uint8_t *digest, const uint8_t *sig,
                   size_t n_sig)
{
    uint8_t em[RSA_SIZE_MAX];

    if (!hash_allowed(hash))
        return RSA_EINVAL;
    if (open_sig(k, sig, n_sig, em) < 0)
        return RSA_ESIG;
    return pss_right(em, k, hash, n_salt, digest) ? 0 : RSA_ESIG;
}

static int verify_pkcs1(const struct rsa_public *k, enum hash_type hash,
                        const uint8_t *digest, const uint8_t *sig, size_t n_sig)
{
    uint8_t em[RSA_SIZE_MAX], want[RSA_SIZE_MAX];

    if (!hash_allowed(hash))
        return RSA_EINVAL;
    pkcs1_encode(want, k->size, hash, digest);
    if (open_sig(k, sig, n_sig, em) < 0)
        return RSA_ESIG;
    return ct_eq(em, want, k->size) ? 0 : RSA_ESIG;
}

int rsa_verify(const struct rsa_public *k, enum rsa_padding padding,
               enum hash_type hash, const uint8_t *digest, const uint8_t *sig,
               size_t n_sig)
{
    if (padding == RSA_PSS)
        return rsa_verify_pss(k, hash, hash_size(hash), digest, sig, n_sig);
    return verify_pkcs1(k, hash, digest, sig, n_sig);
}

/* --- Signing. ----------------------------------------------------------------- */

/* What must not stay on the stack. */
struct rsa_signing {
    bn_limb u[BN_LIMBS_MAX], u_inv[BN_LIMBS_MAX]; /* blinding, Montgomery's */
    bn_limb c[2 * HALF_LIMBS], s[2 * HALF_LIMBS]; /* blinded */
    bn_limb p[HALF_LIMBS], q[HALF_LIMBS], rr[HALF_LIMBS];
    bn_limb s1[HALF_LIMBS], s2[HALF_LIMBS], t[HALF_LIMBS];
    bn_limb table[BN_EXP_ENTRIES * HALF_LIMBS];
    uint8_t x[BLIND_SIZE], salt[HASH_SIZE_MAX];
};

/* Salt and blinding: not to be told by who knows random, but not the key. */
static void derive(struct rsa_signing *w, const struct rsa_private *k,
                   enum hash_type hash, const uint8_t *digest,
                   const uint8_t *random)
{
    uint8_t prk[SHA256_SIZE], info[1 + HASH_SIZE_MAX] = {0};
    size_t n = hash_size(hash);

    hkdf_extract(HASH_SHA256, random, RSA_RANDOM_SIZE, k->p, k->half, prk);
    memcpy(info + 1, digest, n);
    hkdf_expand(HASH_SHA256, prk, sizeof(prk), info, 1 + n, w->x, sizeof(w->x));
    info[0] = 1;
    hkdf_expand(HASH_SHA256, prk, sizeof(prk), info, 1 + n, w->salt, n);
    wipe(prk, sizeof(prk));
}

/* u = 2^x and its inverse, bit by bit. */
static void blinding_init(struct rsa_signing *w, const struct bn_mod *mod)
{
    bn_limb t[BN_LIMBS_MAX];
    size_t n = mod->n;

    memset(w->u, 0, n * sizeof(*w->u));
    w->u[0] = 1;
    bn_to_mont(w->u, w->u, mod);
    memcpy(w->u_inv, w->u, n * sizeof(*w->u));
    for (size_t i = 0; i < 8 * BLIND_SIZE; i++) {
        bn_limb bit = bn_mask((bn_limb)w->x[i / 8] >> (i % 8) & 1);

        bn_mont_mul(w->u, w->u, w->u, mod);
        bn_mod_add(t, w->u, w->u, mod);
        bn_select(w->u, bit, t, n);
        bn_mont_mul(w->u_inv, w->u_inv, w->u_inv, mod);
        memcpy(t, w->u_inv, n * sizeof(*t));
        bn_mod_halve(t, mod);
        bn_select(w->u_inv, bit, t, n);
    }
    wipe(t, sizeof(t));
}

/* c^e of half a key: r = c^e mod prime, in Montgomery's form; sets mod. */
static void half_power(struct rsa_signing *w, bn_limb *r, struct bn_mod *mod,
                       const bn_limb *prime, const uint8_t *e, size_t half)
{
    bn_mod_init(mod, prime, w->rr, BN_LIMBS(8 * half));
    bn_mod_wide(w->t, w->c, mod);
    bn_mod_exp(r, w->t, e, half, mod, w->table);
}

/* s = c^d mod n by its halves; both have 2h limbs. */
static void crt(struct rsa_signing *w, const struct rsa_private *k, size_t h)
{
    struct bn_mod mod;

    bn_from_bytes(w->p, h, k->p, k->half);
    bn_from_bytes(w->q, h, k->q, k->half);
    half_power(w, w->s2, &mod, w->q, k->dq, k->half);
    bn_from_mont(w->s2, w->s2, &mod);
    half_power(w, w->s1, &mod, w->p, k->dp, k->half);

    bn_to_mont(w->t, w->s2, &mod);
    bn_mod_sub(w->s1, w->s1, w->t, &mod);
    bn_from_bytes(w->t, h, k->qinv, k->half);
    bn_mont_mul(w->s1, w->s1, w->t, &mod); /* leaves Montgomery's form */

    bn_mul(w->s, w->q, w->s1, h);
    memset(w->c, 0, 2 * h * sizeof(*w->c));
    memcpy(w->c, w->s2, h * sizeof(*w->c));
    bn_add(w->s, w->s, w->c, 2 * h);
}

/* sig = em^d mod n, as the head of this file has it. */
static int private_op(struct rsa_signing *w, const struct rsa_private *k,
                      const uint8_t *em, uint8_t *sig)
{
    size_t h = BN_LIMBS(8 * k->half);
    bn_limb c[BN_LIMBS_MAX], t[BN_LIMBS_MAX];
    struct modulus m;

    modulus_init(&m, &k->pub);
    assert(m.mod.n <= 2 * h);
    bn_from_bytes(c, m.mod.n, em, k->pub.size);

    blinding_init(w, &m.mod);
    bn_mod_exp_public(t, w->u, k->pub.e, &m.mod);
    memset(w->c, 0, sizeof(w->c));
    bn_mont_mul(w->c, c, t, &m.mod);
    crt(w, k, h);
    bn_mont_mul(w->s, w->s, w->u_inv, &m.mod);
    wipe(t, sizeof(t));

    raise_to_e(t, w->s, k->pub.e, &m.mod);
    if (!bn_public(bn_equal(t, c, m.mod.n)))
        return RSA_EFAULT;
    bn_publish(sig, k->pub.size, w->s, m.mod.n);
    return 0;
}

int rsa_sign(const struct rsa_private *k, enum rsa_padding padding,
             enum hash_type hash, const uint8_t *digest,
             const uint8_t random[RSA_RANDOM_SIZE], uint8_t *sig)
{
    uint8_t em[RSA_SIZE_MAX];
    struct rsa_signing w;
    int rc;

    if (!hash_allowed(hash))
        return RSA_EINVAL;
    derive(&w, k, hash, digest, random);
    if (padding == RSA_PSS)
        pss_encode(em, &k->pub, hash, digest, w.salt);
    else
        pkcs1_encode(em, k->pub.size, hash, digest);
    rc = private_op(&w, k, em, sig);
    wipe(&w, sizeof(w));
    return rc;
}
