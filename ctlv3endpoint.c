/*
 * ctlv3endpoint.c - what is asked of each endpoint by itself: endpoint health,
 * status and hashkv, defrag; and alarms and downgrades of the cluster.
 */
#include "ctlv3.h"

#include "ctlsnapshot.h"
#include "sys.h"

#include <inttypes.h>
#include <stdio.h>

/* --- Which endpoints. ----------------------------------------------------------------- */

/* Those given or, with --cluster, those that the cluster lists. Owned. */
struct endpoints {
    char **at;
    size_t n;
};

static void add(struct endpoints *l, struct str s)
{
    l->at = xrealloc(l->at, (l->n + 1) * sizeof(*l->at));
    l->at[l->n++] = xstrndup(s.p, s.n);
}

static void endpoints_release(struct endpoints *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->at[i]);
    free(l->at);
}

static int find_endpoints(struct ctl *c, struct endpoints *out)
{
    struct rpcpb_member_list_response r = {0};
    struct rpcpb_member_list_request request = {0}; /* needs no quorum */
    struct err e, named;
    int rc = ctlv3_prepare(c);

    if (rc == 0 && !ctl_bool(c, "cluster")) {
        for (size_t i = 0; i < c->v3->n_endpoints; i++)
            add(out, str_of(c->v3->endpoints[i]));
        return 0;
    }
    if (rc != 0) /* one code for whatever keeps --cluster from asking */
        return ctl_bool(c, "cluster") ? CTLV3_ERROR : rc;
    rc = ctlv3_connect(c);
    if (rc != 0)
        return rc;
    if (ctlv3_try(c, c->v3->client, RPC_CLUSTER_MEMBER_LIST, &request, &r,
                  &e) != 0) {
        err_set(&named, e.code,
                "failed to fetch endpoints from etcd cluster member list: %s",
                e.msg);
        return ctlv3_fail_status(c, CTLV3_ERROR, &named);
    }
    for (size_t i = 0; i < r.members.n; i++) {
        for (size_t k = 0; k < r.members.items[i].clientURLs.n; k++)
            add(out, r.members.items[i].clientURLs.items[k]);
    }
    return 0;
}

static int find_and_login(struct ctl *c, struct endpoints *out)
{
    int rc = find_endpoints(c, out);

    return rc ? rc : ctlv3_login(c);
}

int ctlv3_ask(struct ctl *c, const char *endpoint, enum rpc_method_id id,
              const void *request, void *response, struct err *e)
{
    struct grpc_client *one = ctlv3_client_of(c, &endpoint, 1, e);
    int rc = GRPC_UNAVAILABLE;

    if (one)
        rc = ctlv3_try(c, one, id, request, response, e);
    grpc_client_close(one);
    return rc;
}

/* --- Health. ----------------------------------------------------------------------------- */

struct health {
    struct ctl *c;
    const char *endpoint;
    bool healthy;
    char took[SYS_DURATION_MAX];
    struct err e;
    pthread_t thread;
    bool running;
};

/* Can a proposal be committed? A linearizable read shows it; that it is not
 * permitted is an answer, too. */
static void *check(void *arg)
{
    struct health *h = arg;
    struct ctl c = *h->c;
    struct ctlv3 own = *h->c->v3;
    struct rpcpb_range_request r = {.key = STR("health")};
    struct rpcpb_range_response response = {0};
    int64_t began;
    int rc;

    own.arena = (struct arena){.limit = own.arena.limit};
    c.v3 = &own;
    began = sys_mono_ns();
    rc = ctlv3_ask(&c, h->endpoint, RPC_KV_RANGE, &r, &response, &h->e);
    h->took[sys_duration(h->took, sys_mono_ns() - began)] = '\0';
    h->healthy = rc == GRPC_OK || rc == GRPC_PERMISSION_DENIED;
    arena_release(&own.arena);
    return NULL;
}

static void health_simple(const struct health *h, size_t n)
{
    (void)ctl_flush();
    for (size_t i = 0; i < n; i++) {
        if (h[i].healthy)
            fprintf(stderr,
                    "%s is healthy: successfully committed proposal: took = "
                    "%s\n",
                    h[i].endpoint, h[i].took);
        else
            fprintf(stderr, "%s is unhealthy: failed to commit proposal: %s\n",
                    h[i].endpoint, h[i].e.msg);
    }
}

static void health_json(const struct health *h, size_t n)
{
    struct buf b = {0};

    buf_addc(&b, '[');
    for (size_t i = 0; i < n; i++) {
        buf_adds(&b, i ? ",{" : "{");
        json_add_key(&b, "endpoint");
        json_add_string(&b, str_of(h[i].endpoint));
        json_add_key(&b, "health");
        buf_adds(&b, h[i].healthy ? "true" : "false");
        json_add_key(&b, "took");
        json_add_string(&b, str_of(h[i].took));
        if (!h[i].healthy) {
            json_add_key(&b, "error");
            json_add_string(&b, str_of(h[i].e.msg));
        }
        buf_addc(&b, '}');
    }
    printf("%s]\n", buf_z(&b));
    buf_release(&b);
}

static void health_fields(const struct health *h, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ctlv3_print_quoted("Endpoint", str_of(h[i].endpoint));
        printf("\"Health\" : %s\n\"Took\" : %s\n\"Error\" : %s\n\n",
               h[i].healthy ? "true" : "false", h[i].took,
               h[i].healthy ? "" : h[i].e.msg);
    }
}

static void health_table(const struct health *h, size_t n)
{
    struct ctlv3_table t = {.n_columns = 4};

    ctlv3_table_add(&t, "ENDPOINT");
    ctlv3_table_add(&t, "HEALTH");
    ctlv3_table_add(&t, "TOOK");
    ctlv3_table_add(&t, "ERROR");
    for (size_t i = 0; i < n; i++) {
        ctlv3_table_add(&t, "%s", h[i].endpoint);
        ctlv3_table_add(&t, "%s", h[i].healthy ? "true" : "false");
        ctlv3_table_add(&t, "%s", h[i].took);
        ctlv3_table_add(&t, "%s", h[i].healthy ? "" : h[i].e.msg);
    }
    ctlv3_table_print(&t);
}

static int print_health(struct ctl *c, const struct health *h, size_t n)
{
    bool healthy = true;

    for (size_t i = 0; i < n; i++)
        healthy = healthy && h[i].healthy;
    switch (c->v3->format) {
    case CTLV3_SIMPLE:
        health_simple(h, n);
        break;
    case CTLV3_JSON:
        health_json(h, n);
        break;
    case CTLV3_FIELDS:
        health_fields(h, n);
        break;
    case CTLV3_TABLE:
        health_table(h, n);
        break;
    case CTLV3_PROTOBUF:
        return ctlv3_unsupported(c);
    }
    return healthy ? 0 : ctlv3_fail(CTLV3_ERROR, "unhealthy cluster");
}

int ctlv3_endpoint_health(struct ctl *c)
{
    struct endpoints l = {0};
    struct health *h;
    int rc = find_endpoints(c, &l);

    if (rc == CTLV3_BAD_CONNECTION && ctl_bool(c, "cluster"))
        rc = CTLV3_ERROR; /* as if it were an endpoint's ill health */
    h = xcalloc(l.n + 1, sizeof(*h));
    for (size_t i = 0; i < l.n && rc == 0; i++) {
        h[i].c = c;
        h[i].endpoint = l.at[i];
        h[i].running =
            sys_thread(&h[i].thread, SYS_STACK_LARGE, check, &h[i]) == 0;
        if (!h[i].running)
            (void)check(&h[i]);
    }
    for (size_t i = 0; i < l.n; i++) {
        if (h[i].running)
            pthread_join(h[i].thread, NULL);
    }
    if (rc == 0)
        rc = print_health(c, h, l.n);
    free(h);
    endpoints_release(&l);
    return rc;
}

/* --- Status. ------------------------------------------------------------------------------ */

/* As humanize.Bytes() has it: "25 kB". */
void ctlv3_human_bytes(struct buf *b, uint64_t n)
{
    static const char *const units[] = {"B",  "kB", "MB", "GB",
                                        "TB", "PB", "EB"};
    double v = (double)n;
    size_t i = 0;

    if (n < 10) {
        buf_printf(b, "%" PRIu64 " B", n);
        return;
    }
    while (v >= 999.95 && i + 1 < ARRAY_LEN(units)) {
        v /= 1000;
        i++;
    }
    v = (double)(int64_t)(v * 10 + 0.5) / 10;
    buf_printf(b, v < 10 ? "%.1f %s" : "%.0f %s", v, units[i]);
}

static const char *yes(bool b)
{
    return b ? "true" : "false";
}

/* The columns that simple and table share. */
static void status_row(struct ctlv3_table *t, const char *endpoint,
                       const struct rpcpb_status_response *r)
{
    uint64_t id = r->header ? r->header->member_id : 0;
    struct buf size = {0}, errors = {0};

    ctlv3_human_bytes(&size, (uint64_t)r->dbSize);
    for (size_t i = 0; i < r->errors.n; i++) {
        buf_adds(&errors, i ? ", " : "");
        buf_addstr(&errors, r->errors.items[i]);
    }
    ctlv3_table_add(t, "%s", endpoint);
    ctlv3_table_add(t, "%" PRIx64, id);
    ctlv3_table_add(t, "%.*s", STR_FMT(r->version));
    ctlv3_table_add(t, "%s", buf_z(&size));
    ctlv3_table_add(t, "%s", yes(id == r->leader));
    ctlv3_table_add(t, "%s", yes(r->isLearner));
    ctlv3_table_add(t, "%" PRIu64, r->raftTerm);
    ctlv3_table_add(t, "%" PRIu64, r->raftIndex);
    ctlv3_table_add(t, "%" PRIu64, r->raftAppliedIndex);
    ctlv3_table_add(t, "%s", buf_z(&errors));
    buf_release(&size);
    buf_release(&errors);
}

static void status_json(struct buf *b, const char *endpoint,
                        const struct rpcpb_status_response *r)
{
    buf_adds(b, b->len ? ",{" : "[{");
    json_add_key(b, "Endpoint");
    json_add_string(b, str_of(endpoint));
    json_add_key(b, "Status");
    ctlv3_json(b, &rpcpb_status_response_desc, r);
    buf_addc(b, '}');
}

static void status_fields(const char *endpoint,
                          const struct rpcpb_status_response *r)
{
    ctlv3_print_header(r->header);
    ctlv3_print_quoted("Version", r->version);
    printf("\"DBSize\" : %" PRId64 "\n", r->dbSize);
    printf("\"Leader\" : %" PRIu64 "\n", r->leader);
    printf("\"IsLearner\" : %s\n", yes(r->isLearner));
    printf("\"RaftIndex\" : %" PRIu64 "\n", r->raftIndex);
    printf("\"RaftTerm\" : %" PRIu64 "\n", r->raftTerm);
    printf("\"RaftAppliedIndex\" : %" PRIu64 "\n", r->raftAppliedIndex);
    printf("\"Errors\" : [");
    for (size_t i = 0; i < r->errors.n; i++) {
        struct str s = r->errors.items[i];

        printf("%s%.*s", i ? " " : "", STR_FMT(s));
    }
    printf("]\n");
    ctlv3_print_quoted("Endpoint", str_of(endpoint));
    printf("\n");
}

/* The answers of all endpoints, in whatever format. */
struct report {
    struct ctlv3_table table;
    struct buf json;
};

static void add_status(struct ctl *c, struct report *out, const char *endpoint,
                       const struct rpcpb_status_response *r)
{
    if (c->v3->format == CTLV3_JSON)
        status_json(&out->json, endpoint, r);
    else if (c->v3->format == CTLV3_FIELDS)
        status_fields(endpoint, r);
    else
        status_row(&out->table, endpoint, r);
}

static int print_report(struct ctl *c, struct report *r)
{
    struct ctlv3_table *t = &r->table;

    if (c->v3->format == CTLV3_PROTOBUF)
        return ctlv3_unsupported(c);
    if (c->v3->format == CTLV3_JSON) {
        printf("%s]\n", r->json.len > 0 ? buf_z(&r->json) : "[");
        buf_release(&r->json);
    } else if (c->v3->format == CTLV3_TABLE) {
        ctlv3_table_print(t);
        return 0;
    }
    for (size_t i = t->n_columns; i < t->n_cells; i++)
        printf("%s%s", t->cells[i], (i + 1) % t->n_columns ? ", " : "\n");
    for (size_t i = 0; i < t->n_cells; i++)
        free(t->cells[i]);
    free(t->cells);
    return 0;
}

static void add_head(struct ctlv3_table *t, const char *const *head, size_t n)
{
    t->n_columns = n;
    for (size_t i = 0; i < n; i++)
        ctlv3_table_add(t, "%s", head[i]);
}

int ctlv3_endpoint_status(struct ctl *c)
{
    static const char *const head[] = {
        "ENDPOINT",           "ID",         "VERSION",   "DB SIZE",
        "IS LEADER",          "IS LEARNER", "RAFT TERM", "RAFT INDEX",
        "RAFT APPLIED INDEX", "ERRORS"};
    struct endpoints l = {0};
    struct report out = {0};
    int rc = find_and_login(c, &l), failed = 0;

    if (rc == 0 &&
        (c->v3->format == CTLV3_SIMPLE || c->v3->format == CTLV3_TABLE))
        add_head(&out.table, head, ARRAY_LEN(head));
    for (size_t i = 0; i < l.n && rc == 0; i++) {
        struct rpcpb_status_response r = {0};
        struct rpcpb_status_request request = {0};
        struct err e;

        if (ctlv3_ask(c, l.at[i], RPC_MAINTENANCE_STATUS, &request, &r, &e) ==
            0) {
            add_status(c, &out, l.at[i], &r);
            continue;
        }
        failed = CTLV3_ERROR;
        fprintf(stderr, "Failed to get the status of endpoint %s (%s)\n",
                l.at[i], e.msg);
    }
    if (rc == 0)
        rc = print_report(c, &out);
    endpoints_release(&l);
    return rc ? rc : failed;
}

/* --- Hashes. ----------------------------------------------------------------------------- */

static void add_hash(struct ctl *c, struct report *out, const char *endpoint,
                     const struct rpcpb_hash_kv_response *r)
{
    struct buf *b = &out->json;

    if (c->v3->format == CTLV3_JSON) {
        buf_adds(b, b->len ? ",{" : "[{");
        json_add_key(b, "Endpoint");
        json_add_string(b, str_of(endpoint));
        json_add_key(b, "HashKV");
        ctlv3_json(b, &rpcpb_hash_kv_response_desc, r);
        buf_addc(b, '}');
    } else if (c->v3->format == CTLV3_FIELDS) {
        ctlv3_print_header(r->header);
        ctlv3_print_quoted("Endpoint", str_of(endpoint));
        printf("\"Hash\" : %" PRIu32 "\n\n", r->hash);
    } else {
        ctlv3_table_add(&out->table, "%s", endpoint);
        ctlv3_table_add(&out->table, "%" PRIu32, r->hash);
    }
}

int ctlv3_endpoint_hashkv(struct ctl *c)
{
    static const char *const head[] = {"ENDPOINT", "HASH"};
    struct rpcpb_hash_kv_request request = {.revision = ctl_int(c, "rev", 0)};
    struct endpoints l = {0};
    struct report out = {0};
    int rc = find_and_login(c, &l), failed = 0;
    struct err e; /* the last */

    if (rc == 0 &&
        (c->v3->format == CTLV3_SIMPLE || c->v3->format == CTLV3_TABLE))
        add_head(&out.table, head, ARRAY_LEN(head));
    for (size_t i = 0; i < l.n && rc == 0; i++) {
        struct rpcpb_hash_kv_response r = {0};

        if (ctlv3_ask(c, l.at[i], RPC_MAINTENANCE_HASH_KV, &request, &r, &e) ==
            0) {
            add_hash(c, &out, l.at[i], &r);
            continue;
        }
        failed = CTLV3_ERROR;
        fprintf(stderr, "Failed to get the hash of endpoint %s (%s)\n", l.at[i],
                e.msg);
    }
    if (rc == 0)
        rc = print_report(c, &out);
    endpoints_release(&l);
    if (rc == 0 && failed)
        rc = ctlv3_fail(failed, "%s", e.msg);
    return rc;
}

/* --- Defragmenting. ------------------------------------------------------------------------ */

int ctlv3_defrag(struct ctl *c)
{
    const char *data_dir = ctl_string(c, "data-dir", "");
    struct rpcpb_defragment_request request = {0};
    struct endpoints l = {0};
    int rc, failed = 0;

    if (data_dir[0])
        return ctlv3_defrag_dir(data_dir);
    rc = find_and_login(c, &l);
    for (size_t i = 0; i < l.n && rc == 0; i++) {
        struct rpcpb_defragment_response r = {0};
        struct err e;

        if (ctlv3_ask(c, l.at[i], RPC_MAINTENANCE_DEFRAGMENT, &request, &r,
                      &e) == 0) {
            printf("Finished defragmenting etcd member[%s]\n", l.at[i]);
            continue;
        }
        failed = CTLV3_ERROR;
        (void)ctl_flush();
        fprintf(stderr, "Failed to defragment etcd member[%s] (%s)\n", l.at[i],
                e.msg);
    }
    endpoints_release(&l);
    return rc ? rc : failed;
}

/* --- Alarms. -------------------------------------------------------------------------------- */

static const char *alarm_name(int32_t alarm)
{
    const char *name = msg_enum_name(&rpcpb_alarm_type_enum, alarm);

    return name ? name : "UNKNOWN";
}

static int print_alarms(struct ctl *c, const struct rpcpb_alarm_response *r)
{
    if (ctlv3_print_whole(c, &rpcpb_alarm_response_desc, r))
        return 0;
    if (c->v3->format == CTLV3_TABLE)
        return ctlv3_unsupported(c);
    if (c->v3->format == CTLV3_FIELDS)
        ctlv3_print_header(r->header);
    for (size_t i = 0; i < r->alarms.n; i++) {
        const struct rpcpb_alarm_member *a = &r->alarms.items[i];

        printf(c->v3->format == CTLV3_FIELDS
                   ? "\"MemberID\" : %" PRIu64 "\n\"AlarmType\" : %s\n\n"
                   : "memberID:%" PRIu64 " alarm:%s \n",
               a->memberID, alarm_name(a->alarm));
    }
    return 0;
}

int ctlv3_alarm_list(struct ctl *c)
{
    struct rpcpb_alarm_response response = {0};
    struct rpcpb_alarm_request r = {.action = RPCPB_ALARM_DO_GET};
    int rc;

    if (c->n_args != 0)
        return ctlv3_fail(CTLV3_BAD_ARGS,
                          "alarm list command accepts no arguments");
    rc = ctlv3_call(c, RPC_MAINTENANCE_ALARM, &r, &response);
    return rc ? rc : print_alarms(c, &response);
}

/* All that are raised, one by one; what is gone now is printed. */
int ctlv3_alarm_disarm(struct ctl *c)
{
    struct rpcpb_alarm_response raised = {0};
    struct rpcpb_alarm_request r = {.action = RPCPB_ALARM_DO_GET};
    int rc;

    if (c->n_args != 0)
        return ctlv3_fail(CTLV3_BAD_ARGS,
                          "alarm disarm command accepts no arguments");
    rc = ctlv3_call(c, RPC_MAINTENANCE_ALARM, &r, &raised);
    for (size_t i = 0; i < raised.alarms.n && rc == 0; i++) {
        struct rpcpb_alarm_response one = {0};

        r = (struct rpcpb_alarm_request){
            .action = RPCPB_ALARM_DO_DEACTIVATE,
            .memberID = raised.alarms.items[i].memberID,
            .alarm = raised.alarms.items[i].alarm,
        };
        rc = ctlv3_call(c, RPC_MAINTENANCE_ALARM, &r, &one);
    }
    return rc ? rc : print_alarms(c, &raised);
}

/* --- Downgrades. ----------------------------------------------------------------------------- */

static int downgrade(struct ctl *c, int32_t action, const char *name)
{
    struct rpcpb_downgrade_response response = {0};
    struct rpcpb_downgrade_request r = {.action = action};
    bool cancel = action == RPCPB_DOWNGRADE_CANCEL;
    int rc;

    if (!cancel && c->n_args < 1)
        return ctlv3_fail(CTLV3_BAD_ARGS, "TARGET_VERSION not provided");
    if (c->n_args > (cancel ? 0 : 1))
        return ctlv3_fail(CTLV3_BAD_ARGS, "too many arguments");
    if (!cancel)
        r.version = str_of(c->args[0]);
    rc = ctlv3_call(c, RPC_MAINTENANCE_DOWNGRADE, &r, &response);
    return rc ? rc
              : ctlv3_print_simple(c, &rpcpb_downgrade_response_desc, &response,
                                   "Downgrade %s success, cluster version "
                                   "%.*s\n",
                                   name, STR_FMT(response.version));
}

int ctlv3_downgrade_validate(struct ctl *c)
{
    return downgrade(c, RPCPB_DOWNGRADE_VALIDATE, "validate");
}

int ctlv3_downgrade_enable(struct ctl *c)
{
    return downgrade(c, RPCPB_DOWNGRADE_ENABLE, "enable");
}

int ctlv3_downgrade_cancel(struct ctl *c)
{
    return downgrade(c, RPCPB_DOWNGRADE_CANCEL, "cancel");
}
