/*
 * config.c - settings of the server.
 *
 * THE WAY OF A VALUE, for each row of the table in flags.c
 *   1. text     from the command line, the environment or the file, checked
 *               by the row's type where it is read, so that the error can
 *               name its place; kept in settings[], one per row
 *   2. member   flag_store(): text, or else the default, in struct config
 *   3. verify() rules between values, in etcd's order and words
 *   4. derive() what follows from others: directories, the detected host
 *
 * A config file stands alone: beside it the command line is checked for
 * syntax only and the environment is not read.
 *
 * Flags that are known but without effect are checked like all others; one
 * that is set to something else than its default is reported, because silence
 * would be a promise.
 */
#include "config.h"
#include "flags.h"
#include "json.h"
#include "secure.h"
#include "sys.h"
#include "yaml.h"

#include <arpa/inet.h>
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define FILE_MAX (1 << 20)
#define ELECTION_MS_MAX 50000

/* Flags of etcd 0.x; a value is ignored with them. */
/* clang-format off */
static const char *const retired[] = {
    "cluster-active-size",   "cluster-remove-delay",
    "cluster-sync-interval", "config",
    "force",                 "max-result-buffer",
    "max-retry-attempts",    "peer-heartbeat-interval",
    "peer-election-timeout", "retry-interval",
    "snapshot",              "v",
    "vv",                    "test.coverprofile",
    "test.outputdir",
};
/* clang-format on */

enum source { FROM_DEFAULT, FROM_FLAG, FROM_ENV, FROM_FILE };

struct setting {
    char *text; /* owned; NULL: the row's default */
    enum source from;
};

/* All that is known while loading. */
struct loader {
    struct config *c;
    struct setting *settings; /* owned; one per row of flags[] */
    bool retired_seen[ARRAY_LEN(retired)];
    const char *positional; /* first argument that is no flag, or NULL */
};

/* Where a step of loading leads. */
enum step {
    GO_ON,
    STOP_OK,     /* exit code 0 */
    STOP_ERROR,  /* 1 */
    STOP_SYNTAX, /* 2 */
};

static const struct setting *setting(const struct loader *l, const char *name)
{
    int i = flag_find(str_of(name));

    assert(i >= 0);
    return &l->settings[i];
}

static bool is_given(const struct loader *l, const char *name)
{
    return setting(l, name)->from != FROM_DEFAULT;
}

static const char *value(const struct loader *l, const char *name)
{
    int i = flag_find(str_of(name));

    assert(i >= 0);
    return l->settings[i].text ? l->settings[i].text : flags[i].def;
}

/* As Go's %q writes it: errors quote what was typed. */
static void add_quoted(struct buf *b, struct str s)
{
    buf_addc(b, '"');
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c == '"' || c == '\\')
            buf_printf(b, "\\%c", c);
        else if (c == '\n')
            buf_adds(b, "\\n");
        else if (c == '\t')
            buf_adds(b, "\\t");
        else if (c < ' ' || c == 127)
            buf_printf(b, "\\x%02x", c);
        else
            buf_addc(b, (char)c);
    }
    buf_addc(b, '"');
}

/* As in etcd: scripts pass what they may have nothing for. */
static bool empty_is_unset(const struct flag *f)
{
    return f->type == FLAG_URLS ||
           str_has_prefix(str_of(f->name), "auto-compaction-");
}

/* Keep text for row i, if it is a value of its type; else say why not. */
static const char *set(struct loader *l, size_t i, const char *text,
                       enum source from, struct err *e)
{
    struct setting *s = &l->settings[i];
    const char *wrong;

    if (!*text && empty_is_unset(&flags[i]))
        return NULL;
    wrong = flag_check(&flags[i], text, e);
    if (wrong)
        return wrong;
    free(s->text);
    s->text = xstrdup(text);
    s->from = from;
    return NULL;
}

/* Every member that belongs to a row gets its value. */
static void fill(const struct loader *l)
{
    for (size_t i = 0; i < n_flags; i++) {
        const char *text = l->settings[i].text;

        if (flags[i].at != FLAG_NOWHERE)
            flag_store(&flags[i], text ? text : flags[i].def, l->c);
    }
}

/* --- Help and version. -------------------------------------------------- */

static void print_usage(void)
{
    fputs("Usage:\n"
          "\n"
          "  etcd [flags]\n"
          "    Start an etcd server.\n"
          "\n"
          "  etcd --version\n"
          "    Show the version of etcd.\n"
          "\n"
          "  etcd -h | --help\n"
          "    Show the help information about etcd.\n"
          "\n"
          "  etcd --config-file PATH\n"
          "    Path to the server configuration file. If one is given, other\n"
          "    command line flags and environment variables are ignored.\n",
          stderr);
}

static void print_help(void)
{
    print_usage();
    printf("Each flag is also read from the environment: --data-dir from "
           "ETCD_DATA_DIR.\n\n");
    flags_print_help();
}

const char *config_os_arch(void)
{
#if defined(__x86_64__)
    return "linux/amd64";
#elif defined(__i386__)
    return "linux/386";
#elif defined(__aarch64__)
    return "linux/arm64";
#elif defined(__arm__)
    return "linux/arm";
#elif defined(__powerpc64__) && defined(__LITTLE_ENDIAN__)
    return "linux/ppc64le";
#elif defined(__powerpc64__)
    return "linux/ppc64";
#elif defined(__s390x__)
    return "linux/s390x";
#elif defined(__riscv)
    return "linux/riscv64";
#elif defined(__loongarch64)
    return "linux/loong64";
#elif defined(__mips64) && defined(__MIPSEL__)
    return "linux/mips64le";
#elif defined(__mips64)
    return "linux/mips64";
#elif defined(__mips__) && defined(__MIPSEL__)
    return "linux/mipsle";
#elif defined(__mips__)
    return "linux/mips";
#else
    return "linux/unknown";
#endif
}

static void print_version(void)
{
    printf("etcd Version: %s\nGit SHA: %s\nGo Version: %s\nGo OS/Arch: %s\n",
           ETCD_VERSION, ETCD_GIT_SHA, ETCD_GO_VERSION, config_os_arch());
}

/* --- The command line, by the rules of Go's flag package. --------------- */

/* What is wrong was said; behind the usage that etcd prints it would be lost. */
static enum step see_help(void)
{
    fputs("See 'etcd --help'.\n", stderr);
    return STOP_SYNTAX;
}

static enum step bad_value(const struct flag *f, struct str name,
                           const char *text, const char *wrong)
{
    struct buf b = {0};

    buf_adds(&b, f->type == FLAG_BOOL ? "invalid boolean value "
                                      : "invalid value ");
    add_quoted(&b, str_of(text));
    buf_printf(&b, "%s -%.*s: %s", f->type == FLAG_BOOL ? " for" : " for flag",
               STR_FMT(name), wrong);
    fprintf(stderr, "%s\n", buf_z(&b));
    buf_release(&b);
    return see_help();
}

static enum step no_such_flag(struct loader *l, struct str name)
{
    const char *nearest;

    for (size_t i = 0; i < ARRAY_LEN(retired); i++) {
        if (str_eqz(name, retired[i])) {
            l->retired_seen[i] = true;
            return GO_ON;
        }
    }
    if (str_eqz(name, "help") || str_eqz(name, "h")) {
        print_help();
        return STOP_OK;
    }
    fprintf(stderr, "flag provided but not defined: -%.*s\n", STR_FMT(name));
    nearest = flag_nearest(name);
    if (nearest)
        fprintf(stderr, "did you mean --%s?\n", nearest);
    return see_help();
}

/* One flag; *i is left at its last argument. */
static enum step parse_flag(struct loader *l, char **argv, int argc, int *i)
{
    const char *arg = argv[*i], *text = "true", *wrong;
    struct str rest = str_of(arg + (arg[1] == '-' ? 2 : 1)), name;
    bool has_value;
    struct err e;
    int row;

    if (!rest.n || rest.p[0] == '-' || rest.p[0] == '=') {
        fprintf(stderr, "bad flag syntax: %s\n", arg);
        return see_help();
    }
    has_value = str_cut(&rest, '=', &name);
    row = flag_find(name);
    if (row < 0)
        return no_such_flag(l, name);

    if (has_value) {
        text = rest.p; /* argv's strings end in a NUL */
    } else if (flags[row].type != FLAG_BOOL) {
        if (*i + 1 == argc) {
            fprintf(stderr, "flag needs an argument: -%.*s\n", STR_FMT(name));
            return see_help();
        }
        text = argv[++*i];
    }
    wrong = set(l, (size_t)row, text, FROM_FLAG, &e);
    return wrong ? bad_value(&flags[row], name, text, wrong) : GO_ON;
}

static enum step parse_args(struct loader *l, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        enum step step;

        if (strcmp(argv[i], "--") == 0) {
            l->positional = argv[i + 1]; /* NULL after the last */
            return GO_ON;
        }
        if (argv[i][0] != '-' || !argv[i][1]) {
            l->positional = argv[i];
            return GO_ON;
        }
        step = parse_flag(l, argv, argc, &i);
        if (step != GO_ON)
            return step;
    }
    return GO_ON;
}

/* --- The environment. --------------------------------------------------- */

/* "ETCD_DATA_DIR=x" to "data-dir" and "x"; false if it is not ours. */
static bool cut_env(const char *entry, struct buf *name, const char **text)
{
    const char *p = entry + 5;

    if (strncmp(entry, "ETCD_", 5) != 0)
        return false;
    for (; *p && *p != '='; p++) {
        if (*p == '_')
            buf_addc(name, '-');
        else if (*p >= 'A' && *p <= 'Z')
            buf_addc(name, (char)(*p - 'A' + 'a'));
        else
            buf_addc(name, *p >= '0' && *p <= '9' ? *p : '?');
    }
    *text = *p ? p + 1 : "";
    return *p == '=';
}

/* Rows that the environment cannot set, and the name that another part of
 * etcd reads. */
static bool is_special_env(const struct buf *name)
{
    struct str s = buf_str(name);

    return str_eqz(s, "version") || str_eqz(s, "unsupported-arch");
}

static int use_env(struct loader *l, const char *entry, struct buf *name,
                   struct err *e)
{
    const char *text, *wrong;
    struct buf b = {0};
    struct err why;
    int row, rc;

    if (!cut_env(entry, name, &text) || !*text || is_special_env(name))
        return 0;
    row = flag_find(buf_str(name));
    if (row < 0 || l->settings[row].from == FROM_FLAG)
        return 0;
    wrong = set(l, (size_t)row, text, FROM_ENV, &why);
    if (!wrong)
        return 0;
    add_quoted(&b, str_of(text));
    rc = err_set(e, -1, "invalid value %s for %.*s: %s", buf_z(&b),
                 (int)(text - entry - 1), entry, wrong);
    buf_release(&b);
    return rc;
}

/* The first error counts; the others are left to the next attempt. */
static int read_env(struct loader *l, struct err *e)
{
    struct buf name = {0};
    int rc = 0;

    for (char **p = environ; p && *p && rc == 0; p++) {
        buf_clear(&name);
        rc = use_env(l, *p, &name, e);
    }
    buf_release(&name);
    return rc;
}

static void report_env_entry(const struct loader *l, const char *entry,
                             struct buf *name)
{
    const char *text;
    int row, n;

    if (!cut_env(entry, name, &text))
        return;
    n = (int)(text - entry - 1);
    row = flag_find(buf_str(name));
    if (str_eqz(buf_str(name), "version"))
        log_warn("pkg/flags", "cannot set special environment variable %.*s", n,
                 entry);
    else if (is_special_env(name) || (row >= 0 && !*text))
        return;
    else if (row < 0)
        log_warn("pkg/flags", "unrecognized environment variable %s", entry);
    else if (l->settings[row].from == FROM_FLAG)
        log_warn("pkg/flags",
                 "recognized environment variable %.*s, but unused: shadowed "
                 "by corresponding flag",
                 n, entry);
    else if (l->settings[row].from == FROM_ENV)
        log_info("pkg/flags", "recognized and used environment variable %s",
                 entry);
}

static void report_env(const struct loader *l)
{
    struct buf name = {0};

    for (char **p = environ; p && *p; p++) {
        buf_clear(&name);
        report_env_entry(l, *p, &name);
    }
    buf_release(&name);
}

/* --- The file. ---------------------------------------------------------- */

/* clang-format off */
static const char *const json_kinds[] = {
    [JSON_NULL] = "null",     [JSON_BOOL] = "bool",
    [JSON_NUMBER] = "number", [JSON_STRING] = "string",
    [JSON_ARRAY] = "array",   [JSON_OBJECT] = "object",
};
/* clang-format on */

/* "json: cannot unmarshal ..." as Go says it, so that people find it. */
static int wrong_type(const struct flag *f, const struct json *j, struct err *e)
{
    const char *path = f->yaml ? f->yaml : f->name;
    char *dotted = xstrdup(path);
    bool show = j->type == JSON_NUMBER && f->type != FLAG_BOOL;
    int rc;

    for (char *p = dotted; *p; p++)
        *p = *p == '/' ? '.' : *p;
    rc = err_set(e, -1,
                 "error unmarshaling JSON: while decoding JSON: json: cannot "
                 "unmarshal %s%s%.*s into Go struct field %s.%s of type %s",
                 json_kinds[j->type], show ? " " : "",
                 show ? (int)j->text.n : 0, show ? j->text.p : "",
                 strchr(path, '/') ? "securityConfig" : "configYAML", dotted,
                 flag_go_type(f));
    free(dotted);
    return rc;
}

static int add_text(const struct flag *f, const struct json *j, struct buf *out,
                    struct err *e)
{
    if (j->type == JSON_BOOL)
        buf_adds(out, j->boolean ? "true" : "false");
    else if (j->type == JSON_STRING || j->type == JSON_NUMBER)
        buf_addstr(out, j->text);
    else
        return wrong_type(f, j, e);
    return 0;
}

/* What stands in the file, as it would be typed on the command line. */
static int file_text(const struct flag *f, const struct json *j,
                     struct buf *out, struct err *e)
{
    if (j->type == JSON_ARRAY && f->type == FLAG_LIST) {
        for (const struct json *k = j->first; k; k = k->next) {
            if (k != j->first)
                buf_addc(out, ',');
            if (add_text(f, k, out, e) < 0)
                return -1;
        }
        return 0;
    }
    if (!flag_is_text(f) &&
        j->type != (f->type == FLAG_BOOL ? JSON_BOOL : JSON_NUMBER))
        return wrong_type(f, j, e);
    if (add_text(f, j, out, e) < 0)
        return -1;
    if (f->type == FLAG_DURATION || f->type == FLAG_DURATION_MS)
        buf_adds(out, "ns");
    if (out->len && memchr(out->data, 0, out->len))
        return err_set(e, -1, "%s holds a NUL byte", f->name);
    return 0;
}

/* Values that etcd hands to its flags complain in these words, unadorned. */
static enum step bad_file_text(const struct flag *f, const char *wrong)
{
    fprintf(stderr, "unexpected error setting up %s: %s\n", f->name, wrong);
    return STOP_ERROR;
}

static enum step verify_failed(const char *why)
{
    log_error("etcdmain", "error verifying flags, %s. See 'etcd --help'.", why);
    return STOP_ERROR;
}

static enum step use_file_value(struct loader *l, size_t row,
                                const struct json *j)
{
    const struct flag *f = &flags[row];
    struct buf text = {0};
    enum step step = GO_ON;
    const char *wrong;
    struct err e;

    if (file_text(f, j, &text, &e) < 0) {
        buf_release(&text);
        return verify_failed(e.msg);
    }
    /* An empty text means "not set" where it could not be a value. */
    if (text.len || f->type == FLAG_STRING || f->type == FLAG_LIST ||
        f->type == FLAG_CORS) {
        wrong = set(l, row, buf_z(&text), FROM_FILE, &e);
        if (wrong && !flag_is_text(f)) {
            wrong_type(f, j, &e);
            step = verify_failed(e.msg);
        } else if (wrong && strcmp(f->name, "initial-cluster-state") == 0) {
            char *why =
                xasprintf("unexpected clusterState \"%s\"", buf_z(&text));

            step = verify_failed(why);
            free(why);
        } else if (wrong) {
            step = bad_file_text(f, wrong);
        }
    }
    buf_release(&text);
    return step;
}

/* The value at "a/b" below root, or NULL; null counts as absent. */
static const struct json *file_value(const struct json *root, const char *path)
{
    struct str rest = str_of(path), part;
    bool more;

    do {
        char *name;

        more = str_cut(&rest, '/', &part);
        name = xstrndup(part.p, part.n);
        root = root->type == JSON_OBJECT ? json_get(root, name) : NULL;
        free(name);
    } while (more && root);
    return root && root->type != JSON_NULL ? root : NULL;
}

/* Names in the file count in either case, as file_value() has it. */
static bool is_section(struct str name)
{
    for (size_t i = 0; i < n_flags; i++) {
        const char *yaml = flags[i].yaml ? flags[i].yaml : "";

        if (strlen(yaml) > name.n && yaml[name.n] == '/' &&
            strncasecmp(yaml, name.p, name.n) == 0)
            return true;
    }
    return false;
}

/* Is name, in the section of the file called section ("" or "x/"), a setting
 * or itself a section? */
static bool file_knows(const char *section, struct str name)
{
    static const char prefix[] = "experimental-";
    char *path = xasprintf("%s%.*s", section, STR_FMT(name));
    bool is_older = strncasecmp(path, prefix, sizeof(prefix) - 1) == 0;
    bool known = !*section && is_section(name);

    for (size_t i = 0; i < n_flags && !known; i++) {
        const struct flag *f = &flags[i];

        known = strcasecmp(path, f->yaml ? f->yaml : f->name) == 0 ||
                (is_older && f->bits & FLAG_EXPERIMENTAL &&
                 strcasecmp(path + sizeof(prefix) - 1, f->name) == 0);
    }
    free(path);
    return known;
}

/* Nobody reads these; a slip of the pen must not pass for a setting. */
static void report_unknown(const struct json *object, const char *section)
{
    for (const struct json *j = object->first; j; j = j->next) {
        char *below;

        if (!file_knows(section, j->name)) {
            const char *nearest = flag_nearest(j->name);

            log_warn("etcdmain",
                     "the configuration file sets %s%.*s, which is unknown "
                     "and ignored%s%s",
                     section, STR_FMT(j->name),
                     nearest ? "; was this meant: " : "",
                     nearest ? nearest : "");
        } else if (!*section && j->type == JSON_OBJECT) {
            below = xasprintf("%.*s/", STR_FMT(j->name));
            report_unknown(j, below);
            free(below);
        }
    }
}

/* A section that is none, such as a text, must not pass for an empty one: TLS
 * would be off. */
static int check_sections(const struct json *root, struct err *e)
{
    for (const struct json *j = root->first; j; j = j->next)
        if (j->type != JSON_OBJECT && j->type != JSON_NULL &&
            is_section(j->name))
            return err_set(e, -1,
                           "error unmarshaling JSON: while decoding JSON: "
                           "json: cannot unmarshal %s into Go struct field "
                           "configYAML.%.*s of type embed.securityConfig",
                           json_kinds[j->type], STR_FMT(j->name));
    return 0;
}

static enum step use_file(struct loader *l, const struct json *root)
{
    struct err why;

    if (check_sections(root, &why) < 0)
        return verify_failed(why.msg);
    for (size_t i = 0; i < n_flags; i++) {
        const struct flag *f = &flags[i];
        const struct json *j = file_value(root, f->yaml ? f->yaml : f->name);
        enum step step;

        if (f->bits & FLAG_NOT_IN_FILE)
            continue;
        if (!j && f->bits & FLAG_EXPERIMENTAL) {
            char *older = xasprintf("experimental-%s", f->name);

            j = file_value(root, older);
            free(older);
        }
        if (!j)
            continue;
        step = use_file_value(l, i, j);
        if (step != GO_ON)
            return step;
    }
    return GO_ON;
}

static int parse_file(const char *path, struct json **root, struct err *e)
{
    struct buf text = {0};
    struct err why;
    int rc = sys_read_file(path, FILE_MAX, &text, e);

    if (rc == 0 && yaml_parse(text.data, text.len, root, &why) < 0)
        rc = err_set(e, -1, "error converting YAML to JSON: %s", why.msg);
    buf_release(&text);
    return rc;
}

static void forget_settings(struct loader *l)
{
    for (size_t i = 0; i < n_flags; i++) {
        free(l->settings[i].text);
        l->settings[i] = (struct setting){0};
    }
}

static enum step load_file(struct loader *l, const char *path)
{
    struct json *root = NULL;
    enum step step = GO_ON;
    struct err e;

    forget_settings(l);
    log_info("etcdmain",
             "Loading server configuration from \"%s\". Other configuration "
             "command line flags and environment variables will be ignored "
             "if provided.",
             path);
    if (parse_file(path, &root, &e) != 0)
        return verify_failed(e.msg);
    if (root->type == JSON_OBJECT) {
        report_unknown(root, "");
        step = use_file(l, root);
    } else if (root->type != JSON_NULL) {
        err_set(&e, -1,
                "error unmarshaling JSON: while decoding JSON: json: cannot "
                "unmarshal %s into Go value of type embed.configYAML",
                json_kinds[root->type]);
        step = verify_failed(e.msg);
    }
    json_free(root);
    if (step == GO_ON)
        set(l, (size_t)flag_find(STR("config-file")), path, FROM_FILE, &e);
    return step;
}

/* --- Rules between values. ---------------------------------------------- */

enum { E_NOT_ADVERTISED = -2 };

static bool is_ip(const char *host)
{
    unsigned char addr[16];

    return inet_pton(AF_INET, host, addr) == 1 ||
           inet_pton(AF_INET6, host, addr) == 1;
}

static int check_bind_urls(const struct url_list *l, struct err *e)
{
    for (size_t i = 0; i < l->n; i++) {
        const struct url *u = &l->urls[i];

        if (!url_is_unix(u) && strcmp(u->host, "localhost") != 0 &&
            !is_ip(u->host))
            return err_set(e, -1, "expected IP in URL for binding (%s)",
                           u->raw);
    }
    return 0;
}

static int check_host_urls(const struct url_list *l, const char *name,
                           struct err *e)
{
    struct buf all = {0};
    int rc = 0;

    url_list_print(&all, l, ",");
    for (size_t i = 0; i < l->n && rc == 0; i++) {
        if (!l->urls[i].host[0])
            rc = err_set(e, -1,
                         "--%s \"%s\" must be \"host:port\" (unexpected "
                         "empty host (%s))",
                         name, buf_z(&all), l->urls[i].raw);
    }
    buf_release(&all);
    return rc;
}

static int check_times(const struct config *c, struct err *e)
{
    if (c->heartbeat_ms == 0)
        return err_set(e, -1, "--heartbeat-interval must be >0 (set to 0ms)");
    if (c->election_ms == 0)
        return err_set(e, -1, "--election-timeout must be >0 (set to 0ms)");
    if (5 * c->heartbeat_ms > c->election_ms)
        return err_set(e, -1,
                       "--election-timeout[%" PRId64 "ms] should be at least "
                       "as 5 times as --heartbeat-interval[%" PRId64 "ms]",
                       c->election_ms, c->heartbeat_ms);
    if (c->election_ms > ELECTION_MS_MAX)
        return err_set(e, -1,
                       "--election-timeout[%" PRId64 "ms] is too long, and "
                       "should be set less than %dms",
                       c->election_ms, ELECTION_MS_MAX);
    return 0;
}

static int check_auto_compaction(const struct config *c, struct err *e)
{
    const char *kept = c->auto_compaction_retention;
    bool periodic = strcmp(c->auto_compaction_mode, "periodic") == 0;
    int64_t n;

    if (!periodic && strcmp(c->auto_compaction_mode, "revision") != 0)
        return err_set(e, -1, "unknown auto-compaction-mode \"%s\"",
                       c->auto_compaction_mode);
    if (str_to_i64(str_of(kept), &n) ||
        (periodic && sys_parse_duration(str_of(kept), &n)))
        return 0;
    return err_set(e, -1,
                   "error parsing CompactionRetention: \"%s\" is not a number "
                   "of %s",
                   kept, periodic ? "hours or a duration" : "revisions");
}

static int check_bootstrap(const struct config *c, struct err *e)
{
    int n = (*c->discovery != 0) + (*c->initial_cluster != 0) +
            (*c->discovery_srv != 0);

    if (n <= 1)
        return 0;
    return err_set(e, -1,
                   "multiple discovery or bootstrap flags are set. Choose one "
                   "of \"initial-cluster\", \"discovery\" or "
                   "\"discovery-srv\"");
}

static int check_addresses(const struct config *c, struct err *e)
{
    if (check_bind_urls(&c->listen_peer_urls, e) < 0 ||
        check_bind_urls(&c->listen_client_urls, e) < 0 ||
        check_bind_urls(&c->listen_metrics_urls, e) < 0)
        return -1;
    if (check_host_urls(&c->initial_advertise_peer_urls,
                        "initial-advertise-peer-urls", e) < 0)
        return -1;
    return check_host_urls(&c->advertise_client_urls, "advertise-client-urls",
                           e);
}

static int verify(const struct config *c, struct err *e)
{
    if (check_addresses(c, e) < 0 || check_bootstrap(c, e) < 0 ||
        check_times(c, e) < 0)
        return -1;
    if (!c->advertise_client_urls.n)
        return err_set(e, E_NOT_ADVERTISED,
                       "--advertise-client-urls is required when "
                       "--listen-client-urls is set explicitly");
    if (strcmp(c->auth_token, "simple") != 0 &&
        !str_has_prefix(str_of(c->auth_token), "simple,") &&
        !str_has_prefix(str_of(c->auth_token), "jwt,"))
        return err_set(e, -1, "auth: invalid auth options");
    return check_auto_compaction(c, e);
}

/* --- What this build cannot do is refused, never passed over. ----------- */

#define TLS_ADVICE                                                             \
    "needs TLS, which is left out of this build (make TLS=0); use http URLs "  \
    "or put a TLS proxy in front"

static int refuse_tls_urls(const struct url_list *l, const char *name,
                           struct err *e)
{
    for (size_t i = 0; i < l->n; i++) {
        if (url_is_tls(&l->urls[i]))
            return err_set(e, -1, "--%s %s " TLS_ADVICE, name, l->urls[i].raw);
    }
    return 0;
}

static int refuse_tls(const struct loader *l, struct err *e)
{
    const struct config *c = l->c;

    for (size_t i = 0; i < n_flags; i++) {
        const char *text = l->settings[i].text;
        bool on = false;

        if (!(flags[i].bits & FLAG_NEEDS_TLS) || !text || !*text)
            continue;
        if (flags[i].type != FLAG_BOOL || (flag_parse_bool(text, &on) && on))
            return err_set(e, -1, "--%s " TLS_ADVICE, flags[i].name);
    }
    /* Clients may well be told of an https URL: that of a proxy in front. */
    if (refuse_tls_urls(&c->listen_peer_urls, "listen-peer-urls", e) < 0 ||
        refuse_tls_urls(&c->listen_client_urls, "listen-client-urls", e) < 0 ||
        refuse_tls_urls(&c->listen_metrics_urls, "listen-metrics-urls", e) < 0)
        return -1;
    if (strstr(c->initial_cluster, "=https://") ||
        strstr(c->initial_cluster, "=unixs://"))
        return err_set(e, -1, "--initial-cluster with https " TLS_ADVICE);
    if (strncmp(c->discovery, "https:", 6) == 0)
        return err_set(e, -1, "--discovery %s " TLS_ADVICE, c->discovery);
    return refuse_tls_urls(&c->initial_advertise_peer_urls,
                           "initial-advertise-peer-urls", e);
}

static int refuse_unsupported(const struct loader *l, struct err *e)
{
    if (strcmp(value(l, "proxy"), "off") != 0)
        return err_set(e, -1,
                       "--proxy %s: the v2 proxy mode is not supported; let "
                       "clients use the members' URLs, or any HTTP proxy",
                       value(l, "proxy"));
    if (*value(l, "discovery-endpoints") || *value(l, "discovery-token"))
        return err_set(e, -1,
                       "--discovery-endpoints and --discovery-token: the v3 "
                       "discovery is not supported; use --discovery, "
                       "--discovery-srv or --initial-cluster");
    return secure_available ? 0 : refuse_tls(l, e);
}

static void report_no_effect(const struct loader *l)
{
    for (size_t i = 0; i < n_flags; i++) {
        const char *text = l->settings[i].text;

        if (flags[i].bits & FLAG_NO_EFFECT && text &&
            !flag_is_default(&flags[i], text))
            log_warn("etcdmain", "--%s is accepted, but has no effect here",
                     flags[i].name);
    }
}

/* --- The log. ----------------------------------------------------------- */

static int choose_format(const struct loader *l, struct err *e)
{
    const char *logger = value(l, "logger");

    if (strcmp(logger, "capnslog") == 0 ||
        strcmp(value(l, "log-format"), "console") == 0)
        l->c->log_format = LOG_CAPNSLOG;
    else if (strcmp(logger, "zap") == 0)
        l->c->log_format = LOG_ZAP;
    else
        return err_set(e, -1, "unknown logger option \"%s\"", logger);
    return 0;
}

static int choose_outputs(const struct loader *l, struct err *e)
{
    struct config *c = l->c;
    struct str rest, one;
    bool more;

    if (is_given(l, "log-output") && !is_given(l, "log-outputs")) {
        free(c->log_outputs);
        c->log_outputs = xstrdup(value(l, "log-output"));
    }
    rest = str_of(c->log_outputs);
    if (!strchr(c->log_outputs, ','))
        return 0;
    do {
        more = str_cut(&rest, ',', &one);
        if (str_eqz(str_trim(one), "default"))
            return err_set(e, -1,
                           "multi logoutput for \"default\" is not "
                           "supported yet");
    } while (more);
    return 0;
}

/* The log as configured; what is wrong with it goes to the log as it is. */
static enum step open_log(const struct loader *l)
{
    struct config *c = l->c;
    const char *name = value(l, "log-level"), *wrong;
    enum log_level level;
    struct err e;

    if (choose_format(l, &e) < 0 || choose_outputs(l, &e) < 0)
        return verify_failed(e.msg);
    if (!log_parse_level(str_of(name), &level)) {
        err_set(&e, -1,
                "unknown log-level \"%s\" (it is one of debug, info, warn, "
                "error, panic, fatal)",
                name);
        return verify_failed(e.msg);
    }
    if (log_open(c->log_format, c->log_outputs, &e) < 0) {
        log_open(c->log_format, "stderr", NULL); /* where it is seen */
        return verify_failed(e.msg);
    }
    wrong = log_set_levels(c->debug ? LOG_DEBUG : level, c->log_package_levels);
    if (wrong)
        log_warn("embed",
                 "couldn't parse log level string: %s: %s, continuing with "
                 "default levels",
                 wrong, c->log_package_levels);
    return GO_ON;
}

static void report_sources(const struct loader *l, bool with_file)
{
    for (size_t i = 0; i < ARRAY_LEN(retired); i++) {
        if (l->retired_seen[i])
            log_warn("pkg/flags",
                     "flag \"-%s\" is no longer supported - ignoring.",
                     retired[i]);
    }
    if (!with_file)
        report_env(l);
}

/* --- What follows from other values. ------------------------------------ */

/* The flag that was given and its companion that was not. */
static void drop_defaults(const struct loader *l)
{
    struct config *c = l->c;
    bool may_be_proxy =
        *c->discovery && strcmp(value(l, "discovery-fallback"), "proxy") == 0;
    bool by_file = *c->config_file != 0;

    if (!by_file && !may_be_proxy && is_given(l, "listen-client-urls") &&
        !is_given(l, "advertise-client-urls"))
        url_list_release(&c->advertise_client_urls);

    /* A cluster that is yet to be found has no initial members. */
    if ((*c->discovery || *c->discovery_srv || *c->discovery_srv_name) &&
        (by_file || !is_given(l, "initial-cluster")) &&
        strcmp(c->initial_cluster, CONFIG_CLUSTER) == 0)
        c->initial_cluster[0] = '\0';
}

/* A file of authorities under its older name, which asks for certificates. */
static void take_ca_file(const struct loader *l, const char *name,
                         struct tls_files *f)
{
    const char *path = value(l, name);

    if (!*path)
        return;
    log_warn("etcdmain",
             "--%s is deprecated; use --%strusted-ca-file and "
             "--%sclient-cert-auth",
             name, name[0] == 'p' ? "peer-" : "",
             name[0] == 'p' ? "peer-" : "");
    if (!*f->trusted_ca_file) {
        free(f->trusted_ca_file);
        f->trusted_ca_file = xstrdup(path);
    }
    f->client_cert_auth = true;
}

/*
 * The address that packets to the world would leave from. Connecting a
 * datagram socket asks the routing table and sends nothing; the destination
 * is of the block reserved for documentation (RFC 5737).
 */
static bool default_host(char out[INET_ADDRSTRLEN])
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)}, me;
    socklen_t n = sizeof(me);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool ok;

    if (fd < 0)
        return false;
    inet_pton(AF_INET, "192.0.2.1", &to.sin_addr);
    ok = connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0 &&
         getsockname(fd, (struct sockaddr *)&me, &n) == 0 &&
         inet_ntop(AF_INET, &me.sin_addr, out, INET_ADDRSTRLEN) &&
         strcmp(out, "0.0.0.0") != 0;
    close(fd);
    return ok;
}

/* Listening everywhere and advertising localhost: advertise host instead. */
static bool advertise_host(const struct url_list *listen,
                           struct url_list *advertised, const char *unchanged,
                           const char *host)
{
    struct url_list changed;
    char *raw;
    int rc;

    if (advertised->n != 1 || strcmp(advertised->urls[0].raw, unchanged) != 0 ||
        strcmp(listen->urls[0].host, "0.0.0.0") != 0)
        return false;
    raw = xasprintf("%s://%s:%s", advertised->urls[0].scheme, host,
                    listen->urls[0].port);
    rc = url_list_parse(str_of(raw), &changed, NULL);
    free(raw);
    if (rc < 0)
        return false;
    url_list_release(advertised);
    *advertised = changed;
    return true;
}

static bool detect_host(struct config *c)
{
    char host[INET_ADDRSTRLEN];
    bool peer, client;

    if (!default_host(host))
        return false;
    peer = advertise_host(&c->listen_peer_urls, &c->initial_advertise_peer_urls,
                          CONFIG_PEER_URL, host);
    client = advertise_host(&c->listen_client_urls, &c->advertise_client_urls,
                            CONFIG_CLIENT_URL, host);
    if (peer || client)
        log_info("etcdmain", "advertising using detected default host \"%s\"",
                 host);
    return peer;
}

/* The default cluster is this member at the URLs that it advertises. */
static void name_default_cluster(struct config *c)
{
    const struct url_list *l = &c->initial_advertise_peer_urls;
    struct buf b = {0};

    for (size_t i = 0; i < l->n; i++)
        buf_printf(&b, "%s%s=%s", i ? "," : "", c->name, l->urls[i].raw);
    free(c->initial_cluster);
    c->initial_cluster = buf_steal(&b);
}

static void derive_cluster(struct config *c)
{
    bool detected = detect_host(c);

    if (strcmp(c->initial_cluster, CONFIG_CLUSTER) == 0 &&
        (detected || strcmp(c->name, CONFIG_NAME) != 0))
        name_default_cluster(c);
}

static void derive_dirs(struct config *c)
{
    if (!*c->data_dir) {
        free(c->data_dir);
        c->data_dir = xasprintf("%s.etcd", c->name);
        log_warn("etcdmain",
                 "no data-dir provided, using default data-dir ./%s",
                 c->data_dir);
    }
    c->member_dir = xasprintf("%s/member", c->data_dir);
    c->snap_dir = xasprintf("%s/snap", c->member_dir);
}

/* Every client listener serves HTTP, so the further ones are like the rest. */
static int join_http_urls(const struct loader *l, struct err *e)
{
    const char *more = value(l, "listen-client-http-urls");
    struct url_list *all = &l->c->listen_client_urls, joined, http;
    struct buf b = {0};
    size_t n;
    int rc;

    if (!*more)
        return 0;
    if (url_list_parse(str_of(more), &http, e) < 0)
        return -1;
    n = all->n + http.n;
    url_list_release(&http);
    url_list_print(&b, all, ",");
    buf_printf(&b, ",%s", more);
    rc = url_list_parse(buf_str(&b), &joined, e);
    buf_release(&b);
    if (rc < 0)
        return -1;
    url_list_release(all);
    *all = joined;
    if (joined.n != n)
        return err_set(e, -1,
                       "--listen-client-urls and "
                       "--listen-client-http-urls have a URL in "
                       "common");
    return 0;
}

static void derive(const struct loader *l)
{
    struct config *c = l->c;

    c->initial_cluster_existing =
        strcmp(value(l, "initial-cluster-state"), "existing") == 0;
    c->metrics_extensive = strcmp(value(l, "metrics"), "extensive") == 0;
    if (c->snapshot_count == 0) {
        c->snapshot_count = 100000;
        log_info("etcdserver", "set snapshot count to default %" PRIu64,
                 c->snapshot_count);
    }
    if (c->bcrypt_cost < 4 || c->bcrypt_cost > 31) {
        log_warn("auth",
                 "use default bcrypt cost 10 instead of the invalid "
                 "cost %" PRIu64,
                 c->bcrypt_cost);
        c->bcrypt_cost = 10;
    }
    derive_cluster(c);
    derive_dirs(c);
    take_ca_file(l, "ca-file", &c->client_tls);
    take_ca_file(l, "peer-ca-file", &c->peer_tls);
}

/* --- Loading. ----------------------------------------------------------- */

static enum step check(const struct loader *l)
{
    struct err e;

    drop_defaults(l);
    if (join_http_urls(l, &e) == 0 && verify(l->c, &e) == 0 &&
        refuse_unsupported(l, &e) == 0)
        return GO_ON;
    verify_failed(e.msg);
    if (e.code == E_NOT_ADVERTISED)
        log_error("etcdmain",
                  "When listening on specific address(es), this etcd process "
                  "must advertise accessible url(s) to each connected "
                  "client.");
    return STOP_ERROR;
}

static enum step load(struct loader *l, int argc, char **argv)
{
    const char *path, *env = getenv("ETCD_CONFIG_FILE");
    enum step step = parse_args(l, argc, argv);
    bool show_version;
    char *why, *file;
    struct err e;
    int env_rc = 0;

    if (step != GO_ON)
        return step;
    if (l->positional) {
        why = xasprintf("'%s' is not a valid flag", l->positional);
        step = verify_failed(why);
        free(why);
        return step;
    }
    if (flag_parse_bool(value(l, "version"), &show_version) && show_version) {
        print_version();
        return STOP_OK;
    }

    path = value(l, "config-file");
    if (!*path && env)
        path = env;
    file = xstrdup(path); /* which settings may hold, and will forget */
    if (*file)
        step = load_file(l, file);
    else
        env_rc = read_env(l, &e);
    free(file);
    if (step != GO_ON)
        return step;

    fill(l);
    step = open_log(l);
    if (step != GO_ON)
        return step;
    report_sources(l, *l->c->config_file);
    if (env_rc < 0)
        return verify_failed(e.msg);
    return check(l);
}

/* "etcd gateway" and "etcd grpc-proxy" are programs of their own. */
static bool is_other_mode(int argc, char **argv)
{
    if (argc < 2 ||
        (strcmp(argv[1], "gateway") != 0 && strcmp(argv[1], "grpc-proxy") != 0))
        return false;
    fprintf(stderr,
            "etcd %s is not supported by this server; clients can use the "
            "URLs of the members\n",
            argv[1]);
    return true;
}

enum config_outcome config_load(struct config *c, int argc, char **argv,
                                int *exit_code)
{
    struct loader l = {.c = c};
    enum step step = STOP_ERROR;

    l.settings = xcalloc(n_flags, sizeof(l.settings[0]));
    *c = (struct config){.argc = argc, .argv = argv};
    if (!is_other_mode(argc, argv))
        step = load(&l, argc, argv);
    if (step == GO_ON) {
        report_no_effect(&l);
        derive(&l);
    } else {
        config_release(c);
    }
    forget_settings(&l);
    free(l.settings);
    if (step == GO_ON)
        return CONFIG_RUN;
    *exit_code = step == STOP_OK ? 0 : step == STOP_ERROR ? 1 : 2;
    return CONFIG_EXIT;
}

void config_release(struct config *c)
{
    for (size_t i = 0; i < n_flags; i++)
        flag_release(&flags[i], c);
    free(c->member_dir);
    free(c->snap_dir);
    *c = (struct config){0};
}
