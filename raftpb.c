/*
 * raftpb.c - the messages of Raft, as etcd writes them.
 *
 * One function each way per message, its fields in the order of their
 * numbers. Writers give every scalar, zero or not, because etcd's generated
 * code does: a record read and written again is the same, byte for byte.
 *
 * Readers work in two steps. The pass over the fields only notes values and
 * where nested bytes stand; a second step builds what is owned, so that an
 * error never leaves anything half built. A known field of the wrong wire
 * type is an error, an unknown one is skipped. Values that would steer a
 * switch somewhere unknown (types of entries, messages and changes) are
 * refused here, once, and need no second look elsewhere.
 */
#include "raftpb.h"

#include "pb.h"

#include <assert.h>

const char *raft_msg_name(enum raft_msg_type type)
{
    static const char *const names[] = {
        "MsgHup",           "MsgBeat",           "MsgProp",
        "MsgApp",           "MsgAppResp",        "MsgVote",
        "MsgVoteResp",      "MsgSnap",           "MsgHeartbeat",
        "MsgHeartbeatResp", "MsgUnreachable",    "MsgSnapStatus",
        "MsgCheckQuorum",   "MsgTransferLeader", "MsgTimeoutNow",
        "MsgReadIndex",     "MsgReadIndexResp",  "MsgPreVote",
        "MsgPreVoteResp",
    };

    return (size_t)type < ARRAY_LEN(names) ? names[type] : "MsgUnknown";
}

/* --- Encoding. ---------------------------------------------------------- */

static void add_blob(struct buf *b, uint32_t number, const struct blob *data)
{
    if (data && data->len)
        pb_add_bytes(b, number, data->data, data->len);
}

void raftpb_encode_entry_head(struct buf *b, const struct raft_entry *e)
{
    pb_add_u64(b, 1, e->type);
    pb_add_u64(b, 2, e->term);
    pb_add_u64(b, 3, e->index);
    if (e->data && e->data->len) {
        pb_add_varint(b, 4 << 3 | PB_BYTES);
        pb_add_varint(b, e->data->len);
    }
}

void raftpb_encode_entry(struct buf *b, const struct raft_entry *e)
{
    raftpb_encode_entry_head(b, e);
    if (e->data)
        buf_add(b, e->data->data, e->data->len);
}

size_t raftpb_entry_size(const struct raft_entry *e)
{
    size_t n = 3 + pb_varint_len(e->type) + pb_varint_len(e->term) +
               pb_varint_len(e->index);

    if (e->data && e->data->len)
        n += 1 + pb_varint_len(e->data->len) + e->data->len;
    return n;
}

void raftpb_encode_hard_state(struct buf *b, const struct raft_hard_state *h)
{
    pb_add_u64(b, 1, h->term);
    pb_add_u64(b, 2, h->vote);
    pb_add_u64(b, 3, h->commit);
}

static void add_ids(struct buf *b, uint32_t number, const struct raft_ids *s)
{
    for (size_t i = 0; i < s->n; i++)
        pb_add_u64(b, number, s->ids[i]);
}

void raftpb_encode_conf_state(struct buf *b, const struct raft_conf_state *c)
{
    add_ids(b, 1, &c->voters);
    add_ids(b, 2, &c->learners);
    add_ids(b, 3, &c->voters_outgoing);
    add_ids(b, 4, &c->learners_next);
    pb_add_u64(b, 5, c->auto_leave);
}

void raftpb_encode_snapshot_meta(struct buf *b, const struct raft_snapshot *s)
{
    size_t meta = pb_begin(b, 2), conf = pb_begin(b, 1);

    raftpb_encode_conf_state(b, &s->conf_state);
    pb_end(b, conf);
    pb_add_u64(b, 2, s->index);
    pb_add_u64(b, 3, s->term);
    pb_end(b, meta);
}

void raftpb_encode_snapshot(struct buf *b, const struct raft_snapshot *s)
{
    add_blob(b, 1, s->data);
    raftpb_encode_snapshot_meta(b, s);
}

/* The snapshot's length is found from its small part: its data may be big. */
static void add_snapshot(struct buf *b, uint32_t number,
                         const struct raft_snapshot *s)
{
    struct buf meta = {0};
    size_t n;

    raftpb_encode_snapshot_meta(&meta, s);
    n = meta.len;
    if (s->data && s->data->len)
        n += 1 + pb_varint_len(s->data->len) + s->data->len;
    pb_add_varint(b, (uint64_t)number << 3 | PB_BYTES);
    pb_add_varint(b, n);
    buf_reserve(b, n);
    add_blob(b, 1, s->data);
    buf_add(b, meta.data, meta.len);
    buf_release(&meta);
}

void raftpb_encode_msg(struct buf *b, const struct raft_msg *m)
{
    static const struct raft_snapshot no_snapshot;

    pb_add_u64(b, 1, m->type);
    pb_add_u64(b, 2, m->to);
    pb_add_u64(b, 3, m->from);
    pb_add_u64(b, 4, m->term);
    pb_add_u64(b, 5, m->log_term);
    pb_add_u64(b, 6, m->index);
    for (size_t i = 0; i < m->n_entries; i++) {
        pb_add_varint(b, 7 << 3 | PB_BYTES);
        pb_add_varint(b, raftpb_entry_size(&m->entries[i]));
        raftpb_encode_entry(b, &m->entries[i]);
    }
    pb_add_u64(b, 8, m->commit);
    add_snapshot(b, 9, m->snapshot ? m->snapshot : &no_snapshot);
    pb_add_u64(b, 10, m->reject);
    pb_add_u64(b, 11, m->reject_hint);
    add_blob(b, 12, m->context);
}

void raftpb_encode_conf_change(struct buf *b, const struct raft_conf_change *c)
{
    pb_add_u64(b, 1, c->id);
    pb_add_u64(b, 2, c->type);
    pb_add_u64(b, 3, c->node_id);
    if (c->context.n)
        pb_add_str(b, 4, c->context);
}

/* --- Decoding. ---------------------------------------------------------- */

static struct blob *blob_of(struct str s)
{
    return s.n ? blob_new(s.p, s.n) : NULL;
}

int raftpb_decode_entry(const void *p, size_t n, struct raft_entry *out)
{
    struct raft_entry e = {0};
    struct str data = {0};
    uint64_t type = 0;
    const struct pb_target fields[] = {
        [1] = {.u64 = &type},
        [2] = {.u64 = &e.term},
        [3] = {.u64 = &e.index},
        [4] = {.bytes = &data},
    };

    if (pb_read(p, n, fields, ARRAY_LEN(fields)) < 0 ||
        type > RAFT_ENTRY_CONF_CHANGE_V2 || data.n > RAFTPB_DATA_MAX)
        return RAFTPB_EINVAL;
    e.type = (enum raft_entry_type)type;
    e.data = blob_of(data);
    *out = e;
    return 0;
}

int raftpb_decode_hard_state(const void *p, size_t n,
                             struct raft_hard_state *out)
{
    struct raft_hard_state h = {0};
    const struct pb_target fields[] = {
        [1] = {.u64 = &h.term},
        [2] = {.u64 = &h.vote},
        [3] = {.u64 = &h.commit},
    };

    if (pb_read(p, n, fields, ARRAY_LEN(fields)) < 0)
        return RAFTPB_EINVAL;
    *out = h;
    return 0;
}

/* Doubles at each power of two, so that no capacity needs to be kept. They
 * are sorted when all have come. */
static void push_id(struct raft_ids *s, raft_id id)
{
    if ((s->n & (s->n - 1)) == 0)
        s->ids = xrealloc(s->ids, (s->n ? 2 * s->n : 1) * sizeof(*s->ids));
    s->ids[s->n++] = id;
}

/* Repeated numbers stand one to a field (etcd's way) or packed into one. */
static int push_ids(struct raft_ids *s, const struct pb_field *f)
{
    struct pb_reader r = pb_reader(f->bytes.p, f->bytes.n);

    if (f->wire == PB_VARINT) {
        push_id(s, f->u64);
        return 0;
    }
    if (f->wire != PB_BYTES)
        return RAFTPB_EINVAL;
    while (r.p < r.end) {
        uint64_t id;

        if (pb_get_varint(&r, &id) < 0)
            return RAFTPB_EINVAL;
        push_id(s, id);
    }
    return 0;
}

static int cmp_ids(const void *a, const void *b)
{
    raft_id x = *(const raft_id *)a, y = *(const raft_id *)b;

    return (x > y) - (x < y);
}

static void sort_ids(struct raft_ids *s)
{
    size_t kept = 0;

    if (s->n == 0)
        return;
    qsort(s->ids, s->n, sizeof(*s->ids), cmp_ids);
    for (size_t i = 0; i < s->n; i++)
        if (kept == 0 || s->ids[i] != s->ids[kept - 1])
            s->ids[kept++] = s->ids[i];
    s->n = kept;
    s->ids = xrealloc(s->ids, kept * sizeof(*s->ids));
}

int raftpb_decode_conf_state(const void *p, size_t n,
                             struct raft_conf_state *out)
{
    struct pb_reader r = pb_reader(p, n);
    struct raft_conf_state c = {0};
    struct raft_ids *lists[] = {&c.voters, &c.learners, &c.voters_outgoing,
                                &c.learners_next};
    struct pb_field f;
    int rc;

    while ((rc = pb_next(&r, &f)) > 0) {
        if (f.number <= ARRAY_LEN(lists))
            rc = push_ids(lists[f.number - 1], &f);
        else if (f.number == 5 && f.wire != PB_VARINT)
            rc = RAFTPB_EINVAL;
        else if (f.number == 5)
            c.auto_leave = f.u64 != 0;
        if (rc < 0)
            break;
    }
    if (rc < 0) {
        raft_conf_state_release(&c);
        return RAFTPB_EINVAL;
    }
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        sort_ids(lists[i]);
    *out = c;
    return 0;
}

static int decode_snapshot_meta(struct str meta, struct raft_snapshot *s)
{
    struct str conf = {0};
    const struct pb_target fields[] = {
        [1] = {.bytes = &conf},
        [2] = {.u64 = &s->index},
        [3] = {.u64 = &s->term},
    };

    if (pb_read(meta.p, meta.n, fields, ARRAY_LEN(fields)) < 0)
        return RAFTPB_EINVAL;
    return raftpb_decode_conf_state(conf.p, conf.n, &s->conf_state);
}

int raftpb_decode_snapshot(const void *p, size_t n, struct raft_snapshot *out)
{
    struct raft_snapshot s = {0};
    struct str data = {0}, meta = {0};
    const struct pb_target fields[] = {
        [1] = {.bytes = &data},
        [2] = {.bytes = &meta},
    };

    if (pb_read(p, n, fields, ARRAY_LEN(fields)) < 0 ||
        data.n > RAFTPB_DATA_MAX || decode_snapshot_meta(meta, &s) < 0)
        return RAFTPB_EINVAL;
    s.data = blob_of(data);
    *out = s;
    return 0;
}

/* The second pass: the array is as long as the first one counted. */
static int decode_entries(const void *p, size_t n, struct raft_msg *m)
{
    struct pb_reader r = pb_reader(p, n);
    size_t want = m->n_entries;
    struct pb_field f;

    m->n_entries = 0; /* counts what raft_msg_release() may free */
    if (want == 0)
        return 0;
    m->entries = xmalloc(want * sizeof(*m->entries));
    while (m->n_entries < want && pb_next(&r, &f) > 0) {
        struct raft_entry *e = &m->entries[m->n_entries];

        if (f.number != 7)
            continue;
        if (raftpb_decode_entry(f.bytes.p, f.bytes.n, e) < 0)
            return RAFTPB_EINVAL;
        m->n_entries++;
    }
    return 0;
}

static int decode_msg_snapshot(struct str bytes, struct raft_msg *m)
{
    struct raft_snapshot s;

    if (m->type != RAFT_MSG_SNAP)
        return 0; /* there is an empty one in every message */
    if (raftpb_decode_snapshot(bytes.p, bytes.n, &s) < 0)
        return RAFTPB_EINVAL;
    m->snapshot = xmalloc(sizeof(s));
    *m->snapshot = s;
    return 0;
}

int raftpb_decode_msg(const void *p, size_t n, struct raft_msg *out)
{
    struct raft_msg m = {0};
    struct str snapshot = {0}, context = {0};
    uint64_t type = 0, reject = 0;
    const struct pb_target fields[] = {
        [1] = {.u64 = &type},           [2] = {.u64 = &m.to},
        [3] = {.u64 = &m.from},         [4] = {.u64 = &m.term},
        [5] = {.u64 = &m.log_term},     [6] = {.u64 = &m.index},
        [7] = {.count = &m.n_entries},  [8] = {.u64 = &m.commit},
        [9] = {.bytes = &snapshot},     [10] = {.u64 = &reject},
        [11] = {.u64 = &m.reject_hint}, [12] = {.bytes = &context},
    };

    if (pb_read(p, n, fields, ARRAY_LEN(fields)) < 0 ||
        type > RAFT_MSG_PRE_VOTE_RESP || context.n > RAFTPB_DATA_MAX)
        return RAFTPB_EINVAL;
    m.type = (enum raft_msg_type)type;
    m.reject = reject != 0;
    if (decode_entries(p, n, &m) < 0 || decode_msg_snapshot(snapshot, &m) < 0) {
        raft_msg_release(&m);
        return RAFTPB_EINVAL;
    }
    m.context = blob_of(context);
    *out = m;
    return 0;
}

int raftpb_decode_conf_change(const void *p, size_t n,
                              struct raft_conf_change *out)
{
    struct raft_conf_change c = {0};
    uint64_t type = 0;
    const struct pb_target fields[] = {
        [1] = {.u64 = &c.id},
        [2] = {.u64 = &type},
        [3] = {.u64 = &c.node_id},
        [4] = {.bytes = &c.context},
    };

    if (pb_read(p, n, fields, ARRAY_LEN(fields)) < 0 ||
        type > RAFT_ADD_LEARNER_NODE)
        return RAFTPB_EINVAL;
    c.type = (enum raft_conf_change_type)type;
    *out = c;
    return 0;
}

static int decode_conf_change_single(struct str s, struct raft_conf_change *c)
{
    uint64_t type = 0;
    const struct pb_target fields[] = {
        [1] = {.u64 = &type},
        [2] = {.u64 = &c->node_id},
    };

    if (pb_read(s.p, s.n, fields, ARRAY_LEN(fields)) < 0 ||
        type > RAFT_ADD_LEARNER_NODE)
        return RAFTPB_EINVAL;
    c->type = (enum raft_conf_change_type)type;
    return 0;
}

static int decode_v2_form(const void *p, size_t n,
                          struct raft_conf_change_v2 *c)
{
    struct pb_reader r = pb_reader(p, n);
    uint64_t transition = 0;
    size_t n_changes = 0;
    const struct pb_target fields[] = {
        [1] = {.u64 = &transition},
        [2] = {.count = &n_changes},
        [3] = {.bytes = &c->context},
    };
    struct pb_field f;

    if (pb_read(p, n, fields, ARRAY_LEN(fields)) < 0 || transition > 2 ||
        n_changes > ARRAY_LEN(c->changes))
        return RAFTPB_EINVAL;
    c->transition = (int)transition;
    while (c->n < n_changes && pb_next(&r, &f) > 0) {
        if (f.number != 2)
            continue;
        if (decode_conf_change_single(f.bytes, &c->changes[c->n]) < 0)
            return RAFTPB_EINVAL;
        c->n++;
    }
    return 0;
}

int raftpb_decode_conf_change_v2(const void *p, size_t n,
                                 struct raft_conf_change_v2 *out)
{
    struct raft_conf_change_v2 c = {0};
    struct raft_conf_change single;

    if (decode_v2_form(p, n, &c) == 0) {
        *out = c;
        return 0;
    }
    if (raftpb_decode_conf_change(p, n, &single) < 0)
        return RAFTPB_EINVAL;
    *out = (struct raft_conf_change_v2){
        .changes = {single}, .n = 1, .context = single.context};
    return 0;
}

/* --- Memory. ------------------------------------------------------------ */

void raft_entry_release(struct raft_entry *e)
{
    blob_unref(e->data);
    *e = (struct raft_entry){0};
}

void raft_entries_free(struct raft_entry *e, size_t n)
{
    for (size_t i = 0; i < n; i++)
        blob_unref(e[i].data);
    free(e);
}

struct raft_entry *raft_entries_dup(const struct raft_entry *e, size_t n)
{
    struct raft_entry *copy = xmalloc(n * sizeof(*copy));

    for (size_t i = 0; i < n; i++) {
        copy[i] = e[i];
        blob_ref(copy[i].data);
    }
    return copy;
}

void raft_snapshot_release(struct raft_snapshot *s)
{
    raft_conf_state_release(&s->conf_state);
    blob_unref(s->data);
    *s = (struct raft_snapshot){0};
}

void raft_msg_release(struct raft_msg *m)
{
    raft_entries_free(m->entries, m->n_entries);
    if (m->snapshot)
        raft_snapshot_release(m->snapshot);
    free(m->snapshot);
    blob_unref(m->context);
    *m = (struct raft_msg){0};
}

void raft_msg_copy(struct raft_msg *dst, const struct raft_msg *src)
{
    *dst = *src;
    dst->entries =
        src->n_entries ? raft_entries_dup(src->entries, src->n_entries) : NULL;
    blob_ref(dst->context);
    if (!src->snapshot)
        return;
    dst->snapshot = xmalloc(sizeof(*dst->snapshot));
    *dst->snapshot = *src->snapshot;
    blob_ref(dst->snapshot->data);
    raft_conf_state_copy(&dst->snapshot->conf_state,
                         &src->snapshot->conf_state);
}

/* Where id stands or would stand. */
static size_t ids_find(const struct raft_ids *s, raft_id id)
{
    size_t low = 0, high = s->n;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (s->ids[mid] < id)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

bool raft_ids_has(const struct raft_ids *s, raft_id id)
{
    size_t at = ids_find(s, id);

    return at < s->n && s->ids[at] == id;
}

void raft_ids_add(struct raft_ids *s, raft_id id)
{
    size_t at = ids_find(s, id);

    if (at < s->n && s->ids[at] == id)
        return;
    s->ids = xrealloc(s->ids, (s->n + 1) * sizeof(*s->ids));
    memmove(s->ids + at + 1, s->ids + at, (s->n - at) * sizeof(*s->ids));
    s->ids[at] = id;
    s->n++;
}

void raft_ids_remove(struct raft_ids *s, raft_id id)
{
    size_t at = ids_find(s, id);

    if (at == s->n || s->ids[at] != id)
        return;
    s->n--;
    memmove(s->ids + at, s->ids + at + 1, (s->n - at) * sizeof(*s->ids));
}

static struct raft_ids ids_copy(const struct raft_ids *src)
{
    struct raft_ids copy = {0};

    if (src->n) {
        copy.ids = xmalloc(src->n * sizeof(*copy.ids));
        memcpy(copy.ids, src->ids, src->n * sizeof(*copy.ids));
        copy.n = src->n;
    }
    return copy;
}

void raft_conf_state_copy(struct raft_conf_state *dst,
                          const struct raft_conf_state *src)
{
    *dst = (struct raft_conf_state){
        .voters = ids_copy(&src->voters),
        .learners = ids_copy(&src->learners),
        .voters_outgoing = ids_copy(&src->voters_outgoing),
        .learners_next = ids_copy(&src->learners_next),
        .auto_leave = src->auto_leave,
    };
}

void raft_conf_state_release(struct raft_conf_state *c)
{
    free(c->voters.ids);
    free(c->learners.ids);
    free(c->voters_outgoing.ids);
    free(c->learners_next.ids);
    *c = (struct raft_conf_state){0};
}
