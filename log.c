/*
 * log.c - lines of the log.
 *
 * A line is built in a buffer of its own and written by one write(2) to each
 * output, so that lines of different threads never mix and no lock is held
 * while the disk or a pipe is slow.
 */
#include "log.h"
#include "sys.h"

#include <fcntl.h>
#include <stdio.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define OUTPUTS_MAX 8
#define PACKAGES_MAX 32
#define PACKAGE_NAME_MAX 48

struct package_level {
    char name[PACKAGE_NAME_MAX];
    enum log_level level;
};

static struct {
    enum log_format format;
    int level; /* atomic; of packages without a level of their own */
    int fds[OUTPUTS_MAX];
    size_t n_fds;
    struct package_level packages[PACKAGES_MAX]; /* the last of a name counts */
    size_t n_packages;                           /* atomic */
} logger = {LOG_CAPNSLOG, LOG_INFO, {STDERR_FILENO}, 1, {{{0}, LOG_INFO}}, 0};

static const struct {
    const char *name, *zap;
    char letter;
} levels[] = {
    [LOG_DEBUG] = {"debug", "debug", 'D'},
    [LOG_INFO] = {"info", "info", 'I'},
    [LOG_NOTICE] = {"notice", "info", 'N'},
    [LOG_WARN] = {"warning", "warn", 'W'},
    [LOG_ERROR] = {"error", "error", 'E'},
    [LOG_CRIT] = {"critical", "fatal", 'C'},
};

static int open_output(struct str name, struct err *e)
{
    char *path;
    int fd;

    if (str_eqz(name, "default") || str_eqz(name, "stderr") ||
        str_eqz(name, "systemd/journal"))
        return STDERR_FILENO; /* which systemd gives to the journal */
    if (str_eqz(name, "stdout"))
        return STDOUT_FILENO;
    path = xstrndup(name.p, name.n);
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0)
        err_sys(e, -1, "open log output %s", path);
    free(path);
    return fd;
}

int log_open(enum log_format format, const char *outputs, struct err *e)
{
    struct str rest = str_of(outputs), one;
    int fds[OUTPUTS_MAX] = {0};
    size_t n = 0;
    bool more = rest.n > 0;

    while (more) {
        more = str_cut(&rest, ',', &one);
        if (n == OUTPUTS_MAX)
            return err_set(e, -1, "more than %d log outputs", OUTPUTS_MAX);
        fds[n] = open_output(str_trim(one), e);
        if (fds[n] < 0)
            return -1;
        n++;
    }
    if (n == 0)
        fds[n++] = STDERR_FILENO;
    memcpy(logger.fds, fds, sizeof(fds));
    logger.n_fds = n;
    logger.format = format;
    return 0;
}

void log_set_level(enum log_level level)
{
    __atomic_store_n(&logger.n_packages, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&logger.level, (int)level, __ATOMIC_RELAXED);
}

bool log_enabled(const char *pkg, enum log_level level)
{
    size_t n = __atomic_load_n(&logger.n_packages, __ATOMIC_RELAXED);

    while (n-- > 0)
        if (strcmp(logger.packages[n].name, pkg) == 0)
            return level >= logger.packages[n].level;
    return (int)level >= __atomic_load_n(&logger.level, __ATOMIC_RELAXED);
}

struct level_alias {
    const char *name;
    enum log_level level;
};

static bool find_alias(const struct level_alias *a, size_t n, struct str name,
                       enum log_level *out)
{
    for (size_t i = 0; i < n; i++)
        if (str_caseeqz(name, a[i].name)) {
            *out = a[i].level;
            return true;
        }
    return false;
}

bool log_parse_capnslog_level(struct str name, enum log_level *out)
{
    static const struct level_alias aliases[] = {
        {"TRACE", LOG_DEBUG}, {"D", LOG_DEBUG},  {"T", LOG_DEBUG},
        {"I", LOG_INFO},      {"N", LOG_NOTICE}, {"W", LOG_WARN},
        {"E", LOG_ERROR},     {"C", LOG_CRIT},   {"5", LOG_DEBUG},
        {"4", LOG_DEBUG},     {"3", LOG_INFO},   {"2", LOG_NOTICE},
        {"1", LOG_WARN},      {"0", LOG_ERROR}};

    for (size_t i = 0; i < ARRAY_LEN(levels); i++)
        if (str_caseeqz(name, levels[i].name)) {
            *out = (enum log_level)i;
            return true;
        }
    return find_alias(aliases, ARRAY_LEN(aliases), name, out);
}

bool log_parse_level(struct str name, enum log_level *out)
{
    static const struct level_alias zap_names[] = {{"warn", LOG_WARN},
                                                   {"panic", LOG_CRIT},
                                                   {"fatal", LOG_CRIT},
                                                   {"dpanic", LOG_CRIT}};

    return log_parse_capnslog_level(name, out) ||
           find_alias(zap_names, ARRAY_LEN(zap_names), name, out);
}

/* One "pkg=LEVEL" behind the n in list, or in *rest if it is for all. */
static const char *parse_package(struct str one, struct package_level *list,
                                 size_t *n, enum log_level *rest)
{
    enum log_level level;
    struct str pkg;

    if (!str_cut(&one, '=', &pkg))
        return "oddly structured `pkg=level` option";
    if (!log_parse_level(one, &level))
        return "couldn't parse log level";
    if (str_eqz(pkg, "*")) {
        *rest = level;
    } else if (pkg.n < PACKAGE_NAME_MAX) { /* no package's name is longer */
        if (*n == PACKAGES_MAX)
            return "too many packages";
        list[*n] = (struct package_level){.level = level};
        memcpy(list[(*n)++].name, pkg.p, pkg.n);
    }
    return NULL;
}

const char *log_set_levels(enum log_level level, const char *packages)
{
    struct str rest = str_of(packages), one;
    struct package_level list[PACKAGES_MAX];
    enum log_level others = level;
    const char *wrong = NULL;
    bool more = rest.n > 0;
    size_t n = 0;

    log_set_level(level);
    if (log_parse_level(rest, &others))
        more = false;
    while (more && !wrong) {
        more = str_cut(&rest, ',', &one);
        wrong = parse_package(one, list, &n, &others);
    }
    if (wrong)
        return wrong;
    log_set_level(others);
    memcpy(logger.packages, list, n * sizeof(list[0]));
    __atomic_store_n(&logger.n_packages, n, __ATOMIC_RELAXED);
    return NULL;
}

static void add_json_text(struct buf *b, const char *p)
{
    for (; *p; p++) {
        unsigned char c = (unsigned char)*p;

        if (c == '"' || c == '\\')
            buf_printf(b, "\\%c", c);
        else if (c < 0x20)
            buf_printf(b, "\\u%04x", c);
        else
            buf_addc(b, (char)c);
    }
}

static void add_capnslog(struct buf *b, enum log_level level, const char *pkg,
                         const char *text)
{
    int64_t now = sys_wall_ns();
    time_t s = (time_t)(now / NS_PER_S);
    struct tm tm;
    char when[32];

    localtime_r(&s, &tm);
    strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
    buf_printf(b, "%s.%06d %c | %s: %s\n", when, (int)(now % NS_PER_S / 1000),
               levels[level].letter, pkg, text);
}

static void add_zap(struct buf *b, enum log_level level, const char *pkg,
                    const char *text)
{
    int64_t now = sys_wall_ns();
    char when[SYS_RFC3339_MAX];

    sys_rfc3339(when, now - now % NS_PER_MS);
    buf_printf(b,
               "{\"level\":\"%s\",\"ts\":\"%s\",\"caller\":\"%s\",\"msg\":\"",
               levels[level].zap, when, pkg);
    add_json_text(b, text);
    buf_adds(b, "\"}\n");
}

static void log_line(enum log_level level, const char *pkg, const char *fmt,
                     va_list ap)
{
    struct buf text = {0}, line = {0};

    buf_vprintf(&text, fmt, ap);
    /* One event is one line, whatever text a client brought in. */
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] < ' ' && text.data[i] != '\t')
            text.data[i] = ' ';
    if (logger.format == LOG_ZAP)
        add_zap(&line, level, pkg, buf_z(&text));
    else
        add_capnslog(&line, level, pkg, buf_z(&text));
    for (size_t i = 0; i < logger.n_fds; i++)
        sys_write_all(logger.fds[i], line.data, line.len); /* or it is lost */
    buf_release(&text);
    buf_release(&line);
}

void log_msg(enum log_level level, const char *pkg, const char *fmt, ...)
{
    va_list ap;

    if (!log_enabled(pkg, level))
        return;
    va_start(ap, fmt);
    log_line(level, pkg, fmt, ap);
    va_end(ap);
}

_Noreturn void log_fatal(const char *pkg, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    log_line(LOG_CRIT, pkg, fmt, ap);
    va_end(ap);
    _exit(1);
}
