/*
 * buf.h - bytes: growable buffers, borrowed strings, shared blobs, errors.
 *
 * Four words about memory are used in all headers. A function *borrows* what
 * it only looks at, *copies* what it needs later, *takes* what it will free,
 * and *returns owned* what the caller must free.
 *
 * Out of memory ends the process: every acknowledged write is on disk, so a
 * restart loses nothing, while half-done work in memory might.
 *
 * What is small and everywhere is inline, so that the length of a literal is
 * known where it is used, and a call is made only to grow, to copy or to
 * compare.
 */
#ifndef BUF_H
#define BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* --- Allocation that cannot fail; all return owned memory. -------------- */

void *xmalloc(size_t n);
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t n);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t n); /* adds a NUL */
char *xasprintf(const char *fmt, ...) PRINTF(1, 2);

/* --- str: a borrowed, length-counted string; need not end in NUL. ------- */

struct str {
    const char *p;
    size_t n;
};

#define STR(lit) ((struct str){(lit), sizeof(lit) - 1})
#define STR_FMT(s) (int)(s).n, (s).p /* for "%.*s" */

static inline struct str str_of(const char *s)
{
    return (struct str){s, strlen(s)};
}

static inline bool str_eq(struct str a, struct str b)
{
    return a.n == b.n && (b.n == 0 || memcmp(a.p, b.p, b.n) == 0);
}

static inline bool str_eqz(struct str a, const char *z)
{
    return str_eq(a, str_of(z));
}

static inline bool str_caseeqz(struct str a, const char *z) /* ASCII only */
{
    return a.n == strlen(z) && strncasecmp(a.p, z, a.n) == 0;
}

static inline bool str_has_prefix(struct str a, const char *z)
{
    return a.n >= strlen(z) && memcmp(a.p, z, strlen(z)) == 0;
}

int str_cmp(struct str a, struct str b); /* bytewise; <0, 0, >0 */
struct str str_trim(struct str a);       /* spaces and tabs at both ends */

/*
 * Cut s at the first sep: *head is what stands before it and s becomes what
 * follows. False, with *head all of s and s empty, if there is no sep.
 */
static inline bool str_cut(struct str *s, char sep, struct str *head)
{
    const char *at = s->n ? memchr(s->p, sep, s->n) : NULL;

    if (!at) {
        *head = *s;
        *s = (struct str){s->p + s->n, 0};
        return false;
    }
    *head = (struct str){s->p, (size_t)(at - s->p)};
    *s = (struct str){at + 1, s->n - head->n - 1};
    return true;
}

/* Decimal, no sign, no blanks. False if not a number or out of range. */
bool str_to_u64(struct str s, uint64_t *out);
bool str_to_i64(struct str s, int64_t *out); /* with an optional sign */
bool str_hex_to_u64(struct str s, uint64_t *out);
int hex_digit(char c); /* 0 to 15, of either case; -1 */

/* --- buf: owned, growable bytes. {0} is an empty buffer. ---------------- */

struct buf {
    uint8_t *data; /* NULL while cap is 0 */
    size_t len, cap;
};

void buf_release(struct buf *b);           /* frees; b is empty afterwards */
void buf_trim(struct buf *b, size_t keep); /* frees if cap is above keep */
/* What buf_reserve() falls back on: room for n more, and where data is now. */
uint8_t *buf_grow(struct buf *b, size_t n) __attribute__((returns_nonnull));

static inline void buf_clear(struct buf *b) /* keeps the memory */
{
    b->len = 0;
}

static inline void buf_reserve(struct buf *b, size_t n) /* n more bytes */
{
    if (n > b->cap - b->len)
        b->data = buf_grow(b, n);
}

static inline void buf_add(struct buf *b, const void *p, size_t n)
{
    if (n == 0)
        return;
    buf_reserve(b, n);
    memcpy(b->data + b->len, p, n);
    b->len += n;
}

static inline void buf_adds(struct buf *b, const char *z)
{
    buf_add(b, z, strlen(z));
}

static inline void buf_addstr(struct buf *b, struct str s)
{
    buf_add(b, s.p, s.n);
}

static inline void buf_addc(struct buf *b, char c)
{
    buf_reserve(b, 1);
    b->data[b->len++] = (uint8_t)c;
}

static inline struct str buf_str(const struct buf *b) /* borrowed */
{
    return b->len ? (struct str){(const char *)b->data, b->len}
                  : (struct str){"", 0};
}

void buf_printf(struct buf *b, const char *fmt, ...) PRINTF(2, 3);
void buf_vprintf(struct buf *b, const char *fmt, va_list ap);
void buf_add_u64(struct buf *b, uint64_t v); /* decimal digits */
/* The UTF-8 of a code point up to U+10FFFF (RFC 3629). */
void buf_add_utf8(struct buf *b, uint32_t c);
void buf_consume(struct buf *b, size_t n); /* drops n bytes at the front */
const char *buf_z(struct buf *b);          /* adds a NUL beyond len; borrowed */
char *buf_steal(struct buf *b);            /* returns owned, NUL-terminated */

/* Fixed-width integers, whatever the machine's byte order. */
static inline uint32_t get_u32le(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
           (uint32_t)p[3] << 24;
}

static inline uint64_t get_u64le(const uint8_t *p)
{
    return get_u32le(p) | (uint64_t)get_u32le(p + 4) << 32;
}

static inline void put_u32le(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
    p[2] = (uint8_t)(v >> 16);
    p[3] = (uint8_t)(v >> 24);
}

static inline void put_u64le(uint8_t *p, uint64_t v)
{
    put_u32le(p, (uint32_t)v);
    put_u32le(p + 4, (uint32_t)(v >> 32));
}

static inline uint32_t get_u32be(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 |
           p[3];
}

static inline void put_u32be(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

static inline uint64_t get_u64be(const uint8_t *p)
{
    return (uint64_t)get_u32be(p) << 32 | get_u32be(p + 4);
}

static inline void put_u64be(uint8_t *p, uint64_t v)
{
    put_u32be(p, (uint32_t)(v >> 32));
    put_u32be(p + 4, (uint32_t)v);
}

/* --- blob: immutable bytes shared by reference count. ------------------- */

/*
 * The data of a log entry or the value of a key: written once, then read by
 * the log, the disk queue, the peers and the store at once. The count is
 * atomic, so that any thread may take or drop a reference.
 */
struct blob {
    int refs;
    uint32_t len;
    uint8_t data[];
};

struct blob *blob_new(const void *p, size_t n); /* copies; p may be NULL */
struct blob *blob_ref(struct blob *b);          /* NULL gives NULL */
void blob_unref(struct blob *b);                /* NULL is fine */
static inline struct str blob_str(const struct blob *b)
{
    return b ? (struct str){(const char *)b->data, b->len}
             : (struct str){"", 0};
}

/* --- err: what failed, where, and what to do. --------------------------- */

#define ERR_MSG_MAX 1024

struct err {
    int code; /* the module's negative MODULE_E* code */
    char msg[ERR_MSG_MAX];
};

/* Fill e (which may be NULL) and return code. err_sys adds errno's text. */
int err_set(struct err *e, int code, const char *fmt, ...) PRINTF(3, 4);
int err_sys(struct err *e, int code, const char *fmt, ...) PRINTF(3, 4);

#endif
