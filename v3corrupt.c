/*
 * v3corrupt.c - do all members have the same v3 state? (spec: raft-and-storage,
 * 5 and 8.5)
 *
 * The members' hashes of the key space at one revision are compared, over the
 * peers' HTTP: before a member serves (--experimental-initial-corrupt-check),
 * and now and then by the leader (--experimental-corrupt-check-time), who
 * raises the CORRUPT alarm: from then on nobody changes data.
 *
 * A hash covers what compaction left, so that only those with the same
 * compacted revision can be compared.
 */
#include "client.h"
#include "json.h"
#include "log.h"
#include "server_impl.h"

#include <inttypes.h>
#include <stdio.h>

#define ASK_MS 5000
#define ANSWER_MAX 65536

struct hash {
    int64_t revision, compacted;
    uint32_t hash;
};

static bool read_hash(const struct buf *b, struct hash *out)
{
    struct json *j;
    const struct json *header;
    uint64_t hash = 0;
    bool ok = json_parse(b->data, b->len, &j, NULL) == 0;

    if (!ok)
        return false;
    *out = (struct hash){0};
    header = json_get(j, "header");
    ok = j->type == JSON_OBJECT && header && header->type == JSON_OBJECT &&
         json_i64(json_get(header, "revision"), &out->revision) &&
         json_u64(json_get(j, "hash"), &hash);
    if (ok && json_get(j, "compact_revision"))
        ok = json_i64(json_get(j, "compact_revision"), &out->compacted);
    out->hash = (uint32_t)hash;
    json_free(j);
    return ok;
}

static bool ask_hash(struct server *s, const char *peer_url, int64_t revision,
                     struct hash *out)
{
    char body[48];
    struct url url = {0};
    struct client_response resp;
    struct client_request req = {
        .method = "GET",
        .base = &url,
        .target = "/members/hashkv",
        .headers = "Content-Type: application/json\r\n",
        .body = body,
        .dial_ms = ASK_MS,
        .timeout_ms = ASK_MS,
        .body_max = ANSWER_MAX,
        .guard = &s->guard,
        .secure = s->config->secure_peer,
    };
    bool ok = false;

    req.n_body = (size_t)snprintf(body, sizeof(body),
                                  "{\"revision\":%" PRId64 "}", revision);
    if (url_parse(str_of(peer_url), &url, NULL) < 0)
        return false;
    if (client_do(&req, &resp, NULL) == 0) {
        ok = resp.status == 200 && read_hash(&resp.body, out);
        client_response_release(&resp);
    }
    url_release(&url);
    return ok;
}

static bool ask_member(struct server *s, const struct member *m,
                       int64_t revision, struct hash *out)
{
    for (size_t i = 0; i < m->n_peer_urls; i++)
        if (ask_hash(s, m->peer_urls[i], revision, out))
            return true;
    return false;
}

static bool own_hash(struct server *s, struct hash *out)
{
    struct v3_header h;
    enum v3_error error = v3_hash_kv(s, 0, &out->hash, &out->compacted, &h);

    out->revision = h.revision;
    return error == V3_OK;
}

/* etcd counts from -1, and leaves 0 out of its answers. */
static bool comparable(const struct hash *a, const struct hash *b)
{
    return a->compacted == b->compacted;
}

int v3_check_initial(struct server *s, struct err *e)
{
    struct member *m;
    struct hash mine;
    size_t n, differ = 0;

    if (!own_hash(s, &mine))
        return 0;
    log_info("etcdserver", "starting initial corruption check");
    n = cluster_members(s->cluster, &m);
    for (size_t i = 0; i < n; i++) {
        struct hash theirs;

        if (m[i].id == s->id)
            continue;
        if (!ask_member(s, &m[i], mine.revision, &theirs))
            log_warn("etcdserver",
                     "cannot check hash of peer %" PRIx64
                     " at revision %" PRId64,
                     m[i].id, mine.revision);
        else if (comparable(&mine, &theirs) && mine.hash != theirs.hash)
            differ++;
    }
    members_free(m, n);
    if (differ)
        return err_set(e, -1, "%" PRIx64 " found data inconsistency with peers",
                       s->id);
    log_info("etcdserver", "initial corruption checking passed; no corruption");
    return 0;
}

static void accuse(struct server *s, uint64_t id, const char *why)
{
    log_error("etcdserver", "found corruption: member %" PRIx64 " %s", id, why);
    v3_raise_alarm(s, id, V3_ALARM_CORRUPT);
}

static void check_member(struct server *s, uint64_t id, const struct hash *then,
                         const struct hash *now, const struct hash *theirs)
{
    if (theirs->revision > now->revision)
        accuse(s, id, "has a newer revision than the leader");
    else if (theirs->compacted > now->compacted)
        accuse(s, id, "has compacted more than the leader");
    else if (comparable(then, theirs) && theirs->hash != then->hash)
        accuse(s, id, "has another hash than the leader");
}

void v3_check_members(struct server *s)
{
    struct hash then, now;
    struct hash *theirs;
    struct member *m;
    bool *told;
    size_t n;

    if (!server_is_leader(s) || !own_hash(s, &then))
        return;
    n = cluster_members(s->cluster, &m);
    theirs = xcalloc(n + 1, sizeof(*theirs));
    told = xcalloc(n + 1, sizeof(*told));
    for (size_t i = 0; i < n; i++)
        told[i] =
            m[i].id != s->id && ask_member(s, &m[i], then.revision, &theirs[i]);
    if (v3_read_index_wait(s) == V3_OK && own_hash(s, &now)) {
        if (now.revision == then.revision && comparable(&now, &then) &&
            now.hash != then.hash)
            accuse(s, s->id, "has another hash than a moment ago");
        for (size_t i = 0; i < n; i++)
            if (told[i])
                check_member(s, m[i].id, &then, &now, &theirs[i]);
    }
    members_free(m, n);
    free(theirs);
    free(told);
}
