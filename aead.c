/*
 * aead.c - the construction that both ciphers share.
 *
 * A key stream hides the message; a sum over the additional data, the
 * ciphertext and both lengths, each padded to whole blocks, and masked by the
 * stream's first bytes, is the tag. What differs, behind struct aead_body, is
 * stream and sum (aeadgcm.c, aeadchacha.c) and how the lengths are written.
 *
 * The sum is always over the ciphertext, which lies in one piece, so that only
 * the stream has to remember where in a unit the last part ended.
 */
#include "aead_impl.h"

#include <assert.h>

size_t aead_key_size(enum aead_type type)
{
    return type == AEAD_AES_128_GCM ? 16 : 32;
}

static void init(struct aead *a, enum aead_type type, const uint8_t *key,
                 bool portable)
{
    assert(type <= AEAD_CHACHA20_POLY1305);
    if (type == AEAD_CHACHA20_POLY1305)
        aead_chacha_init(a, key, portable);
    else
        aead_gcm_init(a, key, aead_key_size(type), portable);
}

void aead_init(struct aead *a, enum aead_type type, const uint8_t *key)
{
    init(a, type, key, false);
}

void aead_init_portable(struct aead *a, enum aead_type type, const uint8_t *key)
{
    init(a, type, key, true);
}

void aead_release(struct aead *a)
{
    wipe(a, sizeof(*a));
}

/* A message under way. */
struct message {
    const struct aead *a;
    struct aead_stream stream;
    uint8_t unit[AEAD_UNIT]; /* of the stream; all but `left` is used up */
    size_t left;
    struct aead_mac mac;
};

/* The next unit of the stream itself. */
static void next_unit(struct message *m)
{
    memset(m->unit, 0, sizeof(m->unit));
    m->a->body->stream(m->a, &m->stream, m->unit, m->unit, 1);
}

static void message_init(struct message *m, const struct aead *a,
                         const uint8_t *nonce)
{
    m->a = a;
    memcpy(m->stream.nonce, nonce, AEAD_NONCE_SIZE);
    m->stream.counter = a->body->counter;
    next_unit(m);
    a->body->mac_init(&m->mac, m->unit);
    m->stream.counter = a->body->counter + 1;
    m->left = 0;
}

static void xor_bytes(struct message *m, const uint8_t *in, uint8_t *out,
                      size_t n)
{
    const uint8_t *with = m->unit + AEAD_UNIT - m->left;

    for (size_t i = 0; i < n; i++)
        out[i] = in[i] ^ with[i];
    m->left -= n;
}

static void crypt_part(struct message *m, const uint8_t *in, uint8_t *out,
                       size_t n)
{
    size_t head = (size_t)min_u64(n, m->left), whole;

    if (n == 0)
        return;
    xor_bytes(m, in, out, head);
    in += head, out += head, n -= head;
    whole = n / AEAD_UNIT;
    if (whole)
        m->a->body->stream(m->a, &m->stream, in, out, whole);
    in += whole * AEAD_UNIT, out += whole * AEAD_UNIT, n %= AEAD_UNIT;
    if (n) {
        next_unit(m);
        m->left = AEAD_UNIT;
        xor_bytes(m, in, out, n);
    }
}

/* Bytes, then zeros up to a whole block. */
static void mac_padded(struct message *m, const uint8_t *p, size_t n)
{
    size_t rest = n % AEAD_BLOCK;
    uint8_t last[AEAD_BLOCK] = {0};

    if (n >= AEAD_BLOCK)
        m->a->body->mac_add(m->a, &m->mac, p, n / AEAD_BLOCK);
    if (rest) {
        memcpy(last, p + n - rest, rest);
        m->a->body->mac_add(m->a, &m->mac, last, 1);
    }
}

static void mac_message(struct message *m, struct str aad, const uint8_t *p,
                        size_t n, uint8_t tag[AEAD_TAG_SIZE])
{
    uint8_t lengths[AEAD_BLOCK];

    if (m->a->body->little) {
        put_u64le(lengths, aad.n);
        put_u64le(lengths + 8, n);
    } else {
        put_u64be(lengths, (uint64_t)aad.n * 8);
        put_u64be(lengths + 8, (uint64_t)n * 8);
    }
    mac_padded(m, (const uint8_t *)aad.p, aad.n);
    mac_padded(m, p, n);
    m->a->body->mac_add(m->a, &m->mac, lengths, 1);
    m->a->body->mac_final(&m->mac, tag);
}

void aead_seal(const struct aead *a, const uint8_t nonce[AEAD_NONCE_SIZE],
               struct str aad, const struct str *parts, size_t n_parts,
               uint8_t *out, uint8_t tag[AEAD_TAG_SIZE])
{
    struct message m;
    size_t n = 0;

    message_init(&m, a, nonce);
    for (size_t i = 0; i < n_parts; i++) {
        crypt_part(&m, (const uint8_t *)parts[i].p, out + n, parts[i].n);
        n += parts[i].n;
    }
    assert(n <= AEAD_LEN_MAX);
    mac_message(&m, aad, out, n, tag);
    wipe(&m, sizeof(m));
}

bool aead_open(const struct aead *a, const uint8_t nonce[AEAD_NONCE_SIZE],
               struct str aad, const uint8_t *in, size_t n,
               const uint8_t tag[AEAD_TAG_SIZE], uint8_t *out)
{
    struct message m;
    uint8_t want[AEAD_TAG_SIZE];
    bool same;

    assert(n <= AEAD_LEN_MAX);
    message_init(&m, a, nonce);
    mac_message(&m, aad, in, n, want);
    same = ct_eq(want, tag, sizeof(want));
    if (same)
        crypt_part(&m, in, out, n);
    wipe(&m, sizeof(m));
    wipe(want, sizeof(want)); /* a forger's tag for the asking */
    return same;
}
