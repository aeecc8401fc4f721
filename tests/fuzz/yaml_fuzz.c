/*
 * yaml_fuzz.c - configuration files: what is accepted reads the same when it
 * is written as JSON, which is YAML, too; what is not is told with its line.
 */
#include "fuzz.h"
#include "yaml.h"

#define DEPTH_MAX 80 /* of yaml.c, and some */

static void print(struct buf *b, const struct json *j, int depth)
{
    bool object = j->type == JSON_OBJECT;

    FUZZ_CHECK(depth < DEPTH_MAX);
    if (j->type == JSON_STRING) {
        json_add_string(b, j->text);
    } else if (j->type == JSON_NUMBER) {
        buf_addstr(b, j->text);
    } else if (j->type == JSON_NULL || j->type == JSON_BOOL) {
        buf_adds(b, j->type == JSON_NULL ? "null"
                    : j->boolean         ? "true"
                                         : "false");
    } else {
        buf_addc(b, object ? '{' : '[');
        for (const struct json *c = j->first; c; c = c->next) {
            if (object) {
                json_add_string(b, c->name);
                buf_adds(b, ": ");
            }
            print(b, c, depth + 1);
            if (c->next)
                buf_adds(b, ", ");
        }
        buf_addc(b, object ? '}' : ']');
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json *j, *again;
    struct buf once = {0}, twice = {0};
    struct err e = {0};

    if (yaml_parse(data, size, &j, &e) < 0) {
        FUZZ_CHECK(strncmp(e.msg, "yaml: ", 6) == 0);
        return 0;
    }
    print(&once, j, 0);
    FUZZ_CHECK(yaml_parse(once.data, once.len, &again, &e) == 0);
    print(&twice, again, 0);
    FUZZ_CHECK(str_eq(buf_str(&once), buf_str(&twice)));
    json_free(j);
    json_free(again);
    buf_release(&once);
    buf_release(&twice);
    return 0;
}
