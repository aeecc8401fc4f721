/*
 * der.h - DER (X.690), as certificates and keys use it, and PEM (RFC 7468), the
 * text around it. Pure.
 *
 * A str is a cursor: each der_ function takes one element off its front and
 * says whether it could; if not, neither cursor nor outputs have changed. What
 * comes out borrows the input. Nothing here recurses: depth is the caller's.
 *
 * Strict: tags of one byte, definite lengths in their shortest form, elements
 * within their input.
 */
#ifndef DER_H
#define DER_H

#include "buf.h"

enum der_tag {
    DER_BOOL = 0x01,
    DER_INT = 0x02,
    DER_BITS = 0x03,
    DER_OCTETS = 0x04,
    DER_NULL = 0x05,
    DER_OID = 0x06,
    DER_ENUM = 0x0a,
    DER_UTF8 = 0x0c,
    DER_NUMERIC = 0x12,
    DER_PRINTABLE = 0x13,
    DER_T61 = 0x14,
    DER_IA5 = 0x16,
    DER_UTC_TIME = 0x17,
    DER_GENERAL_TIME = 0x18,
    DER_SEQ = 0x30,
    DER_SET = 0x31,
    DER_CONTEXT = 0x80,     /* | number: [n] IMPLICIT of something primitive */
    DER_CONTEXT_SEQ = 0xa0, /* | number: [n] EXPLICIT, or of a constructed */
};

/* --- Reading. ------------------------------------------------------------ */

/* Any element: its tag and its contents. */
bool der_any(struct str *in, unsigned *tag, struct str *body);
/* One with this tag. */
bool der_get(struct str *in, unsigned tag, struct str *body);
/* The same, with its header: as it is signed or compared. */
bool der_get_whole(struct str *in, unsigned tag, struct str *whole);
/* One with this tag if it comes next; *there says so. False if malformed. */
bool der_opt(struct str *in, unsigned tag, struct str *body, bool *there);

/* An INTEGER that is not negative, without zeros in front; 0 is empty. */
bool der_uint(struct str *in, struct str *magnitude);
bool der_small(struct str *in, unsigned *v); /* up to 2^31 - 1 */
bool der_bool(struct str *in, bool *v);
bool der_bits(struct str *in, struct str *bytes); /* of whole bytes */
/* A BIT STRING of named bits: bit i is 1 << i, those past 31 are dropped. */
bool der_flags(struct str *in, unsigned *flags);
/* UTCTime (years 1950 to 2049) or GeneralizedTime: Unix time, in seconds. */
bool der_time(struct str *in, int64_t *t);

/* --- Writing. ------------------------------------------------------------ */

/* size_t at = der_begin(b, DER_SEQ); ... der_end(b, at); nested at will. */
size_t der_begin(struct buf *b, unsigned tag);
void der_end(struct buf *b, size_t at);
void der_put(struct buf *b, unsigned tag, struct str body);
void der_put_uint(struct buf *b, struct str magnitude);
void der_put_bits(struct buf *b, struct str bytes, unsigned n_unused);
void der_put_time(struct buf *b, int64_t t); /* up to the year 9999 */

/* --- PEM. ---------------------------------------------------------------- */

enum { PEM_EINVAL = -1 };

struct pem_block {
    struct str type; /* borrows the text: "CERTIFICATE" */
    bool encrypted;  /* a header says so: Proc-Type: 4,ENCRYPTED */
    struct buf der;  /* owned; may be secret: pem_release() wipes it */
};

/*
 * The next block of *text, which moves behind it: 1, or 0 if there is none, or
 * PEM_EINVAL if one is malformed. Text around blocks is skipped. The block is
 * {0} or the one before, whose memory is used again.
 */
int pem_next(struct str *text, struct pem_block *block, struct err *e);
void pem_release(struct pem_block *block);
void pem_put(struct buf *b, const char *type, struct str der);

#endif
