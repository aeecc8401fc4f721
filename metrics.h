/*
 * metrics.h - counters, gauges and histograms, and the Prometheus text format
 * (spec: metrics). Counting is one relaxed atomic add; nothing allocates. All
 * of it may be called from any thread; a page belongs to one thread.
 */
#ifndef METRICS_H
#define METRICS_H

#include "buf.h"

/* One row each in the table of metrics.c: name, type, help. */
enum metric {
    M_LEADER_CHANGES,
    M_PROPOSALS_FAILED,
    M_SLOW_APPLY,
    M_SLOW_READ_INDEX,
    M_READ_INDEX_FAILED,
    M_HEARTBEAT_SEND_FAILURES,
    M_HEALTH_SUCCESS,
    M_HEALTH_FAILURES,
    M_WAL_WRITE_BYTES,
    M_PROMOTED,       /* learners, while this member led */
    M_COMPACTED_KEYS, /* versions that compaction freed */
    M_COUNTERS,       /* how many */
};

enum metric_histogram {
    H_WAL_FSYNC,      /* exp(0.001,2,14) seconds */
    H_BACKEND_COMMIT, /* the same buckets: a batch with entries, to its sync */
    H_SNAPSHOT_SENT,  /* exp(0.01,2,17) seconds: the image for a client */
    H_DEFRAG,         /* exp(0.1,2,13) seconds */
    H_HASH,           /* exp(0.01,2,15) seconds */
    H_HASH_KV,
    H_COMPACTION,       /* exp(100,2,14) milliseconds, first step to last */
    H_COMPACTION_PAUSE, /* exp(1,2,13) milliseconds: a step, under the lock */
    H_LEASE_TTL,        /* exp(1,2,24) seconds */
    H_SNAP_SAVE,
    H_SNAP_FSYNC,
    H_HTTP_GET, /* etcd_http_successful_duration_seconds{method} */
    H_HTTP_QGET,
    H_HTTP_HEAD,
    H_HTTP_PUT,
    H_HTTP_POST,
    H_HTTP_DELETE,
    H_HISTOGRAMS,
};

void metric_add(enum metric m, uint64_t n);
uint64_t metric_get(enum metric m);
void metric_observe_ns(enum metric_histogram h, int64_t ns);

/* v2 requests: etcd_http_received_total{method}, etcd_http_failed_total. */
enum metric_method {
    MM_GET,
    MM_QGET,
    MM_HEAD,
    MM_PUT,
    MM_POST,
    MM_DELETE,
    MM_N
};
void metric_http_received(enum metric_method m);
void metric_http_failed(enum metric_method m, int status);

/* --- Exposition. -------------------------------------------------------- */

struct metrics_page; /* samples of one scrape; sorted when written */

struct metrics_page *metrics_page_new(void); /* with all rows of the tables */
/*
 * Add a sample. type: "counter", "gauge". labels: `To="abc"`, or NULL;
 * samples of one name need not come together. name, type and help are
 * borrowed until metrics_page_free() (literals); labels are copied.
 */
void metrics_page_add(struct metrics_page *p, const char *name,
                      const char *type, const char *help, const char *labels,
                      double value);
/* A histogram with its own buckets: counts are per bucket, not cumulative.
 * All of h is copied. */
struct metrics_histogram {
    const double *bounds;
    const uint64_t *counts; /* n_bounds + 1; the last is +Inf */
    size_t n_bounds;
    double sum;
};
void metrics_page_add_histogram(struct metrics_page *p, const char *name,
                                const char *help, const char *labels,
                                const struct metrics_histogram *h);
/* process_*, os_fd_*: read from /proc/self. */
void metrics_page_add_process(struct metrics_page *p);
void metrics_page_write(struct metrics_page *p, struct buf *b);
void metrics_page_free(struct metrics_page *p);

/* Shortest digits that round-trip, in Go's 'g' form: exponent notation if the
 * decimal exponent is below -4 or at least 6. */
void metrics_add_float(struct buf *b, double v);
/* The same digits as Go's encoding/json writes them: exponent notation below
 * 1e-6 and from 1e21 on. v is finite. */
void metrics_add_json_float(struct buf *b, double v);

#endif
