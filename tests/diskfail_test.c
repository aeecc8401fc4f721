/*
 * diskfail_test.c - system calls fail, one after another, while a member lives
 * on its disk (diskscript.h): once, or from then on; the disk is full; calls
 * are interrupted, or do less than was asked.
 *
 * The member must go on as if nothing had been, or report what failed, and
 * end. Whatever was acknowledged then is there at the next boot, whether the
 * power fails with it or not. What counts is each acknowledgement by itself:
 * the first one behind the failure is looked at as soon as it is given, since
 * a later sync might cover up for one that was forgotten.
 *
 *   diskfail_test [--long] [--seed N]
 */
#include "diskscript.h"

#include "check.h"
#include "sys.h"

#include <errno.h>
#include <inttypes.h>

static int stride = 2, seeds = 2; /* one in so many calls fails */
#define STEPS 14

static struct {
    uint64_t runs, reported, unharmed, boots;
} count;

enum { FOREVER = -1 };

struct fault {
    uint64_t at; /* the call that fails; 0: none does */
    int error, times;
    bool shorten; /* every read and write, instead */

    const struct script *script;
    uint64_t calls;
    enum simdisk_op op; /* of the first that failed */
    bool failed, looked;
    size_t acked; /* when it did */
};

static enum simdisk_fate lose_some(void *arg, enum simdisk_op op,
                                   const char *path, uint64_t offset, size_t n)
{
    (void)op, (void)path, (void)offset, (void)n;
    return script_random(arg) & 1 ? SIMDISK_LOST : SIMDISK_KEPT;
}

/* Boot from what is there now, or would be behind a power failure. */
static void check_boot(const struct fault *f, const struct simdisk *d,
                       simdisk_choose *choose, const char *when)
{
    struct simdisk *c = simdisk_copy(d, "image");
    uint64_t dice = f->at;
    enum script_result rc;
    struct script t;

    count.boots++;
    if (choose)
        simdisk_crash(c, choose, &dice);
    script_init(&t, c, "image", *f->script->config.wal_dir ? APART : BESIDE,
                &f->script->account, f->at);
    rc = script_boot(&t);
    CHECK(rc == SCRIPT_OK);
    if (rc != SCRIPT_OK)
        fprintf(stderr, "call %" PRIu64 " (kind %d) %s %s: boot %s: %s: %s\n",
                f->at, f->op,
                f->times == FOREVER ? "fails for good:" : "failed:",
                strerror(f->error), when,
                rc == SCRIPT_WRONG ? "WRONG" : "reported", t.why);
    script_release(&t);
    simdisk_free(c);
}

/* Which calls can give which error. */
static bool may_fail(enum simdisk_op op, int error)
{
    bool grows = op == SIMDISK_WRITE || op == SIMDISK_ALLOCATE ||
                 op == SIMDISK_CREATE || op == SIMDISK_RENAME;

    switch (error) {
    case ENOSPC:
        return grows || op == SIMDISK_SYNC || op == SIMDISK_SYNC_DIR;
    case EMFILE:
        return op == SIMDISK_OPEN || op == SIMDISK_CREATE;
    case EINTR:
        return op == SIMDISK_READ || op == SIMDISK_WRITE ||
               op == SIMDISK_ALLOCATE;
    default:
        return true;
    }
}

static int strike(void *arg, struct simdisk *d, enum simdisk_op op,
                  const char *path, size_t *n)
{
    struct fault *f = arg;
    uint64_t call = ++f->calls;

    (void)path;
    if (f->shorten && *n > 1 && (op == SIMDISK_READ || op == SIMDISK_WRITE))
        *n = 1 + script_hash(&call, sizeof(call)) % *n;
    if (f->failed && !f->looked && f->script->account.acked != f->acked) {
        f->looked = true;
        check_boot(f, d, simdisk_lose, "behind the next acknowledgement");
    }
    if (f->at == 0 || call < f->at || !may_fail(op, f->error) || f->times == 0)
        return 0;
    if (!f->failed) {
        f->failed = true;
        f->op = op;
        f->acked = f->script->account.acked;
    }
    if (f->times > 0)
        f->times--;
    return f->error;
}

/* One life with one fault. Returns how many calls there were. */
static uint64_t run(struct fault *f, enum script_place place, uint64_t seed,
                    uint64_t capacity)
{
    struct simdisk *d = simdisk_new("life");
    enum script_result rc;
    struct script s;

    count.runs++;
    script_init(&s, d, "life", place, NULL, seed);
    f->script = &s;
    simdisk_set_capacity(d, capacity);
    simdisk_set_hook(d, strike, f);
    rc = script_boot(&s);
    if (rc == SCRIPT_OK)
        rc = script_live(&s, STEPS);
    CHECK(rc != SCRIPT_WRONG);
    if (rc == SCRIPT_WRONG)
        fprintf(stderr, "call %" PRIu64 " (kind %d): %s: %s\n", f->at, f->op,
                strerror(f->error), s.why);
    CHECK(rc == SCRIPT_OK || strlen(s.why) > 0);
    if (!f->failed && capacity == 0)
        CHECK(rc == SCRIPT_OK);
    count.reported += rc == SCRIPT_REPORTED;
    count.unharmed += rc == SCRIPT_OK;
    script_die(&s);
    simdisk_set_capacity(d, 0);
    check_boot(f, d, NULL, "of another process");
    check_boot(f, d, simdisk_lose, "behind a power failure");
    check_boot(f, d, lose_some, "behind another power failure");
    script_release(&s);
    simdisk_free(d);
    return f->calls;
}

static void test_each_call(enum script_place place, uint64_t seed)
{
    static const int errors[] = {EIO, ENOSPC, EMFILE, EINTR};
    struct fault none = {.at = 0};
    uint64_t calls = run(&none, place, seed, 0);

    for (uint64_t at = 1; at <= calls; at++)
        for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
            struct fault once = {.at = at, .error = errors[i], .times = 1};
            struct fault forever = {
                .at = at, .error = errors[i], .times = FOREVER};

            if ((at + i) % (uint64_t)stride != 0)
                continue;
            run(&once, place, seed, 0);
            if (errors[i] != EINTR) /* which is not for good */
                run(&forever, place, seed, 0);
            CHECK(errors[i] != EINTR || !once.failed || once.calls >= calls);
        }
}

static void test_full_disk(enum script_place place, uint64_t seed)
{
    for (uint64_t capacity = 1; capacity < 60000;
         capacity += 97 * (uint64_t)stride) {
        struct fault none = {.at = 0};

        run(&none, place, seed, capacity);
    }
}

static void test_short(enum script_place place, uint64_t seed)
{
    struct fault f = {.shorten = true};

    run(&f, place, seed, 0);
}

int main(int argc, char **argv)
{
    uint64_t seed = 1;
    int64_t began = sys_mono_ns();

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--long") == 0) {
            stride = 1;
            seeds = 20;
        } else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
            seed = strtoull(argv[++i], NULL, 10);
        }
    }
    script_setup();
    for (int i = 0; i < seeds; i++) {
        enum script_place place = i % 2 ? APART : BESIDE;

        test_each_call(place, seed + (uint64_t)i);
        test_full_disk(place, seed + (uint64_t)i);
        test_short(place, seed + (uint64_t)i);
    }
    printf("diskfail: %" PRIu64 " lives with a fault, %" PRIu64
           " reported it, %" PRIu64 " were not harmed; %" PRIu64
           " boots behind them, %.1f s\n",
           count.runs, count.reported, count.unharmed, count.boots,
           (double)(sys_mono_ns() - began) / 1e9);
    return check_done("diskfail");
}
