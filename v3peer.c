/*
 * v3peer.c - what members ask each other about the v3 state.
 *
 * A follower hands renewals of leases on to the leader, which alone knows when
 * they run out. It answers only when it has applied what is committed: then a
 * lease that was granted is known, and one that was revoked is not.
 */
#include "v3peer.h"

#include "json.h"
#include "rpcpb.h"
#include "v2.h"
#include "v3server.h"

#include <inttypes.h>

#define BODY_MAX 65536
#define PROTOBUF "application/protobuf"

static bool read_body(struct http_exchange *x, struct buf *body)
{
    const char *why;

    if (http_read_body(x, body, BODY_MAX, &why) == 0)
        return true;
    http_error(x, 400, "error reading body");
    return false;
}

static void reply_message(struct http_exchange *x, const struct msg_desc *d,
                          const void *msg)
{
    struct buf b = {0};

    msg_encode(d, msg, &b);
    http_reply(x, 200, PROTOBUF, b.data, b.len);
    buf_release(&b);
}

/* About leases: the request was good, and all that is committed is applied.
 * False: an error has been answered. */
static bool may_answer(struct server *s, struct http_exchange *x, bool good)
{
    if (!good)
        http_error(x, 400, "error unmarshalling request");
    else if (!v3_wait_applied(s))
        http_error(x, 408,
                   "waiting for node to catch up its applied index has timed "
                   "out");
    else
        return true;
    return false;
}

/* The header of these answers is empty, as etcd's is. */
static void serve_renewal(struct server *s, struct http_exchange *x,
                          struct str body)
{
    struct rpcpb_lease_keep_alive_request req;
    struct rpcpb_response_header header = {0};
    struct rpcpb_lease_keep_alive_response resp = {.header = &header};
    struct arena arena = {.limit = BODY_MAX};
    bool ok = msg_decode(&rpcpb_lease_keep_alive_request_desc, body.p, body.n,
                         &arena, &req) == 0;

    arena_release(&arena);
    if (!may_answer(s, x, ok))
        return;
    if (!v3_lease_renew_local(s, req.ID, &resp.TTL)) {
        http_error(x, 500, "not primary lessor");
    } else if (resp.TTL == 0) {
        http_error(x, 404, "lease not found");
    } else {
        resp.ID = req.ID;
        reply_message(x, &rpcpb_lease_keep_alive_response_desc, &resp);
    }
}

static void reply_info(struct http_exchange *x, int64_t id,
                       const struct v3_lease_info *info)
{
    struct rpcpb_response_header header = {0};
    struct rpcpb_lease_time_to_live_response resp = {
        .header = &header,
        .ID = id,
        .TTL = info->ttl,
        .grantedTTL = info->granted_ttl,
    };
    struct rpcpb_lease_internal_response wrap = {&resp};

    resp.keys.items = info->keys;
    resp.keys.n = info->n_keys;
    reply_message(x, &rpcpb_lease_internal_response_desc, &wrap);
}

static void serve_info(struct server *s, struct http_exchange *x,
                       struct str body)
{
    struct rpcpb_lease_internal_request req;
    struct rpcpb_lease_time_to_live_request what = {0};
    struct arena arena = {.limit = BODY_MAX};
    struct v3_lease_info info;
    bool ok = msg_decode(&rpcpb_lease_internal_request_desc, body.p, body.n,
                         &arena, &req) == 0 &&
              req.LeaseTimeToLiveRequest;

    if (ok)
        what = *req.LeaseTimeToLiveRequest;
    arena_release(&arena);
    if (!may_answer(s, x, ok))
        return;
    if (!v3_lease_info_local(s, what.ID, what.keys, &info)) {
        http_error(x, 500, "not primary lessor");
        return;
    }
    if (info.ttl < 0)
        http_error(x, 404, "lease not found");
    else
        reply_info(x, what.ID, &info);
    v3_lease_info_release(&info);
}

static void serve_leases(struct server *s, struct http_exchange *x,
                         void (*serve)(struct server *, struct http_exchange *,
                                       struct str))
{
    struct buf body = {0};

    if (!http_method_is(x, "POST"))
        http_error(x, 405, "Method Not Allowed");
    else if (read_body(x, &body))
        serve(s, x, buf_str(&body));
    buf_release(&body);
}

/* --- Hashes. -------------------------------------------------------------- */

static bool asked_revision(const struct buf *body, int64_t *out)
{
    struct json *j;
    const struct json *r;
    bool ok = json_parse(body->data, body->len, &j, NULL) == 0;

    if (!ok)
        return false;
    r = json_get(j, "revision");
    *out = 0;
    ok = j->type == JSON_OBJECT && (!r || json_i64(r, out));
    json_free(j);
    return ok;
}

static void serve_hash(struct server *s, struct http_exchange *x)
{
    int64_t revision, compacted;
    struct buf body = {0}, b = {0};
    enum v3_error error;
    struct v3_header h;
    uint32_t hash;

    if (!v2_allow(x, "GET"))
        return;
    v2_set_cluster_id(s, x);
    if (!read_body(x, &body))
        return;
    if (!asked_revision(&body, &revision)) {
        http_error(x, 400, "error unmarshalling request");
    } else {
        error = v3_hash_kv(s, revision, &hash, &compacted, &h);
        if (error != V3_OK) {
            http_error(x, 400, v3error_text(error) + strlen("etcdserver: "));
        } else {
            buf_printf(
                &b, "{\"header\":{\"revision\":%" PRId64 "},\"hash\":%" PRIu32,
                h.revision, hash);
            if (compacted)
                buf_printf(&b, ",\"compact_revision\":%" PRId64, compacted);
            buf_addc(&b, '}');
            http_reply(x, 200, "application/json", b.data, b.len);
        }
    }
    buf_release(&body);
    buf_release(&b);
}

bool v3_peer_handle(struct server *s, struct http_exchange *x)
{
    struct str path = http_path(x);

    if (str_eqz(path, "/leases"))
        serve_leases(s, x, serve_renewal);
    else if (str_eqz(path, "/leases/internal"))
        serve_leases(s, x, serve_info);
    else if (str_eqz(path, "/members/hashkv"))
        serve_hash(s, x);
    else
        return false;
    return true;
}
