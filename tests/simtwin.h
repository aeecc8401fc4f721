/*
 * simtwin.h - a twin of the v3 state, naive and complete: all versions of all
 * keys in one array, never compacted, and the leases and alarms as they are
 * after the newest request. It follows etcd's own words (apply.go), and knows
 * the requests that the simulator makes, not all there are.
 *
 * What a request answers is compared as text: the twin says what it must be,
 * and twin_tell_result() says what it was.
 */
#ifndef SIMTWIN_H
#define SIMTWIN_H

#include "rpcpb.h"
#include "v3.h"

struct twin_version {
    struct str key, value;
    int64_t main, sub;
    int64_t create, version, lease; /* 0 in a tombstone */
    const struct twin_version *older;
};

struct twin_lease {
    int64_t id, ttl;
};

/* All versions in order of revision; pointers to them stay good. */
size_t twin_size(void);
const struct twin_version *twin_get(size_t i);
bool twin_is_tombstone(const struct twin_version *v);
int64_t twin_revision(void);
int64_t twin_compacted(void);
size_t twin_leases(const struct twin_lease **out);
size_t twin_alarms(const struct v3_alarm **out);

/* The version that a read of the key at that revision shows, or NULL. */
const struct twin_version *twin_at(struct str key, int64_t revision);
/* All keys, sorted; those that are gone, too. */
size_t twin_keys(const struct str **out);
bool twin_in_range(struct str k, struct str key, struct str range_end);

/*
 * Apply a request of the log, and append what it must answer; min_ttl is
 * the least that a lease gets. Users and roles are not the twin's: nothing is
 * appended for them, and false comes back.
 */
bool twin_apply(struct buf *text, uint32_t field, struct str bytes,
                int64_t min_ttl);
/* What a read must answer where the store's revision is `view`. */
void twin_read(struct buf *text, const struct rpcpb_range_request *r,
               int64_t view);

/* The same words for what was answered. */
void twin_tell_result(struct buf *text, const struct v3_result *r);
void twin_tell_range(struct buf *text, int64_t view,
                     const struct mvcc_range_result *r);
bool twin_is_version(const struct mvcc_kv *kv, const struct twin_version *v);

#endif
