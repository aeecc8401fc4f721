/*
 * kvtree.c - a B+tree of versions with counts of the live ones.
 *
 *     inner   child   [ a | b | c | ... ]     nodes, or leaves at level 1
 *             first   [ . | . | . | ... ]     each child's first version
 *             live    [ 9 | 4 | 7 | ... ]     live versions below each child
 *
 *     leaf    kv      [ . . . . . . . . . ]   versions in order
 *             live    a bit for each
 *
 *     both    word    [ . . . . . . . . . ]   by key only: of each version, or
 *                                             child's first, the eight bytes of
 *                                             its key behind the `skip` bytes
 *                                             that all here have in common
 *
 * Leaves are most of the tree: eight bytes a version, and what is not filled;
 * by key it is twice that. Whoever seeks a key would else fetch half a dozen
 * versions from all over the memory on each level; words tell all but few apart.
 * A leaf that is full and grows at its end leaves all behind and begins anew
 * with one, so that keys that come in order, and the log, fill it wholly;
 * else it splits in half.
 *
 * A node that shrinks below NODE_MIN is merged with a neighbour if both fill
 * no more than three quarters of one. Neighbours are therefore never both
 * nearly empty, and the height stays below log to the base of about eight.
 *
 * INVARIANTS  No node is empty but the root of an empty tree, which is a
 * leaf. first[i] is the first version below child[i], live[i] the number of
 * live ones. All leaves are equally deep. skip may be less than all that the
 * keys of a node have in common.
 */
#include "kvtree.h"

#include <assert.h>

/* A leaf and its allocator's header make 528 bytes with 64-bit pointers, or 1040
 * with words. */
#ifndef KVTREE_NODE_MAX /* a test puts less here, to see high trees */
#define KVTREE_NODE_MAX 63
#endif

enum {
    NODE_MAX = KVTREE_NODE_MAX,
    NODE_MIN = (NODE_MAX + 3) / 4,
    MERGE_MAX = NODE_MAX * 3 / 4,
};

struct words {
    size_t skip;
    uint64_t word[NODE_MAX];
};

/* By revision, nodes end before their words. */
struct leaf {
    uint64_t n;
    uint64_t live; /* bit i: kv[i] is live */
    struct mvcc_kv *kv[NODE_MAX];
    struct words words;
};

struct inner {
    uint64_t n;
    void *child[NODE_MAX];
    struct mvcc_kv *first[NODE_MAX];
    size_t live[NODE_MAX];
    struct words words;
};

static_assert(NODE_MAX <= 64, "a leaf's live bits fit its word");

static unsigned count_bits(uint64_t x)
{
    return (unsigned)__builtin_popcountll(x);
}

/* --- Order. ----------------------------------------------------------------- */

static int compare_revision(const struct mvcc_kv *kv,
                            const struct kvtree_place *p)
{
    if (kv->mod_revision != p->main)
        return kv->mod_revision < p->main ? -1 : 1;
    return ((int64_t)kv->sub > p->sub) - ((int64_t)kv->sub < p->sub);
}

static int compare(const struct kvtree *t, const struct mvcc_kv *kv,
                   const struct kvtree_place *p)
{
    if (t->order == KVTREE_BY_REVISION)
        return compare_revision(kv, p);
    return str_cmp(mvcc_key(kv), p->key);
}

/* --- Words. ------------------------------------------------------------------ */

/* What stands behind the first `skip` bytes, as a number in order. */
static uint64_t word_of(struct str key, size_t skip)
{
    uint64_t word = 0;
    size_t n = key.n > skip ? key.n - skip : 0;

    if (n >= sizeof(word))
        return get_u64be((const uint8_t *)key.p + skip);
    for (size_t i = 0; i < n; i++)
        word |= (uint64_t)(uint8_t)key.p[skip + i] << (56 - 8 * i);
    return word;
}

/* The bytes that a and b have in common, at most max. */
static size_t common(const struct mvcc_kv *a, const struct mvcc_kv *b,
                     size_t max)
{
    size_t n = 0;

    if (max > a->key_len)
        max = a->key_len;
    if (max > b->key_len)
        max = b->key_len;
    while (n < max && a->bytes[n] == b->bytes[n])
        n++;
    return n;
}

static void set_words(struct words *w, struct mvcc_kv *const *kvs, size_t n,
                      size_t skip)
{
    w->skip = skip;
    for (size_t i = 0; i < n; i++)
        w->word[i] = word_of(mvcc_key(kvs[i]), skip);
}

/* What the first and the last have in common, all have. */
static void renew_words(struct words *w, struct mvcc_kv *const *kvs, size_t n)
{
    if (n > 0)
        set_words(w, kvs, n, common(kvs[0], kvs[n - 1], SIZE_MAX));
}

/* kvs[i] is new among the n, and there is room for its word. */
static void add_word(struct words *w, struct mvcc_kv *const *kvs, size_t n,
                     size_t i)
{
    size_t skip =
        n == 1 ? kvs[i]->key_len : common(kvs[i], kvs[i == 0], w->skip);

    if (n == 1 || skip < w->skip)
        set_words(w, kvs, n, skip);
    else
        w->word[i] = word_of(mvcc_key(kvs[i]), skip);
}

/* The place within what all keys of a node have in common, of which `known`
 * bytes need not be looked at: -1 and 1 if it is before or behind them all. */
static int compare_common(const struct words *w, const struct mvcc_kv *any,
                          struct str key, size_t known)
{
    size_t n = key.n < w->skip ? key.n : w->skip;
    int c =
        n > known ? memcmp(key.p + known, any->bytes + known, n - known) : 0;

    return c ? c : -(key.n < w->skip);
}

/* The bytes that the key surely has in common with the i-th, if it has the
 * first `skip` of them. */
static size_t common_with(const struct words *w, unsigned i, struct str key)
{
    uint64_t differ = w->word[i] ^ word_of(key, w->skip);
    size_t n = w->skip +
               (differ ? (size_t)__builtin_clzll(differ) / 8 : sizeof(differ));

    return n < key.n ? n : key.n;
}

/* --- Places in a node. --------------------------------------------------------- */

/* kv's order to the place; both words tell it, or all has to be looked at. */
static int compare_words(uint64_t word, const struct mvcc_kv *kv,
                         uint64_t sought, struct str key)
{
    if (word != sought)
        return word < sought ? -1 : 1;
    return str_cmp(mvcc_key(kv), key);
}

/*
 * How many of kvs[0..n) are before the place, or, with equal, not behind. By
 * key: the first `known` bytes are those of kvs[0]; *inside if it begins as all
 * of them do.
 */
static unsigned count_before(const struct kvtree *t, struct mvcc_kv *const *kvs,
                             const struct words *w, unsigned n,
                             const struct kvtree_place *p, bool equal,
                             size_t known, bool *inside)
{
    bool by_key = t->order == KVTREE_BY_KEY;
    uint64_t sought = by_key ? word_of(p->key, w->skip) : 0;
    int outside = by_key && n ? compare_common(w, kvs[0], p->key, known) : 0;
    unsigned lo = outside > 0 ? n : 0, hi = outside < 0 ? 0 : n;

    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        int c = by_key ? compare_words(w->word[mid], kvs[mid], sought, p->key)
                       : compare_revision(kvs[mid], p);

        if (c < (int)equal)
            lo = mid + 1;
        else
            hi = mid;
    }
    *inside = by_key && !outside;
    return lo;
}

/* --- Nodes. ------------------------------------------------------------------ */

static bool is_live(const struct leaf *l, unsigned i)
{
    return l->live >> i & 1;
}

static uint64_t bits_below(unsigned i) /* i <= 63 */
{
    return ((uint64_t)1 << i) - 1;
}

static uint64_t live_bit(const struct mvcc_kv *kv, unsigned i)
{
    return (uint64_t)!mvcc_is_tombstone(kv) << i;
}

static unsigned node_n(const void *node)
{
    return (unsigned)*(const uint64_t *)node; /* first in both kinds */
}

static struct mvcc_kv *node_first(const void *node, unsigned level)
{
    return level ? ((const struct inner *)node)->first[0]
                 : ((const struct leaf *)node)->kv[0];
}

static size_t node_live(const void *node, unsigned level)
{
    const struct inner *in = node;
    size_t sum = 0;

    if (level == 0)
        return count_bits(((const struct leaf *)node)->live);
    for (unsigned i = 0; i < in->n; i++)
        sum += in->live[i];
    return sum;
}

static size_t node_bytes(enum kvtree_order order, unsigned level)
{
    size_t words = order == KVTREE_BY_KEY ? sizeof(struct words) : 0;

    return words + (level ? offsetof(struct inner, words)
                          : offsetof(struct leaf, words));
}

static void *new_node(enum kvtree_order order, unsigned level)
{
    uint64_t *n = xmalloc(node_bytes(order, level));

    memset(n, 0, level ? sizeof(*n) : offsetof(struct leaf, kv));
    if (order == KVTREE_BY_KEY)
        (level ? &((struct inner *)(void *)n)->words
               : &((struct leaf *)(void *)n)->words)
            ->skip = 0;
    return n;
}

/* Child i of in, at level - 1, has changed. */
static void refresh(enum kvtree_order order, struct inner *in, unsigned i,
                    unsigned level)
{
    struct mvcc_kv *first = node_first(in->child[i], level - 1);

    in->live[i] = node_live(in->child[i], level - 1);
    if (in->first[i] == first)
        return;
    in->first[i] = first;
    if (order == KVTREE_BY_KEY)
        add_word(&in->words, in->first, in->n, i);
}

/* Of n elements, those from i on move by one, up or down. */
#define MOVE_UP(array, i, n)                                                   \
    memmove((array) + (i) + 1, (array) + (i), ((n) - (i)) * sizeof((array)[0]))
#define MOVE_DOWN(array, i, n)                                                 \
    memmove((array) + (i), (array) + (i) + 1,                                  \
            ((n) - (i)-1) * sizeof((array)[0]))

static void leaf_insert(enum kvtree_order order, struct leaf *l, unsigned i,
                        struct mvcc_kv *kv)
{
    assert(l->n < NODE_MAX && i <= l->n);
    MOVE_UP(l->kv, i, l->n);
    if (order == KVTREE_BY_KEY)
        MOVE_UP(l->words.word, i, l->n);
    l->kv[i] = kv;
    l->live = (l->live & bits_below(i)) | live_bit(kv, i) |
              (l->live & ~bits_below(i)) << 1;
    l->n++;
    if (order == KVTREE_BY_KEY)
        add_word(&l->words, l->kv, l->n, i);
}

static void leaf_remove(enum kvtree_order order, struct leaf *l, unsigned i)
{
    assert(i < l->n);
    MOVE_DOWN(l->kv, i, l->n);
    if (order == KVTREE_BY_KEY)
        MOVE_DOWN(l->words.word, i, l->n);
    l->n--;
    l->live = (l->live & bits_below(i)) | (l->live >> 1 & ~bits_below(i));
}

static void inner_insert(enum kvtree_order order, struct inner *in, unsigned i,
                         void *child, unsigned level)
{
    assert(in->n < NODE_MAX && i <= in->n);
    MOVE_UP(in->child, i, in->n);
    MOVE_UP(in->first, i, in->n);
    MOVE_UP(in->live, i, in->n);
    if (order == KVTREE_BY_KEY)
        MOVE_UP(in->words.word, i, in->n);
    in->n++;
    in->child[i] = child;
    in->first[i] = NULL;
    refresh(order, in, i, level);
}

static void inner_remove(enum kvtree_order order, struct inner *in, unsigned i)
{
    assert(i < in->n);
    MOVE_DOWN(in->child, i, in->n);
    MOVE_DOWN(in->first, i, in->n);
    MOVE_DOWN(in->live, i, in->n);
    if (order == KVTREE_BY_KEY)
        MOVE_DOWN(in->words.word, i, in->n);
    in->n--;
}

/* All of src from i on goes to the end of dst. */
static void move_leaf(struct leaf *dst, struct leaf *src, unsigned i)
{
    size_t n = src->n - i;

    assert(dst->n + n <= NODE_MAX);
    memcpy(dst->kv + dst->n, src->kv + i, n * sizeof(dst->kv[0]));
    if (n) /* else the shift might be too wide */
        dst->live |= src->live >> i << dst->n;
    src->live &= bits_below(i);
    dst->n += n;
    src->n = i;
}

static void move_inner(struct inner *dst, struct inner *src, unsigned i)
{
    size_t n = src->n - i;

    assert(dst->n + n <= NODE_MAX);
    memcpy(dst->child + dst->n, src->child + i, n * sizeof(dst->child[0]));
    memcpy(dst->first + dst->n, src->first + i, n * sizeof(dst->first[0]));
    memcpy(dst->live + dst->n, src->live + i, n * sizeof(dst->live[0]));
    dst->n += n;
    src->n = i;
}

static void renew_node(void *node, unsigned level)
{
    struct inner *in = node;
    struct leaf *l = node;

    if (level)
        renew_words(&in->words, in->first, in->n);
    else
        renew_words(&l->words, l->kv, l->n);
}

static void move_from(enum kvtree_order order, void *dst, void *src, unsigned i,
                      unsigned level)
{
    bool any = node_n(src) > i;

    if (level)
        move_inner(dst, src, i);
    else
        move_leaf(dst, src, i);
    if (any && order == KVTREE_BY_KEY) {
        renew_node(dst, level);
        renew_node(src, level);
    }
}

/* --- The tree. ---------------------------------------------------------------- */

void kvtree_init(struct kvtree *t, enum kvtree_order order)
{
    *t = (struct kvtree){.order = order, .root = new_node(order, 0)};
}

static void free_node(void *node, unsigned level)
{
    struct inner *in = node;

    for (unsigned i = 0; level > 0 && i < in->n; i++)
        free_node(in->child[i], level - 1);
    free(node);
}

void kvtree_release(struct kvtree *t)
{
    free_node(t->root, t->height);
    *t = (struct kvtree){0};
}

/* --- Cursors. ------------------------------------------------------------------ */

static void enter(struct kvtree_cursor *c, unsigned level, void *node,
                  unsigned at)
{
    c->node[level] = node;
    c->at[level] = at;
}

static struct leaf *leaf_of(const struct kvtree_cursor *c)
{
    return c->node[0];
}

bool kvtree_seek(struct kvtree *t, struct kvtree_place p,
                 struct kvtree_cursor *c)
{
    void *node = t->root;
    size_t known = 0;
    bool inside;
    struct leaf *l;
    unsigned i;

    c->tree = t;
    for (unsigned level = t->height; level > 0; level--) {
        struct inner *in = node;

        i = count_before(t, in->first, &in->words, node_n(in), &p, true, known,
                         &inside);
        i -= i > 0; /* before all: the first child */
        known = inside ? common_with(&in->words, i, p.key) : 0;
        enter(c, level, in, i);
        node = in->child[i];
    }
    l = node;
    i = count_before(t, l->kv, &l->words, node_n(l), &p, false, known, &inside);
    enter(c, 0, l, i);
    if (i == l->n ||
        (inside && l->words.word[i] != word_of(p.key, l->words.skip)))
        return false;
    return compare(t, l->kv[i], &p) == 0;
}

void kvtree_seek_end(struct kvtree *t, struct kvtree_cursor *c)
{
    void *node = t->root;

    c->tree = t;
    for (unsigned level = t->height; level > 0; level--) {
        enter(c, level, node, node_n(node) - 1);
        node = ((struct inner *)node)->child[c->at[level]];
    }
    enter(c, 0, node, node_n(node));
}

void kvtree_seek_live(struct kvtree *t, size_t i, struct kvtree_cursor *c)
{
    void *node = t->root;
    unsigned at;

    assert(i < t->n_live);
    c->tree = t;
    for (unsigned level = t->height; level > 0; level--) {
        struct inner *in = node;

        for (at = 0; i >= in->live[at]; at++)
            i -= in->live[at];
        enter(c, level, in, at);
        node = in->child[at];
    }
    for (at = 0; i > 0 || !is_live(node, at); at++)
        i -= is_live(node, at);
    enter(c, 0, node, at);
}

size_t kvtree_rank(const struct kvtree_cursor *c)
{
    const struct leaf *l = leaf_of(c);
    size_t rank = count_bits(l->live & bits_below(c->at[0]));

    for (unsigned level = 1; level <= c->tree->height; level++) {
        const struct inner *in = c->node[level];

        for (unsigned i = 0; i < c->at[level]; i++)
            rank += in->live[i];
    }
    return rank;
}

/* From the end of a leaf to the next one's begin. False if there is none. */
static bool next_leaf(struct kvtree_cursor *c)
{
    unsigned level = 1;

    while (level <= c->tree->height &&
           c->at[level] + 1 == node_n(c->node[level]))
        level++;
    if (level > c->tree->height)
        return false;
    c->at[level]++;
    for (; level > 0; level--) {
        struct inner *in = c->node[level];

        enter(c, level - 1, in->child[c->at[level]], 0);
    }
    return true;
}

struct mvcc_kv *kvtree_get(struct kvtree_cursor *c)
{
    if (c->at[0] == leaf_of(c)->n && !next_leaf(c))
        return NULL;
    return leaf_of(c)->kv[c->at[0]];
}

void kvtree_next(struct kvtree_cursor *c)
{
    assert(c->at[0] < leaf_of(c)->n);
    c->at[0]++;
}

/* --- Changes. -------------------------------------------------------------------- */

/*
 * Put item, a version or a node of the level below, at place `at` of node. If
 * it was full, what does not stay in it is returned as its right neighbour.
 */
static void *add(enum kvtree_order order, void *node, unsigned level,
                 unsigned at, void *item)
{
    unsigned from = at == NODE_MAX ? at : NODE_MAX / 2;
    void *right = NULL;

    if (node_n(node) == NODE_MAX) {
        right = new_node(order, level);
        move_from(order, right, node, from, level);
        if (at >= from) {
            node = right;
            at -= from;
        }
    }
    if (level)
        inner_insert(order, node, at, item, level);
    else
        leaf_insert(order, node, at, item);
    return right;
}

static void grow(struct kvtree *t, void *right)
{
    struct inner *root = new_node(t->order, ++t->height);

    assert(t->height < KVTREE_HEIGHT_MAX);
    inner_insert(t->order, root, 0, t->root, t->height);
    inner_insert(t->order, root, 1, right, t->height);
    t->root = root;
}

void kvtree_insert(struct kvtree_cursor *c, struct mvcc_kv *kv)
{
    struct kvtree *t = c->tree;
    void *right = add(t->order, c->node[0], 0, c->at[0], kv);

    for (unsigned level = 1; level <= t->height; level++) {
        struct inner *in = c->node[level];
        unsigned i = c->at[level];

        refresh(t->order, in, i, level);
        if (right)
            right = add(t->order, in, level, i + 1, right);
    }
    if (right)
        grow(t, right);
    t->n++;
    t->n_live += !mvcc_is_tombstone(kv);
}

void kvtree_replace(struct kvtree_cursor *c, struct mvcc_kv *kv)
{
    struct leaf *l = leaf_of(c);
    unsigned i = c->at[0];

    assert(i < l->n);
    c->tree->n_live += !mvcc_is_tombstone(kv);
    c->tree->n_live -= is_live(l, i);
    l->kv[i] = kv;
    l->live = (l->live & ~((uint64_t)1 << i)) | live_bit(kv, i);
    for (unsigned level = 1; level <= c->tree->height; level++)
        refresh(c->tree->order, c->node[level], c->at[level], level);
}

/* Child i takes in child i + 1, if that leaves it room to grow. */
static void try_merge(enum kvtree_order order, struct inner *in, unsigned i,
                      unsigned level)
{
    void *left = in->child[i], *right;

    if (i + 1 >= in->n)
        return;
    right = in->child[i + 1];
    if (node_n(left) + node_n(right) > MERGE_MAX)
        return;
    move_from(order, left, right, 0, level - 1);
    free(right);
    inner_remove(order, in, i + 1);
    refresh(order, in, i, level);
}

/* Child i of in, at this level, has become smaller. */
static void mend(enum kvtree_order order, struct inner *in, unsigned i,
                 unsigned level)
{
    unsigned n = node_n(in->child[i]);

    if (n == 0) {
        free(in->child[i]);
        inner_remove(order, in, i);
        return;
    }
    refresh(order, in, i, level);
    if (n >= NODE_MIN)
        return;
    try_merge(order, in, i, level);
    if (i > 0)
        try_merge(order, in, i - 1, level);
}

static void shrink(struct kvtree *t)
{
    while (t->height > 0 && node_n(t->root) <= 1) {
        struct inner *root = t->root;

        t->height--;
        if (root->n == 1) {
            t->root = root->child[0];
        } else {
            t->height = 0;
            t->root = new_node(t->order, 0);
        }
        free(root);
    }
}

void kvtree_remove(struct kvtree_cursor *c)
{
    struct kvtree *t = c->tree;
    struct leaf *l = leaf_of(c);

    t->n--;
    t->n_live -= is_live(l, c->at[0]);
    leaf_remove(t->order, l, c->at[0]);
    for (unsigned level = 1; level <= t->height; level++)
        mend(t->order, c->node[level], c->at[level], level);
    shrink(t);
}

/* --- Building. ------------------------------------------------------------------- */

/* How far ahead a version is fetched that is about to be looked at. */
#define FETCH_AHEAD 16

static void *build_leaf(enum kvtree_order order, struct mvcc_kv *const *kvs,
                        size_t n, size_t more)
{
    struct leaf *l = new_node(order, 0);

    for (size_t i = 0; i < n; i++) {
        if (i + FETCH_AHEAD < more)
            __builtin_prefetch(kvs[i + FETCH_AHEAD]);
        l->kv[i] = kvs[i];
        l->live |= live_bit(kvs[i], (unsigned)i);
    }
    l->n = n;
    if (order == KVTREE_BY_KEY)
        renew_node(l, 0);
    return l;
}

static void *build_inner(enum kvtree_order order, void *const *children,
                         size_t n, unsigned level)
{
    struct inner *in = new_node(order, level);

    for (unsigned i = 0; i < n; i++) {
        in->child[i] = children[i];
        in->first[i] = node_first(children[i], level - 1);
        in->live[i] = node_live(children[i], level - 1);
    }
    in->n = n;
    if (order == KVTREE_BY_KEY)
        renew_node(in, level);
    return in;
}

static size_t at_most_a_node(size_t n)
{
    return n < NODE_MAX ? n : NODE_MAX;
}

void kvtree_build(struct kvtree *t, struct mvcc_kv *const *kvs, size_t n)
{
    void **nodes = xmalloc((n / NODE_MAX + 1) * sizeof(*nodes));
    size_t n_nodes = 0, n_above;

    assert(t->n == 0 && t->height == 0);
    if (n > 0)
        free(t->root);
    else
        nodes[n_nodes++] = t->root;
    for (size_t i = 0; i < n; i += NODE_MAX)
        nodes[n_nodes++] =
            build_leaf(t->order, kvs + i, at_most_a_node(n - i), n - i);
    for (; n_nodes > 1; n_nodes = n_above) {
        t->height++;
        assert(t->height < KVTREE_HEIGHT_MAX);
        n_above = 0;
        for (size_t i = 0; i < n_nodes; i += NODE_MAX)
            nodes[n_above++] = build_inner(
                t->order, nodes + i, at_most_a_node(n_nodes - i), t->height);
    }
    t->root = nodes[0];
    t->n = n;
    t->n_live = node_live(t->root, t->height);
    free(nodes);
}

/* --- Checking. ------------------------------------------------------------------- */

static void check_words(const struct kvtree *t, const struct words *w,
                        struct mvcc_kv *const *kvs, size_t n)
{
    for (size_t i = 0; t->order == KVTREE_BY_KEY && i < n; i++) {
        assert(compare_common(w, kvs[0], mvcc_key(kvs[i]), 0) == 0);
        assert(w->word[i] == word_of(mvcc_key(kvs[i]), w->skip));
    }
}

static void check_leaf(const struct kvtree *t, const struct leaf *l,
                       struct mvcc_kv **last, size_t *n)
{
    assert(l->n > 0 || t->height == 0);
    assert((l->live & ~bits_below((unsigned)l->n)) == 0);
    check_words(t, &l->words, l->kv, l->n);
    for (unsigned i = 0; i < l->n; i++) {
        struct mvcc_kv *kv = l->kv[i];
        struct kvtree_place p = {mvcc_key(kv), kv->mod_revision, kv->sub};

        assert(is_live(l, i) == !mvcc_is_tombstone(kv));
        assert(!*last || compare(t, *last, &p) < 0);
        *last = kv;
        ++*n;
    }
}

static void check_node(const struct kvtree *t, const void *node, unsigned level,
                       struct mvcc_kv **last, size_t *n)
{
    const struct inner *in = node;

    if (level == 0) {
        check_leaf(t, node, last, n);
        return;
    }
    assert(in->n > 0 && in->n <= NODE_MAX);
    check_words(t, &in->words, in->first, in->n);
    for (unsigned i = 0; i < in->n; i++) {
        assert(in->first[i] == node_first(in->child[i], level - 1));
        assert(in->live[i] == node_live(in->child[i], level - 1));
        check_node(t, in->child[i], level - 1, last, n);
    }
}

void kvtree_check(const struct kvtree *t)
{
    struct mvcc_kv *last = NULL;
    size_t n = 0;

    check_node(t, t->root, t->height, &last, &n);
    assert(n == t->n);
    assert(node_live(t->root, t->height) == t->n_live);
}
