/*
 * v3kv.c - the KV service: Range, Put, DeleteRange, Txn, Compact, RangeStream
 * (spec: v3-api, 4).
 *
 * A RANGE is answered in one of three ways. One that is small, as most are, is
 * read whole and encoded straight into the answer. What is longer than
 * WHOLE_MAX is sent at the client's pace: the references of what was read are
 * kept, and each version is encoded, or its value referred to, when the client
 * takes it. And what may be more than KEYS_AT_ONCE keys is read in steps, twice:
 * once to measure it, on a thread of its own, and once to send it (mvcc.h). So
 * an answer of any length holds little more than what is on its way.
 */
#include "v3kv.h"
#include "grpc.h"
#include "pb.h"
#include "rpc.h"
#include "v3convert.h"

#include <assert.h>

#define WHOLE_MAX (64 * 1024) /* bytes of an answer that is made at once */
#define KEYS_AT_ONCE 1000
#define STEP_KEYS 64    /* of a large answer, between looks at the room */
#define REFER_MIN 1024  /* bytes of a value that is not copied */
#define CHUNK_MAX 65536 /* bytes of a message of RangeStream, about */
#define MESSAGE_MAX INT32_MAX

/* --- Versions as messages. ------------------------------------------------------ */

void v3kv_message(const struct mvcc_kv *kv, bool keys_only,
                  struct rpcpb_key_value *out)
{
    *out = (struct rpcpb_key_value){
        .key = mvcc_key(kv),
        .create_revision = kv->create_revision,
        .mod_revision = kv->mod_revision,
        .version = kv->version,
        .lease = kv->lease,
    };
    if (!keys_only)
        out->value = mvcc_value(kv);
}

static struct rpcpb_key_value *messages(struct rpc_call *c,
                                        struct mvcc_kv *const *kvs, size_t n,
                                        bool keys_only)
{
    struct rpcpb_key_value *out = arena_alloc(&c->arena, n * sizeof(*out));

    for (size_t i = 0; i < n; i++)
        v3kv_message(kvs[i], keys_only, &out[i]);
    return out;
}

/* Requests are bounded by the arena's limit; what is answered is not. */
static void prepare_to_answer(struct rpc_call *c)
{
    c->arena.limit = SIZE_MAX;
}

/* --- Range: what is asked. --------------------------------------------------------- */

struct range {
    struct rpc_call *call;
    struct mvcc_range req;
    struct v3_read read_index;
    struct v3_header header;

    /* What is found, as far as it is read: owned references. */
    struct mvcc_kv **kvs;
    size_t n, next;
    bool more;
    int64_t count;
    struct mvcc_read read; /* while in_steps */
    bool in_steps;
    bool head_out, kvs_open; /* of the answer */
    int stage;               /* atomic; of a stream: enum stage */
};

static enum mvcc_form form_of(const struct range *r)
{
    return r->req.keys_only ? MVCC_KEYS_ONLY : MVCC_RECORD;
}

static void drop_kvs(struct range *r)
{
    for (size_t i = r->next; i < r->n; i++)
        mvcc_unref(r->kvs[i]);
    r->n = r->next = 0;
}

static void release(struct range *r)
{
    drop_kvs(r);
    free(r->kvs);
    r->kvs = NULL;
    if (r->in_steps)
        v3_read_close(r->call->server, &r->read);
    r->in_steps = false;
}

static void fail_range(struct range *r, enum v3_error e)
{
    release(r);
    rpc_fail_error(r->call, e);
}

/* --- Range: the answer as bytes. ------------------------------------------------------ */

static void add_header(struct range *r, struct buf *b)
{
    struct rpcpb_response_header h;

    rpc_set_header(r->call, r->header, &h);
    pb_add_tag(b, 1, PB_BYTES);
    pb_add_varint(b, msg_size(&rpcpb_response_header_desc, &h));
    msg_encode(&rpcpb_response_header_desc, &h, b);
}

static size_t header_size(struct range *r)
{
    struct rpcpb_response_header h;
    size_t n;

    rpc_set_header(r->call, r->header, &h);
    n = msg_size(&rpcpb_response_header_desc, &h);
    return 1 + pb_varint_len(n) + n;
}

static void add_kv_head(struct range *r, const struct mvcc_kv *kv,
                        struct buf *b)
{
    pb_add_tag(b, 2, PB_BYTES);
    pb_add_varint(b, mvcc_kv_size(kv, form_of(r)));
}

static size_t kv_size(const struct range *r, const struct mvcc_kv *kv)
{
    size_t n = mvcc_kv_size(kv, form_of(r));

    return 1 + pb_varint_len(n) + n;
}

static size_t kvs_size(const struct range *r)
{
    size_t sum = 0;

    for (size_t i = r->next; i < r->n; i++)
        sum += kv_size(r, r->kvs[i]);
    return sum;
}

static void add_tail(const struct range *r, struct buf *b)
{
    if (r->more)
        pb_add_u64(b, 3, 1);
    if (r->count)
        pb_add_u64(b, 4, (uint64_t)r->count);
}

static size_t tail_size(const struct range *r)
{
    return (r->more ? 2 : 0) +
           (r->count ? 1 + pb_varint_len((uint64_t)r->count) : 0);
}

/* All of it at once. */
static void reply_whole(struct range *r)
{
    struct rpc_call *c = r->call;
    struct buf b = {0};

    buf_reserve(&b, RPC_ROOM + header_size(r) + kvs_size(r) + tail_size(r));
    b.len = RPC_ROOM;
    add_header(r, &b);
    for (size_t i = 0; i < r->n; i++) {
        add_kv_head(r, r->kvs[i], &b);
        mvcc_kv_encode(&b, r->kvs[i], form_of(r));
    }
    add_tail(r, &b);
    release(r);
    rpc_reply_bytes(c, &b);
}

/* The same as a message, for a door that does not take bytes. */
static void reply_message(struct range *r)
{
    struct rpc_call *c = r->call;
    struct rpcpb_range_response out = {.more = r->more, .count = r->count};
    struct mvcc_kv **kvs = r->kvs;
    size_t n = r->n;
    struct rpcpb_response_header h;

    prepare_to_answer(c);
    rpc_set_header(c, r->header, &h);
    out.header = &h;
    out.kvs.items = messages(c, kvs, n, r->req.keys_only);
    out.kvs.n = n;
    rpc_reply(c, &out); /* r is gone */
    mvcc_unref_all(kvs, n);
}

/* --- Range: the answer at the client's pace. ------------------------------------------- */

static void unref_kv(void *kv)
{
    mvcc_unref(kv);
}

/* Takes kv. Its value, if it is long, stands last: the order of fields is free,
 * and so it can be sent from where it is. */
static void put_kv(struct range *r, struct mvcc_kv *kv, struct rpc_out *out)
{
    struct buf *b = rpc_out_buf(out);

    add_kv_head(r, kv, b);
    if (form_of(r) == MVCC_KEYS_ONLY || kv->value_len < REFER_MIN) {
        mvcc_kv_encode(b, kv, form_of(r));
        mvcc_unref(kv);
        return;
    }
    mvcc_kv_encode(b, kv, MVCC_KEYS_ONLY);
    pb_add_tag(b, 5, PB_BYTES);
    pb_add_varint(b, kv->value_len);
    rpc_out_ref(out, mvcc_value(kv), unref_kv, kv);
}

static void put_kv_json(struct range *r, struct mvcc_kv *kv, bool first,
                        struct rpc_out *out)
{
    struct buf *b = rpc_out_buf(out);
    struct rpcpb_key_value m;

    buf_adds(b, first ? ",\"kvs\":[" : ",");
    v3kv_message(kv, r->req.keys_only, &m);
    msg_encode_json(&rpcpb_key_value_desc, &m, b);
    mvcc_unref(kv);
}

/* The next versions into kvs; false at the end. */
static bool read_more(struct range *r)
{
    if (r->next < r->n)
        return true;
    r->n = r->next = 0;
    if (!r->in_steps)
        return false;
    while (r->n == 0 && !r->read.done)
        r->n = v3_read_next(r->call->server, &r->read, r->kvs, STEP_KEYS);
    r->more = r->read.more;
    r->count = r->read.count;
    return r->n > 0;
}

static enum rpc_pulled pull_range(struct rpc_call *c, struct rpc_out *out,
                                  size_t room)
{
    struct range *r = c->state;
    struct buf *b = rpc_out_buf(out);

    if (!r->head_out)
        add_header(r, b);
    r->head_out = true;
    while (b->len < room && out->n_refs == 0) {
        if (!read_more(r)) {
            add_tail(r, b);
            return RPC_PULL_DONE;
        }
        put_kv(r, r->kvs[r->next++], out);
    }
    return RPC_PULL_MORE;
}

static void add_json_head(struct range *r, struct buf *b)
{
    struct rpcpb_response_header h;

    rpc_set_header(r->call, r->header, &h);
    buf_adds(b, "{\"header\":");
    msg_encode_json(&rpcpb_response_header_desc, &h, b);
}

static void add_json_tail(struct range *r, struct buf *b)
{
    if (r->kvs_open)
        buf_addc(b, ']');
    if (r->more)
        buf_adds(b, ",\"more\":true");
    if (r->count)
        buf_printf(b, ",\"count\":\"%lld\"", (long long)r->count);
    buf_addc(b, '}');
}

static enum rpc_pulled pull_range_json(struct rpc_call *c, struct rpc_out *out,
                                       size_t room)
{
    struct range *r = c->state;
    struct buf *b = rpc_out_buf(out);

    if (!r->head_out)
        add_json_head(r, b);
    r->head_out = true;
    while (b->len < room) {
        if (!read_more(r)) {
            add_json_tail(r, b);
            return RPC_PULL_DONE;
        }
        put_kv_json(r, r->kvs[r->next++], !r->kvs_open, out);
        r->kvs_open = true; /* the array is open */
    }
    return RPC_PULL_MORE;
}

static void range_over(struct rpc_call *c)
{
    release(c->state);
    rpc_finish(c);
}

static void reply_paced(struct range *r, uint64_t size)
{
    struct rpc_call *c = r->call;

    c->on_pull = c->door->json ? pull_range_json : pull_range;
    rpc_reply_paced(c, size, range_over);
}

/* --- Range: reading. ---------------------------------------------------------------------- */

/* What is in kvs is all. */
static void answer(struct range *r)
{
    uint64_t size = header_size(r) + kvs_size(r) + tail_size(r);

    if (size > WHOLE_MAX)
        reply_paced(r, size);
    else if (r->call->door->json)
        reply_message(r);
    else
        reply_whole(r);
}

/* Look at all of it for its size; then it is read anew. A thread of its own. */
static void measure(struct rpc_call *c)
{
    struct range *r = c->state;
    uint64_t size = header_size(r);

    for (;;) {
        size += kvs_size(r);
        drop_kvs(r);
        if (r->read.unsorted)
            mvcc_read_sort(&r->read);
        if (r->read.done)
            break;
        r->n = v3_read_next(c->server, &r->read, r->kvs, KEYS_AT_ONCE);
    }
    r->more = r->read.more;
    r->count = r->read.count;
    size += tail_size(r);
    if (size > MESSAGE_MAX && !c->door->json) {
        release(r);
        rpc_fail(c, GRPC_RESOURCE_EXHAUSTED,
                 "grpc: trying to send message larger than max");
        return;
    }
    mvcc_read_rewind(&r->read);
    reply_paced(r, size);
}

static void range_in_steps(struct range *r)
{
    struct rpc_call *c = r->call;
    enum v3_error e =
        v3_read_open(c->server, &c->who, &r->req, &r->read, &r->header);

    if (e != V3_OK) {
        fail_range(r, e);
        return;
    }
    r->in_steps = true;
    r->kvs = xcalloc(KEYS_AT_ONCE, sizeof(*r->kvs));
    r->n = v3_read_next(c->server, &r->read, r->kvs, KEYS_AT_ONCE);
    if (!r->read.done) {
        if (!rpc_block(c, measure))
            fail_range(r, V3_REQUEST_TOO_MANY_REQUESTS);
        return;
    }
    r->more = r->read.more;
    r->count = r->read.count;
    v3_read_close(c->server, &r->read);
    r->in_steps = false;
    answer(r);
}

static bool is_unfiltered(const struct mvcc_range *q)
{
    return !q->min_mod_revision && !q->max_mod_revision &&
           !q->min_create_revision && !q->max_create_revision;
}

/* Does it look at few keys, however many there are? */
static bool is_bounded(const struct mvcc_range *q)
{
    if (q->range_end.n == 0)
        return true;
    if (q->revision > 0 || !is_unfiltered(q) || q->order != MVCC_NONE ||
        q->target != MVCC_BY_KEY)
        return false;
    return q->count_only || (q->limit > 0 && q->limit <= KEYS_AT_ONCE);
}

static void range_now(struct range *r)
{
    struct rpc_call *c = r->call;
    struct mvcc_range_result found;
    enum v3_error e;

    if (!is_bounded(&r->req)) {
        range_in_steps(r);
        return;
    }
    e = v3_range(c->server, &c->who, &r->req, &found, &r->header);
    if (e != V3_OK) {
        fail_range(r, e);
        return;
    }
    r->kvs = found.kvs;
    r->n = found.n;
    r->more = found.more;
    r->count = found.count;
    answer(r);
}

static void range_ready(struct v3_read *op)
{
    struct range *r = op->arg;

    rpc_read_came(r->call);
    if (op->error != V3_OK)
        fail_range(r, op->error);
    else
        range_now(r);
}

/* rc: of a check in mvcc. */
static bool passes(struct rpc_call *c, int rc)
{
    if (rc == 0 || rc == MVCC_INVALID_SORT) /* that came with 3.6 */
        return true;
    rpc_fail_error(c, v3_error_of_mvcc(rc));
    return false;
}

bool v3kv_check_range(struct rpc_call *c)
{
    struct mvcc_range r;

    v3_range_of(c->request, &r);
    return passes(c, mvcc_check_range(&r));
}

/* The request, checked. NULL: refused. */
static struct range *range_of(struct rpc_call *c)
{
    struct range *r = arena_alloc(&c->arena, sizeof(*r));

    if (!r) {
        rpc_fail_error(c, V3_REQUEST_TOO_LARGE);
        return NULL;
    }
    v3_range_of(c->request, &r->req);
    if (!passes(c, mvcc_check_range(&r->req)))
        return NULL;
    r->call = c;
    c->state = r;
    return r;
}

void v3kv_range(struct rpc_call *c)
{
    struct range *r = range_of(c);

    if (!r)
        return;
    if (r->req.serializable) {
        range_now(r);
        return;
    }
    r->read_index.done = range_ready;
    r->read_index.arg = r;
    rpc_read_index(c, &r->read_index);
}

/* --- RangeStream (3.7). ---------------------------------------------------------------------- */

/* Who ends the call: whoever finds it READY and the client gone, or moves it
 * from PENDING to ENDED. */
enum stage { PENDING, READY, GONE, ENDED };

static bool move_stage(struct range *r, int from, int to)
{
    return __atomic_compare_exchange_n(&r->stage, &from, to, false,
                                       __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

/* One message: the next versions, about CHUNK_MAX bytes; the last one has
 * header and tail as well. */
static enum rpc_pulled pull_chunk(struct rpc_call *c, struct rpc_out *out,
                                  size_t room)
{
    struct range *r = c->state;
    struct buf *b = rpc_out_buf(out);
    size_t size = 0, end;
    bool last;

    (void)room;
    if (__atomic_load_n(&r->stage, __ATOMIC_ACQUIRE) != READY)
        return RPC_PULL_WAIT;
    last = !read_more(r);
    for (end = r->next; end < r->n && size < CHUNK_MAX; end++)
        size += kv_size(r, r->kvs[end]);
    if (last)
        size = header_size(r) + tail_size(r);
    rpc_out_begin(out);
    pb_add_tag(b, 1, PB_BYTES);
    pb_add_varint(b, size);
    if (last) {
        add_header(r, b);
        add_tail(r, b);
    }
    while (r->next < end)
        put_kv(r, r->kvs[r->next++], out);
    rpc_out_end(c, out);
    return last ? RPC_PULL_DONE : RPC_PULL_MORE;
}

static void stream_over(struct rpc_call *c)
{
    struct range *r = c->state;

    if (move_stage(r, PENDING, GONE) || !move_stage(r, READY, ENDED))
        return; /* stream_ready() ends it, or did */
    range_over(c);
}

static void stream_ready(struct v3_read *op)
{
    struct range *r = op->arg;
    struct rpc_call *c = r->call;
    enum v3_error e = op->error;

    if (e == V3_OK)
        e = v3_read_open(c->server, &c->who, &r->req, &r->read, &r->header);
    r->in_steps = e == V3_OK;
    r->kvs = xcalloc(STEP_KEYS, sizeof(*r->kvs));
    if (e != V3_OK && move_stage(r, PENDING, ENDED))
        fail_range(r, e);
    else if (e == V3_OK && move_stage(r, PENDING, READY))
        rpc_wake(c);
    else /* the client is gone */
        range_over(c);
}

void v3kv_range_stream(struct rpc_call *c)
{
    struct range *r = range_of(c);

    if (!r)
        return;
    if (r->req.order != MVCC_NONE || r->req.target != MVCC_BY_KEY) {
        rpc_fail(c, GRPC_UNIMPLEMENTED,
                 "RangeStream does not support custom sort orders");
        return;
    }
    if (!is_unfiltered(&r->req)) {
        rpc_fail(c, GRPC_UNIMPLEMENTED,
                 "RangeStream does not support revision filters");
        return;
    }
    c->on_pull = pull_chunk;
    c->on_gone = stream_over;
    r->read_index.done = stream_ready;
    r->read_index.arg = r;
    if (r->req.serializable)
        stream_ready(&r->read_index);
    else
        rpc_read_index(c, &r->read_index);
}

/* --- Writes. ------------------------------------------------------------------------------------ */

static void answer_put(struct rpc_call *c, const struct v3_result *result)
{
    struct rpcpb_put_response out = {.prev_kv = NULL};
    struct rpcpb_response_header h;
    struct rpcpb_key_value prev;

    rpc_set_header(c, result->header, &h);
    out.header = &h;
    if (result->u.put.prev) {
        v3kv_message(result->u.put.prev, false, &prev);
        out.prev_kv = &prev;
    }
    rpc_reply(c, &out);
}

bool v3kv_check_put(struct rpc_call *c)
{
    struct mvcc_put p;

    v3_put_of(c->request, &p);
    return passes(c, mvcc_check_put(&p));
}

void v3kv_put(struct rpc_call *c)
{
    if (v3kv_check_put(c))
        rpc_propose(c, V3_PUT, c->request_bytes, answer_put);
}

static void answer_delete(struct rpc_call *c, const struct v3_result *result)
{
    const struct mvcc_delete_result *d = &result->u.delete_range;
    struct rpcpb_delete_range_response out = {.deleted = d->deleted};
    struct rpcpb_response_header h;

    prepare_to_answer(c);
    rpc_set_header(c, result->header, &h);
    out.header = &h;
    out.prev_kvs.items = messages(c, d->prevs, d->n, false);
    out.prev_kvs.n = d->n;
    rpc_reply(c, &out);
}

bool v3kv_check_delete_range(struct rpc_call *c)
{
    struct mvcc_delete_range d;

    v3_delete_range_of(c->request, &d);
    return passes(c, mvcc_check_delete_range(&d));
}

void v3kv_delete_range(struct rpc_call *c)
{
    if (v3kv_check_delete_range(c))
        rpc_propose(c, V3_DELETE_RANGE, c->request_bytes, answer_delete);
}

static void answer_compact(struct rpc_call *c, const struct v3_result *result)
{
    struct rpcpb_compaction_response out;
    struct rpcpb_response_header h;

    rpc_set_header(c, result->header, &h);
    out.header = &h;
    rpc_reply(c, &out);
}

void v3kv_compact(struct rpc_call *c)
{
    rpc_propose(c, V3_COMPACTION, c->request_bytes, answer_compact);
}

/* --- Txn. ------------------------------------------------------------------------------------------ */

struct txn {
    struct rpc_call *call;
    struct mvcc_txn req;
    struct v3_read read_index;
};

static struct rpcpb_response_header *revision_header(struct rpc_call *c,
                                                     int64_t revision)
{
    struct rpcpb_response_header *h = arena_alloc(&c->arena, sizeof(*h));

    h->revision = revision;
    return h;
}

static void convert_txn(struct rpc_call *c, const struct mvcc_txn *t,
                        const struct mvcc_txn_result *in,
                        struct rpcpb_txn_response *out);

static void convert_range(struct rpc_call *c, const struct mvcc_range *q,
                          const struct mvcc_range_result *in,
                          struct rpcpb_range_response *out)
{
    out->header = revision_header(c, in->revision);
    out->kvs.items = messages(c, in->kvs, in->n, q->keys_only);
    out->kvs.n = in->n;
    out->more = in->more;
    out->count = in->count;
}

static void convert_put(struct rpc_call *c, const struct mvcc_put_result *in,
                        struct rpcpb_put_response *out)
{
    out->header = revision_header(c, in->revision);
    if (in->prev)
        out->prev_kv = messages(c, &in->prev, 1, false);
}

static void convert_delete(struct rpc_call *c,
                           const struct mvcc_delete_result *in,
                           struct rpcpb_delete_range_response *out)
{
    out->header = revision_header(c, in->revision);
    out->deleted = in->deleted;
    out->prev_kvs.items = messages(c, in->prevs, in->n, false);
    out->prev_kvs.n = in->n;
}

static void convert_op(struct rpc_call *c, const struct mvcc_op *op,
                       const struct mvcc_op_result *in,
                       struct rpcpb_response_op *out)
{
    switch (in->kind) {
    case MVCC_OP_RANGE:
        out->response_range =
            arena_alloc(&c->arena, sizeof(*out->response_range));
        convert_range(c, &op->u.range, &in->u.range, out->response_range);
        break;
    case MVCC_OP_PUT:
        out->response_put = arena_alloc(&c->arena, sizeof(*out->response_put));
        convert_put(c, &in->u.put, out->response_put);
        break;
    case MVCC_OP_DELETE_RANGE:
        out->response_delete_range =
            arena_alloc(&c->arena, sizeof(*out->response_delete_range));
        convert_delete(c, &in->u.delete_range, out->response_delete_range);
        break;
    case MVCC_OP_TXN:
        out->response_txn = arena_alloc(&c->arena, sizeof(*out->response_txn));
        out->response_txn->header = revision_header(c, in->u.txn.revision);
        convert_txn(c, &op->u.txn, &in->u.txn, out->response_txn);
        break;
    case MVCC_OP_EMPTY:
        break;
    }
}

/* What was asked says which ranges are to be without their values. */
static void convert_txn(struct rpc_call *c, const struct mvcc_txn *t,
                        const struct mvcc_txn_result *in,
                        struct rpcpb_txn_response *out)
{
    const struct mvcc_op *ops = in->succeeded ? t->success : t->failure;
    struct rpcpb_response_op *items =
        arena_alloc(&c->arena, in->n * sizeof(*items));

    assert(in->n == (in->succeeded ? t->n_success : t->n_failure));
    for (size_t i = 0; i < in->n; i++)
        convert_op(c, &ops[i], &in->results[i], &items[i]);
    out->succeeded = in->succeeded;
    out->responses.items = items;
    out->responses.n = in->n;
}

static void reply_txn(struct txn *t, const struct mvcc_txn_result *result,
                      struct v3_header header)
{
    struct rpc_call *c = t->call;
    struct rpcpb_txn_response out = {.header = NULL};
    struct rpcpb_response_header h;

    prepare_to_answer(c);
    rpc_set_header(c, header, &h);
    out.header = &h;
    convert_txn(c, &t->req, result, &out);
    rpc_reply(c, &out);
}

static void answer_txn(struct rpc_call *c, const struct v3_result *result)
{
    reply_txn(c->state, &result->u.txn, result->header);
}

static void read_txn(struct txn *t)
{
    struct rpc_call *c = t->call;
    struct mvcc_txn_result result;
    struct v3_header h;
    enum v3_error e = v3_txn_read(c->server, &c->who, &t->req, &result, &h);

    if (e != V3_OK) {
        rpc_fail_error(c, e);
        return;
    }
    reply_txn(t, &result, h);
    mvcc_txn_release(&result);
}

static void txn_ready(struct v3_read *op)
{
    struct txn *t = op->arg;

    rpc_read_came(t->call);
    if (op->error != V3_OK)
        rpc_fail_error(t->call, op->error);
    else
        read_txn(t);
}

/* As etcd: a nested transaction is none of the ranges that ask for it. */
static bool ops_are_serializable(const struct mvcc_op *ops, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (ops[i].kind != MVCC_OP_RANGE || !ops[i].u.range.serializable)
            return false;
    return true;
}

static void read_only_txn(struct txn *t)
{
    if (ops_are_serializable(t->req.success, t->req.n_success) &&
        ops_are_serializable(t->req.failure, t->req.n_failure)) {
        read_txn(t);
        return;
    }
    t->read_index.done = txn_ready;
    t->read_index.arg = t;
    rpc_read_index(t->call, &t->read_index);
}

static bool is_valid_txn(struct rpc_call *c, struct mvcc_txn *t)
{
    if (v3_txn_of(c->request, &c->arena, t))
        return passes(c,
                      mvcc_check_txn(t, server_config(c->server)->max_txn_ops));
    rpc_fail_error(c, V3_REQUEST_TOO_LARGE);
    return false;
}

bool v3kv_check_txn(struct rpc_call *c)
{
    struct mvcc_txn t;

    return is_valid_txn(c, &t);
}

void v3kv_txn(struct rpc_call *c)
{
    struct txn *t = arena_alloc(&c->arena, sizeof(*t));

    if (!t) {
        rpc_fail_error(c, V3_REQUEST_TOO_LARGE);
        return;
    }
    if (!is_valid_txn(c, &t->req))
        return;
    t->call = c;
    c->state = t;
    if (mvcc_txn_is_read_only(&t->req))
        read_only_txn(t);
    else
        rpc_propose(c, V3_TXN, c->request_bytes, answer_txn);
}
