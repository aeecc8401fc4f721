/*
 * x509key.c - private keys, and the certificate that belongs to one. See
 * x509.h.
 *
 *   PKCS#1 (RFC 8017, A.1.2)  { 0, n, e, d, p, q, dp, dq, qinv }
 *   SEC 1 (RFC 5915)          { 1, OCTETS scalar, [0] curve, [1] point }
 *   PKCS#8 (RFC 5958)         { 0 or 1, { algorithm }, OCTETS key, [0], [1] }
 *
 * Like Go we tell them by what is inside, not by the label around it. The
 * parse_ functions return NULL, or what is wrong.
 */
#include "x509_impl.h"

#define MALFORMED "malformed private key"
#define ENCRYPTED                                                              \
    "the private key is encrypted: write it without a password, for example "  \
    "with \"openssl pkey -in old.pem -out new.pem\""

static const char *parse_rsa(struct str in, struct pk_private *k)
{
    struct rsa_parts r;
    struct str d;
    unsigned version;

    if (!der_small(&in, &version) || !der_uint(&in, &r.n) ||
        !der_uint(&in, &r.e) || !der_uint(&in, &d) || !der_uint(&in, &r.p) ||
        !der_uint(&in, &r.q) || !der_uint(&in, &r.dp) ||
        !der_uint(&in, &r.dq) || !der_uint(&in, &r.qinv))
        return MALFORMED;
    if (version != 0 || pk_private_rsa(k, &r) < 0)
        return X509_UNSUPPORTED_RSA;
    return in.n ? MALFORMED : NULL;
}

/* The curve stands inside, or outside in PKCS#8, or in both places. */
static const char *parse_ec(struct str in, struct str curve,
                            struct pk_private *k)
{
    struct str scalar, params, oid, point;
    unsigned version;
    bool there;

    if (!der_small(&in, &version) || version != 1 ||
        !der_get(&in, DER_OCTETS, &scalar) ||
        !der_opt(&in, DER_CONTEXT_SEQ | 0, &params, &there))
        return MALFORMED;
    if (there) {
        if (!der_get(&params, DER_OID, &oid) || params.n ||
            (curve.n && !str_eq(oid, curve)))
            return MALFORMED;
        curve = oid;
    }
    if (!der_opt(&in, DER_CONTEXT_SEQ | 1, &point, &there) || in.n)
        return MALFORMED;
    if (x509_curve(curve) == PK_NONE)
        return X509_UNSUPPORTED_CURVE;
    return pk_private_ec(k, x509_curve(curve), scalar) < 0 ? MALFORMED : NULL;
}

/* OCTETS in OCTETS (RFC 8410, 7). */
static const char *parse_ed25519(struct str in, struct pk_private *k)
{
    struct str seed;

    if (!der_get(&in, DER_OCTETS, &seed) || in.n ||
        pk_private_ed25519(k, seed) < 0)
        return MALFORMED;
    return NULL;
}

static const char *parse_pkcs8(struct str in, struct pk_private *k)
{
    struct str alg, oid, key, inner, curve = {0};
    unsigned version;

    if (!der_small(&in, &version) || version > 1 ||
        !der_get(&in, DER_SEQ, &alg) || !der_get(&alg, DER_OID, &oid) ||
        !der_get(&in, DER_OCTETS, &key))
        return MALFORMED;
    if (str_eq(oid, STR(OID_ED25519)))
        return parse_ed25519(key, k);
    if (!str_eq(oid, STR(OID_RSA)) && !str_eq(oid, STR(OID_EC)))
        return X509_UNSUPPORTED_KEY;
    if (!der_get(&key, DER_SEQ, &inner) || key.n)
        return MALFORMED;
    if (str_eq(oid, STR(OID_RSA)))
        return parse_rsa(inner, k);
    if (!der_get(&alg, DER_OID, &curve))
        return MALFORMED;
    return parse_ec(inner, curve, k);
}

/* By what follows the version. */
static const char *parse_key(struct str in, struct pk_private *k)
{
    struct str body, rest, first, second;
    unsigned tag;

    if (!der_get(&in, DER_SEQ, &body) || in.n)
        return MALFORMED;
    rest = body;
    if (!der_get(&rest, DER_INT, &first) || !der_any(&rest, &tag, &second))
        return MALFORMED;
    switch (tag) {
    case DER_INT:
        return parse_rsa(body, k);
    case DER_OCTETS:
        return parse_ec(body, (struct str){0}, k);
    default:
        return parse_pkcs8(body, k);
    }
}

static const char *load_block(const struct pem_block *block,
                              struct pk_private *k)
{
    if (block->encrypted || str_eqz(block->type, "ENCRYPTED PRIVATE KEY"))
        return ENCRYPTED;
    return parse_key(buf_str(&block->der), k);
}

static bool is_key(struct str type)
{
    struct str end = STR("PRIVATE KEY");

    return type.n >= end.n &&
           str_eq((struct str){type.p + type.n - end.n, end.n}, end);
}

int x509_key_load(struct str pem, struct pk_private *out, struct err *e)
{
    struct pem_block block = {0};
    struct pk_private k = {.pub.type = PK_NONE};
    const char *why = "no private key in PEM";
    int rc;

    if (pem.n > X509_FILE_MAX)
        return err_set(e, X509_EINVAL, "x509: a file of more than %zu bytes",
                       X509_FILE_MAX);
    while ((rc = pem_next(&pem, &block, e)) > 0)
        if (is_key(block.type)) {
            why = load_block(&block, &k);
            break;
        }
    pem_release(&block);
    if (rc < 0)
        return X509_EINVAL;
    if (!why)
        *out = k;
    pk_wipe(&k);
    return why ? err_set(e, X509_EKEY, "tls: %s", why) : 0;
}

int x509_load_pair(struct str cert_pem, struct str key_pem,
                   struct x509_pair *out, struct err *e)
{
    struct x509_pair p = {{0}, .key.pub.type = PK_NONE};
    int rc = x509_certs_add_pem(&p.chain, cert_pem, e);

    if (rc == 0)
        rc = x509_key_load(key_pem, &p.key, e);
    if (rc == 0 && p.chain.certs[0]->key_trouble)
        rc = err_set(e, X509_EKEY, "tls: the certificate has an %s",
                     p.chain.certs[0]->key_trouble);
    if (rc == 0 && !pk_public_eq(&p.chain.certs[0]->key, &p.key.pub))
        rc =
            err_set(e, X509_EKEY, "tls: private key does not match public key");
    if (rc == 0)
        *out = p;
    else
        x509_certs_release(&p.chain);
    pk_wipe(&p.key);
    return rc;
}

void x509_pair_release(struct x509_pair *p)
{
    x509_certs_release(&p->chain);
    pk_wipe(&p->key);
}
