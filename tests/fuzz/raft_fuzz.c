/*
 * raft_fuzz.c - one member of three, among peers that say anything: numbers
 * that cannot be, entries with gaps, answers to what was never asked, local
 * messages, strangers. Whatever comes, what raft itself must hold holds, what
 * was committed is handed out once and in order, and nothing is promised that
 * is not on disk.
 */
#include "fuzz.h"
#include "raft.h"

#define SELF 1
#define WRITES_MAX 64 /* under way; then the disk must answer first */
#define STEPS_MAX 400

/* What a write to the disk will have made durable. */
struct disk_write {
    uint64_t seq;
    struct raft_hard_state hs;
    raft_index last; /* of the log */
};

struct world {
    struct fuzz_in in;
    struct raft *raft;
    struct raft_hard_state hs; /* handed to the disk */
    raft_index last;           /* likewise */
    struct disk_write writes[WRITES_MAX];
    size_t n_writes;
    struct disk_write durable;
    raft_index handed, applied;
    struct raft_entry *todo; /* committed, and to be applied */
    size_t n_todo;
};

static struct blob *some_data(struct world *w)
{
    struct str s = fuzz_bytes(&w->in, fuzz_u8(&w->in) % 24);

    return s.n ? blob_new(s.p, s.n) : NULL;
}

/* A number that is near one that matters to raft, or anything. */
static uint64_t near(struct world *w)
{
    struct raft_status s = raft_status(w->raft);
    const uint64_t bases[] = {0,       s.term,        s.commit,     s.applied,
                              s.vote,  s.first_index, s.last_index, w->handed,
                              s.leader};
    uint8_t b = fuzz_u8(&w->in);

    if (b >= 200)
        return fuzz_number(&w->in);
    return bases[b % ARRAY_LEN(bases)] + (uint64_t)(b / ARRAY_LEN(bases) % 8) -
           3;
}

static void some_entries(struct world *w, struct raft_msg *m)
{
    uint8_t how = fuzz_u8(&w->in);

    m->n_entries = how % 6;
    if (m->n_entries == 0)
        return;
    m->entries = xcalloc(m->n_entries, sizeof(*m->entries));
    for (size_t i = 0; i < m->n_entries; i++) {
        struct raft_entry *e = &m->entries[i];

        e->type = (enum raft_entry_type)(fuzz_u8(&w->in) % 4);
        e->index = how & 128 ? near(w) : m->index + 1 + i;
        e->term = how & 64 ? near(w) : m->term;
        e->data = some_data(w);
    }
}

static void some_ids(struct world *w, struct raft_ids *ids)
{
    uint8_t set = fuzz_u8(&w->in);

    for (raft_id id = 1; id <= 6; id++)
        if (set >> id & 1)
            raft_ids_add(ids, id);
    if (set & 128 && ids->n > 1) /* out of order */
        ids->ids[0] = ids->ids[ids->n - 1];
}

static struct raft_snapshot *some_snapshot(struct world *w)
{
    struct raft_snapshot *s = xcalloc(1, sizeof(*s));

    s->index = near(w);
    s->term = near(w);
    some_ids(w, &s->conf_state.voters);
    some_ids(w, &s->conf_state.learners);
    if (fuzz_u8(&w->in) & 1)
        some_ids(w, &s->conf_state.voters_outgoing);
    s->data = some_data(w);
    return s;
}

static void step_message(struct world *w)
{
    struct raft_msg m = {
        .type = (enum raft_msg_type)(fuzz_u8(&w->in) % 21),
        .to = SELF,
        .from = fuzz_u8(&w->in) % 5,
    };
    uint8_t bits = fuzz_u8(&w->in);

    m.term = near(w);
    m.index = near(w);
    m.log_term = near(w);
    m.commit = near(w);
    m.reject = bits & 1;
    m.reject_hint = bits & 2 ? near(w) : 0;
    some_entries(w, &m);
    if (bits & 4)
        m.snapshot = some_snapshot(w);
    if (bits & 8)
        m.context = some_data(w);
    raft_step(w->raft, &m);
    if (bits & 16) /* twice, as networks do */
        raft_step(w->raft, &m);
    raft_msg_release(&m);
}

/* The bytes of a peer's POST. */
static void step_raw(struct world *w)
{
    struct str s = fuzz_bytes(&w->in, fuzz_u8(&w->in));
    struct raft_msg m;

    if (raftpb_decode_msg(s.p, s.n, &m) < 0)
        return;
    m.to = SELF;
    raft_step(w->raft, &m);
    raft_msg_release(&m);
}

static void disk_answers(struct world *w, size_t n)
{
    if (n == 0 || w->n_writes == 0)
        return;
    if (n > w->n_writes)
        n = w->n_writes;
    w->durable = w->writes[n - 1];
    w->n_writes -= n;
    memmove(w->writes, w->writes + n, w->n_writes * sizeof(w->writes[0]));
    raft_stable(w->raft, w->durable.seq);
}

/* --- What comes out. ---------------------------------------------------- */

static void check_hard_state(struct world *w, const struct raft_hard_state *hs)
{
    FUZZ_CHECK(hs->term >= w->hs.term && hs->commit >= w->hs.commit);
    if (hs->term == w->hs.term && w->hs.vote != 0)
        FUZZ_CHECK(hs->vote == w->hs.vote);
    w->hs = *hs;
}

/* Promises are on disk before they are made (raft.h). */
static void check_message(const struct world *w, const struct raft_msg *m)
{
    FUZZ_CHECK(m->to != SELF && m->to != 0);
    if (m->type == RAFT_MSG_VOTE_RESP && !m->reject) {
        FUZZ_CHECK(w->durable.hs.term == m->term);
        FUZZ_CHECK(w->durable.hs.vote == m->to);
    }
    if (m->type == RAFT_MSG_APP_RESP && !m->reject)
        FUZZ_CHECK(m->index <= w->durable.last);
    if (m->type == RAFT_MSG_APP)
        for (size_t i = 0; i < m->n_entries; i++)
            FUZZ_CHECK(m->entries[i].index == m->index + 1 + i);
}

static void take_snapshot(struct world *w, const struct raft_snapshot *s)
{
    FUZZ_CHECK(s->index > w->handed);
    w->handed = w->last = s->index;
}

static void take_committed(struct world *w, const struct raft_entry *e,
                           size_t n)
{
    for (size_t i = 0; i < n; i++) {
        FUZZ_CHECK(e[i].index == w->handed + 1);
        w->handed++;
    }
}

static void keep_committed(struct world *w, const struct raft_entry *e,
                           size_t n)
{
    struct raft_entry *copies = raft_entries_dup(e, n);

    w->todo = xrealloc(w->todo, (w->n_todo + n) * sizeof(*w->todo));
    if (n)
        memcpy(w->todo + w->n_todo, copies, n * sizeof(*copies));
    w->n_todo += n;
    free(copies);
}

/* As the server does, when it comes to it: what cannot be read changes
 * nothing. */
static void apply_all(struct world *w)
{
    for (size_t i = 0; i < w->n_todo; i++) {
        struct raft_conf_change_v2 cc = {0};
        struct str s = blob_str(w->todo[i].data);

        if (w->todo[i].type == RAFT_ENTRY_NORMAL)
            continue;
        if (raftpb_decode_conf_change_v2(s.p, s.n, &cc) < 0)
            cc.n = 0;
        FUZZ_CHECK(raft_apply_conf_change(w->raft, &cc)->voters.n > 0);
    }
    raft_entries_free(w->todo, w->n_todo);
    w->todo = NULL;
    w->n_todo = 0;
    w->applied = w->handed;
    raft_applied(w->raft, w->applied);
}

static void queue_write(struct world *w, uint64_t seq)
{
    FUZZ_CHECK(seq == w->durable.seq + w->n_writes + 1);
    w->writes[w->n_writes++] = (struct disk_write){seq, w->hs, w->last};
}

static bool handle_ready(struct world *w)
{
    struct raft_ready rd;

    if (w->n_writes == WRITES_MAX)
        disk_answers(w, WRITES_MAX / 2);
    if (!raft_ready(w->raft, &rd))
        return false;
    if (rd.snapshot)
        take_snapshot(w, rd.snapshot);
    if (rd.hard_state)
        check_hard_state(w, rd.hard_state);
    if (rd.n_entries)
        w->last = rd.entries[rd.n_entries - 1].index;
    if (rd.disk_seq)
        queue_write(w, rd.disk_seq);
    for (size_t i = 0; i < rd.n_messages; i++)
        check_message(w, &rd.messages[i]);
    take_committed(w, rd.committed, rd.n_committed);
    keep_committed(w, rd.committed, rd.n_committed);
    raft_advance(w->raft);
    return true;
}

/* --- The run. ----------------------------------------------------------- */

static void propose(struct world *w, bool conf)
{
    struct blob *b = some_data(w);

    if (conf && b)
        raft_propose_conf_change(w->raft, b);
    else
        raft_propose(w->raft, &b, 1);
    blob_unref(b);
}

static void one_step(struct world *w)
{
    uint8_t op = fuzz_u8(&w->in);

    if (op < 128)
        step_message(w);
    else if (op < 144)
        step_raw(w);
    else if (op < 176)
        for (int i = 0; i <= op % 16; i++)
            raft_tick(w->raft);
    else if (op < 200)
        propose(w, op % 4 == 0);
    else if (op < 224)
        disk_answers(w, op % 8);
    else if (op < 232)
        apply_all(w);
    else if (op < 236)
        raft_compact(w->raft, w->applied);
    else if (op < 240)
        raft_read_index(w->raft, op);
    else if (op < 244)
        raft_report_unreachable(w->raft, op % 4);
    else if (op < 248)
        raft_report_snapshot(w->raft, op % 4, op & 4);
    else if (op < 252)
        raft_transfer_leader(w->raft, op % 4);
    else
        raft_campaign(w->raft);
}

static struct raft *new_raft(uint8_t how)
{
    raft_id ids[] = {1, 2, 3};
    struct raft_config config = {.id = SELF,
                                 .election_ticks = 10,
                                 .heartbeat_ticks = 1,
                                 .pre_vote = how & 1,
                                 .check_quorum = how & 2,
                                 .msg_bytes_max = how & 4 ? 16 : 1 << 20,
                                 .inflight_max = how & 8 ? 1 : 16,
                                 .uncommitted_bytes_max = how & 16 ? 32 : 0,
                                 .seed = how};
    struct raft_initial init = {.conf_state.voters = {ids, how & 32 ? 1 : 3}};
    struct raft *r;

    FUZZ_CHECK(raft_new(&config, &init, &r, NULL) == 0);
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world w = {.in = {data, size}};
    struct buf log = {0};

    w.raft = new_raft(fuzz_u8(&w.in));
    for (int i = 0; i < STEPS_MAX && fuzz_more(&w.in); i++) {
        one_step(&w);
        raft_check(w.raft);
        while (handle_ready(&w))
            raft_check(w.raft);
        raft_take_log(w.raft, &log);
        FUZZ_CHECK(log.len <= 128 * 1024);
        buf_clear(&log);
    }
    disk_answers(&w, WRITES_MAX);
    raft_entries_free(w.todo, w.n_todo);
    raft_free(w.raft);
    buf_release(&log);
    return 0;
}
