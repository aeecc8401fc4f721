/*
 * tls13.c - the handshake of TLS 1.3 from ServerHello on (RFC 8446, 2), and
 * what may come after it. {Under keys of the handshake}, [of the application]:
 *
 *   client                                server
 *   ClientHello
 *                                         ServerHello
 *                                         {EncryptedExtensions}
 *                                         {CertificateRequest}   if it asks
 *                                         {Certificate}
 *                                         {CertificateVerify}
 *                                         {Finished}
 *   {Certificate}            if asked
 *   {CertificateVerify}      if it has one
 *   {Finished}
 *   [data]                                [data]
 *
 * A server sends no data before the client's Finished: it would go to somebody
 * unknown. Until then the secrets of the handshake's keys are those in t->in and
 * t->out, from which the Finished messages come, too.
 */
#include "tls_impl.h"

static int malformed_finished(struct tls *t)
{
    return tls_fail(t, ALERT_DECRYPT_ERROR,
                    t->role == TLS_CLIENT
                        ? "tls: invalid server finished hash"
                        : "tls: invalid client finished hash");
}

static void send_finished(struct tls *t)
{
    uint8_t mac[SECRET_MAX];

    schedule_finished(t, t->out.secret, mac);
    buf_add(message_begin(t, MSG_FINISHED), mac, hash_size(t->suite->hash));
    message_end(t);
}

static int receive_finished(struct tls *t, const struct message *m)
{
    size_t n = hash_size(t->suite->hash);
    uint8_t mac[SECRET_MAX];

    if (m->type != MSG_FINISHED)
        return tls_unexpected(t, m, "Finished");
    schedule_finished(t, t->in.secret, mac);
    if (m->body.n != n || !ct_eq(m->body.p, mac, n))
        return malformed_finished(t);
    transcript_add(t, m->raw);
    return 0;
}

static void set_in(struct tls *t, const uint8_t *secret)
{
    half_set13(&t->in, t->suite, secret);
    t->in_changed = true;
}

void send_ccs13(struct tls *t)
{
    if (t->hs->ccs_sent || t->hs->n_session_id == 0)
        return;
    assert(!t->out.on);
    tls_send(t, RECORD_CCS, "\x01", 1);
    t->hs->ccs_sent = true;
}

/* --- Server. -------------------------------------------------------------- */

static int server_finished(struct tls *t, const struct message *m)
{
    if (receive_finished(t, m) < 0)
        return TLS_EFAILED;
    set_in(t, t->hs->client_secret);
    tls_opened(t);
    return 0;
}

static int server_verify(struct tls *t, const struct message *m)
{
    t->hs->next = server_finished;
    return receive_verify(t, m);
}

static int server_certificate(struct tls *t, const struct message *m)
{
    if (receive_certificate(t, m) < 0)
        return TLS_EFAILED;
    t->hs->next = t->peer.n > 0 ? server_verify : server_finished;
    return 0;
}

static void send_encrypted_extensions(struct tls *t)
{
    struct buf *b = message_begin(t, MSG_ENCRYPTED_EXTENSIONS);
    size_t at = vector_begin(b, 2);

    put_alpn(t, b);
    vector_end(b, at, 2);
    message_end(t);
}

static void send_certificate_request(struct tls *t)
{
    struct buf *b = message_begin(t, MSG_CERTIFICATE_REQUEST);
    size_t at, ext, begin;

    put_vector(b, 1, STR("")); /* the context */
    at = vector_begin(b, 2);
    put_uint(b, EXT_SCHEMES, 2);
    ext = vector_begin(b, 2);
    put_schemes(b);
    vector_end(b, ext, 2);
    begin = b->len;
    put_uint(b, EXT_AUTHORITIES, 2);
    ext = vector_begin(b, 2);
    put_authorities(t, b);
    vector_end(b, ext, 2);
    if (b->len == ext + 2) /* an empty list would be malformed */
        b->len = begin;
    vector_end(b, at, 2);
    message_end(t);
}

int server13_start(struct tls *t, const uint8_t *shared, size_t n)
{
    struct handshake *hs = t->hs;

    schedule_handshake(t, shared, n);
    half_set13(&t->out, t->suite, hs->server_secret);
    set_in(t, hs->client_secret);
    send_encrypted_extensions(t);
    hs->cert_wanted = t->config->client_auth != TLS_AUTH_NONE;
    if (hs->cert_wanted)
        send_certificate_request(t);
    send_certificate(t);
    if (send_verify(t) < 0)
        return TLS_EFAILED;
    send_finished(t);
    schedule_master(t);
    half_set13(&t->out, t->suite, hs->server_secret);
    hs->next = hs->cert_wanted ? server_certificate : server_finished;
    return 0;
}

/* --- Client. -------------------------------------------------------------- */

static int send_client_flight(struct tls *t)
{
    if (t->hs->cert_wanted)
        send_certificate(t);
    if (t->hs->pair && send_verify(t) < 0)
        return TLS_EFAILED;
    send_finished(t);
    half_set13(&t->out, t->suite, t->hs->client_secret);
    return 0;
}

static int client_finished(struct tls *t, const struct message *m)
{
    if (receive_finished(t, m) < 0)
        return TLS_EFAILED;
    schedule_master(t);
    set_in(t, t->hs->server_secret);
    if (send_client_flight(t) < 0)
        return TLS_EFAILED;
    tls_opened(t);
    return 0;
}

static int client_verify(struct tls *t, const struct message *m)
{
    t->hs->next = client_finished;
    return receive_verify(t, m);
}

static int client_certificate(struct tls *t, const struct message *m)
{
    t->hs->next = client_verify;
    return receive_certificate(t, m);
}

/* What of it matters to us; others are to be ignored (4.3.2). */
static bool read_wish(const struct extensions *x, struct pair_wish *w)
{
    const struct str *schemes = extension(x, EXT_SCHEMES);
    const struct str *authorities = extension(x, EXT_AUTHORITIES);
    struct reader r = reader_of(*schemes), a;
    bool good;

    *w = (struct pair_wish){.rsa = true, .ecdsa = true};
    w->schemes = read_vector(&r, 2);
    good = reader_done(&r) && w->schemes.n > 0 && w->schemes.n % 2 == 0;
    if (authorities) {
        a = reader_of(*authorities);
        w->authorities = read_vector(&a, 2);
        good &= reader_done(&a);
    }
    return good;
}

static int receive_certificate_request(struct tls *t, const struct message *m)
{
    struct reader r = reader_of(m->body);
    struct str context = read_vector(&r, 1), list = read_vector(&r, 2);
    struct extensions x;
    struct pair_wish w;

    if (!reader_done(&r) || context.n > 0)
        return tls_malformed(t, "CertificateRequest");
    if (extensions_read(t, list, &x) < 0)
        return TLS_EFAILED;
    if (!extension(&x, EXT_SCHEMES))
        return tls_fail(t, ALERT_MISSING_EXTENSION,
                        "tls: server sent a CertificateRequest without "
                        "signature algorithms");
    if (!read_wish(&x, &w))
        return tls_malformed(t, "CertificateRequest");
    t->hs->cert_wanted = true;
    pair_choose(t, &w);
    transcript_add(t, m->raw);
    t->hs->next = client_certificate;
    return 0;
}

static int client_request_or_certificate(struct tls *t, const struct message *m)
{
    return m->type == MSG_CERTIFICATE_REQUEST
               ? receive_certificate_request(t, m)
               : client_certificate(t, m);
}

static int client_extensions(struct tls *t, const struct message *m)
{
    static const enum extension allowed[] = {EXT_SERVER_NAME, EXT_GROUPS,
                                             EXT_ALPN};
    struct reader r = reader_of(m->body);
    struct str list = read_vector(&r, 2);
    const struct str *alpn;
    struct extensions x;

    if (m->type != MSG_ENCRYPTED_EXTENSIONS)
        return tls_unexpected(t, m, "EncryptedExtensions");
    if (!reader_done(&r))
        return tls_malformed(t, "EncryptedExtensions");
    if (extensions_read(t, list, &x) < 0 ||
        extensions_only(t, &x, allowed, ARRAY_LEN(allowed)) < 0)
        return TLS_EFAILED;
    alpn = extension(&x, EXT_ALPN);
    if (alpn && client_alpn(t, *alpn) < 0)
        return TLS_EFAILED;
    transcript_add(t, m->raw);
    t->hs->next = client_request_or_certificate;
    return 0;
}

int client13_start(struct tls *t, const uint8_t *shared, size_t n)
{
    struct handshake *hs = t->hs;

    schedule_handshake(t, shared, n);
    send_ccs13(t);
    half_set13(&t->out, t->suite, hs->client_secret);
    set_in(t, hs->server_secret);
    hs->next = client_extensions;
    return 0;
}

/* --- After the handshake. ------------------------------------------------- */

void send_key_update(struct tls *t, bool both)
{
    uint8_t m[MESSAGE_HEAD + 1] = {MSG_KEY_UPDATE, 0, 0, 1, both};

    tls_send(t, RECORD_HANDSHAKE, m, sizeof(m));
    half_update13(&t->out, t->suite);
    t->update_due = false;
}

/*
 * The answer is due before our next data only (4.6.3): a peer that does nothing
 * but ask makes nothing wait to be sent.
 */
static int receive_key_update(struct tls *t, const struct message *m)
{
    struct reader r = reader_of(m->body);
    unsigned both = read_uint(&r, 1);

    if (!reader_done(&r))
        return tls_malformed(t, "KeyUpdate");
    if (both > 1)
        return tls_fail(t, ALERT_ILLEGAL_PARAMETER,
                        "tls: received a KeyUpdate of an unknown kind");
    half_update13(&t->in, t->suite);
    t->in_changed = true;
    t->update_due |= both == 1;
    return tls_useless(t);
}

int tls13_message(struct tls *t, const struct message *m)
{
    if (m->type == MSG_KEY_UPDATE)
        return receive_key_update(t, m);
    if (m->type == MSG_NEW_SESSION_TICKET && t->role == TLS_CLIENT)
        return tls_useless(t);
    return tls_unexpected(t, m, "data");
}
