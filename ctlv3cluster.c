/*
 * ctlv3cluster.c - member list, add, remove, update and promote, and
 * move-leader.
 */
#include "ctlv3.h"

#include <inttypes.h>
#include <stdio.h>
#include <strings.h>

/* --- Listing. ------------------------------------------------------------------------ */

static void join(struct buf *b, const struct str *items, size_t n,
                 const char *sep)
{
    for (size_t i = 0; i < n; i++) {
        buf_adds(b, i ? sep : "");
        buf_addstr(b, items[i]);
    }
}

/* The columns of a member. */
struct row {
    struct buf peers, clients;
    const char *status;
};

static void row_of(const struct rpcpb_member *m, const char *sep,
                   struct row *out)
{
    *out = (struct row){.status = m->name.n ? "started" : "unstarted"};
    join(&out->peers, m->peerURLs.items, m->peerURLs.n, sep);
    join(&out->clients, m->clientURLs.items, m->clientURLs.n, sep);
}

static void row_release(struct row *r)
{
    buf_release(&r->peers);
    buf_release(&r->clients);
}

static void list_simple(const struct rpcpb_member_list_response *r)
{
    for (size_t i = 0; i < r->members.n; i++) {
        const struct rpcpb_member *m = &r->members.items[i];
        struct row row;

        row_of(m, ",", &row);
        printf("%" PRIx64 ", %s, %.*s, %s, %s, %s\n", m->ID, row.status,
               STR_FMT(m->name), buf_z(&row.peers), buf_z(&row.clients),
               m->isLearner ? "true" : "false");
        row_release(&row);
    }
}

static void list_table(const struct rpcpb_member_list_response *r)
{
    static const char *const head[] = {
        "ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER"};
    struct ctlv3_table t = {.n_columns = ARRAY_LEN(head)};

    for (size_t i = 0; i < ARRAY_LEN(head); i++)
        ctlv3_table_add(&t, "%s", head[i]);
    for (size_t i = 0; i < r->members.n; i++) {
        const struct rpcpb_member *m = &r->members.items[i];
        struct row row;

        row_of(m, ",", &row);
        ctlv3_table_add(&t, "%" PRIx64, m->ID);
        ctlv3_table_add(&t, "%s", row.status);
        ctlv3_table_add(&t, "%.*s", STR_FMT(m->name));
        ctlv3_table_add(&t, "%s", buf_z(&row.peers));
        ctlv3_table_add(&t, "%s", buf_z(&row.clients));
        ctlv3_table_add(&t, "%s", m->isLearner ? "true" : "false");
        row_release(&row);
    }
    ctlv3_table_print(&t);
}

static void list_fields(const struct rpcpb_member_list_response *r)
{
    ctlv3_print_header(r->header);
    for (size_t i = 0; i < r->members.n; i++) {
        const struct rpcpb_member *m = &r->members.items[i];

        printf("\"ID\" : %" PRIu64 "\n", m->ID);
        ctlv3_print_quoted("Name", m->name);
        for (size_t k = 0; k < m->peerURLs.n; k++)
            ctlv3_print_quoted("PeerURL", m->peerURLs.items[k]);
        for (size_t k = 0; k < m->clientURLs.n; k++)
            ctlv3_print_quoted("ClientURL", m->clientURLs.items[k]);
        printf("\"IsLearner\" : %s\n\n", m->isLearner ? "true" : "false");
    }
}

/* The lines of the v2 command, which say who leads. */
static int list_old(struct ctl *c, const struct rpcpb_member_list_response *r)
{
    struct rpcpb_status_response status = {0};
    struct rpcpb_status_request request = {0};
    int rc = ctlv3_call(c, RPC_MAINTENANCE_STATUS, &request, &status);

    if (rc != 0)
        return rc;
    for (size_t i = 0; i < r->members.n; i++) {
        const struct rpcpb_member *m = &r->members.items[i];
        struct row row;

        row_of(m, ",", &row);
        if (m->name.n == 0)
            printf("%" PRIx64 "[unstarted]: peerURLs=%s\n", m->ID,
                   buf_z(&row.peers));
        else
            printf("%" PRIx64 ": name=%.*s peerURLs=%s clientURLs=%s "
                   "isLeader=%s\n",
                   m->ID, STR_FMT(m->name), buf_z(&row.peers),
                   buf_z(&row.clients),
                   m->ID == status.leader ? "true" : "false");
        row_release(&row);
    }
    return 0;
}

/* What any member knows will do by default, as with etcdctl 3.4: who has no
 * quorum wants to see his members most of all. */
int ctlv3_member_list(struct ctl *c)
{
    const char *consistency = ctl_string(c, "consistency", "s");
    struct rpcpb_member_list_response response = {0};
    struct rpcpb_member_list_request r = {.linearizable =
                                              strcmp(consistency, "s") != 0};
    int rc;

    if (r.linearizable && strcmp(consistency, "l") != 0)
        return ctlv3_fail(CTLV3_BAD_FEATURE, "unknown consistency flag \"%s\"",
                          consistency);
    rc = ctlv3_call(c, RPC_CLUSTER_MEMBER_LIST, &r, &response);
    if (rc != 0)
        return rc;
    if (ctlv3_print_whole(c, &rpcpb_member_list_response_desc, &response))
        return 0;
    if (c->v3->format == CTLV3_TABLE)
        list_table(&response);
    else if (c->v3->format == CTLV3_FIELDS)
        list_fields(&response);
    else if (c->mode == CTL_MODE_UNSET && c->n_settings == c->v3->n_from_env &&
             !ctl_given(c, "write-out"))
        return list_old(c, &response);
    else
        list_simple(&response);
    return 0;
}

/* --- Changes. ------------------------------------------------------------------------- */

static int member_id(const char *s, uint64_t *out)
{
    char *why;
    int rc;

    if (ctlv3_parse_uint(s, 16, out, &why))
        return 0;
    rc = ctlv3_fail(CTLV3_BAD_ARGS,
                    "bad member ID arg (%s), expecting ID in Hex", why);
    free(why);
    return rc;
}

/* --peer-urls in order, as given, in the arena. 0, or the exit code. */
static int peer_urls(struct ctl *c, struct str **items, size_t *n)
{
    struct str list = str_of(ctl_string(c, "peer-urls", "")), item;
    struct url_list checked;
    struct err e;

    if (list.n == 0)
        return ctlv3_fail(CTLV3_BAD_ARGS, "member peer urls not provided");
    do {
        str_cut(&list, ',', &item);
        *items = arena_grow(&c->v3->arena, *items, *n * sizeof(**items),
                            (*n + 1) * sizeof(**items));
        (*items)[(*n)++] = item;
    } while (list.n > 0);
    if (url_list_of(*items, *n, &checked, &e) != 0)
        return ctlv3_fail(CTLV3_ERROR, "%s", e.msg);
    url_list_release(&checked);
    return 0;
}

static uint64_t cluster_id(const struct rpcpb_response_header *h)
{
    return h ? h->cluster_id : 0;
}

static void print_conf(const struct rpcpb_member_add_response *r,
                       const char *name, struct str urls)
{
    struct buf conf = {0};

    for (size_t i = 0; i < r->members.n; i++) {
        const struct rpcpb_member *m = &r->members.items[i];
        struct str known_as = m->ID == r->member->ID ? str_of(name) : m->name;

        for (size_t k = 0; k < m->peerURLs.n; k++) {
            struct str url = m->peerURLs.items[k];

            buf_printf(&conf, "%s%.*s=%.*s", conf.len ? "," : "",
                       STR_FMT(known_as), STR_FMT(url));
        }
    }
    printf("\nETCD_NAME=\"%s\"\n", name);
    printf("ETCD_INITIAL_CLUSTER=\"%s\"\n", buf_z(&conf));
    printf("ETCD_INITIAL_ADVERTISE_PEER_URLS=\"%.*s\"\n", STR_FMT(urls));
    printf("ETCD_INITIAL_CLUSTER_STATE=\"existing\"\n");
    buf_release(&conf);
}

/* The likeliest mistake is the v2 form, `member add NAME URL`. */
static int too_many(const struct ctl *c)
{
    struct buf b = {0};
    int rc;

    for (size_t i = 0; i < c->n_args; i++) {
        if (strncasecmp(c->args[i], "http", 4) == 0)
            buf_printf(&b, ", did you mean --peer-urls=%s", c->args[i]);
    }
    rc = ctlv3_fail(CTLV3_BAD_ARGS, "too many arguments%s", buf_z(&b));
    buf_release(&b);
    return rc;
}

int ctlv3_member_add(struct ctl *c)
{
    struct rpcpb_member_add_response response = {0};
    struct rpcpb_member_add_request r = {.isLearner = ctl_bool(c, "learner")};
    int rc;

    if (c->n_args < 1)
        return ctlv3_fail(CTLV3_BAD_ARGS, "member name not provided");
    if (c->n_args > 1)
        return too_many(c);
    rc = peer_urls(c, &r.peerURLs.items, &r.peerURLs.n);
    if (rc == 0)
        rc = ctlv3_call(c, RPC_CLUSTER_MEMBER_ADD, &r, &response);
    if (rc != 0)
        return rc;
    if (!response.member)
        return ctlv3_fail(CTLV3_ERROR, "the server named no member");
    rc = ctlv3_print_simple(c, &rpcpb_member_add_response_desc, &response,
                            "Member %16" PRIx64 " added to cluster %16" PRIx64
                            "\n",
                            response.member->ID, cluster_id(response.header));
    if (rc == 0 && c->v3->format == CTLV3_SIMPLE)
        print_conf(&response, c->args[0],
                   str_of(ctl_string(c, "peer-urls", "")));
    return rc;
}

int ctlv3_member_remove(struct ctl *c)
{
    struct rpcpb_member_remove_response response = {0};
    struct rpcpb_member_remove_request r = {0};
    int rc;

    if (c->n_args != 1)
        return ctlv3_fail(CTLV3_BAD_ARGS, "member ID is not provided");
    rc = member_id(c->args[0], &r.ID);
    if (rc == 0)
        rc = ctlv3_call(c, RPC_CLUSTER_MEMBER_REMOVE, &r, &response);
    return rc ? rc
              : ctlv3_print_simple(
                    c, &rpcpb_member_remove_response_desc, &response,
                    "Member %16" PRIx64 " removed from cluster %16" PRIx64 "\n",
                    r.ID, cluster_id(response.header));
}

int ctlv3_member_update(struct ctl *c)
{
    struct rpcpb_member_update_response response = {0};
    struct rpcpb_member_update_request r = {0};
    int rc;

    if (c->n_args != 1)
        return ctlv3_fail(CTLV3_BAD_ARGS, "member ID is not provided");
    rc = member_id(c->args[0], &r.ID);
    if (rc != 0)
        return rc;
    rc = peer_urls(c, &r.peerURLs.items, &r.peerURLs.n);
    if (rc == 0)
        rc = ctlv3_call(c, RPC_CLUSTER_MEMBER_UPDATE, &r, &response);
    return rc ? rc
              : ctlv3_print_simple(
                    c, &rpcpb_member_update_response_desc, &response,
                    "Member %16" PRIx64 " updated in cluster %16" PRIx64 "\n",
                    r.ID, cluster_id(response.header));
}

int ctlv3_member_promote(struct ctl *c)
{
    struct rpcpb_member_promote_response response = {0};
    struct rpcpb_member_promote_request r = {0};
    int rc;

    if (c->n_args != 1)
        return ctlv3_fail(CTLV3_BAD_ARGS, "member ID is not provided");
    rc = member_id(c->args[0], &r.ID);
    if (rc == 0)
        rc = ctlv3_call(c, RPC_CLUSTER_MEMBER_PROMOTE, &r, &response);
    return rc ? rc
              : ctlv3_print_simple(
                    c, &rpcpb_member_promote_response_desc, &response,
                    "Member %16" PRIx64 " promoted in cluster %16" PRIx64 "\n",
                    r.ID, cluster_id(response.header));
}

/* --- Leadership. ---------------------------------------------------------------------- */

/*
 * The leader among the endpoints: a client of it alone, and its id. One that
 * does not answer may be what leadership shall move away from, or be down for
 * long: it is told of only if no other endpoint leads. 0, or the exit code.
 */
static int find_leader(struct ctl *c, struct grpc_client **out, uint64_t *id)
{
    struct buf asked = {0};
    struct err silent;
    bool is_silent = false;
    int rc = ctlv3_prepare(c);

    if (rc == 0)
        rc = ctlv3_login(c);
    *out = NULL;
    for (size_t i = 0; i < c->v3->n_endpoints && rc == 0 && !*out; i++) {
        const char *endpoint = c->v3->endpoints[i];
        struct rpcpb_status_response r = {0};
        struct rpcpb_status_request request = {0};
        struct err e;
        struct grpc_client *one = ctlv3_client_of(c, &endpoint, 1, &e);
        int status = GRPC_UNAVAILABLE;

        if (one)
            status =
                ctlv3_try(c, one, RPC_MAINTENANCE_STATUS, &request, &r, &e);
        buf_printf(&asked, "%s%s", i ? " " : "", endpoint);
        if (status != GRPC_OK) {
            is_silent = true;
            silent = e;
        } else if (r.header && r.header->member_id == r.leader) {
            *id = r.leader;
            *out = one;
            continue;
        }
        grpc_client_close(one);
    }
    if (rc == 0 && !*out && is_silent)
        rc = ctlv3_fail_status(c, CTLV3_ERROR, &silent);
    else if (rc == 0 && !*out)
        rc = ctlv3_fail(CTLV3_BAD_ARGS, "no leader endpoint given at [%s]",
                        buf_z(&asked));
    buf_release(&asked);
    return rc;
}

int ctlv3_move_leader(struct ctl *c)
{
    struct rpcpb_move_leader_response response = {0};
    struct rpcpb_move_leader_request r = {0};
    struct grpc_client *leader;
    uint64_t id = 0;
    struct err e;
    char *why;
    int rc;

    if (c->n_args != 1)
        return ctlv3_fail(CTLV3_BAD_ARGS,
                          "move-leader command needs 1 argument");
    if (!ctlv3_parse_uint(c->args[0], 16, &r.targetID, &why)) {
        rc = ctlv3_fail(CTLV3_BAD_ARGS, "%s", why);
        free(why);
        return rc;
    }
    rc = find_leader(c, &leader, &id);
    if (rc != 0)
        return rc;
    if (ctlv3_try(c, leader, RPC_MAINTENANCE_MOVE_LEADER, &r, &response, &e) !=
        0)
        rc = ctlv3_fail_status(c, CTLV3_ERROR, &e);
    else
        rc = ctlv3_print_simple(c, &rpcpb_move_leader_response_desc, &response,
                                "Leadership transferred from %" PRIx64
                                " to %" PRIx64 "\n",
                                id, r.targetID);
    grpc_client_close(leader);
    return rc;
}
