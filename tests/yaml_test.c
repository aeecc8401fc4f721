/*
 * yaml_test.c - documents and the JSON that they mean; what is refused, where
 * and why. The wanted values were compared with libyaml's reading.
 */
#include "../yaml.h"
#include "check.h"

static void print_tree(struct buf *b, const struct json *j)
{
    const char *open = j->type == JSON_OBJECT ? "{" : "[";
    const char *close = j->type == JSON_OBJECT ? "}" : "]";

    switch (j->type) {
    case JSON_NULL:
        buf_adds(b, "null");
        return;
    case JSON_BOOL:
        buf_adds(b, j->boolean ? "true" : "false");
        return;
    case JSON_NUMBER:
        buf_addstr(b, j->text);
        return;
    case JSON_STRING:
        json_add_string(b, j->text);
        return;
    case JSON_ARRAY:
    case JSON_OBJECT:
        break;
    }
    buf_adds(b, open);
    for (const struct json *k = j->first; k; k = k->next) {
        if (k != j->first)
            buf_addc(b, ',');
        if (j->type == JSON_OBJECT) {
            json_add_string(b, k->name);
            buf_addc(b, ':');
        }
        print_tree(b, k);
    }
    buf_adds(b, close);
}

static void check_yaml(const char *in, const char *want)
{
    struct json *j = NULL;
    struct buf b = {0};
    struct err e = {0};

    if (yaml_parse(in, strlen(in), &j, &e) == 0)
        print_tree(&b, j);
    else
        buf_adds(&b, e.msg);
    CHECK_STR(buf_z(&b), want);
    json_free(j);
    buf_release(&b);
}

static const struct {
    const char *in, *want;
} cases[] = {
    /* scalars */
    {"", "null"},
    {"# nothing\n\n", "null"},
    {"---\n", "null"},
    {"hello", "\"hello\""},
    {"a: b", "{\"a\":\"b\"}"},
    {"a:", "{\"a\":null}"},
    {"a: ~\nb: null\nc: Null\n", "{\"a\":null,\"b\":null,\"c\":null}"},
    {"a: true\nb: No\nc: ON\nd: y\n",
     "{\"a\":true,\"b\":false,\"c\":true,\"d\":\"y\"}"},
    {"a: 1\nb: -5\nc: +5\nd: 0x10\ne: 017\nf: 1_000\ng: 0b11\nh: 0o17",
     "{\"a\":1,\"b\":-5,\"c\":5,\"d\":16,\"e\":15,\"f\":1000,\"g\":3,"
     "\"h\":15}"},
    {"a: 1.5\nb: .5\nc: 5.\nd: 1e3\ne: -1.5E-2\nf: 089\ng: 0",
     "{\"a\":1.5,\"b\":0.5,\"c\":5,\"d\":1e3,\"e\":-1.5E-2,\"f\":89,"
     "\"g\":0}"},
    {"a: 1.2.3\nb: 10.0.0.1\nc: 1h\nd: .\nf: 0x\ng: 99999999999999999999",
     "{\"a\":\"1.2.3\",\"b\":\"10.0.0.1\",\"c\":\"1h\",\"d\":\".\","
     "\"f\":\"0x\",\"g\":99999999999999999999}"},
    {"a: http://b:1,http://c:2", "{\"a\":\"http://b:1,http://c:2\"}"},
    {"a: n1=http://b:1 # note", "{\"a\":\"n1=http://b:1\"}"},
    {"a: b#c", "{\"a\":\"b#c\"}"},
    {"a:\tb\t \nc: d", "{\"a\":\"b\",\"c\":\"d\"}"},
    {"a: b   \r\nc: d\r\n", "{\"a\":\"b\",\"c\":\"d\"}"},
    {"\xef\xbb\xbf"
     "a: b",
     "{\"a\":\"b\"}"},
    {"1: a\ntrue: b", "{\"1\":\"a\",\"true\":\"b\"}"},
    {"a: -b\nc: :d\ne: ?f", "{\"a\":\"-b\",\"c\":\":d\",\"e\":\"?f\"}"},

    /* plain scalars of many lines */
    {"a: b\n  c\n\n  d\ne: f", "{\"a\":\"b c\\nd\",\"e\":\"f\"}"},
    {"a:\n  b\n  c\nd: e", "{\"a\":\"b c\",\"d\":\"e\"}"},
    {"a: b\n  # note\nc: d", "{\"a\":\"b\",\"c\":\"d\"}"},

    /* quotes */
    {"a: 'it''s'", "{\"a\":\"it's\"}"},
    {"a: ''\nb: \"\"", "{\"a\":\"\",\"b\":\"\"}"},
    {"a: 'x: y # z'", "{\"a\":\"x: y # z\"}"},
    {"a: \"\\t\\\"\\\\\\x41\\u20ac\\U0001f600\\/\"",
     "{\"a\":\"\\t\\\"\\\\A\xe2\x82\xac\xf0\x9f\x98\x80/\"}"},
    {"a: \"b\n  c\n\n  d\"", "{\"a\":\"b c\\nd\"}"},
    {"a: \"b\\\n   c\"", "{\"a\":\"bc\"}"},
    {"\"a b\": 'c'  # d\n'e': f", "{\"a b\":\"c\",\"e\":\"f\"}"},
    {"a: '1'\nb: 'true'", "{\"a\":\"1\",\"b\":\"true\"}"},

    /* block collections */
    {"a:\n  b: 1\n  c:\n    d: 2\ne: 3",
     "{\"a\":{\"b\":1,\"c\":{\"d\":2}},\"e\":3}"},
    {"- a\n- b\n", "[\"a\",\"b\"]"},
    {"a:\n- b\n- c\nd: e", "{\"a\":[\"b\",\"c\"],\"d\":\"e\"}"},
    {"a:\n  - b\n  - c\nd: e", "{\"a\":[\"b\",\"c\"],\"d\":\"e\"}"},
    {"- a: 1\n  b: 2\n- c: 3", "[{\"a\":1,\"b\":2},{\"c\":3}]"},
    {"- - a\n  - b\n- c", "[[\"a\",\"b\"],\"c\"]"},
    {"-\n  a: 1\n-\n- b", "[{\"a\":1},null,\"b\"]"},
    {"a:\n\n  # note\n  b: c\n", "{\"a\":{\"b\":\"c\"}}"},
    {"a:\nb:\n", "{\"a\":null,\"b\":null}"},
    {"a: 1\na: 2", "{\"a\":1,\"a\":2}"},

    /* block scalars */
    {"a: |\n  b\n  c\nd: e", "{\"a\":\"b\\nc\\n\",\"d\":\"e\"}"},
    {"a: |-\n  b\n   c\n\n", "{\"a\":\"b\\n c\"}"},
    {"a: |+\n  b\n\nc: d", "{\"a\":\"b\\n\\n\",\"c\":\"d\"}"},
    {"a: >\n  b\n  c\n\n  d\n", "{\"a\":\"b c\\nd\\n\"}"},
    {"a: >-\n  b\n    c\n  d", "{\"a\":\"b\\n  c\\nd\"}"},
    {"a: |2\n   b\n", "{\"a\":\" b\\n\"}"},
    {"a: |\nb: c", "{\"a\":\"\",\"b\":\"c\"}"},
    {"a:\n  - |\n    x\n  - y", "{\"a\":[\"x\\n\",\"y\"]}"},
    {"a: | # note\n  # text\n", "{\"a\":\"# text\\n\"}"},

    /* flow */
    {"a: [b, 'c', 1, true, ~]", "{\"a\":[\"b\",\"c\",1,true,null]}"},
    {"a: {b: 1, c: [d], e, f: }",
     "{\"a\":{\"b\":1,\"c\":[\"d\"],\"e\":null,\"f\":null}}"},
    {"a: [\n  b, # note\n  c\n]\nd: e", "{\"a\":[\"b\",\"c\"],\"d\":\"e\"}"},
    {"[]", "[]"},
    {"{}", "{}"},
    {"[http://a:1, b]", "[\"http://a:1\",\"b\"]"},
    {"{\"a\":1,\"b\":[{\"c\":null}],\"d\":\"e\"}",
     "{\"a\":1,\"b\":[{\"c\":null}],\"d\":\"e\"}"},
    {"{\n\t\"a\": \"b\",\n\t\"c\": {\n\t\t\"d\": false\n\t}\n}\n",
     "{\"a\":\"b\",\"c\":{\"d\":false}}"},
    {"[a, ]", "[\"a\"]"},
    {"[a\n b]", "[\"a b\"]"},

    /* documents */
    {"%YAML 1.1\n---\na: b\n...\nc: d", "{\"a\":\"b\"}"},
    {"--- [a]", "[\"a\"]"},
    {"a: b\n---\nc: d", "{\"a\":\"b\"}"},

    /* refused */
    {"name: [a\n", "yaml: line 1: did not find expected ',' or ']'"},
    {"a: {b: c\nd: e", "yaml: line 2: did not find expected ',' or '}'"},
    {"a: b\n\tc: d",
     "yaml: line 2: found a tab character that violates indentation"},
    {"a:\n\tb: c",
     "yaml: line 2: found character that cannot start any token (a tab)"},
    {"a: 1\nb\nc: 2", "yaml: line 2: could not find expected ':'"},
    {"a: 1\n  b: 2",
     "yaml: line 2: mapping values are not allowed in this context"},
    {"a:\n    b: 1\n  c: 2", "yaml: line 3: did not find expected key"},
    {"  a: 1\nb: 2", "yaml: line 2: did not find expected <document start>"},
    {"a: b: c", "yaml: line 1: mapping values are not allowed in this context"},
    {"a: b\n\t\nc: d", "{\"a\":\"b\",\"c\":\"d\"}"},
    {"a: - b",
     "yaml: line 1: block sequence entries are not allowed in this context"},
    {"a: 1\n- b", "yaml: line 2: did not find expected key"},
    {"- a\nb: c", "yaml: line 2: did not find expected <document start>"},
    {"a:\n - [b]\n   - c", "yaml: line 3: did not find expected '-' indicator"},
    {"a: \"x\n", "yaml: line 1: found unexpected end of stream"},
    {"a: 'x' y", "yaml: line 1: did not find expected key"},
    {"a: @c", "yaml: line 1: found character that cannot start any token"},
    {"a: `c", "yaml: line 1: found character that cannot start any token"},
    {"a: \"\\q\"", "yaml: line 1: found unknown escape character"},
    {"a: \"\\xg0\"", "yaml: line 1: did not find expected hexdecimal number"},
    {"a: \"\\ud800\"",
     "yaml: line 1: found invalid Unicode character escape code"},
    {"a: &x b", "yaml: line 1: anchors (&) are not supported"},
    {"a: *x", "yaml: line 1: aliases (*) are not supported"},
    {"a: !!str b", "yaml: line 1: tags (!) are not supported"},
    {"? a\n: b", "yaml: line 1: complex keys (?) are not supported"},
    {"a: ]", "yaml: line 1: did not find expected node content"},
    {"[,]", "yaml: line 1: did not find expected node content"},
    {"a: |x\n b", "yaml: line 1: did not find expected comment or line break"},
    {"a: |\n\tb",
     "yaml: line 2: found a tab character where an indentation space is "
     "expected"},
    {"a: b\nc: \x01", "yaml: line 2: control characters are not allowed"},
};

static void test_nul(void)
{
    struct json *j;
    struct err e;

    CHECK(yaml_parse("a\0b", 3, &j, &e) == YAML_EINVAL);
    CHECK_STR(e.msg, "yaml: line 1: control characters are not allowed");
    CHECK(yaml_parse(NULL, 0, &j, &e) == 0);
    CHECK(j->type == JSON_NULL);
    json_free(j);
}

/* Depth is bounded, whatever the nesting is made of. */
static void test_depth(void)
{
    static const char *const openers[] = {"[", "{a: ", "- ", "- [", "a:\n "};

    for (size_t i = 0; i < ARRAY_LEN(openers); i++) {
        struct buf b = {0};
        struct json *j = NULL;
        struct err e;

        for (int k = 0; k < 10000; k++) {
            buf_adds(&b, openers[i]);
            for (int s = 0; i == 4 && s < k % 500; s++)
                buf_addc(&b, ' ');
        }
        CHECK(yaml_parse(b.data, b.len, &j, &e) == YAML_EINVAL);
        json_free(j);
        buf_release(&b);
    }
}

/* As deep as is allowed, in either style. */
static void test_deepest(void)
{
    struct buf block = {0}, flow = {0};
    struct json *j;

    for (int k = 0; k < 64; k++) {
        buf_adds(&block, "- ");
        buf_addc(&flow, '[');
    }
    for (int k = 0; k < 64; k++)
        buf_addc(&flow, ']');
    CHECK(yaml_parse(block.data, block.len, &j, NULL) == 0);
    json_free(j);
    CHECK(yaml_parse(flow.data, flow.len, &j, NULL) == 0);
    json_free(j);
    buf_release(&block);
    buf_release(&flow);
}

/* All prefixes and many single-byte changes: no crash, no endless loop. */
static void test_mutations(void)
{
    static const char bytes[] = "\n\r\t \"'#:-[]{},|>&*!%@`?~\\0a\x80";

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t len = strlen(cases[i].in);

        for (size_t n = 0; n <= len; n++) {
            for (size_t k = 0; k < sizeof(bytes); k++) {
                char *exact = xmalloc(n);
                struct json *j = NULL;
                struct err e;

                memcpy(exact, cases[i].in, n);
                if (n)
                    exact[n - 1] = bytes[k];
                if (yaml_parse(exact, n, &j, &e) == 0)
                    json_free(j);
                free(exact);
            }
        }
    }
}

int main(void)
{
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        check_yaml(cases[i].in, cases[i].want);
    test_nul();
    test_depth();
    test_deepest();
    test_mutations();
    return check_done("yaml");
}
