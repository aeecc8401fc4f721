/*
 * metrics_test.c - the Prometheus text format: floats, families, histograms.
 */
#include "../metrics.h"
#include "../sys.h"
#include "check.h"

#include <float.h>
#include <math.h>

static void check_float(double v, const char *want)
{
    struct buf b = {0};

    metrics_add_float(&b, v);
    CHECK_STR(buf_z(&b), want);
    buf_release(&b);
}

static void check_json_float(double v, const char *want)
{
    struct buf b = {0};

    metrics_add_json_float(&b, v);
    CHECK_STR(buf_z(&b), want);
    buf_release(&b);
}

/* Spec metrics, 1: values observed on real servers, and the limits. */
static void test_floats(void)
{
    check_float(0, "0");
    check_float(1, "1");
    check_float(-1.5, "-1.5");
    check_float(20480, "20480");
    check_float(999999, "999999");
    check_float(1e6, "1e+06");
    check_float(1234567, "1.234567e+06");
    check_float(1048576, "1.048576e+06");
    check_float(2147483648.0, "2.147483648e+09");
    check_float(1795348265.33, "1.79534826533e+09");
    check_float(18446744073709551615.0, "1.8446744073709552e+19");
    check_float(0.001, "0.001");
    check_float(0.0001, "0.0001");
    check_float(0.00005, "5e-05");
    check_float(0.0026320450000000004, "0.0026320450000000004");
    check_float(8.192, "8.192");
    check_float(0.1 + 0.2, "0.30000000000000004");
    check_float(100, "100");
    check_float(DBL_MAX, "1.7976931348623157e+308");
    check_float(DBL_TRUE_MIN, "5e-324");
    check_float((double)INFINITY, "+Inf");
    check_float(-(double)INFINITY, "-Inf");
    check_float((double)NAN, "NaN");

    check_json_float(0, "0");
    check_json_float(47.9, "47.9");
    check_json_float(1e20, "100000000000000000000");
    check_json_float(1e21, "1e+21");
    check_json_float(0.000001, "0.000001");
    check_json_float(0.0000001, "1e-7");
    check_json_float(-2.5e-10, "-2.5e-10");
}

static void test_floats_round_trip(void)
{
    uint64_t state = 88172645463325252u;

    for (int i = 0; i < 20000; i++) {
        struct buf b = {0};
        uint64_t bits;
        double v;

        state ^= state << 13; /* xorshift (Marsaglia 2003) */
        state ^= state >> 7;
        state ^= state << 17;
        bits = state;
        memcpy(&v, &bits, sizeof(v));
        if (isnan(v) || isinf(v))
            continue;
        metrics_add_float(&b, v);
        if (strtod(buf_z(&b), NULL) != v)
            CHECK_STR(buf_z(&b), "a number that reads back as it was");
        buf_release(&b);
    }
}

static char *page_text(struct metrics_page *p)
{
    struct buf b = {0};

    metrics_page_write(p, &b);
    return buf_steal(&b);
}

static bool has(const char *text, const char *part)
{
    bool found = strstr(text, part) != NULL;

    if (!found)
        fprintf(stderr, "not in the page: %s\n", part);
    return found;
}

/* HELP and TYPE once, before the samples, which are in order. */
static void test_families(void)
{
    struct metrics_page *p = metrics_page_new();
    char *text;

    metrics_page_add(p, "t_b", "counter", "Second.", "To=\"b\"", 2);
    metrics_page_add(p, "t_a", "gauge", "First.", NULL, 1e6);
    metrics_page_add(p, "t_b", "counter", "Second.", "To=\"a\"", 1);
    text = page_text(p);
    CHECK(has(text, "# HELP t_a First.\n# TYPE t_a gauge\nt_a 1e+06\n"
                    "# HELP t_b Second.\n# TYPE t_b counter\n"
                    "t_b{To=\"a\"} 1\nt_b{To=\"b\"} 2\n"));
    /* Rows of the tables: the plain ones always, the labelled ones not yet. */
    CHECK(has(text, "# TYPE etcd_server_proposals_failed_total counter\n"
                    "etcd_server_proposals_failed_total 0\n"));
    CHECK(strstr(text, "etcd_http_") == NULL);
    free(text);
    metrics_page_free(p);
}

static void test_histogram(void)
{
    static const double bounds[] = {0.5, 1048576};
    static const uint64_t counts[] = {1, 0, 2};
    const struct metrics_histogram h = {bounds, counts, 2, 7.25};
    struct metrics_page *p = metrics_page_new();
    char *text;

    metrics_page_add_histogram(p, "t_h", "Help.", "To=\"x\"", &h);
    metrics_page_add_histogram(p, "t_i", "Help.", NULL, &h);
    text = page_text(p);
    CHECK(has(text, "# TYPE t_h histogram\n"
                    "t_h_bucket{To=\"x\",le=\"0.5\"} 1\n"
                    "t_h_bucket{To=\"x\",le=\"1.048576e+06\"} 1\n"
                    "t_h_bucket{To=\"x\",le=\"+Inf\"} 3\n"
                    "t_h_sum{To=\"x\"} 7.25\n"
                    "t_h_count{To=\"x\"} 3\n"));
    CHECK(has(text, "t_i_bucket{le=\"0.5\"} 1\n"));
    CHECK(has(text, "t_i_sum 7.25\nt_i_count 3\n"));
    free(text);
    metrics_page_free(p);
}

/* A value on a bound belongs to the bucket that ends there. */
static void test_counting(void)
{
    struct metrics_page *p;
    char *text;

    metric_add(M_SLOW_APPLY, 2);
    metric_add(M_SLOW_APPLY, 1);
    CHECK(metric_get(M_SLOW_APPLY) == 3);
    metric_observe_ns(H_WAL_FSYNC, 1000000);
    metric_observe_ns(H_WAL_FSYNC, 1000001);
    metric_observe_ns(H_WAL_FSYNC, 3600 * NS_PER_S);
    metric_observe_ns(H_WAL_FSYNC, -5);
    metric_observe_ns(H_HTTP_PUT, 400000);
    metric_http_received(MM_QGET);
    metric_http_received(MM_HEAD);
    metric_http_failed(MM_PUT, 412);
    metric_http_failed(MM_PUT, 412);
    metric_http_failed(MM_PUT, 599); /* no such row: the last one */

    p = metrics_page_new();
    metrics_page_add_process(p);
    text = page_text(p);
    CHECK(has(text, "\netcd_server_slow_apply_total 3\n"));
    CHECK(has(text, "_fsync_duration_seconds_bucket{le=\"0.001\"} 2\n"));
    CHECK(has(text, "_fsync_duration_seconds_bucket{le=\"0.002\"} 3\n"));
    CHECK(has(text, "_fsync_duration_seconds_bucket{le=\"8.192\"} 3\n"));
    CHECK(has(text, "_fsync_duration_seconds_bucket{le=\"+Inf\"} 4\n"));
    CHECK(has(text, "etcd_disk_wal_fsync_duration_seconds_count 4\n"));
    CHECK(has(text, "etcd_disk_wal_fsync_duration_seconds_sum "
                    "3600.002000001\n"));
    CHECK(has(text, "_successful_duration_seconds_bucket{method=\"PUT\","
                    "le=\"0.0005\"} 1\n"));
    CHECK(has(text, "\netcd_http_received_total{method=\"QGET\"} 1\n"));
    CHECK(has(text, "\netcd_http_received_total{method=\"HEAD\"} 1\n"));
    CHECK(has(text, "{code=\"412\",method=\"PUT\"} 2\n"));
    CHECK(has(text, "{code=\"500\",method=\"PUT\"} 1\n"));
    CHECK(has(text, "\nprocess_open_fds "));
    CHECK(has(text, "\nprocess_max_fds "));
    CHECK(has(text, "\nprocess_resident_memory_bytes "));
    CHECK(has(text, "\nprocess_start_time_seconds 1."));
    CHECK(has(text, "\nos_fd_limit "));
    free(text);
    metrics_page_free(p);
}

static void *bump(void *arg)
{
    (void)arg;
    for (int i = 0; i < 10000; i++) {
        metric_add(M_WAL_WRITE_BYTES, 3);
        metric_observe_ns(H_SNAP_SAVE, i);
    }
    return NULL;
}

/* No count is lost among threads. */
static void test_threads(void)
{
    uint64_t before = metric_get(M_WAL_WRITE_BYTES);
    pthread_t t[4];

    for (int i = 0; i < 4; i++)
        CHECK(sys_thread(&t[i], SYS_STACK_SMALL, bump, NULL) == 0);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    CHECK(metric_get(M_WAL_WRITE_BYTES) == before + 4 * 10000 * 3);
}

int main(void)
{
    test_floats();
    test_floats_round_trip();
    test_families();
    test_histogram();
    test_counting();
    test_threads();
    return check_done("metrics");
}
