/*
 * raftpb_fuzz.c - messages of peers, records of the log and the requests in
 * its entries: what is read and written comes back the same, whatever unknown
 * or doubled fields stood between.
 */
#include "etcdpb.h"
#include "fuzz.h"
#include "raftpb.h"

/* Encode, decode, encode: the two encodings are the same. */
#define CHECK_BACK(type, name, first, release)                                 \
    do {                                                                       \
        struct buf once = {0}, twice = {0};                                    \
        type back;                                                             \
                                                                               \
        raftpb_encode_##name(&once, first);                                    \
        FUZZ_CHECK(raftpb_decode_##name(once.data, once.len, &back) == 0);     \
        raftpb_encode_##name(&twice, &back);                                   \
        FUZZ_CHECK(str_eq(buf_str(&once), buf_str(&twice)));                   \
        release(&back);                                                        \
        buf_release(&once);                                                    \
        buf_release(&twice);                                                   \
    } while (0)

static void nothing(void *unused)
{
    (void)unused;
}

static void check_entry(const uint8_t *p, size_t n)
{
    struct raft_entry e;
    struct buf b = {0};

    if (raftpb_decode_entry(p, n, &e) < 0)
        return;
    FUZZ_CHECK((unsigned)e.type <= RAFT_ENTRY_CONF_CHANGE_V2);
    CHECK_BACK(struct raft_entry, entry, &e, raft_entry_release);
    raftpb_encode_entry(&b, &e);
    FUZZ_CHECK(b.len == raftpb_entry_size(&e));
    buf_release(&b);
    raft_entry_release(&e);
}

static void check_conf_changes(const uint8_t *p, size_t n)
{
    struct raft_conf_change cc;
    struct raft_conf_change_v2 v2;

    if (raftpb_decode_conf_change(p, n, &cc) == 0) {
        FUZZ_CHECK((unsigned)cc.type <= RAFT_ADD_LEARNER_NODE);
        CHECK_BACK(struct raft_conf_change, conf_change, &cc, nothing);
    }
    if (raftpb_decode_conf_change_v2(p, n, &v2) == 0)
        FUZZ_CHECK(v2.n <= RAFT_CONF_CHANGES_MAX);
}

static void check_states(const uint8_t *p, size_t n)
{
    struct raft_hard_state hs;
    struct raft_conf_state cs;
    struct raft_snapshot s;

    if (raftpb_decode_hard_state(p, n, &hs) == 0)
        CHECK_BACK(struct raft_hard_state, hard_state, &hs, nothing);
    if (raftpb_decode_conf_state(p, n, &cs) == 0) {
        CHECK_BACK(struct raft_conf_state, conf_state, &cs,
                   raft_conf_state_release);
        raft_conf_state_release(&cs);
    }
    if (raftpb_decode_snapshot(p, n, &s) == 0) {
        CHECK_BACK(struct raft_snapshot, snapshot, &s, raft_snapshot_release);
        raft_snapshot_release(&s);
    }
}

static void check_request(const uint8_t *p, size_t n)
{
    struct entry_request r;
    struct v2_request back;
    struct buf once = {0}, twice = {0};

    if (etcdpb_decode_entry(p, n, &r) < 0 || r.kind != ENTRY_V2)
        return;
    etcdpb_encode_v2_request(&once, &r.v2);
    FUZZ_CHECK(etcdpb_decode_v2_request(once.data, once.len, &back) == 0);
    etcdpb_encode_v2_request(&twice, &back);
    FUZZ_CHECK(str_eq(buf_str(&once), buf_str(&twice)));
    buf_release(&once);
    buf_release(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct raft_msg m, copy;

    if (raftpb_decode_msg(data, size, &m) == 0) {
        FUZZ_CHECK((unsigned)m.type <= RAFT_MSG_PRE_VOTE_RESP);
        CHECK_BACK(struct raft_msg, msg, &m, raft_msg_release);
        raft_msg_copy(&copy, &m);
        raft_msg_release(&m);
        CHECK_BACK(struct raft_msg, msg, &copy, raft_msg_release);
        raft_msg_release(&copy);
    }
    check_entry(data, size);
    check_states(data, size);
    check_conf_changes(data, size);
    check_request(data, size);
    return 0;
}
