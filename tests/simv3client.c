/*
 * simv3client.c - clients of v3 in a simulated cluster: keys, transactions,
 * compaction, leases, alarms, users, through the calls that the RPC
 * services use; and the judgement of what they were told.
 *
 * ORDER    what was acknowledged before a request began has a lower index of
 *          the log (writes), or is seen (linearizable reads); keys "0/..." go
 *          into the history of linear_check() as well
 * ANSWERS  a write's is that of the twin at its place in the log; a read's is
 *          that of the twin at its header's revision, which never goes back in
 *          one member's life; what compaction has not taken can be read
 * LEASES   live on for their TTL from when a grant or renewal that was
 *          acknowledged was asked for, unless they are revoked; and then end
 */
#include "sim.h"

#include "linear.h"
#include "simtwin.h"

#include <inttypes.h>
#include <stdio.h>

#define ANSWER_BYTES 4000
#define REQUEST_BYTES 1500

static const char *const keys[] = {"a/0", "a/1", "a/2", "a/3", "b/0",
                                   "b/1", "l/0", "l/1", "l/2", "l/3"};
#define REGISTERS 2 /* keys in front of these, for linear_check() */

static uint64_t next_value;
static int64_t compacted_told; /* highest compaction that was acknowledged */
static bool corrupt_ever;
static bool stopping;
static int running;
static struct sim_queue ended;

static void leave(void)
{
    running--;
    sim_wake(&ended);
}

/* --- Writes. ------------------------------------------------------------ */

struct write { /* no pointers: it may outlive its client */
    uint32_t field;
    char bytes[REQUEST_BYTES];
    size_t n;
    int64_t compact; /* up to here; 0: it is none */
    /* the answer: */
    bool applied; /* else nobody knows */
    enum v3_error error;
    uint64_t id;
    int64_t revision, ttl, deleted;
    bool succeeded;
    char text[ANSWER_BYTES];
};

struct pending {
    struct v3_write op;
    bool done;
    struct sim_queue waiting;
};

static void write_done(struct v3_write *op)
{
    struct pending *p = op->arg;

    p->done = true;
    sim_wake(&p->waiting);
}

static void keep_text(char out[ANSWER_BYTES], struct buf *b)
{
    REQUIRE(b->len < ANSWER_BYTES, "an answer of %zu bytes", b->len);
    if (b->len)
        memcpy(out, b->data, b->len);
    out[b->len] = '\0';
    buf_release(b);
}

static void take_result(struct write *w, const struct v3_result *r)
{
    struct buf b = {0};

    w->error = r->error;
    /* A physical compaction may still wait for its end when its server stops:
     * it was applied, but that is not what its client is told. */
    w->applied = r->header.raft_term != 0 && r->error != V3_STOPPED;
    w->revision = r->header.revision;
    if (r->error == V3_OK && r->field == V3_LEASE_GRANT)
        w->ttl = r->u.lease_grant.ttl;
    if (r->error == V3_OK && r->field == V3_TXN)
        w->succeeded = r->u.txn.succeeded;
    if (r->error == V3_OK && r->field == V3_DELETE_RANGE)
        w->deleted = r->u.delete_range.deleted;
    if (w->applied)
        twin_tell_result(&b, r);
    keep_text(w->text, &b);
}

static void serve_write(struct server *s, void *body)
{
    struct pending *p = xcalloc(1, sizeof(*p));
    struct write *w = body;

    p->op.done = write_done;
    p->op.arg = p;
    v3_write(s, w->field, (struct str){w->bytes, w->n}, NULL, &p->op);
    while (!p->done)
        sim_wait(&p->waiting, SIM_NEVER);
    w->id = p->op.waiter.id;
    take_result(w, &p->op.result);
    v3_result_release(&p->op.result);
    free(p);
}

static void encode(struct write *w, uint32_t field, const void *msg)
{
    const struct msg_field *f =
        msg_field(&rpcpb_internal_raft_request_desc, field);
    struct buf b = {0};

    msg_encode(f->message, msg, &b);
    REQUIRE(b.len <= sizeof(w->bytes), "a request of %zu bytes", b.len);
    *w = (struct write){.field = field, .n = b.len};
    if (b.len)
        memcpy(w->bytes, b.data, b.len);
    buf_release(&b);
}

static void judge_write(const struct host *h, const struct write *w,
                        raft_index before)
{
    raft_index index = 0;
    const char *answer = "";

    REQUIRE(check_v3_answer(w->id, &index, &answer),
            "%s answers a v3 request that was never applied", h->name);
    REQUIRE(index > before,
            "Order: %s answers a v3 request with index %" PRIu64
            ", but %" PRIu64 " was acknowledged before it began",
            h->name, index, before);
    REQUIRE(strcmp(answer, w->text) == 0,
            "%s answers \"%s\" to a v3 request; what was applied said \"%s\"",
            h->name, w->text, answer);
    sim.acknowledged = max_u64(sim.acknowledged, index);
}

/* True: it was applied. */
static bool ask(struct write *w)
{
    struct host *h = clients_pick();
    raft_index before = sim.acknowledged;
    enum net_outcome o;

    if (!h) {
        sim_sleep(100 * SIM_MS);
        return false;
    }
    TRACE(0, "v3: field %" PRIu32 " by %s", w->field, h->name);
    o = net_call(NULL, h, serve_write, w, sizeof(*w),
                 sim_between(SIM_S, 8 * SIM_S));
    if (o != NET_ANSWERED || !w->applied) {
        sim.count.v3_unknown += o != NET_REFUSED;
        return false;
    }
    TRACE(0, "v3: field %" PRIu32 " by %s: %s", w->field, h->name, w->text);
    judge_write(h, w, before);
    sim.count.v3_writes++;
    return true;
}

/* --- Leases. ------------------------------------------------------------ */

struct held { /* a lease, as its client sees it */
    int64_t id, ttl;
    int64_t until; /* it was promised to live so long */
    bool revoked;  /* its client asked for it */
    bool gone;
};

#define LEASES_MAX 256

static struct held leases[LEASES_MAX];
static size_t n_leases;

/* Of one that may be there; 0: none. */
static int64_t some_lease(void)
{
    for (int tries = 0; n_leases && tries < 4; tries++) {
        const struct held *l =
            &leases[n_leases - 1 - sim_below(min_u64(n_leases, 4))];

        if (!l->gone)
            return l->id;
    }
    return 0;
}

void v3clients_revoked(const struct host *h, struct str bytes)
{
    struct rpcpb_lease_revoke_request r;
    struct arena arena = {.limit = 4096};

    msg_decode(&rpcpb_lease_revoke_request_desc, bytes.p, bytes.n, &arena, &r);
    arena_release(&arena);
    for (size_t i = 0; i < n_leases; i++) {
        struct held *l = &leases[i];

        if (l->id != r.ID)
            continue;
        l->gone = true;
        if (l->revoked)
            return;
        sim.count.v3_expired++;
        TRACE(h->n, "lease %" PRId64 " has run out", l->id);
        REQUIRE(sim_now() + SIM_MS >= l->until,
                "Leases: %s lets %" PRId64 " run out %d ms early", h->name,
                l->id, (int)((l->until - sim_now()) / SIM_MS));
        return;
    }
}

struct renewal {
    int64_t id, ttl;
    enum v3_error error;
};

static void serve_renew(struct server *s, void *body)
{
    struct renewal *r = body;

    r->error = v3_lease_renew(s, r->id, &r->ttl);
}

/* One that takes itself for the leader, rightly or not. */
static struct host *some_leader(void)
{
    struct host *leaders[HOSTS_MAX];
    size_t n = 0;

    for (int i = 1; i <= HOSTS_MAX; i++)
        if (sim.hosts[i].state == HOST_READY &&
            sim.hosts[i].server->role == RAFT_LEADER)
            leaders[n++] = &sim.hosts[i];
    return n ? leaders[sim_below(n)] : NULL;
}

static void renew(struct held *l)
{
    struct host *h = sim_chance(500) ? some_leader() : clients_pick();
    struct renewal r = {.id = l->id};
    int64_t sent = sim_now();

    if (!h ||
        net_call(NULL, h, serve_renew, &r, sizeof(r), 8 * SIM_S) !=
            NET_ANSWERED ||
        r.error != V3_OK)
        return;
    TRACE(0, "v3: lease %" PRId64 " renewed by %s: %" PRId64, l->id, h->name,
          r.ttl);
    if (r.ttl == 0) {
        REQUIRE(l->revoked || sim_now() + SIM_MS >= l->until,
                "Leases: %s does not know %" PRId64 ", promised for %d ms more",
                h->name, l->id, (int)((l->until - sim_now()) / SIM_MS));
        return;
    }
    sim.count.v3_renewed++;
    REQUIRE(l->ttl == 0 || r.ttl == l->ttl,
            "Leases: %s renews %" PRId64 " for %" PRId64 " s, not %" PRId64,
            h->name, l->id, r.ttl, l->ttl);
    l->until =
        sent + r.ttl * SIM_S > l->until ? sent + r.ttl * SIM_S : l->until;
}

static void grant(struct held *l)
{
    struct rpcpb_lease_grant_request r = {.ID = l->id,
                                          .TTL = sim_between(1, 6)};
    struct write *w = xcalloc(1, sizeof(*w));
    int64_t sent = sim_now();

    encode(w, V3_LEASE_GRANT, &r);
    if (ask(w) && w->error == V3_OK) {
        l->ttl = w->ttl;
        l->until = sent + w->ttl * SIM_S;
        sim.count.v3_leases++;
    }
    free(w);
}

static void revoke(struct held *l)
{
    struct rpcpb_lease_revoke_request r = {.ID = l->id};
    struct write *w = xcalloc(1, sizeof(*w));

    l->revoked = true;
    encode(w, V3_LEASE_REVOKE, &r);
    ask(w);
    free(w);
}

static void put_on(int64_t lease)
{
    struct rpcpb_put_request r = {.key = str_of(keys[6 + sim_below(4)]),
                                  .value = STR("leased"),
                                  .lease = lease};
    struct write *w = xcalloc(1, sizeof(*w));

    encode(w, V3_PUT, &r);
    ask(w);
    free(w);
}

static void one_lease(void)
{
    struct held *l = &leases[n_leases];
    int renewals = (int)sim_between(0, 10);

    if (n_leases == LEASES_MAX)
        return;
    l->id = (int64_t)(1000 + ++n_leases);
    grant(l);
    put_on(l->id);
    for (int i = 0; i < renewals && !l->gone && !stopping; i++) {
        sim_sleep(sim_between(50 * SIM_MS, 1500 * SIM_MS));
        renew(l);
    }
    if (sim_chance(400) && !l->gone)
        revoke(l);
}

static void lease_main(void *arg)
{
    (void)arg;
    while (!stopping) {
        one_lease();
        sim_sleep(sim_between(0, 2 * SIM_S));
    }
    leave();
}

/* --- Keys: what is asked. ----------------------------------------------- */

struct str v3clients_key(void)
{
    return str_of(keys[sim_below(ARRAY_LEN(keys))]);
}

struct str v3clients_end(void)
{
    static const struct str ends[] = {{"", 0},   {"", 0},    {"a0", 2},
                                      {"b0", 2}, {"b/1", 3}, {"\0", 1}};

    return ends[sim_below(ARRAY_LEN(ends))];
}

size_t v3clients_copy_key(char out[8], struct str s)
{
    memcpy(out, s.p, s.n);
    return s.n;
}

/* Good until the request is encoded. */
static struct str new_value(void)
{
    static char text[8][24];
    char *at = text[++next_value % 8];

    snprintf(at, sizeof(text[0]), "%" PRIu64, next_value);
    return str_of(at);
}

static struct rpcpb_put_request some_put(struct str key)
{
    struct rpcpb_put_request r = {.key = key, .prev_kv = sim_chance(500)};

    r.ignore_value = sim_chance(50);
    r.ignore_lease = sim_chance(50);
    if (!r.ignore_value)
        r.value = new_value();
    if (!r.ignore_lease && sim_chance(300))
        r.lease = some_lease();
    return r;
}

static void make_put(struct write *w)
{
    struct rpcpb_put_request r = some_put(v3clients_key());

    encode(w, V3_PUT, &r);
}

static void make_delete(struct write *w)
{
    struct rpcpb_delete_range_request r = {.key = v3clients_key(),
                                           .prev_kv = sim_chance(500)};

    if (sim_chance(300))
        r.range_end = v3clients_end();
    encode(w, V3_DELETE_RANGE, &r);
}

static void make_compaction(struct write *w)
{
    int64_t now = twin_revision(), back = sim_between(-1, 30);
    struct rpcpb_compaction_request r = {
        .revision = now > back ? now - back : now, .physical = sim_chance(500)};

    encode(w, V3_COMPACTION, &r);
    w->compact = r.revision;
}

/* The parts of one transaction; static, for it is encoded at once. */
static struct {
    struct rpcpb_request_op ops[64];
    struct rpcpb_compare compares[32];
    struct rpcpb_put_request puts[64];
    struct rpcpb_delete_range_request deletes[64];
    struct rpcpb_range_request ranges[64];
    struct rpcpb_txn_request txns[16];
    int64_t numbers[32];
    struct str values[32];
    size_t n_ops, n_compares, n_txns;
    size_t order[ARRAY_LEN(keys)], next_key;
} parts;

/* No key may be written twice in one transaction. */
static void shuffle_keys(void)
{
    parts.next_key = 0;
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        size_t j = sim_below(i + 1);

        parts.order[i] = parts.order[j];
        parts.order[j] = i;
    }
}

/* Half of them are likely to hold. */
static struct rpcpb_compare some_compare(void)
{
    size_t i = parts.n_compares++;
    struct rpcpb_compare c = {.key = v3clients_key(),
                              .target = (int)sim_below(5),
                              .result = (int)sim_below(4)};
    const struct twin_version *v = twin_at(c.key, INT64_MAX);
    bool likely = v && sim_chance(700);

    if (sim_chance(200))
        c.range_end = v3clients_end();
    parts.values[i] = likely ? v->value : STR("1");
    parts.numbers[i] = !likely                                ? 0
                       : c.target == RPCPB_COMPARE_TO_VERSION ? v->version
                       : c.target == RPCPB_COMPARE_TO_CREATE  ? v->create
                       : c.target == RPCPB_COMPARE_TO_MOD     ? v->main
                                                              : v->lease;
    if (c.target == RPCPB_COMPARE_TO_VALUE)
        c.value = &parts.values[i];
    else if (c.target == RPCPB_COMPARE_TO_VERSION)
        c.version = &parts.numbers[i];
    else if (c.target == RPCPB_COMPARE_TO_CREATE)
        c.create_revision = &parts.numbers[i];
    else if (c.target == RPCPB_COMPARE_TO_MOD)
        c.mod_revision = &parts.numbers[i];
    else
        c.lease = &parts.numbers[i];
    return c;
}

static void fill_txn(struct rpcpb_txn_request *t, int depth);

static void fill_op(struct rpcpb_request_op *op, size_t i, int depth)
{
    unsigned kind = (unsigned)sim_below(depth ? 9 : 6);

    if (kind < 3 && parts.next_key < ARRAY_LEN(keys)) {
        parts.puts[i] = some_put(str_of(keys[parts.order[parts.next_key++]]));
        op->request_put = &parts.puts[i];
    } else if (kind == 3 && parts.next_key < ARRAY_LEN(keys)) {
        parts.deletes[i] = (struct rpcpb_delete_range_request){
            .key = str_of(keys[parts.order[parts.next_key++]]),
            .prev_kv = sim_chance(500)};
        op->request_delete_range = &parts.deletes[i];
    } else if (kind > 5 && parts.n_txns < ARRAY_LEN(parts.txns)) {
        op->request_txn = &parts.txns[parts.n_txns++];
        fill_txn(op->request_txn, depth - 1);
    } else {
        parts.ranges[i] = (struct rpcpb_range_request){
            .key = v3clients_key(), .range_end = v3clients_end()};
        op->request_range = &parts.ranges[i];
    }
}

/* The two branches write different keys, as their likes within must. */
static void fill_branch(struct rpcpb_request_op **items, size_t *n, int depth)
{
    size_t from = parts.n_ops, count = sim_below(4);

    parts.n_ops += count;
    *items = parts.ops + from;
    *n = count;
    for (size_t i = 0; i < count; i++) {
        parts.ops[from + i] = (struct rpcpb_request_op){.request_put = NULL};
        fill_op(&parts.ops[from + i], from + i, depth);
    }
}

static void fill_txn(struct rpcpb_txn_request *t, int depth)
{
    size_t n = sim_below(3);

    *t = (struct rpcpb_txn_request){0};
    t->compare.items = parts.compares + parts.n_compares;
    t->compare.n = n;
    for (size_t i = 0; i < n; i++)
        t->compare.items[i] = some_compare();
    fill_branch(&t->success.items, &t->success.n, depth);
    fill_branch(&t->failure.items, &t->failure.n, depth);
}

static void make_txn(struct write *w)
{
    struct rpcpb_txn_request t;

    parts.n_ops = parts.n_compares = parts.n_txns = 0;
    shuffle_keys();
    fill_txn(&t, 1);
    encode(w, V3_TXN, &t);
}

/* Names that are there already are refused: that has to be equal, too. */
static void make_auth(struct write *w)
{
    struct rpcpb_user_add_options options = {.no_password = true};
    struct rpcpb_permission perm = {.permType = (int)sim_below(3),
                                    .key = v3clients_key(),
                                    .range_end = v3clients_end()};
    char name[8];

    snprintf(name, sizeof(name), "n%d", (int)sim_below(3));
    if (sim_chance(300)) {
        struct rpcpb_auth_user_add_request r = {.name = str_of(name),
                                                .options = &options};
        encode(w, V3_USER_ADD, &r);
    } else if (sim_chance(300)) {
        struct rpcpb_auth_role_add_request r = {.name = str_of(name)};
        encode(w, V3_ROLE_ADD, &r);
    } else if (sim_chance(500)) {
        struct rpcpb_auth_user_grant_role_request r = {.user = str_of(name),
                                                       .role = str_of(name)};
        encode(w, V3_USER_GRANT_ROLE, &r);
    } else {
        struct rpcpb_auth_role_grant_permission_request r = {
            .name = str_of(name), .perm = &perm};
        encode(w, V3_ROLE_GRANT_PERMISSION, &r);
    }
}

/* --- Reads. ------------------------------------------------------------- */

struct read {
    char key[8], end[8];
    size_t n_key, n_end;
    int64_t limit, revision;
    bool count_only, serializable;
    bool steps; /* as large answers come */
    /* the answer: */
    enum v3_error error;
    int64_t view;
    char text[ANSWER_BYTES];
};

static struct mvcc_range range_of(const struct read *r)
{
    return (struct mvcc_range){.key = {r->key, r->n_key},
                               .range_end = {r->end, r->n_end},
                               .limit = r->limit,
                               .revision = r->revision,
                               .count_only = r->count_only};
}

/* With pauses, in which everything may change. */
static void read_steps(struct server *s, const struct mvcc_range *range,
                       struct read *r)
{
    struct mvcc_kv *kvs[ARRAY_LEN(keys) + REGISTERS];
    struct mvcc_range_result all = {.kvs = kvs};
    struct mvcc_read read;
    struct v3_header h;
    struct buf b = {0};

    r->error = v3_read_open(s, NULL, range, &read, &h);
    r->view = h.revision;
    if (r->error != V3_OK)
        return;
    while (!read.done) {
        all.n += v3_read_next(s, &read, kvs + all.n,
                              min_u64(2, ARRAY_LEN(kvs) - all.n));
        if (sim_chance(500))
            sim_sleep(sim_between(0, sim_chance(100) ? SIM_S : 20 * SIM_MS));
    }
    all.count = read.count;
    all.more = read.more;
    twin_tell_range(&b, read.revision, &all);
    keep_text(r->text, &b);
    v3_read_close(s, &read);
    for (size_t i = 0; i < all.n; i++)
        mvcc_unref(kvs[i]);
}

static void serve_read(struct server *s, void *body)
{
    struct read *r = body;
    const struct mvcc_range range = range_of(r);
    struct mvcc_range_result out;
    struct v3_header h;
    struct buf b = {0};

    r->error = r->serializable ? V3_OK : v3_read_index_wait(s);
    if (r->error != V3_OK) {
        r->view = 0;
        return;
    }
    if (r->steps) {
        read_steps(s, &range, r);
        return;
    }
    r->error = v3_range(s, NULL, &range, &out, &h);
    r->view = h.revision;
    if (r->error != V3_OK)
        return;
    twin_tell_range(&b, h.revision, &out);
    keep_text(r->text, &b);
    mvcc_range_release(&out);
}

/* The same through the list of those who do not wait (reads.c). */
struct index_read {
    struct v3_read op;
    struct sim_queue waiting;
    bool done;
};

static void index_done(struct v3_read *op)
{
    struct index_read *r = op->arg;

    r->done = true;
    sim_wake(&r->waiting);
}

static void serve_read_async(struct server *s, void *body)
{
    struct index_read *x = xcalloc(1, sizeof(*x));
    struct read *r = body;

    x->op.done = index_done;
    x->op.arg = x;
    v3_read_index(s, &x->op, 0);
    while (!x->done)
        sim_wait(&x->waiting, SIM_NEVER);
    r->error = x->op.error;
    free(x);
    if (r->error != V3_OK)
        return;
    r->serializable = true; /* now it may be */
    serve_read(s, body);
    r->serializable = false;
}

static void judge_refusal(const struct host *h, const struct read *r)
{
    if (r->error == V3_COMPACTED)
        REQUIRE(r->revision > 0 && r->revision < twin_compacted(),
                "Reads: %s says that revision %" PRId64
                " is compacted, but %" PRId64 " is",
                h->name, r->revision, twin_compacted());
    else if (r->error == V3_FUTURE_REV)
        REQUIRE(r->revision > r->view,
                "Reads: %s, at %" PRId64 ", says that %" PRId64 " is to come",
                h->name, r->view, r->revision);
    else
        REQUIRE(r->error == V3_CORRUPT && corrupt_ever,
                "Reads: %s answers error %d", h->name, (int)r->error);
}

static void judge_read(const struct host *h, const struct read *r,
                       int64_t at_least, int64_t compacted)
{
    const struct rpcpb_range_request q = {.key = {r->key, r->n_key},
                                          .range_end = {r->end, r->n_end},
                                          .limit = r->limit,
                                          .revision = r->revision,
                                          .count_only = r->count_only};
    struct buf want = {0};

    REQUIRE(r->view >= at_least,
            "Order: %s answers a %s read at revision %" PRId64 ", but %" PRId64
            " was acknowledged before it began",
            h->name, r->serializable ? "serializable" : "linearizable", r->view,
            at_least);
    REQUIRE(r->view <= twin_revision(), "Reads: %s is at a revision to come",
            h->name);
    if (r->error != V3_OK) {
        judge_refusal(h, r);
        return;
    }
    REQUIRE(r->serializable || r->revision == 0 || r->revision >= compacted,
            "Reads: %s still reads revision %" PRId64 ", compacted at %" PRId64,
            h->name, r->revision, compacted);
    twin_read(&want, &q, r->view);
    REQUIRE(str_eqz(buf_str(&want), r->text),
            "Reads: %s shows \"%s\", the twin \"%.*s\"", h->name, r->text,
            STR_FMT(buf_str(&want)));
    buf_release(&want);
}

/* Judged, unless nobody knows. */
static bool ask_read(struct read *r)
{
    struct host *h = clients_pick();
    int64_t told = check_v3_revision(sim.acknowledged), at_least;
    int64_t compacted = compacted_told;
    struct sim_proc *life;

    if (!h)
        return false;
    life = h->proc;
    at_least = r->serializable ? h->check.v3_seen : told;
    if (net_call(
            NULL, h,
            !r->serializable && sim_chance(500) ? serve_read_async : serve_read,
            r, sizeof(*r), sim_between(SIM_S, 8 * SIM_S)) != NET_ANSWERED ||
        r->view == 0)
        return false;
    TRACE(0, "v3: %s read by %s: %d at %" PRId64 " %s",
          r->serializable ? "serializable" : "linearizable", h->name,
          (int)r->error, r->view, r->error ? "" : r->text);
    judge_read(h, r, h->proc == life || !r->serializable ? at_least : 0,
               compacted);
    if (h->proc == life && r->view > h->check.v3_seen)
        h->check.v3_seen = r->view;
    sim.count.v3_reads++;
    return true;
}

static void one_read(void)
{
    struct read *r = xcalloc(1, sizeof(*r));

    r->n_key = v3clients_copy_key(r->key, v3clients_key());
    r->n_end = v3clients_copy_key(r->end, v3clients_end());
    r->limit = sim_chance(200) ? sim_between(1, 4) : 0;
    r->count_only = sim_chance(100);
    r->serializable = sim_chance(300);
    r->steps = sim_chance(300);
    if (sim_chance(300)) {
        r->revision = twin_revision() - sim_between(-1, 30);
        r->revision = r->revision > 0 ? r->revision : 1;
    }
    ask_read(r);
    free(r);
}

/* --- Registers: for linear_check(), which knows of no revisions. -------- */

static struct linear_op *record(uint32_t key, enum linear_type type,
                                uint64_t value, uint64_t prev)
{
    struct linear_op *op = clients_operation();

    *op = (struct linear_op){.called = clients_moment(),
                             .returned = LINEAR_PENDING,
                             .client = 1000,
                             .key = 1000 + key,
                             .type = type,
                             .value = value,
                             .prev = prev};
    return op;
}

static void record_answer(struct linear_op *op, bool ok, int64_t index)
{
    op->returned = clients_moment();
    op->ok = ok;
    op->index = ok ? (uint64_t)index : 0;
}

/* A read that nobody answered does not belong into the history. */
static void read_register(uint32_t k, struct str key)
{
    struct read *r = xcalloc(1, sizeof(*r));
    int64_t called = clients_moment();
    struct linear_op *op;
    uint64_t value = LINEAR_NONE;
    const char *equals;

    r->n_key = v3clients_copy_key(r->key, key);
    if (ask_read(r) && r->error == V3_OK) {
        equals = strchr(r->text, '=');
        if (equals)
            value = strtoull(equals + 1, NULL, 10);
        op = record(k, LINEAR_READ, value, 0);
        op->called = called;
        record_answer(op, true, 0);
    }
    free(r);
}

static void put_register(uint32_t k, struct str key)
{
    struct rpcpb_put_request r = {.key = key, .value = new_value()};
    struct write *w = xcalloc(1, sizeof(*w));
    struct linear_op *op = record(k, LINEAR_PUT, next_value, 0);

    encode(w, V3_PUT, &r);
    if (ask(w) && w->error == V3_OK)
        record_answer(op, true, w->revision);
    free(w);
}

static void delete_register(uint32_t k, struct str key)
{
    struct rpcpb_delete_range_request r = {.key = key};
    struct write *w = xcalloc(1, sizeof(*w));
    struct linear_op *op = record(k, LINEAR_DELETE, 0, 0);

    encode(w, V3_DELETE_RANGE, &r);
    if (ask(w) && w->error == V3_OK)
        record_answer(op, w->deleted > 0, w->revision);
    free(w);
}

static void swap_register(uint32_t k, struct str key)
{
    const struct twin_version *v = twin_at(key, INT64_MAX);
    struct str prev = v ? v->value : STR("1");
    struct rpcpb_compare c = {
        .target = RPCPB_COMPARE_TO_VALUE, .key = key, .value = &prev};
    struct rpcpb_put_request put = {.key = key, .value = new_value()};
    struct rpcpb_request_op op = {.request_put = &put};
    struct rpcpb_txn_request t = {0};
    struct write *w = xcalloc(1, sizeof(*w));
    uint64_t number = 0;
    struct linear_op *entry;

    str_to_u64(prev, &number);
    entry = record(k, LINEAR_CAS, next_value, number);
    t.compare.items = &c;
    t.compare.n = 1;
    t.success.items = &op;
    t.success.n = 1;
    encode(w, V3_TXN, &t);
    if (ask(w) && w->error == V3_OK)
        record_answer(entry, w->succeeded, w->revision);
    free(w);
}

/* An alarm keeps a write from being done; the history would not know. */
static void one_register(void)
{
    static void (*const kinds[])(uint32_t k, struct str key) = {
        read_register,   read_register, put_register,
        delete_register, swap_register, swap_register};
    static const char *const names[REGISTERS] = {"0/0", "0/1"};
    uint32_t k = (uint32_t)sim_below(REGISTERS);

    kinds[sim_below(ARRAY_LEN(kinds))](k, str_of(names[k]));
}

/* --- Clients. ----------------------------------------------------------- */

static void one_write(void)
{
    static void (*const kinds[])(struct write * w) = {
        make_put, make_put,    make_put, make_put, make_txn,
        make_txn, make_delete, make_txn, make_txn, make_auth};
    struct write *w = xcalloc(1, sizeof(*w));

    if (sim_chance(60))
        make_compaction(w);
    else
        kinds[sim_below(ARRAY_LEN(kinds))](w);
    if (ask(w) && w->compact && w->error == V3_OK) {
        sim.count.v3_compacted++;
        if (w->compact > compacted_told)
            compacted_told = w->compact;
    }
    free(w);
}

static void client_main(void *arg)
{
    int64_t pause_max = sim_between(20, 400) * SIM_MS;

    (void)arg;
    while (!stopping) {
        if (sim_chance(300))
            one_register();
        else if (sim_chance(500))
            one_read();
        else
            one_write();
        sim_sleep(sim_between(0, pause_max));
    }
    leave();
}

/* --- Alarms. ------------------------------------------------------------ */

static bool ask_alarm(int action, uint64_t member, int kind)
{
    struct rpcpb_alarm_request r = {
        .action = action, .memberID = member, .alarm = kind};
    struct write *w = xcalloc(1, sizeof(*w));
    bool ok;

    encode(w, V3_ALARM, &r);
    ok = ask(w);
    free(w);
    return ok;
}

/* Raised for a moment; it is cleared for sure. */
static void alarm_main(void *arg)
{
    (void)arg;
    while (!stopping) {
        int kind = sim_chance(300) ? V3_ALARM_CORRUPT : V3_ALARM_NOSPACE;
        uint64_t member = sim_below(3) + 1;

        sim_sleep(sim_between(0, 10 * SIM_S));
        corrupt_ever |= kind == V3_ALARM_CORRUPT;
        ask_alarm(RPCPB_ALARM_DO_ACTIVATE, member, kind);
        sim_sleep(sim_between(0, SIM_S));
        while (!ask_alarm(RPCPB_ALARM_DO_DEACTIVATE, member, kind))
            sim_sleep(200 * SIM_MS);
    }
    leave();
}

/* --- All of them. ------------------------------------------------------- */

static void spawn(sim_fn *fn)
{
    running++;
    sim_spawn(NULL, fn, NULL);
}

void v3clients_start(void)
{
    int n = (int)sim_between(1, 3);

    for (int i = 0; i < n; i++)
        spawn(client_main);
    v3watch_start();
    spawn(lease_main);
    spawn(lease_main);
    if (sim_chance(200))
        spawn(alarm_main);
}

void v3clients_stop(void)
{
    stopping = true;
    while (running)
        sim_wait(&ended, SIM_NEVER);
}

#define SETTLE_TIME (30 * SIM_S)

static void settle_members(int64_t deadline)
{
    raft_index index = check_last_committed();

    for (int i = 1; i <= HOSTS_MAX; i++) {
        struct host *h = &sim.hosts[i];

        while (h->in_use && h->server->v3->index < index) {
            REQUIRE(sim_now() < deadline, "Progress: %s does not apply all",
                    h->name);
            sim_sleep(20 * SIM_MS);
        }
        if (h->in_use)
            check_v3_applied(h, index, true);
    }
}

/* A request to raise one, long given up, may have come last. */
static void clear_alarms(void)
{
    const struct v3_alarm *a;

    if (twin_alarms(&a))
        ask_alarm(RPCPB_ALARM_DO_DEACTIVATE, a->member_id, a->alarm);
}

void v3clients_settle(void)
{
    int64_t deadline = sim_now() + SETTLE_TIME;
    const struct twin_lease *left;

    while (twin_leases(&left)) {
        clear_alarms();
        REQUIRE(sim_now() < deadline,
                "Progress: lease %" PRId64 " of %" PRId64
                " s does not end, though nobody renews it",
                left->id, left->ttl);
        sim_sleep(100 * SIM_MS);
    }
    settle_members(deadline);
    v3watch_settle(deadline + SETTLE_TIME);
}
