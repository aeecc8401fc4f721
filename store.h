/*
 * store.h - the v2 keyspace: a tree of directories and files with TTLs, an
 * event for each change, a history of the last 1,000 and watchers on paths.
 * Pure: the time is passed in, there is no lock and no I/O.
 *
 * A directory holds its children in a hash array mapped trie (Bagwell 2001;
 * trie.h), so a path costs one probe per segment. Nodes are shared by reference
 * count and copied on write only where a pinned view (store_pin()) still needs
 * the old one: a listing or a checkpoint of any size is read from such a view
 * at leisure, while writes go on.
 *
 * Paths are absolute and clean: "/1/a/b" (see url_clean_path()). User keys
 * stand below /1, membership below /0, v2 auth below /2; responses and causes
 * of errors show a path without its first element.
 *
 * Determinism: equal calls give equal trees, indexes, events and JSON on
 * every member. Only store_get's and watchers' answers may depend on `now`.
 */
#ifndef STORE_H
#define STORE_H

#include "buf.h"
#include "etcdpb.h"

#define STORE_HISTORY_MAX 1000 /* events */
#define STORE_WATCHER_QUEUE_MAX 100
#define STORE_NAME_BYTES_MAX ((1u << 28) - 1) /* what the tree can hold */

/*
 * What may be asked of the store; a log that others wrote may hold more.
 * Snapshots repeat a node's full path, so a path of n short elements costs
 * n * n bytes there: without a bound one request could cost gigabytes.
 */
#define STORE_KEY_BYTES_MAX 16384
#define STORE_KEY_DEPTH_MAX 1000
bool store_key_fits(struct str path); /* as it stands in the store */

/* etcd's v2 error codes (spec: v2-api, 5). */
enum {
    STORE_KEY_NOT_FOUND = 100,
    STORE_TEST_FAILED = 101,
    STORE_NOT_FILE = 102,
    STORE_NOT_DIR = 104,
    STORE_NODE_EXIST = 105,
    STORE_ROOT_RONLY = 107,
    STORE_DIR_NOT_EMPTY = 108,
    STORE_UNAUTHORIZED = 110,
    STORE_PREV_VALUE_REQUIRED = 201,
    STORE_TTL_NAN = 202,
    STORE_INDEX_NAN = 203,
    STORE_INVALID_FIELD = 209,
    STORE_INVALID_FORM = 210,
    STORE_REFRESH_VALUE = 211,
    STORE_REFRESH_TTL_REQUIRED = 212,
    STORE_RAFT_INTERNAL = 300,
    STORE_LEADER_ELECT = 301,
    STORE_WATCHER_CLEARED = 400,
    STORE_EVENT_INDEX_CLEARED = 401,
};

struct store_error {
    int code;
    char *cause;    /* owned; NULL or "" when there is none */
    size_t cause_n; /* its length: keys and values may hold NUL */
    uint64_t index; /* store index when it happened */
};

/* With index 0; what *e was is not released. */
void store_error_set(struct store_error *e, int code, struct str cause);
void store_error_release(struct store_error *e);
const char *store_error_message(int code); /* "Key not found" */
int store_error_status(int code);          /* HTTP status, 404 and so on */
/* {"errorCode":...,"message":...[,"cause":...],"index":...} and newline */
void store_error_json(struct buf *b, const struct store_error *e);

/* --- Events. ------------------------------------------------------------ */

enum store_action {
    STORE_GET,
    STORE_CREATE,
    STORE_SET,
    STORE_UPDATE,
    STORE_DELETE,
    STORE_CAS,
    STORE_CAD,
    STORE_EXPIRE,
};

const char *store_action_name(enum store_action a); /* "compareAndSwap" */

/*
 * What an operation did: the node now, the node before. Immutable, shared by
 * reference count, so threads may encode it without the store's lock.
 */
struct store_event;

struct store_event *store_event_ref(struct store_event *e);
void store_event_unref(struct store_event *e); /* NULL is fine */
enum store_action store_event_action(const struct store_event *e);
uint64_t store_event_index(const struct store_event *e); /* modifiedIndex */
/* 201 for a create and for a set without a previous node, else 200. */
bool store_event_created(const struct store_event *e);
/* The value of the event's node, borrowed from it; NULL for a directory and
 * after a deletion. */
const struct blob *store_event_value(const struct store_event *e);

/* Options of a listing, for a STORE_GET event. */
enum { STORE_RECURSIVE = 1, STORE_SORTED = 2 };

/*
 * {"action":...,"node":{...}[,"prevNode":{...}]} and a newline, in etcd's
 * field order and with the first path element cut off. ttl is computed from
 * now_ns for a get, and fixed at the event's own time otherwise.
 */
void store_event_json(struct buf *b, const struct store_event *e,
                      int64_t now_ns);

/*
 * The same in pieces, for listings larger than memory should hold twice:
 * sink is given successive bytes and returns 0, or non-zero to stop.
 */
typedef int store_sink(void *arg, const void *p, size_t n);
int store_event_write(const struct store_event *e, int64_t now_ns,
                      store_sink *sink, void *arg);

/* --- The store. --------------------------------------------------------- */

struct store;

/* With directories /0 and /1, at index 0. */
struct store *store_new(void);
void store_free(struct store *s); /* clears all watchers first */

uint64_t store_index(const struct store *s);

/*
 * Each operation returns 0 and an event that the caller owns a reference of,
 * or an etcd error code with *err filled (owned). now_ns is unix time: of the
 * proposer's clock as it stands in the log, never this machine's own.
 */

/* Counts in the statistics. flags: STORE_RECURSIVE, STORE_SORTED. */
int store_get(struct store *s, struct str path, int flags,
              struct store_event **out, struct store_error *err);

struct store_put {
    struct str path;
    struct str value;
    bool dir;
    int64_t expire_ns;     /* 0: permanent */
    bool refresh;          /* keep the value, wake no watcher */
    bool unique;           /* create: an in-order key below path */
    struct str prev_value; /* compare and swap; "" is not given */
    uint64_t prev_index;   /* 0 is not given */
};

int store_create(struct store *s, const struct store_put *p, int64_t now_ns,
                 struct store_event **out, struct store_error *err);
int store_set(struct store *s, const struct store_put *p, int64_t now_ns,
              struct store_event **out, struct store_error *err);
int store_update(struct store *s, const struct store_put *p, int64_t now_ns,
                 struct store_event **out, struct store_error *err);
int store_compare_and_swap(struct store *s, const struct store_put *p,
                           int64_t now_ns, struct store_event **out,
                           struct store_error *err);
int store_delete(struct store *s, struct str path, bool dir, bool recursive,
                 int64_t now_ns, struct store_event **out,
                 struct store_error *err);
int store_compare_and_delete(struct store *s, struct str path,
                             struct str prev_value, uint64_t prev_index,
                             int64_t now_ns, struct store_event **out,
                             struct store_error *err);

/* Delete what expires at or before cutoff_ns: one expire event each, in order
 * of expiration, then path. */
void store_expire(struct store *s, int64_t cutoff_ns);
bool store_has_ttl(const struct store *s); /* is a SYNC worth proposing? */

/*
 * Apply one v2 request from the log: the decision table of spec v2-api, 4,
 * and raft-and-storage, 4.3. SYNC gives 0 and *out NULL. A method that is
 * unknown gives STORE_INVALID_FIELD.
 */
int store_apply(struct store *s, const struct v2_request *r, int64_t now_ns,
                struct store_event **out, struct store_error *err);

/* --- Watching. ---------------------------------------------------------- */

/*
 * deliver() is called inside the operation that makes the event (and inside
 * store_watch() itself for an event out of history), with the caller's lock
 * held: it must only queue. json is the encoded event, one blob for all
 * watchers; take a reference. json NULL: the watcher is over, because its
 * queue overflowed or the store was replaced; `why` is then 0 or
 * STORE_WATCHER_CLEARED. Returning false means that the queue is full.
 */
typedef bool store_deliver(void *arg, struct blob *json, int why);

struct store_watcher;

/*
 * since 0: from now on. Otherwise the first matching event of the history
 * with index >= since is delivered at once, if there is one. Without stream a
 * watcher is removed after its first event; with stream and an event out of
 * history, nothing follows it, as in etcd. *out is NULL when the watcher is
 * already over. STORE_EVENT_INDEX_CLEARED if since has left the history.
 */
int store_watch(struct store *s, struct str path, bool recursive, bool stream,
                uint64_t since, store_deliver *deliver, void *arg,
                struct store_watcher **out, struct store_error *err);
/* Remove; deliver() is not called again. Only while the watcher is not over. */
void store_unwatch(struct store *s, struct store_watcher *w);

/* --- Views, snapshots, statistics. -------------------------------------- */

/* A pinned, immutable state of the whole store; any thread may read it. */
struct store_view;
struct store_view *store_pin(struct store *s);
void store_unpin(struct store_view *v);

/* etcd's JSON of the whole store (spec: raft-and-storage, 10.6). */
int store_view_write(const struct store_view *v, store_sink *sink, void *arg);
void store_view_json(struct buf *b, const struct store_view *v);
uint64_t store_view_index(const struct store_view *v);

/*
 * Replace everything by such JSON; watchers are cleared (400). On bad JSON -1
 * and *e, and the store is as before.
 */
int store_recover(struct store *s, const void *json, size_t n, struct err *e);
/* Would it? 0, or -1 and *e. Changes nothing. */
int store_check(const void *json, size_t n, struct err *e);

/* Bytes of names and values that are live, for the checkpoint rule. */
uint64_t store_live_bytes(const struct store *s);

/* The body of /v2/stats/store. */
void store_stats_json(struct buf *b, const struct store *s);

struct store_counters {
    uint64_t get[2], set[2], create[2], update[2]; /* success, fail */
    uint64_t delete_[2], cas[2], cad[2];
    uint64_t expired, watchers, watch_requests;
};

struct store_counters store_counters(const struct store *s);

/* Walk the children of a directory in byte order of name, without counting in
 * the statistics; for membership and auth. name and value are borrowed, and
 * visit() must not change the store. False: no such directory. */
typedef void store_visit(void *arg, struct str name, bool dir,
                         const struct blob *value);
bool store_each(const struct store *s, struct str dir, store_visit *visit,
                void *arg);
/* The value of a file, borrowed until the next change, or NULL; uncounted.
 * Copy what is needed longer: there is no reference to take, for a small value
 * stands inside its node. */
const struct blob *store_peek(const struct store *s, struct str path);
bool store_is_dir(const struct store *s, struct str path);

#endif
