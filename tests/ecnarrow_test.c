/*
 * ecnarrow_test.c - ec_test.c with limbs of 32 bits (narrow.c).
 */
#define BN_LIMB_BITS 32

#include "ec_test.c"
