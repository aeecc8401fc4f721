/*
 * ctlcomplete.c - `completion`: the script with which a shell completes the
 * commands and options of the program, from its own tables.
 *
 * The script walks the line's words: each that names a command below those
 * before it makes the path longer. What may follow a path is in one `case`.
 */
#include "ctlv3line.h"

#include <stdio.h>

static void print_options(const struct ctl_option *table)
{
    for (const struct ctl_option *o = table; o && o->name; o++)
        printf(" --%s", o->name);
}

/* One branch: what may follow group and verb, each of which may be NULL. */
static void print_branch(const struct ctlv3_verb *group,
                         const struct ctlv3_verb *v,
                         const struct ctlv3_verb *below)
{
    printf("    '%s%s%s%s') verbs='", group ? " " : "",
           group ? group->name : "", v ? " " : "", v ? v->name : "");
    for (; below && below->name; below++)
        printf("%s ", below->name);
    printf("' options='");
    print_options(v ? v->options : NULL);
    printf("' ;;\n");
}

static void print_branches(const struct ctlv3_verb *group,
                           const struct ctlv3_verb *table)
{
    for (const struct ctlv3_verb *v = table; v->name; v++) {
        print_branch(group, v, v->verbs);
        if (v->verbs)
            print_branches(v, v->verbs);
    }
}

/* For bash; zsh takes it by its own bashcompinit. */
static void print_script(const struct ctlv3_program *p)
{
    printf("_%s_at() { # PATH: sets verbs and options\n"
           "    case $1 in\n",
           p->name);
    print_branch(NULL, NULL, p->verbs);
    print_branches(NULL, p->verbs);
    printf("    *) verbs='' options='' ;;\n"
           "    esac\n"
           "    options=\"$options");
    print_options(p->globals);
    printf("\"\n"
           "}\n\n"
           "_%s() {\n"
           "    local verbs options path='' at=1\n"
           "    local word=\"${COMP_WORDS[COMP_CWORD]}\"\n"
           "    _%s_at ''\n"
           "    while [ $at -lt $COMP_CWORD ]; do\n"
           "        case \" $verbs \" in\n"
           "        *\" ${COMP_WORDS[at]} \"*)\n"
           "            path=\"$path ${COMP_WORDS[at]}\"\n"
           "            _%s_at \"$path\" ;;\n"
           "        esac\n"
           "        at=$((at + 1))\n"
           "    done\n"
           "    case $word in\n"
           "    -*) COMPREPLY=($(compgen -W \"$options\" -- \"$word\")) ;;\n"
           "    *) COMPREPLY=($(compgen -W \"$verbs\" -- \"$word\")) ;;\n"
           "    esac\n"
           "}\n\n"
           "complete -o default -F _%s %s\n",
           p->name, p->name, p->name, p->name, p->name);
}

static int complete_bash(struct ctl *c)
{
    printf("# bash completion for %s: source <(%s completion bash)\n",
           c->v3->program->name, c->v3->program->name);
    print_script(c->v3->program);
    return 0;
}

static int complete_zsh(struct ctl *c)
{
    printf("#compdef %s\n"
           "# zsh completion: source <(%s completion zsh)\n"
           "autoload -U +X compinit && compinit\n"
           "autoload -U +X bashcompinit && bashcompinit\n",
           c->v3->program->name, c->v3->program->name);
    print_script(c->v3->program);
    return 0;
}

const struct ctlv3_verb ctlv3_completion_verbs[] = {
    {.name = "bash",
     complete_bash,
     NULL,
     "Generate the autocompletion script for bash"},
    {.name = "zsh",
     complete_zsh,
     NULL,
     "Generate the autocompletion script for zsh"},
    {0},
};
