/*
 * ct_test.c - that time does not depend on secrets. Under valgrind's memcheck
 * each secret is marked as undefined; a branch or an address that depends on
 * it is then an error (Langley's "ctgrind", 2010). What may show is declared so
 * where it leaves: outputs here, and in the code what goes through bn_public(),
 * bn_publish() and ct_eq(), which ct.wrap leads here; and, for whole handshakes,
 * what aead_open() has found genuine: both sides know it.
 *
 *   valgrind --error-exitcode=1 ct_test
 *   valgrind --error-exitcode=1 ct_test leak   must fail: it branches on a key
 *
 * Without valgrind it only calls everything once.
 */
#include "aead.h"
#include "bignum.h"
#include "curve25519.h"
#include "hash.h"
#include "jwt.h"
#include "pk.h"
#include "sys.h"
#include "tls_impl.h"

#include "check.h"
#include "hex.h"
#include "rsakeys.h"
#include "tlscerts.h"

#if defined(__has_include)
#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#endif
#endif
#ifndef VALGRIND_MAKE_MEM_UNDEFINED
#define VALGRIND_MAKE_MEM_UNDEFINED(p, n) ((void)(p), (void)(n))
#define VALGRIND_MAKE_MEM_DEFINED(p, n) ((void)(p), (void)(n))
#endif

static void secret(const void *p, size_t n)
{
    (void)VALGRIND_MAKE_MEM_UNDEFINED(p, n);
}

static void public(const void *p, size_t n)
{
    (void)VALGRIND_MAKE_MEM_DEFINED(p, n);
}

/* --- The doors. --------------------------------------------------------------- */

bool __real_bn_public(bn_limb mask);
bool __wrap_bn_public(bn_limb mask);
void __real_bn_publish(uint8_t *p, size_t len, const bn_limb *x, size_t n);
void __wrap_bn_publish(uint8_t *p, size_t len, const bn_limb *x, size_t n);
bool __real_ct_eq(const void *a, const void *b, size_t n);
bool __real_aead_open(const struct aead *a, const uint8_t *nonce,
                      struct str aad, const uint8_t *in, size_t n,
                      const uint8_t *tag, uint8_t *out);
bool __wrap_aead_open(const struct aead *a, const uint8_t *nonce,
                      struct str aad, const uint8_t *in, size_t n,
                      const uint8_t *tag, uint8_t *out);
bool __wrap_ct_eq(const void *a, const void *b, size_t n);

bool __wrap_bn_public(bn_limb mask)
{
    public(&mask, sizeof(mask));
    return __real_bn_public(mask);
}

void __wrap_bn_publish(uint8_t *p, size_t len, const bn_limb *x, size_t n)
{
    __real_bn_publish(p, len, x, n);
    public(p, len);
}

bool __wrap_ct_eq(const void *a, const void *b, size_t n)
{
    bool same = __real_ct_eq(a, b, n);

    public(&same, sizeof(same));
    return same;
}

bool __wrap_aead_open(const struct aead *a, const uint8_t *nonce,
                      struct str aad, const uint8_t *in, size_t n,
                      const uint8_t *tag, uint8_t *out)
{
    bool good = __real_aead_open(a, nonce, aad, in, n, tag, out);

    public(out, n);
    return good;
}

/* --- Hashes and encryption. ---------------------------------------------------- */

static void test_hash(void)
{
    uint8_t key[200] = {1}, out[HASH_SIZE_MAX];

    for (int hash = HASH_SHA1; hash <= HASH_SHA512; hash++) {
        secret(key, sizeof(key));
        hmac_once(hash, key, sizeof(key), key, sizeof(key), out);
        hkdf_extract(hash, NULL, 0, key, sizeof(key), out);
        CHECK(hkdf_expand(hash, out, hash_size(hash), "info", 4, key,
                          sizeof(key)));
    }
    sha256_portable(key, sizeof(key), out);
}

static void check_aead(const struct aead *a)
{
    uint8_t text[100] = {2}, sealed[100], opened[100], tag[AEAD_TAG_SIZE];
    uint8_t nonce[AEAD_NONCE_SIZE] = {3};
    struct str part = {(const char *)text, sizeof(text)};

    secret(text, sizeof(text));
    aead_seal(a, nonce, STR("aad"), &part, 1, sealed, tag);
    public(sealed, sizeof(sealed));
    public(tag, sizeof(tag));
    CHECK(aead_open(a, nonce, STR("aad"), sealed, sizeof(sealed), tag, opened));
    tag[0] ^= 1;
    CHECK(
        !aead_open(a, nonce, STR("aad"), sealed, sizeof(sealed), tag, opened));
    public(opened, sizeof(opened));
    public(text, sizeof(text));
    CHECK(memcmp(opened, text, sizeof(text)) == 0);
}

static void test_aead(void)
{
    for (int type = AEAD_AES_128_GCM; type <= AEAD_CHACHA20_POLY1305; type++) {
        uint8_t key[AEAD_KEY_MAX] = {4};
        struct aead a;

        secret(key, sizeof(key));
        aead_init(&a, type, key);
        check_aead(&a);
        aead_release(&a);
        aead_init_portable(&a, type, key);
        check_aead(&a);
        aead_release(&a);
    }
}

/* --- Key agreement. ------------------------------------------------------------ */

static void test_x25519(void)
{
    uint8_t key[X25519_SIZE] = {5}, pub[X25519_SIZE], out[X25519_SIZE];
    bool ok;

    secret(key, sizeof(key));
    x25519_public(key, pub);
    public(pub, sizeof(pub));
    ok = x25519(key, pub, out);
    public(&ok, sizeof(ok));
    CHECK(ok);
}

static void test_ecdh(void)
{
    for (int c = EC_P256; c <= EC_P521; c++) {
        uint8_t seed[EC_SEED_SIZE] = {6}, key[EC_SIZE_MAX], out[EC_SIZE_MAX];
        uint8_t point[EC_POINT_MAX];

        secret(seed, sizeof(seed));
        ec_generate(c, seed, key);
        CHECK(ec_public(c, key, point) == 0);
        CHECK(ec_ecdh(c, key, point, ec_point_size(c), out) == 0);
    }
}

/* --- Signatures. ---------------------------------------------------------------- */

/* From what is left of a secret key: the public half stays known. */
static void check_sign(const struct pk_private *k, unsigned scheme)
{
    uint8_t random[PK_RANDOM_SIZE] = {7}, sig[PK_SIG_MAX];
    size_t n;
    int rc;

    secret(random, sizeof(random));
    rc = pk_sign(k, scheme, STR("message"), random, sig, &n);
    CHECK(rc == 0);
    public(sig, n);
    CHECK(pk_verify(&k->pub, scheme, STR("message"), sig, n) == 0);
}

static void test_ecdsa(void)
{
    char scalar[EC_SIZE_MAX] = {8};
    struct pk_private k;

    secret(scalar, sizeof(scalar));
    public(scalar, 1); /* zeros in front of a key in a file may show */
    CHECK(pk_private_ec(&k, PK_P256, (struct str){scalar, 32}) == 0);
    check_sign(&k, PK_ECDSA_SHA256);
    CHECK(pk_private_ec(&k, PK_P384, (struct str){scalar, 48}) == 0);
    check_sign(&k, PK_ECDSA_SHA384);
    scalar[0] = 0; /* below the order */
    scalar[1] = 8;
    CHECK(pk_private_ec(&k, PK_P521, (struct str){scalar, 66}) == 0);
    check_sign(&k, PK_ECDSA_SHA512);
}

static void test_ed25519(void)
{
    char seed[ED25519_SEED_SIZE] = {9};
    struct pk_private k;

    secret(seed, sizeof(seed));
    CHECK(pk_private_ed25519(&k, (struct str){seed, sizeof(seed)}) == 0);
    public(k.pub.u.ed25519, sizeof(k.pub.u.ed25519));
    public(k.u.ed25519.public, sizeof(k.u.ed25519.public));
    check_sign(&k, PK_ED25519_PURE);
}

/* Zeros in front may show, and that there are none. */
static void part_secret(struct str part)
{
    secret(part.p + 1, part.n - 1);
}

static void test_rsa(void)
{
    struct rsa_key_bytes bytes;
    struct pk_private k;

    rsa_key_load(&bytes, &rsa_keys[0]);
    part_secret(bytes.parts.p);
    part_secret(bytes.parts.q);
    part_secret(bytes.parts.dp);
    part_secret(bytes.parts.dq);
    part_secret(bytes.parts.qinv);
    CHECK(pk_private_rsa(&k, &bytes.parts) == 0);
    check_sign(&k, PK_RSA_PSS_SHA256);
    check_sign(&k, PK_RSA_PKCS1_SHA512);
    rsa_key_release(&bytes);
}

/* --- Tokens, and whole handshakes. ---------------------------------------------- */

static void test_token(void)
{
    static const uint8_t random[JWT_RANDOM_SIZE];
    struct jwt_claims claims = {STR("root"), 1, 100}, got;
    char key[32] = {10};
    struct jwt_key k = jwt_hmac(JWT_HS256, (struct str){key, sizeof(key)});
    struct buf token = {0}, user = {0};

    CHECK(jwt_sign(&k, &claims, random, &token) == 0);
    secret(key, sizeof(key));
    CHECK(jwt_verify(&k, buf_str(&token), 0, &user, &got) == 0);
    token.data[token.len - 3] ^= 1;
    CHECK(jwt_verify(&k, buf_str(&token), 0, &user, &got) == JWT_EINVAL);
    buf_release(&token);
    buf_release(&user);
}

static void secret_random(void *p, size_t n)
{
    sys_random(p, n);
    secret(p, n);
}

/* What is on the wire everybody sees. */
static bool pass(struct tls *from, struct tls *to, struct buf *wire)
{
    bool any = false;
    struct str data;
    ssize_t n;

    while (tls_wants_write(from)) {
        struct str s = tls_output(from);

        buf_addstr(wire, s);
        tls_sent(from, s.n);
        any = true;
    }
    public(wire->data, wire->len);
    if (from->hs) /* it was sent, too */
    public(from->hs->session_id, sizeof(from->hs->session_id));
    while ((n = tls_receive(to, wire->data, wire->len, &data)) > 0)
        buf_consume(wire, (size_t)n);
    CHECK(n == 0);
    return any;
}

static struct tls *end_of(enum tls_role role, uint16_t version)
{
    struct tls_options o = {.random = secret_random,
                            .version_min = version,
                            .version_max = version,
                            .client_auth = TLS_AUTH_REQUIRE};
    struct x509_pair pair;
    struct tls_config *config;
    struct tls *t;

    CHECK(x509_load_pair(STR(p256_cert), STR(p256_key), &pair, NULL) == 0);
    CHECK(x509_certs_add_pem(&o.roots, STR(ca_cert), NULL) == 0);
    secret(pair.key.u.scalar, ec_size(EC_P256));
    o.pairs = &pair;
    o.n_pairs = 1;
    config = tls_config_new(&o, NULL);
    t = tls_new(config, role, role == TLS_CLIENT ? "example.com" : NULL,
                1800000000);
    tls_config_unref(config);
    return t;
}

static void test_handshake(void)
{
    for (uint16_t version = TLS_1_2; version <= TLS_1_3; version++) {
        struct tls *client = end_of(TLS_CLIENT, version);
        struct tls *server = end_of(TLS_SERVER, version);
        struct buf to_server = {0}, to_client = {0};
        bool there, back;

        do {
            there = pass(client, server, &to_server);
            back = pass(server, client, &to_client);
        } while (there || back);
        CHECK(tls_state(client) == TLS_OPEN && tls_state(server) == TLS_OPEN);
        tls_free(client);
        tls_free(server);
        buf_release(&to_server);
        buf_release(&to_client);
    }
}

/* --- What must be seen. --------------------------------------------------------- */

static int leak(void)
{
    volatile uint8_t key = 1;

    secret((const void *)&key, sizeof(key));
    return key ? check_done("ct_test") : 1;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "leak") == 0)
        return leak();
    test_hash();
    test_aead();
    test_x25519();
    test_ecdh();
    test_ecdsa();
    test_ed25519();
    test_rsa();
    test_token();
    test_handshake();
    return check_done("ct_test");
}
