/*
 * hash_test.c - published vectors, each way to cut the input, the portable
 * code against the processor's, and Wycheproof's HMAC and HKDF.
 */
#include "hash.h"

#include "chance.h"
#include "wycheproof.h"

#define TWO_BLOCKS_32 "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"
#define TWO_BLOCKS_64                                                          \
    "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmno"         \
    "ijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu"

/* The examples of FIPS 180-4. */
static void test_known(void)
{
    static const struct {
        enum hash_type type;
        const char *in, *want;
    } cases[] = {
        {HASH_SHA1, "", "da39a3ee5e6b4b0d3255bfef95601890afd80709"},
        {HASH_SHA1, "abc", "a9993e364706816aba3e25717850c26c9cd0d89d"},
        {HASH_SHA1, TWO_BLOCKS_32, "84983e441c3bd26ebaae4aa1f95129e5e54670f1"},
        {HASH_SHA256, "",
         "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {HASH_SHA256, "abc",
         "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {HASH_SHA256, TWO_BLOCKS_32,
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {HASH_SHA384, "abc",
         "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed"
         "8086072ba1e7cc2358baeca134c825a7"},
        {HASH_SHA384, TWO_BLOCKS_64,
         "09330c33f71147e83d192fc782cd1b4753111b173b3b05d22fa08086e3b0f712"
         "fcc7c71a557e2db966c3e9fa91746039"},
        {HASH_SHA512, "abc",
         "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
         "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"},
        {HASH_SHA512, TWO_BLOCKS_64,
         "8e959b75dae313da8cf4f72814fc143f8f7779c6eb9f7fa17299aeadb6889018"
         "501d289e4900f7e4331b99dec4b5433ac7d329eeb6dd26545e96e55b874be909"},
    };
    uint8_t out[HASH_SIZE_MAX];

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        hash_once(cases[i].type, cases[i].in, strlen(cases[i].in), out);
        CHECK(is_hex(out, hash_size(cases[i].type), cases[i].want));
    }
}

/* Lengths around the end of a block, where the padding takes another. */
static void test_block_ends(void)
{
    static const struct {
        enum hash_type type;
        size_t n;
        const char *want;
    } cases[] = {
        {HASH_SHA1, 55, "c1c8bbdc22796e28c0e15163d20899b65621d65a"},
        {HASH_SHA1, 56, "c2db330f6083854c99d4b5bfb6e8f29f201be699"},
        {HASH_SHA1, 63, "03f09f5b158a7a8cdad920bddc29b81c18a551f5"},
        {HASH_SHA1, 64, "0098ba824b5c16427bd7a1122a5a442a25ec644d"},
        {HASH_SHA1, 65, "11655326c708d70319be2610e8a57d9a5b959d3b"},
        {HASH_SHA256, 55,
         "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318"},
        {HASH_SHA256, 56,
         "b35439a4ac6f0948b6d6f9e3c6af0f5f590ce20f1bde7090ef7970686ec6738a"},
        {HASH_SHA256, 63,
         "7d3e74a05d7db15bce4ad9ec0658ea98e3f06eeecf16b4c6fff2da457ddc2f34"},
        {HASH_SHA256, 64,
         "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb"},
        {HASH_SHA256, 65,
         "635361c48bb9eab14198e76ea8ab7f1a41685d6ad62aa9146d301d4f17eb0ae0"},
        {HASH_SHA384, 111,
         "3c37955051cb5c3026f94d551d5b5e2ac38d572ae4e07172085fed81f8466b8f"
         "90dc23a8ffcdea0b8d8e58e8fdacc80a"},
        {HASH_SHA384, 112,
         "187d4e07cb306103c69967bf544d0dfbe9042577599c73c330abc0cb64c61236"
         "d5ed565ee19119d8c31779a38f791fcd"},
        {HASH_SHA512, 111,
         "fa9121c7b32b9e01733d034cfc78cbf67f926c7ed83e82200ef8681819692176"
         "0b4beff48404df811b953828274461673c68d04e297b0eb7b2b4d60fc6b566a2"},
        {HASH_SHA512, 112,
         "c01d080efd492776a1c43bd23dd99d0a2e626d481e16782e75d54c2503b5dc32"
         "bd05f0f1ba33e568b88fd2d970929b719ecbb152f58f130a407c8830604b70ca"},
        {HASH_SHA512, 127,
         "828613968b501dc00a97e08c73b118aa8876c26b8aac93df128502ab360f91ba"
         "b50a51e088769a5c1eff4782ace147dce3642554199876374291f5d921629502"},
        {HASH_SHA512, 128,
         "b73d1929aa615934e61a871596b3f3b33359f42b8175602e89f7e06e5f658a24"
         "3667807ed300314b95cacdd579f3e33abdfbe351909519a846d465c59582f321"},
        {HASH_SHA512, 129,
         "4f681e0bd53cda4b5a2041cc8a06f2eabde44fb16c951fbd5b87702f07aeab61"
         "1565b19c47fde30587177ebb852e3971bbd8d3fd30da18d71037dfbd98420429"},
    };
    uint8_t out[HASH_SIZE_MAX];
    char as[256];

    memset(as, 'a', sizeof(as));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        hash_once(cases[i].type, as, cases[i].n, out);
        CHECK(is_hex(out, hash_size(cases[i].type), cases[i].want));
    }
}

/* However the input is cut, the digest is the same; a peek changes nothing. */
static void test_cuts(void)
{
    uint8_t in[400], whole[HASH_SIZE_MAX], out[HASH_SIZE_MAX];

    rnd_fill(in, sizeof(in));
    for (enum hash_type type = HASH_SHA1; type <= HASH_SHA512; type++) {
        size_t size = hash_size(type);

        for (size_t n = 0; n <= sizeof(in); n += n < 260 ? 1 : 29) {
            size_t step = n / 3 + 1;
            struct hash h, copy;

            hash_once(type, in, n, whole);
            hash_init(&h, type);
            for (size_t at = 0; at < n; at += step) {
                hash_update(&h, in + at, (size_t)min_u64(step, n - at));
                hash_update(&h, NULL, 0);
            }
            hash_peek(&h, out);
            CHECK(ct_eq(out, whole, size));
            copy = h;
            hash_final(&h, out);
            CHECK(ct_eq(out, whole, size));
            CHECK(h.n == 0 && h.block[0] == 0 && h.state.w64[0] == 0);
            hash_final(&copy, out);
            CHECK(ct_eq(out, whole, size));
        }
    }
}

static void test_portable_agrees(void)
{
    uint8_t in[1024], fast[SHA256_SIZE], slow[SHA256_SIZE];

    rnd_fill(in, sizeof(in));
    for (size_t from = 0; from < 5; from++)
        for (size_t n = 0; from + n <= sizeof(in); n += n < 200 ? 1 : 41) {
            hash_once(HASH_SHA256, in + from, n, fast);
            sha256_portable(in + from, n, slow);
            CHECK(ct_eq(fast, slow, sizeof(fast)));
        }
}

/* RFC 4231, 4.2 to 4.8 (4.6 truncates). */
static void test_hmac_known(void)
{
    static const struct {
        const char *key, *in, *sha256, *sha384, *sha512;
    } cases[] = {
        {"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "4869205468657265",
         "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
         "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59c"
         "faea9ea9076ede7f4af152e8b2fa9cb6",
         "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde"
         "daa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854"},
        {"4a656665", "7768617420646f2079612077616e7420666f72206e6f7468696e673f",
         "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
         "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e"
         "8e2240ca5e69e2c78b3239ecfab21649",
         "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
         "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"},
        {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
         "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
         "dddddddddddddddddddddddddddddddddddd",
         "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
         "88062608d3e6ad8a0aa2ace014c8a86f0aa635d947ac9febe83ef4e55966144b"
         "2a5ab39dc13814b94e3ab6e101a34f27",
         "fa73b0089d56a284efb0f0756c890be9b1b5dbdd8ee81a3655f83e33b2279d39"
         "bf3e848279a722c806b485a47e67c807b946a337bee8942674278859e13292fb"},
        {"0102030405060708090a0b0c0d0e0f10111213141516171819",
         "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"
         "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd",
         "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
         "3e8a69b7783c25851933ab6290af6ca77a9981480850009cc5577c6e1f573b4e"
         "6801dd23c4a7d679ccf8a386c674cffb",
         "b0ba465637458c6990e5a8c5f61d4af7e576d97ff94b872de76f8050361ee3db"
         "a91ca5c11aa25eb4d679275cc5788063a5f19741120c4f2de2adebeb10a298dd"},
        {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
         "aaaaaa",
         "54657374205573696e67204c6172676572205468616e20426c6f636b2d53697a"
         "65204b6579202d2048617368204b6579204669727374",
         "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
         "4ece084485813e9088d2c63a041bc5b44f9ef1012a2b588f3cd11f05033ac4c6"
         "0c2ef6ab4030fe8296248df163f44952",
         "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f352"
         "6b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598"},
        {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
         "aaaaaa",
         "5468697320697320612074657374207573696e672061206c6172676572207468"
         "616e20626c6f636b2d73697a65206b657920616e642061206c61726765722074"
         "68616e20626c6f636b2d73697a6520646174612e20546865206b6579206e6565"
         "647320746f20626520686173686564206265666f7265206265696e6720757365"
         "642062792074686520484d414320616c676f726974686d2e",
         "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
         "6617178e941f020d351e2f254e8fd32c602420feb0b8fb9adccebb82461e99c5"
         "a678cc31e799176d3860e6110c46523e",
         "e37b6a775dc87dbaa4dfa9f96e5e3ffddebd71f8867289865df5a32d20cdc944"
         "b6022cac3c4982b10d5eeb55c3e4de15134676fb6de0446065c97440fa8c6a58"},
    };
    uint8_t out[HASH_SIZE_MAX];

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf key = unhex(cases[i].key), in = unhex(cases[i].in);

        hmac_once(HASH_SHA256, key.data, key.len, in.data, in.len, out);
        CHECK(is_hex(out, SHA256_SIZE, cases[i].sha256));
        hmac_once(HASH_SHA384, key.data, key.len, in.data, in.len, out);
        CHECK(is_hex(out, SHA384_SIZE, cases[i].sha384));
        hmac_once(HASH_SHA512, key.data, key.len, in.data, in.len, out);
        CHECK(is_hex(out, SHA512_SIZE, cases[i].sha512));
        buf_release(&key);
        buf_release(&in);
    }
}

/* RFC 5869, A.1 to A.3, and the longest output. */
static void test_hkdf_known(void)
{
    static const struct {
        const char *secret, *salt, *info, *prk, *okm;
    } cases[] = {
        {"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
         "000102030405060708090a0b0c", "f0f1f2f3f4f5f6f7f8f9",
         "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
         "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
         "34007208d5b887185865"},
        {"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
         "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"
         "404142434445464748494a4b4c4d4e4f",
         "606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f"
         "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"
         "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf",
         "b0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecf"
         "d0d1d2d3d4d5d6d7d8d9dadbdcdddedfe0e1e2e3e4e5e6e7e8e9eaebecedeeef"
         "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
         "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
         "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
         "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
         "cc30c58179ec3e87c14c01d5c1f3434f1d87"},
        {"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "", "",
         "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
         "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
         "9d201395faa4b61a96c8"},
    };
    uint8_t prk[SHA256_SIZE], *longest = xmalloc(255 * SHA256_SIZE + 1);

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf secret = unhex(cases[i].secret);
        struct buf salt = unhex(cases[i].salt), info = unhex(cases[i].info);
        uint8_t okm[82];
        size_t n = strlen(cases[i].okm) / 2;

        hkdf_extract(HASH_SHA256, salt.data, salt.len, secret.data, secret.len,
                     prk);
        CHECK(is_hex(prk, sizeof(prk), cases[i].prk));
        CHECK(hkdf_expand(HASH_SHA256, prk, sizeof(prk), info.data, info.len,
                          okm, n));
        CHECK(is_hex(okm, n, cases[i].okm));
        buf_release(&secret);
        buf_release(&salt);
        buf_release(&info);
    }
    CHECK(hkdf_expand(HASH_SHA256, prk, sizeof(prk), "", 0, longest,
                      255 * SHA256_SIZE));
    CHECK(!hkdf_expand(HASH_SHA256, prk, sizeof(prk), "", 0, longest,
                       255 * SHA256_SIZE + 1));
    free(longest);
}

static void test_secrets(void)
{
    uint8_t a[40], b[40];

    rnd_fill(a, sizeof(a));
    memcpy(b, a, sizeof(a));
    CHECK(ct_eq(a, b, sizeof(a)));
    CHECK(ct_eq(a, b, 0));
    for (size_t i = 0; i < 8 * sizeof(a); i++) {
        b[i / 8] ^= (uint8_t)(1 << i % 8);
        CHECK(!ct_eq(a, b, sizeof(a)));
        b[i / 8] ^= (uint8_t)(1 << i % 8);
    }
    wipe(a, sizeof(a) - 1);
    memset(b, 0, sizeof(b) - 1);
    CHECK(ct_eq(a, b, sizeof(a)) && a[sizeof(a) - 1] != 0);
}

/* --- Wycheproof. --------------------------------------------------------- */

static enum hash_type wycheproof_hash; /* of the file that is run */

/* Tags may be cut short; we only compute whole ones. */
static enum wycheproof_verdict hmac_verdict(const struct json *group,
                                            const struct json *test)
{
    struct buf key = wycheproof_bytes(test, "key");
    struct buf msg = wycheproof_bytes(test, "msg");
    struct buf tag = wycheproof_bytes(test, "tag");
    uint8_t out[HASH_SIZE_MAX];
    bool same;

    (void)group;
    hmac_once(wycheproof_hash, key.data, key.len, msg.data, msg.len, out);
    same = tag.len > 0 && tag.len <= hash_size(wycheproof_hash) &&
           ct_eq(out, tag.data, tag.len);
    buf_release(&key);
    buf_release(&msg);
    buf_release(&tag);
    return same ? WYCHEPROOF_ACCEPTED : WYCHEPROOF_REFUSED;
}

static enum wycheproof_verdict hkdf_verdict(const struct json *group,
                                            const struct json *test)
{
    struct buf secret = wycheproof_bytes(test, "ikm");
    struct buf salt = wycheproof_bytes(test, "salt");
    struct buf info = wycheproof_bytes(test, "info");
    struct buf okm = wycheproof_bytes(test, "okm"), out = {0};
    size_t n = (size_t)wycheproof_number(test, "size");
    uint8_t prk[HASH_SIZE_MAX];
    bool same;

    (void)group;
    buf_reserve(&out, n);
    hkdf_extract(wycheproof_hash, salt.data, salt.len, secret.data, secret.len,
                 prk);
    same = hkdf_expand(wycheproof_hash, prk, hash_size(wycheproof_hash),
                       info.data, info.len, out.data, n) &&
           okm.len == n && ct_eq(out.data, okm.data, n);
    buf_release(&secret);
    buf_release(&salt);
    buf_release(&info);
    buf_release(&okm);
    buf_release(&out);
    return same ? WYCHEPROOF_ACCEPTED : WYCHEPROOF_REFUSED;
}

static void test_wycheproof(void)
{
    static const struct {
        enum hash_type type;
        const char *file;
        wycheproof_fn *fn;
    } files[] = {
        {HASH_SHA1, "hmac_sha1.json", hmac_verdict},
        {HASH_SHA256, "hmac_sha256.json", hmac_verdict},
        {HASH_SHA384, "hmac_sha384.json", hmac_verdict},
        {HASH_SHA256, "hkdf_sha256.json", hkdf_verdict},
        {HASH_SHA384, "hkdf_sha384.json", hkdf_verdict},
    };

    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        wycheproof_hash = files[i].type;
        wycheproof_run(files[i].file, files[i].fn, NULL);
    }
}

int main(void)
{
    test_known();
    test_block_ends();
    test_cuts();
    test_portable_agrees();
    test_hmac_known();
    test_hkdf_known();
    test_secrets();
    test_wycheproof();
    return check_done("hash");
}
