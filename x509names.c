/*
 * x509names.c - alternative names: one at a time, for a host (RFC 6125), and
 * under an authority's constraints (RFC 5280, 4.2.1.10). See x509.h.
 *
 *   SubjectAltName    { GeneralName, ... }    GeneralName: [n] bytes
 *   NameConstraints   { [0] { { GeneralName }, ... }, [1] { ... } }
 *
 * Constraints are matched as in Go: a DNS name is permitted with all that ends
 * in it, an address by its network. For email addresses and URIs we are
 * stricter: where they are constrained, no such name will do.
 */
#include "x509_impl.h"

#include <arpa/inet.h>

#define SHOWN_MAX 640 /* of the names in a message, so that its end fits, too */

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 'a' - 'A') : c;
}

static bool case_eq(struct str a, struct str b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        if (lower(a.p[i]) != lower(b.p[i]))
            return false;
    return true;
}

static struct str behind(struct str s, size_t n)
{
    return (struct str){s.p + n, s.n - n};
}

/* The kinds that we know are primitive. */
static int name_type(unsigned tag)
{
    return (tag & ~0x1fU) == DER_CONTEXT ? (int)(tag & 0x1f) : X509_SAN_OTHER;
}

bool x509_san_next(struct x509_san *s)
{
    unsigned tag;

    if (s->rest.n == 0 || !der_any(&s->rest, &tag, &s->name))
        return false;
    s->type = name_type(tag);
    return true;
}

/* --- Addresses. ---------------------------------------------------------- */

/* Go's IPs are equal in both forms. Returns the size of the shorter one. */
static size_t shortest_ip(struct str s, const uint8_t **ip)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

    *ip = (const uint8_t *)s.p;
    if (s.n != 16 || memcmp(s.p, mapped, sizeof(mapped)) != 0)
        return s.n;
    *ip += sizeof(mapped);
    return 4;
}

static bool ip_eq(struct str a, struct str b)
{
    const uint8_t *p, *q;
    size_t n = shortest_ip(a, &p);

    return n == shortest_ip(b, &q) && memcmp(p, q, n) == 0;
}

size_t x509_ip_parse(struct str text, uint8_t ip[16])
{
    char z[INET6_ADDRSTRLEN];

    if (text.n == 0 || text.n >= sizeof(z) || memchr(text.p, 0, text.n))
        return 0;
    memcpy(z, text.p, text.n);
    z[text.n] = 0;
    if (inet_pton(AF_INET, z, ip) == 1)
        return 4;
    return inet_pton(AF_INET6, z, ip) == 1 ? 16 : 0;
}

static void add_ip(struct buf *b, struct str s)
{
    char z[INET6_ADDRSTRLEN];
    const uint8_t *ip;
    size_t n = shortest_ip(s, &ip);

    if (inet_ntop(n == 4 ? AF_INET : AF_INET6, ip, z, sizeof(z)))
        buf_adds(b, z);
}

/* --- Host names. --------------------------------------------------------- */

/*
 * Letters, digits, - except in front, _; a pattern may begin with a label *,
 * but not be one.
 */
static bool is_host_label(struct str label)
{
    for (size_t i = 0; i < label.n; i++) {
        char c = lower(label.p[i]);

        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' ||
              (c == '-' && i > 0)))
            return false;
    }
    return label.n > 0;
}

static struct str without_last_dot(struct str host)
{
    if (host.n && host.p[host.n - 1] == '.')
        host.n--;
    return host;
}

static bool is_host(struct str s, bool pattern)
{
    struct str label;
    bool more = true;

    if (pattern && str_has_prefix(s, "*."))
        s = behind(s, 2);
    if (!pattern)
        s = without_last_dot(s);
    while (more) {
        more = str_cut(&s, '.', &label);
        if (!is_host_label(label))
            return false;
    }
    return true;
}

static bool match_labels(struct str pattern, struct str host)
{
    struct str want, have;
    bool more, first = true;

    host = without_last_dot(host);
    if (pattern.n == 0 || host.n == 0)
        return false;
    do {
        more = str_cut(&pattern, '.', &want);
        if (more != str_cut(&host, '.', &have))
            return false;
        if (!(first && str_eqz(want, "*")) && !case_eq(want, have))
            return false;
        first = false;
    } while (more);
    return true;
}

/* What is no valid name on both sides matches only itself, as in Go. */
static bool match_host(struct str pattern, struct str host)
{
    if (is_host(host, false) && is_host(pattern, true))
        return match_labels(pattern, host);
    return host.n && !str_eqz(host, ".") && case_eq(pattern, host);
}

static bool host_is(const struct x509_cert *c, struct str host, struct str ip)
{
    for (struct x509_san s = x509_sans(c); x509_san_next(&s);) {
        if (ip.n && s.type == X509_SAN_IP && ip_eq(s.name, ip))
            return true;
        if (!ip.n && s.type == X509_SAN_DNS && match_host(s.name, host))
            return true;
    }
    return false;
}

/* All names of this type, as far as a message has room. */
static void add_names(struct buf *b, const struct x509_cert *c, int type)
{
    for (struct x509_san s = x509_sans(c); x509_san_next(&s);) {
        if (s.type != type)
            continue;
        if (b->len)
            buf_adds(b, ", ");
        if (b->len + s.name.n > SHOWN_MAX) {
            buf_adds(b, "...");
            return;
        }
        if (type == X509_SAN_IP)
            add_ip(b, s.name);
        else
            x509_add_shown(b, s.name);
    }
}

/* Go's HostnameError. */
static int wrong_host(const struct x509_cert *c, struct str host, bool is_ip,
                      struct err *e)
{
    struct buf valid = {0};
    struct str h = {host.p, min_u64(host.n, 256)};
    int rc = X509_EVERIFY;

    add_names(&valid, c, is_ip ? X509_SAN_IP : X509_SAN_DNS);
    if (c->san.n == 0 && match_labels(c->cn, host))
        err_set(e, rc,
                "x509: certificate relies on legacy Common Name field, use "
                "SANs instead");
    else if (is_ip && valid.len == 0)
        err_set(e, rc,
                "x509: cannot validate certificate for %.*s because it doesn't "
                "contain any IP SANs",
                STR_FMT(h));
    else if (valid.len == 0)
        err_set(e, rc,
                "x509: certificate is not valid for any names, but wanted to "
                "match %.*s",
                STR_FMT(h));
    else
        err_set(e, rc, "x509: certificate is valid for %s, not %.*s",
                buf_z(&valid), STR_FMT(h));
    buf_release(&valid);
    return rc;
}

int x509_check_host(const struct x509_cert *c, struct str host, struct err *e)
{
    uint8_t bytes[16];
    struct str ip = {(const char *)bytes, 0}, inner = host;

    if (host.n >= 3 && host.p[0] == '[' && host.p[host.n - 1] == ']')
        inner = (struct str){host.p + 1, host.n - 2};
    ip.n = x509_ip_parse(inner, bytes);
    if (host_is(c, host, ip))
        return 0;
    return wrong_host(c, ip.n ? inner : host, ip.n > 0, e);
}

/* --- Name constraints. --------------------------------------------------- */

/* Labels of printable characters, none of them empty; "" has none. */
static bool is_domain(struct str s)
{
    struct str label;
    bool more = s.n > 0;

    while (more) {
        more = str_cut(&s, '.', &label);
        if (label.n == 0)
            return false;
        for (size_t i = 0; i < label.n; i++)
            if (label.p[i] <= ' ' || label.p[i] > '~')
                return false;
    }
    return true;
}

/* A dot in front: only names below it. */
static struct str without_first_dot(struct str s)
{
    return s.n && s.p[0] == '.' ? behind(s, 1) : s;
}

/* An address and its mask, whose ones stand in front. */
static bool is_network(struct str s)
{
    const uint8_t *mask = (const uint8_t *)s.p + s.n / 2;
    bool ended = false;

    if (s.n != 8 && s.n != 32)
        return false;
    for (size_t i = 0; i < s.n / 2 * 8; i++) {
        bool one = mask[i / 8] >> (7 - i % 8) & 1;

        if (one && ended)
            return false;
        ended = !one;
    }
    return true;
}

/* The next of the GeneralSubtrees. */
static bool next_base(struct str *in, int *type, struct str *base)
{
    struct str one;
    unsigned tag;

    if (!der_get(in, DER_SEQ, &one) || !der_any(&one, &tag, base) || one.n)
        return false;
    *type = name_type(tag);
    return true;
}

static bool subtrees_valid(struct str in, bool *unknown)
{
    struct str base;
    int type;

    while (in.n) {
        if (!next_base(&in, &type, &base))
            return false;
        switch (type) {
        case X509_SAN_DNS:
            if (!is_domain(without_first_dot(base)))
                return false;
            break;
        case X509_SAN_IP:
            if (!is_network(base))
                return false;
            break;
        case X509_SAN_EMAIL:
        case X509_SAN_URI:
            break;
        default:
            *unknown = true;
        }
    }
    return true;
}

enum { PERMITTED, EXCLUDED };

bool x509_constraints_valid(struct str body, bool *unknown)
{
    struct str in = body, trees;
    bool there;

    *unknown = false;
    for (unsigned which = PERMITTED; which <= EXCLUDED; which++)
        if (!der_opt(&in, DER_CONTEXT_SEQ | which, &trees, &there) ||
            (there && !subtrees_valid(trees, unknown)))
            return false;
    return body.n > 0 && in.n == 0;
}

static bool in_domain(struct str name, struct str domain)
{
    struct str d = without_first_dot(domain);

    if (d.n == 0)
        return true;
    if (name.n == d.n)
        return d.n == domain.n && case_eq(name, d);
    return name.n > d.n && name.p[name.n - d.n - 1] == '.' &&
           case_eq(behind(name, name.n - d.n), d);
}

/* Is there a name that a wildcard stands for, and the domain excludes? */
static bool wildcard_meets(struct str name, struct str domain)
{
    struct str label, rest = without_first_dot(domain);

    return str_has_prefix(name, "*.") && str_cut(&rest, '.', &label) &&
           case_eq(behind(name, 2), rest);
}

static bool in_network(struct str ip, struct str network)
{
    const uint8_t *a, *net = (const uint8_t *)network.p;
    size_t n = shortest_ip(ip, &a);

    if (network.n != 2 * n)
        return false;
    for (size_t i = 0; i < n; i++)
        if ((a[i] & net[n + i]) != net[i])
            return false;
    return true;
}

static bool matches(const struct x509_san *s, struct str base, int which)
{
    switch (s->type) {
    case X509_SAN_DNS:
        return in_domain(s->name, base) ||
               (which == EXCLUDED && wildcard_meets(s->name, base));
    case X509_SAN_IP:
        return in_network(s->name, base);
    default: /* email and URI: always on the safe side */
        return which == EXCLUDED;
    }
}

static int not_authorized(const struct x509_san *s, struct err *e)
{
    static const char *const kinds[] = {[X509_SAN_EMAIL] = "email address",
                                        [X509_SAN_DNS] = "DNS name",
                                        [X509_SAN_URI] = "URI",
                                        [X509_SAN_IP] = "IP address"};
    struct buf name = {0};
    int rc;

    if (s->type == X509_SAN_IP)
        add_ip(&name, s->name);
    else
        x509_add_shown(&name, s->name);
    rc = err_set(e, X509_EVERIFY,
                 "x509: a root or intermediate certificate is not authorized "
                 "to sign for this name: %s \"%.256s\" is excluded, or not "
                 "permitted by any constraint",
                 kinds[s->type], buf_z(&name));
    buf_release(&name);
    return rc;
}

enum verdict { NO_SUCH_KIND, NO_MATCH, MATCH, TOO_MUCH };

/* Is one name among the subtrees? */
static enum verdict look(struct str trees, const struct x509_san *s, int which,
                         size_t *budget)
{
    enum verdict v = NO_SUCH_KIND;
    struct str base;
    int type;

    while (trees.n && next_base(&trees, &type, &base)) {
        if (*budget == 0)
            return TOO_MUCH;
        --*budget;
        if (type != s->type)
            continue;
        if (matches(s, base, which))
            return MATCH;
        v = NO_MATCH;
    }
    return v;
}

static bool is_constrained_kind(const struct x509_san *s)
{
    return s->type == X509_SAN_DNS || s->type == X509_SAN_IP ||
           s->type == X509_SAN_EMAIL || s->type == X509_SAN_URI;
}

int x509_constraints_check(const struct x509_cert *authority,
                           const struct x509_cert *c, size_t *budget,
                           struct err *e)
{
    struct str in = authority->constraints, trees[2] = {{0}, {0}};
    bool there;

    for (unsigned which = PERMITTED; which <= EXCLUDED; which++)
        if (!der_opt(&in, DER_CONTEXT_SEQ | which, &trees[which], &there))
            return X509_EINVAL; /* never: it was parsed */
    for (struct x509_san s = x509_sans(c); x509_san_next(&s);) {
        enum verdict excluded, permitted;

        if (!is_constrained_kind(&s))
            continue;
        excluded = look(trees[EXCLUDED], &s, EXCLUDED, budget);
        permitted = look(trees[PERMITTED], &s, PERMITTED, budget);
        if (excluded == TOO_MUCH || permitted == TOO_MUCH)
            return err_set(e, X509_EVERIFY,
                           "x509: too many names and name constraints");
        if (excluded == MATCH || permitted == NO_MATCH ||
            (s.type == X509_SAN_DNS && !is_domain(s.name)))
            return not_authorized(&s, e);
    }
    return 0;
}
