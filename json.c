/*
 * json.c - reading and writing JSON.
 *
 * READING   A tokenizer (json_read) holds its whole state in struct
 *           json_reader: what may come next, and one bit for each open level
 *           that says whether it is an object. So depth costs a bit, not a
 *           stack frame. json_parse builds its tree from the tokens.
 *
 * TREE      All nodes and strings of a tree live in a list of chunks, which
 *           grow geometrically and hang on the root: json_free() is a few
 *           calls of free(), whatever the size.
 *
 * STRINGS   Most need no change on their way in or out, so both directions
 *           look for the longest run of bytes that stand for themselves and
 *           borrow or copy it whole.
 *
 * The error texts are those of Go's encoding/json.
 */
#include "json.h"

#include <assert.h>
#include <stdio.h>
#include <strings.h>

/* What the tokenizer may meet next. */
enum {
    EXPECT_VALUE,
    EXPECT_VALUE_OR_END, /* after [ */
    EXPECT_NAME_OR_END,  /* after { */
    EXPECT_NAME,         /* after a comma in an object */
    EXPECT_COMMA,        /* after a value: a comma, a bracket or the end */
};

/* Why a byte does not stand for itself in a string. */
enum {
    STOP_READ = 1,  /* it ends the string, begins an escape or is wrong */
    STOP_WRITE = 2, /* it must be escaped */
    STOP_WIDE = 4,  /* it belongs to a UTF-8 sequence, or to none */
    STOP_BOTH = STOP_READ | STOP_WRITE,
};

/* clang-format off */
#define X16(v) v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v
static const uint8_t stops[256] = {
    X16(STOP_BOTH), X16(STOP_BOTH), /* control characters */
    ['"'] = STOP_BOTH, ['\\'] = STOP_BOTH,
    ['<'] = STOP_WRITE, ['>'] = STOP_WRITE, ['&'] = STOP_WRITE,
    [0x80] = X16(STOP_WIDE), X16(STOP_WIDE), X16(STOP_WIDE), X16(STOP_WIDE),
             X16(STOP_WIDE), X16(STOP_WIDE), X16(STOP_WIDE), X16(STOP_WIDE),
};
#undef X16
/* clang-format on */

/*
 * Eight bytes at a time. A byte's high bit is set in the result if that byte
 * is c with the bits of `either` ignored; where a high bit is set in x itself,
 * it may be set wrongly, and likewise above a byte below 0x20 in below_blank().
 * The callers stop at such bytes anyway.
 */
#define EACH(c) ((c)*UINT64_C(0x0101010101010101))

static uint64_t is_byte(uint64_t x, uint8_t c, uint8_t either)
{
    return ((x | EACH(either)) ^ EACH(c)) - EACH(1);
}

static uint64_t below_blank(uint64_t x)
{
    return x - EACH(0x20);
}

/* How many bytes at p[0..n), in eights, do not stop a reader or a writer. */
static inline size_t plain_eights(const uint8_t *p, size_t n, bool writes)
{
    size_t at = 0;
    uint64_t x, bad;

    for (; n - at >= 8; at += 8) {
        memcpy(&x, p + at, 8);
        bad = x | below_blank(x) | is_byte(x, '\\', 0);
        if (writes) /* " and & differ in one bit, and so do < and > */
            bad |= is_byte(x, '&', '"' ^ '&') | is_byte(x, '>', '<' ^ '>');
        else
            bad |= is_byte(x, '"', 0);
        if (bad & EACH(0x80))
            break;
    }
    return at;
}

/* Length of the UTF-8 sequence at p[0..n), n > 0; 0 if invalid (RFC 3629). */
static size_t utf8_len(const uint8_t *p, size_t n)
{
    uint8_t lo = 0x80, hi = 0xbf;
    size_t len;

    if (p[0] < 0x80)
        return 1;
    if (p[0] >= 0xc2 && p[0] <= 0xdf)
        len = 2;
    else if (p[0] >= 0xe0 && p[0] <= 0xef)
        len = 3;
    else if (p[0] >= 0xf0 && p[0] <= 0xf4)
        len = 4;
    else
        return 0;
    if (p[0] == 0xe0)
        lo = 0xa0; /* overlong */
    else if (p[0] == 0xed)
        hi = 0x9f; /* surrogates */
    else if (p[0] == 0xf0)
        lo = 0x90; /* overlong */
    else if (p[0] == 0xf4)
        hi = 0x8f; /* above U+10FFFF */
    if (n < len || p[1] < lo || p[1] > hi)
        return 0;
    for (size_t i = 2; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return len;
}

/* --- The tokenizer. ------------------------------------------------------ */

static int read_name(struct json_reader *r, struct str *text);
static int read_value(struct json_reader *r, struct str *text);
static int after_value(struct json_reader *r);

/* A token of our own: nothing for the caller, another one follows. */
enum { READ_COMMA = JSON_READ_OBJECT_END + 1 };

void json_reader_init(struct json_reader *r, const void *p, size_t n,
                      size_t depth_max, struct err *e)
{
    *r = (struct json_reader){
        .p = p, .n = n, .depth_max = depth_max, .expect = EXPECT_VALUE, .e = e};
}

void json_reader_release(struct json_reader *r)
{
    buf_release(&r->nest);
    buf_release(&r->text);
}

static int fail_end(struct json_reader *r)
{
    return err_set(r->e, JSON_EINVAL, "unexpected end of JSON input");
}

/* The byte at r->at does not fit; it is printed as Go's quoteChar does. At the
 * end of the input Go tries a blank, which fits where a token may end. */
static int fail_char(struct json_reader *r, const char *context)
{
    static const char named[] = "\a\b\f\n\r\t\v\\'", letters[] = "abfnrtv\\'";
    char quoted[8];
    const char *at;
    uint8_t c;

    if (r->at >= r->n)
        return fail_end(r);
    c = r->p[r->at];
    at = c ? strchr(named, c) : NULL;
    if (at)
        snprintf(quoted, sizeof(quoted), "\\%c", letters[at - named]);
    else if (c < 0x20 || c == 0x7f)
        snprintf(quoted, sizeof(quoted), "\\x%02x", c);
    else if (c < 0x7f)
        snprintf(quoted, sizeof(quoted), "%c", c);
    else if (c <= 0xa0 || c == 0xad)
        snprintf(quoted, sizeof(quoted), "\\u%04x", c);
    else /* a byte is shown as if it were Latin-1 */
        snprintf(quoted, sizeof(quoted), "%c%c", 0xc0 | c >> 6,
                 0x80 | (c & 0x3f));
    return err_set(r->e, JSON_EINVAL, "invalid character '%s' %s", quoted,
                   context);
}

/* The same inside of a token, where a blank does not fit either. */
static int fail_inside(struct json_reader *r, const char *context)
{
    if (r->at < r->n)
        return fail_char(r, context);
    return err_set(r->e, JSON_EINVAL, "invalid character ' ' %s", context);
}

static bool at_char(const struct json_reader *r, char c)
{
    return r->at < r->n && r->p[r->at] == (uint8_t)c;
}

static bool at_digit(const struct json_reader *r)
{
    return r->at < r->n && r->p[r->at] >= '0' && r->p[r->at] <= '9';
}

static void skip_blanks(struct json_reader *r)
{
    while (r->at < r->n) {
        uint8_t c = r->p[r->at];

        if (c != ' ' && c != '\n' && c != '\t' && c != '\r')
            return;
        r->at++;
    }
}

int json_read(struct json_reader *r, struct str *text)
{
    int token;

    *text = (struct str){"", 0};
    skip_blanks(r);
    if (r->expect == EXPECT_COMMA) {
        token = after_value(r);
        if (token != READ_COMMA)
            return token;
        skip_blanks(r);
    }
    if (r->expect == EXPECT_NAME || r->expect == EXPECT_NAME_OR_END)
        return read_name(r, text);
    return read_value(r, text);
}

int json_skip(struct json_reader *r)
{
    size_t depth = r->depth;
    struct str text;
    int token;

    do {
        token = json_read(r, &text);
        if (token < 0)
            return token;
    } while (r->depth > depth);
    return 0;
}

static bool in_object(const struct json_reader *r)
{
    size_t level = r->depth - 1;

    return r->depth > 0 && (r->nest.data[level / 8] >> level % 8 & 1);
}

static int open_level(struct json_reader *r, bool object)
{
    size_t byte = r->depth / 8;
    uint8_t bit = (uint8_t)(1u << r->depth % 8);

    if (r->depth >= r->depth_max)
        return err_set(r->e, JSON_EDEPTH, "exceeded max depth");
    if (byte == r->nest.len)
        buf_addc(&r->nest, 0);
    if (object)
        r->nest.data[byte] |= bit;
    else
        r->nest.data[byte] &= (uint8_t)~bit;
    r->depth++;
    r->at++;
    r->expect = object ? EXPECT_NAME_OR_END : EXPECT_VALUE_OR_END;
    return object ? JSON_READ_OBJECT : JSON_READ_ARRAY;
}

static int close_level(struct json_reader *r)
{
    int token = in_object(r) ? JSON_READ_OBJECT_END : JSON_READ_ARRAY_END;

    r->depth--;
    r->at++;
    r->expect = EXPECT_COMMA;
    return token;
}

static int after_value(struct json_reader *r)
{
    bool object = in_object(r);

    if (r->depth == 0)
        return r->at == r->n ? JSON_READ_END
                             : fail_char(r, "after top-level value");
    if (at_char(r, object ? '}' : ']'))
        return close_level(r);
    if (!at_char(r, ','))
        return fail_char(r, object ? "after object key:value pair"
                                   : "after array element");
    r->at++;
    r->expect = object ? EXPECT_NAME : EXPECT_VALUE;
    return READ_COMMA;
}

/* --- Scalars. ------------------------------------------------------------ */

static int read_string(struct json_reader *r, struct str *text);

static int read_literal(struct json_reader *r, const char *word, int token)
{
    char context[48];

    for (size_t i = 0; word[i]; i++, r->at++) {
        if (at_char(r, word[i]))
            continue;
        snprintf(context, sizeof(context), "in literal %s (expecting '%c')",
                 word, word[i]);
        return fail_inside(r, context);
    }
    return token;
}

static int read_digits(struct json_reader *r, const char *context)
{
    if (!at_digit(r))
        return fail_inside(r, context);
    while (at_digit(r))
        r->at++;
    return 0;
}

/* RFC 8259, 6. */
static int read_number(struct json_reader *r, struct str *text)
{
    size_t start = r->at;
    int rc = 0;

    if (at_char(r, '-'))
        r->at++;
    if (at_char(r, '0'))
        r->at++; /* and no digit after it */
    else
        rc = read_digits(r, "in numeric literal");
    if (rc == 0 && at_char(r, '.')) {
        r->at++;
        rc = read_digits(r, "after decimal point in numeric literal");
    }
    if (rc == 0 && (at_char(r, 'e') || at_char(r, 'E'))) {
        r->at++;
        if (at_char(r, '+') || at_char(r, '-'))
            r->at++;
        rc = read_digits(r, "in exponent of numeric literal");
    }
    if (rc < 0)
        return rc;
    *text = (struct str){(const char *)r->p + start, r->at - start};
    return JSON_READ_NUMBER;
}

static int read_value(struct json_reader *r, struct str *text)
{
    int token;

    if (r->at == r->n)
        return fail_end(r);
    switch (r->p[r->at]) {
    case '{':
        return open_level(r, true);
    case '[':
        return open_level(r, false);
    case ']':
        if (r->expect == EXPECT_VALUE_OR_END)
            return close_level(r);
        return fail_char(r, "looking for beginning of value");
    case '"':
        token = read_string(r, text);
        break;
    case 't':
        token = read_literal(r, "true", JSON_READ_TRUE);
        break;
    case 'f':
        token = read_literal(r, "false", JSON_READ_FALSE);
        break;
    case 'n':
        token = read_literal(r, "null", JSON_READ_NULL);
        break;
    default:
        if (!at_digit(r) && !at_char(r, '-'))
            return fail_char(r, "looking for beginning of value");
        token = read_number(r, text);
    }
    r->expect = EXPECT_COMMA;
    return token;
}

static int read_name(struct json_reader *r, struct str *text)
{
    int rc;

    if (at_char(r, '}') && r->expect == EXPECT_NAME_OR_END)
        return close_level(r);
    if (!at_char(r, '"'))
        return fail_char(r, "looking for beginning of object key string");
    rc = read_string(r, text);
    if (rc < 0)
        return rc;
    skip_blanks(r);
    if (!at_char(r, ':'))
        return fail_char(r, "after object key");
    r->at++;
    r->expect = EXPECT_VALUE;
    return JSON_READ_NAME;
}

/* --- Strings. ------------------------------------------------------------ */

/* The code unit of four hex digits at p[0..n), or -1. */
static int32_t hex4(const uint8_t *p, size_t n)
{
    uint64_t v;

    if (n < 4 || !str_hex_to_u64((struct str){(const char *)p, 4}, &v))
        return -1;
    return (int32_t)v;
}

static int fail_hex(struct json_reader *r)
{
    while (r->at < r->n && r->p[r->at] &&
           strchr("0123456789abcdefABCDEF", r->p[r->at]))
        r->at++;
    return fail_inside(r, "in \\u hexadecimal character escape");
}

/* After \u: one code unit, or two that make a surrogate pair (RFC 8259, 7). */
static int read_unicode(struct json_reader *r)
{
    int32_t c = hex4(r->p + r->at, r->n - r->at), low = 0;

    if (c < 0)
        return fail_hex(r);
    r->at += 4;
    if (c < 0xd800 || c > 0xdfff) {
        buf_add_utf8(&r->text, (uint32_t)c);
        return 0;
    }
    if (c < 0xdc00 && r->n - r->at >= 6 && r->p[r->at] == '\\' &&
        r->p[r->at + 1] == 'u')
        low = hex4(r->p + r->at + 2, 4);
    if (low < 0xdc00 || low > 0xdfff) {
        buf_add_utf8(&r->text, 0xfffd); /* a surrogate without its partner */
        return 0;
    }
    r->at += 6;
    c = 0x10000 + (c - 0xd800) * 0x400 + (low - 0xdc00);
    buf_add_utf8(&r->text, (uint32_t)c);
    return 0;
}

static int read_escape(struct json_reader *r)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *at;
    uint8_t c;

    r->at++; /* the backslash */
    c = r->at < r->n ? r->p[r->at] : 0;
    if (c == 'u') {
        r->at++;
        return read_unicode(r);
    }
    at = c ? strchr(from, c) : NULL;
    if (!at)
        return fail_inside(r, "in string escape code");
    r->at++;
    buf_addc(&r->text, to[at - from]);
    return 0;
}

/*
 * The run of bytes from r->at on that mean themselves, valid UTF-8 included.
 * Returns its end.
 */
static size_t plain_run(const struct json_reader *r)
{
    size_t at = r->at, len;

    for (;;) {
        at += plain_eights(r->p + at, r->n - at, false);
        while (at < r->n && !(stops[r->p[at]] & (STOP_READ | STOP_WIDE)))
            at++;
        if (at == r->n || r->p[at] < 0x80)
            return at;
        len = utf8_len(r->p + at, r->n - at);
        if (len == 0 && !r->raw)
            return at;
        at += len ? len : 1;
    }
}

/* At the opening quote. Borrows from the input if it can, else decodes. */
static int read_string(struct json_reader *r, struct str *text)
{
    bool decoded = false;
    int rc;

    r->at++;
    buf_clear(&r->text);
    for (;;) {
        size_t start = r->at, end = plain_run(r);

        r->at = end;
        if (end == r->n)
            return fail_end(r);
        if (r->p[end] == '"' && !decoded) {
            *text = (struct str){(const char *)r->p + start, end - start};
            break;
        }
        buf_add(&r->text, r->p + start, end - start);
        decoded = true;
        if (r->p[end] == '"') {
            *text = buf_str(&r->text);
            break;
        }
        if (r->p[end] == '\\') {
            rc = read_escape(r);
            if (rc < 0)
                return rc;
        } else if (r->p[end] >= 0x80) {
            buf_add_utf8(&r->text, 0xfffd);
            r->at++;
        } else {
            return fail_char(r, "in string literal");
        }
    }
    r->at++; /* the closing quote */
    return JSON_READ_STRING;
}

/* --- The tree. ----------------------------------------------------------- */

#define CHUNK_MIN 512
#define CHUNK_MAX (256 * 1024)

struct chunk {
    struct chunk *next;
    size_t used, size;
    uint8_t data[];
};

/* What json_parse returns a pointer into: the root comes first. */
struct document {
    struct json root;
    struct chunk *chunks; /* newest first */
};

/* A container that is still open, and where its next child will hang. */
struct level {
    struct json *container;
    struct json **tail;
};

static void *take(struct document *d, size_t n, size_t align)
{
    struct chunk *c = d->chunks;
    size_t at = c ? (c->used + align - 1) / align * align : 0;

    if (!c || n > c->size || at > c->size - n) {
        size_t size = c ? c->size * 2 : CHUNK_MIN;

        if (size > CHUNK_MAX)
            size = CHUNK_MAX;
        if (size < n)
            size = n;
        c = xmalloc(sizeof(*c) + size);
        c->next = d->chunks;
        c->size = size;
        d->chunks = c;
        at = 0;
    }
    c->used = at + n;
    return c->data + at;
}

static struct str copy_str(struct document *d, struct str s)
{
    char *p;

    if (s.n == 0)
        return (struct str){"", 0};
    p = take(d, s.n, 1);
    memcpy(p, s.p, s.n);
    return (struct str){p, s.n};
}

static void fill_node(struct document *d, struct json *j, int token,
                      struct str text)
{
    static const enum json_type types[] = {
        [JSON_READ_NULL] = JSON_NULL,     [JSON_READ_FALSE] = JSON_BOOL,
        [JSON_READ_TRUE] = JSON_BOOL,     [JSON_READ_NUMBER] = JSON_NUMBER,
        [JSON_READ_STRING] = JSON_STRING, [JSON_READ_ARRAY] = JSON_ARRAY,
        [JSON_READ_OBJECT] = JSON_OBJECT,
    };

    j->type = types[token];
    j->boolean = token == JSON_READ_TRUE;
    j->text = copy_str(d, text);
}

/* All tokens up to JSON_READ_END, or to the first error. */
static int build(struct json_reader *r, struct document *d)
{
    struct level *levels = NULL;
    size_t n = 0, cap = 0;
    struct str name = {"", 0}, text;
    struct json *j;
    int token;

    while ((token = json_read(r, &text)) > JSON_READ_END) {
        if (token == JSON_READ_NAME) {
            name = copy_str(d, text);
            continue;
        }
        if (token == JSON_READ_ARRAY_END || token == JSON_READ_OBJECT_END) {
            assert(n > 0); /* the reader has no end without a beginning */
            n--;
            continue;
        }
        j = &d->root;
        if (n > 0) {
            j = take(d, sizeof(*j), sizeof(uint64_t));
            memset(j, 0, sizeof(*j));
            j->name = name;
            *levels[n - 1].tail = j;
            levels[n - 1].tail = &j->next;
            levels[n - 1].container->n++;
        }
        name = (struct str){"", 0};
        fill_node(d, j, token, text);
        if (token != JSON_READ_ARRAY && token != JSON_READ_OBJECT)
            continue;
        if (n == cap) {
            cap = cap ? cap * 2 : 8;
            levels = xrealloc(levels, cap * sizeof(*levels));
        }
        levels[n++] = (struct level){j, &j->first};
    }
    free(levels);
    return token;
}

int json_parse(const void *p, size_t n, struct json **out, struct err *e)
{
    struct document *d = xcalloc(1, sizeof(*d));
    struct json_reader r;
    int rc;

    d->root.name = (struct str){"", 0};
    json_reader_init(&r, p, n, JSON_DEPTH_MAX, e);
    rc = build(&r, d);
    json_reader_release(&r);
    if (rc < 0) {
        json_free(&d->root);
        return rc;
    }
    *out = &d->root;
    return 0;
}

size_t json_first(const void *p, size_t n)
{
    struct json_reader r;

    json_reader_init(&r, p, n, JSON_DEPTH_MAX, NULL);
    if (json_skip(&r) == 0)
        n = r.at;
    json_reader_release(&r);
    return n;
}

void json_free(struct json *j)
{
    struct document *d = (struct document *)j;
    struct chunk *next;

    if (!j)
        return;
    for (struct chunk *c = d->chunks; c; c = next) {
        next = c->next;
        free(c);
    }
    free(d);
}

const struct json *json_get(const struct json *object, const char *name)
{
    const struct json *exact = NULL, *folded = NULL;

    if (!object || object->type != JSON_OBJECT)
        return NULL;
    for (const struct json *j = object->first; j; j = j->next) {
        if (str_eqz(j->name, name))
            exact = j;
        else if (str_caseeqz(j->name, name))
            folded = j;
    }
    return exact ? exact : folded;
}

const struct json *json_at(const struct json *array, size_t i)
{
    const struct json *j;

    if (!array || array->type != JSON_ARRAY)
        return NULL;
    for (j = array->first; j && i > 0; i--)
        j = j->next;
    return j;
}

struct str json_text(const struct json *j, const char *fallback)
{
    return j && j->type == JSON_STRING ? j->text : str_of(fallback);
}

bool json_bool(const struct json *j, bool fallback)
{
    return j && j->type == JSON_BOOL ? j->boolean : fallback;
}

static bool has_digits(const struct json *j)
{
    return j && (j->type == JSON_NUMBER || j->type == JSON_STRING) &&
           j->text.n > 0 && j->text.p[0] != '+';
}

bool json_u64(const struct json *j, uint64_t *out)
{
    return has_digits(j) && str_to_u64(j->text, out);
}

bool json_i64(const struct json *j, int64_t *out)
{
    return has_digits(j) && str_to_i64(j->text, out);
}

/* --- Writing. ------------------------------------------------------------ */

static void add_u_escape(struct buf *b, unsigned c)
{
    static const char hex[] = "0123456789abcdef";
    char out[6] = {
        '\\',       'u', hex[c >> 12 & 15], hex[c >> 8 & 15], hex[c >> 4 & 15],
        hex[c & 15]};

    buf_add(b, out, sizeof(out));
}

static void add_special(struct buf *b, uint8_t c)
{
    switch (c) {
    case '"':
    case '\\':
        buf_addc(b, '\\');
        buf_addc(b, (char)c);
        break;
    case '\n':
        buf_add(b, "\\n", 2);
        break;
    case '\r':
        buf_add(b, "\\r", 2);
        break;
    case '\t':
        buf_add(b, "\\t", 2);
        break;
    default:
        add_u_escape(b, c);
    }
}

/* U+2028 and U+2029 end a line in JavaScript, so Go escapes them. */
static bool is_line_separator(const uint8_t *p, size_t len)
{
    return len == 3 && p[0] == 0xe2 && p[1] == 0x80 && (p[2] & 0xfe) == 0xa8;
}

void json_add_escaped(struct buf *b, struct str s, bool raw)
{
    const uint8_t *p = (const uint8_t *)s.p;
    size_t at = 0, start = 0, len;

    if (s.n == 0)
        return; /* p may be NULL */
    buf_reserve(b, s.n);
    for (;;) {
        at += plain_eights(p + at, s.n - at, true);
        while (at < s.n && !(stops[p[at]] & (STOP_WRITE | STOP_WIDE)))
            at++;
        if (at == s.n)
            break;
        len = utf8_len(p + at, s.n - at);
        if (p[at] >= 0x80 && (len || raw) && !is_line_separator(p + at, len)) {
            at += len ? len : 1;
            continue;
        }
        buf_add(b, p + start, at - start);
        if (p[at] < 0x80)
            add_special(b, p[at]);
        else
            add_u_escape(b, len ? 0x2000u | (p[at + 2] & 0x3f) : 0xfffd);
        at += len ? len : 1;
        start = at;
    }
    buf_add(b, p + start, at - start);
}

void json_add_quoted(struct buf *b, struct str s, bool raw)
{
    buf_reserve(b, s.n + 2);
    buf_addc(b, '"');
    json_add_escaped(b, s, raw);
    buf_addc(b, '"');
}

void json_add_string(struct buf *b, struct str s)
{
    json_add_quoted(b, s, false);
}

void json_add_key(struct buf *b, const char *name)
{
    if (b->len > 0 && b->data[b->len - 1] != '{')
        buf_addc(b, ',');
    json_add_string(b, str_of(name));
    buf_addc(b, ':');
}
