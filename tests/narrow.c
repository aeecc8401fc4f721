/*
 * narrow.c - bignum.c, and what is built on it, as processors without products
 * of 128 bits get it. Linked into tests in place of the library's own.
 */
#define BN_LIMB_BITS 32

#include "bignum.c"
#include "ec.c"
#include "rsa.c"
