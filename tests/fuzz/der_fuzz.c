/*
 * der_fuzz.c - DER: the input is a row of elements, each of which every reader
 * is tried on. A reader that refuses changes nothing; what one takes is written
 * again as it stood.
 */
#include "fuzz.h"

#include "der.h"

#define DEPTH_MAX 20
#define YEAR_10000 INT64_C(253402300800)

static void check_same(struct buf *b, struct str before, struct str after)
{
    FUZZ_CHECK(str_eq(buf_str(b), (struct str){before.p, before.n - after.n}));
    buf_clear(b);
}

/* after is before, or what is left of it. */
static void check_cursor(bool good, struct str before, struct str after)
{
    FUZZ_CHECK(after.p + after.n == before.p + before.n);
    FUZZ_CHECK(good ? after.n < before.n : after.n == before.n);
}

static void try_any(struct str in, unsigned *tag, struct str *body)
{
    struct str s = in, b = in;
    struct buf again = {0};
    unsigned t = 0;
    bool good = der_any(&s, &t, &b);

    check_cursor(good, in, s);
    *body = (struct str){0};
    if (good) {
        FUZZ_CHECK(b.p > in.p && b.p + b.n == s.p);
        der_put(&again, t, b);
        check_same(&again, in, s);
        *body = b;
        *tag = t;
    }
    buf_release(&again);
}

static void try_numbers(struct str in)
{
    struct str s = in, m;
    struct buf again = {0};
    unsigned v, flags;
    bool b, good = der_uint(&s, &m);

    check_cursor(good, in, s);
    if (good) {
        FUZZ_CHECK(m.n == 0 || m.p[0] != 0);
        der_put_uint(&again, m);
        check_same(&again, in, s);
    }
    s = in;
    good = der_small(&s, &v);
    check_cursor(good, in, s);
    FUZZ_CHECK(!good || v <= INT32_MAX);
    s = in;
    check_cursor(der_bool(&s, &b), in, s);
    s = in;
    check_cursor(der_flags(&s, &flags), in, s);
    s = in;
    good = der_bits(&s, &m);
    check_cursor(good, in, s);
    if (good) {
        der_put_bits(&again, m, 0);
        check_same(&again, in, s);
    }
    buf_release(&again);
}

/* A time is written in its one right form, which may not be that of the input:
 * but it is the same time. */
static void try_time(struct str in)
{
    struct str s = in, again;
    struct buf b = {0};
    int64_t t, t2;
    bool good = der_time(&s, &t);

    check_cursor(good, in, s);
    if (good && t < YEAR_10000) {
        der_put_time(&b, t);
        again = buf_str(&b);
        FUZZ_CHECK(der_time(&again, &t2) && t2 == t && again.n == 0);
    }
    buf_release(&b);
}

static void try_tags(struct str in, unsigned tag)
{
    struct str s = in, body;
    bool there;

    check_cursor(der_get(&s, tag, &body), in, s);
    s = in;
    check_cursor(der_get_whole(&s, tag, &body), in, s);
    s = in;
    if (der_opt(&s, tag ^ 1, &body, &there))
        check_cursor(there, in, s);
}

/* All elements, and those within; as deep as a caller goes. */
static void walk(struct str in, int depth)
{
    while (in.n > 0) {
        struct str body;
        unsigned tag = 0;

        try_any(in, &tag, &body);
        try_numbers(in);
        try_time(in);
        try_tags(in, tag);
        if (!body.p)
            return;
        if ((tag & 0x20 || tag == DER_OCTETS) && depth < DEPTH_MAX)
            walk(body, depth + 1);
        in = (struct str){body.p + body.n,
                          (size_t)(in.p + in.n - (body.p + body.n))};
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    walk((struct str){(const char *)data, size}, 0);
    return 0;
}
