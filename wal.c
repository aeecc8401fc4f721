/*
 * wal.c - write-ahead log, in etcd's own format: creating, opening, appending.
 *
 * Records are walrecord.c's, their files walsegment.c's. walscan.c reads them
 * as one stream, waltorn.c judges where it breaks off, walreplay.c makes Raft's
 * state of it, and walinspect.c shows it to people.
 *
 * FILES   <seq>-<index>.wal, 16 hex digits each: number of the segment and
 *         first index in it. Only the last segment, the tail, is written;
 *         past 64 MB it is cut. Its unused end is preallocated zeros.
 *         0.tmp is the next segment, being prepared; NAME.broken is what a
 *         repair found.
 *
 * FRAME   one after another; a zero length ends the segment
 *
 *   OFFSET  SIZE  FIELD
 *        0     8  little-endian; bits 0-55 are n, bits 56-58 the padding,
 *                 bit 63 says that there is padding
 *        8     n  walpb.Record: type, crc, data
 *      8+n   0-7  zeros, so that no length straddles two sectors
 *
 *   crc is the CRC-32C of the data of this and all earlier records; a crc
 *   record opens each segment and carries the sum across. Then follow the
 *   metadata and, in the first segment, the empty snapshot record, in later
 *   ones the hard state.
 *
 * INVARIANTS
 *   1. A record is acknowledged only after its segment is synced; one that a
 *      start has read, only after that start has written and synced it anew,
 *      unless something behind it proves that it was synced before.
 *   2. An entry replaces any earlier entry with its index or a higher one
 *      (paper, 5.3: a follower drops a conflicting suffix).
 *   3. A segment is synced before the next one gets its name, and its own
 *      head was synced before it got its own.
 *   4. Entries are synced before more entries follow behind a state record,
 *      and a snapshot record before anything follows it.
 *
 * RECOVERY
 *   A crash leaves each sector that was not synced either written or zero. So
 *   a bad record in the tail is a torn write if a whole sector of it is zero
 *   or lies beyond the end of the file, if what can be seen of it agrees with
 *   itself, and if no later write proves, by (4), that it had been synced. By
 *   (1) nobody was told of it: cut it. Any other bad record is lost data:
 *   refuse to start and name file and offset, because a server that forgets a
 *   vote or an entry can help elect the wrong leader (paper, 5.2 and 5.4.1).
 *
 *   The sums cover what records hold, not what they are. Replay therefore
 *   also refuses what Raft never writes: a gap, a term, a commit index or a
 *   vote that goes back.
 */
#include "wal_impl.h"

#include "sys.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define WRITE_CHUNK (1024 * 1024) /* frames are written when they are more */
#define WRITE_KEEP (256 * 1024)   /* memory that stays with an idle log */
#define DIR_MODE 0700
#define NEXT_NAME "0.tmp"

/* The segment after the tail, made ready by a thread of its own. */
struct next_segment {
    bool started; /* the thread runs or has run, and was not joined yet */
    pthread_t thread;
    char *path;
    int fd; /* these two: the thread's until it is joined */
    struct err err;
};

struct wal {
    char *dir;
    bool no_fsync;
    bool failed; /* a write or a sync: nothing more is taken */
    struct wal_metadata metadata;
    struct raft_hard_state state; /* the last one written */
    raft_index last_index;
    struct segments segs; /* the last one is the tail */
    int64_t tail_end;     /* offset in it of the next frame */
    uint32_t crc;         /* running sum up to there */
    struct buf out;       /* frames that are not written yet */
    struct buf scratch;
    uint64_t bytes_written;
    struct next_segment next;
};

static struct segment *tail_of(struct wal *w)
{
    assert(w->segs.n > 0);
    return &w->segs.v[w->segs.n - 1];
}

static struct wal *wal_new(const char *dir, bool no_fsync)
{
    struct wal *w = xcalloc(1, sizeof(*w));
    size_t n = strlen(dir);

    while (n > 1 && dir[n - 1] == '/')
        n--;
    w->dir = xstrndup(dir, n);
    w->no_fsync = no_fsync;
    w->next.fd = -1;
    w->next.path = xasprintf("%s/" NEXT_NAME, w->dir);
    return w;
}

void wal_close(struct wal *w)
{
    if (!w)
        return;
    if (w->next.started)
        pthread_join(w->next.thread, NULL);
    if (w->next.fd >= 0) {
        unlink(w->next.path);
        close(w->next.fd);
    }
    free(w->next.path);
    wal_segments_close(&w->segs);
    buf_release(&w->out);
    buf_release(&w->scratch);
    free(w->dir);
    free(w);
}

static int log_failed(struct wal *w, const char *what, const char *path,
                      struct err *e)
{
    w->failed = true;
    return err_sys(e, WAL_EIO, "%s %s", what, path);
}

static int check_not_failed(const struct wal *w, struct err *e)
{
    if (!w->failed)
        return 0;
    return err_set(e, WAL_EIO,
                   "wal: %s takes nothing more after a failed write or sync: "
                   "restart the server",
                   w->dir);
}

/* An error of the tail, by its name. */
static int tail_failed(struct wal *w, const char *what, struct err *e)
{
    int saved = errno;
    char *path = wal_segment_path(w->dir, tail_of(w));

    errno = saved;
    log_failed(w, what, path, e);
    free(path);
    return WAL_EIO;
}

static int sync_dir(struct wal *w, const char *dir, struct err *e)
{
    if (w->no_fsync || sys_fsync_dir(dir, e) == 0)
        return 0;
    w->failed = true;
    return WAL_EIO;
}

/* Writes and forgets w->out, the frames of this call. */
static int write_out(struct wal *w, struct err *e)
{
    int fd = tail_of(w)->fd;
    size_t done = 0;

    while (done < w->out.len) {
        ssize_t n = pwrite(fd, w->out.data + done, w->out.len - done,
                           (off_t)w->tail_end);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return tail_failed(w, "write", e);
        done += (size_t)n;
        w->tail_end += n;
    }
    w->bytes_written += done;
    buf_clear(&w->out);
    buf_trim(&w->out, WRITE_KEEP);
    return 0;
}

/* --- Creating and cutting segments. -------------------------------------- */

static void *next_main(void *arg)
{
    struct next_segment *next = arg;

    sys_thread_name("wal-next");
    wal_segment_create(next->path, &next->fd, &next->err);
    return NULL;
}

/* Begin when half of the tail is used: in time, and not at every start. */
static void next_prepare(struct wal *w)
{
    struct next_segment *next = &w->next;

    if (next->started || next->fd >= 0 || w->tail_end < wal_segment_bytes / 2)
        return;
    next->started =
        sys_thread(&next->thread, SYS_STACK_SMALL, next_main, next) == 0;
}

/* The next segment's file; made here and now if there is none yet. */
static int next_take(struct wal *w, int *fd, struct err *e)
{
    struct next_segment *next = &w->next;

    if (next->started) {
        pthread_join(next->thread, NULL);
        next->started = false;
    }
    if (next->fd < 0 && wal_segment_create(next->path, &next->fd, e) < 0) {
        w->failed = true;
        return WAL_EIO;
    }
    *fd = next->fd;
    next->fd = -1;
    return 0;
}

static void add_record(struct wal *w, enum wal_record_type type,
                       const struct buf *data)
{
    wal_encode_frame(&w->out, type, buf_str(data), STR(""), &w->crc);
}

/* Such a state is the absence of one, and is never written. */
static bool is_empty(const struct raft_hard_state *hs)
{
    return hs->term == 0 && hs->vote == 0 && hs->commit == 0;
}

static void add_state(struct wal *w)
{
    buf_clear(&w->scratch);
    raftpb_encode_hard_state(&w->scratch, &w->state);
    add_record(w, WAL_STATE, &w->scratch);
}

/* What opens a segment. The first one has no state yet, but a snapshot. */
static void add_head(struct wal *w, bool first)
{
    buf_clear(&w->scratch);
    add_record(w, WAL_CRC, &w->scratch);
    wal_encode_metadata(&w->scratch, &w->metadata);
    add_record(w, WAL_METADATA, &w->scratch);
    if (first) {
        buf_clear(&w->scratch);
        wal_encode_snapshot(&w->scratch, (struct wal_snapshot){0}, NULL);
        add_record(w, WAL_SNAPSHOT, &w->scratch);
    } else if (!is_empty(&w->state)) {
        add_state(w);
    }
}

/*
 * Close the tail and begin the next segment. The order matters: until the
 * rename is on disk the closed tail is the last segment, and complete; after
 * it the new one is, and its head is whole.
 */
static int cut(struct wal *w, struct err *e)
{
    struct segment seg = {.seq = tail_of(w)->seq + 1,
                          .first = w->last_index + 1};
    char *path = wal_segment_path(w->dir, &seg);
    int rc = WAL_EIO;

    if (ftruncate(tail_of(w)->fd, (off_t)w->tail_end) < 0 ||
        (!w->no_fsync && fsync(tail_of(w)->fd) < 0)) {
        tail_failed(w, "close segment", e);
        goto out;
    }
    if (next_take(w, &seg.fd, e) < 0)
        goto out;
    wal_segments_push(&w->segs, seg);
    w->tail_end = 0;
    add_head(w, false);
    if (write_out(w, e) < 0)
        goto out;
    if ((!w->no_fsync && fsync(seg.fd) < 0) || rename(w->next.path, path) < 0) {
        log_failed(w, "begin segment", path, e);
        goto out;
    }
    rc = sync_dir(w, w->dir, e);
out:
    free(path);
    return rc;
}

/* The directory above; returns owned. */
static char *parent_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    if (!slash)
        return xstrdup(".");
    return slash == path ? xstrdup("/")
                         : xstrndup(path, (size_t)(slash - path));
}

/*
 * The name of the log's directory, and those of the two above it (the data
 * directory's "member" and the data directory), which may be as new.
 */
static int sync_parents(struct wal *w, struct err *e)
{
    char *path = xstrdup(w->dir), *above;
    int rc = 0;

    for (int i = 0; i < 3 && rc == 0 && !w->no_fsync; i++) {
        if (sys_fsync_parent(path, e) < 0)
            rc = WAL_EIO;
        above = parent_of(path);
        free(path);
        path = above;
    }
    free(path);
    w->failed |= rc < 0;
    return rc;
}

/* The first segment in tmp, and tmp in its place. */
static int create_in(struct wal *w, const char *tmp, struct err *e)
{
    struct segment seg = {0};
    char *path = wal_segment_path(tmp, &seg);
    int rc = wal_segment_create(path, &seg.fd, e);

    free(path);
    if (rc < 0)
        return rc;
    wal_segments_push(&w->segs, seg);
    add_head(w, true);
    if (write_out(w, e) < 0)
        return WAL_EIO;
    if (!w->no_fsync && fsync(seg.fd) < 0)
        return tail_failed(w, "fsync", e);
    if (sync_dir(w, tmp, e) < 0)
        return WAL_EIO;
    if (rename(tmp, w->dir) < 0)
        return err_sys(e, WAL_EIO,
                       "rename %s to %s (which must not hold other files)", tmp,
                       w->dir);
    return sync_parents(w, e);
}

int wal_create(const char *dir, const struct wal_metadata *m, bool no_fsync,
               struct wal **out, struct err *e)
{
    struct wal *w = wal_new(dir, no_fsync);
    char *tmp = xasprintf("%s.tmp", w->dir);
    int rc = WAL_EIO;

    w->metadata = *m;
    if (sys_exists(tmp) && sys_remove_all(tmp, e) < 0)
        goto fail; /* a crash left it: it was never the log */
    if (sys_mkdir_all(tmp, DIR_MODE, e) < 0)
        goto fail;
    rc = create_in(w, tmp, e);
    if (rc < 0)
        goto fail;
    free(tmp);
    *out = w;
    return 0;

fail:
    free(tmp);
    wal_close(w);
    return rc;
}

/* --- Opening, with repair. ----------------------------------------------- */

/* Up to size, sparse where the original is zero. 0, or -1 with errno. */
static int copy_bytes(int from, int to, int64_t size)
{
    uint8_t *chunk = xmalloc(WAL_COPY_CHUNK);
    int64_t off = 0;
    int rc = ftruncate(to, (off_t)size);

    while (rc == 0 && (off = wal_first_nonzero(from, off, size)) < size) {
        ssize_t n =
            off < 0 ? -1 : wal_read_at(from, chunk, WAL_COPY_CHUNK, off);

        if (n <= 0 || lseek(to, (off_t)off, SEEK_SET) < 0 ||
            sys_write_all(to, chunk, (size_t)n) < 0)
            rc = -1;
        off += n;
    }
    free(chunk);
    return rc == 0 ? fsync(to) : rc;
}

/* A part of a copy is none, and would take the space of the next one. */
static int copy_file(int from, int64_t size, const char *path)
{
    int fd =
        open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, WAL_FILE_MODE);
    int rc, saved;

    if (fd < 0)
        return -1;
    rc = copy_bytes(from, fd, size);
    saved = errno;
    close(fd);
    if (rc < 0)
        unlink(path);
    errno = saved;
    return rc;
}

/* Cut the torn write at the scan's end off the tail. What lies behind must
 * read as zeros for good, or stale frames could come back to life. */
static int repair(struct wal *w, const struct scan *s, char **note,
                  struct err *e)
{
    int fd = tail_of(w)->fd;
    char *path = wal_segment_path(w->dir, tail_of(w));
    char *broken = xasprintf("%s.broken", path);
    int rc = 0;

    if (copy_file(fd, s->r.size, broken) < 0) {
        err_sys(e, WAL_EIO, "copy %s to %s", path, broken);
        rc = wal_tell_space(errno, broken, s->r.size, e);
    } else if (sync_dir(w, w->dir, e) < 0) {
        rc = WAL_EIO;
    } else if (ftruncate(fd, (off_t)s->r.off) < 0 || wal_preallocate(fd) < 0 ||
               (!w->no_fsync && fsync(fd) < 0)) {
        err_sys(e, WAL_EIO, "repair %s", path);
        rc = wal_tell_space(errno, path, wal_segment_bytes - s->r.off, e);
    } else {
        *note = xasprintf("%s is cut at offset %" PRId64
                          ", where a crash tore the last write (%s); %s is "
                          "what it was",
                          path, s->r.off, s->torn, broken);
    }
    free(broken);
    free(path);
    return rc;
}

/* What a crash left half prepared: our next segment, or etcd's (0 or 1). */
static void remove_unnamed(const struct wal *w)
{
    char *other = xasprintf("%s/1.tmp", w->dir);

    unlink(w->next.path);
    unlink(other);
    free(other);
}

/* The same bytes once more, so that the next sync has something to do. */
static int write_again(struct wal *w, int64_t from)
{
    uint8_t *chunk = xmalloc(WAL_COPY_CHUNK);
    int fd = tail_of(w)->fd;
    ssize_t n = 1;

    for (int64_t off = from; off < w->tail_end; off += n) {
        uint64_t left = (uint64_t)(w->tail_end - off);

        n = wal_read_at(fd, chunk, (size_t)min_u64(WAL_COPY_CHUNK, left), off);
        if (n > 0)
            n = pwrite(fd, chunk, (size_t)n, (off_t)off);
        if (n < 0 && errno == EINTR)
            n = 0; /* this piece once more */
        else if (n <= 0)
            break;
    }
    free(chunk);
    return n > 0 ? 0 : -1;
}

/*
 * What was read may be in memory only, if the last process was killed between
 * a write, or a rename, and its sync; or if its sync failed, and then the
 * kernel takes those pages for clean and another sync for done. Who acts upon
 * what was read, as if it had been synced, must find it again after a power
 * failure.
 */
static int settle(struct wal *w, int64_t unproven, struct err *e)
{
    if (!w->no_fsync &&
        (write_again(w, unproven) < 0 || fsync(tail_of(w)->fd) < 0))
        return tail_failed(w, "fsync", e);
    if (sync_dir(w, w->dir, e) < 0)
        return WAL_EIO;
    return sync_parents(w, e);
}

static int preallocate_failed(struct wal *w, int64_t need, struct err *e)
{
    char *path = wal_segment_path(w->dir, tail_of(w));
    int error = errno;

    tail_failed(w, "preallocate", e);
    wal_tell_space(error, path, need, e);
    free(path);
    return WAL_EIO;
}

/* Behind replay: the tail is ready to be written. */
static int open_tail(struct wal *w, const struct scan *s,
                     struct wal_contents *c, struct wal_snapshot snap,
                     struct err *e)
{
    w->metadata = s->metadata;
    w->state = c->hard_state;
    w->last_index = snap.index + c->n_entries;
    w->tail_end = s->r.off;
    w->crc = s->crc;
    remove_unnamed(w);
    if (s->torn && repair(w, s, &c->repaired, e) < 0)
        return WAL_EIO;
    if (!s->torn && s->r.size < wal_segment_bytes &&
        wal_preallocate(tail_of(w)->fd) < 0)
        return preallocate_failed(w, wal_segment_bytes - s->r.size, e);
    return settle(w, s->unproven, e);
}

int wal_open(const char *dir, struct wal_snapshot snap, bool no_fsync,
             struct wal **out, struct wal_contents *contents, struct err *e)
{
    struct wal *w = wal_new(dir, no_fsync);
    struct wal_contents c = {0};
    struct scan s;
    size_t from;
    int rc = wal_segments_list(w->dir, &w->segs, e);

    if (rc < 0)
        goto fail;
    from = wal_segments_find(&w->segs, snap.index);
    rc = wal_segments_check(w->dir, &w->segs, from, e);
    if (rc == 0)
        rc = wal_segments_open(w->dir, &w->segs, from, WAL_TO_WRITE, e);
    if (rc == 0)
        rc = wal_replay(w->dir, &w->segs, from, snap, &s, &c, e);
    if (rc == 0)
        rc = open_tail(w, &s, &c, snap, e);
    if (rc < 0)
        goto fail;
    *contents = c;
    *out = w;
    return 0;

fail:
    wal_contents_release(&c);
    wal_close(w);
    return rc;
}

/* --- Appending. ---------------------------------------------------------- */

static int add_entry(struct wal *w, const struct raft_entry *ent, struct err *e)
{
    assert(ent->index > 0);
    assert(ent->index <= w->last_index + 1); /* replay would see a gap */
    buf_clear(&w->scratch);
    raftpb_encode_entry_head(&w->scratch, ent);
    wal_encode_frame(&w->out, WAL_ENTRY, buf_str(&w->scratch),
                     blob_str(ent->data), &w->crc);
    w->last_index = ent->index;
    return w->out.len >= WRITE_CHUNK ? write_out(w, e) : 0;
}

/* The end of each append: one write, and a new segment when it is time. */
static int finish_append(struct wal *w, struct err *e)
{
    if (write_out(w, e) < 0)
        return WAL_EIO;
    if (w->tail_end >= wal_segment_bytes)
        return cut(w, e);
    next_prepare(w);
    return 0;
}

int wal_append(struct wal *w, const struct raft_hard_state *hs,
               const struct raft_entry *entries, size_t n, struct err *e)
{
    const char *wrong = hs ? wal_state_fault(&w->state, hs) : NULL;

    if (check_not_failed(w, e) < 0)
        return WAL_EIO;
    if (wrong)
        return err_set(e, WAL_EFORMAT, "wal: %s: refused to write it", wrong);
    for (size_t i = 0; i < n; i++)
        if (add_entry(w, &entries[i], e) < 0)
            return WAL_EIO;
    if (hs && !is_empty(hs)) {
        w->state = *hs;
        add_state(w);
    }
    return finish_append(w, e);
}

int wal_append_snapshot(struct wal *w, struct wal_snapshot snap,
                        const struct raft_conf_state *cs, struct err *e)
{
    if (check_not_failed(w, e) < 0)
        return WAL_EIO;
    buf_clear(&w->scratch);
    wal_encode_snapshot(&w->scratch, snap, cs);
    add_record(w, WAL_SNAPSHOT, &w->scratch);
    /* One from the leader may be ahead of the log, which continues there. */
    w->last_index = max_u64(w->last_index, snap.index);
    return finish_append(w, e);
}

int wal_sync(struct wal *w, struct err *e)
{
    if (check_not_failed(w, e) < 0)
        return WAL_EIO;
    if (!w->no_fsync && fdatasync(tail_of(w)->fd) < 0)
        return tail_failed(w, "fdatasync", e);
    return 0;
}

/* Unlink it, and take its file, opened if it was not; -1: it cannot be. */
static int delete_segment(const struct wal *w, struct segment *seg, int *fd)
{
    char *path = wal_segment_path(w->dir, seg);
    int rc;

    *fd = seg->fd >= 0 ? seg->fd : open(path, O_RDONLY | O_CLOEXEC);
    rc = unlink(path);
    free(path);
    if (rc == 0 || errno == ENOENT) {
        seg->fd = -1;
        return 0;
    }
    if (seg->fd < 0 && *fd >= 0)
        close(*fd);
    return -1;
}

int wal_purge(struct wal *w, raft_index index, size_t keep,
              struct wal_deleted *out)
{
    size_t needless = wal_segments_find(&w->segs, index);
    size_t n = 0;

    *out = (struct wal_deleted){0};
    if (keep == 0 || keep >= w->segs.n || needless >= w->segs.n)
        return 0;
    needless = (size_t)min_u64(needless, w->segs.n - keep);
    out->fds = xcalloc(needless, sizeof(*out->fds));
    /* The oldest first, so that a crash leaves no gap in the middle. */
    while (n < needless &&
           delete_segment(w, &w->segs.v[n], &out->fds[out->n]) == 0) {
        out->n += out->fds[out->n] >= 0;
        n++;
    }
    w->segs.n -= n;
    memmove(w->segs.v, w->segs.v + n, w->segs.n * sizeof(*w->segs.v));
    return (int)n;
}

void wal_deleted_release(struct wal_deleted *d)
{
    for (size_t i = 0; i < d->n; i++)
        close(d->fds[i]);
    free(d->fds);
    *d = (struct wal_deleted){0};
}

uint64_t wal_bytes_written(const struct wal *w)
{
    return w->bytes_written;
}
