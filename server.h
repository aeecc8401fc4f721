/*
 * server.h - one member: propose, make durable, apply, read.
 *
 * The shell around raft, wal, snap, store and transport. A proposal is put in
 * Raft's log under raft's short lock; whoever finds the disk idle writes and
 * syncs what is queued (a client's own thread, when it is alone; the disk
 * thread otherwise), and whoever finds the applier idle applies what is
 * committed. So a lone client's write costs no thread hand-over, and under
 * load all that arrives during one sync shares the next.
 *
 * THREADS  ticker (raft_tick, version monitor, SYNC of TTLs, purge), disk,
 * apply, checkpoint. All are ended and joined by server_stop().
 */
#ifndef SERVER_H
#define SERVER_H

#include "cluster.h"
#include "config.h"
#include "etcdpb.h"
#include "peer.h"
#include "raft.h"
#include "store.h"
#include "sys.h"

struct server;

/*
 * Start from data on disk, or bootstrap, or join (spec: raft-and-storage 3.1).
 * Borrows config for the server's life. -1 and e in etcd's words.
 */
int server_start(const struct config *config, struct server **out,
                 struct err *e);
/* The peer listeners are served from here on; before, peers are refused. */
bool server_handle_peer(struct server *s, struct http_exchange *x);

/* Publish this member's client URLs, and wait for it (or until stopped). */
int server_publish(struct server *s);

/* Hand leadership over if we lead, then stop all threads and close files.
 * Waiters are told that the server stopped. */
void server_stop(struct server *s);
void server_free(struct server *s);
/* Set once the cluster told us that we are removed; wakes server_wait(). */
bool server_removed(const struct server *s);

const struct config *server_config(const struct server *s);
struct cluster *server_cluster(struct server *s);
struct transport *server_transport(struct server *s);
uint64_t server_id(const struct server *s);
/* In hex, as headers have it; it never changes. */
const char *server_cluster_id_text(const struct server *s);

/* --- v2 keys. ----------------------------------------------------------- */

/* What an operation answered. Owned by the caller: v2_result_release(). */
struct v2_result {
    int code;                  /* 0, or an etcd error code */
    struct store_event *event; /* when code is 0 (NULL for SYNC) */
    struct store_error error;  /* when code is not 0 */
    uint64_t etcd_index;       /* X-Etcd-Index */
    uint64_t raft_index, raft_term;
};

void v2_result_release(struct v2_result *r);

/* Through the log: PUT, POST, DELETE. Fills r->id itself. */
void server_v2_write(struct server *s, struct v2_request *r,
                     struct v2_result *out);

/*
 * Somebody who waits for the result of a proposal, in storage of its own that
 * lasts until then. Private to the server but for its size.
 */
struct waiter {
    struct waiter *next; /* in its bucket, or in a list of the finished */
    uint64_t id;
    struct v2_result *result; /* of a v2 request; NULL for others */
    struct v3_result *v3;     /* of a v3 request; NULL for others */
    int code;                 /* of a membership change, or SERVER_* */
    struct sys_event done;    /* set, unless there is: */
    void (*finish)(struct waiter *w);
    int64_t deadline_ns; /* with finish: when it ends as timed out */
    int64_t began_ns;
    raft_term term;                   /* in which it was proposed; 0: not yet */
    int64_t proposed_ns, applying_ns; /* v3: when that was, and when the batch
                                         began to be applied that it was in */
};

/*
 * The same without waiting: done(op) is called with op->result filled, by the
 * thread that applies the write or gives it up, perhaps before this returns;
 * no lock is held. It must not block, and op may be gone when it returns.
 */
struct v2_write {
    struct waiter waiter;
    struct v2_result result; /* done() releases it */
    void (*done)(struct v2_write *op);
};

void server_v2_write_async(struct server *s, struct v2_request *r,
                           struct v2_write *op);
/* From the local store; quorum: linearized first. flags as store_get(). */
void server_v2_get(struct server *s, struct str path, int flags, bool quorum,
                   struct v2_result *out);

/* Watch the local store (store.h says how events come). `out` carries the
 * indexes for the headers, or the error. *w is NULL if already over. */
void server_v2_watch(struct server *s, struct str path, bool recursive,
                     bool stream, uint64_t since, store_deliver *deliver,
                     void *arg, struct store_watcher **w,
                     struct v2_result *out);
/*
 * Stop watching. over: the caller's flag that deliver() sets when the watcher
 * is over; it is read under the store's lock, where deliver() runs.
 */
void server_v2_unwatch(struct server *s, struct store_watcher *w,
                       const bool *over);

/* Does /2/enabled say so? Asked by every request, so it takes no lock. */
bool server_v2_auth_on(const struct server *s);
/* Values below /2, for v2 auth; uncounted. False: no such file. */
bool server_v2_peek(struct server *s, struct str path, struct blob **out);
/* Names of the children of a directory but the hidden; owned, sorted. */
size_t server_v2_list(struct server *s, struct str dir, char ***names);
void server_v2_stats(struct server *s, struct buf *b);
struct store_counters server_v2_counters(struct server *s);

/* --- Membership. -------------------------------------------------------- */

enum {
    SERVER_OK = 0,
    SERVER_ETIMEOUT = -101,
    SERVER_ESTOPPED = -102,
    SERVER_EUNHEALTHY = -103,   /* "etcdserver: unhealthy cluster" */
    SERVER_ENOT_STARTED = -104, /* "... due to not enough started members" */
    SERVER_ENO_LEADER = -105,
    SERVER_ETOO_MANY = -106, /* "etcdserver: too many requests" */
    SERVER_ETOO_LARGE = -107,
    SERVER_ELEARNER_NOT_READY = -108,
    SERVER_ETIMEOUT_LEADER = -109, /* "..., possibly due to previous leader
                                      failure" */
    SERVER_ETIMEOUT_CONN = -110,   /* "..., possibly due to connection lost" */
};

/* Text of SERVER_* and CLUSTER_* codes in etcd's words. */
const char *server_error_text(int code);

/* 0 and the membership after the change (owned, members_free()), or
 * SERVER_* or CLUSTER_*. */
int server_add_member(struct server *s, const struct url_list *peer_urls,
                      bool learner, struct member *added);
int server_remove_member(struct server *s, uint64_t id);
int server_update_member(struct server *s, uint64_t id,
                         const struct url_list *peer_urls);
int server_promote_member(struct server *s, uint64_t id);

/* --- State. ------------------------------------------------------------- */

/* Wait until a linearizable read may be served. SERVER_*. */
int server_read_index(struct server *s, int64_t timeout_ms);
int server_move_leader(struct server *s, uint64_t to, int64_t timeout_ms);

struct server_status {
    struct raft_status raft;
    int64_t leader_since_ns; /* sys_mono_ns */
    int64_t leader_since_wall_ns, start_wall_ns;
    uint64_t proposals_pending;
};

void server_status(struct server *s, struct server_status *out);
/* Does this member know a leader now? */
bool server_has_leader(struct server *s);
bool server_is_leader(struct server *s);
bool server_is_learner(const struct server *s); /* takes no lock */
size_t server_progress(struct server *s, struct raft_progress *out, size_t max);
/* Why /health is not well, or NULL. Asks for a quorum within timeout_ms. */
const char *server_health(struct server *s, int64_t timeout_ms);
/* Called when a leader appears or the removed state is entered; for boot. */
bool server_wait_removed(struct server *s, int64_t timeout_ms);

#endif
