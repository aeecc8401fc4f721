/*
 * ctlrejoin.c - etcdctl recover rejoin: bring back a member whose data is
 * damaged or gone, while its cluster has a quorum without it.
 *
 * It cannot come back under its id, because with its log it has forgotten what
 * it voted for and acknowledged (paper, 5.4.1). So its data is moved aside, the
 * member removed and added again under its peer URLs, and it starts anew.
 *
 * STEPS  and who the member is after a crash behind each; the same command
 * goes on from there:
 *
 *   note written, DIR/rejoin.json    the data, or the note: id, name, URLs
 *   data moved to DIR.damaged-TIME   the data there tells its id
 *   note written again               the note
 *   member removed                   the note; the cluster no longer knows it
 *   member added                     a member that has not started has its URLs
 *   new id noted                     the note; the settings are printed again
 *
 * The server deletes the note when it has made a log.
 */
#include "ctl.h"

#include "cluster.h"
#include "ctldata.h"
#include "log.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NOTE_NAME "rejoin.json"
#define NOTE_MAX (1024 * 1024)
#define ASIDE ".damaged-"
#define DIR_MODE 0700
/* An addition is refused until all members have been connected for 5 s. */
#define ADD_TRIES 40
#define ADD_PAUSE_MS 500
#define HEALTH_WAIT_MS 5000
#define HEALTH_PAUSE_MS 200

struct rejoin {
    struct ctl *c;
    char *dir, *wal_dir; /* wal_dir NULL: in dir */
    const char *name;    /* as given, or "" */
    int lock_fd;

    bool has_data;    /* in dir: a log or a snapshot, in whatever state */
    bool fine;        /* etcd starts on it */
    bool learner;     /* as the log says */
    uint64_t data_id; /* likewise; 0: it does not */

    struct member *members; /* of the cluster, as listed */
    size_t n_members;
    struct json *listing;

    struct member target; /* whom it is all about */
    bool listed;          /* not removed yet */
    uint64_t added;       /* its new id; 0: not added yet */
};

static char *note_path(const struct rejoin *r)
{
    return xasprintf("%s/" NOTE_NAME, r->dir);
}

/* --- What is in the directory. ------------------------------------------ */

/* Empty, as a new disk is. */
static bool is_blank(const char *name)
{
    return strcmp(name, NOTE_NAME) == 0 || strcmp(name, "lost+found") == 0 ||
           strncmp(name, "member" ASIDE, sizeof("member" ASIDE) - 1) == 0;
}

static int check_dir(struct rejoin *r)
{
    char **names;
    size_t n;
    struct err e;
    int rc = 0;

    if (!sys_exists(r->dir))
        return 0;
    if (sys_list_dir(r->dir, &names, &n, &e) < 0)
        return ctl_say("%s", e.msg);
    for (size_t i = 0; i < n; i++)
        if (strcmp(names[i], "member") == 0)
            r->has_data = true;
    for (size_t i = 0; i < n && !r->has_data && rc == 0; i++)
        if (!is_blank(names[i]))
            rc = ctl_say("%s is not empty and has no member directory: is it "
                         "etcd's --data-dir?",
                         r->dir);
    sys_free_list(names, n);
    return rc;
}

/* Against a server that starts now, and against one that runs. */
static int lock_dir(struct rejoin *r)
{
    char *member = xasprintf("%s/member", r->dir);
    char *wal = r->wal_dir ? xstrdup(r->wal_dir) : xasprintf("%s/wal", member);
    char who[32] = "a process";
    int pid = 0, rc = 0;

    r->lock_fd = open(member, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r->lock_fd < 0 && errno != ENOENT)
        rc = ctl_say("cannot open %s: %s", member, strerror(errno));
    else if (ctl_data_in_use(r->dir, wal, &pid) ||
             (r->lock_fd >= 0 && flock(r->lock_fd, LOCK_EX | LOCK_NB) < 0)) {
        if (pid > 0)
            snprintf(who, sizeof(who), "process %d", pid);
        rc = ctl_say("%s is in use by %s: stop it first. Nothing was changed",
                     r->dir, who);
    }
    free(member);
    free(wal);
    return rc;
}

static bool has_snapshots(const struct rejoin *r)
{
    char *snap = xasprintf("%s/member/snap", r->dir), **names;
    size_t n = 0;

    if (sys_list_dir(snap, &names, &n, NULL) == 0)
        sys_free_list(names, n);
    free(snap);
    return n > 0;
}

static int look_at_data(struct rejoin *r)
{
    const struct member *self;
    struct ctl_data d;
    struct err e;
    int rc;

    if (!r->has_data)
        return 0;
    rc = ctl_data_read(r->dir, r->wal_dir ? r->wal_dir : "", &d, &e);
    if (rc == CTL_DATA_ENOLOG) { /* perhaps what a start in vain has made */
        r->has_data = has_snapshots(r);
        return 0;
    }
    if (rc < 0)
        return ctl_say("%s", e.msg);
    self = ctl_data_self(&d);
    r->learner = self && self->is_learner;
    r->data_id = d.ids.node_id;
    r->fine = d.health != CTL_DATA_DAMAGED;
    ctl_data_release(&d);
    return 0;
}

/* --- The note. ---------------------------------------------------------- */

static void write_note_json(struct buf *b, const struct rejoin *r)
{
    buf_printf(b, "{\"id\":\"%" PRIx64 "\",\"name\":", r->target.id);
    json_add_string(b, str_of(r->target.name));
    buf_adds(b, ",\"peerURLs\":[");
    for (size_t i = 0; i < r->target.n_peer_urls; i++) {
        buf_adds(b, i ? "," : "");
        json_add_string(b, str_of(r->target.peer_urls[i]));
    }
    buf_printf(b, "],\"added\":\"%" PRIx64 "\"}\n", r->added);
}

static int write_note(const struct rejoin *r)
{
    char *path = note_path(r);
    struct buf b = {0};
    struct err e;
    int rc = 0;

    write_note_json(&b, r);
    if (sys_mkdir_all(r->dir, DIR_MODE, &e) < 0 ||
        sys_write_file_atomic(path, b.data, b.len, 0644, &e) < 0)
        rc = ctl_say("%s", e.msg);
    buf_release(&b);
    free(path);
    return rc;
}

/* A member as the API lists it, and as a note keeps it; owned. */
static struct member member_of(const struct json *j)
{
    const struct json *peers = json_get(j, "peerURLs");
    const struct json *clients = json_get(j, "clientURLs");
    struct str name = json_text(json_get(j, "name"), "");
    struct member m = {.name = xstrndup(name.p, name.n)};

    str_hex_to_u64(json_text(json_get(j, "id"), ""), &m.id);
    m.peer_urls = xcalloc(peers ? peers->n + 1 : 1, sizeof(*m.peer_urls));
    m.client_urls = xcalloc(clients ? clients->n + 1 : 1, sizeof(char *));
    for (const struct json *u = peers ? peers->first : NULL; u; u = u->next)
        m.peer_urls[m.n_peer_urls++] =
            xstrndup(json_text(u, "").p, json_text(u, "").n);
    for (const struct json *u = clients ? clients->first : NULL; u; u = u->next)
        m.client_urls[m.n_client_urls++] =
            xstrndup(json_text(u, "").p, json_text(u, "").n);
    return m;
}

/* False: there is none. */
static bool read_note(const struct rejoin *r, struct member *m, uint64_t *added)
{
    char *path = note_path(r);
    struct buf b = {0};
    struct json *j = NULL;
    bool found = sys_exists(path) &&
                 sys_read_file(path, NOTE_MAX, &b, NULL) == 0 &&
                 json_parse(b.data, b.len, &j, NULL) == 0;

    if (found) {
        *m = member_of(j);
        *added = 0;
        str_hex_to_u64(json_text(json_get(j, "added"), ""), added);
        json_free(j);
    }
    buf_release(&b);
    free(path);
    return found;
}

/* --- Who it is. --------------------------------------------------------- */

static int list_members(struct rejoin *r)
{
    struct ctl_error e = {0};
    const struct json *list;
    int rc = 0;

    members_free(r->members, r->n_members);
    json_free(r->listing);
    r->members = NULL;
    r->n_members = 0;
    r->listing = NULL;
    ctl_start_clock(r->c);
    if (ctlv2_get_json(r->c, "/v2/members", &r->listing, &e) != 0)
        rc = ctl_say_error(r->c, &e);
    list = rc == 0 ? json_get(r->listing, "members") : NULL;
    r->members = xcalloc(list ? list->n + 1 : 1, sizeof(*r->members));
    for (const struct json *m = list ? list->first : NULL; m; m = m->next)
        r->members[r->n_members++] = member_of(m);
    ctl_error_release(&e);
    return rc;
}

static const struct member *with_id(const struct rejoin *r, uint64_t id)
{
    for (size_t i = 0; i < r->n_members; i++)
        if (id && r->members[i].id == id)
            return &r->members[i];
    return NULL;
}

static const struct member *with_name(const struct rejoin *r, const char *name)
{
    for (size_t i = 0; i < r->n_members; i++)
        if (*name && strcmp(r->members[i].name, name) == 0)
            return &r->members[i];
    return NULL;
}

/* One that waits for its first start under the target's peer URLs. */
static const struct member *waiting(const struct rejoin *r,
                                    const struct member *target)
{
    for (size_t i = 0; i < r->n_members; i++) {
        const struct member *m = &r->members[i];
        bool same = m->n_peer_urls == target->n_peer_urls;

        for (size_t k = 0; k < m->n_peer_urls && same; k++)
            same = strcmp(m->peer_urls[k], target->peer_urls[k]) == 0;
        if (same && !*m->name && m->id != target->id)
            return m;
    }
    return NULL;
}

/* A crash between the move and the note: the data that was moved last. */
static const struct member *moved_last(const struct rejoin *r)
{
    const char *slash = strrchr(r->dir, '/');
    const char *base = slash ? slash + 1 : r->dir;
    char *parent =
        slash ? xstrndup(r->dir, (size_t)(slash + 1 - r->dir)) : xstrdup("./");
    char *prefix = xasprintf("%s" ASIDE, base), *newest = NULL;
    const struct member *m = NULL;
    struct ctl_data d;
    char **names;
    size_t n;

    if (sys_list_dir(parent, &names, &n, NULL) == 0) {
        for (size_t i = 0; i < n; i++) { /* they sort by time */
            if (strncmp(names[i], prefix, strlen(prefix)) != 0)
                continue;
            free(newest);
            newest = xasprintf("%s%s", parent, names[i]);
        }
        sys_free_list(names, n);
    }
    if (newest &&
        ctl_data_read(newest, r->wal_dir ? r->wal_dir : "", &d, NULL) == 0) {
        m = with_id(r, d.ids.node_id);
        ctl_data_release(&d);
    }
    free(newest);
    free(prefix);
    free(parent);
    return m;
}

static void set_target(struct rejoin *r, const struct member *m, bool listed)
{
    member_release(&r->target);
    member_copy(&r->target, m);
    r->listed = listed;
}

/* An earlier run was interrupted, or is done but for the start. */
static void go_on_from(struct rejoin *r, const struct member *noted,
                       uint64_t added)
{
    const struct member *then = with_id(r, added);
    const struct member *now = with_id(r, noted->id);

    if (then && *then->name) { /* it has been back, and is lost again */
        set_target(r, then, true);
        return;
    }
    set_target(r, now ? now : noted, now != NULL);
    if (!then)
        then = waiting(r, noted);
    if (!now && then)
        r->added = then->id;
}

static int find_target(struct rejoin *r)
{
    const struct member *m = with_id(r, r->data_id);
    struct member noted = {0};
    uint64_t added = 0;
    bool note = read_note(r, &noted, &added);

    if (m) {
        set_target(r, m, true);
    } else if (note && (!r->data_id || noted.id == r->data_id)) {
        go_on_from(r, &noted, added);
    } else if (!r->data_id) {
        m = r->has_data ? NULL : moved_last(r);
        if (!m)
            m = with_name(r, r->name);
        if (m)
            set_target(r, m, true);
    }
    if (r->target.id && !*r->target.name) { /* it never got to tell it */
        free(r->target.name);
        r->target.name = xstrdup(note && !*r->name ? noted.name : r->name);
    }
    member_release(&noted);
    if (r->target.id && *r->target.name)
        return 0;
    if (r->target.id)
        return ctl_say("member %" PRIx64 " has not told its name: give --name",
                       r->target.id);
    if (r->data_id)
        return ctl_say("%s belongs to member %" PRIx64 ", which this cluster "
                       "does not have: are the --endpoints those of its "
                       "cluster? If it was removed, clear the directory and "
                       "use etcdctl member add",
                       r->dir, r->data_id);
    if (*r->name)
        return ctl_say("the cluster has no member named %s (see etcdctl "
                       "member list)",
                       r->name);
    return ctl_say("%s does not tell which member it was: give --name", r->dir);
}

/* --- May it be done? ---------------------------------------------------- */

enum answer { SILENT, UNHEALTHY, HEALTHY };

static enum answer ask_health(struct rejoin *r, const struct member *m)
{
    enum answer best = SILENT;

    for (size_t i = 0; i < m->n_client_urls && best != HEALTHY; i++) {
        char *url = xasprintf("%s/health", m->client_urls[i]);
        struct ctl_answer a = {0};
        struct json *j = NULL;
        struct err e;

        ctl_start_clock(r->c);
        if (ctl_get_url(r->c, url, &a, &e) == 0) {
            best = UNHEALTHY;
            if (json_parse(a.body.data, a.body.len, &j, &e) == 0 &&
                (json_bool(json_get(j, "health"), false) ||
                 str_eqz(json_text(json_get(j, "health"), ""), "true")))
                best = HEALTHY;
            json_free(j);
        }
        ctl_answer_release(&a);
        free(url);
    }
    return best;
}

/* Perhaps there is only no leader for a moment: it may have been this one. */
static bool becomes_healthy(struct rejoin *r, const struct member *m)
{
    int64_t give_up = sys_mono_ns() + HEALTH_WAIT_MS * NS_PER_MS;

    while (ask_health(r, m) != HEALTHY) {
        if (m->n_client_urls == 0 || sys_mono_ns() > give_up)
            return false;
        sys_sleep_ms(HEALTH_PAUSE_MS);
    }
    return true;
}

static int check_target(struct rejoin *r)
{
    const struct member *t = &r->target;

    if (*r->name && *t->name && strcmp(r->name, t->name) != 0)
        return ctl_say("%s belongs to member %s, not %s", r->dir, t->name,
                       r->name);
    if (!r->listed)
        return 0;
    if (r->fine)
        return ctl_say("%s is not damaged: start etcd on it as it is (see "
                       "etcdctl recover status %s). Nothing was changed",
                       r->dir, r->dir);
    if (r->learner)
        return ctl_say("member %s is a learner, which this command would make "
                       "a voter: clear %s, remove the member and add it again "
                       "as a learner. Nothing was changed",
                       t->name, r->dir);
    if (ask_health(r, t) != SILENT)
        return ctl_say("member %s answers at %s: it is running somewhere. "
                       "Stop it first, or check the directory",
                       t->name, t->client_urls[0]);
    return 0;
}

/*
 * All others, not only a quorum: the cluster adds no member while one of those
 * it has is away, and to find that out after the removal would be too late.
 */
static int check_others(struct rejoin *r)
{
    size_t others = 0;

    for (size_t i = 0; i < r->n_members; i++) {
        const struct member *m = &r->members[i];

        if (m->id == r->target.id || m->id == r->added)
            continue;
        others++;
        if (becomes_healthy(r, m))
            continue;
        return ctl_say("member %" PRIx64 " (%s) is not healthy, and the "
                       "cluster must be without %s. Start it first; or if it "
                       "is lost as well and the rest is a quorum, remove it "
                       "(etcdctl member remove %" PRIx64 ") and add it again "
                       "later. Without a quorum: etcdctl recover status. "
                       "Nothing was changed",
                       m->id, *m->name ? m->name : "not started",
                       *r->target.name ? r->target.name : "the member", m->id);
    }
    if (others == 0)
        return ctl_say("it is the only member of the cluster: there is nobody "
                       "to get the data from. Restore a backup. Nothing was "
                       "changed");
    return 0;
}

/* --- Moving aside. ------------------------------------------------------ */

/* PATH.damaged-20260131T235959Z, which does not exist yet. */
static char *aside_of(const char *path)
{
    for (time_t now = (time_t)(sys_wall_ns() / NS_PER_S);; now++) {
        char when[32], *aside;
        struct tm tm;

        gmtime_r(&now, &tm);
        strftime(when, sizeof(when), "%Y%m%dT%H%M%SZ", &tm);
        aside = xasprintf("%s" ASIDE "%s", path, when);
        if (!sys_exists(aside))
            return aside;
        free(aside);
    }
}

/* 0, or errno. */
static int move_aside(const char *path)
{
    char *aside = aside_of(path);
    int rc = rename(path, aside) < 0 ? errno : 0;

    if (rc == 0)
        printf("Moved %s to %s\n", path, aside);
    free(aside);
    return rc;
}

/* As the old one was, for a server that may not make it itself. */
static int make_again(const char *dir, const struct stat *st)
{
    if (mkdir(dir, st->st_mode & 07777) < 0)
        return ctl_say("cannot create %s: %s", dir, strerror(errno));
    if (chmod(dir, st->st_mode & 07777) < 0 ||
        (geteuid() == 0 && chown(dir, st->st_uid, st->st_gid) < 0))
        return ctl_say("cannot give %s its owner: %s", dir, strerror(errno));
    return 0;
}

/* A mount point, or one in a directory that is not ours, cannot be renamed;
 * what is in it can. */
static int move_member(const char *dir)
{
    char *member = xasprintf("%s/member", dir);
    int rc = move_aside(member);

    free(member);
    return rc ? ctl_say("cannot move %s aside: %s", dir, strerror(rc)) : 0;
}

static int move_data(struct rejoin *r)
{
    struct stat st;
    int rc;

    if (stat(r->dir, &st) < 0)
        return ctl_say("cannot read %s: %s", r->dir, strerror(errno));
    rc = move_aside(r->dir);
    if (rc == EBUSY || rc == EXDEV || rc == EACCES || rc == EPERM)
        return move_member(r->dir);
    if (rc)
        return ctl_say("cannot move %s aside: %s", r->dir, strerror(rc));
    return make_again(r->dir, &st);
}

static int move_wal(const struct rejoin *r)
{
    int rc = r->wal_dir && wal_exists(r->wal_dir) ? move_aside(r->wal_dir) : 0;

    return rc ? ctl_say("cannot move %s aside: %s", r->wal_dir, strerror(rc))
              : 0;
}

/* --- Removing and adding. ----------------------------------------------- */

static int remove_target(struct rejoin *r)
{
    char *path = xasprintf("/v2/members/%" PRIx64, r->target.id);
    struct ctl_answer a = {0};
    int rc;

    if (!r->listed) {
        free(path);
        return 0;
    }
    ctl_start_clock(r->c);
    rc = ctl_send(r->c, "DELETE", path, NULL, &a);
    if (rc == 0 && a.status != 204 && a.status != 410 && a.status != 404)
        rc = ctl_say_message(&a);
    else if (rc == 0)
        printf("Removed member %" PRIx64 " (%s) from the cluster\n",
               r->target.id, r->target.name);
    ctl_answer_release(&a);
    free(path);
    return rc;
}

static void peer_urls_body(struct buf *b, const struct member *m)
{
    buf_adds(b, "{\"peerURLs\":[");
    for (size_t i = 0; i < m->n_peer_urls; i++) {
        buf_adds(b, i ? "," : "");
        json_add_string(b, str_of(m->peer_urls[i]));
    }
    buf_adds(b, "]}");
}

/* 1: done; 0: not yet; else the exit code behind its sign. */
static int try_add(struct rejoin *r, const struct buf *body, bool last)
{
    struct ctl_request q = {.method = "POST",
                            .path = "/v2/members",
                            .content_type = "application/json",
                            .body = body,
                            .one_shot = true};
    struct ctl_answer a = {0};
    struct ctl_error e = {0};
    const struct member *m;
    int rc = 0;

    ctl_start_clock(r->c);
    if (ctl_do(r->c, &q, &a, &e) != 0) {
        if (last)
            rc = -ctl_say_error(r->c, &e);
    } else if (a.status != 201 && a.status != 409 && (last || a.status < 500)) {
        rc = -ctl_say_message(&a);
    }
    ctl_answer_release(&a);
    ctl_error_release(&e);
    if (rc < 0)
        return rc;
    if (list_members(r) != 0)
        return -CTL_BAD_ARGS;
    m = waiting(r, &r->target);
    r->added = m ? m->id : 0;
    return m != NULL;
}

static int add_target(struct rejoin *r)
{
    struct buf body = {0};
    int rc = r->added != 0;

    peer_urls_body(&body, &r->target);
    for (int i = 1; i <= ADD_TRIES && rc == 0; i++) {
        rc = try_add(r, &body, i == ADD_TRIES);
        if (rc == 0)
            sys_sleep_ms(ADD_PAUSE_MS);
    }
    buf_release(&body);
    if (rc == 0)
        rc = -ctl_say("a member with these peer URLs is there already");
    return rc > 0 ? 0 : -rc;
}

static void print_start(const struct rejoin *r)
{
    char id[32];

    snprintf(id, sizeof(id), "%" PRIx64, r->added);
    printf("Added it again as member %s. Start it on %s as before, but with "
           "these settings\n(also in the place of --initial-cluster and "
           "--initial-cluster-state, if those are given):\n",
           id, r->dir);
    ctlv2_print_joining(r->listing, str_of(id), r->target.name);
}

/* --- The command. ------------------------------------------------------- */

static int carry_out(struct rejoin *r)
{
    int rc = write_note(r);

    if (rc == 0 && r->has_data)
        rc = move_data(r);
    if (rc == 0)
        rc = write_note(r); /* the first one has moved, too */
    if (rc == 0)
        rc = move_wal(r);
    if (rc == 0)
        rc = remove_target(r);
    if (rc == 0)
        rc = add_target(r);
    if (rc == 0)
        rc = write_note(r);
    if (rc == 0)
        print_start(r);
    else
        fprintf(stderr, "When that is mended, give the same command again: it "
                        "goes on from here.\n");
    return rc;
}

static int rejoin(struct rejoin *r)
{
    int rc = check_dir(r);

    if (rc == 0)
        rc = lock_dir(r);
    if (rc == 0)
        rc = look_at_data(r);
    if (rc == 0)
        rc = ctl_connect(r->c, CTL_NO_SYNC);
    if (rc == 0)
        rc = list_members(r);
    if (rc == 0)
        rc = find_target(r);
    if (rc == 0)
        rc = check_target(r);
    if (rc == 0 && !r->added)
        rc = check_others(r);
    return rc ? rc : carry_out(r);
}

/* Without slashes at its end, behind which ".damaged-" would be a child. */
static char *trimmed(const char *path)
{
    size_t n = strlen(path);

    while (n > 1 && path[n - 1] == '/')
        n--;
    return xstrndup(path, n);
}

int ctl_recover_rejoin(struct ctl *c)
{
    const char *wal_dir = ctl_string(c, "wal-dir", "");
    struct rejoin r = {
        .c = c, .name = ctl_string(c, "name", ""), .lock_fd = -1};
    int rc;

    if (c->n_args != 1 || !*c->args[0])
        return ctl_say("Provide one data directory");
    log_set_level(LOG_WARN);
    r.dir = trimmed(c->args[0]);
    r.wal_dir = *wal_dir ? trimmed(wal_dir) : NULL;
    rc = rejoin(&r);
    if (r.lock_fd >= 0)
        close(r.lock_fd);
    member_release(&r.target);
    members_free(r.members, r.n_members);
    json_free(r.listing);
    free(r.dir);
    free(r.wal_dir);
    return rc;
}
