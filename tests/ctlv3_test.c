/*
 * ctlv3_test.c - what etcdctl's v3 commands do without a server: words and
 * comparisons of transactions, the JSON of messages, tables, sizes, ranges,
 * command lines, and snapshots restored from a file.
 */
#include "backend.h"
#include "check.h"
#include "child.h"
#include "ctl.h"
#include "ctldb.h"
#include "ctlv3line.h"
#include "sys.h"

#include <unistd.h>

/* --- Words. ------------------------------------------------------------------------ */

/* The words of a line, each in brackets. */
static void split(const char *line, struct buf *out)
{
    struct ctlv3_words w;

    buf_clear(out);
    ctlv3_split(&w, str_of(line));
    for (size_t i = 0; i < w.n; i++)
        buf_printf(out, "[%s]", w.words[i]);
    ctlv3_words_release(&w);
}

static void test_words(void)
{
    static const struct {
        const char *line, *words;
    } cases[] = {
        {"", ""},
        {" \t ", ""},
        {"get k", "[get][k]"},
        {"  put  k\tv  ", "[put][k][v]"},
        {"put k \"two words\"", "[put][k][two words]"},
        {"put \"key \\\"with\\\" space\" \"value \\x23\"",
         "[put][key \"with\" space][value #]"},
        {"put k a\"b", "[put][k][a\"b]"},
        {"put k \"open", "[put][k][open]"},
        {"put k \"bad \\q\"", "[put][k][\"bad \\q\"]"},
        /* As etcdctl cuts them; see ctlv3words.c. */
        {"put c 'single'", "[put][c][s]"},
        {"'quoted'", "[quoted]"},
        {"\"'kept'\"", "['kept']"},
        {"put k \"\"", "[put][k][]"},
    };
    struct buf got = {0};

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        split(cases[i].line, &got);
        CHECK_STR(buf_z(&got), cases[i].words);
    }
    buf_release(&got);
}

static void test_unquote(void)
{
    static const struct {
        const char *text, *value; /* NULL: malformed */
    } cases[] = {
        {"\"a\"", "a"},
        {"\"\"", ""},
        {"\"\\n\\t\\\\\\\"\"", "\n\t\\\""},
        {"\"\\x41\\101\\u00e9\\U0001F600\"", "AA\xc3\xa9\xf0\x9f\x98\x80"},
        {"`raw\\n`", "raw\\n"},
        {"`a`b`", NULL},
        {"\"", NULL},
        {"", NULL},
        {"\"a", NULL},
        {"\"a\"b\"", NULL},
        {"\"\\ud800\"", NULL},
        {"\"\\x4\"", NULL},
        {"\"\\400\"", NULL},
        {"\"\\'\"", NULL},
        {"plain", NULL},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf b = {0};
        bool ok = ctlv3_unquote(str_of(cases[i].text), &b);

        CHECK(ok == (cases[i].value != NULL));
        if (ok && cases[i].value)
            CHECK_STR(buf_z(&b), cases[i].value);
        buf_release(&b);
    }
}

/* --- Comparisons. --------------------------------------------------------------------- */

static void test_compare(void)
{
    static const struct {
        const char *line;
        const char *result; /* as JSON, or what is wrong */
    } cases[] = {
        {"value(\"k\") = \"v\"", "{\"target\":3,\"key\":\"aw==\",\"Value\":"
                                 "{\"Value\":\"dg==\"}}"},
        {"ver(\"k\") > \"1\"",
         "{\"result\":1,\"key\":\"aw==\",\"Version\":{\"Version\":1}}"},
        {"create(\"k\")  !=  \"7\"",
         "{\"result\":3,\"target\":1,\"key\":\"aw==\",\"Create\":"
         "{\"CreateRevision\":7}}"},
        {"m(\"k\") < \"-2\"",
         "{\"result\":2,\"target\":2,\"key\":\"aw==\",\"Mod\":"
         "{\"ModRevision\":-2}}"},
        {"lease(\"k\") = \"ff\"",
         "{\"target\":4,\"key\":\"aw==\",\"Lease\":{\"Lease\":255}}"},
        {"foo", "malformed comparison: foo"},
        {"nope(\"a\") = \"1\"",
         "malformed comparison: nope(\"a\") = \"1\" (unknown target nope)"},
        {"value(k) = v",
         "malformed comparison: value(k) = v; got value(\"\")  \"\""},
        {"ver(\"a\") = \"x\"",
         "invalid txn compare request: ver(\"a\") = \"x\""},
        {"ver(\"a\") ~ \"1\"", "unknown result op: ~"},
        {"ver(\"a\"", "malformed comparison: ver(\"a\"; got ver(\"a\")  \"\""},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct arena a = {.limit = 1 << 20};
        struct rpcpb_compare c;
        struct buf b = {0};
        struct err e;

        if (ctlv3_parse_compare(&a, str_of(cases[i].line), &c, &e) == 0)
            ctlv3_json(&b, &rpcpb_compare_desc, &c);
        else
            buf_adds(&b, e.msg);
        CHECK_STR(buf_z(&b), cases[i].result);
        buf_release(&b);
        arena_release(&a);
    }
}

/* --- Output. ---------------------------------------------------------------------------- */

static void test_json(void)
{
    struct rpcpb_response_header header = {14841639068965178418u,
                                           10276657743932975437u, 6, 2};
    struct rpcpb_key_value kv = {.key = STR("foo"),
                                 .create_revision = 2,
                                 .mod_revision = 4,
                                 .version = 3,
                                 .value = STR("bar2")};
    struct rpcpb_range_response range = {.header = &header};
    struct rpcpb_put_response put = {.header = &header, .prev_kv = &kv};
    struct rpcpb_response_op op = {.response_put = &put};
    struct rpcpb_txn_response txn = {.succeeded = true};
    struct str urls[] = {STR("http://a:1"), STR("http://b<2")};
    struct rpcpb_member m = {.ID = 18446744073709551615u};
    struct buf b = {0};

    ctlv3_json(&b, &rpcpb_put_response_desc, &put);
    CHECK_STR(buf_z(&b),
              "{\"header\":{\"cluster_id\":14841639068965178418,"
              "\"member_id\":10276657743932975437,\"revision\":6,"
              "\"raft_term\":2},\"prev_kv\":{\"key\":\"Zm9v\","
              "\"create_revision\":2,\"mod_revision\":4,\"version\":3,"
              "\"value\":\"YmFyMg==\"}}");
    buf_clear(&b);
    header = (struct rpcpb_response_header){.revision = 9};
    put.prev_kv = NULL;
    txn.responses.items = &op;
    txn.responses.n = 1;
    ctlv3_json(&b, &rpcpb_txn_response_desc, &txn);
    CHECK_STR(buf_z(&b), "{\"succeeded\":true,\"responses\":[{\"Response\":"
                         "{\"ResponsePut\":{\"header\":{\"revision\":9}}}}]}");
    buf_clear(&b);
    range.header = NULL;
    ctlv3_json(&b, &rpcpb_range_response_desc, &range);
    CHECK_STR(buf_z(&b), "{}");
    buf_clear(&b);
    m.peerURLs.items = urls;
    m.peerURLs.n = ARRAY_LEN(urls);
    ctlv3_json(&b, &rpcpb_member_desc, &m);
    CHECK_STR(buf_z(&b), "{\"ID\":18446744073709551615,\"peerURLs\":["
                         "\"http://a:1\",\"http://b\\u003c2\"]}");
    buf_release(&b);
}

static void test_sizes(void)
{
    static const struct {
        uint64_t n;
        const char *text;
    } cases[] = {
        {0, "0 B"},          {9, "9 B"},
        {10, "10 B"},        {999, "999 B"},
        {1000, "1.0 kB"},    {20480, "20 kB"},
        {24576, "25 kB"},    {1500000, "1.5 MB"},
        {3076096, "3.1 MB"}, {2147483648, "2.1 GB"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf b = {0};

        ctlv3_human_bytes(&b, cases[i].n);
        CHECK_STR(buf_z(&b), cases[i].text);
        buf_release(&b);
    }
}

static void test_ranges(void)
{
    struct ctlv3 v3 = {.arena.limit = 1 << 20};
    struct ctl c = {.v3 = &v3};
    struct str open_end = STR("\0");
    struct ctlv3_range r = ctlv3_range_of(&c, "a", "b", false, false);

    CHECK(str_eqz(r.key, "a") && str_eqz(r.end, "b"));
    r = ctlv3_range_of(&c, "foo", NULL, true, false);
    CHECK(str_eqz(r.key, "foo") && str_eqz(r.end, "fop"));
    r = ctlv3_range_of(&c, "a\xff\xff", NULL, true, false);
    CHECK(str_eqz(r.end, "b"));
    r = ctlv3_range_of(&c, "\xff", NULL, true, false);
    CHECK(str_eq(r.end, open_end));
    r = ctlv3_range_of(&c, "", NULL, true, false);
    CHECK(str_eq(r.key, open_end) && str_eq(r.end, open_end));
    r = ctlv3_range_of(&c, "z", NULL, false, true);
    CHECK(str_eqz(r.key, "z") && str_eq(r.end, open_end));
    arena_release(&v3.arena);
}

/* --- Command lines. ------------------------------------------------------------------------ */

static struct buf out;

/* Run one program in a process of its own; its exit code, and its output in
 * out. */
static int run(int (*program)(int, char **), const char *const *args)
{
    char *argv[16] = {"etcdctl"};
    int argc = 1;

    while (args[argc - 1]) {
        argv[argc] = (char *)(uintptr_t)args[argc - 1];
        argc++;
    }
    buf_clear(&out);
    return run_main(program, argc, argv, &out);
}

#define CTL(...) run(etcdctl_main, (const char *const[]){__VA_ARGS__, NULL})
#define UTL(...) run(etcdutl_main, (const char *const[]){__VA_ARGS__, NULL})

static bool says(const char *text)
{
    return strstr(buf_z(&out), text) != NULL;
}

static void test_lines(void)
{
    setenv("ETCDCTL_API", "3", 1);
    CHECK(CTL("put") == 128);
    CHECK_STR(buf_z(&out), "Error: put command needs 1 argument and input "
                           "from stdin or 2 arguments\n");
    CHECK(CTL("get", "a", "b", "--prefix") == 128);
    CHECK(CTL("get", "--order=NOPE", "a") == 4);
    CHECK_STR(buf_z(&out), "Error: bad sort order NOPE\n");
    CHECK(CTL("get", "a", "-wnonsense") == 4);
    CHECK_STR(buf_z(&out), "Error: unsupported output format\n");
    CHECK(CTL("get", "a", "--rev=x") == 1);
    CHECK(says("Error: invalid argument \"x\" for \"--rev\" flag: "
               "strconv.ParseInt: parsing \"x\": invalid syntax\n"));
    CHECK(CTL("get", "a", "--dial-timeout=5") == 1);
    CHECK(says("time: missing unit in duration \"5\""));
    CHECK(CTL("get", "a", "--dial-timeout=1h2x") == 1);
    CHECK(says("time: unknown unit \"x\" in duration \"1h2x\""));
    CHECK(CTL("get", "a", "--dial-timeout=x") == 1);
    CHECK(says("time: invalid duration \"x\""));
    CHECK(CTL("get", "a", "--dial-timeout=9999999999h") == 1);
    CHECK(says("time: invalid duration \"9999999999h\""));
    CHECK(CTL("elect", "--listen=x", "a") == 1);
    CHECK(says("for \"-l, --listen\" flag: strconv.ParseBool"));
    CHECK(CTL("get", "--bogus", "a") == 1 && says("unknown flag: --bogus"));
    CHECK(CTL("-x") == 1 && says("unknown shorthand flag: 'x' in -x"));
    CHECK(CTL("get", "a", "-w") == 1 &&
          says("flag needs an argument: 'w' in -w"));
    CHECK(CTL("bogus") == 1 && says("unknown command \"bogus\""));
    /* No error, as from etcdctl, but what is wrong comes last. */
    CHECK(
        CTL("lease", "bogus") == 0 && says("lease timetolive") &&
        says("W | etcdctl: unknown command \"bogus\" for \"etcdctl lease\"\n"));
    CHECK(CTL("lease", "bogus", "--bogus") == 1 && says("unknown flag: --"));
    CHECK(CTL("lease", "--help") == 0 && !says("unknown"));
    CHECK(CTL("lease", "-x") == 1 && says("unknown shorthand flag: 'x'"));
    CHECK(CTL("help", "bogus") == 0 && says("make-mirror") &&
          says("Unknown help topic [`bogus`]\n"));
    /* Beginnings of names; "a" is that of alarm and auth. */
    CHECK(CTL("compact") == 128 && says("compaction command needs 1"));
    CHECK(CTL("role", "grant") == 128 && says("role grant command requires"));
    CHECK(CTL("a") == 1);
    CHECK(CTL("watch") == 128 && says("Error: bad number of arguments\n"));
    CHECK(CTL("watch", "--") == 128);
    CHECK(says("Error: bad number of arguments (found separator --, but no "
               "commands)\n"));
    CHECK(CTL("watch", "a", "b", "c", "--") == 128 && says("found separator"));
    setenv("ETCDCTL_WATCH_RANGE_END", "z", 1);
    CHECK(CTL("watch", "a") == 128 && says("ETCDCTL_WATCH_KEY is empty but got "
                                           "ETCDCTL_WATCH_RANGE_END=\"z\"\n"));
    unsetenv("ETCDCTL_WATCH_RANGE_END");
    CHECK(CTL("help", "lease", "grant") == 0 && says("lease grant - "));
    CHECK(CTL("lease") == 0 && says("lease timetolive"));
    CHECK(CTL("--help") == 0 && says("make-mirror") && says("cluster-health"));
    setenv("ETCDCTL_ENDPOINTS", "127.0.0.1:1", 1);
    CHECK(CTL("--endpoints=127.0.0.1:2", "get", "a") == 1);
    CHECK(says("conflicting environment variable \"ETCDCTL_ENDPOINTS\""));
    CHECK(CTL("get", "a", "--command-timeout=100ms") == 1);
    CHECK(says("Error: context deadline exceeded\n"));
    CHECK(says("W | etcdctl: no etcd answers at 127.0.0.1:1 (dial tcp "
               "127.0.0.1:1: connect: connection refused)"));
    unsetenv("ETCDCTL_ENDPOINTS");
}

/* What can be told without asking anybody, in the order in which it is. */
static void test_clients(void)
{
    static const char none[] = "Error: etcdclient: no available endpoints\n";
    static const char missing[] =
        "Error: open /nonexistent: no such file or directory\n";

    setenv("ETCDCTL_API", "3", 1);
    CHECK(CTL("get", "--endpoints=") == 128); /* arguments first */
    CHECK(CTL("get", "a", "--endpoints=") == 2);
    CHECK_STR(buf_z(&out), none);
    CHECK(CTL("endpoint", "status", "--endpoints=") == 2);
    CHECK_STR(buf_z(&out), none);
    CHECK(CTL("move-leader", "1", "--endpoints=,") == 2);
    CHECK_STR(buf_z(&out), none);
    CHECK(CTL("version", "--endpoints=") == 0);
    CHECK(CTL("get", "a", "--cert=", "--key=x", "--endpoints=") == 128);
    CHECK_STR(buf_z(&out), "Error: empty string is passed to --cert option\n");
    CHECK(CTL("defrag", "--key=") == 128);
    CHECK_STR(buf_z(&out), "Error: empty string is passed to --key option\n");
    CHECK(CTL("put", "a", "b", "--cacert=/nonexistent", "--endpoints=") == 128);
    CHECK_STR(buf_z(&out), missing);
    CHECK(CTL("endpoint", "health", "--cacert=/nonexistent") == 128);
    CHECK_STR(buf_z(&out), missing);
    CHECK(CTL("txn", "--cacert=/nonexistent") == 128); /* before it is typed */
    CHECK_STR(buf_z(&out), missing);
    CHECK(CTL("make-mirror", "a", "--dest-cacert=/nonexistent") == 128);
    CHECK_STR(buf_z(&out), missing);
    setenv("ETCDCTL_CA_FILE", "/nonexistent", 1); /* of v2 */
    CHECK(CTL("get", "a", "--endpoints=") == 2 && says(none));
    unsetenv("ETCDCTL_CA_FILE");
    CHECK(CTL("get", "a", "--discovery-srv=.") == 1);
    CHECK(says("Error: dns lookup errors: "));
}

static void test_time_is_up(void)
{
    static const char late[] = "Error: context deadline exceeded\n";

    CHECK(CTL("get", "a", "--endpoints=127.0.0.1:1", "--command-timeout=0") ==
          1);
    CHECK_STR(buf_z(&out), late);
    CHECK(CTL("get", "a", "--endpoints=127.0.0.1:1", "--command-timeout=-1s") ==
          1);
    CHECK_STR(buf_z(&out), late);
    CHECK(CTL("snapshot", "save", "none", "--endpoints=127.0.0.1:1",
              "--command-timeout=100ms") == 5);
    CHECK(says(late) && !sys_exists("none") && !sys_exists("none.part"));
    /* A login has the time of dialling, a lease that and a second. */
    CHECK(CTL("get", "a", "--endpoints=127.0.0.1:1", "--user=a:b",
              "--dial-timeout=100ms", "--command-timeout=1h") == 2);
    CHECK(says(late));
    CHECK(CTL("lease", "keep-alive", "1", "--endpoints=127.0.0.1:1",
              "--dial-timeout=10ms") == 0);
    CHECK_STR(buf_z(&out), "lease 0000000000000001 expired or revoked.\n");
}

static void test_one_endpoint(void)
{
    CHECK(CTL("snapshot", "save", "a", "--endpoints=b:1,c:2") == 5);
    CHECK_STR(buf_z(&out), "Error: snapshot must be requested to one selected "
                           "node, not multiple [b:1 c:2]\n");
    CHECK(CTL("snapshot", "save", "/nonexistent/a") == 5);
    CHECK_STR(buf_z(&out), "Error: could not open /nonexistent/a.part (open "
                           "/nonexistent/a.part: no such file or directory)\n");
}

static void test_members(void)
{
    CHECK(CTL("move-leader", "1", "--endpoints=127.0.0.1:1",
              "--command-timeout=100ms") == 1);
    CHECK_STR(buf_z(&out), "Error: context deadline exceeded\n");
    CHECK(CTL("member", "add", "a", "http://b") == 128);
    CHECK_STR(buf_z(&out), "Error: too many arguments, did you mean "
                           "--peer-urls=http://b\n");
    CHECK(CTL("member", "add", "a", "b") == 128);
    CHECK_STR(buf_z(&out), "Error: too many arguments\n");
}

/* --- Files. -------------------------------------------------------------------------------- */

/* A database of two keys, of a cluster of one member. */
static size_t no_versions(void *arg, struct mvcc_cursor *c, int64_t last,
                          struct mvcc_kv **kvs, size_t max)
{
    return mvcc_log_next(arg, c, last, kvs, max);
}

static void make_db(const char *path)
{
    struct mvcc *m = mvcc_new();
    struct backend_image im = {0};
    struct backend_source src = {&im, no_versions, m};
    struct backend_meta meta = {
        .consistent_index = 77, .finished = -1, .scheduled = -1};
    struct err e;

    backend_set_meta(&im, &meta);
    backend_add_member(&im, 0xabc, STR("{\"id\":2748}"));
    backend_add_lease(&im, 5, 100, 0);
    im.last = mvcc_revision(m);
    CHECK(backend_save(path, &src, true, NULL, &e) == 0);
    backend_image_release(&im);
    mvcc_free(m);
}

/* Items of a bucket in a file, by name of their keys. */
static void list_bucket(const char *path, const char *bucket, struct buf *b)
{
    struct bolt *db;
    struct bolt_cursor *c = NULL;
    struct bolt_item item;
    struct err e;

    buf_clear(b);
    if (bolt_open(path, &db, &e) != 0) {
        buf_adds(b, e.msg);
        return;
    }
    if (bolt_bucket(db, str_of(bucket), &c, &e) > 0) {
        while (bolt_next(c, &item, &e) > 0) {
            buf_addstr(b, item.key);
            if (str_eqz(item.key, "consistent_index"))
                buf_printf(b, "=%d", (uint8_t)item.value.p[7]);
            buf_addc(b, ' ');
        }
    }
    bolt_cursor_free(c);
    bolt_close(db);
}

static void test_files(void)
{
    char dir[] = "/tmp/ctlv3-test.XXXXXX";
    struct buf b = {0};
    char *db, *data, *restored;
    struct err e;

    if (!mkdtemp(dir))
        abort();
    db = xasprintf("%s/snap.db", dir);
    data = xasprintf("%s/data", dir);
    restored = xasprintf("%s/member/snap/db", data);
    make_db(db);

    CHECK(UTL("snapshot", "status", db, "-w", "json") == 0);
    CHECK(says("\"revision\":") && says("\"totalSize\":"));
    CHECK(UTL("snapshot", "status", "/nonexistent") == 1);
    CHECK_STR(buf_z(&out),
              "Error: stat /nonexistent: no such file or directory\n");
    CHECK(UTL("snapshot", "restore", db, "--data-dir", data) == 1);
    CHECK(says("snapshot missing hash but --skip-hash-check=false"));
    CHECK(UTL("snapshot", "restore", db, "--data-dir", data,
              "--skip-hash-check", "--name", "other") == 1);
    CHECK(UTL("snapshot", "restore", db, "--data-dir", data,
              "--skip-hash-check") == 0);
    CHECK(says("added member 8e9e05c52164694d [http://localhost:2380] to "
               "cluster cdf818194e3a8c32\n"));
    list_bucket(restored, "members", &b);
    CHECK_STR(buf_z(&b), "");
    list_bucket(restored, "meta", &b);
    CHECK(strstr(buf_z(&b), "consistent_index=1 ") != NULL);
    list_bucket(restored, "lease", &b);
    CHECK(b.len == 9);
    CHECK(UTL("snapshot", "restore", db, "--data-dir", data,
              "--skip-hash-check") == 1);
    CHECK(says("exists"));
    /* The plan before the file, as etcdctl looks at them. */
    CHECK(UTL("snapshot", "restore", "/nonexistent", "--data-dir", dir) == 1);
    CHECK(says("Error: data-dir \"") && says("\" exists\n"));
    CHECK(UTL("snapshot", "restore", "/nonexistent", "--name", "x",
              "--data-dir", dir) == 1);
    CHECK(says("Error: couldn't find local name \"x\" in the initial"));

    CHECK(UTL("defrag", "--data-dir", data) == 0);
    list_bucket(restored, "meta", &b);
    CHECK(strstr(buf_z(&b), "consistent_index=1 ") != NULL);
    CHECK(CTL("defrag", "--data-dir", data, "--endpoints=") == 0);
    CHECK_STR(buf_z(&out), "");
    CHECK(CTL("defrag", "--data-dir", "/nonexistent") == 1);
    CHECK(says("Error: ") && says("/nonexistent/member/snap/db"));
    CHECK(UTL("hashkv", restored) == 0);
    CHECK(UTL("defrag") == 128);
    CHECK(UTL("version") == 0 && says("etcdutl version: "));

    CHECK(sys_remove_all(dir, &e) == 0);
    free(db);
    free(data);
    free(restored);
    buf_release(&b);
}

int main(void)
{
    test_words();
    test_unquote();
    test_compare();
    test_json();
    test_sizes();
    test_ranges();
    test_lines();
    test_clients();
    test_time_is_up();
    test_one_endpoint();
    test_members();
    test_files();
    buf_release(&out);
    return check_done("ctlv3");
}
