/*
 * watch.h - watchers of the v3 key space, grouped by streams. Pure.
 *
 * A watcher is *synced* when it has been given everything up to the current
 * revision. Then it hears of each transaction as it ends. Otherwise it lags,
 * holds no queue, and reads history: all laggards share one *sweep* over the
 * store's log, in bounded steps, so that a thousand that come back at once
 * cost one pass. Who lags slows nobody.
 *
 * A stream's outbox belongs to its connection and is bounded. When it is full
 * the watcher is *blocked*: it keeps only the revision that it could not be
 * given, until watch_ready() says that there is room; then it lags.
 *
 * What one transaction did is a struct watch_batch, shared by reference count
 * among all watchers whom it concerns; each of its events is encoded at most
 * once with the previous value and once without.
 *
 * Promises, as in etcd: events come in order of revision, none is lost, none
 * comes twice, all of one revision are in one message; what compaction took
 * ends the watcher with the compacted revision; a progress message with
 * revision N comes behind all events up to N.
 *
 * The store's lock covers all calls, except those said to need none.
 *
 * Facts: spec v3-api, 5; raft-and-storage, 8.4.
 */
#ifndef WATCH_H
#define WATCH_H

#include "mvcc.h"

/* --- Events. ---------------------------------------------------------------- */

struct watch_event {
    struct mvcc_kv *kv;   /* a tombstone is a DELETE */
    struct mvcc_kv *prev; /* the value before; NULL if none is to be shown */
    struct blob *encoded[2];
};

/* The events of one revision. Immutable but for what is encoded meanwhile. */
struct watch_batch {
    int refs;
    int64_t revision;
    size_t n;
    struct watch_event events[];
};

/* These need no lock. */
struct watch_batch *watch_batch_ref(struct watch_batch *b);
void watch_batch_unref(struct watch_batch *b); /* NULL is fine */
/*
 * The event i as field 11 of a WatchResponse: tag, length, message. Made by
 * the first who asks, and shared; borrowed from the batch.
 */
struct str watch_event_encoded(struct watch_batch *b, size_t i, bool prev_kv);
/* Its size, without encoding anything. */
size_t watch_event_size(const struct watch_batch *b, size_t i, bool prev_kv);

/* --- Messages. --------------------------------------------------------------- */

enum watch_kind {
    WATCH_CREATED,   /* first of all, for this watcher */
    WATCH_REFUSED,   /* created and canceled, watch_id -1, reason */
    WATCH_EVENTS,    /* may be refused by the outbox */
    WATCH_PROGRESS,  /* likewise */
    WATCH_CANCELED,  /* as the client asked */
    WATCH_COMPACTED, /* compact_revision says why; likewise */
};

struct watch_message { /* borrowed during the call; take refs of the batch */
    enum watch_kind kind;
    int64_t watch_id;         /* -1: the whole stream */
    int64_t revision;         /* for the header; 0 with WATCH_COMPACTED */
    int64_t compact_revision; /* WATCH_COMPACTED */
    const char *reason;       /* WATCH_REFUSED: static, etcd's words */

    /* WATCH_EVENTS: events which[0..n) of the batch, in order. */
    struct watch_batch *batch;
    const uint32_t *which;
    size_t n;
    bool prev_kv;
    bool fragment; /* may be split; see watch_fragment() */
};

/*
 * How many of the events which[from..n) go into the next fragment, so that
 * none but a single event exceeds max_bytes: at least one. overhead is the
 * size of the rest of the response. Needs no lock.
 */
size_t watch_fragment(const struct watch_batch *b, const uint32_t *which,
                      size_t n, size_t from, bool prev_kv, size_t overhead,
                      size_t max_bytes);

/*
 * Queue a message. Called under the lock: it must neither block nor call back.
 * False: no room; nothing was taken, and nothing more will be offered to this
 * watcher until watch_ready(). Only for EVENTS, PROGRESS and COMPACTED: the
 * others answer a request and must be taken.
 */
typedef bool watch_deliver(void *arg, const struct watch_message *msg);

/* --- The hub: all watchers of a store. --------------------------------------- */

struct watch_hub;
struct watch_stream;

struct watch_hub *watch_hub_new(struct mvcc *m); /* borrows m */
void watch_hub_free(struct watch_hub *h);        /* no stream may be left */

/*
 * Tell the synced watchers of what was done since the last call: when a
 * transaction has ended, or several, and before a compaction.
 */
void watch_notify(struct watch_hub *h);
/*
 * Bring laggards forward: at most about budget versions are looked at. True
 * if there is more to do now.
 */
bool watch_step(struct watch_hub *h, size_t budget);
/* The store was replaced by a newer one (a snapshot): all go on from there. */
void watch_restore(struct watch_hub *h, struct mvcc *m);

struct watch_stats {
    size_t n_streams, n_watchers;
    size_t n_synced, n_lagging, n_blocked; /* of the watchers */
    uint64_t n_events;                     /* delivered, in all */
};

struct watch_stats watch_stats(const struct watch_hub *h);

/* --- Streams: one client's watchers. ------------------------------------------ */

struct watch_stream *watch_stream_new(struct watch_hub *h,
                                      watch_deliver *deliver, void *arg);
void watch_stream_free(struct watch_stream *s); /* cancels all, silently */

struct watch_create {
    struct str key, range_end; /* as in mvcc.h; key "" is "\0" */
    int64_t start_revision;    /* 0: from the next one */
    int64_t watch_id;          /* 0: the stream picks one */
    bool progress_notify, prev_kv, fragment;
    bool no_put, no_delete; /* filters */
};

/*
 * Answers WATCH_CREATED or WATCH_REFUSED. The id, or -1. Events of the past
 * come with watch_step().
 */
int64_t watch_create(struct watch_stream *s, const struct watch_create *c);
/* Answers WATCH_CANCELED, or not at all if there is no such watcher. */
void watch_cancel(struct watch_stream *s, int64_t watch_id);
/*
 * Requested progress: WATCH_PROGRESS with watch_id -1, now or as soon as all
 * watchers of the stream are synced and their start revisions reached.
 */
void watch_progress(struct watch_stream *s);
/*
 * Periodic progress, to be called once an interval: WATCH_PROGRESS for each
 * synced watcher with progress_notify that heard nothing since the last call.
 */
void watch_tick(struct watch_stream *s);
/* There is room in the outbox again. */
void watch_ready(struct watch_stream *s);

#endif
