/*
 * raft_test.c - raft one rule at a time: tables named by section of the paper
 * or of the thesis. (raft_sim_test.c has whole clusters and their accidents.)
 */
#include "check.h"

#include "raft.h"

#include <inttypes.h>

#define OUT_MAX 256

/* --- Fixture: one member, with its output caught. ------------------------ */

struct fix {
    struct raft *r;
    struct raft_msg out[OUT_MAX]; /* sent since the last clear() */
    size_t n_out;
    struct raft_read reads[16];
    size_t n_reads;
    uint64_t seq; /* last write, not yet stable */
    bool must_sync;
    raft_index handed; /* last committed entry or snapshot handed out */
    bool slow_disk;    /* do not call raft_stable() by itself */
    bool slow_apply;   /* do not call raft_applied() by itself */
};

static struct raft_config config_of(raft_id id)
{
    return (struct raft_config){.id = id,
                                .election_ticks = 10,
                                .heartbeat_ticks = 1,
                                .msg_bytes_max = 1 << 20,
                                .inflight_max = 256,
                                .seed = 1};
}

static void clear(struct fix *f)
{
    for (size_t i = 0; i < f->n_out; i++)
        raft_msg_release(&f->out[i]);
    f->n_out = 0;
    f->n_reads = 0;
}

static void catch_ready(struct fix *f, const struct raft_ready *rd)
{
    for (size_t i = 0; i < rd->n_messages && f->n_out < OUT_MAX; i++)
        raft_msg_copy(&f->out[f->n_out++], &rd->messages[i]);
    for (size_t i = 0; i < rd->n_reads && f->n_reads < 16; i++)
        f->reads[f->n_reads++] = rd->reads[i];
    if (rd->disk_seq) {
        CHECK(rd->disk_seq == f->seq + 1);
        f->seq = rd->disk_seq;
        f->must_sync = rd->must_sync;
    }
    if (rd->snapshot)
        f->handed = rd->snapshot->index;
    for (size_t i = 0; i < rd->n_committed; i++)
        CHECK(rd->committed[i].index == ++f->handed);
}

/* Handle all Readys, as far as disk and state machine are willing. */
static void pump(struct fix *f)
{
    struct raft_ready rd;

    while (raft_ready(f->r, &rd)) {
        raft_index before = f->handed;
        size_t conf_changes = 0;

        for (size_t i = 0; i < rd.n_committed; i++)
            conf_changes += rd.committed[i].type != RAFT_ENTRY_NORMAL;
        catch_ready(f, &rd);
        raft_advance(f->r);
        raft_check(f->r);
        if (!f->slow_disk)
            raft_stable(f->r, f->seq);
        if (!f->slow_apply && f->handed > before) {
            const struct raft_conf_change_v2 refused = {0};

            for (; conf_changes > 0; conf_changes--)
                raft_apply_conf_change(f->r, &refused);
            raft_applied(f->r, f->handed);
        }
        raft_check(f->r);
    }
}

static void stable(struct fix *f)
{
    raft_stable(f->r, f->seq);
    pump(f);
}

static struct fix fix_new(const struct raft_config *c,
                          const struct raft_initial *init)
{
    struct fix f = {0};
    struct err e;

    CHECK(raft_new(c, init, &f.r, &e) == 0);
    f.handed = init->applied;
    return f;
}

static void fix_free(struct fix *f)
{
    raft_check(f->r);
    clear(f);
    raft_free(f->r);
}

static raft_id ids_1_to_5[] = {1, 2, 3, 4, 5};

/* Members 1..n, a log of the given terms, all in current term `term`. */
static struct fix member_with(struct raft_config c, size_t n, raft_term term,
                              const raft_term *terms, size_t n_terms)
{
    struct raft_entry entries[16];
    struct raft_initial init = {
        .hard_state = {.term = term},
        .conf_state = {.voters = {ids_1_to_5, n}},
        .entries = entries,
        .n_entries = n_terms,
    };

    for (size_t i = 0; i < n_terms; i++)
        entries[i] = (struct raft_entry){.term = terms[i], .index = i + 1};
    return fix_new(&c, &init);
}

static struct fix member(size_t n)
{
    return member_with(config_of(1), n, 0, NULL, 0);
}

static void step(struct fix *f, struct raft_msg m)
{
    m.to = raft_status(f->r).id;
    raft_step(f->r, &m);
    raft_check(f->r);
    pump(f);
}

static void tick(struct fix *f, int n)
{
    for (; n > 0; n--) {
        raft_tick(f->r);
        pump(f);
    }
}

static size_t count(const struct fix *f, enum raft_msg_type type)
{
    size_t n = 0;

    for (size_t i = 0; i < f->n_out; i++)
        n += f->out[i].type == type;
    return n;
}

/* The last message of a type to a member (0: to anyone), or an empty one. */
static struct raft_msg sent(const struct fix *f, enum raft_msg_type type,
                            raft_id to)
{
    static const struct raft_msg none;

    for (size_t i = f->n_out; i-- > 0;)
        if (f->out[i].type == type && (to == 0 || f->out[i].to == to))
            return f->out[i];
    return none;
}

static int propose(struct fix *f, const char *text)
{
    struct blob *b = blob_new(text, strlen(text));
    int rc = raft_propose(f->r, &b, 1);

    blob_unref(b);
    pump(f);
    return rc;
}

static void accept_from(struct fix *f, raft_id from, raft_index index)
{
    step(f, (struct raft_msg){.type = RAFT_MSG_APP_RESP,
                              .from = from,
                              .term = raft_status(f->r).term,
                              .index = index});
}

static struct raft_msg vote_resp(raft_id from, raft_term term, bool reject)
{
    return (struct raft_msg){.type = RAFT_MSG_VOTE_RESP,
                             .from = from,
                             .term = term,
                             .reject = reject};
}

/* Member 1 of n leads, and what it sent on the way is forgotten. */
static void lead(struct fix *f, size_t n)
{
    raft_campaign(f->r);
    pump(f);
    for (raft_id id = 2; id <= n / 2 + 1; id++)
        step(f, vote_resp(id, raft_status(f->r).term, false));
    CHECK(raft_status(f->r).role == RAFT_LEADER);
    clear(f);
}

static struct raft_msg append(raft_id from, raft_term term, raft_index prev,
                              raft_term prev_term, struct raft_entry *entries,
                              size_t n, raft_index commit)
{
    for (size_t i = 0; i < n; i++)
        entries[i].index = prev + 1 + i;
    return (struct raft_msg){.type = RAFT_MSG_APP,
                             .from = from,
                             .term = term,
                             .index = prev,
                             .log_term = prev_term,
                             .entries = entries,
                             .n_entries = n,
                             .commit = commit};
}

static struct raft_msg heartbeat(raft_id from, raft_term term)
{
    return (struct raft_msg){
        .type = RAFT_MSG_HEARTBEAT, .from = from, .term = term};
}

static void heartbeat_answer(struct fix *f, raft_id from, struct blob *ctx)
{
    step(f, (struct raft_msg){.type = RAFT_MSG_HEARTBEAT_RESP,
                              .from = from,
                              .term = raft_status(f->r).term,
                              .context = ctx});
}

/* --- Paper, 5.1: terms. -------------------------------------------------- */

static void test_newer_term_makes_follower(void)
{
    static const enum raft_msg_type types[] = {
        RAFT_MSG_APP, RAFT_MSG_HEARTBEAT, RAFT_MSG_APP_RESP, RAFT_MSG_VOTE};

    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        struct fix f = member(3);

        lead(&f, 3);
        step(&f, (struct raft_msg){.type = types[i], .from = 2, .term = 7});
        CHECK(raft_status(f.r).role == RAFT_FOLLOWER);
        CHECK(raft_status(f.r).term == 7);
        CHECK(raft_status(f.r).leader == (i < 2 ? 2 : 0));
        fix_free(&f);
    }
}

/* An old leader learns of the new term only from members that would not ask
 * it for a vote. */
static void test_stale_term_is_ignored(void)
{
    static const struct {
        enum raft_msg_type type;
        bool check_quorum, pre_vote, answered;
    } cases[] = {
        {RAFT_MSG_APP, false, false, false},
        {RAFT_MSG_APP, true, false, true},
        {RAFT_MSG_HEARTBEAT, false, true, true},
        {RAFT_MSG_VOTE, true, true, false},
        {RAFT_MSG_PRE_VOTE, false, false, true},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct raft_config c = config_of(1);
        struct fix f;
        struct raft_msg m;

        c.check_quorum = cases[i].check_quorum;
        c.pre_vote = cases[i].pre_vote;
        f = member_with(c, 3, 5, NULL, 0);
        step(&f,
             (struct raft_msg){.type = cases[i].type, .from = 2, .term = 4});
        CHECK(raft_status(f.r).term == 5 && raft_status(f.r).leader == 0);
        CHECK(f.n_out == (cases[i].answered ? 1 : 0));
        if (f.n_out) {
            bool pre = cases[i].type == RAFT_MSG_PRE_VOTE;

            m = f.out[0];
            CHECK(m.type == (pre ? RAFT_MSG_PRE_VOTE_RESP : RAFT_MSG_APP_RESP));
            CHECK(m.term == 5 && m.reject == pre && m.index == 0);
        }
        fix_free(&f);
    }
}

/* --- Paper, 5.2: leader election. ---------------------------------------- */

static void test_election_timeout_is_random(void)
{
    bool seen[20] = {false};

    for (uint64_t seed = 0; seed < 200; seed++) {
        struct raft_config c = config_of(1);
        struct fix f;
        int ticks = 0;

        c.seed = seed;
        f = member_with(c, 3, 1, NULL, 0);
        while (raft_status(f.r).role == RAFT_FOLLOWER && ticks < 30) {
            tick(&f, 1);
            ticks++;
        }
        CHECK(ticks >= 10 && ticks < 20);
        seen[ticks % 20] = true;
        fix_free(&f);
    }
    for (int i = 10; i < 20; i++)
        CHECK(seen[i]);
}

static void test_votes_decide(void)
{
    static const struct {
        size_t voters;
        const char *votes; /* of members 2, 3, ..: y, n or - */
        enum raft_role role;
    } cases[] = {
        {1, "", RAFT_LEADER},        {2, "y", RAFT_LEADER},
        {2, "n", RAFT_FOLLOWER},     {3, "y-", RAFT_LEADER},
        {3, "n-", RAFT_CANDIDATE},   {3, "nn", RAFT_FOLLOWER},
        {4, "y--", RAFT_CANDIDATE},  {4, "yy-", RAFT_LEADER},
        {4, "nn-", RAFT_FOLLOWER},   {5, "yy--", RAFT_LEADER},
        {5, "ynn-", RAFT_CANDIDATE}, {5, "nnn-", RAFT_FOLLOWER},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fix f = member(cases[i].voters);

        raft_campaign(f.r);
        pump(&f);
        CHECK(count(&f, RAFT_MSG_VOTE) == cases[i].voters - 1);
        for (size_t v = 0; cases[i].votes[v]; v++)
            if (cases[i].votes[v] != '-')
                step(&f, vote_resp(v + 2, 1, cases[i].votes[v] == 'n'));
        CHECK(raft_status(f.r).role == cases[i].role);
        CHECK(raft_status(f.r).term == 1);
        fix_free(&f);
    }
}

/* Neither a second answer nor one of another term nor a stranger counts. */
static void test_votes_that_do_not_count(void)
{
    struct fix f = member(5);

    raft_campaign(f.r);
    pump(&f);
    step(&f, vote_resp(2, 1, false));
    step(&f, vote_resp(2, 1, false));
    step(&f, vote_resp(9, 1, false));
    CHECK(raft_status(f.r).role == RAFT_CANDIDATE);
    raft_campaign(f.r);
    pump(&f);
    step(&f, vote_resp(3, 1, false));
    step(&f, vote_resp(4, 1, false));
    CHECK(raft_status(f.r).role == RAFT_CANDIDATE);
    CHECK(raft_status(f.r).term == 2);
    fix_free(&f);
}

/* At most one vote per term, first come, first served. */
static void test_one_vote_per_term(void)
{
    static const struct {
        raft_id voted_for, candidate;
        bool granted;
    } cases[] = {
        {0, 2, true},
        {2, 2, true}, /* asked again, same answer: the reply may be lost */
        {2, 3, false},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct raft_config c = config_of(1);
        struct raft_initial init = {
            .hard_state = {.term = 5, .vote = cases[i].voted_for},
            .conf_state = {.voters = {ids_1_to_5, 3}}};
        struct fix f = fix_new(&c, &init);

        step(&f, (struct raft_msg){.type = RAFT_MSG_VOTE,
                                   .from = cases[i].candidate,
                                   .term = 5});
        CHECK(count(&f, RAFT_MSG_VOTE_RESP) == 1);
        CHECK(f.out[0].reject == !cases[i].granted);
        fix_free(&f);
    }
}

static void test_candidate_follows_leader_of_its_term(void)
{
    struct fix f = member(3);

    raft_campaign(f.r);
    pump(&f);
    step(&f, heartbeat(3, 1));
    CHECK(raft_status(f.r).role == RAFT_FOLLOWER);
    CHECK(raft_status(f.r).leader == 3);
    fix_free(&f);
}

/* Only a granted vote restarts the timer: a candidate with a short log must
 * not keep those with longer ones from standing for election. */
static void test_rejected_candidate_does_not_restart_timer(void)
{
    static const raft_term terms[] = {1, 2};
    struct fix f = member_with(config_of(1), 3, 2, terms, 2);
    int ticks = 0;

    for (raft_term t = 3; raft_status(f.r).role == RAFT_FOLLOWER && t < 30;
         t++) {
        tick(&f, 1);
        ticks++;
        if (raft_status(f.r).role == RAFT_FOLLOWER)
            step(&f, (struct raft_msg){.type = RAFT_MSG_VOTE,
                                       .from = 2,
                                       .term = t,
                                       .log_term = 1,
                                       .index = 9});
    }
    CHECK(raft_status(f.r).role == RAFT_CANDIDATE);
    CHECK(ticks < 20);
    fix_free(&f);
}

static void test_only_voter_leads_at_once(void)
{
    struct fix f = member(1);

    f.slow_disk = true;
    tick(&f, 1); /* no election timeout to wait for */
    CHECK(raft_status(f.r).role == RAFT_CANDIDATE);
    tick(&f, 100); /* nor a new term, while the disk is busy */
    CHECK(raft_status(f.r).term == 1);
    stable(&f);
    CHECK(raft_status(f.r).role == RAFT_LEADER);
    CHECK(raft_status(f.r).commit == 0);
    stable(&f);
    CHECK(raft_status(f.r).commit == 1);
    fix_free(&f);
}

/* --- Figure 2, persistent state: no promise before the disk. ------------- */

static void test_votes_wait_for_disk(void)
{
    struct fix f = member(3);

    f.slow_disk = true;
    raft_campaign(f.r);
    pump(&f);
    CHECK(f.n_out == 0 && f.must_sync);
    stable(&f);
    CHECK(count(&f, RAFT_MSG_VOTE) == 2);
    clear(&f);

    step(&f, (struct raft_msg){.type = RAFT_MSG_VOTE, .from = 2, .term = 2});
    CHECK(f.n_out == 0);
    /* A later term: the old promise is void, and only the new one is kept. */
    step(&f, (struct raft_msg){.type = RAFT_MSG_VOTE, .from = 3, .term = 3});
    stable(&f);
    CHECK(f.n_out == 1 && f.out[0].to == 3 && f.out[0].term == 3);
    fix_free(&f);
}

/* The candidate's own vote counts from when it is durable, not before. */
static void test_own_vote_waits_for_disk(void)
{
    struct fix f = member(3);

    f.slow_disk = true;
    raft_campaign(f.r);
    pump(&f);
    step(&f, vote_resp(2, 1, false));
    CHECK(raft_status(f.r).role == RAFT_CANDIDATE);
    stable(&f);
    CHECK(raft_status(f.r).role == RAFT_LEADER);
    fix_free(&f);
}

static void test_rejections_do_not_wait(void)
{
    static const raft_term terms[] = {1, 1};
    struct fix f = member_with(config_of(1), 3, 1, terms, 2);

    f.slow_disk = true;
    step(&f, (struct raft_msg){.type = RAFT_MSG_VOTE, .from = 2, .term = 2});
    CHECK(f.n_out == 1 && f.out[0].reject);
    clear(&f);
    step(&f, append(3, 2, 7, 2, NULL, 0, 0));
    CHECK(f.n_out == 1 && f.out[0].reject);
    clear(&f);
    step(&f, heartbeat(3, 2));
    CHECK(count(&f, RAFT_MSG_HEARTBEAT_RESP) == 1);
    fix_free(&f);
}

static void test_appends_wait_for_disk(void)
{
    struct fix f = member(3);
    struct raft_entry e[2] = {{.term = 1}, {.term = 1}};

    f.slow_disk = true;
    step(&f, append(2, 1, 0, 0, e, 2, 0));
    CHECK(f.n_out == 0);
    step(&f, append(2, 1, 0, 0, e, 1, 0)); /* a duplicate waits as well */
    CHECK(f.n_out == 0);
    stable(&f);
    CHECK(f.n_out == 1 && f.out[0].index == 2); /* the last answer will do */
    clear(&f);
    step(&f, append(2, 1, 0, 0, e, 1, 0)); /* all is durable by now */
    CHECK(f.n_out == 1 && f.out[0].index == 1);
    fix_free(&f);
}

/* An entry of an old term is durable, but our being in the new one is not. */
static void test_accept_waits_for_term(void)
{
    static const raft_term terms[] = {1};
    struct fix f = member_with(config_of(1), 3, 1, terms, 1);

    f.slow_disk = true;
    step(&f, append(2, 2, 1, 1, NULL, 0, 0));
    CHECK(f.n_out == 0);
    stable(&f);
    CHECK(f.n_out == 1 && f.out[0].index == 1 && f.out[0].term == 2);
    fix_free(&f);
}

/* What was written of a suffix that has been cut off proves nothing. */
static void test_overwritten_write_does_not_count(void)
{
    struct fix f = member(3);
    struct raft_entry old[3] = {{.term = 1}, {.term = 1}, {.term = 1}};
    struct raft_entry new[2] = {{.term = 2}, {.term = 2}};
    uint64_t old_seq;

    f.slow_disk = true;
    step(&f, append(2, 1, 0, 0, old, 3, 0));
    old_seq = f.seq;
    step(&f, append(3, 2, 1, 1, new, 2, 0));
    CHECK(raft_status(f.r).last_index == 3);
    raft_stable(f.r, old_seq);
    pump(&f);
    CHECK(f.n_out == 0); /* indexes 1 to 3 are on disk, but the wrong ones */
    stable(&f);
    CHECK(f.n_out == 1 && f.out[0].to == 3 && f.out[0].index == 3);
    fix_free(&f);
}

/* A leader that contradicts itself, which honest ones do not: what the first
 * answer was about is no more, even where there are as many entries again. */
static void test_taken_back_is_not_accepted(void)
{
    struct fix f = member(3);
    struct raft_entry first[3] = {{.term = 1}, {.term = 1}, {.term = 1}};
    struct raft_entry second[2] = {{.term = 2}, {.term = 2}};
    uint64_t first_seq;

    f.slow_disk = true;
    step(&f, append(2, 2, 0, 0, first, 3, 0));
    first_seq = f.seq;
    step(&f, append(2, 2, 1, 1, second, 2, 0));
    raft_stable(f.r, first_seq);
    pump(&f);
    CHECK(f.n_out == 1 && f.out[0].index == 1);
    clear(&f);
    stable(&f);
    CHECK(f.n_out == 1 && f.out[0].index == 3);
    fix_free(&f);
}

/* A leader's own disk counts like any other: late, or not needed. */
static void test_leader_disk_is_one_of_many(void)
{
    struct fix f = member(3);

    lead(&f, 3);
    accept_from(&f, 2, 1);
    f.slow_disk = true;
    propose(&f, "a");
    CHECK(count(&f, RAFT_MSG_APP) > 0); /* travels while the disk works */
    accept_from(&f, 2, 2);
    CHECK(raft_status(f.r).commit == 1);
    accept_from(&f, 3, 2); /* two other disks: committed, and handed out */
    CHECK(raft_status(f.r).commit == 2 && f.handed == 2);
    stable(&f);
    CHECK(raft_status(f.r).commit == 2);
    fix_free(&f);
}

/* --- Paper, 5.3: log replication. ---------------------------------------- */

static void test_append_table(void)
{
    static const struct {
        raft_index prev;
        raft_term prev_term;
        raft_term terms[3];
        size_t n;
        bool reject;
        raft_index index; /* of the answer */
        raft_index last;  /* of our log afterwards */
    } cases[] = {
        /* Our log is 1, 2, 2 (at 3), and we are in term 3. */
        {3, 2, {3}, 1, false, 4, 4},       {3, 2, {0}, 0, false, 3, 3},
        {4, 3, {3}, 1, true, 4, 3},  /* prev is missing */
        {3, 1, {3}, 1, true, 3, 3},  /* prev differs */
        {2, 2, {2}, 1, false, 3, 3}, /* nothing new */
        {1, 1, {2}, 1, false, 2, 3}, /* a duplicate cuts nothing */
        {1, 1, {3}, 1, false, 2, 2}, /* a conflict cuts the rest */
        {0, 0, {1, 3, 3}, 3, false, 3, 3}, {0, 0, {3}, 1, false, 1, 1},
    };
    static const raft_term terms[] = {1, 2, 2};

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fix f = member_with(config_of(1), 3, 3, terms, 3);
        struct raft_entry e[3] = {{0}};

        for (size_t k = 0; k < cases[i].n; k++)
            e[k].term = cases[i].terms[k];
        step(&f,
             append(2, 3, cases[i].prev, cases[i].prev_term, e, cases[i].n, 0));
        CHECK(f.n_out == 1 && f.out[0].type == RAFT_MSG_APP_RESP);
        CHECK(f.out[0].reject == cases[i].reject);
        CHECK(f.out[0].index == cases[i].index);
        CHECK(raft_status(f.r).last_index == cases[i].last);
        fix_free(&f);
    }
}

/* Commit what the message proves we share, and no more. */
static void test_follower_commit_table(void)
{
    static const struct {
        raft_index prev;
        size_t n;
        raft_index commit, want;
    } cases[] = {
        {0, 1, 1, 1}, {0, 1, 3, 1}, {0, 0, 3, 0},
        {1, 0, 2, 1}, {3, 0, 9, 3}, {2, 1, 2, 2},
    };
    static const raft_term terms[] = {1, 1, 1};

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fix f = member_with(config_of(1), 3, 1, terms, 3);
        struct raft_entry e[1] = {{.term = 1}};

        step(&f, append(2, 1, cases[i].prev, cases[i].prev ? 1 : 0, e,
                        cases[i].n, cases[i].commit));
        CHECK(raft_status(f.r).commit == cases[i].want);
        CHECK(f.handed == cases[i].want);
        fix_free(&f);
    }
}

/* A rejection names the last place where the logs may agree (etcd 3.5). */
static void test_reject_hints(void)
{
    static const struct {
        raft_index prev;
        raft_term prev_term;
        raft_index hint;
        raft_term hint_term;
    } cases[] = {
        /* Our log is 1, 2, 2, 4, 4. */
        {9, 6, 5, 4}, {5, 3, 3, 2}, {4, 1, 1, 1}, {8, 1, 1, 1}, {4, 2, 3, 2},
    };
    static const raft_term terms[] = {1, 2, 2, 4, 4};

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fix f = member_with(config_of(1), 3, 7, terms, 5);

        step(&f, append(2, 7, cases[i].prev, cases[i].prev_term, NULL, 0, 0));
        CHECK(f.out[0].reject && f.out[0].index == cases[i].prev);
        CHECK(f.out[0].reject_hint == cases[i].hint);
        CHECK(f.out[0].log_term == cases[i].hint_term);
        fix_free(&f);
    }
}

/* An append that lies below our commit index is answered with that. */
static void test_append_below_commit(void)
{
    static const raft_term terms[] = {1, 1, 1};
    struct fix f = member_with(config_of(1), 3, 1, terms, 3);

    step(&f, append(2, 1, 3, 1, NULL, 0, 2));
    clear(&f);
    step(&f, append(2, 1, 1, 1, NULL, 0, 2));
    CHECK(!f.out[0].reject && f.out[0].index == 2);
    fix_free(&f);
}

/* Figure 7: whatever the follower has, it ends with the leader's log. */
static void test_figure_7(void)
{
    static const raft_term leader_terms[] = {1, 1, 1, 4, 4, 5, 5, 6, 6, 6};
    static const struct {
        raft_term terms[12];
        size_t n;
    } cases[] = {
        {{1, 1, 1, 4, 4, 5, 5, 6, 6}, 9},
        {{1, 1, 1, 4}, 4},
        {{1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6}, 11},
        {{1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7}, 12},
        {{1, 1, 1, 4, 4, 4, 4}, 7},
        {{1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3}, 11},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fix a = member_with(config_of(1), 3, 8, leader_terms, 10);
        struct fix b =
            member_with(config_of(2), 3, 7, cases[i].terms, cases[i].n);
        int probes = 0;

        lead(&a, 3); /* in term 9; its new entry is at 11 */
        tick(&a, 1);
        step(&b, sent(&a, RAFT_MSG_HEARTBEAT, 2));
        step(&a, sent(&b, RAFT_MSG_HEARTBEAT_RESP, 1));
        while (raft_status(a.r).commit != 11) {
            struct raft_msg m = sent(&a, RAFT_MSG_APP, 2);

            if (m.type != RAFT_MSG_APP || ++probes > 8)
                break;
            clear(&b);
            step(&b, m);
            clear(&a);
            step(&a, sent(&b, RAFT_MSG_APP_RESP, 1));
        }
        CHECK(probes <= 4); /* one per term that differs, not per entry */
        for (raft_index k = 1; k <= 11; k++) {
            raft_term ta = 0, tb = 1;

            CHECK(raft_term_of(a.r, k, &ta) && raft_term_of(b.r, k, &tb));
            CHECK(ta == tb);
        }
        CHECK(raft_status(a.r).commit == 11);
        fix_free(&a);
        fix_free(&b);
    }
}

/* --- Paper, 5.4.1: who may be elected. ----------------------------------- */

static void test_up_to_date_table(void)
{
    static const struct {
        raft_index index;
        raft_term log_term;
        bool granted;
    } cases[] = {
        /* Our last entry is 2 of term 2. */
        {1, 1, false}, {9, 1, false}, {1, 2, false},
        {2, 2, true},  {3, 2, true},  {1, 3, true},
    };
    static const raft_term terms[] = {1, 2};

    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        for (int pre = 0; pre < 2; pre++) {
            struct fix f = member_with(config_of(1), 3, 2, terms, 2);

            step(&f, (struct raft_msg){.type = pre ? RAFT_MSG_PRE_VOTE
                                                   : RAFT_MSG_VOTE,
                                       .from = 2,
                                       .term = 4,
                                       .index = cases[i].index,
                                       .log_term = cases[i].log_term});
            CHECK(f.n_out == 1 && f.out[0].reject == !cases[i].granted);
            /* A pre-vote changes nothing at all, and is granted for 4. */
            CHECK(raft_status(f.r).term == (pre ? 2 : 4));
            CHECK(raft_status(f.r).vote == (!pre && cases[i].granted ? 2 : 0));
            CHECK(f.out[0].term == (pre && !cases[i].granted ? 2 : 4));
            fix_free(&f);
        }
}

/* --- Paper, 5.4.2: entries of earlier terms. ----------------------------- */

/* Figure 8: a majority for an old entry commits nothing by itself. */
static void test_figure_8(void)
{
    static const raft_term terms[] = {1, 2};
    struct fix f = member_with(config_of(1), 5, 3, terms, 2);

    lead(&f, 5); /* its own entry, of term 4, is at 3 */
    accept_from(&f, 2, 2);
    accept_from(&f, 3, 2);
    CHECK(raft_status(f.r).commit == 0);
    accept_from(&f, 2, 3);
    CHECK(raft_status(f.r).commit == 0);
    accept_from(&f, 3, 3);
    CHECK(raft_status(f.r).commit == 3);
    fix_free(&f);
}

static void test_commit_table(void)
{
    static const struct {
        raft_index match[4]; /* of members 2, 3, ..; our own is 4 */
        size_t voters;
        raft_index want;
    } cases[] = {
        {{0}, 1, 4},          {{4}, 2, 4},          {{2}, 2, 2},
        {{4, 2}, 3, 4},       {{3, 2}, 3, 3},       {{1, 1}, 3, 1},
        {{4, 3, 2}, 4, 3},    {{3, 3, 2}, 4, 3},    {{4, 3, 2, 1}, 5, 3},
        {{4, 4, 1, 1}, 5, 4}, {{2, 2, 1, 1}, 5, 2},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fix f = member(cases[i].voters);

        lead(&f, cases[i].voters);
        for (int k = 0; k < 3; k++)
            propose(&f, "x");
        for (size_t k = 0; k + 1 < cases[i].voters; k++)
            accept_from(&f, k + 2, cases[i].match[k]);
        CHECK(raft_status(f.r).commit == cases[i].want);
        fix_free(&f);
    }
}

/* --- Replication: flow. -------------------------------------------------- */

static void test_probe_then_pipeline(void)
{
    struct raft_config c = config_of(1);
    struct fix f;

    c.inflight_max = 3;
    f = member_with(c, 2, 0, NULL, 0);
    lead(&f, 2);
    for (int i = 0; i < 5; i++)
        propose(&f, "x");
    CHECK(count(&f, RAFT_MSG_APP) == 0); /* the first probe is under way */
    accept_from(&f, 2, 1);
    CHECK(count(&f, RAFT_MSG_APP) == 1); /* one for all five */
    CHECK(sent(&f, RAFT_MSG_APP, 2).n_entries == 5);
    for (int i = 0; i < 5; i++)
        propose(&f, "y");
    CHECK(count(&f, RAFT_MSG_APP) == 3); /* the window is full */
    clear(&f);
    accept_from(&f, 2, 6);
    CHECK(count(&f, RAFT_MSG_APP) == 1);
    CHECK(sent(&f, RAFT_MSG_APP, 2).n_entries == 3);

    /* A heartbeat's answer lets one more out of a full window. */
    propose(&f, "z");
    clear(&f);
    propose(&f, "z");
    CHECK(count(&f, RAFT_MSG_APP) == 0);
    step(&f, (struct raft_msg){
                 .type = RAFT_MSG_HEARTBEAT_RESP, .from = 2, .term = 1});
    CHECK(count(&f, RAFT_MSG_APP) == 1);
    fix_free(&f);
}

/* Losing contact goes back to one probe at a time, from what is known. */
static void test_unreachable(void)
{
    struct fix f = member(2);
    struct raft_progress p[2];

    lead(&f, 2);
    accept_from(&f, 2, 1);
    propose(&f, "a");
    propose(&f, "b");
    raft_report_unreachable(f.r, 2);
    CHECK(raft_progress(f.r, p, 2) == 2);
    CHECK(p[1].state == RAFT_PROBE && p[1].next_index == 2);
    clear(&f);
    pump(&f);
    propose(&f, "c");
    CHECK(count(&f, RAFT_MSG_APP) == 1);
    CHECK(sent(&f, RAFT_MSG_APP, 2).index == 1);
    accept_from(&f, 2, 4);
    CHECK(raft_progress(f.r, p, 2) == 2 && p[1].state == RAFT_REPLICATE);
    fix_free(&f);
}

/* With a window of nothing one append at a time must still go. */
static void test_smallest_window(void)
{
    struct raft_config c = config_of(1);
    struct fix f;

    c.inflight_max = 0;
    f = member_with(c, 2, 0, NULL, 0);
    lead(&f, 2);
    accept_from(&f, 2, 1);
    clear(&f);
    propose(&f, "a");
    propose(&f, "b");
    CHECK(count(&f, RAFT_MSG_APP) == 1);
    accept_from(&f, 2, 2);
    CHECK(sent(&f, RAFT_MSG_APP, 2).index == 2);
    accept_from(&f, 2, 3);
    CHECK(raft_status(f.r).commit == 3);
    fix_free(&f);
}

/* Index 0 is how a member of a later term frees an old leader: it has not
 * accepted anything. */
static void test_accept_of_nothing(void)
{
    struct raft_progress p[3];
    struct fix f = member(3);

    lead(&f, 3);
    accept_from(&f, 2, 0);
    CHECK(raft_progress(f.r, p, 3) == 3 && p[1].state == RAFT_PROBE);
    CHECK(p[1].match_index == 0 && p[1].recent_active);
    CHECK(count(&f, RAFT_MSG_APP) == 0); /* and its probe is still out */
    fix_free(&f);
}

/* Appends may be lost without a word: a heartbeat's answer tells. */
static void test_lost_appends(void)
{
    struct fix f = member(2);
    struct raft_msg m;

    lead(&f, 2);
    accept_from(&f, 2, 1);
    propose(&f, "a");
    clear(&f);
    step(&f, (struct raft_msg){
                 .type = RAFT_MSG_HEARTBEAT_RESP, .from = 2, .term = 1});
    m = sent(&f, RAFT_MSG_APP, 2);
    CHECK(m.type == RAFT_MSG_APP && m.index == 2 && m.n_entries == 0);
    step(&f, (struct raft_msg){.type = RAFT_MSG_APP_RESP,
                               .from = 2,
                               .term = 1,
                               .index = 2,
                               .reject = true,
                               .reject_hint = 1,
                               .log_term = 1});
    m = sent(&f, RAFT_MSG_APP, 2);
    CHECK(m.index == 1 && m.n_entries == 1);
    fix_free(&f);
}

static void test_append_size(void)
{
    struct raft_config c = config_of(1);
    struct fix f;
    char big[1000];

    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    c.msg_bytes_max = 2500;
    f = member_with(c, 2, 0, NULL, 0);
    lead(&f, 2);
    for (int i = 0; i < 5; i++)
        propose(&f, big);
    accept_from(&f, 2, 1);
    CHECK(count(&f, RAFT_MSG_APP) == 3); /* 2 + 2 + 1 */
    CHECK(f.out[0].n_entries == 2 && f.out[1].index == 3);
    fix_free(&f);

    c.msg_bytes_max = 1; /* one always goes */
    f = member_with(c, 2, 0, NULL, 0);
    lead(&f, 2);
    propose(&f, big);
    accept_from(&f, 2, 1);
    CHECK(sent(&f, RAFT_MSG_APP, 2).n_entries == 1);
    fix_free(&f);
}

/* Who has nothing to receive hears of the commit index all the same. */
static void test_commit_index_travels(void)
{
    struct fix f = member(3);

    lead(&f, 3);
    accept_from(&f, 2, 1); /* commits 1 */
    accept_from(&f, 3, 1);
    CHECK(sent(&f, RAFT_MSG_APP, 3).commit == 1);
    clear(&f);
    propose(&f, "a");
    CHECK(count(&f, RAFT_MSG_APP) == 2);
    clear(&f);
    accept_from(&f, 2, 2);
    CHECK(count(&f, RAFT_MSG_APP) == 2);
    CHECK(sent(&f, RAFT_MSG_APP, 2).commit == 2);
    CHECK(sent(&f, RAFT_MSG_APP, 2).n_entries == 0);
    clear(&f);
    accept_from(&f, 3, 2);
    CHECK(count(&f, RAFT_MSG_APP) == 0);
    tick(&f, 1);
    CHECK(sent(&f, RAFT_MSG_HEARTBEAT, 2).commit == 2);
    fix_free(&f);
}

/* A heartbeat never tells a member of entries it may lack. */
static void test_heartbeat_commit(void)
{
    struct fix f = member(3);

    lead(&f, 3);
    accept_from(&f, 2, 1);
    tick(&f, 1);
    CHECK(sent(&f, RAFT_MSG_HEARTBEAT, 2).commit == 1);
    CHECK(sent(&f, RAFT_MSG_HEARTBEAT, 3).commit == 0);
    fix_free(&f);
}

static void test_uncommitted_limit(void)
{
    struct raft_config c = config_of(1);
    struct fix f;

    c.uncommitted_bytes_max = 10;
    f = member_with(c, 3, 0, NULL, 0);
    lead(&f, 3);
    accept_from(&f, 2, 1);
    CHECK(propose(&f, "more than ten bytes") == 0); /* the first may */
    CHECK(propose(&f, "x") == RAFT_EBUSY);
    CHECK(propose(&f, "") == 0); /* costs nothing */
    accept_from(&f, 2, 3);
    CHECK(propose(&f, "12345") == 0);
    CHECK(propose(&f, "12345") == 0);
    CHECK(propose(&f, "1") == RAFT_EBUSY);
    CHECK(propose(&f, "more than ten bytes") == RAFT_EBUSY);
    fix_free(&f);
}

static void test_proposals_of_others(void)
{
    struct fix f = member(3);
    struct raft_msg m;

    CHECK(propose(&f, "a") == RAFT_ENOLEADER);
    step(&f, heartbeat(2, 1));
    clear(&f);
    CHECK(propose(&f, "a") == 0);
    m = sent(&f, RAFT_MSG_PROP, 2);
    CHECK(m.term == 0 && m.from == 1 && m.n_entries == 1);
    CHECK(m.entries[0].index == 0 && m.entries[0].data->len == 1);
    clear(&f);

    /* From a third member it goes on to the leader, but not back to it. */
    m = (struct raft_msg){.type = RAFT_MSG_PROP,
                          .from = 3,
                          .entries = &(struct raft_entry){0},
                          .n_entries = 1};
    step(&f, m);
    CHECK(count(&f, RAFT_MSG_PROP) == 1);
    m.from = 2;
    step(&f, m);
    CHECK(count(&f, RAFT_MSG_PROP) == 1);

    lead(&f, 3);
    m.from = 3;
    step(&f, m);
    CHECK(raft_status(f.r).last_index == 2);
    fix_free(&f);
}

static void test_proposal_of_nothing(void)
{
    struct fix f = member(3);

    CHECK(raft_propose(f.r, NULL, 0) == 0); /* even without a leader */
    lead(&f, 3);
    CHECK(raft_propose(f.r, NULL, 0) == 0);
    CHECK(raft_status(f.r).last_index == 1);
    fix_free(&f);
}

/* --- Paper, section 7: snapshots. ---------------------------------------- */

static struct raft_msg snapshot_msg(struct raft_snapshot *s, raft_term term)
{
    return (struct raft_msg){
        .type = RAFT_MSG_SNAP, .from = 2, .term = term, .snapshot = s};
}

static void test_install_snapshot(void)
{
    static const raft_term terms[] = {1, 1, 1, 1};
    static const struct {
        raft_index index;
        raft_term term;
        raft_index answer, last;
    } cases[] = {
        {2, 1, 2, 4}, /* at or below commit: known */
        {3, 1, 3, 4}, /* in the log: only the commit index is news */
        {3, 2, 3, 3}, /* replaces a conflicting log */
        {9, 2, 9, 9},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fix f = member_with(config_of(1), 3, 1, terms, 4);
        struct raft_snapshot s = {.index = cases[i].index,
                                  .term = cases[i].term,
                                  .conf_state.voters = {ids_1_to_5, 3}};
        bool restored = cases[i].term == 2;

        step(&f, append(2, 1, 4, 1, NULL, 0, 2));
        clear(&f);
        f.slow_disk = true;
        step(&f, snapshot_msg(&s, 3));
        CHECK(count(&f, RAFT_MSG_APP_RESP) == 0);
        CHECK(f.handed == (restored ? s.index : cases[i].answer));
        raft_campaign(f.r); /* not before the snapshot is durable */
        CHECK((raft_status(f.r).role == RAFT_FOLLOWER) == restored);
        if (restored) {
            stable(&f);
            CHECK(sent(&f, RAFT_MSG_APP_RESP, 2).index == cases[i].answer);
            CHECK(raft_status(f.r).first_index == s.index + 1);
            raft_campaign(f.r);
            CHECK(raft_status(f.r).role == RAFT_CANDIDATE);
        }
        CHECK(raft_status(f.r).commit == cases[i].answer);
        CHECK(raft_status(f.r).last_index == cases[i].last);
        fix_free(&f);
    }
}

static raft_index catch_snapshot(struct fix *f)
{
    struct raft_ready rd;
    raft_index index = 0;

    CHECK(raft_ready(f->r, &rd));
    if (rd.snapshot) {
        index = rd.snapshot->index;
        CHECK(rd.snapshot->data->len == index); /* it is that one's own */
        CHECK(rd.snapshot->conf_state.voters.n == 5);
    }
    catch_ready(f, &rd);
    raft_advance(f->r);
    return index;
}

/* The leader sends another before we took the first: only the later one is
 * for disk and state machine. */
static void test_snapshot_replaces_snapshot(void)
{
    struct fix f = member(3);
    struct raft_snapshot s = {.index = 4,
                              .term = 1,
                              .data = blob_new("four", 4),
                              .conf_state.voters = {ids_1_to_5, 3}};
    struct raft_snapshot later = {.index = 7,
                                  .term = 1,
                                  .data = blob_new("seventh", 7),
                                  .conf_state.voters = {ids_1_to_5, 5}};
    struct raft_msg m = snapshot_msg(&s, 1);

    raft_step(f.r, &m);
    m.snapshot = &later;
    raft_step(f.r, &m);
    CHECK(catch_snapshot(&f) == 7);
    CHECK(raft_conf_state(f.r)->voters.n == 5);
    raft_stable(f.r, f.seq);
    CHECK(raft_status(f.r).commit == 7);
    clear(&f);
    raft_free(f.r);

    /* The end may come before they are taken, or while they are shown. */
    for (int shown = 0; shown < 2; shown++) {
        struct raft_ready rd;

        f = member(3);
        raft_step(f.r, &m);
        CHECK(!shown || raft_ready(f.r, &rd));
        raft_free(f.r);
    }
    blob_unref(s.data);
    blob_unref(later.data);
}

/* A snapshot that does not know us, or is joint, is not for us. */
static void test_snapshot_refused(void)
{
    struct fix f = member(3);
    raft_id others[] = {2, 3};
    struct raft_snapshot s = {
        .index = 9, .term = 1, .conf_state.voters = {others, 2}};

    step(&f, snapshot_msg(&s, 1));
    CHECK(raft_status(f.r).commit == 0 && raft_status(f.r).bad_messages == 0);
    s.conf_state.voters = (struct raft_ids){ids_1_to_5, 3};
    s.conf_state.voters_outgoing = (struct raft_ids){others, 2};
    step(&f, snapshot_msg(&s, 1));
    CHECK(raft_status(f.r).commit == 0 && raft_status(f.r).bad_messages == 1);
    fix_free(&f);
}

/* Nor can one be that has no such index, term or configuration. */
static void test_snapshot_impossible(void)
{
    raft_id twice[] = {1, 2, 2}, falling[] = {1, 3, 2}, zero[] = {0, 1};
    raft_id all[] = {1, 2, 3}, third[] = {3}, fourth[] = {4};
    const struct raft_snapshot cases[] = {
        {.index = 0, .term = 1, .conf_state.voters = {all, 3}},
        {.index = UINT64_MAX, .term = 1, .conf_state.voters = {all, 3}},
        {.index = 9, .term = 0, .conf_state.voters = {all, 3}},
        {.index = 9, .term = 2, .conf_state.voters = {all, 3}},
        {.index = 9, .term = 1},
        {.index = 9, .term = 1, .conf_state.voters = {twice, 3}},
        {.index = 9, .term = 1, .conf_state.voters = {falling, 3}},
        {.index = 9, .term = 1, .conf_state.voters = {zero, 2}},
        {.index = 9,
         .term = 1,
         .conf_state = {.voters = {all, 3}, .learners = {third, 1}}},
        {.index = 9,
         .term = 1,
         .conf_state = {.voters = {all, 3}, .learners_next = {fourth, 1}}},
    };
    struct raft_snapshot s;
    struct fix f = member(3);

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        s = cases[i];
        step(&f, snapshot_msg(&s, 1));
        CHECK(raft_status(f.r).bad_messages == i + 1);
    }
    CHECK(raft_status(f.r).commit == 0 && f.n_out == 0);
    s = (struct raft_snapshot){
        .index = 9,
        .term = 1,
        .conf_state = {.voters = {all, 3}, .learners = {fourth, 1}}};
    step(&f, snapshot_msg(&s, 1));
    CHECK(raft_status(f.r).commit == 9);
    fix_free(&f);
}

static void test_leader_sends_snapshot(void)
{
    struct raft_progress p[3];
    struct fix f = member(3);
    struct raft_msg m;

    lead(&f, 3);
    accept_from(&f, 2, 1);
    for (int i = 0; i < 4; i++)
        propose(&f, "x");
    accept_from(&f, 2, 5);
    raft_compact(f.r, 4);
    clear(&f);

    tick(&f, 1); /* member 3 never answered its probe, but lives */
    step(&f, (struct raft_msg){
                 .type = RAFT_MSG_HEARTBEAT_RESP, .from = 3, .term = 1});
    m = sent(&f, RAFT_MSG_SNAP, 3);
    CHECK(m.snapshot && m.snapshot->index == 4 && m.snapshot->term == 1);
    CHECK(m.snapshot && m.snapshot->data == NULL);
    CHECK(raft_progress(f.r, p, 3) == 3 && p[2].state == RAFT_SNAPSHOT);
    clear(&f);

    propose(&f, "y"); /* nothing meanwhile */
    CHECK(sent(&f, RAFT_MSG_APP, 3).type != RAFT_MSG_APP);
    raft_report_snapshot(f.r, 3, false);
    pump(&f);
    CHECK(count(&f, RAFT_MSG_SNAP) == 0); /* failed: at the next heartbeat */
    step(&f, (struct raft_msg){
                 .type = RAFT_MSG_HEARTBEAT_RESP, .from = 3, .term = 1});
    CHECK(count(&f, RAFT_MSG_SNAP) == 1);
    raft_report_snapshot(f.r, 3, true);
    CHECK(raft_progress(f.r, p, 3) == 3 && p[2].next_index == 5);
    clear(&f);
    accept_from(&f, 3, 5); /* it was a later one than the log's begin */
    CHECK(raft_progress(f.r, p, 3) == 3 && p[2].state == RAFT_REPLICATE);
    CHECK(sent(&f, RAFT_MSG_APP, 3).index == 5);
    fix_free(&f);
}

/* The leader of three, by CheckQuorum; the others have its first entry. */
static struct fix followed_leader(void)
{
    struct raft_config c = config_of(1);
    struct fix f;

    c.check_quorum = true;
    f = member_with(c, 3, 0, NULL, 0);
    lead(&f, 3);
    accept_from(&f, 2, 1);
    accept_from(&f, 3, 1);
    return f;
}

/* Only 2 answers, until the leader no longer counts on 3. */
static void silence_3(struct fix *f)
{
    for (int i = 0; i < 2 * config_of(1).election_ticks; i++) {
        tick(f, 1);
        heartbeat_answer(f, 2, NULL);
        clear(f);
    }
}

/* What lies behind a snapshot that is on its way must not go meanwhile. */
static void test_wanted_behind_snapshot(void)
{
    struct fix f = followed_leader();

    CHECK(raft_wanted(f.r) == 1);
    raft_report_unreachable(f.r, 3);
    silence_3(&f);
    propose(&f, "x");
    accept_from(&f, 2, 2);
    CHECK(raft_wanted(f.r) == 2); /* nobody waits for it */
    raft_compact(f.r, 2);
    heartbeat_answer(&f, 3, NULL);
    propose(&f, "y");
    accept_from(&f, 2, 3);
    CHECK(raft_wanted(f.r) == 2); /* under way */
    raft_report_snapshot(f.r, 3, true);
    propose(&f, "z");
    accept_from(&f, 2, 4);
    CHECK(raft_wanted(f.r) == 2); /* arrived */
    accept_from(&f, 3, 2);
    CHECK(raft_wanted(f.r) == 2); /* entries are on their way */
    accept_from(&f, 3, 4);
    CHECK(raft_wanted(f.r) == 4);
    fix_free(&f);
}

/* A snapshot is too big to be sent to who may not be there. */
static void test_no_snapshot_for_the_silent(void)
{
    struct fix f = followed_leader();

    propose(&f, "x");
    accept_from(&f, 2, 2);
    raft_compact(f.r, 2);
    silence_3(&f);
    raft_report_unreachable(f.r, 3); /* what it lacks is no longer here */
    pump(&f);
    CHECK(count(&f, RAFT_MSG_SNAP) == 0 && count(&f, RAFT_MSG_APP) == 0);
    heartbeat_answer(&f, 3, NULL);
    CHECK(sent(&f, RAFT_MSG_SNAP, 3).snapshot != NULL);
    fix_free(&f);
}

/* --- Thesis, 4: membership. ---------------------------------------------- */

static struct raft_conf_change_v2 change(enum raft_conf_change_type type,
                                         raft_id id)
{
    return (struct raft_conf_change_v2){
        .n = 1, .changes = {{.type = type, .node_id = id}}};
}

static size_t propose_change(struct fix *f)
{
    struct blob *b = blob_new("conf", 4);
    struct raft_ready rd;
    size_t conf_changes = 0;

    CHECK(raft_propose_conf_change(f->r, b) == 0);
    blob_unref(b);
    while (raft_ready(f->r, &rd)) {
        for (size_t i = 0; i < rd.n_entries; i++)
            conf_changes += rd.entries[i].type == RAFT_ENTRY_CONF_CHANGE;
        catch_ready(f, &rd);
        raft_advance(f->r);
        raft_stable(f->r, f->seq);
    }
    return conf_changes;
}

static void test_one_change_at_a_time(void)
{
    struct fix f = member(1);
    struct raft_conf_change_v2 add = change(RAFT_ADD_LEARNER_NODE, 2);

    lead(&f, 1);
    f.slow_apply = true;
    CHECK(propose_change(&f) == 1);
    CHECK(propose_change(&f) == 0); /* becomes an empty entry */
    raft_apply_conf_change(f.r, &add);
    CHECK(propose_change(&f) == 0);
    raft_applied(f.r, 2);
    CHECK(propose_change(&f) == 1);
    CHECK(raft_conf_state(f.r)->learners.n == 1);
    fix_free(&f);
}

/* Who does not lead hands a change on, as what it is. */
static void test_change_of_follower(void)
{
    struct fix f = member(3);
    struct blob *b = blob_new("conf", 4);
    struct raft_msg m;

    CHECK(raft_propose_conf_change(f.r, b) == RAFT_ENOLEADER);
    step(&f, heartbeat(2, 1));
    clear(&f);
    CHECK(raft_propose_conf_change(f.r, b) == 0);
    pump(&f);
    m = sent(&f, RAFT_MSG_PROP, 2);
    CHECK(m.n_entries == 1 && m.entries[0].data == b);
    CHECK(m.entries[0].type == RAFT_ENTRY_CONF_CHANGE);
    CHECK(m.term == 0 && raft_status(f.r).last_index == 0);

    /* And the leader takes it as that, once. */
    lead(&f, 3);
    f.slow_apply = true;
    step(&f, (struct raft_msg){
                 .type = RAFT_MSG_PROP,
                 .from = 3,
                 .entries = &(struct raft_entry){.type = RAFT_ENTRY_CONF_CHANGE,
                                                 .data = b},
                 .n_entries = 1});
    CHECK(sent(&f, RAFT_MSG_APP, 2).type == 0);
    accept_from(&f, 2, 1);
    m = sent(&f, RAFT_MSG_APP, 2);
    CHECK(m.n_entries == 1 && m.entries[0].type == RAFT_ENTRY_CONF_CHANGE);
    CHECK(propose_change(&f) == 0);
    blob_unref(b);
    fix_free(&f);
}

static void test_change_table(void)
{
    static const struct {
        enum raft_conf_change_type type;
        raft_id id;
        const char *voters, *learners;
    } steps[] = {
        {RAFT_ADD_LEARNER_NODE, 4, "123", "4"},
        {RAFT_ADD_NODE, 4, "1234", ""},
        {RAFT_ADD_NODE, 4, "1234", ""},
        {RAFT_ADD_LEARNER_NODE, 2, "134", "2"},
        {RAFT_UPDATE_NODE, 3, "134", "2"},
        {RAFT_REMOVE_NODE, 2, "134", ""},
        {RAFT_REMOVE_NODE, 9, "134", ""},
        {RAFT_REMOVE_NODE, 1, "34", ""},
        {RAFT_REMOVE_NODE, 4, "3", ""},
        {RAFT_REMOVE_NODE, 3, "3", ""}, /* the last voter stays */
        {RAFT_ADD_NODE, 0, "3", ""},
    };
    struct fix f = member(3);

    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        struct raft_conf_change_v2 cc = change(steps[i].type, steps[i].id);
        const struct raft_conf_state *c = raft_apply_conf_change(f.r, &cc);

        CHECK(c->voters.n == strlen(steps[i].voters));
        CHECK(c->learners.n == strlen(steps[i].learners));
        for (size_t k = 0; k < c->voters.n; k++)
            CHECK(c->voters.ids[k] == (raft_id)(steps[i].voters[k] - '0'));
        for (size_t k = 0; k < c->learners.n; k++)
            CHECK(c->learners.ids[k] == (raft_id)(steps[i].learners[k] - '0'));
        raft_check(f.r);
    }
    fix_free(&f);
}

/* The smaller quorum of a removal may have been reached already. */
static void test_removal_commits(void)
{
    struct fix f = member(3);
    struct raft_conf_change_v2 cc = change(RAFT_REMOVE_NODE, 3);

    lead(&f, 3);
    accept_from(&f, 2, 1);
    cc = change(RAFT_REMOVE_NODE, 2);
    propose(&f, "a");
    accept_from(&f, 3, 1);
    raft_apply_conf_change(f.r, &cc); /* {1, 3} */
    CHECK(raft_status(f.r).commit == 1);
    raft_read_index(f.r, 7);
    pump(&f);
    CHECK(f.n_reads == 0);
    cc = change(RAFT_REMOVE_NODE, 3);
    raft_apply_conf_change(f.r, &cc); /* {1} */
    pump(&f);
    CHECK(raft_status(f.r).commit == 2);
    CHECK(f.n_reads == 1);
    fix_free(&f);
}

/* A learner receives, but neither counts nor leads. */
static void test_learner(void)
{
    struct raft_conf_change_v2 cc = change(RAFT_ADD_LEARNER_NODE, 2);
    struct fix f = member(1);

    lead(&f, 1);
    raft_apply_conf_change(f.r, &cc);
    propose(&f, "a");
    CHECK(raft_status(f.r).commit == 2);
    CHECK(sent(&f, RAFT_MSG_APP, 2).type == RAFT_MSG_APP);
    CHECK(raft_transfer_leader(f.r, 2) == RAFT_ETRANSFEREE);
    fix_free(&f);

    f = member(1);
    cc = change(RAFT_ADD_NODE, 3);
    raft_apply_conf_change(f.r, &cc);
    cc = change(RAFT_ADD_LEARNER_NODE, 1);
    raft_apply_conf_change(f.r, &cc);
    tick(&f, 50);
    raft_campaign(f.r);
    CHECK(raft_status(f.r).role == RAFT_FOLLOWER);
    /* But it votes: it may have been promoted without knowing it. */
    step(&f, (struct raft_msg){.type = RAFT_MSG_VOTE, .from = 3, .term = 5});
    CHECK(f.n_out == 1 && !f.out[0].reject);
    fix_free(&f);
}

/* No campaign while a committed change is not applied. */
static void test_campaign_waits_for_changes(void)
{
    struct raft_config c = config_of(1);
    struct raft_entry e[2] = {
        {.type = RAFT_ENTRY_CONF_CHANGE, .term = 1, .index = 1},
        {.type = RAFT_ENTRY_CONF_CHANGE, .term = 1, .index = 2},
    };
    struct raft_initial init = {
        .hard_state = {.term = 1}, .entries = e, .n_entries = 2};
    struct raft_conf_change_v2 cc = change(RAFT_ADD_NODE, 1);
    struct fix f = fix_new(&c, &init);

    /* The second could only follow when the first was committed, even if the
     * commit index that said so was lost. */
    CHECK(raft_status(f.r).commit == 1);
    f.slow_apply = true;
    pump(&f);
    CHECK(f.handed == 1);
    raft_apply_conf_change(f.r, &cc);
    tick(&f, 3);
    CHECK(raft_status(f.r).role == RAFT_FOLLOWER);
    raft_applied(f.r, 1);
    tick(&f, 1);
    CHECK(raft_status(f.r).role == RAFT_LEADER);
    CHECK(raft_status(f.r).term == 2);
    fix_free(&f);
}

/* Changes that a snapshot has overtaken do not touch its configuration. */
static void test_snapshot_overtakes_changes(void)
{
    struct fix f = member(3);
    struct raft_entry e[1] = {{.type = RAFT_ENTRY_CONF_CHANGE, .term = 1}};
    struct raft_snapshot s = {
        .index = 9, .term = 1, .conf_state.voters = {ids_1_to_5, 4}};
    struct raft_conf_change_v2 cc = change(RAFT_REMOVE_NODE, 3);
    const struct raft_conf_state *conf;

    f.slow_apply = true;
    step(&f, append(2, 1, 0, 0, e, 1, 1));
    CHECK(f.handed == 1);
    step(&f, snapshot_msg(&s, 1));
    conf = raft_apply_conf_change(f.r, &cc); /* of entry 1 */
    CHECK(conf->voters.n == 2);
    CHECK(raft_conf_state(f.r)->voters.n == 4);
    raft_applied(f.r, 9);
    conf = raft_apply_conf_change(f.r, &cc); /* of a later entry */
    CHECK(conf->voters.n == 3 && conf == raft_conf_state(f.r));
    fix_free(&f);

    /* Nor when a second snapshot overtakes them once more. */
    f = member(3);
    f.slow_apply = true;
    step(&f, append(2, 1, 0, 0, e, 1, 1));
    step(&f, snapshot_msg(&s, 1));
    s.index = 12;
    s.conf_state.voters.n = 5;
    step(&f, snapshot_msg(&s, 1));
    conf = raft_apply_conf_change(f.r, &cc);
    CHECK(conf->voters.n == 2 && raft_conf_state(f.r)->voters.n == 5);
    fix_free(&f);
}

/* --- Thesis, 3.10: leadership transfer. ---------------------------------- */

static void test_transfer(void)
{
    struct fix f = member(3);

    CHECK(raft_transfer_leader(f.r, 2) == RAFT_ENOTLEADER);
    lead(&f, 3);
    CHECK(raft_transfer_leader(f.r, 9) == RAFT_ETRANSFEREE);
    accept_from(&f, 2, 1);
    clear(&f);
    propose(&f, "a");
    CHECK(raft_transfer_leader(f.r, 2) == 0);
    pump(&f);
    CHECK(count(&f, RAFT_MSG_TIMEOUT_NOW) == 0); /* it has to catch up */
    CHECK(propose(&f, "b") == RAFT_EBUSY);
    CHECK(raft_status(f.r).lead_transferee == 2);
    accept_from(&f, 2, 2);
    CHECK(sent(&f, RAFT_MSG_TIMEOUT_NOW, 2).term == 1);
    tick(&f, 10); /* it does not come about */
    CHECK(raft_status(f.r).lead_transferee == 0);
    CHECK(propose(&f, "b") == 0);
    accept_from(&f, 2, 3);

    /* On the wire, from is the transferee; an up to date one goes at once. */
    clear(&f);
    step(&f, (struct raft_msg){
                 .type = RAFT_MSG_TRANSFER_LEADER, .from = 2, .term = 1});
    CHECK(count(&f, RAFT_MSG_TIMEOUT_NOW) == 1);
    fix_free(&f);
}

/* The transferee skips pre-vote, and its voters the lease. */
static void test_timeout_now(void)
{
    struct raft_config c = config_of(1);
    struct fix f;
    struct raft_msg m;

    c.pre_vote = c.check_quorum = true;
    f = member_with(c, 3, 1, NULL, 0);
    step(&f, heartbeat(2, 1));
    step(&f,
         (struct raft_msg){.type = RAFT_MSG_TIMEOUT_NOW, .from = 2, .term = 1});
    m = sent(&f, RAFT_MSG_VOTE, 3);
    CHECK(m.term == 2);
    CHECK(str_eqz(blob_str(m.context), "CampaignTransfer"));
    fix_free(&f);

    f = member_with(c, 3, 1, NULL, 0);
    step(&f, heartbeat(2, 1));
    clear(&f);
    m = (struct raft_msg){.type = RAFT_MSG_VOTE, .from = 3, .term = 2};
    step(&f, m);
    CHECK(f.n_out == 0 && raft_status(f.r).term == 1); /* the lease holds */
    m.context = blob_new("CampaignTransfer", 16);
    step(&f, m);
    CHECK(f.n_out == 1 && !f.out[0].reject && raft_status(f.r).term == 2);
    blob_unref(m.context);
    fix_free(&f);
}

/* MsgTransferLeader comes from whoever is to lead. */
static void test_transfer_on_request(void)
{
    struct raft_conf_change_v2 cc = change(RAFT_ADD_LEARNER_NODE, 4);
    struct raft_msg m = {.type = RAFT_MSG_TRANSFER_LEADER, .from = 3};
    struct fix f = member(3);

    step(&f, heartbeat(2, 1));
    clear(&f);
    step(&f, m); /* handed on to the leader, in the transferee's name */
    CHECK(f.n_out == 1 && f.out[0].to == 2 && f.out[0].from == 3);
    m.from = 2;
    step(&f, m); /* the leader need not be told by itself */
    CHECK(f.n_out == 1);

    raft_apply_conf_change(f.r, &cc);
    lead(&f, 3);
    accept_from(&f, 2, 1);
    clear(&f);
    m.from = 4; /* a learner */
    step(&f, m);
    m.from = 5; /* a stranger */
    step(&f, m);
    CHECK(raft_status(f.r).lead_transferee == 0 && f.n_out == 0);
    m.from = 2;
    step(&f, m);
    step(&f, m);
    CHECK(raft_status(f.r).lead_transferee == 2);
    CHECK(count(&f, RAFT_MSG_TIMEOUT_NOW) == 1);
    fix_free(&f);
}

/* --- Thesis, 6.2 and 9.6: check quorum, leases, pre-vote. ---------------- */

static void test_check_quorum(void)
{
    struct raft_config c = config_of(1);
    struct fix f;

    c.check_quorum = true;
    f = member_with(c, 3, 0, NULL, 0);
    lead(&f, 3);
    for (int i = 0; i < 5; i++) {
        tick(&f, 9);
        step(&f, (struct raft_msg){
                     .type = RAFT_MSG_HEARTBEAT_RESP, .from = 3, .term = 1});
        clear(&f);
    }
    CHECK(raft_status(f.r).role == RAFT_LEADER);
    tick(&f, 20);
    CHECK(raft_status(f.r).role == RAFT_FOLLOWER);
    CHECK(raft_status(f.r).leader == 0 && raft_status(f.r).term == 1);
    fix_free(&f);
}

static void test_lease_expires(void)
{
    struct raft_config c = config_of(1);
    struct raft_msg m = {.type = RAFT_MSG_VOTE, .from = 3, .term = 5};
    struct fix f;

    c.check_quorum = true;
    c.seed = 4; /* a timeout above the least */
    f = member_with(c, 3, 1, NULL, 0);
    step(&f, heartbeat(2, 1));
    clear(&f);
    tick(&f, 9);
    step(&f, m);
    CHECK(f.n_out == 0);
    tick(&f, 1);
    CHECK(raft_status(f.r).role == RAFT_FOLLOWER);
    step(&f, m);
    CHECK(f.n_out == 1 && raft_status(f.r).vote == 3);
    fix_free(&f);
}

static void test_pre_vote(void)
{
    struct raft_config c = config_of(1);
    struct raft_msg grant = {
        .type = RAFT_MSG_PRE_VOTE_RESP, .from = 2, .term = 5};
    struct fix f;

    c.pre_vote = true;
    f = member_with(c, 3, 4, NULL, 0);
    f.slow_disk = true; /* a rehearsal needs none */
    raft_campaign(f.r);
    pump(&f);
    CHECK(count(&f, RAFT_MSG_PRE_VOTE) == 2 && f.out[0].term == 5);
    CHECK(raft_status(f.r).term == 4 && raft_status(f.r).vote == 0);
    grant.term = 4;
    step(&f, grant); /* of an earlier rehearsal */
    CHECK(raft_status(f.r).role == RAFT_PRE_CANDIDATE);
    grant.term = 5;
    step(&f, grant);
    CHECK(raft_status(f.r).role == RAFT_CANDIDATE);
    CHECK(raft_status(f.r).term == 5);
    stable(&f);
    CHECK(count(&f, RAFT_MSG_VOTE) == 2);
    fix_free(&f);

    /* Refused by one of a later term: follow it there. */
    f = member_with(c, 3, 4, NULL, 0);
    raft_campaign(f.r);
    pump(&f);
    step(&f, (struct raft_msg){.type = RAFT_MSG_PRE_VOTE_RESP,
                               .from = 2,
                               .term = 9,
                               .reject = true});
    CHECK(raft_status(f.r).role == RAFT_FOLLOWER);
    CHECK(raft_status(f.r).term == 9);
    fix_free(&f);
}

static void test_skip_election_ticks(void)
{
    struct fix f = member(3);

    raft_skip_election_ticks(f.r, 1000);
    pump(&f);
    CHECK(raft_status(f.r).role == RAFT_FOLLOWER);
    raft_skip_election_ticks(f.r, 1000); /* nothing is left to skip */
    pump(&f);
    CHECK(raft_status(f.r).role == RAFT_FOLLOWER);
    tick(&f, 1);
    CHECK(raft_status(f.r).role == RAFT_CANDIDATE);
    fix_free(&f);

    f = member(3);
    raft_skip_election_ticks(f.r, -1000);
    tick(&f, 30); /* later than the longest timeout, had it been set back */
    CHECK(raft_status(f.r).term > 0);
    fix_free(&f);
}

static void test_heartbeat_interval(void)
{
    struct raft_config c = config_of(1);
    struct fix f;

    c.heartbeat_ticks = 4;
    f = member_with(c, 3, 0, NULL, 0);
    lead(&f, 3);
    tick(&f, 3);
    CHECK(count(&f, RAFT_MSG_HEARTBEAT) == 0);
    tick(&f, 1);
    CHECK(count(&f, RAFT_MSG_HEARTBEAT) == 2);
    tick(&f, 8);
    CHECK(count(&f, RAFT_MSG_HEARTBEAT) == 6);
    fix_free(&f);
}

/* --- Thesis, 6.4: reads. ------------------------------------------------- */

static void test_read_single_voter(void)
{
    struct fix f = member(1);

    lead(&f, 1);
    pump(&f);
    raft_read_index(f.r, 42);
    pump(&f);
    CHECK(f.n_reads == 1 && f.reads[0].ctx == 42 && f.reads[0].index == 1);
    CHECK(f.n_out == 0);
    fix_free(&f);
}

static void test_read_quorum(void)
{
    struct fix f = member(5);
    struct blob *first, *second;

    lead(&f, 5);
    raft_read_index(f.r, 1);
    pump(&f);
    CHECK(f.n_out == 0); /* nothing committed in this term yet */
    accept_from(&f, 2, 1);
    accept_from(&f, 3, 1);
    first = blob_ref(sent(&f, RAFT_MSG_HEARTBEAT, 4).context);
    CHECK(first != NULL && first->len == 8);
    heartbeat_answer(&f, 2, first);
    heartbeat_answer(&f, 2, first); /* the same member, again */
    CHECK(f.n_reads == 0);

    /* Two more share a round; an answer to the old one is none to theirs. */
    clear(&f);
    raft_read_index(f.r, 2);
    raft_read_index(f.r, 3);
    pump(&f);
    CHECK(count(&f, RAFT_MSG_HEARTBEAT) == 4);
    second = blob_ref(sent(&f, RAFT_MSG_HEARTBEAT, 4).context);
    heartbeat_answer(&f, 3, first);
    CHECK(f.n_reads == 1 && f.reads[0].ctx == 1 && f.reads[0].index == 1);
    heartbeat_answer(&f, 4, first);
    CHECK(f.n_reads == 1);
    heartbeat_answer(&f, 4, second);
    CHECK(f.n_reads == 1);
    heartbeat_answer(&f, 5, second);
    CHECK(f.n_reads == 3 && f.reads[1].ctx == 2 && f.reads[2].ctx == 3);
    blob_unref(first);
    blob_unref(second);
    fix_free(&f);
}

/* A lost round is repeated by the next heartbeat; a later answer confirms
 * earlier rounds too. */
static void test_read_round_lost(void)
{
    struct fix f = member(3);

    lead(&f, 3);
    accept_from(&f, 2, 1);
    raft_read_index(f.r, 1);
    pump(&f);
    raft_read_index(f.r, 2);
    pump(&f);
    clear(&f);
    tick(&f, 1);
    heartbeat_answer(&f, 2, sent(&f, RAFT_MSG_HEARTBEAT, 2).context);
    CHECK(f.n_reads == 2);
    clear(&f);
    tick(&f, 1);
    CHECK(sent(&f, RAFT_MSG_HEARTBEAT, 2).context == NULL);
    fix_free(&f);
}

static void test_read_dropped_with_leadership(void)
{
    struct fix f = member(3);

    lead(&f, 3);
    accept_from(&f, 2, 1);
    raft_read_index(f.r, 1);
    pump(&f);
    step(&f, heartbeat(2, 2));
    lead(&f, 3);
    accept_from(&f, 2, 2);
    tick(&f, 1);
    heartbeat_answer(&f, 2, sent(&f, RAFT_MSG_HEARTBEAT, 2).context);
    CHECK(f.n_reads == 0);
    fix_free(&f);
}

/* Reads that wait are bounded: who comes too late asks again. */
static void test_reads_are_bounded(void)
{
    struct fix f = member(3);
    struct raft_ready rd;
    struct blob *ctx;
    size_t n = 0;

    lead(&f, 3);
    accept_from(&f, 2, 1);
    clear(&f);
    for (uint64_t i = 1; i <= 10000; i++)
        raft_read_index(f.r, i);
    pump(&f);
    ctx = blob_ref(sent(&f, RAFT_MSG_HEARTBEAT, 2).context);
    raft_step(f.r, &(struct raft_msg){.type = RAFT_MSG_HEARTBEAT_RESP,
                                      .from = 2,
                                      .term = 1,
                                      .context = ctx});
    while (raft_ready(f.r, &rd)) {
        for (size_t i = 0; i < rd.n_reads; i++)
            CHECK(rd.reads[i].ctx == ++n); /* the first ones, in order */
        raft_advance(f.r);
    }
    CHECK(n >= 1000 && n < 10000);
    raft_read_index(f.r, 1); /* and there is room again */
    pump(&f);
    heartbeat_answer(&f, 2, sent(&f, RAFT_MSG_HEARTBEAT, 2).context);
    CHECK(f.n_reads == 1);
    blob_unref(ctx);
    fix_free(&f);
}

/* A context that is none of ours confirms nothing. */
static void test_read_context_of_another(void)
{
    struct blob *strange = blob_new("\0\0\0\0\0\0\0\1\0", 9);
    struct fix f = member(3);

    lead(&f, 3);
    accept_from(&f, 2, 1);
    raft_read_index(f.r, 1);
    pump(&f);
    heartbeat_answer(&f, 2, strange);
    heartbeat_answer(&f, 2, NULL);
    CHECK(f.n_reads == 0);
    heartbeat_answer(&f, 2, sent(&f, RAFT_MSG_HEARTBEAT, 2).context);
    CHECK(f.n_reads == 1);
    blob_unref(strange);
    fix_free(&f);
}

/* A follower's context may be any bytes; they come back as they were. */
static void test_read_of_follower(void)
{
    static const struct {
        const char *p;
        size_t n;
    } contexts[] = {{"\0\0\0\0\0\0\0\1", 8}, {"", 0}, {"any\0bytes", 9}};

    for (size_t i = 0; i < ARRAY_LEN(contexts); i++) {
        struct raft_entry e = {.data = blob_new(contexts[i].p, contexts[i].n)};
        struct fix f = member(3);
        struct raft_msg m;

        lead(&f, 3);
        accept_from(&f, 2, 1);
        step(&f, (struct raft_msg){.type = RAFT_MSG_READ_INDEX,
                                   .from = 3,
                                   .entries = &e,
                                   .n_entries = 1});
        heartbeat_answer(&f, 2, sent(&f, RAFT_MSG_HEARTBEAT, 2).context);
        m = sent(&f, RAFT_MSG_READ_INDEX_RESP, 3);
        CHECK(m.index == 1 && m.term == 1 && m.n_entries == 1);
        CHECK(str_eq(blob_str(m.entries[0].data), blob_str(e.data)));
        CHECK(f.n_reads == 0);
        blob_unref(e.data);
        fix_free(&f);
    }
}

static void test_follower_asks_leader(void)
{
    struct fix f = member(3);
    struct raft_msg m;

    raft_read_index(f.r, 5); /* nobody to ask: dropped */
    pump(&f);
    CHECK(f.n_out == 0);
    step(&f, heartbeat(2, 1));
    raft_read_index(f.r, 258);
    pump(&f);
    m = sent(&f, RAFT_MSG_READ_INDEX, 2);
    CHECK(m.term == 0 && m.n_entries == 1 && m.entries[0].data->len == 8);
    CHECK(get_u64be(m.entries[0].data->data) == 258);
    step(&f, (struct raft_msg){.type = RAFT_MSG_READ_INDEX_RESP,
                               .from = 2,
                               .term = 1,
                               .index = 17,
                               .entries = m.entries,
                               .n_entries = 1});
    CHECK(f.n_reads == 1 && f.reads[0].ctx == 258 && f.reads[0].index == 17);
    fix_free(&f);
}

/* --- The Ready. ---------------------------------------------------------- */

static void test_ready_of_single_voter(void)
{
    struct fix f = member(1);
    struct raft_ready rd;
    struct blob *b[3];

    lead(&f, 1);
    for (size_t i = 0; i < 3; i++)
        b[i] = blob_new("x", 1);
    CHECK(raft_propose(f.r, b, 3) == 0);
    CHECK(raft_ready(f.r, &rd));
    CHECK(rd.n_entries == 3 && rd.entries[0].index == 2 && rd.must_sync);
    CHECK(rd.entries[0].data == b[0] && rd.n_committed == 0);
    CHECK(rd.hard_state == NULL);
    raft_read_index(f.r, 9); /* allowed here, and only this */
    raft_advance(f.r);
    CHECK(raft_ready(f.r, &rd) && rd.n_reads == 1 && rd.reads[0].index == 1);
    raft_advance(f.r);
    CHECK(!raft_ready(f.r, &rd)); /* the disk works */
    raft_stable(f.r, f.seq + 1);
    CHECK(raft_ready(f.r, &rd));
    CHECK(rd.n_committed == 3 && rd.n_entries == 0);
    CHECK(rd.hard_state && rd.hard_state->commit == 4);
    CHECK(rd.disk_seq == f.seq + 2 && !rd.must_sync);
    raft_advance(f.r);
    CHECK(!raft_ready(f.r, &rd));
    for (size_t i = 0; i < 3; i++) {
        CHECK(b[i]->refs == 2); /* the log's and ours */
        blob_unref(b[i]);
    }
    fix_free(&f);
}

/* Committed entries come in portions. */
static void test_ready_is_bounded(void)
{
    struct fix f = member(1);
    struct raft_ready rd;
    char *big = xmalloc(300000);
    struct blob *b = blob_new(big, memset(big, 0, 300000) ? 300000 : 0);
    struct blob *empty[5000] = {NULL};
    size_t handed = 0;

    lead(&f, 1);
    raft_propose(f.r, empty, 5000);
    for (int i = 0; i < 5; i++)
        raft_propose(f.r, &b, 1);
    CHECK(raft_ready(f.r, &rd) && rd.n_entries == 5005);
    raft_advance(f.r);
    raft_stable(f.r, f.seq + 1);
    while (raft_ready(f.r, &rd)) {
        CHECK(rd.n_committed > 0 && rd.n_committed <= 4096);
        handed += rd.n_committed;
        raft_advance(f.r);
        raft_check(f.r);
    }
    CHECK(handed == 5005);
    raft_applied(f.r, 5006);
    raft_compact(f.r, 5006);
    CHECK(raft_status(f.r).log_bytes == 0);
    CHECK(b->refs == 1);
    blob_unref(b);
    free(big);
    fix_free(&f);
}

/* A committed conf change is synced: who was removed will be gone soon. */
static void test_conf_change_commit_is_synced(void)
{
    struct fix f = member(3);
    struct raft_entry e[2] = {{.term = 1},
                              {.term = 1, .type = RAFT_ENTRY_CONF_CHANGE}};

    step(&f, append(2, 1, 0, 0, e, 2, 0));
    step(&f, append(2, 1, 2, 1, NULL, 0, 1));
    CHECK(!f.must_sync);
    step(&f, append(2, 1, 2, 1, NULL, 0, 2));
    CHECK(f.must_sync);
    fix_free(&f);
}

/* --- Starting. ----------------------------------------------------------- */

static void test_restart(void)
{
    static const struct {
        raft_index commit, applied, snapshot;
        raft_term snapshot_term;
        raft_index first; /* of three entries, of terms 3, 3, 4 */
        int rc;
        raft_index last;
    } cases[] = {
        {3, 0, 0, 0, 1, 0, 3},
        {3, 2, 0, 0, 1, 0, 3},
        {4, 0, 0, 0, 1, RAFT_ECONFIG, 0}, /* commit beyond the log */
        {0, 4, 0, 0, 1, RAFT_ECONFIG, 0},
        {8, 5, 5, 3, 6, 0, 8},
        {8, 5, 5, 3, 7, RAFT_ECONFIG, 0}, /* a gap */
        {8, 4, 5, 3, 6, RAFT_ECONFIG, 0},
        {0, 5, 5, 3, 6, 0, 8}, /* a snapshot is committed */
        {5, 5, 5, 5, 6, 0, 5}, /* an older suffix shows again: dropped */
        {6, 5, 5, 5, 6, RAFT_ECONFIG, 0},
        {5, 5, 5, 4, 6, RAFT_ECONFIG, 0}, /* terms that fall */
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct raft_config c = config_of(1);
        struct raft_entry e[3] = {{.term = 3}, {.term = 3}, {.term = 4}};
        struct raft_initial init = {
            .hard_state = {.term = 3, .vote = 2, .commit = cases[i].commit},
            .conf_state = {.voters = {ids_1_to_5, 3}},
            .snapshot_index = cases[i].snapshot,
            .snapshot_term = cases[i].snapshot_term,
            .applied = cases[i].applied,
            .entries = e,
            .n_entries = 3};
        struct raft *r = NULL;
        struct raft_ready rd;
        struct err err;

        for (size_t k = 0; k < 3; k++)
            e[k].index = cases[i].first + k;
        CHECK(raft_new(&c, &init, &r, &err) == cases[i].rc);
        if (!r)
            continue;
        CHECK(raft_status(r).last_index == cases[i].last);
        /* The hard state of term 4 or 5 was lost; no vote was given in it. */
        CHECK(raft_status(r).term == (cases[i].snapshot_term == 5 ? 5 : 4));
        CHECK(raft_status(r).vote == 0);
        CHECK(raft_ready(r, &rd) && rd.hard_state && rd.must_sync);
        CHECK(rd.n_entries == 0);
        CHECK(rd.n_committed == raft_status(r).commit - cases[i].applied);
        raft_advance(r);
        raft_check(r);
        raft_free(r);
    }
}

static void test_bad_config(void)
{
    struct raft_config c = config_of(1);
    struct raft_initial init = {0};
    struct raft *r = NULL;
    struct err e;

    c.heartbeat_ticks = 10;
    CHECK(raft_new(&c, &init, &r, &e) == RAFT_ECONFIG && !r);
    c.heartbeat_ticks = 0;
    CHECK(raft_new(&c, &init, &r, &e) == RAFT_ECONFIG && !r);
    c = config_of(0);
    CHECK(raft_new(&c, &init, &r, &e) == RAFT_ECONFIG && !r);
    c = config_of(1);
    init.conf_state.voters = (struct raft_ids){ids_1_to_5, 3};
    init.conf_state.voters_outgoing = (struct raft_ids){ids_1_to_5, 1};
    CHECK(raft_new(&c, &init, &r, &e) == RAFT_ECONFIG && !r);
    raft_free(NULL);
}

/* --- Lines, and bad input. ----------------------------------------------- */

static void test_lines(void)
{
    struct fix f = member_with(config_of(0x1), 3, 4, NULL, 0);
    struct buf b = {0};

    raft_take_log(f.r, &b);
    CHECK_STR(buf_z(&b), "1 became follower at term 4\n"
                         "newRaft 1 [peers: [1,2,3], term: 4, commit: 0, "
                         "applied: 0, lastindex: 0, lastterm: 0]\n");
    buf_clear(&b);
    raft_campaign(f.r);
    pump(&f);
    step(&f, vote_resp(3, 5, false));
    raft_take_log(f.r, &b);
    CHECK_STR(buf_z(&b),
              "1 is starting a new election at term 4\n"
              "1 became candidate at term 5\n"
              "1 [logterm: 0, index: 0] sent MsgVote request to 2 at term 5\n"
              "1 [logterm: 0, index: 0] sent MsgVote request to 3 at term 5\n"
              "1 received MsgVoteResp from 1 at term 5\n"
              "1 [quorum:2] has received 1 MsgVoteResp votes and 0 vote "
              "rejections\n"
              "1 received MsgVoteResp from 3 at term 5\n"
              "1 [quorum:2] has received 2 MsgVoteResp votes and 0 vote "
              "rejections\n"
              "1 became leader at term 5\n"
              "raft.node: 1 elected leader 1 at term 5\n");
    buf_clear(&b);
    step(&f, heartbeat(2, 6));
    raft_take_log(f.r, &b);
    CHECK_STR(buf_z(&b),
              "1 [term: 5] received a MsgHeartbeat message with higher term "
              "from 2 [term: 6]\n"
              "1 became follower at term 6\n"
              "raft.node: 1 changed leader from 1 to 2 at term 6\n");

    /* A flood of lines is held back, and counted. */
    buf_clear(&b);
    for (int i = 0; i < 10000; i++)
        raft_step(f.r, &(struct raft_msg){.type = RAFT_MSG_HUP, .from = 2});
    raft_take_log(f.r, &b);
    CHECK(b.len < 16384);
    raft_tick(f.r);
    buf_clear(&b);
    raft_take_log(f.r, &b);
    CHECK(strstr(buf_z(&b), "1 suppressed ") != NULL);
    buf_release(&b);
    fix_free(&f);
}

/* What a leader knows of its members; who does not lead knows nothing. */
static void test_progress(void)
{
    struct raft_progress p[3] = {{.id = 99}, {.id = 99}, {.id = 99}};
    struct fix f = member(3);

    CHECK(raft_progress(f.r, p, 3) == 0 && p[0].id == 99);
    lead(&f, 3);
    CHECK(raft_progress(f.r, p, 2) == 3);
    CHECK(p[0].id == 1 && p[1].id == 2 && p[2].id == 99);
    CHECK(p[0].match_index == 1 && p[1].match_index == 0);
    fix_free(&f);
}

static struct blob *zeros(size_t n)
{
    char *p = xcalloc(n, 1);
    struct blob *b = blob_new(p, n);

    free(p);
    return b;
}

static void test_bad_messages(void)
{
    struct raft_entry gap[2] = {{.term = 1, .index = 1},
                                {.term = 1, .index = 3}};
    struct raft_entry falls[2] = {{.term = 2, .index = 1},
                                  {.term = 1, .index = 2}};
    struct raft_entry future[1] = {{.term = 9, .index = 1}};
    struct raft_entry odd[1] = {{.term = 1, .index = 1, .type = 7}};
    struct raft_entry no_term[1] = {{.index = 1}};
    struct raft_entry too_far[2] = {{.term = 1}, {.term = 1}};
    struct raft_entry odd_proposal[1] = {{.type = 7}};
    struct raft_entry no_context[1] = {{0}};
    struct raft_entry short_context[1] = {{.data = blob_new("1234567", 7)}};
    struct raft_entry long_context[1] = {{.data = zeros(65536)}};
    const struct raft_msg cases[] = {
        {.type = RAFT_MSG_HUP, .from = 2},
        {.type = RAFT_MSG_SNAP_STATUS, .from = 2, .term = 2},
        {.type = (enum raft_msg_type)99, .from = 2, .term = 2},
        {.type = RAFT_MSG_HEARTBEAT, .from = 0, .term = 2},
        {.type = RAFT_MSG_HEARTBEAT, .from = 1, .term = 2},
        {.type = RAFT_MSG_HEARTBEAT, .from = 2},
        {.type = RAFT_MSG_HEARTBEAT, .from = 2, .term = 2, .commit = 1},
        {.type = RAFT_MSG_VOTE, .from = 2, .term = UINT64_MAX},
        {.type = RAFT_MSG_VOTE, .from = 2, .term = 2, .log_term = 2},
        {.type = RAFT_MSG_APP_RESP, .from = 9, .term = 2},
        {.type = RAFT_MSG_SNAP, .from = 2, .term = 2},
        {.type = RAFT_MSG_PROP, .from = 2},
        {.type = RAFT_MSG_READ_INDEX, .from = 2},
        {.type = RAFT_MSG_APP, .from = 2, .term = 2, .index = UINT64_MAX},
        {.type = RAFT_MSG_APP, .from = 2, .term = 2, .log_term = 1},
        {.type = RAFT_MSG_APP,
         .from = 2,
         .term = 2,
         .entries = gap,
         .n_entries = 2},
        {.type = RAFT_MSG_APP,
         .from = 2,
         .term = 2,
         .entries = falls,
         .n_entries = 2},
        {.type = RAFT_MSG_APP,
         .from = 2,
         .term = 2,
         .entries = future,
         .n_entries = 1},
        {.type = RAFT_MSG_APP,
         .from = 2,
         .term = 2,
         .entries = odd,
         .n_entries = 1},
        {.type = RAFT_MSG_APP, .from = 2, .entries = no_term, .n_entries = 1},
        {.type = RAFT_MSG_APP,
         .from = 2,
         .term = 2,
         .entries = no_term,
         .n_entries = 1},
        {.type = RAFT_MSG_APP,
         .from = 2,
         .term = 2,
         .log_term = 1,
         .index = UINT64_MAX / 2 - 1,
         .entries = too_far,
         .n_entries = 2},
        {.type = RAFT_MSG_VOTE, .from = 2, .term = 2, .log_term = UINT64_MAX},
        {.type = RAFT_MSG_SNAP, .from = 2},
        {.type = RAFT_MSG_PROP,
         .from = 2,
         .entries = odd_proposal,
         .n_entries = 1},
        {.type = RAFT_MSG_READ_INDEX,
         .from = 2,
         .entries = long_context,
         .n_entries = 1},
        {.type = RAFT_MSG_READ_INDEX_RESP, .from = 2, .term = 2},
        {.type = RAFT_MSG_READ_INDEX_RESP,
         .from = 2,
         .term = 2,
         .entries = no_context,
         .n_entries = 1},
        {.type = RAFT_MSG_READ_INDEX_RESP,
         .from = 2,
         .term = 2,
         .entries = short_context,
         .n_entries = 1},
    };

    for (size_t i = 0; i < 2; i++)
        too_far[i].index = UINT64_MAX / 2 + i;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fix f = member_with(config_of(1), 3, 2, NULL, 0);

        step(&f, cases[i]);
        CHECK(raft_status(f.r).bad_messages == 1);
        CHECK(raft_status(f.r).term == 2 && raft_status(f.r).last_index == 0);
        CHECK(f.n_out == 0 && f.n_reads == 0);
        fix_free(&f);
    }
    blob_unref(short_context[0].data);
    blob_unref(long_context[0].data);
}

/* Two leaders of one term, and answers to what was never sent. */
static void test_impossible_for_role(void)
{
    struct fix f = member(3);
    struct blob *ctx = blob_new("\xff\0\0\0\0\0\0\0", 8);

    lead(&f, 3);
    step(&f, heartbeat(2, 1));
    accept_from(&f, 2, 99);
    heartbeat_answer(&f, 2, ctx);
    CHECK(raft_status(f.r).bad_messages == 3);
    CHECK(raft_status(f.r).role == RAFT_LEADER);
    step(&f, heartbeat(2, 2));
    step(&f, heartbeat(3, 2));
    step(&f,
         (struct raft_msg){.type = RAFT_MSG_TIMEOUT_NOW, .from = 3, .term = 2});
    CHECK(raft_status(f.r).bad_messages == 5);
    CHECK(raft_status(f.r).leader == 2);
    blob_unref(ctx);
    fix_free(&f);
}

static uint64_t draw(uint64_t *x, uint64_t n) /* xorshift64 */
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x % n;
}

/* Whatever numbers come, in whatever role: no assertion is touched. */
static void test_noise(void)
{
    struct raft_config c = config_of(1);
    struct fix f;
    uint64_t x = 88172645463325252u;
    struct blob *ctx = blob_new("\0\0\0\0\0\0\0\1", 8);

    c.pre_vote = true;
    f = member_with(c, 3, 0, NULL, 0);
    for (int i = 0; i < 30000; i++) {
        struct raft_entry e[3] = {{0}};
        struct raft_snapshot s = {.conf_state.voters = {ids_1_to_5, 3}};
        struct raft_msg m = {0};
        raft_term term = raft_status(f.r).term;
        raft_index last = raft_status(f.r).last_index;

        m.type = (enum raft_msg_type)draw(&x, 21);
        m.from = draw(&x, 10) ? 2 + draw(&x, 2) : draw(&x, 5);
        m.term = draw(&x, 4) ? term : term + 1;
        if (term > 0 && draw(&x, 8) == 0)
            m.term = term - 1;
        m.index = draw(&x, last + 3);
        if (!raft_term_of(f.r, m.index, &m.log_term) || draw(&x, 5) == 0)
            m.log_term = draw(&x, term + 2);
        m.n_entries = m.type == RAFT_MSG_READ_INDEX ? 1 : draw(&x, 4);
        m.entries = e;
        for (size_t k = 0; k < m.n_entries; k++) {
            e[k].index = m.index + 1 + k;
            e[k].term = m.term - (m.term > 0 && draw(&x, 9) == 0);
            e[k].type = (enum raft_entry_type)(draw(&x, 20) ? 0 : draw(&x, 4));
            e[k].data = draw(&x, 2) ? ctx : NULL;
        }
        m.commit = draw(&x, last + 2);
        m.reject = draw(&x, 2);
        m.reject_hint = draw(&x, last + 4);
        s.index = draw(&x, last + 5);
        s.term = draw(&x, m.term + 1);
        m.snapshot = draw(&x, 30) ? NULL : &s;
        m.context = draw(&x, 2) ? ctx : NULL;
        f.slow_disk = draw(&x, 2);
        step(&f, m);
        if (draw(&x, 10) == 0)
            tick(&f, 1);
        if (draw(&x, 10) == 0)
            propose(&f, "noise");
        if (draw(&x, 20) == 0)
            raft_report_snapshot(f.r, draw(&x, 5), draw(&x, 2));
        if (draw(&x, 20) == 0)
            raft_compact(f.r, draw(&x, raft_status(f.r).applied + 1));
        clear(&f);
    }
    CHECK(raft_status(f.r).term > 100 && raft_status(f.r).bad_messages > 100);
    CHECK(raft_status(f.r).commit > 100);
    blob_unref(ctx);
    fix_free(&f);
}

int main(void)
{
    test_newer_term_makes_follower();
    test_stale_term_is_ignored();

    test_election_timeout_is_random();
    test_votes_decide();
    test_votes_that_do_not_count();
    test_one_vote_per_term();
    test_candidate_follows_leader_of_its_term();
    test_rejected_candidate_does_not_restart_timer();
    test_only_voter_leads_at_once();

    test_votes_wait_for_disk();
    test_own_vote_waits_for_disk();
    test_rejections_do_not_wait();
    test_appends_wait_for_disk();
    test_accept_waits_for_term();
    test_overwritten_write_does_not_count();
    test_taken_back_is_not_accepted();
    test_leader_disk_is_one_of_many();

    test_append_table();
    test_follower_commit_table();
    test_reject_hints();
    test_append_below_commit();
    test_figure_7();
    test_up_to_date_table();
    test_figure_8();
    test_commit_table();

    test_probe_then_pipeline();
    test_unreachable();
    test_smallest_window();
    test_accept_of_nothing();
    test_lost_appends();
    test_append_size();
    test_commit_index_travels();
    test_heartbeat_commit();
    test_uncommitted_limit();
    test_proposals_of_others();
    test_proposal_of_nothing();

    test_install_snapshot();
    test_snapshot_replaces_snapshot();
    test_snapshot_refused();
    test_snapshot_impossible();
    test_leader_sends_snapshot();
    test_wanted_behind_snapshot();
    test_no_snapshot_for_the_silent();

    test_one_change_at_a_time();
    test_change_of_follower();
    test_change_table();
    test_removal_commits();
    test_learner();
    test_campaign_waits_for_changes();
    test_snapshot_overtakes_changes();

    test_transfer();
    test_timeout_now();
    test_transfer_on_request();
    test_check_quorum();
    test_lease_expires();
    test_pre_vote();
    test_skip_election_ticks();
    test_heartbeat_interval();

    test_read_single_voter();
    test_read_quorum();
    test_read_round_lost();
    test_read_dropped_with_leadership();
    test_reads_are_bounded();
    test_read_context_of_another();
    test_read_of_follower();
    test_follower_asks_leader();

    test_ready_of_single_voter();
    test_ready_is_bounded();
    test_conf_change_commit_is_synced();
    test_restart();
    test_bad_config();

    test_lines();
    test_progress();
    test_bad_messages();
    test_impossible_for_role();
    test_noise();
    return check_done("raft");
}
