/*
 * tlshello.c - ClientHello and ServerHello: version, suite, key share, names.
 *
 * Both messages are the same in TLS 1.2 and 1.3, but for their extensions; a
 * HelloRetryRequest is a ServerHello with a random that says so:
 *
 *   ClientHello   version 2 | random 32 | session id <1> | suites <2> |
 *                 compressions <1> | extensions <2>
 *   ServerHello   version 2 | random 32 | session id <1> | suite 2 |
 *                 compression 1 | extensions <2>
 *
 * What is agreed on here is confirmed by the Finished messages at the end; that
 * nobody made us agree on TLS 1.2, by the end of the server's random, too (RFC
 * 8446, 4.1.3).
 */
#include "tls_impl.h"

#include <ctype.h>

#define SCSV_RENEGOTIATION 0x00ff /* suites that are signals, really */
#define SCSV_FALLBACK 0x5600

static const uint8_t retry_random[RANDOM_SIZE] = {
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c,
    0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb,
    0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
};

/* Followed by 1, or 0 for versions below TLS 1.2. */
static const uint8_t downgraded[7] = {'D', 'O', 'W', 'N', 'G', 'R', 'D'};

static bool config_has_version(const struct tls_config *c, unsigned version)
{
    return version >= c->version_min && version <= c->version_max;
}

bool config_has_group(const struct tls_config *c, unsigned group)
{
    for (size_t i = 0; i < c->n_groups; i++)
        if (c->groups[i] == group)
            return true;
    return false;
}

/* --- ClientHello, sent. --------------------------------------------------- */

/* An IP address is no name to send (RFC 6066, 3). */
static bool is_ip(const char *name)
{
    return strchr(name, ':') || strspn(name, "0123456789.") == strlen(name);
}

static void put_name(const struct tls *t, struct buf *b)
{
    struct str name = str_of(t->name ? t->name : "");
    size_t ext, list;

    if (name.n > 0 && name.p[name.n - 1] == '.')
        name.n--;
    if (name.n == 0 || name.n > TLS_NAME_MAX || is_ip(t->name))
        return;
    put_uint(b, EXT_SERVER_NAME, 2);
    ext = vector_begin(b, 2);
    list = vector_begin(b, 2);
    put_uint(b, 0, 1); /* host_name */
    put_vector(b, 2, name);
    vector_end(b, list, 2);
    vector_end(b, ext, 2);
}

static void put_alpn_list(struct buf *b, char *const *names, size_t n)
{
    size_t ext, list;

    put_uint(b, EXT_ALPN, 2);
    ext = vector_begin(b, 2);
    list = vector_begin(b, 2);
    for (size_t i = 0; i < n; i++)
        put_vector(b, 1, str_of(names[i]));
    vector_end(b, list, 2);
    vector_end(b, ext, 2);
}

static void put_groups(const struct tls_config *c, struct buf *b)
{
    size_t ext, list;

    put_uint(b, EXT_GROUPS, 2);
    ext = vector_begin(b, 2);
    list = vector_begin(b, 2);
    for (size_t i = 0; i < c->n_groups; i++)
        put_uint(b, c->groups[i], 2);
    vector_end(b, list, 2);
    vector_end(b, ext, 2);
}

static void put_versions(const struct tls_config *c, struct buf *b)
{
    size_t ext, list;

    put_uint(b, EXT_VERSIONS, 2);
    ext = vector_begin(b, 2);
    list = vector_begin(b, 1);
    for (unsigned v = c->version_max; v >= c->version_min; v--)
        put_uint(b, v, 2);
    vector_end(b, list, 1);
    vector_end(b, ext, 2);
}

static void put_share(const struct tls *t, struct buf *b, size_t list_bytes)
{
    const struct key_share *k = &t->hs->share;
    size_t ext, list = 0;

    put_uint(b, EXT_KEY_SHARE, 2);
    ext = vector_begin(b, 2);
    if (list_bytes)
        list = vector_begin(b, list_bytes);
    put_uint(b, k->group, 2);
    put_vector(b, 2, (struct str){(const char *)k->public, k->n_public});
    if (list_bytes)
        vector_end(b, list, list_bytes);
    vector_end(b, ext, 2);
}

static void put_client_extensions(struct tls *t, struct buf *b)
{
    const struct tls_config *c = t->config;
    size_t ext;

    put_name(t, b);
    put_groups(c, b);
    put_uint(b, EXT_SCHEMES, 2);
    ext = vector_begin(b, 2);
    put_schemes(b);
    vector_end(b, ext, 2);
    if (c->n_alpn)
        put_alpn_list(b, c->alpn, c->n_alpn);
    if (config_has_version(c, TLS_1_2)) {
        put_extension(b, EXT_MASTER_SECRET, STR(""));
        put_extension(b, EXT_POINT_FORMATS, STR("\x01\x00"));
        put_extension(b, EXT_RENEGOTIATION, STR("\x00"));
    }
    if (config_has_version(c, TLS_1_3)) {
        put_versions(c, b);
        if (t->hs->first.len)
            put_extension(b, EXT_COOKIE, buf_str(&t->hs->first));
        put_share(t, b, 2);
    }
}

static void hello_begin(struct tls *t)
{
    struct handshake *hs = t->hs;

    t->config->random(hs->client_random, RANDOM_SIZE);
    if (config_has_version(t->config, TLS_1_3)) {
        hs->n_session_id = SESSION_ID_MAX;
        t->config->random(hs->session_id, SESSION_ID_MAX);
        share_make(t, t->config->groups[0]);
    }
}

void send_client_hello(struct tls *t)
{
    struct handshake *hs = t->hs;
    struct buf *b;
    size_t at;

    if (!hs->retried)
        hello_begin(t);
    b = message_begin(t, MSG_CLIENT_HELLO);
    put_uint(b, TLS_1_2, 2);
    buf_add(b, hs->client_random, RANDOM_SIZE);
    put_vector(b, 1,
               (struct str){(const char *)hs->session_id, hs->n_session_id});
    at = vector_begin(b, 2);
    for (size_t i = 0; i < t->config->n_suites; i++)
        put_uint(b, t->config->suites[i]->number, 2);
    vector_end(b, at, 2);
    put_vector(b, 1, STR("\x00"));
    at = vector_begin(b, 2);
    put_client_extensions(t, b);
    vector_end(b, at, 2);
    message_end(t);
    hs->next = receive_server_hello;
}

/* --- ServerHello, received. ----------------------------------------------- */

struct server_hello { /* borrowed */
    unsigned legacy_version, version, suite, compression;
    struct str random, session_id;
    struct extensions x;
    bool retry;
};

/* 1.3 speaks by an extension; below it, by the old field. */
static int read_version(struct tls *t, struct server_hello *h)
{
    const struct str *ext = extension(&h->x, EXT_VERSIONS);
    struct reader r;

    h->version = h->legacy_version;
    if (ext) {
        r = reader_of(*ext);
        h->version = read_uint(&r, 2);
        if (!reader_done(&r))
            return tls_malformed(t, "ServerHello");
        if (h->version != TLS_1_3 || h->legacy_version != TLS_1_2)
            return tls_fail(t, ALERT_ILLEGAL_PARAMETER,
                            "tls: server selected an invalid version after a "
                            "supported_versions extension");
    }
    if (h->version > TLS_1_2 && !ext)
        h->version = 0xffff; /* 1.3 without the extension is none */
    if (!config_has_version(t->config, h->version))
        return tls_fail(t, ALERT_PROTOCOL_VERSION,
                        "tls: server selected unsupported protocol version %x",
                        h->legacy_version);
    return 0;
}

static int parse_server_hello(struct tls *t, struct str body,
                              struct server_hello *h)
{
    struct reader r = reader_of(body);
    struct str list = {0};

    h->legacy_version = read_uint(&r, 2);
    h->random = read_bytes(&r, RANDOM_SIZE);
    h->session_id = read_vector(&r, 1);
    h->suite = read_uint(&r, 2);
    h->compression = read_uint(&r, 1);
    if (r.n > 0)
        list = read_vector(&r, 2);
    if (!reader_done(&r) || h->session_id.n > SESSION_ID_MAX)
        return tls_malformed(t, "ServerHello");
    if (extensions_read(t, list, &h->x) < 0 || read_version(t, h) < 0)
        return TLS_EFAILED;
    h->retry = h->version == TLS_1_3 &&
               memcmp(h->random.p, retry_random, RANDOM_SIZE) == 0;
    return 0;
}

static const struct tls_suite *config_suite(const struct tls_config *c,
                                            unsigned number, unsigned version)
{
    for (size_t i = 0; i < c->n_suites; i++)
        if (c->suites[i]->number == number && c->suites[i]->version == version)
            return c->suites[i];
    return NULL;
}

static int check_server_hello(struct tls *t, const struct server_hello *h)
{
    const struct tls_suite *s = config_suite(t->config, h->suite, h->version);

    if (!s)
        return tls_fail(t, ALERT_ILLEGAL_PARAMETER,
                        "tls: server chose an unconfigured cipher suite");
    if (t->hs->retried && (h->version != t->version || s != t->suite))
        return tls_fail(t, ALERT_ILLEGAL_PARAMETER,
                        "tls: server changed its mind after a "
                        "HelloRetryRequest");
    if (h->compression != 0)
        return tls_fail(t, ALERT_ILLEGAL_PARAMETER,
                        "tls: server selected unsupported compression format");
    t->version = (uint16_t)h->version;
    t->suite = s;
    if (!t->hs->hashed)
        transcript_start(t);
    return 0;
}

static bool session_echoed(const struct tls *t, const struct server_hello *h)
{
    return h->session_id.n == t->hs->n_session_id &&
           (h->session_id.n == 0 ||
            memcmp(h->session_id.p, t->hs->session_id, h->session_id.n) == 0);
}

/* The group that a HelloRetryRequest asks for, if any. */
static int retry_group(struct tls *t, struct str ext)
{
    struct reader r = reader_of(ext);
    unsigned group = read_uint(&r, 2);

    if (!reader_done(&r))
        return tls_malformed(t, "HelloRetryRequest");
    if (!config_has_group(t->config, group))
        return tls_fail(t, ALERT_ILLEGAL_PARAMETER,
                        "tls: server selected unsupported group");
    if (group == t->hs->share.group)
        return tls_fail(t, ALERT_ILLEGAL_PARAMETER,
                        "tls: server sent an unnecessary HelloRetryRequest "
                        "key_share");
    share_make(t, (enum tls_group)group);
    return 0;
}

static int retry_cookie(struct tls *t, struct str ext)
{
    struct reader r = reader_of(ext);
    struct str cookie = read_vector(&r, 2);

    if (!reader_done(&r) || cookie.n == 0)
        return tls_malformed(t, "HelloRetryRequest");
    buf_addstr(&t->hs->first, ext);
    return 0;
}

/* What a second ClientHello may take beside the first one's parts. */
#define COOKIE_MAX 16384

static int client_retry(struct tls *t, const struct message *m,
                        const struct server_hello *h)
{
    static const enum extension allowed[] = {EXT_VERSIONS, EXT_COOKIE,
                                             EXT_KEY_SHARE};
    const struct str *cookie = extension(&h->x, EXT_COOKIE);
    const struct str *share = extension(&h->x, EXT_KEY_SHARE);

    if (t->hs->retried)
        return tls_fail(t, ALERT_UNEXPECTED_MESSAGE,
                        "tls: server sent two HelloRetryRequest messages");
    if (extensions_only(t, &h->x, allowed, ARRAY_LEN(allowed)) < 0)
        return TLS_EFAILED;
    if ((!cookie && !share) || (cookie && cookie->n > COOKIE_MAX))
        return tls_fail(t, ALERT_ILLEGAL_PARAMETER,
                        "tls: server sent an unnecessary HelloRetryRequest "
                        "message");
    if ((share && retry_group(t, *share) < 0) ||
        (cookie && retry_cookie(t, *cookie) < 0))
        return TLS_EFAILED;
    t->hs->retried = true;
    transcript_retry(t);
    transcript_add(t, m->raw);
    send_ccs13(t);
    send_client_hello(t);
    return 0;
}

static int client13_hello(struct tls *t, const struct message *m,
                          const struct server_hello *h)
{
    static const enum extension allowed[] = {EXT_VERSIONS, EXT_KEY_SHARE};
    const struct str *share = extension(&h->x, EXT_KEY_SHARE);
    uint8_t shared[SHARED_MAX];
    struct reader r;
    struct str theirs;
    size_t n;
    int rc;

    if (extensions_only(t, &h->x, allowed, ARRAY_LEN(allowed)) < 0)
        return TLS_EFAILED;
    if (!share)
        return tls_fail(t, ALERT_MISSING_EXTENSION,
                        "tls: server did not send a key share");
    r = reader_of(*share);
    if (read_uint(&r, 2) != t->hs->share.group)
        return tls_fail(t, ALERT_ILLEGAL_PARAMETER,
                        "tls: server selected unsupported group");
    theirs = read_vector(&r, 2);
    if (!reader_done(&r))
        return tls_malformed(t, "ServerHello");
    if (!share_agree(&t->hs->share, theirs, shared, &n))
        return tls_fail(t, ALERT_ILLEGAL_PARAMETER,
                        "tls: invalid server key share");
    transcript_add(t, m->raw);
    rc = client13_start(t, shared, n);
    wipe(shared, sizeof(shared));
    return rc;
}

int client_alpn(struct tls *t, struct str ext)
{
    struct reader r = reader_of(ext), list = reader_of(read_vector(&r, 2));
    struct str name = read_vector(&list, 1);

    if (!reader_done(&r) || !reader_done(&list) || name.n == 0)
        return tls_malformed(t, "ALPN extension");
    for (size_t i = 0; i < t->config->n_alpn && !t->alpn; i++)
        if (str_eqz(name, t->config->alpn[i]))
            t->alpn = xstrdup(t->config->alpn[i]);
    if (!t->alpn)
        return tls_fail(t, ALERT_ILLEGAL_PARAMETER,
                        t->config->n_alpn
                            ? "tls: server selected unadvertised ALPN protocol"
                            : "tls: server advertised unrequested ALPN "
                              "extension");
    return 0;
}

/* Somebody in between removed our offer of TLS 1.3 (RFC 8446, 4.1.3). */
static bool was_downgraded(const struct tls *t, struct str random)
{
    const uint8_t *end = bytes_of(random) + RANDOM_SIZE - 8;

    return config_has_version(t->config, TLS_1_3) &&
           memcmp(end, downgraded, sizeof(downgraded)) == 0 && end[7] <= 1;
}

static int client12_hello(struct tls *t, const struct message *m,
                          const struct server_hello *h)
{
    static const enum extension allowed[] = {EXT_SERVER_NAME, EXT_POINT_FORMATS,
                                             EXT_ALPN, EXT_MASTER_SECRET,
                                             EXT_RENEGOTIATION};
    const struct str *alpn = extension(&h->x, EXT_ALPN);
    const struct str *info = extension(&h->x, EXT_RENEGOTIATION);

    if (was_downgraded(t, h->random))
        return tls_fail(t, ALERT_ILLEGAL_PARAMETER,
                        "tls: downgrade attempt detected, possibly due to a "
                        "MitM attack or a broken middlebox");
    if (h->session_id.n > 0 && session_echoed(t, h))
        return tls_fail(t, ALERT_ILLEGAL_PARAMETER,
                        "tls: server resumed a session that never was");
    if (extensions_only(t, &h->x, allowed, ARRAY_LEN(allowed)) < 0)
        return TLS_EFAILED;
    if (info && !str_eq(*info, STR("\x00")))
        return tls_fail(t, ALERT_HANDSHAKE_FAILURE,
                        "tls: initial handshake had non-empty renegotiation "
                        "extension");
    if (alpn && client_alpn(t, *alpn) < 0)
        return TLS_EFAILED;
    t->hs->extended = extension(&h->x, EXT_MASTER_SECRET) != NULL;
    transcript_add(t, m->raw);
    return client12_start(t);
}

int receive_server_hello(struct tls *t, const struct message *m)
{
    struct server_hello h = {0};

    if (m->type != MSG_SERVER_HELLO)
        return tls_unexpected(t, m, "ServerHello");
    if (parse_server_hello(t, m->body, &h) < 0 || check_server_hello(t, &h) < 0)
        return TLS_EFAILED;
    memcpy(t->hs->server_random, h.random.p, RANDOM_SIZE);
    if (h.version == TLS_1_2)
        return client12_hello(t, m, &h);
    if (!session_echoed(t, &h))
        return tls_fail(t, ALERT_ILLEGAL_PARAMETER,
                        "tls: server did not echo the legacy session ID");
    return h.retry ? client_retry(t, m, &h) : client13_hello(t, m, &h);
}

/* --- ClientHello, received. ----------------------------------------------- */

struct client_hello { /* borrowed */
    unsigned legacy_version;
    struct str random, session_id, suites, compressions;
    struct str fixed;  /* all of these */
    struct str groups; /* lists of the extensions, empty if absent */
    struct str schemes, versions, shares, alpn;
    struct str name;
    struct extensions x;
};

/* A list behind its length, if the extension is there; not empty, then. */
static bool read_list(const struct client_hello *h, enum extension type,
                      size_t n_bytes, size_t unit, struct str *list)
{
    const struct str *ext = extension(&h->x, type);
    struct reader r;

    *list = (struct str){"", 0};
    if (!ext)
        return true;
    r = reader_of(*ext);
    *list = read_vector(&r, n_bytes);
    return reader_done(&r) && list->n > 0 && list->n % unit == 0;
}

/* One that can be a host's: it will be compared, and logged. */
static bool name_is_sane(struct str name)
{
    if (name.n == 0 || name.n > TLS_NAME_MAX || name.p[name.n - 1] == '.')
        return false;
    for (size_t i = 0; i < name.n; i++)
        if (!isgraph((unsigned char)name.p[i]))
            return false;
    return true;
}

static bool read_name(struct client_hello *h)
{
    struct str list;
    struct reader r;

    if (!read_list(h, EXT_SERVER_NAME, 2, 1, &list))
        return false;
    r = reader_of(list);
    while (r.n > 0) {
        unsigned type = read_uint(&r, 1);
        struct str name = read_vector(&r, 2);

        if (r.bad || (type == 0 && (h->name.n || !name_is_sane(name))))
            return false;
        if (type == 0)
            h->name = name;
    }
    return true;
}

static bool read_alpn(struct client_hello *h)
{
    struct reader r;

    if (!read_list(h, EXT_ALPN, 2, 1, &h->alpn))
        return false;
    r = reader_of(h->alpn);
    while (r.n > 0)
        if (read_vector(&r, 1).n == 0)
            return false;
    return true;
}

/* A list of shares may be empty: the client asks which group we would like. */
static bool read_shares(struct client_hello *h)
{
    const struct str *ext = extension(&h->x, EXT_KEY_SHARE);
    struct reader r;

    if (!ext)
        return true;
    r = reader_of(*ext);
    h->shares = read_vector(&r, 2);
    if (!reader_done(&r))
        return false;
    for (r = reader_of(h->shares); r.n > 0;) {
        read_uint(&r, 2);
        if (read_vector(&r, 2).n == 0)
            return false;
    }
    return true;
}

static int parse_client_hello(struct tls *t, struct str body,
                              struct client_hello *h)
{
    struct reader r = reader_of(body);
    struct str list = {0};

    memset(h, 0, sizeof(*h));
    h->legacy_version = read_uint(&r, 2);
    h->random = read_bytes(&r, RANDOM_SIZE);
    h->session_id = read_vector(&r, 1);
    h->suites = read_vector(&r, 2);
    h->compressions = read_vector(&r, 1);
    h->fixed = (struct str){body.p, body.n - r.n};
    if (r.n > 0)
        list = read_vector(&r, 2);
    if (!reader_done(&r) || h->session_id.n > SESSION_ID_MAX ||
        h->suites.n < 2 || h->suites.n % 2 || h->compressions.n == 0)
        return tls_malformed(t, "ClientHello");
    if (extensions_read(t, list, &h->x) < 0)
        return TLS_EFAILED;
    if (!read_list(h, EXT_GROUPS, 2, 2, &h->groups) ||
        !read_list(h, EXT_SCHEMES, 2, 2, &h->schemes) ||
        !read_list(h, EXT_VERSIONS, 1, 2, &h->versions) || !read_shares(h) ||
        !read_alpn(h) || !read_name(h))
        return tls_malformed(t, "ClientHello");
    return 0;
}

static unsigned choose_version(const struct tls *t,
                               const struct client_hello *h)
{
    static const uint16_t ours[] = {TLS_1_3, TLS_1_2};

    for (size_t i = 0; i < ARRAY_LEN(ours); i++) {
        bool offered = h->versions.n
                           ? list_has(h->versions, ours[i])
                           : ours[i] == TLS_1_2 && h->legacy_version >= TLS_1_2;

        if (offered && config_has_version(t->config, ours[i]))
            return ours[i];
    }
    return 0;
}

/* As Go prints a list of numbers; long ones are cut. */
static int no_version(struct tls *t, const struct client_hello *h)
{
    struct reader r = reader_of(h->versions);
    struct buf b = {0};

    if (r.n == 0)
        buf_printf(&b, "%x", h->legacy_version);
    for (int i = 0; i < 8 && r.n > 0; i++)
        buf_printf(&b, i ? " %x" : "%x", read_uint(&r, 2));
    tls_fail(t, ALERT_PROTOCOL_VERSION,
             "tls: client offered only unsupported versions: [%s]", buf_z(&b));
    buf_release(&b);
    return TLS_EFAILED;
}

static int agree_on_version(struct tls *t, const struct client_hello *h)
{
    unsigned version = choose_version(t, h);
    bool none;

    if (version == 0)
        return no_version(t, h);
    if (version < t->config->version_max && list_has(h->suites, SCSV_FALLBACK))
        return tls_fail(t, ALERT_INAPPROPRIATE_FALLBACK,
                        "tls: client using inappropriate protocol fallback");
    none = memchr(h->compressions.p, 0, h->compressions.n) != NULL;
    if (!none || (version == TLS_1_3 && h->compressions.n != 1))
        return tls_fail(t, ALERT_ILLEGAL_PARAMETER,
                        "tls: client does not support uncompressed "
                        "connections");
    if (t->hs->retried &&
        (version != t->version || !str_eq(h->fixed, buf_str(&t->hs->first))))
        return tls_fail(t, ALERT_ILLEGAL_PARAMETER,
                        "tls: client illegally modified second ClientHello");
    t->version = (uint16_t)version;
    return 0;
}

/*
 * Protocols (RFC 7301), as Go has it: a client that speaks but HTTP/1.1 may
 * talk to a server of HTTP/2 as if neither had said anything.
 */
static int choose_alpn(struct tls *t, const struct client_hello *h)
{
    const struct tls_config *c = t->config;
    bool http1 = false;

    if (c->n_alpn == 0 || h->alpn.n == 0)
        return 0;
    for (size_t i = 0; i < c->n_alpn; i++) {
        struct reader r = reader_of(h->alpn);

        while (r.n > 0) {
            struct str name = read_vector(&r, 1);

            if (str_eqz(name, c->alpn[i])) {
                t->alpn = xstrdup(c->alpn[i]);
                return 0;
            }
            http1 |= str_eqz(name, "http/1.1") && !strcmp(c->alpn[i], "h2");
        }
    }
    if (http1)
        return 0;
    return tls_fail(t, ALERT_NO_APPLICATION_PROTOCOL,
                    "tls: client requested unsupported application protocols");
}

static int agree_on_names(struct tls *t, const struct client_hello *h)
{
    free(t->name);
    free(t->alpn);
    t->name = t->alpn = NULL;
    if (h->name.n) {
        t->name = xstrndup(h->name.p, h->name.n);
        for (char *p = t->name; *p; p++)
            *p = (char)tolower((unsigned char)*p);
    }
    return choose_alpn(t, h);
}

/* ChaCha20 first, if either side lacks instructions for AES: a client tells by
 * the order of its suites. */
static bool prefers_chacha(const struct client_hello *h)
{
    struct reader r = reader_of(h->suites);

    while (aead_aes_is_fast() && r.n > 0) {
        const struct tls_suite *s = tls_suite_of(read_uint(&r, 2));

        if (s)
            return s->aead == AEAD_CHACHA20_POLY1305;
    }
    return true;
}

static bool suite_fits(const struct tls *t, const struct client_hello *h,
                       const struct tls_suite *s, bool ecdsa)
{
    return s->version == t->version && list_has(h->suites, s->number) &&
           (t->version == TLS_1_3 || s->ecdsa == ecdsa);
}

/* The best that both have, or NULL. */
static const struct tls_suite *
choose_suite(const struct tls *t, const struct client_hello *h, bool ecdsa)
{
    const struct tls_config *c = t->config;
    bool chacha = prefers_chacha(h);
    const struct tls_suite *best = NULL;

    for (size_t i = 0; i < c->n_suites; i++) {
        const struct tls_suite *s = c->suites[i];

        if (!suite_fits(t, h, s, ecdsa))
            continue;
        if ((s->aead == AEAD_CHACHA20_POLY1305) == chacha)
            return s;
        best = best ? best : s;
    }
    return best;
}

static int agree_on_pair_and_suite(struct tls *t, const struct client_hello *h)
{
    struct pair_wish w = {
        .schemes = h->schemes,
        .name = str_of(t->name ? t->name : ""),
        .rsa = choose_suite(t, h, false) != NULL,
        .ecdsa = choose_suite(t, h, true) != NULL,
    };
    const struct tls_suite *before = t->suite;

    if (!w.rsa && !w.ecdsa)
        return tls_fail(t, ALERT_HANDSHAKE_FAILURE,
                        "tls: no cipher suite supported by both client and "
                        "server");
    if (!pair_choose(t, &w))
        return tls_fail(t, ALERT_HANDSHAKE_FAILURE,
                        t->config->n_pairs
                            ? "tls: peer doesn't support any of the "
                              "certificate's signature algorithms"
                            : "tls: no certificates configured");
    t->suite = choose_suite(t, h, pair_is_ecdsa(t->hs->pair));
    if (t->hs->retried && t->suite != before)
        return tls_fail(t, ALERT_ILLEGAL_PARAMETER,
                        "tls: client illegally modified second ClientHello");
    return 0;
}

/* The client's share of this group; empty if there is none. */
static struct str share_of(const struct client_hello *h, unsigned group)
{
    struct reader r = reader_of(h->shares);

    while (r.n > 0) {
        unsigned g = read_uint(&r, 2);
        struct str share = read_vector(&r, 2);

        if (!r.bad && g == group)
            return share;
    }
    return (struct str){"", 0};
}

/* Groups with a share come first: they save a round trip. 0: none. */
static unsigned choose_group(const struct tls *t, const struct client_hello *h)
{
    const struct tls_config *c = t->config;
    unsigned best = 0;

    for (size_t i = 0; i < c->n_groups; i++) {
        if (!list_has(h->groups, c->groups[i]))
            continue;
        if (share_of(h, c->groups[i]).n > 0)
            return c->groups[i];
        best = best ? best : c->groups[i];
    }
    return best;
}

static int no_group(struct tls *t)
{
    return tls_fail(t, ALERT_HANDSHAKE_FAILURE,
                    "tls: no ECDHE curve supported by both client and server");
}

/* --- ServerHello, sent. --------------------------------------------------- */

static void put_server_hello(const struct tls *t, struct buf *b,
                             const uint8_t *random)
{
    const struct handshake *hs = t->hs;
    size_t n_session_id = t->version == TLS_1_3 ? hs->n_session_id : 0;

    put_uint(b, TLS_1_2, 2);
    buf_add(b, random, RANDOM_SIZE);
    put_vector(b, 1, (struct str){(const char *)hs->session_id, n_session_id});
    put_uint(b, t->suite->number, 2);
    put_uint(b, 0, 1);
}

static int send_retry(struct tls *t, const struct client_hello *h,
                      unsigned group)
{
    struct buf *b;
    size_t at, ext;

    buf_addstr(&t->hs->first, h->fixed);
    t->hs->retried = true;
    t->hs->share.group = (enum tls_group)group;
    transcript_retry(t);
    b = message_begin(t, MSG_SERVER_HELLO);
    put_server_hello(t, b, retry_random);
    at = vector_begin(b, 2);
    put_extension(b, EXT_VERSIONS, STR("\x03\x04"));
    put_uint(b, EXT_KEY_SHARE, 2);
    ext = vector_begin(b, 2);
    put_uint(b, group, 2);
    vector_end(b, ext, 2);
    vector_end(b, at, 2);
    message_end(t);
    send_ccs13(t);
    t->hs->next = receive_client_hello;
    return 0;
}

static void send_server_hello13(struct tls *t)
{
    struct buf *b = message_begin(t, MSG_SERVER_HELLO);
    size_t at;

    put_server_hello(t, b, t->hs->server_random);
    at = vector_begin(b, 2);
    put_share(t, b, 0);
    put_extension(b, EXT_VERSIONS, STR("\x03\x04"));
    vector_end(b, at, 2);
    message_end(t);
    send_ccs13(t);
}

static int server13_hello(struct tls *t, const struct client_hello *h)
{
    unsigned group = choose_group(t, h);
    struct str theirs = share_of(h, group);
    uint8_t shared[SHARED_MAX];
    size_t n;
    int rc;

    if (!group)
        return no_group(t);
    if (theirs.n == 0 && !t->hs->retried)
        return send_retry(t, h, group);
    if (t->hs->retried && (theirs.n == 0 || group != t->hs->share.group))
        return tls_fail(t, ALERT_ILLEGAL_PARAMETER,
                        "tls: client sent invalid key share in second "
                        "ClientHello");
    share_make(t, (enum tls_group)group);
    if (!share_agree(&t->hs->share, theirs, shared, &n))
        return tls_fail(t, ALERT_ILLEGAL_PARAMETER,
                        "tls: invalid client key share");
    send_server_hello13(t);
    rc = server13_start(t, shared, n);
    wipe(shared, sizeof(shared));
    return rc;
}

void put_alpn(struct tls *t, struct buf *b)
{
    if (t->alpn)
        put_alpn_list(b, &t->alpn, 1);
}

static void send_server_hello12(struct tls *t, const struct client_hello *h)
{
    struct buf *b = message_begin(t, MSG_SERVER_HELLO);
    size_t at;

    put_server_hello(t, b, t->hs->server_random);
    at = vector_begin(b, 2);
    if (extension(&h->x, EXT_RENEGOTIATION) ||
        list_has(h->suites, SCSV_RENEGOTIATION))
        put_extension(b, EXT_RENEGOTIATION, STR("\x00"));
    if (t->hs->extended)
        put_extension(b, EXT_MASTER_SECRET, STR(""));
    if (extension(&h->x, EXT_POINT_FORMATS))
        put_extension(b, EXT_POINT_FORMATS, STR("\x01\x00"));
    put_alpn(t, b);
    vector_end(b, at, 2);
    message_end(t);
}

static int server12_hello(struct tls *t, const struct client_hello *h)
{
    const struct str *info = extension(&h->x, EXT_RENEGOTIATION);
    unsigned group = choose_group(t, h);

    if (info && !str_eq(*info, STR("\x00")))
        return tls_fail(t, ALERT_HANDSHAKE_FAILURE,
                        "tls: initial handshake had non-empty renegotiation "
                        "extension");
    if (!group)
        return no_group(t);
    if (t->config->version_max >= TLS_1_3) {
        memcpy(t->hs->server_random + RANDOM_SIZE - 8, downgraded,
               sizeof(downgraded));
        t->hs->server_random[RANDOM_SIZE - 1] = 1;
    }
    t->hs->extended = extension(&h->x, EXT_MASTER_SECRET) != NULL;
    share_make(t, (enum tls_group)group);
    send_server_hello12(t, h);
    return server12_start(t);
}

/* What TLS 1.3 cannot do without (RFC 8446, 9.2). */
static bool lacks_extension(const struct client_hello *h)
{
    return !h->groups.n || !h->schemes.n || !extension(&h->x, EXT_KEY_SHARE);
}

int receive_client_hello(struct tls *t, const struct message *m)
{
    struct handshake *hs = t->hs;
    struct client_hello h;

    if (m->type != MSG_CLIENT_HELLO)
        return tls_unexpected(t, m, "ClientHello");
    if (parse_client_hello(t, m->body, &h) < 0 || agree_on_version(t, &h) < 0)
        return TLS_EFAILED;
    if (t->version == TLS_1_3 && lacks_extension(&h))
        return tls_fail(t, ALERT_MISSING_EXTENSION,
                        "tls: client did not send a required extension");
    if (agree_on_names(t, &h) < 0 || agree_on_pair_and_suite(t, &h) < 0)
        return TLS_EFAILED;
    memcpy(hs->client_random, h.random.p, RANDOM_SIZE);
    hs->n_session_id = h.session_id.n;
    memcpy(hs->session_id, h.session_id.p, h.session_id.n);
    t->config->random(hs->server_random, RANDOM_SIZE);
    if (!hs->hashed)
        transcript_start(t);
    transcript_add(t, m->raw);
    return t->version == TLS_1_3 ? server13_hello(t, &h)
                                 : server12_hello(t, &h);
}
