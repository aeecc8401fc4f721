/*
 * curve25519_wide.c - curve25519.c as this processor gets it, for a look inside.
 */
#define VARIANT(name) wide_##name

#include "curve25519_field.h"
