/*
 * v2.h - the v2 HTTP API: keys, members, machines, stats, auth (spec: v2-api).
 *
 * Handlers run on the connection's own thread; all functions may be called
 * from any number of threads at once.
 */
#ifndef V2_H
#define V2_H

#include "http.h"
#include "server.h"

/* Serve x if its path is below /v2. False: not ours, nothing answered. */
bool v2_handle(struct server *s, struct http_exchange *x);

/* Wake every watcher that waits, for shutdown; later watches end at once. */
void v2_stop(void);

/*
 * v2 auth (v2auth.c). May this request read or write path (as the client wrote
 * it, after /v2/keys)? True also while auth is off.
 */
bool v2auth_key_allowed(struct server *s, struct http_exchange *x,
                        struct str path, bool write, bool recursive);
/* Has the request's user the role root? True also while auth is off. */
bool v2auth_is_root(struct server *s, struct http_exchange *x);
/* Serve /v2/auth/... */
void v2auth_handle(struct server *s, struct http_exchange *x);

/* --- What all JSON pages of etcd share (also used by v2auth and admin). -- */

/* Is the method in the list "GET,PUT"? If not, 405 is answered with Allow. */
bool v2_allow(struct http_exchange *x, const char *methods);
/* X-Etcd-Cluster-Id */
void v2_set_cluster_id(struct server *s, struct http_exchange *x);
/* {"message":"..."} without a newline */
void v2_message(struct http_exchange *x, int status, const char *fmt, ...)
    PRINTF(3, 4);
/* The same of what and a name behind it, which may hold any byte, also NUL. */
void v2_message_named(struct http_exchange *x, int status, const char *what,
                      struct str name);
/* {"errorCode":...}, its status and X-Etcd-Index */
void v2_error(struct http_exchange *x, const struct store_error *e);
/* 500 "Internal Server Error"; the log learns more. */
void v2_internal_error(struct http_exchange *x, const char *why);

/*
 * What a client wrote, for a line of the log: cut to a fair length, and with
 * its control characters replaced, so that it cannot forge lines. Returns out.
 */
#define V2_SHOWN_MAX 128
const char *v2_shown(char out[V2_SHOWN_MAX], struct str s);

/* --- Parameters of /v2/keys: pure. -------------------------------------- */

/*
 * Is the body a form, by this Content-Type? 0, or -1 for a malformed one,
 * with *why in Go's words.
 */
int v2_is_form(struct str content_type, bool *is_form, const char **why);

struct v2_params {
    struct v2_request r; /* all but id, path and expiration; borrows the form */
    bool no_value;       /* noValueOnSuccess */
    bool has_ttl;
    uint64_t ttl_s;
};

/* 0, or the code of the first thing wrong in etcd's order, and *e (owned). */
int v2_parse_params(const struct form *f, struct str method,
                    struct v2_params *out, struct store_error *e);

/* When what is written now with this TTL expires; no later than int64 can
 * tell, which is in the year 2262. */
int64_t v2_expiration(int64_t now_ns, uint64_t ttl_s);

#endif
