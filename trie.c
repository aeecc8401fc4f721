/*
 * trie.c - nodes of the v2 tree and the tries that hold their children.
 *
 * NODE     One allocation. A file keeps only what it needs, because memory
 *          per key is what a store is judged by:
 *
 *              refs, meta, modified [created] [expire] name value
 *
 *          created is left out while it equals modified, expire if the file
 *          is permanent. meta says which are there, and the length of the
 *          name. A small value stands in the node as an embedded blob (whose
 *          own count is not used); a large one is a blob of its own, which
 *          copies of the node share.
 *
 * TRIE     A hash array mapped trie (Bagwell, Ideal Hash Trees, 2001). The
 *          hash of a name is read five bits at a time. A slot is empty, a
 *          node, or (low bit set) a branch: a bitmap that says which of 32
 *          slots exist, and those slots without gaps. A directory with one
 *          child points straight at it. When the 64 bits are used up, which
 *          takes two names with one hash, a branch is a plain list and its
 *          map the number of slots.
 *
 * SHARING  Nodes and branches count the slots and holders that point at
 *          them. Whoever changes something goes down from the root and copies
 *          each thing with a count above one; so what has a count of one, on
 *          a path of ones, can be reached by nobody else.
 *
 * No function recurses through directories: dead ones wait in a list that
 * runs through themselves. Recursion through branches ends after 14 levels.
 *
 * INVARIANT  A branch has at least two slots, or one that is a branch.
 */
#include "trie.h"

#include <assert.h>

#define VALUE_INLINE_MAX 256
#define HASH_BITS 64
#define STEP_BITS 5
#define LEVELS_MAX (HASH_BITS / STEP_BITS + 2)

enum { IS_DIR = 1, HAS_CREATED = 2, HAS_EXPIRE = 4, HAS_BLOB = 8 };
#define META_BITS 4

struct trie_node {
    int refs;
    uint32_t meta; /* length of the name, then the flags above */
    uint64_t modified;
};

struct dir {
    struct trie_node head;
    union {
        uint64_t created;
        struct dir *next_dead;
    } u;
    int64_t expire_ns;
    void *root; /* a slot */
    uint32_t count;
    char name[];
};

struct branch {
    int refs;
    uint32_t map;
    void *slots[];
};

static_assert(sizeof(struct trie_node) == 16, "two words and the index");

/* --- Hashing. ------------------------------------------------------------ */

static inline uint64_t rotate(uint64_t x, int n)
{
    return x << n | x >> (64 - n);
}

static inline void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[0] = rotate(v[0], 32);
    v[2] += v[3];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[2] = rotate(v[2], 32);
}

/*
 * SipHash-1-3 (Aumasson, Bernstein 2012). The key is fixed, so that all
 * members list a directory in the same order; the function is strong so that
 * a client cannot pile up keys on one hash by plain arithmetic.
 */
static uint64_t sip_hash(struct str s)
{
    uint64_t v[4] = {0x736f6d6570736575, 0x646f72616e646f6d, 0x6c7967656e657261,
                     0x7465646279746573};
    const uint8_t *p = (const uint8_t *)s.p;
    uint64_t tail = (uint64_t)s.n << 56, m;
    size_t at = 0;

    for (; s.n - at >= 8; at += 8, p += 8) {
        m = get_u64le(p);
        v[3] ^= m;
        sip_round(v);
        v[0] ^= m;
    }
    for (size_t i = 0; i < s.n - at; i++)
        tail |= (uint64_t)p[i] << 8 * i;
    v[3] ^= tail;
    sip_round(v);
    v[0] ^= tail;
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

#ifndef TRIE_HASH /* a test puts a weaker one here, to see collisions */
#define TRIE_HASH sip_hash
#endif

struct trie_key trie_key(struct str name)
{
    return (struct trie_key){name, TRIE_HASH(name)};
}

/* --- Reference counts. --------------------------------------------------- */

static void count_up(int *refs)
{
    __atomic_fetch_add(refs, 1, __ATOMIC_RELAXED);
}

/* True if that was the last one. */
static bool count_down(int *refs)
{
    return __atomic_fetch_sub(refs, 1, __ATOMIC_ACQ_REL) == 1;
}

static bool is_shared(const int *refs)
{
    return __atomic_load_n(refs, __ATOMIC_ACQUIRE) != 1;
}

/* --- Nodes. -------------------------------------------------------------- */

static size_t name_len(const struct trie_node *n)
{
    return n->meta >> META_BITS;
}

static size_t align_up(size_t n, size_t align)
{
    return (n + align - 1) / align * align;
}

/* The 64-bit fields that a file with these flags has after the head. */
static size_t n_extra(uint32_t meta)
{
    return !!(meta & HAS_CREATED) + !!(meta & HAS_EXPIRE);
}

static uint64_t *extra(const struct trie_node *n)
{
    return (uint64_t *)((uintptr_t)n + sizeof(*n));
}

static size_t name_offset(uint32_t meta)
{
    return sizeof(struct trie_node) + n_extra(meta) * sizeof(uint64_t);
}

static size_t value_offset(uint32_t meta)
{
    size_t end = name_offset(meta) + (meta >> META_BITS);

    return align_up(end, meta & HAS_BLOB ? sizeof(void *) : sizeof(uint32_t));
}

static void *value_at(const struct trie_node *n)
{
    return (void *)((uintptr_t)n + value_offset(n->meta));
}

static uint32_t meta_of(struct str name, uint32_t flags)
{
    assert(name.n <= TRIE_NAME_MAX);
    return (uint32_t)name.n << META_BITS | flags;
}

/* All of a file but its value, for which there is room of value_size bytes. */
static struct trie_node *new_file(struct str name, uint32_t flags,
                                  size_t value_size, uint64_t modified,
                                  uint64_t created, int64_t expire_ns)
{
    struct trie_node *n;
    uint64_t *field;
    uint32_t meta;

    if (created != modified)
        flags |= HAS_CREATED;
    if (expire_ns != 0)
        flags |= HAS_EXPIRE;
    meta = meta_of(name, flags);
    n = xmalloc(value_offset(meta) + value_size);
    n->refs = 1;
    n->meta = meta;
    n->modified = modified;
    field = extra(n);
    if (meta & HAS_CREATED)
        *field++ = created;
    if (meta & HAS_EXPIRE)
        *field = (uint64_t)expire_ns;
    if (name.n)
        memcpy((char *)n + name_offset(meta), name.p, name.n);
    return n;
}

struct trie_node *trie_file(struct str name, struct str value,
                            uint64_t modified, uint64_t created,
                            int64_t expire_ns)
{
    struct trie_node *n;
    struct blob *b;

    assert(value.n <= TRIE_VALUE_MAX);
    if (value.n > VALUE_INLINE_MAX) {
        n = new_file(name, HAS_BLOB, sizeof(b), modified, created, expire_ns);
        *(struct blob **)value_at(n) = blob_new(value.p, value.n);
        return n;
    }
    n = new_file(name, 0, sizeof(*b) + value.n, modified, created, expire_ns);
    b = value_at(n);
    b->refs = 1;
    b->len = (uint32_t)value.n;
    if (value.n)
        memcpy(b->data, value.p, value.n);
    return n;
}

struct trie_node *trie_restamp(const struct trie_node *n, uint64_t modified,
                               uint64_t created, int64_t expire_ns)
{
    struct trie_node *copy;

    if (!(n->meta & HAS_BLOB))
        return trie_file(trie_name(n), blob_str(trie_value(n)), modified,
                         created, expire_ns);
    copy = new_file(trie_name(n), HAS_BLOB, sizeof(struct blob *), modified,
                    created, expire_ns);
    *(struct blob **)value_at(copy) = blob_ref(*(struct blob **)value_at(n));
    return copy;
}

struct trie_node *trie_dir(struct str name, uint64_t modified, uint64_t created,
                           int64_t expire_ns)
{
    struct dir *d = xmalloc(sizeof(*d) + name.n);

    d->head.refs = 1;
    d->head.meta = meta_of(name, IS_DIR);
    d->head.modified = modified;
    d->u.created = created;
    d->expire_ns = expire_ns;
    d->root = NULL;
    d->count = 0;
    if (name.n)
        memcpy(d->name, name.p, name.n);
    return &d->head;
}

static struct dir *dir_of(const struct trie_node *n)
{
    assert(n->meta & IS_DIR);
    return (struct dir *)(uintptr_t)n;
}

struct trie_node *trie_bare(struct trie_node *n)
{
    if (!trie_is_dir(n))
        return trie_ref(n);
    return trie_dir(trie_name(n), n->modified, trie_created(n),
                    trie_expire_ns(n));
}

struct trie_node *trie_ref(struct trie_node *n)
{
    if (n)
        count_up(&n->refs);
    return n;
}

bool trie_is_dir(const struct trie_node *n)
{
    return n->meta & IS_DIR;
}

struct str trie_name(const struct trie_node *n)
{
    const char *p = trie_is_dir(n) ? dir_of(n)->name
                                   : (const char *)n + name_offset(n->meta);

    return (struct str){p, name_len(n)};
}

uint64_t trie_modified(const struct trie_node *n)
{
    return n->modified;
}

uint64_t trie_created(const struct trie_node *n)
{
    if (trie_is_dir(n))
        return dir_of(n)->u.created;
    return n->meta & HAS_CREATED ? extra(n)[0] : n->modified;
}

int64_t trie_expire_ns(const struct trie_node *n)
{
    if (trie_is_dir(n))
        return dir_of(n)->expire_ns;
    return n->meta & HAS_EXPIRE ? (int64_t)extra(n)[n_extra(n->meta) - 1] : 0;
}

size_t trie_count(const struct trie_node *n)
{
    return trie_is_dir(n) ? dir_of(n)->count : 0;
}

const struct blob *trie_value(const struct trie_node *n)
{
    if (trie_is_dir(n))
        return NULL;
    return n->meta & HAS_BLOB ? *(struct blob **)value_at(n) : value_at(n);
}

void trie_stamp_dir(struct trie_node *dir, uint64_t modified, uint64_t created,
                    int64_t expire_ns)
{
    assert(!is_shared(&dir->refs));
    dir->modified = modified;
    dir_of(dir)->u.created = created;
    dir_of(dir)->expire_ns = expire_ns;
}

/* --- Slots and branches. ------------------------------------------------- */

static bool is_branch(const void *slot)
{
    return (uintptr_t)slot & 1;
}

static struct branch *branch_of(const void *slot)
{
    return (struct branch *)((uintptr_t)slot & ~(uintptr_t)1);
}

static void *slot_of(const struct branch *b)
{
    return (void *)((uintptr_t)b | 1);
}

static unsigned count_bits(uint32_t x)
{
    x -= x >> 1 & 0x55555555;
    x = (x & 0x33333333) + (x >> 2 & 0x33333333);
    x = (x + (x >> 4)) & 0x0f0f0f0f;
    return x * 0x01010101 >> 24;
}

/* Past the last bit of the hash, a branch is a list. */
static bool is_list(unsigned shift)
{
    return shift >= HASH_BITS;
}

static unsigned n_slots(const struct branch *b, unsigned shift)
{
    return is_list(shift) ? b->map : count_bits(b->map);
}

static uint32_t bit_of(uint64_t hash, unsigned shift)
{
    return (uint32_t)1 << (hash >> shift & 31);
}

static bool is_named(const struct trie_node *n, struct str name)
{
    return name_len(n) == name.n && memcmp(trie_name(n).p, name.p, name.n) == 0;
}

/*
 * Where k belongs in b: true and *i is its slot; false and *i is where a slot
 * for it would go.
 */
static bool locate(const struct branch *b, unsigned shift, struct trie_key k,
                   unsigned *i)
{
    uint32_t bit;

    if (!is_list(shift)) {
        bit = bit_of(k.hash, shift);
        *i = count_bits(b->map & (bit - 1));
        return b->map & bit;
    }
    for (*i = 0; *i < b->map; ++*i)
        if (is_named(b->slots[*i], k.name))
            return true;
    return false;
}

static struct branch *new_branch(unsigned n)
{
    struct branch *b = xmalloc(sizeof(*b) + n * sizeof(b->slots[0]));

    b->refs = 1;
    return b;
}

static void ref_slot(void *slot)
{
    if (is_branch(slot))
        count_up(&branch_of(slot)->refs);
    else
        trie_ref(slot);
}

static void free_file(struct trie_node *n)
{
    if (n->meta & HAS_BLOB)
        blob_unref(*(struct blob **)value_at(n));
    free(n);
}

/* Drops a reference; directories that die of it are added to *dead. */
static void unref_slot(void *slot, unsigned shift, struct dir **dead)
{
    if (is_branch(slot)) {
        struct branch *b = branch_of(slot);

        if (!count_down(&b->refs))
            return;
        for (unsigned i = n_slots(b, shift); i-- > 0;)
            unref_slot(b->slots[i], shift + STEP_BITS, dead);
        free(b);
        return;
    }
    struct trie_node *n = slot;

    if (!n || !count_down(&n->refs))
        return;
    if (!trie_is_dir(n)) {
        free_file(n);
        return;
    }
    dir_of(n)->u.next_dead = *dead;
    *dead = dir_of(n);
}

/* Frees the dead directories, which may add more. */
static void bury(struct dir *dead)
{
    while (dead) {
        struct dir *d = dead;

        dead = d->u.next_dead;
        unref_slot(d->root, 0, &dead);
        free(d);
    }
}

void trie_unref(struct trie_node *n)
{
    struct dir *dead = NULL;

    unref_slot(n, 0, &dead);
    bury(dead);
}

/* The branch in *at, which is replaced by a copy if it is shared. */
static struct branch *own_branch(void **at, unsigned shift)
{
    struct branch *b = branch_of(*at), *copy;
    struct dir *dead = NULL;
    unsigned n;

    if (!is_shared(&b->refs))
        return b;
    n = n_slots(b, shift);
    copy = new_branch(n);
    copy->map = b->map;
    for (unsigned i = 0; i < n; i++) {
        copy->slots[i] = b->slots[i];
        ref_slot(b->slots[i]);
    }
    *at = slot_of(copy);
    unref_slot(slot_of(b), shift, &dead);
    bury(dead); /* the other holder may have let go meanwhile */
    return copy;
}

/* As above for the directory in *at. */
static void own_dir(void **at)
{
    struct dir *d = dir_of(*at), *copy;
    struct trie_node *n;

    if (!is_shared(&d->head.refs))
        return;
    n = trie_bare(&d->head);
    copy = dir_of(n);
    copy->root = d->root;
    copy->count = d->count;
    ref_slot(d->root);
    *at = n;
    trie_unref(&d->head);
}

/* --- Finding and changing. ----------------------------------------------- */

struct trie_node *trie_find(const struct trie_node *dir, struct trie_key k)
{
    void *slot = dir_of(dir)->root;
    unsigned shift = 0, i;

    while (is_branch(slot)) {
        struct branch *b = branch_of(slot);

        if (!locate(b, shift, k, &i))
            return NULL;
        slot = b->slots[i];
        shift += STEP_BITS;
    }
    return slot && is_named(slot, k.name) ? slot : NULL;
}

struct trie_node *trie_own(struct trie_node *dir, struct trie_key k)
{
    void **at = &dir_of(dir)->root;
    unsigned shift = 0, i;

    assert(!is_shared(&dir->refs));
    while (is_branch(*at)) {
        struct branch *b = own_branch(at, shift);

        if (!locate(b, shift, k, &i))
            return NULL;
        at = &b->slots[i];
        shift += STEP_BITS;
    }
    if (!*at || !is_named(*at, k.name))
        return NULL;
    if (trie_is_dir(*at))
        own_dir(at);
    return *at;
}

void trie_own_root(struct trie_node **root)
{
    void *slot = *root;

    own_dir(&slot);
    *root = slot;
}

/* One more slot in the branch at *at, at place i. */
static void add_slot(void **at, unsigned shift, unsigned i, struct trie_key k,
                     void *slot)
{
    struct branch *b = branch_of(*at);
    unsigned n = n_slots(b, shift);

    b = xrealloc(b, sizeof(*b) + (n + 1) * sizeof(b->slots[0]));
    memmove(b->slots + i + 1, b->slots + i, (n - i) * sizeof(b->slots[0]));
    b->slots[i] = slot;
    if (is_list(shift))
        b->map++;
    else
        b->map |= bit_of(k.hash, shift);
    *at = slot_of(b);
}

static void drop_slot(void **at, unsigned shift, unsigned i, struct trie_key k)
{
    struct branch *b = branch_of(*at);
    unsigned n = n_slots(b, shift);

    memmove(b->slots + i, b->slots + i + 1, (n - i - 1) * sizeof(b->slots[0]));
    if (is_list(shift))
        b->map--;
    else
        b->map &= ~bit_of(k.hash, shift);
    b = xrealloc(b, sizeof(*b) + (n - 1) * sizeof(b->slots[0]));
    *at = slot_of(b);
}

/* A node in *at gives way to a branch that holds it. */
static void split(void **at, unsigned shift)
{
    struct trie_node *n = *at;
    struct branch *b = new_branch(1);

    b->map = is_list(shift) ? 1 : bit_of(trie_key(trie_name(n)).hash, shift);
    b->slots[0] = n;
    *at = slot_of(b);
}

void trie_put(struct trie_node *dir, struct trie_key k, struct trie_node *child)
{
    struct dir *d = dir_of(dir);
    void **at = &d->root;
    unsigned shift = 0, i;

    assert(!is_shared(&dir->refs));
    for (;;) {
        if (!*at) {
            *at = child;
            d->count++;
            return;
        }
        if (!is_branch(*at) && is_named(*at, k.name)) {
            trie_unref(*at);
            *at = child;
            return;
        }
        if (!is_branch(*at))
            split(at, shift);
        own_branch(at, shift);
        if (!locate(branch_of(*at), shift, k, &i)) {
            add_slot(at, shift, i, k, child);
            d->count++;
            return;
        }
        at = &branch_of(*at)->slots[i];
        shift += STEP_BITS;
    }
}

void trie_remove(struct trie_node *dir, struct trie_key k)
{
    struct dir *d = dir_of(dir);
    void **path[LEVELS_MAX], **at = &d->root;
    unsigned places[LEVELS_MAX], shift = 0, depth = 0;

    assert(!is_shared(&dir->refs));
    while (is_branch(*at)) {
        struct branch *b = own_branch(at, shift);
        bool found = locate(b, shift, k, &places[depth]);

        assert(found && depth < LEVELS_MAX);
        path[depth] = at;
        at = &b->slots[places[depth++]];
        shift += STEP_BITS;
    }
    assert(*at && is_named(*at, k.name));
    d->count--;
    trie_unref(*at);
    if (depth == 0) {
        *at = NULL;
        return;
    }
    depth--;
    shift -= STEP_BITS;
    drop_slot(path[depth], shift, places[depth], k);
    for (;; depth--, shift -= STEP_BITS) { /* keep the invariant */
        struct branch *b = branch_of(*path[depth]);

        if (n_slots(b, shift) > 1 || is_branch(b->slots[0]))
            return;
        *path[depth] = b->slots[0];
        free(b);
        if (depth == 0)
            return;
    }
}

/* --- Walking. ------------------------------------------------------------ */

struct trie_level {
    const struct trie_node *dir;
    size_t base, next; /* its children are nodes[base..], next is due */
};

static void collect(struct trie_walk *w, void *slot, unsigned shift, int flags)
{
    struct trie_node *n = slot;

    if (is_branch(slot)) {
        struct branch *b = branch_of(slot);
        unsigned slots = n_slots(b, shift);

        for (unsigned i = 0; i < slots; i++)
            collect(w, b->slots[i], shift + STEP_BITS, flags);
        return;
    }
    if (!n)
        return;
    if ((flags & TRIE_NO_HIDDEN) && name_len(n) > 0 && *trie_name(n).p == '_')
        return;
    w->nodes[w->n_nodes++] = n;
}

static int compare_names(const void *a, const void *b)
{
    return str_cmp(trie_name(*(struct trie_node *const *)a),
                   trie_name(*(struct trie_node *const *)b));
}

size_t trie_walk_enter(struct trie_walk *w, const struct trie_node *dir,
                       int flags)
{
    size_t base = w->n_nodes, need = base + trie_count(dir), n;

    if (w->cap_nodes < need) {
        w->cap_nodes = need > w->cap_nodes * 2 ? need : w->cap_nodes * 2;
        w->nodes = xrealloc(w->nodes, w->cap_nodes * sizeof(w->nodes[0]));
    }
    if (w->n_levels == w->cap_levels) {
        w->cap_levels = w->cap_levels ? w->cap_levels * 2 : 8;
        w->levels = xrealloc(w->levels, w->cap_levels * sizeof(w->levels[0]));
    }
    collect(w, dir_of(dir)->root, 0, flags);
    n = w->n_nodes - base;
    if ((flags & TRIE_SORTED) && n > 1)
        qsort(w->nodes + base, n, sizeof(w->nodes[0]), compare_names);
    w->levels[w->n_levels++] = (struct trie_level){dir, base, base};
    return n;
}

const struct trie_node *trie_walk_dir(const struct trie_walk *w)
{
    return w->n_levels ? w->levels[w->n_levels - 1].dir : NULL;
}

struct trie_node *trie_walk_next(struct trie_walk *w)
{
    struct trie_level *l = &w->levels[w->n_levels - 1];

    return l->next < w->n_nodes ? w->nodes[l->next++] : NULL;
}

void trie_walk_leave(struct trie_walk *w)
{
    w->n_nodes = w->levels[--w->n_levels].base;
}

void trie_walk_release(struct trie_walk *w)
{
    free(w->nodes);
    free(w->levels);
    *w = (struct trie_walk){0};
}
