/*
 * ctlv3lock.c - lock and elect: a lease that is kept alive, and the server's own
 * lock and election services on top of it.
 *
 * What waits for its turn waits in a call that may last for ever. If its server
 * goes away, the same call at another one goes on waiting in the same place in
 * the queue, for the place belongs to the lease.
 */
#include "ctlv3.h"

#include "sys.h"

#include <ctype.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#define LOCK_TTL 10
#define ELECT_TTL 60
#define POLL_MS 100

/* --- A session: a lease that lives as long as the program. ----------------------- */

struct session {
    int64_t lease;
    struct ctlv3_keeper *keeper;
};

/* However long the cluster is away: a lock is something to wait for. */
static int open_session(struct ctl *c, int64_t ttl, struct session *out)
{
    struct rpcpb_lease_grant_response response = {0};
    struct rpcpb_lease_grant_request r = {.TTL = ttl};
    int64_t command_ns = c->v3->command_ns;
    int rc;

    c->v3->command_ns = INT64_MAX;
    rc = ctlv3_call(c, RPC_LEASE_GRANT, &r, &response);
    c->v3->command_ns = command_ns;
    if (rc != 0)
        return rc;
    out->lease = response.ID;
    out->keeper = ctlv3_keeper_start(c, response.ID, response.TTL);
    return out->keeper ? 0 : ctlv3_fail(CTLV3_ERROR, "cannot start a thread");
}

/* With the lease goes its key: nobody has to wait for the TTL. */
static void close_session(struct ctl *c, struct session *s)
{
    struct rpcpb_lease_revoke_response response = {0};
    struct rpcpb_lease_revoke_request r = {.ID = s->lease};
    struct err e;

    ctlv3_keeper_stop(s->keeper);
    if (s->lease)
        (void)ctlv3_try(c, c->v3->client, RPC_LEASE_REVOKE, &r, &response, &e);
}

/* --- Waiting for one's turn. ---------------------------------------------------------- */

/* Beside what gRPC says: a signal came first; an answer could not be shown. */
enum { TURN_SIGNAL = -10, TURN_UNSHOWN = -11 };

/* The answer to one try, or why there is none. */
static int try_turn(struct ctl *c, enum rpc_method_id id, struct str request,
                    void *response, struct err *e)
{
    struct grpc_stream *s;
    int rc =
        grpc_client_stream(c->v3->client, rpc_methods[id].path.p, 0, &s, e);

    if (rc != GRPC_OK)
        return rc;
    grpc_stream_send(s, request, GRPC_LAST);
    do {
        rc = ctlv3_caught()
                 ? TURN_SIGNAL
                 : ctlv3_receive(s, id, &c->v3->arena, response,
                                 sys_mono_ns() + POLL_MS * NS_PER_MS, e);
    } while (rc == GRPC_STREAM_WAIT);
    grpc_stream_close(s);
    if (rc == GRPC_STREAM_END) {
        err_set(e, GRPC_UNAVAILABLE, "transport is closing");
        rc = GRPC_UNAVAILABLE;
    }
    return rc;
}

static int wait_turn(struct ctl *c, enum rpc_method_id id, const void *request,
                     void *response, struct err *e)
{
    struct buf out = {0};
    int rc;

    msg_encode(rpc_methods[id].request, request, &out);
    for (;;) {
        rc = try_turn(c, id, buf_str(&out), response, e);
        if (rc != GRPC_UNAVAILABLE)
            break;
        grpc_client_next(c->v3->client);
        sys_sleep_ms(POLL_MS);
    }
    buf_release(&out);
    return rc;
}

/* Until a signal comes or the lease is lost. */
static bool wait_signal(const struct session *s)
{
    while (!ctlv3_caught() && !ctlv3_keeper_lost(s->keeper))
        sys_sleep_ms(POLL_MS);
    return ctlv3_caught();
}

static int print_key(struct ctl *c, struct str key)
{
    struct rpcpb_range_response response = {0};
    struct rpcpb_range_request r = {.key = key};
    int rc = ctlv3_call(c, RPC_KV_RANGE, &r, &response);

    if (rc == 0)
        rc = ctlv3_print_get(c, &response, false);
    return rc ? rc : ctl_flush();
}

/* --- Lock. -------------------------------------------------------------------------------- */

/* In Go's words, which begin with a small letter. */
static int killed_by(int sig, const char *core)
{
    const char *name = strsignal(sig);

    return ctlv3_fail(CTLV3_ERROR, "signal: %c%s%s",
                      tolower((unsigned char)name[0]), name + 1, core);
}

static int run_locked(struct ctl *c, const struct rpcpb_lock_response *r)
{
    char *more[] = {
        xasprintf("ETCD_LOCK_KEY=%.*s", STR_FMT(r->key)),
        xasprintf("ETCD_LOCK_REV=%" PRId64,
                  r->header ? r->header->revision : 0),
        NULL,
    };
    int status = 0;
    struct err e;
    pid_t pid;
    int rc = ctl_spawn(c->args + 1, more, &pid, &e);

    free(more[0]);
    free(more[1]);
    if (rc != 0)
        return ctlv3_fail(CTLV3_ERROR, "%s", e.msg);
    while (waitpid(pid, &status, 0) != pid)
        continue; /* a signal of ours went to it, too */
    if (WIFSIGNALED(status))
        return killed_by(WTERMSIG(status),
                         WCOREDUMP(status) ? " (core dumped)" : "");
    if (WEXITSTATUS(status) != 0)
        return ctlv3_fail(CTLV3_ERROR, "exit status %d", WEXITSTATUS(status));
    return 0;
}

static int hold_lock(struct ctl *c, const struct session *s,
                     const struct rpcpb_lock_response *r)
{
    int rc;

    if (c->n_args > 1)
        return run_locked(c, r);
    rc = print_key(c, r->key);
    if (rc == 0 && !wait_signal(s))
        rc = ctlv3_fail(CTLV3_ERROR, "session expired");
    return rc;
}

int ctlv3_lock(struct ctl *c)
{
    struct rpcpb_lock_response response = {0};
    struct rpcpb_lock_request r = {0};
    struct session s = {0};
    struct err e;
    int rc;

    if (c->n_args == 0)
        return ctlv3_fail(CTLV3_BAD_ARGS,
                          "lock takes a lock name argument and an "
                          "optional command to execute");
    rc = open_session(c, ctl_int(c, "ttl", LOCK_TTL), &s);
    if (rc != 0)
        return rc;
    ctlv3_catch_signals();
    r.name = str_of(c->args[0]);
    r.lease = s.lease;
    rc = wait_turn(c, RPC_LOCK_LOCK, &r, &response, &e);
    if (rc == GRPC_OK)
        rc = hold_lock(c, &s, &response);
    else if (rc == TURN_SIGNAL)
        rc = ctlv3_fail(CTLV3_ERROR, "context canceled");
    else
        rc = ctlv3_fail_status(c, CTLV3_ERROR, &e);
    close_session(c, &s);
    return rc;
}

/* --- Elect. -------------------------------------------------------------------------------- */

/* TURN_UNSHOWN: *code is what to exit with. */
static int observe_once(struct ctl *c, struct grpc_stream *s, struct arena *a,
                        int *code, struct err *e)
{
    int rc;

    do {
        struct rpcpb_leader_response leader = {0};
        struct rpcpb_range_response r = {0};

        if (ctlv3_caught())
            return TURN_SIGNAL;
        arena_reset(a);
        rc = ctlv3_receive(s, RPC_ELECTION_OBSERVE, a, &leader,
                           sys_mono_ns() + POLL_MS * NS_PER_MS, e);
        if (rc == GRPC_STREAM_WAIT)
            continue;
        if (rc != GRPC_OK)
            break;
        r.header = leader.header;
        r.kvs.items = leader.kv;
        r.kvs.n = leader.kv != NULL;
        *code = ctlv3_print_get(c, &r, false);
        if (*code == 0)
            *code = ctl_flush();
        if (*code != 0)
            return TURN_UNSHOWN;
    } while (rc == GRPC_OK || rc == GRPC_STREAM_WAIT);
    return rc;
}

static int observe(struct ctl *c, const char *name)
{
    struct rpcpb_leader_request r = {.name = str_of(name)};
    struct arena a = {.limit = SIZE_MAX / 2};
    struct err e;
    int rc = ctlv3_connect(c), code = 0;

    if (rc != 0)
        return rc;
    ctlv3_catch_signals();
    for (;;) {
        struct grpc_stream *s;

        rc = grpc_client_stream(
            c->v3->client, rpc_methods[RPC_ELECTION_OBSERVE].path.p, 0, &s, &e);
        if (rc == GRPC_OK) {
            ctlv3_send(s, RPC_ELECTION_OBSERVE, &r);
            grpc_stream_end(s);
            rc = observe_once(c, s, &a, &code, &e);
            grpc_stream_close(s);
        }
        if (rc != GRPC_UNAVAILABLE)
            break;
        grpc_client_next(c->v3->client);
        sys_sleep_ms(POLL_MS);
    }
    arena_release(&a);
    if (rc == TURN_SIGNAL || rc == TURN_UNSHOWN)
        return code;
    if (rc == GRPC_STREAM_END) /* as when it may not see the election */
        return ctlv3_fail(CTLV3_ERROR, "elect: observer lost");
    return ctlv3_fail_status(c, CTLV3_ERROR, &e);
}

/* As leader, until a signal comes: then resign. */
static int lead(struct ctl *c, const struct session *s,
                struct rpcpb_leader_key *leader)
{
    struct rpcpb_resign_response response = {0};
    struct rpcpb_resign_request r = {.leader = leader};
    int rc = print_key(c, leader->key);

    if (rc == 0 && !wait_signal(s))
        return ctlv3_fail(CTLV3_ERROR, "session expired");
    return rc ? rc : ctlv3_call(c, RPC_ELECTION_RESIGN, &r, &response);
}

static int campaign(struct ctl *c, const char *name, const char *proposal)
{
    struct rpcpb_campaign_response response = {0};
    struct rpcpb_campaign_request r = {.name = str_of(name),
                                       .value = str_of(proposal)};
    struct session s = {0};
    struct err e;
    int rc = open_session(c, ELECT_TTL, &s);

    if (rc != 0)
        return rc;
    ctlv3_catch_signals();
    r.lease = s.lease;
    rc = wait_turn(c, RPC_ELECTION_CAMPAIGN, &r, &response, &e);
    if (rc == GRPC_OK && response.leader)
        rc = lead(c, &s, response.leader);
    else if (rc == TURN_SIGNAL)
        rc = ctlv3_fail(CTLV3_ERROR, "context canceled");
    else
        rc = ctlv3_fail_status(c, CTLV3_ERROR, &e);
    close_session(c, &s);
    return rc;
}

int ctlv3_elect(struct ctl *c)
{
    bool listen = ctl_bool(c, "listen");

    if (c->n_args != 1 && c->n_args != 2)
        return ctlv3_fail(CTLV3_BAD_ARGS,
                          "elect takes one election name argument "
                          "and an optional proposal argument");
    if (c->n_args == 1 && !listen)
        return ctlv3_fail(CTLV3_BAD_ARGS,
                          "no proposal argument but -l not set");
    if (c->n_args == 2 && listen)
        return ctlv3_fail(CTLV3_BAD_ARGS, "proposal given but -l is set");
    return listen ? observe(c, c->args[0])
                  : campaign(c, c->args[0], c->args[1]);
}
