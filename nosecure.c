/*
 * nosecure.c - what secure.h promises of a build without TLS (make TLS=0): to
 * fail and to say so.
 */
#include "secure.h"

#define LEFT_OUT "TLS is left out of this build (make TLS=0)"

const bool secure_available = false;

struct secure *secure_new(const struct secure_options *o, struct err *e)
{
    (void)o;
    err_set(e, SECURE_EFILE, LEFT_OUT);
    return NULL;
}

void secure_free(struct secure *c)
{
    (void)c;
}

void secure_reload(struct secure *c)
{
    (void)c;
}

int secure_accept(struct secure *c, struct net_stream *s, int64_t deadline_ns)
{
    (void)c;
    (void)s;
    (void)deadline_ns;
    return NET_EIO;
}

int secure_connect(struct secure *c, struct net_stream *s, const struct url *u,
                   int64_t deadline_ns, struct err *e)
{
    (void)c;
    (void)s;
    (void)deadline_ns;
    return err_set(e, SECURE_EFILE, "%s: " LEFT_OUT, u->raw);
}

bool secure_not_after(struct secure *c, int64_t *when_s)
{
    (void)c;
    (void)when_s;
    return false;
}

int secure_self_sign(const char *dir, const struct str *hosts, size_t n_hosts,
                     uint64_t years, struct err *e)
{
    (void)dir;
    (void)hosts;
    (void)n_hosts;
    (void)years;
    return err_set(e, SECURE_EFILE, LEFT_OUT);
}
