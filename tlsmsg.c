/*
 * tlsmsg.c - messages of the handshake in pieces: bytes in, bytes out, and the
 * transcript of all that was said.
 *
 *   type 1 | length 3 | body
 *
 * Within a body all is numbers, big-endian, and vectors: a length of 1, 2 or 3
 * bytes and so many bytes.
 */
#include "tls_impl.h"

/* --- Reading. ------------------------------------------------------------- */

struct reader reader_of(struct str s)
{
    return (struct reader){bytes_of(s), s.n, false};
}

struct str read_bytes(struct reader *r, size_t n)
{
    struct str s = {(const char *)r->p, n};

    if (n > r->n) {
        *r = (struct reader){r->p, 0, true};
        return (struct str){"", 0};
    }
    if (n == 0)
        return (struct str){"", 0};
    r->p += n;
    r->n -= n;
    return s;
}

unsigned read_uint(struct reader *r, size_t n_bytes)
{
    struct str s = read_bytes(r, n_bytes);
    unsigned v = 0;

    for (size_t i = 0; i < s.n; i++)
        v = v << 8 | bytes_of(s)[i];
    return v;
}

struct str read_vector(struct reader *r, size_t n_bytes)
{
    return read_bytes(r, read_uint(r, n_bytes));
}

bool reader_done(const struct reader *r)
{
    return !r->bad && r->n == 0;
}

bool list_has(struct str list, unsigned v)
{
    struct reader r = reader_of(list);

    while (r.n >= 2)
        if (read_uint(&r, 2) == v)
            return true;
    return false;
}

/* --- Writing. ------------------------------------------------------------- */

void put_uint(struct buf *b, unsigned v, size_t n_bytes)
{
    for (size_t i = n_bytes; i-- > 0;)
        buf_addc(b, (char)(v >> 8 * i & 0xff));
}

size_t vector_begin(struct buf *b, size_t n_bytes)
{
    put_uint(b, 0, n_bytes);
    return b->len;
}

void vector_end(struct buf *b, size_t at, size_t n_bytes)
{
    size_t n = b->len - at;

    assert(n < (size_t)1 << 8 * n_bytes);
    for (size_t i = 0; i < n_bytes; i++)
        b->data[at - 1 - i] = (uint8_t)(n >> 8 * i);
}

void put_vector(struct buf *b, size_t n_bytes, struct str s)
{
    size_t at = vector_begin(b, n_bytes);

    buf_addstr(b, s);
    vector_end(b, at, n_bytes);
}

void put_extension(struct buf *b, enum extension type, struct str s)
{
    put_uint(b, type, 2);
    put_vector(b, 2, s);
}

/* --- Extensions. ---------------------------------------------------------- */

static const uint16_t extensions[N_EXTENSIONS] = {
    EXT_SERVER_NAME, EXT_GROUPS,        EXT_POINT_FORMATS, EXT_SCHEMES,
    EXT_ALPN,        EXT_MASTER_SECRET, EXT_VERSIONS,      EXT_COOKIE,
    EXT_AUTHORITIES, EXT_KEY_SHARE,     EXT_RENEGOTIATION,
};

static size_t index_of(unsigned type)
{
    size_t i = 0;

    while (i < N_EXTENSIONS && extensions[i] != type)
        i++;
    return i;
}

int extensions_read(struct tls *t, struct str list, struct extensions *x)
{
    struct reader r = reader_of(list);

    memset(x, 0, sizeof(*x));
    while (r.n > 0) {
        size_t i = index_of(read_uint(&r, 2));
        struct str body = read_vector(&r, 2);

        if (r.bad)
            return tls_malformed(t, "extension");
        if (i == N_EXTENSIONS) {
            x->unknown = true;
            continue;
        }
        if (x->has & 1u << i)
            return tls_fail(t, ALERT_ILLEGAL_PARAMETER,
                            "tls: peer sent an extension twice");
        x->has |= 1u << i;
        x->body[i] = body;
    }
    return 0;
}

const struct str *extension(const struct extensions *x, enum extension type)
{
    size_t i = index_of(type);

    assert(i < N_EXTENSIONS);
    return x->has & 1u << i ? &x->body[i] : NULL;
}

int extensions_only(struct tls *t, const struct extensions *x,
                    const enum extension *allowed, size_t n)
{
    unsigned left = x->has;

    for (size_t i = 0; i < n; i++)
        left &= ~(1u << index_of(allowed[i]));
    if (left || x->unknown)
        return tls_fail(t, ALERT_UNSUPPORTED_EXTENSION,
                        "tls: server sent an unsolicited extension");
    return 0;
}

/* --- Messages of ours. ---------------------------------------------------- */

struct buf *message_begin(struct tls *t, enum message_type type)
{
    struct buf *b = &t->hs->out;

    assert(b->len == 0);
    put_uint(b, type, 1);
    put_uint(b, 0, 3);
    return b;
}

void message_end(struct tls *t)
{
    struct buf *b = &t->hs->out;

    vector_end(b, MESSAGE_HEAD, 3);
    transcript_add(t, buf_str(b));
    tls_send(t, RECORD_HANDSHAKE, b->data, b->len);
    buf_clear(b);
}

/* --- The transcript (RFC 8446, 4.4.1). ------------------------------------ */

void transcript_add(struct tls *t, struct str raw)
{
    struct handshake *hs = t->hs;

    if (hs->hashed)
        hash_update(&hs->hash, raw.p, raw.n);
    if (!hs->hashed || t->version == TLS_1_2)
        buf_addstr(&hs->raw, raw);
}

void transcript_start(struct tls *t)
{
    struct handshake *hs = t->hs;

    assert(!hs->hashed && t->version != 0);
    hash_init(&hs->hash, t->suite->hash);
    hash_update(&hs->hash, hs->raw.data, hs->raw.len);
    hs->hashed = true;
    if (t->version == TLS_1_3)
        buf_release(&hs->raw);
}

void transcript_peek(const struct tls *t, uint8_t out[SECRET_MAX])
{
    assert(t->hs->hashed);
    hash_peek(&t->hs->hash, out);
}

/* What came before is replaced by a message that is its hash. */
void transcript_retry(struct tls *t)
{
    struct handshake *hs = t->hs;
    uint8_t m[MESSAGE_HEAD + SECRET_MAX] = {MSG_HASH, 0, 0};
    size_t n = hash_size(t->suite->hash);

    m[3] = (uint8_t)n;
    transcript_peek(t, m + MESSAGE_HEAD);
    hash_init(&hs->hash, t->suite->hash);
    hash_update(&hs->hash, m, MESSAGE_HEAD + n);
}
