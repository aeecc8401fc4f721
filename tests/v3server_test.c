/*
 * v3server_test.c - the v3 state of a running member of one: what is written is
 * read, watched, expires, and is there again after a restart, from the log and
 * from a checkpoint.
 */
#include "files.h"
#include "rpcpb.h"
#include "v3metrics.h"
#include "v3server.h"

#include <inttypes.h>

static struct config config;
static struct server *server;

/* --- A member. ------------------------------------------------------------ */

static void start_with(char *const *more, size_t n_more)
{
    char *argv[32] = {
        "etcd",  "--data-dir",           dir,  "--log-level",
        "error", "--heartbeat-interval", "20", "--election-timeout",
        "200"};
    size_t n = 9;
    int code;
    struct err e;

    for (size_t i = 0; i < n_more; i++)
        argv[n++] = more[i];
    CHECK(config_load(&config, (int)n, argv, &code) == CONFIG_RUN);
    if (server_start(&config, &server, &e) < 0) {
        fprintf(stderr, "%s\n", e.msg);
        exit(1);
    }
}

static void start(void)
{
    start_with(NULL, 0);
}

static void stop(void)
{
    server_stop(server);
    server_free(server);
    config_release(&config);
    server = NULL;
}

/* --- Requests. ------------------------------------------------------------ */

static struct v3_result write_msg(uint32_t field, const struct msg_desc *d,
                                  const void *msg)
{
    struct buf b = {0};
    struct v3_result r;

    msg_encode(d, msg, &b);
    v3_write_wait(server, field, buf_str(&b), NULL, &r);
    buf_release(&b);
    return r;
}

static int64_t put_leased(const char *key, const char *value, int64_t lease)
{
    struct rpcpb_put_request req = {
        .key = str_of(key), .value = str_of(value), .lease = lease};
    struct v3_result r = write_msg(V3_PUT, &rpcpb_put_request_desc, &req);
    int64_t revision = r.error == V3_OK ? r.header.revision : -(int64_t)r.error;

    v3_result_release(&r);
    return revision;
}

static int64_t put(const char *key, const char *value)
{
    return put_leased(key, value, 0);
}

/* The value, or "(none)". Owned. */
static char *get(const char *key)
{
    const struct mvcc_range range = {.key = str_of(key)};
    struct mvcc_range_result out;
    struct v3_header h;
    char *value = NULL;

    CHECK(v3_read_index_wait(server) == V3_OK);
    CHECK(v3_range(server, NULL, &range, &out, &h) == V3_OK);
    if (out.n == 1) {
        struct str v = mvcc_value(out.kvs[0]);

        value = xstrndup(v.p, v.n);
    }
    mvcc_range_release(&out);
    return value ? value : xstrdup("(none)");
}

static void check_get(const char *key, const char *want)
{
    char *got = get(key);

    CHECK_STR(got, want);
    free(got);
}

/* --- Tests. --------------------------------------------------------------- */

static void test_put_and_range(void)
{
    start();
    CHECK(put("a", "1") == 2);
    CHECK(put("b", "2") == 3);
    CHECK(put("a", "3") == 4);
    CHECK(put("", "x") == -(int64_t)V3_EMPTY_KEY);
    check_get("a", "3");
    check_get("b", "2");
    check_get("c", "(none)");
    stop();
}

/* What no member could apply must not get into the log. */
static void test_unreadable(void)
{
    struct v3_result r;

    start();
    v3_write_wait(server, V3_PUT, STR("\x0a\x05"), NULL, &r);
    CHECK(r.error != V3_OK && r.text && r.code == 3);
    v3_result_release(&r);
    v3_write_wait(server, 12, STR(""), NULL, &r);
    CHECK(r.error != V3_OK);
    v3_result_release(&r);
    CHECK(put("a", "1") == 2);
    stop();
}

static void test_restart_from_log(void)
{
    start();
    CHECK(put("a", "1") == 2);
    CHECK(put("b", "2") == 3);
    stop();
    start();
    check_get("a", "1");
    check_get("b", "2");
    CHECK(put("a", "3") == 4);
    stop();
}

/* Until cond holds, at most ms. */
#define WAIT_FOR(cond, ms)                                                     \
    do {                                                                       \
        bool came_ = (cond);                                                   \
                                                                               \
        for (int wait_ = 0; wait_ < (ms) && !came_; wait_ += 5) {              \
            sys_sleep_ms(5);                                                   \
            came_ = (cond);                                                    \
        }                                                                      \
        CHECK(came_);                                                          \
    } while (0)

static bool has_checkpoint(void)
{
    return exists("member/snap/db");
}

static void put_many(int n)
{
    for (int i = 0; i < n; i++) {
        char key[16];

        snprintf(key, sizeof(key), "k%03d", i % 50);
        CHECK(put(key, "v") > 0);
    }
}

static void test_restart_from_checkpoint(void)
{
    char *args[] = {"--snapshot-count", "10", "--max-wals", "1"};
    int64_t revision;
    struct v3_header h;

    start_with(args, ARRAY_LEN(args));
    CHECK(put("first", "1") == 2);
    put_many(60);
    WAIT_FOR(has_checkpoint(), 20000);
    CHECK(put("last", "z") > 0);
    revision = v3_header(server).revision;
    stop();
    start_with(args, ARRAY_LEN(args));
    h = v3_header(server);
    CHECK(h.revision == revision);
    check_get("first", "1");
    check_get("last", "z");
    check_get("k007", "v");
    CHECK(put("more", "y") == revision + 1);
    stop();
}

static void remove_all(const char *name)
{
    char *path = in_dir(name);

    CHECK(sys_remove_all(path, NULL) == 0);
    free(path);
}

static void check_refused(const char *why)
{
    char *argv[] = {"etcd", "--data-dir", dir, "--log-level", "error"};
    struct err e;
    int code;

    CHECK(config_load(&config, ARRAY_LEN(argv), argv, &code) == CONFIG_RUN);
    CHECK(server_start(&config, &server, &e) < 0);
    CHECK(strstr(e.msg, why) != NULL);
    config_release(&config);
}

/* A db that is older than the snapshot: entries between them are missing. And
 * one that is ahead of its log. */
static void test_wrong_db_is_refused(void)
{
    char *args[] = {"--snapshot-count", "10", "--max-wals", "1"};
    struct buf old, late;

    start_with(args, ARRAY_LEN(args));
    put_many(12);
    WAIT_FOR(has_checkpoint(), 20000);
    stop();
    old = read_file("member/snap/db");
    start_with(args, ARRAY_LEN(args));
    put_many(40);
    sys_sleep_ms(300);
    stop();
    late = read_file("member/snap/db");
    write_file("member/snap/db", buf_str(&old));
    check_refused("older than the snapshot");
    remove_all("member/snap/db");
    check_refused("is missing beside the snapshot");
    CHECK(sys_remove_all(dir, NULL) == 0);
    start();
    put_many(1);
    stop();
    write_file("member/snap/db", buf_str(&late));
    check_refused("but the log ends at");
    remove_all("member/wal");
    check_refused("no log found");
    buf_release(&old);
    buf_release(&late);
}

/* --- Watch. --------------------------------------------------------------- */

struct seen { /* under seen_mu */
    int64_t created, events, last_revision, compacted;
    bool full; /* take nothing */
};

static pthread_mutex_t seen_mu = PTHREAD_MUTEX_INITIALIZER;

static int64_t seen(const int64_t *what)
{
    int64_t n;

    pthread_mutex_lock(&seen_mu);
    n = *what;
    pthread_mutex_unlock(&seen_mu);
    return n;
}

static void set_full(struct seen *w, bool full)
{
    pthread_mutex_lock(&seen_mu);
    w->full = full;
    pthread_mutex_unlock(&seen_mu);
}

static bool on_watch(void *arg, const struct watch_message *m)
{
    struct seen *w = arg;
    bool taken;

    pthread_mutex_lock(&seen_mu);
    taken = !w->full || m->kind != WATCH_EVENTS;
    w->created += m->kind == WATCH_CREATED;
    if (taken && m->kind == WATCH_EVENTS) {
        w->events += (int64_t)m->n;
        w->last_revision = m->batch->revision;
    }
    if (m->kind == WATCH_COMPACTED)
        w->compacted = m->compact_revision;
    pthread_mutex_unlock(&seen_mu);
    return taken;
}

static void test_watch(void)
{
    const struct watch_create now = {.key = STR("a"), .range_end = STR("c")};
    struct watch_create past = now;
    struct seen w = {0}, p = {0};
    struct watch_stream *one, *two;

    start();
    CHECK(put("a", "1") == 2);
    one = v3_watch_open(server, on_watch, &w);
    CHECK(v3_watch_create(server, one, &now) == 0);
    CHECK(put("b", "2") == 3);
    CHECK(put("d", "2") == 4);
    WAIT_FOR(seen(&w.events) == 1, 20000);
    CHECK(seen(&w.last_revision) == 3);

    /* The past, for one whose client is slow. */
    two = v3_watch_open(server, on_watch, &p);
    set_full(&p, true);
    past.start_revision = 2;
    CHECK(v3_watch_create(server, two, &past) == 0);
    sys_sleep_ms(20);
    CHECK(seen(&p.events) == 0);
    set_full(&p, false);
    v3_watch_ready(server, two);
    WAIT_FOR(seen(&p.events) == 2, 20000);
    v3_watch_close(server, one);
    v3_watch_close(server, two);
    stop();
}

/* --- Compaction. ---------------------------------------------------------- */

static enum v3_error compact(int64_t revision, bool physical)
{
    struct rpcpb_compaction_request req = {revision, physical};
    struct v3_result r =
        write_msg(V3_COMPACTION, &rpcpb_compaction_request_desc, &req);
    enum v3_error error = r.error;

    v3_result_release(&r);
    return error;
}

static uint64_t size_in_use(void)
{
    struct v3_status st;
    uint64_t size;

    v3_status(server, &st);
    size = st.db_size_in_use;
    v3_status_release(&st);
    return size;
}

static enum v3_error get_at(const char *key, int64_t revision)
{
    const struct mvcc_range range = {.key = str_of(key), .revision = revision};
    struct mvcc_range_result out;
    struct v3_header h;
    enum v3_error error = v3_range(server, NULL, &range, &out, &h);

    if (error == V3_OK)
        mvcc_range_release(&out);
    return error;
}

static void test_compaction(void)
{
    struct watch_create past = {.key = STR("a"), .start_revision = 3};
    struct seen w = {0};
    struct watch_stream *stream;
    uint64_t before;

    start();
    for (int i = 0; i < 100; i++)
        put("a", "some value");
    before = size_in_use();
    CHECK(compact(102, false) == V3_FUTURE_REV);
    CHECK(compact(90, true) == V3_OK);
    CHECK(size_in_use() < before); /* it was waited for */
    CHECK(compact(90, true) == V3_COMPACTED);
    CHECK(get_at("a", 89) == V3_COMPACTED);
    CHECK(get_at("a", 90) == V3_OK);
    stream = v3_watch_open(server, on_watch, &w);
    v3_watch_create(server, stream, &past);
    WAIT_FOR(seen(&w.compacted) == 90, 20000);
    v3_watch_close(server, stream);
    stop();
    start();
    CHECK(get_at("a", 89) == V3_COMPACTED);
    check_get("a", "some value");
    stop();
}

/* --- Leases. -------------------------------------------------------------- */

static int64_t grant(int64_t ttl)
{
    struct rpcpb_lease_grant_request req = {.TTL = ttl,
                                            .ID = v3_lease_new_id(server)};
    struct v3_result r =
        write_msg(V3_LEASE_GRANT, &rpcpb_lease_grant_request_desc, &req);

    CHECK(r.error == V3_OK && r.u.lease_grant.id == req.ID);
    v3_result_release(&r);
    return req.ID;
}

static void test_lease(void)
{
    struct v3_lease_info info;
    struct v3_header h;
    int64_t id, other, ttl = -5, *ids;

    start();
    id = grant(1);
    other = grant(100);
    CHECK(put_leased("mortal", "x", id) > 0);
    CHECK(put_leased("other", "x", other) > 0);
    CHECK(put_leased("none", "x", 77) == -(int64_t)V3_LEASE_NOT_FOUND);
    CHECK(v3_lease_renew(server, other, &ttl) == V3_OK && ttl == 100);
    CHECK(v3_lease_renew(server, 77, &ttl) == V3_OK && ttl == 0);
    CHECK(v3_lease_time_to_live(server, NULL, other, true, &info) == V3_OK);
    CHECK(info.granted_ttl == 100 && info.ttl >= 98 && info.n_keys == 1);
    v3_lease_info_release(&info);
    CHECK(v3_lease_list(server, &ids, &h) == 2);
    free(ids);
    check_get("mortal", "x");
    WAIT_FOR(get_at("mortal", 0) == V3_OK && v3_header(server).revision == 4,
             4000);
    check_get("mortal", "(none)");
    check_get("other", "x");
    CHECK(v3_lease_time_to_live(server, NULL, id, false, &info) == V3_OK);
    CHECK(info.ttl == -1);
    stop();
    start();
    check_get("mortal", "(none)");
    check_get("other", "x");
    CHECK(v3_lease_time_to_live(server, NULL, other, true, &info) == V3_OK);
    CHECK(info.granted_ttl == 100 && info.n_keys == 1);
    v3_lease_info_release(&info);
    stop();
}

/* --- Quota. --------------------------------------------------------------- */

/* As who looks at /metrics sees it. */
static bool warns_of_quota(void)
{
    struct metrics_page *page = metrics_page_new();
    struct buf b = {0};
    bool warns;

    v3_metrics_add(server, page);
    metrics_page_write(page, &b);
    warns = strstr(buf_z(&b), "\netcd_server_quota_warning 1\n");
    CHECK(warns || strstr(buf_z(&b), "\netcd_server_quota_warning 0\n"));
    metrics_page_free(page);
    buf_release(&b);
    return warns;
}

static void test_quota(void)
{
    char *args[] = {"--quota-backend-bytes", "50000"};
    struct rpcpb_alarm_request off = {.action = RPCPB_ALARM_DO_DEACTIVATE,
                                      .alarm = V3_ALARM_NOSPACE};
    char value[4001];
    struct v3_alarm *alarms;
    struct v3_header h;
    struct v3_result r;
    int64_t got = 0;

    memset(value, 'v', sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    start_with(args, ARRAY_LEN(args));
    CHECK(!warns_of_quota());
    for (int i = 0; i < 20 && got >= 0; i++)
        got = put("k", value);
    CHECK(got == -(int64_t)V3_NO_SPACE);
    CHECK(warns_of_quota());
    WAIT_FOR(v3_alarms(server, 0, &alarms, &h) == 1 || (free(alarms), false),
             1000);
    CHECK(alarms[0].member_id == server_id(server));
    off.memberID = alarms[0].member_id;
    free(alarms);
    CHECK(put("small", "x") == -(int64_t)V3_NO_SPACE);
    CHECK(compact(v3_header(server).revision, true) == V3_OK);
    CHECK(put("small", "x") == -(int64_t)V3_NO_SPACE); /* the alarm stays */
    r = write_msg(V3_ALARM, &rpcpb_alarm_request_desc, &off);
    CHECK(r.error == V3_OK && r.u.alarm.n == 1);
    v3_result_release(&r);
    CHECK(put("small", "x") > 0);
    CHECK(!warns_of_quota());
    stop();
}

/* --- Users. --------------------------------------------------------------- */

static void change(uint32_t field, const struct msg_desc *d, const void *msg)
{
    struct v3_result r = write_msg(field, d, msg);

    CHECK(r.error == V3_OK);
    v3_result_release(&r);
}

static void test_auth(void)
{
    struct rpcpb_auth_user_add_request add = {.name = STR("root"),
                                              .password = STR("secret")};
    struct rpcpb_user_add_options options = {.no_password = true};
    struct rpcpb_auth_user_add_request cert = {.name = STR("cert"),
                                               .options = &options};
    struct rpcpb_auth_role_add_request role = {.name = STR("root")};
    struct rpcpb_auth_user_grant_role_request give = {.user = STR("root"),
                                                      .role = STR("root")};
    struct rpcpb_auth_enable_request on = {0};
    const struct mvcc_range range = {.key = STR("a")};
    const struct str none = {NULL, 0};
    struct mvcc_range_result out;
    struct v3_who who;
    struct v3_header h;
    char *token, storage[64];

    start();
    CHECK(v3_who_is(server, none, STR(""), &who, storage, sizeof(storage)) ==
          V3_OK);
    CHECK(v3_who_is(server, STR(""), STR(""), &who, storage, sizeof(storage)) ==
          V3_INVALID_AUTH_TOKEN);
    CHECK(v3_who_is(server, STR("bad.1"), STR(""), &who, storage,
                    sizeof(storage)) == V3_INVALID_AUTH_TOKEN);
    change(V3_USER_ADD, &rpcpb_auth_user_add_request_desc, &add);
    change(V3_USER_ADD, &rpcpb_auth_user_add_request_desc, &cert);
    change(V3_ROLE_ADD, &rpcpb_auth_role_add_request_desc, &role);
    change(V3_USER_GRANT_ROLE, &rpcpb_auth_user_grant_role_request_desc, &give);
    CHECK(v3_authenticate(server, add.name, add.password, &token, &h) ==
          V3_AUTH_NOT_ENABLED);
    change(V3_AUTH_ENABLE, &rpcpb_auth_enable_request_desc, &on);
    CHECK(put("a", "1") == -(int64_t)V3_USER_EMPTY);
    CHECK(v3_range(server, NULL, &range, &out, &h) == V3_USER_EMPTY);
    CHECK(v3_authenticate(server, add.name, STR("wrong"), &token, &h) ==
          V3_AUTH_FAILED);
    CHECK(v3_authenticate(server, cert.name, STR("x"), &token, &h) ==
          V3_NO_PASSWORD_USER);
    CHECK(v3_authenticate(server, add.name, add.password, &token, &h) == V3_OK);
    CHECK(v3_who_is(server, str_of(token), STR(""), &who, storage,
                    sizeof(storage)) == V3_OK);
    CHECK(str_eqz(who.user, "root"));
    CHECK(v3_is_admin(server, &who) == V3_OK);
    CHECK(v3_range(server, &who, &range, &out, &h) == V3_OK);
    mvcc_range_release(&out);
    CHECK(v3_who_is(server, STR("bad.1"), STR(""), &who, storage,
                    sizeof(storage)) == V3_INVALID_AUTH_TOKEN);
    free(token);
    stop();
}

/* --- Snapshots. ----------------------------------------------------------- */

static void test_snapshot(void)
{
    struct v3_snapshot *sn;
    struct v3_config c = {.lease = {.min_ttl = 1}};
    struct buf file = {0};
    struct str piece;
    uint64_t size;
    uint32_t hash, same;
    int64_t compacted;
    struct v3_header h;
    struct err e;
    struct v3 *v;
    char *path;
    int rc;

    start();
    put_many(500);
    sn = v3_snapshot_open(server, &size, &e);
    put_many(500); /* which is not in it */
    while ((rc = v3_snapshot_next(sn, &piece, &e)) > 0)
        buf_addstr(&file, piece);
    CHECK(rc == 0);
    CHECK(file.len == size);
    v3_snapshot_close(sn);
    sn = v3_snapshot_open(server, &size, &e); /* given up at once */
    v3_snapshot_close(sn);
    write_file("copy", buf_str(&file));
    path = in_dir("copy");
    CHECK(v3_load(path, &c, &v, &e) == 0);
    CHECK(mvcc_revision(v->mvcc) == 501);
    v3_free(v);
    free(path);
    buf_release(&file);
    CHECK(v3_hash_kv(server, 0, &hash, &compacted, &h) == V3_OK);
    CHECK(v3_hash_kv(server, h.revision, &same, &compacted, &h) == V3_OK);
    CHECK(hash == same && compacted == -1);
    CHECK(v3_hash_kv(server, h.revision + 1, &same, &compacted, &h) ==
          V3_FUTURE_REV);
    CHECK(v3_hash(server, &hash, &h) == V3_OK);
    CHECK(v3_hash(server, &same, &h) == V3_OK && hash == same);
    stop();
}

/* --- Membership: a change may follow the answer to another at once. -------- */

/* Returns something if a put failed: only one thread counts checks. */
static void *put_meanwhile(void *stop)
{
    void *failed = NULL;

    while (!__atomic_load_n((bool *)stop, __ATOMIC_ACQUIRE))
        if (put("busy", "b") <= 0)
            failed = stop;
    return failed;
}

static void test_changes_in_a_row(void)
{
    pthread_t writer;
    bool over = false;
    int64_t began;
    void *failed;

    start();
    CHECK(sys_thread(&writer, SYS_STACK_LARGE, put_meanwhile, &over) == 0);
    began = sys_mono_ns();
    for (int i = 0; i < 300; i++)
        CHECK(server_remove_member(server, 99) == CLUSTER_EID_NOT_FOUND);
    CHECK(sys_mono_ns() - began < 5 * NS_PER_S); /* none ran into its timeout */
    __atomic_store_n(&over, true, __ATOMIC_RELEASE);
    pthread_join(writer, &failed);
    CHECK(!failed);
    stop();
}

int main(void)
{
    static void (*const tests[])(void) = {
        test_put_and_range,
        test_unreadable,
        test_restart_from_log,
        test_restart_from_checkpoint,
        test_wrong_db_is_refused,
        test_watch,
        test_compaction,
        test_lease,
        test_quota,
        test_auth,
        test_snapshot,
        test_changes_in_a_row,
    };

    run_in_fresh_folders(tests, ARRAY_LEN(tests), "data");
    return check_done("v3server");
}
