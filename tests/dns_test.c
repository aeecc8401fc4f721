/*
 * dns_test.c - the resolver: its codec from tables, and lookups against a
 * server of our own on 127.0.0.1 that also lies, cuts and stays silent.
 */
#include "check.h"
#include "dns.h"
#include "sys.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

/* --- Codec. ------------------------------------------------------------- */

static void test_encode(void)
{
    static const uint8_t want[] = {
        0x12, 0x34, 1,   0,   0, 1,   0,   0, 0, 0,  0, 0, /* header */
        3,    'w',  'w', 'w', 2, 'a', 'b', 0, 0, 28, 0, 1};
    static const char *const bad[] = {"", ".", "a..b", ".a", "a.."};
    char label[70], name[300];
    struct buf b = {0};

    CHECK(dns_encode_query(&b, 0x1234, "www.ab", DNS_AAAA) == 0);
    CHECK(b.len == sizeof(want) && memcmp(b.data, want, b.len) == 0);
    buf_clear(&b);
    CHECK(dns_encode_query(&b, 0x1234, "www.ab.", DNS_AAAA) == 0);
    CHECK(b.len == sizeof(want) && memcmp(b.data, want, b.len) == 0);

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        CHECK(dns_encode_query(&b, 1, bad[i], DNS_A) == DNS_EIO);
    memset(label, 'a', sizeof(label));
    label[63] = '\0';
    CHECK(dns_encode_query(&b, 1, label, DNS_A) == 0);
    label[63] = 'a';
    label[64] = '\0';
    CHECK(dns_encode_query(&b, 1, label, DNS_A) == DNS_EIO);
    for (int i = 0; i < 254; i++)
        name[i] = i % 2 ? '.' : 'a';
    name[253] = '\0';
    CHECK(dns_encode_query(&b, 1, name, DNS_A) == 0);
    name[253] = 'a';
    name[254] = '\0';
    CHECK(dns_encode_query(&b, 1, name, DNS_A) == DNS_EIO);
    buf_release(&b);
}

static void test_name(void)
{
    static const uint8_t msg[] = {
        3,    'w', 'w',  'w', 0xc0, 6, 2, 'a', 'b', 0, /* 0: points forward */
        3,    'f', 't',  'p', 0xc0, 6,                 /* 10: ftp.ab */
        0xc0, 10,                                      /* 16: the same */
        0xc0, 18,                                      /* 18: itself */
        1,    'x', 0xc0, 20, /* 20: a loop with a label */
        0x40, 'x',           /* 24: a label type unknown */
        1,    '.', 0,        /* 26: a dot in a label */
        5,    'a',           /* 29: cut */
    };
    char out[256];

    CHECK(dns_name(msg, sizeof(msg), 0, out) == DNS_EIO);
    CHECK(dns_name(msg, sizeof(msg), 6, out) == 0);
    CHECK_STR(out, "ab");
    CHECK(dns_name(msg, sizeof(msg), 10, out) == 0);
    CHECK_STR(out, "ftp.ab");
    CHECK(dns_name(msg, sizeof(msg), 16, out) == 0);
    CHECK_STR(out, "ftp.ab");
    for (size_t off = 18; off < sizeof(msg) + 2; off++)
        if (off != 22 && off != 28)
            CHECK(dns_name(msg, sizeof(msg), off, out) == DNS_EIO);
}

/* A name may be no longer than 255 bytes, however it is put together. */
static void test_long_name(void)
{
    uint8_t msg[600];
    size_t n = 0;
    char out[256];

    for (int i = 0; i < 8; i++) {
        msg[n++] = 62;
        memset(msg + n, 'a', 62);
        n += 62;
    }
    msg[n++] = 0;
    CHECK(dns_name(msg, n, 0, out) == DNS_EIO);
    CHECK(dns_name(msg, n, n - 1 - 4 * 63, out) == 0);
    CHECK(strlen(out) == 4 * 63 - 1);
    CHECK(dns_name(msg, n, n - 1 - 5 * 63, out) == DNS_EIO);
}

/* --- Building answers, here and in the server below. -------------------- */

static void add16(struct buf *b, unsigned v)
{
    buf_addc(b, (char)(v >> 8));
    buf_addc(b, (char)v);
}

static void add_name(struct buf *b, const char *name)
{
    struct str s = str_of(name), label;
    bool more;

    do {
        more = str_cut(&s, '.', &label);
        buf_addc(b, (char)label.n);
        buf_addstr(b, label);
    } while (more);
    buf_addc(b, 0);
}

/* The record's name is a pointer to the question. */
static void add_record(struct buf *b, unsigned type, const void *data, size_t n)
{
    add16(b, 0xc00c);
    add16(b, type);
    add16(b, 1);
    add16(b, 0);
    add16(b, 60);
    add16(b, (unsigned)n);
    buf_add(b, data, n);
    b->data[7]++; /* answers */
}

static void add_cname(struct buf *b, const char *target)
{
    struct buf name = {0};

    add_name(&name, target);
    add_record(b, DNS_CNAME, name.data, name.len);
    buf_release(&name);
}

static void add_ptr(struct buf *b, const char *name)
{
    struct buf data = {0};

    add_name(&data, name);
    add_record(b, DNS_PTR, data.data, data.len);
    buf_release(&data);
}

static void add_srv(struct buf *b, unsigned priority, unsigned weight,
                    unsigned port, const char *target)
{
    struct buf data = {0};

    add16(&data, priority);
    add16(&data, weight);
    add16(&data, port);
    add_name(&data, target);
    add_record(b, DNS_SRV, data.data, data.len);
    buf_release(&data);
}

static void make_answer(struct buf *b, const uint8_t *query, size_t n)
{
    buf_clear(b);
    buf_add(b, query, n);
    b->data[2] |= 0x80;
}

static void count_answer(void *arg, enum dns_type type, const uint8_t *rdata,
                         size_t n, const uint8_t *msg, size_t n_msg)
{
    CHECK(rdata >= msg && rdata + n <= msg + n_msg);
    CHECK(type == DNS_A || type == DNS_CNAME || n_msg > 0);
    ++*(int *)arg;
}

static int decode_copy(const struct buf *b, size_t n, uint16_t id, int *count)
{
    uint8_t *copy = xmalloc(n);
    int rc;

    if (n)
        memcpy(copy, b->data, n);
    *count = 0;
    rc = dns_decode_answer(copy, n, id, count_answer, count);
    free(copy);
    return rc;
}

static void test_decode(void)
{
    struct buf query = {0}, b = {0};
    int count;

    dns_encode_query(&query, 7, "a.test", DNS_A);
    CHECK(decode_copy(&query, query.len, 7, &count) == DNS_EIO); /* a query */
    make_answer(&b, query.data, query.len);
    add_cname(&b, "b.test");
    add_record(&b, DNS_A, "\x0a\0\0\1", 4);
    CHECK(decode_copy(&b, b.len, 7, &count) == DNS_OK && count == 2);
    CHECK(decode_copy(&b, b.len, 8, &count) == DNS_EIO);
    for (size_t n = 0; n < b.len; n++)
        CHECK(decode_copy(&b, n, 7, &count) == DNS_EIO);
    for (size_t i = 0; i < b.len; i++) { /* each byte changed */
        for (int c = 0; c < 256; c++) {
            uint8_t was = b.data[i];

            b.data[i] = (uint8_t)c;
            if (decode_copy(&b, b.len, 7, &count) > DNS_CUT)
                CHECK(!"result out of range");
            b.data[i] = was;
        }
    }
    b.data[3] |= DNS_NXDOMAIN;
    CHECK(decode_copy(&b, b.len, 7, &count) == DNS_NXDOMAIN && count == 0);
    b.data[2] |= 2;
    CHECK(decode_copy(&b, b.len, 7, &count) == DNS_CUT && count == 0);
    buf_release(&query);
    buf_release(&b);
}

/* --- A server. ---------------------------------------------------------- */

#define V6_ARPA                                                                \
    "4.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa"

static struct {
    int udp, tcp, stop[2];
    uint16_t port;
    pthread_t thread;
} fake;

/* What is asked: the name in dots, and the type. */
static int question(const uint8_t *q, size_t n, char name[256])
{
    size_t off = 12;

    if (dns_name(q, n, off, name) < 0)
        return 0;
    while (off < n && q[off])
        off += q[off] + 1u;
    return off + 3 <= n ? q[off + 1] << 8 | q[off + 2] : 0;
}

/* Answers with an error or in a special way; false for all other names. */
static bool answer_badly(struct buf *b, const char *name, bool by_tcp)
{
    if (strcmp(name, "fail.test") == 0)
        b->data[3] |= DNS_SERVFAIL;
    else if (strcmp(name, "cut.test") == 0 && !by_tcp)
        b->data[2] |= 2;
    else if (strcmp(name, "junk.test") == 0)
        b->len = 13;
    else
        return false;
    return true;
}

/* Below sub.test there are only two names. */
static bool exists(const char *name)
{
    if (strstr(name, ".sub.test"))
        return strcmp(name, "short.sub.test") == 0 ||
               strcmp(name, "a.b.sub.test") == 0;
    return strcasestr(name, ".test") && !strstr(name, "nohost");
}

static void answer(struct buf *b, const char *name, int type, bool by_tcp)
{
    static const uint8_t v6[16] = {0xfd, [15] = 1};

    if (answer_badly(b, name, by_tcp))
        return;
    if (strcmp(name, "alias.test") == 0)
        add_cname(b, "a.test");
    if (strcmp(name, "chain.test") == 0) {
        add_cname(b, "alias.test");
    } else if (strcmp(name, "loop.test") == 0) {
        add_cname(b, "loop.test");
    } else if (strcmp(name, "_etcd-server._tcp.test") == 0) {
        add_srv(b, 20, 0, 3, "three.test");
        add_srv(b, 10, 1, 2, "two.test");
        add_srv(b, 10, 5, 1, "one.test");
    } else if (strcmp(name, "cut.test") == 0) {
        for (int i = 0; i < 30 && type == DNS_A; i++)
            add_record(b, DNS_A, "\x0a\0\0\x07", 4);
    } else if (strcmp(name, "only6.test") == 0) {
        if (type == DNS_AAAA)
            add_record(b, DNS_AAAA, v6, 16);
    } else if (strcmp(name, "4.0.0.10.in-addr.arpa") == 0) {
        add_ptr(b, "four.test");
        add_ptr(b, "IV.test");
    } else if (strcmp(name, V6_ARPA) == 0) {
        add_ptr(b, "six.test");
    } else if (!exists(name)) {
        b->data[3] |= DNS_NXDOMAIN;
    } else if (type == DNS_A) {
        add_record(b, DNS_A, "\x0a\0\0\1", 4);
    } else {
        add_record(b, DNS_AAAA, v6, 16);
    }
}

static void serve_udp(void)
{
    struct sockaddr_storage from;
    socklen_t len = sizeof(from);
    uint8_t q[512];
    char name[256];
    struct buf b = {0};
    ssize_t n =
        recvfrom(fake.udp, q, sizeof(q), 0, (struct sockaddr *)&from, &len);
    int type = n > 12 ? question(q, (size_t)n, name) : 0;

    if (!type || strcmp(name, "silent.test") == 0)
        return;
    make_answer(&b, q, (size_t)n);
    if (strcmp(name, "forged.test") == 0) { /* three that must not count */
        add_record(&b, DNS_A, "\x06\6\6\6", 4);
        b.data[1] ^= 1;
        sendto(fake.udp, b.data, b.len, 0, (struct sockaddr *)&from, len);
        b.data[1] ^= 1;
        b.data[14] ^= 2;
        sendto(fake.udp, b.data, b.len, 0, (struct sockaddr *)&from, len);
        sendto(fake.udp, "", 0, 0, (struct sockaddr *)&from, len);
        make_answer(&b, q, (size_t)n);
    }
    answer(&b, name, type, false);
    sendto(fake.udp, b.data, b.len, 0, (struct sockaddr *)&from, len);
    buf_release(&b);
}

static void serve_tcp(void)
{
    int fd = accept(fake.tcp, NULL, NULL);
    uint8_t q[512], size[2];
    char name[256];
    struct buf b = {0};
    ssize_t n;
    int type;

    if (recv(fd, size, 2, MSG_WAITALL) == 2) {
        n = recv(fd, q, sizeof(q), 0);
        type = n > 12 ? question(q, (size_t)n, name) : 0;
        make_answer(&b, q, n > 0 ? (size_t)n : 0);
        answer(&b, name, type, true);
        size[0] = (uint8_t)(b.len >> 8);
        size[1] = (uint8_t)b.len;
        if (send(fd, size, 2, MSG_NOSIGNAL) == 2) /* in pieces */
            send(fd, b.data, b.len, MSG_NOSIGNAL);
    }
    close(fd);
    buf_release(&b);
}

static void *fake_main(void *arg)
{
    struct pollfd p[3] = {{.fd = fake.udp, .events = POLLIN},
                          {.fd = fake.tcp, .events = POLLIN},
                          {.fd = fake.stop[0], .events = POLLIN}};

    while (poll(p, 3, -1) > 0 && !p[2].revents) {
        if (p[0].revents)
            serve_udp();
        if (p[1].revents)
            serve_tcp();
    }
    return arg;
}

static char dir[] = "/tmp/dns_test.XXXXXX";

static void write_file(const char *name, const char *text)
{
    char *path = xasprintf("%s/%s", dir, name);

    CHECK(sys_write_file_atomic(path, text, strlen(text), 0600, NULL) == 0);
    free(path);
}

/* resolv.conf: a port where nobody serves, then the fake server. */
static void write_conf(const char *more)
{
    char *text = xasprintf("# comment\nnameserver [127.0.0.1]:1\n"
                           "nameserver [127.0.0.1]:%u\nnonsense\n%s",
                           fake.port, more);

    write_file("resolv.conf", text);
    free(text);
}

static void start_fake(void)
{
    struct sockaddr_in sa = {.sin_family = AF_INET};
    socklen_t len = sizeof(sa);
    int tries = 0;

    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    do { /* the same port for both, which somebody else may have */
        if (tries++)
            close(fake.udp), close(fake.tcp);
        fake.tcp = socket(AF_INET, SOCK_STREAM, 0);
        fake.udp = socket(AF_INET, SOCK_DGRAM, 0);
        sa.sin_port = 0;
        CHECK(bind(fake.tcp, (struct sockaddr *)&sa, sizeof(sa)) == 0);
        CHECK(getsockname(fake.tcp, (struct sockaddr *)&sa, &len) == 0);
    } while (bind(fake.udp, (struct sockaddr *)&sa, sizeof(sa)) < 0 &&
             tries < 20);
    CHECK(listen(fake.tcp, 8) == 0 && pipe(fake.stop) == 0);
    fake.port = ntohs(sa.sin_port);
    pthread_create(&fake.thread, NULL, fake_main, NULL);
}

static void stop_fake(void)
{
    CHECK(write(fake.stop[1], "x", 1) == 1);
    pthread_join(fake.thread, NULL);
    close(fake.udp);
    close(fake.tcp);
    close(fake.stop[0]);
    close(fake.stop[1]);
}

/* --- Lookups. ----------------------------------------------------------- */

static void print_addrs(const struct dns_addr *a, size_t n, char *out,
                        size_t size)
{
    size_t len = 0;

    out[0] = '\0';
    for (size_t i = 0; i < n; i++) {
        char ip[INET6_ADDRSTRLEN];
        unsigned port;

        if (a[i].ss.ss_family == AF_INET) {
            struct sockaddr_in v4;

            memcpy(&v4, &a[i].ss, sizeof(v4));
            inet_ntop(AF_INET, &v4.sin_addr, ip, sizeof(ip));
            port = ntohs(v4.sin_port);
        } else {
            struct sockaddr_in6 v6;

            memcpy(&v6, &a[i].ss, sizeof(v6));
            inet_ntop(AF_INET6, &v6.sin6_addr, ip, sizeof(ip));
            port = ntohs(v6.sin6_port);
        }
        len += (size_t)snprintf(out + len, size - len, "%s%s:%u", i ? " " : "",
                                ip, port);
    }
}

static int64_t after_ms(int64_t ms)
{
    return sys_mono_ns() + ms * NS_PER_MS;
}

static void test_lookups(void)
{
    /* clang-format off */
    static const struct {
        const char *host, *want;
        int code; /* then want is the error; %s is the server */
    } cases[] = {
        {"10.1.2.3", "10.1.2.3:7", 0},
        {"::1", "::1:7", 0},
        {"fe80::1%1", "fe80::1:7", 0},
        {"localhost", "127.0.0.1:7 ::1:7", 0},
        {"LocalHost.", "127.0.0.1:7 ::1:7", 0},
        {"myhost", "10.9.9.9:7 fd00::9:7", 0},
        {"MYALIAS", "10.9.9.9:7", 0},
        {"a.test", "10.0.0.1:7 fd00::1:7", 0},
        {"A.Test.", "10.0.0.1:7 fd00::1:7", 0},
        {"alias.test", "10.0.0.1:7 fd00::1:7", 0},
        {"chain.test", "10.0.0.1:7 fd00::1:7", 0},
        {"only6.test", "fd00::1:7", 0},
        {"forged.test", "10.0.0.1:7 fd00::1:7", 0},
        {"short", "10.0.0.1:7 fd00::1:7", 0}, /* short.sub.test */
        {"cut.test", "10.0.0.7:7 10.0.0.7:7 10.0.0.7:7 10.0.0.7:7 10.0.0.7:7 10.0.0.7:7 10.0.0.7:7 10.0.0.7:7 "
                     "10.0.0.7:7 10.0.0.7:7 10.0.0.7:7 10.0.0.7:7 10.0.0.7:7 10.0.0.7:7 10.0.0.7:7 10.0.0.7:7", 0},
        {"nohost.test", "lookup nohost.test on %s: no such host", DNS_ENONE},
        {"nohost", "lookup nohost on %s: no such host", DNS_ENONE},
        {"loop.test", "lookup loop.test on %s: no such host", DNS_ENONE},
        {"fail.test", "lookup fail.test on %s: server misbehaving", DNS_EIO},
        {"a..b", "lookup a..b: no such host", DNS_ENONE},
        {"", "lookup : no such host", DNS_ENONE},
        {"1.2.3.4.5", "lookup 1.2.3.4.5 on %s: no such host", DNS_ENONE},
    };
    /* clang-format on */
    char server[32];

    snprintf(server, sizeof(server), "127.0.0.1:%u", fake.port);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct dns_addr addrs[DNS_ADDRS_MAX];
        struct err e = {0};
        char got[1024];
        size_t n = 99;
        int rc = dns_lookup(cases[i].host, 7, after_ms(3000), addrs, &n, &e);

        CHECK(rc == cases[i].code);
        if (rc == 0) {
            print_addrs(addrs, n, got, sizeof(got));
            CHECK_STR(got, cases[i].want);
        } else {
            const char *at = strstr(cases[i].want, "%s");

            if (at)
                snprintf(got, sizeof(got), "%.*s%s%s",
                         (int)(at - cases[i].want), cases[i].want, server,
                         at + 2);
            CHECK_STR(e.msg, at ? got : cases[i].want);
            CHECK(n == 99 && e.code == rc);
        }
    }
}

/* Nobody answers: the deadline holds, and nothing is asked after it. */
static void test_silence(void)
{
    struct dns_addr addrs[DNS_ADDRS_MAX];
    int64_t began = sys_mono_ns();
    struct err e;
    size_t n;

    CHECK(dns_lookup("silent.test", 7, after_ms(60), addrs, &n, &e) ==
          DNS_ETIMEOUT);
    CHECK(strstr(e.msg, "lookup silent.test on ") && strstr(e.msg, "timeout"));
    CHECK(sys_mono_ns() - began < 3 * NS_PER_S);
    CHECK(dns_lookup("junk.test", 7, after_ms(60), addrs, &n, &e) ==
          DNS_ETIMEOUT); /* no answer either */
}

static void test_srv(void)
{
    struct dns_srv srv[DNS_SRV_MAX];
    struct err e;
    size_t n = 0;

    CHECK(dns_lookup_srv("_etcd-server._tcp.test", after_ms(3000), srv, &n,
                         &e) == 0);
    CHECK(n == 3);
    if (n == 3) {
        CHECK(srv[0].priority == 10 && srv[0].weight == 5 && srv[0].port == 1);
        CHECK_STR(srv[0].target, "one.test");
        CHECK_STR(srv[1].target, "two.test");
        CHECK_STR(srv[2].target, "three.test");
    }
    CHECK(dns_lookup_srv("_x._tcp.nohost.test", after_ms(3000), srv, &n, &e) ==
          DNS_ENONE);
}

static void test_names(void)
{
    static const struct {
        const char *ip, *want;
        int code;
    } cases[] = {
        {"10.0.0.4", "four.test IV.test ", 0}, {"fd00::4", "six.test ", 0},
        {"10.9.9.9", "myhost myalias ", 0}, /* the hosts file */
        {"10.0.0.5", "", DNS_ENONE},           {"a.test", "", DNS_ENONE},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char names[DNS_NAMES_MAX][DNS_NAME_SIZE];
        struct buf got = {0};
        struct err e;
        size_t n = 0;

        CHECK(dns_lookup_addr(cases[i].ip, after_ms(3000), names, &n, &e) ==
              cases[i].code);
        for (size_t k = 0; k < n; k++)
            buf_printf(&got, "%s ", names[k]);
        CHECK_STR(buf_z(&got), cases[i].want);
        buf_release(&got);
    }
}

/* ndots: a name with enough dots is tried as it is first. */
static void test_search(void)
{
    struct dns_addr addrs[DNS_ADDRS_MAX];
    struct err e;
    size_t n;

    write_conf("search none.example sub.test\noptions ndots:3\n");
    CHECK(dns_lookup("a.b", 7, after_ms(3000), addrs, &n, &e) == 0);
    write_conf("domain none.example\n");
    CHECK(dns_lookup("a.b", 7, after_ms(3000), addrs, &n, &e) == DNS_ENONE);
    write_conf("search sub.test\noptions timeout:1 attempts:1\n");
    CHECK(dns_lookup("a.b.", 7, after_ms(3000), addrs, &n, &e) == DNS_ENONE);
}

int main(void)
{
    char hosts[64], conf[64];

    test_encode();
    test_name();
    test_long_name();
    test_decode();

    CHECK(mkdtemp(dir) != NULL);
    snprintf(hosts, sizeof(hosts), "%s/hosts", dir);
    snprintf(conf, sizeof(conf), "%s/resolv.conf", dir);
    dns_set_files(hosts, conf);
    write_file("hosts", "# x\n10.9.9.9\tmyhost myalias # myhost2\r\n"
                        "bad a.test\nfd00::9 myhost\n");
    start_fake();
    write_conf("search sub.test\n");
    test_lookups();
    test_silence();
    test_srv();
    test_names();
    test_search();
    stop_fake();
    CHECK(sys_remove_all(dir, NULL) == 0);
    return check_done("dns");
}
