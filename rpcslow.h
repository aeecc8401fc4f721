/*
 * rpcslow.h - what the log says of calls that took long: who asked, for what,
 * how much, and which stage it was that took the time. Values are never shown,
 * and of keys only the beginning.
 *
 * At most SLOW_LINES_MAX lines a second: a server in trouble has many slow calls,
 * and must not be slowed further by telling so. The next line says how many
 * were left out.
 */
#ifndef RPCSLOW_H
#define RPCSLOW_H

#include "rpc.h"

#define SLOW_LINES_MAX 10

/* A call that has ended; not those that wait by their nature (streams, locks,
 * elections), of which nothing is said. */
void rpc_slow(const struct rpc_call *c, int code, int64_t took_ns);

#endif
