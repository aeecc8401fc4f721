/*
 * compactor.h - automatic compaction: when, and to which revision (spec:
 * raft-and-storage, 6). Pure: time is passed in.
 *
 *   revision   every five minutes, to the current revision less so many
 *   periodic   to the revision of so long ago: first after one retention, then
 *              once in every retention, but at least hourly
 *
 * Every member takes samples, so that a new leader can go on at once; only the
 * leader compacts.
 */
#ifndef COMPACTOR_H
#define COMPACTOR_H

#include "buf.h"

enum compactor_mode { COMPACTOR_OFF, COMPACTOR_REVISION, COMPACTOR_PERIODIC };

struct compactor {
    enum compactor_mode mode;
    int64_t keep;           /* ns, or revisions */
    int64_t interval_ns;    /* between compactions */
    int64_t sample_ns;      /* between samples, and tries */
    int64_t first_ns;       /* from the start to the first compaction */
    int64_t next_sample_ns; /* 0: at once */
    int64_t due_ns;         /* not before that */
    int64_t last_revision;  /* that was asked for */
    int64_t *samples;       /* of revisions, the oldest first; owned */
    size_t n, max;
};

/*
 * retention as in --auto-compaction-retention: a number of revisions, or a
 * duration, or whole hours; "0" or "": off. -1 if it is none of these.
 */
int compactor_init(struct compactor *c, struct str mode, struct str retention,
                   int64_t now_ns, struct err *e);
void compactor_release(struct compactor *c);

/*
 * To be called about once a second. The revision to compact to now, or 0. Who
 * does it says how it went: what failed is tried again with the next sample.
 */
int64_t compactor_step(struct compactor *c, int64_t now_ns, int64_t revision,
                       bool lead);
void compactor_done(struct compactor *c, int64_t now_ns, bool ok);

#endif
