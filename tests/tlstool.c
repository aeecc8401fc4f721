/*
 * tlstool.c - the TLS engine on a socket, to meet other implementations; much
 * like openssl s_client and s_server.
 *
 *   tlstool server PORT OPTION...        serves a connection: echoes
 *   tlstool client PORT OPTION...       sends a line, expects it back
 *   tlstool half PORT OPTION...         holds n= unfinished handshakes: silent
 *                    ones, whole first messages, byte by byte; and for seconds=
 *                    is a client beside them. Prints its p50, p99 and longest ms
 *   tlstool idle PORT OPTION...         n= connections after a request of each;
 *                    prints the memory of the server pid= in KB for each
 *
 *   cert=FILE key=FILE ca=FILE name=NAME auth=request|require skip=1 alpn=A,B
 *   min=1.2|1.3 max=1.2|1.3 suites=A,B groups=P-256,X25519
 *   bytes=N     a client sends and expects so many
 *   get=PATH    a client asks for it by HTTP and reads until the end instead
 *   sent=TEXT   a server sends this and closes, instead of echoing
 *   update=1    new keys, both ways, after each piece that is sent
 *   run=CMD     a server runs this by sh, with PORT in the environment
 *
 * Server and client print "ok TLS1.3 SUITE alpn=h2 name=N peer=CN" and exit 0, or
 * the engine's error. Only on 127.0.0.1.
 */
#include "sys.h"
#include "tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define LIST_MAX 16
#define LIFE_S 120 /* a guard against hanging, also on slow machines */

static struct err e;

static void die(const char *what)
{
    fprintf(stderr, "tlstool: %s: %s\n", what, e.msg);
    exit(2);
}

/* --- Options. ------------------------------------------------------------- */

static int n_options;
static char **options;

static const char *option(const char *name) /* NULL if not given */
{
    size_t n = strlen(name);

    for (int i = n_options; i-- > 0;)
        if (strncmp(options[i], name, n) == 0 && options[i][n] == '=')
            return options[i] + n + 1;
    return NULL;
}

static struct buf file_of(const char *name) /* returns owned */
{
    struct buf b = {0};

    if (sys_read_file(name, X509_FILE_MAX, &b, &e) < 0)
        die(name);
    return b;
}

static uint16_t version_of(const char *name)
{
    if (!name)
        return 0;
    return strcmp(name, "1.2") == 0 ? TLS_1_2 : TLS_1_3;
}

static enum tls_group group_of(struct str name)
{
    if (str_eqz(name, "P-256"))
        return TLS_P256;
    if (str_eqz(name, "P-384"))
        return TLS_P384;
    return str_eqz(name, "P-521") ? TLS_P521 : TLS_X25519;
}

static void load_pair(struct x509_pair *pair, struct tls_options *o)
{
    struct buf cert, key;

    if (!option("cert"))
        return;
    cert = file_of(option("cert"));
    key = file_of(option("key"));
    if (x509_load_pair(buf_str(&cert), buf_str(&key), pair, &e) < 0)
        die("cert");
    buf_release(&cert);
    buf_release(&key);
    o->pairs = pair;
    o->n_pairs = 1;
}

static void load_roots(struct tls_options *o)
{
    struct buf ca;

    if (!option("ca"))
        return;
    ca = file_of(option("ca"));
    if (x509_certs_add_pem(&o->roots, buf_str(&ca), &e) < 0)
        die("ca");
    buf_release(&ca);
}

static struct tls_config *config_new(void)
{
    struct tls_options o = {.random = sys_random};
    struct str rest, one;
    uint16_t suites[LIST_MAX];
    enum tls_group groups[4];
    char *alpn[LIST_MAX];
    const char *auth = option("auth");
    struct x509_pair pair;
    struct tls_config *c;

    load_pair(&pair, &o);
    load_roots(&o);
    o.server_name = option("name");
    o.skip_verify = option("skip") != NULL;
    o.version_min = version_of(option("min"));
    o.version_max = version_of(option("max"));
    if (auth)
        o.client_auth =
            strcmp(auth, "require") ? TLS_AUTH_REQUEST : TLS_AUTH_REQUIRE;
    rest = str_of(option("suites") ? option("suites") : "");
    while (rest.n && o.n_suites < LIST_MAX) {
        str_cut(&rest, ',', &one);
        suites[o.n_suites++] = tls_suite_number(one);
    }
    rest = str_of(option("groups") ? option("groups") : "");
    while (rest.n && o.n_groups < ARRAY_LEN(groups)) {
        str_cut(&rest, ',', &one);
        groups[o.n_groups++] = group_of(one);
    }
    rest = str_of(option("alpn") ? option("alpn") : "");
    while (rest.n && o.n_alpn < LIST_MAX) {
        str_cut(&rest, ',', &one);
        alpn[o.n_alpn++] = xstrndup(one.p, one.n);
    }
    o.suites = suites;
    o.groups = groups;
    o.alpn = (const char *const *)alpn;
    c = tls_config_new(&o, &e);
    if (!c)
        die("configuration");
    for (size_t i = 0; i < o.n_alpn; i++)
        free(alpn[i]);
    return c;
}

/* --- A connection. -------------------------------------------------------- */

struct conn {
    int fd;
    struct tls *t;
    struct buf in;  /* ciphertext that is not a whole record yet */
    struct buf got; /* plaintext */
};

static bool flush(struct conn *c)
{
    while (tls_wants_write(c->t)) {
        struct str s = tls_output(c->t);

        if (sys_write_all(c->fd, s.p, s.n) < 0)
            return false;
        tls_sent(c->t, s.n);
    }
    return true;
}

/* All records that are complete. */
static bool receive(struct conn *c)
{
    size_t at = 0;
    ssize_t n;

    do {
        struct str data;

        n = tls_receive(c->t, c->in.data + at, c->in.len - at, &data);
        if (n > 0) {
            buf_addstr(&c->got, data);
            at += (size_t)n;
        }
    } while (n > 0 && at < c->in.len);
    buf_consume(&c->in, at);
    return flush(c) && n >= 0;
}

/* One read and what it brings. False at the end. */
static bool fill(struct conn *c)
{
    ssize_t n;

    buf_reserve(&c->in, TLS_INPUT_MAX);
    do {
        n = read(c->fd, c->in.data + c->in.len, c->in.cap - c->in.len);
    } while (n < 0 && errno == EINTR);
    if (n <= 0)
        return false;
    c->in.len += (size_t)n;
    return receive(c);
}

static bool handshake(struct conn *c)
{
    bool good = flush(c);

    while (good && tls_state(c->t) == TLS_HANDSHAKE)
        good = fill(c);
    return good && tls_state(c->t) == TLS_OPEN;
}

static bool send_all(struct conn *c, struct str s)
{
    while (s.n > 0) {
        struct iovec iov = {(char *)s.p, s.n};
        size_t n = tls_write(c->t, &iov, 1);

        if (n == 0 || !flush(c))
            return false;
        s = (struct str){s.p + n, s.n - n};
        if (option("update"))
            tls_update_keys(c->t, true);
    }
    return flush(c);
}

static void report(const struct conn *c, bool good)
{
    const struct x509_certs *peer = tls_peer(c->t);
    struct str cn = peer->n ? peer->certs[0]->cn : STR("-");
    struct str alpn = tls_alpn(c->t), name = tls_server_name(c->t);

    if (good)
        printf("ok TLS1.%d %s alpn=%.*s name=%.*s peer=%.*s\n",
               tls_version(c->t) - 0x0301, tls_suite_name(tls_suite(c->t)),
               STR_FMT(alpn), STR_FMT(name), STR_FMT(cn));
    else if (*tls_error(c->t))
        printf("error %s\n", tls_error(c->t));
    else
        printf("error the connection ended\n");
    fflush(stdout);
}

static bool finish(struct conn *c)
{
    tls_close(c->t);
    flush(c);
    return tls_state(c->t) != TLS_FAILED;
}

/* Sends back whatever comes until the end. */
static bool echo(struct conn *c)
{
    if (!handshake(c))
        return false;
    if (option("sent"))
        return send_all(c, str_of(option("sent"))) && finish(c);
    do {
        if (!send_all(c, buf_str(&c->got)))
            return false;
        buf_clear(&c->got);
    } while (tls_state(c->t) == TLS_OPEN && fill(c));
    return finish(c);
}

/* HTTP, and an answer that says 200. */
static bool get(struct conn *c)
{
    static const char ok[] = "HTTP/1.0 200";
    struct buf request = {0};
    bool sent;

    buf_printf(&request, "GET %s HTTP/1.0\r\n\r\n", option("get"));
    sent = handshake(c) && send_all(c, buf_str(&request));
    buf_release(&request);
    if (!sent)
        return false;
    while (tls_state(c->t) == TLS_OPEN && fill(c))
        ;
    return str_has_prefix(buf_str(&c->got), ok) && finish(c);
}

/* Sends many bytes in pieces, and wants each back. */
static bool ask(struct conn *c)
{
    size_t left = option("bytes") ? strtoul(option("bytes"), NULL, 10) : 6;
    char piece[20000];

    for (size_t i = 0; i < sizeof(piece); i++)
        piece[i] = (char)('a' + i % 26);
    if (!handshake(c))
        return false;
    while (left > 0) {
        size_t n = min_u64(left, sizeof(piece));

        piece[n - 1] = '\n'; /* for peers that echo by lines */
        if (!send_all(c, (struct str){piece, n}))
            return false;
        while (c->got.len < n)
            if (!fill(c))
                return false;
        if (c->got.len != n || memcmp(c->got.data, piece, n) != 0)
            return false;
        buf_clear(&c->got);
        left -= n;
    }
    return finish(c);
}

static bool serve(int fd, struct tls_config *config, enum tls_role role)
{
    struct conn c = {.fd = fd};
    bool good;

    c.t = tls_new(config, role, NULL, sys_wall_ns() / NS_PER_S);
    if (role == TLS_SERVER)
        good = echo(&c);
    else
        good = option("get") ? get(&c) : ask(&c);
    report(&c, good);
    tls_free(c.t);
    buf_release(&c.in);
    buf_release(&c.got);
    shutdown(fd, SHUT_WR);
    close(fd);
    return good;
}

/* --- Sockets. ------------------------------------------------------------- */

static struct sockaddr_in address(const char *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET};

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    a.sin_port = htons((uint16_t)strtoul(port, NULL, 10));
    return a;
}

/* Its standard input stays open until *in is closed: an end there would be
 * one of the connection, to many a client. */
static pid_t run(const char *command, int fd, int *in)
{
    struct sockaddr_in a;
    socklen_t n = sizeof(a);
    int ends[2];
    char port[8];
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -1;

    getsockname(fd, (struct sockaddr *)&a, &n);
    snprintf(port, sizeof(port), "%u", ntohs(a.sin_port));
    setenv("PORT", port, 1);
    pid = fork();
    if (pid == 0) {
        dup2(ends[0], STDIN_FILENO);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    close(ends[0]);
    *in = ends[1];
    return pid;
}

static bool server(const char *port, struct tls_config *config)
{
    struct sockaddr_in a = address(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1, conn;
    int in = -1;
    pid_t pid = 0;
    bool good;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 8) < 0) {
        err_sys(&e, -1, "listen");
        die(port);
    }
    if (option("run"))
        pid = run(option("run"), fd, &in);
    conn = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    good = conn >= 0 && serve(conn, config, TLS_SERVER);
    if (in >= 0)
        close(in);
    if (pid > 0)
        waitpid(pid, NULL, 0);
    close(fd);
    return good;
}

static int dial(const char *port)
{
    struct sockaddr_in a = address(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
        return fd;
    close(fd);
    return -1;
}

static bool client(const char *port, struct tls_config *config)
{
    for (int i = 0; i < 100; i++) {
        int fd = dial(port);

        if (fd >= 0)
            return serve(fd, config, TLS_CLIENT);
        sys_sleep_ms(50); /* it may not listen yet */
    }
    err_sys(&e, -1, "connect");
    die(port);
    return false;
}

/* --- Many connections. ---------------------------------------------------- */

#define DELAYS_MAX 100000
#define TURN_MS 20

static size_t number(const char *name, size_t otherwise)
{
    return option(name) ? strtoul(option(name), NULL, 10) : otherwise;
}

static void many_files(void)
{
    struct rlimit r;

    getrlimit(RLIMIT_NOFILE, &r);
    r.rlim_cur = r.rlim_max;
    setrlimit(RLIMIT_NOFILE, &r);
}

struct half {
    int fd; /* -1: to be opened */
    struct tls *t;
    size_t turns;
};

/* One of three stays silent, one stops behind its first message, one sends
 * that a byte at a time. */
static void half_turn(struct half *h, size_t kind, const char *port,
                      struct tls_config *config)
{
    struct str hello;
    char scratch[1024];
    size_t n;

    if (h->fd < 0) {
        tls_free(h->t);
        h->t = tls_new(config, TLS_CLIENT, NULL, 0);
        h->turns = 0;
        h->fd = dial(port);
        return;
    }
    hello = tls_output(h->t);
    n = kind == 0 ? 0 : kind == 1 ? hello.n : hello.n > 0;
    if (h->turns++ < hello.n && n) {
        send(h->fd, hello.p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        tls_sent(h->t, n);
    }
    if (recv(h->fd, scratch, sizeof(scratch), MSG_DONTWAIT) == 0) {
        close(h->fd);
        h->fd = -1;
    }
}

/* Until it is killed. */
static void hold_half(const char *port, struct tls_config *config, size_t n,
                      int ready)
{
    struct half *all = xcalloc(n, sizeof(*all));

    for (size_t i = 0; i < n; i++)
        all[i].fd = -1;
    for (size_t turn = 0;; turn++) {
        for (size_t i = 0; i < n; i++)
            half_turn(&all[i], i % 3, port, config);
        if (turn == 1 && write(ready, "", 1) < 0)
            return;
        sys_sleep_ms(TURN_MS);
    }
}

static int compare_delays(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static bool visit(const char *port, struct tls_config *config)
{
    struct conn c = {.fd = dial(port)};
    bool good;

    if (c.fd < 0)
        return false;
    c.t = tls_new(config, TLS_CLIENT, NULL, sys_wall_ns() / NS_PER_S);
    good = get(&c);
    if (!good)
        report(&c, good);
    tls_free(c.t);
    buf_release(&c.in);
    buf_release(&c.got);
    close(c.fd);
    return good;
}

/* New connections of an honest client, one after the other. */
static bool measure(const char *port, struct tls_config *config)
{
    int64_t *delays = xcalloc(DELAYS_MAX, sizeof(*delays));
    int64_t end =
        sys_mono_ns() + (int64_t)number("seconds", 3) * (int64_t)NS_PER_S;
    size_t n = 0, lost = 0;

    while (sys_mono_ns() < end && n < DELAYS_MAX) {
        int64_t began = sys_mono_ns();

        lost += !visit(port, config);
        delays[n++] = sys_mono_ns() - began;
        sys_sleep_ms(1);
    }
    qsort(delays, n, sizeof(*delays), compare_delays);
    printf("p50 %.1f p99 %.1f max %.1f ms, %zu requests, %zu lost\n",
           (double)delays[n / 2] / 1e6, (double)delays[n * 99 / 100] / 1e6,
           (double)delays[n - 1] / 1e6, n, lost);
    free(delays);
    return lost == 0;
}

static bool half(const char *port, struct tls_config *config)
{
    int ready[2];
    bool good;
    char one;
    pid_t pid;

    many_files();
    if (pipe2(ready, O_CLOEXEC) < 0)
        return false;
    pid = fork();
    if (pid == 0) {
        hold_half(port, config, number("n", 1000), ready[1]);
        _exit(1);
    }
    close(ready[1]);
    good = read(ready[0], &one, 1) == 1 && measure(port, config);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return good;
}

static long memory_kb(const char *pid)
{
    char *path = xasprintf("/proc/%s/statm", pid);
    struct buf b = {0};
    long pages = 0, unused;

    if (sys_read_file(path, 4096, &b, &e) < 0)
        die(path);
    sscanf(buf_z(&b), "%ld %ld", &unused, &pages);
    buf_release(&b);
    free(path);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static bool idle(const char *port, struct tls_config *config)
{
    static const char request[] = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
    size_t n = number("n", 1000);
    struct conn *all = xcalloc(n, sizeof(*all));
    const char *pid = option("pid");
    long before = memory_kb(pid);

    many_files();
    for (size_t i = 0; i < n; i++) {
        struct conn *c = &all[i];

        c->fd = dial(port);
        c->t = tls_new(config, TLS_CLIENT, NULL, sys_wall_ns() / NS_PER_S);
        if (!handshake(c) || !send_all(c, STR(request)))
            return false;
        while (!c->got.len)
            if (!fill(c))
                return false;
    }
    sys_sleep_ms(3000); /* for the server to give back what it can */
    printf("%ld KB before, %.1f KB for each\n", before,
           (double)(memory_kb(pid) - before) / (double)n);
    for (size_t i = 0; i < n; i++) {
        tls_free(all[i].t);
        buf_release(&all[i].in);
        buf_release(&all[i].got);
        close(all[i].fd);
    }
    free(all);
    return true;
}

static bool act(const char *role, const char *port, struct tls_config *config)
{
    if (strcmp(role, "server") == 0)
        return server(port, config);
    if (strcmp(role, "half") == 0)
        return half(port, config);
    if (strcmp(role, "idle") == 0)
        return idle(port, config);
    return client(port, config);
}

int main(int argc, char **argv)
{
    struct tls_config *config;
    bool good;

    if (argc < 3) {
        fprintf(stderr, "usage: tlstool ROLE PORT OPTION=VALUE...\n");
        return 2;
    }
    alarm(LIFE_S);
    options = argv + 3;
    n_options = argc - 3;
    config = config_new();
    good = act(argv[1], argv[2], config);
    tls_config_unref(config);
    return good ? 0 : 1;
}
