/*
 * files.h - a fresh folder for each test of a program, and files in it.
 */
#ifndef FILES_H
#define FILES_H

#include "check.h"
#include "sys.h"

#include <unistd.h>

static char *base; /* the fresh folder */
static char *dir;  /* base, or a folder in it that may not be there yet */

static inline char *in_dir(const char *name) /* returns owned */
{
    return xasprintf("%s/%s", dir, name);
}

static inline bool exists(const char *name)
{
    char *path = in_dir(name);
    bool found = sys_exists(path);

    free(path);
    return found;
}

static inline struct buf read_file(const char *name)
{
    char *path = in_dir(name);
    struct buf b = {0};

    CHECK(sys_read_file(path, 1 << 26, &b, NULL) == 0);
    free(path);
    return b;
}

static inline void write_file(const char *name, struct str s)
{
    char *path = in_dir(name);

    CHECK(sys_write_file_atomic(path, s.p, s.n, 0600, NULL) == 0);
    free(path);
}

/* Runs tests one after another; dir is base, or the folder of this name. */
static inline void run_in_fresh_folders(void (*const *tests)(void), size_t n,
                                        const char *folder)
{
    const char *tmp = getenv("TMPDIR");

    for (size_t i = 0; i < n; i++) {
        base = xasprintf("%s/etcd_test.XXXXXX", tmp && *tmp ? tmp : "/tmp");
        if (!mkdtemp(base)) {
            perror(base);
            exit(1);
        }
        dir = folder ? xasprintf("%s/%s", base, folder) : xstrdup(base);
        tests[i]();
        sys_remove_all(base, NULL);
        free(dir);
        free(base);
    }
}

#endif
