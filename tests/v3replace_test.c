/*
 * v3replace_test.c - a leader's snapshot takes the place of the v3 state while
 * it is read and watched, or a checkpoint writes it; and proposals that find no
 * leader.
 */
#include "files.h"
#include "rpcpb.h"
#include "server_impl.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static struct config config;
static struct server *server;

static void start_with(const char *cluster)
{
    char *argv[] = {"etcd",
                    "--name",
                    "a",
                    "--data-dir",
                    dir,
                    "--log-level",
                    "error",
                    "--heartbeat-interval",
                    "20",
                    "--election-timeout",
                    "200",
                    "--initial-cluster",
                    (char *)cluster,
                    "--initial-advertise-peer-urls",
                    "http://127.0.0.1:1"};
    int code;
    struct err e;

    CHECK(config_load(&config, ARRAY_LEN(argv), argv, &code) == CONFIG_RUN);
    if (server_start(&config, &server, &e) < 0) {
        fprintf(stderr, "%s\n", e.msg);
        exit(1);
    }
}

static void stop(void)
{
    server_stop(server);
    server_free(server);
    config_release(&config);
}

static struct str put_bytes(struct buf *b, int i)
{
    char key[16];
    struct rpcpb_put_request req = {.value = STR("v")};

    snprintf(key, sizeof(key), "k%04d", i);
    req.key = str_of(key);
    buf_clear(b);
    msg_encode(&rpcpb_put_request_desc, &req, b);
    return buf_str(b);
}

static void put(int i)
{
    struct buf b = {0};
    struct v3_result r;

    v3_write_wait(server, V3_PUT, put_bytes(&b, i), NULL, &r);
    CHECK(r.error == V3_OK);
    v3_result_release(&r);
    buf_release(&b);
}

/* --- Replaced. ------------------------------------------------------------ */

static int write_fd(void *arg, const void *p, size_t n)
{
    return sys_write_all(*(int *)arg, p, n);
}

/* The state of now, as it would come with a snapshot at this index. */
static void save_as_received(raft_index index)
{
    struct v3_pinned *p;
    char *path = snap_db_path(config.snap_dir, index);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    CHECK(fd >= 0);
    pthread_mutex_lock(&server->mu);
    p = v3_pin(server);
    pthread_mutex_unlock(&server->mu);
    v3_pinned_measure(p);
    CHECK(v3_pinned_write(p, write_fd, &fd, NULL) == 0);
    close(fd);
    v3_unpin(p);
    free(path);
}

static bool count_events(void *arg, const struct watch_message *m)
{
    if (m->kind == WATCH_EVENTS)
        sys_u64_add(arg, m->n);
    return true;
}

static size_t read_rest(struct mvcc_read *read)
{
    struct mvcc_kv *kvs[100];
    size_t n = 0;

    while (!read->done) {
        size_t got = v3_read_next(server, read, kvs, ARRAY_LEN(kvs));

        for (size_t i = 0; i < got; i++)
            mvcc_unref(kvs[i]);
        n += got;
    }
    return n;
}

static void test_replace(void)
{
    const struct mvcc_range all = {.key = {"\0", 1}, .range_end = {"\0", 1}};
    const struct watch_create watch = {.key = {"\0", 1},
                                       .range_end = {"\0", 1}};
    uint64_t events = 0;
    struct watch_stream *stream;
    struct mvcc_read read;
    struct v3_header h;
    struct v3 *old;
    struct err e;

    start_with("a=http://127.0.0.1:1");
    for (int i = 0; i < 500; i++)
        put(i);
    stream = v3_watch_open(server, count_events, &events);
    CHECK(v3_watch_create(server, stream, &watch) == 0);
    CHECK(v3_read_open(server, NULL, &all, &read, &h) == V3_OK);
    save_as_received(77);
    CHECK(v3_receive(server, 77, &e) == 0);

    pthread_mutex_lock(&server->mu);
    old = v3_install(server, 77);
    pthread_mutex_unlock(&server->mu);
    v3_free(old);
    CHECK(v3_header(server).revision == 501);
    CHECK(read_rest(&read) == 500); /* of the old one */
    v3_read_close(server, &read);
    put(600);
    for (int i = 0; i < 200 && sys_u64_load(&events) == 0; i++)
        sys_sleep_ms(5);
    CHECK(sys_u64_load(&events) == 1); /* none of them twice */
    v3_watch_close(server, stream);

    /* The file has taken its place, or will have after a restart. */
    for (int i = 0; i < 400 && !exists("member/snap/db"); i++)
        sys_sleep_ms(5);
    CHECK(exists("member/snap/db"));
    CHECK(!exists("member/snap/000000000000004d.snap.db"));
    stop();
}

/* --- Replaced while a checkpoint appends to db. --------------------------- */

enum {
    BIG = 2000, /* bytes: a checkpoint takes a while */
    LEADERS = 700,
    FOLLOWERS = 600, /* keys */
};

static void put_big(const char *prefix, int i)
{
    char key[16], value[BIG];
    struct rpcpb_put_request req = {.value = {value, BIG}};
    struct v3_result r;
    struct buf b = {0};

    snprintf(key, sizeof(key), "%s%04d", prefix, i);
    memset(value, 'x', BIG);
    req.key = str_of(key);
    msg_encode(&rpcpb_put_request_desc, &req, &b);
    v3_write_wait(server, V3_PUT, buf_str(&b), NULL, &r);
    CHECK(r.error == V3_OK);
    v3_result_release(&r);
    buf_release(&b);
}

static void begin_checkpoint(void)
{
    pthread_mutex_lock(&server->mu);
    server->checkpoint_due = true;
    pthread_mutex_unlock(&server->mu);
    server_wake_jobs(server, true, false);
}

/* May the next one append to db? */
static bool db_goes_on(void)
{
    bool goes_on;

    pthread_mutex_lock(&server->mu);
    goes_on = server->db_era == server->v3_era;
    pthread_mutex_unlock(&server->mu);
    return goes_on;
}

static struct stat stat_db(void)
{
    char *path = in_dir("member/snap/db");
    struct stat st = {0};

    CHECK(stat(path, &st) == 0);
    free(path);
    return st;
}

/* True if it came while a checkpoint had new pages in db, and was not done. */
static bool install_in_mid_append(raft_index index)
{
    uint64_t before = server->db_bytes;
    bool is_mid = false, is_over = false;
    struct v3 *old = NULL;

    begin_checkpoint();
    while (!is_mid && !is_over) {
        pthread_mutex_lock(&server->mu);
        is_over = server->db_bytes != before;
        is_mid = !is_over && (uint64_t)stat_db().st_size > before;
        if (is_mid)
            old = v3_install(server, index);
        pthread_mutex_unlock(&server->mu);
    }
    v3_free(old);
    return is_mid;
}

static int64_t revision_in_db(void)
{
    char *path = in_dir("member/snap/db");
    struct mvcc *m = mvcc_new();
    struct backend_meta meta;
    int64_t revision;

    CHECK(backend_load(path, m, NULL, NULL, &meta, NULL) == 0);
    revision = mvcc_revision(m);
    mvcc_free(m);
    free(path);
    return revision;
}

/* The state of a member that is ahead, in a file; its index. */
static raft_index leaders_state(const char *path)
{
    raft_index index;
    char *saved;

    start_with("a=http://127.0.0.1:1");
    for (int i = 0; i < LEADERS; i++)
        put_big("new", i);
    index = sys_u64_load(&server->last_applied);
    save_as_received(index);
    saved = snap_db_path(config.snap_dir, index);
    CHECK(rename(saved, path) == 0);
    free(saved);
    stop();
    CHECK(sys_remove_all(dir, NULL) == 0);
    return index;
}

static void test_replace_beside_checkpoint(void)
{
    char *received = xasprintf("%s/received", base), *path;
    raft_index index = leaders_state(received);
    struct err e;
    ino_t sent;

    start_with("a=http://127.0.0.1:1");
    put_big("old", 0);
    begin_checkpoint();
    for (int i = 0; i < 400 && !db_goes_on(); i++)
        sys_sleep_ms(5);
    CHECK(db_goes_on());
    for (int i = 1; i < FOLLOWERS; i++)
        put_big("old", i);
    path = snap_db_path(config.snap_dir, index);
    CHECK(rename(received, path) == 0);
    CHECK(v3_receive(server, index, &e) == 0);
    CHECK(install_in_mid_append(index));
    CHECK(v3_header(server).revision == LEADERS + 1);

    /* What was appended is whole, or what the leader sent is there already; in
     * the end it is that, and the next checkpoint writes it anew. */
    for (int i = 0; i < 1000 && sys_exists(path); i++) {
        int64_t revision = revision_in_db();

        CHECK(revision == 2 || revision == FOLLOWERS + 1 ||
              revision == LEADERS + 1);
        sys_sleep_ms(5);
    }
    CHECK(!sys_exists(path) && revision_in_db() == LEADERS + 1);
    CHECK(!db_goes_on());
    sent = stat_db().st_ino;
    begin_checkpoint();
    for (int i = 0; i < 1000 && !db_goes_on(); i++)
        sys_sleep_ms(5);
    CHECK(db_goes_on() && revision_in_db() == LEADERS + 1);
    CHECK(stat_db().st_ino != sent);
    stop();
    free(received);
    free(path);
}

static bool has_incoming(void)
{
    bool has;

    pthread_mutex_lock(&server->mu);
    has = server->incoming != NULL;
    pthread_mutex_unlock(&server->mu);
    return has;
}

static void test_refused(void)
{
    struct err e;

    start_with("a=http://127.0.0.1:1");
    CHECK(v3_receive(server, 78, &e) == 0); /* nobody has any v3 state */
    CHECK(has_incoming());
    put(1);
    CHECK(v3_receive(server, 78, &e) < 0);
    write_file("member/snap/000000000000004e.snap.db", STR("no such file"));
    CHECK(v3_receive(server, 78, &e) < 0);
    pthread_mutex_lock(&server->mu);
    server->incoming_index = 1; /* it was known here, so raft ignored it */
    pthread_mutex_unlock(&server->mu);
    for (int i = 0; i < 400 && has_incoming(); i++)
        sys_sleep_ms(5);
    CHECK(!has_incoming());
    save_as_received(1000000); /* but it is of an earlier index */
    CHECK(v3_receive(server, 1000000, &e) < 0);
    stop();
}

/* --- Without a leader. ----------------------------------------------------- */

static void count_timeouts(struct v3_write *op)
{
    if (op->result.error != V3_OK || op->result.text)
        sys_u64_add(op->arg, 1);
    v3_result_release(&op->result);
}

static void test_parked(void)
{
    enum { MANY = PARKED_MAX + 10 };
    struct v3_write *ops = xcalloc(MANY, sizeof(*ops));
    int64_t began = sys_mono_ns();
    uint64_t failed = 0;
    struct buf b = {0};

    start_with("a=http://127.0.0.1:1,b=http://127.0.0.1:2");
    log_set_level(LOG_CRIT);
    for (int i = 0; i < MANY; i++) {
        ops[i] = (struct v3_write){.done = count_timeouts, .arg = &failed};
        v3_write(server, V3_PUT, put_bytes(&b, i), NULL, &ops[i]);
    }
    CHECK(sys_mono_ns() - began < 2 * NS_PER_S); /* none of them waited */
    CHECK(sys_u64_load(&failed) == MANY - PARKED_MAX);
    stop();
    CHECK(failed == MANY);
    buf_release(&b);
    free(ops);
}

static void *wait_for_ever(void *arg)
{
    int *rc = arg;

    *rc =
        server_wait_applied(server, UINT64_MAX, sys_mono_ns() + 60 * NS_PER_S);
    return NULL;
}

/* Who waits for what will never be applied does not hold up a stop. */
static void test_stop_ends_waits(void)
{
    pthread_t thread;
    int rc = 0;

    start_with("a=http://127.0.0.1:1");
    CHECK(sys_thread(&thread, SYS_STACK_LARGE, wait_for_ever, &rc) == 0);
    sys_sleep_ms(100);
    server_stop(server);
    pthread_join(thread, NULL);
    CHECK(rc == SERVER_ESTOPPED);
    server_free(server);
    config_release(&config);
    server = NULL;
}

int main(void)
{
    static void (*const tests[])(void) = {
        test_replace, test_replace_beside_checkpoint, test_refused,
        test_parked,  test_stop_ends_waits,
    };

    run_in_fresh_folders(tests, ARRAY_LEN(tests), "data");
    return check_done("v3replace");
}
