/*
 * secure.c - TLS from files: configurations of the engine, made anew when the
 * files change, and handshakes with them.
 *
 * A configuration is immutable and counted (tls.h): a handshake takes the
 * newest one, and those before live on in their connections. All files are read
 * for each new one; `mu` is held meanwhile, so that one handshake in a second
 * looks, and the others wait for what it finds.
 */
#include "secure.h"

#include "dns.h"
#include "json.h"
#include "log.h"
#include "sys.h"
#include "tls.h"

#include <arpa/inet.h>
#include <assert.h>
#include <ctype.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOOK_NS NS_PER_S
#define QUIET_NS (60 * NS_PER_S) /* between two lines that say the same */
#define LINES 32                 /* that are remembered for it, and the most */
#define SUITES_MAX 32
#define LOOKUP_MS 2000
#define DAY_S 86400

const bool secure_available = true;

enum { F_CERT, F_KEY, F_CLIENT_CERT, F_CLIENT_KEY, F_CA, F_CRL, N_FILES };

/* What tells one version of a file from another. */
struct mark {
    int64_t mtime_s, mtime_ns;
    uint64_t size, inode, device;
};

/* The last word on certificates, for both directions. */
struct rules {
    char *allowed_cn, *allowed_hostname;
    bool has_crl;
    struct x509_crl crl;
};

/* A line that was logged. */
struct said {
    uint64_t hash;
    int64_t when_ns;
};

struct secure {
    char *what, *files[N_FILES];
    char *allowed_cn, *allowed_hostname, *server_name;
    bool client_cert_auth, skip_verify, skip_san_check, h2;
    uint16_t suites[SUITES_MAX];
    size_t n_suites;
    uint16_t version_min, version_max;

    pthread_mutex_t mu; /* guards all below */
    struct mark marks[N_FILES];
    int64_t looked_ns;
    bool reload;
    struct tls_config *server, *client; /* NULL: not made yet */
    int64_t not_after;
    struct said said[LINES];
};

/* --- Files. --------------------------------------------------------------- */

/* In the order in which Go looks for them. */
static const char *const system_roots[] = {
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
};

static int read_file(const char *path, size_t max, struct buf *out,
                     struct err *e)
{
    return sys_read_file(path, max, out, e) < 0 ? SECURE_EFILE : 0;
}

static void wipe_buf(struct buf *b)
{
    if (b->data)
        explicit_bzero(b->data, b->cap);
    buf_release(b);
}

/* An error of a file, with its name. */
static int blame(struct err *e, const char *path, const struct err *why)
{
    return err_set(e, SECURE_EFILE, "%s: %s", path, why->msg);
}

static int load_roots(const char *path, struct x509_certs *out, struct err *e)
{
    struct buf pem = {0};
    struct err why;
    int rc = read_file(path, X509_FILE_MAX, &pem, e);

    if (rc == 0 && x509_certs_add_pem(out, buf_str(&pem), &why) < 0)
        rc = blame(e, path, &why);
    buf_release(&pem);
    return rc;
}

/* The system's; that there are none shows when a certificate is looked at. */
static void load_system_roots(struct x509_certs *out)
{
    const char *own = getenv("SSL_CERT_FILE");

    if (own && *own) {
        (void)load_roots(own, out, NULL);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(system_roots) && out->n == 0; i++)
        (void)load_roots(system_roots[i], out, NULL);
}

/* Each file alone is well: it takes both to say what is wrong. */
static bool is_mismatch(const struct buf *key_pem)
{
    struct pk_private key;

    if (x509_key_load(buf_str(key_pem), &key, NULL) < 0)
        return false;
    pk_wipe(&key);
    return true;
}

static int load_pair(const char *cert, const char *key, struct x509_pair *out,
                     struct err *e)
{
    struct buf cert_pem = {0}, key_pem = {0};
    struct err why;
    int rc = read_file(cert, X509_FILE_MAX, &cert_pem, e);

    if (rc == 0)
        rc = read_file(key, X509_FILE_MAX, &key_pem, e);
    if (rc == 0) {
        rc = x509_load_pair(buf_str(&cert_pem), buf_str(&key_pem), out, &why);
        if (rc == X509_EKEY && is_mismatch(&key_pem))
            rc = err_set(e, SECURE_EFILE, "%s: %s (the certificate is in %s)",
                         key, why.msg, cert);
        else if (rc < 0)
            rc = blame(e, rc == X509_EKEY ? key : cert, &why);
    }
    buf_release(&cert_pem);
    wipe_buf(&key_pem);
    return rc;
}

static int load_crl(const char *path, struct x509_crl *out, struct err *e)
{
    struct buf file = {0};
    struct err why;
    int rc = read_file(path, X509_CRL_MAX, &file, e);

    if (rc == 0 && x509_crl_parse(buf_str(&file), out, &why) < 0)
        rc = blame(e, path, &why);
    buf_release(&file);
    return rc;
}

static struct mark mark_of(const char *path)
{
    struct mark m = {0};
    struct stat st;

    if (*path && stat(path, &st) == 0) {
        m.mtime_s = st.st_mtim.tv_sec;
        m.mtime_ns = st.st_mtim.tv_nsec;
        m.size = (uint64_t)st.st_size;
        m.inode = (uint64_t)st.st_ino;
        m.device = (uint64_t)st.st_dev;
    }
    return m;
}

static bool mark_eq(const struct mark *a, const struct mark *b)
{
    return a->mtime_s == b->mtime_s && a->mtime_ns == b->mtime_ns &&
           a->size == b->size && a->inode == b->inode && a->device == b->device;
}

/* --- Rules. ---------------------------------------------------------------- */

static void rules_release(void *arg)
{
    struct rules *r = arg;

    if (!r)
        return;
    free(r->allowed_cn);
    free(r->allowed_hostname);
    x509_crl_release(&r->crl);
    free(r);
}

static bool cn_is_allowed(const struct rules *r, const struct x509_cert *c)
{
    struct str rest = str_of(r->allowed_cn), one;
    bool more = true;

    while (more) {
        more = str_cut(&rest, ',', &one);
        one = str_trim(one);
        if (one.n && str_eq(one, c->cn))
            return true;
    }
    return false;
}

static bool host_is_allowed(const struct rules *r, const struct x509_cert *c)
{
    struct str rest = str_of(r->allowed_hostname), one;
    struct err why;
    bool more = true;

    while (more) {
        more = str_cut(&rest, ',', &one);
        one = str_trim(one);
        if (one.n && x509_check_host(c, one, &why) == 0)
            return true;
    }
    return false;
}

static int check_rules(void *arg, const struct x509_certs *chain, struct err *e)
{
    const struct rules *r = arg;

    if (r->has_crl && x509_crl_check(&r->crl, chain, e) < 0)
        return X509_EVERIFY;
    if ((*r->allowed_cn && !cn_is_allowed(r, chain->certs[0])) ||
        (*r->allowed_hostname && !host_is_allowed(r, chain->certs[0])))
        return err_set(e, X509_EVERIFY,
                       "client certificate authentication failed");
    return 0;
}

static int rules_new(const struct secure *c, struct rules **out, struct err *e)
{
    struct rules *r = xcalloc(1, sizeof(*r));

    r->allowed_cn = xstrdup(c->allowed_cn);
    r->allowed_hostname = xstrdup(c->allowed_hostname);
    r->has_crl = *c->files[F_CRL];
    if (r->has_crl && load_crl(c->files[F_CRL], &r->crl, e) < 0) {
        rules_release(r);
        return SECURE_EFILE;
    }
    *out = r;
    return 0;
}

/* --- Configurations. -------------------------------------------------------- */

static const char *client_file(const struct secure *c, int own, int otherwise)
{
    return *c->files[F_CLIENT_CERT] ? c->files[own] : c->files[otherwise];
}

static bool asks_for_certificates(const struct secure *c)
{
    return *c->files[F_CA] || c->client_cert_auth;
}

/* HTTP/1.1 first: a client that speaks both gets all APIs by it; those of gRPC
 * offer nothing but h2. */
static const char *const server_alpn[] = {"http/1.1", "h2"};

static void fill_options(const struct secure *c, enum tls_role role,
                         struct tls_options *o)
{
    bool server = role == TLS_SERVER;

    o->random = sys_random;
    o->version_min = c->version_min;
    o->version_max = c->version_max;
    o->suites = c->suites;
    o->n_suites = c->n_suites;
    o->verify = check_rules;
    o->verify_release = rules_release;
    if (server) {
        o->alpn = server_alpn;
        o->n_alpn = c->h2 ? 2 : 1;
        o->client_auth =
            asks_for_certificates(c) ? TLS_AUTH_REQUIRE : TLS_AUTH_NONE;
    } else {
        o->alpn = server_alpn + 1;
        o->n_alpn = c->h2 ? 1 : 0;
        o->skip_verify = c->skip_verify;
    }
}

static int load_trust(const struct secure *c, enum tls_role role,
                      struct x509_certs *roots, struct err *e)
{
    if (*c->files[F_CA])
        return load_roots(c->files[F_CA], roots, e);
    if (role == TLS_CLIENT ? !c->skip_verify : c->client_cert_auth)
        load_system_roots(roots);
    return 0;
}

/* A configuration from what the files are now; *not_after of our certificate,
 * if it has one. */
static int make_config(const struct secure *c, enum tls_role role,
                       struct tls_config **out, int64_t *not_after,
                       struct err *e)
{
    bool server = role == TLS_SERVER;
    const char *cert =
        server ? c->files[F_CERT] : client_file(c, F_CLIENT_CERT, F_CERT);
    const char *key =
        server ? c->files[F_KEY] : client_file(c, F_CLIENT_KEY, F_KEY);
    struct tls_options o = {0};
    struct x509_pair pair = {0};
    struct rules *rules = NULL;
    int rc = load_trust(c, role, &o.roots, e);

    fill_options(c, role, &o);
    if (rc == 0)
        rc = rules_new(c, &rules, e);
    if (rc == 0 && *cert) {
        rc = load_pair(cert, key, &pair, e);
        o.pairs = &pair;
        o.n_pairs = 1;
    }
    if (rc == 0) {
        if (*cert)
            *not_after = pair.chain.certs[0]->not_after;
        o.verify_arg = rules;
        *out = tls_config_new(&o, e);
        if (*out)
            return 0;
        rc = SECURE_EFILE;
    }
    x509_pair_release(&pair);
    x509_certs_release(&o.roots);
    rules_release(rules);
    return rc;
}

/* Both anew, as far as they are in use; all or none. */
static int load_locked(struct secure *c, bool with_client, struct err *e)
{
    struct tls_config *server = NULL, *client = NULL;
    int64_t not_after = 0, unused = 0;
    int rc = 0;

    if (*c->files[F_CERT])
        rc = make_config(c, TLS_SERVER, &server, &not_after, e);
    if (rc == 0 && with_client)
        rc = make_config(c, TLS_CLIENT, &client, &unused, e);
    if (rc < 0) {
        tls_config_unref(server);
        return rc;
    }
    tls_config_unref(c->server);
    c->server = server;
    c->not_after = not_after;
    if (with_client) {
        tls_config_unref(c->client);
        c->client = client;
    }
    return 0;
}

static bool have_changed_locked(struct secure *c)
{
    bool changed = c->reload;

    c->reload = false;
    for (int i = 0; i < N_FILES; i++) {
        struct mark m = mark_of(c->files[i]);

        changed |= !mark_eq(&m, &c->marks[i]);
        c->marks[i] = m; /* before they are read: a change now is seen next */
    }
    return changed;
}

static void look_locked(struct secure *c)
{
    int64_t now = sys_mono_ns();
    struct err why;

    if (!c->reload && now - c->looked_ns < LOOK_NS)
        return;
    c->looked_ns = now;
    if (!have_changed_locked(c))
        return;
    if (load_locked(c, c->client != NULL, &why) == 0)
        log_info("embed", "the TLS files for %ss have changed and are in use",
                 c->what);
    else
        log_warn(
            "embed",
            "the TLS files for %ss have changed, but cannot be used; those "
            "of before stay in use: %s",
            c->what, why.msg);
}

/* The configuration for a handshake; one reference. NULL and e. */
static struct tls_config *get_config(struct secure *c, enum tls_role role,
                                     struct err *e)
{
    struct tls_config *config;
    int64_t unused;

    pthread_mutex_lock(&c->mu);
    look_locked(c);
    if (role == TLS_CLIENT && !c->client)
        make_config(c, TLS_CLIENT, &c->client, &unused, e);
    config = role == TLS_SERVER ? c->server : c->client;
    if (config)
        tls_config_ref(config);
    pthread_mutex_unlock(&c->mu);
    return config;
}

void secure_reload(struct secure *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->mu);
    c->reload = true;
    look_locked(c);
    pthread_mutex_unlock(&c->mu);
}

bool secure_not_after(struct secure *c, int64_t *when_s)
{
    bool known;

    if (!c)
        return false;
    pthread_mutex_lock(&c->mu);
    look_locked(c);
    known = c->server != NULL;
    *when_s = c->not_after;
    pthread_mutex_unlock(&c->mu);
    return known;
}

/* --- Making one. ------------------------------------------------------------ */

static int parse_version(const char *name, uint16_t *out, struct err *e)
{
    *out = 0;
    if (!name || !*name)
        return 0;
    if (strcmp(name, "TLS1.2") == 0)
        *out = TLS_1_2;
    else if (strcmp(name, "TLS1.3") == 0)
        *out = TLS_1_3;
    else
        return err_set(e, SECURE_EFILE,
                       "unexpected TLS version \"%s\" (must be one of: TLS1.2, "
                       "TLS1.3)",
                       name);
    return 0;
}

static int parse_versions(struct secure *c, const struct secure_options *o,
                          struct err *e)
{
    if (parse_version(o->version_min, &c->version_min, e) < 0 ||
        parse_version(o->version_max, &c->version_max, e) < 0)
        return SECURE_EFILE;
    if (c->version_max && c->version_min > c->version_max)
        return err_set(e, SECURE_EFILE,
                       "min version (%s) is greater than max version (%s)",
                       o->version_min, o->version_max);
    return 0;
}

/* A list of those that Go has fits here, too, as long as one remains. */
static int parse_suite(struct secure *c, struct str name, struct err *e)
{
    uint16_t number = tls_suite_number(name);

    if (tls_suite_is_left_out(name)) {
        log_warn("embed",
                 "the TLS cipher suite %.*s is left out for %ss: of TLS 1.2 "
                 "only ECDHE with AES-GCM or ChaCha20-Poly1305 is spoken",
                 STR_FMT(name), c->what);
        return 0;
    }
    if (!number)
        return err_set(e, SECURE_EFILE, "unexpected TLS cipher suite \"%.*s\"",
                       STR_FMT(name));
    if (c->n_suites < SUITES_MAX)
        c->suites[c->n_suites++] = number;
    return 0;
}

static int parse_suites(struct secure *c, const char *list, struct err *e)
{
    struct str rest = str_of(list ? list : ""), one;
    bool more = rest.n > 0;

    if (more && c->version_min == TLS_1_3)
        return err_set(e, SECURE_EFILE,
                       "cipher suites cannot be configured when only TLS1.3 is "
                       "enabled");
    while (more) {
        more = str_cut(&rest, ',', &one);
        if (parse_suite(c, str_trim(one), e) < 0)
            return SECURE_EFILE;
    }
    if (list && *list && !c->n_suites)
        return err_set(e, SECURE_EFILE,
                       "none of the TLS cipher suites %s is spoken here", list);
    return 0;
}

static int check_pair(const char *cert, const char *key, struct err *e)
{
    if ((*cert != 0) == (*key != 0))
        return 0;
    return err_set(e, SECURE_EFILE,
                   "KeyFile and CertFile must both be present[key: %s, cert: "
                   "%s]",
                   key, cert);
}

static int check_options(const struct secure *c, struct err *e)
{
    if (check_pair(c->files[F_CERT], c->files[F_KEY], e) < 0 ||
        check_pair(c->files[F_CLIENT_CERT], c->files[F_CLIENT_KEY], e) < 0)
        return SECURE_EFILE;
    if (*c->allowed_cn && *c->allowed_hostname)
        return err_set(e, SECURE_EFILE,
                       "AllowedCN and AllowedHostname are mutually exclusive "
                       "(cn=\"%s\", hostname=\"%s\")",
                       c->allowed_cn, c->allowed_hostname);
    return 0;
}

static char *copy(const char *z)
{
    return xstrdup(z ? z : "");
}

struct secure *secure_new(const struct secure_options *o, struct err *e)
{
    struct secure *c = xcalloc(1, sizeof(*c));

    pthread_mutex_init(&c->mu, NULL);
    c->what = copy(o->what);
    c->files[F_CERT] = copy(o->cert_file);
    c->files[F_KEY] = copy(o->key_file);
    c->files[F_CLIENT_CERT] = copy(o->client_cert_file);
    c->files[F_CLIENT_KEY] = copy(o->client_key_file);
    c->files[F_CA] = copy(o->ca_file);
    c->files[F_CRL] = copy(o->crl_file);
    c->allowed_cn = copy(o->allowed_cn);
    c->allowed_hostname = copy(o->allowed_hostname);
    c->server_name = copy(o->server_name);
    c->client_cert_auth = o->client_cert_auth;
    c->skip_verify = o->skip_verify;
    c->skip_san_check = o->skip_san_check;
    c->h2 = o->h2;
    c->looked_ns = sys_mono_ns();
    have_changed_locked(c); /* nobody else knows c yet */
    if (parse_versions(c, o, e) < 0 || parse_suites(c, o->suites, e) < 0 ||
        check_options(c, e) < 0 ||
        load_locked(c, *c->files[F_CA] || *c->files[F_CLIENT_CERT], e) < 0) {
        secure_free(c);
        return NULL;
    }
    return c;
}

void secure_free(struct secure *c)
{
    if (!c)
        return;
    tls_config_unref(c->server);
    tls_config_unref(c->client);
    for (int i = 0; i < N_FILES; i++)
        free(c->files[i]);
    free(c->what);
    free(c->allowed_cn);
    free(c->allowed_hostname);
    free(c->server_name);
    pthread_mutex_destroy(&c->mu);
    free(c);
}

/* --- Where a certificate may come from. -------------------------------------- */

/* The address in "IP:port" or "[IP]:port". */
static struct str address_of(const char *peer)
{
    const char *colon = strrchr(peer, ':');
    struct str s = {peer, colon ? (size_t)(colon - peer) : strlen(peer)};

    if (s.n >= 2 && s.p[0] == '[')
        s = (struct str){s.p + 1, s.n - 2};
    return s;
}

/* For one lookup of many. */
static int64_t lookup_until(int64_t deadline_ns)
{
    int64_t until = sys_mono_ns() + LOOKUP_MS * NS_PER_MS;

    return until < deadline_ns ? until : deadline_ns;
}

static bool is_address_of(struct str dns_name, struct str address,
                          int64_t deadline_ns)
{
    struct dns_addr addrs[DNS_ADDRS_MAX];
    char *name;
    bool found = false;
    struct err why;
    size_t n;

    if (dns_name.n && memchr(dns_name.p, 0, dns_name.n))
        return false; /* what stands before it is another name */
    name = xstrndup(dns_name.p, dns_name.n);
    if (dns_lookup(name, 0, lookup_until(deadline_ns), addrs, &n, &why) == 0) {
        for (size_t i = 0; i < n && !found; i++)
            found = net_addr_is(&addrs[i].ss, address);
    }
    free(name);
    return found;
}

/* Is name that of the certificate, or below its "*."? As etcd has it, at any
 * depth. */
static bool is_name_of(struct str san, struct str name)
{
    if (!str_has_prefix(san, "*."))
        return str_eq(san, name);
    san = (struct str){san.p + 1, san.n - 1};
    return name.n >= san.n &&
           memcmp(name.p + name.n - san.n, san.p, san.n) == 0;
}

/* Does one of the DNS names lead to the address, or the address to one? There
 * may be thousands, and servers that do not answer. */
static bool is_from_names(const struct x509_cert *cert, const char *ip,
                          int64_t deadline_ns)
{
    char names[DNS_NAMES_MAX][DNS_NAME_SIZE];
    struct err why;
    size_t n;

    for (struct x509_san s = x509_sans(cert);
         sys_mono_ns() < deadline_ns && x509_san_next(&s);)
        if (s.type == X509_SAN_DNS && !str_has_prefix(s.name, "*.") &&
            is_address_of(s.name, str_of(ip), deadline_ns))
            return true;
    if (dns_lookup_addr(ip, lookup_until(deadline_ns), names, &n, &why) < 0)
        return false;
    for (struct x509_san s = x509_sans(cert); x509_san_next(&s);)
        for (size_t i = 0; s.type == X509_SAN_DNS && i < n; i++)
            if (is_name_of(s.name, str_of(names[i])))
                return true;
    return false;
}

/*
 * etcd's rule: with IP addresses in the certificate, the client's must be one
 * of them; or, with DNS names, one of those must lead to it or be its own.
 */
static int check_origin(const struct x509_cert *cert, const char *peer,
                        int64_t deadline_ns, struct err *e)
{
    struct str address = address_of(peer);
    struct buf names = {0};
    bool has_ip = false, ok = true;
    struct err why = {0};
    char *ip;

    for (struct x509_san s = x509_sans(cert); x509_san_next(&s);) {
        has_ip |= s.type == X509_SAN_IP;
        if (s.type == X509_SAN_DNS)
            buf_printf(&names, "%s\"%.*s\"", names.len ? " " : "",
                       STR_FMT(s.name));
    }
    if (has_ip)
        ok = x509_check_host(cert, address, &why) == 0;
    if (names.len && !(has_ip && ok)) {
        ip = xstrndup(address.p, address.n);
        ok = is_from_names(cert, ip, deadline_ns);
        free(ip);
    }
    if (!ok && names.len)
        err_set(e, NET_EIO, "tls: \"%.*s\" does not match any of DNSNames [%s]",
                STR_FMT(address), buf_z(&names));
    else if (!ok)
        err_set(e, NET_EIO, "%s", why.msg);
    buf_release(&names);
    return ok ? 0 : NET_EIO;
}

/* --- Handshakes. ------------------------------------------------------------ */

/* Has this not been said within the last minute? Digits are left out: the time
 * is in some texts. When the table is full of other lines, nothing is news. */
static bool is_news(struct secure *c, struct str address, const char *text)
{
    uint64_t h = 14695981039346656037u; /* FNV-1a */
    int64_t now = sys_mono_ns();
    struct said *oldest = &c->said[0];
    bool news = true;

    for (size_t i = 0; i < address.n; i++)
        h = (h ^ (uint8_t)address.p[i]) * 1099511628211u;
    for (; *text; text++)
        if (!isdigit((unsigned char)*text))
            h = (h ^ (uint8_t)*text) * 1099511628211u;
    pthread_mutex_lock(&c->mu);
    for (size_t i = 0; i < LINES; i++) {
        struct said *s = &c->said[i];

        if (s->hash == h && now - s->when_ns < QUIET_NS)
            news = false;
        if (s->when_ns < oldest->when_ns)
            oldest = s;
    }
    news = news && (!oldest->hash || now - oldest->when_ns >= QUIET_NS);
    if (news)
        *oldest = (struct said){h, now};
    pthread_mutex_unlock(&c->mu);
    return news;
}

static void log_rejected(struct secure *c, const struct net_stream *s,
                         const struct err *why)
{
    const char *peer = net_peer_name(s);
    struct buf text = {0};

    if (!is_news(c, address_of(peer), why->msg))
        return;
    json_add_string(&text, str_of(why->msg));
    buf_adds(&text, ", ServerName ");
    json_add_string(&text, tls_server_name(net_tls(s)));
    log_info("embed", "rejected connection from \"%s\" (error %s)", peer,
             buf_z(&text));
    buf_release(&text);
}

int secure_accept(struct secure *c, struct net_stream *s, int64_t deadline_ns)
{
    struct tls_config *config = get_config(c, TLS_SERVER, NULL);
    const struct x509_certs *chain;
    struct err why;
    int rc;

    assert(config);
    rc = net_start_tls(
        s, tls_new(config, TLS_SERVER, NULL, sys_wall_ns() / NS_PER_S),
        deadline_ns, &why);
    tls_config_unref(config);
    if (rc == 0) {
        chain = tls_peer(net_tls(s));
        if (chain->n && !c->skip_san_check && *net_peer_name(s) != '@')
            rc = check_origin(chain->certs[0], net_peer_name(s), deadline_ns,
                              &why);
    }
    if (rc < 0)
        log_rejected(c, s, &why);
    return rc;
}

/* For those who dial without settings of their own. */
static struct secure *nobody(void)
{
    static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
    static struct secure *made; /* mu; lives as long as the process */
    struct secure *c;

    pthread_mutex_lock(&mu);
    if (!made)
        made = secure_new(&(struct secure_options){.what = "server"}, NULL);
    c = made;
    pthread_mutex_unlock(&mu);
    return c;
}

int secure_connect(struct secure *c, struct net_stream *s, const struct url *u,
                   int64_t deadline_ns, struct err *e)
{
    struct tls_config *config;
    const char *name;
    int rc;

    if (!c)
        c = nobody();
    config = get_config(c, TLS_CLIENT, e);
    if (!config)
        return SECURE_EFILE;
    name = *c->server_name ? c->server_name : u->host;
    rc = net_start_tls(
        s, tls_new(config, TLS_CLIENT, name, sys_wall_ns() / NS_PER_S),
        deadline_ns, e);
    tls_config_unref(config);
    return rc;
}

/* --- Certificates of our own making. ---------------------------------------- */

static bool still_good(const char *cert, const char *key)
{
    struct x509_pair pair = {0};
    bool good = load_pair(cert, key, &pair, NULL) == 0 &&
                pair.chain.certs[0]->not_after > sys_wall_ns() / NS_PER_S;

    x509_pair_release(&pair);
    return good;
}

int secure_self_sign(const char *dir, const struct str *hosts, size_t n_hosts,
                     uint64_t years, struct err *e)
{
    int64_t now = sys_wall_ns() / NS_PER_S;
    struct x509_self_signed o = {
        .hosts = hosts,
        .n_hosts = n_hosts,
        .not_before = now,
        .not_after = now + (int64_t)min_u64(years, 100) * 365 * DAY_S,
    };
    char *cert = xasprintf("%s/cert.pem", dir);
    char *key = xasprintf("%s/key.pem", dir);
    struct buf cert_pem = {0}, key_pem = {0};
    int rc = 0;

    if (!still_good(cert, key)) {
        sys_random(o.seed, sizeof(o.seed));
        x509_make_self_signed(&o, &cert_pem, &key_pem);
        explicit_bzero(o.seed, sizeof(o.seed));
        rc = sys_mkdir_all(dir, 0700, e);
        if (rc == 0)
            rc = sys_write_file_atomic(key, key_pem.data, key_pem.len, 0600, e);
        if (rc == 0)
            rc = sys_write_file_atomic(cert, cert_pem.data, cert_pem.len, 0644,
                                       e);
    }
    buf_release(&cert_pem);
    wipe_buf(&key_pem);
    free(cert);
    free(key);
    return rc < 0 ? SECURE_EFILE : 0;
}
