/*
 * peerhttp.c - the HTTP side of the peers: what they ask of us, and the few
 * questions that we ask them outside of Raft.
 *
 *   GET  /raft/stream/message/ID, /raft/stream/msgapp/ID   an endless answer
 *   POST /raft             one message
 *   POST /raft/snapshot    one MsgSnap; the v3 state follows
 *   GET  /raft/probing     are you there, and what time is it?
 *
 * A stream is written by the thread of its exchange, which sleeps until its
 * lane has messages or the connection needs a sign of life, and lends its place
 * to those who bring the messages as long as none has to wait. A peer that opens
 * a stream anew, because it lost the old one, must not wait until we notice:
 * the newer exchange takes over the lane and shuts the older one's connection.
 *
 * Each request is checked before it is believed: method, versions, cluster
 * (spec 11.3); then, on a stream, who asks. The order decides which error a
 * misconfigured peer gets to see.
 */
#include "peer_impl.h"

#include "cluster.h"
#include "config.h"
#include "json.h"
#include "log.h"

#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>

#define WRITE_BYTES (1024 * 1024) /* written at once, if there is so much */
#define KEEP_BYTES (64 * 1024)    /* of buffers, while a stream is idle */
/* What others write in the place of a stream's thread: they have to go on. */
#define LENT_BYTES_MAX (64 * 1024)
#define LENT_BATCHES_MAX 4
#define READ_CHUNK (64 * 1024)
#define DATABASE_MAX ((uint64_t)16 * 1024 * 1024 * 1024)
#define MEMBERS_BODY_MAX (4 * 1024 * 1024)

/* --- Checks. ------------------------------------------------------------ */

struct version {
    uint64_t major, minor;
};

static bool version_parse(struct str s, struct version *out)
{
    struct str major, minor;

    if (!str_cut(&s, '.', &major))
        return false;
    str_cut(&s, '.', &minor);
    return str_to_u64(major, &out->major) && str_to_u64(minor, &out->minor);
}

static int version_cmp(struct version a, struct version b)
{
    if (a.major != b.major)
        return a.major < b.major ? -1 : 1;
    return a.minor < b.minor ? -1 : a.minor > b.minor;
}

static struct str header_or(const struct http_exchange *x, const char *name,
                            const char *otherwise)
{
    struct str s = http_header(http_request(x), name);

    return s.p ? s : str_of(otherwise);
}

static bool may_log_refusal(struct transport *t)
{
    bool may;

    pthread_mutex_lock(&t->mu);
    may = log_limit_pass(&t->refused, 6);
    pthread_mutex_unlock(&t->mu);
    return may;
}

/* For the log: what a stranger may write there has an end. */
static int short_len(struct str s)
{
    return (int)(s.n < 64 ? s.n : 64);
}

/* Members from before 2.1 sent no versions, which counts as 2.0. */
static bool versions_fit(struct transport *t, const struct http_exchange *x)
{
    struct str theirs = header_or(x, "X-Server-Version", "2.0.0");
    struct str their_min = header_or(x, "X-Min-Cluster-Version", "2.0.0");
    struct str from = header_or(x, "X-Server-From", "");
    struct version server, min, our_server, our_min;
    const char *which = NULL;

    if (!version_parse(STR(ETCD_VERSION), &our_server) ||
        !version_parse(STR(ETCD_MIN_CLUSTER_VERSION), &our_min) ||
        !version_parse(theirs, &server) || !version_parse(their_min, &min) ||
        version_cmp(server, our_min) < 0)
        which = "remote version is too low";
    else if (version_cmp(min, our_server) > 0)
        which = "local version is too low";
    if (which && may_log_refusal(t))
        log_error(PEER_PKG,
                  "request version incompatibility (%s: "
                  "remote[%.*s]=%.*s, local=" ETCD_VERSION ")",
                  which, short_len(from), from.p, short_len(theirs), theirs.p);
    return !which;
}

static bool same_cluster(struct transport *t, const struct http_exchange *x)
{
    struct str theirs = header_or(x, "X-Etcd-Cluster-ID", "");
    char ours[17];

    snprintf(ours, sizeof(ours), "%" PRIx64, t->config.cluster_id);
    if (str_eqz(theirs, ours))
        return true;
    if (may_log_refusal(t))
        log_error(PEER_PKG, "request cluster ID mismatch (got %.*s want %s)",
                  short_len(theirs), theirs.p, ours);
    return false;
}

/* Method, versions, cluster; answers and returns false if one is wrong. */
static bool check_request(struct transport *t, struct http_exchange *x,
                          const char *method, bool is_stream)
{
    if (!http_method_is(x, method)) {
        http_set_header(x, "Allow", "%s", method);
        http_error(x, 405, "Method Not Allowed");
        return false;
    }
    if (is_stream)
        http_set_header(x, "X-Server-Version", "%s", ETCD_VERSION);
    http_set_header(x, "X-Etcd-Cluster-Id", "%" PRIx64, t->config.cluster_id);
    if (!versions_fit(t, x)) {
        http_error(x, 412, "incompatible version");
        return false;
    }
    if (!same_cluster(t, x)) {
        http_error(x, 412, "cluster ID mismatch");
        return false;
    }
    return true;
}

static bool is_removed(struct transport *t, uint64_t id)
{
    return t->config.callbacks.is_removed(t->config.callbacks.arg, id);
}

static void release_strings(char **s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(s[i]);
}

/*
 * A sender that our membership does not know yet: we may lag behind, or it may
 * have joined just now. Its own word on where it can be reached is enough to
 * answer it.
 */
static void note_sender(struct transport *t, const struct http_exchange *x)
{
    struct str urls = header_or(x, "X-PeerURLs", "");
    char *list[PEER_URLS_MAX];
    struct peer *known;
    struct str url;
    size_t n = 0;
    uint64_t id;
    bool more = urls.n > 0;

    if (!more || !str_hex_to_u64(header_or(x, "X-Server-From", ""), &id) ||
        id == 0)
        return;
    known = peer_acquire(t, id);
    peer_release(known);
    if (known || is_removed(t, id))
        return;
    while (more && n < PEER_URLS_MAX) {
        struct url u;

        more = str_cut(&urls, ',', &url);
        if (url_parse(str_trim(url), &u, NULL) < 0)
            break;
        list[n++] = xstrdup(u.raw);
        url_release(&u);
    }
    if (n > 0 && !more)
        peer_note_remote(t, id, (const char **)list, n);
    release_strings(list, n);
}

/* --- Writing a stream. -------------------------------------------------- */

/*
 * The writer of a stream, on the stack of its exchange. Its thread has it, or,
 * while that sleeps in take_batch(), the one who found lane->idle and cleared it
 * (peer_write_stream()): lent is set meanwhile, and the thread waits for its end.
 */
struct stream_writer {
    struct peer *p;
    struct lane *lane;
    enum lane_kind kind;
    uint64_t generation;
    bool lent, wanted; /* p->mu; its thread waits until it is lent no more */

    struct http_exchange *x;
    struct msgapp_state state;
    struct msg_queue batch; /* taken from the lane */
    struct buf out;
    bool behind; /* the socket is full: http_write_rest() comes next */
    bool broken;
    int64_t written_ns;
};

/* Linux ends a connection whose data is not acknowledged for so long, where
 * the default is a quarter of an hour; the reader has long given up then. */
static void limit_unacknowledged(struct net_stream *s)
{
#ifdef TCP_USER_TIMEOUT
    unsigned ms = PEER_READ_MS;

    setsockopt(net_fd(s), IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms));
#else
    (void)s;
#endif
}

static void attach(struct stream_writer *w)
{
    struct peer *p = w->p;

    pthread_mutex_lock(&p->mu);
    if (w->lane->conn)
        net_shutdown(w->lane->conn);
    w->generation = ++w->lane->generation;
    w->lane->conn = http_stream(w->x);
    w->lane->connected = false; /* until the head of the answer is out */
    w->lane->idle = false;
    w->lane->writer = NULL;
    pthread_cond_broadcast(&w->lane->cond);
    pthread_mutex_unlock(&p->mu);
}

static bool is_over_locked(const struct stream_writer *w)
{
    return w->p->stopped || w->lane->generation != w->generation;
}

/* The head of the answer has been sent: messages may come. */
static bool open_lane(struct stream_writer *w)
{
    bool open;

    pthread_mutex_lock(&w->p->mu);
    open = !is_over_locked(w);
    if (open)
        w->lane->connected = true;
    pthread_mutex_unlock(&w->p->mu);
    return open;
}

/* Leave the lane, unless a newer exchange has it. What waits there would only
 * grow old: Raft is told and sends anew what still matters. */
static void detach(struct stream_writer *w)
{
    struct peer *p = w->p;
    struct msg_queue left = {0};
    bool lost = false;

    pthread_mutex_lock(&p->mu);
    if (w->lane->generation == w->generation) {
        left = w->lane->queue;
        w->lane->queue = (struct msg_queue){0};
        w->lane->conn = NULL;
        w->lane->connected = false;
        lost = !p->stopped && left.n > 0;
        p->sent_failures += left.n;
    }
    pthread_mutex_unlock(&p->mu);
    msg_queue_clear(&left);
    if (lost)
        p->t->config.callbacks.report_unreachable(p->t->config.callbacks.arg,
                                                  p->id);
}

/* The two arrays change places, so that neither is allocated anew for every
 * batch. */
static void take_queue_locked(struct stream_writer *w)
{
    struct msg_queue empty = w->batch;

    w->batch = w->lane->queue;
    w->lane->queue = empty;
}

static bool has_work_locked(const struct stream_writer *w)
{
    return is_over_locked(w) || w->broken || w->behind || w->lane->queue.n > 0;
}

static int64_t alive_due_ns(const struct stream_writer *w)
{
    return w->written_ns + PEER_KEEP_ALIVE_NS;
}

/* Whoever comes with a message meanwhile may write it in our place. */
static void wait_for_work_locked(struct stream_writer *w)
{
    while (!has_work_locked(w) && sys_mono_ns() < alive_due_ns(w)) {
        w->lane->idle = true;
        w->lane->writer = w;
        sys_cond_wait_until(&w->lane->cond, &w->p->mu, alive_due_ns(w));
        w->wanted = true;
        while (w->lent)
            pthread_cond_wait(&w->lane->cond, &w->p->mu);
        w->wanted = false;
    }
    if (w->lane->writer == w) {
        w->lane->idle = false;
        w->lane->writer = NULL;
    }
}

/*
 * Wait for messages and take all there are; none if a sign of life is due.
 * False: this exchange is over.
 */
static bool take_batch(struct stream_writer *w)
{
    bool go;

    pthread_mutex_lock(&w->p->mu);
    wait_for_work_locked(w);
    go = !is_over_locked(w) && !w->broken;
    if (go)
        take_queue_locked(w);
    pthread_mutex_unlock(&w->p->mu);
    return go;
}

static void encode(struct stream_writer *w, const struct raft_msg *m)
{
    if (w->kind == LANE_MSGAPP)
        peer_encode_msgapp(&w->out, &w->state, m);
    else
        peer_encode_message(&w->out, m);
}

static int flush(struct stream_writer *w)
{
    int rc = 0;

    if (w->out.len && w->lent) {
        rc = http_try_write(w->x, w->out.data, w->out.len);
        w->behind = rc > 0;
    } else if (w->out.len) {
        rc = http_write(w->x, w->out.data, w->out.len);
    }
    buf_clear(&w->out);
    return rc < 0 ? -1 : 0;
}

/* What one batch did, for the statistics. */
struct tally {
    size_t bytes, appends, append_bytes;
};

static int write_messages(struct stream_writer *w, struct tally *sum)
{
    for (size_t i = 0; i < w->batch.n; i++) {
        const struct raft_msg *m = &w->batch.msgs[i];
        size_t before = w->out.len;

        encode(w, m);
        sum->bytes += w->out.len - before;
        if (m->type == RAFT_MSG_APP) {
            sum->appends++;
            sum->append_bytes += w->out.len - before;
        }
        if (w->out.len >= WRITE_BYTES && flush(w) < 0)
            return -1;
    }
    return flush(w);
}

static void count_batch(struct stream_writer *w, const struct tally *sum,
                        int64_t began)
{
    struct transport *t = w->p->t;
    int64_t now = sys_mono_ns();

    pthread_mutex_lock(&w->p->mu);
    w->p->sent_bytes += sum->bytes;
    if (sum->appends)
        follower_succeeded(&w->p->follower, now - began, sum->appends);
    pthread_mutex_unlock(&w->p->mu);
    if (sum->appends == 0)
        return;
    pthread_mutex_lock(&t->stats_mu);
    t->sent_append += sum->appends;
    for (size_t i = 0; i < sum->appends; i++)
        rate_add(&t->send_rate, now, sum->append_bytes / sum->appends);
    pthread_mutex_unlock(&t->stats_mu);
}

/* Empty the batch; its array is kept unless it is large. */
static void release_batch(struct stream_writer *w)
{
    for (size_t i = 0; i < w->batch.n; i++)
        raft_msg_release(&w->batch.msgs[i]);
    w->batch.n = w->batch.bytes = 0;
    if (w->batch.cap * sizeof(*w->batch.msgs) > KEEP_BYTES)
        msg_queue_clear(&w->batch);
}

static int write_due(struct stream_writer *w, struct tally *sum)
{
    static const struct raft_msg alive = {.type = RAFT_MSG_HEARTBEAT};

    if (w->behind) {
        w->behind = false;
        if (http_write_rest(w->x) < 0)
            return -1;
    } else if (w->batch.n == 0) {
        encode(w, &alive);
    }
    return write_messages(w, sum);
}

static void write_batch(struct stream_writer *w)
{
    struct tally sum = {0};
    int64_t began = sys_mono_ns();

    w->broken = write_due(w, &sum) < 0;
    if (w->broken) {
        pthread_mutex_lock(&w->p->mu);
        w->p->sent_failures += w->batch.n;
        pthread_mutex_unlock(&w->p->mu);
    } else if (w->batch.n > 0) {
        count_batch(w, &sum, began);
    }
    release_batch(w);
    buf_trim(&w->out, KEEP_BYTES);
    w->written_ns = sys_mono_ns();
}

static bool may_lend_locked(const struct lane *l)
{
    return l->queue.n > 0 && l->queue.bytes <= LENT_BYTES_MAX;
}

/* Write what is queued with a writer that was lent, and what others queue while
 * that lasts. p->mu is held, and released meanwhile. True: wake its thread. */
static bool write_lent_locked(struct stream_writer *w)
{
    pthread_mutex_t *mu = &w->p->mu;

    w->lent = true;
    for (int i = 0; i < LENT_BATCHES_MAX && may_lend_locked(w->lane); i++) {
        take_queue_locked(w);
        pthread_mutex_unlock(mu);
        write_batch(w);
        pthread_mutex_lock(mu);
        if (is_over_locked(w) || w->broken || w->behind)
            break;
    }
    w->lent = false;
    return w->wanted || has_work_locked(w);
}

void peer_write_stream(struct peer *p, enum lane_kind kind)
{
    struct lane *l = &p->lanes[kind];
    bool wake;

    pthread_mutex_lock(&p->mu);
    wake = l->idle && l->queue.n > 0;
    if (wake) {
        struct stream_writer *w = l->writer;

        l->idle = false;
        if (may_lend_locked(l)) {
            wake = write_lent_locked(w);
            l->idle |= !wake;
        }
    }
    pthread_mutex_unlock(&p->mu);
    if (wake)
        pthread_cond_broadcast(&l->cond); /* the older exchange's, too */
}

/* Until the connection breaks, a newer one comes, or the peer is stopped. */
static void write_stream(struct stream_writer *w)
{
    struct transport *t = w->p->t;
    bool over;

    w->written_ns = sys_mono_ns();
    while (take_batch(w))
        write_batch(w);
    if (!w->broken)
        return;
    t->config.callbacks.report_unreachable(t->config.callbacks.arg, w->p->id);
    pthread_mutex_lock(&w->p->mu);
    over = is_over_locked(w);
    pthread_mutex_unlock(&w->p->mu);
    if (over)
        return;
    peer_log_lost(w->p, w->kind, "writer");
    peer_deactivate(w->p, LINE_WRITE + w->kind, "write", lane_name(w->kind),
                    "the connection is broken");
}

static void serve_peer_stream(struct peer *p, enum lane_kind kind,
                              struct http_exchange *x)
{
    struct stream_writer w = {
        .p = p, .lane = &p->lanes[kind], .kind = kind, .x = x};

    limit_unacknowledged(http_stream(x));
    attach(&w);
    http_set_status(x, 200);
    if (http_begin(x) == 0 && open_lane(&w)) {
        peer_activate(p);
        peer_log_opened(p, kind, "writer");
        http_prepare_to_wait(x);
        write_stream(&w);
    }
    detach(&w);
    http_close_after(x);
    msg_queue_clear(&w.batch);
    buf_release(&w.out);
}

/* --- The other requests. ------------------------------------------------ */

/* The ID at the end of the path and which stream it asks for. */
static const char *parse_stream_path(struct str path, enum lane_kind *kind,
                                     uint64_t *from)
{
    static const char message[] = "/raft/stream/message/";
    static const char msgapp[] = "/raft/stream/msgapp/";
    size_t skip;

    if (str_has_prefix(path, message)) {
        *kind = LANE_MESSAGE;
        skip = sizeof(message) - 1;
    } else if (str_has_prefix(path, msgapp)) {
        *kind = LANE_MSGAPP;
        skip = sizeof(msgapp) - 1;
    } else {
        return "invalid path";
    }
    path.p += skip;
    path.n -= skip;
    if (path.n == 0 || memchr(path.p, '/', path.n))
        return "invalid path";
    return str_hex_to_u64(path, from) ? NULL : "invalid from";
}

static void serve_stream(struct transport *t, struct http_exchange *x)
{
    enum lane_kind kind;
    uint64_t from, to = 0;
    const char *why;
    struct peer *p;

    if (!check_request(t, x, "GET", true))
        return;
    why = parse_stream_path(http_path(x), &kind, &from);
    if (why) {
        http_error(x, 404, why);
        return;
    }
    if (is_removed(t, from)) {
        if (may_log_refusal(t))
            log_warn(PEER_PKG,
                     "rejected the stream from peer %" PRIx64
                     " since it was removed",
                     from);
        http_error(x, 410, "removed member");
        return;
    }
    p = peer_acquire(t, from);
    if (!p) {
        note_sender(t, x);
        if (may_log_refusal(t))
            log_error(PEER_PKG,
                      "failed to find member %" PRIx64 " in cluster %" PRIx64,
                      from, t->config.cluster_id);
        http_error(x, 404, "error sender not found");
        return;
    }
    if (!str_hex_to_u64(header_or(x, "X-Raft-To", ""), &to) ||
        to != t->config.id) {
        if (may_log_refusal(t))
            log_error(PEER_PKG,
                      "streaming request ignored (ID mismatch got "
                      "%" PRIx64 " want %" PRIx64 ")",
                      to, t->config.id);
        http_error(x, 412, "to field mismatch");
    } else {
        serve_peer_stream(p, kind, x);
    }
    peer_release(p);
}

static void count_posted(struct transport *t, const struct raft_msg *m,
                         size_t size, bool ok)
{
    struct peer *p = peer_acquire(t, m->from);

    if (!p)
        return;
    pthread_mutex_lock(&p->mu);
    p->received_bytes += size;
    p->received_failures += !ok;
    pthread_mutex_unlock(&p->mu);
    peer_release(p);
}

/* Deliver a posted message of a member, and answer. Releases m. */
static void process_posted(struct transport *t, struct http_exchange *x,
                           struct raft_msg *m, size_t size, const char *failure)
{
    static const char removed[] =
        "{\"message\":\"cannot process message from removed member\"}";

    if (is_removed(t, m->from)) {
        http_reply(x, 403, "application/json", removed, sizeof(removed) - 1);
    } else {
        bool ok = transport_receive(t, m, size, false) == 0;

        count_posted(t, m, size, ok);
        if (ok) {
            http_set_status(x, 204);
            http_send(x, NULL, 0);
        } else {
            http_close_after(x);
            http_error(x, 500, failure);
        }
    }
    raft_msg_release(m);
}

static void serve_message(struct transport *t, struct http_exchange *x)
{
    struct buf body = {0};
    const char *why = "";
    struct raft_msg m;
    size_t size;
    int rc;

    if (!check_request(t, x, "POST", false))
        return;
    note_sender(t, x);
    if (http_read_body(x, &body, PEER_MSG_MAX, &why) < 0) {
        buf_release(&body);
        http_error(x, 400, "error reading raft message");
        return;
    }
    size = body.len;
    rc = raftpb_decode_msg(body.data, size, &m);
    buf_release(&body);
    if (rc < 0)
        http_error(x, 400, "error unmarshaling raft message");
    else
        process_posted(t, x, &m, size, "error processing raft message");
}

/* n bytes of the body to the end of b, which grows as they arrive. */
static int read_exactly(struct http_exchange *x, struct buf *b, uint64_t n)
{
    while (n > 0) {
        size_t room = n < READ_CHUNK ? (size_t)n : READ_CHUNK;
        ssize_t got;

        buf_reserve(b, room);
        got = http_read_some(x, b->data + b->len, room);
        if (got <= 0)
            return -1;
        b->len += (size_t)got;
        n -= (uint64_t)got;
    }
    return 0;
}

static int read_database(void *from, snap_sink *sink, void *arg)
{
    struct http_exchange *x = from;
    uint8_t *chunk = xmalloc(READ_CHUNK);
    uint64_t left = DATABASE_MAX;
    ssize_t got;
    int rc = 0;

    while (rc == 0 && (got = http_read_some(x, chunk, READ_CHUNK)) > 0) {
        rc = (uint64_t)got > left ? -1 : sink(arg, chunk, (size_t)got);
        left -= (uint64_t)got;
    }
    free(chunk);
    return rc == 0 && got == 0 ? 0 : -1;
}

/* The MsgSnap of the body, and what follows it into a file. 0, or -1 after an
 * answer has been given. */
static int read_snapshot(struct transport *t, struct http_exchange *x,
                         struct raft_msg *m, size_t *size)
{
    struct buf b = {0};
    struct err e;
    uint64_t len = 0;
    int rc = read_exactly(x, &b, 8);

    if (rc == 0) {
        len = get_u64be(b.data);
        buf_clear(&b);
        rc = len > PEER_MSG_MAX ? -1 : read_exactly(x, &b, len);
    }
    if (rc < 0 || raftpb_decode_msg(b.data, b.len, m) < 0) {
        http_error(x, 400,
                   len > PEER_MSG_MAX
                       ? "failed to decode raft message (too large)"
                       : "failed to decode raft message "
                         "(unexpected EOF)");
        buf_release(&b);
        return -1;
    }
    *size = b.len;
    buf_release(&b);
    if (m->type != RAFT_MSG_SNAP || !m->snapshot) {
        http_error(x, 400, "wrong raft message type");
        raft_msg_release(m);
        return -1;
    }
    rc = snap_save_db(t->config.snap_dir, m->snapshot->index, read_database, x,
                      t->config.no_fsync, NULL, &e);
    if (rc < 0) {
        char *text = xasprintf("failed to save KV snapshot (%s)", e.msg);

        http_error(x, 500, text);
        free(text);
        raft_msg_release(m);
    }
    return rc;
}

static void receive_snapshot(struct transport *t, struct http_exchange *x)
{
    struct raft_msg m;
    uint64_t from, index;
    size_t size;

    if (read_snapshot(t, x, &m, &size) < 0)
        return;
    from = m.from;
    index = m.snapshot->index;
    log_info(PEER_PKG,
             "received database snapshot [index: %" PRIu64 ", from: %" PRIx64
             "] successfully",
             index, from);
    process_posted(t, x, &m, size, "failed to process raft message");
}

static void serve_snapshot(struct transport *t, struct http_exchange *x)
{
    bool full;

    if (!check_request(t, x, "POST", false))
        return;
    note_sender(t, x);
    pthread_mutex_lock(&t->mu);
    full = t->receiving >= PEER_SNAP_MAX;
    t->receiving += !full;
    pthread_mutex_unlock(&t->mu);
    if (full) {
        http_close_after(x);
        http_error(x, 503, "too many snapshots are being received");
        return;
    }
    receive_snapshot(t, x);
    pthread_mutex_lock(&t->mu);
    t->receiving--;
    pthread_mutex_unlock(&t->mu);
}

static void serve_probing(struct http_exchange *x)
{
    char now[SYS_RFC3339_MAX], body[SYS_RFC3339_MAX + 32];
    int n;

    sys_rfc3339(now, sys_wall_ns());
    n = snprintf(body, sizeof(body), "{\"OK\":true,\"Now\":\"%s\"}\n", now);
    http_reply(x, 200, "text/plain; charset=utf-8", body, (size_t)n);
}

/* --- Routing. ----------------------------------------------------------- */

static bool enter(struct transport *t, struct guest *g)
{
    bool ok;

    pthread_mutex_lock(&t->mu);
    ok = !t->stopping;
    if (ok) {
        g->next = t->guests;
        if (g->next)
            g->next->prev = g;
        t->guests = g;
        t->users++;
    }
    pthread_mutex_unlock(&t->mu);
    return ok;
}

static void leave(struct transport *t, struct guest *g)
{
    pthread_mutex_lock(&t->mu);
    if (g->next)
        g->next->prev = g->prev;
    *(g->prev ? &g->prev->next : &t->guests) = g->next;
    if (--t->users == 0)
        pthread_cond_broadcast(&t->idle_cond);
    pthread_mutex_unlock(&t->mu);
}

bool transport_handle(struct transport *t, struct http_exchange *x)
{
    struct str path = http_path(x);
    struct guest g = {.conn = http_stream(x)};
    bool message = str_eqz(path, "/raft");
    bool snapshot = str_eqz(path, "/raft/snapshot");
    bool probing = str_eqz(path, "/raft/probing");
    bool stream = str_has_prefix(path, "/raft/stream/");

    if (!message && !snapshot && !probing && !stream)
        return false;
    if (probing) {
        serve_probing(x);
        return true;
    }
    if (!enter(t, &g)) {
        http_close_after(x);
        http_error(x, 503, "server stopped");
        return true;
    }
    if (message)
        serve_message(t, x);
    else if (snapshot)
        serve_snapshot(t, x);
    else
        serve_stream(t, x);
    leave(t, &g);
    return true;
}

/* --- Asking peers. ------------------------------------------------------ */

static int get(const char *text, const char *target, int64_t timeout_ms,
               struct client_guard *guard, struct secure *secure,
               struct client_response *out, struct err *e)
{
    struct url url;
    struct client_request r = {
        .method = "GET",
        .base = &url,
        .target = target,
        .dial_ms = timeout_ms,
        .timeout_ms = timeout_ms,
        .body_max = MEMBERS_BODY_MAX,
        .guard = guard,
        .secure = secure,
    };
    int rc;

    if (url_parse(str_of(text), &url, e) < 0)
        return -1;
    rc = client_do(&r, out, e);
    url_release(&url);
    if (rc == 0 && out->status != 200) {
        rc = err_set(e, -1, "unexpected http status %d", out->status);
        client_response_release(out);
    }
    return rc < 0 ? -1 : 0;
}

static int get_members(const char *url, int64_t timeout_ms,
                       struct secure *secure, struct member **out,
                       size_t *n_out, uint64_t *cluster_id, struct err *e)
{
    struct client_response resp;
    struct err why = {0};
    int rc = get(url, "/members", timeout_ms, NULL, secure, &resp, &why);

    if (rc < 0)
        return err_set(e, -1, "Get \"%s/members\": %s", url, why.msg);
    if (!str_hex_to_u64(http_header(&resp.head, "X-Etcd-Cluster-ID"),
                        cluster_id))
        rc = err_set(e, -1, "no cluster ID in the answer of %s", url);
    else
        rc = members_from_json(resp.body.data, resp.body.len, out, n_out, e);
    client_response_release(&resp);
    return rc < 0 ? -1 : 0;
}

int peer_get_members(const char *const *urls, size_t n, int64_t timeout_ms,
                     struct secure *secure, struct member **out, size_t *n_out,
                     uint64_t *cluster_id, struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        struct err why = {0};

        if (get_members(urls[i], timeout_ms, secure, out, n_out, cluster_id,
                        &why) == 0)
            return 0;
        if (e)
            log_warn("etcdserver", "could not get cluster response from %s: %s",
                     urls[i], why.msg);
    }
    return err_set(e, -1,
                   "could not retrieve cluster information from the "
                   "given URLs");
}

static bool copy_version(const struct json *j, const char *name, char out[32])
{
    struct str s = json_text(json_get(j, name), "");

    if (s.n == 0 || s.n >= 32 || memchr(s.p, '\0', s.n))
        return false;
    memcpy(out, s.p, s.n);
    out[s.n] = '\0';
    return true;
}

int peer_get_version(const char *url, int64_t timeout_ms,
                     struct client_guard *guard, struct secure *secure,
                     char server[32], char cluster[32], struct err *e)
{
    struct client_response resp;
    struct json *j = NULL;
    char theirs[32];
    int rc;

    if (get(url, "/version", timeout_ms, guard, secure, &resp, e) < 0)
        return -1;
    rc = json_parse(resp.body.data, resp.body.len, &j, e);
    client_response_release(&resp);
    if (rc < 0)
        return -1;
    if (!copy_version(j, "etcdserver", server))
        rc = err_set(e, -1, "no version in the answer of %s", url);
    if (cluster)
        snprintf(cluster, 32, "%s",
                 copy_version(j, "etcdcluster", theirs) ? theirs : "");
    json_free(j);
    return rc;
}
