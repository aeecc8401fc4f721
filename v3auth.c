/*
 * v3auth.c - the Auth service: users, roles, permissions (spec: v3-api, 6).
 * Changes go through the log as they came, but for passwords, which are hashed
 * here first, so that applying them costs nothing. The plain one goes along:
 * members of etcd before 3.5 look at nothing else.
 */
#include "config.h"
#include "grpc.h"
#include "hash.h"
#include "rpc.h"
#include "sys.h"

/* --- Changes. All their answers are a header, and so one message on the wire. ------ */

static void answer(struct rpc_call *c, const struct v3_result *r)
{
    struct rpcpb_auth_enable_response out = {.header =
                                                 rpc_header(c, r->header)};

    rpc_reply(c, &out);
}

void v3auth_change(struct rpc_call *c)
{
    static const uint32_t fields[RPC_METHOD_N] = {
        [RPC_AUTH_ENABLE] = V3_AUTH_ENABLE,
        [RPC_AUTH_DISABLE] = V3_AUTH_DISABLE,
        [RPC_AUTH_USER_DELETE] = V3_USER_DELETE,
        [RPC_AUTH_USER_GRANT_ROLE] = V3_USER_GRANT_ROLE,
        [RPC_AUTH_USER_REVOKE_ROLE] = V3_USER_REVOKE_ROLE,
        [RPC_AUTH_ROLE_ADD] = V3_ROLE_ADD,
        [RPC_AUTH_ROLE_DELETE] = V3_ROLE_DELETE,
        [RPC_AUTH_ROLE_GRANT_PERMISSION] = V3_ROLE_GRANT_PERMISSION,
        [RPC_AUTH_ROLE_REVOKE_PERMISSION] = V3_ROLE_REVOKE_PERMISSION,
    };

    rpc_propose(c, fields[c->method->id], c->request_bytes, answer);
}

/* --- Passwords. --------------------------------------------------------------------- */

/* bcrypt text in base64, as hashedPassword has it; takes a while. Wiped and
 * released by the caller. */
static void hash_password(struct rpc_call *c, struct str password,
                          struct buf *out)
{
    struct buf text = {0};
    uint8_t salt[16];

    sys_random(salt, sizeof(salt));
    auth_hash_password(&text, password,
                       (int)server_config(c->server)->bcrypt_cost, salt);
    base64_encode(out, text.data, text.len);
    buf_release(&text);
}

static void propose_hashed(struct rpc_call *c, uint32_t field,
                           const struct msg_desc *d, const void *request)
{
    struct buf b = {0};

    msg_encode(d, request, &b);
    rpc_propose(c, field, buf_str(&b), answer);
    wipe(b.data, b.len);
    buf_release(&b);
}

void v3auth_user_add(struct rpc_call *c)
{
    struct rpcpb_auth_user_add_request req =
        *(const struct rpcpb_auth_user_add_request *)c->request;
    struct buf hashed = {0};

    if (req.hashedPassword.n == 0 &&
        !(req.options && req.options->no_password)) {
        hash_password(c, req.password, &hashed);
        req.hashedPassword = buf_str(&hashed);
    }
    propose_hashed(c, V3_USER_ADD, &rpcpb_auth_user_add_request_desc, &req);
    buf_release(&hashed);
}

void v3auth_user_change_password(struct rpc_call *c)
{
    struct rpcpb_auth_user_change_password_request req =
        *(const struct rpcpb_auth_user_change_password_request *)c->request;
    struct buf hashed = {0};

    if (req.hashedPassword.n == 0) {
        hash_password(c, req.password, &hashed);
        req.hashedPassword = buf_str(&hashed);
    }
    propose_hashed(c, V3_USER_CHANGE_PASSWORD,
                   &rpcpb_auth_user_change_password_request_desc, &req);
    buf_release(&hashed);
}

void v3auth_authenticate(struct rpc_call *c)
{
    const struct rpcpb_authenticate_request *req = c->request;
    struct rpcpb_authenticate_response r = {0};
    struct v3_header h;
    char *token;
    enum v3_error e =
        v3_authenticate(c->server, req->name, req->password, &token, &h);

    if (e) {
        rpc_fail_error(c, e);
        return;
    }
    r.header = rpc_header(c, h);
    r.token = str_of(token);
    rpc_reply(c, &r);
    wipe(token, strlen(token));
    free(token);
}

/* --- Questions. They are answered from copies that are made under the lock. ------------ */

struct question {
    struct rpc_call *call;
    int error; /* enum auth_error, or 0 */
    union {
        struct rpcpb_auth_user_get_response user;
        struct rpcpb_auth_user_list_response users;
        struct rpcpb_auth_role_get_response role;
        struct rpcpb_auth_role_list_response roles;
        struct rpcpb_auth_status_response status;
    } u;
};

/* Ask for it in a linearized state, and answer. */
static void ask(struct rpc_call *c, void (*fn)(struct auth *a, void *arg))
{
    struct question q = {.call = c};
    enum v3_error e = v3_read_index_wait(c->server);

    if (e) {
        rpc_fail_unread(c, e);
        return;
    }
    v3_with_auth(c->server, fn, &q);
    if (q.error) {
        rpc_fail(c, auth_error_code(q.error), auth_error_text(q.error));
        return;
    }
    q.u.status.header = rpc_header(c, v3_header(c->server)); /* first in all */
    rpc_reply(c, &q.u);
}

/* Room for n items; what the arena refuses is left out of the answer. */
static void *items(struct question *q, size_t n, size_t size)
{
    return arena_alloc(&q->call->arena, n * size);
}

static struct auth_who who(const struct rpc_call *c)
{
    return (struct auth_who){c->who.user, c->who.auth_revision};
}

static void get_user(struct auth *a, void *arg)
{
    struct question *q = arg;
    const struct rpcpb_auth_user_get_request *req = q->call->request;
    const struct auth_user *u;
    struct str *roles;

    q->error = auth_check_user_get(a, who(q->call), req->name);
    if (q->error)
        return;
    u = auth_user(a, req->name);
    if (!u) {
        q->error = AUTH_USER_NOT_FOUND;
        return;
    }
    roles = items(q, u->n_roles, sizeof(*roles));
    for (size_t i = 0; roles && i < u->n_roles; i++)
        arena_str(&q->call->arena, u->roles[i], &roles[i]);
    q->u.user.roles.items = roles;
    q->u.user.roles.n = roles ? u->n_roles : 0;
}

void v3auth_user_get(struct rpc_call *c)
{
    ask(c, get_user);
}

static void get_role(struct auth *a, void *arg)
{
    struct question *q = arg;
    const struct rpcpb_auth_role_get_request *req = q->call->request;
    const struct auth_role *role;
    struct rpcpb_permission *perm;

    q->error = auth_check_role_get(a, who(q->call), req->role);
    if (q->error)
        return;
    role = auth_role(a, req->role);
    if (!role) {
        q->error = AUTH_ROLE_NOT_FOUND;
        return;
    }
    perm = items(q, role->n_permissions, sizeof(*perm));
    for (size_t i = 0; perm && i < role->n_permissions; i++) {
        perm[i].permType = role->permissions[i].type;
        arena_str(&q->call->arena, role->permissions[i].key, &perm[i].key);
        arena_str(&q->call->arena, role->permissions[i].range_end,
                  &perm[i].range_end);
    }
    q->u.role.perm.items = perm;
    q->u.role.perm.n = perm ? role->n_permissions : 0;
}

void v3auth_role_get(struct rpc_call *c)
{
    ask(c, get_role);
}

static void list_users(struct auth *a, void *arg)
{
    struct question *q = arg;
    struct str *names;
    size_t n = 0;

    while (auth_user_at(a, n))
        n++;
    names = items(q, n, sizeof(*names));
    for (size_t i = 0; names && i < n; i++)
        arena_str(&q->call->arena, auth_user_at(a, i)->name, &names[i]);
    q->u.users.users.items = names;
    q->u.users.users.n = names ? n : 0;
}

void v3auth_user_list(struct rpc_call *c)
{
    ask(c, list_users);
}

static void list_roles(struct auth *a, void *arg)
{
    struct question *q = arg;
    struct str *names;
    size_t n = 0;

    while (auth_role_at(a, n))
        n++;
    names = items(q, n, sizeof(*names));
    for (size_t i = 0; names && i < n; i++)
        arena_str(&q->call->arena, auth_role_at(a, i)->name, &names[i]);
    q->u.roles.roles.items = names;
    q->u.roles.roles.n = names ? n : 0;
}

void v3auth_role_list(struct rpc_call *c)
{
    ask(c, list_roles);
}

static void get_status(struct auth *a, void *arg)
{
    struct question *q = arg;

    q->u.status.enabled = auth_enabled(a);
    q->u.status.authRevision = auth_revision(a);
}

void v3auth_status(struct rpc_call *c)
{
    ask(c, get_status);
}
