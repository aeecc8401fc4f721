/*
 * rsa_test.c - RSA: signatures as openssl makes them, keys and signatures that
 * must be refused, faults, and the Wycheproof vectors.
 */
#include "rsa.h"

#include "check.h"
#include "hex.h"
#include "rsakeys.h"
#include "wycheproof.h"

static const uint8_t fixed_random[RSA_RANDOM_SIZE] = {1, 2, 3};

static void sample_digest(enum hash_type hash, uint8_t *digest)
{
    hash_once(hash, "sample", 6, digest);
}

/* --- Known answers. --------------------------------------------------------- */

static void check_verifies(const struct rsa_public *k, enum rsa_padding padding,
                           enum hash_type hash, const char *hex)
{
    struct buf sig = unhex(hex);
    uint8_t digest[HASH_SIZE_MAX];

    sample_digest(hash, digest);
    CHECK(rsa_verify(k, padding, hash, digest, sig.data, sig.len) == 0);
    CHECK(rsa_verify(k, RSA_PKCS1 + RSA_PSS - padding, hash, digest, sig.data,
                     sig.len) == RSA_ESIG);
    CHECK(rsa_verify(k, padding, hash, digest, sig.data, sig.len - 1) ==
          RSA_ESIG);
    CHECK(rsa_verify(k, padding, HASH_SHA1, digest, sig.data, sig.len) ==
          RSA_EINVAL);
    digest[hash_size(hash) - 1] ^= 1;
    CHECK(rsa_verify(k, padding, hash, digest, sig.data, sig.len) == RSA_ESIG);
    digest[hash_size(hash) - 1] ^= 1;
    sig.data[sig.len / 2] ^= 0x10;
    CHECK(rsa_verify(k, padding, hash, digest, sig.data, sig.len) == RSA_ESIG);
    memset(sig.data, 0xff, sig.len); /* not below n */
    CHECK(rsa_verify(k, padding, hash, digest, sig.data, sig.len) == RSA_ESIG);
    memset(sig.data, 0, sig.len);
    CHECK(rsa_verify(k, padding, hash, digest, sig.data, sig.len) == RSA_ESIG);
    buf_release(&sig);
}

static void check_signs(const struct rsa_private *k, const struct rsa_key *from)
{
    uint8_t digest[HASH_SIZE_MAX], sig[RSA_SIZE_MAX], again[RSA_SIZE_MAX];
    uint8_t random[RSA_RANDOM_SIZE] = {9};
    size_t n = k->pub.size;

    sample_digest(from->hash, digest);
    CHECK(rsa_sign(k, RSA_PKCS1, from->hash, digest, fixed_random, sig) == 0);
    CHECK(is_hex(sig, n, from->pkcs1));
    CHECK(rsa_sign(k, RSA_PKCS1, from->hash, digest, random, sig) == 0);
    CHECK(is_hex(sig, n, from->pkcs1)); /* whatever the blinding */

    for (int hash = HASH_SHA256; hash <= HASH_SHA512; hash++) {
        CHECK(rsa_sign(k, RSA_PSS, hash, digest, fixed_random, sig) == 0);
        CHECK(rsa_verify(&k->pub, RSA_PSS, hash, digest, sig, n) == 0);
        CHECK(rsa_sign(k, RSA_PSS, hash, digest, random, again) == 0);
        CHECK(memcmp(sig, again, n) != 0);
    }
    CHECK(rsa_sign(k, RSA_PSS, HASH_SHA1, digest, random, sig) == RSA_EINVAL);
}

static void test_known(void)
{
    for (size_t i = 0; i < ARRAY_LEN(rsa_keys); i++) {
        const struct rsa_key *from = &rsa_keys[i];
        struct rsa_key_bytes bytes;
        struct rsa_private k;

        rsa_key_load(&bytes, from);
        CHECK(rsa_private_set(&k, &bytes.parts) == 0);
        CHECK(k.pub.size == ((size_t)from->bits + 7) / 8);
        check_verifies(&k.pub, RSA_PKCS1, from->hash, from->pkcs1);
        check_verifies(&k.pub, RSA_PSS, from->hash, from->pss);
        check_signs(&k, from);
        rsa_key_release(&bytes);
    }
}

/* Salts of other lengths are for rsa_verify_pss(), which knows which. */
static void test_salts(void)
{
    struct buf sig = unhex(rsa_keys[0].pss);
    struct rsa_key_bytes bytes;
    uint8_t digest[HASH_SIZE_MAX];
    struct rsa_public k;

    rsa_key_load(&bytes, &rsa_keys[0]);
    CHECK(rsa_public_set(&k, bytes.parts.n, bytes.parts.e) == 0);
    sample_digest(HASH_SHA256, digest);
    for (size_t n = 0; n < 300; n++)
        CHECK(rsa_verify_pss(&k, HASH_SHA256, n, digest, sig.data, sig.len) ==
              (n == 32 ? 0 : RSA_ESIG));
    CHECK(rsa_verify_pss(&k, HASH_SHA256, SIZE_MAX, digest, sig.data,
                         sig.len) == RSA_ESIG);
    buf_release(&sig);
    rsa_key_release(&bytes);
}

/* --- Keys that are none. ---------------------------------------------------- */

static void test_bad_public(void)
{
    static const struct {
        const char *hex;
        int rc;
    } exponents[] = {
        {"", RSA_EINVAL},
        {"00", RSA_EINVAL},
        {"01", RSA_EINVAL},
        {"02", RSA_EINVAL},
        {"03", 0},
        {"010000", RSA_EINVAL},
        {"0000010001", 0},
        {"7fffffff", 0},
        {"80000001", RSA_EINVAL},
        {"0100000001", RSA_EINVAL},
    };
    struct rsa_key_bytes bytes;
    struct rsa_public k;
    uint8_t n[RSA_SIZE_MAX + 2];

    rsa_key_load(&bytes, &rsa_keys[0]);
    for (size_t i = 0; i < ARRAY_LEN(exponents); i++) {
        struct buf e = unhex(exponents[i].hex);

        CHECK(rsa_public_set(&k, bytes.parts.n, buf_str(&e)) ==
              exponents[i].rc);
        buf_release(&e);
    }
    memset(n, 0xff, sizeof(n));
#define SET(from, len)                                                         \
    rsa_public_set(&k, (struct str){(const char *)n + (from), (len)},          \
                   bytes.parts.e)
    CHECK(SET(0, 512) == 0);
    CHECK(SET(0, 513) == RSA_EINVAL);
    n[0] = 0;
    CHECK(SET(0, 513) == 0);
    CHECK(SET(0, 256) == RSA_EINVAL); /* 2040 bits */
    CHECK(SET(0, 0) == RSA_EINVAL);
    n[1] = 0x7f;
    CHECK(SET(1, 256) == RSA_EINVAL); /* 2047 */
    n[1] = 1;
    CHECK(SET(1, 257) == 0);
    n[257] = 0xfe; /* even */
    CHECK(SET(1, 257) == RSA_EINVAL);
#undef SET
    rsa_key_release(&bytes);
}

/* Parts whose product is not n, or out of bounds, are refused at once. */
static void test_bad_private(void)
{
    struct rsa_key_bytes bytes;
    struct rsa_private k;

    rsa_key_load(&bytes, &rsa_keys[0]);
    bytes.b[2].data[40] ^= 2;
    CHECK(rsa_private_set(&k, &bytes.parts) == RSA_EINVAL);
    CHECK(k.p[40] == 0);
    bytes.b[2].data[40] ^= 2;
    bytes.parts.qinv = bytes.parts.n;
    CHECK(rsa_private_set(&k, &bytes.parts) == RSA_EINVAL);
    bytes.parts.qinv = bytes.parts.p;
    CHECK(rsa_private_set(&k, &bytes.parts) == RSA_EINVAL);
    rsa_key_release(&bytes);

    rsa_key_load(&bytes, &rsa_keys[0]);
    bytes.parts.p = bytes.parts.n; /* n = n * 1 */
    bytes.parts.q = STR("\1");
    CHECK(rsa_private_set(&k, &bytes.parts) == RSA_EINVAL);
    rsa_key_release(&bytes);
}

/* A wrong half must not leave as a signature: p would follow from it. */
static void test_faults(void)
{
    uint8_t digest[HASH_SIZE_MAX] = {1}, sig[RSA_SIZE_MAX];

    for (int part = 4; part < 7; part++) {
        struct rsa_key_bytes bytes;
        struct rsa_private k;

        rsa_key_load(&bytes, &rsa_keys[0]);
        bytes.b[part].data[30] ^= 8;
        CHECK(rsa_private_set(&k, &bytes.parts) == 0);
        memset(sig, 0, sizeof(sig));
        CHECK(rsa_sign(&k, RSA_PSS, HASH_SHA256, digest, fixed_random, sig) ==
              RSA_EFAULT);
        CHECK(sig[0] == 0 && memcmp(sig, sig + 1, sizeof(sig) - 1) == 0);
        rsa_key_release(&bytes);
    }
}

/* --- Wycheproof. ------------------------------------------------------------ */

static bool hash_of(const struct json *group, const char *name,
                    enum hash_type *hash)
{
    struct str s = json_text(json_get(group, name), "");

    *hash = str_eqz(s, "SHA-512")   ? HASH_SHA512
            : str_eqz(s, "SHA-384") ? HASH_SHA384
                                    : HASH_SHA256;
    return str_eqz(s, "SHA-512") || str_eqz(s, "SHA-384") ||
           str_eqz(s, "SHA-256");
}

static enum wycheproof_verdict run(const struct json *group,
                                   const struct json *test, bool pss)
{
    const struct json *key = json_get(group, "publicKey");
    struct buf n, e, msg, sig;
    enum hash_type hash, mgf;
    uint8_t digest[HASH_SIZE_MAX];
    struct rsa_public k;
    int rc;

    if (!hash_of(group, "sha", &hash))
        return WYCHEPROOF_SKIPPED;
    if (pss && (!hash_of(group, "mgfSha", &mgf) || mgf != hash))
        return WYCHEPROOF_SKIPPED;
    n = wycheproof_bytes(key, "modulus");
    e = wycheproof_bytes(key, "publicExponent");
    msg = wycheproof_bytes(test, "msg");
    sig = wycheproof_bytes(test, "sig");
    CHECK(rsa_public_set(&k, buf_str(&n), buf_str(&e)) == 0);
    hash_once(hash, msg.data, msg.len, digest);
    if (pss)
        rc = rsa_verify_pss(&k, hash, wycheproof_number(group, "sLen"), digest,
                            sig.data, sig.len);
    else
        rc = rsa_verify(&k, RSA_PKCS1, hash, digest, sig.data, sig.len);
    buf_release(&n);
    buf_release(&e);
    buf_release(&msg);
    buf_release(&sig);
    return rc == 0 ? WYCHEPROOF_ACCEPTED : WYCHEPROOF_REFUSED;
}

static enum wycheproof_verdict run_pss(const struct json *group,
                                       const struct json *test)
{
    return run(group, test, true);
}

static enum wycheproof_verdict run_pkcs1(const struct json *group,
                                         const struct json *test)
{
    return run(group, test, false);
}

static bool refuse(const struct json *test) /* a DigestInfo without its NULL */
{
    (void)test;
    return false;
}

int main(void)
{
    test_known();
    test_salts();
    test_bad_public();
    test_bad_private();
    test_faults();
    wycheproof_run("rsa_pss_2048_sha256_mgf1_32.json", run_pss, NULL);
    wycheproof_run("rsa_pss_misc.json", run_pss, NULL);
    wycheproof_run("rsa_signature_2048_sha256.json", run_pkcs1, refuse);
    wycheproof_run("rsa_signature_3072_sha256.json", run_pkcs1, refuse);
    wycheproof_run("rsa_signature_4096_sha512.json", run_pkcs1, refuse);
    return check_done("rsa_test");
}
