/*
 * peer.c - rafthttp's transport: how messages get to the other members.
 *
 * Each member dials every peer and reads two endless answers. What we send
 * therefore goes into answers that the peer has opened; until it has, by POST:
 *
 *   transport_send() --> lane "stream MsgApp v2" --> exchange (peerhttp.c)
 *                    --> lane "stream Message"   --> exchange (peerhttp.c)
 *                    --> lane "pipeline"         --> poster --> POST /raft
 *
 *   reader --> GET /raft/stream/... --> decode --> callbacks.process()
 *
 * A lane is a bounded queue with one consumer. transport_send() only copies
 * messages (their data is shared). What is sent together is written together:
 * the consumer takes all that is queued, encodes it into one buffer and writes
 * it with one system call. As long as a stream's consumer sleeps, it lends its
 * place to whoever calls transport_flush(), who need not wake it then; it is
 * woken for what would have to wait.
 *
 * What does not fit is dropped, and the poster reports the peer unreachable:
 * Raft repeats what matters. transport_send() may be called under the lock
 * that the callback takes, and so neither it nor transport_flush() calls back.
 *
 * INVARIANTS
 *   1. Only a lane's consumer removes messages, or who was lent its place, or
 *      who closes the lane.
 *   2. clients[i] is used by its own thread alone; others only interrupt it,
 *      through the guard of the peer.
 *   3. After `stopped` is set, no thread of the peer starts to wait.
 */
#include "peer_impl.h"

#include "config.h"
#include "log.h"

#include <assert.h>
#include <inttypes.h>

const char *lane_name(enum lane_kind kind)
{
    static const char *const names[] = {"stream Message", "stream MsgApp v2",
                                        "pipeline"};

    return names[kind];
}

/* --- Queues. ------------------------------------------------------------ */

/* Roughly what a message holds in memory, and what it takes on the wire. */
static size_t msg_weight(const struct raft_msg *m)
{
    size_t n = sizeof(*m) + m->n_entries * sizeof(*m->entries);

    for (size_t i = 0; i < m->n_entries; i++)
        n += m->entries[i].data ? m->entries[i].data->len : 0;
    return n + (m->context ? m->context->len : 0);
}

/* False if it does not fit. A single message always does. */
static bool queue_push(struct msg_queue *q, const struct raft_msg *m,
                       size_t msgs_max)
{
    size_t weight = msg_weight(m);

    if (q->n >= msgs_max ||
        (q->n > 0 && q->bytes + weight > PEER_QUEUE_BYTES_MAX))
        return false;
    if (q->n == q->cap) {
        q->cap = q->cap ? 2 * q->cap : 16;
        q->msgs = xrealloc(q->msgs, q->cap * sizeof(*q->msgs));
    }
    raft_msg_copy(&q->msgs[q->n++], m);
    q->bytes += weight;
    return true;
}

/* The first message, moved to *out. */
void msg_queue_pop(struct msg_queue *q, struct raft_msg *out)
{
    *out = q->msgs[0];
    q->bytes -= msg_weight(out);
    memmove(q->msgs, q->msgs + 1, --q->n * sizeof(*q->msgs));
}

void msg_queue_clear(struct msg_queue *q)
{
    for (size_t i = 0; i < q->n; i++)
        raft_msg_release(&q->msgs[i]);
    free(q->msgs);
    *q = (struct msg_queue){0};
}

/* --- What the log says. ------------------------------------------------- */

bool log_limit_pass(struct log_limit *l, unsigned per_minute)
{
    int64_t now = sys_mono_ns();

    if (l->since_ns == 0 || now - l->since_ns > 60 * NS_PER_S)
        *l = (struct log_limit){now, 0};
    return l->n++ < per_minute;
}

/* Lines about a peer that comes and goes, of each kind and per minute. */
#define STATE_LINES 10

static bool pass(struct peer *p, enum limited_line line, unsigned per_minute)
{
    bool may;

    pthread_mutex_lock(&p->mu);
    may = log_limit_pass(&p->limits[line], per_minute);
    pthread_mutex_unlock(&p->mu);
    return may;
}

bool peer_may_log(struct peer *p, enum limited_line line)
{
    return pass(p, line, 1);
}

void peer_log_opened(struct peer *p, enum lane_kind kind, const char *end)
{
    if (pass(p, LINE_OPENED + kind, STATE_LINES))
        log_info(PEER_PKG,
                 "established a TCP streaming connection with peer "
                 "%" PRIx64 " (%s %s)",
                 p->id, lane_name(kind), end);
}

void peer_log_lost(struct peer *p, enum lane_kind kind, const char *end)
{
    if (pass(p, LINE_LOST + kind, STATE_LINES))
        log_warn(PEER_PKG,
                 "lost the TCP streaming connection with peer "
                 "%" PRIx64 " (%s %s)",
                 p->id, lane_name(kind), end);
}

void peer_activate(struct peer *p)
{
    bool say = false;

    pthread_mutex_lock(&p->mu);
    if (p->active_since == 0) {
        p->active_since = sys_mono_ns();
        say = log_limit_pass(&p->limits[LINE_STATE], STATE_LINES);
    }
    pthread_mutex_unlock(&p->mu);
    if (say)
        log_info(PEER_PKG, "peer %" PRIx64 " became active", p->id);
}

void peer_deactivate(struct peer *p, enum limited_line line, const char *action,
                     const char *source, const char *reason)
{
    bool was, say, say_state = false;

    pthread_mutex_lock(&p->mu);
    was = p->active_since != 0;
    p->active_since = 0;
    p->disconnects += was;
    say = !p->stopped && log_limit_pass(&p->limits[line], 1);
    if (was && !p->stopped)
        say_state = log_limit_pass(&p->limits[LINE_STATE], STATE_LINES);
    pthread_mutex_unlock(&p->mu);
    if (say)
        log_error(PEER_PKG, "failed to %s %" PRIx64 " on %s (%s)", action,
                  p->id, source, reason);
    if (say_state)
        log_info(PEER_PKG,
                 "peer %" PRIx64
                 " became inactive (message send to peer failed)",
                 p->id);
}

void transport_told_removed(struct transport *t)
{
    bool first;

    pthread_mutex_lock(&t->mu);
    first = !t->told_removed && !t->stopping;
    t->told_removed |= first;
    pthread_mutex_unlock(&t->mu);
    if (first)
        t->config.callbacks.removed_self(t->config.callbacks.arg);
}

/* --- References, and threads that hold one. ----------------------------- */

static struct peer *find_locked(const struct transport *t, uint64_t id)
{
    for (size_t i = 0; i < t->n_peers; i++)
        if (t->peers[i]->id == id)
            return t->peers[i];
    return NULL;
}

struct peer *peer_acquire(struct transport *t, uint64_t id)
{
    struct peer *p;

    pthread_mutex_lock(&t->mu);
    p = find_locked(t, id);
    if (p && p->remote)
        p = NULL;
    if (p)
        p->refs++;
    pthread_mutex_unlock(&t->mu);
    return p;
}

static void free_urls(char **urls, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(urls[i]);
    free(urls);
}

static void peer_free(struct peer *p)
{
    for (size_t i = 0; i < DIALS; i++)
        client_close(p->clients[i]);
    client_guard_release(&p->guard);
    for (size_t i = 0; i < LANES; i++) {
        msg_queue_clear(&p->lanes[i].queue);
        pthread_cond_destroy(&p->lanes[i].cond);
    }
    pthread_cond_destroy(&p->stop_cond);
    pthread_mutex_destroy(&p->mu);
    free_urls(p->urls, p->n_urls);
    free(p);
}

/* Drop a reference, and `users` of the transport. */
void transport_release(struct transport *t, struct peer *p, size_t users)
{
    bool last;

    pthread_mutex_lock(&t->mu);
    last = p && --p->refs == 0;
    pthread_mutex_unlock(&t->mu);
    if (last)
        peer_free(p);
    if (users == 0)
        return;
    pthread_mutex_lock(&t->mu);
    t->users -= users;
    if (t->users == 0)
        pthread_cond_broadcast(&t->idle_cond);
    pthread_mutex_unlock(&t->mu); /* t may be gone from here on */
}

void peer_release(struct peer *p)
{
    if (p)
        transport_release(p->t, p, 0);
}

/* Start a thread that will release() one reference and one user. */
bool transport_start_thread(struct transport *t, struct peer *p,
                            void *(*fn)(void *), void *arg)
{
    bool ok;

    pthread_mutex_lock(&t->mu);
    ok = !t->stopping;
    if (ok) {
        t->users++;
        if (p)
            p->refs++;
    }
    pthread_mutex_unlock(&t->mu);
    if (!ok)
        return false;
    if (sys_thread_detached(SYS_STACK_SMALL, fn, arg) == 0)
        return true;
    log_error(PEER_PKG, "cannot start a thread: out of threads or memory");
    transport_release(t, p, 1);
    return false;
}

/* --- Sending. ----------------------------------------------------------- */

static enum lane_kind choose_lane(const struct peer *p,
                                  const struct raft_msg *m)
{
    if (m->type == RAFT_MSG_APP && p->lanes[LANE_MSGAPP].connected)
        return LANE_MSGAPP;
    return p->lanes[LANE_MESSAGE].connected ? LANE_MESSAGE : LANE_POST;
}

static void enqueue(struct peer *p, const struct raft_msg *m)
{
    enum lane_kind kind;

    pthread_mutex_lock(&p->mu);
    kind = choose_lane(p, m);
    if (!queue_push(&p->lanes[kind].queue, m,
                    kind == LANE_POST ? PEER_POSTS_MAX : PEER_QUEUE_MSGS_MAX)) {
        p->unreachable = true;
        p->full = kind;
        p->sent_failures++;
    }
    pthread_mutex_unlock(&p->mu);
}

/* The signal comes after the unlock: who wakes shall not find the lock taken. */
static void wake_poster(struct peer *p)
{
    struct lane *l = &p->lanes[LANE_POST];
    bool wake;

    pthread_mutex_lock(&p->mu);
    wake = l->idle && (l->queue.n > 0 || p->unreachable);
    if (wake)
        l->idle = false;
    pthread_mutex_unlock(&p->mu);
    if (wake)
        pthread_cond_signal(&l->cond);
}

static void enqueue_locked(struct transport *t, const struct raft_msg *m,
                           size_t n)
{
    for (size_t i = 0; i < n && !t->stopping; i++) {
        struct peer *p = find_locked(t, m[i].to);

        assert(m[i].type != RAFT_MSG_SNAP);
        if (!p)
            continue;
        enqueue(p, &m[i]);
        p->touched = true;
    }
}

void transport_hold(struct transport *t, const struct raft_msg *m, size_t n)
{
    pthread_mutex_lock(&t->mu);
    enqueue_locked(t, m, n);
    pthread_mutex_unlock(&t->mu);
}

void transport_send(struct transport *t, const struct raft_msg *m, size_t n)
{
    pthread_mutex_lock(&t->mu);
    enqueue_locked(t, m, n);
    for (size_t i = 0; i < t->n_peers; i++) {
        t->peers[i]->due |= t->peers[i]->touched;
        t->peers[i]->touched = false;
    }
    pthread_mutex_unlock(&t->mu);
}

/* One that messages wait for, referenced; NULL: none is left. */
static struct peer *take_due(struct transport *t)
{
    struct peer *p = NULL;

    pthread_mutex_lock(&t->mu);
    for (size_t i = 0; i < t->n_peers && !p; i++)
        if (t->peers[i]->due)
            p = t->peers[i];
    if (p) {
        p->due = false;
        p->refs++;
    }
    pthread_mutex_unlock(&t->mu);
    return p;
}

void transport_flush(struct transport *t)
{
    struct peer *p;

    while ((p = take_due(t)) != NULL) {
        for (size_t kind = 0; kind < STREAMS; kind++)
            peer_write_stream(p, kind);
        wake_poster(p);
        peer_release(p);
    }
}

/* --- Receiving. --------------------------------------------------------- */

int transport_receive(struct transport *t, const struct raft_msg *m,
                      size_t size, bool last)
{
    if (m->to != t->config.id)
        return 0; /* misrouted, or to a former owner of this address */
    if (m->type == RAFT_MSG_APP) {
        pthread_mutex_lock(&t->stats_mu);
        t->recv_append++;
        rate_add(&t->recv_rate, sys_mono_ns(), size);
        pthread_mutex_unlock(&t->stats_mu);
    }
    return t->config.callbacks.process(t->config.callbacks.arg, m, last);
}

/* --- Peers come and go. ------------------------------------------------- */

/* All members, referenced; owned. */
struct peer **peer_acquire_all(struct transport *t, size_t *n)
{
    struct peer **all;

    pthread_mutex_lock(&t->mu);
    *n = t->n_peers;
    all = xcalloc(t->n_peers, sizeof(struct peer *));
    for (size_t i = 0; i < t->n_peers; i++) {
        all[i] = t->peers[i];
        all[i]->refs++;
    }
    pthread_mutex_unlock(&t->mu);
    return all;
}

static char **dup_urls(const char **urls, size_t n)
{
    char **out = xcalloc(n, sizeof(*out));

    for (size_t i = 0; i < n; i++)
        out[i] = xstrdup(urls[i]);
    return out;
}

static struct peer *peer_new(struct transport *t, uint64_t id,
                             const char **urls, size_t n, bool remote)
{
    struct peer *p = xcalloc(1, sizeof(*p));

    if (n > PEER_URLS_MAX)
        n = PEER_URLS_MAX;
    p->t = t;
    p->id = id;
    p->remote = remote;
    p->refs = 1;
    p->urls = dup_urls(urls, n);
    p->n_urls = n;
    pthread_mutex_init(&p->mu, NULL);
    client_guard_init(&p->guard);
    sys_cond_init(&p->stop_cond);
    for (size_t i = 0; i < LANES; i++)
        sys_cond_init(&p->lanes[i].cond);
    return p;
}

void peer_start_threads(struct peer *p)
{
    static void *(*const run[])(void *) = {peer_poster, peer_message_reader,
                                           peer_append_reader};

    for (size_t i = 0; i < (p->remote ? 1 : ARRAY_LEN(run)); i++) {
        unsigned bit = 1u << i;
        bool start;

        pthread_mutex_lock(&p->mu);
        start = !p->stopped && !(p->running & bit);
        p->running |= bit;
        pthread_mutex_unlock(&p->mu);
        if (start && !transport_start_thread(p->t, p, run[i], p)) {
            pthread_mutex_lock(&p->mu);
            p->running &= ~bit;
            pthread_mutex_unlock(&p->mu);
        }
    }
}

/* End all its threads and exchanges, without waiting for them. */
static void stop_peer(struct peer *p)
{
    pthread_mutex_lock(&p->mu);
    p->stopped = true;
    client_guard_close(&p->guard);
    for (size_t i = 0; i < LANES; i++) {
        if (p->lanes[i].conn)
            net_shutdown(p->lanes[i].conn);
        p->lanes[i].connected = false;
        pthread_cond_broadcast(&p->lanes[i].cond);
    }
    pthread_cond_broadcast(&p->stop_cond);
    pthread_mutex_unlock(&p->mu);
}

/* Take a peer out of the list; the caller gets the list's reference. */
static struct peer *take_locked(struct transport *t, struct peer *p)
{
    for (size_t i = 0; i < t->n_peers; i++) {
        if (t->peers[i] == p) {
            t->peers[i] = t->peers[--t->n_peers];
            return p;
        }
    }
    return NULL;
}

static void put_locked(struct transport *t, struct peer *p)
{
    t->peers = xrealloc(t->peers, (t->n_peers + 1) * sizeof(struct peer *));
    t->peers[t->n_peers++] = p;
}

static void drop_peer(struct peer *p)
{
    if (!p)
        return;
    stop_peer(p);
    peer_release(p);
}

void transport_add_peer(struct transport *t, uint64_t id, const char **urls,
                        size_t n)
{
    struct peer *old, *p = NULL;
    bool known;

    pthread_mutex_lock(&t->mu);
    old = find_locked(t, id);
    known = (old && !old->remote) || t->stopping || id == t->config.id;
    if (!known) {
        if (old)
            take_locked(t, old);
        p = peer_new(t, id, urls, n, false);
        p->refs++; /* ours, below */
        put_locked(t, p);
    }
    pthread_mutex_unlock(&t->mu);
    if (known)
        return;
    drop_peer(old);
    log_info(PEER_PKG, "starting peer %" PRIx64 "...", id);
    peer_start_threads(p);
    peer_release(p);
    log_info(PEER_PKG, "started peer %" PRIx64, id);
    log_info(PEER_PKG, "added peer %" PRIx64, id);
}

static size_t count_remotes_locked(const struct transport *t)
{
    size_t n = 0;

    for (size_t i = 0; i < t->n_peers; i++)
        n += t->peers[i]->remote;
    return n;
}

void peer_note_remote(struct transport *t, uint64_t id, const char **urls,
                      size_t n)
{
    struct peer *p = NULL;

    pthread_mutex_lock(&t->mu);
    if (!t->stopping && id != t->config.id && !find_locked(t, id) &&
        count_remotes_locked(t) < PEER_REMOTES_MAX) {
        p = peer_new(t, id, urls, n, true);
        p->refs++;
        put_locked(t, p);
    }
    pthread_mutex_unlock(&t->mu);
    if (!p)
        return;
    peer_start_threads(p);
    peer_release(p);
    log_info(PEER_PKG, "added remote peer %" PRIx64, id);
}

void transport_update_peer(struct transport *t, uint64_t id, const char **urls,
                           size_t n)
{
    struct peer *p = peer_acquire(t, id);
    char **old;
    size_t n_old;

    if (!p)
        return;
    if (n > PEER_URLS_MAX)
        n = PEER_URLS_MAX;
    pthread_mutex_lock(&p->mu);
    old = p->urls;
    n_old = p->n_urls;
    p->urls = dup_urls(urls, n);
    p->n_urls = n;
    p->pick = 0;
    client_guard_interrupt(&p->guard); /* dial the new ones */
    pthread_mutex_unlock(&p->mu);
    free_urls(old, n_old);
    peer_release(p);
    log_info(PEER_PKG, "updated peer %" PRIx64, id);
}

void transport_remove_peer(struct transport *t, uint64_t id)
{
    struct peer *p;

    pthread_mutex_lock(&t->mu);
    p = find_locked(t, id);
    if (p)
        take_locked(t, p);
    pthread_mutex_unlock(&t->mu);
    if (!p)
        return;
    drop_peer(p);
    log_info(PEER_PKG, "removed peer %" PRIx64, id);
}

void transport_remove_all(struct transport *t)
{
    size_t n;
    struct peer **all = peer_acquire_all(t, &n);

    for (size_t i = 0; i < n; i++) {
        transport_remove_peer(t, all[i]->id);
        peer_release(all[i]);
    }
    free(all);
}

/* --- Life. -------------------------------------------------------------- */

static char *common_headers(const struct transport_config *c)
{
    struct buf b = {0};

    buf_printf(&b,
               "X-Server-From: %" PRIx64 "\r\n"
               "X-Server-Version: " ETCD_VERSION "\r\n"
               "X-Min-Cluster-Version: " ETCD_MIN_CLUSTER_VERSION "\r\n"
               "X-Etcd-Cluster-ID: %" PRIx64 "\r\n"
               "X-PeerURLs: ",
               c->id, c->cluster_id);
    url_list_print(&b, c->advertise_peer_urls, ",");
    buf_adds(&b, "\r\n");
    return buf_steal(&b);
}

int transport_new(const struct transport_config *config, struct transport **out,
                  struct err *e)
{
    struct transport *t = xcalloc(1, sizeof(*t));

    t->config = *config;
    t->config.advertise_peer_urls = NULL;
    t->headers = common_headers(config);
    t->dial_ms = 1000 + config->election_ms / 5;
    t->answer_ms =
        t->dial_ms + (config->election_ms < PEER_ANSWER_MS ? config->election_ms
                                                           : PEER_ANSWER_MS);
    pthread_mutex_init(&t->mu, NULL);
    client_guard_init(&t->guard);
    pthread_mutex_init(&t->stats_mu, NULL);
    sys_cond_init(&t->idle_cond);
    sys_cond_init(&t->probe_cond);
    if (!transport_start_thread(t, NULL, transport_prober, t)) {
        transport_free(t);
        return err_set(e, -1,
                       "cannot start a thread for the transport: out "
                       "of threads or memory (see ulimit -u)");
    }
    *out = t;
    return 0;
}

void transport_stop(struct transport *t)
{
    pthread_mutex_lock(&t->mu);
    t->stopping = true;
    pthread_cond_broadcast(&t->probe_cond);
    for (size_t i = 0; i < t->n_peers; i++)
        stop_peer(t->peers[i]);
    for (struct guest *g = t->guests; g; g = g->next)
        net_shutdown(g->conn);
    client_guard_close(&t->guard);
    while (t->users > 0)
        pthread_cond_wait(&t->idle_cond, &t->mu);
    pthread_mutex_unlock(&t->mu);
}

void transport_free(struct transport *t)
{
    if (!t)
        return;
    assert(t->users == 0);
    for (size_t i = 0; i < t->n_peers; i++)
        peer_free(t->peers[i]);
    free(t->peers);
    pthread_cond_destroy(&t->idle_cond);
    pthread_cond_destroy(&t->probe_cond);
    pthread_mutex_destroy(&t->stats_mu);
    pthread_mutex_destroy(&t->mu);
    client_guard_release(&t->guard);
    free(t->headers);
    free(t);
}

/* --- Who is connected. -------------------------------------------------- */

static int64_t active_since(struct peer *p)
{
    int64_t since;

    pthread_mutex_lock(&p->mu);
    since = p->active_since;
    pthread_mutex_unlock(&p->mu);
    return since;
}

int64_t transport_active_since(const struct transport *t, uint64_t id)
{
    struct transport *tt = (struct transport *)t;
    struct peer *p = peer_acquire(tt, id);
    int64_t since = p ? active_since(p) : 0;

    peer_release(p);
    return since;
}

size_t transport_active_count(const struct transport *t)
{
    struct transport *tt = (struct transport *)t;
    size_t n = 0;

    pthread_mutex_lock(&tt->mu);
    for (size_t i = 0; i < t->n_peers; i++)
        n += !t->peers[i]->remote && active_since(t->peers[i]) != 0;
    pthread_mutex_unlock(&tt->mu);
    return n;
}

uint64_t transport_longest_connected(const struct transport *t,
                                     const struct raft_ids *voters)
{
    struct transport *tt = (struct transport *)t;
    int64_t oldest = 0;
    uint64_t id = 0;

    pthread_mutex_lock(&tt->mu);
    for (size_t i = 0; i < t->n_peers; i++) {
        struct peer *p = t->peers[i];
        int64_t since = active_since(p);

        if (p->remote || since == 0 || !raft_ids_has(voters, p->id))
            continue;
        if (oldest == 0 || since < oldest) {
            oldest = since;
            id = p->id;
        }
    }
    pthread_mutex_unlock(&tt->mu);
    return id;
}
