/*
 * backendread.c - reading etcd's v3 state from a bbolt file. backend.c writes
 * it.
 *
 * What etcd 3.2 to 3.6 leave in such a file differs in what is there: it is
 * looked for by name, and may be missing. What is there must be well formed.
 */
#include "backend.h"

#include "crypto.h"
#include "hash.h"
#include "pb.h"
#include "sys.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK (64 * 1024)
#define TRAILER_UNIT 512 /* divides all page sizes */
/* No store gets there; but one that counts on from a damaged one might. */
#define REVISION_MAX (INT64_MAX / 2)

/* --- Items. ------------------------------------------------------------------- */

static bool is_number(struct str s)
{
    return s.n == 8;
}

static uint64_t number(struct str s)
{
    return get_u64be((const uint8_t *)s.p);
}

/* 17 bytes; 18 for a tombstone. */
static bool decode_revision(struct str s, int64_t *main, int64_t *sub,
                            bool *tombstone)
{
    if ((s.n != 17 && s.n != 18) || s.p[8] != '_' ||
        (s.n == 18 && s.p[17] != 't'))
        return false;
    *main = (int64_t)get_u64be((const uint8_t *)s.p);
    *sub = (int64_t)get_u64be((const uint8_t *)s.p + 9);
    *tombstone = s.n == 18;
    return *main >= 0 && *main <= REVISION_MAX && *sub >= 0;
}

bool backend_decode_lease(struct str key, struct str value,
                          struct backend_lease *out)
{
    uint64_t id = 0, ttl = 0, remaining = 0;
    const struct pb_target targets[] = {
        [1] = {.u64 = &id}, [2] = {.u64 = &ttl}, [3] = {.u64 = &remaining}};

    if (!is_number(key) ||
        pb_read(value.p, value.n, targets, ARRAY_LEN(targets)) < 0 ||
        id != number(key))
        return false;
    *out =
        (struct backend_lease){(int64_t)id, (int64_t)ttl, (int64_t)remaining};
    return true;
}

bool backend_decode_alarm(struct str key, uint64_t *member, int *alarm)
{
    uint64_t id = 0, type = 0;
    const struct pb_target targets[] = {
        [1] = {.u64 = &id}, [2] = {.u64 = &type}};

    if (pb_read(key.p, key.n, targets, ARRAY_LEN(targets)) < 0 ||
        type > INT32_MAX)
        return false;
    *member = id;
    *alarm = (int)type;
    return true;
}

bool backend_decode_id(struct str key, uint64_t *id)
{
    return str_hex_to_u64(key, id);
}

/* --- Bucket key. ----------------------------------------------------------------- */

static bool decode_record(const struct bolt_item *item, struct mvcc_record *r)
{
    uint64_t create = 0, mod = 0, version = 0, lease = 0;
    const struct pb_target targets[] = {
        [1] = {.bytes = &r->key},   [2] = {.u64 = &create},
        [3] = {.u64 = &mod},        [4] = {.u64 = &version},
        [5] = {.bytes = &r->value}, [6] = {.u64 = &lease},
    };

    *r = (struct mvcc_record){.key = {"", 0}, .value = {"", 0}};
    if (!decode_revision(item->key, &r->main, &r->sub, &r->tombstone) ||
        pb_read(item->value.p, item->value.n, targets, ARRAY_LEN(targets)) < 0)
        return false;
    r->create_revision = (int64_t)create;
    r->version = (int64_t)version;
    r->lease = (int64_t)lease;
    return r->tombstone || item->value.n == 0 || (int64_t)mod == r->main;
}

static int load_keys(struct bolt_cursor *c, struct mvcc *m, struct err *e)
{
    struct mvcc_record r;
    struct bolt_item item;
    int rc;

    while ((rc = bolt_next(c, &item, e)) > 0)
        if (item.is_bucket || !decode_record(&item, &r) ||
            mvcc_restore(m, &r) < 0)
            return bolt_damaged(c, "a version of a key is malformed", e);
    return rc;
}

/* --- Bucket meta. -------------------------------------------------------------------- */

static bool decode_meta(const struct bolt_item *item, struct backend_meta *meta)
{
    int64_t sub;
    bool tombstone;

    if (str_eqz(item->key, "finishedCompactRev"))
        return decode_revision(item->value, &meta->finished, &sub, &tombstone);
    if (str_eqz(item->key, "scheduledCompactRev"))
        return decode_revision(item->value, &meta->scheduled, &sub, &tombstone);
    if (str_eqz(item->key, "consistent_index")) {
        if (is_number(item->value))
            meta->consistent_index = number(item->value);
        return is_number(item->value);
    }
    if (str_eqz(item->key, "term")) {
        if (is_number(item->value))
            meta->term = number(item->value);
        return is_number(item->value);
    }
    return true;
}

static int load_meta(struct bolt_cursor *c, struct backend_meta *meta,
                     struct err *e)
{
    struct bolt_item item;
    int rc;

    while ((rc = bolt_next(c, &item, e)) > 0)
        if (!item.is_bucket && !decode_meta(&item, meta))
            return bolt_damaged(c, "an item of bucket meta is malformed", e);
    return rc;
}

/* --- All buckets. ------------------------------------------------------------------------ */

struct load {
    struct mvcc *m;
    backend_visit *visit;
    void *arg;
    struct backend_meta *meta;
};

static int visit_items(struct bolt_cursor *c, const struct load *l,
                       enum backend_bucket b, struct err *e)
{
    struct bolt_item item;
    int rc;

    while ((rc = bolt_next(c, &item, e)) > 0)
        if (!item.is_bucket && l->visit &&
            (rc = l->visit(l->arg, b, item.key, item.value, e)) != 0)
            return rc;
    return rc;
}

/* BACKEND_N: none that we know. */
static enum backend_bucket bucket_by_name(struct str name)
{
    enum backend_bucket b = 0;

    while (b < BACKEND_N && !str_eqz(name, backend_bucket_name(b)))
        b++;
    return b;
}

static int load_bucket(struct bolt_cursor *buckets,
                       const struct bolt_item *item, const struct load *l,
                       struct err *e)
{
    enum backend_bucket b = bucket_by_name(item->key);
    struct bolt_cursor *c;
    int rc;

    if (b == BACKEND_N)
        return 0;
    rc = bolt_enter(buckets, item, &c, e);
    if (rc < 0)
        return rc;
    if (b == BACKEND_KEY)
        rc = load_keys(c, l->m, e);
    else if (b == BACKEND_META)
        rc = load_meta(c, l->meta, e);
    else
        rc = visit_items(c, l, b, e);
    bolt_cursor_free(c);
    return rc;
}

int backend_load_bolt(struct bolt *b, struct mvcc *m, backend_visit *visit,
                      void *arg, struct backend_meta *meta, struct err *e)
{
    struct bolt_cursor *c = bolt_buckets(b);
    struct bolt_item item;
    struct load l;
    int rc;

    *meta = (struct backend_meta){
        .finished = -1,
        .scheduled = -1,
        .conf_state = {"", 0},
        .storage_version = {"", 0},
    };
    l = (struct load){m, visit, arg, meta};
    while ((rc = bolt_next(c, &item, e)) > 0)
        if ((rc = load_bucket(c, &item, &l, e)) != 0)
            break;
    bolt_cursor_free(c);
    if (rc == 0)
        mvcc_restore_end(m, meta->finished, meta->scheduled);
    return rc;
}

int backend_load(const char *path, struct mvcc *m, backend_visit *visit,
                 void *arg, struct backend_meta *meta, struct err *e)
{
    struct bolt *b;
    int rc = bolt_open(path, &b, e);

    if (rc < 0)
        return rc;
    rc = backend_load_bolt(b, m, visit, arg, meta, e);
    bolt_close(b);
    return rc;
}

/* --- Status. -------------------------------------------------------------------------------- */

static int sum_bucket(struct bolt_cursor *c, bool is_key,
                      struct backend_status *out, struct err *e)
{
    struct bolt_item item;
    int64_t sub;
    bool tombstone;
    int rc;

    while ((rc = bolt_next(c, &item, e)) > 0) {
        /* A bucket within has no value, where bbolt shows it. */
        struct str value = item.is_bucket ? STR("") : item.value;

        if (is_key &&
            !decode_revision(item.key, &out->revision, &sub, &tombstone))
            return bolt_damaged(c, "a version of a key is malformed", e);
        out->hash = crc32c(out->hash, item.key.p, item.key.n);
        out->hash = crc32c(out->hash, value.p, value.n);
        out->total_keys++;
    }
    return rc;
}

static int sum_buckets(struct bolt *b, struct backend_status *out,
                       struct err *e)
{
    struct bolt_cursor *buckets = bolt_buckets(b), *c;
    struct bolt_item item;
    int rc;

    while ((rc = bolt_next(buckets, &item, e)) > 0) {
        rc = bolt_enter(buckets, &item, &c, e);
        if (rc < 0)
            break;
        out->hash = crc32c(out->hash, item.key.p, item.key.n);
        rc = sum_bucket(c, str_eqz(item.key, "key"), out, e);
        bolt_cursor_free(c);
        if (rc < 0)
            break;
    }
    bolt_cursor_free(buckets);
    return rc;
}

int backend_status(const char *path, struct backend_status *out, struct err *e)
{
    struct backend_status st = {0};
    struct bolt *b;
    int rc = bolt_open(path, &b, e);

    if (rc < 0)
        return rc;
    st.total_size = bolt_size(b);
    rc = sum_buckets(b, &st, e);
    if (rc == 0)
        *out = st;
    bolt_close(b);
    return rc;
}

/* --- The sum behind a snapshot. ------------------------------------------------------------------ */

static int read_chunk(int fd, const char *path, uint8_t *out, size_t n,
                      struct err *e)
{
    while (n > 0) {
        ssize_t got = read(fd, out, n);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_sys(e, BOLT_EIO, "read %s", path);
        if (got == 0)
            return err_set(e, BOLT_EIO,
                           "read %s: it was cut off while it was read", path);
        out += got;
        n -= (size_t)got;
    }
    return 0;
}

static int check_sum(int fd, const char *path, uint64_t n,
                     enum backend_trailer *out, struct err *e)
{
    uint8_t sum[SHA256_SIZE], want[SHA256_SIZE], *chunk = xmalloc(CHUNK);
    struct hash h;
    int rc = 0;

    hash_init(&h, HASH_SHA256);
    while (n > 0 && rc == 0) {
        size_t take = (size_t)min_u64(n, CHUNK);

        rc = read_chunk(fd, path, chunk, take, e);
        if (rc == 0)
            hash_update(&h, chunk, take);
        n -= take;
    }
    free(chunk);
    if (rc == 0)
        rc = read_chunk(fd, path, want, sizeof(want), e);
    if (rc < 0)
        return rc;
    hash_final(&h, sum);
    *out = memcmp(sum, want, sizeof(sum)) ? BACKEND_TRAILER_BAD
                                          : BACKEND_TRAILER_OK;
    return 0;
}

int backend_check_trailer(const char *path, enum backend_trailer *out,
                          uint64_t *bytes, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC), rc = 0;
    struct stat st;

    if (fd < 0)
        return err_sys(e, BOLT_EIO, "open %s", path);
    if (fstat(fd, &st) < 0) {
        rc = err_sys(e, BOLT_EIO, "stat %s", path);
    } else if (st.st_size % TRAILER_UNIT != SHA256_SIZE) {
        *bytes = (uint64_t)st.st_size;
        *out = BACKEND_NO_TRAILER;
    } else {
        *bytes = (uint64_t)st.st_size - SHA256_SIZE;
        rc = check_sum(fd, path, *bytes, out, e);
    }
    close(fd);
    return rc;
}
