/*
 * hex.h - bytes written as hex digits: "0a1b".
 */
#ifndef HEX_H
#define HEX_H

#include "buf.h"

#include <stdio.h>

static inline struct buf unhex(const char *hex) /* returns owned */
{
    struct buf b = {0};

    for (; hex[0] && hex[1]; hex += 2) {
        char two[3] = {hex[0], hex[1], 0};

        buf_addc(&b, (char)strtoul(two, NULL, 16));
    }
    return b;
}

/* Whether p[0..n) is what hex says; shown if not. */
static inline bool is_hex(const void *p, size_t n, const char *hex)
{
    struct buf want = unhex(hex);
    bool same = want.len == n && (n == 0 || memcmp(p, want.data, n) == 0);

    if (!same) {
        fprintf(stderr, "want %s\ngot  ", hex);
        for (size_t i = 0; i < n; i++)
            fprintf(stderr, "%02x", ((const uint8_t *)p)[i]);
        fprintf(stderr, "\n");
    }
    buf_release(&want);
    return same;
}

#endif
