/*
 * simclient.c - clients of a simulated cluster: they write, read and watch,
 * through any member, give up after a while and go on elsewhere; and the
 * judgement of all that they were told.
 *
 * ORDER      what was acknowledged before a request began has a lower index of
 *            Raft than the request's own (writes), or is seen (quorum reads);
 *            and the history is linearizable by linear_check() as well, which
 *            knows nothing of indexes of Raft
 * READS      a read at store index X shows the key as it was at X; without
 *            quorum X may be old, but never goes back in one member's life
 * WATCHES    a stream gets every change of its keys after the index where it
 *            began, once, in order; a watch with an index exactly the first
 */
#include "sim.h"

#include "json.h"
#include "linear.h"

#include <inttypes.h>
#include <stdio.h>

#define OPS_MAX 20000

static struct linear_op ops[OPS_MAX];
static size_t n_ops;
static int64_t sequence; /* moments, for linear_check() */
static uint64_t next_value;
static bool stopping;
static int running;
static struct sim_queue ended;

struct linear_op *clients_operation(void)
{
    REQUIRE(n_ops < OPS_MAX, "too many operations");
    return &ops[n_ops++];
}

int64_t clients_moment(void)
{
    return ++sequence;
}

struct host *clients_pick(void)
{
    struct host *ready[HOSTS_MAX];
    size_t n = 0;

    for (int i = 1; i <= HOSTS_MAX; i++)
        if (sim.hosts[i].state == HOST_READY)
            ready[n++] = &sim.hosts[i];
    return n ? ready[sim_below(n)] : NULL;
}

/* --- Requests, as they run on a member. --------------------------------- */

enum op_kind {
    OP_SET,
    OP_CREATE,
    OP_UPDATE,
    OP_CAS,
    OP_CAS_INDEX,
    OP_DELETE,
    OP_CAD,
    OP_READ,
    OP_QUORUM_READ,
    OP_KINDS
};

static const char *const kind_names[] = {"set", "create",    "update",
                                         "cas", "cas-index", "delete",
                                         "cad", "read",      "quorum read"};

struct request { /* no pointers: it may outlive its client */
    enum op_kind kind;
    char path[32], value[24], prev[24];
    uint64_t prev_index;
    int64_t ttl;
    /* the answer: */
    int code;
    uint64_t modified, etcd_index;
    raft_index raft_index;
    char seen[24];
};

static void copy_text(char out[24], struct str s)
{
    size_t n = s.n < 23 ? s.n : 23;

    memcpy(out, s.p, n);
    out[n] = '\0';
}

static void take_answer(struct request *q, struct v2_result *r)
{
    q->code = r->code;
    q->etcd_index = r->etcd_index;
    q->raft_index = r->raft_index;
    q->seen[0] = '\0';
    if (r->event) {
        q->modified = store_event_index(r->event);
        copy_text(q->seen, blob_str(store_event_value(r->event)));
    }
    v2_result_release(r);
}

/* Half of the writes go the way of those who do not wait (v2.c). */
struct async_write {
    struct v2_write op;
    bool done;
    struct sim_queue waiting;
};

static void async_done(struct v2_write *op)
{
    struct async_write *a = (struct async_write *)op;

    a->done = true;
    sim_wake(&a->waiting);
}

static void write_async(struct server *s, struct v2_request *r,
                        struct v2_result *out)
{
    struct async_write *a = xcalloc(1, sizeof(*a));

    a->op.done = async_done;
    server_v2_write_async(s, r, &a->op);
    while (!a->done)
        sim_wait(&a->waiting, SIM_NEVER);
    *out = a->op.result;
    free(a);
}

static void serve_write(struct server *s, void *body)
{
    struct request *q = body;
    struct v2_result result;
    struct v2_request r = {
        .method = q->kind == OP_DELETE || q->kind == OP_CAD ? STR("DELETE")
                                                            : STR("PUT"),
        .path = str_of(q->path),
        .val = str_of(q->value),
        .prev_value = str_of(q->prev),
        .prev_index = q->prev_index,
        .prev_exist = q->kind == OP_CREATE   ? TRI_FALSE
                      : q->kind == OP_UPDATE ? TRI_TRUE
                                             : TRI_UNSET,
    };

    if (q->ttl)
        r.expiration = sys_wall_ns() + q->ttl;
    if (sim_chance(500))
        write_async(s, &r, &result);
    else
        server_v2_write(s, &r, &result);
    take_answer(q, &result);
}

static void serve_read(struct server *s, void *body)
{
    struct request *q = body;
    struct v2_result result;

    server_v2_get(s, str_of(q->path), 0, q->kind == OP_QUORUM_READ, &result);
    take_answer(q, &result);
}

static enum net_outcome ask(struct host *h, struct request *q, int64_t timeout)
{
    bool read = q->kind == OP_READ || q->kind == OP_QUORUM_READ;
    enum net_outcome o = net_call(NULL, h, read ? serve_read : serve_write, q,
                                  sizeof(*q), timeout);

    if (o == NET_ANSWERED && q->code == STORE_RAFT_INTERNAL)
        o = NET_LOST; /* nobody knows */
    return o;
}

/* --- What a client knows of a key. -------------------------------------- */

struct client {
    int n;
    struct {
        char value[24];
        uint64_t modified;
    } last[16]; /* by key */
};

static void make_request(struct client *c, size_t key, struct request *q)
{
    static const uint8_t mix[] = {
        OP_SET,  OP_SET,         OP_SET,         OP_CREATE,     OP_UPDATE,
        OP_CAS,  OP_CAS_INDEX,   OP_DELETE,      OP_CAD,        OP_READ,
        OP_READ, OP_QUORUM_READ, OP_QUORUM_READ, OP_QUORUM_READ};

    *q = (struct request){.kind = mix[sim_below(ARRAY_LEN(mix))]};
    snprintf(q->path, sizeof(q->path), "/1/%s%zu", key % 2 ? "d/k" : "k", key);
    if (q->kind <= OP_CAS_INDEX)
        snprintf(q->value, sizeof(q->value), "%" PRIu64, ++next_value);
    if (q->kind == OP_CAS || q->kind == OP_CAD)
        copy_text(q->prev,
                  *c->last[key].value ? str_of(c->last[key].value) : STR("0"));
    if (q->kind == OP_CAS_INDEX)
        q->prev_index = c->last[key].modified ? c->last[key].modified : 1;
}

static void remember(struct client *c, size_t key, const struct request *q)
{
    bool read = q->kind == OP_READ || q->kind == OP_QUORUM_READ;

    if (q->code)
        return;
    c->last[key].modified = q->modified;
    copy_text(c->last[key].value, str_of(read ? q->seen : q->value));
}

/* --- Judging answers by the committed entries. -------------------------- */

static void judge_write(const struct host *h, const struct request *q,
                        raft_index before)
{
    uint64_t modified = 0;
    int code = 0;

    REQUIRE(q->raft_index > before,
            "Order: %s answers a %s with index %" PRIu64 ", but %" PRIu64
            " was acknowledged before it began",
            h->name, kind_names[q->kind], q->raft_index, before);
    REQUIRE(check_result(q->raft_index, &code, &modified) && code == q->code &&
                (code || modified == q->modified),
            "%s answers %d at index %" PRIu64
            " to a %s; what was applied there says %d",
            h->name, q->code, q->raft_index, kind_names[q->kind], code);
}

static void judge_read(struct host *h, const struct request *q,
                       raft_index before)
{
    uint64_t modified = 0;
    const char *value = check_value_at(q->path, q->etcd_index, &modified);

    REQUIRE(q->kind == OP_READ || q->raft_index >= before,
            "Order: %s answers a quorum read at index %" PRIu64 ", but %" PRIu64
            " was acknowledged before it began",
            h->name, q->raft_index, before);
    REQUIRE(q->code == (value ? 0 : STORE_KEY_NOT_FOUND) &&
                (!value ||
                 (strcmp(value, q->seen) == 0 && modified == q->modified)),
            "Reads: %s shows %s=%s (modified %" PRIu64
            ") at store index %" PRIu64 ", which was %s (%" PRIu64 ")",
            h->name, q->path, q->code ? "nothing" : q->seen, q->modified,
            q->etcd_index, value ? value : "nothing", modified);
}

static enum linear_type linear_type(const struct request *q)
{
    static const enum linear_type types[] = {
        [OP_SET] = LINEAR_PUT,         [OP_CREATE] = LINEAR_CREATE,
        [OP_CAS] = LINEAR_CAS,         [OP_CAS_INDEX] = LINEAR_CAS_INDEX,
        [OP_DELETE] = LINEAR_DELETE,   [OP_CAD] = LINEAR_CAD,
        [OP_QUORUM_READ] = LINEAR_READ};

    return types[q->kind];
}

/* Into the history; updates have no type there, and local reads no place:
 * both are left to the checks above. Updates need keys of their own. */
static bool is_for_history(const struct request *q)
{
    return q->kind != OP_READ;
}

static uint64_t number(const char *text)
{
    uint64_t n = 0;

    str_to_u64(str_of(text), &n);
    return n;
}

static void record(const struct client *c, size_t key, const struct request *q,
                   int64_t called, enum net_outcome outcome)
{
    struct linear_op *op;
    bool read = q->kind == OP_QUORUM_READ;

    if (!is_for_history(q) || (read && outcome != NET_ANSWERED))
        return;
    op = clients_operation();
    *op = (struct linear_op){.called = called,
                             .returned = LINEAR_PENDING,
                             .client = (uint32_t)c->n,
                             .key = (uint32_t)key,
                             .type = linear_type(q),
                             .value = number(q->value),
                             .prev = q->kind == OP_CAS_INDEX ? q->prev_index
                                                             : number(q->prev)};
    if (outcome != NET_ANSWERED)
        return;
    op->returned = clients_moment();
    op->ok = read || q->code == 0;
    op->index = q->code ? 0 : q->modified;
    if (read)
        op->value = q->code ? LINEAR_NONE : number(q->seen);
}

/* --- Clients. ----------------------------------------------------------- */

static void one_request(struct client *c)
{
    size_t key = sim_below((uint64_t)sim.p.keys);
    struct host *h = clients_pick();
    raft_index before = sim.acknowledged;
    enum net_outcome outcome;
    struct request q;
    int64_t called;

    if (!h)
        return;
    make_request(c, key, &q);
    if (q.kind == OP_UPDATE) /* none in linear.h: a set that may fail */
        q.kind = OP_SET;
    called = clients_moment();
    TRACE(0, "client %d: %s %s %s by %s", c->n, kind_names[q.kind], q.path,
          q.value, h->name);
    outcome = ask(h, &q, sim_between(SIM_S, 8 * SIM_S));
    TRACE(0, "client %d: %s %s %s by %s: %s %d %s index %" PRIu64 "/%" PRIu64,
          c->n, kind_names[q.kind], q.path, q.value, h->name,
          outcome == NET_ANSWERED  ? "answer"
          : outcome == NET_REFUSED ? "refused"
                                   : "unknown",
          q.code, q.seen, q.modified, q.raft_index);
    if (outcome == NET_REFUSED) {
        sim.count.refused++;
        return;
    }
    record(c, key, &q, called, outcome);
    if (outcome == NET_LOST) {
        sim.count.unknown++;
        return;
    }
    if (q.kind == OP_READ || q.kind == OP_QUORUM_READ) {
        judge_read(h, &q, before);
        sim.count.reads++;
    } else {
        judge_write(h, &q, before);
        sim.acknowledged = max_u64(sim.acknowledged, q.raft_index);
        sim.count.writes++;
    }
    remember(c, key, &q);
}

static void client_main(void *arg)
{
    struct client *c = arg;
    int64_t pause_max = sim_between(10, 200) * SIM_MS;

    while (!stopping) {
        one_request(c);
        sim_sleep(sim_between(0, pause_max));
    }
    running--;
    sim_wake(&ended);
}

/* --- Keys with a TTL, which the history leaves out. --------------------- */

static void one_ttl_request(void)
{
    struct host *h = clients_pick();
    raft_index before = sim.acknowledged;
    enum net_outcome outcome;
    struct request q = {.kind = OP_SET};

    if (!h)
        return;
    snprintf(q.path, sizeof(q.path), "/1/t%d", (int)sim_below(4));
    snprintf(q.value, sizeof(q.value), "%" PRIu64, ++next_value);
    q.ttl = sim_between(1, 8) * SIM_S;
    if (sim_chance(300)) {
        q.kind = OP_UPDATE;
        q.ttl *= (int64_t)sim_below(2);
    }
    outcome = ask(h, &q, sim_between(SIM_S, 8 * SIM_S));
    if (outcome != NET_ANSWERED)
        return;
    judge_write(h, &q, before);
    sim.acknowledged = max_u64(sim.acknowledged, q.raft_index);
}

static void ttl_main(void *arg)
{
    (void)arg;
    while (!stopping) {
        one_ttl_request();
        sim_sleep(sim_between(0, SIM_S));
    }
    running--;
    sim_wake(&ended);
}

/* --- Watchers. ---------------------------------------------------------- */

/* What a watch runs with; it belongs to the member's process, and is leaked
 * with it. */
struct watch {
    struct host *host;
    struct sim_proc *life;
    char path[32];
    bool recursive, stream;
    uint64_t since;
    struct store_watcher *watcher;
    bool over, cleared;
    uint64_t start; /* changes after this index, or from since on */
    int code;
    size_t next; /* in the changes, of the next one expected */
    bool started;
    struct blob **received;
    size_t n_received, n_compared;
    uint64_t told_twice;
};

static bool matches(const struct watch *w, const struct change *c)
{
    const char *path = w->path + 2; /* without /1 */
    size_t n = strlen(path);

    if (strcmp(c->path, path) == 0)
        return true;
    return w->recursive && strncmp(c->path, path, n) == 0 &&
           (c->path[n] == '/' || n <= 1);
}

static void next_match(struct watch *w)
{
    const struct change *list;
    size_t n = check_changes(&list);
    uint64_t from = w->since ? w->since : w->start + 1;

    while (w->next < n &&
           (list[w->next].index < from || !matches(w, &list[w->next])))
        w->next++;
}

static struct str text_of(const struct json *j, const char *name)
{
    return json_text(j ? json_get(j, name) : NULL, "");
}

/* etcd tells the watcher of the very path twice of its end: as one of the path,
 * and as one of something below what was removed (hub.c). */
static bool is_second_telling(struct watch *w, uint64_t index)
{
    const struct change *list, *c;

    check_changes(&list);
    if (!w->stream || w->n_compared < 2 || w->next == 0 ||
        w->told_twice == index)
        return false;
    c = &list[w->next - 1];
    if (c->index != index || c->value || strcmp(c->path, w->path + 2) != 0)
        return false;
    w->told_twice = index;
    return true;
}

static void compare_event(struct watch *w, struct str text)
{
    const struct change *list, *c;
    size_t n = check_changes(&list);
    const struct json *node;
    uint64_t index = 0;
    struct json *j;

    REQUIRE(json_parse(text.p, text.n, &j, NULL) == 0, "an event is no JSON");
    node = json_get(j, "node");
    if (node)
        json_u64(json_get(node, "modifiedIndex"), &index);
    if (is_second_telling(w, index)) {
        json_free(j);
        return;
    }
    next_match(w);
    REQUIRE(w->next < n,
            "Watches: %s tells of index %" PRIu64 ", which never happened, "
            "or again",
            w->host->name, index);
    c = &list[w->next++];
    REQUIRE(index == c->index && str_eqz(text_of(j, "action"), c->action) &&
                str_eqz(text_of(node, "key"), c->path) &&
                str_eqz(text_of(node, "value"), c->value ? c->value : ""),
            "Watches: %s tells of index %" PRIu64 " %.*s %.*s, next is %" PRIu64
            " %s %s",
            w->host->name, index, STR_FMT(text_of(j, "action")),
            STR_FMT(text_of(node, "key")), c->index, c->action, c->path);
    json_free(j);
}

/* Events are compared when the twin has been told of them, for they come from
 * within store_apply(), and when the watch knows where it began. */
static void compare_events(void *arg)
{
    struct watch *w = arg;

    while (w->started && w->n_compared < w->n_received) {
        struct blob *json = w->received[w->n_compared++];

        compare_event(w, blob_str(json));
        blob_unref(json);
    }
}

static bool deliver(void *arg, struct blob *json, int why)
{
    struct watch *w = arg;

    (void)why;
    if (!json) {
        w->over = w->cleared = true;
        return true;
    }
    w->received = xrealloc(w->received, (w->n_received + 1) * sizeof(json));
    w->received[w->n_received++] = blob_ref(json);
    if (!w->stream)
        w->over = true;
    sim_at(sim_now(), compare_events, w);
    return true;
}

struct watch_request {
    struct watch *w;
    uint64_t index; /* the store's when it ended */
};

static void serve_watch(struct server *s, void *body)
{
    struct watch *w = ((struct watch_request *)body)->w;
    struct v2_result r;

    server_v2_watch(s, str_of(w->path), w->recursive, w->stream, w->since,
                    deliver, w, &w->watcher, &r);
    w->code = r.code;
    w->start = r.etcd_index;
    w->started = true;
    v2_result_release(&r);
    compare_events(w);
}

static void serve_unwatch(struct server *s, void *body)
{
    struct watch_request *q = body;
    struct v2_result r;

    if (sim_self() != q->w->life)
        return; /* restarted meanwhile: the watch ended with the process */
    server_v2_get(s, STR("/1"), 0, false, &r);
    q->index = r.etcd_index;
    v2_result_release(&r);
    if (q->w->watcher)
        server_v2_unwatch(s, q->w->watcher, &q->w->over);
    q->w->over = true;
}

/* All matching changes up to index must have come. */
static void judge_watch(struct watch *w, uint64_t index)
{
    const struct change *list;
    size_t n = check_changes(&list);

    next_match(w);
    if (w->next < n && list[w->next].index <= index)
        sim_fail("Watches: %s never told of index %" PRIu64 " %s %s, "
                 "watched from %" PRIu64 " to %" PRIu64,
                 w->host->name, list[w->next].index, list[w->next].action,
                 list[w->next].path, w->since ? w->since : w->start + 1, index);
}

/* With an index that is past, the first event is all (as in etcd). */
static bool is_single(const struct watch *w)
{
    return !w->stream || (w->since && !w->watcher);
}

static void one_watch(void)
{
    struct watch *w = xcalloc(1, sizeof(*w));
    struct watch_request q = {.w = w};
    struct host *h = clients_pick();
    const struct change *list;
    size_t n = check_changes(&list);

    if (!h)
        return;
    w->host = h;
    w->life = h->proc;
    w->recursive = sim_chance(500);
    w->stream = sim_chance(500);
    if (w->recursive)
        snprintf(w->path, sizeof(w->path), sim_chance(500) ? "/1/d" : "/1");
    else
        snprintf(w->path, sizeof(w->path), "/1/k%d", 2 * (int)sim_below(2));
    if (n && sim_chance(300))
        w->since = list[n - 1 - sim_below(min_u64(n, 20))].index;
    if (net_call(NULL, h, serve_watch, &q, sizeof(q), 4 * SIM_S) !=
            NET_ANSWERED ||
        w->code)
        return;
    sim.count.watches++;
    sim_sleep(sim_between(0, 6 * SIM_S));
    if (h->proc != w->life || w->cleared ||
        net_call(NULL, h, serve_unwatch, &q, sizeof(q), 4 * SIM_S) !=
            NET_ANSWERED ||
        h->proc != w->life || w->cleared)
        return;
    sim_sleep(2 * SIM_MS); /* events of this very moment */
    if (is_single(w) && w->n_received) {
        REQUIRE(w->n_received == 1, "Watches: %s tells %zu events for one",
                h->name, w->n_received);
        return;
    }
    judge_watch(w, q.index);
}

static void watcher_main(void *arg)
{
    (void)arg;
    while (!stopping) {
        one_watch();
        sim_sleep(sim_between(0, SIM_S));
    }
    running--;
    sim_wake(&ended);
}

/* --- All of them. ------------------------------------------------------- */

void clients_start(void)
{
    for (int i = 0; i < sim.p.clients; i++) {
        struct client *c = xcalloc(1, sizeof(*c));

        c->n = i + 1;
        running++;
        sim_spawn(NULL, client_main, c);
    }
    running += 3;
    sim_spawn(NULL, ttl_main, NULL);
    sim_spawn(NULL, watcher_main, NULL);
    sim_spawn(NULL, watcher_main, NULL);
}

void clients_stop(void)
{
    stopping = true;
    while (running)
        sim_wait(&ended, SIM_NEVER);
}

void clients_judge(void)
{
    struct linear_result r = linear_check(ops, n_ops, 2000000);

    if (r.ok || r.gave_up)
        return;
    linear_print(ops, n_ops, r.failed_at);
    sim_fail("Linearizability: the history of key %u is impossible", r.key);
}

bool client_write_once(struct host *h)
{
    struct request q = {.kind = OP_SET, .path = "/1/last"};
    raft_index before = sim.acknowledged;

    snprintf(q.value, sizeof(q.value), "%" PRIu64, ++next_value);
    if (ask(h, &q, 8 * SIM_S) != NET_ANSWERED)
        return false;
    judge_write(h, &q, before);
    sim.acknowledged = max_u64(sim.acknowledged, q.raft_index);
    return q.code == 0;
}
