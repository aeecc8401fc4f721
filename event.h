/*
 * event.h - what store.c, hub.c and storesnap.c know of an event beyond
 * store.h: how it is made, its place in the history, its JSON in a snapshot.
 */
#ifndef EVENT_H
#define EVENT_H

#include "store.h"
#include "trie.h"

/*
 * Immutable once made. node is the tree's own node, a bare directory, or NULL
 * when there is nothing left; for a STORE_GET it may have children, which are
 * listed as flags say. Indexes stand here and not only in the nodes, because
 * the event of a directory's new TTL has an index that its node never gets.
 */
struct store_event {
    int refs;
    uint8_t action; /* enum store_action */
    uint8_t flags;  /* of a STORE_GET */
    bool dir;
    bool refresh; /* a TTL was renewed: watchers do not see it */
    uint64_t modified, created;
    struct trie_node *node, *prev; /* prev: NULL if there was none */
    int64_t ttl, prev_ttl;         /* seconds at the time; not of a get */
    uint32_t path_len;
    char path[]; /* in the store: with its first element */
};

/* Takes node and prev. The TTLs are those at now_ns. One reference. */
struct store_event *event_new(enum store_action action, struct str path,
                              uint64_t modified, uint64_t created,
                              struct trie_node *node, struct trie_node *prev,
                              int64_t now_ns);

static inline struct str event_path(const struct store_event *e)
{
    return (struct str){e->path, e->path_len};
}

/* A path as responses show it: "/1/a" is "/a", and "/1" is "". */
struct str event_cut_path(struct str path);

/* As a snapshot has it: the whole path, bytes that are no UTF-8 as they are,
 * the refresh mark, no newline. */
void event_add_json(struct buf *b, const struct store_event *e);

/* --- The last 1,000 events, in a ring as etcd's snapshots have it. ------- */

struct event_history {
    struct store_event *slots[STORE_HISTORY_MAX];
    uint32_t size, front, back; /* the oldest; where the next one goes */
    uint64_t start_index, last_index;
};

/* Takes e. */
void event_history_add(struct event_history *h, struct store_event *e);
void event_history_copy(struct event_history *dst,
                        const struct event_history *src);
void event_history_release(struct event_history *h);

/*
 * The first event from index since on that a watcher of path would get,
 * borrowed; NULL if there is none yet. since must not be below start_index.
 */
struct store_event *event_history_scan(const struct event_history *h,
                                       struct str path, bool recursive,
                                       uint64_t since);

#endif
