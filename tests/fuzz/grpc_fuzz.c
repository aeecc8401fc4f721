/*
 * grpc_fuzz.c - gRPC's messages, and its header fields. However a stream of
 * messages is cut, the same ones come out; what was written reads back.
 */
#include "fuzz.h"
#include "grpc.h"

#define N_MAX 300

/* All messages, one behind the other, each with its length; and the verdict. */
static int read_all(const uint8_t *data, size_t size, size_t step,
                    struct buf *out)
{
    struct grpc_reader r = {.n_max = N_MAX};
    int rc = 0;

    for (size_t at = 0; at < size && rc >= 0; at += step) {
        size_t n = (size_t)min_u64(step, size - at);
        const uint8_t *p = data + at, *end = p + n;
        struct grpc_message m;

        while ((rc = grpc_read(&r, &p, &n, &m)) > 0) {
            FUZZ_CHECK(m.bytes.n <= N_MAX && p + n == end);
            buf_printf(out, "%zu%c", m.bytes.n, m.compressed ? '!' : ';');
            buf_addstr(out, m.bytes);
        }
        FUZZ_CHECK(rc < 0 || n == 0);
        FUZZ_CHECK(r.buf.cap <= 4096);
    }
    if (rc == 0 && !grpc_reader_idle(&r))
        rc = 1;
    grpc_reader_release(&r);
    return rc;
}

static void check_messages(const uint8_t *data, size_t size)
{
    static const size_t steps[] = {1, 3, 5, 64};
    struct buf whole = {0}, cut = {0};
    int rc = read_all(data, size, size + 1, &whole);

    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        buf_clear(&cut);
        FUZZ_CHECK(read_all(data, size, steps[i], &cut) == rc);
        FUZZ_CHECK(str_eq(buf_str(&whole), buf_str(&cut)));
    }
    buf_release(&whole);
    buf_release(&cut);
}

static void check_fields(struct str s)
{
    struct buf b = {0}, back = {0};
    char text[GRPC_TIMEOUT_MAX];
    int64_t ns, again;

    grpc_encode_message(&b, s);
    for (size_t i = 0; i < b.len; i++)
        FUZZ_CHECK(b.data[i] >= ' ' && b.data[i] <= '~');
    grpc_decode_message(&back, buf_str(&b));
    FUZZ_CHECK(str_eq(buf_str(&back), s));
    buf_clear(&back);
    grpc_decode_message(&back, s);
    FUZZ_CHECK(back.len <= s.n);

    buf_clear(&b);
    buf_clear(&back);
    grpc_encode_binary(&b, s.p, s.n);
    FUZZ_CHECK(grpc_decode_binary(&back, buf_str(&b)) == 0);
    FUZZ_CHECK(str_eq(buf_str(&back), s));
    buf_clear(&back);
    grpc_decode_binary(&back, s);

    if (grpc_parse_timeout(s, &ns)) {
        FUZZ_CHECK(ns >= 0 && grpc_format_timeout(text, ns) <= 9);
        FUZZ_CHECK(grpc_parse_timeout(str_of(text), &again) && again >= ns);
    }
    grpc_parse_status(s);
    grpc_content_type(s);
    buf_release(&b);
    buf_release(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_messages(data, size);
    check_fields((struct str){(const char *)data, size});
    return 0;
}
