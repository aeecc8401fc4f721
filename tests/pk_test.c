/*
 * pk_test.c - every type of key with every scheme: what fits is signed and
 * verified, what does not is refused; keys from raw numbers.
 */
#include "pk.h"

#include "check.h"
#include "hex.h"
#include "rsakeys.h"

static const unsigned schemes[] = {0x0401, 0x0501, 0x0601, 0x0403, 0x0503,
                                   0x0603, 0x0804, 0x0805, 0x0806, 0x0807};
/* By type: schemes that fit it, and in TLS 1.3, as bits. */
static const unsigned fits[] = {0, 0x1c7, 0x038, 0x038, 0x038, 0x200};
static const unsigned fits_tls13[] = {0, 0x1c0, 0x008, 0x010, 0x020, 0x200};
static const uint8_t fixed_random[PK_RANDOM_SIZE] = {5};

static struct pk_private keys[PK_ED25519 + 1];

static void make_keys(void)
{
    char scalar[66] = {1, 2, 3}, seed[32] = {4, 5, 6};
    struct rsa_key_bytes bytes;

    rsa_key_load(&bytes, &rsa_keys[0]);
    CHECK(pk_private_rsa(&keys[PK_RSA], &bytes.parts) == 0);
    CHECK(pk_private_ec(&keys[PK_P256], PK_P256, (struct str){scalar, 32}) ==
          0);
    CHECK(pk_private_ec(&keys[PK_P384], PK_P384, (struct str){scalar, 48}) ==
          0);
    CHECK(pk_private_ec(&keys[PK_P521], PK_P521, (struct str){scalar, 66}) ==
          0);
    CHECK(pk_private_ed25519(&keys[PK_ED25519], (struct str){seed, 32}) == 0);
    rsa_key_release(&bytes);
}

/* --- Schemes. ---------------------------------------------------------------- */

static void test_fits(void)
{
    enum hash_type hash;

    for (int type = PK_NONE; type <= PK_ED25519; type++)
        for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
            CHECK(pk_fits(type, schemes[i]) == (fits[type] >> i & 1));
            CHECK(pk_fits_tls13(type, schemes[i]) ==
                  (fits_tls13[type] >> i & 1));
        }
    CHECK(!pk_fits(PK_RSA, 0x0201) && !pk_fits(PK_P256, 0x0203));
    CHECK(!pk_fits(PK_RSA, 0x0809) && !pk_fits(PK_ED25519, 0x0808));
    CHECK(!pk_fits(PK_RSA, 0) && !pk_fits(PK_RSA, 0x10401));
    CHECK(pk_scheme_hash(0x0805, &hash) && hash == HASH_SHA384);
    CHECK(pk_scheme_hash(0x0603, &hash) && hash == HASH_SHA512);
    CHECK(pk_scheme_hash(0x0401, &hash) && hash == HASH_SHA256);
    CHECK(!pk_scheme_hash(0x0807, &hash) && !pk_scheme_hash(0x0201, &hash));
}

/* --- Signatures. -------------------------------------------------------------- */

static void check_signature(const struct pk_private *k, unsigned scheme)
{
    struct str msg = STR("a message"), other = STR("another");
    uint8_t sig[PK_SIG_MAX];
    size_t n = 0;

    CHECK(pk_sign(k, scheme, msg, fixed_random, sig, &n) == 0);
    CHECK(n > 0 && n <= PK_SIG_MAX);
    CHECK(pk_verify(&k->pub, scheme, msg, sig, n) == 0);
    CHECK(pk_verify(&k->pub, scheme, other, sig, n) == PK_ESIG);
    CHECK(pk_verify(&k->pub, scheme, msg, sig, n - 1) == PK_ESIG);
    CHECK(pk_verify(&k->pub, scheme, msg, sig, 0) == PK_ESIG);
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++)
        if (schemes[i] != scheme)
            CHECK(pk_verify(&k->pub, schemes[i], msg, sig, n) ==
                  (pk_fits(k->pub.type, schemes[i]) ? PK_ESIG : PK_EINVAL));
    sig[n - 1] ^= 1;
    CHECK(pk_verify(&k->pub, scheme, msg, sig, n) == PK_ESIG);
}

static void check_digest(const struct pk_private *k, unsigned scheme)
{
    struct str msg = STR("a message");
    uint8_t digest[HASH_SIZE_MAX] = {0}, sig[PK_SIG_MAX] = {0};
    enum hash_type hash;
    size_t n = 0;

    if (!pk_scheme_hash(scheme, &hash)) {
        CHECK(pk_sign_digest(k, scheme, digest, fixed_random, sig, &n) ==
              PK_EINVAL);
        CHECK(pk_verify_digest(&k->pub, scheme, digest, sig, n) == PK_EINVAL);
        return;
    }
    hash_once(hash, msg.p, msg.n, digest);
    CHECK(pk_sign_digest(k, scheme, digest, fixed_random, sig, &n) == 0);
    CHECK(pk_verify(&k->pub, scheme, msg, sig, n) == 0);
    CHECK(pk_sign(k, scheme, msg, fixed_random, sig, &n) == 0);
    CHECK(pk_verify_digest(&k->pub, scheme, digest, sig, n) == 0);
    digest[0] ^= 1;
    CHECK(pk_verify_digest(&k->pub, scheme, digest, sig, n) == PK_ESIG);
}

static void test_signatures(void)
{
    uint8_t sig[PK_SIG_MAX];
    size_t n;

    for (int type = PK_NONE; type <= PK_ED25519; type++)
        for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
            if (fits[type] >> i & 1) {
                check_signature(&keys[type], schemes[i]);
                check_digest(&keys[type], schemes[i]);
            } else {
                CHECK(pk_sign(&keys[type], schemes[i], STR("x"), fixed_random,
                              sig, &n) == PK_EINVAL);
                CHECK(pk_verify(&keys[type].pub, schemes[i], STR("x"), sig,
                                1) == PK_EINVAL);
            }
        }
}

/* --- Keys. -------------------------------------------------------------------- */

static void test_eq(void)
{
    for (int a = PK_NONE; a <= PK_ED25519; a++)
        for (int b = PK_NONE; b <= PK_ED25519; b++)
            CHECK(pk_public_eq(&keys[a].pub, &keys[b].pub) ==
                  (a == b && a != PK_NONE));
    for (int type = PK_RSA; type <= PK_ED25519; type++) {
        struct pk_public other = keys[type].pub;
        uint8_t *last = type == PK_RSA    ? &other.u.rsa.n[255]
                        : type == PK_P256 ? &other.u.point[64]
                        : type == PK_P384 ? &other.u.point[96]
                        : type == PK_P521 ? &other.u.point[132]
                                          : &other.u.ed25519[31];

        CHECK(pk_public_eq(&other, &keys[type].pub));
        *last ^= 1;
        CHECK(!pk_public_eq(&other, &keys[type].pub));
    }
}

static void test_public(void)
{
    struct pk_public k;
    struct rsa_key_bytes bytes;
    char point[EC_POINT_MAX];

    rsa_key_load(&bytes, &rsa_keys[0]);
    CHECK(pk_public_rsa(&k, bytes.parts.n, bytes.parts.e) == 0);
    CHECK(pk_public_eq(&k, &keys[PK_RSA].pub));
    CHECK(pk_public_rsa(&k, bytes.parts.p, bytes.parts.e) == PK_EKEY);
    CHECK(k.type == PK_NONE);
    rsa_key_release(&bytes);

    memcpy(point, keys[PK_P256].pub.u.point, 65);
    CHECK(pk_public_ec(&k, PK_P256, (struct str){point, 65}) == 0);
    CHECK(pk_public_eq(&k, &keys[PK_P256].pub));
    CHECK(pk_public_ec(&k, PK_P384, (struct str){point, 65}) == PK_EKEY);
    point[64] ^= 1;
    CHECK(pk_public_ec(&k, PK_P256, (struct str){point, 65}) == PK_EKEY);
    CHECK(k.type == PK_NONE);

    memcpy(point, keys[PK_ED25519].pub.u.ed25519, 32);
    CHECK(pk_public_ed25519(&k, (struct str){point, 32}) == 0);
    CHECK(pk_public_eq(&k, &keys[PK_ED25519].pub));
    CHECK(pk_public_ed25519(&k, (struct str){point, 31}) == PK_EKEY);
}

static void test_private(void)
{
    char scalar[34] = {0};
    struct pk_private k, same;
    struct rsa_key_bytes bytes;

    scalar[33] = 7;
    CHECK(pk_private_ec(&k, PK_P256, (struct str){scalar, 34}) == 0);
    CHECK(pk_private_ec(&same, PK_P256, (struct str){scalar + 33, 1}) == 0);
    CHECK(pk_public_eq(&k.pub, &same.pub));
    CHECK(pk_private_ec(&k, PK_P256, (struct str){scalar, 33}) == PK_EKEY);
    CHECK(k.pub.type == PK_NONE);
    CHECK(pk_private_ec(&k, PK_P256, STR("")) == PK_EKEY);
    scalar[0] = 1;
    CHECK(pk_private_ec(&k, PK_P256, (struct str){scalar, 34}) == PK_EKEY);
    CHECK(pk_private_ed25519(&k, (struct str){scalar, 33}) == PK_EKEY);

    rsa_key_load(&bytes, &rsa_keys[0]);
    bytes.b[4].data[30] ^= 8; /* dp: found out when it signs */
    CHECK(pk_private_rsa(&k, &bytes.parts) == 0);
    CHECK(pk_sign(&k, PK_RSA_PSS_SHA256, STR("x"), fixed_random,
                  (uint8_t[PK_SIG_MAX]){0}, &(size_t){0}) == PK_EKEY);
    bytes.b[2].data[30] ^= 8; /* p: found out at once */
    CHECK(pk_private_rsa(&k, &bytes.parts) == PK_EKEY);
    CHECK(k.pub.type == PK_NONE);
    rsa_key_release(&bytes);

    pk_wipe(&same);
    memset(&k, 0, sizeof(k));
    CHECK(memcmp(&same, &k, sizeof(k)) == 0);
}

int main(void)
{
    make_keys();
    test_fits();
    test_signatures();
    test_eq();
    test_public();
    test_private();
    return check_done("pk_test");
}
