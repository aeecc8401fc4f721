/*
 * ctl.h - etcdctl's own declarations: the command line as parsed, the
 * connection to a cluster, and the commands.
 *
 * One thread, one command, one process: a struct ctl is everything that the
 * command needs. A command prints its result and its errors itself and
 * returns the exit code.
 */
#ifndef CTL_H
#define CTL_H

#include "buf.h"
#include "json.h"

#include <sys/types.h>

/* The program; argv[0] is etcdctl. Returns the exit code. */
int etcdctl_main(int argc, char **argv);
int etcdutl_main(int argc, char **argv); /* argv[0] is etcdutl */

/* Exit codes of the v2 commands (spec: etcdctl, A2). */
enum {
    CTL_OK = 0,
    CTL_BAD_ARGS = 1, /* also: errors of member, user, role and auth */
    CTL_BAD_CONNECTION = 2,
    CTL_NO_COMMAND = 3,
    CTL_SERVER_ERROR = 4,
    CTL_NOT_HEALTHY = 5,
};

/* --- The command line. -------------------------------------------------- */

enum ctl_type { CTL_BOOL, CTL_INT, CTL_STRING, CTL_DURATION };

/* Tables end with a row whose name is NULL. */
struct ctl_option {
    const char *name, *alias; /* without dashes; alias may be NULL */
    enum ctl_type type;
    const char *what; /* the value's name in the help; NULL for CTL_BOOL */
    const char *help;
};

/* What ETCDCTL_API asks for. */
enum ctl_mode { CTL_MODE_UNSET, CTL_MODE_V2, CTL_MODE_V3 };

struct ctl_setting {
    const struct ctl_option *option;
    const char *value; /* checked against the option's type; NULL: true */
};

/* Settings may also come from so many variables of the environment. */
#define CTL_VARIABLES_MAX 32

struct ctl_client;
struct ctlv3;

struct ctl {
    enum ctl_mode mode;
    struct ctl_setting *settings; /* as given; the last of a name counts */
    size_t n_settings;
    char **args; /* of the command, without options */
    size_t n_args;
    struct ctl_client *client; /* NULL until ctl_connect() */
    struct ctlv3 *v3;          /* of a v3 command (ctlv3.h) */
};

/* Values of options by long name, which were checked while parsing. */
const char *ctl_string(const struct ctl *c, const char *name,
                       const char *fallback);
bool ctl_given(const struct ctl *c, const char *name);
bool ctl_bool(const struct ctl *c, const char *name); /* false if not given */
bool ctl_bool_or(const struct ctl *c, const char *name, bool fallback);
int64_t ctl_int(const struct ctl *c, const char *name, int64_t fallback);
int64_t ctl_duration_ns(const struct ctl *c, const char *name,
                        int64_t fallback);

bool ctl_value_fits(enum ctl_type type, const char *value);

/* Of the v2 command line: is there such a command (second: in the group first,
 * or NULL), does it take this option, does an option before it take a value? */
bool ctlv2_has_verb(const char *first, const char *second);
bool ctlv2_knows_option(const char *first, const char *second, struct str name);
bool ctlv2_option_takes_value(const char *name);
void ctlv2_print_only_verbs(void); /* a part of the help */

/*
 * --cacert, --cert, --key and their kin (ctlsecure.c), of names that begin with
 * prefix, "" or "dest-". Do they ask for TLS where an endpoint has no scheme?
 */
struct secure;
bool ctl_wants_tls(const struct ctl *c, const char *prefix);
/* For dialling; h2: gRPC. *out is the caller's: secure_free(). 0, or -1 and e. */
int ctl_secure(const struct ctl *c, const char *prefix, bool h2,
               struct secure **out, struct err *e);

/*
 * Ask for a line on standard input, with echo off if that is a terminal. The
 * prompt goes to stdout, as etcd's does. Without an answer *out stays empty.
 */
void ctl_ask_secret(const char *prompt, struct buf *out);

/* --- A connection to the cluster. --------------------------------------- */

struct ctl_request {
    const char *method;
    const char *path;         /* decoded, such as "/v2/keys/a b" */
    const char *query;        /* encoded, without "?"; NULL: none */
    const char *content_type; /* of the body; NULL: none */
    const struct buf *body;   /* NULL: none */
    bool one_shot; /* not to be sent twice: what was sent may have been done */
    bool wait;     /* a watch: the total timeout does not apply */
};

struct ctl_answer {
    int status;
    uint64_t index; /* X-Etcd-Index, 0 if absent */
    struct buf body;
};

/* Why no endpoint gave an answer. */
struct ctl_error {
    bool connection;    /* nothing was reached: exit code 2 when syncing */
    bool no_answer;     /* not even an unwelcome one */
    struct buf message; /* "client: etcd cluster is unavailable ..." */
    struct buf detail;  /* a line per endpoint; empty: not asked several */
};

void ctl_answer_release(struct ctl_answer *a);
void ctl_error_release(struct ctl_error *e);

enum ctl_sync { CTL_NO_SYNC, CTL_SYNC };

/*
 * Find the endpoints (options, environment, DNS) and, unless --no-sync, let
 * the cluster name its members. 0, or the exit code after a message.
 */
int ctl_connect(struct ctl *c, enum ctl_sync sync);
void ctl_disconnect(struct ctl *c);

/* The clock of --total-timeout starts anew. */
void ctl_start_clock(struct ctl *c);

/*
 * Ask the endpoints in turn, beginning with the one that answered last. 0 and
 * any answer below status 500 in *a (owned), or -1 and *e (owned).
 */
int ctl_do(struct ctl *c, const struct ctl_request *r, struct ctl_answer *a,
           struct ctl_error *e);

/*
 * The same for a JSON body, or none (NULL). 0 and *a (owned), or CTL_BAD_ARGS
 * after the bare message.
 */
int ctl_send(struct ctl *c, const char *method, const char *path,
             const struct buf *body, struct ctl_answer *a);

/* GET of an absolute URL, for health checks: 0, or -1 and e. */
int ctl_get_url(struct ctl *c, const char *url, struct ctl_answer *a,
                struct err *e);

/* Append the client endpoints that DNS has for the domain, as URLs, to *texts
 * (owned, as are they); name, "" or not, is part of the service's name. 0, or
 * -1 and e. */
int ctl_discover(const char *domain, const char *name, char ***texts, size_t *n,
                 struct err *e);

/* "Cluster-Endpoints: ..." if --debug. */
void ctl_debug_endpoints(const struct ctl *c);

/* --- Saying what went wrong. -------------------------------------------- */

/* stderr "Error:  TEXT", then detail and, where that is allowed, advice. */
int ctl_fail(const struct ctl *c, int code, const struct ctl_error *e);
/* The same for one's own text. */
int ctl_fail_text(int code, const char *fmt, ...) PRINTF(2, 3);
/* The bare text, as member, user, role and auth print it; CTL_BAD_ARGS. */
int ctl_say(const char *fmt, ...) PRINTF(1, 2);
int ctl_say_error(const struct ctl *c, const struct ctl_error *e);
/* The server's {"message":...}, or why that cannot be read. */
int ctl_say_message(const struct ctl_answer *a);

/* stdout could not be written: CTL_BAD_ARGS after a message, else 0. */
int ctl_flush(void);

/*
 * Start argv (ends with NULL) with more (likewise: "NAME=value") added to the
 * environment, and with nothing to read. 0 and *pid, or -1 and e, in the words
 * of Go.
 */
int ctl_spawn(char **argv, char *const *more, pid_t *pid, struct err *e);

/* --- Small tools. ------------------------------------------------------- */

/* Go's %q of bytes. */
void ctl_quote(struct buf *b, struct str s);
/* "a,b" of an array of strings. */
void ctl_join(struct buf *b, const struct json *array, const char *sep);
/* Go's path.Clean, but a final slash stays. */
void ctl_clean_path(struct buf *b, struct str path);

/*
 * Responses of the keys API in the formats of -o (spec: etcdctl, A3). False
 * if the format is unknown; nothing is added then.
 */
bool ctl_format_response(struct buf *out, const struct json *response,
                         uint64_t index, const char *format);
/* One line per key, parents first; dirs end in / if asked to. */
void ctl_format_listing(struct buf *out, const struct json *response,
                        bool mark_dirs);

/* --- Commands of the v2 API. -------------------------------------------- */

/* GET and parse; -1 with *e when nobody answers usefully. */
int ctlv2_get_json(struct ctl *c, const char *path, struct json **out,
                   struct ctl_error *e);
/* The settings of the environment with which a member that was added, id, is
 * to be started; members is what the cluster lists. */
void ctlv2_print_joining(const struct json *members, struct str id,
                         const char *name);

int ctl_backup(struct ctl *c);
int ctl_recover_status(struct ctl *c);
int ctl_recover_rejoin(struct ctl *c);

int ctlv2_get(struct ctl *c);
int ctlv2_get_if_there(struct ctl *c); /* nothing if not, or without v2 */
int ctlv2_ls(struct ctl *c);
int ctlv2_set(struct ctl *c);
int ctlv2_mk(struct ctl *c);
int ctlv2_mkdir(struct ctl *c);
int ctlv2_setdir(struct ctl *c);
int ctlv2_update(struct ctl *c);
int ctlv2_updatedir(struct ctl *c);
int ctlv2_rm(struct ctl *c);
int ctlv2_rmdir(struct ctl *c);
int ctlv2_watch(struct ctl *c);
int ctlv2_exec_watch(struct ctl *c);
int ctlv2_cluster_health(struct ctl *c);
int ctlv2_member_list(struct ctl *c);
int ctlv2_member_add(struct ctl *c);
int ctlv2_member_remove(struct ctl *c);
int ctlv2_member_update(struct ctl *c);

int ctlv2_user_add(struct ctl *c);
int ctlv2_user_get(struct ctl *c);
int ctlv2_user_list(struct ctl *c);
int ctlv2_user_remove(struct ctl *c);
int ctlv2_user_grant(struct ctl *c);
int ctlv2_user_revoke(struct ctl *c);
int ctlv2_user_passwd(struct ctl *c);
int ctlv2_role_add(struct ctl *c);
int ctlv2_role_get(struct ctl *c);
int ctlv2_role_list(struct ctl *c);
int ctlv2_role_remove(struct ctl *c);
int ctlv2_role_grant(struct ctl *c);
int ctlv2_role_revoke(struct ctl *c);
int ctlv2_auth_enable(struct ctl *c);
int ctlv2_auth_disable(struct ctl *c);

#endif
