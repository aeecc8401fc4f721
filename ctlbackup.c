/*
 * ctlbackup.c - etcdctl backup: an offline copy of a member's data, to begin
 * a new cluster from.
 *
 * The copy holds the newest snapshot that the log knows, the v3 state, and the
 * log behind them, entry by entry. Only the ids of member and cluster are new, at random:
 * so the copy cannot join its old cluster by mistake. It must be started with
 * --force-new-cluster, which removes the old members from it. The source is
 * only read, and may belong to a running etcd.
 *
 * ORDER  the snapshot is written before the log that refers to it, and the
 * log gets its name when all is in it; a backup that was interrupted has no
 * log, and is not taken for a whole one. A running server makes its v3 state
 * durable behind the log and before the snapshot; we read in the opposite
 * order, so that the copy's is between the two, as well.
 */
#include "ctl.h"
#include "ctldb.h"

#include "snap.h"
#include "sys.h"
#include "wal.h"

#include <stdio.h>

struct dirs {
    char *snap, *wal;
};

static char *dir_or(const struct ctl *c, const char *option, const char *base,
                    const char *below)
{
    const char *given = ctl_string(c, option, "");

    return given[0] ? xstrdup(given) : xasprintf("%s/%s", base, below);
}

static void dirs_release(struct dirs *d)
{
    free(d->snap);
    free(d->wal);
}

/* The newest snapshot that the log has a record of. *found false: none. */
static int load_snapshot(const struct dirs *from, struct raft_snapshot *s,
                         bool *found, struct err *e)
{
    struct wal_snapshot *known = NULL;
    size_t n = 0;
    char *note = NULL;
    int rc = wal_snapshots(from->wal, &known, &n, e);

    *found = false;
    if (rc == 0 && sys_exists(from->snap)) {
        rc = snap_read_newest(from->snap, known, n, s, &note, e);
        *found = rc == 0;
        if (rc == SNAP_ENONE)
            rc = 0;
    }
    if (note)
        fprintf(stderr, "%s\n", note);
    free(note);
    free(known);
    return rc;
}

static int save_snapshot(const struct dirs *to, const struct raft_snapshot *s,
                         struct err *e)
{
    struct str data = blob_str(s->data);

    return snap_save(to->snap, s, snap_source_str, &data, false, e);
}

/* The directories above the log; wal_create() makes the log's own. */
static int make_parent(const char *path, struct err *e)
{
    const char *slash = strrchr(path, '/');
    char *parent;
    int rc;

    if (!slash || slash == path)
        return 0;
    parent = xstrndup(path, (size_t)(slash - path));
    rc = sys_mkdir_all(parent, 0700, e);
    free(parent);
    return rc;
}

static uint64_t random_id(void)
{
    uint64_t id = 0;

    while (id == 0) /* nobody */
        sys_random(&id, sizeof(id));
    return id;
}

static int fill_log(const char *dir, struct wal_snapshot snap,
                    const struct wal_contents *in, struct err *e)
{
    struct wal_metadata ids = {random_id(), random_id()};
    struct wal *w = NULL;
    int rc = wal_create(dir, &ids, false, &w, e);

    if (rc == 0 && snap.index > 0) {
        rc = wal_append_snapshot(w, snap, NULL, e);
        if (rc == 0)
            rc = wal_sync(w, e);
    }
    if (rc == 0)
        rc = wal_append(w, &in->hard_state, in->entries, in->n_entries, e);
    if (rc == 0)
        rc = wal_sync(w, e);
    wal_close(w);
    return rc;
}

static int write_log(const struct dirs *to, struct wal_snapshot snap,
                     const struct wal_contents *in, struct err *e)
{
    size_t n = strlen(to->wal);
    char *dir, *part;
    int rc = make_parent(to->wal, e);

    while (n > 1 && to->wal[n - 1] == '/')
        n--;
    dir = xstrndup(to->wal, n);
    part = xasprintf("%s.part", dir);
    if (rc == 0)
        rc = sys_remove_all(part, e); /* of one that was interrupted */
    if (rc == 0)
        rc = fill_log(part, snap, in, e);
    if (rc == 0 && rename(part, dir) < 0)
        rc = err_sys(e, -1, "rename %s to %s", part, dir);
    if (rc == 0)
        rc = sys_fsync_parent(dir, e);
    free(part);
    free(dir);
    return rc;
}

/*
 * What a leader sent with the snapshot may not have become db yet. None at all:
 * the server has not saved one, as one of etcd 2 never does; without a snapshot
 * the log has all.
 */
static int copy_db(const struct dirs *from, const struct dirs *to,
                   raft_index index, struct err *e)
{
    char *db = xasprintf("%s/db", from->snap);
    char *received = snap_db_path(from->snap, index);
    char *out = xasprintf("%s/db", to->snap);
    int rc = 0;

    if (sys_exists(received) || sys_exists(db))
        rc = ctl_db_copy(sys_exists(received) ? received : db, out, CTL_DB_PART,
                         0, e);
    free(db);
    free(received);
    free(out);
    return rc;
}

static int copy(const struct dirs *from, const struct dirs *to, struct err *e)
{
    struct raft_snapshot s = {0};
    struct wal_snapshot at = {0};
    struct wal_contents log = {0};
    bool has_snapshot;
    int rc;

    if (wal_exists(to->wal))
        return err_set(e, -1,
                       "%s already holds a log; give an empty --backup-dir",
                       to->wal);
    rc = load_snapshot(from, &s, &has_snapshot, e);
    if (rc == 0 && has_snapshot)
        at = (struct wal_snapshot){s.index, s.term};
    if (rc == 0)
        rc = sys_mkdir_all(to->snap, 0700, e);
    if (rc == 0)
        rc = copy_db(from, to, at.index, e);
    if (rc == 0)
        rc = wal_read(from->wal, at, &log, e);
    if (rc == 0 && has_snapshot)
        rc = save_snapshot(to, &s, e);
    if (rc == 0)
        rc = write_log(to, at, &log, e);
    wal_contents_release(&log);
    raft_snapshot_release(&s);
    return rc;
}

int ctl_backup(struct ctl *c)
{
    const char *data_dir = ctl_string(c, "data-dir", "");
    const char *backup_dir = ctl_string(c, "backup-dir", "");
    struct dirs from, to;
    struct err e;
    int rc;

    if (data_dir[0] == '\0' || backup_dir[0] == '\0')
        return ctl_fail_text(CTL_BAD_ARGS, "backup needs --data-dir, to read "
                                           "from, and --backup-dir, to write "
                                           "to");
    from.snap = xasprintf("%s/member/snap", data_dir);
    from.wal = dir_or(c, "wal-dir", data_dir, "member/wal");
    to.snap = xasprintf("%s/member/snap", backup_dir);
    to.wal = dir_or(c, "backup-wal-dir", backup_dir, "member/wal");
    if (!wal_exists(from.wal))
        rc = ctl_fail_text(CTL_BAD_ARGS,
                           "no etcd log in %s; check --data-dir and --wal-dir",
                           from.wal);
    else if (copy(&from, &to, &e) != 0)
        rc = ctl_fail_text(CTL_BAD_ARGS, "%s", e.msg);
    else
        rc = 0;
    dirs_release(&from);
    dirs_release(&to);
    return rc;
}
