/*
 * tlsfuzz.h - one end of TLS, the victim, meets an honest other end, whose
 * records an input changes on their way: inside their protection, so that the
 * input reaches what comes behind it. The input: a byte that chooses versions
 * and options, then, for each record, what is done to it. One that begins like
 * a record is taken as it is instead.
 */
#ifndef TLSFUZZ_H
#define TLSFUZZ_H

#include "../tlscerts.h"
#include "fuzz.h"
#include "tls_impl.h"

#define NOW 1800000000
#define ROUNDS_MAX 12

static inline void fuzz_random(void *p, size_t n)
{
    static const uint8_t seed[] = "always the same";
    uint8_t digest[SHA512_SIZE];

    hash_once(HASH_SHA512, seed, sizeof(seed), digest);
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)p)[i] = digest[i % sizeof(digest)];
}

static inline struct tls_config *fuzz_config_new(unsigned choice, bool server)
{
    static const enum tls_group p256 = TLS_P256;
    static const char *const alpn[] = {"h2", "http/1.1"};
    struct tls_options o = {.random = fuzz_random, .alpn = alpn, .n_alpn = 2};
    struct x509_pair pair;
    struct tls_config *c;

    FUZZ_CHECK(x509_load_pair(str_of(ed25519_cert), str_of(ed25519_key), &pair,
                              NULL) == 0);
    o.pairs = &pair;
    o.n_pairs = 1;
    x509_certs_add_pem(&o.roots, str_of(ca_cert), NULL);
    o.client_auth = (enum tls_client_auth)(choice % 3);
    o.skip_verify = !(choice & 16); /* which is slow under sanitizers */
    if (choice & 4)
        o.version_max = TLS_1_2;
    if (choice & 8 && server) { /* so that it asks for another share */
        o.groups = &p256;
        o.n_groups = 1;
    }
    c = tls_config_new(&o, NULL);
    FUZZ_CHECK(c != NULL);
    return c;
}

/* Made once each: reading keys takes longer than the rest. */
static inline struct tls_config *fuzz_config(unsigned choice, bool server)
{
    static struct tls_config *configs[32][2];
    struct tls_config **c = &configs[choice % 32][server];

    if (!*c)
        *c = fuzz_config_new(choice % 32, server);
    return tls_config_ref(*c);
}

static inline void fuzz_check(const struct tls *t)
{
    FUZZ_CHECK(t->message.len <= MESSAGE_HEAD + TLS_MESSAGE_MAX + RECORD_MAX);
    FUZZ_CHECK((t->state == TLS_FAILED) == (t->error != NULL));
    FUZZ_CHECK((t->state == TLS_HANDSHAKE) == (t->hs != NULL));
    FUZZ_CHECK(t->useless <= TLS_USELESS_MAX + 1);
    FUZZ_CHECK(t->peer.n <= X509_CHAIN_MAX);
}

/* Feeds all of it; what is left over is forgotten. */
static inline void fuzz_feed(struct tls *t, const struct buf *b)
{
    struct buf copy = {0};
    struct str data;
    size_t at = 0;
    ssize_t n;

    if (b->len == 0)
        return;
    buf_add(&copy, b->data, b->len);
    do {
        n = tls_receive(t, copy.data + at, copy.len - at, &data);
        FUZZ_CHECK(n <= (ssize_t)(copy.len - at));
        at += n > 0 ? (size_t)n : 0;
    } while (n > 0 && at < copy.len);
    buf_release(&copy);
    fuzz_check(t);
}

/* What is in a record of the victim's peer; counts it as received. */
static inline bool fuzz_open(struct tls *victim, uint8_t *p, size_t n,
                             unsigned *type, struct str *data)
{
    struct tls copy = *victim;
    bool good;

    copy.output = (struct buf){0};
    good = tls_unseal(&copy, p, n, type, data) == 0;
    victim->in.seq = copy.in.seq;
    buf_release(&copy.output);
    if (!good)
        free(copy.error);
    return good;
}

enum {
    FUZZ_FLIP = 1,
    FUZZ_CUT,
    FUZZ_REPLACE,
    FUZZ_APPEND,
    FUZZ_DROP,
    FUZZ_TWICE,
    FUZZ_TYPE,
    FUZZ_SPLIT,
    N_FUZZ,
};

static inline void fuzz_plain(struct buf *out, unsigned type, struct str s)
{
    uint8_t head[] = {(uint8_t)type, 3, 3, (uint8_t)(s.n >> 8), (uint8_t)s.n};

    buf_add(out, head, sizeof(head));
    buf_addstr(out, s);
}

/* The record or records that become of one. */
static inline void fuzz_change(struct fuzz_in *in, unsigned type,
                               struct str data, struct buf *out)
{
    struct buf b = {0};
    unsigned how = fuzz_u8(in) % N_FUZZ;
    size_t at = fuzz_u8(in) | (size_t)(how ? fuzz_u8(in) : 0) << 8;

    buf_addstr(&b, data);
    at = b.len ? at % b.len : 0;
    if (how == FUZZ_FLIP && b.len)
        b.data[at] ^= fuzz_u8(in);
    if (how == FUZZ_CUT)
        b.len = at;
    if (how == FUZZ_REPLACE)
        b.len = min_u64(b.len, MESSAGE_HEAD);
    if (how == FUZZ_REPLACE || how == FUZZ_APPEND)
        buf_addstr(&b, fuzz_bytes(in, at));
    if (how == FUZZ_REPLACE && b.len > MESSAGE_HEAD) {
        b.data[2] = (uint8_t)((b.len - MESSAGE_HEAD) >> 8);
        b.data[3] = (uint8_t)(b.len - MESSAGE_HEAD);
    }
    if (how == FUZZ_TYPE)
        type = fuzz_u8(in);
    if (how == FUZZ_SPLIT) {
        fuzz_plain(out, type, (struct str){(char *)b.data, at});
        fuzz_plain(out, type, (struct str){(char *)b.data + at, b.len - at});
    } else if (how != FUZZ_DROP) {
        fuzz_plain(out, type, buf_str(&b));
    }
    if (how == FUZZ_TWICE)
        fuzz_plain(out, type, buf_str(&b));
    buf_release(&b);
}

static inline void fuzz_record(struct fuzz_in *in, struct tls *victim,
                               uint8_t *p, size_t n)
{
    bool on = victim->in.on;
    struct buf out = {0};
    struct str data;
    unsigned type;

    if (!fuzz_open(victim, p, n, &type, &data))
        return;
    fuzz_change(in, type, data, &out);
    victim->in.on = false; /* until the message itself changes the keys */
    fuzz_feed(victim, &out);
    if (!victim->in.on)
        victim->in.on = on;
    buf_release(&out);
}

static inline void fuzz_to_victim(struct fuzz_in *in, struct tls *victim,
                                  struct tls *peer)
{
    struct str s = tls_output(peer);
    struct buf wire = {0};
    size_t at = 0;

    buf_addstr(&wire, s);
    tls_sent(peer, s.n);
    while (at < wire.len && victim->state != TLS_FAILED) {
        uint8_t *p = wire.data + at;
        size_t n = RECORD_HEAD + ((size_t)p[3] << 8 | p[4]);

        fuzz_record(in, victim, p, n);
        at += n;
    }
    buf_release(&wire);
}

static inline void fuzz_from_victim(struct tls *victim, struct tls *peer)
{
    struct str s = tls_output(victim);
    struct buf wire = {0};

    buf_addstr(&wire, s);
    tls_sent(victim, s.n);
    fuzz_feed(peer, &wire);
    buf_release(&wire);
}

static inline void fuzz_tls(struct fuzz_in *in, enum tls_role role)
{
    unsigned choice = fuzz_u8(in);
    struct tls_config *c = fuzz_config(choice, role == TLS_SERVER);
    struct tls_config *other = fuzz_config(choice, role == TLS_CLIENT);
    enum tls_role others = role == TLS_CLIENT ? TLS_SERVER : TLS_CLIENT;
    struct tls *victim = tls_new(c, role, "example.com", NOW);
    struct tls *peer = tls_new(other, others, "example.com", NOW);
    struct iovec iov = {"some data", 9};
    bool honest = !fuzz_more(in);

    for (int i = 0; i < ROUNDS_MAX && victim->state != TLS_FAILED; i++) {
        fuzz_to_victim(in, victim, peer);
        fuzz_from_victim(victim, peer);
        if (peer->state != TLS_OPEN)
            continue;
        tls_write(peer, &iov, 1);
        tls_update_keys(peer, i % 2);
        tls_write(victim, &iov, 1);
    }
    FUZZ_CHECK(!honest || victim->state == TLS_OPEN);
    tls_free(victim);
    tls_free(peer);
    tls_config_unref(c);
    tls_config_unref(other);
}

/* Bytes as they are, from the first on. */
static inline void fuzz_raw(const uint8_t *data, size_t size,
                            enum tls_role role)
{
    struct tls_config *c = fuzz_config(0, false);
    struct tls *t = tls_new(c, role, "example.com", NOW);
    struct buf b = {0};

    buf_add(&b, data, size);
    fuzz_feed(t, &b);
    buf_release(&b);
    tls_free(t);
    tls_config_unref(c);
}

#endif
