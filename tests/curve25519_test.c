/*
 * curve25519_test.c - published vectors, what must be refused, both widths of
 * limbs against each other, and Wycheproof.
 */
#include "curve25519.h"

#include "chance.h"
#include "hash.h"
#include "wycheproof.h"

/* Of curve25519_wide.c and curve25519_narrow.c. */
bool wide_field_edges_are_right(void);
bool narrow_field_edges_are_right(void);
bool narrow_x25519(const uint8_t secret[32], const uint8_t theirs[32],
                   uint8_t out[32]);
void narrow_ed25519_init(struct ed25519_key *k, const uint8_t seed[32]);
void narrow_ed25519_sign(const struct ed25519_key *k, const void *p, size_t n,
                         uint8_t out[64]);
bool narrow_ed25519_verify(const uint8_t public[32], const void *p, size_t n,
                           const uint8_t signature[64]);

static const struct variant {
    bool (*agree)(const uint8_t *, const uint8_t *, uint8_t *);
    void (*init)(struct ed25519_key *, const uint8_t *);
    void (*sign)(const struct ed25519_key *, const void *, size_t, uint8_t *);
    bool (*verify)(const uint8_t *, const void *, size_t, const uint8_t *);
} variants[] = {
    {x25519, ed25519_init, ed25519_sign, ed25519_verify},
    {narrow_x25519, narrow_ed25519_init, narrow_ed25519_sign,
     narrow_ed25519_verify},
};

/* --- X25519. ------------------------------------------------------------- */

/* RFC 7748, 5.2. */
static void test_x25519_known(const struct variant *v)
{
    static const struct {
        const char *secret, *theirs, *want;
    } cases[] = {
        {"a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
         "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
         "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"},
        {"4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
         "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
         "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957"},
    };
    uint8_t k[32] = {9}, u[32] = {9}, out[32];

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf secret = unhex(cases[i].secret);
        struct buf theirs = unhex(cases[i].theirs);

        CHECK(v->agree(secret.data, theirs.data, out));
        CHECK(is_hex(out, sizeof(out), cases[i].want));
        buf_release(&secret);
        buf_release(&theirs);
    }
    for (int i = 1; i <= 1000; i++) {
        CHECK(v->agree(k, u, out));
        memcpy(u, k, sizeof(u));
        memcpy(k, out, sizeof(k));
        if (i == 1)
            CHECK(is_hex(k, sizeof(k),
                         "422c8e7a6227d7bca1350b3e2bb7279f"
                         "7897b87bb6854b783c60e80311ae3079"));
    }
    CHECK(is_hex(k, sizeof(k),
                 "684cf59ba83309552800ef566f2f4d3c"
                 "1c3887c49360e3875f2eb94d99532c51"));
}

static void test_x25519_agreement(void)
{
    for (int i = 0; i < 20; i++) {
        uint8_t a[32], b[32], to_a[32], to_b[32], one[32], two[32];

        rnd_fill(a, sizeof(a));
        rnd_fill(b, sizeof(b));
        x25519_public(a, to_b);
        x25519_public(b, to_a);
        CHECK(x25519(a, to_a, one) && narrow_x25519(b, to_b, two));
        CHECK(ct_eq(one, two, sizeof(one)));
    }
}

/* The points of small order, which make all secrets one. */
static void test_x25519_refused(const struct variant *v)
{
    static const char *const points[] = {
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    };
    uint8_t secret[32], out[32];

    for (size_t i = 0; i < ARRAY_LEN(points); i++) {
        struct buf u = unhex(points[i]);

        rnd_fill(secret, sizeof(secret));
        CHECK(!v->agree(secret, u.data, out));
        CHECK(is_hex(out, sizeof(out), points[0]));
        buf_release(&u);
    }
}

/* --- Ed25519. ------------------------------------------------------------ */

/* RFC 8032, 7.1, tests 1 to 3. */
static void test_ed25519_known(const struct variant *v)
{
    static const struct {
        const char *seed, *public, *msg, *want;
    } cases[] = {
        {"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
         "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
         "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
         "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"},
        {"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
         "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
         "72",
         "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
         "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"},
        {"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
         "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
         "af82",
         "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
         "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf seed = unhex(cases[i].seed), msg = unhex(cases[i].msg);
        uint8_t out[ED25519_SIZE];
        struct ed25519_key k;

        v->init(&k, seed.data);
        CHECK(is_hex(k.public, sizeof(k.public), cases[i].public));
        v->sign(&k, msg.data, msg.len, out);
        CHECK(is_hex(out, sizeof(out), cases[i].want));
        CHECK(v->verify(k.public, msg.data, msg.len, out));
        buf_release(&seed);
        buf_release(&msg);
    }
}

static void test_ed25519_random(void)
{
    uint8_t seed[32], msg[100], one[64], two[64];
    struct ed25519_key k, narrow;

    for (size_t n = 0; n < sizeof(msg); n += 3) {
        rnd_fill(seed, sizeof(seed));
        rnd_fill(msg, n);
        ed25519_init(&k, seed);
        narrow_ed25519_init(&narrow, seed);
        CHECK(ct_eq(&k, &narrow, sizeof(k)));
        ed25519_sign(&k, msg, n, one);
        narrow_ed25519_sign(&k, msg, n, two);
        CHECK(ct_eq(one, two, sizeof(one)));
        CHECK(ed25519_verify(k.public, msg, n, one));
        CHECK(narrow_ed25519_verify(k.public, msg, n, one));
    }
}

/* A bit of anything. */
static void test_ed25519_flipped(const struct variant *v)
{
    uint8_t seed[32] = {1}, msg[5] = "hello", sig[64], public[32];
    struct ed25519_key k;

    v->init(&k, seed);
    v->sign(&k, msg, sizeof(msg), sig);
    memcpy(public, k.public, sizeof(public));
    for (size_t bit = 0; bit < 8 * sizeof(sig); bit += bit % 3 + 1) {
        uint8_t *all[] = {sig, msg, public};
        size_t n[] = {sizeof(sig), sizeof(msg), sizeof(public)};

        for (size_t i = 0; i < ARRAY_LEN(all); i++) {
            uint8_t *at = all[i] + bit / 8 % n[i], mask = 1 << bit % 8;

            *at ^= mask;
            CHECK(!v->verify(public, msg, sizeof(msg), sig));
            *at ^= mask;
        }
    }
    CHECK(v->verify(public, msg, sizeof(msg), sig));
    CHECK(!v->verify(public, msg, sizeof(msg) - 1, sig));
}

/* S + order makes the same equation, under another signature. */
static void test_ed25519_malleable(const struct variant *v)
{
    struct buf order = unhex("edd3f55c1a631258d69cf7a2def9de14"
                             "00000000000000000000000000000010");
    uint8_t seed[32] = {2}, sig[64];
    struct ed25519_key k;
    unsigned carry = 0;

    v->init(&k, seed);
    v->sign(&k, "", 0, sig);
    CHECK(v->verify(k.public, "", 0, sig));
    for (int i = 0; i < 32; i++) {
        carry += (unsigned)sig[32 + i] + order.data[i];
        sig[32 + i] = (uint8_t)carry;
        carry >>= 8;
    }
    CHECK(carry == 0);
    CHECK(!v->verify(k.public, "", 0, sig));
    buf_release(&order);
}

/*
 * Keys that are no point, or not the only encoding of it. The neutral element
 * as a key makes S = 0, R = neutral a signature of anything: were its other
 * encodings taken, that would be one, too.
 */
static void test_ed25519_keys(const struct variant *v)
{
    static const struct {
        const char *public;
        bool good;
    } keys[] = {
        {"0100000000000000000000000000000000000000000000000000000000000000",
         true},
        /* x is 0, yet odd */
        {"0100000000000000000000000000000000000000000000000000000000000080",
         false},
        /* y is p + 1 */
        {"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
         false},
        /* y is 2: not on the curve */
        {"0200000000000000000000000000000000000000000000000000000000000000",
         false},
    };
    uint8_t sig[64] = {1};

    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        struct buf public = unhex(keys[i].public);

        CHECK(v->verify(public.data, "any", 3, sig) == keys[i].good);
        buf_release(&public);
    }
}

/* --- Wycheproof. --------------------------------------------------------- */

static enum wycheproof_verdict x25519_verdict(const struct json *group,
                                              const struct json *test)
{
    struct buf secret = wycheproof_bytes(test, "private");
    struct buf theirs = wycheproof_bytes(test, "public");
    struct buf shared = wycheproof_bytes(test, "shared");
    uint8_t one[32], two[32];
    bool good = x25519(secret.data, theirs.data, one);

    (void)group;
    CHECK(narrow_x25519(secret.data, theirs.data, two) == good);
    CHECK(ct_eq(one, two, sizeof(one)));
    CHECK(shared.len == 32 && ct_eq(one, shared.data, 32));
    buf_release(&secret);
    buf_release(&theirs);
    buf_release(&shared);
    return good ? WYCHEPROOF_ACCEPTED : WYCHEPROOF_REFUSED;
}

/* Points of the twist, or not in canonical form, are taken (RFC 7748, 5), but
 * not those that make the secret zero (RFC 8446, 7.4.2). */
static bool x25519_acceptable(const struct json *test)
{
    return !wycheproof_flagged(test, "ZeroSharedSecret");
}

static enum wycheproof_verdict ed25519_verdict(const struct json *group,
                                               const struct json *test)
{
    struct buf public = wycheproof_bytes(json_get(group, "publicKey"), "pk");
    struct buf msg = wycheproof_bytes(test, "msg");
    struct buf sig = wycheproof_bytes(test, "sig");
    bool good = false;

    CHECK(public.len == ED25519_PUBLIC_SIZE);
    if (sig.len == ED25519_SIZE) {
        good = ed25519_verify(public.data, msg.data, msg.len, sig.data);
        CHECK(narrow_ed25519_verify(public.data, msg.data, msg.len, sig.data) ==
              good);
    }
    buf_release(&public);
    buf_release(&msg);
    buf_release(&sig);
    return good ? WYCHEPROOF_ACCEPTED : WYCHEPROOF_REFUSED;
}

int main(void)
{
    for (size_t i = 0; i < ARRAY_LEN(variants); i++) {
        test_x25519_known(&variants[i]);
        test_x25519_refused(&variants[i]);
        test_ed25519_known(&variants[i]);
        test_ed25519_flipped(&variants[i]);
        test_ed25519_malleable(&variants[i]);
        test_ed25519_keys(&variants[i]);
    }
    CHECK(wide_field_edges_are_right());
    CHECK(narrow_field_edges_are_right());
    test_x25519_agreement();
    test_ed25519_random();
    wycheproof_run("x25519.json", x25519_verdict, x25519_acceptable);
    wycheproof_run("ed25519.json", ed25519_verdict, NULL);
    return check_done("curve25519");
}
