/*
 * json.h - JSON (RFC 8259): a strict reader, token by token or as a tree, and
 * writing in the style of Go's encoding/json. Pure; nothing here recurses.
 */
#ifndef JSON_H
#define JSON_H

#include "buf.h"

enum json_type {
    JSON_NULL,
    JSON_BOOL,
    JSON_NUMBER, /* text holds the digits as they stood */
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT,
};

#define JSON_DEPTH_MAX 512 /* of a tree; deeper nesting is refused */

enum { JSON_EINVAL = -1, JSON_EDEPTH = -2 };

/* Children of arrays and objects hang in order from first by next. */
struct json {
    enum json_type type;
    bool boolean;
    struct str text; /* STRING: decoded, may hold NULs; NUMBER: digits */
    struct str name; /* member name, if the parent is an object */
    struct json *first, *next;
    size_t n; /* children */
};

/*
 * Parse all of p[0..n); blanks around the value are allowed. Returns 0 and a
 * tree that copies what it needs (json_free()), or a code and, in e, what is
 * wrong in exactly the words of Go's decoder, because clients see them
 * ("unexpected end of JSON input"). Invalid UTF-8 and lone surrogates become
 * U+FFFD, as in Go. Of two members with one name the last counts.
 */
int json_parse(const void *p, size_t n, struct json **out, struct err *e);
/* Where the first value ends, which is all that Go's stream decoder looks at
 * for one; n if there is none. */
size_t json_first(const void *p, size_t n);
void json_free(struct json *j); /* the root of a tree; NULL is fine */

/* Member by exact name; then, as Go does, ignoring case. NULL if absent. */
const struct json *json_get(const struct json *object, const char *name);
const struct json *json_at(const struct json *array, size_t i);
/* Values with a fallback when j is NULL, null or of another type. */
struct str json_text(const struct json *j, const char *fallback);
bool json_bool(const struct json *j, bool fallback);
bool json_u64(const struct json *j, uint64_t *out); /* number or digits */
bool json_i64(const struct json *j, int64_t *out);

/* --- Token by token: for documents too large or too deep for a tree. ----- */

enum json_token {
    JSON_READ_END, /* the value was complete and only blanks followed it */
    JSON_READ_NULL,
    JSON_READ_FALSE,
    JSON_READ_TRUE,
    JSON_READ_NUMBER, /* text: the digits */
    JSON_READ_STRING, /* text: decoded */
    JSON_READ_NAME,   /* text: a member's name, decoded; its value follows */
    JSON_READ_ARRAY,
    JSON_READ_ARRAY_END,
    JSON_READ_OBJECT,
    JSON_READ_OBJECT_END,
};

/* Its fields are json.c's own, but for at: the byte that comes next. */
struct json_reader {
    const uint8_t *p;
    size_t n, at;
    size_t depth, depth_max;
    int expect;
    bool raw; /* may be set: bytes that are no UTF-8 are kept, unlike in Go */
    struct buf nest; /* a bit for each open level: is it an object? */
    struct buf text; /* the last string, if it had to be decoded */
    struct err *e;
};

/* Borrows p and e (which may be NULL) for as long as the reader is used. */
void json_reader_init(struct json_reader *r, const void *p, size_t n,
                      size_t depth_max, struct err *e);
void json_reader_release(struct json_reader *r);
/*
 * The next token, or a negative code with e filled as by json_parse(); do not
 * read on after that. *text is borrowed until the next call.
 */
int json_read(struct json_reader *r, struct str *text);
/* Pass over the value that comes next, whatever it is. 0 or a code. */
int json_skip(struct json_reader *r);

/* --- Writing. ------------------------------------------------------------ */

/*
 * Append s as a quoted string as Go writes it: < > & as \u003c..., U+2028 and
 * U+2029 escaped, invalid UTF-8 as \ufffd, control characters as \u00XX but
 * \n \r \t.
 */
void json_add_string(struct buf *b, struct str s);
/* Without the quotes; raw: bytes that are no UTF-8 stay what they are. */
void json_add_escaped(struct buf *b, struct str s, bool raw);
void json_add_quoted(struct buf *b, struct str s, bool raw);
/* {"name": with the comma that is due, for b that is inside an object */
void json_add_key(struct buf *b, const char *name);

#endif
