/*
 * flags.h - the table of flags: a row for every flag of etcd 3.2 to 3.7, with
 * its type, default, help, place in the file and member of struct config.
 * Pure, but for printing the help.
 */
#ifndef FLAGS_H
#define FLAGS_H

#include "config.h"

enum flag_type {              /* given as, and stored as */
                 FLAG_STRING, /* char * */
                 FLAG_LIST, /* char *, comma list; in the file a sequence too */
                 FLAG_ENUM, /* char *, one of choices */
                 FLAG_CORS, /* char *, "*", "" or URLs */
                 FLAG_BOOL, /* bool */
                 FLAG_UINT, /* uint64_t; Go calls it uint */
                 FLAG_UINT64,        /* uint64_t */
                 FLAG_UINT32,        /* uint64_t */
                 FLAG_INT,           /* int */
                 FLAG_INT64,         /* int64_t */
                 FLAG_MS,            /* a whole number; int64_t milliseconds */
                 FLAG_DURATION,      /* "1.5s"; int64_t nanoseconds */
                 FLAG_DURATION_MS,   /* "1.5s"; int64_t milliseconds */
                 FLAG_URLS,          /* struct url_list, not empty */
                 FLAG_URLS_OR_EMPTY, /* struct url_list */
};

enum { /* bits */
       FLAG_NEEDS_TLS = 1,
       FLAG_EXPERIMENTAL = 2, /* was first known as --experimental-NAME */
       FLAG_NOT_IN_FILE = 4,
       FLAG_NO_EFFECT = 8, /* known and checked, but nothing comes of it */
};

#define FLAG_NOWHERE (-1)

struct flag {
    const char *name;
    enum flag_type type;
    int at; /* offset in struct config, or FLAG_NOWHERE: read by its name */
    unsigned bits;
    const char *def;
    const char *group, *help; /* both NULL with FLAG_NO_EFFECT */
    const char *yaml;         /* path in the file, if it is not the name */
    const char *choices;      /* "a|b" of an enum */
};

extern const struct flag flags[];
extern const size_t n_flags;

/* The row of a flag, also by its older name; -1 if there is none. */
int flag_find(struct str name);
/* The flag that was meant by a name that does not exist, or NULL. */
const char *flag_nearest(struct str name);

bool flag_is_text(const struct flag *f); /* any text can be tried as a value */
const char *flag_go_type(const struct flag *f);
bool flag_parse_bool(const char *z, bool *out); /* as Go: 1, t, True, ... */

/* NULL, or what is wrong with z as a value of f, perhaps in *e. */
const char *flag_check(const struct flag *f, const char *z, struct err *e);
bool flag_is_default(const struct flag *f, const char *z); /* z is checked */

/* Give the member of *c that belongs to f its value; z is checked. */
void flag_store(const struct flag *f, const char *z, struct config *c);
void flag_release(const struct flag *f, struct config *c);

void flags_print_help(void); /* to stdout */

#endif
