/*
 * etcdpb.h - the requests that stand in normal log entries: the v2 Request
 * and the InternalRaftRequest of v3. Pure codecs over pb.h.
 *
 * etcd 3.2 to 3.5 proposes a v2 Request bare. Its second field is a string
 * such as "PUT", which cannot be read as InternalRaftRequest.v2 (a message),
 * and so the two are told apart (spec: raft-and-storage, 4.2).
 */
#ifndef ETCDPB_H
#define ETCDPB_H

#include "buf.h"

enum { ETCDPB_EINVAL = -1 };

enum tristate { TRI_UNSET = 0, TRI_FALSE, TRI_TRUE };

/* etcdserverpb.Request. Strings are borrowed. */
struct v2_request {
    uint64_t id;
    struct str method; /* GET PUT POST DELETE QGET SYNC */
    struct str path;   /* in the store: user keys are below /1 */
    struct str val;
    bool dir;
    struct str prev_value;
    uint64_t prev_index;
    enum tristate prev_exist;
    int64_t expiration; /* unix ns, 0: none */
    bool wait;
    uint64_t since;
    bool recursive, sorted, quorum;
    int64_t time; /* SYNC: unix ns of the leader */
    bool stream;
    enum tristate refresh;
};

void etcdpb_encode_v2_request(struct buf *b, const struct v2_request *r);
/* Borrows from p. */
int etcdpb_decode_v2_request(const void *p, size_t n, struct v2_request *out);

/* A normal entry's data: which kind it is, and where its parts stand. */
enum entry_kind {
    ENTRY_EMPTY,    /* a new leader's confirmation */
    ENTRY_V2,       /* v2 is set */
    ENTRY_INTERNAL, /* an InternalRaftRequest without v2: id and field */
};

struct entry_request {
    enum entry_kind kind;
    struct v2_request v2;
    uint64_t id;            /* header.ID, or ID */
    struct str username;    /* header: who asked; borrowed, "" for nobody */
    uint64_t auth_revision; /* header: of the auth store that allowed it */
    uint32_t field;         /* number of the request's field: 4 for put */
    struct str bytes;       /* that field's message; borrowed */
};

int etcdpb_decode_entry(const void *p, size_t n, struct entry_request *out);

/*
 * Append an InternalRaftRequest as etcd proposes it: one request, already
 * encoded, as the given field (rpcpb.h lists them), and the header. The fields
 * stand in the order of their numbers, the header's being 100.
 */
void etcdpb_encode_internal(struct buf *b, uint64_t id, struct str username,
                            uint64_t auth_revision, uint32_t field,
                            struct str bytes);

#endif
