/*
 * fail_test.c - the nth system call, or the nth allocation, fails.
 *
 * A scenario is run against a whole etcd (failetcd.c) again and again, each
 * time with another call failing once or a few times: start, requests of each
 * kind (v2, and v3 by gRPC and as JSON), checkpoints, stop. What may happen:
 *
 *   - nothing that a client could notice
 *   - a request is refused or its connection closed, and the server lives on
 *   - the server ends by itself, and its log says why
 *
 * and whatever happened, the server starts again afterwards, without failures,
 * and has every write that it acknowledged. A hang, a signal but SIGABRT with a
 * message, and a lost write are what fails the test.
 *
 *   fail_test                    some of the calls
 *   LONG=1 fail_test [CALL]      all of them (of this name), each errno
 */
#include "check.h"
#include "crypto.h"
#include "grpcconn.h"
#include "pb.h"
#include "sys.h"

#include "failcalls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_MS 30000 /* for an answer, a start, an end: beyond it hangs */
#define QUICK_NS (15 * NS_PER_S)
#define WRITES_MAX 64
#define ROOM_BYTES (512u * 1024 * 1024) /* for some segments of the log */
#define REFUSALS_MAX 6 /* requests in a row that may fail while it lives */

/* What may fail how. Where count is not 1, so many calls in a row. */
static const struct failure {
    int call;
    int errors[5];
    uint64_t count;
} failures[] = {
    {FAIL_malloc, {ENOMEM}, 1},
    {FAIL_calloc, {ENOMEM}, 1},
    {FAIL_realloc, {ENOMEM}, 1},
    {FAIL_accept4, {ECONNABORTED, EMFILE, EINTR, ENOMEM}, 1},
    {FAIL_accept4, {EMFILE, ENFILE, ENOBUFS}, 5},
    {FAIL_recv, {ECONNRESET, EINTR, ENOMEM}, 1},
    {FAIL_send, {EPIPE, EINTR, ENOBUFS}, 1},
    {FAIL_sendmsg, {EPIPE, EINTR, ENOBUFS}, 1},
    {FAIL_poll, {EINTR, ENOMEM}, 1},
    {FAIL_epoll_create1, {EMFILE}, 1},
    {FAIL_eventfd, {EMFILE}, 1},
    {FAIL_epoll_ctl, {ENOMEM, ENOSPC}, 1},
    {FAIL_epoll_wait, {EINTR}, 1},
    {FAIL_socket, {EMFILE, ENOBUFS}, 1},
    {FAIL_setsockopt, {EINVAL}, 1},
    {FAIL_getsockname, {ENOBUFS}, 1},
    {FAIL_bind, {EADDRINUSE, EACCES}, 1},
    {FAIL_listen, {EADDRINUSE}, 1},
    {FAIL_pthread_create, {EAGAIN}, 1},
    {FAIL_pthread_create, {EAGAIN}, 5},
    {FAIL_getrandom, {EINTR, ENOSYS}, 1},
    {FAIL_open, {EMFILE, EACCES, EINTR, EIO}, 1},
    {FAIL_read, {EINTR, EIO}, 1},
    {FAIL_pread, {EINTR, EIO}, 1},
    {FAIL_write, {EINTR, ENOSPC, EIO}, 1},
    {FAIL_pwrite, {EINTR, ENOSPC, EIO}, 1},
    {FAIL_fdatasync, {EIO, ENOSPC}, 1},
    {FAIL_fsync, {EIO}, 1},
    {FAIL_fallocate, {EOPNOTSUPP, ENOSPC, EINTR}, 1},
    {FAIL_ftruncate, {EIO, EINTR}, 1},
    {FAIL_lseek, {EIO}, 1},
    {FAIL_fstat, {EIO}, 1},
    {FAIL_flock, {EINTR, ENOLCK, EWOULDBLOCK}, 1},
    {FAIL_fcntl, {EINVAL, ENOLCK}, 1},
    {FAIL_rename, {EIO, ENOSPC}, 1},
    {FAIL_mkdir, {EACCES, ENOSPC}, 1},
    {FAIL_unlink, {EIO}, 1},
    {FAIL_opendir, {EMFILE, EIO}, 1},
};

struct write {
    char key[32], value[32];
    bool acked, v3;
};

static struct {
    char *program, *dir;
    int port, peer_port;
    pid_t pid; /* 0: not running */
    int status;
    struct write writes[WRITES_MAX];
    size_t n_writes;
    int refusals; /* in a row */
    bool hung;
    unsigned runs, ended, refused;
} t;

/* --- The server. -------------------------------------------------------- */

static int free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t n = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&a, &n) == 0);
    close(fd);
    return ntohs(a.sin_port);
}

static void choose_client_port(void)
{
    do
        t.port = free_port();
    while (t.port == t.peer_port);
}

static char *in_dir(const char *name)
{
    return xasprintf("%s/%s", t.dir, name);
}

static volatile sig_atomic_t cancelled; /* end soon, and clean up */

static void on_signal(int sig)
{
    cancelled = sig;
}

static void exec_server(void)
{
    char *data = in_dir("data"), *log = in_dir("log");
    char *client = xasprintf("http://127.0.0.1:%d", t.port);
    char *peer = xasprintf("http://127.0.0.1:%d", t.peer_port);
    char *cluster = xasprintf("n=%s", peer);
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(fd, 1);
    dup2(fd, 2);
    execl(t.program, "etcd", "--name", "n", "--data-dir", data, "--bcrypt-cost",
          "4", "--snapshot-count", "10", "--max-snapshots", "1", "--max-wals",
          "1", "--listen-client-urls", client, "--advertise-client-urls",
          client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls",
          peer, "--initial-cluster", cluster, (char *)NULL);
    _exit(127);
}

static void start(void)
{
    t.pid = fork();
    if (t.pid == 0)
        exec_server();
    CHECK(t.pid > 0);
}

/* Has it ended? Waits so long for it. */
static bool ended_within(int64_t ms)
{
    int64_t deadline = sys_mono_ns() + ms * NS_PER_MS;

    while (t.pid) {
        if (waitpid(t.pid, &t.status, WNOHANG) == t.pid)
            t.pid = 0;
        else if (sys_mono_ns() >= deadline)
            return false;
        else
            sys_sleep_ms(1);
    }
    return true;
}

static void stop(int sig)
{
    if (t.pid)
        kill(t.pid, sig);
    if (!ended_within(PATIENCE_MS)) {
        t.hung = true;
        kill(t.pid, SIGKILL);
        ended_within(PATIENCE_MS);
    }
}

/* --- A client. ---------------------------------------------------------- */

static int dial(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)t.port)};
    struct timeval limit = {PATIENCE_MS / 1000, 0};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
        return fd;
    close(fd);
    return -1;
}

/* The status, and all of the answer to its end; -1: none, or not all. */
static int read_answer(int fd, struct buf *answer)
{
    char piece[4096];
    ssize_t n;

    while ((n = recv(fd, piece, sizeof(piece), 0)) > 0)
        buf_add(answer, piece, (size_t)n);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        t.hung = true;
    buf_z(answer);
    if (n < 0 || !str_has_prefix(buf_str(answer), "HTTP/1.1 "))
        return -1;
    return atoi((char *)answer->data + 9);
}

static int request(const char *method, const char *target, const char *body,
                   struct buf *answer)
{
    struct buf own = {0}, ask = {0};
    int fd = dial(), status = -1;

    if (fd < 0)
        return -1;
    buf_printf(&ask,
               "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
               "Content-Length: %zu\r\nContent-Type: "
               "application/x-www-form-urlencoded\r\n\r\n%s",
               method, target, strlen(body), body);
    if (send(fd, ask.data, ask.len, MSG_NOSIGNAL) == (ssize_t)ask.len)
        status = read_answer(fd, answer ? answer : &own);
    close(fd);
    buf_release(&own);
    buf_release(&ask);
    return status;
}

/* A request of the scenario. While the server lives, few may fail. */
static int ask(const char *method, const char *target, const char *body)
{
    int status = request(method, target, body, NULL);

    if (status >= 0 && status < 500) {
        t.refusals = 0;
    } else {
        t.refusals++;
        t.refused++;
    }
    return status;
}

/* A body that comes later than its head: it is waited for. */
static void put_slowly(void)
{
    static const char head[] =
        "PUT /v2/keys/slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        "Content-Length: 7\r\nExpect: 100-continue\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\n\r\n";
    struct buf b = {0};
    int fd = dial();

    if (fd < 0)
        return;
    (void)!send(fd, head, sizeof(head) - 1, MSG_NOSIGNAL);
    sys_sleep_ms(2);
    (void)!send(fd, "value=x", 7, MSG_NOSIGNAL);
    read_answer(fd, &b);
    buf_release(&b);
    close(fd);
}

static void put(const char *key)
{
    struct write *w = &t.writes[t.n_writes++];
    char target[64], body[64];
    int status;

    CHECK(t.n_writes <= WRITES_MAX);
    w->v3 = false;
    snprintf(w->key, sizeof(w->key), "%s", key);
    snprintf(w->value, sizeof(w->value), "v%zu", t.n_writes);
    snprintf(target, sizeof(target), "/v2/keys/%s", w->key);
    snprintf(body, sizeof(body), "value=%s", w->value);
    status = ask("PUT", target, body);
    w->acked = status == 200 || status == 201;
}

/* --- The v3 API. -------------------------------------------------------- */

/* A status that tells of trouble is a refusal. */
static int count_status(int status)
{
    bool refused = status != GRPC_OK && status != GRPC_NOT_FOUND &&
                   status != GRPC_OUT_OF_RANGE &&
                   status != GRPC_FAILED_PRECONDITION;

    t.hung |= status == GRPC_DEADLINE_EXCEEDED;
    t.refusals = refused ? t.refusals + 1 : 0;
    t.refused += refused;
    return status;
}

/* One call on a connection of its own, which may be a stream: its first answer,
 * or with `all` every one, to the end. */
static int call(const char *path, const struct buf *request, bool all)
{
    int64_t deadline = sys_mono_ns() + PATIENCE_MS * NS_PER_MS;
    char *text = xasprintf("http://127.0.0.1:%d", t.port);
    struct grpc_conn_options o = {0};
    struct grpc_stream *s = NULL;
    struct grpc_conn *c = NULL;
    struct buf answer = {0};
    struct url u;
    struct err e;
    int status = GRPC_UNAVAILABLE;

    CHECK(url_parse(str_of(text), &u, &e) == 0);
    c = grpc_conn_dial(&u, &o, deadline, &e);
    if (c)
        status = grpc_stream_open(c, path, NULL, deadline, &s, &e);
    if (s) {
        grpc_stream_send(s, buf_str(request), all ? GRPC_LAST : GRPC_MORE);
        do
            status = grpc_stream_read(s, &answer, 0, &e);
        while (all && status == GRPC_OK);
        grpc_stream_close(s);
    }
    grpc_conn_unref(c);
    url_release(&u);
    buf_release(&answer);
    free(text);
    return count_status(status == GRPC_STREAM_END ? GRPC_OK : status);
}

static void add_json(struct buf *b, const char *name, const char *value)
{
    buf_printf(b, "%c\"%s\":\"", b->len ? ',' : '{', name);
    base64_encode(b, value, strlen(value));
    buf_adds(b, "\"");
}

static void put3(const char *key, bool json)
{
    struct write *w = &t.writes[t.n_writes++];
    struct buf b = {0};

    CHECK(t.n_writes <= WRITES_MAX);
    w->v3 = true;
    snprintf(w->key, sizeof(w->key), "%s", key);
    snprintf(w->value, sizeof(w->value), "v%zu", t.n_writes);
    if (json) {
        add_json(&b, "key", w->key);
        add_json(&b, "value", w->value);
        buf_adds(&b, "}");
        w->acked = ask("POST", "/v3/kv/put", buf_z(&b)) == 200;
    } else {
        pb_add_str(&b, 1, str_of(w->key));
        pb_add_str(&b, 2, str_of(w->value));
        w->acked = call("/etcdserverpb.KV/Put", &b, true) == GRPC_OK;
    }
    buf_release(&b);
}

#define BYTES(literal)                                                         \
    {                                                                          \
        literal, sizeof(literal) - 1                                           \
    }

/* The protobuf of each is short enough to be written out. */
static void all_calls(void)
{
    static const struct {
        const char *path;
        struct str request;
        bool endless;
    } calls[] = {
        {"/etcdserverpb.KV/Range", BYTES("\x0a\1\0\x12\1\0"), false},
        {"/etcdserverpb.KV/Txn", /* put a = b */
         BYTES("\x12\x08\x12\x06\x0a\1a\x12\1b"), false},
        {"/etcdserverpb.KV/Txn", /* read a */
         BYTES("\x12\5\x0a\3\x0a\1a"), false},
        {"/etcdserverpb.KV/DeleteRange", BYTES("\x0a\1a"), false},
        {"/etcdserverpb.Watch/Watch", /* b, from the first revision on */
         BYTES("\x0a\5\x0a\1b\x18\1"), true},
        {"/etcdserverpb.Lease/LeaseGrant", BYTES("\x08\x64\x10\7"), false},
        {"/etcdserverpb.Lease/LeaseKeepAlive", BYTES("\x08\7"), true},
        {"/etcdserverpb.KV/Put", /* c = d, on that lease */
         BYTES("\x0a\1c\x12\1d\x18\7"), false},
        {"/etcdserverpb.Lease/LeaseRevoke", BYTES("\x08\7"), false},
        {"/etcdserverpb.KV/Compact", BYTES("\x08\4\x10\1"), false},
        {"/etcdserverpb.Auth/RoleAdd", BYTES("\x0a\1r"), false},
        {"/etcdserverpb.Auth/RoleGrantPermission",
         BYTES("\x0a\1r\x12\5\x08\2\x12\1k"), false},
        {"/etcdserverpb.Auth/UserAdd", BYTES("\x0a\1u\x12\1p"), false},
        {"/etcdserverpb.Auth/UserGrantRole", BYTES("\x0a\1u\x12\1r"), false},
        {"/etcdserverpb.Auth/UserGet", BYTES("\x0a\1u"), false},
        {"/etcdserverpb.Maintenance/Status", BYTES(""), false},
        {"/etcdserverpb.Maintenance/HashKV", BYTES(""), false},
        {"/etcdserverpb.Maintenance/Snapshot", BYTES(""), false},
        {"/v3lockpb.Lock/Lock", BYTES("\x0a\1l"), false},
    };

    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        struct buf b = {0};

        buf_addstr(&b, calls[i].request);
        call(calls[i].path, &b, !calls[i].endless);
        buf_release(&b);
    }
}

static bool serves(void)
{
    struct buf b = {0};
    int status = request("GET", "/health", "", &b);

    buf_release(&b);
    return status == 200;
}

/* Until it serves, or ends; false: neither. */
static bool wait_until_it_serves(void)
{
    int64_t deadline = sys_mono_ns() + PATIENCE_MS * NS_PER_MS;

    while (!ended_within(0) && !serves()) {
        if (sys_mono_ns() > deadline)
            return false;
        sys_sleep_ms(2);
    }
    return true;
}

/* A watcher that waits, and an event that comes to it. */
static void watch_and_put(const char *key)
{
    char line[128];
    int fd = dial();

    snprintf(line, sizeof(line),
             "GET /v2/keys/%s?wait=true HTTP/1.1\r\nHost: x\r\n"
             "Connection: close\r\n\r\n",
             key);
    if (fd >= 0)
        (void)!send(fd, line, strlen(line), MSG_NOSIGNAL);
    sys_sleep_ms(2); /* mostly it is there then; if not, it waits in vain */
    put(key);
    if (fd >= 0)
        close(fd);
}

static void all_kinds(void)
{
    static const struct {
        const char *method, *target, *body;
    } rest[] = {
        {"GET", "/v2/keys/k0", ""},
        {"GET", "/v2/keys/?recursive=true&sorted=true", ""},
        {"GET", "/v2/keys/k1?quorum=true", ""},
        {"GET", "/v2/keys/?wait=true&waitIndex=4&recursive=true", ""},
        {"POST", "/v2/keys/queue", "value=x&ttl=100"},
        {"PUT", "/v2/keys/dir", "dir=true"},
        {"PUT", "/v2/keys/k0", "prevValue=no&value=never"},
        {"DELETE", "/v2/keys/queue?recursive=true", ""},
        {"GET", "/v2/members", ""},
        {"GET", "/v2/stats/self", ""},
        {"GET", "/v2/stats/store", ""},
        {"GET", "/v2/stats/leader", ""},
        {"GET", "/metrics", ""},
        {"GET", "/version", ""},
        {"GET", "/nowhere", ""},
        {"POST", "/v3/kv/range", "{\"key\":\"AA==\",\"range_end\":\"AA==\"}"},
        {"POST", "/v3/kv/txn",
         "{\"success\":[{\"request_range\":{\"key\":\"YQ==\"}}]}"},
        {"POST", "/v3/lease/grant", "{\"TTL\":100,\"ID\":9}"},
        {"POST", "/v3/lease/keepalive", "{\"ID\":9}"},
        {"POST", "/v3/kv/lease/timetolive", "{\"ID\":9,\"keys\":true}"},
        {"POST", "/v3/kv/compaction", "{\"revision\":5,\"physical\":true}"},
        {"POST", "/v3/auth/user/list", "{}"},
        {"POST", "/v3/cluster/member/list", "{}"},
        {"POST", "/v3/maintenance/snapshot", "{}"},
    };

    for (size_t i = 0; i < ARRAY_LEN(rest); i++)
        ask(rest[i].method, rest[i].target, rest[i].body);
}

static void scenario(void)
{
    char key[24];

    for (int i = 0; i < 12; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        put(key);
    }
    for (int i = 0; i < 8; i++) {
        snprintf(key, sizeof(key), "b%d", i);
        put3(key, i % 2);
    }
    all_calls();
    all_kinds();
    watch_and_put("watched");
    put_slowly();
    for (int i = 0; i < 12; i++) {
        snprintf(key, sizeof(key), "late%d", i);
        put(key);
    }
}

/* --- What is allowed. --------------------------------------------------- */

static bool log_says_why(void)
{
    static const char *const reasons[] = {" C | ", "out of memory",
                                          "error verifying flags", "etcd: "};
    char *path = in_dir("log");
    struct buf log = {0};
    bool found = false;

    sys_read_file(path, 1 << 20, &log, NULL);
    buf_z(&log);
    for (size_t i = 0; i < ARRAY_LEN(reasons) && !found; i++)
        found = strstr((char *)log.data, reasons[i]) != NULL;
    buf_release(&log);
    free(path);
    return found;
}

static void print_log(void)
{
    char *command = xasprintf("tail -n 12 %s/log | cut -c1-200", t.dir);

    if (system(command) != 0)
        printf("(no log)\n");
    free(command);
}

/* NULL, or what is wrong with how it ended. */
static const char *wrong_end(bool asked_to)
{
    if (asked_to && WIFSIGNALED(t.status) && WTERMSIG(t.status) == SIGTERM)
        return NULL;
    if (WIFSIGNALED(t.status) && WTERMSIG(t.status) != SIGABRT)
        return "it was ended by a signal";
    if (!log_says_why())
        return "it ended without a word";
    return NULL;
}

static bool has_v3_value(const struct write *w)
{
    struct buf b = {0}, q = {0}, value = {0};
    bool found;

    add_json(&q, "key", w->key);
    buf_adds(&q, "}");
    base64_encode(&value, w->value, strlen(w->value));
    found = request("POST", "/v3/kv/range", buf_z(&q), &b) == 200 &&
            strstr((char *)b.data, buf_z(&value)) != NULL;
    buf_release(&b);
    buf_release(&q);
    buf_release(&value);
    return found;
}

static bool has_value(const struct write *w)
{
    struct buf b = {0};
    char target[64], value[64];
    bool found;

    if (w->v3)
        return has_v3_value(w);
    snprintf(target, sizeof(target), "/v2/keys/%s", w->key);
    snprintf(value, sizeof(value), "\"value\":\"%s\"", w->value);
    found = request("GET", target, "", &b) == 200 &&
            strstr((char *)b.data, value) != NULL;
    buf_release(&b);
    return found;
}

/* Start without failures: all that was acknowledged is there. */
static const char *wrong_restart(void)
{
    const char *wrong = NULL;

    unsetenv("FAIL_CALL");
    choose_client_port(); /* of the old one the kernel may still remember a
                             listener that could not say SO_REUSEADDR */
    start();
    if (!wait_until_it_serves() || !t.pid)
        return "it does not start again";
    for (size_t i = 0; i < t.n_writes && !wrong; i++)
        if (t.writes[i].acked && !has_value(&t.writes[i]))
            wrong = "an acknowledged write is lost";
    stop(SIGKILL);
    return wrong;
}

static const char *run_once(void)
{
    const char *wrong = NULL;
    bool alive;

    start();
    if (!wait_until_it_serves())
        wrong = "it neither serves nor ends";
    if (t.pid && !wrong)
        scenario();
    alive = !ended_within(t.refusals ? 1000 : 0); /* dying takes a while */
    if (alive && !wrong && t.refusals > REFUSALS_MAX)
        wrong = "it lives, and refuses";
    if (alive && !wrong && !wait_until_it_serves())
        wrong = "it lives, and does not serve";
    alive = !ended_within(0);
    stop(SIGTERM);
    t.ended += !alive;
    if (!wrong && t.hung)
        wrong = "it hangs";
    if (!wrong)
        wrong = wrong_end(alive);
    if (!wrong)
        wrong = wrong_restart();
    if (t.pid)
        stop(SIGKILL);
    return wrong;
}

/* --- The loops. --------------------------------------------------------- */

static void set_env(const char *name, uint64_t v)
{
    char text[24];

    snprintf(text, sizeof(text), "%" PRIu64, v);
    setenv(name, text, 1);
}

/* Where a run begins: with nothing, or with what a killed server left. */
enum beginning { FRESH, KILLED };

static void begin(enum beginning from)
{
    char key[24];
    struct err e;

    sys_remove_all(t.dir, NULL);
    CHECK(sys_mkdir_all(t.dir, 0700, &e) == 0);
    t.peer_port = free_port();
    choose_client_port();
    t.n_writes = 0;
    t.refusals = 0;
    t.hung = false;
    if (from == FRESH)
        return;
    start();
    CHECK(wait_until_it_serves());
    for (int i = 0; i < 12; i++) {
        snprintf(key, sizeof(key), "before%d", i);
        put(key);
    }
    stop(SIGKILL);
}

/* One run; false and a report if it went wrong. */
static bool run(const struct failure *f, int error, uint64_t nth,
                enum beginning from)
{
    const char *wrong;

    if (cancelled)
        return false;
    begin(from);
    t.runs++;
    if (f) {
        setenv("FAIL_CALL", fail_names[f->call], 1);
        set_env("FAIL_NTH", nth);
        set_env("FAIL_COUNT", f->count);
        set_env("FAIL_ERRNO", (uint64_t)error);
    }
    wrong = run_once();
    unsetenv("FAIL_CALL");
    CHECK(!wrong);
    if (!wrong)
        return true;
    printf("%s: %s(): %s at call %" PRIu64 " (%" PRIu64 " times)\n", wrong,
           f ? fail_names[f->call] : "nothing", f ? strerror(error) : "", nth,
           f ? f->count : 0);
    print_log();
    fflush(stdout);
    return false;
}

/* How often each call is made when nothing fails. */
static void count_calls(uint64_t counts[FAIL_CALLS], enum beginning from)
{
    char *file = xasprintf("%s.counts", t.dir);
    int fd;

    begin(from);
    setenv("FAIL_COUNTS", file, 1);
    start();
    CHECK(wait_until_it_serves());
    scenario();
    stop(SIGTERM);
    fd = open(file, O_RDONLY | O_CLOEXEC);
    CHECK(read(fd, counts, FAIL_CALLS * sizeof(*counts)) ==
          (ssize_t)(FAIL_CALLS * sizeof(*counts)));
    close(fd);
    unlink(file);
    unsetenv("FAIL_COUNTS");
    free(file);
}

static void fail_all(const uint64_t counts[FAIL_CALLS], enum beginning from,
                     const char *only)
{
    for (size_t i = 0; i < ARRAY_LEN(failures); i++) {
        const struct failure *f = &failures[i];
        unsigned ended = t.ended, refused = t.refused, runs = t.runs;

        if (only && strcmp(only, fail_names[f->call]) != 0)
            continue;
        for (uint64_t nth = 1; nth <= counts[f->call]; nth++)
            for (int k = 0; k < 5 && f->errors[k]; k++)
                run(f, f->errors[k], nth, from);
        printf("%-14s x%" PRIu64 " %s: %u runs, in %u the server ended, %u "
               "requests refused\n",
               fail_names[f->call], f->count,
               from == FRESH ? "at first" : "again", t.runs - runs,
               t.ended - ended, t.refused - refused);
        fflush(stdout);
    }
}

/* Of each kind one call, another one each round, spread over all there are. */
static void fail_round(uint64_t round, const uint64_t counts[FAIL_CALLS],
                       enum beginning from, int64_t until)
{
    for (size_t i = 0; i < ARRAY_LEN(failures); i++) {
        const struct failure *f = &failures[i];
        uint64_t n = counts[f->call];
        int n_errors = 1;

        if (n == 0 || (round > 0 && sys_mono_ns() > until))
            continue;
        while (n_errors < 5 && f->errors[n_errors])
            n_errors++;
        /* 61.8 % of the way from the last: no two near each other. */
        run(f, f->errors[round % (uint64_t)n_errors],
            1 + (round * 618 + i * 37) % 1000 * n / 1000, from);
    }
}

static void fail_some(const uint64_t fresh[FAIL_CALLS],
                      const uint64_t killed[FAIL_CALLS])
{
    int64_t until = sys_mono_ns() + QUICK_NS;

    for (uint64_t round = 0;
         round == 0 || (!cancelled && sys_mono_ns() < until); round++) {
        if (round % 2)
            fail_round(round, killed, KILLED, until);
        else
            fail_round(round, fresh, FRESH, until);
    }
}

/* In memory, if there is enough: else most of the time goes into the disk. */
static const char *where_to_work(void)
{
    static const char memory[] = "/dev/shm";
    const char *tmp = getenv("TMPDIR");
    struct statvfs st;

    if (access(memory, W_OK) == 0 && statvfs(memory, &st) == 0 &&
        st.f_bavail * (uint64_t)st.f_frsize >= ROOM_BYTES)
        return memory;
    return tmp ? tmp : "/tmp";
}

int main(int argc, char **argv)
{
    const char *tmp = where_to_work();
    uint64_t fresh[FAIL_CALLS], killed[FAIL_CALLS];
    char *slash = strrchr(argv[0], '/');

    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    t.program = xasprintf("%.*s/failetcd", slash ? (int)(slash - argv[0]) : 1,
                          slash ? argv[0] : ".");
    t.dir = xasprintf("%s/etcd-fail.%d", tmp, (int)getpid());
    CHECK(run(NULL, 0, 0, FRESH) && run(NULL, 0, 0, KILLED));
    count_calls(fresh, FRESH);
    count_calls(killed, KILLED);
    if (getenv("LONG")) {
        fail_all(fresh, FRESH, argc > 1 ? argv[1] : NULL);
        fail_all(killed, KILLED, argc > 1 ? argv[1] : NULL);
    } else {
        fail_some(fresh, killed);
    }
    CHECK(!cancelled);
    printf("%u runs, in %u the server ended, %u requests refused\n", t.runs,
           t.ended, t.refused);
    sys_remove_all(t.dir, NULL);
    free(t.dir);
    free(t.program);
    return check_done("fail");
}
