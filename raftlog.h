/*
 * raftlog.h - Raft's log in memory, and how much of it is on disk.
 *
 * Entries are kept in one array, so that a slice of the log is a pointer and
 * a count; append and compaction cost O(1) amortized. An entry's data is a
 * shared blob.
 *
 * The disk is told about entries in numbered writes (disk_seq of raft.h) and
 * answers later. An index counts as durable only if the entry that stands
 * there *now* has been written: when a conflicting suffix is cut off, writes
 * under way no longer prove anything about it.
 *
 * Used by raft.c only, which checks all input: assertions guard the rest.
 */
#ifndef RAFTLOG_H
#define RAFTLOG_H

#include "raftpb.h"

struct raftlog {
    /* Entries base+1 .. base+n stand in slots[head .. head+n). */
    struct raft_entry *slots;
    size_t head, n, cap;
    raft_index base; /* last_included_index of what was compacted; or 0 */
    raft_term base_term;
    size_t bytes; /* of entry data */

    raft_index offered; /* handed to the disk up to here */
    raft_index stable;  /* durable up to here; at most offered */

    /*
     * The writes stable_seq+1 .. offered_seq are under way. For each, the
     * last index that is durable once it is; never falling along the queue.
     */
    uint64_t offered_seq, stable_seq;
    raft_index *writes; /* [write_head .. write_head+n_writes) */
    size_t write_head, n_writes, write_cap;
};

void raftlog_init(struct raftlog *l, raft_index base, raft_term base_term);
void raftlog_release(struct raftlog *l);

/* --- Entries. ----------------------------------------------------------- */

static inline raft_index raftlog_last_index(const struct raftlog *l)
{
    return l->base + l->n;
}

static inline const struct raft_entry *raftlog_at(const struct raftlog *l,
                                                  raft_index index)
{
    return &l->slots[l->head + (size_t)(index - l->base - 1)];
}

raft_term raftlog_last_term(const struct raftlog *l);

/* False if index is compacted (base itself is still known) or beyond. */
bool raftlog_term(const struct raftlog *l, raft_index index, raft_term *out);
bool raftlog_matches(const struct raftlog *l, raft_index index, raft_term term);

/* Append an entry at last+1; shares data, which may be NULL. */
void raftlog_append(struct raftlog *l, enum raft_entry_type type,
                    raft_term term, struct blob *data);

/*
 * How many of the n entries, counted from the first, the log already has;
 * entries are consecutive and follow one that matches, so none is compacted.
 */
size_t raftlog_count_known(const struct raftlog *l,
                           const struct raft_entry *entries, size_t n);

/* Cut off the entries from index on. */
void raftlog_truncate(struct raftlog *l, raft_index index);

/* Forget the entries up to index, which the log must have beyond its base. */
void raftlog_compact(struct raftlog *l, raft_index index);

/* Drop everything: the log now begins behind a snapshot. */
void raftlog_reset(struct raftlog *l, raft_index base, raft_term base_term);

/*
 * Entries from index `from` on, at most n_max of them and about bytes_max
 * bytes, but at least one if there is any. Returns how many; *out points into
 * the log until it changes.
 */
size_t raftlog_slice(const struct raftlog *l, raft_index from, size_t n_max,
                     size_t bytes_max, const struct raft_entry **out);

/* Bytes of data of the entries first .. last. */
size_t raftlog_bytes(const struct raftlog *l, raft_index first,
                     raft_index last);

/*
 * The highest index <= from whose term is at most term, or the highest that
 * is not known here (compacted); *out_term is its term, 0 if unknown. Terms
 * never fall along a log, so this is a binary search.
 */
raft_index raftlog_find_term(const struct raftlog *l, raft_index from,
                             raft_term term, raft_term *out_term);

/* --- The disk. ---------------------------------------------------------- */

/* Entries that the disk has not been given yet. */
size_t raftlog_unoffered(const struct raftlog *l,
                         const struct raft_entry **out);

/* They (or none, but a hard state) are given now. Returns the write's seq. */
uint64_t raftlog_offer(struct raftlog *l);

/* All writes up to seq are durable. */
void raftlog_stable(struct raftlog *l, uint64_t seq);

/* The write that makes index durable, perhaps the next one; 0: it is. */
uint64_t raftlog_durable_seq(const struct raftlog *l, raft_index index);

/* Asserts the invariants. */
void raftlog_check(const struct raftlog *l);

/* --- Queues in arrays, here and elsewhere in raft. ---------------------- */

/*
 * Make room for one more behind the n live elements at p[*head]: they move
 * to the front if at least half of the array is free there, else the array
 * doubles. Returns the array, perhaps elsewhere. Amortized O(1).
 */
void *raftlog_room(void *p, size_t size, size_t *head, size_t n, size_t *cap);

#endif
