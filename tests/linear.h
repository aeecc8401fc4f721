/*
 * linear.h - judges whether a history of operations on keys is linearizable
 * (Herlihy and Wing 1990): whether each operation can be given a moment between
 * its call and its return so that all answers are right in that order. By the
 * search of Wing and Gong with Lowe's memory of states seen; keys are judged
 * each by itself, which is enough (locality).
 *
 * A key holds nothing, or a value with the index of its last change. Each
 * change, a delete too, has a higher index than all changes of the key before
 * it. An operation whose outcome is unknown (time-out, crash) may have happened
 * at any time after its call, or never. An operation that surely did nothing
 * (refused before it was proposed) does not belong into a history.
 */
#ifndef LINEAR_H
#define LINEAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum linear_type {
    LINEAR_READ,
    LINEAR_PUT,       /* set, whatever is there */
    LINEAR_CREATE,    /* only if nothing is there */
    LINEAR_CAS,       /* only if something is there, and its value is prev */
    LINEAR_CAS_INDEX, /* only if something is there, and its index is prev */
    LINEAR_DELETE,    /* only if something is there */
    LINEAR_CAD,       /* delete only if the value is prev */
};

#define LINEAR_NONE 0            /* value of a key that is not there */
#define LINEAR_PENDING INT64_MAX /* returned: never, as far as we know */

/*
 * Operations that touch in time (one returns when the other is called) count
 * as concurrent. Values need not be unique, but the search is much faster when
 * they are, and finds more.
 */
struct linear_op {
    int64_t called, returned; /* on one clock; called < returned */
    uint32_t client;          /* for reports only */
    uint32_t key;
    enum linear_type type;
    uint64_t value; /* to write; read: what was seen; never 0 for writes */
    uint64_t prev;  /* of CAS, CAD: value; of CAS_INDEX: index */
    uint64_t
        index; /* answered modifiedIndex: of a read, that of the value seen;
                       of a change, its own; 0: not known. Ignored for reads of
                       nothing and where ok is false */
    bool ok;   /* it took effect; false: the condition did not hold, and
                       nothing was changed (READ and PUT: always true). Ignored
                       when pending */
};

struct linear_result {
    bool ok;
    bool gave_up;     /* more than max_steps for a key: neither right nor wrong;
                         then ok is false, unless another key is wrong for sure */
    uint32_t key;     /* of the first that is wrong */
    size_t failed_at; /* index in ops[] of the operation that fits nowhere:
                         the longest right order ended before it */
    uint64_t steps;   /* of all keys together */
};

/*
 * Judge ops[0..n), in any order; they are not changed. max_steps bounds the
 * search for one key (0: ten million).
 */
struct linear_result linear_check(const struct linear_op *ops, size_t n,
                                  uint64_t max_steps);

/* To stderr: the operations on one key around `at`, one a line, for people. */
void linear_print(const struct linear_op *ops, size_t n, size_t at);

#endif
