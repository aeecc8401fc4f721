/*
 * aead_test.c - published vectors, scattered input, all that must be refused,
 * the portable code against the processor's, and Wycheproof.
 */
#include "aead_impl.h"

#include "chance.h"
#include "wycheproof.h"

#define MESSAGE_MAX 3000

typedef void init_fn(struct aead *, enum aead_type, const uint8_t *);

static init_fn *const inits[] = {aead_init, aead_init_portable};

#define GCM_KEY "feffe9928665731c6d6a8f9467308308"
#define GCM_NONCE "cafebabefacedbaddecaf888"
#define GCM_PLAIN                                                              \
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"         \
    "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
#define GCM_AAD "feedfacedeadbeeffeedfacedeadbeefabaddad2"
#define ZEROS_4 "00000000"
#define ZEROS_12 ZEROS_4 ZEROS_4 ZEROS_4
#define ZEROS_16 ZEROS_12 ZEROS_4

/* The cases of McGrew and Viega with this size of nonce: 1, 2, 4, 13, 14, 16;
 * RFC 8439, 2.8.2. */
static void test_known(void)
{
    static const struct {
        enum aead_type type;
        const char *key, *nonce, *aad, *plain, *sealed, *tag;
    } cases[] = {
        {AEAD_AES_128_GCM, ZEROS_16, ZEROS_12, "", "", "",
         "58e2fccefa7e3061367f1d57a4e7455a"},
        {AEAD_AES_128_GCM, ZEROS_16, ZEROS_12, "", ZEROS_16,
         "0388dace60b6a392f328c2b971b2fe78",
         "ab6e47d42cec13bdf53a67b21257bddf"},
        {AEAD_AES_128_GCM, GCM_KEY, GCM_NONCE, GCM_AAD, GCM_PLAIN,
         "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"
         "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091",
         "5bc94fbc3221a5db94fae95ae7121a47"},
        {AEAD_AES_256_GCM, ZEROS_16 ZEROS_16, ZEROS_12, "", "", "",
         "530f8afbc74536b9a963b4f1c4cb738b"},
        {AEAD_AES_256_GCM, ZEROS_16 ZEROS_16, ZEROS_12, "", ZEROS_16,
         "cea7403d4d606b6e074ec5d3baf39d18",
         "d0d1c8a799996bf0265b98b5d48ab919"},
        {AEAD_AES_256_GCM, GCM_KEY GCM_KEY, GCM_NONCE, GCM_AAD, GCM_PLAIN,
         "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
         "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
         "76fc6ece0f4e1768cddf8853bb2d551b"},
        {AEAD_CHACHA20_POLY1305,
         "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
         "070000004041424344454647", "50515253c0c1c2c3c4c5c6c7",
         "4c616469657320616e642047656e746c656d656e206f662074686520636c6173"
         "73206f66202739393a204966204920636f756c64206f6666657220796f75206f"
         "6e6c79206f6e652074697020666f7220746865206675747572652c2073756e73"
         "637265656e20776f756c642062652069742e",
         "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6"
         "3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36"
         "92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc"
         "3ff4def08e4b7a9de576d26586cec64b6116",
         "1ae10b594f09e26a7e902ecbd0600691"},
    };

    for (size_t i = 0; i < 2 * ARRAY_LEN(cases); i++) {
        struct buf key = unhex(cases[i / 2].key), aad = unhex(cases[i / 2].aad);
        struct buf nonce = unhex(cases[i / 2].nonce);
        struct buf text = unhex(cases[i / 2].plain);
        struct str part = buf_str(&text);
        uint8_t tag[AEAD_TAG_SIZE];
        struct aead a;

        inits[i % 2](&a, cases[i / 2].type, key.data);
        aead_seal(&a, nonce.data, buf_str(&aad), &part, 1, text.data, tag);
        CHECK(is_hex(text.data, text.len, cases[i / 2].sealed));
        CHECK(is_hex(tag, sizeof(tag), cases[i / 2].tag));
        CHECK(aead_open(&a, nonce.data, buf_str(&aad), text.data, text.len, tag,
                        text.data));
        CHECK(is_hex(text.data, text.len, cases[i / 2].plain));
        aead_release(&a);
        buf_release(&key);
        buf_release(&aad);
        buf_release(&nonce);
        buf_release(&text);
    }
}

#define FF_15 "ffffffffffffffffffffffffffffff"
#define ZEROS_15 ZEROS_12 "000000"

/* RFC 8439, A.3, tests 5 to 11: sums at the edges of the modulus. */
static void test_poly1305_edges(void)
{
    static const struct {
        const char *r, *s, *in, *want;
    } cases[] = {
        {"02" ZEROS_15, ZEROS_16, "ff" FF_15, "03" ZEROS_15},
        {"02" ZEROS_15, "ff" FF_15, "02" ZEROS_15, "03" ZEROS_15},
        {"01" ZEROS_15, ZEROS_16, "ff" FF_15 "f0" FF_15 "11" ZEROS_15,
         "05" ZEROS_15},
        {"01" ZEROS_15, ZEROS_16,
         "ff" FF_15 "fbfefefefefefefefefefefefefefefe"
         "01010101010101010101010101010101",
         ZEROS_16},
        {"02" ZEROS_15, ZEROS_16, "fd" FF_15, "fa" FF_15},
        {"0100000000000000"
         "0400000000000000",
         ZEROS_16,
         "e33594d7505e43b9"
         "0000000000000000"
         "3394d7505e4379cd"
         "0100000000000000" ZEROS_16 "01" ZEROS_15,
         "1400000000000000"
         "5500000000000000"},
        {"0100000000000000"
         "0400000000000000",
         ZEROS_16,
         "e33594d7505e43b9"
         "0000000000000000"
         "3394d7505e4379cd"
         "0100000000000000" ZEROS_16,
         "13" ZEROS_15},
    };
    uint8_t key[AEAD_KEY_MAX] = {0}, tag[AEAD_TAG_SIZE];
    struct aead a;

    aead_init(&a, AEAD_CHACHA20_POLY1305, key);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf unit = unhex(cases[i].r), s = unhex(cases[i].s);
        struct buf in = unhex(cases[i].in);
        struct aead_mac m;

        buf_addstr(&unit, buf_str(&s));
        a.body->mac_init(&m, unit.data);
        a.body->mac_add(&a, &m, in.data, in.len / AEAD_BLOCK);
        a.body->mac_final(&m, tag);
        CHECK(is_hex(tag, sizeof(tag), cases[i].want));
        buf_release(&unit);
        buf_release(&s);
        buf_release(&in);
    }
}

/* A random key in both bodies, a nonce and a message. */
struct sample {
    struct aead fast, portable;
    uint8_t nonce[AEAD_NONCE_SIZE], aad[40], text[MESSAGE_MAX];
};

static void sample_init(struct sample *s, enum aead_type type)
{
    uint8_t key[AEAD_KEY_MAX];

    rnd_fill(key, sizeof(key));
    aead_init(&s->fast, type, key);
    aead_init_portable(&s->portable, type, key);
    rnd_fill(s->nonce, sizeof(s->nonce));
    rnd_fill(s->aad, sizeof(s->aad));
    rnd_fill(s->text, sizeof(s->text));
}

/* Each short length, and some up to many units, of data and of aad. */
static void test_agree(void)
{
    static uint8_t one[MESSAGE_MAX], two[MESSAGE_MAX];
    uint8_t tag_one[AEAD_TAG_SIZE], tag_two[AEAD_TAG_SIZE];
    struct sample s;

    for (enum aead_type type = 0; type <= AEAD_CHACHA20_POLY1305; type++)
        for (size_t n = 0; n <= MESSAGE_MAX; n += n < 600 ? 1 : 47) {
            struct str part = {(char *)s.text, n};
            struct str aad = {(char *)s.aad, n % (sizeof(s.aad) + 1)};

            if (n % 16 == 0)
                sample_init(&s, type);
            aead_seal(&s.fast, s.nonce, aad, &part, 1, one, tag_one);
            aead_seal(&s.portable, s.nonce, aad, &part, 1, two, tag_two);
            CHECK(ct_eq(one, two, n) && ct_eq(tag_one, tag_two, 16));
            CHECK(aead_open(&s.portable, s.nonce, aad, one, n, tag_one, two));
            CHECK(ct_eq(two, s.text, n));
            CHECK(aead_open(&s.fast, s.nonce, aad, one, n, tag_one, one));
            CHECK(ct_eq(one, s.text, n));
        }
}

/* Cut text[0..n) at random; returns the number of parts. */
static size_t cut(struct str parts[16], const uint8_t *text, size_t n)
{
    size_t count = 0;

    while (n > 0 && count < 15) {
        size_t take = rnd(one_in(2) ? 400 : 20);

        take = take < n ? take : n;
        parts[count++] = (struct str){(const char *)text, take};
        text += take;
        n -= take;
    }
    parts[count++] = (struct str){(const char *)text, n};
    return count;
}

static void test_scattered(void)
{
    static uint8_t whole[MESSAGE_MAX], out[MESSAGE_MAX];
    uint8_t tag_whole[AEAD_TAG_SIZE], tag[AEAD_TAG_SIZE];
    struct sample s;

    for (enum aead_type type = 0; type <= AEAD_CHACHA20_POLY1305; type++)
        for (int round = 0; round < 200; round++) {
            size_t n = rnd(MESSAGE_MAX), n_parts;
            struct str parts[16], all = {(char *)s.text, n};

            sample_init(&s, type);
            aead_seal(&s.fast, s.nonce, STR("aad"), &all, 1, whole, tag_whole);
            n_parts = cut(parts, s.text, n);
            aead_seal(&s.fast, s.nonce, STR("aad"), parts, n_parts, out, tag);
            CHECK(ct_eq(out, whole, n) && ct_eq(tag, tag_whole, 16));
            /* In place, too. */
            aead_seal(&s.fast, s.nonce, STR("aad"), parts, n_parts, s.text,
                      tag);
            CHECK(ct_eq(s.text, whole, n) && ct_eq(tag, tag_whole, 16));
        }
}

/* One bit of anything, or one byte more or less: nothing comes out. */
static void test_refused(void)
{
    enum { N = 70 };
    uint8_t sealed[N + 1] = {0}, tag[AEAD_TAG_SIZE], out[N + 1];
    struct sample s;

    for (enum aead_type type = 0; type <= AEAD_CHACHA20_POLY1305; type++) {
        struct str part = {(char *)s.text, N};
        struct str aad = {(char *)s.aad, sizeof(s.aad)};
        struct {
            uint8_t *p;
            size_t n;
        } all[] = {{sealed, N},
                   {tag, sizeof(tag)},
                   {s.nonce, sizeof(s.nonce)},
                   {s.aad, sizeof(s.aad)}};

        sample_init(&s, type);
        aead_seal(&s.fast, s.nonce, aad, &part, 1, sealed, tag);
        memset(out, 0xee, sizeof(out));
        for (size_t i = 0; i < ARRAY_LEN(all); i++)
            for (size_t bit = 0; bit < 8 * all[i].n; bit++) {
                all[i].p[bit / 8] ^= (uint8_t)(1 << bit % 8);
                CHECK(!aead_open(&s.fast, s.nonce, aad, sealed, N, tag, out));
                CHECK(
                    !aead_open(&s.portable, s.nonce, aad, sealed, N, tag, out));
                all[i].p[bit / 8] ^= (uint8_t)(1 << bit % 8);
            }
        CHECK(!aead_open(&s.fast, s.nonce, aad, sealed, N - 1, tag, out));
        CHECK(!aead_open(&s.fast, s.nonce, aad, sealed, N + 1, tag, out));
        aad.n--;
        CHECK(!aead_open(&s.fast, s.nonce, aad, sealed, N, tag, out));
        for (size_t i = 0; i < sizeof(out); i++)
            CHECK(out[i] == 0xee);
        aad.n++;
        CHECK(aead_open(&s.fast, s.nonce, aad, sealed, N, tag, out));
        CHECK(ct_eq(out, s.text, N) && out[N] == 0xee);
    }
}

/* --- Wycheproof. --------------------------------------------------------- */

static bool wycheproof_chacha;

/* Both bodies must seal to what the test says, and open it. */
static bool seals_and_opens(init_fn *init, enum aead_type type,
                            const struct json *test, const struct buf *key)
{
    struct buf nonce = wycheproof_bytes(test, "iv");
    struct buf aad = wycheproof_bytes(test, "aad");
    struct buf msg = wycheproof_bytes(test, "msg");
    struct buf ct = wycheproof_bytes(test, "ct");
    struct buf tag = wycheproof_bytes(test, "tag"), out = {0};
    struct str part = buf_str(&msg);
    uint8_t got[AEAD_TAG_SIZE];
    struct aead a;
    bool opens, seals;

    buf_reserve(&out, msg.len + ct.len + 1);
    init(&a, type, key->data);
    opens = aead_open(&a, nonce.data, buf_str(&aad), ct.data, ct.len, tag.data,
                      out.data) &&
            msg.len == ct.len && ct_eq(out.data, msg.data, msg.len);
    aead_seal(&a, nonce.data, buf_str(&aad), &part, 1, out.data, got);
    seals = msg.len == ct.len && ct_eq(out.data, ct.data, ct.len) &&
            ct_eq(got, tag.data, sizeof(got));
    CHECK(opens == seals);
    aead_release(&a);
    buf_release(&nonce);
    buf_release(&aad);
    buf_release(&msg);
    buf_release(&ct);
    buf_release(&tag);
    buf_release(&out);
    return opens;
}

/* TLS has no other sizes of nonce and tag, and no AES-192: nothing to call. */
static enum wycheproof_verdict verdict(const struct json *group,
                                       const struct json *test)
{
    struct buf key = wycheproof_bytes(test, "key");
    uint64_t bits = wycheproof_number(group, "keySize");
    enum aead_type type = wycheproof_chacha ? AEAD_CHACHA20_POLY1305
                          : bits == 128     ? AEAD_AES_128_GCM
                                            : AEAD_AES_256_GCM;
    enum wycheproof_verdict v = WYCHEPROOF_SKIPPED;

    if (wycheproof_number(group, "ivSize") == 96 &&
        wycheproof_number(group, "tagSize") == 128 &&
        bits == 8 * aead_key_size(type)) {
        bool fast = seals_and_opens(aead_init, type, test, &key);

        CHECK(seals_and_opens(aead_init_portable, type, test, &key) == fast);
        v = fast ? WYCHEPROOF_ACCEPTED : WYCHEPROOF_REFUSED;
    }
    buf_release(&key);
    return v;
}

static void test_wycheproof(void)
{
    wycheproof_run("aes_gcm.json", verdict, NULL);
    wycheproof_chacha = true;
    wycheproof_run("chacha20_poly1305.json", verdict, NULL);
}

int main(void)
{
    test_known();
    test_poly1305_edges();
    test_agree();
    test_scattered();
    test_refused();
    test_wycheproof();
    return check_done("aead");
}
