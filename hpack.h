/*
 * hpack.h - header compression for HTTP/2 (RFC 7541): a decoder and an encoder
 * of header blocks, each with its dynamic table. Pure, not thread-safe.
 *
 * A connection has one of each. Both ends of a direction must see the same
 * blocks in the same order, all of them: a block that nobody wants is decoded
 * all the same, and one that cannot be decoded ends the connection.
 *
 * An idle decoder or encoder holds only what its table holds: memory comes with
 * the first insertion, and is about twice the table's size at most.
 */
#ifndef HPACK_H
#define HPACK_H

#include "buf.h"

/* What a peer may assume of us, and we of it, before any SETTINGS (4.2). */
#define HPACK_TABLE_SIZE 4096
/* What a field costs, in tables and lists, beyond its bytes (4.1). */
#define HPACK_FIELD_COST 32

enum {
    HPACK_EINVAL = -1, /* COMPRESSION_ERROR: the connection is lost */
    HPACK_ELARGE = -2, /* the list is above its bounds; the table is right */
};

/* How a field is to be written; of a decoded one, whether it was a secret. */
enum hpack_how {
    HPACK_AUTO,  /* by its name: most are indexed, some never */
    HPACK_PLAIN, /* not indexed: a value that hardly comes again (6.2.2) */
    HPACK_NEVER, /* a secret: nobody on the way may index it (6.2.3, 7.1.3) */
};

struct hpack_field {
    struct str name, value;
    enum hpack_how how;
};

/* To initialize one from two literals. */
#define HPACK_FIELD(name, value)                                               \
    {                                                                          \
        {name, sizeof(name) - 1}, {value, sizeof(value) - 1}, HPACK_AUTO       \
    }

/* --- A decoded list. {0} is an empty one. -------------------------------- */

/*
 * Fields in the order of the block. Their bytes are the list's own (or the
 * static table's): valid until the list is used again or released.
 */
struct hpack_list {
    struct hpack_field *fields;
    size_t n, cap;
    size_t size; /* of all fields, each with HPACK_FIELD_COST */
    char *bytes; /* hpack.c's own, as is what follows */
    size_t len, bytes_cap;
};

void hpack_list_release(struct hpack_list *l);

/* --- The dynamic table (2.3.2), of either side. --------------------------- */

struct hpack_entry {
    uint32_t at;      /* offset of the name in bytes; the value follows */
    uint32_t n_name;  /* length */
    uint32_t n_value; /* length */
    uint32_t hash;    /* of name and value, for the encoder */
};

struct hpack_table {
    size_t size, size_max; /* in the sense of 4.1 */
    struct hpack_entry *ring;
    uint32_t ring_cap, first, n; /* a power of two; the oldest; entries */
    char *bytes;                 /* live ones are [head, tail), in order */
    size_t head, tail, bytes_cap;
};

/* --- Decoder. -------------------------------------------------------------- */

struct hpack_decoder {
    struct hpack_table table;
    size_t limit;       /* what we announced */
    bool must_shrink;   /* the next block has to begin with a size update */
    size_t list_max;    /* bound of hpack_list.size */
    size_t n_max;       /* bound of hpack_list.n */
    struct buf scratch; /* strings out of Huffman's code */
};

/* list_max as in SETTINGS_MAX_HEADER_LIST_SIZE; n_max: how many fields. */
void hpack_decoder_init(struct hpack_decoder *d, size_t list_max, size_t n_max);
void hpack_decoder_release(struct hpack_decoder *d);
/* The peer has acknowledged our SETTINGS_HEADER_TABLE_SIZE. If that is below
 * what the table may hold now, the next block must take notice of it (4.2). */
void hpack_decoder_limit(struct hpack_decoder *d, size_t limit);
/*
 * Decode a whole block. 0 and the list; HPACK_ELARGE and as much of the list
 * as was within bounds; or HPACK_EINVAL, after which d is of no use.
 */
int hpack_decode(struct hpack_decoder *d, const void *p, size_t n,
                 struct hpack_list *out);

/* --- Encoder. -------------------------------------------------------------- */

struct hpack_encoder {
    struct hpack_table table;
    size_t own_max;      /* we never use more than this */
    size_t update_least; /* least limit since the last block (4.2) */
    bool update;         /* the next block begins with a size update */
};

/* own_max: the most that the table is to take, HPACK_TABLE_SIZE or less. */
void hpack_encoder_init(struct hpack_encoder *e, size_t own_max);
void hpack_encoder_release(struct hpack_encoder *e);
/* The peer's SETTINGS_HEADER_TABLE_SIZE. */
void hpack_encoder_limit(struct hpack_encoder *e, size_t limit);
/*
 * Append one block to out. Names must be in lower case already. A field that is
 * in the table costs one byte; what repeats gets there by itself. authorization,
 * cookie and token are never indexed.
 */
void hpack_encode(struct hpack_encoder *e, const struct hpack_field *fields,
                  size_t n, struct buf *out);

/* --- Huffman's code (5.2, appendix B). -------------------------------------- */

size_t hpack_huffman_len(struct str s); /* bytes when encoded */
void hpack_huffman_encode(struct buf *out, struct str s);
/* Appends to out. 0, or HPACK_EINVAL: EOS inside, or padding that is not the
 * beginning of EOS or longer than 7 bits. */
int hpack_huffman_decode(struct buf *out, const void *p, size_t n);

#endif
