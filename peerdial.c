/*
 * peerdial.c - what this member asks of its peers: streams to read, messages
 * to post, snapshots to send, and whether they are there.
 *
 * THREADS of a peer: two readers and a poster; one for each snapshot; one
 * prober for all. Each owns the connection in its slot of peer.clients, so a
 * connection needs no lock; others may only interrupt it, by its guard.
 *
 * A reader's buffer grows with the bytes that come, never with the length
 * that a frame claims. Between two dials of a stream there are 100 ms at
 * least; a stream that was up for longer is dialled again at once.
 */
#include "peer_impl.h"

#include "log.h"
#include "pb.h"

#include <assert.h>
#include <inttypes.h>

#define READ_CHUNK (16 * 1024)
#define KEEP_BUFFER (256 * 1024) /* of a reader, between two messages */
#define ERROR_BODY_MAX 4096
#define SNAP_CHUNK (64 * 1024)
#define SNAP_STALL_MS 30000
#define SNAP_ANSWER_MS (10 * 60 * 1000)

/* --- Dialling. ---------------------------------------------------------- */

/* The URL to try now; owned. */
static char *picked_url(struct peer *p)
{
    char *url;

    pthread_mutex_lock(&p->mu);
    url = xstrdup(p->n_urls ? p->urls[p->pick % p->n_urls] : "");
    pthread_mutex_unlock(&p->mu);
    return url;
}

/* It did not answer: the next one's turn, unless someone has moved on. */
static void next_url(struct peer *p, const char *failed)
{
    pthread_mutex_lock(&p->mu);
    if (p->n_urls && strcmp(p->urls[p->pick % p->n_urls], failed) == 0)
        p->pick = (p->pick + 1) % p->n_urls;
    pthread_mutex_unlock(&p->mu);
}

static void hang_up(struct peer *p, enum dial_slot slot)
{
    client_close(p->clients[slot]);
    p->clients[slot] = NULL;
}

/*
 * Send a request on the slot's connection, or a new one, and read the head of
 * the answer. NULL and e if there is none. The connection stays in its slot.
 */
static struct client *ask(struct peer *p, enum dial_slot slot,
                          struct client_request *r, struct err *e)
{
    struct client *c = p->clients[slot];
    char *text = picked_url(p);
    struct url url;
    int rc;

    rc = url_parse(str_of(text), &url, e);
    if (rc < 0) {
        free(text);
        return NULL;
    }
    r->base = &url;
    r->guard = &p->guard;
    r->secure = p->t->config.secure;
    rc = c ? client_again(c, r, e) : client_open(r, &c, e);
    if (rc < 0)
        next_url(p, text);
    url_release(&url);
    free(text);
    r->base = NULL;
    if (rc < 0 && p->clients[slot])
        hang_up(p, slot);
    if (rc == 0)
        p->clients[slot] = c;
    return rc == 0 ? c : NULL;
}

/* The rest of a short answer, without blanks at its end. False: not all. */
static bool read_rest(struct client *c, struct buf *out)
{
    int64_t deadline = sys_mono_ns() + PEER_READ_MS * NS_PER_MS;
    char piece[512];
    ssize_t n;

    while ((n = client_read(c, piece, sizeof(piece), deadline)) > 0) {
        if (out->len + (size_t)n > ERROR_BODY_MAX)
            return false;
        buf_add(out, piece, (size_t)n);
    }
    while (out->len && out->data[out->len - 1] == '\n')
        out->len--;
    return n == 0;
}

/* What a peer answered that did not want our request, for the log. */
static void explain_refusal(struct peer *p, int status, struct str body,
                            const struct http_head *head, struct err *e)
{
    struct str theirs = http_header(head, "X-Etcd-Cluster-ID");

    if (status == 410 || status == 403) {
        err_set(e, -1,
                "the member has been permanently removed from the "
                "cluster");
        transport_told_removed(p->t);
    } else if (status == 404) {
        err_set(e, -1, "peer %" PRIx64 " failed to find local node %" PRIx64,
                p->id, p->t->config.id);
    } else if (status == 412 && str_eqz(body, "incompatible version")) {
        err_set(e, -1, "incompatible version");
        if (peer_may_log(p, LINE_REFUSED))
            log_error(PEER_PKG,
                      "request sent was ignored by peer %" PRIx64
                      " (server version incompatible)",
                      p->id);
    } else if (status == 412 && str_eqz(body, "cluster ID mismatch")) {
        err_set(e, -1, "cluster ID mismatch");
        if (peer_may_log(p, LINE_REFUSED))
            log_error(PEER_PKG,
                      "request sent was ignored (cluster ID "
                      "mismatch: peer[%" PRIx64 "]=%.*s, local=%" PRIx64 ")",
                      p->id, (int)(theirs.n < 32 ? theirs.n : 32),
                      theirs.p ? theirs.p : "", p->t->config.cluster_id);
    } else {
        err_set(e, -1, "unexpected http status %s", http_status_text(status));
    }
}

/* --- Stream readers. ---------------------------------------------------- */

struct reader {
    struct peer *p;
    enum lane_kind kind;
    struct client *c;
    struct msgapp_state state;
    struct buf in;
    size_t used, need; /* decoded; needed for the next frame */
    bool all;          /* what had come, as far as the last read tells */
};

static int64_t decode(struct reader *r, struct raft_msg *out)
{
    const uint8_t *p = r->in.data + r->used;
    size_t n = r->in.len - r->used;

    if (r->kind == LANE_MSGAPP)
        return peer_decode_msgapp(p, n, &r->need, &r->state, r->p->id,
                                  r->p->t->config.id, out);
    return peer_decode_message(p, n, &r->need, out);
}

static void deliver(struct reader *r, const struct raft_msg *m, size_t size)
{
    bool last = r->all && r->used == r->in.len && r->kind == LANE_MSGAPP;

    if (m->from == 0 || transport_receive(r->p->t, m, size, last) == 0)
        return;
    pthread_mutex_lock(&r->p->mu);
    r->p->received_failures++;
    pthread_mutex_unlock(&r->p->mu);
    if (peer_may_log(r->p, LINE_PROCESS))
        log_warn(PEER_PKG, "failed to process raft message %s from %" PRIx64,
                 raft_msg_name(m->type), m->from);
}

static void count_received(struct peer *p, size_t bytes, size_t from_nobody)
{
    pthread_mutex_lock(&p->mu);
    p->received_bytes += bytes;
    pthread_mutex_unlock(&p->mu);
    if (from_nobody == 0)
        return;
    pthread_mutex_lock(&p->t->mu);
    p->t->received_from_nobody += from_nobody;
    pthread_mutex_unlock(&p->t->mu);
}

/* Decode and deliver all frames that are there. -1: bad bytes. */
static int deliver_frames(struct reader *r)
{
    size_t bytes = 0, from_nobody = 0;
    int64_t size = 1;

    while (size > 0 && r->in.len - r->used >= r->need) {
        struct raft_msg m;

        size = decode(r, &m);
        if (size <= 0)
            break;
        r->used += (size_t)size;
        r->need = 1;
        *(m.from ? &bytes : &from_nobody) += (size_t)size;
        deliver(r, &m, (size_t)size);
        raft_msg_release(&m);
    }
    buf_consume(&r->in, r->used);
    r->used = 0;
    buf_trim(&r->in, KEEP_BUFFER);
    count_received(r->p, bytes, from_nobody);
    return size < 0 ? -1 : 0;
}

/* Room grows with what has arrived, whatever length a frame claims. */
static size_t room_for(const struct reader *r)
{
    size_t missing = r->need > r->in.len ? r->need - r->in.len : 0;
    size_t most = r->in.len > READ_CHUNK ? r->in.len : READ_CHUNK;

    return missing < READ_CHUNK ? READ_CHUNK : missing < most ? missing : most;
}

/* Until the stream ends. e is "" if the peer has closed it. */
static void read_stream(struct reader *r, struct err *e)
{
    e->msg[0] = '\0';
    r->need = 1;
    client_set_read_ms(r->c, PEER_READ_MS);
    for (;;) {
        size_t room = room_for(r);
        ssize_t n;

        buf_reserve(&r->in, room);
        n = client_read(r->c, r->in.data + r->in.len, room, 0);
        if (n == CLIENT_ETIMEOUT)
            err_set(e, -1, "no message for %d ms", PEER_READ_MS);
        if (n <= 0)
            return;
        r->in.len += (size_t)n;
        r->all = (size_t)n < room && !client_has_more(r->c);
        if (deliver_frames(r) < 0) {
            err_set(e, -1, "malformed frame");
            return;
        }
    }
}

/* Open our stream of this kind at the peer. False and e if it would not. */
static bool open_stream(struct reader *r, struct err *e)
{
    struct peer *p = r->p;
    struct transport *t = p->t;
    enum dial_slot slot = (enum dial_slot)r->kind;
    char *headers =
        xasprintf("%sX-Raft-To: %" PRIx64 "\r\n", t->headers, p->id);
    char *target =
        xasprintf("/raft/stream/%s/%" PRIx64,
                  r->kind == LANE_MSGAPP ? "msgapp" : "message", t->config.id);
    struct client_request req = {
        .method = "GET",
        .target = target,
        .headers = headers,
        .dial_ms = t->dial_ms,
        .timeout_ms = t->answer_ms,
    };

    r->c = ask(p, slot, &req, e);
    free(headers);
    free(target);
    if (r->c && client_status(r->c) != 200) {
        struct buf body = {0};

        read_rest(r->c, &body);
        explain_refusal(p, client_status(r->c), buf_str(&body),
                        client_head(r->c), e);
        buf_release(&body);
        hang_up(p, slot);
        r->c = NULL;
    }
    return r->c != NULL;
}

/* Pause until the next dial is due. False: the peer is stopped. */
static bool wait_turn(struct peer *p, int64_t not_before_ns)
{
    bool go;

    pthread_mutex_lock(&p->mu);
    while (!p->stopped && sys_mono_ns() < not_before_ns)
        sys_cond_wait_until(&p->stop_cond, &p->mu, not_before_ns);
    go = !p->stopped;
    pthread_mutex_unlock(&p->mu);
    return go;
}

static bool is_stopped(struct peer *p)
{
    return !wait_turn(p, 0);
}

/* Have we been removed? Then nobody wants to be dialled by us; we only answer
 * those who have not heard of it. */
static bool is_removed(struct transport *t)
{
    bool told;

    pthread_mutex_lock(&t->mu);
    told = t->told_removed;
    pthread_mutex_unlock(&t->mu);
    return told || t->config.callbacks.is_removed(t->config.callbacks.arg,
                                                  t->config.id);
}

/* One life of a stream: dial, read, close. */
static void follow_stream(struct reader *r)
{
    struct peer *p = r->p;
    const char *name = lane_name(r->kind);
    struct err e = {0};

    if (!open_stream(r, &e)) {
        peer_deactivate(p, LINE_DIAL + r->kind, "dial", name, e.msg);
        return;
    }
    peer_activate(p);
    peer_log_opened(p, r->kind, "reader");
    read_stream(r, &e);
    hang_up(p, (enum dial_slot)r->kind);
    buf_release(&r->in);
    r->state = (struct msgapp_state){0};
    if (is_stopped(p) || is_removed(p->t))
        return;
    peer_log_lost(p, r->kind, "reader");
    if (e.msg[0])
        peer_deactivate(p, LINE_READ + r->kind, "read", name, e.msg);
}

static void read_until_stopped(struct peer *p, enum lane_kind kind)
{
    struct transport *t = p->t;
    struct reader r = {.p = p, .kind = kind};
    int64_t next = 0;

    sys_thread_name(kind == LANE_MSGAPP ? "peer-append" : "peer-message");
    while (wait_turn(p, next)) {
        next = sys_mono_ns() + PEER_REDIAL_MS * NS_PER_MS;
        if (!is_removed(t))
            follow_stream(&r);
    }
    transport_release(t, p, 1);
}

void *peer_message_reader(void *arg)
{
    read_until_stopped(arg, LANE_MESSAGE);
    return NULL;
}

void *peer_append_reader(void *arg)
{
    read_until_stopped(arg, LANE_MSGAPP);
    return NULL;
}

/* --- The poster: messages without a stream, and reports. ---------------- */

/* POST m. 0, or -1 and e. */
static int post(struct peer *p, const struct raft_msg *m, size_t *sent,
                struct err *e)
{
    struct transport *t = p->t;
    struct buf body = {0}, answer = {0};
    char *headers =
        xasprintf("%sContent-Type: application/protobuf\r\n", t->headers);
    struct client *c;
    bool whole;
    int status;

    raftpb_encode_msg(&body, m);
    *sent = body.len;
    c = ask(p, DIAL_POST,
            &(struct client_request){
                .method = "POST",
                .target = "/raft",
                .headers = headers,
                .body = body.data,
                .n_body = body.len,
                .dial_ms = t->dial_ms,
                /* At 64 KB a second even a big one gets through. */
                .timeout_ms = t->answer_ms + (int64_t)(body.len / 64),
            },
            e);
    free(headers);
    buf_release(&body);
    if (!c)
        return -1;
    whole = read_rest(c, &answer);
    status = client_status(c);
    if (status != 204)
        explain_refusal(p, status, buf_str(&answer), client_head(c), e);
    buf_release(&answer);
    if (!whole || status != 204)
        hang_up(p, DIAL_POST);
    return status == 204 ? 0 : -1;
}

/* All that waits behind a message that failed would fail alike. */
static void post_failed(struct peer *p, const struct raft_msg *m)
{
    struct transport *t = p->t;

    pthread_mutex_lock(&p->mu);
    p->sent_failures += 1 + p->lanes[LANE_POST].queue.n;
    p->follower.fail += m->type == RAFT_MSG_APP;
    msg_queue_clear(&p->lanes[LANE_POST].queue);
    pthread_mutex_unlock(&p->mu);
    t->config.callbacks.report_unreachable(t->config.callbacks.arg, p->id);
}

static void post_and_count(struct peer *p, const struct raft_msg *m)
{
    struct transport *t = p->t;
    int64_t began = sys_mono_ns(), now;
    size_t sent;
    struct err e;

    if (post(p, m, &sent, &e) < 0) {
        if (is_stopped(p))
            return;
        peer_deactivate(p, LINE_POST, "write", lane_name(LANE_POST), e.msg);
        post_failed(p, m);
        return;
    }
    peer_activate(p);
    now = sys_mono_ns();
    pthread_mutex_lock(&p->mu);
    p->sent_bytes += sent;
    if (m->type == RAFT_MSG_APP)
        follower_succeeded(&p->follower, now - began, 1);
    pthread_mutex_unlock(&p->mu);
    if (m->type != RAFT_MSG_APP)
        return;
    pthread_mutex_lock(&t->stats_mu);
    t->sent_append++;
    rate_add(&t->send_rate, now, sent);
    pthread_mutex_unlock(&t->stats_mu);
}

/* transport_send() could not keep something for this peer. */
static void report_drop(struct peer *p, enum lane_kind full)
{
    struct transport *t = p->t;

    if (peer_may_log(p, LINE_DROP))
        log_warn(PEER_PKG,
                 "dropped internal raft message to %" PRIx64
                 " since %s's sending buffer is full (bad/overloaded network)",
                 p->id, lane_name(full));
    t->config.callbacks.report_unreachable(t->config.callbacks.arg, p->id);
}

void *peer_poster(void *arg)
{
    struct peer *p = arg;
    struct transport *t = p->t;
    struct lane *l = &p->lanes[LANE_POST];

    sys_thread_name("peer-post");
    pthread_mutex_lock(&p->mu);
    while (!p->stopped) {
        if (p->unreachable) {
            enum lane_kind full = p->full;

            p->unreachable = false;
            pthread_mutex_unlock(&p->mu);
            report_drop(p, full);
        } else if (l->queue.n > 0) {
            struct raft_msg m;

            msg_queue_pop(&l->queue, &m);
            pthread_mutex_unlock(&p->mu);
            post_and_count(p, &m);
            raft_msg_release(&m);
        } else {
            l->idle = true;
            pthread_cond_wait(&l->cond, &p->mu);
            continue;
        }
        pthread_mutex_lock(&p->mu);
    }
    pthread_mutex_unlock(&p->mu);
    transport_release(t, p, 1);
    return NULL;
}

/* --- Snapshots. --------------------------------------------------------- */

struct snapshot_job {
    struct transport *t;
    struct peer *p; /* NULL: not a peer */
    struct raft_msg msg;
    struct transport_snapshot snap;
};

static int count_bytes(void *arg, const void *p, size_t n)
{
    (void)p;
    *(uint64_t *)arg += n;
    return 0;
}

/*
 * The frame of the MsgSnap around its n bytes of data, which are too many to
 * hold a copy of: a length and the message up to the data, and what follows.
 */
static void frame_snapshot(const struct raft_msg *m, uint64_t n,
                           struct buf *head, struct buf *tail)
{
    struct buf before = {0}, meta = {0};
    uint64_t inner;

    raftpb_encode_snapshot_meta(&meta, m->snapshot);
    inner = 1 + pb_varint_len(n) + n + meta.len;

    pb_add_u64(&before, 1, m->type);
    pb_add_u64(&before, 2, m->to);
    pb_add_u64(&before, 3, m->from);
    pb_add_u64(&before, 4, m->term);
    pb_add_u64(&before, 5, m->log_term);
    pb_add_u64(&before, 6, m->index);
    pb_add_u64(&before, 8, m->commit);
    pb_add_varint(&before, 9 << 3 | PB_BYTES);
    pb_add_varint(&before, inner);
    pb_add_varint(&before, 1 << 3 | PB_BYTES);
    pb_add_varint(&before, n);

    buf_add(tail, meta.data, meta.len);
    pb_add_u64(tail, 10, m->reject);
    pb_add_u64(tail, 11, m->reject_hint);

    buf_reserve(head, 8);
    put_u64be(head->data, before.len + n + tail->len);
    head->len = 8;
    buf_add(head, before.data, before.len);
    buf_release(&before);
    buf_release(&meta);
}

struct snapshot_writer {
    struct client *c;
    struct buf buf;
    uint64_t written;
    bool broken; /* the connection; else the source failed */
};

static int flush_snapshot(struct snapshot_writer *w)
{
    int rc = client_write(w->c, w->buf.data, w->buf.len,
                          sys_mono_ns() + SNAP_STALL_MS * NS_PER_MS);

    w->written += w->buf.len;
    w->broken = rc < 0;
    buf_clear(&w->buf);
    return rc < 0 ? -1 : 0;
}

static int write_snapshot(void *arg, const void *p, size_t n)
{
    struct snapshot_writer *w = arg;

    buf_add(&w->buf, p, n);
    return w->buf.len < SNAP_CHUNK ? 0 : flush_snapshot(w);
}

/* Write the body and read the answer. The status, or -1 and e. */
static int send_body(struct snapshot_job *j, struct client *c, uint64_t n,
                     const struct buf *head, const struct buf *tail,
                     struct err *e)
{
    struct snapshot_writer w = {.c = c};
    uint64_t total = head->len + n + tail->len + j->snap.n_db;
    struct client_response resp;
    int status = -1;
    bool ok;

    buf_add(&w.buf, head->data, head->len);
    ok = j->snap.data(j->snap.from, write_snapshot, &w) == 0 &&
         write_snapshot(&w, tail->data, tail->len) == 0 &&
         (j->snap.n_db == 0 ||
          j->snap.db(j->snap.from, write_snapshot, &w) == 0) &&
         flush_snapshot(&w) == 0;
    buf_release(&w.buf);
    if (!ok && !w.broken)
        return err_set(e, -1, "cannot read the snapshot");
    if (ok && w.written != total)
        return err_set(e, -1, "the snapshot changed while it was sent");
    /* A peer that refuses says why before it has read everything. */
    if (client_finish(c, &resp, e) == 0) {
        status = resp.status;
        if (status != 204)
            explain_refusal(j->p, status, str_trim(buf_str(&resp.body)),
                            &resp.head, e);
        client_response_release(&resp);
    }
    return status;
}

static int send_snapshot(struct snapshot_job *j, struct err *e)
{
    struct transport *t = j->t;
    struct buf head = {0}, tail = {0};
    char *text = picked_url(j->p);
    struct client *c = NULL;
    struct client_request req = {
        .method = "POST",
        .target = "/raft/snapshot",
        .dial_ms = t->dial_ms,
        .timeout_ms = SNAP_ANSWER_MS,
        .body_max = ERROR_BODY_MAX,
        .guard = &t->guard,
        .secure = t->config.secure,
    };
    struct url url = {0};
    uint64_t n = 0;
    int status = -1;

    req.headers =
        xasprintf("%sContent-Type: application/octet-stream\r\n", t->headers);
    req.base = &url;
    if (j->snap.data(j->snap.from, count_bytes, &n) != 0) {
        err_set(e, -1, "cannot read the snapshot");
    } else if (url_parse(str_of(text), &url, e) == 0) {
        frame_snapshot(&j->msg, n, &head, &tail);
        if (client_begin(&req,
                         (int64_t)(head.len + n + tail.len + j->snap.n_db), &c,
                         e) < 0)
            next_url(j->p, text);
        else
            status = send_body(j, c, n, &head, &tail, e);
    }
    client_close(c);
    url_release(&url);
    free((char *)req.headers);
    free(text);
    buf_release(&head);
    buf_release(&tail);
    return status == 204 ? 0 : -1;
}

static void free_job(struct snapshot_job *j)
{
    raft_msg_release(&j->msg);
    free(j);
}

static void send_and_report(struct snapshot_job *j)
{
    const struct transport_callbacks *cb = &j->t->config.callbacks;
    uint64_t to = j->msg.to, index = j->msg.snapshot->index;
    struct err e;
    bool ok = false;

    if (j->p) {
        log_info(PEER_PKG,
                 "start to send database snapshot [index: %" PRIu64
                 ", to %" PRIx64 "]...",
                 index, to);
        ok = send_snapshot(j, &e) == 0;
    }
    j->snap.done(j->snap.from);
    if (ok) {
        peer_activate(j->p);
        log_info(PEER_PKG,
                 "database snapshot [index: %" PRIu64 ", to: %" PRIx64
                 "] sent out successfully",
                 index, to);
    } else if (j->p) {
        log_warn(PEER_PKG,
                 "database snapshot [index: %" PRIu64 ", to: %" PRIx64
                 "] failed to be sent out (%s)",
                 index, to, e.msg);
        cb->report_unreachable(cb->arg, to);
    }
    cb->report_snapshot(cb->arg, to, ok);
}

static void *snapshot_sender(void *arg)
{
    struct snapshot_job *j = arg;
    struct transport *t = j->t;
    struct peer *p = j->p;

    sys_thread_name("peer-snapshot");
    send_and_report(j);
    free_job(j);
    transport_release(t, p, 1);
    return NULL;
}

void transport_send_snapshot(struct transport *t, const struct raft_msg *m,
                             const struct transport_snapshot *snap)
{
    struct snapshot_job *j = xcalloc(1, sizeof(*j));
    struct peer *p = peer_acquire(t, m->to);

    assert(m->type == RAFT_MSG_SNAP && m->snapshot);
    *j = (struct snapshot_job){.t = t, .p = p, .snap = *snap};
    raft_msg_copy(&j->msg, m);

    /* From here on the thread may have freed j; it has a reference of its own
     * to p. */
    if (!transport_start_thread(t, p, snapshot_sender, j)) {
        snap->done(snap->from);
        t->config.callbacks.report_snapshot(t->config.callbacks.arg, m->to,
                                            false);
        free_job(j);
    }
    peer_release(p);
}

/* --- Probing. ----------------------------------------------------------- */

static void check_clock(struct peer *p, struct str body, int64_t rtt_ns)
{
    static const char key[] = "\"Now\":\"";
    struct str text = body;
    char diff[SYS_DURATION_MAX];
    int64_t theirs, off;

    while (text.n && !str_has_prefix(text, key))
        text.p++, text.n--;
    if (text.n == 0)
        return;
    text.p += sizeof(key) - 1;
    text.n -= sizeof(key) - 1;
    str_cut(&text, '"', &text);
    if (!sys_parse_rfc3339(text, &theirs))
        return;
    off = sys_wall_ns() - theirs - rtt_ns / 2;
    if ((off > NS_PER_S || off < -NS_PER_S) && peer_may_log(p, LINE_CLOCK)) {
        sys_duration(diff, off);
        log_warn(PEER_PKG,
                 "the clock difference against peer %" PRIx64
                 " is too high [%s > 1s]",
                 p->id, diff);
    }
}

static void probe(struct peer *p)
{
    struct transport *t = p->t;
    struct client_request req = {
        .method = "GET",
        .target = "/raft/probing",
        .dial_ms = t->dial_ms,
        .timeout_ms = t->answer_ms,
    };
    int64_t began = sys_mono_ns(), rtt;
    struct buf body = {0};
    struct client *c;
    struct err e;

    c = ask(p, DIAL_PROBE, &req, &e);
    if (!c) {
        if (!is_stopped(p) && peer_may_log(p, LINE_PROBE))
            log_warn(PEER_PKG,
                     "health check for peer %" PRIx64 " could not connect: %s",
                     p->id, e.msg);
        return;
    }
    if (!read_rest(c, &body) || client_status(c) != 200) {
        hang_up(p, DIAL_PROBE);
    } else {
        rtt = sys_mono_ns() - began;
        pthread_mutex_lock(&p->mu);
        peer_observe_rtt(p, rtt);
        pthread_mutex_unlock(&p->mu);
        check_clock(p, buf_str(&body), rtt);
    }
    buf_release(&body);
}

static bool wait_for_probe(struct transport *t)
{
    int64_t due = sys_mono_ns() + PEER_PROBE_MS * NS_PER_MS;
    bool go;

    pthread_mutex_lock(&t->mu);
    while (!t->stopping && sys_mono_ns() < due)
        sys_cond_wait_until(&t->probe_cond, &t->mu, due);
    go = !t->stopping;
    pthread_mutex_unlock(&t->mu);
    return go;
}

void *transport_prober(void *arg)
{
    struct transport *t = arg;

    sys_thread_name("peer-probe");
    while (wait_for_probe(t)) {
        size_t n;
        struct peer **all = peer_acquire_all(t, &n);

        for (size_t i = 0; i < n; i++) {
            peer_start_threads(all[i]); /* what could not start before */
            if (!all[i]->remote && !is_stopped(all[i]))
                probe(all[i]);
            peer_release(all[i]);
        }
        free(all);
    }
    transport_release(t, NULL, 1);
    return NULL;
}
