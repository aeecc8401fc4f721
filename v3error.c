/*
 * v3error.c - the table of v3 errors.
 */
#include "v3error.h"
#include "grpc.h"

#include <assert.h>

static const struct {
    int code;
    const char *text;
} rows[V3_ERROR_N] = {
    [V3_OK] = {GRPC_OK, ""},
    /* clang-format off */
    [V3_EMPTY_KEY] = {GRPC_INVALID_ARGUMENT, "etcdserver: key is not provided"},
    [V3_KEY_NOT_FOUND] = {GRPC_INVALID_ARGUMENT, "etcdserver: key not found"},
    [V3_VALUE_PROVIDED] = {GRPC_INVALID_ARGUMENT, "etcdserver: value is provided"},
    [V3_LEASE_PROVIDED] = {GRPC_INVALID_ARGUMENT, "etcdserver: lease is provided"},
    [V3_TOO_MANY_OPS] = {GRPC_INVALID_ARGUMENT, "etcdserver: too many operations in txn request"},
    [V3_DUPLICATE_KEY] = {GRPC_INVALID_ARGUMENT, "etcdserver: duplicate key given in txn request"},
    [V3_COMPACTED] = {GRPC_OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted"},
    [V3_FUTURE_REV] = {GRPC_OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision"},
    [V3_NO_SPACE] = {GRPC_RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded"},
    [V3_LEASE_NOT_FOUND] = {GRPC_NOT_FOUND, "etcdserver: requested lease not found"},
    [V3_LEASE_EXIST] = {GRPC_FAILED_PRECONDITION, "etcdserver: lease already exists"},
    [V3_MEMBER_EXIST] = {GRPC_FAILED_PRECONDITION, "etcdserver: member ID already exist"},
    [V3_PEER_URLEXIST] = {GRPC_FAILED_PRECONDITION, "etcdserver: Peer URLs already exists"},
    [V3_MEMBER_NOT_ENOUGH_STARTED] = {GRPC_FAILED_PRECONDITION, "etcdserver: re-configuration failed due to not enough started members"},
    [V3_MEMBER_BAD_URLS] = {GRPC_INVALID_ARGUMENT, "etcdserver: given member URLs are invalid"},
    [V3_MEMBER_NOT_FOUND] = {GRPC_NOT_FOUND, "etcdserver: member not found"},
    [V3_REQUEST_TOO_LARGE] = {GRPC_INVALID_ARGUMENT, "etcdserver: request is too large"},
    [V3_REQUEST_TOO_MANY_REQUESTS] = {GRPC_RESOURCE_EXHAUSTED, "etcdserver: too many requests"},
    [V3_ROOT_USER_NOT_EXIST] = {GRPC_FAILED_PRECONDITION, "etcdserver: root user does not exist"},
    [V3_ROOT_ROLE_NOT_EXIST] = {GRPC_FAILED_PRECONDITION, "etcdserver: root user does not have root role"},
    [V3_USER_ALREADY_EXIST] = {GRPC_FAILED_PRECONDITION, "etcdserver: user name already exists"},
    [V3_USER_EMPTY] = {GRPC_INVALID_ARGUMENT, "etcdserver: user name is empty"},
    [V3_USER_NOT_FOUND] = {GRPC_FAILED_PRECONDITION, "etcdserver: user name not found"},
    [V3_ROLE_ALREADY_EXIST] = {GRPC_FAILED_PRECONDITION, "etcdserver: role name already exists"},
    [V3_ROLE_NOT_FOUND] = {GRPC_FAILED_PRECONDITION, "etcdserver: role name not found"},
    [V3_AUTH_FAILED] = {GRPC_INVALID_ARGUMENT, "etcdserver: authentication failed, invalid user ID or password"},
    [V3_PERMISSION_DENIED] = {GRPC_PERMISSION_DENIED, "etcdserver: permission denied"},
    [V3_ROLE_NOT_GRANTED] = {GRPC_FAILED_PRECONDITION, "etcdserver: role is not granted to the user"},
    [V3_PERMISSION_NOT_GRANTED] = {GRPC_FAILED_PRECONDITION, "etcdserver: permission is not granted to the role"},
    [V3_AUTH_NOT_ENABLED] = {GRPC_FAILED_PRECONDITION, "etcdserver: authentication is not enabled"},
    [V3_INVALID_AUTH_TOKEN] = {GRPC_UNAUTHENTICATED, "etcdserver: invalid auth token"},
    [V3_INVALID_AUTH_MGMT] = {GRPC_INVALID_ARGUMENT, "etcdserver: invalid auth management"},
    [V3_NO_LEADER] = {GRPC_UNAVAILABLE, "etcdserver: no leader"},
    [V3_NOT_CAPABLE] = {GRPC_UNAVAILABLE, "etcdserver: not capable"},
    [V3_STOPPED] = {GRPC_UNAVAILABLE, "etcdserver: server stopped"},
    [V3_TIMEOUT] = {GRPC_UNAVAILABLE, "etcdserver: request timed out"},
    [V3_TIMEOUT_DUE_TO_LEADER_FAIL] = {GRPC_UNAVAILABLE, "etcdserver: request timed out, possibly due to previous leader failure"},
    [V3_TIMEOUT_DUE_TO_CONNECTION_LOST] = {GRPC_UNAVAILABLE, "etcdserver: request timed out, possibly due to connection lost"},
    [V3_UNHEALTHY] = {GRPC_UNAVAILABLE, "etcdserver: unhealthy cluster"},
    [V3_LEASE_TTLTOO_LARGE] = {GRPC_OUT_OF_RANGE, "etcdserver: too large lease TTL"},
    [V3_NOT_LEADER] = {GRPC_FAILED_PRECONDITION, "etcdserver: not leader"},
    [V3_LEADER_CHANGED] = {GRPC_UNAVAILABLE, "etcdserver: leader changed"},
    [V3_CORRUPT] = {GRPC_DATA_LOSS, "etcdserver: corrupt cluster"},
    [V3_WATCH_CANCELED] = {GRPC_CANCELLED, "etcdserver: watch canceled"},
    [V3_MEMBER_NOT_LEARNER] = {GRPC_FAILED_PRECONDITION, "etcdserver: can only promote a learner member"},
    [V3_LEARNER_NOT_READY] = {GRPC_FAILED_PRECONDITION, "etcdserver: can only promote a learner member which is in sync with leader"},
    [V3_TOO_MANY_LEARNERS] = {GRPC_FAILED_PRECONDITION, "etcdserver: too many learner members in cluster"},
    [V3_ROLE_EMPTY] = {GRPC_INVALID_ARGUMENT, "etcdserver: role name is empty"},
    [V3_AUTH_OLD_REVISION] = {GRPC_INVALID_ARGUMENT, "etcdserver: revision of auth store is old"},
    [V3_TIMEOUT_WAIT_APPLIED_INDEX] = {GRPC_UNAVAILABLE, "etcdserver: request timed out, waiting for the applied index took too long"},
    [V3_BAD_LEADER_TRANSFEREE] = {GRPC_FAILED_PRECONDITION, "etcdserver: bad leader transferee"},
    [V3_CLUSTER_ID_MISMATCH] = {GRPC_FAILED_PRECONDITION, "etcdserver: cluster ID mismatch"},
    [V3_PERMISSION_NOT_GIVEN] = {GRPC_INVALID_ARGUMENT, "etcdserver: permission not given"},
    [V3_CLUSTER_VERSION_UNAVAILABLE] = {GRPC_UNAVAILABLE, "etcdserver: cluster version not found during downgrade"},
    [V3_WRONG_DOWNGRADE_VERSION_FORMAT] = {GRPC_INVALID_ARGUMENT, "etcdserver: wrong downgrade target version format"},
    [V3_INVALID_DOWNGRADE_TARGET_VERSION] = {GRPC_INVALID_ARGUMENT, "etcdserver: invalid downgrade target version"},
    [V3_DOWNGRADE_IN_PROCESS] = {GRPC_FAILED_PRECONDITION, "etcdserver: cluster has a downgrade job in progress"},
    [V3_NO_INFLIGHT_DOWNGRADE] = {GRPC_FAILED_PRECONDITION, "etcdserver: no inflight downgrade job"},
    [V3_CANCELED] = {GRPC_CANCELLED, "etcdserver: request canceled"},
    [V3_DEADLINE_EXCEEDED] = {GRPC_DEADLINE_EXCEEDED, "etcdserver: context deadline exceeded"},
    [V3_INVALID_CLIENT_APIVERSION] = {GRPC_INVALID_ARGUMENT, "etcdserver: invalid client api version"},
    [V3_INVALID_SORT_OPTION] = {GRPC_INVALID_ARGUMENT, "etcdserver: invalid sort option"},
    [V3_NOT_SUPPORTED_FOR_LEARNER] = {GRPC_UNAVAILABLE, "etcdserver: rpc not supported for learner"},
    [V3_LEADER_TRANSFER_TIMEOUT] = {GRPC_UNKNOWN, "etcdserver: request timed out, leader transfer took too long"},
    [V3_NO_PASSWORD_USER] = {GRPC_UNKNOWN, "auth: authentication failed, password was given for no password user"},
    [V3_VERIFY_ONLY_KEY] = {GRPC_UNKNOWN, "auth: token signing attempted with verify-only key"},
    /* clang-format on */
};

int v3error_code(enum v3_error e)
{
    assert(e >= 0 && e < V3_ERROR_N);
    return rows[e].code;
}

const char *v3error_text(enum v3_error e)
{
    assert(e >= 0 && e < V3_ERROR_N);
    return rows[e].text;
}
