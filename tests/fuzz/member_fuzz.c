/*
 * member_fuzz.c - membership as the log and peers tell it: changes with any
 * JSON in them, attributes, the version, and what is read back from the store.
 *
 * The first byte says what the rest is. Whatever is accepted stays the same
 * when it is written and read again, and a member that recovers knows the same
 * cluster as one that was there.
 */
#include "cluster.h"
#include "fuzz.h"
#include "log.h"

#define LEARNERS_MAX 1
#define STEPS_MAX 32

static void print_members(struct buf *b, const struct cluster *c)
{
    struct member *m;
    size_t n = cluster_members(c, &m);

    for (size_t i = 0; i < n; i++) {
        member_json(b, &m[i], -1);
        buf_addc(b, '\n');
    }
    members_free(m, n);
}

static void check_same_cluster(const struct cluster *a, const struct cluster *b)
{
    struct buf x = {0}, y = {0};

    print_members(&x, a);
    print_members(&y, b);
    FUZZ_CHECK(str_eq(buf_str(&x), buf_str(&y)));
    buf_release(&x);
    buf_release(&y);
}

static void check_member(struct str s)
{
    struct member m, again;
    struct buf once = {0}, twice = {0};
    struct err e = {0};
    bool promote = false, also;

    if (member_from_json(s.p, s.n, &m, &promote, &e) < 0) {
        FUZZ_CHECK(e.msg[0]);
        return;
    }
    member_json(&once, &m, promote);
    FUZZ_CHECK(member_from_json(once.data, once.len, &again, &also, &e) == 0);
    FUZZ_CHECK(promote == also);
    member_json(&twice, &again, also);
    FUZZ_CHECK(str_eq(buf_str(&once), buf_str(&twice)));
    member_release(&m);
    member_release(&again);
    buf_release(&once);
    buf_release(&twice);
}

static void check_members(struct str s)
{
    struct member *m;
    size_t n;

    if (members_from_json(s.p, s.n, &m, &n, NULL) < 0)
        return;
    members_free(m, n);
}

static void check_flag(struct str s)
{
    struct cluster *c = cluster_new();
    char *flag = xstrndup(s.p, s.n);
    struct err e = {0};

    if (cluster_from_flag(c, flag, "token", &e) < 0)
        FUZZ_CHECK(e.msg[0]);
    else
        FUZZ_CHECK(cluster_size(c) > 0);
    free(flag);
    cluster_free(c);
}

/* A change of member 1 to 4, its JSON made of the input or the input itself. */
static void change(struct fuzz_in *in, struct cluster *c, struct store *s)
{
    uint8_t op = fuzz_u8(in);
    struct raft_conf_change cc = {
        .id = 1,
        .type = (enum raft_conf_change_type)(op % 4),
        .node_id = 1 + op / 4 % 4,
    };
    struct buf json = {0};

    if (op < 192) {
        buf_printf(&json, "{\"id\":%d,\"peerURLs\":[\"http://h%d:%d\"]",
                   (int)cc.node_id, op / 16 % 2, fuzz_u8(in) % 4);
        buf_printf(&json, ",\"isLearner\":%s,\"isPromote\":%s}",
                   op & 32 ? "true" : "false", op & 64 ? "true" : "false");
    } else {
        buf_addstr(&json, fuzz_bytes(in, fuzz_u8(in)));
    }
    cc.context = buf_str(&json);
    if (cluster_validate(c, &cc, LEARNERS_MAX) == CLUSTER_OK)
        cluster_apply(c, s, &cc, 1);
    cluster_can_add(c);
    cluster_can_remove(c, cc.node_id);
    cluster_can_promote(c, cc.node_id);
    buf_release(&json);
}

/* A PUT below /0, as the log brings it. */
static void put(struct fuzz_in *in, struct cluster *c, struct store *s)
{
    uint8_t op = fuzz_u8(in);
    struct v2_request r = {.id = 2, .method = STR("PUT")};
    struct store_event *e = NULL;
    struct store_error err = {0};
    struct buf path = {0};

    if (op < 16)
        buf_adds(&path, "/0/version");
    else
        cluster_attributes_path(&path, 1 + op % 4);
    r.path = buf_str(&path);
    r.val = fuzz_bytes(in, fuzz_u8(in));
    if (!cluster_skips_put(c, r.path)) {
        if (store_apply(s, &r, 1, &e, &err) == 0)
            cluster_follow_put(c, r.path, r.val);
        store_event_unref(e);
        store_error_release(&err);
    }
    buf_release(&path);
}

static void check_log(struct fuzz_in in)
{
    struct cluster *c = cluster_new(), *later = cluster_new();
    struct store *s = store_new();

    for (int i = 0; i < STEPS_MAX && fuzz_more(&in); i++) {
        if (fuzz_u8(&in) & 1)
            change(&in, c, s);
        else
            put(&in, c, s);
    }
    cluster_recover(later, s);
    check_same_cluster(c, later);
    cluster_free(c);
    cluster_free(later);
    store_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    struct str rest;

    log_set_level(LOG_CRIT); /* each change is worth a line */
    switch (fuzz_u8(&in) % 4) {
    case 0:
        rest = (struct str){(const char *)in.p, in.n};
        check_member(rest);
        check_members(rest);
        break;
    case 1:
        check_flag((struct str){(const char *)in.p, in.n});
        break;
    default:
        check_log(in);
        break;
    }
    return 0;
}
