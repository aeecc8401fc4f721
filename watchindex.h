/*
 * watchindex.h - who watches what: the watched keys and ranges, each once,
 * with those who watch it. Pure.
 *
 * A key that is watched alone is found by its hash. Ranges stand in a tree
 * ordered by begin that knows for each subtree how far its ranges reach, so
 * that those over a key are found in O(log n) each. Watchers of the same range
 * share a node, as in practice thousands do.
 */
#ifndef WATCHINDEX_H
#define WATCHINDEX_H

#include "mvcc.h"

struct watcher;

enum watch_list {
    WATCH_SYNCED, /* who hears of new transactions */
    WATCH_SWEPT,  /* who is read history to */
};

struct watch_node {
    size_t n_attached; /* watchers, whether in a list or not */

    /* The owner's. */
    struct watcher *lists[2];       /* by enum watch_list */
    size_t n_prev;                  /* watchers that want previous values */
    uint32_t first_pick, last_pick; /* while events are shown */

    /* The index's own. */
    struct watch_node *left, *right; /* ranges */
    struct watch_node *furthest;     /* whose end is last, down from here */
    int height;
    struct watch_node *chain; /* single keys */
    uint64_t hash;
    bool point, open_end;
    struct str begin, end;
    char bytes[];
};

struct watch_index {
    struct watch_node *ranges;
    struct watch_node **points;
    size_t n_buckets, n_points; /* buckets: a power of two */
};

void watch_index_init(struct watch_index *ix);
void watch_index_release(struct watch_index *ix); /* must be empty */

/* Copies the strings. key is not empty, nor is the range. */
struct watch_node *watch_index_attach(struct watch_index *ix, struct str key,
                                      struct str range_end);
/* Frees the node if that was its last watcher. */
void watch_index_detach(struct watch_index *ix, struct watch_node *n);

/* Visit the nodes that hold the key. The index must not be changed. */
typedef void watch_index_visit(void *arg, struct watch_node *n);
void watch_index_match(const struct watch_index *ix, struct str key,
                       watch_index_visit *visit, void *arg);

void watch_index_check(const struct watch_index *ix); /* for tests */

#endif
