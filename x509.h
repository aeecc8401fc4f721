/*
 * x509.h - certificates (RFC 5280) for TLS: parsing, chains and names, private
 * keys, revocation lists, and certificates of our own making. Pure: the time
 * and randomness are passed in; certificates are immutable and may be shared
 * by threads. Verdicts, and their words where users meet them, are those of
 * Go's crypto/x509.
 *
 * Keys and signatures are those of pk.h. A certificate with another key or
 * signature can be read, so that one such authority does not spoil a file of
 * many, but it proves nothing: its key is PK_NONE, its scheme 0.
 *
 * What comes from outside is bounded: a certificate by X509_DER_MAX, a file by
 * X509_FILE_MAX, a chain by X509_CHAIN_MAX, the search for one by
 * X509_SIGNATURES_MAX, and comparing of names by X509_COMPARE_MAX.
 */
#ifndef X509_H
#define X509_H

#include "buf.h"
#include "der.h"
#include "pk.h"

#define X509_DER_MAX ((size_t)64 << 10)   /* of one certificate */
#define X509_FILE_MAX ((size_t)4 << 20)   /* of certificates or keys */
#define X509_CRL_MAX ((size_t)64 << 20)   /* of revoked certificates */
#define X509_CHAIN_MAX 10                 /* from leaf to root, with both */
#define X509_SIGNATURES_MAX 100           /* tried for one verdict, as in Go */
#define X509_COMPARE_MAX ((size_t)250000) /* names with constraints, as in Go */
#define X509_EXTENSIONS_MAX 64            /* of one certificate */

enum {
    X509_EINVAL = -1,  /* not a certificate, key or list; malformed */
    X509_EKEY = -2,    /* a key that is encrypted, unknown or not this one's */
    X509_EVERIFY = -3, /* not to be trusted, or not for this purpose or name */
};

/* --- Certificates. ------------------------------------------------------- */

/* Bits of the extension keyUsage, numbered as there. */
enum {
    X509_KU_SIGNATURE = 1 << 0,
    X509_KU_ENCIPHERMENT = 1 << 2,
    X509_KU_CERT_SIGN = 1 << 5,
    X509_KU_CRL_SIGN = 1 << 6,
};

/* What a certificate is to be used for; bits of the extension extKeyUsage. */
enum x509_usage {
    X509_ANY = 1 << 0,
    X509_SERVER = 1 << 1,
    X509_CLIENT = 1 << 2,
    X509_OTHER = 1 << 3, /* purposes that are not TLS */
};

/* All strings borrow the certificate's own copy of its DER. */
struct x509_cert {
    struct str der;    /* all of it: what TLS sends */
    struct str tbs;    /* the part that is signed, with its header */
    struct str serial; /* big-endian, without zeros in front */
    struct str issuer; /* whole Names, compared bytewise as in Go */
    struct str subject;
    struct str cn;      /* the subject's last common name, or empty */
    struct str org;     /* its first organization, or empty */
    int64_t not_before; /* both inclusive; Unix time, seconds */
    int64_t not_after;
    struct str spki;         /* the whole SubjectPublicKeyInfo */
    struct pk_public key;    /* PK_NONE if not of pk.h's types, then */
    const char *key_trouble; /* says why; else NULL */
    unsigned scheme;         /* enum pk_scheme of the signature, or 0, then */
    const char *sig_trouble; /* says why: Go's words; else NULL */
    struct str sig;
    int version; /* 1 to 3 */

    /* Extensions; empty or 0 where absent. */
    bool has_basic, is_ca;  /* basicConstraints, and its CA flag */
    int path_len;           /* -1: no limit */
    unsigned key_usage;     /* X509_KU_*; 0 if absent */
    unsigned ext_usage;     /* enum x509_usage, bits; 0 if absent */
    struct str san;         /* subjectAltName: x509_san_next() */
    struct str constraints; /* nameConstraints */
    struct str skid, akid;  /* subject and authority key identifiers */
    bool unknown_critical;  /* one that we do not know: never valid */
};

/*
 * Copies der, which must be one certificate and no more. X509_EINVAL, with
 * *out untouched, if it is malformed, even in an extension: names, times,
 * constraints and usages that come out are well-formed.
 */
int x509_parse(struct str der, struct x509_cert **out, struct err *e);
void x509_free(struct x509_cert *c); /* NULL is fine */

/* Alternative names, one at a time. */
enum x509_san_type {
    X509_SAN_OTHER = -1, /* constructed: a directory name, for example */
    X509_SAN_EMAIL = 1,
    X509_SAN_DNS = 2,
    X509_SAN_URI = 6,
    X509_SAN_IP = 7, /* name is 4 or 16 bytes */
};

struct x509_san {
    struct str rest;
    int type; /* enum x509_san_type, or another number of GeneralName */
    struct str name;
};

/* for (struct x509_san s = x509_sans(c); x509_san_next(&s);) ... */
static inline struct x509_san x509_sans(const struct x509_cert *c)
{
    return (struct x509_san){.rest = c->san};
}
bool x509_san_next(struct x509_san *s);

/*
 * Is c for this host: a DNS name or an IP address, perhaps in brackets? Names
 * match as in Go (RFC 6125): a * stands for the whole first label; common
 * names count for nothing. X509_EVERIFY in Go's words.
 */
int x509_check_host(const struct x509_cert *c, struct str host, struct err *e);

/* --- Lists of certificates: trusted roots, or a chain, leaf first. ------- */

struct x509_certs {           /* {0} is empty */
    struct x509_cert **certs; /* owned, as they are */
    size_t n, cap;
};

void x509_certs_release(struct x509_certs *l); /* l is empty afterwards */
/* Add one. Copies der. X509_EINVAL as of x509_parse(). */
int x509_certs_add(struct x509_certs *l, struct str der, struct err *e);
/*
 * Add all certificates of a PEM file; other blocks, and text between them, are
 * skipped. X509_EINVAL, with l as it was, if one is malformed or there is none.
 */
int x509_certs_add_pem(struct x509_certs *l, struct str pem, struct err *e);

/* --- Private keys. ------------------------------------------------------- */

/*
 * The first private key of a PEM file: PKCS#1 ("RSA PRIVATE KEY"), SEC 1 ("EC
 * PRIVATE KEY") or PKCS#8 ("PRIVATE KEY"). End with pk_wipe(). X509_EKEY,
 * saying what to do, if it is encrypted or of an unknown type.
 */
int x509_key_load(struct str pem, struct pk_private *out, struct err *e);

/*
 * The first public key of a PEM file: "PUBLIC KEY", "RSA PUBLIC KEY", or that
 * of a certificate. X509_EKEY if it is of an unknown type.
 */
int x509_public_load(struct str pem, struct pk_public *out, struct err *e);

/* What a server or client shows of itself. */
struct x509_pair {
    struct x509_certs chain; /* leaf first, at least one */
    struct pk_private key;
};

/* X509_EKEY if the key is not the first certificate's. */
int x509_load_pair(struct str cert_pem, struct str key_pem,
                   struct x509_pair *out, struct err *e);
void x509_pair_release(struct x509_pair *p); /* wipes; {0} is fine */

/* --- Verdicts. ----------------------------------------------------------- */

struct x509_verify {
    const struct x509_certs *roots; /* trusted, as far as their own limits go */
    const struct x509_certs *chain; /* as received: leaf, then any order */
    int64_t now;                    /* Unix time, seconds */
    enum x509_usage usage;          /* one bit; X509_ANY asks for none */
    struct str host;                /* x509_check_host(); empty: any */
};

/*
 * Is there a chain from the first certificate to a trusted root which is valid
 * for this time, use and name (RFC 5280, 6, as Go has it)? 0, or X509_EVERIFY
 * in Go's words.
 */
int x509_verify(const struct x509_verify *v, struct err *e);

/* --- Revocation lists. --------------------------------------------------- */

struct x509_crl {
    struct str issuer;  /* borrow der */
    struct str revoked; /* the list's entries */
    struct buf der;     /* owned */
};

/*
 * Reads a CRL, PEM or DER. Like etcd, which trusts the file, it checks neither
 * signature nor dates.
 */
int x509_crl_parse(struct str file, struct x509_crl *out, struct err *e);
void x509_crl_release(struct x509_crl *crl);
/*
 * X509_EVERIFY if the serial number of one of the peer's certificates is in
 * the list, whoever issued it: etcd's rule, and its words.
 */
int x509_crl_check(const struct x509_crl *crl, const struct x509_certs *chain,
                   struct err *e);

/* --- Of our own making: --auto-tls and --peer-auto-tls. ------------------ */

#define X509_SEED_SIZE 128

struct x509_self_signed {
    const struct str *hosts; /* names and IP addresses, without ports */
    size_t n_hosts;
    int64_t not_before, not_after; /* Unix time, seconds; up to the year 9999 */
    uint8_t seed[X509_SEED_SIZE];  /* from sys_random(); secret */
};

/*
 * Append a new certificate of organization etcd, for servers and clients, and
 * its key (P-256), in PEM. Wipe what key_pem held before freeing it.
 */
void x509_make_self_signed(const struct x509_self_signed *s,
                           struct buf *cert_pem, struct buf *key_pem);

#endif
