/*
 * ctlsnapshot.c - snapshot status and restore, and defrag of a directory: of
 * files alone, no server is asked. They are commands of etcdctl and of etcdutl.
 *
 * RESTORE makes the data directory of one member of a new cluster:
 *
 *   member/snap/db              the snapshot, without the old cluster's members
 *   member/snap/<1>-<N>.snap    the v2 store, which holds the N new members
 *   member/wal/                 N changes of membership, committed, and the
 *                               mark of that snapshot
 *
 * The log comes last and gets its name last: without it nobody takes the
 * directory for a member's. Each member of the new cluster is restored by
 * itself from the same file; what they have in common follows from
 * --initial-cluster, as when a cluster is founded.
 */
#include "ctlsnapshot.h"

#include "backend.h"
#include "cluster.h"
#include "ctldata.h"
#include "ctldb.h"
#include "log.h"
#include "net.h"
#include "snap.h"
#include "sys.h"
#include "wal.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#define LEARNERS_MAX 1
#define TERM 1 /* of all that is founded */

const struct ctl_option ctlv3_restore_options[] = {
    {"data-dir", NULL, CTL_STRING, "\"\"", "Path to the data directory"},
    {"wal-dir", NULL, CTL_STRING, "\"\"",
     "Path to the WAL directory (use --data-dir if none given)"},
    {"name", NULL, CTL_STRING, "\"default\"",
     "Human-readable name for this member"},
    {"initial-cluster", NULL, CTL_STRING, "\"default=http://localhost:2380\"",
     "Initial cluster configuration for restore bootstrap"},
    {"initial-cluster-token", NULL, CTL_STRING, "\"etcd-cluster\"",
     "Initial cluster token for the etcd cluster during restore bootstrap"},
    {"initial-advertise-peer-urls", NULL, CTL_STRING,
     "\"http://localhost:2380\"",
     "List of this member's peer URLs to advertise to the rest of the "
     "cluster"},
    {"skip-hash-check", NULL, CTL_BOOL, NULL,
     "Ignore snapshot integrity hash value (required if copied from data "
     "directory)"},
    {0},
};

/* --- Defrag. ------------------------------------------------------------------------ */

int ctlv3_defrag_dir(const char *data_dir)
{
    char *db;
    struct err e;
    int rc = 0, pid;

    if (ctl_data_in_use(data_dir, "", &pid))
        return ctlv3_fail(CTLV3_ERROR,
                          "%s is in use by process %d; stop it first, or use "
                          "etcdctl defrag without --data-dir",
                          data_dir, pid);
    db = xasprintf("%s/member/snap/db", data_dir);
    if (ctl_db_copy(db, db, CTL_DB_ALL, 0, &e) != 0)
        rc = ctlv3_fail(CTLV3_ERROR, "%s", e.msg);
    free(db);
    return rc;
}

/* --- Status. ------------------------------------------------------------------------ */

static void status_table(const struct backend_status *s, const char *size)
{
    struct ctlv3_table t = {.n_columns = 4};

    ctlv3_table_add(&t, "HASH");
    ctlv3_table_add(&t, "REVISION");
    ctlv3_table_add(&t, "TOTAL KEYS");
    ctlv3_table_add(&t, "TOTAL SIZE");
    ctlv3_table_add(&t, "%" PRIx32, s->hash);
    ctlv3_table_add(&t, "%" PRId64, s->revision);
    ctlv3_table_add(&t, "%" PRIu64, s->total_keys);
    ctlv3_table_add(&t, "%s", size);
    ctlv3_table_print(&t);
}

static int print_status(const struct ctl *c, const struct backend_status *s)
{
    struct buf size = {0};

    ctlv3_human_bytes(&size, s->total_size);
    switch (c->v3->format) {
    case CTLV3_SIMPLE:
        printf("%" PRIx32 ", %" PRId64 ", %" PRIu64 ", %s\n", s->hash,
               s->revision, s->total_keys, buf_z(&size));
        break;
    case CTLV3_JSON:
        printf("{\"hash\":%" PRIu32 ",\"revision\":%" PRId64
               ",\"totalKey\":%" PRIu64 ",\"totalSize\":%" PRIu64 "}\n",
               s->hash, s->revision, s->total_keys, s->total_size);
        break;
    case CTLV3_FIELDS:
        printf("\"Hash\" : %" PRIu32 "\n\"Revision\" : %" PRId64
               "\n\"Keys\" : %" PRIu64 "\n\"Size\" : %" PRIu64 "\n",
               s->hash, s->revision, s->total_keys, s->total_size);
        break;
    case CTLV3_TABLE:
        status_table(s, buf_z(&size));
        break;
    case CTLV3_PROTOBUF:
        buf_release(&size);
        return ctlv3_unsupported(c);
    }
    buf_release(&size);
    return 0;
}

int ctlv3_snapshot_status(struct ctl *c)
{
    struct backend_status s;
    struct stat st;
    struct err e;

    if (c->n_args != 1)
        return ctlv3_fail(CTLV3_BAD_ARGS,
                          "snapshot status requires exactly one argument");
    if (stat(c->args[0], &st) != 0)
        return ctlv3_fail(CTLV3_ERROR, "stat %s: %s", c->args[0],
                          net_errno_text(errno));
    if (backend_status(c->args[0], &s, &e) != 0)
        return ctlv3_fail(CTLV3_ERROR, "%s", e.msg);
    return print_status(c, &s);
}

/* --- Restore: what is to be made. ------------------------------------------------- */

struct restore {
    const char *file, *data_dir;
    char *snap_dir, *wal_dir, *default_dir;
    struct cluster *plan; /* the members of --initial-cluster */
    struct member self;
    struct member *members;
    size_t n;
};

static void restore_release(struct restore *r)
{
    free(r->snap_dir);
    free(r->wal_dir);
    free(r->default_dir);
    cluster_free(r->plan);
    member_release(&r->self);
    members_free(r->members, r->n);
}

/* What the server says of --initial-cluster, as etcdctl puts it. */
static void reword(const char *members, const char *name, struct err *e)
{
    static const char server[] = "error setting up initial cluster: ";
    struct err said = *e;

    if (members[strspn(members, ", ")] == '\0')
        err_set(e, said.code,
                "couldn't find local name \"%s\" in the initial cluster "
                "configuration",
                name);
    else if (str_has_prefix(str_of(said.msg), server))
        err_set(e, said.code, "%s", said.msg + strlen(server));
}

static int plan_cluster(struct ctl *c, struct restore *r, struct err *e)
{
    const char *name = ctl_string(c, "name", "default");
    const char *urls =
        ctl_string(c, "initial-advertise-peer-urls", "http://localhost:2380");
    const char *members =
        ctl_string(c, "initial-cluster", "default=http://localhost:2380");
    struct url_list list;
    int rc;

    r->plan = cluster_new();
    rc = cluster_from_flag(
        r->plan, members,
        ctl_string(c, "initial-cluster-token", "etcd-cluster"), e);
    if (rc != 0)
        reword(members, name, e);
    if (rc != 0 || url_list_parse(str_of(urls), &list, e) != 0)
        return -1;
    rc = cluster_check_local(r->plan, name, &list, e);
    url_list_release(&list);
    if (rc != 0 || !cluster_member_by_name(r->plan, name, &r->self))
        return -1;
    r->n = cluster_members(r->plan, &r->members);
    return 0;
}

/* Nobody's data is overwritten: a directory must be new or empty. */
static int check_empty(const char *what, const char *path)
{
    char **names;
    size_t n = 0;
    struct err e;

    if (!sys_exists(path))
        return 0;
    if (sys_list_dir(path, &names, &n, &e) == 0) {
        sys_free_list(names, n);
        if (n == 0)
            return 0;
    }
    return ctlv3_fail(CTLV3_ERROR, "%s \"%s\" exists", what, path);
}

static int plan_dirs(struct ctl *c, struct restore *r)
{
    const char *wal = ctl_string(c, "wal-dir", "");
    int rc;

    r->default_dir = xasprintf("%s.etcd", ctl_string(c, "name", "default"));
    r->data_dir = ctl_string(c, "data-dir", "");
    if (!r->data_dir[0])
        r->data_dir = r->default_dir;
    r->snap_dir = xasprintf("%s/member/snap", r->data_dir);
    r->wal_dir =
        wal[0] ? xstrdup(wal) : xasprintf("%s/member/wal", r->data_dir);
    rc = check_empty("data-dir", r->data_dir);
    return rc ? rc : check_empty("wal-dir", r->wal_dir);
}

/* A snapshot that was downloaded ends in its own hash. */
static int check_hash(struct ctl *c, const char *file)
{
    enum backend_trailer trailer;
    uint64_t bytes;
    struct err e;

    if (ctl_bool(c, "skip-hash-check"))
        return 0;
    if (backend_check_trailer(file, &trailer, &bytes, &e) != 0)
        return ctlv3_fail(CTLV3_ERROR, "%s", e.msg);
    if (trailer == BACKEND_NO_TRAILER)
        return ctlv3_fail(CTLV3_ERROR,
                          "snapshot missing hash but --skip-hash-check=false");
    if (trailer == BACKEND_TRAILER_BAD)
        return ctlv3_fail(CTLV3_ERROR,
                          "expected sha256 that the last 32 bytes of %s tell, "
                          "got another: the file is damaged",
                          file);
    return 0;
}

/* --- Restore: making it. ------------------------------------------------------------ */

/* The change that founded member i: entry i+1 of the log. */
static void founding_entry(const struct restore *r, size_t i,
                           struct raft_entry *out)
{
    struct buf json = {0}, data = {0};
    struct raft_conf_change cc = {.type = RAFT_ADD_NODE,
                                  .node_id = r->members[i].id};

    member_json(&json, &r->members[i], -1);
    cc.context = buf_str(&json);
    raftpb_encode_conf_change(&data, &cc);
    *out = (struct raft_entry){
        .type = RAFT_ENTRY_CONF_CHANGE,
        .term = TERM,
        .index = i + 1,
        .data = blob_new(data.data, data.len),
    };
    buf_release(&json);
    buf_release(&data);
}

static int write_snapshot(const struct restore *r,
                          const struct raft_entry *entries, struct err *e)
{
    struct store *store = store_new();
    struct cluster *cluster = cluster_new();
    struct raft_snapshot snap = {.index = r->n, .term = TERM};
    struct store_view *view;
    struct buf json = {0};
    struct str data;
    int rc;

    cluster_set_id(cluster, cluster_id(r->plan));
    for (size_t i = 0; i < r->n; i++)
        cluster_replay(cluster, store, &entries[i], LEARNERS_MAX);
    view = store_pin(store);
    store_view_json(&json, view);
    data = buf_str(&json);
    snap.conf_state.voters.ids = xcalloc(r->n, sizeof(raft_id));
    snap.conf_state.voters.n = r->n;
    for (size_t i = 0; i < r->n; i++)
        snap.conf_state.voters.ids[i] = r->members[i].id;
    rc = snap_save(r->snap_dir, &snap, snap_source_str, &data, false, e);
    raft_conf_state_release(&snap.conf_state);
    buf_release(&json);
    store_unpin(view);
    store_free(store);
    cluster_free(cluster);
    return rc;
}

static int write_log(const struct restore *r, const struct raft_entry *entries,
                     struct err *e)
{
    struct wal_metadata ids = {r->self.id, cluster_id(r->plan)};
    struct raft_hard_state hs = {.term = TERM, .commit = r->n};
    struct wal_snapshot at = {r->n, TERM};
    struct wal *w = NULL;
    int rc = wal_create(r->wal_dir, &ids, false, &w, e);

    assert(r->members);
    hs.vote = r->members[0].id;
    if (rc == 0)
        rc = wal_append(w, &hs, entries, r->n, e);
    if (rc == 0)
        rc = wal_sync(w, e);
    if (rc == 0)
        rc = wal_append_snapshot(w, at, NULL, e);
    if (rc == 0)
        rc = wal_sync(w, e);
    wal_close(w);
    return rc;
}

static int write_all(const struct restore *r, struct err *e)
{
    struct raft_entry *entries = xcalloc(r->n, sizeof(*entries));
    char *db = xasprintf("%s/db", r->snap_dir);
    int rc;

    for (size_t i = 0; i < r->n; i++)
        founding_entry(r, i, &entries[i]);
    rc = sys_mkdir_all(r->snap_dir, 0700, e);
    if (rc == 0)
        rc = ctl_db_copy(r->file, db, CTL_DB_TRIM, r->n, e);
    if (rc == 0)
        rc = write_snapshot(r, entries, e);
    if (rc == 0)
        rc = write_log(r, entries, e);
    for (size_t i = 0; i < r->n; i++)
        blob_unref(entries[i].data);
    free(entries);
    free(db);
    return rc;
}

static void tell_members(const struct restore *r)
{
    for (size_t i = 0; i < r->n; i++)
        for (size_t k = 0; k < r->members[i].n_peer_urls; k++)
            log_notice("etcdctl",
                       "added member %" PRIx64 " [%s] to cluster %" PRIx64,
                       r->members[i].id, r->members[i].peer_urls[k],
                       cluster_id(r->plan));
    log_notice("etcdctl", "restored %s to %s", r->file, r->data_dir);
}

int ctlv3_snapshot_restore(struct ctl *c)
{
    struct restore r = {0};
    struct stat st;
    struct err e;
    int rc;

    if (c->n_args != 1)
        return ctlv3_fail(CTLV3_BAD_ARGS,
                          "snapshot restore requires exactly one argument");
    r.file = c->args[0];
    if (plan_cluster(c, &r, &e) != 0)
        rc = ctlv3_fail(CTLV3_ERROR, "%s", e.msg);
    else
        rc = plan_dirs(c, &r);
    if (rc == 0 && stat(r.file, &st) != 0)
        rc = ctlv3_fail(CTLV3_ERROR, "open %s: %s", r.file,
                        net_errno_text(errno));
    if (rc == 0)
        rc = check_hash(c, r.file);
    if (rc == 0 && write_all(&r, &e) != 0)
        rc = ctlv3_fail(CTLV3_ERROR, "%s", e.msg);
    if (rc == 0)
        tell_members(&r);
    restore_release(&r);
    return rc;
}
