/*
 * ways_test.c - which of two ways is taken, as they take more or less time.
 */
#include "ways.h"

#include "check.h"

static struct ways w;
static int64_t first_ns, second_ns;
static bool worth;

/* n times: how many of them the second way. */
static int times(int n)
{
    int seconds = 0;

    for (int i = 0; i < n; i++) {
        seconds += w.second;
        ways_took(&w, w.second ? second_ns : first_ns, worth);
    }
    return seconds;
}

static void begin(int64_t first, int64_t second)
{
    w = (struct ways){0};
    first_ns = first;
    second_ns = second;
    worth = true;
}

static void test_quicker(void)
{
    begin(1000, 500);
    CHECK(times(WAYS_TRIAL) == 0);
    CHECK(times(WAYS_SETTLED) == WAYS_SETTLED);
    CHECK(times(WAYS_TRIAL) == 0); /* the first is looked at again */
    CHECK(times(1) == 1);
    ways_forget(&w);
    CHECK(times(WAYS_TRIAL) == 0);
}

static void test_hardly_quicker(void)
{
    begin(1000, 900);
    CHECK(times(WAYS_TRIAL * 2) == WAYS_TRIAL);
    CHECK(times(WAYS_TRIAL * 2) == 0);
    CHECK(times(WAYS_TRIAL) == WAYS_TRIAL);
    /* Once in a while only; the last time it is as quick as it must be. */
    CHECK(times(WAYS_SETTLED * 2) < WAYS_SETTLED / 16);
    second_ns = 800;
    CHECK(times(WAYS_SETTLED / 2) > WAYS_SETTLED / 8);
}

static void test_slower(void)
{
    begin(1000, 3000);
    CHECK(times(WAYS_TRIAL * 2) == WAYS_TRIAL / 8);
}

/* One that takes long is no reason to give up. */
static void test_hiccup(void)
{
    begin(1000, 500);
    CHECK(times(WAYS_TRIAL) == 0);
    second_ns = 4000;
    CHECK(times(1) == 1);
    second_ns = 500;
    CHECK(times(WAYS_TRIAL) == WAYS_TRIAL);
}

static void test_not_worth(void)
{
    begin(1000, 10);
    worth = false;
    CHECK(times(WAYS_SETTLED * 2) == 0);
    worth = true;
    CHECK(times(2) == 1);
}

int main(void)
{
    test_quicker();
    test_hardly_quicker();
    test_slower();
    test_hiccup();
    test_not_worth();
    return check_done("ways_test");
}
