/*
 * checkpoint.c - snapshots of both stores: to disk, so that the log can be cut,
 * and to followers that are too far behind.
 *
 * A checkpoint is due after --snapshot-count entries, or when the log since
 * the last one has grown large. v3's db is appended to, so that all checkpoints
 * of a store that grows write it once, and a restart replays little. It is
 * written anew by the first checkpoint of a process, and when compaction took
 * something away; with much data not before that has grown by half, or half of
 * it was written anew, and v2's snapshot likewise: so a restart replays no more
 * than it loads, and checkpoints write about as much as the log. A clean stop
 * writes one if replaying would be felt.
 *
 * The stores are pinned under their lock in constant time (store.h, v3disk.c),
 * at one index, and written from the pinned views while traffic goes on. Order,
 * with its crash cases:
 *
 *   1. what is in them is in the log, too, synced
 *   2. db (v3), renamed or appended to        crash: the older snapshot and the
 *                                             log behind it; what db has
 *                                             already is left out for v3
 *   3. snapshot record into the log, synced   crash: a record without a file,
 *                                             the older snapshot is used
 *   4. .snap file (v2), synced and renamed    crash: all are there
 *   5. old segments and old .snap files go    nothing needs them any more
 *
 * So db is never older than a .snap file that a start may use.
 */
#include "log.h"
#include "metrics.h"
#include "server_impl.h"
#include "snap.h"

#include <inttypes.h>

/* So many make a file that is not written anew for a few entries. */
#define VERSIONS_MANY 200000
/* The log may grow to this, or to half of what has to be written anew,
 * whichever is more. */
#define LOG_GROWTH_MIN (32u * 1024 * 1024)
/* That much is replayed unnoticed. */
#define LOG_STOP_BYTES (4u * 1024 * 1024)

struct pinned {
    struct store_view *view;
    struct v3_pinned *v3;
    struct raft_snapshot meta; /* index, term, conf_state */
};

/* With mu held. */
static struct pinned *pin_locked(struct server *s)
{
    struct pinned *p = xcalloc(1, sizeof(*p));

    p->view = store_pin(s->store);
    p->v3 = v3_pin(s);
    p->meta.index = s->last_applied;
    p->meta.term = s->applied_term;
    raft_conf_state_copy(&p->meta.conf_state, &s->conf_state);
    return p;
}

static void unpin(void *arg)
{
    struct pinned *p = arg;

    store_unpin(p->view);
    v3_unpin(p->v3);
    raft_snapshot_release(&p->meta);
    free(p);
}

static int write_pinned(void *from, snap_sink *sink, void *arg)
{
    const struct pinned *p = from;

    return store_view_write(p->view, sink, arg);
}

/* The next checkpoint appends to db what has come since the last one. */
static bool db_goes_on(const struct server *s)
{
    return s->db_era == s->v3_era &&
           s->db_finished == mvcc_compact_finished(s->v3->mvcc);
}

void checkpoint_consider(struct server *s)
{
    uint64_t entries = s->last_applied - s->snapshot_index;
    uint64_t rewritten = store_live_bytes(s->store);
    uint64_t versions = mvcc_stats(s->v3->mvcc).n_versions;
    uint64_t entries_max = s->config->snapshot_count;
    uint64_t bytes_max;

    if (!db_goes_on(s)) {
        rewritten += v3_size(s->v3);
        if (versions > VERSIONS_MANY)
            entries_max = max_u64(entries_max, versions / 2);
    }
    bytes_max = max_u64(LOG_GROWTH_MIN, rewritten / 2);
    if (s->checkpoint_due ||
        (entries <= entries_max && s->bytes_since_snapshot <= bytes_max))
        return;
    s->checkpoint_due = true;
    server_wake_jobs(s, true, false);
}

static int save_db(struct server *s, struct pinned *p, struct err *e)
{
    int rc;

    server_take_disk(s);
    server_give_disk(s);
    rc = v3_pinned_save(p->v3, e);
    if (rc == 0)
        s->db_index = p->meta.index;
    return rc;
}

static int save_pinned(struct server *s, struct pinned *p, struct err *e)
{
    struct wal_snapshot mark = {p->meta.index, p->meta.term};
    struct err why;

    if (save_db(s, p, e) < 0)
        return -1;
    server_take_disk(s);
    if (wal_append_snapshot(s->wal, mark, NULL, &why) < 0 ||
        wal_sync(s->wal, &why) < 0)
        log_fatal("etcdserver", "cannot write the log: %s", why.msg);
    server_give_disk(s);
    return snap_save(s->config->snap_dir, &p->meta, write_pinned, p,
                     s->config->unsafe_no_fsync, e);
}

static void checkpoint(struct server *s)
{
    int64_t began = sys_mono_ns();
    raft_index index, since;
    struct pinned *p;
    struct err e;

    pthread_mutex_lock(&s->mu);
    p = pin_locked(s);
    since = s->snapshot_index;
    s->snapshot_index = index = p->meta.index;
    s->bytes_since_snapshot = 0;
    s->checkpoint_due = false;
    pthread_mutex_unlock(&s->mu);

    log_info("etcdserver",
             "start to snapshot (applied: %" PRIu64 ", lastsnap: %" PRIu64 ")",
             index, since);
    if (save_pinned(s, p, &e) < 0) {
        log_error("etcdserver",
                  "cannot save a snapshot: %s; the log grows until a later "
                  "try succeeds",
                  e.msg);
        pthread_mutex_lock(&s->mu);
        if (s->snapshot_index == index)
            s->snapshot_index = since;
        s->checkpoint_due = true; /* tried again with the next purge */
        pthread_mutex_unlock(&s->mu);
    } else {
        metric_observe_ns(H_SNAP_SAVE, sys_mono_ns() - began);
        log_info("etcdserver", "saved snapshot at index %" PRIu64, index);
    }
    unpin(p);
}

/* Files that no restart needs: see the head of this file. */
static void purge(struct server *s)
{
    struct wal_deleted deleted;
    raft_index newest;

    pthread_mutex_lock(&s->mu);
    newest = s->snapshot_index;
    pthread_mutex_unlock(&s->mu);
    server_take_disk(s);
    wal_purge(s->wal, newest, s->config->max_wals, &deleted);
    server_give_disk(s);
    wal_deleted_release(&deleted);
    snap_purge(s->config->snap_dir, newest, s->config->max_snapshots);
}

static int write_pinned_db(void *from, snap_sink *sink, void *arg)
{
    const struct pinned *p = from;

    return v3_pinned_write(p->v3, sink, arg, NULL);
}

static void send_snapshot(struct server *s, struct snapshot_order *o)
{
    struct transport_snapshot snap;
    struct pinned *p;

    pthread_mutex_lock(&s->mu);
    p = pin_locked(s);
    pthread_mutex_unlock(&s->mu);

    o->msg.snapshot->index = p->meta.index;
    o->msg.snapshot->term = p->meta.term;
    raft_conf_state_release(&o->msg.snapshot->conf_state);
    raft_conf_state_copy(&o->msg.snapshot->conf_state, &p->meta.conf_state);
    snap = (struct transport_snapshot){
        .data = write_pinned,
        .db = write_pinned_db,
        .n_db = v3_pinned_measure(p->v3),
        .from = p,
        .done = unpin,
    };
    transport_send_snapshot(s->transport, &o->msg, &snap);
}

static void send_snapshots(struct server *s)
{
    struct snapshot_order *list;

    pthread_mutex_lock(&s->raft_mu);
    list = s->orders;
    s->orders = NULL;
    server_leave_raft(s);
    while (list) {
        struct snapshot_order *o = list;

        list = o->next;
        send_snapshot(s, o);
        raft_msg_release(&o->msg);
        free(o);
    }
}

/* What was applied is in the log, and stays as it is now or gets more. */
static void checkpoint_at_stop(struct server *s)
{
    bool due;

    pthread_mutex_lock(&s->mu);
    due = s->bytes_since_snapshot > LOG_STOP_BYTES;
    pthread_mutex_unlock(&s->mu);
    if (!due)
        return;
    checkpoint(s);
    purge(s);
}

void *checkpoint_thread(void *arg)
{
    struct server *s = arg;
    int64_t next_purge = sys_mono_ns() + PURGE_MS * NS_PER_MS;

    sys_thread_name("etcd-checkpoint");
    pthread_mutex_lock(&s->job_mu);
    while (!s->jobs_stop) {
        bool due;

        if (!s->want_checkpoint)
            sys_cond_wait_until(&s->job_cond, &s->job_mu, next_purge);
        if (s->jobs_stop)
            break;
        s->want_checkpoint = false;
        pthread_mutex_unlock(&s->job_mu);

        v3_adopt(s);
        send_snapshots(s);
        pthread_mutex_lock(&s->mu);
        due = s->checkpoint_due;
        pthread_mutex_unlock(&s->mu);
        if (due)
            checkpoint(s);
        if (due || sys_mono_ns() >= next_purge) {
            purge(s);
            next_purge = sys_mono_ns() + PURGE_MS * NS_PER_MS;
        }
        pthread_mutex_lock(&s->job_mu);
    }
    pthread_mutex_unlock(&s->job_mu);
    checkpoint_at_stop(s);
    return NULL;
}
