/*
 * simdisk.c - disks in memory behind the file system calls of the product.
 *
 * A file has two contents: what a reader sees (cur) and what is on the medium
 * (dur). A change is done to cur, and noted as a part; a sync does the parts
 * to dur, in order, and a crash only those that are chosen. Directories work
 * alike, but their parts, the changes of names, are in one list of the disk,
 * since a rename may concern two of them.
 *
 * A part that writes holds whole sectors as they were in memory behind it, so
 * what stood in a sector before and was never synced appears together with
 * what was written to it later, as it does in a page cache.
 *
 * INVARIANTS
 *   1. Behind a sync of a file its cur and dur are equal, unless one failed;
 *      of a directory, too.
 *   2. Nothing is held across a call of the hook: it may change this disk, and
 *      end its process. What a call works on is looked up behind it.
 *   3. An inode lives as long as a name (in cur or dur), a pending change or
 *      a descriptor refers to it.
 */
#include "simdisk.h"

#include "buf.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_BYTES 96
#define PATH_BYTES 512
#define ROOT 0
#define ROOT_MODE 0755

/* --- Structures. -------------------------------------------------------- */

struct content {
    uint8_t *p;
    size_t len, cap; /* bytes held; what is behind them reads as zeros */
    uint64_t size;
};

/* A change of a file that no sync has covered yet. */
struct part {
    uint64_t seq;
    enum simdisk_op op; /* write, allocate or truncate */
    uint64_t off, n;    /* truncate: off is the new size */
    size_t image;       /* of a write: where its sectors are in images */
    size_t image_n;     /* from the sector of off on */
};

struct entry {
    char name[NAME_BYTES];
    int ino;
};

struct entries {
    struct entry *v;
    size_t n, cap;
};

struct inode {
    int refs;
    int live; /* how many of these are names in cur, or descriptors */
    bool is_dir;
    /* Where it is, or was last. */
    int parent;
    char name[NAME_BYTES];

    struct content cur, dur;
    uint64_t space; /* taken from the disk's capacity */
    struct part *parts;
    size_t n_parts, cap_parts;
    bool forgotten; /* a sync failed: cur has more than dur and the parts */
    struct buf images;

    struct entries names, dur_names;
};

/* A change of names that no sync has covered yet. */
struct change {
    uint64_t seq;
    enum simdisk_op op; /* create, unlink or rename */
    int ino;
    int dir[2]; /* rename: from, to; else both are the same */
    char name[2][NAME_BYTES];
};

struct simdisk {
    struct simdisk *next;
    char *name;
    simdisk_hook *hook;
    void *hook_arg;
    uint64_t capacity, used;
    uint64_t seq;
    struct inode **inodes;
    int n_inodes;
    struct change *changes;
    size_t n_changes, cap_changes;
};

/* An open file description; its descriptor is its index. */
struct description {
    struct simdisk *d; /* NULL: free */
    int ino;
    int flags;
    uint64_t pos;
    int flock;      /* LOCK_SH, LOCK_EX or 0 */
    int range_lock; /* F_RDLCK, F_WRLCK or F_UNLCK: of the whole file */
};

struct dir_stream {
    struct simdisk *d;
    struct dir_stream *next;
    struct entries names;
    size_t at;
    struct dirent current;
};

static struct simdisk *disks;
static struct description *descriptions;
static int n_descriptions;
static struct dir_stream *streams;

static struct inode *inode_of(const struct simdisk *d, int ino)
{
    return d->inodes[ino];
}

/* --- Contents. ---------------------------------------------------------- */

static void content_reserve(struct content *c, size_t n)
{
    if (n <= c->cap)
        return;
    c->cap = n > 2 * c->cap ? n : 2 * c->cap;
    c->p = xrealloc(c->p, c->cap);
}

/* So that bytes up to n are held. */
static void content_hold(struct content *c, size_t n)
{
    if (n <= c->len)
        return;
    content_reserve(c, n);
    memset(c->p + c->len, 0, n - c->len);
    c->len = n;
}

static void content_write(struct content *c, uint64_t off, const void *p,
                          size_t n)
{
    if (n == 0)
        return;
    content_hold(c, (size_t)off);
    if (off + n > c->len) {
        content_reserve(c, (size_t)off + n);
        c->len = (size_t)off + n;
    }
    memcpy(c->p + off, p, n);
    if (c->size < c->len)
        c->size = c->len;
}

static void content_resize(struct content *c, uint64_t size)
{
    c->size = size;
    if (c->len > size)
        c->len = (size_t)size;
}

static size_t content_read(const struct content *c, uint64_t off, void *p,
                           size_t n)
{
    size_t held;

    if (off >= c->size)
        return 0;
    if (n > c->size - off)
        n = (size_t)(c->size - off);
    held = off >= c->len ? 0 : c->len - (size_t)off;
    if (held > n)
        held = n;
    if (held)
        memcpy(p, c->p + off, held);
    memset((uint8_t *)p + held, 0, n - held);
    return n;
}

static void content_assign(struct content *to, const struct content *from)
{
    content_reserve(to, from->len);
    if (from->len)
        memcpy(to->p, from->p, from->len);
    to->len = from->len;
    to->size = from->size;
}

/* The file takes n bytes of space. False, if there is to be a limit: there is
 * no room for it. */
static bool take_space(struct simdisk *d, struct inode *f, uint64_t n,
                       bool limited)
{
    if (n <= f->space)
        return true;
    if (limited && d->capacity && d->used + (n - f->space) > d->capacity)
        return false;
    d->used += n - f->space;
    f->space = n;
    return true;
}

/* --- Names in a directory. ---------------------------------------------- */

static struct entry *entries_find(const struct entries *e, const char *name)
{
    for (size_t i = 0; i < e->n; i++)
        if (strcmp(e->v[i].name, name) == 0)
            return &e->v[i];
    return NULL;
}

static void entries_add(struct entries *e, const char *name, int ino)
{
    struct entry *new;

    if (e->n == e->cap) {
        e->cap = e->cap ? 2 * e->cap : 4;
        e->v = xrealloc(e->v, e->cap * sizeof(*e->v));
    }
    new = &e->v[e->n++];
    snprintf(new->name, sizeof(new->name), "%s", name);
    new->ino = ino;
}

static void entries_copy(struct entries *to, const struct entries *from)
{
    to->n = to->cap = from->n;
    to->v = from->n ? xmalloc(from->n * sizeof(*to->v)) : NULL;
    if (from->n)
        memcpy(to->v, from->v, from->n * sizeof(*to->v));
}

/* --- Inodes. ------------------------------------------------------------ */

static int inode_new(struct simdisk *d, bool is_dir)
{
    int ino = 0;

    while (ino < d->n_inodes && d->inodes[ino])
        ino++;
    if (ino == d->n_inodes) {
        d->n_inodes++;
        d->inodes =
            xrealloc(d->inodes, (size_t)d->n_inodes * sizeof(struct inode *));
    }
    d->inodes[ino] = xcalloc(1, sizeof(struct inode));
    d->inodes[ino]->is_dir = is_dir;
    return ino;
}

static void inode_ref(struct simdisk *d, int ino)
{
    inode_of(d, ino)->refs++;
}

static void inode_unref(struct simdisk *d, int ino);

static void entries_clear(struct simdisk *d, struct entries *e)
{
    for (size_t i = 0; i < e->n; i++)
        inode_unref(d, e->v[i].ino);
    e->n = 0;
}

static void inode_free(struct simdisk *d, int ino)
{
    struct inode *f = inode_of(d, ino);

    entries_clear(d, &f->names);
    entries_clear(d, &f->dur_names);
    d->used -= f->space;
    free(f->names.v);
    free(f->dur_names.v);
    free(f->cur.p);
    free(f->dur.p);
    free(f->parts);
    buf_release(&f->images);
    free(f);
    d->inodes[ino] = NULL;
}

static void inode_unref(struct simdisk *d, int ino)
{
    struct inode *f = inode_of(d, ino);

    assert(f->refs > 0);
    if (--f->refs == 0)
        inode_free(d, ino);
}

/* Sets name to ino (-1: removes it) in e. */
static void entries_set(struct simdisk *d, struct entries *e, const char *name,
                        int ino)
{
    struct entry *old = entries_find(e, name);

    if (ino >= 0)
        inode_ref(d, ino);
    if (old) {
        int was = old->ino;

        if (ino >= 0)
            old->ino = ino;
        else
            *old = e->v[--e->n];
        inode_unref(d, was);
    } else if (ino >= 0) {
        entries_add(e, name, ino);
    }
}

/* The last name in cur and the last descriptor are gone: so is the space,
 * though the medium may still know the file. */
static void inode_leave(struct simdisk *d, int ino)
{
    struct inode *f = inode_of(d, ino);

    if (--f->live == 0) {
        d->used -= f->space;
        f->space = 0;
    }
}

/* The name in this directory leads to ino from now on (-1: to nothing). */
static void set_name(struct simdisk *d, int dir, const char *name, int ino)
{
    struct entries *e = &inode_of(d, dir)->names;
    struct entry *old = entries_find(e, name);

    if (ino >= 0) {
        struct inode *f = inode_of(d, ino);

        f->live++;
        f->parent = dir;
        snprintf(f->name, sizeof(f->name), "%s", name);
    }
    if (old)
        inode_leave(d, old->ino);
    entries_set(d, e, name, ino);
}

/* The path of an inode below the disk's root, into a buffer on the stack. */
static void path_of(const struct simdisk *d, int ino, char out[PATH_BYTES])
{
    char tail[PATH_BYTES];

    out[0] = '\0';
    for (int depth = 0; ino != ROOT && depth < 16; depth++) {
        const struct inode *f = inode_of(d, ino);

        if (!f) /* a parent that is gone */
            return;
        snprintf(tail, sizeof(tail), "%s%s%.300s", f->name, out[0] ? "/" : "",
                 out);
        memcpy(out, tail, sizeof(tail));
        ino = f->parent;
    }
}

/* --- What was not synced. ----------------------------------------------- */

static uint64_t sector_down(uint64_t off)
{
    return off / SIMDISK_SECTOR * SIMDISK_SECTOR;
}

static uint64_t sector_up(uint64_t off)
{
    return sector_down(off + SIMDISK_SECTOR - 1);
}

static struct part *part_add(struct simdisk *d, struct inode *f,
                             enum simdisk_op op, uint64_t off, uint64_t n)
{
    struct part *p;

    if (f->n_parts == f->cap_parts) {
        f->cap_parts = f->cap_parts ? 2 * f->cap_parts : 8;
        f->parts = xrealloc(f->parts, f->cap_parts * sizeof(*f->parts));
    }
    p = &f->parts[f->n_parts++];
    *p = (struct part){.seq = d->seq++, .op = op, .off = off, .n = n};
    return p;
}

/* The sectors that a write has just touched, as they are in memory now. */
static void part_take_image(struct inode *f, struct part *p)
{
    uint64_t from = sector_down(p->off), to = sector_up(p->off + p->n);

    if (to > f->cur.size)
        to = f->cur.size;
    p->image = f->images.len;
    p->image_n = (size_t)(to - from);
    buf_reserve(&f->images, p->image_n);
    content_read(&f->cur, from, f->images.data + f->images.len, p->image_n);
    f->images.len += p->image_n;
}

/* One sector of a write comes to the medium; or, zeroed, just its length. */
static void piece_apply(struct inode *f, const struct part *p, uint64_t sector,
                        enum simdisk_fate fate)
{
    uint64_t from = sector_down(p->off), end = p->off + p->n;
    uint64_t image_end = from + p->image_n;

    if (fate == SIMDISK_LOST)
        return;
    if (end > sector + SIMDISK_SECTOR)
        end = sector + SIMDISK_SECTOR;
    if (f->dur.size < end)
        f->dur.size = end;
    if (fate == SIMDISK_ZEROED)
        return;
    if (image_end > sector + SIMDISK_SECTOR)
        image_end = sector + SIMDISK_SECTOR;
    if (image_end > f->dur.size)
        image_end = f->dur.size;
    content_write(&f->dur, sector, f->images.data + p->image + (sector - from),
                  (size_t)(image_end - sector));
}

static void resize_apply(struct inode *f, const struct part *p)
{
    if (p->op == SIMDISK_TRUNCATE)
        content_resize(&f->dur, p->off);
    else if (f->dur.size < p->off + p->n)
        f->dur.size = p->off + p->n;
}

static void parts_clear(struct inode *f)
{
    f->n_parts = 0;
    buf_clear(&f->images);
}

static void file_sync(struct inode *f)
{
    for (size_t i = 0; i < f->n_parts; i++) {
        struct part *p = &f->parts[i];

        if (p->op != SIMDISK_WRITE)
            resize_apply(f, p);
        else
            content_write(&f->dur, sector_down(p->off),
                          f->images.data + p->image, p->image_n);
    }
    parts_clear(f);
}

static size_t pieces_of(const struct part *p)
{
    if (p->op != SIMDISK_WRITE)
        return 1;
    return (size_t)((sector_up(p->off + p->n) - sector_down(p->off)) /
                    SIMDISK_SECTOR);
}

static void change_add(struct simdisk *d, const struct change *c)
{
    if (d->n_changes == d->cap_changes) {
        d->cap_changes = d->cap_changes ? 2 * d->cap_changes : 16;
        d->changes = xrealloc(d->changes, d->cap_changes * sizeof(*d->changes));
    }
    d->changes[d->n_changes] = *c;
    d->changes[d->n_changes++].seq = d->seq++;
    inode_ref(d, c->ino);
    inode_ref(d, c->dir[0]);
    inode_ref(d, c->dir[1]);
}

static void change_drop(struct simdisk *d, const struct change *c)
{
    inode_unref(d, c->ino);
    inode_unref(d, c->dir[0]);
    inode_unref(d, c->dir[1]);
}

static void change_apply(struct simdisk *d, const struct change *c)
{
    struct entries *from = &inode_of(d, c->dir[0])->dur_names;

    if (c->op == SIMDISK_CREATE) {
        entries_set(d, from, c->name[0], c->ino);
        return;
    }
    entries_set(d, from, c->name[0], -1);
    if (c->op == SIMDISK_RENAME)
        entries_set(d, &inode_of(d, c->dir[1])->dur_names, c->name[1], c->ino);
}

/*
 * All changes of a directory become durable; and what must come with them,
 * since a rename is in both its directories or in none, and of each a prefix.
 */
static void dir_sync(struct simdisk *d, int ino)
{
    bool *wanted = xcalloc((size_t)d->n_inodes, sizeof(*wanted));
    bool *now = xcalloc(d->n_changes + 1, sizeof(*now));
    size_t n = d->n_changes, kept = 0;

    wanted[ino] = true;
    for (size_t i = n; i-- > 0;) {
        const struct change *c = &d->changes[i];

        now[i] = wanted[c->dir[0]] || wanted[c->dir[1]];
        if (now[i])
            wanted[c->dir[0]] = wanted[c->dir[1]] = true;
    }
    for (size_t i = 0; i < n; i++) {
        struct change c = d->changes[i];

        if (now[i]) {
            change_apply(d, &c);
            change_drop(d, &c);
        } else {
            d->changes[kept++] = c;
        }
    }
    d->n_changes = kept;
    free(now);
    free(wanted);
}

size_t simdisk_pending(const struct simdisk *d)
{
    size_t n = d->n_changes;

    for (int ino = 0; ino < d->n_inodes; ino++)
        if (inode_of(d, ino))
            for (size_t i = 0; i < inode_of(d, ino)->n_parts; i++)
                n += pieces_of(&inode_of(d, ino)->parts[i]);
    return n;
}

/* --- A crash. ----------------------------------------------------------- */

/* A part (ino >= 0) or a change, in the order in which they were done. */
struct pending {
    uint64_t seq;
    int ino;
    size_t i;
};

static int by_seq(const void *a, const void *b)
{
    const struct pending *x = a, *y = b;

    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

static size_t pending_collect(const struct simdisk *d, struct pending **out)
{
    size_t n = d->n_changes, at = 0;

    for (int ino = 0; ino < d->n_inodes; ino++)
        if (inode_of(d, ino))
            n += inode_of(d, ino)->n_parts;
    *out = xmalloc((n + 1) * sizeof(**out));
    for (size_t i = 0; i < d->n_changes; i++)
        (*out)[at++] = (struct pending){d->changes[i].seq, -1, i};
    for (int ino = 0; ino < d->n_inodes; ino++)
        for (size_t i = 0; inode_of(d, ino) && i < inode_of(d, ino)->n_parts;
             i++)
            (*out)[at++] =
                (struct pending){inode_of(d, ino)->parts[i].seq, ino, i};
    qsort(*out, n, sizeof(**out), by_seq);
    return n;
}

static void crash_part(struct simdisk *d, int ino, const struct part *p,
                       simdisk_choose *choose, void *arg)
{
    struct inode *f = inode_of(d, ino);
    char path[PATH_BYTES];
    uint64_t off = p->off, end = p->off + p->n;

    path_of(d, ino, path);
    if (p->op != SIMDISK_WRITE) {
        if (choose(arg, p->op, path, p->off, (size_t)p->n) != SIMDISK_LOST)
            resize_apply(f, p);
        return;
    }
    while (off < end) {
        uint64_t sector = sector_down(off), next = sector + SIMDISK_SECTOR;

        if (next > end)
            next = end;
        piece_apply(f, p, sector,
                    choose(arg, p->op, path, off, (size_t)(next - off)));
        off = next;
    }
}

/* Of each directory the first change that is lost ends all. */
static void crash_change(struct simdisk *d, const struct change *c, bool *ended,
                         simdisk_choose *choose, void *arg)
{
    char path[PATH_BYTES];
    bool lost = ended[c->dir[0]] || ended[c->dir[1]];

    if (!lost) {
        path_of(d, c->ino, path);
        lost = choose(arg, c->op, path, 0, 0) == SIMDISK_LOST;
    }
    if (lost)
        ended[c->dir[0]] = ended[c->dir[1]] = true;
    else
        change_apply(d, c);
}

/* What is on the medium is what there is. */
static void become_durable(struct simdisk *d)
{
    for (size_t i = 0; i < d->n_changes; i++)
        change_drop(d, &d->changes[i]);
    d->n_changes = 0;
    for (int ino = 0; ino < d->n_inodes; ino++) {
        struct inode *f = inode_of(d, ino);

        if (!f)
            continue;
        f->refs++; /* stays until its names are right */
        if (f->n_parts || f->forgotten)
            content_assign(&f->cur, &f->dur);
        f->forgotten = false;
        parts_clear(f);
        while (f->names.n)
            set_name(d, ino, f->names.v[0].name, -1);
        for (size_t i = 0; i < f->dur_names.n; i++)
            set_name(d, ino, f->dur_names.v[i].name, f->dur_names.v[i].ino);
        inode_unref(d, ino);
    }
    for (int ino = 0; ino < d->n_inodes; ino++)
        if (inode_of(d, ino))
            take_space(d, inode_of(d, ino), inode_of(d, ino)->cur.size, false);
}

void simdisk_crash(struct simdisk *d, simdisk_choose *choose, void *arg)
{
    struct pending *list;
    bool *ended = xcalloc((size_t)d->n_inodes, sizeof(*ended));
    size_t n;

    simdisk_close_all(d);
    n = pending_collect(d, &list);
    for (size_t i = 0; i < n; i++) {
        if (list[i].ino < 0)
            crash_change(d, &d->changes[list[i].i], ended, choose, arg);
        else
            crash_part(d, list[i].ino,
                       &inode_of(d, list[i].ino)->parts[list[i].i], choose,
                       arg);
    }
    become_durable(d);
    free(list);
    free(ended);
}

enum simdisk_fate simdisk_lose(void *arg, enum simdisk_op op, const char *path,
                               uint64_t offset, size_t n)
{
    (void)arg, (void)op, (void)path, (void)offset, (void)n;
    return SIMDISK_LOST;
}

/* --- Disks. ------------------------------------------------------------- */

static struct simdisk *disk_add(const char *name)
{
    struct simdisk *d = xcalloc(1, sizeof(*d));

    d->name = xstrdup(name);
    d->next = disks;
    disks = d;
    return d;
}

struct simdisk *simdisk_new(const char *name)
{
    struct simdisk *d = disk_add(name);
    int root = inode_new(d, true);

    assert(root == ROOT);
    inode_ref(d, root);
    return d;
}

void simdisk_free(struct simdisk *d)
{
    struct simdisk **at = &disks;

    simdisk_close_all(d);
    while (*at != d)
        at = &(*at)->next;
    *at = d->next;
    for (size_t i = 0; i < d->n_changes; i++)
        change_drop(d, &d->changes[i]);
    inode_unref(d, ROOT);
    free(d->changes);
    free(d->inodes);
    free(d->name);
    free(d);
}

void simdisk_set_hook(struct simdisk *d, simdisk_hook *hook, void *arg)
{
    d->hook = hook;
    d->hook_arg = arg;
}

void simdisk_set_capacity(struct simdisk *d, uint64_t bytes)
{
    d->capacity = bytes;
}

static void inode_copy(struct inode *to, const struct inode *from)
{
    *to = *from;
    to->cur = to->dur = (struct content){0};
    content_assign(&to->cur, &from->cur);
    content_assign(&to->dur, &from->dur);
    to->cap_parts = to->n_parts;
    to->parts = to->n_parts ? xmalloc(to->n_parts * sizeof(*to->parts)) : NULL;
    if (to->n_parts)
        memcpy(to->parts, from->parts, to->n_parts * sizeof(*to->parts));
    to->images = (struct buf){0};
    buf_add(&to->images, from->images.data, from->images.len);
    entries_copy(&to->names, &from->names);
    entries_copy(&to->dur_names, &from->dur_names);
}

struct simdisk *simdisk_copy(const struct simdisk *d, const char *name)
{
    struct simdisk *c = disk_add(name);

    c->capacity = d->capacity;
    c->used = d->used;
    c->seq = d->seq;
    c->n_inodes = d->n_inodes;
    c->inodes = xcalloc((size_t)d->n_inodes, sizeof(struct inode *));
    for (int ino = 0; ino < d->n_inodes; ino++) {
        if (!inode_of(d, ino))
            continue;
        c->inodes[ino] = xmalloc(sizeof(struct inode));
        inode_copy(c->inodes[ino], inode_of(d, ino));
    }
    c->n_changes = c->cap_changes = d->n_changes;
    c->changes = xmalloc((d->n_changes + 1) * sizeof(*c->changes));
    if (d->n_changes)
        memcpy(c->changes, d->changes, d->n_changes * sizeof(*c->changes));
    /* The descriptors of the original hold inodes that the copy's do not. */
    for (int i = 0; i < n_descriptions; i++)
        if (descriptions[i].d == d) {
            inode_leave(c, descriptions[i].ino);
            inode_unref(c, descriptions[i].ino);
        }
    return c;
}

static uint64_t digest_bytes(uint64_t h, const uint8_t *p, size_t n)
{
    for (; n >= 8; p += 8, n -= 8) {
        uint64_t word;

        memcpy(&word, p, 8);
        h = (h ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        h ^= h >> 29;
    }
    for (; n > 0; p++, n--)
        h = (h ^ *p) * UINT64_C(0x100000001b3);
    return h ^ h >> 32;
}

/* The sum over all names, so that the order of entries does not matter. */
static uint64_t digest_tree(const struct simdisk *d, int ino, uint64_t above)
{
    const struct inode *f = inode_of(d, ino);
    uint64_t sum = 0, h;
    size_t n = f->cur.len;

    h = digest_bytes(above, (const uint8_t *)f->name, strlen(f->name));
    if (!f->is_dir) {
        while (n > 0 && f->cur.p[n - 1] == 0)
            n--;
        h = digest_bytes(h ^ f->cur.size, f->cur.p, n);
    }
    for (size_t i = 0; i < f->names.n; i++)
        sum += digest_tree(d, f->names.v[i].ino, h + 1);
    return (h ^ sum) * UINT64_C(0xd6e8feb86659fd93);
}

uint64_t simdisk_digest(const struct simdisk *d)
{
    return digest_tree(d, ROOT, 1);
}

static void list_tree(const struct simdisk *d, int ino, char ***out, size_t *n)
{
    const struct inode *f = inode_of(d, ino);
    char path[PATH_BYTES];

    for (size_t i = 0; i < f->names.n; i++)
        list_tree(d, f->names.v[i].ino, out, n);
    if (f->is_dir)
        return;
    path_of(d, ino, path);
    *out = xrealloc(*out, (*n + 1) * sizeof(**out));
    (*out)[(*n)++] = xstrdup(path);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

size_t simdisk_list(const struct simdisk *d, char ***paths)
{
    size_t n = 0;

    *paths = NULL;
    list_tree(d, ROOT, paths, &n);
    if (n)
        qsort(*paths, n, sizeof(**paths), by_text);
    return n;
}

/* --- Paths. ------------------------------------------------------------- */

/* Where a path leads: ino is -1 if the last name is not there. */
struct place {
    int dir, ino;
    char name[NAME_BYTES];
};

/* What all disks are in: not to be read. */
static bool is_above_all(const char *path)
{
    return strlen(path) < strlen(SIMDISK_ROOT);
}

/* Below the disk's root, without a leading slash. 0 or an errno. */
static int walk(const struct simdisk *d, const char *path, struct place *out)
{
    struct place at = {ROOT, ROOT, ""};

    while (*path) {
        size_t n = strcspn(path, "/");
        struct entry *e;

        if (n == 0 || (n == 1 && path[0] == '.')) {
            path += n + (path[n] == '/');
            continue;
        }
        if (n >= NAME_BYTES)
            return ENAMETOOLONG;
        if (at.ino < 0)
            return ENOENT;
        if (!inode_of(d, at.ino)->is_dir)
            return ENOTDIR;
        at.dir = at.ino;
        memcpy(at.name, path, n);
        at.name[n] = '\0';
        e = entries_find(&inode_of(d, at.dir)->names, at.name);
        at.ino = e ? e->ino : -1;
        path += n + (path[n] == '/');
    }
    *out = at;
    return 0;
}

static bool is_ours(const char *path)
{
    size_t n = strlen(SIMDISK_ROOT) - 1;

    return strncmp(path, SIMDISK_ROOT, n) == 0 &&
           (path[n] == '/' || path[n] == '\0');
}

/* The disk of a path that is ours, and the rest of it. */
static struct simdisk *disk_of(const char *path, const char **rest)
{
    const char *name = path + strlen(SIMDISK_ROOT) - 1;
    size_t n;

    name += *name == '/';
    n = strcspn(name, "/");
    *rest = name + n + (name[n] == '/');
    for (struct simdisk *d = disks; d; d = d->next)
        if (strlen(d->name) == n && memcmp(d->name, name, n) == 0)
            return d;
    return NULL;
}

static int fail(int error)
{
    errno = error;
    return -1;
}

static int ask(struct simdisk *d, enum simdisk_op op, const char *path,
               size_t *n)
{
    return d->hook ? d->hook(d->hook_arg, d, op, path, n) : 0;
}

/*
 * Ask the hook, then find the place. op is for the case that the last name is
 * as `there` says; in the other the call only looks, or fails. 0 or an errno.
 */
static int go(const char *path, enum simdisk_op op, bool there,
              struct simdisk **d, struct place *at)
{
    const char *rest;
    char shown[PATH_BYTES];
    size_t n = 0;
    int error;

    *d = disk_of(path, &rest);
    if (!*d)
        return is_above_all(path) ? EACCES : ENOENT;
    if (walk(*d, rest, at) != 0 || (at->ino >= 0) != there)
        op = SIMDISK_OPEN;
    snprintf(shown, sizeof(shown), "%s", rest);
    error = ask(*d, op, shown, &n);
    if (error)
        return error;
    *d = disk_of(path, &rest); /* the hook may have done anything */
    return *d ? walk(*d, rest, at) : ENOENT;
}

const uint8_t *simdisk_bytes(const struct simdisk *d, const char *path,
                             size_t *n)
{
    struct place at;
    struct inode *f;

    if (walk(d, path, &at) != 0 || at.ino < 0 || inode_of(d, at.ino)->is_dir)
        return NULL;
    f = inode_of(d, at.ino);
    content_hold(&f->cur, (size_t)f->cur.size);
    content_reserve(&f->cur, 1);
    *n = (size_t)f->cur.size;
    return f->cur.p;
}

bool simdisk_flip(struct simdisk *d, const char *path, uint64_t offset, int bit)
{
    struct place at;
    struct inode *f;

    if (walk(d, path, &at) != 0 || at.ino < 0)
        return false;
    f = inode_of(d, at.ino);
    if (f->is_dir || offset >= f->cur.size)
        return false;
    content_hold(&f->cur, (size_t)offset + 1);
    f->cur.p[offset] ^= (uint8_t)(1 << bit);
    if (offset < f->dur.size) {
        content_hold(&f->dur, (size_t)offset + 1);
        f->dur.p[offset] ^= (uint8_t)(1 << bit);
    }
    return true;
}

/* --- Changing names. ---------------------------------------------------- */

static struct change change_of(enum simdisk_op op, const struct place *at)
{
    struct change c = {.op = op, .ino = at->ino, .dir = {at->dir, at->dir}};

    memcpy(c.name[0], at->name, sizeof(at->name));
    return c;
}

static int make(struct simdisk *d, struct place *at, bool is_dir)
{
    struct change c;

    at->ino = inode_new(d, is_dir);
    set_name(d, at->dir, at->name, at->ino);
    c = change_of(SIMDISK_CREATE, at);
    change_add(d, &c);
    return at->ino;
}

static int remove_name(const char *path, bool is_dir)
{
    struct simdisk *d;
    struct place at;
    struct change c;
    int error = go(path, SIMDISK_UNLINK, true, &d, &at);

    if (error)
        return fail(error);
    if (at.ino < 0)
        return fail(ENOENT);
    if (at.ino == ROOT)
        return fail(EBUSY);
    if (inode_of(d, at.ino)->is_dir != is_dir)
        return fail(is_dir ? ENOTDIR : EISDIR);
    if (inode_of(d, at.ino)->names.n)
        return fail(ENOTEMPTY);
    c = change_of(SIMDISK_UNLINK, &at);
    change_add(d, &c);
    set_name(d, at.dir, at.name, -1);
    return 0;
}

static bool is_below(const struct simdisk *d, int ino, int above)
{
    while (ino != ROOT && ino != above)
        ino = inode_of(d, ino)->parent;
    return ino == above;
}

/* What stands in the way of the name `to` for the inode of `from`. */
static int rename_error(const struct simdisk *d, const struct place *from,
                        const struct place *to)
{
    const struct inode *f = inode_of(d, from->ino);
    const struct inode *old = to->ino >= 0 ? inode_of(d, to->ino) : NULL;

    if (from->ino == ROOT || to->ino == ROOT)
        return EBUSY;
    if (f->is_dir && is_below(d, to->dir, from->ino))
        return EINVAL;
    if (old && old->is_dir && !f->is_dir)
        return EISDIR;
    if (old && !old->is_dir && f->is_dir)
        return ENOTDIR;
    return old && old->names.n ? ENOTEMPTY : 0;
}

static int rename_ours(const char *old, const char *new)
{
    const char *rest;
    struct simdisk *d;
    struct place from, to;
    struct change c;
    int error = go(old, SIMDISK_RENAME, true, &d, &from);

    if (error == 0 && disk_of(new, &rest) != d)
        error = EXDEV;
    if (error == 0)
        error = walk(d, rest, &to);
    if (error == 0 && from.ino < 0)
        error = ENOENT;
    if (error == 0)
        error = rename_error(d, &from, &to);
    if (error)
        return fail(error);
    if (from.ino == to.ino)
        return 0;
    c = change_of(SIMDISK_RENAME, &from);
    c.dir[1] = to.dir;
    memcpy(c.name[1], to.name, sizeof(to.name));
    change_add(d, &c);
    set_name(d, to.dir, to.name, from.ino);
    set_name(d, from.dir, from.name, -1);
    return 0;
}

/* --- Descriptors. ------------------------------------------------------- */

static struct description *description_of(int fd)
{
    int i = fd - SIMDISK_FD_FIRST;

    return i >= 0 && i < n_descriptions && descriptions[i].d ? &descriptions[i]
                                                             : NULL;
}

static int description_new(struct simdisk *d, int ino, int flags)
{
    int i = 0;

    while (i < n_descriptions && descriptions[i].d)
        i++;
    if (i == n_descriptions) {
        n_descriptions = n_descriptions ? 2 * n_descriptions : 16;
        descriptions = xrealloc(descriptions,
                                (size_t)n_descriptions * sizeof(*descriptions));
        memset(descriptions + i, 0,
               (size_t)(n_descriptions - i) * sizeof(*descriptions));
    }
    descriptions[i] = (struct description){
        .d = d, .ino = ino, .flags = flags, .range_lock = F_UNLCK};
    inode_ref(d, ino);
    inode_of(d, ino)->live++;
    return SIMDISK_FD_FIRST + i;
}

static void description_free(struct description *o)
{
    struct simdisk *d = o->d;

    o->d = NULL;
    inode_leave(d, o->ino);
    inode_unref(d, o->ino);
}

static void stream_free(struct dir_stream **at)
{
    struct dir_stream *s = *at;

    *at = s->next;
    free(s->names.v);
    free(s);
}

void simdisk_close_all(struct simdisk *d)
{
    for (int i = 0; i < n_descriptions; i++)
        if (descriptions[i].d == d)
            description_free(&descriptions[i]);
    for (struct dir_stream **at = &streams; *at;) {
        if ((*at)->d == d)
            stream_free(at);
        else
            at = &(*at)->next;
    }
}

/* Ask the hook about an operation on a descriptor; then find it again. NULL
 * with errno. */
static struct description *use(int fd, enum simdisk_op op, size_t *n)
{
    struct description *o = description_of(fd);
    char path[PATH_BYTES];
    int error = 0;

    if (o && o->d->hook) {
        path_of(o->d, o->ino, path);
        error = ask(o->d, op, path, n);
        o = description_of(fd);
    }
    if (error || !o)
        errno = error ? error : EBADF;
    return error ? NULL : o;
}

static struct inode *file_of(const struct description *o)
{
    return inode_of(o->d, o->ino);
}

static bool writable(const struct description *o)
{
    return (o->flags & O_ACCMODE) != O_RDONLY;
}

static void resize(struct simdisk *d, struct inode *f, uint64_t size)
{
    content_resize(&f->cur, size);
    if (f->space > size) {
        d->used -= f->space - size;
        f->space = size;
    }
    part_add(d, f, SIMDISK_TRUNCATE, size, 0);
}

/* The hook's op is the one that the last step does. */
static int open_ours(const char *path, int flags)
{
    struct simdisk *d;
    struct place at;
    struct inode *f;
    int error = go(path, flags & O_CREAT ? SIMDISK_CREATE : SIMDISK_OPEN, false,
                   &d, &at);
    int fd;

    if (error)
        return fail(error);
    if (at.ino < 0 && !(flags & O_CREAT))
        return fail(ENOENT);
    if (at.ino >= 0 && (flags & O_CREAT) && (flags & O_EXCL))
        return fail(EEXIST);
    if (at.ino < 0)
        make(d, &at, false);
    f = inode_of(d, at.ino);
    if (f->is_dir && ((flags & O_ACCMODE) != O_RDONLY || flags & O_CREAT))
        return fail(EISDIR);
    if (!f->is_dir && flags & O_DIRECTORY)
        return fail(ENOTDIR);
    fd = description_new(d, at.ino, flags);
    if (flags & O_TRUNC && f->cur.size) {
        size_t n = 0;
        struct description *o = use(fd, SIMDISK_TRUNCATE, &n);

        if (!o) {
            error = errno;
            if (description_of(fd))
                description_free(description_of(fd));
            return fail(error);
        }
        resize(o->d, file_of(o), 0);
    }
    return fd;
}

static ssize_t read_ours(int fd, void *p, size_t n, const uint64_t *off)
{
    struct description *o = use(fd, SIMDISK_READ, &n);
    size_t got;

    if (!o)
        return -1;
    if (file_of(o)->is_dir)
        return fail(EISDIR);
    if ((o->flags & O_ACCMODE) == O_WRONLY)
        return fail(EBADF);
    got = content_read(&file_of(o)->cur, off ? *off : o->pos, p, n);
    if (!off)
        o->pos += got;
    return (ssize_t)got;
}

static ssize_t write_ours(int fd, const void *p, size_t n, const uint64_t *off)
{
    struct description *o = use(fd, SIMDISK_WRITE, &n);
    struct inode *f;
    uint64_t at;

    if (!o)
        return -1;
    if (!writable(o))
        return fail(EBADF);
    f = file_of(o);
    at = off ? *off : o->flags & O_APPEND ? f->cur.size : o->pos;
    if (!take_space(o->d, f, at + n,
                    true)) { /* as much of it as there is room for */
        uint64_t room =
            o->d->capacity > o->d->used ? o->d->capacity - o->d->used : 0;

        if (f->space + room <= at)
            return fail(ENOSPC);
        n = (size_t)(f->space + room - at);
        take_space(o->d, f, at + n, true);
    }
    if (n) {
        content_write(&f->cur, at, p, n);
        part_take_image(f, part_add(o->d, f, SIMDISK_WRITE, at, n));
    }
    if (!off)
        o->pos = at + n;
    return (ssize_t)n;
}

static int truncate_ours(int fd, int64_t size)
{
    size_t n = 0;
    struct description *o = use(fd, SIMDISK_TRUNCATE, &n);

    if (!o)
        return -1;
    if (!writable(o) || size < 0)
        return fail(EINVAL);
    if ((uint64_t)size != file_of(o)->cur.size)
        resize(o->d, file_of(o), (uint64_t)size);
    return 0;
}

static int allocate_ours(int fd, int mode, int64_t off, int64_t len)
{
    size_t n = len > 0 ? (size_t)len : 0;
    struct description *o = use(fd, SIMDISK_ALLOCATE, &n);
    struct inode *f;

    if (!o)
        return -1;
    if (mode != 0)
        return fail(EOPNOTSUPP);
    if (!writable(o))
        return fail(EBADF);
    if (off < 0 || len <= 0)
        return fail(EINVAL);
    f = file_of(o);
    if (!take_space(o->d, f, (uint64_t)off + n, true))
        return fail(ENOSPC);
    if (f->cur.size < (uint64_t)off + n) {
        f->cur.size = (uint64_t)off + n;
        part_add(o->d, f, SIMDISK_ALLOCATE, (uint64_t)off, n);
    }
    return 0;
}

/* The pages count as clean from now on. */
static void sync_failed(struct description *o)
{
    if (!o || file_of(o)->is_dir)
        return;
    file_of(o)->forgotten = true;
    parts_clear(file_of(o));
}

static int sync_ours(int fd)
{
    struct description *o = description_of(fd);
    size_t n = 0;

    o = use(fd, o && file_of(o)->is_dir ? SIMDISK_SYNC_DIR : SIMDISK_SYNC, &n);
    if (!o) {
        sync_failed(description_of(fd));
        return -1;
    }
    if (file_of(o)->is_dir)
        dir_sync(o->d, o->ino);
    else
        file_sync(file_of(o));
    return 0;
}

static int64_t seek_ours(int fd, int64_t off, int whence)
{
    struct description *o = description_of(fd);
    const struct content *c;

    if (!o)
        return fail(EBADF);
    c = &file_of(o)->cur;
    if (whence == SEEK_CUR)
        off += (int64_t)o->pos;
    else if (whence == SEEK_END)
        off += (int64_t)c->size;
    else if (whence == SEEK_DATA && (off < 0 || (uint64_t)off >= c->len))
        return fail(ENXIO);
    else if (whence == SEEK_HOLE && (uint64_t)off <= c->len)
        off = (int64_t)c->len;
    if (off < 0)
        return fail(EINVAL);
    o->pos = (uint64_t)off;
    return off;
}

static int stat_ours(int fd, struct stat *st)
{
    size_t n = 0;
    struct description *o = use(fd, SIMDISK_OPEN, &n);

    if (!o)
        return -1;
    memset(st, 0, sizeof(*st));
    st->st_ino = (ino_t)o->ino + 1;
    st->st_nlink = 1;
    st->st_mode = file_of(o)->is_dir ? S_IFDIR | 0700 : S_IFREG | 0600;
    st->st_size = (off_t)file_of(o)->cur.size;
    st->st_blksize = 4096;
    return 0;
}

/* Locks belong to descriptions; a lock that is not free is never waited for,
 * since whoever holds it cannot run. */
static int flock_ours(int fd, int how)
{
    struct description *o = description_of(fd);
    int kind = how & ~LOCK_NB;

    if (!o)
        return fail(EBADF);
    for (int i = 0; kind != LOCK_UN && i < n_descriptions; i++) {
        const struct description *other = &descriptions[i];

        if (other != o && other->d == o->d && other->ino == o->ino &&
            other->flock && (kind == LOCK_EX || other->flock == LOCK_EX))
            return fail(EWOULDBLOCK);
    }
    o->flock = kind == LOCK_UN ? 0 : kind;
    return 0;
}

/* Of the whole file only. */
static int range_lock_ours(struct description *o, const struct flock *want)
{
    for (int i = 0; want->l_type != F_UNLCK && i < n_descriptions; i++) {
        const struct description *other = &descriptions[i];

        if (other != o && other->d == o->d && other->ino == o->ino &&
            other->range_lock != F_UNLCK &&
            (want->l_type == F_WRLCK || other->range_lock == F_WRLCK))
            return fail(EAGAIN);
    }
    o->range_lock = want->l_type;
    return 0;
}

static int fcntl_ours(int fd, int cmd, void *arg)
{
    struct description *o = description_of(fd);

    if (!o)
        return fail(EBADF);
    switch (cmd) {
    case F_GETFD:
    case F_SETFD:
        return 0;
    case F_GETFL:
        return o->flags;
#ifdef F_OFD_SETLK
    case F_OFD_SETLK:
        return range_lock_ours(o, arg);
#endif
    default:
        return fail(EINVAL);
    }
}

static int close_ours(int fd)
{
    struct description *o = description_of(fd);

    if (!o)
        return fail(EBADF);
    description_free(o);
    return 0;
}

static int mkdir_ours(const char *path)
{
    struct simdisk *d;
    struct place at;
    int error;

    if (is_above_all(path))
        return fail(EEXIST);
    error = go(path, SIMDISK_CREATE, false, &d, &at);
    if (error)
        return fail(error);
    if (at.ino >= 0)
        return fail(EEXIST);
    make(d, &at, true);
    return 0;
}

static int access_ours(const char *path)
{
    struct simdisk *d;
    struct place at;
    int error = go(path, SIMDISK_OPEN, true, &d, &at);

    return error || at.ino < 0 ? fail(error ? error : ENOENT) : 0;
}

static DIR *opendir_ours(const char *path)
{
    struct simdisk *d;
    struct place at;
    struct dir_stream *s;
    int error = go(path, SIMDISK_OPEN, true, &d, &at);

    if (error == 0 && at.ino < 0)
        error = ENOENT;
    if (error == 0 && !inode_of(d, at.ino)->is_dir)
        error = ENOTDIR;
    if (error) {
        errno = error;
        return NULL;
    }
    s = xcalloc(1, sizeof(*s));
    s->d = d;
    entries_copy(&s->names, &inode_of(d, at.ino)->names);
    s->next = streams;
    streams = s;
    return (DIR *)s;
}

static struct dir_stream **stream_of(DIR *dir)
{
    for (struct dir_stream **at = &streams; *at; at = &(*at)->next)
        if ((DIR *)*at == dir)
            return at;
    return NULL;
}

static struct dirent *readdir_ours(struct dir_stream *s)
{
    const struct entry *e;

    if (s->at == s->names.n)
        return NULL;
    e = &s->names.v[s->at++];
    s->current.d_ino = (ino_t)e->ino + 1;
    s->current.d_type = DT_UNKNOWN;
    memcpy(s->current.d_name, e->name, sizeof(e->name));
    return &s->current;
}

/* --- The symbols that the linker puts in place of the C library's. ------- */

/*
 * The names that glibc gives those with offsets of 64 bits where they are not
 * the default; and those of its checks, which _FORTIFY_SOURCE brings in.
 */
#if defined(__GLIBC__) && defined(_FILE_OFFSET_BITS) && _FILE_OFFSET_BITS == 64
#define WRAP(name) __wrap_##name##64
#define REAL(name) __real_##name##64
#define WRAP_CHECKED(name) __wrap___##name##64_chk
#define WRAP_OPEN_2 __wrap___open64_2
#else
#define WRAP(name) __wrap_##name
#define REAL(name) __real_##name
#define WRAP_CHECKED(name) __wrap___##name##_chk
#define WRAP_OPEN_2 __wrap___open_2
#endif

int REAL(open)(const char *path, int flags, ...);
int WRAP(open)(const char *path, int flags, ...);
int WRAP_OPEN_2(const char *path, int flags);
int __real_access(const char *path, int mode);
int __wrap_access(const char *path, int mode);
int __real_close(int fd);
int __wrap_close(int fd);
int REAL(fstat)(int fd, struct stat *st);
int WRAP(fstat)(int fd, struct stat *st);
int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int REAL(fallocate)(int fd, int mode, off_t off, off_t len);
int WRAP(fallocate)(int fd, int mode, off_t off, off_t len);
int REAL(ftruncate)(int fd, off_t size);
int WRAP(ftruncate)(int fd, off_t size);
off_t REAL(lseek)(int fd, off_t off, int whence);
off_t WRAP(lseek)(int fd, off_t off, int whence);
ssize_t REAL(pread)(int fd, void *p, size_t n, off_t off);
ssize_t WRAP(pread)(int fd, void *p, size_t n, off_t off);
ssize_t WRAP_CHECKED(pread)(int fd, void *p, size_t n, off_t off, size_t room);
ssize_t __real_read(int fd, void *p, size_t n);
ssize_t __wrap_read(int fd, void *p, size_t n);
ssize_t __wrap___read_chk(int fd, void *p, size_t n, size_t room);
ssize_t REAL(pwrite)(int fd, const void *p, size_t n, off_t off);
ssize_t WRAP(pwrite)(int fd, const void *p, size_t n, off_t off);
ssize_t __real_write(int fd, const void *p, size_t n);
ssize_t __wrap_write(int fd, const void *p, size_t n);
int __real_rename(const char *old, const char *new);
int __wrap_rename(const char *old, const char *new);
int __real_unlink(const char *path);
int __wrap_unlink(const char *path);
int __real_rmdir(const char *path);
int __wrap_rmdir(const char *path);
int __real_mkdir(const char *path, mode_t mode);
int __wrap_mkdir(const char *path, mode_t mode);
DIR *__real_opendir(const char *path);
DIR *__wrap_opendir(const char *path);
struct dirent *REAL(readdir)(DIR *dir);
struct dirent *WRAP(readdir)(DIR *dir);
int __real_closedir(DIR *dir);
int __wrap_closedir(DIR *dir);
int __real_flock(int fd, int how);
int __wrap_flock(int fd, int how);
int REAL(fcntl)(int fd, int cmd, ...);
int WRAP(fcntl)(int fd, int cmd, ...);

int WRAP(open)(const char *path, int flags, ...)
{
    va_list ap;
    mode_t mode;

    if (is_ours(path))
        return open_ours(path, flags);
    va_start(ap, flags);
    mode = flags & O_CREAT ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    return REAL(open)(path, flags, mode);
}

int WRAP_OPEN_2(const char *path, int flags)
{
    return WRAP(open)(path, flags);
}

int __wrap_access(const char *path, int mode)
{
    return is_ours(path) ? access_ours(path) : __real_access(path, mode);
}

int __wrap_close(int fd)
{
    return fd >= SIMDISK_FD_FIRST ? close_ours(fd) : __real_close(fd);
}

int WRAP(fstat)(int fd, struct stat *st)
{
    return fd >= SIMDISK_FD_FIRST ? stat_ours(fd, st) : REAL(fstat)(fd, st);
}

int __wrap_fsync(int fd)
{
    return fd >= SIMDISK_FD_FIRST ? sync_ours(fd) : __real_fsync(fd);
}

int __wrap_fdatasync(int fd)
{
    return fd >= SIMDISK_FD_FIRST ? sync_ours(fd) : __real_fdatasync(fd);
}

int WRAP(fallocate)(int fd, int mode, off_t off, off_t len)
{
    return fd >= SIMDISK_FD_FIRST ? allocate_ours(fd, mode, off, len)
                                  : REAL(fallocate)(fd, mode, off, len);
}

int WRAP(ftruncate)(int fd, off_t size)
{
    return fd >= SIMDISK_FD_FIRST ? truncate_ours(fd, size)
                                  : REAL(ftruncate)(fd, size);
}

off_t WRAP(lseek)(int fd, off_t off, int whence)
{
    return fd >= SIMDISK_FD_FIRST ? (off_t)seek_ours(fd, off, whence)
                                  : REAL(lseek)(fd, off, whence);
}

ssize_t WRAP(pread)(int fd, void *p, size_t n, off_t off)
{
    uint64_t at = (uint64_t)off;

    return fd >= SIMDISK_FD_FIRST ? read_ours(fd, p, n, &at)
                                  : REAL(pread)(fd, p, n, off);
}

ssize_t WRAP_CHECKED(pread)(int fd, void *p, size_t n, off_t off, size_t room)
{
    assert(n <= room);
    return WRAP(pread)(fd, p, n, off);
}

ssize_t __wrap_read(int fd, void *p, size_t n)
{
    return fd >= SIMDISK_FD_FIRST ? read_ours(fd, p, n, NULL)
                                  : __real_read(fd, p, n);
}

ssize_t __wrap___read_chk(int fd, void *p, size_t n, size_t room)
{
    assert(n <= room);
    return __wrap_read(fd, p, n);
}

ssize_t WRAP(pwrite)(int fd, const void *p, size_t n, off_t off)
{
    uint64_t at = (uint64_t)off;

    return fd >= SIMDISK_FD_FIRST ? write_ours(fd, p, n, &at)
                                  : REAL(pwrite)(fd, p, n, off);
}

ssize_t __wrap_write(int fd, const void *p, size_t n)
{
    return fd >= SIMDISK_FD_FIRST ? write_ours(fd, p, n, NULL)
                                  : __real_write(fd, p, n);
}

int __wrap_rename(const char *old, const char *new)
{
    if (is_ours(old) != is_ours(new))
        return fail(EXDEV);
    return is_ours(old) ? rename_ours(old, new) : __real_rename(old, new);
}

int __wrap_unlink(const char *path)
{
    return is_ours(path) ? remove_name(path, false) : __real_unlink(path);
}

int __wrap_rmdir(const char *path)
{
    return is_ours(path) ? remove_name(path, true) : __real_rmdir(path);
}

int __wrap_mkdir(const char *path, mode_t mode)
{
    return is_ours(path) ? mkdir_ours(path) : __real_mkdir(path, mode);
}

DIR *__wrap_opendir(const char *path)
{
    return is_ours(path) ? opendir_ours(path) : __real_opendir(path);
}

struct dirent *WRAP(readdir)(DIR *dir)
{
    struct dir_stream **at = stream_of(dir);

    return at ? readdir_ours(*at) : REAL(readdir)(dir);
}

int __wrap_closedir(DIR *dir)
{
    struct dir_stream **at = stream_of(dir);

    if (!at)
        return __real_closedir(dir);
    stream_free(at);
    return 0;
}

int __wrap_flock(int fd, int how)
{
    return fd >= SIMDISK_FD_FIRST ? flock_ours(fd, how) : __real_flock(fd, how);
}

/* Whatever the third argument is, it is as wide as a pointer at most. */
int WRAP(fcntl)(int fd, int cmd, ...)
{
    va_list ap;
    void *arg;

    va_start(ap, cmd);
    arg = va_arg(ap, void *);
    va_end(ap);
    return fd >= SIMDISK_FD_FIRST ? fcntl_ours(fd, cmd, arg)
                                  : REAL(fcntl)(fd, cmd, arg);
}
