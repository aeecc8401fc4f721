/*
 * metrics.c - counters and histograms that any thread may bump, and pages of
 * samples in the Prometheus text format 0.0.4.
 *
 * COUNTING  A counter is one 64-bit word, a histogram is a word per bucket
 * and one for the sum in nanoseconds; all are bumped by relaxed atomic adds.
 * A scrape reads word by word, so it may see a bucket without its share of the
 * sum; each single number is exact and never runs backwards, which is all
 * that rate() needs. _count is the sum of the buckets as read, so that the
 * two always agree.
 *
 * A PAGE  collects samples in any order, each rendered at once into one text
 * buffer. Writing sorts them by name and labels and puts HELP and TYPE
 * before each family.
 */
#include "metrics.h"
#include "sys.h"

#include <assert.h>
#include <dirent.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#define BUCKETS_MAX 24

/* --- Counting. ---------------------------------------------------------- */

static const struct {
    const char *name, *type, *help;
} counter_rows[M_COUNTERS] = {
    [M_LEADER_CHANGES] = {"etcd_server_leader_changes_seen_total", "counter",
                          "The number of leader changes seen."},
    [M_PROPOSALS_FAILED] = {"etcd_server_proposals_failed_total", "counter",
                            "The total number of failed proposals seen."},
    [M_SLOW_APPLY] = {"etcd_server_slow_apply_total", "counter",
                      "The total number of slow apply requests (likely "
                      "overloaded from slow disk)."},
    [M_SLOW_READ_INDEX] = {"etcd_server_slow_read_indexes_total", "counter",
                           "The total number of pending read indexes not in "
                           "sync with leader's or timed out read index "
                           "requests."},
    [M_READ_INDEX_FAILED] = {"etcd_server_read_indexes_failed_total", "counter",
                             "The total number of failed read indexes seen."},
    [M_HEARTBEAT_SEND_FAILURES] =
        {"etcd_server_heartbeat_send_failures_total", "counter",
         "The total number of leader heartbeat send failures (likely "
         "overloaded from slow disk)."},
    [M_HEALTH_SUCCESS] = {"etcd_server_health_success", "counter",
                          "The total number of successful health checks"},
    [M_HEALTH_FAILURES] = {"etcd_server_health_failures", "counter",
                           "The total number of failed health checks"},
    [M_WAL_WRITE_BYTES] = {"etcd_disk_wal_write_bytes_total", "gauge",
                           "Total number of bytes written in WAL."},
    [M_PROMOTED] = {"etcd_server_learner_promote_successes", "counter",
                    "The total number of successful learner promotions while "
                    "this member is leader."},
    [M_COMPACTED_KEYS] = {"etcd_debugging_mvcc_db_compaction_keys_total",
                          "counter", "Total number of db keys compacted."},
};

#define HTTP_SECONDS "etcd_http_successful_duration_seconds"
#define HTTP_SECONDS_HELP                                                      \
    "Bucketed histogram of processing time (s) of successfully handled "       \
    "requests (non-watches), by method (GET/PUT etc.)."

/* Bucket i ends at first_ns * 2^i; labelled rows show once they are used. Shown
 * in units of so many ns. */
static const struct {
    const char *name, *labels, *help;
    int64_t first_ns;
    size_t n;
    int64_t unit_ns;
} histogram_rows[H_HISTOGRAMS] = {
    [H_WAL_FSYNC] = {"etcd_disk_wal_fsync_duration_seconds", NULL,
                     "The latency distributions of fsync called by WAL.",
                     1000000, 14, NS_PER_S},
    [H_BACKEND_COMMIT] = {"etcd_disk_backend_commit_duration_seconds", NULL,
                          "The latency distributions of commit called by "
                          "backend.",
                          1000000, 14, NS_PER_S},
    [H_SNAPSHOT_SENT] = {"etcd_disk_backend_snapshot_duration_seconds", NULL,
                         "The latency distribution of backend snapshots.",
                         10000000, 17, NS_PER_S},
    [H_DEFRAG] = {"etcd_disk_backend_defrag_duration_seconds", NULL,
                  "The latency distribution of backend defragmentation.",
                  100000000, 13, NS_PER_S},
    [H_HASH] = {"etcd_mvcc_hash_duration_seconds", NULL,
                "The latency distribution of storage hash operation.", 10000000,
                15, NS_PER_S},
    [H_HASH_KV] = {"etcd_mvcc_hash_rev_duration_seconds", NULL,
                   "The latency distribution of storage hash by revision "
                   "operation.",
                   10000000, 15, NS_PER_S},
    [H_COMPACTION] =
        {"etcd_debugging_mvcc_db_compaction_total_duration_milliseconds", NULL,
         "Bucketed histogram of db compaction total duration.", 100000000, 14,
         NS_PER_MS},
    [H_COMPACTION_PAUSE] =
        {"etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds", NULL,
         "Bucketed histogram of db compaction pause duration.", 1000000, 13,
         NS_PER_MS},
    [H_LEASE_TTL] = {"etcd_debugging_lease_ttl_total", NULL,
                     "Bucketed histogram of lease TTLs.", NS_PER_S, 24,
                     NS_PER_S},
    [H_SNAP_SAVE] = {"etcd_debugging_snap_save_total_duration_seconds", NULL,
                     "The total latency distributions of save called by "
                     "snapshot.",
                     1000000, 14, NS_PER_S},
    [H_SNAP_FSYNC] = {"etcd_snap_fsync_duration_seconds", NULL,
                      "The latency distributions of fsync called by snap.",
                      1000000, 14, NS_PER_S},
    [H_HTTP_GET] = {HTTP_SECONDS, "method=\"GET\"", HTTP_SECONDS_HELP, 500000,
                    13, NS_PER_S},
    [H_HTTP_QGET] = {HTTP_SECONDS, "method=\"QGET\"", HTTP_SECONDS_HELP, 500000,
                     13, NS_PER_S},
    [H_HTTP_HEAD] = {HTTP_SECONDS, "method=\"HEAD\"", HTTP_SECONDS_HELP, 500000,
                     13, NS_PER_S},
    [H_HTTP_PUT] = {HTTP_SECONDS, "method=\"PUT\"", HTTP_SECONDS_HELP, 500000,
                    13, NS_PER_S},
    [H_HTTP_POST] = {HTTP_SECONDS, "method=\"POST\"", HTTP_SECONDS_HELP, 500000,
                     13, NS_PER_S},
    [H_HTTP_DELETE] = {HTTP_SECONDS, "method=\"DELETE\"", HTTP_SECONDS_HELP,
                       500000, 13, NS_PER_S},
};

static const char *const method_names[MM_N] = {
    [MM_GET] = "GET", [MM_QGET] = "QGET", [MM_HEAD] = "HEAD",
    [MM_PUT] = "PUT", [MM_POST] = "POST", [MM_DELETE] = "DELETE",
};

/* The statuses that v2 errors have; the last stands for any other. */
static const int failure_statuses[] = {400, 401, 403, 404, 405, 412, 503, 500};

static uint64_t counters[M_COUNTERS];
static struct {
    uint64_t buckets[BUCKETS_MAX + 1];
    uint64_t sum_ns;
} histograms[H_HISTOGRAMS];
static uint64_t http_received[MM_N];
static uint64_t http_failed[MM_N][ARRAY_LEN(failure_statuses)];

void metric_add(enum metric m, uint64_t n)
{
    sys_u64_add(&counters[m], n);
}

uint64_t metric_get(enum metric m)
{
    return sys_u64_load(&counters[m]);
}

void metric_observe_ns(enum metric_histogram h, int64_t ns)
{
    int64_t bound = histogram_rows[h].first_ns;
    size_t i = 0;

    if (ns < 0)
        ns = 0;
    while (i < histogram_rows[h].n && ns > bound)
        i++, bound *= 2;
    sys_u64_add(&histograms[h].buckets[i], 1);
    sys_u64_add(&histograms[h].sum_ns, (uint64_t)ns);
}

void metric_http_received(enum metric_method m)
{
    sys_u64_add(&http_received[m], 1);
}

void metric_http_failed(enum metric_method m, int status)
{
    size_t i = 0;

    while (i + 1 < ARRAY_LEN(failure_statuses) && failure_statuses[i] != status)
        i++;
    sys_u64_add(&http_failed[m][i], 1);
}

/* --- Pages. ------------------------------------------------------------- */

struct sample {
    const char *name, *type, *help; /* borrowed literals */
    size_t labels, n_labels;        /* in the page's text, for sorting */
    size_t lines, n_lines;          /* in the page's text */
};

struct metrics_page {
    struct buf text;
    struct sample *samples;
    size_t n, cap;
};

static void add_tables(struct metrics_page *p);

struct metrics_page *metrics_page_new(void)
{
    struct metrics_page *p = xcalloc(1, sizeof(*p));

    add_tables(p);
    return p;
}

void metrics_page_free(struct metrics_page *p)
{
    if (!p)
        return;
    buf_release(&p->text);
    free(p->samples);
    free(p);
}

/* Open a sample; its lines are what is added to p->text from here on. */
static struct sample *begin_sample(struct metrics_page *p, const char *name,
                                   const char *type, const char *help,
                                   const char *labels)
{
    struct sample *s;

    if (p->n == p->cap) {
        p->cap = p->cap ? 2 * p->cap : 64;
        p->samples = xrealloc(p->samples, p->cap * sizeof(*p->samples));
    }
    s = &p->samples[p->n++];
    *s = (struct sample){.name = name, .type = type, .help = help};
    s->labels = p->text.len;
    if (labels)
        buf_adds(&p->text, labels);
    s->n_labels = p->text.len - s->labels;
    s->lines = p->text.len;
    return s;
}

static void end_sample(struct metrics_page *p, struct sample *s)
{
    s->n_lines = p->text.len - s->lines;
}

/* `name suffix{labels} ` */
static void add_series(struct buf *b, const char *name, const char *suffix,
                       const char *labels)
{
    buf_adds(b, name);
    buf_adds(b, suffix);
    if (labels && labels[0])
        buf_printf(b, "{%s}", labels);
    buf_addc(b, ' ');
}

void metrics_page_add(struct metrics_page *p, const char *name,
                      const char *type, const char *help, const char *labels,
                      double value)
{
    struct sample *s = begin_sample(p, name, type, help, labels);

    add_series(&p->text, name, "", labels);
    metrics_add_float(&p->text, value);
    buf_addc(&p->text, '\n');
    end_sample(p, s);
}

static void add_bucket(struct buf *b, const char *name, const char *labels,
                       double bound, uint64_t count)
{
    buf_printf(b, "%s_bucket{", name);
    if (labels && labels[0])
        buf_printf(b, "%s,", labels);
    buf_adds(b, "le=\"");
    metrics_add_float(b, bound);
    buf_printf(b, "\"} %" PRIu64 "\n", count);
}

void metrics_page_add_histogram(struct metrics_page *p, const char *name,
                                const char *help, const char *labels,
                                const struct metrics_histogram *h)
{
    struct sample *s = begin_sample(p, name, "histogram", help, labels);
    struct buf *b = &p->text;
    uint64_t count = 0;

    for (size_t i = 0; i <= h->n_bounds; i++) {
        count += h->counts[i];
        add_bucket(b, name, labels,
                   i < h->n_bounds ? h->bounds[i] : (double)INFINITY, count);
    }
    add_series(b, name, "_sum", labels);
    metrics_add_float(b, h->sum);
    buf_addc(b, '\n');
    add_series(b, name, "_count", labels);
    buf_printf(b, "%" PRIu64 "\n", count);
    end_sample(p, s);
}

static void add_histogram_row(struct metrics_page *p, size_t row)
{
    struct metrics_histogram h = {.n_bounds = histogram_rows[row].n};
    double unit =
        (double)(histogram_rows[row].unit_ns ? histogram_rows[row].unit_ns
                                             : NS_PER_S);
    double bounds[BUCKETS_MAX];
    uint64_t counts[BUCKETS_MAX + 1], total = 0;

    for (size_t i = 0; i <= h.n_bounds; i++) {
        counts[i] = sys_u64_load(&histograms[row].buckets[i]);
        total += counts[i];
    }
    if (histogram_rows[row].labels && total == 0)
        return;

    bounds[0] = (double)histogram_rows[row].first_ns / unit;
    for (size_t i = 1; i < h.n_bounds; i++)
        bounds[i] = 2 * bounds[i - 1];
    h.bounds = bounds;
    h.counts = counts;
    h.sum = (double)sys_u64_load(&histograms[row].sum_ns) / unit;
    metrics_page_add_histogram(p, histogram_rows[row].name,
                               histogram_rows[row].help,
                               histogram_rows[row].labels, &h);
}

static void add_http_rows(struct metrics_page *p, size_t m)
{
    char labels[48];
    uint64_t n = sys_u64_load(&http_received[m]);

    snprintf(labels, sizeof(labels), "method=\"%s\"", method_names[m]);
    if (n)
        metrics_page_add(p, "etcd_http_received_total", "counter",
                         "Counter of requests received into the system "
                         "(successfully parsed and authd).",
                         labels, (double)n);
    for (size_t i = 0; i < ARRAY_LEN(failure_statuses); i++) {
        n = sys_u64_load(&http_failed[m][i]);
        snprintf(labels, sizeof(labels), "code=\"%d\",method=\"%s\"",
                 failure_statuses[i], method_names[m]);
        if (n)
            metrics_page_add(p, "etcd_http_failed_total", "counter",
                             "Counter of handle failures of requests "
                             "(non-watches), by method (GET/PUT etc.) and "
                             "code (400, 500 etc.).",
                             labels, (double)n);
    }
}

static void add_tables(struct metrics_page *p)
{
    for (size_t i = 0; i < M_COUNTERS; i++)
        metrics_page_add(p, counter_rows[i].name, counter_rows[i].type,
                         counter_rows[i].help, NULL,
                         (double)sys_u64_load(&counters[i]));
    for (size_t i = 0; i < H_HISTOGRAMS; i++)
        add_histogram_row(p, i);
    for (size_t i = 0; i < MM_N; i++)
        add_http_rows(p, i);
}

struct ordered {
    const struct sample *sample;
    struct str labels;
};

static int compare_samples(const void *x, const void *y)
{
    const struct ordered *a = x, *b = y;
    int c = strcmp(a->sample->name, b->sample->name);

    return c ? c : str_cmp(a->labels, b->labels);
}

/* HELP escapes backslash and newline; our literals have neither. */
static void add_family(struct buf *b, const struct sample *s)
{
    buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", s->name, s->help, s->name,
               s->type);
}

void metrics_page_write(struct metrics_page *p, struct buf *b)
{
    const char *text = (const char *)p->text.data;
    struct ordered *order = xmalloc(p->n * sizeof(*order));
    const char *family = "";

    for (size_t i = 0; i < p->n; i++) {
        order[i].sample = &p->samples[i];
        order[i].labels =
            (struct str){text + p->samples[i].labels, p->samples[i].n_labels};
    }
    qsort(order, p->n, sizeof(*order), compare_samples);

    buf_reserve(b, p->text.len + p->n * 128);
    for (size_t i = 0; i < p->n; i++) {
        const struct sample *s = order[i].sample;

        if (strcmp(s->name, family) != 0)
            add_family(b, s);
        family = s->name;
        buf_add(b, text + s->lines, s->n_lines);
    }
    free(order);
}

/* --- The process. ------------------------------------------------------- */

static size_t count_fds(void)
{
    DIR *d = opendir("/proc/self/fd");
    size_t n = 0;

    if (!d)
        return 0;
    while (readdir(d))
        n++;
    closedir(d);
    return n > 3 ? n - 3 : 0; /* not ".", ".." and the directory itself */
}

/* Unix time of the machine's start, from the btime line; 0 if unknown. */
static uint64_t boot_time_s(void)
{
    struct buf b = {0};
    uint64_t t = 0;

    if (sys_read_file("/proc/stat", 1024 * 1024, &b, NULL) == 0) {
        const char *at = strstr(buf_z(&b), "\nbtime ");

        if (at)
            t = strtoull(at + 7, NULL, 10);
    }
    buf_release(&b);
    return t;
}

/* Fields of /proc/self/stat, numbered as in proc(5). */
enum {
    STAT_UTIME = 14,
    STAT_STIME = 15,
    STAT_START = 22,
    STAT_VSIZE = 23,
    STAT_RSS = 24,
    STAT_N = 25
};

/* False where there is no /proc. The name in field 2 may hold anything, so
 * fields are counted from its closing parenthesis on. */
static bool read_stat(uint64_t out[STAT_N])
{
    struct buf b = {0};
    const char *at = NULL;
    bool ok;

    if (sys_read_file("/proc/self/stat", 64 * 1024, &b, NULL) == 0)
        at = strrchr(buf_z(&b), ')');
    ok = at != NULL && strlen(at) > 4;
    if (ok)
        at += 4; /* ") S " */
    for (size_t i = 4; ok && i < STAT_N; i++) {
        char *end;

        out[i] = strtoull(at, &end, 10);
        ok = end != at;
        at = end;
    }
    buf_release(&b);
    return ok;
}

static void add_stat(struct metrics_page *p)
{
    double hz = (double)sysconf(_SC_CLK_TCK);
    uint64_t f[STAT_N];

    if (hz <= 0 || !read_stat(f))
        return;
    metrics_page_add(p, "process_cpu_seconds_total", "counter",
                     "Total user and system CPU time spent in seconds.", NULL,
                     (double)(f[STAT_UTIME] + f[STAT_STIME]) / hz);
    metrics_page_add(p, "process_start_time_seconds", "gauge",
                     "Start time of the process since unix epoch in seconds.",
                     NULL, (double)boot_time_s() + (double)f[STAT_START] / hz);
    metrics_page_add(p, "process_virtual_memory_bytes", "gauge",
                     "Virtual memory size in bytes.", NULL,
                     (double)f[STAT_VSIZE]);
    metrics_page_add(p, "process_resident_memory_bytes", "gauge",
                     "Resident memory size in bytes.", NULL,
                     (double)f[STAT_RSS] * (double)sysconf(_SC_PAGESIZE));
}

void metrics_page_add_process(struct metrics_page *p)
{
    struct rlimit r;
    double fds = (double)count_fds();

    add_stat(p);
    metrics_page_add(p, "process_open_fds", "gauge",
                     "Number of open file descriptors.", NULL, fds);
    metrics_page_add(p, "os_fd_used", "gauge",
                     "The number of used file descriptors.", NULL, fds);
    if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
        metrics_page_add(p, "process_max_fds", "gauge",
                         "Maximum number of open file descriptors.", NULL,
                         (double)r.rlim_cur);
        metrics_page_add(p, "os_fd_limit", "gauge",
                         "The file descriptor limit.", NULL,
                         (double)r.rlim_cur);
    }
    if (getrlimit(RLIMIT_AS, &r) == 0)
        metrics_page_add(p, "process_virtual_memory_max_bytes", "gauge",
                         "Maximum amount of virtual memory available in "
                         "bytes.",
                         NULL,
                         r.rlim_cur == RLIM_INFINITY ? (double)UINT64_MAX
                                                     : (double)r.rlim_cur);
}

/* --- Floats. ------------------------------------------------------------ */

/* A finite number's shortest decimal form: 0.d1d2d3... times 10^point. */
struct digits {
    char d[20];
    int n, point;
    bool minus;
};

static void shortest_digits(double v, struct digits *out)
{
    /*
     * If 15 digits or fewer suffice, then printing 15 gives just those and
     * zeros behind them; subnormal numbers have less precision and need the
     * search from the start.
     */
    int precision = fabs(v) < DBL_MIN ? 0 : 14;
    char s[40];
    const char *e;

    for (;; precision++) {
        snprintf(s, sizeof(s), "%.*e", precision, v);
        if (precision == 16 || strtod(s, NULL) == v)
            break;
    }
    out->minus = s[0] == '-';
    out->n = 0;
    for (e = s; *e != 'e'; e++)
        if (*e >= '0' && *e <= '9')
            out->d[out->n++] = *e;
    assert(out->n > 0);
    out->point = (int)strtol(e + 1, NULL, 10) + 1;
    while (out->n > 1 && out->d[out->n - 1] == '0')
        out->n--;
}

/* d.ddde+xx, the exponent with at least min_exp_digits */
static void add_scientific(struct buf *b, const struct digits *g,
                           int min_exp_digits)
{
    int exponent = g->point - 1;

    buf_addc(b, g->d[0]);
    if (g->n > 1) {
        buf_addc(b, '.');
        buf_add(b, g->d + 1, (size_t)g->n - 1);
    }
    buf_printf(b, "e%c%0*d", exponent < 0 ? '-' : '+', min_exp_digits,
               abs(exponent));
}

static void add_plain(struct buf *b, const struct digits *g)
{
    if (g->point <= 0)
        buf_adds(b, "0.");
    for (int i = g->point; i < 0; i++)
        buf_addc(b, '0');
    for (int i = 0; i < g->n || i < g->point; i++) {
        if (i > 0 && i == g->point)
            buf_addc(b, '.');
        buf_addc(b, i < g->n ? g->d[i] : '0');
    }
}

void metrics_add_float(struct buf *b, double v)
{
    struct digits g;

    if (isnan(v)) {
        buf_adds(b, "NaN");
        return;
    }
    if (isinf(v)) {
        buf_adds(b, v > 0 ? "+Inf" : "-Inf");
        return;
    }
    if (v == 0) {
        buf_adds(b, signbit(v) ? "-0" : "0");
        return;
    }
    shortest_digits(v, &g);
    if (g.minus)
        buf_addc(b, '-');
    if (g.point - 1 < -4 || g.point - 1 >= 6)
        add_scientific(b, &g, 2);
    else
        add_plain(b, &g);
}

void metrics_add_json_float(struct buf *b, double v)
{
    struct digits g;

    if (v == 0) {
        buf_adds(b, signbit(v) ? "-0" : "0");
        return;
    }
    shortest_digits(v, &g);
    if (g.minus)
        buf_addc(b, '-');
    if (fabs(v) < 1e-6 || fabs(v) >= 1e21)
        add_scientific(b, &g, fabs(v) < 1 ? 1 : 2); /* 1e-7, but 1e+21 */
    else
        add_plain(b, &g);
}
