/*
 * tlsfuzz.h - one end of TLS, the victim, meets an honest other end, whose
 * records an input changes on their way: inside their protection, so that the
 * input reaches what comes behind it. The input: two bytes that choose versions
 * and options, then what the target makes of the records.
 *
 * Whatever is done, a victim never opens to a peer that said something else
 * than what it heard. Public keys cost nothing: see cheap.c.
 */
#ifndef TLSFUZZ_H
#define TLSFUZZ_H

#include "../tlscerts.h"
#include "fuzz.h"
#include "tls_impl.h"

#define NOW 1800000000
#define ROUNDS_MAX 8
#define OPEN_ROUNDS 3

/* What the first two bytes choose. */
enum {
    FUZZ_AUTH = 3,       /* enum tls_client_auth, or the first of them */
    FUZZ_12 = 1 << 2,    /* TLS 1.2 */
    FUZZ_P256 = 1 << 3,  /* the server's only group: asks for another share */
    FUZZ_TRUST = 1 << 4, /* the client verifies */
    FUZZ_KEY = 3 << 5,   /* both ends' certificates: an index, here */
    FUZZ_SUITE = 3 << 7, /* all, or those of one enum aead_type */
    N_CONFIGS = 1 << 9,
    FUZZ_CLIENT = 1 << 9, /* is the victim; where a target does not say */
};

static inline unsigned fuzz_choice(struct fuzz_in *in)
{
    unsigned low = fuzz_u8(in);

    return low | (unsigned)fuzz_u8(in) << 8;
}

static inline void fuzz_random(void *p, size_t n)
{
    static const uint8_t seed[] = "always the same";
    uint8_t digest[SHA512_SIZE];

    hash_once(HASH_SHA512, seed, sizeof(seed), digest);
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)p)[i] = digest[i % sizeof(digest)];
}

static inline struct x509_pair fuzz_pair(unsigned i)
{
    static const char *const pems[][2] = {{ed25519_cert, ed25519_key},
                                          {p256_cert, p256_key},
                                          {p384_cert, p384_key},
                                          {rsa_cert, rsa_key}};
    static struct pk_private keys[ARRAY_LEN(pems)]; /* slow to read */
    struct x509_pair p = {{0}, .key.pub.type = PK_NONE};

    if (keys[i].pub.type == PK_NONE)
        FUZZ_CHECK(x509_key_load(str_of(pems[i][1]), &keys[i], NULL) == 0);
    x509_certs_add_pem(&p.chain, str_of(pems[i][0]), NULL);
    p.key = keys[i];
    return p;
}

static inline void fuzz_only_suites(struct tls_config *c, enum aead_type aead)
{
    size_t n = 0;

    for (size_t i = 0; i < c->n_suites; i++)
        if (c->suites[i]->aead == aead)
            c->suites[n++] = c->suites[i];
    c->n_suites = n;
}

static inline struct tls_config *fuzz_config_new(unsigned choice, bool server)
{
    static const enum tls_group p256 = TLS_P256;
    static const char *const alpn[] = {"h2", "http/1.1"};
    struct tls_options o = {.random = fuzz_random, .alpn = alpn, .n_alpn = 2};
    struct x509_pair pair = fuzz_pair((choice & FUZZ_KEY) >> 5);
    unsigned suite = (choice & FUZZ_SUITE) >> 7;
    struct tls_config *c;

    o.pairs = &pair;
    o.n_pairs = 1;
    x509_certs_add_pem(&o.roots, str_of(ca_cert), NULL);
    o.client_auth = (enum tls_client_auth)((choice & FUZZ_AUTH) % 3);
    o.skip_verify = !(choice & FUZZ_TRUST);
    if (choice & FUZZ_12)
        o.version_max = TLS_1_2;
    if (choice & FUZZ_P256 && server) {
        o.groups = &p256;
        o.n_groups = 1;
    }
    c = tls_config_new(&o, NULL);
    FUZZ_CHECK(c != NULL);
    if (suite)
        fuzz_only_suites(c, (enum aead_type)(suite - 1));
    return c;
}

/* Made once each. */
static inline struct tls_config *fuzz_config(unsigned choice, bool server)
{
    static struct tls_config *configs[N_CONFIGS][2];
    struct tls_config **c = &configs[choice % N_CONFIGS][server];

    if (!*c)
        *c = fuzz_config_new(choice, server);
    return tls_config_ref(*c);
}

/* --- The victim, and what it hears. --------------------------------------- */

struct fuzz_tls {
    struct tls *victim, *peer;
    struct fuzz_in in;
    /* What becomes of a record: none or more, unprotected. */
    void (*change)(struct fuzz_tls *f, unsigned type, struct str data,
                   struct buf *out);
    unsigned left; /* messages until one is changed, where only one is */

    struct buf said, heard; /* messages of the handshake, before and after */
    bool open;
};

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

static inline void fuzz_plain(struct buf *out, unsigned type, struct str s)
{
    uint8_t head[] = {(uint8_t)type, 3, 3, (uint8_t)(s.n >> 8), (uint8_t)s.n};

    buf_add(out, head, sizeof(head));
    buf_addstr(out, s);
}

static inline size_t fuzz_record_size(const uint8_t *p)
{
    return RECORD_HEAD + ((size_t)p[3] << 8 | p[4]);
}

/* Messages in these records, which are not protected. */
static inline void fuzz_listen(struct buf *heard, const struct buf *records)
{
    for (size_t at = 0; at < records->len;) {
        const uint8_t *p = records->data + at;
        size_t n = fuzz_record_size(p);

        if (*p == RECORD_HANDSHAKE)
            buf_add(heard, p + RECORD_HEAD, n - RECORD_HEAD);
        at += n;
    }
}

static inline void fuzz_check_open(struct fuzz_tls *f)
{
    if (f->open || f->victim->state != TLS_OPEN)
        return;
    f->open = true;
    FUZZ_CHECK(f->said.len <= f->heard.len &&
               !memcmp(f->said.data, f->heard.data, f->said.len));
}

static inline void fuzz_record(struct fuzz_tls *f, uint8_t *p, size_t n)
{
    struct tls *victim = f->victim;
    bool on = victim->in.on;
    struct buf out = {0};
    struct str data;
    unsigned type;

    if (!fuzz_open(victim, p, n, &type, &data))
        return;
    if (type == RECORD_HANDSHAKE)
        buf_addstr(&f->said, data);
    f->change(f, type, data, &out);
    fuzz_listen(&f->heard, &out);
    victim->in.on = false; /* until the message itself changes the keys */
    fuzz_feed(victim, &out);
    if (!victim->in.on)
        victim->in.on = on;
    fuzz_check_open(f);
    buf_release(&out);
}

static inline void fuzz_to_victim(struct fuzz_tls *f)
{
    struct str s = tls_output(f->peer);
    struct buf wire = {0};
    size_t at = 0;

    buf_addstr(&wire, s);
    tls_sent(f->peer, s.n);
    while (at < wire.len && f->victim->state != TLS_FAILED) {
        size_t n = fuzz_record_size(wire.data + at);

        fuzz_record(f, wire.data + at, n);
        at += n;
    }
    buf_release(&wire);
}

static inline void fuzz_from_victim(struct fuzz_tls *f)
{
    struct str s = tls_output(f->victim);
    struct buf wire = {0};

    buf_addstr(&wire, s);
    tls_sent(f->victim, s.n);
    fuzz_feed(f->peer, &wire);
    buf_release(&wire);
}

static inline void fuzz_tls_begin(struct fuzz_tls *f, unsigned choice,
                                  enum tls_role role)
{
    enum tls_role others = role == TLS_CLIENT ? TLS_SERVER : TLS_CLIENT;
    struct tls_config *c = fuzz_config(choice, role == TLS_SERVER);
    struct tls_config *other = fuzz_config(choice, others == TLS_SERVER);

    f->victim = tls_new(c, role, "example.com", NOW);
    f->peer = tls_new(other, others, "example.com", NOW);
    tls_config_unref(c);
    tls_config_unref(other);
}

static inline void fuzz_tls_end(struct fuzz_tls *f)
{
    tls_free(f->victim);
    tls_free(f->peer);
    buf_release(&f->said);
    buf_release(&f->heard);
}

/* A handshake, then some data and new keys. */
static inline void fuzz_tls_run(struct fuzz_tls *f)
{
    struct iovec iov = {"some data", 9};
    int left = OPEN_ROUNDS;

    for (int i = 0; i < ROUNDS_MAX && left > 0; i++) {
        fuzz_to_victim(f);
        fuzz_from_victim(f);
        if (f->victim->state == TLS_FAILED)
            return;
        if (f->peer->state != TLS_OPEN)
            continue;
        left--;
        tls_write(f->peer, &iov, 1);
        tls_update_keys(f->peer, i % 2);
        tls_write(f->victim, &iov, 1);
    }
}

/* --- Records that are changed, one after the other. ----------------------- */

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

static inline void fuzz_change(struct fuzz_tls *f, unsigned type,
                               struct str data, struct buf *out)
{
    struct fuzz_in *in = &f->in;
    struct buf b = {0};
    unsigned how = fuzz_u8(in) % N_FUZZ;
    size_t at = how ? fuzz_u8(in) : 0;

    at |= (size_t)(how ? fuzz_u8(in) : 0) << 8;
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

/* Bytes as they are, from the first on. */
static inline void fuzz_raw(const uint8_t *data, size_t size,
                            enum tls_role role)
{
    struct fuzz_tls f = {0};
    struct buf b = {0};

    fuzz_tls_begin(&f, 0, role);
    buf_add(&b, data, size);
    fuzz_feed(f.victim, &b);
    FUZZ_CHECK(f.victim->state != TLS_OPEN);
    buf_release(&b);
    fuzz_tls_end(&f);
}

/* An input that begins like a record is taken as it is. */
static inline void fuzz_tls(const uint8_t *data, size_t size,
                            enum tls_role role)
{
    struct fuzz_tls f = {.in = {data, size}, .change = fuzz_change};
    unsigned choice;
    bool honest;

    if (size > 0 && data[0] >= RECORD_CCS && data[0] <= RECORD_DATA) {
        fuzz_raw(data, size, role);
        return;
    }
    choice = fuzz_choice(&f.in);
    honest = !fuzz_more(&f.in);
    fuzz_tls_begin(&f, choice, role);
    fuzz_tls_run(&f);
    FUZZ_CHECK(!honest || f.victim->state == TLS_OPEN);
    fuzz_tls_end(&f);
}

#endif
