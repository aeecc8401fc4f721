/*
 * yaml.h - the part of YAML 1.1 that configuration files use, into the tree
 * of json.h: block and flow mappings and sequences, plain, single- and
 * double-quoted and block (| >) scalars, comments, documents markers; JSON
 * is valid input. Anchors, aliases, tags and complex keys are refused, by
 * name. Pure.
 */
#ifndef YAML_H
#define YAML_H

#include "json.h"

enum { YAML_EINVAL = -1 };

/*
 * A plain scalar becomes null (~, null, empty), a bool (true/false, yes/no,
 * on/off), a number, or else a string, as YAML 1.1 says. An error names line
 * and what was expected there: "yaml: line 3: did not find expected key".
 * The tree is freed by json_free().
 */
int yaml_parse(const void *p, size_t n, struct json **out, struct err *e);

#endif
