/*
 * boltwrite.c - writing a bbolt file from front to back.
 *
 * Two trees grow at once: that of the buckets, and that of the keys of the
 * bucket at hand. Of each, one node per level is open. A node that is full
 * becomes the next page, and its first key an element of the node above; at
 * the end the open nodes follow, from the leaf up. So children come before
 * their parents, and the root comes last.
 *
 *     level 2            open
 *     level 1     page 207   open            page ids grow as pages are
 *     level 0     3 4 ... 206, 208 209 open  given to the sink
 *
 * Nodes are filled wholly: nothing is ever inserted into this file but by a
 * bbolt that splits what it changes, and etcd changes the end only.
 */
#include "bolt_impl.h"

#include <assert.h>

#define OUT_BYTES (64 * 1024)
#define INLINE_MAX (BOLT_PAGE_BYTES / 4) /* bbolt's bound, without its head */
#define FIRST_FREE 3                     /* page id behind metas and freelist */
#define FREELIST 2
#define TXID 2 /* of page 0, as if it had just been written */

struct element {
    uint32_t flags, key_len, value_len;
    uint64_t child;
};

/* A page that is being filled. */
struct node {
    struct element *elements;
    unsigned n, cap;
    size_t size;      /* of the page, with its head */
    struct buf bytes; /* keys and values; empty when only measuring */
};

struct tree {
    struct node levels[BOLT_DEPTH_MAX]; /* 0: leaf */
    unsigned height;                    /* of the highest one that is open */
};

struct bolt_writer {
    bolt_sink *sink; /* NULL: measuring */
    void *arg;
    struct bolt_plan plan; /* n_pages 0: none was given */
    uint64_t next;         /* page id */
    struct buf out;        /* not yet with the sink */
    struct tree buckets, keys;
    bool in_bucket;
    struct buf name; /* of the bucket at hand */
    struct buf last; /* key in it */
};

/* --- First pages. ------------------------------------------------------------ */

static void put_head(uint8_t *p, uint64_t id, enum bolt_page_flag flag,
                     unsigned count, uint64_t overflow)
{
    assert(count <= BOLT_PAGE_COUNT_MAX && overflow <= UINT32_MAX);
    put_u64le(p, id);
    put_u16le(p + 8, (uint16_t)flag);
    put_u16le(p + 10, (uint16_t)count);
    put_u32le(p + 12, (uint32_t)overflow);
}

static void put_meta(uint8_t *page, uint64_t id, const struct bolt_plan *plan,
                     uint64_t txid)
{
    uint8_t *p = page + BOLT_HEAD_BYTES;

    put_head(page, id, BOLT_META, 0, 0);
    put_u32le(p, BOLT_MAGIC);
    put_u32le(p + 4, BOLT_VERSION);
    put_u32le(p + 8, BOLT_PAGE_BYTES);
    put_u64le(p + 16, plan->root);
    put_u64le(p + 32, FREELIST);
    put_u64le(p + 40, plan->n_pages);
    put_u64le(p + 48, txid);
    put_u64le(p + BOLT_SUMMED_BYTES, bolt_meta_sum(p));
}

void bolt_first_pages(const struct bolt_plan *plan,
                      uint8_t out[BOLT_FIRST_BYTES])
{
    memset(out, 0, BOLT_FIRST_BYTES);
    put_meta(out, 0, plan, TXID);
    put_meta(out + BOLT_PAGE_BYTES, 1, plan, TXID - 1);
    put_head(out + 2 * BOLT_PAGE_BYTES, FREELIST, BOLT_FREELIST, 0, 0);
}

/* --- Life. --------------------------------------------------------------------- */

struct bolt_writer *bolt_writer_new(bolt_sink *sink, void *arg,
                                    const struct bolt_plan *plan)
{
    struct bolt_writer *w = xcalloc(1, sizeof(*w));

    w->sink = sink;
    w->arg = arg;
    w->next = FIRST_FREE;
    if (plan)
        w->plan = *plan;
    if (!sink)
        return w;
    buf_reserve(&w->out, OUT_BYTES);
    if (plan)
        bolt_first_pages(plan, w->out.data);
    else
        memset(w->out.data, 0, BOLT_FIRST_BYTES);
    w->out.len = BOLT_FIRST_BYTES;
    return w;
}

static void tree_release(struct tree *t)
{
    for (unsigned i = 0; i < BOLT_DEPTH_MAX; i++) {
        free(t->levels[i].elements);
        buf_release(&t->levels[i].bytes);
    }
}

void bolt_writer_free(struct bolt_writer *w)
{
    if (!w)
        return;
    tree_release(&w->buckets);
    tree_release(&w->keys);
    buf_release(&w->out);
    buf_release(&w->name);
    buf_release(&w->last);
    free(w);
}

/* --- Nodes. ----------------------------------------------------------------------- */

static bool measures(const struct bolt_writer *w)
{
    return w->sink == NULL;
}

static size_t node_size(const struct node *node)
{
    return node->n ? node->size : BOLT_HEAD_BYTES;
}

static void node_clear(struct node *node)
{
    node->n = 0;
    node->size = BOLT_HEAD_BYTES;
    buf_trim(&node->bytes, 4 * BOLT_PAGE_BYTES);
    buf_clear(&node->bytes);
}

static void node_add(struct bolt_writer *w, struct node *node,
                     const struct element *el, struct str key, struct str value)
{
    if (node->n == node->cap) {
        node->cap = node->cap ? 2 * node->cap : 64;
        node->elements =
            xrealloc(node->elements, node->cap * sizeof(struct element));
    }
    node->size = node_size(node) + BOLT_ELEMENT_BYTES + key.n + value.n;
    node->elements[node->n++] = *el;
    if (measures(w))
        return;
    buf_reserve(&node->bytes, key.n + value.n);
    buf_addstr(&node->bytes, key);
    buf_addstr(&node->bytes, value);
}

static void put_element(uint8_t *p, const struct element *el,
                        enum bolt_page_flag flag, size_t pos)
{
    assert(pos <= UINT32_MAX);
    if (flag == BOLT_LEAF) {
        put_u32le(p, el->flags);
        put_u32le(p + 4, (uint32_t)pos);
        put_u32le(p + 8, el->key_len);
        put_u32le(p + 12, el->value_len);
    } else {
        put_u32le(p, (uint32_t)pos);
        put_u32le(p + 4, el->key_len);
        put_u64le(p + 8, el->child);
    }
}

/* The page, without what fills it up. */
static void encode(struct buf *b, const struct node *node,
                   enum bolt_page_flag flag, uint64_t id, uint64_t overflow)
{
    size_t pos = (size_t)node->n * BOLT_ELEMENT_BYTES;
    uint8_t *p;

    buf_reserve(b, node_size(node));
    p = b->data + b->len;
    put_head(p, id, flag, node->n, overflow);
    p += BOLT_HEAD_BYTES;
    for (unsigned i = 0; i < node->n; i++, p += BOLT_ELEMENT_BYTES) {
        const struct element *el = &node->elements[i];

        put_element(p, el, flag, pos);
        pos += (size_t)el->key_len + el->value_len - BOLT_ELEMENT_BYTES;
    }
    b->len = (size_t)(p - b->data);
    buf_addstr(b, buf_str(&node->bytes));
}

/* --- Pages. -------------------------------------------------------------------------- */

static int flush(struct bolt_writer *w)
{
    int rc = w->out.len ? w->sink(w->arg, w->out.data, w->out.len) : 0;

    buf_clear(&w->out);
    buf_trim(&w->out, 4 * OUT_BYTES);
    return rc == 0 ? 0 : BOLT_ESINK;
}

/* The node as the next page, whose id is *id; then it is empty. */
static int write_node(struct bolt_writer *w, struct node *node,
                      enum bolt_page_flag flag, uint64_t *id)
{
    uint64_t n_pages =
        (node_size(node) + BOLT_PAGE_BYTES - 1) / BOLT_PAGE_BYTES;
    size_t pad = (size_t)(n_pages * BOLT_PAGE_BYTES - node_size(node));

    *id = w->next;
    w->next += n_pages;
    if (!measures(w)) {
        encode(&w->out, node, flag, *id, n_pages - 1);
        buf_reserve(&w->out, pad);
        memset(w->out.data + w->out.len, 0, pad);
        w->out.len += pad;
    }
    node_clear(node);
    return w->out.len >= OUT_BYTES ? flush(w) : 0;
}

/* --- Trees. ----------------------------------------------------------------------------- */

static enum bolt_page_flag flag_of(unsigned level)
{
    return level ? BOLT_BRANCH : BOLT_LEAF;
}

/* A branch has two children at least, however long their keys are. */
static bool is_full(const struct node *node, unsigned level, size_t more)
{
    return node->n > (level ? 1u : 0u) &&
           (node->n == BOLT_PAGE_COUNT_MAX ||
            node_size(node) + more > BOLT_PAGE_BYTES);
}

static int tree_add(struct bolt_writer *w, struct tree *t, unsigned level,
                    const struct element *el, struct str key, struct str value);

/*
 * The open node of this level is done, and gets its element above. There, it
 * is the first key's bytes that are copied, from where they stood.
 */
static int close_node(struct bolt_writer *w, struct tree *t, unsigned level)
{
    struct node *node = &t->levels[level];
    struct element el = {.key_len = node->elements[0].key_len};
    struct buf first = {0};
    int rc;

    assert(level + 1 < BOLT_DEPTH_MAX);
    if (!measures(w))
        buf_add(&first, node->bytes.data, el.key_len);
    rc = write_node(w, node, flag_of(level), &el.child);
    if (level == t->height)
        t->height++;
    if (rc == 0)
        rc = tree_add(w, t, level + 1, &el,
                      (struct str){(const char *)first.data, el.key_len},
                      (struct str){"", 0});
    buf_release(&first);
    return rc;
}

static int tree_add(struct bolt_writer *w, struct tree *t, unsigned level,
                    const struct element *el, struct str key, struct str value)
{
    struct node *node = &t->levels[level];

    if (is_full(node, level, BOLT_ELEMENT_BYTES + key.n + value.n) &&
        close_node(w, t, level) < 0)
        return BOLT_ESINK;
    node_add(w, node, el, key, value);
    return 0;
}

/* All that is open, from the leaf up; then the tree is empty. */
static int tree_end(struct bolt_writer *w, struct tree *t, uint64_t *root)
{
    unsigned level;

    for (level = 0; level < t->height; level++)
        if (close_node(w, t, level) < 0)
            return BOLT_ESINK;
    t->height = 0;
    return write_node(w, &t->levels[level], flag_of(level), root);
}

/* --- Buckets and keys. -------------------------------------------------------------------- */

static int leaf_add(struct bolt_writer *w, struct tree *t, uint32_t flags,
                    struct str key, struct str value)
{
    struct element el = {
        .flags = flags,
        .key_len = (uint32_t)key.n,
        .value_len = (uint32_t)value.n,
    };

    return tree_add(w, t, 0, &el, key, value);
}

/* The value that stands for a bucket: its root, or all of it. */
static int bucket_value(struct bolt_writer *w, struct buf *value)
{
    struct node *leaf = &w->keys.levels[0];
    uint8_t head[BOLT_BUCKET_BYTES] = {0};
    uint64_t root;

    if (w->keys.height == 0 && node_size(leaf) <= INLINE_MAX) {
        buf_add(value, head, sizeof(head));
        encode(value, leaf, BOLT_LEAF, 0, 0);
        value->len = sizeof(head) + node_size(leaf); /* also when measuring */
        node_clear(leaf);
        return 0;
    }
    if (tree_end(w, &w->keys, &root) < 0)
        return BOLT_ESINK;
    put_u64le(head, root);
    buf_add(value, head, sizeof(head));
    return 0;
}

static int end_bucket(struct bolt_writer *w)
{
    struct buf value = {0};
    int rc = 0;

    if (w->in_bucket) {
        rc = bucket_value(w, &value);
        if (rc == 0)
            rc = leaf_add(w, &w->buckets, BOLT_IS_BUCKET, buf_str(&w->name),
                          buf_str(&value));
    }
    w->in_bucket = false;
    buf_release(&value);
    return rc;
}

/* *last becomes key, which must be behind it. */
static void move_on(struct buf *last, struct str key)
{
    assert(key.n > 0 && key.n <= BOLT_KEY_MAX);
    assert(str_cmp(buf_str(last), key) < 0);
    buf_clear(last);
    buf_addstr(last, key);
}

int bolt_writer_bucket(struct bolt_writer *w, struct str name)
{
    if (end_bucket(w) < 0)
        return BOLT_ESINK;
    move_on(&w->name, name);
    buf_clear(&w->last);
    w->in_bucket = true;
    return 0;
}

int bolt_writer_put(struct bolt_writer *w, struct str key, struct str value)
{
    assert(w->in_bucket && value.n <= BOLT_VALUE_MAX);
    move_on(&w->last, key);
    return leaf_add(w, &w->keys, 0, key, value);
}

int bolt_writer_end(struct bolt_writer *w, struct bolt_plan *out)
{
    struct bolt_plan got;

    if (end_bucket(w) < 0 || tree_end(w, &w->buckets, &got.root) < 0 ||
        (!measures(w) && flush(w) < 0))
        return BOLT_ESINK;
    got.n_pages = w->next;
    *out = got;
    if (w->plan.n_pages &&
        (w->plan.n_pages != got.n_pages || w->plan.root != got.root))
        return BOLT_EFORMAT;
    return 0;
}
