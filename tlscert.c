/*
 * tlscert.c - certificates in the handshake: which of ours to show, whether
 * theirs is good, and the signatures that prove who has the keys.
 */
#include "tls_impl.h"

/* What we verify and sign with, the best first, as in Go. */
static const uint16_t schemes[] = {
    PK_RSA_PSS_SHA256,   PK_ECDSA_SHA256,     PK_ED25519_PURE,
    PK_RSA_PSS_SHA384,   PK_RSA_PSS_SHA512,   PK_RSA_PKCS1_SHA256,
    PK_RSA_PKCS1_SHA384, PK_RSA_PKCS1_SHA512, PK_ECDSA_SHA384,
    PK_ECDSA_SHA512,
};

void put_schemes(struct buf *b)
{
    size_t at = vector_begin(b, 2);

    for (size_t i = 0; i < ARRAY_LEN(schemes); i++)
        put_uint(b, schemes[i], 2);
    vector_end(b, at, 2);
}

static bool fits(const struct tls *t, enum pk_type type, unsigned scheme)
{
    return t->version == TLS_1_3 ? pk_fits_tls13(type, scheme)
                                 : pk_fits(type, scheme);
}

/* --- Ours. ---------------------------------------------------------------- */

/* The first scheme of the peer's that fits the key, or 0. */
static unsigned scheme_for(const struct tls *t, const struct x509_pair *p,
                           struct str theirs)
{
    struct reader r = reader_of(theirs);

    while (r.n >= 2) {
        unsigned scheme = read_uint(&r, 2);

        if (fits(t, p->key.pub.type, scheme))
            return scheme;
    }
    return 0;
}

bool pair_is_ecdsa(const struct x509_pair *p)
{
    return p->key.pub.type != PK_RSA;
}

static bool issued_by(const struct x509_pair *p, struct str name)
{
    for (size_t i = 0; i < p->chain.n; i++)
        if (str_eq(p->chain.certs[i]->issuer, name))
            return true;
    return false;
}

static bool pleases(const struct tls *t, const struct x509_pair *p,
                    const struct pair_wish *w)
{
    struct reader r = reader_of(w->authorities);
    bool known = r.n == 0;

    while (!known && r.n > 0)
        known = issued_by(p, read_vector(&r, 2));
    return known && (pair_is_ecdsa(p) ? w->ecdsa : w->rsa) &&
           scheme_for(t, p, w->schemes) != 0;
}

bool pair_choose(struct tls *t, const struct pair_wish *w)
{
    struct tls_config *c = t->config;
    const struct x509_pair *best = NULL;

    for (size_t i = 0; i < c->n_pairs; i++) {
        const struct x509_pair *p = &c->pairs[i];

        if (!pleases(t, p, w))
            continue;
        if (w->name.n > 0 && c->n_pairs > 1 &&
            x509_check_host(p->chain.certs[0], w->name, NULL) == 0) {
            best = p;
            break;
        }
        best = best ? best : p;
    }
    t->hs->pair = best;
    t->hs->scheme = best ? scheme_for(t, best, w->schemes) : 0;
    return best != NULL;
}

/* Names beyond this are not sent: then any authority is welcome. */
#define AUTHORITIES_MAX 16384

void put_authorities(const struct tls *t, struct buf *b)
{
    const struct x509_certs *roots = &t->config->roots;
    size_t at = vector_begin(b, 2);

    for (size_t i = 0; i < roots->n; i++) {
        if (b->len - at + 2 + roots->certs[i]->subject.n > AUTHORITIES_MAX) {
            b->len = at;
            break;
        }
        put_vector(b, 2, roots->certs[i]->subject);
    }
    vector_end(b, at, 2);
}

/* --- Theirs. -------------------------------------------------------------- */

static const char *peer_role(const struct tls *t)
{
    return t->role == TLS_CLIENT ? "server" : "client";
}

static int peer_add(struct tls *t, struct str der)
{
    struct err e;

    if (t->peer.n == X509_CHAIN_MAX)
        return tls_fail(t, ALERT_BAD_CERTIFICATE,
                        "tls: %s's certificate chain is too long",
                        peer_role(t));
    if (x509_certs_add(&t->peer, der, &e) < 0)
        return tls_fail(t, ALERT_BAD_CERTIFICATE,
                        "tls: failed to parse certificate from %s: %s",
                        peer_role(t), e.msg);
    return 0;
}

static int peer_refused(struct tls *t, const struct err *e)
{
    return tls_fail(t, ALERT_BAD_CERTIFICATE,
                    t->role == TLS_CLIENT
                        ? "tls: failed to verify certificate: %s"
                        : "tls: failed to verify client certificate: %s",
                    e->msg);
}

static int peer_verify(struct tls *t)
{
    const struct tls_config *c = t->config;
    bool client = t->role == TLS_CLIENT;
    struct x509_verify v = {
        .roots = &c->roots,
        .chain = &t->peer,
        .now = t->now,
        .usage = client ? X509_SERVER : X509_CLIENT,
        .host = client && t->name ? str_of(t->name) : (struct str){"", 0},
    };
    struct err e;

    if (!(client && c->skip_verify) && x509_verify(&v, &e) < 0)
        return peer_refused(t, &e);
    if (t->peer.certs[0]->key.type == PK_NONE)
        return tls_fail(t, ALERT_UNSUPPORTED_CERTIFICATE,
                        "tls: %s's certificate contains an unsupported type "
                        "of public key: %s",
                        peer_role(t), t->peer.certs[0]->key_trouble);
    if (c->verify && c->verify(c->verify_arg, &t->peer, &e) != 0)
        return tls_fail(t, ALERT_BAD_CERTIFICATE, "%s", e.msg);
    return 0;
}

static int peer_missing(struct tls *t)
{
    if (t->role == TLS_CLIENT)
        return tls_fail(t, ALERT_DECODE_ERROR,
                        "tls: received empty certificates message");
    if (t->config->client_auth == TLS_AUTH_REQUIRE)
        return tls_fail(t,
                        t->version == TLS_1_3 ? ALERT_CERTIFICATE_REQUIRED
                                              : ALERT_BAD_CERTIFICATE,
                        "tls: client didn't provide a certificate");
    return 0;
}

static int read_entry(struct tls *t, struct reader *list)
{
    struct str der = read_vector(list, 3);
    struct str extensions = {0};

    if (t->version == TLS_1_3)
        extensions = read_vector(list, 2);
    if (list->bad || der.n == 0)
        return tls_malformed(t, "Certificate");
    if (extensions.n > 0) /* there is none that we ask for */
        return tls_fail(t, ALERT_UNSUPPORTED_EXTENSION,
                        "tls: %s sent an unsolicited extension", peer_role(t));
    return peer_add(t, der);
}

int receive_certificate(struct tls *t, const struct message *m)
{
    struct reader r = reader_of(m->body), list;
    struct str context = {0};

    if (m->type != MSG_CERTIFICATE)
        return tls_unexpected(t, m, "Certificate");
    if (t->version == TLS_1_3)
        context = read_vector(&r, 1);
    list = reader_of(read_vector(&r, 3));
    if (!reader_done(&r) || context.n > 0)
        return tls_malformed(t, "Certificate");
    while (list.n > 0)
        if (read_entry(t, &list) < 0)
            return TLS_EFAILED;
    transcript_add(t, m->raw);
    return t->peer.n > 0 ? peer_verify(t) : peer_missing(t);
}

void send_certificate(struct tls *t)
{
    const struct x509_pair *p = t->hs->pair;
    struct buf *b = message_begin(t, MSG_CERTIFICATE);
    size_t at;

    if (t->version == TLS_1_3)
        put_vector(b, 1, STR("")); /* the context */
    at = vector_begin(b, 3);
    for (size_t i = 0; p && i < p->chain.n; i++) {
        put_vector(b, 3, p->chain.certs[i]->der);
        if (t->version == TLS_1_3)
            put_vector(b, 2, STR(""));
    }
    vector_end(b, at, 3);
    message_end(t);
}

/* --- Signatures. ---------------------------------------------------------- */

int put_signature(struct tls *t, struct buf *b, struct str msg)
{
    struct handshake *hs = t->hs;
    uint8_t random[PK_RANDOM_SIZE], sig[PK_SIG_MAX];
    size_t n;
    int rc;

    t->config->random(random, sizeof(random));
    rc = pk_sign(&hs->pair->key, hs->scheme, msg, random, sig, &n);
    wipe(random, sizeof(random));
    if (rc < 0)
        return tls_fail(t, ALERT_INTERNAL_ERROR,
                        "tls: failed to sign handshake: the private key is "
                        "not sound");
    put_uint(b, hs->scheme, 2);
    put_vector(b, 2, (struct str){(const char *)sig, n});
    return 0;
}

int check_signature(struct tls *t, struct reader *r, struct str msg)
{
    const struct pk_public *key = &t->peer.certs[0]->key;
    unsigned scheme = read_uint(r, 2);
    struct str sig = read_vector(r, 2);

    if (!reader_done(r))
        return tls_malformed(t, "signature");
    if (!fits(t, key->type, scheme))
        return tls_fail(t, ALERT_ILLEGAL_PARAMETER,
                        "tls: %s certificate used with invalid signature "
                        "algorithm",
                        peer_role(t));
    if (pk_verify(key, scheme, msg, bytes_of(sig), sig.n) < 0)
        return tls_fail(t, ALERT_DECRYPT_ERROR,
                        "tls: invalid signature by the %s certificate",
                        peer_role(t));
    return 0;
}

#define SIGNED13_MAX (64 + 34 + SECRET_MAX)

/* RFC 8446, 4.4.3. */
static struct str signed13(const struct tls *t, enum tls_role signer,
                           uint8_t out[SIGNED13_MAX])
{
    /* With the NUL that ends it. */
    static const char server[] = "TLS 1.3, server CertificateVerify";
    static const char client[] = "TLS 1.3, client CertificateVerify";

    static_assert(sizeof(server) == 34 && sizeof(client) == 34, "as above");
    memset(out, ' ', 64);
    memcpy(out + 64, signer == TLS_SERVER ? server : client, sizeof(server));
    transcript_peek(t, out + 64 + sizeof(server));
    return (struct str){(const char *)out,
                        64 + sizeof(server) + hash_size(t->suite->hash)};
}

/* TLS 1.2 signs all messages so far (RFC 5246, 7.4.8). */
static struct str signed_by(const struct tls *t, enum tls_role signer,
                            uint8_t out[SIGNED13_MAX])
{
    return t->version == TLS_1_3 ? signed13(t, signer, out)
                                 : buf_str(&t->hs->raw);
}

int send_verify(struct tls *t)
{
    uint8_t content[SIGNED13_MAX];
    struct str msg = signed_by(t, t->role, content);

    if (put_signature(t, message_begin(t, MSG_CERTIFICATE_VERIFY), msg) < 0)
        return TLS_EFAILED;
    message_end(t);
    return 0;
}

int receive_verify(struct tls *t, const struct message *m)
{
    enum tls_role signer = t->role == TLS_CLIENT ? TLS_SERVER : TLS_CLIENT;
    uint8_t content[SIGNED13_MAX];
    struct reader r = reader_of(m->body);

    if (m->type != MSG_CERTIFICATE_VERIFY)
        return tls_unexpected(t, m, "CertificateVerify");
    if (check_signature(t, &r, signed_by(t, signer, content)) < 0)
        return TLS_EFAILED;
    transcript_add(t, m->raw);
    return 0;
}
