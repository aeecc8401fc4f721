/*
 * curve25519_narrow.c - curve25519.c as processors without products of 128
 * bits get it, under names of its own, so that it is tested everywhere.
 */
#define CURVE25519_NARROW
#define VARIANT(name) narrow_##name

#include "curve25519_field.h"
