/*
 * watch.c - watchers: who is told of what, and when.
 *
 * A watcher is in one of four states:
 *
 *      created                 outbox full
 *         |            +------------------------------+
 *         v            |                              v
 *      WAITING ----> SWEPT ----> SYNCED ----------> BLOCKED
 *         ^   a sweep      it is done   outbox full    |
 *         |   begins                                   |
 *         +--------------------------------------------+
 *                        watch_ready()
 *
 * SYNCED   It has been given, or refused, all up to hub->notified. One that is
 *          created for the future begins here.
 * SWEPT    It takes part in the sweep: a cursor that goes through the store's
 *          log, from the lowest revision that one of them needs, up to
 *          hub->notified. Then all of them are synced at once.
 * WAITING  It needs what the present sweep has passed already, so it waits for
 *          the next; if not, it joins at once.
 * BLOCKED  Its stream's outbox was full.
 *
 * Both transactions that just ended and those that the sweep comes to go the
 * same way (show()): find the nodes over each changed key, pick the event for
 * each node with watchers of that kind, put what was picked into one batch,
 * and offer each watcher of these nodes its part.
 *
 * INVARIANTS  A watcher that is not SYNCED has `next`, and has been given
 * exactly the events before it; SWEPT, before the cursor as well. One is in
 * its node's list if it is SYNCED or SWEPT. sweeping says that there are SWEPT
 * ones, and then cursor <= notified.
 */
#include "watch.h"

#include "watchindex.h"

#include <assert.h>

#define NOTIFY_STEP 64     /* versions that are looked up in the log at once */
#define SCRATCH_KEEP 10000 /* elements of an array that outlive a call */

enum state { WAITING, SWEPT, SYNCED, BLOCKED };

/* A ring; its head is no watcher's. */
struct link {
    struct link *prev, *next;
};

struct watcher {
    struct link link; /* the hub's or the stream's, by state; not if SYNCED */
    struct watcher *prev, *next_in_node;
    struct watch_node *node;
    struct watch_stream *stream;
    int64_t id;
    int64_t next; /* the first revision that may concern it */
    enum state state;
    bool progress_notify, prev_kv, fragment, no_put, no_delete;
    bool quiet; /* nothing was sent since the last watch_tick() */
};

struct watch_stream {
    struct watch_hub *hub;
    struct watch_stream *prev, *next;
    watch_deliver *deliver;
    void *arg;
    struct watcher **watchers; /* by id */
    size_t n, cap, n_synced;
    int64_t next_id;
    struct link blocked;
    bool wants_progress;
};

struct pick { /* event i is for a node, and so is picks[next - 1] */
    uint32_t i, next;
};

struct watch_hub {
    struct mvcc *m;
    struct watch_index index;
    struct watch_stream *streams;
    int64_t notified; /* the synced know of all up to here */
    bool sweeping;
    int64_t cursor; /* the sweep's next revision */
    struct link swept, waiting;
    struct watch_stats stats;
    size_t n_wanting; /* streams that want progress */

    /* What show() is about. */
    enum watch_list list;
    int64_t revision;
    bool picked, wants_prev;

    /* Its arrays, kept for their memory. */
    struct mvcc_kv **kvs; /* a stretch of the log */
    size_t cap_kvs;
    struct mvcc_kv **events; /* those of a revision that were picked */
    size_t n_events, cap_events;
    struct pick *picks; /* chained for each node */
    size_t n_picks, cap_picks;
    struct watch_node **nodes; /* that have some */
    size_t n_nodes, cap_nodes;
    uint32_t *which, *filtered; /* of a node, of a watcher */
    size_t n_which, cap_which, cap_filtered;
};

/* Room for one more in an array. */
#define GROW(array, n, cap)                                                    \
    do {                                                                       \
        if ((n) == (cap)) {                                                    \
            (cap) = (cap) ? (cap)*2 : 16;                                      \
            (array) = xrealloc((array), (cap) * sizeof(*(array)));             \
        }                                                                      \
    } while (0)

/* --- Rings. --------------------------------------------------------------------- */

static void ring_init(struct link *head)
{
    head->prev = head->next = head;
}

static bool ring_is_empty(const struct link *head)
{
    return head->next == head;
}

static void ring_add(struct link *head, struct link *l)
{
    l->prev = head->prev;
    l->next = head;
    l->prev->next = l->next->prev = l;
}

static void ring_remove(struct link *l)
{
    l->prev->next = l->next;
    l->next->prev = l->prev;
}

static struct watcher *watcher_of(struct link *l)
{
    return (struct watcher *)(void *)l; /* its first field */
}

/* --- States. ---------------------------------------------------------------------- */

static struct watcher **node_list(const struct watcher *w)
{
    return &w->node->lists[w->state == SYNCED ? WATCH_SYNCED : WATCH_SWEPT];
}

static void enter_node(struct watcher *w)
{
    struct watcher **first = node_list(w);

    w->prev = NULL;
    w->next_in_node = *first;
    if (*first)
        (*first)->prev = w;
    *first = w;
}

static void leave_node(struct watcher *w)
{
    if (w->prev)
        w->prev->next_in_node = w->next_in_node;
    else
        *node_list(w) = w->next_in_node;
    if (w->next_in_node)
        w->next_in_node->prev = w->prev;
}

static size_t *state_count(struct watch_hub *h, enum state s)
{
    return s == SYNCED    ? &h->stats.n_synced
           : s == BLOCKED ? &h->stats.n_blocked
                          : &h->stats.n_lagging;
}

static void enter_state(struct watcher *w, enum state s)
{
    struct watch_hub *h = w->stream->hub;

    w->state = s;
    if (s == SYNCED || s == SWEPT)
        enter_node(w);
    if (s == SWEPT || s == WAITING)
        ring_add(s == SWEPT ? &h->swept : &h->waiting, &w->link);
    if (s == BLOCKED)
        ring_add(&w->stream->blocked, &w->link);
    w->stream->n_synced += s == SYNCED;
    ++*state_count(h, s);
}

static void leave_state(struct watcher *w)
{
    enum state s = w->state;

    if (s == SYNCED || s == SWEPT)
        leave_node(w);
    if (s != SYNCED)
        ring_remove(&w->link);
    w->stream->n_synced -= s == SYNCED;
    --*state_count(w->stream->hub, s);
}

static void change_state(struct watcher *w, enum state s)
{
    leave_state(w);
    enter_state(w, s);
}

/* History is needed from w->next on: with the present sweep if it can be. */
static void enter_lagging(struct watcher *w)
{
    struct watch_hub *h = w->stream->hub;
    bool joins = h->sweeping && w->next >= h->cursor;

    enter_state(w, joins ? SWEPT : WAITING);
}

/* --- Messages. ----------------------------------------------------------------------- */

static struct watch_message message(const struct watcher *w,
                                    enum watch_kind kind, int64_t revision)
{
    return (struct watch_message){
        .kind = kind,
        .watch_id = w->id,
        .revision = revision,
        .prev_kv = w->prev_kv,
        .fragment = w->fragment,
    };
}

static bool send(struct watch_stream *s, const struct watch_message *msg)
{
    return s->deliver(s->arg, msg);
}

/* --- Streams. -------------------------------------------------------------------------- */

/* Where the id is in the stream's array, or would be. */
static size_t id_place(const struct watch_stream *s, int64_t id)
{
    size_t lo = 0, hi = s->n;

    if (hi > 0 && s->watchers[hi - 1]->id < id)
        return hi;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;

        if (s->watchers[mid]->id < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static struct watcher *find_watcher(const struct watch_stream *s, int64_t id)
{
    size_t i = id_place(s, id);

    return i < s->n && s->watchers[i]->id == id ? s->watchers[i] : NULL;
}

static void add_watcher(struct watch_stream *s, struct watcher *w)
{
    size_t i = id_place(s, w->id);

    GROW(s->watchers, s->n, s->cap);
    memmove(s->watchers + i + 1, s->watchers + i,
            (s->n - i) * sizeof(s->watchers[0]));
    s->watchers[i] = w;
    s->n++;
    s->hub->stats.n_watchers++;
}

/* Out of its state and its node, and away. */
static void free_watcher(struct watcher *w)
{
    leave_state(w);
    w->node->n_prev -= w->prev_kv;
    watch_index_detach(&w->stream->hub->index, w->node);
    w->stream->hub->stats.n_watchers--;
    free(w);
}

static void remove_watcher(struct watcher *w)
{
    struct watch_stream *s = w->stream;
    size_t i = id_place(s, w->id);

    assert(s->watchers[i] == w);
    s->n--;
    memmove(s->watchers + i, s->watchers + i + 1,
            (s->n - i) * sizeof(s->watchers[0]));
    free_watcher(w);
}

struct watch_stream *watch_stream_new(struct watch_hub *h,
                                      watch_deliver *deliver, void *arg)
{
    struct watch_stream *s = xcalloc(1, sizeof(*s));

    s->hub = h;
    s->deliver = deliver;
    s->arg = arg;
    ring_init(&s->blocked);
    s->next = h->streams;
    if (s->next)
        s->next->prev = s;
    h->streams = s;
    h->stats.n_streams++;
    return s;
}

static void want_progress(struct watch_stream *s, bool wants)
{
    s->hub->n_wanting += wants;
    s->hub->n_wanting -= s->wants_progress;
    s->wants_progress = wants;
}

/* Was a sweep left without watchers? */
static void end_empty_sweep(struct watch_hub *h)
{
    h->sweeping &= !ring_is_empty(&h->swept);
}

void watch_stream_free(struct watch_stream *s)
{
    struct watch_hub *h = s->hub;

    while (s->n > 0)
        free_watcher(s->watchers[--s->n]);
    end_empty_sweep(h);
    want_progress(s, false);
    if (s->prev)
        s->prev->next = s->next;
    else
        h->streams = s->next;
    if (s->next)
        s->next->prev = s->prev;
    h->stats.n_streams--;
    free(s->watchers);
    free(s);
}

/* --- Progress. ---------------------------------------------------------------------------- */

/* Has it been given all up to hub->notified, and is that not too early? */
static bool is_even(const struct watcher *w)
{
    return w->state == SYNCED && w->next <= w->stream->hub->notified + 1;
}

static bool all_even(const struct watch_stream *s)
{
    if (s->n_synced < s->n)
        return false;
    for (size_t i = 0; i < s->n; i++)
        if (!is_even(s->watchers[i]))
            return false;
    return true;
}

static void try_progress(struct watch_stream *s)
{
    struct watch_message msg = {.kind = WATCH_PROGRESS, .watch_id = -1};

    if (!s->wants_progress || !all_even(s))
        return;
    msg.revision = s->hub->notified;
    if (send(s, &msg))
        want_progress(s, false);
}

static void retry_progress(struct watch_hub *h)
{
    if (h->n_wanting == 0)
        return;
    for (struct watch_stream *s = h->streams; s; s = s->next)
        try_progress(s);
}

void watch_progress(struct watch_stream *s)
{
    want_progress(s, true);
    try_progress(s);
}

void watch_tick(struct watch_stream *s)
{
    for (size_t i = 0; i < s->n; i++) {
        struct watcher *w = s->watchers[i];
        struct watch_message msg = message(w, WATCH_PROGRESS, s->hub->notified);

        if (w->progress_notify && w->quiet && is_even(w))
            send(s, &msg);
        w->quiet = true;
    }
}

/* --- Requests. ------------------------------------------------------------------------------ */

static int64_t refuse(struct watch_stream *s, const char *reason)
{
    struct watch_message msg = {
        .kind = WATCH_REFUSED,
        .watch_id = -1,
        .revision = s->hub->notified,
        .reason = reason,
    };

    send(s, &msg);
    return -1;
}

/* etcd's words for what is wrong; NULL: nothing. */
static const char *why_not(const struct watch_stream *s,
                           const struct watch_create *c, struct str key)
{
    bool open_end = c->range_end.n == 1 && c->range_end.p[0] == '\0';

    if (c->range_end.n > 0 && !open_end && str_cmp(key, c->range_end) >= 0)
        return "mvcc: watcher range is empty";
    if (c->watch_id != 0 && find_watcher(s, c->watch_id))
        return "mvcc: duplicate watch ID provided on the WatchStream";
    return NULL;
}

static int64_t free_id(struct watch_stream *s)
{
    while (find_watcher(s, s->next_id))
        s->next_id++;
    return s->next_id++;
}

/*
 * The first revision that it wants. As etcd has it, those below the first count
 * as compacted; but -1, up to which all is "compacted" before the first
 * compaction, means what 0 does until then.
 */
static int64_t first_wanted(const struct watch_hub *h, int64_t start)
{
    if (start == 0 || (start == -1 && mvcc_compacted(h->m) == -1))
        return h->notified + 1;
    return start;
}

int64_t watch_create(struct watch_stream *s, const struct watch_create *c)
{
    struct watch_hub *h = s->hub;
    struct str key = c->key.n > 0 ? c->key : (struct str){"\0", 1};
    const char *reason = why_not(s, c, key);
    struct watch_message msg;
    struct watcher *w;

    if (reason)
        return refuse(s, reason);
    w = xcalloc(1, sizeof(*w));
    w->stream = s;
    w->id = c->watch_id != 0 ? c->watch_id : free_id(s);
    w->node = watch_index_attach(&h->index, key, c->range_end);
    w->next = first_wanted(h, c->start_revision);
    w->progress_notify = c->progress_notify;
    w->prev_kv = c->prev_kv;
    w->node->n_prev += c->prev_kv;
    w->fragment = c->fragment;
    w->no_put = c->no_put;
    w->no_delete = c->no_delete;
    w->quiet = true;
    add_watcher(s, w);
    msg = message(w, WATCH_CREATED, h->notified);
    send(s, &msg);
    if (w->next > h->notified)
        enter_state(w, SYNCED);
    else
        enter_lagging(w);
    return w->id;
}

void watch_cancel(struct watch_stream *s, int64_t watch_id)
{
    struct watcher *w = find_watcher(s, watch_id);
    struct watch_message msg;

    if (!w)
        return;
    msg = message(w, WATCH_CANCELED, s->hub->notified);
    remove_watcher(w);
    end_empty_sweep(s->hub);
    send(s, &msg);
    try_progress(s);
}

void watch_ready(struct watch_stream *s)
{
    while (!ring_is_empty(&s->blocked)) {
        struct watcher *w = watcher_of(s->blocked.next);

        leave_state(w);
        enter_lagging(w);
    }
    try_progress(s);
}

/* --- Showing what a transaction did. ----------------------------------------------------------- */

static void pick(void *arg, struct watch_node *node)
{
    struct watch_hub *h = arg;
    uint32_t here;

    if (!node->lists[h->list])
        return;
    assert(h->n_events < UINT32_MAX && h->n_picks < UINT32_MAX);
    GROW(h->picks, h->n_picks, h->cap_picks);
    h->picks[h->n_picks++] = (struct pick){(uint32_t)h->n_events, 0};
    here = (uint32_t)h->n_picks;
    if (node->last_pick) {
        h->picks[node->last_pick - 1].next = here;
    } else {
        node->first_pick = here;
        GROW(h->nodes, h->n_nodes, h->cap_nodes);
        h->nodes[h->n_nodes++] = node;
    }
    node->last_pick = here;
    h->picked = true;
    h->wants_prev |= node->n_prev > 0;
}

static void match(struct watch_hub *h, struct mvcc_kv *kv)
{
    h->picked = false;
    watch_index_match(&h->index, mvcc_key(kv), pick, h);
    if (!h->picked)
        return;
    GROW(h->events, h->n_events, h->cap_events);
    h->events[h->n_events++] = kv;
}

static struct watch_batch *new_batch(const struct watch_hub *h)
{
    struct watch_batch *b =
        xcalloc(1, sizeof(*b) + h->n_events * sizeof(b->events[0]));

    b->refs = 1;
    b->revision = h->revision;
    b->n = h->n_events;
    for (size_t i = 0; i < b->n; i++) {
        b->events[i].kv = mvcc_ref(h->events[i]);
        if (h->wants_prev)
            b->events[i].prev = mvcc_ref(mvcc_prev(h->m, h->events[i]));
    }
    return b;
}

/* Which events were picked for the node, in order. */
static void collect(struct watch_hub *h, struct watch_node *node)
{
    h->n_which = 0;
    for (uint32_t p = node->first_pick; p; p = h->picks[p - 1].next) {
        GROW(h->which, h->n_which, h->cap_which);
        h->which[h->n_which++] = h->picks[p - 1].i;
    }
    node->first_pick = node->last_pick = 0;
}

/* Those that w wants to hear of: a count, in h->filtered. */
static size_t filter(struct watch_hub *h, const struct watcher *w)
{
    size_t n = 0;

    for (size_t i = 0; i < h->n_which; i++) {
        uint32_t event = h->which[i];
        bool deleted = mvcc_is_tombstone(h->events[event]);

        if (deleted ? w->no_delete : w->no_put)
            continue;
        GROW(h->filtered, n, h->cap_filtered);
        h->filtered[n++] = event;
    }
    return n;
}

static void offer(struct watch_hub *h, struct watcher *w, struct watch_batch *b)
{
    struct watch_message msg = message(w, WATCH_EVENTS, b->revision);
    bool filters = w->no_put || w->no_delete;

    if (w->next > b->revision)
        return;
    if (h->list == WATCH_SWEPT)
        msg.revision = mvcc_revision(h->m);
    msg.batch = b;
    msg.n = filters ? filter(h, w) : h->n_which;
    msg.which = filters ? h->filtered : h->which;
    if (msg.n == 0)
        return;
    if (send(w->stream, &msg)) {
        w->quiet = false;
        h->stats.n_events += msg.n;
        return;
    }
    w->next = b->revision;
    change_state(w, BLOCKED);
}

/* The n changes of one revision, to the watchers in this kind of list. */
static void show(struct watch_hub *h, enum watch_list list,
                 struct mvcc_kv *const *kvs, size_t n)
{
    struct watch_batch *b;
    struct watcher *next;

    h->list = list;
    h->revision = kvs[0]->mod_revision;
    h->n_events = h->n_picks = h->n_nodes = 0;
    h->wants_prev = false;
    for (size_t i = 0; i < n; i++)
        match(h, kvs[i]);
    if (h->n_nodes == 0)
        return;
    b = new_batch(h);
    for (size_t i = 0; i < h->n_nodes; i++) {
        collect(h, h->nodes[i]);
        for (struct watcher *w = h->nodes[i]->lists[list]; w; w = next) {
            next = w->next_in_node; /* it may leave the list */
            offer(h, w, b);
        }
    }
    watch_batch_unref(b);
}

/* How many of kvs[0..n) are of the first one's revision. */
static size_t same_revision(struct mvcc_kv *const *kvs, size_t n)
{
    size_t same = 1;

    while (same < n && kvs[same]->mod_revision == kvs[0]->mod_revision)
        same++;
    return same;
}

/*
 * Show the log from *cursor up to hub->notified, whole revisions only, and
 * about budget versions. How many it was; at the end, less than budget.
 */
static size_t show_log(struct watch_hub *h, enum watch_list list,
                       int64_t *cursor, size_t budget)
{
    struct mvcc_cursor c = {*cursor, 0};
    size_t n = 0, max = budget, same, shown = 0;

    for (;;) {
        if (h->cap_kvs < max) {
            h->cap_kvs = max;
            h->kvs = xrealloc(h->kvs, max * sizeof(struct mvcc_kv *));
        }
        n += mvcc_log_peek(h->m, &c, h->notified, h->kvs + n, max - n);
        if (n < max || same_revision(h->kvs, n) < n)
            break;
        max *= 2; /* all of it is one revision: is it whole? */
    }
    while (shown < n) {
        same = same_revision(h->kvs + shown, n - shown);
        if (n == max && shown + same == n) /* perhaps not whole */
            return shown;
        show(h, list, h->kvs + shown, same);
        shown += same;
        *cursor = h->kvs[shown - 1]->mod_revision + 1;
    }
    *cursor = h->notified + 1;
    return shown;
}

/* --- The hub. ------------------------------------------------------------------------------------ */

struct watch_hub *watch_hub_new(struct mvcc *m)
{
    struct watch_hub *h = xcalloc(1, sizeof(*h));

    h->m = m;
    h->notified = mvcc_revision(m);
    watch_index_init(&h->index);
    ring_init(&h->swept);
    ring_init(&h->waiting);
    return h;
}

static void free_scratch(struct watch_hub *h)
{
    free(h->kvs);
    free(h->events);
    free(h->picks);
    free(h->nodes);
    free(h->which);
    free(h->filtered);
    h->kvs = h->events = NULL;
    h->picks = NULL;
    h->nodes = NULL;
    h->which = h->filtered = NULL;
    h->cap_kvs = h->cap_events = h->cap_picks = h->cap_nodes = 0;
    h->cap_which = h->cap_filtered = 0;
}

/* A transaction of a million changes is not to be remembered for ever. */
static void trim_scratch(struct watch_hub *h)
{
    if (h->cap_kvs > SCRATCH_KEEP || h->cap_picks > SCRATCH_KEEP)
        free_scratch(h);
}

void watch_hub_free(struct watch_hub *h)
{
    assert(!h->streams);
    watch_index_release(&h->index);
    free_scratch(h);
    free(h);
}

struct watch_stats watch_stats(const struct watch_hub *h)
{
    return h->stats;
}

void watch_notify(struct watch_hub *h)
{
    int64_t cursor = h->notified + 1;

    assert(mvcc_compacted(h->m) <= cursor);
    h->notified = mvcc_revision(h->m);
    if (h->stats.n_synced == 0)
        return;
    while (cursor <= h->notified)
        show_log(h, WATCH_SYNCED, &cursor, NOTIFY_STEP);
    trim_scratch(h);
    retry_progress(h);
}

static int64_t max_i64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* All who wait take part. False if there is nobody. */
static bool begin_sweep(struct watch_hub *h)
{
    if (ring_is_empty(&h->waiting))
        return false;
    h->sweeping = true;
    h->cursor = INT64_MAX;
    while (!ring_is_empty(&h->waiting)) {
        struct watcher *w = watcher_of(h->waiting.next);

        if (w->next < h->cursor)
            h->cursor = w->next;
        change_state(w, SWEPT);
    }
    return true;
}

/* For whom the history that it needs is gone. */
static void end_compacted(struct watch_hub *h)
{
    int64_t compacted = mvcc_compacted(h->m);
    struct link *next;

    if (h->cursor >= compacted)
        return;
    for (struct link *l = h->swept.next; l != &h->swept; l = next) {
        struct watcher *w = watcher_of(l);
        struct watch_message msg = message(w, WATCH_COMPACTED, 0);

        next = l->next;
        w->next = max_i64(w->next, h->cursor);
        if (w->next >= compacted)
            continue;
        msg.compact_revision = compacted;
        change_state(w, BLOCKED); /* until it has been told */
        assert(h->swept.next != l);
        if (send(w->stream, &msg))
            remove_watcher(w);
    }
    h->cursor = compacted;
    end_empty_sweep(h);
}

static void end_sweep(struct watch_hub *h)
{
    while (!ring_is_empty(&h->swept))
        change_state(watcher_of(h->swept.next), SYNCED);
    h->sweeping = false;
}

bool watch_step(struct watch_hub *h, size_t budget)
{
    assert(budget > 0);
    if (!h->sweeping && !begin_sweep(h))
        return false;
    end_compacted(h);
    if (h->sweeping && h->cursor <= h->notified)
        show_log(h, WATCH_SWEPT, &h->cursor, budget);
    trim_scratch(h);
    end_empty_sweep(h); /* all may be blocked by now */
    if (h->sweeping && h->cursor > h->notified)
        end_sweep(h);
    retry_progress(h);
    return h->sweeping || !ring_is_empty(&h->waiting);
}

/* The old store's history ends here; what each has been given still holds. */
static void restart(struct watch_hub *h, struct watcher *w)
{
    if (w->state == SYNCED)
        w->next = max_i64(w->next, h->notified + 1);
    if (w->state == SWEPT)
        w->next = max_i64(w->next, h->cursor);
    if (w->state != BLOCKED)
        change_state(w, WAITING);
}

void watch_restore(struct watch_hub *h, struct mvcc *m)
{
    for (struct watch_stream *s = h->streams; s; s = s->next)
        for (size_t i = 0; i < s->n; i++)
            restart(h, s->watchers[i]);
    h->sweeping = false;
    h->m = m;
    h->notified = mvcc_revision(m);
}
