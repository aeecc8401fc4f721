/*
 * raftlead.c - what a leader does: take proposals, replicate and commit them,
 * answer reads, hand over. (And what others do with proposals and reads:
 * forward them to the leader.)
 *
 * WHEN APPENDS ARE MADE. Inputs only change the log and what we know of each
 * member. raft_ready() then looks at every member once and builds the appends
 * it is due, so a thousand proposals between two Readys share one message,
 * whose entries are a slice of the log itself.
 *
 * READS (thesis, 6.4). raft_ready() gives all reads that arrived since the
 * last one a common round number and sends it as the context of a heartbeat;
 * an answer confirms that round and all before it. The number is our own,
 * never the asker's context, so an old answer cannot confirm a new read.
 */
#include "raft_impl.h"

#include <assert.h>
#include <inttypes.h>

/* Reads that wait for a round or for its answers; more are dropped. */
#define READS_MAX 4096

/* --- Commitment. --------------------------------------------------------- */

static uint64_t match_of(const struct progress *p)
{
    return p->match_index;
}

static uint64_t read_round_of(const struct progress *p)
{
    return p->read_round;
}

/* The largest value that a majority of voters has reached. */
static uint64_t majority(const struct raft *r,
                         uint64_t (*value)(const struct progress *))
{
    size_t n = 0;

    for (size_t i = 0; i < r->n_members; i++) {
        uint64_t v;
        size_t at = n;

        if (r->members[i].learner)
            continue;
        v = value(&r->members[i]);
        while (at > 0 && r->sorted[at - 1] < v) {
            r->sorted[at] = r->sorted[at - 1];
            at--;
        }
        r->sorted[at] = v;
        n++;
    }
    assert(n == r->conf.voters.n);
    assert(n > 0); /* the last voter cannot be removed */
    return r->sorted[n / 2];
}

void raft_commit_to(struct raft *r, raft_index index)
{
    size_t bytes = 0;

    assert(index <= raftlog_last_index(&r->log) || index <= r->commit_index);
    while (r->commit_index < index) {
        const struct raft_entry *e = raftlog_at(&r->log, ++r->commit_index);

        bytes += e->data ? e->data->len : 0;
        /* A removed member soon ends; those that stay must not forget that
         * it was removed, or they might wait for its vote for ever. */
        if (e->type != RAFT_ENTRY_NORMAL)
            r->sync_commit = true;
    }
    if (r->role == RAFT_LEADER)
        r->uncommitted_bytes -= bytes;
}

/*
 * Leader: commit what a majority has on disk, if it is of this term: only
 * then no later leader can lack it (paper, 5.4.2, Figure 8).
 */
static void maybe_commit(struct raft *r)
{
    raft_index index = majority(r, match_of);

    if (index > r->commit_index &&
        raftlog_matches(&r->log, index, r->current_term))
        raft_commit_to(r, index);
}

/* Our own commit index is only up to date then (thesis, 6.4). */
static bool committed_in_term(const struct raft *r)
{
    return raftlog_matches(&r->log, r->commit_index, r->current_term);
}

void raft_leader_stable(struct raft *r)
{
    struct progress *self = raft_member(r, r->config.id);

    if (self && r->log.stable > self->match_index) {
        progress_accepted(self, r->log.stable);
        maybe_commit(r);
    }
}

/* --- Proposals. ---------------------------------------------------------- */

void raft_append_as_leader(struct raft *r, enum raft_entry_type type,
                           struct blob *data)
{
    assert(r->role == RAFT_LEADER);
    raftlog_append(&r->log, type, r->current_term, data);
    r->uncommitted_bytes += data ? data->len : 0;
}

static int may_propose(const struct raft *r, size_t bytes)
{
    size_t max = r->config.uncommitted_bytes_max;

    /* Removed: from now on the others decide. */
    if (!raft_member(r, r->config.id))
        return RAFT_ENOLEADER;
    if (r->lead_transferee)
        return RAFT_EBUSY;
    /* A single large one must pass, and so must empty ones. */
    if (max > 0 && bytes > 0 && r->uncommitted_bytes > 0 &&
        (bytes > max || r->uncommitted_bytes > max - bytes))
        return RAFT_EBUSY;
    return 0;
}

static void append_proposal(struct raft *r, enum raft_entry_type type,
                            struct blob *data)
{
    if (type != RAFT_ENTRY_NORMAL) {
        if (r->pending_conf_index > r->last_applied) {
            raft_say(r,
                     "propose conf ignored since pending unapplied "
                     "configuration [index %" PRIu64 ", applied %" PRIu64 "]",
                     r->pending_conf_index, r->last_applied);
            raft_append_as_leader(r, RAFT_ENTRY_NORMAL, NULL);
            return;
        }
        r->pending_conf_index = raftlog_last_index(&r->log) + 1;
    }
    raft_append_as_leader(r, type, data);
}

/* Takes entries. */
static int forward_proposal(struct raft *r, struct raft_entry *entries,
                            size_t n)
{
    struct raft_msg m = raft_message(r, RAFT_MSG_PROP, r->leader_id);

    m.term = 0;
    m.entries = entries;
    m.n_entries = n;
    raft_post(r, m);
    return 0;
}

void raft_handle_proposal(struct raft *r, const struct raft_msg *m)
{
    size_t bytes = 0;

    for (size_t i = 0; i < m->n_entries; i++)
        bytes += m->entries[i].data ? m->entries[i].data->len : 0;

    if (r->role == RAFT_LEADER) {
        if (may_propose(r, bytes) < 0)
            return;
        for (size_t i = 0; i < m->n_entries; i++)
            append_proposal(r, m->entries[i].type, m->entries[i].data);
    } else if (r->leader_id != 0 && r->leader_id != m->from) {
        forward_proposal(r, raft_entries_dup(m->entries, m->n_entries),
                         m->n_entries);
    }
}

static struct raft_entry *one_entry(struct blob *data)
{
    struct raft_entry *e = xcalloc(1, sizeof(*e));

    e->data = blob_ref(data);
    return e;
}

int raft_propose(struct raft *r, struct blob *const *data, size_t n)
{
    size_t bytes = 0;
    int rc;

    assert(!r->ready_out);
    if (n == 0)
        return 0;
    if (r->role != RAFT_LEADER) {
        struct raft_entry *entries;

        if (r->leader_id == 0)
            return RAFT_ENOLEADER;
        entries = xcalloc(n, sizeof(*entries));
        for (size_t i = 0; i < n; i++)
            entries[i].data = blob_ref(data[i]);
        return forward_proposal(r, entries, n);
    }

    for (size_t i = 0; i < n; i++)
        bytes += data[i] ? data[i]->len : 0;
    rc = may_propose(r, bytes);
    for (size_t i = 0; rc == 0 && i < n; i++)
        raft_append_as_leader(r, RAFT_ENTRY_NORMAL, data[i]);
    return rc;
}

int raft_propose_conf_change(struct raft *r, struct blob *data)
{
    int rc;

    assert(!r->ready_out);
    if (r->role != RAFT_LEADER) {
        struct raft_entry *e;

        if (r->leader_id == 0)
            return RAFT_ENOLEADER;
        e = one_entry(data);
        e->type = RAFT_ENTRY_CONF_CHANGE;
        return forward_proposal(r, e, 1);
    }
    rc = may_propose(r, data ? data->len : 0);
    if (rc == 0)
        append_proposal(r, RAFT_ENTRY_CONF_CHANGE, data);
    return rc;
}

/* --- Appends, snapshots, heartbeats. ------------------------------------- */

static bool send_snapshot(struct raft *r, struct progress *p)
{
    struct raft_msg m = raft_message(r, RAFT_MSG_SNAP, p->id);

    if (!p->recent_active) /* a snapshot is too big to send into the void */
        return false;
    m.snapshot = xcalloc(1, sizeof(*m.snapshot));
    m.snapshot->index = r->log.base;
    m.snapshot->term = r->log.base_term;
    raft_conf_state_copy(&m.snapshot->conf_state, &r->conf);
    raft_post(r, m);
    progress_become_snapshot(p, r->log.base);
    raft_note(
        r,
        "[firstindex: %" PRIu64 ", commit: %" PRIu64
        "] sent snapshot[index: %" PRIu64 ", term: %" PRIu64 "] to %" PRIx64,
        r->log.base + 1, r->commit_index, r->log.base, r->log.base_term, p->id);
    return true;
}

/* One append, or a snapshot. False if nothing can be sent. */
static bool send_append(struct raft *r, struct progress *p)
{
    struct raft_msg m = raft_message(r, RAFT_MSG_APP, p->id);
    const struct raft_entry *entries;

    m.index = p->next_index - 1;
    m.commit = r->commit_index;
    if (!raftlog_term(&r->log, m.index, &m.log_term))
        return send_snapshot(r, p);
    m.n_entries = raftlog_slice(&r->log, p->next_index, SIZE_MAX,
                                r->config.msg_bytes_max, &entries);
    m.entries = (struct raft_entry *)entries; /* see release_msg() */
    raft_post(r, m);
    p->commit_sent = m.commit;
    progress_sent(p, m.n_entries, m.index + m.n_entries);
    return true;
}

/* All appends that the member is due now. */
static void send_appends(struct raft *r, struct progress *p)
{
    raft_index last = raftlog_last_index(&r->log);

    while (!progress_paused(p)) {
        bool behind = p->next_index <= last ||
                      (p->state == RAFT_PROBE && p->match_index < last);

        if (!behind && !p->poke && p->commit_sent >= r->commit_index)
            return;
        if (!send_append(r, p))
            return;
    }
}

void raft_send_all_appends(struct raft *r)
{
    for (size_t i = 0; i < r->n_members; i++)
        if (r->members[i].id != r->config.id)
            send_appends(r, &r->members[i]);
}

void raft_send_heartbeats(struct raft *r)
{
    struct blob *ctx = NULL;

    if (r->n_reads > r->n_reads_new) { /* rounds not confirmed so far */
        uint8_t b[8];

        put_u64be(b, r->read_round);
        ctx = blob_new(b, sizeof(b));
    }
    for (size_t i = 0; i < r->n_members; i++) {
        const struct progress *p = &r->members[i];
        struct raft_msg m = raft_message(r, RAFT_MSG_HEARTBEAT, p->id);

        if (p->id == r->config.id)
            continue;
        /* Not commit_index: the member may lack what lies beyond match. */
        m.commit = min_u64(p->match_index, r->commit_index);
        m.context = blob_ref(ctx);
        raft_post(r, m);
    }
    blob_unref(ctx);
}

void raft_report_unreachable(struct raft *r, raft_id id)
{
    struct progress *p = raft_member(r, id);

    assert(!r->ready_out);
    /* What was sent ahead is probably lost. */
    if (r->role == RAFT_LEADER && p && id != r->config.id &&
        p->state == RAFT_REPLICATE)
        progress_become_probe(p);
}

void raft_report_snapshot(struct raft *r, raft_id id, bool ok)
{
    struct progress *p = raft_member(r, id);

    assert(!r->ready_out);
    if (r->role != RAFT_LEADER || !p || p->state != RAFT_SNAPSHOT)
        return;
    if (!ok)
        p->pending_snapshot = 0;
    progress_become_probe(p);
    /* Sent: its MsgAppResp will come. Failed: try at its next heartbeat. */
    p->probe_sent = true;
}

/* --- Reads. -------------------------------------------------------------- */

void raft_answer_read(struct raft *r, const struct read_request *q)
{
    struct raft_msg m = raft_message(r, RAFT_MSG_READ_INDEX_RESP, q->from);

    if (q->from != r->config.id) {
        m.index = q->index;
        m.entries = one_entry(q->ctx);
        m.n_entries = 1;
        raft_post(r, m);
        return;
    }
    if (r->n_reads_done == r->reads_done_cap) {
        r->reads_done_cap = r->reads_done_cap ? r->reads_done_cap * 2 : 8;
        r->reads_done =
            xrealloc(r->reads_done, r->reads_done_cap * sizeof(*r->reads_done));
    }
    r->reads_done[r->n_reads_done++] = (struct raft_read){q->own_ctx, q->index};
}

/* Answer all reads of rounds that a majority has confirmed. */
static void answer_confirmed_reads(struct raft *r)
{
    uint64_t confirmed = majority(r, read_round_of);

    while (r->n_reads > r->n_reads_new &&
           r->reads[r->reads_head].round <= confirmed) {
        struct read_request *q = &r->reads[r->reads_head];

        raft_answer_read(r, q);
        blob_unref(q->ctx);
        r->reads_head++;
        if (--r->n_reads == 0)
            r->reads_head = 0;
    }
}

void raft_begin_read_round(struct raft *r)
{
    struct progress *self = raft_member(r, r->config.id);

    if (r->n_reads_new == 0 || !committed_in_term(r))
        return;
    r->read_round++;
    for (; r->n_reads_new > 0; r->n_reads_new--) {
        struct read_request *q =
            &r->reads[r->reads_head + r->n_reads - r->n_reads_new];

        q->round = r->read_round;
        q->index = r->commit_index;
    }
    if (self)
        self->read_round = r->read_round;
    answer_confirmed_reads(r); /* at once if we are the only voter */
    if (r->n_reads > 0)
        raft_send_heartbeats(r);
}

/* Takes a reference of its own to q's ctx. */
static void queue_read(struct raft *r, struct read_request q)
{
    if (r->n_reads >= READS_MAX)
        return; /* its asker asks again */
    r->reads = raftlog_room(r->reads, sizeof(*r->reads), &r->reads_head,
                            r->n_reads, &r->reads_cap);
    blob_ref(q.ctx);
    r->reads[r->reads_head + r->n_reads++] = q;
    r->n_reads_new++;
}

void raft_drop_reads(struct raft *r)
{
    for (size_t i = 0; i < r->n_reads; i++)
        blob_unref(r->reads[r->reads_head + i].ctx);
    r->reads_head = r->n_reads = r->n_reads_new = 0;
}

void raft_read_index(struct raft *r, uint64_t ctx)
{
    struct raft_msg m;
    struct blob *data;
    uint8_t b[8];

    if (r->role == RAFT_LEADER) {
        queue_read(r,
                   (struct read_request){.from = r->config.id, .own_ctx = ctx});
        return;
    }
    if (r->leader_id == 0)
        return;
    put_u64be(b, ctx);
    data = blob_new(b, sizeof(b));
    m = raft_message(r, RAFT_MSG_READ_INDEX, r->leader_id);
    m.term = 0;
    m.entries = one_entry(data);
    m.n_entries = 1;
    blob_unref(data);
    raft_post(r, m);
}

/* --- Leadership transfer (thesis, 3.10), and a new configuration. -------- */

static void send_timeout_now(struct raft *r, raft_id to)
{
    raft_post(r, raft_message(r, RAFT_MSG_TIMEOUT_NOW, to));
    raft_note(r, "sent MsgTimeoutNow to %" PRIx64 " after received MsgAppResp",
              to);
}

static void begin_transfer(struct raft *r, raft_id to)
{
    const struct progress *p = raft_member(r, to);

    if (!p || p->learner || to == r->config.id || to == r->lead_transferee)
        return;
    raft_note(r, "[term %" PRIu64 "] starts to transfer leadership to %" PRIx64,
              r->current_term, to);
    /* It has one election timeout to succeed. */
    r->election_elapsed = 0;
    r->lead_transferee = to;
    if (p->match_index == raftlog_last_index(&r->log))
        send_timeout_now(r, to);
}

int raft_transfer_leader(struct raft *r, raft_id to)
{
    assert(!r->ready_out);
    if (r->role != RAFT_LEADER)
        return RAFT_ENOTLEADER;
    if (!raft_is_voter(r, to))
        return RAFT_ETRANSFEREE;
    begin_transfer(r, to);
    return 0;
}

void raft_quorum_changed(struct raft *r)
{
    maybe_commit(r);
    answer_confirmed_reads(r);
    if (!raft_is_voter(r, r->lead_transferee))
        r->lead_transferee = 0;
}

/* --- Answers. ------------------------------------------------------------ */

static void append_accepted(struct raft *r, struct progress *p,
                            raft_index index)
{
    /* Index 0 is how a member of a later term answers an old leader; it
     * tells nothing about its log. */
    if (index == 0)
        return;
    if (!progress_accepted(p, index) && p->state != RAFT_PROBE)
        return;

    if (p->state == RAFT_PROBE && p->match_index == index)
        progress_become_replicate(p);
    else if (p->state == RAFT_SNAPSHOT && p->match_index >= r->log.base)
        progress_become_replicate(p);
    maybe_commit(r);
    if (p->id == r->lead_transferee &&
        p->match_index == raftlog_last_index(&r->log))
        send_timeout_now(r, p->id);
}

/*
 * The logs part somewhere at or below the hint. Skip all of our entries with
 * a term that the member cannot have: then a follower that lags by many terms
 * costs one probe per term, not one per entry (paper, end of 5.3).
 */
static void append_rejected(struct raft *r, struct progress *p,
                            const struct raft_msg *m)
{
    raft_index hint = min_u64(m->reject_hint, raftlog_last_index(&r->log));
    raft_term term;

    if (m->log_term > 0)
        hint = raftlog_find_term(&r->log, hint, m->log_term, &term);
    if (progress_rejected(p, m->index, hint) && p->state == RAFT_REPLICATE)
        progress_become_probe(p);
}

static void handle_append_resp(struct raft *r, struct progress *p,
                               const struct raft_msg *m)
{
    if (m->index > raftlog_last_index(&r->log)) {
        raft_bad_message(r, m);
        return;
    }
    p->recent_active = true;
    if (m->reject)
        append_rejected(r, p, m);
    else
        append_accepted(r, p, m->index);
}

static void handle_heartbeat_resp(struct raft *r, struct progress *p,
                                  const struct raft_msg *m)
{
    progress_heartbeat(p);
    /* What we sent may be lost; an append, even empty, brings it to light. */
    if (p->match_index < raftlog_last_index(&r->log))
        p->poke = true;

    if (m->context && m->context->len == 8) {
        uint64_t round = get_u64be(m->context->data);

        if (round > r->read_round) {
            raft_bad_message(r, m);
            return;
        }
        p->read_round = max_u64(p->read_round, round);
        answer_confirmed_reads(r);
    }
}

void raft_step_leader(struct raft *r, const struct raft_msg *m)
{
    struct progress *p = raft_member(r, m->from);

    switch (m->type) {
    case RAFT_MSG_APP_RESP:
        handle_append_resp(r, p, m);
        break;
    case RAFT_MSG_HEARTBEAT_RESP:
        handle_heartbeat_resp(r, p, m);
        break;
    case RAFT_MSG_READ_INDEX:
        queue_read(r, (struct read_request){.from = m->from,
                                            .ctx = m->entries[0].data});
        break;
    case RAFT_MSG_TRANSFER_LEADER:
        begin_transfer(r, m->from);
        break;
    default:
        break;
    }
}
