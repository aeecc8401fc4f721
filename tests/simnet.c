/*
 * simnet.c - the network between simulated members: in place of peer.c and
 * its files, the functions of peer.h (and what reconf.c uses of client.h).
 *
 * Each message goes through the real codec of the streams, by an encoder and a
 * decoder that remember as those of a connection do, and must come out as it
 * went in. Then it is lost, doubled, or delayed; it waits in the inbox of the
 * receiver's process, until one of its reader threads steps it.
 *
 * Forwarded proposals (MsgProp) are never doubled: they travel on connections,
 * which do not repeat, and etcd does not recognize them a second time.
 */
#include "sim.h"

#include "client.h"
#include "rpcpb.h"

#include <inttypes.h>
#include <stdio.h>

#define READERS 3
#define PEERS_MAX 16
#define INBOX_MAX 4096
#define SNAP_TIMEOUT (5 * SIM_S)

enum letter_kind {
    LETTER_MESSAGE,
    LETTER_UNREACHABLE,
    LETTER_DIAL, /* a connection is wanted: may be refused */
    LETTER_REMOVED
};

struct snap_job;

struct letter {
    struct letter *next;
    enum letter_kind kind;
    struct host *from, *to;
    struct sim_proc *to_proc; /* of an answer: who asked; NULL: whoever runs */
    struct raft_msg msg;
    uint64_t id;
    bool ok;
    struct snap_job *job;
    struct blob *db; /* behind a MsgSnap */
};

struct snap_job { /* shared by the sender, the letter, and the answer */
    struct sim_queue *waiting;
    bool answered, ok, abandoned;
};

struct sim_peer {
    uint64_t id;
    struct host *to;
    struct msgapp_state encoder, decoder;
    int64_t fifo_until; /* when the last message arrives */
    int64_t last_unreachable;
};

struct transport {
    struct transport_config config;
    struct host *host;
    struct sim_peer peers[PEERS_MAX];
    size_t n_peers;
    struct letter *first, *last;
    size_t n_inbox;
    struct sim_queue readers, ended, jobs, dialer;
    bool stopping, told_removed;
    int running;
    struct raft_msg *held; /* until the next transport_flush() that is due */
    size_t n_held;
    bool flush_due;
};

/* --- Links. ------------------------------------------------------------- */

bool net_reaches(const struct host *from, const struct host *to)
{
    return !sim.cut[from->n][to->n];
}

void net_cut(int from, int to, bool cut)
{
    if (sim.cut[from][to] == cut)
        return;
    sim.cut[from][to] = cut;
    sim.changed[from][to] = sim.changed[to][from] = sim_now();
}

void net_heal(void)
{
    for (int a = 0; a <= HOSTS_MAX; a++)
        for (int b = 0; b <= HOSTS_MAX; b++)
            net_cut(a, b, false);
    sim.slow_host = 0;
}

static int64_t delay(const struct host *from, const struct host *to)
{
    int64_t d = sim_between(SIM_MS / 5, SIM_MS);

    if (!sim.storm)
        return d;
    if (from && to && sim.slow_host &&
        (from->n == sim.slow_host || to->n == sim.slow_host))
        d += sim_between(20 * SIM_MS, 300 * SIM_MS);
    if (sim_chance(100))
        d += sim_between(0, sim.p.delay_max);
    if (sim_chance(4)) /* outlives an election or two */
        d += sim_between(0, 4 * SIM_S);
    return d;
}

/* --- Letters. ----------------------------------------------------------- */

static void letter_free(struct letter *l)
{
    raft_msg_release(&l->msg);
    free(l);
}

static void arrive(void *arg)
{
    struct letter *l = arg;
    struct transport *t = l->to->transport;

    if (!t || t->stopping || l->to->state < HOST_SERVING ||
        (l->to_proc && l->to->proc != l->to_proc) ||
        (l->kind == LETTER_MESSAGE && l->msg.to != t->config.id) ||
        t->n_inbox >= INBOX_MAX) {
        letter_free(l);
        return;
    }
    l->next = NULL;
    if (t->last)
        t->last->next = l;
    else
        t->first = l;
    t->last = l;
    t->n_inbox++;
    sim_wake_one(&t->readers);
}

/* A word from the network to the process that asked. */
static void answer(struct host *to, struct sim_proc *proc,
                   enum letter_kind kind, uint64_t id, bool ok)
{
    struct letter *l = xcalloc(1, sizeof(*l));

    l->kind = kind;
    l->to = to;
    l->to_proc = proc;
    l->id = id;
    l->ok = ok;
    sim_at(sim_now() + delay(NULL, to), arrive, l);
}

/* Takes m and db. */
static void post_snapshot(struct transport *t, struct sim_peer *p,
                          struct raft_msg *m, struct snap_job *job,
                          struct blob *db, int64_t more)
{
    struct letter *l = xcalloc(1, sizeof(*l));
    int64_t when = sim_now() + delay(t->host, p->to) + more;

    if (sim.p.fifo && more == 0) {
        when = when > p->fifo_until ? when : p->fifo_until + 1;
        p->fifo_until = when;
    }
    l->kind = LETTER_MESSAGE;
    l->from = t->host;
    l->to = p->to;
    l->msg = *m;
    l->job = job;
    l->db = db;
    l->id = (uint64_t)t->host->proc->number;
    sim_at(when, arrive, l);
}

static void post_after(struct transport *t, struct sim_peer *p,
                       struct raft_msg *m, struct snap_job *job, int64_t more)
{
    post_snapshot(t, p, m, job, NULL, more);
}

static void post(struct transport *t, struct sim_peer *p, struct raft_msg *m,
                 struct snap_job *job)
{
    post_after(t, p, m, job, 0);
}

/* --- Sending. ----------------------------------------------------------- */

static struct sim_peer *find_peer(struct transport *t, uint64_t id)
{
    for (size_t i = 0; i < t->n_peers; i++)
        if (t->peers[i].id == id)
            return &t->peers[i];
    return NULL;
}

/* Through the codec, and the same afterwards. */
static struct raft_msg recode(struct sim_peer *p, const struct raft_msg *m)
{
    struct buf wire = {0}, was = {0}, is = {0};
    struct raft_msg out;
    size_t need = 0;
    int64_t used;

    if (sim_chance(10)) /* the connection is a new one */
        p->encoder = p->decoder = (struct msgapp_state){0, 0};
    if (m->type == RAFT_MSG_APP) {
        peer_encode_msgapp(&wire, &p->encoder, m);
        used = peer_decode_msgapp(wire.data, wire.len, &need, &p->decoder,
                                  m->from, m->to, &out);
        REQUIRE(p->encoder.term == p->decoder.term &&
                    p->encoder.index == p->decoder.index,
                "the append stream's two ends remember different things");
    } else {
        peer_encode_message(&wire, m);
        used = peer_decode_message(wire.data, wire.len, &need, &out);
    }
    REQUIRE(used == (int64_t)wire.len, "a %s does not decode",
            raft_msg_name(m->type));
    raftpb_encode_msg(&was, m);
    raftpb_encode_msg(&is, &out);
    REQUIRE(str_eq(buf_str(&was), buf_str(&is)), "a %s changes on the wire",
            raft_msg_name(m->type));
    buf_release(&wire);
    buf_release(&was);
    buf_release(&is);
    return out;
}

static void trace_message(const struct transport *t, const struct sim_peer *p,
                          const struct raft_msg *m, const char *fate)
{
    TRACE(t->host->n,
          "%s to %s: term %" PRIu64 " index %" PRIu64 " log_term %" PRIu64
          " commit %" PRIu64 " entries %zu%s%s",
          raft_msg_name(m->type), p->to->name, m->term, m->index, m->log_term,
          m->commit, m->n_entries, m->reject ? " reject" : "", fate);
}

/* Raft hears of a connection's failure, but not of each message's. */
static void tell_unreachable(struct transport *t, struct sim_peer *p)
{
    if (sim_now() - p->last_unreachable < 20 * SIM_MS)
        return;
    p->last_unreachable = sim_now();
    answer(t->host, t->host->proc, LETTER_UNREACHABLE, p->id, false);
}

static bool is_down(const struct host *h)
{
    return !h->transport || h->state < HOST_SERVING;
}

static void send_one(struct transport *t, const struct raft_msg *m)
{
    struct sim_peer *p = find_peer(t, m->to);
    struct raft_msg copy;

    if (!p)
        return;
    sim.count.messages++;
    copy = recode(p, m);
    if (!net_reaches(t->host, p->to) || is_down(p->to) ||
        (sim.storm && sim_chance(sim.p.loss))) {
        sim.count.lost++;
        trace_message(t, p, m, ", lost");
        raft_msg_release(&copy);
        if (!net_reaches(t->host, p->to) || is_down(p->to) || sim_chance(300))
            tell_unreachable(t, p);
        return;
    }
    trace_message(t, p, m, "");
    if (sim.storm && m->type != RAFT_MSG_PROP && sim_chance(sim.p.duplicate)) {
        struct raft_msg twin;

        raft_msg_copy(&twin, &copy);
        post(t, p, &twin, NULL);
    }
    post(t, p, &copy, NULL);
}

void transport_hold(struct transport *t, const struct raft_msg *m, size_t n)
{
    t->held = xrealloc(t->held, (t->n_held + n) * sizeof(*t->held));
    for (size_t i = 0; i < n; i++) {
        if (find_peer(t, m[i].to))
            check_sent(t->host, &m[i]);
        raft_msg_copy(&t->held[t->n_held++], &m[i]);
    }
}

static void let_go(struct transport *t)
{
    for (size_t i = 0; i < t->n_held; i++) {
        if (!t->stopping)
            send_one(t, &t->held[i]);
        raft_msg_release(&t->held[i]);
    }
    free(t->held);
    t->held = NULL;
    t->n_held = 0;
}

void transport_send(struct transport *t, const struct raft_msg *m, size_t n)
{
    transport_hold(t, m, n);
    t->flush_due = true;
}

void transport_flush(struct transport *t)
{
    if (t->flush_due)
        let_go(t);
    t->flush_due = false;
}

/* --- Snapshots. --------------------------------------------------------- */

struct snap_order {
    struct transport *t;
    struct raft_msg msg;
    struct transport_snapshot snap;
};

static int collect(void *arg, const void *p, size_t n)
{
    struct buf *b = arg;

    if (sim.storm && sim_chance(50))
        sim_sleep(sim_between(0, 20 * SIM_MS));
    buf_add(b, p, n);
    return 0;
}

/* The message as it arrives: with the state machine's bytes. */
static struct raft_msg with_data(const struct raft_msg *m, const struct buf *b)
{
    struct raft_msg whole, out;
    struct buf wire = {0};

    raft_msg_copy(&whole, m);
    blob_unref(whole.snapshot->data);
    whole.snapshot->data = blob_new(b->data, b->len);
    raftpb_encode_msg(&wire, &whole);
    REQUIRE(raftpb_decode_msg(wire.data, wire.len, &out) == 0,
            "a MsgSnap does not decode");
    buf_release(&wire);
    raft_msg_release(&whole);
    return out;
}

static bool carry_snapshot(struct snap_order *o)
{
    struct transport *t = o->t;
    struct sim_peer *p = find_peer(t, o->msg.to);
    int64_t deadline = sim_now() + SNAP_TIMEOUT;
    struct buf bytes = {0}, db = {0};
    struct blob *database;
    struct snap_job *job;
    struct raft_msg m;
    bool ok;

    o->snap.data(o->snap.from, collect, &bytes);
    o->snap.db(o->snap.from, collect, &db);
    REQUIRE(db.len == o->snap.n_db, "a database of %zu bytes, not %" PRIu64,
            db.len, o->snap.n_db);
    check_snapshot(t->host, o->msg.snapshot, buf_str(&bytes));
    p = find_peer(t, o->msg.to);
    if (!p || t->stopping || !net_reaches(t->host, p->to) || is_down(p->to) ||
        (sim.storm && sim_chance(sim.p.loss))) {
        buf_release(&bytes);
        buf_release(&db);
        return false;
    }
    TRACE(t->host->n, "sends a snapshot at index %" PRIu64 " to %s",
          o->msg.snapshot->index, p->to->name);
    sim.count.snapshots++;
    job = xcalloc(1, sizeof(*job)); /* leaked: the letter may get lost */
    job->waiting = &t->jobs;
    m = with_data(&o->msg, &bytes);
    database = blob_new(db.data, db.len);
    buf_release(&bytes);
    buf_release(&db);
    check_sent(t->host, &m);
    if (sim.storm && sim.p.duplicate && sim_chance(500)) {
        struct raft_msg twin; /* of an earlier try that was given up */

        raft_msg_copy(&twin, &m);
        post_snapshot(t, p, &twin, NULL, blob_ref(database),
                      sim_between(0, 6 * SIM_S));
    }
    post_snapshot(t, p, &m, job, database, 0);
    while (!job->answered && !t->stopping && sim_now() < deadline)
        sim_wait(&t->jobs, deadline);
    job->abandoned = true;
    ok = job->answered && job->ok;
    return ok && !(sim.storm && sim_chance(sim.p.loss));
}

static void snapshot_main(void *arg)
{
    struct snap_order *o = arg;
    struct transport *t = o->t;
    bool ok = carry_snapshot(o);

    o->snap.done(o->snap.from);
    if (!t->stopping)
        t->config.callbacks.report_snapshot(t->config.callbacks.arg, o->msg.to,
                                            ok);
    raft_msg_release(&o->msg);
    free(o);
    t->running--;
    sim_wake(&t->ended);
}

void transport_send_snapshot(struct transport *t, const struct raft_msg *m,
                             const struct transport_snapshot *snap)
{
    struct snap_order *o = xcalloc(1, sizeof(*o));

    o->t = t;
    o->snap = *snap;
    raft_msg_copy(&o->msg, m);
    t->running++;
    sim_spawn(t->host->proc, snapshot_main, o);
}

/* --- Receiving. --------------------------------------------------------- */

static void answer_snapshot(void *arg)
{
    struct snap_job *job = arg;

    if (job->abandoned)
        return;
    job->answered = true;
    sim_wake(job->waiting);
}

/* A sender that our membership does not know yet says itself where it is
 * (peerhttp.c, note_sender()). */
static void note_sender(struct transport *t, const struct letter *l)
{
    const char *url = l->from->url;

    if (!find_peer(t, l->msg.from))
        transport_add_peer(t, l->msg.from, &url, 1);
}

/* The sender's process as it was; and a way back to it. */
static bool can_answer(const struct transport *t, const struct letter *l)
{
    return l->from->proc && (uint64_t)l->from->proc->number == l->id &&
           net_reaches(t->host, l->from);
}

static bool refuse_removed(struct transport *t, const struct letter *l)
{
    if (!t->config.callbacks.is_removed(t->config.callbacks.arg, l->msg.from))
        return false;
    if (can_answer(t, l))
        answer(l->from, l->from->proc, LETTER_REMOVED, 0, false);
    return true;
}

/* As peerhttp.c does, before raft hears of the message. */
static bool save_database(struct transport *t, struct letter *l)
{
    struct str bytes = blob_str(l->db);
    struct err e;

    return !l->db || snap_save_db(t->config.snap_dir, l->msg.snapshot->index,
                                  snap_source_str, &bytes, t->config.no_fsync,
                                  NULL, &e) == 0;
}

static void handle_message(struct transport *t, struct letter *l)
{
    const struct transport_callbacks *cb = &t->config.callbacks;
    /* It may take its time: so it must not be the only reader. */
    bool last = l->msg.type == RAFT_MSG_APP && !t->first && !sim.p.fifo;

    if (refuse_removed(t, l))
        return;
    note_sender(t, l);
    l->ok = save_database(t, l) && cb->process(cb->arg, &l->msg, last) == 0;
    if (l->job && can_answer(t, l)) {
        l->job->ok = l->ok;
        sim_at(sim_now() + delay(t->host, l->from), answer_snapshot, l->job);
    }
}

static void handle(struct transport *t, struct letter *l)
{
    const struct transport_callbacks *cb = &t->config.callbacks;

    switch (l->kind) {
    case LETTER_MESSAGE:
        handle_message(t, l);
        break;
    case LETTER_UNREACHABLE:
        cb->report_unreachable(cb->arg, l->id);
        break;
    case LETTER_REMOVED:
        if (!t->told_removed) {
            t->told_removed = true;
            TRACE(t->host->n, "is told that it was removed");
            cb->removed_self(cb->arg);
        }
        break;
    case LETTER_DIAL:
        refuse_removed(t, l);
        break;
    }
}

/* Who has no connection dials; here, now and then, all do. */
static void dialer_main(void *arg)
{
    struct transport *t = arg;

    while (!t->stopping) {
        for (size_t i = 0; i < t->n_peers; i++) {
            struct sim_peer *p = &t->peers[i];
            struct letter *l;

            if (!net_reaches(t->host, p->to) || is_down(p->to))
                continue;
            l = xcalloc(1, sizeof(*l));
            l->kind = LETTER_DIAL;
            l->from = t->host;
            l->to = p->to;
            l->msg.from = t->config.id;
            l->id = (uint64_t)t->host->proc->number;
            sim_at(sim_now() + delay(t->host, p->to), arrive, l);
        }
        sim_wait(&t->dialer, sim_now() + SIM_S);
    }
    t->running--;
    sim_wake(&t->ended);
}

static void reader_main(void *arg)
{
    struct transport *t = arg;

    while (!t->stopping) {
        struct letter *l = t->first;

        if (!l) {
            sim_wait(&t->readers, SIM_NEVER);
            continue;
        }
        t->first = l->next;
        if (!t->first)
            t->last = NULL;
        t->n_inbox--;
        handle(t, l);
        letter_free(l);
    }
    t->running--;
    sim_wake(&t->ended);
}

/* --- The transport's life. ---------------------------------------------- */

int transport_new(const struct transport_config *config, struct transport **out,
                  struct err *e)
{
    struct transport *t = xcalloc(1, sizeof(*t));
    int readers = sim.p.fifo ? 1 : READERS;

    (void)e;
    t->config = *config;
    t->host = host_self();
    t->host->transport = t;
    t->host->id = config->id;
    for (int i = 0; i < readers; i++) {
        t->running++;
        sim_spawn(t->host->proc, reader_main, t);
    }
    t->running++;
    sim_spawn(t->host->proc, dialer_main, t);
    *out = t;
    return 0;
}

void transport_stop(struct transport *t)
{
    t->stopping = true;
    sim_wake(&t->readers);
    sim_wake(&t->jobs);
    sim_wake(&t->dialer);
    while (t->running)
        sim_wait(&t->ended, SIM_NEVER);
}

void transport_free(struct transport *t)
{
    if (!t)
        return;
    if (t->host->transport == t)
        t->host->transport = NULL;
    while (t->first) {
        struct letter *l = t->first;

        t->first = l->next;
        letter_free(l);
    }
    t->stopping = true;
    let_go(t);
    free(t);
}

void transport_add_peer(struct transport *t, uint64_t id, const char **urls,
                        size_t n)
{
    struct sim_peer *p = find_peer(t, id);

    if (!p) {
        REQUIRE(t->n_peers < PEERS_MAX, "too many peers");
        p = &t->peers[t->n_peers++];
        *p = (struct sim_peer){.id = id};
    }
    for (size_t i = 0; i < n; i++)
        p->to = host_by_url(urls[i]);
    REQUIRE(p->to, "a peer without a machine");
}

void transport_update_peer(struct transport *t, uint64_t id, const char **urls,
                           size_t n)
{
    if (find_peer(t, id))
        transport_add_peer(t, id, urls, n);
}

void transport_remove_peer(struct transport *t, uint64_t id)
{
    struct sim_peer *p = find_peer(t, id);

    if (p)
        *p = t->peers[--t->n_peers];
}

void transport_remove_all(struct transport *t)
{
    t->n_peers = 0;
}

bool transport_handle(struct transport *t, struct http_exchange *x)
{
    (void)t;
    (void)x;
    return false;
}

int64_t transport_active_since(const struct transport *t, uint64_t id)
{
    const struct sim_peer *p = find_peer((struct transport *)t, id);
    const struct host *a = t->host, *b;
    int64_t since;

    if (!p || is_down(p->to) || p->to->id != id || !net_reaches(a, p->to) ||
        !net_reaches(p->to, a))
        return 0;
    b = p->to;
    since = a->since > b->since ? a->since : b->since;
    if (sim.changed[a->n][b->n] > since)
        since = sim.changed[a->n][b->n];
    return since;
}

size_t transport_active_count(const struct transport *t)
{
    size_t n = 0;

    for (size_t i = 0; i < t->n_peers; i++)
        n += transport_active_since(t, t->peers[i].id) != 0;
    return n;
}

uint64_t transport_longest_connected(const struct transport *t,
                                     const struct raft_ids *voters)
{
    int64_t oldest = SIM_NEVER;
    uint64_t best = 0;

    for (size_t i = 0; i < voters->n; i++) {
        int64_t since = transport_active_since(t, voters->ids[i]);

        if (since && since < oldest) {
            oldest = since;
            best = voters->ids[i];
        }
    }
    return best;
}

/* --- Requests. ---------------------------------------------------------- */

struct call {
    struct host *from, *to;
    struct sim_queue waiting;
    bool finished;
    enum net_outcome outcome;
    net_serve *serve;
    size_t n;
    int refs;
    uint8_t body[] __attribute__((aligned(16)));
};

static void call_unref(struct call *c)
{
    if (--c->refs == 0)
        free(c);
}

static void call_over(void *arg)
{
    struct call *c = arg;

    c->finished = true;
    sim_wake(&c->waiting);
    call_unref(c);
}

static void finish_call(struct call *c, enum net_outcome outcome)
{
    if ((sim.storm && sim_chance(c->from ? sim.p.loss : 5)) ||
        (c->from && !net_reaches(c->to, c->from))) {
        call_unref(c); /* the answer is lost */
        return;
    }
    c->outcome = outcome;
    sim_at(sim_now() + delay(c->to, c->from), call_over, c);
}

/* A connection's thread. */
static void call_main(void *arg)
{
    struct call *c = arg;

    c->serve(c->to->server, c->body);
    c->to->handlers--;
    finish_call(c, NET_ANSWERED);
}

static void call_arrives(void *arg)
{
    struct call *c = arg;
    struct host *h = c->to;

    if (h->state < (c->from ? HOST_SERVING : HOST_READY) || !h->server) {
        finish_call(c, NET_REFUSED);
        return;
    }
    h->handlers++;
    sim_spawn(h->proc, call_main, c);
}

enum net_outcome net_call(struct host *from, struct host *to, net_serve *serve,
                          void *body, size_t n, int64_t timeout)
{
    struct call *c = xcalloc(1, sizeof(*c) + n);
    int64_t deadline = sim_now() + timeout;
    enum net_outcome outcome = NET_LOST;

    *c = (struct call){.from = from, .to = to, .serve = serve, .n = n};
    memcpy(c->body, body, n);
    c->refs = 2;
    if ((sim.storm && sim_chance(from ? sim.p.loss : 5)) ||
        (from && !net_reaches(from, to)))
        c->refs--;
    else
        sim_at(sim_now() + delay(from, to), call_arrives, c);
    while (!c->finished && sim_now() < deadline)
        sim_wait(&c->waiting, deadline);
    if (c->finished) {
        outcome = c->outcome;
        if (outcome == NET_ANSWERED)
            memcpy(body, c->body, n);
    }
    call_unref(c);
    return outcome;
}

struct members_answer {
    const struct host *asker;
    bool current;
    struct member *members;
    size_t n;
    uint64_t cluster;
};

/* What one that lags behind says may be the id that a machine had before it was
 * removed: a limit of the protocol, see docs/simulator.md. Nobody listens. */
static void serve_members(struct server *s, void *body)
{
    struct members_answer *a = body;

    a->current = check_knows_host(s, a->asker);
    a->cluster = cluster_id(server_cluster(s));
    a->n = cluster_members(server_cluster(s), &a->members);
}

int peer_get_members(const char *const *urls, size_t n, int64_t timeout_ms,
                     struct secure *secure, struct member **out, size_t *n_out,
                     uint64_t *cluster_id_, struct err *e)
{
    (void)secure;
    for (size_t i = 0; i < n; i++) {
        struct host *to = host_by_url(urls[i]);
        struct members_answer a = {.asker = host_self()};

        if (!to ||
            net_call(host_self(), to, serve_members, &a, sizeof(a),
                     timeout_ms * SIM_MS) != NET_ANSWERED ||
            !a.current) {
            members_free(a.members, a.n);
            continue;
        }
        *out = a.members;
        *n_out = a.n;
        *cluster_id_ = a.cluster;
        return 0;
    }
    return err_set(e, -1, "no peer answers");
}

static void serve_version(struct server *s, void *body)
{
    cluster_version(server_cluster(s), body);
}

int peer_get_version(const char *url, int64_t timeout_ms,
                     struct client_guard *guard, struct secure *secure,
                     char server[32], char cluster[32], struct err *e)
{
    struct host *to = host_by_url(url);

    (void)guard;
    (void)secure;
    if (!to || net_call(host_self(), to, serve_version, cluster, 32,
                        timeout_ms * SIM_MS) != NET_ANSWERED)
        return err_set(e, -1, "no peer answers");
    snprintf(server, 32, "%s", ETCD_VERSION);
    return 0;
}

struct promote_request {
    uint64_t id;
    int rc;
};

static void serve_promote(struct server *s, void *body)
{
    struct promote_request *r = body;

    r->rc = server_promote_member(s, r->id);
}

/* POST /members/promote/ID, answered as admin.c does. */
static int ask_to_promote(struct host *to, const struct client_request *r,
                          struct client_response *out)
{
    struct promote_request p = {0, 0};

    if (!str_to_u64(str_of(strrchr(r->target, '/') + 1), &p.id) ||
        net_call(host_self(), to, serve_promote, &p, sizeof(p),
                 r->timeout_ms * SIM_MS) != NET_ANSWERED)
        return -1;
    out->status =
        p.rc == 0                       ? 200
        : p.rc == CLUSTER_EID_NOT_FOUND ? 404
        : p.rc == CLUSTER_ENOT_LEARNER || p.rc == SERVER_ELEARNER_NOT_READY
            ? 412
            : 500;
    if (p.rc < 0)
        buf_adds(&out->body, server_error_text(p.rc));
    return 0;
}

struct lease_request {
    int64_t id, ttl;
    int status;
};

static void serve_lease(struct server *s, void *body)
{
    struct lease_request *r = body;

    if (!v3_wait_applied(s))
        r->status = 408;
    else if (!v3_lease_renew_local(s, r->id, &r->ttl))
        r->status = 500;
    else
        r->status = r->ttl == 0 ? 404 : 200;
}

/* POST /leases, answered as v3peer.c does. */
static int ask_to_renew(struct host *to, const struct client_request *r,
                        struct client_response *out)
{
    struct rpcpb_lease_keep_alive_request req;
    struct rpcpb_lease_keep_alive_response resp = {0};
    struct arena arena = {.limit = 4096};
    struct lease_request l = {0};
    bool ok = msg_decode(&rpcpb_lease_keep_alive_request_desc, r->body,
                         r->n_body, &arena, &req) == 0;

    arena_release(&arena);
    l.id = req.ID;
    if (!ok || net_call(host_self(), to, serve_lease, &l, sizeof(l),
                        r->timeout_ms * SIM_MS) != NET_ANSWERED)
        return -1;
    out->status = l.status;
    resp.ID = l.id;
    resp.TTL = l.ttl;
    msg_encode(&rpcpb_lease_keep_alive_response_desc, &resp, &out->body);
    return 0;
}

/* The requests that reconf.c and v3lead.c make. */
int client_do(const struct client_request *r, struct client_response *out,
              struct err *e)
{
    struct host *to;
    char url[64];

    snprintf(url, sizeof(url), "http://%s:%s", r->base->host, r->base->port);
    to = host_by_url(url);
    *out = (struct client_response){.status = 500};
    if (!to ||
        (strcmp(r->target, "/leases") == 0 ? ask_to_renew(to, r, out)
                                           : ask_to_promote(to, r, out)) < 0)
        return err_set(e, CLIENT_EIO, "no answer");
    return 0;
}

void client_response_release(struct client_response *r)
{
    buf_release(&r->body);
}

/* No request here waits longer than its simulated time. */
void client_guard_init(struct client_guard *g)
{
    (void)g;
}

void client_guard_release(struct client_guard *g)
{
    (void)g;
}

void client_guard_close(struct client_guard *g)
{
    (void)g;
}
