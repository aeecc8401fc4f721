/*
 * v3lead.c - what a leader sees to: leases that run out, their checkpoints,
 * automatic compaction, alarms that are to be raised; and how a follower asks
 * it about leases.
 *
 * A lease may be revoked only by who still is the leader: one that was cut off
 * has not heard of the renewals that another took meanwhile. So each batch of
 * revocations is preceded by a round of ReadIndex, as a read is, and proposed
 * in that term or not at all. Renewals, and what is told of a lease, come behind
 * such a round, too: a leader of old would promise what it cannot keep.
 *
 * Promotion of the lessor waits until an entry of the leader's own term is
 * applied: all grants of its predecessors are known by then.
 */
#include "client.h"
#include "log.h"
#include "metrics.h"
#include "rpcpb.h"
#include "server_impl.h"

#include <inttypes.h>

#define LEASE_TICK_NS (500 * NS_PER_MS)
#define REVOKES_MAX 500 /* in each of them: a thousand a second */
#define COMPACTOR_TICK_NS NS_PER_S
#define ASK_AGAIN_MS 50
#define ASK_DIAL_MS 1000
#define APPLY_WAIT_MS 1000
#define ANSWER_MAX (64u * 1024 * 1024)

static int64_t now_ms(void)
{
    return sys_mono_ns() / NS_PER_MS;
}

/* --- The role. ------------------------------------------------------------ */

void v3_follow_role(struct server *s)
{
    bool lead = s->role == RAFT_LEADER;
    raft_term term = s->term, was = sys_u64_load(&s->primary_term);

    if (lead ? was == term : was == 0)
        return;
    server_leave_raft(s);
    pthread_mutex_lock(&s->mu);
    was = s->primary_term;
    if (was && was != (lead ? term : 0)) {
        lease_demote(s->v3->lessor);
        was = 0;
    }
    if (lead && was == 0 && s->applied_term == term) {
        lease_promote(s->v3->lessor, now_ms(), s->config->election_ms);
        was = term;
    }
    sys_u64_store(&s->primary_term, was);
    pthread_mutex_unlock(&s->mu);
    pthread_mutex_lock(&s->raft_mu);
}

/* --- Leases that run out. ------------------------------------------------- */

/* On the cluster's own behalf, as etcd: by root, whose right it is. */
static struct auth_who as_root(const struct server *s)
{
    return auth_enabled(s->v3->auth)
               ? (struct auth_who){STR("root"), auth_revision(s->v3->auth)}
               : (struct auth_who){STR(""), 0};
}

/* Only as the leader of that term: what a later one knows better is not to be
 * forwarded to it. */
static void propose_all(struct server *s, struct blob **data, size_t n,
                        raft_term term)
{
    server_lock_raft(s);
    if (n && s->role == RAFT_LEADER && s->term == term)
        raft_propose(s->raft, data, n); /* if lost, they come due again */
    server_unlock_raft(s);
    for (size_t i = 0; i < n; i++)
        blob_unref(data[i]);
}

static struct blob *encode_message(struct server *s, uint32_t field,
                                   const struct msg_desc *d, const void *msg,
                                   struct auth_who who)
{
    struct buf b = {0};
    struct blob *data;

    msg_encode(d, msg, &b);
    data = v3_encode(server_next_id(s), field, buf_str(&b), who);
    buf_release(&b);
    return data;
}

static void revoke_expired(struct server *s)
{
    /* Not on the stack, which may be a connection's. */
    int64_t *ids = xcalloc(REVOKES_MAX, sizeof(*ids));
    struct blob **data = xcalloc(REVOKES_MAX, sizeof(*data));
    raft_term term;
    size_t n;

    pthread_mutex_lock(&s->mu);
    term = s->primary_term;
    n = lease_expired(s->v3->lessor, now_ms(), ids, REVOKES_MAX);
    for (size_t i = 0; i < n; i++) {
        struct rpcpb_lease_revoke_request req = {.ID = ids[i]};

        data[i] =
            encode_message(s, V3_LEASE_REVOKE, &rpcpb_lease_revoke_request_desc,
                           &req, as_root(s));
    }
    s->v3->counts.expired += n;
    pthread_mutex_unlock(&s->mu);
    propose_all(s, data, n, term);
    free(ids);
    free(data);
}

static void checkpoint_leases(struct server *s)
{
    struct lease_remaining *due = xcalloc(LEASE_CHECKPOINTS_MAX, sizeof(*due));
    struct rpcpb_lease_checkpoint *items =
        xcalloc(LEASE_CHECKPOINTS_MAX, sizeof(*items));
    struct rpcpb_lease_checkpoint_request req = {0};
    struct blob *data;
    raft_term term;
    size_t n;

    pthread_mutex_lock(&s->mu);
    term = s->primary_term;
    n = lease_checkpoints_due(s->v3->lessor, now_ms(), due,
                              LEASE_CHECKPOINTS_MAX);
    pthread_mutex_unlock(&s->mu);
    for (size_t i = 0; i < n; i++)
        items[i] =
            (struct rpcpb_lease_checkpoint){due[i].id, due[i].remaining_ttl};
    req.checkpoints.items = items;
    req.checkpoints.n = n;
    if (n) {
        data = encode_message(s, V3_LEASE_CHECKPOINT,
                              &rpcpb_lease_checkpoint_request_desc, &req,
                              (struct auth_who){STR(""), 0});
        propose_all(s, &data, 1, term);
    }
    free(items);
    free(due);
}

/* We lead, and have heard so from a quorum. */
static void lease_round_done(struct v3_read *op)
{
    struct server *s = op->arg;
    bool ok = op->error == V3_OK;

    if (ok) {
        revoke_expired(s);
        if (s->config->lease_checkpoint)
            checkpoint_leases(s);
    }
    __atomic_store_n(&s->lease_round_busy, false, __ATOMIC_RELEASE);
}

static bool lease_work_due(struct server *s)
{
    bool due;

    pthread_mutex_lock(&s->mu);
    due = lease_is_primary(s->v3->lessor) &&
          (lease_next_expiry_ms(s->v3->lessor) <= now_ms() ||
           (s->config->lease_checkpoint && lease_count(s->v3->lessor) > 0));
    pthread_mutex_unlock(&s->mu);
    return due;
}

static void tick_leases(struct server *s)
{
    if (__atomic_load_n(&s->lease_round_busy, __ATOMIC_ACQUIRE) ||
        !lease_work_due(s))
        return;
    __atomic_store_n(&s->lease_round_busy, true, __ATOMIC_RELEASE);
    s->lease_round = (struct v3_read){.done = lease_round_done, .arg = s};
    v3_read_index(s, &s->lease_round, 0);
}

/* --- Automatic compaction. ------------------------------------------------ */

static const char *mode_name(const struct server *s)
{
    return s->compactor.mode == COMPACTOR_REVISION ? "revision" : "periodic";
}

static void auto_compacted(struct v3_write *op)
{
    struct server *s = op->arg;
    enum v3_error error = op->result.error;
    bool ok = error == V3_OK || error == V3_COMPACTED;

    if (ok)
        log_info("compactor", "completed auto %s compaction", mode_name(s));
    else
        log_warn("compactor", "failed auto %s compaction: %s", mode_name(s),
                 v3error_text(error));
    v3_result_release(&op->result);
    __atomic_store_n(&s->auto_outcome, ok ? 1 : -1, __ATOMIC_RELEASE);
}

/* By the ticker alone, which owns the compactor. */
static void tick_compactor(struct server *s, int64_t now_ns, bool lead)
{
    struct rpcpb_compaction_request req;
    struct buf b = {0};
    int64_t to;
    int outcome = __atomic_exchange_n(&s->auto_outcome, 0, __ATOMIC_ACQ_REL);

    if (outcome) {
        compactor_done(&s->compactor, now_ns, outcome > 0);
        s->auto_compacting = false;
    }
    if (s->auto_compacting)
        return;
    to = compactor_step(&s->compactor, now_ns, v3_header(s).revision, lead);
    if (to == 0)
        return;
    log_info("compactor", "starting auto %s compaction at revision %" PRId64,
             mode_name(s), to);
    req = (struct rpcpb_compaction_request){.revision = to};
    msg_encode(&rpcpb_compaction_request_desc, &req, &b);
    s->auto_compacting = true;
    s->auto_compaction = (struct v3_write){.done = auto_compacted, .arg = s};
    v3_write(s, V3_COMPACTION, buf_str(&b), NULL, &s->auto_compaction);
    buf_release(&b);
}

/* --- The ticker. ---------------------------------------------------------- */

static void raise_due_alarm(struct server *s)
{
    bool due;

    pthread_mutex_lock(&s->mu);
    due = s->nospace_due && !v3_has_alarm(s->v3, V3_ALARM_NOSPACE);
    s->nospace_due = false;
    pthread_mutex_unlock(&s->mu);
    if (due)
        v3_raise_alarm(s, s->id, V3_ALARM_NOSPACE);
}

/* What came with a snapshot that raft did not want: we are there already. */
static void drop_refused(struct server *s)
{
    struct v3 *refused = NULL;

    pthread_mutex_lock(&s->mu);
    if (s->incoming && s->incoming_index <= s->last_applied) {
        refused = s->incoming;
        s->incoming = NULL;
    }
    pthread_mutex_unlock(&s->mu);
    v3_free(refused);
}

void v3_lead(struct server *s, int64_t now_ns)
{
    bool lead, stopping;

    drop_refused(s);
    pthread_mutex_lock(&s->raft_mu);
    v3_follow_role(s);
    lead = s->role == RAFT_LEADER;
    stopping = s->stopping;
    server_leave_raft(s);
    if (stopping)
        return;
    raise_due_alarm(s);
    if (now_ns >= s->next_lease_tick_ns) {
        s->next_lease_tick_ns = now_ns + LEASE_TICK_NS;
        if (lead)
            tick_leases(s);
    }
    if (now_ns >= s->next_compactor_ns) {
        s->next_compactor_ns = now_ns + COMPACTOR_TICK_NS;
        tick_compactor(s, now_ns, lead);
    }
}

/* --- Renewal and what is left. -------------------------------------------- */

int64_t v3_lease_new_id(struct server *s)
{
    return (int64_t)(server_next_id(s) & INT64_MAX);
}

/* The term that we lead; 0: we do not. */
static raft_term term_led(struct server *s)
{
    raft_term term;

    pthread_mutex_lock(&s->raft_mu);
    term = s->role == RAFT_LEADER ? s->term : 0;
    server_leave_raft(s);
    return term;
}

/* Do the leases run here in the term that we lead? mu is held. */
static bool is_primary(const struct server *s, raft_term led)
{
    return led != 0 && s->primary_term == led &&
           lease_is_primary(s->v3->lessor);
}

bool v3_lease_renew_local(struct server *s, int64_t id, int64_t *ttl)
{
    raft_term led = term_led(s);
    bool uncheckpoint = false, primary;

    pthread_mutex_lock(&s->mu);
    primary = is_primary(s, led);
    if (primary &&
        lease_renew(s->v3->lessor, id, now_ms(), ttl, &uncheckpoint) < 0)
        *ttl = 0;
    s->v3->counts.renewed += primary && *ttl > 0;
    pthread_mutex_unlock(&s->mu);
    if (primary && uncheckpoint) {
        struct rpcpb_lease_checkpoint full = {.ID = id};
        struct rpcpb_lease_checkpoint_request req = {0};
        struct buf b = {0};

        req.checkpoints.items = &full;
        req.checkpoints.n = 1;
        msg_encode(&rpcpb_lease_checkpoint_request_desc, &req, &b);
        v3_propose(s, V3_LEASE_CHECKPOINT, buf_str(&b),
                   (struct auth_who){STR(""), 0});
        buf_release(&b);
    }
    return primary;
}

/* POST a message to the leader. The status and its answer's body; -1. */
static int ask_leader(struct server *s, const char *target, struct str body,
                      int64_t deadline, struct buf *out)
{
    struct client_response resp;
    struct url url = {0};
    struct member m;
    uint64_t leader;
    int status = -1;

    pthread_mutex_lock(&s->raft_mu);
    leader = s->leader;
    server_leave_raft(s);
    if (leader == 0 || leader == s->id ||
        !cluster_member(s->cluster, leader, &m))
        return -1;
    for (size_t i = 0; i < m.n_peer_urls && status < 0; i++) {
        struct client_request req = {
            .method = "POST",
            .base = &url,
            .target = target,
            .headers = "Content-Type: application/protobuf\r\n",
            .body = body.p,
            .n_body = body.n,
            .dial_ms = ASK_DIAL_MS,
            .timeout_ms = (deadline - sys_mono_ns()) / NS_PER_MS + 1,
            .body_max = ANSWER_MAX,
            .guard = &s->guard,
            .secure = s->config->secure_peer,
        };

        if (url_parse(str_of(m.peer_urls[i]), &url, NULL) < 0)
            continue;
        if (client_do(&req, &resp, NULL) == 0) {
            status = resp.status;
            buf_clear(out);
            buf_add(out, resp.body.data, resp.body.len);
            client_response_release(&resp);
        }
        url_release(&url);
    }
    member_release(&m);
    return status;
}

/* Until the time is up; then which error it is. */
static enum v3_error wait_to_ask(struct server *s, int64_t deadline)
{
    enum v3_error error = V3_OK;

    pthread_mutex_lock(&s->raft_mu);
    if (s->stopping)
        error = V3_STOPPED;
    else if (sys_mono_ns() >= deadline)
        error = s->leader ? V3_TIMEOUT : V3_NO_LEADER;
    server_leave_raft(s);
    if (error == V3_OK)
        sys_sleep_ms(ASK_AGAIN_MS);
    return error;
}

/*
 * Before anybody speaks of leases. A leader must be known as that to a quorum:
 * one that was cut off would renew what another lets end, and deny what another
 * renewed. A follower has to know what was acknowledged before, for the header of
 * the answer and for permissions.
 */
static enum v3_error confirm(struct server *s, int64_t deadline)
{
    int64_t left_ms = (deadline - sys_mono_ns()) / NS_PER_MS;
    enum v3_error error = v3_error_of_server(server_read_index(s, left_ms));

    if (error != V3_OK && error != V3_STOPPED && !server_has_leader(s))
        error = V3_NO_LEADER; /* whom it waited for */
    return error;
}

static bool renewed_ttl(const struct buf *b, int64_t *ttl)
{
    struct rpcpb_lease_keep_alive_response resp;
    struct arena arena = {.limit = 1 << 16};
    bool ok = msg_decode(&rpcpb_lease_keep_alive_response_desc, b->data, b->len,
                         &arena, &resp) == 0;

    if (ok)
        *ttl = resp.TTL;
    arena_release(&arena);
    return ok;
}

enum v3_error v3_lease_renew(struct server *s, int64_t id, int64_t *ttl)
{
    struct rpcpb_lease_keep_alive_request req = {.ID = id};
    int64_t deadline = sys_mono_ns() + server_request_timeout_ms(s) * NS_PER_MS;
    struct buf body = {0}, answer = {0};
    enum v3_error error = V3_OK;

    *ttl = 0;
    msg_encode(&rpcpb_lease_keep_alive_request_desc, &req, &body);
    for (; error == V3_OK; error = wait_to_ask(s, deadline)) {
        int status;

        error = confirm(s, deadline);
        if (error != V3_OK || v3_lease_renew_local(s, id, ttl))
            break;
        status = ask_leader(s, "/leases", buf_str(&body), deadline, &answer);
        if (status == 404 || (status == 200 && renewed_ttl(&answer, ttl)))
            break;
    }
    buf_release(&body);
    buf_release(&answer);
    return error;
}

/* With mu held. */
static void lease_info(struct server *s, int64_t id, bool keys,
                       struct v3_lease_info *out)
{
    struct lease_ttl t = lease_time_to_live(s->v3->lessor, id, now_ms());
    struct mvcc_kv **kvs;
    size_t n;

    out->ttl = t.ttl;
    out->granted_ttl = t.granted_ttl;
    if (!keys || t.ttl < 0)
        return;
    n = lease_keys(s->v3->lessor, id, &kvs);
    out->keys = xcalloc(n + 1, sizeof(*out->keys));
    for (size_t i = 0; i < n; i++) {
        struct str key = mvcc_key(kvs[i]);

        out->keys[i] = (struct str){xstrndup(key.p, key.n), key.n};
    }
    out->n_keys = n;
    mvcc_unref_all(kvs, n);
}

static bool told_info(const struct buf *b, struct v3_lease_info *out)
{
    struct rpcpb_lease_internal_response resp;
    const struct rpcpb_lease_time_to_live_response *r;
    struct arena arena = {.limit = 1024 + 64 * b->len};
    bool ok = msg_decode(&rpcpb_lease_internal_response_desc, b->data, b->len,
                         &arena, &resp) == 0 &&
              resp.LeaseTimeToLiveResponse;

    if (ok) {
        r = resp.LeaseTimeToLiveResponse;
        out->ttl = r->TTL;
        out->granted_ttl = r->grantedTTL;
        out->keys = xcalloc(r->keys.n + 1, sizeof(*out->keys));
        out->n_keys = r->keys.n;
        for (size_t i = 0; i < r->keys.n; i++)
            out->keys[i] =
                (struct str){xstrndup(r->keys.items[i].p, r->keys.items[i].n),
                             r->keys.items[i].n};
    }
    arena_release(&arena);
    return ok;
}

bool v3_lease_info_local(struct server *s, int64_t id, bool keys,
                         struct v3_lease_info *out)
{
    raft_term led = term_led(s);
    bool primary;

    *out = (struct v3_lease_info){.ttl = -1};
    pthread_mutex_lock(&s->mu);
    primary = is_primary(s, led);
    if (primary)
        lease_info(s, id, keys, out);
    pthread_mutex_unlock(&s->mu);
    return primary;
}

static enum v3_error may_see_keys(struct server *s, const struct v3_who *who,
                                  int64_t id)
{
    struct auth_who w = {who->user, who->auth_revision};
    const char *text;
    int code, rc;

    pthread_mutex_lock(&s->mu);
    rc = auth_check_lease_keys(s->v3->auth, w, s->v3->lessor, id);
    pthread_mutex_unlock(&s->mu);
    return v3_error_of_auth(rc, &text, &code);
}

enum v3_error v3_lease_time_to_live(struct server *s, const struct v3_who *who,
                                    int64_t id, bool keys,
                                    struct v3_lease_info *out)
{
    struct rpcpb_lease_time_to_live_request req = {.ID = id, .keys = keys};
    struct rpcpb_lease_internal_request wrap = {&req};
    int64_t deadline = sys_mono_ns() + server_request_timeout_ms(s) * NS_PER_MS;
    struct buf body = {0}, answer = {0};
    enum v3_error error = keys && who ? may_see_keys(s, who, id) : V3_OK;

    msg_encode(&rpcpb_lease_internal_request_desc, &wrap, &body);
    *out = (struct v3_lease_info){.ttl = -1};
    for (; error == V3_OK; error = wait_to_ask(s, deadline)) {
        int status;

        error = confirm(s, deadline);
        if (error != V3_OK || v3_lease_info_local(s, id, keys, out))
            break;
        status = ask_leader(s, "/leases/internal", buf_str(&body), deadline,
                            &answer);
        if (status == 404 || (status == 200 && told_info(&answer, out)))
            break;
    }
    if (error == V3_OK && keys && who) /* a key may have come to it meanwhile */
        error = may_see_keys(s, who, id);
    buf_release(&body);
    buf_release(&answer);
    return error;
}

void v3_lease_info_release(struct v3_lease_info *i)
{
    for (size_t k = 0; k < i->n_keys; k++)
        free((char *)i->keys[k].p);
    free(i->keys);
    *i = (struct v3_lease_info){0};
}

size_t v3_lease_list(struct server *s, int64_t **ids, struct v3_header *h)
{
    struct lease_record *records;
    size_t n;

    *h = v3_header(s);
    pthread_mutex_lock(&s->mu);
    records = lease_records(s->v3->lessor, &n);
    pthread_mutex_unlock(&s->mu);
    lease_sort_by_expiry(records, n);
    *ids = xcalloc(n + 1, sizeof(**ids));
    for (size_t i = 0; i < n; i++)
        (*ids)[i] = records[i].id;
    free(records);
    return n;
}

bool v3_wait_applied(struct server *s)
{
    return server_read_index(s, APPLY_WAIT_MS) == 0;
}
