/*
 * x509_impl.h - what the files of x509 share: object identifiers, and the
 * parts of a verdict.
 */
#ifndef X509_IMPL_H
#define X509_IMPL_H

#include "x509.h"

/* Contents of the OBJECT IDENTIFIER: for STR(), and STR_INIT() in tables. */
#define STR_INIT(lit)                                                          \
    {                                                                          \
        (lit), sizeof(lit) - 1                                                 \
    }

#define OID_RSA "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01"
#define OID_EC "\x2a\x86\x48\xce\x3d\x02\x01"
#define OID_P256 "\x2a\x86\x48\xce\x3d\x03\x01\x07"
#define OID_P384 "\x2b\x81\x04\x00\x22"
#define OID_P521 "\x2b\x81\x04\x00\x23"
#define OID_ED25519 "\x2b\x65\x70"
#define OID_ECDSA_SHA256 "\x2a\x86\x48\xce\x3d\x04\x03\x02"

#define OID_CN "\x55\x04\x03"
#define OID_ORG "\x55\x04\x0a"

#define OID_KEY_USAGE "\x55\x1d\x0f"
#define OID_SAN "\x55\x1d\x11"
#define OID_BASIC "\x55\x1d\x13"
#define OID_EXT_USAGE "\x55\x1d\x25"
#define OID_USE_SERVER "\x2b\x06\x01\x05\x05\x07\x03\x01"
#define OID_USE_CLIENT "\x2b\x06\x01\x05\x05\x07\x03\x02"

#define X509_UNSUPPORTED_CURVE                                                 \
    "unsupported elliptic curve: use P-256, P-384 or P-521"
#define X509_UNSUPPORTED_RSA                                                   \
    "unsupported RSA key: use 2048 to 4096 bits and two primes"
#define X509_UNSUPPORTED_KEY                                                   \
    "unsupported type of key: use RSA, ECDSA (P-256, P-384, P-521) or Ed25519"

/* The curve by its identifier, or PK_NONE. */
enum pk_type x509_curve(struct str oid);

/* An address as text, IPv4 or IPv6, as 4 or 16 bytes; 0 if it is a name. */
size_t x509_ip_parse(struct str text, uint8_t ip[16]);

/* s with what cannot be printed as ?, for messages. */
void x509_add_shown(struct buf *b, struct str s);

/*
 * Is the value of the extension nameConstraints well-formed? *unknown says that
 * it has kinds of names that we do not know.
 */
bool x509_constraints_valid(struct str body, bool *unknown);

/*
 * Do the names of c satisfy the constraints of an authority above it? Each
 * comparison takes one off *budget. X509_EVERIFY in Go's words.
 */
int x509_constraints_check(const struct x509_cert *authority,
                           const struct x509_cert *c, size_t *budget,
                           struct err *e);

#endif
