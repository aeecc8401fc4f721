/*
 * backend.h - etcd's v3 state as a bbolt file, `member/snap/db`: its buckets,
 * their keys and values (spec: raft-and-storage, 9.2), as etcd 3.4 writes them
 * and 3.2 to 3.6 read them.
 *
 * WRITING  The state at one index of the log. All but the keys is small: under
 *   the server's lock it is copied into a struct backend_image. The versions
 *   of the keys are pinned, and come in bounded steps while traffic goes on:
 *
 *       lock      pin: mvcc_pin(m, &pin, mvcc_compact_finished(m));
 *                 image: backend_set_meta(), backend_add_...();
 *                 image.last = mvcc_revision(m);
 *       unlock
 *       backend_save(path, ...)     or, for a stream, backend_measure() and
 *                                   backend_write() by its plan
 *       lock      mvcc_unpin(m, &pin);
 *
 *   So pinned, compaction stands still, and every pass sees the same.
 *
 * READING  backend_load() feeds an empty mvcc and shows all other items to a
 *   visitor, bucket by bucket. What is missing is empty; buckets and meta keys
 *   that are not known are left out: they are lost when the state is saved
 *   again, as is all that is deleted.
 *
 * No lock, no clock; files only in backend_save(), _update(), _load(),
 * _status() and _check_trailer(). Errors are BOLT_E* codes with *e filled.
 */
#ifndef BACKEND_H
#define BACKEND_H

#include "bolt.h"
#include "mvcc.h"

/* In order of name, as they stand in the file. */
enum backend_bucket {
    BACKEND_ALARM,           /* AlarmMember -> "" */
    BACKEND_AUTH,            /* authEnabled, authRevision */
    BACKEND_AUTH_ROLES,      /* name -> Role */
    BACKEND_AUTH_USERS,      /* name -> User */
    BACKEND_CLUSTER,         /* clusterVersion -> 3.4.0 */
    BACKEND_KEY,             /* revision -> KeyValue */
    BACKEND_LEASE,           /* id -> Lease */
    BACKEND_MEMBERS,         /* id in hex -> JSON */
    BACKEND_MEMBERS_REMOVED, /* id in hex -> removed */
    BACKEND_META,            /* see struct backend_meta */
    BACKEND_N,
};

const char *backend_bucket_name(enum backend_bucket b);

/* --- Bucket meta. ----------------------------------------------------------- */

struct backend_meta {
    uint64_t consistent_index; /* the log is applied up to here */
    int64_t finished;          /* mvcc_compact_finished(); -1: never */
    int64_t scheduled;         /* mvcc_compacted(); -1: never */
    /* As etcd 3.5 and 3.6 write them, too: 0 or "" leaves them out. */
    uint64_t term;
    struct str conf_state;      /* JSON */
    struct str storage_version; /* 3.6.0 */
};

/* --- All but the keys. --------------------------------------------------------- */

/* Items of one bucket, in any order. */
struct backend_list {
    struct buf bytes; /* key after value after key... */
    struct backend_span {
        size_t at, key_len, value_len;
    } * spans;
    size_t n, cap;
};

struct backend_image { /* {0} is empty; the strings in it are copied */
    struct backend_list lists[BACKEND_N]; /* that of BACKEND_KEY is empty */
    int64_t last;     /* versions up to this revision belong to it */
    int64_t finished; /* as in its meta */
};

void backend_image_release(struct backend_image *im);
/* A key that comes twice: the later one counts. */
void backend_add(struct backend_image *im, enum backend_bucket b,
                 struct str key, struct str value);
void backend_set_meta(struct backend_image *im, const struct backend_meta *m);
/* remaining_ttl 0: no checkpoint was made. */
void backend_add_lease(struct backend_image *im, int64_t id, int64_t ttl,
                       int64_t remaining_ttl);
void backend_add_alarm(struct backend_image *im, uint64_t member, int alarm);
/* enabled: 1, 0, or -1 if it never was: then etcd says nothing of it. */
void backend_set_auth(struct backend_image *im, int enabled, uint64_t revision);
/* As in a log's membership change (spec: 12.3). */
void backend_add_member(struct backend_image *im, uint64_t id, struct str json);
void backend_add_removed(struct backend_image *im, uint64_t id);
void backend_set_cluster_version(struct backend_image *im, struct str version);

/* --- Writing. -------------------------------------------------------------------- */

/*
 * The next versions, at most max, as references that pass to the caller: take
 * the lock, mvcc_log_next(m, c, last, kvs, max), let it go. 0: there are no
 * more. May be called again from {0, 0} on.
 */
typedef size_t backend_versions(void *arg, struct mvcc_cursor *c, int64_t last,
                                struct mvcc_kv **kvs, size_t max);
#define BACKEND_BATCH 256 /* this is max */

struct backend_source {
    const struct backend_image *image;
    backend_versions *versions;
    void *arg;
};

/* How big it will be: n_pages * BOLT_PAGE_BYTES. Lengths only; nothing fails. */
void backend_measure(const struct backend_source *src, struct bolt_plan *out);
/* The file, front to back, to a sink. */
int backend_write(const struct backend_source *src,
                  const struct bolt_plan *plan, bolt_sink *sink, void *arg,
                  struct err *e);
/*
 * To path, by way of path+".tmp": write, fsync, rename, fsync the directory.
 * A crash leaves the old file or the new one. *bytes (may be NULL) is its size.
 */
int backend_save(const char *path, const struct backend_source *src,
                 bool no_fsync, uint64_t *bytes, struct err *e);

/*
 * The same again and again, of one key space. What was added to it since the
 * last time is appended to the file, and the rest of it not touched, unless
 * compaction took something away, or too much of the file is of no use by
 * now: then it is written anew. A crash leaves what it was before, or after.
 */
struct backend_file; /* as it was saved last */

/* *file is NULL, or is used up: the file is written anew. NULL after an error,
 * as it may be either then. */
int backend_update(struct backend_file **file, const char *path,
                   const struct backend_source *src, bool no_fsync,
                   uint64_t *bytes, struct err *e);
/* Would it be appended to, now that compaction has come to `finished`? NULL is
 * not. */
bool backend_file_goes_on(const struct backend_file *file, int64_t finished);
void backend_file_close(struct backend_file *file); /* NULL is fine */

/* What Maintenance.Hash answers: CRC-32C over all but how far the log is
 * applied (spec: raft-and-storage, 8.5). */
uint32_t backend_hash(const struct backend_source *src);

/* --- Reading. ---------------------------------------------------------------------- */

/*
 * An item of any bucket but BACKEND_KEY and BACKEND_META; borrowed. Not 0:
 * stop with that code, *e filled.
 */
typedef int backend_visit(void *arg, enum backend_bucket b, struct str key,
                          struct str value, struct err *e);

/*
 * From path into m, which is new, and to visit (NULL: none). *meta is filled
 * in and its strings are "": conf_state and storage_version are not kept.
 * After an error m can only be freed. A SHA-256 behind the image is not
 * looked at: backend_check_trailer().
 */
int backend_load(const char *path, struct mvcc *m, backend_visit *visit,
                 void *arg, struct backend_meta *meta, struct err *e);
/* The same from an open file. */
int backend_load_bolt(struct bolt *b, struct mvcc *m, backend_visit *visit,
                      void *arg, struct backend_meta *meta, struct err *e);

/* Items decoded; false if malformed. Strings borrow. */
struct backend_lease {
    int64_t id, ttl, remaining_ttl;
};
bool backend_decode_lease(struct str key, struct str value,
                          struct backend_lease *out);
bool backend_decode_alarm(struct str key, uint64_t *member, int *alarm);
bool backend_decode_id(struct str key, uint64_t *id); /* members: hex */

/* As `etcdctl snapshot status` prints them. */
struct backend_status {
    uint32_t hash; /* over everything */
    int64_t revision;
    uint64_t total_keys, total_size;
};
int backend_status(const char *path, struct backend_status *out, struct err *e);

/*
 * A snapshot that came from the RPC ends in the SHA-256 of the rest: its size
 * is 32 more than a multiple of 512. *bytes is the size of the image.
 */
enum backend_trailer {
    BACKEND_NO_TRAILER, /* a copied file */
    BACKEND_TRAILER_OK,
    BACKEND_TRAILER_BAD,
};
int backend_check_trailer(const char *path, enum backend_trailer *out,
                          uint64_t *bytes, struct err *e);

#endif
