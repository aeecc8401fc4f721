/*
 * snap.c - snapshot files.
 *
 *   snappb.snapshot    1 crc     CRC-32C of the data
 *                      2 data    raftpb.Snapshot
 *   raftpb.Snapshot    1 data    the state machine; absent if empty
 *                      2 metadata  conf_state, index, term
 *
 * The sum comes first in the file, yet depends on all that follows, and each
 * length stands before what it measures. So the source runs twice. The first
 * run gives the state machine's length and sum, and with them everything
 * else, since the sum of a concatenation follows from those of its parts. The
 * second run writes, and what it writes is held against the first.
 *
 * INVARIANTS
 *   1. A .snap file was whole and synced before it got its name.
 *   2. A bad file is set aside as NAME.broken, never deleted: the next older
 *      one and the log behind it may tell the same story.
 */
#include "snap.h"

#include "crypto.h"
#include "metrics.h"
#include "pb.h"
#include "sys.h"
#include "wal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define WRITE_CHUNK (64 * 1024)
#define FILE_MODE 0600

/* --- Codec. ------------------------------------------------------------- */

/* What surrounds the state machine's bytes in the file. */
struct frame {
    struct buf before, after;
};

static void frame_release(struct frame *f)
{
    buf_release(&f->before);
    buf_release(&f->after);
}

static void add_length(struct buf *b, uint32_t number, uint64_t n)
{
    pb_add_varint(b, (uint64_t)number << 3 | PB_BYTES);
    pb_add_varint(b, n);
}

/* Around n bytes with the sum crc. meta->data is not looked at. */
static void frame_init(struct frame *f, const struct raft_snapshot *meta,
                       uint64_t n, uint32_t crc)
{
    struct buf inner = {0};

    *f = (struct frame){0};
    if (n)
        add_length(&inner, 1, n);
    raftpb_encode_snapshot_meta(&f->after, meta);
    crc = crc32c_combine(crc32c(0, inner.data, inner.len), crc, n);
    crc = crc32c(crc, f->after.data, f->after.len);
    pb_add_u64(&f->before, 1, crc);
    add_length(&f->before, 2, inner.len + n + f->after.len);
    buf_add(&f->before, inner.data, inner.len);
    buf_release(&inner);
}

void snap_encode(struct buf *b, const struct raft_snapshot *s)
{
    struct str data = blob_str(s->data);
    struct frame f;

    frame_init(&f, s, data.n, crc32c(0, data.p, data.n));
    buf_reserve(b, f.before.len + data.n + f.after.len);
    buf_add(b, f.before.data, f.before.len);
    buf_addstr(b, data);
    buf_add(b, f.after.data, f.after.len);
    frame_release(&f);
}

int snap_decode(const void *p, size_t n, struct raft_snapshot *out,
                struct err *e)
{
    struct str data = {0};
    uint64_t crc = 0;
    uint32_t sum;
    const struct pb_target fields[] = {
        [1] = {.u64 = &crc},
        [2] = {.bytes = &data},
    };

    if (n == 0)
        return err_set(e, SNAP_EFORMAT, "snap: empty snapshot");
    if (pb_read(p, n, fields, ARRAY_LEN(fields)) < 0 || data.n == 0)
        return err_set(e, SNAP_EFORMAT, "snap: malformed snapshot");
    sum = crc32c(0, data.p, data.n);
    if (sum != crc)
        return err_set(e, SNAP_ECRC,
                       "snap: crc mismatch: %08" PRIx32 " is written, but the "
                       "data has %08" PRIx32,
                       (uint32_t)crc, sum);
    if (raftpb_decode_snapshot(data.p, data.n, out) < 0)
        return err_set(e, SNAP_EFORMAT, "snap: malformed snapshot data");
    return 0;
}

int snap_source_str(void *from, snap_sink *sink, void *arg)
{
    const struct str *s = from;

    return sink(arg, s->p, s->n);
}

/* --- Saving. ------------------------------------------------------------ */

struct measure {
    uint64_t n;
    uint32_t crc;
};

static int measure_sink(void *arg, const void *p, size_t n)
{
    struct measure *m = arg;

    m->crc = crc32c(m->crc, p, n);
    m->n += n;
    return 0;
}

/* A file being written, and what the source has given so far. */
struct writer {
    int fd;
    int error; /* errno of the first failure */
    size_t n;  /* bytes in chunk */
    struct measure got;
    uint8_t *chunk;
};

static int flush(struct writer *w)
{
    if (w->error == 0 && w->n && sys_write_all(w->fd, w->chunk, w->n) < 0)
        w->error = errno;
    w->n = 0;
    return w->error ? -1 : 0;
}

static int write_bytes(struct writer *w, const void *p, size_t n)
{
    const uint8_t *in = p;

    while (n > 0) {
        size_t take = WRITE_CHUNK - w->n < n ? WRITE_CHUNK - w->n : n;

        memcpy(w->chunk + w->n, in, take);
        w->n += take;
        in += take;
        n -= take;
        if (w->n == WRITE_CHUNK && flush(w) < 0)
            return -1;
    }
    return 0;
}

static int write_sink(void *arg, const void *p, size_t n)
{
    struct writer *w = arg;

    measure_sink(&w->got, p, n);
    return write_bytes(w, p, n);
}

static int source_failed(const char *tmp, struct err *e)
{
    return err_set(e, SNAP_EIO,
                   "snap: %s: the state cannot be read, or has changed "
                   "between two readings",
                   tmp);
}

static int write_file(int fd, const char *tmp, const struct frame *f,
                      struct measure want, snap_source *source, void *from,
                      struct err *e)
{
    struct writer w = {.fd = fd, .chunk = xmalloc(WRITE_CHUNK)};
    int rc = write_bytes(&w, f->before.data, f->before.len);

    if (rc == 0)
        rc = source(from, write_sink, &w);
    if (rc == 0)
        rc = write_bytes(&w, f->after.data, f->after.len);
    flush(&w);
    free(w.chunk);
    if (w.error) {
        errno = w.error;
        return err_sys(e, SNAP_EIO, "write %s", tmp);
    }
    if (rc != 0 || w.got.n != want.n || w.got.crc != want.crc)
        return source_failed(tmp, e);
    return 0;
}

static char *snap_path(const char *dir, raft_term term, raft_index index)
{
    return xasprintf("%s/%016" PRIx64 "-%016" PRIx64 ".snap", dir, term, index);
}

/* tmp, whole and synced, becomes path. */
static int publish(int fd, const char *tmp, const char *path, const char *dir,
                   bool no_fsync, struct err *e)
{
    int64_t began = sys_mono_ns();

    if (!no_fsync && fsync(fd) < 0)
        return err_sys(e, SNAP_EIO, "fsync %s", tmp);
    if (!no_fsync)
        metric_observe_ns(H_SNAP_FSYNC, sys_mono_ns() - began);
    if (rename(tmp, path) < 0)
        return err_sys(e, SNAP_EIO, "rename %s to %s", tmp, path);
    if (!no_fsync && sys_fsync_dir(dir, e) < 0)
        return SNAP_EIO;
    return 0;
}

int snap_save(const char *dir, const struct raft_snapshot *meta,
              snap_source *source, void *from, bool no_fsync, struct err *e)
{
    char *path = snap_path(dir, meta->term, meta->index);
    char *tmp = xasprintf("%s.tmp", path);
    struct measure m = {0};
    struct frame f = {0};
    int fd = -1, rc;

    if (source(from, measure_sink, &m) != 0) {
        rc = source_failed(tmp, e);
        goto out;
    }
    frame_init(&f, meta, m.n, m.crc);
    fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, FILE_MODE);
    if (fd < 0) {
        rc = err_sys(e, SNAP_EIO, "create %s", tmp);
        goto out;
    }
    rc = write_file(fd, tmp, &f, m, source, from, e);
    if (rc == 0)
        rc = publish(fd, tmp, path, dir, no_fsync, e);
    close(fd);
    if (rc < 0)
        unlink(tmp);
out:
    frame_release(&f);
    free(tmp);
    free(path);
    return rc;
}

/* --- A leader's database. ----------------------------------------------- */

char *snap_db_path(const char *dir, raft_index index)
{
    return xasprintf("%s/%016" PRIx64 ".snap.db", dir, index);
}

static int write_db(int fd, const char *tmp, snap_source *source, void *from,
                    uint64_t *n, struct err *e)
{
    struct writer w = {.fd = fd, .chunk = xmalloc(WRITE_CHUNK)};
    int rc = source(from, write_sink, &w);

    flush(&w);
    free(w.chunk);
    *n = w.got.n;
    if (w.error) {
        errno = w.error;
        return err_sys(e, SNAP_EIO, "write %s", tmp);
    }
    return rc == 0 ? 0 : err_set(e, SNAP_EIO, "unexpected EOF");
}

int snap_save_db(const char *dir, raft_index index, snap_source *source,
                 void *from, bool no_fsync, uint64_t *n, struct err *e)
{
    static unsigned tries; /* atomic */
    char *path = snap_db_path(dir, index);
    /* Each has a file of its own: the sender may have given up on one that we
     * still read, and begun anew. */
    char *tmp = xasprintf("%s.%u.tmp", path,
                          __atomic_add_fetch(&tries, 1, __ATOMIC_RELAXED));
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, FILE_MODE);
    uint64_t got = 0;
    int rc;

    if (fd < 0) {
        rc = err_sys(e, SNAP_EIO, "create %s", tmp);
        goto out;
    }
    rc = write_db(fd, tmp, source, from, &got, e);
    if (rc == 0 && got)
        rc = publish(fd, tmp, path, dir, no_fsync, e);
    close(fd);
    if (rc < 0 || got == 0)
        unlink(tmp);
    if (rc == 0 && n)
        *n = got;
out:
    free(tmp);
    free(path);
    return rc;
}

/* --- Loading and purging. ----------------------------------------------- */

static bool parse_name(const char *name, struct wal_snapshot *out)
{
    struct str s = str_of(name), term = {name, 16}, index = {name + 17, 16};

    return s.n == 38 && name[16] == '-' && strcmp(name + 33, ".snap") == 0 &&
           str_hex_to_u64(term, &out->term) &&
           str_hex_to_u64(index, &out->index);
}

static bool is_allowed(const struct wal_snapshot *allowed, size_t n,
                       struct wal_snapshot snap)
{
    for (size_t i = 0; i < n; i++)
        if (allowed[i].index == snap.index && allowed[i].term == snap.term)
            return true;
    return allowed == NULL;
}

/* One file. SNAP_EIO if it cannot be read, which says nothing about it. */
static int load(const char *path, struct wal_snapshot snap,
                struct raft_snapshot *out, struct err *e)
{
    struct buf b = {0};
    struct raft_snapshot s = {0};
    int rc = SNAP_EIO;

    if (sys_read_file(path, SIZE_MAX / 4, &b, e) == 0)
        rc = snap_decode(b.data, b.len, &s, e);
    buf_release(&b);
    if (rc < 0)
        return rc;
    if (s.index != snap.index || s.term != snap.term) {
        raft_snapshot_release(&s);
        return err_set(e, SNAP_EFORMAT,
                       "snap: its name says another term and index");
    }
    *out = s;
    return 0;
}

static void add_note(char **note, const char *path, const char *why,
                     bool renamed)
{
    char *had = *note;

    *note =
        xasprintf("%s%scannot use %s (%s)%s", had ? had : "", had ? "; " : "",
                  path, why, renamed ? ", renamed to *.broken" : "");
    free(had);
}

static void set_aside(const char *path, const char *why, char **note)
{
    char *broken = xasprintf("%s.broken", path);
    bool renamed = rename(path, broken) == 0;

    free(broken);
    add_note(note, path, why, renamed);
}

enum bad_file { LEAVE, RENAME };

static int load_newest(const char *dir, const struct wal_snapshot *allowed,
                       size_t n, enum bad_file action,
                       struct raft_snapshot *out, char **note, struct err *e)
{
    struct wal_snapshot snap;
    char **names;
    size_t n_names;
    int rc = SNAP_ENONE;

    *note = NULL;
    if (sys_list_dir(dir, &names, &n_names, e) < 0)
        return SNAP_EIO;
    for (size_t i = n_names; i-- > 0 && rc != 0 && rc != SNAP_EIO;) {
        struct err bad;
        char *path;

        if (!parse_name(names[i], &snap) || !is_allowed(allowed, n, snap))
            continue;
        path = xasprintf("%s/%s", dir, names[i]);
        rc = load(path, snap, out, &bad);
        if (rc == SNAP_EIO)
            err_set(e, SNAP_EIO, "%s", bad.msg);
        else if (rc < 0 && action == RENAME)
            set_aside(path, bad.msg, note);
        else if (rc < 0)
            add_note(note, path, bad.msg, false);
        free(path);
    }
    sys_free_list(names, n_names);
    if (rc == 0 || rc == SNAP_EIO)
        return rc;
    return err_set(e, SNAP_ENONE, "snap: no usable snapshot in %s", dir);
}

int snap_load_newest(const char *dir, const struct wal_snapshot *allowed,
                     size_t n, struct raft_snapshot *out, char **note,
                     struct err *e)
{
    return load_newest(dir, allowed, n, RENAME, out, note, e);
}

int snap_read_newest(const char *dir, const struct wal_snapshot *allowed,
                     size_t n, struct raft_snapshot *out, char **note,
                     struct err *e)
{
    return load_newest(dir, allowed, n, LEAVE, out, note, e);
}

static void remove_in(const char *dir, const char *name)
{
    char *path = xasprintf("%s/%s", dir, name);

    unlink(path);
    free(path);
}

/* A snapshot that a crash left unfinished: NAME.snap.tmp. */
static bool is_unfinished(const char *name)
{
    return strlen(name) == 42 && strcmp(name + 33, ".snap.tmp") == 0;
}

/* `<index>.snap.db`, and what may follow. */
static bool begins_as_db(const char *name, raft_index *index)
{
    return strlen(name) >= 24 && strncmp(name + 16, ".snap.db", 8) == 0 &&
           str_hex_to_u64((struct str){name, 16}, index);
}

static bool is_db(const char *name, raft_index *index)
{
    return begins_as_db(name, index) && name[24] == '\0';
}

static bool is_unfinished_db(const char *name)
{
    raft_index index;

    return strcmp(name, "db.tmp") == 0 ||
           (begins_as_db(name, &index) &&
            strcmp(name + strlen(name) - 4, ".tmp") == 0);
}

void snap_drop_unfinished_db(const char *dir)
{
    char **names;
    size_t n;

    if (sys_list_dir(dir, &names, &n, NULL) < 0)
        return;
    for (size_t i = 0; i < n; i++)
        if (is_unfinished_db(names[i]))
            remove_in(dir, names[i]);
    sys_free_list(names, n);
}

void snap_purge(const char *dir, raft_index newest, size_t keep)
{
    struct wal_snapshot snap;
    raft_index index;
    char **names;
    size_t n, kept = 0;

    if (sys_list_dir(dir, &names, &n, NULL) < 0)
        return;
    for (size_t i = n; i-- > 0;) {
        if (is_unfinished(names[i]) ||
            (is_db(names[i], &index) && index < newest))
            remove_in(dir, names[i]);
        else if (parse_name(names[i], &snap) && snap.index <= newest && keep &&
                 kept++ >= keep)
            remove_in(dir, names[i]);
    }
    sys_free_list(names, n);
}
