/*
 * trie.h - the nodes of the v2 tree: files, and directories that hold their
 * children in a hash array mapped trie. Pure.
 *
 * Nodes are shared by reference count. A file never changes: a new value is a
 * new node. A directory changes in place, but only when nobody else holds it
 * or what leads to it: trie_own() copies what is shared on the way down, so
 * whoever holds a node sees it and all below it as it was.
 *
 * One thread at a time may change a tree; any thread may read, and drop, what
 * it holds a reference of.
 */
#ifndef TRIE_H
#define TRIE_H

#include "buf.h"

#define TRIE_NAME_MAX ((1u << 28) - 1)      /* bytes in a name */
#define TRIE_VALUE_MAX (UINT32_MAX - 65536) /* bytes in a value */

struct trie_node;

/* A name together with its hash, which both finding and putting need. */
struct trie_key {
    struct str name;
    uint64_t hash;
};

struct trie_key trie_key(struct str name);

/* --- Nodes. -------------------------------------------------------------- */

/* Both copy name and value and return owned. expire_ns 0: permanent. */
struct trie_node *trie_file(struct str name, struct str value,
                            uint64_t modified, uint64_t created,
                            int64_t expire_ns);
struct trie_node *trie_dir(struct str name, uint64_t modified, uint64_t created,
                           int64_t expire_ns);
/* A file like n, with a new stamp; a large value is shared, not copied. */
struct trie_node *trie_restamp(const struct trie_node *n, uint64_t modified,
                               uint64_t created, int64_t expire_ns);
/* A reference of n if it is a file, else a directory like n, but empty. */
struct trie_node *trie_bare(struct trie_node *n);

struct trie_node *trie_ref(struct trie_node *n); /* NULL gives NULL */
void trie_unref(struct trie_node *n);            /* NULL is fine */

bool trie_is_dir(const struct trie_node *n);
struct str trie_name(const struct trie_node *n); /* borrowed */
uint64_t trie_modified(const struct trie_node *n);
uint64_t trie_created(const struct trie_node *n);
int64_t trie_expire_ns(const struct trie_node *n);
size_t trie_count(const struct trie_node *n); /* children; 0 for a file */
/* Borrowed from n: take no reference of it. NULL for a directory. */
const struct blob *trie_value(const struct trie_node *n);

/* --- Children. dir is a directory. --------------------------------------- */

/* Borrowed; NULL if there is none. */
struct trie_node *trie_find(const struct trie_node *dir, struct trie_key k);

/*
 * The child k, for changing: a directory that is shared is replaced by a copy
 * of its own first. NULL if there is none; a file is returned as it is. Here
 * and below, dir must come out of trie_own() itself, or be a root that passed
 * trie_own_root().
 */
struct trie_node *trie_own(struct trie_node *dir, struct trie_key k);
void trie_own_root(struct trie_node **root);

/* Takes child, whose name is k; it replaces one of that name. */
void trie_put(struct trie_node *dir, struct trie_key k,
              struct trie_node *child);
void trie_remove(struct trie_node *dir, struct trie_key k); /* must exist */
/* As trie_restamp(), in place; dir must have come out of trie_own(). */
void trie_stamp_dir(struct trie_node *dir, uint64_t modified, uint64_t created,
                    int64_t expire_ns);

/* --- Walking. ------------------------------------------------------------ */

/*
 * A walk through a tree of any depth, without recursion:
 *
 *     trie_walk_enter(&w, root, flags);
 *     while (trie_walk_dir(&w)) {
 *         n = trie_walk_next(&w);
 *         if (!n)
 *             trie_walk_leave(&w);
 *         else if (trie_is_dir(n))
 *             trie_walk_enter(&w, n, flags);
 *     }
 *     trie_walk_release(&w);
 *
 * What is walked must not change, and is borrowed.
 */
enum {
    TRIE_SORTED = 1,    /* by the bytes of the name, else by hash */
    TRIE_NO_HIDDEN = 2, /* without names that start with _ */
};

struct trie_walk {
    struct trie_node **nodes; /* the children of all open directories */
    size_t n_nodes, cap_nodes;
    struct trie_level *levels;
    size_t n_levels, cap_levels;
};

/* Returns how many children trie_walk_next() will give. */
size_t trie_walk_enter(struct trie_walk *w, const struct trie_node *dir,
                       int flags);
/* The directory entered last and not yet left; NULL when all are left. */
const struct trie_node *trie_walk_dir(const struct trie_walk *w);
/* The next child of that directory; NULL after the last. */
struct trie_node *trie_walk_next(struct trie_walk *w);
void trie_walk_leave(struct trie_walk *w);
void trie_walk_release(struct trie_walk *w);

#endif
