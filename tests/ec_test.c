/*
 * ec_test.c - P-256, P-384 and P-521: known answers of RFC 6979 (A.2.5 to A.2.7)
 * and NIST's CAVP, the two ways to multiply side by side, what must be refused, and
 * the Wycheproof vectors.
 */
#include "ec.h"

#include "check.h"
#include "hex.h"
#include "wycheproof.h"

static const char *const order_hex[] = {
    "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf"
    "581a0db248b0a77aecec196accc52973",
    "01ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
    "fa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409"};

/* The private and public keys of RFC 6979. */
static const char *const priv_hex[] = {
    "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721",
    "6b9d3dad2e1b8c1c05b19875b6659f4de23c3b667bf297ba9aa47740787137d8"
    "96d5724e4c70a825f872c9ea60d2edf5",
    "00fad06daa62ba3b25d2fb40133da757205de67f5bb0018fee8c86e1b68c7e75ca"
    "a896eb32f1f47c70855836a6d16fcc1466f6d8fbec67db89ec0c08b0e996b83538"};
static const char *const pub_hex[] = {
    "0460fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
    "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299",
    "04ec3a4e415b4e19a4568618029f427fa5da9a8bc4ae92e02e06aae5286b300c64"
    "def8f0ea9055866064a254515480bc138015d9b72d7d57244ea8ef9ac0c62189"
    "6708a59367f9dfb9f54ca84b3f1c9db1288b231c3ae0d4fe7344fd2533264720",
    "0401894550d0785932e00eaa23b694f213f8c3121f86dc97a04e5a7167db4e5bcd"
    "371123d46e45db6b5d5370a7f20fb633155d38ffa16d2bd761dcac474b9a2f5023"
    "a400493101c962cd4d2fddf782285e64584139c2f91b47f87ff82354d6630f746a"
    "28a0db25741b5b34a828008b22acc23f924faafbd4d33f81ea66956dfeaa2bfdfc"
    "f5"};

/* --- Keys. ------------------------------------------------------------------ */

static void test_public(void)
{
    for (int c = EC_P256; c <= EC_P521; c++) {
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
    for (int c = EC_P256; c <= EC_P521; c++) {
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
    for (int c = EC_P256; c <= EC_P521; c++) {
        struct buf p = unhex(pub_hex[c]);
        size_t n = ec_size(c);

        CHECK(ec_check_point(c, p.data, p.len) == 0);
        CHECK(ec_check_point(c, p.data, p.len - 1) == EC_EINVAL);
        CHECK(ec_check_point(c, p.data, 0) == EC_EINVAL);
        CHECK(ec_check_point((c + 1) % 3, p.data, p.len) == EC_EINVAL);
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
    {EC_P521, HASH_SHA512, "sample",
     "308187024200c328fafcbd79dd77850370c46325d987cb525569fb63c5d3bc53950e6d4c"
     "5f174e25a1ee9017b5d450606add152b534931d7d4e8455cc91f9b15bf05ec36e377fa02"
     "41617cce7cf5064806c467f678d3b4080d6f1cc50af26ca209417308281b68af282623ea"
     "a63e5b5c0723d8b8c37ff0777b1a20f8ccb1dccc43997f1ee0e44da4a67a"},
    {EC_P521, HASH_SHA256, "sample",
     "308187024201511bb4d675114fe266fc4372b87682baecc01d3cc62cf2303c92b3526012"
     "659d16876e25c7c1e57648f23b73564d67f61c6f14d527d54972810421e7d87589e1a702"
     "414a171143a83163d6df460aaf61522695f207a58b95c0644d87e52aa1a347916e4f7a72"
     "930b1bc06dbe22ce3f58264afd23704cbb63b29b931f7de6c9d949a7ecfc"},
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
    for (int c = EC_P256; c <= EC_P521; c++) {
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

/* With and without DER, for numbers of every length; each length has one form. */
static void test_der_lengths(void)
{
    for (size_t i = 0; i < EC_SIZE_MAX; i++)
        for (size_t j = 0; j < EC_SIZE_MAX; j++) {
            uint8_t rs[2 * EC_SIZE_MAX] = {0}, back[2 * EC_SIZE_MAX];
            uint8_t sig[EC_SIG_MAX + 1];
            size_t n;

            rs[i] = 0x80;
            rs[EC_SIZE_MAX + j] = 0x7f;
            n = ec_sig_to_der(EC_P521, rs, sig);
            CHECK(n <= EC_SIG_MAX);
            CHECK(ec_sig_from_der(EC_P521, sig, n, back) == 0);
            CHECK(memcmp(rs, back, sizeof(rs)) == 0);
            CHECK(ec_sig_from_der(EC_P521, sig, n - 1, back) == EC_ESIG);
            CHECK(ec_sig_from_der(EC_P521, sig, n + 1, back) == EC_ESIG);
            if (sig[1] == 0x81) {
                memmove(sig + 1, sig + 2, n - 2); /* long, the short way */
                CHECK(ec_sig_from_der(EC_P521, sig, n - 1, back) == EC_ESIG);
            } else {
                memmove(sig + 2, sig + 1, n - 1); /* short, the long way */
                sig[1] = 0x81;
                CHECK(ec_sig_from_der(EC_P521, sig, n + 1, back) == EC_ESIG);
            }
        }
}

/* --- Wycheproof. ------------------------------------------------------------ */

static enum ec_curve curve_of_group(const struct json *group)
{
    const struct json *curve = json_get(group, "curve");

    if (!curve)
        curve = json_get(json_get(group, "publicKey"), "curve");
    if (str_eqz(curve->text, "secp256r1"))
        return EC_P256;
    return str_eqz(curve->text, "secp384r1") ? EC_P384 : EC_P521;
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
    enum hash_type hash = HASH_SHA256 + (c - EC_P256);
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
    test_der_lengths();
    wycheproof_run("ecdh_secp256r1_ecpoint.json", run_ecdh, refuse);
    wycheproof_run("ecdh_secp384r1_ecpoint.json", run_ecdh, refuse);
    wycheproof_run("ecdh_secp521r1_ecpoint.json", run_ecdh, refuse);
    wycheproof_run("ecdsa_secp256r1_sha256.json", run_ecdsa, NULL);
    wycheproof_run("ecdsa_secp384r1_sha384.json", run_ecdsa, NULL);
    wycheproof_run("ecdsa_secp521r1_sha512.json", run_ecdsa, NULL);
    return check_done("ec_test");
}
