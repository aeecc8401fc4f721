/*
 * v3cluster.c - the Cluster service: who is a member, and changes of that
 * (spec: v3-api, 6). A change goes through the log as one of raft's own entries, so
 * these handlers wait, on threads of their own (RPC_BLOCKING).
 *
 * A header here has no revision: membership has nothing to do with keys.
 */
#include "grpc.h"
#include "metrics.h"
#include "rpc.h"
#include "url.h"

/* False: the call has ended with the error that code is. */
static bool went_well(struct rpc_call *c, int code)
{
    if (code == SERVER_ENOT_STARTED) /* with this code, as etcd 3.4 has it */
        rpc_fail(c, GRPC_UNKNOWN, server_error_text(code));
    else if (code < 0)
        rpc_fail_error(c, v3_error_of_server(code));
    return code == 0;
}

static struct rpcpb_response_header *header(struct rpc_call *c)
{
    struct v3_header h = v3_header(c->server);

    h.revision = 0;
    return rpc_header(c, h);
}

/* A copy of n strings, in the arena: all members of a cluster are far smaller
 * than its limit, so that there is room. */
static void copy_strings(struct rpc_call *c, char **from, size_t n,
                         struct str **items, size_t *n_items)
{
    *items = arena_alloc(&c->arena, n * sizeof(**items));
    *n_items = *items ? n : 0;
    for (size_t i = 0; i < *n_items; i++)
        arena_str(&c->arena, str_of(from[i]), &(*items)[i]);
}

static void copy_member(struct rpc_call *c, const struct member *m,
                        struct rpcpb_member *out)
{
    out->ID = m->id;
    out->isLearner = m->is_learner;
    arena_str(&c->arena, str_of(m->name), &out->name);
    copy_strings(c, m->peer_urls, m->n_peer_urls, &out->peerURLs.items,
                 &out->peerURLs.n);
    copy_strings(c, m->client_urls, m->n_client_urls, &out->clientURLs.items,
                 &out->clientURLs.n);
}

/* All members as they are now, by rising id. */
static void list_members(struct rpc_call *c, struct rpcpb_member **items,
                         size_t *n_items)
{
    struct member *m;
    size_t n = cluster_members(server_cluster(c->server), &m);

    *items = arena_alloc(&c->arena, n * sizeof(**items));
    *n_items = *items ? n : 0;
    for (size_t i = 0; i < *n_items; i++)
        copy_member(c, &m[i], &(*items)[i]);
    members_free(m, n);
}

/* The answer to all changes but an addition: they are one message on the wire. */
static void reply_members(struct rpc_call *c, int code)
{
    struct rpcpb_member_list_response r = {0};

    if (!went_well(c, code))
        return;
    r.header = header(c);
    list_members(c, &r.members.items, &r.members.n);
    rpc_reply(c, &r);
}

static bool parse_urls(struct rpc_call *c, const struct str *urls, size_t n,
                       struct url_list *out)
{
    if (n > 0 && url_list_of(urls, n, out, NULL) == 0)
        return true;
    rpc_fail_error(c, V3_MEMBER_BAD_URLS);
    return false;
}

bool v3cluster_check_add(struct rpc_call *c)
{
    const struct rpcpb_member_add_request *req = c->request;
    struct url_list urls;
    bool ok = parse_urls(c, req->peerURLs.items, req->peerURLs.n, &urls);

    if (ok)
        url_list_release(&urls);
    return ok;
}

void v3cluster_add(struct rpc_call *c)
{
    const struct rpcpb_member_add_request *req = c->request;
    struct rpcpb_member_add_response r = {0};
    struct rpcpb_member added = {0};
    struct url_list urls;
    struct member m;
    int rc;

    if (!parse_urls(c, req->peerURLs.items, req->peerURLs.n, &urls))
        return;
    rc = server_add_member(c->server, &urls, req->isLearner, &m);
    url_list_release(&urls);
    if (!went_well(c, rc))
        return;
    copy_member(c, &m, &added);
    member_release(&m);
    r.header = header(c);
    r.member = &added;
    list_members(c, &r.members.items, &r.members.n);
    rpc_reply(c, &r);
}

void v3cluster_remove(struct rpc_call *c)
{
    const struct rpcpb_member_remove_request *req = c->request;

    reply_members(c, server_remove_member(c->server, req->ID));
}

void v3cluster_update(struct rpc_call *c)
{
    const struct rpcpb_member_update_request *req = c->request;
    struct url_list urls;
    struct member m;
    int rc;

    /* etcd keeps what it is given, in that order. It takes anything for a URL,
     * too, which would keep the member from starting again. */
    if (req->peerURLs.n == 0 ||
        url_list_as_given(req->peerURLs.items, req->peerURLs.n, &urls, NULL)) {
        bool known = cluster_member(server_cluster(c->server), req->ID, &m);

        if (known)
            member_release(&m);
        rpc_fail_error(c, known ? V3_MEMBER_BAD_URLS : V3_MEMBER_NOT_FOUND);
        return;
    }
    rc = server_update_member(c->server, req->ID, &urls);
    url_list_release(&urls);
    reply_members(c, rc);
}

void v3cluster_promote(struct rpc_call *c)
{
    const struct rpcpb_member_promote_request *req = c->request;

    int rc = server_promote_member(c->server, req->ID);

    metric_add(M_PROMOTED, rc == 0 && server_is_leader(c->server));
    reply_members(c, rc);
}

/* Of this member's own knowledge, unless a linearized answer is asked for. */
void v3cluster_list(struct rpc_call *c)
{
    const struct rpcpb_member_list_request *req = c->request;
    enum v3_error e = req->linearizable ? v3_read_index_wait(c->server) : V3_OK;

    if (e)
        rpc_fail_error(c, e);
    else
        reply_members(c, 0);
}
