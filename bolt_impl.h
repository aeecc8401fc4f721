/*
 * bolt_impl.h - what the writer (boltwrite.c) and the reader (bolt.c) of bbolt
 * files share: the layout of pages. All integers are little-endian.
 *
 *     page     id u64, flags u16, count u16, overflow u32: so many more pages
 *              belong to it; then count elements; then keys and values
 *     leaf     element: flags u32, pos u32, key_len u32, value_len u32
 *     branch   element: pos u32, key_len u32, child u64
 *              pos counts from the element itself; a value follows its key
 *     meta     magic u32, version u32, page_bytes u32, flags u32, root u64,
 *              sequence u64, freelist u64, n_pages u64, txid u64, sum u64
 *     bucket   a value: root u64, sequence u64; if root is 0, a leaf follows
 */
#ifndef BOLT_IMPL_H
#define BOLT_IMPL_H

#include "bolt.h"

#define BOLT_MAGIC 0xed0cdaedu
#define BOLT_VERSION 2

enum {
    BOLT_HEAD_BYTES = 16,
    BOLT_ELEMENT_BYTES = 16,
    BOLT_META_BYTES = 64,
    BOLT_SUMMED_BYTES = BOLT_META_BYTES - 8, /* of a meta, by its sum */
    BOLT_BUCKET_BYTES = 16,
    BOLT_PAGE_COUNT_MAX = 0xfffe,
};

enum bolt_page_flag {
    BOLT_BRANCH = 0x01,
    BOLT_LEAF = 0x02,
    BOLT_META = 0x04,
    BOLT_FREELIST = 0x10,
};

enum { BOLT_IS_BUCKET = 0x01 }; /* flag of a leaf's element */

static inline uint16_t get_u16le(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline void put_u16le(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

/* FNV-1a with 64 bits over what a meta's sum covers. */
static inline uint64_t bolt_meta_sum(const uint8_t meta[BOLT_META_BYTES])
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < BOLT_SUMMED_BYTES; i++)
        h = (h ^ meta[i]) * UINT64_C(0x100000001b3);
    return h;
}

#endif
