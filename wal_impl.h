/*
 * wal_impl.h - what the files of the write-ahead log share; wal.c says which
 * is which. Functions that fail return a WAL_E* code with *e filled, or where
 * there is no e, -1 with errno.
 */
#ifndef WAL_IMPL_H
#define WAL_IMPL_H

#include "wal.h"

#include <sys/types.h>

#define WAL_FRAME_HEAD 8
#define WAL_COPY_CHUNK (64 * 1024)
#define WAL_FILE_MODE 0600

/* --- walrecord.c: pure. ---------------------------------------------------- */

/* The data of a record in two pieces, so that an entry's is copied once. */
void wal_encode_frame(struct buf *b, enum wal_record_type type, struct str head,
                      struct str body, uint32_t *crc);
/* A frame's first word: the lengths of its record and of its padding. False
 * if no etcd since 2.1, which pads, can have written it. */
bool wal_parse_length(uint64_t word, size_t *n, size_t *pad);
/* Without a look at its sum. 0 or WAL_EFORMAT. */
int wal_parse_record(const uint8_t *p, size_t n, struct wal_record *rec);

/* What is in records. Decoding: negative if malformed. */
void wal_encode_metadata(struct buf *b, const struct wal_metadata *m);
int wal_decode_metadata(struct str s, struct wal_metadata *m);
void wal_encode_snapshot(struct buf *b, struct wal_snapshot snap,
                         const struct raft_conf_state *cs); /* or NULL */
int wal_decode_snapshot(struct str s, struct wal_snapshot *snap);
/* What is wrong with it, or NULL. */
const char *wal_decode_state(struct str data, struct raft_hard_state *hs);
/* What is wrong with hs after last, or NULL: replay refuses it, and so does
 * wal_append(), lest it write what replay will refuse. */
const char *wal_state_fault(const struct raft_hard_state *last,
                            const struct raft_hard_state *hs);

/* --- walsegment.c: files. -------------------------------------------------- */

extern int64_t wal_segment_bytes; /* cut, and preallocate, at so many */

struct segment {
    uint64_t seq;
    raft_index first; /* what the last index was, plus one, when it was cut */
    int fd;           /* -1: not opened */
};

struct segments {
    struct segment *v;
    size_t n;
};

char *wal_segment_path(const char *dir, const struct segment *s); /* owned */
void wal_segments_push(struct segments *s, struct segment seg);
void wal_segments_close(struct segments *s);

/* In the order of their names, which is that of their numbers. */
int wal_segments_list(const char *dir, struct segments *out, struct err *e);
/*
 * Where reading for a snapshot at index begins: the last segment that starts
 * at or before it, since the snapshot's record was written later than the
 * entry. n if there is none.
 */
size_t wal_segments_find(const struct segments *s, raft_index index);
/* WAL_EMISSING if `from` is n, or there is a gap behind it. */
int wal_segments_check(const char *dir, const struct segments *s, size_t from,
                       struct err *e);

enum wal_purpose { WAL_TO_READ, WAL_TO_WRITE };

/* Opens from segment `from` on; to write means to lock, too. */
int wal_segments_open(const char *dir, struct segments *s, size_t from,
                      enum wal_purpose purpose, struct err *e);

/* A new segment, of whatever name: locked and preallocated. */
int wal_segment_create(const char *path, int *fd, struct err *e);
/* Space is taken now, so that the disk is not found full in mid-write, and so
 * that a sync has no file length to write. 0, or -1 with errno. */
int wal_preallocate(int fd);
/* Behind a message about path: if the error is that the disk is full, how much
 * must be free there, and how much is. WAL_EIO. */
int wal_tell_space(int error, const char *path, int64_t need, struct err *e);

int64_t wal_file_size(int fd);
/* Up to n bytes, fewer only at the end of the file; -1 with errno. */
ssize_t wal_read_at(int fd, void *p, size_t n, int64_t off);
bool wal_is_zero(const uint8_t *p, size_t n);
/* The offset of the first byte that is not zero, size if all are; -1 with
 * errno. Holes, and space preallocated but never written, cost nothing. */
int64_t wal_first_nonzero(int fd, int64_t from, int64_t size);

/* --- waltorn.c: torn or damaged? ------------------------------------------- */

/* A frame that cannot be read, in the tail. */
struct suspect {
    int fd;
    int64_t off, size; /* of the frame, of the file */
    int64_t after;     /* where later frames would be, if any */
    const char *why;   /* it is a torn write */
};

/* 1: torn, cut it; 0: damaged, refuse; or WAL_EIO with errno. */
int wal_is_torn(struct suspect *s);

/* --- walscan.c: segments as one stream of records. ------------------------- */

struct reader {
    int fd;
    int64_t size, off; /* of the file; of the next byte in it */
    struct buf b;
    size_t pos; /* of the next byte in b */
};

struct scan {
    const char *dir;
    const struct segments *segs;
    size_t at; /* the segment being read */
    struct reader r;
    uint32_t crc;
    bool has_metadata;
    struct wal_metadata metadata;
    int64_t record_off; /* of the last record given */
    const char *torn;   /* why the tail ends at r.off, or NULL */

    /* In the segment being read, what nothing proves to be synced begins here. */
    int64_t unproven;
    int64_t next_write; /* behind a state that ends entries from there; or 0 */
    bool has_entries;
    int64_t last_type;
};

/* From segment `from` on; all of them must be open. */
int wal_scan_start(struct scan *s, const char *dir, const struct segments *segs,
                   size_t from, struct err *e);
/*
 * The next entry, state or snapshot record: 1, 0 at the end of the log, or a
 * WAL_E* code. rec borrows until the next call.
 */
int wal_scan_next(struct scan *s, struct wal_record *rec, struct err *e);
void wal_scan_release(struct scan *s);

/* Why reading ended, by the segment's name; these return the code. */
int wal_scan_io_error(const struct scan *s, struct err *e);
int wal_scan_damaged(const struct scan *s, int code, int64_t off,
                     const char *what, struct err *e);

/* --- walreplay.c: records as Raft's persistent state. ---------------------- */

struct replay {
    struct wal_snapshot from;
    struct wal_contents c;
    size_t cap;          /* of c.entries */
    bool found;          /* the record of the snapshot `from` */
    raft_term from_term; /* of the entry at its index, 0 if not seen */
};

/* Reads all behind snap. On success s tells how and where the tail ends. */
int wal_replay(const char *dir, const struct segments *segs, size_t from,
               struct wal_snapshot snap, struct scan *s,
               struct wal_contents *out, struct err *e);
/* The same from a scan just started; after an error r->c is what came before. */
int wal_replay_records(struct replay *r, struct scan *s, struct err *e);

/*
 * To read beside a member that runs: a record may be half written, and more
 * behind it by the time one looks whether it is torn; a segment may be purged.
 * What is damaged says the same twice.
 *
 *     do
 *         rc = read(&l.e);
 *     while (wal_look_again(&l, rc));
 */
struct wal_look {
    struct err e, before;
    unsigned n;
};

bool wal_look_again(struct wal_look *l, int rc);
/* The last of them ended with rc: returned, with e (or NULL) filled. */
int wal_looked(const struct wal_look *l, int rc, struct err *e);

#endif
