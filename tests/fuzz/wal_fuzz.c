/*
 * wal_fuzz.c - frames of the log: cut anywhere they are incomplete, not wrong;
 * what was read and is written comes back the same; one flipped bit in what a
 * sum covers is noticed.
 */
#include "fuzz.h"
#include "wal.h"

#define WHOLE_MAX 512

static void check_cuts(const uint8_t *p, size_t frame, uint32_t crc)
{
    size_t step = frame <= WHOLE_MAX ? 1 : frame / 64;
    struct wal_record rec;

    for (size_t i = 0; i < frame; i += step) {
        uint32_t sum = crc;

        FUZZ_CHECK(wal_decode(p, i, &sum, &rec) == 0);
        FUZZ_CHECK(sum == crc);
    }
}

/* As the log would write this record; and with one bit of it flipped. */
static void check_back(const struct wal_record *rec, uint32_t before)
{
    struct wal_record back;
    struct buf b = {0};
    uint32_t w = before, r = before;

    if (rec->type <= 0 || rec->type > WAL_SNAPSHOT || rec->type == WAL_CRC)
        return;
    wal_encode(&b, (enum wal_record_type)rec->type, rec->data.p, rec->data.n,
               &w);
    FUZZ_CHECK(wal_decode(b.data, b.len, &r, &back) == (int64_t)b.len);
    FUZZ_CHECK(w == r && back.type == rec->type && back.crc == w);
    FUZZ_CHECK(str_eq(back.data, rec->data));
    if (back.data.n) {
        uint8_t *at = b.data + ((const uint8_t *)back.data.p - b.data);

        at[before % back.data.n] ^= 1 << before % 8;
        r = before;
        FUZZ_CHECK(wal_decode(b.data, b.len, &r, &back) == WAL_ECRC);
        FUZZ_CHECK(r == before);
    }
    buf_release(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wal_record rec;
    uint32_t crc = 0, before = 0;
    size_t at = 0;
    int64_t n;

    while ((n = wal_decode(data + at, size - at, &crc, &rec)) > 0) {
        FUZZ_CHECK((size_t)n <= size - at && n % 8 == 0);
        check_cuts(data + at, (size_t)n, before);
        check_back(&rec, before);
        before = crc;
        at += (size_t)n;
    }
    FUZZ_CHECK(crc == before);
    /* Any bytes, as the data of a record. */
    check_back(&(struct wal_record){.type = WAL_ENTRY,
                                    .data = {(const char *)data, size}},
               (uint32_t)size);
    return 0;
}
