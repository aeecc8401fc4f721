/*
 * auth_impl.h - what the files of auth share: auth.c (users, roles, records),
 * authperm.c (who may), authtoken.c (logins and simple tokens).
 */
#ifndef AUTH_IMPL_H
#define AUTH_IMPL_H

#include "auth.h"

#define AUTH_ROOT "root" /* the user, and the role that may do all */

/* Users or roles by name: each item begins with its name. */
struct auth_names {
    struct str **items; /* sorted */
    size_t n, cap;
};

/* Granted ranges, sorted and merged: neither overlapping nor touching. */
struct auth_span {
    struct str begin, end; /* of a single key: up to "key\0" */
    bool open_end;
};

struct auth_spans {
    struct auth_span *v; /* borrows the bytes of the roles' permissions */
    size_t n, cap;
};

enum auth_access { AUTH_READ, AUTH_WRITE };

struct auth_token {
    struct user *user;
    struct auth_token *chain;               /* in the hash table */
    struct auth_token *prev, *next;         /* by last use */
    struct auth_token *prev_own, *next_own; /* of the same user */
    int64_t expiry_ms;
    uint64_t hash;
    size_t len;
    char text[];
};

struct user {
    struct auth_user pub; /* first; all strings owned */
    struct str *roles;    /* what pub.roles shows */

    uint64_t spans_of; /* the epoch that spans are of; 0: of none */
    struct auth_spans spans[2];
    struct auth_token *tokens;
};

struct role {
    struct auth_role pub; /* first; all strings owned */
    struct auth_permission *permissions;
};

struct auth {
    bool enabled;
    uint64_t revision;
    uint64_t epoch; /* moves whenever rights may have changed; from 1 */
    struct auth_names users, roles;

    /* authtoken.c's. */
    int64_t token_ttl_ms;
    struct auth_token **buckets; /* NULL without tokens */
    size_t n_buckets, n_tokens;
    struct auth_token *oldest, *newest; /* by last use */
};

/* NULL if there is none; *at, which may be NULL, is where it belongs. */
void *auth_names_find(const struct auth_names *t, struct str name, size_t *at);

bool auth_has_role(const struct auth_user *u, struct str role);

/* All tokens of the user; all tokens. */
void auth_tokens_drop_user(struct auth *a, struct user *u);
void auth_tokens_drop_all(struct auth *a);

#endif
