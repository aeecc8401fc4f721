/*
 * checkpoint_test.c - checkpoints of a running member: whatever moment a crash
 * comes at, the log must know of a snapshot before older files go.
 */
#include "pb.h"
#include "server.h"
#include "sys.h"
#include "wal.h"

#include "check.h"

#include <inttypes.h>

static char *dir;

static struct server *start(struct config *config)
{
    char *argv[] = {
        "etcd", "--data-dir",         dir,     "--snapshot-count",
        "4",    "--log-level",        "error", "--max-wals",
        "1",    "--max-snapshots",    "1",     "--heartbeat-interval",
        "500",  "--election-timeout", "5000",  NULL};
    struct server *s = NULL;
    int code;
    struct err e;

    CHECK(config_load(config, (int)ARRAY_LEN(argv) - 1, argv, &code) ==
          CONFIG_RUN);
    if (server_start(config, &s, &e) < 0) {
        fprintf(stderr, "%s\n", e.msg);
        exit(1);
    }
    return s;
}

static void put(struct server *s, const char *path)
{
    struct v2_request r = {.method = STR("PUT"), .val = STR("x")};
    struct v2_result out;

    r.path = str_of(path);
    server_v2_write(s, &r, &out);
    CHECK(out.code == 0);
    v2_result_release(&out);
}

/* The index of the newest .snap file, 0 if there is none; and how many. */
static uint64_t newest_snapshot(size_t *count)
{
    char *path = xasprintf("%s/member/snap", dir), **names;
    uint64_t index = 0;
    size_t n;

    *count = 0;
    if (sys_list_dir(path, &names, &n, NULL) == 0) {
        for (size_t i = 0; i < n; i++) {
            if (strlen(names[i]) != 38)
                continue; /* not finished */
            str_hex_to_u64((struct str){names[i] + 17, 16}, &index);
            ++*count;
        }
        sys_free_list(names, n);
    }
    free(path);
    return index;
}

/*
 * A start uses a snapshot only if the log says that its index is committed.
 * The commit index is otherwise written at leisure; so it must stand in the
 * log before the snapshot's record, for behind that older files may go.
 */
static size_t check_commit_first(struct buf *log)
{
    struct raft_hard_state hs = {0};
    struct wal_record rec;
    uint32_t crc = 0;
    size_t at = 0, marks = 0;
    int64_t n;

    while ((n = wal_decode(log->data + at, log->len - at, &crc, &rec)) > 0) {
        uint64_t index = 0;
        const struct pb_target fields[] = {[1] = {.u64 = &index}};

        at += (size_t)n;
        if (rec.type == WAL_STATE)
            CHECK(raftpb_decode_hard_state(rec.data.p, rec.data.n, &hs) == 0);
        if (rec.type != WAL_SNAPSHOT)
            continue;
        CHECK(pb_read(rec.data.p, rec.data.n, fields, ARRAY_LEN(fields)) == 0);
        CHECK(hs.commit >= index);
        marks += index > 0;
    }
    CHECK(n == 0);
    return marks;
}

static void test_commit_first(void)
{
    struct config config;
    struct server *s = start(&config);
    char *path = xasprintf("%s/member/wal/%016x-%016x.wal", dir, 0u, 0u);
    struct buf log = {0};
    size_t count;
    struct err e;

    for (int i = 0; i < 100 && !server_is_leader(s); i++)
        sys_sleep_ms(50);
    for (int round = 0; round < 5; round++) {
        uint64_t before = newest_snapshot(&count);

        for (int i = 0; i < 5; i++)
            put(s, "/1/k");
        for (int i = 0; i < 1000 && newest_snapshot(&count) == before; i++)
            sys_sleep_ms(10);
        CHECK(newest_snapshot(&count) > before);
    }
    server_stop(s);
    server_free(s);
    newest_snapshot(&count);
    CHECK(count == 1);
    CHECK(sys_read_file(path, 1 << 30, &log, &e) == 0);
    CHECK(check_commit_first(&log) >= 5);
    buf_release(&log);
    free(path);
    config_release(&config);
}

int main(void)
{
    const char *base = getenv("TMPDIR");

    dir = xasprintf("%s/checkpoint_test.XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(dir)) {
        perror(dir);
        return 1;
    }
    test_commit_first();
    CHECK(sys_remove_all(dir, NULL) == 0);
    free(dir);
    return check_done("checkpoint");
}
