/*
 * walinspect.c - what a person wants to know of a log, even of one that is
 * damaged.
 */
#include "wal_impl.h"

#include <inttypes.h>
#include <sys/stat.h>

void wal_report_release(struct wal_report *r)
{
    wal_contents_release(&r->contents);
    free(r->torn);
    *r = (struct wal_report){0};
}

/* How many bytes from off on are in use: up to the last that is not zero; -1
 * with errno. */
static int64_t bytes_in_use(int fd, int64_t off, int64_t size)
{
    uint8_t *chunk = xmalloc(WAL_COPY_CHUNK);
    int64_t end = off, at = off;

    while ((at = wal_first_nonzero(fd, at, size)) < size) {
        ssize_t n = at < 0 ? -1 : wal_read_at(fd, chunk, WAL_COPY_CHUNK, at);

        if (n <= 0)
            break;
        for (ssize_t i = n; i > 0 && end < at + i; i--)
            if (chunk[i - 1])
                end = at + i;
        at += n;
    }
    free(chunk);
    return at < size ? -1 : end - off;
}

static int report_torn(const struct scan *s, struct wal_report *out,
                       struct err *e)
{
    char *path = wal_segment_path(s->dir, &s->segs->v[s->at]);

    out->n_torn = bytes_in_use(s->r.fd, s->r.off, s->r.size);
    out->torn =
        xasprintf("%s from offset %" PRId64 " on: %s", path, s->r.off, s->torn);
    free(path);
    return out->n_torn < 0 ? wal_scan_io_error(s, e) : 0;
}

/* The first segment whose head can be read tells whose log it is. */
static struct wal_metadata any_metadata(const char *dir, struct segments *segs)
{
    struct wal_metadata m = {0};
    struct scan s;
    bool found = false;

    for (size_t i = 0; i < segs->n && !found; i++) {
        struct segments one = {&segs->v[i], 1};

        if (one.v->fd < 0 &&
            wal_segments_open(dir, &one, 0, WAL_TO_READ, NULL) < 0)
            continue;
        found = wal_scan_start(&s, dir, &one, 0, NULL) == 0;
        if (found)
            m = s.metadata;
        wal_scan_release(&s);
    }
    return m;
}

static int64_t bytes_of(const char *dir, const struct segments *segs, size_t n)
{
    int64_t sum = 0;

    for (size_t i = 0; i < n; i++) {
        char *path = wal_segment_path(dir, &segs->v[i]);
        struct stat st;

        if (stat(path, &st) == 0)
            sum += (int64_t)st.st_size;
        free(path);
    }
    return sum;
}

/* What is behind snap, as far as it can be read. */
static int inspect(const char *dir, struct segments *segs,
                   struct wal_snapshot snap, struct wal_report *out,
                   struct err *e)
{
    struct replay r = {.from = snap};
    size_t from = wal_segments_find(segs, snap.index);
    struct scan s;
    int rc = wal_segments_check(dir, segs, from, e);

    if (rc == 0)
        rc = wal_segments_open(dir, segs, from, WAL_TO_READ, e);
    if (rc < 0)
        return rc;
    rc = wal_scan_start(&s, dir, segs, from, e);
    if (rc == 0)
        rc = wal_replay_records(&r, &s, e);
    out->contents = r.c;
    out->bytes = bytes_of(dir, segs, s.at) + s.r.off;
    if (rc == 0 && s.torn)
        rc = report_torn(&s, out, e);
    wal_scan_release(&s);
    return rc;
}

static int inspect_once(const char *dir, struct wal_snapshot snap,
                        struct wal_report *out, struct err *e)
{
    struct segments segs;
    int rc = wal_segments_list(dir, &segs, e);

    *out = (struct wal_report){.n_segments = segs.n};
    if (rc < 0)
        return rc;
    rc = inspect(dir, &segs, snap, out, e);
    if (rc < 0)
        out->contents.metadata = any_metadata(dir, &segs);
    wal_segments_close(&segs);
    return rc;
}

int wal_inspect(const char *dir, struct wal_snapshot snap,
                struct wal_report *out, struct err *e)
{
    struct wal_look look = {0};
    int rc;

    *out = (struct wal_report){0};
    do {
        wal_report_release(out);
        rc = inspect_once(dir, snap, out, &look.e);
    } while (wal_look_again(&look, rc));
    return wal_looked(&look, rc, e);
}
