/*
 * peercodec.c - the frames of the two streams between members, as rafthttp
 * writes them. Pure: bytes in, messages out, and back.
 *
 * MESSAGE STREAM
 *
 *   SIZE  FIELD
 *      8  n, big-endian
 *      n  raftpb.Message; a heartbeat from 0 to 0 only keeps alive
 *
 * APPEND STREAM ("msgapp v2")
 *
 *   SIZE  FIELD
 *      1  0: keep-alive, nothing follows
 *         2: a frame of the message stream follows, an append in full
 *         1: an append that continues the last one: same term, and it begins
 *            where that one ended, so that neither need be said again:
 *      8  number of entries, and for each: 8 bytes of length, raftpb.Entry
 *      8  commit
 *
 * Both ends keep the term and index of the last append of their stream: the
 * index that the next compact frame continues from. INVARIANT: after a frame
 * has been encoded on one side and decoded on the other, the two states are
 * equal. A new connection begins with zeros, so its first append is in full.
 */
#include "peer.h"

#include <assert.h>

enum { FRAME_ALIVE = 0, FRAME_ENTRIES = 1, FRAME_FULL = 2 };

#define LEN_SIZE 8

/* Far above what fits into the 1 MB of entries that one append carries. */
#define ENTRIES_MAX (1024 * 1024)

static bool is_keep_alive(const struct raft_msg *m)
{
    return m->type == RAFT_MSG_HEARTBEAT && m->to == 0 && m->from == 0;
}

/* --- Encoding. ---------------------------------------------------------- */

static void add_u64be(struct buf *b, uint64_t v)
{
    uint8_t p[LEN_SIZE];

    put_u64be(p, v);
    buf_add(b, p, sizeof(p));
}

void peer_encode_message(struct buf *b, const struct raft_msg *m)
{
    size_t mark = b->len;

    add_u64be(b, 0);
    raftpb_encode_msg(b, m);
    put_u64be(b->data + mark, b->len - mark - LEN_SIZE);
}

/* Can m be told as "the next entries, and this is committed"? */
static bool continues(const struct msgapp_state *st, const struct raft_msg *m)
{
    return m->type == RAFT_MSG_APP && m->index == st->index &&
           m->log_term == st->term && m->log_term == m->term && !m->reject &&
           m->reject_hint == 0 && !m->context && m->n_entries <= ENTRIES_MAX;
}

static void add_entries(struct buf *b, struct msgapp_state *st,
                        const struct raft_msg *m)
{
    add_u64be(b, m->n_entries);
    for (size_t i = 0; i < m->n_entries; i++) {
        add_u64be(b, raftpb_entry_size(&m->entries[i]));
        raftpb_encode_entry(b, &m->entries[i]);
    }
    add_u64be(b, m->commit);
    st->index += m->n_entries;
}

/* What both sides remember after an append in full. */
static void remember(struct msgapp_state *st, const struct raft_msg *m)
{
    st->term = m->term;
    st->index = m->n_entries ? m->entries[m->n_entries - 1].index : m->index;
}

void peer_encode_msgapp(struct buf *b, struct msgapp_state *st,
                        const struct raft_msg *m)
{
    if (is_keep_alive(m)) {
        buf_addc(b, FRAME_ALIVE);
    } else if (continues(st, m)) {
        buf_addc(b, FRAME_ENTRIES);
        add_entries(b, st, m);
    } else {
        buf_addc(b, FRAME_FULL);
        peer_encode_message(b, m);
        remember(st, m);
    }
}

/* --- Decoding. ---------------------------------------------------------- */

static int64_t more(size_t *need, size_t n)
{
    *need = n;
    return 0;
}

int64_t peer_decode_message(const uint8_t *p, size_t n, size_t *need,
                            struct raft_msg *out)
{
    uint64_t len;

    if (n < LEN_SIZE)
        return more(need, LEN_SIZE);
    len = get_u64be(p);
    if (len > PEER_MSG_MAX)
        return -1;
    if (n - LEN_SIZE < len)
        return more(need, LEN_SIZE + (size_t)len);
    if (raftpb_decode_msg(p + LEN_SIZE, (size_t)len, out) < 0)
        return -1;
    return (int64_t)(LEN_SIZE + len);
}

/*
 * How long the frame of entries at p is: its size once all of it is there, 0
 * if more is needed, -1 on bad bytes. Lengths first, and only then memory for
 * entries: a count alone must not make us allocate.
 */
static int64_t entries_frame(const uint8_t *p, size_t n, size_t *need)
{
    size_t at = 1 + LEN_SIZE;
    uint64_t count, len;

    if (n < at)
        return more(need, at);
    count = get_u64be(p + 1);
    if (count > ENTRIES_MAX)
        return -1;
    for (uint64_t i = 0; i < count; i++) {
        if (n - at < LEN_SIZE)
            return more(need, at + (size_t)(count - i + 1) * LEN_SIZE);
        len = get_u64be(p + at);
        if (len > PEER_MSG_MAX || at + len > PEER_MSG_MAX)
            return -1;
        at += LEN_SIZE;
        if (n - at < len)
            return more(need,
                        at + (size_t)len + (size_t)(count - i) * LEN_SIZE);
        at += (size_t)len;
    }
    if (n - at < LEN_SIZE)
        return more(need, at + LEN_SIZE);
    return (int64_t)(at + LEN_SIZE);
}

/* Read the entries of a frame that is all there. */
static int read_entries(const uint8_t *p, struct raft_msg *m)
{
    uint64_t count = get_u64be(p + 1);

    p += 1 + LEN_SIZE;
    if (count)
        m->entries = xcalloc((size_t)count, sizeof(*m->entries));
    while (m->n_entries < count) {
        size_t len = (size_t)get_u64be(p);

        if (raftpb_decode_entry(p + LEN_SIZE, len, &m->entries[m->n_entries]) <
            0)
            return -1;
        m->n_entries++;
        p += LEN_SIZE + len;
    }
    m->commit = get_u64be(p);
    return 0;
}

/* The entries follow one another, or what we remember would be wrong. */
static bool in_sequence(const struct raft_msg *m)
{
    for (size_t i = 0; i < m->n_entries; i++)
        if (m->entries[i].index != m->index + i + 1)
            return false;
    return true;
}

static int64_t decode_entries(const uint8_t *p, size_t n, size_t *need,
                              struct msgapp_state *st, uint64_t from,
                              uint64_t to, struct raft_msg *out)
{
    struct raft_msg m = {
        .type = RAFT_MSG_APP,
        .from = from,
        .to = to,
        .term = st->term,
        .log_term = st->term,
        .index = st->index,
    };
    int64_t size = entries_frame(p, n, need);

    if (size <= 0)
        return size;
    if (read_entries(p, &m) < 0 || !in_sequence(&m)) {
        raft_msg_release(&m);
        return -1;
    }
    st->index += m.n_entries;
    *out = m;
    return size;
}

static int64_t decode_full(const uint8_t *p, size_t n, size_t *need,
                           struct msgapp_state *st, struct raft_msg *out)
{
    int64_t size = peer_decode_message(p + 1, n - 1, need, out);

    if (size == 0)
        *need += 1;
    if (size <= 0)
        return size;
    remember(st, out);
    return size + 1;
}

int64_t peer_decode_msgapp(const uint8_t *p, size_t n, size_t *need,
                           struct msgapp_state *st, uint64_t from, uint64_t to,
                           struct raft_msg *out)
{
    if (n < 1)
        return more(need, 1);
    switch (p[0]) {
    case FRAME_ALIVE:
        *out = (struct raft_msg){.type = RAFT_MSG_HEARTBEAT};
        return 1;
    case FRAME_ENTRIES:
        return decode_entries(p, n, need, st, from, to, out);
    case FRAME_FULL:
        return decode_full(p, n, need, st, out);
    default:
        return -1;
    }
}
