/*
 * raftlog.c - Raft's log in memory, and how much of it is on disk.
 *
 *   base              last_index = base + n
 *    |  base+1 ... stable ... offered ...  |
 *    +--------------+------------+---------+
 *      durable        being       not yet
 *                     written     offered
 *
 * INVARIANTS
 *   1. stable <= offered <= last_index. (base may be above stable: what a
 *      quorum has committed may be applied and compacted before the own disk
 *      is done; and above offered, until a snapshot has been offered.)
 *   2. Terms never fall along the log; entry i has index i.
 *   3. The numbers in writes never fall, none is below stable, and the last
 *      one is offered; with no write under way stable is offered.
 */
#include "raftlog.h"

#include <assert.h>

#define SLOTS_MIN 64

/* What an entry adds to a message besides its data, about. */
#define ENTRY_OVERHEAD 16

static size_t data_len(const struct raft_entry *e)
{
    return e->data ? e->data->len : 0;
}

void raftlog_init(struct raftlog *l, raft_index base, raft_term base_term)
{
    *l = (struct raftlog){0};
    l->base = l->offered = l->stable = base;
    l->base_term = base_term;
}

static void drop_all(struct raftlog *l)
{
    for (size_t i = 0; i < l->n; i++)
        raft_entry_release(&l->slots[l->head + i]);
    l->head = l->n = 0;
    l->bytes = 0;
}

void raftlog_release(struct raftlog *l)
{
    drop_all(l);
    free(l->slots);
    free(l->writes);
    *l = (struct raftlog){0};
}

void *raftlog_room(void *p, size_t size, size_t *head, size_t n, size_t *cap)
{
    if (*head + n < *cap)
        return p;

    if (*head > 0 && *head >= *cap / 2) {
        memmove(p, (char *)p + *head * size, n * size);
        *head = 0;
        return p;
    }
    *cap = *cap ? *cap * 2 : 8;
    return xrealloc(p, *cap * size);
}

/* --- Entries. ----------------------------------------------------------- */

raft_term raftlog_last_term(const struct raftlog *l)
{
    return l->n ? raftlog_at(l, raftlog_last_index(l))->term : l->base_term;
}

bool raftlog_term(const struct raftlog *l, raft_index index, raft_term *out)
{
    if (index < l->base || index > raftlog_last_index(l))
        return false;
    *out = index == l->base ? l->base_term : raftlog_at(l, index)->term;
    return true;
}

bool raftlog_matches(const struct raftlog *l, raft_index index, raft_term term)
{
    raft_term t;

    return raftlog_term(l, index, &t) && t == term;
}

void raftlog_append(struct raftlog *l, enum raft_entry_type type,
                    raft_term term, struct blob *data)
{
    struct raft_entry *e;

    assert(term >= raftlog_last_term(l));
    l->slots =
        raftlog_room(l->slots, sizeof(*l->slots), &l->head, l->n, &l->cap);
    e = &l->slots[l->head + l->n++];
    e->type = type;
    e->term = term;
    e->index = raftlog_last_index(l);
    e->data = blob_ref(data);
    l->bytes += data_len(e);
}

size_t raftlog_count_known(const struct raftlog *l,
                           const struct raft_entry *entries, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!raftlog_matches(l, entries[i].index, entries[i].term))
            return i;
    return n;
}

void raftlog_truncate(struct raftlog *l, raft_index index)
{
    assert(index > l->base);
    while (raftlog_last_index(l) >= index) {
        struct raft_entry *e = &l->slots[l->head + l->n - 1];

        l->bytes -= data_len(e);
        raft_entry_release(e);
        l->n--;
    }

    /* Writes under way still cover what is below the cut, and no more. */
    l->stable = min_u64(l->stable, index - 1);
    l->offered = min_u64(l->offered, index - 1);
    for (size_t i = l->n_writes; i-- > 0;) {
        raft_index *last = &l->writes[l->write_head + i];

        if (*last < index)
            break;
        *last = index - 1;
    }
}

/* Give memory back once three quarters of the array lie idle. */
static void shrink(struct raftlog *l)
{
    if (l->cap <= SLOTS_MIN || l->n >= l->cap / 4)
        return;
    memmove(l->slots, l->slots + l->head, l->n * sizeof(*l->slots));
    l->head = 0;
    l->cap /= 2;
    l->slots = xrealloc(l->slots, l->cap * sizeof(*l->slots));
}

void raftlog_compact(struct raftlog *l, raft_index index)
{
    size_t n = (size_t)(index - l->base);

    assert(index > l->base && index <= raftlog_last_index(l));
    l->base_term = raftlog_at(l, index)->term;
    for (size_t i = 0; i < n; i++) {
        l->bytes -= data_len(&l->slots[l->head + i]);
        raft_entry_release(&l->slots[l->head + i]);
    }
    l->head += n;
    l->n -= n;
    l->base = index;
    shrink(l);
}

void raftlog_reset(struct raftlog *l, raft_index base, raft_term base_term)
{
    drop_all(l);
    shrink(l);
    l->base = base;
    l->base_term = base_term;

    /* Nothing written so far is part of this log; the snapshot will be. */
    l->stable = l->offered = 0;
    for (size_t i = 0; i < l->n_writes; i++)
        l->writes[l->write_head + i] = 0;
}

size_t raftlog_slice(const struct raftlog *l, raft_index from, size_t n_max,
                     size_t bytes_max, const struct raft_entry **out)
{
    size_t bytes = 0, n = 0;

    *out = NULL;
    assert(from > l->base);
    if (from > raftlog_last_index(l))
        return 0;

    n_max = (size_t)min_u64(n_max, raftlog_last_index(l) - from + 1);
    *out = raftlog_at(l, from);
    while (n < n_max) {
        bytes += data_len(&(*out)[n]) + ENTRY_OVERHEAD;
        if (n > 0 && bytes > bytes_max)
            break;
        n++;
    }
    return n;
}

size_t raftlog_bytes(const struct raftlog *l, raft_index first, raft_index last)
{
    size_t bytes = 0;

    for (raft_index i = first; i <= last; i++)
        bytes += data_len(raftlog_at(l, i));
    return bytes;
}

raft_index raftlog_find_term(const struct raftlog *l, raft_index from,
                             raft_term term, raft_term *out_term)
{
    raft_index lo = l->base, hi = min_u64(from, raftlog_last_index(l));

    *out_term = 0;
    if (hi < lo)
        return hi;
    if (l->base_term > term)
        return lo > 0 ? lo - 1 : 0;

    /* The term at lo is low enough; the answer is in [lo, hi]. */
    while (lo < hi) {
        raft_index mid = hi - (hi - lo) / 2;

        if (raftlog_at(l, mid)->term <= term)
            lo = mid;
        else
            hi = mid - 1;
    }
    *out_term = lo == l->base ? l->base_term : raftlog_at(l, lo)->term;
    return lo;
}

/* --- The disk. ---------------------------------------------------------- */

size_t raftlog_unoffered(const struct raftlog *l, const struct raft_entry **out)
{
    raft_index from = max_u64(l->offered, l->base) + 1;

    *out = NULL;
    if (from > raftlog_last_index(l))
        return 0;
    *out = raftlog_at(l, from);
    return (size_t)(raftlog_last_index(l) - from + 1);
}

uint64_t raftlog_offer(struct raftlog *l)
{
    l->offered = raftlog_last_index(l);
    l->writes = raftlog_room(l->writes, sizeof(*l->writes), &l->write_head,
                             l->n_writes, &l->write_cap);
    l->writes[l->write_head + l->n_writes++] = l->offered;
    return ++l->offered_seq;
}

void raftlog_stable(struct raftlog *l, uint64_t seq)
{
    assert(seq <= l->offered_seq);
    while (l->stable_seq < seq) {
        l->stable = l->writes[l->write_head++];
        l->n_writes--;
        l->stable_seq++;
    }
    if (l->n_writes == 0)
        l->write_head = 0;
}

uint64_t raftlog_durable_seq(const struct raftlog *l, raft_index index)
{
    size_t lo = 0, hi = l->n_writes;

    if (index <= l->stable)
        return 0;
    if (index > l->offered)
        return l->offered_seq + 1;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (l->writes[l->write_head + mid] < index)
            lo = mid + 1;
        else
            hi = mid;
    }
    assert(lo < l->n_writes);
    return l->stable_seq + 1 + lo;
}

void raftlog_check(const struct raftlog *l)
{
    raft_index last = l->stable;
    raft_term term = l->base_term;
    size_t bytes = 0;

    assert(l->stable <= l->offered);
    assert(l->offered <= raftlog_last_index(l));
    assert(l->offered_seq - l->stable_seq == l->n_writes);
    assert(l->head + l->n <= l->cap);

    for (size_t i = 0; i < l->n_writes; i++) {
        assert(l->writes[l->write_head + i] >= last);
        last = l->writes[l->write_head + i];
    }
    assert(last == l->offered);

    for (size_t i = 0; i < l->n; i++) {
        const struct raft_entry *e = &l->slots[l->head + i];

        assert(e->index == l->base + 1 + i);
        assert(e->term >= term);
        term = e->term;
        bytes += data_len(e);
    }
    assert(bytes == l->bytes);
}
