/*
 * tls_impl.h - what the files of the TLS engine share; see tls.h for its use.
 *
 *   tls.c        configurations, connections, alerts, what arrives in general
 *   tlsrecord.c  records: protection, framing of output (RFC 8446, 5)
 *   tlskey.c     secrets to keys, key agreement, both versions
 *   tlsmsg.c     pieces of messages: bytes in and out, lists, transcripts
 *   tlscert.c    certificates: which to show, is theirs good, signatures
 *   tlshello.c   ClientHello and ServerHello: what is agreed on
 *   tls13.c      the rest of the handshake in TLS 1.3, and key updates
 *   tls12.c      the rest of the handshake in TLS 1.2
 *
 * Functions that return int return 0 or TLS_EFAILED, after tls_fail(). The
 * handshake is a chain of functions: hs->next takes the next message. When it
 * is over, t->hs is NULL.
 */
#ifndef TLS_IMPL_H
#define TLS_IMPL_H

#include "aead.h"
#include "tls.h"

#include <assert.h>

#define RANDOM_SIZE 32
#define SESSION_ID_MAX 32
#define SECRET_MAX SHA384_SIZE /* of a hash that a suite uses */
#define RECORD_HEAD 5
#define RECORD_MAX 16384 /* plaintext in a record */
#define MESSAGE_HEAD 4
#define GROUPS_MAX 4
#define SUITES_MAX 16
#define PARTS_MAX 32 /* pieces of plaintext that one record gathers */

enum record_type {
    RECORD_CCS = 20, /* change_cipher_spec */
    RECORD_ALERT = 21,
    RECORD_HANDSHAKE = 22,
    RECORD_DATA = 23,
};

enum message_type {
    MSG_HELLO_REQUEST = 0,
    MSG_CLIENT_HELLO = 1,
    MSG_SERVER_HELLO = 2,
    MSG_NEW_SESSION_TICKET = 4,
    MSG_ENCRYPTED_EXTENSIONS = 8,
    MSG_CERTIFICATE = 11,
    MSG_SERVER_KEY_EXCHANGE = 12,
    MSG_CERTIFICATE_REQUEST = 13,
    MSG_SERVER_HELLO_DONE = 14,
    MSG_CERTIFICATE_VERIFY = 15,
    MSG_CLIENT_KEY_EXCHANGE = 16,
    MSG_FINISHED = 20,
    MSG_KEY_UPDATE = 24,
    MSG_HASH = 254, /* stands for the first ClientHello after a retry */
};

enum alert { /* RFC 8446, 6 */
             ALERT_NONE = -1,
             ALERT_CLOSE_NOTIFY = 0,
             ALERT_UNEXPECTED_MESSAGE = 10,
             ALERT_BAD_RECORD_MAC = 20,
             ALERT_RECORD_OVERFLOW = 22,
             ALERT_HANDSHAKE_FAILURE = 40,
             ALERT_BAD_CERTIFICATE = 42,
             ALERT_UNSUPPORTED_CERTIFICATE = 43,
             ALERT_ILLEGAL_PARAMETER = 47,
             ALERT_DECODE_ERROR = 50,
             ALERT_DECRYPT_ERROR = 51,
             ALERT_PROTOCOL_VERSION = 70,
             ALERT_INTERNAL_ERROR = 80,
             ALERT_INAPPROPRIATE_FALLBACK = 86,
             ALERT_USER_CANCELED = 90,
             ALERT_NO_RENEGOTIATION = 100,
             ALERT_MISSING_EXTENSION = 109,
             ALERT_UNSUPPORTED_EXTENSION = 110,
             ALERT_CERTIFICATE_REQUIRED = 116,
             ALERT_NO_APPLICATION_PROTOCOL = 120,
};

enum extension {
    EXT_SERVER_NAME = 0,
    EXT_GROUPS = 10,
    EXT_POINT_FORMATS = 11,
    EXT_SCHEMES = 13, /* signature_algorithms */
    EXT_ALPN = 16,
    EXT_MASTER_SECRET = 23, /* extended_master_secret, RFC 7627 */
    EXT_VERSIONS = 43,
    EXT_COOKIE = 44,
    EXT_AUTHORITIES = 47,
    EXT_KEY_SHARE = 51,
    EXT_RENEGOTIATION = 0xff01, /* RFC 5746 */
};

struct tls_suite {
    uint16_t number, version; /* of TLS, the only one that it is for */
    bool ecdsa;               /* TLS 1.2: who signs; Ed25519, too (RFC 8422) */
    enum aead_type aead;
    enum hash_type hash;
    const char *name;
};

const struct tls_suite *tls_suite_of(unsigned number); /* or NULL */

struct tls_config {
    int refs; /* atomic */
    struct x509_pair *pairs;
    size_t n_pairs;
    struct x509_certs roots;
    enum tls_client_auth client_auth;
    bool skip_verify;
    char *server_name; /* or NULL */
    char **alpn;
    size_t n_alpn;
    uint16_t version_min, version_max;
    const struct tls_suite *suites[SUITES_MAX]; /* of the versions above */
    size_t n_suites;
    enum tls_group groups[GROUPS_MAX];
    size_t n_groups;
    int (*verify)(void *arg, const struct x509_certs *chain, struct err *e);
    void *verify_arg;
    void (*verify_release)(void *arg);
    void (*random)(void *p, size_t n);
};

/* One direction's protection. */
struct half {
    bool on;
    struct aead aead;
    uint8_t iv[AEAD_NONCE_SIZE];
    uint64_t seq;
    uint8_t secret[SECRET_MAX]; /* TLS 1.3: that the next keys come from */
};

struct key_share { /* secret */
    enum tls_group group;
    uint8_t private[EC_SIZE_MAX];
    uint8_t public[EC_POINT_MAX];
    size_t n_public;
};

struct message { /* borrowed */
    unsigned type;
    struct str raw, body; /* with its header, and without */
};

/* All that only the handshake needs. */
struct handshake {
    int (*next)(struct tls *t, const struct message *m);

    /* What was said so far: as bytes until the hash is known, and in TLS 1.2,
     * whose CertificateVerify takes another one; as a hash from then on. */
    struct buf raw;
    struct hash hash;
    bool hashed;

    struct buf out; /* the message that is being made */

    uint8_t client_random[RANDOM_SIZE], server_random[RANDOM_SIZE];
    uint8_t session_id[SESSION_ID_MAX]; /* the client's, which means nothing */
    size_t n_session_id;

    struct key_share share;
    bool retried, ccs_sent;
    struct buf first; /* a server's, retried: what must not have changed; a
                         client's: the cookie, with its length */

    const struct x509_pair *pair; /* to be shown, or NULL */
    unsigned scheme;              /* to sign with */
    bool cert_wanted;             /* a client's was asked for */

    /* TLS 1.3: the schedule's secret, and the traffic secrets of now. */
    uint8_t secret[SECRET_MAX];
    uint8_t client_secret[SECRET_MAX], server_secret[SECRET_MAX];

    /* TLS 1.2. */
    bool extended; /* master secret */
    uint8_t master[48];
    bool ccs_expected, ccs_seen;
    uint8_t peer_public[EC_POINT_MAX];
    size_t n_peer_public;
};

struct tls {
    struct tls_config *config;
    enum tls_role role;
    enum tls_state state;
    int64_t now;
    struct handshake *hs;

    uint16_t version; /* 0: not known yet */
    const struct tls_suite *suite;
    char *name, *alpn; /* or NULL */
    struct x509_certs peer;

    struct half in, out;
    bool in_changed;    /* a message changed the keys: it must be the last */
    bool update_due;    /* the peer wants us to change our keys */
    bool out_closed;    /* close_notify is queued, or an alert */
    int useless;        /* records in a row */
    struct buf message; /* the beginning of a message of the handshake */

    struct buf output;  /* grows */
    struct buf sending; /* lent to the writer */
    size_t sent;        /* of sending */

    char *error; /* NULL until failed */
    int alert;
};

static inline const uint8_t *bytes_of(struct str s)
{
    return (const uint8_t *)s.p;
}

/* --- tls.c ---------------------------------------------------------------- */

/* Ends the connection with this alert, or ALERT_NONE. Only the first counts. */
int tls_fail(struct tls *t, int alert, const char *fmt, ...) PRINTF(3, 4);
int tls_unexpected(struct tls *t, const struct message *m, const char *want);
/* A message that is not as it should be: decode_error. */
int tls_malformed(struct tls *t, const char *what);
void tls_opened(struct tls *t); /* the handshake is over */
int tls_useless(struct tls *t); /* one more record or message without use */

/* --- tlsrecord.c ---------------------------------------------------------- */

/* Parts of at most RECORD_MAX bytes as one record; protected if out is on. */
void tls_seal(struct tls *t, enum record_type type, const struct str *parts,
              size_t n_parts);
/* Any number of bytes as records. */
void tls_send(struct tls *t, enum record_type type, const void *p, size_t n);
void tls_send_alert(struct tls *t, int level, int alert);
/*
 * Unprotect a whole record of p[0..n), header and all. Then *type and *data are
 * what is in it.
 */
int tls_unseal(struct tls *t, uint8_t *p, size_t n, unsigned *type,
               struct str *data);

/* --- tlskey.c ------------------------------------------------------------- */

void half_release(struct half *h);
/* TLS 1.3: keys from a traffic secret, which is copied. */
void half_set13(struct half *h, const struct tls_suite *s,
                const uint8_t *secret);
void half_update13(struct half *h, const struct tls_suite *s);

/* The schedule (RFC 8446, 7.1), all by t->suite and the transcript of now. */
void schedule_handshake(struct tls *t, const uint8_t *shared, size_t n);
void schedule_master(struct tls *t);
void schedule_finished(const struct tls *t, const uint8_t *secret,
                       uint8_t out[SECRET_MAX]);

#define VERIFY12_SIZE 12
/* TLS 1.2 (RFC 5246, 8.1 and 6.3). */
void master12(struct tls *t, const uint8_t *shared, size_t n);
void keys12(struct tls *t, enum tls_role whose, struct half *h);
void finished12(const struct tls *t, enum tls_role whose,
                uint8_t out[VERIFY12_SIZE]);

void share_make(struct tls *t, enum tls_group group);
size_t share_size(unsigned group); /* of a public key; 0: not ours */
#define SHARED_MAX EC_SIZE_MAX
/* False if theirs is no key. */
bool share_agree(const struct key_share *k, struct str theirs,
                 uint8_t out[SHARED_MAX], size_t *n);

/* --- tlsmsg.c ------------------------------------------------------------- */

/* A cursor; reading past the end gives zeros and sets bad, for good. */
struct reader {
    const uint8_t *p;
    size_t n;
    bool bad;
};

struct reader reader_of(struct str s);
unsigned read_uint(struct reader *r, size_t n_bytes);
struct str read_bytes(struct reader *r, size_t n);
struct str read_vector(struct reader *r, size_t n_bytes); /* after its length */
bool reader_done(const struct reader *r); /* nothing is left, nothing bad */
/* Is v, two bytes, in the list? */
bool list_has(struct str list, unsigned v);

void put_uint(struct buf *b, unsigned v, size_t n_bytes);
/* Room for a length; vector_end() fills it in. */
size_t vector_begin(struct buf *b, size_t n_bytes);
void vector_end(struct buf *b, size_t at, size_t n_bytes);
void put_vector(struct buf *b, size_t n_bytes, struct str s);
void put_extension(struct buf *b, enum extension type, struct str s);

#define N_EXTENSIONS 11 /* that we know */

struct extensions { /* borrowed; {0}: none */
    unsigned has;   /* bits, by index */
    bool unknown;   /* there were others */
    struct str body[N_EXTENSIONS];
};

int extensions_read(struct tls *t, struct str list, struct extensions *x);
const struct str *extension(const struct extensions *x, enum extension type);
/* A server must not send but what a client has asked for. */
int extensions_only(struct tls *t, const struct extensions *x,
                    const enum extension *allowed, size_t n);

/* A message of the handshake, into hs->out; message_end() sends it. */
struct buf *message_begin(struct tls *t, enum message_type type);
void message_end(struct tls *t);

void transcript_add(struct tls *t, struct str raw);
/* The hash is known: t->suite->hash. */
void transcript_start(struct tls *t);
/* Of all messages so far. */
void transcript_peek(const struct tls *t, uint8_t out[SECRET_MAX]);
/* RFC 8446, 4.4.1: after HelloRetryRequest. */
void transcript_retry(struct tls *t);

/* --- tlscert.c ------------------------------------------------------------ */

/* All schemes that we verify, as a list behind its length. */
void put_schemes(struct buf *b);

/* What a peer can do with a certificate of ours, and would like. */
struct pair_wish {
    struct str schemes;     /* two bytes each, the best first */
    struct str authorities; /* names behind lengths; empty: any */
    struct str name;        /* of a server; or empty */
    bool rsa, ecdsa;        /* kinds of keys; Ed25519 counts as ecdsa */
};

/* Chooses hs->pair and hs->scheme. False: nothing fits, both are 0. */
bool pair_choose(struct tls *t, const struct pair_wish *w);
bool pair_is_ecdsa(const struct x509_pair *p);
/* Names of the authorities that a client may come from, as a list. */
void put_authorities(const struct tls *t, struct buf *b);

/* Certificate of both versions: ours, of hs->pair, perhaps none; theirs, which
 * must verify, or may be none (t->peer.n is 0). */
void send_certificate(struct tls *t);
int receive_certificate(struct tls *t, const struct message *m);
/* CertificateVerify of both versions. */
int send_verify(struct tls *t);
int receive_verify(struct tls *t, const struct message *m);
/* A signature of msg behind its scheme; of the pair chosen. */
int put_signature(struct tls *t, struct buf *b, struct str msg);
int check_signature(struct tls *t, struct reader *r, struct str msg);

/* --- tlshello.c ----------------------------------------------------------- */

bool config_has_group(const struct tls_config *c, unsigned group);
void send_client_hello(struct tls *t);
int receive_server_hello(struct tls *t, const struct message *m);
int receive_client_hello(struct tls *t, const struct message *m);
/* The extension of a server's answer: must be one of ours. */
int client_alpn(struct tls *t, struct str ext);
/* A server's choice, in whichever message it belongs. */
void put_alpn(struct tls *t, struct buf *b);

/* --- tls13.c, tls12.c ----------------------------------------------------- */

/* A server, when all is agreed on: the rest of its flight. */
int server13_start(struct tls *t, const uint8_t *shared, size_t n);
int server12_start(struct tls *t);
/* A client, after ServerHello. */
int client13_start(struct tls *t, const uint8_t *shared, size_t n);
int client12_start(struct tls *t);
void send_ccs13(struct tls *t); /* once, if compatibility asks for it */

int tls13_message(struct tls *t, const struct message *m); /* when open */
void send_key_update(struct tls *t, bool both);
int tls12_message(struct tls *t, const struct message *m);
int receive_ccs12(struct tls *t);

#endif
