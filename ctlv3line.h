/*
 * ctlv3line.h - a command line in the GNU style that etcdctl and etcdutl have
 * (pflag, cobra): --x=v, --x v, -xv, -x v before or behind the arguments, and
 * -- ends them. A command may be named by any beginning that only it has.
 */
#ifndef CTLV3LINE_H
#define CTLV3LINE_H

#include "ctlv3.h"

/* Tables end with a row whose name is NULL. */
struct ctlv3_verb {
    const char *name;
    ctlv3_command *run;
    const char *args;    /* as the usage line shows them; NULL: none */
    const char *summary; /* a line */
    const struct ctl_option *options;
    const struct ctlv3_verb *verbs;     /* a group of commands */
    bool (*is_v2)(const struct ctl *c); /* with ETCDCTL_API unset; NULL: no */
};

/* `version` of any program. */
ctlv3_command ctlv3_version;

/* `completion bash`, `completion zsh`, of any program (ctlcomplete.c). */
extern const struct ctlv3_verb ctlv3_completion_verbs[];

struct ctlv3_program {
    const char *name, *summary;
    const struct ctlv3_verb *verbs;
    const struct ctl_option *globals;
    bool takes_environment; /* ETCDCTL_X stands for --x */
    bool has_v2;            /* what is not there may be a v2 command */
};

/*
 * Run a program from main() on: the whole of it, but for what etcdctl_main()
 * does about ETCDCTL_API. The exit code.
 */
int ctl_main(int argc, char **argv, const struct ctlv3_program *p);

/* Find the command, read options and arguments, and run it; or print help. The
 * exit code, or CTLV3_TRY_V2. c->v3->program is the program. */
int ctlv3_run_line(struct ctl *c, int argc, char **argv);

/* An exact name. */
bool ctlv3_line_has_verb(const struct ctlv3_program *p, const char *name);

#endif
