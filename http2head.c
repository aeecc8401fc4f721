/*
 * http2head.c - what a list of fields must look like: RFC 9113, sections 8.2
 * and 8.3. Whatever passes cannot be told apart from a message of HTTP/1.1, so
 * that nothing can be smuggled past those who look at one and not at the other.
 */
#include "http2_impl.h"

/* 8.2.1: no blanks, control characters, upper case or 8-bit characters; the
 * colon is for pseudo fields. */
static bool name_ok(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = (uint8_t)s.p[i];

        if (c <= ' ' || c >= 0x7f || (c >= 'A' && c <= 'Z') || c == ':')
            return false;
    }
    return s.n > 0;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool value_ok(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == '\0' || s.p[i] == '\n' || s.p[i] == '\r')
            return false;
    return true;
}

/*
 * Asked of requests only: grpc-message of a server may end in a blank, since
 * gRPC's percent-encoding leaves it alone, and that is worth more to a client
 * than being right.
 */
static bool value_trimmed(struct str s)
{
    return s.n == 0 || !(is_blank(s.p[0]) || is_blank(s.p[s.n - 1]));
}

/* A pseudo field: once, and without what would end it in a line of HTTP/1. */
static bool once(struct str *place, struct str value)
{
    if (place->p)
        return false;
    for (size_t i = 0; i < value.n; i++)
        if ((uint8_t)value.p[i] <= ' ' || value.p[i] == 0x7f)
            return false;
    *place = value;
    return true;
}

static bool take_status(struct h2_event *ev, struct str v)
{
    uint64_t n;

    if (ev->status || v.n != 3 || !str_to_u64(v, &n) || n < 100)
        return false;
    ev->status = (int)n;
    return true;
}

/* 8.3: those of the kind of message, each once. */
static bool take_pseudo(struct h2_event *ev, enum head_kind kind,
                        const struct hpack_field *f)
{
    if (kind == RESPONSE)
        return str_eqz(f->name, ":status") && take_status(ev, f->value);
    if (kind == TRAILERS)
        return false; /* 8.1 */
    if (str_eqz(f->name, ":method"))
        return once(&ev->method, f->value) && f->value.n > 0;
    if (str_eqz(f->name, ":scheme"))
        return once(&ev->scheme, f->value);
    if (str_eqz(f->name, ":authority"))
        return once(&ev->authority, f->value);
    if (str_eqz(f->name, ":path"))
        return once(&ev->path, f->value);
    return false;
}

/* 8.3.1, and 8.5 for CONNECT. */
static bool pseudo_complete(const struct h2_event *ev, enum head_kind kind)
{
    if (kind == RESPONSE)
        return ev->status != 0;
    if (kind == TRAILERS)
        return true;
    if (!ev->method.p)
        return false;
    if (str_eqz(ev->method, "CONNECT"))
        return ev->authority.p && !ev->scheme.p && !ev->path.p;
    return ev->scheme.n > 0 && ev->path.n > 0;
}

static bool take_length(struct str v, int64_t *length)
{
    uint64_t n;

    if (!str_to_u64(v, &n) || n > INT64_MAX ||
        (*length >= 0 && *length != (int64_t)n))
        return false;
    *length = (int64_t)n;
    return true;
}

/* 8.2.2: what is about a connection of HTTP/1 has no place here. */
static bool regular_ok(const struct hpack_field *f, int64_t *length)
{
    static const char *const forbidden[] = {"connection", "keep-alive",
                                            "proxy-connection",
                                            "transfer-encoding", "upgrade"};

    if (!name_ok(f->name))
        return false;
    switch (f->name.n) {
    case 2:
        return !str_eqz(f->name, "te") || str_caseeqz(f->value, "trailers");
    case 7:
    case 10:
    case 16:
    case 17:
        for (size_t i = 0; i < ARRAY_LEN(forbidden); i++)
            if (str_eqz(f->name, forbidden[i]))
                return false;
        return true;
    case 14:
        return !str_eqz(f->name, "content-length") ||
               take_length(f->value, length);
    default:
        return true;
    }
}

bool h2_check_head(const struct hpack_list *l, enum head_kind kind,
                   struct h2_event *ev, int64_t *length)
{
    size_t i = 0;

    *length = -1;
    for (; i < l->n && l->fields[i].name.n && l->fields[i].name.p[0] == ':';
         i++)
        if (!value_ok(l->fields[i].value) ||
            !take_pseudo(ev, kind, &l->fields[i]))
            return false;
    if (!pseudo_complete(ev, kind))
        return false;
    ev->fields = l->fields + i;
    ev->n_fields = l->n - i;
    for (; i < l->n; i++) /* a pseudo field among these has a bad name */
        if (!regular_ok(&l->fields[i], length) ||
            !value_ok(l->fields[i].value) ||
            (kind == REQUEST && !value_trimmed(l->fields[i].value)))
            return false;
    return true;
}

struct str h2_field(const struct h2_event *ev, const char *name)
{
    for (size_t i = 0; i < ev->n_fields; i++)
        if (str_eqz(ev->fields[i].name, name))
            return ev->fields[i].value;
    return (struct str){NULL, 0};
}
