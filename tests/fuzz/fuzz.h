/*
 * fuzz.h - what the fuzz targets share: the entry point, a check that stays in
 * every build, and reading an input as a row of small choices.
 *
 * A choice that lies beyond the input's end is 0, so that every prefix of an
 * input is one too: libFuzzer's own cuts stay meaningful.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include "buf.h"

#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_CHECK(cond)                                                       \
    do {                                                                       \
        if (!(cond)) {                                                         \
            fprintf(stderr, "%s:%d: violated: %s\n", __FILE__, __LINE__,       \
                    #cond);                                                    \
            abort();                                                           \
        }                                                                      \
    } while (0)

struct fuzz_in {
    const uint8_t *p;
    size_t n;
};

static inline bool fuzz_more(const struct fuzz_in *in)
{
    return in->n > 0;
}

static inline uint8_t fuzz_u8(struct fuzz_in *in)
{
    if (in->n == 0)
        return 0;
    in->n--;
    return *in->p++;
}

/* Mostly small; sometimes at one of the edges where arithmetic wraps. */
static inline uint64_t fuzz_number(struct fuzz_in *in)
{
    uint8_t b = fuzz_u8(in);

    if (b < 224)
        return b & 31;
    if (b < 240)
        return (UINT64_C(1) << (b - 224) * 4) + (uint64_t)fuzz_u8(in) - 128;
    if (b < 250)
        return UINT64_MAX / 2 + (uint64_t)fuzz_u8(in) - 128;
    return UINT64_MAX - fuzz_u8(in);
}

/* Up to n bytes, as many as are left. */
static inline struct str fuzz_bytes(struct fuzz_in *in, size_t n)
{
    struct str s = {(const char *)in->p, n < in->n ? n : in->n};

    in->p += s.n;
    in->n -= s.n;
    return s;
}

#endif
