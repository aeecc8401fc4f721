/*
 * grpcclient.h - a client of an etcd cluster over gRPC: several endpoints, the
 * one that works, calls that may be tried again, and the token of a user.
 *
 * It follows etcd's own client (clientv3). A call goes to the endpoint that
 * answered last, and from there round the list: endpoints that cannot be
 * reached are passed over until the deadline. UNAVAILABLE of a call that
 * changes nothing leads to the next endpoint, too; one that might have been
 * carried out is never sent twice. With a user, a token is fetched before the
 * first call, and again when a server does not know it any more.
 *
 * All functions may be called from any thread, but for close. Results are
 * those of grpcconn.h: GRPC_OK, or a status and its text in e.
 */
#ifndef GRPCCLIENT_H
#define GRPCCLIENT_H

#include "grpcconn.h"

struct grpc_client;

struct grpc_client_options {
    const char *const *endpoints; /* URLs, or host:port; at least one */
    size_t n_endpoints;
    int64_t dial_ns;             /* for each attempt to connect; 0: none */
    const char *user, *password; /* NULL: nobody */
    bool tls;                    /* an endpoint without a scheme has TLS */
    struct grpc_conn_options conn;
};

/* Copies o. No endpoint is asked yet. Returns owned: grpc_client_close(). NULL
 * and e if an endpoint cannot be read. */
struct grpc_client *grpc_client_new(const struct grpc_client_options *o,
                                    struct err *e);
/* After all calls and streams have ended. NULL is fine. */
void grpc_client_close(struct grpc_client *c);

/*
 * Get a token, if there is a user and none yet; calls do it by themselves, but
 * here the reason of a failure is told apart. A cluster without auth is fine.
 */
int grpc_client_login(struct grpc_client *c, int64_t deadline_ns,
                      struct err *e);

enum grpc_kind {
    GRPC_READS,  /* may be sent again */
    GRPC_WRITES, /* only if it was not acted upon */
};

/* A unary call: *answer (cleared first) is the response's bytes. */
int grpc_client_call(struct grpc_client *c, const char *path,
                     enum grpc_kind kind, struct str request,
                     int64_t deadline_ns, struct buf *answer, struct err *e);

/*
 * Begin a stream at an endpoint that can be reached. When it ends with
 * GRPC_UNAVAILABLE, grpc_client_next() and a new one are up to the caller.
 */
int grpc_client_stream(struct grpc_client *c, const char *path,
                       int64_t deadline_ns, struct grpc_stream **out,
                       struct err *e);
/* Likewise for a stream that ends when its server sees no leader any more. */
int grpc_client_watch(struct grpc_client *c, const char *path,
                      struct grpc_stream **out, struct err *e);
void grpc_client_next(struct grpc_client *c); /* begin with another endpoint */
/* Forget the token: the next call fetches a new one. */
void grpc_client_logout(struct grpc_client *c);
/* Is this what a server says to a token that it does not know (any more)? */
bool grpc_client_token_is_stale(int status, const struct err *e);

/* Why the last endpoint could not be reached; "" if all could. Copies. */
void grpc_client_why(struct grpc_client *c, struct buf *out);
/* What answers is no gRPC server: a round of all endpoints has met none. */
bool grpc_client_alien(struct grpc_client *c);

#endif
