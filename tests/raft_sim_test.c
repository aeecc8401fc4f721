/*
 * raft_sim_test.c - clusters of 1, 3 and 5 members, and their misfortunes, all
 * from one seed.
 *
 *   raft_sim_test [number of seeds [first seed]]
 *
 * The network loses, repeats, reorders and cuts; disks are slow, and a crash
 * loses what they have not acknowledged, or only a part of it (a torn write
 * keeps entries but not the hard state behind them); members restart from what
 * is durable; members join, learn, are promoted and leave; leaders hand over.
 * After every step the properties of the paper's Figure 3 must hold, no promise
 * may be on the wire that is not on the disk, and a read must never see less
 * than was committed when it was asked for. At the end everything is healed,
 * and the cluster must make progress and agree.
 *
 * A seed that fails is run again with a trace, whose end is printed.
 */
#include "check.h"

#include "raft.h"

#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>

#define SEEDS_DEFAULT 300
#define STEPS 3000
#define NODES_MAX 9
#define RESTART_WEIGHT 60 /* per mille: for one of NODES_MAX places */
#define INDEX_MAX 4096
#define TERM_MAX 8192
#define PACKETS_MAX 512
#define READS_MAX 64
#define KNOWN_MAX 8192 /* a power of two, well above all entries of a run */
#define TRACE_LINES 500
#define TRACE_LINE_MAX 200

/* A state machine: a digest of all commands, in order. */
struct machine {
    raft_index index;
    raft_term term;
    uint64_t digest;
    struct raft_conf_state conf;
};

/* What one Ready gave to the disk, or to the state machine. */
struct job {
    struct job *next;
    uint64_t seq;
    bool has_snapshot, has_hard_state;
    struct machine snapshot;
    struct raft_hard_state hard_state;
    struct raft_entry *entries;
    size_t n_entries;
};

struct queue {
    struct job *first, *last;
};

struct read {
    uint64_t ctx;
    raft_index at_least;
};

struct node {
    raft_id id;      /* 0: a free place */
    struct raft *r;  /* NULL: down */
    unsigned life;   /* counts starts */
    int disk_chance; /* percent, to finish when asked */

    /* Durable: survives a crash. */
    struct raft_hard_state hard_state;
    struct machine snapshot;
    struct raft_entry *log; /* behind the snapshot */
    size_t n_log, log_cap;

    /* Volatile. */
    struct machine machine;
    struct queue disk, apply;
    raft_index seen_commit;
    bool seen_leader;
    struct read reads[READS_MAX];
    size_t n_reads;
};

struct packet {
    struct raft_msg m;
    raft_id sender;
    unsigned life;
};

/* An entry, known by index and term (Log Matching: they determine it). */
struct known {
    raft_index index;
    raft_term term, prev_term;
    uint64_t hash;
};

struct sim {
    uint64_t seed, random;
    int step;
    struct node nodes[NODES_MAX];
    size_t n_founders;
    struct raft_config config;

    struct packet net[PACKETS_MAX];
    size_t n_net;
    bool cut[NODES_MAX][NODES_MAX];
    int loss, repeat, crash_weight, conf_weight, cut_weight; /* per mille */
    int deliver_weight, tick_weight;
    bool healed;

    /* What the world has seen. */
    raft_id leader_of[TERM_MAX];
    raft_term committed[INDEX_MAX];
    raft_index n_committed;
    uint64_t applied[INDEX_MAX], digest[INDEX_MAX];
    struct known known[KNOWN_MAX];
    raft_index removed_at[NODES_MAX];
    uint64_t next_ctx, next_command;
    size_t reads_answered, conf_changes, snapshots, elections;
    bool tracing;
};

static struct {
    char line[TRACE_LINES][TRACE_LINE_MAX];
    size_t n;
} trace_ring;

static sigjmp_buf failed;
static struct sim sim;

static struct {
    uint64_t committed, reads, conf_changes, snapshots, elections, stuck;
} total;

/* --- Failure and trace. ------------------------------------------------- */

static void trace(const struct sim *s, const char *fmt, ...) PRINTF(2, 3);

static void trace(const struct sim *s, const char *fmt, ...)
{
    char *line;
    va_list ap;
    int n;

    if (!s->tracing)
        return;
    line = trace_ring.line[trace_ring.n++ % TRACE_LINES];
    n = snprintf(line, TRACE_LINE_MAX, "%5d ", s->step);
    va_start(ap, fmt);
    vsnprintf(line + n, TRACE_LINE_MAX - (size_t)n, fmt, ap);
    va_end(ap);
}

static _Noreturn void fail(const struct sim *s, const char *fmt, ...)
    PRINTF(2, 3);

static _Noreturn void fail(const struct sim *s, const char *fmt, ...)
{
    va_list ap;

    if (s->tracing) {
        fprintf(stderr, "seed %" PRIu64 " step %d: ", s->seed, s->step);
        va_start(ap, fmt);
        vfprintf(stderr, fmt, ap);
        va_end(ap);
        fputc('\n', stderr);
    }
    siglongjmp(failed, 1);
}

static void on_abort(int sig)
{
    (void)sig;
    siglongjmp(failed, 1);
}

static void trace_print(void)
{
    size_t n = trace_ring.n < TRACE_LINES ? trace_ring.n : TRACE_LINES;

    for (size_t i = trace_ring.n - n; i < trace_ring.n; i++)
        fprintf(stderr, "%s\n", trace_ring.line[i % TRACE_LINES]);
}

static void trace_raft(const struct sim *s, const struct node *n)
{
    struct buf b = {0};
    struct str rest, line;

    if (!s->tracing)
        return;
    raft_take_log(n->r, &b);
    rest = buf_str(&b);
    while (str_cut(&rest, '\n', &line))
        trace(s, "    raft: %.*s", STR_FMT(line));
    buf_release(&b);
}

static void trace_msg(const struct sim *s, const char *what,
                      const struct raft_msg *m)
{
    trace(s,
          "%s %" PRIx64 "->%" PRIx64 " %s term %" PRIu64 " index %" PRIu64
          "/%" PRIu64 " n %zu commit %" PRIu64 "%s hint %" PRIu64
          " snap %" PRIu64,
          what, m->from, m->to, raft_msg_name(m->type), m->term, m->index,
          m->log_term, m->n_entries, m->commit, m->reject ? " reject" : "",
          m->reject_hint, m->snapshot ? m->snapshot->index : 0);
}

/* --- Chance. ------------------------------------------------------------ */

static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static uint64_t random_below(struct sim *s, uint64_t n)
{
    s->random += UINT64_C(0x9e3779b97f4a7c15);
    return mix(s->random) % n;
}

static bool chance(struct sim *s, int per_mille)
{
    return random_below(s, 1000) < (uint64_t)per_mille;
}

/* --- Entries and machines. ---------------------------------------------- */

static uint64_t entry_hash(const struct raft_entry *e)
{
    struct str d = blob_str(e->data);
    uint64_t h = mix((uint64_t)e->type + 1);

    for (size_t i = 0; i < d.n; i++)
        h = mix(h * 257 + (uint8_t)d.p[i] + 1);
    return h;
}

/* A conf change is 'C', type, id. */
static struct raft_conf_change_v2 conf_change_of(const struct raft_entry *e)
{
    struct raft_conf_change_v2 cc = {0};
    struct str d = blob_str(e->data);

    if (d.n == 3 && d.p[0] == 'C') {
        cc.n = 1;
        cc.changes[0].type = (enum raft_conf_change_type)d.p[1];
        cc.changes[0].node_id = (uint8_t)d.p[2];
    }
    return cc;
}

static struct blob *conf_change_data(enum raft_conf_change_type type,
                                     raft_id id)
{
    uint8_t d[3] = {'C', (uint8_t)type, (uint8_t)id};

    return blob_new(d, sizeof(d));
}

static void machine_copy(struct machine *dst, const struct machine *src)
{
    struct raft_conf_state conf = {0};

    raft_conf_state_copy(&conf, &src->conf);
    raft_conf_state_release(&dst->conf);
    *dst = *src;
    dst->conf = conf;
}

/* The rules of membership once more, to compare. */
static void machine_change(struct machine *m,
                           const struct raft_conf_change_v2 *cc)
{
    raft_id id = cc->changes[0].node_id;
    struct raft_conf_state *c = &m->conf;

    if (cc->n == 0 || (c->voters.n == 1 && c->voters.ids[0] == id))
        return;
    raft_ids_remove(&c->voters, id);
    raft_ids_remove(&c->learners, id);
    if (cc->changes[0].type == RAFT_ADD_NODE)
        raft_ids_add(&c->voters, id);
    if (cc->changes[0].type == RAFT_ADD_LEARNER_NODE)
        raft_ids_add(&c->learners, id);
}

static bool same_ids(const struct raft_ids *a, const struct raft_ids *b)
{
    return a->n == b->n &&
           (a->n == 0 || memcmp(a->ids, b->ids, a->n * sizeof(*a->ids)) == 0);
}

static bool same_conf(const struct raft_conf_state *a,
                      const struct raft_conf_state *b)
{
    return same_ids(&a->voters, &b->voters) &&
           same_ids(&a->learners, &b->learners);
}

static bool in_conf(const struct raft_conf_state *c, raft_id id)
{
    return raft_ids_has(&c->voters, id) || raft_ids_has(&c->learners, id);
}

static struct job *queue_add(struct queue *q)
{
    struct job *j = xcalloc(1, sizeof(*j));

    if (q->last)
        q->last->next = j;
    else
        q->first = j;
    q->last = j;
    return j;
}

static void queue_pop(struct queue *q)
{
    struct job *j = q->first;

    q->first = j->next;
    if (!q->first)
        q->last = NULL;
    raft_entries_free(j->entries, j->n_entries);
    raft_conf_state_release(&j->snapshot.conf);
    free(j);
}

static void machine_of_snapshot(struct machine *m,
                                const struct raft_snapshot *snap)
{
    m->index = snap->index;
    m->term = snap->term;
    m->digest = get_u64le(snap->data->data);
    raft_conf_state_copy(&m->conf, &snap->conf_state);
}

/* --- The disk. ---------------------------------------------------------- */

static void log_truncate(struct node *n, size_t keep)
{
    while (n->n_log > keep)
        raft_entry_release(&n->log[--n->n_log]);
}

static bool durable_has(const struct node *n, raft_index index, raft_term term)
{
    if (index <= n->snapshot.index)
        return true;
    index -= n->snapshot.index;
    return index <= n->n_log && n->log[index - 1].term == term;
}

static void disk_put_entry(struct sim *s, struct node *n,
                           const struct raft_entry *e)
{
    size_t at;

    /* Older than a checkpoint that was faster than the disk: replaced. */
    if (e->index <= n->snapshot.index || e->term < n->snapshot.term)
        return;
    at = (size_t)(e->index - n->snapshot.index - 1);
    if (at > n->n_log)
        fail(s, "%" PRIx64 " leaves a gap on disk before %" PRIu64, n->id,
             e->index);
    log_truncate(n, at);
    if (n->n_log == n->log_cap) {
        n->log_cap = n->log_cap * 2 + 16;
        n->log = xrealloc(n->log, n->log_cap * sizeof(*n->log));
    }
    n->log[n->n_log] = *e;
    blob_ref(n->log[n->n_log++].data);
}

/* The log now begins behind m. */
static void disk_put_snapshot(struct node *n, const struct machine *m,
                              bool keep_tail)
{
    size_t gone = n->n_log;

    if (m->index <= n->snapshot.index)
        return; /* a checkpoint of its own was faster */
    if (keep_tail && m->index - n->snapshot.index < gone)
        gone = (size_t)(m->index - n->snapshot.index);
    for (size_t i = 0; i < gone; i++)
        raft_entry_release(&n->log[i]);
    for (size_t i = gone; i < n->n_log; i++)
        n->log[i - gone] = n->log[i];
    n->n_log -= gone;
    machine_copy(&n->snapshot, m);
}

/* A write-ahead log may show a replaced suffix again; terms give it away. */
static bool tail_is_older(const struct node *n, raft_term term)
{
    return n->n_log > 0 && n->log[n->n_log - 1].term < term;
}

static void disk_put(struct sim *s, struct node *n, const struct job *j,
                     bool torn)
{
    if (j->has_snapshot)
        disk_put_snapshot(n, &j->snapshot,
                          tail_is_older(n, j->snapshot.term) && chance(s, 500));
    for (size_t i = 0; i < j->n_entries; i++)
        disk_put_entry(s, n, &j->entries[i]);
    if (j->has_hard_state && !torn)
        n->hard_state = j->hard_state;
}

static void disk_run(struct sim *s, struct node *n)
{
    uint64_t seq = 0;

    while (n->disk.first && (seq == 0 || chance(s, 600))) {
        disk_put(s, n, n->disk.first, false);
        seq = n->disk.first->seq;
        queue_pop(&n->disk);
    }
    if (seq == 0)
        return;
    trace(s, "disk %" PRIx64 " durable to write %" PRIu64, n->id, seq);
    raft_stable(n->r, seq);
}

/* --- What must always hold. --------------------------------------------- */

/* Election Safety: at most one leader in a term. */
static void check_leader(struct sim *s, struct node *n,
                         const struct raft_status *st)
{
    if (st->term >= TERM_MAX)
        fail(s, "term %" PRIu64 " is too high for a short run", st->term);
    if (s->leader_of[st->term] && s->leader_of[st->term] != n->id)
        fail(s, "term %" PRIu64 " has two leaders, %" PRIx64 " and %" PRIx64,
             st->term, s->leader_of[st->term], n->id);
    if (n->seen_leader)
        return;
    s->leader_of[st->term] = n->id;
    s->elections++;

    /* Leader Completeness. */
    for (raft_index i = st->first_index; i <= s->n_committed; i++) {
        raft_term term;

        if (!raft_term_of(n->r, i, &term) || term != s->committed[i])
            fail(s,
                 "leader %" PRIx64 " of term %" PRIu64 " lacks committed "
                 "entry %" PRIu64,
                 n->id, st->term, i);
    }
}

/* The first time that index is known to be committed. */
static void check_new_commit(struct sim *s, struct node *n, raft_index index,
                             raft_term term, const struct raft_status *st)
{
    const struct raft_conf_state *conf = raft_conf_state(n->r);
    size_t holders = 0;

    s->committed[index] = term;
    s->n_committed = index;
    for (size_t i = 0; i < NODES_MAX; i++) {
        struct node *o = &s->nodes[i];
        raft_term t;

        if (raft_ids_has(&conf->voters, i + 1))
            holders += s->removed_at[i] || durable_has(o, index, term);
        if (!o->r || o == n || raft_status(o->r).role != RAFT_LEADER ||
            raft_status(o->r).term <= st->term)
            continue;
        if (index >= raft_status(o->r).first_index &&
            (!raft_term_of(o->r, index, &t) || t != term))
            fail(s,
                 "leader %" PRIx64 " lacks entry %" PRIu64 ", committed by "
                 "%" PRIx64,
                 o->id, index, n->id);
    }
    if (st->role != RAFT_LEADER)
        fail(s, "%" PRIx64 " commits %" PRIu64 " before any leader", n->id,
             index);
    if (holders <= conf->voters.n / 2)
        fail(s, "%" PRIx64 " commits %" PRIu64 ", which is on %zu disks of %zu",
             n->id, index, holders, conf->voters.n);
}

static void check_commits(struct sim *s, struct node *n,
                          const struct raft_status *st)
{
    if (st->commit >= INDEX_MAX)
        fail(s, "index %" PRIu64 " is too high for a short run", st->commit);
    for (raft_index i = n->seen_commit + 1; i <= st->commit; i++) {
        raft_term term;

        if (!raft_term_of(n->r, i, &term)) {
            if (i > s->n_committed)
                fail(s, "%" PRIx64 " commits an entry it lacks", n->id);
            continue;
        }
        if (i > s->n_committed)
            check_new_commit(s, n, i, term, st);
        else if (s->committed[i] != term)
            fail(s,
                 "entry %" PRIu64 " is committed with term %" PRIu64
                 ", and on %" PRIx64 " with term %" PRIu64,
                 i, s->committed[i], n->id, term);
    }
    n->seen_commit = st->commit;
}

static void check_node(struct sim *s, struct node *n)
{
    struct raft_status st = raft_status(n->r);

    raft_check(n->r);
    check_commits(s, n, &st);
    if (st.role == RAFT_LEADER)
        check_leader(s, n, &st);
    n->seen_leader = st.role == RAFT_LEADER;
}

/* Log Matching: index and term determine an entry and all before it. */
static void check_matching(struct sim *s, const struct raft_entry *e,
                           raft_term prev_term)
{
    uint64_t hash = entry_hash(e);
    size_t at = (size_t)mix(e->index * 65537 + e->term) & (KNOWN_MAX - 1);

    while (s->known[at].index != 0) {
        const struct known *k = &s->known[at];

        if (k->index == e->index && k->term == e->term) {
            if (k->hash != hash || k->prev_term != prev_term)
                fail(s, "two logs differ at index %" PRIu64 " term %" PRIu64,
                     e->index, e->term);
            return;
        }
        at = (at + 1) & (KNOWN_MAX - 1);
    }
    s->known[at] = (struct known){e->index, e->term, prev_term, hash};
}

/* Nothing is promised that a crash could undo. */
static void check_promise(struct sim *s, struct node *n,
                          const struct raft_msg *m)
{
    const struct raft_hard_state *hs = &n->hard_state;
    raft_id vote = m->type == RAFT_MSG_VOTE ? n->id : m->to;
    raft_term term;
    bool kept = true;

    if (m->reject || (m->type == RAFT_MSG_APP_RESP && m->index == 0))
        return;
    if (m->type == RAFT_MSG_VOTE || m->type == RAFT_MSG_VOTE_RESP)
        kept = hs->term == m->term && hs->vote == vote;
    if (m->type == RAFT_MSG_APP_RESP)
        kept = hs->term == m->term && (!raft_term_of(n->r, m->index, &term) ||
                                       durable_has(n, m->index, term));
    if (!kept) {
        trace_msg(s, "broken promise", m);
        fail(s, "%" PRIx64 " promises what is not durable", n->id);
    }
}

/* State Machine Safety. */
static void check_apply(struct sim *s, struct node *n,
                        const struct raft_entry *e)
{
    uint64_t hash = mix(entry_hash(e) + e->term);
    raft_index i = e->index;

    if (i != n->machine.index + 1)
        fail(s, "%" PRIx64 " applies %" PRIu64 " after %" PRIu64, n->id, i,
             n->machine.index);
    if (s->applied[i] && s->applied[i] != hash)
        fail(s, "%" PRIx64 " applies another entry at %" PRIu64, n->id, i);
    s->applied[i] = hash;
    n->machine.index = i;
    n->machine.term = e->term;
    n->machine.digest = mix(n->machine.digest ^ hash);
    s->digest[i] = n->machine.digest;
}

static void check_read(struct sim *s, struct node *n,
                       const struct raft_read *read)
{
    for (size_t i = 0; i < n->n_reads; i++) {
        if (n->reads[i].ctx != read->ctx)
            continue;
        trace(s, "read %" PRIu64 " on %" PRIx64 " at %" PRIu64, read->ctx,
              n->id, read->index);
        if (read->index < n->reads[i].at_least)
            fail(s, "%" PRIx64 " reads at %" PRIu64 " what misses %" PRIu64,
                 n->id, read->index, n->reads[i].at_least);
        n->reads[i] = n->reads[--n->n_reads];
        s->reads_answered++;
        return;
    }
}

/* --- A member's shell. -------------------------------------------------- */

static struct node *node_of(struct sim *s, raft_id id)
{
    return id >= 1 && id <= NODES_MAX && s->nodes[id - 1].id ? &s->nodes[id - 1]
                                                             : NULL;
}

static void send_msg(struct sim *s, struct node *n, const struct raft_msg *m)
{
    struct packet *p;

    if (s->n_net == PACKETS_MAX)
        return;
    p = &s->net[s->n_net++];
    p->sender = n->id;
    p->life = n->life;
    raft_msg_copy(&p->m, m);
    if (m->type == RAFT_MSG_SNAP) {
        struct raft_snapshot *snap = p->m.snapshot;
        uint8_t d[8];

        if (snap->index > n->machine.index)
            fail(s, "%" PRIx64 " sends a snapshot of the future", n->id);
        raft_conf_state_release(&snap->conf_state);
        raft_conf_state_copy(&snap->conf_state, &n->machine.conf);
        snap->index = n->machine.index;
        snap->term = n->machine.term;
        put_u64le(d, n->machine.digest);
        snap->data = blob_new(d, sizeof(d));
        s->snapshots++;
    }
}

static void queue_for_disk(struct sim *s, struct node *n,
                           const struct raft_ready *rd)
{
    struct job *j = queue_add(&n->disk);

    j->seq = rd->disk_seq;
    if (rd->snapshot) {
        j->has_snapshot = true;
        machine_of_snapshot(&j->snapshot, rd->snapshot);
    }
    if (rd->hard_state) {
        j->has_hard_state = true;
        j->hard_state = *rd->hard_state;
    }
    j->entries = raft_entries_dup(rd->entries, rd->n_entries);
    j->n_entries = rd->n_entries;
    for (size_t i = 0; i < rd->n_entries; i++) {
        raft_term prev = 0;

        if (i > 0)
            prev = rd->entries[i - 1].term;
        else if (!raft_term_of(n->r, rd->entries[0].index - 1, &prev))
            fail(s, "entries without a predecessor");
        check_matching(s, &rd->entries[i], prev);
    }
}

static void queue_for_apply(struct node *n, const struct raft_ready *rd)
{
    struct job *j = queue_add(&n->apply);

    if (rd->snapshot) {
        j->has_snapshot = true;
        machine_of_snapshot(&j->snapshot, rd->snapshot);
    }
    j->entries = raft_entries_dup(rd->committed, rd->n_committed);
    j->n_entries = rd->n_committed;
}

/* All Readys there are. */
static void drain(struct sim *s, struct node *n)
{
    struct raft_ready rd;

    while (raft_ready(n->r, &rd)) {
        for (size_t i = 0; i < rd.n_messages; i++) {
            check_promise(s, n, &rd.messages[i]);
            send_msg(s, n, &rd.messages[i]);
        }
        if (rd.disk_seq)
            queue_for_disk(s, n, &rd);
        if (rd.snapshot || rd.n_committed)
            queue_for_apply(n, &rd);
        for (size_t i = 0; i < rd.n_reads; i++)
            check_read(s, n, &rd.reads[i]);
        raft_advance(n->r);
        raft_check(n->r);
    }
    trace_raft(s, n);
}

static void apply_conf(struct sim *s, struct node *n,
                       const struct raft_entry *e)
{
    struct raft_conf_change_v2 cc = conf_change_of(e);
    const struct raft_conf_state *conf = raft_apply_conf_change(n->r, &cc);

    machine_change(&n->machine, &cc);
    if (!same_conf(conf, &n->machine.conf))
        fail(s, "%" PRIx64 " has another configuration at %" PRIu64, n->id,
             e->index);
    if (cc.n && cc.changes[0].type == RAFT_REMOVE_NODE &&
        !in_conf(conf, cc.changes[0].node_id))
        s->removed_at[cc.changes[0].node_id - 1] = e->index;
    s->conf_changes++;
}

static void apply_run(struct sim *s, struct node *n)
{
    struct job *j = n->apply.first;

    if (!j)
        return;
    if (j->has_snapshot) {
        if (s->digest[j->snapshot.index] != j->snapshot.digest)
            fail(s, "the snapshot at %" PRIu64 " is not of this history",
                 j->snapshot.index);
        machine_copy(&n->machine, &j->snapshot);
    }
    for (size_t i = 0; i < j->n_entries; i++) {
        check_apply(s, n, &j->entries[i]);
        if (j->entries[i].type != RAFT_ENTRY_NORMAL)
            apply_conf(s, n, &j->entries[i]);
    }
    queue_pop(&n->apply);
    trace(s, "apply %" PRIx64 " to %" PRIu64, n->id, n->machine.index);
    raft_applied(n->r, n->machine.index);
}

static void node_start(struct sim *s, struct node *n)
{
    struct raft_config config = s->config;
    struct raft_initial init = {
        .hard_state = n->hard_state,
        .conf_state = n->snapshot.conf,
        .snapshot_index = n->snapshot.index,
        .snapshot_term = n->snapshot.term,
        .applied = n->snapshot.index,
        .entries = n->log,
        .n_entries = n->n_log,
    };
    struct err e;

    config.id = n->id;
    config.seed = random_below(s, UINT64_MAX);
    if (raft_new(&config, &init, &n->r, &e) < 0)
        fail(s, "%" PRIx64 " cannot start: %s", n->id, e.msg);
    n->life++;
    n->disk_chance = (int)(10 + random_below(s, 91));
    machine_copy(&n->machine, &n->snapshot);
    n->seen_commit = n->snapshot.index;
    n->seen_leader = false;
    n->n_reads = 0;
    if (chance(s, 300))
        raft_skip_election_ticks(n->r, s->config.election_ticks - 1);
    trace(s, "start %" PRIx64 " snapshot %" PRIu64 " log %zu", n->id,
          n->snapshot.index, n->n_log);
    drain(s, n);
    check_node(s, n);
}

/* What the disk had begun may be there in part. */
static void node_crash(struct sim *s, struct node *n)
{
    bool torn = chance(s, 500);

    trace(s, "crash %" PRIx64 "%s", n->id, torn ? " (torn)" : "");
    while (n->disk.first && chance(s, 500)) {
        disk_put(s, n, n->disk.first, torn);
        queue_pop(&n->disk);
    }
    while (n->disk.first)
        queue_pop(&n->disk);
    while (n->apply.first)
        queue_pop(&n->apply);
    raft_free(n->r);
    n->r = NULL;
}

static void node_remove(struct sim *s, struct node *n)
{
    if (n->r)
        node_crash(s, n);
    log_truncate(n, 0);
    raft_conf_state_release(&n->machine.conf);
    raft_conf_state_release(&n->snapshot.conf);
    free(n->log);
    *n = (struct node){0};
}

static void checkpoint(struct sim *s, struct node *n)
{
    struct raft_status st = raft_status(n->r);
    raft_index keep = random_below(s, 12);

    if (chance(s, 500) && n->machine.index > 0) {
        const struct machine *m = &n->machine;

        disk_put_snapshot(n, m, durable_has(n, m->index, m->term));
        trace(s, "checkpoint %" PRIx64 " at %" PRIu64, n->id, m->index);
    }
    if (st.applied > keep) {
        raft_compact(n->r, st.applied - keep);
        trace(s, "compact %" PRIx64 " to %" PRIu64, n->id, st.applied - keep);
    }
}

/* --- Events. ------------------------------------------------------------ */

static struct node *random_node(struct sim *s)
{
    struct node *n = &s->nodes[random_below(s, NODES_MAX)];

    return n->id ? n : NULL;
}

static struct node *random_up(struct sim *s)
{
    for (int tries = 0; tries < 20; tries++) {
        struct node *n = random_node(s);

        if (n && n->r)
            return n;
    }
    return NULL;
}

static struct node *some_leader(struct sim *s)
{
    size_t from = (size_t)random_below(s, NODES_MAX);

    for (size_t i = 0; i < NODES_MAX; i++) {
        struct node *n = &s->nodes[(from + i) % NODES_MAX];

        if (n->r && raft_status(n->r).role == RAFT_LEADER)
            return n;
    }
    return NULL;
}

/* The fate of a snapshot is told to its sender. */
static void report(struct sim *s, const struct packet *p, bool ok)
{
    struct node *n = node_of(s, p->sender);

    if (p->m.type != RAFT_MSG_SNAP || !n || !n->r || n->life != p->life)
        return;
    raft_report_snapshot(n->r, p->m.to, ok);
    drain(s, n);
    check_node(s, n);
}

static void deliver(struct sim *s)
{
    size_t at;
    struct packet p;
    struct node *to;
    bool lost;

    if (s->n_net == 0)
        return;
    /* Mostly in order; the more are under way, the less so. */
    at = chance(s, 700) ? 0 : (size_t)random_below(s, s->n_net);
    p = s->net[at];
    to = node_of(s, p.m.to);
    if (!s->healed && chance(s, s->repeat)) {
        struct raft_msg copy;

        raft_msg_copy(&copy, &p.m);
        s->net[at].m = copy;
    } else {
        s->n_net--;
        memmove(&s->net[at], &s->net[at + 1], (s->n_net - at) * sizeof(p));
    }

    lost = !to || !to->r || !node_of(s, p.sender) ||
           (!s->healed &&
            (s->cut[p.sender - 1][p.m.to - 1] || chance(s, s->loss)));
    trace_msg(s, lost ? "lose" : "deliver", &p.m);
    if (!lost) {
        raft_step(to->r, &p.m);
        if (s->healed || chance(s, 800))
            drain(s, to);
        check_node(s, to);
    }
    report(s, &p, !lost);
    raft_msg_release(&p.m);
}

static void propose(struct sim *s, struct node *n)
{
    struct blob *data[3];
    size_t n_data = 1 + (size_t)random_below(s, 3);
    int rc;

    for (size_t i = 0; i < n_data; i++) {
        uint8_t d[9] = {'N'};

        put_u64le(d + 1, ++s->next_command);
        data[i] = blob_new(d, sizeof(d));
    }
    rc = raft_propose(n->r, data, n_data);
    trace(s, "propose %zu on %" PRIx64 ": %d", n_data, n->id, rc);
    for (size_t i = 0; i < n_data; i++)
        blob_unref(data[i]);
}

static void ask_read(struct sim *s, struct node *n)
{
    struct read *read;

    if (n->n_reads == READS_MAX)
        n->n_reads = 0; /* lost on the way, long ago */
    read = &n->reads[n->n_reads++];
    read->ctx = ++s->next_ctx;
    read->at_least = s->n_committed;
    trace(s, "ask %" PRIu64 " on %" PRIx64, read->ctx, n->id);
    raft_read_index(n->r, read->ctx);
}

/* Ids are never used again. */
static raft_id new_member(struct sim *s)
{
    static const struct node none;
    raft_id id = s->n_founders + 1;

    if (id > NODES_MAX)
        return 0;
    s->n_founders++;
    s->nodes[id - 1] = none;
    s->nodes[id - 1].id = id;
    node_start(s, &s->nodes[id - 1]);
    return id;
}

static void change_members(struct sim *s, struct node *n)
{
    const struct raft_conf_state *c = raft_conf_state(n->r);
    enum raft_conf_change_type type = RAFT_ADD_NODE;
    struct blob *data;
    raft_id id = 0;
    int rc;

    switch (random_below(s, 4)) {
    case 0:
        type = RAFT_ADD_LEARNER_NODE;
        id = new_member(s);
        break;
    case 1:
        id = new_member(s);
        break;
    case 2:
        if (c->learners.n > 0)
            id = c->learners.ids[random_below(s, c->learners.n)];
        break;
    default:
        type = RAFT_REMOVE_NODE;
        if (c->voters.n > 1)
            id = c->voters.ids[random_below(s, c->voters.n)];
        break;
    }
    if (id == 0)
        return;
    data = conf_change_data(type, id);
    rc = raft_propose_conf_change(n->r, data);
    trace(s, "propose conf change %d of %" PRIx64 " on %" PRIx64 ": %d",
          (int)type, id, n->id, rc);
    blob_unref(data);
}

/* Often it is the leader that is cut off, for that is where it hurts. */
static void change_cuts(struct sim *s)
{
    bool heal = chance(s, 500);
    size_t side = (size_t)random_below(s, 1u << NODES_MAX);
    const struct node *leader = chance(s, 400) ? some_leader(s) : NULL;

    if (leader)
        side = (size_t)1 << (leader->id - 1);
    trace(s, heal ? "network heals" : "network is cut, side %zx", side);
    for (size_t i = 0; i < NODES_MAX; i++)
        for (size_t j = 0; j < NODES_MAX; j++)
            s->cut[i][j] = !heal && (side >> i & 1) != (side >> j & 1) &&
                           (chance(s, 900) || i < j);
}

/*
 * A removed member lives on until a majority of the others knows of it: the
 * last two of a cluster could not go on otherwise, in etcd neither.
 */
static bool may_leave(struct sim *s, const struct node *n)
{
    raft_index at = s->removed_at[n->id - 1];
    size_t know = 0, voters = 0;

    for (size_t i = 0; at && i < NODES_MAX; i++) {
        const struct node *o = &s->nodes[i];

        if (!o->r || s->removed_at[i] ||
            !raft_ids_has(&raft_conf_state(o->r)->voters, o->id))
            continue;
        voters++;
        know += o->hard_state.commit >= at || o->snapshot.index >= at;
    }
    return know > voters / 2;
}

/* Something that happens to one member. */
static void member_event(struct sim *s, struct node *n, uint64_t what)
{
    if (chance(s, s->tick_weight))
        raft_tick(n->r);
    else if (what < 390 && chance(s, n->disk_chance * 10))
        disk_run(s, n);
    else if (what < 740)
        apply_run(s, n);
    else if (what < 890)
        propose(s, n);
    else if (what < 950)
        ask_read(s, n);
    else if (what < 975)
        checkpoint(s, n);
    else if (what < 982)
        raft_report_unreachable(n->r, 1 + random_below(s, NODES_MAX));
    else if (what < 987)
        raft_campaign(n->r);
    else if (what < 993)
        raft_transfer_leader(n->r, 1 + random_below(s, NODES_MAX));
    if (chance(s, 900))
        drain(s, n);
    check_node(s, n);
}

static void crash_some(struct sim *s)
{
    struct node *n = chance(s, 400) ? some_leader(s) : random_node(s);

    if (n && n->r)
        node_crash(s, n);
}

static void restart_some(struct sim *s)
{
    struct node *n = random_node(s);

    if (n && !n->r)
        node_start(s, n);
}

static void one_step(struct sim *s)
{
    struct node *n;

    s->step++;
    if (chance(s, s->crash_weight))
        crash_some(s);
    if (chance(s, RESTART_WEIGHT))
        restart_some(s);
    if (chance(s, s->cut_weight))
        change_cuts(s);
    n = some_leader(s);
    if (n && chance(s, s->conf_weight)) {
        change_members(s, n);
        drain(s, n);
    }
    if (chance(s, s->deliver_weight)) {
        for (size_t more = s->n_net / 8 + 1; more > 0; more--)
            deliver(s); /* so that no backlog builds up */
        return;
    }
    n = random_up(s);
    if (!n)
        return;
    if (may_leave(s, n) && chance(s, 20))
        node_remove(s, n); /* as a removed server ends itself */
    else
        member_event(s, n, random_below(s, 1000));
}

/* --- The end: heal, and see progress. ----------------------------------- */

/* All are up, but for those that the others know to be removed. */
static void settle_members(struct sim *s)
{
    for (size_t i = 0; i < NODES_MAX; i++) {
        struct node *n = &s->nodes[i];

        if (n->id && may_leave(s, n))
            node_remove(s, n);
        else if (n->id && !n->r)
            node_start(s, n);
    }
}

/* As servers do. */
static void ask_again(struct sim *s, struct node *n)
{
    for (size_t i = 0; i < n->n_reads; i++)
        raft_read_index(n->r, n->reads[i].ctx);
    drain(s, n);
}

/* One tick for all, and whatever follows from it. */
static void healed_round(struct sim *s)
{
    settle_members(s);
    s->step++;
    for (size_t i = 0; i < NODES_MAX; i++) {
        struct node *n = &s->nodes[i];

        if (!n->r)
            continue;
        raft_tick(n->r);
        drain(s, n);
        ask_again(s, n);
    }
    for (int again = 0; again < 10; again++) {
        for (size_t left = s->n_net; left > 0 && s->n_net > 0; left--)
            deliver(s);
        for (size_t i = 0; i < NODES_MAX; i++) {
            struct node *n = &s->nodes[i];

            if (!n->r)
                continue;
            while (n->disk.first || n->apply.first) {
                disk_run(s, n);
                check_node(s, n);
                apply_run(s, n);
                check_node(s, n);
                drain(s, n);
            }
        }
    }
}

/*
 * Members differ about the configuration, because news of a commit was lost:
 * who knows of a change needs the vote of one that does not, and that one has
 * a longer log, but does not stand for election itself (removed, or not yet
 * promoted). Applying changes when they are committed, as etcd does, cannot
 * exclude this, though it takes a change and several crashes at once.
 */
static bool stuck(struct sim *s)
{
    const struct raft_conf_state *first = NULL;

    for (size_t i = 0; i < NODES_MAX; i++) {
        const struct raft_conf_state *conf;

        if (!s->nodes[i].r)
            continue;
        conf = raft_conf_state(s->nodes[i].r);
        if (conf->voters.n == 0) /* never became a member */
            continue;
        if (first && !same_conf(first, conf)) {
            total.stuck++;
            return true;
        }
        first = conf;
    }
    return false;
}

/* All members have applied the same, and the command is among it. */
static bool agreed(struct sim *s, raft_index at_least)
{
    const struct node *leader = some_leader(s);
    raft_index index = 0;

    if (!leader)
        return false;
    for (size_t i = 0; i < NODES_MAX; i++) {
        const struct node *n = &s->nodes[i];

        if (!in_conf(&leader->machine.conf, i + 1))
            continue;
        if (!n->r || n->machine.index < at_least || n->n_reads > 0 ||
            (index && n->machine.index != index))
            return false;
        index = n->machine.index;
    }
    return true;
}

static void heal_and_check(struct sim *s)
{
    struct node *n = NULL;
    raft_index target;
    int round;

    trace(s, "all is healed");
    s->healed = true;
    for (round = 0; round < 200 && !n; round++) {
        healed_round(s);
        if (round >= 30) /* a stale leader has been deposed by then */
            n = some_leader(s);
    }
    if (!n && stuck(s))
        return;
    if (!n)
        fail(s, "no leader though all is well");

    for (size_t i = 0; i < NODES_MAX; i++)
        s->nodes[i].n_reads = 0;
    propose(s, n);
    drain(s, n);
    target = raft_status(n->r).last_index;
    healed_round(s);
    for (size_t i = 0; i < NODES_MAX; i++)
        if (s->nodes[i].r) {
            ask_read(s, &s->nodes[i]);
            drain(s, &s->nodes[i]);
        }
    for (round = 0; round < 100 && !agreed(s, target); round++)
        healed_round(s);
    if (!agreed(s, target))
        fail(s, "no agreement on %" PRIu64 " though all is well", target);
}

/* --- Life. -------------------------------------------------------------- */

/* As etcd bootstraps: the members are conf changes 1..n, all committed. */
static void found_node(struct sim *s, raft_id id, size_t n_founders)
{
    struct node *n = &s->nodes[id - 1];

    *n = (struct node){.id = id};
    for (raft_id i = 1; i <= n_founders; i++) {
        struct raft_entry e = {RAFT_ENTRY_CONF_CHANGE, 1, i,
                               conf_change_data(RAFT_ADD_NODE, i)};

        check_matching(s, &e, i > 1);
        disk_put_entry(s, n, &e);
        raft_entry_release(&e);
        s->committed[i] = 1;
    }
    s->n_committed = n_founders;
    n->hard_state = (struct raft_hard_state){1, 0, n_founders};
}

static void sim_init(struct sim *s, uint64_t seed, bool tracing)
{
    static const size_t sizes[] = {1, 3, 3, 5, 5};
    static const int often[] = {0, 2, 5, 15};

    memset(s, 0, sizeof(*s));
    s->seed = seed;
    s->random = mix(seed + 1);
    s->tracing = tracing;
    s->n_founders = sizes[random_below(s, ARRAY_LEN(sizes))];
    s->loss = (int)random_below(s, 2) * (int)random_below(s, 200);
    s->repeat = (int)random_below(s, 2) * (int)random_below(s, 100);
    s->crash_weight = often[random_below(s, 4)];
    s->cut_weight = often[random_below(s, 4)];
    s->conf_weight = often[random_below(s, 4)];
    s->deliver_weight = (int)(300 + random_below(s, 300));
    s->tick_weight = (int)(60 + random_below(s, 240));
    s->config = (struct raft_config){
        .election_ticks = (int)(3 + random_below(s, 8)),
        .heartbeat_ticks = 1,
        .pre_vote = chance(s, 500),
        .check_quorum = chance(s, 700),
        .msg_bytes_max = 1 + (size_t)random_below(s, 200),
        .inflight_max = 1 + (size_t)random_below(s, 8),
        .uncommitted_bytes_max =
            chance(s, 300) ? 50 + (size_t)random_below(s, 500) : 0,
    };
    trace(s,
          "%zu members, loss %d, repeat %d, crashes %d, cuts %d, changes %d, "
          "pre-vote %d, check-quorum %d",
          s->n_founders, s->loss, s->repeat, s->crash_weight, s->cut_weight,
          s->conf_weight, s->config.pre_vote, s->config.check_quorum);
    for (raft_id id = 1; id <= s->n_founders; id++)
        found_node(s, id, s->n_founders);
    for (raft_id id = 1; id <= s->n_founders; id++)
        node_start(s, &s->nodes[id - 1]);
}

static void sim_release(struct sim *s)
{
    for (size_t i = 0; i < NODES_MAX; i++)
        if (s->nodes[i].id)
            node_remove(s, &s->nodes[i]);
    for (size_t i = 0; i < s->n_net; i++)
        raft_msg_release(&s->net[i].m);
}

static void sim_run(uint64_t seed, bool tracing)
{
    struct sim *s = &sim;

    sim_init(s, seed, tracing);
    while (s->step < STEPS)
        one_step(s);
    heal_and_check(s);

    total.committed += s->n_committed;
    total.reads += s->reads_answered;
    total.conf_changes += s->conf_changes;
    total.snapshots += s->snapshots;
    total.elections += s->elections;
    sim_release(s);
}

/* False, with a trace on stderr, if the seed fails. */
static bool run_seed(uint64_t seed)
{
    if (sigsetjmp(failed, 1) == 0) {
        sim_run(seed, false);
        return true;
    }
    trace_ring.n = 0;
    if (sigsetjmp(failed, 1) == 0)
        sim_run(seed, true);
    trace_print();
    fprintf(stderr, "seed %" PRIu64 " failed at step %d\n", seed, sim.step);
    return false;
}

int main(int argc, char **argv)
{
    uint64_t n = argc > 1 ? strtoull(argv[1], NULL, 10) : SEEDS_DEFAULT;
    uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;

    signal(SIGABRT, on_abort);
    for (uint64_t seed = first; seed < first + n && check_failed < 3; seed++)
        CHECK(run_seed(seed));

    /* The test itself must not become idle. */
    if (n >= 100) {
        CHECK(total.committed > n * 20);
        CHECK(total.reads > n * 5);
        CHECK(total.conf_changes > n * 10);
        CHECK(total.snapshots > n / 4);
        CHECK(total.elections > n * 2);
        CHECK(total.stuck <= n / 100);
    }
    if (argc > 1)
        printf("per seed: %.1f committed, %.1f reads, %.1f conf changes, "
               "%.1f snapshots, %.1f elections; %" PRIu64 " stuck\n",
               (double)total.committed / (double)n,
               (double)total.reads / (double)n,
               (double)total.conf_changes / (double)n,
               (double)total.snapshots / (double)n,
               (double)total.elections / (double)n, total.stuck);
    return check_done("raft_sim");
}
