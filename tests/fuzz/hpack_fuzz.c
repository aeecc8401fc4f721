/*
 * hpack_fuzz.c - header blocks. The input is a row of blocks, each behind its
 * length; what a decoder accepts, an encoder of ours says again, and a second
 * decoder hears the same.
 */
#include "fuzz.h"
#include "hpack.h"

#define LIST_MAX 4096
#define N_MAX 64

static void check_table(const struct hpack_table *t)
{
    size_t size = 0;

    FUZZ_CHECK(t->size <= t->size_max && t->n <= t->ring_cap);
    FUZZ_CHECK(t->head <= t->tail && t->tail <= t->bytes_cap);
    for (uint32_t i = 0; i < t->n; i++) {
        const struct hpack_entry *e =
            &t->ring[(t->first + i) & (t->ring_cap - 1)];

        FUZZ_CHECK(e->at >= t->head &&
                   e->at + e->n_name + e->n_value <= t->tail);
        size += e->n_name + e->n_value + HPACK_FIELD_COST;
    }
    FUZZ_CHECK(size == t->size);
    FUZZ_CHECK(t->bytes_cap <= 256 + 2 * HPACK_TABLE_SIZE);
}

static void check_again(struct hpack_encoder *e, struct hpack_decoder *d,
                        const struct hpack_list *l)
{
    struct hpack_list again = {0};
    struct buf b = {0};

    hpack_encode(e, l->fields, l->n, &b);
    FUZZ_CHECK(hpack_decode(d, b.data, b.len, &again) == 0);
    FUZZ_CHECK(again.n == l->n && again.size == l->size);
    for (size_t i = 0; i < l->n; i++) {
        FUZZ_CHECK(str_eq(again.fields[i].name, l->fields[i].name));
        FUZZ_CHECK(str_eq(again.fields[i].value, l->fields[i].value));
        FUZZ_CHECK(l->fields[i].how != HPACK_NEVER ||
                   again.fields[i].how == HPACK_NEVER);
    }
    FUZZ_CHECK(e->table.size == d->table.size && e->table.n == d->table.n);
    check_table(&e->table);
    buf_release(&b);
    hpack_list_release(&again);
}

static void check_huffman(const uint8_t *p, size_t n)
{
    struct buf text = {0}, coded = {0};

    if (hpack_huffman_decode(&text, p, n) == 0) {
        hpack_huffman_encode(&coded, buf_str(&text));
        FUZZ_CHECK(coded.len == n && (n == 0 || !memcmp(coded.data, p, n)));
    }
    buf_release(&text);
    buf_release(&coded);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    struct hpack_decoder d, again;
    struct hpack_encoder e;
    struct hpack_list l = {0};
    int rc = 0;

    check_huffman(data, size);
    hpack_decoder_init(&d, LIST_MAX, N_MAX);
    hpack_decoder_init(&again, 4 * LIST_MAX, N_MAX);
    hpack_encoder_init(&e, HPACK_TABLE_SIZE);
    while (fuzz_more(&in) && rc != HPACK_EINVAL) {
        uint8_t n = fuzz_u8(&in);

        if (n == 255) { /* a change of the settings instead */
            size_t limit = (size_t)fuzz_u8(&in) * 32;

            hpack_decoder_limit(&d, limit);
            hpack_encoder_limit(&e, limit);
            continue;
        }
        struct str block = fuzz_bytes(&in, n);

        rc = hpack_decode(&d, block.p, block.n, &l);
        FUZZ_CHECK(l.n <= N_MAX && l.size <= LIST_MAX);
        check_table(&d.table);
        if (rc == 0)
            check_again(&e, &again, &l);
    }
    hpack_decoder_release(&d);
    hpack_decoder_release(&again);
    hpack_encoder_release(&e);
    hpack_list_release(&l);
    return 0;
}
