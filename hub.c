/*
 * hub.c - watchers, hung on the paths that they watch.
 *
 * The watched paths form a tree of points, one for each element of a path:
 *
 *     "/" -- "1" -- "config" -- "db"     each with a list of watchers
 *
 * and a hash table finds the point of a name below another. So an event goes
 * down its own path and stops where nobody watches any more; and the deletion
 * of a directory goes through the points below it, which are as many as the
 * watchers want, and not through the keys, which may be millions.
 *
 * The rules of who hears of what are etcd's. A watcher hears of an event at
 * its own path; below it, if it is recursive and no element of the way down
 * begins with "_"; and above it, if what was deleted held its path. A deletion
 * therefore reaches the watcher of the very path twice, once for each rule:
 * a stream shows both.
 *
 * INVARIANT  A point other than the root has watchers, or points below it.
 */
#include "hub.h"

#include <assert.h>

struct store_watcher {
    struct point *point;
    struct store_watcher *prev, *next;
    uint64_t since;
    store_deliver *deliver;
    void *arg;
    bool recursive, stream;
};

struct point {
    struct point *parent, *child; /* child: the first one */
    struct point *prev, *next;    /* siblings */
    struct point *chain;          /* in the hash table */
    struct store_watcher *first, *last;
    uint64_t hash;
    size_t name_len;
    char name[];
};

struct hub {
    struct point *root;
    struct point **table;
    size_t n_buckets, n_points; /* buckets: a power of two */
    size_t n_watchers;
};

/* One event on its way; its JSON is made for the first who wants it. */
struct delivery {
    struct hub *hub;
    const struct store_event *e;
    struct blob *json;
};

/* --- Points. ------------------------------------------------------------- */

static struct point *new_point(struct str name)
{
    struct point *p = xcalloc(1, sizeof(*p) + name.n);

    p->name_len = name.n;
    if (name.n)
        memcpy(p->name, name.p, name.n);
    return p;
}

static uint64_t point_hash(const struct point *parent, struct trie_key k)
{
    return k.hash ^ (uint64_t)(uintptr_t)parent * 0x9e3779b97f4a7c15;
}

static struct point **bucket(const struct hub *h, uint64_t hash)
{
    return &h->table[(hash ^ hash >> 32) & (h->n_buckets - 1)];
}

static struct point *find_child(const struct hub *h, const struct point *parent,
                                struct str name)
{
    uint64_t hash;
    struct point *p;

    if (!parent->child)
        return NULL;
    hash = point_hash(parent, trie_key(name));
    for (p = *bucket(h, hash); p; p = p->chain)
        if (p->hash == hash && p->parent == parent &&
            str_eq((struct str){p->name, p->name_len}, name))
            return p;
    return NULL;
}

static void rehash(struct hub *h, size_t n_buckets)
{
    struct point **old = h->table;
    size_t n_old = h->n_buckets;

    h->table = xcalloc(n_buckets, sizeof(h->table[0]));
    h->n_buckets = n_buckets;
    for (size_t i = 0; i < n_old; i++) {
        for (struct point *p = old[i], *next; p; p = next) {
            struct point **b = bucket(h, p->hash);

            next = p->chain;
            p->chain = *b;
            *b = p;
        }
    }
    free(old);
}

static struct point *add_child(struct hub *h, struct point *parent,
                               struct str name)
{
    struct point *p = new_point(name), **b;

    if (h->n_points >= h->n_buckets)
        rehash(h, h->n_buckets * 2);
    p->hash = point_hash(parent, trie_key(name));
    p->parent = parent;
    p->next = parent->child;
    if (p->next)
        p->next->prev = p;
    parent->child = p;
    b = bucket(h, p->hash);
    p->chain = *b;
    *b = p;
    h->n_points++;
    return p;
}

static void free_point(struct hub *h, struct point *p)
{
    struct point **at = bucket(h, p->hash);

    while (*at != p)
        at = &(*at)->chain;
    *at = p->chain;
    if (p->prev)
        p->prev->next = p->next;
    else
        p->parent->child = p->next;
    if (p->next)
        p->next->prev = p->prev;
    h->n_points--;
    free(p);
}

static bool is_idle(const struct point *p)
{
    return !p->first && !p->child && p->parent;
}

/* Free p and what is above it, as far as nobody needs it. */
static void prune(struct hub *h, struct point *p)
{
    while (is_idle(p)) {
        struct point *parent = p->parent;

        free_point(h, p);
        p = parent;
    }
}

/* Cut the next element off path: "/a/b" gives "a". False at the end. */
static bool next_element(struct str *path, struct str *name)
{
    if (path->n > 0)
        path->p++, path->n--; /* the slash */
    if (path->n == 0)
        return false;
    str_cut(path, '/', name);
    if (path->n > 0)
        path->p--, path->n++; /* the next slash stays */
    return true;
}

/* --- Watchers. ----------------------------------------------------------- */

struct hub *hub_new(void)
{
    struct hub *h = xcalloc(1, sizeof(*h));

    h->root = new_point((struct str){"", 0});
    h->n_buckets = 16;
    h->table = xcalloc(h->n_buckets, sizeof(h->table[0]));
    return h;
}

void hub_free(struct hub *h)
{
    assert(h->n_watchers == 0 && h->n_points == 0);
    free(h->root);
    free(h->table);
    free(h);
}

struct store_watcher *hub_watch(struct hub *h, struct str path, bool recursive,
                                bool stream, uint64_t since,
                                store_deliver *deliver, void *arg)
{
    struct store_watcher *w = xmalloc(sizeof(*w));
    struct point *p = h->root, *child;
    struct str name;

    while (next_element(&path, &name)) {
        child = find_child(h, p, name);
        p = child ? child : add_child(h, p, name);
    }
    *w = (struct store_watcher){.point = p,
                                .prev = p->last,
                                .since = since,
                                .deliver = deliver,
                                .arg = arg,
                                .recursive = recursive,
                                .stream = stream};
    if (p->last)
        p->last->next = w;
    else
        p->first = w;
    p->last = w;
    h->n_watchers++;
    return w;
}

/* Its point may be left idle: the caller prunes. */
static void remove_watcher(struct hub *h, struct store_watcher *w)
{
    struct point *p = w->point;

    if (w->prev)
        w->prev->next = w->next;
    else
        p->first = w->next;
    if (w->next)
        w->next->prev = w->prev;
    else
        p->last = w->prev;
    h->n_watchers--;
    free(w);
}

void hub_unwatch(struct hub *h, struct store_watcher *w)
{
    struct point *p = w->point;

    remove_watcher(h, w);
    prune(h, p);
}

size_t hub_count(const struct hub *h)
{
    return h->n_watchers;
}

/* --- Notification. ------------------------------------------------------- */

static void deliver(struct delivery *d, struct store_watcher *w)
{
    struct buf b = {0};
    bool taken;

    if (!d->json) {
        store_event_json(&b, d->e, 0); /* its TTLs are fixed: no time needed */
        d->json = blob_new(b.data, b.len);
        buf_release(&b);
    }
    taken = w->deliver(w->arg, d->json, 0);
    if (!taken)
        w->deliver(w->arg, NULL, 0);
    if (!taken || !w->stream)
        remove_watcher(d->hub, w);
}

/* All watchers of p, or the recursive ones only. */
static void notify_point(struct delivery *d, struct point *p, bool all)
{
    struct store_watcher *next;

    for (struct store_watcher *w = p->first; w; w = next) {
        next = w->next;
        if ((all || w->recursive) && d->e->modified >= w->since)
            deliver(d, w);
    }
}

/* The point of path, if it is still watched or leads to one that is. */
static struct point *find_point(const struct hub *h, struct str path)
{
    struct point *p = h->root;
    struct str name;

    while (p && next_element(&path, &name))
        p = find_child(h, p, name);
    return p;
}

/* Where in path the last element that begins with "_" starts; else 0. */
static size_t last_hidden(struct str path)
{
    for (size_t i = path.n; i-- > 1;)
        if (path.p[i] == '_' && path.p[i - 1] == '/')
            return i;
    return 0;
}

/* Down the event's own path, from the root. */
static void notify_path(struct delivery *d)
{
    struct str path = event_path(d->e), rest = path, name;
    size_t hidden = last_hidden(path);
    struct point *p = d->hub->root, *deepest;

    for (;;) {
        bool here = rest.n == 0;

        /* What is left of the path must not lead through a hidden name. */
        if (here || path.n - rest.n >= hidden)
            notify_point(d, p, here);
        deepest = p;
        if (!next_element(&rest, &name))
            break;
        p = find_child(d->hub, p, name);
        if (!p)
            break;
    }
    prune(d->hub, deepest);
}

/* A point below a deletion, beside the node that stood there. */
struct removed {
    struct point *point;
    const struct trie_node *node;
};

/*
 * Through the points at and below top, children first, as far as the removed
 * tree goes. The stack is on the heap, for paths may be deep.
 */
static void notify_removed(struct delivery *d, struct point *top,
                           const struct trie_node *node)
{
    struct point *p = top, *next = top->child, *parent;
    const struct trie_node **nodes = xmalloc(8 * sizeof(*nodes));
    size_t depth = 0, cap = 8;

    nodes[0] = node;
    for (;;) {
        const struct trie_node *n = NULL;

        while (next && trie_is_dir(nodes[depth])) {
            n = trie_find(nodes[depth],
                          trie_key((struct str){next->name, next->name_len}));
            if (n)
                break;
            next = next->next;
        }
        if (n) { /* down */
            if (++depth == cap)
                nodes = xrealloc(nodes, (cap *= 2) * sizeof(*nodes));
            nodes[depth] = n;
            p = next;
            next = p->child;
            continue;
        }
        notify_point(d, p, true); /* and up, or sideways */
        if (p == top)
            break;
        next = p->next;
        parent = p->parent;
        assert(parent); /* p is below top */
        if (is_idle(p))
            free_point(d->hub, p);
        p = parent;
        depth--;
    }
    free(nodes);
    prune(d->hub, top);
}

void hub_notify(struct hub *h, const struct store_event *e,
                const struct trie_node *removed)
{
    struct delivery d = {.hub = h, .e = e};
    struct point *p;

    if (removed && h->n_watchers > 0) {
        p = find_point(h, event_path(e));
        if (p)
            notify_removed(&d, p, removed);
    }
    if (h->n_watchers > 0)
        notify_path(&d);
    blob_unref(d.json);
}

void hub_clear(struct hub *h, int why)
{
    struct point *p = h->root;

    for (;;) {
        while (p->child)
            p = p->child;
        for (struct store_watcher *w = p->first, *next; w; w = next) {
            next = w->next;
            w->deliver(w->arg, NULL, why);
            remove_watcher(h, w);
        }
        if (!p->parent)
            return;
        struct point *parent = p->parent;

        free_point(h, p);
        p = parent;
    }
}
