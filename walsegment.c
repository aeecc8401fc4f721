/*
 * walsegment.c - the files of a log: their names, their locks, their space,
 * and bytes read from them.
 */
#include "wal_impl.h"

#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

int64_t wal_segment_bytes = WAL_SEGMENT_BYTES;

void wal_set_segment_bytes(int64_t n)
{
    wal_segment_bytes = n;
}

char *wal_segment_path(const char *dir, const struct segment *s)
{
    return xasprintf("%s/%016" PRIx64 "-%016" PRIx64 ".wal", dir, s->seq,
                     s->first);
}

static bool parse_segment_name(const char *name, struct segment *out)
{
    struct str s = str_of(name), seq = {name, 16}, first = {name + 17, 16};
    struct segment found = {.fd = -1};

    if (s.n != 37 || name[16] != '-' || strcmp(name + 33, ".wal") != 0 ||
        !str_hex_to_u64(seq, &found.seq) ||
        !str_hex_to_u64(first, &found.first))
        return false;
    *out = found;
    return true;
}

void wal_segments_push(struct segments *s, struct segment seg)
{
    s->v = xrealloc(s->v, (s->n + 1) * sizeof(*s->v));
    s->v[s->n++] = seg;
}

void wal_segments_close(struct segments *s)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->v[i].fd >= 0)
            close(s->v[i].fd);
    free(s->v);
    *s = (struct segments){0};
}

int wal_segments_list(const char *dir, struct segments *out, struct err *e)
{
    struct segment seg;
    char **names;
    size_t n;

    *out = (struct segments){0};
    if (sys_list_dir(dir, &names, &n, e) < 0)
        return WAL_EIO;
    for (size_t i = 0; i < n; i++)
        if (parse_segment_name(names[i], &seg))
            wal_segments_push(out, seg);
    sys_free_list(names, n);
    return 0;
}

size_t wal_segments_find(const struct segments *s, raft_index index)
{
    for (size_t i = s->n; i-- > 0;)
        if (s->v[i].first <= index)
            return i;
    return s->n;
}

int wal_segments_check(const char *dir, const struct segments *s, size_t from,
                       struct err *e)
{
    if (from >= s->n)
        return err_set(e, WAL_EMISSING,
                       "wal: file not found: no segment in %s reaches back to "
                       "the snapshot; restore the missing *.wal files",
                       dir);
    for (size_t i = from + 1; i < s->n; i++)
        if (s->v[i].seq != s->v[i - 1].seq + 1)
            return err_set(e, WAL_EMISSING,
                           "wal: segment %016" PRIx64 " is missing in %s; "
                           "restore the file",
                           s->v[i - 1].seq + 1, dir);
    return 0;
}

static int lock_error(int fd, const char *path, struct err *e)
{
    int pid = sys_flock_holder(fd);
    char who[32] = "another process";

    if (pid > 0)
        snprintf(who, sizeof(who), "process %d", pid);
    return err_set(e, WAL_ELOCKED,
                   "wal: %s is locked by %s: is another etcd running on this "
                   "data directory?",
                   path, who);
}

/*
 * etcd takes a lock of the open file description (fcntl), which flock(2) does
 * not see; ours adds flock, so that /proc/locks names the process.
 */
static int lock_segment(int fd, const char *path, struct err *e)
{
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK ? lock_error(fd, path, e)
                                    : err_sys(e, WAL_EIO, "lock %s", path);
#ifdef F_OFD_SETLK
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    if (fcntl(fd, F_OFD_SETLK, &whole) < 0) {
        if (errno == EAGAIN || errno == EACCES)
            return lock_error(fd, path, e);
        if (errno != EINVAL) /* a kernel before 3.15 */
            return err_sys(e, WAL_EIO, "lock %s", path);
    }
#endif
    return 0;
}

int wal_segments_open(const char *dir, struct segments *s, size_t from,
                      enum wal_purpose purpose, struct err *e)
{
    int flags = (purpose == WAL_TO_WRITE ? O_RDWR : O_RDONLY) | O_CLOEXEC;

    for (size_t i = from; i < s->n; i++) {
        char *path = wal_segment_path(dir, &s->v[i]);
        int rc = 0;

        s->v[i].fd = open(path, flags);
        if (s->v[i].fd < 0)
            rc = err_sys(e, WAL_EIO, "open %s", path);
        else if (purpose == WAL_TO_WRITE)
            rc = lock_segment(s->v[i].fd, path, e);
        free(path);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int wal_preallocate(int fd)
{
    int rc;

    do
        rc = fallocate(fd, 0, 0, (off_t)wal_segment_bytes);
    while (rc < 0 && errno == EINTR);
    if (rc < 0 && (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL ||
                   errno == EPERM)) /* what some sandboxes say for ENOSYS */
        return 0; /* this file system grows the file as it is written */
    return rc;
}

int wal_tell_space(int error, const char *path, int64_t need, struct err *e)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash ? xstrndup(path, (size_t)(slash - path)) : xstrdup(".");
    size_t n = e ? strlen(e->msg) : 0;
    int64_t mb = 1000 * 1000;
    struct statvfs st;

    if (e && (error == ENOSPC || error == EDQUOT)) {
        n += (size_t)snprintf(e->msg + n, sizeof(e->msg) - n,
                              ": up to %" PRId64 " MB must be free in %s",
                              (need + mb - 1) / mb, dir);
        if (error == ENOSPC && n < sizeof(e->msg) && statvfs(dir, &st) == 0)
            snprintf(e->msg + n, sizeof(e->msg) - n, ", where %" PRIu64 " are",
                     (uint64_t)st.f_bavail * st.f_frsize / (uint64_t)mb);
    }
    free(dir);
    return WAL_EIO;
}

int wal_segment_create(const char *path, int *fd, struct err *e)
{
    int rc, f, error = 0;

    if (unlink(path) < 0 && errno != ENOENT)
        return err_sys(e, WAL_EIO, "remove %s", path);
    f = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, WAL_FILE_MODE);
    if (f < 0)
        return err_sys(e, WAL_EIO, "create %s", path);
    rc = lock_segment(f, path, e);
    if (rc == 0 && wal_preallocate(f) < 0) {
        error = errno;
        rc = err_sys(e, WAL_EIO, "preallocate %s", path);
    }
    if (rc < 0) {
        unlink(path);
        close(f);
        return error ? wal_tell_space(error, path, wal_segment_bytes, e) : rc;
    }
    *fd = f;
    return 0;
}

bool wal_exists(const char *dir)
{
    struct segments segs;
    size_t n;

    if (wal_segments_list(dir, &segs, NULL) < 0)
        return false;
    n = segs.n;
    wal_segments_close(&segs);
    return n > 0;
}

/* --- Bytes of a file. ---------------------------------------------------- */

ssize_t wal_read_at(int fd, void *p, size_t n, int64_t off)
{
    size_t got = 0;

    while (got < n) {
        ssize_t r =
            pread(fd, (char *)p + got, n - got, (off_t)(off + (int64_t)got));

        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return -1;
        if (r == 0)
            break;
        got += (size_t)r;
    }
    return (ssize_t)got;
}

int64_t wal_file_size(int fd)
{
    struct stat st;

    return fstat(fd, &st) < 0 ? -1 : (int64_t)st.st_size;
}

bool wal_is_zero(const uint8_t *p, size_t n)
{
    return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

int64_t wal_first_nonzero(int fd, int64_t from, int64_t size)
{
    uint8_t *chunk = xmalloc(WAL_COPY_CHUNK);
    int64_t found = size;

    while (from < size) {
        off_t data = lseek(fd, (off_t)from, SEEK_DATA);
        ssize_t n;

        if (data < 0 && errno == ENXIO)
            break;
        if (data > from)
            from = data;
        n = wal_read_at(fd, chunk, WAL_COPY_CHUNK, from);
        if (n <= 0) {
            found = n < 0 ? -1 : size;
            break;
        }
        if (!wal_is_zero(chunk, (size_t)n)) {
            size_t i = 0;

            while (chunk[i] == 0)
                i++;
            found = from + (int64_t)i;
            break;
        }
        from += n;
    }
    free(chunk);
    return found < size ? found : size;
}
