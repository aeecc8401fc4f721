/*
 * cluster.c - membership: who is in the cluster, and which changes may be.
 *
 * The truth stands in the v2 store, where every member has the same tree:
 *
 *   /0/members/ID/raftAttributes  {"peerURLs":[...],"isLearner":true}
 *   /0/members/ID/attributes      {"name":"n1","clientURLs":[...]}
 *   /0/removed_members/ID         "": an id never comes back
 *   /0/version                    3.4.0
 *
 * struct cluster is the parsed form: an array of members by rising id, the
 * ids of the removed, and the version. A change of membership writes the store
 * first and the parsed form after; cluster_recover() reads it all again.
 *
 * INVARIANTS
 *   1. members is sorted by id, without duplicates, and so is removed.
 *   2. No id is in both.
 *   3. What is written to the store depends on the log alone, so it is the
 *      same, byte for byte, on every member, whoever implements it.
 */
#include "cluster.h"

#include "dns.h"
#include "hash.h"
#include "json.h"
#include "log.h"
#include "sys.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>

#define PKG "etcdserver/membership"
#define RESOLVE_MS 10000 /* for names of peer URLs, when they must compare */

#define MEMBERS_DIR "/0/members"
#define REMOVED_DIR "/0/removed_members"
#define VERSION_PATH "/0/version"

struct cluster {
    pthread_mutex_t mu; /* guards all below */
    uint64_t id;
    struct member *members;
    size_t n;
    struct raft_ids removed;
    char version[32];
};

const char *cluster_error_text(int code)
{
    switch (code) {
    case CLUSTER_OK:
        return "";
    case CLUSTER_EID_REMOVED:
        return "membership: ID removed";
    case CLUSTER_EID_EXISTS:
        return "membership: ID exists";
    case CLUSTER_EID_NOT_FOUND:
        return "membership: ID not found";
    case CLUSTER_EURL_EXISTS:
        return "membership: peerURL exists";
    case CLUSTER_ETOO_MANY_LEARNERS:
        return "membership: too many learner members in cluster";
    case CLUSTER_ENOT_LEARNER:
        return "membership: can only promote a learner member";
    default:
        return "membership: invalid member";
    }
}

/* --- Members. ----------------------------------------------------------- */

static void free_strings(char **s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(s[i]);
    free(s);
}

static char **copy_strings(char *const *s, size_t n)
{
    char **out;

    if (n == 0)
        return NULL;
    out = xcalloc(n, sizeof(*out));
    for (size_t i = 0; i < n; i++)
        out[i] = xstrdup(s[i]);
    return out;
}

void member_release(struct member *m)
{
    free(m->name);
    free_strings(m->peer_urls, m->n_peer_urls);
    free_strings(m->client_urls, m->n_client_urls);
    *m = (struct member){0};
}

void member_copy(struct member *dst, const struct member *src)
{
    *dst = (struct member){
        .id = src->id,
        .name = xstrdup(src->name ? src->name : ""),
        .peer_urls = copy_strings(src->peer_urls, src->n_peer_urls),
        .n_peer_urls = src->n_peer_urls,
        .client_urls = copy_strings(src->client_urls, src->n_client_urls),
        .n_client_urls = src->n_client_urls,
        .is_learner = src->is_learner,
    };
}

void members_free(struct member *m, size_t n)
{
    for (size_t i = 0; i < n; i++)
        member_release(&m[i]);
    free(m);
}

bool member_same_peer_urls(const struct member *a, const struct member *b)
{
    if (a->n_peer_urls != b->n_peer_urls)
        return false;
    for (size_t i = 0; i < a->n_peer_urls; i++)
        if (strcmp(a->peer_urls[i], b->peer_urls[i]) != 0)
            return false;
    return true;
}

static struct member *members_dup(const struct member *m, size_t n)
{
    struct member *out;

    if (n == 0)
        return NULL;
    out = xcalloc(n, sizeof(*out));
    for (size_t i = 0; i < n; i++)
        member_copy(&out[i], &m[i]);
    return out;
}

uint64_t member_id(const struct url_list *peer_urls, const char *token,
                   const int64_t *unix_s)
{
    uint8_t digest[SHA1_SIZE];
    struct buf b = {0};

    url_list_print(&b, peer_urls, "");
    buf_adds(&b, token);
    if (unix_s)
        buf_printf(&b, "%" PRId64, *unix_s);
    hash_once(HASH_SHA1, b.data, b.len, digest);
    buf_release(&b);
    return get_u64be(digest);
}

/* --- JSON. -------------------------------------------------------------- */

/* Go writes a slice without elements that nobody made as null. */
static void add_strings(struct buf *b, char *const *s, size_t n)
{
    if (n == 0) {
        buf_adds(b, "null");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        buf_addc(b, i ? ',' : '[');
        json_add_string(b, str_of(s[i]));
    }
    buf_addc(b, ']');
}

/* The fields of raftAttributes, without braces. */
static void add_raft_attributes(struct buf *b, const struct member *m)
{
    buf_adds(b, "\"peerURLs\":");
    add_strings(b, m->peer_urls, m->n_peer_urls);
    if (m->is_learner)
        buf_adds(b, ",\"isLearner\":true");
}

void member_json(struct buf *b, const struct member *m, int is_promote)
{
    buf_printf(b, "{\"id\":%" PRIu64 ",", m->id);
    add_raft_attributes(b, m);
    if (m->name && *m->name) {
        buf_adds(b, ",\"name\":");
        json_add_string(b, str_of(m->name));
    }
    if (m->n_client_urls) {
        buf_adds(b, ",\"clientURLs\":");
        add_strings(b, m->client_urls, m->n_client_urls);
    }
    if (is_promote >= 0)
        buf_printf(b, ",\"isPromote\":%s", is_promote ? "true" : "false");
    buf_addc(b, '}');
}

static int strings_from_json(const struct json *j, char ***out, size_t *n,
                             struct err *e)
{
    size_t i = 0;

    if (!j || j->type == JSON_NULL || (j->type == JSON_ARRAY && j->n == 0))
        return 0;
    if (j->type != JSON_ARRAY)
        return err_set(e, CLUSTER_EINVAL, "member: %.*s is not an array",
                       STR_FMT(j->name));
    *out = xcalloc(j->n, sizeof(**out));
    for (const struct json *c = j->first; c; c = c->next, i++) {
        if (c->type != JSON_STRING || memchr(c->text.p, '\0', c->text.n))
            return err_set(e, CLUSTER_EINVAL, "member: bad URL in %.*s",
                           STR_FMT(j->name));
        (*out)[i] = xstrndup(c->text.p, c->text.n);
        *n = i + 1;
    }
    return 0;
}

/* Name and client URLs of m from an object; what is absent stays. */
static int attributes_from_json(const struct json *j, struct member *m,
                                struct err *e)
{
    struct str name = json_text(json_get(j, "name"), "");

    if (memchr(name.p, '\0', name.n))
        return err_set(e, CLUSTER_EINVAL, "member: NUL in name");
    free(m->name);
    m->name = xstrndup(name.p, name.n);
    free_strings(m->client_urls, m->n_client_urls);
    m->client_urls = NULL;
    m->n_client_urls = 0;
    return strings_from_json(json_get(j, "clientURLs"), &m->client_urls,
                             &m->n_client_urls, e);
}

static int member_from_tree(const struct json *j, struct member *out,
                            bool *is_promote, struct err *e)
{
    const struct json *id = json_get(j, "id");
    struct member m = {0};

    if (j->type != JSON_OBJECT)
        return err_set(e, CLUSTER_EINVAL, "member: not a JSON object");
    if ((id && !json_u64(id, &m.id)) ||
        strings_from_json(json_get(j, "peerURLs"), &m.peer_urls, &m.n_peer_urls,
                          e) < 0 ||
        attributes_from_json(j, &m, e) < 0) {
        member_release(&m);
        return err_set(e, CLUSTER_EINVAL, "member: malformed JSON");
    }
    m.is_learner = json_bool(json_get(j, "isLearner"), false);
    if (is_promote)
        *is_promote = json_bool(json_get(j, "isPromote"), false);
    *out = m;
    return 0;
}

int member_from_json(const void *p, size_t n, struct member *out,
                     bool *is_promote, struct err *e)
{
    struct json *j;
    int rc;

    if (json_parse(p, n, &j, e) < 0)
        return CLUSTER_EINVAL;
    rc = member_from_tree(j, out, is_promote, e);
    json_free(j);
    return rc;
}

int members_from_json(const void *p, size_t n, struct member **out,
                      size_t *n_out, struct err *e)
{
    struct member *m;
    struct json *j;
    size_t i = 0;
    int rc = 0;

    if (json_parse(p, n, &j, e) < 0)
        return CLUSTER_EINVAL;
    if (j->type != JSON_ARRAY) {
        json_free(j);
        return err_set(e, CLUSTER_EINVAL, "members: not a JSON array");
    }
    m = xcalloc(j->n, sizeof(*m));
    for (const struct json *c = j->first; c && rc == 0; c = c->next)
        if ((rc = member_from_tree(c, &m[i], NULL, e)) == 0)
            i++;
    json_free(j);
    if (rc < 0) {
        members_free(m, i);
        return rc;
    }
    *out = m;
    *n_out = i;
    return 0;
}

void cluster_attributes_path(struct buf *b, uint64_t id)
{
    buf_printf(b, MEMBERS_DIR "/%" PRIx64 "/attributes", id);
}

void cluster_attributes_json_of(struct buf *b, struct str name,
                                const struct str *client_urls, size_t n)
{
    const char *sep = "";

    buf_addc(b, '{');
    if (name.n) {
        buf_adds(b, "\"name\":");
        json_add_string(b, name);
        sep = ",";
    }
    for (size_t i = 0; i < n; i++) {
        buf_printf(b, "%s", i ? "," : sep);
        if (i == 0)
            buf_adds(b, "\"clientURLs\":[");
        json_add_string(b, client_urls[i]);
    }
    buf_adds(b, n ? "]}" : "}");
}

void cluster_attributes_json(struct buf *b, const char *name,
                             const struct url_list *client_urls)
{
    struct str *urls = xcalloc(client_urls->n + 1, sizeof(*urls));

    for (size_t i = 0; i < client_urls->n; i++)
        urls[i] = str_of(client_urls->urls[i].raw);
    cluster_attributes_json_of(b, str_of(name), urls, client_urls->n);
    free(urls);
}

/* --- The parsed form. --------------------------------------------------- */

/* Readers take the lock as well, so they look constant only from outside. */
static void lock(const struct cluster *c)
{
    pthread_mutex_lock(&((struct cluster *)c)->mu);
}

static void unlock(const struct cluster *c)
{
    pthread_mutex_unlock(&((struct cluster *)c)->mu);
}

struct cluster *cluster_new(void)
{
    struct cluster *c = xcalloc(1, sizeof(*c));

    pthread_mutex_init(&c->mu, NULL);
    return c;
}

void cluster_free(struct cluster *c)
{
    if (!c)
        return;
    members_free(c->members, c->n);
    free(c->removed.ids);
    pthread_mutex_destroy(&c->mu);
    free(c);
}

struct cluster *cluster_copy(const struct cluster *c)
{
    struct cluster *copy = cluster_new();

    lock(c);
    copy->id = c->id;
    copy->members = members_dup(c->members, c->n);
    copy->n = c->n;
    for (size_t i = 0; i < c->removed.n; i++)
        raft_ids_add(&copy->removed, c->removed.ids[i]);
    memcpy(copy->version, c->version, sizeof(c->version));
    unlock(c);
    return copy;
}

static struct member *find(const struct cluster *c, uint64_t id)
{
    for (size_t i = 0; i < c->n; i++)
        if (c->members[i].id == id)
            return &c->members[i];
    return NULL;
}

/* Takes *m; replaces a member of the same id. */
static void put_member(struct cluster *c, struct member *m)
{
    struct member *old = find(c, m->id);
    size_t i = c->n;

    if (old) {
        member_release(old);
        *old = *m;
        return;
    }
    c->members = xrealloc(c->members, (c->n + 1) * sizeof(*c->members));
    for (; i > 0 && c->members[i - 1].id > m->id; i--)
        c->members[i] = c->members[i - 1];
    c->members[i] = *m;
    c->n++;
}

static void drop_member(struct cluster *c, uint64_t id)
{
    struct member *m = find(c, id);
    size_t i;

    if (!m)
        return;
    i = (size_t)(m - c->members);
    member_release(m);
    memmove(m, m + 1, (c->n - i - 1) * sizeof(*m));
    c->n--;
}

static void clear_members(struct cluster *c)
{
    members_free(c->members, c->n);
    c->members = NULL;
    c->n = 0;
}

uint64_t cluster_id(const struct cluster *c)
{
    uint64_t id;

    lock(c);
    id = c->id;
    unlock(c);
    return id;
}

void cluster_set_id(struct cluster *c, uint64_t id)
{
    lock(c);
    c->id = id;
    unlock(c);
}

size_t cluster_members(const struct cluster *c, struct member **out)
{
    size_t n;

    lock(c);
    *out = members_dup(c->members, c->n);
    n = c->n;
    unlock(c);
    return n;
}

bool cluster_member(const struct cluster *c, uint64_t id, struct member *out)
{
    const struct member *m;

    lock(c);
    m = find(c, id);
    if (m && out)
        member_copy(out, m);
    unlock(c);
    return m != NULL;
}

bool cluster_member_by_name(const struct cluster *c, const char *name,
                            struct member *out)
{
    bool found = false;

    lock(c);
    for (size_t i = 0; i < c->n && !found; i++) {
        found = strcmp(c->members[i].name, name) == 0;
        if (found && out)
            member_copy(out, &c->members[i]);
    }
    unlock(c);
    return found;
}

bool cluster_is_removed(const struct cluster *c, uint64_t id)
{
    bool removed;

    lock(c);
    removed = raft_ids_has(&c->removed, id);
    unlock(c);
    return removed;
}

size_t cluster_removed(const struct cluster *c, uint64_t **ids)
{
    size_t n;

    lock(c);
    n = c->removed.n;
    *ids = xcalloc(n + 1, sizeof(**ids));
    for (size_t i = 0; i < n; i++)
        (*ids)[i] = c->removed.ids[i];
    unlock(c);
    return n;
}

size_t cluster_size(const struct cluster *c)
{
    size_t n;

    lock(c);
    n = c->n;
    unlock(c);
    return n;
}

void cluster_version(const struct cluster *c, char out[32])
{
    lock(c);
    memcpy(out, c->version, sizeof(c->version));
    unlock(c);
}

/* --- From flags, and from a running cluster. ---------------------------- */

/* SHA-1 over the ids of the first members, in rising order (spec 3.3). */
static uint64_t derive_id(const struct cluster *c)
{
    uint8_t digest[SHA1_SIZE];
    uint8_t *ids = xcalloc(c->n, 8);

    for (size_t i = 0; i < c->n; i++)
        put_u64be(ids + 8 * i, c->members[i].id);
    hash_once(HASH_SHA1, ids, c->n * 8, digest);
    free(ids);
    return get_u64be(digest);
}

/* One "name=url" of the flag. */
struct flag_item {
    struct str name, url;
};

static int by_name_then_url(const void *pa, const void *pb)
{
    const struct flag_item *a = pa, *b = pb;
    int c = str_cmp(a->name, b->name);

    return c ? c : str_cmp(a->url, b->url);
}

static int by_url(const void *pa, const void *pb)
{
    return str_cmp(((const struct flag_item *)pa)->url,
                   ((const struct flag_item *)pb)->url);
}

static size_t split_flag(struct str flag, struct flag_item *items)
{
    struct str item;
    size_t n = 0;
    bool more;

    do {
        more = str_cut(&flag, ',', &item);
        if (item.n == 0)
            continue;
        str_cut(&item, '=', &items[n].name);
        items[n++].url = item;
    } while (more);
    return n;
}

/* Two entries with one URL, whoever they name, cannot both be reached. */
static int check_duplicates(struct flag_item *items, size_t n, struct err *e)
{
    struct buf all = {0};
    bool twice = false;

    qsort(items, n, sizeof(*items), by_url);
    for (size_t i = 1; i < n; i++)
        twice |= str_eq(items[i - 1].url, items[i].url);
    qsort(items, n, sizeof(*items), by_name_then_url);
    if (!twice)
        return 0;
    for (size_t i = 0; i < n; i++)
        buf_printf(&all, "%s%.*s=%.*s", i ? "," : "", STR_FMT(items[i].name),
                   STR_FMT(items[i].url));
    err_set(e, CLUSTER_EINVAL, "initial cluster %s has duplicate url",
            buf_z(&all));
    buf_release(&all);
    return CLUSTER_EINVAL;
}

/* The member that items[0..n) describe: same name, one URL each. */
static int flag_member(const struct flag_item *items, size_t n,
                       const char *token, struct member *out, struct err *e)
{
    struct url_list urls;
    struct str *s = xcalloc(n, sizeof(*s));
    struct err why;
    int rc;

    for (size_t i = 0; i < n; i++)
        s[i] = items[i].url;
    rc = url_list_of(s, n, &urls, &why);
    free(s);
    if (rc < 0)
        return err_set(e, CLUSTER_EINVAL,
                       "error setting up initial cluster: %s", why.msg);

    *out = (struct member){
        .id = member_id(&urls, token, NULL),
        .name = xstrndup(items[0].name.p, items[0].name.n),
        .peer_urls = xcalloc(urls.n, sizeof(char *)),
        .n_peer_urls = urls.n,
    };
    for (size_t i = 0; i < urls.n; i++)
        out->peer_urls[i] = xstrdup(urls.urls[i].raw);
    url_list_release(&urls);
    return 0;
}

static int flag_members(struct cluster *c, const struct flag_item *items,
                        size_t n, const char *token, struct err *e)
{
    struct member m;
    size_t run;

    for (size_t i = 0; i < n; i += run) {
        for (run = 1; i + run < n; run++)
            if (!str_eq(items[i].name, items[i + run].name))
                break;
        if (flag_member(items + i, run, token, &m, e) < 0)
            return CLUSTER_EINVAL;
        if (m.id == 0 || find(c, m.id)) {
            err_set(e, CLUSTER_EINVAL,
                    "member exists with identical ID "
                    "%" PRIx64,
                    m.id);
            member_release(&m);
            return CLUSTER_EINVAL;
        }
        put_member(c, &m);
    }
    return 0;
}

int cluster_from_flag(struct cluster *c, const char *initial_cluster,
                      const char *token, struct err *e)
{
    struct str flag = str_of(initial_cluster);
    struct flag_item *items;
    size_t cap = 1, n;
    int rc;

    for (size_t i = 0; i < flag.n; i++)
        cap += flag.p[i] == ',';
    items = xcalloc(cap, sizeof(*items));
    n = split_flag(flag, items);
    lock(c);
    clear_members(c);
    if (n == 0)
        rc = err_set(e, CLUSTER_EINVAL,
                     "initial cluster unset and no discovery URL found");
    else if ((rc = check_duplicates(items, n, e)) == 0)
        rc = flag_members(c, items, n, token, e);
    if (rc == 0)
        c->id = derive_id(c);
    else
        clear_members(c);
    unlock(c);
    free(items);
    return rc;
}

void cluster_from_members(struct cluster *c, uint64_t id,
                          const struct member *m, size_t n)
{
    lock(c);
    clear_members(c);
    for (size_t i = 0; i < n; i++) {
        struct member copy;

        member_copy(&copy, &m[i]);
        put_member(c, &copy);
    }
    c->id = id;
    unlock(c);
}

/* The address of a as text, in brackets if it is IPv6. */
static void address_text(const struct dns_addr *a, char *out, size_t n)
{
    char ip[INET6_ADDRSTRLEN] = "";
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    if (a->ss.ss_family == AF_INET) {
        memcpy(&v4, &a->ss, sizeof(v4));
        inet_ntop(AF_INET, &v4.sin_addr, ip, sizeof(ip));
        snprintf(out, n, "%s", ip);
    } else {
        memcpy(&v6, &a->ss, sizeof(v6));
        inet_ntop(AF_INET6, &v6.sin6_addr, ip, sizeof(ip));
        snprintf(out, n, "[%s]", ip);
    }
}

int cluster_resolve_url(const char *url, char **out, struct err *e)
{
    struct dns_addr addrs[DNS_ADDRS_MAX];
    char address[INET6_ADDRSTRLEN + 2];
    struct err why = {0};
    struct url u;
    uint64_t port;
    size_t n = 0;
    int rc = 0;

    if (url_parse(str_of(url), &u, &why) < 0)
        return err_set(e, CLUSTER_EINVAL, "%s", why.msg);
    if (url_is_unix(&u) || !str_to_u64(str_of(u.port), &port) ||
        port > UINT16_MAX) {
        *out = xstrdup(url);
    } else if (dns_lookup(u.host, (uint16_t)port,
                          sys_mono_ns() + RESOLVE_MS * NS_PER_MS, addrs, &n,
                          &why) < 0 ||
               n == 0) {
        rc = err_set(e, CLUSTER_EINVAL, "failed to resolve \"%s\" (%s)", url,
                     why.msg);
    } else {
        address_text(&addrs[0], address, sizeof(address));
        *out = xasprintf("%s://%s:%s", u.scheme, address, u.port);
    }
    url_release(&u);
    return rc;
}

static int by_string(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorted, resolved copies of n URLs. */
static int resolve_urls(char *const *urls, size_t n, char ***out, struct err *e)
{
    char **r = xcalloc(n, sizeof(*r));

    for (size_t i = 0; i < n; i++) {
        if (cluster_resolve_url(urls[i], &r[i], e) < 0) {
            free_strings(r, i);
            return CLUSTER_EINVAL;
        }
    }
    qsort(r, n, sizeof(*r), by_string);
    *out = r;
    return 0;
}

static size_t first_difference(char *const *a, char *const *b, size_t n)
{
    size_t i = 0;

    while (i < n && strcmp(a[i], b[i]) == 0)
        i++;
    return i;
}

static void add_quoted(struct buf *b, char *const *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf_printf(b, "%s\"%s\"", i ? " " : "", s[i]);
}

/*
 * Are these two sorted sets of URLs the same places? Names are looked up only
 * where the text differs. False, with e saying how they differ.
 */
static bool same_urls(char *const *a, size_t n_a, char *const *b, size_t n_b,
                      struct err *e)
{
    char **ra = NULL, **rb = NULL;
    struct buf text = {0};
    size_t i;

    if (n_a != n_b) {
        buf_adds(&text, "len([");
        add_quoted(&text, a, n_a);
        buf_adds(&text, "]) != len([");
        add_quoted(&text, b, n_b);
        buf_adds(&text, "])");
        err_set(e, CLUSTER_EINVAL, "%s", buf_z(&text));
        buf_release(&text);
        return false;
    }
    if (first_difference(a, b, n_a) == n_a)
        return true;
    if (resolve_urls(a, n_a, &ra, e) < 0)
        return false;
    if (resolve_urls(b, n_b, &rb, e) < 0) {
        free_strings(ra, n_a);
        return false;
    }
    i = first_difference(ra, rb, n_a);
    if (i < n_a)
        err_set(e, CLUSTER_EINVAL, "resolved urls: \"%s\" != \"%s\"", ra[i],
                rb[i]);
    free_strings(ra, n_a);
    free_strings(rb, n_b);
    return i == n_a;
}

/* "name=url" for each of a that is not among b, or false if there is none. */
static bool add_missing(struct buf *out, const char *name, char *const *a,
                        size_t n_a, char *const *b, size_t n_b)
{
    size_t start = out->len;

    for (size_t i = 0; i < n_a; i++) {
        size_t k = 0;

        while (k < n_b && strcmp(a[i], b[k]) != 0)
            k++;
        if (k == n_b)
            buf_printf(out, "%s%s%s%s", out->len > start ? "," : "", name,
                       *name ? "=" : "", a[i]);
    }
    return out->len > start;
}

static void explain_local(const struct member *m, char *const *urls, size_t n,
                          const char *why, struct err *e)
{
    struct buf missing = {0}, ours = {0};

    if (add_missing(&missing, m->name, m->peer_urls, m->n_peer_urls, urls, n)) {
        add_missing(&ours, "", urls, n, NULL, 0);
        err_set(e, CLUSTER_EINVAL,
                "--initial-cluster has %s but missing from "
                "--initial-advertise-peer-urls=%s (%s)",
                buf_z(&missing), buf_z(&ours), why);
    } else {
        add_missing(&missing, "", urls, n, m->peer_urls, m->n_peer_urls);
        add_missing(&ours, m->name, urls, n, NULL, 0);
        err_set(e, CLUSTER_EINVAL,
                "--initial-advertise-peer-urls has %s but missing from "
                "--initial-cluster=%s",
                buf_z(&missing), buf_z(&ours));
    }
    buf_release(&missing);
    buf_release(&ours);
}

int cluster_check_local(const struct cluster *c, const char *name,
                        const struct url_list *advertised, struct err *e)
{
    struct err why = {0};
    struct member m;
    char **urls;
    int rc = 0;

    if (!cluster_member_by_name(c, name, &m))
        return err_set(e, CLUSTER_EINVAL,
                       "couldn't find local name \"%s\" in the initial "
                       "cluster configuration",
                       name);
    urls = url_list_texts(advertised);
    if (!same_urls(urls, advertised->n, m.peer_urls, m.n_peer_urls, &why)) {
        explain_local(&m, urls, advertised->n, why.msg, e);
        rc = CLUSTER_EINVAL;
    }
    free(urls);
    member_release(&m);
    return rc;
}

static void add_plain(struct buf *b, char *const *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf_printf(b, "%s%s", i ? " " : "", s[i]);
}

/* As Go prints the cluster that it compares with. */
static void describe(struct buf *b, const struct member *m, size_t n,
                     uint64_t id)
{
    buf_printf(b, "{ClusterID:%" PRIx64 " Members:[", id);
    for (size_t i = 0; i < n; i++) {
        buf_printf(b, "%s&{ID:%" PRIx64 " RaftAttributes:{PeerURLs:[",
                   i ? " " : "", m[i].id);
        add_plain(b, m[i].peer_urls, m[i].n_peer_urls);
        buf_printf(b, "] IsLearner:%s} Attributes:{Name:%s ClientURLs:[",
                   m[i].is_learner ? "true" : "false", m[i].name);
        add_plain(b, m[i].client_urls, m[i].n_client_urls);
        buf_adds(b, "]}}");
    }
    buf_adds(b, "] RemovedMemberIDs:[]}");
}

/* The reason stands last and must not be what a long list pushes out. */
#define DESCRIPTION_MAX (ERR_MSG_MAX / 2)

static int mismatch(const struct member *theirs, size_t n, uint64_t id,
                    struct err *e, const char *why)
{
    struct buf b = {0};

    describe(&b, theirs, n, id);
    if (b.len > DESCRIPTION_MAX) {
        b.len = DESCRIPTION_MAX;
        buf_adds(&b, "...");
    }
    err_set(e, CLUSTER_EINVAL, "error validating peerURLs %s: %s", buf_z(&b),
            why);
    buf_release(&b);
    return CLUSTER_EINVAL;
}

int cluster_match(struct cluster *mine, const struct member *theirs, size_t n,
                  uint64_t id, struct err *e)
{
    struct member *m;
    size_t n_mine = cluster_members(mine, &m);
    bool *taken = xcalloc(n_mine, sizeof(*taken));
    int rc = 0;

    if (n_mine != n)
        rc = mismatch(theirs, n, id, e, "member count is unequal");
    for (size_t i = 0; i < n && rc == 0; i++) {
        struct err last = {0};
        size_t k = 0;

        while (
            k < n_mine &&
            (taken[k] || !same_urls(theirs[i].peer_urls, theirs[i].n_peer_urls,
                                    m[k].peer_urls, m[k].n_peer_urls, &last)))
            k++;
        if (k < n_mine) {
            taken[k] = true;
            m[k].id = theirs[i].id;
            m[k].is_learner = theirs[i].is_learner;
        } else {
            char *why = xasprintf("unmatched member while checking PeerURLs "
                                  "(%s)",
                                  last.msg);

            rc = mismatch(theirs, n, id, e, why);
            free(why);
        }
    }
    if (rc == 0)
        cluster_from_members(mine, id, m, n_mine);
    members_free(m, n_mine);
    free(taken);
    return rc;
}

/* --- Changes. ----------------------------------------------------------- */

/* Does a member other than `except` have one of m's URLs? */
static bool url_taken(const struct cluster *c, const struct member *m,
                      uint64_t except)
{
    for (size_t i = 0; i < c->n; i++) {
        const struct member *o = &c->members[i];

        if (o->id == except)
            continue;
        for (size_t k = 0; k < o->n_peer_urls; k++)
            for (size_t j = 0; j < m->n_peer_urls; j++)
                if (strcmp(o->peer_urls[k], m->peer_urls[j]) == 0)
                    return true;
    }
    return false;
}

static int validate_add(const struct cluster *c, const struct member *m,
                        bool is_promote, int learners_max)
{
    const struct member *old = find(c, m->id);
    int learners = 0;

    if (is_promote)
        return !old              ? CLUSTER_EID_NOT_FOUND
               : old->is_learner ? CLUSTER_OK
                                 : CLUSTER_ENOT_LEARNER;
    if (old)
        return CLUSTER_EID_EXISTS;
    if (url_taken(c, m, 0))
        return CLUSTER_EURL_EXISTS;
    for (size_t i = 0; i < c->n; i++)
        learners += c->members[i].is_learner;
    if (m->is_learner && learners >= learners_max)
        return CLUSTER_ETOO_MANY_LEARNERS;
    return CLUSTER_OK;
}

static int validate_locked(const struct cluster *c,
                           const struct raft_conf_change *cc,
                           const struct member *m, bool is_promote,
                           int learners_max)
{
    if (raft_ids_has(&c->removed, cc->node_id))
        return CLUSTER_EID_REMOVED;
    if (cc->type == RAFT_REMOVE_NODE)
        return find(c, cc->node_id) ? CLUSTER_OK : CLUSTER_EID_NOT_FOUND;
    if (cc->type != RAFT_UPDATE_NODE)
        return validate_add(c, m, is_promote, learners_max);
    if (!find(c, cc->node_id))
        return CLUSTER_EID_NOT_FOUND;
    return url_taken(c, m, cc->node_id) ? CLUSTER_EURL_EXISTS : CLUSTER_OK;
}

int cluster_validate(const struct cluster *c, const struct raft_conf_change *cc,
                     int learners_max)
{
    struct member m = {0};
    bool is_promote = false;
    int rc;

    if (cc->type != RAFT_REMOVE_NODE) {
        if (member_from_json(cc->context.p, cc->context.n, &m, &is_promote,
                             NULL) < 0)
            return CLUSTER_EINVAL;
        if (m.id != cc->node_id) {
            member_release(&m);
            return CLUSTER_EINVAL;
        }
    }
    lock(c);
    rc = validate_locked(c, cc, &m, is_promote, learners_max);
    unlock(c);
    member_release(&m);
    return rc;
}

static char *member_path(uint64_t id, const char *leaf)
{
    return xasprintf(MEMBERS_DIR "/%" PRIx64 "%s", id, leaf);
}

typedef int put_fn(struct store *s, const struct store_put *p, int64_t now_ns,
                   struct store_event **out, struct store_error *err);

/* A write that the checks before it have made sure of; if the tree is not as
 * they promise, it fails alike on every member. */
static void put(struct store *s, put_fn *fn, const char *path, struct str value,
                int64_t now_ns)
{
    struct store_put p = {.path = str_of(path), .value = value};
    struct store_event *event = NULL;
    struct store_error err = {0};

    if (fn(s, &p, now_ns, &event, &err) == 0)
        store_event_unref(event);
    else
        log_error(PKG, "cannot write %s: %s", path,
                  store_error_message(err.code));
    store_error_release(&err);
}

static void put_raft_attributes(struct store *s, put_fn *fn,
                                const struct member *m, int64_t now_ns)
{
    char *path = member_path(m->id, "/raftAttributes");
    struct buf json = {0};

    buf_addc(&json, '{');
    add_raft_attributes(&json, m);
    buf_addc(&json, '}');
    put(s, fn, path, buf_str(&json), now_ns);
    buf_release(&json);
    free(path);
}

static void remove_from_store(struct store *s, uint64_t id, int64_t now_ns)
{
    char *path = member_path(id, "");
    char *tombstone = xasprintf(REMOVED_DIR "/%" PRIx64, id);
    struct store_event *event = NULL;
    struct store_error err = {0};

    if (store_delete(s, str_of(path), true, true, now_ns, &event, &err) == 0)
        store_event_unref(event);
    store_error_release(&err);
    put(s, store_create, tombstone, STR(""), now_ns);
    free(path);
    free(tombstone);
}

/* Takes *m. */
static void apply_add(struct cluster *c, struct store *s, struct member *m,
                      int64_t now_ns)
{
    if (s)
        put_raft_attributes(s, store_create, m, now_ns);
    put_member(c, m);
}

/* Takes *m: its raft attributes, all of them, replace the old ones; or, of a
 * promotion, only that the member is no learner any more. */
static void apply_change(struct cluster *c, struct store *s, struct member *m,
                         bool is_promote, int64_t now_ns)
{
    struct member *old = find(c, m->id);

    if (old && is_promote) {
        old->is_learner = false;
    } else if (old) {
        free_strings(old->peer_urls, old->n_peer_urls);
        old->peer_urls = copy_strings(m->peer_urls, m->n_peer_urls);
        old->n_peer_urls = m->n_peer_urls;
        old->is_learner = m->is_learner;
    }
    if (old && s)
        put_raft_attributes(s, store_update, old, now_ns);
    member_release(m);
}

static void apply_remove(struct cluster *c, struct store *s, uint64_t id,
                         int64_t now_ns)
{
    if (s)
        remove_from_store(s, id, now_ns);
    drop_member(c, id);
    raft_ids_add(&c->removed, id);
}

void cluster_apply(struct cluster *c, struct store *s,
                   const struct raft_conf_change *cc, int64_t now_ns)
{
    struct member m = {0};
    bool is_promote = false;
    struct err e;

    if (cc->type != RAFT_REMOVE_NODE &&
        member_from_json(cc->context.p, cc->context.n, &m, &is_promote, &e) <
            0) {
        log_error(PKG, "ignored a change of member %" PRIx64 ": %s",
                  cc->node_id, e.msg);
        return;
    }
    lock(c);
    if (cc->type == RAFT_REMOVE_NODE)
        apply_remove(c, s, cc->node_id, now_ns);
    else if (cc->type == RAFT_UPDATE_NODE || is_promote)
        apply_change(c, s, &m, is_promote, now_ns);
    else
        apply_add(c, s, &m, now_ns);
    unlock(c);
}

void cluster_replay(struct cluster *c, struct store *s,
                    const struct raft_entry *entry, int learners_max)
{
    struct str data = blob_str(entry->data);
    struct raft_conf_change_v2 cc;

    if (entry->type == RAFT_ENTRY_NORMAL ||
        raftpb_decode_conf_change_v2(data.p, data.n, &cc) < 0)
        return;
    for (size_t i = 0; i < cc.n; i++)
        if (cluster_validate(c, &cc.changes[i], learners_max) != 0)
            return; /* as when it was applied: all of it or nothing */
    for (size_t i = 0; i < cc.n; i++)
        cluster_apply(c, s, &cc.changes[i], 0);
}

/* --- Following the store. ----------------------------------------------- */

/* The id of "/0/members/ID/attributes". */
static bool is_attributes_path(struct str path, uint64_t *id)
{
    static const char prefix[] = MEMBERS_DIR "/";
    struct str hex;

    if (!str_has_prefix(path, prefix))
        return false;
    path.p += sizeof(prefix) - 1;
    path.n -= sizeof(prefix) - 1;
    return str_cut(&path, '/', &hex) && str_eqz(path, "attributes") &&
           str_hex_to_u64(hex, id);
}

bool cluster_skips_put(const struct cluster *c, struct str path)
{
    uint64_t id;

    return is_attributes_path(path, &id) && cluster_is_removed(c, id);
}

static void follow_attributes(struct cluster *c, uint64_t id, struct str value)
{
    struct member *m;
    struct json *j;

    if (json_parse(value.p, value.n, &j, NULL) < 0)
        return;
    lock(c);
    m = find(c, id);
    if (m && j->type == JSON_OBJECT)
        attributes_from_json(j, m, NULL);
    unlock(c);
    json_free(j);
}

static bool set_version(struct cluster *c, struct str value)
{
    if (value.n == 0 || value.n >= sizeof(c->version) ||
        str_eqz(value, c->version))
        return false;
    memcpy(c->version, value.p, value.n);
    c->version[value.n] = '\0';
    return true;
}

bool cluster_follow_put(struct cluster *c, struct str path, struct str value)
{
    uint64_t id;
    bool changed;

    if (is_attributes_path(path, &id)) {
        follow_attributes(c, id, value);
        return false;
    }
    if (!str_eqz(path, VERSION_PATH))
        return false;
    lock(c);
    changed = set_version(c, value);
    unlock(c);
    return changed;
}

struct recovery {
    struct cluster *c;
    const struct store *s;
};

/* A file of the member's directory, as a JSON object; NULL if there is none. */
static struct json *member_file(const struct store *s, uint64_t id,
                                const char *leaf)
{
    char *path = member_path(id, leaf);
    struct str text = blob_str(store_peek(s, str_of(path)));
    struct json *j = NULL;

    free(path);
    if (text.n == 0 || json_parse(text.p, text.n, &j, NULL) < 0)
        return NULL;
    return j;
}

static void recover_member(void *arg, struct str name, bool dir,
                           const struct blob *value)
{
    struct recovery *r = arg;
    struct json *raft_attributes, *attributes;
    struct member m = {0};

    (void)value;
    if (!dir || !str_hex_to_u64(name, &m.id))
        return;
    raft_attributes = member_file(r->s, m.id, "/raftAttributes");
    attributes = member_file(r->s, m.id, "/attributes");
    m.name = xstrdup("");
    if (raft_attributes) {
        strings_from_json(json_get(raft_attributes, "peerURLs"), &m.peer_urls,
                          &m.n_peer_urls, NULL);
        m.is_learner = json_bool(json_get(raft_attributes, "isLearner"), false);
        if (attributes)
            attributes_from_json(attributes, &m, NULL);
        put_member(r->c, &m);
    } else {
        /* Attributes alone, of one who published after its removal. */
        member_release(&m);
    }
    json_free(raft_attributes);
    json_free(attributes);
}

static void recover_removed(void *arg, struct str name, bool dir,
                            const struct blob *value)
{
    struct recovery *r = arg;
    uint64_t id;

    (void)dir;
    (void)value;
    if (str_hex_to_u64(name, &id))
        raft_ids_add(&r->c->removed, id);
}

void cluster_recover(struct cluster *c, const struct store *s)
{
    struct recovery r = {c, s};

    lock(c);
    clear_members(c);
    c->removed.n = 0;
    store_each(s, STR(MEMBERS_DIR), recover_member, &r);
    store_each(s, STR(REMOVED_DIR), recover_removed, &r);
    if (set_version(c, blob_str(store_peek(s, STR(VERSION_PATH)))))
        log_notice(PKG, "set the cluster version to %s from store", c->version);
    for (size_t i = 0; i < c->n; i++) {
        struct buf urls = {0};

        add_plain(&urls, c->members[i].peer_urls, c->members[i].n_peer_urls);
        log_info(PKG,
                 "added member %" PRIx64 " [%s] to cluster %" PRIx64
                 " from store",
                 c->members[i].id, buf_z(&urls), c->id);
        buf_release(&urls);
    }
    unlock(c);
}

/* --- --strict-reconfig-check. ------------------------------------------- */

/* Voters other than `except`, and how many of them have started. */
static void count_voters(const struct cluster *c, uint64_t except, size_t *n,
                         size_t *started)
{
    *n = *started = 0;
    lock(c);
    for (size_t i = 0; i < c->n; i++) {
        const struct member *m = &c->members[i];

        if (m->is_learner || m->id == except)
            continue;
        *n += 1;
        *started += *m->name != '\0';
    }
    unlock(c);
}

bool cluster_can_add(const struct cluster *c)
{
    size_t n, started;

    count_voters(c, 0, &n, &started);
    /* From one member to two is how a cluster is rebuilt from its data. */
    if (started == 1 && n == 1)
        return true;
    return started >= (n + 1) / 2 + 1;
}

bool cluster_can_remove(const struct cluster *c, uint64_t id)
{
    size_t n, started;

    count_voters(c, id, &n, &started);
    return started >= n / 2 + 1;
}

bool cluster_can_promote(const struct cluster *c, uint64_t id)
{
    size_t n, started;

    count_voters(c, id, &n, &started);
    return started + 1 >= (n + 1) / 2 + 1;
}
