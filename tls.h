/*
 * tls.h - TLS 1.3 (RFC 8446) and TLS 1.2 (RFC 5246, as far as RFC 7540, 9.2
 * and 8422 leave it) as a pure engine, for a server and for a client.
 *
 * Bytes of the socket go in and plaintext comes out (tls_receive()); plaintext
 * goes in (tls_write()) and bytes for the socket come out (tls_output()). No
 * I/O, no lock, no clock, no globals: the time is told to tls_new(), and random
 * bytes come from a function of the configuration.
 *
 *   t = tls_new(config, TLS_CLIENT, "host", now);
 *   until tls_state(t) is TLS_OPEN:
 *       send all of tls_output(), else receive; stop if tls_receive() fails,
 *       but send what there is first: the alert
 *   then read and write at will; in the end tls_close(), send, tls_free()
 *
 * THREADS  As in http2.h the engine has none and locks nothing: the shell has
 * one lock per connection, calls all of this under it, and keeps it out of its
 * system calls:
 *
 *   reader: read(fd)    | lock | tls_receive() until 0; wake writer | unlock
 *   writer: | lock | tls_write(); tls_output() | unlock | write(fd) |
 *           lock | tls_sent() | unlock
 *
 * What tls_output() returned stays valid and unchanged while others call, until
 * tls_sent(); so there is one writer at a time. Whoever receives must see to
 * it that what tls_wants_write() tells of is sent: answers, and alerts.
 * Configurations are immutable and shared by any number of threads.
 *
 * WHAT IT SPEAKS  TLS 1.3 with AES-GCM and ChaCha20-Poly1305; TLS 1.2 with the
 * same behind ECDHE with ECDSA or RSA. X25519, P-256, P-384 and P-521.
 * Signatures of pk.h. Client certificates, ALPN, server names, key updates. In
 * TLS 1.2 the extended master secret (RFC 7627) wherever the peer knows it;
 * Go's before 1.20 did not, so that its lack is no error. No early data, no
 * session resumption (tickets are ignored), no renegotiation, no compression:
 * so what attacks those are known finds nothing here.
 *
 * ERRORS  are Go's words, as users of etcd know them: tls_error(). The engine
 * queues the alert for the peer; after a failure it takes and gives nothing but
 * this last output. The socket's end is the shell's to judge: before
 * tls_state() is TLS_CLOSED somebody may have cut the stream.
 *
 * BOUNDS  Input is taken record by record, of TLS_INPUT_MAX bytes at most; a
 * handshake message of more than TLS_MESSAGE_MAX bytes is refused at its
 * header, a chain at its X509_CHAIN_MAX + 1st certificate. At most
 * TLS_OUTPUT_MAX and a record wait to be sent beside the handshake's. After
 * TLS_USELESS_MAX records in a row that carry nothing (warnings, empty ones,
 * key updates...) the connection is ended.
 *
 * MEMORY  What the handshake needs (some KB) is freed after it. An idle
 * connection is 3 KB and the peer's certificates, after tls_trim(). Keys are
 * wiped before they are freed. Stack: 30 KB below tls_receive() while it signs.
 *
 * Constant time in all that is secret, as the modules below promise.
 */
#ifndef TLS_H
#define TLS_H

#include "buf.h"
#include "x509.h"

#include <sys/types.h>
#include <sys/uio.h>

#define TLS_INPUT_MAX (5 + 16384 + 256) /* a record, encrypted */
#define TLS_OUTPUT_MAX ((size_t)64 << 10)
#define TLS_MESSAGE_MAX ((size_t)64 << 10)
#define TLS_USELESS_MAX 32
#define TLS_ALPN_MAX 255 /* bytes of a protocol's name */
#define TLS_NAME_MAX 255 /* bytes of a server's name */

#define TLS_1_2 0x0303
#define TLS_1_3 0x0304

/* --- Cipher suites under their names in Go. ------------------------------- */

/* "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": its number, or 0 if not ours. */
uint16_t tls_suite_number(struct str name);
bool tls_suite_is_left_out(struct str name); /* Go has it, and we do not */
const char *tls_suite_name(uint16_t number); /* "" if not ours */
/* All that there are: i from 0; 0 at the end. */
uint16_t tls_suite_at(size_t i);

enum tls_group { /* for key agreement */
                 TLS_P256 = 23,
                 TLS_P384 = 24,
                 TLS_P521 = 25,
                 TLS_X25519 = 29,
};

/* --- Configuration. ------------------------------------------------------- */

enum tls_client_auth {
    TLS_AUTH_NONE,    /* do not ask */
    TLS_AUTH_REQUEST, /* ask; a certificate that comes must verify */
    TLS_AUTH_REQUIRE, /* no certificate, no connection */
};

/* {0} but for random shows nothing and trusts nobody. */
struct tls_options {
    /* Taken: who we are. A server needs one at least, and chooses by the
     * client's abilities and wishes. A client shows the first that fits. */
    struct x509_pair *pairs;
    size_t n_pairs;
    struct x509_certs roots; /* taken: whom to trust */

    enum tls_client_auth client_auth; /* of a server */
    bool skip_verify;                 /* a client trusts anybody */

    /* The rest is copied. */
    const char *server_name;      /* a client's: see tls_new() */
    const char *const *alpn;      /* protocols, the best first */
    size_t n_alpn;                /* 0: does not say */
    uint16_t version_min;         /* TLS_1_2 (or 0) or TLS_1_3 */
    uint16_t version_max;         /* TLS_1_3 (or 0) or TLS_1_2 */
    const uint16_t *suites;       /* of TLS 1.2; as in Go, those of TLS 1.3 */
    size_t n_suites;              /* can not be chosen. 0: all */
    const enum tls_group *groups; /* the best first; a client sends a share */
    size_t n_groups;              /* of the first. 0: all, X25519 first */

    /*
     * The last word on a peer's chain that has verified (or of which
     * skip_verify is set), leaf first: 0, or why not in e. For CN and host
     * name rules and revocation lists. No call of the engine from here.
     */
    int (*verify)(void *arg, const struct x509_certs *chain, struct err *e);
    void *verify_arg;
    void (*verify_release)(void *arg); /* with the last reference; or NULL */

    void (*random)(void *p, size_t n); /* sys_random() */
};

struct tls_config;

/* One reference. Empties pairs and roots of *o; the array stays the caller's.
 * NULL and e if no version is left: then nothing was taken. */
struct tls_config *tls_config_new(struct tls_options *o, struct err *e);
struct tls_config *tls_config_ref(struct tls_config *c); /* from any thread */
void tls_config_unref(struct tls_config *c);             /* NULL is fine */

/* --- A connection. -------------------------------------------------------- */

struct tls;

enum tls_role { TLS_SERVER, TLS_CLIENT };

enum tls_state {
    TLS_HANDSHAKE,
    TLS_OPEN,
    TLS_CLOSED, /* the peer will send no more (close_notify); we still may */
    TLS_FAILED,
};

/*
 * Takes a reference of its own to c. name is a client's: it is sent, unless it
 * is an IP address, and the certificate must be for it; NULL or "": the one of
 * the configuration. now is Unix time in seconds, for certificates.
 */
struct tls *tls_new(struct tls_config *c, enum tls_role role, const char *name,
                    int64_t now);
void tls_free(struct tls *t); /* wipes; NULL is fine */

enum tls_state tls_state(const struct tls *t);

/* --- What comes in. ------------------------------------------------------- */

#define TLS_EFAILED (-1) /* see tls_error(); tls_output() has an alert */

/*
 * One step: take a record from p[0..n), and decrypt it there. Returns the bytes
 * consumed, and *data is plaintext within them, often empty. 0: come again with
 * these bytes and more, TLS_INPUT_MAX suffice. When nothing of a record is in
 * the buffer, the buffer need not be kept. Once closed, all is consumed unseen.
 */
ssize_t tls_receive(struct tls *t, uint8_t *p, size_t n, struct str *data);

/* --- What goes out. ------------------------------------------------------- */

/*
 * Encrypt what iov[0..n) point to, in order, until TLS_OUTPUT_MAX bytes wait:
 * returns how many bytes it took. They need not be kept. 0 before TLS_OPEN,
 * after tls_close() and after a failure.
 */
size_t tls_write(struct tls *t, const struct iovec *iov, int n);
void tls_close(struct tls *t); /* close_notify, behind all that was written */
/* New keys for what we send and, if both, for what the peer sends. The engine
 * does it by itself in time. Nothing in TLS 1.2, or while not open. */
void tls_update_keys(struct tls *t, bool both);

bool tls_wants_write(const struct tls *t);
struct str tls_output(struct tls *t);   /* what to send next; borrowed */
void tls_sent(struct tls *t, size_t n); /* n bytes of that were sent */
void tls_trim(struct tls *t);           /* frees buffers that are empty */

/* --- What was agreed on. Borrowed; valid as long as t. -------------------- */

/* In TLS_FAILED: "remote error: tls: bad certificate", "tls: client didn't
 * provide a certificate"; else "". */
const char *tls_error(const struct tls *t);
/* The alert of a failure, sent or received (RFC 8446, 6); else -1. */
int tls_alert(const struct tls *t);
/* The peer's certificates as received, leaf first; none if it showed none. */
const struct x509_certs *tls_peer(const struct tls *t);
uint16_t tls_version(const struct tls *t); /* 0 before it is known */
uint16_t tls_suite(const struct tls *t);   /* 0 before it is known */
struct str tls_alpn(const struct tls *t);  /* empty if none */
/* A server's: what the client sent, lower-case; a client's: what it checks. */
struct str tls_server_name(const struct tls *t);

#endif
