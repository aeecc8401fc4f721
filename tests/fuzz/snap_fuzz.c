/*
 * snap_fuzz.c - snapshot files: what was read and is written comes back the
 * same, and a store takes any file's contents or refuses them unchanged.
 *
 * The sum in a file keeps a fuzzer out; so the input is also put into a file
 * with the right sum, as the state of the store.
 */
#include "fuzz.h"
#include "snap.h"
#include "store.h"

static void check_same(const struct raft_snapshot *a,
                       const struct raft_snapshot *b)
{
    struct buf x = {0}, y = {0};

    raftpb_encode_snapshot(&x, a);
    raftpb_encode_snapshot(&y, b);
    FUZZ_CHECK(str_eq(buf_str(&x), buf_str(&y)));
    buf_release(&x);
    buf_release(&y);
}

static void add_view(struct buf *b, struct store *s)
{
    struct store_view *v = store_pin(s);

    store_view_json(b, v);
    store_unpin(v);
}

/* Bad contents leave the store as it was; good ones give it their index. */
static void check_store(struct str state)
{
    struct store *s = store_new();
    struct store_put p = {.path = STR("/1/before"), .value = STR("x")};
    struct store_error se = {0};
    struct buf before = {0}, after = {0}, again = {0};
    struct err e = {0};

    FUZZ_CHECK(store_set(s, &p, 1, NULL, &se) == 0);
    add_view(&before, s);
    if (store_recover(s, state.p, state.n, &e) < 0) {
        FUZZ_CHECK(e.msg[0]);
        add_view(&after, s);
        FUZZ_CHECK(str_eq(buf_str(&before), buf_str(&after)));
    } else {
        add_view(&after, s);
        FUZZ_CHECK(store_recover(s, after.data, after.len, NULL) == 0);
        add_view(&again, s);
        FUZZ_CHECK(str_eq(buf_str(&after), buf_str(&again)));
        store_expire(s, INT64_MAX);
    }
    store_free(s);
    buf_release(&before);
    buf_release(&after);
    buf_release(&again);
}

static void check_file(const uint8_t *p, size_t n)
{
    struct raft_snapshot s, back;
    struct buf b = {0};
    struct err e = {0};

    if (snap_decode(p, n, &s, &e) < 0) {
        FUZZ_CHECK(e.code < 0 && e.msg[0]);
        return;
    }
    snap_encode(&b, &s);
    FUZZ_CHECK(snap_decode(b.data, b.len, &back, NULL) == 0);
    check_same(&s, &back);
    check_store(blob_str(s.data));
    raft_snapshot_release(&s);
    raft_snapshot_release(&back);
    buf_release(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct raft_snapshot s = {.index = 5, .term = 2};
    struct buf b = {0};

    check_file(data, size);
    s.data = blob_new(data, size);
    raft_ids_add(&s.conf_state.voters, 7);
    snap_encode(&b, &s);
    check_file(b.data, b.len);
    if (size) { /* and with a flaw */
        b.data[b.len - 1 - size % b.len] ^= 0x10;
        check_file(b.data, b.len);
    }
    raft_snapshot_release(&s);
    buf_release(&b);
    return 0;
}
