/*
 * simv3watch.c - watchers of v3 in a simulated cluster. Each goes on from
 * member to member, with the revision behind the last one that it heard of.
 *
 * PROMISES  every revision of its keys from the first on, once, in order,
 *           whole, with the right previous values, through crashes and other
 *           members; compaction ends it only if it took something; progress
 *           means that all up to there was told
 */
#include "sim.h"

#include "simtwin.h"

#include <inttypes.h>
#include <stdio.h>

static int watching;
static struct sim_queue ended;

/* --- Watchers. ---------------------------------------------------------- */

struct opening;

struct watcher { /* what it knows outlives its streams */
    int n;
    char key[8], end[8];
    size_t n_key, n_end;
    bool no_put, no_delete, prev_kv;
    unsigned full; /* per mille of the messages that find no room */
    bool started;
    int64_t next; /* the first revision that it has not heard of */
    size_t at;    /* in the twin's versions: the first one behind that */
    struct opening *current;
};

/* A stream at one member; it belongs to its process, and is leaked with it. */
struct opening {
    struct watcher *w;
    struct host *host;
    struct sim_proc *life;
    struct sim_queue waiting;
    bool close, blocked, ended, want_progress;
};

static int64_t watch_until; /* once nothing more is to come */

/* --- Judging. ----------------------------------------------------------- */

static bool wants(const struct watcher *w, const struct twin_version *v)
{
    return twin_in_range(v->key, (struct str){w->key, w->n_key},
                         (struct str){w->end, w->n_end}) &&
           !(twin_is_tombstone(v) ? w->no_delete : w->no_put);
}

/* On to that revision: nothing in front of it is for this watcher. */
static void pass(struct watcher *w, const struct host *h, int64_t revision)
{
    for (; w->at < twin_size() && twin_get(w->at)->main < revision; w->at++)
        REQUIRE(twin_get(w->at)->main < w->next || !wants(w, twin_get(w->at)),
                "Watches: %s goes on to revision %" PRId64
                " and never tells of %" PRId64 " %.*s",
                h->name, revision, twin_get(w->at)->main,
                STR_FMT(twin_get(w->at)->key));
}

static void start_at(struct watcher *w, int64_t revision)
{
    w->started = true;
    w->next = revision;
    w->at = 0;
    while (w->at < twin_size() && twin_get(w->at)->main < revision)
        w->at++;
}

static void judge_prev(const struct host *h, const struct mvcc_kv *prev,
                       const struct twin_version *v)
{
    const struct twin_version *want = v->older;

    if (!want || twin_is_tombstone(want)) {
        REQUIRE(!prev, "Watches: %s shows a value before revision %" PRId64,
                h->name, v->main);
        return;
    }
    REQUIRE(prev ? twin_is_version(prev, want) : v->main <= twin_compacted(),
            "Watches: %s shows another value before revision %" PRId64
            " of %.*s",
            h->name, v->main, STR_FMT(v->key));
}

static void judge_events(struct watcher *w, const struct host *h,
                         const struct watch_message *m)
{
    int64_t revision = m->batch->revision;
    size_t told = 0;

    REQUIRE(revision >= w->next,
            "Watches: %s tells of revision %" PRId64 ", or again, next is "
            "%" PRId64,
            h->name, revision, w->next);
    pass(w, h, revision);
    for (; w->at < twin_size() && twin_get(w->at)->main == revision; w->at++) {
        const struct twin_version *v = twin_get(w->at);
        const struct watch_event *e;

        if (!wants(w, v))
            continue;
        REQUIRE(told < m->n, "Watches: %s tells half of revision %" PRId64,
                h->name, revision);
        e = &m->batch->events[m->which[told++]];
        REQUIRE(twin_is_version(e->kv, v),
                "Watches: %s tells another event of revision %" PRId64, h->name,
                revision);
        if (m->prev_kv)
            judge_prev(h, e->prev, v);
    }
    REQUIRE(told == m->n && m->prev_kv == w->prev_kv,
            "Watches: %s tells too much of revision %" PRId64, h->name,
            revision);
    sim.count.v3_events += told;
    w->next = revision + 1;
}

static void judge_progress(struct watcher *w, const struct host *h,
                           int64_t revision)
{
    REQUIRE(revision <= twin_revision(),
            "Watches: %s has come to revision %" PRId64, h->name, revision);
    pass(w, h, revision + 1);
    if (revision >= w->next)
        w->next = revision + 1;
}

static void judge_compacted(struct watcher *w, const struct host *h,
                            int64_t revision)
{
    REQUIRE(w->started && w->next < revision && revision <= twin_compacted(),
            "Watches: %s ends a watch from %" PRId64 ", compacted at %" PRId64,
            h->name, w->next, revision);
    start_at(w, revision);
}

static bool deliver(void *arg, const struct watch_message *m)
{
    struct opening *o = arg;
    struct watcher *w = o->w;

    if (w->current != o || o->ended)
        return true; /* nobody listens any more */
    if (m->kind == WATCH_EVENTS || m->kind == WATCH_PROGRESS ||
        m->kind == WATCH_COMPACTED) {
        bool own = m->kind == WATCH_PROGRESS && m->watch_id == -1;

        /* The stream's own progress is none of a watcher's messages. */
        REQUIRE(own || !o->blocked, "Watches: %s sends where there is no room",
                o->host->name);
        if (o->blocked || sim_chance(w->full)) {
            o->blocked |= !own;
            return false;
        }
    }
    TRACE(o->host->n, "watcher %d: kind %d, revision %" PRId64, w->n,
          (int)m->kind,
          m->kind == WATCH_EVENTS      ? m->batch->revision
          : m->kind == WATCH_COMPACTED ? m->compact_revision
                                       : m->revision);
    switch (m->kind) {
    case WATCH_CREATED:
        if (!w->started)
            start_at(w, m->revision + 1);
        break;
    case WATCH_EVENTS:
        judge_events(w, o->host, m);
        break;
    case WATCH_PROGRESS:
        judge_progress(w, o->host, m->revision);
        break;
    case WATCH_COMPACTED:
        judge_compacted(w, o->host, m->compact_revision);
        o->ended = true;
        break;
    default:
        sim_fail("Watches: %s refuses one", o->host->name);
    }
    return true;
}

/* --- Streams. ----------------------------------------------------------- */

/* As a connection's thread; it ends before its server does. */
static void stream_main(void *arg)
{
    struct opening *o = arg;
    struct watcher *w = o->w;
    struct server *s = o->host->server;
    struct watch_stream *stream = v3_watch_open(s, deliver, o);
    const struct watch_create c = {.key = {w->key, w->n_key},
                                   .range_end = {w->end, w->n_end},
                                   .start_revision = w->started ? w->next : 0,
                                   .no_put = w->no_put,
                                   .no_delete = w->no_delete,
                                   .prev_kv = w->prev_kv};

    v3_watch_create(s, stream, &c);
    while (!o->close && o->host->state == HOST_READY) {
        if (o->blocked && sim_chance(300)) {
            o->blocked = false;
            v3_watch_ready(s, stream);
        }
        if (o->want_progress) {
            o->want_progress = false;
            v3_watch_progress(s, stream);
        }
        sim_wait(&o->waiting, sim_now() + 100 * SIM_MS);
    }
    o->close = true;
    v3_watch_close(s, stream);
    o->host->handlers--;
}

static void fresh_watcher(struct watcher *w)
{
    int n = w->n;

    *w = (struct watcher){.n = n,
                          .no_put = sim_chance(100),
                          .no_delete = sim_chance(100),
                          .prev_kv = sim_chance(500),
                          .full = sim_chance(300) ? 200 : 0};
    w->n_key = v3clients_copy_key(w->key, v3clients_key());
    w->n_end = v3clients_copy_key(w->end, v3clients_end());
    if (w->n_end > 1 && memcmp(w->end, w->key, 2) <= 0)
        w->n_end = 0;      /* an empty range is refused */
    if (sim_chance(400)) { /* all of them */
        w->n_key = v3clients_copy_key(w->key, (struct str){"\0", 1});
        w->n_end = v3clients_copy_key(w->end, (struct str){"\0", 1});
    }
    if (sim_chance(400)) {
        int64_t from = twin_revision() - sim_between(-2, 30);

        start_at(w, from > 0 ? from : 1);
    }
}

static bool has_heard_all(const struct watcher *w)
{
    return watch_until && w->started && w->next > watch_until;
}

static void one_stream(struct watcher *w)
{
    struct opening *o = xcalloc(1, sizeof(*o)); /* leaked: see there */
    struct host *h = clients_pick();
    int64_t until = sim_now() + sim_between(100 * SIM_MS, 6 * SIM_S);

    if (!h)
        return;
    sim.count.v3_resumed += w->started;
    *o = (struct opening){.w = w, .host = h, .life = h->proc};
    w->current = o;
    TRACE(h->n, "watcher %d begins at %" PRId64, w->n, w->next);
    h->handlers++;
    sim_spawn(h->proc, stream_main, o);
    while (sim_now() < until && h->proc == o->life && !o->close && !o->ended &&
           !has_heard_all(w)) {
        o->want_progress |= sim_chance(watch_until ? 500 : 50);
        sim_wake(&o->waiting);
        sim_sleep(sim_between(0, 200 * SIM_MS));
    }
    w->current = NULL;
    o->close = true;
    sim_wake(&o->waiting);
}

static void watcher_main(void *arg)
{
    struct watcher *w = arg;

    fresh_watcher(w);
    while (!has_heard_all(w)) {
        one_stream(w);
        sim_sleep(sim_between(0, SIM_S));
        if (!watch_until && sim_chance(200))
            fresh_watcher(w);
    }
    watching--;
    sim_wake(&ended);
}

void v3watch_start(void)
{
    for (int i = 0; i < 2; i++) {
        struct watcher *w = xcalloc(1, sizeof(*w));

        w->n = i + 1;
        watching++;
        sim_spawn(NULL, watcher_main, w);
    }
}

void v3watch_settle(int64_t deadline)
{
    watch_until = twin_revision();
    while (watching) {
        REQUIRE(sim_now() < deadline, "Progress: watchers do not hear of all");
        sim_wait(&ended, sim_now() + SIM_S);
    }
}
