/*
 * grpcclient.c - endpoints, retries and tokens (see the header).
 *
 * INVARIANTS
 *   1. GRPC_WRITES are sent again only after a failure that says that nothing
 *      was done: no connection, or a stream that the server refused.
 *   2. Connections are dialled under dial_mu, by one thread at a time: others
 *      that need one find it when they get there.
 */
#include "grpcclient.h"

#include "pb.h"
#include "sys.h"

#define AUTHENTICATE "/etcdserverpb.Auth/Authenticate"
#define PAUSE_MIN_MS 25 /* after a round of all endpoints in vain */
#define PAUSE_MAX_MS 500
#define DEFAULT_PORT "2379"
#define ENDPOINTS_MAX 1000

struct endpoint {
    struct url url;
    struct grpc_conn *conn; /* mu */
};

struct grpc_client {
    struct endpoint *eps;
    size_t n_eps;
    int64_t dial_ns;
    char *user, *password;
    struct grpc_conn_options conn;

    pthread_mutex_t dial_mu; /* taken before mu; held while dialling */
    pthread_mutex_t mu;
    size_t at;        /* mu; the endpoint to begin with */
    struct buf token; /* mu */
    bool no_auth;     /* mu; the cluster has none: no token is needed */
    struct buf why;   /* mu */
    bool found, alien; /* mu; a gRPC server has been met, another kind has */
};

/* --- Opening. ------------------------------------------------------------- */

/* A URL, or host:port, or a host. */
static int parse_endpoint(const char *text, bool tls, struct url *out,
                          struct err *e)
{
    char *full = strstr(text, "://")
                     ? xstrdup(text)
                     : xasprintf("http%s://%s", tls ? "s" : "", text);
    int rc = url_parse(str_of(full), out, e);

    free(full);
    if (rc != 0)
        return rc;
    if (out->port[0] == '\0' && !url_is_unix(out)) {
        free(out->port);
        out->port = xstrdup(DEFAULT_PORT);
    }
    return 0;
}

struct grpc_client *grpc_client_new(const struct grpc_client_options *o,
                                    struct err *e)
{
    struct grpc_client *c = xcalloc(1, sizeof(*c));

    pthread_mutex_init(&c->mu, NULL);
    pthread_mutex_init(&c->dial_mu, NULL);
    c->eps = xcalloc(o->n_endpoints + 1, sizeof(*c->eps));
    c->dial_ns = o->dial_ns;
    c->conn = o->conn;
    c->user = o->user ? xstrdup(o->user) : NULL;
    c->password = xstrdup(o->password ? o->password : "");
    for (size_t i = 0; i < o->n_endpoints && i < ENDPOINTS_MAX; i++) {
        if (parse_endpoint(o->endpoints[i], o->tls, &c->eps[i].url, e) != 0) {
            grpc_client_close(c);
            return NULL;
        }
        c->n_eps++;
    }
    if (c->n_eps == 0) {
        err_set(e, GRPC_UNAVAILABLE, "etcdclient: no available endpoints");
        grpc_client_close(c);
        return NULL;
    }
    return c;
}

void grpc_client_close(struct grpc_client *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->n_eps; i++) {
        grpc_conn_unref(c->eps[i].conn);
        url_release(&c->eps[i].url);
    }
    free(c->eps);
    free(c->user);
    explicit_bzero(c->password, strlen(c->password));
    free(c->password);
    if (c->token.data)
        explicit_bzero(c->token.data, c->token.len);
    buf_release(&c->token);
    buf_release(&c->why);
    pthread_mutex_destroy(&c->mu);
    pthread_mutex_destroy(&c->dial_mu);
    free(c);
}

/* --- Connections. ---------------------------------------------------------- */

static int out_of_time(struct err *e)
{
    err_set(e, GRPC_DEADLINE_EXCEEDED, "context deadline exceeded");
    return GRPC_DEADLINE_EXCEEDED;
}

static int not_grpc(struct err *e)
{
    err_set(e, GRPC_UNIMPLEMENTED, "the server does not speak HTTP/2");
    return GRPC_UNIMPLEMENTED;
}

static bool is_late(int64_t deadline_ns)
{
    return deadline_ns && sys_mono_ns() >= deadline_ns;
}

static void note_why(struct grpc_client *c, const char *why)
{
    pthread_mutex_lock(&c->mu);
    buf_clear(&c->why);
    buf_adds(&c->why, why);
    pthread_mutex_unlock(&c->mu);
}

/* The endpoint's connection if it is good for another stream: a reference of
 * the caller's own. */
static struct grpc_conn *kept_conn(struct grpc_client *c, size_t i)
{
    struct grpc_conn *kept, *gone = NULL;

    pthread_mutex_lock(&c->mu);
    kept = c->eps[i].conn;
    if (kept && !grpc_conn_usable(kept)) {
        gone = kept;
        c->eps[i].conn = kept = NULL;
    }
    if (kept)
        grpc_conn_ref(kept);
    pthread_mutex_unlock(&c->mu);
    grpc_conn_unref(gone);
    return kept;
}

static struct grpc_conn *dial(struct grpc_client *c, size_t i,
                              int64_t deadline_ns, struct err *e)
{
    int64_t until = c->dial_ns ? sys_mono_ns() + c->dial_ns : 0;
    struct grpc_conn *conn;

    if (deadline_ns && (!until || deadline_ns < until))
        until = deadline_ns;
    conn = grpc_conn_dial(&c->eps[i].url, &c->conn, until, e);
    note_why(c, conn ? "" : e->msg);
    pthread_mutex_lock(&c->mu);
    if (conn) {
        c->eps[i].conn = grpc_conn_ref(conn);
        c->found = true;
    } else if (e->code == GRPC_UNIMPLEMENTED) {
        c->alien = true;
    }
    pthread_mutex_unlock(&c->mu);
    return conn;
}

/* A connection to the endpoint `at` or, if it cannot be reached, one of those
 * behind it. NULL and e: none. */
static struct grpc_conn *connect_any(struct grpc_client *c, int64_t deadline_ns,
                                     struct err *e)
{
    struct grpc_conn *conn = NULL;
    size_t first;

    pthread_mutex_lock(&c->mu);
    first = c->at;
    pthread_mutex_unlock(&c->mu);
    conn = kept_conn(c, first);
    if (conn)
        return conn;
    pthread_mutex_lock(&c->dial_mu);
    for (size_t k = 0; k < c->n_eps && !conn; k++) {
        size_t i = (first + k) % c->n_eps;

        conn = kept_conn(c, i);
        if (!conn && !is_late(deadline_ns))
            conn = dial(c, i, deadline_ns, e);
        if (conn) {
            pthread_mutex_lock(&c->mu);
            c->at = i;
            pthread_mutex_unlock(&c->mu);
        }
    }
    pthread_mutex_unlock(&c->dial_mu);
    return conn;
}

void grpc_client_next(struct grpc_client *c)
{
    pthread_mutex_lock(&c->mu);
    c->at = (c->at + 1) % c->n_eps;
    pthread_mutex_unlock(&c->mu);
}

/* --- Calls. ------------------------------------------------------------------ */

/* What is tried again and again, until it works or the time is up. */
struct attempts {
    size_t n;
    int64_t pause_ms;
};

/* False: no time is left for another. */
static bool again(struct grpc_client *c, struct attempts *a,
                  int64_t deadline_ns)
{
    grpc_client_next(c);
    if (++a->n % c->n_eps == 0) {
        int64_t left_ms = INT64_MAX;

        if (deadline_ns)
            left_ms = (deadline_ns - sys_mono_ns()) / NS_PER_MS + 1;
        if (a->pause_ms == 0)
            a->pause_ms = PAUSE_MIN_MS;
        if (left_ms > 0)
            sys_sleep_ms(left_ms < a->pause_ms ? left_ms : a->pause_ms);
        if (a->pause_ms < PAUSE_MAX_MS)
            a->pause_ms *= 2;
    }
    return !is_late(deadline_ns);
}

/* Open a stream somewhere: what cannot be opened was not acted upon. */
static int open_anywhere(struct grpc_client *c, const char *path,
                         const struct grpc_metadata *meta, int64_t deadline_ns,
                         struct attempts *a, struct grpc_stream **out,
                         struct err *e)
{
    for (;;) {
        struct grpc_conn *conn = connect_any(c, deadline_ns, e);
        int rc = GRPC_UNAVAILABLE;

        if (conn)
            rc = grpc_stream_open(conn, path, meta, deadline_ns, out, e);
        else if (grpc_client_alien(c))
            rc = not_grpc(e);
        grpc_conn_unref(conn);
        if (rc != GRPC_UNAVAILABLE)
            return rc;
        if (!again(c, a, deadline_ns))
            return out_of_time(e);
    }
}

static int exchange(struct grpc_stream *s, struct str request,
                    struct buf *answer, struct err *e)
{
    struct buf extra = {0};
    int rc;

    grpc_stream_send(s, request, GRPC_LAST);
    rc = grpc_stream_read(s, answer, 0, e);
    if (rc == GRPC_STREAM_END) {
        err_set(e, GRPC_INTERNAL, "server sent no answer");
        return GRPC_INTERNAL;
    }
    if (rc == GRPC_OK) { /* the status comes behind the message */
        rc = grpc_stream_read(s, &extra, 0, e);
        if (rc == GRPC_STREAM_END)
            rc = GRPC_OK;
        buf_release(&extra);
    }
    return rc;
}

/* One call, with failover but without regard to tokens. */
static int call(struct grpc_client *c, const char *path, enum grpc_kind kind,
                struct str token, struct str request, int64_t deadline_ns,
                struct buf *answer, struct err *e)
{
    struct grpc_metadata meta[] = {{"token", token}, {NULL, {NULL, 0}}};
    struct attempts a = {0};

    for (;;) {
        struct grpc_stream *s;
        bool unserved;
        int rc = open_anywhere(c, path, token.n ? meta : NULL, deadline_ns, &a,
                               &s, e);

        if (rc != GRPC_OK)
            return rc;
        rc = exchange(s, request, answer, e);
        unserved = grpc_stream_unserved(s);
        grpc_stream_close(s);
        if (rc != GRPC_UNAVAILABLE || (kind == GRPC_WRITES && !unserved))
            return rc;
        note_why(c, e->msg);
        if (!again(c, &a, deadline_ns))
            return out_of_time(e);
    }
}

/* --- Tokens. ------------------------------------------------------------------- */

static int authenticate(struct grpc_client *c, int64_t deadline_ns,
                        struct buf *token, struct err *e)
{
    struct buf request = {0}, answer = {0};
    struct str got = {0};
    const struct pb_target targets[] = {[2] = {.bytes = &got}};
    int rc;

    pb_add_str(&request, 1, str_of(c->user));
    pb_add_str(&request, 2, str_of(c->password));
    rc = call(c, AUTHENTICATE, GRPC_READS, STR(""), buf_str(&request),
              deadline_ns, &answer, e);
    if (rc == GRPC_OK &&
        pb_read(answer.data, answer.len, targets, ARRAY_LEN(targets)) != 0) {
        err_set(e, GRPC_INTERNAL, "malformed AuthenticateResponse");
        rc = GRPC_INTERNAL;
    }
    if (rc == GRPC_OK)
        buf_addstr(token, got);
    explicit_bzero(request.data, request.len);
    buf_release(&request);
    buf_release(&answer);
    return rc;
}

int grpc_client_login(struct grpc_client *c, int64_t deadline_ns, struct err *e)
{
    struct buf token = {0};
    bool needed;
    int rc;

    pthread_mutex_lock(&c->mu);
    needed = c->user && c->token.len == 0 && !c->no_auth;
    pthread_mutex_unlock(&c->mu);
    if (!needed)
        return GRPC_OK;
    rc = authenticate(c, deadline_ns, &token, e);
    pthread_mutex_lock(&c->mu);
    if (rc == GRPC_OK) {
        buf_clear(&c->token);
        buf_addstr(&c->token, buf_str(&token));
    } else if (strcmp(e->msg, "etcdserver: authentication is not enabled") ==
               0) {
        c->no_auth = true;
        rc = GRPC_OK;
    }
    pthread_mutex_unlock(&c->mu);
    buf_release(&token);
    return rc;
}

void grpc_client_logout(struct grpc_client *c)
{
    pthread_mutex_lock(&c->mu);
    buf_clear(&c->token);
    c->no_auth = false;
    pthread_mutex_unlock(&c->mu);
}

static void copy_token(struct grpc_client *c, struct buf *out)
{
    pthread_mutex_lock(&c->mu);
    buf_clear(out);
    buf_addstr(out, buf_str(&c->token));
    pthread_mutex_unlock(&c->mu);
}

bool grpc_client_token_is_stale(int status, const struct err *e)
{
    return (status == GRPC_UNAUTHENTICATED &&
            strcmp(e->msg, "etcdserver: invalid auth token") == 0) ||
           (status == GRPC_INVALID_ARGUMENT &&
            strcmp(e->msg, "etcdserver: revision of auth store is old") == 0);
}

int grpc_client_call(struct grpc_client *c, const char *path,
                     enum grpc_kind kind, struct str request,
                     int64_t deadline_ns, struct buf *answer, struct err *e)
{
    struct buf token = {0};
    bool renewed = false;
    int rc;

    for (;;) {
        rc = grpc_client_login(c, deadline_ns, e);
        if (rc != GRPC_OK)
            break;
        copy_token(c, &token);
        rc = call(c, path, kind, buf_str(&token), request, deadline_ns, answer,
                  e);
        if (renewed || !c->user || !grpc_client_token_is_stale(rc, e))
            break;
        renewed = true; /* a refused token means that nothing was done */
        grpc_client_logout(c);
    }
    buf_release(&token);
    return rc;
}

static int open_with_token(struct grpc_client *c, const char *path,
                           bool has_leader, int64_t deadline_ns,
                           struct grpc_stream **out, struct err *e)
{
    struct grpc_metadata meta[3] = {0};
    struct attempts a = {0};
    struct buf token = {0};
    size_t n = 0;
    int rc = grpc_client_login(c, deadline_ns, e);

    if (rc != GRPC_OK)
        return rc;
    copy_token(c, &token);
    if (token.len > 0)
        meta[n++] = (struct grpc_metadata){"token", buf_str(&token)};
    if (has_leader)
        meta[n++] = (struct grpc_metadata){"hasleader", STR("true")};
    rc = open_anywhere(c, path, meta, deadline_ns, &a, out, e);
    buf_release(&token);
    return rc;
}

int grpc_client_stream(struct grpc_client *c, const char *path,
                       int64_t deadline_ns, struct grpc_stream **out,
                       struct err *e)
{
    return open_with_token(c, path, false, deadline_ns, out, e);
}

int grpc_client_watch(struct grpc_client *c, const char *path,
                      struct grpc_stream **out, struct err *e)
{
    return open_with_token(c, path, true, 0, out, e);
}

/* --- What went wrong. ------------------------------------------------------------ */

void grpc_client_why(struct grpc_client *c, struct buf *out)
{
    pthread_mutex_lock(&c->mu);
    buf_clear(out);
    buf_addstr(out, buf_str(&c->why));
    pthread_mutex_unlock(&c->mu);
}

bool grpc_client_alien(struct grpc_client *c)
{
    bool alien;

    pthread_mutex_lock(&c->mu);
    alien = c->alien && !c->found;
    pthread_mutex_unlock(&c->mu);
    return alien;
}
