/*
 * walscan.c - segments as one stream of records, up to where the log ends.
 */
#include "wal_impl.h"

#include <inttypes.h>

#define READ_CHUNK (256 * 1024) /* of the tail's 64 MB that a scan holds */

/* --- Files as streams of frames. ---------------------------------------- */

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
    n = wal_read_at(r->fd, r->b.data + have, chunk - have,
                    r->off + (int64_t)have);
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
    ssize_t have = reader_need(r, WAL_FRAME_HEAD);
    size_t n, pad;
    uint64_t word;
    int64_t used;

    if (have < 0)
        return WAL_EIO;
    word = have < WAL_FRAME_HEAD ? 0 : get_u64le(r->b.data + r->pos);
    if (word == 0)
        return 0;
    if (!wal_parse_length(word, &n, &pad))
        return WAL_EFORMAT;
    if ((int64_t)(n + pad) > r->size - r->off - WAL_FRAME_HEAD)
        return 0; /* before there is memory for a length that is a lie */
    have = reader_need(r, WAL_FRAME_HEAD + n + pad);
    if (have < 0)
        return WAL_EIO;
    used = wal_decode(r->b.data + r->pos, (size_t)have, crc, rec);
    if (used > 0) {
        r->pos += (size_t)used;
        r->off += used;
    }
    return used;
}

void wal_scan_release(struct scan *s)
{
    buf_release(&s->r.b);
}

int wal_scan_io_error(const struct scan *s, struct err *e)
{
    char *path = wal_segment_path(s->dir, &s->segs->v[s->at]);
    int rc = err_sys(e, WAL_EIO, "read %s", path);

    free(path);
    return rc;
}

int wal_scan_damaged(const struct scan *s, int code, int64_t off,
                     const char *what, struct err *e)
{
    char *path = wal_segment_path(s->dir, &s->segs->v[s->at]);

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

    if (wal_decode_metadata(rec->data, &m) < 0)
        return wal_scan_damaged(s, WAL_EFORMAT, s->record_off,
                                "malformed metadata", e);
    if (s->has_metadata && (m.node_id != s->metadata.node_id ||
                            m.cluster_id != s->metadata.cluster_id))
        return wal_scan_damaged(s, WAL_EFORMAT, s->record_off,
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
    s->r.size = wal_file_size(s->r.fd);
    if (s->r.size < 0)
        return wal_scan_io_error(s, e);
    s->unproven = s->next_write = s->last_type = 0;
    s->has_entries = false;
    for (size_t i = 0; i < ARRAY_LEN(head); i++) {
        int64_t n;

        s->record_off = s->r.off;
        n = read_frame(&s->r, &s->crc, &rec);
        if (n == WAL_EIO)
            return wal_scan_io_error(s, e);
        if (n <= 0)
            return wal_scan_damaged(s, n < 0 ? (int)n : WAL_EFORMAT,
                                    s->record_off, code_text(n), e);
        if (rec.type != head[i])
            return wal_scan_damaged(s, WAL_EFORMAT, s->record_off,
                                    "no crc and metadata first", e);
    }
    return scan_metadata(s, &rec, e);
}

int wal_scan_start(struct scan *s, const char *dir, const struct segments *segs,
                   size_t from, struct err *e)
{
    *s = (struct scan){.dir = dir, .segs = segs, .at = from};
    return scan_open_segment(s, e);
}

/* No frame at r.off can be read, for the reason in code. 0 if the segment
 * ends there, cleanly or torn; else why it is refused. */
static int scan_end_segment(struct scan *s, int64_t code, struct err *e)
{
    struct suspect sus = {.fd = s->r.fd, .off = s->r.off, .size = s->r.size};
    int64_t rest =
        code ? s->r.off : wal_first_nonzero(sus.fd, sus.off, sus.size);
    int rc = 0;

    if (code == WAL_EIO || rest < 0)
        return wal_scan_io_error(s, e);
    if (code == 0 && rest == s->r.size)
        return 0;
    if (s->at + 1 == s->segs->n)
        rc = wal_is_torn(&sus);
    if (rc < 0)
        return wal_scan_io_error(s, e);
    if (rc == 0)
        return wal_scan_damaged(s, code ? (int)code : WAL_EFORMAT, s->r.off,
                                code_text(code), e);
    s->torn = sus.why;
    return 0;
}

int wal_scan_next(struct scan *s, struct wal_record *rec, struct err *e)
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
