/*
 * jwt_fuzz.c - signed tokens and the option that asks for them. Each input is
 * tried as a token, as the claims and the header of one that is rightly
 * signed, as a user's name, and as an option.
 */
#include "fuzz.h"

#include "crypto.h"
#include "jwt.h"

static const uint8_t no_random[JWT_RANDOM_SIZE];

/* Whatever was signed is right: so that what lies behind is reached. */
static bool believe(const struct jwt_key *k, struct str input,
                    struct str signature)
{
    (void)k;
    (void)input;
    (void)signature;
    return true;
}

static void verify(const struct jwt_key *k, struct str token)
{
    struct buf user = {0};
    struct jwt_claims c;

    if (jwt_verify(k, token, 1000, &user, &c) == 0) {
        FUZZ_CHECK(c.username.n > 0 && c.expiry_s > 1000);
        FUZZ_CHECK(str_eq(c.username, buf_str(&user)));
    }
    buf_release(&user);
}

/* The input as claims, behind a header that is right. */
static void check_claims(const struct jwt_key *k, struct str s)
{
    struct buf b = {0};

    buf_adds(&b, "eyJhbGciOiJIUzI1NiJ9.");
    base64_encode(&b, s.p, s.n);
    while (b.data[b.len - 1] == '=')
        b.len--;
    buf_addc(&b, '.');
    verify(k, buf_str(&b));
    buf_release(&b);
}

static void check_name(const struct jwt_key *k, struct str s)
{
    struct jwt_claims c = {s, s.n, 2000}, got;
    struct buf token = {0}, user = {0};

    FUZZ_CHECK(jwt_sign(k, &c, no_random, &token) == 0);
    if (jwt_verify(k, buf_str(&token), 1999, &user, &got) == 0)
        FUZZ_CHECK(got.revision == s.n && got.expiry_s == 2000);
    else
        FUZZ_CHECK(s.n == 0 || token.len > JWT_TOKEN_MAX);
    buf_release(&token);
    buf_release(&user);
}

static void check_option(struct str s)
{
    struct jwt_options o;
    struct err e = {.code = 0};

    if (jwt_parse_options(s, &o, &e) < 0)
        FUZZ_CHECK(e.code == JWT_EINVAL && e.msg[0]);
    else
        FUZZ_CHECK(!o.jwt || (o.ttl_ns > 0 && o.pub_key.n + o.priv_key.n > 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str s = {(const char *)data, size};
    struct jwt_key k = jwt_hmac(JWT_HS256, STR("secret")), blind = k;

    blind.verify = believe;
    verify(&k, s);
    verify(&blind, s);
    check_claims(&blind, s);
    check_name(&k, s);
    check_option(s);
    return 0;
}
