/*
 * lease.h - leases of v3: what is granted, which keys hang on each, and, on
 * the leader, when they end. Pure: no I/O, no clock, no lock.
 *
 * REPLICATED  The set of leases, their TTLs, their last checkpoints and their
 *   keys change only by what is applied from the log (lease_grant(),
 *   lease_revoke(), lease_checkpoint(), lease_change()): equal on all members.
 *
 * THE LEADER'S OWN  Expiry times exist between lease_promote() and
 *   lease_demote() only. A lease that is due does not end by itself: the
 *   leader proposes its revocation, and until that is applied it stays, but
 *   cannot be renewed. Elsewhere leases never expire.
 *
 * Times are milliseconds of one clock that never goes back (now_ms); TTLs are
 * whole seconds. One lock around a struct lessor serializes all calls but
 * those that are said to need none.
 *
 * Facts: spec v3-api, 6; raft-and-storage, 4.2 and 7.
 */
#ifndef LEASE_H
#define LEASE_H

#include "buf.h"
#include "mvcc.h"

/* A negative result of a call below; each is one row of etcd's table. */
enum lease_error {
    LEASE_NOT_FOUND = -1,     /* LeaseNotFound */
    LEASE_EXISTS = -2,        /* LeaseExist */
    LEASE_TTL_TOO_LARGE = -3, /* LeaseTTLTooLarge */
    LEASE_CORRUPT = -4,       /* a record on disk */
};

#define LEASE_TTL_MAX 9000000000 /* seconds */
/* No more than this many are let expire within a second after a promotion. */
#define LEASE_EXPIRIES_PER_SECOND 750
/* A revocation that got lost is asked for again after this. */
#define LEASE_RETRY_MS 3000
#define LEASE_CHECKPOINT_MS 300000 /* etcd's interval */
#define LEASE_CHECKPOINTS_MAX 1000 /* for one log entry */

struct lease_config {
    int64_t min_ttl; /* lease_min_ttl(); lower ones are raised to it */
    /* 0: the leader asks for no checkpoints. Those of others are applied. */
    int64_t checkpoint_ms;
    /* Whether a checkpoint outlives a restart: it is part of the records. */
    bool persist_checkpoints;
};

/* The least TTL in seconds: one and a half election timeouts, rounded up. */
int64_t lease_min_ttl(int64_t election_ticks, int64_t heartbeat_ms);

struct lessor;

struct lessor *lessor_new(const struct lease_config *config); /* copies */
void lessor_free(struct lessor *l);                           /* NULL is fine */
size_t lease_count(const struct lessor *l);

/* --- What is applied from the log. ---------------------------------------- */

/*
 * id is not 0 (LEASE_NOT_FOUND). *effective_ttl, if wanted, is what the answer
 * says. The checks alone, for before the proposal, are lease_check_grant().
 */
int lease_grant(struct lessor *l, int64_t id, int64_t ttl, int64_t now_ms,
                int64_t *effective_ttl);
int lease_check_grant(const struct lessor *l, int64_t id, int64_t ttl);

/*
 * The lease is gone; its keys, sorted, are the caller's to delete in one
 * transaction: references, owned, for mvcc_unref_all(). 0 or LEASE_NOT_FOUND.
 *
 *     lease_revoke(l, id, &kvs, &n);
 *     mvcc_begin(m);
 *     ...mvcc_delete_range(m, each key)...
 *     mvcc_changes(m, mvcc_end(m), lease_change, l);
 *     mvcc_unref_all(kvs, n);
 */
int lease_revoke(struct lessor *l, int64_t id, struct mvcc_kv ***kvs,
                 size_t *n);

/*
 * An mvcc_visit with the lessor as arg: the key leaves prev's lease for that
 * of kv. Due for every change of every revision. Leases that do not exist (any
 * more) count as none. After a restore it is called with prev NULL for each
 * key that is alive. Takes a reference of a version that has a lease.
 */
void lease_change(void *lessor, struct mvcc_kv *kv, struct mvcc_kv *prev);

/* For mvcc_put() and mvcc_txn(): struct mvcc_leases {lease_exists, lessor}. */
bool lease_exists(void *lessor, int64_t id);

/* LeaseCheckpoint: what is left of it, 0 for all. Unknown ones are ignored. */
void lease_checkpoint(struct lessor *l, int64_t id, int64_t remaining_ttl,
                      int64_t now_ms);

/* --- The leader's part. ----------------------------------------------------- */

/*
 * This member became leader: each lease lives for its full TTL from now on, or
 * for what its checkpoint left of it, and extend_ms (an election timeout: so
 * long its client may not have known whom to ask). Where too many would end
 * together, some get more.
 */
void lease_promote(struct lessor *l, int64_t now_ms, int64_t extend_ms);
void lease_demote(struct lessor *l);
bool lease_is_primary(const struct lessor *l);

/*
 * The full TTL begins again. 0 and *ttl in seconds; LEASE_NOT_FOUND if there
 * is no such lease or if it is due, or on a member that is not primary. If
 * *uncheckpoint comes out true, a checkpoint is left that says less: propose
 * another one, of 0.
 */
int lease_renew(struct lessor *l, int64_t id, int64_t now_ms, int64_t *ttl,
                bool *uncheckpoint);

/*
 * The ids of leases that are due, those first that have been so for longest;
 * at most max. Each is reported again after LEASE_RETRY_MS, until revoked.
 */
size_t lease_expired(struct lessor *l, int64_t now_ms, int64_t *ids,
                     size_t max);
/* When lease_expired() will have something to say; INT64_MAX: never. */
int64_t lease_next_expiry_ms(const struct lessor *l);

struct lease_remaining {
    int64_t id, remaining_ttl;
};

/* What to propose as a LeaseCheckpointRequest now; at most max. */
size_t lease_checkpoints_due(struct lessor *l, int64_t now_ms,
                             struct lease_remaining *out, size_t max);

/* --- Questions. ------------------------------------------------------------- */

struct lease_ttl {
    int64_t ttl;         /* left, in whole seconds, at least 0; -1: unknown */
    int64_t granted_ttl; /* 0: unknown */
};

/* For a primary; else what is left is the full TTL. */
struct lease_ttl lease_time_to_live(const struct lessor *l, int64_t id,
                                    int64_t now_ms);
size_t lease_n_keys(const struct lessor *l, int64_t id); /* 0: unknown, too */
/* Sorted references, owned, of the newest versions: mvcc_unref_all(). */
size_t lease_keys(const struct lessor *l, int64_t id, struct mvcc_kv ***kvs);
/*
 * Visit each key, in no order that means anything, until the visitor says
 * false; false if it did. True for an unknown lease. Borrowed.
 */
typedef bool lease_key_visit(void *arg, struct str key);
bool lease_visit_keys(const struct lessor *l, int64_t id,
                      lease_key_visit *visit, void *arg);

/* --- All of them: for LeaseLeases, snapshots, restore. ----------------------- */

struct lease_record {
    int64_t id, ttl;
    int64_t remaining_ttl; /* as checkpointed and to be kept; 0: none */
    int64_t expiry_ms;     /* INT64_MAX if not primary; not on disk */
};

/* All, in no order, owned: free(). Quick, so that sorting needs no lock. */
struct lease_record *lease_records(const struct lessor *l, size_t *n);
/* No lock: as the backend orders them; and as LeaseLeases does. */
void lease_sort_by_id(struct lease_record *records, size_t n);
void lease_sort_by_expiry(struct lease_record *records, size_t n);

/* A record's key in the bucket `lease`, and its value, leasepb.Lease. */
#define LEASE_KEY_BYTES 8
void lease_encode_key(int64_t id, uint8_t out[LEASE_KEY_BYTES]);
void lease_encode(struct buf *b, const struct lease_record *r);
/* Both strings as they stood; 0 or LEASE_CORRUPT. */
int lease_decode(struct str key, struct str value, struct lease_record *out);

/* Into a lessor that is not primary. 0, or LEASE_CORRUPT if it is there. */
int lease_restore(struct lessor *l, const struct lease_record *r);

/* Of all that is replicated: equal on members that applied the same. */
uint64_t lease_digest(const struct lessor *l);
/* What must hold between any two calls; aborts. For tests: it walks all. */
void lease_check(const struct lessor *l);

#endif
