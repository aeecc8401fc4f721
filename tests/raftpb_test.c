/*
 * raftpb_test.c - the messages of Raft and the requests in its log: bytes as
 * etcd 3.4 wrote them, round trips, every prefix and every changed byte.
 */
#include "raftpb.h"

#include "etcdpb.h"
#include "pb.h"

#include "check.h"
#include "hex.h"

static bool same(const struct buf *a, const struct buf *b)
{
    return str_eq(buf_str(a), buf_str(b));
}

/* --- Bytes that a real member wrote. ------------------------------------ */

/* The v2 request PUT /1/k1 = v1. */
#define V2_PUT                                                                 \
    "0886f6a8b4d6c0e8863912035055541a052f312f6b312202763128003200380048005000" \
    "58006000680070007800800100"

static void test_entry_bytes(void)
{
    struct buf in = unhex("08001002180522"
                          "31" V2_PUT),
               out = {0};
    struct raft_entry e;
    struct entry_request r;

    CHECK(raftpb_decode_entry(in.data, in.len, &e) == 0);
    CHECK(e.type == RAFT_ENTRY_NORMAL && e.term == 2 && e.index == 5);
    CHECK(raftpb_entry_size(&e) == in.len);
    raftpb_encode_entry(&out, &e);
    CHECK(same(&in, &out));

    CHECK(etcdpb_decode_entry(e.data->data, e.data->len, &r) == 0);
    CHECK(r.kind == ENTRY_V2);
    CHECK(r.id == UINT64_C(0x390da205668a3b06));
    CHECK(str_eqz(r.v2.method, "PUT") && str_eqz(r.v2.path, "/1/k1"));
    CHECK(str_eqz(r.v2.val, "v1") && r.v2.prev_value.n == 0);
    CHECK(r.v2.prev_exist == TRI_UNSET && r.v2.refresh == TRI_UNSET);
    buf_clear(&out);
    etcdpb_encode_v2_request(&out, &r.v2);
    CHECK(str_eq(buf_str(&out), blob_str(e.data)));
    raft_entry_release(&e);
    buf_release(&in);
    buf_release(&out);
}

static void test_hard_state_bytes(void)
{
    struct buf in = unhex("0802108df2f48ec1f7a6d7bd011805"), out = {0};
    struct raft_hard_state h;

    CHECK(raftpb_decode_hard_state(in.data, in.len, &h) == 0);
    CHECK(h.term == 2 && h.vote == UINT64_C(0xbdae9bbc11dd390d));
    CHECK(h.commit == 5);
    raftpb_encode_hard_state(&out, &h);
    CHECK(same(&in, &out));
    buf_release(&in);
    buf_release(&out);
}

static void test_snapshot_bytes(void)
{
    struct buf in = unhex("0a027b7d" /* {} */
                          "12130a0d088df2f48ec1f7a6d7bd01280010151802");
    struct buf out = {0};
    struct raft_snapshot s;

    CHECK(raftpb_decode_snapshot(in.data, in.len, &s) == 0);
    CHECK(s.index == 21 && s.term == 2 && s.conf_state.voters.n == 1);
    CHECK(raft_ids_has(&s.conf_state.voters, UINT64_C(0xbdae9bbc11dd390d)));
    CHECK(str_eqz(blob_str(s.data), "{}"));
    raftpb_encode_snapshot(&out, &s);
    CHECK(same(&in, &out));
    raft_snapshot_release(&s);
    buf_release(&in);
    buf_release(&out);
}

/* Every scalar, and the empty snapshot: what any etcd from 3.2 on reads. */
static void test_empty_message_bytes(void)
{
    struct buf want =
        unhex("08081000180020002800300040004a0a12080a02280010001800"
              "50005800");
    struct raft_msg m = {.type = RAFT_MSG_HEARTBEAT};
    struct buf out = {0};

    raftpb_encode_msg(&out, &m);
    CHECK(same(&want, &out));
    buf_release(&want);
    buf_release(&out);
}

/* --- Round trips. ------------------------------------------------------- */

static struct raft_snapshot *sample_snapshot(void)
{
    struct raft_snapshot *s = xcalloc(1, sizeof(*s));

    for (raft_id id = 5; id > 0; id--)
        raft_ids_add(&s->conf_state.voters, id << 50);
    raft_ids_add(&s->conf_state.learners, 4);
    raft_ids_add(&s->conf_state.voters_outgoing, 5);
    raft_ids_add(&s->conf_state.learners_next, 6);
    s->conf_state.auto_leave = true;
    s->index = 77;
    s->term = 8;
    s->data = blob_new("state", 5);
    return s;
}

static void sample_msg(struct raft_msg *m)
{
    *m = (struct raft_msg){
        .type = RAFT_MSG_SNAP,
        .to = 1,
        .from = UINT64_MAX,
        .term = 9,
        .log_term = 8,
        .index = 70,
        .commit = 75,
        .reject = true,
        .reject_hint = 3,
    };
    m->n_entries = 3;
    m->entries = xcalloc(m->n_entries, sizeof(*m->entries));
    for (size_t i = 0; i < m->n_entries; i++) {
        m->entries[i].index = 71 + i;
        m->entries[i].term = 8;
        m->entries[i].data = i ? blob_new("0123456789", 5 * i) : NULL;
    }
    m->entries[2].type = RAFT_ENTRY_CONF_CHANGE;
    m->context = blob_new("ctx", 3);
    m->snapshot = sample_snapshot();
}

static void test_message(void)
{
    struct raft_msg m, copy, back;
    struct buf a = {0}, b = {0};

    sample_msg(&m);
    raftpb_encode_msg(&a, &m);
    CHECK(raftpb_decode_msg(a.data, a.len, &back) == 0);
    CHECK(back.n_entries == 3 && back.entries[2].data->len == 10);
    CHECK(back.snapshot && back.snapshot->conf_state.voters.n == 5);
    CHECK(back.snapshot->conf_state.voters.ids[0] == UINT64_C(1) << 50);
    raftpb_encode_msg(&b, &back);
    CHECK(same(&a, &b));

    raft_msg_copy(&copy, &m);
    CHECK(copy.entries[1].data == m.entries[1].data);
    raft_msg_release(&m);
    buf_clear(&b);
    raftpb_encode_msg(&b, &copy);
    CHECK(same(&a, &b));
    raft_msg_release(&copy);
    raft_msg_release(&back);
    buf_release(&a);
    buf_release(&b);
}

/* Only MsgSnap carries a snapshot; the empty one of others is no snapshot. */
static void test_snapshot_only_in_snap(void)
{
    struct raft_msg m = {.type = RAFT_MSG_APP}, back;
    struct buf b = {0};

    raftpb_encode_msg(&b, &m);
    CHECK(raftpb_decode_msg(b.data, b.len, &back) == 0);
    CHECK(!back.snapshot && !back.entries && !back.context);
    raft_msg_release(&back);
    buf_clear(&b);
    m.type = RAFT_MSG_SNAP;
    raftpb_encode_msg(&b, &m);
    CHECK(raftpb_decode_msg(b.data, b.len, &back) == 0);
    CHECK(back.snapshot && back.snapshot->index == 0);
    raft_msg_release(&back);
    buf_release(&b);
}

/* No bytes and no blob are the same on the wire. */
static void test_empty_blobs(void)
{
    struct blob *empty = blob_new("", 0);
    struct raft_snapshot none = {.index = 1, .term = 1}, some = none;
    struct raft_entry bare = {.term = 1, .index = 2}, with = bare;
    struct raft_msg m = {.type = RAFT_MSG_SNAP, .snapshot = &none}, back;
    struct buf a = {0}, b = {0};

    some.data = with.data = empty;
    raftpb_encode_entry(&a, &bare);
    raftpb_encode_entry(&b, &with);
    CHECK(same(&a, &b) && raftpb_entry_size(&with) == b.len);
    raftpb_encode_msg(&a, &m);
    m.snapshot = &some;
    m.context = empty;
    raftpb_encode_msg(&b, &m);
    CHECK(same(&a, &b));
    CHECK(raftpb_decode_msg(a.data, a.len, &back) == 0);
    CHECK(!back.snapshot->data && !back.context);
    raft_msg_release(&back);
    blob_unref(empty);
    buf_release(&a);
    buf_release(&b);
}

/* etcd 3.7 may leave zeros out; unknown fields are skipped. */
static void test_missing_and_unknown(void)
{
    struct buf in = unhex("0803"
                          "10ac02"
                          "9a0603616263"
                          "f80701");
    struct raft_msg m;

    CHECK(raftpb_decode_msg(in.data, in.len, &m) == 0);
    CHECK(m.type == RAFT_MSG_APP && m.to == 300 && m.from == 0);
    raft_msg_release(&m);
    CHECK(raftpb_decode_msg("", 0, &m) == 0);
    CHECK(m.type == RAFT_MSG_HUP);
    raft_msg_release(&m);
    buf_release(&in);
}

static void test_unknown_types(void)
{
    struct raft_msg m;
    struct raft_entry e;
    struct raft_conf_change c;

    CHECK(raftpb_decode_msg("\x08\x13", 2, &m) == RAFTPB_EINVAL);
    CHECK(raftpb_decode_entry("\x08\x03", 2, &e) == RAFTPB_EINVAL);
    CHECK(raftpb_decode_conf_change("\x10\x04", 2, &c) == RAFTPB_EINVAL);
    CHECK_STR(raft_msg_name(RAFT_MSG_PRE_VOTE_RESP), "MsgPreVoteResp");
    CHECK_STR(raft_msg_name(RAFT_MSG_VOTE_RESP), "MsgVoteResp");
    CHECK_STR(raft_msg_name((enum raft_msg_type)99), "MsgUnknown");
}

static void test_conf_state_forms(void)
{
    /* Unsorted, doubled, and packed. */
    struct buf in = unhex("0805"
                          "0803"
                          "0805"
                          "0a03"
                          "010402");
    struct raft_conf_state c;

    CHECK(raftpb_decode_conf_state(in.data, in.len, &c) == 0);
    CHECK(c.voters.n == 5);
    for (size_t i = 0; i < c.voters.n; i++)
        CHECK(c.voters.ids[i] == i + 1);
    raft_conf_state_release(&c);
    CHECK(raftpb_decode_conf_state("\x0a\x02\x01\x80", 4, &c) == RAFTPB_EINVAL);
    buf_release(&in);
}

static void test_conf_change(void)
{
    struct raft_conf_change c = {.id = 5,
                                 .type = RAFT_ADD_LEARNER_NODE,
                                 .node_id = 77,
                                 .context = STR("{}")};
    struct raft_conf_change back;
    struct raft_conf_change_v2 v2;
    struct buf b = {0}, many = {0};

    raftpb_encode_conf_change(&b, &c);
    CHECK(raftpb_decode_conf_change(b.data, b.len, &back) == 0);
    CHECK(back.id == 5 && back.node_id == 77 && back.type == c.type);
    CHECK(str_eqz(back.context, "{}"));
    /* Read as a ConfChangeV2 it is one of a single change. */
    CHECK(raftpb_decode_conf_change_v2(b.data, b.len, &v2) == 0);
    CHECK(v2.n == 1 && v2.changes[0].node_id == 77);
    CHECK(str_eqz(v2.context, "{}"));

    buf_clear(&b);
    buf_add(&b, "\x08\x01\x12\x04\x08\x01\x10\x07\x12\x02\x10\x08\x1a\x01x",
            15);
    CHECK(raftpb_decode_conf_change_v2(b.data, b.len, &v2) == 0);
    CHECK(v2.n == 2 && v2.transition == 1 && str_eqz(v2.context, "x"));
    CHECK(v2.changes[0].type == RAFT_REMOVE_NODE);
    CHECK(v2.changes[0].node_id == 7 && v2.changes[1].node_id == 8);
    CHECK(raftpb_decode_conf_change_v2("", 0, &v2) == 0 && v2.n == 0);

    c.context = STR("");
    buf_clear(&b);
    raftpb_encode_conf_change(&b, &c);
    CHECK(b.len == 6); /* three numbers and nothing else */

    for (int i = 0; i <= RAFT_CONF_CHANGES_MAX; i++)
        buf_add(&many, "\x12\x00", 2);
    CHECK(raftpb_decode_conf_change_v2(many.data, many.len, &v2) ==
          RAFTPB_EINVAL);
    buf_release(&many);
    buf_release(&b);
}

static void test_ids(void)
{
    struct raft_ids s = {0};

    for (raft_id id = 10; id > 0; id--)
        raft_ids_add(&s, id * 7 % 11);
    raft_ids_add(&s, 3);
    CHECK(s.n == 10);
    for (size_t i = 0; i < s.n; i++)
        CHECK(s.ids[i] == i + 1);
    raft_ids_remove(&s, 1);
    raft_ids_remove(&s, 10);
    raft_ids_remove(&s, 5);
    raft_ids_remove(&s, 50);
    CHECK(s.n == 7 && !raft_ids_has(&s, 5) && raft_ids_has(&s, 6));
    free(s.ids);
}

/* --- Requests in the log. ----------------------------------------------- */

static void test_v2_methods_are_bare(void)
{
    static const char *const methods[] = {"GET",    "PUT",  "POST",
                                          "DELETE", "QGET", "SYNC"};

    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        struct v2_request r = {
            .id = 1 + i,
            .method = str_of(methods[i]),
            .path = STR("/1/a"),
            .val = STR(""),
            .prev_value = STR("p"),
            .prev_index = 3,
            .prev_exist = TRI_FALSE,
            .expiration = -5,
            .recursive = true,
            .time = INT64_MAX,
            .refresh = TRI_TRUE,
        };
        struct entry_request out;
        struct buf b = {0}, again = {0};

        etcdpb_encode_v2_request(&b, &r);
        CHECK(etcdpb_decode_entry(b.data, b.len, &out) == 0);
        CHECK(out.kind == ENTRY_V2 && out.id == 1 + i);
        CHECK(str_eqz(out.v2.method, methods[i]));
        CHECK(out.v2.prev_exist == TRI_FALSE && out.v2.refresh == TRI_TRUE);
        CHECK(out.v2.expiration == -5 && out.v2.time == INT64_MAX);
        CHECK(out.v2.recursive && !out.v2.dir && !out.v2.sorted);
        etcdpb_encode_v2_request(&again, &out.v2);
        CHECK(same(&b, &again));
        buf_release(&b);
        buf_release(&again);
    }
}

static void test_internal(void)
{
    struct buf put = unhex("2204"
                           "0a016b12" /* cut: only bytes here */
                           "a20609"
                           "0887f6a8b4d6c0e886");
    struct buf with_id = unhex("0805"
                               "ea3e00");
    struct entry_request r;

    CHECK(etcdpb_decode_entry("", 0, &r) == 0 && r.kind == ENTRY_EMPTY);
    CHECK(etcdpb_decode_entry(with_id.data, with_id.len, &r) == 0);
    CHECK(r.kind == ENTRY_INTERNAL && r.id == 5 && r.field == 1005);
    CHECK(r.bytes.n == 0);
    /* The header's varint is cut short: the other form, if with no method. */
    CHECK(etcdpb_decode_entry(put.data, put.len, &r) == 0);
    CHECK(r.kind == ENTRY_V2 && r.v2.method.n == 0);
    CHECK(etcdpb_decode_entry(put.data, put.len - 1, &r) == ETCDPB_EINVAL);
    buf_addc(&put, '\x39');
    put.data[8]++;
    CHECK(etcdpb_decode_entry(put.data, put.len, &r) == 0);
    CHECK(r.kind == ENTRY_INTERNAL && r.field == 4 && r.bytes.n == 4);
    CHECK(r.id == UINT64_C(0x390da205668a3b07));
    buf_release(&put);
    buf_release(&with_id);
}

/* A v2 request inside an InternalRaftRequest, as field 2. */
static void test_nested_v2(void)
{
    struct buf v2 = unhex(V2_PUT), b = {0};
    struct entry_request r;

    pb_add_str(&b, 2, buf_str(&v2));
    CHECK(etcdpb_decode_entry(b.data, b.len, &r) == 0);
    CHECK(r.kind == ENTRY_V2 && str_eqz(r.v2.path, "/1/k1"));
    CHECK(r.id == UINT64_C(0x390da205668a3b06));
    buf_release(&v2);
    buf_release(&b);
}

/* --- Bad bytes. --------------------------------------------------------- */

/* A message is as bad as the worst of its parts. */
static void test_bad_parts(void)
{
    static const char *const messages[] = {
        "3a020803",             /* an entry of a type that there is not */
        "3a022201",             /* an entry that ends in its data */
        "3a003a020803",         /* the second one */
        "08074a021201",         /* a snapshot that ends in its metadata */
        "08074a03120118",       /* metadata that ends in a number */
        "08074a0512030a010a",   /* voters likewise */
        "08074a06120410ff0a00", /* an index likewise */
    };
    static const char *const changes[] = {
        "12020804",   /* a change of a type that there is not */
        "1200120108", /* the second one ends in its type */
        "08031200",   /* a transition that there is not */
    };
    struct raft_conf_change_v2 cc;
    struct raft_msg m;

    for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
        struct buf b = unhex(messages[i]);

        CHECK(raftpb_decode_msg(b.data, b.len, &m) == RAFTPB_EINVAL);
        buf_release(&b);
    }
    for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
        struct buf b = unhex(changes[i]);

        CHECK(raftpb_decode_conf_change_v2(b.data, b.len, &cc) ==
              RAFTPB_EINVAL);
        buf_release(&b);
    }
}

/* Exact heap copies, so that the sanitizer sees a read beyond the end. */
static void decode_all(const uint8_t *p, size_t n)
{
    struct raft_msg m;
    struct raft_entry e;
    struct raft_hard_state h;
    struct raft_conf_state c;
    struct raft_snapshot s;
    struct raft_conf_change cc;
    struct raft_conf_change_v2 v2;
    struct entry_request r;

    if (raftpb_decode_msg(p, n, &m) == 0) {
        CHECK(m.n_entries <= n);
        raft_msg_release(&m);
    }
    if (raftpb_decode_entry(p, n, &e) == 0)
        raft_entry_release(&e);
    if (raftpb_decode_conf_state(p, n, &c) == 0)
        raft_conf_state_release(&c);
    if (raftpb_decode_snapshot(p, n, &s) == 0)
        raft_snapshot_release(&s);
    raftpb_decode_hard_state(p, n, &h);
    raftpb_decode_conf_change(p, n, &cc);
    raftpb_decode_conf_change_v2(p, n, &v2);
    etcdpb_decode_entry(p, n, &r);
}

static void test_bad_bytes(void)
{
    struct buf b = {0}, v2 = unhex(V2_PUT);
    struct raft_msg m;

    sample_msg(&m);
    raftpb_encode_msg(&b, &m);
    raft_msg_release(&m);
    buf_addstr(&b, buf_str(&v2));
    for (size_t n = 0; n <= b.len; n++) {
        uint8_t *copy = xmalloc(n);

        memcpy(copy, b.data, n);
        decode_all(copy, n);
        for (int bit = 0; bit < 8 && n > 0; bit++) {
            copy[n - 1] ^= (uint8_t)(1 << bit);
            decode_all(copy, n);
        }
        free(copy);
    }
    for (size_t i = 0; i < b.len * 8; i++) {
        b.data[i / 8] ^= (uint8_t)(1 << i % 8);
        decode_all(b.data, b.len);
        b.data[i / 8] ^= (uint8_t)(1 << i % 8);
    }
    buf_release(&b);
    buf_release(&v2);
}

int main(void)
{
    test_entry_bytes();
    test_hard_state_bytes();
    test_snapshot_bytes();
    test_empty_message_bytes();
    test_message();
    test_snapshot_only_in_snap();
    test_empty_blobs();
    test_missing_and_unknown();
    test_unknown_types();
    test_conf_state_forms();
    test_conf_change();
    test_ids();
    test_v2_methods_are_bare();
    test_internal();
    test_nested_v2();
    test_bad_parts();
    test_bad_bytes();
    return check_done("raftpb");
}
