/*
 * wal.c - write-ahead log, in etcd's own format.
 *
 * FILES   <seq>-<index>.wal, 16 hex digits each: number of the segment and
 *         first index in it. Only the last segment, the tail, is written;
 *         past 64 MB it is cut. Its unused end is preallocated zeros.
 *         0.tmp is the next segment, being prepared; NAME.broken is what a
 *         repair found.
 *
 * FRAME   one after another; a zero length ends the segment
 *
 *   OFFSET  SIZE  FIELD
 *        0     8  little-endian; bits 0-55 are n, bits 56-58 the padding,
 *                 bit 63 says that there is padding
 *        8     n  walpb.Record: type, crc, data
 *      8+n   0-7  zeros, so that no length straddles two sectors
 *
 *   crc is the CRC-32C of the data of this and all earlier records; a crc
 *   record opens each segment and carries the sum across. Then follow the
 *   metadata and, in the first segment, the empty snapshot record, in later
 *   ones the hard state.
 *
 * INVARIANTS
 *   1. A record is acknowledged only after its segment is synced; one that a
 *      start has read, only after that start has written and synced it anew,
 *      unless something behind it proves that it was synced before.
 *   2. An entry replaces any earlier entry with its index or a higher one
 *      (paper, 5.3: a follower drops a conflicting suffix).
 *   3. A segment is synced before the next one gets its name, and its own
 *      head was synced before it got its own.
 *   4. Entries are synced before more entries follow behind a state record,
 *      and a snapshot record before anything follows it.
 *
 * RECOVERY
 *   A crash leaves each sector that was not synced either written or zero. So
 *   a bad record in the tail is a torn write if a whole sector of it is zero
 *   or lies beyond the end of the file, if what can be seen of it agrees with
 *   itself, and if no later write proves, by (4), that it had been synced. By
 *   (1) nobody was told of it: cut it. Any other bad record is lost data:
 *   refuse to start and name file and offset, because a server that forgets a
 *   vote or an entry can help elect the wrong leader (paper, 5.2 and 5.4.1).
 *
 *   The sums cover what records hold, not what they are. Replay therefore
 *   also refuses what Raft never writes: a gap, a term, a commit index or a
 *   vote that goes back.
 */
#include "wal.h"

#include "crypto.h"
#include "pb.h"
#include "sys.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTOR 512
#define FRAME_HEAD 8
#define READ_CHUNK (256 * 1024) /* of the tail's 64 MB that a scan holds */
#define COPY_CHUNK (64 * 1024)
#define WRITE_CHUNK (1024 * 1024) /* frames are written when they are more */
#define WRITE_KEEP (256 * 1024)   /* memory that stays with an idle log */
#define FILE_MODE 0600
#define DIR_MODE 0700
#define NEXT_NAME "0.tmp"

static int64_t segment_bytes = WAL_SEGMENT_BYTES;

void wal_set_segment_bytes(int64_t n)
{
    segment_bytes = n;
}

/* --- Codec. ------------------------------------------------------------- */

static size_t padding_of(uint64_t n)
{
    return (size_t)(-n & 7);
}

/* The data of a record in two pieces, so that an entry's is copied once. */
static void encode_frame(struct buf *b, enum wal_record_type type,
                         struct str head, struct str body, uint32_t *crc)
{
    size_t n = head.n + body.n, n_record = 2, pad;
    uint64_t length;

    *crc = crc32c(crc32c(*crc, head.p, head.n), body.p, body.n);
    n_record += 1 + pb_varint_len(*crc);
    if (n)
        n_record += 1 + pb_varint_len(n) + n;
    pad = padding_of(n_record);
    length = n_record | (pad ? (uint64_t)(0x80 | pad) << 56 : 0);

    buf_reserve(b, FRAME_HEAD + n_record + pad);
    put_u64le(b->data + b->len, length);
    b->len += FRAME_HEAD;
    pb_add_u64(b, 1, type);
    pb_add_u64(b, 2, *crc);
    if (n) {
        pb_add_tag(b, 3, PB_BYTES);
        pb_add_varint(b, n);
        buf_add(b, head.p, head.n);
        buf_add(b, body.p, body.n);
    }
    buf_add(b, "\0\0\0\0\0\0\0", pad);
}

void wal_encode(struct buf *b, enum wal_record_type type, const void *data,
                size_t n, uint32_t *crc)
{
    encode_frame(b, type, (struct str){data, n}, STR(""), crc);
}

/* A frame's first word: the lengths of its record and of its padding. False
 * if no etcd since 2.1, which pads, can have written it. */
static bool parse_length(uint64_t word, size_t *n, size_t *pad)
{
    uint64_t len = word & ((UINT64_C(1) << 56) - 1);
    unsigned top = (unsigned)(word >> 56);

    if (len == 0 || len > WAL_RECORD_MAX)
        return false;
    *n = (size_t)len;
    *pad = padding_of(len);
    return top == (*pad ? (0x80 | *pad) : 0);
}

static int parse_record(const uint8_t *p, size_t n, struct wal_record *rec)
{
    uint64_t type = 0, crc = 0;
    struct str data = {0};
    const struct pb_target fields[] = {
        [1] = {.u64 = &type},
        [2] = {.u64 = &crc},
        [3] = {.bytes = &data},
    };

    if (pb_read(p, n, fields, ARRAY_LEN(fields)) < 0 || crc > UINT32_MAX)
        return WAL_EFORMAT;
    if (type == WAL_CRC && data.n > 0)
        return WAL_EFORMAT;
    *rec = (struct wal_record){(int64_t)type, (uint32_t)crc, data};
    return 0;
}

int64_t wal_decode(const uint8_t *p, size_t n, uint32_t *crc,
                   struct wal_record *rec)
{
    struct wal_record found;
    size_t len, pad;
    uint32_t sum;

    if (n < FRAME_HEAD || get_u64le(p) == 0)
        return 0;
    if (!parse_length(get_u64le(p), &len, &pad))
        return WAL_EFORMAT;
    if (n - FRAME_HEAD < len + pad)
        return 0;
    if (parse_record(p + FRAME_HEAD, len, &found) < 0)
        return WAL_EFORMAT;
    /* A reader that begins with this segment has no sum to compare yet. */
    if (found.type == WAL_CRC && *crc == 0)
        sum = found.crc;
    else
        sum = crc32c(*crc, found.data.p, found.data.n);
    if (sum != found.crc)
        return WAL_ECRC;
    *crc = sum;
    *rec = found;
    return (int64_t)(FRAME_HEAD + len + pad);
}

static void encode_metadata(struct buf *b, const struct wal_metadata *m)
{
    pb_add_u64(b, 1, m->node_id);
    pb_add_u64(b, 2, m->cluster_id);
}

static int decode_metadata(struct str s, struct wal_metadata *m)
{
    const struct pb_target fields[] = {
        [1] = {.u64 = &m->node_id},
        [2] = {.u64 = &m->cluster_id},
    };

    return pb_read(s.p, s.n, fields, ARRAY_LEN(fields));
}

static void encode_snapshot(struct buf *b, struct wal_snapshot snap,
                            const struct raft_conf_state *cs)
{
    pb_add_u64(b, 1, snap.index);
    pb_add_u64(b, 2, snap.term);
    if (cs) {
        size_t mark = pb_begin(b, 3);

        raftpb_encode_conf_state(b, cs);
        pb_end(b, mark);
    }
}

static int decode_snapshot(struct str s, struct wal_snapshot *snap)
{
    struct str conf_state;
    const struct pb_target fields[] = {
        [1] = {.u64 = &snap->index},
        [2] = {.u64 = &snap->term},
        [3] = {.bytes = &conf_state},
    };

    *snap = (struct wal_snapshot){0};
    return pb_read(s.p, s.n, fields, ARRAY_LEN(fields));
}

/* --- Segments. ---------------------------------------------------------- */

struct segment {
    uint64_t seq;
    raft_index first; /* what the last index was, plus one, when it was cut */
    int fd;           /* -1: not opened */
};

struct segments {
    struct segment *v;
    size_t n;
};

static char *segment_path(const char *dir, const struct segment *s)
{
    return xasprintf("%s/%016" PRIx64 "-%016" PRIx64 ".wal", dir, s->seq,
                     s->first);
}

static bool parse_segment_name(const char *name, struct segment *out)
{
    struct str s = str_of(name), seq = {name, 16}, first = {name + 17, 16};
    struct segment found = {.fd = -1};

    if (s.n != 37 || name[16] != '-' || strcmp(name + 33, ".wal") != 0 ||
        !str_hex_to_u64(seq, &found.seq) ||
        !str_hex_to_u64(first, &found.first))
        return false;
    *out = found;
    return true;
}

static void segments_push(struct segments *s, struct segment seg)
{
    s->v = xrealloc(s->v, (s->n + 1) * sizeof(*s->v));
    s->v[s->n++] = seg;
}

static void segments_close(struct segments *s)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->v[i].fd >= 0)
            close(s->v[i].fd);
    free(s->v);
    *s = (struct segments){0};
}

/* In the order of their names, which is that of their numbers. */
static int segments_list(const char *dir, struct segments *out, struct err *e)
{
    struct segment seg;
    char **names;
    size_t n;

    *out = (struct segments){0};
    if (sys_list_dir(dir, &names, &n, e) < 0)
        return WAL_EIO;
    for (size_t i = 0; i < n; i++)
        if (parse_segment_name(names[i], &seg))
            segments_push(out, seg);
    sys_free_list(names, n);
    return 0;
}

/*
 * Where reading for a snapshot at index begins: the last segment that starts
 * at or before it, since the snapshot's record was written later than the
 * entry. n if there is none.
 */
static size_t segments_find(const struct segments *s, raft_index index)
{
    for (size_t i = s->n; i-- > 0;)
        if (s->v[i].first <= index)
            return i;
    return s->n;
}

static int segments_check(const char *dir, const struct segments *s,
                          size_t from, struct err *e)
{
    if (from >= s->n)
        return err_set(e, WAL_EMISSING,
                       "wal: file not found: no segment in %s reaches back to "
                       "the snapshot; restore the missing *.wal files",
                       dir);
    for (size_t i = from + 1; i < s->n; i++)
        if (s->v[i].seq != s->v[i - 1].seq + 1)
            return err_set(e, WAL_EMISSING,
                           "wal: segment %016" PRIx64 " is missing in %s; "
                           "restore the file",
                           s->v[i - 1].seq + 1, dir);
    return 0;
}

static int lock_error(int fd, const char *path, struct err *e)
{
    int pid = sys_flock_holder(fd);
    char who[32] = "another process";

    if (pid > 0)
        snprintf(who, sizeof(who), "process %d", pid);
    return err_set(e, WAL_ELOCKED,
                   "wal: %s is locked by %s: is another etcd running on this "
                   "data directory?",
                   path, who);
}

/*
 * etcd takes a lock of the open file description (fcntl), which flock(2) does
 * not see; ours adds flock, so that /proc/locks names the process.
 */
static int lock_segment(int fd, const char *path, struct err *e)
{
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK ? lock_error(fd, path, e)
                                    : err_sys(e, WAL_EIO, "lock %s", path);
#ifdef F_OFD_SETLK
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    if (fcntl(fd, F_OFD_SETLK, &whole) < 0) {
        if (errno == EAGAIN || errno == EACCES)
            return lock_error(fd, path, e);
        if (errno != EINVAL) /* a kernel before 3.15 */
            return err_sys(e, WAL_EIO, "lock %s", path);
    }
#endif
    return 0;
}

enum purpose { TO_READ, TO_WRITE };

/* Opens from segment `from` on; to write means to lock, too. */
static int segments_open(const char *dir, struct segments *s, size_t from,
                         enum purpose purpose, struct err *e)
{
    int flags = (purpose == TO_WRITE ? O_RDWR : O_RDONLY) | O_CLOEXEC;

    for (size_t i = from; i < s->n; i++) {
        char *path = segment_path(dir, &s->v[i]);
        int rc = 0;

        s->v[i].fd = open(path, flags);
        if (s->v[i].fd < 0)
            rc = err_sys(e, WAL_EIO, "open %s", path);
        else if (purpose == TO_WRITE)
            rc = lock_segment(s->v[i].fd, path, e);
        free(path);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* --- Reading: files as streams of frames. ------------------------------- */

/* Up to n bytes, fewer only at the end of the file; -1 with errno. */
static ssize_t read_at(int fd, void *p, size_t n, int64_t off)
{
    size_t got = 0;

    while (got < n) {
        ssize_t r =
            pread(fd, (char *)p + got, n - got, (off_t)(off + (int64_t)got));

        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return -1;
        if (r == 0)
            break;
        got += (size_t)r;
    }
    return (ssize_t)got;
}

static int64_t file_size(int fd)
{
    struct stat st;

    return fstat(fd, &st) < 0 ? -1 : (int64_t)st.st_size;
}

struct reader {
    int fd;
    int64_t size, off; /* of the file; of the next byte in it */
    struct buf b;
    size_t pos; /* of the next byte in b */
};

/* Bytes at hand, at least want unless the file ends; -1 with errno. */
static ssize_t reader_need(struct reader *r, size_t want)
{
    size_t have = r->b.len - r->pos;
    size_t chunk = want > READ_CHUNK ? want : READ_CHUNK;
    ssize_t n;

    if (have >= want)
        return (ssize_t)have;
    buf_consume(&r->b, r->pos);
    r->pos = 0;
    buf_reserve(&r->b, chunk - have);
    n = read_at(r->fd, r->b.data + have, chunk - have, r->off + (int64_t)have);
    if (n < 0)
        return -1;
    r->b.len += (size_t)n;
    return (ssize_t)r->b.len;
}

/*
 * As wal_decode(): the bytes of the next frame, borrowed until the next call,
 * 0 where frames end or the last one is cut short, or a WAL_E* code.
 */
static int64_t read_frame(struct reader *r, uint32_t *crc,
                          struct wal_record *rec)
{
    ssize_t have = reader_need(r, FRAME_HEAD);
    size_t n, pad;
    uint64_t word;
    int64_t used;

    if (have < 0)
        return WAL_EIO;
    word = have < FRAME_HEAD ? 0 : get_u64le(r->b.data + r->pos);
    if (word == 0)
        return 0;
    if (!parse_length(word, &n, &pad))
        return WAL_EFORMAT;
    if ((int64_t)(n + pad) > r->size - r->off - FRAME_HEAD)
        return 0; /* before there is memory for a length that is a lie */
    have = reader_need(r, FRAME_HEAD + n + pad);
    if (have < 0)
        return WAL_EIO;
    used = wal_decode(r->b.data + r->pos, (size_t)have, crc, rec);
    if (used > 0) {
        r->pos += (size_t)used;
        r->off += used;
    }
    return used;
}

static bool is_zero(const uint8_t *p, size_t n)
{
    return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

/* The offset of the first byte that is not zero, size if all are; -1 with
 * errno. Holes, and space preallocated but never written, cost nothing. */
static int64_t first_nonzero(int fd, int64_t from, int64_t size)
{
    uint8_t *chunk = xmalloc(COPY_CHUNK);
    int64_t found = size;

    while (from < size) {
        off_t data = lseek(fd, (off_t)from, SEEK_DATA);
        ssize_t n;

        if (data < 0 && errno == ENXIO)
            break;
        if (data > from)
            from = data;
        n = read_at(fd, chunk, COPY_CHUNK, from);
        if (n <= 0) {
            found = n < 0 ? -1 : size;
            break;
        }
        if (!is_zero(chunk, (size_t)n)) {
            size_t i = 0;

            while (chunk[i] == 0)
                i++;
            found = from + (int64_t)i;
            break;
        }
        from += n;
    }
    free(chunk);
    return found < size ? found : size;
}

/* --- Torn or damaged? --------------------------------------------------- */

/* A frame that cannot be read, in the tail. */
struct suspect {
    int fd;
    int64_t off, size; /* of the frame, of the file */
    int64_t after;     /* where later frames would be, if any */
    const char *why;   /* it is a torn write */
};

static int64_t sector_up(int64_t off)
{
    return (off + SECTOR - 1) / SECTOR * SECTOR;
}

/* The first sector that begins in from..end and is zero; end if none. */
static int64_t zero_sector(int fd, int64_t from, int64_t end)
{
    uint8_t sector[SECTOR];

    for (int64_t off = sector_up(from); off < end; off += SECTOR) {
        ssize_t n = read_at(fd, sector, sizeof(sector), off);

        if (n < 0)
            return -1;
        if (is_zero(sector, (size_t)n))
            return off;
    }
    return end;
}

/* The beginning of a varint, whose end cannot be seen? */
static bool is_cut_varint(const uint8_t *p, const uint8_t *end)
{
    bool cut = end - p < 10; /* which is its longest */

    for (; p < end; p++)
        cut &= *p >= 0x80;
    return cut;
}

/*
 * A record says its length twice: in its frame, and by that of its data. Do
 * the two agree, as far as p[0..n) shows?
 */
static bool length_agrees(const uint8_t *p, size_t n, size_t n_record)
{
    static const uint8_t tags[] = {1 << 3, 2 << 3, 3 << 3 | PB_BYTES};
    struct pb_reader r = pb_reader(p, n);
    uint64_t v = 0;

    for (size_t i = 0; i < ARRAY_LEN(tags); i++) {
        if (r.p == r.end)
            return true;
        if (*r.p++ != tags[i])
            return false;
        if (pb_get_varint(&r, &v) < 0)
            return is_cut_varint(r.p, r.end);
    }
    return (uint64_t)(r.p - p) + v == n_record;
}

/* 1: the frame itself looks like a torn write; 0, or WAL_EIO with errno. */
static int looks_torn(struct suspect *s)
{
    uint8_t head[FRAME_HEAD + 24]; /* with all up to the record's data */
    ssize_t seen = read_at(s->fd, head, sizeof(head), s->off);
    size_t n, pad;
    int64_t end, hole;

    if (seen < 0)
        return WAL_EIO;
    if (seen < FRAME_HEAD) {
        s->after = s->size;
        s->why = "its length is cut short";
        return 1;
    }
    if (get_u64le(head) == 0) {
        /* Then nothing else in its sector was written, either. */
        int64_t next = first_nonzero(s->fd, s->off, s->size);

        s->after = next & ~INT64_C(7);
        s->why = "its beginning was never written";
        return next < 0 ? WAL_EIO : next >= sector_up(s->off + FRAME_HEAD);
    }
    if (!parse_length(get_u64le(head), &n, &pad))
        return 0;
    end = s->off + FRAME_HEAD + (int64_t)n;
    s->after = (int64_t)min_u64((uint64_t)s->size, (uint64_t)end + pad);
    hole = zero_sector(s->fd, s->off + FRAME_HEAD,
                       (int64_t)min_u64((uint64_t)s->size, (uint64_t)end));
    if (hole < 0)
        return WAL_EIO;
    if (seen > hole - s->off)
        seen = (ssize_t)(hole - s->off);
    if (!length_agrees(head + FRAME_HEAD, (size_t)seen - FRAME_HEAD, n))
        return 0;
    s->why = "a sector of it was never written";
    if (hole < end && hole < s->size)
        return 1;
    s->why = "its end is missing";
    return end + (int64_t)pad > s->size;
}

/*
 * A record at off, of which only its own sum can tell if it is one. Its bytes
 * in the file, 0 if there is none, -1 with errno.
 */
static int64_t load_record(const struct suspect *s, int64_t off, struct buf *b,
                           struct wal_record *rec)
{
    uint8_t word[FRAME_HEAD];
    ssize_t got = read_at(s->fd, word, sizeof(word), off);
    size_t n, pad;

    if (got < 0)
        return -1;
    if (got < FRAME_HEAD || !parse_length(get_u64le(word), &n, &pad) ||
        (int64_t)(n + pad) > s->size - off - FRAME_HEAD)
        return 0;
    buf_clear(b);
    buf_reserve(b, n);
    got = read_at(s->fd, b->data, n, off + FRAME_HEAD);
    if (got < 0)
        return -1;
    if ((size_t)got < n || parse_record(b->data, n, rec) < 0)
        return 0;
    return (int64_t)(FRAME_HEAD + n + pad);
}

/* The first place from off on where a frame may start: the file's size if all
 * is zero behind; -1 with errno. */
static int64_t next_word(const struct suspect *s, int64_t off)
{
    uint8_t word[FRAME_HEAD];
    ssize_t n = read_at(s->fd, word, sizeof(word), off);

    if (n < 0)
        return -1;
    if (!is_zero(word, (size_t)n))
        return off;
    off = first_nonzero(s->fd, off, s->size);
    return off < 0 || off == s->size ? off : off & ~INT64_C(7);
}

/*
 * Did writing go on after the suspect had been synced? Records behind it are
 * known by their sums, which continue one another's. A state record ends a
 * write that has entries; so if entries follow one, or anything a snapshot
 * record, then the suspect was synced before (invariant 4).
 */
static int later_write_follows(const struct suspect *s)
{
    struct buf b = {0};
    struct wal_record rec;
    bool closed = false, proof = false;
    int64_t off = s->after, n = 0;

    while (!proof && off < s->size) {
        int64_t last_type;
        uint32_t crc;
        bool linked = false;

        off = next_word(s, off);
        if (off < 0 || off >= s->size)
            break;
        n = load_record(s, off, &b, &rec);
        for (int64_t next = off; n > 0 && !proof; linked = true) {
            next += n;
            last_type = rec.type;
            crc = rec.crc;
            n = load_record(s, next, &b, &rec);
            if (n <= 0 || crc32c(crc, rec.data.p, rec.data.n) != rec.crc) {
                if (linked)
                    off = next - FRAME_HEAD;
                break;
            }
            closed |= last_type == WAL_STATE || last_type == WAL_SNAPSHOT;
            proof =
                last_type == WAL_SNAPSHOT || (closed && rec.type == WAL_ENTRY);
        }
        if (n < 0)
            break;
        off += FRAME_HEAD;
    }
    buf_release(&b);
    return off < 0 || n < 0 ? WAL_EIO : proof;
}

/* 1: torn, cut it; 0: damaged, refuse; or WAL_EIO with errno. */
static int is_torn(struct suspect *s)
{
    int rc = looks_torn(s);

    if (rc <= 0)
        return rc;
    rc = later_write_follows(s);
    return rc < 0 ? rc : !rc;
}

/* --- Scanning: segments as one stream of records. ----------------------- */

struct scan {
    const char *dir;
    const struct segments *segs;
    size_t at; /* the segment being read */
    struct reader r;
    uint32_t crc;
    bool has_metadata;
    struct wal_metadata metadata;
    int64_t record_off; /* of the last record given */
    const char *torn;   /* why the tail ends at r.off, or NULL */

    /* In the segment being read, what nothing proves to be synced begins here. */
    int64_t unproven;
    int64_t next_write; /* behind a state that ends entries from there; or 0 */
    bool has_entries;
    int64_t last_type;
};

static void scan_release(struct scan *s)
{
    buf_release(&s->r.b);
}

static int scan_io_error(const struct scan *s, struct err *e)
{
    char *path = segment_path(s->dir, &s->segs->v[s->at]);
    int rc = err_sys(e, WAL_EIO, "read %s", path);

    free(path);
    return rc;
}

static int scan_damaged(const struct scan *s, int code, int64_t off,
                        const char *what, struct err *e)
{
    char *path = segment_path(s->dir, &s->segs->v[s->at]);

    err_set(e, code,
            "wal: %s in %s at offset %" PRId64 ", and this is no torn write: "
            "records that were synced are lost. Restore the file",
            what, path, off);
    free(path);
    return code;
}

static const char *code_text(int64_t code)
{
    return code == WAL_ECRC      ? "crc mismatch"
           : code == WAL_EFORMAT ? "malformed record"
                                 : "unexpected end";
}

static int scan_metadata(struct scan *s, const struct wal_record *rec,
                         struct err *e)
{
    struct wal_metadata m = {0};

    if (decode_metadata(rec->data, &m) < 0)
        return scan_damaged(s, WAL_EFORMAT, s->record_off, "malformed metadata",
                            e);
    if (s->has_metadata && (m.node_id != s->metadata.node_id ||
                            m.cluster_id != s->metadata.cluster_id))
        return scan_damaged(s, WAL_EFORMAT, s->record_off,
                            "conflicting metadata found", e);
    s->has_metadata = true;
    s->metadata = m;
    return 0;
}

/* The head, crc and metadata, was synced before the segment got its name. */
static int scan_open_segment(struct scan *s, struct err *e)
{
    static const int64_t head[] = {WAL_CRC, WAL_METADATA};
    struct wal_record rec;

    buf_clear(&s->r.b);
    s->r = (struct reader){.fd = s->segs->v[s->at].fd, .b = s->r.b};
    s->r.size = file_size(s->r.fd);
    if (s->r.size < 0)
        return scan_io_error(s, e);
    s->unproven = s->next_write = s->last_type = 0;
    s->has_entries = false;
    for (size_t i = 0; i < ARRAY_LEN(head); i++) {
        int64_t n;

        s->record_off = s->r.off;
        n = read_frame(&s->r, &s->crc, &rec);
        if (n == WAL_EIO)
            return scan_io_error(s, e);
        if (n <= 0)
            return scan_damaged(s, n < 0 ? (int)n : WAL_EFORMAT, s->record_off,
                                code_text(n), e);
        if (rec.type != head[i])
            return scan_damaged(s, WAL_EFORMAT, s->record_off,
                                "no crc and metadata first", e);
    }
    return scan_metadata(s, &rec, e);
}

/* From segment `from` on; all of them must be open. */
static int scan_start(struct scan *s, const char *dir,
                      const struct segments *segs, size_t from, struct err *e)
{
    *s = (struct scan){.dir = dir, .segs = segs, .at = from};
    return scan_open_segment(s, e);
}

/* No frame at r.off can be read, for the reason in code. 0 if the segment
 * ends there, cleanly or torn; else why it is refused. */
static int scan_end_segment(struct scan *s, int64_t code, struct err *e)
{
    struct suspect sus = {.fd = s->r.fd, .off = s->r.off, .size = s->r.size};
    int64_t rest = code ? s->r.off : first_nonzero(sus.fd, sus.off, sus.size);
    int rc = 0;

    if (code == WAL_EIO || rest < 0)
        return scan_io_error(s, e);
    if (code == 0 && rest == s->r.size)
        return 0;
    if (s->at + 1 == s->segs->n)
        rc = is_torn(&sus);
    if (rc < 0)
        return scan_io_error(s, e);
    if (rc == 0)
        return scan_damaged(s, code ? (int)code : WAL_EFORMAT, s->r.off,
                            code_text(code), e);
    s->torn = sus.why;
    return 0;
}

/*
 * The next entry, state or snapshot record: 1, 0 at the end of the log, or a
 * WAL_E* code. rec borrows until the next call.
 */
static int scan_next(struct scan *s, struct wal_record *rec, struct err *e)
{
    for (;;) {
        int64_t n;
        int rc;

        s->record_off = s->r.off;
        n = read_frame(&s->r, &s->crc, rec);
        if (n <= 0) {
            rc = scan_end_segment(s, n, e);
            if (rc < 0 || s->at + 1 == s->segs->n)
                return rc;
            s->at++;
            rc = scan_open_segment(s, e);
        } else if (rec->type == WAL_METADATA) {
            rc = scan_metadata(s, rec, e);
        } else if (rec->type == WAL_CRC) {
            rc = 0; /* none is due here, but its sum was right */
        } else {
            return 1;
        }
        if (rc < 0)
            return rc;
    }
}

/* --- Replay: records as Raft's persistent state. ------------------------ */

struct replay {
    struct wal_snapshot from;
    struct wal_contents c;
    size_t cap;          /* of c.entries */
    bool found;          /* the record of the snapshot `from` */
    raft_term from_term; /* of the entry at its index, 0 if not seen */
};

void wal_contents_release(struct wal_contents *c)
{
    raft_entries_free(c->entries, c->n_entries);
    free(c->repaired);
    *c = (struct wal_contents){0};
}

static void replay_truncate(struct replay *r, size_t n)
{
    while (r->c.n_entries > n)
        raft_entry_release(&r->c.entries[--r->c.n_entries]);
}

/* These take one record each, and return what is wrong with it or NULL. */

static const char *replay_entry(struct replay *r, struct str data)
{
    struct raft_entry ent;
    size_t at;

    if (raftpb_decode_entry(data.p, data.n, &ent) < 0)
        return "malformed entry";
    if (ent.index == 0 || ent.term == 0 ||
        (ent.type != RAFT_ENTRY_NORMAL && !ent.data)) {
        raft_entry_release(&ent);
        return "an entry that Raft does not write";
    }
    if (ent.index <= r->from.index) { /* the snapshot has it */
        replay_truncate(r, 0);
        if (ent.index == r->from.index)
            r->from_term = ent.term;
        raft_entry_release(&ent);
        return NULL;
    }
    if (ent.index - r->from.index - 1 > r->c.n_entries) {
        raft_entry_release(&ent);
        return "a gap between entries";
    }
    at = (size_t)(ent.index - r->from.index - 1);
    replay_truncate(r, at);
    if (at == r->cap) {
        r->cap = r->cap ? 2 * r->cap : 64;
        r->c.entries = xrealloc(r->c.entries, r->cap * sizeof(*r->c.entries));
    }
    r->c.entries[r->c.n_entries++] = ent;
    return NULL;
}

/* What is wrong with hs after last, or NULL: replay refuses it, and so does
 * wal_append(), lest it write what replay will refuse. */
static const char *state_fault(const struct raft_hard_state *last,
                               const struct raft_hard_state *hs)
{
    if (hs->term == 0 && hs->vote != 0)
        return "a vote without a term";
    if (hs->term < last->term)
        return "a term that goes back";
    if (hs->commit < last->commit)
        return "a commit index that goes back";
    if (hs->term == last->term && last->vote != 0 && hs->vote != last->vote)
        return "a second vote in one term";
    return NULL;
}

static const char *decode_state(struct str data, struct raft_hard_state *hs)
{
    struct buf again = {0};
    bool whole;

    if (raftpb_decode_hard_state(data.p, data.n, hs) < 0)
        return "malformed state";
    raftpb_encode_hard_state(&again, hs);
    whole = data.n <= again.len;
    buf_release(&again);
    /* Else: a field that we would lose; or no state at all. */
    return whole ? NULL : "malformed state";
}

static const char *replay_state(struct replay *r, struct str data)
{
    struct raft_hard_state hs;
    const char *wrong = decode_state(data, &hs);

    if (!wrong)
        wrong = state_fault(&r->c.hard_state, &hs);
    if (!wrong)
        r->c.hard_state = hs;
    return wrong;
}

static const char *replay_snapshot(struct replay *r, struct str data)
{
    struct wal_snapshot snap;

    if (decode_snapshot(data, &snap) < 0)
        return "malformed snapshot record";
    if (snap.index != r->from.index)
        return NULL;
    if (snap.term != r->from.term)
        return "wal: snapshot mismatch: another term";
    /*
     * One from the leader replaces a log that does not hold its last entry
     * (paper, Figure 13, rule 7); what was read so far is such a log.
     */
    if (snap.index > 0 && r->from_term != snap.term)
        replay_truncate(r, 0);
    r->found = true;
    return NULL;
}

static const char *replay_record(struct replay *r, const struct wal_record *rec)
{
    switch (rec->type) {
    case WAL_ENTRY:
        return replay_entry(r, rec->data);
    case WAL_STATE:
        return replay_state(r, rec->data);
    case WAL_SNAPSHOT:
        return replay_snapshot(r, rec->data);
    default:
        return "unexpected block type";
    }
}

/* Terms never fall along a log. */
static bool replay_terms_rise(const struct replay *r)
{
    raft_term last = r->from.term;

    for (size_t i = 0; i < r->c.n_entries; i++) {
        if (r->c.entries[i].term < last)
            return false;
        last = r->c.entries[i].term;
    }
    return true;
}

/* What follows a snapshot record, or entries behind an earlier write's state,
 * proves what stands before it (invariant 4). */
static void note_write(struct scan *s, int64_t type)
{
    if (s->last_type == WAL_SNAPSHOT) {
        s->unproven = s->record_off;
        s->next_write = 0;
        s->has_entries = false;
    } else if (s->last_type == WAL_STATE && s->has_entries && !s->next_write) {
        s->next_write = s->record_off;
    }
    if (type == WAL_ENTRY && s->next_write) {
        s->unproven = s->next_write;
        s->next_write = 0;
    }
    s->has_entries |= type == WAL_ENTRY;
    s->last_type = type;
}

static int replay_records(struct replay *r, struct scan *s, struct err *e)
{
    struct wal_record rec;
    int rc;

    while ((rc = scan_next(s, &rec, e)) > 0) {
        const char *wrong = replay_record(r, &rec);

        if (wrong)
            return scan_damaged(s, WAL_EFORMAT, s->record_off, wrong, e);
        note_write(s, rec.type);
    }
    if (rc < 0)
        return rc;
    if (!r->found && r->from.index > 0)
        return err_set(e, WAL_ENOSNAP,
                       "wal: snapshot not found: %s has no record of the "
                       "snapshot at index %" PRIu64 ", term %" PRIu64
                       "; its .snap file belongs to another log",
                       s->dir, r->from.index, r->from.term);
    if (!replay_terms_rise(r))
        return scan_damaged(s, WAL_EFORMAT, s->r.off,
                            "entries whose term goes back, before the end", e);
    r->c.metadata = s->metadata;
    return 0;
}

/* Reads all behind snap. On success s tells how and where the tail ends. */
static int replay(const char *dir, const struct segments *segs, size_t from,
                  struct wal_snapshot snap, struct scan *s,
                  struct wal_contents *out, struct err *e)
{
    struct replay r = {.from = snap};
    int rc = scan_start(s, dir, segs, from, e);

    if (rc == 0)
        rc = replay_records(&r, s, e);
    scan_release(s);
    if (rc < 0) {
        wal_contents_release(&r.c);
        return rc;
    }
    *out = r.c;
    return 0;
}

bool wal_exists(const char *dir)
{
    struct segments segs;
    size_t n;

    if (segments_list(dir, &segs, NULL) < 0)
        return false;
    n = segs.n;
    segments_close(&segs);
    return n > 0;
}

int wal_read(const char *dir, struct wal_snapshot snap,
             struct wal_contents *contents, struct err *e)
{
    struct segments segs;
    struct scan s;
    size_t from;
    int rc = segments_list(dir, &segs, e);

    if (rc < 0)
        return rc;
    from = segments_find(&segs, snap.index);
    rc = segments_check(dir, &segs, from, e);
    if (rc == 0)
        rc = segments_open(dir, &segs, from, TO_READ, e);
    if (rc == 0)
        rc = replay(dir, &segs, from, snap, &s, contents, e);
    segments_close(&segs);
    return rc;
}

/* --- Inspecting. -------------------------------------------------------- */

void wal_report_release(struct wal_report *r)
{
    wal_contents_release(&r->contents);
    free(r->torn);
    *r = (struct wal_report){0};
}

/* How many bytes from off on are in use: up to the last that is not zero; -1
 * with errno. */
static int64_t bytes_in_use(int fd, int64_t off, int64_t size)
{
    uint8_t *chunk = xmalloc(COPY_CHUNK);
    int64_t end = off, at = off;

    while ((at = first_nonzero(fd, at, size)) < size) {
        ssize_t n = at < 0 ? -1 : read_at(fd, chunk, COPY_CHUNK, at);

        if (n <= 0)
            break;
        for (ssize_t i = n; i > 0 && end < at + i; i--)
            if (chunk[i - 1])
                end = at + i;
        at += n;
    }
    free(chunk);
    return at < size ? -1 : end - off;
}

static int report_torn(const struct scan *s, struct wal_report *out,
                       struct err *e)
{
    char *path = segment_path(s->dir, &s->segs->v[s->at]);

    out->n_torn = bytes_in_use(s->r.fd, s->r.off, s->r.size);
    out->torn =
        xasprintf("%s from offset %" PRId64 " on: %s", path, s->r.off, s->torn);
    free(path);
    return out->n_torn < 0 ? scan_io_error(s, e) : 0;
}

/* The first segment whose head can be read tells whose log it is. */
static struct wal_metadata any_metadata(const char *dir, struct segments *segs)
{
    struct wal_metadata m = {0};
    struct scan s;
    bool found = false;

    for (size_t i = 0; i < segs->n && !found; i++) {
        struct segments one = {&segs->v[i], 1};

        if (one.v->fd < 0 && segments_open(dir, &one, 0, TO_READ, NULL) < 0)
            continue;
        found = scan_start(&s, dir, &one, 0, NULL) == 0;
        if (found)
            m = s.metadata;
        scan_release(&s);
    }
    return m;
}

static int64_t bytes_of(const char *dir, const struct segments *segs, size_t n)
{
    int64_t sum = 0;

    for (size_t i = 0; i < n; i++) {
        char *path = segment_path(dir, &segs->v[i]);
        struct stat st;

        if (stat(path, &st) == 0)
            sum += (int64_t)st.st_size;
        free(path);
    }
    return sum;
}

/* What is behind snap, as far as it can be read. */
static int inspect(const char *dir, struct segments *segs,
                   struct wal_snapshot snap, struct wal_report *out,
                   struct err *e)
{
    struct replay r = {.from = snap};
    size_t from = segments_find(segs, snap.index);
    struct scan s;
    int rc = segments_check(dir, segs, from, e);

    if (rc == 0)
        rc = segments_open(dir, segs, from, TO_READ, e);
    if (rc < 0)
        return rc;
    rc = scan_start(&s, dir, segs, from, e);
    if (rc == 0)
        rc = replay_records(&r, &s, e);
    out->contents = r.c;
    out->bytes = bytes_of(dir, segs, s.at) + s.r.off;
    if (rc == 0 && s.torn)
        rc = report_torn(&s, out, e);
    scan_release(&s);
    return rc;
}

int wal_inspect(const char *dir, struct wal_snapshot snap,
                struct wal_report *out, struct err *e)
{
    struct segments segs;
    int rc = segments_list(dir, &segs, e);

    *out = (struct wal_report){.n_segments = segs.n};
    if (rc < 0)
        return rc;
    rc = inspect(dir, &segs, snap, out, e);
    if (rc < 0)
        out->contents.metadata = any_metadata(dir, &segs);
    segments_close(&segs);
    return rc;
}

/* --- The snapshots of a log. -------------------------------------------- */

struct snapshots {
    struct wal_snapshot *v;
    size_t n;
    raft_index commit;
};

static const char *snapshots_record(struct snapshots *all,
                                    const struct wal_record *rec)
{
    struct raft_hard_state hs;
    struct wal_snapshot snap;
    const char *wrong;

    switch (rec->type) {
    case WAL_ENTRY:
        return NULL;
    case WAL_STATE:
        wrong = decode_state(rec->data, &hs);
        if (!wrong)
            all->commit = hs.commit;
        return wrong;
    case WAL_SNAPSHOT:
        if (decode_snapshot(rec->data, &snap) < 0)
            return "malformed snapshot record";
        all->v = xrealloc(all->v, (all->n + 1) * sizeof(*all->v));
        all->v[all->n++] = snap;
        return NULL;
    default: /* a snapshot's record could be overlooked */
        return "unexpected block type";
    }
}

static int snapshots_scan(struct snapshots *all, const char *dir,
                          const struct segments *segs, size_t from,
                          struct err *e)
{
    struct wal_record rec;
    struct scan s;
    int rc = scan_start(&s, dir, segs, from, e);

    while (rc == 0 && (rc = scan_next(&s, &rec, e)) > 0) {
        const char *wrong = snapshots_record(all, &rec);

        rc = wrong ? scan_damaged(&s, WAL_EFORMAT, s.record_off, wrong, e) : 0;
        if (rc < 0)
            break;
    }
    scan_release(&s);
    return rc;
}

/* Purging may leave a gap if a crash keeps an older deletion back: what is
 * before it is no longer needed. */
static size_t segments_unbroken(const struct segments *s)
{
    size_t i = s->n;

    while (i > 0 && (i == s->n || s->v[i - 1].seq + 1 == s->v[i].seq))
        i--;
    return i;
}

int wal_snapshots(const char *dir, struct wal_snapshot **out, size_t *n,
                  struct err *e)
{
    struct snapshots all = {0};
    struct segments segs;
    size_t from, kept = 0;
    int rc = segments_list(dir, &segs, e);

    if (rc < 0)
        return rc;
    from = segments_unbroken(&segs);
    rc = segments_check(dir, &segs, from, e);
    if (rc == 0)
        rc = segments_open(dir, &segs, from, TO_READ, e);
    if (rc == 0)
        rc = snapshots_scan(&all, dir, &segs, from, e);
    segments_close(&segs);
    if (rc < 0) {
        free(all.v);
        return rc;
    }
    for (size_t i = 0; i < all.n; i++)
        if (all.v[i].index <= all.commit)
            all.v[kept++] = all.v[i];
    *out = all.v ? all.v : xmalloc(1);
    *n = kept;
    return 0;
}

/* --- The log. ----------------------------------------------------------- */

/* The segment after the tail, made ready by a thread of its own. */
struct next_segment {
    bool started; /* the thread runs or has run, and was not joined yet */
    pthread_t thread;
    char *path;
    int fd; /* these two: the thread's until it is joined */
    struct err err;
};

struct wal {
    char *dir;
    bool no_fsync;
    bool failed; /* a write or a sync: nothing more is taken */
    struct wal_metadata metadata;
    struct raft_hard_state state; /* the last one written */
    raft_index last_index;
    struct segments segs; /* the last one is the tail */
    int64_t tail_end;     /* offset in it of the next frame */
    uint32_t crc;         /* running sum up to there */
    struct buf out;       /* frames that are not written yet */
    struct buf scratch;
    uint64_t bytes_written;
    struct next_segment next;
};

static struct segment *tail_of(struct wal *w)
{
    assert(w->segs.n > 0);
    return &w->segs.v[w->segs.n - 1];
}

static struct wal *wal_new(const char *dir, bool no_fsync)
{
    struct wal *w = xcalloc(1, sizeof(*w));
    size_t n = strlen(dir);

    while (n > 1 && dir[n - 1] == '/')
        n--;
    w->dir = xstrndup(dir, n);
    w->no_fsync = no_fsync;
    w->next.fd = -1;
    w->next.path = xasprintf("%s/" NEXT_NAME, w->dir);
    return w;
}

void wal_close(struct wal *w)
{
    if (!w)
        return;
    if (w->next.started)
        pthread_join(w->next.thread, NULL);
    if (w->next.fd >= 0) {
        unlink(w->next.path);
        close(w->next.fd);
    }
    free(w->next.path);
    segments_close(&w->segs);
    buf_release(&w->out);
    buf_release(&w->scratch);
    free(w->dir);
    free(w);
}

static int log_failed(struct wal *w, const char *what, const char *path,
                      struct err *e)
{
    w->failed = true;
    return err_sys(e, WAL_EIO, "%s %s", what, path);
}

static int check_not_failed(const struct wal *w, struct err *e)
{
    if (!w->failed)
        return 0;
    return err_set(e, WAL_EIO,
                   "wal: %s takes nothing more after a failed write or sync: "
                   "restart the server",
                   w->dir);
}

/* An error of the tail, by its name. */
static int tail_failed(struct wal *w, const char *what, struct err *e)
{
    int saved = errno;
    char *path = segment_path(w->dir, tail_of(w));

    errno = saved;
    log_failed(w, what, path, e);
    free(path);
    return WAL_EIO;
}

static int sync_dir(struct wal *w, const char *dir, struct err *e)
{
    if (w->no_fsync || sys_fsync_dir(dir, e) == 0)
        return 0;
    w->failed = true;
    return WAL_EIO;
}

/* Space is taken now, so that the disk is not found full in mid-write, and so
 * that a sync has no file length to write. 0, or -1 with errno. */
static int preallocate(int fd)
{
    int rc;

    do
        rc = fallocate(fd, 0, 0, (off_t)segment_bytes);
    while (rc < 0 && errno == EINTR);
    if (rc < 0 && (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL ||
                   errno == EPERM)) /* what some sandboxes say for ENOSYS */
        return 0; /* this file system grows the file as it is written */
    return rc;
}

/* Writes and forgets w->out, the frames of this call. */
static int write_out(struct wal *w, struct err *e)
{
    int fd = tail_of(w)->fd;
    size_t done = 0;

    while (done < w->out.len) {
        ssize_t n = pwrite(fd, w->out.data + done, w->out.len - done,
                           (off_t)w->tail_end);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return tail_failed(w, "write", e);
        done += (size_t)n;
        w->tail_end += n;
    }
    w->bytes_written += done;
    buf_clear(&w->out);
    buf_trim(&w->out, WRITE_KEEP);
    return 0;
}

/* --- Creating and cutting segments. ------------------------------------- */

/* A new segment under a temporary name: locked and preallocated. */
static int segment_create(const char *path, int *fd, struct err *e)
{
    int rc, f;

    if (unlink(path) < 0 && errno != ENOENT)
        return err_sys(e, WAL_EIO, "remove %s", path);
    f = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, FILE_MODE);
    if (f < 0)
        return err_sys(e, WAL_EIO, "create %s", path);
    rc = lock_segment(f, path, e);
    if (rc == 0 && preallocate(f) < 0)
        rc = err_sys(e, WAL_EIO, "preallocate %s (64 MB must be free)", path);
    if (rc < 0) {
        unlink(path);
        close(f);
        return rc;
    }
    *fd = f;
    return 0;
}

static void *next_main(void *arg)
{
    struct next_segment *next = arg;

    sys_thread_name("wal-next");
    segment_create(next->path, &next->fd, &next->err);
    return NULL;
}

/* Begin when half of the tail is used: in time, and not at every start. */
static void next_prepare(struct wal *w)
{
    struct next_segment *next = &w->next;

    if (next->started || next->fd >= 0 || w->tail_end < segment_bytes / 2)
        return;
    next->started =
        sys_thread(&next->thread, SYS_STACK_SMALL, next_main, next) == 0;
}

/* The next segment's file; made here and now if there is none yet. */
static int next_take(struct wal *w, int *fd, struct err *e)
{
    struct next_segment *next = &w->next;

    if (next->started) {
        pthread_join(next->thread, NULL);
        next->started = false;
    }
    if (next->fd < 0 && segment_create(next->path, &next->fd, e) < 0) {
        w->failed = true;
        return WAL_EIO;
    }
    *fd = next->fd;
    next->fd = -1;
    return 0;
}

static void add_record(struct wal *w, enum wal_record_type type,
                       const struct buf *data)
{
    encode_frame(&w->out, type, buf_str(data), STR(""), &w->crc);
}

/* Such a state is the absence of one, and is never written. */
static bool is_empty(const struct raft_hard_state *hs)
{
    return hs->term == 0 && hs->vote == 0 && hs->commit == 0;
}

static void add_state(struct wal *w)
{
    buf_clear(&w->scratch);
    raftpb_encode_hard_state(&w->scratch, &w->state);
    add_record(w, WAL_STATE, &w->scratch);
}

/* What opens a segment. The first one has no state yet, but a snapshot. */
static void add_head(struct wal *w, bool first)
{
    buf_clear(&w->scratch);
    add_record(w, WAL_CRC, &w->scratch);
    encode_metadata(&w->scratch, &w->metadata);
    add_record(w, WAL_METADATA, &w->scratch);
    if (first) {
        buf_clear(&w->scratch);
        encode_snapshot(&w->scratch, (struct wal_snapshot){0}, NULL);
        add_record(w, WAL_SNAPSHOT, &w->scratch);
    } else if (!is_empty(&w->state)) {
        add_state(w);
    }
}

/*
 * Close the tail and begin the next segment. The order matters: until the
 * rename is on disk the closed tail is the last segment, and complete; after
 * it the new one is, and its head is whole.
 */
static int cut(struct wal *w, struct err *e)
{
    struct segment seg = {.seq = tail_of(w)->seq + 1,
                          .first = w->last_index + 1};
    char *path = segment_path(w->dir, &seg);
    int rc = WAL_EIO;

    if (ftruncate(tail_of(w)->fd, (off_t)w->tail_end) < 0 ||
        (!w->no_fsync && fsync(tail_of(w)->fd) < 0)) {
        tail_failed(w, "close segment", e);
        goto out;
    }
    if (next_take(w, &seg.fd, e) < 0)
        goto out;
    segments_push(&w->segs, seg);
    w->tail_end = 0;
    add_head(w, false);
    if (write_out(w, e) < 0)
        goto out;
    if ((!w->no_fsync && fsync(seg.fd) < 0) || rename(w->next.path, path) < 0) {
        log_failed(w, "begin segment", path, e);
        goto out;
    }
    rc = sync_dir(w, w->dir, e);
out:
    free(path);
    return rc;
}

/* The directory above; returns owned. */
static char *parent_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    if (!slash)
        return xstrdup(".");
    return slash == path ? xstrdup("/")
                         : xstrndup(path, (size_t)(slash - path));
}

/*
 * The name of the log's directory, and those of the two above it (the data
 * directory's "member" and the data directory), which may be as new.
 */
static int sync_parents(struct wal *w, struct err *e)
{
    char *path = xstrdup(w->dir), *above;
    int rc = 0;

    for (int i = 0; i < 3 && rc == 0 && !w->no_fsync; i++) {
        if (sys_fsync_parent(path, e) < 0)
            rc = WAL_EIO;
        above = parent_of(path);
        free(path);
        path = above;
    }
    free(path);
    w->failed |= rc < 0;
    return rc;
}

/* The first segment in tmp, and tmp in its place. */
static int create_in(struct wal *w, const char *tmp, struct err *e)
{
    struct segment seg = {0};
    char *path = segment_path(tmp, &seg);
    int rc = segment_create(path, &seg.fd, e);

    free(path);
    if (rc < 0)
        return rc;
    segments_push(&w->segs, seg);
    add_head(w, true);
    if (write_out(w, e) < 0)
        return WAL_EIO;
    if (!w->no_fsync && fsync(seg.fd) < 0)
        return tail_failed(w, "fsync", e);
    if (sync_dir(w, tmp, e) < 0)
        return WAL_EIO;
    if (rename(tmp, w->dir) < 0)
        return err_sys(e, WAL_EIO,
                       "rename %s to %s (which must not hold other files)", tmp,
                       w->dir);
    return sync_parents(w, e);
}

int wal_create(const char *dir, const struct wal_metadata *m, bool no_fsync,
               struct wal **out, struct err *e)
{
    struct wal *w = wal_new(dir, no_fsync);
    char *tmp = xasprintf("%s.tmp", w->dir);
    int rc = WAL_EIO;

    w->metadata = *m;
    if (sys_exists(tmp) && sys_remove_all(tmp, e) < 0)
        goto fail; /* a crash left it: it was never the log */
    if (sys_mkdir_all(tmp, DIR_MODE, e) < 0)
        goto fail;
    rc = create_in(w, tmp, e);
    if (rc < 0)
        goto fail;
    free(tmp);
    *out = w;
    return 0;

fail:
    free(tmp);
    wal_close(w);
    return rc;
}

/* --- Opening, with repair. ---------------------------------------------- */

/* Up to size, sparse where the original is zero. 0, or -1 with errno. */
static int copy_bytes(int from, int to, int64_t size)
{
    uint8_t *chunk = xmalloc(COPY_CHUNK);
    int64_t off = 0;
    int rc = ftruncate(to, (off_t)size);

    while (rc == 0 && (off = first_nonzero(from, off, size)) < size) {
        ssize_t n = off < 0 ? -1 : read_at(from, chunk, COPY_CHUNK, off);

        if (n <= 0 || lseek(to, (off_t)off, SEEK_SET) < 0 ||
            sys_write_all(to, chunk, (size_t)n) < 0)
            rc = -1;
        off += n;
    }
    free(chunk);
    return rc == 0 ? fsync(to) : rc;
}

static int copy_file(int from, int64_t size, const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, FILE_MODE);
    int rc, saved;

    if (fd < 0)
        return -1;
    rc = copy_bytes(from, fd, size);
    saved = errno;
    close(fd);
    errno = saved;
    return rc;
}

/* Cut the torn write at the scan's end off the tail. What lies behind must
 * read as zeros for good, or stale frames could come back to life. */
static int repair(struct wal *w, const struct scan *s, char **note,
                  struct err *e)
{
    int fd = tail_of(w)->fd;
    char *path = segment_path(w->dir, tail_of(w));
    char *broken = xasprintf("%s.broken", path);
    int rc = 0;

    if (copy_file(fd, s->r.size, broken) < 0)
        rc = err_sys(e, WAL_EIO, "copy %s to %s", path, broken);
    else if (sync_dir(w, w->dir, e) < 0)
        rc = WAL_EIO;
    else if (ftruncate(fd, (off_t)s->r.off) < 0 || preallocate(fd) < 0 ||
             (!w->no_fsync && fsync(fd) < 0))
        rc = err_sys(e, WAL_EIO, "repair %s", path);
    else
        *note = xasprintf("%s is cut at offset %" PRId64
                          ", where a crash tore the last write (%s); %s is "
                          "what it was",
                          path, s->r.off, s->torn, broken);
    free(broken);
    free(path);
    return rc;
}

/* What a crash left half prepared: our next segment, or etcd's (0 or 1). */
static void remove_unnamed(const struct wal *w)
{
    char *other = xasprintf("%s/1.tmp", w->dir);

    unlink(w->next.path);
    unlink(other);
    free(other);
}

/* The same bytes once more, so that the next sync has something to do. */
static int write_again(struct wal *w, int64_t from)
{
    uint8_t *chunk = xmalloc(COPY_CHUNK);
    int fd = tail_of(w)->fd;
    ssize_t n = 1;

    for (int64_t off = from; off < w->tail_end; off += n) {
        uint64_t left = (uint64_t)(w->tail_end - off);

        n = read_at(fd, chunk, (size_t)min_u64(COPY_CHUNK, left), off);
        if (n > 0)
            n = pwrite(fd, chunk, (size_t)n, (off_t)off);
        if (n < 0 && errno == EINTR)
            n = 0; /* this piece once more */
        else if (n <= 0)
            break;
    }
    free(chunk);
    return n > 0 ? 0 : -1;
}

/*
 * What was read may be in memory only, if the last process was killed between
 * a write, or a rename, and its sync; or if its sync failed, and then the
 * kernel takes those pages for clean and another sync for done. Who acts upon
 * what was read, as if it had been synced, must find it again after a power
 * failure.
 */
static int settle(struct wal *w, int64_t unproven, struct err *e)
{
    if (!w->no_fsync &&
        (write_again(w, unproven) < 0 || fsync(tail_of(w)->fd) < 0))
        return tail_failed(w, "fsync", e);
    if (sync_dir(w, w->dir, e) < 0)
        return WAL_EIO;
    return sync_parents(w, e);
}

/* Behind replay: the tail is ready to be written. */
static int open_tail(struct wal *w, const struct scan *s,
                     struct wal_contents *c, struct wal_snapshot snap,
                     struct err *e)
{
    w->metadata = s->metadata;
    w->state = c->hard_state;
    w->last_index = snap.index + c->n_entries;
    w->tail_end = s->r.off;
    w->crc = s->crc;
    remove_unnamed(w);
    if (s->torn && repair(w, s, &c->repaired, e) < 0)
        return WAL_EIO;
    if (!s->torn && s->r.size < segment_bytes &&
        preallocate(tail_of(w)->fd) < 0)
        return tail_failed(w, "preallocate", e);
    return settle(w, s->unproven, e);
}

int wal_open(const char *dir, struct wal_snapshot snap, bool no_fsync,
             struct wal **out, struct wal_contents *contents, struct err *e)
{
    struct wal *w = wal_new(dir, no_fsync);
    struct wal_contents c = {0};
    struct scan s;
    size_t from;
    int rc = segments_list(w->dir, &w->segs, e);

    if (rc < 0)
        goto fail;
    from = segments_find(&w->segs, snap.index);
    rc = segments_check(w->dir, &w->segs, from, e);
    if (rc == 0)
        rc = segments_open(w->dir, &w->segs, from, TO_WRITE, e);
    if (rc == 0)
        rc = replay(w->dir, &w->segs, from, snap, &s, &c, e);
    if (rc == 0)
        rc = open_tail(w, &s, &c, snap, e);
    if (rc < 0)
        goto fail;
    *contents = c;
    *out = w;
    return 0;

fail:
    wal_contents_release(&c);
    wal_close(w);
    return rc;
}

/* --- Appending. --------------------------------------------------------- */

static int add_entry(struct wal *w, const struct raft_entry *ent, struct err *e)
{
    assert(ent->index > 0);
    assert(ent->index <= w->last_index + 1); /* replay would see a gap */
    buf_clear(&w->scratch);
    raftpb_encode_entry_head(&w->scratch, ent);
    encode_frame(&w->out, WAL_ENTRY, buf_str(&w->scratch), blob_str(ent->data),
                 &w->crc);
    w->last_index = ent->index;
    return w->out.len >= WRITE_CHUNK ? write_out(w, e) : 0;
}

/* The end of each append: one write, and a new segment when it is time. */
static int finish_append(struct wal *w, struct err *e)
{
    if (write_out(w, e) < 0)
        return WAL_EIO;
    if (w->tail_end >= segment_bytes)
        return cut(w, e);
    next_prepare(w);
    return 0;
}

int wal_append(struct wal *w, const struct raft_hard_state *hs,
               const struct raft_entry *entries, size_t n, struct err *e)
{
    const char *wrong = hs ? state_fault(&w->state, hs) : NULL;

    if (check_not_failed(w, e) < 0)
        return WAL_EIO;
    if (wrong)
        return err_set(e, WAL_EFORMAT, "wal: %s: refused to write it", wrong);
    for (size_t i = 0; i < n; i++)
        if (add_entry(w, &entries[i], e) < 0)
            return WAL_EIO;
    if (hs && !is_empty(hs)) {
        w->state = *hs;
        add_state(w);
    }
    return finish_append(w, e);
}

int wal_append_snapshot(struct wal *w, struct wal_snapshot snap,
                        const struct raft_conf_state *cs, struct err *e)
{
    if (check_not_failed(w, e) < 0)
        return WAL_EIO;
    buf_clear(&w->scratch);
    encode_snapshot(&w->scratch, snap, cs);
    add_record(w, WAL_SNAPSHOT, &w->scratch);
    /* One from the leader may be ahead of the log, which continues there. */
    w->last_index = max_u64(w->last_index, snap.index);
    return finish_append(w, e);
}

int wal_sync(struct wal *w, struct err *e)
{
    if (check_not_failed(w, e) < 0)
        return WAL_EIO;
    if (!w->no_fsync && fdatasync(tail_of(w)->fd) < 0)
        return tail_failed(w, "fdatasync", e);
    return 0;
}

int wal_purge(struct wal *w, raft_index index, size_t keep)
{
    size_t needless = segments_find(&w->segs, index);
    size_t n = 0;

    if (keep == 0 || keep >= w->segs.n || needless >= w->segs.n)
        return 0;
    needless = (size_t)min_u64(needless, w->segs.n - keep);
    /* The oldest first, so that a crash leaves no gap in the middle. */
    for (; n < needless; n++) {
        char *path = segment_path(w->dir, &w->segs.v[n]);
        int rc = unlink(path);

        free(path);
        if (rc < 0 && errno != ENOENT)
            break;
        if (w->segs.v[n].fd >= 0)
            close(w->segs.v[n].fd);
    }
    w->segs.n -= n;
    memmove(w->segs.v, w->segs.v + n, w->segs.n * sizeof(*w->segs.v));
    return (int)n;
}

uint64_t wal_bytes_written(const struct wal *w)
{
    return w->bytes_written;
}
