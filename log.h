/*
 * log.h - one line per event on stderr (or the outputs that flags choose).
 *
 * Two formats of etcd: "capnslog", `2006-01-02 15:04:05.000000 I | pkg: text`,
 * and "zap", a JSON object a line. Thread-safe; a line is one write(2), so
 * lines never mix. Engines do not log; shells report for them.
 */
#ifndef LOG_H
#define LOG_H

#include "buf.h"

enum log_level {
    LOG_DEBUG,
    LOG_INFO,
    LOG_NOTICE, /* "N" in capnslog, info in zap */
    LOG_WARN,
    LOG_ERROR,
    LOG_CRIT,
};

enum log_format { LOG_CAPNSLOG, LOG_ZAP };

/*
 * outputs: comma list of default, stdout, stderr or file paths; default is
 * stderr. 0, or -1 with e set (a file that cannot be opened). Call before the
 * first thread starts.
 */
int log_open(enum log_format format, const char *outputs, struct err *e);

void log_set_level(enum log_level level); /* of all packages */
bool log_enabled(const char *pkg, enum log_level level);

/*
 * A level for all, but for those that packages names: "pkg=LEVEL,..." where
 * "*" is whoever is not named, or a single level. NULL; or what is wrong with
 * packages, which then count for nothing. Call before the first thread starts.
 */
const char *log_set_levels(enum log_level level, const char *packages);

/* "debug", "INFO", "warning", "W", "1", ..., in any case. */
bool log_parse_capnslog_level(struct str name, enum log_level *out);
/* Also zap's names: "warn", "panic", ... */
bool log_parse_level(struct str name, enum log_level *out);

/* pkg is etcd's package name for the line, such as "etcdserver". */
void log_msg(enum log_level level, const char *pkg, const char *fmt, ...)
    PRINTF(3, 4);

#define log_debug(pkg, ...)                                                    \
    do {                                                                       \
        if (log_enabled(pkg, LOG_DEBUG))                                       \
            log_msg(LOG_DEBUG, pkg, __VA_ARGS__);                              \
    } while (0)
#define log_info(pkg, ...) log_msg(LOG_INFO, pkg, __VA_ARGS__)
#define log_notice(pkg, ...) log_msg(LOG_NOTICE, pkg, __VA_ARGS__)
#define log_warn(pkg, ...) log_msg(LOG_WARN, pkg, __VA_ARGS__)
#define log_error(pkg, ...) log_msg(LOG_ERROR, pkg, __VA_ARGS__)

/* Log at level C and _exit(1): for a failed log write, never for bad input. */
_Noreturn void log_fatal(const char *pkg, const char *fmt, ...) PRINTF(2, 3);

#endif
