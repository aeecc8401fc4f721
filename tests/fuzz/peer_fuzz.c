/*
 * peer_fuzz.c - frames of the two peer streams: cut anywhere they only ask for
 * more, and what was read and is written comes back the same, with both ends
 * remembering the same.
 */
#include "fuzz.h"
#include "peer.h"

#define FROM 1
#define TO 2
#define WHOLE_MAX 512

static void check_same(const struct raft_msg *a, const struct raft_msg *b)
{
    struct buf x = {0}, y = {0};

    raftpb_encode_msg(&x, a);
    raftpb_encode_msg(&y, b);
    FUZZ_CHECK(str_eq(buf_str(&x), buf_str(&y)));
    buf_release(&x);
    buf_release(&y);
}

/* Any cut of a whole frame asks for more: at least a byte, never beyond it. */
static void check_cuts(const uint8_t *p, size_t frame, struct msgapp_state st)
{
    size_t step = frame <= WHOLE_MAX ? 1 : frame / 64;
    struct raft_msg m;

    for (size_t i = 0; i < frame; i += step) {
        struct msgapp_state copy = st;
        size_t need = 0;

        FUZZ_CHECK(peer_decode_msgapp(p, i, &need, &copy, FROM, TO, &m) == 0);
        FUZZ_CHECK(need > i && need <= frame);
        FUZZ_CHECK(copy.term == st.term && copy.index == st.index);
    }
}

/* From nobody to nobody: whatever else is in it, it is a sign of life. */
static bool is_alive_sign(const struct raft_msg *m)
{
    return m->type == RAFT_MSG_HEARTBEAT && m->from == 0 && m->to == 0;
}

/* A message in full may hold entries with gaps, which raft will refuse; nobody
 * encodes such. */
static bool in_sequence(const struct raft_msg *m)
{
    for (size_t i = 0; i < m->n_entries; i++)
        if (m->entries[i].index != m->index + 1 + i)
            return false;
    return true;
}

/* The other way round: encode m where the stream was in state `before`. */
static void check_back(const struct raft_msg *m, struct msgapp_state before)
{
    struct msgapp_state writer = before, reader = before;
    struct buf b = {0};
    struct raft_msg back;
    size_t need;

    peer_encode_msgapp(&b, &writer, m);
    FUZZ_CHECK(peer_decode_msgapp(b.data, b.len, &need, &reader, m->from, m->to,
                                  &back) == (int64_t)b.len);
    FUZZ_CHECK(writer.term == reader.term && writer.index == reader.index);
    if (!is_alive_sign(m))
        check_same(m, &back);
    raft_msg_release(&back);
    buf_release(&b);
}

static void check_appends(const uint8_t *p, size_t n)
{
    struct msgapp_state st = {0, 0}, before;
    struct raft_msg m;
    size_t need = 0;
    int64_t used;

    for (; n > 0; p += used, n -= (size_t)used) {
        before = st;
        used = peer_decode_msgapp(p, n, &need, &st, FROM, TO, &m);
        if (used == 0)
            FUZZ_CHECK(need > n);
        if (used <= 0)
            break;
        FUZZ_CHECK((size_t)used <= n);
        check_cuts(p, (size_t)used, before);
        if (in_sequence(&m))
            check_back(&m, before);
        raft_msg_release(&m);
    }
}

static void check_message(const uint8_t *p, size_t n)
{
    struct raft_msg m, back;
    struct buf b = {0};
    size_t need = 0;
    int64_t used = peer_decode_message(p, n, &need, &m);

    if (used == 0)
        FUZZ_CHECK(need > n);
    if (used <= 0)
        return;
    peer_encode_message(&b, &m);
    FUZZ_CHECK(peer_decode_message(b.data, b.len, &need, &back) ==
               (int64_t)b.len);
    check_same(&m, &back);
    raft_msg_release(&m);
    raft_msg_release(&back);
    buf_release(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_message(data, size);
    check_appends(data, size);
    return 0;
}
