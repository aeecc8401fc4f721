/*
 * bignumnarrow_test.c - bignum_test.c with limbs of 32 bits (narrow.c).
 */
#define BN_LIMB_BITS 32

#include "bignum_test.c"
