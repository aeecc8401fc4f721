/*
 * backend_impl.h - what writing etcd's v3 state (backend.c) and giving it a
 * place on the disk (backendsave.c) share.
 */
#ifndef BACKEND_IMPL_H
#define BACKEND_IMPL_H

#include "backend.h"

/* All of src, but versions only behind revision `after` (0: all), by bw, and
 * its end. 0 or a BOLT_E* code; *e would not be filled. */
int backend_write_to(struct bolt_writer *bw, const struct backend_source *src,
                     int64_t after, bool lengths_only, struct bolt_plan *out);

#endif
