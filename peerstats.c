/*
 * peerstats.c - what the transport counts, as /v2/stats and /metrics show it.
 *
 * Rates are over the last 200 appends, as in etcd: their number and bytes,
 * divided by the time from the first to the last of them; nothing for the last
 * second means a rate of zero. Latencies keep sums only, so that a follower
 * costs a few numbers however long it lives.
 */
#include "peer_impl.h"

#include "metrics.h"

#include <inttypes.h>
#include <stdio.h>

/* --- Rates. ------------------------------------------------------------- */

void rate_add(struct rate_queue *q, int64_t now_ns, size_t bytes)
{
    size_t at = (q->first + q->n) % PEER_RATE_SAMPLES;

    if (q->n == PEER_RATE_SAMPLES) {
        q->bytes -= q->samples[q->first].bytes;
        q->first = (q->first + 1) % PEER_RATE_SAMPLES;
    } else {
        q->n++;
    }
    q->samples[at].ns = now_ns;
    q->samples[at].bytes = bytes;
    q->bytes += bytes;
}

/* Per second: samples and bytes. */
static void rates(struct rate_queue *q, double *packages, double *bytes)
{
    int64_t first, last;

    *packages = *bytes = 0;
    if (q->n == 0)
        return;
    first = q->samples[q->first].ns;
    last = q->samples[(q->first + q->n - 1) % PEER_RATE_SAMPLES].ns;
    if (sys_mono_ns() - last > NS_PER_S) {
        q->first = q->n = q->bytes = 0;
    } else if (last > first) {
        *packages = (double)q->n * NS_PER_S / (double)(last - first);
        *bytes = (double)q->bytes * NS_PER_S / (double)(last - first);
    }
}

void transport_stats(struct transport *t, struct transport_stats *out)
{
    pthread_mutex_lock(&t->stats_mu);
    *out = (struct transport_stats){.recv_append = t->recv_append,
                                    .sent_append = t->sent_append};
    rates(&t->recv_rate, &out->recv_pkg_rate, &out->recv_bandwidth);
    rates(&t->send_rate, &out->send_pkg_rate, &out->send_bandwidth);
    pthread_mutex_unlock(&t->stats_mu);
}

/* --- Latency of followers. ---------------------------------------------- */

void follower_succeeded(struct follower_stats *f, int64_t ns, size_t n)
{
    double ms = (double)ns / (double)NS_PER_MS;
    double before = (double)f->success, after = before + (double)n;

    f->current = ms;
    if (f->success == 0 || ms < f->minimum)
        f->minimum = ms;
    if (ms > f->maximum)
        f->maximum = ms;
    f->average = (f->average * before + ms * (double)n) / after;
    f->average_square =
        (f->average_square * before + ms * ms * (double)n) / after;
    f->success += n;
}

/* Newton's method, from above; it saves the mathematics library. */
static double square_root(double v)
{
    double r = v > 1 ? v : 1, next;

    if (v <= 0)
        return 0;
    for (int i = 0; i < 1100; i++) { /* halves at first, then converges */
        next = (r + v / r) / 2;
        if (next >= r)
            break;
        r = next;
    }
    return r;
}

static void add_field(struct buf *b, const char *sep, const char *name,
                      double v)
{
    buf_printf(b, "%s\"%s\":", sep, name);
    metrics_add_json_float(b, v);
}

/* What Go starts the minimum with, and shows until there is one: 2^63. */
#define NO_MINIMUM 9223372036854775808.0

static void add_follower(struct buf *b, uint64_t id,
                         const struct follower_stats *f)
{
    double variance = f->average_square - f->average * f->average;

    buf_printf(b, "\"%" PRIx64 "\":{\"latency\":{", id);
    add_field(b, "", "current", f->current);
    add_field(b, ",", "average", f->average);
    add_field(b, ",", "standardDeviation", square_root(variance));
    add_field(b, ",", "minimum", f->success ? f->minimum : NO_MINIMUM);
    add_field(b, ",", "maximum", f->maximum);
    buf_printf(b,
               "},\"counts\":{\"fail\":%" PRIu64 ",\"success\":%" PRIu64 "}}",
               f->fail, f->success);
}

struct named_stats {
    char name[17];
    uint64_t id;
    struct follower_stats stats;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct named_stats *)a)->name,
                  ((const struct named_stats *)b)->name);
}

/* The members' figures, in the order in which Go prints a map. */
static struct named_stats *collect(struct transport *t, size_t *n)
{
    struct named_stats *all;

    pthread_mutex_lock(&t->mu);
    all = xcalloc(t->n_peers, sizeof(*all));
    *n = 0;
    for (size_t i = 0; i < t->n_peers; i++) {
        struct peer *p = t->peers[i];
        struct named_stats *s = &all[*n];

        if (p->remote)
            continue;
        *n += 1;
        s->id = p->id;
        snprintf(s->name, sizeof(s->name), "%" PRIx64, p->id);
        pthread_mutex_lock(&p->mu);
        s->stats = p->follower;
        pthread_mutex_unlock(&p->mu);
    }
    pthread_mutex_unlock(&t->mu);
    qsort(all, *n, sizeof(*all), by_name);
    return all;
}

void transport_leader_stats_json(struct transport *t, struct buf *b)
{
    size_t n;
    struct named_stats *all = collect(t, &n);

    buf_printf(b, "{\"leader\":\"%" PRIx64 "\",\"followers\":{", t->config.id);
    for (size_t i = 0; i < n; i++) {
        buf_adds(b, i ? "," : "");
        add_follower(b, all[i].id, &all[i].stats);
    }
    buf_adds(b, "}}");
    free(all);
}

/* --- Metrics. ----------------------------------------------------------- */

/* 0.1 ms, and each the double of the one before. */
static const double rtt_bounds[RTT_BUCKETS] = {
    0.0001, 0.0002, 0.0004, 0.0008, 0.0016, 0.0032, 0.0064, 0.0128,
    0.0256, 0.0512, 0.1024, 0.2048, 0.4096, 0.8192, 1.6384, 3.2768,
};

void peer_observe_rtt(struct peer *p, int64_t ns)
{
    double s = (double)ns / (double)NS_PER_S;
    size_t i = 0;

    while (i < RTT_BUCKETS && s > rtt_bounds[i])
        i++;
    p->rtt[i]++;
    p->rtt_sum += s;
}

#define PREFIX "etcd_network_"

static void add_counter(struct metrics_page *page, const char *name,
                        const char *help, const char *labels, uint64_t v)
{
    metrics_page_add(page, name, "counter", help, labels, (double)v);
}

/* peer.mu is held. */
static void add_peer_metrics(struct metrics_page *page, const struct peer *p)
{
    const struct metrics_histogram rtt = {
        .bounds = rtt_bounds,
        .counts = p->rtt,
        .n_bounds = RTT_BUCKETS,
        .sum = p->rtt_sum,
    };
    char to[32], from[32], both[64];

    snprintf(to, sizeof(to), "To=\"%" PRIx64 "\"", p->id);
    snprintf(from, sizeof(from), "From=\"%" PRIx64 "\"", p->id);
    snprintf(both, sizeof(both), "Local=\"%" PRIx64 "\",Remote=\"%" PRIx64 "\"",
             p->t->config.id, p->id);
    metrics_page_add(page, PREFIX "active_peers", "gauge",
                     "The current number of active peer connections.", both,
                     p->active_since != 0);
    if (p->disconnects)
        add_counter(page, PREFIX "disconnected_peers_total",
                    "The total number of disconnected peers.", both,
                    p->disconnects);
    add_counter(page, PREFIX "peer_sent_bytes_total",
                "The total number of bytes sent to peers.", to, p->sent_bytes);
    add_counter(page, PREFIX "peer_received_bytes_total",
                "The total number of bytes received from peers.", from,
                p->received_bytes);
    if (p->sent_failures)
        add_counter(page, PREFIX "peer_sent_failures_total",
                    "The total number of send failures from peers.", to,
                    p->sent_failures);
    if (p->received_failures)
        add_counter(page, PREFIX "peer_received_failures_total",
                    "The total number of receive failures from peers.", from,
                    p->received_failures);
    metrics_page_add_histogram(page, PREFIX "peer_round_trip_time_seconds",
                               "Round-Trip-Time histogram between peers", to,
                               &rtt);
}

void transport_metrics(struct transport *t, struct metrics_page *page)
{
    pthread_mutex_lock(&t->mu);
    for (size_t i = 0; i < t->n_peers; i++) {
        struct peer *p = t->peers[i];

        pthread_mutex_lock(&p->mu);
        if (!p->remote)
            add_peer_metrics(page, p);
        pthread_mutex_unlock(&p->mu);
    }
    if (t->received_from_nobody)
        add_counter(page, PREFIX "peer_received_bytes_total",
                    "The total number of bytes received from peers.",
                    "From=\"0\"", t->received_from_nobody);
    pthread_mutex_unlock(&t->mu);
}
