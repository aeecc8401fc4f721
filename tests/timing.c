/*
 * timing.c - that time does not depend on secrets, measured: dudect's test
 * (Reparaz, Balasch, Verbauwhede 2017, "Dude, is my code constant time?").
 *
 *   timing [NAME...]    all, or these; `make timing`
 *
 * Calls with a fixed secret and with a random one take turns at random, so
 * that what else the machine does falls on both. Welch's t says whether their
 * mean times differ: of all calls, and of those below each of a hundred
 * percentiles, since interruptions have long tails. Beyond T_MAX they do. What
 * is beyond is measured once more: a leak comes again, a hiccup does not.
 * ct_test looks at the same functions by another way, which needs no luck.
 */
#include "aead.h"
#include "bignum.h"
#include "curve25519.h"
#include "ec.h"
#include "hash.h"
#include "rsa.h"
#include "sys.h"

#include "hex.h"
#include "rsakeys.h"

#include <math.h>
#include <stdio.h>

#define T_MAX 10.0 /* dudect's */
#define N_CROPS 100
#define ENOUGH 500 /* calls of a class, for t to mean something */
#define EXP_LIMBS BN_LIMBS(1024)

/* --- Calls. ----------------------------------------------------------------- */

static struct work { /* one place for both classes: caches see no difference */
    uint8_t secret[2 * EC_SIZE_MAX], random[32], out[RSA_SIZE_MAX];
    uint8_t digest[HASH_SIZE_MAX];
    struct ed25519_key ed25519;
    struct aead aead;
    size_t n_out;
} w;

static struct rsa_private rsa;
static struct bn_mod exp_mod;
static bn_limb exp_rr[EXP_LIMBS], exp_base[EXP_LIMBS];
static uint8_t base_point[3][EC_POINT_MAX], constant[64];

static void do_leak(void) /* as nobody should compare: it must be seen */
{
    volatile bool same = true;

    for (size_t i = 0; i < 64 && same; i++)
        same = w.secret[i] == constant[i];
}

static void do_compare(void)
{
    w.out[0] = ct_eq(w.secret, constant, sizeof(constant));
}

static void seal_init_aes(void)
{
    aead_init_portable(&w.aead, AEAD_AES_128_GCM, w.secret);
}

static void seal_init_chacha(void)
{
    aead_init_portable(&w.aead, AEAD_CHACHA20_POLY1305, w.secret);
}

static void do_seal(void)
{
    struct str part = {(const char *)constant, sizeof(constant)};

    aead_seal(&w.aead, w.random, STR("aad"), &part, 1, w.out, w.out + 64);
}

static void do_hmac(void)
{
    hmac_once(HASH_SHA256, w.secret, 32, constant, sizeof(constant), w.out);
}

static void do_x25519(void)
{
    x25519(w.secret, constant, w.out);
}

static void init_ed25519(void)
{
    ed25519_init(&w.ed25519, w.secret);
}

static void do_ed25519(void)
{
    ed25519_sign(&w.ed25519, constant, sizeof(constant), w.out);
}

static void below_order(void) /* of each curve; and not zero */
{
    w.secret[0] = 0;
    w.secret[1] &= 0x7f;
    w.secret[31] |= 1;
}

static void do_ecdh(enum ec_curve c)
{
    ec_ecdh(c, w.secret, base_point[c], ec_point_size(c), w.out);
}

static void do_ecdsa(enum ec_curve c)
{
    ec_sign(c, w.secret, HASH_SHA512, constant, w.random, 32, w.out, &w.n_out);
}

static void do_base(enum ec_curve c) /* what a nonce goes through, too */
{
    ec_public(c, w.secret, w.out);
}

static void do_base256(void)
{
    do_base(EC_P256);
}

static void do_base384(void)
{
    do_base(EC_P384);
}

static void do_base521(void)
{
    do_base(EC_P521);
}

static void do_ecdh256(void)
{
    do_ecdh(EC_P256);
}

static void do_ecdh384(void)
{
    do_ecdh(EC_P384);
}

static void do_ecdh521(void)
{
    do_ecdh(EC_P521);
}

static void do_ecdsa256(void)
{
    do_ecdsa(EC_P256);
}

static void do_ecdsa384(void)
{
    do_ecdsa(EC_P384);
}

static void do_ecdsa521(void)
{
    do_ecdsa(EC_P521);
}

static void do_exp(void) /* the exponent is what RSA keeps secret */
{
    static bn_limb table[BN_EXP_ENTRIES * EXP_LIMBS], r[EXP_LIMBS];

    bn_mod_exp(r, exp_base, w.secret, 128, &exp_mod, table);
}

static void do_rsa(void) /* here it is what is signed */
{
    rsa_sign(&rsa, RSA_PKCS1, HASH_SHA256, w.secret, w.random, w.out);
}

static const struct target {
    const char *name;
    void (*init)(void); /* from w.secret, not measured; or NULL */
    void (*call)(void);
    size_t n_calls;
} targets[] = {
    {"leak", NULL, do_leak, 20000},
    {"compare", NULL, do_compare, 100000},
    {"hmac", NULL, do_hmac, 50000},
    {"aes-gcm", seal_init_aes, do_seal, 30000},
    {"chacha20", seal_init_chacha, do_seal, 50000},
    {"x25519", NULL, do_x25519, 20000},
    {"ed25519", init_ed25519, do_ed25519, 20000},
    {"ecdh-p256", below_order, do_ecdh256, 10000},
    {"ecdh-p384", below_order, do_ecdh384, 4000},
    {"ecdh-p521", below_order, do_ecdh521, 2000},
    {"base-p256", below_order, do_base256, 20000},
    {"base-p384", below_order, do_base384, 10000},
    {"base-p521", below_order, do_base521, 4000},
    {"ecdsa-p256", below_order, do_ecdsa256, 20000},
    {"ecdsa-p384", below_order, do_ecdsa384, 10000},
    {"ecdsa-p521", below_order, do_ecdsa521, 4000},
    {"modexp", NULL, do_exp, 8000},
    {"rsa-2048", NULL, do_rsa, 4000},
};

static void prepare(void)
{
    static bn_limb m[EXP_LIMBS];
    uint8_t one[EC_SIZE_MAX] = {0};
    struct rsa_key_bytes bytes;

    rsa_key_load(&bytes, &rsa_keys[0]);
    if (rsa_private_set(&rsa, &bytes.parts) < 0)
        abort();
    rsa_key_release(&bytes);
    bn_from_bytes(m, EXP_LIMBS, rsa.p, 128);
    bn_mod_init(&exp_mod, m, exp_rr, EXP_LIMBS);
    memcpy(exp_base, exp_rr, sizeof(exp_base));
    for (int c = EC_P256; c <= EC_P521; c++) {
        memset(one, 0, sizeof(one));
        one[ec_size(c) - 1] = 1;
        ec_public(c, one, base_point[c]);
    }
}

/* --- Time. ------------------------------------------------------------------ */

static uint64_t now(void)
{
#if defined(__x86_64__)
    __builtin_ia32_lfence();
    return __builtin_ia32_rdtsc();
#else
    return (uint64_t)sys_mono_ns();
#endif
}

struct sample {
    double time;
    int random; /* the class */
};

/*
 * The fixed secret is zero, of which a shortcut would have least to do. Both
 * classes are prepared by the same instructions: a branch here would show.
 */
static void measure(const struct target *t, struct sample *out)
{
    for (size_t i = 0; i < t->n_calls; i++) {
        uint64_t start;
        uint8_t mask;

        sys_random(w.secret, sizeof(w.secret));
        sys_random(w.random, sizeof(w.random));
        out[i].random = w.random[0] & 1;
        mask = (uint8_t)-out[i].random;
        __asm__("" : "+r"(mask)); /* not to become a branch */
        for (size_t k = 0; k < sizeof(w.secret); k++)
            w.secret[k] &= mask;
        if (t->init)
            t->init();
        start = now();
        t->call();
        out[i].time = (double)(now() - start);
    }
}

/* --- Statistics. ------------------------------------------------------------- */

static int by_time(const void *a, const void *b)
{
    double x = ((const struct sample *)a)->time;
    double y = ((const struct sample *)b)->time;

    return (x > y) - (x < y);
}

/* Welch's t of the first n; 0 while there are too few. */
static double welch(const struct sample *s, size_t n)
{
    double count[2] = {0}, mean[2] = {0}, m2[2] = {0};

    for (size_t i = 0; i < n; i++) { /* Welford's sums */
        int c = s[i].random;
        double d = s[i].time - mean[c];

        count[c]++;
        mean[c] += d / count[c];
        m2[c] += d * (s[i].time - mean[c]);
    }
    if (count[0] < ENOUGH || count[1] < ENOUGH)
        return 0;
    for (int c = 0; c < 2; c++)
        m2[c] /= (count[c] - 1) * count[c];
    return m2[0] + m2[1] > 0 ? (mean[0] - mean[1]) / sqrt(m2[0] + m2[1]) : 0;
}

/* The largest |t| of all calls and of the quickest parts of them. */
static double largest_t(struct sample *s, size_t n)
{
    double worst = fabs(welch(s, n));

    qsort(s, n, sizeof(*s), by_time);
    for (int i = 0; i < N_CROPS; i++) {
        double part = 1 - pow(0.5, 10.0 * (i + 1) / N_CROPS);
        double limit = s[(size_t)(part * (double)(n - 1))].time;
        size_t k = 0;

        while (k < n && s[k].time <= limit) /* ties stay together */
            k++;
        worst = fmax(worst, fabs(welch(s, k)));
    }
    return worst;
}

static bool leaks(const struct target *t)
{
    struct sample *s = xcalloc(t->n_calls, sizeof(*s));
    double worst = 0;

    for (int try = 0; try < 2; try++) {
        measure(t, s);
        worst = largest_t(s, t->n_calls);
        printf("%-12s %7zu calls  |t| %8.2f\n", t->name, t->n_calls, worst);
        fflush(stdout);
        if (worst < T_MAX || t->call == do_leak)
            break;
    }
    free(s);
    return worst >= T_MAX;
}

static bool wanted(const char *name, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return true;
    return argc == 1;
}

int main(int argc, char **argv)
{
    int failed = 0;

    prepare();
    for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
        const struct target *t = &targets[i];
        bool must = t->call == do_leak;

        if (!wanted(t->name, argc, argv) || leaks(t) == must)
            continue;
        printf("%s: %s\n", t->name,
               must ? "this leak was not seen" : "its time tells a secret");
        failed = 1;
    }
    return failed;
}
