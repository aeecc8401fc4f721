/*
 * ctlv3call.c - the v3 commands' way to a cluster: global options, endpoints,
 * calls by the method table, and what they all need of ranges and numbers.
 */
#include "ctlv3.h"

#include "log.h"
#include "sys.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>

#define DEFAULT_ENDPOINTS "127.0.0.1:2379"
#define DIAL_NS (2 * NS_PER_S)
#define AGES_NS (INT64_MAX / 4) /* can be added to a time */
#define COMMAND_NS (5 * NS_PER_S)
#define KEEPALIVE_NS (2 * NS_PER_S)
#define KEEPALIVE_TIMEOUT_NS (6 * NS_PER_S)

/* --- Options. ------------------------------------------------------------------ */

static bool find_format(const char *name, enum ctlv3_format *out)
{
    static const char *const names[] = {"simple", "json", "fields", "protobuf",
                                        "table"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (enum ctlv3_format)i;
            return true;
        }
    }
    return false;
}

/* Takes text. */
static void add_endpoint(struct ctlv3 *v, char *text)
{
    v->endpoints =
        xrealloc(v->endpoints, (v->n_endpoints + 1) * sizeof(*v->endpoints));
    v->endpoints[v->n_endpoints++] = text;
}

static void add_endpoints(struct ctlv3 *v, struct str list)
{
    struct str item;

    while (list.n > 0) {
        str_cut(&list, ',', &item);
        item = str_trim(item);
        if (item.n > 0)
            add_endpoint(v, xstrndup(item.p, item.n));
    }
}

/* --endpoints given twice adds to the first. */
static int find_endpoints(struct ctl *c)
{
    const char *domain = ctl_string(c, "discovery-srv", "");
    struct err e;

    if (domain[0]) {
        if (ctl_discover(domain, ctl_string(c, "discovery-srv-name", ""),
                         &c->v3->endpoints, &c->v3->n_endpoints, &e) != 0)
            return ctlv3_fail(CTLV3_ERROR, "%s", e.msg);
        return 0;
    }
    for (size_t i = 0; i < c->n_settings; i++) {
        if (strcmp(c->settings[i].option->name, "endpoints") == 0)
            add_endpoints(c->v3, str_of(c->settings[i].value));
    }
    if (!ctl_given(c, "endpoints"))
        add_endpoints(c->v3, str_of(DEFAULT_ENDPOINTS));
    return 0;
}

int ctlv3_setup(struct ctl *c)
{
    struct ctlv3 *v = c->v3;

    v->arena.limit = SIZE_MAX / 2;
    v->hex = ctl_bool(c, "hex");
    v->command_ns = ctl_duration_ns(c, "command-timeout", COMMAND_NS);
    if (!find_format(ctl_string(c, "write-out", "simple"), &v->format))
        return ctlv3_fail(CTLV3_BAD_FEATURE, "unsupported output format");
    return find_endpoints(c);
}

void ctlv3_release(struct ctl *c)
{
    struct ctlv3 *v = c->v3;

    grpc_client_close(v->client);
    secure_free(v->secure);
    if (v->password.data)
        explicit_bzero(v->password.data, v->password.len);
    buf_release(&v->password);
    arena_release(&v->arena);
    for (size_t i = 0; i < v->n_endpoints; i++)
        free(v->endpoints[i]);
    free(v->endpoints);
    *v = (struct ctlv3){0};
}

/* --- Connecting. -------------------------------------------------------------------- */

/* user[:password], --password, or what was typed. */
static void read_user(struct ctl *c, struct buf *user, struct buf *password)
{
    const char *given = ctl_string(c, "user", "");
    const char *secret = ctl_string(c, "password", "");
    const char *colon = secret[0] ? NULL : strchr(given, ':');

    if (!given[0])
        return;
    buf_add(user, given, colon ? (size_t)(colon - given) : strlen(given));
    if (secret[0])
        buf_adds(password, secret);
    else if (colon)
        buf_adds(password, colon + 1);
    else
        buf_addstr(password, buf_str(&c->v3->password));
}

/* Once for all clients of a command, some of which are made by threads. */
static void ask_password(struct ctl *c)
{
    const char *user = ctl_string(c, "user", "");

    if (c->v3->asked || !user[0] || strchr(user, ':') ||
        *ctl_string(c, "password", ""))
        return;
    c->v3->asked = true;
    ctl_ask_secret("Password: ", &c->v3->password);
}

int ctlv3_prepare(struct ctl *c)
{
    static const char *const files[] = {"cert", "key", "cacert"};
    struct err e;

    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        if (!*ctl_string(c, files[i], "-"))
            return ctlv3_fail(CTLV3_BAD_ARGS,
                              "empty string is passed to --%s option",
                              files[i]);
    }
    if (!c->v3->secure && ctl_secure(c, "", true, &c->v3->secure, &e) < 0)
        return ctlv3_fail(CTLV3_BAD_ARGS, "%s", e.msg);
    if (c->v3->n_endpoints == 0)
        return ctlv3_fail(CTLV3_BAD_CONNECTION,
                          "etcdclient: no available endpoints");
    ask_password(c);
    return 0;
}

struct grpc_client *ctlv3_client_of(struct ctl *c, const char *const *endpoints,
                                    size_t n, struct err *e)
{
    struct buf user = {0}, password = {0};
    struct grpc_client_options o = {
        .endpoints = endpoints,
        .n_endpoints = n,
        .dial_ns = ctlv3_dial_ns(c),
        .conn.keepalive_ns = ctl_duration_ns(c, "keepalive-time", KEEPALIVE_NS),
        .conn.keepalive_timeout_ns =
            ctl_duration_ns(c, "keepalive-timeout", KEEPALIVE_TIMEOUT_NS),
        .tls = ctl_wants_tls(c, ""),
    };
    struct grpc_client *client;

    o.conn.secure = c->v3->secure;
    read_user(c, &user, &password);
    if (user.len > 0 &&
        password.len > 0) { /* else it is nobody, as etcdctl's */
        o.user = buf_z(&user);
        o.password = buf_z(&password);
    }
    client = grpc_client_new(&o, e);
    if (password.data)
        explicit_bzero(password.data, password.len);
    buf_release(&password);
    buf_release(&user);
    return client;
}

int64_t ctlv3_deadline(const struct ctl *c)
{
    int64_t now = sys_mono_ns(), left = INT64_MAX - now;

    return now + (c->v3->command_ns < left ? c->v3->command_ns : left);
}

int64_t ctlv3_dial_ns(const struct ctl *c)
{
    int64_t ns = ctl_duration_ns(c, "dial-timeout", DIAL_NS);

    return ns <= 0 ? 0 : ns < AGES_NS ? ns : AGES_NS;
}

/* A login belongs to dialling: --command-timeout begins behind it. */
static int login(const struct ctl *c, struct grpc_client *client, struct err *e)
{
    int64_t dial_ns = ctlv3_dial_ns(c);

    return grpc_client_login(client, dial_ns ? sys_mono_ns() + dial_ns : 0, e);
}

int ctlv3_connect(struct ctl *c)
{
    struct ctlv3 *v = c->v3;
    struct err e;
    int rc = v->client ? 0 : ctlv3_prepare(c);

    if (v->client || rc != 0)
        return rc;
    v->client = ctlv3_client_of(c, (const char *const *)v->endpoints,
                                v->n_endpoints, &e);
    if (!v->client)
        return ctlv3_fail(CTLV3_ERROR, "%s", e.msg);
    if (login(c, v->client, &e) != GRPC_OK)
        return ctlv3_fail_status(c, CTLV3_BAD_CONNECTION, &e);
    return 0;
}

int ctlv3_login(struct ctl *c)
{
    return *ctl_string(c, "user", "") ? ctlv3_connect(c) : 0;
}

/* --- Calls. ----------------------------------------------------------------------------- */

static enum grpc_kind kind_of(enum rpc_method_id id)
{
    switch (id) {
    case RPC_KV_RANGE:
    case RPC_LEASE_REVOKE: /* a lease has one life */
    case RPC_LEASE_TIME_TO_LIVE:
    case RPC_LEASE_LEASES:
    case RPC_CLUSTER_MEMBER_LIST:
    case RPC_MAINTENANCE_STATUS:
    case RPC_MAINTENANCE_HASH:
    case RPC_MAINTENANCE_HASH_KV:
    case RPC_AUTH_STATUS:
    case RPC_AUTH_USER_GET:
    case RPC_AUTH_USER_LIST:
    case RPC_AUTH_ROLE_GET:
    case RPC_AUTH_ROLE_LIST:
        return GRPC_READS;
    default:
        return GRPC_WRITES;
    }
}

/* The message of bytes, which are copied. */
static int decode(const struct msg_desc *d, struct arena *a, struct str bytes,
                  void *out, struct err *e)
{
    struct str kept;

    if (arena_str(a, bytes, &kept) &&
        msg_decode(d, kept.p, kept.n, a, out) == 0)
        return GRPC_OK;
    err_set(e, GRPC_INTERNAL, "malformed answer of the server: no %s", d->name);
    return GRPC_INTERNAL;
}

/* An error that is none of etcd's own is shown in the words of etcdctl's gRPC
 * library. */
static void name_code(struct err *e)
{
    struct err raw = *e;

    if (e->code == GRPC_UNKNOWN &&
        !str_has_prefix(str_of(e->msg), "etcdserver: "))
        err_set(e, raw.code, "rpc error: code = Unknown desc = %s", raw.msg);
}

int ctlv3_try(struct ctl *c, struct grpc_client *client, enum rpc_method_id id,
              const void *request, void *response, struct err *e)
{
    const struct rpc_method *m = &rpc_methods[id];
    struct buf out = {0}, in = {0};
    int rc = login(c, client, e);

    msg_encode(m->request, request, &out);
    if (rc == GRPC_OK)
        rc = grpc_client_call(client, m->path.p, kind_of(id), buf_str(&out),
                              ctlv3_deadline(c), &in, e);
    if (rc == GRPC_OK)
        rc = decode(m->response, &c->v3->arena, buf_str(&in), response, e);
    if (rc != GRPC_OK)
        name_code(e);
    if (out.data)
        explicit_bzero(out.data, out.len); /* may hold a password */
    buf_release(&out);
    buf_release(&in);
    return rc;
}

/* Whom nobody answered is told where he asked, and what happened there: as a line
 * of the log, for scripts compare what etcdctl says. */
static void advise(struct ctl *c)
{
    struct buf why = {0}, where = {0};

    grpc_client_why(c->v3->client, &why);
    for (size_t i = 0; i < c->v3->n_endpoints; i++)
        buf_printf(&where, "%s%s", i ? ", " : "", c->v3->endpoints[i]);
    if (why.len > 0)
        log_warn("etcdctl",
                 "no etcd answers at %s (%s): name the address of yours with "
                 "--endpoints or ETCDCTL_ENDPOINTS",
                 buf_z(&where), buf_z(&why));
    buf_release(&where);
    buf_release(&why);
}

int ctlv3_fail_status(struct ctl *c, int code, const struct err *e)
{
    bool alien = c->v3->client && grpc_client_alien(c->v3->client);

    if (e->code == GRPC_UNIMPLEMENTED && alien) {
        if (c->v3->may_be_v2)
            return CTLV3_TRY_V2;
        return ctlv3_fail(code, "the server has no v3 API: it does not speak "
                                "HTTP/2; try ETCDCTL_API=2");
    }
    (void)ctlv3_fail(code, "%s", e->msg);
    if (e->code == GRPC_DEADLINE_EXCEEDED && c->v3->client)
        advise(c);
    return code;
}

int ctlv3_fail_named(struct ctl *c, const char *what, const struct err *e)
{
    struct err named = {.code = e->code};

    if (e->code == GRPC_UNIMPLEMENTED)
        named = *e;
    else
        err_set(&named, e->code, "%s (%s)", what, e->msg);
    return ctlv3_fail_status(c, CTLV3_ERROR, &named);
}

int ctlv3_call(struct ctl *c, enum rpc_method_id id, const void *request,
               void *response)
{
    struct err e;
    int rc = ctlv3_connect(c);

    if (rc == 0 && ctlv3_try(c, c->v3->client, id, request, response, &e) != 0)
        rc = ctlv3_fail_status(c, CTLV3_ERROR, &e);
    return rc;
}

void ctlv3_send(struct grpc_stream *s, enum rpc_method_id id,
                const void *request)
{
    struct buf out = {0};

    msg_encode(rpc_methods[id].request, request, &out);
    grpc_stream_send(s, buf_str(&out), GRPC_MORE);
    buf_release(&out);
}

int ctlv3_receive(struct grpc_stream *s, enum rpc_method_id id, struct arena *a,
                  void *response, int64_t wait_until_ns, struct err *e)
{
    struct buf in = {0};
    int rc = grpc_stream_read(s, &in, wait_until_ns, e);

    if (rc == GRPC_OK)
        rc = decode(rpc_methods[id].response, a, buf_str(&in), response, e);
    buf_release(&in);
    return rc;
}

/* --- Ranges. --------------------------------------------------------------------------- */

/* The prefix with its last byte that is not 0xff one higher, and cut there. */
struct str ctlv3_prefix_end(struct ctl *c, struct str prefix)
{
    struct str end;
    uint8_t *p;

    if (!arena_str(&c->v3->arena, prefix, &end))
        return CTLV3_FROM_KEY;
    p = (uint8_t *)(uintptr_t)end.p;
    while (end.n > 0 && p[end.n - 1] == 0xff)
        end.n--;
    if (end.n == 0)
        return CTLV3_FROM_KEY;
    p[end.n - 1]++;
    return end;
}

struct ctlv3_range ctlv3_range_of(struct ctl *c, const char *key,
                                  const char *end, bool prefix, bool from_key)
{
    struct ctlv3_range r = {str_of(key), {NULL, 0}};

    if (end)
        r.end = str_of(end);
    if (prefix && r.key.n > 0)
        r.end = ctlv3_prefix_end(c, r.key);
    else if (prefix || from_key)
        r.end = CTLV3_FROM_KEY;
    if ((prefix || from_key) && r.key.n == 0)
        r.key = STR("\0");
    return r;
}

/* --- Numbers. ------------------------------------------------------------------------------- */

static char *number_error(const char *fn, const char *s, bool range)
{
    struct buf b = {0};

    buf_printf(&b, "strconv.%s: parsing ", fn);
    ctl_quote(&b, str_of(s));
    buf_printf(&b, ": %s", range ? "value out of range" : "invalid syntax");
    return buf_steal(&b);
}

static bool is_digits(const char *s, int base)
{
    const char *digits = "0123456789abcdefABCDEF";
    size_t n = base == 16 ? 22 : 10;

    if (!*s)
        return false;
    for (; *s; s++) {
        if (!memchr(digits, *s, n))
            return false;
    }
    return true;
}

bool ctlv3_parse_int(const char *s, int base, int64_t *out, char **why)
{
    bool ok = is_digits(s[0] == '-' || s[0] == '+' ? s + 1 : s, base);
    long long v = 0;

    errno = 0;
    if (ok)
        v = strtoll(s, NULL, base);
    if (ok && errno == 0) {
        *out = v;
        return true;
    }
    *why = number_error("ParseInt", s, ok);
    return false;
}

bool ctlv3_parse_uint(const char *s, int base, uint64_t *out, char **why)
{
    bool ok = is_digits(s, base);
    unsigned long long v = 0;

    errno = 0;
    if (ok)
        v = strtoull(s, NULL, base);
    if (ok && errno == 0) {
        *out = v;
        return true;
    }
    *why = number_error("ParseUint", s, ok);
    return false;
}

bool ctlv3_lease_id(const char *s, const char *what, int64_t *out)
{
    char *why;

    if (ctlv3_parse_int(s, 16, out, &why))
        return true;
    (void)ctlv3_fail(CTLV3_BAD_ARGS, "bad %s (%s), expecting ID in Hex", what,
                     why);
    free(why);
    return false;
}

/* --- Signals. ---------------------------------------------------------------------------- */

static volatile sig_atomic_t caught;

static void on_signal(int sig)
{
    caught = sig;
}

void ctlv3_catch_signals(void)
{
    struct sigaction sa = {.sa_handler = on_signal};

    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
}

bool ctlv3_caught(void)
{
    return caught != 0;
}
