/*
 * store_test.c - the v2 store: answers as etcd gives them, watchers, TTLs,
 * history, snapshots (one of etcd 3.4.23's own), hostile snapshots, depth, and
 * random operations beside a naive twin that knows the rules in the plainest
 * form.
 */
#include "chance.h"
#include "check.h"
#include "json.h"
#include "store.h"
#include "sys.h"

#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>

#define T0 (INT64_C(1800000000) * NS_PER_S) /* 2027-01-15T08:00:00Z */

/* --- Short names for what all tests do. ---------------------------------- */

/* The answer of a request, as a client sees it, without the newline. */
static struct buf answer;

static const char *finish(int rc, struct store_event *e,
                          struct store_error *err, int64_t now)
{
    buf_clear(&answer);
    if (rc == 0 && e) {
        store_event_json(&answer, e, now);
        store_event_unref(e);
    } else if (rc != 0) {
        CHECK(rc == err->code);
        store_error_json(&answer, err);
        store_error_release(err);
    }
    if (answer.len > 0)
        answer.len--;
    return buf_z(&answer);
}

static const char *apply(struct store *s, struct v2_request r, int64_t now)
{
    struct store_event *e = NULL;
    struct store_error err = {0};
    int rc = store_apply(s, &r, now, &e, &err);

    return finish(rc, e, &err, now);
}

static const char *put(struct store *s, const char *path, const char *value)
{
    return apply(s,
                 (struct v2_request){.method = STR("PUT"),
                                     .path = str_of(path),
                                     .val = str_of(value)},
                 T0);
}

static const char *put_ttl(struct store *s, const char *path, int64_t seconds)
{
    return apply(s,
                 (struct v2_request){.method = STR("PUT"),
                                     .path = str_of(path),
                                     .val = STR("v"),
                                     .expiration = T0 + seconds * NS_PER_S},
                 T0);
}

static const char *put_dir(struct store *s, const char *path)
{
    return apply(s,
                 (struct v2_request){
                     .method = STR("PUT"), .path = str_of(path), .dir = true},
                 T0);
}

static const char *del(struct store *s, const char *path, bool recursive)
{
    return apply(s,
                 (struct v2_request){.method = STR("DELETE"),
                                     .path = str_of(path),
                                     .recursive = recursive},
                 T0);
}

static const char *get(struct store *s, const char *path, int flags)
{
    struct store_event *e = NULL;
    struct store_error err = {0};
    int rc = store_get(s, str_of(path), flags, &e, &err);

    return finish(rc, e, &err, T0);
}

/* --- Answers. ------------------------------------------------------------ */

static void test_answers(void)
{
    struct store *s = store_new();

    CHECK_STR(get(s, "/1", 0), "{\"action\":\"get\",\"node\":{\"dir\":true}}");
    CHECK_STR(get(s, "/1/none/x", 0),
              "{\"errorCode\":100,\"message\":\"Key not found\","
              "\"cause\":\"/none\",\"index\":0}");
    CHECK_STR(put(s, "/1/a", "one"),
              "{\"action\":\"set\",\"node\":{\"key\":\"/a\",\"value\":\"one\","
              "\"modifiedIndex\":1,\"createdIndex\":1}}");
    CHECK_STR(put(s, "/1/a", ""),
              "{\"action\":\"set\",\"node\":{\"key\":\"/a\",\"value\":\"\","
              "\"modifiedIndex\":2,\"createdIndex\":2},\"prevNode\":{\"key\":"
              "\"/a\",\"value\":\"one\",\"modifiedIndex\":1,"
              "\"createdIndex\":1}}");
    CHECK_STR(del(s, "/1/a", false),
              "{\"action\":\"delete\",\"node\":{\"key\":\"/a\","
              "\"modifiedIndex\":3,\"createdIndex\":2},\"prevNode\":{\"key\":"
              "\"/a\",\"value\":\"\",\"modifiedIndex\":2,"
              "\"createdIndex\":2}}");
    CHECK_STR(put(s, "/1/d/_h/x", "<>"),
              "{\"action\":\"set\",\"node\":{\"key\":\"/d/_h/x\",\"value\":"
              "\"\\u003c\\u003e\",\"modifiedIndex\":4,\"createdIndex\":4}}");
    put(s, "/1/d/b", "2");
    put(s, "/1/d/a/z", "1");
    CHECK_STR(get(s, "/1", STORE_SORTED | STORE_RECURSIVE),
              "{\"action\":\"get\",\"node\":{\"dir\":true,\"nodes\":[{\"key\":"
              "\"/d\",\"dir\":true,\"nodes\":[{\"key\":\"/d/a\",\"dir\":true,"
              "\"nodes\":[{\"key\":\"/d/a/z\",\"value\":\"1\","
              "\"modifiedIndex\":6,\"createdIndex\":6}],\"modifiedIndex\":6,"
              "\"createdIndex\":6},{\"key\":\"/d/b\",\"value\":\"2\","
              "\"modifiedIndex\":5,\"createdIndex\":5}],\"modifiedIndex\":4,"
              "\"createdIndex\":4}]}}");
    CHECK_STR(get(s, "/1/d", STORE_SORTED),
              "{\"action\":\"get\",\"node\":{\"key\":\"/d\",\"dir\":true,"
              "\"nodes\":[{\"key\":\"/d/a\",\"dir\":true,\"modifiedIndex\":6,"
              "\"createdIndex\":6},{\"key\":\"/d/b\",\"value\":\"2\","
              "\"modifiedIndex\":5,\"createdIndex\":5}],\"modifiedIndex\":4,"
              "\"createdIndex\":4}}");
    CHECK_STR(get(s, "/1/d/_h", 0),
              "{\"action\":\"get\",\"node\":{\"key\":\"/d/_h\",\"dir\":true,"
              "\"nodes\":[{\"key\":\"/d/_h/x\",\"value\":\"\\u003c\\u003e\","
              "\"modifiedIndex\":4,\"createdIndex\":4}],\"modifiedIndex\":4,"
              "\"createdIndex\":4}}");
    CHECK_STR(apply(s,
                    (struct v2_request){.method = STR("POST"),
                                        .path = STR("/1/q"),
                                        .val = STR("j")},
                    T0),
              "{\"action\":\"create\",\"node\":{\"key\":"
              "\"/q/00000000000000000007\",\"value\":\"j\","
              "\"modifiedIndex\":7,\"createdIndex\":7}}");
    CHECK_STR(
        apply(s,
              (struct v2_request){.method = STR("NOPE"), .path = STR("/1/q")},
              T0),
        "{\"errorCode\":209,\"message\":\"Invalid field\","
        "\"cause\":\"unknown method\",\"index\":7}");
    /* A path that is not clean is cleaned, as etcd does. */
    CHECK_STR(put(s, "1//x/../y/./z/", "v"),
              "{\"action\":\"set\",\"node\":{\"key\":\"/y/z\",\"value\":\"v\","
              "\"modifiedIndex\":8,\"createdIndex\":8}}");
    store_free(s);
}

#define S(lit)                                                                 \
    {                                                                          \
        (lit), sizeof(lit) - 1                                                 \
    } /* a struct str in a static table */

/* Which error, and what it says caused it. */
static void test_errors(void)
{
    static const struct {
        struct v2_request r;
        int code;
        const char *cause;
    } cases[] = {
        {{.method = S("PUT"), .path = S("/1")}, 107, "/"},
        {{.method = S("PUT"), .path = S("/")}, 107, "/"},
        {{.method = S("PUT"), .path = S("/1"), .prev_exist = TRI_TRUE},
         107,
         "/"},
        {{.method = S("PUT"), .path = S("/0"), .prev_exist = TRI_FALSE},
         107,
         "/"},
        {{.method = S("PUT"), .path = S("/1"), .prev_index = 1}, 107, "/"},
        {{.method = S("DELETE"), .path = S("/1"), .recursive = true}, 107, "/"},
        {{.method = S("DELETE"), .path = S("/1"), .prev_index = 1}, 102, ""},
        {{.method = S("DELETE"), .path = S("/"), .prev_index = 1}, 102, ""},
        {{.method = S("PUT"), .path = S("/1/f/x")}, 104, "/f"},
        {{.method = S("PUT"), .path = S("/1/f/x/y"), .dir = true}, 104, "/f"},
        {{.method = S("POST"), .path = S("/1/f")}, 104, "/f"},
        {{.method = S("QGET"), .path = S("/1/f/x")}, 104, "/f"},
        {{.method = S("DELETE"), .path = S("/1/f/x")}, 104, "/f"},
        {{.method = S("PUT"), .path = S("/1/d")}, 102, "/d"},
        {{.method = S("PUT"), .path = S("/1/d"), .dir = true}, 102, "/d"},
        {{.method = S("PUT"), .path = S("/1/d"), .prev_exist = TRI_FALSE},
         105,
         "/d"},
        {{.method = S("PUT"),
          .path = S("/1/d"),
          .val = S("x"),
          .prev_exist = TRI_TRUE},
         102,
         "/d"},
        {{.method = S("PUT"), .path = S("/1/d"), .prev_value = S("x")},
         102,
         "/d"},
        {{.method = S("DELETE"), .path = S("/1/d")}, 102, "/d"},
        {{.method = S("DELETE"), .path = S("/1/d"), .dir = true}, 108, "/d"},
        {{.method = S("DELETE"), .path = S("/1/d"), .prev_value = S("x")},
         102,
         "/d"},
        {{.method = S("DELETE"), .path = S("/1/n/m")}, 100, "/n"},
        {{.method = S("PUT"), .path = S("/1/n/m"), .prev_exist = TRI_TRUE},
         100,
         "/n"},
        {{.method = S("PUT"), .path = S("/1/n"), .refresh = TRI_TRUE},
         100,
         "/n"},
        {{.method = S("PUT"), .path = S("/1/f"), .prev_value = S("x")},
         101,
         "[x != v]"},
        {{.method = S("PUT"), .path = S("/1/f"), .prev_index = 9},
         101,
         "[9 != 1]"},
        {{.method = S("DELETE"),
          .path = S("/1/f"),
          .prev_index = 9,
          .prev_value = S("x")},
         101,
         "[x != v] [9 != 1]"},
    };
    struct store *s = store_new();
    uint64_t live;

    put(s, "/1/f", "v");
    put(s, "/1/d/x", "v");
    live = store_live_bytes(s);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct store_event *e = NULL;
        struct store_error err = {0};

        CHECK(store_apply(s, &cases[i].r, T0, &e, &err) == cases[i].code);
        CHECK(err.code == cases[i].code && err.index == 2 && !e);
        CHECK_STR(err.cause, cases[i].cause);
        store_error_release(&err);
    }
    CHECK(store_index(s) == 2 && store_live_bytes(s) == live);
    CHECK(store_error_status(100) == 404 && store_error_status(105) == 412);
    CHECK(store_error_status(400) == 400 && store_error_status(300) == 500);
    CHECK_STR(store_error_message(110),
              "The request requires user authentication");
    store_free(s);
}

/* Observed on etcd 3.4.23: some failures count as successes, or twice. */
static void test_statistics(void)
{
    struct store *s = store_new();
    struct store_counters c;
    struct buf b = {0};

    put(s, "/1/f", "v");
    put_dir(s, "/1/d");
    put(s, "/1/f/x", "v");
    put(s, "/1", "v");
    apply(s, (struct v2_request){.method = STR("POST"), .path = STR("/1/f")},
          T0);
    apply(s,
          (struct v2_request){.method = STR("PUT"),
                              .path = STR("/1/d"),
                              .val = STR("x"),
                              .prev_exist = TRI_TRUE},
          T0);
    apply(s,
          (struct v2_request){
              .method = STR("PUT"), .path = STR("/1"), .prev_exist = TRI_TRUE},
          T0);
    apply(s,
          (struct v2_request){
              .method = STR("PUT"), .path = STR("/1"), .prev_index = 1},
          T0);
    apply(s,
          (struct v2_request){
              .method = STR("PUT"), .path = STR("/1/d"), .prev_index = 1},
          T0);
    apply(s,
          (struct v2_request){
              .method = STR("DELETE"), .path = STR("/1/d"), .prev_index = 1},
          T0);
    apply(s,
          (struct v2_request){
              .method = STR("DELETE"), .path = STR("/1/f"), .prev_index = 9},
          T0);
    apply(s,
          (struct v2_request){
              .method = STR("DELETE"), .path = STR("/1/n"), .prev_index = 9},
          T0);
    del(s, "/1", false);
    del(s, "/1/d", false);
    get(s, "/1/f", 0);
    get(s, "/1/n", 0);
    apply(s, (struct v2_request){.method = STR("QGET"), .path = STR("/1/f")},
          T0);
    store_stats_json(&b, s);
    CHECK_STR(buf_z(&b),
              "{\"getsSuccess\":1,\"getsFail\":1,\"setsSuccess\":2,"
              "\"setsFail\":3,\"deleteSuccess\":1,\"deleteFail\":1,"
              "\"updateSuccess\":2,\"updateFail\":0,\"createSuccess\":0,"
              "\"createFail\":1,\"compareAndSwapSuccess\":1,"
              "\"compareAndSwapFail\":1,\"compareAndDeleteSuccess\":2,"
              "\"compareAndDeleteFail\":1,\"expireCount\":0,\"watchers\":0}");
    c = store_counters(s);
    CHECK(c.set[0] == 2 && c.set[1] == 3 && c.watchers == 0);
    buf_release(&b);
    store_free(s);
}

static void count_visit(void *arg, struct str name, bool dir,
                        const struct blob *value)
{
    struct buf *b = arg;

    buf_addstr(b, name);
    buf_addc(b, dir ? '/' : '=');
    buf_addstr(b, blob_str(value));
    buf_addc(b, ' ');
}

/* Keys and values are bytes: a NUL ends none of them, nor what names them. */
static void test_nul(void)
{
    struct v2_request r = {
        .method = STR("PUT"), .path = STR("/1/a\0b"), .val = STR("x\0y")};
    struct store *s = store_new();
    struct store_event *e = NULL;
    struct store_error err = {0};
    int rc = store_get(s, r.path, 0, &e, &err);

    CHECK_STR(finish(rc, e, &err, T0),
              "{\"errorCode\":100,\"message\":\"Key not found\","
              "\"cause\":\"/a\\u0000b\",\"index\":0}");
    CHECK_STR(apply(s, r, T0),
              "{\"action\":\"set\",\"node\":{\"key\":\"/a\\u0000b\","
              "\"value\":\"x\\u0000y\",\"modifiedIndex\":1,"
              "\"createdIndex\":1}}");
    r.prev_value = STR("x\0z");
    CHECK_STR(apply(s, r, T0),
              "{\"errorCode\":101,\"message\":\"Compare failed\",\"cause\":"
              "\"[x\\u0000z != x\\u0000y]\",\"index\":1}");
    store_free(s);
}

/* An error says no more than it knows. */
static void test_error_without_cause(void)
{
    struct store_error e = {.code = STORE_WATCHER_CLEARED, .index = 3};
    static const char want[] =
        "{\"errorCode\":400,\"message\":\"watcher is cleared due to etcd "
        "recovery\",\"index\":3}\n";
    struct buf b = {0};

    store_error_json(&b, &e);
    CHECK_STR(buf_z(&b), want);
    buf_clear(&b);
    store_error_set(&e, STORE_WATCHER_CLEARED, STR(""));
    e.index = 3;
    store_error_json(&b, &e);
    CHECK_STR(buf_z(&b), want);
    CHECK(store_error_status(12345) == 400);
    CHECK_STR(store_error_message(12345), "");
    store_error_release(&e);
    buf_release(&b);
}

static void test_looking(void)
{
    struct store *s = store_new();
    struct buf b = {0};

    put(s, "/0/m/b", "2");
    put(s, "/0/m/a", "1");
    put(s, "/0/m/_c/x", "3");
    CHECK(store_each(s, STR("/0/m"), count_visit, &b));
    CHECK_STR(buf_z(&b), "_c/ a=1 b=2 ");
    CHECK(!store_each(s, STR("/0/m/a"), count_visit, &b));
    CHECK(!store_each(s, STR("/0/none"), count_visit, &b));
    CHECK(str_eqz(blob_str(store_peek(s, STR("/0/m/b"))), "2"));
    CHECK(!store_peek(s, STR("/0/m")) && !store_peek(s, STR("/0/m/b/c")));
    CHECK(store_is_dir(s, STR("/0/m")) && !store_is_dir(s, STR("/0/m/a")));
    CHECK(store_counters(s).get[0] == 0 && store_counters(s).get[1] == 0);
    buf_release(&b);
    store_free(s);
}

/* --- Watchers, as tests see them. ---------------------------------------- */

/* What a watcher was told, one line each; "over N" when it ended. */
struct seen {
    struct buf text;
    int n, room; /* room: how many it takes; -1: any number */
    bool over;
    struct store_watcher *w;
};

static bool deliver(void *arg, struct blob *json, int why)
{
    struct seen *seen = arg;

    CHECK(!seen->over);
    if (!json) {
        seen->over = true;
        buf_printf(&seen->text, "over %d\n", why);
        return true;
    }
    if (seen->room == 0)
        return false;
    seen->room--;
    seen->n++;
    buf_addstr(&seen->text, blob_str(json));
    return true;
}

static int watch(struct store *s, struct seen *seen, const char *path,
                 bool recursive, bool stream, uint64_t since)
{
    struct store_error err = {0};
    int rc;

    *seen = (struct seen){.room = -1};
    rc = store_watch(s, str_of(path), recursive, stream, since, deliver, seen,
                     &seen->w, &err);
    if (rc != 0)
        finish(rc, NULL, &err, T0);
    return rc;
}

static const char *told(struct seen *seen)
{
    return buf_z(&seen->text);
}

/* The keys of the events alone, one after another. */
static const char *keys_told(struct seen *seen)
{
    const char *p = told(seen);

    buf_clear(&answer);
    while ((p = strstr(p, "\"node\":{\"key\":\""))) {
        p += strlen("\"node\":{\"key\":\"");
        buf_printf(&answer, " %.*s", (int)strcspn(p, "\""), p);
    }
    return buf_z(&answer);
}

/* What a log of etcd's may hold beside what our server writes to it. */
static void test_log_of_etcd(void)
{
    static const char *const paths[][2] = {
        {"1/plain", "/1/plain"},     {"11/plain", "/11/plain"},
        {"/1/slash/", "/1/slash"},   {"/1//double", "/1/double"},
        {"/1/./dot", "/1/dot"},      {"/1/x/../up", "/1/up"},
        {"/../1/above", "/1/above"}, {"/1/..hidden", "/1/..hidden"},
    };
    struct store *s = store_new();
    struct v2_request r = {.method = STR("GET"), .path = STR("/1/d")};
    struct seen seen;
    const char *read;

    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        watch(s, &seen, "/", true, false, 0);
        put(s, paths[i][0], "v");
        CHECK(store_peek(s, str_of(paths[i][1])) && seen.n == 1);
        buf_release(&seen.text);
    }
    put(s, "/1/d/b/x", "1");
    put(s, "/1/d/a", "2");

    /* A read is in the log of etcd 2: it counts nothing. */
    r.sorted = r.recursive = true;
    read = apply(s, r, T0);
    CHECK(strstr(read, "\"/d/b/x\""));
    CHECK(strstr(read, "\"/d/a\"") < strstr(read, "\"/d/b\""));
    r.recursive = false;
    CHECK(!strstr(apply(s, r, T0), "/d/b/x"));
    CHECK(store_counters(s).get[0] == 0 && store_counters(s).get[1] == 0);

    put_ttl(s, "/1/short", 1);
    r = (struct v2_request){.method = STR("SYNC"), .time = T0 + NS_PER_S - 1};
    CHECK_STR(apply(s, r, T0 + 99 * NS_PER_S), ""); /* its time counts */
    CHECK(store_peek(s, STR("/1/short")));
    r.time++;
    CHECK_STR(apply(s, r, T0), "");
    CHECK(!store_peek(s, STR("/1/short")) && store_counters(s).expired == 1);
    store_free(s);
}

/* --- TTLs. --------------------------------------------------------------- */

static void test_ttl(void)
{
    struct store *s = store_new();

    CHECK(!store_has_ttl(s));
    CHECK_STR(put_ttl(s, "/1/k", 2),
              "{\"action\":\"set\",\"node\":{\"key\":\"/k\",\"value\":\"v\","
              "\"expiration\":\"2027-01-15T08:00:02Z\",\"ttl\":2,"
              "\"modifiedIndex\":1,\"createdIndex\":1}}");
    CHECK(store_has_ttl(s));
    put(s, "/1/k", "v"); /* permanent again: nothing is left to expire */
    CHECK(!store_has_ttl(s));

    /* Too old to be meant: permanent for a set, but not for an update. */
    CHECK_STR(apply(s,
                    (struct v2_request){.method = STR("PUT"),
                                        .path = STR("/1/old"),
                                        .expiration = NS_PER_S},
                    T0),
              "{\"action\":\"set\",\"node\":{\"key\":\"/old\",\"value\":\"\","
              "\"modifiedIndex\":3,\"createdIndex\":3}}");
    CHECK_STR(apply(s,
                    (struct v2_request){.method = STR("PUT"),
                                        .path = STR("/1/old"),
                                        .prev_exist = TRI_TRUE,
                                        .expiration = T0 - 1500 * NS_PER_MS},
                    T0),
              "{\"action\":\"update\",\"node\":{\"key\":\"/old\",\"value\":\"\""
              ",\"expiration\":\"2027-01-15T07:59:58.5Z\",\"ttl\":-1,"
              "\"modifiedIndex\":4,\"createdIndex\":3},\"prevNode\":{\"key\":"
              "\"/old\",\"value\":\"\",\"modifiedIndex\":3,"
              "\"createdIndex\":3}}");
    store_expire(s, T0);
    CHECK(store_index(s) == 5 && !store_peek(s, STR("/1/old")));
    CHECK(store_counters(s).expired == 1 && !store_has_ttl(s));

    /* A directory's new TTL: the index stands in the event, not in it. */
    put_dir(s, "/1/d");
    CHECK_STR(apply(s,
                    (struct v2_request){.method = STR("PUT"),
                                        .path = STR("/1/d"),
                                        .prev_exist = TRI_TRUE,
                                        .expiration = T0 + 100},
                    T0),
              "{\"action\":\"update\",\"node\":{\"key\":\"/d\",\"dir\":true,"
              "\"expiration\":\"2027-01-15T08:00:00.0000001Z\",\"ttl\":1,"
              "\"modifiedIndex\":7,\"createdIndex\":6},\"prevNode\":{\"key\":"
              "\"/d\",\"dir\":true,\"modifiedIndex\":6,\"createdIndex\":6}}");
    CHECK_STR(get(s, "/1/d", 0),
              "{\"action\":\"get\",\"node\":{\"key\":\"/d\",\"dir\":true,"
              "\"expiration\":\"2027-01-15T08:00:00.0000001Z\",\"ttl\":1,"
              "\"modifiedIndex\":6,\"createdIndex\":6}}");
    put_ttl(s, "/1/d/inside", 0);
    del(s, "/1/d", true); /* takes the TTLs inside along */
    CHECK(!store_has_ttl(s));
    store_free(s);
}

static const char *put_expiring(struct store *s, int64_t expire_ns, int64_t now)
{
    return apply(s,
                 (struct v2_request){.method = STR("PUT"),
                                     .path = STR("/1/k"),
                                     .prev_exist = TRI_TRUE,
                                     .expiration = expire_ns},
                 now);
}

/* Go's time spans end where 64 bits of nanoseconds do. */
static void test_ttl_limits(void)
{
    struct store *s = store_new();

    put(s, "/1/k", "v");
    CHECK(strstr(put_expiring(s, INT64_MAX, T0), "\"ttl\":7423372037,"));
    CHECK(strstr(put_expiring(s, INT64_MAX, -T0), "\"ttl\":9223372037,"));
    CHECK(strstr(put_expiring(s, INT64_MIN, T0), "\"ttl\":-9223372036,"));
    CHECK(strstr(put_expiring(s, INT64_MIN, -T0), "\"ttl\":-7423372036,"));
    store_free(s);
}

/* Bytes that are allocated, as far as the C library tells; else 0. */
static size_t heap_bytes(void)
{
#if defined(__GLIBC__) && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 33)
    return mallinfo2().uordblks;
#else
    return 0;
#endif
}

#define TTL_KEYS 300

/* Keys in the order in which they are to expire: by time, then by path. */
static int64_t expiry[TTL_KEYS];

static int compare_expiry(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;

    return expiry[x] != expiry[y]
               ? (expiry[x] > expiry[y]) - (expiry[x] < expiry[y])
               : x - y;
}

/*
 * Keys that live long are refreshed all the time beneath one that is due
 * first, so that what is outdated cannot leave by itself: it is swept out, and
 * what is left expires in order, and once.
 */
static void test_ttl_sweep(void)
{
    struct store *s = store_new();
    struct seen seen;
    struct buf want = {0};
    int order[TTL_KEYS];
    size_t heap = 0;
    char path[32];

    put_ttl(s, "/1/first", 1);
    for (int i = 0; i < 20 * TTL_KEYS; i++) {
        int k = i * 7 % TTL_KEYS;

        if (i == 5 * TTL_KEYS) /* the history is full by now */
            heap = heap_bytes();
        expiry[k] = 10 + i * 31 % 997;
        snprintf(path, sizeof(path), "/1/k%03d", k);
        put_ttl(s, path, expiry[k]);
        put_ttl(s, path, expiry[k]); /* of two of a kind one is enough */
    }
    CHECK(heap_bytes() < heap + 100000);
    watch(s, &seen, "/1", true, true, 0);
    for (int k = 0; k < TTL_KEYS; k++)
        order[k] = k;
    qsort(order, TTL_KEYS, sizeof(order[0]), compare_expiry);
    buf_adds(&want, " /first");
    for (int k = 0; k < TTL_KEYS; k++)
        buf_printf(&want, " /k%03d", order[k]);
    for (int64_t now = 1; now <= 1010; now += 7) {
        store_expire(s, T0 + now * NS_PER_S);
        for (int k = 0; k < TTL_KEYS; k++) {
            snprintf(path, sizeof(path), "/1/k%03d", k);
            CHECK(!store_peek(s, str_of(path)) == (expiry[k] <= now));
        }
    }
    CHECK(seen.n == TTL_KEYS + 1 && !store_has_ttl(s));
    CHECK_STR(keys_told(&seen), buf_z(&want));
    buf_release(&want);
    store_free(s);
    buf_release(&seen.text);
}

/* --- Watchers. ----------------------------------------------------------- */

static void test_watch_kinds(void)
{
    struct store *s = store_new();
    struct seen exact, flat, deep, root, hidden, later;

    put(s, "/1/d/x", "0");
    watch(s, &exact, "/1/d/x", false, false, 0);
    watch(s, &flat, "/1/d", false, false, 0);
    watch(s, &deep, "/1/d", true, true, 0);
    watch(s, &root, "/1", true, true, 0);
    watch(s, &hidden, "/1/d/_h", true, true, 0);
    watch(s, &later, "/1/d/x", false, false, 4);
    CHECK(store_counters(s).watchers == 6);
    put(s, "/1/d/x", "1");
    CHECK(exact.n == 1 && flat.n == 0 && deep.n == 1 && root.n == 1);
    CHECK_STR(told(&exact),
              "{\"action\":\"set\",\"node\":{\"key\":\"/d/x\",\"value\":\"1\","
              "\"modifiedIndex\":2,\"createdIndex\":2},\"prevNode\":{\"key\":"
              "\"/d/x\",\"value\":\"0\",\"modifiedIndex\":1,"
              "\"createdIndex\":1}}\n");
    CHECK(store_counters(s).watchers == 5);
    put(s, "/1/d/_h/y", "2");
    CHECK(hidden.n == 1 && deep.n == 1 && root.n == 1);
    CHECK(later.n == 0);
    put(s, "/1/d/x", "3");
    CHECK(later.n == 1 && deep.n == 2);
    put(s, "/1/other", "4");
    CHECK(root.n == 3 && deep.n == 2);

    /* The deletion of a directory: /d and below it once, /d itself twice. */
    del(s, "/1/d", true);
    CHECK(flat.n == 1 && deep.n == 4 && root.n == 4 && hidden.n == 2);
    store_unwatch(s, deep.w);
    store_unwatch(s, root.w);
    put(s, "/1/d/x", "6");
    CHECK(deep.n == 4 && root.n == 4 && !deep.over);
    CHECK(store_counters(s).watchers == 1);
    CHECK(store_counters(s).watch_requests == 6);
    store_free(s); /* clears the last one */
    CHECK(hidden.over && hidden.n == 2);
    buf_release(&exact.text);
    buf_release(&flat.text);
    buf_release(&deep.text);
    buf_release(&root.text);
    buf_release(&hidden.text);
    buf_release(&later.text);
}

/* The root of all, above /0 and /1, hears of everything but hidden names. */
static void test_watch_root(void)
{
    struct store *s = store_new();
    struct seen seen;

    watch(s, &seen, "/", true, true, 0);
    put(s, "/1/k", "v");
    put(s, "/0/members/1", "v");
    put(s, "/1/_k", "v");
    del(s, "/1/k", false);
    CHECK(seen.n == 3);
    store_unwatch(s, seen.w);
    buf_release(&seen.text);
    store_free(s);
}

/* Only a name that begins with "_" is hidden, and only from those above. */
static void test_watch_hidden(void)
{
    static const struct {
        const char *path;
        int from_top, from_dir;
    } cases[] = {
        {"/1/d/plain", 1, 1}, {"/1/d/in_side", 1, 1}, {"/1/d/end_", 1, 1},
        {"/1/d/_h", 0, 0},    {"/1/d/_h/x", 0, 0},    {"/1/d/x/_h", 0, 0},
        {"/1/_h/d", 0, 0},    {"/1/d_/_/x", 0, 0},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct store *s = store_new();
        struct seen top, dir, hidden;

        watch(s, &top, "/1", true, true, 0);
        watch(s, &dir, "/1/d", true, true, 0);
        watch(s, &hidden, cases[i].path, true, true, 0);
        put(s, cases[i].path, "v");
        CHECK(top.n == cases[i].from_top && dir.n == cases[i].from_dir);
        CHECK(hidden.n == 1); /* who knows its name sees it */
        store_free(s);
        buf_release(&top.text);
        buf_release(&dir.text);
        buf_release(&hidden.text);
    }
}

/* Points that are watched below a deletion, but were not in the tree. */
static void test_watch_absent(void)
{
    struct store *s = store_new();
    struct seen below, beside, there, file;

    put(s, "/1/d/a/b", "0");
    put(s, "/1/d/f", "0");
    watch(s, &there, "/1/d/a/b", false, true, 0);
    watch(s, &below, "/1/d/a/b/c", false, true, 0);
    watch(s, &beside, "/1/d/z/b", false, true, 0);
    watch(s, &file, "/1/d/f", false, true, 0);
    del(s, "/1/d", true);
    CHECK(there.n == 1 && below.n == 0 && beside.n == 0 && file.n == 1);
    put(s, "/1/d/f", "1");
    del(s, "/1/d/f", false);
    CHECK(file.n == 4); /* set, and its own deletion twice */
    store_unwatch(s, there.w);
    store_unwatch(s, below.w);
    store_unwatch(s, beside.w);
    store_unwatch(s, file.w);
    CHECK(store_counters(s).watchers == 0);
    store_free(s);
    buf_release(&there.text);
    buf_release(&file.text);
}

static void test_watch_overflow(void)
{
    struct store *s = store_new();
    struct seen seen;

    watch(s, &seen, "/1/k", false, true, 0);
    seen.room = 2;
    for (int i = 0; i < 5; i++)
        put(s, "/1/k", "v");
    CHECK(seen.n == 2 && seen.over && store_counters(s).watchers == 0);
    buf_release(&seen.text);
    store_free(s);
}

static void test_refresh(void)
{
    struct store *s = store_new();
    struct v2_request r = {.method = STR("PUT"),
                           .path = STR("/1/r"),
                           .expiration = T0 + 9 * NS_PER_S,
                           .refresh = TRI_TRUE};
    struct seen live, past;

    put_ttl(s, "/1/r", 5);
    watch(s, &live, "/1/r", false, false, 0);
    CHECK_STR(apply(s, r, T0),
              "{\"action\":\"set\",\"node\":{\"key\":\"/r\",\"value\":\"v\","
              "\"expiration\":\"2027-01-15T08:00:09Z\",\"ttl\":9,"
              "\"modifiedIndex\":2,\"createdIndex\":2},\"prevNode\":{\"key\":"
              "\"/r\",\"value\":\"v\",\"expiration\":\"2027-01-15T08:00:05Z\","
              "\"ttl\":5,\"modifiedIndex\":1,\"createdIndex\":1}}");
    r.prev_exist = TRI_TRUE;
    apply(s, r, T0);
    r.prev_exist = TRI_UNSET;
    r.prev_value = STR("v");
    CHECK(str_has_prefix(str_of(apply(s, r, T0)),
                         "{\"action\":\"compareAndSwap\""));
    CHECK(live.n == 0);
    /* With dir it renews nothing: the file becomes a directory. */
    put(s, "/1/file", "x");
    r = (struct v2_request){.method = STR("PUT"),
                            .path = STR("/1/file"),
                            .dir = true,
                            .refresh = TRI_TRUE};
    apply(s, r, T0);
    CHECK(store_is_dir(s, STR("/1/file")));
    store_expire(s, T0 + 9 * NS_PER_S);
    CHECK(live.n == 1); /* the end of it makes an event */
    watch(s, &past, "/1/r", false, false, 2);
    CHECK(past.n == 1 && !past.w);
    CHECK_STR(told(&past),
              "{\"action\":\"expire\",\"node\":{\"key\":\"/r\","
              "\"modifiedIndex\":7,\"createdIndex\":2},\"prevNode\":{\"key\":"
              "\"/r\",\"value\":\"v\",\"expiration\":\"2027-01-15T08:00:09Z\","
              "\"modifiedIndex\":4,\"createdIndex\":2}}\n");
    buf_release(&live.text);
    buf_release(&past.text);
    store_free(s);
}

static void test_history(void)
{
    struct store *s = store_new();
    struct seen seen;
    char path[32];

    watch(s, &seen, "/1/x", false, false, 1); /* nothing yet: it waits */
    CHECK(seen.w);
    store_unwatch(s, seen.w);
    for (int i = 1; i <= 1005; i++) {
        snprintf(path, sizeof(path), "/1/h%d", i);
        put(s, path, "v");
    }
    CHECK(watch(s, &seen, "/1/h1", false, false, 5) == 401);
    CHECK_STR(buf_z(&answer),
              "{\"errorCode\":401,\"message\":\"The event in requested index "
              "is outdated and cleared\",\"cause\":\"the requested history "
              "has been cleared [6/5]\",\"index\":1005}");
    CHECK(watch(s, &seen, "/1/h6", false, true, 6) == 0);
    CHECK(seen.n == 1 && !seen.w);
    buf_release(&seen.text);
    CHECK(watch(s, &seen, "/1", true, false, 1005) == 0 && seen.n == 1);
    buf_release(&seen.text);
    CHECK(watch(s, &seen, "/1/h", true, false, 6) == 0 && seen.w);
    store_unwatch(s, seen.w);
    CHECK(watch(s, &seen, "/1/h1", false, false, 2000) == 0 && seen.w);
    store_unwatch(s, seen.w);

    /* As etcd's history matches, unlike its live events. */
    put(s, "/1/foo/_hid", "v");
    CHECK(watch(s, &seen, "/1/foo", true, false, 1006) == 0 && seen.n == 1);
    buf_release(&seen.text);
    del(s, "/1/foo", true);
    CHECK(watch(s, &seen, "/1/foobar", false, false, 1007) == 0);
    CHECK(seen.n == 1);
    buf_release(&seen.text);
    CHECK(watch(s, &seen, "/1/other", false, false, 1007) == 0);
    CHECK(seen.n == 0);
    store_unwatch(s, seen.w);
    CHECK(watch(s, &seen, "/", true, false, 1007) == 0); /* above /1 */
    CHECK(seen.n == 1);
    buf_release(&seen.text);
    put(s, "/1/file", "v");
    del(s, "/1/file", false); /* a file has nothing below it */
    CHECK(watch(s, &seen, "/1/file/x", false, false, 1009) == 0);
    CHECK(seen.n == 0);
    store_unwatch(s, seen.w);
    store_free(s);
}

/* --- Snapshots. ---------------------------------------------------------- */

/*
 * Written by etcd 3.4.23: keys, a TTL, a refresh, a deletion, hidden names and
 * a name that was not UTF-8. ' stands for ", and @ for the empty slots.
 */
static const char *const etcd_snapshot[] = {
    "{'Root':{'Path':'/','CreatedIndex':0,'ModifiedIndex':0,",
    "'ExpireTime':'0001-01-01T00:00:00Z','Value':'','Children':{'0':{",
    "'Path':'/0','CreatedIndex':0,'ModifiedIndex':0,",
    "'ExpireTime':'0001-01-01T00:00:00Z','Value':'','Children':{'members':{",
    "'Path':'/0/members','CreatedIndex':1,'ModifiedIndex':1,",
    "'ExpireTime':'0001-01-01T00:00:00Z','Value':'','Children':{",
    "'64c34131aaabc913':{'Path':'/0/members/64c34131aaabc913',",
    "'CreatedIndex':1,'ModifiedIndex':1,",
    "'ExpireTime':'0001-01-01T00:00:00Z','Value':'','Children':{",
    "'attributes':{'Path':'/0/members/64c34131aaabc913/attributes',",
    "'CreatedIndex':2,'ModifiedIndex':2,",
    "'ExpireTime':'0001-01-01T00:00:00Z','Value':'{\\'name\\':\\'n1\\',",
    "\\'clientURLs\\':[\\'http://127.0.0.1:54729\\']}','Children':null},",
    "'raftAttributes':{'Path':'/0/members/64c34131aaabc913/raftAttributes',",
    "'CreatedIndex':1,'ModifiedIndex':1,",
    "'ExpireTime':'0001-01-01T00:00:00Z','Value':'{",
    "\\'peerURLs\\':[\\'http://127.0.0.1:38243\\']}','Children':null}}}}},",
    "'version':{'Path':'/0/version','CreatedIndex':3,'ModifiedIndex':3,",
    "'ExpireTime':'0001-01-01T00:00:00Z','Value':'3.4.0',",
    "'Children':null}}},'1':{'Path':'/1','CreatedIndex':0,",
    "'ModifiedIndex':0,'ExpireTime':'0001-01-01T00:00:00Z','Value':'',",
    "'Children':{'a\357\277\275b':{'Path':'/1/a\357\277\275b',",
    "'CreatedIndex':7,'ModifiedIndex':7,",
    "'ExpireTime':'0001-01-01T00:00:00Z','Value':'','Children':{'c':{",
    "'Path':'/1/a\357\277\275b/c','CreatedIndex':7,'ModifiedIndex':7,",
    "'ExpireTime':'0001-01-01T00:00:00Z','Value':'\357\277\275',",
    "'Children':null}}},'dt':{'Path':'/1/dt','CreatedIndex':10,",
    "'ModifiedIndex':10,'ExpireTime':'2026-11-23T15:27:16.930541759Z',",
    "'Value':'','Children':{}},'f':{'Path':'/1/f','CreatedIndex':4,",
    "'ModifiedIndex':4,'ExpireTime':'0001-01-01T00:00:00Z','Value':'x',",
    "'Children':null},'r1':{'Path':'/1/r1','CreatedIndex':9,",
    "'ModifiedIndex':9,'ExpireTime':'2026-11-23T15:27:16.92031934Z',",
    "'Value':'v','Children':null}}}}},'WatcherHub':{'EventHistory':{",
    "'Queue':{'Events':[{'action':'create','node':{",
    "'key':'/0/members/64c34131aaabc913/raftAttributes','value':'{",
    "\\'peerURLs\\':[\\'http://127.0.0.1:38243\\']}','modifiedIndex':1,",
    "'createdIndex':1}},{'action':'set','node':{",
    "'key':'/0/members/64c34131aaabc913/attributes','value':'{",
    "\\'name\\':\\'n1\\',\\'clientURLs\\':[\\'http://127.0.0.1:54729\\']}',",
    "'modifiedIndex':2,'createdIndex':2}},{'action':'set','node':{",
    "'key':'/0/version','value':'3.4.0','modifiedIndex':3,",
    "'createdIndex':3}},{'action':'set','node':{'key':'/1/f','value':'x',",
    "'modifiedIndex':4,'createdIndex':4}},{'action':'set','node':{",
    "'key':'/1/foo/_hid/a','value':'1','modifiedIndex':5,",
    "'createdIndex':5}},{'action':'delete','node':{'key':'/1/foo',",
    "'dir':true,'modifiedIndex':6,'createdIndex':5},'prevNode':{",
    "'key':'/1/foo','dir':true,'modifiedIndex':5,'createdIndex':5}},{",
    "'action':'set','node':{'key':'/1/a\357\277\275b/c',",
    "'value':'\357\277\275','modifiedIndex':7,'createdIndex':7}},{",
    "'action':'set','node':{'key':'/1/r1','value':'v',",
    "'expiration':'2026-11-23T12:40:36.910070845Z','ttl':50000,",
    "'modifiedIndex':8,'createdIndex':8}},{'action':'set','node':{",
    "'key':'/1/r1','value':'v',",
    "'expiration':'2026-11-23T15:27:16.92031934Z','ttl':60000,",
    "'modifiedIndex':9,'createdIndex':9},'prevNode':{'key':'/1/r1',",
    "'value':'v','expiration':'2026-11-23T12:40:36.910070845Z','ttl':50000,",
    "'modifiedIndex':8,'createdIndex':8},'refresh':true},{'action':'set',",
    "'node':{'key':'/1/dt','dir':true,",
    "'expiration':'2026-11-23T15:27:16.930541759Z','ttl':60000,",
    "'modifiedIndex':10,'createdIndex':10}},@],'Size':10,'Front':0,",
    "'Back':10,'Capacity':1000},'StartIndex':1,'LastIndex':10}},",
    "'CurrentIndex':10,'Stats':{'getsSuccess':0,'getsFail':8,",
    "'setsSuccess':8,'setsFail':0,'deleteSuccess':1,'deleteFail':0,",
    "'updateSuccess':0,'updateFail':0,'createSuccess':1,'createFail':0,",
    "'compareAndSwapSuccess':0,'compareAndSwapFail':0,",
    "'compareAndDeleteSuccess':0,'compareAndDeleteFail':0,'expireCount':0,",
    "'watchers':0},'CurrentVersion':2}",
};

static void load_fixture(struct buf *b)
{
    for (size_t i = 0; i < ARRAY_LEN(etcd_snapshot); i++) {
        for (const char *p = etcd_snapshot[i]; *p; p++) {
            if (*p == '@') {
                buf_adds(b, "null");
                for (int slot = 11; slot < STORE_HISTORY_MAX; slot++)
                    buf_adds(b, ",null");
            } else {
                buf_addc(b, *p == '\'' ? '"' : *p);
            }
        }
    }
}

static void save(struct buf *b, struct store *s)
{
    struct store_view *v = store_pin(s);

    buf_clear(b);
    store_view_json(b, v);
    CHECK(store_view_index(v) == store_index(s));
    store_unpin(v);
}

static void test_etcd_snapshot(void)
{
    struct buf json = {0}, again = {0};
    struct store *s = store_new();
    struct err e = {0};
    struct seen seen, cleared;

    load_fixture(&json);
    put(s, "/1/old", "gone");
    watch(s, &cleared, "/1/old", false, true, 0);
    CHECK(store_recover(s, json.data, json.len, &e) == 0);
    CHECK_STR(told(&cleared), "over 400\n");
    CHECK(store_index(s) == 10 && store_has_ttl(s));
    CHECK(!store_peek(s, STR("/1/old")));
    CHECK(str_eqz(blob_str(store_peek(s, STR("/0/version"))), "3.4.0"));
    CHECK(store_is_dir(s, STR("/1/a\xef\xbf\xbd"
                              "b")));
    CHECK(store_counters(s).set[0] == 8 && store_counters(s).get[1] == 8);
    save(&again, s);
    CHECK_STR(buf_z(&again), buf_z(&json));

    /* The history is there: with its TTLs as they were, and the refresh. */
    watch(s, &seen, "/1/r1", false, false, 1);
    CHECK_STR(told(&seen),
              "{\"action\":\"set\",\"node\":{\"key\":\"/r1\",\"value\":\"v\","
              "\"expiration\":\"2026-11-23T12:40:36.910070845Z\","
              "\"ttl\":50000,\"modifiedIndex\":8,\"createdIndex\":8}}\n");
    buf_release(&seen.text);
    watch(s, &seen, "/1/r1", false, false, 9);
    CHECK(seen.n == 0 && seen.w);
    store_expire(s, T0); /* both are over by then, in order of time */
    CHECK(seen.n == 1 && store_index(s) == 12 && !store_has_ttl(s));
    CHECK(str_has_prefix(str_of(told(&seen)), "{\"action\":\"expire\","
                                              "\"node\":{\"key\":\"/r1\","
                                              "\"modifiedIndex\":11"));
    buf_release(&seen.text);
    buf_release(&cleared.text);
    buf_release(&json);
    buf_release(&again);
    store_free(s);
}

/* A TTL that never ends is cut to the last time that there is (v2_expiration):
 * a snapshot that holds it must be one that can be read. */
static void test_last_times(void)
{
    static const int64_t times[] = {INT64_MAX,
                                    INT64_MAX - 854775807,
                                    INT64_MAX - 854775808,
                                    INT64_MIN,
                                    -1,
                                    0,
                                    1,
                                    INT64_MIN + 145224192};
    struct buf json = {0}, again = {0};
    struct store *s = store_new();
    struct store_put forever = {
        .path = STR("/1/a"), .value = STR("x"), .expire_ns = INT64_MAX};
    struct store_error err = {0};
    int64_t t;

    for (size_t i = 0; i < ARRAY_LEN(times); i++) {
        char text[SYS_RFC3339_MAX];

        t = 7;
        CHECK(sys_parse_rfc3339((struct str){text, sys_rfc3339(text, times[i])},
                                &t));
        CHECK(t == times[i]);
    }
    t = 7;
    CHECK(!sys_parse_rfc3339(STR("2262-04-11T23:47:16.854775808Z"), &t));
    CHECK(!sys_parse_rfc3339(STR("1677-09-21T00:12:43.145224191Z"), &t));
    CHECK(t == 7);

    CHECK(store_set(s, &forever, T0, NULL, &err) == 0);
    save(&json, s);
    CHECK(store_recover(s, json.data, json.len, NULL) == 0);
    save(&again, s);
    CHECK_STR(buf_z(&again), buf_z(&json));
    buf_release(&json);
    buf_release(&again);
    store_free(s);
}

/* No client can ask for it, but a log may: an in-order key in the root. It must
 * not get an empty directory above it, which no snapshot is read with. */
static void test_unique_in_root(void)
{
    struct v2_request r = {.id = 1, .method = STR("POST"), .path = STR("/")};
    struct store *s = store_new();
    struct store_event *e = NULL;
    struct store_error err = {0};
    struct buf json = {0};

    r.val = STR("x");
    CHECK(store_apply(s, &r, T0, &e, &err) == 0);
    store_event_unref(e);
    CHECK(store_peek(s, STR("/00000000000000000001")));
    save(&json, s);
    CHECK(store_recover(s, json.data, json.len, NULL) == 0);
    buf_release(&json);
    store_free(s);
}

/* What is no UTF-8 comes back as it was: two keys stay two, values differ from
 * U+FFFD and from one another, and the history tells of the same. */
static void test_no_utf8(void)
{
    static const char *const bytes[] = {"\xff",     "\xfe",         "\xc3",
                                        "\xe2\x80", "\xef\xbf\xbd", "a\xf8z"};
    struct store *s = store_new();
    struct store_error err = {0};
    struct buf json = {0}, again = {0};
    char path[16];

    for (size_t i = 0; i < ARRAY_LEN(bytes); i++) {
        struct store_put p = {.value = str_of(bytes[i])};

        p.path = (struct str){
            path, (size_t)snprintf(path, sizeof(path), "/1/%s", bytes[i])};
        CHECK(store_set(s, &p, T0, NULL, &err) == 0);
    }
    save(&json, s);
    CHECK(store_recover(s, json.data, json.len, NULL) == 0);
    save(&again, s);
    CHECK(str_eq(buf_str(&json), buf_str(&again)));
    for (size_t i = 0; i < ARRAY_LEN(bytes); i++) {
        struct seen seen;
        struct str at = {
            path, (size_t)snprintf(path, sizeof(path), "/1/%s", bytes[i])};

        CHECK(str_eqz(blob_str(store_peek(s, at)), bytes[i]));
        CHECK(watch(s, &seen, path, false, false, 1) == 0 && seen.n == 1);
        buf_release(&seen.text);
    }
    buf_release(&json);
    buf_release(&again);
    store_free(s);
}

/* Any prefix and any changed byte: refused or not, but never a crash. */
static void test_damaged_snapshot(void)
{
    struct store *s = store_new();
    struct buf json = {0}, before = {0}, after = {0};
    size_t tail, refused = 0;
    struct err e;

    load_fixture(&json);
    put(s, "/1/mine", "v");
    save(&before, s);
    tail = json.len > 2000 ? json.len - 700 : 0;
    for (size_t n = 0; n<json.len; n += n> 5000 && n < tail ? 97 : 7) {
        CHECK(store_recover(s, json.data, n, &e) == -1);
        CHECK(str_has_prefix(str_of(e.msg), "v2 store snapshot: "));
    }
    save(&after, s);
    CHECK(str_eq(buf_str(&before), buf_str(&after)));
    for (size_t i = 0; i<json.len; i += i> 4500 && i < tail ? 211 : 11) {
        static const char odd[] = "\"x{]0-,\\";
        uint8_t old = json.data[i];

        json.data[i] = (uint8_t)odd[i % (sizeof(odd) - 1)];
        if (store_recover(s, json.data, json.len, &e) < 0) {
            refused++;
        } else {
            struct seen seen;

            if (watch(s, &seen, "/1", true, true, 1) == 0 && seen.w)
                store_unwatch(s, seen.w);
            put(s, "/1/f", "v");
            del(s, "/1/dt", true);
            buf_release(&seen.text);
        }
        json.data[i] = old;
    }
    CHECK(refused > 0);
    CHECK(store_recover(s, "{}", 2, &e) == -1);
    CHECK(store_recover(s, "", 0, &e) == -1);
    CHECK_STR(e.msg,
              "v2 store snapshot: unexpected end of JSON input at byte 0");
    buf_release(&json);
    buf_release(&before);
    buf_release(&after);
    store_free(s);
}

/* A small snapshot with an event, in which a test replaces parts. ' is ". */
static const char small_snapshot[] =
    "{'Root':{'CreatedIndex':0,'ModifiedIndex':0,"
    "'ExpireTime':'0001-01-01T00:00:00Z','Value':'','Children':{"
    "'1':{'CreatedIndex':0,'ModifiedIndex':0,'Value':'','Children':{"
    "'k':{'CreatedIndex':1,'ModifiedIndex':1,'Value':'v','Children':null}}}}},"
    "'WatcherHub':{'EventHistory':{'Queue':{'Events':["
    "{'action':'set','node':{'key':'/1/k','value':'v','ttl':7,"
    "'modifiedIndex':1,'createdIndex':1},'refresh':false}"
    "],'Size':1,'Front':0}}},'CurrentIndex':1,'Stats':{'setsSuccess':1}}";

static int recover_small(struct store *s, const char *part,
                         const char *replacement, struct err *e)
{
    struct buf json = {0};
    const char *at = strstr(small_snapshot, part);
    int rc;

    CHECK(at != NULL);
    buf_add(&json, small_snapshot, (size_t)(at - small_snapshot));
    buf_adds(&json, replacement);
    buf_adds(&json, at + strlen(part));
    for (size_t i = 0; i < json.len; i++)
        if (json.data[i] == '\'')
            json.data[i] = '"';
    rc = store_recover(s, json.data, json.len, e);
    buf_release(&json);
    return rc;
}

/* What no etcd writes is refused, each thing by its name, and no part of it
 * has taken the place of what was there. */
static void test_strange_snapshot(void)
{
    static const struct {
        const char *part, *replacement, *why;
    } cases[] = {
        {"'CurrentIndex':1", "'CurrentIndex':-1", "a number from 0 up"},
        {"'CurrentIndex':1", "'CurrentIndex':'1'", "a number from 0 up"},
        {"'CreatedIndex':0", "'CreatedIndex':null", "a number from 0 up"},
        {"'0001-01-01T00:00:00Z'", "'today'", "a time"},
        {"'0001-01-01T00:00:00Z'", "5", "a time"},
        {"'Value':'v'", "'Value':5", "a string"},
        {"'Children':null", "'Children':[]", "the children of a directory"},
        {"'Children':null", "'Children':{},'Children':{}", "the children"},
        {"'k'", "''", "bad name of a key"},
        {"'k'", "'a/b'", "bad name of a key"},
        {"'1':{", "'1':[", "an object"},
        {"'Root':{", "'Root':null,'Other':{", "an object"},
        {"'Root':{", "'Other':{", "no Root directory"},
        {"'Children':{'1'", "'Children':null,'C':{'1'", "no Root directory"},
        {"'Events':[", "'Events':null,'E':[", "an array"},
        {"{'action'", "1,{'action'", "an event or null"},
        {"'set'", "'make'", "bad action"},
        {"'set'", "'get'", "bad event"},
        {"'key':'/1/k'", "'key':''", "bad event"},
        {"'key':'/1/k'", "'key':'1/k'", "bad event"},
        {"'ttl':7", "'ttl':'7'", "a number"},
        {"'ttl':7", "'ttl':99999999999999999999", "a number"},
        {"'refresh':false", "'refresh':0", "true or false"},
        {"'Size':1", "'Size':2", "bad event history"},
        {"'Front':0", "'Front':1", "bad event history"},
        {"{'action'", "null,{'action'", "missing event"},
        {"'Size':1", "'Events':[{", "two histories"},
        {"'setsSuccess':1", "'setsSuccess':1.5", "a number from 0 up"},
        {"'Stats':{", "'Stats':1,'S':{", "an object"},
    };
    struct store *s = store_new();
    struct buf before = {0}, after = {0};
    struct err e;

    put(s, "/1/mine", "v");
    save(&before, s);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CHECK(recover_small(s, cases[i].part, cases[i].replacement, &e) == -1);
        CHECK(strstr(e.msg, cases[i].why));
        if (!strstr(e.msg, cases[i].why))
            fprintf(stderr, "%s: %s\n", cases[i].replacement, e.msg);
    }
    CHECK(recover_small(s, "'setsSuccess':1}}", "'setsSuccess':1}},", &e) < 0);
    save(&after, s);
    CHECK(str_eq(buf_str(&before), buf_str(&after)));

    /* As it stands it is good; so it is with what a later etcd may add. */
    CHECK(recover_small(s, "'Stats':{", "'New':[{}],'Stats':{'x':[],", &e) ==
          0);
    CHECK(str_eqz(blob_str(store_peek(s, STR("/1/k"))), "v"));
    CHECK(store_index(s) == 1 && store_counters(s).set[0] == 1);
    buf_release(&before);
    buf_release(&after);
    store_free(s);
}

/* A ring of another size gives the last events that ours holds, in order. */
static void test_larger_history(void)
{
    enum { N = STORE_HISTORY_MAX * 3 / 2, FRONT = N - 100 };
    struct buf events = {0};
    struct store *s = store_new();
    struct seen seen;
    struct err e;
    size_t n;

    buf_adds(&events, "'Events':[");
    for (int at = 0; at < N; at++)
        buf_printf(&events,
                   "%s{'action':'set','node':{'key':'/1/k%d','value':'v',"
                   "'modifiedIndex':%d,'createdIndex':1}}",
                   at ? "," : "", (at + N - FRONT) % N + 1,
                   (at + N - FRONT) % N + 1);
    buf_printf(&events, "],'Size':%d,'Front':%d},", N, FRONT);
    n = events.len;
    buf_adds(&events, "'Other':{'E':[");
    CHECK(recover_small(s, "'Events':[", buf_z(&events), &e) == 0);
    CHECK(watch(s, &seen, "/1", true, false, N - STORE_HISTORY_MAX) == 401);
    CHECK(watch(s, &seen, "/1/k1499", false, false,
                N - STORE_HISTORY_MAX + 1) == 0);
    CHECK(seen.n == 1);
    buf_release(&seen.text);

    events.len = n;
    buf_adds(&events, "'Queue':{'E':[");
    CHECK(recover_small(s, "'Events':[", buf_z(&events), &e) == -1);
    CHECK(strstr(e.msg, "bad event history")); /* a second one */
    buf_release(&events);
    store_free(s);
}

static void test_views(void)
{
    struct store *s = store_new();
    struct store_view *v;
    struct store_event *listing;
    struct store_error err;
    struct buf before = {0}, after = {0};
    char path[32];

    for (int i = 0; i < 200; i++) {
        snprintf(path, sizeof(path), "/1/d%d/k%d", i % 5, i);
        put(s, path, "old");
    }
    v = store_pin(s);
    store_view_json(&before, v);
    CHECK(store_get(s, STR("/1"), STORE_RECURSIVE, &listing, &err) == 0);
    store_event_json(&before, listing, T0);
    for (int i = 0; i < 200; i += 3) {
        snprintf(path, sizeof(path), "/1/d%d/k%d", i % 5, i);
        put(s, path, "new");
    }
    del(s, "/1/d3", true);
    store_view_json(&after, v);
    store_event_json(&after, listing, T0);
    CHECK(str_eq(buf_str(&before), buf_str(&after)));
    CHECK(store_view_index(v) == 200 && store_index(s) == 268);
    store_free(s); /* the view lives on */
    buf_clear(&after);
    store_view_json(&after, v);
    store_event_json(&after, listing, T0);
    CHECK(str_eq(buf_str(&before), buf_str(&after)));
    store_unpin(v);
    store_event_unref(listing);
    buf_release(&before);
    buf_release(&after);
}

/* --- Large and deep. ----------------------------------------------------- */

struct pieces {
    struct buf all;
    size_t n, stop_after;
};

static int take_piece(void *arg, const void *p, size_t n)
{
    struct pieces *pieces = arg;

    buf_add(&pieces->all, p, n);
    return ++pieces->n == pieces->stop_after ? 7 : 0;
}

static void test_pieces(void)
{
    struct store *s = store_new();
    struct pieces pieces = {.stop_after = 0}, few = {.stop_after = 2};
    struct store_event *e;
    struct store_error err;
    struct store_view *v;
    struct buf whole = {0};
    char path[32];

    for (int i = 0; i < 3000; i++) {
        snprintf(path, sizeof(path), "/1/d%d/k%d", i % 7, i);
        put(s, path, "some value or other");
    }
    CHECK(store_get(s, STR("/1"), STORE_RECURSIVE, &e, &err) == 0);
    store_event_json(&whole, e, T0);
    CHECK(store_event_write(e, T0, take_piece, &pieces) == 0);
    CHECK(str_eq(buf_str(&whole), buf_str(&pieces.all)) && pieces.n > 3);
    CHECK(store_event_write(e, T0, take_piece, &few) == 7 && few.n == 2);
    store_event_unref(e);

    /* A change is one piece. */
    buf_clear(&whole);
    buf_clear(&pieces.all);
    pieces.n = 0;
    CHECK(store_delete(s, STR("/1/d0/k0"), false, false, T0, &e, &err) == 0);
    store_event_json(&whole, e, T0);
    CHECK(store_event_write(e, T0, take_piece, &pieces) == 0);
    CHECK(str_eq(buf_str(&whole), buf_str(&pieces.all)) && pieces.n == 1);
    store_event_unref(e);

    buf_clear(&whole);
    buf_clear(&pieces.all);
    few.n = 0;
    v = store_pin(s);
    store_view_json(&whole, v);
    CHECK(store_view_write(v, take_piece, &pieces) == 0);
    CHECK(str_eq(buf_str(&whole), buf_str(&pieces.all)));
    CHECK(store_view_write(v, take_piece, &few) == 7 && few.n == 2);
    store_unpin(v);
    buf_release(&whole);
    buf_release(&pieces.all);
    buf_release(&few.all);
    store_free(s);
}

#define DEEP 3000

/* All that walks a tree, on a stack that a recursion would not survive. */
static void *deep(void *arg)
{
    struct store *s = store_new();
    struct buf path = {0}, json = {0}, again = {0};
    struct seen seen;
    struct err e;

    buf_adds(&path, "/1");
    for (int i = 0; i < DEEP; i++)
        buf_adds(&path, "/d");
    put_ttl(s, buf_z(&path), 5);
    CHECK(strlen(get(s, "/1", STORE_RECURSIVE | STORE_SORTED)) >
          (size_t)DEEP * DEEP);
    save(&json, s);
    CHECK(store_recover(s, json.data, json.len, &e) == 0);
    save(&again, s);
    CHECK(str_eq(buf_str(&json), buf_str(&again)) && store_has_ttl(s));
    watch(s, &seen, buf_z(&path), false, true, 0);
    del(s, "/1/d", true);
    CHECK(seen.n == 1 && !store_has_ttl(s));
    put_ttl(s, buf_z(&path), 5);
    store_expire(s, T0 + 5 * NS_PER_S);
    CHECK(seen.n == 4);
    store_free(s);
    buf_release(&seen.text);
    buf_release(&path);
    buf_release(&json);
    buf_release(&again);
    return arg;
}

static void test_deep(void)
{
    pthread_t t;

    if (sys_thread(&t, SYS_STACK_SMALL, deep, NULL) < 0)
        abort();
    pthread_join(t, NULL);
}

/* --- A naive twin. ------------------------------------------------------- */

#define TWIN_KEYS 400
#define TWIN_WATCHERS 12

struct twin_key {
    char path[32]; /* "" is a free place */
    char value[16];
    bool dir;
    uint64_t modified, created;
    int64_t expire;
};

struct twin_watcher {
    struct seen seen;
    char path[32];
    bool recursive, stream, on;
    uint64_t since;
    int expected;
};

static struct twin_key twin[TWIN_KEYS];
static struct twin_watcher watchers[TWIN_WATCHERS];
static uint64_t twin_index;

static struct twin_key *twin_find(const char *path)
{
    for (size_t i = 0; i < TWIN_KEYS; i++)
        if (strcmp(twin[i].path, path) == 0)
            return &twin[i];
    return NULL;
}

static bool is_below(const char *path, const char *dir)
{
    size_t n = strlen(dir);

    return strncmp(path, dir, n) == 0 && path[n] == '/';
}

/* The code of walking to path's parent, or 0. */
static int twin_walk(const char *path, bool make)
{
    char part[32];

    for (size_t i = 3; path[i]; i++) {
        struct twin_key *k;

        if (path[i] != '/')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        k = twin_find(part);
        if (!k && !make)
            return 100;
        if (k && !k->dir)
            return 104;
        if (!k) {
            k = twin_find("");
            memcpy(k->path, part, i + 1);
            k->dir = true;
            k->modified = k->created = twin_index + 1;
            k->expire = 0;
        }
    }
    return 0;
}

/* Does rest, a path or "", have an element that begins with "_"? */
static bool leads_hidden(const char *rest)
{
    return strstr(rest, "/_") != NULL;
}

/* The rules of hub.c, for every watcher one by one; before any removal. */
static void twin_notify(const char *path, bool removed)
{
    for (size_t i = 0; i < TWIN_WATCHERS; i++) {
        struct twin_watcher *w = &watchers[i];
        bool same = strcmp(w->path, path) == 0;
        int n = 0;

        if (!w->on || twin_index < w->since)
            continue;
        if (removed &&
            (same || (is_below(w->path, path) && twin_find(w->path))))
            n++;
        if (same || (w->recursive && is_below(path, w->path) &&
                     !leads_hidden(path + strlen(w->path))))
            n++;
        if (n > 0 && !w->stream) {
            n = 1;
            w->on = false;
        }
        w->expected += n;
    }
}

static void twin_remove(const char *path)
{
    char copy[32];

    memcpy(copy, path, sizeof(copy)); /* path may stand in the array */
    twin_index++;
    twin_notify(copy, true);
    for (size_t i = 0; i < TWIN_KEYS; i++)
        if (strcmp(twin[i].path, copy) == 0 || is_below(twin[i].path, copy))
            twin[i].path[0] = '\0';
}

static bool twin_has_children(const char *path)
{
    for (size_t i = 0; i < TWIN_KEYS; i++)
        if (is_below(twin[i].path, path))
            return true;
    return false;
}

static int twin_compare(const struct v2_request *r, const struct twin_key *k)
{
    if (k->dir)
        return 102;
    if ((r->prev_value.n && !str_eqz(r->prev_value, k->value)) ||
        (r->prev_index && r->prev_index != k->modified))
        return 101;
    return 0;
}

static int twin_delete(const struct v2_request *r, const char *path)
{
    struct twin_key *k = twin_find(path);
    int rc = twin_walk(path, false);

    if (rc != 0 || !k)
        return rc ? rc : 100;
    if (r->prev_value.n || r->prev_index)
        rc = twin_compare(r, k);
    else if (k->dir && !r->dir && !r->recursive)
        rc = 102;
    else if (twin_has_children(path) && !r->recursive)
        rc = 108;
    if (rc == 0)
        twin_remove(path);
    return rc;
}

static void twin_write(struct twin_key *k, const struct v2_request *r,
                       bool replaces)
{
    twin_index++;
    if (replaces)
        k->created = twin_index;
    if (replaces)
        k->dir = r->dir;
    if (!k->dir || replaces)
        k->modified = twin_index;
    if (r->refresh != TRI_TRUE || r->prev_exist == TRI_FALSE)
        snprintf(k->value, sizeof(k->value), "%.*s", STR_FMT(r->val));
    k->expire = r->expiration;
    if (r->refresh != TRI_TRUE || r->prev_exist == TRI_FALSE)
        twin_notify(k->path, false);
}

static int twin_put(const struct v2_request *r, const char *path)
{
    bool compares = r->prev_value.n || r->prev_index;
    bool creates = r->prev_exist == TRI_FALSE;
    bool sets = r->prev_exist == TRI_UNSET && !compares;
    bool makes = creates || (sets && r->refresh != TRI_TRUE);
    int rc = twin_walk(path, makes);
    struct twin_key *k = twin_find(path);

    if (rc != 0)
        return rc;
    if (creates && k)
        return 105;
    if (!k && !makes)
        return 100;
    if (!creates && compares)
        rc = twin_compare(r, k);
    else if (sets && k && k->dir)
        rc = 102;
    else if (!makes && !sets && k->dir && r->val.n)
        rc = 102;
    if (rc != 0)
        return rc;
    if (!k) {
        k = twin_find("");
        snprintf(k->path, sizeof(k->path), "%s", path);
    }
    twin_write(k, r, creates || sets);
    return 0;
}

static void twin_expire(int64_t cutoff)
{
    for (;;) {
        struct twin_key *first = NULL;

        for (size_t i = 0; i < TWIN_KEYS; i++) {
            struct twin_key *k = &twin[i];

            if (!k->path[0] || !k->expire || k->expire > cutoff)
                continue;
            if (!first || k->expire < first->expire ||
                (k->expire == first->expire &&
                 strcmp(k->path, first->path) < 0))
                first = k;
        }
        if (!first)
            return;
        twin_remove(first->path);
    }
}

static int compare_twins(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The recursive, sorted listing of dir's children, as JSON. */
static void twin_list(struct buf *b, const char *dir)
{
    char *paths[TWIN_KEYS];
    size_t n = 0, len = strlen(dir);

    for (size_t i = 0; i < TWIN_KEYS; i++)
        if (is_below(twin[i].path, dir) &&
            !strchr(twin[i].path + len + 1, '/') &&
            twin[i].path[len + 1] != '_')
            paths[n++] = twin[i].path;
    qsort(paths, n, sizeof(paths[0]), compare_twins);
    if (n > 0)
        buf_adds(b, ",\"nodes\":[");
    for (size_t i = 0; i < n; i++) {
        struct twin_key *k = twin_find(paths[i]);
        char time[SYS_RFC3339_MAX];

        buf_printf(b, "%s{\"key\":\"%s\"", i ? "," : "", k->path + 2);
        if (k->dir)
            buf_adds(b, ",\"dir\":true");
        else
            buf_printf(b, ",\"value\":\"%s\"", k->value);
        if (k->expire) {
            time[sys_rfc3339(time, k->expire)] = '\0';
            buf_printf(b, ",\"expiration\":\"%s\"", time);
            if (k->expire > T0)
                buf_printf(b, ",\"ttl\":%d",
                           (int)((k->expire - T0 - 1) / NS_PER_S + 1));
        }
        if (k->dir)
            twin_list(b, k->path);
        buf_printf(
            b, ",\"modifiedIndex\":%" PRIu64 ",\"createdIndex\":%" PRIu64 "}",
            k->modified, k->created);
    }
    if (n > 0)
        buf_addc(b, ']');
}

static void check_twin(struct store *s)
{
    struct buf b = {0};

    buf_adds(&b, "{\"action\":\"get\",\"node\":{\"dir\":true");
    twin_list(&b, "/1");
    buf_adds(&b, "}}");
    CHECK(strcmp(get(s, "/1", STORE_RECURSIVE | STORE_SORTED), buf_z(&b)) == 0);
    CHECK(store_index(s) == twin_index);
    buf_release(&b);
    for (size_t i = 0; i < TWIN_WATCHERS; i++) {
        CHECK(watchers[i].seen.n == watchers[i].expected);
        watchers[i].expected = watchers[i].seen.n;
    }
}

static void random_path(char out[32])
{
    static const char *const names[] = {"a", "b", "ab", "_h"};
    size_t n = (size_t)snprintf(out, 32, "/1");

    for (unsigned depth = 1 + rnd(4); depth > 0; depth--)
        n += (size_t)snprintf(out + n, 32 - n, "/%s", names[rnd(4)]);
}

static struct v2_request random_request(struct str path)
{
    static const char *const values[] = {"", "x", "y", "z"};
    struct v2_request r = {.method = rnd(3) ? STR("PUT") : STR("DELETE"),
                           .path = path,
                           .val = str_of(values[rnd(4)])};

    r.dir = rnd(5) == 0;
    r.recursive = rnd(3) == 0;
    if (r.dir && r.method.p[0] == 'P')
        r.val = STR(""); /* the twin keeps the value of what it is given */
    if (rnd(6) == 0)
        r.prev_value = str_of(values[rnd(4)]);
    if (rnd(8) == 0)
        r.prev_index = twin_index - rnd(10);
    if (rnd(3) == 0)
        r.prev_exist = rnd(2) ? TRI_TRUE : TRI_FALSE;
    if (rnd(4) == 0)
        r.expiration = T0 + (int64_t)(1 + rnd(40)) * 100 * NS_PER_MS;
    if (r.expiration && !r.dir && rnd(3) == 0)
        r.refresh = TRI_TRUE;
    return r;
}

static void random_watcher(struct store *s)
{
    struct twin_watcher *w = &watchers[rnd(TWIN_WATCHERS)];

    if (w->on)
        store_unwatch(s, w->seen.w);
    buf_release(&w->seen.text);
    random_path(w->path);
    if (rnd(5) == 0)
        w->path[2] = '\0'; /* "/1" */
    w->recursive = rnd(2);
    w->stream = rnd(2);
    w->since = twin_index + 1 + rnd(4);
    w->expected = 0;
    w->on = true;
    CHECK(watch(s, &w->seen, w->path, w->recursive, w->stream, w->since) == 0);
}

/* Through a snapshot and back; this ends all watchers. */
static void renew(struct store *s)
{
    struct buf json = {0}, again = {0};
    uint64_t live = store_live_bytes(s);
    struct err e;

    for (size_t i = 0; i < TWIN_WATCHERS; i++) {
        if (watchers[i].on)
            store_unwatch(s, watchers[i].seen.w);
        watchers[i].on = false;
    }
    save(&json, s);
    CHECK(store_recover(s, json.data, json.len, &e) == 0);
    save(&again, s);
    CHECK(str_eq(buf_str(&json), buf_str(&again)));
    CHECK(store_live_bytes(s) == live);
    buf_release(&json);
    buf_release(&again);
}

static void test_twin(uint64_t with_seed)
{
    struct store *s = store_new();
    struct store_view *pinned = NULL;
    struct buf then = {0}, now = {0};
    int done = 0;

    rnd_seed = with_seed;
    twin_index = 0;
    memset(twin, 0, sizeof(twin));
    for (int step = 1; step <= 4000; step++) {
        char path[32];
        struct v2_request r;
        struct store_event *e = NULL;
        struct store_error err = {0};
        int rc, expected;

        if (rnd(4) == 0)
            random_watcher(s);
        if (rnd(20) == 0) {
            int64_t cutoff = T0 + (int64_t)rnd(40) * 100 * NS_PER_MS;

            store_expire(s, cutoff);
            twin_expire(cutoff);
        }
        random_path(path);
        r = random_request(str_of(path));
        expected =
            r.method.p[0] == 'P' ? twin_put(&r, path) : twin_delete(&r, path);
        rc = store_apply(s, &r, T0, &e, &err);
        CHECK(rc == expected);
        done += rc == 0;
        store_event_unref(e);
        store_error_release(&err);
        if (step % 20 == 0)
            check_twin(s);
        if (step % 500 == 0)
            renew(s);
        if (step % 300 == 0) {
            if (pinned) {
                buf_clear(&now);
                store_view_json(&now, pinned);
                CHECK(str_eq(buf_str(&then), buf_str(&now)));
            }
            store_unpin(pinned);
            pinned = store_pin(s);
            buf_clear(&then);
            store_view_json(&then, pinned);
        }
    }
    CHECK(done > 500); /* the walk is not stuck in failures */
    store_unpin(pinned);
    store_free(s);
    for (size_t i = 0; i < TWIN_WATCHERS; i++) {
        buf_release(&watchers[i].seen.text);
        watchers[i].on = false;
    }
    buf_release(&then);
    buf_release(&now);
}

int main(void)
{
    test_answers();
    test_errors();
    test_statistics();
    test_nul();
    test_error_without_cause();
    test_log_of_etcd();
    test_looking();
    test_ttl();
    test_ttl_limits();
    test_ttl_sweep();
    test_watch_kinds();
    test_watch_root();
    test_watch_hidden();
    test_watch_absent();
    test_watch_overflow();
    test_refresh();
    test_history();
    test_etcd_snapshot();
    test_last_times();
    test_unique_in_root();
    test_no_utf8();
    test_damaged_snapshot();
    test_strange_snapshot();
    test_larger_history();
    test_views();
    test_pieces();
    test_deep();
    for (uint64_t i = 1; i <= 3; i++)
        test_twin(i);
    buf_release(&answer);
    return check_done("store");
}
