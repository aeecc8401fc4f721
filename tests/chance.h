/*
 * chance.h - numbers as if by chance, the same in every run: a test that fails
 * fails again.
 */
#ifndef CHANCE_H
#define CHANCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static uint64_t rnd_seed = 1; /* a test may set it, to begin anew */

static inline unsigned rnd(unsigned n) /* below n */
{
    rnd_seed = rnd_seed * 6364136223846793005 + 1442695040888963407;
    return (unsigned)(rnd_seed >> 33) % n;
}

static inline bool one_in(unsigned n)
{
    return rnd(n) == 0;
}

static inline void rnd_fill(uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)rnd(256);
}

#endif
