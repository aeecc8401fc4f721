/*
 * dns.c - a stub resolver.
 *
 *   name -> numeric? -> localhost? -> hosts file? -> candidates by search list
 *        -> each server, each try: A and AAAA at once by UDP, TCP if cut
 *        -> CNAME without addresses: ask for its target, at most 8 times
 *
 * Both questions travel on one connected socket, so the kernel drops what
 * other hosts send; an answer counts only if its random id and its echoed
 * question fit (RFC 5452). A server that fails is passed over; what one server
 * says about the existence of a name is final.
 *
 * The files are read anew for each lookup: they are small, lookups are rare,
 * and a router's addresses change under a running server.
 */
#include "dns.h"
#include "sys.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <strings.h>
#include <sys/time.h>
#include <unistd.h>

#define HEADER_LEN 12
#define QUESTION_TAIL 4 /* type and class */
#define CLASS_IN 1
#define NAME_BUF DNS_NAME_SIZE
#define LABEL_MAX 63
#define UDP_MAX 4096
#define TCP_MAX 65535
#define FILE_MAX (256 * 1024)

#define SERVERS_MAX 3
#define SEARCH_MAX 6
#define CHAIN_MAX 8
#define QUESTIONS_MAX 2
#define TIMEOUT_MS_MAX 30000
#define ATTEMPTS_MAX 5

static const char *hosts_file = "/etc/hosts";
static const char *resolv_file = "/etc/resolv.conf";

void dns_set_files(const char *hosts, const char *resolv_conf)
{
    if (hosts)
        hosts_file = hosts;
    if (resolv_conf)
        resolv_file = resolv_conf;
}

/* --- Codec. ------------------------------------------------------------- */

static unsigned get16(const uint8_t *p)
{
    return (unsigned)p[0] << 8 | p[1];
}

static void add16(struct buf *b, unsigned v)
{
    buf_addc(b, (char)(v >> 8));
    buf_addc(b, (char)v);
}

/* A name without its final dot is at most 253 characters, a label 63. */
static bool is_name(struct str s)
{
    struct str label;
    bool more;

    if (s.n == 0 || s.n > NAME_BUF - 3)
        return false;
    do {
        more = str_cut(&s, '.', &label);
        if (label.n == 0 || label.n > LABEL_MAX)
            return false;
    } while (more);
    return true;
}

static struct str without_final_dot(const char *name)
{
    struct str s = str_of(name);

    if (s.n && s.p[s.n - 1] == '.')
        s.n--;
    return s;
}

int dns_encode_query(struct buf *b, uint16_t id, const char *name,
                     enum dns_type type)
{
    struct str s = without_final_dot(name), label;
    bool more;

    if (!is_name(s))
        return DNS_EIO;
    add16(b, id);
    add16(b, 0x0100); /* recursion desired */
    add16(b, 1);      /* one question, no records */
    for (int i = 0; i < 3; i++)
        add16(b, 0);
    do {
        more = str_cut(&s, '.', &label);
        buf_addc(b, (char)label.n);
        buf_addstr(b, label);
    } while (more);
    buf_addc(b, 0);
    add16(b, type);
    add16(b, CLASS_IN);
    return 0;
}

int dns_name(const uint8_t *msg, size_t n, size_t off, char out[256])
{
    size_t len = 0, floor = off;

    for (;;) {
        size_t label;

        if (off >= n)
            return DNS_EIO;
        label = msg[off++];
        if (label == 0)
            break;
        if (label >= 0xc0) { /* a pointer; going back only, it ends */
            if (off >= n)
                return DNS_EIO;
            off = (label & 0x3f) << 8 | msg[off];
            if (off >= floor)
                return DNS_EIO;
            floor = off;
            continue;
        }
        if (label > LABEL_MAX || label > n - off ||
            len + label + 1 > NAME_BUF - 2)
            return DNS_EIO;
        if (len)
            out[len++] = '.';
        for (; label > 0; label--, off++) {
            if (msg[off] <= ' ' || msg[off] == '.' || msg[off] == 0x7f)
                return DNS_EIO;
            out[len++] = (char)msg[off];
        }
    }
    out[len] = '\0';
    return 0;
}

/* The offset after the name at off, or 0 if it does not end in time. */
static size_t skip_name(const uint8_t *msg, size_t n, size_t off)
{
    while (off < n) {
        size_t label = msg[off];

        if (label == 0)
            return off + 1;
        if (label >= 0xc0)
            return off + 2;
        if (label > LABEL_MAX)
            return 0;
        off += label + 1;
    }
    return 0;
}

int dns_decode_answer(const uint8_t *msg, size_t n, uint16_t id, dns_answer *fn,
                      void *arg)
{
    unsigned flags, questions, answers;
    size_t off = HEADER_LEN;

    if (n < HEADER_LEN || get16(msg) != id)
        return DNS_EIO;
    flags = get16(msg + 2);
    questions = get16(msg + 4);
    answers = get16(msg + 6);
    if (!(flags & 0x8000) || flags & 0x7800) /* an answer, to a query */
        return DNS_EIO;
    if (flags & 0x0200)
        return DNS_CUT;
    if (flags & 0x000f)
        return (int)(flags & 0x000f);

    for (; questions > 0; questions--) {
        off = skip_name(msg, n, off);
        if (off == 0 || n < off || n - off < QUESTION_TAIL)
            return DNS_EIO;
        off += QUESTION_TAIL;
    }
    for (; answers > 0; answers--) {
        unsigned type, class;
        size_t len;

        off = skip_name(msg, n, off);
        if (off == 0 || n < off || n - off < 10) /* type class ttl length */
            return DNS_EIO;
        type = get16(msg + off);
        class = get16(msg + off + 2);
        len = get16(msg + off + 8);
        off += 10;
        if (n - off < len)
            return DNS_EIO;
        if (class == CLASS_IN)
            fn(arg, (enum dns_type)type, msg + off, len, msg, n);
        off += len;
    }
    return DNS_OK;
}

/* --- Addresses. --------------------------------------------------------- */

static void addr_v4(struct dns_addr *a, const void *ip, uint16_t port)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};

    memcpy(&v4.sin_addr, ip, sizeof(v4.sin_addr));
    memset(&a->ss, 0, sizeof(a->ss));
    memcpy(&a->ss, &v4, sizeof(v4));
    a->len = sizeof(v4);
}

static void addr_v6(struct dns_addr *a, const void *ip, uint32_t scope,
                    uint16_t port)
{
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6,
                              .sin6_port = htons(port),
                              .sin6_scope_id = scope};

    memcpy(&v6.sin6_addr, ip, sizeof(v6.sin6_addr));
    memset(&a->ss, 0, sizeof(a->ss));
    memcpy(&a->ss, &v6, sizeof(v6));
    a->len = sizeof(v6);
}

/* "10.0.0.1", "::1" or "fe80::1%eth0". */
static bool parse_ip(struct str s, uint16_t port, struct dns_addr *out)
{
    char text[INET6_ADDRSTRLEN + IF_NAMESIZE];
    uint8_t ip[16];
    uint64_t scope = 0;
    char *zone;

    if (s.n == 0 || s.n >= sizeof(text))
        return false;
    memcpy(text, s.p, s.n);
    text[s.n] = '\0';
    if (inet_pton(AF_INET, text, ip) == 1) {
        addr_v4(out, ip, port);
        return true;
    }
    zone = strchr(text, '%');
    if (zone) {
        *zone++ = '\0';
        scope = if_nametoindex(zone);
        if (!scope && (!str_to_u64(str_of(zone), &scope) || scope > UINT32_MAX))
            return false;
    }
    if (inet_pton(AF_INET6, text, ip) != 1)
        return false;
    addr_v6(out, ip, (uint32_t)scope, port);
    return true;
}

/* What a lookup has found so far. */
struct found {
    struct dns_addr *addrs; /* IPv4 first */
    size_t n, n_v4;
    uint16_t port;

    struct dns_srv *srvs;
    size_t n_srvs;

    char (*names)[NAME_BUF];
    size_t n_names;

    char cname[NAME_BUF]; /* the last alias seen, or "" */
};

static void add_addr(struct found *f, const struct dns_addr *a)
{
    size_t at = a->ss.ss_family == AF_INET ? f->n_v4 : f->n;

    if (f->n == DNS_ADDRS_MAX)
        return;
    memmove(f->addrs + at + 1, f->addrs + at, (f->n - at) * sizeof(*a));
    f->addrs[at] = *a;
    f->n++;
    f->n_v4 += a->ss.ss_family == AF_INET;
}

/* --- The files. --------------------------------------------------------- */

/* The next blank-separated word of a line; false at its end. */
static bool next_word(struct str *line, struct str *word)
{
    *line = str_trim(*line);
    if (line->n == 0 || line->p[0] == '#' || line->p[0] == ';')
        return false;
    word->p = line->p;
    word->n = 0;
    while (word->n < line->n && word->p[word->n] != ' ' &&
           word->p[word->n] != '\t' && word->p[word->n] != '\r')
        word->n++;
    line->p += word->n;
    line->n -= word->n;
    if (line->n && line->p[0] == '\r')
        line->n = 0;
    return word->n > 0;
}

/* A name of an address; those that are too long are passed over. */
static void add_name(struct found *f, struct str name)
{
    if (f->n_names == DNS_NAMES_MAX || name.n == 0 || name.n >= NAME_BUF)
        return;
    memcpy(f->names[f->n_names], name.p, name.n);
    f->names[f->n_names++][name.n] = '\0';
}

static bool is_same_ip(const struct dns_addr *a, const struct dns_addr *b)
{
    return a->len == b->len && memcmp(&a->ss, &b->ss, a->len) == 0;
}

static void search_hosts_by_addr(const struct dns_addr *addr, struct found *f)
{
    struct buf text = {0};
    struct str rest, line, ip, name;
    struct dns_addr a;
    bool more = sys_read_file(hosts_file, FILE_MAX, &text, NULL) == 0;

    rest = buf_str(&text);
    while (more) {
        more = str_cut(&rest, '\n', &line);
        if (!next_word(&line, &ip) || !parse_ip(ip, 0, &a) ||
            !is_same_ip(&a, addr))
            continue;
        while (next_word(&line, &name))
            add_name(f, name);
    }
    buf_release(&text);
}

static void search_hosts(struct str name, struct found *f)
{
    struct buf text = {0};
    struct str rest, line, ip, alias;
    struct dns_addr a;
    bool more = sys_read_file(hosts_file, FILE_MAX, &text, NULL) == 0;

    rest = buf_str(&text);
    while (more) {
        more = str_cut(&rest, '\n', &line);
        if (!next_word(&line, &ip) || !parse_ip(ip, f->port, &a))
            continue;
        while (next_word(&line, &alias)) {
            if (alias.n == name.n &&
                strncasecmp(alias.p, name.p, name.n) == 0) {
                add_addr(f, &a);
                break;
            }
        }
    }
    buf_release(&text);
}

/* resolv.conf(5). */
struct conf {
    struct dns_addr servers[SERVERS_MAX];
    char names[SERVERS_MAX][64]; /* "10.0.0.1:53", for error texts */
    size_t n_servers;
    char search[SEARCH_MAX][NAME_BUF];
    size_t n_search;
    uint64_t ndots, timeout_ms, attempts;
};

/* "10.0.0.1", or "[10.0.0.1]:5353" as OpenBSD writes another port. */
static void add_server(struct conf *c, struct str s)
{
    struct str host = s, port = STR("53");
    uint64_t number;

    if (c->n_servers == SERVERS_MAX)
        return;
    if (str_has_prefix(s, "[")) {
        s = (struct str){s.p + 1, s.n - 1};
        if (!str_cut(&s, ']', &host) || s.n < 2 || s.p[0] != ':')
            return;
        port = (struct str){s.p + 1, s.n - 1};
    }
    if (!str_to_u64(port, &number) || number > UINT16_MAX ||
        !parse_ip(host, (uint16_t)number, &c->servers[c->n_servers]))
        return;
    snprintf(c->names[c->n_servers], sizeof(c->names[0]),
             memchr(host.p, ':', host.n) ? "[%.*s]:%.*s" : "%.*s:%.*s",
             STR_FMT(host), STR_FMT(port));
    c->n_servers++;
}

static void add_option(struct conf *c, struct str word)
{
    struct str name;
    uint64_t v;

    if (!str_cut(&word, ':', &name) || !str_to_u64(word, &v))
        return;
    if (str_eqz(name, "ndots"))
        c->ndots = min_u64(v, 15);
    else if (str_eqz(name, "timeout"))
        c->timeout_ms = min_u64(max_u64(v, 1) * 1000, TIMEOUT_MS_MAX);
    else if (str_eqz(name, "attempts"))
        c->attempts = min_u64(max_u64(v, 1), ATTEMPTS_MAX);
}

static void add_search(struct conf *c, struct str word)
{
    if (word.n && word.p[word.n - 1] == '.')
        word.n--;
    if (c->n_search == SEARCH_MAX || !is_name(word))
        return;
    memcpy(c->search[c->n_search], word.p, word.n);
    c->search[c->n_search++][word.n] = '\0';
}

static void parse_conf_line(struct conf *c, struct str line)
{
    struct str keyword, word;

    if (!next_word(&line, &keyword))
        return;
    if (str_eqz(keyword, "search") || str_eqz(keyword, "domain"))
        c->n_search = 0; /* the last such line counts */
    while (next_word(&line, &word)) {
        if (str_eqz(keyword, "nameserver"))
            add_server(c, word);
        else if (str_eqz(keyword, "search") || str_eqz(keyword, "domain"))
            add_search(c, word);
        else if (str_eqz(keyword, "options"))
            add_option(c, word);
    }
}

static struct conf *read_conf(void)
{
    struct conf *c = xcalloc(1, sizeof(*c));
    struct buf text = {0};
    struct str rest, line;
    bool more = sys_read_file(resolv_file, FILE_MAX, &text, NULL) == 0;

    c->ndots = 1;
    c->timeout_ms = 5000;
    c->attempts = 2;
    rest = buf_str(&text);
    while (more) {
        more = str_cut(&rest, '\n', &line);
        parse_conf_line(c, line);
    }
    buf_release(&text);
    if (c->n_servers == 0) {
        add_server(c, STR("127.0.0.1"));
        add_server(c, STR("::1"));
    }
    return c;
}

/* --- Asking. ------------------------------------------------------------ */

struct question {
    enum dns_type type;
    uint16_t id;
    struct buf query;
    bool open;
};

struct asking {
    const struct conf *conf;
    int64_t deadline_ns; /* of the whole lookup; 0: none */
    size_t server;       /* the one asked last; conf->n_servers: none yet */
    struct question questions[QUESTIONS_MAX];
    size_t n_questions;
    struct found *found;
};

static void take_record(void *arg, enum dns_type type, const uint8_t *rdata,
                        size_t n, const uint8_t *msg, size_t n_msg)
{
    struct found *f = arg;
    struct dns_addr a;

    if (type == DNS_A && n == 4 && f->addrs) {
        addr_v4(&a, rdata, f->port);
        add_addr(f, &a);
    } else if (type == DNS_AAAA && n == 16 && f->addrs) {
        addr_v6(&a, rdata, 0, f->port);
        add_addr(f, &a);
    } else if (type == DNS_CNAME) {
        dns_name(msg, n_msg, (size_t)(rdata - msg), f->cname);
    } else if (type == DNS_PTR && f->names) {
        char name[NAME_BUF];

        if (dns_name(msg, n_msg, (size_t)(rdata - msg), name) == 0)
            add_name(f, str_of(name));
    } else if (type == DNS_SRV && n > 6 && f->srvs && f->n_srvs < DNS_SRV_MAX) {
        struct dns_srv *s = &f->srvs[f->n_srvs];

        s->priority = (uint16_t)get16(rdata);
        s->weight = (uint16_t)get16(rdata + 2);
        s->port = (uint16_t)get16(rdata + 4);
        if (dns_name(msg, n_msg, (size_t)(rdata - msg) + 6, s->target) == 0)
            f->n_srvs++;
    }
}

/* Does an answer repeat our question? Servers may change the case. */
static bool echoes(const struct question *q, const uint8_t *msg, size_t n)
{
    if (n < q->query.len || get16(msg + 4) != 1)
        return false;
    for (size_t i = HEADER_LEN; i < q->query.len; i++)
        if (tolower(msg[i]) != tolower(q->query.data[i]))
            return false;
    return true;
}

/* How long until the deadline, in ms rounded up; at least 0. */
static int64_t ms_until(int64_t deadline_ns)
{
    int64_t left = deadline_ns - sys_mono_ns();

    return left > 0 ? (left + NS_PER_MS - 1) / NS_PER_MS : 0;
}

static int tcp_transfer(int fd, const struct question *q, uint8_t *msg,
                        size_t *n, int64_t deadline_ns)
{
    uint8_t size[2] = {(uint8_t)(q->query.len >> 8), (uint8_t)q->query.len};
    size_t got = 0, want = 2;

    if (send(fd, size, 2, MSG_NOSIGNAL | MSG_MORE) != 2 ||
        send(fd, q->query.data, q->query.len, MSG_NOSIGNAL) !=
            (ssize_t)q->query.len)
        return DNS_EIO;
    while (got < want) {
        ssize_t r = got < 2 ? recv(fd, size + got, 2 - got, 0)
                            : recv(fd, msg + got - 2, want - got, 0);

        if (r == 0 || (r < 0 && errno != EINTR) || !ms_until(deadline_ns))
            return DNS_EIO;
        got += r > 0 ? (size_t)r : 0;
        if (got == 2)
            want = 2 + get16(size);
    }
    *n = want - 2;
    return 0;
}

/* Ask again by TCP what UDP had to cut (RFC 7766). A response code or
 * DNS_EIO. */
static int ask_tcp(struct asking *a, struct question *q, int64_t deadline_ns)
{
    const struct dns_addr *to = &a->conf->servers[a->server];
    int64_t ms = ms_until(deadline_ns);
    struct timeval tv = {.tv_sec = (time_t)(ms / 1000),
                         .tv_usec = (suseconds_t)(ms % 1000 * 1000)};
    int fd = socket(to->ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    uint8_t *msg;
    size_t n;
    int rc = DNS_EIO;

    if (fd < 0)
        return DNS_EIO;
    msg = xmalloc(TCP_MAX);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)); /* and connect */
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
    if (ms > 0 && connect(fd, (const struct sockaddr *)&to->ss, to->len) == 0 &&
        tcp_transfer(fd, q, msg, &n, deadline_ns) == 0 && echoes(q, msg, n))
        rc = dns_decode_answer(msg, n, q->id, take_record, a->found);
    free(msg);
    close(fd);
    return rc == DNS_CUT ? DNS_EIO : rc;
}

/*
 * One datagram. 0: go on; DNS_OK or DNS_NXDOMAIN settle its question. A server
 * that cannot answer is given up: DNS_EIO.
 */
static int take_datagram(struct asking *a, const uint8_t *msg, size_t n,
                         int64_t deadline_ns)
{
    for (size_t i = 0; i < a->n_questions; i++) {
        struct question *q = &a->questions[i];
        int rc;

        if (!q->open || n < HEADER_LEN || get16(msg) != q->id ||
            !echoes(q, msg, n))
            continue;
        rc = dns_decode_answer(msg, n, q->id, take_record, a->found);
        if (rc == DNS_CUT)
            rc = ask_tcp(a, q, deadline_ns);
        if (rc != DNS_OK && rc != DNS_NXDOMAIN)
            return DNS_EIO;
        q->open = false;
        return 0;
    }
    return 0; /* not for us: noise, or forged */
}

static bool any_open(const struct asking *a)
{
    for (size_t i = 0; i < a->n_questions; i++)
        if (a->questions[i].open)
            return true;
    return false;
}

/* Send what is open on a connected socket and wait for the answers. */
static int exchange(struct asking *a, int fd, int64_t deadline_ns)
{
    uint8_t *msg;
    int rc = 0;

    for (size_t i = 0; i < a->n_questions; i++) {
        const struct question *q = &a->questions[i];

        if (q->open && send(fd, q->query.data, q->query.len, 0) < 0)
            return DNS_EIO;
    }
    msg = xmalloc(UDP_MAX);
    while (rc == 0 && any_open(a)) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int64_t ms = ms_until(deadline_ns);
        ssize_t n;

        if (ms == 0) {
            rc = DNS_ETIMEOUT;
            break;
        }
        if (poll(&p, 1, (int)ms) <= 0)
            continue;
        n = recv(fd, msg, UDP_MAX, MSG_DONTWAIT);
        if (n >= 0)
            rc = take_datagram(a, msg, (size_t)n, deadline_ns);
        else if (errno != EAGAIN && errno != EINTR)
            rc = DNS_EIO; /* refused: nobody serves there */
    }
    free(msg);
    return rc;
}

static int ask_server(struct asking *a, size_t server)
{
    const struct dns_addr *to = &a->conf->servers[server];
    int64_t deadline = sys_mono_ns() + (int64_t)a->conf->timeout_ms * NS_PER_MS;
    int fd = socket(to->ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int rc = DNS_EIO;

    if (fd < 0)
        return DNS_EIO;
    if (a->deadline_ns && a->deadline_ns < deadline)
        deadline = a->deadline_ns;
    a->server = server;
    if (connect(fd, (const struct sockaddr *)&to->ss, to->len) == 0)
        rc = exchange(a, fd, deadline);
    close(fd);
    return rc;
}

static bool out_of_time(const struct asking *a)
{
    return a->deadline_ns && sys_mono_ns() >= a->deadline_ns;
}

/* Put questions about one name to the servers until all are settled. */
static int ask(struct asking *a, const char *name)
{
    int rc = 0;

    for (size_t i = 0; i < a->n_questions; i++) {
        struct question *q = &a->questions[i];

        buf_clear(&q->query);
        sys_random(&q->id, sizeof(q->id));
        if (dns_encode_query(&q->query, q->id, name, q->type) < 0)
            return DNS_ENONE;
        q->open = true;
    }
    for (uint64_t try = 0; try < a->conf->attempts; try++) {
        for (size_t i = 0; i < a->conf->n_servers; i++) {
            rc = out_of_time(a) ? DNS_ETIMEOUT : ask_server(a, i);
            if (rc == 0 || out_of_time(a))
                return rc;
        }
    }
    return rc;
}

/* Ask for a name and along its aliases: 0 if something was found. */
static int resolve(struct asking *a, const char *name)
{
    struct found *f = a->found;
    char target[NAME_BUF];
    int rc = 0;

    for (int i = 0; i <= CHAIN_MAX; i++) {
        f->cname[0] = '\0';
        rc = ask(a, name);
        if (f->n || f->n_srvs || f->n_names)
            return 0; /* one of two questions may have failed */
        if (rc < 0)
            return rc;
        if (!f->cname[0])
            return DNS_ENONE;
        memcpy(target, f->cname, sizeof(target));
        name = target;
    }
    return DNS_ENONE;
}

/* The name itself and below each search domain, in the order of ndots. */
static int resolve_candidates(struct asking *a, const char *name)
{
    struct str bare = without_final_dot(name);
    size_t dots = 0, n_search = a->conf->n_search;
    char full[NAME_BUF];
    bool first;
    int rc, worst = DNS_ENONE;

    for (size_t i = 0; i < bare.n; i++)
        dots += bare.p[i] == '.';
    if (bare.n != strlen(name))
        n_search = 0; /* a final dot: complete as it is */
    first = n_search == 0 || dots >= a->conf->ndots;

    for (size_t i = 0; i <= n_search; i++) {
        bool alone = first ? i == 0 : i == n_search;
        int len =
            snprintf(full, sizeof(full), "%.*s%s%s", STR_FMT(bare),
                     alone ? "" : ".", alone ? "" : a->conf->search[i - first]);

        if (len < 0 || (size_t)len >= sizeof(full))
            continue;
        rc = resolve(a, full);
        if (rc == 0 || out_of_time(a))
            return rc;
        if (rc != DNS_ENONE)
            worst = rc;
    }
    return worst;
}

static int lookup_error(struct err *e, int code, const char *name,
                        const char *server)
{
    const char *text = code == DNS_ENONE      ? "no such host"
                       : code == DNS_ETIMEOUT ? "i/o timeout"
                                              : "server misbehaving";

    return err_set(e, code, "lookup %s%s%s: %s", name, server ? " on " : "",
                   server ? server : "", text);
}

/* Ask the servers about name for `types`; fills f or e. */
static int ask_servers(const char *name, const enum dns_type *types, size_t n,
                       bool by_search, int64_t deadline_ns, struct found *f,
                       struct err *e)
{
    struct asking a = {.deadline_ns = deadline_ns, .found = f};
    struct conf *c = read_conf();
    int rc;

    a.conf = c;
    a.server = c->n_servers;
    a.n_questions = n;
    for (size_t i = 0; i < n; i++)
        a.questions[i].type = types[i];

    rc = by_search ? resolve_candidates(&a, name) : resolve(&a, name);
    if (rc < 0)
        lookup_error(e, rc, name,
                     a.server < c->n_servers ? c->names[a.server] : NULL);
    for (size_t i = 0; i < n; i++)
        buf_release(&a.questions[i].query);
    free(c);
    return rc;
}

static void add_loopback(struct found *f)
{
    static const uint8_t v4[4] = {127, 0, 0, 1};
    static const uint8_t v6[16] = {[15] = 1};
    struct dns_addr a;

    addr_v4(&a, v4, f->port);
    add_addr(f, &a);
    addr_v6(&a, v6, 0, f->port);
    add_addr(f, &a);
}

int dns_lookup(const char *host, uint16_t port, int64_t deadline_ns,
               struct dns_addr out[DNS_ADDRS_MAX], size_t *n, struct err *e)
{
    static const enum dns_type types[] = {DNS_A, DNS_AAAA};
    struct str name = without_final_dot(host);
    struct found f = {.addrs = out, .port = port};
    struct dns_addr numeric;

    if (parse_ip(str_of(host), port, &numeric)) {
        out[0] = numeric;
        *n = 1;
        return 0;
    }
    if (!is_name(name))
        return lookup_error(e, DNS_ENONE, host, NULL);
    if (str_caseeqz(name, "localhost"))
        add_loopback(&f);
    else
        search_hosts(name, &f);
    if (f.n == 0) {
        int rc = ask_servers(host, types, ARRAY_LEN(types), true, deadline_ns,
                             &f, e);

        if (rc < 0)
            return rc;
    }
    *n = f.n;
    return 0;
}

static int by_priority(const void *a, const void *b)
{
    const struct dns_srv *x = a, *y = b;

    if (x->priority != y->priority)
        return x->priority < y->priority ? -1 : 1;
    return (x->weight < y->weight) - (x->weight > y->weight);
}

int dns_lookup_srv(const char *name, int64_t deadline_ns,
                   struct dns_srv out[DNS_SRV_MAX], size_t *n, struct err *e)
{
    static const enum dns_type types[] = {DNS_SRV};
    struct found f = {.srvs = out};
    int rc;

    if (!is_name(without_final_dot(name)))
        return lookup_error(e, DNS_ENONE, name, NULL);
    rc = ask_servers(name, types, 1, false, deadline_ns, &f, e);
    if (rc < 0)
        return rc;
    qsort(out, f.n_srvs, sizeof(*out), by_priority);
    *n = f.n_srvs;
    return 0;
}

/* --- The names of an address. --------------------------------------------- */

/* "4.3.2.1.in-addr.arpa", "1.0.0.0. ... .ip6.arpa" (RFC 1035, RFC 3596). */
static char *reverse_name(const struct dns_addr *a) /* returns owned */
{
    struct buf b = {0};

    if (a->ss.ss_family == AF_INET) {
        struct sockaddr_in v4;
        uint8_t ip[4];

        memcpy(&v4, &a->ss, sizeof(v4));
        memcpy(ip, &v4.sin_addr, sizeof(ip));
        buf_printf(&b, "%u.%u.%u.%u.in-addr.arpa", ip[3], ip[2], ip[1], ip[0]);
    } else {
        struct sockaddr_in6 v6;

        memcpy(&v6, &a->ss, sizeof(v6));
        for (size_t i = sizeof(v6.sin6_addr.s6_addr); i-- > 0;)
            buf_printf(&b, "%x.%x.", v6.sin6_addr.s6_addr[i] & 15u,
                       v6.sin6_addr.s6_addr[i] >> 4);
        buf_adds(&b, "ip6.arpa");
    }
    return buf_steal(&b);
}

int dns_lookup_addr(const char *ip, int64_t deadline_ns,
                    char out[DNS_NAMES_MAX][DNS_NAME_SIZE], size_t *n,
                    struct err *e)
{
    static const enum dns_type types[] = {DNS_PTR};
    struct found f = {.names = out};
    struct dns_addr a;
    int rc = 0;

    if (!parse_ip(str_of(ip), 0, &a))
        return lookup_error(e, DNS_ENONE, ip, NULL);
    search_hosts_by_addr(&a, &f);
    if (f.n_names == 0) {
        char *name = reverse_name(&a);

        rc = ask_servers(name, types, ARRAY_LEN(types), false, deadline_ns, &f,
                         e);
        free(name);
    }
    if (rc == 0)
        *n = f.n_names;
    return rc;
}
