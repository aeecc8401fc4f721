/*
 * watch_test.c - watchers: by examples, and at random against a full record of
 * all that happened, with small outboxes, compaction, laggards, and stores
 * that are replaced by newer ones.
 *
 *     watch_test               the tests
 *     watch_test STEPS SEED    more of the random ones
 *     watch_test bench         times
 */
#include "chance.h"
#include "check.h"

#include "watch.h"
#include "watchindex.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

static struct str END = {"\0", 1};

/* --- A stream's outbox, as text. ------------------------------------------------ */

struct outbox {
    struct buf text;
    size_t room; /* messages that may be refused beyond it */
};

static void show_event(struct buf *b, const struct watch_event *e, bool prev_kv)
{
    struct mvcc_kv *kv = e->kv;

    buf_printf(b, " %.*s", STR_FMT(mvcc_key(kv)));
    if (mvcc_is_tombstone(kv))
        buf_adds(b, "-");
    else
        buf_printf(b, "=%.*s", STR_FMT(mvcc_value(kv)));
    if (prev_kv && e->prev)
        buf_printf(b, "(%.*s)", STR_FMT(mvcc_value(e->prev)));
}

static bool deliver_text(void *arg, const struct watch_message *msg)
{
    static const char *const names[] = {"created",  "refused",  "events",
                                        "progress", "canceled", "compacted"};
    struct outbox *o = arg;
    bool may_refuse = msg->kind == WATCH_EVENTS ||
                      msg->kind == WATCH_PROGRESS ||
                      msg->kind == WATCH_COMPACTED;

    if (may_refuse && o->room == 0)
        return false;
    o->room -= may_refuse;
    buf_printf(&o->text, "%s %" PRId64 "@%" PRId64, names[msg->kind],
               msg->watch_id, msg->revision);
    if (msg->kind == WATCH_EVENTS)
        buf_printf(&o->text, ":%" PRId64, msg->batch->revision);
    if (msg->kind == WATCH_COMPACTED)
        buf_printf(&o->text, ":%" PRId64, msg->compact_revision);
    if (msg->kind == WATCH_REFUSED)
        buf_printf(&o->text, " %s", msg->reason);
    for (size_t i = 0; i < msg->n; i++)
        show_event(&o->text, &msg->batch->events[msg->which[i]], msg->prev_kv);
    buf_adds(&o->text, "\n");
    return true;
}

/* What was delivered since the last call. */
static const char *taken(struct outbox *o)
{
    static struct buf last;

    buf_clear(&last);
    buf_addstr(&last, buf_str(&o->text));
    buf_clear(&o->text);
    return buf_z(&last);
}

/* --- A store with a hub and a stream. ---------------------------------------------- */

struct fixture {
    struct mvcc *m;
    struct watch_hub *h;
    struct watch_stream *s;
    struct outbox o;
};

static void setup(struct fixture *f)
{
    *f = (struct fixture){.m = mvcc_new(), .o.room = 1000};
    f->h = watch_hub_new(f->m);
    f->s = watch_stream_new(f->h, deliver_text, &f->o);
}

static void teardown(struct fixture *f)
{
    struct watch_stats s;

    watch_stream_free(f->s);
    s = watch_stats(f->h);
    CHECK(s.n_streams == 0 && s.n_watchers == 0);
    CHECK(s.n_synced == 0 && s.n_lagging == 0 && s.n_blocked == 0);
    watch_hub_free(f->h);
    mvcc_free(f->m);
    buf_release(&f->o.text);
}

static void put(struct fixture *f, const char *key, const char *value)
{
    struct mvcc_put p = {.key = str_of(key), .value = str_of(value)};
    struct mvcc_put_result r;

    CHECK(mvcc_put(f->m, &p, NULL, &r) == 0);
    mvcc_put_release(&r);
    watch_notify(f->h);
}

static void del(struct fixture *f, const char *key, struct str end)
{
    struct mvcc_delete_range d = {str_of(key), end, false};
    struct mvcc_delete_result r;

    mvcc_delete_range(f->m, &d, &r);
    watch_notify(f->h);
}

static int64_t watch(struct fixture *f, const char *key, struct str end,
                     int64_t start)
{
    return watch_create(f->s, &(struct watch_create){.key = str_of(key),
                                                     .range_end = end,
                                                     .start_revision = start,
                                                     .prev_kv = true});
}

static void sync_all(struct fixture *f)
{
    while (watch_step(f->h, 1))
        continue;
}

/* --- Examples. ------------------------------------------------------------------------ */

static void test_events(void)
{
    struct fixture f;

    setup(&f);
    CHECK(watch(&f, "a", STR(""), 0) == 0);
    CHECK(watch(&f, "a", STR("c"), 0) == 1);
    CHECK(watch(&f, "b", END, 0) == 2);
    CHECK_STR(taken(&f.o), "created 0@1\ncreated 1@1\ncreated 2@1\n");
    put(&f, "a", "1");
    CHECK_STR(taken(&f.o), "events 0@2:2 a=1\nevents 1@2:2 a=1\n");
    put(&f, "c", "2");
    CHECK_STR(taken(&f.o), "events 2@3:3 c=2\n");
    put(&f, "b", "3");
    put(&f, "0", "3");
    CHECK_STR(taken(&f.o), "events 1@4:4 b=3\nevents 2@4:4 b=3\n");
    put(&f, "a", "4");
    CHECK_STR(taken(&f.o), "events 0@6:6 a=4(1)\nevents 1@6:6 a=4(1)\n");
    del(&f, "a", END); /* three events, one revision, one message each */
    CHECK_STR(taken(&f.o), "events 0@7:7 a-(4)\n"
                           "events 1@7:7 a-(4) b-(3)\n"
                           "events 2@7:7 b-(3) c-(2)\n");
    watch_cancel(f.s, 1);
    watch_cancel(f.s, 1);
    put(&f, "a", "5");
    CHECK_STR(taken(&f.o), "canceled 1@7\nevents 0@8:8 a=5\n");
    teardown(&f);
}

static void test_ids(void)
{
    struct fixture f;
    struct watch_create c = {.key = STR("a"), .watch_id = 2};

    setup(&f);
    CHECK(watch_create(f.s, &c) == 2);
    CHECK(watch_create(f.s, &c) == -1);
    c.watch_id = 0;
    CHECK(watch_create(f.s, &c) == 0 && watch_create(f.s, &c) == 1 &&
          watch_create(f.s, &c) == 3);
    c.watch_id = -7;
    CHECK(watch_create(f.s, &c) == -7);
    watch_cancel(f.s, 2);
    c.watch_id = 2;
    CHECK(watch_create(f.s, &c) == 2);
    CHECK(watch(&f, "b", STR("a"), 0) == -1);
    CHECK(watch(&f, "b", STR("b"), 0) == -1);
    CHECK_STR(
        taken(&f.o),
        "created 2@1\n"
        "refused -1@1 mvcc: duplicate watch ID provided on the WatchStream\n"
        "created 0@1\ncreated 1@1\ncreated 3@1\ncreated -7@1\n"
        "canceled 2@1\ncreated 2@1\n"
        "refused -1@1 mvcc: watcher range is empty\n"
        "refused -1@1 mvcc: watcher range is empty\n");
    teardown(&f);
}

/* Below 0: compacted, but for -1 while nothing is. */
static void test_before_the_first(void)
{
    struct fixture f;

    setup(&f);
    put(&f, "a", "1");
    CHECK(watch(&f, "a", STR(""), -1) == 0);
    CHECK(watch(&f, "a", STR(""), -2) == 1);
    sync_all(&f);
    CHECK_STR(taken(&f.o), "created 0@2\ncreated 1@2\ncompacted 1@0:-1\n");
    put(&f, "a", "2");
    CHECK_STR(taken(&f.o), "events 0@3:3 a=2(1)\n");
    CHECK(mvcc_compact(f.m, 2) == 0);
    CHECK(watch(&f, "a", STR(""), -1) == 2);
    sync_all(&f);
    CHECK_STR(taken(&f.o), "created 2@3\ncompacted 2@0:2\n");
    teardown(&f);
}

static void test_filters_and_empty_key(void)
{
    struct fixture f;
    struct watch_create c = {.range_end = END, .no_put = true};

    setup(&f);
    watch_create(f.s, &c);
    c.no_put = false;
    c.no_delete = true;
    watch_create(f.s, &c);
    c.range_end = STR("");
    watch_create(f.s, &c); /* of the key "\0" alone */
    taken(&f.o);
    put(&f, "a", "1");
    del(&f, "a", STR(""));
    CHECK_STR(taken(&f.o), "events 1@2:2 a=1\nevents 0@3:3 a-\n");
    teardown(&f);
}

static void test_history(void)
{
    struct fixture f;

    setup(&f);
    for (int i = 0; i < 3; i++)
        put(&f, "a", i == 0 ? "1" : i == 1 ? "2" : "3");
    del(&f, "a", STR(""));
    watch(&f, "a", STR(""), 3);
    watch(&f, "a", STR(""), 7); /* the future */
    CHECK_STR(taken(&f.o), "created 0@5\ncreated 1@5\n");
    sync_all(&f);
    CHECK_STR(taken(&f.o),
              "events 0@5:3 a=2(1)\nevents 0@5:4 a=3(2)\nevents 0@5:5 a-(3)\n");
    put(&f, "a", "4");
    put(&f, "a", "5");
    CHECK_STR(taken(&f.o), "events 0@6:6 a=4\n"
                           "events 0@7:7 a=5(4)\nevents 1@7:7 a=5(4)\n");
    teardown(&f);
}

static void test_full_outbox(void)
{
    struct fixture f;

    setup(&f);
    watch(&f, "a", END, 0);
    f.o.room = 1;
    put(&f, "a", "1");
    put(&f, "b", "2");
    put(&f, "c", "3");
    CHECK(watch_stats(f.h).n_blocked == 1);
    CHECK(!watch_step(f.h, 10)); /* nothing can be done for it */
    CHECK_STR(taken(&f.o), "created 0@1\nevents 0@2:2 a=1\n");
    f.o.room = 1;
    watch_ready(f.s);
    sync_all(&f);
    CHECK_STR(taken(&f.o), "events 0@4:3 b=2\n");
    f.o.room = 9;
    watch_ready(f.s);
    put(&f, "d", "4"); /* while it lags */
    sync_all(&f);
    CHECK_STR(taken(&f.o), "events 0@5:4 c=3\nevents 0@5:5 d=4\n");
    put(&f, "e", "5");
    CHECK_STR(taken(&f.o), "events 0@6:6 e=5\n");
    teardown(&f);
}

static void test_compacted(void)
{
    struct fixture f;

    setup(&f);
    for (int i = 0; i < 5; i++)
        put(&f, "a", "v");
    CHECK(mvcc_compact(f.m, 4) == 0);
    watch(&f, "x", STR(""), 3); /* though no event is missing for it */
    watch(&f, "a", STR(""), 4);
    f.o.room = 0;
    sync_all(&f);
    f.o.room = 9;
    watch_ready(f.s);
    sync_all(&f);
    CHECK_STR(taken(&f.o), "created 0@6\ncreated 1@6\ncompacted 0@0:4\n"
                           "events 1@6:4 a=v\nevents 1@6:5 a=v(v)\n"
                           "events 1@6:6 a=v(v)\n");
    CHECK(watch_stats(f.h).n_watchers == 1);
    f.o.room = 0;
    put(&f, "a", "v"); /* it is blocked, and then too late */
    put(&f, "a", "v");
    CHECK(mvcc_compact(f.m, 8) == 0);
    f.o.room = 9;
    watch_ready(f.s);
    sync_all(&f);
    CHECK_STR(taken(&f.o), "compacted 1@0:8\n");
    CHECK(watch_stats(f.h).n_watchers == 0);
    teardown(&f);
}

static void test_progress(void)
{
    struct fixture f;
    struct watch_create c = {.key = STR("a"), .progress_notify = true};

    setup(&f);
    put(&f, "a", "1");
    watch_progress(f.s); /* without watchers: at once */
    CHECK_STR(taken(&f.o), "progress -1@2\n");
    watch_create(f.s, &c);
    watch(&f, "a", STR(""), 2);
    watch_progress(f.s);
    CHECK_STR(taken(&f.o), "created 0@2\ncreated 1@2\n");
    watch_tick(f.s); /* only the synced one */
    CHECK_STR(taken(&f.o), "progress 0@2\n");
    sync_all(&f);
    CHECK_STR(taken(&f.o), "events 1@2:2 a=1\nprogress -1@2\n");
    put(&f, "a", "2");
    watch_tick(f.s); /* it heard something */
    watch_tick(f.s);
    CHECK_STR(taken(&f.o),
              "events 1@3:3 a=2(1)\nevents 0@3:3 a=2\nprogress 0@3\n");
    watch(&f, "a", STR(""), 5); /* the future: not before 4 is reached */
    watch_progress(f.s);
    CHECK_STR(taken(&f.o), "created 2@3\n");
    put(&f, "b", "3");
    CHECK_STR(taken(&f.o), "progress -1@4\n");
    f.o.room = 0;
    watch_progress(f.s);
    f.o.room = 1;
    watch_ready(f.s);
    CHECK_STR(taken(&f.o), "progress -1@4\n");
    teardown(&f);
}

/* --- Encoding. ---------------------------------------------------------------------------- */

static struct watch_batch *kept;

static bool deliver_keep(void *arg, const struct watch_message *msg)
{
    (void)arg;
    if (msg->kind == WATCH_EVENTS)
        kept = watch_batch_ref(msg->batch);
    return true;
}

static void check_bytes(size_t i, bool prev_kv, const char *want, size_t n)
{
    struct str got = watch_event_encoded(kept, i, prev_kv);

    CHECK(str_eq(got, (struct str){want, n}));
    CHECK(watch_event_size(kept, i, prev_kv) == n);
    CHECK(watch_event_encoded(kept, i, prev_kv).p == got.p); /* once */
}

static void *encode_all(void *arg)
{
    size_t sum = 0;

    for (size_t i = 0; i < kept->n; i++)
        sum += watch_event_encoded(kept, i, i % 2).n;
    *(size_t *)arg = sum;
    return NULL;
}

static void test_encoding(void)
{
    struct fixture f;
    struct watch_stream *s;
    pthread_t threads[3];
    size_t sums[3], fragments = 0, from = 0, got;
    uint32_t which[50];
    char key[8];

    setup(&f);
    s = watch_stream_new(f.h, deliver_keep, NULL);
    put(&f, "a", "x");
    watch_create(s, &(struct watch_create){
                        .key = STR("a"), .range_end = END, .prev_kv = true});
    put(&f, "a", "y");
#define KV                                                                     \
    "\x0a\x01"                                                                 \
    "a"                                                                        \
    "\x10\x02\x18\x03\x20\x02\x2a\x01"                                         \
    "y"
#define PREV                                                                   \
    "\x0a\x01"                                                                 \
    "a"                                                                        \
    "\x10\x02\x18\x02\x20\x01\x2a\x01"                                         \
    "x"
    check_bytes(0, false, "\x5a\x0e\x12\x0c" KV, 16);
    check_bytes(0, true, "\x5a\x1c\x12\x0c" KV "\x1a\x0c" PREV, 30);
    watch_batch_unref(kept);
    del(&f, "a", STR(""));
    check_bytes(0, false,
                "\x5a\x09\x08\x01\x12\x05\x0a\x01"
                "a"
                "\x18\x04",
                11);
    watch_batch_unref(kept);
    for (unsigned i = 0; i < ARRAY_LEN(which); i++) {
        snprintf(key, sizeof(key), "k%02u", i);
        put(&f, key, "value");
        watch_batch_unref(kept);
        which[i] = i;
    }
    del(&f, "k", END);
    CHECK(kept->n == ARRAY_LEN(which));
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, encode_all, &sums[i]);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    CHECK(sums[0] == sums[1] && sums[1] == sums[2]);
    for (; from < kept->n; from += got, fragments++) {
        got = watch_fragment(kept, which, kept->n, from, false, 10, 100);
        CHECK(got == 6 || from + got == kept->n); /* of 13 or 14 bytes */
    }
    CHECK(fragments == 9);
    CHECK(watch_fragment(kept, which, kept->n, 0, false, 10, 1) == 1);
    watch_batch_unref(kept);
    watch_stream_free(s);
    teardown(&f);
}

/* --- The index, against a list. ---------------------------------------------------------------- */

#define NODES 64

static struct attached {
    struct watch_node *node;
    char key[4], end[4];
} attached[NODES];

static void count_visit(void *arg, struct watch_node *n)
{
    *(size_t *)arg += n->n_attached;
}

static struct str str_of_end(const struct attached *a)
{
    return a->end[0] == '*' ? END : str_of(a->end);
}

static void attach_one(struct watch_index *ix, struct attached *a)
{
    snprintf(a->key, sizeof(a->key), "%c%c", 'a' + rnd(6), 'a' + rnd(4));
    a->end[0] = '\0';
    if (one_in(8))
        snprintf(a->end, sizeof(a->end), "*");
    else if (!one_in(4))
        snprintf(a->end, sizeof(a->end), "%c", a->key[0] + 1 + (int)rnd(4));
    a->node = watch_index_attach(ix, str_of(a->key), str_of_end(a));
}

static void test_index(void)
{
    struct watch_index ix;

    watch_index_init(&ix);
    for (unsigned i = 0; i < 6000; i++) {
        struct attached *a = &attached[rnd(i % 1000 < 500 ? NODES : 8)];
        size_t got = 0, want = 0;
        char key[4];

        if (a->node) {
            watch_index_detach(&ix, a->node);
            a->node = NULL;
        } else {
            attach_one(&ix, a);
        }
        snprintf(key, sizeof(key), "%c%c", 'a' + rnd(10), 'a' + rnd(4));
        watch_index_match(&ix, str_of(key), count_visit, &got);
        for (unsigned j = 0; j < NODES; j++) {
            const struct attached *b = &attached[j];

            if (b->node)
                want += b->end[0] == '\0'  ? strcmp(b->key, key) == 0
                        : b->end[0] == '*' ? strcmp(b->key, key) <= 0
                                           : strcmp(b->key, key) <= 0 &&
                                                 strcmp(key, b->end) < 0;
        }
        CHECK(got == want);
        watch_index_check(&ix);
    }
    for (unsigned j = 0; j < NODES; j++)
        if (attached[j].node)
            watch_index_detach(&ix, attached[j].node);
    watch_index_release(&ix);
}

/* --- At random. ----------------------------------------------------------------------------------- */

/*
 * All that happened is on record; each watcher knows up to where it has been
 * given everything. A message must hold exactly the events of its revision
 * that concern the watcher, and between that and the last there must be none.
 */
#define KEYS 24
#define STREAMS 4
#define WATCHERS 6

struct fact {
    int64_t revision;
    unsigned key;
    bool deleted;
    unsigned value;
    int64_t prev; /* the fact with the value before the revision; -1: none */
};

static struct fact *facts;
static size_t n_facts, cap_facts;
static size_t first_of[1000000]; /* by revision: the first fact of it */
static int64_t newest[KEYS];     /* the fact that is a key's value, or -1 */

static struct model {
    struct mvcc *m;
    struct watch_hub *h;
    struct {
        struct watch_stream *s;
        size_t room;
        bool asked; /* for progress */
        struct {
            bool open, created;
            struct watch_create c;
            char key[8], end[8];
            int64_t next; /* it has been given everything before this */
            size_t seen;
            unsigned silent; /* ticks since it heard something */
        } w[WATCHERS];       /* by watch id - 1 */
    } streams[STREAMS];
} model;

static int64_t expecting = -1; /* a request's own message may come: its kind */

static void key_name(unsigned k, char out[8])
{
    snprintf(out, 8, "k%02u", k);
}

static unsigned key_number(struct str key)
{
    return (unsigned)(key.p[1] - '0') * 10 + (unsigned)(key.p[2] - '0');
}

static bool concerns(const struct fact *f, const struct watch_create *c)
{
    char key[8];

    key_name(f->key, key);
    if (f->deleted ? c->no_delete : c->no_put)
        return false;
    if (c->range_end.n == 0)
        return str_eqz(c->key, key);
    return str_cmp(c->key, str_of(key)) <= 0 &&
           (str_eq(c->range_end, END) ||
            str_cmp(str_of(key), c->range_end) < 0);
}

static bool has_facts(int64_t revision)
{
    return revision <= mvcc_revision(model.m) && revision >= 2;
}

/* The next fact of a revision in [from, to) that concerns c, or NULL. */
static const struct fact *find_fact(int64_t from, int64_t to,
                                    const struct watch_create *c)
{
    size_t i = has_facts(from) ? first_of[from] : from < 2 ? 0 : n_facts;

    for (; i < n_facts && facts[i].revision < to; i++)
        if (concerns(&facts[i], c))
            return &facts[i];
    return NULL;
}

static void check_event(const struct watch_event *e, const struct fact *f,
                        bool prev_kv)
{
    const struct mvcc_kv *kv = e->kv;
    bool known = f->revision - 1 >= mvcc_compacted(model.m);
    unsigned value;

    CHECK(key_number(mvcc_key(kv)) == f->key);
    CHECK(mvcc_is_tombstone(kv) == f->deleted);
    CHECK(kv->mod_revision == f->revision);
    if (!f->deleted) {
        memcpy(&value, mvcc_value(kv).p, sizeof(value));
        CHECK(value == f->value);
    }
    if (!prev_kv)
        return;
    CHECK(!e->prev == (f->prev < 0 || !known));
    if (e->prev && f->prev >= 0) {
        memcpy(&value, mvcc_value(e->prev).p, sizeof(value));
        CHECK(value == facts[f->prev].value);
    }
}

static void check_message(const struct watch_message *msg,
                          const struct watch_create *c, int64_t next)
{
    int64_t revision = msg->batch->revision;
    size_t i = 0;

    CHECK(revision >= next);
    CHECK(!find_fact(next, revision, c)); /* nothing was left out */
    CHECK(msg->n > 0);
    CHECK(msg->revision >= revision);
    for (size_t j = first_of[revision];
         j < n_facts && facts[j].revision == revision; j++) {
        if (!concerns(&facts[j], c))
            continue;
        CHECK(i < msg->n);
        if (i < msg->n)
            check_event(&msg->batch->events[msg->which[i]], &facts[j],
                        c->prev_kv);
        i++;
    }
    CHECK(i == msg->n);
}

static bool deliver_model(void *arg, const struct watch_message *msg)
{
    unsigned si = (unsigned)(size_t)arg, wi = (unsigned)msg->watch_id - 1;
    bool request = msg->kind == WATCH_CREATED || msg->kind == WATCH_CANCELED;

    CHECK(msg->kind != WATCH_REFUSED);
    if (request) {
        CHECK(expecting == msg->kind);
        expecting = -1;
        model.streams[si].w[wi].created = true;
        return true;
    }
    if (model.streams[si].room == 0)
        return false;
    model.streams[si].room--;
    if (msg->watch_id == -1) {
        CHECK(msg->kind == WATCH_PROGRESS && model.streams[si].asked);
        model.streams[si].asked = false;
        for (unsigned i = 0; i < WATCHERS; i++)
            if (model.streams[si].w[i].open)
                CHECK(!find_fact(model.streams[si].w[i].next, msg->revision + 1,
                                 &model.streams[si].w[i].c));
        return true;
    }
    CHECK(model.streams[si].w[wi].open && model.streams[si].w[wi].created);
    if (msg->kind == WATCH_COMPACTED) {
        CHECK(msg->compact_revision == mvcc_compacted(model.m));
        CHECK(model.streams[si].w[wi].next < msg->compact_revision);
        model.streams[si].w[wi].open = false;
        return true;
    }
    if (msg->kind == WATCH_PROGRESS) {
        CHECK(model.streams[si].w[wi].silent > 0);
        CHECK(!find_fact(model.streams[si].w[wi].next, msg->revision + 1,
                         &model.streams[si].w[wi].c));
        model.streams[si].w[wi].next = msg->revision + 1;
        return true;
    }
    check_message(msg, &model.streams[si].w[wi].c,
                  model.streams[si].w[wi].next);
    model.streams[si].w[wi].next = msg->batch->revision + 1;
    model.streams[si].w[wi].seen += msg->n;
    model.streams[si].w[wi].silent = 0;
    return true;
}

static void add_fact(void *arg, struct mvcc_kv *kv, struct mvcc_kv *prev)
{
    unsigned k = key_number(mvcc_key(kv));
    struct fact f = {kv->mod_revision, k, mvcc_is_tombstone(kv), 0, newest[k]};

    (void)arg;
    (void)prev;
    if (!f.deleted)
        memcpy(&f.value, mvcc_value(kv).p, sizeof(f.value));
    if (n_facts == cap_facts) {
        cap_facts = cap_facts ? cap_facts * 2 : 1024;
        facts = xrealloc(facts, cap_facts * sizeof(*facts));
    }
    facts[n_facts++] = f;
}

/* Put what the last transaction did on record. */
static void record(void)
{
    int64_t revision = mvcc_revision(model.m);
    size_t first = n_facts;

    if (n_facts > 0 && facts[n_facts - 1].revision == revision)
        return;
    mvcc_changes(model.m, revision, add_fact, NULL);
    first_of[revision] = first;
    for (size_t i = first; i < n_facts; i++)
        newest[facts[i].key] = facts[i].deleted ? -1 : (int64_t)i;
}

static void model_put(void)
{
    static unsigned value;
    char key[8];
    struct mvcc_put p = {.value = {(char *)&value, sizeof(value)}};
    struct mvcc_put_result r;

    key_name(rnd(KEYS), key);
    p.key = str_of(key);
    value++;
    CHECK(mvcc_put(model.m, &p, NULL, &r) == 0);
}

static void model_delete(void)
{
    struct mvcc_delete_result r;
    char key[8], end[8];

    key_name(rnd(KEYS), key);
    key_name(rnd(KEYS), end);
    mvcc_delete_range(
        model.m,
        &(struct mvcc_delete_range){str_of(key),
                                    one_in(3) ? str_of(end) : STR(""), false},
        &r);
}

static void model_write(void)
{
    unsigned n = one_in(40) ? 150 : one_in(4) ? 1 + rnd(6) : 1;

    if (mvcc_revision(model.m) + 2 >= (int64_t)ARRAY_LEN(first_of))
        return;
    mvcc_begin(model.m);
    for (unsigned i = 0; i < n; i++) {
        if (one_in(4))
            model_delete();
        else
            model_put();
    }
    mvcc_end(model.m);
    record();
}

static void model_create(unsigned si, unsigned wi)
{
    int64_t now = mvcc_revision(model.m);
    struct watch_create *c = &model.streams[si].w[wi].c;
    unsigned first = rnd(KEYS), n = rnd(6);

    key_name(first, model.streams[si].w[wi].key);
    key_name(first + 1 + n, model.streams[si].w[wi].end);
    *c = (struct watch_create){
        .key = str_of(model.streams[si].w[wi].key),
        .range_end = one_in(3)   ? STR("")
                     : one_in(5) ? END
                                 : str_of(model.streams[si].w[wi].end),
        .start_revision = one_in(2) ? 0 : now - 30 + (int64_t)rnd(40),
        .watch_id = (int64_t)wi + 1,
        .progress_notify = one_in(2),
        .prev_kv = one_in(2),
        .no_put = one_in(6),
        .no_delete = one_in(6),
    };
    if (c->start_revision < 0)
        c->start_revision = 1;
    model.streams[si].w[wi].next =
        c->start_revision != 0 ? c->start_revision : now + 1;
    model.streams[si].w[wi].open = true;
    model.streams[si].w[wi].created = false;
    model.streams[si].w[wi].silent = 0;
    expecting = WATCH_CREATED;
    CHECK(watch_create(model.streams[si].s, c) == c->watch_id);
    CHECK(expecting == -1);
}

static void model_watcher(void)
{
    unsigned si = rnd(STREAMS), wi = rnd(WATCHERS);

    if (!model.streams[si].w[wi].open) {
        model_create(si, wi);
        return;
    }
    if (!one_in(4))
        return;
    model.streams[si].w[wi].open = false;
    expecting = WATCH_CANCELED;
    watch_cancel(model.streams[si].s, (int64_t)wi + 1);
    CHECK(expecting == -1);
}

static void model_stream(void)
{
    unsigned si = rnd(STREAMS);

    switch (rnd(40)) {
    case 0: /* the client goes and comes again */
        watch_stream_free(model.streams[si].s);
        memset(&model.streams[si], 0, sizeof(model.streams[si]));
        model.streams[si].s =
            watch_stream_new(model.h, deliver_model, (void *)(size_t)si);
        break;
    case 1:
    case 2:
        model.streams[si].asked = true;
        watch_progress(model.streams[si].s);
        break;
    case 3:
        for (unsigned i = 0; i < WATCHERS; i++)
            model.streams[si].w[i].silent++;
        watch_tick(model.streams[si].s);
        break;
    default:
        model.streams[si].room = rnd(12);
        watch_ready(model.streams[si].s);
        break;
    }
}

static struct mvcc *copy_store(struct mvcc *m)
{
    struct mvcc *copy = mvcc_new();
    struct mvcc_cursor c = {0, 0};
    struct mvcc_kv *kv;

    while (mvcc_log_peek(m, &c, mvcc_revision(m), &kv, 1) == 1) {
        struct mvcc_record r = {.key = mvcc_key(kv),
                                .value = mvcc_value(kv),
                                .main = kv->mod_revision,
                                .sub = kv->sub,
                                .create_revision = kv->create_revision,
                                .version = kv->version,
                                .tombstone = mvcc_is_tombstone(kv)};

        CHECK(mvcc_restore(copy, &r) == 0);
    }
    mvcc_restore_end(copy, mvcc_compact_finished(m), mvcc_compacted(m));
    return copy;
}

/* A snapshot of a leader who is ahead. */
static void model_restore(void)
{
    struct mvcc *old = model.m;

    model.m = copy_store(old);
    for (unsigned n = rnd(5); n > 0; n--)
        model_write();
    if (one_in(2))
        mvcc_compact(model.m, mvcc_revision(model.m) - rnd(8));
    watch_restore(model.h, model.m);
    mvcc_free(old);
}

static void model_step(void)
{
    unsigned what = rnd(100);

    if (what < 40) {
        for (unsigned n = one_in(5) ? 3 : 1; n > 0; n--)
            model_write();
        watch_notify(model.h);
    } else if (what < 70) {
        watch_step(model.h, 1 + rnd(20));
    } else if (what < 80) {
        model_watcher();
    } else if (what < 95) {
        model_stream();
    } else if (what < 97) {
        mvcc_compact(model.m, mvcc_revision(model.m) - rnd(25));
    } else if (what < 99 || !one_in(20)) {
        mvcc_compact_step(model.m, rnd(60));
    } else {
        model_restore();
    }
}

/* With room enough everybody gets everything. */
static void model_drain(void)
{
    for (unsigned si = 0; si < STREAMS; si++) {
        model.streams[si].room = SIZE_MAX;
        watch_ready(model.streams[si].s);
    }
    while (watch_step(model.h, 50))
        continue;
    for (unsigned si = 0; si < STREAMS; si++)
        for (unsigned wi = 0; wi < WATCHERS; wi++)
            if (model.streams[si].w[wi].open)
                CHECK(!find_fact(model.streams[si].w[wi].next, INT64_MAX,
                                 &model.streams[si].w[wi].c));
    CHECK(watch_stats(model.h).n_blocked == 0);
    CHECK(watch_stats(model.h).n_lagging == 0);
}

static void test_model(long steps)
{
    model.m = mvcc_new();
    model.h = watch_hub_new(model.m);
    for (unsigned k = 0; k < KEYS; k++)
        newest[k] = -1;
    for (unsigned si = 0; si < STREAMS; si++)
        model.streams[si].s =
            watch_stream_new(model.h, deliver_model, (void *)(size_t)si);
    for (long i = 0; i < steps && check_failed == 0; i++) {
        model_step();
        if (i % 5000 == 4999)
            model_drain();
        if (check_failed)
            fprintf(stderr, "at step %ld\n", i);
    }
    if (check_failed == 0)
        model_drain();
    CHECK(watch_stats(model.h).n_events > (uint64_t)steps / 4);
    for (unsigned si = 0; si < STREAMS; si++)
        watch_stream_free(model.streams[si].s);
    watch_hub_free(model.h);
    mvcc_check(model.m);
    mvcc_free(model.m);
    free(facts);
}

/* --- Benchmark. -------------------------------------------------------------------------------------- */

static double now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); /* others are busy, too */
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static bool deliver_nothing(void *arg, const struct watch_message *msg)
{
    *(size_t *)arg += msg->n;
    return true;
}

static double puts_ns(struct fixture *f, unsigned n)
{
    double t = now_ns();
    char key[32];

    for (unsigned i = 0; i < n; i++) {
        snprintf(key, sizeof(key), "/key/%06u", i % 10000);
        put(f, key, "value");
    }
    return (now_ns() - t) / n;
}

static void bench(void)
{
    struct fixture f;
    struct watch_stream *s;
    size_t seen = 0;
    char key[32];
    double t;

    setup(&f);
    s = watch_stream_new(f.h, deliver_nothing, &seen);
    printf("put, nobody watches               %8.0f ns\n", puts_ns(&f, 200000));
    for (unsigned i = 0; i < 10000; i++) {
        snprintf(key, sizeof(key), "/key/%06u", i);
        watch_create(s, &(struct watch_create){.key = str_of(key)});
    }
    printf("put, 10,000 keys watched          %8.0f ns\n", puts_ns(&f, 200000));
    for (unsigned i = 0; i < 10000; i++) {
        char end[32];

        snprintf(key, sizeof(key), "/kez/%06u", i);
        snprintf(end, sizeof(end), "/kez/%06u", i + 1);
        watch_create(s, &(struct watch_create){.key = str_of(key),
                                               .range_end = str_of(end)});
    }
    printf("put, 10,000 ranges, too           %8.0f ns\n", puts_ns(&f, 200000));
    watch_stream_free(s);
    s = watch_stream_new(f.h, deliver_nothing, &seen);
    for (unsigned i = 0; i < 10000; i++)
        watch_create(s, &(struct watch_create){.key = STR("/key/"),
                                               .range_end = STR("/key0")});
    printf("put, told to 10,000, each         %8.1f ns\n",
           puts_ns(&f, 200) / 10000);
    watch_stream_free(s);
    s = watch_stream_new(f.h, deliver_nothing, &seen);
    seen = 0;
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(key, sizeof(key), "/key/%06u", i);
        watch_create(
            s, &(struct watch_create){.key = str_of(key), .start_revision = 1});
    }
    t = now_ns();
    while (watch_step(f.h, 1000))
        continue;
    printf("1,000 read 600,200 revisions, per revision %.0f ns, %zu events\n",
           (now_ns() - t) / 600200, seen);
    watch_stream_free(s);
    teardown(&f);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "bench") == 0) {
        bench();
        return check_failed ? 1 : 0;
    }
    test_events();
    test_ids();
    test_before_the_first();
    test_filters_and_empty_key();
    test_history();
    test_full_outbox();
    test_compacted();
    test_progress();
    test_encoding();
    test_index();
    rnd_seed = argc > 2 ? (uint64_t)atoll(argv[2]) : 1;
    test_model(argc > 1 ? atol(argv[1]) : 60000);
    return check_done("watch_test");
}
