/*
 * compactor.c - when to compact, and to which revision.
 */
#include "compactor.h"

#include "sys.h"

#define HOUR_NS (3600 * NS_PER_S)
#define REVISION_INTERVAL_NS (300 * NS_PER_S)
#define SAMPLES_PER_INTERVAL 10
#define RETENTION_MAX_NS (100000 * HOUR_NS) /* eleven years */

static int parse_retention(enum compactor_mode mode, struct str s, int64_t *out)
{
    int64_t n;

    if (s.n == 0) {
        *out = 0;
        return 0;
    }
    if (str_to_i64(s, &n)) {
        if (n < 0 ||
            (mode == COMPACTOR_PERIODIC && n > RETENTION_MAX_NS / HOUR_NS))
            return -1;
        *out = mode == COMPACTOR_PERIODIC ? n * HOUR_NS : n;
        return 0;
    }
    if (mode != COMPACTOR_PERIODIC || !sys_parse_duration(s, &n) || n < 0 ||
        n > RETENTION_MAX_NS)
        return -1;
    *out = n;
    return 0;
}

int compactor_init(struct compactor *c, struct str mode, struct str retention,
                   int64_t now_ns, struct err *e)
{
    enum compactor_mode m =
        str_eqz(mode, "revision") ? COMPACTOR_REVISION : COMPACTOR_PERIODIC;
    int64_t keep;

    *c = (struct compactor){.mode = COMPACTOR_OFF};
    if (parse_retention(m, retention, &keep) < 0)
        return err_set(e, -1,
                       "cannot use --auto-compaction-retention \"%.*s\" in "
                       "mode %.*s",
                       STR_FMT(retention), STR_FMT(mode));
    if (keep == 0)
        return 0;
    c->mode = m;
    c->keep = keep;
    c->max = 1;
    c->sample_ns = c->interval_ns = c->first_ns = REVISION_INTERVAL_NS;
    if (m == COMPACTOR_PERIODIC) {
        c->interval_ns = keep < HOUR_NS ? keep : HOUR_NS;
        c->sample_ns = c->interval_ns / SAMPLES_PER_INTERVAL;
        if (c->sample_ns == 0)
            c->sample_ns = 1;
        c->max = (size_t)(keep / c->sample_ns) + 1;
        c->first_ns = keep;
    }
    c->due_ns = now_ns + c->first_ns;
    c->samples = xcalloc(c->max, sizeof(*c->samples));
    return 0;
}

void compactor_release(struct compactor *c)
{
    free(c->samples);
    *c = (struct compactor){.mode = COMPACTOR_OFF};
}

static void take_sample(struct compactor *c, int64_t revision)
{
    if (c->n == c->max)
        memmove(c->samples, c->samples + 1, --c->n * sizeof(*c->samples));
    c->samples[c->n++] = revision;
}

int64_t compactor_step(struct compactor *c, int64_t now_ns, int64_t revision,
                       bool lead)
{
    int64_t to;

    if (c->mode == COMPACTOR_OFF || now_ns < c->next_sample_ns)
        return 0;
    c->next_sample_ns = now_ns + c->sample_ns;
    take_sample(c, revision);
    if (!lead || now_ns < c->due_ns)
        return 0;
    to = c->mode == COMPACTOR_REVISION ? revision - c->keep : c->samples[0];
    if (to <= 0 || to == c->last_revision)
        return 0;
    c->last_revision = to;
    return to;
}

void compactor_done(struct compactor *c, int64_t now_ns, bool ok)
{
    if (ok)
        c->due_ns = now_ns + c->interval_ns;
    else
        c->last_revision = 0;
}
