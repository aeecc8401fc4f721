/*
 * kvtree.h - an ordered set of versions with subtree counts, for mvcc.c: by
 * key (each key's newest version) and by revision (every version). Pure.
 *
 * A version that is not a tombstone is *live*. How many live ones stand
 * before a place, and which is the i-th, costs O(log n).
 *
 * The tree borrows the versions. A cursor is good until the tree changes by
 * anything but kvtree_replace() through itself.
 */
#ifndef KVTREE_H
#define KVTREE_H

#include "mvcc.h"

#define KVTREE_HEIGHT_MAX 16

enum kvtree_order { KVTREE_BY_KEY, KVTREE_BY_REVISION };

struct kvtree {
    enum kvtree_order order;
    void *root;
    unsigned height; /* 0: the root is a leaf */
    size_t n, n_live;
};

/* A place in either order. */
struct kvtree_place {
    struct str key;
    int64_t main, sub;
};

struct kvtree_cursor { /* node[0] is the leaf */
    struct kvtree *tree;
    void *node[KVTREE_HEIGHT_MAX];
    unsigned at[KVTREE_HEIGHT_MAX];
};

void kvtree_init(struct kvtree *t, enum kvtree_order order);
void kvtree_release(struct kvtree *t); /* not the versions */

/* To the first that is not before the place; true if it is equal to it. */
bool kvtree_seek(struct kvtree *t, struct kvtree_place p,
                 struct kvtree_cursor *c);
void kvtree_seek_end(struct kvtree *t, struct kvtree_cursor *c);
/* To the live one with i live ones before it; i < n_live. */
void kvtree_seek_live(struct kvtree *t, size_t i, struct kvtree_cursor *c);
/* How many live ones stand before the cursor. */
size_t kvtree_rank(const struct kvtree_cursor *c);

/* NULL at the end. May move the cursor to the next leaf. */
struct mvcc_kv *kvtree_get(struct kvtree_cursor *c);
void kvtree_next(struct kvtree_cursor *c); /* not at the end */

/* Here, which must be kv's place. The cursor is used up. */
void kvtree_insert(struct kvtree_cursor *c, struct mvcc_kv *kv);
/* The one here, equal in order, gives way to kv. The cursor stays good. */
void kvtree_replace(struct kvtree_cursor *c, struct mvcc_kv *kv);
/* The one here goes. The cursor is used up. */
void kvtree_remove(struct kvtree_cursor *c);

/* Fill an empty tree with versions that come in its order. */
void kvtree_build(struct kvtree *t, struct mvcc_kv *const *kvs, size_t n);

/* Aborts if an invariant is broken. */
void kvtree_check(const struct kvtree *t);

#endif
