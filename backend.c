/*
 * backend.c - writing etcd's v3 state as a bbolt file, and summing it up.
 * backendsave.c gives it a place on the disk, backendread.c reads it.
 *
 * One walk over a source, bucket by bucket and item by item in order, serves
 * all: measuring and writing give each step to a bolt_writer, Hash to a sum.
 */
#include "backend_impl.h"

#include "crypto.h"
#include "pb.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

const char *backend_bucket_name(enum backend_bucket b)
{
    static const char *const names[BACKEND_N] = {
        [BACKEND_ALARM] = "alarm",
        [BACKEND_AUTH] = "auth",
        [BACKEND_AUTH_ROLES] = "authRoles",
        [BACKEND_AUTH_USERS] = "authUsers",
        [BACKEND_CLUSTER] = "cluster",
        [BACKEND_KEY] = "key",
        [BACKEND_LEASE] = "lease",
        [BACKEND_MEMBERS] = "members",
        [BACKEND_MEMBERS_REMOVED] = "members_removed",
        [BACKEND_META] = "meta",
    };

    return names[b];
}

/* --- All but the keys. ------------------------------------------------------ */

void backend_image_release(struct backend_image *im)
{
    for (int b = 0; b < BACKEND_N; b++) {
        buf_release(&im->lists[b].bytes);
        free(im->lists[b].spans);
    }
    *im = (struct backend_image){0};
}

void backend_add(struct backend_image *im, enum backend_bucket b,
                 struct str key, struct str value)
{
    struct backend_list *l = &im->lists[b];

    assert(b != BACKEND_KEY && key.n > 0 && key.n <= BOLT_KEY_MAX);
    if (l->n == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 8;
        l->spans = xrealloc(l->spans, l->cap * sizeof(l->spans[0]));
    }
    l->spans[l->n++] = (struct backend_span){l->bytes.len, key.n, value.n};
    buf_addstr(&l->bytes, key);
    buf_addstr(&l->bytes, value);
}

static struct str u64be(uint8_t out[8], uint64_t v)
{
    put_u64be(out, v);
    return (struct str){(const char *)out, 8};
}

static void add_meta_revision(struct backend_image *im, const char *key,
                              int64_t main)
{
    uint8_t rev[MVCC_REVISION_BYTES];
    struct mvcc_kv kv = {.mod_revision = main, .version = 1};
    size_t n = mvcc_revision_encode(&kv, rev);

    if (main >= 0)
        backend_add(im, BACKEND_META, str_of(key),
                    (struct str){(const char *)rev, n});
}

void backend_set_meta(struct backend_image *im, const struct backend_meta *m)
{
    uint8_t be[8];

    im->finished = m->finished;
    backend_add(im, BACKEND_META, STR("consistent_index"),
                u64be(be, m->consistent_index));
    add_meta_revision(im, "finishedCompactRev", m->finished);
    add_meta_revision(im, "scheduledCompactRev", m->scheduled);
    if (m->term)
        backend_add(im, BACKEND_META, STR("term"), u64be(be, m->term));
    if (m->conf_state.n)
        backend_add(im, BACKEND_META, STR("confState"), m->conf_state);
    if (m->storage_version.n)
        backend_add(im, BACKEND_META, STR("storageVersion"),
                    m->storage_version);
}

/* proto3: what is 0 is left out. */
static void add_number(struct buf *b, uint32_t field, uint64_t v)
{
    if (v)
        pb_add_u64(b, field, v);
}

void backend_add_lease(struct backend_image *im, int64_t id, int64_t ttl,
                       int64_t remaining_ttl)
{
    struct buf b = {0};
    uint8_t be[8];

    add_number(&b, 1, (uint64_t)id);
    add_number(&b, 2, (uint64_t)ttl);
    add_number(&b, 3, (uint64_t)remaining_ttl);
    backend_add(im, BACKEND_LEASE, u64be(be, (uint64_t)id), buf_str(&b));
    buf_release(&b);
}

void backend_add_alarm(struct backend_image *im, uint64_t member, int alarm)
{
    struct buf b = {0};

    add_number(&b, 1, member);
    add_number(&b, 2, (uint64_t)alarm);
    assert(b.len > 0);
    backend_add(im, BACKEND_ALARM, buf_str(&b), STR(""));
    buf_release(&b);
}

void backend_set_auth(struct backend_image *im, int enabled, uint64_t revision)
{
    uint8_t be[8];

    if (enabled >= 0)
        backend_add(im, BACKEND_AUTH, STR("authEnabled"),
                    enabled ? STR("\1") : STR("\0"));
    backend_add(im, BACKEND_AUTH, STR("authRevision"), u64be(be, revision));
}

static void add_by_id(struct backend_image *im, enum backend_bucket b,
                      uint64_t id, struct str value)
{
    char hex[17];
    int n = snprintf(hex, sizeof(hex), "%" PRIx64, id);

    backend_add(im, b, (struct str){hex, (size_t)n}, value);
}

void backend_add_member(struct backend_image *im, uint64_t id, struct str json)
{
    add_by_id(im, BACKEND_MEMBERS, id, json);
}

void backend_add_removed(struct backend_image *im, uint64_t id)
{
    add_by_id(im, BACKEND_MEMBERS_REMOVED, id, STR("removed"));
}

void backend_set_cluster_version(struct backend_image *im, struct str version)
{
    backend_add(im, BACKEND_CLUSTER, STR("clusterVersion"), version);
}

/* --- The walk. ------------------------------------------------------------------ */

struct walk {
    const struct backend_source *src;
    int (*bucket)(void *to, struct str name);
    int (*item)(void *to, enum backend_bucket b, struct str key,
                struct str value);
    void *to;
    bool lengths_only; /* of the versions' values */
    struct buf scratch;
    int64_t newest; /* revision so far; those up to it are left out */
};

struct item {
    struct str key, value;
};

/* Of two equal ones the one that was added later comes later. */
static int compare_items(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    int order = str_cmp(x->key, y->key);

    return order ? order : (x->key.p > y->key.p) - (x->key.p < y->key.p);
}

static struct item *sorted(const struct backend_list *l) /* returns owned */
{
    struct item *items = xmalloc((l->n + 1) * sizeof(*items));

    for (size_t i = 0; i < l->n; i++) {
        const struct backend_span *s = &l->spans[i];
        const char *p = (const char *)l->bytes.data + s->at;

        items[i].key = (struct str){p, s->key_len};
        items[i].value = (struct str){p + s->key_len, s->value_len};
    }
    qsort(items, l->n, sizeof(*items), compare_items);
    return items;
}

static int walk_list(struct walk *w, enum backend_bucket b)
{
    const struct backend_list *l = &w->src->image->lists[b];
    struct item *items = sorted(l);
    int rc = 0;

    for (size_t i = 0; i < l->n && rc == 0; i++)
        if (i + 1 == l->n || !str_eq(items[i].key, items[i + 1].key))
            rc = w->item(w->to, b, items[i].key, items[i].value);
    free(items);
    return rc;
}

static int walk_version(struct walk *w, const struct mvcc_kv *kv)
{
    uint8_t rev[MVCC_REVISION_BYTES];
    struct str key = {(const char *)rev, mvcc_revision_encode(kv, rev)};
    struct str value = {NULL, 0};

    w->newest = kv->mod_revision;
    if (w->lengths_only) {
        value.n = mvcc_kv_size(kv, MVCC_RECORD);
    } else {
        buf_clear(&w->scratch);
        mvcc_kv_encode(&w->scratch, kv, MVCC_RECORD);
        value = buf_str(&w->scratch);
    }
    return w->item(w->to, BACKEND_KEY, key, value);
}

static int walk_batch(struct walk *w, struct mvcc_kv **kvs, size_t n)
{
    int rc = 0;

    for (size_t i = 0; i < n; i++) {
        if (rc == 0)
            rc = walk_version(w, kvs[i]);
        mvcc_unref(kvs[i]);
    }
    return rc;
}

/*
 * No key has the newest revision after a restore that raised it. Then an empty
 * record says what it is, as etcdutl does, or it would fall back.
 */
static int walk_raised_revision(struct walk *w)
{
    uint8_t rev[MVCC_REVISION_BYTES];
    struct mvcc_kv kv = {.mod_revision = w->src->image->last, .version = 1};
    struct str key = {(const char *)rev, mvcc_revision_encode(&kv, rev)};

    if (kv.mod_revision <= 1 || kv.mod_revision <= w->newest)
        return 0;
    return w->item(w->to, BACKEND_KEY, key, STR(""));
}

static int walk_versions(struct walk *w)
{
    struct mvcc_kv *kvs[BACKEND_BATCH];
    struct mvcc_cursor c = {w->newest ? w->newest + 1 : 0, 0};
    size_t n;
    int rc = 0;

    do {
        n = w->src->versions(w->src->arg, &c, w->src->image->last, kvs,
                             ARRAY_LEN(kvs));
        rc = walk_batch(w, kvs, n);
    } while (n > 0 && rc == 0);
    return rc == 0 ? walk_raised_revision(w) : rc;
}

static int walk(struct walk *w)
{
    int rc = 0;

    for (int b = 0; b < BACKEND_N && rc == 0; b++) {
        rc = w->bucket(w->to, str_of(backend_bucket_name(b)));
        if (rc == 0)
            rc = b == BACKEND_KEY ? walk_versions(w) : walk_list(w, b);
    }
    buf_release(&w->scratch);
    return rc;
}

/* --- Writing. ---------------------------------------------------------------------- */

static int write_bucket(void *to, struct str name)
{
    int rc = bolt_writer_bucket(to, name);

    if (rc == 0 && str_eqz(name, backend_bucket_name(BACKEND_KEY)))
        bolt_writer_grows(to);
    return rc;
}

static int write_item(void *to, enum backend_bucket b, struct str key,
                      struct str value)
{
    (void)b;
    return bolt_writer_put(to, key, value);
}

int backend_write_to(struct bolt_writer *bw, const struct backend_source *src,
                     int64_t after, bool lengths_only, struct bolt_plan *out)
{
    struct walk w = {
        .src = src,
        .bucket = write_bucket,
        .item = write_item,
        .to = bw,
        .lengths_only = lengths_only,
        .newest = after,
    };
    int rc = walk(&w);

    return rc == 0 ? bolt_writer_end(bw, out) : rc;
}

static int write_all(const struct backend_source *src, bolt_sink *sink,
                     void *arg, const struct bolt_plan *plan,
                     struct bolt_plan *out)
{
    struct bolt_writer *bw = bolt_writer_new(sink, arg, plan);
    int rc = backend_write_to(bw, src, 0, !sink, out);

    bolt_writer_free(bw);
    return rc;
}

void backend_measure(const struct backend_source *src, struct bolt_plan *out)
{
    int rc = write_all(src, NULL, NULL, NULL, out);

    assert(rc == 0);
}

int backend_write(const struct backend_source *src,
                  const struct bolt_plan *plan, bolt_sink *sink, void *arg,
                  struct err *e)
{
    struct bolt_plan got;
    int rc = write_all(src, sink, arg, plan, &got);

    if (rc == BOLT_EFORMAT)
        err_set(e, rc,
                "backend: the state has changed between measuring and "
                "writing it; try again");
    return rc;
}

/* --- Hash. -------------------------------------------------------------------------------- */

static int hash_bucket(void *to, struct str name)
{
    uint32_t *crc = to;

    *crc = crc32c(*crc, name.p, name.n);
    return 0;
}

/* What members may differ in although they hold the same. */
static bool is_local(enum backend_bucket b, struct str key)
{
    return b == BACKEND_META &&
           (str_eqz(key, "consistent_index") || str_eqz(key, "term") ||
            str_eqz(key, "storageVersion"));
}

static int hash_item(void *to, enum backend_bucket b, struct str key,
                     struct str value)
{
    uint32_t *crc = to;

    if (is_local(b, key))
        return 0;
    *crc = crc32c(*crc, key.p, key.n);
    *crc = crc32c(*crc, value.p, value.n);
    return 0;
}

uint32_t backend_hash(const struct backend_source *src)
{
    uint32_t crc = 0;
    struct walk w = {
        .src = src,
        .bucket = hash_bucket,
        .item = hash_item,
        .to = &crc,
    };

    walk(&w);
    return crc;
}
