/*
 * admin.h - what is not an API of keys: /version, /health, /livez, /readyz,
 * /metrics, /debug/vars, /config/local/log; the peers' /members and /version;
 * and the doors themselves: CORS, host whitelist, path cleaning, 404.
 */
#ifndef ADMIN_H
#define ADMIN_H

#include "http.h"
#include "server.h"

/* http_handlers for the three kinds of listeners; arg is a struct server. */
void admin_client_handler(struct http_exchange *x, void *arg);
void admin_peer_handler(struct http_exchange *x, void *arg);
void admin_metrics_handler(struct http_exchange *x, void *arg);

#endif
