/*
 * curve25519_narrow.c - curve25519.c as processors without products of 128
 * bits get it, under names of its own, so that it is tested everywhere.
 */
#define CURVE25519_NARROW
#define x25519 narrow_x25519
#define x25519_public narrow_x25519_public
#define ed25519_init narrow_ed25519_init
#define ed25519_sign narrow_ed25519_sign
#define ed25519_verify narrow_ed25519_verify

#include "curve25519.c"
