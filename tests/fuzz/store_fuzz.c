/*
 * store_fuzz.c - the v2 store under requests from the log: any rows of them.
 *
 * Two members that apply the same stay the same; one of them, now and then, is
 * replaced by what its snapshot says, and still stays the same. An index counts
 * each success and no failure. What is answered is JSON.
 *
 * Names and values are ASCII, or the one name that is not: what is not UTF-8 a
 * snapshot does not keep (storesnap.c).
 */
#include "fuzz.h"
#include "json.h"
#include "store.h"

#define STEPS_MAX 64
#define START_NS INT64_C(1700000000000000000)
#define WATCHERS_MAX 8

struct watch {
    struct store_watcher *w;
    bool over;
    size_t events;
};

struct world {
    struct fuzz_in in;
    struct store *a, *b;
    int64_t now_ns;
    struct watch watches[WATCHERS_MAX];
    size_t n_watches;
};

static void view(struct buf *b, struct store *s)
{
    struct store_view *v = store_pin(s);

    store_view_json(b, v);
    store_unpin(v);
}

static void check_json(const struct buf *b)
{
    struct json *j;

    FUZZ_CHECK(json_parse(b->data, b->len, &j, NULL) == 0);
    FUZZ_CHECK(j->type == JSON_OBJECT);
    json_free(j);
}

/* Kept by buf as ASCII, and without slashes. */
static struct str some_text(struct fuzz_in *in, struct buf *b, size_t n)
{
    struct str s = fuzz_bytes(in, n);
    size_t at = b->len;

    for (size_t i = 0; i < s.n; i++)
        buf_addc(b, s.p[i] == '/' ? '_' : (char)(s.p[i] & 0x7f));
    return (struct str){(char *)b->data + at, s.n};
}

/* Few names, so that they meet; now and then any text. */
static void some_path(struct fuzz_in *in, struct buf *b)
{
    static const char *const names[] = {"a",  "b",        "c",
                                        "_h", "\xc3\xa9", "00000003"};
    uint8_t op = fuzz_u8(in);

    buf_adds(b, op >= 240 ? "/0" : "/1");
    for (int depth = op % 5; depth > 0; depth--) {
        uint8_t pick = fuzz_u8(in);

        buf_addc(b, '/');
        if (pick < 250) {
            buf_adds(b, names[pick % ARRAY_LEN(names)]);
            continue;
        }
        buf_addc(b, 'x');
        some_text(in, b, fuzz_u8(in) % 16);
    }
}

/* What no client's request becomes, but a peer may put into the log. */
static void some_odd_path(struct fuzz_in *in, struct buf *b)
{
    struct str s = fuzz_bytes(in, fuzz_u8(in) % 32);

    for (size_t i = 0; i < s.n; i++)
        buf_addc(b, (char)(s.p[i] & 0x7f));
}

static struct v2_request some_request(struct world *w, struct buf *text,
                                      struct buf *path)
{
    static const char *const methods[] = {"PUT",  "PUT",  "POST", "DELETE",
                                          "QGET", "SYNC", "GET",  "HEAD"};
    struct fuzz_in *in = &w->in;
    uint8_t op = fuzz_u8(in), bits = fuzz_u8(in), more = fuzz_u8(in);
    struct v2_request r = {.id = op,
                           .method = str_of(methods[op % 8]),
                           .dir = bits & 1,
                           .recursive = bits & 2,
                           .sorted = bits & 4,
                           .prev_exist = (enum tristate)((bits >> 3) % 3),
                           .refresh = (enum tristate)((bits >> 5) % 3)};

    buf_reserve(text, 64); /* so that it does not move */
    r.val = some_text(in, text, op / 8 % 8);
    r.prev_value = some_text(in, text, more & 3);
    if (more & 4)
        r.prev_index = fuzz_u8(in) % 16;
    if (more & 8)
        r.expiration = w->now_ns + (int64_t)fuzz_u8(in) * 1000;
    if (more & 16)
        r.expiration = (int64_t)fuzz_number(in);
    r.time = w->now_ns;
    if (more >= 240)
        some_odd_path(in, path);
    else
        some_path(in, path);
    r.path = buf_str(path);
    return r;
}

static void check_event(struct store *s, struct store_event *e, bool counts,
                        uint64_t before, struct buf *json)
{
    if (counts)
        FUZZ_CHECK(store_event_index(e) == before + 1);
    else if (store_event_action(e) == STORE_GET)
        FUZZ_CHECK(store_event_index(e) <= store_index(s));
    FUZZ_CHECK(
        store_event_created(e) ==
        (store_event_action(e) == STORE_CREATE ||
         (store_event_action(e) == STORE_SET && store_event_created(e))));
    store_event_json(json, e, START_NS);
    check_json(json);
}

/* The answer as text: the error's or the event's. */
static void apply(struct store *s, const struct v2_request *r, int64_t now_ns,
                  struct buf *answer)
{
    struct store_error err = {0};
    struct store_event *e = NULL;
    uint64_t before = store_index(s);
    int code = store_apply(s, r, now_ns, &e, &err);

    if (code) {
        FUZZ_CHECK(err.code == code && !e);
        FUZZ_CHECK(store_index(s) == before);
        store_error_json(answer, &err);
        check_json(answer);
        store_error_release(&err);
        return;
    }
    if (!e) {
        FUZZ_CHECK(str_eqz(r->method, "SYNC"));
        return;
    }
    check_event(s, e, store_event_action(e) != STORE_GET, before, answer);
    FUZZ_CHECK(store_index(s) == before + (store_event_action(e) != STORE_GET));
    store_event_unref(e);
}

static void step_request(struct world *w)
{
    struct buf text = {0}, path = {0}, first = {0}, second = {0};
    struct v2_request r = some_request(w, &text, &path);

    apply(w->a, &r, w->now_ns, &first);
    apply(w->b, &r, w->now_ns, &second);
    FUZZ_CHECK(str_eq(buf_str(&first), buf_str(&second)));
    buf_release(&text);
    buf_release(&path);
    buf_release(&first);
    buf_release(&second);
}

/* b starts anew, from its snapshot. */
static void step_recover(struct world *w)
{
    struct buf json = {0};

    view(&json, w->b);
    check_json(&json);
    store_free(w->b);
    w->b = store_new();
    FUZZ_CHECK(store_recover(w->b, json.data, json.len, NULL) == 0);
    buf_release(&json);
}

static bool deliver(void *arg, struct blob *json, int why)
{
    struct watch *watch = arg;

    (void)why;
    FUZZ_CHECK(!watch->over);
    if (!json) {
        watch->over = true;
        return true;
    }
    watch->events++;
    return watch->events % 16 != 0; /* full: it will be ended */
}

static void step_watch(struct world *w)
{
    struct buf path = {0};
    struct store_error err = {0};
    struct watch *watch = &w->watches[w->n_watches];
    uint8_t bits = fuzz_u8(&w->in);

    if (w->n_watches == WATCHERS_MAX)
        return;
    some_path(&w->in, &path);
    if (store_watch(w->a, buf_str(&path), bits & 1, bits & 2, bits >> 4,
                    deliver, watch, &watch->w, &err) != 0)
        store_error_release(&err);
    else if (watch->w)
        w->n_watches++;
    else
        *watch = (struct watch){0};
    buf_release(&path);
}

static void step(struct world *w)
{
    uint8_t op = fuzz_u8(&w->in);

    w->now_ns += (int64_t)(op & 15) * 1000;
    if (op < 220)
        step_request(w);
    else if (op < 235)
        step_watch(w);
    else if (op < 245)
        step_recover(w);
    else
        store_expire(w->a, w->now_ns), store_expire(w->b, w->now_ns);
    FUZZ_CHECK(store_index(w->a) == store_index(w->b));
    FUZZ_CHECK(store_live_bytes(w->a) == store_live_bytes(w->b));
}

static void check_equal(struct world *w)
{
    struct buf a = {0}, b = {0};

    view(&a, w->a);
    view(&b, w->b);
    FUZZ_CHECK(str_eq(buf_str(&a), buf_str(&b)));
    buf_release(&a);
    buf_release(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world w = {.in = {data, size}, .now_ns = START_NS};

    w.a = store_new();
    w.b = store_new();
    for (int i = 0; i < STEPS_MAX && fuzz_more(&w.in); i++)
        step(&w);
    check_equal(&w);
    store_free(w.a);
    store_free(w.b);
    return 0;
}
