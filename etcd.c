/*
 * etcd.c - the program: boot, serve, shut down. Under the names etcdctl and
 * etcdutl the same file is the command line client and the offline tool.
 *
 * ORDER OF A START  settings, listeners bound (so that a busy port is told
 * before anything is written), data directory, peers served, member published,
 * clients served, systemd told. A stop goes the other way round, and ends with
 * the signal that asked for it, as etcd does, so that a shell sees 143 or 130.
 */
#include "admin.h"
#include "bootsecure.h"
#include "config.h"
#include "ctl.h"
#include "discovery.h"
#include "gateway.h"
#include "grpcserver.h"
#include "http.h"
#include "log.h"
#include "rpc.h"
#include "server.h"
#include "sys.h"
#include "v2.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <unistd.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#define FDS_RESERVED 150 /* for log, snapshots, peers; as etcd reserves */
#define DRAIN_MS 2000    /* for requests under way at a stop */
#define TELL_MS 500      /* for telling those that are still waiting then */
#define POLL_MS 500      /* how soon a removal is noticed */

/* With less (ulimit -v), malloc gets one arena: a second reserves 64 MB. */
#define TWO_ARENAS_SPACE (UINT64_C(1) << 30)

/* The listeners of one kind, and the server behind them. */
struct face {
    struct net_listener *listeners;
    size_t n;
    struct http_server *http;
};

/* http and https on one port: one listener for both. */
static bool share_port(const struct face *f, const struct url *u)
{
    for (size_t i = 0; i < f->n; i++) {
        struct net_listener *l = &f->listeners[i];

        if (url_is_unix(u) || url_is_unix(&l->url) ||
            strcmp(u->port, "0") == 0 || url_is_tls(u) == url_is_tls(&l->url) ||
            strcmp(u->host, l->url.host) != 0 ||
            strcmp(u->port, l->url.port) != 0)
            continue;
        l->schemes = NET_PLAIN | NET_TLS;
        return true;
    }
    return false;
}

static int face_bind(struct face *f, const struct url_list *urls,
                     const struct config *c, const char *what, struct err *e)
{
    struct net_listen_options o = {c->socket_reuse_port,
                                   c->socket_reuse_address};

    f->listeners = xcalloc(urls->n, sizeof(*f->listeners));
    for (size_t i = 0; i < urls->n; i++) {
        const struct url *u = &urls->urls[i];

        if (share_port(f, u))
            continue;
        if (net_listen(u, &o, &f->listeners[f->n], e) < 0)
            return -1;
        f->n++;
        log_info("embed", "listening for %s on %s", what, u->raw);
    }
    return 0;
}

static uint64_t address_space_max(void)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_AS, &r) < 0 || r.rlim_cur == RLIM_INFINITY)
        return UINT64_MAX;
    return r.rlim_cur;
}

/*
 * Stacks of connections may take half of a limited address space: clients
 * that wait are better than a server that is out of memory.
 */
static size_t conns_max(size_t fds)
{
    return (size_t)min_u64(fds, address_space_max() / 2 / SYS_STACK_SMALL);
}

/* grpc: NULL where it is not spoken. */
static int face_serve(struct face *f, http_handler *handler, struct server *s,
                      const char *name, size_t fds, struct secure *secure,
                      struct grpcserver *grpc, struct err *e)
{
    struct http_server_options o = {.handler = handler,
                                    .arg = s,
                                    .conns_max = conns_max(fds),
                                    .fds_max = fds,
                                    .name = name,
                                    .secure = secure,
                                    .h2 = grpc ? grpcserver_serve : NULL,
                                    .h2_arg = grpc};

    return f->n == 0 ? 0
                     : http_server_start(f->listeners, f->n, &o, &f->http, e);
}

static void face_close(struct face *f, int64_t grace_ms)
{
    if (f->http)
        http_server_stop(f->http, grace_ms);
    for (size_t i = 0; i < f->n; i++)
        net_listener_close(&f->listeners[i]);
    free(f->listeners);
    *f = (struct face){0};
}

/* --- systemd (sd_notify(3)): one datagram, by hand. --------------------- */

static void notify_init(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t n = path ? strlen(path) : 0;
    int fd;

    if (n < 2 || n >= sizeof(addr.sun_path) || (*path != '/' && *path != '@'))
        return;
    memcpy(addr.sun_path, path, n);
    if (*path == '@')
        addr.sun_path[0] = '\0'; /* an abstract socket */
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 ||
        sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&addr,
               (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) < 0)
        log_warn("etcdmain", "cannot notify systemd at %s", path);
    if (fd >= 0)
        close(fd);
}

/* --- Saying what is started. -------------------------------------------- */

static void log_urls(const char *what, const struct url_list *l)
{
    struct buf b = {0};

    url_list_print(&b, l, ",");
    log_info("embed", "%s = %s", what, buf_z(&b));
    buf_release(&b);
}

static void log_settings(const struct config *c)
{
    struct utsname u;

    uname(&u);
    log_info("etcdmain", "etcd Version: %s", ETCD_VERSION);
    log_info("etcdmain", "OS/Arch: linux/%s", u.machine);
    log_info("embed", "name = %s", c->name);
    if (c->force_new_cluster)
        log_info("embed", "force new cluster");
    log_info("embed", "data dir = %s", c->data_dir);
    log_info("embed", "member dir = %s", c->member_dir);
    log_info("embed", "heartbeat = %" PRId64 "ms", c->heartbeat_ms);
    log_info("embed", "election = %" PRId64 "ms", c->election_ms);
    log_info("embed", "snapshot count = %" PRIu64, c->snapshot_count);
    log_urls("advertise client URLs", &c->advertise_client_urls);
    log_urls("initial advertise peer URLs", &c->initial_advertise_peer_urls);
    log_info("embed", "initial cluster = %s", c->initial_cluster);
}

static void log_serving(const struct config *c)
{
    log_info("embed", "ready to serve client requests");
    for (size_t i = 0; i < c->listen_client_urls.n; i++) {
        const struct url *u = &c->listen_client_urls.urls[i];

        if (url_is_tls(u))
            log_info("embed", "serving client requests on %s%s%s", u->host,
                     *u->port ? ":" : "", u->port);
        else
            log_notice("embed",
                       "serving insecure client requests on %s%s%s, this is "
                       "strongly discouraged!",
                       u->host, *u->port ? ":" : "", u->port);
    }
}

/* --- Running. ----------------------------------------------------------- */

static void block_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, set, NULL);
}

/* Until a signal asks us to stop (its number), or the cluster removed us (0).*/
static int wait_for_end(struct server *s, const sigset_t *set)
{
    const struct timespec poll = {0, POLL_MS * NS_PER_MS};
    int sig;

    do {
        sig = sigtimedwait(set, NULL, &poll);
        if (sig == SIGHUP) {
            bootsecure_reload(server_config(s));
            sig = -1;
        }
    } while (sig < 0 && !server_removed(s));
    if (sig < 0) {
        server_wait_removed(s, 0);
        return 0;
    }
    log_notice("pkg/osutil", "received %s signal, shutting down...",
               sig == SIGINT ? "interrupt" : "terminated");
    return sig;
}

/* End as the signal's default action would have ended us. */
static void die_of(int sig, const sigset_t *set)
{
    if (getpid() == 1)
        return; /* init's children may not kill it so */
    signal(sig, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, set, NULL);
    raise(sig);
}

static int serve(const struct config *c, struct face *peers,
                 struct face *clients, struct face *metrics, size_t fds,
                 struct err *e)
{
    struct grpcserver *grpc;
    struct server *s;
    sigset_t set;
    int sig = 0;

    if (server_start(c, &s, e) < 0)
        return -1;
    grpc = grpcserver_new(s);
    if (face_serve(peers, admin_peer_handler, s, "etcd-peer", fds,
                   c->secure_peer, NULL, e) == 0 &&
        face_serve(metrics, admin_metrics_handler, s, "etcd-metrics", fds,
                   c->secure_client, NULL, e) == 0) {
        server_publish(s);
        block_signals(&set);
        if (face_serve(clients, admin_client_handler, s, "etcd-client", fds,
                       c->secure_client, grpc, e) == 0) {
            log_serving(c);
            notify_init("READY=1");
            sig = wait_for_end(s, &set);
            notify_init("STOPPING=1");
            e->code = 0;
        }
    }
    v2_stop();
    gateway_stop();
    grpcserver_shutdown(grpc);
    if (clients->http)
        http_server_drain(clients->http, DRAIN_MS);
    server_stop(s); /* who waits in it is told, whatever the door */
    face_close(clients, TELL_MS);
    rpc_wait_idle();
    grpcserver_free(grpc); /* behind the last call */
    face_close(metrics, 0);
    face_close(peers, 0);
    server_free(s);
    if (sig)
        die_of(sig, &set);
    return e->code;
}

static int run(struct config *c)
{
    struct face peers = {0}, clients = {0}, metrics = {0};
    uint64_t fds = net_raise_fd_limit();
    struct err e = {.code = -1};
    int rc;

    log_settings(c);
    if (fds <= FDS_RESERVED) {
        log_error("etcdmain",
                  "file descriptor limit[%" PRIu64 "] of etcd process is too "
                  "low, and should be set higher than %d to ensure internal "
                  "usage",
                  fds, FDS_RESERVED);
        return 1;
    }
    rc = bootsecure_begin(c, &e);
    if (rc == 0)
        rc = face_bind(&peers, &c->listen_peer_urls, c, "peers", &e);
    if (rc == 0)
        rc = face_bind(&clients, &c->listen_client_urls, c, "client requests",
                       &e);
    if (rc == 0)
        rc = face_bind(&metrics, &c->listen_metrics_urls, c, "metrics", &e);
    if (rc == 0)
        rc = discovery_resolve(c, &e);
    if (rc == 0)
        rc = serve(c, &peers, &clients, &metrics, (size_t)(fds - FDS_RESERVED),
                   &e);
    face_close(&clients, 0);
    face_close(&metrics, 0);
    face_close(&peers, 0);
    bootsecure_end(c);
    if (rc < 0)
        log_msg(LOG_CRIT, "etcdmain", "%s", e.msg);
    return rc < 0 ? 1 : 0;
}

/*
 * What is opened under the number of a standard stream that we were started
 * without would get the lines that are printed there.
 */
static void fill_standard_fds(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0 &&
            open("/", O_RDONLY | O_DIRECTORY) < 0)
            _exit(1);
}

int main(int argc, char **argv)
{
    const char *slash = argc ? strrchr(argv[0], '/') : NULL;
    const char *name = slash ? slash + 1 : argc ? argv[0] : "etcd";
    struct config c;
    int code;

#ifdef __GLIBC__
    /* An arena per thread would cost megabytes. */
    mallopt(M_ARENA_MAX, address_space_max() < TWO_ARENAS_SPACE ? 1 : 2);
#endif
    if (strncmp(name, "etcdctl", 7) == 0)
        return etcdctl_main(argc, argv);
    if (strncmp(name, "etcdutl", 7) == 0)
        return etcdutl_main(argc, argv);
    fill_standard_fds();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGUSR1, SIG_IGN);
    signal(SIGUSR2, SIG_IGN);
    if (config_load(&c, argc, argv, &code) == CONFIG_EXIT)
        return code;
    code = run(&c);
    config_release(&c);
    return code;
}
