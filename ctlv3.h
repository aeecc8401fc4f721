/*
 * ctlv3.h - the v3 commands of etcdctl, and etcdutl: what their files share.
 *
 * A command prints its result and its errors itself and returns the exit code,
 * as all of etcdctl does (ctl.h). Its messages live in the arena of c->v3 until
 * the command ends.
 */
#ifndef CTLV3_H
#define CTLV3_H

#include "ctl.h"
#include "grpcclient.h"
#include "rpcpb.h"

/* Exit codes (spec: etcdctl, B2). */
enum {
    CTLV3_ERROR = 1,
    CTLV3_BAD_CONNECTION = 2,
    CTLV3_INVALID_INPUT = 3,
    CTLV3_BAD_FEATURE = 4,
    CTLV3_INTERRUPTED = 5,
    CTLV3_IO = 6,
    CTLV3_BAD_ARGS = 128,
};

enum ctlv3_format {
    CTLV3_SIMPLE,
    CTLV3_JSON,
    CTLV3_FIELDS,
    CTLV3_PROTOBUF,
    CTLV3_TABLE
};

struct ctlv3_program;

struct ctlv3 {
    const struct ctlv3_program *program; /* ctlv3line.h */
    struct grpc_client *client;          /* NULL until ctlv3_connect() */
    struct secure *secure; /* owned; NULL until the first client */
    struct arena arena;
    enum ctlv3_format format;
    bool hex;
    int64_t command_ns; /* of a call; 0 or less: its time is up at once */
    size_t n_plain;     /* arguments before --; n_args if there was none */
    bool may_be_v2;     /* and then v2 may have it if the server has no v3 */
    bool had_dash;      /* there was one */
    char **endpoints;   /* owned, as is all in it */
    size_t n_endpoints;
    size_t n_from_env; /* settings that no option gave */
    bool no_stdin;     /* what is there is not a value */
    struct buf password; /* of --user, as typed when asked for */
    bool asked;
};

/* --- Errors. --------------------------------------------------------------- */

/* stderr "Error: TEXT"; returns code. */
int ctlv3_fail(int code, const char *fmt, ...) PRINTF(2, 3);
/* What a command returns when the server has no v3 API, or no such key, and the
 * mode allows to try the v2 form of the command line (etcdctl.c). */
#define CTLV3_TRY_V2 (-1)

/* --- The cluster. ----------------------------------------------------------- */

/* Read the global options: format, timeouts, endpoints. 0, or the exit code. */
int ctlv3_setup(struct ctl *c);
void ctlv3_release(struct ctl *c);
/* Make c->v3->client, and log the user in. 0, or the exit code. */
int ctlv3_connect(struct ctl *c);
/* Read the certificates, see that there are endpoints, and ask for a password
 * that is missing: once before clients are made, and threads that make them. 0,
 * or the exit code. */
int ctlv3_prepare(struct ctl *c);
/* Before a command asks endpoint by endpoint: with --user as ctlv3_connect(), so
 * that a wrong password is told once. */
int ctlv3_login(struct ctl *c);
/* A client of one endpoint alone, or of those given (NULL and a message). */
struct grpc_client *ctlv3_client_of(struct ctl *c, const char *const *endpoints,
                                    size_t n, struct err *e);
int64_t ctlv3_deadline(const struct ctl *c); /* of a call that begins now */
int64_t ctlv3_dial_ns(const struct ctl *c);  /* --dial-timeout; 0: none */

/*
 * A unary call by the method table; connects if need be. ctlv3_call() says what is
 * wrong and returns the exit code. ctlv3_try() returns the status of grpc.h with
 * its text in e instead.
 */
int ctlv3_call(struct ctl *c, enum rpc_method_id id, const void *request,
               void *response);
int ctlv3_try(struct ctl *c, struct grpc_client *client, enum rpc_method_id id,
              const void *request, void *response, struct err *e);
/* As ctlv3_try(), of one endpoint alone, over a connection of its own. */
int ctlv3_ask(struct ctl *c, const char *endpoint, enum rpc_method_id id,
              const void *request, void *response, struct err *e);
/* The message for a status of ctlv3_try(), and code; or CTLV3_TRY_V2, if the
 * server has no v3 API and the command line would do for v2. */
int ctlv3_fail_status(struct ctl *c, int code, const struct err *e);
/* "WHAT (TEXT)"; CTLV3_ERROR, or CTLV3_TRY_V2. */
int ctlv3_fail_named(struct ctl *c, const char *what, const struct err *e);

/* One message to a stream, or from it (as grpc_stream_read()). */
void ctlv3_send(struct grpc_stream *s, enum rpc_method_id id,
                const void *request);
int ctlv3_receive(struct grpc_stream *s, enum rpc_method_id id, struct arena *a,
                  void *response, int64_t wait_until_ns, struct err *e);

/* --- Ranges and numbers. ----------------------------------------------------- */

/* The end of the range of all keys with this prefix; owned by the arena. */
struct str ctlv3_prefix_end(struct ctl *c, struct str prefix);
#define CTLV3_FROM_KEY STR("\0") /* the end of a range without one */
/* The key and end of [KEY, END), --prefix and --from-key, which no command has
 * both. Empty prefixes and keys mean all keys. */
struct ctlv3_range {
    struct str key, end;
};
struct ctlv3_range ctlv3_range_of(struct ctl *c, const char *key,
                                  const char *end, bool prefix, bool from_key);
/* Like Go's strconv, and *why is its error. */
bool ctlv3_parse_int(const char *s, int base, int64_t *out, char **why);
bool ctlv3_parse_uint(const char *s, int base, uint64_t *out, char **why);
/* False after a message: "bad lease ID (...), expecting ID in Hex". */
bool ctlv3_lease_id(const char *s, const char *what, int64_t *out);

/* --- Output (ctlv3format.c, ctlv3print.c). ---------------------------------------- */

/* Append as Go's encoding/json prints the message's struct. */
void ctlv3_json(struct buf *b, const struct msg_desc *d, const void *msg);
/* Its fields without the braces around them, for b inside an object. */
void ctlv3_json_fields(struct buf *b, const struct msg_desc *d,
                       const void *msg);
/* A list of bytes, each as base64; null if there are none. */
void ctlv3_json_bytes(struct buf *b, const struct str *items, size_t n);
void ctlv3_json_uint(struct buf *b, const char *name, uint64_t v);
void ctlv3_json_int(struct buf *b, const char *name, int64_t v);

/* A table as etcdctl draws it: cells row by row, the head first. */
struct ctlv3_table {
    size_t n_columns;
    char **cells; /* owned */
    size_t n_cells;
};
void ctlv3_table_add(struct ctlv3_table *t, const char *fmt, ...) PRINTF(2, 3);
void ctlv3_table_print(struct ctlv3_table *t); /* and release */

/* "25 kB", as etcdctl prints sizes. */
void ctlv3_human_bytes(struct buf *b, uint64_t n);
/* "fields not supported as output format", CTLV3_BAD_FEATURE. */
int ctlv3_unsupported(const struct ctl *c);
/* Print the message whole, if the format is JSON or protobuf: true. */
bool ctlv3_print_whole(const struct ctl *c, const struct msg_desc *d,
                       const void *msg);
/* The same for one that has no form in fields. */
int ctlv3_print_simple(struct ctl *c, const struct msg_desc *d, const void *msg,
                       const char *fmt, ...) PRINTF(4, 5);
/* "Name" : "value", quoted as Go does. */
void ctlv3_print_quoted(const char *name, struct str value);
/* The four lines of a header in fields. NULL is an empty one. */
void ctlv3_print_header(const struct rpcpb_response_header *h);
void ctlv3_print_kv(const struct ctl *c, const struct rpcpb_key_value *kv,
                    bool value_only);
int ctlv3_print_get(struct ctl *c, const struct rpcpb_range_response *r,
                    bool value_only);
int ctlv3_print_put(struct ctl *c, const struct rpcpb_put_response *r);
int ctlv3_print_del(struct ctl *c, const struct rpcpb_delete_range_response *r);
int ctlv3_print_txn(struct ctl *c, const struct rpcpb_txn_response *r);
int ctlv3_print_watch(struct ctl *c, const struct rpcpb_watch_response *r);
/* A response whose simple form is one line (said already), and in fields but a
 * header. */
int ctlv3_print_plain(struct ctl *c, const struct msg_desc *d, const void *msg,
                      const struct rpcpb_response_header *h, const char *fmt,
                      ...) PRINTF(5, 6);

/* --- Words and requests of txn and watch (ctlv3words.c): pure. --------------------- */

struct ctlv3_words {
    char **words; /* owned */
    size_t n;
};
/* Split a line as etcdctl does: blanks outside of quotes; quoted words are
 * Go's strings. */
void ctlv3_split(struct ctlv3_words *w, struct str line);
void ctlv3_words_release(struct ctlv3_words *w);
/* Undo Go's quoting: of "..." or '...' or `...`. False: malformed. */
bool ctlv3_unquote(struct str s, struct buf *out);

/* 0, or CTLV3_INVALID_INPUT and e. What it gives lives in the arena. */
int ctlv3_parse_compare(struct arena *a, struct str line,
                        struct rpcpb_compare *out, struct err *e);

/* Parse words as the arguments of a command, into a fresh *sub that shares
 * c's client: 0, or the text of what is wrong (owned). Release with
 * ctlv3_sub_release(). */
char *ctlv3_sub_parse(struct ctl *c, const char *verb,
                      const struct ctlv3_words *w, struct ctl *sub);
void ctlv3_sub_release(struct ctl *sub);

/* Requests from a command's arguments; 0, or the exit code after a message. */
int ctlv3_get_request(struct ctl *c, struct rpcpb_range_request *r);
int ctlv3_put_request(struct ctl *c, struct rpcpb_put_request *r);
int ctlv3_del_request(struct ctl *c, struct rpcpb_delete_range_request *r);

/* --- Leases (ctlv3lease.c). ----------------------------------------------------- */

/* Keep a lease alive from a thread of its own until ctlv3_keeper_stop(). */
struct ctlv3_keeper;
struct ctlv3_keeper *ctlv3_keeper_start(struct ctl *c, int64_t lease,
                                        int64_t ttl);
bool ctlv3_keeper_lost(struct ctlv3_keeper *k); /* the lease is gone */
void ctlv3_keeper_stop(struct ctlv3_keeper *k); /* NULL is fine */

/* SIGINT and SIGTERM are noted from now on instead of ending the program. */
void ctlv3_catch_signals(void);
bool ctlv3_caught(void);

/* --- Commands, by the file that has them. ---------------------------------------- */

typedef int ctlv3_command(struct ctl *c);

/* ctlv3kv.c, ctlv3txn.c */
ctlv3_command ctlv3_get, ctlv3_put, ctlv3_del, ctlv3_compaction, ctlv3_txn;
/* ctlv3watch.c */
ctlv3_command ctlv3_watch;
/* ctlv3lease.c */
ctlv3_command ctlv3_lease_grant, ctlv3_lease_revoke, ctlv3_lease_time_to_live,
    ctlv3_lease_list, ctlv3_lease_keep_alive;
/* ctlv3lock.c */
ctlv3_command ctlv3_lock, ctlv3_elect;
/* ctlv3cluster.c */
ctlv3_command ctlv3_member_list, ctlv3_member_add, ctlv3_member_remove,
    ctlv3_member_update, ctlv3_member_promote, ctlv3_move_leader;
/* ctlv3endpoint.c */
ctlv3_command ctlv3_endpoint_health, ctlv3_endpoint_status,
    ctlv3_endpoint_hashkv, ctlv3_alarm_list, ctlv3_alarm_disarm, ctlv3_defrag,
    ctlv3_downgrade_validate, ctlv3_downgrade_enable, ctlv3_downgrade_cancel;
/* ctlv3auth.c */
ctlv3_command ctlv3_auth_enable, ctlv3_auth_disable, ctlv3_auth_status,
    ctlv3_user_add, ctlv3_user_delete, ctlv3_user_get, ctlv3_user_list,
    ctlv3_user_passwd, ctlv3_user_grant_role, ctlv3_user_revoke_role,
    ctlv3_role_add, ctlv3_role_delete, ctlv3_role_get, ctlv3_role_list,
    ctlv3_role_grant, ctlv3_role_revoke;
/* ctlv3snap.c */
ctlv3_command ctlv3_snapshot_save;
/* ctlmigrate.c */
ctlv3_command ctlv3_migrate;
/* ctlv3check.c */
ctlv3_command ctlv3_check_perf, ctlv3_check_datascale;
/* ctlv3mirror.c */
ctlv3_command ctlv3_make_mirror;

extern const struct ctlv3_program ctlv3_etcdctl;
bool ctlv3_has_verb(const char *name);
/* An option of every v3 command, for who must pass over it; or NULL. */
const struct ctl_option *ctlv3_global_option(struct str name);

#endif
