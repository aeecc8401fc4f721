/*
 * cluster.h - membership: who is in the cluster, by which ids and URLs, and
 * which changes are allowed (spec: v2-api 8, raft-and-storage 2.5, 3.3, 12.3).
 *
 * The truth is in the v2 store, below /0: members/ID/raftAttributes,
 * members/ID/attributes, removed_members/ID, version. struct cluster is the
 * parsed form. Its own mutex guards it, and every function here may be called
 * from any thread; those that take a struct store need the caller to hold the
 * store's lock.
 */
#ifndef CLUSTER_H
#define CLUSTER_H

#include "buf.h"
#include "raftpb.h"
#include "store.h"
#include "url.h"

enum {
    CLUSTER_OK = 0,
    CLUSTER_EID_REMOVED = -1,   /* "membership: ID removed" */
    CLUSTER_EID_EXISTS = -2,    /* "membership: ID exists" */
    CLUSTER_EID_NOT_FOUND = -3, /* "membership: ID not found" */
    CLUSTER_EURL_EXISTS = -4,   /* "membership: peerURL exists" */
    CLUSTER_ETOO_MANY_LEARNERS = -5,
    CLUSTER_ENOT_LEARNER = -6, /* "membership: can only promote a learner" */
    CLUSTER_EINVAL = -7,       /* flags or JSON that make no sense */
};

const char *cluster_error_text(int code);

struct member {
    uint64_t id;
    char *name;       /* "" until it has started */
    char **peer_urls; /* sorted */
    size_t n_peer_urls;
    char **client_urls; /* none until it has started */
    size_t n_client_urls;
    bool is_learner;
};

void member_release(struct member *m);
void member_copy(struct member *dst, const struct member *src);
void members_free(struct member *m, size_t n);
bool member_same_peer_urls(const struct member *a, const struct member *b);

/* First 8 bytes of SHA-1(sorted URLs + token [+ decimal unix seconds]). */
uint64_t member_id(const struct url_list *peer_urls, const char *token,
                   const int64_t *unix_s);

/*
 * The JSON of spec 12.3: {"id":N,"peerURLs":[...],...}. is_promote: -1 leaves
 * the field out, as in bootstrap entries.
 */
void member_json(struct buf *b, const struct member *m, int is_promote);
int member_from_json(const void *p, size_t n, struct member *out,
                     bool *is_promote, struct err *e);
/* A JSON array of members, as on the peers' /members. */
int members_from_json(const void *p, size_t n, struct member **out,
                      size_t *n_out, struct err *e);

struct cluster;

struct cluster *cluster_new(void);
void cluster_free(struct cluster *c);
struct cluster *cluster_copy(const struct cluster *c);

/*
 * Members of --initial-cluster: "n1=u1,n1=u2,n2=u3". Also fixes the cluster
 * id. CLUSTER_EINVAL and e in etcd's words. These members are a plan: the log,
 * which has them too, is applied to an empty cluster.
 */
int cluster_from_flag(struct cluster *c, const char *initial_cluster,
                      const char *token, struct err *e);
/*
 * Is there a member `name` with these URLs (names are looked up where the
 * texts differ)? CLUSTER_EINVAL and e: "couldn't find local name ...".
 */
int cluster_check_local(const struct cluster *c, const char *name,
                        const struct url_list *advertised, struct err *e);
/* "http://name:1" as "http://10.0.0.1:1", owned; a Unix path as it stands. */
int cluster_resolve_url(const char *url, char **out, struct err *e);
/* Take over members and cluster id that a running cluster told us. */
void cluster_from_members(struct cluster *c, uint64_t cluster_id,
                          const struct member *m, size_t n);

/*
 * Check that a running cluster's members are those of our flag (same sets of
 * URLs), and take over their ids: for --initial-cluster-state existing.
 */
int cluster_match(struct cluster *mine, const struct member *theirs, size_t n,
                  uint64_t cluster_id, struct err *e);

uint64_t cluster_id(const struct cluster *c);
void cluster_set_id(struct cluster *c, uint64_t id);

/* Copies of all members, by rising id; returns owned. */
size_t cluster_members(const struct cluster *c, struct member **out);
bool cluster_member(const struct cluster *c, uint64_t id, struct member *out);
bool cluster_member_by_name(const struct cluster *c, const char *name,
                            struct member *out);
bool cluster_is_removed(const struct cluster *c, uint64_t id);
/* All that were removed, by rising id; returns owned. */
size_t cluster_removed(const struct cluster *c, uint64_t **ids);
size_t cluster_size(const struct cluster *c);

/* "3.4.0", or "" while it is not decided. out has room for 32 bytes. */
void cluster_version(const struct cluster *c, char out[32]);

/* --- Changes; applied on every member alike. ---------------------------- */

/* Is the change allowed by the present membership? CLUSTER_*. */
int cluster_validate(const struct cluster *c, const struct raft_conf_change *cc,
                     int learners_max);

/* Carry out an allowed change, in the store (NULL: none) and in c. now_ns of
 * the store. */
void cluster_apply(struct cluster *c, struct store *s,
                   const struct raft_conf_change *cc, int64_t now_ns);

/*
 * What an entry of the log did, or will do, to the membership when applied:
 * nothing if it is no change, or one that is not allowed. For looking ahead;
 * s as above.
 */
void cluster_replay(struct cluster *c, struct store *s,
                    const struct raft_entry *entry, int learners_max);

/*
 * A v2 PUT below /0 has just been applied to the store: if it was a member's
 * attributes or the cluster version, follow it. True if the version changed.
 */
bool cluster_follow_put(struct cluster *c, struct str path, struct str value);

/*
 * Must a PUT from the log not be applied to the store, because it is the
 * attributes of a removed member? Ask before applying any PUT below /0.
 */
bool cluster_skips_put(const struct cluster *c, struct str path);

/* Read everything below /0, after a restart or an installed snapshot. */
void cluster_recover(struct cluster *c, const struct store *s);

/* --strict-reconfig-check (spec 2.5). A member with a name has started: the
 * founders from the beginning, later ones once they published theirs. */
bool cluster_can_add(const struct cluster *c);
bool cluster_can_remove(const struct cluster *c, uint64_t id);
bool cluster_can_promote(const struct cluster *c, uint64_t id);

/* Path and value of the v2 PUT that publishes a member's attributes. */
void cluster_attributes_path(struct buf *b, uint64_t id);
void cluster_attributes_json(struct buf *b, const char *name,
                             const struct url_list *client_urls);
/* The same of plain strings. */
void cluster_attributes_json_of(struct buf *b, struct str name,
                                const struct str *client_urls, size_t n);

#endif
