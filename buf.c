/*
 * buf.c - growable bytes, borrowed strings, shared blobs, errors.
 *
 * A buffer grows by doubling, so n bytes added one by one cost O(n) copies in
 * all; a blob is one allocation, count and bytes together.
 */
#include "buf.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>

static _Noreturn void out_of_memory(size_t n)
{
    fprintf(stderr, "etcd: out of memory (asked for %zu bytes)\n", n);
    abort();
}

void *xmalloc(size_t n)
{
    void *p = malloc(n ? n : 1);

    if (!p)
        out_of_memory(n);
    return p;
}

void *xcalloc(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size ? size : 1);

    if (!p)
        out_of_memory(n * size);
    return p;
}

void *xrealloc(void *p, size_t n)
{
    p = realloc(p, n ? n : 1);
    if (!p)
        out_of_memory(n);
    return p;
}

char *xstrdup(const char *s)
{
    return xstrndup(s, strlen(s));
}

char *xstrndup(const char *s, size_t n)
{
    char *p = xmalloc(n + 1);

    if (n)
        memcpy(p, s, n);
    p[n] = '\0';
    return p;
}

char *xasprintf(const char *fmt, ...)
{
    struct buf b = {0};
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&b, fmt, ap);
    va_end(ap);
    return buf_steal(&b);
}

/* --- str ---------------------------------------------------------------- */

int str_cmp(struct str a, struct str b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;

    return c ? c : (a.n > b.n) - (a.n < b.n);
}

struct str str_trim(struct str a)
{
    while (a.n && (a.p[0] == ' ' || a.p[0] == '\t'))
        a.p++, a.n--;
    while (a.n && (a.p[a.n - 1] == ' ' || a.p[a.n - 1] == '\t'))
        a.n--;
    return a;
}

bool str_to_u64(struct str s, uint64_t *out)
{
    uint64_t v = 0;

    if (s.n == 0)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        unsigned d = (unsigned char)s.p[i] - (unsigned)'0';

        if (d > 9 || v > (UINT64_MAX - d) / 10)
            return false;
        v = v * 10 + d;
    }
    *out = v;
    return true;
}

bool str_to_i64(struct str s, int64_t *out)
{
    bool minus = s.n && s.p[0] == '-';
    uint64_t v;

    if (s.n && (s.p[0] == '-' || s.p[0] == '+'))
        s.p++, s.n--;
    if (!str_to_u64(s, &v) || v > (uint64_t)INT64_MAX + minus)
        return false;
    *out = minus ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

bool str_hex_to_u64(struct str s, uint64_t *out)
{
    uint64_t v = 0;

    if (s.n == 0 || s.n > 16)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        int d = hex_digit(s.p[i]);

        if (d < 0)
            return false;
        v = v << 4 | (unsigned)d;
    }
    *out = v;
    return true;
}

int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* --- buf ---------------------------------------------------------------- */

void buf_release(struct buf *b)
{
    free(b->data);
    *b = (struct buf){0};
}

void buf_trim(struct buf *b, size_t keep)
{
    if (b->cap > keep && b->len == 0)
        buf_release(b);
}

uint8_t *buf_grow(struct buf *b, size_t n)
{
    size_t cap = b->cap ? b->cap : 64;

    if (n > SIZE_MAX / 2 - b->len)
        out_of_memory(n);
    while (cap < b->len + n)
        cap *= 2;
    b->data = xrealloc(b->data, cap);
    b->cap = cap;
    return b->data;
}

void buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
    va_list again;
    int n;

    va_copy(again, ap);
    buf_reserve(b, 1);
    n = vsnprintf((char *)b->data + b->len, b->cap - b->len, fmt, ap);
    if (n < 0)
        abort(); /* a format that cannot be printed is a bug */
    if ((size_t)n >= b->cap - b->len) {
        buf_reserve(b, (size_t)n + 1);
        vsnprintf((char *)b->data + b->len, b->cap - b->len, fmt, again);
    }
    va_end(again);
    b->len += (size_t)n;
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(b, fmt, ap);
    va_end(ap);
}

void buf_add_u64(struct buf *b, uint64_t v)
{
    char digits[20];
    size_t i = sizeof(digits);

    do
        digits[--i] = (char)('0' + v % 10);
    while (v /= 10);
    buf_add(b, digits + i, sizeof(digits) - i);
}

void buf_add_utf8(struct buf *b, uint32_t c)
{
    uint8_t out[4];
    size_t n = 0;

    if (c < 0x80) {
        out[n++] = (uint8_t)c;
    } else if (c < 0x800) {
        out[n++] = (uint8_t)(0xc0 | c >> 6);
        out[n++] = (uint8_t)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        out[n++] = (uint8_t)(0xe0 | c >> 12);
        out[n++] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
        out[n++] = (uint8_t)(0x80 | (c & 0x3f));
    } else {
        out[n++] = (uint8_t)(0xf0 | c >> 18);
        out[n++] = (uint8_t)(0x80 | (c >> 12 & 0x3f));
        out[n++] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
        out[n++] = (uint8_t)(0x80 | (c & 0x3f));
    }
    buf_add(b, out, n);
}

void buf_consume(struct buf *b, size_t n)
{
    if (n >= b->len) {
        b->len = 0;
        return;
    }
    if (n == 0)
        return;
    memmove(b->data, b->data + n, b->len - n);
    b->len -= n;
}

const char *buf_z(struct buf *b)
{
    buf_reserve(b, 1);
    b->data[b->len] = '\0';
    return (const char *)b->data;
}

char *buf_steal(struct buf *b)
{
    char *p;

    buf_z(b);
    p = (char *)b->data;
    *b = (struct buf){0};
    return p;
}

/* --- blob --------------------------------------------------------------- */

struct blob *blob_new(const void *p, size_t n)
{
    struct blob *b;

    if (n > UINT32_MAX - sizeof(*b))
        out_of_memory(n);
    b = xmalloc(sizeof(*b) + n);
    b->refs = 1;
    b->len = (uint32_t)n;
    if (p && n)
        memcpy(b->data, p, n);
    return b;
}

struct blob *blob_ref(struct blob *b)
{
    if (b)
        __atomic_fetch_add(&b->refs, 1, __ATOMIC_RELAXED);
    return b;
}

void blob_unref(struct blob *b)
{
    if (b && __atomic_fetch_sub(&b->refs, 1, __ATOMIC_ACQ_REL) == 1)
        free(b);
}

/* --- err ---------------------------------------------------------------- */

int err_set(struct err *e, int code, const char *fmt, ...)
{
    va_list ap;

    if (!e)
        return code;
    e->code = code;
    va_start(ap, fmt);
    vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
    va_end(ap);
    return code;
}

int err_sys(struct err *e, int code, const char *fmt, ...)
{
    int saved = errno;
    va_list ap;
    size_t n;

    if (!e)
        return code;
    e->code = code;
    va_start(ap, fmt);
    vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
    va_end(ap);
    n = strlen(e->msg);
    snprintf(e->msg + n, sizeof(e->msg) - n, ": %s", strerror(saved));
    if (n + 2 < sizeof(e->msg)) /* etcd's users know these in lower case */
        e->msg[n + 2] = (char)tolower((unsigned char)e->msg[n + 2]);
    errno = saved;
    return code;
}
