/*
 * msg_test.c - arenas, protobuf and JSON by table: what decoders take and
 * refuse, limits, and the words of etcd's gateway. Messages are those of
 * rpcpb.h.
 */
#include "msg.h"

#include "check.h"
#include "hex.h"
#include "rpcpb.h"

/* --- Arenas. ---------------------------------------------------------------- */

static void test_arena(void)
{
    struct arena a = {.limit = 100000};
    struct str copy;
    uint8_t *p, *q;

    p = arena_alloc(&a, 3);
    q = arena_alloc(&a, 0);
    CHECK(p && q && q != p && (uintptr_t)p % 8 == 0 && (uintptr_t)q % 8 == 0);
    CHECK(arena_str(&a, STR("abc"), &copy) && str_eqz(copy, "abc"));

    p = arena_alloc(&a, 8);
    memset(p, 1, 8);
    q = arena_grow(&a, p, 8, 400);
    CHECK(q == p && q[7] == 1 && q[8] == 0 && q[399] == 0);
    arena_alloc(&a, 1);
    q = arena_grow(&a, p, 400, 500); /* no longer the last */
    CHECK(q && q != p && q[7] == 1 && q[8] == 0 && q[499] == 0);
    q = arena_grow(&a, q, 500, 5000); /* nor does it fit */
    CHECK(q && q[7] == 1 && q[4999] == 0);

    CHECK(!arena_alloc(&a, 100000) && !arena_alloc(&a, SIZE_MAX));
    CHECK(!arena_grow(&a, q, 5000, SIZE_MAX));
    CHECK(!arena_str(&a, (struct str){"", 100000}, &copy));
    while (arena_alloc(&a, 1000))
        CHECK(a.size <= a.limit);
    arena_reset(&a);
    CHECK(a.chunks && a.size <= 1024 && arena_alloc(&a, 90000));
    arena_release(&a);
    CHECK(a.size == 0 && a.limit == 100000 && arena_alloc(&a, 90000));
    arena_release(&a);

    a.limit = 0;
    CHECK(!arena_alloc(&a, 0));
}

/* --- Protobuf. ---------------------------------------------------------------- */

/* The verdict on hex, and what the message is, written again as JSON. */
static int decoded(const struct msg_desc *d, const char *hex, struct buf *json)
{
    struct buf in = unhex(hex);
    struct arena a = {.limit = 1 << 16};
    void *msg = xmalloc(d->size);
    int rc = msg_decode(d, in.data, in.len, &a, msg);

    buf_clear(json);
    msg_encode_json(d, msg, json);
    free(msg);
    arena_release(&a);
    buf_release(&in);
    return rc;
}

static void test_decode(void)
{
    static const struct {
        const struct msg_desc *d;
        const char *hex, *json;
    } cases[] = {
        {&rpcpb_put_request_desc, "", "{}"},
        /* The last one counts, in any order. */
        {&rpcpb_put_request_desc,
         "18050a01610a016218"
         "07",
         "{\"key\":\"Yg==\",\"lease\":\"7\"}"},
        /* Unknown fields of each wire type. */
        {&rpcpb_put_request_desc,
         "f80105"
         "fa0103"
         "616263"
         "f9010102030405060708"
         "fd0101020304"
         "2001",
         "{\"prev_kv\":true}"},
        /* Numbers that are longer than they need be, or than the field. */
        {&rpcpb_put_request_desc, "188700", "{\"lease\":\"7\"}"},
        {&rpcpb_put_request_desc, "2080808001", "{\"prev_kv\":true}"},
        {&rpcpb_hash_response_desc, "10ffffffffff01", "{\"hash\":4294967295}"},
        {&rpcpb_range_request_desc, "28feffffffffffffffff01",
         "{\"sort_order\":-2}"},
        {&rpcpb_range_request_desc, "2863", "{\"sort_order\":99}"},
        /* Packed, unpacked, and both. */
        {&rpcpb_watch_create_request_desc, "28002801",
         "{\"filters\":[\"NOPUT\",\"NODELETE\"]}"},
        {&rpcpb_watch_create_request_desc,
         "28012a0300010128"
         "05",
         "{\"filters\":[\"NODELETE\",\"NOPUT\",\"NODELETE\",\"NODELETE\",5]}"},
        /* Messages that come twice are merged, those of a oneof replaced. */
        {&rpcpb_put_response_desc, "0a0208050a021807",
         "{\"header\":{\"cluster_id\":\"5\",\"revision\":\"7\"}}"},
        {&rpcpb_request_op_desc,
         "12030a0161"
         "12021805",
         "{\"request_put\":{\"lease\":\"5\"}}"},
        {&rpcpb_request_op_desc,
         "12030a0161"
         "0a00",
         "{\"request_range\":{}}"},
        {&rpcpb_compare_desc,
         "20053a0161"
         "2800",
         "{\"create_revision\":\"0\"}"},
        /* A string need not be UTF-8. */
        {&rpcpb_authenticate_request_desc, "0a01ff", "{\"name\":\"\\ufffd\"}"},
        {&rpcpb_lease_time_to_live_response_desc, "2a002a0161",
         "{\"keys\":[\"\",\"YQ==\"]}"},
    };
    static const struct {
        const struct msg_desc *d;
        const char *hex;
    } bad[] = {
        {&rpcpb_put_request_desc, "0a"},                     /* cut short */
        {&rpcpb_put_request_desc, "0a0261"},                 /* likewise */
        {&rpcpb_put_request_desc, "0affffffffffffffffff01"}, /* huge */
        {&rpcpb_put_request_desc, "18"},
        {&rpcpb_put_request_desc, "18ffffffffffffffffffff01"},
        {&rpcpb_put_request_desc, "18ffffffffffffffffff02"},
        {&rpcpb_put_request_desc, "1a0105"}, /* wrong wire types */
        {&rpcpb_put_request_desc, "0805"},
        {&rpcpb_put_request_desc, "1d01020304"},
        {&rpcpb_put_response_desc, "0805"},
        {&rpcpb_put_response_desc, "0a0108"}, /* in the nested message */
        {&rpcpb_watch_create_request_desc, "2a0180"},
        {&rpcpb_put_request_desc, "00"},   /* field number 0 */
        {&rpcpb_put_request_desc, "0605"}, /* wire types that are none */
        {&rpcpb_put_request_desc, "0705"},
        {&rpcpb_hash_request_desc, "08"},
    };
    struct buf json = {0};

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CHECK(decoded(cases[i].d, cases[i].hex, &json) == 0);
        CHECK_STR(buf_z(&json), cases[i].json);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        CHECK(decoded(bad[i].d, bad[i].hex, &json) == MSG_EINVAL);
        CHECK_STR(buf_z(&json), "{}");
    }
    buf_release(&json);
}

/* A transaction in a transaction, n deep; each costs two messages. */
static void nested(struct buf *b, int n)
{
    size_t size = 0;

    for (int i = 0; i < n; i++) {
        struct buf outer = {0};

        buf_addc(&outer, 0x22); /* request_txn */
        for (size_t v = size; v >= 0x80 || (buf_addc(&outer, (char)v), 0);
             v >>= 7)
            buf_addc(&outer, (char)(v | 0x80));
        buf_addstr(&outer, buf_str(b));
        buf_clear(b);
        buf_addc(b, 0x12); /* success */
        for (size_t v = outer.len; v >= 0x80 || (buf_addc(b, (char)v), 0);
             v >>= 7)
            buf_addc(b, (char)(v | 0x80));
        buf_addstr(b, buf_str(&outer));
        size = b->len;
        buf_release(&outer);
    }
}

static void test_depth(void)
{
    struct arena a = {.limit = 1 << 20};
    struct rpcpb_txn_request txn;
    struct buf b = {0}, json = {0};
    int fits = (MSG_DEPTH_MAX - 1) / 2;
    struct err e;

    nested(&b, fits);
    CHECK(msg_decode(&rpcpb_txn_request_desc, b.data, b.len, &a, &txn) == 0);
    CHECK(msg_size(&rpcpb_txn_request_desc, &txn) == b.len);
    msg_encode_json(&rpcpb_txn_request_desc, &txn, &json);
    CHECK(msg_decode_json(&rpcpb_txn_request_desc, json.data, json.len, &a,
                          &txn, NULL, &e) == 0);
    buf_clear(&b);
    nested(&b, fits + 1);
    CHECK(msg_decode(&rpcpb_txn_request_desc, b.data, b.len, &a, &txn) ==
          MSG_EDEPTH);
    CHECK(!txn.success.items);
    buf_clear(&json);
    for (int i = 0; i <= fits; i++)
        buf_adds(&json, "{\"success\":[{\"request_txn\":");
    buf_adds(&json, "{}");
    for (int i = 0; i <= fits; i++)
        buf_adds(&json, "}]}");
    CHECK(msg_decode_json(&rpcpb_txn_request_desc, json.data, json.len, &a,
                          &txn, NULL, &e) == MSG_EDEPTH);
    buf_release(&b);
    buf_release(&json);
    arena_release(&a);
}

/* Two bytes of input can ask for a hundred of memory, but not for ever. */
static void test_limit(void)
{
    struct arena a = {.limit = 100000};
    struct rpcpb_txn_request txn;
    struct buf b = {0}, json = {0};
    struct err e;

    buf_adds(&json, "{\"compare\":[{}");
    for (int i = 0; i < 100; i++) {
        buf_add(&b, "\n\0", 2);
        buf_adds(&json, ",{}");
    }
    buf_adds(&json, "]}");
    CHECK(msg_decode(&rpcpb_txn_request_desc, b.data, b.len, &a, &txn) == 0);
    CHECK(txn.compare.n == 100 && txn.compare.items[99].key.n == 0);
    arena_reset(&a);
    CHECK(msg_decode_json(&rpcpb_txn_request_desc, json.data, json.len, &a,
                          &txn, NULL, &e) == 0);
    CHECK(txn.compare.n == 101);
    for (int i = 0; i < 1000; i++)
        buf_add(&b, "\n\0", 2);
    CHECK(msg_decode(&rpcpb_txn_request_desc, b.data, b.len, &a, &txn) ==
          MSG_ELIMIT);
    CHECK(a.size <= a.limit && txn.compare.n == 0);
    arena_release(&a);
    a.limit = 2000;
    CHECK(msg_decode_json(&rpcpb_txn_request_desc, json.data, json.len, &a,
                          &txn, NULL, &e) == MSG_ELIMIT);
    CHECK_STR(e.msg, "message too large");
    arena_release(&a);
    buf_release(&b);
    buf_release(&json);
}

/* Every prefix and every change of one byte: a verdict, and no crash. */
static void test_damage(void)
{
    struct buf b = unhex("0a0b08031a016b20008204016c"
                         "121912170a03666f6f120362617218ffffffffffffffffff0120"
                         "01120a0a080a016b280268ac02");
    struct arena a = {.limit = 1 << 16};
    struct rpcpb_txn_request txn;
    struct buf again = {0};

    for (size_t n = 0; n < b.len; n++) {
        uint8_t *cut = xmalloc(n + 1);

        memcpy(cut, b.data, n);
        msg_decode(&rpcpb_txn_request_desc, cut, n, &a, &txn);
        free(cut);
        for (int bit = 0; bit < 8; bit++) {
            b.data[n] ^= (uint8_t)(1 << bit);
            if (msg_decode(&rpcpb_txn_request_desc, b.data, b.len, &a, &txn) ==
                0) {
                buf_clear(&again);
                msg_encode(&rpcpb_txn_request_desc, &txn, &again);
                CHECK(again.len == msg_size(&rpcpb_txn_request_desc, &txn));
            }
            b.data[n] ^= (uint8_t)(1 << bit);
            arena_reset(&a);
        }
    }
    CHECK(msg_decode(&rpcpb_txn_request_desc, b.data, b.len, &a, &txn) == 0);
    CHECK(txn.success.n == 2 && txn.success.items[0].request_put->prev_kv);
    CHECK(txn.compare.items[0].version && !*txn.compare.items[0].version);
    CHECK(!txn.compare.items[0].value);
    arena_release(&a);
    buf_release(&b);
    buf_release(&again);
}

/* --- Looking by description. ---------------------------------------------------- */

static void test_values(void)
{
    struct str urls[] = {STR("a"), STR("b")};
    struct rpcpb_member member = {.ID = 5, .peerURLs = {urls, 2}};
    int64_t zero = 0;
    struct rpcpb_compare cmp = {.target = RPCPB_COMPARE_TO_LEASE,
                                .lease = &zero};
    const struct msg_field *f = rpcpb_member_desc.fields;
    struct msg_value v;

    CHECK(msg_count(&f[0], &member) == 1 && msg_count(&f[1], &member) == 0);
    CHECK(msg_count(&f[2], &member) == 2 && msg_count(&f[3], &member) == 0);
    CHECK(msg_value(&f[0], &member, 0).u64 == 5);
    CHECK(str_eqz(msg_value(&f[2], &member, 1).bytes, "b"));
    CHECK(msg_value(&f[1], &member, 0).bytes.n == 0);
    f = rpcpb_compare_desc.fields;
    v = msg_value(&f[1], &cmp, 0);
    CHECK_STR(msg_enum_name(f[1].values, (int32_t)v.i64), "LEASE");
    CHECK(msg_count(&f[7], &cmp) == 1 && msg_count(&f[6], &cmp) == 0);
    CHECK(msg_value(&f[6], &cmp, 0).bytes.n == 0);
    CHECK(!msg_value(rpcpb_put_response_desc.fields,
                     &(struct rpcpb_put_response){0}, 0)
               .message);
}

/* --- JSON. ------------------------------------------------------------------------ */

static void test_json_out(void)
{
    struct rpcpb_response_header header = {
        .cluster_id = UINT64_MAX, .revision = INT64_MIN, .raft_term = 2};
    struct rpcpb_key_value kvs[] = {
        {.key = STR("foo"), .create_revision = 2, .value = STR("bar")},
        {.lease = 0}};
    struct rpcpb_range_response range = {
        .header = &header, .kvs = {kvs, 2}, .more = true, .count = 1};
    struct rpcpb_permission perm = {.permType = RPCPB_PERM_READWRITE};
    struct rpcpb_lease_grant_response grant = {
        .ID = 77, .TTL = -1, .error = STR("<a&b>\"\n\x01\xff")};
    struct rpcpb_hash_response hash = {.hash = 461299256};
    struct buf b = {0};

    msg_encode_json(&rpcpb_range_response_desc, &range, &b);
    CHECK_STR(buf_z(&b),
              "{\"header\":{\"cluster_id\":\"18446744073709551615\","
              "\"revision\":\"-9223372036854775808\",\"raft_term\":\"2\"},"
              "\"kvs\":[{\"key\":\"Zm9v\",\"create_revision\":\"2\","
              "\"value\":\"YmFy\"},{}],\"more\":true,\"count\":\"1\"}");
    buf_clear(&b);
    msg_encode_json(&rpcpb_permission_desc, &perm, &b);
    CHECK_STR(buf_z(&b), "{\"permType\":\"READWRITE\"}");
    buf_clear(&b);
    msg_encode_json(&rpcpb_lease_grant_response_desc, &grant, &b);
    CHECK_STR(buf_z(&b), "{\"ID\":\"77\",\"TTL\":\"-1\",\"error\":"
                         "\"\\u003ca\\u0026b\\u003e\\\"\\n\\u0001\\ufffd\"}");
    buf_clear(&b);
    msg_encode_json(&rpcpb_hash_response_desc, &hash, &b);
    CHECK_STR(buf_z(&b), "{\"hash\":461299256}");
    buf_release(&b);
}

/* Read json; what it means is written back as JSON, an error as its words. */
static int read_back(const struct msg_desc *d, const char *json, size_t *used,
                     struct buf *out)
{
    struct arena a = {.limit = 1 << 16};
    size_t n = strlen(json);
    char *exact = xmalloc(n + 1); /* for the sanitizer: not a byte more */
    void *msg = xmalloc(d->size);
    struct err e;
    int rc;

    memcpy(exact, json, n);
    exact = xrealloc(exact, n ? n : 1);
    rc = msg_decode_json(d, exact, n, &a, msg, used, &e);
    buf_clear(out);
    if (rc == 0)
        msg_encode_json(d, msg, out);
    else
        buf_adds(out, e.msg);
    free(msg);
    free(exact);
    arena_release(&a);
    return rc;
}

#define NOT(what, type)                                                        \
    "json: cannot unmarshal " what " into Go value of type " type
#define ORDER "etcdserverpb.RangeRequest_SortOrder"

/* As recorded from etcd 3.4. */
static void test_json_in(void)
{
    static const struct {
        const struct msg_desc *d;
        const char *json, *want;
    } cases[] = {
#define PUT &rpcpb_put_request_desc
#define RANGE &rpcpb_range_request_desc
#define TXN &rpcpb_txn_request_desc
#define WATCH &rpcpb_watch_request_desc
#define REMOVE &rpcpb_member_remove_request_desc
        {PUT, "{}", "{}"},
        {PUT, "null", "{}"},
        {PUT, " \n{\"key\" : \"YQ==\" , \"value\" : \"Yg==\" } ",
         "{\"key\":\"YQ==\",\"value\":\"Yg==\"}"},
        {PUT, "{\"key\":\"YQ==\",\"unknown\":[1,{\"key\":2}]}",
         "{\"key\":\"YQ==\"}"},
        {PUT, "{\"prevKv\":true,\"ignore_lease\":true}",
         "{\"prev_kv\":true,\"ignore_lease\":true}"},
        {PUT,
         "{\"KEY\":\"YQ==\",\"prevkv\":true,\"prev_Kv\":true,"
         "\"PrevKv\":1,\"prev\":1,\"prevKvs\":1}",
         "{}"},
        {PUT, "{\"key\":null,\"value\":null,\"lease\":null}", "{}"},
        {PUT, "{\"key\":\"YQ==\",\"key\":\"Yg==\"}", "{\"key\":\"Yg==\"}"},
        {PUT, "{\"lease\":5,\"lease\":null}", "{}"},
        {PUT, "{\"key\":[97,98]}", "{\"key\":\"YWI=\"}"},
        {PUT, "{\"key\":\"\\u0059Q==\"}", "{\"key\":\"YQ==\"}"},
        {PUT, "{\"lease\":0}", "{}"},
        {PUT, "{\"lease\":-5}", "{\"lease\":\"-5\"}"},
        {PUT, "{\"lease\":\" 7 \"}", "{\"lease\":\"7\"}"},
        {PUT, "{\"lease\":\"null\"}", "{}"},
        {RANGE, "{\"limit\":9223372036854775807}",
         "{\"limit\":\"9223372036854775807\"}"},
        {RANGE, "{\"sort_order\":\"DESCEND\",\"sortTarget\":3}",
         "{\"sort_order\":\"DESCEND\",\"sort_target\":\"MOD\"}"},
        {RANGE, "{\"sort_order\":99}", "{\"sort_order\":99}"},
        {REMOVE, "{\"ID\":\"18446744073709551615\",\"id\":1}",
         "{\"ID\":\"18446744073709551615\"}"},
        {&rpcpb_member_add_request_desc, "{\"peerURLs\":[\"a\",null,\"b\\n\"]}",
         "{\"peerURLs\":[\"a\",\"\",\"b\\n\"]}"},
        {TXN, "{\"success\":[{\"requestPut\":{\"key\":\"YQ==\"}},null]}",
         "{\"success\":[{\"request_put\":{\"key\":\"YQ==\"}},{}]}"},
        {TXN, "{\"compare\":[{\"version\":0}]}",
         "{\"compare\":[{\"version\":\"0\"}]}"},
        {TXN, "{\"compare\":null,\"compare\":[{}],\"compare\":[{},{}]}",
         "{\"compare\":[{},{}]}"},
        {WATCH, "{\"create_request\":{},\"cancelRequest\":{\"watch_id\":1}}",
         "{\"cancel_request\":{\"watch_id\":\"1\"}}"},
        {WATCH, "{\"create_request\":{\"filters\":[\"NODELETE\",0]}}",
         "{\"create_request\":{\"filters\":[\"NODELETE\",\"NOPUT\"]}}"},

        {PUT, "{\"lease\" : \"\\u0037\"}",
         "invalid character '\\\\' looking for beginning of value"},
        {RANGE, "{\"sort_order\":\"\\u0041SCEND\\n\"}",
         "unknown value \"\\u0041SCEND\\n\" for enum "
         "etcdserverpb.RangeRequest_SortOrder"},
        {PUT, "[]", NOT("array", "map[string]json.RawMessage")},
        {PUT, "\"text\"", NOT("string", "map[string]json.RawMessage")},
        {PUT, "12", NOT("number", "map[string]json.RawMessage")},
        {PUT, "true", NOT("bool", "map[string]json.RawMessage")},
        {PUT, "nonsense",
         "invalid character 'o' in literal null (expecting 'u')"},
        {PUT, "{\"key\":\"YQ==\",}",
         "invalid character '}' looking for beginning of object key string"},
        {PUT, "{'key':'YQ=='}",
         "invalid character '\\'' looking for "
         "beginning of object key string"},
        {PUT, "{\"key\":5,\"value\":}", /* form comes before meaning */
         "invalid character '}' looking for beginning of value"},
        {PUT, "{\"key\":\"not base64!\"}",
         "illegal base64 data at input byte 3"},
        {PUT, "{\"key\":\"YQ\"}", "illegal base64 data at input byte 0"},
        {PUT, "{\"value\":\"-_-_\"}", "illegal base64 data at input byte 0"},
        {PUT, "{\"key\":12}", NOT("number", "[]uint8")},
        {PUT, "{\"key\":{}}", NOT("object", "[]uint8")},
        {PUT, "{\"key\":[97,300]}", NOT("number 300", "uint8")},
        {PUT, "{\"key\":[\"a\"]}", NOT("string", "uint8")},
        {PUT, "{\"prev_kv\":\"true\"}", NOT("string", "bool")},
        {PUT, "{\"prev_kv\":1}", NOT("number", "bool")},
        {PUT, "{\"lease\":\"abc\"}",
         "invalid character 'a' looking for beginning of value"},
        {PUT, "{\"lease\":\"\"}", "unexpected end of JSON input"},
        {PUT, "{\"lease\":\"1 2\"}",
         "invalid character '2' after top-level value"},
        {PUT, "{\"lease\":\"{}\"}", NOT("object", "int64")},
        {PUT, "{\"lease\":1.5}", NOT("number 1.5", "int64")},
        {PUT, "{\"lease\":\"1.5\"}", NOT("number 1.5", "int64")},
        {PUT, "{\"lease\":true}", NOT("bool", "int64")},
        {PUT, "{\"lease\":[]}", NOT("array", "int64")},
        {RANGE, "{\"limit\":9223372036854775808}",
         NOT("number 9223372036854775808", "int64")},
        {RANGE, "{\"sort_order\":\"FOO\"}",
         "unknown value \"FOO\" for enum " ORDER},
        {RANGE, "{\"sort_order\":\"1\"}",
         "unknown value \"1\" for enum " ORDER},
        {RANGE, "{\"sort_order\":1.5}", NOT("number 1.5", ORDER)},
        {RANGE, "{\"sort_order\":2147483648}", NOT("number 2147483648", ORDER)},
        {RANGE, "{\"sort_order\":true}", NOT("bool", ORDER)},
        {REMOVE, "{\"ID\":-1}", NOT("number -1", "uint64")},
        {REMOVE, "{\"ID\":-0}", NOT("number -0", "uint64")},
        {REMOVE, "{\"ID\":\"18446744073709551616\"}",
         NOT("number 18446744073709551616", "uint64")},
        {&rpcpb_authenticate_request_desc, "{\"name\":5}",
         NOT("number", "string")},
        {&rpcpb_member_add_request_desc, "{\"peerURLs\":\"x\"}",
         NOT("string", "[]json.RawMessage")},
        {TXN, "{\"compare\":{}}", NOT("object", "[]json.RawMessage")},
        {TXN, "{\"compare\":[1]}", NOT("number", "map[string]json.RawMessage")},
        {WATCH, "{\"create_request\":{\"filters\":\"NOPUT\"}}",
         "invalid target \"slice\" for enum "
         "etcdserverpb.WatchCreateRequest_FilterType"},
        {WATCH, "{\"create_request\":{\"filters\":\"X\"}}",
         "unknown value \"X\" for enum "
         "etcdserverpb.WatchCreateRequest_FilterType"},
        {WATCH, "{\"create_request\":{\"filters\":5}}",
         NOT("number", "[]json.RawMessage")},
    };
    struct buf out = {0};
    size_t used;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int rc = read_back(cases[i].d, cases[i].json, &used, &out);

        CHECK_STR(buf_z(&out), cases[i].want);
        CHECK(rc == (cases[i].want[0] == '{' ? 0 : MSG_EINVAL));
    }
    buf_release(&out);
}

/* One behind the other, and where each ends. */
static void test_json_stream(void)
{
    const char *rest = "{\"key\":\"YQ==\"} {\"lease\":1}null\n\n";
    static const char *const want[] = {"{\"key\":\"YQ==\"}",
                                       "{\"lease\":\"1\"}", "{}"};
    static const char *const cut[] = {
        "{",        "{\"key", "{\"key\":", "tru", "{\"key\":\"\\u00",
        "{\"a\":-", "[1,"};
    static const char *const blank[] = {"", " \t\r\n"};
    struct buf out = {0};
    size_t used;

    for (size_t i = 0; i < ARRAY_LEN(want); i++, rest += used) {
        CHECK(read_back(PUT, rest, &used, &out) == 0);
        CHECK_STR(buf_z(&out), want[i]);
    }
    CHECK_STR(rest, "\n\n");
    CHECK(read_back(PUT, "{} trailing", &used, &out) == 0 && used == 2);
    for (size_t i = 0; i < ARRAY_LEN(cut); i++) {
        CHECK(read_back(PUT, cut[i], &used, &out) == MSG_ESHORT);
        CHECK_STR(buf_z(&out), "unexpected EOF");
    }
    for (size_t i = 0; i < ARRAY_LEN(blank); i++) {
        CHECK(read_back(PUT, blank[i], &used, &out) == MSG_EEND);
        CHECK_STR(buf_z(&out), "EOF");
    }
    buf_release(&out);
}

int main(void)
{
    test_arena();
    test_decode();
    test_depth();
    test_limit();
    test_damage();
    test_values();
    test_json_out();
    test_json_in();
    test_json_stream();
    return check_done("msg_test");
}
