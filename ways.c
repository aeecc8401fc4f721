/*
 * ways.c - which of two ways to do one thing takes less time?
 */
#include "ways.h"

static void take(struct ways *w, bool second)
{
    w->second = second;
    w->n = 0;
}

static bool second_is_slower(const struct ways *w)
{
    if (w->n < WAYS_TRIAL)
        return w->n >= WAYS_TRIAL / 8 && w->mean_ns[1] > w->mean_ns[0] / 4 * 5;
    return w->mean_ns[1] > w->mean_ns[0] / 8 * 7;
}

void ways_took(struct ways *w, int64_t ns, bool worth)
{
    int64_t *mean = &w->mean_ns[w->second];

    if (w->n < WAYS_SETTLED)
        w->n++;
    *mean += (ns - *mean) / (w->n < WAYS_TRIAL / 2 ? w->n : WAYS_TRIAL / 2);
    if (!w->second) {
        if (w->n >= WAYS_TRIAL + w->n_more && worth)
            take(w, true);
    } else if (second_is_slower(w)) {
        if (w->n_more < WAYS_SETTLED / 8)
            w->n_more = 2 * w->n_more + WAYS_TRIAL;
        take(w, false);
    } else if (w->n >= WAYS_SETTLED) {
        w->n_more = 0;
        take(w, false);
    }
}

void ways_forget(struct ways *w)
{
    take(w, false);
}
