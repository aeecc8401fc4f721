/*
 * msg.c - arenas, descriptions, and protobuf by table. JSON is in msgjson.c.
 *
 * READING   One loop over the fields that pb.c cuts out of the input; each is
 *           looked up by its number and stored at its offset. Bytes are
 *           borrowed, so that most requests need no memory at all.
 *
 * LISTS     A repeated field grows by doubling, in its arena. Its capacity is
 *           not stored: it is the power of two that its length was before the
 *           last doubling reached. The array mostly stands last in the arena
 *           and grows in place.
 *
 * WRITING   Backwards, from the last field to the first, into room that was
 *           measured before: so the length of a nested message is known when
 *           it is written, and is measured only once, as part of the whole.
 *
 * Pointers and lists in the structs point to many types; they are read and
 * written as void * by memcpy(), which costs nothing and breaks no rule of
 * aliasing.
 */
#include "msg.h"

#include "pb.h"

/* --- Arenas. --------------------------------------------------------------- */

#define ARENA_ALIGN 8
#define ARENA_CHUNK_MIN 1024
#define ARENA_CHUNK_MAX ((size_t)64 * 1024)

struct arena_chunk {
    struct arena_chunk *next;
    size_t size; /* of all of it */
    uint64_t data[];
};

static size_t align_up(size_t n)
{
    return (n + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
}

/* A chunk with room for n, at most as large as the limit leaves room for. */
static bool add_chunk(struct arena *a, size_t n)
{
    size_t left = a->limit - a->size;
    size_t size = a->chunks ? a->chunks->size * 2 : ARENA_CHUNK_MIN;
    struct arena_chunk *c;

    if (left < sizeof(*c) || n > left - sizeof(*c))
        return false;
    if (size > ARENA_CHUNK_MAX)
        size = ARENA_CHUNK_MAX;
    if (size < n + sizeof(*c))
        size = n + sizeof(*c);
    if (size > left)
        size = left;
    c = xmalloc(size);
    c->next = a->chunks;
    c->size = size;
    a->chunks = c;
    a->size += size;
    a->at = (uint8_t *)c->data;
    a->end = (uint8_t *)c + size;
    return true;
}

/* What arena_alloc() hands out for n bytes. */
static inline size_t room_of(size_t n)
{
    return align_up(n ? n : 1);
}

static void *alloc_raw(struct arena *a, size_t n)
{
    size_t room = room_of(n);
    void *p;

    if (n > a->limit)
        return NULL; /* also: room did not wrap */
    if (room > (size_t)(a->end - a->at) && !add_chunk(a, room))
        return NULL;
    p = a->at;
    a->at += room;
    return p;
}

void *arena_alloc(struct arena *a, size_t n)
{
    void *p = alloc_raw(a, n);

    return p ? memset(p, 0, n) : NULL;
}

void *arena_grow(struct arena *a, void *p, size_t n_old, size_t n_new)
{
    uint8_t *old = p, *out;

    assert(n_new >= n_old);
    assert(old || n_old == 0);
    if (n_new > a->limit)
        return NULL;
    if (old && old + room_of(n_old) == a->at &&
        room_of(n_new) <= (size_t)(a->end - old)) {
        a->at = old + room_of(n_new);
        out = old;
    } else {
        out = alloc_raw(a, n_new);
        if (!out)
            return NULL;
        if (old)
            memcpy(out, old, n_old);
    }
    memset(out + n_old, 0, n_new - n_old);
    return out;
}

bool arena_str(struct arena *a, struct str s, struct str *out)
{
    char *p = alloc_raw(a, s.n);

    if (!p)
        return false;
    if (s.n > 0)
        memcpy(p, s.p, s.n);
    *out = (struct str){p, s.n};
    return true;
}

void arena_reset(struct arena *a)
{
    struct arena_chunk *c = a->chunks, *next;

    for (; c && (c->next || c->size > ARENA_CHUNK_MAX); c = next) {
        next = c->next;
        a->size -= c->size;
        free(c);
    }
    a->chunks = c;
    a->at = c ? (uint8_t *)c->data : NULL;
    a->end = c ? (uint8_t *)c + c->size : NULL;
}

void arena_release(struct arena *a)
{
    struct arena_chunk *next;

    for (struct arena_chunk *c = a->chunks; c; c = next) {
        next = c->next;
        free(c);
    }
    *a = (struct arena){.limit = a->limit};
}

/* --- Descriptions. --------------------------------------------------------- */

/* Most messages number their fields from 1 without a gap. */
static inline const struct msg_field *find(const struct msg_desc *d,
                                           uint32_t number)
{
    const struct msg_field *f = d->fields;

    if (number - 1 < d->n_fields && f[number - 1].number == number)
        return &f[number - 1];
    for (size_t i = 0; i < d->n_fields; i++)
        if (f[i].number == number)
            return &f[i];
    return NULL;
}

const struct msg_field *msg_field(const struct msg_desc *d, uint32_t number)
{
    return find(d, number);
}

const char *msg_enum_name(const struct msg_enum *e, int32_t value)
{
    for (size_t i = 0; i < e->n; i++)
        if (e->values[i].value == value)
            return e->values[i].name;
    return NULL;
}

bool msg_enum_value(const struct msg_enum *e, struct str name, int32_t *out)
{
    for (size_t i = 0; i < e->n; i++)
        if (str_eqz(name, e->values[i].name)) {
            *out = e->values[i].value;
            return true;
        }
    return false;
}

/* --- Members, wherever they stand. ----------------------------------------- */

static inline void *load_pointer(const void *at)
{
    void *p;

    memcpy(&p, at, sizeof(p));
    return p;
}

static inline void store_pointer(void *at, void *p)
{
    memcpy(at, &p, sizeof(p));
}

static inline struct msg_list load_list(const void *at)
{
    struct msg_list l;

    memcpy(&l, at, sizeof(l));
    return l;
}

size_t msg_item_size(const struct msg_field *f)
{
    static const size_t sizes[] = {
        [MSG_BOOL] = sizeof(bool),         [MSG_INT64] = sizeof(int64_t),
        [MSG_UINT64] = sizeof(uint64_t),   [MSG_UINT32] = sizeof(uint32_t),
        [MSG_ENUM] = sizeof(int32_t),      [MSG_BYTES] = sizeof(struct str),
        [MSG_STRING] = sizeof(struct str),
    };

    return f->type == MSG_MESSAGE ? f->message->size : sizes[f->type];
}

/*
 * Where the value itself stands, if the field has one: the scalar, or the
 * nested message. NULL if it is absent.
 */
static inline const void *value_at(const struct msg_field *f, const void *msg)
{
    const void *slot = (const uint8_t *)msg + f->offset;

    if (f->type == MSG_MESSAGE || (f->flags & MSG_ONEOF))
        return load_pointer(slot);
    return slot;
}

/* Of a scalar: the number that protobuf writes. */
static inline uint64_t number_at(const struct msg_field *f, const void *at)
{
    switch (f->type) {
    case MSG_BOOL:
        return *(const bool *)at;
    case MSG_UINT32:
        return *(const uint32_t *)at;
    case MSG_ENUM: /* negative ones are sent as 64 bits */
        return (uint64_t)(int64_t) * (const int32_t *)at;
    case MSG_INT64:
        return (uint64_t) * (const int64_t *)at;
    default:
        return *(const uint64_t *)at;
    }
}

static inline bool is_bytes(const struct msg_field *f)
{
    return f->type == MSG_BYTES || f->type == MSG_STRING;
}

/* Is a field that is not repeated to be written? at is its value_at(). */
static inline bool present(const struct msg_field *f, const void *at)
{
    if (!at)
        return false;
    if (f->type == MSG_MESSAGE || (f->flags & MSG_ONEOF))
        return true;
    if (is_bytes(f))
        return ((const struct str *)at)->n > 0;
    return number_at(f, at) != 0;
}

size_t msg_count(const struct msg_field *f, const void *msg)
{
    if (f->flags & MSG_REPEATED)
        return load_list((const uint8_t *)msg + f->offset).n;
    return present(f, value_at(f, msg));
}

struct msg_value msg_value(const struct msg_field *f, const void *msg, size_t i)
{
    struct msg_value v = {0};
    const void *at;

    if (f->flags & MSG_REPEATED) {
        struct msg_list l = load_list((const uint8_t *)msg + f->offset);

        assert(i < l.n);
        at = (const uint8_t *)l.items + i * msg_item_size(f);
    } else {
        at = value_at(f, msg);
    }
    if (f->type == MSG_MESSAGE) {
        v.message = at;
    } else if (at && is_bytes(f)) {
        v.bytes = *(const struct str *)at;
    } else if (at) {
        v.u64 = number_at(f, at);
        v.i64 = (int64_t)v.u64;
    }
    return v;
}

/* --- Building a message. ----------------------------------------------------- */

#define LIST_MIN 4 /* items of the first array */

void *msg_append(const struct msg_field *f, void *msg, struct arena *a)
{
    void *slot = (uint8_t *)msg + f->offset;
    struct msg_list l = load_list(slot);
    size_t size = msg_item_size(f), n_new = l.n ? l.n * 2 : LIST_MIN;

    if (l.n == 0 || (l.n >= LIST_MIN && (l.n & (l.n - 1)) == 0)) {
        if (n_new > a->limit / size)
            return NULL;
        l.items = arena_grow(a, l.items, l.n * size, n_new * size);
        if (!l.items)
            return NULL;
    }
    l.n++;
    memcpy(slot, &l, sizeof(l));
    return (uint8_t *)l.items + (l.n - 1) * size;
}

static void clear_oneof(const struct msg_desc *d, void *msg)
{
    for (size_t i = 0; i < d->n_fields; i++)
        if (d->fields[i].flags & MSG_ONEOF)
            store_pointer((uint8_t *)msg + d->fields[i].offset, NULL);
}

void *msg_set(const struct msg_desc *d, const struct msg_field *f, void *msg,
              struct arena *a)
{
    void *slot = (uint8_t *)msg + f->offset, *item;

    assert(!(f->flags & MSG_REPEATED));
    if (f->flags & MSG_ONEOF)
        clear_oneof(d, msg);
    else if (f->type != MSG_MESSAGE)
        return slot;
    item = arena_alloc(a, msg_item_size(f));
    if (item)
        store_pointer(slot, item);
    return item;
}

/* --- Reading protobuf. --------------------------------------------------------- */

static int decode(const struct msg_desc *d, struct str in, struct arena *a,
                  unsigned depth, void *msg);

static inline void store_number(const struct msg_field *f, uint64_t v, void *at)
{
    switch (f->type) {
    case MSG_BOOL:
        *(bool *)at = v != 0;
        break;
    case MSG_UINT32:
        *(uint32_t *)at = (uint32_t)v;
        break;
    case MSG_ENUM: /* the lower 32 bits, whatever came */
        *(int32_t *)at = (int32_t)(uint32_t)v;
        break;
    case MSG_INT64:
        *(int64_t *)at = (int64_t)v;
        break;
    default:
        *(uint64_t *)at = v;
    }
}

/* One value into its place. */
static inline int decode_value(const struct msg_field *f,
                               const struct pb_field *v, struct arena *a,
                               unsigned depth, void *at)
{
    if (f->type == MSG_MESSAGE) {
        if (v->wire != PB_BYTES)
            return MSG_EINVAL;
        return decode(f->message, v->bytes, a, depth + 1, at);
    }
    if (is_bytes(f)) {
        if (v->wire != PB_BYTES)
            return MSG_EINVAL;
        *(struct str *)at = v->bytes;
        return 0;
    }
    if (v->wire != PB_VARINT)
        return MSG_EINVAL;
    store_number(f, v->u64, at);
    return 0;
}

/* Repeated numbers in one field: varints, one behind the other. */
static int decode_packed(const struct msg_field *f, struct str in,
                         struct arena *a, void *msg)
{
    struct pb_reader r = pb_reader(in.p, in.n);
    uint64_t v;

    while (r.p < r.end) {
        void *at;

        if (pb_get_varint(&r, &v) < 0)
            return MSG_EINVAL;
        at = msg_append(f, msg, a);
        if (!at)
            return MSG_ELIMIT;
        store_number(f, v, at);
    }
    return 0;
}

/* A field that needs memory: an item, a nested message, one of a oneof. */
static int decode_item(const struct msg_desc *d, const struct msg_field *f,
                       const struct pb_field *v, struct arena *a,
                       unsigned depth, void *msg)
{
    void *at = NULL;

    if (f->flags & MSG_REPEATED) {
        if (v->wire == PB_BYTES && f->type < MSG_BYTES)
            return decode_packed(f, v->bytes, a, msg);
        at = msg_append(f, msg, a);
    } else {
        if (f->flags == 0) /* a second one is merged into the first */
            at = load_pointer((uint8_t *)msg + f->offset);
        if (!at)
            at = msg_set(d, f, msg, a);
    }
    return at ? decode_value(f, v, a, depth, at) : MSG_ELIMIT;
}

static int decode(const struct msg_desc *d, struct str in, struct arena *a,
                  unsigned depth, void *msg)
{
    struct pb_reader r = pb_reader(in.p, in.n);
    struct pb_field v;
    int rc;

    if (depth > MSG_DEPTH_MAX)
        return MSG_EDEPTH;
    while ((rc = pb_next(&r, &v)) > 0) {
        const struct msg_field *f = find(d, v.number);

        if (!f)
            continue;
        if (f->flags == 0 && f->type != MSG_MESSAGE)
            rc = decode_value(f, &v, a, depth, (uint8_t *)msg + f->offset);
        else
            rc = decode_item(d, f, &v, a, depth, msg);
        if (rc < 0)
            return rc;
    }
    return rc < 0 ? MSG_EINVAL : 0;
}

int msg_decode(const struct msg_desc *d, const void *p, size_t n,
               struct arena *a, void *out)
{
    int rc;

    memset(out, 0, d->size);
    rc = decode(d, (struct str){p, n}, a, 1, out);
    if (rc < 0)
        memset(out, 0, d->size);
    return rc;
}

/* --- Writing protobuf. ------------------------------------------------------------- */

static inline size_t tag_len(const struct msg_field *f)
{
    return pb_varint_len((uint64_t)f->number << 3);
}

/* A length, and that many bytes. */
static inline size_t bytes_size(size_t n)
{
    return pb_varint_len(n) + n;
}

/* Of one value, without its tag. */
static inline size_t value_size(const struct msg_field *f, const void *at)
{
    if (f->type == MSG_MESSAGE)
        return bytes_size(msg_size(f->message, at));
    if (is_bytes(f))
        return bytes_size(((const struct str *)at)->n);
    return pb_varint_len(number_at(f, at));
}

static size_t list_size(const struct msg_field *f, const void *msg)
{
    struct msg_list l = load_list((const uint8_t *)msg + f->offset);
    size_t item = msg_item_size(f), n = 0;

    if (l.n == 0)
        return 0;
    for (size_t i = 0; i < l.n; i++)
        n += value_size(f, (const uint8_t *)l.items + i * item);
    if (f->type < MSG_BYTES)
        return tag_len(f) + bytes_size(n);
    return l.n * tag_len(f) + n;
}

size_t msg_size(const struct msg_desc *d, const void *msg)
{
    size_t n = 0;

    for (const struct msg_field *f = d->fields, *end = f + d->n_fields; f < end;
         f++) {
        const void *at = (const uint8_t *)msg + f->offset;

        if (f->flags & MSG_REPEATED) {
            n += list_size(f, msg);
        } else if (f->type < MSG_BYTES && f->flags == 0) {
            uint64_t v = number_at(f, at);

            n += v ? tag_len(f) + pb_varint_len(v) : 0;
        } else if (present(f, at = value_at(f, msg))) {
            n += tag_len(f) + value_size(f, at);
        }
    }
    return n;
}

/* These write what ends at p, and return where it begins. */

static uint8_t *put_message(const struct msg_desc *d, const void *msg,
                            uint8_t *p);

static inline uint8_t *put_varint(uint8_t *p, uint64_t v)
{
    uint8_t *start = p - pb_varint_len(v);

    for (p = start; v >= 0x80; v >>= 7)
        *p++ = (uint8_t)(v | 0x80);
    *p = (uint8_t)v;
    return start;
}

static inline uint8_t *put_tag(uint8_t *p, const struct msg_field *f,
                               enum pb_wire wire)
{
    return put_varint(p, (uint64_t)f->number << 3 | wire);
}

/* With its tag. */
static inline uint8_t *put_value(const struct msg_field *f, const void *at,
                                 uint8_t *p)
{
    uint8_t *end = p;

    if (f->type == MSG_MESSAGE) {
        p = put_message(f->message, at, p);
    } else if (is_bytes(f)) {
        const struct str *s = at;

        p -= s->n;
        if (s->n > 0)
            memcpy(p, s->p, s->n);
    } else {
        return put_tag(put_varint(p, number_at(f, at)), f, PB_VARINT);
    }
    return put_tag(put_varint(p, (uint64_t)(end - p)), f, PB_BYTES);
}

static uint8_t *put_list(const struct msg_field *f, const void *msg, uint8_t *p)
{
    struct msg_list l = load_list((const uint8_t *)msg + f->offset);
    size_t item = msg_item_size(f);
    const uint8_t *at;
    uint8_t *end = p;

    if (l.n == 0)
        return p;
    at = (const uint8_t *)l.items + l.n * item;
    if (f->type >= MSG_BYTES) {
        while (l.n-- > 0)
            p = put_value(f, at -= item, p);
        return p;
    }
    while (l.n-- > 0)
        p = put_varint(p, number_at(f, at -= item));
    return put_tag(put_varint(p, (uint64_t)(end - p)), f, PB_BYTES);
}

static uint8_t *put_message(const struct msg_desc *d, const void *msg,
                            uint8_t *p)
{
    for (const struct msg_field *f = d->fields + d->n_fields; f > d->fields;) {
        const void *at;

        f--;
        at = (const uint8_t *)msg + f->offset;
        if (f->flags & MSG_REPEATED) {
            p = put_list(f, msg, p);
        } else if (f->type < MSG_BYTES && f->flags == 0) {
            uint64_t v = number_at(f, at);

            if (v)
                p = put_tag(put_varint(p, v), f, PB_VARINT);
        } else if (present(f, at = value_at(f, msg))) {
            p = put_value(f, at, p);
        }
    }
    return p;
}

void msg_encode(const struct msg_desc *d, const void *msg, struct buf *b)
{
    size_t n = msg_size(d, msg);
    uint8_t *start;

    if (n == 0)
        return;
    buf_reserve(b, n);
    start = b->data + b->len;
    b->len += n;
    start = put_message(d, msg, start + n);
    assert(start == b->data + b->len - n);
}
