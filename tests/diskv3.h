/*
 * diskv3.h - a v3 state that is a function of how far the log is applied: at
 * each index the same request. So what any file holds can be judged by the
 * index that it names.
 */
#ifndef DISKV3_H
#define DISKV3_H

#include "boot.h"

/* Apply what belongs to each index behind v->index, up to this one. */
void diskv3_advance(struct v3 *v, uint64_t index);
/* Is it the state at v->index? */
bool diskv3_is_right(const struct v3 *v);

/* As checkpoint.c saves it, *file being what it was saved into; -1 and e. */
int diskv3_save(struct backend_file **file, const char *snap_dir,
                const struct v3 *v, struct err *e);
/* As it comes from the leader, which has it at this index: into a file of its
 * own, which is loaded. *out is owned. */
int diskv3_receive(const char *snap_dir, const struct v3_config *config,
                   uint64_t index, struct v3 **out, struct err *e);

#endif
