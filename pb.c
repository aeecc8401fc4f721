/*
 * pb.c - the protobuf wire format.
 *
 * A message is a run of fields, each a tag (number << 3 | wire type) and a
 * value: a varint (seven bits a byte, least significant first, the top bit
 * says that more follow), four or eight bytes, or a length and its bytes.
 * Groups, wire types 3 and 4, left the language before etcd began; they are
 * refused, as are field number 0 and varints of more than 64 bits.
 *
 * The reader never looks beyond its end: each length is held against what is
 * left before it is used.
 */
#include "pb.h"

int pb_get_long_varint(struct pb_reader *r, uint64_t *out)
{
    const uint8_t *p = r->p;
    uint64_t v = 0;

    for (unsigned shift = 0; p < r->end && shift < 64; shift += 7) {
        uint64_t c = *p++;

        v |= (c & 0x7f) << shift;
        if (c < 0x80) {
            if (shift == 63 && c > 1)
                return PB_EINVAL; /* a 65th bit */
            r->p = p;
            *out = v;
            return 0;
        }
    }
    return PB_EINVAL;
}

static int get_bytes(struct pb_reader *r, uint64_t n, const uint8_t **out)
{
    if (n > (size_t)(r->end - r->p))
        return PB_EINVAL;
    *out = r->p;
    r->p += (size_t)n;
    return 0;
}

static inline int get_value(struct pb_reader *r, struct pb_field *f)
{
    const uint8_t *p;
    uint64_t n;

    switch (f->wire) {
    case PB_VARINT:
        if (pb_get_varint(r, &n) < 0)
            return PB_EINVAL;
        f->u64 = n;
        return 0;
    case PB_FIXED64:
        if (get_bytes(r, 8, &p) < 0)
            return PB_EINVAL;
        f->u64 = get_u64le(p);
        return 0;
    case PB_FIXED32:
        if (get_bytes(r, 4, &p) < 0)
            return PB_EINVAL;
        f->u64 = get_u32le(p);
        return 0;
    case PB_BYTES:
        if (pb_get_varint(r, &n) < 0 || get_bytes(r, n, &p) < 0)
            return PB_EINVAL;
        f->bytes = (struct str){(const char *)p, (size_t)n};
        return 0;
    default:
        return PB_EINVAL;
    }
}

/* Inline in pb_read(), which every request passes through. */
static inline int next(struct pb_reader *r, struct pb_field *f)
{
    uint64_t tag;

    if (r->p == r->end)
        return 0;
    *f = (struct pb_field){0};
    if (pb_get_varint(r, &tag) < 0 || tag >> 3 == 0 || tag >> 3 > PB_NUMBER_MAX)
        return PB_EINVAL;
    f->number = (uint32_t)(tag >> 3);
    f->wire = (enum pb_wire)(tag & 7);
    return get_value(r, f) < 0 ? PB_EINVAL : 1;
}

int pb_next(struct pb_reader *r, struct pb_field *f)
{
    return next(r, f);
}

static int store(const struct pb_target *t, const struct pb_field *f)
{
    if (t->u64) {
        if (f->wire != PB_VARINT)
            return PB_EINVAL;
        *t->u64 = f->u64;
    } else if (t->bytes || t->count) {
        if (f->wire != PB_BYTES)
            return PB_EINVAL;
        if (t->bytes)
            *t->bytes = f->bytes;
        else
            ++*t->count;
    }
    return 0;
}

int pb_read(const void *p, size_t n, const struct pb_target *targets,
            size_t n_targets)
{
    struct pb_reader r = pb_reader(p, n);
    struct pb_field f;
    int rc;

    while ((rc = next(&r, &f)) > 0)
        if (f.number < n_targets && store(&targets[f.number], &f) < 0)
            return PB_EINVAL;
    return rc;
}

/* --- Writing. ----------------------------------------------------------- */

static size_t put_varint(uint8_t *p, uint64_t v)
{
    size_t n = 0;

    for (; v >= 0x80; v >>= 7)
        p[n++] = (uint8_t)(v | 0x80);
    p[n++] = (uint8_t)v;
    return n;
}

void pb_add_long_varint(struct buf *b, uint64_t v)
{
    buf_reserve(b, pb_varint_len(v)); /* b may be of just the size */
    b->len += put_varint(b->data + b->len, v);
}

/*
 * One byte is kept for the length, as most nested messages are short; a longer
 * one is moved up by the bytes that its length needs beyond that.
 */
size_t pb_begin(struct buf *b, uint32_t number)
{
    pb_add_bytes(b, number, NULL, 0);
    return b->len;
}

void pb_end(struct buf *b, size_t mark)
{
    size_t n, extra;

    assert(mark > 0);
    assert(mark <= b->len);
    n = b->len - mark;
    extra = pb_varint_len(n) - 1;
    if (extra > 0) {
        buf_reserve(b, extra);
        memmove(b->data + mark + extra, b->data + mark, n);
        b->len += extra;
    }
    put_varint(b->data + mark - 1, n);
}
