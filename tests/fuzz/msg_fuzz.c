/*
 * msg_fuzz.c - messages by table. The first byte picks the description, the
 * rest is read as protobuf and as a stream of JSON. What was read is written,
 * and read again as the same; memory stays within the arena's limit.
 */
#include "fuzz.h"
#include "rpcpb.h"

#define LIMIT ((size_t)1 << 20)

/* What msg_encode() wrote is read back and written as the same bytes. */
static void check_protobuf(const struct msg_desc *d, const void *msg)
{
    struct arena a = {.limit = 4 * LIMIT};
    struct buf once = {0}, twice = {0};
    void *back = xmalloc(d->size);

    msg_encode(d, msg, &once);
    FUZZ_CHECK(once.len == msg_size(d, msg));
    FUZZ_CHECK(msg_decode(d, once.data, once.len, &a, back) == 0);
    msg_encode(d, back, &twice);
    FUZZ_CHECK(str_eq(buf_str(&once), buf_str(&twice)));
    free(back);
    buf_release(&once);
    buf_release(&twice);
    arena_release(&a);
}

/*
 * JSON loses what is no UTF-8 in a string, and writes it otherwise than it
 * reads it; from then on nothing changes.
 */
static void check_json(const struct msg_desc *d, const void *msg)
{
    struct arena a = {.limit = 8 * LIMIT};
    struct buf text[3] = {{0}, {0}, {0}};
    void *back = xmalloc(d->size);
    size_t used;

    msg_encode_json(d, msg, &text[0]);
    for (int i = 0; i < 2; i++) {
        FUZZ_CHECK(msg_decode_json(d, text[i].data, text[i].len, &a, back,
                                   &used, NULL) == 0);
        FUZZ_CHECK(used == text[i].len);
        msg_encode_json(d, back, &text[i + 1]);
        check_protobuf(d, back);
    }
    FUZZ_CHECK(str_eq(buf_str(&text[1]), buf_str(&text[2])));
    free(back);
    for (int i = 0; i < 3; i++)
        buf_release(&text[i]);
    arena_release(&a);
}

static void check_empty(const struct msg_desc *d, const uint8_t *msg)
{
    for (size_t i = 0; i < d->size; i++)
        FUZZ_CHECK(msg[i] == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct msg_desc *d;
    struct arena a = {.limit = LIMIT};
    size_t used;
    void *msg;

    if (size == 0)
        return 0;
    d = rpcpb_messages[data[0] % rpcpb_n_messages];
    data++;
    size--;
    msg = xmalloc(d->size);
    if (msg_decode(d, data, size, &a, msg) == 0) {
        check_protobuf(d, msg);
        check_json(d, msg);
    } else {
        check_empty(d, msg);
    }
    for (; size > 0; data += used, size -= used) {
        struct err e = {.msg = ""};

        arena_reset(&a);
        if (msg_decode_json(d, data, size, &a, msg, &used, &e) < 0) {
            FUZZ_CHECK(e.msg[0]);
            check_empty(d, msg);
            break;
        }
        FUZZ_CHECK(used > 0 && used <= size && a.size <= a.limit);
        check_protobuf(d, msg);
        check_json(d, msg);
    }
    arena_release(&a);
    free(msg);
    return 0;
}
