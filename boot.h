/*
 * boot.h - what a member starts from: its data directory, a new cluster's
 * initial configuration, or a running cluster that it joins (spec:
 * raft-and-storage, 3.1).
 */
#ifndef BOOT_H
#define BOOT_H

#include "cluster.h"
#include "config.h"
#include "raft.h"
#include "store.h"
#include "v3.h"
#include "wal.h"

struct boot {
    uint64_t id;
    struct wal *wal;
    struct store *store;
    struct v3 *v3; /* v3->index is at least the snapshot's, maybe more */
    struct cluster *cluster;
    struct raft_snapshot snapshot; /* meta only; index 0: none */
    struct wal_contents contents;  /* hard state and entries behind it */
    bool fresh;                    /* its log begins now; cluster is a plan */
    int lock_fd;                   /* flock on the member directory */
};

/*
 * Lock the data directory (waiting a few seconds, with a log line that names
 * the holder), load or create what is in it. -1 and e in etcd's words; then
 * *out is released.
 */
int boot_load(const struct config *config, struct boot *out, struct err *e);
/* What raft begins with; borrowed from b. */
struct raft_initial boot_raft_initial(const struct boot *b);
/* What a v3 state is made with. */
struct v3_config boot_v3_config(const struct config *c);
/* Everything that was not taken away (set to NULL) by then. */
void boot_release(struct boot *b);

#endif
