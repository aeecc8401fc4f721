/*
 * ctlv3format.c - how etcdctl writes messages of any kind: the JSON of Go's
 * encoding/json, and tables.
 *
 * The JSON follows the message's description (msg.h): names as in the .proto,
 * defaults left out, numbers and enums as numbers, bytes as base64. A oneof is
 * a field of its own around the one that is set, in Go's names.
 */
#include "ctlv3.h"

#include "crypto.h"

#include <inttypes.h>
#include <stdio.h>

/* --- JSON. -------------------------------------------------------------------------- */

void ctlv3_json_uint(struct buf *b, const char *name, uint64_t v)
{
    json_add_key(b, name);
    buf_printf(b, "%" PRIu64, v);
}

void ctlv3_json_int(struct buf *b, const char *name, int64_t v)
{
    json_add_key(b, name);
    buf_printf(b, "%" PRId64, v);
}

static void add_base64(struct buf *b, struct str s)
{
    buf_addc(b, '"');
    base64_encode(b, s.p, s.n);
    buf_addc(b, '"');
}

/* Of none: null, as of a slice that nobody made. */
void ctlv3_json_bytes(struct buf *b, const struct str *items, size_t n)
{
    if (n == 0) {
        buf_adds(b, "null");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        buf_addc(b, i ? ',' : '[');
        add_base64(b, items[i]);
    }
    buf_addc(b, ']');
}

static void add_value(struct buf *b, const struct msg_field *f,
                      const struct msg_value *v)
{
    switch (f->type) {
    case MSG_BOOL:
        buf_adds(b, v->u64 ? "true" : "false");
        break;
    case MSG_UINT64:
    case MSG_UINT32:
        buf_printf(b, "%" PRIu64, v->u64);
        break;
    case MSG_INT64:
    case MSG_ENUM:
        buf_printf(b, "%" PRId64, v->i64);
        break;
    case MSG_BYTES:
        add_base64(b, v->bytes);
        break;
    case MSG_STRING:
        json_add_string(b, v->bytes);
        break;
    case MSG_MESSAGE: /* depth: that of the description's own nesting */
        ctlv3_json(b, f->message, v->message);
        break;
    }
}

/* response_delete_range becomes ResponseDeleteRange. */
static void add_go_name(struct buf *b, const char *name)
{
    bool upper = true;

    for (; *name; name++) {
        if (*name == '_') {
            upper = true;
            continue;
        }
        buf_addc(b, upper && *name >= 'a' && *name <= 'z'
                        ? (char)(*name - 'a' + 'A')
                        : *name);
        upper = false;
    }
}

/* {"Response":{"ResponsePut":...}}: the outer name is the first word. */
static void add_oneof(struct buf *b, const struct msg_field *f,
                      const struct msg_value *v)
{
    struct buf inner = {0}, outer = {0};
    struct str word, rest = str_of(f->name);

    str_cut(&rest, '_', &word);
    add_go_name(&inner, f->name);
    buf_add(&outer, buf_z(&inner), word.n);
    json_add_key(b, buf_z(&outer));
    buf_addc(b, '{');
    json_add_key(b, buf_z(&inner));
    add_value(b, f, v);
    buf_addc(b, '}');
    buf_release(&inner);
    buf_release(&outer);
}

void ctlv3_json_fields(struct buf *b, const struct msg_desc *d, const void *msg)
{
    for (size_t i = 0; i < d->n_fields; i++) {
        const struct msg_field *f = &d->fields[i];
        size_t n = msg_count(f, msg);

        if (n == 0)
            continue;
        if (f->flags & MSG_ONEOF) {
            struct msg_value v = msg_value(f, msg, 0);

            add_oneof(b, f, &v);
            continue;
        }
        json_add_key(b, f->name);
        if (f->flags & MSG_REPEATED)
            buf_addc(b, '[');
        for (size_t k = 0; k < n; k++) {
            struct msg_value v = msg_value(f, msg, k);

            if (k > 0)
                buf_addc(b, ',');
            add_value(b, f, &v);
        }
        if (f->flags & MSG_REPEATED)
            buf_addc(b, ']');
    }
}

void ctlv3_json(struct buf *b, const struct msg_desc *d, const void *msg)
{
    buf_addc(b, '{');
    ctlv3_json_fields(b, d, msg);
    buf_addc(b, '}');
}

/* --- Tables. -------------------------------------------------------------------------- */

void ctlv3_table_add(struct ctlv3_table *t, const char *fmt, ...)
{
    struct buf b = {0};
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&b, fmt, ap);
    va_end(ap);
    t->cells = xrealloc(t->cells, (t->n_cells + 1) * sizeof(*t->cells));
    t->cells[t->n_cells++] = buf_steal(&b);
}

/* Characters as they stand in a terminal, near enough: UTF-8's first bytes. */
static size_t width(const char *s)
{
    size_t n = 0;

    for (; *s; s++)
        n += ((uint8_t)*s & 0xc0) != 0x80;
    return n;
}

static void pad(size_t n, char c)
{
    while (n-- > 0)
        putchar(c);
}

static void print_rule(const size_t *widths, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        putchar('+');
        pad(widths[i] + 2, '-');
    }
    printf("+\n");
}

/* The head is centered, the rest stands at the right. */
static void print_row(char **cells, const size_t *widths, size_t n, bool head)
{
    for (size_t i = 0; i < n; i++) {
        size_t room = widths[i] - width(cells[i]);
        size_t left = head ? room / 2 : room;

        printf("| ");
        pad(left, ' ');
        printf("%s", cells[i]);
        pad(room - left, ' ');
        putchar(' ');
    }
    printf("|\n");
}

void ctlv3_table_print(struct ctlv3_table *t)
{
    size_t *widths = xcalloc(t->n_columns, sizeof(*widths));

    for (size_t i = 0; i < t->n_cells; i++) {
        size_t *w = &widths[i % t->n_columns];

        if (width(t->cells[i]) > *w)
            *w = width(t->cells[i]);
    }
    print_rule(widths, t->n_columns);
    for (size_t i = 0; i < t->n_cells; i += t->n_columns) {
        print_row(t->cells + i, widths, t->n_columns, i == 0);
        if (i == 0)
            print_rule(widths, t->n_columns);
    }
    print_rule(widths, t->n_columns);
    for (size_t i = 0; i < t->n_cells; i++)
        free(t->cells[i]);
    free(t->cells);
    free(widths);
    *t = (struct ctlv3_table){0};
}
