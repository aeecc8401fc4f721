/*
 * ctlv3auth.c - auth, user and role.
 */
#include "ctlv3.h"

#include <inttypes.h>
#include <stdio.h>

/* --- Auth. --------------------------------------------------------------------------- */

/* Auth needs a user root that has the role root: where only the role is missing,
 * etcdctl sees to it. */
static int give_root_its_role(struct ctl *c)
{
    struct rpcpb_auth_role_add_response added = {0};
    struct rpcpb_auth_user_grant_role_response granted = {0};
    struct rpcpb_auth_role_add_request add = {.name = STR("root")};
    struct rpcpb_auth_user_grant_role_request grant = {.user = STR("root"),
                                                       .role = STR("root")};
    int rc = ctlv3_call(c, RPC_AUTH_ROLE_ADD, &add, &added);

    return rc ? rc : ctlv3_call(c, RPC_AUTH_USER_GRANT_ROLE, &grant, &granted);
}

int ctlv3_auth_enable(struct ctl *c)
{
    struct rpcpb_auth_enable_response response = {0};
    struct rpcpb_auth_enable_request r = {0};
    struct err e;
    int rc;

    if (c->n_args != 0)
        return ctlv3_fail(CTLV3_BAD_ARGS,
                          "auth enable command does not accept any "
                          "arguments");
    rc = ctlv3_connect(c);
    if (rc != 0)
        return rc;
    if (ctlv3_try(c, c->v3->client, RPC_AUTH_ENABLE, &r, &response, &e) != 0) {
        if (strcmp(e.msg, "etcdserver: root user does not have root role") != 0)
            return ctlv3_fail_status(c, CTLV3_ERROR, &e);
        rc = give_root_its_role(c);
        if (rc == 0)
            rc = ctlv3_call(c, RPC_AUTH_ENABLE, &r, &response);
    }
    if (rc == 0)
        printf("Authentication Enabled\n");
    return rc;
}

int ctlv3_auth_disable(struct ctl *c)
{
    struct rpcpb_auth_disable_response response = {0};
    struct rpcpb_auth_disable_request r = {0};
    int rc;

    if (c->n_args != 0)
        return ctlv3_fail(CTLV3_BAD_ARGS,
                          "auth disable command does not accept any "
                          "arguments");
    rc = ctlv3_call(c, RPC_AUTH_DISABLE, &r, &response);
    if (rc == 0)
        printf("Authentication Disabled\n");
    return rc;
}

int ctlv3_auth_status(struct ctl *c)
{
    struct rpcpb_auth_status_response response = {0};
    struct rpcpb_auth_status_request r = {0};
    int rc = ctlv3_call(c, RPC_AUTH_STATUS, &r, &response);

    return rc ? rc
              : ctlv3_print_simple(
                    c, &rpcpb_auth_status_response_desc, &response,
                    "Authentication Status: %s\n"
                    "AuthRevision: %" PRIu64 "\n",
                    response.enabled ? "true" : "false", response.authRevision);
}

/* --- Passwords. ------------------------------------------------------------------------ */

static void read_line(struct buf *out)
{
    int ch;

    while ((ch = getchar()) != EOF && ch != '\n')
        buf_addc(out, (char)ch);
    while (out->len > 0 && out->data[out->len - 1] == '\r')
        out->len--;
}

/* Twice from a terminal, or a line of standard input. 0, or the exit code. */
static int ask_password(struct ctl *c, const char *user, struct buf *out)
{
    struct buf again = {0};
    char *prompt;
    bool same;

    if (!ctl_bool_or(c, "interactive", true)) {
        read_line(out);
        return 0;
    }
    prompt = xasprintf("Password of %s: ", user);
    ctl_ask_secret(prompt, out);
    free(prompt);
    if (out->len == 0)
        return ctlv3_fail(CTLV3_BAD_ARGS, "empty password");
    prompt = xasprintf("Type password of %s again for confirmation: ", user);
    ctl_ask_secret(prompt, &again);
    free(prompt);
    same = str_eq(buf_str(out), buf_str(&again));
    if (again.data)
        explicit_bzero(again.data, again.len);
    buf_release(&again);
    return same ? 0
                : ctlv3_fail(CTLV3_BAD_ARGS, "given passwords are different");
}

static void forget(struct buf *password)
{
    if (password->data)
        explicit_bzero(password->data, password->len);
    buf_release(password);
}

/* --- Users. ------------------------------------------------------------------------------ */

/* NAME[:PASSWORD], --new-user-password, --no-password, or asked for. *name
 * borrows from the arguments. */
static int new_user(struct ctl *c, struct str *name, struct buf *password)
{
    const char *given = ctl_string(c, "new-user-password", "");
    struct str rest = str_of(c->args[0]);
    bool has_password = false;

    *name = rest;
    if (ctl_bool(c, "no-password"))
        return 0;
    if (given[0]) {
        buf_adds(password, given);
        return 0;
    }
    has_password = str_cut(&rest, ':', name);
    if (has_password && name->n == 0)
        return ctlv3_fail(CTLV3_BAD_ARGS, "empty user name is not allowed");
    if (has_password) {
        buf_addstr(password, rest);
        return 0;
    }
    return ask_password(c, c->args[0], password);
}

int ctlv3_user_add(struct ctl *c)
{
    struct rpcpb_auth_user_add_response response = {0};
    struct rpcpb_user_add_options options = {.no_password =
                                                 ctl_bool(c, "no-password")};
    struct rpcpb_auth_user_add_request r = {.options = &options};
    struct buf password = {0};
    int rc;

    if (c->n_args != 1)
        return ctlv3_fail(
            CTLV3_BAD_ARGS,
            "user add command requires user name as its argument");
    rc = new_user(c, &r.name, &password);
    r.password = buf_str(&password);
    if (rc == 0)
        rc = ctlv3_call(c, RPC_AUTH_USER_ADD, &r, &response);
    if (rc == 0)
        rc = ctlv3_print_plain(c, &rpcpb_auth_user_add_response_desc, &response,
                               response.header, "User %.*s created\n",
                               STR_FMT(r.name));
    forget(&password);
    return rc;
}

int ctlv3_user_delete(struct ctl *c)
{
    struct rpcpb_auth_user_delete_response response = {0};
    struct rpcpb_auth_user_delete_request r = {0};
    int rc;

    if (c->n_args != 1)
        return ctlv3_fail(CTLV3_BAD_ARGS,
                          "user delete command requires user name "
                          "as its argument");
    r.name = str_of(c->args[0]);
    rc = ctlv3_call(c, RPC_AUTH_USER_DELETE, &r, &response);
    return rc ? rc
              : ctlv3_print_plain(c, &rpcpb_auth_user_delete_response_desc,
                                  &response, response.header,
                                  "User %s deleted\n", c->args[0]);
}

static int show_role(struct ctl *c, const char *name,
                     const struct rpcpb_auth_role_get_response *r);

/* --detail: each role in the format asked for, behind the user as text. */
static int print_details(struct ctl *c,
                         const struct rpcpb_auth_user_get_response *r)
{
    printf("User: %s\n", c->args[0]);
    for (size_t i = 0; i < r->roles.n; i++) {
        struct rpcpb_auth_role_get_response role = {0};
        struct rpcpb_auth_role_get_request get = {.role = r->roles.items[i]};
        char *name;
        int rc;

        printf("\n");
        rc = ctlv3_call(c, RPC_AUTH_ROLE_GET, &get, &role);
        if (rc != 0)
            return rc;
        name = xstrndup(get.role.p, get.role.n);
        rc = show_role(c, name, &role);
        free(name);
        if (rc != 0)
            return rc;
    }
    return 0;
}

int ctlv3_user_get(struct ctl *c)
{
    struct rpcpb_auth_user_get_response response = {0};
    struct rpcpb_auth_user_get_request r = {0};
    int rc;

    if (c->n_args != 1)
        return ctlv3_fail(
            CTLV3_BAD_ARGS,
            "user get command requires user name as its argument");
    r.name = str_of(c->args[0]);
    rc = ctlv3_call(c, RPC_AUTH_USER_GET, &r, &response);
    if (rc != 0)
        return rc;
    if (ctl_bool(c, "detail"))
        return print_details(c, &response);
    rc = ctlv3_print_simple(c, &rpcpb_auth_user_get_response_desc, &response,
                            "User: %s\nRoles:", c->args[0]);
    if (rc != 0 || c->v3->format != CTLV3_SIMPLE)
        return rc;
    for (size_t i = 0; i < response.roles.n; i++) {
        struct str role = response.roles.items[i];

        printf(" %.*s", STR_FMT(role));
    }
    printf("\n");
    return 0;
}

int ctlv3_user_list(struct ctl *c)
{
    struct rpcpb_auth_user_list_response response = {0};
    struct rpcpb_auth_user_list_request r = {0};
    int rc;

    if (c->n_args != 0)
        return ctlv3_fail(CTLV3_BAD_ARGS,
                          "user list command requires no arguments");
    rc = ctlv3_call(c, RPC_AUTH_USER_LIST, &r, &response);
    if (rc == 0)
        rc = ctlv3_print_simple(c, &rpcpb_auth_user_list_response_desc,
                                &response, "%s", "");
    for (size_t i = 0;
         i < response.users.n && rc == 0 && c->v3->format == CTLV3_SIMPLE;
         i++) {
        struct str user = response.users.items[i];

        printf("%.*s\n", STR_FMT(user));
    }
    return rc;
}

int ctlv3_user_passwd(struct ctl *c)
{
    struct rpcpb_auth_user_change_password_response response = {0};
    struct rpcpb_auth_user_change_password_request r = {0};
    struct buf password = {0};
    int rc;

    if (c->n_args != 1)
        return ctlv3_fail(CTLV3_BAD_ARGS,
                          "user passwd command requires user name "
                          "as its argument");
    rc = ask_password(c, c->args[0], &password);
    r.name = str_of(c->args[0]);
    r.password = buf_str(&password);
    if (rc == 0)
        rc = ctlv3_call(c, RPC_AUTH_USER_CHANGE_PASSWORD, &r, &response);
    if (rc == 0)
        rc =
            ctlv3_print_plain(c, &rpcpb_auth_user_change_password_response_desc,
                              &response, response.header, "Password updated\n");
    forget(&password);
    return rc;
}

int ctlv3_user_grant_role(struct ctl *c)
{
    struct rpcpb_auth_user_grant_role_response response = {0};
    struct rpcpb_auth_user_grant_role_request r = {0};
    int rc;

    if (c->n_args != 2)
        return ctlv3_fail(CTLV3_BAD_ARGS,
                          "user grant command requires user name "
                          "and role name as its argument");
    r.user = str_of(c->args[0]);
    r.role = str_of(c->args[1]);
    rc = ctlv3_call(c, RPC_AUTH_USER_GRANT_ROLE, &r, &response);
    return rc ? rc
              : ctlv3_print_plain(c, &rpcpb_auth_user_grant_role_response_desc,
                                  &response, response.header,
                                  "Role %s is granted to user %s\n", c->args[1],
                                  c->args[0]);
}

int ctlv3_user_revoke_role(struct ctl *c)
{
    struct rpcpb_auth_user_revoke_role_response response = {0};
    struct rpcpb_auth_user_revoke_role_request r = {0};
    int rc;

    if (c->n_args != 2)
        return ctlv3_fail(CTLV3_BAD_ARGS,
                          "user revoke-role requires user name and "
                          "role name as its argument");
    r.name = str_of(c->args[0]);
    r.role = str_of(c->args[1]);
    rc = ctlv3_call(c, RPC_AUTH_USER_REVOKE_ROLE, &r, &response);
    return rc ? rc
              : ctlv3_print_plain(c, &rpcpb_auth_user_revoke_role_response_desc,
                                  &response, response.header,
                                  "Role %s is revoked from user %s\n",
                                  c->args[1], c->args[0]);
}

/* --- Roles. ------------------------------------------------------------------------------ */

int ctlv3_role_add(struct ctl *c)
{
    struct rpcpb_auth_role_add_response response = {0};
    struct rpcpb_auth_role_add_request r = {0};
    int rc;

    if (c->n_args != 1)
        return ctlv3_fail(
            CTLV3_BAD_ARGS,
            "role add command requires role name as its argument");
    r.name = str_of(c->args[0]);
    rc = ctlv3_call(c, RPC_AUTH_ROLE_ADD, &r, &response);
    return rc ? rc
              : ctlv3_print_plain(c, &rpcpb_auth_role_add_response_desc,
                                  &response, response.header,
                                  "Role %s created\n", c->args[0]);
}

int ctlv3_role_delete(struct ctl *c)
{
    struct rpcpb_auth_role_delete_response response = {0};
    struct rpcpb_auth_role_delete_request r = {0};
    int rc;

    if (c->n_args != 1)
        return ctlv3_fail(CTLV3_BAD_ARGS,
                          "role delete command requires role name "
                          "as its argument");
    r.role = str_of(c->args[0]);
    rc = ctlv3_call(c, RPC_AUTH_ROLE_DELETE, &r, &response);
    return rc ? rc
              : ctlv3_print_plain(c, &rpcpb_auth_role_delete_response_desc,
                                  &response, response.header,
                                  "Role %s deleted\n", c->args[0]);
}

static bool is_open_ended(struct str end)
{
    return end.n == 1 && end.p[0] == '\0';
}

/* Of any bytes, with what stands around it. */
static void print_key(const char *before, struct str key)
{
    printf("%s", before);
    fwrite(key.p, 1, key.n, stdout);
}

static void print_permission(struct ctl *c, const struct rpcpb_permission *p)
{
    struct str key = p->key, end = p->range_end;

    print_key(end.n == 0 ? "\t" : "\t[", key);
    if (is_open_ended(end)) {
        printf(", <open ended>");
    } else if (end.n > 0) {
        print_key(", ", end);
        printf(")");
    }
    if (end.n > 0 && str_eq(ctlv3_prefix_end(c, key), end)) {
        print_key(" (prefix ", key);
        printf(")");
    }
    printf("\n");
}

static void print_role(struct ctl *c, const char *name,
                       const struct rpcpb_auth_role_get_response *r)
{
    printf("Role %s\nKV Read:\n", name);
    for (size_t i = 0; i < r->perm.n; i++) {
        if (r->perm.items[i].permType != RPCPB_PERM_WRITE)
            print_permission(c, &r->perm.items[i]);
    }
    printf("KV Write:\n");
    for (size_t i = 0; i < r->perm.n; i++) {
        if (r->perm.items[i].permType != RPCPB_PERM_READ)
            print_permission(c, &r->perm.items[i]);
    }
}

static void role_fields(const struct rpcpb_auth_role_get_response *r)
{
    ctlv3_print_header(r->header);
    for (size_t i = 0; i < r->perm.n; i++) {
        const struct rpcpb_permission *p = &r->perm.items[i];
        const char *type = msg_enum_name(&rpcpb_perm_type_enum, p->permType);

        printf("\"PermType\" :  %s\n", type ? type : "");
        ctlv3_print_quoted("Key", p->key);
        ctlv3_print_quoted("RangeEnd", p->range_end);
    }
}

static int show_role(struct ctl *c, const char *name,
                     const struct rpcpb_auth_role_get_response *r)
{
    if (ctlv3_print_whole(c, &rpcpb_auth_role_get_response_desc, r))
        return 0;
    if (c->v3->format == CTLV3_TABLE)
        return ctlv3_unsupported(c);
    if (c->v3->format == CTLV3_FIELDS)
        role_fields(r);
    else
        print_role(c, name, r);
    return 0;
}

int ctlv3_role_get(struct ctl *c)
{
    struct rpcpb_auth_role_get_response response = {0};
    struct rpcpb_auth_role_get_request r = {0};
    int rc;

    if (c->n_args != 1)
        return ctlv3_fail(
            CTLV3_BAD_ARGS,
            "role get command requires role name as its argument");
    r.role = str_of(c->args[0]);
    rc = ctlv3_call(c, RPC_AUTH_ROLE_GET, &r, &response);
    return rc ? rc : show_role(c, c->args[0], &response);
}

int ctlv3_role_list(struct ctl *c)
{
    struct rpcpb_auth_role_list_response response = {0};
    struct rpcpb_auth_role_list_request r = {0};
    bool fields = c->v3->format == CTLV3_FIELDS;
    int rc;

    if (c->n_args != 0)
        return ctlv3_fail(CTLV3_BAD_ARGS,
                          "role list command requires no arguments");
    rc = ctlv3_call(c, RPC_AUTH_ROLE_LIST, &r, &response);
    if (rc != 0)
        return rc;
    rc = ctlv3_print_plain(c, &rpcpb_auth_role_list_response_desc, &response,
                           response.header, "%s", "");
    if (rc != 0 || (c->v3->format != CTLV3_SIMPLE && !fields))
        return rc;
    printf("%s", fields ? "\"Roles\" :" : "");
    for (size_t i = 0; i < response.roles.n; i++) {
        struct buf b = {0};

        if (fields) {
            buf_addc(&b, ' ');
            ctl_quote(&b, response.roles.items[i]);
        } else {
            buf_addstr(&b, response.roles.items[i]);
            buf_addc(&b, '\n');
        }
        printf("%s", buf_z(&b));
        buf_release(&b);
    }
    printf("%s", fields ? "\n" : "");
    return 0;
}

/* --- Permissions. ------------------------------------------------------------------------ */

/* The range of KEY [END] with --prefix or --from-key. 0, or the exit code. */
static int permission_range(struct ctl *c, size_t at, struct ctlv3_range *out)
{
    bool prefix = ctl_bool(c, "prefix"), from_key = ctl_bool(c, "from-key");
    bool more = c->n_args > at + 1;

    if (prefix && from_key)
        return ctlv3_fail(CTLV3_BAD_ARGS, "--from-key and --prefix flags are "
                                          "mutually exclusive");
    if (prefix && more)
        return ctlv3_fail(CTLV3_BAD_ARGS,
                          "unexpected endkey argument with --prefix "
                          "flag");
    if (from_key && more)
        return ctlv3_fail(CTLV3_BAD_ARGS, "unexpected endkey argument with "
                                          "--from-key flag");
    *out = ctlv3_range_of(c, c->args[at], more ? c->args[at + 1] : NULL, prefix,
                          from_key);
    if (out->key.n == 0) /* the first key: an empty one grants nothing */
        out->key = STR("\0");
    return 0;
}

static bool find_type(const char *s, int32_t *out)
{
    static const struct {
        const char *name;
        int32_t type;
    } types[] = {{"read", RPCPB_PERM_READ},
                 {"write", RPCPB_PERM_WRITE},
                 {"readwrite", RPCPB_PERM_READWRITE}};

    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (strcasecmp(s, types[i].name) == 0) {
            *out = types[i].type;
            return true;
        }
    }
    return false;
}

int ctlv3_role_grant(struct ctl *c)
{
    struct rpcpb_auth_role_grant_permission_response response = {0};
    struct rpcpb_permission perm = {0};
    struct rpcpb_auth_role_grant_permission_request r = {.perm = &perm};
    struct ctlv3_range range;
    int rc;

    if (c->n_args < 3)
        return ctlv3_fail(CTLV3_BAD_ARGS,
                          "role grant command requires role name, permission "
                          "type, and key [endkey] as its argument");
    if (!find_type(c->args[1], &perm.permType))
        return ctlv3_fail(CTLV3_BAD_ARGS, "invalid permission type: %s",
                          c->args[1]);
    rc = permission_range(c, 2, &range);
    if (rc != 0)
        return rc;
    r.name = str_of(c->args[0]);
    perm.key = range.key;
    perm.range_end = range.end;
    rc = ctlv3_call(c, RPC_AUTH_ROLE_GRANT_PERMISSION, &r, &response);
    return rc ? rc
              : ctlv3_print_plain(
                    c, &rpcpb_auth_role_grant_permission_response_desc,
                    &response, response.header, "Role %s updated\n",
                    c->args[0]);
}

static void print_revoked(const char *role, struct ctlv3_range r)
{
    if (r.end.n == 0)
        printf("Permission of key %.*s is revoked from role %s\n",
               STR_FMT(r.key), role);
    else if (is_open_ended(r.end))
        printf("Permission of range [%.*s, <open ended> is revoked from role "
               "%s\n",
               STR_FMT(r.key), role);
    else
        printf("Permission of range [%.*s, %.*s) is revoked from role %s\n",
               STR_FMT(r.key), STR_FMT(r.end), role);
}

int ctlv3_role_revoke(struct ctl *c)
{
    struct rpcpb_auth_role_revoke_permission_response response = {0};
    struct rpcpb_auth_role_revoke_permission_request r = {0};
    struct ctlv3_range range;
    int rc;

    if (c->n_args < 2)
        return ctlv3_fail(CTLV3_BAD_ARGS,
                          "role revoke-permission command requires "
                          "role name and key [endkey] as its "
                          "argument");
    rc = permission_range(c, 1, &range);
    if (rc != 0)
        return rc;
    r.role = str_of(c->args[0]);
    r.key = range.key;
    r.range_end = range.end;
    rc = ctlv3_call(c, RPC_AUTH_ROLE_REVOKE_PERMISSION, &r, &response);
    if (rc == 0)
        rc = ctlv3_print_plain(c,
                               &rpcpb_auth_role_revoke_permission_response_desc,
                               &response, response.header, "%s", "");
    if (rc == 0 && c->v3->format == CTLV3_SIMPLE)
        print_revoked(c->args[0], range);
    return rc;
}
