/*
 * bolt_fuzz.c - bbolt files: any bytes are read to the end or refused with a
 * message, keys in order; what holds an etcd's state comes back the same from
 * a file of our own.
 *
 * The sum of a meta page keeps a fuzzer out: so the input is also put behind
 * metas that are right, as pages 3 and up, and read from each of them.
 */
#include "backend.h"
#include "fuzz.h"

#define PAGE 1024 /* small, so that inputs have several */

static void check_items(struct bolt_cursor *c, unsigned depth)
{
    struct buf last = {0};
    struct bolt_item item;
    struct bolt_cursor *within;
    struct err e = {0};
    int rc;

    while ((rc = bolt_next(c, &item, &e)) > 0) {
        FUZZ_CHECK(str_cmp(buf_str(&last), item.key) < 0);
        buf_clear(&last);
        buf_addstr(&last, item.key);
        if (item.is_bucket && depth < 3 &&
            bolt_enter(c, &item, &within, &e) == 0) {
            check_items(within, depth + 1);
            bolt_cursor_free(within);
        }
    }
    FUZZ_CHECK(rc == 0 || (rc == BOLT_EFORMAT && e.msg[0]));
    if (last.len > 0 && rc == 0) {
        FUZZ_CHECK(bolt_seek(c, buf_str(&last), &item, &e) == 1);
        FUZZ_CHECK(str_eq(item.key, buf_str(&last)));
    }
    buf_release(&last);
}

/* --- The state. ------------------------------------------------------------- */

static size_t next_versions(void *arg, struct mvcc_cursor *c, int64_t last,
                            struct mvcc_kv **kvs, size_t max)
{
    return mvcc_log_next(arg, c, last, kvs, max);
}

static int collect(void *arg, enum backend_bucket b, struct str key,
                   struct str value, struct err *e)
{
    (void)e;
    backend_add(arg, b, key, value);
    return 0;
}

static int buf_sink(void *arg, const void *p, size_t n)
{
    buf_add(arg, p, n);
    return 0;
}

static struct buf write_state(struct mvcc *m, const struct backend_image *im)
{
    struct backend_source src = {im, next_versions, m};
    struct bolt_plan plan;
    struct buf out = {0};

    backend_measure(&src, &plan);
    FUZZ_CHECK(backend_write(&src, &plan, buf_sink, &out, NULL) == 0);
    return out;
}

/* 0, the store and all else; or the file was refused. */
static int load_state(struct str file, struct mvcc *m, struct backend_image *im)
{
    struct backend_meta meta;
    struct err e = {0};
    struct bolt *b;
    int rc = bolt_open_bytes(file, "fuzz", &b, &e);

    if (rc == 0) {
        rc = backend_load_bolt(b, m, collect, im, &meta, &e);
        bolt_close(b);
    }
    FUZZ_CHECK(rc == 0 || (rc == BOLT_EFORMAT && e.msg[0]));
    if (rc == 0) {
        mvcc_check(m);
        backend_set_meta(im, &meta);
        im->last = mvcc_revision(m);
    }
    return rc;
}

static void check_state(struct str file)
{
    struct mvcc *m = mvcc_new(), *copy = mvcc_new();
    struct backend_image im = {0}, copy_im = {0};
    struct buf first = {0}, second = {0};

    if (load_state(file, m, &im) == 0) {
        first = write_state(m, &im);
        FUZZ_CHECK(load_state(buf_str(&first), copy, &copy_im) == 0);
        second = write_state(copy, &copy_im);
        FUZZ_CHECK(str_eq(buf_str(&first), buf_str(&second)));
    }
    buf_release(&first);
    buf_release(&second);
    backend_image_release(&im);
    backend_image_release(&copy_im);
    mvcc_free(m);
    mvcc_free(copy);
}

static void check_file(struct str file)
{
    struct bolt_cursor *c;
    struct err e = {0};
    struct bolt *b;

    if (bolt_open_bytes(file, "fuzz", &b, &e) < 0) {
        FUZZ_CHECK(e.code == BOLT_EFORMAT && e.msg[0]);
        return;
    }
    c = bolt_buckets(b);
    check_items(c, 0);
    bolt_cursor_free(c);
    bolt_close(b);
    check_state(file);
}

/* --- Metas that are right. --------------------------------------------------- */

static void put_meta(uint8_t *page, uint64_t id, uint64_t root,
                     uint64_t n_pages)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    uint8_t *p = page + 16;

    put_u64le(page, id);
    put_u32le(page + 8, 4);
    put_u32le(p, 0xed0cdaed);
    put_u32le(p + 4, 2);
    put_u32le(p + 8, PAGE);
    put_u64le(p + 16, root);
    put_u64le(p + 40, n_pages);
    put_u64le(p + 48, 1 + id);
    for (size_t i = 0; i < 56; i++)
        h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    put_u64le(p + 56, h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t n_pages = 3 + (size + PAGE - 1) / PAGE;
    uint8_t *file;

    check_file((struct str){(const char *)data, size});
    if (size > 12 * PAGE)
        return 0;
    file = xcalloc(n_pages, PAGE);
    if (size)
        memcpy(file + (size_t)3 * PAGE, data, size);
    for (size_t root = 3; root < n_pages; root++) {
        /* each page carries its own number */
        for (size_t i = 3; i < n_pages; i++)
            put_u64le(file + i * PAGE, i);
        put_meta(file, 0, root, n_pages);
        put_meta(file + PAGE, 1, root, n_pages);
        check_file((struct str){(const char *)file, n_pages * PAGE});
    }
    free(file);
    return 0;
}
