/*
 * diskscript.h - a member's disk code on a script, and an account of what it
 * has promised.
 *
 * A script does to a simulated disk what a running member does, by the same
 * calls in the same order (boot.c, server.c, checkpoint.c): boots, appends and
 * syncs, votes, overwrites a suffix, saves its own snapshots and the leader's,
 * both with the v3 state (diskv3.h), purges, restarts. The account lists each record that it gave to the log and
 * how many of them were acknowledged, so a later boot can be judged: what it
 * finds must be the state behind some record that was written, and not one
 * before the last that was acknowledged.
 */
#ifndef DISKSCRIPT_H
#define DISKSCRIPT_H

#include "boot.h"
#include "simdisk.h"

/* What the log was told, in its order. */
struct record {
    enum wal_record_type type; /* entry, state or snapshot */
    uint64_t index, term;      /* of a state: index is the commit index */
    uint64_t what;             /* a state's vote; a hash of an entry's data */
};

struct saved {
    struct wal_snapshot at;
    uint64_t digest; /* of the store in it */
    size_t n_members;
    size_t record; /* which one says it in the log; SIZE_MAX: none yet */
    bool durable;  /* snap_save() said so */
    bool doubtful; /* the record may have been lost with a crash */
};

struct account {
    struct record *records;
    size_t n, cap, acked;
    struct saved *saved;
    size_t n_saved;
};

void account_copy(struct account *to, const struct account *from);
void account_release(struct account *a);

struct script {
    struct simdisk *disk; /* not owned */
    struct config config;
    struct account account;
    struct boot boot; /* stores, cluster and log live here */
    bool up;
    struct backend_file *db_file; /* as it was saved last, or NULL */
    bool without_v3; /* the disk comes from one that copies no db */
    uint64_t rng;
    /* The member as raft would hold it. */
    struct raft_hard_state state;
    raft_index base, applied, snapshot_index;
    raft_term base_term, applied_term;
    struct raft_conf_state conf_state;
    char why[1024]; /* what a call reported, or what boot got wrong */
};

/* Where the log is: below the data directory, or in a place of its own. */
enum script_place { BESIDE, APART };

/* Once, before all else: quiet, and with small segments. */
#define SCRIPT_SEGMENT_BYTES 4096
void script_setup(void);

/* A member on the disk of this name, and down; its account begins as a copy of
 * account, or, NULL, with what the first boot of all will write. */
void script_init(struct script *s, struct simdisk *disk, const char *name,
                 enum script_place place, const struct account *account,
                 uint64_t seed);
/* The process is gone, and did nothing any more; its descriptors are closed.
 * Takes the disk's hook away. */
void script_die(struct script *s);
void script_release(struct script *s); /* dies, too */

enum script_result {
    SCRIPT_OK,
    SCRIPT_REPORTED, /* a call failed and said so in why; the process ends */
    SCRIPT_WRONG,    /* why: something acknowledged is lost, or worse */
};

/* Checkpoints in one life, so that all but the first append to db. */
enum script_result script_checkpoints(struct script *s);
/*
 * Boot, and hold what comes up against the account. Then the account ends
 * with what was found, and all of that is acknowledged: a member acts on it.
 */
enum script_result script_boot(struct script *s);
/* A given number of steps of a member's life, at random; restarts among them. */
enum script_result script_live(struct script *s, int steps);
/* Few steps, but such that write, checkpoint and purge. */
enum script_result script_go_on(struct script *s);
void script_stop(struct script *s); /* in good order */

/* The same numbers from the same seed. */
uint64_t script_random(uint64_t *state);
uint64_t script_hash(const void *p, size_t n);

#endif
