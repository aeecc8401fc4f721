/*
 * v3.c - the v3 state as a whole: made, weighed, saved, loaded, and what the
 * errors of its parts are called. What a request does to it is in v3apply.c.
 */
#include "v3.h"

#include <assert.h>

/* What a version takes in a file beside its key and value: the revision that
 * is its key there, the record's other fields, its place in the page. */
#define VERSION_OVERHEAD 64
#define LEASE_OVERHEAD 48
#define EMPTY_BYTES 20480 /* a file without anything: five pages */

struct v3 *v3_new(const struct v3_config *config)
{
    struct v3 *v = xcalloc(1, sizeof(*v));

    v->mvcc = mvcc_new();
    v->watch = watch_hub_new(v->mvcc);
    v->lessor = lessor_new(&config->lease);
    v->auth = auth_new();
    if (config->auth_token_ttl_ms)
        auth_set_token_ttl(v->auth, config->auth_token_ttl_ms);
    return v;
}

void v3_free(struct v3 *v)
{
    if (!v)
        return;
    if (v->watch)
        watch_hub_free(v->watch);
    lessor_free(v->lessor); /* it has references of keys */
    if (v->mvcc)
        mvcc_free(v->mvcc);
    auth_free(v->auth);
    free(v->alarms);
    free(v);
}

bool v3_has_alarm(const struct v3 *v, int kind)
{
    for (size_t i = 0; i < v->n_alarms; i++)
        if (v->alarms[i].alarm == kind)
            return true;
    return false;
}

bool v3_is_untouched(const struct v3 *v)
{
    return mvcc_revision(v->mvcc) == 1 && mvcc_compacted(v->mvcc) < 0 &&
           lease_count(v->lessor) == 0 && auth_revision(v->auth) == 1 &&
           v->n_alarms == 0;
}

uint64_t v3_size(const struct v3 *v)
{
    struct mvcc_stats st = mvcc_stats(v->mvcc);

    return EMPTY_BYTES + st.bytes + (uint64_t)st.n_versions * VERSION_OVERHEAD +
           (uint64_t)lease_count(v->lessor) * LEASE_OVERHEAD;
}

void v3_skip(struct v3 *v, uint64_t index)
{
    v->index = max_u64(v->index, index);
}

/* --- Errors. -------------------------------------------------------------- */

enum v3_error v3_error_of_mvcc(int error)
{
    static const enum v3_error rows[] = {
        [-MVCC_EMPTY_KEY] = V3_EMPTY_KEY,
        [-MVCC_KEY_NOT_FOUND] = V3_KEY_NOT_FOUND,
        [-MVCC_VALUE_PROVIDED] = V3_VALUE_PROVIDED,
        [-MVCC_LEASE_PROVIDED] = V3_LEASE_PROVIDED,
        [-MVCC_TOO_MANY_OPS] = V3_TOO_MANY_OPS,
        [-MVCC_DUPLICATE_KEY] = V3_DUPLICATE_KEY,
        [-MVCC_COMPACTED] = V3_COMPACTED,
        [-MVCC_FUTURE_REV] = V3_FUTURE_REV,
        [-MVCC_LEASE_NOT_FOUND] = V3_LEASE_NOT_FOUND,
        [-MVCC_INVALID_SORT] = V3_INVALID_SORT_OPTION,
        [-MVCC_CORRUPT] = V3_CORRUPT,
    };

    assert(error <= 0 && (size_t)-error < ARRAY_LEN(rows));
    return rows[-error];
}

enum v3_error v3_error_of_lease(int error)
{
    static const enum v3_error rows[] = {
        [-LEASE_NOT_FOUND] = V3_LEASE_NOT_FOUND,
        [-LEASE_EXISTS] = V3_LEASE_EXIST,
        [-LEASE_TTL_TOO_LARGE] = V3_LEASE_TTLTOO_LARGE,
        [-LEASE_CORRUPT] = V3_CORRUPT,
    };

    assert(error <= 0 && (size_t)-error < ARRAY_LEN(rows));
    return rows[-error];
}

enum v3_error v3_error_of_auth(int error, const char **text, int *code)
{
    static const enum v3_error rows[] = {
        [-AUTH_ROOT_USER_NOT_EXIST] = V3_ROOT_USER_NOT_EXIST,
        [-AUTH_ROOT_ROLE_NOT_EXIST] = V3_ROOT_ROLE_NOT_EXIST,
        [-AUTH_USER_EXISTS] = V3_USER_ALREADY_EXIST,
        [-AUTH_USER_EMPTY] = V3_USER_EMPTY,
        [-AUTH_USER_NOT_FOUND] = V3_USER_NOT_FOUND,
        [-AUTH_ROLE_EXISTS] = V3_ROLE_ALREADY_EXIST,
        [-AUTH_ROLE_NOT_FOUND] = V3_ROLE_NOT_FOUND,
        [-AUTH_ROLE_EMPTY] = V3_ROLE_EMPTY,
        [-AUTH_FAILED] = V3_AUTH_FAILED,
        [-AUTH_NO_PASSWORD_USER] = V3_NO_PASSWORD_USER,
        [-AUTH_PERMISSION_NOT_GIVEN] = V3_PERMISSION_NOT_GIVEN,
        [-AUTH_DENIED] = V3_PERMISSION_DENIED,
        [-AUTH_ROLE_NOT_GRANTED] = V3_ROLE_NOT_GRANTED,
        [-AUTH_PERMISSION_NOT_GRANTED] = V3_PERMISSION_NOT_GRANTED,
        [-AUTH_NOT_ENABLED] = V3_AUTH_NOT_ENABLED,
        [-AUTH_INVALID_TOKEN] = V3_INVALID_AUTH_TOKEN,
        [-AUTH_INVALID_MGMT] = V3_INVALID_AUTH_MGMT,
        [-AUTH_OLD_REVISION] = V3_AUTH_OLD_REVISION,
        [-AUTH_BAD_HASH] = V3_AUTH_FAILED,
        [-AUTH_CORRUPT] = V3_CORRUPT,
    };

    assert(error <= 0 && (size_t)-error < ARRAY_LEN(rows));
    if (error == AUTH_NO_PASSWORD_USER || error == AUTH_BAD_HASH) {
        *text = auth_error_text(error);
        *code = auth_error_code(error);
    }
    return rows[-error];
}

/* --- Saving. -------------------------------------------------------------- */

static void emit_auth(void *arg, enum auth_bucket bucket, struct str key,
                      struct str value)
{
    static const enum backend_bucket buckets[AUTH_N_BUCKETS] = {
        [AUTH_BUCKET_AUTH] = BACKEND_AUTH,
        [AUTH_BUCKET_ROLES] = BACKEND_AUTH_ROLES,
        [AUTH_BUCKET_USERS] = BACKEND_AUTH_USERS,
    };

    backend_add(arg, buckets[bucket], key, value);
}

static void save_leases(const struct v3 *v, struct backend_image *image)
{
    size_t n;
    struct lease_record *records = lease_records(v->lessor, &n);

    for (size_t i = 0; i < n; i++)
        backend_add_lease(image, records[i].id, records[i].ttl,
                          records[i].remaining_ttl);
    free(records);
}

void v3_save(const struct v3 *v, struct backend_image *image)
{
    const struct backend_meta meta = {
        .consistent_index = v->index,
        .finished = mvcc_compact_finished(v->mvcc),
        .scheduled = mvcc_compacted(v->mvcc),
        .conf_state = STR(""),
        .storage_version = STR(""),
    };

    backend_set_meta(image, &meta);
    auth_save(v->auth, emit_auth, image);
    save_leases(v, image);
    for (size_t i = 0; i < v->n_alarms; i++)
        backend_add_alarm(image, v->alarms[i].member_id, v->alarms[i].alarm);
    image->last = mvcc_revision(v->mvcc);
}

/* --- Loading. ------------------------------------------------------------- */

static int refused(struct err *e, struct str key, enum backend_bucket b)
{
    return err_set(e, -1, "bucket %s: the item of %zu bytes of key is damaged",
                   backend_bucket_name(b), key.n);
}

static void add_alarm(struct v3 *v, uint64_t member, int kind)
{
    v->alarms = xrealloc(v->alarms, (v->n_alarms + 1) * sizeof(*v->alarms));
    v->alarms[v->n_alarms++] = (struct v3_alarm){member, kind};
}

static int load_item(void *arg, enum backend_bucket b, struct str key,
                     struct str value, struct err *e)
{
    struct v3 *v = arg;
    struct lease_record lease;
    enum auth_bucket bucket;
    uint64_t member;
    int kind;

    switch (b) {
    case BACKEND_LEASE:
        if (lease_decode(key, value, &lease) < 0 ||
            lease_restore(v->lessor, &lease) < 0)
            return refused(e, key, b);
        return 0;
    case BACKEND_ALARM:
        if (!backend_decode_alarm(key, &member, &kind))
            return refused(e, key, b);
        add_alarm(v, member, kind);
        return 0;
    case BACKEND_AUTH:
    case BACKEND_AUTH_ROLES:
    case BACKEND_AUTH_USERS:
        bucket = b == BACKEND_AUTH         ? AUTH_BUCKET_AUTH
                 : b == BACKEND_AUTH_ROLES ? AUTH_BUCKET_ROLES
                                           : AUTH_BUCKET_USERS;
        return auth_restore(v->auth, bucket, key, value) < 0
                   ? refused(e, key, b)
                   : 0;
    default:
        return 0; /* the membership's truth is in the v2 store */
    }
}

static int compare_alarms(const void *a, const void *b)
{
    const struct v3_alarm *x = a, *y = b;

    if (x->member_id != y->member_id)
        return x->member_id < y->member_id ? -1 : 1;
    return (x->alarm > y->alarm) - (x->alarm < y->alarm);
}

/* Which key hangs on which lease stands with the keys. */
static void attach_leases(struct v3 *v)
{
    const struct mvcc_range all = {.key = {"\0", 1}, .range_end = {"\0", 1}};
    struct mvcc_kv *kvs[256];
    struct mvcc_read read;

    if (lease_count(v->lessor) == 0 || mvcc_read_open(v->mvcc, &all, &read) < 0)
        return;
    while (!read.done) {
        size_t n = mvcc_read_next(&read, kvs, ARRAY_LEN(kvs));

        for (size_t i = 0; i < n; i++) {
            if (kvs[i]->lease)
                lease_change(v->lessor, kvs[i], NULL);
            mvcc_unref(kvs[i]);
        }
    }
    mvcc_read_close(&read);
}

int v3_peek_index(const char *path, uint64_t *index, struct err *e)
{
    static const struct str key = {"consistent_index", 16};
    struct bolt_cursor *c = NULL;
    struct bolt_item item;
    struct bolt *b;
    int rc = bolt_open(path, &b, e);

    *index = 0;
    if (rc < 0)
        return -1;
    rc = bolt_bucket(b, STR("meta"), &c, e);
    if (rc > 0)
        rc = bolt_seek(c, key, &item, e);
    if (rc > 0 && str_eq(item.key, key) && item.value.n == 8)
        *index = get_u64be((const uint8_t *)item.value.p);
    bolt_cursor_free(c);
    bolt_close(b);
    return rc < 0 ? -1 : 0;
}

int v3_load(const char *path, const struct v3_config *config, struct v3 **out,
            struct err *e)
{
    struct v3 *v = v3_new(config);
    struct backend_meta meta;

    if (backend_load(path, v->mvcc, load_item, v, &meta, e) < 0) {
        v3_free(v);
        return -1;
    }
    if (v->n_alarms)
        qsort(v->alarms, v->n_alarms, sizeof(*v->alarms), compare_alarms);
    attach_leases(v);
    watch_restore(v->watch, v->mvcc);
    v->index = meta.consistent_index;
    *out = v;
    return 0;
}

/* --- Comparing. ----------------------------------------------------------- */

static void mix(uint64_t *h, uint64_t v)
{
    *h = (*h ^ v) * UINT64_C(0x9e3779b97f4a7c15);
    *h ^= *h >> 29;
}

uint64_t v3_digest(const struct v3 *v)
{
    struct mvcc_stats st = mvcc_stats(v->mvcc);
    uint64_t h = lease_digest(v->lessor);

    mix(&h, (uint64_t)mvcc_revision(v->mvcc));
    mix(&h, (uint64_t)mvcc_compacted(v->mvcc));
    mix(&h, st.n_keys);
    mix(&h, auth_revision(v->auth));
    mix(&h, auth_enabled(v->auth));
    for (size_t i = 0; i < v->n_alarms; i++) {
        mix(&h, v->alarms[i].member_id);
        mix(&h, (uint64_t)v->alarms[i].alarm);
    }
    return h;
}
