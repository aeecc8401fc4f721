/*
 * v3convert.c - requests off the wire as the key space takes them.
 */
#include "v3convert.h"

void v3_range_of(const struct rpcpb_range_request *in, struct mvcc_range *out)
{
    *out = (struct mvcc_range){
        .key = in->key,
        .range_end = in->range_end,
        .limit = in->limit,
        .revision = in->revision,
        .order = in->sort_order,
        .target = in->sort_target,
        .keys_only = in->keys_only,
        .count_only = in->count_only,
        .serializable = in->serializable,
        .min_mod_revision = in->min_mod_revision,
        .max_mod_revision = in->max_mod_revision,
        .min_create_revision = in->min_create_revision,
        .max_create_revision = in->max_create_revision,
    };
    if (out->order < MVCC_NONE || out->order > MVCC_DESCEND) {
        out->order = MVCC_NONE; /* an unknown order sorts nothing in etcd */
        out->target = MVCC_BY_KEY;
    }
}

void v3_put_of(const struct rpcpb_put_request *in, struct mvcc_put *out)
{
    *out = (struct mvcc_put){
        .key = in->key,
        .value = in->value,
        .lease = in->lease,
        .prev_kv = in->prev_kv,
        .ignore_value = in->ignore_value,
        .ignore_lease = in->ignore_lease,
    };
}

void v3_delete_range_of(const struct rpcpb_delete_range_request *in,
                        struct mvcc_delete_range *out)
{
    *out = (struct mvcc_delete_range){
        .key = in->key,
        .range_end = in->range_end,
        .prev_kv = in->prev_kv,
    };
}

static int64_t number_of(const struct rpcpb_compare *in)
{
    const int64_t *given =
        in->target == RPCPB_COMPARE_TO_VERSION  ? in->version
        : in->target == RPCPB_COMPARE_TO_CREATE ? in->create_revision
        : in->target == RPCPB_COMPARE_TO_MOD    ? in->mod_revision
        : in->target == RPCPB_COMPARE_TO_LEASE  ? in->lease
                                                : NULL;

    return given ? *given : 0;
}

/* What was given for another target than the one that counts is as if it had
 * not been given. */
static void compare_of(const struct rpcpb_compare *in, struct mvcc_compare *out)
{
    *out = (struct mvcc_compare){
        .result = in->result,
        .target = in->target,
        .key = in->key,
        .range_end = in->range_end,
        .number = number_of(in),
        .value = in->value ? *in->value : STR(""),
    };
}

static bool op_of(const struct rpcpb_request_op *in, struct arena *a,
                  struct mvcc_op *out)
{
    *out = (struct mvcc_op){.kind = MVCC_OP_EMPTY};
    if (in->request_range) {
        out->kind = MVCC_OP_RANGE;
        v3_range_of(in->request_range, &out->u.range);
    } else if (in->request_put) {
        out->kind = MVCC_OP_PUT;
        v3_put_of(in->request_put, &out->u.put);
    } else if (in->request_delete_range) {
        out->kind = MVCC_OP_DELETE_RANGE;
        v3_delete_range_of(in->request_delete_range, &out->u.delete_range);
    } else if (in->request_txn) {
        out->kind = MVCC_OP_TXN;
        return v3_txn_of(in->request_txn, a, &out->u.txn);
    }
    return true;
}

static bool ops_of(const struct rpcpb_request_op *in, size_t n, struct arena *a,
                   const struct mvcc_op **out)
{
    struct mvcc_op *ops = arena_alloc(a, n * sizeof(*ops));

    if (!ops)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!op_of(&in[i], a, &ops[i]))
            return false;
    *out = ops;
    return true;
}

bool v3_txn_of(const struct rpcpb_txn_request *in, struct arena *a,
               struct mvcc_txn *out)
{
    struct mvcc_compare *compares =
        arena_alloc(a, in->compare.n * sizeof(*compares));

    if (!compares)
        return false;
    for (size_t i = 0; i < in->compare.n; i++)
        compare_of(&in->compare.items[i], &compares[i]);
    *out = (struct mvcc_txn){
        .compares = compares,
        .n_compares = in->compare.n,
        .n_success = in->success.n,
        .n_failure = in->failure.n,
    };
    return ops_of(in->success.items, in->success.n, a, &out->success) &&
           ops_of(in->failure.items, in->failure.n, a, &out->failure);
}
