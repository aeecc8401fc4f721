/*
 * ctlv3.c - etcdctl's v3 commands: all in one table, with their options.
 *
 * WHICH API  ETCDCTL_API=3 means this table; what only v2 has still works. With
 * the variable unset, options decide about a command that both have: one that
 * only v2 knows makes it v2's. `get` looks into the v2 keys for what is no v3
 * key (ctlv3kv.c), and `member` takes the arguments of either form.
 */
#include "ctlv3line.h"

#include "ctlsnapshot.h"

#include <stdio.h>

/* --- Tables. ---------------------------------------------------------------- */

static const struct ctl_option globals[] = {
    {"endpoints", NULL, CTL_STRING, "[127.0.0.1:2379]", "gRPC endpoints"},
    {"dial-timeout", NULL, CTL_DURATION, "2s",
     "dial timeout for client connections"},
    {"command-timeout", NULL, CTL_DURATION, "5s",
     "timeout for short running command (excluding dial timeout)"},
    {"keepalive-time", NULL, CTL_DURATION, "2s",
     "keepalive time for client connections"},
    {"keepalive-timeout", NULL, CTL_DURATION, "6s",
     "keepalive timeout for client connections"},
    {"insecure-transport", NULL, CTL_BOOL, "true",
     "disable transport security for client connections"},
    {"insecure-discovery", NULL, CTL_BOOL, "true",
     "accept insecure SRV records describing cluster endpoints"},
    {"insecure-skip-tls-verify", NULL, CTL_BOOL, NULL,
     "skip server certificate verification"},
    {"cert", NULL, CTL_STRING, "\"\"",
     "identify secure client using this TLS certificate file"},
    {"key", NULL, CTL_STRING, "\"\"",
     "identify secure client using this TLS key file"},
    {"cacert", NULL, CTL_STRING, "\"\"",
     "verify certificates of TLS-enabled secure servers using this CA bundle"},
    {"user", NULL, CTL_STRING, "\"\"",
     "username[:password] for authentication (prompt if password is not "
     "supplied)"},
    {"password", NULL, CTL_STRING, "\"\"",
     "password for authentication (if this option is used, --user option "
     "shouldn't include password)"},
    {"discovery-srv", "d", CTL_STRING, "\"\"",
     "domain name to query for SRV records describing cluster endpoints"},
    {"discovery-srv-name", NULL, CTL_STRING, "\"\"",
     "service name to query when using DNS discovery"},
    {"write-out", "w", CTL_STRING, "\"simple\"",
     "set the output format (fields, json, protobuf, simple, table)"},
    {"hex", NULL, CTL_BOOL, NULL, "print byte strings as hex encoded strings"},
    {"debug", NULL, CTL_BOOL, NULL, "enable client-side debug logging"},
    {"help", "h", CTL_BOOL, NULL, "help for etcdctl"},
    {0},
};

static const struct ctl_option get_options[] = {
    {"consistency", NULL, CTL_STRING, "\"l\"",
     "Linearizable(l) or Serializable(s)"},
    {"order", NULL, CTL_STRING, "\"\"",
     "Order of results; ASCEND or DESCEND (ASCEND by default)"},
    {"sort-by", NULL, CTL_STRING, "\"\"",
     "Sort target; CREATE, KEY, MODIFY, VALUE, or VERSION"},
    {"limit", NULL, CTL_INT, "0", "Maximum number of results"},
    {"prefix", NULL, CTL_BOOL, NULL, "Get keys with matching prefix"},
    {"from-key", NULL, CTL_BOOL, NULL,
     "Get keys that are greater than or equal to the given key using byte "
     "compare"},
    {"rev", NULL, CTL_INT, "0", "Specify the kv revision"},
    {"keys-only", NULL, CTL_BOOL, NULL, "Get only the keys"},
    {"count-only", NULL, CTL_BOOL, NULL, "Get only the count"},
    {"print-value-only", NULL, CTL_BOOL, NULL,
     "Only write values when using the \"simple\" output format"},
    {"min-create-rev", NULL, CTL_INT, "0", "Minimum create revision"},
    {"max-create-rev", NULL, CTL_INT, "0", "Maximum create revision"},
    {"min-mod-rev", NULL, CTL_INT, "0", "Minimum modification revision"},
    {"max-mod-rev", NULL, CTL_INT, "0", "Maximum modification revision"},
    {0},
};
static const struct ctl_option put_options[] = {
    {"lease", NULL, CTL_STRING, "\"0\"",
     "lease ID (in hexadecimal) to attach to the key"},
    {"prev-kv", NULL, CTL_BOOL, NULL,
     "return the previous key-value pair before modification"},
    {"ignore-value", NULL, CTL_BOOL, NULL,
     "updates the key using its current value"},
    {"ignore-lease", NULL, CTL_BOOL, NULL,
     "updates the key using its current lease"},
    {0},
};
static const struct ctl_option del_options[] = {
    {"prefix", NULL, CTL_BOOL, NULL, "delete keys with matching prefix"},
    {"prev-kv", NULL, CTL_BOOL, NULL, "return deleted key-value pairs"},
    {"from-key", NULL, CTL_BOOL, NULL,
     "delete keys that are greater than or equal to the given key using byte "
     "compare"},
    {"range", NULL, CTL_BOOL, NULL,
     "delete range of keys without delay, as without this option"},
    {0},
};
static const struct ctl_option txn_options[] = {
    {"interactive", "i", CTL_BOOL, NULL,
     "Input transaction in interactive mode"},
    {0},
};
static const struct ctl_option compaction_options[] = {
    {"physical", NULL, CTL_BOOL, NULL,
     "'true' to wait for compaction to physically remove all old revisions"},
    {0},
};
static const struct ctl_option watch_options[] = {
    {"interactive", "i", CTL_BOOL, NULL, "Interactive mode"},
    {"prefix", NULL, CTL_BOOL, NULL, "Watch on a prefix if prefix is set"},
    {"rev", NULL, CTL_INT, "0", "Revision to start watching"},
    {"prev-kv", NULL, CTL_BOOL, NULL,
     "get the previous key-value pair before the event happens"},
    {"progress-notify", NULL, CTL_BOOL, NULL,
     "get periodic watch progress notification from server"},
    {0},
};
static const struct ctl_option time_to_live_options[] = {
    {"keys", NULL, CTL_BOOL, NULL, "Get keys attached to this lease"},
    {0},
};
static const struct ctl_option keep_alive_options[] = {
    {"once", NULL, CTL_BOOL, NULL,
     "Resets the keep-alive time to its original value and exits immediately"},
    {0},
};
static const struct ctl_option member_list_options[] = {
    {"consistency", NULL, CTL_STRING, "\"s\"",
     "Linearizable(l) or Serializable(s)"},
    {0},
};
static const struct ctl_option member_add_options[] = {
    {"peer-urls", NULL, CTL_STRING, "\"\"",
     "comma separated peer URLs for the new member."},
    {"learner", NULL, CTL_BOOL, NULL,
     "indicates if the new member is raft learner"},
    {0},
};
static const struct ctl_option member_update_options[] = {
    {"peer-urls", NULL, CTL_STRING, "\"\"",
     "comma separated peer URLs for the updated member."},
    {0},
};
static const struct ctl_option endpoint_options[] = {
    {"cluster", NULL, CTL_BOOL, NULL,
     "use all endpoints from the cluster member list"},
    {0},
};
static const struct ctl_option hashkv_options[] = {
    {"cluster", NULL, CTL_BOOL, NULL,
     "use all endpoints from the cluster member list"},
    {"rev", NULL, CTL_INT, "0",
     "maximum revision to hash (default: all revisions)"},
    {0},
};
static const struct ctl_option defrag_options[] = {
    {"cluster", NULL, CTL_BOOL, NULL,
     "use all endpoints from the cluster member list"},
    {"data-dir", NULL, CTL_STRING, "\"\"",
     "if present, defragments a data directory not in use by etcd"},
    {0},
};
static const struct ctl_option user_add_options[] = {
    {"interactive", NULL, CTL_BOOL, "true",
     "Read password from stdin instead of interactive terminal"},
    {"new-user-password", NULL, CTL_STRING, "\"\"",
     "Supply password from the command line flag"},
    {"no-password", NULL, CTL_BOOL, NULL,
     "Create a user without password (CN based auth only)"},
    {0},
};
static const struct ctl_option user_get_options[] = {
    {"detail", NULL, CTL_BOOL, NULL,
     "Show permissions of roles granted to the user"},
    {0},
};
static const struct ctl_option passwd_options[] = {
    {"interactive", NULL, CTL_BOOL, "true",
     "If true, read password from stdin instead of interactive terminal"},
    {0},
};
static const struct ctl_option role_grant_options[] = {
    {"prefix", NULL, CTL_BOOL, NULL, "grant a prefix permission"},
    {"from-key", NULL, CTL_BOOL, NULL,
     "grant a permission of keys that are greater than or equal to the given "
     "key using byte compare"},
    {0},
};
static const struct ctl_option role_revoke_options[] = {
    {"prefix", NULL, CTL_BOOL, NULL, "revoke a prefix permission"},
    {"from-key", NULL, CTL_BOOL, NULL,
     "revoke a permission of keys that are greater than or equal to the given "
     "key using byte compare"},
    {0},
};
static const struct ctl_option lock_options[] = {
    {"ttl", NULL, CTL_INT, "10", "timeout for session"},
    {0},
};
static const struct ctl_option elect_options[] = {
    {"listen", "l", CTL_BOOL, NULL, "observation mode"},
    {0},
};
static const struct ctl_option perf_options[] = {
    {"load", NULL, CTL_STRING, "\"s\"",
     "The performance check's workload model. Accepted workloads: s(small), "
     "m(medium), l(large), xl(xLarge)"},
    {"prefix", NULL, CTL_STRING, "\"/etcdctl-check-perf/\"",
     "The prefix for writing the performance check's keys."},
    {"auto-compact", NULL, CTL_BOOL, NULL,
     "Compact storage with last revision after test is finished."},
    {"auto-defrag", NULL, CTL_BOOL, NULL,
     "Defragment storage after test is finished."},
    {0},
};
static const struct ctl_option datascale_options[] = {
    {"load", NULL, CTL_STRING, "\"s\"",
     "The datascale check's workload model. Accepted workloads: s(small), "
     "m(medium), l(large), xl(xLarge)"},
    {"prefix", NULL, CTL_STRING, "\"/etcdctl-check-datascale/\"",
     "The prefix for writing the datascale check's keys."},
    {"auto-compact", NULL, CTL_BOOL, NULL,
     "Compact storage with last revision after test is finished."},
    {"auto-defrag", NULL, CTL_BOOL, NULL,
     "Defragment storage after test is finished."},
    {0},
};
static const struct ctl_option mirror_options[] = {
    {"prefix", NULL, CTL_STRING, "\"\"", "Key-value prefix to mirror"},
    {"dest-prefix", NULL, CTL_STRING, "\"\"",
     "destination prefix to mirror a prefix to a different prefix in the "
     "destination cluster"},
    {"no-dest-prefix", NULL, CTL_BOOL, NULL,
     "mirror key-values to the root of the destination cluster"},
    {"dest-cert", NULL, CTL_STRING, "\"\"",
     "Identify secure client using this TLS certificate file for the "
     "destination cluster"},
    {"dest-key", NULL, CTL_STRING, "\"\"",
     "Identify secure client using this TLS key file"},
    {"dest-cacert", NULL, CTL_STRING, "\"\"",
     "Verify certificates of TLS enabled secure servers using this CA bundle"},
    {"dest-insecure-transport", NULL, CTL_BOOL, "true",
     "Disable transport security for client connections"},
    {"dest-user", NULL, CTL_STRING, "\"\"",
     "Destination username[:password] for authentication"},
    {"dest-password", NULL, CTL_STRING, "\"\"",
     "Destination password for authentication"},
    {"max-txn-ops", NULL, CTL_INT, "128",
     "Maximum number of operations permitted in a transaction during syncing "
     "updates."},
    {"rev", NULL, CTL_INT, "0", "Specify the kv revision to start to mirror"},
    {0},
};

static const struct ctl_option migrate_options[] = {
    {"data-dir", NULL, CTL_STRING, "\"\"", "Path to the data directory"},
    {"wal-dir", NULL, CTL_STRING, "\"\"", "Path to the WAL directory"},
    {"transformer", NULL, CTL_STRING, "\"\"",
     "Path to the user-provided transformer program"},
    {"no-ttl", NULL, CTL_BOOL, NULL, "Do not convert TTL keys"},
    {0},
};

/* v2's `member add NAME URL` and `member update ID URL`. */
static bool two_arguments(const struct ctl *c)
{
    return c->n_args == 2 && !ctl_string(c, "peer-urls", NULL);
}

static const struct ctlv3_verb lease_verbs[] = {
    {.name = "grant", ctlv3_lease_grant, "<ttl>", "Creates leases"},
    {.name = "keep-alive",
     ctlv3_lease_keep_alive,
     "[options] <leaseID>",
     "Keeps leases alive (renew)",
     keep_alive_options},
    {.name = "list", ctlv3_lease_list, NULL, "List all active leases"},
    {.name = "revoke", ctlv3_lease_revoke, "<leaseID>", "Revokes leases"},
    {.name = "timetolive",
     ctlv3_lease_time_to_live,
     "<leaseID> [options]",
     "Get lease information",
     time_to_live_options},
    {0},
};
static const struct ctlv3_verb member_verbs[] = {
    {.name = "add",
     ctlv3_member_add,
     "<memberName> [options]",
     "Adds a member into the cluster",
     member_add_options,
     .is_v2 = two_arguments},
    {.name = "list",
     ctlv3_member_list,
     NULL,
     "Lists all members in the cluster",
     member_list_options},
    {.name = "promote",
     ctlv3_member_promote,
     "<memberID>",
     "Promotes a non-voting member in the cluster"},
    {.name = "remove",
     ctlv3_member_remove,
     "<memberID>",
     "Removes a member from the cluster"},
    {.name = "update",
     ctlv3_member_update,
     "<memberID> [options]",
     "Updates a member in the cluster",
     member_update_options,
     .is_v2 = two_arguments},
    {0},
};
static const struct ctlv3_verb endpoint_verbs[] = {
    {.name = "hashkv",
     ctlv3_endpoint_hashkv,
     NULL,
     "Prints the KV history hash for each endpoint in --endpoints",
     hashkv_options},
    {.name = "health",
     ctlv3_endpoint_health,
     NULL,
     "Checks the healthiness of endpoints specified in `--endpoints` flag",
     endpoint_options},
    {.name = "status",
     ctlv3_endpoint_status,
     NULL,
     "Prints out the status of endpoints specified in `--endpoints` flag",
     endpoint_options},
    {0},
};
static const struct ctlv3_verb alarm_verbs[] = {
    {.name = "disarm", ctlv3_alarm_disarm, NULL, "Disarms all alarms"},
    {.name = "list", ctlv3_alarm_list, NULL, "Lists all alarms"},
    {0},
};
static const struct ctlv3_verb snapshot_verbs[] = {
    {.name = "restore",
     ctlv3_snapshot_restore,
     "<filename> [options]",
     "Restores an etcd member snapshot to an etcd directory",
     ctlv3_restore_options},
    {.name = "save",
     ctlv3_snapshot_save,
     "<filename>",
     "Stores an etcd node backend snapshot to a given file"},
    {.name = "status",
     ctlv3_snapshot_status,
     "<filename>",
     "Gets backend snapshot status of a given file"},
    {0},
};
static const struct ctlv3_verb downgrade_verbs[] = {
    {.name = "validate",
     ctlv3_downgrade_validate,
     "<TARGET_VERSION>",
     "Validate downgrade capability before starting downgrade"},
    {.name = "enable",
     ctlv3_downgrade_enable,
     "<TARGET_VERSION>",
     "Start a downgrade action to cluster"},
    {.name = "cancel",
     ctlv3_downgrade_cancel,
     NULL,
     "Cancel the ongoing downgrade action to cluster"},
    {0},
};
static const struct ctlv3_verb auth_verbs[] = {
    {.name = "disable", ctlv3_auth_disable, NULL, "Disables authentication"},
    {.name = "enable", ctlv3_auth_enable, NULL, "Enables authentication"},
    {.name = "status",
     ctlv3_auth_status,
     NULL,
     "Returns authentication status"},
    {0},
};
static const struct ctlv3_verb user_verbs[] = {
    {.name = "add",
     ctlv3_user_add,
     "<user name or user:password> [options]",
     "Adds a new user",
     user_add_options},
    {.name = "delete", ctlv3_user_delete, "<user name>", "Deletes a user"},
    {.name = "get",
     ctlv3_user_get,
     "<user name> [options]",
     "Gets detailed information of a user",
     user_get_options},
    {.name = "grant-role",
     ctlv3_user_grant_role,
     "<user name> <role name>",
     "Grants a role to a user"},
    {.name = "list", ctlv3_user_list, NULL, "Lists all users"},
    {.name = "passwd",
     ctlv3_user_passwd,
     "<user name> [options]",
     "Changes password of user",
     passwd_options},
    {.name = "revoke-role",
     ctlv3_user_revoke_role,
     "<user name> <role name>",
     "Revokes a role from a user"},
    {0},
};
static const struct ctlv3_verb role_verbs[] = {
    {.name = "add", ctlv3_role_add, "<role name>", "Adds a new role"},
    {.name = "delete", ctlv3_role_delete, "<role name>", "Deletes a role"},
    {.name = "get",
     ctlv3_role_get,
     "<role name>",
     "Gets detailed information of a role"},
    {.name = "grant-permission",
     ctlv3_role_grant,
     "[options] <role name> <permission type> <key> [endkey]",
     "Grants a key to a role",
     role_grant_options},
    {.name = "list", ctlv3_role_list, NULL, "Lists all roles"},
    {.name = "revoke-permission",
     ctlv3_role_revoke,
     "<role name> <key> [endkey]",
     "Revokes a key from a role",
     role_revoke_options},
    {0},
};
static const struct ctlv3_verb check_verbs[] = {
    {.name = "datascale",
     ctlv3_check_datascale,
     "[options]",
     "Check the memory usage of holding data for different workloads on a "
     "given server endpoint.",
     datascale_options},
    {.name = "perf",
     ctlv3_check_perf,
     "[options]",
     "Check the performance of the etcd cluster",
     perf_options},
    {0},
};

static const struct ctlv3_verb verbs[] = {
    {.name = "alarm",
     .summary = "Alarm related commands",
     .verbs = alarm_verbs},
    {.name = "auth",
     .summary = "Enable or disable authentication",
     .verbs = auth_verbs},
    {.name = "check",
     .summary = "commands for checking properties of the etcd cluster",
     .verbs = check_verbs},
    {.name = "compaction",
     ctlv3_compaction,
     "[options] <revision>",
     "Compacts the event history in etcd",
     compaction_options},
    {.name = "completion",
     .summary = "Generate the autocompletion script for a shell",
     .verbs = ctlv3_completion_verbs},
    {.name = "defrag",
     ctlv3_defrag,
     NULL,
     "Defragments the storage of the etcd members with given endpoints",
     defrag_options},
    {.name = "del",
     ctlv3_del,
     "[options] <key> [range_end]",
     "Removes the specified key or range of keys [key, range_end)",
     del_options},
    {.name = "downgrade",
     .summary = "Downgrade related commands",
     .verbs = downgrade_verbs},
    {.name = "elect",
     ctlv3_elect,
     "<election-name> [proposal]",
     "Observes and participates in leader election",
     elect_options},
    {.name = "endpoint",
     .summary = "Endpoint related commands",
     .verbs = endpoint_verbs},
    {.name = "get",
     ctlv3_get,
     "[options] <key> [range_end]",
     "Gets the key or a range of keys",
     get_options},
    {.name = "lease",
     .summary = "Lease related commands",
     .verbs = lease_verbs},
    {.name = "lock",
     ctlv3_lock,
     "<lockname> [exec-command arg1 arg2 ...]",
     "Acquires a named lock",
     lock_options},
    {.name = "make-mirror",
     ctlv3_make_mirror,
     "[options] <destination>",
     "Makes a mirror at the destination etcd cluster",
     mirror_options},
    {.name = "member",
     .summary = "Membership related commands",
     .verbs = member_verbs},
    {.name = "migrate",
     ctlv3_migrate,
     "[options]",
     "Migrates keys in a v2 store to a mvcc store, of a member that is "
     "stopped",
     migrate_options},
    {.name = "move-leader",
     ctlv3_move_leader,
     "<transferee-member-id>",
     "Transfers leadership to another etcd cluster member."},
    {.name = "put",
     ctlv3_put,
     "[options] <key> <value> (<value> can also be given from stdin)",
     "Puts the given key into the store",
     put_options},
    {.name = "role", .summary = "Role related commands", .verbs = role_verbs},
    {.name = "snapshot",
     .summary = "Manages etcd node snapshots",
     .verbs = snapshot_verbs},
    {.name = "txn",
     ctlv3_txn,
     "[options]",
     "Txn processes all the requests in one transaction",
     txn_options},
    {.name = "user", .summary = "User related commands", .verbs = user_verbs},
    {.name = "version", ctlv3_version, NULL, "Prints the version of etcdctl"},
    {.name = "watch",
     ctlv3_watch,
     "[options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
     "Watches events stream on keys or prefixes",
     watch_options},
    {0},
};

/* --- The program. ------------------------------------------------------- */

const struct ctlv3_program ctlv3_etcdctl = {
    .name = "etcdctl",
    .summary = "A simple command line client for etcd3.",
    .verbs = verbs,
    .globals = globals,
    .takes_environment = true,
    .has_v2 = true,
};

bool ctlv3_has_verb(const char *name)
{
    return ctlv3_line_has_verb(&ctlv3_etcdctl, name);
}

const struct ctl_option *ctlv3_global_option(struct str name)
{
    for (const struct ctl_option *o = globals; o->name; o++) {
        if (str_eqz(name, o->name) || (o->alias && str_eqz(name, o->alias)))
            return o;
    }
    return NULL;
}
