/*
 * storesnap.h - the state of the v2 store, and its JSON as etcd keeps it in
 * .snap files and sends it in MsgSnap (spec: raft-and-storage, 10.6). Pure.
 */
#ifndef STORESNAP_H
#define STORESNAP_H

#include "event.h"

/* All that a snapshot holds; {0} is a state that may be released. */
struct store_state {
    struct trie_node *root;
    uint64_t index;
    struct store_counters counters;
    struct event_history history;
};

/* Successive pieces to sink, until it returns non-zero: then that. */
int storesnap_write(const struct store_state *state, store_sink *sink,
                    void *arg);

/*
 * Fill *out, which must be {0}; the caller releases it in any case. 0, or -1
 * and in e what is wrong at which byte. Borrows json.
 */
int storesnap_read(const void *json, size_t n, struct store_state *out,
                   struct err *e);

void storesnap_release(struct store_state *state);

/* The sixteen numbers of /v2/stats/store and of a snapshot. */
void storesnap_add_stats(struct buf *b, const struct store_counters *c,
                         uint64_t watchers);

#endif
