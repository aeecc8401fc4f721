/*
 * ctlv3words.c - what is typed into `txn` and `watch -i`: words with quotes,
 * and comparisons. Pure.
 *
 *   compare = TARGET "(" KEY ")" OP VALUE      value("k") = "v"
 *   TARGET  = c | create | m | mod | val | value | ver | version | lease
 *   OP      = "=" | "!=" | "<" | ">"
 *
 * Keys and values are quoted as in Go, with its escapes. What is wrong is said
 * in the words of etcdctl.
 */
#include "ctlv3.h"

#include <inttypes.h>
#include <stdio.h>

/* --- Go's quoted strings. --------------------------------------------------------- */

/* n digits of a base from p[0..len). */
static bool read_digits(const char *p, size_t len, size_t n, int base,
                        uint32_t *out)
{
    uint32_t v = 0;

    if (len < n)
        return false;
    for (size_t i = 0; i < n; i++) {
        int d = hex_digit(p[i]);

        if (d < 0 || d >= base)
            return false;
        v = v * (uint32_t)base + (uint32_t)d;
    }
    *out = v;
    return true;
}

/* False for what is no character of Unicode. */
static bool add_char(struct buf *b, uint32_t r)
{
    if (r > 0x10ffff || (r >= 0xd800 && r < 0xe000))
        return false;
    buf_add_utf8(b, r);
    return true;
}

/* What follows a backslash at p[0..n): the bytes it took, or 0. */
static size_t unescape(const char *p, size_t n, char quote, struct buf *out)
{
    static const char plain[] = "abfnrtv\\", bytes[] = "\a\b\f\n\r\t\v\\";
    const char *at = n && p[0] ? strchr(plain, p[0]) : NULL;
    uint32_t v;

    if (at) {
        buf_addc(out, bytes[at - plain]);
        return 1;
    }
    if (n == 0)
        return 0;
    if (p[0] == quote) {
        buf_addc(out, quote);
        return 1;
    }
    if (p[0] == 'x' && read_digits(p + 1, n - 1, 2, 16, &v)) {
        buf_addc(out, (char)v);
        return 3;
    }
    if (p[0] == 'u' && read_digits(p + 1, n - 1, 4, 16, &v))
        return add_char(out, v) ? 5 : 0;
    if (p[0] == 'U' && read_digits(p + 1, n - 1, 8, 16, &v))
        return add_char(out, v) ? 9 : 0;
    if (read_digits(p, n, 3, 8, &v) && v < 256) {
        buf_addc(out, (char)v);
        return 3;
    }
    return 0;
}

bool ctlv3_unquote(struct str s, struct buf *out)
{
    char quote;

    if (s.n < 2 || s.p[0] != s.p[s.n - 1])
        return false;
    quote = s.p[0];
    s = (struct str){s.p + 1, s.n - 2};
    if (quote == '`') {
        if (s.n && memchr(s.p, '`', s.n))
            return false;
        buf_addstr(out, s);
        return true;
    }
    if (quote != '"' && quote != '\'')
        return false;
    for (size_t i = 0; i < s.n;) {
        size_t used;

        if (s.p[i] == quote || s.p[i] == '\n')
            return false;
        if (s.p[i] != '\\') {
            buf_addc(out, s.p[i++]);
            continue;
        }
        used = unescape(s.p + i + 1, s.n - i - 1, quote, out);
        if (used == 0)
            return false;
        i += 1 + used;
    }
    return true;
}

/* --- Words. ---------------------------------------------------------------------------- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' ||
           c == '\f';
}

/*
 * The length of the word that begins at p[0..n), 0 if none does: a quoted one
 * ends behind its second quote, any other before a blank. A quote that is never
 * closed is passed over.
 */
static size_t word_len(const char *p, size_t n)
{
    size_t i = 1;

    if (p[0] == '"' || p[0] == '\'') {
        while (i < n && p[i] != p[0])
            i += p[0] == '"' && p[i] == '\\' && i + 1 < n ? 2 : 1;
        return i < n ? i + 1 : 0;
    }
    while (i < n && !is_blank(p[i]))
        i++;
    return i;
}

static char *unquoted(const char *word)
{
    struct buf b = {0};

    if (ctlv3_unquote(str_of(word), &b))
        return buf_steal(&b);
    buf_release(&b);
    return xstrdup(word);
}

/*
 * What etcdctl makes of 'a word' in a line of n_words: it takes the number of
 * words for the length of this one. Scripts have learned to live with it. Where
 * etcdctl would crash, just the quotes go.
 */
static char *without_single_quotes(const char *word, size_t n_words)
{
    size_t n = strlen(word), end = n_words - 1;

    if (n < 2) /* a NUL stands behind the quote */
        return xstrdup("");
    if (end < 1 || end > n)
        end = n - 1;
    return xstrndup(word + 1, end - 1);
}

static void unquote_all(struct ctlv3_words *w)
{
    for (size_t i = 0; i < w->n; i++) {
        char *raw = w->words[i];

        if (raw[0] == '\'')
            w->words[i] = without_single_quotes(raw, w->n);
        else if (raw[0] == '"')
            w->words[i] = unquoted(raw);
        else
            continue;
        free(raw);
    }
}

void ctlv3_split(struct ctlv3_words *w, struct str line)
{
    size_t i = 0;

    *w = (struct ctlv3_words){0};
    while (i < line.n) {
        size_t n = is_blank(line.p[i]) ? 0 : word_len(line.p + i, line.n - i);

        if (n > 0) {
            w->words = xrealloc(w->words, (w->n + 1) * sizeof(*w->words));
            w->words[w->n++] = xstrndup(line.p + i, n);
        }
        i += n > 0 ? n : 1;
    }
    unquote_all(w);
}

void ctlv3_words_release(struct ctlv3_words *w)
{
    for (size_t i = 0; i < w->n; i++)
        free(w->words[i]);
    free(w->words);
    *w = (struct ctlv3_words){0};
}

/* --- Comparisons. ------------------------------------------------------------------------ */

enum target { CREATE, MOD, VALUE, VERSION, LEASE };

static bool find_target(struct str s, enum target *out)
{
    static const struct {
        const char *name;
        enum target target;
    } names[] = {
        {"ver", VERSION},   {"version", VERSION}, {"c", CREATE},
        {"create", CREATE}, {"m", MOD},           {"mod", MOD},
        {"val", VALUE},     {"value", VALUE},     {"lease", LEASE},
    };

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (str_eqz(s, names[i].name)) {
            *out = names[i].target;
            return true;
        }
    }
    return false;
}

static bool find_result(struct str s, int32_t *out)
{
    if (str_eqz(s, "="))
        *out = RPCPB_COMPARE_EQUAL;
    else if (str_eqz(s, "!="))
        *out = RPCPB_COMPARE_NOT_EQUAL;
    else if (str_eqz(s, ">"))
        *out = RPCPB_COMPARE_GREATER;
    else if (str_eqz(s, "<"))
        *out = RPCPB_COMPARE_LESS;
    else
        return false;
    return true;
}

/* A quoted string at the front of *s: moved on, and in *out. */
static bool take_quoted(struct str *s, struct buf *out)
{
    size_t i = 1;
    char quote = s->n ? s->p[0] : 0;

    if (quote != '"' && quote != '`')
        return false;
    while (i < s->n && s->p[i] != quote)
        i += quote == '"' && s->p[i] == '\\' && i + 1 < s->n ? 2 : 1;
    if (i >= s->n || !ctlv3_unquote((struct str){s->p, i + 1}, out))
        return false;
    *s = (struct str){s->p + i + 1, s->n - i - 1};
    return true;
}

static int malformed(struct str line, struct err *e, const char *more,
                     struct str what, const char *end)
{
    return err_set(e, CTLV3_INVALID_INPUT, "malformed comparison: %.*s%s%.*s%s",
                   STR_FMT(line), more, STR_FMT(what), end);
}

/* What a compare is made of, as far as it could be read. */
struct parts {
    struct str target, op;
    struct buf key, value;
};

static struct str take_blanks(struct str s)
{
    while (s.n > 0 && is_blank(s.p[0]))
        s = (struct str){s.p + 1, s.n - 1};
    return s;
}

static bool take_parts(struct str line, struct parts *p)
{
    struct str s = line;

    if (!str_cut(&s, '(', &p->target))
        return false;
    s = take_blanks(s);
    if (!take_quoted(&s, &p->key) || s.n < 2 || s.p[0] != ')' ||
        !is_blank(s.p[1]))
        return false;
    s = take_blanks((struct str){s.p + 1, s.n - 1});
    for (p->op = (struct str){s.p, 0}; p->op.n < s.n; p->op.n++) {
        if (is_blank(s.p[p->op.n]))
            break;
    }
    s = take_blanks((struct str){s.p + p->op.n, s.n - p->op.n});
    return take_quoted(&s, &p->value);
}

static bool set_number(struct arena *a, int64_t **out, struct str s, int base)
{
    char *text = xstrndup(s.p, s.n), *why;
    int64_t *v = arena_alloc(a, sizeof(*v));
    bool ok = v && ctlv3_parse_int(text, base, v, &why);

    if (v && !ok)
        free(why);
    free(text);
    *out = v;
    return ok;
}

static bool set_target(struct arena *a, enum target t, struct str value,
                       struct rpcpb_compare *out)
{
    switch (t) {
    case VERSION:
        out->target = RPCPB_COMPARE_TO_VERSION;
        return set_number(a, &out->version, value, 10);
    case CREATE:
        out->target = RPCPB_COMPARE_TO_CREATE;
        return set_number(a, &out->create_revision, value, 10);
    case MOD:
        out->target = RPCPB_COMPARE_TO_MOD;
        return set_number(a, &out->mod_revision, value, 10);
    case LEASE:
        out->target = RPCPB_COMPARE_TO_LEASE;
        return set_number(a, &out->lease, value, 16);
    case VALUE:
        break;
    }
    out->target = RPCPB_COMPARE_TO_VALUE;
    out->value = arena_alloc(a, sizeof(*out->value));
    return out->value && arena_str(a, value, out->value);
}

static int read_compare(struct arena *a, struct str line, struct parts *p,
                        struct rpcpb_compare *out, struct err *e)
{
    enum target t;
    struct buf got = {0};

    if (!take_parts(line, p)) {
        struct str s = line, target = {line.p, 0};

        if (!str_cut(&s, '(', &target))
            return malformed(line, e, "", STR(""), "");
        buf_printf(&got, "; got %.*s(", STR_FMT(target));
        ctl_quote(&got, buf_str(&p->key));
        buf_printf(&got, ") %.*s ", STR_FMT(p->op));
        ctl_quote(&got, buf_str(&p->value));
        malformed(line, e, "", buf_str(&got), "");
        buf_release(&got);
        return CTLV3_INVALID_INPUT;
    }
    if (!find_result(p->op, &out->result))
        return err_set(e, CTLV3_INVALID_INPUT, "unknown result op: %.*s",
                       STR_FMT(p->op));
    if (!find_target(p->target, &t))
        return malformed(line, e, " (unknown target ", p->target, ")");
    if (!set_target(a, t, buf_str(&p->value), out))
        return err_set(e, CTLV3_INVALID_INPUT,
                       "invalid txn compare request: %.*s", STR_FMT(line));
    if (!arena_str(a, buf_str(&p->key), &out->key))
        return err_set(e, CTLV3_INVALID_INPUT, "out of memory");
    return 0;
}

int ctlv3_parse_compare(struct arena *a, struct str line,
                        struct rpcpb_compare *out, struct err *e)
{
    struct parts p = {0};
    int rc;

    *out = (struct rpcpb_compare){0};
    rc = read_compare(a, line, &p, out, e);
    buf_release(&p.key);
    buf_release(&p.value);
    return rc;
}
