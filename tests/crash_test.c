/*
 * crash_test.c - the power fails, or the process is killed, at every point of
 * a member's life; what was acknowledged must be there at the next boot.
 *
 * Before each system call of a script (diskscript.h) that changes the disk,
 * and behind the last, disks are made as a crash may leave them (simdisk.h):
 * of what was not synced all is lost or kept, each part alone lost or kept or
 * read as zeros, each prefix, all combinations where they are few, and others
 * at random. A member boots from each, its state is held against the account,
 * and then it either dies at once, all unsynced lost, or lives on a while
 * before it does; another boot must find the same, or what came after.
 * Crashes during such a boot are treated alike, one level deep. A kill is the
 * crash that loses nothing yet: what the next process reads, and acts upon,
 * may not have reached the medium; so the power fails right behind its boot.
 *
 *   crash_test [--long] [--seed N]
 */
#include "diskscript.h"

#include "check.h"
#include "ctl.h"
#include "sys.h"

#include <inttypes.h>

static struct {
    int exhaustive; /* combinations: of so many parts all of them */
    int random;     /* picks at a point beside the systematic ones */
    int nested;     /* of so many boots that repair, one is crashed in turn */
    int seeds, steps;
} effort = {5, 6, 6, 2, 22};

static struct {
    uint64_t points, built, distinct, nested, boots;
} count;

/* --- What stays. -------------------------------------------------------- */

enum how {
    ALL_LOST,
    ALL_KEPT,
    ALL_ZEROED,
    ONE_LOST,
    ONE_KEPT,
    ONE_ZEROED,
    PREFIX,
    SUFFIX,
    BITS,
    RANDOM,
    N_HOWS
};

static const char *const how_names[N_HOWS] = {
    "all lost",   "all kept", "all zeroed", "one lost", "one kept",
    "one zeroed", "prefix",   "suffix",     "bits",     "random"};

struct pick {
    enum how how;
    uint64_t which; /* part, bits or seed */
    size_t at;      /* of the next part */
};

static enum simdisk_fate keep_if(bool keep)
{
    return keep ? SIMDISK_KEPT : SIMDISK_LOST;
}

static enum simdisk_fate choose(void *arg, enum simdisk_op op, const char *path,
                                uint64_t offset, size_t n)
{
    struct pick *p = arg;
    size_t at = p->at++;
    uint64_t r;

    (void)op, (void)path, (void)offset, (void)n;
    switch (p->how) {
    case ALL_KEPT:
        return SIMDISK_KEPT;
    case ALL_ZEROED:
        return SIMDISK_ZEROED;
    case ONE_LOST:
        return keep_if(at != p->which);
    case ONE_KEPT:
        return keep_if(at == p->which);
    case ONE_ZEROED:
        return at == p->which ? SIMDISK_ZEROED : SIMDISK_KEPT;
    case PREFIX:
        return keep_if(at < p->which);
    case SUFFIX:
        return keep_if(at >= p->which);
    case BITS:
        return keep_if(p->which >> at & 1);
    case RANDOM:
        r = script_random(&p->which) % 16;
        return r < 7 ? SIMDISK_LOST : r < 14 ? SIMDISK_KEPT : SIMDISK_ZEROED;
    default:
        return SIMDISK_LOST;
    }
}

static void crash(struct simdisk *d, enum how how, uint64_t which)
{
    struct pick p = {how, which, 0};

    simdisk_crash(d, choose, &p);
}

/* --- Images that were judged before. ------------------------------------- */

static uint64_t *seen;
static size_t n_seen, cap_seen;

static size_t seen_slot(uint64_t key)
{
    size_t i = key & (cap_seen - 1);

    while (seen[i] && seen[i] != key)
        i = (i + 1) & (cap_seen - 1);
    return i;
}

static bool seen_add(uint64_t key)
{
    size_t i;

    key |= 1;
    if (2 * (n_seen + 1) > cap_seen) {
        uint64_t *old = seen;
        size_t n = cap_seen;

        cap_seen = n ? 2 * n : 4096;
        seen = xcalloc(cap_seen, sizeof(*seen));
        for (size_t k = 0; k < n; k++)
            if (old[k])
                seen[seen_slot(old[k])] = old[k];
        free(old);
    }
    i = seen_slot(key);
    if (seen[i])
        return false;
    seen[i] = key;
    n_seen++;
    return true;
}

/* --- Exploring. --------------------------------------------------------- */

/* Whose crashes are looked at. */
struct subject {
    struct script *script;
    const char *name;
    uint64_t seed, point;
    int depth;        /* 0: the script; 1: a boot from one of its images */
    struct pick pick; /* which image that is, for the report */
    bool force;       /* boot from the images with --force-new-cluster */
    bool no_log_yet;  /* a backup that is not finished may have no log */
    bool without_v3;  /* and it has no db */
};

static int failures;
static bool failed; /* the image at hand */

static void report(const struct subject *u, struct pick p, const char *stage,
                   const struct script *t, enum script_result rc)
{
    failed = true;
    if (failures++ >= 10)
        return;
    printf("%s, seed %" PRIu64 ", point %" PRIu64 ", %s %" PRIu64, u->name,
           u->seed, u->point, p.how < N_HOWS ? how_names[p.how] : "killed",
           p.which);
    if (u->depth)
        printf(" (while booting from %s %" PRIu64 ")",
               u->pick.how < N_HOWS ? how_names[u->pick.how] : "killed",
               u->pick.which);
    printf(", %s: %s: %s\n", stage, rc == SCRIPT_WRONG ? "WRONG" : "reported",
           t->why);
}

static int explore_before(void *arg, struct simdisk *d, enum simdisk_op op,
                          const char *path, size_t *n);

static enum script_result boot(struct script *t)
{
    count.boots++;
    return script_boot(t);
}

/* Boot once more, after another crash. */
static enum script_result judge_again(const struct subject *u, struct pick p,
                                      struct script *t, uint64_t dice,
                                      const char *stage)
{
    static const enum how hows[] = {ALL_LOST, ALL_LOST, ALL_KEPT, RANDOM};
    enum script_result rc;

    script_die(t);
    crash(t->disk, hows[dice % 4], dice);
    t->account.acked = t->account.n;
    rc = boot(t);
    if (rc != SCRIPT_OK)
        report(u, p, stage, t, rc);
    return rc;
}

/* Boot from an image, and see that it may be built upon. Takes the disk. */
static void judge(struct subject *u, struct simdisk *d, struct pick p,
                  uint64_t dice)
{
    const struct script *s = u->script;
    struct script t;
    struct subject inner = {.script = &t,
                            .name = u->name,
                            .seed = u->seed,
                            .point = u->point,
                            .depth = 1,
                            .pick = p,
                            .force = u->force,
                            .no_log_yet = u->no_log_yet,
                            .without_v3 = u->without_v3};
    enum script_result rc;

    failed = false;
    script_init(&t, d, u->depth ? "image2" : "image",
                *s->config.wal_dir ? APART : BESIDE, &s->account, dice);
    t.config.force_new_cluster = u->force;
    t.without_v3 = u->without_v3;
    if (u->depth == 0 && dice % (uint64_t)effort.nested == 0)
        simdisk_set_hook(d, explore_before, &inner);
    rc = boot(&t);
    simdisk_set_hook(d, NULL, NULL);
    t.config.force_new_cluster = false;
    if (rc != SCRIPT_OK)
        report(u, p, "first boot", &t, rc);
    if (rc == SCRIPT_OK && (p.how == N_HOWS || dice / 64 % 2))
        rc = judge_again(u, p, &t, dice >> 8,
                         "boot after a crash behind the first boot");
    if (rc == SCRIPT_OK && (p.how == N_HOWS || dice / 64 % 2 == 0)) {
        rc = script_go_on(&t);
        if (rc != SCRIPT_OK)
            report(u, p, "going on", &t, rc);
        else
            judge_again(u, p, &t, dice >> 10, "boot after going on");
    }
    CHECK(!failed);
    script_release(&t);
    simdisk_free(d);
}

static uint64_t account_key(const struct account *a)
{
    uint64_t key = a->n * 31 + a->acked;

    for (size_t i = 0; i < a->n_saved; i++)
        key = key * 31 + a->saved[i].durable;
    return key;
}

static bool has_log(const struct simdisk *d)
{
    char **paths;
    size_t n = simdisk_list(d, &paths);
    bool found = false;

    for (size_t i = 0; i < n; i++)
        found |= strncmp(paths[i], "data/member/wal/", 16) == 0;
    sys_free_list(paths, n);
    return found;
}

static void try(struct subject *u, struct simdisk *d, enum how how,
                uint64_t which)
{
    struct simdisk *c = simdisk_copy(d, u->depth ? "image2" : "image");
    struct pick p = {how, which, 0};
    uint64_t key;

    count.built++;
    if (how < N_HOWS)
        crash(c, how, which);
    key = simdisk_digest(c) + (uint64_t)u->depth;
    key = (key ^ account_key(&u->script->account)) + (how == N_HOWS);
    key *= UINT64_C(0x9e3779b97f4a7c15);
    if (!seen_add(key) || (u->no_log_yet && !has_log(c))) {
        simdisk_free(c);
        return;
    }
    count.distinct++;
    count.nested += u->depth > 0;
    judge(u, c, p, key >> 20);
}

static void try_singles(struct subject *u, struct simdisk *d, size_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        try(u, d, ONE_LOST, i);
        try(u, d, ONE_KEPT, i);
        try(u, d, ONE_ZEROED, i);
        try(u, d, PREFIX, i);
        try(u, d, SUFFIX, i);
    }
}

static void explore(struct subject *u, struct simdisk *d)
{
    size_t n = simdisk_pending(d);
    int random = u->depth ? 2 : effort.random;

    count.points += u->depth == 0;
    if (u->depth == 0)
        try(u, d, N_HOWS, 0); /* killed; the power does not fail yet */
    try(u, d, ALL_LOST, 0);
    try(u, d, ALL_KEPT, 0);
    try(u, d, ALL_ZEROED, 0);
    if (n <= (size_t)effort.exhaustive)
        for (uint64_t bits = 0; bits < UINT64_C(1) << n; bits++)
            try(u, d, BITS, bits);
    else
        try_singles(u, d, n);
    for (int i = 0; i < random && n > 2; i++)
        try(u, d, RANDOM, u->seed + u->point * 1000 + (uint64_t)i);
}

static int explore_before(void *arg, struct simdisk *d, enum simdisk_op op,
                          const char *path, size_t *n)
{
    struct subject *u = arg;

    (void)path, (void)n;
    if (op == SIMDISK_READ || op == SIMDISK_OPEN)
        return 0; /* as it was behind the last change */
    u->point++;
    explore(u, d);
    return 0;
}

/* --- Scripts. ----------------------------------------------------------- */

static enum script_result live(struct script *s)
{
    return script_live(s, effort.steps);
}

static void test_life(const char *name, enum script_place place, uint64_t seed,
                      enum script_result (*run)(struct script *))
{
    struct simdisk *d = simdisk_new("life");
    struct script s;
    struct subject u = {.script = &s, .name = name, .seed = seed};
    enum script_result rc;

    script_init(&s, d, "life", place, NULL, seed);
    s.account.acked = 0;
    simdisk_set_hook(d, explore_before, &u);
    rc = script_boot(&s);
    if (rc == SCRIPT_OK)
        rc = run(&s);
    if (rc != SCRIPT_OK)
        report(&u, (struct pick){N_HOWS, 0, 0}, "the script itself", &s, rc);
    CHECK(rc == SCRIPT_OK);
    if (rc == SCRIPT_OK)
        explore(&u, d);
    script_release(&s);
    simdisk_free(d);
}

/* A member's disk after a while, and its script, which is down. */
static struct simdisk *lived(struct script *s, enum script_place place,
                             uint64_t seed)
{
    struct simdisk *d = simdisk_new("life");

    script_init(s, d, "life", place, NULL, seed);
    CHECK(script_boot(s) == SCRIPT_OK);
    CHECK(script_live(s, effort.steps) == SCRIPT_OK);
    script_stop(s);
    return d;
}

/* --force-new-cluster may be interrupted, and given again. */
static void test_force_new_cluster(uint64_t seed)
{
    struct script s;
    struct simdisk *d = lived(&s, BESIDE, seed);
    struct subject u = {
        .script = &s, .name = "force", .seed = seed, .force = true};
    enum script_result rc;

    s.config.force_new_cluster = true;
    simdisk_set_hook(d, explore_before, &u);
    rc = script_boot(&s);
    if (rc != SCRIPT_OK)
        report(&u, (struct pick){N_HOWS, 0, 0}, "the boot itself", &s, rc);
    CHECK(rc == SCRIPT_OK);
    script_release(&s);
    simdisk_free(d);
}

/* What is there of a backup is all of it, or has no log. */
static void test_backup(uint64_t seed)
{
    static const struct ctl_option from = {.name = "data-dir"};
    static const struct ctl_option to = {.name = "backup-dir"};
    struct ctl_setting settings[] = {{&from, "/sim/life/data"},
                                     {&to, "/sim/backup/data"}};
    struct ctl c = {.settings = settings, .n_settings = 2};
    struct script s;
    struct simdisk *d = lived(&s, BESIDE, seed), *b = simdisk_new("backup");
    struct subject u = {.script = &s,
                        .name = "backup",
                        .seed = seed,
                        .force = true,
                        .no_log_yet = true,
                        .without_v3 = true};

    s.account.acked = s.account.n;
    simdisk_set_hook(b, explore_before, &u);
    CHECK(ctl_backup(&c) == CTL_OK);
    CHECK(has_log(b));
    u.no_log_yet = false;
    explore(&u, b);
    simdisk_free(b);
    script_release(&s);
    simdisk_free(d);
}

/* Behind each seed, since a long run is often stopped. */
static void print_count(int64_t began)
{
    printf("crash: %" PRIu64 " points, %" PRIu64 " images built, %" PRIu64
           " of them distinct and booted from (%" PRIu64
           " of a crash during a boot), %" PRIu64 " boots, %.1f s\n",
           count.points, count.built, count.distinct, count.nested, count.boots,
           (double)(sys_mono_ns() - began) / 1e9);
}

int main(int argc, char **argv)
{
    uint64_t seed = 1;
    int64_t began = sys_mono_ns();

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--long") == 0) {
            effort.exhaustive = 9;
            effort.random = 40;
            effort.nested = 3;
            effort.seeds = 6;
            effort.steps = 30;
        } else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
            seed = strtoull(argv[++i], NULL, 10);
        }
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    script_setup();
    for (int i = 0; i < effort.seeds; i++) {
        test_life("life", BESIDE, seed + (uint64_t)i, live);
        test_life("life, log apart", APART, seed + 1000 + (uint64_t)i, live);
        test_life("checkpoints", BESIDE, seed + 2000 + (uint64_t)i,
                  script_checkpoints);
        test_force_new_cluster(seed + (uint64_t)i);
        test_backup(seed + (uint64_t)i);
        print_count(began);
    }
    free(seen);
    return check_done("crash");
}
