/*
 * v3server.h - the v3 state of a member, as its faces see it: propose, read at
 * a linearized revision, watch, leases, alarms, snapshots.
 *
 * The state itself (struct v3: key space, leases, users, alarms) changes only
 * by entries of the log, in order, under the server's lock `mu`. Everything here
 * takes that lock itself, for bounded steps. Nothing here blocks unless it says
 * so; what takes longer ends by a callback, because one gRPC connection
 * carries hundreds of streams.
 *
 * CALLBACKS  done() is called exactly once, by whichever thread finishes the
 * matter, possibly before the call returns. No lock is held. It must not
 * block; the operation's storage may be gone when it returns.
 */
#ifndef V3SERVER_H
#define V3SERVER_H

#include "server.h"
#include "v3.h"

/* A row for SERVER_* and CLUSTER_*. */
enum v3_error v3_error_of_server(int code);

/* Who asks: from a token or a client certificate. {0}: nobody, or auth is off.
 * Lives as long as the operation. */
struct v3_who {
    struct str user;
    uint64_t auth_revision;
};

/* --- Writes: through the log. What they give is struct v3_result (v3.h). ---- */

struct v3_write {
    struct waiter waiter;
    struct v3_result result; /* done() releases it */
    void (*done)(struct v3_write *op);
    void *arg; /* the caller's */
    /* The caller has more, and calls v3_write_flush() behind the last: then this
     * one alone is not worth a turn of the disk. */
    bool more;
};

/*
 * Propose the request whose protobuf message is `bytes` (copied) as the given
 * field of InternalRaftRequest. Checked before: size, quota for what makes the
 * data grow, how far apply lags. Permissions of keys are checked when it is
 * applied, against who's auth_revision, so that they hold in the log's order. With
 * field 7 (compaction) and physical set, done() comes when the memory is freed.
 * Without a leader the request waits for one, in a queue of the server's.
 */
void v3_write(struct server *s, uint32_t field, struct str bytes,
              const struct v3_who *who, struct v3_write *op);
void v3_write_flush(struct server *s);
/* The same, blocking, for threads of their own. */
void v3_write_wait(struct server *s, uint32_t field, struct str bytes,
                   const struct v3_who *who, struct v3_result *out);

/* --- Reads. ------------------------------------------------------------------ */

/*
 * Come back when everything acknowledged before now is applied. error is
 * V3_OK, or why not. For a single voter done() is called at once.
 */
struct v3_read {
    struct v3_read *next; /* the server's */
    int64_t deadline_ns;  /* set by v3_read_index() */
    uint64_t round;       /* the server's */
    raft_index index;     /* likewise */
    enum v3_error error;
    void (*done)(struct v3_read *op);
    void *arg; /* the caller's */
};

/* Within so many ms; 0: the request timeout. */
void v3_read_index(struct server *s, struct v3_read *op, int64_t timeout_ms);
enum v3_error v3_read_index_wait(struct server *s);

/* The header of an answer given now. */
struct v3_header v3_header(struct server *s);

/*
 * Small answers whole, under the lock; permissions are checked in the same
 * round. V3_OK fills *out. The requests have passed mvcc_check_...().
 * A transaction must be read-only.
 */
enum v3_error v3_range(struct server *s, const struct v3_who *who,
                       const struct mvcc_range *r,
                       struct mvcc_range_result *out, struct v3_header *h);
enum v3_error v3_txn_read(struct server *s, const struct v3_who *who,
                          const struct mvcc_txn *t, struct mvcc_txn_result *out,
                          struct v3_header *h);
/*
 * Large ones in steps (mvcc.h, "Reads in bounded steps"), each of which takes
 * the lock: _next() is mvcc_read_next(). A snapshot of the leader's that
 * replaces the state meanwhile does not disturb it.
 */
enum v3_error v3_read_open(struct server *s, const struct v3_who *who,
                           const struct mvcc_range *r, struct mvcc_read *read,
                           struct v3_header *h);
size_t v3_read_next(struct server *s, struct mvcc_read *read,
                    struct mvcc_kv **kvs, size_t max);
void v3_read_close(struct server *s, struct mvcc_read *read);

/* HashKV (blocking; in steps) and Hash. */
enum v3_error v3_hash_kv(struct server *s, int64_t revision, uint32_t *hash,
                         int64_t *compacted, struct v3_header *h);
enum v3_error v3_hash(struct server *s, uint32_t *hash, struct v3_header *h);

/* --- Watch: streams of watchers (watch.h). ------------------------------------- */

/*
 * deliver() is called under the server's lock (watch.h): it queues, and returns
 * false when the client's outbox is full; v3_watch_ready() then.
 */
struct watch_stream *v3_watch_open(struct server *s, watch_deliver *deliver,
                                   void *arg);
void v3_watch_close(struct server *s, struct watch_stream *w);
int64_t v3_watch_create(struct server *s, struct watch_stream *w,
                        const struct watch_create *c);
void v3_watch_cancel(struct server *s, struct watch_stream *w, int64_t id);
void v3_watch_progress(struct server *s, struct watch_stream *w);
void v3_watch_tick(struct server *s, struct watch_stream *w);
void v3_watch_ready(struct server *s, struct watch_stream *w);
/* May who read this range now? V3_OK or why not. */
enum v3_error v3_may_read(struct server *s, const struct v3_who *who,
                          struct str key, struct str range_end);

/* --- Leases: kept alive by the leader. ------------------------------------------- */

/* A fresh, positive id. */
int64_t v3_lease_new_id(struct server *s);

/*
 * Renew; *ttl is what it has now, 0: no such lease. On a follower the leader is
 * asked (blocking: up to the request timeout); *local says that it was not
 * needed. V3_NO_LEADER, V3_TIMEOUT.
 */
enum v3_error v3_lease_renew(struct server *s, int64_t id, int64_t *ttl);
/*
 * As above, but never asks others: false if the leader would have to be. It is
 * right only behind a v3_read_index() that was begun for it: who was cut off
 * still takes itself for the leader.
 */
bool v3_lease_renew_local(struct server *s, int64_t id, int64_t *ttl);

/*
 * What the leader's peer URLs answer: wait until a quorum has said who leads,
 * and all that was committed by then is applied (false: it took longer than a
 * second); then renew or look, if we lead.
 */
bool v3_wait_applied(struct server *s);

struct v3_lease_info {
    int64_t ttl, granted_ttl; /* ttl -1: no such lease */
    struct str *keys;         /* owned, as are their bytes */
    size_t n_keys;
};

void v3_lease_info_release(struct v3_lease_info *i);
/* Blocking on a follower. keys need who's read permission; who NULL: nobody's. */
enum v3_error v3_lease_time_to_live(struct server *s, const struct v3_who *who,
                                    int64_t id, bool keys,
                                    struct v3_lease_info *out);
/* The same, but never asks others. */
bool v3_lease_info_local(struct server *s, int64_t id, bool keys,
                         struct v3_lease_info *out);
/* Returns owned ids. */
size_t v3_lease_list(struct server *s, int64_t **ids, struct v3_header *h);

/* --- Auth. ------------------------------------------------------------------------ */

/* Who is it? From a token (p is NULL for none) or a certificate's CN ("" for none).
 * The strings of *who are copied into the storage, which is to last. */
enum v3_error v3_who_is(struct server *s, struct str token, struct str cn,
                        struct v3_who *who, char *storage, size_t n);
/* Is it root, or is auth off? V3_OK, or V3_PERMISSION_DENIED, V3_USER_EMPTY... */
enum v3_error v3_is_admin(struct server *s, const struct v3_who *who);
/*
 * Check the password (bcrypt: tens of milliseconds, without the lock: blocking)
 * in a linearized state, and get a token assigned through the log. Returns owned
 * text in *token.
 */
enum v3_error v3_authenticate(struct server *s, struct str name,
                              struct str password, char **token,
                              struct v3_header *h);
/* Run fn(auth, arg) under the lock: to list users, roles, permissions. */
void v3_with_auth(struct server *s, void (*fn)(struct auth *a, void *arg),
                  void *arg);

/* --- Maintenance. ------------------------------------------------------------------- */

struct v3_status {
    uint64_t db_size, db_size_in_use, quota;
    struct v3_alarm *alarms; /* owned */
    size_t n_alarms;
};

/* For /metrics. */
struct v3_stats {
    uint64_t size, db_bytes;
    bool near_quota; /* by 80 % or more */
    size_t n_keys, n_leases;
    int64_t revision, compacted;
    uint64_t auth_revision;
    struct watch_stats watch;
    struct v3_counts counts;
};

void v3_stats(struct server *s, struct v3_stats *out);
void v3_status(struct server *s, struct v3_status *out);
void v3_status_release(struct v3_status *st);
/* Owned; all of a kind, or of every kind (0). */
size_t v3_alarms(struct server *s, int kind, struct v3_alarm **out,
                 struct v3_header *h);

/*
 * A bbolt image of the state at one moment, in pieces; the RPC layer adds the
 * SHA-256. size is known from the start. 1 and a piece (borrowed until the next
 * call), 0 at the end, -1 and e. Blocking, on a thread of the caller's.
 */
struct v3_snapshot;
struct v3_snapshot *v3_snapshot_open(struct server *s, uint64_t *size,
                                     struct err *e);
int v3_snapshot_next(struct v3_snapshot *sn, struct str *piece, struct err *e);
void v3_snapshot_close(struct v3_snapshot *sn);

#endif
