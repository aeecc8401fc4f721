/*
 * v3disk.c - the v3 state as a file: `db` beside the `.snap` files, the same
 * bytes for a follower, and as a client's snapshot.
 *
 * The state is pinned under the lock: all but the keys is copied, which is
 * little, and the versions are read in batches while traffic goes on. Reads of
 * a pinned state all see the same.
 *
 * Only the checkpointer writes `db`. What comes with a leader's snapshot is a
 * file of its own (snap.h), durable before raft hears of the snapshot, and
 * takes the place of `db` later: until then a restart finds it there (boot.c).
 */
#include "boot.h"
#include "log.h"
#include "server_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

struct v3_pinned {
    struct server *s;
    struct mvcc *m;
    struct mvcc_pin pin;
    struct backend_image image;
    struct backend_source source;
    struct bolt_plan plan;
    unsigned era; /* which of the server's v3 states it is */
};

/* --- The state at one moment. --------------------------------------------- */

static size_t next_versions(void *arg, struct mvcc_cursor *c, int64_t last,
                            struct mvcc_kv **kvs, size_t max)
{
    struct v3_pinned *p = arg;
    size_t n;

    v3_give_way(p->s);
    pthread_mutex_lock(&p->s->mu);
    n = mvcc_log_next(p->m, c, last, kvs, max);
    pthread_mutex_unlock(&p->s->mu);
    return n;
}

static void add_members(struct server *s, struct backend_image *image)
{
    char version[32];
    struct member *m;
    uint64_t *removed;
    size_t n = cluster_members(s->cluster, &m);

    for (size_t i = 0; i < n; i++) {
        struct buf json = {0};

        member_json(&json, &m[i], -1);
        backend_add_member(image, m[i].id, buf_str(&json));
        buf_release(&json);
    }
    members_free(m, n);
    n = cluster_removed(s->cluster, &removed);
    for (size_t i = 0; i < n; i++)
        backend_add_removed(image, removed[i]);
    free(removed);
    cluster_version(s->cluster, version);
    if (*version)
        backend_set_cluster_version(image, str_of(version));
}

struct v3_pinned *v3_pin(struct server *s)
{
    struct v3_pinned *p = xcalloc(1, sizeof(*p));

    p->s = s;
    p->m = s->v3->mvcc;
    p->era = s->v3_era;
    v3_hold(s);
    mvcc_pin(p->m, &p->pin, mvcc_compact_finished(p->m));
    v3_save(s->v3, &p->image);
    add_members(s, &p->image);
    p->source = (struct backend_source){&p->image, next_versions, p};
    return p;
}

void v3_unpin(struct v3_pinned *p)
{
    struct server *s = p->s;
    struct mvcc *m;

    pthread_mutex_lock(&s->mu);
    mvcc_unpin(p->m, &p->pin);
    m = v3_unhold(s, p->m);
    pthread_mutex_unlock(&s->mu);
    if (m)
        mvcc_free(m);
    backend_image_release(&p->image);
    free(p);
}

uint64_t v3_pinned_measure(struct v3_pinned *p)
{
    backend_measure(&p->source, &p->plan);
    return p->plan.n_pages * BOLT_PAGE_BYTES;
}

int v3_pinned_save(struct v3_pinned *p, struct err *e)
{
    struct server *s = p->s;
    char *path = xasprintf("%s/db", s->config->snap_dir);
    bool goes_on;
    uint64_t bytes;
    int rc;

    if (s->db_era != p->era) {
        backend_file_close(s->db_file);
        s->db_file = NULL;
    }
    rc = backend_update(&s->db_file, path, &p->source,
                        s->config->unsafe_no_fsync, &bytes, e);
    free(path);
    goes_on = backend_file_goes_on(s->db_file, p->image.finished);
    pthread_mutex_lock(&s->mu);
    s->db_era = goes_on ? p->era : 0;
    s->db_finished = p->image.finished;
    if (rc == 0)
        s->db_bytes = bytes;
    pthread_mutex_unlock(&s->mu);
    return rc;
}

int v3_pinned_write(struct v3_pinned *p, snap_sink *sink, void *arg,
                    struct err *e)
{
    return backend_write(&p->source, &p->plan, sink, arg, e);
}

enum v3_error v3_hash(struct server *s, uint32_t *hash, struct v3_header *h)
{
    struct v3_pinned *p;

    *h = v3_header(s);
    pthread_mutex_lock(&s->mu);
    p = v3_pin(s);
    pthread_mutex_unlock(&s->mu);
    *hash = backend_hash(&p->source);
    v3_unpin(p);
    return V3_OK;
}

/* --- A leader's snapshot. ------------------------------------------------- */

void v3_adopt(struct server *s)
{
    raft_index index;
    char *from, *to;

    pthread_mutex_lock(&s->mu);
    index = s->adopt_index;
    s->adopt_index = 0;
    pthread_mutex_unlock(&s->mu);
    if (index == 0)
        return;
    /* Not before the log has the snapshot, or a crash could leave db ahead. */
    server_take_disk(s);
    server_give_disk(s);
    from = snap_db_path(s->config->snap_dir, index);
    to = xasprintf("%s/db", s->config->snap_dir);
    /* If it fails, a restart finds the file where it is. A checkpoint may have
     * been made of the new state already. */
    if (s->db_index >= index)
        unlink(from);
    else if (rename(from, to) < 0)
        log_warn("etcdserver", "cannot rename %s to %s", from, to);
    else if (!s->config->unsafe_no_fsync)
        sys_fsync_dir(s->config->snap_dir, NULL);
    free(from);
    free(to);
}

/* One that has no v3 state comes from a member that never had any: then we
 * must not have any either. */
static int load_nothing(raft_index index, bool untouched, struct v3 **out,
                        const struct v3_config *config, struct err *e)
{
    if (!untouched)
        return err_set(e, -1,
                       "the snapshot at index %" PRIu64 " has no v3 state, but "
                       "this member has",
                       index);
    *out = v3_new(config);
    v3_skip(*out, index);
    return 0;
}

static int load_received(struct server *s, raft_index index, bool untouched,
                         struct v3 **out, struct err *e)
{
    struct v3_config config = boot_v3_config(s->config);
    char *path = snap_db_path(s->config->snap_dir, index);
    struct v3 *v = NULL;
    bool there;
    int rc = sys_find(path, &there, e);

    if (rc == 0)
        rc = there ? v3_load(path, &config, &v, e)
                   : load_nothing(index, untouched, &v, &config, e);
    if (rc == 0 && v->index < index) {
        rc = err_set(e, -1,
                     "%s has the v3 state at index %" PRIu64
                     ", before that of its snapshot",
                     path, v->index);
        v3_free(v);
    }
    free(path);
    if (rc == 0)
        *out = v;
    return rc;
}

int v3_receive(struct server *s, raft_index index, struct err *e)
{
    struct v3 *v, *other;
    bool untouched;

    pthread_mutex_lock(&s->mu);
    untouched = v3_is_untouched(s->v3);
    pthread_mutex_unlock(&s->mu);
    if (load_received(s, index, untouched, &v, e) != 0)
        return -1;
    pthread_mutex_lock(&s->mu);
    other = s->incoming;
    s->incoming = v;
    s->incoming_index = index;
    pthread_mutex_unlock(&s->mu);
    v3_free(other);
    return 0;
}

struct v3 *v3_install(struct server *s, raft_index index)
{
    struct v3 *v = s->incoming;
    struct err e;

    if (v && s->incoming_index == index)
        s->incoming = NULL;
    else if (load_received(s, index, v3_is_untouched(s->v3), &v, &e) != 0)
        /* Another one came behind it. */
        log_fatal("etcdserver", "the leader's snapshot is unreadable: %s",
                  e.msg);
    /* A crash may have left db ahead of the log, with a .snap file as new that
     * a later start may use: then db must not go back. */
    if (s->v3->index > v->index)
        return v;
    s->adopt_index = index;
    sys_u64_store(&s->primary_term, 0);
    server_wake_jobs(s, true, false);
    return v3_replace(s, v);
}

/* --- A client's snapshot. ------------------------------------------------- */

/*
 * The file is produced by pushing, and the RPC layer pulls: so a thread of its
 * own makes it, a piece ahead of who takes it.
 */
#define PIECE_BYTES ((size_t)64 * 1024)

struct v3_snapshot {
    struct v3_pinned *pinned;
    pthread_t thread;
    pthread_mutex_t mu; /* all below; a leaf */
    pthread_cond_t cond;
    struct buf making; /* the thread's own */
    struct buf ready;  /* a piece, if there is one */
    struct buf taken;  /* that was handed out last */
    bool full, ended, closed;
    int rc; /* when it has ended */
    struct err e;
};

/* False: nobody wants it any more. */
static bool hand_over(struct v3_snapshot *sn)
{
    bool go_on;

    pthread_mutex_lock(&sn->mu);
    while (sn->full && !sn->closed)
        pthread_cond_wait(&sn->cond, &sn->mu);
    go_on = !sn->closed;
    if (go_on) {
        struct buf empty = sn->ready;

        sn->ready = sn->making;
        sn->making = empty;
        buf_clear(&sn->making);
        sn->full = true;
        pthread_cond_broadcast(&sn->cond);
    }
    pthread_mutex_unlock(&sn->mu);
    return go_on;
}

static int add_piece(void *arg, const void *p, size_t n)
{
    struct v3_snapshot *sn = arg;

    buf_add(&sn->making, p, n);
    return sn->making.len < PIECE_BYTES || hand_over(sn) ? 0 : -1;
}

static void *snapshot_thread(void *arg)
{
    struct v3_snapshot *sn = arg;
    struct err e = {.code = 0};
    int rc;

    sys_thread_name("etcd-snapshot");
    rc = v3_pinned_write(sn->pinned, add_piece, sn, &e);
    if (rc == 0 && sn->making.len)
        hand_over(sn);
    pthread_mutex_lock(&sn->mu);
    sn->ended = true;
    sn->rc = rc;
    sn->e = e;
    pthread_cond_broadcast(&sn->cond);
    pthread_mutex_unlock(&sn->mu);
    return NULL;
}

struct v3_snapshot *v3_snapshot_open(struct server *s, uint64_t *size,
                                     struct err *e)
{
    struct v3_snapshot *sn = xcalloc(1, sizeof(*sn));

    pthread_mutex_lock(&s->mu);
    sn->pinned = v3_pin(s);
    pthread_mutex_unlock(&s->mu);
    *size = v3_pinned_measure(sn->pinned);
    pthread_mutex_init(&sn->mu, NULL);
    sys_cond_init(&sn->cond);
    if (sys_thread(&sn->thread, SYS_STACK_LARGE, snapshot_thread, sn) == 0)
        return sn;
    v3_unpin(sn->pinned);
    free(sn);
    err_set(e, -1, "cannot start a thread for the snapshot");
    return NULL;
}

int v3_snapshot_next(struct v3_snapshot *sn, struct str *piece, struct err *e)
{
    int rc = 1;

    pthread_mutex_lock(&sn->mu);
    while (!sn->full && !sn->ended)
        pthread_cond_wait(&sn->cond, &sn->mu);
    if (sn->full) {
        struct buf used = sn->taken;

        sn->taken = sn->ready;
        sn->ready = used;
        sn->full = false;
        pthread_cond_broadcast(&sn->cond);
        *piece = buf_str(&sn->taken);
    } else {
        rc = sn->rc < 0 ? -1 : 0;
        if (rc < 0)
            *e = sn->e;
    }
    pthread_mutex_unlock(&sn->mu);
    return rc;
}

void v3_snapshot_close(struct v3_snapshot *sn)
{
    pthread_mutex_lock(&sn->mu);
    sn->closed = true;
    pthread_cond_broadcast(&sn->cond);
    pthread_mutex_unlock(&sn->mu);
    pthread_join(sn->thread, NULL);
    v3_unpin(sn->pinned);
    buf_release(&sn->making);
    buf_release(&sn->ready);
    buf_release(&sn->taken);
    free(sn);
}
