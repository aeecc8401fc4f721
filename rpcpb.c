/*
 * rpcpb.c - the tables that rpcpb.h's lists yield, and finding a method.
 *
 * A method is found in two steps, its service first: that is what tells an
 * unknown service from an unknown method. There are nine services, and at most
 * seventeen methods in one; names differ in length more often than not, and
 * the lengths are compared first, so that a plain scan takes a few
 * nanoseconds.
 */
#include "rpcpb.h"

/* clang-format off */

#define ENUM_VALUE(p, name, value) {#name, (value)},
#define ENUM(name, list, prefix, full) \
    static const struct msg_enum_value name##_values[] = { list(ENUM_VALUE, prefix) }; \
    const struct msg_enum rpcpb_##name##_enum = {full, name##_values, ARRAY_LEN(name##_values)};
RPCPB_ENUMS(ENUM)

/* Of a field: its type, its flags, and what describes its type. */
#define TYPE_BOOL MSG_BOOL, 0
#define TYPE_INT64 MSG_INT64, 0
#define TYPE_UINT64 MSG_UINT64, 0
#define TYPE_UINT32 MSG_UINT32, 0
#define TYPE_BYTES MSG_BYTES, 0
#define TYPE_STRING MSG_STRING, 0
#define TYPE_ENUM MSG_ENUM, 0
#define TYPE_MESSAGE MSG_MESSAGE, 0
#define TYPE_ONE_INT64 MSG_INT64, MSG_ONEOF
#define TYPE_ONE_BYTES MSG_BYTES, MSG_ONEOF
#define TYPE_ONE_MESSAGE MSG_MESSAGE, MSG_ONEOF
#define TYPE_REP_BYTES MSG_BYTES, MSG_REPEATED
#define TYPE_REP_STRING MSG_STRING, MSG_REPEATED
#define TYPE_REP_ENUM MSG_ENUM, MSG_REPEATED
#define TYPE_REP_MESSAGE MSG_MESSAGE, MSG_REPEATED

#define OF_ENUM(of) NULL, &rpcpb_##of##_enum
#define OF_REP_ENUM(of) NULL, &rpcpb_##of##_enum
#define OF_MESSAGE(of) &rpcpb_##of##_desc, NULL
#define OF_ONE_MESSAGE(of) &rpcpb_##of##_desc, NULL
#define OF_REP_MESSAGE(of) &rpcpb_##of##_desc, NULL

#define FIELD_S(m, number, type, name) \
    {#name, (number), TYPE_##type, offsetof(struct rpcpb_##m, name), NULL, NULL},
#define FIELD_T(m, number, type, name, of) \
    {#name, (number), TYPE_##type, offsetof(struct rpcpb_##m, name), OF_##type(of)},
#define DESC(m, full, list) \
    static const struct msg_field m##_fields[] = { list(FIELD_S, FIELD_T, m) }; \
    const struct msg_desc rpcpb_##m##_desc = { \
        full, sizeof(struct rpcpb_##m), m##_fields, ARRAY_LEN(m##_fields)};
#define DESC_EMPTY(m, full) \
    const struct msg_desc rpcpb_##m##_desc = {full, sizeof(struct rpcpb_##m), no_fields, 0};
static const struct msg_field no_fields[1];
RPCPB_MESSAGES(DESC, DESC_EMPTY)

#define MESSAGE(m, full, list) &rpcpb_##m##_desc,
#define MESSAGE_EMPTY(m, full) &rpcpb_##m##_desc,
const struct msg_desc *const rpcpb_messages[] = { RPCPB_MESSAGES(MESSAGE, MESSAGE_EMPTY) };
const size_t rpcpb_n_messages = ARRAY_LEN(rpcpb_messages);

#define LIT(s) {(s), sizeof(s) - 1}
#define METHOD(service, id, name, req, resp, streams, path, other) \
    [RPC_##id] = {RPC_##id, RPC_SERVICE_##service, LIT(name), LIT("/" RPC_NAME_##service "/" name), \
                  {LIT(path), LIT(other)}, (streams), &rpcpb_##req##_desc, &rpcpb_##resp##_desc},
const struct rpc_method rpc_methods[RPC_METHOD_N] = { RPC_METHODS(METHOD) };

#define SERVICE(service, first) [RPC_SERVICE_##service] = LIT(RPC_NAME_##service),
const struct str rpc_services[RPC_SERVICE_N] = { RPC_SERVICES(SERVICE) };

/* The methods of service s are those from firsts[s] up to firsts[s + 1]. */
#define FIRST(service, first) [RPC_SERVICE_##service] = RPC_##first,
static const int firsts[RPC_SERVICE_N + 1] = { RPC_SERVICES(FIRST) [RPC_SERVICE_N] = RPC_METHOD_N };

/* clang-format on */

/* As grpc-go cuts it: at the last slash; the one in front may be missing. */
static bool split_path(struct str path, struct str *service, struct str *name)
{
    size_t at;

    if (path.n > 0 && path.p[0] == '/')
        path = (struct str){path.p + 1, path.n - 1};
    for (at = path.n; at > 0 && path.p[at - 1] != '/'; at--)
        ;
    if (at == 0)
        return false;
    *service = (struct str){path.p, at - 1};
    *name = (struct str){path.p + at, path.n - at};
    return true;
}

const struct rpc_method *rpc_find(struct str path, struct err *e)
{
    struct str service, name;
    int s = 0;

    if (!split_path(path, &service, &name)) {
        err_set(e, RPC_EUNKNOWN, "malformed method name: \"%.*s\"",
                STR_FMT(path));
        return NULL;
    }
    while (s < RPC_SERVICE_N && !str_eq(rpc_services[s], service))
        s++;
    if (s == RPC_SERVICE_N) {
        err_set(e, RPC_EUNKNOWN, "unknown service %.*s", STR_FMT(service));
        return NULL;
    }
    for (int i = firsts[s]; i < firsts[s + 1]; i++)
        if (str_eq(rpc_methods[i].name, name))
            return &rpc_methods[i];
    err_set(e, RPC_EUNKNOWN, "unknown method %.*s for service %.*s",
            STR_FMT(name), STR_FMT(service));
    return NULL;
}

/* What follows the prefix, with its slash; empty if there is no prefix. */
static struct str after_prefix(struct str path)
{
    static const struct str prefixes[] = {LIT("/v3/"), LIT("/v3beta/"),
                                          LIT("/v3alpha/")};

    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
        size_t n = prefixes[i].n;

        if (path.n >= n && memcmp(path.p, prefixes[i].p, n) == 0)
            return (struct str){path.p + n - 1, path.n - n + 1};
    }
    return (struct str){"", 0};
}

bool rpc_gateway_path(struct str path)
{
    return after_prefix(path).n > 0;
}

const struct rpc_method *rpc_find_gateway(struct str path)
{
    struct str rest = after_prefix(path);

    if (rest.n == 0)
        return NULL;
    for (int i = 0; i < RPC_METHOD_N; i++)
        for (int k = 0; k < RPC_GATEWAY_PATHS; k++)
            if (str_eq(rpc_methods[i].gateway[k], rest))
                return &rpc_methods[i];
    return NULL;
}
