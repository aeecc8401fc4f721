/*
 * boot_test.c - what a member starts from, where --force-new-cluster has been
 * asked for: data directories of each kind, whole and after a crash in the
 * middle of forcing. What boot_load() returns is put through raft as the
 * server does it, to see who votes in the end and under which URLs.
 */
#include "boot.h"
#include "check.h"
#include "log.h"
#include "snap.h"
#include "sys.h"

#include <inttypes.h>
#include <unistd.h>

/* Nobody listens there. */
#define URL1 "http://127.0.0.1:1"
#define URL2 "http://127.0.0.1:2"
#define URL3 "http://127.0.0.1:3"
#define THREE "n1=" URL1 ",n2=" URL2 ",n3=" URL3

static char *dir;
static struct err err;

static struct url_list one_url(const char *text)
{
    struct str s = str_of(text);
    struct url_list l;

    if (url_list_of(&s, 1, &l, NULL) < 0)
        abort();
    return l;
}

static struct config config_for(const char *name, const char *url)
{
    return (struct config){
        .name = xstrdup(name),
        .data_dir = xasprintf("%s/%s", dir, name),
        .wal_dir = xstrdup(""),
        .member_dir = xasprintf("%s/%s/member", dir, name),
        .snap_dir = xasprintf("%s/%s/member/snap", dir, name),
        .initial_cluster = xstrdup(THREE),
        .initial_cluster_token = xstrdup("t"),
        .discovery = xstrdup(""),
        .initial_advertise_peer_urls = one_url(url),
        .max_learners = 1,
        .heartbeat_ms = 100,
        .election_ms = 1000,
        .unsafe_no_fsync = true,
    };
}

static void config_free(struct config *c)
{
    free(c->name);
    free(c->data_dir);
    free(c->wal_dir);
    free(c->member_dir);
    free(c->snap_dir);
    free(c->initial_cluster);
    free(c->initial_cluster_token);
    free(c->discovery);
    url_list_release(&c->initial_advertise_peer_urls);
}

/* --- What becomes of it. ------------------------------------------------ */

struct outcome {
    struct raft_conf_state conf;
    struct member *m;
    size_t n;
    raft_index last;
    raft_term term;
};

static void outcome_release(struct outcome *o)
{
    raft_conf_state_release(&o->conf);
    members_free(o->m, o->n);
}

static void apply(struct raft *r, struct cluster *c,
                  const struct raft_entry *entry)
{
    struct raft_conf_change_v2 cc, none = {.n = 0};
    struct str data = blob_str(entry->data);

    if (entry->type == RAFT_ENTRY_NORMAL)
        return;
    CHECK(raftpb_decode_conf_change_v2(data.p, data.n, &cc) == 0);
    if (cluster_validate(c, &cc.changes[0], 1) != 0)
        cc = none;
    raft_apply_conf_change(r, &cc);
    if (cc.n)
        cluster_apply(c, NULL, &cc.changes[0], 0);
}

/* All that is committed is applied, as a start of the server does. */
static struct outcome settle(struct boot *b)
{
    struct raft_config rc = {.id = b->id,
                             .election_ticks = 10,
                             .heartbeat_ticks = 1,
                             .msg_bytes_max = 1 << 20};
    struct raft_initial init = boot_raft_initial(b);
    struct outcome o = {.last = b->snapshot.index + b->contents.n_entries,
                        .term = b->contents.hard_state.term};
    struct cluster *c = b->fresh ? cluster_new() : cluster_copy(b->cluster);
    raft_index applied = b->snapshot.index;
    struct raft_ready rd;
    struct raft *r;

    if (raft_new(&rc, &init, &r, &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        abort();
    }
    while (raft_ready(r, &rd)) {
        struct raft_entry *e = raft_entries_dup(rd.committed, rd.n_committed);
        size_t n = rd.n_committed;
        uint64_t seq = rd.disk_seq;

        raft_advance(r);
        if (seq)
            raft_stable(r, seq);
        for (size_t i = 0; i < n; i++) {
            apply(r, c, &e[i]);
            applied = e[i].index;
        }
        raft_applied(r, applied);
        raft_entries_free(e, n);
    }
    raft_conf_state_copy(&o.conf, raft_conf_state(r));
    o.n = cluster_members(c, &o.m);
    raft_free(r);
    cluster_free(c);
    return o;
}

/* This member alone, a voter, under this URL, in raft and in the cluster. */
static void check_alone(struct boot *b, const char *url)
{
    struct outcome o = settle(b);

    CHECK(o.conf.voters.n == 1 && o.conf.voters.ids[0] == b->id);
    CHECK(o.conf.learners.n == 0);
    CHECK(o.n == 1 && o.m[0].id == b->id && !o.m[0].is_learner);
    CHECK(o.n == 1 && o.m[0].n_peer_urls == 1 &&
          strcmp(o.m[0].peer_urls[0], url) == 0);
    CHECK(b->contents.hard_state.commit == o.last);
    outcome_release(&o);
}

/* --- Data directories. -------------------------------------------------- */

static void wipe(const struct config *c)
{
    if (sys_exists(c->data_dir) && sys_remove_all(c->data_dir, &err) < 0)
        abort();
}

static int load(struct config *c, bool force, struct boot *b)
{
    c->force_new_cluster = force;
    return boot_load(c, b, &err);
}

static uint64_t id_of(const char *name)
{
    struct cluster *c = cluster_new();
    struct member m = {0};
    uint64_t id;

    if (cluster_from_flag(c, THREE, "t", &err) < 0 ||
        !cluster_member_by_name(c, name, &m))
        abort();
    id = m.id;
    cluster_free(c);
    member_release(&m);
    return id;
}

/* A log of its own making. */
struct script {
    struct wal_metadata ids;
    struct raft_hard_state hs;
    struct raft_entry e[32];
    size_t n;
    struct raft_snapshot snap; /* the entries stand behind it */
};

static void script_release(struct script *s)
{
    for (size_t i = 0; i < s->n; i++)
        raft_entry_release(&s->e[i]);
    raft_snapshot_release(&s->snap);
}

static struct raft_entry *add_entry(struct script *s, raft_term term)
{
    struct raft_entry *e = &s->e[s->n];

    *e = (struct raft_entry){.term = term, .index = s->snap.index + s->n + 1};
    s->n++;
    return e;
}

static void add_change(struct script *s, raft_term term,
                       enum raft_conf_change_type type, uint64_t id,
                       const char *url, bool learner)
{
    struct raft_entry *e = add_entry(s, term);
    char *urls[] = {(char *)url};
    struct member m = {.id = id,
                       .name = "",
                       .peer_urls = urls,
                       .n_peer_urls = url != NULL,
                       .is_learner = learner};
    struct raft_conf_change cc = {.type = type, .node_id = id};
    struct buf json = {0}, data = {0};

    member_json(&json, &m, -1);
    cc.context = buf_str(&json);
    raftpb_encode_conf_change(&data, &cc);
    e->type = RAFT_ENTRY_CONF_CHANGE;
    e->data = blob_new(data.data, data.len);
    buf_release(&json);
    buf_release(&data);
}

/* Of three, this one with an entry that it does not know to be committed. */
static struct script three(void)
{
    struct script s = {.ids = {id_of("n1"), 7}, .hs = {2, id_of("n2"), 3}};

    add_change(&s, 1, RAFT_ADD_NODE, id_of("n1"), URL1, false);
    add_change(&s, 1, RAFT_ADD_NODE, id_of("n2"), URL2, false);
    add_change(&s, 1, RAFT_ADD_NODE, id_of("n3"), URL3, false);
    add_entry(&s, 2);
    return s;
}

/* hs NULL: the crash came before it was written. */
static void make_dir(const struct config *c, const struct script *s,
                     const struct raft_entry *more, size_t n_more)
{
    char *path = xasprintf("%s/wal", c->member_dir);
    struct wal_snapshot at = {s->snap.index, s->snap.term};
    struct str data = blob_str(s->snap.data);
    struct wal *w;

    wipe(c);
    if (sys_mkdir_all(c->snap_dir, 0700, &err) < 0 ||
        wal_create(path, &s->ids, true, &w, &err) < 0)
        abort();
    if (s->snap.index &&
        (snap_save(c->snap_dir, &s->snap, snap_source_str, &data, true, &err) <
             0 ||
         wal_append_snapshot(w, at, NULL, &err) < 0 || wal_sync(w, &err) < 0))
        abort();
    if (wal_append(w, &s->hs, s->e, s->n, &err) < 0 || wal_sync(w, &err) < 0 ||
        wal_append(w, NULL, more, n_more, &err) < 0 || wal_sync(w, &err) < 0)
        abort();
    wal_close(w);
    free(path);
}

/*
 * Force a new cluster from it; then again from what a crash after each of the
 * entries, or before the commit index, would have left; then twice.
 */
static void check_forced(struct config *c, const struct script *s,
                         const char *url)
{
    struct raft_entry *forced;
    size_t n_forced;
    struct boot b;

    make_dir(c, s, NULL, 0);
    CHECK(load(c, true, &b) == 0);
    check_alone(&b, url);
    CHECK(b.contents.n_entries > s->n);
    n_forced = b.contents.n_entries - s->n;
    CHECK(b.contents.entries[s->n].term > s->hs.term);
    forced = raft_entries_dup(b.contents.entries + s->n, n_forced);
    boot_release(&b);

    for (size_t k = 0; k <= n_forced; k++) {
        make_dir(c, s, forced, k);
        CHECK(load(c, true, &b) == 0);
        check_alone(&b, url);
        boot_release(&b);
    }

    CHECK(load(c, true, &b) == 0); /* twice: nothing is left to do */
    CHECK(b.contents.n_entries == s->n + n_forced);
    check_alone(&b, url);
    boot_release(&b);
    CHECK(load(c, false, &b) == 0); /* and without the flag */
    check_alone(&b, url);
    boot_release(&b);
    raft_entries_free(forced, n_forced);
}

/* --- Tests. ------------------------------------------------------------- */

static void test_member(void)
{
    struct config c = config_for("n1", URL1);
    struct script s = three();

    check_forced(&c, &s, URL1);
    script_release(&s);
    config_free(&c);
}

/* The URL stays that of the cluster, whatever the flags say. */
static void test_other_url(void)
{
    struct config c = config_for("n1", URL3);
    struct script s = three();

    check_forced(&c, &s, URL1);
    script_release(&s);
    config_free(&c);
}

/* A backup: a new id, under the URL of one whom the log knows. */
static void test_backup(void)
{
    struct config c = config_for("n1", URL2);
    struct script s = three();

    s.ids = (struct wal_metadata){99, 98};
    check_forced(&c, &s, URL2);
    script_release(&s);
    config_free(&c);
}

/* What an earlier version left after a crash: a member without URLs. */
static void test_no_url(void)
{
    struct config c = config_for("n1", URL2);
    struct script s = three();

    s.ids.node_id = 99;
    add_change(&s, 2, RAFT_ADD_NODE, 99, NULL, false);
    check_forced(&c, &s, URL2);
    script_release(&s);
    config_free(&c);
}

static void test_learner(void)
{
    struct config c = config_for("n4", "http://127.0.0.1:4");
    struct script s = three();

    s.ids.node_id = 44;
    add_change(&s, 2, RAFT_ADD_LEARNER_NODE, 44, "http://127.0.0.1:4", true);
    check_forced(&c, &s, "http://127.0.0.1:4");
    script_release(&s);
    config_free(&c);
}

/* Changes that were refused when they were applied have changed nothing. */
static void test_refused_changes(void)
{
    struct config c = config_for("n1", URL1);
    struct script s = three();

    add_change(&s, 2, RAFT_ADD_NODE, 55, URL2, false); /* the URL is taken */
    add_change(&s, 2, RAFT_REMOVE_NODE, 56, NULL, false);
    check_forced(&c, &s, URL1);
    script_release(&s);
    config_free(&c);
}

/* Received from the leader, with all members but one in the snapshot. */
static void test_snapshot(void)
{
    struct config c = config_for("n4", "http://127.0.0.1:4");
    struct script s = {.ids = {44, 7}, .hs = {5, 0, 100}}, t = three();
    struct cluster *all = cluster_new();
    struct store *store = store_new();
    struct store_view *view;
    struct buf json = {0};

    add_change(&t, 2, RAFT_ADD_LEARNER_NODE, 44, "http://127.0.0.1:4", true);
    for (size_t i = 0; i < t.n; i++)
        cluster_replay(all, store, &t.e[i], 1);
    view = store_pin(store);
    store_view_json(&json, view);
    store_unpin(view);
    s.snap = (struct raft_snapshot){
        .index = 100, .term = 4, .data = blob_new(json.data, json.len)};
    for (int i = 1; i <= 3; i++) {
        char name[] = {'n', (char)('0' + i), '\0'};

        raft_ids_add(&s.snap.conf_state.voters, id_of(name));
    }
    raft_ids_add(&s.snap.conf_state.learners, 44);
    add_entry(&s, 5);
    check_forced(&c, &s, "http://127.0.0.1:4");
    buf_release(&json);
    store_free(store);
    cluster_free(all);
    script_release(&s);
    script_release(&t);
    config_free(&c);
}

static void test_removed(void)
{
    struct config c = config_for("n1", URL1);
    struct script s = three();
    struct boot b;

    add_change(&s, 2, RAFT_REMOVE_NODE, s.ids.node_id, NULL, false);
    make_dir(&c, &s, NULL, 0);
    CHECK(load(&c, true, &b) < 0);
    CHECK(strstr(err.msg, "was removed") && strstr(err.msg, "etcdctl backup"));
    CHECK(load(&c, false, &b) == 0); /* nothing was written */
    CHECK(b.contents.n_entries == s.n);
    boot_release(&b);
    script_release(&s);
    config_free(&c);
}

int main(void)
{
    const char *tmp = getenv("TMPDIR");

    dir = xasprintf("%s/boot_test.XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(dir))
        return 1;
    log_set_level(LOG_ERROR);
    wal_set_segment_bytes(64 * 1024); /* quick to allocate */
    test_member();
    test_other_url();
    test_backup();
    test_no_url();
    test_learner();
    test_refused_changes();
    test_snapshot();
    test_removed();
    sys_remove_all(dir, &err);
    free(dir);
    return check_done("boot_test");
}
