/*
 * waltorn.c - a frame that cannot be read: did a crash tear the last write, or
 * is something lost that had been synced? wal.c argues the rules (RECOVERY).
 */
#include "wal_impl.h"

#include "crypto.h"
#include "pb.h"

#define SECTOR 512

static int64_t sector_up(int64_t off)
{
    return (off + SECTOR - 1) / SECTOR * SECTOR;
}

/* The first sector that begins in from..end and is zero; end if none. */
static int64_t zero_sector(int fd, int64_t from, int64_t end)
{
    uint8_t sector[SECTOR];

    for (int64_t off = sector_up(from); off < end; off += SECTOR) {
        ssize_t n = wal_read_at(fd, sector, sizeof(sector), off);

        if (n < 0)
            return -1;
        if (wal_is_zero(sector, (size_t)n))
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
    uint8_t head[WAL_FRAME_HEAD + 24]; /* with all up to the record's data */
    ssize_t seen = wal_read_at(s->fd, head, sizeof(head), s->off);
    size_t n, pad;
    int64_t end, hole;

    if (seen < 0)
        return WAL_EIO;
    if (seen < WAL_FRAME_HEAD) {
        s->after = s->size;
        s->why = "its length is cut short";
        return 1;
    }
    if (get_u64le(head) == 0) {
        /* Then nothing else in its sector was written, either. */
        int64_t next = wal_first_nonzero(s->fd, s->off, s->size);

        s->after = next & ~INT64_C(7);
        s->why = "its beginning was never written";
        return next < 0 ? WAL_EIO : next >= sector_up(s->off + WAL_FRAME_HEAD);
    }
    if (!wal_parse_length(get_u64le(head), &n, &pad))
        return 0;
    end = s->off + WAL_FRAME_HEAD + (int64_t)n;
    s->after = (int64_t)min_u64((uint64_t)s->size, (uint64_t)end + pad);
    hole = zero_sector(s->fd, s->off + WAL_FRAME_HEAD,
                       (int64_t)min_u64((uint64_t)s->size, (uint64_t)end));
    if (hole < 0)
        return WAL_EIO;
    if (seen > hole - s->off)
        seen = (ssize_t)(hole - s->off);
    if (!length_agrees(head + WAL_FRAME_HEAD, (size_t)seen - WAL_FRAME_HEAD, n))
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
    uint8_t word[WAL_FRAME_HEAD];
    ssize_t got = wal_read_at(s->fd, word, sizeof(word), off);
    size_t n, pad;

    if (got < 0)
        return -1;
    if (got < WAL_FRAME_HEAD || !wal_parse_length(get_u64le(word), &n, &pad) ||
        (int64_t)(n + pad) > s->size - off - WAL_FRAME_HEAD)
        return 0;
    buf_clear(b);
    buf_reserve(b, n);
    got = wal_read_at(s->fd, b->data, n, off + WAL_FRAME_HEAD);
    if (got < 0)
        return -1;
    if ((size_t)got < n || wal_parse_record(b->data, n, rec) < 0)
        return 0;
    return (int64_t)(WAL_FRAME_HEAD + n + pad);
}

/* The first place from off on where a frame may start: the file's size if all
 * is zero behind; -1 with errno. */
static int64_t next_word(const struct suspect *s, int64_t off)
{
    uint8_t word[WAL_FRAME_HEAD];
    ssize_t n = wal_read_at(s->fd, word, sizeof(word), off);

    if (n < 0)
        return -1;
    if (!wal_is_zero(word, (size_t)n))
        return off;
    off = wal_first_nonzero(s->fd, off, s->size);
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
                    off = next - WAL_FRAME_HEAD;
                break;
            }
            closed |= last_type == WAL_STATE || last_type == WAL_SNAPSHOT;
            proof =
                last_type == WAL_SNAPSHOT || (closed && rec.type == WAL_ENTRY);
        }
        if (n < 0)
            break;
        off += WAL_FRAME_HEAD;
    }
    buf_release(&b);
    return off < 0 || n < 0 ? WAL_EIO : proof;
}

int wal_is_torn(struct suspect *s)
{
    int rc = looks_torn(s);

    if (rc <= 0)
        return rc;
    rc = later_write_follows(s);
    return rc < 0 ? rc : !rc;
}
