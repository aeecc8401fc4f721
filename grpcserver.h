/*
 * grpcserver.h - the gRPC door: HTTP/2 connections, handed over by http.c, and
 * the calls on them (rpc.h).
 *
 * A connection has its thread, which reads, parses and runs handlers. What they
 * and others answer is written by whoever produced it if nobody is writing just
 * then, without waiting; the rest, when the client is slow or there is much,
 * is left to the connection's thread, which waits for the socket both ways. So
 * nobody waits for a slow client, and a lone call costs no hand-over.
 *
 * LIMITS  --max-concurrent-streams; a message --max-request-bytes and 512 KiB;
 * what unfinished messages of all connections hold together, GRPC_PARTIAL_MAX;
 * headers 64 KB; what a stream has waiting, RPC_QUEUE_MAX; calls in all,
 * GRPC_CALLS_MAX. Who does not read its answers is not served further ones.
 */
#ifndef GRPCSERVER_H
#define GRPCSERVER_H

#include "net.h"
#include "server.h"

#define GRPC_PARTIAL_MAX (256u * 1024 * 1024)
#define GRPC_CALLS_MAX 262144

struct grpcserver;

struct grpcserver *grpcserver_new(struct server *s);
/* Serve a connection until its end; takes `first`, what was read of it. arg is
 * the struct grpcserver. (http_server_options.h2) */
void grpcserver_serve(struct net_stream *stream, struct buf *first, void *arg);
/*
 * End streams and who waits for others ("etcdserver: server stopped"), say
 * GOAWAY, and let the rest end: connections close by themselves then. Before
 * http_server_stop(), which ends the others.
 */
void grpcserver_shutdown(struct grpcserver *g);
/* No connection may be left, nor a call: stop the server first. */
void grpcserver_free(struct grpcserver *g);

#endif
