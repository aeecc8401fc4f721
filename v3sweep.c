/*
 * v3sweep.c - what goes over the v3 key space in steps, in the background:
 * watchers that lag behind, and compaction. And the stores that a leader's
 * snapshot replaced while somebody was reading them.
 *
 * One thread does both, a bounded step of each under the lock, and sleeps when
 * there is nothing more to do now. It is woken by whoever makes work: a watch
 * of the past, an outbox that has room again, a compaction, a pin that is gone.
 * Where an applier waits for the lock, it comes first.
 */
#include "log.h"
#include "metrics.h"
#include "server_impl.h"

#include <inttypes.h>
#include <sched.h>

/* A store that is no longer the state, and so many still read it. */
struct old_store {
    struct old_store *next;
    struct mvcc *m;
    unsigned held;
};

/* --- Stores that are read in steps. --------------------------------------- */

void v3_hold(struct server *s)
{
    s->v3_held++;
}

struct mvcc *v3_unhold(struct server *s, struct mvcc *m)
{
    struct old_store **at = &s->v3_old, *old;

    if (m == s->v3->mvcc) {
        s->v3_held--;
        v3_sweep_wake(s); /* compaction may have waited for the pin */
        return NULL;
    }
    while ((*at)->m != m)
        at = &(*at)->next;
    old = *at;
    if (--old->held > 0)
        return NULL;
    *at = old->next;
    free(old);
    return m;
}

struct v3 *v3_replace(struct server *s, struct v3 *v)
{
    struct v3 *was = s->v3;
    struct watch_hub *unused = v->watch;

    /* The watchers stay, and go on from the new state. */
    v->watch = was->watch;
    was->watch = unused;
    watch_restore(v->watch, v->mvcc);
    auth_keep_tokens(v->auth, was->auth);
    v->counts = was->counts;
    s->v3 = v;
    s->v3_era++;
    if (s->v3_held > 0) {
        struct old_store *old = xcalloc(1, sizeof(*old));

        *old = (struct old_store){s->v3_old, was->mvcc, s->v3_held};
        s->v3_old = old;
        s->v3_held = 0;
        watch_hub_free(was->watch);
        was->watch = NULL;
        was->mvcc = NULL;
    }
    return was;
}

/* --- The thread. ---------------------------------------------------------- */

void v3_sweep_wake(struct server *s)
{
    pthread_mutex_lock(&s->job_mu);
    s->want_sweep = true;
    pthread_cond_signal(&s->sweep_cond);
    pthread_mutex_unlock(&s->job_mu);
}

bool v3_sweep_wait(struct server *s, struct waiter *w)
{
    if (s->sweep_stopped ||
        mvcc_compact_finished(s->v3->mvcc) >= w->v3->u.compaction.revision)
        return false;
    w->next = s->compact_waiters;
    s->compact_waiters = w;
    v3_sweep_wake(s);
    return true;
}

/* Those who waited for what is finished now; mu is held. */
static struct waiter *compacted(struct server *s)
{
    int64_t finished = mvcc_compact_finished(s->v3->mvcc);
    struct waiter **at = &s->compact_waiters, *list = NULL;

    while (*at) {
        struct waiter *w = *at;

        if (w->v3->u.compaction.revision > finished) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        w->next = list;
        list = w;
    }
    return list;
}

/* A step of compaction; true if there is more to do now. */
static bool compact(struct server *s)
{
    struct mvcc *m = s->v3->mvcc;
    int64_t began = sys_mono_ns(), before = mvcc_compact_finished(m), now;
    size_t n = mvcc_stats(m).n_versions;
    bool more = mvcc_compact_step(m, V3_STEP);

    now = sys_mono_ns();
    if (!s->compact_began_ns && (more || mvcc_compact_finished(m) > before))
        s->compact_began_ns = began;
    if (!s->compact_began_ns)
        return more;
    metric_add(M_COMPACTED_KEYS, n - mvcc_stats(m).n_versions);
    metric_observe_ns(H_COMPACTION_PAUSE, now - began);
    if (mvcc_compact_finished(m) > before) {
        metric_observe_ns(H_COMPACTION, now - s->compact_began_ns);
        s->compact_began_ns = 0;
    }
    return more;
}

/* True if there is more to do now. */
static bool sweep(struct server *s)
{
    int64_t before, finished;
    struct waiter *list;
    bool more;

    pthread_mutex_lock(&s->mu);
    before = mvcc_compact_finished(s->v3->mvcc);
    more = watch_step(s->v3->watch, V3_STEP);
    more |= compact(s);
    finished = mvcc_compact_finished(s->v3->mvcc);
    list = compacted(s);
    pthread_mutex_unlock(&s->mu);
    waiters_finish(list);
    if (finished > before)
        log_info("mvcc", "finished scheduled compaction at %" PRId64, finished);
    return more;
}

void *v3_sweep_thread(void *arg)
{
    struct server *s = arg;

    sys_thread_name("etcd-sweep");
    pthread_mutex_lock(&s->job_mu);
    while (!s->jobs_stop) {
        if (!s->want_sweep) {
            pthread_cond_wait(&s->sweep_cond, &s->job_mu);
            continue;
        }
        s->want_sweep = false;
        pthread_mutex_unlock(&s->job_mu);
        if (sweep(s))
            v3_sweep_wake(s);
        v3_give_way(s);
        pthread_mutex_lock(&s->job_mu);
    }
    pthread_mutex_unlock(&s->job_mu);
    return NULL;
}

void v3_give_way(struct server *s)
{
    if (sys_u64_load(&s->apply_wants))
        sys_sleep_ms(1);
    else
        sched_yield();
}

void v3_sweep_stopped(struct server *s)
{
    struct waiter *list;

    pthread_mutex_lock(&s->mu);
    s->sweep_stopped = true;
    list = s->compact_waiters;
    s->compact_waiters = NULL;
    pthread_mutex_unlock(&s->mu);
    for (struct waiter *w = list; w; w = w->next)
        w->code = SERVER_ESTOPPED;
    waiters_finish(list);
}

/* --- Watch. --------------------------------------------------------------- */

/* mu is held. */
static void sweep_if_lagging(struct server *s)
{
    if (watch_stats(s->v3->watch).n_lagging)
        v3_sweep_wake(s);
}

struct watch_stream *v3_watch_open(struct server *s, watch_deliver *deliver,
                                   void *arg)
{
    struct watch_stream *w;

    pthread_mutex_lock(&s->mu);
    w = watch_stream_new(s->v3->watch, deliver, arg);
    pthread_mutex_unlock(&s->mu);
    return w;
}

void v3_watch_close(struct server *s, struct watch_stream *w)
{
    pthread_mutex_lock(&s->mu);
    watch_stream_free(w);
    pthread_mutex_unlock(&s->mu);
}

int64_t v3_watch_create(struct server *s, struct watch_stream *w,
                        const struct watch_create *c)
{
    int64_t id;

    pthread_mutex_lock(&s->mu);
    id = watch_create(w, c);
    sweep_if_lagging(s);
    pthread_mutex_unlock(&s->mu);
    return id;
}

void v3_watch_cancel(struct server *s, struct watch_stream *w, int64_t id)
{
    pthread_mutex_lock(&s->mu);
    watch_cancel(w, id);
    pthread_mutex_unlock(&s->mu);
}

void v3_watch_progress(struct server *s, struct watch_stream *w)
{
    pthread_mutex_lock(&s->mu);
    watch_progress(w);
    pthread_mutex_unlock(&s->mu);
}

void v3_watch_tick(struct server *s, struct watch_stream *w)
{
    pthread_mutex_lock(&s->mu);
    watch_tick(w);
    pthread_mutex_unlock(&s->mu);
}

void v3_watch_ready(struct server *s, struct watch_stream *w)
{
    pthread_mutex_lock(&s->mu);
    watch_ready(w);
    sweep_if_lagging(s);
    pthread_mutex_unlock(&s->mu);
}
