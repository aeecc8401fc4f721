/*
 * tlskey.c - from a shared secret to the keys of records.
 *
 * TLS 1.3 (RFC 8446, 7.1), without pre-shared keys:
 *
 *            0                            transcript to
 *            |
 *   0 ---> extract = early secret
 *            |
 *         derive "derived"                (nothing)
 *            |
 *   DH --> extract = handshake secret --> "c hs traffic", "s hs traffic"
 *            |                            ServerHello
 *         derive "derived"                (nothing)
 *            |
 *   0 ---> extract = master secret -----> "c ap traffic", "s ap traffic"
 *                                         the server's Finished
 *
 * A traffic secret gives "key", "iv", "finished", and the next one: "traffic
 * upd". TLS 1.2 (RFC 5246, 5 and 8.1) has one function, the PRF, for all.
 */
#include "tls_impl.h"

void half_release(struct half *h)
{
    if (h->on)
        aead_release(&h->aead);
    wipe(h, sizeof(*h));
}

/* --- TLS 1.3. ------------------------------------------------------------- */

#define LABEL_MAX 12 /* of those in the text above */

/* HKDF-Expand-Label (7.1). */
static void expand(enum hash_type hash, const uint8_t *secret,
                   const char *label, struct str context, uint8_t *out,
                   size_t n_out)
{
    uint8_t info[2 + 1 + 6 + LABEL_MAX + 1 + SECRET_MAX];
    size_t n_label = strlen(label), n = 0;

    assert(n_label <= LABEL_MAX && context.n <= SECRET_MAX);
    info[n++] = 0;
    info[n++] = (uint8_t)n_out;
    info[n++] = (uint8_t)(6 + n_label);
    memcpy(info + n, "tls13 ", 6);
    memcpy(info + n + 6, label, n_label);
    n += 6 + n_label;
    info[n++] = (uint8_t)context.n;
    if (context.n)
        memcpy(info + n, context.p, context.n);
    n += context.n;
    hkdf_expand(hash, secret, hash_size(hash), info, n, out, n_out);
}

void half_set13(struct half *h, const struct tls_suite *s,
                const uint8_t *secret)
{
    uint8_t key[AEAD_KEY_MAX];

    half_release(h);
    memcpy(h->secret, secret, hash_size(s->hash));
    expand(s->hash, secret, "key", (struct str){0}, key,
           aead_key_size(s->aead));
    expand(s->hash, secret, "iv", (struct str){0}, h->iv, sizeof(h->iv));
    aead_init(&h->aead, s->aead, key);
    h->on = true;
    wipe(key, sizeof(key));
}

void half_update13(struct half *h, const struct tls_suite *s)
{
    uint8_t next[SECRET_MAX];

    expand(s->hash, h->secret, "traffic upd", (struct str){0}, next,
           hash_size(s->hash));
    half_set13(h, s, next);
    wipe(next, sizeof(next));
}

/* Derive-Secret of hs->secret, for the transcript of now. */
static void derive(const struct tls *t, const char *label,
                   uint8_t out[SECRET_MAX])
{
    enum hash_type hash = t->suite->hash;
    uint8_t digest[SECRET_MAX];

    transcript_peek(t, digest);
    expand(hash, t->hs->secret, label,
           (struct str){(const char *)digest, hash_size(hash)}, out,
           hash_size(hash));
}

/* hs->secret moves down by one: derive "derived", extract. */
static void descend(struct tls *t, const uint8_t *input, size_t n)
{
    enum hash_type hash = t->suite->hash;
    uint8_t digest[SECRET_MAX], salt[SECRET_MAX];
    size_t size = hash_size(hash);

    hash_once(hash, "", 0, digest);
    expand(hash, t->hs->secret, "derived",
           (struct str){(const char *)digest, size}, salt, size);
    hkdf_extract(hash, salt, size, input, n, t->hs->secret);
    wipe(salt, sizeof(salt));
}

void schedule_handshake(struct tls *t, const uint8_t *shared, size_t n)
{
    static const uint8_t zeros[SECRET_MAX];
    struct handshake *hs = t->hs;
    enum hash_type hash = t->suite->hash;

    hkdf_extract(hash, NULL, 0, zeros, hash_size(hash), hs->secret);
    descend(t, shared, n);
    derive(t, "c hs traffic", hs->client_secret);
    derive(t, "s hs traffic", hs->server_secret);
}

void schedule_master(struct tls *t)
{
    static const uint8_t zeros[SECRET_MAX];
    struct handshake *hs = t->hs;

    descend(t, zeros, hash_size(t->suite->hash));
    derive(t, "c ap traffic", hs->client_secret);
    derive(t, "s ap traffic", hs->server_secret);
}

void schedule_finished(const struct tls *t, const uint8_t *secret,
                       uint8_t out[SECRET_MAX])
{
    enum hash_type hash = t->suite->hash;
    uint8_t key[SECRET_MAX], digest[SECRET_MAX];
    size_t size = hash_size(hash);

    expand(hash, secret, "finished", (struct str){0}, key, size);
    transcript_peek(t, digest);
    hmac_once(hash, key, size, digest, size, out);
    wipe(key, sizeof(key));
}

/* --- TLS 1.2. ------------------------------------------------------------- */

/* PRF (RFC 5246, 5); seed is label and seed together. */
static void prf(enum hash_type hash, const uint8_t *secret, size_t n_secret,
                struct str seed, uint8_t *out, size_t n_out)
{
    size_t size = hash_size(hash);
    uint8_t a[SECRET_MAX], block[SECRET_MAX];
    struct hmac keyed, m;

    hmac_init(&keyed, hash, secret, n_secret);
    m = keyed;
    hmac_update(&m, seed.p, seed.n);
    hmac_final(&m, a);
    while (n_out > 0) {
        size_t n = min_u64(n_out, size);

        m = keyed;
        hmac_update(&m, a, size);
        hmac_update(&m, seed.p, seed.n);
        hmac_final(&m, block);
        memcpy(out, block, n);
        out += n;
        n_out -= n;
        m = keyed;
        hmac_update(&m, a, size);
        hmac_final(&m, a);
    }
    wipe(a, sizeof(a));
    wipe(block, sizeof(block));
    wipe(&keyed, sizeof(keyed));
}

#define SEED_MAX (22 + 2 * RANDOM_SIZE) /* "extended master secret" */

static struct str seed_of(const char *label, const uint8_t *a, size_t n_a,
                          const uint8_t *b, size_t n_b, uint8_t out[SEED_MAX])
{
    size_t n = strlen(label);

    assert(n + n_a + n_b <= SEED_MAX);
    memcpy(out, label, n);
    memcpy(out + n, a, n_a);
    if (n_b)
        memcpy(out + n + n_a, b, n_b);
    return (struct str){(const char *)out, n + n_a + n_b};
}

void master12(struct tls *t, const uint8_t *shared, size_t n)
{
    struct handshake *hs = t->hs;
    enum hash_type hash = t->suite->hash;
    uint8_t digest[SECRET_MAX], seed[SEED_MAX];
    struct str s;

    if (hs->extended) {
        transcript_peek(t, digest);
        s = seed_of("extended master secret", digest, hash_size(hash), NULL, 0,
                    seed);
    } else {
        s = seed_of("master secret", hs->client_random, RANDOM_SIZE,
                    hs->server_random, RANDOM_SIZE, seed);
    }
    prf(hash, shared, n, s, hs->master, sizeof(hs->master));
}

/* Of the key block, which is both keys, then both IVs, the client's first. */
void keys12(struct tls *t, enum tls_role whose, struct half *h)
{
    struct handshake *hs = t->hs;
    const struct tls_suite *s = t->suite;
    size_t n_key = aead_key_size(s->aead);
    size_t n_iv = s->aead == AEAD_CHACHA20_POLY1305 ? AEAD_NONCE_SIZE : 4;
    uint8_t block[2 * (AEAD_KEY_MAX + AEAD_NONCE_SIZE)], seed[SEED_MAX];
    bool second = whose == TLS_SERVER;

    prf(s->hash, hs->master, sizeof(hs->master),
        seed_of("key expansion", hs->server_random, RANDOM_SIZE,
                hs->client_random, RANDOM_SIZE, seed),
        block, 2 * (n_key + n_iv));
    half_release(h);
    aead_init(&h->aead, s->aead, block + (second ? n_key : 0));
    memcpy(h->iv, block + 2 * n_key + (second ? n_iv : 0), n_iv);
    h->on = true;
    wipe(block, sizeof(block));
}

void finished12(const struct tls *t, enum tls_role whose,
                uint8_t out[VERIFY12_SIZE])
{
    enum hash_type hash = t->suite->hash;
    uint8_t digest[SECRET_MAX], seed[SEED_MAX];
    const char *label =
        whose == TLS_CLIENT ? "client finished" : "server finished";

    transcript_peek(t, digest);
    prf(hash, t->hs->master, sizeof(t->hs->master),
        seed_of(label, digest, hash_size(hash), NULL, 0, seed), out,
        VERIFY12_SIZE);
}

/* --- Key agreement. ------------------------------------------------------- */

static enum ec_curve curve_of(enum tls_group group)
{
    assert(group >= TLS_P256 && group <= TLS_P521);
    return (enum ec_curve)(EC_P256 + (group - TLS_P256));
}

size_t share_size(unsigned group)
{
    switch (group) {
    case TLS_X25519:
        return X25519_SIZE;
    case TLS_P256:
    case TLS_P384:
    case TLS_P521:
        return ec_point_size(curve_of(group));
    default:
        return 0;
    }
}

void share_make(struct tls *t, enum tls_group group)
{
    struct key_share *k = &t->hs->share;
    uint8_t seed[EC_SEED_SIZE];

    static_assert(EC_SEED_SIZE >= X25519_SIZE, "a seed for each");
    static_assert(EC_SIZE_MAX >= X25519_SIZE, "room for each");
    t->config->random(seed, sizeof(seed));
    wipe(k, sizeof(*k));
    k->group = group;
    k->n_public = share_size(group);
    if (group == TLS_X25519) {
        memcpy(k->private, seed, X25519_SIZE);
        x25519_public(k->private, k->public);
    } else {
        ec_generate(curve_of(group), seed, k->private);
        ec_public(curve_of(group), k->private, k->public);
    }
    wipe(seed, sizeof(seed));
}

bool share_agree(const struct key_share *k, struct str theirs,
                 uint8_t out[SHARED_MAX], size_t *n)
{
    if (k->group == TLS_X25519) {
        *n = X25519_SIZE;
        return theirs.n == X25519_SIZE &&
               x25519(k->private, bytes_of(theirs), out);
    }
    *n = ec_size(curve_of(k->group));
    return ec_ecdh(curve_of(k->group), k->private, bytes_of(theirs), theirs.n,
                   out) == 0;
}
