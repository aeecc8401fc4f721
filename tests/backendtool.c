/*
 * backendtool.c - the v3 state in a bbolt file, for tests/backend_interop.sh:
 *
 *     backendtool resave FROM TO    read a file and write one of our own
 *     backendtool list FILE         its keys, one version a line
 *
 * resave prints the sums that Maintenance.Hash and HashKV give for it.
 */
#include "backend.h"

#include <inttypes.h>
#include <stdio.h>

static int collect(void *arg, enum backend_bucket b, struct str key,
                   struct str value, struct err *e)
{
    (void)e;
    backend_add(arg, b, key, value);
    return 0;
}

static size_t next_versions(void *arg, struct mvcc_cursor *c, int64_t last,
                            struct mvcc_kv **kvs, size_t max)
{
    return mvcc_log_next(arg, c, last, kvs, max);
}

static void load(const char *path, struct mvcc *m, struct backend_image *im)
{
    struct backend_meta meta;
    struct err e;

    if (backend_load(path, m, collect, im, &meta, &e) < 0) {
        fprintf(stderr, "%s\n", e.msg);
        exit(1);
    }
    backend_set_meta(im, &meta);
    im->last = mvcc_revision(m);
}

static uint32_t hash_kv(struct mvcc *m)
{
    struct mvcc_hash h;

    mvcc_hash_open(m, 0, &h);
    while (!h.done)
        mvcc_hash_step(&h, 1000);
    mvcc_hash_close(&h);
    return h.result;
}

static void resave(const char *from, const char *to)
{
    struct mvcc *m = mvcc_new();
    struct backend_image im = {0};
    struct backend_source src = {&im, next_versions, m};
    struct err e;

    load(from, m, &im);
    if (backend_save(to, &src, false, NULL, &e) < 0) {
        fprintf(stderr, "%s\n", e.msg);
        exit(1);
    }
    printf("hash %" PRIu32 " hashkv %" PRIu32 "\n", backend_hash(&src),
           hash_kv(m));
    backend_image_release(&im);
    mvcc_free(m);
}

static void list(const char *path)
{
    struct mvcc *m = mvcc_new();
    struct backend_image im = {0};
    struct mvcc_cursor c = {0, 0};
    struct mvcc_kv *kv;

    load(path, m, &im);
    while (mvcc_log_peek(m, &c, INT64_MAX, &kv, 1))
        printf("%" PRIi64 ".%" PRIu32 " %.*s %s\n", kv->mod_revision, kv->sub,
               STR_FMT(mvcc_key(kv)),
               mvcc_is_tombstone(kv) ? "deleted" : "put");
    backend_image_release(&im);
    mvcc_free(m);
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "resave") == 0) {
        resave(argv[2], argv[3]);
    } else if (argc == 3 && strcmp(argv[1], "list") == 0) {
        list(argv[2]);
    } else {
        fprintf(stderr, "usage: backendtool resave FROM TO | list FILE\n");
        return 2;
    }
    return 0;
}
