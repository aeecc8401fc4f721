/*
 * msg.h - messages described by tables: protobuf's wire format and the JSON
 * of etcd's gateway, both driven by one description of each message. Pure, not
 * thread-safe; descriptions are constant and may be shared.
 *
 * Each message is a C struct (rpcpb.h holds them all). Its members:
 *
 *   bool, int64, uint64, uint32   bool, int64_t, uint64_t, uint32_t
 *   enum                          int32_t: values unknown to us are kept
 *   bytes, string                 struct str; absent: {NULL, 0}
 *   message                       a pointer; absent: NULL
 *   member of a oneof             a pointer, whatever its type; NULL unless it
 *                                 is the one that is set
 *   repeated                      struct { T *items; size_t n; }: messages and
 *                                 strings stand by value in the array
 *
 * All zeros is the empty message. What a decoder returns borrows from its
 * input and from its arena, and lives as long as both.
 */
#ifndef MSG_H
#define MSG_H

#include "buf.h"

/* --- Arenas: memory that is freed all at once. --------------------------- */

/* {.limit = n} is an empty arena that will not take more than n bytes. */
struct arena {
    size_t limit;
    size_t size; /* bytes of all chunks */
    struct arena_chunk *chunks;
    uint8_t *at, *end; /* what is free in the newest chunk */
};

/* Zeroed, aligned for every member above; NULL beyond the limit. n may be 0. */
void *arena_alloc(struct arena *a, size_t n);
/* More room for what arena_alloc() gave last or before; p may be NULL. Moves
 * it if it must; the new bytes are zeroed. NULL beyond the limit: p is kept. */
void *arena_grow(struct arena *a, void *p, size_t n_old, size_t n_new);
/* A copy of s, for what must outlive its source. False beyond the limit. */
bool arena_str(struct arena *a, struct str s, struct str *out);
void arena_reset(struct arena *a);   /* all is free; a small chunk is kept */
void arena_release(struct arena *a); /* the limit stays: it may be used anew */

/* --- Descriptions. ------------------------------------------------------- */

enum msg_type {
    MSG_BOOL,
    MSG_INT64,
    MSG_UINT64,
    MSG_UINT32,
    MSG_ENUM,
    MSG_BYTES,
    MSG_STRING,
    MSG_MESSAGE,
};

enum { MSG_REPEATED = 1, MSG_ONEOF = 2 }; /* flags of a field */

struct msg_enum {
    const char *name; /* as Go has it: "etcdserverpb.RangeRequest_SortOrder" */
    const struct msg_enum_value {
        const char *name;
        int32_t value;
    } * values;
    size_t n;
};

struct msg_field {
    const char *name; /* the proto's: "create_revision", "ID" */
    uint32_t number;
    uint8_t type;                   /* enum msg_type */
    uint8_t flags;                  /* MSG_REPEATED or MSG_ONEOF or neither */
    uint16_t offset;                /* in the struct */
    const struct msg_desc *message; /* of a MSG_MESSAGE */
    const struct msg_enum *values;  /* of a MSG_ENUM */
};

/* Fields are in the order of their numbers. At most one oneof in a message. */
struct msg_desc {
    const char *name;               /* "etcdserverpb.RangeRequest" */
    size_t size;                    /* of the struct */
    const struct msg_field *fields; /* never NULL */
    size_t n_fields;
};

/* The layout of every repeated member; items is T * in the struct itself. */
struct msg_list {
    void *items;
    size_t n;
};

/* NULL if there is none. */
const struct msg_field *msg_field(const struct msg_desc *d, uint32_t number);
const char *msg_enum_name(const struct msg_enum *e, int32_t value);
bool msg_enum_value(const struct msg_enum *e, struct str name, int32_t *out);

/* --- Looking at a message by its description. ---------------------------- */

/* One value of any type: look at the member that the field's type names. */
struct msg_value {
    uint64_t u64;        /* BOOL (0, 1), UINT64, UINT32 */
    int64_t i64;         /* INT64, ENUM */
    struct str bytes;    /* BYTES, STRING */
    const void *message; /* MESSAGE; NULL: absent */
};

/*
 * How many values the field has: of a repeated one its items, of another 1 if
 * the encoders would write it (not the default, or set in its oneof), else 0.
 */
size_t msg_count(const struct msg_field *f, const void *msg);
/* The i-th item of a repeated field, i < msg_count(); of any other field its
 * value, present or not. Borrows from msg. */
struct msg_value msg_value(const struct msg_field *f, const void *msg,
                           size_t i);

/* --- Building a message by its description. -------------------------------- */

/* Of one value: the scalar, the struct str or the nested struct. */
size_t msg_item_size(const struct msg_field *f);
/*
 * One more item of a repeated field, zeroed; NULL beyond the arena's limit. The
 * list must have grown only so.
 */
void *msg_append(const struct msg_field *f, void *msg, struct arena *a);
/*
 * Where the value of any other field is to be stored: in msg itself, or, of a
 * message or a member of a oneof, in new memory; other members of the oneof
 * become absent. NULL beyond the limit.
 */
void *msg_set(const struct msg_desc *d, const struct msg_field *f, void *msg,
              struct arena *a);

/* --- Protobuf. ------------------------------------------------------------ */

#define MSG_DEPTH_MAX 100 /* messages within messages */

enum {
    MSG_EINVAL = -1, /* not this message */
    MSG_EDEPTH = -2, /* nested too deeply */
    MSG_ELIMIT = -3, /* beyond the arena's limit */
    MSG_ESHORT = -4, /* JSON only: the input ends within the value */
    MSG_EEND = -5,   /* JSON only: nothing but blanks */
};

/*
 * Read p[0..n) into out, a struct of d->size bytes. 0 or MSG_E*, then out is
 * empty. As etcd's decoder (gogo/protobuf) does it: of a scalar, or of the
 * members of a oneof, the last one counts; messages that come twice are
 * merged; repeated numbers may be packed or not; unknown fields are skipped; a
 * string need not be UTF-8; a wrong wire type is an error.
 */
int msg_decode(const struct msg_desc *d, const void *p, size_t n,
               struct arena *a, void *out);

/* The exact length of what msg_encode() appends. */
size_t msg_size(const struct msg_desc *d, const void *msg);
/*
 * Append msg, fields in the order of their numbers, without defaults, repeated
 * numbers packed: byte for byte what etcd writes. One growth of b, one pass to
 * measure and one to write, however deep the nesting.
 */
void msg_encode(const struct msg_desc *d, const void *msg, struct buf *b);

/* --- JSON, as etcd's gateway has it (spec: v3-api, 8). -------------------- */

/*
 * Append msg as one compact object: the proto's names, no defaults, int64 and
 * uint64 in quotes, bytes as base64, enums by name (unknown ones as numbers).
 */
void msg_encode_json(const struct msg_desc *d, const void *msg, struct buf *b);

/*
 * Read the first JSON value in p[0..n), which must be an object or null, into
 * out. *used (may be NULL) is set to where it ends: what follows is the next
 * message of a stream, or is ignored. Names may be the proto's or in
 * lowerCamelCase, numbers may stand in quotes, enums come by name or number;
 * null is absence; unknown names are skipped; of several values with one name
 * the last counts.
 *
 * 0 or MSG_E*, then out is empty, and e (may be NULL) has the words that etcd
 * 3.4 answers with. MSG_EEND ("EOF") and MSG_ESHORT ("unexpected EOF") may mean
 * that a stream has not brought enough yet.
 */
int msg_decode_json(const struct msg_desc *d, const void *p, size_t n,
                    struct arena *a, void *out, size_t *used, struct err *e);

#endif
