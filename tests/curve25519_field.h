/*
 * curve25519_field.h - curve25519.c once more, by names that VARIANT() gives,
 * and its field at the edges.
 */
#ifndef CURVE25519_FIELD_H
#define CURVE25519_FIELD_H

#define x25519 VARIANT(x25519)
#define x25519_public VARIANT(x25519_public)
#define ed25519_init VARIANT(ed25519_init)
#define ed25519_sign VARIANT(ed25519_sign)
#define ed25519_verify VARIANT(ed25519_verify)

#include "curve25519.c"

/* Is a number of these limbs, those between them full, stored as n? */
static bool is_stored_as(limb first, limb last, uint64_t n)
{
    uint8_t got[32], want[32] = {0};
    struct field a;

    for (int i = 0; i < LIMBS; i++)
        a.v[i] = LIMB_MASK;
    a.v[0] = first;
    a.v[LIMBS - 1] = last;
    field_store(got, &a);
    put_u64le(want, n);
    return ct_eq(got, want, sizeof(want));
}

bool VARIANT(field_edges_are_right)(void);

/* Whatever may be multiplied is stored as the least of its class. */
bool VARIANT(field_edges_are_right)(void)
{
    const limb last = ((limb)1 << TOP_BITS) - 1; /* below 2^255 */
    const limb full = LIMB_MASK + 1;

    for (limb i = 0; i <= 20; i++) /* p + i */
        if (!is_stored_as(full - 19 + i, last, i))
            return false;
    return is_stored_as(LIMB_MASK, 2 * full - 1, 2 * FOLD - 1) &&
           is_stored_as(LIMB_MASK, 4 * full - 1, 4 * FOLD - 1) &&
           is_stored_as(full + LIMB_MASK, 4 * full - 1, 4 * FOLD + LIMB_MASK);
}

#endif
