/*
 * v3metrics.c - samples of the v3 state, in etcd's names and words (spec:
 * metrics, 4 and 5). Those called debugging are the older names of others, or
 * were never given a better one.
 */
#include "v3metrics.h"

#include "v3server.h"

void v3_metrics_add(struct server *s, struct metrics_page *p)
{
    struct v3_stats st;

    v3_stats(s, &st);
    const struct {
        const char *name, *type, *help;
        double value;
    } rows[] = {
        /* clang-format off */
        {"etcd_mvcc_put_total", "counter",
         "Total number of puts seen by this member.",
         (double)st.counts.puts},
        {"etcd_mvcc_delete_total", "counter",
         "Total number of deletes seen by this member.",
         (double)st.counts.deletes},
        {"etcd_mvcc_range_total", "counter",
         "Total number of ranges seen by this member.",
         (double)st.counts.ranges},
        {"etcd_mvcc_txn_total", "counter",
         "Total number of txns seen by this member.",
         (double)st.counts.txns},
        {"etcd_debugging_mvcc_put_total", "counter",
         "Total number of puts seen by this member.",
         (double)st.counts.puts},
        {"etcd_debugging_mvcc_delete_total", "counter",
         "Total number of deletes seen by this member.",
         (double)st.counts.deletes},
        {"etcd_debugging_mvcc_range_total", "counter",
         "Total number of ranges seen by this member.",
         (double)st.counts.ranges},
        {"etcd_debugging_mvcc_txn_total", "counter",
         "Total number of txns seen by this member.",
         (double)st.counts.txns},
        {"etcd_debugging_mvcc_total_put_size_in_bytes", "gauge",
         "The total size of put kv pairs seen by this member.",
         (double)st.counts.put_bytes},
        {"etcd_debugging_lease_granted_total", "counter",
         "The total number of granted leases.",
         (double)st.counts.granted},
        {"etcd_debugging_lease_revoked_total", "counter",
         "The total number of revoked leases.",
         (double)st.counts.revoked},
        {"etcd_debugging_lease_renewed_total", "counter",
         "The number of renewed leases seen by the leader.",
         (double)st.counts.renewed},
        {"etcd_debugging_server_lease_expired_total", "counter",
         "The total number of expired leases.",
         (double)st.counts.expired},
        {"etcd_server_quota_warning", "gauge", /* ours alone */
         "Whether the v3 store takes 80 % of its quota or more. 1 if it does.",
         (double)st.near_quota},
        {"etcd_mvcc_db_total_size_in_bytes", "gauge",
         "Total size of the underlying database physically allocated in bytes.",
         (double)st.db_bytes},
        {"etcd_mvcc_db_total_size_in_use_in_bytes", "gauge",
         "Total size of the underlying database logically in use in bytes.",
         (double)st.size},
        {"etcd_debugging_mvcc_db_total_size_in_bytes", "gauge",
         "Total size of the underlying database physically allocated in bytes.",
         (double)st.db_bytes},
        {"etcd_debugging_mvcc_keys_total", "gauge",
         "Total number of keys.",
         (double)st.n_keys},
        {"etcd_debugging_mvcc_events_total", "counter",
         "Total number of events sent by this member.",
         (double)st.watch.n_events},
        {"etcd_debugging_mvcc_pending_events_total", "gauge",
         "Total number of pending events to be sent.",
         (double)st.watch.n_blocked},
        {"etcd_debugging_mvcc_watcher_total", "gauge",
         "Total number of watchers.",
         (double)st.watch.n_watchers},
        {"etcd_debugging_mvcc_watch_stream_total", "gauge",
         "Total number of watch streams.",
         (double)st.watch.n_streams},
        {"etcd_debugging_mvcc_slow_watcher_total", "gauge",
         "Total number of unsynced slow watchers.",
         (double)st.watch.n_lagging},
        {"etcd_debugging_mvcc_current_revision", "gauge",
         "The current revision of store.",
         (double)st.revision},
        {"etcd_debugging_mvcc_compact_revision", "gauge",
         "The revision of the last compaction in store.",
         (double)st.compacted},
        {"etcd_debugging_auth_revision", "gauge",
         "The current revision of auth store.",
         (double)st.auth_revision},
        /* clang-format on */
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        metrics_page_add(p, rows[i].name, rows[i].type, rows[i].help, NULL,
                         rows[i].value);
}
