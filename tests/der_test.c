/*
 * der_test.c - DER: what is not strict is refused, what was written is read
 * again; PEM: several blocks, text around them, and damage.
 */
#include "der.h"

#include "check.h"
#include "hex.h"

/* --- Reading. ------------------------------------------------------------ */

static bool any(const char *hex, size_t *n_body)
{
    struct buf b = unhex(hex);
    struct str in = buf_str(&b), body = {0};
    unsigned tag;
    bool ok = der_any(&in, &tag, &body);

    *n_body = body.n;
    CHECK(ok ? body.n + in.n <= b.len : str_eq(in, buf_str(&b)));
    buf_release(&b);
    return ok;
}

static void test_elements(void)
{
    static const struct {
        const char *hex;
        int n; /* of the contents; -1: refused */
    } cases[] = {
        {"", -1},
        {"30", -1},
        {"3000", 0},
        {"300101", 1},
        {"3001", -1},
        {"3002ff", -1},
        {"308100", -1},     /* a length that fits into a byte */
        {"30810101", -1},   /* another */
        {"30820001ff", -1}, /* a zero in front */
        {"3080", -1},       /* of indefinite length */
        {"30800000", -1},
        {"3085000000000100", -1},
        {"3084ffffffff00", -1},
        {"3088ffffffffffffffff00", -1},
        {"30ff00", -1},
        {"308180", -1},
        {"1f0100", -1}, /* a tag of two bytes */
        {"bf8101", -1},
        {"040201020304", 2},
    };
    size_t n;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CHECK(any(cases[i].hex, &n) == (cases[i].n >= 0));
        CHECK(cases[i].n < 0 || n == (size_t)cases[i].n);
    }
}

static void test_numbers(void)
{
    static const struct {
        const char *hex, *magnitude; /* NULL: refused */
        int64_t small;               /* -1: refused */
    } cases[] = {
        {"020100", "", 0},
        {"02017f", "7f", 127},
        {"0200", NULL, -1},
        {"020180", NULL, -1}, /* negative */
        {"0202007f", NULL, -1},
        {"02020080", "80", 128},
        {"02047fffffff", "7fffffff", INT32_MAX},
        {"02050080000000", "80000000", -1},
        {"0206010000000000", "010000000000", -1},
        {"030100", NULL, -1},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf b = unhex(cases[i].hex);
        struct str in = buf_str(&b), m = {0};
        unsigned v = 77;

        CHECK(der_uint(&in, &m) == (cases[i].magnitude != NULL));
        if (cases[i].magnitude)
            CHECK(is_hex(m.p, m.n, cases[i].magnitude) && in.n == 0);
        in = buf_str(&b);
        CHECK(der_small(&in, &v) == (cases[i].small >= 0));
        CHECK(v == (cases[i].small >= 0 ? (unsigned)cases[i].small : 77));
        buf_release(&b);
    }
}

static void test_bits(void)
{
    static const struct {
        const char *hex;
        bool whole, named;
        unsigned flags;
    } cases[] = {
        {"0300", false, false, 0},
        {"030100", true, true, 0},
        {"030200ff", true, true, 0xff},
        {"030205a0", false, true, 5},
        {"030205a1", false, false, 0}, /* a bit that is not used is set */
        {"030108", false, false, 0},
        {"030101", false, false, 0},
        {"0303070080", false, true, 0x100},
        {"0306000000000080", true, true, 0}, /* bit 32 */
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf b = unhex(cases[i].hex);
        struct str in = buf_str(&b), bytes;
        unsigned flags = 0;

        CHECK(der_bits(&in, &bytes) == cases[i].whole);
        in = buf_str(&b);
        CHECK(der_flags(&in, &flags) == cases[i].named);
        CHECK(flags == cases[i].flags);
        buf_release(&b);
    }
}

static void test_bool(void)
{
    struct str yes = STR("\x01\x01\xff"), no = STR("\x01\x01\x00"),
               odd = STR("\x01\x01\x01"), empty = STR("\x01\x00");
    bool v = false;

    CHECK(der_bool(&yes, &v) && v && yes.n == 0);
    CHECK(der_bool(&no, &v) && !v);
    CHECK(!der_bool(&odd, &v) && !der_bool(&empty, &v));
}

static void test_optional(void)
{
    struct str in = STR("\xa0\x01\x05\x04\x00"), body = {0}, broken;
    bool there = false;

    CHECK(der_opt(&in, 0xa1, &body, &there) && !there && in.n == 5);
    CHECK(der_opt(&in, 0xa0, &body, &there) && there && body.n == 1);
    CHECK(der_get_whole(&in, DER_OCTETS, &body) && body.n == 2 && in.n == 0);
    CHECK(der_opt(&in, 0xa0, &body, &there) && !there);
    broken = STR("\xa0\x05");
    CHECK(!der_opt(&broken, 0xa0, &body, &there));
}

static void test_times(void)
{
    static const struct {
        unsigned tag;
        const char *text;
        int64_t t; /* -1: refused */
    } cases[] = {
        {DER_UTC_TIME, "700101000000Z", 0},
        {DER_UTC_TIME, "491231235959Z", 2524607999},
        {DER_UTC_TIME, "500101000000Z", -631152000},
        {DER_UTC_TIME, "000229120000Z", 951825600},
        {DER_UTC_TIME, "010229120000Z", -1},
        {DER_UTC_TIME, "011301120000Z", -1},
        {DER_UTC_TIME, "010001120000Z", -1},
        {DER_UTC_TIME, "010100120000Z", -1},
        {DER_UTC_TIME, "010132120000Z", -1},
        {DER_UTC_TIME, "010101240000Z", -1},
        {DER_UTC_TIME, "010101236000Z", -1},
        {DER_UTC_TIME, "010101235960Z", -1},
        {DER_UTC_TIME, "0101012359Z", -1},
        {DER_UTC_TIME, "010101000000+0000", -1},
        {DER_UTC_TIME, "010101000000", -1},
        {DER_UTC_TIME, "01010100000/Z", -1},
        {DER_UTC_TIME, "20010101000000Z", -1},
        {DER_GENERAL_TIME, "20500101000000Z", 2524608000},
        {DER_GENERAL_TIME, "99991231235959Z", 253402300799},
        {DER_GENERAL_TIME, "20500101000000.5Z", -1},
        {DER_GENERAL_TIME, "500101000000Z", -1},
        {DER_PRINTABLE, "700101000000Z", -1},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf b = {0}, again = {0};
        struct str in;
        int64_t t = -1;

        der_put(&b, cases[i].tag, str_of(cases[i].text));
        in = buf_str(&b);
        CHECK(der_time(&in, &t) == (cases[i].t != -1));
        CHECK(t == cases[i].t);
        if (cases[i].t != -1) {
            der_put_time(&again, t);
            CHECK(str_eq(buf_str(&b), buf_str(&again)));
        }
        buf_release(&b);
        buf_release(&again);
    }
}

/* --- Writing. ------------------------------------------------------------ */

/* Nested elements around each edge of the length's form. */
static void test_nested(void)
{
    static const size_t sizes[] = {0,     1,     120,   126,   127,
                                   128,   250,   255,   256,   65530,
                                   65535, 65536, 70000, 200000};
    struct buf b = {0}, want = {0};

    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct str in, outer, inner, body, flag;
        size_t a, c;

        buf_clear(&b);
        buf_clear(&want);
        for (size_t k = 0; k < sizes[i]; k++)
            buf_addc(&want, (char)k);
        a = der_begin(&b, DER_SEQ);
        c = der_begin(&b, DER_CONTEXT_SEQ | 3);
        der_put(&b, DER_OCTETS, buf_str(&want));
        der_end(&b, c);
        der_put(&b, DER_BOOL, STR("\xff"));
        der_end(&b, a);

        in = buf_str(&b);
        CHECK(der_get(&in, DER_SEQ, &outer) && in.n == 0);
        CHECK(der_get(&outer, 0xa3, &inner));
        CHECK(der_get(&outer, DER_BOOL, &flag) && outer.n == 0);
        CHECK(der_get(&inner, DER_OCTETS, &body) && inner.n == 0);
        CHECK(str_eq(body, buf_str(&want)));
    }
    buf_release(&b);
    buf_release(&want);
}

static void test_put_numbers(void)
{
    static const struct {
        const char *magnitude, *hex;
    } cases[] = {
        {"", "020100"},     {"00", "020100"},       {"7f", "02017f"},
        {"80", "02020080"}, {"000080", "02020080"}, {"0100", "02020100"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf m = unhex(cases[i].magnitude), b = {0};

        der_put_uint(&b, buf_str(&m));
        CHECK(is_hex(b.data, b.len, cases[i].hex));
        buf_release(&m);
        buf_release(&b);
    }
}

/* --- PEM. ---------------------------------------------------------------- */

static void test_blocks(void)
{
    struct str text = STR("subject=/CN=x\r\n"
                          "-----BEGIN A-----\r\n"
                          "YWJj\r\nZGVm  \r\n"
                          "-----END A-----\r\n"
                          "-----BEGIN of something that is not one\n"
                          "text: more\n"
                          "-----BEGIN B KEY-----\n"
                          "Proc-Type: 4,ENCRYPTED\n"
                          "DEK-Info: AES-128-CBC,00\n"
                          "\n"
                          "eA==\n"
                          "-----END B KEY-----\n"
                          "-----BEGIN C-----\n"
                          "-----END C-----");
    struct pem_block b = {0};
    struct err e;

    CHECK(pem_next(&text, &b, &e) == 1 && str_eqz(b.type, "A"));
    CHECK(str_eqz(buf_str(&b.der), "abcdef") && !b.encrypted);
    CHECK(pem_next(&text, &b, &e) == 1 && str_eqz(b.type, "B KEY"));
    CHECK(str_eqz(buf_str(&b.der), "x") && b.encrypted);
    CHECK(pem_next(&text, &b, &e) == 1 && str_eqz(b.type, "C"));
    CHECK(b.der.len == 0 && !b.encrypted);
    CHECK(pem_next(&text, &b, &e) == 0 && text.n == 0);
    pem_release(&b);
}

static void test_bad_blocks(void)
{
    static const char *const cases[] = {
        "-----BEGIN A-----\nYWJj\n",
        "-----BEGIN A-----\nYWJj\n-----END B-----\n",
        "-----BEGIN A-----\nYWJj\n-----BEGIN A-----\n-----END A-----\n",
        "-----BEGIN A-----\nYW?j\n-----END A-----\n",
        "-----BEGIN A-----\nYWJ\n-----END A-----\n",
        "-----BEGIN A-----\nYWJj\n-----END A\n",
        "-----BEGIN A-----",
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct str text = str_of(cases[i]);
        struct pem_block b = {0};
        struct err e = {.msg = ""};

        CHECK(pem_next(&text, &b, &e) == PEM_EINVAL);
        CHECK_STR(e.msg, "malformed PEM block \"A\"");
        CHECK(b.der.len == 0);
        pem_release(&b);
    }
}

static void test_pem_again(void)
{
    struct buf der = {0}, text = {0};
    struct pem_block b = {0};
    struct err e;

    for (size_t n = 0; n < 200; n++) {
        struct str in;

        buf_clear(&text);
        pem_put(&text, "X Y", buf_str(&der));
        in = buf_str(&text);
        CHECK(pem_next(&in, &b, &e) == 1 && str_eqz(b.type, "X Y"));
        CHECK(str_eq(buf_str(&b.der), buf_str(&der)) && in.n == 0);
        buf_addc(&der, (char)(n * 7));
    }
    pem_release(&b);
    buf_release(&der);
    buf_release(&text);
}

int main(void)
{
    test_elements();
    test_numbers();
    test_bits();
    test_bool();
    test_optional();
    test_times();
    test_nested();
    test_put_numbers();
    test_blocks();
    test_bad_blocks();
    test_pem_again();
    return check_done("der_test");
}
