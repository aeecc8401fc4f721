/*
 * v3peer.h - what members ask each other about the v3 state, on peer URLs:
 * /leases, /leases/internal, /members/hashkv (spec: raft-and-storage, 11.1).
 */
#ifndef V3PEER_H
#define V3PEER_H

#include "http.h"
#include "server.h"

/* False: the path is none of these, and nothing was answered. */
bool v3_peer_handle(struct server *s, struct http_exchange *x);

#endif
