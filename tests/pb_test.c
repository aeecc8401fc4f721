/*
 * pb_test.c - the protobuf wire format: known bytes, every prefix, every
 * changed byte, lengths that lie.
 */
#include "pb.h"

#include "check.h"

static bool is_hex(const struct buf *b, const char *want)
{
    char got[256] = "";

    for (size_t i = 0; i < b->len && i < 100; i++)
        snprintf(got + 2 * i, sizeof(got) - 2 * i, "%02x", b->data[i]);
    if (strcmp(got, want) != 0)
        fprintf(stderr, "got %s, want %s\n", got, want);
    return strcmp(got, want) == 0;
}

/* The examples of protobuf.dev, "Encoding". */
static void test_known_bytes(void)
{
    struct buf b = {0};
    size_t mark;

    pb_add_u64(&b, 1, 150);
    CHECK(is_hex(&b, "089601"));
    buf_clear(&b);
    pb_add_str(&b, 2, STR("testing"));
    CHECK(is_hex(&b, "120774657374696e67"));
    buf_clear(&b);
    mark = pb_begin(&b, 3);
    pb_add_u64(&b, 1, 150);
    pb_end(&b, mark);
    CHECK(is_hex(&b, "1a03089601"));
    buf_clear(&b);
    pb_add_u64(&b, 1, UINT64_MAX); /* -1 as int64 */
    CHECK(is_hex(&b, "08ffffffffffffffffff01"));
    buf_clear(&b);
    pb_add_u64(&b, 1000, 0);
    CHECK(is_hex(&b, "c03e00"));
    buf_release(&b);
}

static void test_varints(void)
{
    static const struct {
        uint64_t v;
        size_t len;
    } cases[] = {
        {0, 1},          {127, 1},         {128, 2},
        {16383, 2},      {16384, 3},       {UINT32_MAX, 5},
        {1ull << 62, 9}, {1ull << 63, 10}, {UINT64_MAX, 10},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf b = {0};
        struct pb_reader r;
        uint64_t v = 1;

        pb_add_varint(&b, cases[i].v);
        CHECK(b.len == cases[i].len);
        CHECK(pb_varint_len(cases[i].v) == cases[i].len);
        r = pb_reader(b.data, b.len);
        CHECK(pb_get_varint(&r, &v) == 0 && v == cases[i].v);
        CHECK(r.p == r.end);
        r = pb_reader(b.data, b.len - 1);
        CHECK(pb_get_varint(&r, &v) == PB_EINVAL);
        buf_release(&b);
    }
}

/* A nested message of each length around those where its length grows. */
static void test_nested_lengths(void)
{
    static const size_t sizes[] = {0, 1, 127, 128, 129, 16383, 16384, 100000};

    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        char *bytes = xmalloc(sizes[i]);
        struct buf b = {0};
        struct pb_reader r;
        struct pb_field f;
        size_t mark;

        memset(bytes, 'x', sizes[i]);
        buf_adds(&b, "head");
        mark = pb_begin(&b, 7);
        buf_add(&b, bytes, sizes[i]);
        pb_end(&b, mark);
        r = pb_reader(b.data + 4, b.len - 4);
        CHECK(pb_next(&r, &f) == 1);
        CHECK(f.number == 7 && f.wire == PB_BYTES);
        CHECK(str_eq(f.bytes, (struct str){bytes, sizes[i]}));
        CHECK(pb_next(&r, &f) == 0);
        buf_release(&b);
        free(bytes);
    }
}

static void test_refused(void)
{
    static const struct {
        const char *bytes;
        size_t n;
    } cases[] = {
        {"\x00\x01", 2}, /* field 0 */
        {"\x0b", 1},     /* a group begins */
        {"\x0c", 1},     /* a group ends */
        {"\x0e\x01", 2}, /* no such wire type */
        {"\x08", 1},     /* no value */
        {"\x12\x05"
         "abcd",
         6},
        {"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
         "a",
         12},
        {"\x09\x01\x02\x03\x04\x05\x06\x07", 8},
        {"\x0d\x01\x02\x03", 4},
        {"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 11}, /* 65 bits */
        {"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12},
        {"\x80\x80\x80\x80\x10\x00", 6}, /* field 2^29 */
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct pb_reader r = pb_reader(cases[i].bytes, cases[i].n);
        struct pb_field f;

        CHECK(pb_next(&r, &f) == PB_EINVAL);
    }
}

static void sample(struct buf *b)
{
    pb_add_u64(b, 1, 300);
    pb_add_str(b, 2, STR("abc"));
    pb_add_str(b, 3, STR("one"));
    pb_add_str(b, 3, STR("two"));
    buf_add(b, "\x21\x08\x07\x06\x05\x04\x03\x02\x01", 9);
    buf_add(b, "\x2d\x04\x03\x02\x01", 5);
    pb_add_u64(b, 1, 301); /* the last one wins */
}

static int read_sample(const void *p, size_t n, uint64_t *v, struct str *s,
                       size_t *count)
{
    const struct pb_target fields[] = {
        [1] = {.u64 = v},
        [2] = {.bytes = s},
        [3] = {.count = count},
    };

    *v = 0;
    *s = STR("");
    *count = 0;
    return pb_read(p, n, fields, ARRAY_LEN(fields));
}

static void test_read(void)
{
    struct buf b = {0};
    struct pb_reader r;
    struct pb_field f;
    struct str s;
    uint64_t v;
    size_t count;

    sample(&b);
    CHECK(read_sample(b.data, b.len, &v, &s, &count) == 0);
    CHECK(v == 301 && count == 2);
    CHECK(str_eqz(s, "abc"));
    r = pb_reader(b.data, b.len);
    for (int i = 0; i < 5; i++)
        CHECK(pb_next(&r, &f) == 1);
    CHECK(f.number == 4 && f.u64 == 0x0102030405060708);
    CHECK(pb_next(&r, &f) == 1);
    CHECK(f.number == 5 && f.u64 == 0x01020304);
    CHECK(read_sample("\x0a\x00", 2, &v, &s, &count) == PB_EINVAL);
    CHECK(read_sample("\x10\x00", 2, &v, &s, &count) == PB_EINVAL);
    CHECK(read_sample("\x18\x00", 2, &v, &s, &count) == PB_EINVAL);
    buf_release(&b);
}

/* Bounds: an exact copy on the heap lets the sanitizer see one byte more. */
static void test_bounds(void)
{
    struct buf b = {0};
    struct str s;
    uint64_t v;
    size_t count;

    sample(&b);
    for (size_t n = 0; n <= b.len; n++) {
        for (size_t i = 0; i < n; i++) {
            uint8_t *copy = xmalloc(n);

            memcpy(copy, b.data, n);
            copy[i] ^= (uint8_t)(1 << (i + n) % 8);
            if (read_sample(copy, n, &v, &s, &count) == 0)
                CHECK(s.n <= n && count <= n);
            free(copy);
        }
    }
    buf_release(&b);
}

int main(void)
{
    test_known_bytes();
    test_varints();
    test_nested_lengths();
    test_refused();
    test_read();
    test_bounds();
    return check_done("pb");
}
