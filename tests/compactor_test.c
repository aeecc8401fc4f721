/*
 * compactor_test.c - when automatic compaction comes, and to which revision
 * (spec: raft-and-storage, 6).
 */
#include "check.h"
#include "compactor.h"
#include "sys.h"

#define MINUTE (60 * NS_PER_S)
#define HOUR (60 * MINUTE)

static struct compactor c;

static void begin(const char *mode, const char *retention)
{
    struct err e;

    CHECK(compactor_init(&c, str_of(mode), str_of(retention), 0, &e) == 0);
}

static void test_options(void)
{
    static const struct {
        const char *mode, *retention;
        int rc;
        enum compactor_mode got;
    } cases[] = {
        {"periodic", "0", 0, COMPACTOR_OFF},
        {"periodic", "", 0, COMPACTOR_OFF},
        {"revision", "0", 0, COMPACTOR_OFF},
        {"periodic", "2", 0, COMPACTOR_PERIODIC},
        {"periodic", "5m", 0, COMPACTOR_PERIODIC},
        {"revision", "1000", 0, COMPACTOR_REVISION},
        {"revision", "5m", -1, COMPACTOR_OFF},
        {"periodic", "-1", -1, COMPACTOR_OFF},
        {"periodic", "x", -1, COMPACTOR_OFF},
        {"periodic", "99999999999", -1, COMPACTOR_OFF},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err e;

        CHECK(compactor_init(&c, str_of(cases[i].mode),
                             str_of(cases[i].retention), 0, &e) == cases[i].rc);
        CHECK(c.mode == cases[i].got);
        compactor_release(&c);
    }
}

static void test_revision(void)
{
    begin("revision", "100");
    CHECK(compactor_step(&c, 0, 500, true) == 0); /* not at once */
    CHECK(compactor_step(&c, 5 * MINUTE - 1, 500, true) == 0);
    CHECK(compactor_step(&c, 5 * MINUTE, 500, true) == 400);
    compactor_done(&c, 5 * MINUTE, true);
    CHECK(compactor_step(&c, 10 * MINUTE, 500, true) == 0); /* no change */
    CHECK(compactor_step(&c, 15 * MINUTE, 600, false) == 0);
    CHECK(compactor_step(&c, 20 * MINUTE, 600, true) == 500);
    compactor_done(&c, 20 * MINUTE, false); /* so it is tried again */
    CHECK(compactor_step(&c, 25 * MINUTE, 600, true) == 500);
    compactor_release(&c);
    begin("revision", "100");
    CHECK(compactor_step(&c, 5 * MINUTE, 90, true) == 0);
    compactor_release(&c);
}

/* The revision is the minute; so what is compacted tells how old it is. */
static void test_periodic(void)
{
    int64_t at[16], to[16];
    size_t n = 0;

    begin("periodic", "2h");
    for (int64_t minute = 1; minute <= 300; minute++) {
        int64_t now = minute * MINUTE;
        int64_t rev = compactor_step(&c, now, minute, true);

        if (rev && n < ARRAY_LEN(at)) {
            at[n] = minute;
            to[n++] = rev;
            compactor_done(&c, now, true);
        }
    }
    CHECK(n == 3 || n == 4);
    for (size_t i = 0; i < n; i++) {
        CHECK(at[i] >= 120 + (int64_t)i * 60 && at[i] <= 133 + (int64_t)i * 66);
        CHECK(at[i] - to[i] >= 114 && at[i] - to[i] <= 126);
    }
    compactor_release(&c);
}

static void test_short_period(void)
{
    begin("periodic", "10s");
    CHECK(compactor_step(&c, 0, 7, true) == 0);
    CHECK(compactor_step(&c, NS_PER_S / 2, 9, true) == 0);
    CHECK(compactor_step(&c, 10 * NS_PER_S, 9, true) == 7);
    compactor_release(&c);
}

int main(void)
{
    test_options();
    test_revision();
    test_periodic();
    test_short_period();
    return check_done("compactor");
}
