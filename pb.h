/*
 * pb.h - the protobuf wire format (protobuf.dev, "Encoding"): tags, varints,
 * length-delimited fields. Pure. Messages built on it are in raftpb.c (the
 * peer and log messages) and etcdpb.c (the requests in the log).
 *
 * Most varints, tags above all, are one byte long: those are read and written
 * inline.
 */
#ifndef PB_H
#define PB_H

#include "buf.h"

#include <assert.h>

enum pb_wire { PB_VARINT = 0, PB_FIXED64 = 1, PB_BYTES = 2, PB_FIXED32 = 5 };

enum { PB_EINVAL = -1 }; /* truncated, bad tag, over-long varint */

#define PB_NUMBER_MAX 0x1fffffff /* of a field: protobuf's own limit */

struct pb_field {
    uint32_t number;
    enum pb_wire wire;
    uint64_t u64;     /* PB_VARINT, PB_FIXED64, PB_FIXED32 */
    struct str bytes; /* PB_BYTES: borrows the input */
};

struct pb_reader {
    const uint8_t *p, *end;
};

static inline struct pb_reader pb_reader(const void *p, size_t n)
{
    return (struct pb_reader){p, n ? (const uint8_t *)p + n : p};
}

/* 1 and the next field, 0 at the end, PB_EINVAL on bad bytes. */
int pb_next(struct pb_reader *r, struct pb_field *f);
/* A bare varint, as packed fields hold them: 0 or PB_EINVAL. */
int pb_get_long_varint(struct pb_reader *r, uint64_t *out); /* of any length */

static inline int pb_get_varint(struct pb_reader *r, uint64_t *out)
{
    if (r->p == r->end || *r->p >= 0x80)
        return pb_get_long_varint(r, out);
    *out = *r->p++;
    return 0;
}

/*
 * Read a whole message by table: the field with number i goes to targets[i],
 * by the one pointer that is set there. Of a scalar or a string the last one
 * wins; a repeated message is counted, for a second pass. PB_EINVAL if a
 * field of the table has another wire type; fields that the table lacks are
 * skipped. Strings borrow from p.
 */
struct pb_target {
    uint64_t *u64;     /* PB_VARINT */
    struct str *bytes; /* PB_BYTES */
    size_t *count;     /* PB_BYTES, repeated */
};

int pb_read(const void *p, size_t n, const struct pb_target *targets,
            size_t n_targets);

static inline size_t pb_varint_len(uint64_t v) /* seven bits to a byte */
{
    return (size_t)(70 - __builtin_clzll(v | 1)) / 7;
}

void pb_add_long_varint(struct buf *b, uint64_t v); /* of any length */

static inline void pb_add_varint(struct buf *b, uint64_t v)
{
    if (v < 0x80)
        buf_addc(b, (char)v);
    else
        pb_add_long_varint(b, v);
}

static inline void pb_add_tag(struct buf *b, uint32_t number, enum pb_wire wire)
{
    assert(number > 0 && number <= PB_NUMBER_MAX);
    pb_add_varint(b, (uint64_t)number << 3 | wire);
}

static inline void pb_add_u64(struct buf *b, uint32_t number,
                              uint64_t v) /* even if 0 */
{
    pb_add_tag(b, number, PB_VARINT);
    pb_add_varint(b, v);
}

static inline void pb_add_bytes(struct buf *b, uint32_t number, const void *p,
                                size_t n)
{
    pb_add_tag(b, number, PB_BYTES);
    pb_add_varint(b, n);
    buf_add(b, p, n);
}

static inline void pb_add_str(struct buf *b, uint32_t number, struct str s)
{
    pb_add_bytes(b, number, s.p, s.n);
}

/*
 * A nested message whose length is not known yet: begin returns a mark, end
 * puts the length in front of all that was added since.
 */
size_t pb_begin(struct buf *b, uint32_t number);
void pb_end(struct buf *b, size_t mark);

#endif
