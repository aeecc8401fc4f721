/*
 * gateway.h - the JSON door: the v3 API over HTTP/1 (spec: v3-api, 8). A POST
 * to /v3/kv/put with the request as JSON, answered with the response as JSON; a
 * stream's responses come as lines {"result":...}. /v3beta and /v3alpha are the
 * same.
 *
 * Metadata are header fields Grpc-Metadata-NAME; a token may also stand in
 * Authorization. Grpc-Timeout ends the call.
 *
 * A stream's requests are read to the end of the body before the first is
 * answered. A WebSocket (websocket.h) has no such end: each message is a request,
 * or some, or a part of one, and is answered at once by a message for each
 * response. A unary call ends with its answer. A token goes into the subprotocols,
 * "Bearer, TOKEN". A request that is not whole may have about twice the bytes of
 * --max-request-bytes, as in a body.
 */
#ifndef GATEWAY_H
#define GATEWAY_H

#include "http.h"
#include "server.h"

/* Answers x if its path is the gateway's; else false, and nothing was done. */
bool gateway_handle(struct server *s, struct http_exchange *x);
/* End all streams and who waits for others, so that http_server_stop() need
 * not wait for them; those that begin later end at once. */
void gateway_stop(void);

#endif
