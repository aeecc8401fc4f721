/*
 * linear.c - the search for an order that explains a history; see linear.h.
 *
 * SEARCH  Calls and returns of a key's operations stand in a list, by time.
 *         What may come next in the order is any call before the first return.
 *         Taking one lifts its call and return out of the list; when the first
 *         return is reached and nothing before it fits, the last one taken is
 *         put back and the next tried (Wing and Gong 1993). Which operations
 *         are taken, together with the state that they led to, was tried before
 *         or was not: nothing is tried twice (Lowe 2017).
 *
 * PENDING Operations without a return are optional. They stand in a list of
 *         their own, tried only after all others: most histories need few.
 *
 * PRUNING What follows holds in every right order, so no order is missed:
 *   1. Changes with known indexes stand in the order of their indexes. If a
 *      value has one writer and was read with an index, this is the writer's.
 *   2. Pending puts whose values nobody mentions can take each other's place,
 *      and so can pending creates of that kind, and pending deletes: they are
 *      taken in the order of their calls, and their values count as one.
 */
#include "linear.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_STEPS_DEFAULT 10000000
#define NO_RANK SIZE_MAX
#define PRINT_AROUND 20

struct state {
    uint64_t value;
    uint64_t index; /* of the last change; if it is not known: at least this */
    bool known;
};

struct entry { /* a call or a return, in one of the two lists */
    struct entry *prev, *next;
    struct item *item;
    int64_t at;
    bool is_return;
};

struct item { /* an operation, and what was found out about it */
    struct linear_op op;
    size_t number; /* in the caller's ops[] */
    struct entry call, ret;
    struct item *after; /* one that must be taken before it (pruning, 2) */
    size_t rank;        /* among the changes with known indexes, or NO_RANK */
    uint64_t hash[2];
    bool pending, taken, observed;
};

struct seen { /* a set of items taken, as a hash, and the state they led to */
    uint64_t hash[2];
    struct state state;
    bool used;
};

struct step {
    struct item *item;
    struct state before;
};

struct search {
    struct item *items; /* by time of call */
    size_t n, n_left;   /* n_left: those with an answer, not yet taken */
    struct entry head, pending; /* of the two lists */
    struct state state;
    uint64_t hash[2];
    size_t next_rank;
    struct step *stack;
    size_t depth;
    struct seen *seen; /* open addressing, a power of two */
    size_t n_seen, cap;
    uint64_t steps;
    size_t deepest, stuck_at;
};

static void *must_alloc(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size);

    if (!p) {
        perror("linear");
        abort();
    }
    return p;
}

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

/* --- The model: one key. ----------------------------------------------- */

static bool is_change(const struct linear_op *op)
{
    return op->type != LINEAR_READ;
}

static bool deletes(const struct linear_op *op)
{
    return op->type == LINEAR_DELETE || op->type == LINEAR_CAD;
}

/*
 * Whether the state's index can be i, and if so, it is from now on: an index
 * that nobody was told is settled by the first answer that names it.
 */
static bool settle_index(struct state *s, uint64_t i)
{
    if (s->known ? i != s->index : i < s->index)
        return false;
    s->index = i;
    s->known = true;
    return true;
}

static bool condition_holds(struct state *s, const struct linear_op *op)
{
    switch (op->type) {
    case LINEAR_CREATE:
        return s->value == LINEAR_NONE;
    case LINEAR_CAS:
    case LINEAR_CAD:
        return s->value != LINEAR_NONE && s->value == op->prev;
    case LINEAR_CAS_INDEX:
        return s->value != LINEAR_NONE && settle_index(s, op->prev);
    case LINEAR_DELETE:
        return s->value != LINEAR_NONE;
    default:
        return true;
    }
}

static bool apply_read(struct state *s, const struct linear_op *op)
{
    if (s->value != op->value)
        return false;
    return op->value == LINEAR_NONE || !op->index || settle_index(s, op->index);
}

/* The answer was that the condition does not hold. */
static bool apply_refused(struct state *s, const struct linear_op *op)
{
    struct state copy = *s;

    if (op->type == LINEAR_PUT)
        return false;
    if (!condition_holds(&copy, op))
        return true;
    /* An index that is not known may be another than prev. */
    if (op->type != LINEAR_CAS_INDEX || s->known)
        return false;
    if (s->index == op->prev)
        s->index++;
    return true;
}

static bool apply_change(struct state *s, const struct linear_op *op)
{
    if (!condition_holds(s, op))
        return false;
    if (op->index && op->index <= s->index)
        return false;
    s->known = op->index != 0;
    s->index = op->index ? op->index : s->index + 1;
    s->value = deletes(op) ? LINEAR_NONE : op->value;
    return true;
}

static bool apply(struct state *s, const struct item *it)
{
    if (it->op.type == LINEAR_READ)
        return apply_read(s, &it->op);
    if (!it->pending && !it->op.ok)
        return apply_refused(s, &it->op);
    return apply_change(s, &it->op);
}

/* --- Preparing a key. --------------------------------------------------- */

static int by_key_and_call(const void *a, const void *b)
{
    const struct item *x = a, *y = b;

    if (x->op.key != y->op.key)
        return x->op.key < y->op.key ? -1 : 1;
    if (x->op.called != y->op.called)
        return x->op.called < y->op.called ? -1 : 1;
    return x->number < y->number ? -1 : 1;
}

/* Calls before returns at the same time, so that touching is concurrent. */
static int by_time(const void *a, const void *b)
{
    const struct entry *x = *(struct entry *const *)a;
    const struct entry *y = *(struct entry *const *)b;

    if (x->at != y->at)
        return x->at < y->at ? -1 : 1;
    if (x->is_return != y->is_return)
        return x->is_return ? 1 : -1;
    return x->item->number < y->item->number ? -1 : 1;
}

static int by_index(const void *a, const void *b)
{
    const struct item *x = *(struct item *const *)a;
    const struct item *y = *(struct item *const *)b;

    if (x->op.index != y->op.index)
        return x->op.index < y->op.index ? -1 : 1;
    return x->number < y->number ? -1 : 1;
}

static void list_append(struct entry *head, struct entry *e)
{
    e->prev = head->prev;
    e->next = head;
    head->prev->next = e;
    head->prev = e;
}

static void init_lists(struct search *s)
{
    struct entry **order = must_alloc(2 * s->n, sizeof(struct entry *));
    size_t k = 0;

    s->head.prev = s->head.next = &s->head;
    s->pending.prev = s->pending.next = &s->pending;
    for (size_t i = 0; i < s->n; i++) {
        struct item *it = &s->items[i];

        it->call = (struct entry){.item = it, .at = it->op.called};
        it->ret = (struct entry){
            .item = it, .at = it->op.returned, .is_return = true};
        if (it->pending) {
            if (is_change(&it->op)) /* a read without an answer says nothing */
                list_append(&s->pending, &it->call);
            continue;
        }
        s->n_left++;
        order[k++] = &it->call;
        order[k++] = &it->ret;
    }
    qsort(order, k, sizeof(struct entry *), by_time);
    for (size_t i = 0; i < k; i++)
        list_append(&s->head, order[i]);
    free(order);
}

/* A value that an operation names: where, and whether it writes it. */
struct mention {
    uint64_t value;
    struct item *item;
    bool writes;
};

static int by_value(const void *a, const void *b)
{
    const struct mention *x = a, *y = b;

    if (x->value != y->value)
        return x->value < y->value ? -1 : 1;
    if (x->writes != y->writes)
        return x->writes ? -1 : 1;
    return x->item->number < y->item->number ? -1 : 1;
}

static size_t find_mentions(const struct search *s, struct mention *m)
{
    size_t k = 0;

    for (size_t i = 0; i < s->n; i++) {
        struct item *it = &s->items[i];
        const struct linear_op *op = &it->op;

        if (!deletes(op) && op->value != LINEAR_NONE &&
            !(it->pending && op->type == LINEAR_READ))
            m[k++] = (struct mention){op->value, it, is_change(op)};
        if (op->type == LINEAR_CAS || op->type == LINEAR_CAD)
            m[k++] = (struct mention){op->prev, it, false};
    }
    qsort(m, k, sizeof(*m), by_value);
    return k;
}

/* m[0..n) mention one value, its writers first. */
static void learn_from_value(struct mention *m, size_t n, uint64_t *nobodys)
{
    struct item *writer = m[0].item;

    if (!m[0].writes || (n > 1 && m[1].writes))
        return;
    for (size_t i = 1; i < n; i++) {
        const struct linear_op *op = &m[i].item->op;

        if (op->type == LINEAR_READ && op->index) {
            writer->observed = true;
            if (!writer->op.index)
                writer->op.index = op->index;
        }
    }
    if (n == 1 && writer->pending &&
        (writer->op.type == LINEAR_PUT || writer->op.type == LINEAR_CREATE)) {
        if (*nobodys == LINEAR_NONE)
            *nobodys = m[0].value;
        writer->op.value = *nobodys;
    }
}

static void learn_from_values(struct search *s)
{
    struct mention *m = must_alloc(2 * s->n, sizeof(*m));
    size_t n = find_mentions(s, m), end;
    struct item *last[LINEAR_CAD + 1] = {NULL};
    uint64_t nobodys = LINEAR_NONE;

    for (size_t i = 0; i < n; i = end) {
        for (end = i + 1; end < n && m[end].value == m[i].value;)
            end++;
        learn_from_value(m + i, end - i, &nobodys);
    }
    free(m);
    for (size_t i = 0; i < s->n; i++) {
        struct item *it = &s->items[i];

        if (!it->pending || it->op.index)
            continue;
        if (it->op.type == LINEAR_DELETE ||
            (is_change(&it->op) && it->op.value == nobodys &&
             nobodys != LINEAR_NONE)) {
            it->after = last[it->op.type];
            last[it->op.type] = it;
        }
    }
}

/* Only what happened for sure has a rank; the others must not hold it up. */
static void rank_changes(struct search *s)
{
    struct item **order = must_alloc(s->n, sizeof(struct item *));
    size_t k = 0;

    for (size_t i = 0; i < s->n; i++) {
        struct item *it = &s->items[i];

        it->rank = NO_RANK;
        if (is_change(&it->op) && it->op.index &&
            (it->pending ? it->observed : it->op.ok))
            order[k++] = it;
    }
    qsort(order, k, sizeof(struct item *), by_index);
    for (size_t i = 0; i < k; i++)
        order[i]->rank = i;
    free(order);
}

/* --- The search. --------------------------------------------------------- */

static bool same_state(const struct seen *a, const struct seen *b)
{
    return a->hash[0] == b->hash[0] && a->hash[1] == b->hash[1] &&
           a->state.value == b->state.value &&
           a->state.index == b->state.index && a->state.known == b->state.known;
}

static struct seen *find_seen(struct seen *table, size_t cap,
                              const struct seen *key)
{
    size_t i = (size_t)mix(key->hash[0] ^ key->state.value * 31 ^
                           key->state.index * 1048583) &
               (cap - 1);

    while (table[i].used && !same_state(&table[i], key))
        i = (i + 1) & (cap - 1);
    return &table[i];
}

static void grow_seen(struct search *s)
{
    size_t cap = s->cap ? 2 * s->cap : 256;
    struct seen *table = must_alloc(cap, sizeof(*table));

    for (size_t i = 0; i < s->cap; i++)
        if (s->seen[i].used)
            *find_seen(table, cap, &s->seen[i]) = s->seen[i];
    free(s->seen);
    s->seen = table;
    s->cap = cap;
}

/*
 * Whether these items with this state are new. A set is known by its hash of
 * 128 bits only: that two meet is less likely than a fault of the memory.
 */
static bool remember(struct search *s, const struct item *it,
                     const struct state *state)
{
    struct seen key = {.state = *state, .used = true}, *place;

    key.hash[0] = s->hash[0] ^ it->hash[0];
    key.hash[1] = s->hash[1] ^ it->hash[1];
    if (4 * s->n_seen >= 3 * s->cap)
        grow_seen(s);
    place = find_seen(s->seen, s->cap, &key);
    if (place->used)
        return false;
    *place = key;
    s->n_seen++;
    return true;
}

static void unlink_entry(struct entry *e)
{
    e->prev->next = e->next;
    e->next->prev = e->prev;
}

static void relink_entry(struct entry *e)
{
    e->prev->next = e;
    e->next->prev = e;
}

static void toggle(struct search *s, struct item *it)
{
    it->taken = !it->taken;
    s->hash[0] ^= it->hash[0];
    s->hash[1] ^= it->hash[1];
}

static void take(struct search *s, struct item *it, const struct state *after)
{
    s->stack[s->depth++] = (struct step){it, s->state};
    s->state = *after;
    toggle(s, it);
    s->next_rank += it->rank != NO_RANK;
    s->n_left -= !it->pending;
    unlink_entry(&it->call);
    if (!it->pending)
        unlink_entry(&it->ret);
}

static struct item *put_back(struct search *s)
{
    struct item *it = s->stack[--s->depth].item;

    s->state = s->stack[s->depth].before;
    if (!it->pending)
        relink_entry(&it->ret);
    relink_entry(&it->call);
    s->n_left += !it->pending;
    s->next_rank -= it->rank != NO_RANK;
    toggle(s, it);
    return it;
}

static bool try_item(struct search *s, struct item *it)
{
    struct state after = s->state;

    s->steps++;
    if (it->rank != NO_RANK && it->rank != s->next_rank)
        return false;
    if (it->after && !it->after->taken)
        return false;
    if (!apply(&after, it) || !remember(s, it, &after))
        return false;
    take(s, it, &after);
    return true;
}

/* The call at or behind e that may come next in the order, or NULL. */
static struct entry *candidate(struct search *s, struct entry *e)
{
    struct entry *first_return;

    if (!e->is_return && e != &s->pending && !e->item->pending)
        return e;
    for (first_return = s->head.next; !first_return->is_return;)
        first_return = first_return->next;
    if (e->is_return)
        e = s->pending.next;
    return e != &s->pending && e->at <= first_return->at ? e : NULL;
}

static void note_stuck(struct search *s)
{
    struct entry *e = s->head.next;

    if (s->depth < s->deepest)
        return;
    s->deepest = s->depth;
    while (!e->is_return)
        e = e->next;
    s->stuck_at = e->item->number;
}

/* 1: there is an order, 0: there is none, -1: not found in max_steps. */
static int search(struct search *s, uint64_t max_steps)
{
    struct entry *e = s->head.next;

    while (s->n_left) {
        e = candidate(s, e);
        if (!e) {
            note_stuck(s);
            if (!s->depth)
                return 0;
            e = put_back(s)->call.next;
        } else if (try_item(s, e->item)) {
            e = s->head.next;
        } else {
            e = e->next;
        }
        if (s->steps > max_steps)
            return -1;
    }
    return 1;
}

static int check_key(struct item *items, size_t n, uint64_t max_steps,
                     struct linear_result *res)
{
    struct search s = {.items = items, .n = n, .state = {.known = true}};
    int rc;

    init_lists(&s);
    learn_from_values(&s);
    rank_changes(&s);
    s.stack = must_alloc(n, sizeof(*s.stack));
    rc = search(&s, max_steps);
    res->steps += s.steps;
    if (rc <= 0 && (res->ok || (res->gave_up && rc == 0))) {
        res->ok = false;
        res->gave_up = rc < 0;
        res->key = items[0].op.key;
        res->failed_at = s.stuck_at;
    }
    free(s.stack);
    free(s.seen);
    return rc;
}

struct linear_result linear_check(const struct linear_op *ops, size_t n,
                                  uint64_t max_steps)
{
    struct linear_result res = {.ok = true};
    struct item *items = must_alloc(n, sizeof(*items));
    size_t end;

    for (size_t i = 0; i < n; i++)
        items[i] = (struct item){.op = ops[i],
                                 .number = i,
                                 .pending = ops[i].returned == LINEAR_PENDING,
                                 .hash = {mix(2 * i + 1), mix(~(2 * i))}};
    qsort(items, n, sizeof(*items), by_key_and_call);
    for (size_t i = 0; i < n; i = end) {
        for (end = i + 1; end < n && items[end].op.key == items[i].op.key;)
            end++;
        if (check_key(items + i, end - i,
                      max_steps ? max_steps : MAX_STEPS_DEFAULT, &res) == 0)
            break;
    }
    free(items);
    return res;
}

/* --- For people. --------------------------------------------------------- */

static void print_op(const struct linear_op *op, bool mark)
{
    static const char *const names[] = {"read",      "put",    "create", "cas",
                                        "cas-index", "delete", "cad"};
    char returned[32] = "?";

    if (op->returned != LINEAR_PENDING)
        snprintf(returned, sizeof(returned), "%" PRId64, op->returned);
    fprintf(stderr,
            "%c %" PRId64 " .. %s  client %" PRIu32 "  key %" PRIu32 "  %s",
            mark ? '>' : ' ', op->called, returned, op->client, op->key,
            names[op->type]);
    if (op->type == LINEAR_CAS || op->type == LINEAR_CAS_INDEX ||
        op->type == LINEAR_CAD)
        fprintf(stderr, "  prev %" PRIu64, op->prev);
    if (!deletes(op))
        fprintf(stderr, "  value %" PRIu64, op->value);
    fprintf(stderr, "  index %" PRIu64 "  %s\n", op->index,
            op->returned == LINEAR_PENDING ? "unknown"
            : op->ok                       ? "ok"
                                           : "refused");
}

void linear_print(const struct linear_op *ops, size_t n, size_t at)
{
    struct item *items = must_alloc(n, sizeof(*items));
    size_t k = 0, mark = 0;

    for (size_t i = 0; i < n; i++)
        if (ops[i].key == ops[at].key)
            items[k++] = (struct item){.op = ops[i], .number = i};
    qsort(items, k, sizeof(*items), by_key_and_call);
    while (items[mark].number != at)
        mark++;
    for (size_t i = 0; i < k; i++)
        if (i + PRINT_AROUND >= mark && i <= mark + PRINT_AROUND)
            print_op(&items[i].op, i == mark);
    free(items);
}
