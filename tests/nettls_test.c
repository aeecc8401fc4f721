/*
 * nettls_test.c - TLS on streams: two ends on a real socket, whose buffers are
 * small. What does not fit, what comes in pieces, what is cut; and files that
 * change (secure.h).
 */
#include "check.h"
#include "dns.h"
#include "net.h"
#include "secure.h"
#include "sys.h"
#include "tlscerts.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define SECONDS(n) (sys_mono_ns() + (n)*NS_PER_S)
#define LARGE ((size_t)3 << 20)

static char dir[64];
static struct net_listener listener = {.fd = -1};
static struct url url;
static int accept_s = 5; /* how long a handshake may take */

static char *path_of(const char *name)
{
    return xasprintf("%s/%s", dir, name);
}

static void put(const char *name, const char *text)
{
    char *path = path_of(name);
    struct err e;

    CHECK(sys_write_file_atomic(path, text, strlen(text), 0600, &e) == 0);
    free(path);
}

static struct secure *secure_of(bool server, bool auth, struct err *e)
{
    char *cert = path_of("cert.pem"), *key = path_of("key.pem");
    char *ca = path_of("ca.pem");
    struct secure_options o = {.what = "test", .ca_file = auth ? ca : ""};
    struct secure *c;

    if (server) {
        o.cert_file = cert;
        o.key_file = key;
        o.skip_san_check = true;
    } else {
        o.ca_file = ca;
        o.client_cert_file = auth ? cert : "";
        o.client_key_file = auth ? key : "";
    }
    c = secure_new(&o, e);
    free(cert);
    free(key);
    free(ca);
    return c;
}

/* --- Two ends. -------------------------------------------------------------- */

struct ends {
    struct secure *by;
    struct net_stream *server, *client;
    int accepted;
};

static void *accept_one(void *arg)
{
    struct ends *x = arg;
    bool again;

    x->server = net_accept(&listener, &again);
    x->accepted = secure_accept(x->by, x->server, SECONDS(accept_s));
    return NULL;
}

/* Not the other side's, which would make the kernel wait for its timers. */
static void shrink(const struct net_stream *s)
{
    int n = 8192;

    setsockopt(net_fd(s), SOL_SOCKET, SO_SNDBUF, &n, sizeof(n));
}

/* 0, or what secure_connect() said. */
static int connect_ends(struct ends *x, struct secure *server,
                        struct secure *client, struct err *e)
{
    static const bool never;
    pthread_t thread;
    int rc;

    *x = (struct ends){.by = server};
    CHECK(sys_thread(&thread, SYS_STACK_SMALL, accept_one, x) == 0);
    x->client = net_dial(&url, SECONDS(5), &never, e);
    CHECK(x->client != NULL);
    rc = secure_connect(client, x->client, &url, SECONDS(5), e);
    pthread_join(thread, NULL);
    shrink(x->server);
    shrink(x->client);
    return rc;
}

static void close_ends(struct ends *x)
{
    net_close(x->server);
    net_close(x->client);
}

/* --- Writing without waiting. --------------------------------------------------- */

static uint8_t byte_at(size_t i)
{
    return (uint8_t)(i * 131 + (i >> 8));
}

/* Write as grpcserver.c does: what is left is written again, by other iovecs,
 * when there is room; and read a little at a time. */
static void test_partial_writes(struct ends *x)
{
    uint8_t *out = xmalloc(LARGE), *in = xmalloc(LARGE);
    size_t sent = 0, got = 0, partial = 0;

    for (size_t i = 0; i < LARGE; i++)
        out[i] = byte_at(i);
    while (got < LARGE) {
        size_t step = 1 + (sent * 7 + got) % 40000;
        size_t first = sent + step / 3 < LARGE ? step / 3 : 0;
        struct iovec iov[2] = {{out + sent, first}, {out + sent + first, 0}};
        struct iovec *rest = iov;
        int n = 2;
        ssize_t r;

        iov[1].iov_len =
            sent + step < LARGE ? step - first : LARGE - sent - first;
        step = iov[0].iov_len + iov[1].iov_len;
        if (sent < LARGE) {
            CHECK(net_try_writev(x->server, &rest, &n) == 0);
            for (int i = 0; i < n; i++)
                step -= rest[i].iov_len;
            partial += n > 0;
            sent += step;
        }
        r = net_try_read(x->client, in + got,
                         LARGE - got < 5000 ? LARGE - got : 5000);
        if (r == NET_ETIMEOUT)
            continue;
        CHECK(r > 0);
        if (r <= 0)
            break;
        got += (size_t)r;
    }
    CHECK(sent == LARGE && got == LARGE && memcmp(in, out, LARGE) == 0);
    CHECK(partial > 10); /* or this was no test */
    free(out);
    free(in);
}

/* A poll does not tell what is read already. */
static void test_buffered(struct ends *x)
{
    struct pollfd p = {.fd = net_fd(x->client), .events = POLLIN};
    char text[8];

    CHECK(!net_stale(x->client));
    CHECK(net_write(x->server, "abcdef", 6, SECONDS(5)) == 0);
    CHECK(net_wait_readable(x->client, SECONDS(5)) == 0);
    CHECK(net_read(x->client, text, 2, SECONDS(5)) == 2);
    CHECK(poll(&p, 1, 0) == 0);
    CHECK(net_buffered(x->client) && net_stale(x->client));
    CHECK(net_wait_readable(x->client, SECONDS(5)) == 0);
    net_trim(x->client); /* loses nothing */
    CHECK(net_try_read(x->client, text, sizeof(text)) == 4);
    CHECK(memcmp(text, "cdef", 4) == 0);
    CHECK(!net_buffered(x->client) && !net_stale(x->client));
    CHECK(net_try_read(x->client, text, sizeof(text)) == NET_ETIMEOUT);
    CHECK(net_read(x->client, text, 1, sys_mono_ns() + NS_PER_MS) ==
          NET_ETIMEOUT);
}

/* An end that was said, and one that was not. */
static void test_ends(struct secure *server, struct secure *client)
{
    struct ends x;
    struct err e;
    char c;

    CHECK(connect_ends(&x, server, client, &e) == 0);
    net_shutdown_write(x.server);
    CHECK(net_read(x.client, &c, 1, SECONDS(5)) == 0);
    CHECK(net_buffered(x.client)); /* the end */
    CHECK(net_write(x.client, "x", 1, SECONDS(5)) == 0);
    CHECK(net_read(x.server, &c, 1, SECONDS(5)) == 1);
    close_ends(&x);

    CHECK(connect_ends(&x, server, client, &e) == 0);
    net_shutdown(x.server);
    CHECK(net_read(x.client, &c, 1, SECONDS(5)) == NET_EIO);
    CHECK_STR(net_trouble(x.client), "unexpected EOF");
    CHECK(net_stale(x.client));
    close_ends(&x);
}

/* --- Files. ------------------------------------------------------------------- */

static void test_files(void)
{
    struct secure *server, *client;
    struct ends x;
    struct err e;
    int64_t when;

    put("cert.pem", p256_cert);
    put("key.pem", rsa_key);
    CHECK(secure_of(true, true, &e) == NULL && strstr(e.msg, "key.pem: tls: "));
    put("key.pem", p256_key);
    server = secure_of(true, true, &e);
    client = secure_of(false, true, &e);
    CHECK(server && client && secure_not_after(server, &when) && when > 0);

    CHECK(connect_ends(&x, server, client, &e) == 0 && x.accepted == 0);
    CHECK(str_eqz(net_peer_cn(x.server), "p256"));
    CHECK(str_eqz(net_peer_cn(x.client), "p256"));
    test_partial_writes(&x);
    test_buffered(&x);
    close_ends(&x);
    test_ends(server, client);

    /* Half a change changes nothing; all of it does. */
    put("cert.pem", rsa_cert);
    secure_reload(server);
    CHECK(connect_ends(&x, server, client, &e) == 0);
    CHECK(str_eqz(net_peer_cn(x.client), "p256"));
    close_ends(&x);
    put("key.pem", rsa_key);
    secure_reload(server);
    CHECK(connect_ends(&x, server, client, &e) == 0);
    CHECK(str_eqz(net_peer_cn(x.client), "rsa"));
    close_ends(&x);
    secure_free(client);

    /* Who shows nothing is turned away. */
    client = secure_of(false, false, &e);
    if (connect_ends(&x, server, client, &e) == 0) {
        char c;

        CHECK(net_read(x.client, &c, 1, SECONDS(5)) == NET_EIO);
        CHECK_STR(net_trouble(x.client),
                  "remote error: tls: certificate required");
    }
    CHECK(x.accepted < 0);
    close_ends(&x);
    secure_free(client);
    secure_free(server);
}

/* --- Where a certificate may come from. ------------------------------------------ */

/* What secure_accept() says of a client here whose certificate has these names. */
static int accepted_with(const struct str *names, size_t n)
{
    char *own = path_of("own"), *cert = path_of("own/cert.pem");
    char *key = path_of("own/key.pem");
    struct secure_options o = {.what = "test", .skip_verify = true};
    struct secure *both;
    struct ends x;
    struct err e;

    o.cert_file = o.ca_file = cert;
    o.key_file = key;
    CHECK(secure_self_sign(own, names, n, 1, &e) == 0);
    both = secure_new(&o, &e);
    CHECK(both && connect_ends(&x, both, both, &e) == 0);
    close_ends(&x);
    secure_free(both);
    CHECK(sys_remove_all(own, &e) == 0);
    free(own);
    free(cert);
    free(key);
    return x.accepted;
}

/* A name server that never answers, in resolv.conf: its socket. */
static int silent_server(void)
{
    struct sockaddr_in sa = {.sin_family = AF_INET};
    socklen_t len = sizeof(sa);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    char *text;

    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&sa, &len) == 0);
    text = xasprintf("nameserver [127.0.0.1]:%d\n", ntohs(sa.sin_port));
    put("resolv.conf", text);
    free(text);
    return fd;
}

static void test_origin(void)
{
    const struct str here = STR("localhost"), nul = STR("localhost\0.invalid");
    char *conf = path_of("resolv.conf");
    int fd = silent_server();
    struct str many[20];
    int64_t begun;

    dns_set_files(NULL, conf);
    CHECK(accepted_with(&here, 1) == 0);
    accept_s = 1;
    CHECK(accepted_with(&nul, 1) < 0);
    for (size_t i = 0; i < ARRAY_LEN(many); i++)
        many[i] = STR("nowhere.invalid");
    begun = sys_mono_ns();
    CHECK(accepted_with(many, ARRAY_LEN(many)) < 0);
    CHECK(sys_mono_ns() - begun < 10 * NS_PER_S); /* for all of them */
    close(fd);
    free(conf);
}

int main(void)
{
    struct err e;
    char raw[] = "https://127.0.0.1:0";

    if (!secure_available) {
        printf("skipped: built without TLS\n");
        return 0;
    }
    snprintf(dir, sizeof(dir), "/tmp/nettls_test.XXXXXX");
    if (!mkdtemp(dir))
        return 1;
    put("ca.pem", ca_cert);
    CHECK(url_parse(str_of(raw), &url, &e) == 0);
    CHECK(net_listen(&url, NULL, &listener, &e) == 0);
    url_release(&url);
    CHECK(url_parse(str_of(listener.url.raw), &url, &e) == 0);
    test_files();
    test_origin();
    net_listener_close(&listener);
    url_release(&url);
    CHECK(sys_remove_all(dir, &e) == 0);
    return check_done("nettls");
}
