/*
 * tls12.c - the handshake of TLS 1.2 after ServerHello (RFC 5246, 7.3, with
 * ECDHE, RFC 8422).
 *
 *   client                                server
 *   ClientHello
 *                                         ServerHello
 *                                         Certificate
 *                                         ServerKeyExchange
 *                                         CertificateRequest     if it asks
 *                                         ServerHelloDone
 *   Certificate              if asked
 *   ClientKeyExchange
 *   CertificateVerify        if it has one
 *   change of keys
 *   {Finished}
 *                                         change of keys
 *                                         {Finished}
 *   {data}                                {data}
 */
#include "tls_impl.h"

#define NAMED_CURVE 3 /* ServerKeyExchange: a curve by its number */

#define CERT_RSA 1 /* CertificateRequest: types; for any scheme */
#define CERT_ECDSA 64

/* --- Keys and Finished: both sides. --------------------------------------- */

static void send_finished(struct tls *t)
{
    uint8_t verify[VERIFY12_SIZE];

    tls_send(t, RECORD_CCS, "\x01", 1);
    keys12(t, t->role, &t->out);
    finished12(t, t->role, verify);
    buf_add(message_begin(t, MSG_FINISHED), verify, sizeof(verify));
    message_end(t);
}

static int receive_finished(struct tls *t, const struct message *m)
{
    enum tls_role peer = t->role == TLS_CLIENT ? TLS_SERVER : TLS_CLIENT;
    uint8_t verify[VERIFY12_SIZE];

    if (m->type != MSG_FINISHED || !t->hs->ccs_seen)
        return tls_unexpected(t, m, "Finished");
    finished12(t, peer, verify);
    if (m->body.n != sizeof(verify) ||
        !ct_eq(m->body.p, verify, sizeof(verify)))
        return tls_fail(t, ALERT_DECRYPT_ERROR,
                        peer == TLS_SERVER
                            ? "tls: server's Finished message was incorrect"
                            : "tls: client's Finished message is incorrect");
    transcript_add(t, m->raw);
    return 0;
}

int receive_ccs12(struct tls *t)
{
    enum tls_role peer = t->role == TLS_CLIENT ? TLS_SERVER : TLS_CLIENT;

    if (!t->hs || !t->hs->ccs_expected || t->message.len > 0)
        return tls_fail(t, ALERT_UNEXPECTED_MESSAGE,
                        "tls: unexpected change of keys");
    keys12(t, peer, &t->in);
    t->hs->ccs_expected = false;
    t->hs->ccs_seen = true;
    return 0;
}

static void expect_finished(struct tls *t,
                            int (*next)(struct tls *, const struct message *))
{
    t->hs->ccs_expected = true;
    t->hs->next = next;
}

/* --- Server. -------------------------------------------------------------- */

static int server_finished(struct tls *t, const struct message *m)
{
    if (receive_finished(t, m) < 0)
        return TLS_EFAILED;
    send_finished(t);
    tls_opened(t);
    return 0;
}

static int server_verify(struct tls *t, const struct message *m)
{
    expect_finished(t, server_finished);
    return receive_verify(t, m);
}

static int agree(struct tls *t, struct str theirs)
{
    uint8_t shared[SHARED_MAX];
    size_t n;
    bool good = share_agree(&t->hs->share, theirs, shared, &n);

    if (good)
        master12(t, shared, n);
    wipe(shared, sizeof(shared));
    return good ? 0
                : tls_fail(t, ALERT_ILLEGAL_PARAMETER,
                           "tls: invalid %s key exchange message",
                           t->role == TLS_CLIENT ? "server" : "client");
}

static int server_key_exchange(struct tls *t, const struct message *m)
{
    struct reader r = reader_of(m->body);
    struct str theirs = read_vector(&r, 1);

    if (m->type != MSG_CLIENT_KEY_EXCHANGE)
        return tls_unexpected(t, m, "ClientKeyExchange");
    if (!reader_done(&r))
        return tls_malformed(t, "ClientKeyExchange");
    transcript_add(t, m->raw); /* which an extended secret depends on */
    if (agree(t, theirs) < 0)
        return TLS_EFAILED;
    if (t->peer.n > 0)
        t->hs->next = server_verify;
    else
        expect_finished(t, server_finished);
    return 0;
}

static int server_certificate(struct tls *t, const struct message *m)
{
    t->hs->next = server_key_exchange;
    return receive_certificate(t, m);
}

/* What ServerKeyExchange signs (RFC 8422, 5.4): returns owned. */
static struct buf signed_params(const struct tls *t, struct str params)
{
    struct buf b = {0};

    buf_add(&b, t->hs->client_random, RANDOM_SIZE);
    buf_add(&b, t->hs->server_random, RANDOM_SIZE);
    buf_addstr(&b, params);
    return b;
}

static int send_server_key_exchange(struct tls *t)
{
    const struct key_share *k = &t->hs->share;
    struct buf *b = message_begin(t, MSG_SERVER_KEY_EXCHANGE), content;
    int rc;

    put_uint(b, NAMED_CURVE, 1);
    put_uint(b, k->group, 2);
    put_vector(b, 1, (struct str){(const char *)k->public, k->n_public});
    content =
        signed_params(t, (struct str){(const char *)b->data + MESSAGE_HEAD,
                                      b->len - MESSAGE_HEAD});
    rc = put_signature(t, b, buf_str(&content));
    buf_release(&content);
    if (rc == 0)
        message_end(t);
    return rc;
}

static void send_certificate_request(struct tls *t)
{
    struct buf *b = message_begin(t, MSG_CERTIFICATE_REQUEST);

    put_uint(b, 2, 1);
    put_uint(b, CERT_RSA, 1);
    put_uint(b, CERT_ECDSA, 1);
    put_schemes(b);
    put_authorities(t, b);
    message_end(t);
}

int server12_start(struct tls *t)
{
    struct handshake *hs = t->hs;

    send_certificate(t);
    if (send_server_key_exchange(t) < 0)
        return TLS_EFAILED;
    hs->cert_wanted = t->config->client_auth != TLS_AUTH_NONE;
    if (hs->cert_wanted)
        send_certificate_request(t);
    message_begin(t, MSG_SERVER_HELLO_DONE);
    message_end(t);
    hs->next = hs->cert_wanted ? server_certificate : server_key_exchange;
    return 0;
}

/* --- Client. -------------------------------------------------------------- */

static int client_finished(struct tls *t, const struct message *m)
{
    if (receive_finished(t, m) < 0)
        return TLS_EFAILED;
    tls_opened(t);
    return 0;
}

static int send_client_flight(struct tls *t)
{
    struct handshake *hs = t->hs;
    const struct key_share *k = &hs->share;

    if (hs->cert_wanted)
        send_certificate(t);
    put_vector(message_begin(t, MSG_CLIENT_KEY_EXCHANGE), 1,
               (struct str){(const char *)k->public, k->n_public});
    message_end(t);
    if (agree(t, (struct str){(const char *)hs->peer_public,
                              hs->n_peer_public}) < 0)
        return TLS_EFAILED;
    if (hs->pair && send_verify(t) < 0)
        return TLS_EFAILED;
    send_finished(t);
    expect_finished(t, client_finished);
    return 0;
}

static int client_hello_done(struct tls *t, const struct message *m)
{
    if (m->type != MSG_SERVER_HELLO_DONE)
        return tls_unexpected(t, m, "ServerHelloDone");
    if (m->body.n > 0)
        return tls_malformed(t, "ServerHelloDone");
    transcript_add(t, m->raw);
    return send_client_flight(t);
}

static bool has_byte(struct str s, int c)
{
    return s.n > 0 && memchr(s.p, c, s.n);
}

static int client_request_or_done(struct tls *t, const struct message *m)
{
    struct reader r = reader_of(m->body);
    struct str types = read_vector(&r, 1);
    struct pair_wish w = {
        .rsa = has_byte(types, CERT_RSA),
        .ecdsa = has_byte(types, CERT_ECDSA),
    };

    if (m->type != MSG_CERTIFICATE_REQUEST)
        return client_hello_done(t, m);
    w.schemes = read_vector(&r, 2);
    w.authorities = read_vector(&r, 2);
    if (!reader_done(&r) || w.schemes.n % 2)
        return tls_malformed(t, "CertificateRequest");
    t->hs->cert_wanted = true;
    pair_choose(t, &w);
    transcript_add(t, m->raw);
    t->hs->next = client_hello_done;
    return 0;
}

/* Takes the parameters from r: a curve of ours and a point on it. */
static int read_params(struct tls *t, struct reader *r)
{
    struct handshake *hs = t->hs;
    unsigned type = read_uint(r, 1), group = read_uint(r, 2);
    struct str point = read_vector(r, 1);

    if (r->bad)
        return tls_malformed(t, "ServerKeyExchange");
    if (type != NAMED_CURVE || !config_has_group(t->config, group))
        return tls_fail(t, ALERT_ILLEGAL_PARAMETER,
                        "tls: server selected unsupported curve");
    if (point.n != share_size(group))
        return tls_fail(t, ALERT_ILLEGAL_PARAMETER,
                        "tls: invalid server key exchange message");
    memcpy(hs->peer_public, point.p, point.n);
    hs->n_peer_public = point.n;
    share_make(t, (enum tls_group)group);
    return 0;
}

static int client_key_exchange(struct tls *t, const struct message *m)
{
    struct reader r = reader_of(m->body);
    struct buf content;
    int rc;

    if (m->type != MSG_SERVER_KEY_EXCHANGE)
        return tls_unexpected(t, m, "ServerKeyExchange");
    if (read_params(t, &r) < 0)
        return TLS_EFAILED;
    content = signed_params(t, (struct str){m->body.p, m->body.n - r.n});
    rc = check_signature(t, &r, buf_str(&content));
    buf_release(&content);
    if (rc < 0)
        return rc;
    transcript_add(t, m->raw);
    t->hs->next = client_request_or_done;
    return 0;
}

static int client_certificate(struct tls *t, const struct message *m)
{
    t->hs->next = client_key_exchange;
    if (receive_certificate(t, m) < 0)
        return TLS_EFAILED;
    if ((t->peer.certs[0]->key.type != PK_RSA) != t->suite->ecdsa)
        return tls_fail(t, ALERT_ILLEGAL_PARAMETER,
                        "tls: the server's certificate is not for the cipher "
                        "suite that it chose");
    return 0;
}

int client12_start(struct tls *t)
{
    t->hs->next = client_certificate;
    return 0;
}

/* --- After the handshake. ------------------------------------------------- */

/* HelloRequest or ClientHello would begin another one. */
int tls12_message(struct tls *t, const struct message *m)
{
    if (m->type ==
        (t->role == TLS_CLIENT ? MSG_HELLO_REQUEST : MSG_CLIENT_HELLO))
        return tls_fail(t, ALERT_NO_RENEGOTIATION,
                        "local error: tls: no renegotiation");
    return tls_unexpected(t, m, "data");
}
