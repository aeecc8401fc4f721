/*
 * url.c - URLs, percent-encoding, forms and query strings.
 *
 * A URL is cut from the outside in, as Go's net/url does it, because its
 * error texts reach people who mistype a flag:
 *
 *   scheme ":" "//" userinfo "@" host ":" port path "?" query "#" fragment
 *
 * Nothing is interpreted before it is cut, and nothing is decoded twice.
 * What a percent sign stands for is decoded last, by one function, decode(),
 * which every part and every form field passes through.
 */
#include "url.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

/* Which characters each part may hold unescaped, beyond letters and digits. */
#define UNRESERVED "-_.~"
#define HOST_CHARS UNRESERVED "!$&'()*+,;=:[]<>\""
#define PATH_CHARS UNRESERVED "$&+,/:;=@"
#define USERINFO_CHARS UNRESERVED "!$&'()*+,;=:%@"

static bool is_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_one_of(char c, const char *extra)
{
    return is_alpha(c) || is_digit(c) || (c && strchr(extra, c));
}

static bool has_char(struct str s, char c)
{
    return s.n && memchr(s.p, c, s.n);
}

/* --- Percent-encoding. -------------------------------------------------- */

static int bad_escape(struct str s, size_t i, struct err *e)
{
    size_t n = s.n - i < 3 ? s.n - i : 3;

    return err_set(e, URL_EINVAL, "invalid URL escape \"%.*s\"", (int)n,
                   s.p + i);
}

/* The byte that the escape at s.p[i] stands for, or -1. */
static int escape_at(struct str s, size_t i)
{
    int hi, lo;

    if (s.n - i < 3)
        return -1;
    hi = hex_digit(s.p[i + 1]);
    lo = hex_digit(s.p[i + 2]);
    return hi < 0 || lo < 0 ? -1 : hi * 16 + lo;
}

/* b has room for s.n bytes, so that views into b stay valid. */
static int decode(struct buf *b, struct str s, bool plus_is_blank,
                  struct err *e)
{
    uint8_t *out = b->data + b->len;

    if (!has_char(s, '%') && !(plus_is_blank && has_char(s, '+'))) {
        buf_addstr(b, s); /* as most are */
        return 0;
    }
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];

        if (c == '%') {
            int v = escape_at(s, i);

            if (v < 0)
                return bad_escape(s, i, e);
            c = (char)v;
            i += 2;
        } else if (c == '+' && plus_is_blank) {
            c = ' ';
        }
        *out++ = (uint8_t)c;
    }
    b->len = (size_t)(out - b->data);
    return 0;
}

int url_decode(struct buf *b, struct str s, bool plus_is_blank, struct err *e)
{
    size_t len = b->len;
    int rc;

    if (!s.n)
        return 0;
    buf_reserve(b, s.n);
    rc = decode(b, s, plus_is_blank, e);
    if (rc < 0)
        b->len = len;
    return rc;
}

static void encode(struct buf *b, struct str s, const char *keep, bool query)
{
    static const char hex[] = "0123456789ABCDEF";

    buf_reserve(b, s.n);
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (is_one_of((char)c, keep)) {
            buf_addc(b, (char)c);
        } else if (c == ' ' && query) {
            buf_addc(b, '+');
        } else {
            char esc[3] = {'%', hex[c >> 4], hex[c & 15]};

            buf_add(b, esc, sizeof(esc));
        }
    }
}

void url_encode_path(struct buf *b, struct str s)
{
    encode(b, s, PATH_CHARS, false);
}

void url_encode_query(struct buf *b, struct str s)
{
    encode(b, s, UNRESERVED, true);
}

/* --- Parsing. ----------------------------------------------------------- */

/* The parts of a URL as they stand in the input. */
struct parts {
    struct str scheme, rest; /* rest: what follows the scheme's colon */
    struct str userinfo, hostport, path, query;
    bool has_userinfo;
};

static struct str str_from(struct str s, size_t i)
{
    return (struct str){s.p + i, s.n - i};
}

/* Index of the last c in s, or -1. */
static ptrdiff_t last_index(struct str s, char c)
{
    for (size_t i = s.n; i > 0; i--) {
        if (s.p[i - 1] == c)
            return (ptrdiff_t)i - 1;
    }
    return -1;
}

/* "http:" at the front, if there is a scheme; "a b:" and "1:" have none. */
static int cut_scheme(struct str s, struct parts *out, struct err *e)
{
    out->scheme = (struct str){"", 0};
    out->rest = s;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];

        if (is_alpha(c))
            continue;
        if (c == ':' && i == 0)
            return err_set(e, URL_EINVAL, "missing protocol scheme");
        if (c == ':') {
            out->scheme = (struct str){s.p, i};
            out->rest = str_from(s, i + 1);
            return 0;
        }
        if (i == 0 || !(is_digit(c) || c == '+' || c == '-' || c == '.'))
            return 0;
    }
    return 0;
}

/* What follows the host must be "" or ":digits". */
static int check_port(struct str s, struct err *e)
{
    bool ok = !s.n || s.p[0] == ':';

    for (size_t i = 1; i < s.n; i++)
        ok = ok && is_digit(s.p[i]);
    if (ok)
        return 0;
    return err_set(e, URL_EINVAL, "invalid port \"%.*s\" after host",
                   STR_FMT(s));
}

static int check_host(struct str h, struct err *e)
{
    ptrdiff_t i;

    if (h.n && h.p[0] == '[') {
        i = last_index(h, ']');
        if (i < 0)
            return err_set(e, URL_EINVAL, "missing ']' in host");
        i++;
    } else {
        i = last_index(h, ':');
    }
    if (i >= 0 && check_port(str_from(h, (size_t)i), e) < 0)
        return URL_EINVAL;

    for (size_t k = 0; k < h.n; k++) {
        /* An escape in a host name may only stand for a byte above 127. */
        if (h.p[k] == '%') {
            if (escape_at(h, k) < 128)
                return bad_escape(h, k, e);
        } else if (!((unsigned char)h.p[k] >= 128 ||
                     is_one_of(h.p[k], HOST_CHARS))) {
            return err_set(e, URL_EINVAL,
                           "invalid character \"%c\" in host name", h.p[k]);
        }
    }
    return 0;
}

static int cut_authority(struct str a, struct parts *out, struct err *e)
{
    ptrdiff_t at = last_index(a, '@');

    out->hostport = str_from(a, (size_t)(at + 1));
    if (check_host(out->hostport, e) < 0)
        return URL_EINVAL;
    if (at < 0)
        return 0;

    out->has_userinfo = true;
    out->userinfo = (struct str){a.p, (size_t)at};
    for (size_t i = 0; i < out->userinfo.n; i++) {
        if (!is_one_of(out->userinfo.p[i], USERINFO_CHARS))
            return err_set(e, URL_EINVAL, "net/url: invalid userinfo");
    }
    return 0;
}

static int cut_url(struct str s, struct parts *out, struct err *e)
{
    struct str rest, segment, head;

    for (size_t i = 0; i < s.n; i++) {
        if ((unsigned char)s.p[i] < ' ' || s.p[i] == 127)
            return err_set(e, URL_EINVAL,
                           "net/url: invalid control character in URL");
    }
    if (cut_scheme(s, out, e) < 0)
        return URL_EINVAL;

    out->query = out->rest;
    str_cut(&out->query, '#', &head);
    out->query = head;
    str_cut(&out->query, '?', &rest);

    if (rest.n == 0 || rest.p[0] != '/') {
        if (out->scheme.n)
            return 0; /* "mailto:x": nothing that we could use */
        segment = rest;
        str_cut(&segment, '/', &head);
        if (has_char(head, ':'))
            return err_set(e, URL_EINVAL,
                           "first path segment in URL cannot contain colon");
    }
    out->path = rest;
    if (!str_has_prefix(rest, "//") ||
        (!out->scheme.n && str_has_prefix(rest, "///")))
        return 0;

    segment = str_from(rest, 2);
    str_cut(&segment, '/', &head);
    out->path = str_from(rest, 2 + head.n);
    return cut_authority(head, out, e);
}

static char *lower(struct str s)
{
    char *p = xstrndup(s.n ? s.p : "", s.n);

    for (size_t i = 0; i < s.n; i++) {
        if (p[i] >= 'A' && p[i] <= 'Z')
            p[i] = (char)(p[i] - 'A' + 'a');
    }
    return p;
}

/* Decoded as a C string, so an escaped NUL is refused. */
static int decode_z(char **out, struct str s, struct err *e)
{
    struct buf b = {0};

    if (url_decode(&b, s, false, e) < 0) {
        buf_release(&b);
        return URL_EINVAL;
    }
    if (b.len && memchr(b.data, 0, b.len)) {
        buf_release(&b);
        return err_set(e, URL_EINVAL, "invalid URL escape \"%%00\"");
    }
    *out = buf_steal(&b);
    return 0;
}

/*
 * Go's net.SplitHostPort: false if there is no port, or if a colon in the
 * host makes it ambiguous, as in an IPv6 address without brackets.
 */
static bool split_host_port(struct str s, struct str *host, struct str *port)
{
    ptrdiff_t colon = last_index(s, ':');
    bool bracket = s.n && s.p[0] == '[';

    *host = s;
    *port = (struct str){"", 0};
    if (bracket) {
        ptrdiff_t close = last_index(s, ']');

        *host = (struct str){s.p + 1, (size_t)(close - 1)};
        if ((size_t)close + 1 == s.n)
            return false;
        *port = str_from(s, (size_t)close + 2); /* check_host saw the colon */
        return true;
    }
    if (colon < 0)
        return false;
    *host = (struct str){s.p, (size_t)colon};
    *port = str_from(s, (size_t)colon + 1);
    return !has_char(*host, ':');
}

static int build(const struct parts *p, struct url *out, struct err *e)
{
    struct url u = {0};
    struct str host, port;
    struct buf raw = {0};

    split_host_port(p->hostport, &host, &port);
    if (decode_z(&u.host, host, e) < 0 || decode_z(&u.path, p->path, e) < 0 ||
        decode_z(&u.userinfo, p->userinfo, e) < 0) {
        url_release(&u);
        return URL_EINVAL;
    }
    u.scheme = lower(p->scheme);
    u.port = xstrndup(port.p, port.n);
    u.raw_query = xstrndup(p->query.n ? p->query.p : "", p->query.n);
    if (p->scheme.n)
        buf_printf(&raw, "%s:", u.scheme);
    buf_addstr(&raw, p->rest);
    u.raw = buf_steal(&raw);
    *out = u;
    return 0;
}

static int parse(struct str s, struct url *out, bool *has_port, struct err *e)
{
    struct parts p = {0};
    struct str host, port;
    struct err why;

    if (!s.n)
        s = STR("");
    p.hostport = p.userinfo = p.path = (struct str){"", 0};
    if (cut_url(s, &p, &why) < 0 || build(&p, out, &why) < 0)
        return err_set(e, URL_EINVAL, "parse \"%.*s\": %s", STR_FMT(s),
                       why.msg);
    *has_port = split_host_port(p.hostport, &host, &port);
    return 0;
}

int url_parse(struct str s, struct url *out, struct err *e)
{
    bool has_port;

    return parse(s, out, &has_port, e);
}

void url_release(struct url *u)
{
    free(u->scheme);
    free(u->host);
    free(u->port);
    free(u->path);
    free(u->raw);
    free(u->userinfo);
    free(u->raw_query);
    *u = (struct url){0};
}

bool url_is_unix(const struct url *u)
{
    return strcmp(u->scheme, "unix") == 0 || strcmp(u->scheme, "unixs") == 0;
}

bool url_is_tls(const struct url *u)
{
    return strcmp(u->scheme, "https") == 0 || strcmp(u->scheme, "unixs") == 0;
}

/* --- Lists. ------------------------------------------------------------- */

static struct str trim_space(struct str s)
{
    while (s.n && strchr(" \t\r\n\v\f", s.p[0]) && s.p[0])
        s = str_from(s, 1);
    while (s.n && strchr(" \t\r\n\v\f", s.p[s.n - 1]) && s.p[s.n - 1])
        s.n--;
    return s;
}

static int parse_member_url(struct str in, struct url *out, struct err *e)
{
    const char *wrong = NULL;
    bool has_port;

    in = trim_space(in);
    if (parse(in, out, &has_port, e) < 0)
        return URL_EINVAL;

    if (strcmp(out->scheme, "http") != 0 && strcmp(out->scheme, "https") != 0 &&
        !url_is_unix(out))
        wrong = "URL scheme must be http, https, unix, or unixs";
    else if (!has_port)
        wrong = "URL address does not have the form \"host:port\"";
    else if (out->path[0])
        wrong = "URL must not contain a path";
    if (!wrong)
        return 0;
    url_release(out);
    return err_set(e, URL_EINVAL, "%s: %.*s", wrong, STR_FMT(in));
}

static int by_raw(const void *a, const void *b)
{
    return strcmp(((const struct url *)a)->raw, ((const struct url *)b)->raw);
}

static void dedup_sorted(struct url_list *l)
{
    size_t n = 0;

    for (size_t i = 0; i < l->n; i++) {
        if (n && strcmp(l->urls[n - 1].raw, l->urls[i].raw) == 0)
            url_release(&l->urls[i]);
        else
            l->urls[n++] = l->urls[i];
    }
    l->n = n;
}

int url_list_as_given(const struct str *s, size_t n, struct url_list *out,
                      struct err *e)
{
    struct url_list l = {0};

    if (n == 0)
        return err_set(e, URL_EINVAL, "no valid URLs given");
    l.urls = xcalloc(n, sizeof(l.urls[0]));
    for (; l.n < n; l.n++) {
        if (parse_member_url(s[l.n], &l.urls[l.n], e) < 0) {
            url_list_release(&l);
            return URL_EINVAL;
        }
    }
    *out = l;
    return 0;
}

int url_list_sorted(const struct str *s, size_t n, struct url_list *out,
                    struct err *e)
{
    int rc = url_list_as_given(s, n, out, e);

    if (rc == 0)
        qsort(out->urls, out->n, sizeof(out->urls[0]), by_raw);
    return rc;
}

int url_list_of(const struct str *s, size_t n, struct url_list *out,
                struct err *e)
{
    int rc = url_list_sorted(s, n, out, e);

    if (rc == 0)
        dedup_sorted(out);
    return rc;
}

int url_list_parse(struct str s, struct url_list *out, struct err *e)
{
    struct str *items;
    size_t n = 0, cap = 1;
    bool more;
    int rc;

    for (size_t i = 0; i < s.n; i++)
        cap += s.p[i] == ',';
    items = xcalloc(cap, sizeof(items[0]));
    do {
        assert(n < cap);
        more = str_cut(&s, ',', &items[n++]);
    } while (more);
    rc = url_list_of(items, n, out, e);
    free(items);
    return rc;
}

void url_list_release(struct url_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        url_release(&l->urls[i]);
    free(l->urls);
    *l = (struct url_list){0};
}

char **url_list_texts(const struct url_list *l)
{
    char **texts = xcalloc(l->n, sizeof(*texts));

    for (size_t i = 0; i < l->n; i++)
        texts[i] = l->urls[i].raw;
    return texts;
}

void url_list_print(struct buf *b, const struct url_list *l, const char *sep)
{
    for (size_t i = 0; i < l->n; i++) {
        if (i)
            buf_adds(b, sep);
        buf_adds(b, l->urls[i].raw);
    }
}

/* --- Paths. ------------------------------------------------------------- */

/*
 * Segments go to b one by one; ".." takes the last one back, but never one
 * that is itself a "..", nor the root.
 */
void url_clean_path(struct buf *b, struct str path)
{
    size_t start = b->len, floor;
    bool rooted = path.n && path.p[0] == '/';
    struct str seg;
    bool more;

    if (!path.n)
        path = STR("");
    if (rooted)
        buf_addc(b, '/');
    floor = b->len;
    do {
        more = str_cut(&path, '/', &seg);
        if (seg.n == 0 || str_eqz(seg, "."))
            continue;
        if (str_eqz(seg, "..") && b->len > floor) {
            while (b->len > floor && b->data[b->len - 1] != '/')
                b->len--;
            if (b->len > floor)
                b->len--;
            continue;
        }
        if (str_eqz(seg, "..") && rooted)
            continue;
        if (b->len > start + rooted)
            buf_addc(b, '/');
        buf_addstr(b, seg);
        if (str_eqz(seg, ".."))
            floor = b->len;
    } while (more);
    if (b->len == start)
        buf_addc(b, '.');
}

/* --- Forms. ------------------------------------------------------------- */

/* Decode into text, which has room for it, and give the view. */
static int take_text(struct buf *text, struct str s, struct str *out,
                     struct err *e)
{
    size_t at = text->len;

    *out = (struct str){"", 0};
    if (!s.n)
        return 0;
    if (decode(text, s, true, e) < 0) {
        text->len = at;
        return URL_EINVAL;
    }
    *out = (struct str){(const char *)text->data + at, text->len - at};
    return 0;
}

static int take_field(struct form *f, struct buf *text, struct str pair,
                      struct err *e)
{
    struct form_field field;
    struct str name;

    str_cut(&pair, '=', &name);
    if (take_text(text, name, &field.name, e) < 0 ||
        take_text(text, pair, &field.value, e) < 0)
        return URL_EINVAL;
    if (f->n == f->cap) {
        f->cap = f->cap ? 2 * f->cap : 8;
        f->fields = xrealloc(f->fields, f->cap * sizeof(f->fields[0]));
    }
    f->fields[f->n++] = field;
    return 0;
}

int form_parse(struct form *f, int which, struct str s, struct err *e)
{
    struct buf *text = &f->text[which];
    struct str pair;
    bool more;
    int rc = 0;

    assert(which == 0 || which == 1);
    assert(text->len == 0); /* fields point into it: it must not move */
    if (!s.n)
        return 0;
    buf_reserve(text, s.n);
    do {
        more = str_cut(&s, '&', &pair);
        if (has_char(pair, ';')) {
            rc = err_set(e, URL_EINVAL, "invalid semicolon separator in query");
            continue;
        }
        if (!pair.n)
            continue;
        if (f->n == FORM_FIELDS_MAX)
            return err_set(e, URL_EINVAL,
                           "number of URL query parameters exceeded limit");
        if (take_field(f, text, pair, rc ? NULL : e) < 0)
            rc = URL_EINVAL;
    } while (more);
    return rc;
}

bool form_get(const struct form *f, const char *name, struct str *value)
{
    for (size_t i = 0; i < f->n; i++) {
        struct str own = f->fields[i].name;

        /* Nearly all differ in the first letter. */
        if ((own.n ? own.p[0] : '\0') == name[0] && str_eqz(own, name)) {
            *value = f->fields[i].value;
            return true;
        }
    }
    return false;
}

void form_release(struct form *f)
{
    free(f->fields);
    buf_release(&f->text[0]);
    buf_release(&f->text[1]);
    *f = (struct form){0};
}
