/*
 * v3.h - the v3 state machine of a member: the key space, its watchers, leases,
 * users, alarms. Pure: no I/O, no clock, no lock, no global, so that simulator
 * and model tests drive it without a server.
 *
 * It changes by v3_apply() alone, once for each request of the log that is not
 * of v2, in the order of the log; and by what leader and watchers do to their
 * own parts of it (lease.h, watch.h). Equal requests give equal states and
 * answers on every member.
 *
 * ORDER OF THE CHECKS, as in etcd: alarms, then the rights of the user that the
 * entry names, then the request itself.
 *
 * One lock around a struct v3 serializes all calls but those that are said to
 * need none.
 *
 * Facts: spec raft-and-storage, 4 to 8, 12.2; v3-api, 4 and 6.
 */
#ifndef V3_H
#define V3_H

#include "auth.h"
#include "backend.h"
#include "lease.h"
#include "mvcc.h"
#include "v3error.h"
#include "watch.h"

/* Fields of InternalRaftRequest: what is asked for (spec 12.2). */
enum v3_field {
    V3_RANGE = 3,
    V3_PUT = 4,
    V3_DELETE_RANGE = 5,
    V3_TXN = 6,
    V3_COMPACTION = 7,
    V3_LEASE_GRANT = 8,
    V3_LEASE_REVOKE = 9,
    V3_ALARM = 10,
    V3_LEASE_CHECKPOINT = 11,
    V3_AUTH_ENABLE = 1000,
    V3_AUTH_DISABLE = 1011,
    V3_AUTHENTICATE = 1012,
    V3_AUTH_STATUS = 1013,
    V3_USER_ADD = 1100,
    V3_USER_DELETE = 1101,
    V3_USER_GET = 1102,
    V3_USER_CHANGE_PASSWORD = 1103,
    V3_USER_GRANT_ROLE = 1104,
    V3_USER_REVOKE_ROLE = 1105,
    V3_USER_LIST = 1106,
    V3_ROLE_LIST = 1107,
    V3_ROLE_ADD = 1200,
    V3_ROLE_DELETE = 1201,
    V3_ROLE_GET = 1202,
    V3_ROLE_GRANT_PERMISSION = 1203,
    V3_ROLE_REVOKE_PERMISSION = 1204,
    V3_CLUSTER_VERSION = 1300,
    V3_MEMBER_ATTRIBUTES = 1301,
    V3_DOWNGRADE = 1302,
};

enum v3_alarm_kind { V3_ALARM_NOSPACE = 1, V3_ALARM_CORRUPT = 2 };

struct v3_alarm {
    uint64_t member_id;
    int alarm; /* enum v3_alarm_kind, as it came */
};

/* --- The state. ----------------------------------------------------------- */

struct v3_config {
    struct lease_config lease;
    int64_t auth_token_ttl_ms; /* 0: AUTH_TOKEN_TTL_MS */
};

/* What was done to it since this member started; not part of the state. As etcd
 * counts: a comparison is a range, too. */
struct v3_counts {
    uint64_t puts, deletes, ranges, txns, put_bytes;
    uint64_t granted, revoked, renewed, expired;
};

struct v3; /* below */
/* A transaction that was read here and not applied. */
void v3_count_txn(struct v3 *v, size_t n_compares,
                  const struct mvcc_txn_result *t);

struct v3 {
    struct mvcc *mvcc;
    struct watch_hub *watch;
    struct lessor *lessor;
    struct auth *auth;
    struct v3_alarm *alarms; /* sorted, no two alike */
    size_t n_alarms;
    uint64_t index; /* of the log: everything up to it is in here */
    struct v3_counts counts;
};

struct v3 *v3_new(const struct v3_config *config); /* copies */
/* No stream of watchers and no pin may be left. NULL is fine. */
void v3_free(struct v3 *v);

bool v3_has_alarm(const struct v3 *v, int kind);
/* Nothing was ever done to it but members' and v2's matters. */
bool v3_is_untouched(const struct v3 *v);
/* About what the state needs as a file: what the quota is held against. */
uint64_t v3_size(const struct v3 *v);

/* --- Requests. ------------------------------------------------------------ */

/* The strings are borrowed. */
struct v3_request {
    uint32_t field;   /* enum v3_field, as it came */
    struct str bytes; /* the message of that field */
    struct auth_who who;
    struct str password; /* of v3_hash_password(), or "": hash it then */
};

/* Can it be applied? Else it is malformed, nested too deeply, or of a newer
 * version. Needs no state. */
bool v3_readable(uint32_t field, struct str bytes);
/* What it may add to v3_size(), as etcd reckons it; 0: it only reads or takes
 * away. Needs no state. */
uint64_t v3_cost(uint32_t field, struct str bytes);

/* Of an answer's header; cluster and member id are the server's. */
struct v3_header {
    int64_t revision;
    uint64_t raft_term;
};

/* What applying a request gave. Owned: v3_result_release(). */
struct v3_result {
    enum v3_error error; /* the rest is empty then, but for the header */
    const char *text;    /* another error's text (static), or NULL: V3's own */
    int code;            /* with text: its gRPC code */
    struct v3_header header;
    uint32_t field; /* of InternalRaftRequest: which of these counts */
    union {
        struct mvcc_put_result put;             /* 4 */
        struct mvcc_delete_result delete_range; /* 5 */
        struct mvcc_txn_result txn;             /* 6 */
        struct {                                /* 7 */
            int64_t revision;
            bool physical;
        } compaction;
        struct { /* 8 */
            int64_t id, ttl;
        } lease_grant;
        struct { /* 10: alarms that match, or the one set or cleared */
            struct v3_alarm *alarms;
            size_t n;
        } alarm;
        char *token; /* 1012: of a simple token; else "" */
    } u;
};

void v3_result_release(struct v3_result *r);

/* When a request is applied: its entry's place, and the member's own clock,
 * which only says how long leases and tokens have to live. */
struct v3_moment {
    uint64_t index, term;
    int64_t now_ms; /* monotonic */
};

/*
 * Apply the request of an entry behind v->index. *out is filled in any case
 * (NULL: nobody wants it). The caller sees to watch_notify() afterwards, once
 * for as many requests as it likes. -1: not readable; then nothing has changed
 * and the member must stop, for it would differ from the others.
 */
int v3_apply(struct v3 *v, const struct v3_request *r,
             const struct v3_moment *at, struct v3_result *out);
/* What an entry without a request of v3's does: it moves v->index. */
void v3_skip(struct v3 *v, uint64_t index);

/*
 * Two requests store a password. To hash it takes tens of milliseconds, so it
 * is done before, without the lock, for r->password; index is the entry's.
 * Appends nothing for other requests, or if the hash it came with is no good.
 */
void v3_hash_password(struct buf *b, const struct v3_request *r,
                      uint64_t index);

/* Results of the engines as rows of the table; 0 is V3_OK. */
enum v3_error v3_error_of_mvcc(int error);
enum v3_error v3_error_of_lease(int error);
/* AUTH_NO_PASSWORD_USER and AUTH_BAD_HASH have no row: *text and *code then. */
enum v3_error v3_error_of_auth(int error, const char **text, int *code);

/* --- On disk and on the wire. --------------------------------------------- */

/* All but the keys, and image->last; index is v->index, members and version of
 * the cluster are the caller's to add. Then pin mvcc_compact_finished(). */
void v3_save(const struct v3 *v, struct backend_image *image);
/* Up to which index a file has the log; 0 if it does not say. -1 and e. */
int v3_peek_index(const char *path, uint64_t *index, struct err *e);
/* A whole file; *out is owned. -1 and e. */
int v3_load(const char *path, const struct v3_config *config, struct v3 **out,
            struct err *e);

/* Of all that is replicated, but no deep look at the keys: for tests. */
uint64_t v3_digest(const struct v3 *v);

#endif
