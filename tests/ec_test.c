/*
 * ec_test.c - P-256 and P-384: known answers of RFC 6979 (A.2.5, A.2.6) and
 * NIST's CAVP, the two ways to multiply side by side, what must be refused, and
 * the Wycheproof vectors.
 */
#include "ec.h"

#include "check.h"
#include "hex.h"
#include "wycheproof.h"

static const char *const order_hex[] = {
    "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf"
    "581a0db248b0a77aecec196accc52973"};

/* The private and public keys of RFC 6979. */
static const char *const priv_hex[] = {
    "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721",
    "6b9d3dad2e1b8c1c05b19875b6659f4de23c3b667bf297ba9aa47740787137d8"
    "96d5724e4c70a825f872c9ea60d2edf5"};
static const char *const pub_hex[] = {
    "0460fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
    "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299",
    "04ec3a4e415b4e19a4568618029f427fa5da9a8bc4ae92e02e06aae5286b300c64"
    "def8f0ea9055866064a254515480bc138015d9b72d7d57244ea8ef9ac0c62189"
    "6708a59367f9dfb9f54ca84b3f1c9db1288b231c3ae0d4fe7344fd2533264720"};

/* --- Keys. ------------------------------------------------------------------ */

static void test_public(void)
{
    for (int c = EC_P256; c <= EC_P384; c++) {
        struct buf priv = unhex(priv_hex[c]), order = unhex(order_hex[c]);
        uint8_t point[EC_POINT_MAX], other[EC_POINT_MAX];
        uint8_t k[EC_SIZE_MAX] = {0};
        size_t n = ec_size(c);

        CHECK(ec_public(c, priv.data, point) == 0);
        CHECK(is_hex(point, ec_point_size(c), pub_hex[c]));
        CHECK(ec_check_point(c, point, ec_point_size(c)) == 0);

        CHECK(ec_public(c, k, other) == EC_EINVAL);
        CHECK(ec_public(c, order.data, other) == EC_EINVAL);
        /* order - 1 and 1: opposite points. */
        order.data[n - 1]--;
        k[n - 1] = 1;
        CHECK(ec_public(c, order.data, other) == 0);
        CHECK(ec_public(c, k, point) == 0);
        CHECK(memcmp(point, other, 1 + n) == 0);
        CHECK(memcmp(point, other, 1 + 2 * n) != 0);
        memset(order.data, 0xff, n);
        CHECK(ec_public(c, order.data, other) == EC_EINVAL);
        buf_release(&priv);
        buf_release(&order);
    }
}

/* By the comb and by the window; and both sides agree. */
static void test_multiples(void)
{
    for (int c = EC_P256; c <= EC_P384; c++) {
        size_t n = ec_size(c), n_point = ec_point_size(c);
        uint8_t one[EC_SIZE_MAX] = {0}, base[EC_POINT_MAX];

        one[n - 1] = 1;
        CHECK(ec_public(c, one, base) == 0);
        for (int i = 0; i < 40; i++) {
            uint8_t seed[EC_SEED_SIZE] = {(uint8_t)i};
            uint8_t a[EC_SIZE_MAX] = {0}, b[EC_SIZE_MAX], x[EC_SIZE_MAX];
            uint8_t y[EC_SIZE_MAX], pa[EC_POINT_MAX], pb[EC_POINT_MAX];

            ec_generate(c, seed, b);
            if (i < 20)
                a[n - 1 - i % n] = (uint8_t)(1 + 7 * i);
            else
                memcpy(a, b, n);
            CHECK(ec_public(c, a, pa) == 0 && ec_public(c, b, pb) == 0);
            CHECK(ec_check_point(c, pa, n_point) == 0);
            CHECK(ec_ecdh(c, a, base, n_point, x) == 0);
            CHECK(memcmp(x, pa + 1, n) == 0);
            CHECK(ec_ecdh(c, a, pb, n_point, x) == 0);
            CHECK(ec_ecdh(c, b, pa, n_point, y) == 0);
            CHECK(memcmp(x, y, n) == 0);
        }
    }
}

static void test_generate(void)
{
    uint8_t seed[EC_SEED_SIZE] = {1}, a[EC_SIZE_MAX], b[EC_SIZE_MAX];

    ec_generate(EC_P256, seed, a);
    ec_generate(EC_P256, seed, b);
    CHECK(memcmp(a, b, 32) == 0);
    seed[EC_SEED_SIZE - 1] ^= 1;
    ec_generate(EC_P256, seed, b);
    CHECK(memcmp(a, b, 32) != 0);
}

/* KAS_ECC_CDH_PrimitiveTest, P-256, count 0. */
static void test_ecdh(void)
{
    struct buf priv = unhex(
        "7d7dc5f71eb29ddaf80d6214632eeae03d9058af1fb6d22ed80badb62bc1a534");
    struct buf point = unhex(
        "04700c48f77f56584c5cc632ca65640db91b6bacce3a4df6b42ce7cc838833d287"
        "db71e509e3fd9b060ddb20ba5c51dcc5948d46fbf640dfe0441782cab85fa4ac");
    uint8_t out[EC_SIZE_MAX] = {0};

    CHECK(ec_ecdh(EC_P256, priv.data, point.data, point.len, out) == 0);
    CHECK(is_hex(
        out, 32,
        "46fc62106420ff012e54a434fbdd2d25ccc5852060561e68040dd7778997bd7b"));

    memset(out, 7, sizeof(out));
    memset(priv.data, 0, 32);
    CHECK(ec_ecdh(EC_P256, priv.data, point.data, point.len, out) == EC_EINVAL);
    priv.data[31] = 1;
    point.data[64] ^= 1;
    CHECK(ec_ecdh(EC_P256, priv.data, point.data, point.len, out) == EC_EINVAL);
    CHECK(out[0] == 7 && out[31] == 7);
    buf_release(&priv);
    buf_release(&point);
}

static void test_bad_points(void)
{
    for (int c = EC_P256; c <= EC_P384; c++) {
        struct buf p = unhex(pub_hex[c]);
        size_t n = ec_size(c);

        CHECK(ec_check_point(c, p.data, p.len) == 0);
        CHECK(ec_check_point(c, p.data, p.len - 1) == EC_EINVAL);
        CHECK(ec_check_point(c, p.data, 0) == EC_EINVAL);
        CHECK(ec_check_point(1 - c, p.data, p.len) == EC_EINVAL);
        p.data[0] = 2;
        CHECK(ec_check_point(c, p.data, p.len) == EC_EINVAL);
        p.data[0] = 4;
        p.data[n] ^= 1;
        CHECK(ec_check_point(c, p.data, p.len) == EC_EINVAL);
        memset(p.data + 1, 0, 2 * n); /* what infinity would look like */
        CHECK(ec_check_point(c, p.data, p.len) == EC_EINVAL);
        buf_release(&p);
    }
}

/* x = 0 is on P-256; x = p is the same point, and must not be taken for it. */
static void test_range(void)
{
    struct buf p = unhex(
        "040000000000000000000000000000000000000000000000000000000000000000"
        "66485c780e2f83d72433bd5d84a06bb6541c2af31dae871728bf856a174f93f4");
    struct buf x = unhex(
        "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff");

    CHECK(ec_check_point(EC_P256, p.data, p.len) == 0);
    memcpy(p.data + 1, x.data, 32);
    CHECK(ec_check_point(EC_P256, p.data, p.len) == EC_EINVAL);
    buf_release(&p);
    buf_release(&x);
}

/* --- Signatures. ------------------------------------------------------------ */

static const struct {
    enum ec_curve c;
    enum hash_type hash;
    const char *message, *sig;
} known[] = {
    {EC_P256, HASH_SHA256, "sample",
     "3046022100efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf37"
     "16022100f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda"
     "8"},
    {EC_P256, HASH_SHA384, "sample",
     "304402200eafea039b20e9b42309fb1d89e213057cbf973dc0cfc8f129edddc800ef7719"
     "02204861f0491e6998b9455193e34e7b0d284ddd7149a74b95b9261f13abde940954"},
    {EC_P256, HASH_SHA512, "sample",
     "30450221008496a60b5e9b47c825488827e0495b0e3fa109ec4568fd3f8d1097678eb97f"
     "0002202362ab1adbe2b8adf9cb9edab740ea6049c028114f2460f96554f61fae3302fe"},
    {EC_P256, HASH_SHA256, "test",
     "3045022100f1abb023518351cd71d881567b1ea663ed3efcf6c5132b354f28d3b0b7d383"
     "670220019f4113742a2b14bd25926b49c649155f267e60d3814b4c0cc84250e46f0083"},
    {EC_P384, HASH_SHA384, "sample",
     "306602310094edbb92a5ecb8aad4736e56c691916b3f88140666ce9fa73d64c4ea95ad13"
     "3c81a648152e44acf96e36dd1e80fabe4602310099ef4aeb15f178cea1fe40db2603138f"
     "130e740a19624526203b6351d0a3a94fa329c145786e679e7b82c71a38628ac8"},
    {EC_P384, HASH_SHA256, "sample",
     "3065023021b13d1e013c7fa1392d03c5f99af8b30c570c6f98d4ea8e354b63a21d3daa33"
     "bde1e888e63355d92fa2b3c36d8fb2cd023100f3aa443fb107745bf4bd77cb3891674632"
     "068a10ca67e3d45db2266fa7d1feebefdc63eccd1ac42ec0cb8668a4fa0ab0"},
};

static void test_sign(void)
{
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        enum ec_curve c = known[i].c;
        struct buf priv = unhex(priv_hex[c]), pub = unhex(pub_hex[c]);
        uint8_t digest[HASH_SIZE_MAX], sig[EC_SIG_MAX];
        size_t n;

        hash_once(known[i].hash, known[i].message, strlen(known[i].message),
                  digest);
        CHECK(ec_sign(c, priv.data, known[i].hash, digest, NULL, 0, sig, &n) ==
              0);
        CHECK(is_hex(sig, n, known[i].sig));
        CHECK(ec_verify(c, pub.data, pub.len, known[i].hash, digest, sig, n) ==
              0);
        digest[0] ^= 1;
        CHECK(ec_verify(c, pub.data, pub.len, known[i].hash, digest, sig, n) ==
              EC_ESIG);
        memset(priv.data, 0xff, priv.len);
        CHECK(ec_sign(c, priv.data, known[i].hash, digest, NULL, 0, sig, &n) ==
              EC_EINVAL);
        buf_release(&priv);
        buf_release(&pub);
    }
}

/* Randomness makes another signature, as good; lengths of DER vary. */
static void test_hedged(void)
{
    for (int c = EC_P256; c <= EC_P384; c++) {
        struct buf priv = unhex(priv_hex[c]), pub = unhex(pub_hex[c]);
        uint8_t digest[HASH_SIZE_MAX] = {1}, last[EC_SIG_MAX] = {0};

        for (uint8_t i = 0; i < 100; i++) {
            uint8_t sig[EC_SIG_MAX] = {0};
            size_t n = 0;

            CHECK(ec_sign(c, priv.data, HASH_SHA256, digest, &i, 1, sig, &n) ==
                  0);
            CHECK(n <= EC_SIG_MAX && memcmp(sig, last, sizeof(sig)) != 0);
            CHECK(ec_verify(c, pub.data, pub.len, HASH_SHA256, digest, sig,
                            n) == 0);
            sig[n / 2] ^= 4;
            CHECK(ec_verify(c, pub.data, pub.len, HASH_SHA256, digest, sig,
                            n) == EC_ESIG);
            sig[n / 2] ^= 4;
            CHECK(ec_verify(c, pub.data, pub.len, HASH_SHA256, digest, sig,
                            n - 1) == EC_ESIG);
            memcpy(last, sig, sizeof(last));
        }
        buf_release(&priv);
        buf_release(&pub);
    }
}

static void test_bad_der(void)
{
    static const char *const bad[] = {
        "",
        "30",
        "3000",
        "3003020101",
        "30060201010201",     /* cut */
        "3006020101020101ff", /* trailing */
        "3106020101020101",
        "308106020101020101", /* a long length for a short one */
        "30080202000102020001",
        "3006020181020101", /* negative */
        "3005020002020101",
        "3006020100020101", /* zero */
        "3006020101020100",
        "3006030101020101",
        "30800201010201010000",
        "3027022100ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc"
        "632551" /* the order */
        "0202010100",
    };
    struct buf pub = unhex(pub_hex[EC_P256]);
    uint8_t digest[SHA256_SIZE] = {0};

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct buf b = unhex(bad[i]);
        uint8_t *exact = xmalloc(b.len ? b.len : 1);

        if (b.len)
            memcpy(exact, b.data, b.len);
        CHECK(ec_verify(EC_P256, pub.data, pub.len, HASH_SHA256, digest, exact,
                        b.len) == EC_ESIG);
        free(exact);
        buf_release(&b);
    }
    CHECK(ec_verify(EC_P256, pub.data, pub.len - 1, HASH_SHA256, digest, digest,
                    1) == EC_EINVAL);
    buf_release(&pub);
}

/* --- Wycheproof. ------------------------------------------------------------ */

static enum ec_curve curve_of_group(const struct json *group)
{
    const struct json *curve = json_get(group, "curve");

    if (!curve)
        curve = json_get(json_get(group, "publicKey"), "curve");
    return str_eqz(curve->text, "secp256r1") ? EC_P256 : EC_P384;
}

static enum wycheproof_verdict run_ecdh(const struct json *group,
                                        const struct json *test)
{
    enum ec_curve c = curve_of_group(group);
    struct buf point = wycheproof_bytes(test, "public");
    struct buf priv = wycheproof_bytes(test, "private");
    struct buf want = wycheproof_bytes(test, "shared");
    uint8_t k[EC_SIZE_MAX] = {0}, out[EC_SIZE_MAX];
    size_t n = ec_size(c), skip = priv.len > n ? priv.len - n : 0;
    bool same;

    memcpy(k + n - (priv.len - skip), priv.data + skip, priv.len - skip);
    same = ec_ecdh(c, k, point.data, point.len, out) == 0 && want.len == n &&
           memcmp(out, want.data, n) == 0;
    buf_release(&point);
    buf_release(&priv);
    buf_release(&want);
    return same ? WYCHEPROOF_ACCEPTED : WYCHEPROOF_REFUSED;
}

static bool refuse(const struct json *test) /* points in another form */
{
    (void)test;
    return false;
}

static enum wycheproof_verdict run_ecdsa(const struct json *group,
                                         const struct json *test)
{
    enum ec_curve c = curve_of_group(group);
    enum hash_type hash = c == EC_P256 ? HASH_SHA256 : HASH_SHA384;
    struct buf point =
        wycheproof_bytes(json_get(group, "publicKey"), "uncompressed");
    struct buf msg = wycheproof_bytes(test, "msg");
    struct buf sig = wycheproof_bytes(test, "sig");
    uint8_t digest[HASH_SIZE_MAX];
    int rc;

    hash_once(hash, msg.data, msg.len, digest);
    rc = ec_verify(c, point.data, point.len, hash, digest, sig.data, sig.len);
    buf_release(&point);
    buf_release(&msg);
    buf_release(&sig);
    return rc == 0 ? WYCHEPROOF_ACCEPTED : WYCHEPROOF_REFUSED;
}

int main(void)
{
    test_public();
    test_multiples();
    test_generate();
    test_ecdh();
    test_bad_points();
    test_range();
    test_sign();
    test_hedged();
    test_bad_der();
    wycheproof_run("ecdh_secp256r1_ecpoint.json", run_ecdh, refuse);
    wycheproof_run("ecdh_secp384r1_ecpoint.json", run_ecdh, refuse);
    wycheproof_run("ecdsa_secp256r1_sha256.json", run_ecdsa, NULL);
    wycheproof_run("ecdsa_secp384r1_sha384.json", run_ecdsa, NULL);
    return check_done("ec_test");
}
