/*
 * net.c - sockets.
 *
 * Sockets stay in blocking mode. A read without a deadline is one recv(2),
 * bounded by SO_RCVTIMEO; everything else tries with MSG_DONTWAIT first and
 * calls poll(2) only when it must wait. So a request on a kept connection
 * costs one recv and one send ("Waiting awake" adds some, where the core would
 * have slept), and deadlines cost nothing until they matter.
 *
 * Accepted sockets have the options of their listener (Linux copies them),
 * so accepting is one system call as well.
 *
 * PARKING  One thread waits in epoll(7) for the hang-ups of all parked
 * sockets, and for input where that was asked for. An event names its socket by
 * fd and ticket, never by pointer: the owner may have unparked and freed its
 * struct between the moment the kernel reported the event and the moment the
 * thread has the lock. Invariant, under park.mu: by_fd[fd] is the struct that is
 * parked for fd, or NULL; the thread calls fn only for a struct found there with
 * the event's ticket, and while it does so `calling` names it, which
 * net_unpark() waits for.
 */
#include "net_impl.h"

#include "dns.h"
#include "sys.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define KEEPALIVE_S 30
#define ACCEPT_PAUSE_MS 20
#define LOOKUP_MS 10000 /* of a name to listen on */
#define BUSY_MS 1000    /* how long an address in use is waited for */
#define BUSY_PAUSE_MS 5
#define DIAL_SLICE_MS 50
#define DIAL_SHARE_MS 2000 /* what one of several addresses gets at least */
#define LINGER_STEP 4096

/* --- Streams. ----------------------------------------------------------- */

/* Wait for events on fd: 0, or NET_ETIMEOUT, or NET_EIO. */
static int wait_fd(int fd, short events, int64_t deadline_ns)
{
    struct pollfd p = {.fd = fd, .events = events};

    for (;;) {
        int64_t ms = -1;
        int rc;

        if (deadline_ns) {
            ms = (deadline_ns - sys_mono_ns() + NS_PER_MS - 1) / NS_PER_MS;
            if (ms < 0)
                ms = 0;
            if (ms > INT32_MAX)
                ms = INT32_MAX;
        }
        rc = poll(&p, 1, (int)ms);
        if (rc > 0)
            return 0;
        if (rc < 0 && errno != EINTR)
            return NET_EIO;
        if (rc == 0 && sys_mono_ns() >= deadline_ns) {
            errno = ETIMEDOUT;
            return NET_ETIMEOUT;
        }
    }
}

int net_wait_socket(struct net_stream *s, short events, int64_t deadline_ns)
{
    int rc;

    __atomic_store_n(&s->awaits, events, __ATOMIC_RELAXED);
    rc = wait_fd(s->fd, events, deadline_ns);
    __atomic_store_n(&s->awaits, 0, __ATOMIC_RELAXED);
    return rc;
}

/* What has come is ours to read, even if the thread has not got so far. */
bool net_keeps_waiting(const struct net_stream *s)
{
    struct pollfd p = {
        .fd = s->fd,
        .events = __atomic_load_n(&s->awaits, __ATOMIC_RELAXED),
    };

    return p.events && poll(&p, 1, 0) == 0;
}

bool net_would_block(int errnum)
{
    return errnum == EAGAIN || errnum == EWOULDBLOCK;
}

/* --- Waiting awake. -------------------------------------------------------- */

/*
 * A lone client that sends one request after the other has the next one ready
 * some 15 us after the answer. To fall asleep for that, and to be woken by another
 * core, can take longer than all the rest: 3 us where cores stay awake, 50 us and
 * more on a virtual machine that gives them back. So a reader whose requests follow
 * one another within CYCLE_NS, with none of other peers' between, tries to wait
 * awake, for AWAKE_NS at most, and lets any thread go first that has something to
 * do. It goes on as long as requests follow one another in less time than when it
 * slept (ways.h). All readers together keep half of the cores awake at most.
 */
#define AWAKE_NS (200 * 1000)
#define CYCLE_NS (500 * 1000)

static int n_awake;                        /* atomic */
static const struct net_waits *last_heard; /* atomic; never followed */

static int awake_max(void)
{
    static int max = -1; /* atomic */
    int n = __atomic_load_n(&max, __ATOMIC_RELAXED);
    cpu_set_t set;

    if (n < 0) {
        n = sched_getaffinity(0, sizeof(set), &set) < 0 ? 0
                                                        : CPU_COUNT(&set) / 2;
        __atomic_store_n(&max, n, __ATOMIC_RELAXED);
    }
    return n;
}

/* Then stop_waiting_awake(). */
static bool wait_awake(const struct net_waits *w)
{
    if (!w->ways.second)
        return false;
    if (__atomic_add_fetch(&n_awake, 1, __ATOMIC_RELAXED) <= awake_max())
        return true;
    __atomic_sub_fetch(&n_awake, 1, __ATOMIC_RELAXED);
    return false;
}

static void stop_waiting_awake(void)
{
    __atomic_sub_fetch(&n_awake, 1, __ATOMIC_RELAXED);
}

static bool is_awake_still(int64_t began)
{
    sched_yield();
    return sys_mono_ns() - began < AWAKE_NS;
}

/* A wait is over, and one request with it. */
static void heard(struct net_waits *w)
{
    int64_t now = sys_mono_ns(), ns = now - w->heard_ns;

    w->heard_ns = now;
    if (__atomic_load_n(&last_heard, __ATOMIC_RELAXED) != w) {
        __atomic_store_n(&last_heard, w, __ATOMIC_RELAXED);
        ways_forget(&w->ways);
        return;
    }
    if (ns > CYCLE_NS) /* one long one does not tell much */
        ns = CYCLE_NS;
    ways_took(&w->ways, ns, w->ways.mean_ns[0] < CYCLE_NS / 4 * 3);
}

int net_poll(struct net_stream *s, struct pollfd *p, int n, int ms)
{
    int64_t began = sys_mono_ns();
    bool awake = ms != 0 && wait_awake(&s->waits);
    int r = 0;

    if (awake) {
        do
            r = poll(p, (nfds_t)n, 0);
        while (r == 0 && is_awake_still(began));
        stop_waiting_awake();
    }
    if (r == 0)
        r = poll(p, (nfds_t)n, ms);
    heard(&s->waits);
    return r;
}

/* recv(2), waiting. */
static ssize_t receive(struct net_stream *s, void *p, size_t n)
{
    int64_t began = sys_mono_ns();
    bool awake = wait_awake(&s->waits), none = true;
    ssize_t r = -1;

    if (awake) {
        do {
            r = recv(s->fd, p, n, MSG_DONTWAIT);
            none = r < 0 && net_would_block(errno);
        } while (none && is_awake_still(began));
        stop_waiting_awake();
    }
    if (none)
        r = recv(s->fd, p, n, 0);
    heard(&s->waits);
    return r;
}

ssize_t net_raw_read(struct net_stream *s, void *p, size_t n,
                     int64_t deadline_ns)
{
    for (;;) {
        ssize_t r =
            deadline_ns ? recv(s->fd, p, n, MSG_DONTWAIT) : receive(s, p, n);

        if (r >= 0)
            return r;
        if (errno == EINTR)
            continue;
        if (!net_would_block(errno))
            return NET_EIO;
        if (!deadline_ns) { /* SO_RCVTIMEO has passed */
            errno = ETIMEDOUT;
            return NET_ETIMEOUT;
        }
        r = net_wait_socket(s, POLLIN, deadline_ns);
        if (r < 0)
            return r;
    }
}

ssize_t net_raw_try_read(struct net_stream *s, void *p, size_t n)
{
    for (;;) {
        ssize_t r = recv(s->fd, p, n, MSG_DONTWAIT);

        if (r >= 0)
            return r;
        if (errno != EINTR)
            return net_would_block(errno) ? NET_ETIMEOUT : NET_EIO;
    }
}

ssize_t net_read(struct net_stream *s, void *p, size_t n, int64_t deadline_ns)
{
    return s->layer ? s->layer->read(s, p, n, deadline_ns)
                    : net_raw_read(s, p, n, deadline_ns);
}

ssize_t net_try_read(struct net_stream *s, void *p, size_t n)
{
    return s->layer ? s->layer->try_read(s, p, n) : net_raw_try_read(s, p, n);
}

bool net_buffered(struct net_stream *s)
{
    return s->layer && s->layer->buffered(s);
}

ssize_t net_peek(struct net_stream *s, void *p, size_t n)
{
    ssize_t r;

    do
        r = recv(s->fd, p, n, MSG_PEEK | MSG_DONTWAIT);
    while (r < 0 && errno == EINTR);
    if (r >= 0)
        return r;
    return net_would_block(errno) ? NET_ETIMEOUT : NET_EIO;
}

int net_wait_readable(struct net_stream *s, int64_t deadline_ns)
{
    if (net_buffered(s))
        return 0;
    return net_wait_socket(s, POLLIN, deadline_ns);
}

int net_write(struct net_stream *s, const void *p, size_t n,
              int64_t deadline_ns)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)p, .iov_len = n};

    return net_writev(s, &iov, 1, deadline_ns);
}

struct iovec *net_iov_skip(struct iovec *iov, int *n, size_t written)
{
    while (*n > 0 && written >= iov->iov_len) {
        written -= iov->iov_len;
        iov++;
        (*n)--;
    }
    if (*n > 0) {
        iov->iov_base = (char *)iov->iov_base + written;
        iov->iov_len -= written;
    }
    return iov;
}

static int64_t write_deadline(const struct net_stream *s, int64_t deadline_ns)
{
    if (deadline_ns || !s->write_ms)
        return deadline_ns;
    return sys_mono_ns() + s->write_ms * NS_PER_MS;
}

int net_try_writev(struct net_stream *s, struct iovec **iov, int *n)
{
    if (s->layer)
        return s->layer->try_writev(s, iov, n);
    *iov = net_iov_skip(*iov, n, 0);
    while (*n > 0) {
        struct msghdr m = {.msg_iov = *iov};
        ssize_t r;

        m.msg_iovlen = *n < NET_IOV_AT_ONCE ? (unsigned)*n : NET_IOV_AT_ONCE;
        r = sendmsg(s->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (r >= 0)
            *iov = net_iov_skip(*iov, n, (size_t)r);
        else if (errno != EINTR)
            return net_would_block(errno) ? 0 : NET_EIO;
    }
    return 0;
}

int net_writev(struct net_stream *s, struct iovec *iov, int n,
               int64_t deadline_ns)
{
    for (;;) {
        int rc = net_try_writev(s, &iov, &n);

        if (rc < 0 || n == 0)
            return rc;
        rc = net_wait_socket(s, POLLOUT, write_deadline(s, deadline_ns));
        if (rc < 0)
            return rc;
    }
}

void net_set_timeouts(struct net_stream *s, int64_t read_ms, int64_t write_ms)
{
    struct timeval tv = {.tv_sec = (time_t)(read_ms / 1000),
                         .tv_usec = (suseconds_t)(read_ms % 1000 * 1000)};

    setsockopt(s->fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
    s->write_ms = write_ms;
}

bool net_stale(struct net_stream *s)
{
    char c;

    if (s->layer)
        return s->layer->stale(s);
    return recv(s->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 ||
           !net_would_block(errno);
}

void net_shutdown(struct net_stream *s)
{
    shutdown(s->fd, SHUT_RDWR);
}

void net_shutdown_read(struct net_stream *s)
{
    shutdown(s->fd, SHUT_RD);
}

void net_shutdown_write(struct net_stream *s)
{
    if (s->layer)
        s->layer->end(s);
    shutdown(s->fd, SHUT_WR);
}

void net_linger(struct net_stream *s, int64_t ms)
{
    int64_t deadline = sys_mono_ns() + ms * NS_PER_MS;
    uint8_t scratch[LINGER_STEP];

    net_shutdown_write(s);
    while (sys_mono_ns() < deadline &&
           net_raw_read(s, scratch, sizeof(scratch), deadline) > 0)
        ;
}

void net_close(struct net_stream *s)
{
    if (!s)
        return;
    if (s->layer) {
        s->layer->end(s);
        s->layer->release(s);
    }
    close(s->fd);
    free(s);
}

int net_fd(const struct net_stream *s)
{
    return s->fd;
}

const char *net_peer_name(const struct net_stream *s)
{
    return s->peer;
}

void net_trim(struct net_stream *s)
{
    if (s->layer)
        s->layer->trim(s);
}

const char *net_trouble(const struct net_stream *s)
{
    const char *text = s->layer ? s->layer->trouble(s) : "";

    return *text ? text : net_errno_text(errno);
}

bool net_is_tls(const struct net_stream *s)
{
    return s->layer;
}

struct str net_peer_cn(const struct net_stream *s)
{
    return s->layer ? s->layer->peer_cn(s) : (struct str){"", 0};
}

/* --- Names and texts. --------------------------------------------------- */

const char *net_errno_text(int errnum)
{
    /* clang-format off */
    static const struct {
        int errnum;
        const char *text;
    } texts[] = {
        {EACCES,        "permission denied"},
        {EADDRINUSE,    "address already in use"},
        {EADDRNOTAVAIL, "cannot assign requested address"},
        {EAFNOSUPPORT,  "address family not supported by protocol"},
        {ECONNABORTED,  "software caused connection abort"},
        {ECONNREFUSED,  "connection refused"},
        {ECONNRESET,    "connection reset by peer"},
        {EBUSY,         "device or resource busy"},
        {EEXIST,        "file exists"},
        {EHOSTUNREACH,  "no route to host"},
        {EINVAL,        "invalid argument"},
        {EISDIR,        "is a directory"},
        {EMFILE,        "too many open files"},
        {ENAMETOOLONG,  "file name too long"},
        {ENETUNREACH,   "network is unreachable"},
        {ENFILE,        "too many open files in system"},
        {ENOENT,        "no such file or directory"},
        {ENOTDIR,       "not a directory"},
        {EPERM,         "operation not permitted"},
        {EPIPE,         "broken pipe"},
        {EROFS,         "read-only file system"},
        {ETIMEDOUT,     "connection timed out"},
    };
    /* clang-format on */

    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (texts[i].errnum == errnum)
            return texts[i].text;
    return strerror(errnum);
}

/* A port number, or -1. */
static int port_number(const char *port, const char *if_empty)
{
    uint64_t v;

    if (!str_to_u64(str_of(port[0] ? port : if_empty), &v) || v > 65535)
        return -1;
    return (int)v;
}

/* "host:port", with brackets around an IPv6 address. */
static void join_host_port(char *out, size_t n, const char *host, int port)
{
    if (strchr(host, ':'))
        snprintf(out, n, "[%s]:%d", host, port);
    else
        snprintf(out, n, "%s:%d", host, port);
}

static uint16_t addr_port(const struct sockaddr_storage *ss)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    if (ss->ss_family == AF_INET) {
        memcpy(&v4, ss, sizeof(v4));
        return ntohs(v4.sin_port);
    }
    memcpy(&v6, ss, sizeof(v6));
    return ntohs(v6.sin6_port);
}

/* "" for what is no Internet address. */
static void addr_ip(char ip[INET6_ADDRSTRLEN],
                    const struct sockaddr_storage *ss)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    switch (ss->ss_family) {
    case AF_INET:
        memcpy(&v4, ss, sizeof(v4));
        inet_ntop(AF_INET, &v4.sin_addr, ip, INET6_ADDRSTRLEN);
        break;
    case AF_INET6:
        memcpy(&v6, ss, sizeof(v6));
        if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) /* dual-stack listener */
            inet_ntop(AF_INET, &v6.sin6_addr.s6_addr[12], ip, INET6_ADDRSTRLEN);
        else
            inet_ntop(AF_INET6, &v6.sin6_addr, ip, INET6_ADDRSTRLEN);
        break;
    default:
        ip[0] = '\0';
    }
}

static void addr_name(char out[NET_NAME_MAX], const struct sockaddr_storage *ss)
{
    char ip[INET6_ADDRSTRLEN];

    addr_ip(ip, ss);
    if (*ip)
        join_host_port(out, NET_NAME_MAX, ip, addr_port(ss));
    else
        snprintf(out, NET_NAME_MAX, "@");
}

bool net_addr_is(const struct sockaddr_storage *ss, struct str ip)
{
    char own[INET6_ADDRSTRLEN];

    addr_ip(own, ss);
    return str_eqz(ip, own);
}

/* Socket options that both ends want. */
static void set_tcp_options(int fd)
{
    int on = 1, s = KEEPALIVE_S;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &s, sizeof(s));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &s, sizeof(s));
}

static struct net_stream *stream_new(int fd, const struct sockaddr_storage *ss)
{
    struct net_stream *s = xcalloc(1, sizeof(*s));

    s->fd = fd;
    addr_name(s->peer, ss);
    return s;
}

/* --- Unix-domain sockets. ----------------------------------------------- */

/* The file of a URL: host:port and path, relative to the current directory. */
static char *unix_path_of(const struct url *u)
{
    return xasprintf("%s%s%s%s", u->host, u->port[0] ? ":" : "", u->port,
                     u->path);
}

static int unix_addr(const char *path, struct sockaddr_storage *ss,
                     socklen_t *len)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    size_t n = strlen(path);

    if (n == 0 || n >= sizeof(un.sun_path)) {
        errno = EINVAL; /* as the kernel says to Go */
        return -1;
    }
    memcpy(un.sun_path, path, n);
    memset(ss, 0, sizeof(*ss));
    memcpy(ss, &un, sizeof(un));
    *len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + 1);
    return 0;
}

/* Remove the socket file that a killed server left behind. */
static void remove_stale(const char *path, const struct sockaddr_storage *ss,
                         socklen_t len)
{
    struct stat st;
    int fd;

    if (lstat(path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (connect(fd, (const struct sockaddr *)ss, len) < 0 &&
        errno == ECONNREFUSED)
        unlink(path);
    close(fd);
}

static int listen_unix(const struct url *u, struct net_listener *out,
                       struct err *e)
{
    struct sockaddr_storage ss;
    const char *step = "bind";
    socklen_t len;

    out->unix_path = unix_path_of(u);
    if (unix_addr(out->unix_path, &ss, &len) < 0)
        goto fail;
    remove_stale(out->unix_path, &ss, len);

    step = "socket";
    out->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (out->fd < 0)
        goto fail;
    step = "bind";
    if (bind(out->fd, (struct sockaddr *)&ss, len) < 0)
        goto fail;
    step = "listen";
    if (listen(out->fd, SOMAXCONN) == 0)
        return 0;

fail:
    err_set(e, NET_EIO, "listen unix %s: %s: %s", out->unix_path, step,
            net_errno_text(errno));
    free(out->unix_path); /* not ours to remove */
    out->unix_path = NULL;
    return NET_EIO;
}

/* --- Listening. --------------------------------------------------------- */

static bool is_wildcard(const char *host)
{
    return host[0] == '\0' || strcmp(host, "0.0.0.0") == 0 ||
           strcmp(host, "::") == 0;
}

static void wildcard_addr(struct dns_addr *a, int family, uint16_t port)
{
    memset(a, 0, sizeof(*a));
    if (family == AF_INET6) {
        struct sockaddr_in6 v6 = {.sin6_family = AF_INET6,
                                  .sin6_port = htons(port)};

        memcpy(&a->ss, &v6, sizeof(v6));
        a->len = sizeof(v6);
    } else {
        struct sockaddr_in v4 = {.sin_family = AF_INET,
                                 .sin_port = htons(port)};

        memcpy(&a->ss, &v4, sizeof(v4));
        a->len = sizeof(v4);
    }
}

/*
 * Where to listen. Any wildcard means all addresses of both families, as in
 * Go; a name means its first IPv4 address, or else its first one.
 */
static size_t listen_addrs(const char *host, uint16_t port,
                           struct dns_addr out[DNS_ADDRS_MAX], struct err *e)
{
    int64_t deadline = sys_mono_ns() + LOOKUP_MS * NS_PER_MS;
    size_t n;

    if (is_wildcard(host)) {
        wildcard_addr(&out[0], AF_INET6, port);
        wildcard_addr(&out[1], AF_INET, port); /* where IPv6 is switched off */
        return 2;
    }
    if (dns_lookup(host, port, deadline, out, &n, e) < 0)
        return 0;
    for (size_t i = 1; i < n && out[0].ss.ss_family != AF_INET; i++)
        out[0] = out[i];
    return 1;
}

static int bind_and_listen(const struct dns_addr *a,
                           const struct net_listen_options *o,
                           const char **step)
{
    int on = 1, off = 0, fd;

    *step = "socket";
    fd = socket(a->ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (o && o->reuse_port)
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
    if (a->ss.ss_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    set_tcp_options(fd);

    *step = "bind";
    if (bind(fd, (const struct sockaddr *)&a->ss, a->len) == 0) {
        *step = "listen";
        if (listen(fd, SOMAXCONN) == 0)
            return fd;
    }
    on = errno;
    close(fd);
    errno = on;
    return -1;
}

/*
 * An address may be in use for a moment only: by the process that this one
 * replaces, or by one that found the port free for us and whose child, forked
 * meanwhile, has not got rid of that socket yet.
 */
static int listen_when_free(const struct dns_addr *a,
                            const struct net_listen_options *o,
                            const char **step)
{
    int64_t give_up = sys_mono_ns() + BUSY_MS * NS_PER_MS;
    int fd;

    while ((fd = bind_and_listen(a, o, step)) < 0 && errno == EADDRINUSE &&
           sys_mono_ns() < give_up)
        sys_sleep_ms(BUSY_PAUSE_MS);
    return fd;
}

static int listen_tcp(const struct url *u, const struct net_listen_options *o,
                      struct net_listener *out, struct err *e)
{
    int port = port_number(u->port, "");
    struct dns_addr addrs[DNS_ADDRS_MAX];
    char name[NET_NAME_MAX];
    struct err why;
    const char *step;
    size_t n;

    if (port < 0)
        return err_set(e, NET_EIO, "listen tcp: address %s: invalid port",
                       u->port);
    n = listen_addrs(u->host, (uint16_t)port, addrs, &why);
    if (n == 0)
        return err_set(e, NET_EIO, "listen tcp: %s", why.msg);

    for (size_t i = 0; i < n; i++) {
        out->fd = listen_when_free(&addrs[i], o, &step);
        if (out->fd >= 0)
            return 0;
        if (errno != EAFNOSUPPORT && errno != EADDRNOTAVAIL)
            break;
    }
    if (is_wildcard(u->host))
        join_host_port(name, sizeof(name), u->host, port);
    else
        addr_name(name, &addrs[0].ss);
    return err_set(e, NET_EIO, "listen tcp %s: %s: %s", name, step,
                   net_errno_text(errno));
}

/* The listener's own URL, its port 0 replaced by what the kernel chose. */
static int own_url(const struct url *u, struct net_listener *l, struct err *e)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    char *text;
    int rc;

    if (l->unix_path || strcmp(u->port, "0") != 0)
        return url_parse(str_of(u->raw), &l->url, e);
    memset(&ss, 0, sizeof(ss));
    if (getsockname(l->fd, (struct sockaddr *)&ss, &len) < 0)
        return err_sys(e, NET_EIO, "getsockname");
    text = xasprintf(strchr(u->host, ':') ? "%s://[%s]:%d%s" : "%s://%s:%d%s",
                     u->scheme, u->host, addr_port(&ss), u->path);
    rc = url_parse(str_of(text), &l->url, e);
    free(text);
    return rc;
}

int net_listen(const struct url *u, const struct net_listen_options *o,
               struct net_listener *out, struct err *e)
{
    struct net_listener l = {.fd = -1};
    int rc = url_is_unix(u) ? listen_unix(u, &l, e) : listen_tcp(u, o, &l, e);

    if (rc == 0)
        rc = own_url(u, &l, e);
    if (rc < 0) {
        net_listener_close(&l);
        return NET_EIO;
    }
    l.schemes = url_is_tls(u) ? NET_TLS : NET_PLAIN;
    *out = l;
    return 0;
}

void net_listener_shutdown(struct net_listener *l)
{
    shutdown(l->fd, SHUT_RDWR);
}

void net_listener_close(struct net_listener *l)
{
    if (l->fd >= 0)
        close(l->fd);
    if (l->unix_path)
        unlink(l->unix_path);
    free(l->unix_path);
    url_release(&l->url);
    *l = (struct net_listener){.fd = -1};
}

struct net_stream *net_accept(struct net_listener *l, bool *again)
{
    struct sockaddr_storage ss;

    for (;;) {
        socklen_t len = sizeof(ss);
        int fd;

        ss.ss_family = AF_UNSPEC;
        fd = accept4(l->fd, (struct sockaddr *)&ss, &len, SOCK_CLOEXEC);
        if (fd >= 0)
            return stream_new(fd, &ss);

        switch (errno) {
        case EINTR:
        case ECONNABORTED: /* gone before we came; accept(2) lists the rest */
        case EPROTO:
        case EPERM:
        case ENETDOWN:
        case ENETUNREACH:
        case EHOSTUNREACH:
            continue;
        case EINVAL: /* shut down */
        case EBADF:
        case ENOTSOCK:
            *again = false;
            return NULL;
        default: /* EMFILE, ENFILE, ENOBUFS, ENOMEM, ... */
            sys_sleep_ms(ACCEPT_PAUSE_MS);
            *again = true;
            return NULL;
        }
    }
}

/* --- Dialling. ---------------------------------------------------------- */

static bool is_set(const bool *stop)
{
    return __atomic_load_n(stop, __ATOMIC_RELAXED);
}

/* In slices, so that *stop is noticed. */
static int wait_connected(int fd, int64_t deadline_ns, const bool *stop)
{
    int failed = 0, rc = NET_ETIMEOUT;
    socklen_t len = sizeof(failed);

    while (rc == NET_ETIMEOUT && !is_set(stop)) {
        int64_t now = sys_mono_ns(), slice = now + DIAL_SLICE_MS * NS_PER_MS;
        bool last = deadline_ns && deadline_ns <= slice;

        rc = wait_fd(fd, POLLOUT, last ? deadline_ns : slice);
        if (last)
            break;
    }
    if (rc < 0)
        return rc;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &len) == 0)
        errno = failed;
    return errno ? NET_EIO : 0;
}

/* Connect to one address: 0 and *out, or NET_E* with errno set. */
static int connect_to(const struct dns_addr *a, int64_t deadline_ns,
                      const bool *stop, int *out)
{
    int fd =
        socket(a->ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int rc = 0, saved;

    if (fd < 0)
        return NET_EIO;
    errno = 0;
    if (connect(fd, (const struct sockaddr *)&a->ss, a->len) < 0)
        rc = errno == EINPROGRESS || errno == EINTR
                 ? wait_connected(fd, deadline_ns, stop)
                 : NET_EIO;
    if (rc == 0 && fcntl(fd, F_SETFL, 0) < 0) /* blocking from here on */
        rc = NET_EIO;
    if (rc == 0) {
        *out = fd;
        return 0;
    }
    saved = errno;
    close(fd);
    errno = saved;
    return rc;
}

/* The time for one address of `left`: a fair share, but never too short. */
static int64_t share_of(int64_t deadline_ns, size_t left)
{
    int64_t now = sys_mono_ns(), share;

    if (!deadline_ns || left <= 1)
        return deadline_ns;
    share = (deadline_ns - now) / (int64_t)left;
    if (share < DIAL_SHARE_MS * NS_PER_MS)
        share = DIAL_SHARE_MS * NS_PER_MS;
    return now + share < deadline_ns ? now + share : deadline_ns;
}

static int dial_error(struct err *e, int code, const char *network,
                      const char *name)
{
    if (code == NET_ETIMEOUT)
        return err_set(e, code, "dial %s %s: i/o timeout", network, name);
    return err_set(e, code, "dial %s %s: connect: %s", network, name,
                   net_errno_text(errno));
}

static struct net_stream *dial_unix(const struct url *u, int64_t deadline_ns,
                                    const bool *stop, struct err *e)
{
    char *path = unix_path_of(u);
    struct dns_addr a;
    int fd, rc = NET_EIO;

    if (unix_addr(path, &a.ss, &a.len) == 0)
        rc = connect_to(&a, deadline_ns, stop, &fd);
    if (rc < 0)
        dial_error(e, rc, "unix", path);
    free(path);
    return rc < 0 ? NULL : stream_new(fd, &a.ss);
}

/* All addresses in turn; the first one's error is the one to tell (as Go). */
static struct net_stream *dial_tcp(const struct url *u, int64_t deadline_ns,
                                   const bool *stop, struct err *e)
{
    int port = port_number(u->port, url_is_tls(u) ? "443" : "80");
    struct dns_addr addrs[DNS_ADDRS_MAX];
    char name[NET_NAME_MAX];
    struct err why;
    size_t n;
    int fd, rc;

    if (port < 0) {
        err_set(e, NET_EIO, "dial tcp: address %s: invalid port", u->port);
        return NULL;
    }
    rc = dns_lookup(u->host[0] ? u->host : "localhost", (uint16_t)port,
                    deadline_ns, addrs, &n, &why);
    if (rc < 0) {
        err_set(e, rc == DNS_ETIMEOUT ? NET_ETIMEOUT : NET_EIO, "dial tcp: %s",
                why.msg);
        return NULL;
    }

    for (size_t i = 0; i < n && (i == 0 || !is_set(stop)); i++) {
        rc = connect_to(&addrs[i], share_of(deadline_ns, n - i), stop, &fd);
        if (rc == 0) {
            set_tcp_options(fd);
            return stream_new(fd, &addrs[i].ss);
        }
        if (i == 0) {
            addr_name(name, &addrs[0].ss);
            dial_error(e, rc, "tcp", name);
        }
    }
    return NULL;
}

struct net_stream *net_dial(const struct url *u, int64_t deadline_ns,
                            const bool *stop, struct err *e)
{
    return url_is_unix(u) ? dial_unix(u, deadline_ns, stop, e)
                          : dial_tcp(u, deadline_ns, stop, e);
}

/* --- Hang-ups. ---------------------------------------------------------- */

#define PARK_EVENTS 32
#define PARK_STOP UINT64_MAX /* event of the stopping eventfd */

static struct {
    pthread_mutex_t mu; /* guards all below; a leaf: nothing is taken in it */
    pthread_cond_t returned; /* a call of fn has ended */
    struct net_park **by_fd;
    size_t n_by_fd;
    struct net_park *calling;
    uint32_t ticket;
    bool running;
    int epoll_fd, stop_fd; /* set while running */
    pthread_t thread;
} park = {.mu = PTHREAD_MUTEX_INITIALIZER,
          .returned = PTHREAD_COND_INITIALIZER};

static void park_event(uint64_t id)
{
    size_t fd = (size_t)(id & UINT32_MAX);
    struct net_park *p;

    pthread_mutex_lock(&park.mu);
    p = fd < park.n_by_fd ? park.by_fd[fd] : NULL;
    if (p && p->ticket == id >> 32 && !p->fired) {
        p->fired = true;
        park.calling = p;
        pthread_mutex_unlock(&park.mu);
        p->fn(p->arg);
        pthread_mutex_lock(&park.mu);
        park.calling = NULL;
        pthread_cond_broadcast(&park.returned);
    }
    pthread_mutex_unlock(&park.mu);
}

static void *park_main(void *arg)
{
    int epoll_fd = *(int *)arg;
    struct epoll_event events[PARK_EVENTS];

    sys_thread_name("hang-ups");
    for (;;) {
        int n = epoll_wait(epoll_fd, events, PARK_EVENTS, -1);

        for (int i = 0; i < n; i++) {
            if (events[i].data.u64 == PARK_STOP)
                return NULL;
            park_event(events[i].data.u64);
        }
    }
}

static int park_start_locked(void)
{
    struct epoll_event stop = {.events = EPOLLIN, .data.u64 = PARK_STOP};

    park.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    park.stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (park.epoll_fd >= 0 && park.stop_fd >= 0 &&
        epoll_ctl(park.epoll_fd, EPOLL_CTL_ADD, park.stop_fd, &stop) == 0 &&
        sys_thread(&park.thread, SYS_STACK_SMALL, park_main, &park.epoll_fd) ==
            0) {
        park.running = true;
        return 0;
    }
    if (park.epoll_fd >= 0)
        close(park.epoll_fd);
    if (park.stop_fd >= 0)
        close(park.stop_fd);
    return -1;
}

static void park_grow_locked(size_t fd)
{
    size_t n = park.n_by_fd ? park.n_by_fd : 64;

    if (fd < park.n_by_fd)
        return;
    while (n <= fd)
        n *= 2;
    park.by_fd = xrealloc(park.by_fd, n * sizeof(struct net_park *));
    for (size_t i = park.n_by_fd; i < n; i++)
        park.by_fd[i] = NULL;
    park.n_by_fd = n;
}

static int park_for(struct net_park *p, struct net_stream *s, uint32_t events,
                    void (*fn)(void *), void *arg)
{
    struct epoll_event ev = {.events = events | EPOLLRDHUP | EPOLLONESHOT};
    int rc = -1;

    *p = (struct net_park){.fd = s->fd, .fn = fn, .arg = arg};
    pthread_mutex_lock(&park.mu);
    if (park.running || park_start_locked() == 0) {
        p->ticket = ++park.ticket & (UINT32_MAX >> 1); /* never PARK_STOP */
        ev.data.u64 = (uint64_t)p->ticket << 32 | (uint32_t)s->fd;
        park_grow_locked((size_t)s->fd);
        park.by_fd[s->fd] = p;
        rc = epoll_ctl(park.epoll_fd, EPOLL_CTL_ADD, s->fd, &ev);
        if (rc < 0)
            park.by_fd[s->fd] = NULL;
    }
    pthread_mutex_unlock(&park.mu);
    if (rc < 0)
        p->fd = -1;
    return rc;
}

int net_park(struct net_park *p, struct net_stream *s, void (*fn)(void *),
             void *arg)
{
    return park_for(p, s, 0, fn, arg);
}

int net_park_input(struct net_park *p, struct net_stream *s, void (*fn)(void *),
                   void *arg)
{
    return park_for(p, s, EPOLLIN, fn, arg);
}

void net_unpark(struct net_park *p)
{
    if (p->fd < 0)
        return;
    pthread_mutex_lock(&park.mu);
    park.by_fd[p->fd] = NULL;
    epoll_ctl(park.epoll_fd, EPOLL_CTL_DEL, p->fd, NULL);
    while (park.calling == p)
        pthread_cond_wait(&park.returned, &park.mu);
    pthread_mutex_unlock(&park.mu);
    p->fd = -1;
}

void net_park_stop(void)
{
    uint64_t one = 1;

    pthread_mutex_lock(&park.mu);
    if (park.running && write(park.stop_fd, &one, sizeof(one)) > 0) {
        pthread_mutex_unlock(&park.mu); /* the thread may want it */
        pthread_join(park.thread, NULL);
        pthread_mutex_lock(&park.mu);
        close(park.epoll_fd);
        close(park.stop_fd);
        park.running = false;
    }
    free(park.by_fd);
    park.by_fd = NULL;
    park.n_by_fd = 0;
    pthread_mutex_unlock(&park.mu);
}

uint64_t net_raise_fd_limit(void)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r) < 0)
        return 0;
    if (r.rlim_cur < r.rlim_max) {
        rlim_t was = r.rlim_cur;

        r.rlim_cur = r.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &r) < 0)
            r.rlim_cur = was;
    }
    return r.rlim_cur;
}
