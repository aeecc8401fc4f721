/*
 * x509verify.c - from a certificate to a trusted root (RFC 5280, 6), as Go's
 * crypto/x509 looks for it. See x509.h.
 *
 * A search in depth: path[0] is the leaf, each next one has signed the one
 * before it. Candidates are the roots, which end a path, then what the peer
 * sent; those first whose key identifier is the one asked for. A candidate that
 * fails is left, and the first such failure is told as a hint, for often it is
 * the reason: an authority that has expired, say.
 *
 * Of what the peer sent only that is a candidate which comes from a root: this
 * is found out first, from the roots down. So no signature is checked by a key
 * of the peer's own making, of which there could be many, and dear ones.
 *
 * A root's own signature proves nothing and is not looked at. Whether a path
 * serves the wanted use is asked last, of the whole path.
 */
#include "x509_impl.h"

#include <assert.h>
#include <time.h>

#define TIME_SIZE 64 /* "2006-01-02T15:04:05Z" and any other year */

enum role { LEAF, INTERMEDIATE, ROOT };

struct search {
    const struct x509_verify *v;
    const struct x509_cert *path[X509_CHAIN_MAX];
    size_t n;
    unsigned n_signatures; /* tried so far; X509_SIGNATURES_MAX ends it all */
    size_t budget;         /* comparisons with constraints that are left */
    bool wrong_use;        /* a path was found, but for other uses */
    struct buf hint;       /* empty, or why the first candidate failed */
    /* Of each that the peer sent, but the leaf: a root, or one that comes from
     * a root, that has signed it; or NULL. */
    const struct x509_cert *signer[X509_CHAIN_MAX];
    bool has_signers; /* they were looked for */
};

static void format_time(char out[TIME_SIZE], int64_t t)
{
    time_t when = (time_t)t;
    struct tm tm = {0};

    gmtime_r(&when, &tm);
    if (strftime(out, TIME_SIZE, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        out[0] = 0;
}

static int expired(int64_t now, const char *how, int64_t limit, struct err *e)
{
    char a[TIME_SIZE], b[TIME_SIZE];

    format_time(a, now);
    format_time(b, limit);
    return err_set(e, X509_EVERIFY,
                   "x509: certificate has expired or is not yet valid: current "
                   "time %s is %s %s",
                   a, how, b);
}

/* --- One certificate in its place, above the path so far. ---------------- */

static int check_limits(const struct search *s, const struct x509_cert *c,
                        enum role role, struct err *e)
{
    if (role == INTERMEDIATE && !(c->has_basic && c->is_ca))
        return err_set(e, X509_EVERIFY,
                       "x509: certificate is not authorized to sign other "
                       "certificates");
    if (c->has_basic && c->path_len >= 0 && s->n > 0 &&
        s->n - 1 > (size_t)c->path_len)
        return err_set(e, X509_EVERIFY,
                       "x509: too many intermediates for path length "
                       "constraint");
    return 0;
}

static int check_valid(struct search *s, const struct x509_cert *c,
                       enum role role, struct err *e)
{
    if (c->unknown_critical)
        return err_set(e, X509_EVERIFY, "x509: unhandled critical extension");
    if (s->v->now < c->not_before)
        return expired(s->v->now, "before", c->not_before, e);
    if (s->v->now > c->not_after)
        return expired(s->v->now, "after", c->not_after, e);
    if (c->constraints.n)
        for (size_t i = 0; i < s->n; i++) {
            int rc = x509_constraints_check(c, s->path[i], &s->budget, e);

            if (rc < 0)
                return rc;
        }
    return check_limits(s, c, role, e);
}

static const char *bad_signature(enum pk_type type)
{
    switch (type) {
    case PK_RSA:
        return "crypto/rsa: verification error";
    case PK_ED25519:
        return "x509: Ed25519 verification failure";
    default:
        return "x509: ECDSA verification failure";
    }
}

static int check_signature(const struct x509_cert *c,
                           const struct x509_cert *parent, struct err *e)
{
    if ((parent->version == 3 && !parent->has_basic) ||
        (parent->has_basic && !parent->is_ca) ||
        (parent->key_usage && !(parent->key_usage & X509_KU_CERT_SIGN)))
        return err_set(e, X509_EVERIFY,
                       "x509: invalid signature: parent certificate cannot "
                       "sign this kind of certificate");
    if (parent->key_trouble)
        return err_set(e, X509_EVERIFY, "x509: cannot verify signature: %s",
                       parent->key_trouble);
    if (c->sig_trouble)
        return err_set(e, X509_EVERIFY, "%s", c->sig_trouble);
    switch (pk_verify(&parent->key, c->scheme, c->tbs,
                      (const uint8_t *)c->sig.p, c->sig.n)) {
    case 0:
        return 0;
    case PK_EINVAL:
        return err_set(e, X509_EVERIFY,
                       "x509: signature algorithm does not fit the public key");
    default:
        return err_set(e, X509_EVERIFY, "%s", bad_signature(parent->key.type));
    }
}

/* --- The search. --------------------------------------------------------- */

static bool extend(struct search *s);

/* The same entity, perhaps in another certificate: paths would go in circles. */
static bool in_path(const struct search *s, const struct x509_cert *c)
{
    for (size_t i = 0; i < s->n; i++)
        if (str_eq(s->path[i]->subject, c->subject) &&
            str_eq(s->path[i]->spki, c->spki) &&
            str_eq(s->path[i]->san, c->san))
            return true;
    return false;
}

static bool serves(const struct x509_cert *c, enum x509_usage usage)
{
    return usage == X509_ANY || c->ext_usage == 0 ||
           (c->ext_usage & (X509_ANY | usage)) != 0;
}

/* A path to a root is complete: the answer, if all of it serves the use. */
static bool finish(struct search *s)
{
    for (size_t i = 0; i < s->n; i++)
        if (!serves(s->path[i], s->v->usage)) {
            s->wrong_use = true;
            return false;
        }
    return true;
}

static void add_candidate(struct buf *b, const struct x509_cert *c)
{
    struct str name = c->cn.n ? c->cn : c->org;

    x509_add_shown(b, (struct str){name.p, min_u64(name.n, 256)});
    if (name.n)
        return;
    buf_adds(b, "serial:");
    for (size_t i = 0; i < c->serial.n && i < 20; i++)
        buf_printf(b, "%02x", (uint8_t)c->serial.p[i]);
}

static void keep_hint(struct search *s, const struct err *e,
                      const struct x509_cert *c)
{
    if (s->hint.len)
        return;
    buf_printf(&s->hint,
               " (possibly because of \"%.512s\" while trying to verify "
               "candidate authority certificate \"",
               e->msg);
    add_candidate(&s->hint, c);
    buf_adds(&s->hint, "\")");
}

/* 0: its key is the one asked for; 1: it may be; 2: hardly. */
static int key_rank(const struct x509_cert *c, const struct x509_cert *parent)
{
    if (str_eq(c->akid, parent->skid))
        return 0;
    return c->akid.n == 0 || parent->skid.n == 0 ? 1 : 2;
}

/* Is number i of the list a candidate for c, and of this rank? */
static bool is_candidate(const struct search *s, const struct x509_certs *l,
                         size_t i, const struct x509_cert *c, int rank)
{
    const struct x509_cert *parent = l->certs[i];

    return (l == s->v->roots || (i < X509_CHAIN_MAX && s->signer[i])) &&
           str_eq(parent->subject, c->issuer) && key_rank(c, parent) == rank;
}

static bool has_signed(struct search *s, const struct x509_cert *parent,
                       const struct x509_cert *c)
{
    struct err e = {.msg = ""};

    if (s->n_signatures == X509_SIGNATURES_MAX)
        return false;
    s->n_signatures++;
    if (check_signature(c, parent, &e) == 0)
        return true;
    keep_hint(s, &e, parent);
    return false;
}

static const struct x509_cert *find_signer(struct search *s,
                                           const struct x509_certs *l,
                                           const struct x509_cert *c)
{
    for (int rank = 0; rank < 3; rank++)
        for (size_t i = 0; i < l->n; i++)
            if (is_candidate(s, l, i, c, rank) && has_signed(s, l->certs[i], c))
                return l->certs[i];
    return NULL;
}

static bool is_root(const struct x509_certs *roots, const struct x509_cert *c)
{
    for (size_t i = 0; i < roots->n; i++)
        if (str_eq(roots->certs[i]->der, c->der))
            return true;
    return false;
}

/* From the last on, since most peers begin with the leaf; until there is no
 * news. Copies of roots are of no use: those end a path themselves. */
static void find_signers(struct search *s)
{
    const struct x509_certs *l = s->v->chain;
    bool news = !s->has_signers;

    s->has_signers = true;
    while (news) {
        news = false;
        for (size_t i = min_u64(l->n, X509_CHAIN_MAX); i-- > 1;) {
            const struct x509_cert *c = l->certs[i];

            if (s->signer[i] || is_root(s->v->roots, c))
                continue;
            s->signer[i] = find_signer(s, s->v->roots, c);
            if (!s->signer[i])
                s->signer[i] = find_signer(s, l, c);
            news |= s->signer[i] != NULL;
        }
    }
}

/* Is it known already that parent has signed c? */
static bool is_signer(const struct search *s, const struct x509_cert *parent,
                      const struct x509_cert *c)
{
    for (size_t i = 0; i < s->v->chain->n && i < X509_CHAIN_MAX; i++)
        if (s->v->chain->certs[i] == c)
            return s->signer[i] == parent;
    return false;
}

static bool consider(struct search *s, const struct x509_cert *c,
                     enum role role)
{
    const struct x509_cert *child = s->path[s->n - 1];
    struct err e = {.msg = ""};
    bool found;

    if (s->n == X509_CHAIN_MAX || in_path(s, c))
        return false;
    if (!is_signer(s, c, child) && !has_signed(s, c, child))
        return false;
    if (check_valid(s, c, role, &e) < 0) {
        keep_hint(s, &e, c);
        return false;
    }
    s->path[s->n++] = c;
    found = role == ROOT ? finish(s) : extend(s);
    s->n--;
    return found;
}

static bool consider_all(struct search *s, const struct x509_certs *l,
                         enum role role)
{
    const struct x509_cert *c = s->path[s->n - 1];

    for (int rank = 0; rank < 3; rank++)
        for (size_t i = 0; i < l->n; i++)
            if (is_candidate(s, l, i, c, rank) &&
                consider(s, l->certs[i], role))
                return true;
    return false;
}

/* As deep as X509_CHAIN_MAX. */
static bool extend(struct search *s)
{
    if (consider_all(s, s->v->roots, ROOT))
        return true;
    find_signers(s);
    return consider_all(s, s->v->chain, INTERMEDIATE);
}

static int no_path(const struct search *s, struct err *e)
{
    if (s->wrong_use)
        return err_set(e, X509_EVERIFY,
                       "x509: certificate specifies an incompatible key usage");
    if (s->n_signatures == X509_SIGNATURES_MAX)
        return err_set(e, X509_EVERIFY,
                       "x509: signature check attempts limit reached while "
                       "verifying certificate chain");
    return err_set(e, X509_EVERIFY,
                   "x509: certificate signed by unknown authority%.*s",
                   STR_FMT(buf_str(&s->hint)));
}

int x509_verify(const struct x509_verify *v, struct err *e)
{
    struct search s = {.v = v, .budget = X509_COMPARE_MAX};
    const struct x509_cert *leaf;
    int rc;

    assert(v->usage == X509_ANY || v->usage == X509_SERVER ||
           v->usage == X509_CLIENT);
    if (v->chain->n == 0)
        return err_set(e, X509_EVERIFY, "x509: no certificate");
    leaf = v->chain->certs[0];
    rc = check_valid(&s, leaf, LEAF, e);
    if (rc == 0 && v->host.n)
        rc = x509_check_host(leaf, v->host, e);
    if (rc == 0 && leaf->key_trouble)
        rc = err_set(e, X509_EVERIFY, "x509: %s", leaf->key_trouble);
    if (rc < 0)
        return rc;
    s.path[s.n++] = leaf;
    if (!(is_root(v->roots, leaf) ? finish(&s) : extend(&s)))
        rc = no_path(&s, e);
    buf_release(&s.hint);
    return rc;
}
