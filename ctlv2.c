/*
 * ctlv2.c - etcdctl's commands of the v2 API: keys, directories, watches,
 * cluster health and members. Users, roles and auth are in ctlv2_auth.c.
 *
 * A command checks its arguments, connects, sends its requests and prints.
 * Texts and exit codes are etcdctl's (spec: etcdctl, A2 and A3).
 */
#include "ctl.h"

#include "sys.h"
#include "url.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define HEALTH_PAUSE_MS 10000
#define FORM "application/x-www-form-urlencoded"

/* --- Keys: one request, one answer. ------------------------------------- */

/* The parts of a request to /v2/keys; released by keys_do(). */
struct keys_request {
    const char *method;
    const char *key;
    struct buf query; /* encoded; names in the order of etcd's client */
    struct buf form;  /* for PUT and POST */
    bool one_shot, wait;
};

struct keys_answer {
    struct json *json;
    uint64_t index;
};

static const char *format_of(const struct ctl *c)
{
    return ctl_string(c, "output", "simple");
}

static void add_field(struct buf *b, const char *name, const char *value)
{
    if (b->len > 0)
        buf_addc(b, '&');
    buf_adds(b, name);
    buf_addc(b, '=');
    url_encode_query(b, str_of(value));
}

static void add_number(struct buf *b, const char *name, uint64_t v)
{
    char digits[24];

    snprintf(digits, sizeof(digits), "%" PRIu64, v);
    add_field(b, name, digits);
}

static void add_flag(struct buf *b, const char *name, bool v)
{
    add_field(b, name, v ? "true" : "false");
}

/* "100: Key not found (/nope) [12]", or that this is no etcd. */
static int refused(const struct json *j)
{
    struct str message = json_text(json_get(j, "message"), "");
    struct str cause = json_text(json_get(j, "cause"), "");
    uint64_t code, index;

    if (!json_u64(json_get(j, "errorCode"), &code))
        return ctl_fail_text(CTL_SERVER_ERROR,
                             "client: response is invalid json. The endpoint "
                             "is probably not valid etcd cluster endpoint");
    if (!json_u64(json_get(j, "index"), &index))
        index = 0;
    return ctl_fail_text(CTL_SERVER_ERROR,
                         "%" PRIu64 ": %.*s (%.*s) [%" PRIu64 "]", code,
                         STR_FMT(message), STR_FMT(cause), index);
}

static bool body_is_empty(const struct ctl_answer *a)
{
    return a->body.len == 0 && (a->status == 200 || a->status == 201);
}

/* 0 and *out (owned), or the exit code after a message. */
static int keys_answer_of(const struct ctl_answer *a, struct keys_answer *out)
{
    struct json *j = NULL;
    struct err e;
    int rc = 0;

    if (body_is_empty(a))
        return ctl_fail_text(CTL_SERVER_ERROR,
                             "client: response body is empty");
    if (json_parse(a->body.data, a->body.len, &j, &e) != 0)
        j = NULL;
    if ((a->status != 200 && a->status != 201) || !json_get(j, "node"))
        rc = refused(j);
    if (rc != 0) {
        json_free(j);
        return rc;
    }
    *out = (struct keys_answer){j, a->index};
    return 0;
}

/* 0 and *a, or -1 and *e (which may be NULL). */
static int keys_ask(struct ctl *c, struct keys_request *q, struct ctl_answer *a,
                    struct ctl_error *e)
{
    const char *slash = q->key[0] && q->key[0] != '/' ? "/" : "";
    char *path = xasprintf("/v2/keys%s%s", slash, q->key);
    bool has_body =
        strcmp(q->method, "PUT") == 0 || strcmp(q->method, "POST") == 0;
    struct ctl_request r = {
        .method = q->method,
        .path = path,
        .query = q->query.len ? buf_z(&q->query) : NULL,
        .content_type = has_body ? FORM : NULL,
        .body = has_body ? &q->form : NULL,
        .one_shot = q->one_shot,
        .wait = q->wait,
    };
    struct ctl_error unheard = {0};
    int rc = ctl_do(c, &r, a, e ? e : &unheard);

    ctl_error_release(&unheard);
    free(path);
    return rc;
}

static int keys_send(struct ctl *c, struct keys_request *q,
                     struct ctl_answer *a)
{
    struct ctl_error e = {0};
    int rc = 0;

    if (keys_ask(c, q, a, &e) != 0)
        rc = ctl_fail(c, CTL_SERVER_ERROR, &e);
    ctl_error_release(&e);
    return rc;
}

static int keys_do(struct ctl *c, struct keys_request *q,
                   struct keys_answer *out)
{
    struct ctl_answer a = {0};
    int rc = ctl_connect(c, CTL_SYNC);

    if (rc == 0)
        rc = keys_send(c, q, &a);
    if (rc == 0)
        rc = keys_answer_of(&a, out);
    ctl_answer_release(&a);
    buf_release(&q->query);
    buf_release(&q->form);
    return rc;
}

/* An unknown -o is told of after the fact, and is no failure to etcdctl. */
static void print_response(const struct ctl *c, const struct keys_answer *r)
{
    struct buf b = {0};

    if (!ctl_format_response(&b, r->json, r->index, format_of(c)))
        fprintf(stderr, "Unsupported output format: %s\n", format_of(c));
    if (b.len > 0)
        fwrite(b.data, 1, b.len, stdout);
    buf_release(&b);
}

static bool is_simple(const struct ctl *c)
{
    return strcmp(format_of(c), "simple") == 0;
}

static bool is_dir(const struct keys_answer *r)
{
    const struct json *node = json_get(r->json, "node");

    return json_bool(json_get(node, "dir"), false);
}

/* What is printed of a directory in the simple format. */
enum show { SHOW_ALL, SHOW_NO_DIR, SHOW_NOTHING };

static int keys_run(struct ctl *c, struct keys_request *q, enum show show)
{
    struct keys_answer r = {0};
    int rc = keys_do(c, q, &r);

    if (rc != 0)
        return rc;
    if (!is_simple(c) || show == SHOW_ALL ||
        (show == SHOW_NO_DIR && !is_dir(&r)))
        print_response(c, &r);
    json_free(r.json);
    return 0;
}

static int need_key(void)
{
    return ctl_fail_text(CTL_BAD_ARGS, "key required");
}

/* Does the server have the v2 API, and the key there? Says nothing. */
static bool is_there(struct ctl *c, const char *key)
{
    struct keys_request q = {.method = "GET", .key = key};
    struct ctl_answer a = {0};
    bool there = false;

    if (ctl_connect(c, CTL_NO_SYNC) == 0 && keys_ask(c, &q, &a, NULL) == 0) {
        there = a.status == 200;
        ctl_answer_release(&a);
    }
    ctl_disconnect(c);
    return there;
}

int ctlv2_get_if_there(struct ctl *c)
{
    return is_there(c, c->args[0]) ? ctlv2_get(c) : CTL_OK;
}

int ctlv2_get(struct ctl *c)
{
    struct keys_request q = {.method = "GET"};
    struct keys_answer r = {0};
    int rc;

    if (c->n_args == 0)
        return need_key();
    q.key = c->args[0];
    add_flag(&q.query, "quorum", ctl_bool(c, "quorum"));
    add_flag(&q.query, "recursive", false);
    add_flag(&q.query, "sorted", ctl_bool(c, "sort"));
    rc = keys_do(c, &q, &r);
    if (rc != 0)
        return rc;
    if (is_dir(&r)) {
        struct str key =
            json_text(json_get(json_get(r.json, "node"), "key"), "");

        rc = ctl_say("%.*s: is a directory", STR_FMT(key));
    } else {
        print_response(c, &r);
    }
    json_free(r.json);
    return rc;
}

int ctlv2_ls(struct ctl *c)
{
    struct keys_request q = {.method = "GET"};
    struct keys_answer r = {0};
    struct buf b = {0};
    int rc;

    q.key = c->n_args ? c->args[0] : "/";
    add_flag(&q.query, "quorum", ctl_bool(c, "quorum"));
    add_flag(&q.query, "recursive", ctl_bool(c, "recursive"));
    add_flag(&q.query, "sorted", ctl_bool(c, "sort"));
    rc = keys_do(c, &q, &r);
    if (rc != 0)
        return rc;
    if (is_simple(c)) {
        ctl_format_listing(&b, r.json, ctl_bool(c, "p"));
        if (b.len > 0)
            fwrite(b.data, 1, b.len, stdout);
        buf_release(&b);
    } else {
        print_response(c, &r);
    }
    json_free(r.json);
    return 0;
}

/* --- Keys: writing. ----------------------------------------------------- */

static int read_stdin(struct buf *b)
{
    for (;;) {
        ssize_t n;

        buf_reserve(b, 16 * 1024);
        n = read(STDIN_FILENO, b->data + b->len, b->cap - b->len);
        if (n == 0)
            return 0;
        if (n > 0)
            b->len += (size_t)n;
        else if (errno != EINTR)
            return ctl_fail_text(CTL_BAD_ARGS, "read standard input: %s",
                                 strerror(errno));
    }
}

/* The form's value: the second argument, else all of standard input. */
static int add_value(const struct ctl *c, struct buf *form)
{
    struct buf b = {0};
    int rc = 0;

    if (c->n_args > 1) {
        add_field(form, "value", c->args[1]);
        return 0;
    }
    rc = read_stdin(&b);
    if (rc == 0 && b.len == 0)
        rc = ctl_fail_text(CTL_BAD_ARGS, "value required");
    if (rc == 0) {
        buf_adds(form, form->len ? "&value=" : "value=");
        url_encode_query(form, buf_str(&b));
    }
    buf_release(&b);
    return rc;
}

static void add_ttl(const struct ctl *c, struct buf *form)
{
    int64_t ttl = ctl_int(c, "ttl", 0);

    if (ttl > 0)
        add_number(form, "ttl", (uint64_t)ttl);
}

/* Conditions that compare with the present value or index. */
static void add_previous(const struct ctl *c, struct buf *query,
                         const char *value_option, const char *index_option)
{
    const char *value = ctl_string(c, value_option, "");
    int64_t index = ctl_int(c, index_option, 0);

    if (index != 0)
        add_number(query, "prevIndex", (uint64_t)index);
    if (value[0])
        add_field(query, "prevValue", value);
}

/* set, mk and update; exist is prevExist, NULL to leave it out. */
static int write_key(struct ctl *c, const char *exist)
{
    struct keys_request q = {.method = "PUT"};
    int rc;

    if (c->n_args == 0)
        return need_key();
    q.key = c->args[0];
    if (exist)
        add_field(&q.query, "prevExist", exist);
    add_previous(c, &q.query, "swap-with-value", "swap-with-index");
    q.one_shot = exist && strcmp(exist, "false") == 0;
    add_ttl(c, &q.form);
    rc = add_value(c, &q.form);
    if (rc == 0)
        return keys_run(c, &q, SHOW_ALL);
    buf_release(&q.query);
    buf_release(&q.form);
    return rc;
}

int ctlv2_set(struct ctl *c)
{
    return write_key(c, NULL);
}

int ctlv2_update(struct ctl *c)
{
    return write_key(c, "true");
}

int ctlv2_mk(struct ctl *c)
{
    struct keys_request q = {.method = "POST", .one_shot = true};
    int rc;

    if (!ctl_bool(c, "in-order"))
        return write_key(c, "false");
    if (c->n_args == 0)
        return need_key();
    q.key = c->args[0];
    add_ttl(c, &q.form);
    rc = add_value(c, &q.form);
    if (rc == 0)
        return keys_run(c, &q, SHOW_ALL);
    buf_release(&q.form);
    return rc;
}

static int write_dir(struct ctl *c, const char *exist)
{
    struct keys_request q = {.method = "PUT"};

    if (c->n_args == 0)
        return need_key();
    q.key = c->args[0];
    q.one_shot = exist && strcmp(exist, "false") == 0;
    add_flag(&q.query, "dir", true);
    if (exist)
        add_field(&q.query, "prevExist", exist);
    add_ttl(c, &q.form);
    return keys_run(c, &q, SHOW_NOTHING);
}

int ctlv2_mkdir(struct ctl *c)
{
    return write_dir(c, "false");
}

int ctlv2_setdir(struct ctl *c)
{
    return write_dir(c, NULL);
}

int ctlv2_updatedir(struct ctl *c)
{
    return write_dir(c, "true");
}

int ctlv2_rm(struct ctl *c)
{
    struct keys_request q = {.method = "DELETE", .one_shot = true};

    if (c->n_args == 0)
        return need_key();
    q.key = c->args[0];
    if (ctl_bool(c, "dir"))
        add_flag(&q.query, "dir", true);
    add_previous(c, &q.query, "with-value", "with-index");
    if (ctl_bool(c, "recursive"))
        add_flag(&q.query, "recursive", true);
    return keys_run(c, &q, SHOW_NO_DIR);
}

int ctlv2_rmdir(struct ctl *c)
{
    struct keys_request q = {.method = "DELETE", .one_shot = true};

    if (c->n_args == 0)
        return need_key();
    q.key = c->args[0];
    add_flag(&q.query, "dir", true);
    return keys_run(c, &q, SHOW_NO_DIR);
}

/* --- Watching. ---------------------------------------------------------- */

struct watch {
    const char *key;
    uint64_t next; /* waitIndex; 0 for the next event from now on */
    bool recursive;
};

static void on_interrupt(int sig)
{
    (void)sig;
    _exit(CTL_OK); /* the usual way to end a watch; output is flushed */
}

static int watch_start(struct ctl *c, struct watch *w)
{
    int64_t after = ctl_int(c, "after-index", 0);

    signal(SIGINT, on_interrupt);
    *w = (struct watch){.key = c->args[0],
                        .next = after ? (uint64_t)after + 1 : 0,
                        .recursive = ctl_bool(c, "recursive")};
    return ctl_connect(c, CTL_SYNC);
}

/* The next event that is not a directory's; *r is owned. */
static int watch_next(struct ctl *c, struct watch *w, struct keys_answer *r)
{
    for (;;) {
        struct keys_request q = {.method = "GET", .key = w->key, .wait = true};
        struct ctl_answer a = {0};
        bool ended = false; /* by the server, without an event: ask again */
        int rc;

        add_flag(&q.query, "recursive", w->recursive);
        add_flag(&q.query, "wait", true);
        add_number(&q.query, "waitIndex", w->next);
        rc = keys_send(c, &q, &a);
        if (rc == 0)
            ended = body_is_empty(&a);
        if (rc == 0 && !ended)
            rc = keys_answer_of(&a, r);
        buf_release(&q.query);
        ctl_answer_release(&a);
        if (rc != 0)
            return rc;
        if (ended)
            continue;
        if (json_u64(json_get(json_get(r->json, "node"), "modifiedIndex"),
                     &w->next))
            w->next++;
        if (!is_dir(r))
            return 0;
        json_free(r->json);
    }
}

static void print_event(const struct ctl *c, const struct watch *w,
                        const struct keys_answer *r)
{
    struct str action = json_text(json_get(r->json, "action"), "");
    struct str key = json_text(json_get(json_get(r->json, "node"), "key"), "");

    if (w->recursive)
        printf("[%.*s] %.*s\n", STR_FMT(action), STR_FMT(key));
    print_response(c, r);
}

int ctlv2_watch(struct ctl *c)
{
    struct watch w;
    int rc;

    if (c->n_args == 0)
        return need_key();
    rc = watch_start(c, &w);
    while (rc == 0) {
        struct keys_answer r = {0};

        rc = watch_next(c, &w, &r);
        if (rc == 0) {
            print_event(c, &w, &r);
            rc = ctl_flush();
        }
        json_free(r.json);
        if (rc == 0 && !ctl_bool(c, "forever"))
            break;
    }
    return rc;
}

/* Start the command and do not wait for it: the next event may come first. */
static int spawn_command(struct ctl *c, const struct keys_answer *r)
{
    const struct json *node = json_get(r->json, "node");
    struct str action = json_text(json_get(r->json, "action"), "");
    struct str key = json_text(json_get(node, "key"), "");
    struct str value = json_text(json_get(node, "value"), "");
    char **argv = xcalloc(c->n_args, sizeof(*argv));
    uint64_t index = 0;
    struct err e;
    pid_t pid;
    int rc;

    (void)json_u64(json_get(node, "modifiedIndex"), &index);
    char *more[] = {
        xasprintf("ETCD_WATCH_ACTION=%.*s", STR_FMT(action)),
        xasprintf("ETCD_WATCH_MODIFIED_INDEX=%" PRIu64, index),
        xasprintf("ETCD_WATCH_KEY=%.*s", STR_FMT(key)),
        xasprintf("ETCD_WATCH_VALUE=%.*s", STR_FMT(value)),
        NULL,
    };
    for (size_t i = 1; i < c->n_args; i++)
        argv[i - 1] = c->args[i];
    rc = ctl_spawn(argv, more, &pid, &e) == 0 ? 0 : ctl_say("%s", e.msg);
    for (size_t i = 0; more[i]; i++)
        free(more[i]);
    free(argv);
    return rc;
}

int ctlv2_exec_watch(struct ctl *c)
{
    struct sigaction sa = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT};
    struct watch w;
    int rc;

    if (c->n_args < 2)
        return ctl_fail_text(CTL_BAD_ARGS, "key and command to exec required");
    sigaction(SIGCHLD, &sa, NULL); /* nobody waits: leave no zombies */
    rc = watch_start(c, &w);
    while (rc == 0) {
        struct keys_answer r = {0};

        rc = watch_next(c, &w, &r);
        if (rc == 0)
            rc = spawn_command(c, &r);
        json_free(r.json);
    }
    return rc;
}

/* --- Members. ----------------------------------------------------------- */

int ctlv2_get_json(struct ctl *c, const char *path, struct json **out,
                   struct ctl_error *e)
{
    struct ctl_request r = {.method = "GET", .path = path};
    struct ctl_answer a = {0};
    struct err why;
    int rc = 0;

    if (ctl_do(c, &r, &a, e) != 0)
        return -1;
    if (a.status != 200)
        rc = err_set(&why, -1, "unexpected status code %d", a.status);
    else if (json_parse(a.body.data, a.body.len, out, &why) != 0)
        rc = -1;
    if (rc != 0)
        buf_adds(&e->message, why.msg);
    ctl_answer_release(&a);
    return rc;
}

static struct str member_text(const struct json *m, const char *name)
{
    return json_text(json_get(m, name), "");
}

static const struct json *first_member(const struct json *members)
{
    const struct json *list = json_get(members, "members");

    return list ? list->first : NULL;
}

static void print_member(const struct json *m, struct str leader)
{
    struct str id = member_text(m, "id"), name = member_text(m, "name");
    struct buf b = {0};

    buf_addstr(&b, id);
    if (name.n == 0) {
        buf_adds(&b, "[unstarted]: peerURLs=");
        ctl_join(&b, json_get(m, "peerURLs"), ",");
    } else {
        buf_printf(&b, ": name=%.*s peerURLs=", STR_FMT(name));
        ctl_join(&b, json_get(m, "peerURLs"), ",");
        buf_adds(&b, " clientURLs=");
        ctl_join(&b, json_get(m, "clientURLs"), ",");
        buf_printf(&b, " isLeader=%s", str_eq(id, leader) ? "true" : "false");
    }
    printf("%s\n", buf_z(&b));
    buf_release(&b);
}

int ctlv2_member_list(struct ctl *c)
{
    struct json *members = NULL, *leader = NULL;
    struct ctl_error e = {0};
    int rc;

    if (c->n_args > 0)
        return ctl_say("No arguments accepted");
    rc = ctl_connect(c, CTL_SYNC);
    if (rc == 0 && ctlv2_get_json(c, "/v2/members", &members, &e) != 0) {
        rc = ctl_say_error(c, &e);
    } else if (rc == 0 &&
               ctlv2_get_json(c, "/v2/members/leader", &leader, &e) != 0) {
        rc = ctl_say("Failed to get leader:  %s", buf_z(&e.message));
    } else if (rc == 0) {
        for (const struct json *m = first_member(members); m; m = m->next)
            print_member(m, member_text(leader, "id"));
    }
    json_free(members);
    json_free(leader);
    ctl_error_release(&e);
    return rc;
}

/* The body {"peerURLs":[...]} of a list that follows etcd's rules for URLs. */
static int peer_urls_body(struct str *urls, size_t n, struct buf *body)
{
    struct url_list list = {0};
    struct err e;

    if (url_list_of(urls, n, &list, &e) != 0)
        return ctl_say("%s", e.msg);
    buf_adds(body, "{\"peerURLs\":[");
    for (size_t i = 0; i < list.n; i++) {
        if (i > 0)
            buf_addc(body, ',');
        json_add_string(body, str_of(list.urls[i].raw));
    }
    buf_adds(body, "]}");
    url_list_release(&list);
    return 0;
}

/* "n2=http://...,c2=http://...": what the new member is to be started with. */
static void initial_cluster(struct buf *b, const struct json *members,
                            struct str id, const char *name)
{
    for (const struct json *m = first_member(members); m; m = m->next) {
        const struct json *urls = json_get(m, "peerURLs");
        struct str known_as = str_eq(member_text(m, "id"), id)
                                  ? str_of(name)
                                  : member_text(m, "name");

        for (const struct json *u = urls ? urls->first : NULL; u; u = u->next) {
            struct str url = json_text(u, "");

            buf_printf(b, "%s%.*s=%.*s", b->len ? "," : "", STR_FMT(known_as),
                       STR_FMT(url));
        }
    }
}

static void print_env(const char *name, struct str value)
{
    struct buf b = {0};

    ctl_quote(&b, value);
    printf("%s=%s\n", name, buf_z(&b));
    buf_release(&b);
}

void ctlv2_print_joining(const struct json *members, struct str id,
                         const char *name)
{
    struct buf conf = {0};

    initial_cluster(&conf, members, id, name);
    printf("\n");
    print_env("ETCD_NAME", str_of(name));
    print_env("ETCD_INITIAL_CLUSTER", buf_str(&conf));
    print_env("ETCD_INITIAL_CLUSTER_STATE", STR("existing"));
    buf_release(&conf);
}

static int member_added(struct ctl *c, const struct ctl_answer *a)
{
    const char *name = c->args[0];
    struct json *added, *members = NULL;
    struct ctl_error e = {0};
    struct err why;
    struct str id;
    int rc = 0;

    if (json_parse(a->body.data, a->body.len, &added, &why) != 0)
        return ctl_say("%s", why.msg);
    id = member_text(added, "id");
    printf("Added member named %s with ID %.*s to cluster\n", name,
           STR_FMT(id));
    if (ctlv2_get_json(c, "/v2/members", &members, &e) == 0) {
        ctlv2_print_joining(members, id, name);
    } else {
        rc = ctl_say_error(c, &e);
    }
    json_free(added);
    json_free(members);
    ctl_error_release(&e);
    return rc;
}

int ctlv2_member_add(struct ctl *c)
{
    struct ctl_answer a = {0};
    struct buf body = {0};
    int rc;

    if (c->n_args != 2)
        return ctl_say("Provide a name and a single member peerURL");
    rc = ctl_connect(c, CTL_SYNC);
    if (rc == 0) {
        struct str url = str_of(c->args[1]);

        rc = peer_urls_body(&url, 1, &body);
    }
    if (rc == 0)
        rc = ctl_send(c, "POST", "/v2/members", &body, &a);
    if (rc == 0) {
        if (a.status == 201)
            rc = member_added(c, &a);
        else if (a.status == 409)
            rc = ctl_say_message(&a);
        else
            rc = ctl_say("unexpected status code %d", a.status);
    }
    buf_release(&body);
    ctl_answer_release(&a);
    return rc;
}

/* Is there a member of this id? One of this name gets a hint. */
static bool know_member(const struct json *members, struct str id)
{
    bool found = false;

    for (const struct json *m = first_member(members); m; m = m->next) {
        struct str its_id = member_text(m, "id");
        struct str name = member_text(m, "name");

        if (str_eq(its_id, id))
            found = true;
        if (str_eq(name, id))
            fprintf(stderr,
                    "Found a member named %.*s; if this is correct, please "
                    "use its ID, eg:\n\tetcdctl member remove %.*s\n"
                    "For more details, read the documentation at "
                    "https://github.com/coreos/etcd/blob/master/Documentation"
                    "/runtime-configuration.md#remove-a-member\n\n",
                    STR_FMT(name), STR_FMT(its_id));
    }
    return found;
}

static int remove_member(struct ctl *c, const char *id)
{
    char *path = xasprintf("/v2/members/%s", id);
    struct ctl_request r = {.method = "DELETE", .path = path};
    struct ctl_answer a = {0};
    struct ctl_error e = {0};
    int rc = 0;

    if (ctl_do(c, &r, &a, &e) != 0)
        rc = ctl_say("Received an error trying to remove member %s: %s", id,
                     buf_z(&e.message));
    else if (a.status != 204 && a.status != 410)
        rc = ctl_say("Received an error trying to remove member %s: "
                     "unexpected status code %d",
                     id, a.status);
    else
        printf("Removed member %s from cluster\n", id);
    ctl_answer_release(&a);
    ctl_error_release(&e);
    free(path);
    return rc;
}

int ctlv2_member_remove(struct ctl *c)
{
    struct json *members = NULL;
    struct ctl_error e = {0};
    int rc;

    if (c->n_args != 1)
        return ctl_say("Provide a single member ID");
    rc = ctl_connect(c, CTL_SYNC);
    if (rc != 0)
        return rc;
    if (ctlv2_get_json(c, "/v2/members", &members, &e) != 0)
        rc = ctl_say("Error while verifying ID against known members: %s",
                     buf_z(&e.message));
    else if (!know_member(members, str_of(c->args[0])))
        rc = ctl_say("Couldn't find a member in the cluster with an ID of %s.",
                     c->args[0]);
    else
        rc = remove_member(c, c->args[0]);
    json_free(members);
    ctl_error_release(&e);
    return rc;
}

static int update_member(struct ctl *c, const char *id, const struct buf *body)
{
    char *path = xasprintf("/v2/members/%s", id);
    struct ctl_answer a = {0};
    int rc = ctl_send(c, "PUT", path, body, &a);

    if (rc == 0) {
        if (a.status == 204)
            printf("Updated member with ID %s in cluster\n", id);
        else if (a.status == 404 || a.status == 409)
            rc = ctl_say_message(&a);
        else
            rc = ctl_say("unexpected status code %d", a.status);
    }
    ctl_answer_release(&a);
    free(path);
    return rc;
}

int ctlv2_member_update(struct ctl *c)
{
    struct str list, *urls;
    struct buf body = {0};
    size_t n = 0;
    int rc;

    if (c->n_args != 2)
        return ctl_say("Provide an ID and a list of comma separated peerURL "
                       "(0xabcd http://example.com,http://example1.com)");
    rc = ctl_connect(c, CTL_SYNC);
    if (rc != 0)
        return rc;
    list = str_of(c->args[1]);
    urls = xcalloc(list.n + 1, sizeof(*urls));
    do {
        str_cut(&list, ',', &urls[n++]);
    } while (list.n > 0);
    rc = peer_urls_body(urls, n, &body);
    if (rc == 0)
        rc = update_member(c, c->args[0], &body);
    buf_release(&body);
    free(urls);
    return rc;
}

/* --- Health. ------------------------------------------------------------ */

/* URL/health says "true" (etcd 3.2 and 3.3) or true. */
static bool says_healthy(const struct json *j)
{
    const struct json *health = json_get(j, "health");

    return json_bool(health, false) || str_eqz(json_text(health, ""), "true");
}

/* 1 healthy, 0 unhealthy, -1 if it could not be asked, after a message. */
static int check_url(struct ctl *c, struct str id, struct str url)
{
    char *health = xasprintf("%.*s/health", STR_FMT(url));
    struct ctl_answer a = {0};
    struct json *j = NULL;
    struct err e;
    int rc = ctl_get_url(c, health, &a, &e);
    bool reached = rc == 0;

    if (rc == 0)
        rc = json_parse(a.body.data, a.body.len, &j, &e);
    if (rc == 0)
        rc = says_healthy(j);
    else if (reached)
        printf("failed to check the health of member %.*s on %.*s: %s\n",
               STR_FMT(id), STR_FMT(url), e.msg);
    else
        printf("failed to check the health of member %.*s on %.*s: Get %s: "
               "%s\n",
               STR_FMT(id), STR_FMT(url), health, e.msg);
    json_free(j);
    ctl_answer_release(&a);
    free(health);
    return rc;
}

static bool check_member(struct ctl *c, const struct json *m)
{
    const struct json *urls = json_get(m, "clientURLs");
    struct str id = member_text(m, "id");
    struct buf b = {0};

    if (!urls || !urls->first) {
        printf("member %.*s is unreachable: no available published client "
               "urls\n",
               STR_FMT(id));
        return false;
    }
    for (const struct json *u = urls->first; u; u = u->next) {
        struct str url = json_text(u, "");
        int healthy = check_url(c, id, url);

        if (healthy >= 0) {
            printf("member %.*s is %s: got %s result from %.*s\n", STR_FMT(id),
                   healthy ? "healthy" : "unhealthy",
                   healthy ? "healthy" : "unhealthy", STR_FMT(url));
            return healthy > 0;
        }
    }
    ctl_join(&b, urls, " ");
    printf("member %.*s is unreachable: [%s] are all unreachable\n",
           STR_FMT(id), buf_z(&b));
    buf_release(&b);
    return false;
}

static int check_cluster(struct ctl *c)
{
    struct json *members = NULL;
    struct ctl_error e = {0};
    bool healthy = false;

    ctl_start_clock(c);
    if (ctlv2_get_json(c, "/v2/members", &members, &e) != 0) {
        printf("cluster may be unhealthy: failed to list members\n");
        ctl_fail(c, CTL_SERVER_ERROR, &e);
        ctl_error_release(&e);
        return CTL_SERVER_ERROR;
    }
    for (const struct json *m = first_member(members); m; m = m->next)
        healthy = check_member(c, m) || healthy;
    printf("cluster is %s\n", healthy ? "healthy" : "unhealthy");
    json_free(members);
    return healthy ? CTL_OK : CTL_NOT_HEALTHY;
}

int ctlv2_cluster_health(struct ctl *c)
{
    bool forever = ctl_bool(c, "forever");
    int rc;

    if (forever)
        signal(SIGINT, on_interrupt);
    rc = ctl_connect(c, CTL_NO_SYNC);
    if (rc != 0)
        return rc;
    for (;;) {
        rc = check_cluster(c);
        if (!forever || rc == CTL_SERVER_ERROR)
            return rc;
        printf("\nnext check after 10 second...\n\n");
        rc = ctl_flush();
        if (rc != 0)
            return rc;
        sys_sleep_ms(HEALTH_PAUSE_MS);
    }
}
