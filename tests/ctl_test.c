/*
 * ctl_test.c - etcdctl as its users meet it: a command line in, stdout,
 * stderr and an exit code out. The cluster is a tiny HTTP server with canned
 * answers, which were recorded from etcd 3.2; both run as child processes.
 */
#include "check.h"
#include "config.h"
#include "ctl.h"
#include "secure.h"
#include "snap.h"
#include "sys.h"
#include "wal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- The fake cluster. -------------------------------------------------- */

/* "@" in an answer becomes the server's own URL. */
static const struct {
    const char *request; /* method, target, and the body if there is one */
    int status;
    const char *answer;
} routes[] = {
    {"GET /v2/members", 200,
     "{\"members\":[{\"id\":\"6ecf9cbe6eb4966\",\"name\":\"etcd-1\","
     "\"peerURLs\":[\"http://10.0.0.1:2380\"],\"clientURLs\":[\"@\"]},"
     "{\"id\":\"1683498aaae0051a\",\"name\":\"\",\"peerURLs\":"
     "[\"http://10.0.0.2:2380\"],\"clientURLs\":[]}]}\n"},
    {"GET /v2/members/leader", 200,
     "{\"id\":\"6ecf9cbe6eb4966\",\"name\":\"etcd-1\",\"peerURLs\":[],"
     "\"clientURLs\":[]}\n"},
    {"POST /v2/members {\"peerURLs\":[\"http://10.0.0.2:2380\"]}", 201,
     "{\"id\":\"1683498aaae0051a\",\"name\":\"\",\"peerURLs\":"
     "[\"http://10.0.0.2:2380\"],\"clientURLs\":[]}\n"},
    {"POST /v2/members {\"peerURLs\":[\"http://10.0.0.1:2380\"]}", 409,
     "{\"message\":\"membership: peerURL exists\"}"},
    {"DELETE /v2/members/1683498aaae0051a", 204, ""},
    {"GET /health", 200, "{\"health\": \"true\"}"},
    {"PUT /v2/keys/message value=Hello", 201,
     "{\"action\":\"set\",\"node\":{\"key\":\"/message\",\"value\":\"Hello\","
     "\"modifiedIndex\":4,\"createdIndex\":4}}\n"},
    {"PUT /v2/keys/c ttl=5&value=-2", 200,
     "{\"action\":\"set\",\"node\":{\"key\":\"/c\",\"value\":\"-2\","
     "\"expiration\":\"2026-11-22T10:41:51.410432042Z\",\"ttl\":5,"
     "\"modifiedIndex\":9,\"createdIndex\":9},\"prevNode\":{\"key\":\"/c\","
     "\"value\":\"1\",\"modifiedIndex\":5,\"createdIndex\":5}}\n"},
    {"PUT /v2/keys/new?prevExist=false value=a+%2B%26", 201,
     "{\"action\":\"create\",\"node\":{\"key\":\"/new\",\"value\":\"a +&\","
     "\"modifiedIndex\":4,\"createdIndex\":4}}\n"},
    {"PUT /v2/keys/d?dir=true&prevExist=false ", 201,
     "{\"action\":\"create\",\"node\":{\"key\":\"/d\",\"dir\":true,"
     "\"modifiedIndex\":4,\"createdIndex\":4}}\n"},
    {"GET /v2/keys/message?quorum=false&recursive=false&sorted=false", 200,
     "{\"action\":\"get\",\"node\":{\"key\":\"/message\",\"value\":\"Hello\","
     "\"modifiedIndex\":4,\"createdIndex\":4}}\n"},
    {"GET /v2/keys/d?quorum=true&recursive=false&sorted=false", 200,
     "{\"action\":\"get\",\"node\":{\"key\":\"/d\",\"dir\":true,"
     "\"modifiedIndex\":4,\"createdIndex\":4}}\n"},
    {"GET /v2/keys/nope?quorum=false&recursive=false&sorted=false", 404,
     "{\"errorCode\":100,\"message\":\"Key not found\",\"cause\":\"/nope\","
     "\"index\":12}\n"},
    {"GET /v2/keys/lost?quorum=false&recursive=false&sorted=false", 500,
     "{\"errorCode\":300,\"message\":\"Raft Internal Error\",\"index\":0}\n"},
    {"DELETE /v2/keys/message", 200,
     "{\"action\":\"delete\",\"node\":{\"key\":\"/message\",\"modifiedIndex\""
     ":6,\"createdIndex\":5},\"prevNode\":{\"key\":\"/message\",\"value\":"
     "\"World\",\"modifiedIndex\":5,\"createdIndex\":5}}\n"},
    {"GET /v2/keys/?quorum=false&recursive=true&sorted=true", 200,
     "{\"action\":\"get\",\"node\":{\"dir\":true,\"nodes\":[{\"key\":\"/d\","
     "\"dir\":true,\"nodes\":[{\"key\":\"/d/x\",\"value\":\"1\"}]},"
     "{\"key\":\"/f\",\"value\":\"2\"}]}}\n"},
    {"GET /v2/keys/w?recursive=true&wait=true&waitIndex=8", 200,
     "{\"action\":\"set\",\"node\":{\"key\":\"/w/d\",\"dir\":true,"
     "\"modifiedIndex\":8,\"createdIndex\":8}}\n"},
    {"GET /v2/keys/w?recursive=true&wait=true&waitIndex=9", 200,
     "{\"action\":\"expire\",\"node\":{\"key\":\"/w/x\",\"modifiedIndex\":9,"
     "\"createdIndex\":7},\"prevNode\":{\"key\":\"/w/x\",\"value\":\"v\"}}\n"},
    {"GET /v2/auth/users/bob", 200,
     "{\"user\":\"bob\",\"roles\":[{\"role\":\"r1\"},{\"role\":\"r2\"}]}\n"},
    {"PUT /v2/auth/users/bob {\"user\":\"bob\",\"password\":\"p:w\","
     "\"roles\":null}",
     201, "{\"user\":\"bob\",\"roles\":null}\n"},
    {"PUT /v2/auth/users/bob {\"user\":\"bob\",\"roles\":null,"
     "\"grant\":[\"r1\",\"r2\"]}",
     409, "{\"message\":\"auth: Granting duplicate role r1 for user bob\"}"},
    {"GET /v2/auth/roles/r1", 200,
     "{\"role\":\"r1\",\"permissions\":{\"kv\":{\"read\":[\"/a*\"],"
     "\"write\":null}}}\n"},
    {"PUT /v2/auth/roles/r1 {\"role\":\"r1\",\"permissions\":{\"kv\":{"
     "\"read\":null,\"write\":null}},\"revoke\":{\"kv\":{\"read\":[\"/a*\"],"
     "\"write\":[\"/a*\"]}}}",
     200, "{\"role\":\"r1\"}\n"},
    {"GET /v2/auth/roles", 401, "{\"message\":\"Insufficient credentials\"}"},
    {"GET /v2/keys/secret?quorum=false&recursive=false&sorted=false"
     " auth Ym9iOnA6dw==",
     200,
     "{\"action\":\"get\",\"node\":{\"key\":\"/secret\",\"value\":\"s\"}}\n"},
};

static char server_url[64]; /* "http://127.0.0.1:4711" */

static size_t find_route(const char *request)
{
    size_t i = 0;

    while (i < ARRAY_LEN(routes) && strcmp(routes[i].request, request) != 0)
        i++;
    return i;
}

static void put_answer(struct buf *b, const char *answer)
{
    for (; *answer; answer++) {
        if (*answer == '@')
            buf_adds(b, server_url);
        else
            buf_addc(b, *answer);
    }
}

static void answer_request(int fd, const char *request)
{
    static const char none[] = "HTTP/1.1 505 HTTP Version Not Supported\r\n"
                               "Content-Length: 0\r\n\r\n";

    if (strcmp(request, "PRI *") == 0) { /* HTTP/2, of which it knows nothing */
        if (sys_write_all(fd, none, strlen(none)) != 0)
            _exit(1);
        _exit(0);
    }
    size_t i = find_route(request);
    int status = i < ARRAY_LEN(routes) ? routes[i].status : 404;
    struct buf head = {0}, body = {0};

    if (i < ARRAY_LEN(routes))
        put_answer(&body, routes[i].answer);
    else
        buf_printf(&body, "{\"message\":\"no route: %s\"}", request);
    buf_printf(&head, "HTTP/1.1 %d x\r\nX-Etcd-Index: 7\r\n", status);
    if (status != 204)
        buf_printf(&head, "Content-Length: %zu\r\n", body.len);
    buf_adds(&head, "\r\n");
    buf_addstr(&head, buf_str(&body));
    if (sys_write_all(fd, head.data, head.len) != 0)
        _exit(1);
    buf_release(&head);
    buf_release(&body);
}

/* "METHOD TARGET", " BODY" if it has one, " auth X" if it has that. */
static void describe(struct buf *out, const char *head, const char *body,
                     size_t n_body, bool has_body)
{
    const char *line = strstr(head, " HTTP/");
    const char *auth = strstr(head, "uthorization: Basic ");

    buf_add(out, head, (size_t)(line - head));
    if (has_body) {
        buf_addc(out, ' ');
        buf_add(out, body, n_body);
    }
    if (auth) {
        auth += strlen("uthorization: Basic ");
        buf_adds(out, " auth ");
        buf_add(out, auth, strcspn(auth, "\r"));
    }
}

/* All requests of one connection. */
static void serve(int fd)
{
    struct buf in = {0}, what = {0};
    char piece[2048];
    ssize_t n;

    while ((n = read(fd, piece, sizeof(piece))) > 0) {
        const char *end, *length;
        size_t n_head, n_body = 0;

        buf_add(&in, piece, (size_t)n);
        end = strstr(buf_z(&in), "\r\n\r\n");
        if (!end)
            continue;
        n_head = (size_t)(end - (const char *)in.data) + 4;
        length = strcasestr(buf_z(&in), "content-length: ");
        if (length)
            n_body = strtoul(length + 16, NULL, 10);
        if (in.len < n_head + n_body)
            continue;
        describe(&what, buf_z(&in), (const char *)in.data + n_head, n_body,
                 length != NULL);
        answer_request(fd, buf_z(&what));
        buf_clear(&what);
        buf_consume(&in, n_head + n_body);
    }
    buf_release(&in);
    buf_release(&what);
    close(fd);
}

static pid_t start_server(void)
{
    struct sockaddr_in sa = {.sin_family = AF_INET};
    socklen_t n = sizeof(sa);
    int fd = socket(AF_INET, SOCK_STREAM, 0), conn;
    pid_t pid;

    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || bind(fd, (struct sockaddr *)&sa, n) != 0 ||
        listen(fd, 16) != 0 || getsockname(fd, (struct sockaddr *)&sa, &n))
        abort();
    snprintf(server_url, sizeof(server_url), "http://127.0.0.1:%d",
             ntohs(sa.sin_port));
    pid = fork();
    if (pid != 0) {
        close(fd);
        return pid;
    }
    signal(SIGCHLD, SIG_IGN);
    while ((conn = accept(fd, NULL, NULL)) >= 0) {
        if (fork() == 0) {
            serve(conn);
            _exit(0);
        }
        close(conn);
    }
    _exit(0);
}

/* --- Running etcdctl. --------------------------------------------------- */

static struct buf out, err;

static void slurp(int fd, struct buf *b)
{
    char piece[2048];
    ssize_t n;

    buf_clear(b);
    lseek(fd, 0, SEEK_SET);
    while ((n = read(fd, piece, sizeof(piece))) > 0)
        buf_add(b, piece, (size_t)n);
    close(fd);
}

static int scratch_file(void)
{
    const char *tmp = getenv("TMPDIR");
    char *name = xasprintf("%s/ctl_test.XXXXXX", tmp ? tmp : "/tmp");
    int fd = mkstemp(name);

    unlink(name);
    free(name);
    return fd;
}

/* Run with these arguments; fills out and err, returns the exit code. */
static int ctl_with(const char *input, int out_fd, char **argv)
{
    int in = scratch_file(), err_fd = scratch_file(), argc = 0, status;
    pid_t pid;

    while (argv[argc])
        argc++;
    if (sys_write_all(in, input, strlen(input)) != 0)
        abort();
    lseek(in, 0, SEEK_SET);
    pid = fork();
    if (pid == 0) {
        dup2(in, 0);
        dup2(out_fd, 1);
        dup2(err_fd, 2);
        _exit(etcdctl_main(argc, argv));
    }
    waitpid(pid, &status, 0);
    close(in);
    slurp(out_fd, &out);
    slurp(err_fd, &err);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#define ARGS_MAX 16

static int ctl(const char *first, ...)
{
    char *argv[ARGS_MAX + 2] = {"etcdctl"};
    const char *arg = first;
    va_list ap;
    int n = 1;

    va_start(ap, first);
    for (; arg && n < ARGS_MAX; arg = va_arg(ap, const char *))
        argv[n++] = (char *)(uintptr_t)arg;
    va_end(ap);
    return ctl_with("", scratch_file(), argv);
}

#define CHECK_OUT(text) CHECK_STR(buf_z(&out), (text))
#define CHECK_ERR(text) CHECK_STR(buf_z(&err), (text))

static void use_api(const char *api)
{
    if (api)
        setenv("ETCDCTL_API", api, 1);
    else
        unsetenv("ETCDCTL_API");
}

/* --- Which API. --------------------------------------------------------- */

#define NO_V3                                                                  \
    "Error: the server has no v3 API: it does not speak HTTP/2; try "          \
    "ETCDCTL_API=2\n"

static void test_api_selection(void)
{
    use_api("2");
    CHECK(ctl("--version", NULL) == 0);
    CHECK_OUT("etcdctl version: " ETCD_VERSION "\nAPI version: 2\n");
    CHECK(ctl("version", NULL) == 3);
    CHECK_ERR("No help topic for 'version'\n");
    CHECK(ctl("put", "a", "b", NULL) == 3);

    use_api("3");
    CHECK(ctl("version", NULL) == 0);
    CHECK_OUT("etcdctl version: " ETCD_VERSION "\nAPI version: 3.4\n");
    CHECK(ctl("get", "/message", NULL) == 1);
    CHECK_ERR(NO_V3);
    CHECK(ctl("member", "list", NULL) == 1);
    CHECK_ERR(NO_V3);
    CHECK(ctl("set", "/message", "Hello", NULL) == 0);
    CHECK_OUT("Hello\n");

    use_api("7");
    CHECK(ctl("get", "/message", NULL) == 1);
    CHECK_ERR("unsupported API version 7\n");

    use_api(NULL);
    CHECK(ctl("version", NULL) == 0);
    CHECK_OUT("etcdctl version: " ETCD_VERSION "\nAPI version: 3.4\n");
    CHECK(ctl("get", "/message", NULL) == 0);
    CHECK_OUT("Hello\n");
    CHECK(ctl("get", "/message", "--prefix", NULL) == 1);
    CHECK_ERR(NO_V3);
    CHECK(ctl("-w", "json", "get", "/message", NULL) == 1);
    CHECK_ERR(NO_V3);
    CHECK(ctl("put", "a", "b", NULL) == 1);
    CHECK_ERR(NO_V3);
    CHECK(ctl("user", "delete", "bob", NULL) == 1);
    CHECK_ERR(NO_V3);
    CHECK(ctl("bogus", NULL) == 1);
    CHECK_ERR("Error: unknown command \"bogus\" for \"etcdctl\"\n"
              "Run 'etcdctl --help' for usage.\n");
}

/* --- Options. ----------------------------------------------------------- */

static void test_options(void)
{
    use_api("2");
    /* Before, between and behind the arguments; -2 is the value. */
    CHECK(ctl("set", "--ttl", "5", "/c", "-2", NULL) == 0);
    CHECK_OUT("-2\n");
    CHECK(ctl("set", "/c", "-2", "-ttl=0x5", NULL) == 0);
    CHECK_OUT("-2\n");
    CHECK(ctl("set", "--ttl=5", "--", "/c", "-2", NULL) == 0);
    CHECK_OUT("-2\n");
    CHECK(ctl("set", "/c", "-2", "--ttl", "5", "-o", "simple", NULL) == 0);
    CHECK_OUT("-2\n");

    CHECK(ctl("set", "--ttl", "abc", "/c", "1", NULL) == 1);
    CHECK_ERR("invalid value \"abc\" for flag -ttl: parse error\n");
    CHECK(ctl("set", "--ttl", "99999999999999999999", "/c", "1", NULL) == 1);
    CHECK_ERR("invalid value \"99999999999999999999\" for flag -ttl: "
              "value out of range\n");
    CHECK(ctl("set", "--ttl=", "/c", "1", NULL) == 1);
    CHECK_ERR("invalid value \"\" for flag -ttl: parse error\n");
    CHECK(ctl("--timeout", "abc", "get", "/c", NULL) == 1);
    CHECK_ERR("invalid value \"abc\" for flag -timeout: parse error\n");
    CHECK(ctl("get", "--quorum=maybe", "/c", NULL) == 1);
    CHECK_ERR("invalid boolean value \"maybe\" for -quorum: parse error\n");
    CHECK(ctl("--badflag", "get", "/c", NULL) == 1);
    CHECK_ERR("flag provided but not defined: -badflag\n");
    CHECK(ctl("get", "/c", "--badflag", NULL) == 1);
    CHECK_ERR("flag provided but not defined: -badflag\n");
    CHECK(ctl("---x", "get", "/c", NULL) == 1);
    CHECK_ERR("bad flag syntax: ---x\n");
    CHECK(ctl("--output", NULL) == 1);
    CHECK_ERR("flag needs an argument: -output\n");
}

static void test_bad_arguments(void)
{
    use_api("2");
    CHECK(ctl("get", NULL) == 1);
    CHECK_ERR("Error:  key required\n");
    CHECK(ctl("set", "/a", NULL) == 1);
    CHECK_ERR("Error:  value required\n");
    CHECK(ctl("exec-watch", "/a", NULL) == 1);
    CHECK_ERR("Error:  key and command to exec required\n");
    CHECK(ctl("member", "add", "x", NULL) == 1);
    CHECK_ERR("Provide a name and a single member peerURL\n");
    CHECK(ctl("role", "grant", "r", NULL) == 1);
    CHECK_ERR("No path specified; please use `--path`\n");
    CHECK(ctl("role", "grant", "r", "--path", "a//b", "--read", NULL) == 1);
    CHECK_ERR("Not canonical path; please use `--path=/a/b`\n");
    CHECK(ctl("role", "grant", "r", "--path", "/a", NULL) == 1);
    CHECK_ERR("Please specify exactly one of --read, --write or "
              "--readwrite\n");
    CHECK(ctl("user", "list", "x", NULL) == 1);
    CHECK_ERR("No arguments accepted\n");
    CHECK(ctl("member", "bogus", NULL) == 3);
    CHECK_ERR("No help topic for 'bogus'\n");
}

static void test_help(void)
{
    use_api("2");
    CHECK(ctl(NULL) == 0);
    CHECK(strstr(buf_z(&out), "USAGE:") != NULL);
    CHECK(strstr(buf_z(&out), "cluster-health") != NULL);
    CHECK(ctl("help", "set", NULL) == 0);
    CHECK(strstr(buf_z(&out), "--swap-with-index") != NULL);
    CHECK(ctl("set", "--help", NULL) == 0);
    CHECK(strstr(buf_z(&out), "--swap-with-index") != NULL);
    CHECK(ctl("member", NULL) == 0);
    CHECK(strstr(buf_z(&out), "update") != NULL);
    CHECK(ctl("help", "user", "grant", NULL) == 0);
    CHECK(strstr(buf_z(&out), "--roles") != NULL);
    CHECK(ctl("help", "bogus", NULL) == 3);
}

/* --- Commands. ---------------------------------------------------------- */

static void test_keys(void)
{
    char *stdin_set[] = {"etcdctl", "mk", "/new", NULL};

    use_api("2");
    CHECK(ctl("set", "message", "Hello", NULL) == 0);
    CHECK_OUT("Hello\n");
    CHECK_ERR("");
    CHECK(ctl_with("a +&", scratch_file(), stdin_set) == 0);
    CHECK_OUT("a +&\n");
    CHECK(ctl("mkdir", "/d", NULL) == 0);
    CHECK_OUT("");
    CHECK(ctl("get", "-q", "/d", NULL) == 1);
    CHECK_ERR("/d: is a directory\n");
    CHECK(ctl("get", "/nope", NULL) == 4);
    CHECK_ERR("Error:  100: Key not found (/nope) [12]\n");
    CHECK(ctl("rm", "/message", NULL) == 0);
    CHECK_OUT("PrevNode.Value: World\n");
    CHECK(ctl("ls", "-p", "-r", "--sort", NULL) == 0);
    CHECK_OUT("/d/\n/d/x\n/f\n");
    CHECK(ctl("watch", "-r", "--after-index", "7", "/w", NULL) == 0);
    CHECK_OUT("[expire] /w/x\n\n");
    CHECK(ctl("-u", "bob:p:w", "--no-sync", "get", "/secret", NULL) == 0);
    CHECK_OUT("s\n");
    CHECK(ctl("-o", "yaml", "get", "/message", NULL) == 0);
    CHECK_ERR("Unsupported output format: yaml\n");
    CHECK(ctl("-o", "json", "get", "/message", NULL) == 0);
    CHECK_OUT("{\"action\":\"get\",\"node\":{\"key\":\"/message\",\"value\":"
              "\"Hello\",\"nodes\":null,\"createdIndex\":4,\"modifiedIndex\":"
              "4},\"prevNode\":null}\n");
}

static void test_members(void)
{
    char *want = xasprintf(
        "6ecf9cbe6eb4966: name=etcd-1 peerURLs=http://10.0.0.1:2380 "
        "clientURLs=%s isLeader=true\n"
        "1683498aaae0051a[unstarted]: peerURLs=http://10.0.0.2:2380\n",
        server_url);

    use_api(NULL);
    CHECK(ctl("member", "list", NULL) == 0);
    CHECK_OUT(want);
    free(want);
    CHECK(ctl("member", "add", "n2", "http://10.0.0.2:2380", NULL) == 0);
    CHECK_OUT("Added member named n2 with ID 1683498aaae0051a to cluster\n\n"
              "ETCD_NAME=\"n2\"\n"
              "ETCD_INITIAL_CLUSTER=\"etcd-1=http://10.0.0.1:2380,"
              "n2=http://10.0.0.2:2380\"\n"
              "ETCD_INITIAL_CLUSTER_STATE=\"existing\"\n");
    CHECK(ctl("member", "add", "n2", "http://10.0.0.1:2380", NULL) == 1);
    CHECK_ERR("membership: peerURL exists\n");
    CHECK(ctl("member", "remove", "1234", NULL) == 1);
    CHECK_ERR("Couldn't find a member in the cluster with an ID of 1234.\n");
    CHECK(ctl("member", "remove", "1683498aaae0051a", NULL) == 0);
    CHECK_OUT("Removed member 1683498aaae0051a from cluster\n");

    want = xasprintf("member 6ecf9cbe6eb4966 is healthy: got healthy result "
                     "from %s\nmember 1683498aaae0051a is unreachable: no "
                     "available published client urls\ncluster is healthy\n",
                     server_url);
    CHECK(ctl("cluster-health", NULL) == 0);
    CHECK_OUT(want);
    free(want);
}

static void test_auth(void)
{
    use_api("2");
    CHECK(ctl("user", "get", "bob", NULL) == 0);
    CHECK_OUT("User: bob\nRoles:  r1 r2\n");
    CHECK(ctl("user", "add", "bob:p:w", NULL) == 0);
    CHECK_OUT("User bob created\n");
    CHECK(ctl("user", "grant", "bob", "--roles", "r1,r2", NULL) == 1);
    CHECK_ERR("auth: Granting duplicate role r1 for user bob\n");
    CHECK(ctl("user", "grant", "--roles", "r1", "--roles", "r2", "bob", NULL) ==
          1);
    CHECK_ERR("auth: Granting duplicate role r1 for user bob\n");
    CHECK(ctl("user", "passwd", "bob:p:w", NULL) == 1);
    CHECK_ERR("There was no user bob: it is created\n");
    CHECK(ctl("role", "get", "r1", NULL) == 0);
    CHECK_OUT("Role: r1\nKV Read:\n\t/a*\nKV Write:\n");
    CHECK(ctl("role", "revoke", "r1", "--path", "/a*", "--rw", NULL) == 0);
    CHECK_OUT("Role r1 updated\n");
    CHECK(ctl("role", "add", "r1", NULL) == 1);
    CHECK_ERR("Role r1 already exists\n");
    CHECK(ctl("role", "list", NULL) == 1);
    CHECK_ERR("unexpected status code 401\n");
}

/* --- Failures. ---------------------------------------------------------- */

/* A URL where nobody listens: bound, but not listening, so nobody else can. */
static char *dead_url(int *fd)
{
    struct sockaddr_in sa = {.sin_family = AF_INET};
    socklen_t n = sizeof(sa);

    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    *fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(*fd, (struct sockaddr *)&sa, n) != 0 ||
        getsockname(*fd, (struct sockaddr *)&sa, &n) != 0)
        abort();
    return xasprintf("http://127.0.0.1:%d", ntohs(sa.sin_port));
}

static void test_failover(void)
{
    int fd;
    char *dead = dead_url(&fd);
    char *both = xasprintf("%s,%s", dead, server_url);
    char *https = xasprintf("https%s", server_url + strlen("http"));
    const char *addr = dead + strlen("http://");
    char *want = xasprintf(
        "Error:  client: etcd cluster is unavailable or misconfigured; error "
        "#0: dial tcp %s: connect: connection refused\n\n"
        "error #0: dial tcp %s: connect: connection refused\n\n",
        addr, addr);

    use_api("2");
    CHECK(ctl("--endpoints", both, "get", "/message", NULL) == 0);
    CHECK_OUT("Hello\n");
    CHECK(ctl("--no-sync", "-C", both, "rm", "/message", NULL) == 0);
    CHECK(ctl("--endpoints", dead, "get", "/message", NULL) == 2);
    CHECK_ERR(want);
    CHECK(ctl("--no-sync", "--endpoints", dead, "get", "/message", NULL) == 4);
    CHECK_ERR(want);
    CHECK(ctl("--endpoints", dead, "cluster-health", NULL) == 4);
    CHECK_OUT("cluster may be unhealthy: failed to list members\n");
    CHECK(ctl("--endpoints", addr, "cluster-health", NULL) == 1);
    CHECK(ctl("--total-timeout", "1ns", "get", "/message", NULL) == 2);
    CHECK_ERR("Error:  context deadline exceeded\n");

    /* Without ETCDCTL_API=2: a scheme is not needed, and advice is given. */
    use_api(NULL);
    CHECK(ctl("--endpoints", server_url + 7, "get", "/message", NULL) == 0);
    CHECK(ctl("--endpoints", addr, "--command-timeout", "100ms", "get",
              "/message", NULL) == 1);
    CHECK(strstr(buf_z(&err), "context deadline exceeded\n") != NULL);
    CHECK(strstr(buf_z(&err), "ETCDCTL_ENDPOINTS") != NULL);
    CHECK(ctl("--endpoints", addr, "ls", NULL) == 2);
    CHECK(strstr(buf_z(&err), "ETCDCTL_ENDPOINTS") != NULL);
    CHECK(ctl("--endpoints", "https://127.0.0.1:1", "ls", NULL) == 2);
    CHECK(strstr(buf_z(&err), "connection refused") != NULL);
    if (secure_available) {
        CHECK(ctl("--ca-file", "/none", "--endpoints", server_url, "ls",
                  NULL) == 1);
        CHECK(strstr(buf_z(&err), "/none: no such file") != NULL);
        /* TLS failed, but somebody is there: not a bad connection. */
        use_api("2");
        CHECK(ctl("--endpoints", https, "get", "/message", NULL) == 4);
        CHECK(ctl("--endpoints", https, "member", "list", NULL) == 1);
        CHECK(ctl("--endpoints", https, "mk", "--in-order", "/q", "v", NULL) ==
              4);
    }
    free(https);
    free(want);
    free(both);
    free(dead);
    close(fd);
}

static void test_no_leader(void)
{
    char *want = xasprintf(
        "Error:  client: etcd cluster is unavailable or misconfigured; error "
        "#0: client: etcd member %s has no leader\n\n"
        "error #0: client: etcd member %s has no leader\n\n",
        server_url, server_url);

    use_api("2");
    CHECK(ctl("get", "/lost", NULL) == 4);
    CHECK_ERR(want);
    free(want);
}

static void test_debug(void)
{
    char *want = xasprintf(
        "start to sync cluster using endpoints(%s)\n"
        "cURL Command: curl -X GET %s/v2/members\n"
        "got endpoints(%s) after sync\n"
        "Cluster-Endpoints: %s\n"
        "cURL Command: curl -X PUT %s/v2/keys/message -d \"value=Hello\"\n",
        server_url, server_url, server_url, server_url, server_url);

    use_api("2");
    CHECK(ctl("--debug", "set", "/message", "Hello", NULL) == 0);
    CHECK_ERR(want);
    free(want);
}

static void test_full_disk(void)
{
    char *argv[] = {"etcdctl", "get", "/message", NULL};
    int fd = open("/dev/full", O_WRONLY);

    if (fd < 0)
        return;
    use_api("2");
    CHECK(ctl_with("", fd, argv) == 1);
    CHECK_ERR("Error:  cannot write to standard output: No space left on "
              "device\n");
}

/* --- Pure functions. ---------------------------------------------------- */

static void check_format(const char *json, const char *format, const char *want)
{
    struct json *j;
    struct buf b = {0};
    struct err e;

    if (json_parse(json, strlen(json), &j, &e) != 0)
        abort();
    CHECK(ctl_format_response(&b, j, 9, format));
    CHECK_STR(buf_z(&b), want);
    buf_release(&b);
    json_free(j);
}

static void test_formats(void)
{
    static const char set[] =
        "{\"action\":\"set\",\"node\":{\"key\":\"/c\",\"value\":\"2<\","
        "\"expiration\":\"2026-11-22T10:41:51.41Z\",\"ttl\":5,"
        "\"modifiedIndex\":9,\"createdIndex\":9},\"prevNode\":{\"key\":\"/c\","
        "\"value\":\"1\",\"modifiedIndex\":5,\"createdIndex\":5}}";
    static const char delete[] =
        "{\"action\":\"delete\",\"node\":{\"key\":\"/d\",\"dir\":true,"
        "\"modifiedIndex\":6,\"createdIndex\":5},\"prevNode\":{\"key\":\"/d\","
        "\"dir\":true,\"modifiedIndex\":5,\"createdIndex\":5}}";

    check_format(set, "simple", "2<\n");
    check_format(set, "extended",
                 "Key: /c\nCreated-Index: 9\nModified-Index: 9\n"
                 "PrevNode.Value: 1\nTTL: 5\nIndex: 9\n\n2<\n");
    check_format(set, "json",
                 "{\"action\":\"set\",\"node\":{\"key\":\"/c\",\"value\":"
                 "\"2\\u003c\",\"nodes\":null,\"createdIndex\":9,"
                 "\"modifiedIndex\":9,\"expiration\":\"2026-11-22T10:41:51.41Z"
                 "\",\"ttl\":5},\"prevNode\":{\"key\":\"/c\",\"value\":\"1\","
                 "\"nodes\":null,\"createdIndex\":5,\"modifiedIndex\":5}}\n");
    check_format(delete, "extended",
                 "Key: /d\nCreated-Index: 5\nModified-Index: 6\n"
                 "PrevNode.Value: \nTTL: 0\nIndex: 9\n");
    check_format(delete, "json",
                 "{\"action\":\"delete\",\"node\":{\"key\":\"/d\",\"dir\":"
                 "true,\"value\":\"\",\"nodes\":null,\"createdIndex\":5,"
                 "\"modifiedIndex\":6},\"prevNode\":{\"key\":\"/d\",\"dir\":"
                 "true,\"value\":\"\",\"nodes\":null,\"createdIndex\":5,"
                 "\"modifiedIndex\":5}}\n");
    /* An answer that lacks everything must still print something. */
    check_format("{}", "extended",
                 "Key: \nCreated-Index: 0\nModified-Index: 0\nTTL: 0\n"
                 "Index: 9\n\n\n");
}

static void test_quote(void)
{
    static const struct {
        const char *in, *want;
    } cases[] = {
        {"", "\"\""},
        {"value=v+%2B", "\"value=v+%2B\""},
        {"{\"a\\b\"}", "\"{\\\"a\\\\b\\\"}\""},
        {"\a\t\n\x01\x7f", "\"\\a\\t\\n\\x01\\x7f\""},
        {"\xc3\xbc\xe2\x82\xac", "\"\xc3\xbc\xe2\x82\xac\""},
        {"\xff\xc3", "\"\\xff\\xc3\""},          /* not UTF-8 */
        {"\xed\xa0\x80", "\"\\xed\\xa0\\x80\""}, /* a surrogate */
        {"\xe2\x80\xa8", "\"\\u2028\""},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf b = {0};

        ctl_quote(&b, str_of(cases[i].in));
        CHECK_STR(buf_z(&b), cases[i].want);
        buf_release(&b);
    }
}

static void test_clean_path(void)
{
    static const struct {
        const char *in, *want;
    } cases[] = {
        {"/v2/keys", "/v2/keys"},
        {"/v2/keys/", "/v2/keys/"},
        {"/v2/keys/k//x/../y/", "/v2/keys/k/y/"},
        {"/", "/"},
        {"/../..", "/"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf b = {0};

        ctl_clean_path(&b, str_of(cases[i].in));
        CHECK_STR(buf_z(&b), cases[i].want);
        buf_release(&b);
    }
}

/* --- Backup. ------------------------------------------------------------ */

/* A log of three entries behind a snapshot at index 2. */
static void make_data_dir(const char *dir)
{
    struct wal_metadata ids = {1, 2};
    struct raft_snapshot s = {.index = 2, .term = 1};
    struct raft_hard_state hs = {.term = 1, .vote = 1, .commit = 5};
    struct raft_entry entries[5] = {{0}};
    struct str data = STR("{}");
    char *snap = xasprintf("%s/member/snap", dir);
    char *wal = xasprintf("%s/member/wal", dir);
    struct wal *w;
    struct err e;

    for (size_t i = 0; i < 5; i++) {
        entries[i].index = i + 1;
        entries[i].term = 1;
        entries[i].data = blob_new("entry", 5);
    }
    if (sys_mkdir_all(snap, 0700, &e) != 0 ||
        wal_create(wal, &ids, true, &w, &e) != 0 ||
        wal_append(w, &hs, entries, 5, &e) != 0 ||
        snap_save(snap, &s, snap_source_str, &data, true, &e) != 0 ||
        wal_append_snapshot(w, (struct wal_snapshot){2, 1}, NULL, &e) != 0 ||
        wal_sync(w, &e) != 0)
        abort();
    wal_close(w);
    for (size_t i = 0; i < 5; i++)
        blob_unref(entries[i].data);
    free(snap);
    free(wal);
}

static void check_backup(const char *dir)
{
    char *snap = xasprintf("%s/member/snap", dir);
    char *wal = xasprintf("%s/member/wal", dir);
    struct wal_contents log = {0};
    struct raft_snapshot s = {0};
    char *note = NULL;
    struct err e;

    CHECK(snap_load_newest(snap, NULL, 0, &s, &note, &e) == 0);
    CHECK(s.index == 2 && s.term == 1);
    CHECK(wal_read(wal, (struct wal_snapshot){2, 1}, &log, &e) == 0);
    CHECK(log.n_entries == 3);
    CHECK(log.n_entries == 3 && log.entries[0].index == 3);
    CHECK(log.hard_state.commit == 5);
    CHECK(log.metadata.node_id != 1 && log.metadata.node_id != 0);
    CHECK(log.metadata.cluster_id != 2 && log.metadata.cluster_id != 0);
    wal_contents_release(&log);
    raft_snapshot_release(&s);
    free(note);
    free(snap);
    free(wal);
}

static void test_backup(void)
{
    const char *tmp = getenv("TMPDIR");
    char *dir = xasprintf("%s/ctl_test.XXXXXX", tmp ? tmp : "/tmp");
    char *data, *copy;
    struct err e;

    if (!mkdtemp(dir))
        abort();
    data = xasprintf("%s/data", dir);
    copy = xasprintf("%s/copy", dir);
    make_data_dir(data);
    use_api("2");
    CHECK(ctl("backup", "--data-dir", data, "--backup-dir", copy, NULL) == 0);
    CHECK_ERR("");
    check_backup(copy);
    CHECK(ctl("backup", "--data-dir", data, "--backup-dir", copy, NULL) == 1);
    CHECK(strstr(buf_z(&err), "already holds a log") != NULL);
    CHECK(ctl("backup", "--data-dir", dir, "--backup-dir", copy, NULL) == 1);
    CHECK(strstr(buf_z(&err), "no etcd log") != NULL);
    CHECK(ctl("backup", "--data-dir", data, NULL) == 1);
    CHECK(sys_remove_all(dir, &e) == 0);
    free(data);
    free(copy);
    free(dir);
}

/* A program that waits for the question answers it at once: nothing is lost, and
 * nothing can be seen of it. */
static void test_ask_secret(void)
{
    int tty = posix_openpt(O_RDWR | O_NOCTTY), rc;
    char seen[200] = "";
    size_t n = 0;
    ssize_t r;
    pid_t child;

    CHECK(tty >= 0 && grantpt(tty) == 0 && unlockpt(tty) == 0);
    child = fork();
    if (child == 0) {
        int end = open(ptsname(tty), O_RDWR | O_NOCTTY);
        struct buf got = {0}, again = {0};

        dup2(end, STDIN_FILENO);
        dup2(end, STDOUT_FILENO);
        alarm(20);
        ctl_ask_secret("Password: ", &got);
        ctl_ask_secret("Again: ", &again);
        _exit(strcmp(buf_z(&got), "secret") == 0 &&
                      strcmp(buf_z(&again), "typed ahead") == 0
                  ? 0
                  : 1);
    }
    while (!strstr(seen, "Password: ") &&
           (r = read(tty, seen + n, sizeof(seen) - 1 - n)) > 0)
        n += (size_t)r;
    CHECK(write(tty, "secret\ntyped ahead\n", 19) == 19);
    CHECK(waitpid(child, &rc, 0) == child && rc == 0);
    r = read(tty, seen + n, sizeof(seen) - 1 - n);
    CHECK(r > 0 && strstr(seen, "Again: ") && !strstr(seen, "secret"));
    close(tty);
}

int main(void)
{
    pid_t server = start_server();

    setenv("ETCDCTL_ENDPOINTS", server_url, 1);
    test_api_selection();
    test_options();
    test_bad_arguments();
    test_help();
    test_keys();
    test_members();
    test_auth();
    test_failover();
    test_no_leader();
    test_debug();
    test_full_disk();
    test_formats();
    test_quote();
    test_clean_path();
    test_backup();
    test_ask_secret();
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    buf_release(&out);
    buf_release(&err);
    return check_done("ctl");
}
