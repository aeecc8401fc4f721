/*
 * v3watch.c - the Watch service (spec: v3-api, 5): streams of watchers.
 *
 * Watchers are told under the server's lock (watch.h), where nothing may take
 * long: deliver() sets an item down in the stream's outbox and wakes the
 * connection. Items become bytes when the client has room for them
 * (pull_items()), each event from what all its watchers share.
 *
 * THE OUTBOX is bounded: ITEMS_MAX messages, and BYTES_MAX of events, where a batch
 * counts once however many watchers of the stream it concerns. Watchers that are
 * told the same one after another are one item, of at most ALSO_MAX bytes, so that
 * each costs a number here and a copy of the encoded bytes there. Beyond, deliver()
 * refuses, and the watcher reads history when there is room again. Answers to the
 * client's own requests cannot be refused: if ANSWERS_MAX items wait because it
 * does not read, the stream ends.
 *
 * THE INBOX keeps the requests in their order. A watcher without a start revision
 * begins behind all that was acknowledged before it was asked for, by whatever
 * member, as a linearizable read would: its request, and those behind it, wait
 * until this member has come that far. (etcd begins where the member happens to
 * be: a follower may then tell of what its client had seen done.) A member that
 * cannot know, for lack of a leader, begins where it is.
 */
#include "grpc.h"
#include "pb.h"
#include "rpc.h"
#include "v3kv.h"

#include <assert.h>
#include <stdio.h>

#define ITEMS_MAX 4096
#define BYTES_MAX (1024 * 1024)
#define ANSWERS_MAX 65536
#define INBOX_MAX (16 * 1024 * 1024) /* bytes of requests that wait */
#define REFER_MIN 1024               /* bytes of an event that is not copied */
#define REASON_MAX 160
#define JOIN_MAX (64 * 1024) /* bytes of events of several revisions, */
#define JOIN_REVISIONS 1000  /* and so many of these, as etcd has it */
#define ALSO_MAX (64 * 1024) /* bytes of events to watchers told the same, */
#define ALSO_EVENTS_MAX 16   /* and so many events, to be compared */
#define PROGRESS_NS (600 * NS_PER_S)

enum { WATCH_ID = 2, FRAGMENT = 7 }; /* in WatchResponse */

struct item {
    struct item *next;
    enum watch_kind kind;
    bool prev_kv, fragment;
    int64_t watch_id, revision, compact_revision;
    char *reason;              /* owned, or NULL */
    struct watch_batch *batch; /* a reference */
    size_t bytes;              /* counted for it */
    int64_t *also;             /* owned: more watchers that are told the same */
    size_t n_also, also_cap;
    size_t n, at; /* events, and how many are out */
    uint32_t which[];
};

enum request_kind { CREATE, CANCEL, PROGRESS };

struct request {
    struct request *next;
    struct stream *stream;
    struct v3_read read;
    size_t size; /* of all this */
    bool is_due; /* mu; nothing to wait for but those before it */
    enum request_kind kind;
    int64_t watch_id;           /* CANCEL */
    struct watch_create create; /* its strings are in bytes[] */
    char bytes[];
};

struct stream {
    struct rpc_call *call;
    struct watch_stream *watchers;
    struct rpcpb_response_header header; /* on_pull()'s */
    struct buf encoded_header; /* on_pull()'s: as a field of a message */

    pthread_mutex_t mu;                  /* a leaf but for the call's wake */
    struct request *inbox, **inbox_last; /* mu */
    size_t inbox_bytes;                  /* mu */
    bool serving;                        /* mu; somebody empties the inbox */
    bool gone;                           /* mu; who empties it finishes */
    struct item *first, *last;           /* mu */
    size_t n, bytes;                     /* mu; n: messages, also's too */
    const struct watch_batch *counted;   /* mu; the last one in bytes */
    bool refused;                        /* mu; deliver() did */
};

/* --- The outbox. -------------------------------------------------------------------- */

static bool is_answer(enum watch_kind kind)
{
    return kind == WATCH_CREATED || kind == WATCH_REFUSED ||
           kind == WATCH_CANCELED;
}

static struct item *item_of(const struct watch_message *m)
{
    size_t n = m->kind == WATCH_EVENTS ? m->n : 0;
    struct item *it = xcalloc(1, sizeof(*it) + n * sizeof(it->which[0]));

    it->kind = m->kind;
    it->prev_kv = m->prev_kv;
    it->fragment = m->fragment;
    it->watch_id = m->watch_id;
    it->revision = m->revision;
    it->compact_revision = m->compact_revision;
    it->n = n;
    if (m->kind == WATCH_REFUSED)
        it->reason = xstrdup(m->reason);
    if (n) {
        it->batch = watch_batch_ref(m->batch);
        memcpy(it->which, m->which, n * sizeof(it->which[0]));
    }
    return it;
}

/* And those that join it. */
static void items_free(struct item *it)
{
    struct item *next;

    for (; it; it = next) {
        next = it->next;
        watch_batch_unref(it->batch);
        free(it->also);
        free(it->reason);
        free(it);
    }
}

static size_t events_size(const struct item *it, size_t from, size_t to)
{
    size_t sum = 0;

    for (size_t i = from; i < to; i++)
        sum += watch_event_size(it->batch, it->which[i], it->prev_kv);
    return sum;
}

static void push(struct stream *s, struct item *it) /* mu is held */
{
    if (it->batch && it->batch != s->counted) {
        it->bytes = events_size(it, 0, it->n);
        s->counted = it->batch;
    }
    s->bytes += it->bytes;
    s->n++;
    if (s->last)
        s->last->next = it;
    else
        s->first = it;
    s->last = it;
}

/* Many watchers of a stream are told the same, one right after another: that is
 * one item, of a bounded size. The server's lock is held, so a large transaction
 * is not compared event by event. */
static bool says_same(const struct item *it, const struct watch_message *m)
{
    return it && it->kind == WATCH_EVENTS && m->kind == WATCH_EVENTS &&
           it->batch == m->batch && it->revision == m->revision &&
           it->prev_kv == m->prev_kv && !it->fragment && !m->fragment &&
           it->n == m->n && m->n <= ALSO_EVENTS_MAX &&
           memcmp(it->which, m->which, m->n * sizeof(m->which[0])) == 0 &&
           (it->n_also + 2) * events_size(it, 0, it->n) <= ALSO_MAX;
}

static void add_watcher(struct stream *s, struct item *it, int64_t watch_id)
{
    if (it->n_also == it->also_cap) {
        it->also_cap = it->also_cap ? it->also_cap * 2 : 16;
        it->also = xrealloc(it->also, it->also_cap * sizeof(it->also[0]));
    }
    it->also[it->n_also++] = watch_id;
    s->n++;
}

static bool deliver(void *arg, const struct watch_message *m)
{
    struct stream *s = arg;
    bool taken, first;

    pthread_mutex_lock(&s->mu);
    taken = is_answer(m->kind) || (s->n < ITEMS_MAX && s->bytes < BYTES_MAX);
    first = s->n == 0;
    if (!taken)
        s->refused = true;
    else if (says_same(s->last, m))
        add_watcher(s, s->last, m->watch_id);
    else
        push(s, item_of(m));
    pthread_mutex_unlock(&s->mu);
    if (taken && first)
        rpc_wake(s->call);
    return taken;
}

static size_t request_max(const struct stream *s)
{
    return server_config(s->call->server)->max_request_bytes;
}

static size_t join_max(const struct stream *s)
{
    return (size_t)min_u64(JOIN_MAX, request_max(s));
}

static struct item *pop_locked(struct stream *s)
{
    struct item *it = s->first;

    s->first = it->next;
    it->next = NULL;
    if (!s->first) {
        s->last = NULL;
        s->counted = NULL;
    }
    s->n -= 1 + it->n_also;
    s->bytes -= it->bytes;
    return it;
}

/*
 * A watcher that catches up is told revision by revision, under the header of
 * where it will be then. What waits of that together goes in one message.
 */
static bool may_join(const struct item *a, const struct item *b)
{
    return a->kind == WATCH_EVENTS && b->kind == WATCH_EVENTS &&
           a->n_also == 0 && b->n_also == 0 && a->watch_id == b->watch_id &&
           a->revision == b->revision;
}

/* The first item, or NULL; *ready: those who were refused are to be told. */
static struct item *pop(struct stream *s, bool *ready)
{
    struct item *it = NULL;

    pthread_mutex_lock(&s->mu);
    if (s->first)
        it = pop_locked(s);
    *ready = s->refused && s->n <= ITEMS_MAX / 2 && s->bytes <= BYTES_MAX / 2;
    if (*ready)
        s->refused = false;
    pthread_mutex_unlock(&s->mu);
    return it;
}

/* Hang to it what joins it. Who told it of the past may be at the next: they
 * hold the server's lock, so having had that, all of it is here. */
static void join_others(struct stream *s, struct item *it)
{
    size_t size, max = join_max(s), n = 1;

    if (it->kind != WATCH_EVENTS || it->batch->revision == it->revision)
        return;
    v3_header(s->call->server);
    size = events_size(it, 0, it->n);
    pthread_mutex_lock(&s->mu);
    for (; s->first && n < JOIN_REVISIONS && may_join(it, s->first);
         it = it->next, n++) {
        size += events_size(s->first, 0, s->first->n);
        if (size > max)
            break;
        it->next = pop_locked(s);
    }
    pthread_mutex_unlock(&s->mu);
}

/* --- Items as messages. ----------------------------------------------------------------- */

static void unref_batch(void *batch)
{
    watch_batch_unref(batch);
}

static void put_event(const struct item *it, size_t i, struct rpc_out *out)
{
    struct str e = watch_event_encoded(it->batch, it->which[i], it->prev_kv);

    if (e.n < REFER_MIN)
        rpc_out_add(out, e.p, e.n);
    else
        rpc_out_ref(out, e, unref_batch, watch_batch_ref(it->batch));
}

/* The response without its events. */
static struct rpcpb_watch_response frame_of(struct stream *s,
                                            const struct item *it)
{
    s->header.revision = it->revision;
    return (struct rpcpb_watch_response){
        .header = &s->header,
        .watch_id = it->watch_id,
    };
}

/* The events [it->at, to), and those of the items that joined it. The fields
 * stand in the order of their numbers, as msg_encode() would put them. */
static void put_message(struct stream *s, const struct item *it,
                        int64_t watch_id, size_t to, struct rpc_out *out)
{
    struct buf *b = rpc_out_buf(out);

    rpc_out_begin(out);
    buf_addstr(b, buf_str(&s->encoded_header));
    if (watch_id)
        pb_add_u64(b, WATCH_ID, (uint64_t)watch_id);
    if (to < it->n)
        pb_add_u64(b, FRAGMENT, true);
    for (size_t i = it->at; i < to; i++)
        put_event(it, i, out);
    for (it = it->next; it; it = it->next)
        for (size_t i = 0; i < it->n; i++)
            put_event(it, i, out);
    rpc_out_end(s->call, out);
}

/* A message to each watcher. */
static void put_events(struct stream *s, const struct item *it, size_t to,
                       struct rpc_out *out)
{
    struct rpcpb_watch_response m = frame_of(s, it);

    m.watch_id = 0;
    buf_clear(&s->encoded_header);
    msg_encode(&rpcpb_watch_response_desc, &m, &s->encoded_header);
    put_message(s, it, it->watch_id, to, out);
    for (size_t i = 0; i < it->n_also; i++)
        put_message(s, it, it->also[i], to, out);
}

static void make_event(const struct item *it, size_t i, struct rpcpb_event *out,
                       struct rpcpb_key_value kvs[2])
{
    const struct watch_event *e = &it->batch->events[it->which[i]];

    v3kv_message(e->kv, false, &kvs[0]);
    out->kv = &kvs[0];
    if (mvcc_is_tombstone(e->kv))
        out->type = RPCPB_EVENT_DELETE;
    if (it->prev_kv && e->prev) {
        v3kv_message(e->prev, false, &kvs[1]);
        out->prev_kv = &kvs[1];
    }
}

/* For a door that wants messages. */
static void put_events_json(struct stream *s, const struct item *it, size_t to,
                            struct rpc_out *out)
{
    struct rpcpb_watch_response m = frame_of(s, it);
    size_t max = to - it->at, n = 0;
    struct rpcpb_event *events;
    struct rpcpb_key_value *kvs;

    for (const struct item *more = it->next; more; more = more->next)
        max += more->n;
    events = xcalloc(max, sizeof(*events));
    kvs = xcalloc(max, 2 * sizeof(*kvs));
    for (size_t i = it->at; i < to; i++, n++)
        make_event(it, i, &events[n], &kvs[2 * n]);
    for (const struct item *more = it->next; more; more = more->next)
        for (size_t i = 0; i < more->n; i++, n++)
            make_event(more, i, &events[n], &kvs[2 * n]);
    m.fragment = to < it->n;
    m.events.items = events;
    m.events.n = n;
    rpc_out_message(s->call, out, &m);
    for (size_t i = 0; i < it->n_also; i++) {
        m.watch_id = it->also[i];
        rpc_out_message(s->call, out, &m);
    }
    free(events);
    free(kvs);
}

/* All events of the items, or the next fragment of the one there is. */
static void put_next_events(struct stream *s, struct item *it,
                            struct rpc_out *out)
{
    size_t to = it->n;

    if (it->fragment && !it->next) {
        struct rpcpb_watch_response m = frame_of(s, it);

        m.fragment = true;
        to = it->at + watch_fragment(it->batch, it->which, it->n, it->at,
                                     it->prev_kv,
                                     msg_size(&rpcpb_watch_response_desc, &m),
                                     request_max(s));
    }
    if (s->call->door->json)
        put_events_json(s, it, to, out);
    else
        put_events(s, it, to, out);
    it->at = to;
}

static void put_other(struct stream *s, const struct item *it,
                      struct rpc_out *out)
{
    struct rpcpb_watch_response m = frame_of(s, it);

    m.created = it->kind == WATCH_CREATED || it->kind == WATCH_REFUSED;
    m.canceled = it->kind == WATCH_REFUSED || it->kind == WATCH_CANCELED ||
                 it->kind == WATCH_COMPACTED;
    m.compact_revision = it->compact_revision;
    if (it->reason)
        m.cancel_reason = str_of(it->reason);
    rpc_out_message(s->call, out, &m);
}

static void put_item(struct stream *s, struct item *it, struct rpc_out *out)
{
    if (it->kind != WATCH_EVENTS)
        put_other(s, it, out);
    else
        do
            put_next_events(s, it, out);
        while (it->at < it->n);
}

static enum rpc_pulled pull_items(struct rpc_call *c, struct rpc_out *out,
                                  size_t room)
{
    struct stream *s = c->state;
    size_t size = 0;
    struct item *it;
    bool ready;

    rpc_set_header(c, v3_header(c->server), &s->header);
    while (size < room && (it = pop(s, &ready)) != NULL) {
        size_t before = rpc_out_buf(out)->len;

        join_others(s, it);
        put_item(s, it, out);
        size += rpc_out_buf(out)->len - before + it->bytes;
        items_free(it);
        if (ready)
            v3_watch_ready(c->server, s->watchers);
    }
    return size < room ? RPC_PULL_WAIT : RPC_PULL_MORE;
}

/* --- Requests. ------------------------------------------------------------------------------ */

/* The watcher was never made: say so, in the order of the requests. */
static void refuse(struct stream *s, enum v3_error e)
{
    char reason[REASON_MAX];
    struct watch_message m = {
        .kind = WATCH_REFUSED,
        .watch_id = -1,
        .revision = v3_header(s->call->server).revision,
        .reason = reason,
    };

    snprintf(reason, sizeof(reason), "rpc error: code = %s desc = %s",
             grpc_status_name(v3error_code(e)), v3error_text(e));
    deliver(s, &m);
}

static enum v3_error may_watch(struct rpc_call *c,
                               const struct watch_create *req)
{
    enum v3_error e = v3_who_is(c->server, c->token, c->cn, &c->who,
                                c->who_storage, sizeof(c->who_storage));

    return e != V3_OK ? e
                      : v3_may_read(c->server, &c->who,
                                    req->key.n ? req->key : (struct str){"", 1},
                                    req->range_end);
}

static void arm(struct rpc_call *c)
{
    int64_t every = server_config(c->server)->watch_progress_notify_ns;
    uint32_t jitter;

    if (every <= 0)
        every = PROGRESS_NS;
    sys_random(&jitter, sizeof(jitter));
    every += every / 10 / UINT16_MAX * (jitter & UINT16_MAX);
    rpc_set_timer(c, sys_mono_ns() + every);
}

static void tick(struct rpc_call *c)
{
    struct stream *s = c->state;

    v3_watch_tick(c->server, s->watchers);
    arm(c);
}

static struct str keep(char **at, struct str s)
{
    struct str kept = {*at, s.n};

    if (s.n)
        memcpy(*at, s.p, s.n);
    *at += s.n;
    return kept;
}

static struct request *request_of(struct stream *s, enum request_kind kind,
                                  size_t bytes)
{
    struct request *r = xcalloc(1, sizeof(*r) + bytes);

    r->stream = s;
    r->size = sizeof(*r) + bytes;
    r->kind = kind;
    return r;
}

static struct request *
create_request(struct stream *s, const struct rpcpb_watch_create_request *req)
{
    struct request *r = request_of(s, CREATE, req->key.n + req->range_end.n);
    char *at = r->bytes;

    r->create = (struct watch_create){
        .key = keep(&at, req->key),
        .range_end = keep(&at, req->range_end),
        .start_revision = req->start_revision,
        .watch_id = req->watch_id,
        .progress_notify = req->progress_notify,
        .prev_kv = req->prev_kv,
        .fragment = req->fragment,
    };
    for (size_t i = 0; i < req->filters.n; i++) {
        r->create.no_put |= req->filters.items[i] == RPCPB_FILTER_NOPUT;
        r->create.no_delete |= req->filters.items[i] == RPCPB_FILTER_NODELETE;
    }
    return r;
}

static void serve_request(struct stream *s, const struct request *r)
{
    struct server *server = s->call->server;
    enum v3_error e;

    switch (r->kind) {
    case CREATE:
        e = may_watch(s->call, &r->create);
        if (e != V3_OK)
            refuse(s, e);
        else
            v3_watch_create(server, s->watchers, &r->create);
        break;
    case CANCEL:
        v3_watch_cancel(server, s->watchers, r->watch_id);
        break;
    case PROGRESS:
        v3_watch_progress(server, s->watchers);
        break;
    }
}

static void close_stream(struct rpc_call *c)
{
    struct stream *s = c->state;
    struct item *it;
    bool ready;

    v3_watch_close(c->server, s->watchers); /* then nothing is delivered */
    while ((it = pop(s, &ready)) != NULL)
        items_free(it);
    buf_release(&s->encoded_header);
    pthread_mutex_destroy(&s->mu);
    rpc_finish(c);
}

/* The first that is due, or NULL, and then nobody serves any more. mu is held. */
static struct request *next_request(struct stream *s)
{
    struct request *r = s->inbox;

    if (!r || !r->is_due) {
        s->serving = false;
        return NULL;
    }
    s->inbox = r->next;
    if (!s->inbox)
        s->inbox_last = &s->inbox;
    s->inbox_bytes -= r->size;
    return r;
}

/*
 * Serve what is due, in order: one thread at a time, the client's own or one
 * that brings a read. When the client is gone, the last one closes. mu is held,
 * and given back: behind it the stream may be no more.
 */
static void serve_due(struct stream *s)
{
    struct request *r;
    bool gone, over;

    if (s->serving) {
        pthread_mutex_unlock(&s->mu);
        return;
    }
    s->serving = true;
    while ((r = next_request(s)) != NULL) {
        gone = s->gone;
        pthread_mutex_unlock(&s->mu);
        if (!gone)
            serve_request(s, r);
        free(r);
        pthread_mutex_lock(&s->mu);
    }
    over = s->gone && !s->inbox;
    pthread_mutex_unlock(&s->mu);
    if (over)
        close_stream(s->call);
}

static void make_due(struct request *r)
{
    struct stream *s = r->stream;

    pthread_mutex_lock(&s->mu);
    r->is_due = true;
    serve_due(s);
}

/* Or it has not come in time: then from where we are. */
static void on_read(struct v3_read *op)
{
    make_due(op->arg);
}

static void receive(struct stream *s, struct request *r)
{
    struct server *server = s->call->server;

    pthread_mutex_lock(&s->mu);
    *s->inbox_last = r;
    s->inbox_last = &r->next;
    s->inbox_bytes += r->size;
    pthread_mutex_unlock(&s->mu);
    if (r->kind == CREATE && r->create.start_revision == 0 &&
        server_has_leader(server)) {
        r->read.done = on_read;
        r->read.arg = r;
        v3_read_index(server, &r->read, server_config(server)->election_ms);
    } else {
        make_due(r);
    }
}

static void on_gone(struct rpc_call *c)
{
    struct stream *s = c->state;

    pthread_mutex_lock(&s->mu);
    s->gone = true;
    serve_due(s);
}

static bool is_overrun(struct stream *s)
{
    bool is;

    pthread_mutex_lock(&s->mu);
    is = s->n >= ANSWERS_MAX || s->inbox_bytes >= INBOX_MAX;
    pthread_mutex_unlock(&s->mu);
    return is;
}

static void on_message(struct rpc_call *c, const void *request)
{
    const struct rpcpb_watch_request *req = request;
    struct stream *s = c->state;
    struct request *r;

    if (is_overrun(s)) {
        rpc_cancel(c, GRPC_RESOURCE_EXHAUSTED,
                   "too many answers wait to be read");
        return;
    }
    if (req->create_request) {
        if (req->create_request->progress_notify && !c->timer_ns)
            arm(c);
        receive(s, create_request(s, req->create_request));
    } else if (req->cancel_request) {
        r = request_of(s, CANCEL, 0);
        r->watch_id = req->cancel_request->watch_id;
        receive(s, r);
    } else if (req->progress_request) {
        receive(s, request_of(s, PROGRESS, 0));
    }
}

void v3watch_watch(struct rpc_call *c)
{
    struct stream *s = arena_alloc(&c->arena, sizeof(*s));

    assert(s);
    s->call = c;
    s->inbox_last = &s->inbox;
    pthread_mutex_init(&s->mu, NULL);
    c->state = s;
    c->on_message = on_message;
    c->on_pull = pull_items;
    c->on_gone = on_gone;
    c->on_timer = tick;
    s->watchers = v3_watch_open(c->server, deliver, s);
}
