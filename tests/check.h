/*
 * check.h - the whole of our test framework: CHECK() counts and reports, and
 * a test program returns check_done().
 */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int check_failed, check_passed;

#define CHECK(cond)                                                            \
    do {                                                                       \
        if (cond) {                                                            \
            check_passed++;                                                    \
        } else {                                                               \
            check_failed++;                                                    \
            fprintf(stderr, "%s:%d: CHECK(%s) failed\n", __FILE__, __LINE__,   \
                    #cond);                                                    \
        }                                                                      \
    } while (0)

/* Strings, shown when they differ. */
#define CHECK_STR(got, want) check_str(__FILE__, __LINE__, (got), (want))

static inline void check_str(const char *file, int line, const char *got,
                             const char *want)
{
    if (strcmp(got, want) == 0) {
        check_passed++;
        return;
    }
    check_failed++;
    fprintf(stderr, "%s:%d: got  \"%s\"\n%s:%d: want \"%s\"\n", file, line, got,
            file, line, want);
}

static inline int check_done(const char *name)
{
    printf("%s: %d checks passed, %d failed\n", name, check_passed,
           check_failed);
    return check_failed ? 1 : 0;
}

#endif
