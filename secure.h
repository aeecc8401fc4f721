/*
 * secure.h - TLS for a side of the server or for etcdctl, from files: what we
 * show, whom we trust, and fresh files without a restart.
 *
 * Rules are etcd's: a file of authorities means that clients must show a
 * certificate of theirs, as client_cert_auth does; a peer's certificate with IP
 * addresses or DNS names counts only from there; authorities of the system stand
 * in where none are given.
 *
 * FRESH FILES  Before a handshake, at most once a second, the files are looked
 * at; if one has changed (its time, size or inode), all are read again, as they
 * are after secure_reload(). Files that do not fit together are told of once
 * and change nothing. Connections that are open stay as they are.
 *
 * Any thread may call all of this but for new and free. In a build without TLS
 * (make TLS=0) all of it fails and says so.
 */
#ifndef SECURE_H
#define SECURE_H

#include "net.h"

#define SECURE_HANDSHAKE_MS 10000 /* for all of a handshake */

enum { SECURE_EFILE = -11 }; /* beside NET_E*: what is wrong with the files */

struct secure;

/* Copied. Strings may be NULL or "", for none. */
struct secure_options {
    const char *what; /* "client", "peer": for the log */
    const char *cert_file, *key_file;
    const char *client_cert_file,
        *client_key_file; /* to dial with; "": those */
    const char *ca_file, *crl_file;
    const char *allowed_cn, *allowed_hostname; /* comma lists */
    bool client_cert_auth;
    bool skip_verify;    /* dialling trusts anybody */
    bool skip_san_check; /* a certificate counts from everywhere */
    bool h2;             /* HTTP/2 may be agreed on; dialling demands it */
    const char
        *server_name;   /* to ask dialled servers for; "": the URL's host */
    const char *suites; /* comma list of Go's names; "": all */
    const char *version_min, *version_max; /* "TLS1.2", "TLS1.3" */
};

/* NULL and e if files, suites or versions cannot be used. */
struct secure *secure_new(const struct secure_options *o, struct err *e);
void secure_free(
    struct secure *c); /* NULL is fine; no handshake is under way */
void secure_reload(struct secure *c); /* NULL is fine */

extern const bool secure_available; /* false: built without TLS */

/*
 * The server's half, on the connection's thread: shakes hands and looks at the
 * certificate. 0; or NET_E* after the log was told, as etcd tells it, but the
 * same of the same address only once a minute, and 32 lines in a minute at most.
 */
int secure_accept(struct secure *c, struct net_stream *s, int64_t deadline_ns);
/*
 * The client's half, after net_dial() to u. c NULL: no certificate of our own,
 * and the system's authorities. 0, or NET_E* or SECURE_EFILE and e, in Go's
 * words: "x509: certificate signed by unknown authority".
 */
int secure_connect(struct secure *c, struct net_stream *s, const struct url *u,
                   int64_t deadline_ns, struct err *e);

/* When the certificate that we show as a server will have ended; Unix time. */
bool secure_not_after(struct secure *c, int64_t *when_s);

/*
 * A certificate of our own making for hosts in dir, cert.pem and key.pem: those
 * that are there unless they have expired, else new ones. years: from today.
 */
int secure_self_sign(const char *dir, const struct str *hosts, size_t n_hosts,
                     uint64_t years, struct err *e);

#endif
