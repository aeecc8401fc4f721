/*
 * ctldata.h - what a member's data directory holds, found out by reading: for
 * those who have to decide what is to be done with it.
 */
#ifndef CTLDATA_H
#define CTLDATA_H

#include "cluster.h"
#include "wal.h"

enum {
    CTL_DATA_EDIR = -1, /* no data directory, or not readable */
    CTL_DATA_ENOLOG = -2,
};

enum ctl_health {
    CTL_DATA_CLEAN,
    CTL_DATA_TORN,    /* clean but for a last write that a start will cut */
    CTL_DATA_DAMAGED, /* etcd does not start on it; `problem` says why */
};

/* An entry of the log, and what it did. */
struct ctl_entry {
    raft_term term;
    char *write; /* "set /a/b": a change of a key that went through; or NULL */
};

/* What was read before the damage, if there is any. */
struct ctl_data {
    char *dir, *wal_dir, *snap_dir;
    bool in_use; /* by a process that has it locked */
    int pid;     /* of that one; 0: not known */

    enum ctl_health health;
    char *problem;  /* of a torn or damaged log, else NULL */
    char *note;     /* a snapshot file that had to be passed over, or NULL */
    int64_t n_torn; /* bytes */

    struct wal_metadata ids; /* node_id 0: not readable */
    struct raft_hard_state hard_state;
    struct wal_snapshot snapshot;
    struct ctl_entry *entries; /* snapshot.index+1.. */
    size_t n_entries, n_segments;
    int64_t wal_bytes;
    int64_t changed_ns; /* last change of the log's last file; unix time */

    /* All entries applied, as --force-new-cluster would. */
    struct member *members;
    size_t n_members;
    bool removed; /* this member, from its cluster */
    uint64_t keys, etcd_index;
    char *last_action, *last_key; /* of a client's write; NULL: none known */
    uint64_t last_modified;       /* its modifiedIndex */
    raft_index last_at;           /* its entry; 0: in the snapshot */
    raft_term last_at_term;
    int64_t v3_bytes; /* of the v3 API's file; -1: there is none */
    raft_index v3_at; /* the last entry of the v3 API's; 0: none */
    struct store *store;
};

/*
 * Read dir (and wal_dir, "": the usual place). Writes, renames, locks nothing,
 * and may be done while a member runs. CTL_DATA_E* and e if that is no data
 * directory or has no log; a damaged one is not an error.
 */
int ctl_data_read(const char *dir, const char *wal_dir, struct ctl_data *out,
                  struct err *e);
void ctl_data_release(struct ctl_data *d);

/* Does a process use it? *pid: 0 if that is not known. */
bool ctl_data_in_use(const char *dir, const char *wal_dir, int *pid);

/* The member that it belongs to, borrowed; NULL: not among the members. */
const struct member *ctl_data_self(const struct ctl_data *d);
raft_index ctl_data_last_index(const struct ctl_data *d);
/* Of the entry at index, 0 if that is not known (any more). */
raft_term ctl_data_term(const struct ctl_data *d, raft_index index);

#endif
