/*
 * der.c - see der.h.
 *
 *   DER   tag | length | contents, where the length is one byte below 0x80, or
 *         0x80 + n and n bytes, big-endian, none of them needless
 *   PEM   -----BEGIN type-----, headers, base64 in lines, -----END type-----
 */
#include "der.h"

#include "crypto.h"
#include "hash.h"

#include <time.h>

#define LEN_BYTES_MAX 4 /* of a length: up to 4 GB */
#define PEM_LINE 48     /* bytes in a line of 64 digits */

static uint8_t byte(struct str s, size_t i)
{
    return (uint8_t)s.p[i];
}

/* --- Reading. ------------------------------------------------------------ */

/* The length at in[1..]; *n_header becomes what stands before the contents. */
static bool read_length(struct str in, size_t *n_header, size_t *len)
{
    size_t n;

    if (in.n < 2)
        return false;
    *len = byte(in, 1);
    *n_header = 2;
    if (*len < 0x80)
        return true;
    n = *len - 0x80;
    if (n == 0 || n > LEN_BYTES_MAX || in.n - 2 < n || byte(in, 2) == 0)
        return false;
    *len = 0;
    for (size_t i = 0; i < n; i++)
        *len = *len << 8 | byte(in, 2 + i);
    *n_header += n;
    return *len >= 0x80;
}

bool der_any(struct str *in, unsigned *tag, struct str *body)
{
    size_t n_header, len;

    if (!read_length(*in, &n_header, &len) || len > in->n - n_header)
        return false;
    if ((byte(*in, 0) & 0x1f) == 0x1f)
        return false; /* a tag of several bytes */
    *tag = byte(*in, 0);
    *body = (struct str){in->p + n_header, len};
    *in = (struct str){body->p + len, in->n - n_header - len};
    return true;
}

bool der_get(struct str *in, unsigned tag, struct str *body)
{
    struct str rest = *in, b;
    unsigned t;

    if (!der_any(&rest, &t, &b) || t != tag)
        return false;
    *in = rest;
    *body = b;
    return true;
}

bool der_get_whole(struct str *in, unsigned tag, struct str *whole)
{
    struct str start = *in, body;

    if (!der_get(in, tag, &body))
        return false;
    *whole = (struct str){start.p, start.n - in->n};
    return true;
}

bool der_opt(struct str *in, unsigned tag, struct str *body, bool *there)
{
    if (in->n == 0 || byte(*in, 0) != tag) {
        *there = false;
        return true;
    }
    if (!der_get(in, tag, body))
        return false;
    *there = true;
    return true;
}

bool der_uint(struct str *in, struct str *magnitude)
{
    struct str rest = *in, b;

    if (!der_get(&rest, DER_INT, &b) || b.n == 0 || byte(b, 0) >= 0x80)
        return false;
    if (byte(b, 0) == 0) {
        b = (struct str){b.p + 1, b.n - 1};
        if (b.n > 0 && byte(b, 0) < 0x80)
            return false; /* a needless zero */
    }
    *in = rest;
    *magnitude = b;
    return true;
}

bool der_small(struct str *in, unsigned *v)
{
    struct str rest = *in, m;
    uint32_t n = 0;

    if (!der_uint(&rest, &m) || m.n > 4)
        return false;
    for (size_t i = 0; i < m.n; i++)
        n = n << 8 | byte(m, i);
    if (n > INT32_MAX)
        return false;
    *in = rest;
    *v = n;
    return true;
}

bool der_bool(struct str *in, bool *v)
{
    struct str rest = *in, b;

    if (!der_get(&rest, DER_BOOL, &b) || b.n != 1)
        return false;
    if (byte(b, 0) != 0 && byte(b, 0) != 0xff)
        return false;
    *in = rest;
    *v = byte(b, 0) != 0;
    return true;
}

/* Bits that are not used are zero, by DER. */
static bool read_bits(struct str *in, struct str *bytes, unsigned *n_unused)
{
    struct str rest = *in, b;

    if (!der_get(&rest, DER_BITS, &b) || b.n == 0 || byte(b, 0) > 7)
        return false;
    *n_unused = byte(b, 0);
    b = (struct str){b.p + 1, b.n - 1};
    if (*n_unused && (b.n == 0 || byte(b, b.n - 1) & ((1U << *n_unused) - 1)))
        return false;
    *in = rest;
    *bytes = b;
    return true;
}

bool der_bits(struct str *in, struct str *bytes)
{
    struct str rest = *in, b;
    unsigned n_unused;

    if (!read_bits(&rest, &b, &n_unused) || n_unused)
        return false;
    *in = rest;
    *bytes = b;
    return true;
}

bool der_flags(struct str *in, unsigned *flags)
{
    struct str b;
    unsigned n_unused;

    if (!read_bits(in, &b, &n_unused))
        return false;
    *flags = 0;
    for (size_t i = 0; i < 32 && i / 8 < b.n; i++)
        if (byte(b, i / 8) >> (7 - i % 8) & 1)
            *flags |= 1U << i;
    return true;
}

/* Two digits off the front of s; -1 if there are none. */
static int two_digits(struct str *s)
{
    int tens, ones;

    if (s->n < 2)
        return -1;
    tens = s->p[0] - '0';
    ones = s->p[1] - '0';
    if (tens < 0 || tens > 9 || ones < 0 || ones > 9)
        return -1;
    *s = (struct str){s->p + 2, s->n - 2};
    return tens * 10 + ones;
}

/* RFC 5280, 4.1.2.5: with seconds, of UTC, without fractions. */
static bool parse_time(struct str s, bool general, int64_t *t)
{
    int high = general ? two_digits(&s) : 0, low = two_digits(&s);
    int month = two_digits(&s), day = two_digits(&s), hour = two_digits(&s);
    int minute = two_digits(&s), second = two_digits(&s);
    struct tm tm;

    if (high < 0 || low < 0 || month < 1 || day < 1 || hour < 0 || hour > 23 ||
        minute < 0 || minute > 59 || second < 0 || second > 59 ||
        !str_eqz(s, "Z"))
        return false;
    if (!general)
        high = low < 50 ? 20 : 19;
    tm = (struct tm){.tm_year = high * 100 + low - 1900,
                     .tm_mon = month - 1,
                     .tm_mday = day,
                     .tm_hour = hour,
                     .tm_min = minute,
                     .tm_sec = second};
    *t = timegm(&tm);
    return tm.tm_mon == month - 1 && tm.tm_mday == day; /* else February 30 */
}

bool der_time(struct str *in, int64_t *t)
{
    struct str rest = *in, b;
    int64_t when;
    unsigned tag;

    if (!der_any(&rest, &tag, &b) ||
        (tag != DER_UTC_TIME && tag != DER_GENERAL_TIME) ||
        !parse_time(b, tag == DER_GENERAL_TIME, &when))
        return false;
    *in = rest;
    *t = when;
    return true;
}

/* --- Writing. ------------------------------------------------------------ */

size_t der_begin(struct buf *b, unsigned tag)
{
    buf_addc(b, (char)tag);
    buf_addc(b, 0);
    return b->len;
}

/* The length is known now; the contents move if it takes more than a byte. */
void der_end(struct buf *b, size_t at)
{
    size_t len = b->len - at;
    unsigned n = 0;

    if (len < 0x80) {
        b->data[at - 1] = (uint8_t)len;
        return;
    }
    for (size_t rest = len; rest; rest >>= 8)
        n++;
    buf_reserve(b, n);
    memmove(b->data + at + n, b->data + at, len);
    b->len += n;
    b->data[at - 1] = (uint8_t)(0x80 + n);
    for (size_t rest = len; n; rest >>= 8)
        b->data[at + --n] = (uint8_t)rest;
}

void der_put(struct buf *b, unsigned tag, struct str body)
{
    size_t at = der_begin(b, tag);

    buf_addstr(b, body);
    der_end(b, at);
}

void der_put_uint(struct buf *b, struct str magnitude)
{
    size_t at = der_begin(b, DER_INT);

    while (magnitude.n && magnitude.p[0] == 0)
        magnitude = (struct str){magnitude.p + 1, magnitude.n - 1};
    if (magnitude.n == 0 || byte(magnitude, 0) >= 0x80)
        buf_addc(b, 0); /* zero itself, or no sign */
    buf_addstr(b, magnitude);
    der_end(b, at);
}

void der_put_bits(struct buf *b, struct str bytes, unsigned n_unused)
{
    size_t at = der_begin(b, DER_BITS);

    buf_addc(b, (char)n_unused);
    buf_addstr(b, bytes);
    der_end(b, at);
}

/* UTCTime as long as it goes (RFC 5280, 4.1.2.5). */
void der_put_time(struct buf *b, int64_t t)
{
    time_t when = (time_t)t;
    struct tm tm;
    size_t at;

    gmtime_r(&when, &tm);
    if (tm.tm_year >= 50 && tm.tm_year < 150) {
        at = der_begin(b, DER_UTC_TIME);
        buf_printf(b, "%02d", tm.tm_year % 100);
    } else {
        at = der_begin(b, DER_GENERAL_TIME);
        buf_printf(b, "%04d", tm.tm_year + 1900);
    }
    buf_printf(b, "%02d%02d%02d%02d%02dZ", tm.tm_mon + 1, tm.tm_mday,
               tm.tm_hour, tm.tm_min, tm.tm_sec);
    der_end(b, at);
}

/* --- PEM. ---------------------------------------------------------------- */

#define BEGIN "-----BEGIN "
#define END "-----END "
#define DASHES "-----"

/* The next line, without what is blank at its end. False at the end of text. */
static bool next_line(struct str *text, struct str *line)
{
    if (text->n == 0)
        return false;
    str_cut(text, '\n', line);
    while (line->n && strchr(" \t\r", line->p[line->n - 1]))
        line->n--;
    return true;
}

/* "-----BEGIN type-----" */
static bool is_mark(struct str line, const char *mark, struct str *type)
{
    size_t n_mark = strlen(mark), n_dashes = strlen(DASHES);

    if (!str_has_prefix(line, mark) || line.n < n_mark + n_dashes ||
        memcmp(line.p + line.n - n_dashes, DASHES, n_dashes) != 0)
        return false;
    *type = (struct str){line.p + n_mark, line.n - n_mark - n_dashes};
    return true;
}

static void read_header(struct str line, struct pem_block *block)
{
    if (str_has_prefix(line, "Proc-Type:") &&
        memmem(line.p, line.n, "ENCRYPTED", 9))
        block->encrypted = true;
}

/* Lines up to the end's mark; digits, without blanks, to b. */
static bool read_digits(struct str *text, struct pem_block *block,
                        struct buf *b)
{
    struct str line, type;
    bool in_headers = true;

    while (next_line(text, &line)) {
        if (str_has_prefix(line, DASHES))
            return is_mark(line, END, &type) && str_eq(type, block->type);
        if (in_headers && line.n && memchr(line.p, ':', line.n)) {
            read_header(line, block);
            continue;
        }
        in_headers = false;
        for (size_t i = 0; i < line.n; i++)
            if (line.p[i] != ' ' && line.p[i] != '\t')
                buf_addc(b, line.p[i]);
    }
    return false;
}

static void wipe_buf(struct buf *b)
{
    wipe(b->data, b->cap);
    b->len = 0;
}

/* Nothing secret is left in memory that is let go. */
static bool read_body(struct str *text, struct pem_block *block)
{
    const char *end = memmem(text->p, text->n, END, strlen(END));
    struct buf digits = {0};
    size_t bad;
    bool ok;

    wipe_buf(&block->der);
    block->encrypted = false;
    if (!end)
        return false;
    buf_reserve(&digits, (size_t)(end - text->p));
    ok = read_digits(text, block, &digits);
    if (ok) {
        if (base64_room(digits.len) > block->der.cap)
            buf_release(&block->der);
        buf_reserve(&block->der, base64_room(digits.len));
        ok = base64_read(buf_str(&digits), block->der.data, &block->der.len,
                         &bad);
    }
    if (!ok)
        wipe_buf(&block->der);
    wipe_buf(&digits);
    buf_release(&digits);
    return ok;
}

int pem_next(struct str *text, struct pem_block *block, struct err *e)
{
    struct str line;

    while (next_line(text, &line)) {
        if (!is_mark(line, BEGIN, &block->type))
            continue;
        if (!read_body(text, block))
            return err_set(e, PEM_EINVAL, "malformed PEM block \"%.*s\"",
                           (int)min_u64(block->type.n, 64), block->type.p);
        return 1;
    }
    return 0;
}

void pem_release(struct pem_block *block)
{
    wipe_buf(&block->der);
    buf_release(&block->der);
    *block = (struct pem_block){0};
}

void pem_put(struct buf *b, const char *type, struct str der)
{
    buf_printf(b, BEGIN "%s" DASHES "\n", type);
    for (size_t i = 0; i < der.n; i += PEM_LINE) {
        base64_encode(b, der.p + i, min_u64(PEM_LINE, der.n - i));
        buf_addc(b, '\n');
    }
    buf_printf(b, END "%s" DASHES "\n", type);
}
