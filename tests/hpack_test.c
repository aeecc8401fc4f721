/*
 * hpack_test.c - header compression: the examples of RFC 7541, appendix C, what
 * a decoder must refuse, table sizes that change, a random walk of encoder and
 * decoder side by side, and the public hpack-test-case stories (where VECTORS
 * names them).
 */
#include "hpack.h"

#include "chance.h"
#include "check.h"
#include "hex.h"
#include "json.h"
#include "sys.h"

#include <dirent.h>

#define LIST_MAX (1 << 20)
#define N_MAX 4096

/* "name: value\n" for each field, to be compared as a whole. */
static const char *text_of(const struct hpack_list *l)
{
    static struct buf b;

    buf_clear(&b);
    for (size_t i = 0; i < l->n; i++)
        buf_printf(&b, "%.*s: %.*s\n", STR_FMT(l->fields[i].name),
                   STR_FMT(l->fields[i].value));
    return buf_z(&b);
}

static int decode_hex(struct hpack_decoder *d, const char *hex,
                      struct hpack_list *l)
{
    struct buf b = unhex(hex);
    /* Of exactly this length, so that a sanitizer sees a byte too many. */
    uint8_t *exact = xmalloc(b.len ? b.len : 1);
    int rc;

    if (b.len)
        memcpy(exact, b.data, b.len);
    rc = hpack_decode(d, exact, b.len, l);
    free(exact);
    buf_release(&b);
    return rc;
}

/* --- Appendix C. ----------------------------------------------------------- */

struct step {
    const char *hex, *text;
    size_t size; /* of the table afterwards */
};

static void check_steps(const struct step *steps, size_t n, size_t limit)
{
    struct hpack_decoder d;
    struct hpack_list l = {0};

    hpack_decoder_init(&d, LIST_MAX, N_MAX);
    d.limit = d.table.size_max = limit;
    for (size_t i = 0; i < n; i++) {
        CHECK(decode_hex(&d, steps[i].hex, &l) == 0);
        CHECK_STR(text_of(&l), steps[i].text);
        CHECK(d.table.size == steps[i].size);
    }
    hpack_decoder_release(&d);
    hpack_list_release(&l);
}

#define REQUEST_1                                                              \
    ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n"
#define REQUEST_3                                                              \
    ":method: GET\n:scheme: https\n:path: /index.html\n"                       \
    ":authority: www.example.com\ncustom-key: custom-value\n"
#define DATED(status, second)                                                  \
    ":status: " status "\ncache-control: private\n"                            \
    "date: Mon, 21 Oct 2013 20:13:" second " GMT\n"                            \
    "location: https://www.example.com\n"
#define RESPONSE_3                                                             \
    ":status: 200\ncache-control: private\n"                                   \
    "date: Mon, 21 Oct 2013 20:13:22 GMT\n"                                    \
    "location: https://www.example.com\ncontent-encoding: gzip\n"              \
    "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1\n"

static void test_appendix_c(void)
{
    static const struct step literals[] = {
        {"400a637573746f6d2d6b65790d637573746f6d2d686561646572",
         "custom-key: custom-header\n", 55},
        {"040c2f73616d706c652f70617468", ":path: /sample/path\n", 55},
        {"100870617373776f726406736563726574", "password: secret\n", 55},
        {"82", ":method: GET\n", 55},
    };
    static const struct step requests[] = {
        {"828684410f7777772e6578616d706c652e636f6d", REQUEST_1, 57},
        {"828684be58086e6f2d6361636865", REQUEST_1 "cache-control: no-cache\n",
         110},
        {"828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
         REQUEST_3, 164},
    };
    static const struct step huffman[] = {
        {"828684418cf1e3c2e5f23a6ba0ab90f4ff", REQUEST_1, 57},
        {"828684be5886a8eb10649cbf", REQUEST_1 "cache-control: no-cache\n",
         110},
        {"828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf", REQUEST_3, 164},
    };
    static const struct step responses[] = {
        {"4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032"
         "303a31333a323120474d546e1768747470733a2f2f7777772e6578616d706c652e63"
         "6f6d",
         DATED("302", "21"), 222},
        {"4803333037c1c0bf", DATED("307", "21"), 222},
        {"88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c0"
         "5a04677a69707738666f6f3d4153444a4b48514b425a584f5157454f504955415851"
         "57454f49553b206d61782d6167653d333630303b2076657273696f6e3d31",
         RESPONSE_3, 215},
    };
    static const struct step responses_huffman[] = {
        {"488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1b"
         "ff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
         DATED("302", "21"), 222},
        {"4883640effc1c0bf", DATED("307", "21"), 222},
        {"88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad"
         "94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f95873160"
         "65c003ed4ee5b1063d5007",
         RESPONSE_3, 215},
    };

    check_steps(literals, ARRAY_LEN(literals), 4096);
    check_steps(requests, ARRAY_LEN(requests), 4096);
    check_steps(huffman, ARRAY_LEN(huffman), 4096);
    check_steps(responses, ARRAY_LEN(responses), 256);
    check_steps(responses_huffman, ARRAY_LEN(responses_huffman), 256);
}

/* --- What must be refused. -------------------------------------------------- */

static void test_refused(void)
{
    static const char *const blocks[] = {
        "80",                 /* index 0 (6.1) */
        "be",                 /* beyond both tables */
        "ff00",               /* 127, likewise */
        "7e0161",             /* a name beyond them */
        "ff",                 /* an integer that is cut off (5.1) */
        "ffffffffffff7f",     /* one that is absurd */
        "ff8080808080800001", /* leading zeros without end */
        "40",                 /* a literal without strings */
        "400a6375",           /* a string that is cut off */
        "4001610562",         /* likewise the value */
        "400161ff",           /* its length */
        "8220",               /* a size update after a field (4.2) */
        "3fe21f",             /* an update above what was announced (6.3) */
        "0081180161",         /* Huffman: not what pads (5.2) */
        "00821fff0161",       /* 8 bits of padding */
        "0084ffffffff0161",   /* EOS in full */
        "0082f8ff0161",       /* just 8 */
        "0081fe0161",         /* a code that is cut off */
    };
    struct hpack_list l = {0};

    for (size_t i = 0; i < ARRAY_LEN(blocks); i++) {
        struct hpack_decoder d;

        hpack_decoder_init(&d, LIST_MAX, N_MAX);
        if (decode_hex(&d, blocks[i], &l) != HPACK_EINVAL)
            fprintf(stderr, "%s\n", blocks[i]);
        CHECK(decode_hex(&d, blocks[i], &l) == HPACK_EINVAL);
        hpack_decoder_release(&d);
    }
    hpack_list_release(&l);
}

/* Too much of a list: dropped, but the tables stay as the peer's. */
static void test_bounds(void)
{
    struct hpack_decoder d;
    struct hpack_list l = {0};

    hpack_decoder_init(&d, 2 * (HPACK_FIELD_COST + 10), N_MAX);
    CHECK(decode_hex(&d, "8282", &l) == 0 && l.n == 2); /* GET */
    CHECK(decode_hex(&d, "828282", &l) == HPACK_ELARGE && l.n == 2);
    CHECK(decode_hex(&d, "8282824001610162", &l) == HPACK_ELARGE);
    CHECK(d.table.n == 1);
    CHECK(decode_hex(&d, "be", &l) == 0);
    CHECK_STR(text_of(&l), "a: b\n");
    hpack_decoder_release(&d);

    hpack_decoder_init(&d, LIST_MAX, 3);
    CHECK(decode_hex(&d, "828282", &l) == 0 && l.n == 3);
    CHECK(decode_hex(&d, "82828282", &l) == HPACK_ELARGE && l.n == 3);
    hpack_decoder_release(&d);
    hpack_list_release(&l);
}

/* 4.4: the name of an entry that goes to make room for what is added. */
static void test_name_of_evicted(void)
{
    struct hpack_decoder d;
    struct hpack_list l = {0};
    struct buf b = {0};

    hpack_decoder_init(&d, LIST_MAX, N_MAX);
    CHECK(decode_hex(&d, "3f19", &l) == 0); /* a table of 56: one entry */
    CHECK(decode_hex(&d, "400a6162636465666768696a0178", &l) == 0);
    for (int i = 0; i < 300; i++) { /* also across its moves */
        CHECK(decode_hex(&d, i % 2 ? "7e0179" : "7e03797979", &l) == 0);
        CHECK(d.table.n == 1 && l.n == 1);
        CHECK(str_eqz(l.fields[0].name, "abcdefghij"));
    }
    CHECK(d.table.bytes_cap <= 256);
    /* What does not fit at all empties the table. */
    CHECK(decode_hex(&d,
                     "7e20303132333435363738393031323334353637383930313233"
                     "343536373839303132",
                     &l) == HPACK_EINVAL); /* 32 bytes are 31 here */
    hpack_decoder_release(&d);

    hpack_decoder_init(&d, LIST_MAX, N_MAX);
    CHECK(decode_hex(&d, "3f194001610162", &l) == 0 && d.table.n == 1);
    CHECK(decode_hex(&d,
                     "7e1930313233343536373839303132333435363738393031323334",
                     &l) == 0);
    CHECK(d.table.n == 0 && d.table.size == 0 && l.n == 1);
    hpack_decoder_release(&d);
    hpack_list_release(&l);
    buf_release(&b);
}

/* 4.2: the peer has to take notice when our table becomes smaller. */
static void test_decoder_limit(void)
{
    struct hpack_decoder d;
    struct hpack_list l = {0};

    hpack_decoder_init(&d, LIST_MAX, N_MAX);
    CHECK(decode_hex(&d, "4001610162", &l) == 0 && d.table.n == 1);
    hpack_decoder_limit(&d, 30);
    CHECK(decode_hex(&d, "3e82", &l) == 0 && d.table.n == 0);
    CHECK(decode_hex(&d, "82", &l) == 0);
    hpack_decoder_limit(&d, 8192);
    CHECK(decode_hex(&d, "3fe13f82", &l) == 0); /* 8192 */
    hpack_decoder_limit(&d, 100);
    CHECK(decode_hex(&d, "82", &l) == HPACK_EINVAL);
    hpack_decoder_release(&d);
    hpack_list_release(&l);
}

/* --- Huffman. ----------------------------------------------------------------- */

static void test_huffman(void)
{
    struct buf coded = {0}, back = {0};

    for (int a = 0; a < 256; a++) {
        for (int b = 0; b < 256; b += 5) {
            char s[3] = {(char)a, (char)b, (char)(a ^ 85)};

            for (size_t n = 0; n <= 3; n++) {
                struct str in = {s, n};

                buf_clear(&coded);
                buf_clear(&back);
                hpack_huffman_encode(&coded, in);
                if (coded.len != hpack_huffman_len(in) ||
                    hpack_huffman_decode(&back, coded.data, coded.len) < 0 ||
                    !str_eq(buf_str(&back), in))
                    CHECK(!"decodes to what it was");
            }
        }
    }
    buf_release(&coded);
    buf_release(&back);
}

/* --- Encoder. -------------------------------------------------------------------- */

static size_t encoded(struct hpack_encoder *e, struct hpack_decoder *d,
                      const struct hpack_field *fields, size_t n)
{
    struct hpack_list l = {0};
    struct buf b = {0};
    size_t len;

    hpack_encode(e, fields, n, &b);
    len = b.len;
    CHECK(hpack_decode(d, b.data, b.len, &l) == 0 && l.n == n);
    for (size_t i = 0; i < n && i < l.n; i++) {
        CHECK(str_eq(l.fields[i].name, fields[i].name));
        CHECK(str_eq(l.fields[i].value, fields[i].value));
        if (fields[i].how == HPACK_NEVER)
            CHECK(l.fields[i].how == HPACK_NEVER);
    }
    CHECK(e->table.size == d->table.size && e->table.n == d->table.n);
    buf_release(&b);
    hpack_list_release(&l);
    return len;
}

/* The head and the trailers of every answer of gRPC cost three bytes. */
static void test_grpc_costs(void)
{
    static const struct hpack_field head[] = {
        HPACK_FIELD(":status", "200"),
        HPACK_FIELD("content-type", "application/grpc")};
    static const struct hpack_field trailers[] = {
        HPACK_FIELD("grpc-status", "0")};
    static const struct hpack_field failed[] = {
        HPACK_FIELD("grpc-status", "5"),
        HPACK_FIELD("grpc-message", "key not found")};
    struct hpack_encoder e;
    struct hpack_decoder d;

    hpack_encoder_init(&e, HPACK_TABLE_SIZE);
    hpack_decoder_init(&d, LIST_MAX, N_MAX);
    CHECK(encoded(&e, &d, head, 2) > 2);
    CHECK(encoded(&e, &d, trailers, 1) > 1);
    CHECK(encoded(&e, &d, failed, 2) > 10);
    CHECK(encoded(&e, &d, head, 2) == 2);
    CHECK(encoded(&e, &d, trailers, 1) == 1);
    CHECK(e.table.n == 3); /* the message is not among them */
    hpack_encoder_release(&e);
    hpack_decoder_release(&d);
}

static void test_secrets(void)
{
    static const struct hpack_field fields[] = {
        HPACK_FIELD("authorization", "Bearer abc"),
        HPACK_FIELD("token", "abc.123"),
        {{"x-key", 5}, {"abc", 3}, HPACK_NEVER}};
    struct hpack_encoder e;
    struct hpack_decoder d;
    struct hpack_list l = {0};
    struct buf b = {0};

    hpack_encoder_init(&e, HPACK_TABLE_SIZE);
    hpack_decoder_init(&d, LIST_MAX, N_MAX);
    for (int i = 0; i < 2; i++) {
        buf_clear(&b);
        hpack_encode(&e, fields, 3, &b);
        CHECK(hpack_decode(&d, b.data, b.len, &l) == 0 && l.n == 3);
        for (size_t k = 0; k < l.n; k++)
            CHECK(l.fields[k].how == HPACK_NEVER);
        CHECK(e.table.n == 0 && d.table.n == 0);
    }
    hpack_encoder_release(&e);
    hpack_decoder_release(&d);
    hpack_list_release(&l);
    buf_release(&b);
}

/* 4.2: a table that shrank and grew between two blocks was emptied. */
static void test_encoder_limit(void)
{
    static const struct hpack_field f[] = {HPACK_FIELD("custom", "value")};
    struct hpack_encoder e;
    struct hpack_decoder d;

    hpack_encoder_init(&e, 1024);
    hpack_decoder_init(&d, LIST_MAX, N_MAX);
    CHECK(encoded(&e, &d, f, 1) > 3 && d.table.size_max == 1024);
    CHECK(encoded(&e, &d, f, 1) == 1);
    hpack_encoder_limit(&e, 100000); /* more than we want */
    CHECK(encoded(&e, &d, f, 1) == 1);
    hpack_encoder_limit(&e, 0);
    hpack_encoder_limit(&e, 512);
    CHECK(encoded(&e, &d, f, 1) > 4 && d.table.size_max == 512);
    CHECK(encoded(&e, &d, f, 1) == 1);
    hpack_encoder_limit(&e, 0);
    hpack_decoder_limit(&d, 0);
    CHECK(encoded(&e, &d, f, 1) > 4 && d.table.size_max == 0);
    CHECK(encoded(&e, &d, f, 1) > 4 && d.table.n == 0);
    hpack_encoder_release(&e);
    hpack_decoder_release(&d);
}

/* Every field of the static table is found by itself. */
static void test_static(void)
{
    struct hpack_encoder e;
    struct hpack_decoder d;
    struct hpack_list l = {0};

    hpack_encoder_init(&e, HPACK_TABLE_SIZE);
    hpack_decoder_init(&d, LIST_MAX, N_MAX);
    for (int i = 1; i <= 61; i++) {
        uint8_t block = (uint8_t)(0x80 | i);
        struct buf b = {0};

        CHECK(hpack_decode(&d, &block, 1, &l) == 0 && l.n == 1);
        hpack_encode(&e, l.fields, 1, &b);
        CHECK(b.len == 1 && b.data[0] == block);
        buf_release(&b);
    }
    hpack_encoder_release(&e);
    hpack_decoder_release(&d);
    hpack_list_release(&l);
}

static void test_random(void)
{
    static const char bytes[] = "abcdefghijklmnopqrstuvwxyz0123456789/-:";
    static char text[600];
    struct hpack_encoder e;
    struct hpack_decoder d;

    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = bytes[rnd(sizeof(bytes) - 1)];
    hpack_encoder_init(&e, HPACK_TABLE_SIZE);
    hpack_decoder_init(&d, LIST_MAX, N_MAX);
    for (int i = 0; i < 3000; i++) {
        struct hpack_field f[8];
        size_t n = rnd(8);

        for (size_t k = 0; k < n; k++) {
            f[k].name = (struct str){text + rnd(40), 1 + rnd(12)};
            f[k].value =
                (struct str){text + rnd(40), rnd(4) ? rnd(20) : rnd(500)};
            f[k].how = rnd(8) ? HPACK_AUTO : (enum hpack_how)rnd(3);
        }
        encoded(&e, &d, f, n);
        if (rnd(50) == 0)
            hpack_encoder_limit(&e, rnd(2) ? rnd(5000) : 4096);
    }
    hpack_encoder_release(&e);
    hpack_decoder_release(&d);
}

/* --- hpack-test-case. -------------------------------------------------------------- */

/* {"wire": hex, "headers": [{name: value}...], "header_table_size": n} */
static void check_case(const struct json *c, struct hpack_decoder *d,
                       struct hpack_encoder *e, struct hpack_decoder *again)
{
    const struct json *headers = json_get(c, "headers"), *h;
    struct hpack_list l = {0};
    struct str hex = json_text(json_get(c, "wire"), "");
    char *wire = xstrndup(hex.p, hex.n);
    uint64_t size;
    size_t i = 0;

    if (json_u64(json_get(c, "header_table_size"), &size) && size != d->limit)
        hpack_decoder_limit(d, size);
    CHECK(decode_hex(d, wire, &l) == 0);
    CHECK(headers && l.n == headers->n);
    for (h = headers ? headers->first : NULL; h && i < l.n; h = h->next, i++) {
        CHECK(str_eq(l.fields[i].name, h->first->name));
        CHECK(str_eq(l.fields[i].value, h->first->text));
    }
    encoded(e, again, l.fields, l.n);
    hpack_list_release(&l);
    free(wire);
}

static size_t check_story(const char *path)
{
    struct hpack_decoder d, again;
    struct hpack_encoder e;
    struct json *j = NULL;
    struct buf b = {0};
    size_t n = 0;

    hpack_decoder_init(&d, LIST_MAX, N_MAX);
    hpack_decoder_init(&again, LIST_MAX, N_MAX);
    hpack_encoder_init(&e, HPACK_TABLE_SIZE);
    CHECK(sys_read_file(path, 1 << 26, &b, NULL) == 0);
    CHECK(json_parse(b.data, b.len, &j, NULL) == 0);
    if (j && json_get(j, "cases"))
        for (const struct json *c = json_get(j, "cases")->first; c; c = c->next)
            check_case(c, &d, &e, &again), n++;
    CHECK(n > 0);
    json_free(j);
    buf_release(&b);
    hpack_decoder_release(&d);
    hpack_decoder_release(&again);
    hpack_encoder_release(&e);
    return n;
}

static void test_stories(void)
{
    static const char *const encoders[] = {
        "nghttp2", "nghttp2-change-table-size", "node-http2-hpack"};
    const char *vectors = getenv("VECTORS");
    size_t stories = 0, cases = 0;

    for (size_t i = 0; vectors && i < ARRAY_LEN(encoders); i++) {
        char *path = xasprintf("%s/hpack/%s", vectors, encoders[i]);
        DIR *dir = opendir(path);
        struct dirent *f;

        while (dir && (f = readdir(dir))) {
            char *story = xasprintf("%s/%s", path, f->d_name);

            if (strstr(f->d_name, ".json")) {
                cases += check_story(story);
                stories++;
            }
            free(story);
        }
        if (dir)
            closedir(dir);
        free(path);
    }
    if (stories)
        printf("hpack: %zu stories, %zu blocks\n", stories, cases);
    else
        printf("hpack: no stories: VECTORS is not set\n");
}

int main(void)
{
    test_appendix_c();
    test_refused();
    test_bounds();
    test_name_of_evicted();
    test_decoder_limit();
    test_huffman();
    test_grpc_costs();
    test_secrets();
    test_encoder_limit();
    test_static();
    test_random();
    test_stories();
    return check_done("hpack");
}
