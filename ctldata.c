/*
 * ctldata.c - what a data directory holds.
 *
 * The way is that of a start (boot.c): the newest snapshot that the log
 * confirms, the entries behind it, applied to a store. But all entries count,
 * as for --force-new-cluster, and what is damaged is read as far as it goes.
 *
 * A member may be writing meanwhile. What it has half written looks torn, or
 * even damaged, and files may go away: then it is read again.
 */
#include "ctldata.h"

#include "etcdpb.h"
#include "json.h"
#include "snap.h"
#include "store.h"
#include "sys.h"
#include "v3.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRIES 20 /* while a member writes */
#define TRY_MS 50
#define LEARNERS_MAX 1 /* etcd's default; the directory does not tell */

void ctl_data_release(struct ctl_data *d)
{
    char *strings[] = {d->dir,  d->wal_dir,     d->snap_dir, d->problem,
                       d->note, d->last_action, d->last_key};

    for (size_t i = 0; i < ARRAY_LEN(strings); i++)
        free(strings[i]);
    for (size_t i = 0; i < d->n_entries; i++)
        free(d->entries[i].write);
    free(d->entries);
    members_free(d->members, d->n_members);
    store_free(d->store);
    *d = (struct ctl_data){0};
}

const struct member *ctl_data_self(const struct ctl_data *d)
{
    for (size_t i = 0; i < d->n_members; i++)
        if (d->members[i].id == d->ids.node_id)
            return &d->members[i];
    return NULL;
}

raft_index ctl_data_last_index(const struct ctl_data *d)
{
    return d->snapshot.index + d->n_entries;
}

raft_term ctl_data_term(const struct ctl_data *d, raft_index index)
{
    if (index == d->snapshot.index)
        return d->snapshot.term;
    if (index < d->snapshot.index || index > ctl_data_last_index(d))
        return 0;
    return d->entries[index - d->snapshot.index - 1].term;
}

/* --- Who is using it. --------------------------------------------------- */

/* etcd locks the segments by open file descriptions; asking takes no lock. */
static bool is_locked(const char *path)
{
    bool locked = false;
#ifdef F_OFD_GETLK
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    locked = fd >= 0 && fcntl(fd, F_OFD_GETLK, &whole) == 0 &&
             whole.l_type != F_UNLCK;
    if (fd >= 0)
        close(fd);
#else
    (void)path;
#endif
    return locked;
}

static int flock_holder(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC), pid = 0;

    if (fd >= 0) {
        pid = sys_flock_holder(fd);
        close(fd);
    }
    return pid;
}

static bool has_suffix(const char *name, const char *suffix)
{
    size_t n = strlen(name), k = strlen(suffix);

    return n > k && strcmp(name + n - k, suffix) == 0;
}

bool ctl_data_in_use(const char *dir, const char *wal_dir, int *pid)
{
    char *member = xasprintf("%s/member", dir);
    bool locked = false;
    char **names;
    size_t n;

    *pid = flock_holder(member);
    free(member);
    if (sys_list_dir(wal_dir, &names, &n, NULL) < 0)
        return *pid > 0;
    for (size_t i = 0; i < n; i++) {
        char *path = xasprintf("%s/%s", wal_dir, names[i]);

        if (has_suffix(names[i], ".wal"))
            locked |= is_locked(path);
        free(path);
    }
    sys_free_list(names, n);
    return locked || *pid > 0;
}

/* When the last segment was changed; unix time. */
static int64_t last_change(const char *wal_dir)
{
    int64_t ns = 0;
    char **names;
    size_t n;

    if (sys_list_dir(wal_dir, &names, &n, NULL) < 0)
        return 0;
    for (size_t i = 0; i < n; i++) {
        char *path = xasprintf("%s/%s", wal_dir, names[i]);
        struct stat st;

        if (has_suffix(names[i], ".wal") && stat(path, &st) == 0)
            ns = st.st_mtim.tv_sec * NS_PER_S + st.st_mtim.tv_nsec;
        free(path);
    }
    sys_free_list(names, n);
    return ns;
}

/* --- Replay. ------------------------------------------------------------ */

struct replay {
    struct ctl_data *d;
    struct store *store;
    struct cluster *cluster;
    struct store_event *last; /* write of a client, or NULL */
};

/* "set /a" for a change that went through, of what clients see. Owned. */
static char *describe_write(const struct v2_request *r,
                            const struct store_event *event)
{
    if (!event || !str_has_prefix(r->path, "/1"))
        return NULL;
    return xasprintf("%s %.*s%s", store_action_name(store_event_action(event)),
                     (int)(r->path.n - 2), r->path.p + 2,
                     str_eqz(r->method, "POST") ? "/*" : "");
}

static void replay_write(struct replay *r, const struct raft_entry *entry,
                         const struct v2_request *req, struct ctl_entry *out)
{
    bool internal = str_has_prefix(req->path, "/0/");
    struct store_event *event = NULL;
    struct store_error error = {0};

    if (internal && str_eqz(req->method, "PUT") &&
        cluster_skips_put(r->cluster, req->path))
        return;
    if (store_apply(r->store, req, sys_wall_ns(), &event, &error) == 0 &&
        internal)
        cluster_follow_put(r->cluster, req->path, req->val);
    out->write = describe_write(req, event);
    if (out->write) {
        store_event_unref(r->last);
        r->last = store_event_ref(event);
        r->d->last_at = entry->index;
        r->d->last_at_term = entry->term;
    }
    store_event_unref(event);
    store_error_release(&error);
}

static void replay_entries(struct replay *r, const struct wal_contents *log)
{
    struct ctl_data *d = r->d;

    d->entries = xcalloc(log->n_entries, sizeof(*d->entries));
    d->n_entries = log->n_entries;
    for (size_t i = 0; i < log->n_entries; i++) {
        const struct raft_entry *entry = &log->entries[i];
        struct str data = blob_str(entry->data);
        struct entry_request req;

        d->entries[i].term = entry->term;
        if (entry->type != RAFT_ENTRY_NORMAL)
            cluster_replay(r->cluster, r->store, entry, LEARNERS_MAX);
        else if (etcdpb_decode_entry(data.p, data.n, &req) != 0)
            continue;
        else if (req.kind == ENTRY_V2)
            replay_write(r, entry, &req.v2, &d->entries[i]);
        else if (req.kind == ENTRY_INTERNAL)
            d->v3_at = entry->index;
    }
}

/* --- What the store tells. ---------------------------------------------- */

struct counting {
    const struct store *store;
    struct buf path;
    uint64_t n;
};

static void count_key(void *arg, struct str name, bool dir,
                      const struct blob *value)
{
    struct counting *c = arg;
    size_t before = c->path.len;

    (void)value;
    c->n += !dir;
    if (!dir)
        return;
    buf_addc(&c->path, '/');
    buf_addstr(&c->path, name);
    store_each(c->store, buf_str(&c->path), count_key, c);
    c->path.len = before;
}

static uint64_t count_keys(const struct store *s)
{
    struct counting c = {.store = s};

    buf_adds(&c.path, "/1");
    store_each(s, buf_str(&c.path), count_key, &c);
    buf_release(&c.path);
    return c.n;
}

static void note_last(struct ctl_data *d, const void *p, size_t n)
{
    const struct json *node;
    struct json *j;
    struct str s;

    if (json_parse(p, n, &j, NULL) < 0)
        return;
    node = json_get(j, "node");
    s = json_text(json_get(j, "action"), "");
    d->last_action = xstrndup(s.p, s.n);
    s = json_text(node ? json_get(node, "key") : NULL, "");
    d->last_key = xstrndup(s.p, s.n);
    if (node && json_get(node, "modifiedIndex"))
        json_u64(json_get(node, "modifiedIndex"), &d->last_modified);
    json_free(j);
}

static bool take_event(void *arg, struct blob *json, int why)
{
    (void)why;
    *(struct blob **)arg = blob_ref(json);
    return true;
}

/* Without a write in the log, the last one in the snapshot's history. */
static void note_last_of_history(struct ctl_data *d, struct store *s)
{
    uint64_t newest = store_index(s), i = newest;
    struct blob *json = NULL;

    for (; i > 0 && newest - i < STORE_HISTORY_MAX && !json; i--) {
        struct store_watcher *w = NULL;
        struct store_error error = {0};

        if (store_watch(s, STR("/1"), true, false, i, take_event, &json, &w,
                        &error) == 0 &&
            w)
            store_unwatch(s, w);
        store_error_release(&error);
    }
    if (json)
        note_last(d, json->data, json->len);
    blob_unref(json);
}

static void summarize(struct replay *r)
{
    struct ctl_data *d = r->d;
    struct buf json = {0};

    d->n_members = cluster_members(r->cluster, &d->members);
    d->removed = cluster_is_removed(r->cluster, d->ids.node_id);
    d->keys = count_keys(r->store);
    d->etcd_index = store_index(r->store);
    if (r->last) {
        store_event_json(&json, r->last, 0);
        note_last(d, json.data, json.len);
        buf_release(&json);
    } else {
        note_last_of_history(d, r->store);
    }
}

/* --- Reading. ----------------------------------------------------------- */

static void set_problem(struct ctl_data *d, enum ctl_health health,
                        const char *text)
{
    if (d->problem) /* the first is the one that a start would meet */
        return;
    d->health = health;
    d->problem = xstrdup(text);
}

/* The newest snapshot that may be used; of a damaged log, any. */
static void read_snapshot(struct ctl_data *d, struct store *store)
{
    struct wal_snapshot *allowed = NULL;
    struct raft_snapshot s = {0};
    size_t n = 0;
    struct err e;
    int rc = wal_snapshots(d->wal_dir, &allowed, &n, &e);

    if (rc < 0)
        set_problem(d, CTL_DATA_DAMAGED, e.msg);
    rc = SNAP_ENONE;
    if (sys_exists(d->snap_dir))
        rc = snap_read_newest(d->snap_dir, allowed, n, &s, &d->note, &e);
    if (rc == 0) {
        struct str data = blob_str(s.data);

        if (store_recover(store, data.p, data.n, &e) == 0)
            d->snapshot = (struct wal_snapshot){s.index, s.term};
        else
            rc = -1;
        raft_snapshot_release(&s);
    }
    if (rc < 0 && rc != SNAP_ENONE)
        set_problem(d, CTL_DATA_DAMAGED, e.msg);
    free(allowed);
}

static void read_log(struct ctl_data *d, struct store *store,
                     struct cluster *cluster)
{
    struct replay r = {.d = d, .store = store, .cluster = cluster};
    struct wal_report log;
    struct err e;

    if (wal_inspect(d->wal_dir, d->snapshot, &log, &e) < 0)
        set_problem(d, CTL_DATA_DAMAGED, e.msg);
    else if (log.torn)
        set_problem(d, CTL_DATA_TORN, log.torn);
    d->ids = log.contents.metadata;
    d->hard_state = log.contents.hard_state;
    d->n_segments = log.n_segments;
    d->wal_bytes = log.bytes;
    d->n_torn = log.n_torn;
    cluster_set_id(cluster, d->ids.cluster_id);
    cluster_recover(cluster, store);
    replay_entries(&r, &log.contents);
    summarize(&r);
    store_event_unref(r.last);
    wal_report_release(&log);
}

static void v3_problem(struct ctl_data *d, const char *db, const char *what)
{
    char *text = xasprintf("the v3 state, %s, %s the snapshot at index %" PRIu64
                           ": restore that file, or all of %s from a backup",
                           db, what, d->snapshot.index, d->dir);

    set_problem(d, CTL_DATA_DAMAGED, text);
    free(text);
}

/* Beside a snapshot that etcd 3 took a start needs v3's file, as new as that or
 * newer, or the one that came with it from a leader. */
static void check_v3(struct ctl_data *d, const char *db,
                     const struct cluster *cluster)
{
    char *received = snap_db_path(d->snap_dir, d->snapshot.index);
    char version[32];
    uint64_t index = 0;
    struct err e;

    cluster_version(cluster, version);
    if (d->v3_bytes >= 0 && v3_peek_index(db, &index, &e) < 0)
        set_problem(d, CTL_DATA_DAMAGED, e.msg);
    else if (d->snapshot.index == 0 || sys_exists(received))
        ; /* the log has all, or it is there under another name */
    else if (d->v3_bytes < 0 && version[0] >= '3')
        v3_problem(d, db, "is missing beside");
    else if (d->v3_bytes >= 0 && index < d->snapshot.index)
        v3_problem(d, db, "is older than");
    free(received);
}

static void read_once(struct ctl_data *d)
{
    struct store *store = store_new();
    struct cluster *cluster = cluster_new();
    char *db = xasprintf("%s/db", d->snap_dir);
    struct stat st;

    d->v3_bytes = stat(db, &st) == 0 ? (int64_t)st.st_size : -1;
    read_snapshot(d, store);
    read_log(d, store, cluster);
    check_v3(d, db, cluster);
    free(db);
    d->store = store;
    cluster_free(cluster);
}

static int permission_denied(const char *path, struct err *e)
{
    return err_set(e, -1,
                   "cannot read %s: permission denied; run this as the user "
                   "that etcd runs as",
                   path);
}

/* "not readable" is told from "not there": the one calls for another user. */
static int check_readable(const char *path, struct err *e)
{
    DIR *handle = opendir(path);

    if (!handle && errno == EACCES)
        return permission_denied(path, e);
    if (!handle)
        return err_sys(e, -1, "cannot read %s", path);
    closedir(handle);
    return 0;
}

/* One that cannot be opened is not a damaged one. */
static int check_files(const char *dir, const char *suffix, struct err *e)
{
    char **names;
    size_t n;
    int rc = 0;

    if (!sys_exists(dir))
        return 0;
    if (check_readable(dir, e) < 0 || sys_list_dir(dir, &names, &n, e) < 0)
        return -1;
    for (size_t i = 0; i < n && rc == 0; i++) {
        char *path = xasprintf("%s/%s", dir, names[i]);

        if (has_suffix(names[i], suffix) && access(path, R_OK) < 0 &&
            errno == EACCES)
            rc = permission_denied(path, e);
        free(path);
    }
    sys_free_list(names, n);
    return rc;
}

static bool has(const char *dir, const char *name)
{
    char *path = xasprintf("%s/%s", dir, name);
    bool found = sys_exists(path);

    free(path);
    return found;
}

/* Directories that are easily given by mistake. */
static int no_data_dir(const char *dir, struct err *e)
{
    const char *why = "it has no member directory; give etcd's --data-dir";

    if (has(dir, "wal") || has(dir, "snap"))
        why = "it looks like the member directory; give the one above it";
    else if (has(dir, "proxy"))
        why = "it is a proxy's, which holds no data";
    return err_set(e, -1, "%s is not the data directory of a member: %s", dir,
                   why);
}

static int check_data_dir(const struct ctl_data *d, struct err *e)
{
    char *member = xasprintf("%s/member", d->dir);
    int rc = check_readable(d->dir, e);

    if (rc == 0 && !sys_exists(member))
        rc = no_data_dir(d->dir, e);
    else if (rc == 0)
        rc = check_readable(member, e);
    if (rc == 0)
        rc = check_files(d->wal_dir, ".wal", e);
    if (rc == 0)
        rc = check_files(d->snap_dir, ".snap", e);
    if (rc == 0 && !wal_exists(d->wal_dir))
        rc = err_set(e, CTL_DATA_ENOLOG,
                     "there is no log in %s; if it is elsewhere, give "
                     "--wal-dir",
                     d->wal_dir);
    free(member);
    return rc;
}

int ctl_data_read(const char *dir, const char *wal_dir, struct ctl_data *out,
                  struct err *e)
{
    for (int i = 0;; i++) {
        struct ctl_data d = {.dir = xstrdup(dir)};
        int rc;

        d.snap_dir = xasprintf("%s/member/snap", dir);
        d.wal_dir =
            *wal_dir ? xstrdup(wal_dir) : xasprintf("%s/member/wal", dir);
        rc = check_data_dir(&d, e);
        if (rc < 0) {
            ctl_data_release(&d);
            return rc;
        }
        d.in_use = ctl_data_in_use(d.dir, d.wal_dir, &d.pid);
        d.changed_ns = last_change(d.wal_dir);
        read_once(&d);
        if (!d.in_use || d.health == CTL_DATA_CLEAN || i == TRIES) {
            *out = d;
            return 0;
        }
        ctl_data_release(&d);
        sys_sleep_ms(TRY_MS);
    }
}
