/*
 * wal.h - write-ahead log: where Raft's persistent state becomes durable, in
 * etcd's own format (spec: raft-and-storage, 10).
 *
 * Knows records, segments and fsync; knows nothing of elections or keys. A
 * struct wal is used by one thread at a time. Functions return 0 or a WAL_E*
 * code, and then *e says what failed, in which file, at which offset, and
 * what to do.
 */
#ifndef WAL_H
#define WAL_H

#include "raftpb.h"

enum {
    WAL_EIO = -1,      /* a system call failed */
    WAL_ECRC = -2,     /* a checksum disagrees */
    WAL_EFORMAT = -3,  /* a record that no version of etcd writes */
    WAL_ENOSNAP = -4,  /* no snapshot record for the asked snapshot */
    WAL_ELOCKED = -5,  /* another process has a segment locked */
    WAL_EMISSING = -6, /* no segment, or a gap between segments */
};

#define WAL_SEGMENT_BYTES 64000000 /* cut past this; preallocated to it */
#define WAL_RECORD_MAX (512 * 1024 * 1024)

/* For tests, before any log is open: cut, and preallocate, at n bytes. */
void wal_set_segment_bytes(int64_t n);

/* --- Codec: pure. No I/O, no allocation, no globals. -------------------- */

enum wal_record_type {
    WAL_METADATA = 1,
    WAL_ENTRY = 2,
    WAL_STATE = 3,
    WAL_CRC = 4,
    WAL_SNAPSHOT = 5,
};

struct wal_record {
    int64_t type;
    uint32_t crc;
    struct str data;
};

/*
 * Append one frame to b; *crc is continued over data (a WAL_CRC record stores
 * *crc itself).
 */
void wal_encode(struct buf *b, enum wal_record_type type, const void *data,
                size_t n, uint32_t *crc);

/*
 * Decode one frame from p[0..n), continuing *crc. Returns the bytes consumed,
 * 0 if p ends before the frame does or a zero length says that the segment
 * ends here, WAL_ECRC or WAL_EFORMAT. Only success changes *crc and *rec;
 * rec->data borrows from p.
 */
int64_t wal_decode(const uint8_t *p, size_t n, uint32_t *crc,
                   struct wal_record *rec);

struct wal_snapshot {
    raft_index index;
    raft_term term;
};

/* --- Log: owns file descriptors. ---------------------------------------- */

struct wal;

struct wal_metadata {
    uint64_t node_id, cluster_id;
};

/* What a log holds behind a snapshot. Owned by the caller. */
struct wal_contents {
    struct wal_metadata metadata;
    struct raft_hard_state hard_state;
    struct raft_entry *entries; /* snapshot.index+1.., no gaps */
    size_t n_entries;
    char *repaired; /* what was cut from a torn tail, or NULL */
};

void wal_contents_release(struct wal_contents *c);

bool wal_exists(const char *dir); /* has at least one segment */

/*
 * Create the log: built in dir+".tmp", then renamed, so that a crash leaves a
 * whole log or none. The first segment opens with crc, metadata and an empty
 * snapshot record.
 */
int wal_create(const char *dir, const struct wal_metadata *m, bool no_fsync,
               struct wal **out, struct err *e);

/*
 * Every snapshot record that stands in the log with index <= the last commit
 * index; for choosing a .snap file. Returns owned in *out, never NULL.
 */
int wal_snapshots(const char *dir, struct wal_snapshot **out, size_t *n,
                  struct err *e);

/*
 * Open for appending, and read what stands behind snapshot snap ({0,0} for
 * none). A torn write at the very end of the last segment is cut, after a
 * copy to NAME.broken; damage anywhere else is refused. Segments are locked
 * as etcd locks them (flock).
 */
int wal_open(const char *dir, struct wal_snapshot snap, bool no_fsync,
             struct wal **out, struct wal_contents *contents, struct err *e);
void wal_close(struct wal *w); /* NULL is fine; does not sync */

/*
 * Append entries, then hs (NULL: none). Not durable until wal_sync(), which
 * must come before the next append if this one has entries: recovery tells a
 * torn write from lost data by that. Cuts to a new segment when the present
 * one is full. WAL_EFORMAT, with nothing written, if hs goes back.
 */
int wal_append(struct wal *w, const struct raft_hard_state *hs,
               const struct raft_entry *entries, size_t n, struct err *e);

/* Append a snapshot record, which promises that the .snap file will be
 * there; with its conf_state as etcd 3.5 writes it if not NULL. Not durable
 * until wal_sync(), which must come before the next append. */
int wal_append_snapshot(struct wal *w, struct wal_snapshot snap,
                        const struct raft_conf_state *cs, struct err *e);

/*
 * Returning 0 is the promise that all appended records survive a crash
 * (paper, Figure 2). After WAL_EIO the log takes nothing more: a failed fsync
 * may have dropped the dirty pages, so a second try could succeed without the
 * data. Stop the process and recover by replay.
 */
int wal_sync(struct wal *w, struct err *e);

/*
 * Delete segments that hold nothing behind index, but keep at least keep of
 * them (0: keep all). Returns how many were deleted. *out (owned) holds their
 * space still: to give that back takes the kernel some 20 ms for each segment,
 * for which nobody who writes the log should have to wait.
 */
struct wal_deleted {
    int *fds;
    size_t n;
};

int wal_purge(struct wal *w, raft_index index, size_t keep,
              struct wal_deleted *out);
void wal_deleted_release(struct wal_deleted *d);

uint64_t wal_bytes_written(const struct wal *w); /* since opened */

/* Read-only and for other programs (etcdctl backup), also while a member
 * writes: lock nothing; as wal_open() reads, but a torn tail is just left
 * out. */
int wal_read(const char *dir, struct wal_snapshot snap,
             struct wal_contents *contents, struct err *e);

/* What a person wants to know of a log before anything is done to it. */
struct wal_report {
    struct wal_contents contents; /* up to the damage, if there is any */
    size_t n_segments;
    int64_t bytes;  /* of segments, without the unused end of the last */
    int64_t n_torn; /* bytes that wal_open() would cut */
    char *torn;     /* which and why; NULL: none */
};

void wal_report_release(struct wal_report *r);

/*
 * As wal_read(), but what can be read is told even if the rest is refused:
 * *out is filled in any case (owned), with whose log it is if a single segment
 * still says so. For looking only, not for starting from.
 */
int wal_inspect(const char *dir, struct wal_snapshot snap,
                struct wal_report *out, struct err *e);

#endif
