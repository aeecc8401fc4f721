/*
 * boot.c - what a member starts from.
 *
 *   data directory has a log   -> newest snapshot that the log confirms, and
 *                                 the entries behind it; flags that describe
 *                                 an initial cluster are ignored
 *   ... --force-new-cluster    -> the same, and entries that remove all other
 *                                 members; refused while there is a quorum
 *   none, state "new"          -> entries 1..N at term 1, one AddNode each,
 *                                 committed: every member writes the same
 *   none, state "existing"     -> an empty log; ids from the running cluster
 *
 * A crash while a log is being created leaves none (wal_create()), or one whose
 * first hard state is missing: nobody was promised anything yet, and the next
 * start writes the same entries again.
 */
#include "boot.h"
#include "log.h"
#include "peer.h"
#include "snap.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#define LOCK_WAIT_MS 5000
#define REJOIN_NOTE "rejoin.json" /* of etcdctl recover rejoin */

/* --- The data directory. ------------------------------------------------ */

static char *wal_dir(const struct config *c)
{
    return *c->wal_dir ? xstrdup(c->wal_dir)
                       : xasprintf("%s/wal", c->member_dir);
}

static int check_writable(const char *dir, struct err *e)
{
    char *path = xasprintf("%s/.touch", dir);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600), rc = 0;

    if (fd < 0)
        rc = err_sys(e, -1, "cannot write to member directory: open %s", path);
    else
        close(fd);
    unlink(path);
    free(path);
    return rc;
}

static void warn_of_strangers(const char *dir)
{
    char **names;
    size_t n;

    if (sys_list_dir(dir, &names, &n, NULL) < 0)
        return;
    for (size_t i = 0; i < n; i++)
        if (strcmp(names[i], "member") != 0 && strcmp(names[i], "proxy") != 0 &&
            strcmp(names[i], "fixtures") != 0 &&
            strcmp(names[i], REJOIN_NOTE) != 0)
            log_warn("etcdmain",
                     "found invalid file/dir %s under data dir %s (Ignore "
                     "this if you are upgrading etcd)",
                     names[i], dir);
    sys_free_list(names, n);
}

/* " (pid 123)", or nothing where /proc does not tell. */
static const char *holder_text(char out[32], int fd)
{
    int pid = sys_flock_holder(fd);

    out[0] = '\0';
    if (pid > 0)
        snprintf(out, 32, " (pid %d)", pid);
    return out;
}

/*
 * One process per data directory. The lock goes with its process, however
 * that ends, so nothing stale is ever left behind.
 */
static int lock_data_dir(const struct config *c, int *out, struct err *e)
{
    int64_t give_up = sys_mono_ns() + LOCK_WAIT_MS * NS_PER_MS;
    int fd = open(c->member_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool told = false;

    if (fd < 0)
        return err_sys(e, -1, "cannot access data directory: open %s",
                       c->member_dir);
    while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        char holder[32];

        if (errno != EWOULDBLOCK && errno != EINTR) {
            err_sys(e, -1, "cannot lock data directory %s", c->member_dir);
            close(fd);
            return -1;
        }
        holder_text(holder, fd);
        if (!told)
            log_warn("etcdserver",
                     "another etcd process%s is using \"%s\" and holds the "
                     "file lock; waiting for it to exit before starting...",
                     holder, c->data_dir);
        told = true;
        if (sys_mono_ns() > give_up) {
            close(fd);
            return err_set(e, -1,
                           "data directory \"%s\" is in use by another etcd "
                           "process%s: stop that one, or give this one a "
                           "--data-dir of its own",
                           c->data_dir, holder);
        }
        sys_sleep_ms(50);
    }
    *out = fd;
    return 0;
}

/* The directories' own names, which wal_create() sees to only if the log is
 * below them. */
static int sync_data_dir(const struct config *c, struct err *e)
{
    if (c->unsafe_no_fsync)
        return 0;
    if (sys_fsync_dir(c->member_dir, e) < 0 ||
        sys_fsync_dir(c->data_dir, e) < 0)
        return -1;
    return sys_fsync_parent(c->data_dir, e);
}

static int prepare_data_dir(const struct config *c, struct boot *b,
                            struct err *e)
{
    char *proxy = xasprintf("%s/proxy", c->data_dir);
    bool both = sys_exists(proxy) && sys_exists(c->member_dir);
    struct err why;

    free(proxy);
    if (both)
        return err_set(e, -1,
                       "invalid datadir. Both member and proxy directories "
                       "exist.");
    if (sys_exists(c->data_dir))
        warn_of_strangers(c->data_dir);
    if (sys_mkdir_all(c->member_dir, 0700, &why) < 0)
        return err_set(e, -1, "cannot access data directory: %s", why.msg);
    if (lock_data_dir(c, &b->lock_fd, e) < 0 ||
        sys_mkdir_all(c->snap_dir, 0700, e) < 0 ||
        check_writable(c->member_dir, e) < 0)
        return -1;
    return sync_data_dir(c, e);
}

/* --- Restart. ----------------------------------------------------------- */

/* What to do if the log or the snapshot cannot be what was written. */
static int damaged(const struct config *c, struct err *e)
{
    struct err what = *e;

    return err_set(e, -1,
                   "%s. If the cluster has a quorum without this member, "
                   "bring it back with: etcdctl --endpoints "
                   "URL-OF-ANOTHER-MEMBER recover rejoin %s",
                   what.msg, c->data_dir);
}

/* The same for a WAL_E* code. */
static int log_refused(const struct config *c, int code, struct err *e)
{
    return code == WAL_EIO || code == WAL_ELOCKED ? -1 : damaged(c, e);
}

/* *known is the newest snapshot that the log tells of; its file may be
 * missing, or bad, and an older one loaded, or none. */
static int load_snapshot(const struct config *c, const char *wal,
                         struct boot *b, struct wal_snapshot *known,
                         struct err *e)
{
    struct wal_snapshot *allowed;
    char *note = NULL;
    size_t n;
    int rc;

    rc = wal_snapshots(wal, &allowed, &n, e);
    if (rc < 0)
        return log_refused(c, rc, e);
    for (size_t i = 0; i < n; i++)
        if (allowed[i].index >= known->index)
            *known = allowed[i];
    rc = snap_load_newest(c->snap_dir, allowed, n, &b->snapshot, &note, e);
    free(allowed);
    if (note)
        log_warn("snap", "%s", note);
    free(note);
    if (rc == SNAP_ENONE)
        return 0;
    if (rc < 0)
        return -1;
    /* Its name may be in memory only, if the last process was killed between
     * rename and sync; the log before it will be purged from now on. */
    if (!c->unsafe_no_fsync && sys_fsync_dir(c->snap_dir, e) < 0)
        return -1;
    log_info("etcdserver", "recovered store from snapshot at index %" PRIu64,
             b->snapshot.index);
    rc = store_recover(b->store, blob_str(b->snapshot.data).p,
                       blob_str(b->snapshot.data).n, e);
    blob_unref(b->snapshot.data);
    b->snapshot.data = NULL;
    if (rc < 0)
        return damaged(c, e);
    cluster_recover(b->cluster, b->store);
    return 0;
}

/* --- The v3 state. ------------------------------------------------------ */

struct v3_config boot_v3_config(const struct config *c)
{
    return (struct v3_config){
        .lease = {.min_ttl = lease_min_ttl(c->election_ms / c->heartbeat_ms,
                                           c->heartbeat_ms),
                  .checkpoint_ms =
                      c->lease_checkpoint ? LEASE_CHECKPOINT_MS : 0,
                  .persist_checkpoints = c->lease_checkpoint_persist},
        .auth_token_ttl_ms = (int64_t)c->auth_token_ttl_s * 1000,
    };
}

/* *index is 0 without one. An empty state in place of one that is there, but
 * cannot be seen just now, would be saved over it. */
static int db_index(const char *path, bool *there, uint64_t *index,
                    struct err *e)
{
    int rc = sys_find(path, there, e);

    *index = 0;
    return rc == 0 && *there ? v3_peek_index(path, index, e) : rc;
}

/*
 * What came with the snapshot takes the place of a db that is older: the
 * process before ended between the two.
 */
static int take_snapshots_db(const struct config *c, const struct boot *b,
                             const char *db, bool *there, uint64_t *index,
                             struct err *e)
{
    char *path = snap_db_path(c->snap_dir, b->snapshot.index);
    bool newer = false;
    int rc = 0;

    if (b->snapshot.index && *index < b->snapshot.index)
        rc = sys_find(path, &newer, e);
    if (rc == 0 && newer) {
        if (rename(path, db) < 0)
            rc = err_sys(e, -1, "rename %s to %s", path, db);
        else if (!c->unsafe_no_fsync)
            rc = sys_fsync_dir(c->snap_dir, e);
        if (rc == 0)
            rc = db_index(db, there, index, e);
    }
    free(path);
    return rc;
}

static struct cluster *membership_of_log(const struct config *c,
                                         const struct boot *b);

/* Nobody else is in the cluster, as far as the log tells. A member that joins
 * may have a leader's db, and no log yet: then it has not been told of any. */
static bool is_alone(const struct config *c, const struct boot *b)
{
    struct cluster *all = membership_of_log(c, b);
    bool alone = cluster_size(all) == 1;

    cluster_free(all);
    return alone;
}

static raft_index log_end(const struct boot *b)
{
    return b->snapshot.index + b->contents.n_entries;
}

/*
 * A snapshot that a cluster of etcd 2 took has no db beside it, and the log up
 * to there no request of v3's: the state was empty. Since version 3 one is
 * written before each snapshot.
 */
static bool is_of_v2(const struct boot *b)
{
    char version[32];

    cluster_version(b->cluster, version);
    return version[0] < '3'; /* "" while it is not decided */
}

static int begin_v3(const struct config *c, const struct v3_config *config,
                    const char *db, struct boot *b, struct err *e)
{
    if (b->snapshot.index && !is_of_v2(b))
        return err_set(e, -1,
                       "the v3 state, %s, is missing beside the snapshot at "
                       "index %" PRIu64 ": restore that file, or all of %s "
                       "from a backup",
                       db, b->snapshot.index, c->data_dir);
    b->v3 = v3_new(config);
    v3_skip(b->v3, b->snapshot.index);
    return 0;
}

/* early, taken if it is what has to be loaded, is db as it was when the start
 * began; or NULL. */
static int load_v3(const struct config *c, struct boot *b, struct v3 *early,
                   struct err *e)
{
    struct v3_config config = boot_v3_config(c);
    char *db = xasprintf("%s/db", c->snap_dir);
    uint64_t index;
    bool there;
    int rc = db_index(db, &there, &index, e);

    if (rc == 0)
        rc = take_snapshots_db(c, b, db, &there, &index, e);
    if (rc == 0 && !there) {
        rc = begin_v3(c, &config, db, b, e);
    } else if (rc == 0 && index < b->snapshot.index) {
        rc = err_set(e, -1,
                     "the v3 state in %s is of index %" PRIu64
                     ", older than the snapshot at index %" PRIu64
                     ": what lies between is lost with it",
                     db, index, b->snapshot.index);
    } else if (rc == 0 && index > log_end(b) &&
               (c->force_new_cluster || is_alone(c, b))) {
        /* Others would bring what is missing; without them, new entries would
         * come under indexes that the state has already. */
        rc = err_set(e, -1,
                     "the v3 state in %s is of index %" PRIu64
                     ", but the log ends at %" PRIu64
                     ": it is another log's, or the end of this one is lost",
                     db, index, log_end(b));
    } else if (rc == 0 && early && early->index == index) {
        b->v3 = early; /* another file would be of another index */
        early = NULL;
    } else if (rc == 0) {
        rc = v3_load(db, &config, &b->v3, e);
    }
    v3_free(early);
    free(db);
    return rc < 0 ? damaged(c, e) : 0;
}

/* The log was refused. Perhaps only because it is not whole without a snapshot
 * that could not be loaded, so that is what to restore. */
static void blame_snapshot(const struct config *c, const struct boot *b,
                           struct wal_snapshot known, struct err *e)
{
    struct err what = *e;

    if (known.index > b->snapshot.index)
        err_set(e, -1,
                "snapshot %s/%016" PRIx64 "-%016" PRIx64
                ".snap, the newest that the log tells of, is missing or bad "
                "(or the end of the log is lost, which told of a newer one): "
                "restore it; the log alone is not enough: %s",
                c->snap_dir, known.term, known.index, what.msg);
    else if (what.code == WAL_EMISSING)
        err_set(e, -1,
                "no snapshot in %s is one that the log tells of (or the end of "
                "the log is lost, which did): %s",
                c->snap_dir, what.msg);
}

/* What the log tells, and the snapshot of v2 that it confirms. */
static int load_log(const struct config *c, const char *wal, struct boot *b,
                    struct err *e)
{
    struct wal_snapshot from, known = {0};
    int rc;

    if (load_snapshot(c, wal, b, &known, e) < 0)
        return -1;
    from = (struct wal_snapshot){b->snapshot.index, b->snapshot.term};
    rc = wal_open(wal, from, c->unsafe_no_fsync, &b->wal, &b->contents, e);
    if (rc < 0) {
        blame_snapshot(c, b, known, e);
        return log_refused(c, rc, e);
    }
    if (b->contents.repaired)
        log_warn("wal", "repaired the end of the log: %s",
                 b->contents.repaired);
    return 0;
}

struct log_load {
    const struct config *c;
    const char *wal;
    struct boot *b;
    struct err *e;
    int rc;
};

static void *log_load_main(void *arg)
{
    struct log_load *l = arg;

    sys_thread_name("etcd-load-log");
    l->rc = load_log(l->c, l->wal, l->b, l->e);
    return NULL;
}

/* NULL: there is none, or what is wrong with it will be told by the next who
 * loads it, when the log is known to be good. */
static struct v3 *load_db_early(const struct config *c)
{
    struct v3_config config = boot_v3_config(c);
    char *db = xasprintf("%s/db", c->snap_dir);
    struct v3 *v3 = NULL;

    if (sys_exists(db) && v3_load(db, &config, &v3, NULL) < 0)
        v3 = NULL;
    free(db);
    return v3;
}

/* Log and db at the same time: they are nothing to each other until both are
 * there, and with much data each takes as long as the other. */
static int load_all(const struct config *c, const char *wal, struct boot *b,
                    struct err *e)
{
    struct log_load log = {.c = c, .wal = wal, .b = b, .e = e};
    struct v3 *early = NULL;
    pthread_t thread;

    if (sys_thread(&thread, SYS_STACK_LARGE, log_load_main, &log) == 0) {
        early = load_db_early(c);
        pthread_join(thread, NULL);
    } else {
        log.rc = load_log(c, wal, b, e);
    }
    if (log.rc == 0)
        return load_v3(c, b, early, e);
    v3_free(early);
    return log.rc;
}

static int restart(const struct config *c, const char *wal, struct boot *b,
                   struct err *e)
{
    log_notice("etcdmain", "the server is already initialized as member "
                           "before, starting as etcd member...");
    if (*c->discovery)
        log_warn("etcdserver",
                 "discovery token ignored since a cluster has already been "
                 "initialized. Valid log found at \"%s\"",
                 wal);
    if (load_all(c, wal, b, e) < 0)
        return -1;
    b->id = b->contents.metadata.node_id;
    cluster_set_id(b->cluster, b->contents.metadata.cluster_id);
    log_info("etcdserver",
             "restarting member %" PRIx64 " in cluster %" PRIx64
             " at commit index %" PRIu64,
             b->id, b->contents.metadata.cluster_id,
             b->contents.hard_state.commit);
    return 0;
}

/* --- --force-new-cluster. ----------------------------------------------- */

static void append_conf_change(struct boot *b, enum raft_conf_change_type type,
                               raft_id id, struct str context)
{
    struct wal_contents *w = &b->contents;
    struct raft_conf_change cc = {
        .type = type, .node_id = id, .context = context};
    struct buf data = {0};

    raftpb_encode_conf_change(&data, &cc);
    w->entries = xrealloc(w->entries, (w->n_entries + 1) * sizeof(*w->entries));
    w->entries[w->n_entries] = (struct raft_entry){
        .type = RAFT_ENTRY_CONF_CHANGE,
        .term = w->hard_state.term,
        .index = b->snapshot.index + w->n_entries + 1,
        .data = blob_new(data.data, data.len),
    };
    w->n_entries++;
    buf_release(&data);
}

/* A change to a member that has these peer URLs from then on. */
static void append_member(struct boot *b, enum raft_conf_change_type type,
                          uint64_t id, const struct url_list *urls,
                          int is_promote)
{
    struct member m = {.id = id,
                       .name = "",
                       .peer_urls = url_list_texts(urls),
                       .n_peer_urls = urls->n};
    struct buf json = {0};

    member_json(&json, &m, is_promote);
    append_conf_change(b, type, id, buf_str(&json));
    buf_release(&json);
    free(m.peer_urls);
}

static bool has_one_of(const struct member *m, const struct url_list *urls)
{
    for (size_t i = 0; i < m->n_peer_urls; i++)
        for (size_t k = 0; k < urls->n; k++)
            if (strcmp(m->peer_urls[i], urls->urls[k].raw) == 0)
                return true;
    return false;
}

/* The membership as the whole log has it, committed or not. */
static struct cluster *membership_of_log(const struct config *c,
                                         const struct boot *b)
{
    struct cluster *all = cluster_copy(b->cluster);

    for (size_t i = 0; i < b->contents.n_entries; i++)
        cluster_replay(all, NULL, &b->contents.entries[i], c->max_learners);
    return all;
}

static bool answers(const struct config *c, const struct boot *b,
                    const struct member *m)
{
    struct member *theirs;
    size_t n;
    uint64_t cid;

    if (peer_get_members((const char *const *)m->peer_urls, m->n_peer_urls,
                         1000, c->secure_peer, &theirs, &n, &cid, NULL) < 0)
        return false;
    members_free(theirs, n);
    return cid == b->contents.metadata.cluster_id;
}

/*
 * The flag may have stayed in a service file, or be a mistake. With a quorum
 * at hand nothing has to be forced, and to remove members that are alive would
 * make two clusters out of one. A backup is of a cluster of its own, so those
 * of the old one do not count.
 */
static int check_quorum_lost(const struct config *c, const struct boot *b,
                             const struct member *m, size_t n, struct err *e)
{
    size_t voters = 0, present = 0;

    for (size_t i = 0; i < n; i++)
        voters += !m[i].is_learner;
    for (size_t i = 0; i < n; i++)
        present +=
            !m[i].is_learner && (m[i].id == b->id || answers(c, b, &m[i]));
    if (n <= 1 || present < voters / 2 + 1)
        return 0;
    return err_set(e, -1,
                   "--force-new-cluster refused: the cluster is not lost. %zu "
                   "of its %zu voting members, this one included, are here, "
                   "which is a quorum: start without --force-new-cluster (or "
                   "stop the others first)",
                   present, voters);
}

static int check_not_removed(const struct config *c, const struct boot *b,
                             const struct cluster *all, struct err *e)
{
    if (!cluster_is_removed(all, b->id))
        return 0;
    return err_set(e, -1,
                   "--force-new-cluster refused: member %" PRIx64
                   " was removed "
                   "from its cluster, and its id cannot come back. To start a "
                   "new cluster from its data, make a copy with new ids: "
                   "etcdctl backup --data-dir %s --backup-dir NEW, then etcd "
                   "--force-new-cluster --data-dir NEW",
                   b->id, c->data_dir);
}

/*
 * The entries that leave this member alone, a voter with peer URLs; none if it
 * is so already. Returns how many others are removed.
 *
 * A backup has a new id, which the log does not know. It comes in before the
 * others leave, because raft keeps its last voter (raftconf.c), and so another
 * who has its peer URLs loses them first.
 */
static size_t append_sole_member(const struct config *c, struct boot *b,
                                 const struct member *m, size_t n)
{
    const struct url_list *urls = &c->initial_advertise_peer_urls;
    const struct url_list none = {0};
    const struct member *self = NULL;
    size_t removed = 0;

    for (size_t i = 0; i < n; i++)
        if (m[i].id == b->id)
            self = &m[i];
    for (size_t i = 0; i < n; i++)
        if (&m[i] != self && (!self || self->n_peer_urls == 0) &&
            has_one_of(&m[i], urls))
            append_member(b, RAFT_UPDATE_NODE, m[i].id, &none, -1);
    if (!self)
        append_member(b, RAFT_ADD_NODE, b->id, urls, -1);
    else if (self->is_learner)
        append_member(b, RAFT_ADD_NODE, b->id, &none, true);
    if (self && self->n_peer_urls == 0)
        append_member(b, RAFT_UPDATE_NODE, b->id, urls, -1);
    for (size_t i = 0; i < n; i++) {
        if (&m[i] == self)
            continue;
        append_conf_change(b, RAFT_REMOVE_NODE, m[i].id, STR(""));
        removed++;
    }
    return removed;
}

/* One that nothing in the log has. */
static raft_term next_term(const struct boot *b)
{
    const struct wal_contents *w = &b->contents;
    raft_term last =
        w->n_entries ? w->entries[w->n_entries - 1].term : b->snapshot.term;

    return max_u64(last, w->hard_state.term) + 1;
}

/*
 * Leave this member alone in the cluster. The whole log counts as committed:
 * what was acknowledged may stand behind the last commit index that reached
 * the disk, and must not be lost.
 *
 * The entries get a term of their own, as a new leader's would: so none of
 * them has index and term of one that an old member holds.
 *
 * A crash may leave any of them from the first on, and the commit index
 * unwritten. No prefix removes anybody before this member is a voter with peer
 * URLs; the next start with the flag finds out what is still missing, and adds
 * that. So the flag may also be given twice.
 */
static int force_new_cluster(const struct config *c, struct boot *b,
                             struct err *e)
{
    struct cluster *all = membership_of_log(c, b);
    struct wal_contents *w = &b->contents;
    struct raft_hard_state was = w->hard_state;
    size_t first_new = w->n_entries, removed = 0, n;
    struct member *m;
    int rc = check_not_removed(c, b, all, e);

    n = cluster_members(all, &m);
    cluster_free(all);
    if (rc == 0)
        rc = check_quorum_lost(c, b, m, n, e);
    if (rc == 0) {
        w->hard_state = (struct raft_hard_state){next_term(b), 0, 0};
        removed = append_sole_member(c, b, m, n);
    }
    members_free(m, n);
    if (rc < 0)
        return rc;
    if (w->n_entries == first_new)
        w->hard_state = was;
    w->hard_state.commit = b->snapshot.index + w->n_entries;
    log_notice("etcdserver",
               "forcing a new cluster of one member; others removed: %zu",
               removed);
    if (wal_append(b->wal, &w->hard_state, w->entries + first_new,
                   w->n_entries - first_new, e) < 0)
        return -1;
    return wal_sync(b->wal, e);
}

/* --- A new member. ------------------------------------------------------ */

/* "etcdctl --endpoints URL recover rejoin ...", as far as it can be told. */
static char *rejoin_command(const struct config *c, uint64_t self,
                            const struct member *m, size_t n)
{
    const char *endpoint = "URL-OF-ANOTHER-MEMBER";

    for (size_t i = n; i-- > 0;)
        if (m[i].id != self && m[i].n_client_urls > 0)
            endpoint = m[i].client_urls[0];
    return xasprintf("etcdctl --endpoints %s recover rejoin --name %s %s",
                     endpoint, c->name, c->data_dir);
}

/*
 * A running cluster has told its members, and we have no log. A member that
 * ran before has forgotten its votes and what it acknowledged, and must not
 * come back under its id.
 */
static int check_never_ran(const struct config *c, const struct member *self,
                           const struct member *theirs, size_t n, struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        char *command;

        if (theirs[i].n_client_urls == 0 ||
            (theirs[i].id != self->id &&
             !member_same_peer_urls(&theirs[i], self)))
            continue;
        command = rejoin_command(c, theirs[i].id, theirs, n);
        err_set(e, -1,
                "member %" PRIx64 " has already been bootstrapped, and its "
                "data is not in %s: give its --data-dir, or if the data is "
                "lost, bring the member back with: %s",
                theirs[i].id, c->data_dir, command);
        free(command);
        return -1;
    }
    return 0;
}

/*
 * The same for --initial-cluster-state new. If the cluster runs without a
 * member of our id, that was removed; and if one with our URLs waits under
 * another id, we are to join as that one.
 */
static int check_cluster_is_new(const struct config *c, const struct boot *b,
                                const struct member *self,
                                const struct member *theirs, size_t n,
                                uint64_t cid, struct err *e)
{
    bool listed = false;

    if (check_never_ran(c, self, theirs, n, e) < 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        listed |= theirs[i].id == self->id;
        if (theirs[i].id != self->id && member_same_peer_urls(&theirs[i], self))
            return err_set(e, -1,
                           "a running cluster has this member, with the id "
                           "%" PRIx64 " and not %" PRIx64 ": to join it, start "
                           "with --initial-cluster-state existing; for a new "
                           "cluster, give all members the same "
                           "--initial-cluster and --initial-cluster-token",
                           theirs[i].id, self->id);
    }
    if (!listed && cid == cluster_id(b->cluster))
        return err_set(e, -1,
                       "member %" PRIx64 " was removed from this cluster, "
                       "which runs without it: add it again (etcdctl member "
                       "add %s %s) and start it with --initial-cluster-state "
                       "existing",
                       self->id, c->name, self->peer_urls[0]);
    return 0;
}

/* A peer that is up tells whether the cluster has begun without us. */
static int check_not_bootstrapped(const struct config *c, struct boot *b,
                                  const struct member *self, struct err *e)
{
    struct member *mine, *theirs;
    size_t n_mine = cluster_members(b->cluster, &mine), n_theirs;
    uint64_t cid;
    int rc = 0;

    for (size_t i = 0; i < n_mine; i++) {
        if (mine[i].id == self->id ||
            peer_get_members((const char *const *)mine[i].peer_urls,
                             mine[i].n_peer_urls, 1000, c->secure_peer, &theirs,
                             &n_theirs, &cid, NULL) < 0)
            continue;
        rc = check_cluster_is_new(c, b, self, theirs, n_theirs, cid, e);
        members_free(theirs, n_theirs);
        break;
    }
    members_free(mine, n_mine);
    return rc;
}

static int find_self(const struct config *c, struct boot *b,
                     struct member *self, struct err *e)
{
    if (cluster_check_local(b->cluster, c->name,
                            &c->initial_advertise_peer_urls, e) < 0) {
        if (strcmp(c->initial_cluster, CONFIG_CLUSTER) == 0)
            log_info("etcdmain", "forgot to set --initial-cluster flag?");
        return -1;
    }
    cluster_member_by_name(b->cluster, c->name, self);
    b->id = self->id;
    return 0;
}

/* Entries 1..N of a new cluster: the same on every member. */
static void bootstrap_entries(struct boot *b)
{
    struct member *m;
    size_t n = cluster_members(b->cluster, &m);

    b->contents.hard_state = (struct raft_hard_state){1, 0, n};
    for (size_t i = 0; i < n; i++) {
        struct buf json = {0};

        member_json(&json, &m[i], -1);
        append_conf_change(b, RAFT_ADD_NODE, m[i].id, buf_str(&json));
        buf_release(&json);
    }
    members_free(m, n);
}

/* The members of a running cluster, asked from all its peer URLs but ours. */
static int fetch_cluster(const struct config *c, struct boot *b,
                         const struct member *self, struct err *e)
{
    struct member *mine, *theirs, now = {0};
    size_t n_mine = cluster_members(b->cluster, &mine), n_theirs, n_urls = 0;
    const char **urls = NULL;
    uint64_t cid;
    int rc;

    for (size_t i = 0; i < n_mine; i++) {
        if (mine[i].id == self->id)
            continue;
        urls = xrealloc(urls, (n_urls + mine[i].n_peer_urls) * sizeof(*urls));
        for (size_t k = 0; k < mine[i].n_peer_urls; k++)
            urls[n_urls++] = mine[i].peer_urls[k];
    }
    rc = peer_get_members(urls, n_urls, 10000, c->secure_peer, &theirs,
                          &n_theirs, &cid, e);
    free(urls);
    members_free(mine, n_mine);
    if (rc < 0)
        return err_set(e, -1,
                       "cannot fetch cluster info from peer urls: could not "
                       "retrieve cluster information from the given URLs");
    rc = cluster_match(b->cluster, theirs, n_theirs, cid, e);
    if (rc == 0 && cluster_member_by_name(b->cluster, c->name, &now))
        rc = check_never_ran(c, &now, theirs, n_theirs, e);
    member_release(&now);
    members_free(theirs, n_theirs);
    return rc;
}

static int write_bootstrap(struct boot *b, struct err *e)
{
    if (wal_append(b->wal, &b->contents.hard_state, b->contents.entries,
                   b->contents.n_entries, e) < 0)
        return -1;
    return wal_sync(b->wal, e);
}

/*
 * The last start ended between the creation of the log and its first sync. A
 * member that joins has such a log too, until the leader writes to it; its id
 * is not the one that the flags give.
 */
static int resume_bootstrap(const struct config *c, struct boot *b,
                            struct err *e)
{
    struct cluster *planned = cluster_new();
    struct member self = {0};
    bool ours = !c->initial_cluster_existing &&
                cluster_from_flag(planned, c->initial_cluster,
                                  c->initial_cluster_token, NULL) == 0 &&
                cluster_member_by_name(planned, c->name, &self) &&
                self.id == b->contents.metadata.node_id &&
                cluster_id(planned) == b->contents.metadata.cluster_id;

    member_release(&self);
    if (!ours) {
        cluster_free(planned);
        return 0;
    }
    cluster_free(b->cluster);
    b->cluster = planned;
    b->fresh = true; /* the entries, once applied, tell who is in the cluster */
    raft_entries_free(b->contents.entries, b->contents.n_entries);
    b->contents.entries = NULL;
    b->contents.n_entries = 0;
    bootstrap_entries(b);
    return write_bootstrap(b, e);
}

/* One of a log that never began to be applied has nothing to lose. */
static int check_no_db(const struct config *c, const char *wal, struct err *e)
{
    char *db = xasprintf("%s/db", c->snap_dir);
    uint64_t index;
    bool there;
    int rc = db_index(db, &there, &index, e);

    if (rc == 0 && index)
        rc = err_set(e, -1,
                     "no log found at \"%s\", but the v3 state %s: give the "
                     "--wal-dir of before or restore the log",
                     wal, db);
    free(db);
    return rc;
}

/*
 * A member whose log is gone has forgotten its votes and must not come back
 * under its id. Snapshots without a log tell; most likely --wal-dir is missing.
 * So does a directory without segments, since wal_create() makes it with the
 * first one in it; one that --wal-dir names may be empty, as a mount point is.
 */
static int check_log_not_lost(const struct config *c, const char *wal,
                              struct err *e)
{
    char **names;
    size_t n;
    int rc = 0;

    if (!*c->wal_dir && sys_exists(wal))
        return err_set(e, -1,
                       "no log found in \"%s\", though there was one: "
                       "restore the *.wal files; to start anew, clear the "
                       "data directory",
                       wal);
    if (sys_list_dir(c->snap_dir, &names, &n, e) < 0)
        return -1;
    for (size_t i = 0; i < n && rc == 0; i++) {
        const char *dot = strrchr(names[i], '.');

        if (dot && strcmp(dot, ".snap") == 0)
            rc = err_set(e, -1,
                         "no log found at \"%s\", but snapshot %s/%s: give "
                         "the --wal-dir of before or restore the log",
                         wal, c->snap_dir, names[i]);
    }
    sys_free_list(names, n);
    if (rc == 0)
        rc = check_no_db(c, wal, e);
    return rc < 0 ? damaged(c, e) : 0;
}

/* The log now tells who this member is. */
static void drop_rejoin_note(const struct config *c)
{
    char *path = xasprintf("%s/" REJOIN_NOTE, c->data_dir);

    unlink(path);
    free(path);
}

static int create(const struct config *c, const char *wal, struct boot *b,
                  struct err *e)
{
    struct member self = {0};
    struct wal_metadata m;
    int rc;

    b->fresh = true;
    if (check_log_not_lost(c, wal, e) < 0 ||
        cluster_from_flag(b->cluster, c->initial_cluster,
                          c->initial_cluster_token, e) < 0)
        return -1;
    rc = find_self(c, b, &self, e);
    if (rc == 0 && c->initial_cluster_existing)
        rc = fetch_cluster(c, b, &self, e);
    else if (rc == 0)
        rc = check_not_bootstrapped(c, b, &self, e);
    member_release(&self);
    if (rc < 0)
        return rc;

    /* fetch_cluster() replaced derived ids by those of the cluster. */
    if (!cluster_member_by_name(b->cluster, c->name, &self))
        return err_set(e, -1, "member \"%s\" is not in the running cluster",
                       c->name);
    b->id = self.id;
    member_release(&self);
    if (!c->initial_cluster_existing)
        bootstrap_entries(b);
    m = (struct wal_metadata){b->id, cluster_id(b->cluster)};
    b->contents.metadata = m;
    log_info("etcdserver", "starting member %" PRIx64 " in cluster %" PRIx64,
             m.node_id, m.cluster_id);
    if (wal_create(wal, &m, c->unsafe_no_fsync, &b->wal, e) < 0)
        return -1;
    drop_rejoin_note(c);
    return c->initial_cluster_existing ? 0 : write_bootstrap(b, e);
}

int boot_load(const struct config *c, struct boot *out, struct err *e)
{
    struct v3_config config = boot_v3_config(c);
    struct boot b = {.lock_fd = -1};
    char *wal = wal_dir(c);
    int rc;

    b.store = store_new();
    b.cluster = cluster_new();
    rc = prepare_data_dir(c, &b, e);
    if (rc == 0)
        snap_drop_unfinished_db(c->snap_dir);
    if (rc == 0 && wal_exists(wal)) {
        rc = restart(c, wal, &b, e);
        if (rc == 0 && b.contents.hard_state.term == 0 && b.snapshot.index == 0)
            rc = resume_bootstrap(c, &b, e);
        if (rc == 0 && c->force_new_cluster)
            rc = force_new_cluster(c, &b, e);
    } else if (rc == 0) {
        rc = create(c, wal, &b, e);
        b.v3 = v3_new(&config);
    }
    free(wal);
    if (rc < 0) {
        boot_release(&b);
        return -1;
    }
    *out = b;
    return 0;
}

struct raft_initial boot_raft_initial(const struct boot *b)
{
    return (struct raft_initial){
        .hard_state = b->contents.hard_state,
        .conf_state = b->snapshot.conf_state,
        .snapshot_index = b->snapshot.index,
        .snapshot_term = b->snapshot.term,
        .applied = b->snapshot.index,
        .entries = b->contents.entries,
        .n_entries = b->contents.n_entries,
    };
}

void boot_release(struct boot *b)
{
    wal_close(b->wal);
    v3_free(b->v3);
    if (b->store)
        store_free(b->store);
    if (b->cluster)
        cluster_free(b->cluster);
    raft_snapshot_release(&b->snapshot);
    wal_contents_release(&b->contents);
    if (b->lock_fd >= 0)
        close(b->lock_fd);
    *b = (struct boot){.lock_fd = -1};
}
