/*
 * reconf.c - membership changes, the cluster's version, and handing leadership
 * over (spec: raft-and-storage, 2.4, 2.5, 3.4).
 *
 * A change is proposed like any entry, and takes effect on each member when it
 * is applied: first in raft (who votes), then in the store below /0 (who is
 * who). The transport follows in the monitor thread, because closing a peer
 * waits for that peer's threads, and one of those may be the applier.
 */
#include "client.h"
#include "log.h"
#include "server_impl.h"

#include <inttypes.h>
#include <stdio.h>

#define HEALTHY_NS (5 * NS_PER_S) /* connected at least that long */
#define PROMOTE_PERCENT 90
#define BOOT_TICKS_WAIT_NS (5 * NS_PER_S)
#define REMOVED_LINGER_MS 1000 /* others should hear of our last answers */

/* --- Applying. ---------------------------------------------------------- */

static int decode_change(const struct raft_entry *entry,
                         struct raft_conf_change_v2 *cc)
{
    struct str data = blob_str(entry->data);

    if (entry->type == RAFT_ENTRY_CONF_CHANGE_V2)
        return raftpb_decode_conf_change_v2(data.p, data.n, cc);
    *cc = (struct raft_conf_change_v2){.n = 1};
    return raftpb_decode_conf_change(data.p, data.n, &cc->changes[0]);
}

bool reconf_readable(const struct raft_entry *entry)
{
    struct raft_conf_change_v2 cc;

    return decode_change(entry, &cc) == 0;
}

/* Raft's lock comes before mu, so mu is given up meanwhile; only the applier,
 * which we are, changes the store. */
static void apply_to_raft(struct server *s,
                          const struct raft_conf_change_v2 *cc)
{
    struct raft_conf_state cs = {0};

    pthread_mutex_unlock(&s->mu);
    server_lock_raft(s);
    raft_conf_state_copy(&cs, raft_apply_conf_change(s->raft, cc));
    server_unlock_raft(s);
    pthread_mutex_lock(&s->mu);
    server_set_conf_state(s, &cs);
}

static void log_change(struct server *s, const struct raft_conf_change *cc)
{
    uint64_t cid = cluster_id(s->cluster);
    struct member m;

    if (cc->type == RAFT_REMOVE_NODE) {
        log_info("etcdserver/membership",
                 "removed member %" PRIx64 " from cluster %" PRIx64,
                 cc->node_id, cid);
    } else if (cluster_member(s->cluster, cc->node_id, &m)) {
        struct buf urls = {0};

        for (size_t i = 0; i < m.n_peer_urls; i++)
            buf_printf(&urls, "%s%s", i ? " " : "", m.peer_urls[i]);
        log_info("etcdserver/membership",
                 "%s member %" PRIx64 " [%s] %s cluster %" PRIx64,
                 cc->type == RAFT_UPDATE_NODE ? "updated" : "added",
                 cc->node_id, buf_z(&urls),
                 cc->type == RAFT_UPDATE_NODE ? "in" : "to", cid);
        buf_release(&urls);
        member_release(&m);
    }
}

void reconf_apply(struct server *s, const struct raft_entry *entry,
                  uint64_t *id, int *code)
{
    struct raft_conf_change_v2 cc, none = {.n = 0};

    *id = 0;
    *code = 0;
    if (decode_change(entry, &cc) < 0)
        log_fatal("etcdserver",
                  "configuration change at index %" PRIu64 " is unreadable: "
                  "it was written by a newer version",
                  entry->index);
    if (cc.n > 0)
        *id = cc.changes[0].id;
    for (size_t i = 0; i < cc.n && *code == 0; i++)
        *code = cluster_validate(s->cluster, &cc.changes[i],
                                 s->config->max_learners);
    apply_to_raft(s, *code == 0 ? &cc : &none);
    for (size_t i = 0; i < cc.n && *code == 0; i++) {
        cluster_apply(s->cluster, s->store, &cc.changes[i], sys_wall_ns());
        log_change(s, &cc.changes[i]);
        if (cc.changes[i].type == RAFT_REMOVE_NODE &&
            cc.changes[i].node_id == s->id)
            reconf_removed_self(s);
    }
    server_wake_jobs(s, false, true);
}

void reconf_removed_self(struct server *s)
{
    pthread_mutex_lock(&s->job_mu);
    if (!s->removed) {
        log_error("etcdserver", "the member has been permanently removed from "
                                "the cluster");
        log_info("etcdserver",
                 "the data-dir used by this member must be removed.");
    }
    __atomic_store_n(&s->removed, true, __ATOMIC_RELEASE);
    pthread_cond_broadcast(&s->removed_cond);
    pthread_mutex_unlock(&s->job_mu);
}

bool server_removed(const struct server *s)
{
    return __atomic_load_n(&s->removed, __ATOMIC_ACQUIRE);
}

bool server_wait_removed(struct server *s, int64_t timeout_ms)
{
    int64_t deadline = sys_mono_ns() + timeout_ms * NS_PER_MS;
    bool removed;

    pthread_mutex_lock(&s->job_mu);
    while (!s->removed && !s->jobs_stop &&
           sys_cond_wait_until(&s->removed_cond, &s->job_mu, deadline))
        ;
    removed = s->removed;
    pthread_mutex_unlock(&s->job_mu);
    if (removed)
        sys_sleep_ms(REMOVED_LINGER_MS);
    return removed;
}

/* --- Proposing. --------------------------------------------------------- */

static int propose_change(struct server *s, enum raft_conf_change_type type,
                          uint64_t node_id, struct str context)
{
    struct waiter w = {.result = NULL};
    struct raft_conf_change cc = {
        .type = type, .node_id = node_id, .context = context};
    struct buf encoded = {0};
    struct blob *data;
    int rc;

    cc.id = w.id = server_next_id(s);
    raftpb_encode_conf_change(&encoded, &cc);
    data = blob_new(encoded.data, encoded.len);
    buf_release(&encoded);
    rc = server_propose(s, data, true, &w, server_request_timeout_ms(s));
    return rc < 0 ? rc : w.code;
}

/* Voters, this one included, that have been connected for five seconds. */
static size_t healthy_members(struct server *s, size_t *all)
{
    int64_t since = sys_mono_ns() - HEALTHY_NS;
    struct member *m;
    size_t n = cluster_members(s->cluster, &m), healthy = 0;

    *all = 0;
    for (size_t i = 0; i < n; i++) {
        int64_t at = m[i].id == s->id
                         ? since
                         : transport_active_since(s->transport, m[i].id);

        *all += !m[i].is_learner;
        healthy += !m[i].is_learner && at && at <= since;
    }
    members_free(m, n);
    return healthy;
}

/* A learner does not count: the quorum stays what it is. */
static int check_add(struct server *s, bool learner)
{
    size_t all;

    if (!s->config->strict_reconfig_check)
        return 0;
    if (!learner && !cluster_can_add(s->cluster))
        return SERVER_ENOT_STARTED;
    return healthy_members(s, &all) == all ? 0 : SERVER_EUNHEALTHY;
}

int server_add_member(struct server *s, const struct url_list *peer_urls,
                      bool learner, struct member *added)
{
    int64_t now_s = sys_wall_ns() / NS_PER_S;
    struct member m = {.name = "", .is_learner = learner};
    struct buf json = {0};
    int rc = check_add(s, learner);

    if (rc < 0)
        return rc;
    m.id = member_id(peer_urls, "", &now_s);
    m.peer_urls = url_list_texts(peer_urls);
    m.n_peer_urls = peer_urls->n;
    member_json(&json, &m, 0);
    rc = propose_change(s, learner ? RAFT_ADD_LEARNER_NODE : RAFT_ADD_NODE,
                        m.id, buf_str(&json));
    if (rc == 0)
        member_copy(added, &m);
    free(m.peer_urls);
    buf_release(&json);
    return rc;
}

static int check_remove(struct server *s, uint64_t id)
{
    size_t healthy, all;

    if (!s->config->strict_reconfig_check)
        return 0;
    if (!cluster_can_remove(s->cluster, id))
        return SERVER_ENOT_STARTED;
    /* A member that is down is no part of the quorum that must remain. */
    if (id != s->id && transport_active_since(s->transport, id) == 0)
        return 0;
    healthy = healthy_members(s, &all);
    return healthy < 1 + 1 + (all - 1) / 2 && all > 1 ? SERVER_EUNHEALTHY : 0;
}

int server_remove_member(struct server *s, uint64_t id)
{
    int rc = check_remove(s, id);

    return rc < 0 ? rc : propose_change(s, RAFT_REMOVE_NODE, id, STR(""));
}

int server_update_member(struct server *s, uint64_t id,
                         const struct url_list *peer_urls)
{
    struct member m = {.id = id, .name = ""}, now;
    struct buf json = {0};
    int rc;

    if (cluster_member(s->cluster, id, &now)) {
        m.is_learner = now.is_learner; /* the change replaces that too */
        member_release(&now);
    }
    m.peer_urls = url_list_texts(peer_urls);
    m.n_peer_urls = peer_urls->n;
    member_json(&json, &m, -1);
    rc = propose_change(s, RAFT_UPDATE_NODE, id, buf_str(&json));
    free(m.peer_urls);
    buf_release(&json);
    return rc;
}

/* Only the leader knows how far a learner is: ask it. */
static int forward_promote(struct server *s, uint64_t leader, uint64_t id)
{
    struct member m;
    char target[64];
    int rc = SERVER_ENO_LEADER;

    if (!leader || !cluster_member(s->cluster, leader, &m))
        return SERVER_ENO_LEADER;
    snprintf(target, sizeof(target), "/members/promote/%" PRIu64, id);
    for (size_t i = 0; i < m.n_peer_urls && rc == SERVER_ENO_LEADER; i++) {
        struct client_response resp;
        struct url base;
        struct client_request req = {.method = "POST",
                                     .base = &base,
                                     .target = target,
                                     .dial_ms = 1200,
                                     .guard = &s->guard,
                                     .secure = s->config->secure_peer,
                                     .timeout_ms =
                                         server_request_timeout_ms(s)};

        if (url_parse(str_of(m.peer_urls[i]), &base, NULL) < 0)
            continue;
        if (client_do(&req, &resp, NULL) == 0) {
            rc = resp.status == 200   ? 0
                 : resp.status == 404 ? CLUSTER_EID_NOT_FOUND
                 : strstr(buf_z(&resp.body), "in sync")
                     ? SERVER_ELEARNER_NOT_READY
                     : CLUSTER_ENOT_LEARNER;
            client_response_release(&resp);
        }
        url_release(&base);
    }
    member_release(&m);
    return rc;
}

static bool learner_is_ready(struct server *s, uint64_t id)
{
    struct raft_progress p[64];
    struct raft_status st;
    size_t n;

    pthread_mutex_lock(&s->raft_mu);
    st = raft_status(s->raft);
    n = raft_progress(s->raft, p, ARRAY_LEN(p));
    server_leave_raft(s);
    for (size_t i = 0; i < n && i < ARRAY_LEN(p); i++)
        if (p[i].id == id)
            return p[i].match_index >= st.last_index * PROMOTE_PERCENT / 100;
    return false;
}

int server_promote_member(struct server *s, uint64_t id)
{
    struct buf json = {0};
    struct member m;
    uint64_t leader;
    int rc;

    pthread_mutex_lock(&s->raft_mu);
    leader = s->leader;
    server_leave_raft(s);
    if (leader != s->id)
        return forward_promote(s, leader, id);
    if (!cluster_member(s->cluster, id, &m))
        return CLUSTER_EID_NOT_FOUND;
    if (!m.is_learner)
        rc = CLUSTER_ENOT_LEARNER;
    else if (!learner_is_ready(s, id))
        rc = SERVER_ELEARNER_NOT_READY;
    else if (s->config->strict_reconfig_check &&
             !cluster_can_promote(s->cluster, id))
        rc = SERVER_ENOT_STARTED;
    else {
        m.is_learner = false;
        member_json(&json, &m, 1);
        rc = propose_change(s, RAFT_ADD_NODE, id, buf_str(&json));
    }
    member_release(&m);
    buf_release(&json);
    return rc;
}

/* --- Leadership. -------------------------------------------------------- */

int server_move_leader(struct server *s, uint64_t to, int64_t timeout_ms)
{
    int64_t began = sys_mono_ns(), deadline = began + timeout_ms * NS_PER_MS;
    int rc;

    pthread_mutex_lock(&s->raft_mu);
    rc = raft_transfer_leader(s->raft, to);
    server_leave_raft(s);
    if (rc < 0)
        return rc == RAFT_ENOTLEADER ? SERVER_ENO_LEADER
                                     : CLUSTER_EID_NOT_FOUND;
    log_info("etcdserver",
             "%" PRIx64 " starts leadership transfer from %" PRIx64
             " to %" PRIx64,
             s->id, s->id, to);
    server_lock_raft(s);
    server_unlock_raft(s); /* sends what the transfer begins with */
    pthread_mutex_lock(&s->raft_mu);
    while (s->leader != to && rc == 0)
        if (!sys_cond_wait_until(&s->leader_cond, &s->raft_mu, deadline))
            rc = SERVER_ETIMEOUT;
    if (s->leader == to)
        rc = 0;
    server_leave_raft(s);
    if (rc == 0)
        log_info("etcdserver",
                 "%" PRIx64 " finished leadership transfer from %" PRIx64
                 " to %" PRIx64 " (took %.6fms)",
                 s->id, s->id, to, (double)(sys_mono_ns() - began) / NS_PER_MS);
    return rc;
}

void reconf_hand_over(struct server *s)
{
    struct raft_ids voters = {0};
    uint64_t to;
    bool lead;

    if (!s->raft || !s->transport || s->n_threads == 0)
        return;
    pthread_mutex_lock(&s->raft_mu);
    lead = s->role == RAFT_LEADER;
    for (size_t i = 0; i < raft_conf_state(s->raft)->voters.n; i++)
        raft_ids_add(&voters, raft_conf_state(s->raft)->voters.ids[i]);
    server_leave_raft(s);
    if (!lead) {
        log_info("etcdserver",
                 "skipped leadership transfer for stopping non-leader member");
    } else if (voters.n <= 1) {
        log_info("etcdserver", "skipped leadership transfer for single voting "
                               "member cluster");
    } else {
        raft_ids_remove(&voters, s->id);
        to = transport_longest_connected(s->transport, &voters);
        if (!to)
            log_warn("etcdserver", "skipped leadership transfer: no other "
                                   "voter is connected");
        else if (server_move_leader(s, to, s->config->election_ms) < 0)
            log_warn("etcdserver",
                     "leadership transfer to %" PRIx64
                     " did not finish in time",
                     to);
    }
    free(voters.ids);
}

/* --- The monitor thread. ------------------------------------------------ */

static void follow_peer(struct server *s, const struct member *m)
{
    for (size_t i = 0; i < s->n_peers; i++) {
        if (s->peers[i].id != m->id)
            continue;
        if (!member_same_peer_urls(&s->peers[i], m)) {
            member_release(&s->peers[i]);
            member_copy(&s->peers[i], m);
            transport_update_peer(s->transport, m->id,
                                  (const char **)m->peer_urls, m->n_peer_urls);
        }
        return;
    }
    s->peers = xrealloc(s->peers, (s->n_peers + 1) * sizeof(*s->peers));
    member_copy(&s->peers[s->n_peers++], m);
    transport_add_peer(s->transport, m->id, (const char **)m->peer_urls,
                       m->n_peer_urls);
}

void reconf_follow_peers(struct server *s, const struct cluster *c)
{
    struct member *m;
    size_t n = cluster_members(c, &m), kept = 0;

    for (size_t i = 0; i < n; i++)
        if (m[i].id != s->id)
            follow_peer(s, &m[i]);
    members_free(m, n);
    /* Absence alone does not remove: a member that replays its log meets the
     * others one by one. */
    for (size_t i = 0; i < s->n_peers; i++) {
        if (cluster_is_removed(c, s->peers[i].id)) {
            transport_remove_peer(s->transport, s->peers[i].id);
            member_release(&s->peers[i]);
        } else {
            s->peers[kept++] = s->peers[i];
        }
    }
    s->n_peers = kept;
}

struct version {
    unsigned major, minor;
};

static bool parse_version(const char *text, struct version *out)
{
    struct str rest = str_of(text), part;
    uint64_t major, minor;

    str_cut(&rest, '.', &part);
    if (!str_to_u64(part, &major) || major > UINT32_MAX)
        return false;
    str_cut(&rest, '.', &part);
    if (!str_to_u64(part, &minor) || minor > UINT32_MAX)
        return false;
    *out = (struct version){(unsigned)major, (unsigned)minor};
    return true;
}

static struct version own_version(void)
{
    struct version v = {0, 0};

    parse_version(ETCD_VERSION, &v);
    return v;
}

static bool version_less(struct version a, struct version b)
{
    return a.major < b.major || (a.major == b.major && a.minor < b.minor);
}

/* The version that all members know; false if one cannot be asked. */
static bool common_version(struct server *s, struct version *out)
{
    struct member *m;
    size_t n = cluster_members(s->cluster, &m);
    bool all = true;

    *out = own_version();
    for (size_t i = 0; i < n && all; i++) {
        char text[32], unused[32];
        struct version v;

        if (m[i].id == s->id)
            continue;
        all = false;
        for (size_t k = 0; k < m[i].n_peer_urls && !all; k++)
            all = peer_get_version(m[i].peer_urls[k],
                                   1000 + s->config->election_ms / 5, &s->guard,
                                   s->config->secure_peer, text, unused,
                                   NULL) == 0 &&
                  parse_version(text, &v);
        if (all && version_less(v, *out))
            *out = v;
    }
    members_free(m, n);
    return all;
}

static void propose_version(struct server *s, struct version v)
{
    struct v2_result result;
    char text[32];
    struct v2_request r = {.method = STR("PUT"), .path = STR("/0/version")};

    snprintf(text, sizeof(text), "%u.%u.0", v.major, v.minor);
    r.val = str_of(text);
    server_v2_write(s, &r, &result);
    if (result.code)
        log_warn("etcdserver", "cannot set the cluster version: %s",
                 result.error.cause ? result.error.cause : "refused");
    v2_result_release(&result);
}

static void check_version(struct server *s)
{
    struct version decided = {0, 0}, common;
    char text[32];
    bool all;

    if (!server_is_leader(s))
        return;
    cluster_version(s->cluster, text);
    all = common_version(s, &common);
    if (!parse_version(text, &decided)) {
        if (!all)
            common = (struct version){3, 0};
        log_info("etcdserver",
                 "setting up the initial cluster version to %u.%u",
                 common.major, common.minor);
        propose_version(s, common);
    } else if (all && version_less(decided, common)) {
        log_info("etcdserver",
                 "updating the cluster version from %u.%u to %u.%u",
                 decided.major, decided.minor, common.major, common.minor);
        propose_version(s, common);
    }
}

/* The lines that scripts wait for. seen holds the last version reported. */
static void report_version(struct server *s, struct version *seen)
{
    struct version now, mine;
    char text[32];

    cluster_version(s->cluster, text);
    if (!parse_version(text, &now) ||
        (now.major == seen->major && now.minor == seen->minor))
        return;
    if (seen->major == 0)
        log_notice("etcdserver/membership",
                   "set the initial cluster version to %u.%u", now.major,
                   now.minor);
    else
        log_notice("etcdserver/membership",
                   "updated the cluster version from %u.%u to %u.%u",
                   seen->major, seen->minor, now.major, now.minor);
    mine = own_version();
    if (version_less(mine, now))
        log_fatal("etcdserver/membership",
                  "cluster cannot be downgraded (current version: %s is lower "
                  "than determined cluster version: %u.%u).",
                  ETCD_VERSION, now.major, now.minor);
    log_info("etcdserver/api", "enabled capabilities for version %u.%u",
             now.major, now.minor);
    *seen = now;
}

/*
 * Several members that start together need not wait for a whole election
 * timeout once they are connected (spec 2.1).
 */
static bool skip_first_ticks(struct server *s, int64_t began)
{
    bool connected = transport_active_count(s->transport) > 0;
    size_t voters;

    if (!s->config->initial_election_tick_advance ||
        sys_mono_ns() - began > BOOT_TICKS_WAIT_NS)
        return true;
    server_lock_raft(s);
    voters = raft_conf_state(s->raft)->voters.n;
    if (connected && voters > 1 && s->leader == 0)
        raft_skip_election_ticks(
            s->raft,
            (int)(s->config->election_ms / s->config->heartbeat_ms) - 2);
    server_unlock_raft(s);
    return connected || voters == 1;
}

void *reconf_monitor(void *arg)
{
    struct server *s = arg;
    int64_t began = sys_mono_ns(), next = 0;
    int64_t every = s->config->corrupt_check_ns, next_check = began + every;
    struct version seen = {0, 0};
    bool ticks_done = false;

    sys_thread_name("etcd-monitor");
    pthread_mutex_lock(&s->job_mu);
    while (!s->jobs_stop) {
        int64_t now = sys_mono_ns();

        if (!s->want_monitor && now < next) {
            sys_cond_wait_until(&s->job_cond, &s->job_mu,
                                ticks_done || next < now + 50 * NS_PER_MS
                                    ? next
                                    : now + 50 * NS_PER_MS);
            if (ticks_done)
                continue;
        }
        s->want_monitor = false;
        pthread_mutex_unlock(&s->job_mu);

        if (!ticks_done)
            ticks_done = skip_first_ticks(s, began);
        reconf_follow_peers(s, s->cluster);
        report_version(s, &seen);
        check_version(s);
        report_version(s, &seen);
        if (every && sys_mono_ns() >= next_check) {
            v3_check_members(s);
            next_check = sys_mono_ns() + every;
        }
        next = sys_mono_ns() + VERSION_MS * NS_PER_MS;
        if (every && next_check < next)
            next = next_check;
        pthread_mutex_lock(&s->job_mu);
    }
    pthread_mutex_unlock(&s->job_mu);
    return NULL;
}
