/*
 * log_test.c - which lines are printed, by level and package, and their forms.
 */
#include "log.h"

#include "sys.h"

#include "check.h"

#include <stdlib.h>
#include <unistd.h>

static const char *const packages[] = {"raft", "etcdserver", "wal"};

/* The lowest level of each package, as a digit; - for none. */
static const char *lowest(void)
{
    static char text[ARRAY_LEN(packages) + 1];

    for (size_t i = 0; i < ARRAY_LEN(packages); i++) {
        int level = LOG_DEBUG;

        while (level <= LOG_CRIT &&
               !log_enabled(packages[i], (enum log_level)level))
            level++;
        text[i] = level <= LOG_CRIT ? (char)('0' + level) : '-';
    }
    return text;
}

static void test_levels(void)
{
    static const struct {
        enum log_level all;
        const char *packages, *lowest;
        bool wrong;
    } cases[] = {
        {LOG_INFO, "", "111", false},
        {LOG_WARN, "", "333", false},
        {LOG_INFO, "DEBUG", "000", false},
        {LOG_INFO, "raft=DEBUG", "011", false},
        {LOG_INFO, "wal=CRITICAL,raft=D", "015", false},
        {LOG_INFO, "raft=ERROR,*=WARNING", "433", false},
        {LOG_INFO, "raft=panic,*=WARN", "533", false},
        {LOG_INFO, "*=NOTICE,etcdserver=TRACE", "202", false},
        {LOG_INFO, "*=2,etcdserver=5,wal=0", "204", false},
        {LOG_INFO, "raft=ERROR,raft=INFO", "111", false}, /* the last counts */
        {LOG_DEBUG, "etcdserver/api=ERROR,raf=ERROR", "000", false},
        {LOG_ERROR, "a-name-longer-than-any-package-of-etcd-ever-had-or-will=I",
         "444", false},
        /* What is wrong in one place counts nowhere. */
        {LOG_INFO, "wal=DEBUG,raft", "111", true},
        {LOG_INFO, "wal=DEBUG,raft=LOUD", "111", true},
        {LOG_INFO, "*=DEBUG,", "111", true},
        {LOG_WARN, "LOUD", "333", true},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *wrong = log_set_levels(cases[i].all, cases[i].packages);

        CHECK((wrong != NULL) == cases[i].wrong);
        CHECK_STR(lowest(), cases[i].lowest);
    }
}

/* Who sets the level at run time means all packages. */
static void test_set_level(void)
{
    CHECK(!log_set_levels(LOG_INFO, "raft=ERROR"));
    CHECK_STR(lowest(), "411");
    log_set_level(LOG_DEBUG);
    CHECK_STR(lowest(), "000");
}

static void test_many_packages(void)
{
    struct buf b = {0};

    for (int i = 0; i < 1000; i++)
        buf_printf(&b, "%sp%d=ERROR", i ? "," : "", i);
    CHECK(log_set_levels(LOG_INFO, buf_z(&b)) != NULL);
    CHECK(log_enabled("p0", LOG_INFO));
    buf_release(&b);
}

/* What three packages of three levels say, in each format. */
static char *lines_of(enum log_format format)
{
    const char *tmp = getenv("TMPDIR");
    char *path = xasprintf("%s/log_test.XXXXXX", tmp && *tmp ? tmp : "/tmp");
    int fd = mkstemp(path);
    struct buf b = {0};
    struct err e = {0};

    CHECK(fd >= 0);
    CHECK(log_open(format, path, &e) == 0);
    CHECK(!log_set_levels(LOG_INFO, "raft=WARN,wal=DEBUG"));
    log_info("etcdserver", "a %d", 1);
    log_debug("etcdserver", "hidden");
    log_info("raft", "hidden");
    log_warn("raft", "b \"quoted\"\nand no new line");
    log_debug("wal", "c");
    log_open(LOG_CAPNSLOG, "stderr", NULL);
    log_set_level(LOG_INFO);
    CHECK(sys_read_file(path, 1 << 20, &b, NULL) == 0);
    close(fd);
    unlink(path);
    free(path);
    return buf_steal(&b);
}

/* Cut out what stands between `from` and the next quote, everywhere. */
static void hide(char *text, const char *from)
{
    while ((text = strstr(text, from)) != NULL) {
        char *end = strchr(text += strlen(from), '"');

        CHECK(end != NULL);
        if (end)
            memmove(text, end, strlen(end) + 1);
    }
}

static void test_formats(void)
{
    const size_t time_len = strlen("2006-01-02 15:04:05.000000 ");
    char *text = lines_of(LOG_CAPNSLOG);

    for (char *line = text; strlen(line) > time_len;) {
        memmove(line, line + time_len, strlen(line + time_len) + 1);
        line += strcspn(line, "\n") + 1;
    }
    CHECK_STR(text, "I | etcdserver: a 1\n"
                    "W | raft: b \"quoted\" and no new line\n"
                    "D | wal: c\n");
    free(text);

    text = lines_of(LOG_ZAP);
    hide(text, "\"ts\":\"");
    CHECK_STR(text, "{\"level\":\"info\",\"ts\":\"\",\"caller\":\"etcdserver\","
                    "\"msg\":\"a 1\"}\n"
                    "{\"level\":\"warn\",\"ts\":\"\",\"caller\":\"raft\","
                    "\"msg\":\"b \\\"quoted\\\" and no new line\"}\n"
                    "{\"level\":\"debug\",\"ts\":\"\",\"caller\":\"wal\","
                    "\"msg\":\"c\"}\n");
    free(text);
}

int main(void)
{
    test_levels();
    test_set_level();
    test_many_packages();
    test_formats();
    return check_done("log");
}
