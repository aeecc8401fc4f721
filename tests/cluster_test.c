/*
 * cluster_test.c - membership: ids, JSON, flags, and what each change does to
 * the store.
 */
#include "check.h"

#include "cluster.h"
#include "log.h"

#include <inttypes.h>

#define TOKEN "etcd-cluster-token"
#define THREE                                                                  \
    "etcd-1=http://192.168.108.128:2380,etcd-2=http://192.168.108.129:2380,"   \
    "etcd-3=http://192.168.108.130:2380"

/* --- Ids. --------------------------------------------------------------- */

static uint64_t id_of(const char *urls, const char *token, const int64_t *now)
{
    struct url_list l;
    struct err e;
    uint64_t id;

    CHECK(url_list_parse(str_of(urls), &l, &e) == 0);
    id = member_id(&l, token, now);
    url_list_release(&l);
    return id;
}

static void test_ids(void)
{
    int64_t now = 1500000000;

    CHECK(id_of("http://192.168.108.128:2380", TOKEN, NULL) ==
          UINT64_C(0x9c359d48a2f34938));
    CHECK(id_of("http://192.168.108.129:2380", TOKEN, NULL) ==
          UINT64_C(0xf3c45714407d68f3));
    CHECK(id_of("http://192.168.108.130:2380", TOKEN, NULL) ==
          UINT64_C(0x2618ce5cd761aa8e));
    CHECK(id_of("http://localhost:2380", "etcd-cluster", NULL) ==
          UINT64_C(0x8e9e05c52164694d));
    CHECK(id_of("http://127.0.0.1:13001", "etcd-cluster", NULL) ==
          UINT64_C(0x1967cf71cfbcf506));
    CHECK(id_of("http://10.1.2.3:7001", "conformance-token", NULL) ==
          UINT64_C(0x25e1b668dd7ab3b8));
    /* URLs are sorted, and the time makes an id new. */
    CHECK(id_of("http://b:1,http://a:1", "", NULL) ==
          id_of("http://a:1,http://b:1", "", NULL));
    CHECK(id_of("http://a:1", "", &now) != id_of("http://a:1", "", NULL));
    CHECK(id_of("http://a:1", "", &now) ==
          id_of("http://a:1", "1500000000", NULL));
}

/* --- JSON. -------------------------------------------------------------- */

static struct member parse(const char *json, bool *is_promote)
{
    struct member m = {0};
    struct err e = {0};

    CHECK(member_from_json(json, strlen(json), &m, is_promote, &e) == 0);
    return m;
}

static void check_round_trip(const char *json, int is_promote)
{
    struct buf b = {0};
    bool promote;
    struct member m = parse(json, &promote);

    member_json(&b, &m, is_promote);
    CHECK_STR(buf_z(&b), json);
    CHECK(promote == (is_promote > 0));
    member_release(&m);
    buf_release(&b);
}

static void test_json(void)
{
    static const char *const bad[] = {
        "",
        "[]",
        "7",
        "{",
        "{\"id\":\"x\"}",
        "{\"id\":1,\"peerURLs\":7}",
        "{\"id\":1,\"peerURLs\":[7]}",
        "{\"id\":1,\"clientURLs\":[{}]}",
        "{\"id\":1,\"peerURLs\":[\"a\\u0000b\"]}",
        "{\"id\":-1}",
    };
    struct member m;
    struct err e;

    check_round_trip("{\"id\":10276657743932975437,\"peerURLs\":"
                     "[\"http://localhost:2380\"],\"name\":\"default\"}",
                     -1);
    check_round_trip("{\"id\":5,\"peerURLs\":[\"http://a:1\",\"http://b:2\"],"
                     "\"isLearner\":true,\"isPromote\":false}",
                     0);
    check_round_trip("{\"id\":5,\"peerURLs\":[\"http://a:1\"],\"name\":"
                     "\"x\\u003cy\",\"clientURLs\":[\"http://c:1\","
                     "\"http://d:1\"],\"isPromote\":true}",
                     1);
    check_round_trip("{\"id\":5,\"peerURLs\":null}", -1);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        CHECK(member_from_json(bad[i], strlen(bad[i]), &m, NULL, &e) ==
              CLUSTER_EINVAL);
}

static void test_members_json(void)
{
    static const char json[] = "[{\"id\":2,\"peerURLs\":[\"http://b:1\"]},"
                               "{\"id\":1,\"peerURLs\":[\"http://a:1\"]}]";
    struct member *m;
    struct err e;
    size_t n;

    CHECK(members_from_json(json, strlen(json), &m, &n, &e) == 0);
    CHECK(n == 2 && m[0].id == 2 && m[1].id == 1);
    members_free(m, n);
    CHECK(members_from_json("[]", 2, &m, &n, &e) == 0 && n == 0);
    members_free(m, n);
    CHECK(members_from_json("{}", 2, &m, &n, &e) < 0);
    CHECK(members_from_json("[{\"id\":1},7]", 12, &m, &n, &e) < 0);
}

static void test_attributes(void)
{
    struct url_list urls = {0};
    struct buf b = {0};
    struct err e;

    cluster_attributes_path(&b, 0xabc);
    CHECK_STR(buf_z(&b), "/0/members/abc/attributes");
    buf_clear(&b);
    cluster_attributes_json(&b, "n\"1", &urls);
    CHECK_STR(buf_z(&b), "{\"name\":\"n\\\"1\"}");
    buf_clear(&b);
    CHECK(url_list_parse(STR("http://a:1,http://b:1"), &urls, &e) == 0);
    cluster_attributes_json(&b, "n1", &urls);
    CHECK_STR(buf_z(&b), "{\"name\":\"n1\",\"clientURLs\":[\"http://a:1\","
                         "\"http://b:1\"]}");
    url_list_release(&urls);
    buf_release(&b);
}

/* --- Flags, and a running cluster. -------------------------------------- */

static void check_flag_error(const char *flag, const char *want)
{
    struct cluster *c = cluster_new();
    struct err e = {0};

    CHECK(cluster_from_flag(c, flag, TOKEN, &e) == CLUSTER_EINVAL);
    CHECK_STR(e.msg, want);
    CHECK(cluster_size(c) == 0);
    cluster_free(c);
}

static struct cluster *from_flag(const char *flag, const char *token)
{
    struct cluster *c = cluster_new();
    struct err e = {0};

    CHECK(cluster_from_flag(c, flag, token, &e) == 0);
    CHECK_STR(e.msg, "");
    return c;
}

static void test_flag(void)
{
    struct cluster *c = from_flag(THREE, TOKEN);
    struct member *all, m;

    CHECK(cluster_members(c, &all) == 3);
    CHECK(all[0].id == UINT64_C(0x2618ce5cd761aa8e));
    CHECK(all[1].id == UINT64_C(0x9c359d48a2f34938));
    CHECK(all[2].id == UINT64_C(0xf3c45714407d68f3));
    CHECK_STR(all[2].name, "etcd-2");
    members_free(all, 3);
    CHECK(cluster_member_by_name(c, "etcd-3", &m));
    CHECK_STR(m.peer_urls[0], "http://192.168.108.130:2380");
    member_release(&m);
    CHECK(!cluster_member_by_name(c, "etcd-4", &m));
    cluster_free(c);

    c = from_flag("default=http://localhost:2380", "etcd-cluster");
    CHECK(cluster_id(c) == UINT64_C(0xcdf818194e3a8c32));
    cluster_free(c);

    c = from_flag("a=http://h:2,b=http://h:3,a=http://h:1", TOKEN);
    CHECK(cluster_size(c) == 2 && cluster_member_by_name(c, "a", &m));
    CHECK(m.n_peer_urls == 2);
    CHECK_STR(m.peer_urls[0], "http://h:1");
    member_release(&m);
    cluster_free(c);

    check_flag_error("", "initial cluster unset and no discovery URL found");
    check_flag_error("a", "error setting up initial cluster: URL scheme must "
                          "be http, https, unix, or unixs: ");
    check_flag_error("b=http://h:1,a=http://h:1",
                     "initial cluster a=http://h:1,b=http://h:1 has "
                     "duplicate url");
}

static void check_local(const char *flag, const char *name,
                        const char *advertised, const char *want)
{
    struct cluster *c = from_flag(flag, TOKEN);
    struct url_list urls;
    struct err e = {0};
    int rc;

    CHECK(url_list_parse(str_of(advertised), &urls, &e) == 0);
    rc = cluster_check_local(c, name, &urls, &e);
    CHECK(rc == (*want ? CLUSTER_EINVAL : 0));
    CHECK_STR(e.msg, want);
    url_list_release(&urls);
    cluster_free(c);
}

/* The words are those of etcd 3.4. */
static void test_local(void)
{
    check_local("x=http://127.0.0.1:1", "x", "http://127.0.0.1:1", "");
    check_local("x=http://localhost:1", "x", "http://127.0.0.1:1", "");
    check_local("x=http://127.0.0.1:1", "y", "http://127.0.0.1:1",
                "couldn't find local name \"y\" in the initial cluster "
                "configuration");
    check_local("x=http://127.0.0.1:9", "x", "http://127.0.0.1:1",
                "--initial-cluster has x=http://127.0.0.1:9 but missing from "
                "--initial-advertise-peer-urls=http://127.0.0.1:1 (resolved "
                "urls: \"http://127.0.0.1:1\" != \"http://127.0.0.1:9\")");
    check_local("x=http://127.0.0.1:1,x=http://127.0.0.1:3", "x",
                "http://127.0.0.1:1",
                "--initial-cluster has x=http://127.0.0.1:3 but missing from "
                "--initial-advertise-peer-urls=http://127.0.0.1:1 "
                "(len([\"http://127.0.0.1:1\"]) != "
                "len([\"http://127.0.0.1:1\" \"http://127.0.0.1:3\"]))");
    check_local("x=http://127.0.0.1:1", "x",
                "http://127.0.0.1:1,http://127.0.0.1:7",
                "--initial-advertise-peer-urls has http://127.0.0.1:7 but "
                "missing from --initial-cluster=x=http://127.0.0.1:1,"
                "x=http://127.0.0.1:7");
}

static struct member make(uint64_t id, const char *name, const char *url)
{
    struct member m = {.id = id, .name = xstrdup(name), .n_peer_urls = 1};

    m.peer_urls = xcalloc(1, sizeof(char *));
    m.peer_urls[0] = xstrdup(url);
    return m;
}

static void test_match(void)
{
    struct cluster *c =
        from_flag("a=http://127.0.0.1:1,b=http://127.0.0.1:2", TOKEN);
    struct member theirs[2] = {make(20, "b", "http://127.0.0.1:2"),
                               make(10, "", "http://127.0.0.1:3")};
    struct member m;
    struct err e = {0};

    CHECK(cluster_match(c, theirs, 1, 5, &e) == CLUSTER_EINVAL);
    CHECK_STR(e.msg, "error validating peerURLs {ClusterID:5 Members:[&{ID:14 "
                     "RaftAttributes:{PeerURLs:[http://127.0.0.1:2] "
                     "IsLearner:false} Attributes:{Name:b ClientURLs:[]}}] "
                     "RemovedMemberIDs:[]}: member count is unequal");
    CHECK(cluster_match(c, theirs, 2, 5, &e) == CLUSTER_EINVAL);
    CHECK(strstr(e.msg, ": unmatched member while checking PeerURLs "
                        "(resolved urls: \"http://127.0.0.1:3\" != "
                        "\"http://127.0.0.1:1\")"));

    free(theirs[1].peer_urls[0]);
    theirs[1].peer_urls[0] = xstrdup("http://127.0.0.1:1");
    CHECK(cluster_match(c, theirs, 2, 5, &e) == 0);
    CHECK(cluster_id(c) == 5 && cluster_size(c) == 2);
    CHECK(cluster_member(c, 10, &m)); /* our name, their id */
    CHECK_STR(m.name, "a");
    member_release(&m);
    member_release(&theirs[0]);
    member_release(&theirs[1]);
    cluster_free(c);
}

/* --- Changes. ----------------------------------------------------------- */

static struct raft_conf_change change(enum raft_conf_change_type type,
                                      uint64_t id, const char *context)
{
    return (struct raft_conf_change){
        .type = type, .node_id = id, .context = str_of(context)};
}

static int apply(struct cluster *c, struct store *s,
                 enum raft_conf_change_type type, uint64_t id,
                 const char *context)
{
    struct raft_conf_change cc = change(type, id, context);
    int rc = cluster_validate(c, &cc, 1);

    if (rc == 0)
        cluster_apply(c, s, &cc, 1);
    return rc;
}

static void check_file(const struct store *s, const char *path,
                       const char *want)
{
    const struct blob *v = store_peek(s, str_of(path));
    char *text = v ? xstrndup((const char *)v->data, v->len) : NULL;

    CHECK_STR(text ? text : "(none)", want);
    free(text);
}

#define A "{\"id\":10,\"peerURLs\":[\"http://a:1\"],\"name\":\"a\"}"
#define B "{\"id\":11,\"peerURLs\":[\"http://b:1\"],\"name\":\"b\"}"
#define B_PLAIN "{\"id\":11,\"peerURLs\":[\"http://b:1\"]}"
#define L "{\"id\":12,\"peerURLs\":[\"http://l:1\"],\"isLearner\":true}"

static void test_add_and_remove(struct cluster *c, struct store *s)
{
    struct member m;

    CHECK(apply(c, s, RAFT_ADD_NODE, 10, A) == 0);
    CHECK(store_index(s) == 1);
    check_file(s, "/0/members/a/raftAttributes",
               "{\"peerURLs\":[\"http://a:1\"]}");
    check_file(s, "/0/members/a/attributes", "(none)");
    CHECK(cluster_member(c, 10, &m));
    CHECK_STR(m.name, "a");
    member_release(&m);

    CHECK(apply(c, s, RAFT_ADD_NODE, 10, A) == CLUSTER_EID_EXISTS);
    CHECK(apply(c, s, RAFT_ADD_NODE, 13,
                "{\"id\":13,\"peerURLs\":[\"http://a:1\"]}") ==
          CLUSTER_EURL_EXISTS);
    CHECK(apply(c, s, RAFT_ADD_NODE, 13, A) == CLUSTER_EINVAL);
    CHECK(apply(c, s, RAFT_ADD_NODE, 13, "{") == CLUSTER_EINVAL);
    CHECK(apply(c, s, RAFT_REMOVE_NODE, 99, "") == CLUSTER_EID_NOT_FOUND);
    CHECK(store_index(s) == 1);

    CHECK(apply(c, s, RAFT_ADD_NODE, 11, B) == 0);
    CHECK(apply(c, s, RAFT_REMOVE_NODE, 11, "") == 0);
    CHECK(store_index(s) == 4); /* + create, + delete, + create */
    CHECK(!store_is_dir(s, STR("/0/members/b")));
    check_file(s, "/0/removed_members/b", "");
    CHECK(cluster_is_removed(c, 11) && !cluster_is_removed(c, 10));
    CHECK(apply(c, s, RAFT_ADD_NODE, 11, B) == CLUSTER_EID_REMOVED);
    CHECK(apply(c, s, RAFT_REMOVE_NODE, 11, "") == CLUSTER_EID_REMOVED);
    CHECK(cluster_skips_put(c, STR("/0/members/b/attributes")));
    CHECK(!cluster_skips_put(c, STR("/0/members/a/attributes")));
    CHECK(!cluster_skips_put(c, STR("/1/x")));
}

static void test_update_and_learner(struct cluster *c, struct store *s)
{
    struct member m;

    CHECK(apply(c, s, RAFT_UPDATE_NODE, 10,
                "{\"id\":10,\"peerURLs\":[\"http://a:2\"]}") == 0);
    CHECK(store_index(s) == 5);
    check_file(s, "/0/members/a/raftAttributes",
               "{\"peerURLs\":[\"http://a:2\"]}");
    CHECK(cluster_member(c, 10, &m));
    CHECK_STR(m.name, "a"); /* an update leaves the attributes alone */
    member_release(&m);

    CHECK(apply(c, s, RAFT_ADD_LEARNER_NODE, 12, L) == 0);
    CHECK(store_index(s) == 6);
    check_file(s, "/0/members/c/raftAttributes",
               "{\"peerURLs\":[\"http://l:1\"],\"isLearner\":true}");
    CHECK(apply(c, s, RAFT_ADD_LEARNER_NODE, 14,
                "{\"id\":14,\"peerURLs\":[\"http://m:1\"],\"isLearner\":"
                "true}") == CLUSTER_ETOO_MANY_LEARNERS);
    CHECK(apply(c, s, RAFT_UPDATE_NODE, 12,
                "{\"id\":12,\"peerURLs\":[\"http://a:2\"]}") ==
          CLUSTER_EURL_EXISTS);
    CHECK(apply(c, s, RAFT_UPDATE_NODE, 15,
                "{\"id\":15,\"peerURLs\":[\"http://z:2\"]}") ==
          CLUSTER_EID_NOT_FOUND);

    CHECK(apply(c, s, RAFT_ADD_NODE, 10,
                "{\"id\":10,\"peerURLs\":null,\"isPromote\":true}") ==
          CLUSTER_ENOT_LEARNER);
    CHECK(apply(c, s, RAFT_ADD_NODE, 16,
                "{\"id\":16,\"peerURLs\":null,\"isPromote\":true}") ==
          CLUSTER_EID_NOT_FOUND);
    CHECK(apply(c, s, RAFT_ADD_NODE, 12,
                "{\"id\":12,\"peerURLs\":null,\"isPromote\":true}") == 0);
    CHECK(store_index(s) == 7);
    check_file(s, "/0/members/c/raftAttributes",
               "{\"peerURLs\":[\"http://l:1\"]}");
}

static void put_file(struct store *s, const char *path, const char *value)
{
    struct store_put p = {.path = str_of(path), .value = str_of(value)};
    struct store_event *event;
    struct store_error err = {0};

    CHECK(store_set(s, &p, 1, &event, &err) == 0);
    store_event_unref(event);
}

#define PUBLISHED "{\"name\":\"a2\",\"clientURLs\":[\"http://a:9\"]}"

static void test_follow(struct cluster *c, struct store *s)
{
    struct member m;
    char version[32];

    put_file(s, "/0/members/a/attributes", PUBLISHED);
    CHECK(
        !cluster_follow_put(c, STR("/0/members/a/attributes"), STR(PUBLISHED)));
    CHECK(cluster_member(c, 10, &m));
    CHECK_STR(m.name, "a2");
    CHECK(m.n_client_urls == 1);
    CHECK_STR(m.client_urls[0], "http://a:9");
    member_release(&m);
    CHECK(!cluster_follow_put(c, STR("/0/members/zz/attributes"), STR("{}")));
    CHECK(!cluster_follow_put(c, STR("/0/members/a/attributes"), STR("[")));

    cluster_version(c, version);
    CHECK_STR(version, "");
    put_file(s, "/0/version", "3.4.0");
    CHECK(cluster_follow_put(c, STR("/0/version"), STR("3.4.0")));
    CHECK(!cluster_follow_put(c, STR("/0/version"), STR("3.4.0")));
    cluster_version(c, version);
    CHECK_STR(version, "3.4.0");
    CHECK(!cluster_follow_put(c, STR("/1/version"), STR("9.9.9")));
}

/* What is read from the store is what following it had made. */
static void test_recover(struct cluster *c, const struct store *s)
{
    struct cluster *again = cluster_new();
    struct member *old, *new;
    struct buf a = {0}, b = {0};
    char version[32];
    size_t n;

    cluster_recover(again, s);
    n = cluster_members(c, &old);
    CHECK(cluster_members(again, &new) == n);
    for (size_t i = 0; i < n && i < cluster_size(again); i++) {
        member_json(&a, &old[i], -1);
        member_json(&b, &new[i], -1);
    }
    CHECK_STR(buf_z(&b), buf_z(&a));
    CHECK(cluster_is_removed(again, 11));
    cluster_version(again, version);
    CHECK_STR(version, "3.4.0");
    cluster_recover(again, s); /* twice is as once */
    CHECK(cluster_size(again) == n);
    members_free(old, n);
    members_free(new, n);
    buf_release(&a);
    buf_release(&b);
    cluster_free(again);
}

static void test_changes(void)
{
    struct cluster *c = cluster_new();
    struct store *s = store_new();

    test_add_and_remove(c, s);
    test_update_and_learner(c, s);
    test_follow(c, s);
    test_recover(c, s);
    cluster_free(c);
    store_free(s);
}

static void test_reconfiguration(void)
{
    struct cluster *c = cluster_new();
    struct store *s = store_new();

    apply(c, s, RAFT_ADD_NODE, 10, A);
    CHECK(cluster_can_add(c));
    CHECK(!cluster_can_remove(c, 10)); /* the last one */
    apply(c, s, RAFT_ADD_NODE, 11, B_PLAIN);
    CHECK(!cluster_can_add(c));       /* 1 started of a quorum of 2 */
    CHECK(cluster_can_remove(c, 11)); /* who never started may go */
    CHECK(!cluster_can_remove(c, 10));
    cluster_follow_put(c, STR("/0/members/b/attributes"),
                       STR("{\"name\":\"b\"}"));
    CHECK(cluster_can_add(c));
    apply(c, s, RAFT_ADD_LEARNER_NODE, 12, L);
    CHECK(cluster_can_promote(c, 12));
    CHECK(cluster_can_add(c)); /* learners do not count */
    cluster_free(c);
    store_free(s);
}

int main(void)
{
    log_set_level(LOG_CRIT);
    test_ids();
    test_json();
    test_members_json();
    test_attributes();
    test_flag();
    test_local();
    test_match();
    test_changes();
    test_reconfiguration();
    return check_done("cluster");
}
