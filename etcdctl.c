/*
 * etcdctl.c - the command line client: which API has the line, and the command
 * line of the v2 API, its options and its help.
 *
 * ETCDCTL_API decides:
 *
 *   2      the v2 API, as etcdctl 3.2 is by default
 *   3      the v3 API (ctlv3.c); commands that only v2 has still work
 *   unset  the v3 API where it has the command, unless the line can only be
 *          meant for v2 (ctlv3.c tells), or the server has no v3 API
 *
 * Options of v2 follow Go's flag package: -x and --x are the same, values come
 * as --x=v or --x v, and -- ends them. They may stand before or after the
 * arguments. An argument such as -5 is taken for what it is where an argument
 * is still due.
 */
#include "ctlv3line.h"

#include "config.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <termios.h>
#include <unistd.h>

/* --- Tables. ------------------------------------------------------------ */

typedef int command(struct ctl *c);

struct verb {
    const char *name;
    command *run;
    const char *args; /* as the usage line shows them; NULL: none */
    size_t args_max;  /* further ones are ignored, as etcdctl does */
    const char *summary;
    const char *description; /* more lines of help, or NULL */
    const struct ctl_option *options;
    const struct verb *verbs; /* a group of commands */
    const char *section;      /* of the help, on the first of its verbs */
};

#define ARGS_ANY ((size_t)-1)
static const struct ctl_option global_options[] = {
    {"endpoints", NULL, CTL_STRING, "LIST",
     "a comma-delimited list of machine addresses in the cluster (default: "
     "\"http://127.0.0.1:2379,http://127.0.0.1:4001\")"},
    {"no-sync", NULL, CTL_BOOL, NULL,
     "don't synchronize cluster information before sending request"},
    {"discovery-srv", "D", CTL_STRING, "DOMAIN",
     "domain name to query for SRV records describing cluster endpoints"},
    {"insecure-discovery", NULL, CTL_BOOL, NULL,
     "accept insecure SRV records describing cluster endpoints"},
    {"output", "o", CTL_STRING, "FORMAT",
     "output response in the given format: simple, extended or json (default: "
     "\"simple\")"},
    {"debug", NULL, CTL_BOOL, NULL,
     "output cURL commands which can be used to reproduce the request"},
    {"timeout", NULL, CTL_DURATION, "TIME",
     "connection timeout per request (default: 2s)"},
    {"total-timeout", NULL, CTL_DURATION, "TIME",
     "timeout for the command execution, except watch (default: 5s)"},
    {"username", "u", CTL_STRING, "NAME",
     "provide username[:password] and prompt if password is not supplied"},
    {"cert-file", NULL, CTL_STRING, "FILE",
     "identify HTTPS client using this SSL certificate file"},
    {"key-file", NULL, CTL_STRING, "FILE",
     "identify HTTPS client using this SSL key file"},
    {"ca-file", NULL, CTL_STRING, "FILE",
     "verify certificates of HTTPS-enabled servers using this CA bundle"},
    {"endpoint", NULL, CTL_STRING, "LIST",
     "DEPRECATED - \"--endpoints\" should be used instead"},
    {"peers", "C", CTL_STRING, "LIST",
     "DEPRECATED - \"--endpoints\" should be used instead"},
    {"help", "h", CTL_BOOL, NULL, "show help"},
    {"version", "v", CTL_BOOL, NULL, "print the version"},
    {0},
};

static const struct ctl_option ttl_options[] = {
    {"ttl", NULL, CTL_INT, "SECONDS",
     "key time-to-live in seconds (default: 0)"},
    {0},
};
static const struct ctl_option get_options[] = {
    {"sort", NULL, CTL_BOOL, NULL, "returns result in sorted order"},
    {"quorum", "q", CTL_BOOL, NULL, "require quorum for get request"},
    {0}};
static const struct ctl_option ls_options[] = {
    {"sort", NULL, CTL_BOOL, NULL, "returns result in sorted order"},
    {"recursive", "r", CTL_BOOL, NULL,
     "returns all key names recursively for the given path"},
    {"p", NULL, CTL_BOOL, NULL, "append slash (/) to directories"},
    {"quorum", "q", CTL_BOOL, NULL, "require quorum for get request"},
    {0},
};
static const struct ctl_option set_options[] = {
    {"ttl", NULL, CTL_INT, "SECONDS",
     "key time-to-live in seconds (default: 0)"},
    {"swap-with-value", NULL, CTL_STRING, "VALUE", "previous value"},
    {"swap-with-index", NULL, CTL_INT, "INDEX", "previous index (default: 0)"},
    {0},
};
static const struct ctl_option mk_options[] = {
    {"in-order", NULL, CTL_BOOL, NULL,
     "create in-order key under directory <key>"},
    {"ttl", NULL, CTL_INT, "SECONDS",
     "key time-to-live in seconds (default: 0)"},
    {0},
};
static const struct ctl_option rm_options[] = {
    {"dir", NULL, CTL_BOOL, NULL,
     "removes the key if it is an empty directory or a key-value pair"},
    {"recursive", "r", CTL_BOOL, NULL,
     "removes the key and all child keys (if it is a directory)"},
    {"with-value", NULL, CTL_STRING, "VALUE", "previous value"},
    {"with-index", NULL, CTL_INT, "INDEX", "previous index (default: 0)"},
    {0},
};
static const struct ctl_option watch_options[] = {
    {"forever", "f", CTL_BOOL, NULL, "forever watch a key until CTRL+C"},
    {"after-index", NULL, CTL_INT, "INDEX",
     "watch after the given index (default: 0)"},
    {"recursive", "r", CTL_BOOL, NULL,
     "returns all values for key and child keys"},
    {0},
};
static const struct ctl_option exec_watch_options[] = {
    {"after-index", NULL, CTL_INT, "INDEX",
     "watch after the given index (default: 0)"},
    {"recursive", "r", CTL_BOOL, NULL,
     "watch all values for key and child keys"},
    {0},
};
static const struct ctl_option health_options[] = {
    {"forever", "f", CTL_BOOL, NULL,
     "forever check the health every 10 second until CTRL+C"},
    {0},
};
static const struct ctl_option backup_options[] = {
    {"data-dir", NULL, CTL_STRING, "DIR", "path to the etcd data dir"},
    {"wal-dir", NULL, CTL_STRING, "DIR",
     "path to the etcd wal dir (default: member/wal in the data dir)"},
    {"backup-dir", NULL, CTL_STRING, "DIR", "path to the backup dir"},
    {"backup-wal-dir", NULL, CTL_STRING, "DIR",
     "path to the backup wal dir (default: member/wal in the backup dir)"},
    {0},
};
static const struct ctl_option recover_status_options[] = {
    {"wal-dir", NULL, CTL_STRING, "DIR",
     "path to the etcd wal dir (default: member/wal in the data dir)"},
    {0},
};
static const struct ctl_option recover_rejoin_options[] = {
    {"name", NULL, CTL_STRING, "NAME",
     "the member's name, if its data dir no longer tells"},
    {"wal-dir", NULL, CTL_STRING, "DIR",
     "path to the etcd wal dir (default: member/wal in the data dir)"},
    {0},
};
static const struct ctl_option user_grant_options[] = {
    {"roles", NULL, CTL_STRING, "LIST",
     "roles to grant or revoke, separated by commas"},
    {0},
};
static const struct ctl_option role_grant_options[] = {
    {"path", NULL, CTL_STRING, "PATH",
     "path granted for the role to access; a final * stands for all below"},
    {"read", NULL, CTL_BOOL, NULL, "grant read-only access"},
    {"write", NULL, CTL_BOOL, NULL, "grant write-only access"},
    {"readwrite", "rw", CTL_BOOL, NULL, "grant read-write access"},
    {0},
};
static const struct ctl_option role_revoke_options[] = {
    {"path", NULL, CTL_STRING, "PATH",
     "path revoked for the role to access; a final * stands for all below"},
    {"read", NULL, CTL_BOOL, NULL, "revoke read access"},
    {"write", NULL, CTL_BOOL, NULL, "revoke write access"},
    {"readwrite", "rw", CTL_BOOL, NULL, "revoke read-write access"},
    {0},
};

static const struct verb member_verbs[] = {
    {.name = "list",
     .run = ctlv2_member_list,
     .summary = "enumerate existing cluster members"},
    {.name = "add",
     .run = ctlv2_member_add,
     .args = "<name> <peerURL>",
     .args_max = 2,
     .summary = "add a new member to the etcd cluster"},
    {.name = "remove",
     .run = ctlv2_member_remove,
     .args = "<memberID>",
     .args_max = 1,
     .summary = "remove an existing member from the etcd cluster"},
    {.name = "update",
     .run = ctlv2_member_update,
     .args = "<memberID> <peerURLs>",
     .args_max = 2,
     .summary = "update an existing member in the etcd cluster"},
    {0},
};

static const struct verb recover_verbs[] = {
    {.name = "status",
     .run = ctl_recover_status,
     .args = "<data dir>...",
     .args_max = ARGS_ANY,
     .summary = "tell what data directories hold, and what to do next",
     .description = "Reads only, and may be used while a member runs. Of "
                    "several directories of one cluster\n"
                    "   it tells which is the most advanced, whether their "
                    "logs agree, and which writes\n"
                    "   the others lack. Exit status 5: one of them is "
                    "damaged.",
     .options = recover_status_options},
    {.name = "rejoin",
     .run = ctl_recover_rejoin,
     .args = "<data dir>",
     .args_max = 1,
     .summary = "bring back a member whose data is damaged or gone",
     .description = "For a cluster that has a quorum without the member; "
                    "--endpoints are those of the\n"
                    "   others. Moves the data directory aside to "
                    "<data dir>.damaged-<time>, removes the\n"
                    "   member and adds it again. If it is interrupted, give "
                    "the same command again.",
     .options = recover_rejoin_options},
    {0},
};

static const struct verb user_verbs[] = {
    {.name = "add",
     .run = ctlv2_user_add,
     .args = "<user>[:<password>]",
     .args_max = 1,
     .summary = "add a new user for the etcd cluster"},
    {.name = "get",
     .run = ctlv2_user_get,
     .args = "<user>",
     .args_max = 1,
     .summary = "get details for a user"},
    {.name = "list",
     .run = ctlv2_user_list,
     .summary = "list all current users"},
    {.name = "remove",
     .run = ctlv2_user_remove,
     .args = "<user>",
     .args_max = 1,
     .summary = "remove a user for the etcd cluster"},
    {.name = "grant",
     .run = ctlv2_user_grant,
     .args = "<user>",
     .args_max = 1,
     .summary = "grant roles to an etcd user",
     .options = user_grant_options},
    {.name = "revoke",
     .run = ctlv2_user_revoke,
     .args = "<user>",
     .args_max = 1,
     .summary = "revoke roles for an etcd user",
     .options = user_grant_options},
    {.name = "passwd",
     .run = ctlv2_user_passwd,
     .args = "<user>[:<password>]",
     .args_max = 1,
     .summary = "change password for a user"},
    {0},
};

static const struct verb role_verbs[] = {
    {.name = "add",
     .run = ctlv2_role_add,
     .args = "<role>",
     .args_max = 1,
     .summary = "add a new role for the etcd cluster"},
    {.name = "get",
     .run = ctlv2_role_get,
     .args = "<role>",
     .args_max = 1,
     .summary = "get details for a role"},
    {.name = "list", .run = ctlv2_role_list, .summary = "list all roles"},
    {.name = "remove",
     .run = ctlv2_role_remove,
     .args = "<role>",
     .args_max = 1,
     .summary = "remove a role from the etcd cluster"},
    {.name = "grant",
     .run = ctlv2_role_grant,
     .args = "<role>",
     .args_max = 1,
     .summary = "grant path matches to an etcd role",
     .options = role_grant_options},
    {.name = "revoke",
     .run = ctlv2_role_revoke,
     .args = "<role>",
     .args_max = 1,
     .summary = "revoke path matches for an etcd role",
     .options = role_revoke_options},
    {0},
};

static const struct verb auth_verbs[] = {
    {.name = "enable",
     .run = ctlv2_auth_enable,
     .summary = "enable auth access controls"},
    {.name = "disable",
     .run = ctlv2_auth_disable,
     .summary = "disable auth access controls"},
    {0},
};

static const struct verb verbs[] = {
    {.name = "get",
     .run = ctlv2_get,
     .args = "<key>",
     .args_max = 1,
     .summary = "retrieve the value of a key",
     .options = get_options,
     .section = "Keys"},
    {.name = "set",
     .run = ctlv2_set,
     .args = "<key> <value>",
     .args_max = 2,
     .summary = "set the value of a key",
     .description = "Set sets the value of a key. Without <value>, it is read "
                    "from standard input.\n\n"
                    "   When <value> begins with '-', <value> may be "
                    "interpreted as a flag.\n"
                    "   Insert '--' for workaround:\n\n"
                    "   $ set -- <key> <value>",
     .options = set_options},
    {.name = "mk",
     .run = ctlv2_mk,
     .args = "<key> <value>",
     .args_max = 2,
     .summary = "make a new key with a given value",
     .description = "It is an error if the key exists. Without <value>, it is "
                    "read from standard input.",
     .options = mk_options},
    {.name = "update",
     .run = ctlv2_update,
     .args = "<key> <value>",
     .args_max = 2,
     .summary = "update an existing key with a given value",
     .description = "It is an error if the key does not exist. Without "
                    "<value>, it is read from\n   standard input.",
     .options = ttl_options},
    {.name = "rm",
     .run = ctlv2_rm,
     .args = "<key>",
     .args_max = 1,
     .summary = "remove a key or a directory",
     .options = rm_options},
    {.name = "ls",
     .run = ctlv2_ls,
     .args = "[key]",
     .args_max = 1,
     .summary = "retrieve a directory",
     .options = ls_options,
     .section = "Directories"},
    {.name = "mkdir",
     .run = ctlv2_mkdir,
     .args = "<key>",
     .args_max = 1,
     .summary = "make a new directory",
     .options = ttl_options},
    {.name = "setdir",
     .run = ctlv2_setdir,
     .args = "<key>",
     .args_max = 1,
     .summary = "create a new directory or update an existing directory TTL",
     .options = ttl_options},
    {.name = "updatedir",
     .run = ctlv2_updatedir,
     .args = "<key>",
     .args_max = 1,
     .summary = "update an existing directory",
     .options = ttl_options},
    {.name = "rmdir",
     .run = ctlv2_rmdir,
     .args = "<key>",
     .args_max = 1,
     .summary =
         "removes the key if it is an empty directory or a key-value pair"},
    {.name = "watch",
     .run = ctlv2_watch,
     .args = "<key>",
     .args_max = 1,
     .summary = "watch a key for changes",
     .options = watch_options,
     .section = "Watching"},
    {.name = "exec-watch",
     .run = ctlv2_exec_watch,
     .args = "<key> <command> [args...]",
     .args_max = ARGS_ANY,
     .summary = "watch a key for changes and exec an executable",
     .description = "The command finds ETCD_WATCH_ACTION, ETCD_WATCH_KEY, "
                    "ETCD_WATCH_VALUE and\n"
                    "   ETCD_WATCH_MODIFIED_INDEX in its environment. Insert "
                    "'--' before a command\n"
                    "   that has flags of its own:\n\n"
                    "   $ exec-watch <key> -- sh -c 'echo $ETCD_WATCH_VALUE'",
     .options = exec_watch_options},
    {.name = "cluster-health",
     .run = ctlv2_cluster_health,
     .args_max = ARGS_ANY,
     .summary = "check the health of the etcd cluster",
     .options = health_options,
     .section = "Cluster"},
    {.name = "member",
     .summary = "member add, remove and list subcommands",
     .verbs = member_verbs},
    {.name = "backup",
     .run = ctl_backup,
     .args_max = ARGS_ANY,
     .summary = "backup an etcd directory",
     .description = "Copies the newest snapshot and the log of a data "
                    "directory into a new one,\n"
                    "   under new member and cluster IDs, so that it cannot "
                    "meet the old cluster by\n"
                    "   mistake. Start it with: etcd --data-dir <backup dir> "
                    "--force-new-cluster",
     .options = backup_options},
    {.name = "recover",
     .summary = "recover status and rejoin subcommands, after a disaster",
     .verbs = recover_verbs},
    {.name = "user",
     .summary = "user add, grant and revoke subcommands",
     .verbs = user_verbs,
     .section = "Users and access"},
    {.name = "role",
     .summary = "role add, grant and revoke subcommands",
     .verbs = role_verbs},
    {.name = "auth", .summary = "overall auth controls", .verbs = auth_verbs},
    {0},
};

/* --- The way through a command line. ------------------------------------ */

struct cursor {
    char **argv;
    int i, argc;
};

static int run_line(struct ctl *c, struct cursor *at);
static int parse_globals(struct ctl *c, struct cursor *at);
static int find_verb(struct cursor *at, const struct verb **out,
                     const struct verb **group);
static const struct ctl_option *option_named(const struct ctl_option *table,
                                             struct str name);
static int parse_command(struct ctl *c, const struct verb *v,
                         const struct verb *group, struct cursor *at);
static const struct ctl_setting *find_setting(const struct ctl *c,
                                              const char *name);
static void print_help(void);
static void print_group_help(const struct verb *group);
static void print_verb_help(const struct verb *v, const struct verb *group);

/*
 * A closed descriptor must not become that of a socket, where output would go
 * then. What takes its place fails every read and write.
 */
static void keep_standard_files(void)
{
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) >= 0)
            continue;
        if (open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd)
            return; /* no /dev/null: nothing more can be done */
    }
}

/* ETCDCTL_API; taken out of the environment, as commands we run may be other
 * etcdctls. 0, or the exit code. */
static int choose_mode(enum ctl_mode *mode)
{
    const char *api = getenv("ETCDCTL_API");

    *mode = CTL_MODE_UNSET;
    if (!api || api[0] == '\0')
        return 0;
    if (strcmp(api, "2") == 0)
        *mode = CTL_MODE_V2;
    else if (strcmp(api, "3") == 0)
        *mode = CTL_MODE_V3;
    else
        return ctl_say("unsupported API version %s", api);
    unsetenv("ETCDCTL_API");
    return 0;
}

/* By the v3 table if that is to have the line, else by the v2 API. */
static int run(struct ctl *c, const struct ctlv3_program *p, int argc,
               char **argv)
{
    struct cursor at = {argv, 1, argc};
    struct ctlv3 v3 = {.program = p};
    int rc = CTLV3_TRY_V2;

    if (c->mode != CTL_MODE_V2) {
        c->v3 = &v3;
        rc = ctlv3_run_line(c, argc, argv);
        ctlv3_release(c);
        c->v3 = NULL;
    }
    if (rc != CTLV3_TRY_V2)
        return rc;
    c->n_settings = c->n_args = 0;
    return run_line(c, &at);
}

static int run_program(enum ctl_mode mode, const struct ctlv3_program *p,
                       int argc, char **argv)
{
    struct ctl c = {.mode = mode};
    int rc, flushed;

    c.settings = xcalloc((size_t)argc + CTL_VARIABLES_MAX, sizeof(*c.settings));
    c.args = xcalloc((size_t)argc + 1, sizeof(*c.args));
    rc = run(&c, p, argc, argv);
    ctl_disconnect(&c);
    free(c.settings);
    free(c.args);
    flushed = ctl_flush();
    return rc ? rc : flushed;
}

static void prepare(void)
{
    keep_standard_files();
    /* As glibc does by itself; musl would try the first line at once, and the
     * reason of a failure would be lost by the time we ask for it. */
    setvbuf(stdout, NULL, isatty(STDOUT_FILENO) ? _IOLBF : _IOFBF, BUFSIZ);
}

int ctl_main(int argc, char **argv, const struct ctlv3_program *p)
{
    prepare();
    return run_program(CTL_MODE_V3, p, argc, argv);
}

int etcdctl_main(int argc, char **argv)
{
    enum ctl_mode mode;
    int rc;

    prepare();
    rc = choose_mode(&mode);
    return rc ? rc : run_program(mode, &ctlv3_etcdctl, argc, argv);
}

static int print_version(void)
{
    printf("etcdctl version: %s\nAPI version: 2\n", ETCD_VERSION);
    return 0;
}

static int run_line(struct ctl *c, struct cursor *at)
{
    const struct verb *v = NULL, *group = NULL;
    int rc = parse_globals(c, at);

    if (rc != 0)
        return rc;
    if (ctl_bool(c, "version"))
        return print_version();
    if (ctl_bool(c, "help") || at->i == at->argc) {
        print_help();
        return 0;
    }
    rc = find_verb(at, &v, &group);
    if (rc != 0 || !v)
        return rc;
    rc = parse_command(c, v, group, at);
    if (rc != 0)
        return rc;
    if (ctl_bool(c, "help")) {
        print_verb_help(v, group);
        return 0;
    }
    return v->run(c);
}

/* --- Finding the verb. -------------------------------------------------- */

static int no_help_topic(const char *name)
{
    ctl_say("No help topic for '%s'", name);
    return CTL_NO_COMMAND;
}

static const struct verb *verb_named(const struct verb *table, const char *name)
{
    for (const struct verb *v = table; v && v->name; v++) {
        if (strcmp(v->name, name) == 0)
            return v;
    }
    return NULL;
}

/* NULL if there is none; second is NULL for a command that is no group's. */
static const struct verb *verb_of(const char *first, const char *second)
{
    const struct verb *v = verb_named(verbs, first);

    return v && second ? verb_named(v->verbs, second) : v;
}

bool ctlv2_has_verb(const char *first, const char *second)
{
    return verb_of(first, second) != NULL;
}

bool ctlv2_knows_option(const char *first, const char *second, struct str name)
{
    const struct verb *v = first ? verb_of(first, second) : NULL;

    if (first && !v)
        return false;
    return option_named(global_options, name) ||
           option_named(v ? v->options : NULL, name);
}

bool ctlv2_option_takes_value(const char *name)
{
    const struct ctl_option *o = option_named(global_options, str_of(name));

    return o && o->type != CTL_BOOL;
}

static bool is_word_help(const char *s)
{
    return strcmp(s, "help") == 0 || strcmp(s, "h") == 0;
}

static bool is_option_help(const char *s)
{
    return strcmp(s, "--help") == 0 || strcmp(s, "-help") == 0 ||
           strcmp(s, "-h") == 0;
}

/* "help", "help get", "help member add". */
static int help_on(const struct verb *table, const struct verb *group,
                   struct cursor *at)
{
    const struct verb *v;

    if (at->i == at->argc || is_option_help(at->argv[at->i])) {
        if (group)
            print_group_help(group);
        else
            print_help();
        return 0;
    }
    v = verb_named(table, at->argv[at->i]);
    if (!v)
        return no_help_topic(at->argv[at->i]);
    at->i++;
    if (v->verbs)
        return help_on(v->verbs, v, at);
    print_verb_help(v, group);
    return 0;
}

/* A group without a command, or with a cry for help. */
static int find_in_group(struct cursor *at, const struct verb *group,
                         const struct verb **out)
{
    const char *name = at->i < at->argc ? at->argv[at->i] : "--help";

    if (is_option_help(name)) {
        print_group_help(group);
        return 0;
    }
    at->i++;
    if (is_word_help(name))
        return help_on(group->verbs, group, at);
    *out = verb_named(group->verbs, name);
    return *out ? 0 : no_help_topic(name);
}

/* 0 and the verb, or NULL for one that was only asked about. */
static int find_verb(struct cursor *at, const struct verb **out,
                     const struct verb **group)
{
    const char *name = at->argv[at->i++];
    const struct verb *v;

    *out = NULL;
    if (is_word_help(name))
        return help_on(verbs, NULL, at);
    v = verb_named(verbs, name);
    if (!v)
        return no_help_topic(name);
    if (!v->verbs) {
        *out = v;
        return 0;
    }
    *group = v;
    return find_in_group(at, v, out);
}

/* --- Options. ----------------------------------------------------------- */

/* One argument taken apart: -NAME or --NAME, perhaps =VALUE. */
struct flag {
    struct str name;
    const char *value; /* NULL: none given */
    bool two_dashes;
};

enum { FLAG_NONE = 0, FLAG_OK = 1, FLAG_BAD = -1 };

static int take_apart(const char *arg, struct flag *f)
{
    const char *name = arg + 1, *equals;

    if (arg[0] != '-' || arg[1] == '\0')
        return FLAG_NONE;
    f->two_dashes = arg[1] == '-';
    name += f->two_dashes;
    if (name[0] == '-' || name[0] == '=' || name[0] == '\0')
        return FLAG_BAD;
    equals = strchr(name, '=');
    f->name =
        (struct str){name, equals ? (size_t)(equals - name) : strlen(name)};
    f->value = equals ? equals + 1 : NULL;
    return FLAG_OK;
}

static const struct ctl_option *option_named(const struct ctl_option *table,
                                             struct str name)
{
    if (!table)
        return NULL;
    for (const struct ctl_option *o = table; o->name; o++) {
        if (str_eqz(name, o->name) || (o->alias && str_eqz(name, o->alias)))
            return o;
    }
    return NULL;
}

static const struct ctl_option *global_named(const struct ctl *c,
                                             struct str name)
{
    const struct ctl_option *o = option_named(global_options, name);

    if (!o && c->mode != CTL_MODE_V2)
        o = ctlv3_global_option(name);
    return o;
}

static bool parse_bool(const char *s, bool *out)
{
    static const char *const words[] = {"0",     "f",     "F",    "FALSE",
                                        "false", "False", "1",    "t",
                                        "T",     "TRUE",  "true", "True"};

    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (strcmp(s, words[i]) == 0) {
            *out = i >= ARRAY_LEN(words) / 2;
            return true;
        }
    }
    return false;
}

/* Decimal, 0x... or 0..., as Go reads the numbers of flags. If false, errno is
 * ERANGE for a number that is too large. */
static bool parse_int(const char *s, int64_t *out)
{
    char *end;
    long long v;

    errno = 0;
    if (s[0] == '\0' || strchr(" \t\n\v\f\r", s[0]))
        return false;
    v = strtoll(s, &end, 0);
    if (errno != 0 || *end != '\0')
        return false;
    *out = v;
    return true;
}

bool ctl_value_fits(enum ctl_type type, const char *value)
{
    int64_t n;
    bool b;

    switch (type) {
    case CTL_BOOL:
        return parse_bool(value, &b);
    case CTL_INT:
        return parse_int(value, &n);
    case CTL_DURATION:
        return sys_parse_duration(str_of(value), &n);
    case CTL_STRING:
        break;
    }
    return true;
}

/* Take the option's value, from the next argument if need be, and note it.
 * False with *why (owned) in the words of Go's flag package. */
static bool take_option(struct ctl *c, const struct ctl_option *o,
                        const struct flag *f, struct cursor *at, char **why)
{
    const char *value = f->value;

    if (!value && o->type != CTL_BOOL) {
        if (at->i == at->argc) {
            *why = xasprintf("flag needs an argument: -%.*s", STR_FMT(f->name));
            return false;
        }
        value = at->argv[at->i++];
    }
    if (value && !ctl_value_fits(o->type, value)) {
        bool too_large = o->type == CTL_INT && errno == ERANGE;

        *why = xasprintf("invalid %svalue \"%s\" for %s-%.*s: %s",
                         o->type == CTL_BOOL ? "boolean " : "", value,
                         o->type == CTL_BOOL ? "" : "flag ", STR_FMT(f->name),
                         too_large ? "value out of range" : "parse error");
        return false;
    }
    c->settings[c->n_settings++] = (struct ctl_setting){o, value};
    return true;
}

static char *not_defined(const struct flag *f)
{
    return xasprintf("flag provided but not defined: -%.*s", STR_FMT(f->name));
}

/*
 * Takes why. With ETCDCTL_API=2 the help comes before the message, as from
 * etcdctl; else the message is not drowned in it.
 */
static int bad_usage(const struct ctl *c, const struct verb *v,
                     const struct verb *group, char *why)
{
    bool full = c->mode == CTL_MODE_V2;

    if (full)
        printf("Incorrect Usage%s %s\n\n", v ? ":" : ".", why);
    if (full && v)
        print_verb_help(v, group);
    else if (full)
        print_help();
    ctl_say("%s", why);
    if (!full)
        fprintf(stderr, "See 'etcdctl %s%s%s%s--help'.\n",
                group ? group->name : "", group ? " " : "", v ? v->name : "",
                v ? " " : "");
    free(why);
    return CTL_BAD_ARGS;
}

/* Options up to the verb; at ends there, or at the end. */
static int parse_globals(struct ctl *c, struct cursor *at)
{
    while (at->i < at->argc) {
        const char *arg = at->argv[at->i];
        const struct ctl_option *o;
        struct flag f;
        char *why;
        int kind = take_apart(arg, &f);

        if (kind == FLAG_NONE)
            return 0;
        at->i++;
        if (strcmp(arg, "--") == 0)
            return 0;
        if (kind == FLAG_BAD)
            return bad_usage(c, NULL, NULL,
                             xasprintf("bad flag syntax: %s", arg));
        o = global_named(c, f.name);
        if (!o)
            return bad_usage(c, NULL, NULL, not_defined(&f));
        if (!take_option(c, o, &f, at, &why))
            return bad_usage(c, NULL, NULL, why);
    }
    return 0;
}

/* -5 or -x where an argument is due; and anything behind a command's name. */
static bool is_argument(const struct ctl *c, const struct verb *v,
                        const struct flag *f)
{
    if (c->n_args == 0)
        return false;
    if (v->args_max == ARGS_ANY)
        return c->n_args > 1;
    return !f->two_dashes && c->n_args < v->args_max;
}

/* Everything behind the verb. Global options may stand here too. */
static int parse_command(struct ctl *c, const struct verb *v,
                         const struct verb *group, struct cursor *at)
{
    while (at->i < at->argc) {
        char *arg = at->argv[at->i++], *why;
        const struct ctl_option *o;
        struct flag f;
        int kind = take_apart(arg, &f);

        if (strcmp(arg, "--") == 0)
            break;
        if (kind == FLAG_BAD)
            return bad_usage(c, v, group,
                             xasprintf("bad flag syntax: %s", arg));
        o = kind == FLAG_OK ? option_named(v->options, f.name) : NULL;
        if (kind == FLAG_OK && !o && !str_eqz(f.name, "v"))
            o = global_named(c, f.name);
        if (kind == FLAG_NONE || (!o && is_argument(c, v, &f)))
            c->args[c->n_args++] = arg;
        else if (!o)
            return bad_usage(c, v, group, not_defined(&f));
        else if (!take_option(c, o, &f, at, &why))
            return bad_usage(c, v, group, why);
    }
    while (at->i < at->argc)
        c->args[c->n_args++] = at->argv[at->i++];
    return 0;
}

static const struct ctl_setting *find_setting(const struct ctl *c,
                                              const char *name)
{
    for (size_t i = c->n_settings; i > 0; i--) {
        if (strcmp(c->settings[i - 1].option->name, name) == 0)
            return &c->settings[i - 1];
    }
    return NULL;
}

const char *ctl_string(const struct ctl *c, const char *name,
                       const char *fallback)
{
    const struct ctl_setting *s = find_setting(c, name);

    return s ? s->value : fallback;
}

bool ctl_given(const struct ctl *c, const char *name)
{
    return find_setting(c, name) != NULL;
}

bool ctl_bool(const struct ctl *c, const char *name)
{
    return ctl_bool_or(c, name, false);
}

bool ctl_bool_or(const struct ctl *c, const char *name, bool fallback)
{
    const struct ctl_setting *s = find_setting(c, name);
    bool v = s ? true : fallback;

    if (s && s->value)
        (void)parse_bool(s->value, &v);
    return v;
}

int64_t ctl_int(const struct ctl *c, const char *name, int64_t fallback)
{
    const struct ctl_setting *s = find_setting(c, name);
    int64_t v;

    return s && parse_int(s->value, &v) ? v : fallback;
}

int64_t ctl_duration_ns(const struct ctl *c, const char *name, int64_t fallback)
{
    const struct ctl_setting *s = find_setting(c, name);
    int64_t v;

    return s && sys_parse_duration(str_of(s->value), &v) ? v : fallback;
}

/* --- Help. -------------------------------------------------------------- */

#define OPTION_WIDTH 34 /* of the longest option */

static void print_options(const struct ctl_option *table)
{
    for (const struct ctl_option *o = table; o && o->name; o++) {
        struct buf b = {0};

        buf_printf(&b, "%s%s", o->name[1] ? "--" : "-", o->name);
        if (o->what)
            buf_printf(&b, " %s", o->what);
        if (o->alias)
            buf_printf(&b, ", %s%s", o->alias[1] ? "--" : "-", o->alias);
        if (o->alias && o->what)
            buf_printf(&b, " %s", o->what);
        printf("   %-*s %s\n", OPTION_WIDTH, buf_z(&b), o->help);
        buf_release(&b);
    }
}

static void print_verbs(const struct verb *table)
{
    for (const struct verb *v = table; v->name; v++) {
        if (v->section)
            printf("%s %s:\n", v == table ? "" : "\n", v->section);
        printf("   %-15s %s\n", v->name, v->summary);
    }
}

void ctlv2_print_only_verbs(void)
{
    printf("\nCOMMANDS OF THE V2 API (with options of their own: help "
           "COMMAND):\n");
    for (const struct verb *v = verbs; v->name; v++) {
        if (!ctlv3_has_verb(v->name))
            printf("\t%-24s %s\n", v->name, v->summary);
    }
}

static void print_environment(void)
{
    static const struct {
        const char *name, *help;
    } variables[] = {
        {"ETCDCTL_API",
         "API to use: 2 or 3 (default: v3 where it has the command)"},
        {"ETCDCTL_ENDPOINTS", "as --endpoints"},
        {"ETCDCTL_USERNAME", "as --username"},
        {"ETCDCTL_DISCOVERY_SRV", "as --discovery-srv"},
        {"ETCDCTL_CA_FILE, _CERT_FILE, _KEY_FILE", "as --ca-file..."},
    };

    printf("\nENVIRONMENT:\n");
    for (size_t i = 0; i < ARRAY_LEN(variables); i++)
        printf("   %-*s %s\n", OPTION_WIDTH, variables[i].name,
               variables[i].help);
}

static void print_help(void)
{
    printf("NAME:\n"
           "   etcdctl - A simple command line client for etcd.\n\n"
           "USAGE:\n"
           "   etcdctl [global options] command [command options] "
           "[arguments...]\n\n"
           "VERSION:\n"
           "   %s\n\n"
           "COMMANDS:\n",
           ETCD_VERSION);
    print_verbs(verbs);
    printf("   %-15s %s\n", "help, h",
           "shows a list of commands or help for one command");
    printf("\nGLOBAL OPTIONS:\n");
    print_options(global_options);
    print_environment();
}

static void print_group_help(const struct verb *group)
{
    printf("NAME:\n"
           "   etcdctl %s - %s\n\n"
           "USAGE:\n"
           "   etcdctl %s command [command options] [arguments...]\n\n"
           "COMMANDS:\n",
           group->name, group->summary, group->name);
    print_verbs(group->verbs);
    printf("\nOPTIONS:\n   --help, -h  show help\n");
}

static void print_verb_help(const struct verb *v, const struct verb *group)
{
    char *name = xasprintf("%s%s%s", group ? group->name : "", group ? " " : "",
                           v->name);

    printf("NAME:\n"
           "   etcdctl %s - %s\n\n"
           "USAGE:\n"
           "   etcdctl %s%s%s%s\n",
           name, v->summary, name, v->options ? " [command options]" : "",
           v->args ? " " : "", v->args ? v->args : "");
    if (v->description)
        printf("\nDESCRIPTION:\n   %s\n", v->description);
    if (v->options) {
        printf("\nOPTIONS:\n");
        print_options(v->options);
    }
    free(name);
}

/* --- The terminal. ------------------------------------------------------ */

static volatile sig_atomic_t interrupted;

static void note_interrupt(int sig)
{
    interrupted = sig;
}

/* One line, without its end. Ends early on a signal or a failure. */
static void read_line(struct buf *out)
{
    char c;

    while (!interrupted && read(STDIN_FILENO, &c, 1) == 1 && c != '\n')
        buf_addc(out, c);
}

/*
 * Ctrl-C while the echo is off must not leave the terminal that way: the
 * signal is noted, the terminal put right, and the signal sent once more.
 */
void ctl_ask_secret(const char *prompt, struct buf *out)
{
    struct sigaction quiet = {.sa_handler = note_interrupt}, before;
    struct termios saved, silent;
    bool terminal = tcgetattr(STDIN_FILENO, &saved) == 0;

    sigaction(SIGINT, &quiet, &before);
    if (terminal) { /* before it asks: a program may answer at once */
        silent = saved;
        silent.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(STDIN_FILENO, TCSADRAIN, &silent);
    }
    printf("%s", prompt);
    fflush(stdout);
    read_line(out);
    if (terminal)
        tcsetattr(STDIN_FILENO, TCSADRAIN, &saved);
    printf("\n");
    fflush(stdout);
    sigaction(SIGINT, &before, NULL);
    if (interrupted)
        raise(SIGINT);
}
