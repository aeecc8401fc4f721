/*
 * url.h - URLs, percent-encoding, forms and query strings, with Go's rules
 * and error texts where etcd's users meet them. Pure.
 */
#ifndef URL_H
#define URL_H

#include "buf.h"

enum { URL_EINVAL = -1 };

/* A parsed URL; all parts are owned (url_release()). */
struct url {
    char *scheme;    /* lower case */
    char *host;      /* without brackets or port; for unix the name */
    char *port;      /* digits, or "" */
    char *path;      /* decoded, "" if none */
    char *raw;       /* as given, with host:port in etcd's printed form */
    char *userinfo;  /* decoded "user:password", or "" */
    char *raw_query; /* after ?, or "" */
};

int url_parse(struct str s, struct url *out, struct err *e);
void url_release(struct url *u);
bool url_is_unix(const struct url *u); /* unix or unixs */
bool url_is_tls(const struct url *u);  /* https or unixs */

/*
 * A comma list of listen or advertise URLs by the rules of etcd: scheme in
 * http, https, unix, unixs; host:port; no path. Sorted, duplicates removed.
 */
struct url_list {
    struct url *urls;
    size_t n;
};

int url_list_parse(struct str s, struct url_list *out, struct err *e);
/* The same rules for n strings, as in a JSON array of URLs. */
int url_list_of(const struct str *s, size_t n, struct url_list *out,
                struct err *e);
/* Sorted, but duplicates are kept, as by etcd's types.NewURLs(). */
int url_list_sorted(const struct str *s, size_t n, struct url_list *out,
                    struct err *e);
/* Neither sorted nor without duplicates. */
int url_list_as_given(const struct str *s, size_t n, struct url_list *out,
                      struct err *e);
void url_list_release(struct url_list *l);
/* What is raw of each, borrowed, in an array that the caller frees. */
char **url_list_texts(const struct url_list *l);
/* "http://a:1,http://b:2", appended. */
void url_list_print(struct buf *b, const struct url_list *l, const char *sep);

/*
 * Percent-decode s into b. In a query or form, + is a blank. URL_EINVAL and
 * e = `invalid URL escape "%zz"`.
 */
int url_decode(struct buf *b, struct str s, bool plus_is_blank, struct err *e);
void url_encode_path(struct buf *b, struct str s);  /* keeps / */
void url_encode_query(struct buf *b, struct str s); /* blank becomes + */

/* Go's path.Clean: no // . or .. and no trailing slash. Appends to b. */
void url_clean_path(struct buf *b, struct str path);

/*
 * Parsed parameters, in order; the first of a name counts. Names and values
 * are owned by the form.
 */
struct form_field {
    struct str name, value; /* offsets resolved into text below */
};

struct form {
    struct form_field *fields;
    size_t n, cap;
    struct buf text[2]; /* decoded bytes of the body and of the query */
};

#define FORM_FIELDS_MAX 1000

/*
 * Append the fields of one urlencoded string: pass the body first (which 0),
 * then the query (which 1), so that the body's values win. On a bad escape
 * the good fields are kept and the first error is returned, as Go does.
 */
int form_parse(struct form *f, int which, struct str s, struct err *e);
bool form_get(const struct form *f, const char *name, struct str *value);
void form_release(struct form *f);

#endif
