/*
 * crypto_test.c - published vectors, and the portable code against the
 * processor's.
 */
#include "crypto.h"

#include "check.h"

/* RFC 3720, B.4. */
static void test_crc32c_known(void)
{
    uint8_t b[32];

    CHECK(crc32c(0, "", 0) == 0);
    CHECK(crc32c(0, "123456789", 9) == 0xe3069283);
    memset(b, 0, sizeof(b));
    CHECK(crc32c(0, b, sizeof(b)) == 0x8a9136aa);
    memset(b, 0xff, sizeof(b));
    CHECK(crc32c(0, b, sizeof(b)) == 0x62a8ab43);
    for (size_t i = 0; i < sizeof(b); i++)
        b[i] = (uint8_t)i;
    CHECK(crc32c(0, b, sizeof(b)) == 0x46dd794e);
    for (size_t i = 0; i < sizeof(b); i++)
        b[i] = (uint8_t)(31 - i);
    CHECK(crc32c(0, b, sizeof(b)) == 0x113fdb5c);
}

/* A bit at a time, from the definition. */
static uint32_t crc_naive(uint32_t crc, const uint8_t *p, size_t n)
{
    crc = ~crc;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0x82f63b78) : 0);
    }
    return ~crc;
}

static void test_crc32c_agrees(void)
{
    uint8_t b[600];
    uint32_t seed = 1;

    for (size_t i = 0; i < sizeof(b); i++) {
        seed = seed * 1664525 + 1013904223;
        b[i] = (uint8_t)(seed >> 24);
    }
    for (size_t from = 0; from < 9; from++) {
        for (size_t n = 0; from + n <= sizeof(b); n += n < 40 ? 1 : 37) {
            uint32_t want = crc_naive(seed, b + from, n);
            size_t half = n / 3;

            CHECK(crc32c(seed, b + from, n) == want);
            CHECK(crc32c_portable(seed, b + from, n) == want);
            CHECK(crc32c_combine(crc32c(seed, b + from, half),
                                 crc32c(0, b + from + half, n - half),
                                 n - half) == want);
        }
    }
}

/* RFC 4648, 10. */
static void test_base64(void)
{
    static const struct {
        const char *plain, *coded;
    } cases[] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
    };
    static const char *const bad[] = {
        "Z",    "Zg",   "Zg=",      "Zg===", "=",
        "====", "Z===", "Zg==Zg==", "Zm9-",  "Zm 9",
    };
    /* As real etcd answers, with the places that it names. */
    static const struct {
        const char *coded, *plain;
        size_t bad;
    } read[] = {
        {"Y\nQ=\n=\n", "a", 0}, {"YR==", "a", 0},         {"YQ==x", NULL, 4},
        {"YQ=x", NULL, 2},      {"Y===", NULL, 1},        {"YQ=", NULL, 3},
        {"YWI=YWI=", NULL, 4},  {"YWJjY", NULL, 4},       {"YQ", NULL, 0},
        {"-_-_", NULL, 0},      {"not base64!", NULL, 3},
    };
    uint8_t all[256], out[32];
    struct buf b = {0}, back = {0};
    size_t n, at;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        buf_clear(&b);
        base64_encode(&b, cases[i].plain, strlen(cases[i].plain));
        CHECK(str_eqz(buf_str(&b), cases[i].coded));
        buf_clear(&back);
        CHECK(base64_decode(&back, buf_str(&b)) == 0);
        CHECK(str_eqz(buf_str(&back), cases[i].plain));
    }
    buf_clear(&b);
    buf_adds(&b, "kept");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        CHECK(base64_decode(&b, str_of(bad[i])) == -1);
        CHECK(str_eqz(buf_str(&b), "kept"));
    }
    for (size_t i = 0; i < ARRAY_LEN(read); i++) {
        bool ok = base64_read(str_of(read[i].coded), out, &n, &at);

        CHECK(ok == (read[i].plain != NULL));
        if (ok)
            CHECK(str_eqz((struct str){(char *)out, n}, read[i].plain));
        else
            CHECK(at == read[i].bad);
    }
    for (size_t i = 0; i < sizeof(all); i++)
        all[i] = (uint8_t)i;
    buf_clear(&b);
    buf_clear(&back);
    base64_encode(&b, all, sizeof(all));
    CHECK(base64_decode(&back, buf_str(&b)) == 0);
    CHECK(back.len == sizeof(all) && memcmp(back.data, all, 256) == 0);
    buf_release(&b);
    buf_release(&back);
}

/* Of Openwall's crypt_blowfish, and of jBCrypt. */
static void test_bcrypt_known(void)
{
    static const struct {
        const char *password, *hash;
    } cases[] = {
        {"U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"},
        {"U*U*",
         "$2a$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK"},
        {"U*U*U",
         "$2a$05$XXXXXXXXXXXXXXXXXXXXXOAcXxm9kjPGEMsLznoKqmqw7tc8WCx4a"},
        {"", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.7uG0VCzI2bS7j6ymqJi9CdcdxiRTWNy"},
        {"\xff\xff\xa3",
         "$2y$05$/OK.fbVrR/bpIqNJ5ianF.CE5elHaaO4EbggVDjb8P19RukzXSM3e"},
        {"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
         "0123456789"
         "chars after 72 are ignored",
         "$2a$05$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui"},
        {"abc", "$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct str password = str_of(cases[i].password);

        CHECK(bcrypt_check(password, str_of(cases[i].hash)));
        CHECK(!bcrypt_check(STR("another"), str_of(cases[i].hash)));
    }
}

static void test_bcrypt_hash(void)
{
    uint8_t salt[16];
    char out[BCRYPT_HASH_SIZE], bad[BCRYPT_HASH_SIZE];

    for (size_t i = 0; i < sizeof(salt); i++)
        salt[i] = (uint8_t)(i * 17);
    bcrypt_hash(STR("secret"), 4, salt, out);
    CHECK(strlen(out) == BCRYPT_HASH_SIZE - 1);
    CHECK(memcmp(out, "$2a$04$", 7) == 0);
    CHECK(bcrypt_check(STR("secret"), str_of(out)));
    CHECK(!bcrypt_check(STR("Secret"), str_of(out)));
    for (size_t i = 0; i < BCRYPT_HASH_SIZE - 1; i++) {
        if (i >= 4 && i <= 5) /* another cost is another, longer hash */
            continue;
        memcpy(bad, out, sizeof(bad));
        bad[i] = bad[i] == '!' ? '?' : '!';
        CHECK(!bcrypt_check(STR("secret"), str_of(bad)));
    }
    CHECK(!bcrypt_check(STR("secret"), (struct str){out, 59}));
    CHECK(!bcrypt_check(STR("secret"), STR("")));
    memcpy(bad, out, sizeof(bad));
    memcpy(bad + 4, "03", 2);
    CHECK(!bcrypt_check(STR("secret"), str_of(bad)));
    memcpy(bad + 4, "32", 2);
    CHECK(!bcrypt_check(STR("secret"), str_of(bad)));
}

int main(void)
{
    test_crc32c_known();
    test_crc32c_agrees();
    test_base64();
    test_bcrypt_known();
    test_bcrypt_hash();
    return check_done("crypto");
}
