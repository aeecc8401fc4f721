/*
 * snap.h - snapshot files, `<term>-<index>.snap`, 16 hex digits each: the
 * state machine and configuration at one index, in etcd's own format
 * (spec: raft-and-storage, 10.5): snappb{crc, raftpb.Snapshot}.
 */
#ifndef SNAP_H
#define SNAP_H

#include "raftpb.h"

enum {
    SNAP_EIO = -1,
    SNAP_ECRC = -2,
    SNAP_EFORMAT = -3,
    SNAP_ENONE = -4, /* no usable snapshot: not an error of the disk */
};

/* --- Codec: pure. ------------------------------------------------------- */

int snap_decode(const void *p, size_t n, struct raft_snapshot *out,
                struct err *e);
void snap_encode(struct buf *b, const struct raft_snapshot *s);

/* --- Files. ------------------------------------------------------------- */

/*
 * The state machine's bytes, produced on demand: called twice, first to size
 * and sum them, then to write them, and both times it must give the same
 * bytes. So a checkpoint of any size needs no second copy in memory.
 */
typedef int snap_sink(void *arg, const void *p, size_t n);
typedef int snap_source(void *from, snap_sink *sink, void *arg);

/*
 * Write a snapshot: temporary name, fsync, rename, fsync of the directory.
 * meta->data is not used; source gives the data.
 */
int snap_save(const char *dir, const struct raft_snapshot *meta,
              snap_source *source, void *from, bool no_fsync, struct err *e);

/* A source over bytes in memory: from is a struct str *. */
int snap_source_str(void *from, snap_sink *sink, void *arg);

struct wal_snapshot;

/*
 * The newest readable snapshot that is among allowed[0..n) (NULL: any). A bad
 * file is renamed to NAME.broken, and one line says so in *note (owned, may
 * be NULL). SNAP_ENONE if there is none.
 */
int snap_load_newest(const char *dir, const struct wal_snapshot *allowed,
                     size_t n, struct raft_snapshot *out, char **note,
                     struct err *e);
/* The same for one who only looks: nothing is renamed. */
int snap_read_newest(const char *dir, const struct wal_snapshot *allowed,
                     size_t n, struct raft_snapshot *out, char **note,
                     struct err *e);

/*
 * The v3 state that came with a leader's snapshot, `<index>.snap.db`: kept
 * under this name until it takes the place of `db`. Written as above; source
 * runs once. *n (may be NULL): its size. Without a byte there is no file.
 */
int snap_save_db(const char *dir, raft_index index, snap_source *source,
                 void *from, bool no_fsync, uint64_t *n, struct err *e);
char *snap_db_path(const char *dir, raft_index index); /* returns owned */
/* What a crash left half written; when nobody is writing. */
void snap_drop_unfinished_db(const char *dir);

/*
 * Of the snapshot at index newest and those before it keep `keep` files (0:
 * all), delete the rest and stale *.tmp. A file behind newest stays and does
 * not count: a crash may have left it without the log knowing of it, and it
 * must not drive out those that a restart can use. A database that came with an
 * older one than newest goes, too.
 */
void snap_purge(const char *dir, raft_index newest, size_t keep);

#endif
