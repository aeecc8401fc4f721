/*
 * ctldb.h - copies of the v3 state's file, offline: as it is, or made ready for
 * a new cluster.
 */
#ifndef CTLDB_H
#define CTLDB_H

#include "bolt.h"

enum ctl_db_how {
    CTL_DB_ALL,  /* what is there, without the free pages: a defragmentation */
    CTL_DB_TRIM, /* without the cluster that it was of: its members, its log */
    CTL_DB_PART, /* without its members, for a copy of its log */
    CTL_DB_MORE, /* with more versions of keys: ctl_db_add() */
};

/* A version of a key as the file has it: its revision, 17 bytes, and the record. */
struct ctl_db_version {
    struct buf key, record; /* owned by whoever gives it */
};

/*
 * Copy from to to, front to back, by way of to+".tmp": write, fsync, rename,
 * fsync the directory. A crash leaves the old file or the new one. What stands
 * behind the pages (a SHA-256) is left out, buckets that are not known come
 * along. Trimmed, the state stands for a log that is applied up to `applied`.
 * 0, or a BOLT_E* code and e.
 */
int ctl_db_copy(const char *from, const char *to, enum ctl_db_how how,
                uint64_t applied, struct err *e);

/*
 * Add versions, in ascending order, to the file at path, in the same way, or
 * make it of them. One of a revision that is there takes its place. The state
 * stands for a log that is applied up to `applied`.
 */
int ctl_db_add(const char *path, const struct ctl_db_version *add, size_t n,
               uint64_t applied, struct err *e);

#endif
