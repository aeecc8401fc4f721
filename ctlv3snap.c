/*
 * ctlv3snap.c - snapshot save: the server's database as a file, complete or not
 * there at all.
 */
#include "ctlv3.h"

#include "net.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static int io_error(const char *verb, const char *path)
{
    return ctlv3_fail(CTLV3_INTERRUPTED, "could not %s %s (%s %s: %s)", verb,
                      path, verb, path, net_errno_text(errno));
}

/* etcdctl shows a snapshot's error in the words of its gRPC library. */
static int refused(struct ctl *c, const struct err *e)
{
    struct err shown = {.code = e->code};
    const char *name = grpc_status_name(e->code);

    if (!name || e->code == GRPC_UNIMPLEMENTED)
        return ctlv3_fail_status(c, CTLV3_INTERRUPTED, e);
    err_set(&shown, e->code, "rpc error: code = %s desc = %s", name, e->msg);
    return ctlv3_fail_status(c, CTLV3_INTERRUPTED, &shown);
}

/* What takes as long as it takes has an end only if --command-timeout says so. */
static int64_t deadline_of(const struct ctl *c)
{
    return ctl_given(c, "command-timeout") ? ctlv3_deadline(c) : 0;
}

/* All pieces, as they come. 0, or the exit code. */
static int write_pieces(struct ctl *c, struct grpc_stream *s, int fd,
                        const char *path)
{
    struct arena a = {.limit = SIZE_MAX / 2};
    struct err e;
    int rc = 0, status;

    do {
        struct rpcpb_snapshot_response r = {0};

        arena_reset(&a);
        status = ctlv3_receive(s, RPC_MAINTENANCE_SNAPSHOT, &a, &r, 0, &e);
        if (status == GRPC_OK && sys_write_all(fd, r.blob.p, r.blob.n) != 0)
            rc = io_error("write", path);
    } while (status == GRPC_OK && rc == 0);
    arena_release(&a);
    if (rc == 0 && status != GRPC_STREAM_END)
        rc = refused(c, &e);
    return rc;
}

static int download(struct ctl *c, int fd, const char *path)
{
    struct rpcpb_snapshot_request request = {0};
    struct grpc_stream *s;
    struct err e;
    int rc;

    if (grpc_client_stream(c->v3->client,
                           rpc_methods[RPC_MAINTENANCE_SNAPSHOT].path.p,
                           deadline_of(c), &s, &e) != GRPC_OK)
        return ctlv3_fail_status(c, CTLV3_INTERRUPTED, &e);
    ctlv3_send(s, RPC_MAINTENANCE_SNAPSHOT, &request);
    grpc_stream_end(s);
    rc = write_pieces(c, s, fd, path);
    grpc_stream_close(s);
    return rc;
}

/* With a slash behind, too. Go calls one that is in the way an existing file. */
static bool is_directory(const char *path)
{
    int kept = errno;
    struct stat st;
    bool is = stat(path, &st) == 0 && S_ISDIR(st.st_mode);

    errno = kept;
    return is;
}

/* A device, say: the rename would put a file in its place. */
static bool is_special(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 && !S_ISREG(st.st_mode) &&
           !S_ISDIR(st.st_mode) && !S_ISLNK(st.st_mode);
}

/* PATH.part becomes PATH once it is on disk. */
static int save(struct ctl *c, const char *path, const char *part)
{
    struct err e;
    int fd, rc;

    if (is_special(path))
        return ctlv3_fail(CTLV3_INTERRUPTED,
                          "%s is no regular file: save to another name", path);
    fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return io_error("open", part);
    rc = download(c, fd, part);
    if (rc == 0 && fsync(fd) != 0)
        rc = io_error("sync", part);
    if (close(fd) != 0 && rc == 0)
        rc = io_error("close", part);
    if (rc == 0 && rename(part, path) != 0)
        rc = ctlv3_fail(CTLV3_INTERRUPTED,
                        "could not rename %s to %s (rename %s %s: %s)", part,
                        path, part, path,
                        net_errno_text(is_directory(path) ? EEXIST : errno));
    if (rc == 0 && sys_fsync_parent(path, &e) != 0)
        rc = ctlv3_fail(CTLV3_INTERRUPTED, "%s", e.msg);
    if (rc != 0)
        (void)unlink(part);
    return rc;
}

static int not_one(const struct ctl *c)
{
    struct buf b = {0};
    int rc;

    for (size_t i = 0; i < c->v3->n_endpoints; i++)
        buf_printf(&b, "%s%s", i ? " " : "", c->v3->endpoints[i]);
    rc = ctlv3_fail(CTLV3_INTERRUPTED,
                    "snapshot must be requested to one selected node, not "
                    "multiple [%s]",
                    buf_z(&b));
    buf_release(&b);
    return rc;
}

int ctlv3_snapshot_save(struct ctl *c)
{
    char *part;
    int rc;

    if (c->n_args != 1)
        return ctlv3_fail(CTLV3_BAD_ARGS, "snapshot save expects one argument");
    if (c->v3->n_endpoints != 1)
        return not_one(c);
    rc = ctlv3_connect(c);
    if (rc != 0)
        return rc == CTLV3_BAD_CONNECTION ? CTLV3_INTERRUPTED : rc;
    part = xasprintf("%s.part", c->args[0]);
    rc = save(c, c->args[0], part);
    free(part);
    if (rc == 0)
        printf("Snapshot saved at %s\n", c->args[0]);
    return rc;
}
