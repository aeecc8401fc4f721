/*
 * ctldb.c - copies of a bbolt file (see the header): a cursor on one side, the
 * writer on the other, an item at a time.
 */
#include "ctldb.h"

#include "backend.h"
#include "sys.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define APPLIED_KEY STR("consistent_index")

struct copy {
    struct bolt *from;
    struct bolt_writer *to;
    enum ctl_db_how how;
    uint64_t applied;
    const struct ctl_db_version *add; /* those that are still to come */
    size_t n_add;
    int fd;
    const char *path; /* of fd, for messages */
    struct err *e;
};

static int sink(void *arg, const void *p, size_t n)
{
    const struct copy *c = arg;

    return sys_write_all(c->fd, p, n);
}

static int write_failed(struct copy *c)
{
    return err_sys(c->e, BOLT_EIO, "write %s", c->path);
}

static bool is_bucket(struct str name, enum backend_bucket b)
{
    return str_eqz(name, backend_bucket_name(b));
}

/* What only made sense in the cluster that it comes from. */
static bool is_foreign(const struct copy *c, struct str bucket, struct str key)
{
    return is_bucket(bucket, BACKEND_META) &&
           ((str_eq(key, APPLIED_KEY) && c->how != CTL_DB_PART) ||
            str_eqz(key, "term") || str_eqz(key, "confState"));
}

static int put_applied(struct copy *c)
{
    uint8_t value[8];

    put_u64be(value, c->applied);
    return bolt_writer_put(c->to, APPLIED_KEY,
                           (struct str){(const char *)value, sizeof(value)})
               ? write_failed(c)
               : 0;
}

/* Of what is to be added, all before `end` (NULL: all). */
static int put_added(struct copy *c, const struct str *end)
{
    for (; c->n_add && (!end || str_cmp(buf_str(&c->add->key), *end) < 0);
         c->add++, c->n_add--)
        if (bolt_writer_put(c->to, buf_str(&c->add->key),
                            buf_str(&c->add->record)) != 0)
            return write_failed(c);
    return 0;
}

static bool is_replaced(const struct copy *c, struct str key)
{
    return c->n_add && str_eq(buf_str(&c->add->key), key);
}

/* Keys of the bucket that is begun, in their order. */
static int copy_items(struct copy *c, struct bolt_cursor *items,
                      struct str bucket)
{
    bool due = (c->how == CTL_DB_TRIM || c->how == CTL_DB_MORE) &&
               is_bucket(bucket, BACKEND_META);
    bool more = is_bucket(bucket, BACKEND_KEY);
    struct bolt_item item;
    int rc;

    while ((rc = bolt_next(items, &item, c->e)) > 0) {
        if (item.is_bucket)
            return bolt_damaged(items,
                                "a bucket within a bucket, which etcd "
                                "never makes",
                                c->e);
        if (due && str_cmp(item.key, APPLIED_KEY) >= 0) {
            due = false;
            if (put_applied(c) != 0)
                return BOLT_EIO;
        }
        if (c->how != CTL_DB_ALL && is_foreign(c, bucket, item.key))
            continue;
        if (more && put_added(c, &item.key) != 0)
            return BOLT_EIO;
        if (more && is_replaced(c, item.key))
            continue;
        if (bolt_writer_put(c->to, item.key, item.value) != 0)
            return write_failed(c);
    }
    if (rc == 0 && more)
        rc = put_added(c, NULL);
    return rc == 0 && due ? put_applied(c) : rc;
}

static int copy_bucket(struct copy *c, struct bolt_cursor *buckets,
                       const struct bolt_item *item)
{
    struct buf name = {0};
    struct bolt_cursor *items = NULL;
    bool skip = (c->how == CTL_DB_TRIM || c->how == CTL_DB_PART) &&
                (is_bucket(item->key, BACKEND_MEMBERS) ||
                 is_bucket(item->key, BACKEND_MEMBERS_REMOVED));
    int rc = 0;

    buf_addstr(&name, item->key);
    if (bolt_writer_bucket(c->to, buf_str(&name)) != 0)
        rc = write_failed(c);
    if (rc == 0 && !skip)
        rc = bolt_enter(buckets, item, &items, c->e);
    if (rc == 0 && !skip)
        rc = copy_items(c, items, buf_str(&name));
    bolt_cursor_free(items);
    buf_release(&name);
    return rc;
}

static int copy_all(struct copy *c)
{
    struct bolt_cursor *buckets = bolt_buckets(c->from);
    struct bolt_item item;
    int rc;

    while ((rc = bolt_next(buckets, &item, c->e)) > 0) {
        if (!item.is_bucket)
            rc = bolt_damaged(buckets, "a key beside the buckets", c->e);
        else
            rc = copy_bucket(c, buckets, &item);
        if (rc != 0)
            break;
    }
    bolt_cursor_free(buckets);
    return rc;
}

/* All of a file that is not there yet. */
static int make_all(struct copy *c)
{
    int rc = 0;

    for (int b = 0; b < BACKEND_N && rc == 0; b++) {
        if (bolt_writer_bucket(c->to, str_of(backend_bucket_name(b))) != 0)
            rc = write_failed(c);
        else if (b == BACKEND_KEY)
            rc = put_added(c, NULL);
        else if (b == BACKEND_META)
            rc = put_applied(c);
    }
    return rc;
}

/* Pages, then the first of them, which say where the rest is. */
static int write_file(struct copy *c)
{
    uint8_t first[BOLT_FIRST_BYTES];
    struct bolt_plan plan;
    int rc;

    c->to = bolt_writer_new(sink, c, NULL);
    rc = c->from ? copy_all(c) : make_all(c);
    if (rc == 0 && bolt_writer_end(c->to, &plan) != 0)
        rc = write_failed(c);
    bolt_writer_free(c->to);
    if (rc != 0)
        return rc;
    bolt_first_pages(&plan, first);
    if (pwrite(c->fd, first, sizeof(first), 0) != (ssize_t)sizeof(first) ||
        fsync(c->fd) != 0)
        return write_failed(c);
    return 0;
}

/* Write c->from, which is closed then, to to by way of to+".tmp". */
static int write_to(struct copy *c, const char *to)
{
    char *tmp = xasprintf("%s.tmp", to);
    int rc;

    c->path = tmp;
    c->fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    rc = c->fd < 0 ? err_sys(c->e, BOLT_EIO, "open %s", tmp) : write_file(c);
    if (c->fd >= 0 && close(c->fd) != 0 && rc == 0)
        rc = err_sys(c->e, BOLT_EIO, "close %s", tmp);
    if (rc == 0 && rename(tmp, to) != 0)
        rc = err_sys(c->e, BOLT_EIO, "rename %s to %s", tmp, to);
    if (rc == 0 && sys_fsync_parent(to, c->e) != 0)
        rc = BOLT_EIO;
    if (rc != 0 && c->fd >= 0)
        (void)unlink(tmp);
    bolt_close(c->from);
    free(tmp);
    return rc;
}

int ctl_db_copy(const char *from, const char *to, enum ctl_db_how how,
                uint64_t applied, struct err *e)
{
    struct copy c = {.how = how, .applied = applied, .e = e};
    int rc = bolt_open(from, &c.from, e);

    return rc == 0 ? write_to(&c, to) : rc;
}

int ctl_db_add(const char *path, const struct ctl_db_version *add, size_t n,
               uint64_t applied, struct err *e)
{
    struct copy c = {
        .how = CTL_DB_MORE, .applied = applied, .add = add, .n_add = n, .e = e};
    int rc = sys_exists(path) ? bolt_open(path, &c.from, e) : 0;

    return rc == 0 ? write_to(&c, path) : rc;
}
