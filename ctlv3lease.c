/*
 * ctlv3lease.c - lease grant, revoke, timetolive, list and keep-alive; and a
 * keeper, which keeps the lease of a lock or an election alive.
 */
#include "ctlv3.h"

#include "sys.h"

#include <inttypes.h>
#include <stdio.h>

#define POLL_NS (200 * NS_PER_MS)
#define RETRY_MS 500
#define FIRST_ANSWER_NS (5 * NS_PER_S) /* without --dial-timeout */

/* --- Output. ------------------------------------------------------------------------ */

/* clientv3 embeds the header in the answer: its fields come first. */
static void begin_json(struct buf *b, const struct rpcpb_response_header *h)
{
    buf_addc(b, '{');
    if (h)
        ctlv3_json_fields(b, &rpcpb_response_header_desc, h);
}

static void end_json(struct buf *b)
{
    printf("%s}\n", buf_z(b));
    buf_release(b);
}

static int print_grant(struct ctl *c,
                       const struct rpcpb_lease_grant_response *r)
{
    struct buf b = {0};

    switch (c->v3->format) {
    case CTLV3_SIMPLE:
        printf("lease %016" PRIx64 " granted with TTL(%" PRId64 "s)\n",
               (uint64_t)r->ID, r->TTL);
        return 0;
    case CTLV3_FIELDS:
        ctlv3_print_header(r->header);
        printf("\"ID\" : %" PRId64 "\n\"TTL\" : %" PRId64 "\n", r->ID, r->TTL);
        return 0;
    case CTLV3_JSON:
        begin_json(&b, r->header);
        ctlv3_json_int(&b, "ID", r->ID);
        ctlv3_json_int(&b, "TTL", r->TTL);
        json_add_key(&b, "Error");
        json_add_string(&b, r->error);
        end_json(&b);
        return 0;
    case CTLV3_PROTOBUF:
        ctlv3_print_whole(c, &rpcpb_lease_grant_response_desc, r);
        return 0;
    case CTLV3_TABLE:
        break;
    }
    return ctlv3_unsupported(c);
}

static void
time_to_live_simple(const struct rpcpb_lease_time_to_live_response *r,
                    bool keys)
{
    if (r->TTL == -1) {
        printf("lease %016" PRIx64 " already expired\n", (uint64_t)r->ID);
        return;
    }
    printf("lease %016" PRIx64 " granted with TTL(%" PRId64
           "s), remaining(%" PRId64 "s)",
           (uint64_t)r->ID, r->grantedTTL, r->TTL);
    if (keys) {
        printf(", attached keys([");
        for (size_t i = 0; i < r->keys.n; i++) {
            struct str key = r->keys.items[i];

            printf("%s", i ? " " : "");
            if (key.n > 0)
                fwrite(key.p, 1, key.n, stdout);
        }
        printf("])");
    }
    printf("\n");
}

static void
time_to_live_fields(const struct rpcpb_lease_time_to_live_response *r)
{
    ctlv3_print_header(r->header);
    printf("\"ID\" : %" PRId64 "\n\"TTL\" : %" PRId64
           "\n\"GrantedTTL\" : %" PRId64 "\n",
           r->ID, r->TTL, r->grantedTTL);
    for (size_t i = 0; i < r->keys.n; i++) {
        struct buf b = {0};

        ctl_quote(&b, r->keys.items[i]);
        printf("\"Key\" : %s\n", buf_z(&b));
        buf_release(&b);
    }
}

static void time_to_live_json(const struct rpcpb_lease_time_to_live_response *r)
{
    struct buf b = {0};

    begin_json(&b, r->header);
    ctlv3_json_int(&b, "id", r->ID);
    ctlv3_json_int(&b, "ttl", r->TTL);
    ctlv3_json_int(&b, "granted-ttl", r->grantedTTL);
    json_add_key(&b, "keys");
    ctlv3_json_bytes(&b, r->keys.items, r->keys.n);
    end_json(&b);
}

static int print_time_to_live(struct ctl *c,
                              const struct rpcpb_lease_time_to_live_response *r,
                              bool keys)
{
    if (c->v3->format == CTLV3_TABLE)
        return ctlv3_unsupported(c);
    if (c->v3->format == CTLV3_FIELDS)
        time_to_live_fields(r);
    else if (c->v3->format == CTLV3_JSON)
        time_to_live_json(r);
    else if (!ctlv3_print_whole(c, &rpcpb_lease_time_to_live_response_desc, r))
        time_to_live_simple(r, keys);
    return 0;
}

static int print_leases(struct ctl *c,
                        const struct rpcpb_lease_leases_response *r)
{
    struct buf b = {0};

    if (c->v3->format == CTLV3_TABLE)
        return ctlv3_unsupported(c);
    if (c->v3->format == CTLV3_JSON) {
        begin_json(&b, r->header);
        json_add_key(&b, "leases");
        buf_addc(&b, '[');
        for (size_t i = 0; i < r->leases.n; i++)
            buf_printf(&b, "%s{\"id\":%" PRId64 "}", i ? "," : "",
                       r->leases.items[i].ID);
        buf_addc(&b, ']');
        end_json(&b);
        return 0;
    }
    if (ctlv3_print_whole(c, &rpcpb_lease_leases_response_desc, r))
        return 0;
    if (c->v3->format == CTLV3_FIELDS)
        ctlv3_print_header(r->header);
    else
        printf("found %zu leases\n", r->leases.n);
    for (size_t i = 0; i < r->leases.n; i++)
        printf(c->v3->format == CTLV3_FIELDS ? "\"ID\" : %" PRId64 "\n"
                                             : "%016" PRIx64 "\n",
               r->leases.items[i].ID);
    return 0;
}

static int print_keep_alive(struct ctl *c,
                            const struct rpcpb_lease_keep_alive_response *r)
{
    struct buf b = {0};

    switch (c->v3->format) {
    case CTLV3_SIMPLE:
        printf("lease %016" PRIx64 " keepalived with TTL(%" PRId64 ")\n",
               (uint64_t)r->ID, r->TTL);
        break;
    case CTLV3_FIELDS:
        ctlv3_print_header(r->header);
        printf("\"ID\" : %" PRId64 "\n\"TTL\" : %" PRId64 "\n", r->ID, r->TTL);
        break;
    case CTLV3_JSON:
        begin_json(&b, r->header);
        ctlv3_json_int(&b, "ID", r->ID);
        ctlv3_json_int(&b, "TTL", r->TTL);
        end_json(&b);
        break;
    case CTLV3_PROTOBUF:
        ctlv3_print_whole(c, &rpcpb_lease_keep_alive_response_desc, r);
        break;
    case CTLV3_TABLE:
        return ctlv3_unsupported(c);
    }
    return ctl_flush();
}

/* --- Commands. -------------------------------------------------------------------------- */

int ctlv3_lease_grant(struct ctl *c)
{
    struct rpcpb_lease_grant_response response = {0};
    struct rpcpb_lease_grant_request r = {0};
    char *why;
    int rc;

    if (c->n_args != 1)
        return ctlv3_fail(CTLV3_BAD_ARGS,
                          "lease grant command needs TTL argument");
    if (!ctlv3_parse_int(c->args[0], 10, &r.TTL, &why)) {
        rc = ctlv3_fail(CTLV3_BAD_ARGS, "bad TTL (%s)", why);
        free(why);
        return rc;
    }
    rc = ctlv3_connect(c);
    if (rc == 0) {
        struct err e;

        if (ctlv3_try(c, c->v3->client, RPC_LEASE_GRANT, &r, &response, &e) ==
            0)
            return print_grant(c, &response);
        rc = ctlv3_fail_named(c, "failed to grant lease", &e);
    }
    return rc;
}

int ctlv3_lease_revoke(struct ctl *c)
{
    struct rpcpb_lease_revoke_response response = {0};
    struct rpcpb_lease_revoke_request r = {0};
    struct err e;
    int rc;

    if (c->n_args != 1)
        return ctlv3_fail(CTLV3_BAD_ARGS,
                          "lease revoke command needs 1 argument");
    if (!ctlv3_lease_id(c->args[0], "lease ID arg", &r.ID))
        return CTLV3_BAD_ARGS;
    rc = ctlv3_connect(c);
    if (rc != 0)
        return rc;
    if (ctlv3_try(c, c->v3->client, RPC_LEASE_REVOKE, &r, &response, &e) != 0)
        return ctlv3_fail_named(c, "failed to revoke lease", &e);
    return ctlv3_print_plain(c, &rpcpb_lease_revoke_response_desc, &response,
                             response.header, "lease %016" PRIx64 " revoked\n",
                             (uint64_t)r.ID);
}

int ctlv3_lease_time_to_live(struct ctl *c)
{
    struct rpcpb_lease_time_to_live_response response = {0};
    struct rpcpb_lease_time_to_live_request r = {.keys = ctl_bool(c, "keys")};
    int rc;

    if (c->n_args != 1)
        return ctlv3_fail(
            CTLV3_BAD_ARGS,
            "lease timetolive command needs lease ID as argument");
    if (!ctlv3_lease_id(c->args[0], "lease ID arg", &r.ID))
        return CTLV3_BAD_ARGS;
    rc = ctlv3_call(c, RPC_LEASE_TIME_TO_LIVE, &r, &response);
    return rc ? rc : print_time_to_live(c, &response, r.keys);
}

int ctlv3_lease_list(struct ctl *c)
{
    struct rpcpb_lease_leases_response response = {0};
    struct rpcpb_lease_leases_request r = {0};
    int rc = ctlv3_call(c, RPC_LEASE_LEASES, &r, &response);

    return rc ? rc : print_leases(c, &response);
}

/* --- Keeping alive. ------------------------------------------------------------------------ */

static int open_keep_alive(struct ctl *c, int64_t deadline_ns,
                           struct grpc_stream **out, struct err *e)
{
    return grpc_client_stream(c->v3->client,
                              rpc_methods[RPC_LEASE_KEEP_ALIVE].path.p,
                              deadline_ns, out, e);
}

/* Ask once and wait for the answer, but not beyond until_ns. A lease that is
 * gone is an error of the server's kind. */
static int keep_alive(struct grpc_stream *s, int64_t lease, struct arena *a,
                      struct rpcpb_lease_keep_alive_response *r,
                      int64_t until_ns, struct err *e)
{
    struct rpcpb_lease_keep_alive_request request = {.ID = lease};
    int rc;

    arena_reset(a);
    ctlv3_send(s, RPC_LEASE_KEEP_ALIVE, &request);
    rc = ctlv3_receive(s, RPC_LEASE_KEEP_ALIVE, a, r, until_ns, e);
    if (rc == GRPC_OK && r->TTL <= 0) {
        err_set(e, GRPC_NOT_FOUND, "etcdserver: requested lease not found");
        rc = GRPC_NOT_FOUND;
    } else if (rc == GRPC_STREAM_WAIT) {
        err_set(e, GRPC_DEADLINE_EXCEEDED, "context deadline exceeded");
        rc = GRPC_DEADLINE_EXCEEDED;
    } else if (rc == GRPC_STREAM_END) {
        err_set(e, GRPC_UNAVAILABLE, "transport is closing");
        rc = GRPC_UNAVAILABLE;
    }
    return rc;
}

/* With a stream of its own, which ends at until_ns, too. */
static int renew(struct ctl *c, int64_t lease,
                 struct rpcpb_lease_keep_alive_response *r, int64_t until_ns,
                 struct err *e)
{
    struct grpc_stream *s;
    int rc = open_keep_alive(c, until_ns, &s, e);

    if (rc == GRPC_OK) {
        rc = keep_alive(s, lease, &c->v3->arena, r, until_ns, e);
        grpc_stream_close(s);
    }
    return rc;
}

static int keep_alive_once(struct ctl *c, int64_t lease)
{
    struct rpcpb_lease_keep_alive_response r = {0};
    struct grpc_stream *s;
    struct err e;
    int rc = open_keep_alive(c, 0, &s, &e);

    if (rc == GRPC_OK) {
        rc = keep_alive(s, lease, &c->v3->arena, &r, ctlv3_deadline(c), &e);
        grpc_stream_close(s);
    }
    return rc == GRPC_OK ? print_keep_alive(c, &r)
                         : ctlv3_fail_status(c, CTLV3_BAD_CONNECTION, &e);
}

/* A third of the TTL, as etcd's clients do. */
static int64_t pause_of(int64_t ttl)
{
    return ttl > INT64_MAX / NS_PER_S ? INT64_MAX / 4 : ttl * NS_PER_S / 3;
}

/* How long the first answer may take: then the lease counts as gone. */
static int64_t patience_ns(const struct ctl *c)
{
    int64_t dial_ns = ctlv3_dial_ns(c);

    return dial_ns ? dial_ns + NS_PER_S : FIRST_ANSWER_NS;
}

/* Until the lease is gone, as the server says or as must be thought when nobody
 * has answered for its TTL. */
static int keep_alive_for_ever(struct ctl *c, int64_t lease)
{
    int64_t lives_until = sys_mono_ns() + patience_ns(c);
    struct rpcpb_lease_keep_alive_response r = {0};
    struct err e;
    int rc = GRPC_OK, out = 0;

    while (out == 0 && (rc == GRPC_OK || rc == GRPC_UNAVAILABLE)) {
        rc = renew(c, lease, &r, lives_until, &e);
        if (rc == GRPC_OK) {
            lives_until = sys_mono_ns() + 3 * pause_of(r.TTL);
            out = print_keep_alive(c, &r);
            sys_sleep_ms(pause_of(r.TTL) / NS_PER_MS);
        } else if (rc == GRPC_UNAVAILABLE) {
            grpc_client_next(c->v3->client);
            sys_sleep_ms(RETRY_MS);
        }
    }
    if (out == 0 && rc != GRPC_NOT_FOUND && rc != GRPC_DEADLINE_EXCEEDED)
        return ctlv3_fail_status(c, CTLV3_BAD_CONNECTION, &e);
    if (out == 0 && c->v3->format == CTLV3_SIMPLE)
        printf("lease %016" PRIx64 " expired or revoked.\n", (uint64_t)lease);
    return out;
}

int ctlv3_lease_keep_alive(struct ctl *c)
{
    int64_t lease;
    int rc;

    if (c->n_args != 1)
        return ctlv3_fail(
            CTLV3_BAD_ARGS,
            "lease keep-alive command needs lease ID as argument");
    if (!ctlv3_lease_id(c->args[0], "lease ID arg", &lease))
        return CTLV3_BAD_ARGS;
    rc = ctlv3_connect(c);
    if (rc != 0)
        return rc;
    return ctl_bool(c, "once") ? keep_alive_once(c, lease)
                               : keep_alive_for_ever(c, lease);
}

/* --- A keeper. -------------------------------------------------------------------------------- */

struct ctlv3_keeper {
    struct ctl *c;
    int64_t lease, ttl;
    pthread_t thread;
    pthread_mutex_t mu;
    pthread_cond_t stopping; /* mu */
    bool stop, lost;         /* mu */
};

static bool sleep_until(struct ctlv3_keeper *k, int64_t until_ns)
{
    bool stop;

    pthread_mutex_lock(&k->mu);
    while (!k->stop && sys_cond_wait_until(&k->stopping, &k->mu, until_ns))
        ;
    stop = k->stop;
    pthread_mutex_unlock(&k->mu);
    return !stop;
}

static void *keep_loop(void *arg)
{
    struct ctlv3_keeper *k = arg;
    struct arena a = {.limit = SIZE_MAX / 2};
    int64_t pause = pause_of(k->ttl), next = sys_mono_ns() + pause;
    struct grpc_stream *s = NULL;

    while (sleep_until(k, next)) {
        struct rpcpb_lease_keep_alive_response r = {0};
        struct err e;
        int rc = GRPC_OK;

        if (!s)
            rc = open_keep_alive(k->c, 0, &s, &e);
        if (rc == GRPC_OK)
            rc = keep_alive(s, k->lease, &a, &r, sys_mono_ns() + pause, &e);
        if (rc != GRPC_OK) {
            grpc_stream_close(s);
            s = NULL;
            grpc_client_next(k->c->v3->client);
        }
        if (rc == GRPC_NOT_FOUND) {
            pthread_mutex_lock(&k->mu);
            k->lost = true;
            pthread_mutex_unlock(&k->mu);
            break;
        }
        next = sys_mono_ns() + (rc == GRPC_OK ? pause : POLL_NS);
    }
    grpc_stream_close(s);
    arena_release(&a);
    return NULL;
}

struct ctlv3_keeper *ctlv3_keeper_start(struct ctl *c, int64_t lease,
                                        int64_t ttl)
{
    struct ctlv3_keeper *k = xcalloc(1, sizeof(*k));

    k->c = c;
    k->lease = lease;
    k->ttl = ttl;
    pthread_mutex_init(&k->mu, NULL);
    sys_cond_init(&k->stopping);
    if (sys_thread(&k->thread, SYS_STACK_LARGE, keep_loop, k) != 0) {
        free(k);
        return NULL;
    }
    return k;
}

bool ctlv3_keeper_lost(struct ctlv3_keeper *k)
{
    bool lost;

    pthread_mutex_lock(&k->mu);
    lost = k->lost;
    pthread_mutex_unlock(&k->mu);
    return lost;
}

void ctlv3_keeper_stop(struct ctlv3_keeper *k)
{
    if (!k)
        return;
    pthread_mutex_lock(&k->mu);
    k->stop = true;
    pthread_cond_broadcast(&k->stopping);
    pthread_mutex_unlock(&k->mu);
    pthread_join(k->thread, NULL);
    pthread_cond_destroy(&k->stopping);
    pthread_mutex_destroy(&k->mu);
    free(k);
}
