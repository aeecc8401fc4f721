/*
 * ctlsecure.c - the TLS options of etcdctl, of both APIs.
 */
#include "ctl.h"
#include "secure.h"

/* What one option is called, and the variable of the v2 API; those of v3 are
 * read where its options are (ctlv3line.c). */
struct source {
    const char *v3, *v2, *variable;
};

static const struct source ca = {"cacert", "ca-file", "ETCDCTL_CA_FILE"};
static const struct source cert = {"cert", "cert-file", "ETCDCTL_CERT_FILE"};
static const struct source key = {"key", "key-file", "ETCDCTL_KEY_FILE"};

/* Some commands take options of the same names for something else: those are
 * given without a prefix and mean the cluster's. With ETCDCTL_API=3 the variables
 * of v2 are not a v3 command's. */
static const char *find(const struct ctl *c, const struct source *s,
                        const char *prefix)
{
    char *name = xasprintf("%s%s", prefix, s->v3);
    const char *text = ctl_string(c, name, "");

    free(name);
    if (*text || *prefix || (c->v3 && c->mode == CTL_MODE_V3))
        return text;
    text = ctl_string(c, s->v2, "");
    if (!*text)
        text = getenv(s->variable);
    return text ? text : "";
}

static bool is_insecure(const struct ctl *c, const char *prefix)
{
    char *name = xasprintf("%sinsecure-transport", prefix);
    bool insecure = ctl_bool_or(c, name, true);

    free(name);
    return insecure;
}

bool ctl_wants_tls(const struct ctl *c, const char *prefix)
{
    return *find(c, &ca, prefix) || *find(c, &cert, prefix) ||
           *find(c, &key, prefix) || !is_insecure(c, prefix);
}

int ctl_secure(const struct ctl *c, const char *prefix, bool h2,
               struct secure **out, struct err *e)
{
    struct secure_options o = {
        .what = "server",
        .client_cert_file = find(c, &cert, prefix),
        .client_key_file = find(c, &key, prefix),
        .ca_file = find(c, &ca, prefix),
        .skip_verify = ctl_bool(c, "insecure-skip-tls-verify"),
        .server_name = *prefix ? "" : ctl_string(c, "discovery-srv", ""),
        .h2 = h2,
    };

    *out = NULL;
    if (!secure_available) /* an endpoint that needs it says so */
        return 0;
    *out = secure_new(&o, e);
    return *out ? 0 : -1;
}
