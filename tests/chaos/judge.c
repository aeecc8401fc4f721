/*
 * judge.c - reads a history (client.c) and says whether it can be true.
 *
 *   judge HISTORY LIVES
 *
 * LIVES has a line `member start end` for each life of a member's process, in
 * ns of the monotonic clock; end 0: it lived on. What must hold:
 *
 *   1. Writes and quorum reads of each key are linearizable (linear.h).
 *   2. Indexes are given to changes once, in the order of time over all keys.
 *   3. Local reads may be old, but show what was true at the index that they
 *      name, and during one life of a member this index never goes back.
 *
 * Prints one line of counts; exit status 0: all holds, 1: not, 2: the history
 * is not one, 3: undecided.
 */
#include "../linear.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct record {
    struct linear_op op;
    uint64_t etcd_index;
    unsigned connection;
    size_t life; /* of local reads */
};

struct life {
    int member;
    int64_t start, end;
};

struct list { /* growable; of records, connections' lives, or lives */
    void *v;
    size_t n, cap;
};

static struct list all, local, lives, connections;
static size_t odd, counts[3];

static void *push(struct list *l, size_t size)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 1024;
        l->v = realloc(l->v, l->cap * size);
        if (!l->v)
            abort();
    }
    return memset((char *)l->v + size * l->n++, 0, size);
}

static int bad_line(const char *path, size_t n)
{
    fprintf(stderr, "judge: %s:%zu: this is not a history\n", path, n);
    return 2;
}

/* --- Reading. ------------------------------------------------------------- */

static size_t life_at(int member, int64_t time)
{
    const struct life *l = lives.v;

    for (size_t i = 0; i < lives.n; i++)
        if (l[i].member == member && l[i].start < time &&
            (!l[i].end || time < l[i].end))
            return i;
    return SIZE_MAX; /* it was dying just then */
}

static bool read_connection(const char *line)
{
    int64_t time;
    unsigned number;
    int member;

    if (sscanf(line, "C %" SCNd64 " %u %d", &time, &number, &member) != 3)
        return false;
    while (connections.n <= number)
        *(size_t *)push(&connections, sizeof(size_t)) = SIZE_MAX;
    ((size_t *)connections.v)[number] = life_at(member, time);
    return true;
}

static bool type_of(char c, enum linear_type *type)
{
    static const char letters[] = "rpcvida";
    const char *at = strchr(letters, c == 'l' ? 'r' : c);

    if (!c || !at)
        return false;
    *type = (enum linear_type)(at - letters);
    return true;
}

static bool read_op(const char *line)
{
    struct record r = {.life = SIZE_MAX};
    char type, outcome[4];
    int member;

    if (sscanf(line,
               "%c %" SCNd64 " %" SCNd64 " %" SCNu32 " %u %d %" SCNu32
               " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %3s",
               &type, &r.op.called, &r.op.returned, &r.op.client, &r.connection,
               &member, &r.op.key, &r.op.value, &r.op.prev, &r.op.index,
               &r.etcd_index, outcome) != 12 ||
        !type_of(type, &r.op.type))
        return false;
    counts[*outcome == 'o' ? 0 : *outcome == 'n' ? 1 : 2]++;
    r.op.ok = *outcome == 'o';
    if (*outcome == '?') {
        r.op.returned = LINEAR_PENDING;
        r.op.index = 0;
    }
    if (type != 'l')
        *(struct record *)push(&all, sizeof(r)) = r;
    else if (r.op.ok)
        *(struct record *)push(&local, sizeof(r)) = r;
    return true;
}

/* A line cut short at the end is that of a client that was killed. */
static int read_history(const char *path)
{
    FILE *f = fopen(path, "r");
    char line[1024];
    size_t n = 0;

    if (!f) {
        perror(path);
        return 2;
    }
    while (fgets(line, sizeof(line), f)) {
        n++;
        if (line[0] == '!') {
            fprintf(stderr, "judge: %s", line);
            odd++;
        } else if (line[0] == 'C' ? !read_connection(line) : !read_op(line)) {
            if (odd) /* the rest of what was asked so oddly */
                continue;
            return bad_line(path, n);
        }
    }
    fclose(f);
    return 0;
}

static int read_lives(const char *path)
{
    FILE *f = fopen(path, "r");
    struct life l;

    if (!f) {
        perror(path);
        return 2;
    }
    while (fscanf(f, "%d %" SCNd64 " %" SCNd64, &l.member, &l.start, &l.end) ==
           3)
        *(struct life *)push(&lives, sizeof(l)) = l;
    fclose(f);
    return 0;
}

/* --- In the order of time. ------------------------------------------------ */

/* What must not go back: within `group`, who comes after must have more. */
struct moment {
    size_t group;
    int64_t called, returned;
    uint64_t at;
    const struct record *r;
};

static int by_call(const void *a, const void *b)
{
    const struct moment *x = a, *y = b;

    if (x->group != y->group)
        return x->group < y->group ? -1 : 1;
    return x->called < y->called ? -1 : x->called > y->called;
}

static int by_return(const void *a, const void *b)
{
    const struct moment *x = a, *y = b;

    if (x->group != y->group)
        return x->group < y->group ? -1 : 1;
    return x->returned < y->returned ? -1 : x->returned > y->returned;
}

static void print_record(const char *what, const struct record *r)
{
    fprintf(stderr, "judge: %s:\n", what);
    linear_print(&r->op, 1, 0);
    fprintf(stderr, "  connection %u, X-Etcd-Index %" PRIu64 "\n",
            r->connection, r->etcd_index);
}

/* m[0..n), of several groups; `rises`: not even the same twice. */
static bool never_back(struct moment *m, size_t n, bool rises, const char *what)
{
    struct moment *done = malloc((n + 1) * sizeof(*done));
    const struct moment *highest = NULL;
    size_t k = 0;
    bool ok = true;

    if (!done)
        abort();
    memcpy(done, m, n * sizeof(*m));
    qsort(m, n, sizeof(*m), by_call);
    qsort(done, n, sizeof(*done), by_return);
    for (size_t i = 0; i < n && ok; i++) {
        if (i && m[i].group != m[i - 1].group)
            highest = NULL;
        while (k < n && done[k].group < m[i].group)
            k++;
        for (; k < n && done[k].group == m[i].group &&
               done[k].returned < m[i].called;
             k++)
            if (!highest || done[k].at > highest->at)
                highest = &done[k];
        if (highest &&
            (rises ? m[i].at <= highest->at : m[i].at < highest->at)) {
            print_record("this came first", highest->r);
            print_record(what, m[i].r);
            ok = false;
        }
    }
    free(done);
    return ok;
}

static bool is_change(const struct record *r)
{
    return r->op.type != LINEAR_READ && r->op.ok && r->op.index &&
           r->op.returned != LINEAR_PENDING;
}

static int by_at(const void *a, const void *b)
{
    const struct moment *x = a, *y = b;

    return x->at < y->at ? -1 : x->at > y->at;
}

static bool check_index_order(void)
{
    struct moment *m = malloc((all.n + 1) * sizeof(*m));
    const struct record *r = all.v;
    size_t n = 0;
    bool ok;

    if (!m)
        abort();
    for (size_t i = 0; i < all.n; i++)
        if (is_change(&r[i]))
            m[n++] = (struct moment){0, r[i].op.called, r[i].op.returned,
                                     r[i].op.index, &r[i]};
    ok = never_back(m, n, true, "a later change has a lower index");
    qsort(m, n, sizeof(*m), by_at);
    for (size_t i = 1; i < n && ok; i++)
        if (m[i].at == m[i - 1].at) {
            print_record("two changes have one index", m[i - 1].r);
            print_record("the other", m[i].r);
            ok = false;
        }
    free(m);
    return ok;
}

static bool check_local_order(void)
{
    struct moment *m = malloc((local.n + 1) * sizeof(*m));
    const struct record *r = local.v;
    bool ok;

    if (!m)
        abort();
    for (size_t i = 0; i < local.n; i++)
        m[i] = (struct moment){r[i].life, r[i].op.called, r[i].op.returned,
                               r[i].etcd_index, &r[i]};
    ok = never_back(m, local.n, false, "a member's state went back");
    free(m);
    return ok;
}

/* --- What local reads show. ----------------------------------------------- */

static int by_key_and_index(const void *a, const void *b)
{
    const struct record *const *x = a, *const *y = b;

    if ((*x)->op.key != (*y)->op.key)
        return (*x)->op.key < (*y)->op.key ? -1 : 1;
    if ((*x)->op.index != (*y)->op.index)
        return (*x)->op.index < (*y)->op.index ? -1 : 1;
    return 0;
}

static int by_key_and_value(const void *a, const void *b)
{
    const struct record *const *x = a, *const *y = b;

    if ((*x)->op.key != (*y)->op.key)
        return (*x)->op.key < (*y)->op.key ? -1 : 1;
    if ((*x)->op.value != (*y)->op.value)
        return (*x)->op.value < (*y)->op.value ? -1 : 1;
    return 0;
}

struct past {                      /* of all keys */
    const struct record **changes; /* with known indexes, by key and index */
    const struct record **writes;  /* by key and value */
    size_t n_changes, n_writes;
};

static bool deletes(const struct record *r)
{
    return r->op.type == LINEAR_DELETE || r->op.type == LINEAR_CAD;
}

static void find_past(struct past *p)
{
    const struct record *r = all.v;

    p->changes = malloc((all.n + 1) * sizeof(*p->changes));
    p->writes = malloc((all.n + 1) * sizeof(*p->writes));
    if (!p->changes || !p->writes)
        abort();
    for (size_t i = 0; i < all.n; i++) {
        if (is_change(&r[i]))
            p->changes[p->n_changes++] = &r[i];
        if (r[i].op.type != LINEAR_READ && !deletes(&r[i]))
            p->writes[p->n_writes++] = &r[i];
    }
    qsort(p->changes, p->n_changes, sizeof(*p->changes), by_key_and_index);
    qsort(p->writes, p->n_writes, sizeof(*p->writes), by_key_and_value);
}

/* The last known change of r's key that r's index covers, or NULL. */
static const struct record *last_change(const struct past *p,
                                        const struct record *r)
{
    size_t lo = 0, hi = p->n_changes;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        const struct linear_op *op = &p->changes[mid]->op;

        if (op->key < r->op.key ||
            (op->key == r->op.key && op->index <= r->etcd_index))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo && p->changes[lo - 1]->op.key == r->op.key ? p->changes[lo - 1]
                                                         : NULL;
}

static bool may_be_gone(uint32_t key)
{
    const struct record *r = all.v;

    for (size_t i = 0; i < all.n; i++)
        if (r[i].op.key == key && deletes(&r[i]) &&
            r[i].op.returned == LINEAR_PENDING)
            return true;
    return false;
}

/* NULL: it may be. */
static const char *local_fault(const struct past *p, const struct record *r)
{
    const struct record *last = last_change(p, r), **w;

    if (r->op.value == LINEAR_NONE)
        return last && !deletes(last) && !may_be_gone(r->op.key)
                   ? "nothing is there, though it was written"
                   : NULL;
    w = bsearch(&r, p->writes, p->n_writes, sizeof(*p->writes),
                by_key_and_value);
    if (!w)
        return "nobody wrote this";
    if ((*w)->op.called > r->op.returned)
        return "it is written only later";
    if ((*w)->op.returned != LINEAR_PENDING &&
        (!(*w)->op.ok || (*w)->op.index != r->op.index))
        return "the write was refused, or has another index";
    if (r->op.index > r->etcd_index)
        return "its index is above the member's";
    if (last && last->op.index > r->op.index)
        return "it was changed before this index";
    return NULL;
}

static bool check_local_values(void)
{
    const struct record *r = local.v;
    struct past p = {0};
    const char *fault = NULL;

    find_past(&p);
    for (size_t i = 0; i < local.n && !fault; i++) {
        fault = local_fault(&p, &r[i]);
        if (fault)
            print_record(fault, &r[i]);
    }
    free(p.changes);
    free(p.writes);
    return !fault;
}

/* --- The verdict. --------------------------------------------------------- */

static void find_lives(void)
{
    struct record *r = local.v;
    const size_t *life = connections.v;

    for (size_t i = 0; i < local.n; i++) {
        unsigned c = r[i].connection;

        r[i].life = c < connections.n && life[c] != SIZE_MAX
                        ? life[c]
                        : lives.n + c; /* a life of its own */
    }
}

static int check_linear(void)
{
    struct linear_op *ops = malloc((all.n + 1) * sizeof(*ops));
    const struct record *r = all.v;
    struct linear_result res;

    if (!ops)
        abort();
    for (size_t i = 0; i < all.n; i++)
        ops[i] = r[i].op;
    res = linear_check(ops, all.n, 0);
    if (res.gave_up) {
        fprintf(stderr, "judge: key %" PRIu32 " has too many orders to try\n",
                res.key);
    } else if (!res.ok) {
        fprintf(stderr, "judge: key %" PRIu32 " is not linearizable:\n",
                res.key);
        linear_print(ops, all.n, res.failed_at);
    }
    free(ops);
    return res.ok ? 0 : res.gave_up ? 3 : 1;
}

int main(int argc, char **argv)
{
    int rc;

    if (argc != 3) {
        fprintf(stderr, "usage: judge HISTORY LIVES\n");
        return 2;
    }
    rc = read_lives(argv[2]);
    if (rc == 0)
        rc = read_history(argv[1]);
    if (rc)
        return rc;
    find_lives();
    rc = check_linear();
    if (odd || !check_index_order() || !check_local_order() ||
        !check_local_values())
        rc = 1;
    printf("%zu ok %zu refused %zu unknown %zu local-reads %s\n", counts[0],
           counts[1], counts[2], local.n,
           rc == 0   ? "linearizable"
           : rc == 1 ? "WRONG"
                     : "UNDECIDED");
    return rc;
}
