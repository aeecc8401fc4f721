/*
 * rpccount.h - what calls are counted by: grpc_server_... and the bytes of
 * clients' messages (spec: metrics, 6 and 7). Relaxed atomics, from any thread.
 */
#ifndef RPCCOUNT_H
#define RPCCOUNT_H

#include "metrics.h"
#include "rpcpb.h"

/* version: the metadata client-api-version, or "". */
void rpc_count_start(const struct rpc_method *m, struct str version);
void rpc_count_received(const struct rpc_method *m, size_t bytes);
void rpc_count_sent(const struct rpc_method *m, size_t bytes);
/* Once for each start. code: enum grpc_status. took_ns: for the histogram. */
void rpc_count_end(const struct rpc_method *m, int code, int64_t took_ns);
/* All samples; extensive: with the histogram (--metrics). */
void rpc_count_page(struct metrics_page *p, bool extensive);

#endif
