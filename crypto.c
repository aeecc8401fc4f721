/*
 * crypto.c - checksums, encodings and password hashes.
 *
 * CRC-32C is on the path of every write, so it has three bodies: eight tables
 * that take eight bytes a step (Kounavis and Berry, "slicing-by-8"), and the
 * instructions of SSE4.2 and of ARMv8, chosen at run time. The tables are
 * computed when they are first needed, as is Blowfish's initial state, which
 * is the digits of pi: cheaper to compute, and to trust, than to list.
 *
 * Everything else here is rare and plainly written.
 */
#include "crypto.h"

#include "hash.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

/* --- CRC-32C. ----------------------------------------------------------- */

#define CRC_POLY UINT32_C(0x82f63b78) /* Castagnoli's, bits reflected */

static uint32_t crc_table[8][256]; /* [k]: a byte followed by k zeros */

/* Spelled out: compilers make one load of this, but not of a loop. */
static void crc_table_init(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;

        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? CRC_POLY : 0);
        crc_table[0][i] = crc;
    }
    for (int k = 1; k < 8; k++)
        for (int i = 0; i < 256; i++) {
            uint32_t crc = crc_table[k - 1][i];

            crc_table[k][i] = crc >> 8 ^ crc_table[0][crc & 0xff];
        }
}

static uint32_t crc_sliced(uint32_t crc, const uint8_t *p, size_t n)
{
    for (; n >= 8; p += 8, n -= 8) {
        uint64_t v = get_u64le(p) ^ crc;

        crc = crc_table[7][v & 0xff] ^ crc_table[6][v >> 8 & 0xff] ^
              crc_table[5][v >> 16 & 0xff] ^ crc_table[4][v >> 24 & 0xff] ^
              crc_table[3][v >> 32 & 0xff] ^ crc_table[2][v >> 40 & 0xff] ^
              crc_table[1][v >> 48 & 0xff] ^ crc_table[0][v >> 56];
    }
    for (; n > 0; p++, n--)
        crc = crc >> 8 ^ crc_table[0][(crc ^ *p) & 0xff];
    return crc;
}

#if defined(__x86_64__) || defined(__i386__)

#define HAVE_CRC_FAST 1

static bool crc_fast_works(void)
{
    return __builtin_cpu_supports("sse4.2");
}

__attribute__((target("sse4.2"))) static uint32_t
crc_fast(uint32_t crc, const uint8_t *p, size_t n)
{
#ifdef __x86_64__
    uint64_t wide = crc;

    for (; n >= 8; p += 8, n -= 8)
        wide = __builtin_ia32_crc32di(wide, get_u64le(p));
    crc = (uint32_t)wide;
#else
    for (; n >= 4; p += 4, n -= 4)
        crc = __builtin_ia32_crc32si(crc, get_u32le(p));
#endif
    for (; n > 0; p++, n--)
        crc = __builtin_ia32_crc32qi(crc, *p);
    return crc;
}

#elif defined(__aarch64__) && defined(__linux__)

#define HAVE_CRC_FAST 1
#define HWCAP_CRC32_BIT (1UL << 7) /* HWCAP_CRC32 of <asm/hwcap.h> */

static bool crc_fast_works(void)
{
    return getauxval(AT_HWCAP) & HWCAP_CRC32_BIT;
}

/* In assembly, since the names of the intrinsics depend on the compiler. */
static uint32_t crc_fast(uint32_t crc, const uint8_t *p, size_t n)
{
    for (; n >= 8; p += 8, n -= 8)
        __asm__(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1"
                : "+r"(crc)
                : "r"(get_u64le(p)));
    for (; n > 0; p++, n--)
        __asm__(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1"
                : "+r"(crc)
                : "r"((uint32_t)*p));
    return crc;
}

#endif

static uint32_t (*crc_body)(uint32_t, const uint8_t *, size_t);
static pthread_once_t crc_once = PTHREAD_ONCE_INIT;

static void crc_choose(void)
{
#ifdef HAVE_CRC_FAST
    if (crc_fast_works()) {
        crc_body = crc_fast;
        return;
    }
#endif
    crc_table_init();
    crc_body = crc_sliced;
}

uint32_t crc32c(uint32_t crc, const void *p, size_t n)
{
    pthread_once(&crc_once, crc_choose);
    return ~crc_body(~crc, p, n);
}

uint32_t crc32c_portable(uint32_t crc, const void *p, size_t n)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&crc_once, crc_choose);
    if (crc_body != crc_sliced)
        pthread_once(&once, crc_table_init);
    return ~crc_sliced(~crc, p, n);
}

/* a * b modulo the polynomial; bit 31 stands for x^0, as in the sum itself. */
static uint32_t crc_multiply(uint32_t a, uint32_t b)
{
    uint32_t product = 0;

    for (uint32_t bit = UINT32_C(1) << 31; bit; bit >>= 1) {
        if (a & bit)
            product ^= b;
        b = b >> 1 ^ (b & 1 ? CRC_POLY : 0);
    }
    return product;
}

/*
 * A sum is the bytes as a polynomial, modulo CRC_POLY. To append b is to
 * multiply the sum of a by x^(8 * n_b), by repeated squaring, and to add b's.
 */
uint32_t crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t n_b)
{
    uint32_t power = UINT32_C(1) << (31 - 8); /* x^8: one byte */

    for (; n_b; n_b >>= 1) {
        if (n_b & 1)
            crc_a = crc_multiply(crc_a, power);
        power = crc_multiply(power, power);
    }
    return crc_a ^ crc_b;
}

/* --- Base64. ------------------------------------------------------------ */

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char bcrypt_digits[] =
    "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/* One to three bytes as n + 1 digits. */
static inline size_t digits_of(char *out, const char *digits, const uint8_t *p,
                               size_t n)
{
    uint32_t v = (uint32_t)p[0] << 16;

    if (n > 1)
        v |= (uint32_t)p[1] << 8;
    if (n > 2)
        v |= p[2];
    for (size_t i = 0; i <= n; i++)
        out[i] = digits[v >> (18 - 6 * i) & 63];
    return n + 1;
}

/*
 * Two to four digits as n - 1 bytes; 0 if one is not a digit. Bits left over
 * in the last digit do not matter, as in Go.
 */
static size_t bytes_of(uint8_t *out, const char *digits, const char *p,
                       size_t n)
{
    uint32_t v = 0;

    for (size_t i = 0; i < n; i++) {
        const char *at = p[i] ? strchr(digits, p[i]) : NULL;

        if (!at)
            return 0;
        v |= (uint32_t)(at - digits) << (18 - 6 * i);
    }
    for (size_t i = 0; i + 1 < n; i++)
        out[i] = (uint8_t)(v >> (16 - 8 * i));
    return n - 1;
}

void base64_encode(struct buf *b, const void *p, size_t n)
{
    const uint8_t *in = p;

    if (n == 0)
        return;
    buf_reserve(b, (n + 2) / 3 * 4);
    for (; n >= 3; n -= 3, in += 3, b->len += 4)
        digits_of((char *)b->data + b->len, base64_digits, in, 3);
    if (n > 0) {
        memset(b->data + b->len, '=', 4);
        digits_of((char *)b->data + b->len, base64_digits, in, n);
        b->len += 4;
    }
}

/* A character's six bits, plus one; 0 if it has none. */
/* clang-format off */
#define UP_TO_5(c, v) [(c)] = (v) + 1, [(c) + 1] = (v) + 2, [(c) + 2] = (v) + 3, [(c) + 3] = (v) + 4, [(c) + 4] = (v) + 5
static const uint8_t base64_values[256] = {
    UP_TO_5('A', 0), UP_TO_5('F', 5), UP_TO_5('K', 10), UP_TO_5('P', 15), UP_TO_5('U', 20), ['Z'] = 26,
    UP_TO_5('a', 26), UP_TO_5('f', 31), UP_TO_5('k', 36), UP_TO_5('p', 41), UP_TO_5('u', 46), ['z'] = 52,
    UP_TO_5('0', 52), UP_TO_5('5', 57), ['+'] = 63, ['/'] = 64,
};
#undef UP_TO_5
/* clang-format on */

static size_t skip_line_ends(struct str s, size_t at)
{
    while (at < s.n && (s.p[at] == '\n' || s.p[at] == '\r'))
        at++;
    return at;
}

/*
 * The end of s from the first '=' at s.p[at] on, after `digits` digits of the
 * last group. True if it is well-formed.
 */
static bool base64_end(struct str s, size_t at, unsigned digits, size_t *bad)
{
    *bad = at++;
    if (digits < 2)
        return false;
    if (digits == 2) { /* a second one is due */
        at = skip_line_ends(s, at);
        *bad = at == s.n ? at : at - 1;
        if (at == s.n || s.p[at] != '=')
            return false;
        at++;
    }
    *bad = skip_line_ends(s, at);
    return *bad == s.n;
}

bool base64_read(struct str s, uint8_t *out, size_t *n, size_t *bad)
{
    unsigned digits = 0; /* of the group that is under way, in v */
    uint32_t v = 0;
    size_t at, len = 0;

    for (at = 0; at < s.n && s.p[at] != '='; at++) {
        uint8_t six = base64_values[(uint8_t)s.p[at]];

        if (six == 0) {
            if (s.p[at] == '\n' || s.p[at] == '\r')
                continue;
            *bad = at;
            return false;
        }
        v = v << 6 | (uint32_t)(six - 1);
        if (++digits < 4)
            continue;
        out[len++] = (uint8_t)(v >> 16);
        out[len++] = (uint8_t)(v >> 8);
        out[len++] = (uint8_t)v;
        digits = 0;
    }
    if (at == s.n && digits > 0) {
        *bad = at - digits; /* a group without its end */
        return false;
    }
    if (at < s.n && !base64_end(s, at, digits, bad))
        return false;
    if (digits > 0) {
        v <<= 6 * (4 - digits);
        out[len++] = (uint8_t)(v >> 16);
        if (digits > 2)
            out[len++] = (uint8_t)(v >> 8);
    }
    *n = len;
    return true;
}

int base64_decode(struct buf *b, struct str s)
{
    size_t n, bad;

    buf_reserve(b, base64_room(s.n));
    if (!base64_read(s, b->data + b->len, &n, &bad))
        return -1;
    b->len += n;
    return 0;
}

/* --- The digits of pi. -------------------------------------------------- */

/*
 * Blowfish begins with the first 1042 words, 33,344 bits, of the fraction of
 * pi. By Machin, pi = 16 atan(1/5) - 4 atan(1/239), in fixed point: word 0 is
 * the integer, two words beyond the last absorb the error, which is less than
 * one unit in the last place for each of some 19,000 divisions.
 */
#define BLOWFISH_P 18
#define BLOWFISH_S 1024
#define PI_WORDS (1 + BLOWFISH_P + BLOWFISH_S + 2)

struct blowfish {
    uint32_t p[BLOWFISH_P];
    uint32_t s[BLOWFISH_S]; /* four boxes of 256 */
};

static struct blowfish pi_digits;

/* x /= d from word `from` on, where the first nonzero one is; returns that of
 * the quotient, PI_WORDS if it is zero. */
static size_t fixed_divide(uint32_t *out, const uint32_t *x, uint32_t d,
                           size_t from)
{
    uint64_t rest = 0;

    for (size_t i = from; i < PI_WORDS; i++) {
        rest = rest << 32 | x[i];
        out[i] = (uint32_t)(rest / d);
        rest %= d;
    }
    while (from < PI_WORDS && out[from] == 0)
        from++;
    return from;
}

/* sum += x, or sum -= x; x is zero before word `from`. */
static void fixed_add(uint32_t *sum, const uint32_t *x, size_t from)
{
    uint64_t carry = 0;

    for (size_t i = PI_WORDS; i-- > 0 && (i >= from || carry);) {
        carry += (uint64_t)sum[i] + (i >= from ? x[i] : 0);
        sum[i] = (uint32_t)carry;
        carry >>= 32;
    }
}

static void fixed_subtract(uint32_t *sum, const uint32_t *x, size_t from)
{
    uint64_t borrow = 0;

    for (size_t i = PI_WORDS; i-- > 0 && (i >= from || borrow);) {
        uint64_t take = (i >= from ? x[i] : 0) + borrow;

        borrow = take > sum[i];
        sum[i] = (uint32_t)(sum[i] - take);
    }
}

/* sum += factor * atan(1/x), or -= if minus: factor * (1/x - 1/3x^3 + ...).
 * power and term are scratch. */
static void fixed_add_atan(uint32_t *sum, uint32_t factor, uint32_t x,
                           bool minus, uint32_t *power, uint32_t *term)
{
    size_t from;

    memset(power, 0, PI_WORDS * sizeof(*power));
    power[0] = factor;
    from = fixed_divide(power, power, x, 0);
    for (uint32_t k = 1; from < PI_WORDS; k += 2, minus = !minus) {
        fixed_divide(term, power, k, from);
        if (minus)
            fixed_subtract(sum, term, from);
        else
            fixed_add(sum, term, from);
        from = fixed_divide(power, power, x * x, from);
    }
}

static void pi_init(void)
{
    uint32_t *sum = xcalloc((size_t)3 * PI_WORDS, sizeof(*sum));
    uint32_t *power = sum + PI_WORDS, *term = power + PI_WORDS;

    fixed_add_atan(sum, 16, 5, false, power, term);
    fixed_add_atan(sum, 4, 239, true, power, term);
    assert(sum[0] == 3);
    memcpy(pi_digits.p, sum + 1, sizeof(pi_digits.p));
    memcpy(pi_digits.s, sum + 1 + BLOWFISH_P, sizeof(pi_digits.s));
    free(sum);
}

/* --- bcrypt. ------------------------------------------------------------ */

#define BCRYPT_SALT 16
#define BCRYPT_DIGEST 23 /* of 24 bytes; the last was never kept */
#define BCRYPT_PREFIX 7  /* "$2a$10$" */
#define BCRYPT_SALT_CHARS 22
#define BCRYPT_HASH_CHARS 31
#define BCRYPT_KEY_MAX 72 /* bytes of the password that count, with its NUL */

static uint32_t blowfish_f(const struct blowfish *b, uint32_t x)
{
    return ((b->s[x >> 24] + b->s[256 + (x >> 16 & 0xff)]) ^
            b->s[512 + (x >> 8 & 0xff)]) +
           b->s[768 + (x & 0xff)];
}

static void blowfish_encrypt(const struct blowfish *b, uint32_t lr[2])
{
    uint32_t l = lr[0], r = lr[1];

    for (int i = 0; i < 16; i += 2) {
        l ^= b->p[i];
        r ^= blowfish_f(b, l);
        r ^= b->p[i + 1];
        l ^= blowfish_f(b, r);
    }
    lr[0] = r ^ b->p[17];
    lr[1] = l ^ b->p[16];
}

/* The next four bytes of a key that repeats, most significant first. */
static uint32_t next_word(const uint8_t *key, size_t n, size_t *at)
{
    uint32_t w = 0;

    for (int i = 0; i < 4; i++) {
        w = w << 8 | key[*at];
        *at = *at + 1 == n ? 0 : *at + 1;
    }
    return w;
}

/* Mix the key in, then replace all words by a chain of encryptions; the salt,
 * if any, is mixed into each link. */
static void expand_key(struct blowfish *b, const uint8_t *salt,
                       const uint8_t *key, size_t n_key)
{
    uint32_t lr[2] = {0, 0};
    size_t at = 0, salt_at = 0;

    for (int i = 0; i < BLOWFISH_P; i++)
        b->p[i] ^= next_word(key, n_key, &at);
    for (int i = 0; i < BLOWFISH_P + BLOWFISH_S; i += 2) {
        uint32_t *to = i < BLOWFISH_P ? &b->p[i] : &b->s[i - BLOWFISH_P];

        if (salt) {
            lr[0] ^= next_word(salt, BCRYPT_SALT, &salt_at);
            lr[1] ^= next_word(salt, BCRYPT_SALT, &salt_at);
        }
        blowfish_encrypt(b, lr);
        to[0] = lr[0];
        to[1] = lr[1];
    }
}

static void bcrypt_digest(struct str password, int cost,
                          const uint8_t salt[BCRYPT_SALT],
                          uint8_t out[BCRYPT_DIGEST + 1])
{
    static const char magic[] = "OrpheanBeholderScryDoubt";
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct blowfish *b = xmalloc(sizeof(*b));
    uint8_t key[BCRYPT_KEY_MAX] = {0};
    size_t n = password.n < BCRYPT_KEY_MAX ? password.n : BCRYPT_KEY_MAX;
    size_t n_key = n < BCRYPT_KEY_MAX ? n + 1 : n;

    if (n)
        memcpy(key, password.p, n);
    pthread_once(&once, pi_init);
    *b = pi_digits;
    expand_key(b, salt, key, n_key);
    for (uint64_t i = UINT64_C(1) << cost; i > 0; i--) {
        expand_key(b, NULL, key, n_key);
        expand_key(b, NULL, salt, BCRYPT_SALT);
    }
    for (int i = 0; i < BCRYPT_DIGEST + 1; i += 8) {
        uint32_t lr[2] = {get_u32be((const uint8_t *)magic + i),
                          get_u32be((const uint8_t *)magic + i + 4)};

        for (int round = 0; round < 64; round++)
            blowfish_encrypt(b, lr);
        put_u32be(out + i, lr[0]);
        put_u32be(out + i + 4, lr[1]);
    }
    explicit_bzero(key, sizeof(key));
    explicit_bzero(b, sizeof(*b));
    free(b);
}

static void bcrypt_base64(char *out, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i += 3)
        out += digits_of(out, bcrypt_digits, p + i, n - i < 3 ? n - i : 3);
}

void bcrypt_hash(struct str password, int cost, const uint8_t salt[16],
                 char out[BCRYPT_HASH_SIZE])
{
    uint8_t digest[BCRYPT_DIGEST + 1];

    assert(cost >= 4);
    assert(cost <= 31);
    bcrypt_digest(password, cost, salt, digest);
    snprintf(out, BCRYPT_HASH_SIZE, "$2a$%02d$", cost);
    bcrypt_base64(out + BCRYPT_PREFIX, salt, BCRYPT_SALT);
    bcrypt_base64(out + BCRYPT_PREFIX + BCRYPT_SALT_CHARS, digest,
                  BCRYPT_DIGEST);
    out[BCRYPT_HASH_SIZE - 1] = '\0';
}

/* "$2a$10$" and 22 digits of salt; 2b and 2y mean the same to us, who never
 * had the faults that those names mark as mended. */
static bool bcrypt_parse(struct str hash, int *cost, uint8_t salt[BCRYPT_SALT])
{
    const char *p = hash.p;

    if (hash.n != BCRYPT_HASH_SIZE - 1 || p[0] != '$' || p[1] != '2' ||
        (p[2] != 'a' && p[2] != 'b' && p[2] != 'y') || p[3] != '$' ||
        p[4] < '0' || p[4] > '3' || p[5] < '0' || p[5] > '9' || p[6] != '$')
        return false;
    *cost = (p[4] - '0') * 10 + (p[5] - '0');
    if (*cost < 4 || *cost > 31)
        return false;
    p += BCRYPT_PREFIX;
    for (size_t i = 0; i < BCRYPT_SALT; i += 3) {
        size_t n = BCRYPT_SALT - i < 3 ? 2 : 4;

        if (bytes_of(salt + i, bcrypt_digits, p, n) == 0)
            return false;
        p += n;
    }
    return true;
}

bool bcrypt_check(struct str password, struct str hash)
{
    uint8_t salt[BCRYPT_SALT], digest[BCRYPT_DIGEST + 1];
    char want[BCRYPT_HASH_CHARS + 1];
    const char *have;
    int cost;

    if (!bcrypt_parse(hash, &cost, salt))
        return false;
    bcrypt_digest(password, cost, salt, digest);
    bcrypt_base64(want, digest, BCRYPT_DIGEST);
    have = hash.p + hash.n - BCRYPT_HASH_CHARS;
    return ct_eq(want, have, BCRYPT_HASH_CHARS);
}
