/*
 * tlsrecord.c - records, and how they are protected.
 *
 *   type 1 | version 2 | length 2 | bytes
 *
 *                 the bytes                           vouched for, too
 *   plain         data
 *   TLS 1.3       seal(data, type 1, zeros), tag 16   the header
 *   TLS 1.2 GCM   nonce 8, seal(data), tag 16         number 8, type 1,
 *   TLS 1.2 ChaCha         seal(data), tag 16         version 2, data's length 2
 *
 * The nonce is the record's number, counted from the last change of keys, xored
 * into an IV of 12 bytes; but in TLS 1.2 GCM an IV of 4 bytes with 8 behind it
 * that the record carries, ours being the number again.
 *
 * Only what has a right to be is decrypted: lengths are checked first. What is
 * not authentic ends the connection, so no oracle remains.
 */
#include "tls_impl.h"

#define EXPLICIT 8 /* bytes of the nonce that a record carries */

static bool has_explicit(const struct tls *t)
{
    return t->version == TLS_1_2 && t->suite->aead != AEAD_CHACHA20_POLY1305;
}

static void nonce_of(const struct tls *t, const struct half *h,
                     const uint8_t *explicit, uint8_t out[AEAD_NONCE_SIZE])
{
    uint8_t number[8];

    memcpy(out, h->iv, AEAD_NONCE_SIZE);
    if (has_explicit(t)) {
        memcpy(out + AEAD_NONCE_SIZE - EXPLICIT, explicit, EXPLICIT);
        return;
    }
    put_u64be(number, h->seq);
    for (size_t i = 0; i < sizeof(number); i++)
        out[AEAD_NONCE_SIZE - sizeof(number) + i] ^= number[i];
}

static void put_head(uint8_t *p, unsigned type, unsigned version, size_t n)
{
    p[0] = (uint8_t)type;
    p[1] = (uint8_t)(version >> 8);
    p[2] = (uint8_t)version;
    p[3] = (uint8_t)(n >> 8);
    p[4] = (uint8_t)n;
}

#define AAD_MAX 13

/* What is vouched for beside the bytes; head is the record's. */
static struct str aad_of(const struct tls *t, const struct half *h,
                         const uint8_t *head, size_t n_plain,
                         uint8_t out[AAD_MAX])
{
    if (t->version == TLS_1_3)
        return (struct str){(const char *)head, RECORD_HEAD};
    put_u64be(out, h->seq);
    put_head(out + 8, head[0], TLS_1_2, n_plain);
    return (struct str){(const char *)out, AAD_MAX};
}

/* --- Out. ----------------------------------------------------------------- */

static size_t parts_size(const struct str *parts, size_t n)
{
    size_t size = 0;

    for (size_t i = 0; i < n; i++)
        size += parts[i].n;
    return size;
}

static void add_plain(struct tls *t, enum record_type type,
                      const struct str *parts, size_t n_parts)
{
    /* The first ClientHello says 1.0, for the sake of old middleboxes. */
    unsigned version =
        t->version == 0 && t->role == TLS_CLIENT ? 0x0301 : TLS_1_2;
    uint8_t head[RECORD_HEAD];

    put_head(head, type, version, parts_size(parts, n_parts));
    buf_add(&t->output, head, sizeof(head));
    for (size_t i = 0; i < n_parts; i++)
        buf_addstr(&t->output, parts[i]);
}

static void add_sealed(struct tls *t, enum record_type type,
                       const struct str *parts, size_t n_parts)
{
    struct half *h = &t->out;
    size_t n = parts_size(parts, n_parts);
    size_t front = RECORD_HEAD + (has_explicit(t) ? EXPLICIT : 0);
    uint8_t nonce[AEAD_NONCE_SIZE], aad[AAD_MAX], *p;
    unsigned outer = t->version == TLS_1_3 ? RECORD_DATA : type;

    assert(h->seq < UINT64_MAX);
    buf_reserve(&t->output, front + n + AEAD_TAG_SIZE);
    p = t->output.data + t->output.len;
    put_head(p, outer, TLS_1_2, front - RECORD_HEAD + n + AEAD_TAG_SIZE);
    if (has_explicit(t))
        put_u64be(p + RECORD_HEAD, h->seq);
    nonce_of(t, h, p + RECORD_HEAD, nonce);
    aead_seal(&h->aead, nonce, aad_of(t, h, p, n, aad), parts, n_parts,
              p + front, p + front + n);
    t->output.len += front + n + AEAD_TAG_SIZE;
    h->seq++;
}

void tls_seal(struct tls *t, enum record_type type, const struct str *parts,
              size_t n_parts)
{
    struct str with_type[PARTS_MAX + 1];
    char inner = (char)type;

    assert(n_parts <= PARTS_MAX);
    assert(parts_size(parts, n_parts) <= RECORD_MAX);
    if (!t->out.on) {
        add_plain(t, type, parts, n_parts);
    } else if (t->version == TLS_1_2) {
        add_sealed(t, type, parts, n_parts);
    } else {
        memcpy(with_type, parts, n_parts * sizeof(*parts));
        with_type[n_parts] = (struct str){&inner, 1};
        add_sealed(t, type, with_type, n_parts + 1);
    }
}

void tls_send(struct tls *t, enum record_type type, const void *p, size_t n)
{
    struct str rest = {p, n};

    while (rest.n > 0) {
        struct str part = {rest.p, min_u64(rest.n, RECORD_MAX)};

        tls_seal(t, type, &part, 1);
        rest = (struct str){rest.p + part.n, rest.n - part.n};
    }
}

void tls_send_alert(struct tls *t, int level, int alert)
{
    uint8_t body[2] = {(uint8_t)level, (uint8_t)alert};

    tls_send(t, RECORD_ALERT, body, sizeof(body));
}

/* --- In. ------------------------------------------------------------------ */

static int overflow(struct tls *t, size_t n)
{
    return tls_fail(t, ALERT_RECORD_OVERFLOW,
                    "tls: oversized record received with length %zu", n);
}

/* Strip the padding; the type is the last byte that is not zero. */
static int inner_type(struct tls *t, unsigned *type, struct str *data)
{
    while (data->n > 0 && data->p[data->n - 1] == 0)
        data->n--;
    if (data->n == 0)
        return tls_fail(t, ALERT_UNEXPECTED_MESSAGE,
                        "local error: tls: unexpected message");
    data->n--;
    *type = (uint8_t)data->p[data->n];
    return 0;
}

static int unprotect(struct tls *t, uint8_t *p, size_t n, unsigned *type,
                     struct str *data)
{
    struct half *h = &t->in;
    size_t front = RECORD_HEAD + (has_explicit(t) ? EXPLICIT : 0);
    uint8_t nonce[AEAD_NONCE_SIZE], aad[AAD_MAX];
    size_t plain;

    if (n < front + AEAD_TAG_SIZE)
        return tls_fail(t, ALERT_BAD_RECORD_MAC,
                        "local error: tls: bad record MAC");
    plain = n - front - AEAD_TAG_SIZE;
    assert(h->seq < UINT64_MAX);
    nonce_of(t, h, p + RECORD_HEAD, nonce);
    if (!aead_open(&h->aead, nonce, aad_of(t, h, p, plain, aad), p + front,
                   plain, p + front + plain, p + front))
        return tls_fail(t, ALERT_BAD_RECORD_MAC,
                        "local error: tls: bad record MAC");
    h->seq++;
    *data = (struct str){(char *)p + front, plain};
    if (plain > RECORD_MAX + (size_t)(t->version == TLS_1_3))
        return overflow(t, n - RECORD_HEAD);
    return t->version == TLS_1_3 ? inner_type(t, type, data) : 0;
}

/*
 * May a record of TLS 1.3 be plain although we have keys? Compatibility's CCS
 * (5), and the alert of a client that could not make keys of our ServerHello.
 */
static bool may_be_plain(const struct tls *t, unsigned type)
{
    if (t->version != TLS_1_3 || !t->hs)
        return false;
    return type == RECORD_CCS ||
           (type == RECORD_ALERT && t->in.seq == 0 && t->role == TLS_SERVER);
}

int tls_unseal(struct tls *t, uint8_t *p, size_t n, unsigned *type,
               struct str *data)
{
    *type = p[0];
    *data = (struct str){(char *)p + RECORD_HEAD, n - RECORD_HEAD};
    if (!t->in.on || may_be_plain(t, *type))
        return data->n > RECORD_MAX ? overflow(t, data->n) : 0;
    if (t->version == TLS_1_3 && *type != RECORD_DATA)
        return tls_fail(t, ALERT_UNEXPECTED_MESSAGE,
                        "local error: tls: unexpected message");
    return unprotect(t, p, n, type, data);
}
