/*
 * wycheproof.h - runs the public Wycheproof vectors (C2SP, v1 schema), which
 * are found where VECTORS says: known inputs of each primitive, and hostile
 * ones. Without VECTORS nothing is run, and said so.
 */
#ifndef WYCHEPROOF_H
#define WYCHEPROOF_H

#include "check.h"
#include "hex.h"
#include "json.h"
#include "sys.h"

enum wycheproof_verdict {
    WYCHEPROOF_REFUSED,
    WYCHEPROOF_ACCEPTED,
    WYCHEPROOF_SKIPPED, /* parameters that we do not have */
};

/* What our code says to a test, whose parameters may stand in its group. */
typedef enum wycheproof_verdict wycheproof_fn(const struct json *group,
                                              const struct json *test);

/* A member of hex digits as bytes; returns owned. */
static inline struct buf wycheproof_bytes(const struct json *j,
                                          const char *name)
{
    struct str text = json_text(json_get(j, name), "");
    char *hex = xstrndup(text.p, text.n);
    struct buf b = unhex(hex);

    free(hex);
    return b;
}

static inline uint64_t wycheproof_number(const struct json *j, const char *name)
{
    uint64_t v = 0;

    CHECK(json_u64(json_get(j, name), &v));
    return v;
}

static inline bool wycheproof_flagged(const struct json *test, const char *flag)
{
    const struct json *flags = json_get(test, "flags");

    for (const struct json *f = flags ? flags->first : NULL; f; f = f->next)
        if (str_eqz(f->text, flag))
            return true;
    return false;
}

/*
 * valid must be accepted, invalid refused. What is merely acceptable is
 * checked against the caller's policy: acceptable_too says which verdict each
 * such test must get, NULL that each must be accepted.
 */
static inline bool
wycheproof_agrees(const struct json *test, enum wycheproof_verdict verdict,
                  bool (*acceptable_too)(const struct json *))
{
    struct str result = json_text(json_get(test, "result"), "");
    bool want = str_eqz(result, "valid");

    if (str_eqz(result, "acceptable"))
        want = !acceptable_too || acceptable_too(test);
    return verdict == (want ? WYCHEPROOF_ACCEPTED : WYCHEPROOF_REFUSED);
}

static inline void wycheproof_file(const char *path, const char *file,
                                   wycheproof_fn *fn,
                                   bool (*acceptable_too)(const struct json *))
{
    struct buf b = {0};
    struct json *root = NULL;
    const struct json *groups;
    size_t run = 0, skipped = 0;

    CHECK(sys_read_file(path, 1 << 24, &b, NULL) == 0);
    CHECK(json_parse(b.data, b.len, &root, NULL) == 0);
    groups = root ? json_get(root, "testGroups") : NULL;
    for (const struct json *g = groups ? groups->first : NULL; g; g = g->next) {
        const struct json *tests = json_get(g, "tests");

        for (const struct json *t = tests ? tests->first : NULL; t;
             t = t->next) {
            enum wycheproof_verdict verdict = fn(g, t);
            bool agrees = verdict == WYCHEPROOF_SKIPPED ||
                          wycheproof_agrees(t, verdict, acceptable_too);

            if (!agrees)
                fprintf(stderr, "%s: test %.*s, %.*s: %s\n", file,
                        STR_FMT(json_get(t, "tcId")->text),
                        STR_FMT(json_text(json_get(t, "comment"), "")),
                        verdict ? "accepted" : "refused");
            CHECK(agrees);
            run += verdict != WYCHEPROOF_SKIPPED;
            skipped += verdict == WYCHEPROOF_SKIPPED;
        }
    }
    CHECK(run > 0);
    printf("wycheproof: %s: %zu run, %zu skipped\n", file, run, skipped);
    json_free(root);
    buf_release(&b);
}

/* Runs a file such as "x25519.json"; fn is called for each of its tests. */
static inline void wycheproof_run(const char *file, wycheproof_fn *fn,
                                  bool (*acceptable_too)(const struct json *))
{
    const char *vectors = getenv("VECTORS");
    char *path = vectors ? xasprintf("%s/wycheproof/%s", vectors, file) : NULL;

    if (path && sys_exists(path))
        wycheproof_file(path, file, fn, acceptable_too);
    else
        printf("wycheproof: %s: not run: %s\n", file,
               vectors ? "no such file" : "VECTORS is not set");
    free(path);
}

#endif
