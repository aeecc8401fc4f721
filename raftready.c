/*
 * raftready.c - output: messages, Readys, and lines for the log.
 *
 * WHAT WAITS FOR THE DISK. Votes and appended entries change memory at once,
 * and go to the disk with the next Ready. A message that promises them waits
 * in `held` with the number of the disk write that makes the promise true;
 * raft_stable() lets it go. Held are:
 *
 *   MsgVote          until our new term and our own vote are durable
 *   MsgVoteResp      a grant: until term and vote are; our vote for ourselves
 *                    is such a message, too, addressed to ourselves
 *   MsgAppResp       an accept: until the entries and the term are
 *
 * All else goes at once: rejections, pre-votes, heartbeats and their answers,
 * and a leader's appends, since they promise nothing about our own disk. A new
 * term drops what is held: those promises were made to leaders and candidates
 * of the past.
 */
#include "raft_impl.h"

#include <assert.h>
#include <inttypes.h>

/* Committed entries per Ready, so that the applier works in bounded steps. */
#define COMMITTED_ENTRIES_MAX 4096
#define COMMITTED_BYTES_MAX (1024 * 1024)

/* Room for so many messages is kept from one Ready to the next. */
#define MSGS_KEPT_MAX 256

/* What raft_take_log() may find, and how fast a flood of lines may come. */
#define LINES_BYTES_MAX (64 * 1024)
#define LINES_PER_TICK_MAX 64

/* --- Lines for the log. -------------------------------------------------- */

static void add_line(struct raft *r, bool with_id, const char *fmt, va_list ap)
{
    if (r->lines_left <= 0 || r->lines.len > LINES_BYTES_MAX) {
        r->lines_lost++;
        return;
    }
    r->lines_left--;
    if (with_id)
        buf_printf(&r->lines, "%" PRIx64 " ", r->config.id);
    buf_vprintf(&r->lines, fmt, ap);
    buf_addc(&r->lines, '\n');
}

void raft_note(struct raft *r, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    add_line(r, true, fmt, ap);
    va_end(ap);
}

void raft_say(struct raft *r, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    add_line(r, false, fmt, ap);
    va_end(ap);
}

void raft_note_tick(struct raft *r)
{
    uint64_t lost = r->lines_lost;

    r->lines_left = LINES_PER_TICK_MAX;
    if (lost == 0 || r->lines.len > LINES_BYTES_MAX)
        return;
    r->lines_lost = 0;
    raft_note(r, "suppressed %" PRIu64 " log lines", lost);
}

/* Report a change of leader, as etcd's raft.node does. */
static void note_leader(struct raft *r)
{
    raft_id was = r->reported_leader, now = r->leader_id;

    if (was == now)
        return;
    r->reported_leader = now;
    if (now == 0)
        raft_say(r,
                 "raft.node: %" PRIx64 " lost leader %" PRIx64
                 " at term %" PRIu64,
                 r->config.id, was, r->current_term);
    else if (was == 0)
        raft_say(r,
                 "raft.node: %" PRIx64 " elected leader %" PRIx64
                 " at term %" PRIu64,
                 r->config.id, now, r->current_term);
    else
        raft_say(r,
                 "raft.node: %" PRIx64 " changed leader from %" PRIx64
                 " to %" PRIx64 " at term %" PRIu64,
                 r->config.id, was, now, r->current_term);
}

void raft_bad_message(struct raft *r, const struct raft_msg *m)
{
    r->bad_messages++;
    raft_note(
        r,
        "[term: %" PRIu64 "] dropped an impossible %s message from %" PRIx64
        " [term: %" PRIu64 ", index: %" PRIu64 "]",
        r->current_term, raft_msg_name(m->type), m->from, m->term, m->index);
}

/* --- Messages, and what they promise. ------------------------------------ */

struct raft_msg raft_message(const struct raft *r, enum raft_msg_type type,
                             raft_id to)
{
    return (struct raft_msg){
        .type = type, .to = to, .from = r->config.id, .term = r->current_term};
}

void raft_post(struct raft *r, struct raft_msg m)
{
    struct msg_list *q = &r->msgs;

    if (q->n == q->cap) {
        q->cap = q->cap ? q->cap * 2 : 16;
        q->list = xrealloc(q->list, q->cap * sizeof(*q->list));
    }
    q->list[q->n++] = m;
}

uint64_t raft_vote_durable_seq(const struct raft *r)
{
    if (r->offered_hs.term != r->current_term ||
        r->offered_hs.vote != r->voted_for)
        return r->log.offered_seq + 1;
    return r->vote_seq > r->log.stable_seq ? r->vote_seq : 0;
}

static bool same_promise(const struct raft_msg *a, const struct raft_msg *b)
{
    return a->type == b->type && a->to == b->to && a->term == b->term &&
           !a->context && !b->context;
}

void raft_hold(struct raft *r, struct raft_msg m, uint64_t seq)
{
    if (seq <= r->log.stable_seq) {
        raft_post(r, m);
        return;
    }
    if (r->n_held > 0) {
        struct held_msg *last = &r->held[r->held_head + r->n_held - 1];

        /* Of several answers that wait for one write, the last will do. */
        if (last->seq >= seq && same_promise(&last->msg, &m)) {
            last->msg.index = max_u64(last->msg.index, m.index);
            return;
        }
        seq = max_u64(seq, last->seq);
    }
    r->held = raftlog_room(r->held, sizeof(*r->held), &r->held_head, r->n_held,
                           &r->held_cap);
    r->held[r->held_head + r->n_held++] = (struct held_msg){seq, m};
}

bool raft_pop_held(struct raft *r, struct raft_msg *out)
{
    if (r->n_held == 0 || r->held[r->held_head].seq > r->log.stable_seq)
        return false;
    *out = r->held[r->held_head++].msg;
    if (--r->n_held == 0)
        r->held_head = 0;
    return true;
}

void raft_lower_held(struct raft *r, raft_index last)
{
    for (size_t i = 0; i < r->n_held; i++) {
        struct raft_msg *m = &r->held[r->held_head + i].msg;

        if (m->type == RAFT_MSG_APP_RESP)
            m->index = min_u64(m->index, last);
    }
}

void raft_drop_held(struct raft *r)
{
    for (size_t i = 0; i < r->n_held; i++)
        raft_msg_release(&r->held[r->held_head + i].msg);
    r->held_head = r->n_held = 0;
}

/* --- The Ready. ---------------------------------------------------------- */

/* The entries of an append are the log's own. */
static void release_msg(struct raft_msg *m)
{
    if (m->type == RAFT_MSG_APP) {
        m->entries = NULL;
        m->n_entries = 0;
    }
    raft_msg_release(m);
}

void raft_release_msgs(struct msg_list *q)
{
    for (size_t i = 0; i < q->n; i++)
        release_msg(&q->list[i]);
    q->n = 0;
    if (q->cap > MSGS_KEPT_MAX) {
        free(q->list);
        *q = (struct msg_list){0};
    }
}

static void show_disk(struct raft *r, struct raft_ready *rd)
{
    struct raft_hard_state *was = &r->offered_hs;
    struct raft_hard_state now = {r->current_term, r->voted_for,
                                  r->commit_index};
    bool new_vote = now.term != was->term || now.vote != was->vote;

    r->snapshot_shown = r->snapshot;
    r->snapshot = NULL;
    rd->snapshot = r->snapshot_shown;
    rd->n_entries = raftlog_unoffered(&r->log, &rd->entries);
    if (new_vote || now.commit != was->commit) {
        *was = now;
        rd->hard_state = was;
    }
    if (!rd->snapshot && !rd->hard_state && rd->n_entries == 0)
        return;

    rd->must_sync =
        rd->snapshot || rd->n_entries > 0 || new_vote || r->sync_commit;
    r->sync_commit = false;
    rd->disk_seq = raftlog_offer(&r->log);
    if (new_vote)
        r->vote_seq = rd->disk_seq;
    if (rd->snapshot)
        r->snapshot_seq = rd->disk_seq;
}

static void show_committed(struct raft *r, struct raft_ready *rd)
{
    uint64_t n_max =
        min_u64(r->commit_index - r->handed_index, COMMITTED_ENTRIES_MAX);

    if (n_max == 0)
        return;
    rd->n_committed = raftlog_slice(&r->log, r->handed_index + 1, (size_t)n_max,
                                    COMMITTED_BYTES_MAX, &rd->committed);
    r->handed_index += rd->n_committed;
    for (size_t i = 0; i < rd->n_committed; i++)
        r->conf_changes_out += rd->committed[i].type != RAFT_ENTRY_NORMAL;
}

static void show_messages(struct raft *r, struct raft_ready *rd)
{
    struct msg_list empty = r->shown;

    r->shown = r->msgs;
    r->msgs = empty;
    rd->messages = r->shown.list;
    rd->n_messages = r->shown.n;
}

static void show_reads(struct raft *r, struct raft_ready *rd)
{
    struct raft_read *empty = r->reads_shown;
    size_t empty_cap = r->reads_shown_cap;

    rd->reads = r->reads_shown = r->reads_done;
    rd->n_reads = r->n_reads_done;
    r->reads_shown_cap = r->reads_done_cap;
    r->reads_done = empty;
    r->reads_done_cap = empty_cap;
    r->n_reads_done = 0;
}

bool raft_ready(struct raft *r, struct raft_ready *rd)
{
    assert(!r->ready_out);
    note_leader(r);
    if (r->role == RAFT_LEADER) {
        raft_begin_read_round(r);
        raft_send_all_appends(r);
    }

    *rd = (struct raft_ready){0};
    show_disk(r, rd);
    show_committed(r, rd);
    if (r->msgs.n > 0)
        show_messages(r, rd);
    if (r->n_reads_done > 0)
        show_reads(r, rd);
    r->ready_out =
        rd->disk_seq || rd->n_committed || rd->n_messages || rd->n_reads;
    return r->ready_out;
}

void raft_advance(struct raft *r)
{
    assert(r->ready_out);
    r->ready_out = false;
    raft_release_msgs(&r->shown);
    if (r->snapshot_shown) {
        raft_snapshot_release(r->snapshot_shown);
        free(r->snapshot_shown);
        r->snapshot_shown = NULL;
    }
}

void raft_take_log(struct raft *r, struct buf *b)
{
    if (r->lines.len == 0)
        return;
    buf_add(b, r->lines.data, r->lines.len);
    buf_clear(&r->lines);
    buf_trim(&r->lines, 4096);
}
