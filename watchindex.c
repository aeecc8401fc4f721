/*
 * watchindex.c - watched keys in a hash table, watched ranges in an AVL tree
 * (Adelson-Velsky, Landis 1962) with the furthest end of each subtree.
 *
 * The hash is the v2 tree's, strong against a client who would pile up keys;
 * the tree's depth needs no luck either.
 *
 * INVARIANT  Below each node of the tree, ranges on the left are before it by
 * begin, then end; heights of the two sides differ by one at most; furthest
 * is the node, down from here, whose end is last.
 */
#include "watchindex.h"

#include "trie.h"

#include <assert.h>

/* --- Nodes. ------------------------------------------------------------------ */

static struct watch_node *new_node(struct str key, struct str end)
{
    struct watch_node *n = xcalloc(1, sizeof(*n) + key.n + end.n);

    memcpy(n->bytes, key.p, key.n);
    if (end.n)
        memcpy(n->bytes + key.n, end.p, end.n);
    n->begin = (struct str){n->bytes, key.n};
    n->end = (struct str){n->bytes + key.n, end.n};
    n->point = end.n == 0;
    n->open_end = end.n == 1 && end.p[0] == '\0';
    return n;
}

/* --- Single keys. -------------------------------------------------------------- */

void watch_index_init(struct watch_index *ix)
{
    *ix = (struct watch_index){.n_buckets = 16};
    ix->points = xcalloc(ix->n_buckets, sizeof(struct watch_node *));
}

void watch_index_release(struct watch_index *ix)
{
    assert(!ix->ranges && ix->n_points == 0);
    free(ix->points);
}

static struct watch_node **bucket(const struct watch_index *ix, uint64_t hash)
{
    return &ix->points[hash & (ix->n_buckets - 1)];
}

static struct watch_node *find_point(const struct watch_index *ix,
                                     struct str key, uint64_t hash)
{
    struct watch_node *n = *bucket(ix, hash);

    while (n && !(n->hash == hash && str_eq(n->begin, key)))
        n = n->chain;
    return n;
}

static void rehash(struct watch_index *ix, size_t n_buckets)
{
    struct watch_node **old = ix->points, *next;
    size_t n_old = ix->n_buckets;

    ix->points = xcalloc(n_buckets, sizeof(struct watch_node *));
    ix->n_buckets = n_buckets;
    for (size_t i = 0; i < n_old; i++) {
        for (struct watch_node *n = old[i]; n; n = next) {
            struct watch_node **b = bucket(ix, n->hash);

            next = n->chain;
            n->chain = *b;
            *b = n;
        }
    }
    free(old);
}

static struct watch_node *attach_point(struct watch_index *ix, struct str key)
{
    uint64_t hash = trie_key(key).hash;
    struct watch_node *n = find_point(ix, key, hash), **b;

    if (n)
        return n;
    if (ix->n_points++ >= ix->n_buckets)
        rehash(ix, ix->n_buckets * 2);
    n = new_node(key, (struct str){"", 0});
    n->hash = hash;
    b = bucket(ix, hash);
    n->chain = *b;
    *b = n;
    return n;
}

static void remove_point(struct watch_index *ix, struct watch_node *n)
{
    struct watch_node **at = bucket(ix, n->hash);

    while (*at != n)
        at = &(*at)->chain;
    *at = n->chain;
    ix->n_points--;
}

/* --- Ranges. --------------------------------------------------------------------- */

static int compare_ends(const struct watch_node *a, const struct watch_node *b)
{
    if (a->open_end || b->open_end)
        return a->open_end - b->open_end;
    return str_cmp(a->end, b->end);
}

static int compare(const struct watch_node *a, const struct watch_node *b)
{
    int c = str_cmp(a->begin, b->begin);

    return c ? c : compare_ends(a, b);
}

static bool ends_behind(const struct watch_node *n, struct str key)
{
    return n->open_end || str_cmp(key, n->end) < 0;
}

static int height(const struct watch_node *n)
{
    return n ? n->height : 0;
}

static void look_further(struct watch_node *n, const struct watch_node *child)
{
    if (child && compare_ends(n->furthest, child->furthest) < 0)
        n->furthest = child->furthest;
}

static struct watch_node *update(struct watch_node *n)
{
    int l = height(n->left), r = height(n->right);

    n->height = 1 + (l > r ? l : r);
    n->furthest = n;
    look_further(n, n->left);
    look_further(n, n->right);
    return n;
}

static struct watch_node *rotate_right(struct watch_node *n)
{
    struct watch_node *top = n->left;

    n->left = top->right;
    top->right = update(n);
    return update(top);
}

static struct watch_node *rotate_left(struct watch_node *n)
{
    struct watch_node *top = n->right;

    n->right = top->left;
    top->left = update(n);
    return update(top);
}

static struct watch_node *balance(struct watch_node *n)
{
    int lean = height(n->left) - height(n->right);

    if (lean > 1) {
        assert(n->left);
        if (height(n->left->left) < height(n->left->right))
            n->left = rotate_left(n->left);
        return rotate_right(n);
    }
    if (lean < -1) {
        assert(n->right);
        if (height(n->right->right) < height(n->right->left))
            n->right = rotate_right(n->right);
        return rotate_left(n);
    }
    return update(n);
}

static struct watch_node *insert(struct watch_node *top, struct watch_node *n)
{
    if (!top)
        return update(n);
    if (compare(n, top) < 0)
        top->left = insert(top->left, n);
    else
        top->right = insert(top->right, n);
    return balance(top);
}

static struct watch_node *take_first(struct watch_node *top,
                                     struct watch_node **first)
{
    if (!top->left) {
        *first = top;
        return top->right;
    }
    top->left = take_first(top->left, first);
    return balance(top);
}

static struct watch_node *take(struct watch_node *top, struct watch_node *n)
{
    struct watch_node *first, *right;

    if (top != n) {
        if (compare(n, top) < 0)
            top->left = take(top->left, n);
        else
            top->right = take(top->right, n);
        return balance(top);
    }
    if (!n->right)
        return n->left;
    right = take_first(n->right, &first);
    first->left = n->left;
    first->right = right;
    return balance(first);
}

static struct watch_node *attach_range(struct watch_index *ix, struct str key,
                                       struct str end)
{
    struct watch_node *n = new_node(key, end), *at = ix->ranges;
    int c;

    while (at && (c = compare(n, at)) != 0)
        at = c < 0 ? at->left : at->right;
    if (at) {
        free(n);
        return at;
    }
    ix->ranges = insert(ix->ranges, n);
    return n;
}

/* --- The index. -------------------------------------------------------------------- */

struct watch_node *watch_index_attach(struct watch_index *ix, struct str key,
                                      struct str range_end)
{
    struct watch_node *n = range_end.n == 0 ? attach_point(ix, key)
                                            : attach_range(ix, key, range_end);

    n->n_attached++;
    return n;
}

void watch_index_detach(struct watch_index *ix, struct watch_node *n)
{
    assert(n->n_attached > 0);
    if (--n->n_attached > 0)
        return;
    if (n->point)
        remove_point(ix, n);
    else
        ix->ranges = take(ix->ranges, n);
    free(n);
}

static void match_ranges(struct watch_node *n, struct str key,
                         watch_index_visit *visit, void *arg)
{
    while (n && ends_behind(n->furthest, key)) {
        match_ranges(n->left, key, visit, arg);
        if (str_cmp(n->begin, key) > 0)
            return;
        if (ends_behind(n, key))
            visit(arg, n);
        n = n->right;
    }
}

void watch_index_match(const struct watch_index *ix, struct str key,
                       watch_index_visit *visit, void *arg)
{
    struct watch_node *n;

    if (ix->n_points > 0) {
        n = find_point(ix, key, trie_key(key).hash);
        if (n)
            visit(arg, n);
    }
    match_ranges(ix->ranges, key, visit, arg);
}

static void check_below(const struct watch_node *n,
                        const struct watch_node **last)
{
    const struct watch_node *furthest = n;
    int lean;

    if (!n)
        return;
    check_below(n->left, last);
    assert(!*last || compare(*last, n) < 0);
    *last = n;
    check_below(n->right, last);
    lean = height(n->left) - height(n->right);
    assert(lean >= -1 && lean <= 1);
    if (n->left && compare_ends(furthest, n->left->furthest) < 0)
        furthest = n->left->furthest;
    if (n->right && compare_ends(furthest, n->right->furthest) < 0)
        furthest = n->right->furthest;
    assert(compare_ends(furthest, n->furthest) == 0);
    assert(n->n_attached > 0);
}

void watch_index_check(const struct watch_index *ix)
{
    const struct watch_node *last = NULL;

    check_below(ix->ranges, &last);
}
