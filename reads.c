/*
 * reads.c - linearizable reads.
 *
 * A READ needs an index at which everything that was acknowledged before it
 * began is applied (thesis, 6.4). Rounds of ReadIndex are numbered: who comes
 * while one is under way waits for the next, together with all others.
 *
 * Some wait in person, at a condition variable; the others (struct v3_read)
 * stand in two lists: those whose round is not over, and those who know the
 * index they wait for. Whoever ends a round or applies something looks at them
 * before it goes on (reads_tell()).
 */
#include "metrics.h"
#include "server_impl.h"
#include "v3server.h"

/* --- Linearizable reads. ------------------------------------------------ */

static void start_read_round(struct server *s)
{
    s->read_ctx = server_next_id(s);
    s->read_started++;
    s->read_sent_ns = sys_mono_ns();
    raft_read_index(s->raft, s->read_ctx);
}

/* Those whose round is over now wait for an index. */
static void reads_know_index(struct server *s)
{
    struct v3_read **at = &s->reads_asking;

    while (*at) {
        struct v3_read *op = *at;

        if (op->round > s->read_done) {
            at = &op->next;
            continue;
        }
        *at = op->next;
        op->index = s->read_index;
        op->next = s->reads_waiting;
        s->reads_waiting = op;
    }
}

void reads_finish(struct server *s, const struct raft_read *read)
{
    if (read->ctx != s->read_ctx)
        return; /* an answer to an earlier try; a later one is under way */
    s->read_ctx = 0;
    s->read_done = s->read_started;
    s->read_index = max_u64(s->read_index, read->index);
    pthread_cond_broadcast(&s->read_cond);
    reads_know_index(s);
    if (s->read_wanted > s->read_done)
        start_read_round(s);
}

/* An index such that what was acknowledged before now is at or below it. */
static int linearizable_index(struct server *s, int64_t deadline,
                              raft_index *out)
{
    uint64_t round;
    int rc = 0;

    pthread_mutex_lock(&s->raft_mu);
    /* A round that is under way may have begun before what we must see. */
    round = s->read_started + 1;
    s->read_wanted = max_u64(s->read_wanted, round);
    if (s->read_ctx == 0) {
        start_read_round(s);
        server_handle_ready(s);
        server_wake_workers(s);
        server_flush(s);
    }
    while (s->read_done < round && !s->stopping && rc == 0)
        if (!sys_cond_wait_until(&s->read_cond, &s->raft_mu, deadline))
            rc = SERVER_ETIMEOUT;
    if (s->read_done >= round) {
        rc = 0;
        *out = s->read_index;
    } else if (s->stopping) {
        rc = SERVER_ESTOPPED;
    }
    server_leave_raft(s);
    return rc;
}

int server_wait_applied(struct server *s, raft_index index, int64_t deadline)
{
    int rc = 0;

    if (sys_u64_load(&s->last_applied) >= index)
        return 0;
    pthread_mutex_lock(&s->mu);
    s->applied_waiters++;
    while (s->last_applied < index && rc == 0)
        if (s->apply_stopped)
            rc = SERVER_ESTOPPED;
        else if (!sys_cond_wait_until(&s->applied, &s->mu, deadline))
            rc = SERVER_ETIMEOUT;
    if (s->last_applied >= index)
        rc = 0;
    s->applied_waiters--;
    pthread_mutex_unlock(&s->mu);
    return rc;
}

int server_read_index(struct server *s, int64_t timeout_ms)
{
    int64_t began = sys_mono_ns(), deadline = began + timeout_ms * NS_PER_MS;
    raft_index index = 0;
    int rc = linearizable_index(s, deadline, &index);

    if (rc == 0)
        rc = server_wait_applied(s, index, deadline);
    if (rc == SERVER_ETIMEOUT)
        rc = server_timeout_reason(s, began);
    if (rc < 0)
        metric_add(M_READ_INDEX_FAILED, 1);
    return rc;
}

/* A request or its answer may have been lost: ask again. raft_mu is held. */
void reads_retry(struct server *s, int64_t now)
{
    if (s->read_ctx == 0 || now - s->read_sent_ns < READ_RETRY_MS * NS_PER_MS)
        return;
    metric_add(M_SLOW_READ_INDEX, 1);
    s->read_sent_ns = now;
    raft_read_index(s->raft, s->read_ctx);
}

/* --- Reads that wait in a list. ------------------------------------------- */

/* Take out those that `due` says are. raft_mu is held. */
static struct v3_read *
take_reads(struct v3_read **list,
           bool (*due)(const struct v3_read *op, uint64_t arg), uint64_t arg)
{
    struct v3_read *taken = NULL;

    while (*list) {
        struct v3_read *op = *list;

        if (!due(op, arg)) {
            list = &op->next;
            continue;
        }
        *list = op->next;
        op->next = taken;
        taken = op;
    }
    return taken;
}

static bool is_applied(const struct v3_read *op, uint64_t applied)
{
    return op->index <= applied;
}

static bool is_over(const struct v3_read *op, uint64_t now_ns)
{
    return (uint64_t)op->deadline_ns <= now_ns;
}

/* Without a lock held. */
static void call_reads(struct v3_read *list, enum v3_error error)
{
    while (list) {
        struct v3_read *next = list->next;

        list->error = error;
        list->done(list);
        list = next;
    }
}

void reads_tell(struct server *s)
{
    struct v3_read *due;

    if (!s->reads_waiting)
        return;
    due = take_reads(&s->reads_waiting, is_applied,
                     sys_u64_load(&s->last_applied));
    if (!due)
        return;
    server_leave_raft(s);
    call_reads(due, V3_OK);
    pthread_mutex_lock(&s->raft_mu);
}

void reads_expire(struct server *s, int64_t now_ns, int code)
{
    struct v3_read *asking, *waiting;

    pthread_mutex_lock(&s->raft_mu);
    asking = take_reads(&s->reads_asking, is_over, (uint64_t)now_ns);
    waiting = take_reads(&s->reads_waiting, is_over, (uint64_t)now_ns);
    server_leave_raft(s);
    if (asking || waiting)
        metric_add(M_READ_INDEX_FAILED, 1);
    call_reads(asking, v3_error_of_server(code));
    call_reads(waiting, v3_error_of_server(code));
}

void v3_read_index(struct server *s, struct v3_read *op, int64_t timeout_ms)
{
    if (timeout_ms == 0)
        timeout_ms = server_request_timeout_ms(s);
    op->deadline_ns = sys_mono_ns() + timeout_ms * NS_PER_MS;
    op->error = V3_OK;
    pthread_mutex_lock(&s->raft_mu);
    if (s->stopping) {
        server_leave_raft(s);
        op->next = NULL;
        call_reads(op, V3_STOPPED);
        return;
    }
    /* As in linearizable_index(). */
    op->round = s->read_started + 1;
    op->next = s->reads_asking;
    s->reads_asking = op;
    s->read_wanted = max_u64(s->read_wanted, op->round);
    if (s->read_ctx == 0) {
        start_read_round(s);
        server_handle_ready(s);
        server_wake_workers(s);
    }
    reads_tell(s);
    server_leave_raft(s);
}

enum v3_error v3_read_index_wait(struct server *s)
{
    return v3_error_of_server(
        server_read_index(s, server_request_timeout_ms(s)));
}
