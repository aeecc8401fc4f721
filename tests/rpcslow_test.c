/*
 * Lines about slow calls: what they say, what they do not, and how many there
 * are.
 */
#include "check.h"
#include "grpc.h"
#include "log.h"
#include "rpcslow.h"
#include "sys.h"

#include <unistd.h>

static char path[] = "/tmp/etcd-test.XXXXXX";

/* All that was logged since the last call. */
static const char *logged(void)
{
    static char text[16384];
    static size_t seen;
    FILE *f = fopen(path, "r");
    size_t n;

    fseek(f, (long)seen, SEEK_SET);
    n = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    text[n] = '\0';
    seen += n;
    return text;
}

static size_t count_lines(const char *text)
{
    size_t n = 0;

    for (; *text; text++)
        n += *text == '\n';
    return n;
}

static void wait_for_next_second(void)
{
    int64_t second = sys_mono_ns() / NS_PER_S;

    while (sys_mono_ns() / NS_PER_S == second)
        sys_sleep_ms(5);
}

static struct rpc_call call_of(enum rpc_method_id id, const void *request)
{
    return (struct rpc_call){
        .method = &rpc_methods[id],
        .request = request,
        .request_bytes = {"", 123},
        .response_bytes = 45,
        .peer = "127.0.0.1:4711",
        .who.user = STR("ann"),
        .stage_ns = {[RPC_IN_QUEUE] = 20 * NS_PER_MS,
                     [RPC_IN_LOG] = 400 * NS_PER_MS,
                     [RPC_IN_APPLY] = 30 * NS_PER_MS},
    };
}

static void test_a_line(void)
{
    struct rpcpb_put_request put = {.key = STR("na\"me\n\x80"),
                                    .value = STR("secret")};
    struct rpc_call c = call_of(RPC_KV_PUT, &put);
    const char *text;

    wait_for_next_second();
    rpc_slow(&c, GRPC_OK, 512 * NS_PER_MS);
    text = logged();
    CHECK(strstr(text, "slow request: /etcdserverpb.KV/Put, key \"na?me??\", "
                       "from 127.0.0.1:4711, user \"ann\", took 512ms, most of "
                       "it in raft and disk (queue 20ms, raft and disk 400ms, "
                       "apply 30ms, read index 0ms, send 0ms, handler 62ms), "
                       "123 bytes in, 45 out, OK\n"));
    CHECK(!strstr(text, "secret"));
}

static void test_stages(void)
{
    static char key[1000];
    struct rpcpb_range_request range = {.key = {key, sizeof(key)}};
    struct rpc_call c = call_of(RPC_KV_RANGE, &range);
    const char *text;

    memset(key, 'k', sizeof(key));
    memset(c.stage_ns, 0, sizeof(c.stage_ns));
    c.who.user = STR("");
    c.began_ns = NS_PER_S;
    c.stage_began_ns = NS_PER_S + 100 * NS_PER_MS;
    rpc_slow(&c, GRPC_CANCELLED, NS_PER_S);
    text = logged();
    CHECK(strstr(text, "most of it in send (") && strstr(text, "send 900ms"));
    CHECK(strstr(text, "kkk...\"") && count_lines(text) == 1);
    CHECK(strlen(text) < 400);
    CHECK(!strstr(text, "user"));
    CHECK(strstr(text, "Canceled"));
}

static void test_transactions(void)
{
    struct rpcpb_compare compare = {.key = STR("compared")};
    struct rpcpb_range_request range = {.key = STR("ranged")};
    struct rpcpb_request_op op = {.request_range = &range}, none = {0};
    struct rpcpb_txn_request txn = {.failure = {&op, 1}};
    struct rpc_call c = call_of(RPC_KV_TXN, &txn);

    rpc_slow(&c, GRPC_OK, NS_PER_S);
    CHECK(strstr(logged(), "key \"ranged\""));
    txn.compare.items = &compare;
    txn.compare.n = 1;
    rpc_slow(&c, GRPC_OK, NS_PER_S);
    CHECK(strstr(logged(), "key \"compared\""));
    txn = (struct rpcpb_txn_request){.success = {&none, 1}};
    rpc_slow(&c, GRPC_OK, NS_PER_S);
    CHECK(strstr(logged(), "Txn, from"));
}

static void test_who_waits_is_not_slow(void)
{
    struct rpc_call c = call_of(RPC_WATCH_WATCH, NULL);

    rpc_slow(&c, GRPC_OK, NS_PER_S);
    c.method = &rpc_methods[RPC_LOCK_LOCK];
    rpc_slow(&c, GRPC_OK, NS_PER_S);
    CHECK_STR(logged(), "");
}

static void test_few_lines(void)
{
    struct rpc_call c = call_of(RPC_MAINTENANCE_STATUS, NULL);

    wait_for_next_second();
    for (int i = 0; i < 100; i++)
        rpc_slow(&c, GRPC_OK, NS_PER_S);
    CHECK(count_lines(logged()) == SLOW_LINES_MAX);
    wait_for_next_second();
    rpc_slow(&c, GRPC_OK, NS_PER_S);
    CHECK(strstr(logged(), "; 90 more were not shown\n"));
    rpc_slow(&c, GRPC_OK, NS_PER_S);
    CHECK(!strstr(logged(), "not shown"));
}

int main(void)
{
    struct err e;

    close(mkstemp(path));
    CHECK(log_open(LOG_CAPNSLOG, path, &e) == 0);
    test_a_line();
    test_stages();
    test_transactions();
    test_who_waits_is_not_slow();
    test_few_lines();
    unlink(path);
    return check_done("rpcslow");
}
