/*
 * v2.c - the v2 HTTP API but for auth: keys, watches, members, machines,
 * statistics.
 *
 * A REQUEST FOR KEYS  body and query -> form -> v2_parse_params(), which
 * refuses in etcd's order -> v2auth -> one call of server_v2_*() -> an event,
 * which is immutable, so it is encoded here without any lock. An answer is
 * built in a buffer and sent by one write; once it passes PIECE_BYTES it goes
 * out piece by piece, so that a listing of any size needs no second copy.
 *
 * A WATCH  keeps its connection's thread, which sleeps on a condition
 * variable. Events are queued as references to one shared encoding, under the
 * store's lock (deliver()); the thread takes them out under the watch's own
 * lock and writes to the socket with no lock held, so a slow client delays
 * nobody. Its hang-up is told by net_park().
 *
 *   LOCK ORDER  the store's lock, then watch.mu; watches_mu, then watch.mu.
 */
#include "v2.h"
#include "json.h"
#include "log.h"
#include "metrics.h"
#include "sys.h"
#include "url.h"
#include "v3server.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#define FORM_BYTES_MAX (10 * 1024 * 1024) /* as Go's ParseForm */
#define FORM_TYPE "application/x-www-form-urlencoded"
#define EVENT_BYTES 512       /* what most answers fit into */
#define DEFER_BYTES_MAX 16384 /* of a value whose answer another thread sends */
#define JSON_BYTES_MAX (1024 * 1024)
#define PIECE_BYTES (64 * 1024)
#define PEER_URLS_MAX 1000 /* in one request */

#define KEYS_PREFIX "/v2/keys"
#define MEMBERS_PREFIX "/v2/members"

static void serve_keys(struct server *s, struct http_exchange *x);
static void serve_members(struct server *s, struct http_exchange *x);
static void serve_machines(struct server *s, struct http_exchange *x);
static void serve_store_stats(struct server *s, struct http_exchange *x);
static void serve_self_stats(struct server *s, struct http_exchange *x);
static void serve_leader_stats(struct server *s, struct http_exchange *x);

/* As in Go's mux, a path with a final slash stands for all below it. */
static const struct {
    const char *path;
    void (*serve)(struct server *, struct http_exchange *);
} routes[] = {
    {KEYS_PREFIX, serve_keys},
    {KEYS_PREFIX "/", serve_keys},
    {MEMBERS_PREFIX, serve_members},
    {MEMBERS_PREFIX "/", serve_members},
    {"/v2/machines", serve_machines},
    {"/v2/stats/store", serve_store_stats},
    {"/v2/stats/self", serve_self_stats},
    {"/v2/stats/leader", serve_leader_stats},
    {"/v2/auth/enable", v2auth_handle},
    {"/v2/auth/users", v2auth_handle},
    {"/v2/auth/users/", v2auth_handle},
    {"/v2/auth/roles", v2auth_handle},
    {"/v2/auth/roles/", v2auth_handle},
};

bool v2_handle(struct server *s, struct http_exchange *x)
{
    struct str path = http_path(x);

    for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
        const char *p = routes[i].path;
        bool below = p[strlen(p) - 1] == '/';

        if (below ? str_has_prefix(path, p) : str_eqz(path, p)) {
            routes[i].serve(s, x);
            return true;
        }
    }
    return false;
}

/* --- Shared by all pages. ----------------------------------------------- */

bool v2_allow(struct http_exchange *x, const char *methods)
{
    struct str list = str_of(methods), one, method = http_method(x);

    while (list.n) {
        str_cut(&list, ',', &one);
        if (str_eq(one, method))
            return true;
    }
    http_set_header(x, "Allow", "%s", methods);
    http_error(x, 405, "Method Not Allowed");
    return false;
}

void v2_set_cluster_id(struct server *s, struct http_exchange *x)
{
    http_set_header_text(x, "X-Etcd-Cluster-Id",
                         str_of(server_cluster_id_text(s)));
}

void v2_message(struct http_exchange *x, int status, const char *fmt, ...)
{
    struct buf text = {0};
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&text, fmt, ap);
    va_end(ap);
    v2_message_named(x, status, "", buf_str(&text));
    buf_release(&text);
}

void v2_message_named(struct http_exchange *x, int status, const char *what,
                      struct str name)
{
    struct buf text = {0}, b = {0};

    buf_adds(&text, what);
    buf_addstr(&text, name);
    buf_adds(&b, "{\"message\":");
    json_add_string(&b, buf_str(&text));
    buf_addc(&b, '}');
    http_reply(x, status, "application/json", b.data, b.len);
    buf_release(&text);
    buf_release(&b);
}

const char *v2_shown(char out[V2_SHOWN_MAX], struct str s)
{
    size_t n = s.n < V2_SHOWN_MAX ? s.n : V2_SHOWN_MAX - 1;

    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        out[i] = c < ' ' || c == 127 ? '?' : s.p[i];
    }
    out[n] = '\0';
    return out;
}

void v2_internal_error(struct http_exchange *x, const char *why)
{
    char path[V2_SHOWN_MAX];

    log_error("etcdserver/api/v2http",
              "got unexpected response error (%s) for %s", why,
              v2_shown(path, http_path(x)));
    v2_message(x, 500, "Internal Server Error");
}

void v2_error(struct http_exchange *x, const struct store_error *e)
{
    struct buf b = {0};

    store_error_json(&b, e);
    http_set_header_u64(x, "X-Etcd-Index", e->index);
    http_reply(x, store_error_status(e->code), "application/json", b.data,
               b.len);
    buf_release(&b);
}

static void reply_json(struct http_exchange *x, int status, const struct buf *b)
{
    http_reply(x, status, "application/json", b->data, b->len);
}

/* --- Parameters: pure. -------------------------------------------------- */

static int fail(struct store_error *e, int code, const char *cause)
{
    store_error_set(e, code, str_of(cause));
    return code;
}

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static struct str skip_blanks(struct str s)
{
    while (s.n && is_blank(s.p[0]))
        s.p++, s.n--;
    return s;
}

/* A token (RFC 2045, 5.1) at the front of *s, cut off. */
static struct str take_token(struct str *s)
{
    struct str token = {s->p, 0};

    while (token.n < s->n) {
        unsigned char c = (unsigned char)s->p[token.n];

        if (c <= ' ' || c >= 127 || strchr("()<>@,;:\\\"/[]?=", c))
            break;
        token.n++;
    }
    *s = (struct str){s->p + token.n, s->n - token.n};
    return token;
}

/* The rest of a quoted string, its opening quote already taken. */
static bool skip_quoted(struct str *s)
{
    for (size_t i = 0; i < s->n; i++) {
        if (s->p[i] == '"') {
            *s = (struct str){s->p + i + 1, s->n - i - 1};
            return true;
        }
        if (s->p[i] == '\\')
            i++;
    }
    return false;
}

/* "; name=value" at the front of *s. */
static bool skip_parameter(struct str *s)
{
    struct str t = {s->p + 1, s->n - 1}; /* without the ; */

    t = skip_blanks(t);
    if (take_token(&t).n == 0)
        return false;
    t = skip_blanks(t);
    if (!t.n || t.p[0] != '=')
        return false;
    t = skip_blanks((struct str){t.p + 1, t.n - 1});
    if (t.n && t.p[0] == '"') {
        t.p++, t.n--;
        if (!skip_quoted(&t))
            return false;
    } else if (take_token(&t).n == 0) {
        return false;
    }
    *s = t;
    return true;
}

static const char *check_media_type(struct str type)
{
    if (take_token(&type).n == 0)
        return "mime: no media type";
    if (type.n == 0)
        return NULL;
    if (type.p[0] != '/')
        return "mime: expected slash after first token";
    type.p++, type.n--;
    if (take_token(&type).n == 0)
        return "mime: expected token after slash";
    return type.n ? "mime: unexpected content after media subtype" : NULL;
}

int v2_is_form(struct str content_type, bool *is_form, const char **why)
{
    struct str rest = content_type, type;

    *is_form = str_eqz(content_type, FORM_TYPE); /* as nearly all send it */
    if (*is_form || content_type.n == 0)
        return 0; /* none: application/octet-stream (RFC 9110, 8.3) */
    str_cut(&rest, ';', &type);
    type = skip_blanks(type);
    while (type.n && is_blank(type.p[type.n - 1]))
        type.n--;
    *why = check_media_type(type);
    if (*why)
        return -1;

    rest =
        (struct str){type.p + type.n, (size_t)(content_type.p + content_type.n -
                                               (type.p + type.n))};
    for (rest = skip_blanks(rest); rest.n; rest = skip_blanks(rest)) {
        if (rest.p[0] == ';' && skip_parameter(&rest))
            continue;
        if (rest.n == 1 && rest.p[0] == ';')
            break; /* a final semicolon is let pass */
        *why = "mime: invalid media parameter";
        return -1;
    }
    *is_form = str_caseeqz(type, FORM_TYPE);
    return 0;
}

/* Go's strconv.ParseBool. */
static bool parse_bool(struct str s, bool *out)
{
    static const char *const yes[] = {"1", "t", "T", "TRUE", "true", "True"};
    static const char *const no[] = {"0", "f", "F", "FALSE", "false", "False"};

    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        *out = str_eqz(s, yes[i]);
        if (*out || str_eqz(s, no[i]))
            return true;
    }
    return false;
}

/* An absent field leaves *out as it is. */
static int get_bool(const struct form *f, const char *name, const char *cause,
                    bool *out, struct store_error *e)
{
    struct str v;

    if (!form_get(f, name, &v) || parse_bool(v, out))
        return 0;
    return fail(e, STORE_INVALID_FIELD, cause);
}

static int get_tristate(const struct form *f, const char *name,
                        const char *cause, enum tristate *out,
                        struct store_error *e)
{
    struct str v;
    bool yes;

    if (!form_get(f, name, &v))
        return 0;
    if (!parse_bool(v, &yes))
        return fail(e, STORE_INVALID_FIELD, cause);
    *out = yes ? TRI_TRUE : TRI_FALSE;
    return 0;
}

static int get_number(const struct form *f, const char *name, int code,
                      const char *cause, uint64_t *out, struct store_error *e)
{
    struct str v;

    if (!form_get(f, name, &v) || str_to_u64(v, out))
        return 0;
    return fail(e, code, cause);
}

static int parse_flags(const struct form *f, struct v2_request *r,
                       struct store_error *e)
{
    const struct {
        const char *name, *cause;
        bool *out;
    } flags[] = {
        {"recursive", "invalid value for \"recursive\"", &r->recursive},
        {"sorted", "invalid value for \"sorted\"", &r->sorted},
        {"wait", "invalid value for \"wait\"", &r->wait},
        {"dir", "invalid value for \"dir\"", &r->dir},
        {"quorum", "invalid value for \"quorum\"", &r->quorum},
        {"stream", "invalid value for \"stream\"", &r->stream},
    };
    int code = 0;

    for (size_t i = 0; i < ARRAY_LEN(flags) && code == 0; i++)
        code = get_bool(f, flags[i].name, flags[i].cause, flags[i].out, e);
    return code;
}

static int parse_refresh(const struct form *f, struct v2_params *p,
                         struct store_error *e)
{
    int code = get_tristate(f, "refresh", "invalid value for refresh",
                            &p->r.refresh, e);

    if (code || p->r.refresh != TRI_TRUE)
        return code;
    if (p->r.val.n)
        return fail(e, STORE_REFRESH_VALUE,
                    "A value was provided on a refresh");
    if (!p->has_ttl)
        return fail(e, STORE_REFRESH_TTL_REQUIRED, "No TTL value set");
    return 0;
}

int v2_parse_params(const struct form *f, struct str method,
                    struct v2_params *out, struct store_error *e)
{
    struct v2_request *r = &out->r;
    struct str v;
    int code;

    *out = (struct v2_params){.r = {.method = method}};
    if (!form_get(f, "value", &r->val))
        r->val = STR("");
    r->prev_value = STR("");
    if ((code = get_number(f, "prevIndex", STORE_INDEX_NAN,
                           "invalid value for \"prevIndex\"", &r->prev_index,
                           e)) ||
        (code = get_number(f, "waitIndex", STORE_INDEX_NAN,
                           "invalid value for \"waitIndex\"", &r->since, e)) ||
        (code = parse_flags(f, r, e)))
        return code;
    if (r->wait && !str_eqz(method, "GET"))
        return fail(e, STORE_INVALID_FIELD,
                    "\"wait\" can only be used with GET requests");
    if (form_get(f, "prevValue", &r->prev_value) && r->prev_value.n == 0)
        return fail(e, STORE_PREV_VALUE_REQUIRED,
                    "\"prevValue\" cannot be empty");
    code =
        get_bool(f, "noValueOnSuccess",
                 "invalid value for \"noValueOnSuccess\"", &out->no_value, e);
    if (code)
        return code;
    out->has_ttl = form_get(f, "ttl", &v) && v.n;
    if (out->has_ttl && !str_to_u64(v, &out->ttl_s))
        return fail(e, STORE_TTL_NAN, "invalid value for \"ttl\"");
    code = get_tristate(f, "prevExist", "invalid value for prevExist",
                        &r->prev_exist, e);
    return code ? code : parse_refresh(f, out, e);
}

int64_t v2_expiration(int64_t now_ns, uint64_t ttl_s)
{
    uint64_t left_s = (uint64_t)(INT64_MAX - now_ns) / (uint64_t)NS_PER_S;

    if (ttl_s >= left_s)
        return INT64_MAX;
    return now_ns + (int64_t)ttl_s * NS_PER_S;
}

/* --- Keys: a request. --------------------------------------------------- */

struct keys_request {
    struct v2_params p; /* borrows all of the others */
    struct form form;
    struct buf body, path;
};

static void keys_request_release(struct keys_request *q)
{
    form_release(&q->form);
    buf_release(&q->body);
    buf_release(&q->path);
}

static struct str content_type(const struct http_exchange *x)
{
    struct str v = http_header(http_request(x), "Content-Type");

    return v.p ? v : (struct str){"", 0};
}

/* The body of PUT and POST, if it is a form (Go's ParseForm). */
static int read_form_body(struct http_exchange *x, struct keys_request *q,
                          struct store_error *e)
{
    const char *why = "";
    struct err parse_err;
    bool is_form;

    if (!http_method_is(x, "PUT") && !http_method_is(x, "POST"))
        return 0;
    if (v2_is_form(content_type(x), &is_form, &why) < 0)
        return fail(e, STORE_INVALID_FORM, why);
    if (!is_form)
        return 0;
    switch (http_read_body(x, &q->body, FORM_BYTES_MAX, &why)) {
    case 0:
        break;
    case HTTP_EBODY_LARGE:
        http_close_after(x);
        return fail(e, STORE_INVALID_FORM, "http: POST too large");
    case HTTP_EBODY_BAD:
        return fail(e, STORE_INVALID_FORM, why);
    case HTTP_EBODY_BUSY:
        return fail(e, STORE_RAFT_INTERNAL,
                    "too many large requests at once, try again");
    default:
        http_close_after(x);
        return fail(e, STORE_INVALID_FORM, "unexpected EOF");
    }
    if (form_parse(&q->form, 0, buf_str(&q->body), &parse_err) < 0)
        return fail(e, STORE_INVALID_FORM, parse_err.msg);
    return 0;
}

static int check_key(struct str path, struct store_error *e)
{
    if (!store_key_fits(path))
        return fail(e, STORE_INVALID_FIELD,
                    "the key is longer than 16384 bytes or deeper than 1000 "
                    "directories");
    return 0;
}

/* What stands after /v2/keys: "" or a path that begins with a slash. */
static struct str key_of(const struct http_exchange *x)
{
    struct str path = http_path(x);
    size_t n = strlen(KEYS_PREFIX);

    return (struct str){path.p + n, path.n - n};
}

static int parse_keys(struct http_exchange *x, struct keys_request *q,
                      struct store_error *e)
{
    struct v2_request *r = &q->p.r;
    struct str key = key_of(x);
    struct err parse_err;
    int code = read_form_body(x, q, e);

    if (code)
        return code;
    if (form_parse(&q->form, 1, http_query(x), &parse_err) < 0)
        return fail(e, STORE_INVALID_FORM, parse_err.msg);
    code = v2_parse_params(&q->form, http_method(x), &q->p, e);
    if (code)
        return code;

    /* Cleaned before /1 is put in front, so that no .. leads out of it. */
    buf_adds(&q->path, "/1");
    if (key.n > 1)
        url_clean_path(&q->path, key);
    if (q->path.data[q->path.len - 1] == '/')
        q->path.len--;
    r->path = buf_str(&q->path);
    if (q->p.has_ttl)
        r->expiration = v2_expiration(sys_wall_ns(), q->p.ttl_s);
    return check_key(r->path, e);
}

/* --- Keys: an answer. --------------------------------------------------- */

static void set_index_headers(struct http_exchange *x,
                              const struct v2_result *out)
{
    http_set_header_u64(x, "X-Etcd-Index", out->etcd_index);
    http_set_header_u64(x, "X-Raft-Index", out->raft_index);
    http_set_header_u64(x, "X-Raft-Term", out->raft_term);
}

/* A body that begins in a buffer and becomes pieces if it grows. */
struct body {
    struct http_exchange *x;
    struct buf b;
    bool begun;
};

static int send_piece(struct body *body, const void *p, size_t n)
{
    if (!body->begun && http_begin(body->x) < 0)
        return -1;
    body->begun = true;
    if (http_method_is(body->x, "HEAD"))
        return -1; /* the head said it all: encode no further */
    return n ? http_write(body->x, p, n) : 0;
}

static int add_to_body(void *arg, const void *p, size_t n)
{
    struct body *body = arg;

    if (body->b.len + n > PIECE_BYTES) {
        if (send_piece(body, body->b.data, body->b.len) < 0)
            return -1;
        buf_clear(&body->b);
        if (n > PIECE_BYTES)
            return send_piece(body, p, n);
    }
    buf_add(&body->b, p, n);
    return 0;
}

static void finish_body(struct body *body)
{
    if (body->begun)
        send_piece(body, body->b.data, body->b.len);
    else
        http_send(body->x, body->b.data, body->b.len);
}

static bool leaves_value_out(enum store_action a)
{
    return a == STORE_SET || a == STORE_CREATE || a == STORE_UPDATE ||
           a == STORE_CAS;
}

/* whole: in one piece, as a deferred answer must be. */
static void send_event(struct http_exchange *x, const struct v2_result *out,
                       bool no_value, bool whole)
{
    enum store_action action = store_event_action(out->event);
    const struct blob *value = store_event_value(out->event);
    struct body body = {.x = x};
    int rc = 0;

    whole |= value && value->len <= DEFER_BYTES_MAX; /* so it is no listing */
    if (whole)
        buf_reserve(&body.b, EVENT_BYTES); /* rather than grow to it */
    http_set_status(x, store_event_created(out->event) ? 201 : 200);
    set_index_headers(x, out);
    if (no_value && leaves_value_out(action))
        buf_printf(&body.b, "{\"action\":\"%s\"}\n", store_action_name(action));
    else if (whole)
        store_event_json(&body.b, out->event, sys_wall_ns());
    else
        rc = store_event_write(out->event, sys_wall_ns(), add_to_body, &body);
    if (rc == 0)
        finish_body(&body);
    buf_release(&body.b);
}

static_assert(H_HTTP_DELETE - H_HTTP_GET == MM_DELETE,
              "histograms stand in the order of the methods");

static enum metric_method metric_method_of(const struct v2_request *r)
{
    if (str_eqz(r->method, "PUT"))
        return MM_PUT;
    if (str_eqz(r->method, "POST"))
        return MM_POST;
    if (str_eqz(r->method, "DELETE"))
        return MM_DELETE;
    if (str_eqz(r->method, "HEAD"))
        return MM_HEAD;
    return r->quorum ? MM_QGET : MM_GET;
}

/* Whom to answer, and how. */
struct answer {
    struct http_exchange *x;
    enum metric_method method;
    int64_t began_ns;
    bool no_value;
};

static void send_answer(const struct answer *a, const struct v2_result *out,
                        bool whole)
{
    enum metric_method m = a->method;
    int64_t began_ns = a->began_ns;

    if (out->code) {
        metric_http_failed(m, store_error_status(out->code));
        v2_error(a->x, &out->error);
        return;
    }
    metric_observe_ns(H_HTTP_GET + (enum metric_histogram)m,
                      sys_mono_ns() - began_ns);
    send_event(a->x, out, a->no_value, whole);
}

/* A write that is answered by the thread that applies it. */
struct deferred_write {
    struct v2_write op;
    struct answer answer;
};

static void write_done(struct v2_write *op)
{
    struct deferred_write *d =
        (struct deferred_write *)((char *)op -
                                  offsetof(struct deferred_write, op));
    struct v2_result result = op->result;

    send_answer(&d->answer, &result, true); /* d is gone after this */
    v2_result_release(&result);
}

static void serve_write(struct server *s, struct v2_request *r,
                        const struct answer *a)
{
    struct deferred_write *d;
    struct v2_result out;

    if (http_can_defer(a->x) && r->val.n <= DEFER_BYTES_MAX) {
        d = xmalloc(sizeof(*d));
        d->answer = *a;
        d->op.done = write_done;
        http_defer(a->x, free, d);
        server_v2_write_async(s, r, &d->op);
        return;
    }
    server_v2_write(s, r, &out);
    send_answer(a, &out, false);
    v2_result_release(&out);
}

static void serve_key(struct server *s, struct http_exchange *x,
                      struct keys_request *q, int64_t began_ns)
{
    struct v2_request *r = &q->p.r;
    struct answer a = {x, metric_method_of(r), began_ns, q->p.no_value};
    int flags =
        (r->recursive ? STORE_RECURSIVE : 0) | (r->sorted ? STORE_SORTED : 0);
    struct v2_result out;

    metric_http_received(a.method);
    if (a.method >= MM_PUT) {
        serve_write(s, r, &a);
        return;
    }
    server_v2_get(s, r->path, flags, a.method == MM_QGET, &out);
    send_answer(&a, &out, false);
    v2_result_release(&out);
}

static void watch_key(struct server *s, struct http_exchange *x,
                      const struct v2_request *r);

static void serve_keys(struct server *s, struct http_exchange *x)
{
    bool write = !http_method_is(x, "GET") && !http_method_is(x, "HEAD");
    struct keys_request q = {.form = {0}};
    struct store_error e = {0};
    int64_t began_ns = sys_mono_ns();

    if (!v2_allow(x, "HEAD,GET,PUT,POST,DELETE"))
        return;
    /* In the order in which they are sent, which is the cheapest. */
    http_set_header_text(x, "Content-Type", STR("application/json"));
    v2_set_cluster_id(s, x);
    if (parse_keys(x, &q, &e) == 0 &&
        !v2auth_key_allowed(s, x, key_of(x), write, q.p.r.recursive))
        fail(&e, STORE_UNAUTHORIZED, "Insufficient credentials");

    if (e.code)
        v2_error(x, &e);
    else if (q.p.r.wait && !q.p.r.quorum) /* with it etcd does not wait */
        watch_key(s, x, &q.p.r);
    else
        serve_key(s, x, &q, began_ns);
    store_error_release(&e);
    keys_request_release(&q);
}

/* --- Watching. ---------------------------------------------------------- */

struct watch {
    pthread_mutex_t mu;
    pthread_cond_t cond; /* mu; an event came, or one of the flags below */
    struct blob *queue[STORE_WATCHER_QUEUE_MAX]; /* mu; a ring */
    size_t first, n;                             /* mu */
    bool stream;
    bool over;                 /* the store's lock and mu: no event follows */
    bool hung_up;              /* mu; the client did */
    bool stopped;              /* mu; by v2_stop() */
    struct watch *prev, *next; /* watches_mu */
};

static pthread_mutex_t watches_mu = PTHREAD_MUTEX_INITIALIZER;
static struct watch *watches; /* watches_mu; all whose threads may wait */
static bool stopping;         /* watches_mu */

static void watch_register(struct watch *w)
{
    pthread_mutex_lock(&watches_mu);
    w->stopped = stopping;
    w->next = watches;
    if (watches)
        watches->prev = w;
    watches = w;
    pthread_mutex_unlock(&watches_mu);
}

static void watch_unregister(struct watch *w)
{
    pthread_mutex_lock(&watches_mu);
    if (w->prev)
        w->prev->next = w->next;
    else
        watches = w->next;
    if (w->next)
        w->next->prev = w->prev;
    pthread_mutex_unlock(&watches_mu);
}

static void raise_flag(struct watch *w, bool *flag)
{
    pthread_mutex_lock(&w->mu);
    *flag = true;
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->mu);
}

void v2_stop(void)
{
    pthread_mutex_lock(&watches_mu);
    stopping = true;
    for (struct watch *w = watches; w; w = w->next)
        raise_flag(w, &w->stopped);
    pthread_mutex_unlock(&watches_mu);
}

/* store_deliver: under the store's lock. */
static bool deliver(void *arg, struct blob *json, int why)
{
    struct watch *w = arg;
    bool ok = true;

    (void)why; /* whatever ended the watcher, its stream just ends */
    pthread_mutex_lock(&w->mu);
    if (!json) {
        w->over = true;
    } else if (w->n == STORE_WATCHER_QUEUE_MAX) {
        ok = false;
    } else {
        w->queue[(w->first + w->n++) % STORE_WATCHER_QUEUE_MAX] =
            blob_ref(json);
        if (!w->stream)
            w->over = true; /* the store has removed it after this event */
    }
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->mu);
    return ok;
}

static void on_hang_up(void *arg)
{
    struct watch *w = arg;

    raise_flag(w, &w->hung_up);
}

/* The next event (owned); NULL: there will be none, or nobody to read it. */
static struct blob *next_event(struct watch *w)
{
    struct blob *json = NULL;

    pthread_mutex_lock(&w->mu);
    while (w->n == 0 && !w->over && !w->hung_up && !w->stopped)
        pthread_cond_wait(&w->cond, &w->mu);
    if (w->n && !w->hung_up) {
        json = w->queue[w->first];
        w->first = (w->first + 1) % STORE_WATCHER_QUEUE_MAX;
        w->n--;
    }
    pthread_mutex_unlock(&w->mu);
    return json;
}

static void forward_events(struct http_exchange *x, struct watch *w)
{
    struct net_park park;
    struct blob *json;
    bool parked, alive = http_begin(x) == 0;

    http_prepare_to_wait(x);
    parked = alive && net_park(&park, http_stream(x), on_hang_up, w) == 0;
    while (alive && (json = next_event(w))) {
        struct str text = blob_str(json);

        alive = http_write(x, text.p, text.n) == 0 && w->stream;
        blob_unref(json);
    }
    if (parked)
        net_unpark(&park);
}

static void watch_release(struct watch *w)
{
    while (w->n--) {
        blob_unref(w->queue[w->first]);
        w->first = (w->first + 1) % STORE_WATCHER_QUEUE_MAX;
    }
    pthread_mutex_destroy(&w->mu);
    pthread_cond_destroy(&w->cond);
}

static void watch_key(struct server *s, struct http_exchange *x,
                      const struct v2_request *r)
{
    struct watch w = {.stream = r->stream};
    struct store_watcher *watcher;
    struct v2_result out;

    pthread_mutex_init(&w.mu, NULL);
    pthread_cond_init(&w.cond, NULL);
    server_v2_watch(s, r->path, r->recursive, r->stream, r->since, deliver, &w,
                    &watcher, &out);
    if (out.code) {
        v2_error(x, &out.error);
        metric_http_failed(MM_GET, store_error_status(out.code));
    } else {
        set_index_headers(x, &out);
        watch_register(&w);
        forward_events(x, &w);
        watch_unregister(&w);
    }
    if (watcher)
        server_v2_unwatch(s, watcher, &w.over);
    watch_release(&w);
    v2_result_release(&out);
}

/* --- Members. ----------------------------------------------------------- */

static void add_strings(struct buf *b, char *const *v, size_t n)
{
    buf_addc(b, '[');
    for (size_t i = 0; i < n; i++) {
        if (i)
            buf_addc(b, ',');
        json_add_string(b, str_of(v[i]));
    }
    buf_addc(b, ']');
}

static void add_member(struct buf *b, const struct member *m)
{
    buf_printf(b, "{\"id\":\"%" PRIx64 "\",\"name\":", m->id);
    json_add_string(b, str_of(m->name));
    buf_adds(b, ",\"peerURLs\":");
    add_strings(b, m->peer_urls, m->n_peer_urls);
    buf_adds(b, ",\"clientURLs\":");
    add_strings(b, m->client_urls, m->n_client_urls);
    buf_addc(b, '}');
}

static void reply_member(struct http_exchange *x, int status,
                         const struct member *m)
{
    struct buf b = {0};

    add_member(&b, m);
    buf_addc(&b, '\n');
    reply_json(x, status, &b);
    buf_release(&b);
}

static void list_members(struct server *s, struct http_exchange *x)
{
    struct member *members;
    size_t n = cluster_members(server_cluster(s), &members);
    struct buf b = {0};

    buf_adds(&b, "{\"members\":[");
    for (size_t i = 0; i < n; i++) {
        if (i)
            buf_addc(&b, ',');
        add_member(&b, &members[i]);
    }
    buf_adds(&b, "]}\n");
    reply_json(x, 200, &b);
    buf_release(&b);
    members_free(members, n);
}

static void show_leader(struct server *s, struct http_exchange *x)
{
    struct server_status st;
    struct member m;

    server_status(s, &st);
    if (st.raft.leader == 0 ||
        !cluster_member(server_cluster(s), st.raft.leader, &m)) {
        v2_message(x, 503, "During election");
        return;
    }
    reply_member(x, 200, &m);
    member_release(&m);
}

static void get_members(struct server *s, struct http_exchange *x,
                        struct str name)
{
    if (name.n == 0)
        list_members(s, x);
    else if (str_eqz(name, "leader"))
        show_leader(s, x);
    else
        v2_message(x, 404, "Not found");
}

static const char *json_type_name(const struct json *j)
{
    static const char *const names[] = {
        [JSON_NULL] = "null",     [JSON_BOOL] = "bool",
        [JSON_NUMBER] = "number", [JSON_STRING] = "string",
        [JSON_ARRAY] = "array",   [JSON_OBJECT] = "object",
    };

    return names[j->type];
}

/* The strings of "peerURLs", borrowed; errors in the words of Go's decoder. */
static int peer_url_strings(const struct json *j, struct str **out, size_t *n,
                            struct err *e)
{
    const struct json *list;

    if (j->type != JSON_OBJECT && j->type != JSON_NULL)
        return err_set(e, -1,
                       "json: cannot unmarshal %s into Go value of type "
                       "struct { PeerURLs []string \"json:\\\"peerURLs\\\"\" }",
                       json_type_name(j));
    list = j->type == JSON_OBJECT ? json_get(j, "peerURLs") : NULL;
    if (!list || list->type == JSON_NULL)
        return 0;
    if (list->type != JSON_ARRAY)
        return err_set(e, -1,
                       "json: cannot unmarshal %s into Go struct field "
                       ".peerURLs of type []string",
                       json_type_name(list));
    if (list->n > PEER_URLS_MAX)
        return err_set(e, -1, "more than %d peerURLs", PEER_URLS_MAX);
    *out = xmalloc(list->n * sizeof(**out));
    for (const struct json *u = list->first; u; u = u->next) {
        if (u->type != JSON_STRING && u->type != JSON_NULL)
            return err_set(e, -1,
                           "json: cannot unmarshal %s into Go struct field "
                           ".peerURLs of type string",
                           json_type_name(u));
        (*out)[(*n)++] = json_text(u, "");
    }
    return 0;
}

static int parse_peer_urls(const struct buf *body, struct url_list *out,
                           struct err *e)
{
    struct json *j = NULL;
    struct str *urls = NULL;
    size_t n = 0;
    int rc = json_parse(body->data, body->len, &j, e);

    if (rc == 0)
        rc = peer_url_strings(j, &urls, &n, e);
    if (rc == 0)
        rc = url_list_sorted(urls, n, out, e);
    free(urls);
    json_free(j);
    return rc;
}

static bool is_json(struct http_exchange *x)
{
    struct str rest = content_type(x), type;
    bool ok;

    if (!str_cut(&rest, ';', &type))
        ok = str_eqz(type, "application/json"); /* Go folds case only with */
    else                                        /* parameters behind it */
        ok = str_caseeqz(str_trim(type), "application/json");
    if (!ok)
        v2_message(x, 415, "Bad Content-Type %.*s, accept application/json",
                   STR_FMT(type));
    return ok;
}

/* Members are v3's, too: with its users on they are its root's business, whom
 * nobody can be here. Answered if not allowed, as etcd does. */
static bool v3_allows(struct server *s, struct http_exchange *x)
{
    enum v3_error e = v3_is_admin(s, &(struct v3_who){STR(""), 0});

    if (e)
        v2_internal_error(x, v3error_text(e));
    return e == V3_OK;
}

/* The peer URLs of a change that is allowed; false: an error has been
 * answered. */
static bool read_peer_urls(struct server *s, struct http_exchange *x,
                           struct url_list *out)
{
    struct buf body = {0};
    const char *why = "";
    struct err e = {0};
    int rc;

    if (!is_json(x))
        return false;
    rc = http_read_body(x, &body, JSON_BYTES_MAX, &why);
    if (rc == HTTP_EBODY_LARGE)
        why = "http: request body too large";
    else if (rc == HTTP_EBODY_BUSY)
        why = "too many large requests at once, try again";
    else if (rc == HTTP_EBODY_IO)
        why = "unexpected EOF";
    if (rc == 0 && parse_peer_urls(&body, out, &e) < 0) {
        rc = -1;
        why = e.msg;
    }
    if (rc < 0)
        v2_message(x, 400, "%s", why);
    buf_release(&body);
    if (rc == 0 && !v3_allows(s, x)) {
        url_list_release(out);
        rc = -1;
    }
    return rc == 0;
}

static void post_member(struct server *s, struct http_exchange *x)
{
    struct url_list urls;
    struct member m;
    int rc;

    if (!read_peer_urls(s, x, &urls))
        return;
    rc = server_add_member(s, &urls, false, &m);
    url_list_release(&urls);
    if (rc == CLUSTER_EID_EXISTS || rc == CLUSTER_EURL_EXISTS) {
        v2_message(x, 409, "%s", cluster_error_text(rc));
    } else if (rc < 0) {
        v2_internal_error(x, server_error_text(rc));
    } else {
        reply_member(x, 201, &m);
        member_release(&m);
    }
}

/* The answer to a change or removal of a member. */
static void reply_changed(struct http_exchange *x, uint64_t id, int rc)
{
    if (rc == CLUSTER_EID_NOT_FOUND) {
        v2_message(x, 404, "No such member: %" PRIx64, id);
    } else if (rc < 0) {
        v2_internal_error(x, server_error_text(rc));
    } else {
        http_set_status(x, 204);
        http_send(x, NULL, 0);
    }
}

static void put_member(struct server *s, struct http_exchange *x, uint64_t id)
{
    struct url_list urls;
    int rc;

    if (!read_peer_urls(s, x, &urls))
        return;
    rc = server_update_member(s, id, &urls);
    url_list_release(&urls);
    if (rc == CLUSTER_EURL_EXISTS)
        v2_message(x, 409, "%s", cluster_error_text(rc));
    else
        reply_changed(x, id, rc);
}

static void delete_member(struct server *s, struct http_exchange *x,
                          uint64_t id)
{
    int rc;

    if (!v3_allows(s, x))
        return;
    rc = server_remove_member(s, id);
    if (rc == CLUSTER_EID_REMOVED)
        v2_message(x, 410, "Member permanently removed: %" PRIx64, id);
    else
        reply_changed(x, id, rc);
}

/* As strconv.ParseUint(s, 16, 64) has it: with any number of zeros before. */
static bool parse_member_id(struct str s, uint64_t *out)
{
    while (s.n > 1 && s.p[0] == '0')
        s.p++, s.n--;
    return str_hex_to_u64(s, out);
}

static void change_member(struct server *s, struct http_exchange *x,
                          struct str name)
{
    uint64_t id;

    if (name.n == 0)
        http_error(x, 405, "Method Not Allowed");
    else if (!parse_member_id(name, &id))
        v2_message_named(x, 404, "No such member: ", name);
    else if (http_method_is(x, "PUT"))
        put_member(s, x, id);
    else
        delete_member(s, x, id);
}

static void serve_members(struct server *s, struct http_exchange *x)
{
    struct str path = http_path(x), name;
    size_t n = strlen(MEMBERS_PREFIX);

    if (!v2_allow(x, "GET,POST,DELETE,PUT"))
        return;
    if (!http_method_is(x, "GET") && !v2auth_is_root(s, x)) {
        v2_message(x, 401, "Insufficient credentials");
        return;
    }
    v2_set_cluster_id(s, x);
    name = (struct str){path.p + n, path.n - n};
    if (name.n)
        name.p++, name.n--; /* the slash */
    if (http_method_is(x, "GET"))
        get_members(s, x, name);
    else if (http_method_is(x, "POST"))
        post_member(s, x);
    else
        change_member(s, x, name);
}

/* --- Machines. ---------------------------------------------------------- */

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void serve_machines(struct server *s, struct http_exchange *x)
{
    struct member *members;
    char **urls = NULL;
    size_t n, n_urls = 0;
    struct buf b = {0};

    if (!v2_allow(x, "GET,HEAD"))
        return;
    n = cluster_members(server_cluster(s), &members);
    for (size_t i = 0; i < n; i++) {
        size_t more = members[i].n_client_urls;

        urls = xrealloc(urls, (n_urls + more) * sizeof(*urls));
        for (size_t k = 0; k < more; k++)
            urls[n_urls++] = members[i].client_urls[k]; /* borrowed */
    }
    if (n_urls)
        qsort(urls, n_urls, sizeof(*urls), compare_strings);
    for (size_t i = 0; i < n_urls; i++) {
        if (i)
            buf_adds(&b, ", ");
        buf_adds(&b, urls[i]);
    }
    http_reply(x, 200, "text/plain; charset=utf-8", b.data, b.len);
    buf_release(&b);
    free(urls);
    members_free(members, n);
}

/* --- Statistics. -------------------------------------------------------- */

static void serve_store_stats(struct server *s, struct http_exchange *x)
{
    struct buf b = {0};

    if (!v2_allow(x, "GET"))
        return;
    server_v2_stats(s, &b);
    reply_json(x, 200, &b);
    buf_release(&b);
}

static void add_rate(struct buf *b, const char *name, double v)
{
    if (v <= 0)
        return;
    buf_printf(b, ",\"%s\":", name);
    metrics_add_json_float(b, v);
}

static void add_time(struct buf *b, int64_t wall_ns)
{
    char text[SYS_RFC3339_MAX];

    sys_rfc3339(text, wall_ns);
    buf_printf(b, "\"startTime\":\"%s\"", text);
}

static void add_leader_info(struct buf *b, const struct server_status *st)
{
    char uptime[SYS_DURATION_MAX];

    sys_duration(uptime, sys_mono_ns() - st->leader_since_ns);
    buf_adds(b, ",\"leaderInfo\":{\"leader\":\"");
    if (st->raft.leader)
        buf_printf(b, "%" PRIx64, st->raft.leader);
    buf_printf(b, "\",\"uptime\":\"%s\",", uptime);
    add_time(b, st->leader_since_wall_ns);
    buf_addc(b, '}');
}

static void serve_self_stats(struct server *s, struct http_exchange *x)
{
    struct transport_stats ts;
    struct server_status st;
    struct buf b = {0};

    if (!v2_allow(x, "GET"))
        return;
    server_status(s, &st);
    transport_stats(server_transport(s), &ts);
    buf_adds(&b, "{\"name\":");
    json_add_string(&b, str_of(server_config(s)->name));
    buf_printf(&b, ",\"id\":\"%" PRIx64 "\",\"state\":\"%s\",", server_id(s),
               st.raft.role == RAFT_LEADER ? "StateLeader" : "StateFollower");
    add_time(&b, st.start_wall_ns);
    add_leader_info(&b, &st);
    buf_printf(&b, ",\"recvAppendRequestCnt\":%" PRIu64, ts.recv_append);
    add_rate(&b, "recvPkgRate", ts.recv_pkg_rate);
    add_rate(&b, "recvBandwidthRate", ts.recv_bandwidth);
    buf_printf(&b, ",\"sendAppendRequestCnt\":%" PRIu64, ts.sent_append);
    add_rate(&b, "sendPkgRate", ts.send_pkg_rate);
    add_rate(&b, "sendBandwidthRate", ts.send_bandwidth);
    buf_addc(&b, '}');
    reply_json(x, 200, &b);
    buf_release(&b);
}

static void serve_leader_stats(struct server *s, struct http_exchange *x)
{
    struct buf b = {0};

    if (!v2_allow(x, "GET"))
        return;
    if (!server_is_leader(s)) {
        v2_message(x, 403, "not current leader");
        return;
    }
    transport_leader_stats_json(server_transport(s), &b);
    reply_json(x, 200, &b);
    buf_release(&b);
}
