/*
 * msgjson.c - messages as the JSON of etcd's gateway, by table (msg.h).
 *
 * READING   The input is passed over twice: once for its form, which also
 *           tells where the value ends, and once to store it, token by token,
 *           without a tree. So an error of form anywhere comes before an error
 *           of meaning, as in Go, whose words all errors have.
 *
 * The gateway's rules are those of golang/protobuf's jsonpb: a number in
 * quotes is what stands between them, read as JSON again, so that the error
 * about "abc" is one of JSON's grammar; the types in its errors are Go's.
 */
#include "msg.h"

#include "crypto.h"
#include "json.h"

#include <assert.h>
#include <stdio.h>

/* --- Writing. ------------------------------------------------------------------ */

static void add_i64(struct buf *b, int64_t v)
{
    if (v < 0)
        buf_addc(b, '-');
    buf_add_u64(b, v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
}

static void add_value(struct buf *b, const struct msg_field *f,
                      const struct msg_value *v)
{
    const char *name;

    switch (f->type) {
    case MSG_BOOL:
        buf_adds(b, v->u64 ? "true" : "false");
        break;
    case MSG_INT64:
        buf_addc(b, '"');
        add_i64(b, v->i64);
        buf_addc(b, '"');
        break;
    case MSG_UINT64:
        buf_addc(b, '"');
        buf_add_u64(b, v->u64);
        buf_addc(b, '"');
        break;
    case MSG_UINT32:
        buf_add_u64(b, v->u64);
        break;
    case MSG_ENUM:
        name = msg_enum_name(f->values, (int32_t)v->i64);
        if (name)
            json_add_string(b, str_of(name));
        else
            add_i64(b, v->i64);
        break;
    case MSG_BYTES:
        buf_addc(b, '"');
        base64_encode(b, v->bytes.p, v->bytes.n);
        buf_addc(b, '"');
        break;
    case MSG_STRING:
        json_add_string(b, v->bytes);
        break;
    default:
        msg_encode_json(f->message, v->message, b);
    }
}

static void add_field(struct buf *b, const struct msg_field *f, const void *msg)
{
    size_t n = msg_count(f, msg);
    struct msg_value v;

    if (n == 0)
        return;
    json_add_key(b, f->name);
    if (!(f->flags & MSG_REPEATED)) {
        v = msg_value(f, msg, 0);
        add_value(b, f, &v);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        buf_addc(b, i ? ',' : '[');
        v = msg_value(f, msg, i);
        add_value(b, f, &v);
    }
    buf_addc(b, ']');
}

void msg_encode_json(const struct msg_desc *d, const void *msg, struct buf *b)
{
    buf_addc(b, '{');
    for (size_t i = 0; i < d->n_fields; i++)
        add_field(b, &d->fields[i], msg);
    buf_addc(b, '}');
}

/* --- Reading. -------------------------------------------------------------------- */

/* The second pass. */
struct json_in {
    struct json_reader r;
    struct arena *arena;
    struct err *e;
    unsigned depth;
    size_t from; /* the last value's token begins here or behind blanks */
};

static int read_object(struct json_in *in, const struct msg_desc *d, void *msg);

static int fail_limit(struct json_in *in)
{
    return err_set(in->e, MSG_ELIMIT, "message too large");
}

/* What Go calls the value that a token begins. */
static const char *go_value(int token)
{
    switch (token) {
    case JSON_READ_FALSE:
    case JSON_READ_TRUE:
        return "bool";
    case JSON_READ_NUMBER:
        return "number";
    case JSON_READ_STRING:
        return "string";
    case JSON_READ_ARRAY:
        return "array";
    default:
        return "object";
    }
}

static const char *go_type(const struct msg_field *f)
{
    static const char *const types[] = {
        [MSG_BOOL] = "bool",
        [MSG_INT64] = "int64",
        [MSG_UINT64] = "uint64",
        [MSG_UINT32] = "uint32",
        [MSG_BYTES] = "[]uint8",
        [MSG_STRING] = "string",
        [MSG_MESSAGE] = "map[string]json.RawMessage",
    };

    return f->type == MSG_ENUM ? f->values->name : types[f->type];
}

static int fail_type(struct json_in *in, int token, const char *type)
{
    return err_set(in->e, MSG_EINVAL,
                   "json: cannot unmarshal %s into Go value of type %s",
                   go_value(token), type);
}

static int fail_number(struct json_in *in, struct str digits, const char *type)
{
    return err_set(in->e, MSG_EINVAL,
                   "json: cannot unmarshal number %.*s into Go value of type "
                   "%s",
                   STR_FMT(digits), type);
}

static int read_token(struct json_in *in, struct str *text)
{
    in->from = in->r.at;
    return json_read(&in->r, text);
}

/* The last value, a string: what stands between its quotes, escapes and all. */
static struct str raw_string(const struct json_in *in)
{
    const char *p = (const char *)in->r.p;
    const char *begin = memchr(p + in->from, '"', in->r.at - in->from);

    assert(begin && p[in->r.at - 1] == '"');
    return (struct str){begin + 1, (size_t)(p + in->r.at - 1 - (begin + 1))};
}

/* A whole number that fits; JSON's grammar has been checked. */
static int store_digits(struct json_in *in, const struct msg_field *f,
                        struct str digits, void *at)
{
    uint64_t u = 0;
    int64_t i = 0;
    bool ok;

    if (f->type == MSG_UINT64 || f->type == MSG_UINT32) {
        ok = str_to_u64(digits, &u) &&
             (f->type == MSG_UINT64 || u <= UINT32_MAX);
        if (ok && f->type == MSG_UINT64)
            *(uint64_t *)at = u;
        else if (ok)
            *(uint32_t *)at = (uint32_t)u;
    } else {
        ok = str_to_i64(digits, &i) &&
             (f->type == MSG_INT64 || (i >= INT32_MIN && i <= INT32_MAX));
        if (ok && f->type == MSG_INT64)
            *(int64_t *)at = i;
        else if (ok)
            *(int32_t *)at = (int32_t)i;
    }
    return ok ? 0 : fail_number(in, digits, go_type(f));
}

/* What stands between quotes, as a document of its own: "12", "null". */
static int read_quoted(struct json_in *in, const struct msg_field *f,
                       struct str text, void *at)
{
    struct json_reader r;
    struct str inner;
    int token, rc;

    json_reader_init(&r, text.p, text.n, 1, in->e);
    token = json_read(&r, &inner);
    rc = token < 0 ? token : json_read(&r, &text);
    if (rc < 0)
        rc = MSG_EINVAL;
    else if (token == JSON_READ_NUMBER)
        rc = store_digits(in, f, inner, at);
    else if (token != JSON_READ_NULL)
        rc = fail_type(in, token, go_type(f));
    json_reader_release(&r);
    return rc;
}

static int read_number(struct json_in *in, const struct msg_field *f, int token,
                       struct str text, void *at)
{
    if (token == JSON_READ_NUMBER)
        return store_digits(in, f, text, at);
    if (token == JSON_READ_STRING)
        return read_quoted(in, f, raw_string(in), at);
    return fail_type(in, token, go_type(f));
}

static int read_enum(struct json_in *in, const struct msg_field *f, int token,
                     struct str text, int32_t *at)
{
    if (token == JSON_READ_NUMBER)
        return store_digits(in, f, text, at);
    if (token != JSON_READ_STRING)
        return fail_type(in, token, go_type(f));
    text = raw_string(in);
    if (!msg_enum_value(f->values, text, at))
        return err_set(in->e, MSG_EINVAL, "unknown value \"%.*s\" for enum %s",
                       STR_FMT(text), f->values->name);
    return 0;
}

#define BYTE_ARRAY_MIN 64 /* bytes of the first room for one */

/* Go takes an array of small numbers for bytes, too. */
static int read_byte_array(struct json_in *in, struct str *at)
{
    struct str text;
    uint64_t v;
    size_t n = 0, room = 0;
    char *p = NULL;
    int token;

    while ((token = json_read(&in->r, &text)) != JSON_READ_ARRAY_END) {
        if (token == JSON_READ_NULL)
            v = 0;
        else if (token != JSON_READ_NUMBER)
            return fail_type(in, token, "uint8");
        else if (!str_to_u64(text, &v) || v > UINT8_MAX)
            return fail_number(in, text, "uint8");
        if (n == room) {
            room = room ? room * 2 : BYTE_ARRAY_MIN;
            p = arena_grow(in->arena, p, n, room);
            if (!p)
                return fail_limit(in);
        }
        p[n++] = (char)v;
    }
    *at = (struct str){p, n};
    return 0;
}

static int read_bytes(struct json_in *in, int token, struct str text,
                      struct str *at)
{
    uint8_t *p;
    size_t bad;

    if (token == JSON_READ_ARRAY)
        return read_byte_array(in, at);
    if (token != JSON_READ_STRING)
        return fail_type(in, token, "[]uint8");
    p = arena_alloc(in->arena, base64_room(text.n));
    if (!p)
        return fail_limit(in);
    if (!base64_read(text, p, &at->n, &bad))
        return err_set(in->e, MSG_EINVAL,
                       "illegal base64 data at input byte %zu", bad);
    at->p = (const char *)p;
    return 0;
}

/* Borrows from the input, if the string stands there as it is. */
static int read_text(struct json_in *in, int token, struct str text,
                     struct str *at)
{
    uintptr_t start = (uintptr_t)in->r.p, p = (uintptr_t)text.p;

    if (token != JSON_READ_STRING)
        return fail_type(in, token, "string");
    if (text.n > 0 && p >= start && p < start + in->r.n)
        *at = text;
    else if (!arena_str(in->arena, text, at))
        return fail_limit(in);
    return 0;
}

/* One value, whose first token is this, into its place. Not null. */
static int read_value(struct json_in *in, const struct msg_field *f, int token,
                      struct str text, void *at)
{
    switch (f->type) {
    case MSG_MESSAGE:
        if (token != JSON_READ_OBJECT)
            return fail_type(in, token, go_type(f));
        return read_object(in, f->message, at);
    case MSG_BYTES:
        return read_bytes(in, token, text, at);
    case MSG_STRING:
        return read_text(in, token, text, at);
    case MSG_ENUM:
        return read_enum(in, f, token, text, at);
    case MSG_BOOL:
        if (token != JSON_READ_TRUE && token != JSON_READ_FALSE)
            return fail_type(in, token, go_type(f));
        *(bool *)at = token == JSON_READ_TRUE;
        return 0;
    default:
        return read_number(in, f, token, text, at);
    }
}

/* A lone string for a list of enums is looked up before it is refused. */
static int fail_list(struct json_in *in, const struct msg_field *f, int token,
                     struct str text)
{
    int32_t value;
    int rc;

    if (f->type != MSG_ENUM || token != JSON_READ_STRING)
        return fail_type(in, token, "[]json.RawMessage");
    rc = read_enum(in, f, token, text, &value);
    if (rc < 0)
        return rc;
    return err_set(in->e, MSG_EINVAL, "invalid target \"slice\" for enum %s",
                   f->values->name);
}

/* A null is an empty item. */
static int read_list(struct json_in *in, const struct msg_field *f, int token,
                     struct str text, void *msg)
{
    int rc = 0;

    if (token != JSON_READ_ARRAY)
        return fail_list(in, f, token, text);
    while (rc == 0 && (token = read_token(in, &text)) != JSON_READ_ARRAY_END) {
        void *at = msg_append(f, msg, in->arena);

        if (!at)
            return fail_limit(in);
        if (token != JSON_READ_NULL)
            rc = read_value(in, f, token, text, at);
    }
    return rc;
}

/* Undo what an earlier member of this name has set. */
static void clear_field(const struct msg_field *f, void *msg)
{
    size_t n = msg_item_size(f);

    if (f->flags & MSG_REPEATED)
        n = sizeof(struct msg_list);
    else if (f->type == MSG_MESSAGE || (f->flags & MSG_ONEOF))
        n = sizeof(void *);
    memset((uint8_t *)msg + f->offset, 0, n);
}

static int read_field(struct json_in *in, const struct msg_desc *d,
                      const struct msg_field *f, void *msg)
{
    struct str text;
    int token = read_token(in, &text);
    void *at;

    clear_field(f, msg);
    if (token == JSON_READ_NULL)
        return 0;
    if (f->flags & MSG_REPEATED)
        return read_list(in, f, token, text, msg);
    at = msg_set(d, f, msg, in->arena);
    return at ? read_value(in, f, token, text, at) : fail_limit(in);
}

/* Is this the field's name, as it is or in lowerCamelCase? */
static bool is_name(const char *name, struct str s)
{
    size_t at = 0;

    if (str_eqz(s, name))
        return true;
    for (; *name && at < s.n; name++) {
        char c = *name;

        if (c == '_' && name[1]) {
            c = *++name;
            if (c >= 'a' && c <= 'z')
                c = (char)(c - 'a' + 'A');
        }
        if (s.p[at++] != c)
            return false;
    }
    return !*name && at == s.n;
}

static const struct msg_field *find_name(const struct msg_desc *d, struct str s)
{
    for (size_t i = 0; i < d->n_fields; i++)
        if (is_name(d->fields[i].name, s))
            return &d->fields[i];
    return NULL;
}

/* After its opening brace, up to the closing one. */
static int read_object(struct json_in *in, const struct msg_desc *d, void *msg)
{
    struct str name;
    int rc = 0;

    if (++in->depth > MSG_DEPTH_MAX)
        return err_set(in->e, MSG_EDEPTH, "exceeded max depth");
    while (rc == 0 && json_read(&in->r, &name) != JSON_READ_OBJECT_END) {
        const struct msg_field *f = find_name(d, name);

        rc = f ? read_field(in, d, f, msg) : json_skip(&in->r);
    }
    in->depth--;
    return rc;
}

/* The first pass: is it JSON, and where does it end? */
static int measure(const void *p, size_t n, size_t *used, struct err *e)
{
    struct json_reader r;
    size_t at = 0;
    int rc;

    while (at < n && memchr(" \t\r\n", ((const char *)p)[at], 4))
        at++;
    if (at == n)
        return err_set(e, MSG_EEND, "EOF");
    json_reader_init(&r, p, n, JSON_DEPTH_MAX, e);
    rc = json_skip(&r);
    *used = r.at;
    if (rc == JSON_EDEPTH)
        rc = MSG_EDEPTH;
    else if (rc < 0 && r.at >= n)
        rc = err_set(e, MSG_ESHORT, "unexpected EOF");
    else if (rc < 0)
        rc = MSG_EINVAL;
    json_reader_release(&r);
    return rc;
}

/* The second pass: p[0..n) is one value. */
static int store(const struct msg_desc *d, const void *p, size_t n,
                 struct arena *a, void *out, struct err *e)
{
    struct json_in in = {.arena = a, .e = e};
    struct str text;
    int token, rc = 0;

    json_reader_init(&in.r, p, n, JSON_DEPTH_MAX, e);
    token = json_read(&in.r, &text);
    if (token == JSON_READ_OBJECT)
        rc = read_object(&in, d, out);
    else if (token != JSON_READ_NULL)
        rc = fail_type(&in, token, "map[string]json.RawMessage");
    json_reader_release(&in.r);
    return rc;
}

int msg_decode_json(const struct msg_desc *d, const void *p, size_t n,
                    struct arena *a, void *out, size_t *used, struct err *e)
{
    size_t end = 0;
    int rc;

    memset(out, 0, d->size);
    rc = measure(p, n, &end, e);
    if (rc == 0)
        rc = store(d, p, end, a, out, e);
    if (used)
        *used = end;
    if (rc < 0)
        memset(out, 0, d->size);
    return rc;
}
