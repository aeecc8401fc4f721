/*
 * v3maint.c - the Maintenance service (spec: v3-api, 6), and grpc.health.v1.
 */
#include "config.h"
#include "grpc.h"
#include "hash.h"
#include "metrics.h"
#include "rpc.h"
#include "sys.h"

#include <inttypes.h>
#include <stdio.h>

#define MOVE_MS_EXTRA 1000

/* --- Alarms. Answers have no header, as in etcd up to 3.5. ------------------------ */

static void reply_alarms(struct rpc_call *c, const struct v3_alarm *alarms,
                         size_t n)
{
    struct rpcpb_alarm_response r = {0};

    r.alarms.items = xcalloc(n, sizeof(*r.alarms.items));
    r.alarms.n = n;
    for (size_t i = 0; i < n; i++)
        r.alarms.items[i] = (struct rpcpb_alarm_member){
            .memberID = alarms[i].member_id, .alarm = alarms[i].alarm};
    rpc_reply(c, &r);
    free(r.alarms.items);
}

static void answer_alarm(struct rpc_call *c, const struct v3_result *r)
{
    reply_alarms(c, r->u.alarm.alarms, r->u.alarm.n);
}

/* It waits: on a thread of its own. */
static void list_alarms(struct rpc_call *c)
{
    const struct rpcpb_alarm_request *req = c->request;
    enum v3_error e = v3_read_index_wait(c->server);
    struct v3_alarm *alarms;
    struct v3_header h;
    size_t n;

    if (e) {
        rpc_fail_unread(c, e);
        return;
    }
    n = v3_alarms(c->server, req->alarm, &alarms, &h);
    reply_alarms(c, alarms, n);
    free(alarms);
}

void v3maint_alarm(struct rpc_call *c)
{
    const struct rpcpb_alarm_request *req = c->request;
    enum v3_error e;

    if (req->action != RPCPB_ALARM_DO_GET) {
        e = server_config(c->server)->strict_auth
                ? v3_is_admin(c->server, &c->who)
                : V3_OK;
        if (e)
            rpc_fail_error(c, e);
        else
            rpc_propose(c, V3_ALARM, c->request_bytes, answer_alarm);
        return;
    }
    if (!rpc_block(c, list_alarms))
        rpc_fail_error(c, V3_REQUEST_TOO_MANY_REQUESTS);
}

/* --- Status. --------------------------------------------------------------------------- */

static const char *alarm_name(int alarm)
{
    return alarm == RPCPB_ALARM_NOSPACE ? "NOSPACE" : "CORRUPT";
}

/* As protobuf's text format has it, which leaves out what is zero. */
static void add_alarm(struct buf *b, const struct v3_alarm *a)
{
    if (a->member_id)
        buf_printf(b, "memberID:%" PRIu64 " ", a->member_id);
    if (a->alarm != RPCPB_ALARM_NONE)
        buf_printf(b, "alarm:%s ", alarm_name(a->alarm));
}

/* What is wrong, in etcd's words; in the arena. */
static void list_errors(struct rpc_call *c, const struct v3_status *st,
                        bool leader, struct rpcpb_status_response *r)
{
    struct str *out = arena_alloc(&c->arena, (st->n_alarms + 1) * sizeof(*out));
    size_t n = 0;

    if (!out)
        return;
    if (!leader)
        out[n++] = STR("etcdserver: no leader");
    for (size_t i = 0; i < st->n_alarms; i++) {
        struct buf text = {0};

        add_alarm(&text, &st->alarms[i]);
        arena_str(&c->arena, buf_str(&text), &out[n++]);
        buf_release(&text);
    }
    r->errors.items = out;
    r->errors.n = n;
}

void v3maint_status(struct rpc_call *c)
{
    struct rpcpb_status_response r = {.version = STR(ETCD_VERSION)};
    struct server_status server;
    struct v3_status st;
    struct member me;

    server_status(c->server, &server);
    v3_status(c->server, &st);
    r.header = rpc_header(c, v3_header(c->server));
    r.dbSize = (int64_t)st.db_size;
    r.dbSizeInUse = (int64_t)st.db_size_in_use;
    r.leader = server.raft.leader;
    r.raftIndex = server.raft.commit;
    r.raftTerm = server.raft.term;
    r.raftAppliedIndex = server.raft.applied;
    if (cluster_member(server_cluster(c->server), server_id(c->server), &me)) {
        r.isLearner = me.is_learner;
        member_release(&me);
    }
    list_errors(c, &st, r.leader != 0, &r);
    rpc_reply(c, &r);
    v3_status_release(&st);
}

/* --- Hash, Defragment. ------------------------------------------------------------------ */

void v3maint_hash(struct rpc_call *c)
{
    struct rpcpb_hash_response r = {0};
    struct v3_header h;
    enum v3_error e = v3_hash(c->server, &r.hash, &h);

    if (e) {
        rpc_fail_error(c, e);
        return;
    }
    metric_observe_ns(H_HASH, sys_mono_ns() - c->began_ns);
    r.header = rpc_header(c, h);
    rpc_reply(c, &r);
}

void v3maint_hash_kv(struct rpc_call *c)
{
    const struct rpcpb_hash_kv_request *req = c->request;
    struct rpcpb_hash_kv_response r = {0};
    struct v3_header h;
    enum v3_error e =
        v3_hash_kv(c->server, req->revision, &r.hash, &r.compact_revision, &h);

    /* Here etcd refuses the compacted revision itself, too. */
    if (e == V3_OK && req->revision > 0 && req->revision <= r.compact_revision)
        e = V3_COMPACTED;
    if (e) {
        rpc_fail_error(c, e);
        return;
    }
    metric_observe_ns(H_HASH_KV, sys_mono_ns() - c->began_ns);
    r.header = rpc_header(c, h);
    rpc_reply(c, &r);
}

/* There are no holes in memory, and each checkpoint writes its file anew. */
void v3maint_defragment(struct rpc_call *c)
{
    struct rpcpb_defragment_response r = {0};

    metric_observe_ns(H_DEFRAG, sys_mono_ns() - c->began_ns);
    rpc_reply(c, &r);
}

/* --- Snapshot: the image, then its SHA-256 as the last message. ------------------------- */

/* Without a header, as etcd has it. */
static bool send_piece(struct rpc_call *c, uint64_t left, struct str piece)
{
    struct rpcpb_snapshot_response r = {.remaining_bytes = left, .blob = piece};

    return rpc_send_wait(c, &r);
}

/* 0: all was sent; 1: the client is gone; -1 and e. */
static int send_image(struct rpc_call *c, struct v3_snapshot *sn, uint64_t left,
                      struct hash *sum, struct err *e)
{
    struct str piece;
    int rc;

    while ((rc = v3_snapshot_next(sn, &piece, e)) > 0) {
        hash_update(sum, piece.p, piece.n);
        left -= piece.n;
        if (!send_piece(c, left, piece))
            return 1;
    }
    return rc;
}

void v3maint_snapshot(struct rpc_call *c)
{
    struct err e = {0};
    uint64_t size;
    struct v3_snapshot *sn = v3_snapshot_open(c->server, &size, &e);
    uint8_t digest[SHA256_SIZE];
    struct hash sum;
    int rc = -1;

    hash_init(&sum, HASH_SHA256);
    if (sn) {
        rc = send_image(c, sn, size, &sum, &e);
        v3_snapshot_close(sn);
        metric_observe_ns(H_SNAPSHOT_SENT, sys_mono_ns() - c->began_ns);
    }
    hash_final(&sum, digest);
    if (rc == 0)
        send_piece(c, 0, (struct str){(const char *)digest, sizeof(digest)});
    if (rc < 0)
        rpc_fail(c, GRPC_UNKNOWN, e.msg);
    else
        rpc_finish(c);
}

/* --- MoveLeader, Downgrade. ---------------------------------------------------------------- */

static bool is_voter(struct rpc_call *c, uint64_t id)
{
    struct member m;
    bool voter = cluster_member(server_cluster(c->server), id, &m);

    if (voter) {
        voter = !m.is_learner;
        member_release(&m);
    }
    return voter;
}

static enum v3_error move_leader(struct rpc_call *c, uint64_t to)
{
    int64_t ms = server_config(c->server)->election_ms + MOVE_MS_EXTRA;

    if (!server_is_leader(c->server))
        return V3_NOT_LEADER;
    if (!is_voter(c, to))
        return V3_BAD_LEADER_TRANSFEREE;
    if (to == server_id(c->server))
        return V3_OK;
    return server_move_leader(c->server, to, ms) < 0
               ? V3_LEADER_TRANSFER_TIMEOUT
               : V3_OK;
}

void v3maint_move_leader(struct rpc_call *c)
{
    const struct rpcpb_move_leader_request *req = c->request;
    struct rpcpb_move_leader_response r = {0};
    enum v3_error e = move_leader(c, req->targetID);

    if (e)
        rpc_fail_error(c, e);
    else
        rpc_reply(c, &r);
}

/*
 * "3.4" or "3.4.0" to 304. -1: not a version. What follows the minor number says
 * nothing here.
 */
static int minor_version(struct str s)
{
    struct str major, minor;
    uint64_t a, b;

    str_cut(&s, '.', &major);
    str_cut(&s, '.', &minor);
    if (!str_to_u64(major, &a) || !str_to_u64(minor, &b) || a > 100 || b > 99)
        return -1;
    return (int)(a * 100 + b);
}

/*
 * The formats on disk and wire are those of the cluster's version, which this
 * server speaks and no other: there is nothing to go down to.
 */
void v3maint_downgrade(struct rpc_call *c)
{
    const struct rpcpb_downgrade_request *req = c->request;

    if (req->action == RPCPB_DOWNGRADE_CANCEL)
        rpc_fail_error(c, V3_NO_INFLIGHT_DOWNGRADE);
    else if (minor_version(req->version) < 0)
        rpc_fail_error(c, V3_WRONG_DOWNGRADE_VERSION_FORMAT);
    else
        rpc_fail_error(c, V3_INVALID_DOWNGRADE_TARGET_VERSION);
}

/* --- grpc.health.v1.Health: the server as a whole, "", is all there is. --------------------- */

void v3maint_health_check(struct rpc_call *c)
{
    const struct rpcpb_health_check_request *req = c->request;
    struct rpcpb_health_check_response r = {.status = RPCPB_HEALTH_SERVING};

    if (req->service.n == 0)
        rpc_reply(c, &r);
    else
        rpc_fail(c, GRPC_NOT_FOUND, "unknown service");
}

static void end_watch(struct rpc_call *c)
{
    rpc_finish(c);
}

/* It serves until it is gone. One that is not known might come yet, says the
 * protocol. */
void v3maint_health_watch(struct rpc_call *c)
{
    const struct rpcpb_health_check_request *req = c->request;
    struct rpcpb_health_check_response r = {
        .status = req->service.n == 0 ? RPCPB_HEALTH_SERVING
                                      : RPCPB_HEALTH_SERVICE_UNKNOWN};

    c->on_gone = end_watch;
    rpc_send(c, &r);
}
