/*
 * admin.c - the three doors (client, peer and metrics listeners) and the pages
 * that are about the server itself.
 *
 * A request on a client URL passes, in this order: host whitelist, CORS,
 * OPTIONS (always 200), the redirect of unclean paths that Go's mux makes,
 * the pages of this file, the v2 API, 404. The other doors know neither
 * whitelist nor CORS. None of these pages asks for credentials, as in etcd;
 * only /config/local/log changes anything, and that is the log level.
 */
#include "admin.h"
#include "gateway.h"
#include "json.h"
#include "log.h"
#include "metrics.h"
#include "rpccount.h"
#include "secure.h"
#include "sys.h"
#include "url.h"
#include "v2.h"
#include "v3metrics.h"
#include "v3peer.h"
#include "v3server.h"
#include "websocket.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#define TEXT_PLAIN "text/plain; charset=utf-8"
#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"
#define HEALTH_MS 1000
#define DAY_S 86400.0
#define QUOTA_DEFAULT (2048ll * 1024 * 1024) /* bytes; as in etcd */
#define LOG_BODY_MAX (64 * 1024)
#define PROMOTE_PREFIX "/members/promote/"

enum { ON_CLIENT = 1, ON_PEER = 2, ON_METRICS = 4 };

static void serve_version(struct server *s, struct http_exchange *x);
static void serve_health(struct server *s, struct http_exchange *x);
static void serve_checks(struct server *s, struct http_exchange *x);
static void serve_metrics(struct server *s, struct http_exchange *x);
static void serve_vars(struct server *s, struct http_exchange *x);
static void serve_log_level(struct server *s, struct http_exchange *x);
static void serve_peer_members(struct server *s, struct http_exchange *x);
static void serve_promote(struct server *s, struct http_exchange *x);

/* As in Go's mux, a path with a final slash stands for all below it. */
static const struct {
    const char *path;
    int doors;
    void (*serve)(struct server *, struct http_exchange *);
} routes[] = {
    {"/version", ON_CLIENT | ON_PEER, serve_version},
    {"/health", ON_CLIENT | ON_METRICS, serve_health},
    {"/livez", ON_CLIENT | ON_METRICS, serve_checks},
    {"/livez/", ON_CLIENT | ON_METRICS, serve_checks},
    {"/readyz", ON_CLIENT | ON_METRICS, serve_checks},
    {"/readyz/", ON_CLIENT | ON_METRICS, serve_checks},
    {"/metrics", ON_CLIENT | ON_METRICS, serve_metrics},
    {"/debug/vars", ON_CLIENT, serve_vars},
    {"/config/local/log", ON_CLIENT, serve_log_level},
    {"/members", ON_PEER, serve_peer_members},
    {PROMOTE_PREFIX, ON_PEER, serve_promote},
};

static bool redirect_unclean(struct http_exchange *x);
static bool host_is_allowed(const struct config *c, struct http_exchange *x);
static void add_cors_headers(const struct config *c, struct http_exchange *x);
static bool may_upgrade(const struct config *c, struct http_exchange *x);

static bool serve_page(struct server *s, struct http_exchange *x, int door)
{
    struct str path = http_path(x);

    for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
        const char *p = routes[i].path;
        bool below = p[strlen(p) - 1] == '/';

        if ((routes[i].doors & door) &&
            (below ? str_has_prefix(path, p) : str_eqz(path, p))) {
            routes[i].serve(s, x);
            return true;
        }
    }
    return false;
}

static void not_found(struct http_exchange *x)
{
    http_error(x, 404, "404 page not found");
}

void admin_client_handler(struct http_exchange *x, void *arg)
{
    struct server *s = arg;
    const struct config *c = server_config(s);

    if (!host_is_allowed(c, x))
        return;
    add_cors_headers(c, x);
    if (!may_upgrade(c, x)) {
        http_error(x, 403, http_status_text(403));
        return;
    }
    if (http_method_is(x, "OPTIONS")) {
        http_send(x, NULL, 0);
        return;
    }
    if (redirect_unclean(x))
        return;
    /* Keys first: they are what nearly all requests are for. */
    if ((c->enable_v2 && v2_handle(s, x)) || serve_page(s, x, ON_CLIENT) ||
        (c->enable_grpc_gateway && gateway_handle(s, x)))
        return;
    not_found(x);
}

void admin_peer_handler(struct http_exchange *x, void *arg)
{
    struct server *s = arg;

    if (redirect_unclean(x) || server_handle_peer(s, x) ||
        v3_peer_handle(s, x) || serve_page(s, x, ON_PEER))
        return;
    not_found(x);
}

void admin_metrics_handler(struct http_exchange *x, void *arg)
{
    if (redirect_unclean(x) || serve_page(arg, x, ON_METRICS))
        return;
    not_found(x);
}

/* --- The doors. --------------------------------------------------------- */

/* Would Go's path.Clean change it, but for a slash at its end? */
static bool is_unclean(struct str path)
{
    struct str seg;
    bool more;

    if (path.n == 0 || path.p[0] != '/')
        return true;
    path.p++, path.n--;
    do {
        more = str_cut(&path, '/', &seg);
        if ((seg.n == 0 && more) || str_eqz(seg, ".") || str_eqz(seg, ".."))
            return true;
    } while (more);
    return false;
}

static void add_html(struct buf *b, struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        switch (s.p[i]) {
        case '&':
            buf_adds(b, "&amp;");
            break;
        case '<':
            buf_adds(b, "&lt;");
            break;
        case '>':
            buf_adds(b, "&gt;");
            break;
        case '"':
            buf_adds(b, "&#34;");
            break;
        case '\'':
            buf_adds(b, "&#39;");
            break;
        default:
            buf_addc(b, s.p[i]);
        }
    }
}

/* What may not stand in a header or a URL is percent-encoded. */
static void add_ascii(struct buf *b, struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c <= ' ' || c >= 127)
            buf_printf(b, "%%%02x", c);
        else
            buf_addc(b, (char)c);
    }
}

/* The cleaned path, encoded, and the query as it was. */
static void add_location(struct buf *b, const struct http_exchange *x)
{
    struct str path = http_path(x), query = http_query(x);
    struct buf rooted = {0}, clean = {0};

    buf_addc(&rooted, '/');
    buf_addstr(&rooted, path);
    url_clean_path(&clean, buf_str(&rooted));
    if (path.n && path.p[path.n - 1] == '/' && clean.len > 1)
        buf_addc(&clean, '/');
    url_encode_path(b, buf_str(&clean));
    if (query.n) {
        buf_addc(b, '?');
        add_ascii(b, query);
    }
    buf_release(&rooted);
    buf_release(&clean);
}

/* What Go's mux does before it looks for a handler. */
static bool redirect_unclean(struct http_exchange *x)
{
    struct buf location = {0}, note = {0};

    if (!is_unclean(http_path(x)) || http_method_is(x, "CONNECT"))
        return false;
    if (str_eqz(http_raw_path(x), "*")) {
        http_close_after(x);
        http_set_status(x, 400);
        http_send(x, NULL, 0);
        return true;
    }
    add_location(&location, x);
    http_set_status(x, 301);
    http_set_header(x, "Location", "%s", buf_z(&location));
    if (http_method_is(x, "GET") || http_method_is(x, "HEAD"))
        http_set_header(x, "Content-Type", "text/html; charset=utf-8");
    if (http_method_is(x, "GET")) {
        buf_adds(&note, "<a href=\"");
        add_html(&note, buf_str(&location));
        buf_adds(&note, "\">Moved Permanently</a>.\n\n");
    }
    http_send(x, note.data, note.len);
    buf_release(&location);
    buf_release(&note);
    return true;
}

/* Is the item in the comma list, or "*", which sets *any? */
static bool list_allows(const char *list, struct str item, bool *any)
{
    struct str rest = str_of(list), one;
    bool found = false;

    *any = false;
    while (rest.n) {
        str_cut(&rest, ',', &one);
        one = str_trim(one);
        *any |= str_eqz(one, "*");
        found |= str_eq(one, item);
    }
    return found || *any;
}

/* The host without its port: "a:1", "[::1]:1". What is neither stays. */
static struct str host_name(struct str host)
{
    const char *colon = host.n ? memchr(host.p, ':', host.n) : NULL;
    const char *bracket = host.n ? memchr(host.p, ']', host.n) : NULL;

    if (host.n && host.p[0] == '[' && bracket) {
        size_t n = (size_t)(bracket - host.p);

        if (n + 1 < host.n && bracket[1] == ':')
            return (struct str){host.p + 1, n - 1};
        return host;
    }
    if (!colon || memchr(colon + 1, ':', host.n - 1 - (size_t)(colon - host.p)))
        return host;
    return (struct str){host.p, (size_t)(colon - host.p)};
}

/* --host-whitelist, against DNS rebinding (CVE-2018-5702). */
static bool host_is_allowed(const struct config *c, struct http_exchange *x)
{
    struct str host = host_name(http_host(x));
    char shown[V2_SHOWN_MAX];
    struct buf text = {0};
    bool any;

    if (net_is_tls(http_stream(x)) ||
        list_allows(c->host_whitelist, host, &any))
        return true;
    log_warn("embed",
             "rejecting HTTP request from \"%s\" to prevent DNS rebinding "
             "attacks",
             v2_shown(shown, host));
    buf_adds(&text, "\netcd received your request, but the Host header was "
                    "unrecognized.\n\n"
                    "To fix this, choose one of the following options:\n"
                    "- Enable TLS, then any HTTPS request will be allowed.\n"
                    "- Add the hostname you want to use to the whitelist in "
                    "settings.\n"
                    "  - e.g. etcd --host-whitelist ");
    json_add_string(&text, host);
    buf_adds(&text, "\n\nThis requirement has been added to help prevent \"DNS "
                    "Rebinding\" attacks (CVE-2018-5702).\n");
    http_error(x, 421, buf_z(&text));
    buf_release(&text);
    return false;
}

static void add_cors_headers(const struct config *c, struct http_exchange *x)
{
    struct str origin = http_header(http_request(x), "Origin");
    bool any;

    if (!origin.p)
        origin = (struct str){"", 0};
    if (!list_allows(c->cors, origin, &any))
        return;
    if (any)
        origin = STR("*");
    else if (origin.n == 0)
        return;
    http_set_header_text(x, "Access-Control-Allow-Headers",
                         STR("accept, content-type, authorization"));
    http_set_header_text(x, "Access-Control-Allow-Methods",
                         STR("POST, GET, OPTIONS, PUT, DELETE"));
    http_set_header_text(x, "Access-Control-Allow-Origin", origin);
}

/*
 * To all else a browser lets a script of another site send a request and keeps
 * the answer from it, unless --cors allows it. A WebSocket it opens, and leaves
 * it to the server to look at the origin (RFC 6455, 10.2).
 */
static bool may_upgrade(const struct config *c, struct http_exchange *x)
{
    struct str origin = http_header(http_request(x), "Origin"), scheme;
    bool any;

    if (!origin.p || !websocket_check(http_request(x)) ||
        list_allows(c->cors, origin, &any))
        return true;
    str_cut(&origin, '/', &scheme); /* "https:" */
    str_cut(&origin, '/', &scheme); /* what stands between the slashes */
    return origin.n > 0 && str_eq(origin, http_host(x)); /* the same site */
}

/* --- /version, /health. ------------------------------------------------- */

static void serve_version(struct server *s, struct http_exchange *x)
{
    char version[32], body[160];
    int n;

    if (!v2_allow(x, "GET"))
        return;
    cluster_version(server_cluster(s), version);
    n = snprintf(body, sizeof(body),
                 "{\"etcdserver\":\"%s\",\"etcdcluster\":\"%s\"}", ETCD_VERSION,
                 version[0] ? version : "not_decided");
    http_reply(x, 200, "application/json", body, (size_t)n);
}

/* Is the field in the query, and with this value (NULL: with any)? */
static bool query_has(const struct http_exchange *x, const char *name,
                      const char *value)
{
    struct form f = {0};
    bool found = false;

    form_parse(&f, 1, http_query(x), NULL); /* bad fields count as absent */
    for (size_t i = 0; i < f.n && !found; i++)
        found = str_eqz(f.fields[i].name, name) &&
                (!value || str_eqz(f.fields[i].value, value));
    form_release(&f);
    return found;
}

/*
 * The body of a failure stays exactly as clients of 3.2 to 3.4 know it; the
 * reason goes into a header and the log. exclude= names alarms, of which
 * there are none without the v3 API.
 */
/* An alarm that the request does not exclude. */
static const char *raised_alarm(struct server *s, const struct http_exchange *x)
{
    static const struct {
        const char *name, *why;
    } kinds[] = {
        [V3_ALARM_NOSPACE] = {"NOSPACE", "ALARM NOSPACE"},
        [V3_ALARM_CORRUPT] = {"CORRUPT", "ALARM CORRUPT"},
    };
    struct v3_alarm *alarms;
    struct v3_header h;
    size_t n = v3_alarms(s, 0, &alarms, &h);
    const char *why = NULL;

    for (size_t i = 0; i < n && !why; i++) {
        int kind = alarms[i].alarm;

        if (kind >= V3_ALARM_NOSPACE && kind <= V3_ALARM_CORRUPT &&
            !query_has(x, "exclude", kinds[kind].name))
            why = kinds[kind].why;
    }
    free(alarms);
    return why;
}

static void serve_health(struct server *s, struct http_exchange *x)
{
    const char *healthy = "{\"health\":\"true\"}", *why = NULL;

    if (!v2_allow(x, "GET"))
        return;
    why = raised_alarm(s, x);
    if (!why && !query_has(x, "serializable", "true"))
        why = server_health(s, HEALTH_MS);
    if (!why) {
        metric_add(M_HEALTH_SUCCESS, 1);
        http_reply(x, 200, TEXT_PLAIN, healthy, strlen(healthy));
        return;
    }
    metric_add(M_HEALTH_FAILURES, 1);
    log_warn("etcdserver/api/etcdhttp", "/health error; %s (status code 503)",
             why);
    http_set_header(x, "X-Etcd-Health-Reason", "%s", why);
    http_error(x, 503, "{\"health\":\"false\"}");
}

/* --- /livez, /readyz. --------------------------------------------------- */

static const char *check_corruption(struct server *s)
{
    struct v3_alarm *alarms;
    struct v3_header h;
    size_t n = v3_alarms(s, V3_ALARM_CORRUPT, &alarms, &h);

    free(alarms);
    return n ? "alarm activated: CORRUPT" : NULL;
}

/* That this returns proves that the store's lock can be had. */
static const char *check_local_read(struct server *s)
{
    server_v2_counters(s);
    return NULL;
}

static const char *check_quorum_read(struct server *s)
{
    int rc = server_read_index(s, 5000 + 2 * server_config(s)->election_ms);

    return rc < 0 ? server_error_text(rc) : NULL;
}

static const char *check_voter(struct server *s)
{
    const char *why = NULL;
    struct member m;

    if (!cluster_member(server_cluster(s), server_id(s), &m))
        return "not a member of the cluster";
    if (m.is_learner)
        why = "not supported for learner";
    member_release(&m);
    return why;
}

/* One row per kind and check: `last` is 1 for well; all are relaxed atomics. */
static struct {
    const char *kind, *name;
    const char *(*run)(struct server *); /* NULL, or what is wrong */
    uint32_t last, successes, errors;
} checks[] = {
    {"livez", "serializable_read", check_local_read, 0, 0, 0},
    {"readyz", "data_corruption", check_corruption, 0, 0, 0},
    {"readyz", "serializable_read", check_local_read, 0, 0, 0},
    {"readyz", "linearizable_read", check_quorum_read, 0, 0, 0},
    {"readyz", "non_learner", check_voter, 0, 0, 0},
};

/* A line of the report; false if the check fails. */
static bool run_check(struct server *s, size_t i, struct buf *report)
{
    const char *why = checks[i].run(s);

    __atomic_store_n(&checks[i].last, why == NULL, __ATOMIC_RELAXED);
    __atomic_fetch_add(why ? &checks[i].errors : &checks[i].successes, 1,
                       __ATOMIC_RELAXED);
    if (why)
        buf_printf(report, "[-]%s failed: %s\n", checks[i].name, why);
    else
        buf_printf(report, "[+]%s ok\n", checks[i].name);
    return why == NULL;
}

/* Run all of a kind, or the one that is named; *n: how many there were. */
static bool run_checks(struct server *s, const struct http_exchange *x,
                       struct str kind, struct str name, struct buf *report,
                       size_t *n)
{
    bool well = true;

    *n = 0;
    for (size_t i = 0; i < ARRAY_LEN(checks); i++) {
        if (!str_eqz(kind, checks[i].kind) ||
            (name.n && !str_eqz(name, checks[i].name)))
            continue;
        ++*n;
        if (name.n == 0 && query_has(x, "exclude", checks[i].name))
            buf_printf(report, "[+]%s excluded: ok\n", checks[i].name);
        else if (!run_check(s, i, report))
            well = false;
    }
    return well;
}

/* /livez, /livez/CHECK, /readyz, /readyz/CHECK */
static void serve_checks(struct server *s, struct http_exchange *x)
{
    struct str name = http_path(x), kind;
    struct buf report = {0};
    bool well;
    size_t n;

    name.p++, name.n--; /* the first slash */
    if (str_cut(&name, '/', &kind) && name.n == 0) {
        not_found(x);
        return;
    }
    if (!v2_allow(x, "GET"))
        return;
    well = run_checks(s, x, kind, name, &report, &n);
    metric_add(well ? M_HEALTH_SUCCESS : M_HEALTH_FAILURES, n > 0);
    if (n == 0) {
        not_found(x);
    } else if (!well) {
        char shown[V2_SHOWN_MAX];

        log_warn("etcdserver/api/etcdhttp", "/%.*s health check error: %s",
                 STR_FMT(kind), v2_shown(shown, buf_str(&report)));
        http_error(x, 503, buf_z(&report));
    } else {
        if (!query_has(x, "verbose", NULL))
            buf_clear(&report);
        buf_adds(&report, "ok\n");
        http_set_header(x, "X-Content-Type-Options", "nosniff");
        http_reply(x, 200, TEXT_PLAIN, report.data, report.len);
    }
    buf_release(&report);
}

static void add_check_metrics(struct metrics_page *p)
{
    for (size_t i = 0; i < ARRAY_LEN(checks); i++) {
        uint32_t n[2] = {
            __atomic_load_n(&checks[i].errors, __ATOMIC_RELAXED),
            __atomic_load_n(&checks[i].successes, __ATOMIC_RELAXED)};
        char labels[128];

        if (n[0] + n[1] == 0)
            continue;
        snprintf(labels, sizeof(labels), "name=\"%s\",type=\"%s\"",
                 checks[i].name, checks[i].kind);
        metrics_page_add(p, "etcd_server_healthcheck", "gauge",
                         "The result of each kind of healthcheck.", labels,
                         __atomic_load_n(&checks[i].last, __ATOMIC_RELAXED));
        for (size_t ok = 0; ok < 2; ok++) {
            snprintf(labels, sizeof(labels),
                     "name=\"%s\",status=\"%s\",type=\"%s\"", checks[i].name,
                     ok ? "success" : "error", checks[i].kind);
            if (n[ok])
                metrics_page_add(p, "etcd_server_healthchecks_total", "counter",
                                 "The total number of each kind of "
                                 "healthcheck.",
                                 labels, n[ok]);
        }
    }
}

/* --- /metrics. ---------------------------------------------------------- */

static void add_gauge(struct metrics_page *p, const char *name,
                      const char *help, double value)
{
    metrics_page_add(p, name, "gauge", help, NULL, value);
}

/* etcd has no such metric. */
static void add_certificate(struct metrics_page *p, struct secure *secure,
                            const char *labels)
{
    int64_t not_after, left_s;

    if (!secure_not_after(secure, &not_after))
        return;
    left_s = not_after - sys_wall_ns() / NS_PER_S;
    metrics_page_add(p, "etcd_server_certificate_expiry_days", "gauge",
                     "Days until the server's certificate for clients or peers "
                     "ends, negative after that.",
                     labels, (double)left_s / DAY_S);
}

static void add_raft_metrics(struct server *s, struct metrics_page *p)
{
    struct server_status st;

    server_status(s, &st);
    add_gauge(p, "etcd_server_has_leader",
              "Whether or not a leader exists. 1 is existence, 0 is not.",
              st.raft.leader != 0);
    add_gauge(p, "etcd_server_is_leader",
              "Whether or not this member is a leader. 1 if is, 0 otherwise.",
              st.raft.role == RAFT_LEADER);
    add_gauge(p, "etcd_server_proposals_committed_total",
              "The total number of consensus proposals committed.",
              (double)st.raft.commit);
    add_gauge(p, "etcd_server_proposals_applied_total",
              "The total number of consensus proposals applied.",
              (double)st.raft.applied);
    add_gauge(p, "etcd_server_proposals_pending",
              "The current number of pending proposals to commit.",
              (double)st.proposals_pending);
    metrics_page_add(p, "etcd_network_peer_bad_messages_total", "counter",
                     "The total number of messages from peers that were "
                     "dropped as impossible.",
                     NULL, (double)st.raft.bad_messages);
}

static void add_identity_metrics(struct server *s, struct metrics_page *p)
{
    char version[32], label[80];
    int64_t quota = server_config(s)->quota_backend_bytes;
    bool learner = false;
    struct str rest, major, minor;
    struct member m;

    if (cluster_member(server_cluster(s), server_id(s), &m)) {
        learner = m.is_learner;
        member_release(&m);
    }
    add_gauge(p, "etcd_server_is_learner",
              "Whether or not this member is a learner. 1 if is, 0 otherwise.",
              learner);
    add_gauge(p, "etcd_server_quota_backend_bytes",
              "Current backend storage quota size in bytes.",
              quota ? (double)quota : (double)QUOTA_DEFAULT);
    add_certificate(p, server_config(s)->secure_client, "for=\"client\"");
    add_certificate(p, server_config(s)->secure_peer, "for=\"peer\"");
    snprintf(label, sizeof(label), "server_id=\"%" PRIx64 "\"", server_id(s));
    metrics_page_add(p, "etcd_server_id", "gauge",
                     "Server or member ID in hexadecimal format. 1 for "
                     "'server_id' label with current ID.",
                     label, 1);
    metrics_page_add(p, "etcd_server_version", "gauge",
                     "Which version is running. 1 for 'server_version' label "
                     "with current version.",
                     "server_version=\"" ETCD_VERSION "\"", 1);

    cluster_version(server_cluster(s), version);
    if (!version[0])
        return;
    rest = str_of(version);
    str_cut(&rest, '.', &major);
    str_cut(&rest, '.', &minor);
    snprintf(label, sizeof(label), "cluster_version=\"%.*s.%.*s\"",
             STR_FMT(major), STR_FMT(minor));
    metrics_page_add(p, "etcd_cluster_version", "gauge",
                     "Which version is running. 1 for 'cluster_version' label "
                     "with current cluster version",
                     label, 1);
}

static void add_store_metrics(struct server *s, struct metrics_page *p)
{
    const char *reads = "etcd_debugging_store_reads_total";
    const char *writes = "etcd_debugging_store_writes_total";
    struct store_counters c = server_v2_counters(s);
    const struct {
        const char *name, *label;
        const uint64_t *n; /* success, fail */
    } rows[] = {
        {reads, "action=\"get\"", c.get},
        {writes, "action=\"set\"", c.set},
        {writes, "action=\"create\"", c.create},
        {writes, "action=\"update\"", c.update},
        {writes, "action=\"delete\"", c.delete_},
        {writes, "action=\"compareAndSwap\"", c.cas},
        {writes, "action=\"compareAndDelete\"", c.cad},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (rows[i].n[0] + rows[i].n[1] == 0)
            continue;
        metrics_page_add(p, rows[i].name, "counter",
                         rows[i].name == reads
                             ? "Total number of reads action by "
                               "(get/getRecursive), local to this member."
                             : "Total number of writes (e.g. "
                               "set/compareAndDelete) seen by this member.",
                         rows[i].label, (double)(rows[i].n[0] + rows[i].n[1]));
    }
    metrics_page_add(p, "etcd_debugging_store_expires_total", "counter",
                     "Total number of expired keys.", NULL, (double)c.expired);
    metrics_page_add(p, "etcd_debugging_store_watch_requests_total", "counter",
                     "Total number of incoming watch requests (new or "
                     "reestablished).",
                     NULL, (double)c.watch_requests);
    add_gauge(p, "etcd_debugging_store_watchers",
              "Count of currently active watchers.", (double)c.watchers);
}

static void serve_metrics(struct server *s, struct http_exchange *x)
{
    struct metrics_page *p = metrics_page_new();
    struct buf b = {0};

    add_raft_metrics(s, p);
    add_identity_metrics(s, p);
    add_store_metrics(s, p);
    v3_metrics_add(s, p);
    add_check_metrics(p);
    rpc_count_page(p, server_config(s)->metrics_extensive);
    transport_metrics(server_transport(s), p);
    metrics_page_add_process(p);
    metrics_page_write(p, &b);
    metrics_page_free(p);
    http_reply(x, 200, METRICS_TYPE, b.data, b.len);
    buf_release(&b);
}

/* --- /debug/vars. ------------------------------------------------------- */

static const char *role_name(enum raft_role r)
{
    static const char *const names[] = {
        [RAFT_FOLLOWER] = "StateFollower",
        [RAFT_PRE_CANDIDATE] = "StatePreCandidate",
        [RAFT_CANDIDATE] = "StateCandidate",
        [RAFT_LEADER] = "StateLeader",
    };

    return names[r];
}

static const char *progress_name(enum raft_progress_state st)
{
    static const char *const names[] = {
        [RAFT_PROBE] = "StateProbe",
        [RAFT_REPLICATE] = "StateReplicate",
        [RAFT_SNAPSHOT] = "StateSnapshot",
    };

    return names[st];
}

static void add_progress(struct server *s, struct buf *b)
{
    size_t n = server_progress(s, NULL, 0), max = n;
    struct raft_progress *all = xcalloc(max, sizeof(*all));

    n = min_u64(server_progress(s, all, max), max);
    for (size_t i = 0; i < n; i++)
        buf_printf(b,
                   "%s\"%" PRIx64 "\":{\"match\":%" PRIu64 ",\"next\":%" PRIu64
                   ",\"state\":\"%s\"}",
                   i ? "," : "", all[i].id, all[i].match_index,
                   all[i].next_index, progress_name(all[i].state));
    free(all);
}

static void add_raft_status(struct server *s, struct buf *b)
{
    struct server_status st;

    server_status(s, &st);
    buf_printf(b,
               "{\"id\":\"%" PRIx64 "\",\"term\":%" PRIu64
               ",\"vote\":\"%" PRIx64 "\",\"commit\":%" PRIu64
               ",\"lead\":\"%" PRIx64 "\",\"raftState\":\"%s\""
               ",\"applied\":%" PRIu64 ",\"progress\":{",
               st.raft.id, st.raft.term, st.raft.vote, st.raft.commit,
               st.raft.leader, role_name(st.raft.role), st.raft.applied);
    add_progress(s, b);
    buf_printf(b, "},\"leadtransferee\":\"%" PRIx64 "\"}",
               st.raft.lead_transferee);
}

static uint64_t resident_bytes(void)
{
    struct buf b = {0};
    uint64_t pages = 0;

    if (sys_read_file("/proc/self/statm", 4096, &b, NULL) == 0) {
        const char *second = strchr(buf_z(&b), ' ');

        if (second)
            pages = strtoull(second, NULL, 10);
    }
    buf_release(&b);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Go's expvar page; of Go's memstats only what there is to say here. */
static void serve_vars(struct server *s, struct http_exchange *x)
{
    const struct config *c = server_config(s);
    struct rlimit r = {0};
    struct buf b = {0};

    if (!v2_allow(x, "GET"))
        return;
    getrlimit(RLIMIT_NOFILE, &r);
    buf_adds(&b, "{\n\"cmdline\": [");
    for (int i = 0; i < c->argc; i++) {
        if (i)
            buf_addc(&b, ',');
        json_add_string(&b, str_of(c->argv[i]));
    }
    buf_printf(&b,
               "],\n\"file_descriptor_limit\": %" PRIu64
               ",\n\"memstats\": {\"Sys\":%" PRIu64 "},\n\"raft.status\": ",
               (uint64_t)r.rlim_cur, resident_bytes());
    add_raft_status(s, &b);
    buf_adds(&b, "\n}\n");
    http_reply(x, 200, "application/json; charset=utf-8", b.data, b.len);
    buf_release(&b);
}

/* --- /config/local/log. ------------------------------------------------- */

/* The body's "Level" (owned by *j); false if it is not such JSON. */
static bool read_level(struct http_exchange *x, struct json **j,
                       struct str *out)
{
    const struct json *level;
    struct buf body = {0};
    const char *why;
    bool ok;

    ok = http_read_body(x, &body, LOG_BODY_MAX, &why) == 0 &&
         json_parse(body.data, json_first(body.data, body.len), j, NULL) == 0 &&
         ((*j)->type == JSON_OBJECT || (*j)->type == JSON_NULL);
    buf_release(&body);
    if (!ok)
        return false;
    level = json_get(*j, "Level");
    *out = json_text(level, "");
    return !level || level->type == JSON_STRING || level->type == JSON_NULL;
}

static void serve_log_level(struct server *s, struct http_exchange *x)
{
    enum log_level level;
    struct json *j = NULL;
    struct str name;

    (void)s;
    if (!v2_allow(x, "PUT"))
        return;
    if (!read_level(x, &j, &name)) {
        v2_message(x, 400, "Invalid json body");
    } else if (!log_parse_capnslog_level(name, &level)) {
        v2_message_named(x, 400, "Invalid log level ", name);
    } else {
        log_notice("etcdserver/api/etcdhttp", "globalLogLevel set to \"%.*s\"",
                   STR_FMT(name)); /* a known name: harmless */
        log_set_level(level);
        http_set_status(x, 204);
        http_send(x, NULL, 0);
    }
    json_free(j);
}

/* --- The peers' pages. -------------------------------------------------- */

static void reply_members(struct server *s, struct http_exchange *x)
{
    struct member *members;
    size_t n = cluster_members(server_cluster(s), &members);
    struct buf b = {0};

    buf_addc(&b, '[');
    for (size_t i = 0; i < n; i++) {
        if (i)
            buf_addc(&b, ',');
        member_json(&b, &members[i], -1);
    }
    buf_adds(&b, "]\n");
    http_reply(x, 200, "application/json", b.data, b.len);
    buf_release(&b);
    members_free(members, n);
}

static void serve_peer_members(struct server *s, struct http_exchange *x)
{
    if (!v2_allow(x, "GET"))
        return;
    v2_set_cluster_id(s, x);
    reply_members(s, x);
}

/* POST /members/promote/ID, ID in decimal: a follower asks its leader. */
static void serve_promote(struct server *s, struct http_exchange *x)
{
    struct str path = http_path(x), text;
    struct buf b = {0};
    uint64_t id;
    int rc;

    if (!v2_allow(x, "POST"))
        return;
    v2_set_cluster_id(s, x);
    text = (struct str){path.p + strlen(PROMOTE_PREFIX),
                        path.n - strlen(PROMOTE_PREFIX)};
    if (!str_to_u64(text, &id)) {
        buf_printf(&b, "member %.*s not found in cluster", STR_FMT(text));
        http_error(x, 404, buf_z(&b));
        buf_release(&b);
        return;
    }
    rc = server_promote_member(s, id);
    if (rc == CLUSTER_EID_NOT_FOUND)
        http_error(x, 404, server_error_text(rc));
    else if (rc == CLUSTER_ENOT_LEARNER || rc == SERVER_ELEARNER_NOT_READY)
        http_error(x, 412, server_error_text(rc));
    else if (rc < 0)
        v2_internal_error(x, server_error_text(rc));
    else
        reply_members(s, x);
}
