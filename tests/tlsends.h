/*
 * tlsends.h - two ends of TLS in memory, and the wire between them, for tests.
 */
#ifndef TLSENDS_H
#define TLSENDS_H

#include "check.h"
#include "tls_impl.h"
#include "tlscerts.h"

#define NOW 1800000000

static uint64_t test_random_calls; /* equal calls give equal handshakes */

static inline void test_random(void *p, size_t n)
{
    uint8_t digest[SHA256_SIZE], *out = p;

    while (n > 0) {
        size_t part = min_u64(n, sizeof(digest));

        test_random_calls++;
        hash_once(HASH_SHA256, &test_random_calls, sizeof(test_random_calls),
                  digest);
        memcpy(out, digest, part);
        out += part;
        n -= part;
    }
}

enum key { NO_KEY, RSA, P256, P384, P521, ED25519, STRANGE };

static inline struct x509_pair pair_of(enum key k)
{
    static const char *const pems[][2] = {
        [RSA] = {rsa_cert, rsa_key},
        [P256] = {p256_cert, p256_key},
        [P384] = {p384_cert, p384_key},
        [P521] = {p521_cert, p521_key},
        [ED25519] = {ed25519_cert, ed25519_key},
        [STRANGE] = {strange_cert, strange_key},
    };
    struct x509_pair p;
    struct err e = {0};

    if (x509_load_pair(str_of(pems[k][0]), str_of(pems[k][1]), &p, &e) < 0) {
        fprintf(stderr, "%s\n", e.msg);
        exit(1);
    }
    return p;
}

static inline struct x509_certs roots_of(const char *pem)
{
    struct x509_certs roots = {0};

    x509_certs_add_pem(&roots, str_of(pem), NULL);
    return roots;
}

struct setup { /* {0}: the engine's defaults, P-256, no client certificate */
    struct tls_options s, c;
    enum key server, server2, client;
    const char *name; /* NULL: example.com */
    int64_t server_now, client_now;
    bool no_roots;
    bool no_name;
};

struct ends {
    struct tls *s, *c;
    struct buf to_s, to_c;   /* on the wire */
    struct buf got_s, got_c; /* plaintext */
    size_t chunk;            /* bytes delivered at once; 0: all */
};

static inline struct tls_config *
config_of(const struct tls_options *o, enum key k, enum key k2, bool trusting)
{
    struct tls_options mine = *o;
    struct x509_pair pairs[2];
    struct tls_config *c;

    if (k)
        pairs[mine.n_pairs++] = pair_of(k);
    if (k2)
        pairs[mine.n_pairs++] = pair_of(k2);
    mine.pairs = pairs;
    if (trusting) {
        mine.roots = roots_of(ca_cert);
        x509_certs_add_pem(&mine.roots, str_of(p521_cert), NULL);
    }
    mine.random = test_random;
    c = tls_config_new(&mine, NULL);
    if (!c)
        exit(1);
    return c;
}

static inline struct ends ends_new(const struct setup *u)
{
    struct tls_config *s =
        config_of(&u->s, u->server ? u->server : P256, u->server2, true);
    struct tls_config *c = config_of(&u->c, u->client, NO_KEY, !u->no_roots);
    const char *name = u->name ? u->name : "example.com";
    struct ends e = {0};

    e.s = tls_new(s, TLS_SERVER, NULL, u->server_now ? u->server_now : NOW);
    e.c = tls_new(c, TLS_CLIENT, u->no_name ? NULL : name,
                  u->client_now ? u->client_now : NOW);
    tls_config_unref(s);
    tls_config_unref(c);
    return e;
}

static inline void ends_release(struct ends *e)
{
    tls_free(e->s);
    tls_free(e->c);
    buf_release(&e->to_s);
    buf_release(&e->to_c);
    buf_release(&e->got_s);
    buf_release(&e->got_c);
}

/* All that t has to say goes on the wire. */
static inline void emit(struct tls *t, struct buf *wire)
{
    while (tls_wants_write(t)) {
        struct str s = tls_output(t);

        buf_addstr(wire, s);
        tls_sent(t, s.n);
    }
}

/* What is on the wire reaches t, a chunk more each time. */
static inline void deliver(struct tls *t, struct buf *wire, struct buf *got,
                           size_t chunk)
{
    size_t have = chunk ? 0 : wire->len, at = 0;

    for (;;) {
        struct buf copy = {0};
        struct str data;
        ssize_t n;

        /* Copied, so that reading beyond it is seen. */
        if (have > at)
            buf_add(&copy, wire->data + at, have - at);
        n = tls_receive(t, copy.data, copy.len, &data);
        if (n > 0)
            buf_addstr(got, data);
        buf_release(&copy);
        if (n < 0)
            break;
        at += (size_t)n;
        if (n > 0 && at < have)
            continue;
        if (have == wire->len)
            break;
        have = min_u64(wire->len, have + chunk);
    }
    buf_consume(wire, tls_state(t) == TLS_FAILED ? wire->len : at);
}

/* Until nobody has anything to say. */
static inline void run(struct ends *e)
{
    for (int i = 0; i < 100; i++) {
        emit(e->c, &e->to_s);
        deliver(e->s, &e->to_s, &e->got_s, e->chunk);
        emit(e->s, &e->to_c);
        deliver(e->c, &e->to_c, &e->got_c, e->chunk);
        if (!tls_wants_write(e->c) && !tls_wants_write(e->s))
            return;
    }
    CHECK(!"quiet");
}

static inline void only_version(struct setup *u, uint16_t version)
{
    u->c.version_min = u->c.version_max = version;
    u->s.version_min = u->s.version_max = version;
}

#endif
