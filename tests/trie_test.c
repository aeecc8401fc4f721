/*
 * trie_test.c - nodes and tries against a naive twin, with a strong hash and
 * with weak ones that force long paths and true collisions; copy on write;
 * depth; and readers that drop old versions in another thread.
 *
 * trie.c is included rather than linked, so that the hash can be chosen.
 */
#include "chance.h"
#include "check.h"

#include "buf.h"

static uint64_t test_hash(struct str s);
#define TRIE_HASH test_hash
#include "../trie.c"

#include <pthread.h>
#include <stdio.h>

#define NAMES 300

static enum { STRONG, WEAK, CONSTANT } strength;

static uint64_t test_hash(struct str s)
{
    uint64_t h = sip_hash(s);

    if (strength == CONSTANT)
        return 42;
    /* Ten bits at the far end: long shared paths and many equal hashes. */
    return strength == WEAK ? (h & 0x1f) << 59 | (h >> 32 & 0x1f) << 30 : h;
}

static struct trie_key key_of(unsigned i, char out[16])
{
    int n = snprintf(out, 16, "n%u", i);

    return trie_key((struct str){out, (size_t)n});
}

static void check_invariant(void *slot, unsigned shift)
{
    struct branch *b = branch_of(slot);
    unsigned n;

    if (!is_branch(slot))
        return;
    n = n_slots(b, shift);
    CHECK(n > 1 || (n == 1 && is_branch(b->slots[0])));
    for (unsigned i = 0; i < n; i++)
        check_invariant(b->slots[i], shift + STEP_BITS);
}

/* dir holds exactly the children with values[i] != 0, and those values. */
static void check_same(const struct trie_node *dir, const unsigned *values)
{
    struct trie_walk w = {0};
    size_t count = 0, walked;
    struct trie_node *n, *last = NULL;
    char name[16];

    for (unsigned i = 0; i < NAMES; i++) {
        n = trie_find(dir, key_of(i, name));
        CHECK(!n == !values[i]);
        CHECK(!n || trie_modified(n) == values[i]);
        count += !!values[i];
    }
    CHECK(trie_count(dir) == count);
    CHECK(trie_walk_enter(&w, dir, TRIE_SORTED) == count);
    for (walked = 0; (n = trie_walk_next(&w)); walked++, last = n)
        CHECK(!last || str_cmp(trie_name(last), trie_name(n)) < 0);
    CHECK(walked == count);
    trie_walk_release(&w);
    check_invariant(dir_of(dir)->root, 0);
}

/* Random changes; now and then a version is pinned and must stay as it was. */
static void test_model(int hash_strength)
{
    struct trie_node *root = trie_dir(STR(""), 0, 0, 0), *pinned = NULL;
    unsigned now[NAMES] = {0}, then[NAMES] = {0};
    char name[16];

    strength = hash_strength;
    for (unsigned step = 1; step < 3000; step++) {
        unsigned i = rnd(step % 1000 < 500 ? NAMES : 20);
        struct trie_key k = key_of(i, name);

        trie_own_root(&root);
        if (rnd(3)) {
            trie_put(root, k, trie_file(k.name, STR("v"), step, step, 0));
            now[i] = step;
        } else if (now[i]) {
            trie_remove(root, k);
            now[i] = 0;
        }
        if (step % 250 == 0)
            check_same(root, now);
        if (step % 400 == 0) {
            if (pinned)
                check_same(pinned, then);
            trie_unref(pinned);
            pinned = trie_ref(root);
            memcpy(then, now, sizeof(then));
        }
    }
    trie_own_root(&root);
    for (unsigned i = 0; i < NAMES; i++)
        if (now[i])
            trie_remove(root, key_of(i, name));
    CHECK(trie_count(root) == 0 && !dir_of(root)->root);
    check_same(pinned, then);
    trie_unref(pinned);
    trie_unref(root);
    strength = STRONG;
}

static void test_fields(void)
{
    char large[VALUE_INLINE_MAX + 1];
    struct trie_node *n, *m;

    memset(large, 'x', sizeof(large));
    for (unsigned bits = 0; bits < 8; bits++) {
        size_t len = bits & 1 ? sizeof(large) : 5;
        uint64_t created = bits & 2 ? 7 : 9;
        int64_t expire = bits & 4 ? -1 : 0;
        struct str value;

        n = trie_file(STR("name"), (struct str){large, len}, 9, created,
                      expire);
        CHECK(!trie_is_dir(n) && str_eqz(trie_name(n), "name"));
        CHECK(trie_modified(n) == 9 && trie_created(n) == created);
        CHECK(trie_expire_ns(n) == expire && trie_count(n) == 0);
        value = blob_str(trie_value(n));
        CHECK(value.n == len && memcmp(value.p, large, len) == 0);
        m = trie_restamp(n, 11, 10, 12);
        CHECK(str_eqz(trie_name(m), "name") && trie_modified(m) == 11);
        CHECK(trie_created(m) == 10 && trie_expire_ns(m) == 12);
        CHECK((trie_value(m) == trie_value(n)) == (bits & 1));
        trie_unref(n);
        CHECK(blob_str(trie_value(m)).n == len);
        CHECK(trie_bare(m) == m);
        trie_unref(m);
        trie_unref(m);
    }
    n = trie_dir(STR("d"), 3, 2, 1);
    trie_put(n, trie_key(STR("x")), trie_file(STR("x"), STR(""), 1, 1, 0));
    m = trie_bare(n);
    CHECK(m != n && trie_is_dir(m) && trie_count(m) == 0);
    CHECK(trie_modified(m) == 3 && trie_created(m) == 2);
    CHECK(trie_expire_ns(m) == 1 && str_eqz(trie_name(m), "d"));
    CHECK(!trie_value(m) && trie_count(n) == 1);
    trie_stamp_dir(m, 7, 6, 5);
    CHECK(trie_modified(m) == 7 && trie_created(m) == 6);
    CHECK(trie_expire_ns(m) == 5);
    trie_unref(n);
    trie_unref(m);
    trie_unref(NULL);
}

/* A holder of an inner directory sees it unchanged; so does one of the root. */
static void test_copy_on_write(void)
{
    struct trie_key a = trie_key(STR("a")), x = trie_key(STR("x"));
    struct trie_node *root = trie_dir(STR(""), 0, 0, 0), *dir, *held, *old;

    trie_put(root, a, trie_dir(a.name, 1, 1, 0));
    dir = trie_own(root, a);
    trie_put(dir, x, trie_file(x.name, STR("1"), 2, 2, 0));
    CHECK(trie_own(root, a) == dir); /* nobody else: changed in place */

    held = trie_ref(dir);
    dir = trie_own(root, a);
    CHECK(dir != held);
    trie_put(dir, x, trie_file(x.name, STR("2"), 3, 3, 0));
    CHECK(trie_modified(trie_find(held, x)) == 2);

    old = trie_ref(root);
    trie_own_root(&root);
    CHECK(root != old);
    dir = trie_own(root, a);
    CHECK(dir != trie_find(old, a));
    trie_remove(dir, x);
    CHECK(trie_count(dir) == 0 && trie_count(trie_find(old, a)) == 1);
    CHECK(trie_modified(trie_find(trie_find(old, a), x)) == 3);
    CHECK(!trie_own(root, x));
    trie_unref(held);
    trie_unref(old);
    trie_unref(root);
}

static void test_walk(void)
{
    struct trie_node *root = trie_dir(STR(""), 0, 0, 0), *n;
    struct trie_key k;
    struct trie_walk w = {0};

    k = trie_key(STR("_hidden"));
    trie_put(root, k, trie_file(k.name, STR(""), 1, 1, 0));
    k = trie_key(STR("d"));
    trie_put(root, k, trie_dir(k.name, 1, 1, 0));
    k = trie_key(STR("_"));
    trie_put(trie_own(root, trie_key(STR("d"))), k,
             trie_file(k.name, STR(""), 1, 1, 0));
    CHECK(trie_walk_enter(&w, root, TRIE_NO_HIDDEN) == 1);
    n = trie_walk_next(&w);
    CHECK(n && str_eqz(trie_name(n), "d"));
    CHECK(trie_walk_enter(&w, n, TRIE_NO_HIDDEN) == 0);
    CHECK(trie_walk_dir(&w) == n && !trie_walk_next(&w));
    trie_walk_leave(&w);
    CHECK(trie_walk_dir(&w) == root && !trie_walk_next(&w));
    trie_walk_leave(&w);
    CHECK(!trie_walk_dir(&w));
    CHECK(trie_walk_enter(&w, root, TRIE_SORTED) == 2);
    trie_walk_release(&w);
    trie_unref(root);
}

/* Deeper than any stack would bear: walk it, then free it. */
static void *deep(void *arg)
{
    struct trie_node *root = trie_dir(STR(""), 0, 0, 0), *dir;
    struct trie_key k = trie_key(STR("d"));
    struct trie_walk w = {0};
    struct trie_node *n;
    size_t depth = 0;

    for (int i = 0; i < 200000; i++) { /* from the bottom up */
        dir = trie_dir(k.name, 1, 1, 0);
        trie_put(dir, k, root);
        root = dir;
    }
    trie_walk_enter(&w, root, 0);
    while (trie_walk_dir(&w)) {
        n = trie_walk_next(&w);
        if (!n)
            trie_walk_leave(&w);
        else if (trie_walk_enter(&w, n, 0) <= 1)
            depth++;
    }
    CHECK(depth == 200000);
    trie_walk_release(&w);
    trie_unref(root);
    return arg;
}

static void test_deep(void)
{
    pthread_attr_t attr;
    pthread_t t;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 96 * 1024);
    if (pthread_create(&t, &attr, deep, NULL) != 0)
        abort();
    pthread_join(t, NULL);
    pthread_attr_destroy(&attr);
}

/* One thread changes; another reads each version it is given, and drops it. */
static struct {
    pthread_mutex_t mu;
    struct trie_node *offered;
    bool over;
} exchange = {PTHREAD_MUTEX_INITIALIZER, NULL, false};

static void *reader(void *arg)
{
    struct trie_walk w = {0};
    size_t *read = arg;
    bool over = false;

    while (!over) {
        struct trie_node *root, *n;

        pthread_mutex_lock(&exchange.mu);
        root = exchange.offered;
        exchange.offered = NULL;
        over = exchange.over;
        pthread_mutex_unlock(&exchange.mu);
        if (!root)
            continue;
        trie_walk_enter(&w, root, TRIE_SORTED);
        while ((n = trie_walk_next(&w)))
            *read += blob_str(trie_value(n)).n;
        trie_walk_leave(&w);
        trie_unref(root);
    }
    trie_walk_release(&w);
    return NULL;
}

static void test_threads(void)
{
    struct trie_node *root = trie_dir(STR(""), 0, 0, 0);
    size_t read = 0;
    char name[16];
    pthread_t t;

    if (pthread_create(&t, NULL, reader, &read) != 0)
        abort();
    for (unsigned step = 1; step < 20000; step++) {
        struct trie_key k = key_of(rnd(NAMES), name);

        trie_own_root(&root);
        if (rnd(4))
            trie_put(root, k, trie_file(k.name, STR("value"), step, step, 0));
        else if (trie_find(root, k))
            trie_remove(root, k);
        pthread_mutex_lock(&exchange.mu);
        if (!exchange.offered)
            exchange.offered = trie_ref(root);
        exchange.over = step + 1 == 20000;
        pthread_mutex_unlock(&exchange.mu);
    }
    pthread_join(t, NULL);
    trie_unref(exchange.offered);
    CHECK(read > 0);
    trie_unref(root);
}

int main(void)
{
    rnd_seed = 1;
    test_fields();
    test_model(STRONG);
    test_model(WEAK);
    test_model(CONSTANT);
    test_copy_on_write();
    test_walk();
    test_deep();
    test_threads();
    return check_done("trie");
}
