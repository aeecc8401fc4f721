/*
 * roles_test.c - who writes the log of a member of one, and for how many: a lone
 * client's own thread for itself, unless it is kept waiting; where clients share
 * syncs, the disk thread, for all of them at once.
 */
#include "files.h"
#include "server.h"
#include "ways.h"

#define SYNC_MS 20 /* so slow that threads of a busy machine are on time */
#define CLIENTS 8
#define CROWD_WRITES 40 /* of each of them */
#define LONE_WRITES 20  /* until the crowd is forgotten, and as many again */

static int client_ms = SYNC_MS, other_ms = SYNC_MS; /* of a sync */
static struct config config;
static struct server *server;
static _Thread_local bool is_client;
static int by_clients, by_others; /* atomic: syncs */

/* --- The disk. -------------------------------------------------------------- */

int __wrap_fdatasync(int fd);

int __wrap_fdatasync(int fd)
{
    (void)fd;
    __atomic_add_fetch(is_client ? &by_clients : &by_others, 1,
                       __ATOMIC_RELAXED);
    sys_sleep_ms(is_client ? client_ms : other_ms);
    return 0;
}

static void forget_syncs(void)
{
    __atomic_store_n(&by_clients, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&by_others, 0, __ATOMIC_RELAXED);
}

/* --- Clients. ---------------------------------------------------------------- */

/* Returns how many failed. */
static int put(int n)
{
    int failed = 0;

    for (int i = 0; i < n; i++) {
        struct v2_request r = {
            .method = STR("PUT"), .path = STR("/1/k"), .val = STR("v")};
        struct v2_result result;

        server_v2_write(server, &r, &result);
        failed += result.code != 0;
        v2_result_release(&result);
    }
    return failed;
}

static void *client(void *failed)
{
    is_client = true;
    *(int *)failed = put(CROWD_WRITES);
    return NULL;
}

static void check_lone_client(void)
{
    is_client = true;
    forget_syncs();
    CHECK(put(LONE_WRITES) == 0);
    /* The others: SYNC, or a commit index that a tick wrote. */
    CHECK(by_clients >= LONE_WRITES * 3 / 4 && by_others <= LONE_WRITES / 2);
}

/* How many syncs a crowd takes. */
static int crowd(void)
{
    pthread_t threads[CLIENTS];
    int failed[CLIENTS];

    forget_syncs();
    for (int i = 0; i < CLIENTS; i++)
        CHECK(sys_thread(&threads[i], SYS_STACK_LARGE, client, &failed[i]) ==
              0);
    for (int i = 0; i < CLIENTS; i++) {
        pthread_join(threads[i], NULL);
        CHECK(failed[i] == 0);
    }
    /* The first to come, and the last when the others have gone. */
    CHECK(by_clients <= by_others / 4);
    return by_clients + by_others;
}

/* One sync for all at a time. Were they not gathered, two parts would take
 * turns; so they may where other load keeps threads waiting. */
static void check_crowd(void)
{
    int best = crowd();

    for (int i = 0; i < 2 && best > CROWD_WRITES * 4 / 3; i++)
        best = (int)min_u64((uint64_t)best, (uint64_t)crowd());
    CHECK(best <= CROWD_WRITES * 4 / 3);
    CHECK(put(LONE_WRITES) == 0); /* it is forgotten */
}

/* As one whose core other programs take whenever it waits for the disk. */
static void check_kept_waiting(void)
{
    /* The disk is slow for both: it is tried, and left. */
    CHECK(put(WAYS_TRIAL * 2) == 0);
    check_lone_client();
    client_ms = 8;
    other_ms = 1;
    CHECK(put(WAYS_TRIAL * 4) == 0);
    forget_syncs();
    CHECK(put(LONE_WRITES) == 0);
    CHECK(by_clients == 0 && by_others >= LONE_WRITES);
}

static void start(void)
{
    char *argv[] = {"etcd", "--data-dir", dir, "--log-level", "error"};
    int code;
    struct err e;

    CHECK(config_load(&config, (int)ARRAY_LEN(argv), argv, &code) ==
          CONFIG_RUN);
    if (server_start(&config, &server, &e) < 0) {
        fprintf(stderr, "%s\n", e.msg);
        exit(1);
    }
    CHECK(put(LONE_WRITES) == 0); /* its own first entries were a crowd */
}

static void stop(void)
{
    server_stop(server);
    server_free(server);
    config_release(&config);
}

static void test_roles(void)
{
    start();
    check_lone_client();
    check_crowd();
    check_lone_client();
    stop();
}

static void test_kept_waiting(void)
{
    client_ms = other_ms = 2;
    start();
    check_kept_waiting();
    stop();
}

int main(void)
{
    static void (*const tests[])(void) = {test_roles, test_kept_waiting};

    run_in_fresh_folders(tests, ARRAY_LEN(tests), "data");
    return check_done("roles");
}
