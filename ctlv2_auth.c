/*
 * ctlv2_auth.c - etcdctl's commands of v2 authentication: users, roles and
 * the switch. JSON requests to /v2/auth (spec: v2-api, 9); errors are the
 * server's bare message and exit code 1.
 */
#include "ctl.h"

#include <stdio.h>

/* --- Requests. ---------------------------------------------------------- */

static int auth_connect(struct ctl *c)
{
    int rc = ctl_connect(c, CTL_SYNC);

    if (rc == 0)
        ctl_debug_endpoints(c); /* etcdctl tells it twice here */
    return rc;
}

/* 0 and *a (owned) for 200 and 201, else the exit code after a message. */
static int auth_do(struct ctl *c, const char *method, const char *path,
                   const struct buf *body, struct ctl_answer *a)
{
    int rc = ctl_send(c, method, path, body, a);

    if (rc == 0 && a->status != 200 && a->status != 201)
        rc = ctl_say_message(a);
    return rc;
}

/* Request whose answer's body says nothing new. */
static int auth_tell(struct ctl *c, const char *method, const char *path,
                     const struct buf *body)
{
    struct ctl_answer a = {0};
    int rc = auth_do(c, method, path, body, &a);

    ctl_answer_release(&a);
    return rc;
}

/* The first request of a command. */
static int auth_get(struct ctl *c, const char *path, struct json **out)
{
    struct ctl_answer a = {0};
    struct err e;
    int rc = auth_connect(c);

    if (rc == 0)
        rc = auth_do(c, "GET", path, NULL, &a);
    if (rc == 0 && json_parse(a.body.data, a.body.len, out, &e) != 0)
        rc = ctl_say("%s", e.msg);
    ctl_answer_release(&a);
    return rc;
}

/* A command that is one request about its argument: "User u updated", it says
 * when that is done. Takes path. */
static int change_named(struct ctl *c, const char *method, char *path,
                        const struct buf *body, const char *what,
                        const char *done)
{
    int rc = auth_connect(c);

    if (rc == 0)
        rc = auth_tell(c, method, path, body);
    if (rc == 0)
        printf("%s %s %s\n", what, c->args[0], done);
    free(path);
    return rc;
}

/* A user or role by itself ("root") or as an object ({"role":"root",...}). */
static struct str name_of(const struct json *j, const char *field)
{
    return json_text(j->type == JSON_OBJECT ? json_get(j, field) : j, "");
}

static void print_names(const struct json *list, const char *field)
{
    for (const struct json *j = list ? list->first : NULL; j; j = j->next) {
        struct str name = name_of(j, field);

        printf("%.*s\n", STR_FMT(name));
    }
}

/* --- Users. ------------------------------------------------------------- */

static char *user_path(const char *name)
{
    return xasprintf("/v2/auth/users/%s", name);
}

static void begin_user(struct buf *b, const char *name)
{
    buf_addc(b, '{');
    json_add_key(b, "user");
    json_add_string(b, str_of(name));
}

static void end_user(struct buf *b)
{
    json_add_key(b, "roles");
    buf_adds(b, "null");
}

/* {"user":NAME,"password":PW,"roles":null} is sent; an empty password is
 * left out, and the server says what it thinks of that. It also makes a user
 * that is not there: with is_old that is a failure, as in etcdctl. */
static int put_password(struct ctl *c, const char *name, struct str password,
                        bool is_old)
{
    char *path = user_path(name);
    struct ctl_answer a = {0};
    struct buf b = {0};
    int rc;

    begin_user(&b, name);
    if (password.n > 0) {
        json_add_key(&b, "password");
        json_add_string(&b, password);
    }
    end_user(&b);
    buf_addc(&b, '}');
    rc = auth_do(c, "PUT", path, &b, &a);
    if (rc == 0 && is_old && a.status == 201)
        rc = ctl_say("There was no user %s: it is created", name);
    ctl_answer_release(&a);
    explicit_bzero(b.data, b.len);
    buf_release(&b);
    free(path);
    return rc;
}

static int need_user(void)
{
    return ctl_say("Please provide a username");
}

/* NAME:PASSWORD, or NAME and the answer to a prompt. */
static int set_password(struct ctl *c, char **name, bool is_old)
{
    struct str rest = str_of(c->args[0]), head;
    bool given = str_cut(&rest, ':', &head);
    struct buf typed = {0};
    int rc;

    *name = xstrndup(head.p, head.n);
    rc = auth_connect(c);
    if (rc == 0 && !given) {
        ctl_ask_secret("New password: ", &typed);
        ctl_start_clock(c); /* typing took its time */
    }
    if (rc == 0)
        rc = put_password(c, *name, given ? rest : buf_str(&typed), is_old);
    buf_release(&typed);
    return rc;
}

int ctlv2_user_add(struct ctl *c)
{
    char *name = NULL;
    int rc;

    if (c->n_args != 1)
        return need_user();
    rc = set_password(c, &name, false);
    if (rc == 0)
        printf("User %s created\n", name);
    free(name);
    return rc;
}

int ctlv2_user_passwd(struct ctl *c)
{
    char *name = NULL;
    int rc;

    if (c->n_args != 1)
        return need_user();
    rc = set_password(c, &name, true);
    if (rc == 0)
        printf("Password updated\n");
    free(name);
    return rc;
}

int ctlv2_user_get(struct ctl *c)
{
    struct json *user = NULL;
    char *path;
    int rc;

    if (c->n_args != 1)
        return need_user();
    path = user_path(c->args[0]);
    rc = auth_get(c, path, &user);
    if (rc == 0) {
        const struct json *roles = json_get(user, "roles");
        struct str name = json_text(json_get(user, "user"), "");

        printf("User: %.*s\nRoles: ", STR_FMT(name));
        for (const struct json *j = roles ? roles->first : NULL; j;
             j = j->next) {
            struct str role = name_of(j, "role");

            printf(" %.*s", STR_FMT(role));
        }
        printf("\n");
    }
    json_free(user);
    free(path);
    return rc;
}

int ctlv2_user_list(struct ctl *c)
{
    struct json *users = NULL;
    int rc;

    if (c->n_args > 0)
        return ctl_say("No arguments accepted");
    rc = auth_get(c, "/v2/auth/users", &users);
    if (rc == 0)
        print_names(json_get(users, "users"), "user");
    json_free(users);
    return rc;
}

int ctlv2_user_remove(struct ctl *c)
{
    if (c->n_args != 1)
        return need_user();
    return change_named(c, "DELETE", user_path(c->args[0]), NULL, "User",
                        "removed");
}

static void add_roles(struct buf *b, struct str list)
{
    struct str role;

    for (bool more = true; more;) {
        more = str_cut(&list, ',', &role);
        buf_adds(b, b->data[b->len - 1] == '[' ? "" : ",");
        json_add_string(b, role);
    }
}

/* {"user":NAME,"roles":null,"grant":["a","b"]}, or "revoke": of each --roles. */
static int change_user(struct ctl *c, const char *change)
{
    struct buf b = {0};
    int rc;

    if (*ctl_string(c, "roles", "") == '\0')
        return ctl_say("No roles specified; please use `--roles`");
    if (c->n_args != 1)
        return need_user();
    begin_user(&b, c->args[0]);
    end_user(&b);
    json_add_key(&b, change);
    buf_addc(&b, '[');
    for (size_t i = 0; i < c->n_settings; i++) {
        if (strcmp(c->settings[i].option->name, "roles") == 0)
            add_roles(&b, str_of(c->settings[i].value));
    }
    buf_adds(&b, "]}");
    rc = change_named(c, "PUT", user_path(c->args[0]), &b, "User", "updated");
    buf_release(&b);
    return rc;
}

int ctlv2_user_grant(struct ctl *c)
{
    return change_user(c, "grant");
}

int ctlv2_user_revoke(struct ctl *c)
{
    return change_user(c, "revoke");
}

/* --- Roles. ------------------------------------------------------------- */

static char *role_path(const char *name)
{
    return xasprintf("/v2/auth/roles/%s", name);
}

/* "KIND":{"kv":{"read":[PATH] or null,"write":[PATH] or null}} */
static void add_permissions(struct buf *b, const char *kind, const char *path,
                            bool read, bool write)
{
    json_add_key(b, kind);
    buf_adds(b, "{\"kv\":{");
    for (int i = 0; i < 2; i++) {
        json_add_key(b, i == 0 ? "read" : "write");
        if (i == 0 ? read : write) {
            buf_addc(b, '[');
            json_add_string(b, str_of(path));
            buf_addc(b, ']');
        } else {
            buf_adds(b, "null");
        }
    }
    buf_adds(b, "}}");
}

static void begin_role(struct buf *b, const char *name)
{
    buf_addc(b, '{');
    json_add_key(b, "role");
    json_add_string(b, str_of(name));
    add_permissions(b, "permissions", NULL, false, false);
}

static int need_role(void)
{
    return ctl_say("Please provide a role name");
}

/* Whether the role is there; no message either way. */
static bool role_exists(struct ctl *c, const char *path)
{
    struct ctl_request r = {.method = "GET", .path = path};
    struct ctl_answer a = {0};
    struct ctl_error e = {0};
    bool exists = ctl_do(c, &r, &a, &e) == 0 && a.status == 200;

    ctl_answer_release(&a);
    ctl_error_release(&e);
    return exists;
}

int ctlv2_role_add(struct ctl *c)
{
    struct buf b = {0};
    char *path;
    int rc;

    if (c->n_args != 1)
        return need_role();
    path = role_path(c->args[0]);
    begin_role(&b, c->args[0]);
    buf_addc(&b, '}');
    rc = auth_connect(c);
    if (rc == 0 && role_exists(c, path))
        rc = ctl_say("Role %s already exists", c->args[0]);
    else if (rc == 0)
        rc = auth_tell(c, "PUT", path, &b);
    if (rc == 0)
        printf("Role %s created\n", c->args[0]);
    free(path);
    buf_release(&b);
    return rc;
}

static void print_patterns(const char *label, const struct json *patterns)
{
    printf("%s:\n", label);
    for (const struct json *j = patterns ? patterns->first : NULL; j;
         j = j->next) {
        struct str pattern = json_text(j, "");

        printf("\t%.*s\n", STR_FMT(pattern));
    }
}

int ctlv2_role_get(struct ctl *c)
{
    struct json *role = NULL;
    char *path;
    int rc;

    if (c->n_args != 1)
        return need_role();
    path = role_path(c->args[0]);
    rc = auth_get(c, path, &role);
    if (rc == 0) {
        const struct json *kv = json_get(json_get(role, "permissions"), "kv");
        struct str name = json_text(json_get(role, "role"), "");

        printf("Role: %.*s\n", STR_FMT(name));
        print_patterns("KV Read", json_get(kv, "read"));
        print_patterns("KV Write", json_get(kv, "write"));
    }
    json_free(role);
    free(path);
    return rc;
}

int ctlv2_role_list(struct ctl *c)
{
    struct ctl_request r = {.method = "GET", .path = "/v2/auth/roles"};
    struct ctl_answer a = {0};
    struct ctl_error e = {0};
    struct json *roles = NULL;
    struct err why;
    int rc;

    if (c->n_args > 0)
        return ctl_say("No arguments accepted");
    rc = auth_connect(c);
    if (rc != 0)
        return rc;
    if (ctl_do(c, &r, &a, &e) != 0)
        rc = ctl_say_error(c, &e);
    else if (a.status != 200) /* alone among these, without the message */
        rc = ctl_say("unexpected status code %d", a.status);
    else if (json_parse(a.body.data, a.body.len, &roles, &why) != 0)
        rc = ctl_say("%s", why.msg);
    else
        print_names(json_get(roles, "roles"), "role");
    json_free(roles);
    ctl_answer_release(&a);
    ctl_error_release(&e);
    return rc;
}

int ctlv2_role_remove(struct ctl *c)
{
    if (c->n_args != 1)
        return need_role();
    return change_named(c, "DELETE", role_path(c->args[0]), NULL, "Role",
                        "removed");
}

/* --path and exactly one kind of access. */
static int check_permission(const struct ctl *c, const char *path)
{
    int kinds =
        ctl_bool(c, "read") + ctl_bool(c, "write") + ctl_bool(c, "readwrite");
    struct buf given = {0}, clean = {0};
    int rc = 0;

    if (path[0] == '\0')
        return ctl_say("No path specified; please use `--path`");
    buf_adds(&given, path[0] == '/' ? "" : "/");
    buf_adds(&given, path);
    ctl_clean_path(&clean, buf_str(&given));
    if (!str_eqz(buf_str(&clean), path))
        rc = ctl_say("Not canonical path; please use `--path=%s`",
                     buf_z(&clean));
    else if (kinds != 1)
        rc = ctl_say("Please specify exactly one of --read, --write or "
                     "--readwrite");
    buf_release(&given);
    buf_release(&clean);
    return rc;
}

/* {"role":NAME,"permissions":{...null...},"grant":{...}}, or "revoke". */
static int change_role(struct ctl *c, const char *change)
{
    const char *pattern = ctl_string(c, "path", "");
    bool both = ctl_bool(c, "readwrite");
    struct json *role = NULL;
    struct buf b = {0};
    char *path;
    int rc = check_permission(c, pattern);

    if (rc != 0)
        return rc;
    if (c->n_args != 1)
        return need_role();
    path = role_path(c->args[0]);
    begin_role(&b, c->args[0]);
    add_permissions(&b, change, pattern, both || ctl_bool(c, "read"),
                    both || ctl_bool(c, "write"));
    buf_addc(&b, '}');
    rc = auth_get(c, path, &role);
    if (rc == 0)
        rc = auth_tell(c, "PUT", path, &b);
    if (rc == 0)
        printf("Role %s updated\n", c->args[0]);
    json_free(role);
    free(path);
    buf_release(&b);
    return rc;
}

int ctlv2_role_grant(struct ctl *c)
{
    return change_role(c, "grant");
}

int ctlv2_role_revoke(struct ctl *c)
{
    return change_role(c, "revoke");
}

/* --- The switch. -------------------------------------------------------- */

static int switch_auth(struct ctl *c, const char *method, const char *done)
{
    int rc;

    if (c->n_args > 0)
        return ctl_say("No arguments accepted");
    rc = auth_connect(c);
    if (rc == 0)
        rc = auth_tell(c, method, "/v2/auth/enable", NULL);
    if (rc == 0)
        printf("%s\n", done);
    return rc;
}

int ctlv2_auth_enable(struct ctl *c)
{
    return switch_auth(c, "PUT", "Authentication Enabled");
}

int ctlv2_auth_disable(struct ctl *c)
{
    return switch_auth(c, "DELETE", "Authentication Disabled");
}
