/*
 * jwt_test.c - the option and the tokens, one of which etcd 3.4.23 made.
 */
#include "check.h"

#include "crypto.h"
#include "hash.h"
#include "jwt.h"
#include "pk.h"

#include "jwt_vectors.h"

#define SECRET STR("secretkey-for-tests")
#define EXPIRY 1795880181

static const uint8_t no_random[JWT_RANDOM_SIZE];

#define CLAIMS                                                                 \
    "eyJleHAiOjE3OTU4ODAxODEsInJldmlzaW9uIjoxMCwidXNlcm5hbWUiOiJyb290In0"
#define HEADER_256 "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"

static const struct {
    enum jwt_alg alg;
    const char *token;
} known[] = {
    {JWT_HS256, /* etcd's own */
     HEADER_256 "." CLAIMS ".E58LS1_ZAiR-2UksJNU4GX9QmDUy5FyJ7v84VENL6N0"},
    {JWT_HS384, "eyJhbGciOiJIUzM4NCIsInR5cCI6IkpXVCJ9." CLAIMS
                ".B0l919rpkIW_Fg0YZxsNzts-5SMJ6V9hTe6Pz7_"
                "vrwCyOSkwrrFhbV9NtI75cQd1"},
    {JWT_HS512,
     "eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9." CLAIMS
     ".HIJ-cjBC6q_aALVke5KdAZ-kBIXBOzQ5RAQIwnTyQj5x1d7e3Bvff9FXNK2Aq3sPMLK"
     "khYbKxNyrfk2xVqPdRQ"},
};

static int verify(const struct jwt_key *k, const char *token, int64_t now)
{
    struct buf user = {0};
    struct jwt_claims c;
    int rc = jwt_verify(k, str_of(token), now, &user, &c);

    buf_release(&user);
    return rc;
}

static void test_known(void)
{
    struct jwt_claims root = {STR("root"), 10, EXPIRY};

    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        struct jwt_key k = jwt_hmac(known[i].alg, SECRET);
        struct jwt_key other = jwt_hmac(known[i].alg, STR("another"));
        struct buf b = {0}, user = {0};
        struct jwt_claims c;

        CHECK(jwt_sign(&k, &root, no_random, &b) == 0);
        CHECK_STR(buf_z(&b), known[i].token);
        buf_adds(&user, "<");
        CHECK(jwt_verify(&k, buf_str(&b), EXPIRY - 1, &user, &c) == 0);
        CHECK(str_eqz(c.username, "root") && c.revision == 10);
        CHECK(c.expiry_s == EXPIRY && str_eqz(buf_str(&user), "<root"));
        CHECK(verify(&k, known[i].token, EXPIRY) == JWT_EINVAL);
        CHECK(verify(&other, known[i].token, 0) == JWT_EINVAL);
        for (size_t j = 0; j < ARRAY_LEN(known); j++)
            CHECK((verify(&k, known[j].token, 0) == 0) == (i == j));
        buf_release(&b);
        buf_release(&user);
    }
}

/* No prefix of a token and no token with another byte is one. */
static void test_changed(void)
{
    struct jwt_key k = jwt_hmac(JWT_HS256, SECRET);
    char *token = xstrdup(known[0].token);
    size_t n = strlen(token);

    for (size_t i = 0; i < n; i++) {
        char was = token[i];

        for (const char *c = "aZ09-_+/=. \n"; *c; c++) {
            token[i] = *c;
            CHECK((verify(&k, token, 0) == 0) == (*c == was));
        }
        token[i] = '\0';
        CHECK(verify(&k, token, 0) == JWT_EINVAL);
        token[i] = was;
    }
    free(token);
}

static void add_part(struct buf *b, struct str s)
{
    size_t start = b->len;

    base64_encode(b, s.p, s.n);
    while (b->len > start && b->data[b->len - 1] == '=')
        b->len--;
    for (size_t i = start; i < b->len; i++)
        b->data[i] = b->data[i] == '+'   ? '-'
                     : b->data[i] == '/' ? '_'
                                         : b->data[i];
}

/* Signed rightly, with whatever header and claims. */
static int verify_parts(const char *header, const char *claims)
{
    struct jwt_key k = jwt_hmac(JWT_HS256, SECRET);
    struct buf b = {0};
    uint8_t sum[SHA256_SIZE];
    int rc;

    add_part(&b, str_of(header));
    buf_addc(&b, '.');
    add_part(&b, str_of(claims));
    hmac_once(HASH_SHA256, k.secret.p, k.secret.n, b.data, b.len, sum);
    buf_addc(&b, '.');
    add_part(&b, (struct str){(char *)sum, sizeof(sum)});
    rc = verify(&k, buf_z(&b), 1000);
    buf_release(&b);
    return rc;
}

static void test_parts(void)
{
    static const struct {
        const char *header, *claims;
        bool good;
    } cases[] = {
        {"{\"alg\":\"HS256\"}", "{\"username\":\"u\",\"revision\":1}", true},
        {"{\"typ\":\"x\",\"alg\":\"HS256\"}",
         "{\"username\":\"u\",\"revision\":1,\"exp\":1001,\"more\":[{}]}",
         true},
        {"{\"alg\":\"HS256\"}",
         "{\"username\":\"u\",\"revision\":1,\"nbf\":1000}", true},
        {"{\"alg\":\"HS256\"}",
         "{\"username\":\"u\",\"revision\":1,\"exp\":1001.5,\"nbf\":1e3}", true},
        {"{\"alg\":\"HS256\"}",
         "{\"username\":\"u\",\"revision\":1,\"iat\":1000}", true},
        /* the algorithm */
        {"{\"alg\":\"none\"}", "{\"username\":\"u\",\"revision\":1}", false},
        {"{\"alg\":\"hs256\"}", "{\"username\":\"u\",\"revision\":1}", false},
        {"{\"alg\":\"HS384\"}", "{\"username\":\"u\",\"revision\":1}", false},
        {"{\"ALG\":\"HS256\"}", "{\"username\":\"u\",\"revision\":1}", false},
        {"{\"alg\":[\"HS256\"]}", "{\"username\":\"u\",\"revision\":1}", false},
        {"{}", "{\"username\":\"u\",\"revision\":1}", false},
        {"[\"HS256\"]", "{\"username\":\"u\",\"revision\":1}", false},
        {"{\"alg\":\"HS256\",\"crit\":[\"x\"]}",
         "{\"username\":\"u\",\"revision\":1}", false},
        /* the claims */
        {"{\"alg\":\"HS256\"}", "{\"revision\":1}", false},
        {"{\"alg\":\"HS256\"}", "{\"username\":\"u\"}", false},
        {"{\"alg\":\"HS256\"}", "{\"username\":\"\",\"revision\":1}", false},
        {"{\"alg\":\"HS256\"}", "{\"username\":7,\"revision\":1}", false},
        {"{\"alg\":\"HS256\"}", "{\"username\":\"u\",\"revision\":\"1\"}",
         false},
        {"{\"alg\":\"HS256\"}", "{\"username\":\"u\",\"revision\":-1}", false},
        {"{\"alg\":\"HS256\"}", "{\"username\":\"u\",\"revision\":1.5}", false},
        {"{\"alg\":\"HS256\"}",
         "{\"username\":\"u\",\"revision\":1,\"exp\":1000}", false},
        {"{\"alg\":\"HS256\"}",
         "{\"username\":\"u\",\"revision\":1,\"exp\":\"9999\"}", false},
        {"{\"alg\":\"HS256\"}",
         "{\"username\":\"u\",\"revision\":1,\"exp\":null}", false},
        {"{\"alg\":\"HS256\"}",
         "{\"username\":\"u\",\"revision\":1,\"nbf\":1001}", false},
        {"{\"alg\":\"HS256\"}",
         "{\"username\":\"u\",\"revision\":1,\"iat\":1001}", false},
        {"{\"alg\":\"HS256\"}",
         "{\"username\":\"u\",\"revision\":1,\"exp\":1000.5}", false},
        {"{\"alg\":\"HS256\"}",
         "{\"username\":\"u\",\"revision\":1,\"exp\":1e400}", false},
        {"{\"alg\":\"HS256\"}", "\"u\"", false},
        {"{\"alg\":\"HS256\"}", "", false},
        {"", "", false},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int rc = verify_parts(cases[i].header, cases[i].claims);

        CHECK((rc == 0) == cases[i].good);
        if ((rc == 0) != cases[i].good)
            fprintf(stderr, "case %zu\n", i);
    }
}

/* Names that JSON has to escape, and very long ones. */
static void test_names(void)
{
    struct jwt_key k = jwt_hmac(JWT_HS512, SECRET);
    struct buf name = {0};

    buf_adds(&name, "a\"\\<\n\xc3\xa4");
    for (size_t n = name.len; n < 20000; n = n * 3) {
        struct jwt_claims c = {buf_str(&name), 1, 100}, got;
        struct buf token = {0}, user = {0};
        int rc;

        CHECK(jwt_sign(&k, &c, no_random, &token) == 0);
        rc = jwt_verify(&k, buf_str(&token), 0, &user, &got);
        CHECK((rc == 0) == (token.len <= JWT_TOKEN_MAX));
        CHECK(rc < 0 || str_eq(buf_str(&user), buf_str(&name)));
        buf_release(&token);
        buf_release(&user);
        while (name.len < n * 3)
            buf_addc(&name, 'x');
    }
    buf_release(&name);
}

/* A key that cannot sign, or cannot verify. */
static void test_half_keys(void)
{
    struct jwt_key k = jwt_hmac(JWT_HS256, SECRET);
    struct jwt_claims c = {STR("u"), 1, 100};
    struct buf b = {0};

    k.sign = NULL;
    CHECK(jwt_sign(&k, &c, no_random, &b) == JWT_EINVAL && b.len == 0);
    CHECK(verify(&k, known[0].token, 0) == 0);
    k.verify = NULL;
    CHECK(verify(&k, known[0].token, 0) == JWT_EINVAL);
}

/* --- Public keys. ---------------------------------------------------------------- */

#define BYTES(lit) ((struct str){(lit), sizeof(lit) - 1})

static void make_key(struct pk_private *k, enum jwt_alg alg)
{
    struct rsa_parts rsa = {BYTES(rsa_n),   BYTES(rsa_e),  BYTES(rsa_p),
                            BYTES(rsa_q),   BYTES(rsa_dp), BYTES(rsa_dq),
                            BYTES(rsa_qinv)};

    if (alg == JWT_ES256)
        CHECK(pk_private_ec(k, PK_P256, BYTES(ec256_scalar)) == 0);
    else if (alg == JWT_ES384)
        CHECK(pk_private_ec(k, PK_P384, BYTES(ec384_scalar)) == 0);
    else if (alg == JWT_ES512)
        CHECK(pk_private_ec(k, PK_P521, BYTES(ec521_scalar)) == 0);
    else if (alg == JWT_EDDSA)
        CHECK(pk_private_ed25519(k, BYTES(ed25519_seed)) == 0);
    else
        CHECK(pk_private_rsa(k, &rsa) == 0);
}

/* OpenSSL's tokens are good, ours are, and nothing but the whole is. */
static void check_pk(enum jwt_alg alg, const char *token, int n_signed)
{
    struct jwt_claims root = {STR("root"), 10, EXPIRY};
    struct pk_private priv;
    struct jwt_key k, only_public;

    make_key(&priv, alg);
    CHECK(jwt_pk(&k, alg, NULL, &priv) == 0);
    CHECK(jwt_pk(&only_public, alg, &priv.pub, NULL) == 0);
    CHECK(verify(&k, token, 0) == 0 && verify(&only_public, token, 0) == 0);
    CHECK(verify(&k, token, EXPIRY) == JWT_EINVAL);
    for (int i = 0; i < n_signed; i++) { /* r and s of every length */
        uint8_t random[JWT_RANDOM_SIZE] = {(uint8_t)i, (uint8_t)(i >> 8)};
        struct buf b = {0};

        CHECK(jwt_sign(&k, &root, random, &b) == 0);
        CHECK(strlen(buf_z(&b)) == strlen(token));
        CHECK(verify(&only_public, buf_z(&b), 0) == 0);
        b.data[b.len - 5] ^= 1;
        CHECK(verify(&only_public, buf_z(&b), 0) == JWT_EINVAL);
        buf_clear(&b);
        CHECK(jwt_sign(&only_public, &root, random, &b) == JWT_EINVAL);
        buf_release(&b);
    }
    pk_wipe(&priv);
}

static void test_pk(void)
{
    check_pk(JWT_RS256, token_rs256, 1);
    check_pk(JWT_PS384, token_ps384, 1);
    check_pk(JWT_PS256, token_ps256_long, 1);
    check_pk(JWT_ES256, token_es256, 300);
    check_pk(JWT_ES384, token_es384, 20);
    check_pk(JWT_ES512, token_es512, 20);
    check_pk(JWT_EDDSA, token_eddsa, 1);
}

/* A signature shorter, longer, or of the other kind with the same key. */
static void test_pk_forms(void)
{
    struct pk_private priv, other;
    struct jwt_key k;
    struct str input = STR("input");

    make_key(&priv, JWT_ES256);
    make_key(&other, JWT_ES384);
    CHECK(jwt_pk(&k, JWT_ES256, &priv.pub, &priv) == 0);
    for (size_t n = 0; n < 130; n++) {
        uint8_t sig[130] = {0};

        CHECK(!k.verify(&k, input, (struct str){(char *)sig, n}));
        memset(sig, 0xff, sizeof(sig));
        CHECK(!k.verify(&k, input, (struct str){(char *)sig, n}));
    }
    CHECK(jwt_pk(&k, JWT_ES384, NULL, &priv) == JWT_EINVAL);
    CHECK(jwt_pk(&k, JWT_RS256, NULL, &priv) == JWT_EINVAL);
    CHECK(jwt_pk(&k, JWT_HS256, NULL, &priv) == JWT_EINVAL);
    CHECK(jwt_pk(&k, JWT_ES512, NULL, &priv) == JWT_EINVAL);
    CHECK(jwt_pk(&k, JWT_ES256, NULL, NULL) == JWT_EINVAL);
    CHECK(jwt_pk(&k, JWT_ES256, &other.pub, &priv) == JWT_EINVAL);
    make_key(&priv, JWT_RS256);
    CHECK(jwt_pk(&k, JWT_PS256, NULL, &priv) == 0);
    CHECK(verify(&k, token_rs256, 0) == JWT_EINVAL);
    CHECK(!k.verify(&k, input, STR("")));
    CHECK(jwt_pk(&k, JWT_RS256, NULL, &priv) == 0);
    CHECK(verify(&k, token_ps256_long, 0) == JWT_EINVAL);
    /* a public key's bytes as a MAC's secret: the oldest trick */
    k = jwt_hmac(JWT_HS256, BYTES(rsa_n));
    CHECK(verify(&k, token_rs256, 0) == JWT_EINVAL);
}

static void test_options(void)
{
    static const struct {
        const char *s;
        int rc;
        bool jwt;
        enum jwt_alg alg;
        const char *pub, *priv;
        int64_t ttl_s;
    } cases[] = {
        {"simple", 0, false, 0, "", "", 0},
        {"simple,x=y", 0, false, 0, "", "", 0},
        {"jwt,pub-key=p,priv-key=q,sign-method=RS256,ttl=10m", 0, true,
         JWT_RS256, "p", "q", 600},
        {"jwt,sign-method=HS512,priv-key=/a/b", 0, true, JWT_HS512, "", "/a/b",
         300},
        {"jwt,sign-method=ES384,pub-key=p,other=1", 0, true, JWT_ES384, "p", "",
         300},
        {"jwt,sign-method=EdDSA,pub-key=p", 0, true, JWT_EDDSA, "p", "", 300},
        {"", JWT_EINVAL, false, 0, "", "", 0},
        {"Simple", JWT_EINVAL, false, 0, "", "", 0},
        {"simple,", JWT_EINVAL, false, 0, "", "", 0},
        {"simple,x", JWT_EINVAL, false, 0, "", "", 0},
        {"jwt", JWT_EINVAL, false, 0, "", "", 0},
        {"jwt,priv-key=q", JWT_EINVAL, false, 0, "", "", 0},
        {"jwt,priv-key=q,sign-method=none", JWT_EINVAL, false, 0, "", "", 0},
        {"jwt,priv-key=q,sign-method=HS257", JWT_EINVAL, false, 0, "", "", 0},
        {"jwt,pub-key=q,sign-method=HS256", JWT_EINVAL, false, 0, "", "", 0},
        {"jwt,sign-method=RS256", JWT_EINVAL, false, 0, "", "", 0},
        {"jwt,priv-key=q=r,sign-method=HS256", JWT_EINVAL, false, 0, "", "", 0},
        {"jwt,priv-key=q,priv-key=q,sign-method=HS256", JWT_EINVAL, false, 0,
         "", "", 0},
        {"jwt,priv-key=q,sign-method=HS256,ttl=5", JWT_EINVAL, false, 0, "", "",
         0},
        {"jwt,priv-key=q,sign-method=HS256,ttl=-5m", JWT_EINVAL, false, 0, "",
         "", 0},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct jwt_options o = {0};
        struct err e = {.code = 0};

        CHECK(jwt_parse_options(str_of(cases[i].s), &o, &e) == cases[i].rc);
        CHECK(cases[i].rc == 0 ||
              strncmp(e.msg, "auth: invalid auth options", 26) == 0);
        CHECK(o.jwt == cases[i].jwt);
        if (!o.jwt)
            continue;
        CHECK(o.alg == cases[i].alg);
        CHECK(str_eqz(o.pub_key, cases[i].pub));
        CHECK(str_eqz(o.priv_key, cases[i].priv));
        CHECK(o.ttl_ns == cases[i].ttl_s * 1000000000);
    }
}

int main(void)
{
    test_known();
    test_changed();
    test_parts();
    test_names();
    test_half_keys();
    test_pk();
    test_pk_forms();
    test_options();
    return check_done("jwt_test");
}
