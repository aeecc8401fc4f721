/*
 * x509_test.c - certificates made by openssl, and by a small authority here
 * that can also make those that nobody should trust.
 */
#include "x509.h"

#include "check.h"
#include "hex.h"
#include "x509certs.h"

#define NOW 1800000000
#define N_KEYS 7

static const uint8_t fixed_random[PK_RANDOM_SIZE] = {5};

/* --- An authority. ------------------------------------------------------- */

enum who { NOBODY, IS_ROOT, IS_MID, IS_MID2, IS_LEAF };
enum { NO_BASIC = 1, CA, NOT_CA };

/* What differs from the one who it is; what is left out (0) does not. */
struct spec {
    enum who who;
    const char *subject, *issuer; /* common names */
    int key, signer;              /* numbers of keys, from 1 */
    int64_t from, to;             /* 0: around NOW */
    int basic;
    int path;          /* 1 + path length */
    unsigned ku;       /* X509_KU_* */
    const char *usage; /* letters: server, client, any, other */
    const char *san;   /* "D:name,I:hex,E:mail,U:uri"; "" is none */
    const char *permitted, *excluded;
    const char *unknown; /* an extension: "yes", "critical" */
    const char *skid, *akid;
    int version;                 /* 0: 3 */
    const struct str *extension; /* one more, whole */
    bool bad_signature;
};

static const struct spec people[] = {
    [IS_ROOT] = {.who = IS_ROOT,
                 .subject = "root",
                 .issuer = "root",
                 .key = 1,
                 .signer = 1,
                 .basic = CA},
    [IS_MID] = {.who = IS_MID,
                .subject = "mid",
                .issuer = "root",
                .key = 2,
                .signer = 1,
                .basic = CA},
    [IS_MID2] = {.who = IS_MID2,
                 .subject = "mid2",
                 .issuer = "mid",
                 .key = 4,
                 .signer = 2,
                 .basic = CA},
    [IS_LEAF] = {.who = IS_LEAF,
                 .subject = "leaf",
                 .issuer = "mid",
                 .key = 3,
                 .signer = 2,
                 .basic = NO_BASIC,
                 .san = "D:a.example.com,I:7f000001"},
};

static struct pk_private keys[1 + N_KEYS]; /* from 1 */

static void make_keys(void)
{
    for (int i = 1; i <= N_KEYS; i++) {
        char seed[ED25519_PUBLIC_SIZE] = {(char)i};

        CHECK(pk_private_ed25519(&keys[i], (struct str){seed, 32}) == 0);
    }
}

static void put_alg(struct buf *b)
{
    size_t at = der_begin(b, DER_SEQ);

    der_put(b, DER_OID, STR("\x2b\x65\x70"));
    der_end(b, at);
}

static void put_name(struct buf *b, const char *cn)
{
    size_t name = der_begin(b, DER_SEQ), set = der_begin(b, DER_SET);
    size_t pair = der_begin(b, DER_SEQ);

    der_put(b, DER_OID, STR("\x55\x04\x03"));
    der_put(b, DER_UTF8, str_of(cn));
    der_end(b, pair);
    der_end(b, set);
    der_end(b, name);
}

static void put_general_name(struct buf *b, struct str s)
{
    struct str text = {s.p + 2, s.n - 2};
    struct buf ip = {0};

    switch (s.p[0]) {
    case 'D':
        der_put(b, DER_CONTEXT | X509_SAN_DNS, text);
        break;
    case 'E':
        der_put(b, DER_CONTEXT | X509_SAN_EMAIL, text);
        break;
    case 'U':
        der_put(b, DER_CONTEXT | X509_SAN_URI, text);
        break;
    case 'N': /* a directory name, of no content */
        der_put(b, DER_CONTEXT_SEQ | 4, STR("\x30\x00"));
        break;
    default: {
        char *hex = xstrndup(text.p, text.n);

        ip = unhex(hex);
        der_put(b, DER_CONTEXT | X509_SAN_IP, buf_str(&ip));
        buf_release(&ip);
        free(hex);
    }
    }
}

static void put_general_names(struct buf *b, unsigned tag, const char *list,
                              bool subtrees)
{
    size_t at = der_begin(b, tag);
    struct str rest = str_of(list), one;

    while (rest.n) {
        size_t tree = 0;

        str_cut(&rest, ',', &one);
        if (subtrees)
            tree = der_begin(b, DER_SEQ);
        put_general_name(b, one);
        if (subtrees)
            der_end(b, tree);
    }
    der_end(b, at);
}

/* id, critical and the value that value holds, which is emptied. */
static void put_extension(struct buf *b, struct str oid, bool critical,
                          struct buf *value)
{
    size_t at = der_begin(b, DER_SEQ);

    der_put(b, DER_OID, oid);
    if (critical)
        der_put(b, DER_BOOL, STR("\xff"));
    der_put(b, DER_OCTETS, buf_str(value));
    der_end(b, at);
    buf_clear(value);
}

static void put_usages(struct buf *b, struct buf *v, const struct spec *s)
{
    size_t at;

    if (s->ku) {
        char bits = 0;

        for (int i = 0; i < 8; i++)
            bits |= (char)((s->ku >> i & 1) << (7 - i));
        der_put_bits(v, (struct str){&bits, 1}, 0);
        put_extension(b, STR("\x55\x1d\x0f"), true, v);
    }
    if (!s->usage)
        return;
    at = der_begin(v, DER_SEQ);
    for (const char *u = s->usage; *u; u++)
        if (*u == 's')
            der_put(v, DER_OID, STR("\x2b\x06\x01\x05\x05\x07\x03\x01"));
        else if (*u == 'c')
            der_put(v, DER_OID, STR("\x2b\x06\x01\x05\x05\x07\x03\x02"));
        else if (*u == 'a')
            der_put(v, DER_OID, STR("\x55\x1d\x25\x00"));
        else
            der_put(v, DER_OID, STR("\x2b\x06\x01\x05\x05\x07\x03\x03"));
    der_end(v, at);
    put_extension(b, STR("\x55\x1d\x25"), false, v);
}

static void put_basic(struct buf *b, struct buf *v, const struct spec *s)
{
    size_t at = der_begin(v, DER_SEQ);
    char path = (char)(s->path - 1);

    if (s->basic == CA)
        der_put(v, DER_BOOL, STR("\xff"));
    if (s->path)
        der_put_uint(v, (struct str){&path, 1});
    der_end(v, at);
    put_extension(b, STR("\x55\x1d\x13"), true, v);
}

static void put_key_ids(struct buf *b, struct buf *v, const struct spec *s)
{
    if (s->skid) {
        der_put(v, DER_OCTETS, str_of(s->skid));
        put_extension(b, STR("\x55\x1d\x0e"), false, v);
    }
    if (s->akid) {
        size_t at = der_begin(v, DER_SEQ);

        der_put(v, DER_CONTEXT | 0, str_of(s->akid));
        der_end(v, at);
        put_extension(b, STR("\x55\x1d\x23"), false, v);
    }
}

static void put_names(struct buf *b, struct buf *v, const struct spec *s)
{
    if (*s->san) {
        put_general_names(v, DER_SEQ, s->san, false);
        put_extension(b, STR("\x55\x1d\x11"), false, v);
    }
    if (s->permitted || s->excluded) {
        size_t at = der_begin(v, DER_SEQ);

        if (s->permitted)
            put_general_names(v, DER_CONTEXT_SEQ | 0, s->permitted, true);
        if (s->excluded)
            put_general_names(v, DER_CONTEXT_SEQ | 1, s->excluded, true);
        der_end(v, at);
        put_extension(b, STR("\x55\x1d\x1e"), true, v);
    }
}

static void put_extensions(struct buf *b, const struct spec *s)
{
    size_t outer = der_begin(b, DER_CONTEXT_SEQ | 3);
    size_t list = der_begin(b, DER_SEQ);
    struct buf v = {0};

    if (s->basic != NO_BASIC)
        put_basic(b, &v, s);
    put_usages(b, &v, s);
    put_key_ids(b, &v, s);
    put_names(b, &v, s);
    if (s->unknown) {
        der_put(&v, DER_NULL, STR(""));
        put_extension(b, STR("\x2a\x03\x04"),
                      strcmp(s->unknown, "critical") == 0, &v);
    }
    if (s->extension)
        buf_addstr(b, *s->extension);
    der_end(b, list);
    der_end(b, outer);
    buf_release(&v);
}

static void put_tbs(struct buf *b, const struct spec *s)
{
    size_t tbs = der_begin(b, DER_SEQ), at = der_begin(b, DER_CONTEXT_SEQ | 0);
    int version = s->version ? s->version : 3;
    char number = (char)(version - 1);

    der_put_uint(b, (struct str){&number, 1});
    der_end(b, at);
    der_put_uint(b, STR("\x12\x34"));
    put_alg(b);
    put_name(b, s->issuer);
    at = der_begin(b, DER_SEQ);
    der_put_time(b, s->from ? s->from : NOW - 1000);
    der_put_time(b, s->to ? s->to : NOW + 1000);
    der_end(b, at);
    put_name(b, s->subject);
    at = der_begin(b, DER_SEQ);
    put_alg(b);
    der_put_bits(b, (struct str){(char *)keys[s->key].pub.u.ed25519, 32}, 0);
    der_end(b, at);
    if (version == 3)
        put_extensions(b, s);
    der_end(b, tbs);
}

static struct spec complete(const struct spec *changes)
{
    const struct spec *who = &people[changes->who];
    struct spec s = *changes;

    s.subject = s.subject ? s.subject : who->subject;
    s.issuer = s.issuer ? s.issuer : who->issuer;
    s.key = s.key ? s.key : who->key;
    s.signer = s.signer ? s.signer : who->signer;
    s.basic = s.basic ? s.basic : who->basic;
    s.san = s.san ? s.san : who->san ? who->san : "";
    return s;
}

static void make_cert(const struct spec *changes, struct buf *b)
{
    const struct spec full = complete(changes), *s = &full;
    size_t cert = der_begin(b, DER_SEQ), n = 0;
    uint8_t sig[PK_SIG_MAX];

    put_tbs(b, s);
    CHECK(pk_sign(&keys[s->signer], PK_ED25519_PURE,
                  (struct str){(char *)b->data + cert, b->len - cert},
                  fixed_random, sig, &n) == 0);
    sig[3] ^= s->bad_signature;
    put_alg(b);
    der_put_bits(b, (struct str){(char *)sig, n}, 0);
    der_end(b, cert);
}

static void add(struct x509_certs *l, const struct spec *s)
{
    struct buf b = {0};
    struct err e = {.msg = ""};

    make_cert(s, &b);
    CHECK(x509_certs_add(l, buf_str(&b), &e) == 0);
    CHECK_STR(e.msg, "");
    buf_release(&b);
}

/* --- Chains. ------------------------------------------------------------- */

#define ROOT .who = IS_ROOT
#define MID .who = IS_MID
#define MID2 .who = IS_MID2
#define LEAF .who = IS_LEAF
#define UNKNOWN "x509: certificate signed by unknown authority"
#define HINT UNKNOWN " (possibly because of \""
#define UNSIGNED_BY                                                            \
    "x509: a root or intermediate certificate is not authorized to sign for "  \
    "this name: "

/* clang-format off */
static const struct chain_case {
    const char *name;
    struct spec chain[5], roots[3]; /* up to the first that is nobody */
    enum x509_usage usage;          /* 0: server */
    const char *want;               /* NULL: good; else the message's beginning */
} chains[] = {
    {"good", {{LEAF}, {MID}}, {{ROOT}}, 0, NULL},
    {"any order, the root among them", {{LEAF}, {ROOT}, {MID2}, {MID}}, {{ROOT}}, 0, NULL},
    {"three", {{LEAF, .issuer = "mid2", .signer = 4}, {MID}, {MID2}}, {{ROOT}}, 0, NULL},
    {"below the root", {{LEAF, .issuer = "root", .signer = 1}}, {{ROOT}}, 0, NULL},
    {"root of version 1", {{LEAF, .issuer = "root", .signer = 1}}, {{ROOT, .version = 1}}, 0, NULL},
    {"an intermediate trusted", {{LEAF}}, {{MID}}, 0, NULL},
    {"the leaf trusted", {{LEAF}}, {{LEAF}}, 0, NULL},
    {"the leaf trusted, self-signed", {{LEAF, .issuer = "leaf", .signer = 3}}, {{LEAF, .issuer = "leaf", .signer = 3}}, 0, NULL},
    {"self-signed", {{LEAF, .issuer = "leaf", .signer = 3}}, {{ROOT}}, 0, UNKNOWN},
    {"no intermediate", {{LEAF}}, {{ROOT}}, 0, UNKNOWN},
    {"no root", {{LEAF}, {MID}, {ROOT}}, {{MID2}}, 0, UNKNOWN},
    {"no roots at all", {{LEAF}, {MID}, {ROOT}}, {{0}}, 0, UNKNOWN},
    {"no certificate", {{0}}, {{ROOT}}, 0, "x509: no certificate"},
    {"wrong signature", {{LEAF, .bad_signature = true}, {MID}}, {{ROOT}}, 0,
     HINT "x509: Ed25519 verification failure\" while trying to verify candidate authority certificate \"mid\")"},
    {"signed by another", {{LEAF, .signer = 5}, {MID}}, {{ROOT}}, 0, HINT "x509: Ed25519 verification failure"},
    {"root of the same name", {{LEAF}, {MID}}, {{ROOT, .key = 6}}, 0, HINT "x509: Ed25519 verification failure"},

    {"expired", {{LEAF, .to = NOW - 1}, {MID}}, {{ROOT}}, 0,
     "x509: certificate has expired or is not yet valid: current time 2027-01-15T08:00:00Z is after 2027-01-15T07:59:59Z"},
    {"not yet", {{LEAF, .from = NOW + 1}, {MID}}, {{ROOT}}, 0,
     "x509: certificate has expired or is not yet valid: current time 2027-01-15T08:00:00Z is before 2027-01-15T08:00:01Z"},
    {"this very second", {{LEAF, .from = NOW, .to = NOW}, {MID}}, {{ROOT}}, 0, NULL},
    {"intermediate expired", {{LEAF}, {MID, .to = NOW - 1}}, {{ROOT}}, 0, HINT "x509: certificate has expired"},
    {"root expired", {{LEAF}, {MID}}, {{ROOT, .to = NOW - 1}}, 0, HINT "x509: certificate has expired"},

    {"intermediate without constraints", {{LEAF}, {MID, .basic = NO_BASIC}}, {{ROOT}}, 0,
     HINT "x509: invalid signature: parent certificate cannot sign this kind of certificate"},
    {"intermediate is no authority", {{LEAF}, {MID, .basic = NOT_CA}}, {{ROOT}}, 0, HINT "x509: invalid signature"},
    {"intermediate of version 1", {{LEAF}, {MID, .version = 1}}, {{ROOT}}, 0,
     HINT "x509: certificate is not authorized to sign other certificates"},
    {"root is no authority", {{LEAF}, {MID}}, {{ROOT, .basic = NOT_CA}}, 0, HINT "x509: invalid signature"},
    {"may sign", {{LEAF}, {MID, .ku = X509_KU_CERT_SIGN}}, {{ROOT}}, 0, NULL},
    {"may not sign", {{LEAF}, {MID, .ku = X509_KU_SIGNATURE | X509_KU_CRL_SIGN}}, {{ROOT}}, 0, HINT "x509: invalid signature"},
    {"a leaf signs", {{LEAF, .issuer = "leaf2", .signer = 5}, {LEAF, .subject = "leaf2", .key = 5}, {MID}}, {{ROOT}}, 0, HINT "x509: invalid signature"},

    {"path length 0", {{LEAF}, {MID, .path = 1}}, {{ROOT}}, 0, NULL},
    {"path length 1", {{LEAF}, {MID}}, {{ROOT, .path = 2}}, 0, NULL},
    {"too long for the root", {{LEAF}, {MID}}, {{ROOT, .path = 1}}, 0, HINT "x509: too many intermediates for path length constraint"},
    {"too long for the middle", {{LEAF, .issuer = "mid2", .signer = 4}, {MID2}, {MID, .path = 1}}, {{ROOT}}, 0, HINT "x509: too many intermediates"},

    {"for servers", {{LEAF, .usage = "os"}, {MID, .usage = "sc"}}, {{ROOT}}, 0, NULL},
    {"for clients", {{LEAF, .usage = "c"}, {MID}}, {{ROOT}}, X509_CLIENT, NULL},
    {"for any", {{LEAF, .usage = "a"}, {MID}}, {{ROOT}}, X509_CLIENT, NULL},
    {"a client's as a server's", {{LEAF, .usage = "c"}, {MID}}, {{ROOT}}, 0, "x509: certificate specifies an incompatible key usage"},
    {"a server's as a client's", {{LEAF, .usage = "s"}, {MID}}, {{ROOT}}, X509_CLIENT, "x509: certificate specifies an incompatible key usage"},
    {"for others", {{LEAF, .usage = "o"}, {MID}}, {{ROOT}}, 0, "x509: certificate specifies an incompatible key usage"},
    {"not asked", {{LEAF, .usage = "o"}, {MID}}, {{ROOT}}, X509_ANY, NULL},
    {"intermediate for clients", {{LEAF, .usage = "s"}, {MID, .usage = "c"}}, {{ROOT}}, 0, "x509: certificate specifies an incompatible key usage"},
    {"root for clients", {{LEAF}, {MID}}, {{ROOT, .usage = "c"}}, 0, "x509: certificate specifies an incompatible key usage"},
    {"the leaf trusted, for clients", {{LEAF, .usage = "c"}}, {{LEAF, .usage = "c"}}, 0, "x509: certificate specifies an incompatible key usage"},

    {"unknown", {{LEAF, .unknown = "yes"}, {MID, .unknown = "yes"}}, {{ROOT, .unknown = "yes"}}, 0, NULL},
    {"unknown, critical", {{LEAF, .unknown = "critical"}, {MID}}, {{ROOT}}, 0, "x509: unhandled critical extension"},
    {"unknown, critical, above", {{LEAF}, {MID, .unknown = "critical"}}, {{ROOT}}, 0, HINT "x509: unhandled critical extension"},
    {"unknown, critical, root", {{LEAF}, {MID}}, {{ROOT, .unknown = "critical"}}, 0, HINT "x509: unhandled critical extension"},

    {"two roots, one right", {{LEAF}, {MID}}, {{ROOT, .key = 6}, {ROOT}}, 0, NULL},
    {"cross-signed, first way expired", {{LEAF}, {MID, .to = NOW - 1}, {MID, .issuer = "root2", .signer = 7}}, {{ROOT}, {ROOT, .subject = "root2", .key = 7}}, 0, NULL},
    {"cross-signed, first root unknown", {{LEAF}, {MID, .issuer = "root2", .signer = 7}, {MID}}, {{ROOT}}, 0, NULL},
    {"cross-signed, first way for clients", {{LEAF}, {MID, .usage = "c"}, {MID, .issuer = "root2", .signer = 7}}, {{ROOT}, {ROOT, .subject = "root2", .key = 7}}, 0, NULL},
    {"in circles", {{LEAF}, {MID, .issuer = "mid2", .signer = 4}, {MID2}}, {{ROOT}}, 0, UNKNOWN},
    {"key ids lead", {{LEAF, .akid = "y"}, {MID, .key = 6, .skid = "x"}, {MID, .skid = "y"}}, {{ROOT}}, 0, NULL},
    {"key ids do not fit", {{LEAF, .akid = "z"}, {MID, .skid = "y"}}, {{ROOT}}, 0, NULL},

    {"permitted", {{LEAF}, {MID, .permitted = "D:example.com,I:7f000000ff000000"}}, {{ROOT}}, 0, NULL},
    {"permitted below", {{LEAF}, {MID, .permitted = "D:.Example.com"}}, {{ROOT}}, 0, NULL},
    {"permitted with all", {{LEAF}, {MID, .permitted = "D:"}}, {{ROOT}}, 0, NULL},
    {"permitted itself", {{LEAF}, {MID, .permitted = "D:a.example.com"}}, {{ROOT}}, 0, NULL},
    {"permitted only below", {{LEAF}, {MID, .permitted = "D:.a.example.com"}}, {{ROOT}}, 0, HINT UNSIGNED_BY "DNS name \"a.example.com\""},
    {"permitted elsewhere", {{LEAF}, {MID, .permitted = "D:example.org,D:le.com"}}, {{ROOT}}, 0, HINT UNSIGNED_BY "DNS name"},
    {"permitted by one of two", {{LEAF}, {MID, .permitted = "D:example.com"}}, {{ROOT, .permitted = "D:b.example.com"}}, 0, HINT UNSIGNED_BY},
    {"another network", {{LEAF}, {MID, .permitted = "I:0a000000ff000000"}}, {{ROOT}}, 0, HINT UNSIGNED_BY "IP address \"127.0.0.1\""},
    {"a network of IPv6", {{LEAF}, {MID, .permitted = "I:0000000000000000000000000000000000000000000000000000000000000000"}}, {{ROOT}}, 0, HINT UNSIGNED_BY "IP address"},
    {"excluded", {{LEAF}, {MID, .excluded = "D:example.com"}}, {{ROOT}}, 0, HINT UNSIGNED_BY "DNS name"},
    {"excluded elsewhere", {{LEAF}, {MID, .excluded = "D:b.example.com,I:0a000000ff000000"}}, {{ROOT}}, 0, NULL},
    {"excluded though permitted", {{LEAF}, {MID, .permitted = "D:example.com", .excluded = "I:7f000000ffff0000"}}, {{ROOT}}, 0, HINT UNSIGNED_BY "IP address"},
    {"excluded, but no names", {{LEAF, .san = ""}, {MID, .excluded = "D:example.com"}}, {{ROOT}}, 0, NULL},
    {"a wildcard meets", {{LEAF, .san = "D:*.example.com"}, {MID, .excluded = "D:b.example.com"}}, {{ROOT}}, 0, HINT UNSIGNED_BY "DNS name \"*.example.com\""},
    {"a wildcard is not deep", {{LEAF, .san = "D:*.example.com"}, {MID, .excluded = "D:c.b.example.com"}}, {{ROOT}}, 0, NULL},
    {"a wildcard is wider", {{LEAF, .san = "D:*.example.com"}, {MID, .permitted = "D:b.example.com"}}, {{ROOT}}, 0, HINT UNSIGNED_BY},
    {"no domain", {{LEAF, .san = "D:a..example.com"}, {MID, .permitted = "D:"}}, {{ROOT}}, 0, HINT UNSIGNED_BY},
    {"mail", {{LEAF, .san = "E:a@example.com"}, {MID, .permitted = "E:example.com"}}, {{ROOT}}, 0, HINT UNSIGNED_BY "email address"},
    {"no mail", {{LEAF}, {MID, .permitted = "E:example.com", .excluded = "U:x"}}, {{ROOT}}, 0, NULL},
    {"uri", {{LEAF, .san = "U:spiffe://x/y"}, {MID, .excluded = "U:z"}}, {{ROOT}}, 0, HINT UNSIGNED_BY "URI"},
    {"directory names, critical", {{LEAF}, {MID, .permitted = "N:"}}, {{ROOT}}, 0, HINT "x509: unhandled critical extension"},
    {"the names of an intermediate", {{LEAF}, {MID, .san = "D:ca.example.org"}}, {{ROOT, .permitted = "D:example.com"}}, 0, HINT UNSIGNED_BY "DNS name \"ca.example.org\""},
};
/* clang-format on */

static void test_chains(void)
{
    for (size_t i = 0; i < ARRAY_LEN(chains); i++) {
        const struct chain_case *c = &chains[i];
        struct x509_certs chain = {0}, roots = {0};
        struct x509_verify v = {.roots = &roots, .chain = &chain, .now = NOW};
        struct err e = {.msg = ""};
        int rc;

        for (size_t k = 0; k < ARRAY_LEN(c->chain) && c->chain[k].who; k++)
            add(&chain, &c->chain[k]);
        for (size_t k = 0; k < ARRAY_LEN(c->roots) && c->roots[k].who; k++)
            add(&roots, &c->roots[k]);
        v.usage = c->usage ? c->usage : X509_SERVER;
        rc = x509_verify(&v, &e);
        if (rc != (c->want ? X509_EVERIFY : 0) ||
            (c->want && strncmp(e.msg, c->want, strlen(c->want)) != 0)) {
            fprintf(stderr, "chain \"%s\": %d %s\n", c->name, rc, e.msg);
            CHECK(false);
        }
        CHECK(rc == (c->want ? X509_EVERIFY : 0));
        x509_certs_release(&chain);
        x509_certs_release(&roots);
    }
}

/* The message names what it was asked for, and an end to all candidates. */
static void test_many_roots(void)
{
    struct x509_certs chain = {0}, roots = {0};
    struct x509_verify v = {
        .roots = &roots, .chain = &chain, .now = NOW, .usage = X509_SERVER};
    struct err e = {.msg = ""};

    add(&chain, &(struct spec){LEAF, .issuer = "root", .signer = 1});
    for (int i = 0; i < X509_SIGNATURES_MAX; i++)
        add(&roots, &(struct spec){ROOT, .key = 6});
    CHECK(x509_verify(&v, &e) == X509_EVERIFY);
    CHECK_STR(e.msg, "x509: signature check attempts limit reached while "
                     "verifying certificate chain");
    /* One of them fewer, and the right one last. */
    x509_free(roots.certs[--roots.n]);
    add(&roots, &(struct spec){ROOT});
    CHECK(x509_verify(&v, &e) == 0);
    add(&roots, &(struct spec){ROOT, .key = 6});
    CHECK(x509_verify(&v, &e) == 0);
    x509_certs_release(&chain);
    x509_certs_release(&roots);
}

/* Authorities of the peer's own making: no signature is checked by their keys,
 * however many ways there are between them. */
static void test_many_authorities(void)
{
    struct x509_certs chain = {0}, roots = {0};
    struct x509_verify v = {
        .roots = &roots, .chain = &chain, .now = NOW, .usage = X509_SERVER};
    struct err e = {.msg = ""};
    char san[16];

    add(&chain, &(struct spec){LEAF});
    for (int i = 1; i < X509_CHAIN_MAX; i++) {
        snprintf(san, sizeof(san), "D:a%d", i);
        add(&chain,
            &(struct spec){MID, .issuer = "mid", .signer = 2, .san = san});
    }
    add(&roots, &(struct spec){ROOT});
    CHECK(x509_verify(&v, &e) == X509_EVERIFY);
    CHECK_STR(e.msg, UNKNOWN);
    /* One of them comes from the root. */
    x509_free(chain.certs[--chain.n]);
    add(&chain, &(struct spec){MID});
    CHECK(x509_verify(&v, &e) == 0);
    x509_certs_release(&chain);
    x509_certs_release(&roots);
}

/* n authorities between leaf and root. */
static int verify_depth(int n, struct err *e)
{
    struct x509_certs chain = {0}, roots = {0};
    struct x509_verify v = {
        .roots = &roots, .chain = &chain, .now = NOW, .usage = X509_SERVER};
    char below[16] = "leaf", above[16];
    int rc;

    for (int i = 0; i <= n; i++) {
        snprintf(above, sizeof(above), i == n ? "root" : "ca%d", i);
        add(&chain, &(struct spec){LEAF, .subject = below, .issuer = above,
                                   .key = i ? 2 : 3, .signer = i == n ? 1 : 2,
                                   .basic = i ? CA : NO_BASIC, .san = ""});
        memcpy(below, above, sizeof(below));
    }
    add(&roots, &(struct spec){ROOT});
    rc = x509_verify(&v, e);
    x509_certs_release(&chain);
    x509_certs_release(&roots);
    return rc;
}

static void test_depth(void)
{
    struct err e = {.msg = ""};

    CHECK(verify_depth(0, &e) == 0);
    CHECK(verify_depth(X509_CHAIN_MAX - 2, &e) == 0);
    CHECK(verify_depth(X509_CHAIN_MAX - 1, &e) == X509_EVERIFY);
    CHECK_STR(e.msg, UNKNOWN);
}

/* "D:a0.example.com,D:a1.example.com," and so on */
static const char *many_names(struct buf *b, const char *letter)
{
    buf_clear(b);
    for (int i = 0; i < 1000; i++)
        buf_printf(b, "D:%s%d.example.com,", letter, i);
    return buf_z(b);
}

/* Many names under many constraints end in an error, not in minutes. */
static void test_comparisons(void)
{
    struct x509_certs chain = {0}, roots = {0};
    struct x509_verify v = {
        .roots = &roots, .chain = &chain, .now = NOW, .usage = X509_SERVER};
    struct buf b = {0};
    struct err e = {.msg = ""};

    add(&chain, &(struct spec){LEAF, .san = many_names(&b, "n")});
    add(&chain, &(struct spec){MID, .excluded = many_names(&b, "m")});
    add(&roots, &(struct spec){ROOT});
    CHECK(x509_verify(&v, &e) == X509_EVERIFY);
    CHECK(strstr(e.msg, "x509: too many names and name constraints"));
    x509_certs_release(&chain);
    x509_certs_release(&roots);
    buf_release(&b);
}

/* --- Names of hosts. ----------------------------------------------------- */

static const struct {
    const char *san, *host; /* the common name is "leaf" */
    const char *want;       /* NULL: good */
} hosts[] = {
    {"D:a.b.c", "a.b.c", NULL},
    {"D:a.b.c", "A.b.C.", NULL},
    {"D:A.B.c", "a.b.c", NULL},
    {"D:a.b.c", "b.b.c", "x509: certificate is valid for a.b.c, not b.b.c"},
    {"D:a.b,D:c.d", "c.d", NULL},
    {"D:a.b,I:7f000001,D:c.d", "x",
     "x509: certificate is valid for a.b, c.d, not x"},
    {"D:example.com", "www.example.com", "x509: certificate is valid for"},
    {"D:*.example.com", "www.example.com", NULL},
    {"D:*.example.com", "www.example.com.", NULL},
    {"D:*.example.com", "example.com", "x509: certificate is valid for"},
    {"D:*.example.com", "a.www.example.com", "x509: certificate is valid for"},
    {"D:*.example.com", ".example.com", "x509: certificate is valid for"},
    {"D:*.*.example.com", "a.b.example.com", "x509: certificate is valid for"},
    {"D:a.*.com", "a.b.com", "x509: certificate is valid for"},
    {"D:*bar.example.com", "foobar.example.com", "x509: certificate is valid"},
    {"D:f*.example.com", "foobar.example.com", "x509: certificate is valid"},
    {"D:www.example.com", "*.example.com", "x509: certificate is valid for"},
    {"D:*.example.com", "*.example.com", NULL}, /* as it stands, as in Go */
    {"D:*", "localhost", "x509: certificate is valid for *, not localhost"},
    {"D:-a.b", "-a.b", NULL},
    {"D:a_b", "A_b", NULL},
    {"D:", "a", "x509: certificate is not valid for any names"},
    {"D:127.0.0.1", "127.0.0.1",
     "x509: cannot validate certificate for 127.0.0.1 because it doesn't "
     "contain any IP SANs"},
    {"I:7f000001", "127.0.0.1", NULL},
    {"I:7f000001", "[127.0.0.1]", NULL},
    {"I:7f000001", "::ffff:127.0.0.1", NULL},
    {"I:00000000000000000000ffff7f000001", "127.0.0.1", NULL},
    {"I:7f000001,D:a,I:00000000000000000000000000000001", "[::1]", NULL},
    {"I:7f000001,D:a,I:00000000000000000000000000000001", "[::2]",
     "x509: certificate is valid for 127.0.0.1, ::1, not ::2"},
    {"I:7f000001000000000000000000000000", "127.0.0.1",
     "x509: certificate is valid for 7f00:1::, not 127.0.0.1"},
    {"I:7f000001", "7f00:1::", "x509: certificate is valid for 127.0.0.1"},
    {"I:7f000001", "localhost",
     "x509: certificate is not valid for any names, but wanted to match "
     "localhost"},
    {"", "leaf",
     "x509: certificate relies on legacy Common Name field, use SANs instead"},
    {"", "other",
     "x509: certificate is not valid for any names, but wanted to match other"},
    {"E:leaf,U:leaf", "leaf", "x509: certificate is not valid for any names"},
};

static void test_hosts(void)
{
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        struct x509_certs l = {0};
        struct err e = {.msg = ""};
        const char *want = hosts[i].want ? hosts[i].want : "";
        int rc;

        add(&l, &(struct spec){LEAF, .san = hosts[i].san});
        rc = x509_check_host(l.certs[0], str_of(hosts[i].host), &e);
        if (strncmp(e.msg, want, strlen(want)) != 0)
            CHECK_STR(e.msg, want);
        CHECK(rc == (hosts[i].want ? X509_EVERIFY : 0));
        x509_certs_release(&l);
    }
}

/* A message of many names still ends in the one that was wanted. */
static void test_long_message(void)
{
    struct x509_certs l = {0};
    struct buf b = {0};
    struct err e = {.msg = ""};

    add(&l, &(struct spec){LEAF, .san = many_names(&b, "n")});
    CHECK(x509_check_host(l.certs[0], STR("n999.example.com"), &e) == 0);
    CHECK(x509_check_host(l.certs[0], STR("x.y"), &e) == X509_EVERIFY);
    CHECK(strstr(e.msg, ", ..., not x.y"));
    x509_certs_release(&l);
    buf_release(&b);
}

/* --- Reading. ------------------------------------------------------------ */

static struct buf der_of(const char *pem)
{
    struct str text = str_of(pem);
    struct pem_block block = {0};

    CHECK(pem_next(&text, &block, NULL) == 1);
    return block.der;
}

/* Made by openssl: what is in it. */
static void test_fields(void)
{
    struct x509_certs l = {0};
    struct err e;
    const struct x509_cert *c;
    struct x509_san s;

    CHECK(x509_certs_add_pem(&l, str_of(pem_p256), &e) == 0 && l.n == 1);
    c = l.certs[0];
    CHECK(str_eqz(c->cn, "p256") && str_eqz(c->org, "system:masters"));
    CHECK(c->version == 3 && c->serial.n > 0);
    CHECK(c->not_before < c->not_after);
    CHECK(c->key.type == PK_P256 && !c->key_trouble);
    CHECK(c->scheme == PK_RSA_PKCS1_SHA256 && !c->sig_trouble);
    CHECK(c->has_basic && !c->is_ca && c->path_len == -1);
    CHECK(c->key_usage == X509_KU_SIGNATURE);
    CHECK(c->ext_usage == (X509_SERVER | X509_CLIENT));
    CHECK(c->skid.n == SHA1_SIZE && c->akid.n == SHA1_SIZE);
    CHECK(!c->unknown_critical && c->constraints.n == 0);
    s = x509_sans(c);
    CHECK(x509_san_next(&s) && s.type == X509_SAN_DNS &&
          str_eqz(s.name, "localhost"));
    CHECK(x509_san_next(&s) && str_eqz(s.name, "*.example.com"));
    CHECK(x509_san_next(&s) && s.type == X509_SAN_IP &&
          is_hex(s.name.p, s.name.n, "7f000001"));
    CHECK(x509_san_next(&s) && s.type == X509_SAN_IP && s.name.n == 16);
    CHECK(x509_san_next(&s) && s.type == X509_SAN_EMAIL);
    CHECK(x509_san_next(&s) && s.type == X509_SAN_URI);
    CHECK(!x509_san_next(&s));
    x509_certs_release(&l);
}

static const struct {
    const char *root, *leaf;
    enum pk_type type;
    unsigned scheme;
    const char *want; /* NULL: good */
} made[] = {
    {pem_rsa_ca, pem_p256, PK_P256, PK_RSA_PKCS1_SHA256, NULL},
    {pem_rsa_ca, pem_p384, PK_P384, PK_RSA_PKCS1_SHA384, NULL},
    {pem_rsa_ca, pem_ed, PK_ED25519, PK_RSA_PKCS1_SHA512, NULL},
    {pem_rsa_ca, pem_rsa, PK_RSA, PK_RSA_PSS_SHA256, NULL},
    {pem_ed_ca, pem_by_ed, PK_P256, PK_ED25519_PURE, NULL},
    {pem_p384_ca, pem_by_p384, PK_P256, PK_ECDSA_SHA384, NULL},
    {pem_rsa_ca, pem_p521, PK_P521, PK_RSA_PKCS1_SHA256, NULL},
    {pem_p521_ca, pem_by_p521, PK_P256, PK_ECDSA_SHA512, NULL},
    {pem_rsa_ca, pem_sha1, PK_P256, 0,
     HINT "x509: cannot verify signature: insecure algorithm SHA1-RSA\" while "
          "trying to verify candidate authority certificate \"RSA CA\")"},
    {pem_p521_ca, pem_k256, PK_NONE, PK_ECDSA_SHA512,
     "x509: unsupported elliptic curve: use P-256, P-384 or P-521"},
    {pem_rsa_ca, pem_rsa1024, PK_NONE, PK_RSA_PKCS1_SHA256,
     "x509: unsupported RSA key: use 2048 to 4096 bits and two primes"},
    {pem_ed_ca, pem_by_p384, PK_P256, PK_ECDSA_SHA384, UNKNOWN},
};

static int verify_made(const struct x509_certs *roots,
                       const struct x509_certs *chain, const char *host,
                       struct err *e)
{
    struct x509_verify v = {.roots = roots,
                            .chain = chain,
                            .now = chain->certs[0]->not_before,
                            .usage = X509_SERVER,
                            .host = str_of(host)};

    return x509_verify(&v, e);
}

static void test_made(void)
{
    for (size_t i = 0; i < ARRAY_LEN(made); i++) {
        struct x509_certs roots = {0}, chain = {0};
        struct err e = {.msg = ""};

        CHECK(x509_certs_add_pem(&roots, str_of(made[i].root), &e) == 0);
        CHECK(x509_certs_add_pem(&chain, str_of(made[i].leaf), &e) == 0);
        CHECK(chain.certs[0]->key.type == made[i].type);
        CHECK(chain.certs[0]->scheme == made[i].scheme);
        CHECK(verify_made(&roots, &chain, "localhost", &e) ==
              (made[i].want ? X509_EVERIFY : 0));
        CHECK_STR(e.msg, made[i].want ? made[i].want : "");
        CHECK(made[i].want ||
              verify_made(&roots, &chain, "127.0.0.2", &e) == X509_EVERIFY);
        x509_certs_release(&roots);
        x509_certs_release(&chain);
    }
}

static bool parses(struct str der)
{
    struct x509_cert *c = NULL;
    struct err e = {.msg = ""};

    if (x509_parse(der, &c, &e) < 0) {
        CHECK(e.msg[0] && !c);
        return false;
    }
    x509_free(c);
    return true;
}

/* Does anything but the certificate as it was convince us? */
static bool convinces(const struct x509_certs *roots, struct str der,
                      int64_t now)
{
    struct x509_certs chain = {0};
    struct x509_verify v = {
        .roots = roots, .chain = &chain, .now = now, .usage = X509_SERVER};
    struct err e;
    bool good =
        x509_certs_add(&chain, der, &e) == 0 && x509_verify(&v, &e) == 0;

    x509_certs_release(&chain);
    return good;
}

static void test_damage(const char *root, const char *leaf)
{
    struct buf der = der_of(leaf);
    struct x509_certs roots = {0};
    struct err e;
    int64_t now = 0;

    CHECK(x509_certs_add_pem(&roots, str_of(root), &e) == 0);
    now = roots.certs[0]->not_before + 3600;
    CHECK(convinces(&roots, buf_str(&der), now));
    for (size_t n = 0; n < der.len; n++)
        CHECK(!parses((struct str){(char *)der.data, n}));
    for (size_t i = 0; i < der.len; i++)
        for (int bit = 1; bit < 256; bit <<= 1) {
            der.data[i] ^= (uint8_t)bit;
            CHECK(!convinces(&roots, buf_str(&der), now));
            der.data[i] ^= (uint8_t)bit;
        }
    buf_addc(&der, 0);
    CHECK(!parses(buf_str(&der)));
    x509_certs_release(&roots);
    buf_release(&der);
}

/* One more extension, by its bytes; NULL if it is well-formed. */
static const struct {
    const char *hex, *want;
} more[] = {
    {"300906032a0304"
     "0402"
     "0500",
     NULL},
    {"300c06032a0304"
     "010100"
     "0402"
     "0500",
     NULL}, /* critical FALSE */
    {"300c06032a0304"
     "010101"
     "0402"
     "0500",
     "malformed extension"},
    {"300506032a0304", "malformed extension"},
    {"3000", "malformed extension"},
    {"0500", "malformed extensions"},
    {"300a06032a0304"
     "0402"
     "050000",
     "malformed extension"},
    {"300a0603551d13"
     "0403"
     "300100",
     "invalid basic constraints"},
    {"300c0603551d13"
     "0405"
     "3003010101",
     "invalid basic constraints"},
    {"300c0603551d13"
     "0405"
     "30030201ff",
     "invalid basic constraints"},
    {"300c0603551d13"
     "0405"
     "3003020105",
     NULL},
    {"30100603551d13"
     "0409"
     "300702050100000000",
     "invalid basic constraints"},
    {"300b0603551d0f"
     "0404"
     "030201ff",
     "invalid key usage"},
    {"30090603551d25"
     "0402"
     "3000",
     "invalid extended key usages"},
    {"300b0603551d25"
     "0404"
     "30020500",
     "invalid extended key usages"},
    {"300c0603551d11"
     "0405"
     "3003820180",
     "SAN is malformed"},
    {"300c0603551d11"
     "0405"
     "3003870180",
     "cannot parse IP address in SAN"},
    {"300c0603551d11"
     "0405"
     "3003020161",
     "invalid subject alternative names"},
    {"300b0603551d11"
     "0404"
     "30028205",
     "invalid subject alternative names"},
    {"30090603551d1e"
     "0402"
     "3000",
     "invalid NameConstraints extension"},
    {"300d0603551d1e"
     "0406"
     "3004a0020500",
     "invalid NameConstraints extension"},
    {"30170603551d1e"
     "0410"
     "300ea00c300a87080a000000ff00ff00",
     "invalid NameConstraints extension"},
    {"30120603551d1e"
     "040b"
     "3009a00730058203612e2e",
     "invalid NameConstraints extension"},
    {"30130603551d1e"
     "040c"
     "300aa0083006820161800100",
     "invalid NameConstraints extension"},
    {"30090603551d0e"
     "0402"
     "0500",
     "invalid subject key identifier"},
    {"30090603551d23"
     "0402"
     "0500",
     "invalid authority key identifier"},
    {"300906032a0304"
     "0402"
     "0500"
     "300906032a0304"
     "0402"
     "0500",
     "certificate contains duplicate extensions"},
};

static void test_extensions(void)
{
    for (size_t i = 0; i < ARRAY_LEN(more); i++) {
        struct buf x = unhex(more[i].hex), der = {0};
        struct str ext = buf_str(&x);
        struct spec s = {LEAF, .san = "", .extension = &ext};
        struct x509_cert *c = NULL;
        struct err e = {.msg = ""};
        char want[128] = "";

        if (more[i].want)
            snprintf(want, sizeof(want), "x509: %s", more[i].want);
        make_cert(&s, &der);
        CHECK(x509_parse(buf_str(&der), &c, &e) ==
              (more[i].want ? X509_EINVAL : 0));
        CHECK_STR(e.msg, want);
        x509_free(c);
        buf_release(&x);
        buf_release(&der);
    }
}

static void test_many_extensions(void)
{
    struct buf x = {0}, value = {0}, der = {0};
    struct str ext;
    struct spec s = {LEAF, .san = "", .extension = &ext};
    struct x509_cert *c;
    struct err e;

    for (int i = 0; i <= X509_EXTENSIONS_MAX; i++) {
        char oid[3] = {0x2a, 3, (char)i};

        put_extension(&x, (struct str){oid, 3}, false, &value);
        ext = buf_str(&x);
        buf_clear(&der);
        make_cert(&s, &der);
        if (i < X509_EXTENSIONS_MAX) {
            CHECK(x509_parse(buf_str(&der), &c, &e) == 0);
            x509_free(c);
        } else {
            CHECK(x509_parse(buf_str(&der), &c, &e) == X509_EINVAL);
            CHECK_STR(e.msg, "x509: too many extensions");
        }
    }
    buf_release(&x);
    buf_release(&value);
    buf_release(&der);
}

/* Several in a file, with text and other blocks; all or none. */
static void test_pem(void)
{
    struct x509_certs l = {0};
    struct buf b = {0};
    struct err e;

    buf_printf(&b, "The root:\n%s\nA key:\n%s%s", pem_rsa_ca, pem_p256_sec1,
               pem_p384_ca);
    CHECK(x509_certs_add_pem(&l, buf_str(&b), &e) == 0 && l.n == 2);
    buf_adds(&b, "-----BEGIN CERTIFICATE-----\nMAA=\n-----END "
                 "CERTIFICATE-----\n");
    CHECK(x509_certs_add_pem(&l, buf_str(&b), &e) == X509_EINVAL && l.n == 2);
    CHECK_STR(e.msg, "x509: malformed tbs certificate");
    CHECK(x509_certs_add_pem(&l, STR("-----BEGIN CERTIFICATE-----\n"), &e) ==
          X509_EINVAL);
    CHECK_STR(e.msg, "malformed PEM block \"CERTIFICATE\"");
    CHECK(x509_certs_add_pem(&l, str_of(pem_p256_sec1), &e) == X509_EINVAL);
    CHECK_STR(e.msg, "x509: no certificate in PEM");
    CHECK(l.n == 2);
    x509_certs_release(&l);
    buf_release(&b);
}

/* --- Keys. --------------------------------------------------------------- */

#define ENCRYPTED                                                              \
    "tls: the private key is encrypted: write it without a password, for "     \
    "example with \"openssl pkey -in old.pem -out new.pem\""

static const struct {
    const char *cert, *key;
    const char *want; /* NULL: they are a pair */
} pairs[] = {
    {pem_p256, pem_p256_pkcs8, NULL},
    {pem_p256, pem_p256_sec1, NULL},
    {pem_p384, pem_p384_pkcs8, NULL},
    {pem_p521, pem_p521_pkcs8, NULL},
    {pem_ed, pem_ed_pkcs8, NULL},
    {pem_rsa, pem_rsa_pkcs8, NULL},
    {pem_rsa, pem_rsa_pkcs1, NULL},
    {pem_p256, pem_p384_pkcs8, "tls: private key does not match public key"},
    {pem_by_ed, pem_p256_sec1, "tls: private key does not match public key"},
    {pem_rsa, pem_ed_pkcs8, "tls: private key does not match public key"},
    {pem_p256, pem_p256_enc, ENCRYPTED},
    {pem_p256, pem_p256_enc8, ENCRYPTED},
    {pem_p256, pem_p256, "tls: no private key in PEM"},
    {pem_p256_sec1, pem_p256_sec1, "x509: no certificate in PEM"},
    {pem_k256, pem_k256_pkcs8,
     "tls: unsupported elliptic curve: use P-256, P-384 or P-521"},
    {pem_k256, pem_p256_sec1,
     "tls: the certificate has an unsupported elliptic curve: use P-256, P-384 "
     "or P-521"},
};

static void test_pairs(void)
{
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        struct x509_pair p = {{0}, .key.pub.type = PK_NONE};
        struct err e = {.msg = ""};
        int rc =
            x509_load_pair(str_of(pairs[i].cert), str_of(pairs[i].key), &p, &e);

        CHECK((rc < 0) == (pairs[i].want != NULL));
        CHECK_STR(e.msg, pairs[i].want ? pairs[i].want : "");
        CHECK(rc < 0 || p.chain.n == 1);
        x509_pair_release(&p);
    }
}

static bool key_loads(struct str der)
{
    struct buf pem = {0};
    struct pk_private k;
    struct err e;
    bool good;

    pem_put(&pem, "PRIVATE KEY", der);
    good = x509_key_load(buf_str(&pem), &k, &e) == 0;
    buf_release(&pem);
    return good;
}

/* Prefixes are refused; a changed byte gives another key or none. */
static void test_key_damage(const char *pem, size_t step)
{
    struct buf der = der_of(pem);

    CHECK(key_loads(buf_str(&der)));
    for (size_t n = 0; n < der.len; n++)
        CHECK(!key_loads((struct str){(char *)der.data, n}));
    for (size_t i = 0; i < der.len; i += step)
        for (int k = 0; k < 2; k++) {
            der.data[i] ^= k ? 0x80 : 1;
            key_loads(buf_str(&der));
            der.data[i] ^= k ? 0x80 : 1;
        }
    buf_release(&der);
}

/* A number more than there should be. */
static void test_key_tail(const char *pem)
{
    struct buf der = der_of(pem), longer = {0};
    struct str in = buf_str(&der), body = {0};
    size_t at = der_begin(&longer, DER_SEQ);

    CHECK(der_get(&in, DER_SEQ, &body));
    buf_addstr(&longer, body);
    der_put_uint(&longer, STR(""));
    der_end(&longer, at);
    CHECK(!key_loads(buf_str(&longer)));
    buf_release(&der);
    buf_release(&longer);
}

/* --- Revocation lists. --------------------------------------------------- */

static void test_crl(void)
{
    struct x509_certs revoked = {0}, fine = {0};
    struct buf der = der_of(pem_crl);
    struct x509_crl crl;
    struct err e = {.msg = ""};

    CHECK(x509_certs_add_pem(&revoked, str_of(pem_p384), &e) == 0);
    CHECK(x509_certs_add_pem(&fine, str_of(pem_p256), &e) == 0);
    for (int i = 0; i < 2; i++) {
        struct str file = i ? str_of(pem_crl) : buf_str(&der);

        CHECK(x509_crl_parse(file, &crl, &e) == 0);
        CHECK(x509_crl_check(&crl, &fine, &e) == 0);
        CHECK(x509_crl_check(&crl, &revoked, &e) == X509_EVERIFY);
        CHECK(strncmp(e.msg, "transport: certificate serial ", 30) == 0);
        CHECK(strstr(e.msg, " revoked"));
        x509_crl_release(&crl);
    }
    /* Anywhere in the chain. */
    CHECK(x509_certs_add_pem(&fine, str_of(pem_p384), &e) == 0);
    CHECK(x509_crl_parse(buf_str(&der), &crl, &e) == 0);
    CHECK(x509_crl_check(&crl, &fine, &e) == X509_EVERIFY);
    x509_crl_release(&crl);
    for (size_t n = 0; n < der.len; n++)
        CHECK(x509_crl_parse((struct str){(char *)der.data, n}, &crl, &e) ==
              X509_EINVAL);
    CHECK_STR(e.msg, "x509: malformed crl");
    for (size_t i = 0; i < der.len; i++) {
        der.data[i] ^= 1;
        if (x509_crl_parse(buf_str(&der), &crl, &e) == 0) {
            x509_crl_check(&crl, &fine, &e);
            x509_crl_release(&crl);
        }
        der.data[i] ^= 1;
    }
    x509_certs_release(&revoked);
    x509_certs_release(&fine);
    buf_release(&der);
}

/* --- Of our own making. -------------------------------------------------- */

static void check_self_signed(const struct x509_cert *c)
{
    struct err e = {.msg = ""};

    CHECK(str_eqz(c->org, "etcd") && c->cn.n == 0);
    CHECK(str_eq(c->subject, c->issuer) && c->key.type == PK_P256);
    CHECK(c->not_before == NOW && c->not_after == NOW + 365 * 86400);
    CHECK(c->key_usage == (X509_KU_SIGNATURE | X509_KU_ENCIPHERMENT));
    CHECK(c->ext_usage == (X509_SERVER | X509_CLIENT));
    CHECK(c->has_basic && !c->is_ca && !c->unknown_critical);
    CHECK(x509_check_host(c, STR("node1"), &e) == 0);
    CHECK(x509_check_host(c, STR("10.0.0.1"), &e) == 0);
    CHECK(x509_check_host(c, STR("::1"), &e) == 0);
    CHECK(x509_check_host(c, STR("node2"), &e) == X509_EVERIFY);
    CHECK_STR(e.msg, "x509: certificate is valid for node1, not node2");
    CHECK(pk_verify(&c->key, c->scheme, c->tbs, (const uint8_t *)c->sig.p,
                    c->sig.n) == 0);
}

static void test_self_signed(void)
{
    struct str names[] = {STR("node1"), STR("10.0.0.1"), STR("::1")};
    struct x509_self_signed s = {.hosts = names,
                                 .n_hosts = 3,
                                 .not_before = NOW,
                                 .not_after = NOW + 365 * 86400,
                                 .seed = {1, 2, 3}};
    struct buf cert = {0}, key = {0};
    struct x509_pair p = {{0}, .key.pub.type = PK_NONE};
    struct err e = {.msg = ""};

    x509_make_self_signed(&s, &cert, &key);
    CHECK(x509_load_pair(buf_str(&cert), buf_str(&key), &p, &e) == 0);
    CHECK_STR(e.msg, "");
    check_self_signed(p.chain.certs[0]);
    CHECK(verify_made(&p.chain, &p.chain, "node1", &e) == 0);
    CHECK(str_has_prefix(buf_str(&key), "-----BEGIN EC PRIVATE KEY-----\n"));
    x509_pair_release(&p);

    /* Without hosts, and into the next century. */
    buf_clear(&cert);
    buf_clear(&key);
    s.n_hosts = 0;
    s.seed[0] ^= 1;
    s.not_after = 4102444800;
    x509_make_self_signed(&s, &cert, &key);
    CHECK(x509_load_pair(buf_str(&cert), buf_str(&key), &p, &e) == 0);
    CHECK(p.chain.certs[0]->not_after == 4102444800);
    CHECK(p.chain.certs[0]->san.n == 0);
    x509_pair_release(&p);
    buf_release(&cert);
    buf_release(&key);
}

int main(void)
{
    make_keys();
    test_chains();
    test_many_roots();
    test_many_authorities();
    test_depth();
    test_comparisons();
    test_hosts();
    test_long_message();
    test_fields();
    test_made();
    test_damage(pem_rsa_ca, pem_p256);
    test_damage(pem_rsa_ca, pem_rsa);
    test_damage(pem_ed_ca, pem_by_ed);
    test_extensions();
    test_many_extensions();
    test_pem();
    test_pairs();
    test_key_damage(pem_p256_pkcs8, 1);
    test_key_damage(pem_p256_sec1, 1);
    test_key_damage(pem_ed_pkcs8, 1);
    test_key_damage(pem_rsa_pkcs1, 13);
    test_key_tail(pem_rsa_pkcs1);
    test_key_tail(pem_p256_sec1);
    test_crl();
    test_self_signed();
    return check_done("x509_test");
}
