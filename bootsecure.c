/*
 * bootsecure.c - TLS of the server's two sides, from its settings.
 */
#include "bootsecure.h"

#include "log.h"
#include "secure.h"

#include <stdio.h>

/* One side. */
struct side {
    const char *what; /* as a flag's prefix has it, and the log */
    const struct url_list *listen;
    struct tls_files *files;
    bool is_peer;
};

static bool wants_tls(const struct url_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        if (url_is_tls(&l->urls[i]))
            return true;
    return false;
}

static bool has_files(const struct tls_files *f)
{
    return *f->cert_file || *f->key_file || *f->trusted_ca_file ||
           *f->client_cert_file || f->client_cert_auth;
}

/* --- Certificates of our own making. --------------------------------------- */

/*
 * Clients may have to show certificates of an authority to one of our making.
 * Peers may not: theirs are of their own making, too, and none would be let in.
 * (etcd makes one then, and lets in everybody, whatever else was asked for.)
 */
static bool makes_certificate(const struct side *s)
{
    const struct tls_files *f = s->files;

    if (!f->auto_tls || *f->cert_file || *f->key_file)
        return false;
    return !s->is_peer || !has_files(f);
}

static void take_path(char **to, const char *dir, const char *name)
{
    free(*to);
    *to = xasprintf("%s/%s", dir, name);
}

static int make_certificate(const struct config *c, const struct side *s,
                            struct err *e)
{
    struct str *hosts = xcalloc(s->listen->n, sizeof(*hosts));
    char *dir = xasprintf("%s/fixtures/%s", c->data_dir, s->what);
    int rc;

    for (size_t i = 0; i < s->listen->n; i++)
        hosts[i] = str_of(s->listen->urls[i].host);
    rc = secure_self_sign(dir, hosts, s->listen->n, c->self_signed_years, e);
    if (rc == 0) {
        take_path(&s->files->cert_file, dir, "cert.pem");
        take_path(&s->files->key_file, dir, "key.pem");
    }
    free(hosts);
    free(dir);
    return rc < 0 ? -1 : 0;
}

/* --- What does not fit. ------------------------------------------------------ */

static int check_urls(const struct side *s, struct err *e)
{
    bool given = *s->files->cert_file && *s->files->key_file;

    for (size_t i = 0; i < s->listen->n; i++) {
        const struct url *u = &s->listen->urls[i];

        if (url_is_tls(u) && !given && s->is_peer)
            return err_set(e, -1,
                           "cannot listen on TLS for %s%s%s: KeyFile and "
                           "CertFile are not presented",
                           u->host, *u->port ? ":" : "", u->port);
        if (url_is_tls(u) && !given)
            return err_set(e, -1,
                           "TLS key/cert (--cert-file, --key-file) must be "
                           "provided for client url %s with HTTPs scheme",
                           u->raw);
        if (!url_is_tls(u) && (*s->files->cert_file || *s->files->key_file))
            log_warn("embed",
                     "The scheme of %s url %s is HTTP while peer key/cert "
                     "files are presented. Ignored %skey/cert files.",
                     s->what, u->raw, s->is_peer ? "peer " : "");
        if (!url_is_tls(u) && s->files->client_cert_auth)
            log_warn("embed",
                     "The scheme of %s url %s is HTTP while client cert auth "
                     "(--%sclient-cert-auth) is enabled. Ignored client cert "
                     "auth for this url.",
                     s->what, u->raw, s->is_peer ? "peer-" : "");
    }
    return 0;
}

static void log_side(const struct side *s, const struct tls_files *f)
{
    log_info("embed",
             "%sTLS: cert = %s, key = %s, trusted-ca = %s, client-cert-auth = "
             "%s, crl-file = %s",
             s->is_peer ? "peer" : "Client", f->cert_file, f->key_file,
             f->trusted_ca_file, f->client_cert_auth ? "true" : "false",
             f->crl_file);
}

static int open_side(const struct config *c, const struct side *s,
                     struct secure **out, struct err *e)
{
    struct tls_files *f = s->files;
    bool self_signed = makes_certificate(s);
    struct secure_options o = {.what = s->what};

    if (f->auto_tls && !self_signed)
        log_warn("embed", "ignoring %s auto TLS since certs given", s->what);
    if (self_signed && make_certificate(c, s, e) < 0)
        return -1;
    if (check_urls(s, e) < 0)
        return -1;
    if (!has_files(f))
        return 0;
    log_side(s, f);
    if (!s->is_peer && !wants_tls(s->listen) &&
        !wants_tls(&c->listen_metrics_urls))
        return 0; /* not looked at, as it was said: they may not even exist */
    o.cert_file = f->cert_file;
    o.key_file = f->key_file;
    o.client_cert_file = f->client_cert_file;
    o.client_key_file = f->client_key_file;
    o.ca_file = f->trusted_ca_file;
    o.crl_file = f->crl_file;
    o.allowed_cn = f->allowed_cn;
    o.allowed_hostname = f->allowed_hostname;
    o.client_cert_auth = f->client_cert_auth;
    o.skip_verify = self_signed;
    o.skip_san_check = !s->is_peer || c->peer_skip_client_san;
    /* Found by DNS, and no authority of our own: the domain is who they are. */
    if (s->is_peer && !*f->trusted_ca_file)
        o.server_name = c->discovery_srv;
    o.h2 = !s->is_peer;
    o.suites = c->cipher_suites;
    o.version_min = c->tls_min_version;
    o.version_max = c->tls_max_version;
    *out = secure_new(&o, e);
    return *out ? 0 : -1;
}

/* --- Both. -------------------------------------------------------------------- */

static int check_metrics_urls(const struct config *c, struct err *e)
{
    if (!wants_tls(&c->listen_metrics_urls) || *c->client_tls.cert_file)
        return 0;
    return err_set(e, -1,
                   "client TLS key/cert (--cert-file, --key-file) must be "
                   "provided for metrics secure url");
}

int bootsecure_begin(struct config *c, struct err *e)
{
    struct side peer = {"peer", &c->listen_peer_urls, &c->peer_tls, true};
    struct side client = {"client", &c->listen_client_urls, &c->client_tls,
                          false};

    if (open_side(c, &peer, &c->secure_peer, e) < 0 ||
        open_side(c, &client, &c->secure_client, e) < 0)
        return -1;
    return check_metrics_urls(c, e);
}

void bootsecure_end(struct config *c)
{
    secure_free(c->secure_client);
    secure_free(c->secure_peer);
    c->secure_client = c->secure_peer = NULL;
}

void bootsecure_reload(const struct config *c)
{
    log_notice("embed", "received hangup signal, reading the TLS files again");
    secure_reload(c->secure_client);
    secure_reload(c->secure_peer);
}
