/*
 * json_fuzz.c - JSON: the tree and the token reader agree on every input, and
 * what was read and is written comes back the same.
 */
#include "fuzz.h"
#include "json.h"

#define SPLICE_MAX 4096 /* for what costs more than a pass */

/* What is asked of a value, of whichever type. */
static void look_up(const struct json *j)
{
    const struct json *first = j->first, *got;
    uint64_t u;
    int64_t i;
    char *name;

    if (json_u64(j, &u) && json_i64(j, &i))
        FUZZ_CHECK(i >= 0 && (uint64_t)i == u);
    FUZZ_CHECK(json_text(j, "").n == 0 || j->type == JSON_STRING);
    FUZZ_CHECK(!json_bool(j, false) || j->type == JSON_BOOL);
    FUZZ_CHECK(json_at(j, 0) == (j->type == JSON_ARRAY ? first : NULL));
    if (j->type != JSON_OBJECT || !first)
        return;
    name = xstrndup(first->name.p, first->name.n);
    got = json_get(j, name);
    if (strlen(name) == first->name.n)
        FUZZ_CHECK(got && str_eqz(got->name, name));
    free(name);
}

/* Without recursion, as a tree may be deep: from a node to its first child,
 * its next one, or up by the stack. */
static void print(struct buf *b, const struct json *root)
{
    const struct json *stack[JSON_DEPTH_MAX + 1], *j = root;
    size_t depth = 0;

    while (j) {
        const struct json *up = depth ? stack[depth - 1] : NULL;

        look_up(j);
        if (up && up->type == JSON_OBJECT) {
            json_add_string(b, j->name);
            buf_addc(b, ':');
        }
        if (j->type == JSON_OBJECT || j->type == JSON_ARRAY) {
            buf_addc(b, j->type == JSON_OBJECT ? '{' : '[');
            FUZZ_CHECK(depth < ARRAY_LEN(stack));
            stack[depth++] = j;
            if (j->first) {
                j = j->first;
                continue;
            }
        } else if (j->type == JSON_STRING) {
            json_add_string(b, j->text);
        } else if (j->type == JSON_NUMBER) {
            buf_addstr(b, j->text);
        } else {
            buf_adds(b, j->type == JSON_NULL ? "null"
                        : j->boolean         ? "true"
                                             : "false");
        }
        /* Close what ends here: an empty container is its own last child. */
        while (depth && (stack[depth - 1] == j || !j->next)) {
            if (stack[depth - 1] != j)
                j = stack[depth - 1];
            buf_addc(b, j->type == JSON_OBJECT ? '}' : ']');
            depth--;
            if (depth && j->next)
                break;
        }
        if (depth == 0)
            break;
        buf_addc(b, ',');
        j = j->next;
    }
}

/* All tokens; the code that ends them. */
static int read_all(const uint8_t *p, size_t n, size_t depth, struct err *e)
{
    struct json_reader r;
    struct str text;
    int t;

    json_reader_init(&r, p, n, depth, e);
    do
        t = json_read(&r, &text);
    while (t > 0);
    FUZZ_CHECK(r.at <= n);
    json_reader_release(&r);
    return t;
}

static int skip_all(const uint8_t *p, size_t n, size_t depth)
{
    struct json_reader r;
    struct str text;
    int rc;

    json_reader_init(&r, p, n, depth, NULL);
    rc = json_skip(&r);
    if (rc == 0)
        rc = json_read(&r, &text);
    json_reader_release(&r);
    return rc;
}

static void check_tree(const struct json *j)
{
    struct buf once = {0}, twice = {0};
    struct json *again;

    print(&once, j);
    FUZZ_CHECK(json_parse(once.data, once.len, &again, NULL) == 0);
    print(&twice, again);
    FUZZ_CHECK(str_eq(buf_str(&once), buf_str(&twice)));
    json_free(again);
    buf_release(&once);
    buf_release(&twice);
}

/* Any bytes at all can be told as a string, and read as what Go would make of
 * them: a second time nothing changes. */
static void check_string(const uint8_t *p, size_t n)
{
    struct buf once = {0}, twice = {0};
    struct json *j;

    json_add_string(&once, (struct str){(const char *)p, n});
    FUZZ_CHECK(json_parse(once.data, once.len, &j, NULL) == 0);
    FUZZ_CHECK(j->type == JSON_STRING);
    json_add_string(&twice, j->text);
    json_free(j);
    FUZZ_CHECK(json_parse(twice.data, twice.len, &j, NULL) == 0);
    buf_clear(&once);
    json_add_string(&once, j->text);
    FUZZ_CHECK(str_eq(buf_str(&once), buf_str(&twice)));
    json_free(j);
    buf_release(&once);
    buf_release(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err tree_err = {0}, token_err = {0};
    struct json *j = NULL;
    int rc = json_parse(data, size, &j, &tree_err);

    FUZZ_CHECK(rc == read_all(data, size, JSON_DEPTH_MAX, &token_err));
    FUZZ_CHECK(rc == skip_all(data, size, JSON_DEPTH_MAX));
    FUZZ_CHECK((rc == 0) == (tree_err.msg[0] == '\0'));
    FUZZ_CHECK(strcmp(tree_err.msg, token_err.msg) == 0);
    if (rc == 0) {
        check_tree(j);
        json_free(j);
    }
    if (size <= SPLICE_MAX)
        check_string(data, size);
    return 0;
}
