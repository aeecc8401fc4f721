/*
 * mvcc.h - the v3 key space: every key with its versions, ordered by key and
 * by revision. Pure: no I/O, no clock, no lock.
 *
 * REVISIONS  A store begins at revision 1. Each write transaction that
 *   changes something makes the next one; its changes count sub 0, 1, 2... A
 *   deletion is a version too, a tombstone. A key's version counts from 1
 *   again after a deletion, and create_revision says when that life began.
 *
 * VERSIONS  A version is one immutable allocation, shared by reference count:
 *   an answer is an array of references, encoded at the client's pace, and
 *   nothing is copied. Any thread may read and drop what it holds a reference
 *   of, except the field that is marked.
 *
 * READING  Small answers come whole: mvcc_range(). Large ones are read in
 *   bounded steps at one revision: struct mvcc_read. It pins its revision, so
 *   that compaction, which takes effect for new requests at once, frees
 *   nothing that the read may still come to.
 *
 * Determinism: equal calls give equal revisions, versions, answers and hashes
 * on every member. One lock around a struct mvcc serializes all calls but
 * those that are said to need none.
 *
 * Facts: spec v3-api, 4 (semantics) and 7 (errors); raft-and-storage, 8 and 9.
 */
#ifndef MVCC_H
#define MVCC_H

#include "buf.h"

/* A negative result of a call below; each is one row of etcd's table. */
enum mvcc_error {
    MVCC_EMPTY_KEY = -1,
    MVCC_KEY_NOT_FOUND = -2,
    MVCC_VALUE_PROVIDED = -3,
    MVCC_LEASE_PROVIDED = -4,
    MVCC_TOO_MANY_OPS = -5,
    MVCC_DUPLICATE_KEY = -6,
    MVCC_COMPACTED = -7,
    MVCC_FUTURE_REV = -8,
    MVCC_LEASE_NOT_FOUND = -9,
    MVCC_INVALID_SORT = -10,
    MVCC_CORRUPT = -11, /* mvcc_restore(): out of order; see there */
};

/* --- Versions. ------------------------------------------------------------ */

struct mvcc_kv {
    int refs;
    uint32_t sub; /* place within the transaction */
    int64_t mod_revision;
    int64_t create_revision; /* 0 for a tombstone */
    int64_t version;         /* 0 for a tombstone */
    int64_t lease;           /* 0: none */
    struct mvcc_kv *older;   /* only under the lock; NULL at the end */
    uint32_t key_len, value_len;
    char bytes[]; /* key, then value */
};

struct mvcc_kv *mvcc_ref(struct mvcc_kv *kv);        /* NULL gives NULL */
void mvcc_unref(struct mvcc_kv *kv);                 /* NULL is fine */
void mvcc_unref_all(struct mvcc_kv **kvs, size_t n); /* and frees the array */

static inline struct str mvcc_key(const struct mvcc_kv *kv)
{
    return (struct str){kv->bytes, kv->key_len};
}

static inline struct str mvcc_value(const struct mvcc_kv *kv)
{
    return (struct str){kv->bytes + kv->key_len, kv->value_len};
}

static inline bool mvcc_is_tombstone(const struct mvcc_kv *kv)
{
    return kv->version == 0;
}

/*
 * The protobuf message mvccpb.KeyValue, appended, and its size. Only in the
 * forms does it differ what there is of a tombstone.
 */
enum mvcc_form {
    MVCC_RECORD,    /* as the backend holds it: a tombstone is its key */
    MVCC_EVENT,     /* as a watcher gets it: and its mod_revision */
    MVCC_KEYS_ONLY, /* without the value */
};

size_t mvcc_kv_size(const struct mvcc_kv *kv, enum mvcc_form form);
void mvcc_kv_encode(struct buf *b, const struct mvcc_kv *kv,
                    enum mvcc_form form);
/* The record's key in that bucket: 17 bytes, 18 for a tombstone. */
#define MVCC_REVISION_BYTES 18
size_t mvcc_revision_encode(const struct mvcc_kv *kv,
                            uint8_t out[MVCC_REVISION_BYTES]);

/* --- The store. ----------------------------------------------------------- */

struct mvcc;

struct mvcc *mvcc_new(void); /* at revision 1, without keys */
/*
 * No pin may be left: a store that a snapshot replaced lives on until its
 * last read is closed. References that others hold stay good.
 */
void mvcc_free(struct mvcc *m);

/* The newest revision; inside a transaction, the one before it. */
int64_t mvcc_revision(const struct mvcc *m);
/* Reads below it fail; -1 at first. */
int64_t mvcc_compacted(const struct mvcc *m);

struct mvcc_stats {
    size_t n_keys;     /* alive at the current revision */
    size_t n_versions; /* held in memory, tombstones too */
    uint64_t bytes;    /* of keys and values of all these */
};

struct mvcc_stats mvcc_stats(const struct mvcc *m);

/* --- Requests: all strings are borrowed. ---------------------------------- */

/*
 * key and range_end as in etcd: range_end "" means key alone; "\0" all from
 * key on; else [key, range_end), which is empty if range_end <= key.
 */
enum mvcc_order { MVCC_NONE, MVCC_ASCEND, MVCC_DESCEND };

enum mvcc_sort_target {
    MVCC_BY_KEY,
    MVCC_BY_VERSION,
    MVCC_BY_CREATE,
    MVCC_BY_MOD,
    MVCC_BY_VALUE,
};

struct mvcc_range {
    struct str key, range_end;
    int64_t limit;    /* 0 or less: none */
    int64_t revision; /* 0 or less: the current one */
    int order;        /* enum mvcc_order, as it came off the wire */
    int target;       /* enum mvcc_sort_target, likewise */
    bool keys_only;   /* for the encoder; the engine ignores it */
    bool count_only;
    bool serializable; /* for the server; the engine ignores it */
    /* Inclusive bounds; 0: none. They do not affect the count. */
    int64_t min_mod_revision, max_mod_revision;
    int64_t min_create_revision, max_create_revision;
};

struct mvcc_put {
    struct str key, value;
    int64_t lease;
    bool prev_kv, ignore_value, ignore_lease;
};

struct mvcc_delete_range {
    struct str key, range_end;
    bool prev_kv;
};

enum mvcc_compare_result {
    MVCC_EQUAL,
    MVCC_GREATER,
    MVCC_LESS,
    MVCC_NOT_EQUAL,
};

enum mvcc_compare_target {
    MVCC_VERSION,
    MVCC_CREATE,
    MVCC_MOD,
    MVCC_VALUE,
    MVCC_LEASE,
};

/* The key's target, on the left, compared with what is given. */
struct mvcc_compare {
    int result; /* enum mvcc_compare_result, as it came off the wire */
    int target; /* enum mvcc_compare_target, likewise */
    struct str key, range_end;
    int64_t number;   /* for all targets but MVCC_VALUE; 0 if not given */
    struct str value; /* for MVCC_VALUE; "" if not given */
};

enum mvcc_op_kind {
    MVCC_OP_EMPTY, /* nothing was set: an error */
    MVCC_OP_RANGE,
    MVCC_OP_PUT,
    MVCC_OP_DELETE_RANGE,
    MVCC_OP_TXN,
};

struct mvcc_txn {
    const struct mvcc_compare *compares;
    const struct mvcc_op *success, *failure;
    size_t n_compares, n_success, n_failure;
};

struct mvcc_op {
    enum mvcc_op_kind kind;
    union {
        struct mvcc_range range;
        struct mvcc_put put;
        struct mvcc_delete_range delete_range;
        struct mvcc_txn txn;
    } u;
};

/*
 * What can be said of a request without a store, before it is proposed: 0 or
 * an error. max_ops bounds a transaction's lists (--max-txn-ops, 128).
 * In etcd up to 3.5 an unknown sort order or target is not refused: then drop
 * MVCC_INVALID_SORT, which is only returned if nothing else is wrong.
 */
int mvcc_check_range(const struct mvcc_range *r);
int mvcc_check_put(const struct mvcc_put *p);
int mvcc_check_delete_range(const struct mvcc_delete_range *d);
int mvcc_check_txn(const struct mvcc_txn *t, size_t max_ops);
/* Ranges only, at any depth: needs no proposal. */
bool mvcc_txn_is_read_only(const struct mvcc_txn *t);

/* --- Answers. ------------------------------------------------------------- */

/*
 * Arrays and the references in them are owned: the _release() functions drop
 * them. revision is the header's: for an operation inside a transaction, that
 * of the transaction once something is changed.
 */
struct mvcc_range_result {
    int64_t revision;
    int64_t count; /* in the range, whatever limit and bounds say */
    bool more;     /* limit cut something off */
    size_t n;
    struct mvcc_kv **kvs;
};

struct mvcc_put_result {
    int64_t revision;
    struct mvcc_kv *prev; /* NULL if not asked for, or if there was none */
};

struct mvcc_delete_result {
    int64_t revision;
    int64_t deleted;
    size_t n; /* 0 if prevs were not asked for */
    struct mvcc_kv **prevs;
};

struct mvcc_txn_result {
    int64_t revision; /* of the whole; 0 in a nested one, as in etcd */
    bool succeeded;
    size_t n;
    struct mvcc_op_result *results;
};

struct mvcc_op_result {
    enum mvcc_op_kind kind;
    union {
        struct mvcc_range_result range;
        struct mvcc_put_result put;
        struct mvcc_delete_result delete_range;
        struct mvcc_txn_result txn;
    } u;
};

void mvcc_range_release(struct mvcc_range_result *r);
void mvcc_put_release(struct mvcc_put_result *r);
void mvcc_delete_release(struct mvcc_delete_result *r);
void mvcc_txn_release(struct mvcc_txn_result *r);

/* --- Operations. ---------------------------------------------------------- */

/*
 * Is there such a lease? Asked before anything is changed. The keys of a
 * lease are the lease module's: see mvcc_changes().
 */
struct mvcc_leases {
    bool (*exists)(void *arg, int64_t lease);
    void *arg;
};

/*
 * Each returns 0 and fills *out, or an error and has changed nothing. leases
 * NULL: every lease exists. The requests must have passed mvcc_check_...().
 */
int mvcc_range(struct mvcc *m, const struct mvcc_range *r,
               struct mvcc_range_result *out);
int mvcc_put(struct mvcc *m, const struct mvcc_put *p,
             const struct mvcc_leases *leases, struct mvcc_put_result *out);
void mvcc_delete_range(struct mvcc *m, const struct mvcc_delete_range *d,
                       struct mvcc_delete_result *out);
int mvcc_txn(struct mvcc *m, const struct mvcc_txn *t,
             const struct mvcc_leases *leases, struct mvcc_txn_result *out);

/*
 * Several operations as one transaction, which see each other's effects: for
 * the revocation of a lease. The operations above join an open one.
 */
void mvcc_begin(struct mvcc *m);
int64_t mvcc_end(struct mvcc *m); /* the revision, new or not */

/*
 * The changes of one revision, in order, borrowed during the visit. A change
 * of the key's lease is from prev->lease to kv->lease; prev is NULL when the
 * key was not there.
 */
typedef void mvcc_visit(void *arg, struct mvcc_kv *kv, struct mvcc_kv *prev);
void mvcc_changes(const struct mvcc *m, int64_t revision, mvcc_visit *visit,
                  void *arg);

/* --- Pins: what a reader in steps still needs. ----------------------------- */

struct mvcc_pin { /* the caller's storage; the fields are the store's */
    struct mvcc_pin *prev, *next;
    int64_t revision;
};

/*
 * revision is one that can be read now; or mvcc_compact_finished(): then
 * compaction stands still, and the log stays as it is.
 */
void mvcc_pin(struct mvcc *m, struct mvcc_pin *p, int64_t revision);
void mvcc_unpin(struct mvcc *m, struct mvcc_pin *p);

/* --- Reads in bounded steps. ----------------------------------------------- */

/*
 *     mvcc_read_open(m, &req, &read);              lock
 *     do {
 *         n = mvcc_read_next(&read, kvs, max);     lock; else not
 *         ...encode kvs[0..n), unref them...
 *     } while (!read.done);
 *     mvcc_read_close(&read);                      lock
 *
 * One step looks at MVCC_READ_STEP keys, and as many versions before them, at
 * most, and may yield none. If read.unsorted is set, all is gathered and
 * mvcc_read_sort() is due before the next step; it needs no lock. In key order
 * nothing is held but the pin and one reference: an answer of any size costs
 * no memory here.
 *
 * count and more are true once done is. A second pass, after
 * mvcc_read_rewind(), yields exactly the same: the first one can measure.
 */
#define MVCC_READ_STEP 2000

struct mvcc_cursor { /* in the log: the next one is at or behind this */
    int64_t main, sub;
};

struct mvcc_read {
    int64_t revision; /* of the answer's header */
    int64_t count;
    bool more, done, unsorted;

    /* The engine's own. */
    struct mvcc *m;
    struct mvcc_range req; /* its strings are borrowed until the end */
    struct mvcc_pin pin;
    int phase;
    bool counted;         /* count is known before the walk */
    bool inclusive;       /* last itself is due */
    struct mvcc_kv *last; /* of the key to go on behind; owned; or NULL */
    int64_t at;           /* the revision that is read */
    struct mvcc_cursor later; /* above it, what is to be looked at next */
    int64_t taken;        /* so many were within the bounds */
    struct mvcc_kv **kvs; /* gathered for sorting; owned */
    size_t n, cap, next;
};

/* 0, MVCC_COMPACTED or MVCC_FUTURE_REV; then there is nothing to close. */
int mvcc_read_open(struct mvcc *m, const struct mvcc_range *req,
                   struct mvcc_read *r);
/* At most max references, which the caller owns. */
size_t mvcc_read_next(struct mvcc_read *r, struct mvcc_kv **kvs, size_t max);
void mvcc_read_sort(struct mvcc_read *r);
void mvcc_read_rewind(struct mvcc_read *r);
void mvcc_read_close(struct mvcc_read *r);

/* --- The log: all versions in order of revision. --------------------------- */

/*
 * The next versions up to revision last, at most max; references that the
 * caller owns. A checkpoint begins at {0, 0} and pins mvcc_compact_finished(),
 * so that a second pass sees the same. What compaction has not come to yet is
 * among them.
 */
size_t mvcc_log_next(const struct mvcc *m, struct mvcc_cursor *c, int64_t last,
                     struct mvcc_kv **kvs, size_t max);
/* The same without references: borrowed until the lock is let go. */
size_t mvcc_log_peek(const struct mvcc *m, struct mvcc_cursor *c, int64_t last,
                     struct mvcc_kv **kvs, size_t max);
/*
 * The key's value before the revision of kv, which is in the log: borrowed;
 * NULL if there was none or if it is compacted away.
 */
struct mvcc_kv *mvcc_prev(const struct mvcc *m, const struct mvcc_kv *kv);

/* --- Compaction. ------------------------------------------------------------ */

/*
 * For each key the newest version up to revision stays, unless it is a
 * tombstone from before it. 0, MVCC_COMPACTED or MVCC_FUTURE_REV. In effect
 * at once; memory is freed by mvcc_compact_step().
 */
int mvcc_compact(struct mvcc *m, int64_t revision);
/*
 * Look at budget versions at most. True if there is more to do now; what a
 * pin holds back is not, until mvcc_unpin().
 */
bool mvcc_compact_step(struct mvcc *m, size_t budget);
/* Up to here it is done: the backend's finishedCompactRev. -1 at first. */
int64_t mvcc_compact_finished(const struct mvcc *m);

/* --- Restoring. -------------------------------------------------------------- */

struct mvcc_record {
    struct str key, value; /* copied */
    int64_t main, sub;
    int64_t create_revision, version, lease;
    bool tombstone;
};

/*
 * Feed a new store with records in order of revision; then say how far
 * compaction was finished and scheduled (-1: never). What is scheduled but
 * not finished is resumed by mvcc_compact_step(). A record with neither key
 * nor version only raises the revision. MVCC_CORRUPT if a record
 * is out of order or lacks something; the store can only be freed then.
 *
 * Nothing can be read before the end, when all keys are sorted at once: in
 * time that is linear but for keys of hundreds of bytes in common, with 40
 * bytes of memory for each version until then.
 */
int mvcc_restore(struct mvcc *m, const struct mvcc_record *r);
void mvcc_restore_end(struct mvcc *m, int64_t finished, int64_t scheduled);

/* --- HashKV (spec: raft-and-storage, 8.5). ---------------------------------- */

/* In bounded steps, while compaction is held up; done: result is final. */
struct mvcc_hash {
    uint32_t result;
    int64_t revision, compacted;
    bool done;

    /* The engine's own. */
    struct mvcc *m;
    struct mvcc_pin pin;
    struct mvcc_cursor at;
    uint32_t kept, all; /* with and without leaving out what is superseded */
    bool any_kept;
};

/* revision 0: the current one. 0, MVCC_COMPACTED or MVCC_FUTURE_REV. */
int mvcc_hash_open(struct mvcc *m, int64_t revision, struct mvcc_hash *h);
void mvcc_hash_step(struct mvcc_hash *h, size_t budget);
void mvcc_hash_close(struct mvcc_hash *h);

/* What must hold between any two calls; aborts. For tests: it walks all. */
void mvcc_check(const struct mvcc *m);

#endif
