/*
 * v3kv.h - what the services of keys share: the key space's answers as messages.
 */
#ifndef V3KV_H
#define V3KV_H

#include "mvcc.h"
#include "rpcpb.h"

/* Borrows from kv. */
void v3kv_message(const struct mvcc_kv *kv, bool keys_only,
                  struct rpcpb_key_value *out);

#endif
