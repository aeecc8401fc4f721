/*
 * tls.c - configurations and connections of TLS; what arrives, by its kind.
 *
 * A connection is struct tls and, until it is open, struct handshake. Records
 * come in by tls_receive(): data is handed out, messages of the handshake are
 * put together in t->message and go to whoever waits for them, hs->next.
 *
 * Output waits in two buffers: one grows, the other is lent to the writer until
 * it is sent; then they change places.
 */
#include "tls_impl.h"

#include <stdio.h>

/* --- Suites. -------------------------------------------------------------- */

/* clang-format off */
static const struct tls_suite suites[] = {
    {0x1301, TLS_1_3, false, AEAD_AES_128_GCM, HASH_SHA256,
     "TLS_AES_128_GCM_SHA256"},
    {0x1302, TLS_1_3, false, AEAD_AES_256_GCM, HASH_SHA384,
     "TLS_AES_256_GCM_SHA384"},
    {0x1303, TLS_1_3, false, AEAD_CHACHA20_POLY1305, HASH_SHA256,
     "TLS_CHACHA20_POLY1305_SHA256"},
    {0xc02b, TLS_1_2, true, AEAD_AES_128_GCM, HASH_SHA256,
     "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"},
    {0xc02f, TLS_1_2, false, AEAD_AES_128_GCM, HASH_SHA256,
     "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"},
    {0xc02c, TLS_1_2, true, AEAD_AES_256_GCM, HASH_SHA384,
     "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"},
    {0xc030, TLS_1_2, false, AEAD_AES_256_GCM, HASH_SHA384,
     "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"},
    {0xcca9, TLS_1_2, true, AEAD_CHACHA20_POLY1305, HASH_SHA256,
     "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"},
    {0xcca8, TLS_1_2, false, AEAD_CHACHA20_POLY1305, HASH_SHA256,
     "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"},
};
/* clang-format on */

static_assert(ARRAY_LEN(suites) <= SUITES_MAX, "room for all");

const struct tls_suite *tls_suite_of(unsigned number)
{
    for (size_t i = 0; i < ARRAY_LEN(suites); i++)
        if (suites[i].number == number)
            return &suites[i];
    return NULL;
}

/* Go's names for two suites before they were standardized without a hash. */
static const char *const old_names[][2] = {
    {"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
     "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"},
    {"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
     "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"},
};

uint16_t tls_suite_number(struct str name)
{
    for (size_t i = 0; i < ARRAY_LEN(old_names); i++)
        if (str_eqz(name, old_names[i][0]))
            name = str_of(old_names[i][1]);
    for (size_t i = 0; i < ARRAY_LEN(suites); i++)
        if (str_eqz(name, suites[i].name))
            return suites[i].number;
    return 0;
}

/* RSA key exchange, CBC, RC4 and 3DES. */
/* clang-format off */
static const char *const left_out[] = {
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
};
/* clang-format on */

bool tls_suite_is_left_out(struct str name)
{
    for (size_t i = 0; i < ARRAY_LEN(left_out); i++)
        if (str_eqz(name, left_out[i]))
            return true;
    return false;
}

const char *tls_suite_name(uint16_t number)
{
    const struct tls_suite *s = tls_suite_of(number);

    return s ? s->name : "";
}

uint16_t tls_suite_at(size_t i)
{
    return i < ARRAY_LEN(suites) ? suites[i].number : 0;
}

/* --- Configuration. ------------------------------------------------------- */

static bool wants_suite(const struct tls_options *o, const struct tls_suite *s)
{
    if (s->version == TLS_1_3 || o->n_suites == 0)
        return true;
    for (size_t i = 0; i < o->n_suites; i++)
        if (o->suites[i] == s->number)
            return true;
    return false;
}

static void add_suites(struct tls_config *c, const struct tls_options *o,
                       bool chacha)
{
    for (size_t i = 0; i < ARRAY_LEN(suites); i++) {
        const struct tls_suite *s = &suites[i];

        if ((s->aead == AEAD_CHACHA20_POLY1305) == chacha &&
            s->version >= c->version_min && s->version <= c->version_max &&
            wants_suite(o, s))
            c->suites[c->n_suites++] = s;
    }
}

static void copy_groups(struct tls_config *c, const struct tls_options *o)
{
    static const enum tls_group all[] = {TLS_X25519, TLS_P256, TLS_P384,
                                         TLS_P521};
    const enum tls_group *from = o->n_groups ? o->groups : all;

    c->n_groups = o->n_groups ? o->n_groups : ARRAY_LEN(all);
    assert(c->n_groups <= GROUPS_MAX);
    memcpy(c->groups, from, c->n_groups * sizeof(*from));
}

static void copy_alpn(struct tls_config *c, const struct tls_options *o)
{
    c->alpn = xcalloc(o->n_alpn, sizeof(*c->alpn));
    for (size_t i = 0; i < o->n_alpn; i++) {
        assert(*o->alpn[i] && strlen(o->alpn[i]) <= TLS_ALPN_MAX);
        c->alpn[i] = xstrdup(o->alpn[i]);
    }
    c->n_alpn = o->n_alpn;
}

/* The pairs move, so that each key is in one place only. */
static void take(struct tls_config *c, struct tls_options *o)
{
    c->pairs = xcalloc(o->n_pairs, sizeof(*c->pairs));
    c->n_pairs = o->n_pairs;
    if (o->n_pairs)
        memcpy(c->pairs, o->pairs, o->n_pairs * sizeof(*c->pairs));
    for (size_t i = 0; i < o->n_pairs; i++)
        wipe(&o->pairs[i], sizeof(o->pairs[i]));
    c->roots = o->roots;
    o->roots = (struct x509_certs){0};
}

struct tls_config *tls_config_new(struct tls_options *o, struct err *e)
{
    struct tls_config *c = xcalloc(1, sizeof(*c));

    assert(o->random);
    c->refs = 1;
    c->version_min = o->version_min ? o->version_min : TLS_1_2;
    c->version_max = o->version_max ? o->version_max : TLS_1_3;
    add_suites(c, o, !aead_aes_is_fast());
    add_suites(c, o, aead_aes_is_fast());
    if (c->n_suites == 0) {
        free(c);
        err_set(e, TLS_EFAILED,
                "tls: no cipher suite of a version that is allowed");
        return NULL;
    }
    take(c, o);
    copy_alpn(c, o);
    copy_groups(c, o);
    c->client_auth = o->client_auth;
    c->skip_verify = o->skip_verify;
    c->server_name = o->server_name ? xstrdup(o->server_name) : NULL;
    c->verify = o->verify;
    c->verify_arg = o->verify_arg;
    c->verify_release = o->verify_release;
    c->random = o->random;
    return c;
}

struct tls_config *tls_config_ref(struct tls_config *c)
{
    __atomic_fetch_add(&c->refs, 1, __ATOMIC_RELAXED);
    return c;
}

void tls_config_unref(struct tls_config *c)
{
    if (!c || __atomic_sub_fetch(&c->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    for (size_t i = 0; i < c->n_pairs; i++)
        x509_pair_release(&c->pairs[i]);
    for (size_t i = 0; i < c->n_alpn; i++)
        free(c->alpn[i]);
    x509_certs_release(&c->roots);
    if (c->verify_release)
        c->verify_release(c->verify_arg);
    free(c->pairs);
    free(c->alpn);
    free(c->server_name);
    free(c);
}

/* --- Connections. --------------------------------------------------------- */

static void handshake_free(struct tls *t)
{
    struct handshake *hs = t->hs;

    if (!hs)
        return;
    buf_release(&hs->raw);
    buf_release(&hs->out);
    buf_release(&hs->first);
    wipe(hs, sizeof(*hs));
    free(hs);
    t->hs = NULL;
}

/* "https://:2379" has an empty name, which any certificate would be for. */
static void client_begin(struct tls *t, const char *name)
{
    if (!name || !*name)
        name = t->config->server_name;
    if ((!name || !*name) && !t->config->skip_verify) {
        tls_fail(t, ALERT_NONE,
                 "tls: either ServerName or InsecureSkipVerify must be "
                 "specified in the tls.Config");
        handshake_free(t);
        return;
    }
    t->name = name ? xstrdup(name) : NULL;
    send_client_hello(t);
}

struct tls *tls_new(struct tls_config *c, enum tls_role role, const char *name,
                    int64_t now)
{
    struct tls *t = xcalloc(1, sizeof(*t));

    t->config = tls_config_ref(c);
    t->role = role;
    t->now = now;
    t->alert = ALERT_NONE;
    t->hs = xcalloc(1, sizeof(*t->hs));
    if (role == TLS_CLIENT)
        client_begin(t, name);
    else
        t->hs->next = receive_client_hello;
    return t;
}

void tls_free(struct tls *t)
{
    if (!t)
        return;
    handshake_free(t);
    half_release(&t->in);
    half_release(&t->out);
    x509_certs_release(&t->peer);
    tls_config_unref(t->config);
    buf_release(&t->message);
    buf_release(&t->output);
    buf_release(&t->sending);
    free(t->name);
    free(t->alpn);
    free(t->error);
    free(t);
}

void tls_opened(struct tls *t)
{
    handshake_free(t);
    t->state = TLS_OPEN;
    t->useless = 0;
}

/* --- Failures. ------------------------------------------------------------ */

#define ERROR_MAX 1024

int tls_fail(struct tls *t, int alert, const char *fmt, ...)
{
    char text[ERROR_MAX];
    va_list ap;

    if (t->state == TLS_FAILED)
        return TLS_EFAILED;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    t->state = TLS_FAILED;
    t->error = xstrdup(text);
    t->alert = alert;
    if (alert != ALERT_NONE && !t->out_closed)
        tls_send_alert(t, alert == ALERT_NO_RENEGOTIATION ? 1 : 2, alert);
    t->out_closed = true;
    return TLS_EFAILED;
}

int tls_unexpected(struct tls *t, const struct message *m, const char *want)
{
    return tls_fail(t, ALERT_UNEXPECTED_MESSAGE,
                    "tls: received unexpected handshake message of type %u "
                    "when waiting for %s",
                    m->type, want);
}

int tls_malformed(struct tls *t, const char *what)
{
    return tls_fail(t, ALERT_DECODE_ERROR, "tls: malformed %s", what);
}

int tls_useless(struct tls *t)
{
    if (++t->useless <= TLS_USELESS_MAX)
        return 0;
    return tls_fail(t, ALERT_UNEXPECTED_MESSAGE,
                    "tls: too many ignored records");
}

static int unexpected_record(struct tls *t)
{
    return tls_fail(t, ALERT_UNEXPECTED_MESSAGE,
                    "local error: tls: unexpected message");
}

/* --- Alerts that arrive. -------------------------------------------------- */

static const struct {
    int alert;
    const char *text; /* Go's */
} alerts[] = {
    {0, "close notify"},
    {10, "unexpected message"},
    {20, "bad record MAC"},
    {21, "decryption failed"},
    {22, "record overflow"},
    {30, "decompression failure"},
    {40, "handshake failure"},
    {42, "bad certificate"},
    {43, "unsupported certificate"},
    {44, "revoked certificate"},
    {45, "expired certificate"},
    {46, "unknown certificate"},
    {47, "illegal parameter"},
    {48, "unknown certificate authority"},
    {49, "access denied"},
    {50, "error decoding message"},
    {51, "error decrypting message"},
    {60, "export restriction"},
    {70, "protocol version not supported"},
    {71, "insufficient security level"},
    {80, "internal error"},
    {86, "inappropriate fallback"},
    {90, "user canceled"},
    {100, "no renegotiation"},
    {109, "missing extension"},
    {110, "unsupported extension"},
    {111, "certificate unobtainable"},
    {112, "unrecognized name"},
    {113, "bad certificate status response"},
    {114, "bad certificate hash value"},
    {115, "unknown PSK identity"},
    {116, "certificate required"},
    {120, "no application protocol"},
};

static int remote_error(struct tls *t, int alert)
{
    t->out_closed = true; /* the peer is gone: nobody to tell */
    for (size_t i = 0; i < ARRAY_LEN(alerts); i++)
        if (alerts[i].alert == alert)
            return tls_fail(t, alert, "remote error: tls: %s", alerts[i].text);
    return tls_fail(t, alert, "remote error: tls: alert(%d)", alert);
}

static int closed_by_peer(struct tls *t)
{
    if (t->hs) {
        t->out_closed = true;
        return tls_fail(t, ALERT_CLOSE_NOTIFY, "EOF");
    }
    t->state = TLS_CLOSED;
    return 0;
}

/* In TLS 1.3 all alerts are fatal but two, whatever they say (6). */
static int receive_alert(struct tls *t, struct str data)
{
    uint8_t level, alert;

    if (data.n != 2)
        return unexpected_record(t);
    level = bytes_of(data)[0];
    alert = bytes_of(data)[1];
    if (alert == ALERT_CLOSE_NOTIFY)
        return closed_by_peer(t);
    if (t->version == TLS_1_3 ? alert == ALERT_USER_CANCELED : level == 1)
        return tls_useless(t);
    if (t->version != TLS_1_3 && level != 2)
        return unexpected_record(t);
    return remote_error(t, alert);
}

/* --- Other records that arrive. ------------------------------------------- */

static int receive_ccs(struct tls *t, struct str data)
{
    if (!str_eq(data, STR("\x01")))
        return unexpected_record(t);
    if (t->version == TLS_1_2)
        return receive_ccs12(t);
    if (t->version == TLS_1_3 && t->hs)
        return tls_useless(t); /* compatibility (RFC 8446, D.4) */
    return unexpected_record(t);
}

static int receive_data(struct tls *t, struct str data, struct str *out)
{
    if (t->hs || t->message.len > 0)
        return unexpected_record(t);
    if (data.n == 0)
        return tls_useless(t);
    t->useless = 0;
    *out = data;
    return 0;
}

static int receive_message(struct tls *t, const struct message *m)
{
    if (t->hs)
        return t->hs->next(t, m);
    return t->version == TLS_1_3 ? tls13_message(t, m) : tls12_message(t, m);
}

/* The first message of t->message. 1: done; 0: it is not complete. */
static int step(struct tls *t)
{
    struct reader r = reader_of(buf_str(&t->message));
    struct message m;
    size_t n;

    if (r.n < MESSAGE_HEAD)
        return 0;
    m.type = read_uint(&r, 1);
    n = read_uint(&r, 3);
    if (n > TLS_MESSAGE_MAX)
        return tls_fail(t, ALERT_INTERNAL_ERROR,
                        "tls: handshake message of length %zu bytes exceeds "
                        "maximum of %zu bytes",
                        n, TLS_MESSAGE_MAX);
    if (r.n < n)
        return 0;
    m.raw = (struct str){(const char *)t->message.data, MESSAGE_HEAD + n};
    m.body = (struct str){m.raw.p + MESSAGE_HEAD, n};
    t->in_changed = false;
    if (receive_message(t, &m) < 0)
        return TLS_EFAILED;
    buf_consume(&t->message, MESSAGE_HEAD + n);
    /* What follows was not protected by the keys that it should be. */
    return t->in_changed && t->message.len > 0 ? unexpected_record(t) : 1;
}

static int receive_handshake(struct tls *t, struct str data)
{
    int rc;

    if (data.n == 0)
        return unexpected_record(t);
    buf_addstr(&t->message, data);
    do {
        rc = step(t);
    } while (rc > 0);
    if (!t->hs && t->message.len == 0)
        buf_release(&t->message);
    return rc;
}

static int receive_record(struct tls *t, unsigned type, struct str data,
                          struct str *out)
{
    switch (type) {
    case RECORD_HANDSHAKE:
        return receive_handshake(t, data);
    case RECORD_ALERT:
        return receive_alert(t, data);
    case RECORD_CCS:
        return receive_ccs(t, data);
    case RECORD_DATA:
        return receive_data(t, data, out);
    default:
        return unexpected_record(t);
    }
}

/* Is this a header that may stand here? */
static int check_head(struct tls *t, const uint8_t *p)
{
    unsigned type = p[0], version = (unsigned)p[1] << 8 | p[2];
    size_t n = (size_t)p[3] << 8 | p[4];

    if (t->version == 0 && t->role == TLS_SERVER && type == 0x80)
        return tls_fail(t, ALERT_PROTOCOL_VERSION,
                        "tls: unsupported SSLv2 handshake received");
    if (t->version == 0 &&
        (p[1] != 3 || (type != RECORD_HANDSHAKE && type != RECORD_ALERT)))
        return tls_fail(t, ALERT_NONE,
                        "tls: first record does not look like a TLS handshake");
    if (t->version != 0 && version != TLS_1_2)
        return tls_fail(t, ALERT_PROTOCOL_VERSION,
                        "tls: received record with version %x when expecting "
                        "version %x",
                        version, TLS_1_2);
    if (n > TLS_INPUT_MAX - RECORD_HEAD)
        return tls_fail(t, ALERT_RECORD_OVERFLOW,
                        "tls: oversized record received with length %zu", n);
    return 0;
}

ssize_t tls_receive(struct tls *t, uint8_t *p, size_t n, struct str *data)
{
    struct str plain;
    unsigned type;
    size_t size;

    *data = (struct str){"", 0};
    if (t->state == TLS_FAILED)
        return TLS_EFAILED;
    if (t->state == TLS_CLOSED)
        return (ssize_t)n;
    if (n < RECORD_HEAD)
        return 0;
    size = RECORD_HEAD + ((size_t)p[3] << 8 | p[4]);
    if (check_head(t, p) == 0) {
        if (n < size)
            return 0;
        if (tls_unseal(t, p, size, &type, &plain) == 0 &&
            receive_record(t, type, plain, data) == 0)
            return (ssize_t)size;
    }
    handshake_free(t);
    return TLS_EFAILED;
}

/* --- What goes out. ------------------------------------------------------- */

/* Records under one key: far below what AES-GCM is good for (2^24.5, RFC 8446,
 * 5.5). TLS 1.2 has no way to change keys. */
#define REKEY_AFTER ((uint64_t)1 << 22)

static size_t waiting(const struct tls *t)
{
    return t->output.len + t->sending.len - t->sent;
}

static bool may_write(const struct tls *t)
{
    return !t->hs && !t->out_closed && t->state != TLS_FAILED;
}

struct source { /* where in the iovecs we are */
    const struct iovec *iov;
    int n;
    size_t off; /* into the first */
};

/* As much as fits into a record; the number of parts. */
static size_t gather(struct source *s, struct str parts[PARTS_MAX],
                     size_t *size)
{
    size_t n = 0;

    *size = 0;
    while (s->n > 0 && n < PARTS_MAX && *size < RECORD_MAX) {
        size_t left = s->iov->iov_len - s->off;
        size_t part = min_u64(left, RECORD_MAX - *size);

        if (part > 0)
            parts[n++] = (struct str){(char *)s->iov->iov_base + s->off, part};
        *size += part;
        s->off += part;
        if (part == left) {
            s->iov++;
            s->n--;
            s->off = 0;
        }
    }
    return n;
}

static void rekey_in_time(struct tls *t)
{
    if (t->version == TLS_1_3 && (t->update_due || t->out.seq >= REKEY_AFTER))
        send_key_update(t, false);
}

size_t tls_write(struct tls *t, const struct iovec *iov, int n)
{
    struct source s = {iov, n, 0};
    struct str parts[PARTS_MAX];
    size_t taken = 0, size, n_parts;

    while (may_write(t) && waiting(t) < TLS_OUTPUT_MAX) {
        n_parts = gather(&s, parts, &size);
        if (size == 0)
            break;
        rekey_in_time(t);
        tls_seal(t, RECORD_DATA, parts, n_parts);
        taken += size;
    }
    return taken;
}

void tls_close(struct tls *t)
{
    if (may_write(t))
        tls_send_alert(t, 1, ALERT_CLOSE_NOTIFY);
    t->out_closed = true;
}

void tls_update_keys(struct tls *t, bool both)
{
    if (may_write(t) && t->version == TLS_1_3)
        send_key_update(t, both);
}

bool tls_wants_write(const struct tls *t)
{
    return waiting(t) > 0;
}

struct str tls_output(struct tls *t)
{
    struct buf empty = t->sending;

    if (t->sent == t->sending.len) {
        buf_clear(&empty);
        t->sending = t->output;
        t->output = empty;
        t->sent = 0;
    }
    if (t->sending.len == 0)
        return (struct str){"", 0};
    return (struct str){(const char *)t->sending.data + t->sent,
                        t->sending.len - t->sent};
}

void tls_sent(struct tls *t, size_t n)
{
    assert(n <= t->sending.len - t->sent);
    t->sent += n;
}

void tls_trim(struct tls *t)
{
    if (t->output.len == 0)
        buf_release(&t->output);
    if (t->sent == t->sending.len) {
        buf_release(&t->sending);
        t->sent = 0;
    }
}

/* --- What was agreed on. -------------------------------------------------- */

enum tls_state tls_state(const struct tls *t)
{
    return t->state;
}

const char *tls_error(const struct tls *t)
{
    return t->error ? t->error : "";
}

int tls_alert(const struct tls *t)
{
    return t->alert;
}

const struct x509_certs *tls_peer(const struct tls *t)
{
    return &t->peer;
}

uint16_t tls_version(const struct tls *t)
{
    return t->version;
}

uint16_t tls_suite(const struct tls *t)
{
    return t->suite ? t->suite->number : 0;
}

struct str tls_alpn(const struct tls *t)
{
    return str_of(t->alpn ? t->alpn : "");
}

struct str tls_server_name(const struct tls *t)
{
    return str_of(t->name ? t->name : "");
}
