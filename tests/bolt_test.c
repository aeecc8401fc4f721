/*
 * bolt_test.c - bbolt files: what is written comes back, whatever its sizes;
 * what is cut off or damaged is refused, or harmless.
 */
#include "bolt.h"

#include "chance.h"
#include "check.h"
#include "sys.h"

#include <unistd.h>

/* --- What goes in. ----------------------------------------------------------- */

struct pair {
    char *key, *value; /* NUL-terminated; owned */
};

struct bucket {
    const char *name;
    struct pair *pairs;
    size_t n;
};

/* n keys of key_len bytes at least, ascending, with such values. */
static struct bucket make_bucket(const char *name, size_t n, size_t key_len,
                                 size_t value_len)
{
    struct bucket b = {name, xcalloc(n + 1, sizeof(struct pair)), n};

    for (size_t i = 0; i < n; i++) {
        size_t len = value_len ? value_len - rnd(2) : 0;

        b.pairs[i].key = xasprintf("%0*zu", (int)key_len, 2 * i + 1);
        b.pairs[i].value = xcalloc(len + 1, 1);
        memset(b.pairs[i].value, 'a' + (int)(i % 26), len);
    }
    return b;
}

static void release_bucket(struct bucket *b)
{
    for (size_t i = 0; i < b->n; i++) {
        free(b->pairs[i].key);
        free(b->pairs[i].value);
    }
    free(b->pairs);
}

/* --- Writing. ------------------------------------------------------------------- */

static int buf_sink(void *arg, const void *p, size_t n)
{
    buf_add(arg, p, n);
    return 0;
}

static int feed(struct bolt_writer *w, const struct bucket *bs, size_t n,
                struct bolt_plan *out)
{
    int rc = 0;

    for (size_t i = 0; i < n && rc == 0; i++) {
        rc = bolt_writer_bucket(w, str_of(bs[i].name));
        for (size_t k = 0; k < bs[i].n && rc == 0; k++)
            rc = bolt_writer_put(w, str_of(bs[i].pairs[k].key),
                                 str_of(bs[i].pairs[k].value));
    }
    return rc ? rc : bolt_writer_end(w, out);
}

static struct bolt_plan measure(const struct bucket *bs, size_t n)
{
    struct bolt_writer *w = bolt_writer_new(NULL, NULL, NULL);
    struct bolt_plan plan = {0};

    CHECK(feed(w, bs, n, &plan) == 0);
    bolt_writer_free(w);
    return plan;
}

/* Front to back, by a plan; and in one pass. Both must be the same. */
static struct buf write_buckets(const struct bucket *bs, size_t n)
{
    struct bolt_plan plan = measure(bs, n), got = {0};
    struct buf out = {0}, patched = {0};
    struct bolt_writer *w = bolt_writer_new(buf_sink, &out, &plan);

    CHECK(feed(w, bs, n, &got) == 0);
    bolt_writer_free(w);
    CHECK(got.n_pages == plan.n_pages && got.root == plan.root);
    CHECK(out.len == plan.n_pages * BOLT_PAGE_BYTES);

    w = bolt_writer_new(buf_sink, &patched, NULL);
    CHECK(feed(w, bs, n, &got) == 0);
    bolt_writer_free(w);
    bolt_first_pages(&got, patched.data);
    CHECK(str_eq(buf_str(&out), buf_str(&patched)));
    buf_release(&patched);
    return out;
}

/* --- Reading. ----------------------------------------------------------------------- */

static struct bolt *open_buf(const struct buf *b)
{
    struct bolt *bolt = NULL;
    struct err e;

    CHECK(bolt_open_bytes(buf_str(b), "test.db", &bolt, &e) == 0);
    return bolt;
}

static bool is_pair(const struct bolt_item *item, const struct pair *p)
{
    return !item->is_bucket && str_eqz(item->key, p->key) &&
           str_eqz(item->value, p->value);
}

static void check_walk(struct bolt_cursor *c, const struct bucket *b)
{
    struct bolt_item item;
    size_t good = 0;

    for (size_t i = 0; i < b->n; i++)
        good += bolt_next(c, &item, NULL) == 1 && is_pair(&item, &b->pairs[i]);
    CHECK(good == b->n);
    CHECK(bolt_next(c, &item, NULL) == 0);
    CHECK(bolt_next(c, &item, NULL) == 0);
}

/* Exact, and just before and behind a key; then on from there. */
static void check_seek(struct bolt_cursor *c, const struct bucket *b, size_t i)
{
    char *key = xstrdup(b->pairs[i].key);
    size_t last = strlen(key) - 1;
    struct bolt_item item;

    CHECK(bolt_seek(c, str_of(key), &item, NULL) == 1);
    CHECK(is_pair(&item, &b->pairs[i]));
    key[last]--;
    CHECK(bolt_seek(c, str_of(key), &item, NULL) == 1);
    CHECK(is_pair(&item, &b->pairs[i]));
    key[last] += 2;
    CHECK(bolt_seek(c, str_of(key), &item, NULL) == (i + 1 < b->n));
    CHECK(i + 1 == b->n || is_pair(&item, &b->pairs[i + 1]));
    CHECK(bolt_next(c, &item, NULL) == (i + 2 < b->n));
    CHECK(i + 2 >= b->n || is_pair(&item, &b->pairs[i + 2]));
    free(key);
}

static void check_bucket(struct bolt *bolt, const struct bucket *b)
{
    struct bolt_cursor *c = NULL;

    CHECK(bolt_bucket(bolt, str_of(b->name), &c, NULL) == 1);
    check_walk(c, b);
    for (size_t i = 0; i < b->n; i += 1 + b->n / 50)
        check_seek(c, b, i);
    if (b->n)
        check_seek(c, b, b->n - 1);
    bolt_cursor_free(c);
}

static void check_buckets(struct bolt *bolt, const struct bucket *bs, size_t n)
{
    struct bolt_cursor *names = bolt_buckets(bolt), *c;
    struct bolt_item item;

    for (size_t i = 0; i < n; i++) {
        CHECK(bolt_next(names, &item, NULL) == 1);
        CHECK(item.is_bucket && str_eqz(item.key, bs[i].name));
        CHECK(bolt_enter(names, &item, &c, NULL) == 0);
        check_walk(c, &bs[i]);
        bolt_cursor_free(c);
        check_bucket(bolt, &bs[i]);
    }
    CHECK(bolt_next(names, &item, NULL) == 0);
    CHECK(bolt_bucket(bolt, STR("none"), &c, NULL) == 0);
    bolt_cursor_free(names);
}

/* --- Round trips. -------------------------------------------------------------------- */

static void round_trip(const struct bucket *bs, size_t n)
{
    struct buf file = write_buckets(bs, n);
    struct bolt *bolt = open_buf(&file);

    CHECK(bolt_size(bolt) == file.len);
    check_buckets(bolt, bs, n);
    bolt_close(bolt);
    buf_release(&file);
}

static void test_sizes(void)
{
    static const struct {
        size_t n, key_len, value_len;
    } cases[] = {
        {0, 0, 0},        {1, 1, 0},       {1, 1, 1},       {1, 1, 970},
        {1, 1, 1024},     {30, 8, 1},      {1, 1, 4050},    {1, 1, 4096},
        {3, 1, 4064},     {1, 1, 3 << 20}, {20, 4, 100000}, {5000, 17, 300},
        {40000, 17, 20},  {300, 17, 0},    {60, 30000, 10}, {2000, 2000, 300},
        {2, 32768, 5000}, {254, 17, 4000},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct bucket b = make_bucket("bucket", cases[i].n, cases[i].key_len,
                                      cases[i].value_len);

        round_trip(&b, 1);
        release_bucket(&b);
    }
    round_trip(NULL, 0);
}

/* A small bucket has no page of its own. */
static void test_inlined(void)
{
    struct bucket small = make_bucket("bucket", 1, 1, 990);
    struct bucket big = make_bucket("bucket", 1, 1, 1010);

    CHECK(measure(&small, 1).n_pages == 4);
    CHECK(measure(&big, 1).n_pages == 5);
    release_bucket(&small);
    release_bucket(&big);
}

/* Around the bounds where a bucket is moved out, and where a page is full. */
static void test_edges(void)
{
    for (size_t len = 940; len < 1000; len++) {
        struct bucket b[] = {make_bucket("a", 1, 1, len),
                             make_bucket("b", 3, 1, len + 350)};

        round_trip(b, 2);
        release_bucket(&b[0]);
        release_bucket(&b[1]);
    }
}

static void test_many_buckets(void)
{
    enum { N = 500 };
    struct bucket bs[N];
    char *names[N];

    for (size_t i = 0; i < N; i++) {
        names[i] = xasprintf("bucket%04zu", i);
        bs[i] = make_bucket(names[i], rnd(i % 50 ? 12 : 3000), 4 + rnd(20),
                            rnd(200));
    }
    round_trip(bs, N);
    for (size_t i = 0; i < N; i++) {
        release_bucket(&bs[i]);
        free(names[i]);
    }
}

static void test_file(void)
{
    struct bucket b = make_bucket("key", 20000, 17, 100);
    struct buf file = write_buckets(&b, 1);
    char *path = xasprintf("/tmp/bolt_test.%ld.db", (long)getpid());
    struct bolt *bolt = NULL;
    struct err e = {0};

    CHECK(bolt_open(path, &bolt, &e) == BOLT_EIO && strstr(e.msg, path));
    CHECK(sys_write_file_atomic(path, file.data, file.len, 0600, NULL) == 0);
    CHECK(bolt_open(path, &bolt, &e) == 0);
    CHECK_STR(bolt_name(bolt), path);
    check_buckets(bolt, &b, 1);
    bolt_close(bolt);
    CHECK(bolt_open("/tmp", &bolt, &e) == BOLT_EIO);
    unlink(path);
    free(path);
    buf_release(&file);
    release_bucket(&b);
}

struct failing {
    size_t left;
};

static int failing_sink(void *arg, const void *p, size_t n)
{
    struct failing *f = arg;

    (void)p;
    if (n > f->left)
        return 1;
    f->left -= n;
    return 0;
}

static void test_failing_sink(void)
{
    struct bucket b = make_bucket("key", 5000, 17, 100);
    struct bolt_plan plan = measure(&b, 1), out;
    size_t size = plan.n_pages * BOLT_PAGE_BYTES;

    for (size_t left = 0; left <= size; left += BOLT_PAGE_BYTES) {
        struct failing f = {left};
        struct bolt_writer *w = bolt_writer_new(failing_sink, &f, &plan);

        CHECK(feed(w, &b, 1, &out) == (left < size ? BOLT_ESINK : 0));
        bolt_writer_free(w);
    }
    release_bucket(&b);
}

static void test_wrong_plan(void)
{
    struct bucket a = make_bucket("key", 500, 17, 100);
    struct bucket b = make_bucket("key", 700, 17, 100);
    struct bolt_plan plan = measure(&a, 1), out;
    struct buf file = {0};
    struct bolt_writer *w = bolt_writer_new(buf_sink, &file, &plan);

    CHECK(feed(w, &b, 1, &out) == BOLT_EFORMAT);
    bolt_writer_free(w);
    buf_release(&file);
    release_bucket(&a);
    release_bucket(&b);
}

/* --- Damage. ----------------------------------------------------------------------------- */

/* All of a bucket; the code that ended it. Keys must ascend to the last. */
static int read_bucket(struct bolt_cursor *c, struct err *e)
{
    struct buf last = {0};
    struct bolt_item item;
    int rc;

    while ((rc = bolt_next(c, &item, e)) > 0) {
        if (str_cmp(buf_str(&last), item.key) >= 0)
            CHECK(!"in order");
        buf_clear(&last);
        buf_addstr(&last, item.key);
    }
    buf_release(&last);
    return rc;
}

static int read_all(struct str file, struct err *e)
{
    struct bolt_cursor *names, *c;
    struct bolt_item item;
    struct bolt *b;
    int rc = bolt_open_bytes(file, "test.db", &b, e);

    if (rc < 0)
        return rc;
    names = bolt_buckets(b);
    while ((rc = bolt_next(names, &item, e)) > 0) {
        rc = bolt_enter(names, &item, &c, e);
        if (rc < 0)
            break;
        rc = read_bucket(c, e);
        bolt_cursor_free(c);
        if (rc < 0)
            break;
    }
    bolt_cursor_free(names);
    bolt_close(b);
    return rc;
}

static void check_refused(struct str file)
{
    struct err e = {0};

    CHECK(read_all(file, &e) == BOLT_EFORMAT);
    CHECK(strstr(e.msg, "test.db: page ") && strstr(e.msg, "damaged"));
}

/* A small bucket within its value, one page, and three levels. */
static struct buf sample(void)
{
    struct bucket bs[] = {make_bucket("a", 3, 1, 5),
                          make_bucket("b", 20, 8, 90),
                          make_bucket("c", 9, 1900, 3000)};
    struct buf file = write_buckets(bs, ARRAY_LEN(bs));

    for (size_t i = 0; i < ARRAY_LEN(bs); i++)
        release_bucket(&bs[i]);
    return file;
}

static void test_every_prefix(void)
{
    struct buf file = sample();

    CHECK(read_all(buf_str(&file), NULL) == 0);
    for (size_t n = 0; n < file.len; n += 1 + (n > 300) * 97) {
        /* its own allocation, so that no byte behind it goes unnoticed */
        char *cut = n ? memcpy(xmalloc(n), file.data, n) : NULL;

        check_refused((struct str){cut ? cut : "", n});
        free(cut);
    }
    buf_release(&file);
}

static void test_every_byte(void)
{
    static const uint8_t flips[] = {0x01, 0x80, 0xff};
    struct buf file = sample();
    size_t refused = 0;

    for (size_t i = 0; i < file.len; i++) {
        uint8_t was = file.data[i];

        /* fillers and values are many, and alike */
        if (i > 8 && was == file.data[i - 8] && i % 64)
            continue;
        for (size_t f = 0; f < ARRAY_LEN(flips); f++) {
            struct err e = {0};
            int rc;

            file.data[i] = was ^ flips[f];
            rc = read_all(buf_str(&file), &e);
            CHECK(rc == 0 || (rc == BOLT_EFORMAT && e.msg[0]));
            refused += rc < 0;
        }
        file.data[i] = was;
    }
    CHECK(refused > 500);
    buf_release(&file);
}

/* --- Files of other writers, made by hand. ------------------------------------------------- */

enum { SMALL_PAGE = 1024, HAND_PAGES = 12 };

static void put_u16le(uint8_t *p, unsigned v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static uint8_t *hand_page(struct buf *b, uint64_t id, unsigned flags,
                          unsigned count, uint32_t overflow)
{
    uint8_t *p = b->data + id * SMALL_PAGE;

    put_u64le(p, id);
    put_u16le(p + 8, flags);
    put_u16le(p + 10, count);
    put_u32le(p + 12, overflow);
    return p + 16;
}

static void hand_meta(struct buf *b, uint64_t id, uint64_t root, uint64_t txid)
{
    uint8_t *p = hand_page(b, id, 0x04, 0, 0);
    uint64_t h = UINT64_C(0xcbf29ce484222325);

    put_u32le(p, 0xed0cdaed);
    put_u32le(p + 4, 2);
    put_u32le(p + 8, SMALL_PAGE);
    put_u64le(p + 16, root);
    put_u64le(p + 32, UINT64_MAX); /* no freelist */
    put_u64le(p + 40, HAND_PAGES);
    put_u64le(p + 48, txid);
    for (size_t i = 0; i < 56; i++)
        h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    put_u64le(p + 56, h);
}

static void hand_branch(uint8_t *elements, unsigned i, size_t at,
                        const char *key, uint64_t child)
{
    uint8_t *p = elements + (size_t)16 * i;

    put_u32le(p, (uint32_t)(at - (size_t)16 * i));
    put_u32le(p + 4, (uint32_t)strlen(key));
    put_u64le(p + 8, child);
    memcpy(elements + at, key, strlen(key));
}

static void hand_leaf(uint8_t *elements, unsigned i, size_t at, const char *key,
                      struct str value, unsigned flags)
{
    uint8_t *p = elements + (size_t)16 * i;

    put_u32le(p, flags);
    put_u32le(p + 4, (uint32_t)(at - (size_t)16 * i));
    put_u32le(p + 8, (uint32_t)strlen(key));
    put_u32le(p + 12, (uint32_t)value.n);
    memcpy(elements + at, key, strlen(key));
    memcpy(elements + at + strlen(key), value.p, value.n);
}

/*
 * Page 2: buckets, one: "b" at 3. Page 3: a branch to 4 and 6. Page 4: a leaf
 * with a value that goes on in 5. Page 6: two items, the second a bucket
 * within. Meta 1 counts; meta 0 is older and leads nowhere.
 */
static struct buf hand_made(void)
{
    struct buf b = {0};
    uint8_t root[16] = {3}, *p;
    char big[1500];

    buf_reserve(&b, (size_t)HAND_PAGES * SMALL_PAGE);
    b.len = (size_t)HAND_PAGES * SMALL_PAGE;
    memset(b.data, 0, b.len);
    memset(big, 'x', sizeof(big));
    hand_meta(&b, 0, 9, 4);
    hand_meta(&b, 1, 2, 5);
    hand_leaf(hand_page(&b, 2, 0x02, 1, 0), 0, 16, "b",
              (struct str){(char *)root, 16}, 1);
    p = hand_page(&b, 3, 0x01, 2, 0);
    hand_branch(p, 0, 64, "d", 4);
    hand_branch(p, 1, 80, "k", 6);
    /* "c" is before the branch's own first key: bbolt goes left all the same */
    hand_leaf(hand_page(&b, 4, 0x02, 1, 1), 0, 200, "c",
              (struct str){big, sizeof(big)}, 0);
    p = hand_page(&b, 6, 0x02, 2, 0);
    hand_leaf(p, 0, 100, "k", STR("v"), 0);
    root[0] = 7;
    hand_leaf(p, 1, 200, "l", (struct str){(char *)root, 16}, 1);
    hand_page(&b, 7, 0x02, 0, 0);
    return b;
}

static void check_hand_made(struct buf *b)
{
    struct bolt *bolt = open_buf(b);
    struct bolt_cursor *c = NULL, *within = NULL;
    struct bolt_item item;

    CHECK(bolt_txid(bolt) == 5);
    CHECK(bolt_size(bolt) == HAND_PAGES * SMALL_PAGE);
    CHECK(bolt_bucket(bolt, STR("b"), &c, NULL) == 1);
    CHECK(bolt_next(c, &item, NULL) == 1);
    CHECK(str_eqz(item.key, "c") && item.value.n == 1500);
    CHECK(bolt_next(c, &item, NULL) == 1 && str_eqz(item.value, "v"));
    CHECK(bolt_next(c, &item, NULL) == 1 && item.is_bucket);
    CHECK(bolt_enter(c, &item, &within, NULL) == 0);
    CHECK(bolt_next(within, &item, NULL) == 0);
    CHECK(bolt_next(c, &item, NULL) == 0);
    CHECK(bolt_seek(c, STR("a"), &item, NULL) == 1 && str_eqz(item.key, "c"));
    CHECK(bolt_seek(c, STR("e"), &item, NULL) == 1 && str_eqz(item.key, "k"));
    CHECK(bolt_seek(c, STR("m"), &item, NULL) == 0);
    bolt_cursor_free(within);
    bolt_cursor_free(c);
    bolt_close(bolt);
}

static void test_other_writers(void)
{
    struct buf b = hand_made();

    check_hand_made(&b);
    b.data[30] ^= 1; /* the first meta; the second one is found without it */
    check_hand_made(&b);
    b.data[SMALL_PAGE + 30] ^= 1;
    check_refused(buf_str(&b));
    buf_release(&b);
}

/* A broken page each; all else is as it was. */
static void break_self(struct buf *b)
{
    uint8_t *p = hand_page(b, 3, 0x01, 1, 0);

    hand_branch(p, 0, 64, "d", 3);
}

static void break_shared(struct buf *b)
{
    hand_branch(hand_page(b, 3, 0x01, 2, 0), 1, 80, "k", 4);
}

static void break_empty(struct buf *b)
{
    hand_page(b, 4, 0x02, 0, 0);
}

static void break_range(struct buf *b)
{
    hand_branch(hand_page(b, 3, 0x01, 2, 0), 1, 80, "k", HAND_PAGES);
}

static void break_meta_child(struct buf *b)
{
    hand_branch(hand_page(b, 3, 0x01, 2, 0), 1, 80, "k", 1);
}

static void break_overflow(struct buf *b)
{
    hand_page(b, 4, 0x02, 1, UINT32_MAX);
}

static void break_id(struct buf *b)
{
    put_u64le(b->data + 4 * SMALL_PAGE, 5);
}

static void break_flags(struct buf *b)
{
    hand_page(b, 4, 0x10, 1, 1);
}

static void break_order(struct buf *b)
{
    hand_leaf(hand_page(b, 6, 0x02, 2, 0), 0, 100, "m", STR("v"), 0);
}

static void break_twice(struct buf *b)
{
    hand_leaf(hand_page(b, 6, 0x02, 2, 0), 1, 200, "k", STR("v"), 0);
}

static void break_low(struct buf *b)
{
    hand_leaf(hand_page(b, 6, 0x02, 2, 0), 0, 100, "j", STR("v"), 0);
}

static void break_end(struct buf *b)
{
    hand_page(b, 4, 0x02, 1, HAND_PAGES - 4);
}

static void break_bound(struct buf *b)
{
    hand_leaf(hand_page(b, 4, 0x02, 1, 1), 0, 200, "z", STR("v"), 0);
}

static void break_count(struct buf *b)
{
    hand_page(b, 6, 0x02, 0xffff, 0);
}

static void break_pos(struct buf *b)
{
    put_u32le(hand_page(b, 6, 0x02, 2, 0) + 4, UINT32_MAX);
}

static void break_bucket(struct buf *b)
{
    hand_leaf(hand_page(b, 2, 0x02, 1, 0), 0, 16, "b", STR("short"), 1);
}

static void break_inlined(struct buf *b)
{
    char value[32] = {0};

    hand_leaf(hand_page(b, 2, 0x02, 1, 0), 0, 16, "b",
              (struct str){value, sizeof(value)}, 1);
}

static void break_root(struct buf *b)
{
    hand_meta(b, 1, UINT64_MAX, 5);
}

static void break_deep(struct buf *b)
{
    /* 3 -> 8 -> 3: within its bounds for ever */
    hand_branch(hand_page(b, 3, 0x01, 1, 0), 0, 64, "d", 8);
    hand_branch(hand_page(b, 8, 0x01, 1, 0), 0, 64, "d", 3);
}

static void test_broken(void)
{
    static void (*const breaks[])(struct buf *) = {
        break_self,   break_shared,  break_empty,      break_range,
        break_id,     break_flags,   break_meta_child, break_overflow,
        break_order,  break_bound,   break_count,      break_pos,
        break_bucket, break_inlined, break_root,       break_deep,
        break_twice,  break_low,     break_end,
    };

    for (size_t i = 0; i < ARRAY_LEN(breaks); i++) {
        struct buf b = hand_made();

        CHECK(read_all(buf_str(&b), NULL) == 0);
        breaks[i](&b);
        check_refused(buf_str(&b));
        buf_release(&b);
    }
}

/* --- Appending. ------------------------------------------------------------ */

static unsigned get_u16(const uint8_t *p)
{
    return p[0] | (unsigned)p[1] << 8;
}

/* Counts a page, and those that it leads to, but of what is inlined. */
static void visit_page(const struct buf *b, uint64_t page, uint8_t *seen,
                       bool of_buckets)
{
    const uint8_t *p = b->data + page * BOLT_PAGE_BYTES, *el = p + 16;
    bool is_branch = get_u16(p + 8) == 1;

    for (uint64_t i = 0; i <= get_u32le(p + 12); i++)
        seen[page + i]++;
    for (unsigned i = 0; i < get_u16(p + 10); i++, el += 16) {
        uint64_t root;

        if (is_branch) {
            visit_page(b, get_u64le(el + 8), seen, of_buckets);
        } else if (of_buckets) {
            root = get_u64le(el + get_u32le(el + 4) + get_u32le(el + 8));
            if (root)
                visit_page(b, root, seen, false);
        }
    }
}

/* As bbolt's own check: each page is in use, or in the list of free ones. */
static void check_pages(const struct buf *b)
{
    size_t n = b->len / BOLT_PAGE_BYTES, wrong = 0;
    const uint8_t *meta[] = {b->data + 16, b->data + BOLT_PAGE_BYTES + 16};
    const uint8_t *m = meta[get_u64le(meta[1] + 48) > get_u64le(meta[0] + 48)];
    uint64_t list = get_u64le(m + 32), last = 0;
    const uint8_t *free_page = b->data + list * BOLT_PAGE_BYTES;
    uint8_t *seen = xcalloc(n, 1);

    CHECK(get_u64le(m + 40) == n && get_u16(free_page + 8) == 0x10);
    seen[0] = seen[1] = 1;
    for (uint64_t i = 0; i <= get_u32le(free_page + 12); i++)
        seen[list + i]++;
    for (unsigned i = 0; i < get_u16(free_page + 10); i++) {
        uint64_t page = get_u64le(free_page + 16 + (size_t)i * 8);

        CHECK(page > last && page < n);
        seen[last = page]++;
    }
    visit_page(b, get_u64le(m + 16), seen, true);
    for (size_t i = 0; i < n; i++)
        wrong += seen[i] != 1;
    CHECK(wrong == 0);
    free(seen);
}

/* The middle one of three grows: from `from` on, and to `to`. */
static int feed_growing(struct bolt_writer *w, const struct bucket *bs,
                        size_t from, size_t to, struct bolt_plan *out)
{
    int rc = 0;

    for (size_t i = 0; i < 3 && rc == 0; i++) {
        rc = bolt_writer_bucket(w, str_of(bs[i].name));
        if (i == 1)
            bolt_writer_grows(w);
        for (size_t k = i == 1 ? from : 0; k < (i == 1 ? to : bs[i].n); k++)
            rc |= bolt_writer_put(w, str_of(bs[i].pairs[k].key),
                                  str_of(bs[i].pairs[k].value));
    }
    return rc ? rc : bolt_writer_end(w, out);
}

static void check_shown(const struct buf *b, struct bucket *bs, size_t grown)
{
    size_t n = bs[1].n;
    struct bolt *bolt = open_buf(b);
    struct bolt_cursor *c = NULL;

    bs[1].n = grown;
    for (size_t i = 0; i < 3; i++) {
        CHECK(bolt_bucket(bolt, str_of(bs[i].name), &c, NULL) == 1);
        check_walk(c, &bs[i]);
        bolt_cursor_free(c);
    }
    bs[1].n = n;
    bolt_close(bolt);
}

/* Until its meta is there, the file is what it was; so it is again when that
 * is torn. */
static struct bolt_end *check_append(struct buf *b, struct bucket *bs,
                                     struct bolt_end *end, size_t from,
                                     size_t to)
{
    uint8_t page[BOLT_PAGE_BYTES];
    struct bolt_plan plan = {0};
    struct bolt_writer *w = bolt_writer_append(buf_sink, b, end);
    uint64_t at;

    CHECK(feed_growing(w, bs, from, to, &plan) == 0);
    CHECK(b->len == plan.n_pages * BOLT_PAGE_BYTES);
    check_shown(b, bs, from);
    at = bolt_put_meta(&plan, page);
    memcpy(b->data + at, page, sizeof(page));
    check_shown(b, bs, to);
    check_pages(b);
    b->data[at + 60] ^= 1;
    check_shown(b, bs, from);
    b->data[at + 60] ^= 1;
    bolt_end_free(end);
    end = bolt_writer_take_end(w);
    bolt_writer_free(w);
    return end;
}

static void check_growth(size_t key_len, size_t value_len, const size_t *steps,
                         size_t n_steps)
{
    struct bucket bs[] = {
        make_bucket("a", 400, 8, 20),
        make_bucket("grows", steps[n_steps - 1], key_len, value_len),
        make_bucket("z", 3, 8, 20),
    };
    struct buf b = {0};
    struct bolt_plan plan = {0};
    struct bolt_writer *w = bolt_writer_new(buf_sink, &b, NULL);
    struct bolt_end *end;

    CHECK(feed_growing(w, bs, 0, steps[0], &plan) == 0);
    bolt_first_pages(&plan, b.data);
    end = bolt_writer_take_end(w);
    bolt_writer_free(w);
    check_shown(&b, bs, steps[0]);
    for (size_t i = 1; i < n_steps; i++)
        end = check_append(&b, bs, end, steps[i - 1], steps[i]);
    bolt_end_free(end);
    for (size_t i = 0; i < ARRAY_LEN(bs); i++)
        release_bucket(&bs[i]);
    buf_release(&b);
}

/* From nothing, from inlined, over one level and several, and by nothing. */
static void test_append(void)
{
    static const size_t few[] = {0, 0, 1, 2, 3, 20, 21, 21, 300};
    static const size_t many[] = {1, 5000, 5001, 5040, 30000, 30000, 31000};

    check_growth(18, 30, few, ARRAY_LEN(few));
    check_growth(18, 300, many, ARRAY_LEN(many));
    check_growth(2000, 6000, few, ARRAY_LEN(few));
}

/* Each time the same is written anew, and its pages before are lost. */
static void test_worn(void)
{
    struct bucket bs[] = {make_bucket("a", 2000, 8, 20),
                          make_bucket("grows", 10, 18, 100),
                          make_bucket("z", 3, 8, 20)};
    struct buf b = {0};
    struct bolt_plan plan = {0};
    struct bolt_writer *w = bolt_writer_new(buf_sink, &b, NULL);
    struct bolt_end *end;
    unsigned times = 0;

    CHECK(feed_growing(w, bs, 0, 10, &plan) == 0);
    bolt_first_pages(&plan, b.data);
    end = bolt_writer_take_end(w);
    bolt_writer_free(w);
    for (; times < 1000 && !bolt_end_is_worn(end); times++)
        end = check_append(&b, bs, end, 10, 10);
    CHECK(times > 3 && times < 50);
    bolt_end_free(end);
    for (size_t i = 0; i < ARRAY_LEN(bs); i++)
        release_bucket(&bs[i]);
    buf_release(&b);
}

int main(void)
{
    test_sizes();
    test_edges();
    test_inlined();
    test_many_buckets();
    test_file();
    test_failing_sink();
    test_wrong_plan();
    test_every_prefix();
    test_every_byte();
    test_other_writers();
    test_broken();
    test_append();
    test_worn();
    return check_done("bolt_test");
}
