/*
 * x509make.c - self-signed certificates, as etcd makes them for itself. See
 * x509.h. What stands in them is what etcd's would say, but for the key: P-256
 * instead of P-521, which makes a handshake six times as dear.
 */
#include "x509_impl.h"

#include <assert.h>

#define SERIAL_SIZE 16
#define PEM_MAX 1024 /* of a key; so that no copy of it is left behind */

/* How the seed is shared out. */
enum {
    SEED_KEY = 0,
    SEED_SIGN = SEED_KEY + EC_SEED_SIZE,
    SEED_SERIAL = SEED_SIGN + PK_RANDOM_SIZE,
    SEED_END = SEED_SERIAL + SERIAL_SIZE,
};

static struct str bytes(const void *p, size_t n)
{
    return (struct str){p, n};
}

static void put_alg(struct buf *b)
{
    size_t at = der_begin(b, DER_SEQ);

    der_put(b, DER_OID, STR(OID_ECDSA_SHA256));
    der_end(b, at);
}

/* { { organization etcd } } */
static void put_name(struct buf *b)
{
    size_t name = der_begin(b, DER_SEQ), set = der_begin(b, DER_SET);
    size_t pair = der_begin(b, DER_SEQ);

    der_put(b, DER_OID, STR(OID_ORG));
    der_put(b, DER_PRINTABLE, STR("etcd"));
    der_end(b, pair);
    der_end(b, set);
    der_end(b, name);
}

static void put_validity(struct buf *b, const struct x509_self_signed *s)
{
    size_t at = der_begin(b, DER_SEQ);

    der_put_time(b, s->not_before);
    der_put_time(b, s->not_after);
    der_end(b, at);
}

static void put_spki(struct buf *b, const struct pk_public *k)
{
    size_t spki = der_begin(b, DER_SEQ), alg = der_begin(b, DER_SEQ);

    der_put(b, DER_OID, STR(OID_EC));
    der_put(b, DER_OID, STR(OID_P256));
    der_end(b, alg);
    der_put_bits(b, bytes(k->u.point, ec_point_size(EC_P256)), 0);
    der_end(b, spki);
}

/* An extension around its value: begin, then the value, then end. */
struct extension {
    size_t seq, octets;
};

static struct extension begin_extension(struct buf *b, struct str oid,
                                        bool critical)
{
    struct extension x = {.seq = der_begin(b, DER_SEQ)};

    der_put(b, DER_OID, oid);
    if (critical)
        der_put(b, DER_BOOL, STR("\xff"));
    x.octets = der_begin(b, DER_OCTETS);
    return x;
}

static void end_extension(struct buf *b, struct extension x)
{
    der_end(b, x.octets);
    der_end(b, x.seq);
}

static void put_usages(struct buf *b)
{
    struct extension x = begin_extension(b, STR(OID_KEY_USAGE), true);
    size_t at;

    /* Bits 0 and 2, digitalSignature and keyEncipherment. */
    der_put_bits(b, STR("\xa0"), 5);
    end_extension(b, x);
    x = begin_extension(b, STR(OID_EXT_USAGE), false);
    at = der_begin(b, DER_SEQ);
    der_put(b, DER_OID, STR(OID_USE_SERVER));
    der_put(b, DER_OID, STR(OID_USE_CLIENT));
    der_end(b, at);
    end_extension(b, x);
}

/* No authority. */
static void put_basic(struct buf *b)
{
    struct extension x = begin_extension(b, STR(OID_BASIC), true);

    der_put(b, DER_SEQ, STR(""));
    end_extension(b, x);
}

static void put_san(struct buf *b, const struct x509_self_signed *s)
{
    struct extension x = begin_extension(b, STR(OID_SAN), false);
    size_t at = der_begin(b, DER_SEQ);

    for (size_t i = 0; i < s->n_hosts; i++) {
        uint8_t ip[16];
        size_t n = x509_ip_parse(s->hosts[i], ip);

        if (n)
            der_put(b, DER_CONTEXT | X509_SAN_IP, bytes(ip, n));
        else
            der_put(b, DER_CONTEXT | X509_SAN_DNS, s->hosts[i]);
    }
    der_end(b, at);
    end_extension(b, x);
}

static void put_extensions(struct buf *b, const struct x509_self_signed *s)
{
    size_t outer = der_begin(b, DER_CONTEXT_SEQ | 3);
    size_t list = der_begin(b, DER_SEQ);

    put_usages(b);
    put_basic(b);
    if (s->n_hosts)
        put_san(b, s);
    der_end(b, list);
    der_end(b, outer);
}

static void put_tbs(struct buf *b, const struct x509_self_signed *s,
                    const struct pk_public *k)
{
    size_t tbs = der_begin(b, DER_SEQ);
    size_t version = der_begin(b, DER_CONTEXT_SEQ | 0);

    der_put_uint(b, STR("\x02")); /* version 3 */
    der_end(b, version);
    der_put_uint(b, bytes(s->seed + SEED_SERIAL, SERIAL_SIZE));
    put_alg(b);
    put_name(b);
    put_validity(b, s);
    put_name(b);
    put_spki(b, k);
    put_extensions(b, s);
    der_end(b, tbs);
}

static void put_cert(struct buf *b, const struct x509_self_signed *s,
                     const struct pk_private *k)
{
    size_t cert = der_begin(b, DER_SEQ);
    uint8_t sig[PK_SIG_MAX];
    size_t n_sig = 0;
    int rc;

    put_tbs(b, s, &k->pub);
    rc = pk_sign(k, PK_ECDSA_SHA256, bytes(b->data + cert, b->len - cert),
                 s->seed + SEED_SIGN, sig, &n_sig);
    assert(rc == 0);
    (void)rc;
    put_alg(b);
    der_put_bits(b, bytes(sig, n_sig), 0);
    der_end(b, cert);
}

/* SEC 1, as etcd writes it. */
static void put_key(struct buf *b, const struct pk_private *k)
{
    size_t key = der_begin(b, DER_SEQ), at;

    der_put_uint(b, STR("\x01"));
    der_put(b, DER_OCTETS, bytes(k->u.scalar, ec_size(EC_P256)));
    at = der_begin(b, DER_CONTEXT_SEQ | 0);
    der_put(b, DER_OID, STR(OID_P256));
    der_end(b, at);
    at = der_begin(b, DER_CONTEXT_SEQ | 1);
    der_put_bits(b, bytes(k->pub.u.point, ec_point_size(EC_P256)), 0);
    der_end(b, at);
    der_end(b, key);
}

static void make_key(const uint8_t seed[EC_SEED_SIZE], struct pk_private *k)
{
    uint8_t scalar[EC_SIZE_MAX];
    int rc;

    ec_generate(EC_P256, seed, scalar);
    rc = pk_private_ec(k, PK_P256, bytes(scalar, ec_size(EC_P256)));
    assert(rc == 0); /* it is below the order, and not zero */
    (void)rc;
    wipe(scalar, sizeof(scalar));
}

void x509_make_self_signed(const struct x509_self_signed *s,
                           struct buf *cert_pem, struct buf *key_pem)
{
    struct buf cert = {0}, key = {0};
    struct pk_private k;

    static_assert((int)SEED_END <= X509_SEED_SIZE, "all have enough");
    make_key(s->seed + SEED_KEY, &k);
    put_cert(&cert, s, &k);
    pem_put(cert_pem, "CERTIFICATE", buf_str(&cert));
    buf_reserve(&key, PEM_MAX);
    put_key(&key, &k);
    buf_reserve(key_pem, PEM_MAX);
    pem_put(key_pem, "EC PRIVATE KEY", buf_str(&key));
    wipe(key.data, key.cap);
    buf_release(&key);
    buf_release(&cert);
    pk_wipe(&k);
}
