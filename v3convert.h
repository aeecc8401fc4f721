/*
 * v3convert.h - requests as they come off the wire (rpcpb.h) as the key space
 * takes them (mvcc.h). Pure. What comes out borrows from what goes in.
 */
#ifndef V3CONVERT_H
#define V3CONVERT_H

#include "mvcc.h"
#include "rpcpb.h"

void v3_range_of(const struct rpcpb_range_request *in, struct mvcc_range *out);
void v3_put_of(const struct rpcpb_put_request *in, struct mvcc_put *out);
void v3_delete_range_of(const struct rpcpb_delete_range_request *in,
                        struct mvcc_delete_range *out);
/*
 * The lists are made in the arena. False beyond its limit. It recurses as deep
 * as the request is nested: msg_decode() bounds that.
 */
bool v3_txn_of(const struct rpcpb_txn_request *in, struct arena *a,
               struct mvcc_txn *out);

#endif
