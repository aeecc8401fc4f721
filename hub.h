/*
 * hub.h - who watches what: the watchers of the v2 store, hung on paths.
 */
#ifndef HUB_H
#define HUB_H

#include "event.h"

struct hub;

struct hub *hub_new(void);
void hub_free(struct hub *h); /* must be empty: hub_clear() */

/* Calls deliver() (see store.h) for events of path from index since on. */
struct store_watcher *hub_watch(struct hub *h, struct str path, bool recursive,
                                bool stream, uint64_t since,
                                store_deliver *deliver, void *arg);
void hub_unwatch(struct hub *h, struct store_watcher *w);
size_t hub_count(const struct hub *h);

/*
 * Tell the watchers of e. removed is the node that a deletion took out of the
 * tree, so that watchers on it and below it hear of it too; else NULL.
 */
void hub_notify(struct hub *h, const struct store_event *e,
                const struct trie_node *removed);

/* End all watchers, saying why. */
void hub_clear(struct hub *h, int why);

#endif
