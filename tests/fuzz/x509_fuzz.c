/*
 * x509_fuzz.c - certificates. The input's first byte says what follows: one, or
 * a row of them, each behind two bytes of length, to find a chain in. Nearly
 * any signature is believed: see cheap.c.
 */
#include "fuzz.h"
#include "x509.h"

#define NOW 1800000000

static void check_within(const struct x509_cert *c, struct str s)
{
    FUZZ_CHECK(s.n == 0 || (s.p >= c->der.p && s.n <= c->der.n &&
                            s.p + s.n <= c->der.p + c->der.n));
}

static void check_cert(const struct x509_cert *c)
{
    const struct str parts[] = {c->tbs,  c->serial, c->issuer,      c->subject,
                                c->cn,   c->org,    c->spki,        c->sig,
                                c->skid, c->akid,   c->constraints, c->san};
    struct err e;

    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        check_within(c, parts[i]);
    FUZZ_CHECK(c->version >= 1 && c->version <= 3 && c->path_len >= -1);
    FUZZ_CHECK((c->key.type == PK_NONE) == (c->key_trouble != NULL));
    FUZZ_CHECK((c->scheme == 0) == (c->sig_trouble != NULL));
    for (struct x509_san s = x509_sans(c); x509_san_next(&s);) {
        check_within(c, s.name);
        FUZZ_CHECK(s.type != X509_SAN_IP || s.name.n == 4 || s.name.n == 16);
    }
    x509_check_host(c, STR("a.example.com"), &e);
    x509_check_host(c, STR("127.0.0.1"), &e);
}

static void fuzz_cert(struct str in)
{
    struct x509_cert *c = NULL;
    struct err e = {.msg = ""};

    if (x509_parse(in, &c, &e) < 0) {
        FUZZ_CHECK(!c && e.msg[0]);
        return;
    }
    FUZZ_CHECK(str_eq(c->der, in));
    check_cert(c);
    x509_free(c);
}

/* Every second certificate is trusted. */
static void fuzz_chain(struct fuzz_in *in)
{
    struct x509_certs l[2] = {{0}, {0}};
    struct x509_verify v = {.chain = &l[0],
                            .roots = &l[1],
                            .now = NOW,
                            .usage = X509_SERVER,
                            .host = STR("a.example.com")};
    struct err e = {.msg = ""};

    for (int i = 0; fuzz_more(in) && i < 2 * X509_CHAIN_MAX; i++) {
        size_t n = fuzz_u8(in);

        n = n << 8 | fuzz_u8(in);
        x509_certs_add(&l[i % 2], fuzz_bytes(in, n), &e);
    }
    FUZZ_CHECK(x509_verify(&v, &e) == 0 || e.msg[0]);
    v.host = (struct str){0};
    v.usage = X509_ANY;
    x509_verify(&v, &e);
    x509_certs_release(&l[0]);
    x509_certs_release(&l[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};

    if (fuzz_u8(&in) % 2)
        fuzz_chain(&in);
    else
        fuzz_cert((struct str){(const char *)in.p, in.n});
    return 0;
}
