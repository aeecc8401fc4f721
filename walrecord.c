/*
 * walrecord.c - records of a log: frames, and what is in them. Pure. wal.c
 * shows a frame's bytes.
 */
#include "wal_impl.h"

#include "crypto.h"
#include "pb.h"

static size_t padding_of(uint64_t n)
{
    return (size_t)(-n & 7);
}

void wal_encode_frame(struct buf *b, enum wal_record_type type, struct str head,
                      struct str body, uint32_t *crc)
{
    size_t n = head.n + body.n, n_record = 2, pad;
    uint64_t length;

    *crc = crc32c(crc32c(*crc, head.p, head.n), body.p, body.n);
    n_record += 1 + pb_varint_len(*crc);
    if (n)
        n_record += 1 + pb_varint_len(n) + n;
    pad = padding_of(n_record);
    length = n_record | (pad ? (uint64_t)(0x80 | pad) << 56 : 0);

    buf_reserve(b, WAL_FRAME_HEAD + n_record + pad);
    put_u64le(b->data + b->len, length);
    b->len += WAL_FRAME_HEAD;
    pb_add_u64(b, 1, type);
    pb_add_u64(b, 2, *crc);
    if (n) {
        pb_add_tag(b, 3, PB_BYTES);
        pb_add_varint(b, n);
        buf_add(b, head.p, head.n);
        buf_add(b, body.p, body.n);
    }
    buf_add(b, "\0\0\0\0\0\0\0", pad);
}

void wal_encode(struct buf *b, enum wal_record_type type, const void *data,
                size_t n, uint32_t *crc)
{
    wal_encode_frame(b, type, (struct str){data, n}, STR(""), crc);
}

bool wal_parse_length(uint64_t word, size_t *n, size_t *pad)
{
    uint64_t len = word & ((UINT64_C(1) << 56) - 1);
    unsigned top = (unsigned)(word >> 56);

    if (len == 0 || len > WAL_RECORD_MAX)
        return false;
    *n = (size_t)len;
    *pad = padding_of(len);
    return top == (*pad ? (0x80 | *pad) : 0);
}

int wal_parse_record(const uint8_t *p, size_t n, struct wal_record *rec)
{
    uint64_t type = 0, crc = 0;
    struct str data = {0};
    const struct pb_target fields[] = {
        [1] = {.u64 = &type},
        [2] = {.u64 = &crc},
        [3] = {.bytes = &data},
    };

    if (pb_read(p, n, fields, ARRAY_LEN(fields)) < 0 || crc > UINT32_MAX)
        return WAL_EFORMAT;
    if (type == WAL_CRC && data.n > 0)
        return WAL_EFORMAT;
    *rec = (struct wal_record){(int64_t)type, (uint32_t)crc, data};
    return 0;
}

int64_t wal_decode(const uint8_t *p, size_t n, uint32_t *crc,
                   struct wal_record *rec)
{
    struct wal_record found;
    size_t len, pad;
    uint32_t sum;

    if (n < WAL_FRAME_HEAD || get_u64le(p) == 0)
        return 0;
    if (!wal_parse_length(get_u64le(p), &len, &pad))
        return WAL_EFORMAT;
    if (n - WAL_FRAME_HEAD < len + pad)
        return 0;
    if (wal_parse_record(p + WAL_FRAME_HEAD, len, &found) < 0)
        return WAL_EFORMAT;
    /* A reader that begins with this segment has no sum to compare yet. */
    if (found.type == WAL_CRC && *crc == 0)
        sum = found.crc;
    else
        sum = crc32c(*crc, found.data.p, found.data.n);
    if (sum != found.crc)
        return WAL_ECRC;
    *crc = sum;
    *rec = found;
    return (int64_t)(WAL_FRAME_HEAD + len + pad);
}

void wal_encode_metadata(struct buf *b, const struct wal_metadata *m)
{
    pb_add_u64(b, 1, m->node_id);
    pb_add_u64(b, 2, m->cluster_id);
}

int wal_decode_metadata(struct str s, struct wal_metadata *m)
{
    const struct pb_target fields[] = {
        [1] = {.u64 = &m->node_id},
        [2] = {.u64 = &m->cluster_id},
    };

    return pb_read(s.p, s.n, fields, ARRAY_LEN(fields));
}

void wal_encode_snapshot(struct buf *b, struct wal_snapshot snap,
                         const struct raft_conf_state *cs)
{
    pb_add_u64(b, 1, snap.index);
    pb_add_u64(b, 2, snap.term);
    if (cs) {
        size_t mark = pb_begin(b, 3);

        raftpb_encode_conf_state(b, cs);
        pb_end(b, mark);
    }
}

int wal_decode_snapshot(struct str s, struct wal_snapshot *snap)
{
    struct str conf_state;
    const struct pb_target fields[] = {
        [1] = {.u64 = &snap->index},
        [2] = {.u64 = &snap->term},
        [3] = {.bytes = &conf_state},
    };

    *snap = (struct wal_snapshot){0};
    return pb_read(s.p, s.n, fields, ARRAY_LEN(fields));
}

const char *wal_decode_state(struct str data, struct raft_hard_state *hs)
{
    struct buf again = {0};
    bool whole;

    if (raftpb_decode_hard_state(data.p, data.n, hs) < 0)
        return "malformed state";
    raftpb_encode_hard_state(&again, hs);
    whole = data.n <= again.len;
    buf_release(&again);
    /* Else: a field that we would lose; or no state at all. */
    return whole ? NULL : "malformed state";
}

const char *wal_state_fault(const struct raft_hard_state *last,
                            const struct raft_hard_state *hs)
{
    if (hs->term == 0 && hs->vote != 0)
        return "a vote without a term";
    if (hs->term < last->term)
        return "a term that goes back";
    if (hs->commit < last->commit)
        return "a commit index that goes back";
    if (hs->term == last->term && last->vote != 0 && hs->vote != last->vote)
        return "a second vote in one term";
    return NULL;
}
