/*
 * discovery.c - how members that do not know each other yet find together.
 *
 * --discovery URL: a directory of the v2 keys API of another cluster.
 *
 *   TOKEN/_config/size   how many members the cluster will have
 *   TOKEN/ID             "name=peerURL,name=peerURL", one file a member
 *
 * Who comes writes its file, if it is not there, and then lists and watches
 * until there are `size` files. The first `size` of them, by createdIndex, are
 * the members: everyone who looks sees the same ones, so all derive the same
 * ids. One loop does it: list, and if some are missing, wait for any change
 * after the index of that list, and list again; no event can be missed, and
 * nothing need be understood of it.
 *
 * --discovery-srv DOMAIN: SRV records name the peers. They do not know which
 * of them is which, so each member gives its own name to the record that
 * leads to its own address, and calls the others 0, 1, 2: names are not part
 * of the ids.
 */
#include "discovery.h"

#include "client.h"
#include "cluster.h"
#include "dns.h"
#include "json.h"
#include "log.h"
#include "sys.h"
#include "wal.h"

#include <inttypes.h>
#include <stdio.h>

#define PKG "discovery"
#define CALL_MS 5000
#define WATCH_MS (5 * 60 * 1000)
#define BACKOFF_MAX 8 /* 2^8 seconds */
#define BODY_MAX (4 * 1024 * 1024)
#define SIZE_MAX_MEMBERS 1000
#define LOOKUP_MS 10000

/* --- One request to the service. ---------------------------------------- */

struct discovery {
    struct url url;
    char *token;    /* path of the directory, without a slash at its end */
    char self[17];  /* this member's id, in hex */
    char *contents; /* "name=url,name=url" */
    unsigned retries;
    size_t announced; /* members that the log has named already */
};

/* An answer of the keys API: the parsed body and the store's index. */
struct answer {
    int status;
    uint64_t index;
    struct json *body;
};

static void answer_release(struct answer *a)
{
    json_free(a->body);
    *a = (struct answer){0};
}

/* 0; DISCOVERY_EIO: worth another try; or DISCOVERY_EINVAL. */
static int call(const struct discovery *d, const char *method,
                const char *target, const char *form, int64_t timeout_ms,
                struct answer *out, struct err *e)
{
    struct client_request r = {
        .method = method,
        .base = &d->url,
        .target = target,
        .headers =
            form ? "Content-Type: application/x-www-form-urlencoded\r\n" : NULL,
        .body = form,
        .n_body = form ? strlen(form) : 0,
        .dial_ms = CALL_MS,
        .timeout_ms = timeout_ms,
        .body_max = BODY_MAX,
    };
    struct client_response resp;
    struct answer a = {0};
    int rc = 0;

    if (client_do(&r, &resp, e) < 0)
        return DISCOVERY_EIO;
    a.status = resp.status;
    str_to_u64(http_header(&resp.head, "X-Etcd-Index"), &a.index);
    if (resp.status >= 500)
        rc = err_set(e, DISCOVERY_EIO, "server error [%d %s]", resp.status,
                     http_status_text(resp.status));
    else if (json_parse(resp.body.data, resp.body.len, &a.body, NULL) < 0)
        rc = err_set(e, DISCOVERY_EINVAL, "discovery: bad discovery endpoint");
    client_response_release(&resp);
    if (rc == 0)
        *out = a;
    return rc;
}

static uint64_t error_code(const struct answer *a)
{
    uint64_t code = 0;

    json_u64(json_get(a->body, "errorCode"), &code);
    return code;
}

/* The error that the service gave, as Go's client prints it. */
static int service_error(const struct answer *a, struct err *e)
{
    struct str message = json_text(json_get(a->body, "message"), "");
    struct str cause = json_text(json_get(a->body, "cause"), "");

    return err_set(e, DISCOVERY_EINVAL,
                   "%" PRIu64 ": %.*s (%.*s) [%" PRIu64 "]", error_code(a),
                   STR_FMT(message), STR_FMT(cause), a->index);
}

static void back_off(struct discovery *d, const char *step, const char *why)
{
    char pause[SYS_DURATION_MAX];
    int64_t s;

    if (d->retries < BACKOFF_MAX)
        d->retries++;
    s = INT64_C(1) << d->retries;
    sys_duration(pause, s * NS_PER_S);
    log_error(PKG, "error #0: %s", why);
    log_info(PKG, "%s: error connecting to %s://%s:%s, retrying in %s", step,
             d->url.scheme, d->url.host, d->url.port, pause);
    sys_sleep_ms(s * 1000);
}

/* GET until the service answers. */
static int get_patiently(struct discovery *d, const char *path,
                         struct answer *out, struct err *e)
{
    char *target =
        xasprintf("%s?quorum=false&recursive=false&sorted=false", path);
    int rc;

    while ((rc = call(d, "GET", target, NULL, CALL_MS, out, e)) ==
           DISCOVERY_EIO)
        back_off(d, "cluster status check", e->msg);
    free(target);
    return rc;
}

/* --- The directory of members. ------------------------------------------ */

struct entry {
    struct str id, value; /* borrowed from the answer */
    uint64_t created;
};

struct listing {
    struct answer answer;
    struct entry *entries; /* by rising createdIndex; the first `size` count */
    size_t n, size;
};

static void listing_release(struct listing *l)
{
    free(l->entries);
    answer_release(&l->answer);
    *l = (struct listing){0};
}

static struct str base_name(struct str path)
{
    size_t i = path.n;

    while (i > 0 && path.p[i - 1] != '/')
        i--;
    return (struct str){path.p + i, path.n - i};
}

static int by_created(const void *pa, const void *pb)
{
    const struct entry *a = pa, *b = pb;

    return (a->created > b->created) - (a->created < b->created);
}

static int get_size(struct discovery *d, size_t *size, struct err *e)
{
    char *path = xasprintf("%s/_config/size", d->token);
    struct answer a = {0};
    uint64_t n;
    int rc = get_patiently(d, path, &a, e);

    free(path);
    if (rc < 0)
        return rc;
    if (error_code(&a) == 100)
        rc = err_set(e, DISCOVERY_EINVAL, "discovery: size key not found");
    else if (a.status != 200)
        rc = service_error(&a, e);
    else if (!str_to_u64(
                 json_text(json_get(json_get(a.body, "node"), "value"), ""),
                 &n) ||
             n == 0 || n > SIZE_MAX_MEMBERS)
        rc = err_set(e, DISCOVERY_EINVAL, "discovery: size key is bad");
    else
        *size = (size_t)n;
    answer_release(&a);
    return rc;
}

static void read_entries(struct listing *l)
{
    const struct json *nodes =
        json_get(json_get(l->answer.body, "node"), "nodes");

    if (!nodes || nodes->type != JSON_ARRAY)
        return;
    l->entries = xcalloc(nodes->n, sizeof(*l->entries));
    for (const struct json *n = nodes->first; n; n = n->next) {
        struct entry e = {
            .id = base_name(json_text(json_get(n, "key"), "")),
            .value = json_text(json_get(n, "value"), ""),
        };

        json_u64(json_get(n, "createdIndex"), &e.created);
        if (!str_eqz(e.id, "_config"))
            l->entries[l->n++] = e;
    }
    qsort(l->entries, l->n, sizeof(*l->entries), by_created);
}

/* Who has registered so far. DISCOVERY_EFULL if there is no place for us. */
static int list(struct discovery *d, struct listing *out, struct err *e)
{
    struct listing l = {0};
    bool here = false;
    int rc = get_size(d, &l.size, e);

    if (rc == 0)
        rc = get_patiently(d, d->token, &l.answer, e);
    if (rc < 0)
        return rc;
    if (l.answer.status != 200) {
        rc = service_error(&l.answer, e);
        listing_release(&l);
        return rc;
    }
    d->retries = 0;
    read_entries(&l);
    if (l.n > l.size)
        l.n = l.size;
    for (size_t i = 0; i < l.n; i++)
        here |= str_eqz(l.entries[i].id, d->self);
    if (l.n == l.size && !here) {
        listing_release(&l);
        return err_set(e, DISCOVERY_EFULL, "discovery: cluster is full");
    }
    *out = l;
    return 0;
}

static int register_self(struct discovery *d, struct err *e)
{
    char *target = xasprintf("%s/%s?prevExist=false", d->token, d->self);
    struct buf form = {0};
    struct answer a = {0};
    int rc;

    buf_adds(&form, "value=");
    url_encode_query(&form, str_of(d->contents));
    rc = call(d, "PUT", target, buf_z(&form), CALL_MS, &a, e);
    free(target);
    buf_release(&form);
    if (rc < 0)
        return rc;
    if (error_code(&a) == 105)
        rc = err_set(e, DISCOVERY_EDUPLICATE, "discovery: found duplicate id");
    else if (a.status != 200 && a.status != 201)
        rc = service_error(&a, e);
    answer_release(&a);
    return rc;
}

static void announce(struct discovery *d, const struct listing *l)
{
    for (; d->announced < l->n; d->announced++) {
        struct str id = l->entries[d->announced].id;
        bool self = str_eqz(id, d->self);

        log_notice(PKG, "found %s %.*s in the cluster", self ? "self" : "peer",
                   STR_FMT(id));
    }
    if (l->n < l->size)
        log_notice(PKG, "found %zu peer(s), waiting for %zu more", l->n,
                   l->size - l->n);
    else
        log_notice(PKG, "found %zu needed peer(s)", l->n);
}

/* Until something changes after the listing, or it is time to look anyway. */
static void await_change(struct discovery *d, const struct listing *l)
{
    char *target = xasprintf("%s?recursive=true&wait=true&waitIndex=%" PRIu64,
                             d->token, l->answer.index + 1);
    int64_t began = sys_mono_ns();
    struct answer a = {0};
    struct err e = {0};
    int rc = call(d, "GET", target, NULL, WATCH_MS, &a, &e);

    free(target);
    if (rc == DISCOVERY_EIO && sys_mono_ns() - began < NS_PER_S)
        back_off(d, "waiting for other nodes", e.msg);
    else if (rc < 0 || a.status != 200)
        sys_sleep_ms(1000);
    answer_release(&a);
}

/* "name=url,..." of all, checked: the names differ, and the URLs are some. */
static int to_cluster(const struct listing *l, const char *token, char **out,
                      struct err *e)
{
    struct cluster *c = cluster_new();
    struct buf b = {0};
    struct err why;
    int rc = 0;

    for (size_t i = 0; i < l->n; i++)
        buf_printf(&b, "%s%.*s", i ? "," : "", STR_FMT(l->entries[i].value));
    if (cluster_from_flag(c, buf_z(&b), token, &why) < 0)
        rc = err_set(e, DISCOVERY_EINVAL, "discovery: invalid URL (%s)",
                     why.msg);
    else if (cluster_size(c) != l->size)
        rc =
            err_set(e, DISCOVERY_EDUPLICATE, "discovery: found duplicate name");
    cluster_free(c);
    if (rc == 0)
        *out = buf_steal(&b);
    buf_release(&b);
    return rc;
}

static int join(struct discovery *d, const char *token, char **out,
                struct err *e)
{
    struct listing l = {0};
    int rc = list(d, &l, e); /* a full cluster is not worth registering */

    listing_release(&l);
    if (rc == 0)
        rc = register_self(d, e);
    while (rc == 0) {
        rc = list(d, &l, e);
        if (rc < 0)
            break;
        announce(d, &l);
        if (l.n == l.size) {
            rc = to_cluster(&l, token, out, e);
            listing_release(&l);
            break;
        }
        await_change(d, &l);
        listing_release(&l);
    }
    return rc;
}

/* --- The v2 discovery service. ------------------------------------------ */

static void discovery_release(struct discovery *d)
{
    url_release(&d->url);
    free(d->token);
    free(d->contents);
}

static int discovery_init(struct discovery *d, const struct config *c,
                          struct err *e)
{
    struct buf b = {0};
    struct str path;
    struct err why;

    *d = (struct discovery){0};
    if (url_parse(str_of(c->discovery), &d->url, &why) < 0 ||
        (strcmp(d->url.scheme, "http") != 0 &&
         strcmp(d->url.scheme, "https") != 0) ||
        !*d->url.host) {
        discovery_release(d);
        return err_set(e, DISCOVERY_EINVAL, "discovery: invalid URL");
    }
    path = str_of(d->url.path);
    while (path.n && path.p[path.n - 1] == '/')
        path.n--;
    url_encode_path(&b, path);
    d->token = buf_steal(&b);
    snprintf(d->self, sizeof(d->self), "%" PRIx64,
             member_id(&c->initial_advertise_peer_urls, c->discovery, NULL));
    for (size_t i = 0; i < c->initial_advertise_peer_urls.n; i++)
        buf_printf(&b, "%s%s=%s", i ? "," : "", c->name,
                   c->initial_advertise_peer_urls.urls[i].raw);
    d->contents = buf_steal(&b);
    return 0;
}

static void log_hints(const struct config *c, int code)
{
    if (code == DISCOVERY_EDUPLICATE) {
        log_error("etcdmain",
                  "member \"%s\" has previously registered with "
                  "discovery service token (%s).",
                  c->name, c->discovery);
        log_error("etcdmain",
                  "But etcd could not find valid cluster "
                  "configuration in the given data dir (%s).",
                  c->data_dir);
        log_info("etcdmain", "Please check the given data dir path if the "
                             "previous bootstrap succeeded");
        log_info("etcdmain", "or use a new discovery token if the previous "
                             "bootstrap failed.");
        return;
    }
    log_info("etcdmain",
             "discovery token %s was used, but failed to "
             "bootstrap the cluster.",
             c->discovery);
    log_info("etcdmain", "please generate a new discovery token and try to "
                         "bootstrap again.");
}

static void replace(char **s, char *with)
{
    free(*s);
    *s = with;
}

static int join_service(struct config *c, struct err *e)
{
    struct discovery d;
    struct err why = {0};
    char *found = NULL;
    int rc = discovery_init(&d, c, &why);

    if (rc == 0) {
        rc = join(&d, c->discovery, &found, &why);
        discovery_release(&d);
    }
    if (rc < 0) {
        log_hints(c, rc);
        return err_set(e, rc, "failed to join discovery cluster (%s)", why.msg);
    }
    replace(&c->initial_cluster, found);
    replace(&c->initial_cluster_token, xstrdup(c->discovery));
    return 0;
}

/* --- DNS SRV records. --------------------------------------------------- */

/* Does url lead to an address that we advertise? *scheme: ours there. */
static bool leads_here(const struct config *c, const char *url,
                       const char **scheme)
{
    const struct url_list *ours = &c->initial_advertise_peer_urls;
    char *there = NULL, *here;
    bool same = false;

    if (cluster_resolve_url(url, &there, NULL) < 0)
        return false;
    for (size_t i = 0; i < ours->n && !same; i++) {
        if (cluster_resolve_url(ours->urls[i].raw, &here, NULL) < 0)
            continue;
        same = strcmp(strstr(there, "://"), strstr(here, "://")) == 0;
        *scheme = ours->urls[i].scheme;
        free(here);
    }
    free(there);
    return same;
}

/* "name=url" of one record. *others: how many of them have a number as name. */
static int add_record(const struct config *c, const struct dns_srv *record,
                      const char *service, const char *scheme, unsigned *others,
                      struct buf *out, struct err *e)
{
    const char *our_scheme = scheme;
    char *url =
        xasprintf("%s://%s:%u", scheme, record->target, (unsigned)record->port);
    bool here = leads_here(c, url, &our_scheme);
    char *item;
    int rc = 0;

    if (here && strcmp(our_scheme, scheme) != 0) {
        rc = err_set(e, DISCOVERY_EINVAL,
                     "bootstrap at %s from DNS for %s has scheme mismatch "
                     "with expected peer %s",
                     url, service, our_scheme);
    } else {
        item = here ? xasprintf("%s=%s", c->name, url)
                    : xasprintf("%u=%s", (*others)++, url);
        log_notice("embed", "got bootstrap from DNS for etcd-server at %s",
                   item);
        buf_printf(out, "%s%s", out->len ? "," : "", item);
        free(item);
    }
    free(url);
    return rc;
}

/* Add the members that the records of one service name. */
static int add_records(const struct config *c, const char *service,
                       const char *scheme, struct buf *out, struct err *e)
{
    struct dns_srv *records = xcalloc(DNS_SRV_MAX, sizeof(*records));
    const char *dash = *c->discovery_srv_name ? "-" : "";
    char *full = xasprintf("_%s%s%s", service, dash, c->discovery_srv_name);
    char *name = xasprintf("%s._tcp.%s", full, c->discovery_srv);
    unsigned others = 0;
    struct err why = {0};
    size_t n = 0;
    int rc = 0;

    if (dns_lookup_srv(name, sys_mono_ns() + LOOKUP_MS * NS_PER_MS, records, &n,
                       &why) < 0)
        rc = err_set(e, DISCOVERY_EIO,
                     "error querying DNS SRV records for %s %s", full, why.msg);
    for (size_t i = 0; i < n; i++)
        if (add_record(c, &records[i], service, scheme, &others, out, e) < 0)
            rc = DISCOVERY_EINVAL;
    free(full);
    free(name);
    free(records);
    return rc;
}

static bool has_member(struct str list_text, const char *name)
{
    struct str item, head;
    bool more;

    do {
        more = str_cut(&list_text, ',', &item);
        str_cut(&item, '=', &head);
        if (str_eqz(head, name))
            return true;
    } while (more);
    return false;
}

/* Encrypted peers and plain ones may both be there; one kind is enough. */
static int find_by_srv(struct config *c, struct err *e)
{
    struct buf found = {0};
    struct err secure = {0}, plain = {0};
    int rc_secure = add_records(c, "etcd-server-ssl", "https", &found, &secure);
    int rc_plain = add_records(c, "etcd-server", "http", &found, &plain);
    int rc = 0;

    if (rc_secure < 0 && rc_plain < 0) {
        log_error("embed", "couldn't resolve during SRV discovery (%s)",
                  plain.msg);
        rc = err_set(e, DISCOVERY_EIO, "error setting up initial cluster: %s",
                     secure.msg);
    } else if (!has_member(buf_str(&found), c->name)) {
        rc = err_set(e, DISCOVERY_EINVAL,
                     "error setting up initial cluster: cannot find local "
                     "etcd member \"%s\" in SRV records",
                     c->name);
    }
    if (rc == 0)
        replace(&c->initial_cluster, buf_steal(&found));
    buf_release(&found);
    return rc;
}

/* --- Which of them. ----------------------------------------------------- */

/* A member that has a log knows its cluster from there. */
static bool has_log(const struct config *c)
{
    char *dir =
        *c->wal_dir ? xstrdup(c->wal_dir) : xasprintf("%s/wal", c->member_dir);
    bool has = wal_exists(dir);

    free(dir);
    return has;
}

int discovery_resolve(struct config *c, struct err *e)
{
    if ((!*c->discovery && !*c->discovery_srv) || has_log(c))
        return 0;
    return *c->discovery ? join_service(c, e) : find_by_srv(c, e);
}
