/*
 * tlsmsg_fuzz.c - one message of the handshake in each state of a server or a
 * client; see tlsfuzz.h. The input: how many messages of the honest other end
 * come first, or records of data once it is open, then the type and the body of
 * the one that takes the place of the next.
 */
#include "tlsfuzz.h"

static void put_message(struct buf *out, struct str type_and_body)
{
    struct buf m = {0};
    size_t at;

    buf_addc(&m, type_and_body.p[0]);
    at = vector_begin(&m, 3);
    buf_add(&m, type_and_body.p + 1, type_and_body.n - 1);
    vector_end(&m, at, 3);
    for (at = 0; at < m.len; at += RECORD_MAX)
        fuzz_plain(
            out, RECORD_HANDSHAKE,
            (struct str){(char *)m.data + at, min_u64(RECORD_MAX, m.len - at)});
    buf_release(&m);
}

static void change_one(struct fuzz_tls *f, unsigned type, struct str data,
                       struct buf *out)
{
    struct str input = {(const char *)f->in.p, f->in.n};

    bool counts = type == RECORD_HANDSHAKE || type == RECORD_DATA;

    if (!counts || f->left-- > 0 || input.n == 0)
        fuzz_plain(out, type, data);
    else
        put_message(out, input);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_tls f = {.in = {data, size}, .change = change_one};
    unsigned choice = fuzz_choice(&f.in);

    f.left = fuzz_u8(&f.in);
    fuzz_tls_begin(&f, choice, choice & FUZZ_CLIENT ? TLS_CLIENT : TLS_SERVER);
    fuzz_tls_run(&f);
    FUZZ_CHECK(fuzz_more(&f.in) || f.victim->state == TLS_OPEN);
    fuzz_tls_end(&f);
    return 0;
}
