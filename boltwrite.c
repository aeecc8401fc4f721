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
 *
 * To append is to take up the open nodes of one bucket as they stood before
 * they were closed. The pages that they were closed into are loose: the
 * present meta needs them, the next one does not.
 *
 *     3 4 5 ... 206 | 207 208 209 | 210 ... 340 | 341 342 343 344
 *     its full ones   loose: last   its full      the present end, a list
 *                     of its, root  ones          of 207-209 with it
 */
#include "bolt_impl.h"

#include <assert.h>

#define OUT_BYTES (64 * 1024)
#define INLINE_MAX (BOLT_PAGE_BYTES / 4) /* bbolt's bound, without its head */
#define FIRST_FREE 3                     /* page id behind metas and freelist */
#define FREELIST 2
#define LOOSE_MANY 256 /* pages: so much space is wasted without regret */
#define TXID 2         /* of page 0, as if it had just been written */

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

struct run {
    uint64_t page, n;
};

struct bolt_end {
    struct bolt_plan plan;
    struct buf name, last; /* of the bucket that grows; its last key */
    struct tree keys;      /* that were open when it ended */
    struct run *runs;      /* free, or loose; in order */
    size_t n_runs;
    uint64_t n_loose; /* pages in them */
};

struct bolt_writer {
    bolt_sink *sink; /* NULL: measuring */
    void *arg;
    struct bolt_plan plan; /* n_pages 0: none was given */
    uint64_t next;         /* page id */
    struct buf out;        /* not yet with the sink */
    struct tree buckets, keys;
    bool in_bucket;
    struct buf name;             /* of the bucket at hand */
    struct buf last;             /* key in it */
    bool growing;                /* that one is to be appended to */
    const struct bolt_end *from; /* appending to this; or NULL */
    struct bolt_end *end;        /* if a bucket grows */
    uint64_t loose;              /* where pages begin that will not last */
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

/* They take turns. */
static void put_meta(uint8_t *page, const struct bolt_plan *plan, uint64_t txid)
{
    uint8_t *p = page + BOLT_HEAD_BYTES;

    put_head(page, txid % 2, BOLT_META, 0, 0);
    put_u32le(p, BOLT_MAGIC);
    put_u32le(p + 4, BOLT_VERSION);
    put_u32le(p + 8, BOLT_PAGE_BYTES);
    put_u64le(p + 16, plan->root);
    put_u64le(p + 32, plan->freelist);
    put_u64le(p + 40, plan->n_pages);
    put_u64le(p + 48, txid);
    put_u64le(p + BOLT_SUMMED_BYTES, bolt_meta_sum(p));
}

void bolt_first_pages(const struct bolt_plan *plan,
                      uint8_t out[BOLT_FIRST_BYTES])
{
    memset(out, 0, BOLT_FIRST_BYTES);
    put_meta(out, plan, TXID);
    put_meta(out + BOLT_PAGE_BYTES, plan, TXID - 1);
    put_head(out + 2 * BOLT_PAGE_BYTES, FREELIST, BOLT_FREELIST, 0, 0);
}

uint64_t bolt_put_meta(const struct bolt_plan *plan,
                       uint8_t out[BOLT_PAGE_BYTES])
{
    memset(out, 0, BOLT_PAGE_BYTES);
    put_meta(out, plan, plan->txid);
    return plan->txid % 2 * BOLT_PAGE_BYTES;
}

/* --- Life. --------------------------------------------------------------------- */

struct bolt_writer *bolt_writer_new(bolt_sink *sink, void *arg,
                                    const struct bolt_plan *plan)
{
    struct bolt_writer *w = xcalloc(1, sizeof(*w));

    w->sink = sink;
    w->arg = arg;
    w->next = FIRST_FREE;
    w->loose = FREELIST;
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

struct bolt_writer *bolt_writer_append(bolt_sink *sink, void *arg,
                                       const struct bolt_end *end)
{
    struct bolt_writer *w = xcalloc(1, sizeof(*w));

    w->sink = sink;
    w->arg = arg;
    w->from = end;
    w->next = w->loose = end->plan.n_pages;
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
    bolt_end_free(w->end);
    free(w);
}

void bolt_end_free(struct bolt_end *end)
{
    if (!end)
        return;
    buf_release(&end->name);
    buf_release(&end->last);
    tree_release(&end->keys);
    free(end->runs);
    free(end);
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

/* --- Where a file can be appended to. ------------------------------------------------- */

/* Into one that is empty. */
static void node_copy(struct node *to, const struct node *from)
{
    *to = (struct node){.n = from->n, .cap = from->n, .size = from->size};
    if (from->n == 0)
        return;
    to->elements = xmalloc(from->n * sizeof(struct element));
    memcpy(to->elements, from->elements, from->n * sizeof(struct element));
    buf_addstr(&to->bytes, buf_str(&from->bytes));
}

static void tree_copy(struct tree *to, const struct tree *from)
{
    tree_release(to);
    to->height = from->height;
    for (unsigned i = 0; i < BOLT_DEPTH_MAX; i++)
        node_copy(&to->levels[i], &from->levels[i]);
}

static void end_add_run(struct bolt_end *end, uint64_t page, uint64_t next)
{
    if (page == next)
        return;
    end->runs = xrealloc(end->runs, (end->n_runs + 1) * sizeof(struct run));
    end->runs[end->n_runs++] = (struct run){page, next - page};
    end->n_loose += next - page;
}

/* The bucket that grows begins, so its pages follow. */
static void begin_growth(struct bolt_writer *w)
{
    struct bolt_end *end = xcalloc(1, sizeof(*end));

    assert(!w->end);
    for (size_t i = 0; w->from && i < w->from->n_runs; i++)
        end_add_run(end, w->from->runs[i].page,
                    w->from->runs[i].page + w->from->runs[i].n);
    end_add_run(end, w->loose, w->next);
    buf_addstr(&end->name, buf_str(&w->name));
    w->end = end;
    w->growing = true;
}

/* It ends: what is open now is to be taken up again. */
static void end_growth(struct bolt_writer *w)
{
    buf_addstr(&w->end->last, buf_str(&w->last));
    tree_copy(&w->end->keys, &w->keys);
    w->loose = w->next;
    w->growing = false;
}

void bolt_writer_grows(struct bolt_writer *w)
{
    if (!w->growing && !measures(w))
        begin_growth(w);
}

struct bolt_end *bolt_writer_take_end(struct bolt_writer *w)
{
    struct bolt_end *end = w->end;

    w->end = NULL;
    return end;
}

bool bolt_end_is_worn(const struct bolt_end *end)
{
    return end->n_loose > BOLT_PAGE_COUNT_MAX ||
           (end->n_loose > LOOSE_MANY && end->n_loose > end->plan.n_pages / 4);
}

const struct bolt_plan *bolt_end_plan(const struct bolt_end *end)
{
    return &end->plan;
}

/* What was loose is free now. */
static uint64_t write_freelist(struct bolt_writer *w)
{
    uint64_t n = w->from->n_loose, id = w->next, n_pages;
    size_t bytes = BOLT_HEAD_BYTES + (size_t)n * 8;
    uint8_t *p;

    assert(n <= BOLT_PAGE_COUNT_MAX);
    n_pages = (bytes + BOLT_PAGE_BYTES - 1) / BOLT_PAGE_BYTES;
    w->next += n_pages;
    buf_reserve(&w->out, (size_t)n_pages * BOLT_PAGE_BYTES);
    p = w->out.data + w->out.len;
    memset(p, 0, (size_t)n_pages * BOLT_PAGE_BYTES);
    w->out.len += (size_t)n_pages * BOLT_PAGE_BYTES;
    put_head(p, id, BOLT_FREELIST, (unsigned)n, n_pages - 1);
    p += BOLT_HEAD_BYTES;
    for (size_t i = 0; i < w->from->n_runs; i++)
        for (uint64_t k = 0; k < w->from->runs[i].n; k++, p += 8)
            put_u64le(p, w->from->runs[i].page + k);
    return id;
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

    if (w->growing)
        end_growth(w);
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
    if (w->from && str_eq(name, buf_str(&w->from->name))) {
        buf_addstr(&w->last, buf_str(&w->from->last));
        tree_copy(&w->keys, &w->from->keys);
        begin_growth(w);
    }
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
    struct bolt_plan got = {.freelist = FREELIST, .txid = TXID};

    if (end_bucket(w) < 0 || tree_end(w, &w->buckets, &got.root) < 0)
        return BOLT_ESINK;
    if (w->from) {
        got.freelist = write_freelist(w);
        got.txid = w->from->plan.txid + 1;
    }
    if (!measures(w) && flush(w) < 0)
        return BOLT_ESINK;
    got.n_pages = w->next;
    if (w->end) {
        end_add_run(w->end, w->loose, w->next);
        w->end->plan = got;
    }
    *out = got;
    if (w->plan.n_pages &&
        (w->plan.n_pages != got.n_pages || w->plan.root != got.root))
        return BOLT_EFORMAT;
    return 0;
}
