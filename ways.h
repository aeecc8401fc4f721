/*
 * ways.h - which of two ways to do one thing takes less time? Found by trying.
 *
 * The second way is tried for WAYS_TRIAL times where it may be worth it (an eighth
 * of that if it takes a quarter longer), and kept if it takes an eighth less than the
 * first. Else the first is used the next times, twice as many as before. What the
 * first costs is looked at again every WAYS_SETTLED times. Owned, and locked, by
 * whoever does the thing.
 */
#ifndef WAYS_H
#define WAYS_H

#include <stdbool.h>
#include <stdint.h>

#define WAYS_TRIAL 64
#define WAYS_SETTLED 16384

struct ways {           /* zeros are a beginning */
    bool second;        /* the way to take now */
    int64_t mean_ns[2]; /* of late, by each */
    int n;              /* times, this way */
    int n_more;         /* of the first, before the second is tried again */
};

/* It took so long. worth: to try the second, if that was the first. */
void ways_took(struct ways *w, int64_t ns, bool worth);
/* What was learnt of this way's time no longer holds: the first, from the start. */
void ways_forget(struct ways *w);

#endif
