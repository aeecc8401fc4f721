/*
 * What the analyzer cannot see from another file: err_set() and err_sys()
 * return the code they are given. lint.sh includes this before each file.
 */
#include "buf.h"

#define err_set(e, code, ...) (err_set((e), (code), __VA_ARGS__), (code))
#define err_sys(e, code, ...) (err_sys((e), (code), __VA_ARGS__), (code))
