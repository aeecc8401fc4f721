/*
 * Clients' versions are told apart, but not without bound, and not whatever they
 * write there.
 */
#include "check.h"
#include "rpccount.h"

static struct buf page;

static bool shows(const char *line)
{
    struct metrics_page *p = metrics_page_new();

    rpc_count_page(p, false);
    buf_clear(&page);
    metrics_page_write(p, &page);
    metrics_page_free(p);
    return strstr(buf_z(&page), line) != NULL;
}

static void count(enum rpc_method_id id, const char *version)
{
    rpc_count_start(&rpc_methods[id], str_of(version));
}

static void test_versions_are_told_apart(void)
{
    CHECK(!shows("etcd_server_client_requests_total{"));
    count(RPC_KV_PUT, "3.4");
    count(RPC_KV_RANGE, "3.4");
    count(RPC_WATCH_WATCH, "3.4");
    count(RPC_KV_PUT, "");
    CHECK(shows("\netcd_server_client_requests_total{client_api_version="
                "\"3.4\",type=\"unary\"} 2\n"));
    CHECK(shows("{client_api_version=\"3.4\",type=\"stream\"} 1\n"));
    CHECK(shows("{client_api_version=\"unknown\",type=\"unary\"} 1\n"));
    CHECK(!shows("{client_api_version=\"unknown\",type=\"stream\"}"));
}

static void test_what_is_no_version_is_unknown(void)
{
    count(RPC_KV_PUT, "3.4\",x=\"");
    count(RPC_KV_PUT, "new\nline");
    count(RPC_KV_PUT, "1234567890123456");
    CHECK(shows("{client_api_version=\"unknown\",type=\"unary\"} 4\n"));
}

static void test_there_are_few(void)
{
    char version[16];

    for (int i = 0; i < 100; i++) {
        snprintf(version, sizeof(version), "9.%d", i);
        count(RPC_KV_PUT, version);
    }
    CHECK(shows("{client_api_version=\"9.0\",type=\"unary\"} 1\n"));
    CHECK(!shows("{client_api_version=\"9.99\""));
    CHECK(shows("{client_api_version=\"unknown\",type=\"unary\"} 90\n"));
    buf_release(&page);
}

int main(void)
{
    test_versions_are_told_apart();
    test_what_is_no_version_is_unknown();
    test_there_are_few();
    return check_done("rpccount");
}
