/*
 * ctlformat.c - what etcdctl prints, as a function of what it was told: the
 * three formats of -o for the keys API, listings, and Go's way of quoting.
 * Pure.
 *
 * The json format is not the server's text: it is what Go's client makes of
 * it, every field in the order of the client's struct, value and nodes even
 * when the server left them out.
 */
#include "ctl.h"

#include "url.h"

/* --- Responses of the keys API. ----------------------------------------- */

static uint64_t number(const struct json *node, const char *name)
{
    uint64_t v;

    return json_u64(json_get(node, name), &v) ? v : 0;
}

static int64_t ttl_of(const struct json *node)
{
    int64_t v;

    return json_i64(json_get(node, "ttl"), &v) ? v : 0;
}

static struct str text(const struct json *node, const char *name)
{
    return json_text(json_get(node, name), "");
}

static bool is_delete(const struct json *response)
{
    return str_eqz(text(response, "action"), "delete");
}

static void format_simple(struct buf *out, const struct json *response)
{
    if (is_delete(response)) {
        buf_adds(out, "PrevNode.Value: ");
        buf_addstr(out, text(json_get(response, "prevNode"), "value"));
    } else {
        buf_addstr(out, text(json_get(response, "node"), "value"));
    }
    buf_addc(out, '\n');
}

static void line_u64(struct buf *out, const char *label, uint64_t v)
{
    buf_adds(out, label);
    buf_add_u64(out, v);
    buf_addc(out, '\n');
}

static void line_str(struct buf *out, const char *label, struct str s)
{
    buf_adds(out, label);
    buf_addstr(out, s);
    buf_addc(out, '\n');
}

static void format_extended(struct buf *out, const struct json *response,
                            uint64_t index)
{
    const struct json *node = json_get(response, "node");
    const struct json *prev = json_get(response, "prevNode");

    line_str(out, "Key: ", text(node, "key"));
    line_u64(out, "Created-Index: ", number(node, "createdIndex"));
    line_u64(out, "Modified-Index: ", number(node, "modifiedIndex"));
    if (prev && prev->type == JSON_OBJECT)
        line_str(out, "PrevNode.Value: ", text(prev, "value"));
    buf_printf(out, "TTL: %lld\n", (long long)ttl_of(node));
    line_u64(out, "Index: ", index);
    if (!is_delete(response))
        line_str(out, "\n", text(node, "value"));
}

static void format_node(struct buf *out, const struct json *node);

static void format_nodes(struct buf *out, const struct json *nodes)
{
    if (!nodes || nodes->type != JSON_ARRAY) {
        buf_adds(out, "null");
        return;
    }
    buf_addc(out, '[');
    for (const struct json *n = nodes->first; n; n = n->next) {
        if (n != nodes->first)
            buf_addc(out, ',');
        format_node(out, n);
    }
    buf_addc(out, ']');
}

static void add_string(struct buf *out, const char *name, struct str s)
{
    json_add_key(out, name);
    json_add_string(out, s);
}

static void add_number(struct buf *out, const char *name, uint64_t v)
{
    json_add_key(out, name);
    buf_add_u64(out, v);
}

/* Recursion ends at the depth that the JSON reader accepts. */
static void format_node(struct buf *out, const struct json *node)
{
    struct str expiration;
    int64_t ttl;

    if (!node || node->type != JSON_OBJECT) {
        buf_adds(out, "null");
        return;
    }
    expiration = text(node, "expiration");
    ttl = ttl_of(node);
    buf_addc(out, '{');
    add_string(out, "key", text(node, "key"));
    if (json_bool(json_get(node, "dir"), false)) {
        json_add_key(out, "dir");
        buf_adds(out, "true");
    }
    add_string(out, "value", text(node, "value"));
    json_add_key(out, "nodes");
    format_nodes(out, json_get(node, "nodes"));
    add_number(out, "createdIndex", number(node, "createdIndex"));
    add_number(out, "modifiedIndex", number(node, "modifiedIndex"));
    if (expiration.n > 0)
        add_string(out, "expiration", expiration);
    if (ttl != 0) {
        json_add_key(out, "ttl");
        buf_printf(out, "%lld", (long long)ttl);
    }
    buf_addc(out, '}');
}

static void format_json(struct buf *out, const struct json *response)
{
    buf_addc(out, '{');
    add_string(out, "action", text(response, "action"));
    json_add_key(out, "node");
    format_node(out, json_get(response, "node"));
    json_add_key(out, "prevNode");
    format_node(out, json_get(response, "prevNode"));
    buf_adds(out, "}\n");
}

bool ctl_format_response(struct buf *out, const struct json *response,
                         uint64_t index, const char *format)
{
    if (strcmp(format, "simple") == 0)
        format_simple(out, response);
    else if (strcmp(format, "extended") == 0)
        format_extended(out, response, index);
    else if (strcmp(format, "json") == 0)
        format_json(out, response);
    else
        return false;
    return true;
}

static void list_nodes(struct buf *out, const struct json *nodes,
                       bool mark_dirs)
{
    if (!nodes)
        return;
    for (const struct json *n = nodes->first; n; n = n->next) {
        bool dir = json_bool(json_get(n, "dir"), false);

        line_str(out, "", text(n, "key"));
        if (dir && mark_dirs) {
            out->len--;
            buf_adds(out, "/\n");
        }
        list_nodes(out, json_get(n, "nodes"), mark_dirs);
    }
}

void ctl_format_listing(struct buf *out, const struct json *response,
                        bool mark_dirs)
{
    const struct json *node = json_get(response, "node");

    if (!json_bool(json_get(node, "dir"), false))
        line_str(out, "", text(node, "key"));
    list_nodes(out, json_get(node, "nodes"), mark_dirs);
}

/* --- Small tools. ------------------------------------------------------- */

/*
 * Length of the UTF-8 sequence that s begins with, and the character in *r
 * (RFC 3629); 0 if there is none.
 */
static size_t utf8_next(struct str s, uint32_t *r)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const uint8_t *p = (const uint8_t *)s.p;
    size_t n = p[0] < 0x80   ? 1
               : p[0] < 0xC2 ? 0
               : p[0] < 0xE0 ? 2
               : p[0] < 0xF0 ? 3
               : p[0] < 0xF5 ? 4
                             : 0;

    if (n == 0 || n > s.n)
        return 0;
    *r = n == 1 ? p[0] : p[0] & (0xFFu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return 0;
        *r = *r << 6 | (p[i] & 0x3F);
    }
    if (*r < least[n] || *r > 0x10FFFF || (*r >= 0xD800 && *r < 0xE000))
        return 0;
    return n;
}

static void quote_char(struct buf *b, uint32_t r, struct str bytes)
{
    static const char named[] = "\a\b\f\n\r\t\v", letters[] = "abfnrtv";
    const char *at = r && r < 0x20 ? strchr(named, (int)r) : NULL;

    if (r == '"' || r == '\\')
        buf_addc(b, '\\');
    if (at)
        buf_printf(b, "\\%c", letters[at - named]);
    else if (r < 0x20 || r == 0x7F)
        buf_printf(b, "\\x%02x", (unsigned)r);
    else if ((r >= 0x80 && r < 0xA1) || r == 0xAD || r == 0x2028 ||
             r == 0x2029 || r == 0xFEFF)
        buf_printf(b, "\\u%04x", (unsigned)r); /* not printable to Go */
    else
        buf_addstr(b, bytes);
}

void ctl_quote(struct buf *b, struct str s)
{
    buf_addc(b, '"');
    while (s.n > 0) {
        uint32_t r;
        size_t n = utf8_next(s, &r);

        if (n > 0)
            quote_char(b, r, (struct str){s.p, n});
        else
            buf_printf(b, "\\x%02x", (unsigned)(uint8_t)s.p[0]);
        n = n ? n : 1;
        s.p += n;
        s.n -= n;
    }
    buf_addc(b, '"');
}

void ctl_join(struct buf *b, const struct json *array, const char *sep)
{
    const struct json *first = array ? array->first : NULL;

    for (const struct json *j = first; j; j = j->next) {
        if (j != first)
            buf_adds(b, sep);
        buf_addstr(b, json_text(j, ""));
    }
}

void ctl_clean_path(struct buf *b, struct str path)
{
    size_t before = b->len;

    url_clean_path(b, path);
    if (path.n > 0 && path.p[path.n - 1] == '/' && b->len - before > 1)
        buf_addc(b, '/');
}
