/*
 * rpcpb.h - the messages and methods of the v3 API, each described once: lists
 * of macros that yield the C structs here, and their descriptions (msg.h) and
 * the method table in rpcpb.c. Constant, and so shared by all threads.
 *
 *   S(m, number, TYPE, name)        a field of a scalar type
 *   T(m, number, TYPE, name, of)    a field whose type is named by `of`
 *
 * TYPE is one of msg.h's types; with REP_ before it the field is repeated, with
 * ONE_ it is a member of the message's oneof. m is handed on: it is the
 * message that the list stands for. A list of fields that serves several
 * messages stands once.
 *
 * The message etcdserverpb.RangeRequest is struct rpcpb_range_request, described
 * by rpcpb_range_request_desc. What came after 3.2 is listed too: who never
 * sets it writes what 3.2 writes.
 */
#ifndef RPCPB_H
#define RPCPB_H

#include "msg.h"

/* clang-format off */

/* --- Enums: E(prefix, name, value). -------------------------------------- */

#define RPCPB_SORT_ORDERS(E, p) E(p, NONE, 0) E(p, ASCEND, 1) E(p, DESCEND, 2)
#define RPCPB_SORT_TARGETS(E, p) E(p, KEY, 0) E(p, VERSION, 1) E(p, CREATE, 2) E(p, MOD, 3) E(p, VALUE, 4)
#define RPCPB_COMPARE_RESULTS(E, p) E(p, EQUAL, 0) E(p, GREATER, 1) E(p, LESS, 2) E(p, NOT_EQUAL, 3)
#define RPCPB_COMPARE_TARGETS(E, p) E(p, VERSION, 0) E(p, CREATE, 1) E(p, MOD, 2) E(p, VALUE, 3) E(p, LEASE, 4)
#define RPCPB_WATCH_FILTERS(E, p) E(p, NOPUT, 0) E(p, NODELETE, 1)
#define RPCPB_ALARM_TYPES(E, p) E(p, NONE, 0) E(p, NOSPACE, 1) E(p, CORRUPT, 2)
#define RPCPB_ALARM_ACTIONS(E, p) E(p, GET, 0) E(p, ACTIVATE, 1) E(p, DEACTIVATE, 2)
#define RPCPB_DOWNGRADE_ACTIONS(E, p) E(p, VALIDATE, 0) E(p, ENABLE, 1) E(p, CANCEL, 2)
#define RPCPB_EVENT_TYPES(E, p) E(p, PUT, 0) E(p, DELETE, 1)
#define RPCPB_PERM_TYPES(E, p) E(p, READ, 0) E(p, WRITE, 1) E(p, READWRITE, 2)
#define RPCPB_HEALTH_STATUSES(E, p) E(p, UNKNOWN, 0) E(p, SERVING, 1) E(p, NOT_SERVING, 2) E(p, SERVICE_UNKNOWN, 3)

/* X(C name, values, prefix, Go's name) */
#define RPCPB_ENUMS(X) \
    X(sort_order,       RPCPB_SORT_ORDERS,       RPCPB_SORT_,       "etcdserverpb.RangeRequest_SortOrder") \
    X(sort_target,      RPCPB_SORT_TARGETS,      RPCPB_TARGET_,     "etcdserverpb.RangeRequest_SortTarget") \
    X(compare_result,   RPCPB_COMPARE_RESULTS,   RPCPB_COMPARE_,    "etcdserverpb.Compare_CompareResult") \
    X(compare_target,   RPCPB_COMPARE_TARGETS,   RPCPB_COMPARE_TO_, "etcdserverpb.Compare_CompareTarget") \
    X(watch_filter,     RPCPB_WATCH_FILTERS,     RPCPB_FILTER_,     "etcdserverpb.WatchCreateRequest_FilterType") \
    X(alarm_type,       RPCPB_ALARM_TYPES,       RPCPB_ALARM_,      "etcdserverpb.AlarmType") \
    X(alarm_action,     RPCPB_ALARM_ACTIONS,     RPCPB_ALARM_DO_,   "etcdserverpb.AlarmRequest_AlarmAction") \
    X(downgrade_action, RPCPB_DOWNGRADE_ACTIONS, RPCPB_DOWNGRADE_,  "etcdserverpb.DowngradeRequest_DowngradeAction") \
    X(event_type,       RPCPB_EVENT_TYPES,       RPCPB_EVENT_,      "mvccpb.Event_EventType") \
    X(perm_type,        RPCPB_PERM_TYPES,        RPCPB_PERM_,       "authpb.Permission_Type") \
    X(health_status,    RPCPB_HEALTH_STATUSES,   RPCPB_HEALTH_,     "grpc.health.v1.HealthCheckResponse_ServingStatus")

/* --- Fields that several messages share. ----------------------------------- */

#define RPCPB_HEADER(S, T, m) T(m, 1, MESSAGE, header, response_header)
#define RPCPB_NAME(S, T, m) S(m, 1, STRING, name)
#define RPCPB_ROLE(S, T, m) S(m, 1, STRING, role)
#define RPCPB_ID(S, T, m) S(m, 1, INT64, ID)
#define RPCPB_MEMBER_ID(S, T, m) S(m, 1, UINT64, ID)
#define RPCPB_NAME_PASSWORD(S, T, m) S(m, 1, STRING, name) S(m, 2, STRING, password)
#define RPCPB_HEADER_MEMBERS(S, T, m) RPCPB_HEADER(S, T, m) T(m, 2, REP_MESSAGE, members, member)
#define RPCPB_HEADER_ID_TTL(S, T, m) RPCPB_HEADER(S, T, m) S(m, 2, INT64, ID) S(m, 3, INT64, TTL)
#define RPCPB_HEADER_ROLES(S, T, m) RPCPB_HEADER(S, T, m) S(m, 2, REP_STRING, roles)
#define RPCPB_VER(S, T, m) S(m, 1, STRING, ver)

/* --- mvccpb, authpb. ---------------------------------------------------------- */

#define RPCPB_KEY_VALUE(S, T, m) \
    S(m, 1, BYTES, key) \
    S(m, 2, INT64, create_revision) \
    S(m, 3, INT64, mod_revision) \
    S(m, 4, INT64, version) \
    S(m, 5, BYTES, value) \
    S(m, 6, INT64, lease)
#define RPCPB_EVENT(S, T, m) \
    T(m, 1, ENUM, type, event_type) \
    T(m, 2, MESSAGE, kv, key_value) \
    T(m, 3, MESSAGE, prev_kv, key_value)

#define RPCPB_USER_ADD_OPTIONS(S, T, m) S(m, 1, BOOL, no_password)
#define RPCPB_USER(S, T, m) \
    S(m, 1, BYTES, name) \
    S(m, 2, BYTES, password) \
    S(m, 3, REP_STRING, roles) \
    T(m, 4, MESSAGE, options, user_add_options)
#define RPCPB_PERMISSION(S, T, m) \
    T(m, 1, ENUM, permType, perm_type) \
    S(m, 2, BYTES, key) \
    S(m, 3, BYTES, range_end)
#define RPCPB_ROLE_RECORD(S, T, m) \
    S(m, 1, BYTES, name) \
    T(m, 2, REP_MESSAGE, keyPermission, permission)

/* --- KV. ------------------------------------------------------------------------ */

#define RPCPB_RESPONSE_HEADER(S, T, m) \
    S(m, 1, UINT64, cluster_id) \
    S(m, 2, UINT64, member_id) \
    S(m, 3, INT64, revision) \
    S(m, 4, UINT64, raft_term)

#define RPCPB_RANGE_REQUEST(S, T, m) \
    S(m, 1, BYTES, key) \
    S(m, 2, BYTES, range_end) \
    S(m, 3, INT64, limit) \
    S(m, 4, INT64, revision) \
    T(m, 5, ENUM, sort_order, sort_order) \
    T(m, 6, ENUM, sort_target, sort_target) \
    S(m, 7, BOOL, serializable) \
    S(m, 8, BOOL, keys_only) \
    S(m, 9, BOOL, count_only) \
    S(m, 10, INT64, min_mod_revision) \
    S(m, 11, INT64, max_mod_revision) \
    S(m, 12, INT64, min_create_revision) \
    S(m, 13, INT64, max_create_revision)
#define RPCPB_RANGE_RESPONSE(S, T, m) \
    RPCPB_HEADER(S, T, m) \
    T(m, 2, REP_MESSAGE, kvs, key_value) \
    S(m, 3, BOOL, more) \
    S(m, 4, INT64, count)
#define RPCPB_RANGE_STREAM_RESPONSE(S, T, m) T(m, 1, MESSAGE, range_response, range_response)

#define RPCPB_PUT_REQUEST(S, T, m) \
    S(m, 1, BYTES, key) \
    S(m, 2, BYTES, value) \
    S(m, 3, INT64, lease) \
    S(m, 4, BOOL, prev_kv) \
    S(m, 5, BOOL, ignore_value) \
    S(m, 6, BOOL, ignore_lease)
#define RPCPB_PUT_RESPONSE(S, T, m) \
    RPCPB_HEADER(S, T, m) \
    T(m, 2, MESSAGE, prev_kv, key_value)

#define RPCPB_DELETE_RANGE_REQUEST(S, T, m) \
    S(m, 1, BYTES, key) \
    S(m, 2, BYTES, range_end) \
    S(m, 3, BOOL, prev_kv)
#define RPCPB_DELETE_RANGE_RESPONSE(S, T, m) \
    RPCPB_HEADER(S, T, m) \
    S(m, 2, INT64, deleted) \
    T(m, 3, REP_MESSAGE, prev_kvs, key_value)

#define RPCPB_REQUEST_OP(S, T, m) \
    T(m, 1, ONE_MESSAGE, request_range, range_request) \
    T(m, 2, ONE_MESSAGE, request_put, put_request) \
    T(m, 3, ONE_MESSAGE, request_delete_range, delete_range_request) \
    T(m, 4, ONE_MESSAGE, request_txn, txn_request)
#define RPCPB_RESPONSE_OP(S, T, m) \
    T(m, 1, ONE_MESSAGE, response_range, range_response) \
    T(m, 2, ONE_MESSAGE, response_put, put_response) \
    T(m, 3, ONE_MESSAGE, response_delete_range, delete_range_response) \
    T(m, 4, ONE_MESSAGE, response_txn, txn_response)
#define RPCPB_COMPARE(S, T, m) \
    T(m, 1, ENUM, result, compare_result) \
    T(m, 2, ENUM, target, compare_target) \
    S(m, 3, BYTES, key) \
    S(m, 4, ONE_INT64, version) \
    S(m, 5, ONE_INT64, create_revision) \
    S(m, 6, ONE_INT64, mod_revision) \
    S(m, 7, ONE_BYTES, value) \
    S(m, 8, ONE_INT64, lease) \
    S(m, 64, BYTES, range_end)
#define RPCPB_TXN_REQUEST(S, T, m) \
    T(m, 1, REP_MESSAGE, compare, compare) \
    T(m, 2, REP_MESSAGE, success, request_op) \
    T(m, 3, REP_MESSAGE, failure, request_op)
#define RPCPB_TXN_RESPONSE(S, T, m) \
    RPCPB_HEADER(S, T, m) \
    S(m, 2, BOOL, succeeded) \
    T(m, 3, REP_MESSAGE, responses, response_op)

#define RPCPB_COMPACTION_REQUEST(S, T, m) \
    S(m, 1, INT64, revision) \
    S(m, 2, BOOL, physical)

/* --- Watch. ----------------------------------------------------------------------- */

#define RPCPB_WATCH_REQUEST(S, T, m) \
    T(m, 1, ONE_MESSAGE, create_request, watch_create_request) \
    T(m, 2, ONE_MESSAGE, cancel_request, watch_cancel_request) \
    T(m, 3, ONE_MESSAGE, progress_request, watch_progress_request)
#define RPCPB_WATCH_CREATE_REQUEST(S, T, m) \
    S(m, 1, BYTES, key) \
    S(m, 2, BYTES, range_end) \
    S(m, 3, INT64, start_revision) \
    S(m, 4, BOOL, progress_notify) \
    T(m, 5, REP_ENUM, filters, watch_filter) \
    S(m, 6, BOOL, prev_kv) \
    S(m, 7, INT64, watch_id) \
    S(m, 8, BOOL, fragment)
#define RPCPB_WATCH_CANCEL_REQUEST(S, T, m) S(m, 1, INT64, watch_id)
#define RPCPB_WATCH_RESPONSE(S, T, m) \
    RPCPB_HEADER(S, T, m) \
    S(m, 2, INT64, watch_id) \
    S(m, 3, BOOL, created) \
    S(m, 4, BOOL, canceled) \
    S(m, 5, INT64, compact_revision) \
    S(m, 6, STRING, cancel_reason) \
    S(m, 7, BOOL, fragment) \
    T(m, 11, REP_MESSAGE, events, event)

/* --- Lease. ------------------------------------------------------------------------- */

#define RPCPB_LEASE_GRANT_REQUEST(S, T, m) \
    S(m, 1, INT64, TTL) \
    S(m, 2, INT64, ID)
#define RPCPB_LEASE_GRANT_RESPONSE(S, T, m) \
    RPCPB_HEADER_ID_TTL(S, T, m) \
    S(m, 4, STRING, error)
#define RPCPB_LEASE_CHECKPOINT(S, T, m) \
    S(m, 1, INT64, ID) \
    S(m, 2, INT64, remaining_TTL)
#define RPCPB_LEASE_CHECKPOINT_REQUEST(S, T, m) T(m, 1, REP_MESSAGE, checkpoints, lease_checkpoint)
#define RPCPB_LEASE_TIME_TO_LIVE_REQUEST(S, T, m) \
    S(m, 1, INT64, ID) \
    S(m, 2, BOOL, keys)
#define RPCPB_LEASE_TIME_TO_LIVE_RESPONSE(S, T, m) \
    RPCPB_HEADER_ID_TTL(S, T, m) \
    S(m, 4, INT64, grantedTTL) \
    S(m, 5, REP_BYTES, keys)
#define RPCPB_LEASE_LEASES_RESPONSE(S, T, m) \
    RPCPB_HEADER(S, T, m) \
    T(m, 2, REP_MESSAGE, leases, lease_status)

/* leasepb: what the database keeps, and what members ask each other over HTTP. */
#define RPCPB_LEASE_RECORD(S, T, m) \
    S(m, 1, INT64, ID) \
    S(m, 2, INT64, TTL) \
    S(m, 3, INT64, RemainingTTL)
#define RPCPB_LEASE_INTERNAL_REQUEST(S, T, m) \
    T(m, 1, MESSAGE, LeaseTimeToLiveRequest, lease_time_to_live_request)
#define RPCPB_LEASE_INTERNAL_RESPONSE(S, T, m) \
    T(m, 1, MESSAGE, LeaseTimeToLiveResponse, lease_time_to_live_response)

/* --- Cluster. ----------------------------------------------------------------------- */

#define RPCPB_MEMBER(S, T, m) \
    S(m, 1, UINT64, ID) \
    S(m, 2, STRING, name) \
    S(m, 3, REP_STRING, peerURLs) \
    S(m, 4, REP_STRING, clientURLs) \
    S(m, 5, BOOL, isLearner)
#define RPCPB_MEMBER_ADD_REQUEST(S, T, m) \
    S(m, 1, REP_STRING, peerURLs) \
    S(m, 2, BOOL, isLearner)
#define RPCPB_MEMBER_ADD_RESPONSE(S, T, m) \
    RPCPB_HEADER(S, T, m) \
    T(m, 2, MESSAGE, member, member) \
    T(m, 3, REP_MESSAGE, members, member)
#define RPCPB_MEMBER_UPDATE_REQUEST(S, T, m) \
    S(m, 1, UINT64, ID) \
    S(m, 2, REP_STRING, peerURLs)
#define RPCPB_MEMBER_LIST_REQUEST(S, T, m) S(m, 1, BOOL, linearizable)

/* --- Maintenance. ------------------------------------------------------------------- */

#define RPCPB_HASH_RESPONSE(S, T, m) \
    RPCPB_HEADER(S, T, m) \
    S(m, 2, UINT32, hash)
#define RPCPB_HASH_KV_REQUEST(S, T, m) S(m, 1, INT64, revision)
#define RPCPB_HASH_KV_RESPONSE(S, T, m) \
    RPCPB_HASH_RESPONSE(S, T, m) \
    S(m, 3, INT64, compact_revision) \
    S(m, 4, INT64, hash_revision)
#define RPCPB_SNAPSHOT_RESPONSE(S, T, m) \
    RPCPB_HEADER(S, T, m) \
    S(m, 2, UINT64, remaining_bytes) \
    S(m, 3, BYTES, blob) \
    S(m, 4, STRING, version)
#define RPCPB_ALARM_REQUEST(S, T, m) \
    T(m, 1, ENUM, action, alarm_action) \
    S(m, 2, UINT64, memberID) \
    T(m, 3, ENUM, alarm, alarm_type)
#define RPCPB_ALARM_MEMBER(S, T, m) \
    S(m, 1, UINT64, memberID) \
    T(m, 2, ENUM, alarm, alarm_type)
#define RPCPB_ALARM_RESPONSE(S, T, m) \
    RPCPB_HEADER(S, T, m) \
    T(m, 2, REP_MESSAGE, alarms, alarm_member)
#define RPCPB_DOWNGRADE_INFO(S, T, m) \
    S(m, 1, BOOL, enabled) \
    S(m, 2, STRING, targetVersion)
#define RPCPB_STATUS_RESPONSE(S, T, m) \
    RPCPB_HEADER(S, T, m) \
    S(m, 2, STRING, version) \
    S(m, 3, INT64, dbSize) \
    S(m, 4, UINT64, leader) \
    S(m, 5, UINT64, raftIndex) \
    S(m, 6, UINT64, raftTerm) \
    S(m, 7, UINT64, raftAppliedIndex) \
    S(m, 8, REP_STRING, errors) \
    S(m, 9, INT64, dbSizeInUse) \
    S(m, 10, BOOL, isLearner) \
    S(m, 11, STRING, storageVersion) \
    S(m, 12, INT64, dbSizeQuota) \
    T(m, 13, MESSAGE, downgradeInfo, downgrade_info)
#define RPCPB_MOVE_LEADER_REQUEST(S, T, m) S(m, 1, UINT64, targetID)
#define RPCPB_DOWNGRADE_REQUEST(S, T, m) \
    T(m, 1, ENUM, action, downgrade_action) \
    S(m, 2, STRING, version)
#define RPCPB_DOWNGRADE_RESPONSE(S, T, m) \
    RPCPB_HEADER(S, T, m) \
    S(m, 2, STRING, version)

/* --- Auth. -------------------------------------------------------------------------- */

#define RPCPB_AUTHENTICATE_RESPONSE(S, T, m) \
    RPCPB_HEADER(S, T, m) \
    S(m, 2, STRING, token)
#define RPCPB_AUTH_STATUS_RESPONSE(S, T, m) \
    RPCPB_HEADER(S, T, m) \
    S(m, 2, BOOL, enabled) \
    S(m, 3, UINT64, authRevision)
#define RPCPB_AUTH_USER_ADD_REQUEST(S, T, m) \
    RPCPB_NAME_PASSWORD(S, T, m) \
    T(m, 3, MESSAGE, options, user_add_options) \
    S(m, 4, STRING, hashedPassword)
#define RPCPB_AUTH_USER_CHANGE_PASSWORD_REQUEST(S, T, m) \
    RPCPB_NAME_PASSWORD(S, T, m) \
    S(m, 3, STRING, hashedPassword)
#define RPCPB_AUTH_USER_GRANT_ROLE_REQUEST(S, T, m) \
    S(m, 1, STRING, user) \
    S(m, 2, STRING, role)
#define RPCPB_AUTH_USER_REVOKE_ROLE_REQUEST(S, T, m) \
    S(m, 1, STRING, name) \
    S(m, 2, STRING, role)
#define RPCPB_AUTH_USER_LIST_RESPONSE(S, T, m) \
    RPCPB_HEADER(S, T, m) \
    S(m, 2, REP_STRING, users)
#define RPCPB_AUTH_ROLE_GET_RESPONSE(S, T, m) \
    RPCPB_HEADER(S, T, m) \
    T(m, 2, REP_MESSAGE, perm, permission)
#define RPCPB_AUTH_ROLE_GRANT_PERMISSION_REQUEST(S, T, m) \
    S(m, 1, STRING, name) \
    T(m, 2, MESSAGE, perm, permission)
#define RPCPB_AUTH_ROLE_REVOKE_PERMISSION_REQUEST(S, T, m) \
    S(m, 1, STRING, role) \
    S(m, 2, BYTES, key) \
    S(m, 3, BYTES, range_end)

/* --- Lock, Election, Health. ---------------------------------------------------------- */

#define RPCPB_LOCK_REQUEST(S, T, m) \
    S(m, 1, BYTES, name) \
    S(m, 2, INT64, lease)
#define RPCPB_LOCK_RESPONSE(S, T, m) \
    RPCPB_HEADER(S, T, m) \
    S(m, 2, BYTES, key)
#define RPCPB_UNLOCK_REQUEST(S, T, m) S(m, 1, BYTES, key)

#define RPCPB_LEADER_KEY(S, T, m) \
    S(m, 1, BYTES, name) \
    S(m, 2, BYTES, key) \
    S(m, 3, INT64, rev) \
    S(m, 4, INT64, lease)
#define RPCPB_CAMPAIGN_REQUEST(S, T, m) \
    S(m, 1, BYTES, name) \
    S(m, 2, INT64, lease) \
    S(m, 3, BYTES, value)
#define RPCPB_CAMPAIGN_RESPONSE(S, T, m) \
    RPCPB_HEADER(S, T, m) \
    T(m, 2, MESSAGE, leader, leader_key)
#define RPCPB_LEADER_REQUEST(S, T, m) S(m, 1, BYTES, name)
#define RPCPB_LEADER_RESPONSE(S, T, m) \
    RPCPB_HEADER(S, T, m) \
    T(m, 2, MESSAGE, kv, key_value)
#define RPCPB_RESIGN_REQUEST(S, T, m) T(m, 1, MESSAGE, leader, leader_key)
#define RPCPB_PROCLAIM_REQUEST(S, T, m) \
    RPCPB_RESIGN_REQUEST(S, T, m) \
    S(m, 2, BYTES, value)

#define RPCPB_HEALTH_CHECK_REQUEST(S, T, m) S(m, 1, STRING, service)
#define RPCPB_HEALTH_CHECK_RESPONSE(S, T, m) T(m, 1, ENUM, status, health_status)

/* --- What stands in the log. (spec: raft-and-storage, 12.2) ----------------------------- */

#define RPCPB_REQUEST_HEADER(S, T, m) \
    S(m, 1, UINT64, ID) \
    S(m, 2, STRING, username) \
    S(m, 3, UINT64, auth_revision)
#define RPCPB_INTERNAL_AUTHENTICATE_REQUEST(S, T, m) \
    RPCPB_NAME_PASSWORD(S, T, m) \
    S(m, 3, STRING, simple_token)
#define RPCPB_ATTRIBUTES(S, T, m) \
    S(m, 1, STRING, name) \
    S(m, 2, REP_STRING, client_urls)
#define RPCPB_CLUSTER_MEMBER_ATTR_SET_REQUEST(S, T, m) \
    S(m, 1, UINT64, member_ID) \
    T(m, 2, MESSAGE, member_attributes, attributes)
#define RPCPB_DOWNGRADE_INFO_SET_REQUEST(S, T, m) \
    S(m, 1, BOOL, enabled) \
    S(m, 2, STRING, ver)
/* v2 is left as bytes: etcdpb.h reads it. */
#define RPCPB_INTERNAL_RAFT_REQUEST(S, T, m) \
    S(m, 1, UINT64, ID) \
    S(m, 2, BYTES, v2) \
    T(m, 3, MESSAGE, range, range_request) \
    T(m, 4, MESSAGE, put, put_request) \
    T(m, 5, MESSAGE, delete_range, delete_range_request) \
    T(m, 6, MESSAGE, txn, txn_request) \
    T(m, 7, MESSAGE, compaction, compaction_request) \
    T(m, 8, MESSAGE, lease_grant, lease_grant_request) \
    T(m, 9, MESSAGE, lease_revoke, lease_revoke_request) \
    T(m, 10, MESSAGE, alarm, alarm_request) \
    T(m, 11, MESSAGE, lease_checkpoint, lease_checkpoint_request) \
    T(m, 100, MESSAGE, header, request_header) \
    T(m, 1000, MESSAGE, auth_enable, auth_enable_request) \
    T(m, 1011, MESSAGE, auth_disable, auth_disable_request) \
    T(m, 1012, MESSAGE, authenticate, internal_authenticate_request) \
    T(m, 1013, MESSAGE, auth_status, auth_status_request) \
    T(m, 1100, MESSAGE, auth_user_add, auth_user_add_request) \
    T(m, 1101, MESSAGE, auth_user_delete, auth_user_delete_request) \
    T(m, 1102, MESSAGE, auth_user_get, auth_user_get_request) \
    T(m, 1103, MESSAGE, auth_user_change_password, auth_user_change_password_request) \
    T(m, 1104, MESSAGE, auth_user_grant_role, auth_user_grant_role_request) \
    T(m, 1105, MESSAGE, auth_user_revoke_role, auth_user_revoke_role_request) \
    T(m, 1106, MESSAGE, auth_user_list, auth_user_list_request) \
    T(m, 1107, MESSAGE, auth_role_list, auth_role_list_request) \
    T(m, 1200, MESSAGE, auth_role_add, auth_role_add_request) \
    T(m, 1201, MESSAGE, auth_role_delete, auth_role_delete_request) \
    T(m, 1202, MESSAGE, auth_role_get, auth_role_get_request) \
    T(m, 1203, MESSAGE, auth_role_grant_permission, auth_role_grant_permission_request) \
    T(m, 1204, MESSAGE, auth_role_revoke_permission, auth_role_revoke_permission_request) \
    T(m, 1300, MESSAGE, cluster_version_set, cluster_version_set_request) \
    T(m, 1301, MESSAGE, cluster_member_attr_set, cluster_member_attr_set_request) \
    T(m, 1302, MESSAGE, downgrade_info_set, downgrade_info_set_request) \
    T(m, 9900, MESSAGE, downgrade_version_test, downgrade_version_test_request)

/* --- All messages: M(C name, proto name, fields), V(C name, proto name) without fields. --- */

#define RPCPB_MESSAGES(M, V) \
    M(key_value, "mvccpb.KeyValue", RPCPB_KEY_VALUE) \
    M(event, "mvccpb.Event", RPCPB_EVENT) \
    M(user_add_options, "authpb.UserAddOptions", RPCPB_USER_ADD_OPTIONS) \
    M(user, "authpb.User", RPCPB_USER) \
    M(permission, "authpb.Permission", RPCPB_PERMISSION) \
    M(role, "authpb.Role", RPCPB_ROLE_RECORD) \
    M(response_header, "etcdserverpb.ResponseHeader", RPCPB_RESPONSE_HEADER) \
    M(range_request, "etcdserverpb.RangeRequest", RPCPB_RANGE_REQUEST) \
    M(range_response, "etcdserverpb.RangeResponse", RPCPB_RANGE_RESPONSE) \
    M(range_stream_response, "etcdserverpb.RangeStreamResponse", RPCPB_RANGE_STREAM_RESPONSE) \
    M(put_request, "etcdserverpb.PutRequest", RPCPB_PUT_REQUEST) \
    M(put_response, "etcdserverpb.PutResponse", RPCPB_PUT_RESPONSE) \
    M(delete_range_request, "etcdserverpb.DeleteRangeRequest", RPCPB_DELETE_RANGE_REQUEST) \
    M(delete_range_response, "etcdserverpb.DeleteRangeResponse", RPCPB_DELETE_RANGE_RESPONSE) \
    M(request_op, "etcdserverpb.RequestOp", RPCPB_REQUEST_OP) \
    M(response_op, "etcdserverpb.ResponseOp", RPCPB_RESPONSE_OP) \
    M(compare, "etcdserverpb.Compare", RPCPB_COMPARE) \
    M(txn_request, "etcdserverpb.TxnRequest", RPCPB_TXN_REQUEST) \
    M(txn_response, "etcdserverpb.TxnResponse", RPCPB_TXN_RESPONSE) \
    M(compaction_request, "etcdserverpb.CompactionRequest", RPCPB_COMPACTION_REQUEST) \
    M(compaction_response, "etcdserverpb.CompactionResponse", RPCPB_HEADER) \
    M(watch_request, "etcdserverpb.WatchRequest", RPCPB_WATCH_REQUEST) \
    M(watch_create_request, "etcdserverpb.WatchCreateRequest", RPCPB_WATCH_CREATE_REQUEST) \
    M(watch_cancel_request, "etcdserverpb.WatchCancelRequest", RPCPB_WATCH_CANCEL_REQUEST) \
    V(watch_progress_request, "etcdserverpb.WatchProgressRequest") \
    M(watch_response, "etcdserverpb.WatchResponse", RPCPB_WATCH_RESPONSE) \
    M(lease_grant_request, "etcdserverpb.LeaseGrantRequest", RPCPB_LEASE_GRANT_REQUEST) \
    M(lease_grant_response, "etcdserverpb.LeaseGrantResponse", RPCPB_LEASE_GRANT_RESPONSE) \
    M(lease_revoke_request, "etcdserverpb.LeaseRevokeRequest", RPCPB_ID) \
    M(lease_revoke_response, "etcdserverpb.LeaseRevokeResponse", RPCPB_HEADER) \
    M(lease_checkpoint, "etcdserverpb.LeaseCheckpoint", RPCPB_LEASE_CHECKPOINT) \
    M(lease_checkpoint_request, "etcdserverpb.LeaseCheckpointRequest", RPCPB_LEASE_CHECKPOINT_REQUEST) \
    M(lease_checkpoint_response, "etcdserverpb.LeaseCheckpointResponse", RPCPB_HEADER) \
    M(lease_keep_alive_request, "etcdserverpb.LeaseKeepAliveRequest", RPCPB_ID) \
    M(lease_keep_alive_response, "etcdserverpb.LeaseKeepAliveResponse", RPCPB_HEADER_ID_TTL) \
    M(lease_time_to_live_request, "etcdserverpb.LeaseTimeToLiveRequest", RPCPB_LEASE_TIME_TO_LIVE_REQUEST) \
    M(lease_time_to_live_response, "etcdserverpb.LeaseTimeToLiveResponse", RPCPB_LEASE_TIME_TO_LIVE_RESPONSE) \
    V(lease_leases_request, "etcdserverpb.LeaseLeasesRequest") \
    M(lease_status, "etcdserverpb.LeaseStatus", RPCPB_ID) \
    M(lease_leases_response, "etcdserverpb.LeaseLeasesResponse", RPCPB_LEASE_LEASES_RESPONSE) \
    M(lease_record, "leasepb.Lease", RPCPB_LEASE_RECORD) \
    M(lease_internal_request, "leasepb.LeaseInternalRequest", RPCPB_LEASE_INTERNAL_REQUEST) \
    M(lease_internal_response, "leasepb.LeaseInternalResponse", RPCPB_LEASE_INTERNAL_RESPONSE) \
    M(member, "etcdserverpb.Member", RPCPB_MEMBER) \
    M(member_add_request, "etcdserverpb.MemberAddRequest", RPCPB_MEMBER_ADD_REQUEST) \
    M(member_add_response, "etcdserverpb.MemberAddResponse", RPCPB_MEMBER_ADD_RESPONSE) \
    M(member_remove_request, "etcdserverpb.MemberRemoveRequest", RPCPB_MEMBER_ID) \
    M(member_remove_response, "etcdserverpb.MemberRemoveResponse", RPCPB_HEADER_MEMBERS) \
    M(member_update_request, "etcdserverpb.MemberUpdateRequest", RPCPB_MEMBER_UPDATE_REQUEST) \
    M(member_update_response, "etcdserverpb.MemberUpdateResponse", RPCPB_HEADER_MEMBERS) \
    M(member_list_request, "etcdserverpb.MemberListRequest", RPCPB_MEMBER_LIST_REQUEST) \
    M(member_list_response, "etcdserverpb.MemberListResponse", RPCPB_HEADER_MEMBERS) \
    M(member_promote_request, "etcdserverpb.MemberPromoteRequest", RPCPB_MEMBER_ID) \
    M(member_promote_response, "etcdserverpb.MemberPromoteResponse", RPCPB_HEADER_MEMBERS) \
    V(hash_request, "etcdserverpb.HashRequest") \
    M(hash_response, "etcdserverpb.HashResponse", RPCPB_HASH_RESPONSE) \
    M(hash_kv_request, "etcdserverpb.HashKVRequest", RPCPB_HASH_KV_REQUEST) \
    M(hash_kv_response, "etcdserverpb.HashKVResponse", RPCPB_HASH_KV_RESPONSE) \
    V(snapshot_request, "etcdserverpb.SnapshotRequest") \
    M(snapshot_response, "etcdserverpb.SnapshotResponse", RPCPB_SNAPSHOT_RESPONSE) \
    V(defragment_request, "etcdserverpb.DefragmentRequest") \
    M(defragment_response, "etcdserverpb.DefragmentResponse", RPCPB_HEADER) \
    M(move_leader_request, "etcdserverpb.MoveLeaderRequest", RPCPB_MOVE_LEADER_REQUEST) \
    M(move_leader_response, "etcdserverpb.MoveLeaderResponse", RPCPB_HEADER) \
    M(alarm_request, "etcdserverpb.AlarmRequest", RPCPB_ALARM_REQUEST) \
    M(alarm_member, "etcdserverpb.AlarmMember", RPCPB_ALARM_MEMBER) \
    M(alarm_response, "etcdserverpb.AlarmResponse", RPCPB_ALARM_RESPONSE) \
    V(status_request, "etcdserverpb.StatusRequest") \
    M(downgrade_info, "etcdserverpb.DowngradeInfo", RPCPB_DOWNGRADE_INFO) \
    M(status_response, "etcdserverpb.StatusResponse", RPCPB_STATUS_RESPONSE) \
    M(downgrade_request, "etcdserverpb.DowngradeRequest", RPCPB_DOWNGRADE_REQUEST) \
    M(downgrade_response, "etcdserverpb.DowngradeResponse", RPCPB_DOWNGRADE_RESPONSE) \
    M(downgrade_version_test_request, "etcdserverpb.DowngradeVersionTestRequest", RPCPB_VER) \
    V(auth_enable_request, "etcdserverpb.AuthEnableRequest") \
    M(auth_enable_response, "etcdserverpb.AuthEnableResponse", RPCPB_HEADER) \
    V(auth_disable_request, "etcdserverpb.AuthDisableRequest") \
    M(auth_disable_response, "etcdserverpb.AuthDisableResponse", RPCPB_HEADER) \
    V(auth_status_request, "etcdserverpb.AuthStatusRequest") \
    M(auth_status_response, "etcdserverpb.AuthStatusResponse", RPCPB_AUTH_STATUS_RESPONSE) \
    M(authenticate_request, "etcdserverpb.AuthenticateRequest", RPCPB_NAME_PASSWORD) \
    M(authenticate_response, "etcdserverpb.AuthenticateResponse", RPCPB_AUTHENTICATE_RESPONSE) \
    M(auth_user_add_request, "etcdserverpb.AuthUserAddRequest", RPCPB_AUTH_USER_ADD_REQUEST) \
    M(auth_user_add_response, "etcdserverpb.AuthUserAddResponse", RPCPB_HEADER) \
    M(auth_user_get_request, "etcdserverpb.AuthUserGetRequest", RPCPB_NAME) \
    M(auth_user_get_response, "etcdserverpb.AuthUserGetResponse", RPCPB_HEADER_ROLES) \
    M(auth_user_delete_request, "etcdserverpb.AuthUserDeleteRequest", RPCPB_NAME) \
    M(auth_user_delete_response, "etcdserverpb.AuthUserDeleteResponse", RPCPB_HEADER) \
    M(auth_user_change_password_request, "etcdserverpb.AuthUserChangePasswordRequest", RPCPB_AUTH_USER_CHANGE_PASSWORD_REQUEST) \
    M(auth_user_change_password_response, "etcdserverpb.AuthUserChangePasswordResponse", RPCPB_HEADER) \
    M(auth_user_grant_role_request, "etcdserverpb.AuthUserGrantRoleRequest", RPCPB_AUTH_USER_GRANT_ROLE_REQUEST) \
    M(auth_user_grant_role_response, "etcdserverpb.AuthUserGrantRoleResponse", RPCPB_HEADER) \
    M(auth_user_revoke_role_request, "etcdserverpb.AuthUserRevokeRoleRequest", RPCPB_AUTH_USER_REVOKE_ROLE_REQUEST) \
    M(auth_user_revoke_role_response, "etcdserverpb.AuthUserRevokeRoleResponse", RPCPB_HEADER) \
    V(auth_user_list_request, "etcdserverpb.AuthUserListRequest") \
    M(auth_user_list_response, "etcdserverpb.AuthUserListResponse", RPCPB_AUTH_USER_LIST_RESPONSE) \
    M(auth_role_add_request, "etcdserverpb.AuthRoleAddRequest", RPCPB_NAME) \
    M(auth_role_add_response, "etcdserverpb.AuthRoleAddResponse", RPCPB_HEADER) \
    M(auth_role_get_request, "etcdserverpb.AuthRoleGetRequest", RPCPB_ROLE) \
    M(auth_role_get_response, "etcdserverpb.AuthRoleGetResponse", RPCPB_AUTH_ROLE_GET_RESPONSE) \
    V(auth_role_list_request, "etcdserverpb.AuthRoleListRequest") \
    M(auth_role_list_response, "etcdserverpb.AuthRoleListResponse", RPCPB_HEADER_ROLES) \
    M(auth_role_delete_request, "etcdserverpb.AuthRoleDeleteRequest", RPCPB_ROLE) \
    M(auth_role_delete_response, "etcdserverpb.AuthRoleDeleteResponse", RPCPB_HEADER) \
    M(auth_role_grant_permission_request, "etcdserverpb.AuthRoleGrantPermissionRequest", RPCPB_AUTH_ROLE_GRANT_PERMISSION_REQUEST) \
    M(auth_role_grant_permission_response, "etcdserverpb.AuthRoleGrantPermissionResponse", RPCPB_HEADER) \
    M(auth_role_revoke_permission_request, "etcdserverpb.AuthRoleRevokePermissionRequest", RPCPB_AUTH_ROLE_REVOKE_PERMISSION_REQUEST) \
    M(auth_role_revoke_permission_response, "etcdserverpb.AuthRoleRevokePermissionResponse", RPCPB_HEADER) \
    M(lock_request, "v3lockpb.LockRequest", RPCPB_LOCK_REQUEST) \
    M(lock_response, "v3lockpb.LockResponse", RPCPB_LOCK_RESPONSE) \
    M(unlock_request, "v3lockpb.UnlockRequest", RPCPB_UNLOCK_REQUEST) \
    M(unlock_response, "v3lockpb.UnlockResponse", RPCPB_HEADER) \
    M(leader_key, "v3electionpb.LeaderKey", RPCPB_LEADER_KEY) \
    M(campaign_request, "v3electionpb.CampaignRequest", RPCPB_CAMPAIGN_REQUEST) \
    M(campaign_response, "v3electionpb.CampaignResponse", RPCPB_CAMPAIGN_RESPONSE) \
    M(leader_request, "v3electionpb.LeaderRequest", RPCPB_LEADER_REQUEST) \
    M(leader_response, "v3electionpb.LeaderResponse", RPCPB_LEADER_RESPONSE) \
    M(resign_request, "v3electionpb.ResignRequest", RPCPB_RESIGN_REQUEST) \
    M(resign_response, "v3electionpb.ResignResponse", RPCPB_HEADER) \
    M(proclaim_request, "v3electionpb.ProclaimRequest", RPCPB_PROCLAIM_REQUEST) \
    M(proclaim_response, "v3electionpb.ProclaimResponse", RPCPB_HEADER) \
    M(health_check_request, "grpc.health.v1.HealthCheckRequest", RPCPB_HEALTH_CHECK_REQUEST) \
    M(health_check_response, "grpc.health.v1.HealthCheckResponse", RPCPB_HEALTH_CHECK_RESPONSE) \
    M(request_header, "etcdserverpb.RequestHeader", RPCPB_REQUEST_HEADER) \
    M(internal_authenticate_request, "etcdserverpb.InternalAuthenticateRequest", RPCPB_INTERNAL_AUTHENTICATE_REQUEST) \
    M(cluster_version_set_request, "membershippb.ClusterVersionSetRequest", RPCPB_VER) \
    M(attributes, "membershippb.Attributes", RPCPB_ATTRIBUTES) \
    M(cluster_member_attr_set_request, "membershippb.ClusterMemberAttrSetRequest", RPCPB_CLUSTER_MEMBER_ATTR_SET_REQUEST) \
    M(downgrade_info_set_request, "membershippb.DowngradeInfoSetRequest", RPCPB_DOWNGRADE_INFO_SET_REQUEST) \
    M(internal_raft_request, "etcdserverpb.InternalRaftRequest", RPCPB_INTERNAL_RAFT_REQUEST)

/* --- What the lists yield. --------------------------------------------------------------- */

#define RPCPB_ENUM_VALUE(p, name, value) p##name = (value),
#define RPCPB_ENUM(name, values, prefix, full) \
    enum rpcpb_##name { values(RPCPB_ENUM_VALUE, prefix) }; \
    extern const struct msg_enum rpcpb_##name##_enum;
RPCPB_ENUMS(RPCPB_ENUM)

#define RPCPB_C_BOOL(of) bool
#define RPCPB_C_INT64(of) int64_t
#define RPCPB_C_UINT64(of) uint64_t
#define RPCPB_C_UINT32(of) uint32_t
#define RPCPB_C_BYTES(of) struct str
#define RPCPB_C_STRING(of) struct str
#define RPCPB_C_ENUM(of) int32_t
#define RPCPB_C_MESSAGE(of) struct rpcpb_##of *
#define RPCPB_C_ONE_INT64(of) int64_t *
#define RPCPB_C_ONE_BYTES(of) struct str *
#define RPCPB_C_ONE_MESSAGE(of) struct rpcpb_##of *
#define RPCPB_C_REP_BYTES(of) struct { struct str *items; size_t n; }
#define RPCPB_C_REP_STRING(of) struct { struct str *items; size_t n; }
#define RPCPB_C_REP_ENUM(of) struct { int32_t *items; size_t n; }
#define RPCPB_C_REP_MESSAGE(of) struct { struct rpcpb_##of *items; size_t n; }

#define RPCPB_MEMBER_S(m, number, type, name) RPCPB_C_##type() name;
#define RPCPB_MEMBER_T(m, number, type, name, of) RPCPB_C_##type(of) name;
#define RPCPB_STRUCT(m, full, fields) \
    struct rpcpb_##m { fields(RPCPB_MEMBER_S, RPCPB_MEMBER_T, m) }; \
    extern const struct msg_desc rpcpb_##m##_desc;
#define RPCPB_STRUCT_EMPTY(m, full) \
    struct rpcpb_##m { char none; /* C knows no empty struct */ }; \
    extern const struct msg_desc rpcpb_##m##_desc;
RPCPB_MESSAGES(RPCPB_STRUCT, RPCPB_STRUCT_EMPTY)

/* Each of them, for tools and tests that go through all. */
extern const struct msg_desc *const rpcpb_messages[];
extern const size_t rpcpb_n_messages;

/* --- Methods. ------------------------------------------------------------------------------ */

/*
 * X(service, id, name, request, response, streams, path and other path in the
 * gateway): paths without the version prefix; "" where there is none. The
 * methods of a service stand together, the busiest services first.
 */
#define RPC_METHODS(X) \
    X(KV, KV_RANGE, "Range", range_request, range_response, 0, "/kv/range", "") \
    X(KV, KV_PUT, "Put", put_request, put_response, 0, "/kv/put", "") \
    X(KV, KV_DELETE_RANGE, "DeleteRange", delete_range_request, delete_range_response, 0, "/kv/deleterange", "") \
    X(KV, KV_TXN, "Txn", txn_request, txn_response, 0, "/kv/txn", "") \
    X(KV, KV_COMPACT, "Compact", compaction_request, compaction_response, 0, "/kv/compaction", "") \
    X(KV, KV_RANGE_STREAM, "RangeStream", range_request, range_stream_response, RPC_SERVER_STREAM, "", "") \
    X(WATCH, WATCH_WATCH, "Watch", watch_request, watch_response, RPC_BIDI_STREAM, "/watch", "") \
    X(LEASE, LEASE_GRANT, "LeaseGrant", lease_grant_request, lease_grant_response, 0, "/lease/grant", "") \
    X(LEASE, LEASE_REVOKE, "LeaseRevoke", lease_revoke_request, lease_revoke_response, 0, "/lease/revoke", "/kv/lease/revoke") \
    X(LEASE, LEASE_KEEP_ALIVE, "LeaseKeepAlive", lease_keep_alive_request, lease_keep_alive_response, RPC_BIDI_STREAM, "/lease/keepalive", "") \
    X(LEASE, LEASE_TIME_TO_LIVE, "LeaseTimeToLive", lease_time_to_live_request, lease_time_to_live_response, 0, "/lease/timetolive", "/kv/lease/timetolive") \
    X(LEASE, LEASE_LEASES, "LeaseLeases", lease_leases_request, lease_leases_response, 0, "/lease/leases", "/kv/lease/leases") \
    X(CLUSTER, CLUSTER_MEMBER_ADD, "MemberAdd", member_add_request, member_add_response, 0, "/cluster/member/add", "") \
    X(CLUSTER, CLUSTER_MEMBER_REMOVE, "MemberRemove", member_remove_request, member_remove_response, 0, "/cluster/member/remove", "") \
    X(CLUSTER, CLUSTER_MEMBER_UPDATE, "MemberUpdate", member_update_request, member_update_response, 0, "/cluster/member/update", "") \
    X(CLUSTER, CLUSTER_MEMBER_LIST, "MemberList", member_list_request, member_list_response, 0, "/cluster/member/list", "") \
    X(CLUSTER, CLUSTER_MEMBER_PROMOTE, "MemberPromote", member_promote_request, member_promote_response, 0, "/cluster/member/promote", "") \
    X(MAINTENANCE, MAINTENANCE_ALARM, "Alarm", alarm_request, alarm_response, 0, "/maintenance/alarm", "") \
    X(MAINTENANCE, MAINTENANCE_STATUS, "Status", status_request, status_response, 0, "/maintenance/status", "") \
    X(MAINTENANCE, MAINTENANCE_DEFRAGMENT, "Defragment", defragment_request, defragment_response, 0, "/maintenance/defragment", "") \
    X(MAINTENANCE, MAINTENANCE_HASH, "Hash", hash_request, hash_response, 0, "/maintenance/hash", "") \
    X(MAINTENANCE, MAINTENANCE_HASH_KV, "HashKV", hash_kv_request, hash_kv_response, 0, "/maintenance/hashkv", "") \
    X(MAINTENANCE, MAINTENANCE_SNAPSHOT, "Snapshot", snapshot_request, snapshot_response, RPC_SERVER_STREAM, "/maintenance/snapshot", "") \
    X(MAINTENANCE, MAINTENANCE_MOVE_LEADER, "MoveLeader", move_leader_request, move_leader_response, 0, "/maintenance/transfer-leadership", "") \
    X(MAINTENANCE, MAINTENANCE_DOWNGRADE, "Downgrade", downgrade_request, downgrade_response, 0, "/maintenance/downgrade", "") \
    X(AUTH, AUTH_ENABLE, "AuthEnable", auth_enable_request, auth_enable_response, 0, "/auth/enable", "") \
    X(AUTH, AUTH_DISABLE, "AuthDisable", auth_disable_request, auth_disable_response, 0, "/auth/disable", "") \
    X(AUTH, AUTH_STATUS, "AuthStatus", auth_status_request, auth_status_response, 0, "/auth/status", "") \
    X(AUTH, AUTH_AUTHENTICATE, "Authenticate", authenticate_request, authenticate_response, 0, "/auth/authenticate", "") \
    X(AUTH, AUTH_USER_ADD, "UserAdd", auth_user_add_request, auth_user_add_response, 0, "/auth/user/add", "") \
    X(AUTH, AUTH_USER_GET, "UserGet", auth_user_get_request, auth_user_get_response, 0, "/auth/user/get", "") \
    X(AUTH, AUTH_USER_LIST, "UserList", auth_user_list_request, auth_user_list_response, 0, "/auth/user/list", "") \
    X(AUTH, AUTH_USER_DELETE, "UserDelete", auth_user_delete_request, auth_user_delete_response, 0, "/auth/user/delete", "") \
    X(AUTH, AUTH_USER_CHANGE_PASSWORD, "UserChangePassword", auth_user_change_password_request, auth_user_change_password_response, 0, "/auth/user/changepw", "") \
    X(AUTH, AUTH_USER_GRANT_ROLE, "UserGrantRole", auth_user_grant_role_request, auth_user_grant_role_response, 0, "/auth/user/grant", "") \
    X(AUTH, AUTH_USER_REVOKE_ROLE, "UserRevokeRole", auth_user_revoke_role_request, auth_user_revoke_role_response, 0, "/auth/user/revoke", "") \
    X(AUTH, AUTH_ROLE_ADD, "RoleAdd", auth_role_add_request, auth_role_add_response, 0, "/auth/role/add", "") \
    X(AUTH, AUTH_ROLE_GET, "RoleGet", auth_role_get_request, auth_role_get_response, 0, "/auth/role/get", "") \
    X(AUTH, AUTH_ROLE_LIST, "RoleList", auth_role_list_request, auth_role_list_response, 0, "/auth/role/list", "") \
    X(AUTH, AUTH_ROLE_DELETE, "RoleDelete", auth_role_delete_request, auth_role_delete_response, 0, "/auth/role/delete", "") \
    X(AUTH, AUTH_ROLE_GRANT_PERMISSION, "RoleGrantPermission", auth_role_grant_permission_request, auth_role_grant_permission_response, 0, "/auth/role/grant", "") \
    X(AUTH, AUTH_ROLE_REVOKE_PERMISSION, "RoleRevokePermission", auth_role_revoke_permission_request, auth_role_revoke_permission_response, 0, "/auth/role/revoke", "") \
    X(LOCK, LOCK_LOCK, "Lock", lock_request, lock_response, 0, "/lock/lock", "") \
    X(LOCK, LOCK_UNLOCK, "Unlock", unlock_request, unlock_response, 0, "/lock/unlock", "") \
    X(ELECTION, ELECTION_CAMPAIGN, "Campaign", campaign_request, campaign_response, 0, "/election/campaign", "") \
    X(ELECTION, ELECTION_PROCLAIM, "Proclaim", proclaim_request, proclaim_response, 0, "/election/proclaim", "") \
    X(ELECTION, ELECTION_LEADER, "Leader", leader_request, leader_response, 0, "/election/leader", "") \
    X(ELECTION, ELECTION_OBSERVE, "Observe", leader_request, leader_response, RPC_SERVER_STREAM, "/election/observe", "") \
    X(ELECTION, ELECTION_RESIGN, "Resign", resign_request, resign_response, 0, "/election/resign", "") \
    X(HEALTH, HEALTH_CHECK, "Check", health_check_request, health_check_response, 0, "", "") \
    X(HEALTH, HEALTH_WATCH, "Watch", health_check_request, health_check_response, RPC_SERVER_STREAM, "", "")

#define RPC_NAME_KV "etcdserverpb.KV"
#define RPC_NAME_WATCH "etcdserverpb.Watch"
#define RPC_NAME_LEASE "etcdserverpb.Lease"
#define RPC_NAME_CLUSTER "etcdserverpb.Cluster"
#define RPC_NAME_MAINTENANCE "etcdserverpb.Maintenance"
#define RPC_NAME_AUTH "etcdserverpb.Auth"
#define RPC_NAME_LOCK "v3lockpb.Lock"
#define RPC_NAME_ELECTION "v3electionpb.Election"
#define RPC_NAME_HEALTH "grpc.health.v1.Health"

/* X(service, its first method) */
#define RPC_SERVICES(X) \
    X(KV, KV_RANGE) \
    X(WATCH, WATCH_WATCH) \
    X(LEASE, LEASE_GRANT) \
    X(CLUSTER, CLUSTER_MEMBER_ADD) \
    X(MAINTENANCE, MAINTENANCE_ALARM) \
    X(AUTH, AUTH_ENABLE) \
    X(LOCK, LOCK_LOCK) \
    X(ELECTION, ELECTION_CAMPAIGN) \
    X(HEALTH, HEALTH_CHECK)

/* clang-format on */

enum {
    RPC_CLIENT_STREAM = 1, /* requests come as a stream */
    RPC_SERVER_STREAM = 2, /* responses go as a stream */
    RPC_BIDI_STREAM = RPC_CLIENT_STREAM | RPC_SERVER_STREAM,
};

enum rpc_service_id {
#define RPC_SERVICE_ID(service, first) RPC_SERVICE_##service,
    RPC_SERVICES(RPC_SERVICE_ID) RPC_SERVICE_N
};

/* RPC_KV_RANGE, RPC_KV_PUT, ...: index of rpc_methods. */
enum rpc_method_id {
#define RPC_METHOD_ID(service, id, name, req, resp, streams, path, other)      \
    RPC_##id,
    RPC_METHODS(RPC_METHOD_ID) RPC_METHOD_N
};

#define RPC_GATEWAY_PATHS 2

enum { RPC_EUNKNOWN = -1 }; /* no such method */

struct rpc_method {
    enum rpc_method_id id;
    enum rpc_service_id service;
    struct str name;                       /* "Range" */
    struct str path;                       /* "/etcdserverpb.KV/Range" */
    struct str gateway[RPC_GATEWAY_PATHS]; /* "/kv/range"; unused: empty */
    unsigned streams;                      /* RPC_CLIENT_STREAM, ... */
    const struct msg_desc *request, *response;
};

extern const struct rpc_method rpc_methods[RPC_METHOD_N];
extern const struct str rpc_services[RPC_SERVICE_N]; /* "etcdserverpb.KV" */

/*
 * By the :path of a gRPC request. NULL if there is no such method, then e (may
 * be NULL) has the words that belong to GRPC_UNIMPLEMENTED: "unknown service
 * X", "unknown method Y for service X".
 */
const struct rpc_method *rpc_find(struct str path, struct err *e);

/*
 * By the gateway's path, without query: "/v3/kv/range". Each of the prefixes
 * /v3, /v3beta and /v3alpha stands before each path, old and new. NULL if
 * there is none.
 */
const struct rpc_method *rpc_find_gateway(struct str path);
/* Is this below one of the gateway's prefixes ("/v3/...")? */
bool rpc_gateway_path(struct str path);

#endif
