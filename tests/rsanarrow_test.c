/*
 * rsanarrow_test.c - rsa_test.c with limbs of 32 bits (narrow.c).
 */
#define BN_LIMB_BITS 32

#include "rsa_test.c"
