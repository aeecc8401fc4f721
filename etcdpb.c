/*
 * etcdpb.c - the requests that stand in normal log entries.
 *
 * A v2 Request is a proto2 message of etcd's: every scalar is written, zero
 * or not, but for prevExist and refresh, where absence is a third value.
 *
 * An entry is tried as InternalRaftRequest first and as a bare Request only
 * if it is not one, as every member of a mixed cluster must read it the same
 * way. What decides is field 2: a nested Request in the one, the method in
 * the other, and no method reads as a message: the letters P, G, D, Q and S
 * are tags of a wrong wire type, or of a field cut short.
 */
#include "etcdpb.h"

#include "pb.h"

enum { INTERNAL_ID = 1, INTERNAL_V2 = 2, INTERNAL_HEADER = 100 };
enum { HEADER_ID = 1, HEADER_USERNAME = 2, HEADER_AUTH_REVISION = 3 };

static void add_tristate(struct buf *b, uint32_t number, enum tristate t)
{
    if (t != TRI_UNSET)
        pb_add_u64(b, number, t == TRI_TRUE);
}

/* At most, of 17 fields: a tag of one or two bytes and a varint of ten. */
#define V2_FIELDS_SIZE ((size_t)17 * 12)

void etcdpb_encode_v2_request(struct buf *b, const struct v2_request *r)
{
    buf_reserve(b, V2_FIELDS_SIZE + r->method.n + r->path.n + r->val.n +
                       r->prev_value.n); /* grows once */
    pb_add_u64(b, 1, r->id);
    pb_add_str(b, 2, r->method);
    pb_add_str(b, 3, r->path);
    pb_add_str(b, 4, r->val);
    pb_add_u64(b, 5, r->dir);
    pb_add_str(b, 6, r->prev_value);
    pb_add_u64(b, 7, r->prev_index);
    add_tristate(b, 8, r->prev_exist);
    pb_add_u64(b, 9, (uint64_t)r->expiration);
    pb_add_u64(b, 10, r->wait);
    pb_add_u64(b, 11, r->since);
    pb_add_u64(b, 12, r->recursive);
    pb_add_u64(b, 13, r->sorted);
    pb_add_u64(b, 14, r->quorum);
    pb_add_u64(b, 15, (uint64_t)r->time);
    pb_add_u64(b, 16, r->stream);
    add_tristate(b, 17, r->refresh);
}

#define ABSENT UINT64_C(2) /* of a bool: neither 0 nor 1 */

static enum tristate tristate_of(uint64_t v)
{
    return v == ABSENT ? TRI_UNSET : v ? TRI_TRUE : TRI_FALSE;
}

int etcdpb_decode_v2_request(const void *p, size_t n, struct v2_request *out)
{
    struct v2_request r = {0};
    uint64_t dir = 0, wait = 0, recursive = 0, sorted = 0, quorum = 0;
    uint64_t stream = 0, expiration = 0, time = 0;
    uint64_t prev_exist = ABSENT, refresh = ABSENT;
    const struct pb_target fields[] = {
        [1] = {.u64 = &r.id},         [2] = {.bytes = &r.method},
        [3] = {.bytes = &r.path},     [4] = {.bytes = &r.val},
        [5] = {.u64 = &dir},          [6] = {.bytes = &r.prev_value},
        [7] = {.u64 = &r.prev_index}, [8] = {.u64 = &prev_exist},
        [9] = {.u64 = &expiration},   [10] = {.u64 = &wait},
        [11] = {.u64 = &r.since},     [12] = {.u64 = &recursive},
        [13] = {.u64 = &sorted},      [14] = {.u64 = &quorum},
        [15] = {.u64 = &time},        [16] = {.u64 = &stream},
        [17] = {.u64 = &refresh},
    };

    r.method = r.path = r.val = r.prev_value = STR("");
    if (pb_read(p, n, fields, ARRAY_LEN(fields)) < 0)
        return ETCDPB_EINVAL;
    r.dir = dir != 0;
    r.wait = wait != 0;
    r.recursive = recursive != 0;
    r.sorted = sorted != 0;
    r.quorum = quorum != 0;
    r.stream = stream != 0;
    r.expiration = (int64_t)expiration;
    r.time = (int64_t)time;
    r.prev_exist = tristate_of(prev_exist);
    r.refresh = tristate_of(refresh);
    *out = r;
    return 0;
}

static int decode_header(struct str header, uint64_t *id,
                         struct entry_request *out)
{
    const struct pb_target fields[] = {
        [HEADER_ID] = {.u64 = id},
        [HEADER_USERNAME] = {.bytes = &out->username},
        [HEADER_AUTH_REVISION] = {.u64 = &out->auth_revision},
    };

    return pb_read(header.p, header.n, fields, ARRAY_LEN(fields));
}

/*
 * InternalRaftRequest: an id or a header, and one request. A number that we
 * do not know, from a newer member, is reported like any other.
 */
static int decode_internal(const void *p, size_t n, struct entry_request *out)
{
    struct pb_reader r = pb_reader(p, n);
    uint64_t id = 0, header_id = 0;
    struct pb_field f;
    int rc;

    out->kind = ENTRY_INTERNAL;
    while ((rc = pb_next(&r, &f)) > 0) {
        if (f.wire != (f.number == INTERNAL_ID ? PB_VARINT : PB_BYTES))
            return ETCDPB_EINVAL;
        if (f.number == INTERNAL_ID) {
            id = f.u64;
        } else if (f.number == INTERNAL_V2) {
            rc = etcdpb_decode_v2_request(f.bytes.p, f.bytes.n, &out->v2);
            out->kind = ENTRY_V2;
        } else if (f.number == INTERNAL_HEADER) {
            rc = decode_header(f.bytes, &header_id, out);
        } else if (out->field == 0) {
            out->field = f.number;
            out->bytes = f.bytes;
        }
        if (rc < 0)
            return ETCDPB_EINVAL;
    }
    if (rc < 0)
        return ETCDPB_EINVAL;
    out->id = header_id ? header_id : id;
    return 0;
}

int etcdpb_decode_entry(const void *p, size_t n, struct entry_request *out)
{
    struct entry_request r = {
        .kind = ENTRY_EMPTY, .username = STR(""), .bytes = STR("")};

    if (n > 0 && decode_internal(p, n, &r) < 0) {
        r = (struct entry_request){
            .kind = ENTRY_V2, .username = STR(""), .bytes = STR("")};
        if (etcdpb_decode_v2_request(p, n, &r.v2) < 0)
            return ETCDPB_EINVAL;
    }
    if (r.kind == ENTRY_V2)
        r.id = r.v2.id;
    *out = r;
    return 0;
}

static void add_header(struct buf *b, uint64_t id, struct str username,
                       uint64_t auth_revision)
{
    size_t mark = pb_begin(b, INTERNAL_HEADER);

    if (id)
        pb_add_u64(b, HEADER_ID, id);
    if (username.n)
        pb_add_str(b, HEADER_USERNAME, username);
    if (auth_revision)
        pb_add_u64(b, HEADER_AUTH_REVISION, auth_revision);
    pb_end(b, mark);
}

/* At most, beside the strings: six tags and lengths, two numbers. */
#define INTERNAL_FIELDS_SIZE ((size_t)6 * 5 + 2 * 10)

void etcdpb_encode_internal(struct buf *b, uint64_t id, struct str username,
                            uint64_t auth_revision, uint32_t field,
                            struct str bytes)
{
    assert(field > INTERNAL_V2 && field != INTERNAL_HEADER);
    buf_reserve(b, INTERNAL_FIELDS_SIZE + username.n + bytes.n); /* once */
    if (field < INTERNAL_HEADER)
        pb_add_str(b, field, bytes);
    add_header(b, id, username, auth_revision);
    if (field > INTERNAL_HEADER)
        pb_add_str(b, field, bytes);
}
