/*
 * diskv3.c - see diskv3.h. The requests are such that every part of the state
 * changes: keys of all sizes, with and without leases, users, alarms; and
 * compaction, a step at a time.
 */
#include "diskv3.h"

#include "rpcpb.h"
#include "snap.h"
#include "sys.h"

#include <inttypes.h>
#include <stdio.h>

static const struct v3_config plain = {.lease = {.min_ttl = 2}};

/* --- Requests. ---------------------------------------------------------- */

static void apply_msg(struct v3 *v, uint64_t index, uint32_t field,
                      const void *msg)
{
    const struct msg_field *f =
        msg_field(&rpcpb_internal_raft_request_desc, field);
    const struct v3_moment at = {index, 1, 0};
    struct v3_request r = {.field = field};
    struct buf b = {0};

    msg_encode(f->message, msg, &b);
    r.bytes = buf_str(&b);
    if (v3_apply(v, &r, &at, NULL) < 0)
        abort();
    buf_release(&b);
}

/* Some fill pages of the file. */
static void apply_put(struct v3 *v, uint64_t index, int64_t lease)
{
    static const size_t sizes[] = {3, 40, 300, 1500, 9000};
    char key[16], value[9000];
    struct rpcpb_put_request r = {.lease = lease};

    snprintf(key, sizeof(key), "k%d", (int)(index % 5));
    memset(value, 'a' + (int)(index % 26), sizeof(value));
    r.key = str_of(key);
    r.value = (struct str){value, sizes[index / 3 % ARRAY_LEN(sizes)]};
    apply_msg(v, index, V3_PUT, &r);
}

static void apply_alarm(struct v3 *v, uint64_t index)
{
    struct rpcpb_alarm_request r = {.action = index % 32 < 16
                                                  ? RPCPB_ALARM_DO_ACTIVATE
                                                  : RPCPB_ALARM_DO_DEACTIVATE,
                                    .memberID = 1,
                                    .alarm = RPCPB_ALARM_NOSPACE};

    apply_msg(v, index, V3_ALARM, &r);
}

static void apply_role(struct v3 *v, uint64_t index)
{
    struct rpcpb_auth_role_add_request r;
    char name[24];

    snprintf(name, sizeof(name), "r%" PRIu64, index);
    r.name = str_of(name);
    apply_msg(v, index, V3_ROLE_ADD, &r);
}

static void apply_at(struct v3 *v, uint64_t index)
{
    struct rpcpb_lease_grant_request grant = {.ID = (int64_t)index, .TTL = 9};
    struct rpcpb_lease_revoke_request revoke = {.ID = (int64_t)index - 12};
    struct rpcpb_delete_range_request del = {.key = STR("k3"),
                                             .range_end = STR("k5")};
    struct rpcpb_compaction_request compact = {.revision =
                                                   mvcc_revision(v->mvcc) - 1};

    switch (index % 8) {
    case 0:
        apply_msg(v, index, V3_LEASE_GRANT, &grant);
        break;
    case 1:
        apply_put(v, index, (int64_t)index - 1);
        break;
    case 3:
        apply_msg(v, index, V3_DELETE_RANGE, &del);
        break;
    case 4:
        apply_msg(v, index, V3_LEASE_REVOKE, &revoke);
        break;
    case 5: /* not always, so that db is appended to in between */
        if (index % 24 == 5)
            apply_msg(v, index, V3_COMPACTION, &compact);
        else
            apply_put(v, index, 0);
        break;
    case 6:
        apply_role(v, index);
        break;
    case 7:
        apply_alarm(v, index);
        break;
    default:
        apply_put(v, index, 0);
    }
}

void diskv3_advance(struct v3 *v, uint64_t index)
{
    while (v->index < index)
        apply_at(v, v->index + 1);
    mvcc_compact_step(v->mvcc, 3);
}

/* --- What is right. ----------------------------------------------------- */

static void add_auth(void *arg, enum auth_bucket bucket, struct str key,
                     struct str value)
{
    buf_printf(arg, "%d:%zu:", (int)bucket, key.n);
    buf_addstr(arg, key);
    buf_addstr(arg, value);
}

/* All of it but how far compaction has come. */
static void tell(struct buf *b, const struct v3 *v)
{
    struct mvcc_hash h;

    buf_printf(b, "%" PRIu64 " %" PRId64 " ", v3_digest(v),
               mvcc_revision(v->mvcc));
    auth_save(v->auth, add_auth, b);
    if (mvcc_hash_open(v->mvcc, 0, &h) < 0)
        abort();
    while (!h.done)
        mvcc_hash_step(&h, 1000);
    mvcc_hash_close(&h);
    buf_printf(b, " %" PRIu32, h.result);
    mvcc_check(v->mvcc);
    lease_check(v->lessor);
}

/* What is told of the state at each index, made once. */
static const struct buf *right_at(uint64_t index)
{
    static struct buf *told;
    static size_t n;
    static struct v3 *v;

    if (!v)
        v = v3_new(&plain);
    for (; n <= index; n++) {
        told = xrealloc(told, (n + 1) * sizeof(*told));
        told[n] = (struct buf){0};
        diskv3_advance(v, n);
        tell(&told[n], v);
    }
    return &told[index];
}

bool diskv3_is_right(const struct v3 *v)
{
    const struct buf *want = right_at(v->index);
    struct buf is = {0};
    bool right;

    tell(&is, v);
    right = str_eq(buf_str(&is), buf_str(want));
    buf_release(&is);
    return right;
}

/* --- Files. ------------------------------------------------------------- */

static size_t next_versions(void *arg, struct mvcc_cursor *c, int64_t last,
                            struct mvcc_kv **kvs, size_t max)
{
    return mvcc_log_next(arg, c, last, kvs, max);
}

struct writing {
    struct mvcc_pin pin;
    struct backend_image image;
    struct backend_source source;
    struct bolt_plan plan;
};

static void writing_init(struct writing *w, const struct v3 *v)
{
    *w = (struct writing){0};
    mvcc_pin(v->mvcc, &w->pin, mvcc_compact_finished(v->mvcc));
    v3_save(v, &w->image);
    w->source = (struct backend_source){&w->image, next_versions, v->mvcc};
}

static void writing_release(struct writing *w, const struct v3 *v)
{
    mvcc_unpin(v->mvcc, &w->pin);
    backend_image_release(&w->image);
}

int diskv3_save(struct backend_file **file, const char *snap_dir,
                const struct v3 *v, struct err *e)
{
    char *path = xasprintf("%s/db", snap_dir);
    struct writing w;
    int rc;

    writing_init(&w, v);
    rc = backend_update(file, path, &w.source, false, NULL, e);
    writing_release(&w, v);
    free(path);
    return rc < 0 ? -1 : 0;
}

static int write_db(void *from, snap_sink *sink, void *arg)
{
    struct writing *w = from;

    return backend_write(&w->source, &w->plan, sink, arg, NULL);
}

int diskv3_receive(const char *snap_dir, const struct v3_config *config,
                   uint64_t index, struct v3 **out, struct err *e)
{
    struct v3 *leader = v3_new(&plain);
    char *path = snap_db_path(snap_dir, index);
    struct writing w;
    int rc;

    diskv3_advance(leader, index);
    writing_init(&w, leader);
    backend_measure(&w.source, &w.plan);
    rc = snap_save_db(snap_dir, index, write_db, &w, false, NULL, e);
    writing_release(&w, leader);
    v3_free(leader);
    if (rc == 0)
        rc = v3_load(path, config, out, e);
    free(path);
    return rc < 0 ? -1 : 0;
}
