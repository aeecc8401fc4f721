/*
 * server.c - one member: the log, the disk, the quorum, the store; start and
 * stop. How requests get in and out is in propose.c.
 *
 *   client threads --> raft --> disk batch --> WAL, one sync per batch
 *                       |  \                        |
 *                  transport  apply queue <-- committed (raft_stable)
 *                                 |
 *                               store --> waiters, watchers
 *
 * ROLES, NOT JUST THREADS. Writing the log and applying are two exclusive
 * roles (disk_busy, apply_busy). A thread that finds a role free takes it for
 * the work at hand: a lone client's own thread writes, syncs, applies and
 * answers without waking anybody. Under load (crowd) the roles are left to the disk
 * thread and the apply thread, and what arrives during one sync shares the next.
 * Entries reach each role in log order because both queues are filled under
 * raft_mu and emptied by the role's one holder.
 *
 * INVARIANTS
 *   1. A waiter is told of success only after its entry was applied, which is
 *      after it was committed, which is after a quorum synced it.
 *   2. wal is touched only by the holder of disk_busy, store only under mu,
 *      and only the holder of apply_busy changes it.
 *   3. A failed write or sync of the log ends the process (wal.h).
 */
#include "boot.h"
#include "log.h"
#include "metrics.h"
#include "server_impl.h"
#include "snap.h"

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

/* Entries that a single member keeps in memory: nobody lags behind it. */
#define KEEP_ALONE 256
/* What an entry takes in memory beside its data, about. */
#define KEPT_ENTRY_BYTES 64

/* A client's or peer's thread applies by itself at most this many entries. */
#define INLINE_APPLY_MAX 8

/* A start that replays so much has freed as much in the middle of the heap. */
#define TRIM_BYTES (16u * 1024 * 1024)

/* A crowd is forgotten after so many syncs that nobody shared. */
#define CROWD_SYNCS 16

/* From here on a disk is slow enough to gather for: until nobody has come for
 * this part of what it takes, and for a quarter of that at most. One that hung
 * counts as so slow only, lest the next write waits for seconds. */
#define GATHER_NS NS_PER_MS
#define GATHER_PART 16
#define GATHER_MAX_NS (200 * NS_PER_MS)

/* A lone write takes longer than a quick disk: it may be for want of a core. To
 * stay awake for it costs one, so it counts half as much again then. */
#define AWAIT_LEAST_NS (NS_PER_MS / 2)
#define AWAIT_MAX_NS NS_PER_MS

#define REFUSAL_NS NS_PER_S /* between two lines about peers' bad messages */

/* --- Raft's output. ----------------------------------------------------- */

static struct raft_snapshot *share_snapshot(const struct raft_snapshot *from)
{
    struct raft_snapshot *snap = xcalloc(1, sizeof(*snap));

    raft_conf_state_copy(&snap->conf_state, &from->conf_state);
    snap->index = from->index;
    snap->term = from->term;
    snap->data = blob_ref(from->data);
    return snap;
}

static void queue_for_disk(struct server *s, const struct raft_ready *rd)
{
    struct disk_batch *b = &s->disk;

    if (rd->snapshot) {
        /* It replaces the log: what was queued before it is void. */
        for (size_t i = 0; i < b->n_entries; i++)
            raft_entry_release(&b->entries[i]);
        b->n_entries = 0;
        if (b->snapshot) {
            raft_snapshot_release(b->snapshot);
            free(b->snapshot);
        }
        b->snapshot = share_snapshot(rd->snapshot);
    }
    if (rd->n_entries > b->cap - b->n_entries) {
        b->cap = b->n_entries + rd->n_entries + 64;
        b->entries = xrealloc(b->entries, b->cap * sizeof(*b->entries));
    }
    for (size_t i = 0; i < rd->n_entries; i++) {
        b->entries[b->n_entries] = rd->entries[i];
        blob_ref(b->entries[b->n_entries++].data);
    }
    if (rd->hard_state) {
        b->hard_state = *rd->hard_state;
        b->has_hard_state = true;
    }
    b->must_sync |= rd->must_sync;
    b->seq = rd->disk_seq;
}

static void queue_for_apply(struct server *s, const struct raft_ready *rd)
{
    struct apply_item *item = s->apply_last;

    if (!item || rd->snapshot) {
        item = xcalloc(1, sizeof(*item));
        if (s->apply_last)
            s->apply_last->next = item;
        else
            s->apply_first = item;
        s->apply_last = item;
    }
    if (rd->snapshot)
        item->snapshot = share_snapshot(rd->snapshot);
    if (rd->n_committed > item->cap - item->n_entries) {
        item->cap = item->n_entries + rd->n_committed + 16;
        item->entries =
            xrealloc(item->entries, item->cap * sizeof(*item->entries));
    }
    for (size_t i = 0; i < rd->n_committed; i++) {
        item->entries[item->n_entries] = rd->committed[i];
        blob_ref(item->entries[item->n_entries++].data);
    }
    s->apply_queued += rd->n_committed;
}

/* Are a leader's heartbeats on time? All members get theirs together. */
static void time_heartbeats(struct server *s, const struct raft_ready *rd)
{
    int64_t late_ns = 2 * s->config->heartbeat_ms * NS_PER_MS, now;
    size_t n = 0;

    for (size_t i = 0; i < rd->n_messages; i++)
        n += rd->messages[i].type == RAFT_MSG_HEARTBEAT;
    if (n == 0)
        return;
    now = sys_mono_ns();
    if (s->heartbeat_sent_ns && now - s->heartbeat_sent_ns > late_ns)
        metric_add(M_HEARTBEAT_SEND_FAILURES, n);
    s->heartbeat_sent_ns = now;
}

bool server_syncs_soon(const struct server *s)
{
    return s->disk_busy && sys_mono_ns() - s->disk_began_ns < HOLD_NS;
}

/* Do they say no more than how far the log is committed? */
static bool tell_commit_alone(const struct raft_ready *rd)
{
    for (size_t i = 0; i < rd->n_messages; i++)
        if (rd->messages[i].type != RAFT_MSG_APP ||
            rd->messages[i].n_entries > 0)
            return false;
    return rd->n_messages > 0;
}

/*
 * Under load a commit index travels with the entries that are proposed while
 * the disk is busy: when it is done they are sent (hold_locked()), or the index
 * alone is. A disk that takes its time does not hold it up longer than a tick.
 * Whoever answers clients at once does that before others are woken for it.
 */
static bool hold_commit(struct server *s, const struct raft_ready *rd)
{
    if (!tell_commit_alone(rd) || !(s->answer_first || server_syncs_soon(s)))
        return false;
    transport_hold(s->transport, rd->messages, rd->n_messages);
    s->held_commit = true;
    return true;
}

static void send_due(struct server *s, const struct raft_msg *m, size_t n)
{
    transport_send(s->transport, m, n);
    s->flush_due = true;
}

static void send_held(struct server *s)
{
    if (s->held_commit && !s->answer_first && !server_syncs_soon(s)) {
        send_due(s, NULL, 0);
        s->held_commit = false;
    }
}

static void send_messages(struct server *s, const struct raft_ready *rd)
{
    size_t from = 0;

    time_heartbeats(s, rd);
    if (hold_commit(s, rd))
        return;
    for (size_t i = 0; i < rd->n_messages; i++) {
        struct snapshot_order *o;

        if (rd->messages[i].type != RAFT_MSG_SNAP)
            continue;
        send_due(s, rd->messages + from, i - from);
        from = i + 1;
        o = xcalloc(1, sizeof(*o));
        raft_msg_copy(&o->msg, &rd->messages[i]);
        o->next = s->orders;
        s->orders = o;
        server_wake_jobs(s, true, false);
    }
    if (rd->n_messages > from)
        send_due(s, rd->messages + from, rd->n_messages - from);
}

static void follow_leader(struct server *s)
{
    struct raft_status st = raft_status(s->raft);

    s->term = st.term;
    s->role = st.role;
    if (st.leader == s->leader)
        return;
    if (st.leader == 0)
        s->leader_lost_ns = sys_mono_ns();
    else
        metric_add(M_LEADER_CHANGES, 1);
    s->leader = st.leader;
    s->heartbeat_sent_ns = 0;
    s->leader_since_ns = sys_mono_ns();
    s->leader_since_wall_ns = sys_wall_ns();
    if (s->read_ctx && st.leader) /* the old leader's answer will not come */
        raft_read_index(s->raft, s->read_ctx);
    pthread_cond_broadcast(&s->leader_cond);
    server_wake_jobs(s, false, true);
}

/*
 * A moved commit index alone is not worth a write: it goes with the next
 * batch, or with the next tick. It promises nothing, so raft need not wait.
 */
static bool disk_due(const struct server *s)
{
    return s->disk.must_sync || s->disk.n_entries || s->disk.snapshot;
}

static void put_off_commit(struct server *s)
{
    if (s->disk.seq && !s->disk_busy && !disk_due(s)) {
        raft_stable(s->raft, s->disk.seq);
        s->disk.seq = 0;
    }
}

static void handle_readies(struct server *s)
{
    struct raft_ready rd;

    while (raft_ready(s->raft, &rd)) {
        send_messages(s, &rd);
        if (rd.disk_seq)
            queue_for_disk(s, &rd);
        if (rd.snapshot || rd.n_committed)
            queue_for_apply(s, &rd);
        for (size_t i = 0; i < rd.n_reads; i++)
            reads_finish(s, &rd.reads[i]);
        raft_advance(s->raft);
        put_off_commit(s);
    }
    follow_leader(s);
}

void server_handle_ready(struct server *s)
{
    s->held = 0;
    do
        handle_readies(s);
    while (parked_retry(s));
    send_held(s);
}

/* --- The disk role. ----------------------------------------------------- */

static void save_snapshot(struct server *s, const struct raft_snapshot *snap)
{
    struct str data = blob_str(snap->data);
    struct wal_snapshot mark = {snap->index, snap->term};
    struct err e;

    if (snap_save(s->config->snap_dir, snap, snap_source_str, &data,
                  s->config->unsafe_no_fsync, &e) < 0 ||
        wal_append_snapshot(s->wal, mark, NULL, &e) < 0 ||
        wal_sync(s->wal, &e) < 0)
        log_fatal("etcdserver", "cannot save the leader's snapshot: %s", e.msg);
    log_info("etcdserver", "saved the leader's snapshot at index %" PRIu64,
             snap->index);
}

static void write_batch(struct server *s, struct disk_batch *b)
{
    uint64_t before = wal_bytes_written(s->wal);
    int64_t began, appended;
    struct err e;

    if (b->snapshot)
        save_snapshot(s, b->snapshot);
    appended = sys_mono_ns();
    if (wal_append(s->wal, b->has_hard_state ? &b->hard_state : NULL,
                   b->entries, b->n_entries, &e) < 0)
        log_fatal("wal", "cannot write the log: %s", e.msg);
    metric_add(M_WAL_WRITE_BYTES, wal_bytes_written(s->wal) - before);
    /* Synced even if only the commit index moved: so the log never ends in
     * several unsynced states, which recovery could not tell from damage. */
    began = sys_mono_ns();
    if (wal_sync(s->wal, &e) < 0)
        log_fatal("wal", "cannot sync the log: %s", e.msg);
    began = sys_mono_ns() - began;
    metric_observe_ns(H_WAL_FSYNC, began);
    if (b->n_entries)
        metric_observe_ns(H_BACKEND_COMMIT, sys_mono_ns() - appended);
    if (began > NS_PER_S)
        log_warn("wal", "sync duration of %.3fs, expected less than 1s",
                 (double)began / NS_PER_S);
}

static void batch_release(struct disk_batch *b)
{
    for (size_t i = 0; i < b->n_entries; i++)
        raft_entry_release(&b->entries[i]);
    if (b->snapshot) {
        raft_snapshot_release(b->snapshot);
        free(b->snapshot);
    }
}

/* A batch of n entries is on disk. */
static void note_written(struct server *s, size_t n)
{
    int64_t took = sys_mono_ns() - s->disk_began_ns;

    __atomic_store_n(&s->n_written, s->n_written + 1, __ATOMIC_RELEASE);
    s->write_ns = took < s->last_write_ns ? took : s->last_write_ns;
    s->last_write_ns = took;
    if (n > 1)
        s->crowd = CROWD_SYNCS;
    else if (s->crowd > 0)
        s->crowd--;
}

static bool is_slow_crowd(const struct server *s)
{
    return s->role == RAFT_LEADER && s->crowd > 0 && s->write_ns >= GATHER_NS;
}

bool server_gather(struct server *s)
{
    if (s->disk_busy || !is_slow_crowd(s))
        return false;
    if (s->gathered++ == 0)
        pthread_cond_signal(&s->disk_cond);
    return true;
}

/* Those whom the last sync answered. raft_mu is held, and released meanwhile. */
static void gather(struct server *s)
{
    int64_t takes = s->write_ns < GATHER_MAX_NS ? s->write_ns : GATHER_MAX_NS;
    int64_t part = takes / GATHER_PART;
    int64_t now = sys_mono_ns(), end = now + takes / 4;
    unsigned seen;

    do {
        int64_t until = now + part;

        seen = s->gathered;
        while (!s->stopping && (now = sys_mono_ns()) < until)
            sys_cond_wait_until(&s->disk_cond, &s->raft_mu, until);
    } while (!s->stopping && s->gathered > seen && now < end);
    s->gathered = 0;
    server_handle_ready(s);
}

/* Write what is queued. raft_mu is held, and released meanwhile. */
static void disk_run(struct server *s)
{
    struct disk_batch b = s->disk;

    s->disk_busy = true;
    s->disk_began_ns = sys_mono_ns();
    s->disk = (struct disk_batch){.entries = s->spare, .cap = s->spare_cap};
    s->spare = NULL;
    s->spare_cap = 0;
    server_leave_raft(s);

    write_batch(s, &b);
    batch_release(&b);

    pthread_mutex_lock(&s->raft_mu);
    note_written(s, b.n_entries);
    if (!s->spare && b.cap <= 4096) {
        s->spare = b.entries;
        s->spare_cap = b.cap;
    } else {
        free(b.entries);
    }
    s->disk_busy = false;
    if (b.seq)
        raft_stable(s->raft, b.seq);
    server_handle_ready(s);
    if (s->disk_takers || s->disk_awaited || s->stopping)
        pthread_cond_broadcast(&s->disk_cond);
    reads_tell(s);
}

/* Have the disk thread where this one is. */
static void bring_disk_here(struct server *s)
{
    int cpu = sched_getcpu();
    cpu_set_t here;

    if (cpu < 0 || cpu == s->disk_cpu || CPU_COUNT(&s->anywhere) < 2)
        return;
    CPU_ZERO(&here);
    CPU_SET(cpu, &here);
    if (pthread_setaffinity_np(s->disk_thread, sizeof(here), &here) == 0)
        s->disk_cpu = cpu;
}

/*
 * Have the disk thread write, and stay awake meanwhile; not for long, for a slow
 * disk is worth no core. raft_mu is held, and released meanwhile.
 */
static void await_disk(struct server *s)
{
    int64_t end = sys_mono_ns() + AWAIT_MAX_NS;
    unsigned seen = s->n_written;

    bring_disk_here(s);
    s->disk_awaited++;
    pthread_cond_broadcast(&s->disk_cond);
    server_leave_raft(s);
    while (__atomic_load_n(&s->n_written, __ATOMIC_ACQUIRE) == seen &&
           sys_mono_ns() < end)
        sched_yield();
    pthread_mutex_lock(&s->raft_mu);
    while (s->n_written == seen && !s->stopping)
        pthread_cond_wait(&s->disk_cond, &s->raft_mu);
    s->disk_awaited--;
}

/*
 * A lone client's entry, written by the thread that proposed it. Where other
 * programs keep the cores busy, Linux gives the core to one of them as soon as that
 * thread waits for the disk, and may leave it there until the next tick, for
 * milliseconds. So where that seems to be it, having the disk thread write is tried,
 * on the core that this thread stays awake on, and thereby keeps.
 */
static void write_alone(struct server *s)
{
    int64_t began = sys_mono_ns(), price;
    bool await = s->disk_ways.second && !s->stopping; /* the thread is there */

    if (await)
        await_disk(s);
    else
        disk_run(s);
    price = sys_mono_ns() - began;
    if (await)
        price += price / 2;
    ways_took(&s->disk_ways, price, s->disk_ways.mean_ns[0] > AWAIT_LEAST_NS);
}

static void *disk_thread(void *arg)
{
    struct server *s = arg;

    sys_thread_name("etcd-disk");
    pthread_mutex_lock(&s->raft_mu);
    if (sched_getaffinity(0, sizeof(s->anywhere), &s->anywhere) < 0)
        CPU_ZERO(&s->anywhere);
    for (;;) {
        bool due = disk_due(s) || s->gathered ||
                   (s->disk.has_hard_state && s->flush_commit);

        if (s->disk_busy || (!due && !s->stopping)) {
            pthread_cond_wait(&s->disk_cond, &s->raft_mu);
            continue;
        }
        s->flush_commit = false;
        if (s->disk_cpu >= 0 && !s->disk_awaited &&
            sched_setaffinity(0, sizeof(s->anywhere), &s->anywhere) == 0)
            s->disk_cpu = -1;
        /* Under load, those who are about to propose come first, and share
         * this sync; with a core to spare this returns at once. */
        if (s->gathered || is_slow_crowd(s)) {
            gather(s);
            server_flush(s);
        } else {
            server_leave_raft(s);
            sched_yield();
            pthread_mutex_lock(&s->raft_mu);
        }
        if (s->disk_busy)
            continue;
        if (disk_due(s) || s->disk.has_hard_state)
            disk_run(s);
        else if (s->stopping)
            break; /* all is written */
        if (s->apply_first && !s->apply_busy && !s->disk_awaited)
            pthread_cond_signal(&s->apply_cond);
        server_flush(s);
    }
    server_leave_raft(s);
    return NULL;
}

void server_take_disk(struct server *s)
{
    bool flushed = false;

    pthread_mutex_lock(&s->raft_mu);
    s->disk_takers++;
    /* A commit index that was put off is written, too: a restart believes a
     * snapshot record only if it is not ahead of that. */
    while (s->disk_busy || disk_due(s) ||
           (s->disk.has_hard_state && !flushed)) {
        if (s->disk_busy) {
            pthread_cond_wait(&s->disk_cond, &s->raft_mu);
        } else {
            disk_run(s);
            server_flush(s);
            flushed = true;
        }
    }
    s->disk_takers--;
    s->disk_busy = true;
    server_leave_raft(s);
}

void server_give_disk(struct server *s)
{
    pthread_mutex_lock(&s->raft_mu);
    s->disk_busy = false;
    pthread_cond_broadcast(&s->disk_cond);
    server_unlock_raft(s);
}

/* --- The apply role. ---------------------------------------------------- */

/* Answers for the waiters of one batch, told after mu is released. */
struct applied_batch {
    struct waiter *finished;
    struct waiter **tail;
    raft_index last;
    int64_t began_ns;
    bool reconfigured; /* a change of membership was among them */
};

static void finish_later(struct applied_batch *done, struct waiter *w)
{
    w->next = NULL;
    *done->tail = w;
    done->tail = &w->next;
}

static void follow_v2_auth(struct server *s)
{
    const struct blob *value = store_peek(s->store, STR("/2/enabled"));

    __atomic_store_n(&s->v2_auth_on, str_eqz(blob_str(value), "true"),
                     __ATOMIC_RELEASE);
}

/* The first entry of a new leader: whoever waits for an earlier one's may as
 * well be told now that nobody knows. */
static void give_up_lost(struct server *s, raft_term term,
                         struct applied_batch *done)
{
    struct waiter *w = waiters_before_term(s, term);

    while (w) {
        struct waiter *next = w->next;

        finish_later(done, w);
        w = next;
    }
}

/* The clock tells only what is left of a TTL in an answer, not what is stored
 * or when it expires: that is in the entry. */
static int apply_to_store(struct server *s, const struct v2_request *r,
                          struct store_event **event, struct store_error *error)
{
    bool put = str_eqz(r->method, "PUT"),
         internal = str_has_prefix(r->path, "/0/");
    int code;

    if (put && internal && cluster_skips_put(s->cluster, r->path))
        return 0;
    code = store_apply(s->store, r, sys_wall_ns(), event, error);
    if (put && internal && code == 0 &&
        cluster_follow_put(s->cluster, r->path, r->val))
        server_wake_jobs(s, false, true);
    if (str_has_prefix(r->path, "/2"))
        follow_v2_auth(s);
    return code;
}

void server_put_membership(struct server *s, struct str path, struct str value)
{
    const struct v2_request r = {
        .method = STR("PUT"), .path = path, .val = value};
    struct store_event *event = NULL;
    struct store_error error = {0};

    apply_to_store(s, &r, &event, &error);
    store_event_unref(event);
    store_error_release(&error);
}

static void apply_v2(struct server *s, const struct v2_request *r,
                     struct applied_batch *done)
{
    struct waiter *w = waiter_take(s, r->id);
    struct store_event *event = NULL;
    struct store_error error = {0};
    int code = apply_to_store(s, r, &event, &error);

    if (w && w->result) {
        *w->result = (struct v2_result){
            .code = code,
            .event = event,
            .error = error,
            .etcd_index = code ? error.index : store_index(s->store),
            .raft_index = s->last_applied,
            .raft_term = s->applied_term,
        };
    } else {
        store_event_unref(event);
        store_error_release(&error);
    }
    if (w)
        finish_later(done, w);
}

static void mark_applied(struct server *s, const struct raft_entry *entry)
{
    sys_u64_store(&s->last_applied, entry->index);
    s->applied_term = entry->term;
    v3_skip(s->v3, entry->index);
}

/* The v3 state may have been saved behind the v2 store: then it has the entry
 * already. */
static void apply_v3(struct server *s, const struct raft_entry *entry,
                     const struct entry_request *req,
                     struct applied_batch *done)
{
    struct waiter *w = waiter_take(s, req->id);

    if (w)
        w->applying_ns = done->began_ns;
    if (v3_apply_entry(s, entry, req, w) && w)
        finish_later(done, w);
    mark_applied(s, entry);
}

/* It gives mu up meanwhile: a snapshot that is pinned just then must not say
 * that it holds the change. */
static void apply_conf_change(struct server *s, const struct raft_entry *entry,
                              struct applied_batch *done)
{
    struct waiter *w;
    uint64_t id;
    int code;

    v3_applied(s);
    reconf_apply(s, entry, &id, &code);
    mark_applied(s, entry);
    done->reconfigured = true;
    w = waiter_take(s, id);
    if (w) {
        w->code = code;
        finish_later(done, w);
    }
}

static void apply_entry(struct server *s, const struct raft_entry *entry,
                        struct applied_batch *done)
{
    struct str data = blob_str(entry->data);
    struct entry_request req;

    if (entry->term > s->applied_term)
        give_up_lost(s, entry->term, done);
    s->bytes_since_snapshot += data.n;
    if (entry->type != RAFT_ENTRY_NORMAL) {
        apply_conf_change(s, entry, done);
        return;
    }
    if (etcdpb_decode_entry(data.p, data.n, &req) < 0)
        log_fatal("etcdserver",
                  "entry %" PRIu64 " of the log is neither a v2 nor a v3 "
                  "request: it was written by a newer version; nothing was "
                  "changed",
                  entry->index);
    if (req.kind == ENTRY_INTERNAL) {
        apply_v3(s, entry, &req, done);
        return;
    }
    mark_applied(s, entry);
    if (req.kind == ENTRY_V2)
        apply_v2(s, &req.v2, done);
}

void server_set_conf_state(struct server *s, struct raft_conf_state *cs)
{
    raft_conf_state_release(&s->conf_state);
    s->conf_state = *cs;
    __atomic_store_n(&s->is_learner,
                     raft_ids_has(&s->conf_state.learners, s->id),
                     __ATOMIC_RELEASE);
}

/* Returns what is to be freed without mu. */
static struct v3 *install_snapshot(struct server *s,
                                   const struct raft_snapshot *snap)
{
    struct str data = blob_str(snap->data);
    struct raft_conf_state cs = {0};
    struct err e;

    log_info("etcdserver", "applying snapshot at index %" PRIu64 "...",
             snap->index);
    if (store_recover(s->store, data.p, data.n, &e) < 0)
        log_fatal("etcdserver", "the leader's snapshot is unreadable: %s",
                  e.msg);
    cluster_recover(s->cluster, s->store);
    follow_v2_auth(s);
    raft_conf_state_copy(&cs, &snap->conf_state);
    server_set_conf_state(s, &cs);
    sys_u64_store(&s->last_applied, snap->index);
    s->applied_term = snap->term;
    s->snapshot_index = snap->index;
    s->bytes_since_snapshot = 0;
    server_wake_jobs(s, false, true);
    log_info("etcdserver",
             "finished applying incoming snapshot at index "
             "%" PRIu64,
             snap->index);
    return v3_install(s, snap->index);
}

static void apply_items(struct server *s, struct apply_item *item,
                        struct applied_batch *done)
{
    int64_t began = sys_mono_ns(), took;
    struct v3 *replaced = NULL;

    done->began_ns = began;
    sys_u64_store(&s->apply_wants, 1);
    pthread_mutex_lock(&s->mu);
    while (item) {
        struct apply_item *next = item->next;

        if (item->snapshot) {
            v3_free(replaced); /* seldom two in a row */
            replaced = install_snapshot(s, item->snapshot);
            raft_snapshot_release(item->snapshot);
            free(item->snapshot);
        }
        for (size_t i = 0; i < item->n_entries; i++) {
            apply_entry(s, &item->entries[i], done);
            raft_entry_release(&item->entries[i]);
        }
        free(item->entries);
        free(item);
        item = next;
    }
    done->last = s->last_applied;
    v3_applied(s);
    checkpoint_consider(s);
    if (s->applied_waiters)
        pthread_cond_broadcast(&s->applied);
    pthread_mutex_unlock(&s->mu);
    sys_u64_store(&s->apply_wants, 0);
    v3_free(replaced);
    took = sys_mono_ns() - began;
    if (took > s->config->warning_apply_ms * NS_PER_MS)
        metric_add(M_SLOW_APPLY, 1);
}

/* The log in memory is bounded in entries and bytes; who lags behind it gets
 * a snapshot of the store as it is then. For those who get one, or lag but
 * answer, more is kept while it is not too much. */
static void bound_log_locked(struct server *s, raft_index applied)
{
    struct raft_status st = raft_status(s->raft);
    uint64_t keep = s->config->snapshot_catchup_entries, have;
    raft_index cut;

    if (applied < st.first_index)
        return; /* a snapshot is on its way to the applier */
    have = applied - st.first_index;
    if (raft_conf_state(s->raft)->voters.n == 1 &&
        raft_conf_state(s->raft)->learners.n == 0)
        keep = min_u64(keep, KEEP_ALONE);
    if (st.log_bytes > LOG_BYTES_MAX)
        keep = min_u64(keep, have / 2);
    if (have <= 2 * keep)
        return;
    cut = applied - keep;
    if (st.log_bytes + have * KEPT_ENTRY_BYTES <= LOG_BYTES_MAX)
        cut = min_u64(cut, raft_wanted(s->raft));
    if (cut >= st.first_index)
        raft_compact(s->raft, cut);
}

/* Apply what is queued. raft_mu is held, and released meanwhile. */
static void apply_run(struct server *s)
{
    struct applied_batch done = {.finished = NULL};
    struct apply_item *items = s->apply_first;

    done.tail = &done.finished;
    s->apply_busy = true;
    s->apply_first = s->apply_last = NULL;
    s->apply_queued = 0;
    server_leave_raft(s);

    apply_items(s, items, &done);
    if (done.reconfigured) {
        /* Raft ignores a change while an earlier one is not applied to its
         * knowledge; so it hears of it before the proposer does. */
        pthread_mutex_lock(&s->raft_mu);
        raft_applied(s->raft, done.last);
        server_leave_raft(s);
    }
    waiters_finish(done.finished);

    pthread_mutex_lock(&s->raft_mu);
    raft_applied(s->raft, done.last);
    bound_log_locked(s, done.last);
    server_handle_ready(s);
    v3_follow_role(s);
    s->apply_busy = false;
    reads_tell(s);
}

static void *apply_thread(void *arg)
{
    struct server *s = arg;

    sys_thread_name("etcd-apply");
    pthread_mutex_lock(&s->raft_mu);
    for (;;) {
        while (!s->stopping && (s->apply_busy || !s->apply_first))
            pthread_cond_wait(&s->apply_cond, &s->raft_mu);
        if (s->stopping)
            break;
        apply_run(s);
        if (disk_due(s) && !s->disk_busy)
            pthread_cond_signal(&s->disk_cond);
        server_flush(s);
    }
    server_leave_raft(s);
    return NULL;
}

/* --- Who does the work. ------------------------------------------------- */

/* Small enough for a thread that has something else to do? */
static bool apply_is_small(const struct server *s)
{
    return s->apply_first && !s->apply_first->snapshot &&
           !s->apply_first->next && s->apply_queued <= INLINE_APPLY_MAX;
}

void server_wake_workers(struct server *s)
{
    if (disk_due(s) && !s->disk_busy)
        pthread_cond_signal(&s->disk_cond);
    if (s->apply_first && !s->apply_busy)
        pthread_cond_signal(&s->apply_cond);
}

void server_work(struct server *s)
{
    if (s->crowd == 0) {
        if (disk_due(s) && !s->disk_busy)
            write_alone(s);
        if (!s->apply_busy && apply_is_small(s))
            apply_run(s);
    }
    server_wake_workers(s);
}

void server_lock_raft(struct server *s)
{
    pthread_mutex_lock(&s->raft_mu);
}

void server_leave_raft(struct server *s)
{
    bool due = s->flush_due;

    s->flush_due = false;
    pthread_mutex_unlock(&s->raft_mu);
    if (due)
        transport_flush(s->transport);
}

void server_flush(struct server *s)
{
    if (!s->flush_due)
        return;
    server_leave_raft(s);
    pthread_mutex_lock(&s->raft_mu);
}

void server_unlock_raft(struct server *s)
{
    server_handle_ready(s);
    server_wake_workers(s);
    reads_tell(s);
    server_leave_raft(s);
}

void server_wake_jobs(struct server *s, bool checkpoint, bool monitor)
{
    pthread_mutex_lock(&s->job_mu);
    s->want_checkpoint |= checkpoint;
    s->want_monitor |= monitor;
    pthread_cond_broadcast(&s->job_cond);
    pthread_mutex_unlock(&s->job_mu);
}

/* --- What peers may bring. ---------------------------------------------- */

/*
 * An entry or a snapshot that cannot be read would end every member that
 * applies it, and again after each restart. So it is stopped at the door,
 * before the log has it. A proposal's key must fit as a client's must.
 */
static bool entry_fits(const struct raft_entry *entry, bool proposed)
{
    struct str data = blob_str(entry->data), path;
    struct entry_request req;

    if (entry->type != RAFT_ENTRY_NORMAL)
        return reconf_readable(entry);
    if (etcdpb_decode_entry(data.p, data.n, &req) < 0)
        return false;
    if (req.kind == ENTRY_INTERNAL)
        return v3_readable(req.field, req.bytes);
    path = req.kind == ENTRY_V2 ? req.v2.path : STR("");
    return proposed ? store_key_fits(path) : path.n <= STORE_NAME_BYTES_MAX;
}

static bool message_fits(struct server *s, const struct raft_msg *m,
                         struct err *e)
{
    struct str data = blob_str(m->snapshot ? m->snapshot->data : NULL);
    bool proposed = m->type == RAFT_MSG_PROP;

    if (m->type == RAFT_MSG_SNAP)
        return store_check(data.p, data.n, e) == 0 &&
               (!m->snapshot || v3_receive(s, m->snapshot->index, e) == 0);
    if (!proposed && m->type != RAFT_MSG_APP)
        return true;
    for (size_t i = 0; i < m->n_entries; i++)
        if (!entry_fits(&m->entries[i], proposed))
            return err_set(e, -1, "entry %zu of %zu is no request", i + 1,
                           m->n_entries) == 0;
    return true;
}

/* A peer that sends many of them is not to fill the disk with lines; two at
 * once may both be told of. */
static bool may_tell_refusal(struct server *s)
{
    uint64_t now = (uint64_t)sys_mono_ns();

    if (now < sys_u64_load(&s->next_refusal_ns))
        return false;
    sys_u64_store(&s->next_refusal_ns, now + REFUSAL_NS);
    return true;
}

/* --- The transport's callbacks. ----------------------------------------- */

static int on_message(void *arg, const struct raft_msg *m, bool last)
{
    struct server *s = arg;
    struct err e;

    if (cluster_is_removed(s->cluster, m->from))
        return -1;
    if (m->to != s->id)
        return 0;
    if (!message_fits(s, m, &e)) {
        if (may_tell_refusal(s))
            log_error("etcdserver", "refused a %s message from %" PRIx64 ": %s",
                      raft_msg_name(m->type), m->from, e.msg);
        return -1;
    }
    pthread_mutex_lock(&s->raft_mu);
    raft_step(s->raft, m);
    s->answer_first = !s->apply_busy;
    server_handle_ready(s);
    s->answer_first = false;
    if (last && disk_due(s) && !s->disk_busy)
        disk_run(s); /* what comes meanwhile shares the next */
    if (!s->apply_busy && apply_is_small(s))
        apply_run(s);
    send_held(s);
    server_wake_workers(s);
    reads_tell(s);
    server_leave_raft(s);
    return 0;
}

static bool on_is_removed(void *arg, uint64_t id)
{
    struct server *s = arg;

    return cluster_is_removed(s->cluster, id);
}

static void on_unreachable(void *arg, uint64_t id)
{
    struct server *s = arg;

    server_lock_raft(s);
    raft_report_unreachable(s->raft, id);
    server_unlock_raft(s);
}

static void on_snapshot_sent(void *arg, uint64_t id, bool ok)
{
    struct server *s = arg;

    server_lock_raft(s);
    raft_report_snapshot(s->raft, id, ok);
    server_unlock_raft(s);
}

static void on_removed(void *arg)
{
    reconf_removed_self(arg);
}

/* --- The ticker. -------------------------------------------------------- */

/* Expire TTLs: a proposal of the leader, that nobody waits for. */
static void propose_sync(struct server *s)
{
    struct v2_request r = {.method = STR("SYNC")};
    struct buf encoded = {0};
    struct blob *data;
    bool due;

    pthread_mutex_lock(&s->mu);
    due = store_has_ttl(s->store);
    pthread_mutex_unlock(&s->mu);
    if (!due)
        return;
    r.id = server_next_id(s);
    r.time = sys_wall_ns();
    etcdpb_encode_v2_request(&encoded, &r);
    data = blob_new(encoded.data, encoded.len);
    buf_release(&encoded);
    server_lock_raft(s);
    raft_propose(s->raft, &data, 1); /* if it is lost, the next one comes */
    server_unlock_raft(s);
    blob_unref(data);
}

/* What raft has to say since the last time. */
static void print_raft_log(struct server *s)
{
    struct buf lines = {0};
    struct str rest, line;

    pthread_mutex_lock(&s->raft_mu);
    raft_take_log(s->raft, &lines);
    server_leave_raft(s);
    rest = buf_str(&lines);
    while (rest.n) {
        str_cut(&rest, '\n', &line);
        if (line.n)
            log_info("raft", "%.*s", STR_FMT(line));
    }
    buf_release(&lines);
}

static void *ticker_thread(void *arg)
{
    struct server *s = arg;
    int64_t interval = s->config->heartbeat_ms * NS_PER_MS;
    int64_t next = sys_mono_ns() + interval, next_sync = 0, now;
    bool stop = false;

    sys_thread_name("etcd-tick");
    while (!stop) {
        bool lead;

        now = sys_mono_ns();
        if (now < next)
            sys_sleep_ms((next - now + NS_PER_MS - 1) / NS_PER_MS);
        now = sys_mono_ns();
        /* After a pause of the whole process one tick counts, not many. */
        next = now - next > interval ? now + interval : next + interval;

        server_lock_raft(s);
        raft_tick(s->raft);
        reads_retry(s, now);
        lead = s->role == RAFT_LEADER;
        stop = s->stopping;
        parked_drop(s, false);
        if (s->disk.has_hard_state && !s->disk_busy) {
            s->flush_commit = true;
            pthread_cond_signal(&s->disk_cond);
        }
        server_unlock_raft(s);
        waiters_expire(s);
        reads_expire(s, now, SERVER_ETIMEOUT);
        v3_lead(s, now);
        print_raft_log(s);
        if (lead && now >= next_sync && !stop) {
            propose_sync(s);
            next_sync = now + SYNC_MS * NS_PER_MS;
        }
    }
    return NULL;
}

/* --- Start. ------------------------------------------------------------- */

/* Member id, start time and a counter make ids unique (spec 3.3). */
static uint64_t first_request_id(uint64_t member)
{
    uint64_t ms = (uint64_t)(sys_wall_ns() / NS_PER_MS);

    return member << 48 | (ms & ((UINT64_C(1) << 40) - 1)) << 8;
}

static int start_transport(struct server *s, struct err *e)
{
    struct transport_config tc = {
        .id = s->id,
        .cluster_id = cluster_id(s->cluster),
        .advertise_peer_urls = &s->config->initial_advertise_peer_urls,
        .heartbeat_ms = s->config->heartbeat_ms,
        .election_ms = s->config->election_ms,
        .snap_dir = s->config->snap_dir,
        .no_fsync = s->config->unsafe_no_fsync,
        .secure = s->config->secure_peer,
        .callbacks = {on_message, on_is_removed, on_unreachable,
                      on_snapshot_sent, on_removed, s},
    };

    return transport_new(&tc, &s->transport, e);
}

static int start_raft(struct server *s, struct boot *b, struct err *e)
{
    struct raft_conf_state cs = {0};
    struct raft_config rc = {
        .id = s->id,
        .election_ticks =
            (int)(s->config->election_ms / s->config->heartbeat_ms),
        .heartbeat_ticks = 1,
        .pre_vote = s->config->pre_vote,
        .check_quorum = true,
        .msg_bytes_max = 1024 * 1024,
        .inflight_max = 512,
        .uncommitted_bytes_max = 1024u * 1024 * 1024,
    };
    struct raft_initial init = boot_raft_initial(b);

    if (sizeof(size_t) == 4)
        rc.uncommitted_bytes_max = 128u * 1024 * 1024;
    sys_random(&rc.seed, sizeof(rc.seed));
    raft_conf_state_copy(&cs, &b->snapshot.conf_state);
    server_set_conf_state(s, &cs);
    s->last_applied = s->snapshot_index = b->snapshot.index;
    s->applied_term = b->snapshot.term;
    return raft_new(&rc, &init, &s->raft, e);
}

static int start_threads(struct server *s, struct err *e)
{
    static void *(*const run[])(void *) = {disk_thread,    apply_thread,
                                           ticker_thread,  checkpoint_thread,
                                           reconf_monitor, v3_sweep_thread};
    pthread_t *threads[] = {&s->disk_thread,  &s->apply_thread, &s->ticker,
                            &s->checkpointer, &s->monitor,      &s->sweeper};

    for (size_t i = 0; i < ARRAY_LEN(run); i++, s->n_threads++)
        if (sys_thread(threads[i], SYS_STACK_LARGE, run[i], s) < 0)
            return err_set(e, -1,
                           "cannot start a thread: out of threads or "
                           "memory (see ulimit -u)");
    return 0;
}

static void init_locks(struct server *s)
{
    pthread_mutex_init(&s->raft_mu, NULL);
    pthread_mutex_init(&s->mu, NULL);
    pthread_mutex_init(&s->wait_mu, NULL);
    pthread_mutex_init(&s->job_mu, NULL);
    client_guard_init(&s->guard);
    sys_cond_init(&s->disk_cond);
    sys_cond_init(&s->apply_cond);
    sys_cond_init(&s->leader_cond);
    sys_cond_init(&s->read_cond);
    sys_cond_init(&s->applied);
    sys_cond_init(&s->job_cond);
    sys_cond_init(&s->sweep_cond);
    sys_cond_init(&s->removed_cond);
}

int server_start(const struct config *config, struct server **out,
                 struct err *e)
{
    struct server *s;
    struct boot b;
    int rc;

    if (boot_load(config, &b, e) < 0)
        return -1;
    s = xcalloc(1, sizeof(*s));
    s->disk_cpu = -1;
    s->v3_era = 1;
    s->config = config;
    s->id = b.id;
    s->lock_fd = b.lock_fd;
    s->wal = b.wal;
    s->store = b.store;
    s->v3 = b.v3;
    follow_v2_auth(s);
    s->start_wall_ns = sys_wall_ns();
    s->next_id = first_request_id(s->id);
    init_locks(s);
    /* A fresh member's log tells who is in the cluster; the flags only say
     * whom to dial for it. */
    s->cluster = b.fresh ? cluster_new() : b.cluster;
    cluster_set_id(s->cluster, cluster_id(b.cluster));
    snprintf(s->cluster_id_text, sizeof(s->cluster_id_text), "%" PRIx64,
             cluster_id(b.cluster));

    rc = compactor_init(&s->compactor, str_of(config->auto_compaction_mode),
                        str_of(config->auto_compaction_retention),
                        sys_mono_ns(), e);
    if (rc == 0)
        rc = v3_who_init(s, e);
    if (rc == 0)
        rc = start_transport(s, e);
    if (rc == 0)
        rc = start_raft(s, &b, e);
    /* Whom --force-new-cluster removes is not to be heard before that. */
    if (rc == 0 && (b.fresh || !config->force_new_cluster))
        reconf_follow_peers(s, b.cluster);
    b.wal = NULL;
    b.store = NULL;
    b.v3 = NULL;
    b.lock_fd = -1;
    if (!b.fresh)
        b.cluster = NULL;
    boot_release(&b);

    /* What is known to be committed is applied before anything is served. */
    if (rc == 0) {
        print_raft_log(s);
        server_lock_raft(s);
        server_handle_ready(s);
        while (s->apply_first)
            apply_run(s);
        if (s->bytes_since_snapshot > TRIM_BYTES)
            sys_heap_trim();
        if (raft_conf_state(s->raft)->voters.n == 1)
            raft_campaign(s->raft);
        server_unlock_raft(s);
        rc = start_threads(s, e);
    }
    if (rc == 0 && config->initial_corrupt_check)
        rc = v3_check_initial(s, e);
    if (rc < 0) {
        server_stop(s);
        server_free(s);
        return -1;
    }
    *out = s;
    return 0;
}

bool server_handle_peer(struct server *s, struct http_exchange *x)
{
    return transport_handle(s->transport, x);
}

int server_publish(struct server *s)
{
    struct buf path = {0}, json = {0};
    struct v2_result result;
    int rc;

    cluster_attributes_path(&path, s->id);
    cluster_attributes_json(&json, s->config->name,
                            &s->config->advertise_client_urls);
    do {
        struct v2_request r = {.method = STR("PUT"),
                               .path = buf_str(&path),
                               .val = buf_str(&json)};

        server_v2_write(s, &r, &result);
        rc = result.code;
        if (rc == STORE_RAFT_INTERNAL)
            log_warn("etcdserver", "publish error: %s", result.error.cause);
        v2_result_release(&result);
        pthread_mutex_lock(&s->raft_mu);
        if (s->stopping)
            rc = 0;
        server_leave_raft(s);
    } while (rc && !server_removed(s));
    print_raft_log(s);
    buf_clear(&json);
    url_list_print(&json, &s->config->advertise_client_urls, " ");
    log_info("etcdserver",
             "published {Name:%s ClientURLs:[%s]} to cluster %" PRIx64,
             s->config->name, buf_z(&json), cluster_id(s->cluster));
    buf_release(&path);
    buf_release(&json);
    return 0;
}

/* --- Stop. -------------------------------------------------------------- */

static void join_threads(struct server *s)
{
    pthread_t threads[] = {s->disk_thread,  s->apply_thread, s->ticker,
                           s->checkpointer, s->monitor,      s->sweeper};

    for (int i = 0; i < s->n_threads; i++)
        pthread_join(threads[i], NULL);
    s->n_threads = 0;
}

void server_stop(struct server *s)
{
    reconf_hand_over(s);
    pthread_mutex_lock(&s->raft_mu);
    s->stopping = true;
    pthread_cond_broadcast(&s->disk_cond);
    pthread_cond_broadcast(&s->apply_cond);
    pthread_cond_broadcast(&s->leader_cond);
    pthread_cond_broadcast(&s->read_cond);
    server_leave_raft(s);
    pthread_mutex_lock(&s->job_mu);
    s->jobs_stop = true;
    pthread_cond_broadcast(&s->job_cond);
    pthread_cond_broadcast(&s->sweep_cond);
    pthread_cond_broadcast(&s->removed_cond);
    pthread_mutex_unlock(&s->job_mu);
    client_guard_close(&s->guard);
    if (s->transport)
        transport_stop(s->transport);
    join_threads(s);
    pthread_mutex_lock(&s->mu);
    s->apply_stopped = true;
    pthread_cond_broadcast(&s->applied);
    pthread_mutex_unlock(&s->mu);
    waiters_fail(s, SERVER_ESTOPPED);
    reads_expire(s, INT64_MAX, SERVER_ESTOPPED);
    v3_sweep_stopped(s);
}

static void free_queues(struct server *s)
{
    parked_drop(s, true);
    batch_release(&s->disk);
    free(s->disk.entries);
    free(s->spare);
    while (s->apply_first) {
        struct apply_item *item = s->apply_first;

        s->apply_first = item->next;
        if (item->snapshot)
            raft_snapshot_release(item->snapshot);
        free(item->snapshot);
        raft_entries_free(item->entries, item->n_entries);
        free(item);
    }
    while (s->orders) {
        struct snapshot_order *o = s->orders;

        s->orders = o->next;
        raft_msg_release(&o->msg);
        free(o);
    }
}

void server_free(struct server *s)
{
    if (!s)
        return;
    free_queues(s);
    transport_free(s->transport);
    raft_free(s->raft);
    wal_close(s->wal);
    backend_file_close(s->db_file);
    v3_free(s->v3);
    v3_free(s->incoming);
    v3_who_release(s);
    compactor_release(&s->compactor);
    store_free(s->store);
    cluster_free(s->cluster);
    client_guard_release(&s->guard);
    members_free(s->peers, s->n_peers);
    raft_conf_state_release(&s->conf_state);
    if (s->lock_fd >= 0)
        close(s->lock_fd);
    free(s);
}

/* --- State. ------------------------------------------------------------- */

const struct config *server_config(const struct server *s)
{
    return s->config;
}

struct cluster *server_cluster(struct server *s)
{
    return s->cluster;
}

struct transport *server_transport(struct server *s)
{
    return s->transport;
}

uint64_t server_id(const struct server *s)
{
    return s->id;
}

const char *server_cluster_id_text(const struct server *s)
{
    return s->cluster_id_text;
}

void server_status(struct server *s, struct server_status *out)
{
    pthread_mutex_lock(&s->raft_mu);
    out->raft = raft_status(s->raft);
    out->leader_since_ns = s->leader_since_ns;
    out->leader_since_wall_ns = s->leader_since_wall_ns;
    server_leave_raft(s);
    out->raft.applied = sys_u64_load(&s->last_applied);
    out->start_wall_ns = s->start_wall_ns;
    pthread_mutex_lock(&s->wait_mu);
    out->proposals_pending = s->n_waiters;
    pthread_mutex_unlock(&s->wait_mu);
}

bool server_has_leader(struct server *s)
{
    struct server_status status;

    server_status(s, &status);
    return status.raft.leader != 0;
}

bool server_is_leader(struct server *s)
{
    bool lead;

    pthread_mutex_lock(&s->raft_mu);
    lead = s->role == RAFT_LEADER;
    server_leave_raft(s);
    return lead;
}

bool server_is_learner(const struct server *s)
{
    return __atomic_load_n(&s->is_learner, __ATOMIC_ACQUIRE);
}

size_t server_progress(struct server *s, struct raft_progress *out, size_t max)
{
    size_t n;

    pthread_mutex_lock(&s->raft_mu);
    n = raft_progress(s->raft, out, max);
    server_leave_raft(s);
    return n;
}

const char *server_health(struct server *s, int64_t timeout_ms)
{
    struct server_status st;
    int rc;

    server_status(s, &st);
    if (st.raft.leader == 0)
        return "RAFT NO LEADER";
    rc = server_read_index(s, timeout_ms);
    return rc < 0 ? server_error_text(rc) : NULL;
}
