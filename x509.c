/*
 * x509.c - reading certificates and lists of them (RFC 5280, 4; RFC 5480, RFC
 * 8017, RFC 8410). See x509.h.
 *
 *   Certificate     { TBSCertificate, AlgorithmIdentifier, signature }
 *   TBSCertificate  { [0] version, serial, AlgorithmIdentifier, issuer,
 *                     { not before, not after }, subject,
 *                     { AlgorithmIdentifier, key }, [1] id, [2] id,
 *                     [3] { extensions } }
 *
 * The parse_ functions return NULL, or what is wrong.
 */
#include "x509_impl.h"

#include <assert.h>

/* --- Names of algorithms. ------------------------------------------------ */

#define INSECURE "x509: cannot verify signature: insecure algorithm "

static const struct {
    struct str oid;
    unsigned scheme;
    const char *trouble;
} sig_algs[] = {
    {STR_INIT("\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b"), PK_RSA_PKCS1_SHA256,
     NULL},
    {STR_INIT("\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c"), PK_RSA_PKCS1_SHA384,
     NULL},
    {STR_INIT("\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d"), PK_RSA_PKCS1_SHA512,
     NULL},
    {STR_INIT("\x2a\x86\x48\xce\x3d\x04\x03\x02"), PK_ECDSA_SHA256, NULL},
    {STR_INIT("\x2a\x86\x48\xce\x3d\x04\x03\x03"), PK_ECDSA_SHA384, NULL},
    {STR_INIT("\x2a\x86\x48\xce\x3d\x04\x03\x04"), PK_ECDSA_SHA512, NULL},
    {STR_INIT("\x2b\x65\x70"), PK_ED25519_PURE, NULL},
    {STR_INIT("\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04"), 0, INSECURE "MD5-RSA"},
    {STR_INIT("\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05"), 0, INSECURE "SHA1-RSA"},
    {STR_INIT("\x2a\x86\x48\xce\x3d\x04\x01"), 0, INSECURE "ECDSA-SHA1"},
};

/* With PSS: hash, mask hash and salt are parameters, but only these are used. */
#define OID_PSS "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a"
#define OID_MGF1 "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08"

static const struct {
    struct str oid;
    unsigned salt, scheme;
} pss_hashes[] = {
    {STR_INIT("\x60\x86\x48\x01\x65\x03\x04\x02\x01"), 32, PK_RSA_PSS_SHA256},
    {STR_INIT("\x60\x86\x48\x01\x65\x03\x04\x02\x02"), 48, PK_RSA_PSS_SHA384},
    {STR_INIT("\x60\x86\x48\x01\x65\x03\x04\x02\x03"), 64, PK_RSA_PSS_SHA512},
};

/* --- Small parts. -------------------------------------------------------- */

enum pk_type x509_curve(struct str oid)
{
    if (str_eq(oid, STR(OID_P256)))
        return PK_P256;
    if (str_eq(oid, STR(OID_P384)))
        return PK_P384;
    if (str_eq(oid, STR(OID_P521)))
        return PK_P521;
    return PK_NONE;
}

void x509_add_shown(struct buf *b, struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        buf_addc(b, (uint8_t)s.p[i] < 0x20 || s.p[i] == 0x7f ? '?' : s.p[i]);
}

/* AlgorithmIdentifier: what stands behind the identifier is left in params. */
static bool read_alg(struct str *in, struct str *oid, struct str *params)
{
    return der_get(in, DER_SEQ, params) && der_get(params, DER_OID, oid);
}

static bool is_null_or_absent(struct str params)
{
    return params.n == 0 || str_eq(params, STR("\x05\x00"));
}

/* [tag] { { hash } } */
static bool read_pss_hash(struct str *in, unsigned tag, struct str *oid)
{
    struct str outer, params;

    return der_get(in, tag, &outer) && read_alg(&outer, oid, &params) &&
           outer.n == 0 && is_null_or_absent(params);
}

/* [0] { hash }, [1] { MGF1, { hash } }, [2] salt, [3] trailer 1 by default. */
static unsigned read_pss(struct str in)
{
    struct str hash, mask, mgf, salt, mask_hash, none;
    unsigned n_salt;

    if (!der_get(&in, DER_SEQ, &in) ||
        !read_pss_hash(&in, DER_CONTEXT_SEQ | 0, &hash) ||
        !der_get(&in, DER_CONTEXT_SEQ | 1, &mask) ||
        !read_alg(&mask, &mgf, &mask_hash) || mask.n ||
        !str_eq(mgf, STR(OID_MGF1)) || !read_alg(&mask_hash, &mask, &none) ||
        mask_hash.n || !is_null_or_absent(none) || !str_eq(mask, hash) ||
        !der_get(&in, DER_CONTEXT_SEQ | 2, &salt) ||
        !der_small(&salt, &n_salt) || salt.n || in.n)
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(pss_hashes); i++)
        if (str_eq(pss_hashes[i].oid, hash) && pss_hashes[i].salt == n_salt)
            return pss_hashes[i].scheme;
    return 0;
}

static const char *parse_sig_alg(struct x509_cert *c, struct str whole)
{
    struct str oid, params;

    if (!read_alg(&whole, &oid, &params))
        return "malformed algorithm identifier";
    c->sig_trouble = "x509: cannot verify signature: algorithm unimplemented";
    if (str_eq(oid, STR(OID_PSS)))
        c->scheme = read_pss(params);
    for (size_t i = 0; i < ARRAY_LEN(sig_algs); i++)
        if (str_eq(sig_algs[i].oid, oid) && is_null_or_absent(params)) {
            c->scheme = sig_algs[i].scheme;
            if (sig_algs[i].trouble)
                c->sig_trouble = sig_algs[i].trouble;
        }
    if (c->scheme)
        c->sig_trouble = NULL;
    return NULL;
}

/* Text whose bytes are UTF-8, or near enough to be compared and shown. */
static bool is_text(unsigned tag)
{
    return tag == DER_UTF8 || tag == DER_PRINTABLE || tag == DER_IA5 ||
           tag == DER_T61 || tag == DER_NUMERIC;
}

/*
 * Name: a row of sets of { type, value }. A value that is no text, or holds a
 * NUL, which could be taken for an end, is passed over.
 */
static bool read_name(struct str in, struct str *cn, struct str *org)
{
    struct str set, pair, oid, value;
    unsigned tag;

    if (!der_get(&in, DER_SEQ, &in))
        return false;
    while (in.n) {
        if (!der_get(&in, DER_SET, &set))
            return false;
        while (set.n) {
            if (!der_get(&set, DER_SEQ, &pair) ||
                !der_get(&pair, DER_OID, &oid) ||
                !der_any(&pair, &tag, &value) || pair.n)
                return false;
            if (!is_text(tag) || (value.n && memchr(value.p, 0, value.n)))
                continue;
            if (str_eq(oid, STR(OID_CN)))
                *cn = value;
            if (str_eq(oid, STR(OID_ORG)) && org->n == 0)
                *org = value;
        }
    }
    return true;
}

/* --- The public key. ----------------------------------------------------- */

static const char *parse_rsa(struct x509_cert *c, struct str params,
                             struct str key)
{
    struct str in, n, e;

    if (!str_eq(params, STR("\x05\x00")))
        return "RSA key missing NULL parameters";
    if (!der_get(&key, DER_SEQ, &in) || key.n || !der_uint(&in, &n) ||
        !der_uint(&in, &e) || in.n)
        return "malformed RSA key";
    if (pk_public_rsa(&c->key, n, e) < 0)
        c->key_trouble = X509_UNSUPPORTED_RSA;
    return NULL;
}

static const char *parse_ec(struct x509_cert *c, struct str params,
                            struct str key)
{
    struct str oid;
    enum pk_type type;

    if (!der_get(&params, DER_OID, &oid) || params.n)
        return "invalid ECDSA parameters";
    type = x509_curve(oid);
    if (type == PK_NONE)
        c->key_trouble = X509_UNSUPPORTED_CURVE;
    else if (pk_public_ec(&c->key, type, key) < 0)
        return "failed to unmarshal elliptic curve point";
    return NULL;
}

static const char *parse_key(struct x509_cert *c)
{
    struct str in = c->spki, body, oid, params, key;

    if (!der_get(&in, DER_SEQ, &body) || !read_alg(&body, &oid, &params) ||
        !der_bits(&body, &key) || body.n)
        return "malformed public key";
    if (str_eq(oid, STR(OID_RSA)))
        return parse_rsa(c, params, key);
    if (str_eq(oid, STR(OID_EC)))
        return parse_ec(c, params, key);
    if (!str_eq(oid, STR(OID_ED25519)))
        c->key_trouble = X509_UNSUPPORTED_KEY;
    else if (params.n || pk_public_ed25519(&c->key, key) < 0)
        return "malformed Ed25519 key";
    return NULL;
}

/* A block of PEM; *found if it is one with a public key. */
static const char *load_public(const struct pem_block *block, bool *found,
                               struct x509_cert *c)
{
    struct str der = buf_str(&block->der);
    struct x509_cert *whole = NULL;

    *found = true;
    if (str_eqz(block->type, "RSA PUBLIC KEY"))
        return parse_rsa(c, STR("\x05\x00"), der);
    if (str_eqz(block->type, "PUBLIC KEY")) {
        c->spki = der;
        return parse_key(c);
    }
    *found = str_eqz(block->type, "CERTIFICATE");
    if (*found && x509_parse(der, &whole, NULL) < 0)
        return "malformed certificate";
    if (whole) {
        c->key = whole->key;
        c->key_trouble = whole->key_trouble;
    }
    x509_free(whole);
    return NULL;
}

int x509_public_load(struct str pem, struct pk_public *out, struct err *e)
{
    struct x509_cert c = {.key.type = PK_NONE};
    struct pem_block block = {0};
    const char *why = NULL;
    bool found = false;
    int rc = 1;

    if (pem.n > X509_FILE_MAX)
        return err_set(e, X509_EINVAL, "x509: a file of more than %zu bytes",
                       X509_FILE_MAX);
    while (!found && (rc = pem_next(&pem, &block, e)) > 0)
        why = load_public(&block, &found, &c);
    pem_release(&block);
    if (rc < 0)
        return X509_EINVAL;
    if (!found)
        why = "no public key in PEM";
    else if (!why)
        why = c.key_trouble;
    if (why)
        return err_set(e, X509_EKEY, "x509: %s", why);
    *out = c.key;
    return 0;
}

/* --- Extensions. ------------------------------------------------------------ */

static const char *parse_basic(struct x509_cert *c, struct str v)
{
    struct str in;
    unsigned n;

    if (!der_get(&v, DER_SEQ, &in) || v.n)
        return "invalid basic constraints";
    c->has_basic = true;
    if (in.n && (uint8_t)in.p[0] == DER_BOOL && !der_bool(&in, &c->is_ca))
        return "invalid basic constraints";
    if (in.n) {
        if (!der_small(&in, &n) || in.n)
            return "invalid basic constraints";
        c->path_len = (int)n;
    }
    return NULL;
}

static const char *parse_key_usage(struct x509_cert *c, struct str v)
{
    return der_flags(&v, &c->key_usage) && v.n == 0 ? NULL
                                                    : "invalid key usage";
}

static const char *parse_ext_usage(struct x509_cert *c, struct str v)
{
    struct str in, oid;

    if (!der_get(&v, DER_SEQ, &in) || v.n || in.n == 0)
        return "invalid extended key usages";
    while (in.n) {
        if (!der_get(&in, DER_OID, &oid))
            return "invalid extended key usages";
        if (str_eq(oid, STR(OID_USE_SERVER)))
            c->ext_usage |= X509_SERVER;
        else if (str_eq(oid, STR(OID_USE_CLIENT)))
            c->ext_usage |= X509_CLIENT;
        else if (str_eq(oid, STR(OID_EXT_USAGE "\x00")))
            c->ext_usage |= X509_ANY;
        else
            c->ext_usage |= X509_OTHER;
    }
    return NULL;
}

static bool is_ia5(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((uint8_t)s.p[i] >= 0x80)
            return false;
    return true;
}

static const char *parse_san(struct x509_cert *c, struct str v)
{
    struct str in, name;
    bool known = false;
    unsigned tag;

    if (!der_get(&v, DER_SEQ, &c->san) || v.n)
        return "invalid subject alternative names";
    for (in = c->san; in.n;) {
        if (!der_any(&in, &tag, &name))
            return "invalid subject alternative names";
        switch (tag) {
        case DER_CONTEXT | X509_SAN_EMAIL:
        case DER_CONTEXT | X509_SAN_DNS:
        case DER_CONTEXT | X509_SAN_URI:
            if (!is_ia5(name))
                return "SAN is malformed";
            known = true;
            break;
        case DER_CONTEXT | X509_SAN_IP:
            if (name.n != 4 && name.n != 16)
                return "cannot parse IP address in SAN";
            known = true;
            break;
        default:
            if ((tag & 0xc0) != DER_CONTEXT)
                return "invalid subject alternative names";
        }
    }
    return known ? NULL : ""; /* only what we do not know */
}

static const char *parse_constraints(struct x509_cert *c, struct str v)
{
    bool unknown;

    if (!der_get(&v, DER_SEQ, &c->constraints) || v.n ||
        !x509_constraints_valid(c->constraints, &unknown))
        return "invalid NameConstraints extension";
    return unknown ? "" : NULL;
}

static const char *parse_skid(struct x509_cert *c, struct str v)
{
    return der_get(&v, DER_OCTETS, &c->skid) && v.n == 0
               ? NULL
               : "invalid subject key identifier";
}

static const char *parse_akid(struct x509_cert *c, struct str v)
{
    struct str in;
    bool there;

    if (!der_get(&v, DER_SEQ, &in) || v.n ||
        !der_opt(&in, DER_CONTEXT | 0, &c->akid, &there))
        return "invalid authority key identifier";
    return NULL;
}

/* Places to fetch lists from, and policies: nothing that we would refuse. */
static const char *parse_nothing(struct x509_cert *c, struct str v)
{
    (void)c;
    (void)v;
    return NULL;
}

/* Each may return "": well-formed, but as if we did not know it. */
static const struct extension {
    struct str oid;
    const char *(*parse)(struct x509_cert *c, struct str value);
} extensions[] = {
    {STR_INIT("\x55\x1d\x0e"), parse_skid},
    {STR_INIT(OID_KEY_USAGE), parse_key_usage},
    {STR_INIT(OID_SAN), parse_san},
    {STR_INIT(OID_BASIC), parse_basic},
    {STR_INIT("\x55\x1d\x1e"), parse_constraints},
    {STR_INIT("\x55\x1d\x1f"), parse_nothing},
    {STR_INIT("\x55\x1d\x20"), parse_nothing},
    {STR_INIT("\x55\x1d\x23"), parse_akid},
    {STR_INIT(OID_EXT_USAGE), parse_ext_usage},
};

static const char *parse_extension(struct x509_cert *c, struct str in,
                                   struct str *oid)
{
    struct str value;
    bool critical = false;
    const char *why = ""; /* unknown */

    if (!der_get(&in, DER_OID, oid))
        return "malformed extension";
    if (in.n && (uint8_t)in.p[0] == DER_BOOL && !der_bool(&in, &critical))
        return "malformed extension";
    if (!der_get(&in, DER_OCTETS, &value) || in.n)
        return "malformed extension";
    for (size_t i = 0; i < ARRAY_LEN(extensions); i++)
        if (str_eq(extensions[i].oid, *oid))
            why = extensions[i].parse(c, value);
    if (!why || *why)
        return why;
    c->unknown_critical |= critical;
    return NULL;
}

static const char *parse_extensions(struct x509_cert *c, struct str in)
{
    struct str seen[X509_EXTENSIONS_MAX], ext;
    size_t n = 0;

    while (in.n) {
        const char *why;

        if (n == X509_EXTENSIONS_MAX)
            return "too many extensions";
        if (!der_get(&in, DER_SEQ, &ext))
            return "malformed extensions";
        why = parse_extension(c, ext, &seen[n]);
        if (why)
            return why;
        for (size_t i = 0; i < n; i++)
            if (str_eq(seen[i], seen[n]))
                return "certificate contains duplicate extensions";
        n++;
    }
    return NULL;
}

/* --- The whole. ---------------------------------------------------------- */

static bool read_version(struct str *in, int *version)
{
    struct str body;
    unsigned n;
    bool there;

    *version = 1;
    if (!der_opt(in, DER_CONTEXT_SEQ | 0, &body, &there))
        return false;
    if (!there)
        return true;
    if (!der_small(&body, &n) || body.n || n > 2)
        return false;
    *version = (int)n + 1;
    return true;
}

static bool read_validity(struct str *in, int64_t *from, int64_t *to)
{
    struct str body;

    return der_get(in, DER_SEQ, &body) && der_time(&body, from) &&
           der_time(&body, to) && body.n == 0;
}

/* What only newer versions have, at the end. */
static const char *parse_tail(struct x509_cert *c, struct str in)
{
    struct str body, list;
    bool there;

    if (c->version >= 2)
        for (unsigned i = 1; i <= 2; i++)
            if (!der_opt(&in, DER_CONTEXT | i, &body, &there))
                return "malformed unique id";
    if (c->version == 3) {
        if (!der_opt(&in, DER_CONTEXT_SEQ | 3, &body, &there))
            return "malformed extensions";
        if (there) {
            const char *why;

            if (!der_get(&body, DER_SEQ, &list) || body.n)
                return "malformed extensions";
            why = parse_extensions(c, list);
            if (why)
                return why;
        }
    }
    return in.n ? "malformed tbs certificate" : NULL;
}

static const char *parse_tbs(struct x509_cert *c, struct str outer_alg)
{
    struct str in = c->tbs, alg, none = {0}, ignored = {0};
    const char *why;

    if (!der_get(&in, DER_SEQ, &in))
        return "malformed tbs certificate";
    if (!read_version(&in, &c->version))
        return "invalid version";
    if (!der_uint(&in, &c->serial))
        return "malformed or negative serial number";
    if (!der_get_whole(&in, DER_SEQ, &alg))
        return "malformed signature algorithm identifier";
    if (!str_eq(alg, outer_alg))
        return "inner and outer signature algorithm identifiers don't match";
    if (!der_get_whole(&in, DER_SEQ, &c->issuer) ||
        !read_name(c->issuer, &none, &ignored))
        return "malformed issuer";
    if (!read_validity(&in, &c->not_before, &c->not_after))
        return "malformed validity";
    if (!der_get_whole(&in, DER_SEQ, &c->subject) ||
        !read_name(c->subject, &c->cn, &c->org))
        return "malformed subject";
    if (!der_get_whole(&in, DER_SEQ, &c->spki))
        return "malformed public key";
    why = parse_sig_alg(c, alg);
    if (!why)
        why = parse_key(c);
    return why ? why : parse_tail(c, in);
}

static const char *parse_cert(struct x509_cert *c)
{
    struct str in = c->der, body, alg;

    if (!der_get(&in, DER_SEQ, &body) || in.n)
        return "malformed certificate";
    if (!der_get_whole(&body, DER_SEQ, &c->tbs))
        return "malformed tbs certificate";
    if (!der_get_whole(&body, DER_SEQ, &alg))
        return "malformed algorithm identifier";
    if (!der_bits(&body, &c->sig) || body.n)
        return "malformed signature";
    return parse_tbs(c, alg);
}

/* Certificate and bytes are one allocation. */
int x509_parse(struct str der, struct x509_cert **out, struct err *e)
{
    struct x509_cert *c;
    const char *why;
    char *copy;

    if (der.n == 0 || der.n > X509_DER_MAX)
        return err_set(e, X509_EINVAL, "x509: malformed certificate");
    c = xcalloc(1, sizeof(*c) + der.n);
    copy = (char *)(c + 1);
    memcpy(copy, der.p, der.n);
    c->der = (struct str){copy, der.n};
    c->path_len = -1;
    why = parse_cert(c);
    if (why) {
        x509_free(c);
        return err_set(e, X509_EINVAL, "x509: %s", why);
    }
    assert((c->key.type == PK_NONE) == (c->key_trouble != NULL));
    assert((c->scheme == 0) == (c->sig_trouble != NULL));
    *out = c;
    return 0;
}

void x509_free(struct x509_cert *c)
{
    free(c);
}

/* --- Lists. -------------------------------------------------------------- */

static void shrink(struct x509_certs *l, size_t n)
{
    while (l->n > n)
        x509_free(l->certs[--l->n]);
}

void x509_certs_release(struct x509_certs *l)
{
    shrink(l, 0);
    free(l->certs);
    *l = (struct x509_certs){0};
}

int x509_certs_add(struct x509_certs *l, struct str der, struct err *e)
{
    struct x509_cert *c;
    int rc = x509_parse(der, &c, e);

    if (rc < 0)
        return rc;
    if (l->n == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 4;
        l->certs = xrealloc(l->certs, l->cap * sizeof(*l->certs));
    }
    l->certs[l->n++] = c;
    return 0;
}

/* Under its name, the one of before (RFC 7468, 5.1), or OpenSSL's. What the
 * last may have behind the certificate is an error of x509_parse(). */
static bool is_certificate(struct str type)
{
    return str_eqz(type, "CERTIFICATE") || str_eqz(type, "X509 CERTIFICATE") ||
           str_eqz(type, "TRUSTED CERTIFICATE");
}

int x509_certs_add_pem(struct x509_certs *l, struct str pem, struct err *e)
{
    struct pem_block block = {0};
    size_t n = l->n;
    int rc;

    if (pem.n > X509_FILE_MAX)
        return err_set(e, X509_EINVAL, "x509: a file of more than %zu bytes",
                       X509_FILE_MAX);
    while ((rc = pem_next(&pem, &block, e)) > 0) {
        if (!is_certificate(block.type))
            continue;
        rc = x509_certs_add(l, buf_str(&block.der), e);
        if (rc < 0)
            break;
    }
    pem_release(&block);
    if (rc == 0 && l->n == n)
        rc = err_set(e, X509_EINVAL, "x509: no certificate in PEM");
    if (rc < 0) {
        shrink(l, n);
        return X509_EINVAL;
    }
    return 0;
}

/* --- Revocation lists (RFC 5280, 5). ------------------------------------- */

/* { { [version], alg, issuer, date, [date], [revoked], [0] }, alg, sig } */
static bool read_crl(struct x509_crl *crl)
{
    struct str in = buf_str(&crl->der), body, alg, outer_alg, sig, unused = {0};
    unsigned version;
    int64_t t;
    bool there;

    if (!der_get(&in, DER_SEQ, &body) || in.n ||
        !der_get(&body, DER_SEQ, &in) ||
        !der_get_whole(&body, DER_SEQ, &outer_alg) || !der_bits(&body, &sig) ||
        body.n)
        return false;
    if (in.n && (uint8_t)in.p[0] == DER_INT &&
        (!der_small(&in, &version) || version != 1))
        return false;
    if (!der_get_whole(&in, DER_SEQ, &alg) || !str_eq(alg, outer_alg) ||
        !der_get_whole(&in, DER_SEQ, &crl->issuer) ||
        !read_name(crl->issuer, &unused, &unused) || !der_time(&in, &t))
        return false;
    if (in.n && (uint8_t)in.p[0] != DER_SEQ &&
        (uint8_t)in.p[0] != (DER_CONTEXT_SEQ | 0) && !der_time(&in, &t))
        return false;
    return der_opt(&in, DER_SEQ, &crl->revoked, &there) &&
           der_opt(&in, DER_CONTEXT_SEQ | 0, &body, &there) && in.n == 0;
}

/* The next serial of a list: { serial, date, [extensions] }. */
static bool next_revoked(struct str *in, struct str *serial)
{
    struct str entry, body;
    int64_t t;
    bool there;

    return der_get(in, DER_SEQ, &entry) && der_uint(&entry, serial) &&
           der_time(&entry, &t) && der_opt(&entry, DER_SEQ, &body, &there) &&
           entry.n == 0;
}

int x509_crl_parse(struct str file, struct x509_crl *out, struct err *e)
{
    struct x509_crl crl = {0};
    struct pem_block block = {0};
    struct str text = file, list, serial;
    bool ok;

    if (file.n > X509_CRL_MAX)
        return err_set(e, X509_EINVAL, "x509: a CRL of more than %zu bytes",
                       X509_CRL_MAX);
    if (pem_next(&text, &block, NULL) > 0) {
        crl.der = block.der;
        block.der = (struct buf){0};
    } else {
        buf_addstr(&crl.der, file);
    }
    pem_release(&block);
    ok = read_crl(&crl);
    for (list = crl.revoked; ok && list.n;)
        ok = next_revoked(&list, &serial);
    if (!ok) {
        x509_crl_release(&crl);
        return err_set(e, X509_EINVAL, "x509: malformed crl");
    }
    *out = crl;
    return 0;
}

void x509_crl_release(struct x509_crl *crl)
{
    buf_release(&crl->der);
    *crl = (struct x509_crl){0};
}

static int revoked(struct str serial, struct err *e)
{
    struct buf hex = {0};
    int rc;

    for (size_t i = 0; i < serial.n; i++)
        buf_printf(&hex, "%02x", (uint8_t)serial.p[i]);
    rc = err_set(e, X509_EVERIFY, "transport: certificate serial %s revoked",
                 buf_z(&hex));
    buf_release(&hex);
    return rc;
}

int x509_crl_check(const struct x509_crl *crl, const struct x509_certs *chain,
                   struct err *e)
{
    struct str in = crl->revoked, serial;

    while (in.n && next_revoked(&in, &serial))
        for (size_t i = 0; i < chain->n; i++)
            if (str_eq(chain->certs[i]->serial, serial))
                return revoked(serial, e);
    return 0;
}
