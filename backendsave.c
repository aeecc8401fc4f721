/*
 * backendsave.c - etcd's v3 state as a file: written anew, by way of another
 * name, or appended to in place (bolt.h):
 *
 *   1. what is new, behind the last page; synced   crash: nothing refers to it
 *   2. the meta that counts it; synced             crash: torn, and its sum
 *                                                  tells: the other one counts
 *
 * Nothing that the other meta refers to is written over, so whoever reads the
 * file meanwhile, or copies it, has the state of before or of after.
 */
#include "backend_impl.h"

#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define FILE_MODE 0600
/* What a disk has to write at once, while the log waits for its turn. */
#define WRITE_BACK_BYTES ((uint64_t)1024 * 1024)

struct backend_file {
    int fd;
    struct bolt_end *end;
    int64_t last, finished; /* of the image that was saved */
};

struct sink {
    int fd;
    bool no_fsync;
    uint64_t at, synced; /* written up to, given to the disk up to */
};

static int file_sink(void *arg, const void *p, size_t n)
{
    struct sink *s = arg;

    if (sys_write_all(s->fd, p, n) < 0)
        return -1;
    s->at += n;
    if (s->no_fsync || s->at - s->synced < WRITE_BACK_BYTES)
        return 0;
    if (sys_write_back(s->fd, s->synced, s->at - s->synced) < 0)
        return -1;
    s->synced = s->at;
    return 0;
}

static int put_at(int fd, uint64_t at, const void *p, size_t n)
{
    if (lseek(fd, (off_t)at, SEEK_SET) < 0)
        return -1;
    return sys_write_all(fd, p, n);
}

/* --- Anew. ----------------------------------------------------------------- */

static int put_first_pages(int fd, const struct bolt_plan *plan)
{
    uint8_t *first = xmalloc(BOLT_FIRST_BYTES);
    int rc;

    bolt_first_pages(plan, first);
    rc = put_at(fd, 0, first, BOLT_FIRST_BYTES);
    free(first);
    return rc;
}

/* fd, whose name is tmp, becomes path. */
static int publish(int fd, const char *tmp, const char *path, bool no_fsync,
                   struct err *e)
{
    if (!no_fsync && fsync(fd) < 0)
        return err_sys(e, BOLT_EIO, "fsync %s", tmp);
    if (rename(tmp, path) < 0)
        return err_sys(e, BOLT_EIO, "rename %s to %s", tmp, path);
    if (!no_fsync && sys_fsync_parent(path, e) < 0)
        return BOLT_EIO;
    return 0;
}

static int write_file(int fd, const struct backend_source *src, bool no_fsync,
                      struct bolt_end **end)
{
    struct sink sink = {.fd = fd, .no_fsync = no_fsync};
    struct bolt_writer *bw = bolt_writer_new(file_sink, &sink, NULL);
    struct bolt_plan plan;
    int rc = backend_write_to(bw, src, 0, false, &plan);

    if (rc == 0)
        rc = put_first_pages(fd, &plan);
    *end = bolt_writer_take_end(bw);
    bolt_writer_free(bw);
    return rc;
}

static int save_new(struct backend_file *f, const char *path,
                    const struct backend_source *src, bool no_fsync,
                    struct err *e)
{
    char *tmp = xasprintf("%s.tmp", path);
    int rc;

    f->fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, FILE_MODE);
    if (f->fd < 0) {
        rc = err_sys(e, BOLT_EIO, "create %s", tmp);
        goto out;
    }
    if (write_file(f->fd, src, no_fsync, &f->end) < 0)
        rc = err_sys(e, BOLT_EIO, "write %s", tmp);
    else
        rc = publish(f->fd, tmp, path, no_fsync, e);
    if (rc < 0)
        unlink(tmp);
out:
    free(tmp);
    return rc;
}

/* --- Appending. -------------------------------------------------------------- */

/* A full disk may need the space. If it stays, nothing refers to it. */
static void cut_back(int fd, uint64_t size)
{
    int saved = errno, rc = ftruncate(fd, (off_t)size);

    (void)rc;
    errno = saved;
}

static int append_pages(struct backend_file *f,
                        const struct backend_source *src, bool no_fsync,
                        struct bolt_plan *plan)
{
    uint64_t at = bolt_end_plan(f->end)->n_pages * BOLT_PAGE_BYTES;
    struct sink sink = {f->fd, no_fsync, at, at};
    struct bolt_writer *bw = bolt_writer_append(file_sink, &sink, f->end);
    int rc = lseek(f->fd, (off_t)at, SEEK_SET) < 0 ? -1 : 0;

    if (rc == 0)
        rc = backend_write_to(bw, src, f->last, false, plan);
    if (rc == 0 && !no_fsync)
        rc = fsync(f->fd);
    if (rc < 0) {
        cut_back(f->fd, at);
    } else {
        bolt_end_free(f->end);
        f->end = bolt_writer_take_end(bw);
    }
    bolt_writer_free(bw);
    return rc;
}

static int append_meta(int fd, const struct bolt_plan *plan, bool no_fsync)
{
    uint8_t page[BOLT_PAGE_BYTES];
    uint64_t at = bolt_put_meta(plan, page);

    if (put_at(fd, at, page, sizeof(page)) < 0)
        return -1;
    return no_fsync ? 0 : fsync(fd);
}

static int append(struct backend_file *f, const char *path,
                  const struct backend_source *src, bool no_fsync,
                  struct err *e)
{
    struct bolt_plan plan;

    if (append_pages(f, src, no_fsync, &plan) < 0 ||
        append_meta(f->fd, &plan, no_fsync) < 0)
        return err_sys(e, BOLT_EIO, "append to %s", path);
    return 0;
}

/* --- Either. ---------------------------------------------------------------- */

bool backend_file_goes_on(const struct backend_file *file, int64_t finished)
{
    return file && file->finished == finished && !bolt_end_is_worn(file->end);
}

void backend_file_close(struct backend_file *file)
{
    if (!file)
        return;
    if (file->fd >= 0)
        close(file->fd);
    bolt_end_free(file->end);
    free(file);
}

int backend_update(struct backend_file **file, const char *path,
                   const struct backend_source *src, bool no_fsync,
                   uint64_t *bytes, struct err *e)
{
    struct backend_file *f = *file;
    int rc;

    *file = NULL;
    if (backend_file_goes_on(f, src->image->finished)) {
        rc = append(f, path, src, no_fsync, e);
    } else {
        backend_file_close(f);
        f = xcalloc(1, sizeof(*f));
        rc = save_new(f, path, src, no_fsync, e);
    }
    if (rc < 0) {
        backend_file_close(f);
        return rc;
    }
    f->last = src->image->last;
    f->finished = src->image->finished;
    if (bytes)
        *bytes = bolt_end_plan(f->end)->n_pages * BOLT_PAGE_BYTES;
    *file = f;
    return 0;
}

int backend_save(const char *path, const struct backend_source *src,
                 bool no_fsync, uint64_t *bytes, struct err *e)
{
    struct backend_file *f = NULL;
    int rc = backend_update(&f, path, src, no_fsync, bytes, e);

    backend_file_close(f);
    return rc;
}
