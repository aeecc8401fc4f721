/*
 * yaml.c - the part of YAML 1.1 that configuration files use.
 *
 * A recursive descent over the bytes that writes the same document as JSON
 * text, which json_parse() then turns into the tree.
 *
 * STRUCTURE is told by columns. A block collection owns the column of its
 * first key or dash: a token in that column is its next entry, one further
 * left ends it, one further right is an error. One exception is YAML's own:
 * the dashes of a sequence may stand in the column of the key they belong to.
 *
 * INVARIANTS
 *   1. Each value's function leaves the position at the end of a line or at
 *      the first token behind the value, never before a part of it.
 *   2. Nesting is bounded by DEPTH_MAX, and so is recursion.
 *
 * Error texts are those of go-yaml where a person is likely to meet them.
 */
#include "yaml.h"

#include <inttypes.h>
#include <stdio.h>

#define DEPTH_MAX 64

struct yaml {
    const char *p;
    size_t n, i;
    size_t line; /* of position i, from 1 */
    size_t bol;  /* where that line begins */
    unsigned depth;
    struct buf json; /* output so far */
    struct err *e;
};

static int node(struct yaml *y, int parent, bool may_nest);
static int flow_node(struct yaml *y);

/* --- Reading bytes. ----------------------------------------------------- */

static int fail(struct yaml *y, size_t line, const char *what)
{
    return err_set(y->e, YAML_EINVAL, "yaml: line %zu: %s", line, what);
}

/* The byte k places on; 0 at the end, as no document holds a NUL. */
static char ahead(const struct yaml *y, size_t k)
{
    return k < y->n - y->i ? y->p[y->i + k] : '\0';
}

static char at(const struct yaml *y)
{
    return ahead(y, 0);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool is_end(char c) /* of a line, or of all */
{
    return c == '\n' || c == '\r' || c == '\0';
}

static bool is_gap(char c)
{
    return is_blank(c) || is_end(c);
}

static bool is_flow_mark(char c)
{
    return c && strchr(",[]{}", c);
}

static int column(const struct yaml *y)
{
    size_t col = y->i - y->bol;

    return col < INT32_MAX ? (int)col : INT32_MAX;
}

static void newline(struct yaml *y)
{
    y->i += at(y) == '\r' && ahead(y, 1) == '\n' ? 2 : 1;
    y->line++;
    y->bol = y->i;
}

static void skip_blanks(struct yaml *y)
{
    while (is_blank(at(y)))
        y->i++;
}

static void skip_line(struct yaml *y)
{
    while (!is_end(at(y)))
        y->i++;
}

/*
 * To the next token, over blanks, comments and ends of lines. A tab in the
 * indentation has no column, so a token may not follow it.
 */
static int skip(struct yaml *y, bool in_flow)
{
    for (;;) {
        bool indent = y->i == y->bol, tab = false;

        for (; is_blank(at(y)); y->i++)
            tab = tab || at(y) == '\t';
        if (at(y) == '#')
            skip_line(y);
        if (at(y) == '\0')
            return 0;
        if (!is_end(at(y)))
            return indent && tab && !in_flow
                       ? fail(y, y->line,
                              "found character that cannot start "
                              "any token (a tab)")
                       : 0;
        newline(y);
    }
}

/* After a value, only a comment may stand on its line. */
static int end_of_line(struct yaml *y)
{
    skip_blanks(y);
    if (at(y) == '#')
        skip_line(y);
    return is_end(at(y)) ? 0 : fail(y, y->line, "did not find expected key");
}

static bool at_dash(const struct yaml *y)
{
    return at(y) == '-' && is_gap(ahead(y, 1));
}

static bool at_colon(const struct yaml *y)
{
    return at(y) == ':' && is_gap(ahead(y, 1));
}

/* --- Plain scalars and what they mean. ---------------------------------- */

static bool is_word(struct str s, const char *const *words)
{
    for (; *words; words++) {
        if (str_eqz(s, *words))
            return true;
    }
    return false;
}

/* Digits of base up to the end of z, as JSON digits. */
static bool add_int(struct buf *out, bool minus, const char *z, unsigned base)
{
    uint64_t v = 0;

    if (!*z)
        return false;
    for (; *z; z++) {
        unsigned d = *z >= 'a'   ? (unsigned)(*z - 'a') + 10
                     : *z >= 'A' ? (unsigned)(*z - 'A') + 10
                                 : (unsigned)*z - (unsigned)'0';

        if (d >= base || v > (UINT64_MAX - d) / base)
            return false;
        v = v * base + d;
    }
    buf_printf(out, "%s%" PRIu64, minus ? "-" : "", v);
    return true;
}

static size_t count_digits(const char *z)
{
    return strspn(z, "0123456789");
}

/* 1.5, .5, 5., 1e3: YAML is looser than JSON about both ends of the dot. */
static bool add_float(struct buf *out, bool minus, const char *z)
{
    size_t whole = count_digits(z), frac = 0, exp = 0;
    const char *dot = z + whole, *end = dot;

    if (*dot == '.') {
        frac = count_digits(dot + 1);
        end = dot + 1 + frac;
    }
    if (whole + frac == 0)
        return false;
    if (*end == 'e' || *end == 'E') {
        exp = 1 + (end[1] == '-' || end[1] == '+');
        if (!count_digits(end + exp))
            return false;
        exp += count_digits(end + exp);
    }
    if (end[exp])
        return false;

    while (whole > 1 && *z == '0')
        z++, whole--;
    buf_printf(out, "%s%.*s", minus ? "-" : "", whole ? (int)whole : 1,
               whole ? z : "0");
    if (frac)
        buf_add(out, dot, frac + 1);
    buf_add(out, end, exp);
    return true;
}

static bool add_number(struct buf *out, struct str s)
{
    char digits[64], *z = digits;
    bool minus = s.n && s.p[0] == '-';
    size_t n = 0;

    if (s.n && (s.p[0] == '-' || s.p[0] == '+'))
        s.p++, s.n--;
    if (!s.n || !strchr("0123456789.", s.p[0]) || s.n >= sizeof(digits))
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] != '_') /* 1_000_000 */
            digits[n++] = s.p[i];
    }
    digits[n] = '\0';

    if (z[0] == '0' && (z[1] == 'x' || z[1] == 'X'))
        return add_int(out, minus, z + 2, 16);
    if (z[0] == '0' && (z[1] == 'b' || z[1] == 'B'))
        return add_int(out, minus, z + 2, 2);
    if (z[0] == '0' && z[1] && add_int(out, minus, z + 1 + (z[1] == 'o'), 8))
        return true;
    return (z[0] != '0' && add_int(out, minus, z, 10)) ||
           add_float(out, minus, z);
}

static void add_plain(struct buf *out, struct str s)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const yes[] = {"true", "True", "TRUE", "yes", "Yes",
                                      "YES",  "on",   "On",   "ON",  NULL};
    static const char *const no[] = {"false", "False", "FALSE", "no",  "No",
                                     "NO",    "off",   "Off",   "OFF", NULL};

    if (is_word(s, nulls))
        buf_adds(out, "null");
    else if (is_word(s, yes))
        buf_adds(out, "true");
    else if (is_word(s, no))
        buf_adds(out, "false");
    else if (!add_number(out, s))
        json_add_string(out, s);
}

/* One line of a plain scalar, without the blanks behind it. */
static void plain_line(struct yaml *y, struct buf *text, bool in_flow)
{
    size_t from = y->i, end = y->i;

    for (; !is_end(at(y)); y->i++) {
        char c = at(y), next = ahead(y, 1);

        if (c == '#' && y->i > from && is_blank(y->p[y->i - 1]))
            break;
        if (c == ':' && (is_gap(next) || (in_flow && is_flow_mark(next))))
            break;
        if (in_flow && is_flow_mark(c))
            break;
        if (!is_blank(c))
            end = y->i + 1;
    }
    buf_add(text, y->p + from, end - from);
}

/* Lines that were broken for looks become one: a blank for the first break,
 * and further breaks count as what they are. */
static void fold(struct buf *text, size_t breaks)
{
    if (breaks == 1)
        buf_addc(text, ' ');
    for (; breaks > 1; breaks--)
        buf_addc(text, '\n');
}

/* Over the blanks that begin a line; true if a tab is among those that ought
 * to show that the line belongs to something in column parent. */
static bool skip_indent(struct yaml *y, int parent)
{
    bool tab = false;

    for (; is_blank(at(y)); y->i++)
        tab = tab || (at(y) == '\t' && column(y) <= parent);
    return tab;
}

/*
 * The further lines of a plain scalar: those that are indented deeper than
 * the collection around it.
 */
static int plain_more(struct yaml *y, int parent, struct buf *text,
                      bool in_flow)
{
    while (is_end(at(y)) && at(y)) {
        struct yaml before = *y;
        size_t breaks = 0;
        bool tab = false;

        while (is_end(at(y)) && at(y)) {
            newline(y);
            breaks++;
            tab = skip_indent(y, parent);
        }
        if (tab && at(y) && at(y) != '#' && !in_flow)
            return fail(y, y->line,
                        "found a tab character that violates indentation");
        if (!at(y) || at(y) == '#' || (in_flow && is_flow_mark(at(y))) ||
            (!in_flow && column(y) <= parent)) {
            y->i = before.i;
            y->line = before.line;
            y->bol = before.bol;
            return 0;
        }
        fold(text, breaks);
        plain_line(y, text, in_flow);
        if (!in_flow && at_colon(y))
            return fail(y, y->line,
                        "mapping values are not allowed in this context");
    }
    return 0;
}

/* --- Quoted scalars. ---------------------------------------------------- */

/* \x41, \u20ac, \U0001f600: y stands at the first of n digits. */
static int hex_escape(struct yaml *y, struct buf *text, size_t n)
{
    uint64_t c;

    if (y->n - y->i < n || !str_hex_to_u64((struct str){y->p + y->i, n}, &c))
        return fail(y, y->line, "did not find expected hexdecimal number");
    if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return fail(y, y->line, "found invalid Unicode character escape code");
    buf_add_utf8(text, (uint32_t)c);
    y->i += n;
    return 0;
}

static int escape(struct yaml *y, struct buf *text)
{
    static const char names[] = "0abtnvfre \"/\\";
    static const char values[] = "\0\a\b\t\n\v\f\r\x1b \"/\\";
    char c = ahead(y, 1);
    const char *known = c ? strchr(names, c) : NULL;

    y->i += 2;
    if (known) {
        buf_addc(text, values[known - names]);
        return 0;
    }
    switch (c) {
    case '\t':
        buf_addc(text, c);
        return 0;
    case 'N':
        buf_add_utf8(text, 0x85);
        return 0;
    case '_':
        buf_add_utf8(text, 0xa0);
        return 0;
    case 'L':
        buf_add_utf8(text, 0x2028);
        return 0;
    case 'P':
        buf_add_utf8(text, 0x2029);
        return 0;
    case 'x':
        return hex_escape(y, text, 2);
    case 'u':
        return hex_escape(y, text, 4);
    case 'U':
        return hex_escape(y, text, 8);
    default:
        return fail(y, y->line, "found unknown escape character");
    }
}

/* The end of a line inside quotes; text up to hard may not be trimmed. */
static void quoted_break(struct yaml *y, struct buf *text, size_t hard)
{
    size_t breaks = 0;

    while (text->len > hard && is_blank((char)text->data[text->len - 1]))
        text->len--;
    while (is_end(at(y)) && at(y)) {
        newline(y);
        breaks++;
        skip_blanks(y);
    }
    fold(text, breaks);
}

static int quoted(struct yaml *y, struct buf *text)
{
    size_t line = y->line, hard = 0;
    char quote = at(y);

    y->i++;
    for (;;) {
        char c = at(y), next = ahead(y, 1);

        if (c == '\0')
            return fail(y, line, "found unexpected end of stream");
        if (c == '\'' && quote == '\'' && next == '\'') {
            buf_addc(text, c);
            y->i += 2;
        } else if (c == quote) {
            y->i++;
            return 0;
        } else if (c == '\\' && quote == '"' && next && is_end(next)) {
            y->i++;
            newline(y); /* an escaped break joins the lines without a blank */
            skip_blanks(y);
            hard = text->len;
        } else if (c == '\\' && quote == '"') {
            if (escape(y, text) < 0)
                return YAML_EINVAL;
            hard = text->len;
        } else if (is_end(c)) {
            quoted_break(y, text, hard);
        } else {
            buf_addc(text, c);
            y->i++;
        }
    }
}

/* --- Block scalars: | and >. -------------------------------------------- */

struct block_style {
    bool folded;
    char chomp; /* '-' no break at the end, '+' all of them, 0 one */
    int indent; /* 0: that of the first line with text */
};

static int block_header(struct yaml *y, int parent, struct block_style *st)
{
    *st = (struct block_style){.folded = at(y) == '>'};
    for (y->i++; !is_gap(at(y)); y->i++) {
        char c = at(y);

        if ((c == '-' || c == '+') && !st->chomp)
            st->chomp = c;
        else if (c >= '1' && c <= '9' && !st->indent)
            st->indent = (parent < 0 ? 0 : parent) + (c - '0');
        else
            return fail(y, y->line,
                        "did not find expected comment or line "
                        "break");
    }
    skip_blanks(y);
    if (at(y) == '#')
        skip_line(y);
    if (!is_end(at(y)))
        return fail(y, y->line, "did not find expected comment or line break");
    if (at(y))
        newline(y);
    return 0;
}

/*
 * Over empty lines and the indentation of the next line; counts the empty
 * ones. With *indent 0, finds it out: at least one deeper than parent.
 */
static int block_indent(struct yaml *y, int parent, int *indent, size_t *breaks)
{
    int widest = 0;

    for (;;) {
        while ((!*indent || column(y) < *indent) && at(y) == ' ')
            y->i++;
        if (column(y) > widest)
            widest = column(y);
        if ((!*indent || column(y) < *indent) && at(y) == '\t')
            return fail(y, y->line,
                        "found a tab character where an "
                        "indentation space is expected");
        if (!is_end(at(y)) || !at(y))
            break;
        newline(y);
        ++*breaks;
    }
    if (!*indent)
        *indent = widest > parent + 1 ? widest : parent + 1;
    if (*indent < 1)
        *indent = 1;
    return 0;
}

static int block_scalar(struct yaml *y, int parent)
{
    struct buf text = {0};
    struct block_style st;
    size_t breaks = 0; /* empty lines not yet written */
    bool pending = false, was_deeper = false;

    if (block_header(y, parent, &st) < 0 ||
        block_indent(y, parent, &st.indent, &breaks) < 0)
        return YAML_EINVAL;
    while (at(y) && column(y) == st.indent) {
        bool deeper = is_blank(at(y)); /* such lines are not folded */
        size_t from = y->i;

        if (pending && (!st.folded || was_deeper || deeper))
            buf_addc(&text, '\n');
        else if (pending && !breaks)
            buf_addc(&text, ' ');
        for (; breaks; breaks--)
            buf_addc(&text, '\n');
        skip_line(y);
        buf_add(&text, y->p + from, y->i - from);
        was_deeper = deeper;
        pending = at(y) != '\0';
        if (!pending)
            break;
        newline(y);
        if (block_indent(y, parent, &st.indent, &breaks) < 0) {
            buf_release(&text);
            return YAML_EINVAL;
        }
    }
    if (pending && st.chomp != '-')
        buf_addc(&text, '\n');
    for (; st.chomp == '+' && breaks; breaks--)
        buf_addc(&text, '\n');
    json_add_string(&y->json, buf_str(&text));
    buf_release(&text);
    return 0;
}

/* --- Flow collections: JSON and its relatives. -------------------------- */

/* What may not begin a scalar. */
static int check_start(struct yaml *y, bool in_flow)
{
    char c = at(y);

    switch (c) {
    case '&':
        return fail(y, y->line, "anchors (&) are not supported");
    case '*':
        return fail(y, y->line, "aliases (*) are not supported");
    case '!':
        return fail(y, y->line, "tags (!) are not supported");
    case '%':
    case '@':
    case '`':
        return fail(y, y->line, "found character that cannot start any token");
    case '?':
        if (is_gap(ahead(y, 1)))
            return fail(y, y->line, "complex keys (?) are not supported");
        return 0;
    case '|':
    case '>':
        return fail(y, y->line, "did not find expected node content");
    default:
        if (in_flow && at_dash(y))
            return fail(y, y->line,
                        "block sequence entries are not allowed "
                        "in this context");
        if ((in_flow && !c) || is_flow_mark(c) || at_colon(y) ||
            (in_flow && c == ':' && is_flow_mark(ahead(y, 1))))
            return fail(y, y->line, "did not find expected node content");
        return 0;
    }
}

static int flow_scalar(struct yaml *y, struct buf *text, bool *is_plain)
{
    *is_plain = at(y) != '"' && at(y) != '\'';
    if (!*is_plain)
        return quoted(y, text);
    if (check_start(y, true) < 0)
        return YAML_EINVAL;
    plain_line(y, text, true);
    return plain_more(y, -1, text, true);
}

/* key: value, or a key alone, whose value is null */
static int flow_pair(struct yaml *y)
{
    struct buf key = {0};
    bool is_plain;
    int rc = flow_scalar(y, &key, &is_plain);

    if (rc == 0)
        json_add_string(&y->json, buf_str(&key));
    buf_release(&key);
    if (rc < 0 || skip(y, true) < 0)
        return YAML_EINVAL;
    buf_addc(&y->json, ':');
    if (at(y) != ':') {
        buf_adds(&y->json, "null");
        return 0;
    }
    y->i++;
    if (skip(y, true) < 0)
        return YAML_EINVAL;
    if (at(y) == ',' || at(y) == '}') {
        buf_adds(&y->json, "null");
        return 0;
    }
    return flow_node(y);
}

static int flow_items(struct yaml *y, bool map)
{
    char close = map ? '}' : ']';
    size_t line;

    buf_addc(&y->json, map ? '{' : '[');
    y->i++;
    for (bool first = true;; first = false) {
        if (skip(y, true) < 0)
            return YAML_EINVAL;
        if (at(y) == close)
            break;
        if (!first)
            buf_addc(&y->json, ',');
        line = y->line;
        if ((map ? flow_pair(y) : flow_node(y)) < 0)
            return YAML_EINVAL;
        if (skip(y, true) < 0)
            return YAML_EINVAL;
        if (at(y) == close)
            break;
        if (at(y) != ',')
            return fail(y, at(y) ? y->line : line,
                        map ? "did not find expected ',' or '}'"
                            : "did not find expected ',' or ']'");
        y->i++;
    }
    y->i++;
    buf_addc(&y->json, close);
    return 0;
}

static int flow_node(struct yaml *y)
{
    struct buf text = {0};
    bool is_plain;
    int rc;

    if (at(y) == '[' || at(y) == '{') {
        if (++y->depth > DEPTH_MAX)
            return fail(y, y->line, "nested too deeply");
        rc = flow_items(y, at(y) == '{');
        y->depth--;
        return rc;
    }
    rc = flow_scalar(y, &text, &is_plain);
    if (rc == 0 && is_plain)
        add_plain(&y->json, buf_str(&text));
    else if (rc == 0)
        json_add_string(&y->json, buf_str(&text));
    buf_release(&text);
    return rc;
}

/* --- Block collections. ------------------------------------------------- */

/* The value behind a colon or dash in column col. */
static int block_value(struct yaml *y, int col, bool in_map)
{
    skip_blanks(y);
    if (at(y) != '#' && !is_end(at(y)))
        return node(y, col, !in_map);
    if (skip(y, false) < 0)
        return YAML_EINVAL;
    if (at(y) &&
        (column(y) > col || (in_map && column(y) == col && at_dash(y))))
        return node(y, col, true);
    buf_adds(&y->json, "null");
    return 0;
}

static int block_sequence(struct yaml *y, int col)
{
    buf_addc(&y->json, '[');
    for (;;) {
        y->i++; /* the dash */
        if (block_value(y, col, false) < 0 || skip(y, false) < 0)
            return YAML_EINVAL;
        if (at(y) && column(y) > col)
            return fail(y, y->line, "did not find expected '-' indicator");
        if (column(y) < col || !at_dash(y))
            break;
        buf_addc(&y->json, ',');
    }
    buf_addc(&y->json, ']');
    return 0;
}

static int next_key(struct yaml *y, struct buf *key)
{
    size_t line = y->line;

    buf_clear(key);
    if (at_dash(y))
        return fail(y, line, "did not find expected key");
    if (at(y) == '"' || at(y) == '\'') {
        if (quoted(y, key) < 0)
            return YAML_EINVAL;
    } else {
        if (check_start(y, false) < 0)
            return YAML_EINVAL;
        plain_line(y, key, false);
    }
    skip_blanks(y);
    if (!at_colon(y) || y->line != line)
        return fail(y, line, "could not find expected ':'");
    return 0;
}

/* y stands at the colon behind the first key. */
static int block_mapping(struct yaml *y, int col, struct buf *key)
{
    buf_addc(&y->json, '{');
    for (;;) {
        json_add_string(&y->json, buf_str(key));
        buf_addc(&y->json, ':');
        y->i++;
        if (block_value(y, col, true) < 0 || skip(y, false) < 0)
            return YAML_EINVAL;
        if (!at(y) || column(y) < col)
            break;
        if (column(y) > col)
            return fail(y, y->line, "did not find expected key");
        if (next_key(y, key) < 0)
            return YAML_EINVAL;
        buf_addc(&y->json, ',');
    }
    buf_addc(&y->json, '}');
    return 0;
}

/* A scalar, or the mapping whose first key it turns out to be. */
static int scalar_or_mapping(struct yaml *y, int parent, bool may_nest,
                             struct buf *text)
{
    bool is_quoted = at(y) == '"' || at(y) == '\'';
    size_t line = y->line;
    int col = column(y);

    if (is_quoted) {
        if (quoted(y, text) < 0)
            return YAML_EINVAL;
    } else {
        if (check_start(y, false) < 0)
            return YAML_EINVAL;
        plain_line(y, text, false);
    }
    skip_blanks(y);
    if (at_colon(y) && y->line == line) {
        if (!may_nest)
            return fail(y, line,
                        "mapping values are not allowed in this context");
        return block_mapping(y, col, text);
    }
    if (is_quoted) {
        json_add_string(&y->json, buf_str(text));
        return end_of_line(y);
    }
    if (plain_more(y, parent, text, false) < 0)
        return YAML_EINVAL;
    add_plain(&y->json, buf_str(text));
    return end_of_line(y);
}

/*
 * A value that begins here, inside a collection in column parent. A block
 * collection may only begin where may_nest, that is, not behind "key:".
 */
static int node(struct yaml *y, int parent, bool may_nest)
{
    struct buf text = {0};
    int rc;

    if (at(y) == '[' || at(y) == '{') /* counts its depth itself */
        return flow_node(y) < 0 ? YAML_EINVAL : end_of_line(y);
    if (++y->depth > DEPTH_MAX)
        return fail(y, y->line, "nested too deeply");
    if (at(y) == '|' || at(y) == '>') {
        rc = block_scalar(y, parent);
    } else if (at_dash(y)) {
        rc = may_nest ? block_sequence(y, column(y))
                      : fail(y, y->line,
                             "block sequence entries are not "
                             "allowed in this context");
    } else {
        rc = scalar_or_mapping(y, parent, may_nest, &text);
        buf_release(&text);
    }
    y->depth--;
    return rc;
}

/* --- Documents. --------------------------------------------------------- */

/* "---" or "..." at the beginning of a line */
static bool at_marker(const struct yaml *y, const char *mark)
{
    struct str rest = {y->p + y->i, y->n - y->i};

    return y->i == y->bol && str_has_prefix(rest, mark) && is_gap(ahead(y, 3));
}

static int check_bytes(struct yaml *y)
{
    size_t line = 1;

    for (size_t i = 0; i < y->n; i++) {
        unsigned char c = (unsigned char)y->p[i];

        line += c == '\n';
        if ((c < ' ' && !strchr("\t\n\r", c)) || c == 0 || c == 127)
            return fail(y, line, "control characters are not allowed");
    }
    return 0;
}

/* Position at the first document's content, and make its end the end. */
static int open_document(struct yaml *y)
{
    struct yaml scan;

    if (y->n >= 3 && memcmp(y->p, "\xef\xbb\xbf", 3) == 0)
        y->i = y->bol = 3;
    if (skip(y, false) < 0)
        return YAML_EINVAL;
    while (at(y) == '%' && y->i == y->bol) { /* %YAML 1.1 */
        skip_line(y);
        if (skip(y, false) < 0)
            return YAML_EINVAL;
    }
    if (at_marker(y, "---"))
        y->i += 3;

    for (scan = *y; at(&scan); newline(&scan)) {
        if (at_marker(&scan, "---") || at_marker(&scan, "..."))
            break;
        skip_line(&scan);
        if (!at(&scan))
            break;
    }
    y->n = scan.i;
    return skip(y, false);
}

static int document(struct yaml *y)
{
    if (check_bytes(y) < 0 || open_document(y) < 0)
        return YAML_EINVAL;
    if (!at(y)) {
        buf_adds(&y->json, "null");
        return 0;
    }
    if (node(y, -1, true) < 0 || skip(y, false) < 0)
        return YAML_EINVAL;
    if (at(y))
        return fail(y, y->line, "did not find expected <document start>");
    return 0;
}

int yaml_parse(const void *p, size_t n, struct json **out, struct err *e)
{
    struct yaml y = {.p = n ? p : "", .n = n, .line = 1, .e = e};
    struct err why;
    int rc = document(&y);

    if (rc == 0 && json_parse(y.json.data, y.json.len, out, &why) < 0)
        rc = err_set(e, YAML_EINVAL, "yaml: %s", why.msg);
    buf_release(&y.json);
    return rc;
}
