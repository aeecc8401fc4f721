/*
 * rpcpb_test.c - the tables of the v3 API: their form, known bytes, random
 * messages of every description there and back, and finding methods.
 */
#include "rpcpb.h"

#include "check.h"
#include "etcdpb.h"
#include "hex.h"
#include "msgrandom.h"

static void check_fields(const struct msg_desc *d)
{
    size_t end = 0;

    CHECK(d->size > 0 && d->size <= UINT16_MAX);
    for (size_t i = 0; i < d->n_fields; i++) {
        const struct msg_field *f = &d->fields[i];

        CHECK(f->number > (i ? d->fields[i - 1].number : 0));
        CHECK(f->offset >= end);
        end = f->offset + 1;
        CHECK((f->type == MSG_MESSAGE) == (f->message != NULL));
        CHECK((f->type == MSG_ENUM) == (f->values != NULL));
        CHECK(msg_field(d, f->number) == f);
        CHECK(f->flags == 0 || f->flags == MSG_REPEATED ||
              f->flags == MSG_ONEOF);
    }
    CHECK(end <= d->size);
    CHECK(!msg_field(d, 0) && !msg_field(d, 536870911));
}

static void test_descriptions(void)
{
    CHECK(rpcpb_n_messages == 129);
    for (size_t i = 0; i < rpcpb_n_messages; i++) {
        check_fields(rpcpb_messages[i]);
        for (size_t k = 0; k < i; k++)
            CHECK(strcmp(rpcpb_messages[i]->name, rpcpb_messages[k]->name));
    }
    CHECK_STR(msg_enum_name(&rpcpb_alarm_type_enum, RPCPB_ALARM_NOSPACE),
              "NOSPACE");
    CHECK(!msg_enum_name(&rpcpb_alarm_type_enum, 3));
}

/* Random messages: what is written reads back as the same. */
static void test_round_trips(void)
{
    struct msg_random r = {.state = 1, .arena = {.limit = 1 << 24}};
    struct arena a = {.limit = 1 << 24};
    struct buf once = {0}, twice = {0}, json = {0};

    for (size_t i = 0; i < rpcpb_n_messages * 20; i++) {
        const struct msg_desc *d = rpcpb_messages[i % rpcpb_n_messages];
        void *msg = msg_random(&r, d), *back = xmalloc(d->size);
        size_t used;

        buf_clear(&once);
        buf_clear(&twice);
        msg_encode(d, msg, &once);
        CHECK(once.len == msg_size(d, msg));
        CHECK(msg_decode(d, once.data, once.len, &a, back) == 0);
        msg_encode(d, back, &twice);
        CHECK(str_eq(buf_str(&once), buf_str(&twice)));

        buf_clear(&json);
        msg_encode_json(d, msg, &json);
        CHECK(msg_decode_json(d, json.data, json.len, &a, back, &used, NULL) ==
              0);
        CHECK(used == json.len);
        buf_clear(&twice);
        msg_encode(d, back, &twice);
        CHECK(str_eq(buf_str(&once), buf_str(&twice)));
        free(back);
        arena_reset(&a);
        arena_reset(&r.arena);
    }
    buf_release(&once);
    buf_release(&json);
    buf_release(&twice);
    arena_release(&a);
    arena_release(&r.arena);
}

static void check_bytes(const struct msg_desc *d, const void *msg,
                        const char *hex)
{
    struct buf got = {0}, want = unhex(hex);

    msg_encode(d, msg, &got);
    CHECK(str_eq(buf_str(&got), buf_str(&want)));
    buf_release(&got);
    buf_release(&want);
}

/* As Google's own library writes the same messages. */
static void test_known_bytes(void)
{
    struct rpcpb_put_request put = {
        .key = STR("foo"), .value = STR("bar"), .lease = -1, .prev_kv = true};
    struct rpcpb_request_op ops[2] = {{.request_put = &put}};
    struct rpcpb_range_request range = {.key = STR("k"),
                                        .sort_order = RPCPB_SORT_DESCEND,
                                        .max_create_revision = 300};
    int64_t zero = 0;
    struct rpcpb_compare cmp = {.result = RPCPB_COMPARE_NOT_EQUAL,
                                .key = STR("k"),
                                .version = &zero,
                                .range_end = STR("l")};
    struct rpcpb_txn_request txn = {.compare = {&cmp, 1}, .success = {ops, 2}};
    int32_t filters[] = {RPCPB_FILTER_NOPUT, RPCPB_FILTER_NODELETE};
    struct rpcpb_watch_create_request watch = {.filters = {filters, 2}};
    struct str urls[] = {STR("http://a"), STR("")};
    struct rpcpb_member member = {.ID = UINT64_MAX, .peerURLs = {urls, 2}};

    ops[1].request_range = &range;
    check_bytes(&rpcpb_put_request_desc, &put,
                "0a03666f6f1203626172"
                "18ffffffffffffffffff012001");
    check_bytes(&rpcpb_txn_request_desc, &txn,
                "0a0b08031a016b20008204016c"
                "121912170a03666f6f120362617218ffffffffffffffffff012001"
                "120a0a080a016b280268ac02");
    check_bytes(&rpcpb_watch_create_request_desc, &watch, "2a020001");
    check_bytes(&rpcpb_member_desc, &member,
                "08ffffffffffffffffff011a08687474703a2f2f611a00");
    check_bytes(&rpcpb_hash_request_desc, &(struct rpcpb_hash_request){0}, "");
}

static void test_methods(void)
{
    size_t n = 0;
    struct err e;

    for (int i = 0; i < RPC_METHOD_N; i++) {
        const struct rpc_method *m = &rpc_methods[i];
        struct buf b = {0};

        CHECK((int)m->id == i);
        CHECK(i == 0 || m->service >= m[-1].service);
        CHECK(rpc_find(m->path, NULL) == m);
        buf_printf(&b, "/%.*s/%.*s", STR_FMT(rpc_services[m->service]),
                   STR_FMT(m->name));
        CHECK(str_eq(buf_str(&b), m->path));
        for (size_t k = 0; k < RPC_GATEWAY_PATHS; k++) {
            static const char *const prefixes[] = {"/v3", "/v3beta",
                                                   "/v3alpha"};

            for (size_t p = 0; m->gateway[k].n && p < 3; p++, n++) {
                buf_clear(&b);
                buf_printf(&b, "%s%.*s", prefixes[p], STR_FMT(m->gateway[k]));
                CHECK(rpc_find_gateway(buf_str(&b)) == m);
                CHECK(rpc_gateway_path(buf_str(&b)));
            }
        }
        buf_release(&b);
    }
    CHECK(n == 3 * (48 + 3));
    CHECK(rpc_methods[RPC_WATCH_WATCH].streams == RPC_BIDI_STREAM);
    CHECK(rpc_methods[RPC_ELECTION_OBSERVE].response ==
          &rpcpb_leader_response_desc);

    CHECK(!rpc_find(STR("/etcdserverpb.KV/Nothing"), &e));
    CHECK_STR(e.msg, "unknown method Nothing for service etcdserverpb.KV");
    CHECK(!rpc_find(STR("/no.Such/Range"), &e));
    CHECK_STR(e.msg, "unknown service no.Such");
    CHECK(!rpc_find(STR("/x"), &e));
    CHECK_STR(e.msg, "malformed method name: \"/x\"");
    CHECK(rpc_find(STR("etcdserverpb.KV/Put"), &e) == &rpc_methods[RPC_KV_PUT]);
    CHECK(!rpc_find(STR(""), NULL));

    CHECK(!rpc_find_gateway(STR("/v3/kv/nothing")));
    CHECK(!rpc_find_gateway(STR("/v3/kv/put/")));
    CHECK(!rpc_find_gateway(STR("/v3/")) && rpc_gateway_path(STR("/v3/")));
    CHECK(!rpc_gateway_path(STR("/v3")) &&
          !rpc_gateway_path(STR("/v4/kv/put")));
    CHECK(!rpc_find_gateway(STR("/v2/kv/put")));
}

/* A proposal, built around bytes, reads back by both of its readers. */
static void test_internal(void)
{
    static const struct {
        uint32_t field;
        const char *hex;
    } cases[] = {
        {4, "2205"
            "0a03666f6f"
            "a206"
            "0a"
            "0807"
            "1204726f6f74"
            "1809"},
        {1100, "a206"
               "0a"
               "0807"
               "1204726f6f74"
               "1809"
               "e244"
               "05"
               "0a03666f6f"},
    };
    struct arena a = {.limit = 4096};

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf b = {0}, want = unhex(cases[i].hex), again = {0};
        struct rpcpb_internal_raft_request r;
        struct entry_request e;

        etcdpb_encode_internal(&b, 7, STR("root"), 9, cases[i].field,
                               STR("\n\3foo"));
        CHECK(str_eq(buf_str(&b), buf_str(&want)));
        CHECK(etcdpb_decode_entry(b.data, b.len, &e) == 0);
        CHECK(e.kind == ENTRY_INTERNAL && e.field == cases[i].field);
        CHECK(e.id == 7 && str_eqz(e.username, "root") && e.auth_revision == 9);
        CHECK(str_eqz(e.bytes, "\n\3foo"));
        CHECK(msg_decode(&rpcpb_internal_raft_request_desc, b.data, b.len, &a,
                         &r) == 0);
        CHECK(r.header && r.header->ID == 7 && r.header->auth_revision == 9);
        CHECK(str_eqz(i == 0 ? r.put->key : r.auth_user_add->name, "foo"));
        msg_encode(&rpcpb_internal_raft_request_desc, &r, &again);
        CHECK(str_eq(buf_str(&b), buf_str(&again)));
        arena_reset(&a);
        buf_release(&b);
        buf_release(&want);
        buf_release(&again);
    }
    arena_release(&a);
}

int main(void)
{
    test_descriptions();
    test_known_bytes();
    test_round_trips();
    test_methods();
    test_internal();
    return check_done("rpcpb_test");
}
