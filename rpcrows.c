/*
 * rpcrows.c - the table of methods: who may call them, and who serves them. What
 * has no row is denied.
 */
#include "rpc.h"

/* clang-format off */
const struct rpc_row rpc_rows[RPC_METHOD_N] = {
    [RPC_KV_RANGE] =        {RPC_KEYS, RPC_KEYS, RPC_LEARNER, v3kv_range},
    [RPC_KV_PUT] =          {RPC_KEYS, RPC_KEYS, 0, v3kv_put},
    [RPC_KV_DELETE_RANGE] = {RPC_KEYS, RPC_KEYS, 0, v3kv_delete_range},
    [RPC_KV_TXN] =          {RPC_KEYS, RPC_KEYS, 0, v3kv_txn},
    [RPC_KV_COMPACT] =      {RPC_ANY, RPC_ADMIN, 0, v3kv_compact},
    [RPC_KV_RANGE_STREAM] = {RPC_KEYS, RPC_KEYS, 0, v3kv_range_stream},

    [RPC_WATCH_WATCH] = {RPC_OPEN, RPC_OPEN, 0, v3watch_watch}, /* asks itself, for each watcher */

    [RPC_LEASE_GRANT] =        {RPC_ANY, RPC_USER, 0, v3lease_grant},
    [RPC_LEASE_REVOKE] =       {RPC_KEYS, RPC_USER, 0, v3lease_revoke},
    [RPC_LEASE_KEEP_ALIVE] =   {RPC_OPEN, RPC_USER, 0, v3lease_keep_alive},
    [RPC_LEASE_TIME_TO_LIVE] = {RPC_OPEN, RPC_USER, RPC_BLOCKING, v3lease_time_to_live},
    [RPC_LEASE_LEASES] =       {RPC_OPEN, RPC_USER, 0, v3lease_leases},

    [RPC_CLUSTER_MEMBER_ADD] =     {RPC_ADMIN, RPC_ADMIN, RPC_BLOCKING, v3cluster_add},
    [RPC_CLUSTER_MEMBER_REMOVE] =  {RPC_ADMIN, RPC_ADMIN, RPC_BLOCKING, v3cluster_remove},
    [RPC_CLUSTER_MEMBER_UPDATE] =  {RPC_ADMIN, RPC_ADMIN, RPC_BLOCKING, v3cluster_update},
    [RPC_CLUSTER_MEMBER_LIST] =    {RPC_OPEN, RPC_USER, RPC_BLOCKING, v3cluster_list},
    [RPC_CLUSTER_MEMBER_PROMOTE] = {RPC_ADMIN, RPC_ADMIN, RPC_BLOCKING, v3cluster_promote},

    [RPC_MAINTENANCE_ALARM] =       {RPC_ANY, RPC_USER, RPC_PLAIN_ERRORS, v3maint_alarm},
    [RPC_MAINTENANCE_STATUS] =      {RPC_OPEN, RPC_USER, RPC_LEARNER, v3maint_status},
    [RPC_MAINTENANCE_DEFRAGMENT] =  {RPC_ADMIN, RPC_ADMIN, RPC_PLAIN_ERRORS, v3maint_defragment},
    [RPC_MAINTENANCE_HASH] =        {RPC_ADMIN, RPC_ADMIN, RPC_BLOCKING | RPC_PLAIN_ERRORS, v3maint_hash},
    [RPC_MAINTENANCE_HASH_KV] =     {RPC_ADMIN, RPC_ADMIN, RPC_BLOCKING | RPC_PLAIN_ERRORS, v3maint_hash_kv},
    [RPC_MAINTENANCE_SNAPSHOT] =    {RPC_ADMIN, RPC_ADMIN, RPC_BLOCKING | RPC_WAITS | RPC_LEARNER | RPC_PLAIN_ERRORS, v3maint_snapshot},
    [RPC_MAINTENANCE_MOVE_LEADER] = {RPC_OPEN, RPC_ADMIN, RPC_BLOCKING, v3maint_move_leader},
    [RPC_MAINTENANCE_DOWNGRADE] =   {RPC_ADMIN, RPC_ADMIN, 0, v3maint_downgrade},

    [RPC_AUTH_ENABLE] =            {RPC_ADMIN, RPC_ADMIN, 0, v3auth_change},
    [RPC_AUTH_DISABLE] =           {RPC_ADMIN, RPC_ADMIN, 0, v3auth_change},
    [RPC_AUTH_STATUS] =            {RPC_OPEN, RPC_OPEN, RPC_BLOCKING, v3auth_status},
    [RPC_AUTH_AUTHENTICATE] =           {RPC_OPEN, RPC_OPEN, RPC_BLOCKING, v3auth_authenticate},
    [RPC_AUTH_USER_ADD] =               {RPC_ADMIN, RPC_ADMIN, RPC_BLOCKING, v3auth_user_add},
    [RPC_AUTH_USER_GET] =               {RPC_KEYS, RPC_KEYS, RPC_BLOCKING, v3auth_user_get}, /* one's own */
    [RPC_AUTH_USER_LIST] =              {RPC_ADMIN, RPC_ADMIN, RPC_BLOCKING, v3auth_user_list},
    [RPC_AUTH_USER_DELETE] =            {RPC_ADMIN, RPC_ADMIN, 0, v3auth_change},
    [RPC_AUTH_USER_CHANGE_PASSWORD] =   {RPC_ADMIN, RPC_ADMIN, RPC_BLOCKING, v3auth_user_change_password},
    [RPC_AUTH_USER_GRANT_ROLE] =        {RPC_ADMIN, RPC_ADMIN, 0, v3auth_change},
    [RPC_AUTH_USER_REVOKE_ROLE] =       {RPC_ADMIN, RPC_ADMIN, 0, v3auth_change},
    [RPC_AUTH_ROLE_ADD] =               {RPC_ADMIN, RPC_ADMIN, 0, v3auth_change},
    [RPC_AUTH_ROLE_GET] =               {RPC_KEYS, RPC_KEYS, RPC_BLOCKING, v3auth_role_get}, /* one's own */
    [RPC_AUTH_ROLE_LIST] =              {RPC_ADMIN, RPC_ADMIN, RPC_BLOCKING, v3auth_role_list},
    [RPC_AUTH_ROLE_DELETE] =            {RPC_ADMIN, RPC_ADMIN, 0, v3auth_change},
    [RPC_AUTH_ROLE_GRANT_PERMISSION] =  {RPC_ADMIN, RPC_ADMIN, 0, v3auth_change},
    [RPC_AUTH_ROLE_REVOKE_PERMISSION] = {RPC_ADMIN, RPC_ADMIN, 0, v3auth_change},

    [RPC_LOCK_LOCK] =         {RPC_KEYS, RPC_KEYS, RPC_BLOCKING | RPC_WAITS | RPC_UNKNOWN_ERRORS, v3lock_lock},
    [RPC_LOCK_UNLOCK] =       {RPC_KEYS, RPC_KEYS, RPC_BLOCKING | RPC_UNKNOWN_ERRORS, v3lock_unlock},
    [RPC_ELECTION_CAMPAIGN] = {RPC_KEYS, RPC_KEYS, RPC_BLOCKING | RPC_WAITS | RPC_UNKNOWN_ERRORS, v3lock_campaign},
    [RPC_ELECTION_PROCLAIM] = {RPC_KEYS, RPC_KEYS, RPC_BLOCKING | RPC_UNKNOWN_ERRORS, v3lock_proclaim},
    [RPC_ELECTION_LEADER] =   {RPC_KEYS, RPC_KEYS, RPC_BLOCKING | RPC_UNKNOWN_ERRORS, v3lock_leader},
    [RPC_ELECTION_OBSERVE] =  {RPC_KEYS, RPC_KEYS, RPC_BLOCKING | RPC_WAITS | RPC_UNKNOWN_ERRORS, v3lock_observe},
    [RPC_ELECTION_RESIGN] =   {RPC_KEYS, RPC_KEYS, RPC_BLOCKING | RPC_UNKNOWN_ERRORS, v3lock_resign},

    [RPC_HEALTH_CHECK] = {RPC_OPEN, RPC_OPEN, 0, v3maint_health_check},
    [RPC_HEALTH_WATCH] = {RPC_OPEN, RPC_OPEN, 0, v3maint_health_watch},
};
/* clang-format on */

rpc_check *const rpc_checks[RPC_METHOD_N] = {
    [RPC_KV_RANGE] = v3kv_check_range,
    [RPC_KV_PUT] = v3kv_check_put,
    [RPC_KV_DELETE_RANGE] = v3kv_check_delete_range,
    [RPC_KV_TXN] = v3kv_check_txn,
    [RPC_CLUSTER_MEMBER_ADD] = v3cluster_check_add,
    [RPC_LOCK_UNLOCK] = v3lock_check_unlock,
    [RPC_ELECTION_PROCLAIM] = v3lock_check_proclaim,
    [RPC_ELECTION_OBSERVE] = v3lock_check_observe,
    [RPC_ELECTION_RESIGN] = v3lock_check_resign,
};
