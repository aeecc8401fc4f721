/*
 * ctldata_test.c - etcdctl recover status over data directories made for it:
 * logs that agree, lag, fork and contradict each other, another cluster's, a
 * snapshot alone, torn and damaged ones. What is printed is what counts.
 */
#include "check.h"
#include "child.h"
#include "cluster.h"
#include "ctl.h"
#include "ctldata.h"
#include "ctldb.h"
#include "etcdpb.h"
#include "snap.h"
#include "store.h"
#include "sys.h"
#include "wal.h"

#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

static char *base;
static struct err err;

/* --- Data directories. -------------------------------------------------- */

static char *data_dir(const char *name)
{
    return xasprintf("%s/%s", base, name);
}

static char *first_segment(const char *name)
{
    return xasprintf("%s/%s/member/wal/0000000000000000-0000000000000000.wal",
                     base, name);
}

static struct wal *make(const char *name, uint64_t id, uint64_t cluster)
{
    struct wal_metadata m = {id, cluster};
    char *snap = xasprintf("%s/%s/member/snap", base, name);
    char *path = xasprintf("%s/%s/member/wal", base, name);
    struct wal *w;

    if (sys_mkdir_all(snap, 0700, &err) < 0 ||
        wal_create(path, &m, true, &w, &err) < 0)
        abort();
    free(snap);
    free(path);
    return w;
}

static void append(struct wal *w, const struct raft_entry *e,
                   struct raft_hard_state hs)
{
    CHECK(wal_append(w, &hs, e, 1, &err) == 0 && wal_sync(w, &err) == 0);
}

/* Entries 1..3: members 1, 2 and 3 at the URLs of their names. */
static void add_three(struct wal *w)
{
    for (uint64_t id = 1; id <= 3; id++) {
        char *url = xasprintf("http://10.0.0.%" PRIu64 ":2380", id);
        struct member m = {
            .id = id, .name = "", .peer_urls = &url, .n_peer_urls = 1};
        struct raft_conf_change cc = {.type = RAFT_ADD_NODE, .node_id = id};
        struct buf json = {0}, data = {0};
        struct raft_entry e = {
            .type = RAFT_ENTRY_CONF_CHANGE, .term = 1, .index = id};

        member_json(&json, &m, -1);
        cc.context = buf_str(&json);
        raftpb_encode_conf_change(&data, &cc);
        e.data = blob_new(data.data, data.len);
        append(w, &e, (struct raft_hard_state){1, 0, id});
        blob_unref(e.data);
        buf_release(&json);
        buf_release(&data);
        free(url);
    }
}

static void put(struct wal *w, raft_index index, raft_term term,
                const char *key, raft_index commit)
{
    struct v2_request r = {.id = index,
                           .method = STR("PUT"),
                           .path = str_of(key),
                           .val = STR("v")};
    struct raft_entry e = {.term = term, .index = index};
    struct buf data = {0};

    etcdpb_encode_v2_request(&data, &r);
    e.data = blob_new(data.data, data.len);
    append(w, &e, (struct raft_hard_state){term, 0, commit});
    blob_unref(e.data);
    buf_release(&data);
}

/* Member id, of the three, with writes 4..last of term 2. */
static struct wal *member(const char *name, uint64_t id, raft_index last,
                          raft_index commit)
{
    struct wal *w = make(name, id, 7);

    add_three(w);
    for (raft_index i = 4; i <= last; i++) {
        char *key = xasprintf("/1/k%" PRIu64, i);

        put(w, i, 2, key, i < last ? 3 : commit);
        free(key);
    }
    return w;
}

/* --- The command. ------------------------------------------------------- */

static struct buf out;
static int status;

/* Of up to three directories; NULL: no more. */
static void run_status(const char *a, const char *b, const char *c)
{
    const char *names[] = {a, b, c};
    char *argv[8] = {"etcdctl", "recover", "status"};
    int argc = 3;

    for (size_t i = 0; i < 3; i++)
        if (names[i])
            argv[argc++] = data_dir(names[i]);
    buf_clear(&out);
    status = run_main(etcdctl_main, argc, argv, &out);
    for (int i = 3; i < argc; i++)
        free(argv[i]);
}

/* %s in want stands for the base directory. */
static bool says(const char *want)
{
    const char *at = strstr(want, "%s");
    char *text =
        at ? xasprintf("%.*s%s%s", (int)(at - want), want, base, at + 2)
           : xstrdup(want);
    bool found = strstr(buf_z(&out), text) != NULL;

    if (!found)
        fprintf(stderr, "no \"%s\" in:\n%s\n", text, buf_z(&out));
    free(text);
    return found;
}

/* --- Tests. ------------------------------------------------------------- */

static void test_one(void)
{
    wal_close(member("one", 1, 6, 5));
    run_status("one", NULL, NULL);
    CHECK(status == 0);
    CHECK(says("  member       1, cluster 7\n"));
    CHECK(says("term         2, vote 0, commit index 5\n"));
    CHECK(says("last index 6 of term 2, snapshot index 0; 1 segment, "));
    CHECK(says("  keys         3, X-Etcd-Index "));
    CHECK(says("last write   set /k6, modifiedIndex "));
    CHECK(says(", raft index 6 of term 2\n"));
    CHECK(says("health       clean\n"));
    CHECK(says("entries 6 to 6 stand behind the commit index"));
    CHECK(says("1 of 3 voting members are here, which is no quorum"));
    CHECK(says("behind raft index 6, is lost with them"));
    CHECK(says("cp -a %s/one "));
    CHECK(says("--force-new-cluster --listen-peer-urls http://10.0.0.1:2380 "));
    CHECK(says("member add NAME http://10.0.0.2:2380\n"));
}

static void test_behind(void)
{
    wal_close(member("ahead", 1, 20, 19));
    wal_close(member("behind", 2, 5, 5));
    run_status("behind", "ahead", NULL);
    CHECK(says("ahead is the most advanced, as raft compares: term 2, index "
               "20."));
    CHECK(says("behind agree up to raft index 5."));
    CHECK(says("lacks raft indexes 6 to 20 of "));
    CHECK(says(": 15 writes: set /k6, set /k7, "));
    CHECK(says("set /k15 and 5 more."));
    CHECK(says("2 of 3 voting members are here and can be started, a quorum"));
    CHECK(strstr(buf_z(&out), "cp -a") == NULL);
}

/* A leader of term 2 was alone with its last entries; term 3 went on. */
static void test_fork(void)
{
    struct wal *w = member("fork2", 1, 8, 5);

    wal_close(w);
    w = member("fork3", 2, 6, 5);
    put(w, 7, 3, "/1/new", 7);
    wal_close(w);
    run_status("fork2", "fork3", NULL);
    CHECK(says("%s/fork3 is the most advanced"));
    CHECK(says("agree up to raft index 6."));
    CHECK(says("fork2 lacks raft indexes 7 to 7 of "));
    CHECK(says("1 write: set /new."));
    CHECK(says("fork3 lacks raft indexes 7 to 8 of "));
    CHECK(says("They are of an older term"));
}

static void test_contradiction(void)
{
    struct wal *w = member("other", 1, 8, 8);

    wal_close(w);
    w = member("forced", 2, 6, 6);
    put(w, 7, 3, "/1/new", 7);
    wal_close(w);
    run_status("other", "forced", NULL);
    CHECK(says("CONTRADICT each other behind index 6"));
    CHECK(strstr(buf_z(&out), "Next:") == NULL);
}

static void test_other_cluster(void)
{
    struct wal *w = make("stranger", 9, 8);

    add_three(w);
    wal_close(w);
    run_status("one", "stranger", NULL);
    CHECK(says("cannot be compared"));
    CHECK(strstr(buf_z(&out), "Next:") == NULL);
}

/* All that was written stands in the snapshot; version: of the cluster. */
static void make_snapshot(const char *name, const char *version)
{
    struct wal *w = make(name, 1, 7);
    struct raft_snapshot s = {.index = 40, .term = 2};
    struct raft_hard_state hs = {2, 0, 40};
    char *dir = xasprintf("%s/%s/member/snap", base, name);
    struct store *store = store_new();
    struct store_put p = {.path = STR("/1/a/b"), .value = STR("v")};
    struct store_put of = {.path = STR("/0/version"), .value = str_of(version)};
    struct store_event *event;
    struct store_error error;
    struct store_view *view;
    struct buf json = {0};
    struct str data;

    CHECK(store_set(store, &p, 0, &event, &error) == 0);
    store_event_unref(event);
    CHECK(store_delete(store, STR("/1/a/b"), false, false, 0, &event, &error) ==
          0);
    store_event_unref(event);
    CHECK(store_set(store, &of, 0, &event, &error) == 0);
    store_event_unref(event);
    view = store_pin(store);
    store_view_json(&json, view);
    store_unpin(view);
    data = buf_str(&json);
    raft_ids_add(&s.conf_state.voters, 1);
    CHECK(snap_save(dir, &s, snap_source_str, &data, true, &err) == 0);
    CHECK(wal_append_snapshot(w, (struct wal_snapshot){40, 2}, NULL, &err) ==
          0);
    CHECK(wal_sync(w, &err) == 0);
    CHECK(wal_append(w, &hs, NULL, 0, &err) == 0 && wal_sync(w, &err) == 0);
    wal_close(w);
    store_free(store);
    raft_snapshot_release(&s);
    buf_release(&json);
    free(dir);
}

static void test_snapshot(void)
{
    make_snapshot("snapshot", "2.3.0");
    run_status("snapshot", NULL, NULL);
    CHECK(status == 0);
    CHECK(says("last index 40 of term 2, snapshot index 40"));
    CHECK(says("keys         0, "));
    CHECK(says("last write   delete /a/b, modifiedIndex 2, in the snapshot"));

    run_status("snapshot", "one", NULL);
    CHECK(says("one ends at raft index 6, before the snapshot of "));
}

/* The v3 state must be there beside a snapshot of etcd 3's, and as new. */
static void test_v3_state(void)
{
    char *dir = data_dir("v3"), *db = xasprintf("%s/member/snap/db", dir);

    make_snapshot("v3", "3.4.0");
    run_status("v3", NULL, NULL);
    CHECK(status == 5);
    CHECK(says("health       damaged: the v3 state, %s/v3/member/snap/db, is "
               "missing beside the snapshot at index 40: restore that file"));
    CHECK(says("recover rejoin %s/v3\n"));

    CHECK(ctl_db_add(db, NULL, 0, 39, &err) == 0);
    run_status("v3", NULL, NULL);
    CHECK(status == 5 && says("is older than the snapshot at index 40"));

    CHECK(ctl_db_add(db, NULL, 0, 40, &err) == 0);
    run_status("v3", NULL, NULL);
    CHECK(status == 0 && says("health       clean"));

    CHECK(truncate(db, 100) == 0);
    run_status("v3", NULL, NULL);
    CHECK(status == 5 && says("health       damaged: "));
    free(db);
    free(dir);
}

static int64_t log_bytes(const char *name)
{
    char *dir = data_dir(name);
    struct ctl_data d;
    int64_t n = -1;

    if (ctl_data_read(dir, "", &d, &err) == 0) {
        n = d.wal_bytes;
        ctl_data_release(&d);
    }
    free(dir);
    return n;
}

static void test_torn_and_damaged(void)
{
    char *path = first_segment("torn");
    struct buf before = {0}, after = {0};
    int64_t end;
    int fd;

    wal_close(member("torn", 3, 6, 5));
    end = log_bytes("torn");
    if (truncate(path, end - 8) < 0) /* within the last state */
        abort();
    CHECK(sys_read_file(path, 1 << 26, &before, &err) == 0);
    run_status("torn", NULL, NULL);
    CHECK(status == 0);
    CHECK(says("health       torn tail: the next start cuts "));
    CHECK(says(" from offset "));
    CHECK(sys_read_file(path, 1 << 26, &after, &err) == 0);
    CHECK(str_eq(buf_str(&before), buf_str(&after)));

    fd = open(path, O_WRONLY);
    CHECK(pwrite(fd, "\xff", 1, 200) == 1);
    close(fd);
    run_status("one", "torn", NULL);
    CHECK(status == 5);
    CHECK(says("health       damaged: wal: "));
    CHECK(says(" at offset "));
    CHECK(says("%s/one: entries 6 to 6")); /* it is the only one that counts */
    CHECK(says("recover rejoin %s/torn\n"));
    buf_release(&before);
    buf_release(&after);
    free(path);
}

static void test_no_data_dir(void)
{
    char *dir = data_dir("one");
    char *empty = data_dir("empty/member");

    run_status("nowhere", "one", NULL);
    CHECK(status == 1 && says("no such file") && says("last write"));
    if (sys_mkdir_all(empty, 0700, &err) < 0)
        abort();
    run_status("empty", NULL, NULL);
    CHECK(status == 1 && says("there is no log in "));
    run_status("one/member", NULL, NULL);
    CHECK(status == 1 && says("it looks like the member directory"));
    free(dir);
    free(empty);
}

int main(void)
{
    const char *tmp = getenv("TMPDIR");

    base = xasprintf("%s/ctldata_test.XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(base))
        return 1;
    unsetenv("ETCDCTL_API");
    wal_set_segment_bytes(64 * 1024); /* quick to allocate */
    test_one();
    test_behind();
    test_fork();
    test_contradiction();
    test_other_cluster();
    test_snapshot();
    test_v3_state();
    test_torn_and_damaged();
    test_no_data_dir();
    sys_remove_all(base, &err);
    free(base);
    buf_release(&out);
    return check_done("ctldata_test");
}
