/*
 * raft.c - the Raft consensus algorithm as a pure state machine.
 *
 * Here are terms, roles, elections and the follower's side, and what could
 * arrive at all. raftlead.c leads, raftconf.c knows who is a member, and
 * raftready.c keeps back what the disk does not hold yet. raftlog.c is the
 * log, progress.c what a leader knows of each member.
 *
 * An input changes memory at once, queues messages, and marks what the disk
 * must hold; raft_ready() collects all of it. Terms are settled first, for all
 * messages alike (enter_term_of, answer_stale); then each role speaks.
 *
 * INVARIANTS (see raft_check)
 *   1. applied <= handed <= commit <= last index; the compacted part of the
 *      log is applied, or is a snapshot on its way to the state machine.
 *   2. An entry at or below commit_index is never cut or replaced.
 *   3. Terms in the log never exceed current_term.
 *   4. A leader's log only grows, and its own match_index is durable.
 */
#include "raft_impl.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

/* Beyond these a peer's number is a lie, and +1 never overflows below. */
#define INDEX_LIMIT (UINT64_MAX / 2)
#define TERM_LIMIT (UINT64_MAX / 2)

#define READ_CTX_MAX 1024 /* bytes of a peer's read context */

static const char transfer_context[] = "CampaignTransfer";

enum campaign { CAMPAIGN_NORMAL, CAMPAIGN_AFTER_PRE_VOTE, CAMPAIGN_TRANSFER };

static void step(struct raft *r, const struct raft_msg *m);
static void campaign(struct raft *r, enum campaign kind);

/* --- Roles. -------------------------------------------------------------- */

/* splitmix64 */
static uint64_t next_random(struct raft *r)
{
    uint64_t z = r->random += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static void restart_election_timer(struct raft *r)
{
    uint64_t ticks = (uint64_t)r->config.election_ticks;

    r->election_elapsed = 0;
    r->election_timeout = (int)(ticks + next_random(r) % ticks);
}

/* Leave whatever role we had, for one in this term or a later one. */
static void reset(struct raft *r, raft_term term)
{
    assert(term >= r->current_term);
    if (term > r->current_term) {
        r->current_term = term;
        r->voted_for = 0;
        raft_drop_held(r);
    }
    r->leader_id = 0;
    restart_election_timer(r);
    r->heartbeat_elapsed = 0;
    r->lead_transferee = 0;
    r->pending_conf_index = 0;
    r->uncommitted_bytes = 0;
    raft_drop_reads(r);
    for (size_t i = 0; i < r->n_members; i++)
        progress_reset(&r->members[i], raftlog_last_index(&r->log) + 1);
}

static void become_follower(struct raft *r, raft_term term, raft_id leader)
{
    reset(r, term);
    r->role = RAFT_FOLLOWER;
    r->leader_id = leader;
    raft_note(r, "became follower at term %" PRIu64, r->current_term);
}

static void become_pre_candidate(struct raft *r)
{
    assert(r->role != RAFT_LEADER);
    reset(r, r->current_term);
    r->role = RAFT_PRE_CANDIDATE;
    raft_note(r, "became pre-candidate at term %" PRIu64, r->current_term);
}

static void become_candidate(struct raft *r)
{
    assert(r->role != RAFT_LEADER);
    reset(r, r->current_term + 1);
    r->role = RAFT_CANDIDATE;
    r->voted_for = r->config.id;
    raft_note(r, "became candidate at term %" PRIu64, r->current_term);
}

static void become_leader(struct raft *r)
{
    raft_index last = raftlog_last_index(&r->log);
    struct progress *self;

    assert(r->role == RAFT_CANDIDATE);
    reset(r, r->current_term);
    r->role = RAFT_LEADER;
    r->leader_id = r->config.id;
    self = raft_member(r, r->config.id);
    self->match_index = r->log.stable;
    self->recent_active = true;

    /* There may be a conf change among them; and what they are worth counts
     * against the limit of proposals under way. */
    r->pending_conf_index = last;
    r->uncommitted_bytes = raftlog_bytes(&r->log, r->commit_index + 1, last);

    /* Entries of earlier terms commit only together with one of this term
     * (paper, 5.4.2), so there must be one at once (thesis, 6.4). */
    raft_append_as_leader(r, RAFT_ENTRY_NORMAL, NULL);
    raft_note(r, "became leader at term %" PRIu64, r->current_term);
}

/* --- Elections. ---------------------------------------------------------- */

/* Only a voter whose state is complete may become leader. */
static bool promotable(const struct raft *r)
{
    return raft_is_voter(r, r->config.id) && !r->snapshot &&
           r->snapshot_seq <= r->log.stable_seq;
}

static size_t count_votes(const struct raft *r, enum progress_vote vote)
{
    size_t n = 0;

    for (size_t i = 0; i < r->n_members; i++)
        n += !r->members[i].learner && r->members[i].vote == vote;
    return n;
}

/* A candidate, or pre-candidate, has heard from a voter. */
static void count_vote(struct raft *r, raft_id from, bool granted)
{
    bool pre = r->role == RAFT_PRE_CANDIDATE;
    enum raft_msg_type type = pre ? RAFT_MSG_PRE_VOTE_RESP : RAFT_MSG_VOTE_RESP;
    struct progress *p = raft_member(r, from);
    size_t yes, no;

    assert(p); /* plausible() and hup() see to that: strangers, and changes */
    if (p->vote == VOTE_NONE) /* the first answer counts */
        p->vote = granted ? VOTE_GRANTED : VOTE_REJECTED;
    raft_note(r, "received %s%s from %" PRIx64 " at term %" PRIu64,
              raft_msg_name(type), granted ? "" : " rejection", from,
              r->current_term);
    yes = count_votes(r, VOTE_GRANTED);
    no = count_votes(r, VOTE_REJECTED);
    raft_note(r,
              "[quorum:%zu] has received %zu %s votes and %zu vote rejections",
              raft_quorum(r), yes, raft_msg_name(type), no);

    if (yes >= raft_quorum(r)) {
        if (pre)
            campaign(r, CAMPAIGN_AFTER_PRE_VOTE);
        else
            become_leader(r);
    } else if (no > r->conf.voters.n - raft_quorum(r)) {
        become_follower(r, r->current_term, 0);
    }
}

static void request_vote(struct raft *r, raft_id to, enum raft_msg_type type,
                         enum campaign kind)
{
    struct raft_msg m = raft_message(r, type, to);

    m.index = raftlog_last_index(&r->log);
    m.log_term = raftlog_last_term(&r->log);
    raft_note(r,
              "[logterm: %" PRIu64 ", index: %" PRIu64
              "] sent %s request to %" PRIx64 " at term %" PRIu64,
              m.log_term, m.index, raft_msg_name(type), to, r->current_term);
    if (type == RAFT_MSG_PRE_VOTE) {
        m.term = r->current_term + 1; /* the one that we would campaign in */
        raft_post(r, m);
        return;
    }
    if (kind == CAMPAIGN_TRANSFER)
        m.context = blob_new(transfer_context, sizeof(transfer_context) - 1);
    raft_hold(r, m, raft_vote_durable_seq(r));
}

static void campaign(struct raft *r, enum campaign kind)
{
    bool pre =
        kind == CAMPAIGN_NORMAL && r->config.pre_vote && !raft_sole_voter(r);
    enum raft_msg_type type = pre ? RAFT_MSG_PRE_VOTE : RAFT_MSG_VOTE;

    if (pre)
        become_pre_candidate(r);
    else
        become_candidate(r);

    if (!pre)
        raft_hold(r, raft_message(r, RAFT_MSG_VOTE_RESP, r->config.id),
                  raft_vote_durable_seq(r));
    for (size_t i = 0; i < r->n_members; i++)
        if (!r->members[i].learner && r->members[i].id != r->config.id)
            request_vote(r, r->members[i].id, type, kind);
    if (pre)
        count_vote(r, r->config.id, true);
}

static size_t unapplied_conf_changes(const struct raft *r)
{
    raft_index i = max_u64(r->last_applied, r->log.base) + 1;
    size_t n = 0;

    for (; i <= r->commit_index; i++)
        n += raftlog_at(&r->log, i)->type != RAFT_ENTRY_NORMAL;
    return n;
}

/* The time for an election has come, unless something speaks against it. */
static void hup(struct raft *r, enum campaign kind)
{
    size_t pending;

    if (r->role == RAFT_LEADER)
        return;
    if (!promotable(r)) {
        raft_note(r, "is unpromotable and can not campaign");
        return;
    }
    pending = unapplied_conf_changes(r);
    if (pending > 0) {
        raft_note(
            r,
            "cannot campaign at term %" PRIu64
            " since there are still %zu pending configuration changes to apply",
            r->current_term, pending);
        return;
    }
    raft_note(r, "is starting a new election at term %" PRIu64,
              r->current_term);
    campaign(r, kind);
}

static bool log_up_to_date(const struct raft *r, const struct raft_msg *m)
{
    raft_term last_term = raftlog_last_term(&r->log);

    return m->log_term > last_term || (m->log_term == last_term &&
                                       m->index >= raftlog_last_index(&r->log));
}

static void note_vote(struct raft *r, const struct raft_msg *m,
                      const char *verb, const char *prep, const char *more)
{
    raft_note(r,
              "[logterm: %" PRIu64 ", index: %" PRIu64 ", vote: %" PRIx64
              "] %s %s %s %" PRIx64 " [logterm: %" PRIu64 ", index: %" PRIu64
              "] at term %" PRIu64 "%s",
              raftlog_last_term(&r->log), raftlog_last_index(&r->log),
              r->voted_for, verb, raft_msg_name(m->type), prep, m->from,
              m->log_term, m->index, r->current_term, more);
}

/* RequestVote and its rehearsal; the message's term is not below ours. */
static void handle_vote_request(struct raft *r, const struct raft_msg *m)
{
    bool pre = m->type == RAFT_MSG_PRE_VOTE;
    bool may_vote = r->voted_for == m->from ||
                    (r->voted_for == 0 && r->leader_id == 0) ||
                    (pre && m->term > r->current_term);
    struct raft_msg resp = raft_message(
        r, pre ? RAFT_MSG_PRE_VOTE_RESP : RAFT_MSG_VOTE_RESP, m->from);

    if (!may_vote || !log_up_to_date(r, m)) {
        note_vote(r, m, "rejected", "from", "");
        resp.reject = true;
        raft_post(r, resp);
        return;
    }

    note_vote(r, m, "cast", "for", "");
    if (pre) { /* promises nothing */
        resp.term = m->term;
        raft_post(r, resp);
        return;
    }
    r->election_elapsed = 0;
    r->voted_for = m->from;
    raft_hold(r, resp, raft_vote_durable_seq(r));
}

/* --- Replication: the follower's side. ----------------------------------- */

/* Our log agrees with the leader's up to index: say so once it is durable. */
static void accept_append(struct raft *r, raft_id to, raft_index index)
{
    struct raft_msg m = raft_message(r, RAFT_MSG_APP_RESP, to);

    m.index = index;
    raft_hold(
        r, m,
        max_u64(raft_vote_durable_seq(r), raftlog_durable_seq(&r->log, index)));
}

static void reject_append(struct raft *r, const struct raft_msg *m)
{
    struct raft_msg resp = raft_message(r, RAFT_MSG_APP_RESP, m->from);

    resp.index = m->index;
    resp.reject = true;
    resp.reject_hint =
        raftlog_find_term(&r->log, m->index, m->log_term, &resp.log_term);
    raft_post(r, resp);
}

/* AppendEntries receiver, Figure 2 rules 2-5; rule 1 is settled. */
static void handle_append(struct raft *r, const struct raft_msg *m)
{
    raft_index last_new = m->index + m->n_entries;
    size_t known;

    /* An old message: all that it can tell is committed. */
    if (m->index < r->commit_index) {
        accept_append(r, m->from, r->commit_index);
        return;
    }
    if (!raftlog_matches(&r->log, m->index, m->log_term)) {
        reject_append(r, m);
        return;
    }

    /*
     * 3, 4. Cut at the first conflict, then append the rest. Without a
     * conflict nothing is cut: a delayed duplicate may end before our log
     * does, and truncating to it would lose acknowledged entries. (Prev is
     * at or above commit_index, so the cut is above it.)
     */
    known = raftlog_count_known(&r->log, m->entries, m->n_entries);
    if (known < m->n_entries &&
        m->entries[known].index <= raftlog_last_index(&r->log)) {
        assert(m->entries[known].index > r->commit_index);
        raftlog_truncate(&r->log, m->entries[known].index);
        raft_lower_held(r, m->entries[known].index - 1);
    }
    for (size_t i = known; i < m->n_entries; i++)
        raftlog_append(&r->log, m->entries[i].type, m->entries[i].term,
                       m->entries[i].data);

    /* 5. Only what this message proves we share; never moves backwards. */
    raft_commit_to(r, min_u64(m->commit, last_new));
    accept_append(r, m->from, last_new);
}

static void handle_heartbeat(struct raft *r, const struct raft_msg *m)
{
    struct raft_msg resp = raft_message(r, RAFT_MSG_HEARTBEAT_RESP, m->from);

    raft_commit_to(r, m->commit);
    resp.context = blob_ref(m->context);
    raft_post(r, resp);
}

static void restore(struct raft *r, const struct raft_snapshot *s)
{
    raftlog_reset(&r->log, s->index, s->term);
    raft_lower_held(r, 0);
    r->commit_index = r->handed_index = s->index;

    /* Changes handed out earlier belong to the configuration before. */
    if (r->conf_changes_out > 0 && r->conf_changes_behind == 0) {
        raft_conf_state_release(&r->conf_behind);
        raft_conf_state_copy(&r->conf_behind, &r->conf);
    }
    r->conf_changes_behind = r->conf_changes_out;
    raft_conf_state_release(&r->conf);
    raft_conf_state_copy(&r->conf, &s->conf_state);
    raft_rebuild_members(r);

    if (r->snapshot)
        raft_snapshot_release(r->snapshot);
    else
        r->snapshot = xcalloc(1, sizeof(*r->snapshot));
    r->snapshot->index = s->index;
    r->snapshot->term = s->term;
    r->snapshot->data = blob_ref(s->data);
    raft_conf_state_copy(&r->snapshot->conf_state, &s->conf_state);
}

/* InstallSnapshot (paper, section 7). */
static void handle_snapshot(struct raft *r, const struct raft_msg *m)
{
    const struct raft_snapshot *s = m->snapshot;
    const char *what = "ignored";

    if (s->index <= r->commit_index) {
        what = "ignored";
    } else if (raftlog_matches(&r->log, s->index, s->term)) {
        /* We have all of it: only the commit index is news. */
        raft_commit_to(r, s->index);
        what = "fast-forwarded commit to";
    } else if (raft_ids_has(&s->conf_state.voters, r->config.id) ||
               raft_ids_has(&s->conf_state.learners, r->config.id)) {
        restore(r, s);
        what = "restored";
    }
    raft_note(r,
              "[commit: %" PRIu64 "] %s snapshot [index: %" PRIu64
              ", term: %" PRIu64 "]",
              r->commit_index, what, s->index, s->term);
    accept_append(r, m->from, r->commit_index);
}

/* --- Messages: what is possible, terms, roles. --------------------------- */

static bool entries_plausible(const struct raft_msg *m)
{
    raft_term term = m->log_term;

    if (term > m->term || (m->index == 0 && term != 0))
        return false;
    for (size_t i = 0; i < m->n_entries; i++) {
        const struct raft_entry *e = &m->entries[i];

        if (e->index != m->index + 1 + i || e->term < term || e->term == 0 ||
            e->term > m->term || (unsigned)e->type > RAFT_ENTRY_CONF_CHANGE_V2)
            return false;
        term = e->term;
    }
    return true;
}

static bool snapshot_plausible(const struct raft_msg *m)
{
    const struct raft_snapshot *s = m->snapshot;

    return s && s->index > 0 && s->index < INDEX_LIMIT && s->term > 0 &&
           s->term <= m->term && raft_conf_plausible(&s->conf_state);
}

static bool proposal_plausible(const struct raft_msg *m)
{
    for (size_t i = 0; i < m->n_entries; i++)
        if ((unsigned)m->entries[i].type > RAFT_ENTRY_CONF_CHANGE_V2)
            return false;
    return m->n_entries > 0;
}

/* Could a correct peer have sent this? What depends on roles comes later. */
static bool plausible(const struct raft *r, const struct raft_msg *m)
{
    if (m->from == 0 || m->from == r->config.id || m->term >= TERM_LIMIT ||
        m->log_term >= TERM_LIMIT || m->index >= INDEX_LIMIT ||
        m->n_entries >= INDEX_LIMIT - m->index)
        return false;

    switch (m->type) {
    case RAFT_MSG_PROP:
        return proposal_plausible(m);
    case RAFT_MSG_READ_INDEX:
        return m->n_entries == 1 &&
               (!m->entries[0].data || m->entries[0].data->len <= READ_CTX_MAX);
    case RAFT_MSG_APP:
        return m->term > 0 && entries_plausible(m);
    case RAFT_MSG_SNAP:
        return m->term > 0 && snapshot_plausible(m);
    case RAFT_MSG_VOTE:
    case RAFT_MSG_PRE_VOTE:
        return m->term > m->log_term;
    case RAFT_MSG_HEARTBEAT:
    case RAFT_MSG_TIMEOUT_NOW:
    case RAFT_MSG_READ_INDEX_RESP:
        return m->term > 0;
    case RAFT_MSG_TRANSFER_LEADER:
        return true;
    case RAFT_MSG_APP_RESP:
    case RAFT_MSG_VOTE_RESP:
    case RAFT_MSG_PRE_VOTE_RESP:
    case RAFT_MSG_HEARTBEAT_RESP:
        /* We only ask members. */
        return m->term > 0 && raft_member(r, m->from);
    case RAFT_MSG_HUP:
    case RAFT_MSG_BEAT:
    case RAFT_MSG_UNREACHABLE:
    case RAFT_MSG_SNAP_STATUS:
    case RAFT_MSG_CHECK_QUORUM:
        break; /* local matters */
    }
    return false;
}

static bool is_vote_request(const struct raft_msg *m)
{
    return m->type == RAFT_MSG_VOTE || m->type == RAFT_MSG_PRE_VOTE;
}

static bool is_from_leader(const struct raft_msg *m)
{
    return m->type == RAFT_MSG_APP || m->type == RAFT_MSG_HEARTBEAT ||
           m->type == RAFT_MSG_SNAP;
}

/*
 * Who hears of a leader does not help to depose it (thesis, 4.2.3), unless
 * the leader itself wishes so.
 */
static bool lease_holds(const struct raft *r, const struct raft_msg *m)
{
    return r->config.check_quorum && r->leader_id != 0 &&
           r->election_elapsed < r->config.election_ticks &&
           !str_eqz(blob_str(m->context), transfer_context);
}

/* A message of a later term. False: there is nothing more to it. */
static bool enter_term_of(struct raft *r, const struct raft_msg *m)
{
    bool follower = r->role == RAFT_FOLLOWER;
    int elapsed = r->election_elapsed, timeout = r->election_timeout;

    if (is_vote_request(m) && lease_holds(r, m)) {
        char more[64];

        snprintf(more, sizeof(more),
                 ": lease is not expired (remaining ticks: %d)",
                 r->config.election_ticks - r->election_elapsed);
        note_vote(r, m, "ignored", "from", more);
        return false;
    }
    /* A rehearsal changes nobody's term; nor does its success, yet. */
    if (m->type == RAFT_MSG_PRE_VOTE ||
        (m->type == RAFT_MSG_PRE_VOTE_RESP && !m->reject))
        return true;
    raft_note(r,
              "[term: %" PRIu64
              "] received a %s message with higher term from %" PRIx64
              " [term: %" PRIu64 "]",
              r->current_term, raft_msg_name(m->type), m->from, m->term);
    become_follower(r, m->term, is_from_leader(m) ? m->from : 0);
    /* Only a granted vote restarts a follower's timer (paper, 5.2): else one
     * with a short log could hinder those with a longer one. */
    if (follower && m->type == RAFT_MSG_VOTE) {
        r->election_elapsed = elapsed;
        r->election_timeout = timeout;
    }
    return true;
}

/*
 * A message of an earlier term. Its sender may be stuck there: a leader that
 * was cut off, and we, who moved on, ignore it and ask nobody for votes as
 * long as pre-votes fail or leases hold. Our term in any answer frees it.
 */
static void answer_stale(struct raft *r, const struct raft_msg *m)
{
    bool quiet = r->config.check_quorum || r->config.pre_vote;
    struct raft_msg resp;

    if (quiet && (m->type == RAFT_MSG_APP || m->type == RAFT_MSG_HEARTBEAT)) {
        raft_post(r, raft_message(r, RAFT_MSG_APP_RESP, m->from));
    } else if (m->type == RAFT_MSG_PRE_VOTE) {
        resp = raft_message(r, RAFT_MSG_PRE_VOTE_RESP, m->from);
        resp.reject = true;
        raft_post(r, resp);
    }
}

/* Two leaders in a term cannot be, nor can we lose what we acknowledged. */
static bool leader_message_possible(const struct raft *r,
                                    const struct raft_msg *m)
{
    if (r->role == RAFT_LEADER ||
        (r->leader_id != 0 && r->leader_id != m->from))
        return false;
    return m->type != RAFT_MSG_HEARTBEAT ||
           m->commit <= raftlog_last_index(&r->log);
}

static void step_from_leader(struct raft *r, const struct raft_msg *m)
{
    if (!leader_message_possible(r, m)) {
        if (m->type == RAFT_MSG_HEARTBEAT &&
            m->commit > raftlog_last_index(&r->log))
            raft_say(r,
                     "tocommit(%" PRIu64 ") is out of range [lastIndex(%" PRIu64
                     ")]. Was the raft log corrupted, truncated, or lost?",
                     m->commit, raftlog_last_index(&r->log));
        raft_bad_message(r, m);
        return;
    }
    if (r->role != RAFT_FOLLOWER)
        become_follower(r, r->current_term, m->from);
    r->leader_id = m->from;
    r->election_elapsed = 0;

    if (m->type == RAFT_MSG_APP)
        handle_append(r, m);
    else if (m->type == RAFT_MSG_HEARTBEAT)
        handle_heartbeat(r, m);
    else
        handle_snapshot(r, m);
}

static void step_candidate(struct raft *r, const struct raft_msg *m)
{
    if (r->role == RAFT_CANDIDATE && m->type == RAFT_MSG_VOTE_RESP)
        count_vote(r, m->from, !m->reject);
    /* A grant of an earlier rehearsal says nothing about this one. */
    if (r->role == RAFT_PRE_CANDIDATE && m->type == RAFT_MSG_PRE_VOTE_RESP &&
        (m->reject || m->term == r->current_term + 1))
        count_vote(r, m->from, !m->reject);
}

static void step_follower(struct raft *r, const struct raft_msg *m)
{
    struct raft_msg copy;
    const struct blob *ctx;

    switch (m->type) {
    case RAFT_MSG_TIMEOUT_NOW:
        if (r->leader_id != 0 && r->leader_id != m->from) {
            raft_bad_message(r, m);
            break;
        }
        raft_note(r,
                  "[term %" PRIu64 "] received MsgTimeoutNow from %" PRIx64
                  " and starts an election to get leadership.",
                  r->current_term, m->from);
        hup(r, CAMPAIGN_TRANSFER);
        break;
    case RAFT_MSG_TRANSFER_LEADER:
        if (r->leader_id == 0 || r->leader_id == m->from)
            break;
        copy = raft_message(r, RAFT_MSG_TRANSFER_LEADER, r->leader_id);
        copy.from = m->from; /* from is the transferee */
        raft_post(r, copy);
        break;
    case RAFT_MSG_READ_INDEX_RESP:
        ctx = m->n_entries == 1 ? m->entries[0].data : NULL;
        if (!ctx || ctx->len != 8) {
            raft_bad_message(r, m);
            break;
        }
        raft_answer_read(r,
                         &(struct read_request){.from = r->config.id,
                                                .own_ctx = get_u64be(ctx->data),
                                                .index = m->index});
        break;
    default: /* a MsgReadIndex is not forwarded: its asker asks again */
        break;
    }
}

static void step(struct raft *r, const struct raft_msg *m)
{
    if (m->type == RAFT_MSG_PROP) { /* proposals and reads bear no term */
        raft_handle_proposal(r, m);
        return;
    }
    if (m->type != RAFT_MSG_READ_INDEX && m->term > 0) {
        if (m->term < r->current_term) {
            answer_stale(r, m);
            return;
        }
        if (m->term > r->current_term && !enter_term_of(r, m))
            return;
    }

    if (is_vote_request(m))
        handle_vote_request(r, m);
    else if (is_from_leader(m))
        step_from_leader(r, m);
    else if (r->role == RAFT_LEADER)
        raft_step_leader(r, m);
    else if (r->role == RAFT_FOLLOWER)
        step_follower(r, m);
    else
        step_candidate(r, m);
}

void raft_step(struct raft *r, const struct raft_msg *m)
{
    assert(!r->ready_out);
    if (plausible(r, m))
        step(r, m);
    else
        raft_bad_message(r, m);
}

/* --- Time. --------------------------------------------------------------- */

static bool quorum_active(struct raft *r)
{
    size_t active = 0;

    for (size_t i = 0; i < r->n_members; i++) {
        struct progress *p = &r->members[i];

        active += !p->learner && (p->recent_active || p->id == r->config.id);
        p->recent_active = false;
    }
    return active >= raft_quorum(r);
}

static void tick_leader(struct raft *r)
{
    if (++r->election_elapsed >= r->config.election_ticks) {
        r->election_elapsed = 0;
        if (r->config.check_quorum && !quorum_active(r)) {
            raft_note(r, "stepped down to follower since quorum is not active");
            become_follower(r, r->current_term, 0);
            return;
        }
        r->lead_transferee = 0; /* it had its time */
    }
    if (++r->heartbeat_elapsed >= r->config.heartbeat_ticks) {
        r->heartbeat_elapsed = 0;
        raft_send_heartbeats(r);
    }
}

static void tick_election(struct raft *r)
{
    r->election_elapsed++;
    if (!promotable(r))
        return;
    /* Our disk has not even taken our own vote: a further term would only
     * begin the wait anew. */
    if (r->role == RAFT_CANDIDATE && raft_vote_durable_seq(r) > 0) {
        r->election_elapsed = 0;
        return;
    }
    /* The only voter has nobody to wait for. */
    if (r->election_elapsed >= r->election_timeout ||
        (r->role == RAFT_FOLLOWER && raft_sole_voter(r))) {
        r->election_elapsed = 0;
        hup(r, CAMPAIGN_NORMAL);
    }
}

void raft_tick(struct raft *r)
{
    assert(!r->ready_out);
    raft_note_tick(r);
    if (r->role == RAFT_LEADER)
        tick_leader(r);
    else
        tick_election(r);
}

void raft_skip_election_ticks(struct raft *r, int n)
{
    int left = r->election_timeout - 1 - r->election_elapsed;

    if (r->role != RAFT_LEADER && left > 0 && n > 0)
        r->election_elapsed += n < left ? n : left;
}

/* --- The caller's other inputs. ------------------------------------------ */

void raft_campaign(struct raft *r)
{
    assert(!r->ready_out);
    hup(r, CAMPAIGN_NORMAL);
}

void raft_stable(struct raft *r, uint64_t disk_seq)
{
    struct raft_msg m;

    assert(!r->ready_out);
    if (disk_seq <= r->log.stable_seq)
        return;
    raftlog_stable(&r->log, disk_seq);
    while (raft_pop_held(r, &m)) {
        if (m.to != r->config.id) {
            raft_post(r, m);
            continue;
        }
        step(r, &m); /* our vote for ourselves */
        raft_msg_release(&m);
    }
    if (r->role == RAFT_LEADER)
        raft_leader_stable(r);
}

void raft_applied(struct raft *r, raft_index index)
{
    assert(!r->ready_out);
    assert(index <= r->handed_index);
    r->last_applied = max_u64(r->last_applied, index);
}

void raft_compact(struct raft *r, raft_index index)
{
    assert(!r->ready_out);
    assert(index <= r->last_applied);
    if (index > r->log.base)
        raftlog_compact(&r->log, index);
}

/* Where the log has to begin for this follower; UINT64_MAX: it is not to be
 * waited for. */
static raft_index wanted_behind(const struct progress *p)
{
    switch (p->state) {
    case RAFT_SNAPSHOT:
        return p->pending_snapshot;
    case RAFT_REPLICATE:
        return p->match_index;
    default: /* a snapshot has arrived there, and will be answered */
        return p->recent_active && p->next_index > p->match_index + 1
                   ? p->next_index - 1
                   : UINT64_MAX;
    }
}

raft_index raft_wanted(const struct raft *r)
{
    raft_index lowest = raftlog_last_index(&r->log);

    if (r->role == RAFT_LEADER)
        for (size_t i = 0; i < r->n_members; i++)
            lowest = min_u64(lowest, wanted_behind(&r->members[i]));
    return lowest;
}

/* --- Life. --------------------------------------------------------------- */

static int load_log(struct raft *r, const struct raft_initial *init,
                    struct err *e)
{
    size_t skip = 0;

    raftlog_init(&r->log, init->snapshot_index, init->snapshot_term);
    /*
     * A snapshot from a leader replaced our log, but a write-ahead log only
     * grows: a conflicting suffix from before may come back. Its terms are
     * lower than the snapshot's.
     */
    while (skip < init->n_entries &&
           init->entries[skip].term < init->snapshot_term)
        skip++;
    if (skip > 0 && skip < init->n_entries)
        skip = 0; /* a gap, or terms that fall: told below */

    for (size_t i = 0; i < init->n_entries - skip; i++) {
        const struct raft_entry *entry = &init->entries[i];

        if (entry->index != raftlog_last_index(&r->log) + 1 ||
            entry->term < raftlog_last_term(&r->log))
            return err_set(e, RAFT_ECONFIG,
                           "entry %" PRIu64 " of term %" PRIu64 " cannot "
                           "follow entry %" PRIu64 " of term %" PRIu64
                           ": was the log corrupted?",
                           entry->index, entry->term,
                           raftlog_last_index(&r->log),
                           raftlog_last_term(&r->log));
        raftlog_append(&r->log, entry->type, entry->term, entry->data);
    }
    r->log.stable = r->log.offered = raftlog_last_index(&r->log);
    return 0;
}

/*
 * Of two conf changes in the log the first is committed, or the second would
 * not be there (see raftconf.c). A crash may have lost the commit index that
 * said so; we must know it, so as not to campaign before it is applied.
 */
static raft_index commit_implied(const struct raft *r, raft_index commit)
{
    bool later = false;

    for (raft_index i = raftlog_last_index(&r->log); i > commit; i--) {
        if (raftlog_at(&r->log, i)->type == RAFT_ENTRY_NORMAL)
            continue;
        if (later)
            return i;
        later = true;
    }
    return commit;
}

static int load_state(struct raft *r, const struct raft_initial *init,
                      struct err *e)
{
    const struct raft_hard_state *hs = &init->hard_state;
    raft_index last = raftlog_last_index(&r->log);
    raft_index known = max_u64(init->snapshot_index, init->applied);

    if (hs->commit > last || known > last ||
        init->applied < init->snapshot_index)
        return err_set(e, RAFT_ECONFIG,
                       "commit index %" PRIu64 " or applied index %" PRIu64
                       " is out of range [%" PRIu64 ", %" PRIu64 "]: was the "
                       "log corrupted, truncated, or lost?",
                       hs->commit, init->applied, init->snapshot_index, last);
    if (init->conf_state.voters.n + init->conf_state.learners.n > 0 &&
        !raft_conf_plausible(&init->conf_state))
        return err_set(e, RAFT_ECONFIG,
                       "the snapshot's membership is a joint or an invalid "
                       "configuration");

    r->offered_hs = *hs;
    r->current_term = hs->term;
    r->voted_for = hs->vote;
    /* A hard state may be lost that was written behind entries of a later
     * term; then no vote of that term had been given away. */
    if (raftlog_last_term(&r->log) > hs->term) {
        r->current_term = raftlog_last_term(&r->log);
        r->voted_for = 0;
    }
    r->commit_index = commit_implied(r, max_u64(hs->commit, known));
    r->handed_index = r->last_applied = init->applied;
    return 0;
}

static void note_start(struct raft *r)
{
    struct buf peers = {0};

    for (size_t i = 0; i < r->conf.voters.n; i++)
        buf_printf(&peers, "%s%" PRIx64, i ? "," : "", r->conf.voters.ids[i]);
    raft_say(r,
             "newRaft %" PRIx64 " [peers: [%s], term: %" PRIu64
             ", commit: %" PRIu64 ", applied: %" PRIu64 ", lastindex: %" PRIu64
             ", lastterm: %" PRIu64 "]",
             r->config.id, buf_z(&peers), r->current_term, r->commit_index,
             r->last_applied, raftlog_last_index(&r->log),
             raftlog_last_term(&r->log));
    buf_release(&peers);
}

int raft_new(const struct raft_config *config, const struct raft_initial *init,
             struct raft **out, struct err *e)
{
    struct raft *r;
    int rc;

    if (config->id == 0 || config->heartbeat_ticks < 1 ||
        config->election_ticks <= config->heartbeat_ticks)
        return err_set(e, RAFT_ECONFIG,
                       "the election timeout must be longer than the "
                       "heartbeat interval, and the member must have an id");
    r = xcalloc(1, sizeof(*r));
    r->config = *config;
    if (r->config.inflight_max == 0)
        r->config.inflight_max = 1;
    r->random = config->seed;
    raft_note_tick(r);

    rc = load_log(r, init, e);
    if (rc == 0)
        rc = load_state(r, init, e);
    if (rc < 0) {
        raft_free(r);
        return rc;
    }
    raft_conf_state_copy(&r->conf, &init->conf_state);
    raft_rebuild_members(r);
    become_follower(r, r->current_term, 0);
    note_start(r);
    *out = r;
    return 0;
}

void raft_free(struct raft *r)
{
    if (!r)
        return;
    raft_drop_held(r);
    raft_drop_reads(r);
    raft_release_msgs(&r->msgs);
    raft_release_msgs(&r->shown);
    if (r->snapshot)
        raft_snapshot_release(r->snapshot);
    if (r->snapshot_shown)
        raft_snapshot_release(r->snapshot_shown);
    for (size_t i = 0; i < r->n_members; i++)
        progress_release(&r->members[i]);
    raft_conf_state_release(&r->conf);
    raft_conf_state_release(&r->conf_behind);
    raftlog_release(&r->log);
    buf_release(&r->lines);
    free(r->snapshot);
    free(r->snapshot_shown);
    free(r->members);
    free(r->sorted);
    free(r->msgs.list);
    free(r->shown.list);
    free(r->held);
    free(r->reads);
    free(r->reads_done);
    free(r->reads_shown);
    free(r);
}

/* --- Looking inside. ----------------------------------------------------- */

struct raft_status raft_status(const struct raft *r)
{
    return (struct raft_status){
        .id = r->config.id,
        .leader = r->leader_id,
        .role = r->role,
        .term = r->current_term,
        .vote = r->voted_for,
        .commit = r->commit_index,
        .applied = r->last_applied,
        .last_index = raftlog_last_index(&r->log),
        .first_index = r->log.base + 1,
        .lead_transferee = r->lead_transferee,
        .log_bytes = r->log.bytes,
        .bad_messages = r->bad_messages,
    };
}

const struct raft_conf_state *raft_conf_state(const struct raft *r)
{
    return &r->conf;
}

bool raft_term_of(const struct raft *r, raft_index index, raft_term *out)
{
    return raftlog_term(&r->log, index, out);
}

size_t raft_progress(const struct raft *r, struct raft_progress *out,
                     size_t max)
{
    if (r->role != RAFT_LEADER)
        return 0;
    for (size_t i = 0; i < r->n_members && i < max; i++) {
        const struct progress *p = &r->members[i];

        out[i] = (struct raft_progress){.id = p->id,
                                        .match_index = p->match_index,
                                        .next_index = p->next_index,
                                        .state = p->state,
                                        .learner = p->learner,
                                        .recent_active = p->recent_active};
    }
    return r->n_members;
}

static void check_leader(const struct raft *r)
{
    const struct progress *self = raft_member(r, r->config.id);

    assert(r->leader_id == r->config.id);
    assert(r->voted_for == r->config.id);
    assert(raftlog_last_term(&r->log) == r->current_term);
    assert(!self || self->match_index <= r->log.stable);
    assert(r->uncommitted_bytes == raftlog_bytes(&r->log, r->commit_index + 1,
                                                 raftlog_last_index(&r->log)));
    for (size_t i = 0; i < r->n_members; i++) {
        assert(r->members[i].match_index <= raftlog_last_index(&r->log));
        progress_check(&r->members[i]);
    }
    for (size_t i = 0; i + 1 < r->n_reads - r->n_reads_new; i++)
        assert(r->reads[r->reads_head + i].round <=
               r->reads[r->reads_head + i + 1].round);
}

static void check_held(const struct raft *r)
{
    uint64_t seq = r->log.stable_seq;

    for (size_t i = 0; i < r->n_held; i++) {
        const struct held_msg *h = &r->held[r->held_head + i];

        assert(h->seq > r->log.stable_seq);
        assert(h->seq >= seq);
        assert(h->seq <= r->log.offered_seq + 1);
        assert(h->msg.term == r->current_term);
        seq = h->seq;
    }
}

void raft_check(const struct raft *r)
{
    raftlog_check(&r->log);
    assert(r->last_applied <= r->handed_index);
    assert(r->handed_index <= r->commit_index);
    assert(r->commit_index <= raftlog_last_index(&r->log));
    assert(r->log.base <= r->handed_index);
    assert(raftlog_last_term(&r->log) <= r->current_term);
    assert(r->conf_changes_behind <= r->conf_changes_out);
    assert(r->n_members == r->conf.voters.n + r->conf.learners.n);
    assert(r->n_reads_new <= r->n_reads);
    check_held(r);
    if (r->role == RAFT_LEADER) {
        check_leader(r);
        return;
    }
    assert(r->leader_id != r->config.id);
    assert(r->n_reads == 0);
    if (r->role == RAFT_CANDIDATE)
        assert(r->voted_for == r->config.id);
}
