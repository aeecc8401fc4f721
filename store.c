/*
 * store.c - the v2 keyspace: its operations, TTLs and statistics.
 *
 * WHERE     nodes and directories   trie.c
 *           events, their history   event.c
 *           watchers                hub.c
 *           snapshots               storesnap.c
 *           operations, TTLs        here
 *
 * A change goes down its path once, owning each directory on the way (see
 * trie.h), and checks before it changes anything: a failed operation leaves
 * the tree, the index and the history alone. Each change is exactly one event
 * and one step of the index.
 *
 * TTLs      A heap of (time, path) says what expires next. Nothing is ever
 *           taken out of its middle: an entry is stale when the node at its
 *           path has another time, or is gone. Stale entries at the top are
 *           dropped at once, so that an empty heap means that no key has a
 *           TTL; the others when the heap has doubled since they were last
 *           swept out.
 *
 * Some answers look odd. They are etcd's, and clients may rely on them: which
 * failures count as successes in the statistics, that a directory's new TTL
 * leaves its modifiedIndex as it was, that refreshing with dir=true makes a
 * directory of a file.
 */
#include "store.h"

#include "event.h"
#include "hub.h"
#include "json.h"
#include "storesnap.h"
#include "trie.h"
#include "url.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

/*
 * 2000-01-01. A new key that would expire before is permanent: etcd takes such
 * a time for a mistake of serialization.
 */
#define EXPIRE_MIN_NS (946684800 * INT64_C(1000000000))

/* Equal it is, and is to stay so: NOLINTNEXTLINE(misc-redundant-expression) */
static_assert(STORE_NAME_BYTES_MAX == TRIE_NAME_MAX, "a tree's limit");

struct ttl_entry {
    int64_t expire_ns;
    struct blob *path;
};

struct store {
    struct store_state state;
    struct hub *hub;
    struct ttl_entry *ttls; /* a binary heap: the next one first */
    size_t n_ttls, cap_ttls, sweep_at;
    uint64_t live_bytes;
    uint64_t watch_requests;
};

struct store_view {
    struct store_state state;
};

/* --- Errors. ------------------------------------------------------------- */

static const struct error_info {
    int code, status;
    const char *message;
} errors[] = {
    {STORE_KEY_NOT_FOUND, 404, "Key not found"},
    {STORE_TEST_FAILED, 412, "Compare failed"},
    {STORE_NOT_FILE, 403, "Not a file"},
    {STORE_NOT_DIR, 400, "Not a directory"},
    {STORE_NODE_EXIST, 412, "Key already exists"},
    {STORE_ROOT_RONLY, 400, "Root is read only"},
    {STORE_DIR_NOT_EMPTY, 403, "Directory not empty"},
    {STORE_UNAUTHORIZED, 401, "The request requires user authentication"},
    {STORE_PREV_VALUE_REQUIRED, 400, "PrevValue is Required in POST form"},
    {STORE_TTL_NAN, 400, "The given TTL in POST form is not a number"},
    {STORE_INDEX_NAN, 400, "The given index in POST form is not a number"},
    {STORE_INVALID_FIELD, 400, "Invalid field"},
    {STORE_INVALID_FORM, 400, "Invalid POST form"},
    {STORE_REFRESH_VALUE, 400, "Value provided on refresh"},
    {STORE_REFRESH_TTL_REQUIRED, 400, "A TTL must be provided on refresh"},
    {STORE_RAFT_INTERNAL, 500, "Raft Internal Error"},
    {STORE_LEADER_ELECT, 500, "During Leader Election"},
    {STORE_WATCHER_CLEARED, 400, "watcher is cleared due to etcd recovery"},
    {STORE_EVENT_INDEX_CLEARED, 400,
     "The event in requested index is outdated and cleared"},
};

static const struct error_info *find_error(int code)
{
    static const struct error_info unknown = {0, 400, ""};

    for (size_t i = 0; i < ARRAY_LEN(errors); i++)
        if (errors[i].code == code)
            return &errors[i];
    return &unknown;
}

const char *store_error_message(int code)
{
    return find_error(code)->message;
}

int store_error_status(int code)
{
    return find_error(code)->status;
}

void store_error_set(struct store_error *e, int code, struct str cause)
{
    *e = (struct store_error){
        .code = code, .cause = xstrndup(cause.p, cause.n), .cause_n = cause.n};
}

void store_error_release(struct store_error *e)
{
    free(e->cause);
    *e = (struct store_error){0};
}

void store_error_json(struct buf *b, const struct store_error *e)
{
    buf_addc(b, '{');
    json_add_key(b, "errorCode");
    buf_add_u64(b, (uint64_t)e->code);
    json_add_key(b, "message");
    json_add_string(b, str_of(store_error_message(e->code)));
    if (e->cause_n > 0) {
        json_add_key(b, "cause");
        json_add_string(b, (struct str){e->cause, e->cause_n});
    }
    json_add_key(b, "index");
    buf_add_u64(b, e->index);
    buf_adds(b, "}\n");
}

static int fail(const struct store *s, struct store_error *err, int code,
                struct str cause)
{
    store_error_set(err, code, cause);
    err->index = s->state.index;
    return code;
}

static int fail_path(const struct store *s, struct store_error *err, int code,
                     struct str path)
{
    return fail(s, err, code, event_cut_path(path));
}

static int fail_root(const struct store *s, struct store_error *err)
{
    return fail(s, err, STORE_ROOT_RONLY, STR("/"));
}

/* --- Paths. -------------------------------------------------------------- */

/*
 * The element of path that begins at *at (behind its slash), and *at moved
 * behind the slash that follows it; false if there is none.
 */
static bool next_element(struct str path, size_t *at, struct str *name)
{
    const char *p = path.p + *at, *slash;

    if (*at >= path.n)
        return false;
    slash = memchr(p, '/', path.n - *at);
    name->p = p;
    name->n = slash ? (size_t)(slash - p) : path.n - *at;
    *at += name->n + 1;
    return true;
}

/* path up to and with the element that next_element() has just given. */
static struct str path_to(struct str path, size_t at)
{
    return (struct str){path.p, at - 1};
}

/* The tree's node at path, or NULL and why. */
static struct trie_node *find(const struct store *s, struct str path,
                              struct store_error *err)
{
    struct trie_node *n = s->state.root, *child;
    struct str name, here = {"/", 1};
    size_t at = 1;

    while (next_element(path, &at, &name)) {
        if (!trie_is_dir(n)) {
            if (err)
                fail_path(s, err, STORE_NOT_DIR, here);
            return NULL;
        }
        here = path_to(path, at);
        child = trie_find(n, trie_key(name));
        if (!child) {
            if (err)
                fail_path(s, err, STORE_KEY_NOT_FOUND, here);
            return NULL;
        }
        n = child;
    }
    return n;
}

/* Where an operation works: what is at a path, and in which directory. */
struct place {
    struct trie_node *dir; /* ours to change */
    struct trie_key key;
    struct trie_node *node; /* NULL if there is none; not yet ours */
};

/* Directories that are missing are errors, or are made on the way. */
enum missing { MISSING_FAILS, MISSING_MADE };

static struct trie_node *make_dir(struct store *s, struct trie_node *parent,
                                  struct trie_key k)
{
    uint64_t index = s->state.index + 1; /* that of the change to come */
    struct trie_node *n = trie_dir(k.name, index, index, 0);

    s->live_bytes += k.name.n;
    trie_put(parent, k, n);
    return n;
}

/*
 * Go to path, which is not the root. A missing last element is no error here.
 * If directories are made, then nothing on the rest of the way exists, and
 * the operation that asked for it does not fail any more.
 */
static int enter(struct store *s, struct str path, enum missing missing,
                 struct place *out, struct store_error *err)
{
    struct trie_node *n;
    size_t at = 1;
    struct str name;

    trie_own_root(&s->state.root);
    n = s->state.root;
    next_element(path, &at, &name);
    while (at < path.n) { /* name is not the last element */
        struct trie_key k = trie_key(name);
        struct trie_node *child = trie_own(n, k);

        if (!child && missing == MISSING_FAILS)
            return fail_path(s, err, STORE_KEY_NOT_FOUND, path_to(path, at));
        if (!child)
            child = make_dir(s, n, k);
        if (!trie_is_dir(child))
            return fail_path(s, err, STORE_NOT_DIR, path_to(path, at));
        n = child;
        next_element(path, &at, &name);
    }
    out->dir = n;
    out->key = trie_key(name);
    out->node = trie_find(n, out->key);
    return 0;
}

/* As enter(), for operations on something that exists. */
static int enter_existing(struct store *s, struct str path, struct place *out,
                          struct store_error *err)
{
    int rc = enter(s, path, MISSING_FAILS, out, err);

    if (rc == 0 && !out->node)
        rc = fail_path(s, err, STORE_KEY_NOT_FOUND, path);
    return rc;
}

/* The root, and the directories that are always there. */
static bool is_read_only(struct str path)
{
    return str_eqz(path, "/") || str_eqz(path, "/0") || str_eqz(path, "/1");
}

/* --- TTLs. --------------------------------------------------------------- */

static bool expires_before(const struct ttl_entry *a, const struct ttl_entry *b)
{
    if (a->expire_ns != b->expire_ns)
        return a->expire_ns < b->expire_ns;
    return str_cmp(blob_str(a->path), blob_str(b->path)) < 0;
}

static int compare_ttls(const void *a, const void *b)
{
    return expires_before(b, a) - expires_before(a, b);
}

static bool is_stale(const struct store *s, const struct ttl_entry *t)
{
    const struct trie_node *n = find(s, blob_str(t->path), NULL);

    return !n || trie_expire_ns(n) != t->expire_ns;
}

static void pop_ttl(struct store *s)
{
    struct ttl_entry *heap = s->ttls, last;
    size_t at = 0, child;

    blob_unref(heap[0].path);
    last = heap[--s->n_ttls];
    while ((child = 2 * at + 1) < s->n_ttls) {
        if (child + 1 < s->n_ttls &&
            expires_before(&heap[child + 1], &heap[child]))
            child++;
        if (!expires_before(&heap[child], &last))
            break;
        heap[at] = heap[child];
        at = child;
    }
    if (s->n_ttls > 0)
        heap[at] = last;
}

/* To be called when a node with a TTL went or changed. */
static void drop_stale_tops(struct store *s)
{
    while (s->n_ttls > 0 && is_stale(s, &s->ttls[0]))
        pop_ttl(s);
}

/* Keep what is not stale, once; a sorted array is a heap. */
static void sweep_ttls(struct store *s)
{
    size_t kept = 0;

    qsort(s->ttls, s->n_ttls, sizeof(s->ttls[0]), compare_ttls);
    for (size_t i = 0; i < s->n_ttls; i++) {
        struct ttl_entry *t = &s->ttls[i];

        if (is_stale(s, t) ||
            (kept > 0 && compare_ttls(t, &s->ttls[kept - 1]) == 0))
            blob_unref(t->path);
        else
            s->ttls[kept++] = *t;
    }
    s->n_ttls = kept;
    s->sweep_at = 2 * kept + 64;
}

static void push_ttl(struct store *s, int64_t expire_ns, struct str path)
{
    struct ttl_entry t = {expire_ns, blob_new(path.p, path.n)};
    size_t at, parent;

    if (s->n_ttls >= s->sweep_at)
        sweep_ttls(s);
    if (s->n_ttls == s->cap_ttls) {
        s->cap_ttls = s->cap_ttls ? s->cap_ttls * 2 : 16;
        s->ttls = xrealloc(s->ttls, s->cap_ttls * sizeof(s->ttls[0]));
    }
    for (at = s->n_ttls++; at > 0; at = parent) {
        parent = (at - 1) / 2;
        if (!expires_before(&t, &s->ttls[parent]))
            break;
        s->ttls[at] = s->ttls[parent];
    }
    s->ttls[at] = t;
}

static void clear_ttls(struct store *s)
{
    for (size_t i = 0; i < s->n_ttls; i++)
        blob_unref(s->ttls[i].path);
    s->n_ttls = 0;
    s->sweep_at = 64;
}

bool store_has_ttl(const struct store *s)
{
    return s->n_ttls > 0;
}

/* --- Life. --------------------------------------------------------------- */

static uint64_t bytes_of(const struct trie_node *n)
{
    return trie_name(n).n + blob_str(trie_value(n)).n;
}

/* Cut the last element, which is name, off a path. */
static void cut_element(struct buf *path, struct str name)
{
    assert(path->len >= name.n + 1);
    path->len -= name.n + 1;
}

/* The bytes of a tree. With ttls, whatever expires in it enters the heap. */
static uint64_t survey(struct store *s, const struct trie_node *top, bool ttls)
{
    uint64_t bytes = bytes_of(top);
    struct trie_walk w = {0};
    struct buf path = {0};
    const struct trie_node *n;

    if (trie_is_dir(top))
        trie_walk_enter(&w, top, 0);
    while ((n = trie_walk_dir(&w))) {
        struct trie_node *child = trie_walk_next(&w);

        if (!child) {
            trie_walk_leave(&w);
            if (trie_walk_dir(&w))
                cut_element(&path, trie_name(n));
            continue;
        }
        bytes += bytes_of(child);
        buf_addc(&path, '/');
        buf_addstr(&path, trie_name(child));
        if (ttls && trie_expire_ns(child) != 0)
            push_ttl(s, trie_expire_ns(child), buf_str(&path));
        if (trie_is_dir(child))
            trie_walk_enter(&w, child, 0);
        else
            cut_element(&path, trie_name(child));
    }
    trie_walk_release(&w);
    buf_release(&path);
    return bytes;
}

struct store *store_new(void)
{
    struct store *s = xcalloc(1, sizeof(*s));
    static const char *const names[] = {"0", "1"};

    s->hub = hub_new();
    s->sweep_at = 64;
    s->state.root = trie_dir((struct str){"", 0}, 0, 0, 0);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct trie_key k = trie_key(str_of(names[i]));

        trie_put(s->state.root, k, trie_dir(k.name, 0, 0, 0));
    }
    s->live_bytes = survey(s, s->state.root, false);
    return s;
}

void store_free(struct store *s)
{
    if (!s)
        return;
    hub_clear(s->hub, STORE_WATCHER_CLEARED);
    hub_free(s->hub);
    clear_ttls(s);
    free(s->ttls);
    storesnap_release(&s->state);
    free(s);
}

uint64_t store_index(const struct store *s)
{
    return s->state.index;
}

uint64_t store_live_bytes(const struct store *s)
{
    return s->live_bytes;
}

/* --- Changes that all operations are made of. ---------------------------- */

/* counter[0] counts successes, counter[1] failures. */
static int count(uint64_t counter[2], int rc, bool success)
{
    counter[success ? 0 : 1]++;
    return rc;
}

static int64_t new_expiration(const struct store_put *p)
{
    return p->expire_ns < EXPIRE_MIN_NS ? 0 : p->expire_ns;
}

/* What an event keeps of the node before; NULL gives NULL. */
static struct trie_node *keep(struct trie_node *n)
{
    return n ? trie_bare(n) : NULL;
}

/*
 * The change with this event is done: it counts from now on. Takes e; *out
 * may be NULL. removed as for hub_notify().
 */
static void commit(struct store *s, struct store_event *e,
                   const struct trie_node *removed, struct store_event **out)
{
    s->state.index++;
    assert(e->modified == s->state.index);
    if (out)
        *out = store_event_ref(e);
    event_history_add(&s->state.history, e);
    if (!e->refresh)
        hub_notify(s->hub, e, removed);
}

/*
 * Put n, which is taken, where at says, in place of a file or of nothing, and
 * make the event. The indexes are n's own.
 */
static struct store_event *put(struct store *s, const struct place *at,
                               enum store_action action, struct str path,
                               struct trie_node *n, int64_t now_ns)
{
    struct trie_node *prev = keep(at->node);
    bool had_ttl = prev && trie_expire_ns(prev) != 0;
    struct store_event *e =
        event_new(action, path, trie_modified(n), trie_created(n), trie_bare(n),
                  prev, now_ns);

    s->live_bytes += bytes_of(n);
    s->live_bytes -= prev ? bytes_of(prev) : 0;
    trie_put(at->dir, at->key, n);
    if (trie_expire_ns(n) != 0)
        push_ttl(s, trie_expire_ns(n), path);
    if (had_ttl)
        drop_stale_tops(s);
    return e;
}

/* Remove at->node and all below it: the event of it, committed. */
static void take_out(struct store *s, const struct place *at,
                     enum store_action action, struct str path, int64_t now_ns,
                     struct store_event **out)
{
    struct trie_node *n = trie_ref(at->node);
    bool ttls = trie_is_dir(n) || trie_expire_ns(n) != 0;
    struct store_event *e = event_new(action, path, s->state.index + 1,
                                      trie_created(n), NULL, keep(n), now_ns);

    s->live_bytes -= survey(s, n, false);
    trie_remove(at->dir, at->key);
    if (ttls)
        drop_stale_tops(s);
    commit(s, e, n, out);
    trie_unref(n);
}

/* --- Operations. --------------------------------------------------------- */

static int get(const struct store *s, struct str path, int flags,
               struct store_event **out, struct store_error *err)
{
    struct trie_node *n = find(s, path, err);

    if (!n)
        return err->code;
    *out = event_new(STORE_GET, path, trie_modified(n), trie_created(n),
                     trie_ref(n), NULL, 0);
    (*out)->flags = (uint8_t)flags;
    return 0;
}

int store_get(struct store *s, struct str path, int flags,
              struct store_event **out, struct store_error *err)
{
    int rc = get(s, path, flags, out, err);

    return count(s->state.counters.get, rc, rc == 0);
}

/* The node that p makes at the index to come. */
static struct trie_node *new_node(const struct store *s, struct str name,
                                  const struct store_put *p)
{
    uint64_t index = s->state.index + 1;

    if (p->dir)
        return trie_dir(name, index, index, new_expiration(p));
    return trie_file(name, p->value, index, index, new_expiration(p));
}

static int create(struct store *s, const struct store_put *p, struct str path,
                  int64_t now_ns, struct store_event **out,
                  struct store_error *err)
{
    struct place at;
    int rc;

    if (is_read_only(path))
        return fail_root(s, err);
    rc = enter(s, path, MISSING_MADE, &at, err);
    if (rc != 0)
        return rc;
    if (at.node)
        return fail_path(s, err, STORE_NODE_EXIST, path);
    commit(s,
           put(s, &at, STORE_CREATE, path, new_node(s, at.key.name, p), now_ns),
           NULL, out);
    return 0;
}

int store_create(struct store *s, const struct store_put *p, int64_t now_ns,
                 struct store_event **out, struct store_error *err)
{
    struct store_counters *c = &s->state.counters;
    struct buf unique = {0};
    struct str path = p->path;
    int rc;

    if (p->unique) {
        if (!str_eqz(p->path, "/"))
            buf_addstr(&unique, p->path);
        buf_printf(&unique, "/%020" PRIu64, s->state.index + 1);
        path = buf_str(&unique);
    }
    rc = create(s, p, path, now_ns, out, err);
    buf_release(&unique);
    if (rc == STORE_NOT_DIR)
        c->set[1]++; /* etcd counts it twice */
    return count(c->create, rc, rc == 0);
}

static int set(struct store *s, const struct store_put *p, int64_t now_ns,
               struct store_event **out, struct store_error *err)
{
    uint64_t index = s->state.index + 1;
    struct store_event *e;
    struct trie_node *n;
    struct place at;
    int rc;

    if (is_read_only(p->path))
        return fail_root(s, err);
    if (p->refresh)
        rc = enter_existing(s, p->path, &at, err);
    else
        rc = enter(s, p->path, MISSING_MADE, &at, err);
    if (rc != 0)
        return rc;
    if (at.node && trie_is_dir(at.node))
        return fail_path(s, err, STORE_NOT_FILE, p->path);
    if (p->refresh && !p->dir)
        n = trie_restamp(at.node, index, index, new_expiration(p));
    else
        n = new_node(s, at.key.name, p);
    e = put(s, &at, STORE_SET, p->path, n, now_ns);
    e->refresh = p->refresh;
    commit(s, e, NULL, out);
    return 0;
}

int store_set(struct store *s, const struct store_put *p, int64_t now_ns,
              struct store_event **out, struct store_error *err)
{
    int rc = set(s, p, now_ns, out, err);

    return count(s->state.counters.set, rc, rc == 0);
}

/* A new value or TTL, or both, for a file that keeps its createdIndex. */
static void change_file(struct store *s, const struct store_put *p,
                        const struct place *at, enum store_action action,
                        int64_t now_ns, struct store_event **out)
{
    uint64_t index = s->state.index + 1, created = trie_created(at->node);
    struct store_event *e;
    struct trie_node *n;

    if (p->refresh)
        n = trie_restamp(at->node, index, created, p->expire_ns);
    else
        n = trie_file(at->key.name, p->value, index, created, p->expire_ns);
    e = put(s, at, action, p->path, n, now_ns);
    e->refresh = p->refresh;
    commit(s, e, NULL, out);
}

/* Only its TTL changes; the new index stands in the event alone. */
static void update_dir(struct store *s, const struct store_put *p,
                       const struct place *at, int64_t now_ns,
                       struct store_event **out)
{
    struct trie_node *n = trie_own(at->dir, at->key), *prev = keep(n);
    uint64_t created = trie_created(n);
    struct store_event *e;

    trie_stamp_dir(n, trie_modified(n), created, p->expire_ns);
    e = event_new(STORE_UPDATE, p->path, s->state.index + 1, created,
                  trie_bare(n), prev, now_ns);
    if (p->expire_ns != 0)
        push_ttl(s, p->expire_ns, p->path);
    if (trie_expire_ns(prev) != 0)
        drop_stale_tops(s);
    e->refresh = p->refresh;
    commit(s, e, NULL, out);
}

static int update(struct store *s, const struct store_put *p, int64_t now_ns,
                  struct store_event **out, struct store_error *err)
{
    struct place at;
    int rc;

    if (is_read_only(p->path))
        return fail_root(s, err);
    rc = enter_existing(s, p->path, &at, err);
    if (rc != 0)
        return rc;
    if (!trie_is_dir(at.node))
        change_file(s, p, &at, STORE_UPDATE, now_ns, out);
    else if (p->value.n > 0)
        return fail_path(s, err, STORE_NOT_FILE, p->path);
    else
        update_dir(s, p, &at, now_ns, out);
    return 0;
}

int store_update(struct store *s, const struct store_put *p, int64_t now_ns,
                 struct store_event **out, struct store_error *err)
{
    int rc = update(s, p, now_ns, out, err);

    return count(s->state.counters.update, rc,
                 rc == 0 || rc == STORE_ROOT_RONLY || rc == STORE_NOT_FILE);
}

/* 0 if the file n has the value and the index that are given, if any. */
static int compare(const struct store *s, const struct trie_node *n,
                   struct str value, uint64_t index, struct store_error *err)
{
    struct str actual = blob_str(trie_value(n));
    bool value_ok = value.n == 0 || str_eq(value, actual);
    bool index_ok = index == 0 || index == trie_modified(n);
    struct buf cause = {0};

    if (value_ok && index_ok)
        return 0;
    if (!value_ok) {
        buf_addc(&cause, '[');
        buf_addstr(&cause, value);
        buf_adds(&cause, " != ");
        buf_addstr(&cause, actual);
        buf_addc(&cause, ']');
    }
    if (!value_ok && !index_ok)
        buf_addc(&cause, ' ');
    if (!index_ok)
        buf_printf(&cause, "[%" PRIu64 " != %" PRIu64 "]", index,
                   trie_modified(n));
    fail(s, err, STORE_TEST_FAILED, buf_str(&cause));
    buf_release(&cause);
    return STORE_TEST_FAILED;
}

/* The file at path, which must compare. */
static int enter_compared(struct store *s, struct str path, struct str value,
                          uint64_t index, struct place *at,
                          struct store_error *err)
{
    int rc = enter_existing(s, path, at, err);

    if (rc != 0)
        return rc;
    if (trie_is_dir(at->node))
        return fail_path(s, err, STORE_NOT_FILE, path);
    return compare(s, at->node, value, index, err);
}

static int compare_and_swap(struct store *s, const struct store_put *p,
                            int64_t now_ns, struct store_event **out,
                            struct store_error *err)
{
    struct place at;
    int rc;

    if (is_read_only(p->path))
        return fail_root(s, err);
    rc = enter_compared(s, p->path, p->prev_value, p->prev_index, &at, err);
    if (rc == 0)
        change_file(s, p, &at, STORE_CAS, now_ns, out);
    return rc;
}

int store_compare_and_swap(struct store *s, const struct store_put *p,
                           int64_t now_ns, struct store_event **out,
                           struct store_error *err)
{
    int rc = compare_and_swap(s, p, now_ns, out, err);

    return count(s->state.counters.cas, rc, rc == 0 || rc == STORE_ROOT_RONLY);
}

static int delete_path(struct store *s, struct str path, bool dir,
                       bool recursive, int64_t now_ns, struct store_event **out,
                       struct store_error *err)
{
    struct place at;
    int rc;

    if (is_read_only(path))
        return fail_root(s, err);
    rc = enter_existing(s, path, &at, err);
    if (rc != 0)
        return rc;
    if (trie_is_dir(at.node) && !dir && !recursive)
        return fail_path(s, err, STORE_NOT_FILE, path);
    if (trie_count(at.node) > 0 && !recursive)
        return fail_path(s, err, STORE_DIR_NOT_EMPTY, path);
    take_out(s, &at, STORE_DELETE, path, now_ns, out);
    return 0;
}

int store_delete(struct store *s, struct str path, bool dir, bool recursive,
                 int64_t now_ns, struct store_event **out,
                 struct store_error *err)
{
    int rc = delete_path(s, path, dir, recursive, now_ns, out, err);

    return count(s->state.counters.delete_, rc,
                 rc == 0 || rc == STORE_ROOT_RONLY);
}

int store_compare_and_delete(struct store *s, struct str path,
                             struct str prev_value, uint64_t prev_index,
                             int64_t now_ns, struct store_event **out,
                             struct store_error *err)
{
    struct place at;
    int rc;

    if (str_eqz(path, "/")) /* has no place to enter */
        rc = fail_path(s, err, STORE_NOT_FILE, path);
    else
        rc = enter_compared(s, path, prev_value, prev_index, &at, err);
    if (rc == 0)
        take_out(s, &at, STORE_CAD, path, now_ns, out);
    return count(s->state.counters.cad, rc,
                 rc == 0 || rc == STORE_NOT_FILE || rc == STORE_TEST_FAILED);
}

void store_expire(struct store *s, int64_t cutoff_ns)
{
    while (s->n_ttls > 0 && s->ttls[0].expire_ns <= cutoff_ns) {
        struct blob *path = blob_ref(s->ttls[0].path);
        bool stale = is_stale(s, &s->ttls[0]);
        struct store_error err = {0};
        struct place at;

        pop_ttl(s);
        if (!stale && enter_existing(s, blob_str(path), &at, &err) == 0) {
            take_out(s, &at, STORE_EXPIRE, blob_str(path), cutoff_ns, NULL);
            s->state.counters.expired++;
        }
        blob_unref(path);
        store_error_release(&err);
    }
}

/* --- Requests from the log. ---------------------------------------------- */

static int apply_put(struct store *s, const struct v2_request *r,
                     const struct store_put *p, int64_t now_ns,
                     struct store_event **out, struct store_error *err)
{
    bool compares = r->prev_index > 0 || r->prev_value.n > 0;

    if (r->prev_exist == TRI_FALSE)
        return store_create(s, p, now_ns, out, err);
    if (compares)
        return store_compare_and_swap(s, p, now_ns, out, err);
    if (r->prev_exist == TRI_TRUE)
        return store_update(s, p, now_ns, out, err);
    return store_set(s, p, now_ns, out, err);
}

static int apply_delete(struct store *s, const struct v2_request *r,
                        struct str path, int64_t now_ns,
                        struct store_event **out, struct store_error *err)
{
    if (r->prev_index > 0 || r->prev_value.n > 0)
        return store_compare_and_delete(s, path, r->prev_value, r->prev_index,
                                        now_ns, out, err);
    return store_delete(s, path, r->dir, r->recursive, now_ns, out, err);
}

static int apply(struct store *s, const struct v2_request *r, struct str path,
                 int64_t now_ns, struct store_event **out,
                 struct store_error *err)
{
    struct store_put p = {
        .path = path,
        .value = r->val,
        .dir = r->dir,
        .expire_ns = r->expiration,
        .refresh = r->refresh == TRI_TRUE,
        .prev_value = r->prev_value,
        .prev_index = r->prev_index,
    };

    if (str_eqz(r->method, "PUT"))
        return apply_put(s, r, &p, now_ns, out, err);
    if (str_eqz(r->method, "POST")) {
        p.unique = true;
        return store_create(s, &p, now_ns, out, err);
    }
    if (str_eqz(r->method, "DELETE"))
        return apply_delete(s, r, path, now_ns, out, err);
    if (str_eqz(r->method, "QGET") || str_eqz(r->method, "GET"))
        return get(s, path, /* only etcd logs a read: it counts nothing */
                   (r->recursive ? STORE_RECURSIVE : 0) |
                       (r->sorted ? STORE_SORTED : 0),
                   out, err);
    if (str_eqz(r->method, "SYNC")) {
        store_expire(s, r->time);
        return 0;
    }
    return fail(s, err, STORE_INVALID_FIELD, STR("unknown method"));
}

bool store_key_fits(struct str path)
{
    size_t depth = 0;

    for (size_t i = 0; i < path.n; i++)
        depth += path.p[i] == '/';
    return path.n <= STORE_KEY_BYTES_MAX && depth <= STORE_KEY_DEPTH_MAX;
}

/* Absolute, and without empty elements, "." and "..". */
static bool is_clean(struct str path)
{
    struct str name;
    size_t at = 1;

    if (path.n == 0 || path.p[0] != '/' ||
        (path.n > 1 && path.p[path.n - 1] == '/'))
        return false;
    while (next_element(path, &at, &name))
        if (name.n == 0 || str_eqz(name, ".") || str_eqz(name, ".."))
            return false;
    return true;
}

int store_apply(struct store *s, const struct v2_request *r, int64_t now_ns,
                struct store_event **out, struct store_error *err)
{
    struct buf rooted = {0}, clean = {0};
    int rc;

    *out = NULL;
    if (is_clean(r->path))
        return apply(s, r, r->path, now_ns, out, err);
    buf_addc(&rooted, '/'); /* whatever a log holds, as etcd reads it */
    buf_addstr(&rooted, r->path);
    url_clean_path(&clean, buf_str(&rooted));
    rc = apply(s, r, buf_str(&clean), now_ns, out, err);
    buf_release(&rooted);
    buf_release(&clean);
    return rc;
}

/* --- Watching. ----------------------------------------------------------- */

/* An event out of the history: it is all that this watcher ever gets. */
static void deliver_past(const struct store_event *e, store_deliver *deliver,
                         void *arg)
{
    struct buf b = {0};
    struct blob *json;

    store_event_json(&b, e, 0);
    json = blob_new(b.data, b.len);
    buf_release(&b);
    deliver(arg, json, 0);
    blob_unref(json);
}

int store_watch(struct store *s, struct str path, bool recursive, bool stream,
                uint64_t since, store_deliver *deliver, void *arg,
                struct store_watcher **out, struct store_error *err)
{
    const struct event_history *h = &s->state.history;
    struct store_event *e;
    char cause[100];

    s->watch_requests++;
    if (since == 0)
        since = s->state.index + 1;
    if (since < h->start_index) {
        snprintf(cause, sizeof(cause),
                 "the requested history has been cleared [%" PRIu64 "/%" PRIu64
                 "]",
                 h->start_index, since);
        return fail(s, err, STORE_EVENT_INDEX_CLEARED, str_of(cause));
    }
    *out = NULL;
    e = event_history_scan(h, path, recursive, since);
    if (e)
        deliver_past(e, deliver, arg);
    else
        *out = hub_watch(s->hub, path, recursive, stream, since, deliver, arg);
    return 0;
}

void store_unwatch(struct store *s, struct store_watcher *w)
{
    hub_unwatch(s->hub, w);
}

/* --- Views and snapshots. ------------------------------------------------ */

struct store_view *store_pin(struct store *s)
{
    struct store_view *v = xmalloc(sizeof(*v));

    v->state.root = trie_ref(s->state.root);
    v->state.index = s->state.index;
    v->state.counters = s->state.counters;
    event_history_copy(&v->state.history, &s->state.history);
    return v;
}

void store_unpin(struct store_view *v)
{
    if (!v)
        return;
    storesnap_release(&v->state);
    free(v);
}

int store_view_write(const struct store_view *v, store_sink *sink, void *arg)
{
    return storesnap_write(&v->state, sink, arg);
}

static int add_piece(void *arg, const void *p, size_t n)
{
    buf_add(arg, p, n);
    return 0;
}

void store_view_json(struct buf *b, const struct store_view *v)
{
    store_view_write(v, add_piece, b);
}

uint64_t store_view_index(const struct store_view *v)
{
    return v->state.index;
}

int store_check(const void *json, size_t n, struct err *e)
{
    struct store_state *read = xcalloc(1, sizeof(*read)); /* 8 KB: no stack */
    int rc = storesnap_read(json, n, read, e);

    storesnap_release(read);
    free(read);
    return rc;
}

int store_recover(struct store *s, const void *json, size_t n, struct err *e)
{
    struct store_state *read = xcalloc(1, sizeof(*read)); /* 8 KB: no stack */

    if (storesnap_read(json, n, read, e) < 0) {
        storesnap_release(read);
        free(read);
        return -1;
    }
    hub_clear(s->hub, STORE_WATCHER_CLEARED);
    storesnap_release(&s->state);
    s->state = *read;
    free(read);
    clear_ttls(s);
    s->live_bytes = survey(s, s->state.root, true);
    return 0;
}

/* --- Statistics. --------------------------------------------------------- */

struct store_counters store_counters(const struct store *s)
{
    struct store_counters c = s->state.counters;

    c.watchers = hub_count(s->hub);
    c.watch_requests = s->watch_requests;
    return c;
}

void store_stats_json(struct buf *b, const struct store *s)
{
    storesnap_add_stats(b, &s->state.counters, hub_count(s->hub));
}

/* --- Looking without counting. ------------------------------------------- */

bool store_each(const struct store *s, struct str dir, store_visit *visit,
                void *arg)
{
    const struct trie_node *n = find(s, dir, NULL);
    struct trie_walk w = {0};

    if (!n || !trie_is_dir(n))
        return false;
    trie_walk_enter(&w, n, TRIE_SORTED);
    while ((n = trie_walk_next(&w)))
        visit(arg, trie_name(n), trie_is_dir(n), trie_value(n));
    trie_walk_release(&w);
    return true;
}

const struct blob *store_peek(const struct store *s, struct str path)
{
    const struct trie_node *n = find(s, path, NULL);

    return n ? trie_value(n) : NULL;
}

bool store_is_dir(const struct store *s, struct str path)
{
    const struct trie_node *n = find(s, path, NULL);

    return n && trie_is_dir(n);
}
