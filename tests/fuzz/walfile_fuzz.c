/*
 * walfile_fuzz.c - a log on disk that is not as it should be: records in any
 * order with right sums, segments that are cut, zeroed or overwritten anywhere.
 *
 * Reading it and opening it agree; what is opened once opens again with the
 * same contents and nothing left to repair; and it takes a further entry.
 */
#include "fuzz.h"
#include "sys.h"
#include "wal.h"

#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

#define SEGMENTS_MAX 3
#define SEGMENT_BYTES 16384

static char *dir;

static void remove_dir(void)
{
    sys_remove_all(dir, NULL);
}

static void prepare(void)
{
    static char in_memory[] = "/dev/shm/etcd-fuzz.XXXXXX";
    static char on_disk[] = "/tmp/etcd-fuzz.XXXXXX";

    dir = mkdtemp(in_memory);
    if (!dir)
        dir = mkdtemp(on_disk);
    FUZZ_CHECK(dir);
    atexit(remove_dir);
    wal_set_segment_bytes(SEGMENT_BYTES);
}

static void add_record(struct fuzz_in *in, struct buf *b, uint32_t *crc,
                       raft_index *last)
{
    struct raft_entry e = {.term = 1};
    struct raft_hard_state hs = {0};
    struct buf data = {0};
    uint8_t op = fuzz_u8(in);
    enum wal_record_type type = (enum wal_record_type)(1 + op / 4 % 5);

    switch (op % 4) {
    case 0: /* an entry, mostly the next one */
        type = WAL_ENTRY;
        e.index = op < 200 ? ++*last : fuzz_number(in);
        e.term = op & 4 ? 1 : fuzz_u8(in) % 4;
        e.type = (enum raft_entry_type)(op / 8 % 3);
        e.data = blob_new(NULL, op & 64 ? 700 : fuzz_u8(in) % 40);
        memset(e.data->data, op, e.data->len);
        raftpb_encode_entry(&data, &e);
        raft_entry_release(&e);
        break;
    case 1:
        type = WAL_STATE;
        hs = (struct raft_hard_state){fuzz_u8(in) % 4, fuzz_u8(in) % 3,
                                      fuzz_number(in)};
        raftpb_encode_hard_state(&data, &hs);
        break;
    case 2:
        type = op & 4 ? WAL_SNAPSHOT : WAL_METADATA;
        buf_addc(&data, 8);
        buf_addc(&data, (char)(fuzz_u8(in) & 15));
        buf_addc(&data, 16);
        buf_addc(&data, (char)(fuzz_u8(in) & 3));
        break;
    default: /* anything */
        buf_addstr(&data, fuzz_bytes(in, fuzz_u8(in)));
        break;
    }
    if (type == WAL_CRC) /* holds nothing but the sum */
        buf_clear(&data);
    wal_encode(b, type, data.data, data.len, crc);
    buf_release(&data);
}

/* What a crash, a bad disk or a hand could have done to a segment. */
static void damage(struct fuzz_in *in, struct buf *b)
{
    uint8_t op = fuzz_u8(in);
    size_t at = b->len ? ((size_t)fuzz_u8(in) << 8 | fuzz_u8(in)) % b->len : 0;

    if (op < 64 || b->len == 0)
        return;
    if (op < 96) {
        b->len = at;
    } else if (op < 128) { /* a sector that was not written */
        at = at / 512 * 512;
        memset(b->data + at, 0, (size_t)min_u64(512, b->len - at));
    } else if (op < 160) {
        b->data[at] ^= (uint8_t)(1 << op % 8);
    } else if (op < 192) {
        buf_addstr(b, fuzz_bytes(in, fuzz_u8(in)));
    } else {
        struct str s = fuzz_bytes(in, fuzz_u8(in));

        memcpy(b->data + at, s.p ? s.p : "", (size_t)min_u64(s.n, b->len - at));
    }
}

/* One segment: its head as the log writes it, then what the input says. */
static void make_segment(struct fuzz_in *in, struct buf *b, size_t seq,
                         uint32_t *crc, raft_index *last)
{
    static const uint8_t metadata[] = {8, 1, 16, 2}, snapshot[] = {8, 0, 16, 0};
    size_t n = fuzz_u8(in) % 12;

    wal_encode(b, WAL_CRC, NULL, 0, crc);
    wal_encode(b, WAL_METADATA, metadata, sizeof(metadata), crc);
    if (seq == 0)
        wal_encode(b, WAL_SNAPSHOT, snapshot, sizeof(snapshot), crc);
    while (n-- > 0 && fuzz_more(in))
        add_record(in, b, crc, last);
    if (fuzz_u8(in) & 1) { /* preallocated */
        buf_reserve(b, SEGMENT_BYTES);
        memset(b->data + b->len, 0, SEGMENT_BYTES);
        b->len += SEGMENT_BYTES;
    }
}

static void write_file(const char *name, const struct buf *b)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    FUZZ_CHECK(fd >= 0);
    FUZZ_CHECK(sys_write_all(fd, b->data, b->len) == 0);
    close(fd);
}

static void make_log(struct fuzz_in *in)
{
    size_t n = 1 + fuzz_u8(in) % SEGMENTS_MAX;
    raft_index last = 0;
    uint32_t crc = 0;

    for (size_t seq = 0; seq < n; seq++) {
        char *name = xasprintf("%s/%016zx-%016" PRIx64 ".wal", dir, seq,
                               seq ? last + 1 : 0);
        struct buf b = {0};

        make_segment(in, &b, seq, &crc, &last);
        damage(in, &b);
        write_file(name, &b);
        free(name);
        buf_release(&b);
    }
}

static void check_same(const struct wal_contents *a,
                       const struct wal_contents *b)
{
    FUZZ_CHECK(a->n_entries == b->n_entries);
    FUZZ_CHECK(a->metadata.node_id == b->metadata.node_id);
    FUZZ_CHECK(a->hard_state.term == b->hard_state.term &&
               a->hard_state.vote == b->hard_state.vote &&
               a->hard_state.commit == b->hard_state.commit);
    for (size_t i = 0; i < a->n_entries; i++) {
        FUZZ_CHECK(a->entries[i].index == b->entries[i].index &&
                   a->entries[i].term == b->entries[i].term);
        FUZZ_CHECK(
            str_eq(blob_str(a->entries[i].data), blob_str(b->entries[i].data)));
    }
}

static void check_contents(const struct wal_contents *c, raft_index first)
{
    for (size_t i = 0; i < c->n_entries; i++)
        FUZZ_CHECK(c->entries[i].index == first + i);
}

/* It takes another entry, which is there when it is opened again. Takes w. */
static void check_append(struct wal *w, const struct wal_contents *before,
                         struct wal_snapshot snap)
{
    raft_index last = snap.index + before->n_entries;
    raft_term term = max_u64(before->hard_state.term, snap.term) + 1;
    struct raft_entry e = {.term = term, .index = last + 1};
    struct raft_hard_state hs = {term, 0, before->hard_state.commit};
    struct wal_contents after;
    struct err err = {0};

    if (before->n_entries &&
        before->entries[before->n_entries - 1].term > term) {
        wal_close(w); /* a hard state that lags behind */
        return;
    }
    FUZZ_CHECK(wal_append(w, &hs, &e, 1, &err) == 0);
    FUZZ_CHECK(wal_sync(w, &err) == 0);
    wal_close(w);
    FUZZ_CHECK(wal_open(dir, snap, true, &w, &after, &err) == 0);
    FUZZ_CHECK(after.n_entries == before->n_entries + 1);
    FUZZ_CHECK(after.hard_state.term == term);
    wal_close(w);
    wal_contents_release(&after);
}

static void check_log(struct wal_snapshot snap)
{
    struct wal_contents read, first, second;
    struct err e = {0};
    struct wal *w = NULL;
    int rc = wal_read(dir, snap, &read, &e);

    if (rc < 0)
        FUZZ_CHECK(e.code == rc && e.msg[0]);
    FUZZ_CHECK(wal_open(dir, snap, true, &w, &first, &e) == rc);
    if (rc < 0)
        return;
    check_same(&read, &first);
    check_contents(&first, snap.index + 1);
    wal_close(w);

    FUZZ_CHECK(wal_open(dir, snap, true, &w, &second, &e) == 0);
    FUZZ_CHECK(!second.repaired);
    check_same(&first, &second);
    check_append(w, &second, snap);
    wal_contents_release(&read);
    wal_contents_release(&first);
    wal_contents_release(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    struct wal_snapshot *snaps = NULL, none = {0, 0};
    struct err e;
    size_t n = 0;

    if (!dir)
        prepare();
    sys_remove_all(dir, NULL);
    FUZZ_CHECK(sys_mkdir_all(dir, 0700, &e) == 0);
    make_log(&in);
    if (wal_snapshots(dir, &snaps, &n, &e) == 0 && n && data[0] & 1)
        none = snaps[n - 1];
    free(snaps);
    check_log(none);
    return 0;
}
