/*
 * v3_test.c - the v3 state machine without a server: what each request of the
 * log does, in which order it is checked, and that a saved state is the same.
 */
#include "check.h"
#include "rpcpb.h"
#include "sys.h"
#include "v3.h"

#include <unistd.h>

static struct v3 *v;
static uint64_t entry_index;
static int64_t clock_ms;
static struct auth_who who;

static const struct v3_config config = {.lease = {.min_ttl = 2}};

static void begin(void)
{
    v = v3_new(&config);
    entry_index = 0;
    clock_ms = 1000;
    who = (struct auth_who){STR(""), 0};
}

static void end(void)
{
    mvcc_check(v->mvcc);
    lease_check(v->lessor);
    auth_check(v->auth);
    v3_free(v);
}

/* --- Requests. ------------------------------------------------------------ */

static struct v3_result apply(uint32_t field, const struct msg_desc *d,
                              const void *msg)
{
    struct v3_moment at = {++entry_index, 7, clock_ms};
    struct v3_request r = {.field = field, .who = who};
    struct v3_result out;
    struct buf b = {0};

    msg_encode(d, msg, &b);
    r.bytes = buf_str(&b);
    CHECK(v3_readable(field, r.bytes));
    CHECK(v3_apply(v, &r, &at, &out) == 0);
    CHECK(v->index == entry_index && out.header.raft_term == 7);
    watch_notify(v->watch);
    buf_release(&b);
    return out;
}

/* Only whether, and as what, it failed. */
static enum v3_error try(uint32_t field, const struct msg_desc *d,
                         const void *msg)
{
    struct v3_result r = apply(field, d, msg);
    enum v3_error error = r.error;

    v3_result_release(&r);
    return error;
}

static enum v3_error put(const char *key, const char *value, int64_t lease)
{
    struct rpcpb_put_request req = {
        .key = str_of(key), .value = str_of(value), .lease = lease};

    return try(V3_PUT, &rpcpb_put_request_desc, &req);
}

static enum v3_error del(const char *key)
{
    struct rpcpb_delete_range_request req = {.key = str_of(key)};

    return try(V3_DELETE_RANGE, &rpcpb_delete_range_request_desc, &req);
}

static enum v3_error grant(int64_t id, int64_t ttl)
{
    struct rpcpb_lease_grant_request req = {ttl, id};

    return try(V3_LEASE_GRANT, &rpcpb_lease_grant_request_desc, &req);
}

static enum v3_error revoke_lease(int64_t id)
{
    struct rpcpb_lease_revoke_request req = {.ID = id};

    return try(V3_LEASE_REVOKE, &rpcpb_lease_revoke_request_desc, &req);
}

static enum v3_error alarm_do(int action, uint64_t member, int kind)
{
    struct rpcpb_alarm_request req = {action, member, kind};

    return try(V3_ALARM, &rpcpb_alarm_request_desc, &req);
}

/* One put in the branch that runs, one range in the other. */
static enum v3_error txn(const char *key, bool puts)
{
    struct rpcpb_put_request p = {.key = str_of(key), .value = STR("t")};
    struct rpcpb_range_request r = {.key = str_of(key)};
    struct rpcpb_request_op put_op = {.request_put = &p};
    struct rpcpb_request_op range_op = {.request_range = &r};
    struct rpcpb_txn_request req = {0};

    req.success.items = puts ? &put_op : &range_op;
    req.success.n = 1;
    req.failure.items = &range_op;
    req.failure.n = 1;
    return try(V3_TXN, &rpcpb_txn_request_desc, &req);
}

static enum v3_error compact(int64_t revision)
{
    struct rpcpb_compaction_request req = {.revision = revision};

    return try(V3_COMPACTION, &rpcpb_compaction_request_desc, &req);
}

static bool has(const char *key)
{
    const struct mvcc_range r = {.key = str_of(key)};
    struct mvcc_range_result out;
    bool found;

    CHECK(mvcc_range(v->mvcc, &r, &out) == 0);
    found = out.n == 1;
    mvcc_range_release(&out);
    return found;
}

/* --- Tests. --------------------------------------------------------------- */

static void test_keys(void)
{
    begin();
    CHECK(put("a", "1", 0) == V3_OK);
    CHECK(put("", "1", 0) == V3_EMPTY_KEY);
    CHECK(mvcc_revision(v->mvcc) == 2);
    CHECK(txn("b", true) == V3_OK && has("b"));
    CHECK(txn("b", false) == V3_OK && mvcc_revision(v->mvcc) == 3);
    CHECK(del("a") == V3_OK && !has("a"));
    CHECK(del("a") == V3_OK && mvcc_revision(v->mvcc) == 4);
    CHECK(compact(9) == V3_FUTURE_REV);
    CHECK(compact(3) == V3_OK);
    CHECK(compact(3) == V3_COMPACTED);
    end();
}

static void test_leases(void)
{
    begin();
    CHECK(put("a", "1", 5) == V3_LEASE_NOT_FOUND);
    CHECK(grant(5, 1) == V3_OK);
    CHECK(grant(5, 1) == V3_LEASE_EXIST);
    CHECK(grant(6, LEASE_TTL_MAX + 1) == V3_LEASE_TTLTOO_LARGE);
    CHECK(put("a", "1", 5) == V3_OK && put("b", "1", 5) == V3_OK);
    CHECK(put("c", "1", 5) == V3_OK && put("c", "2", 0) == V3_OK);
    CHECK(lease_n_keys(v->lessor, 5) == 2);
    CHECK(mvcc_revision(v->mvcc) == 5);
    CHECK(revoke_lease(5) == V3_OK);
    CHECK(mvcc_revision(v->mvcc) == 6); /* both in one */
    CHECK(!has("a") && !has("b") && has("c"));
    CHECK(revoke_lease(5) == V3_LEASE_NOT_FOUND);
    end();
}

/* What each alarm stops, and what it does not. */
static void test_alarms(void)
{
    begin();
    CHECK(grant(5, 10) == V3_OK && put("a", "1", 5) == V3_OK);
    CHECK(alarm_do(RPCPB_ALARM_DO_ACTIVATE, 1, V3_ALARM_NOSPACE) == V3_OK);
    CHECK(put("b", "1", 0) == V3_NO_SPACE);
    CHECK(txn("b", true) == V3_NO_SPACE && !has("b"));
    CHECK(txn("b", false) == V3_OK);
    CHECK(grant(6, 10) == V3_NO_SPACE);
    CHECK(del("x") == V3_OK && compact(2) == V3_OK);
    CHECK(alarm_do(RPCPB_ALARM_DO_ACTIVATE, 2, V3_ALARM_CORRUPT) == V3_OK);
    CHECK(put("b", "1", 0) == V3_CORRUPT); /* looked at first */
    CHECK(del("a") == V3_CORRUPT && revoke_lease(5) == V3_CORRUPT);
    CHECK(compact(3) == V3_CORRUPT && txn("b", false) == V3_CORRUPT);
    CHECK(alarm_do(RPCPB_ALARM_DO_DEACTIVATE, 1, V3_ALARM_CORRUPT) == V3_OK);
    CHECK(v->n_alarms == 2); /* another member's stays */
    CHECK(alarm_do(RPCPB_ALARM_DO_DEACTIVATE, 2, V3_ALARM_CORRUPT) == V3_OK);
    CHECK(alarm_do(RPCPB_ALARM_DO_DEACTIVATE, 1, V3_ALARM_NOSPACE) == V3_OK);
    CHECK(v->n_alarms == 0 && put("b", "1", 0) == V3_OK);
    end();
}

static void test_alarm_answers(void)
{
    struct rpcpb_alarm_request get = {.action = RPCPB_ALARM_DO_GET};
    struct v3_result r;

    begin();
    alarm_do(RPCPB_ALARM_DO_ACTIVATE, 9, V3_ALARM_NOSPACE);
    alarm_do(RPCPB_ALARM_DO_ACTIVATE, 3, V3_ALARM_NOSPACE);
    alarm_do(RPCPB_ALARM_DO_ACTIVATE, 9, V3_ALARM_NOSPACE); /* twice */
    alarm_do(RPCPB_ALARM_DO_ACTIVATE, 9, 0); /* of no kind: kept, too */
    alarm_do(RPCPB_ALARM_DO_ACTIVATE, 0, 0); /* but not nobody's */
    r = apply(V3_ALARM, &rpcpb_alarm_request_desc, &get);
    CHECK(r.u.alarm.n == 3 && r.u.alarm.alarms[0].member_id == 3);
    CHECK(r.u.alarm.alarms[1].member_id == 9 && r.u.alarm.alarms[1].alarm == 0);
    v3_result_release(&r);
    end();
}

/* --- Users. --------------------------------------------------------------- */

static void add_root(void)
{
    struct rpcpb_auth_user_add_request add = {.name = STR("root"),
                                              .password = STR("pw")};
    struct rpcpb_auth_role_add_request role = {.name = STR("root")};
    struct rpcpb_auth_user_grant_role_request give = {STR("root"), STR("root")};
    struct rpcpb_auth_enable_request on = {0};

    CHECK(try(V3_USER_ADD, &rpcpb_auth_user_add_request_desc, &add) == V3_OK);
    CHECK(try(V3_ROLE_ADD, &rpcpb_auth_role_add_request_desc, &role) == V3_OK);
    CHECK(try(V3_USER_GRANT_ROLE, &rpcpb_auth_user_grant_role_request_desc,
              &give) == V3_OK);
    CHECK(try(V3_AUTH_ENABLE, &rpcpb_auth_enable_request_desc, &on) == V3_OK);
}

static void test_auth(void)
{
    struct rpcpb_auth_disable_request off = {0};
    struct rpcpb_internal_authenticate_request in = {
        .name = STR("root"), .simple_token = STR("abcdefghijklmnop")};
    struct v3_result r;

    begin();
    CHECK(grant(5, 10) == V3_OK && put("a", "1", 5) == V3_OK);
    add_root();
    CHECK(put("a", "1", 0) == V3_USER_EMPTY);
    CHECK(revoke_lease(5) == V3_USER_EMPTY);
    r = apply(V3_AUTHENTICATE, &rpcpb_internal_authenticate_request_desc, &in);
    CHECK(r.error == V3_OK);
    CHECK_STR(r.u.token, "abcdefghijklmnop.9");
    CHECK(entry_index == 9);
    v3_result_release(&r);
    who = (struct auth_who){STR("root"), auth_revision(v->auth) - 1};
    CHECK(put("a", "1", 0) == V3_AUTH_OLD_REVISION);
    who.revision++;
    CHECK(put("a", "1", 0) == V3_OK);
    who = (struct auth_who){STR("nobody"), who.revision};
    CHECK(try(V3_AUTH_DISABLE, &rpcpb_auth_disable_request_desc, &off) ==
          V3_USER_NOT_FOUND);
    who.user = STR("root");
    CHECK(try(V3_AUTH_DISABLE, &rpcpb_auth_disable_request_desc, &off) ==
          V3_OK);
    end();
}

/* Hashed before or while it is applied: the same is stored. */
static void test_password_ahead(void)
{
    struct rpcpb_auth_user_add_request add = {.name = STR("u"),
                                              .password = STR("pw")};
    struct v3_moment at = {1, 1, 0};
    struct v3_request r = {.field = V3_USER_ADD};
    struct buf b = {0}, hash = {0};
    struct v3 *other = v3_new(&config);

    begin();
    msg_encode(&rpcpb_auth_user_add_request_desc, &add, &b);
    r.bytes = buf_str(&b);
    CHECK(v3_apply(other, &r, &at, NULL) == 0);
    v3_hash_password(&hash, &r, 1);
    CHECK(hash.len > 50);
    r.password = buf_str(&hash);
    CHECK(v3_apply(v, &r, &at, NULL) == 0);
    CHECK(str_eq(auth_user(v->auth, STR("u"))->password,
                 auth_user(other->auth, STR("u"))->password));
    buf_release(&b);
    buf_release(&hash);
    v3_free(other);
    end();
}

/* --- What cannot be read. ------------------------------------------------- */

static void test_unreadable(void)
{
    static const struct {
        uint32_t field;
        struct str bytes;
        bool readable;
    } cases[] = {
        {V3_PUT, {"", 0}, true},
        {V3_PUT, {"\x0a\x05", 2}, false}, /* cut off */
        {V3_PUT, {"\x08\x05", 2}, false}, /* a number for a key */
        {12, {"", 0}, false},
        {100, {"", 0}, false},
        {9900, {"", 0}, false},
        {2, {"", 0}, false},
        {V3_DOWNGRADE, {"", 0}, true},
    };
    struct v3_moment at = {1, 1, 0};

    begin();
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct v3_request r = {.field = cases[i].field,
                                     .bytes = cases[i].bytes};

        CHECK(v3_readable(r.field, r.bytes) == cases[i].readable);
        if (!cases[i].readable)
            CHECK(v3_apply(v, &r, &at, NULL) == -1);
    }
    CHECK(v->index == 0 && v3_is_untouched(v));
    end();
}

/* Empty items take two bytes each: what they grow to is bounded, and allowed. */
static void test_many_empty_items(void)
{
    size_t n = 200000;
    struct buf b = {0};

    for (size_t i = 0; i < n; i++)
        buf_add(&b, i % 2 ? "\x0a\0" : "\x12\0", 2);
    CHECK(v3_readable(V3_TXN, buf_str(&b)));
    buf_release(&b);
}

static void test_cost(void)
{
    struct rpcpb_put_request p = {.key = STR("abc"), .value = STR("12")};
    struct rpcpb_request_op op = {.request_put = &p};
    struct rpcpb_txn_request t = {0};
    struct buf b = {0};

    msg_encode(&rpcpb_put_request_desc, &p, &b);
    CHECK(v3_cost(V3_PUT, buf_str(&b)) == 261);
    buf_clear(&b);
    t.failure.items = &op;
    t.failure.n = 1;
    msg_encode(&rpcpb_txn_request_desc, &t, &b);
    CHECK(v3_cost(V3_TXN, buf_str(&b)) == 261);
    CHECK(v3_cost(V3_LEASE_GRANT, STR("")) == 64);
    CHECK(v3_cost(V3_DELETE_RANGE, STR("")) == 0);
    buf_release(&b);
}

/* --- Saved and loaded. ---------------------------------------------------- */

static size_t versions(void *arg, struct mvcc_cursor *c, int64_t last,
                       struct mvcc_kv **kvs, size_t max)
{
    return mvcc_log_next(arg, c, last, kvs, max);
}

static uint32_t hash_kv(struct mvcc *m)
{
    struct mvcc_hash h;

    CHECK(mvcc_hash_open(m, 0, &h) == 0);
    while (!h.done)
        mvcc_hash_step(&h, 7);
    mvcc_hash_close(&h);
    return h.result;
}

static void check_saved(const char *path)
{
    struct backend_image image = {0};
    struct backend_source src = {&image, versions, v->mvcc};
    struct v3 *loaded = NULL;
    uint64_t index = 0;
    struct err e;

    v3_save(v, &image);
    CHECK(backend_save(path, &src, true, NULL, &e) == 0);
    backend_image_release(&image);
    CHECK(v3_peek_index(path, &index, &e) == 0 && index == v->index);
    CHECK(v3_load(path, &config, &loaded, &e) == 0);
    CHECK(loaded->index == v->index);
    CHECK(v3_digest(loaded) == v3_digest(v));
    CHECK(hash_kv(loaded->mvcc) == hash_kv(v->mvcc));
    lease_check(loaded->lessor);
    CHECK(lease_n_keys(loaded->lessor, 5) == lease_n_keys(v->lessor, 5));
    CHECK(loaded->n_alarms == v->n_alarms);
    v3_free(loaded);
}

static void test_save_and_load(void)
{
    char dir[] = "/tmp/v3_test.XXXXXX";
    char *path;

    if (!mkdtemp(dir))
        abort();
    path = xasprintf("%s/db", dir);
    begin();
    check_saved(path); /* nothing at all */
    CHECK(grant(5, 10) == V3_OK);
    for (int i = 0; i < 300; i++) {
        char key[8];

        snprintf(key, sizeof(key), "k%d", i % 70);
        CHECK(put(key, "v", i % 3 ? 0 : 5) == V3_OK);
        if (i % 11 == 0)
            CHECK(del(key) == V3_OK);
    }
    CHECK(compact(100) == V3_OK);
    alarm_do(RPCPB_ALARM_DO_ACTIVATE, 9, V3_ALARM_NOSPACE);
    add_root();
    check_saved(path);
    mvcc_compact_step(v->mvcc, 20); /* half done */
    check_saved(path);
    while (mvcc_compact_step(v->mvcc, 1000))
        ;
    check_saved(path);
    end();
    sys_remove_all(dir, NULL);
    free(path);
}

int main(void)
{
    test_keys();
    test_leases();
    test_alarms();
    test_alarm_answers();
    test_auth();
    test_password_ahead();
    test_unreadable();
    test_many_empty_items();
    test_cost();
    test_save_and_load();
    return check_done("v3");
}
