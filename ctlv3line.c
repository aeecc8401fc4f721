/*
 * ctlv3line.c - which command, which options, help and version (see the header).
 */
#include "ctlv3line.h"

#include "config.h"
#include "log.h"

#include <errno.h>
#include <stdio.h>

extern char **environ;

/* --- Errors of the command line. ------------------------------------------------ */

/* The full name of what was found: "etcdctl member list". */
struct place {
    const struct ctlv3_program *program;
    const struct ctlv3_verb *group, *verb; /* verb: NULL for a group alone */
};

static void add_name(struct buf *b, const struct place *p)
{
    buf_adds(b, p->program->name);
    if (p->group)
        buf_printf(b, " %s", p->group->name);
    if (p->verb)
        buf_printf(b, " %s", p->verb->name);
}

static int unknown_command(const struct place *p, const char *name)
{
    struct buf b = {0};

    add_name(&b, p);
    fprintf(stderr,
            "Error: unknown command \"%s\" for \"%s\"\n"
            "Run '%s --help' for usage.\n",
            name, buf_z(&b), buf_z(&b));
    buf_release(&b);
    return CTLV3_ERROR;
}

/* Takes why. */
static int bad_option(const struct place *p, char *why)
{
    struct buf b = {0};

    add_name(&b, p);
    ctlv3_fail(CTLV3_ERROR, "%s", why);
    fprintf(stderr, "Run '%s --help' for usage.\n", buf_z(&b));
    buf_release(&b);
    free(why);
    return CTLV3_ERROR;
}

int ctlv3_fail(int code, const char *fmt, ...)
{
    struct buf b = {0};
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&b, fmt, ap);
    va_end(ap);
    (void)ctl_flush(); /* what was printed before comes before */
    fprintf(stderr, "Error: %s\n", buf_z(&b));
    buf_release(&b);
    return code;
}

/* --- Finding the command. --------------------------------------------------------- */

static const struct ctlv3_verb *verb_named(const struct ctlv3_verb *table,
                                           const char *name)
{
    const struct ctlv3_verb *found = NULL;
    size_t n = strlen(name);

    for (const struct ctlv3_verb *v = table; v->name; v++) {
        if (strcmp(v->name, name) == 0)
            return v;
        if (n > 0 && strncmp(v->name, name, n) == 0) {
            if (found)
                return NULL; /* the beginning of several */
            found = v;
        }
    }
    return found;
}

static const struct ctl_option *option_named(const struct ctl_option *table,
                                             struct str name, bool is_letter)
{
    for (const struct ctl_option *o = table; o && o->name; o++) {
        if (is_letter ? o->alias && str_eqz(name, o->alias)
                      : str_eqz(name, o->name))
            return o;
    }
    return NULL;
}

static const struct ctl_option *option_of(const struct ctlv3_program *p,
                                          const struct ctlv3_verb *v,
                                          struct str name, bool is_letter)
{
    const struct ctl_option *o =
        option_named(v ? v->options : NULL, name, is_letter);

    return o || !p ? o : option_named(p->globals, name, is_letter);
}

/* Does the argument stand for an option's value, too? --x v, -x v. */
static bool takes_next(const struct ctlv3_program *p, const char *arg)
{
    bool is_letter = arg[1] != '-';
    const char *name = is_letter ? arg + 1 : arg + 2;
    const struct ctl_option *o;

    if (strchr(arg, '=') || (is_letter && name[0] && name[1]))
        return false;
    o = option_of(p, NULL, str_of(name), is_letter);
    if (o)
        return o->type != CTL_BOOL;
    return p->has_v2 && ctlv2_option_takes_value(name);
}

/* The place of the next word that is no option, from at on; argc: none. */
static int next_word(const struct ctlv3_program *p, int argc, char **argv,
                     int at)
{
    for (; at < argc; at++) {
        const char *arg = argv[at];

        if (strcmp(arg, "--") == 0)
            return at + 1 < argc ? at + 1 : argc;
        if (arg[0] != '-' || arg[1] == '\0')
            return at;
        if (takes_next(p, arg))
            at++;
    }
    return argc;
}

/* --- Options and arguments. ----------------------------------------------------------- */

struct line {
    int argc;
    char **argv;
    int i;       /* the next to look at */
    int skip[2]; /* where the names of group and verb stand */
    bool plain;  /* -- has been seen */
    bool nested; /* typed at a command: it has no global options */
};

static const char *why_not_int(const char *s)
{
    errno = 0;
    (void)strtoll(s, NULL, 0);
    return errno == ERANGE ? "value out of range" : "invalid syntax";
}

static bool is_unit(struct str s)
{
    char *one = xasprintf("1%.*s", STR_FMT(s));
    bool is = s.n > 0 && ctl_value_fits(CTL_DURATION, one);

    free(one);
    return is;
}

static void say_why_not_duration(struct buf *b, const char *value)
{
    static const char number[] = "0123456789.";
    const char *start = value + (*value == '-' || *value == '+'), *p = start;
    struct str unit;

    do {
        p += strspn(p, number);
        unit = (struct str){p, strcspn(p, number)};
        p += unit.n;
    } while (*p && is_unit(unit));
    if (unit.p == start || is_unit(unit)) /* no number; or one too large */
        buf_adds(b, "time: invalid duration ");
    else if (unit.n == 0)
        buf_adds(b, "time: missing unit in duration ");
    else
        buf_printf(b, "time: unknown unit \"%.*s\" in duration ",
                   STR_FMT(unit));
    buf_printf(b, "\"%s\"", value);
}

/* What Go says of a value that does not fit the type. */
static void say_why(struct buf *b, enum ctl_type type, const char *value)
{
    if (type == CTL_INT)
        buf_printf(b, "strconv.ParseInt: parsing \"%s\": %s", value,
                   why_not_int(value));
    else if (type == CTL_BOOL)
        buf_printf(b, "strconv.ParseBool: parsing \"%s\": invalid syntax",
                   value);
    else
        say_why_not_duration(b, value);
}

/* NULL if the value fits the type, or why not in pflag's words (owned). */
static char *check_value(const struct ctl_option *o, const char *value)
{
    struct buf b = {0};

    if (ctl_value_fits(o->type, value))
        return NULL;
    buf_printf(&b, "invalid argument \"%s\" for \"%s%s%s--%s\" flag: ", value,
               o->alias ? "-" : "", o->alias ? o->alias : "",
               o->alias ? ", " : "", o->name);
    say_why(&b, o->type, value);
    return buf_steal(&b);
}

static void note(struct ctl *c, const struct ctl_option *o, const char *value)
{
    c->settings[c->n_settings++] = (struct ctl_setting){o, value};
}

/* --name, --name=value, --name value. NULL, or what is wrong (owned). */
static char *take_long(struct ctl *c, const struct ctlv3_verb *v,
                       struct line *l, const char *arg)
{
    const char *equals = strchr(arg + 2, '=');
    struct str name = {arg + 2,
                       equals ? (size_t)(equals - arg - 2) : strlen(arg + 2)};
    const struct ctl_option *o =
        option_of(l->nested ? NULL : c->v3->program, v, name, false);
    const char *value = equals ? equals + 1 : NULL;
    char *why;

    if (name.n == 0 || name.p[0] == '-')
        return xasprintf("bad flag syntax: %s", arg);
    if (!o)
        return xasprintf("unknown flag: --%.*s", STR_FMT(name));
    if (!value && o->type != CTL_BOOL) {
        if (l->i == l->argc)
            return xasprintf("flag needs an argument: --%s", o->name);
        value = l->argv[l->i++];
    }
    why = value ? check_value(o, value) : NULL;
    if (!why)
        note(c, o, value);
    return why;
}

/* -x, -xvalue, -x=value, -x value, -xyz of switches. */
static char *take_letters(struct ctl *c, const struct ctlv3_verb *v,
                          struct line *l, const char *arg)
{
    for (const char *p = arg + 1; *p; p++) {
        struct str name = {p, 1};
        const struct ctl_option *o =
            option_of(l->nested ? NULL : c->v3->program, v, name, true);
        const char *value = NULL;
        char *why;

        if (!o)
            return xasprintf("unknown shorthand flag: '%c' in %s", *p, arg);
        if (p[1] == '=')
            value = p + 2;
        else if (o->type != CTL_BOOL && p[1])
            value = p + 1;
        else if (o->type != CTL_BOOL && l->i < l->argc)
            value = l->argv[l->i++];
        else if (o->type != CTL_BOOL)
            return xasprintf("flag needs an argument: '%c' in %s", *p, arg);
        why = value ? check_value(o, value) : NULL;
        if (why)
            return why;
        note(c, o, value);
        if (value)
            break;
    }
    return NULL;
}

/* All of the line but the command's own names. */
static char *parse(struct ctl *c, const struct ctlv3_verb *v, struct line *l)
{
    while (l->i < l->argc) {
        char *arg = l->argv[l->i], *why = NULL;
        bool is_name = l->i == l->skip[0] || l->i == l->skip[1];

        l->i++;
        if (is_name)
            continue;
        if (l->plain || arg[0] != '-' || arg[1] == '\0') {
            c->args[c->n_args++] = arg;
        } else if (strcmp(arg, "--") == 0) {
            l->plain = true;
            c->v3->had_dash = true;
            c->v3->n_plain = c->n_args;
        } else if (arg[1] == '-') {
            why = take_long(c, v, l, arg);
        } else {
            why = take_letters(c, v, l, arg);
        }
        if (why)
            return why;
    }
    if (!c->v3->had_dash)
        c->v3->n_plain = c->n_args;
    return NULL;
}

char *ctlv3_sub_parse(struct ctl *c, const char *verb,
                      const struct ctlv3_words *w, struct ctl *sub)
{
    struct line l = {
        .argc = (int)w->n, .argv = w->words, .skip = {-1, -1}, .nested = true};

    *sub = (struct ctl){.mode = c->mode};
    sub->settings = xcalloc(2 * w->n + 1, sizeof(*sub->settings));
    sub->args = xcalloc(w->n + 1, sizeof(*sub->args));
    sub->v3 = xmalloc(sizeof(*sub->v3));
    *sub->v3 = *c->v3;
    sub->v3->had_dash = false;
    /* What is allocated while it lives is the sub-command's own. */
    sub->v3->arena = (struct arena){.limit = c->v3->arena.limit};
    return parse(sub, verb_named(c->v3->program->verbs, verb), &l);
}

void ctlv3_sub_release(struct ctl *sub)
{
    arena_release(&sub->v3->arena);
    free(sub->v3);
    free(sub->settings);
    free(sub->args);
}

/* --- The environment. ------------------------------------------------------------------ */

static char *variable_of(const struct ctl_option *o)
{
    char *name = xasprintf("ETCDCTL_%s", o->name);

    for (char *p = name; *p; p++) {
        if (*p == '-')
            *p = '_';
        else if (*p >= 'a' && *p <= 'z')
            *p = (char)(*p - 'a' + 'A');
    }
    return name;
}

static bool is_variable(const struct ctl *c, struct str name)
{
    bool is = str_eqz(name, "ETCDCTL_WATCH_KEY") ||
              str_eqz(name, "ETCDCTL_WATCH_RANGE_END");

    for (const struct ctl_option *o = c->v3->program->globals; o->name && !is;
         o++) {
        char *variable = variable_of(o);

        is = str_eqz(name, variable);
        free(variable);
    }
    return is;
}

/* A slip in a name would else go unnoticed. Those of v2 are none of ours with
 * ETCDCTL_API=3. */
static void warn_of_unknown(const struct ctl *c)
{
    for (char **entry = environ; *entry; entry++) {
        struct str rest = str_of(*entry), name;

        str_cut(&rest, '=', &name);
        if (str_has_prefix(name, "ETCDCTL_") && !is_variable(c, name))
            log_warn("pkg/flags", "unrecognized environment variable %s",
                     *entry);
    }
}

/* ETCDCTL_X stands for --x. 0, or the exit code. */
static int take_environment(struct ctl *c)
{
    int rc = 0;

    for (const struct ctl_option *o = c->v3->program->globals;
         o->name && rc == 0; o++) {
        char *variable = variable_of(o);
        const char *value = getenv(variable);
        bool given = ctl_given(c, o->name);
        char *why = NULL;

        if (strcmp(o->name, "help") == 0 || !value) {
            free(variable);
            continue;
        }
        if (given && c->mode == CTL_MODE_V3) {
            log_msg(LOG_CRIT, "pkg/flags",
                    "conflicting environment variable \"%s\" is shadowed "
                    "by corresponding command-line flag (either unset "
                    "environment variable or disable flag)",
                    variable);
            rc = CTLV3_ERROR;
        } else if (!given && value[0]) {
            why = check_value(o, value);
            if (why)
                rc = ctlv3_fail(CTLV3_ERROR, "%s: %s", variable, why);
            else
                note(c, o, value);
            c->v3->n_from_env += !why;
        }
        free(why);
        free(variable);
    }
    if (rc == 0 && c->mode == CTL_MODE_V3)
        warn_of_unknown(c);
    return rc;
}

/* For --debug: the global options as they came out, but for passwords. */
static void print_settings(const struct ctl *c)
{
    for (const struct ctl_option *o = c->v3->program->globals; o->name; o++) {
        const char *value = ctl_string(c, o->name, o->what);
        bool is_list = strcmp(o->name, "endpoints") == 0 && value != o->what;
        char *variable = variable_of(o);
        struct str v;

        if (!value) /* of a flag */
            value = ctl_given(c, o->name) ? "true" : "false";
        v = str_of(value);
        if (v.n > 1 && v.p[0] == '"' && value == o->what)
            v = (struct str){v.p + 1, v.n - 2};
        if (strcmp(o->name, "password") == 0 && v.n > 0)
            v = STR("...");
        else if (strcmp(o->name, "user") == 0 && v.n > 0)
            v.n = strcspn(value, ":");
        if (strcmp(o->name, "help") != 0)
            fprintf(stderr, is_list ? "%s=[%.*s]\n" : "%s=%.*s\n", variable,
                    STR_FMT(v));
        free(variable);
    }
}

/* --- Help. -------------------------------------------------------------------------------- */

#define HELP_WIDTH 38

static void print_options(const char *title, const struct ctl_option *table)
{
    if (!table || !table->name)
        return;
    printf("\n%s:\n", title);
    for (const struct ctl_option *o = table; o->name; o++) {
        struct buf b = {0};

        if (o->alias)
            buf_printf(&b, "  -%s, --%s", o->alias, o->name);
        else
            buf_printf(&b, "      --%s", o->name);
        if (o->type != CTL_BOOL || o->what)
            buf_printf(&b, "=%s", o->what);
        else
            buf_adds(&b, "[=false]");
        printf("%-*s %s\n", HELP_WIDTH, buf_z(&b), o->help);
        buf_release(&b);
    }
}

static void print_verbs(const struct ctlv3_verb *group,
                        const struct ctlv3_verb *table)
{
    for (const struct ctlv3_verb *v = table; v->name; v++) {
        char *name = xasprintf("%s%s%s", group ? group->name : "",
                               group ? " " : "", v->name);

        if (v->verbs)
            print_verbs(v, v->verbs);
        else
            printf("\t%-24s %s\n", name, v->summary);
        free(name);
    }
}

static int print_help(const struct place *p)
{
    const struct ctlv3_verb *v = p->verb ? p->verb : p->group;
    struct buf b = {0};

    add_name(&b, p);
    printf("NAME:\n\t%s - %s\n\nUSAGE:\n\t%s%s%s\n",
           v ? buf_z(&b) + strlen(p->program->name) + 1 : p->program->name,
           v ? v->summary : p->program->summary, buf_z(&b),
           v && !p->verb  ? " <subcommand>"
           : v && v->args ? " "
                          : "",
           v && v->args ? v->args : "");
    if (!v)
        printf("\nVERSION:\n\t%s\n\nAPI VERSION:\n\t3.4\n", ETCD_VERSION);
    if (!p->verb) {
        printf("\nCOMMANDS:\n");
        print_verbs(p->group, v ? v->verbs : p->program->verbs);
    }
    if (!v && p->program->has_v2)
        ctlv2_print_only_verbs();
    print_options("OPTIONS", p->verb ? p->verb->options : NULL);
    print_options(v ? "GLOBAL OPTIONS" : "OPTIONS", p->program->globals);
    buf_release(&b);
    return 0;
}

int ctlv3_version(struct ctl *c)
{
    const char *version = ETCD_VERSION;
    const char *patch = strrchr(version, '.');

    printf("%s version: %s\nAPI version: %.*s\n", c->v3->program->name, version,
           (int)(patch - version), version);
    return 0;
}

bool ctlv3_line_has_verb(const struct ctlv3_program *p, const char *name)
{
    const struct ctlv3_verb *v = verb_named(p->verbs, name);

    return v && strcmp(v->name, name) == 0;
}

static bool is_v2_verb(const struct ctlv3_program *p, const char *first,
                       const char *second)
{
    return p->has_v2 && ctlv2_has_verb(first, second);
}

/* --- The whole line. -------------------------------------------------------------------------- */

/* Does the line hold an option that only v2's form of the command has? */
static bool has_v2_option(const struct place *p, int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        const char *arg = argv[i];
        const char *name = arg + 1;
        const char *first = p->group ? p->group->name : NULL;
        const char *last = p->verb ? p->verb->name : NULL;
        bool is_long;
        struct str s;

        if (arg[0] != '-' || !arg[1])
            continue;
        is_long = *name == '-';
        name += is_long;
        s = (struct str){name, strcspn(name, "=")};
        if (is_long || s.n == 1) {
            if (option_of(p->program, p->verb, s, !is_long))
                continue;
        } else if (option_of(p->program, p->verb, (struct str){name, 1},
                             true)) {
            continue; /* -wjson */
        }
        if (ctlv2_knows_option(first ? first : last, first ? last : NULL, s))
            return true;
    }
    return false;
}

/* Would the line do for v2, too? All its options must be v2's, or nothing that
 * changes what comes out. */
static bool may_be_v2(const struct ctl *c, const struct place *p)
{
    const char *first = p->group ? p->group->name : p->verb->name;
    const char *second = p->group ? p->verb->name : NULL;

    if (c->mode != CTL_MODE_UNSET || !is_v2_verb(p->program, first, second) ||
        ctl_given(c, "write-out") || ctl_given(c, "hex"))
        return false;
    for (size_t i = 0; i < c->n_settings; i++) {
        struct str name = str_of(c->settings[i].option->name);

        if (!ctlv2_knows_option(first, second, name) &&
            !option_named(p->program->globals, name, false))
            return false;
    }
    return true;
}

static int run_found(struct ctl *c, const struct place *p, struct line *l)
{
    char *why = parse(c, p->verb, l);
    int rc;

    if (why)
        return bad_option(p, why);
    if (ctl_bool(c, "help"))
        return print_help(p);
    if (c->mode == CTL_MODE_UNSET && p->verb->is_v2 && p->verb->is_v2(c))
        return CTLV3_TRY_V2;
    c->v3->may_be_v2 = may_be_v2(c, p);
    rc = p->program->takes_environment ? take_environment(c) : 0;
    if (rc == 0 && p->program->takes_environment && ctl_bool(c, "debug"))
        print_settings(c);
    if (rc == 0)
        rc = ctlv3_setup(c);
    return rc ? rc : p->verb->run(c);
}

/* "help", "help get", "help member add". */
static int help_on(const struct ctlv3_program *program, int argc, char **argv,
                   int at)
{
    struct place p = {program, NULL, NULL};
    int first = next_word(program, argc, argv, at);
    int second =
        first < argc ? next_word(program, argc, argv, first + 1) : argc;
    const struct ctlv3_verb *v =
        first < argc ? verb_named(program->verbs, argv[first]) : NULL;

    if (first < argc && !v && is_v2_verb(program, argv[first], NULL))
        return CTLV3_TRY_V2;
    if (v && v->verbs)
        p.group = v;
    else
        p.verb = v;
    if (p.group && second < argc)
        p.verb = verb_named(p.group->verbs, argv[second]);
    (void)print_help(&p);
    if (first < argc && !v) {
        (void)ctl_flush();
        fprintf(stderr, "Unknown help topic [`%s`]\n", argv[first]);
    }
    return 0;
}

/* A group without a command of it, or with an unknown one: help, and no error,
 * as etcdctl has it; but whoever reads it shall see why. */
static int run_group(struct ctl *c, const struct place *p, struct line *l,
                     const char *name)
{
    struct buf b = {0};
    char *why = parse(c, NULL, l);

    if (why)
        return bad_option(p, why);
    (void)print_help(p);
    if (name && strcmp(name, "help") != 0) {
        add_name(&b, p);
        (void)ctl_flush();
        log_warn("etcdctl", "unknown command \"%s\" for \"%s\"", name,
                 buf_z(&b));
        buf_release(&b);
    }
    return 0;
}

/* A command of a group, or v2's. */
static int run_in_group(struct ctl *c, struct place *p, struct line *l,
                        int argc, char **argv, int at)
{
    int second = next_word(p->program, argc, argv, at + 1);
    const char *name = second < argc ? argv[second] : NULL;

    p->verb = name ? verb_named(p->group->verbs, name) : NULL;
    if (!p->verb && name && is_v2_verb(p->program, p->group->name, name))
        return CTLV3_TRY_V2;
    if (c->mode == CTL_MODE_UNSET && has_v2_option(p, argc, argv))
        return CTLV3_TRY_V2;
    if (!p->verb)
        return run_group(c, p, l, name);
    l->skip[1] = second;
    return run_found(c, p, l);
}

/* No command: options that stand alone, or a cry for help. */
static int run_bare(struct ctl *c, const struct place *p, struct line *l,
                    int argc, char **argv)
{
    char *why;

    if (c->mode == CTL_MODE_UNSET && has_v2_option(p, argc, argv))
        return CTLV3_TRY_V2;
    why = parse(c, NULL, l);
    return why ? bad_option(p, why) : print_help(p);
}

int ctlv3_run_line(struct ctl *c, int argc, char **argv)
{
    const struct ctlv3_program *program = c->v3->program;
    int at = next_word(program, argc, argv, 1);
    struct line l = {.argc = argc, .argv = argv, .i = 1, .skip = {at, -1}};
    struct place p = {program, NULL, NULL};
    const struct ctlv3_verb *v;
    const char *name;

    if (at >= argc)
        return run_bare(c, &p, &l, argc, argv);
    name = argv[at];
    if (strcmp(name, "help") == 0)
        return help_on(program, argc, argv, at + 1);
    v = verb_named(program->verbs, name);
    if (!v || (strcmp(v->name, name) != 0 && is_v2_verb(program, name, NULL)))
        return is_v2_verb(program, name, NULL) ? CTLV3_TRY_V2
                                               : unknown_command(&p, name);
    if (v->verbs) {
        p.group = v;
        return run_in_group(c, &p, &l, argc, argv, at);
    }
    p.verb = v;
    if (c->mode == CTL_MODE_UNSET && has_v2_option(&p, argc, argv))
        return CTLV3_TRY_V2;
    return run_found(c, &p, &l);
}
