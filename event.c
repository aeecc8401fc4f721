/*
 * event.c - events of the v2 store: their life, their JSON, their history.
 *
 * An event holds references of the nodes before and after, so making one
 * costs an allocation and no copy of a value; its JSON is written when
 * somebody wants it. A listing is walked with a stack on the heap, for trees
 * may be thousands of levels deep, and can leave in pieces, so that its size
 * in memory is that of one piece.
 *
 * The order of fields is etcd's: key, value, dir, expiration, ttl, nodes,
 * modifiedIndex, createdIndex, each left out if it is empty or zero.
 */
#include "event.h"

#include "json.h"
#include "sys.h"

#include <assert.h>

#define PIECE_SIZE (32 * 1024) /* what store_event_write gives at a time */

/* Go's ceiling of a time span in seconds; only positive spans are rounded. */
static int64_t ttl_of(int64_t expire_ns, int64_t now_ns)
{
    int64_t ns;

    if (expire_ns == 0)
        return 0;
    if (now_ns < 0 && expire_ns > INT64_MAX + now_ns)
        ns = INT64_MAX;
    else if (now_ns > 0 && expire_ns < INT64_MIN + now_ns)
        ns = INT64_MIN;
    else
        ns = expire_ns - now_ns;
    return ns / NS_PER_S + (ns % NS_PER_S > 0);
}

struct store_event *event_new(enum store_action action, struct str path,
                              uint64_t modified, uint64_t created,
                              struct trie_node *node, struct trie_node *prev,
                              int64_t now_ns)
{
    struct store_event *e = xmalloc(sizeof(*e) + path.n);
    struct trie_node *n = node ? node : prev;

    assert(path.n > 0 && path.n <= UINT32_MAX);
    *e = (struct store_event){
        .refs = 1,
        .action = (uint8_t)action,
        .dir = n && trie_is_dir(n),
        .modified = modified,
        .created = created,
        .node = node,
        .prev = prev,
        .ttl = node ? ttl_of(trie_expire_ns(node), now_ns) : 0,
        .prev_ttl = prev ? ttl_of(trie_expire_ns(prev), now_ns) : 0,
        .path_len = (uint32_t)path.n,
    };
    memcpy(e->path, path.p, path.n);
    return e;
}

struct store_event *store_event_ref(struct store_event *e)
{
    __atomic_fetch_add(&e->refs, 1, __ATOMIC_RELAXED);
    return e;
}

void store_event_unref(struct store_event *e)
{
    if (!e || __atomic_fetch_sub(&e->refs, 1, __ATOMIC_ACQ_REL) != 1)
        return;
    trie_unref(e->node);
    trie_unref(e->prev);
    free(e);
}

const char *store_action_name(enum store_action a)
{
    static const char *const names[] = {
        [STORE_GET] = "get",
        [STORE_CREATE] = "create",
        [STORE_SET] = "set",
        [STORE_UPDATE] = "update",
        [STORE_DELETE] = "delete",
        [STORE_CAS] = "compareAndSwap",
        [STORE_CAD] = "compareAndDelete",
        [STORE_EXPIRE] = "expire",
    };

    return names[a];
}

enum store_action store_event_action(const struct store_event *e)
{
    return (enum store_action)e->action;
}

uint64_t store_event_index(const struct store_event *e)
{
    return e->modified;
}

bool store_event_created(const struct store_event *e)
{
    return e->action == STORE_CREATE || (e->action == STORE_SET && !e->prev);
}

const struct blob *store_event_value(const struct store_event *e)
{
    return e->node ? trie_value(e->node) : NULL;
}

/* --- JSON. --------------------------------------------------------------- */

#define ADD(b, literal) buf_add(b, literal, sizeof(literal) - 1)

static void add_comma(struct buf *b)
{
    if (b->data[b->len - 1] != '{')
        buf_addc(b, ',');
}

struct str event_cut_path(struct str path)
{
    const char *slash = path.n ? memchr(path.p + 1, '/', path.n - 1) : NULL;

    if (!slash)
        return (struct str){"", 0};
    return (struct str){slash, path.n - (size_t)(slash - path.p)};
}

static void add_expiration(struct buf *b, int64_t expire_ns, int64_t ttl)
{
    char text[SYS_RFC3339_MAX];

    add_comma(b);
    ADD(b, "\"expiration\":\"");
    buf_add(b, text, sys_rfc3339(text, expire_ns));
    buf_addc(b, '"');
    if (ttl == 0)
        return;
    ADD(b, ",\"ttl\":");
    if (ttl < 0)
        buf_addc(b, '-');
    buf_add_u64(b, ttl < 0 ? 0 - (uint64_t)ttl : (uint64_t)ttl);
}

/* After an object's brace and key: up to its ttl. n may be NULL; raw: as
 * json_add_escaped() means it. */
static void open_node(struct buf *b, const struct trie_node *n, bool dir,
                      int64_t ttl, bool raw)
{
    const struct blob *value = n ? trie_value(n) : NULL;

    if (value) {
        add_comma(b);
        ADD(b, "\"value\":");
        json_add_quoted(b, blob_str(value), raw);
    }
    if (dir) {
        add_comma(b);
        ADD(b, "\"dir\":true");
    }
    if (n && trie_expire_ns(n) != 0)
        add_expiration(b, trie_expire_ns(n), ttl);
}

static void close_node(struct buf *b, uint64_t modified, uint64_t created)
{
    if (modified) {
        add_comma(b);
        ADD(b, "\"modifiedIndex\":");
        buf_add_u64(b, modified);
    }
    if (created) {
        add_comma(b);
        ADD(b, "\"createdIndex\":");
        buf_add_u64(b, created);
    }
    buf_addc(b, '}');
}

/* --- Listings. ----------------------------------------------------------- */

/* A listing on its way: sink NULL means that all of it stays in b. */
struct listing {
    struct buf *b;
    struct buf key; /* of the current directory, escaped */
    const struct store_event *e;
    int64_t now_ns;
    bool comma; /* due before the next child */
    store_sink *sink;
    void *arg;
    int rc;
};

static void flush(struct listing *l, size_t at_least)
{
    if (!l->sink || l->rc != 0 || l->b->len < at_least)
        return;
    l->rc = l->sink(l->arg, l->b->data, l->b->len);
    buf_clear(l->b);
}

/* What n is, without its children; they may follow. */
static void list_open(struct listing *l, const struct trie_node *n)
{
    buf_addc(l->b, '{');
    if (l->key.len) {
        ADD(l->b, "\"key\":\"");
        buf_addstr(l->b, buf_str(&l->key));
        buf_addc(l->b, '"');
    }
    open_node(l->b, n, trie_is_dir(n), ttl_of(trie_expire_ns(n), l->now_ns),
              false);
}

static void list_close(struct listing *l, const struct trie_node *n)
{
    close_node(l->b, trie_modified(n), trie_created(n));
    l->comma = true;
}

/* Writes "nodes":[ and enters n, if it has children to show. */
static bool list_enter(struct listing *l, struct trie_walk *w,
                       const struct trie_node *n)
{
    int order = l->e->flags & STORE_SORTED ? TRIE_SORTED : 0;

    if (trie_walk_enter(w, n, TRIE_NO_HIDDEN | order) == 0) {
        trie_walk_leave(w);
        return false;
    }
    add_comma(l->b);
    ADD(l->b, "\"nodes\":[");
    l->comma = false;
    return true;
}

/* Append /name to the key; returns the length to go back to. */
static size_t push_name(struct buf *key, const struct trie_node *n)
{
    size_t len = key->len;

    buf_addc(key, '/');
    json_add_escaped(key, trie_name(n), false);
    return len;
}

static void list_child(struct listing *l, struct trie_walk *w,
                       const struct trie_node *n)
{
    size_t len = push_name(&l->key, n);

    list_open(l, n);
    if (trie_is_dir(n) && (l->e->flags & STORE_RECURSIVE) &&
        list_enter(l, w, n))
        return; /* list_leave() closes it */
    list_close(l, n);
    l->key.len = len;
}

/* The directory has no more children: its name is the key's last element. */
static void list_leave(struct listing *l, struct trie_walk *w)
{
    const struct trie_node *dir = trie_walk_dir(w);

    trie_walk_leave(w);
    buf_addc(l->b, ']');
    list_close(l, dir);
    if (trie_walk_dir(w)) {
        while (l->key.data[l->key.len - 1] != '/')
            l->key.len--;
        l->key.len--;
    }
}

/* The node of a get, with its children if it is a directory. */
static void add_listing(struct listing *l)
{
    struct trie_walk w = {0};
    const struct trie_node *n = l->e->node;

    list_open(l, n);
    if (!trie_is_dir(n) || !list_enter(l, &w, n))
        list_close(l, n);
    while (trie_walk_dir(&w) && l->rc == 0) {
        n = trie_walk_next(&w);
        if (!n) {
            list_leave(l, &w);
            continue;
        }
        if (l->comma)
            buf_addc(l->b, ',');
        flush(l, PIECE_SIZE);
        list_child(l, &w, n);
    }
    trie_walk_release(&w);
}

static void add_get(struct listing *l)
{
    ADD(l->b, "{\"action\":\"get\",\"node\":");
    json_add_escaped(&l->key, event_cut_path(event_path(l->e)), false);
    add_listing(l);
    ADD(l->b, "}\n");
    flush(l, 0);
    buf_release(&l->key);
}

/* One of the at most two nodes of a change, up to its ttl. */
static void open_changed(struct buf *b, struct str path,
                         const struct trie_node *n, bool dir, int64_t ttl,
                         bool raw)
{
    buf_addc(b, '{');
    if (path.n) {
        ADD(b, "\"key\":");
        json_add_quoted(b, path, raw);
    }
    open_node(b, n, dir, ttl, raw);
}

/* All but the closing brace. */
static void add_change(struct buf *b, const struct store_event *e,
                       struct str path, bool raw)
{
    size_t values = e->node ? blob_str(trie_value(e->node)).n : 0;

    values += e->prev ? blob_str(trie_value(e->prev)).n : 0;
    buf_reserve(b, 2 * path.n + values + 256);
    ADD(b, "{\"action\":\"");
    buf_adds(b, store_action_name(store_event_action(e)));
    ADD(b, "\",\"node\":");
    open_changed(b, path, e->node, e->dir, e->ttl, raw);
    close_node(b, e->modified, e->created);
    if (!e->prev)
        return;
    ADD(b, ",\"prevNode\":");
    open_changed(b, path, e->prev, trie_is_dir(e->prev), e->prev_ttl, raw);
    close_node(b, trie_modified(e->prev), trie_created(e->prev));
}

void event_add_json(struct buf *b, const struct store_event *e)
{
    add_change(b, e, event_path(e), true);
    if (e->refresh)
        ADD(b, ",\"refresh\":true");
    buf_addc(b, '}');
}

void store_event_json(struct buf *b, const struct store_event *e,
                      int64_t now_ns)
{
    struct listing l = {.b = b, .e = e, .now_ns = now_ns};

    if (e->action == STORE_GET) {
        add_get(&l);
        return;
    }
    add_change(b, e, event_cut_path(event_path(e)), false);
    ADD(b, "}\n");
}

int store_event_write(const struct store_event *e, int64_t now_ns,
                      store_sink *sink, void *arg)
{
    struct buf b = {0};
    struct listing l = {
        .b = &b, .e = e, .now_ns = now_ns, .sink = sink, .arg = arg};

    if (e->action == STORE_GET) {
        add_get(&l);
    } else {
        store_event_json(&b, e, now_ns);
        flush(&l, 0);
    }
    buf_release(&b);
    return l.rc;
}

/* --- The history. -------------------------------------------------------- */

void event_history_add(struct event_history *h, struct store_event *e)
{
    store_event_unref(h->slots[h->back]);
    h->slots[h->back] = e;
    h->back = (h->back + 1) % STORE_HISTORY_MAX;
    if (h->size == STORE_HISTORY_MAX)
        h->front = h->back;
    else
        h->size++;
    h->last_index = e->modified;
    h->start_index = h->slots[h->front]->modified;
}

void event_history_copy(struct event_history *dst,
                        const struct event_history *src)
{
    *dst = *src;
    for (size_t i = 0; i < STORE_HISTORY_MAX; i++)
        if (dst->slots[i])
            store_event_ref(dst->slots[i]);
}

void event_history_release(struct event_history *h)
{
    for (size_t i = 0; i < STORE_HISTORY_MAX; i++)
        store_event_unref(h->slots[i]);
    *h = (struct event_history){0};
}

static bool starts_with(struct str s, struct str prefix)
{
    return s.n >= prefix.n && memcmp(s.p, prefix.p, prefix.n) == 0;
}

/*
 * As etcd matches history, which is not quite how it matches live events:
 * hidden keys are seen, and a deleted directory also matches the paths whose
 * text merely begins like its own, as /foobar does with /foo.
 */
static bool matches(const struct store_event *e, struct str path,
                    bool recursive)
{
    struct str key = event_path(e);

    if (e->refresh)
        return false;
    if (str_eq(key, path))
        return true;
    if (recursive && starts_with(key, path) &&
        (path.p[path.n - 1] == '/' || key.p[path.n] == '/'))
        return true;
    return (e->action == STORE_DELETE || e->action == STORE_EXPIRE) &&
           e->prev && trie_is_dir(e->prev) && starts_with(path, key);
}

struct store_event *event_history_scan(const struct event_history *h,
                                       struct str path, bool recursive,
                                       uint64_t since)
{
    assert(since >= h->start_index);
    if (since > h->last_index)
        return NULL;
    /* Every change is one event and one step of the index. */
    for (uint64_t i = since - h->start_index; i < h->size; i++) {
        struct store_event *e = h->slots[(h->front + i) % STORE_HISTORY_MAX];

        if (matches(e, path, recursive))
            return e;
    }
    return NULL;
}
