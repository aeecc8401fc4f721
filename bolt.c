/*
 * bolt.c - reading a bbolt file. boltwrite.c writes them.
 *
 * A cursor is a stack of pages, from a tree's root down to a leaf:
 *
 *     frames[0]   branch   at -> element 3          low <= keys < high
 *     frames[1]   branch   at -> element 0
 *     frames[2]   leaf     at -> the item that came last
 *
 * A page that is entered must lie within the file, name itself, be a leaf or
 * a branch, and have its elements within it, in strictly ascending order,
 * inside the bounds that the branches above leave it. No leaf but a lone root
 * may be empty. So all keys that a cursor shows ascend, no leaf can come
 * twice, and with a bound on the depth no walk goes on for ever, whatever
 * pages point to each other.
 *
 * Leaves are read through a window that grows while page follows on page, as
 * they do in a file that was written at once, and begins with one page after
 * each jump.
 */
#include "bolt_impl.h"

#include "sys.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE_BYTES_MIN 1024 /* bbolt's own search begins with it */
#define PAGE_BYTES_MAX (1024 * 1024)
#define WINDOW_BYTES (128 * 1024)
/* bbolt splits a node that is above a page, but not below four elements. */
#define BRANCH_BYTES_MAX (1024 * 1024)
#define LEAF_BYTES_MAX (1024 * 1024 * 1024)

struct bolt {
    char *name;
    int fd;           /* -1: bytes */
    struct str bytes; /* borrowed */
    uint64_t size;    /* of the file */
    uint32_t page_bytes;
    uint64_t root, n_pages, txid;
};

/* A page on the way down. */
struct frame {
    const uint8_t *p; /* in own or, a leaf, in the window or in inlined */
    struct buf own;
    uint64_t page;
    size_t len;
    unsigned n, at;
    bool is_branch, has_high;
    struct str low, high; /* borrowed from the frames above */
};

struct bolt_cursor {
    struct bolt *b;
    uint64_t root;      /* 0: inlined */
    uint64_t container; /* page of the bucket's item, for messages */
    struct buf inlined;
    struct frame frames[BOLT_DEPTH_MAX];
    unsigned depth; /* 0: before the first item */
    bool ended;
    struct buf window;
    uint64_t window_page; /* the first in it */
};

/* --- Errors. -------------------------------------------------------------------- */

static int damaged(const struct bolt *b, uint64_t page, struct err *e,
                   const char *what)
{
    return err_set(e, BOLT_EFORMAT,
                   "bolt: %s: page %" PRIu64 ": %s; the file is damaged: "
                   "restore a snapshot, or remove this member from the "
                   "cluster and add it anew",
                   b->name, page, what);
}

/* --- Bytes of the file. ------------------------------------------------------------ */

static int read_file_at(const struct bolt *b, uint64_t at, uint8_t *out,
                        size_t n, struct err *e)
{
    while (n > 0) {
        ssize_t got = pread(b->fd, out, n, (off_t)at);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_sys(e, BOLT_EIO, "bolt: read %s at %" PRIu64, b->name,
                           at);
        if (got == 0)
            return err_set(e, BOLT_EIO,
                           "bolt: read %s at %" PRIu64 ": the file has been "
                           "cut off while it was read",
                           b->name, at);
        out += got;
        at += (uint64_t)got;
        n -= (size_t)got;
    }
    return 0;
}

/* Within the file. */
static int read_at(const struct bolt *b, uint64_t at, uint8_t *out, size_t n,
                   struct err *e)
{
    assert(at <= b->size && n <= b->size - at);
    if (b->fd >= 0)
        return read_file_at(b, at, out, n, e);
    memcpy(out, b->bytes.p + at, n);
    return 0;
}

/* --- Meta. --------------------------------------------------------------------------- */

struct meta {
    uint32_t page_bytes;
    uint64_t root, n_pages, txid;
};

/* 1, or 0 if there is no valid one. */
static int read_meta(const struct bolt *b, uint64_t at, struct meta *out,
                     struct err *e)
{
    uint8_t page[BOLT_HEAD_BYTES + BOLT_META_BYTES], *p = page + 16;

    if (b->size < sizeof(page) || at > b->size - sizeof(page))
        return 0;
    if (read_at(b, at, page, sizeof(page), e) < 0)
        return BOLT_EIO;
    *out = (struct meta){
        .page_bytes = get_u32le(p + 8),
        .root = get_u64le(p + 16),
        .n_pages = get_u64le(p + 40),
        .txid = get_u64le(p + 48),
    };
    return get_u16le(page + 8) == BOLT_META && get_u32le(p) == BOLT_MAGIC &&
           get_u32le(p + 4) == BOLT_VERSION &&
           get_u64le(p + BOLT_SUMMED_BYTES) == bolt_meta_sum(p) &&
           out->page_bytes >= PAGE_BYTES_MIN &&
           out->page_bytes <= PAGE_BYTES_MAX &&
           (out->page_bytes & (out->page_bytes - 1)) == 0;
}

/*
 * The second one stands at the page size, which the first one tells. If that
 * is damaged, it is looked for.
 */
static int read_second_meta(const struct bolt *b, const struct meta *first,
                            struct meta *out, struct err *e)
{
    int rc;

    if (first)
        return read_meta(b, first->page_bytes, out, e);
    for (uint32_t at = PAGE_BYTES_MIN; at <= PAGE_BYTES_MAX; at *= 2) {
        rc = read_meta(b, at, out, e);
        if (rc < 0 || (rc > 0 && out->page_bytes == at))
            return rc;
    }
    return 0;
}

static int read_size(struct bolt *b, struct err *e)
{
    struct stat st;

    if (fstat(b->fd, &st) < 0)
        return err_sys(e, BOLT_EIO, "bolt: stat %s", b->name);
    if (!S_ISREG(st.st_mode))
        return err_set(e, BOLT_EIO, "bolt: %s is not a regular file", b->name);
    b->size = (uint64_t)st.st_size;
    return 0;
}

static int choose_meta(struct bolt *b, struct err *e)
{
    struct meta first, second, *m = &first;
    int rc1 = read_meta(b, 0, &first, e), rc2;

    if (rc1 < 0)
        return rc1;
    rc2 = read_second_meta(b, rc1 ? &first : NULL, &second, e);
    if (rc2 < 0)
        return rc2;
    if (!rc1 && !rc2)
        return damaged(b, 0, e,
                       "neither this page nor the next is a valid meta page of "
                       "a bbolt file of version 2");
    if (!rc1 || (rc2 && second.txid > first.txid))
        m = &second;
    b->page_bytes = m->page_bytes;
    b->root = m->root;
    b->n_pages = m->n_pages;
    b->txid = m->txid;
    /* Appended to since it was opened? No meta counts pages that are not there. */
    if (b->n_pages > b->size / b->page_bytes && b->fd >= 0 &&
        read_size(b, e) < 0)
        return BOLT_EIO;
    if (b->n_pages > b->size / b->page_bytes)
        return damaged(b, m == &second, e,
                       "it counts more pages than the file has: it was cut "
                       "off, or copied incompletely");
    return 0;
}

/* --- Life. ------------------------------------------------------------------------------ */

static int open_file(struct bolt *b, struct err *e)
{
    b->fd = open(b->name, O_RDONLY | O_CLOEXEC);
    if (b->fd < 0)
        return err_sys(e, BOLT_EIO, "bolt: open %s", b->name);
    return read_size(b, e);
}

static int finish_open(struct bolt *b, int rc, struct bolt **out, struct err *e)
{
    if (rc == 0)
        rc = choose_meta(b, e);
    if (rc < 0)
        bolt_close(b);
    else
        *out = b;
    return rc;
}

int bolt_open(const char *path, struct bolt **out, struct err *e)
{
    struct bolt *b = xcalloc(1, sizeof(*b));

    b->name = xstrdup(path);
    return finish_open(b, open_file(b, e), out, e);
}

int bolt_open_bytes(struct str bytes, const char *name, struct bolt **out,
                    struct err *e)
{
    struct bolt *b = xcalloc(1, sizeof(*b));

    b->name = xstrdup(name);
    b->fd = -1;
    b->bytes = bytes;
    b->size = bytes.n;
    return finish_open(b, 0, out, e);
}

void bolt_close(struct bolt *b)
{
    if (!b)
        return;
    if (b->fd >= 0)
        close(b->fd);
    free(b->name);
    free(b);
}

uint64_t bolt_size(const struct bolt *b)
{
    return b->n_pages * b->page_bytes;
}

uint64_t bolt_txid(const struct bolt *b)
{
    return b->txid;
}

const char *bolt_name(const struct bolt *b)
{
    return b->name;
}

static struct bolt_cursor *new_cursor(struct bolt *b, uint64_t root,
                                      uint64_t container)
{
    struct bolt_cursor *c = xcalloc(1, sizeof(*c));

    c->b = b;
    c->root = root;
    c->container = container;
    return c;
}

struct bolt_cursor *bolt_buckets(struct bolt *b)
{
    return new_cursor(b, b->root, 0);
}

void bolt_cursor_free(struct bolt_cursor *c)
{
    if (!c)
        return;
    for (unsigned i = 0; i < BOLT_DEPTH_MAX; i++)
        buf_release(&c->frames[i].own);
    buf_release(&c->inlined);
    buf_release(&c->window);
    free(c);
}

/* --- Elements. ------------------------------------------------------------------------------ */

/* An element as its page has it; not checked. */
struct raw {
    uint64_t at, key_len, value_len, child; /* at: of the key in the page */
    uint32_t flags;
};

static struct raw raw_element(const struct frame *f, unsigned i)
{
    size_t at = BOLT_HEAD_BYTES + (size_t)i * BOLT_ELEMENT_BYTES;
    const uint8_t *p = f->p + at;

    if (f->is_branch)
        return (struct raw){
            .at = at + (uint64_t)get_u32le(p),
            .key_len = get_u32le(p + 4),
            .child = get_u64le(p + 8),
        };
    return (struct raw){
        .flags = get_u32le(p),
        .at = at + (uint64_t)get_u32le(p + 4),
        .key_len = get_u32le(p + 8),
        .value_len = get_u32le(p + 12),
    };
}

/* From here on the frame is checked. */
static struct str element_key(const struct frame *f, unsigned i)
{
    struct raw r = raw_element(f, i);

    return (struct str){(const char *)f->p + r.at, (size_t)r.key_len};
}

static void element_item(const struct frame *f, unsigned i,
                         struct bolt_item *out)
{
    struct raw r = raw_element(f, i);
    const char *key = (const char *)f->p + r.at;

    out->key = (struct str){key, (size_t)r.key_len};
    out->value = (struct str){key + r.key_len, (size_t)r.value_len};
    out->is_bucket = r.flags & BOLT_IS_BUCKET;
}

/* --- Checks of a page. ------------------------------------------------------------------------- */

static const char *check_element(const struct frame *f, const struct raw *r)
{
    uint64_t begin = BOLT_HEAD_BYTES + (uint64_t)f->n * BOLT_ELEMENT_BYTES;

    if (r->key_len == 0 || r->key_len > BOLT_KEY_MAX)
        return "a key is empty or too long";
    if (r->value_len > BOLT_VALUE_MAX)
        return "a value is too long";
    if (r->at < begin || r->at > f->len ||
        r->key_len + r->value_len > f->len - r->at)
        return "an item lies outside the page";
    if (r->flags > BOLT_IS_BUCKET)
        return "an item has unknown flags";
    return NULL;
}

static const char *check_elements(const struct frame *f)
{
    struct str before = f->low, key;
    const char *flaw;

    for (unsigned i = 0; i < f->n; i++) {
        struct raw r = raw_element(f, i);
        int order;

        if ((flaw = check_element(f, &r)))
            return flaw;
        key = (struct str){(const char *)f->p + r.at, (size_t)r.key_len};
        order = str_cmp(before, key);
        /* low itself may be the first; and left of all there is no low. */
        if (order > 0 || (order == 0 && i > 0))
            return "its keys are out of order";
        before = key;
    }
    if (f->n && f->has_high && str_cmp(before, f->high) >= 0)
        return "its keys reach into the next page";
    return NULL;
}

/* f->p has its head, and the elements if the length is right. */
static const char *check_frame(const struct bolt_cursor *c,
                               const struct frame *f)
{
    if ((uint64_t)f->n * BOLT_ELEMENT_BYTES > f->len - BOLT_HEAD_BYTES)
        return "it counts more items than it has room for";
    if (f->n == 0 && (f->is_branch || f != c->frames))
        return "it is empty";
    return check_elements(f);
}

/* --- Loading a page. ------------------------------------------------------------------------------ */

/*
 * The n pages from page on: in the window, which is filled anew if they are
 * not. Borrowed until the next call.
 */
static int window_get(struct bolt_cursor *c, uint64_t page, uint64_t n,
                      const uint8_t **out, struct err *e)
{
    const struct bolt *b = c->b;
    uint64_t had = c->window.len / b->page_bytes, end = c->window_page + had;

    if (page < c->window_page || page + n > end) {
        /* The page under way may be asked for again, with its overflow. */
        bool follows = had && page <= end && page + 1 >= end;
        uint64_t want = follows ? 2 * had : 1;

        want = min_u64(want, WINDOW_BYTES / b->page_bytes);
        want = min_u64(max_u64(want, n), b->n_pages - page);
        buf_clear(&c->window);
        buf_trim(&c->window, 2 * WINDOW_BYTES);
        buf_reserve(&c->window, (size_t)(want * b->page_bytes));
        if (read_at(b, page * b->page_bytes, c->window.data,
                    (size_t)(want * b->page_bytes), e) < 0)
            return BOLT_EIO;
        c->window.len = (size_t)(want * b->page_bytes);
        c->window_page = page;
    }
    *out = c->window.data + (page - c->window_page) * b->page_bytes;
    return 0;
}

/* What the page's head says; *n is how many pages belong to it. */
static const char *read_head(const struct bolt *b, struct frame *f, uint64_t *n)
{
    uint16_t flags = get_u16le(f->p + 8);
    uint64_t bound;

    f->is_branch = flags == BOLT_BRANCH;
    f->n = get_u16le(f->p + 10);
    *n = 1 + (uint64_t)get_u32le(f->p + 12);
    bound = f->is_branch ? BRANCH_BYTES_MAX : LEAF_BYTES_MAX;
    if (get_u64le(f->p) != f->page)
        return "it carries another page's number";
    if (flags != BOLT_BRANCH && flags != BOLT_LEAF)
        return "it is neither a branch nor a leaf";
    if (*n > b->n_pages - f->page)
        return "it reaches beyond the end of the file";
    if (*n > bound / b->page_bytes)
        return "it is too big";
    f->len = (size_t)(*n * b->page_bytes);
    return NULL;
}

static int load_page(struct bolt_cursor *c, struct frame *f, struct err *e)
{
    struct bolt *b = c->b;
    const char *flaw;
    uint64_t n;

    if (f->page < 2 || f->page >= b->n_pages)
        return damaged(
            b, f->page, e,
            "another page points to it, but it is no page of a tree");
    if (window_get(c, f->page, 1, &f->p, e) < 0)
        return BOLT_EIO;
    if ((flaw = read_head(b, f, &n)))
        return damaged(b, f->page, e, flaw);
    if (n > 1 && window_get(c, f->page, n, &f->p, e) < 0)
        return BOLT_EIO;
    if (f->is_branch) { /* it outlives the window */
        buf_clear(&f->own);
        buf_add(&f->own, f->p, f->len);
        f->p = f->own.data;
    }
    if ((flaw = check_frame(c, f)))
        return damaged(b, f->page, e, flaw);
    return 0;
}

static int load_inlined(struct bolt_cursor *c, struct frame *f, struct err *e)
{
    const char *flaw = NULL;

    f->page = c->container;
    f->p = c->inlined.data;
    f->len = c->inlined.len;
    f->n = get_u16le(f->p + 10);
    f->is_branch = false;
    if (get_u16le(f->p + 8) != BOLT_LEAF || get_u32le(f->p + 12) != 0)
        flaw = "a small bucket within it is not a leaf";
    else
        flaw = check_frame(c, f);
    return flaw ? damaged(c->b, f->page, e, flaw) : 0;
}

/* --- Walking. ---------------------------------------------------------------------------------------- */

static struct frame *leaf_of(struct bolt_cursor *c)
{
    return &c->frames[c->depth - 1];
}

/* The bounds of the child that the frame's cursor is at. */
static void inherit_bounds(const struct frame *above, struct frame *f)
{
    /* What stands left of a branch's second key goes to its first child. */
    f->low = above->at ? element_key(above, above->at) : above->low;
    f->has_high = above->at + 1 < above->n || above->has_high;
    f->high = above->at + 1 < above->n ? element_key(above, above->at + 1)
                                       : above->high;
}

/* One level down, to the child that the last frame is at, or the root. */
static int push(struct bolt_cursor *c, struct err *e)
{
    struct frame *f;
    int rc;

    if (c->depth == BOLT_DEPTH_MAX)
        return damaged(c->b, c->root, e, "the tree from here on is too deep");
    f = &c->frames[c->depth];
    f->at = 0;
    f->low = f->high = (struct str){"", 0};
    f->has_high = false;
    if (c->depth > 0) {
        inherit_bounds(leaf_of(c), f);
        f->page = raw_element(leaf_of(c), leaf_of(c)->at).child;
        rc = load_page(c, f, e);
    } else if (c->root == 0) {
        rc = load_inlined(c, f, e);
    } else {
        f->page = c->root;
        rc = load_page(c, f, e);
    }
    c->depth += rc == 0;
    return rc;
}

/* Down to the leftmost leaf below. */
static int descend(struct bolt_cursor *c, struct err *e)
{
    int rc = 0;

    while (rc == 0 && (c->depth == 0 || leaf_of(c)->is_branch))
        rc = push(c, e);
    return rc;
}

/* To the next leaf; 0 at the end. */
static int next_leaf(struct bolt_cursor *c, struct err *e)
{
    int rc;

    for (c->depth--; c->depth > 0; c->depth--) {
        struct frame *f = leaf_of(c);

        if (f->at + 1 >= f->n)
            continue;
        f->at++;
        rc = descend(c, e);
        return rc < 0 ? rc : 1;
    }
    c->ended = true;
    return 0;
}

/* The item the cursor is at, or the next leaf's first. */
static int get(struct bolt_cursor *c, struct bolt_item *out, struct err *e)
{
    struct frame *f = leaf_of(c);

    if (f->at >= f->n) {
        int rc = next_leaf(c, e);

        if (rc <= 0)
            return rc;
        f = leaf_of(c);
    }
    element_item(f, f->at, out);
    return 1;
}

int bolt_next(struct bolt_cursor *c, struct bolt_item *out, struct err *e)
{
    int rc = 0;

    if (c->ended)
        return 0;
    if (c->depth == 0)
        rc = descend(c, e);
    else
        leaf_of(c)->at++;
    return rc < 0 ? rc : get(c, out, e);
}

/* How many of the frame's keys are before key, or, with equal, not behind. */
static unsigned count_before(const struct frame *f, struct str key, bool equal)
{
    unsigned lo = 0, hi = f->n;

    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;

        if (str_cmp(element_key(f, mid), key) < (int)equal)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

int bolt_seek(struct bolt_cursor *c, struct str key, struct bolt_item *out,
              struct err *e)
{
    struct frame *f;
    int rc;

    c->depth = 0;
    c->ended = false;
    do {
        rc = push(c, e);
        if (rc < 0)
            return rc;
        f = leaf_of(c);
        f->at = count_before(f, key, f->is_branch);
        if (f->is_branch && f->at > 0)
            f->at--;
    } while (f->is_branch);
    return get(c, out, e);
}

static uint64_t page_of(const struct bolt_cursor *c)
{
    return c->depth ? c->frames[c->depth - 1].page : c->container;
}

int bolt_damaged(const struct bolt_cursor *c, const char *what, struct err *e)
{
    return damaged(c->b, page_of(c), e, what);
}

/* --- Buckets. --------------------------------------------------------------------------------------------- */

int bolt_enter(struct bolt_cursor *buckets, const struct bolt_item *bucket,
               struct bolt_cursor **out, struct err *e)
{
    struct bolt *b = buckets->b;
    uint64_t page = page_of(buckets), root;
    struct str v = bucket->value;

    if (!bucket->is_bucket || v.n < BOLT_BUCKET_BYTES)
        return damaged(b, page, e, "an item that should be a bucket is none");
    root = get_u64le((const uint8_t *)v.p);
    if (root == 0 && v.n < BOLT_BUCKET_BYTES + BOLT_HEAD_BYTES)
        return damaged(b, page, e, "a small bucket within it is cut off");
    *out = new_cursor(b, root, page);
    if (root == 0)
        buf_add(&(*out)->inlined, v.p + BOLT_BUCKET_BYTES,
                v.n - BOLT_BUCKET_BYTES);
    return 0;
}

int bolt_bucket(struct bolt *b, struct str name, struct bolt_cursor **out,
                struct err *e)
{
    struct bolt_cursor *c = bolt_buckets(b);
    struct bolt_item item;
    int rc = bolt_seek(c, name, &item, e);

    if (rc > 0 && !str_eq(item.key, name))
        rc = 0;
    if (rc > 0 && bolt_enter(c, &item, out, e) < 0)
        rc = BOLT_EFORMAT;
    bolt_cursor_free(c);
    return rc;
}
