/*
 * ctlcommon.c - etcdctl's way to a cluster: endpoints, failover, and errors
 * in the words of etcd's own client.
 *
 * Endpoints come from options, the environment or DNS. Before a command, the
 * first that answers names all members (GET /v2/members), and their client
 * URLs become the endpoints. A request then goes to the endpoint that
 * answered last, and from there round the list until one answers with a
 * status below 500.
 *
 * INVARIANTS
 *   1. A one-shot request (create, delete) is sent at most once: after a
 *      broken connection nobody can tell whether it was carried out. It goes
 *      on to another endpoint only if it could not be sent at all.
 *   2. --timeout bounds the wait for each answer's head, --total-timeout the
 *      whole operation; a watch has only the first.
 *   3. The connection is kept for the next request to the same endpoint.
 */
#include "ctl.h"

#include "client.h"
#include "crypto.h"
#include "dns.h"
#include "net.h"
#include "secure.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>

extern char **environ;

#define DEFAULT_ENDPOINTS "http://127.0.0.1:2379,http://127.0.0.1:4001"
#define TIMEOUT_NS (2 * NS_PER_S)
#define TOTAL_TIMEOUT_NS (5 * NS_PER_S)
#define DIAL_MS 30000
#define ENDPOINTS_MAX 1000
#define BODY_MAX (1024u * 1024 * 1024)
#define HEALTH_BODY_MAX (1024 * 1024)

struct endpoint {
    char *text;   /* as it is printed */
    char *origin; /* "http://host:port" of it */
    struct url url;
};

struct endpoints {
    struct endpoint *at;
    size_t n;
};

struct ctl_client {
    struct endpoints eps;
    size_t pinned;                /* index of the endpoint that answered last */
    struct buf headers;           /* whole lines, for every request */
    int64_t timeout_ns, total_ns; /* of an answer's head; of an operation */
    int64_t deadline_ns;
    bool debug;

    struct secure *secure;
    struct client *conn; /* kept alive, NULL if none; to eps.at[conn_to] */
    size_t conn_to;
};

/* How one endpoint did. */
enum outcome {
    ANSWERED,
    NOT_SENT,   /* no connection: another endpoint may safely be asked */
    DISTRUSTED, /* the same, but somebody was there: TLS failed */
    UNREACHED,  /* the connection broke: nobody there any more, most likely */
    FAILED,
    OUT_OF_TIME, /* the operation's time, not this endpoint's, is up */
};

static int find_endpoints(struct ctl *c, struct endpoints *out);
static void read_options(struct ctl *c);
static int sync_members(struct ctl *c);
static enum outcome ask(struct ctl_client *k, size_t i,
                        const struct ctl_request *r, struct ctl_answer *a,
                        struct err *e);
static void endpoints_release(struct endpoints *l);
static void endpoints_print(struct buf *b, const struct endpoints *l,
                            const char *sep);

/* --- Connecting. -------------------------------------------------------- */

int ctl_connect(struct ctl *c, enum ctl_sync sync)
{
    struct endpoints eps = {0};
    struct secure *secure = NULL;
    int rc = find_endpoints(c, &eps);
    struct err e;

    if (rc == 0 && ctl_secure(c, "", false, &secure, &e) < 0)
        rc = ctl_say("%s", e.msg);
    if (rc != 0) {
        endpoints_release(&eps);
        return rc;
    }
    c->client = xcalloc(1, sizeof(*c->client));
    c->client->eps = eps;
    c->client->secure = secure;
    read_options(c);
    if (sync == CTL_SYNC && !ctl_bool(c, "no-sync"))
        rc = sync_members(c);
    if (rc == 0)
        ctl_debug_endpoints(c);
    ctl_start_clock(c);
    return rc;
}

void ctl_disconnect(struct ctl *c)
{
    struct ctl_client *k = c->client;

    if (!k)
        return;
    client_close(k->conn);
    secure_free(k->secure);
    endpoints_release(&k->eps);
    if (k->headers.data)
        explicit_bzero(k->headers.data, k->headers.len);
    buf_release(&k->headers);
    free(k);
    c->client = NULL;
}

void ctl_start_clock(struct ctl *c)
{
    c->client->deadline_ns = sys_mono_ns() + c->client->total_ns;
}

void ctl_debug_endpoints(const struct ctl *c)
{
    struct buf b = {0};

    if (!c->client->debug)
        return;
    endpoints_print(&b, &c->client->eps, ", ");
    fprintf(stderr, "Cluster-Endpoints: %s\n", buf_z(&b));
    buf_release(&b);
}

static void add_basic_auth(struct buf *headers, const char *user)
{
    const char *colon = strchr(user, ':');
    struct buf b = {0};

    buf_adds(&b, user);
    if (!colon) {
        struct buf password = {0};

        ctl_ask_secret("Password: ", &password);
        buf_addc(&b, ':');
        buf_addstr(&b, buf_str(&password));
        buf_release(&password);
    }
    buf_adds(headers, "Authorization: Basic ");
    base64_encode(headers, b.data, b.len);
    buf_adds(headers, "\r\n");
    if (b.data)
        explicit_bzero(b.data, b.len);
    buf_release(&b);
}

static void read_options(struct ctl *c)
{
    const char *user = ctl_string(c, "username", "");
    struct ctl_client *k = c->client;

    k->debug = ctl_bool(c, "debug");
    k->timeout_ns = ctl_duration_ns(c, "timeout", TIMEOUT_NS);
    k->total_ns = ctl_duration_ns(c, "total-timeout", TOTAL_TIMEOUT_NS);
    if (user[0] == '\0')
        user = getenv("ETCDCTL_USERNAME");
    if (user && user[0])
        add_basic_auth(&k->headers, user);
    ctl_start_clock(c);
}

/* --- Where the endpoints come from. ------------------------------------- */

static void endpoints_release(struct endpoints *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->at[i].text);
        free(l->at[i].origin);
        url_release(&l->at[i].url);
    }
    free(l->at);
    *l = (struct endpoints){0};
}

static void endpoints_print(struct buf *b, const struct endpoints *l,
                            const char *sep)
{
    for (size_t i = 0; i < l->n; i++) {
        buf_adds(b, i ? sep : "");
        buf_adds(b, l->at[i].text);
    }
}

/* What stands before the path: "http://host:port". */
static char *origin_of(const char *text)
{
    const char *p = strstr(text, "://");
    size_t n = p ? (size_t)(p - text) + 3 : 0;

    return xstrndup(text, n + strcspn(text + n, "/?#"));
}

static int endpoints_add(struct endpoints *l, char *text, struct err *e)
{
    struct url u;

    if (l->n == ENDPOINTS_MAX) {
        free(text);
        return err_set(e, URL_EINVAL, "more than %d endpoints", ENDPOINTS_MAX);
    }
    if (url_parse(str_of(text), &u, e) != 0) {
        free(text);
        return URL_EINVAL;
    }
    if (u.port[0] == '\0') {
        free(u.port);
        u.port = xstrdup(url_is_tls(&u) ? "443" : "80");
    }
    l->at = xrealloc(l->at, (l->n + 1) * sizeof(l->at[0]));
    l->at[l->n++] = (struct endpoint){text, origin_of(text), u};
    return 0;
}

/*
 * etcd's client wants a scheme before host:port and takes a lone host for
 * http. With ETCDCTL_API=2 we agree; otherwise host:port will do as well.
 */
static int add_given(struct endpoints *l, struct str s, const struct ctl *c,
                     struct err *e)
{
    bool v2 = c->mode == CTL_MODE_V2;
    char *text = xstrndup(s.p, s.n);
    char *with_scheme;

    if (strstr(text, "://"))
        return endpoints_add(l, text, e);
    if (v2 && text[strcspn(text, ":/")] == ':') {
        err_set(e, URL_EINVAL,
                "parse %s: first path segment in URL cannot contain colon",
                text);
        free(text);
        return URL_EINVAL;
    }
    with_scheme = xasprintf(
        !v2 && ctl_wants_tls(c, "") ? "https://%s" : "http://%s", text);
    free(text);
    return endpoints_add(l, with_scheme, e);
}

/* The first that is given of these, in etcd's order. */
static const char *given_endpoints(const struct ctl *c)
{
    static const struct {
        const char *option, *variable;
    } sources[] = {
        {"endpoints", "ETCDCTL_ENDPOINTS"},
        {"endpoint", "ETCDCTL_ENDPOINT"},
        {"peers", "ETCDCTL_PEERS"},
    };

    for (size_t i = 0; i < ARRAY_LEN(sources); i++) {
        const char *s = ctl_string(c, sources[i].option, "");

        if (s[0] == '\0')
            s = getenv(sources[i].variable);
        if (s && s[0])
            return s;
    }
    return DEFAULT_ENDPOINTS;
}

/* One kind of SRV records. The number found, or -1 and e. */
static int discover(const char *service, const char *scheme, const char *domain,
                    struct endpoints *out, struct err *e)
{
    struct dns_srv *srv = xcalloc(DNS_SRV_MAX, sizeof(*srv));
    char *name = xasprintf("_%s._tcp.%s", service, domain);
    size_t n = 0;
    int rc = dns_lookup_srv(name, sys_mono_ns() + TOTAL_TIMEOUT_NS, srv, &n, e);

    for (size_t i = 0; rc == 0 && i < n; i++) {
        char *text = xasprintf("%s://%s:%u", scheme, srv[i].target,
                               (unsigned)srv[i].port);

        rc = endpoints_add(out, text, e);
    }
    free(name);
    free(srv);
    return rc == 0 ? (int)n : -1;
}

/* name: what stands behind the service, "" or "-name". 0, or -1 and e. */
static int find_by_srv(const char *domain, const char *name,
                       struct endpoints *out, struct err *e)
{
    char *tls_service = xasprintf("etcd-client-ssl%s", name);
    char *service = xasprintf("etcd-client%s", name);
    struct err tls_err, plain_err;
    int tls = discover(tls_service, "https", domain, out, &tls_err);
    int plain = discover(service, "http", domain, out, &plain_err);

    free(tls_service);
    free(service);
    if (tls < 0 && plain < 0)
        return err_set(e, -1, "dns lookup errors: %s and %s", tls_err.msg,
                       plain_err.msg);
    return 0;
}

int ctl_discover(const char *domain, const char *name, char ***texts, size_t *n,
                 struct err *e)
{
    char *suffix = xasprintf("%s%s", name[0] ? "-" : "", name);
    struct endpoints found = {0};
    int rc = find_by_srv(domain, suffix, &found, e);

    *texts = xrealloc(*texts, (*n + found.n + 1) * sizeof(**texts));
    for (size_t i = 0; i < found.n; i++)
        (*texts)[(*n)++] = xstrdup(found.at[i].text);
    endpoints_release(&found);
    free(suffix);
    return rc;
}

static int find_endpoints(struct ctl *c, struct endpoints *out)
{
    const char *domain = ctl_string(c, "discovery-srv", "");
    struct str list, item;
    struct err e;

    if (domain[0] == '\0')
        domain = getenv("ETCDCTL_DISCOVERY_SRV");
    if (domain && domain[0] && find_by_srv(domain, "", out, &e) != 0)
        return ctl_say("%s", e.msg);
    if (out->n == 0) {
        list = str_of(given_endpoints(c));
        while (list.n > 0) {
            str_cut(&list, ',', &item);
            item = str_trim(item);
            if (item.n > 0 && add_given(out, item, c, &e) != 0)
                return ctl_say("%s", e.msg);
        }
    }
    if (out->n == 0)
        return ctl_say("client: no endpoints available");
    return 0;
}

/* --- Letting the cluster name its members. ------------------------------ */

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static char **sorted_texts(const struct endpoints *l)
{
    char **texts = xcalloc(l->n + 1, sizeof(*texts));

    for (size_t i = 0; i < l->n; i++)
        texts[i] = l->at[i].text;
    qsort(texts, l->n, sizeof(*texts), compare_texts);
    return texts;
}

static bool same_endpoints(const struct endpoints *a, const struct endpoints *b)
{
    char **x, **y;
    bool same = a->n == b->n;

    if (!same)
        return false;
    x = sorted_texts(a);
    y = sorted_texts(b);
    for (size_t i = 0; i < a->n && same; i++)
        same = strcmp(x[i], y[i]) == 0;
    free(x);
    free(y);
    return same;
}

/* Take over the new list; the endpoint that has just answered stays first in
 * turn, if it is among them. */
static void replace_endpoints(struct ctl_client *k, struct endpoints *eps)
{
    size_t pinned = 0;

    for (size_t i = 0; i < eps->n; i++) {
        if (strcmp(eps->at[i].text, k->eps.at[k->pinned].text) == 0)
            pinned = i;
    }
    client_close(k->conn); /* its index and its URL are of the old list */
    k->conn = NULL;
    endpoints_release(&k->eps);
    k->eps = *eps;
    k->pinned = pinned;
    *eps = (struct endpoints){0};
}

static int client_urls(const struct ctl_answer *a, struct endpoints *out,
                       struct err *e)
{
    struct json *j;
    const struct json *members, *m, *u;
    int rc = 0;

    if (a->status != 200)
        return err_set(e, -1, "unexpected status code %d", a->status);
    if (json_parse(a->body.data, a->body.len, &j, e) != 0)
        return -1;
    members = json_get(j, "members");
    for (m = members ? members->first : NULL; m && rc == 0; m = m->next) {
        const struct json *urls = json_get(m, "clientURLs");

        for (u = urls ? urls->first : NULL; u && rc == 0; u = u->next)
            rc = endpoints_add(out, xstrndup(u->text.p, u->text.n), e);
    }
    json_free(j);
    return rc;
}

static int no_published_endpoints(const struct ctl *c)
{
    struct buf b = {0};

    endpoints_print(&b, &c->client->eps, ",");
    fprintf(stderr, "etcd cluster has no published client endpoints.\n");
    fprintf(stderr,
            "Try '--no-sync' if you want to access non-published client "
            "endpoints(%s).\n",
            buf_z(&b));
    buf_release(&b);
    return ctl_fail_text(CTL_SERVER_ERROR, "client: no endpoints available");
}

static void debug_sync(const struct ctl_client *k, const char *before,
                       const char *after)
{
    struct buf b = {0};

    if (!k->debug)
        return;
    endpoints_print(&b, &k->eps, ",");
    fprintf(stderr, "%s(%s)%s\n", before, buf_z(&b), after);
    buf_release(&b);
}

/* A failure that is not one of the connection leaves the endpoints as they
 * are: the command itself will find out more. */
static int sync_members(struct ctl *c)
{
    struct ctl_request r = {.method = "GET", .path = "/v2/members"};
    struct ctl_client *k = c->client;
    struct endpoints eps = {0};
    struct ctl_answer a = {0};
    struct ctl_error e = {0};
    struct err why;
    int rc = 0;

    debug_sync(k, "start to sync cluster using endpoints", "");
    if (ctl_do(c, &r, &a, &e) != 0) {
        if (e.connection)
            rc = ctl_fail(c, CTL_BAD_CONNECTION, &e);
    } else if (client_urls(&a, &eps, &why) == 0) {
        if (eps.n == 0)
            rc = no_published_endpoints(c);
        else if (!same_endpoints(&k->eps, &eps))
            replace_endpoints(k, &eps);
    }
    if (rc == 0)
        debug_sync(k, "got endpoints", " after sync");
    endpoints_release(&eps);
    ctl_answer_release(&a);
    ctl_error_release(&e);
    return rc;
}

/* --- Asking. ------------------------------------------------------------ */

void ctl_answer_release(struct ctl_answer *a)
{
    buf_release(&a->body);
}

void ctl_error_release(struct ctl_error *e)
{
    buf_release(&e->message);
    buf_release(&e->detail);
    e->connection = e->no_answer = false;
}

/* An answer of 500 and above, as etcd's client words it. */
static void describe_status(struct err *e, const struct endpoint *ep,
                            int status)
{
    if (status == 500 || status == 503)
        err_set(e, -1, "client: etcd member %s has no leader", ep->text);
    else
        err_set(e, -1, "client: etcd member %s returns server error [%s]",
                ep->text, http_status_text(status));
}

int ctl_do(struct ctl *c, const struct ctl_request *r, struct ctl_answer *a,
           struct ctl_error *e)
{
    struct ctl_client *k = c->client;
    size_t n = k->eps.n, first = k->pinned;

    *e = (struct ctl_error){.connection = true, .no_answer = true};
    buf_adds(&e->message,
             "client: etcd cluster is unavailable or misconfigured");
    for (size_t i = 0; i < n; i++) {
        size_t at = (first + i) % n;
        struct err why;
        enum outcome o = ask(k, at, r, a, &why);

        if (o == ANSWERED && a->status < 500) {
            k->pinned = at;
            ctl_error_release(e);
            return 0;
        }
        if (o == ANSWERED) {
            e->no_answer = false;
            describe_status(&why, &k->eps.at[at], a->status);
            ctl_answer_release(a);
        }
        if (o == OUT_OF_TIME ||
            (r->one_shot &&
             ((o != NOT_SENT && o != DISTRUSTED) || i == n - 1))) {
            e->connection = o == OUT_OF_TIME || o == NOT_SENT || o == UNREACHED;
            buf_clear(&e->message);
            buf_clear(&e->detail);
            buf_adds(&e->message, why.msg);
            return -1;
        }
        e->connection = e->connection && (o == NOT_SENT || o == UNREACHED);
        buf_printf(&e->message, "; error #%zu: %s\n", i, why.msg);
        buf_printf(&e->detail, "error #%zu: %s\n", i, why.msg);
    }
    return -1;
}

/* The path as it goes over the wire, below the endpoint's own. */
static char *target_of(const struct endpoint *ep, const struct ctl_request *r)
{
    struct buf path = {0}, clean = {0}, out = {0};

    buf_adds(&path, ep->url.path);
    buf_adds(&path, r->path);
    ctl_clean_path(&clean, buf_str(&path));
    url_encode_path(&out, buf_str(&clean));
    if (r->query) {
        buf_addc(&out, '?');
        buf_adds(&out, r->query);
    }
    buf_release(&path);
    buf_release(&clean);
    return buf_steal(&out);
}

static void debug_curl(const struct endpoint *ep, const struct ctl_request *r,
                       const char *target)
{
    struct buf b = {0};

    buf_printf(&b, "cURL Command: curl -X %s %s%s", r->method, ep->origin,
               target);
    if (r->body) {
        buf_adds(&b, " -d ");
        ctl_quote(&b, buf_str(r->body));
    }
    fprintf(stderr, "%s\n", buf_z(&b));
    buf_release(&b);
}

static int read_body(struct client *conn, struct buf *b, int64_t deadline_ns,
                     struct err *e)
{
    for (;;) {
        ssize_t n;

        buf_reserve(b, 16 * 1024);
        n = client_read(conn, b->data + b->len, b->cap - b->len, deadline_ns);
        if (n == 0)
            return 0;
        if (n < 0)
            return err_set(e, (int)n, "unexpected EOF");
        b->len += (size_t)n;
        if (b->len > BODY_MAX)
            return err_set(e, CLIENT_ELARGE, "answer of more than %u bytes",
                           BODY_MAX);
    }
}

/* Send q over the kept connection or a new one, and read all of the answer. */
static int exchange(struct ctl_client *k, size_t i,
                    const struct client_request *q, int64_t deadline_ns,
                    struct ctl_answer *a, struct err *e)
{
    int rc;

    if (k->conn && k->conn_to != i) {
        client_close(k->conn);
        k->conn = NULL;
    }
    rc = k->conn ? client_again(k->conn, q, e) : client_open(q, &k->conn, e);
    if (rc == 0) {
        struct str index = http_header(client_head(k->conn), "X-Etcd-Index");

        *a = (struct ctl_answer){.status = client_status(k->conn)};
        if (!str_to_u64(index, &a->index))
            a->index = 0;
        rc = read_body(k->conn, &a->body, deadline_ns, e);
    }
    if (rc != 0) {
        ctl_answer_release(a);
        client_close(k->conn);
        k->conn = NULL;
    }
    k->conn_to = i;
    return rc;
}

/* Whole milliseconds, at least one: to client_do() none means for ever. */
static int64_t ms_of(int64_t ns)
{
    return ns <= NS_PER_MS ? 1 : (ns + NS_PER_MS - 1) / NS_PER_MS;
}

static int64_t wait_ms(const struct ctl_client *k, int64_t deadline_ns)
{
    int64_t ms = k->timeout_ns > 0 ? ms_of(k->timeout_ns) : 0;
    int64_t left;

    if (deadline_ns == 0)
        return ms;
    left = ms_of(deadline_ns - sys_mono_ns());
    return ms == 0 || left < ms ? left : ms;
}

static enum outcome out_of_time(struct err *e)
{
    err_set(e, CLIENT_ETIMEOUT, "context deadline exceeded");
    return OUT_OF_TIME;
}

static enum outcome judge(int rc, const struct endpoint *ep,
                          int64_t deadline_ns, struct err *e)
{
    bool late = deadline_ns && sys_mono_ns() >= deadline_ns;

    if (rc == 0)
        return ANSWERED;
    if (late && rc != CLIENT_ELARGE)
        return out_of_time(e);
    if (rc == CLIENT_ETIMEOUT) {
        err_set(e, rc, "client: endpoint %s exceeded header timeout", ep->text);
        return FAILED;
    }
    if (rc == CLIENT_EDIAL)
        return str_has_prefix(str_of(e->msg), "dial ") ? NOT_SENT : DISTRUSTED;
    return str_has_prefix(str_of(e->msg), "read tcp") ? UNREACHED : FAILED;
}

static enum outcome ask(struct ctl_client *k, size_t i,
                        const struct ctl_request *r, struct ctl_answer *a,
                        struct err *e)
{
    const struct endpoint *ep = &k->eps.at[i];
    int64_t deadline_ns = r->wait ? 0 : k->deadline_ns;
    struct client_request q = {.method = r->method, .base = &ep->url};
    struct buf headers = {0};
    char *target;
    int rc;

    if (deadline_ns && sys_mono_ns() >= deadline_ns)
        return out_of_time(e);
    target = target_of(ep, r);
    if (k->debug)
        debug_curl(ep, r, target);
    buf_addstr(&headers, buf_str(&k->headers));
    if (r->content_type)
        buf_printf(&headers, "Content-Type: %s\r\n", r->content_type);
    q.secure = k->secure;
    q.target = target;
    q.headers = buf_z(&headers);
    if (r->body) {
        q.body = r->body->len ? (const void *)r->body->data : "";
        q.n_body = r->body->len;
    }
    q.dial_ms = DIAL_MS;
    q.timeout_ms = wait_ms(k, deadline_ns);
    q.body_max = BODY_MAX;
    rc = exchange(k, i, &q, deadline_ns, a, e);
    explicit_bzero(headers.data, headers.len);
    buf_release(&headers);
    free(target);
    return judge(rc, ep, deadline_ns, e);
}

int ctl_send(struct ctl *c, const char *method, const char *path,
             const struct buf *body, struct ctl_answer *a)
{
    struct ctl_request r = {
        .method = method,
        .path = path,
        .content_type = body ? "application/json" : NULL,
        .body = body,
    };
    struct ctl_error e = {0};
    int rc = 0;

    if (ctl_do(c, &r, a, &e) != 0)
        rc = ctl_say_error(c, &e);
    ctl_error_release(&e);
    return rc;
}

int ctl_get_url(struct ctl *c, const char *url, struct ctl_answer *a,
                struct err *e)
{
    struct client_response resp = {0};
    struct endpoints one = {0};
    struct client_request q = {.method = "GET"};
    int rc = endpoints_add(&one, xstrdup(url), e);

    if (rc == 0) {
        q.secure = c->client->secure;
        q.base = &one.at[0].url;
        q.target = one.at[0].url.path;
        q.dial_ms = q.timeout_ms = wait_ms(c->client, 0);
        q.body_max = HEALTH_BODY_MAX;
        rc = client_do(&q, &resp, e);
    }
    if (rc == 0) {
        *a = (struct ctl_answer){.status = resp.status, .body = resp.body};
        resp.body = (struct buf){0};
        client_response_release(&resp);
    }
    endpoints_release(&one);
    return rc == 0 ? 0 : -1;
}

/* --- Saying what went wrong. -------------------------------------------- */

/* What to do when nobody answers. ETCDCTL_API=2 prints what etcd prints. */
static void advise(const struct ctl *c, const struct ctl_error *e)
{
    struct buf b = {0};

    if (c->mode == CTL_MODE_V2 || !e->no_answer)
        return;
    endpoints_print(&b, &c->client->eps, ", ");
    fprintf(stderr,
            "No etcd answers at %s. Start one with `etcd`, or name the "
            "address of yours with --endpoints URL or ETCDCTL_ENDPOINTS.\n",
            buf_z(&b));
    buf_release(&b);
}

int ctl_fail(const struct ctl *c, int code, const struct ctl_error *e)
{
    struct str text = buf_str(&e->message), detail = buf_str(&e->detail);

    fprintf(stderr, "Error:  %.*s\n", STR_FMT(text));
    if (detail.n > 0)
        fprintf(stderr, "%.*s\n", STR_FMT(detail));
    advise(c, e);
    return code;
}

int ctl_fail_text(int code, const char *fmt, ...)
{
    struct buf b = {0};
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&b, fmt, ap);
    va_end(ap);
    fprintf(stderr, "Error:  %s\n", buf_z(&b));
    buf_release(&b);
    return code;
}

int ctl_say(const char *fmt, ...)
{
    struct buf b = {0};
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&b, fmt, ap);
    va_end(ap);
    fprintf(stderr, "%s\n", buf_z(&b));
    buf_release(&b);
    return CTL_BAD_ARGS;
}

int ctl_say_error(const struct ctl *c, const struct ctl_error *e)
{
    struct str text = buf_str(&e->message);

    fprintf(stderr, "%.*s\n", STR_FMT(text));
    advise(c, e);
    return CTL_BAD_ARGS;
}

int ctl_say_message(const struct ctl_answer *a)
{
    struct json *j;
    struct str text;
    struct err e;

    if (json_parse(a->body.data, a->body.len, &j, &e) != 0)
        return ctl_say("%s", e.msg);
    text = json_text(json_get(j, "message"), "");
    ctl_say("%.*s", STR_FMT(text));
    json_free(j);
    return CTL_BAD_ARGS;
}

int ctl_spawn(char **argv, char *const *more, pid_t *pid, struct err *e)
{
    size_t n = 0, n_more = 0;
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t defaults;
    char **env;
    int rc;

    while (environ[n])
        n++;
    while (more[n_more])
        n_more++;
    env = xcalloc(n + n_more + 1, sizeof(*env));
    memcpy(env, environ, n * sizeof(*env));
    memcpy(env + n, more, n_more * sizeof(*env));
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setsigdefault(&attr, &defaults);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    rc = posix_spawnp(pid, argv[0], &files, &attr, argv, env);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attr);
    free(env);
    if (rc == ENOENT && !argv[0][0])
        return err_set(e, -1, "exec: no command");
    if (rc == ENOENT && !strchr(argv[0], '/'))
        return err_set(
            e, -1, "exec: \"%s\": executable file not found in $PATH", argv[0]);
    if (rc != 0)
        return err_set(e, -1, "fork/exec %s: %s", argv[0], net_errno_text(rc));
    return 0;
}

int ctl_flush(void)
{
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return 0;
    return ctl_fail_text(CTL_BAD_ARGS, "cannot write to standard output: %s",
                         errno ? strerror(errno) : "an earlier write failed");
}
