/*
 * sys.c - the operating system: clocks, random bytes, files, threads.
 */
#include "sys.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#define STACK_MARGIN 1024 /* bytes below a frame that calls from it may use */

/* --- Time. -------------------------------------------------------------- */

static int64_t clock_ns(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * NS_PER_S + t.tv_nsec;
}

int64_t sys_mono_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

int64_t sys_wall_ns(void)
{
    return clock_ns(CLOCK_REALTIME);
}

void sys_sleep_ms(int64_t ms)
{
    struct timespec t = {(time_t)(ms / 1000), (long)(ms % 1000) * NS_PER_MS};

    while (nanosleep(&t, &t) < 0 && errno == EINTR)
        ;
}

/* Days since 1970-01-01 of a date of the proleptic Gregorian calendar, and
 * back; eras of 400 years, years that begin in March. */
static int64_t days_from_civil(int64_t y, unsigned m, unsigned d)
{
    int64_t era;
    unsigned yoe, doy;

    y -= m <= 2;
    era = (y >= 0 ? y : y - 399) / 400;
    yoe = (unsigned)(y - era * 400);
    doy = (153 * (m > 2 ? m - 3 : m + 9) + 2) / 5 + d - 1;
    return era * 146097 + (int64_t)(yoe * 365 + yoe / 4 - yoe / 100 + doy) -
           719468;
}

static void civil_from_days(int64_t z, int64_t *y, unsigned *m, unsigned *d)
{
    int64_t era;
    unsigned doe, yoe, doy, mp;

    z += 719468;
    era = (z >= 0 ? z : z - 146096) / 146097;
    doe = (unsigned)(z - era * 146097);
    yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    mp = (5 * doy + 2) / 153;
    *d = doy - (153 * mp + 2) / 5 + 1;
    *m = mp < 10 ? mp + 3 : mp - 9;
    *y = (int64_t)yoe + era * 400 + (*m <= 2);
}

size_t sys_rfc3339(char out[SYS_RFC3339_MAX], int64_t wall_ns)
{
    int64_t s = wall_ns / NS_PER_S, ns = wall_ns % NS_PER_S, day, year;
    unsigned month, mday, sec;
    int n;

    if (ns < 0)
        s--, ns += NS_PER_S;
    day = s / 86400;
    if (s % 86400 < 0)
        day--;
    sec = (unsigned)(s - day * 86400);
    civil_from_days(day, &year, &month, &mday);
    n = snprintf(out, SYS_RFC3339_MAX, "%04d-%02u-%02uT%02u:%02u:%02u",
                 (int)year, month, mday, sec / 3600, sec / 60 % 60, sec % 60);
    if (ns) {
        n += snprintf(out + n, SYS_RFC3339_MAX - (size_t)n, ".%09d", (int)ns);
        while (out[n - 1] == '0')
            n--;
    }
    out[n++] = 'Z';
    out[n] = '\0';
    return (size_t)n;
}

/* Exactly n digits at *p. */
static bool digits(struct str *s, size_t n, unsigned *out)
{
    uint64_t v;

    if (s->n < n || !str_to_u64((struct str){s->p, n}, &v))
        return false;
    s->p += n;
    s->n -= n;
    *out = (unsigned)v;
    return true;
}

static bool literal(struct str *s, const char *any_of)
{
    if (s->n == 0 || !strchr(any_of, s->p[0]))
        return false;
    s->p++;
    s->n--;
    return true;
}

bool sys_parse_rfc3339(struct str s, int64_t *wall_ns)
{
    unsigned y, mo, d, h, mi, sec, zh = 0, zm = 0;
    int64_t ns = 0, t;
    char sign = '+';

    if (!digits(&s, 4, &y) || !literal(&s, "-") || !digits(&s, 2, &mo) ||
        !literal(&s, "-") || !digits(&s, 2, &d) || !literal(&s, "Tt ") ||
        !digits(&s, 2, &h) || !literal(&s, ":") || !digits(&s, 2, &mi) ||
        !literal(&s, ":") || !digits(&s, 2, &sec))
        return false;
    if (mo < 1 || mo > 12 || d < 1 || d > 31 || h > 23 || mi > 59 || sec > 60)
        return false;
    if (literal(&s, ".")) {
        int64_t unit = NS_PER_S / 10;

        if (s.n == 0 || s.p[0] < '0' || s.p[0] > '9')
            return false;
        for (; s.n && s.p[0] >= '0' && s.p[0] <= '9'; s.p++, s.n--, unit /= 10)
            ns += (s.p[0] - '0') * unit;
    }
    if (!literal(&s, "Zz")) {
        if (s.n == 0 || (s.p[0] != '+' && s.p[0] != '-'))
            return false;
        sign = s.p[0];
        s.p++, s.n--;
        if (!digits(&s, 2, &zh) || !literal(&s, ":") || !digits(&s, 2, &zm))
            return false;
    }
    if (s.n)
        return false;
    t = days_from_civil(y, mo, d) * 86400 + h * 3600 + mi * 60 + sec;
    t -= (sign == '-' ? -1 : 1) * (int64_t)(zh * 3600 + zm * 60);
    if (t < 0) /* both of one sign: only the result itself can overflow */
        t++, ns -= NS_PER_S;
    if (__builtin_mul_overflow(t, NS_PER_S, &t) ||
        __builtin_add_overflow(t, ns, &t))
        return false;
    *wall_ns = t;
    return true;
}

/* "1.5" and a unit: the fraction without trailing zeros. */
static size_t print_fraction(char *out, uint64_t v, uint64_t unit,
                             const char *name)
{
    char frac[24];
    int width = 0, n;

    for (uint64_t u = unit; u > 1; u /= 10)
        width++;
    n = snprintf(frac, sizeof(frac), "%0*" PRIu64, width, v % unit);
    while (n > 0 && frac[n - 1] == '0')
        n--;
    if (v % unit == 0 || unit == 1)
        n = 0;
    return (size_t)snprintf(out, 24, "%" PRIu64 "%s%.*s%s", v / unit,
                            n ? "." : "", n, frac, name);
}

size_t sys_duration(char out[SYS_DURATION_MAX], int64_t ns)
{
    uint64_t v = ns < 0 ? 0 - (uint64_t)ns : (uint64_t)ns;
    size_t n = 0;

    if (ns < 0)
        out[n++] = '-';
    if (v == 0)
        return (size_t)snprintf(out, SYS_DURATION_MAX, "0s");
    if (v < 1000)
        return n + print_fraction(out + n, v, 1, "ns");
    if (v < 1000000)
        return n + print_fraction(out + n, v, 1000, "\xc2\xb5s");
    if (v < 1000000000)
        return n + print_fraction(out + n, v, 1000000, "ms");
    if (v >= 3600ULL * NS_PER_S)
        n += (size_t)snprintf(out + n, 16, "%uh",
                              (unsigned)(v / (3600ULL * NS_PER_S)));
    if (v >= 60ULL * NS_PER_S)
        n += (size_t)snprintf(out + n, 8, "%um",
                              (unsigned)(v / (60ULL * NS_PER_S) % 60));
    return n + print_fraction(out + n, v % (60ULL * NS_PER_S), NS_PER_S, "s");
}

bool sys_parse_duration(struct str s, int64_t *ns)
{
    static const struct {
        const char *name;
        double ns;
    } units[] = {{"ns", 1},  {"us", 1e3}, {"\xc2\xb5s", 1e3}, {"ms", 1e6},
                 {"s", 1e9}, {"m", 6e10}, {"h", 3.6e12}};
    bool minus = s.n && s.p[0] == '-';
    double total = 0;

    if (s.n && (s.p[0] == '-' || s.p[0] == '+'))
        s.p++, s.n--;
    if (str_eqz(s, "0")) {
        *ns = 0;
        return true;
    }
    if (s.n == 0)
        return false;
    while (s.n) {
        double v = 0, scale = 1;
        size_t i = 0, n_digits = 0, u;

        for (; i < s.n && s.p[i] >= '0' && s.p[i] <= '9'; i++, n_digits++)
            v = v * 10 + (s.p[i] - '0');
        if (i < s.n && s.p[i] == '.')
            for (i++; i < s.n && s.p[i] >= '0' && s.p[i] <= '9';
                 i++, n_digits++)
                v += (s.p[i] - '0') * (scale /= 10);
        if (n_digits == 0)
            return false;
        s.p += i, s.n -= i;
        for (i = 0; i < s.n && s.p[i] != '.' && (s.p[i] < '0' || s.p[i] > '9');
             i++)
            ;
        for (u = 0; u < ARRAY_LEN(units); u++)
            if (str_eqz((struct str){s.p, i}, units[u].name))
                break;
        if (u == ARRAY_LEN(units))
            return false;
        total += v * units[u].ns;
        s.p += i, s.n -= i;
    }
    if (total > 9.2e18)
        return false;
    *ns = (int64_t)(total + 0.5) * (minus ? -1 : 1);
    return true;
}

/* --- Random. ------------------------------------------------------------ */

static void random_from_device(uint8_t *p, size_t n)
{
    int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);

    while (fd >= 0 && n > 0) {
        ssize_t got = read(fd, p, n);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        p += got, n -= (size_t)got;
    }
    if (n > 0) { /* without randomness, ids would collide */
        fputs("etcd: no random bytes: the kernel has no getrandom(2), and "
              "/dev/urandom cannot be read\n",
              stderr);
        _exit(1);
    }
    close(fd);
}

void sys_random(void *p, size_t n)
{
    uint8_t *at = p;

    while (n > 0) {
        ssize_t got = getrandom(at, n > 256 ? 256 : n, 0);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            random_from_device(at, n);
            return;
        }
        at += got;
        n -= (size_t)got;
    }
}

/* --- Files. ------------------------------------------------------------- */

int sys_mkdir_all(const char *path, unsigned mode, struct err *e)
{
    char *p = xstrdup(path);
    int rc = 0;

    for (char *at = p + 1; rc == 0; at++) {
        bool last = *at == '\0';

        if (*at != '/' && !last)
            continue;
        *at = '\0';
        if (mkdir(p, mode) < 0 && errno != EEXIST)
            rc = err_sys(e, -1, "mkdir %s", p);
        if (last)
            break;
        *at = '/';
    }
    free(p);
    return rc;
}

bool sys_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

int sys_find(const char *path, bool *there, struct err *e)
{
    *there = access(path, F_OK) == 0;
    if (*there || errno == ENOENT || errno == ENOTDIR)
        return 0;
    return err_sys(e, -1, "access %s", path);
}

int sys_read_file(const char *path, size_t max, struct buf *out, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC), rc = 0;

    if (fd < 0)
        return err_sys(e, -1, "open %s", path);
    for (;;) {
        ssize_t n;

        buf_reserve(out, 65536);
        n = read(fd, out->data + out->len, out->cap - out->len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            rc = err_sys(e, -1, "read %s", path);
        if (n <= 0)
            break;
        out->len += (size_t)n;
        if (out->len > max) {
            rc = err_set(e, -1, "read %s: larger than %zu bytes", path, max);
            break;
        }
    }
    close(fd);
    return rc;
}

int sys_write_all(int fd, const void *p, size_t n)
{
    const char *at = p;

    while (n > 0) {
        ssize_t done = write(fd, at, n);

        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return -1;
        at += done;
        n -= (size_t)done;
    }
    return 0;
}

int sys_write_back(int fd, uint64_t at, uint64_t n)
{
    int rc =
        sync_file_range(fd, (off_t)at, (off_t)n,
                        SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                            SYNC_FILE_RANGE_WAIT_AFTER);

    /* Else it is not to be had here, and the sync does it all. */
    return rc < 0 && (errno == EIO || errno == ENOSPC || errno == EDQUOT) ? -1
                                                                          : 0;
}

int sys_fsync_dir(const char *path, struct err *e)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;

    if (fd < 0)
        return err_sys(e, -1, "open %s", path);
    /* EINVAL: a file system that cannot, and so need not, sync directories. */
    if (fsync(fd) < 0 && errno != EINVAL)
        rc = err_sys(e, -1, "fsync %s", path);
    close(fd);
    return rc;
}

int sys_fsync_parent(const char *path, struct err *e)
{
    const char *slash = strrchr(path, '/');
    char *dir = !slash          ? xstrdup(".")
                : slash == path ? xstrdup("/")
                                : xstrndup(path, (size_t)(slash - path));
    int rc =
        access(dir, R_OK) < 0 && errno == EACCES ? 0 : sys_fsync_dir(dir, e);

    free(dir);
    return rc;
}

int sys_write_file_atomic(const char *path, const void *p, size_t n,
                          unsigned mode, struct err *e)
{
    char *tmp = xasprintf("%s.tmp", path);
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    int rc = 0;

    if (fd < 0) {
        rc = err_sys(e, -1, "open %s", tmp);
        goto out;
    }
    if (sys_write_all(fd, p, n) < 0)
        rc = err_sys(e, -1, "write %s", tmp);
    else if (fsync(fd) < 0)
        rc = err_sys(e, -1, "fsync %s", tmp);
    close(fd);
    if (rc == 0 && rename(tmp, path) < 0)
        rc = err_sys(e, -1, "rename %s to %s", tmp, path);
    if (rc < 0)
        unlink(tmp);
    else
        rc = sys_fsync_parent(path, e);
out:
    free(tmp);
    return rc;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int sys_list_dir(const char *path, char ***names, size_t *n, struct err *e)
{
    DIR *d = opendir(path);
    struct dirent *de;
    char **list = NULL;
    size_t len = 0, cap = 0;

    if (!d)
        return err_sys(e, -1, "open %s", path);
    while ((de = readdir(d))) {
        if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
            continue;
        if (len == cap) {
            cap = cap ? cap * 2 : 16;
            list = xrealloc(list, cap * sizeof(*list));
        }
        list[len++] = xstrdup(de->d_name);
    }
    closedir(d);
    if (len)
        qsort(list, len, sizeof(*list), by_name);
    *names = list;
    *n = len;
    return 0;
}

void sys_free_list(char **names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(names[i]);
    free(names);
}

/* Depth is bounded: data directories are a few levels deep. */
static int remove_tree(const char *path, int depth, struct err *e)
{
    char **names;
    size_t n;
    int rc = 0;

    if (unlink(path) == 0 || errno == ENOENT)
        return 0;
    if ((errno != EISDIR && errno != EPERM) || depth > 16)
        return err_sys(e, -1, "remove %s", path);
    if (sys_list_dir(path, &names, &n, e) < 0)
        return -1;
    for (size_t i = 0; i < n && rc == 0; i++) {
        char *child = xasprintf("%s/%s", path, names[i]);

        rc = remove_tree(child, depth + 1, e);
        free(child);
    }
    sys_free_list(names, n);
    if (rc == 0 && rmdir(path) < 0)
        rc = err_sys(e, -1, "remove %s", path);
    return rc;
}

int sys_remove_all(const char *path, struct err *e)
{
    return remove_tree(path, 0, e);
}

/* The next word of line; empty at its end. */
static struct str next_word(struct str *line)
{
    struct str word;

    *line = str_trim(*line);
    str_cut(line, ' ', &word);
    return word;
}

/* "1: FLOCK  ADVISORY  WRITE 4242 fe:00:131 0 EOF": who locks inode, or 0. */
static int flock_holder(struct str line, uint64_t inode)
{
    struct str word[6];
    uint64_t locked;
    int64_t pid;

    for (int i = 0; i < 6; i++)
        word[i] = next_word(&line);
    str_cut(&word[5], ':', &word[0]); /* the device's numbers */
    str_cut(&word[5], ':', &word[0]);
    if (!str_eqz(word[1], "FLOCK") || !str_to_i64(word[4], &pid) ||
        pid > INT_MAX || !str_to_u64(word[5], &locked) || locked != inode)
        return 0;
    return (int)pid;
}

int sys_flock_holder(int fd)
{
    struct buf b = {0};
    struct stat st;
    struct str text, line;
    int pid = 0;

    if (fstat(fd, &st) < 0 ||
        sys_read_file("/proc/locks", 4 << 20, &b, NULL) < 0) {
        buf_release(&b);
        return 0;
    }
    text = buf_str(&b);
    while (text.n && pid == 0) {
        str_cut(&text, '\n', &line);
        pid = flock_holder(line, st.st_ino);
    }
    buf_release(&b);
    return pid;
}

/* --- Threads. ----------------------------------------------------------- */

static int start_thread(pthread_t *out, size_t stack, int detach,
                        void *(*fn)(void *), void *arg)
{
    pthread_attr_t attr;
    int rc;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    stack += 1 << 20; /* the sanitizers' own frames are large */
#endif
    if (stack < (size_t)PTHREAD_STACK_MIN)
        stack = (size_t)PTHREAD_STACK_MIN;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, stack);
    pthread_attr_setdetachstate(&attr, detach);
    rc = pthread_create(out, &attr, fn, arg);
    pthread_attr_destroy(&attr);
    return rc == 0 ? 0 : -1;
}

int sys_thread(pthread_t *out, size_t stack, void *(*fn)(void *), void *arg)
{
    return start_thread(out, stack, PTHREAD_CREATE_JOINABLE, fn, arg);
}

int sys_thread_detached(size_t stack, void *(*fn)(void *), void *arg)
{
    pthread_t t;

    return start_thread(&t, stack, PTHREAD_CREATE_DETACHED, fn, arg);
}

void sys_heap_trim(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

__attribute__((noinline)) void sys_stack_trim(void)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t here = (uintptr_t)__builtin_frame_address(0), low, end;
    pthread_attr_t attr;
    void *base;
    size_t size;

    if (pthread_getattr_np(pthread_self(), &attr) != 0)
        return;
    pthread_attr_getstack(&attr, &base, &size);
    pthread_attr_destroy(&attr);
    low = ((uintptr_t)base + page - 1) / page * page;
    end = (here - STACK_MARGIN) / page * page;
    if (end > low && here < (uintptr_t)base + size)
        madvise((void *)low, end - low, MADV_DONTNEED);
}

void sys_thread_name(const char *name)
{
    pthread_setname_np(pthread_self(), name);
}

#if __GCC_ATOMIC_LLONG_LOCK_FREE != 2
static pthread_mutex_t u64_mu = PTHREAD_MUTEX_INITIALIZER;

uint64_t sys_u64_load(const uint64_t *p)
{
    uint64_t v;

    pthread_mutex_lock(&u64_mu);
    v = *p;
    pthread_mutex_unlock(&u64_mu);
    return v;
}

void sys_u64_store(uint64_t *p, uint64_t v)
{
    pthread_mutex_lock(&u64_mu);
    *p = v;
    pthread_mutex_unlock(&u64_mu);
}

uint64_t sys_u64_add(uint64_t *p, uint64_t n)
{
    uint64_t v;

    pthread_mutex_lock(&u64_mu);
    v = *p += n;
    pthread_mutex_unlock(&u64_mu);
    return v;
}
#endif

void sys_cond_init(pthread_cond_t *c)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(c, &attr);
    pthread_condattr_destroy(&attr);
}

bool sys_cond_wait_until(pthread_cond_t *c, pthread_mutex_t *mu,
                         int64_t deadline_ns)
{
    struct timespec t = {(time_t)(deadline_ns / NS_PER_S),
                         (long)(deadline_ns % NS_PER_S)};

    return pthread_cond_timedwait(c, mu, &t) != ETIMEDOUT;
}

/* From <linux/futex.h>, which a musl installation may lack. */
enum { FUTEX_WAIT = 0, FUTEX_WAKE = 1, FUTEX_PRIVATE_FLAG = 128 };

/* The kernel's own timespec: on 32-bit machines libc's may be a wider one. */
struct kernel_timespec {
    long tv_sec, tv_nsec;
};

static long futex(uint32_t *word, int op, uint32_t value,
                  const struct kernel_timespec *timeout)
{
#ifdef SYS_futex
    return syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, value, timeout,
                   NULL, 0);
#else /* 32-bit machines that never had the old call */
    const int64_t wide[2] = {timeout ? timeout->tv_sec : 0,
                             timeout ? timeout->tv_nsec : 0};

    return syscall(SYS_futex_time64, word, op | FUTEX_PRIVATE_FLAG, value,
                   timeout ? wide : NULL, NULL, 0);
#endif
}

#define EVENT_WAIT_MAX_NS (3600 * NS_PER_S) /* at once; a long may be short */

enum { EVENT_UNSET = 0, EVENT_SET = 1, EVENT_WAITED_FOR = 2 };

void sys_event_set(struct sys_event *ev)
{
    if (__atomic_exchange_n(&ev->state, EVENT_SET, __ATOMIC_ACQ_REL) ==
        EVENT_WAITED_FOR)
        futex(&ev->state, FUTEX_WAKE, 1, NULL);
}

bool sys_event_is_set(const struct sys_event *ev)
{
    return __atomic_load_n(&ev->state, __ATOMIC_ACQUIRE) == EVENT_SET;
}

bool sys_event_wait_until(struct sys_event *ev, int64_t deadline_ns)
{
    uint32_t unset = EVENT_UNSET;

    __atomic_compare_exchange_n(&ev->state, &unset, EVENT_WAITED_FOR, false,
                                __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    while (!sys_event_is_set(ev)) {
        int64_t left = deadline_ns - sys_mono_ns();
        struct kernel_timespec t;

        if (left <= 0)
            return false;
        if (left > EVENT_WAIT_MAX_NS)
            left = EVENT_WAIT_MAX_NS;
        t = (struct kernel_timespec){(long)(left / NS_PER_S),
                                     (long)(left % NS_PER_S)};
        /* EAGAIN, EINTR: look again. */
        futex(&ev->state, FUTEX_WAIT, EVENT_WAITED_FOR, &t);
    }
    return true;
}
