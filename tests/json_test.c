/*
 * json_test.c - the JSON reader and writer: Go's error texts, hostile input,
 * the public JSONTestSuite (where VECTORS names it).
 */
#include "check.h"
#include "json.h"

#include <dirent.h>
#include <stdio.h>

static struct json *parse(const char *text)
{
    struct json *j = NULL;
    struct err e = {0};

    if (json_parse(text, strlen(text), &j, &e) < 0) {
        fprintf(stderr, "%s: %s\n", text, e.msg);
        CHECK(!"parses");
    }
    return j;
}

/* The tree again as text, to compare it with what was read. */
static void print(struct buf *b, const struct json *j)
{
    switch (j->type) {
    case JSON_NULL:
        buf_adds(b, "null");
        break;
    case JSON_BOOL:
        buf_adds(b, j->boolean ? "true" : "false");
        break;
    case JSON_NUMBER:
        buf_addstr(b, j->text);
        break;
    case JSON_STRING:
        json_add_string(b, j->text);
        break;
    default:
        buf_addc(b, j->type == JSON_ARRAY ? '[' : '{');
        for (const struct json *c = j->first; c; c = c->next) {
            if (c != j->first)
                buf_addc(b, ',');
            if (j->type == JSON_OBJECT) {
                json_add_string(b, c->name);
                buf_addc(b, ':');
            }
            print(b, c);
        }
        buf_addc(b, j->type == JSON_ARRAY ? ']' : '}');
    }
}

static void test_round_trip(void)
{
    static const char *const cases[][2] = {
        {"null", "null"},
        {" true ", "true"},
        {"false", "false"},
        {"0", "0"},
        {"-12.50e+3", "-12.50e+3"},
        {"\"\"", "\"\""},
        {"[]", "[]"},
        {"{}", "{}"},
        {"[1,[2,[3,{}]],4]", "[1,[2,[3,{}]],4]"},
        {"{\"a\":{\"b\":[]},\"c\":null}", "{\"a\":{\"b\":[]},\"c\":null}"},
        {"[ 1 ,\t2\r\n, 3 ]", "[1,2,3]"},
        {"\"\\u0041\\n\\/\\\"\\b\"", "\"A\\n/\\\"\\u0008\""},
        {"\"\\u00e9\\u20AC\"", "\"\xc3\xa9\xe2\x82\xac\""},
        {"\"\\ud83d\\ude00\"", "\"\xf0\x9f\x98\x80\""},
        {"\"\\ud83d\"", "\"\xef\xbf\xbd\""},
        {"\"\\ude00x\"", "\"\xef\xbf\xbdx\""},
        {"\"\\ud83d\\u0041\"", "\"\xef\xbf\xbd"
                               "A\""},
        {"\"\\ud83d\\ud83d\\ude00\"", "\"\xef\xbf\xbd\xf0\x9f\x98\x80\""},
        {"\"a\xff\xfe"
         "b\"",
         "\"a\xef\xbf\xbd\xef\xbf\xbd"
         "b\""},
        {"\"\xe2\x82\"", "\"\xef\xbf\xbd\xef\xbf\xbd\""},
        {"\"\xe2\x82\xac\"", "\"\xe2\x82\xac\""},
        {"\"<a>&\"", "\"\\u003ca\\u003e\\u0026\""},
        {"\"\xe2\x80\xa8\"", "\"\\u2028\""},
        {"\"\\u0000\"", "\"\\u0000\""},
        {"\"\x7f\"", "\"\x7f\""},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct json *j = parse(cases[i][0]);
        struct buf b = {0};

        if (!j)
            continue;
        print(&b, j);
        CHECK_STR(buf_z(&b), cases[i][1]);
        buf_release(&b);
        json_free(j);
    }
}

/* Compared with the answers of Go's encoding/json. */
static void test_errors(void)
{
    static const char *const cases[][2] = {
        {"", "unexpected end of JSON input"},
        {"  ", "unexpected end of JSON input"},
        {"{", "unexpected end of JSON input"},
        {"[1", "unexpected end of JSON input"},
        {"\"abc", "unexpected end of JSON input"},
        {"\"abc\\", "invalid character ' ' in string escape code"},
        {"\"\\u12", "invalid character ' ' in \\u hexadecimal character "
                    "escape"},
        {"tru", "invalid character ' ' in literal true (expecting 'e')"},
        {"-", "invalid character ' ' in numeric literal"},
        {"1.", "invalid character ' ' after decimal point in numeric literal"},
        {"1e", "invalid character ' ' in exponent of numeric literal"},
        {"[-0", "unexpected end of JSON input"},
        {"{\"a\"", "unexpected end of JSON input"},
        {"nonsense", "invalid character 'o' in literal null (expecting 'u')"},
        {"x", "invalid character 'x' looking for beginning of value"},
        {"[1,]", "invalid character ']' looking for beginning of value"},
        {"'", "invalid character '\\'' looking for beginning of value"},
        {"\xff", "invalid character '\xc3\xbf' looking for beginning of value"},
        {"\x01", "invalid character '\\x01' looking for beginning of value"},
        {"{a", "invalid character 'a' looking for beginning of object key "
               "string"},
        {"{\"a\":1,}", "invalid character '}' looking for beginning of object "
                       "key string"},
        {"{\"a\" 1}", "invalid character '1' after object key"},
        {"{\"a\":1 \"b\"", "invalid character '\"' after object key:value "
                           "pair"},
        {"[1 2]", "invalid character '2' after array element"},
        {"[1}", "invalid character '}' after array element"},
        {"1 2", "invalid character '2' after top-level value"},
        {"01", "invalid character '1' after top-level value"},
        {"\"a\nb\"", "invalid character '\\n' in string literal"},
        {"\"\\x\"", "invalid character 'x' in string escape code"},
        {"\"\\u12x4\"",
         "invalid character 'x' in \\u hexadecimal character escape"},
        {"-x", "invalid character 'x' in numeric literal"},
        {"1.x", "invalid character 'x' after decimal point in numeric "
                "literal"},
        {"1ex", "invalid character 'x' in exponent of numeric literal"},
        {"1e+x", "invalid character 'x' in exponent of numeric literal"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct json *j = NULL;
        struct err e = {0};

        CHECK(json_parse(cases[i][0], strlen(cases[i][0]), &j, &e) ==
              JSON_EINVAL);
        CHECK(!j);
        CHECK_STR(e.msg, cases[i][1]);
    }
}

static void test_access(void)
{
    struct json *j = parse("{\"n\":1,\"N\":2,\"s\":\"x\",\"S\":\"y\","
                           "\"s\":\"z\","
                           "\"peerURLs\":[\"a\",\"b\"],\"big\":"
                           "18446744073709551615,\"neg\":\"-5\",\"f\":1.5,"
                           "\"t\":true,\"plus\":\"+5\",\"nul\":null,"
                           "\"empty\":\"\"}");
    uint64_t u = 7;
    int64_t i = 7;

    CHECK(json_u64(json_get(j, "n"), &u) && u == 1);
    CHECK(str_eqz(json_text(json_get(j, "s"), ""), "z"));
    CHECK(json_get(j, "PEERurls") && json_get(j, "PEERurls")->n == 2);
    CHECK(str_eqz(json_text(json_at(json_get(j, "peerURLs"), 1), ""), "b"));
    CHECK(!json_at(json_get(j, "peerURLs"), 2));
    CHECK(!json_at(j, 0) && !json_get(json_get(j, "peerURLs"), "a"));
    CHECK(!json_at(NULL, 0));
    CHECK(!json_get(j, "absent") && !json_get(NULL, "x"));
    CHECK(json_u64(json_get(j, "big"), &u) && u == UINT64_MAX);
    CHECK(!json_i64(json_get(j, "big"), &i) && i == 7);
    CHECK(json_i64(json_get(j, "neg"), &i) && i == -5);
    CHECK(!json_u64(json_get(j, "neg"), &u) && !json_u64(json_get(j, "f"), &u));
    CHECK(!json_i64(json_get(j, "plus"), &i) && !json_u64(NULL, &u));
    CHECK(!json_u64(json_get(j, "empty"), &u));
    CHECK(!json_u64(json_get(j, "t"), &u) && u == UINT64_MAX);
    CHECK(json_bool(json_get(j, "t"), false) && json_bool(NULL, true));
    CHECK(!json_bool(json_get(j, "s"), false));
    CHECK(str_eqz(json_text(json_get(j, "nul"), "fallback"), "fallback"));
    json_free(j);
    json_free(NULL);
}

/* Nodes and texts of any size stand in few pieces of memory: every one must
 * still be what it was when all have been read. */
static void test_large(void)
{
    static const size_t sizes[] = {1, 7, 100, 5000, 300000, 20, 70000, 600000};
    struct json *j = NULL;
    struct buf b = {0};
    int n = 0;

    buf_addc(&b, '[');
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < ARRAY_LEN(sizes); i++, n++) {
            buf_adds(&b, n ? ",{\"k\":\"" : "{\"k\":\"");
            buf_reserve(&b, sizes[i]);
            memset(b.data + b.len, 'a' + n, sizes[i]);
            b.len += sizes[i];
            buf_adds(&b, "\"}");
        }
    }
    buf_addc(&b, ']');
    CHECK(json_parse(b.data, b.len, &j, NULL) == 0);
    buf_release(&b); /* the tree has copies */
    for (int i = 0; i < n; i++) {
        struct str text = json_text(json_get(json_at(j, (size_t)i), "k"), "");

        CHECK(text.n == sizes[(size_t)i % ARRAY_LEN(sizes)]);
        CHECK(text.p[0] == 'a' + i);
        CHECK(memcmp(text.p, text.p + 1, text.n - 1) == 0);
    }
    json_free(j);
}

static void repeat(struct buf *b, const char *unit, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf_adds(b, unit);
}

static void test_depth(void)
{
    struct json *j = NULL;
    struct json_reader r;
    struct buf b = {0};
    struct str text;
    int token;

    repeat(&b, "[", JSON_DEPTH_MAX);
    repeat(&b, "]", JSON_DEPTH_MAX);
    CHECK(json_parse(b.data, b.len, &j, NULL) == 0);
    json_free(j);
    buf_clear(&b);
    repeat(&b, "{\"a\":", JSON_DEPTH_MAX + 1);
    CHECK(json_parse(b.data, b.len, &j, NULL) == JSON_EDEPTH);

    /* The tokenizer has the depth that it is given. */
    buf_clear(&b);
    repeat(&b, "[{\"a\":", 100000);
    repeat(&b, "0", 1);
    repeat(&b, "}]", 100000);
    json_reader_init(&r, b.data, b.len, SIZE_MAX, NULL);
    CHECK(json_skip(&r) == 0);
    CHECK(json_read(&r, &text) == JSON_READ_END);
    json_reader_release(&r);
    json_reader_init(&r, b.data, b.len, 1000, NULL);
    while ((token = json_read(&r, &text)) > JSON_READ_END)
        ;
    CHECK(token == JSON_EDEPTH && r.depth == 1000);
    json_reader_release(&r);
    buf_release(&b);
}

static void test_tokens(void)
{
    static const char doc[] = "{\"a\":[1,\"x\\n\"],"
                              "\"skip\":{\"b\":[{}]},\"c\":true}";
    struct json_reader r;
    struct str text;

    json_reader_init(&r, doc, strlen(doc), 10, NULL);
    CHECK(json_read(&r, &text) == JSON_READ_OBJECT);
    CHECK(json_read(&r, &text) == JSON_READ_NAME && str_eqz(text, "a"));
    CHECK(json_read(&r, &text) == JSON_READ_ARRAY);
    CHECK(json_read(&r, &text) == JSON_READ_NUMBER && str_eqz(text, "1"));
    CHECK(json_read(&r, &text) == JSON_READ_STRING && str_eqz(text, "x\n"));
    CHECK(json_read(&r, &text) == JSON_READ_ARRAY_END);
    CHECK(json_read(&r, &text) == JSON_READ_NAME && str_eqz(text, "skip"));
    CHECK(json_skip(&r) == 0);
    CHECK(json_read(&r, &text) == JSON_READ_NAME && str_eqz(text, "c"));
    CHECK(json_skip(&r) == 0);
    CHECK(json_read(&r, &text) == JSON_READ_OBJECT_END);
    CHECK(json_read(&r, &text) == JSON_READ_END);
    json_reader_release(&r);
}

/* Every prefix and every changed byte: any answer will do, but no crash. */
static void test_damage(void)
{
    static const char doc[] =
        "{\"k\\u00e9\":[-1.5e+3,\"\\ud83d\\ude00\xe2\x82\xac\",{\"\":null}],"
        "\"t\":[true,false],\"s\":\"\\\\ \\n\"}";
    size_t n = strlen(doc);

    for (size_t i = 0; i < n; i++) {
        char *part = xmalloc(i); /* exact, so that ASan sees any overrun */
        struct json *j = NULL;

        memcpy(part, doc, i);
        CHECK(json_parse(part, i, &j, NULL) == JSON_EINVAL);
        free(part);
    }
    for (size_t i = 0; i < n; i++) {
        char changed[sizeof(doc)];

        memcpy(changed, doc, sizeof(doc));
        for (int c = 0; c < 256; c++) {
            struct json *j = NULL;

            changed[i] = (char)c;
            if (json_parse(changed, n, &j, NULL) == 0)
                json_free(j);
        }
    }
}

static void test_writing(void)
{
    static const char odd[] = "a\0b\"\\/\x1f\b\f\r\xc0\xaf\xed\xa0\x80\xf4\x90";
    struct buf b = {0};

    buf_addc(&b, '{');
    json_add_key(&b, "x");
    json_add_string(&b, (struct str){odd, sizeof(odd) - 1});
    json_add_key(&b, "y");
    json_add_string(&b, STR("\xe2\x80\xa9\xe2\x80\xaa\xc3\xa9<&>"));
    json_add_key(&b, "z");
    json_add_string(&b, (struct str){"", 0});
    buf_addc(&b, '}');
    CHECK_STR(buf_z(&b),
              "{\"x\":\"a\\u0000b\\\"\\\\/\\u001f\\u0008\\u000c\\r"
              "\\ufffd\\ufffd\\ufffd\\ufffd\\ufffd\\ufffd\\ufffd\","
              "\"y\":\"\\u2029\xe2\x80\xaa\xc3\xa9\\u003c\\u0026\\u003e\","
              "\"z\":\"\"}");
    buf_release(&b);
}

/* Every byte at every place among plain ones: eights find what bytes find. */
static void test_eights(void)
{
    char text[24];

    for (int c = 0; c < 256; c++) {
        for (size_t at = 0; at < sizeof(text); at++) {
            struct buf whole = {0}, single = {0}, back = {0};
            struct json *j = NULL;

            memset(text, 'x', sizeof(text));
            text[at] = (char)c;
            json_add_string(&whole, (struct str){text, sizeof(text)});
            buf_addc(&single, '"');
            for (size_t i = 0; i < sizeof(text); i++)
                json_add_escaped(&single, (struct str){text + i, 1}, false);
            buf_addc(&single, '"');
            CHECK(str_eq(buf_str(&whole), buf_str(&single)));
            CHECK(json_parse(whole.data, whole.len, &j, NULL) == 0);
            if (j && c < 0x80)
                CHECK(str_eq(j->text, (struct str){text, sizeof(text)}));
            json_free(j);

            j = NULL; /* and raw: only some bytes may stand in a string */
            buf_addc(&back, '"');
            buf_add(&back, text, sizeof(text));
            buf_addc(&back, '"');
            CHECK((json_parse(back.data, back.len, &j, NULL) == 0) ==
                  (c >= 0x20 && c != '"' && c != '\\'));
            json_free(j);
            buf_release(&whole);
            buf_release(&single);
            buf_release(&back);
        }
    }
}

static void read_file(struct buf *b, const char *dir, const char *name)
{
    char *path = xasprintf("%s/%s", dir, name);
    FILE *f = fopen(path, "rb");
    char part[4096];
    size_t n;

    CHECK(f);
    while (f && (n = fread(part, 1, sizeof(part), f)) > 0)
        buf_add(b, part, n);
    if (f)
        fclose(f);
    free(path);
}

/* JSONTestSuite: y_ must parse, n_ must not, i_ may. */
static void test_vectors(void)
{
    const char *vectors = getenv("VECTORS");
    char *path = vectors ? xasprintf("%s/json", vectors) : NULL;
    DIR *dir = path ? opendir(path) : NULL;
    struct dirent *d;

    while (dir && (d = readdir(dir))) {
        struct json *j = NULL;
        struct buf b = {0};
        int rc;

        if (d->d_name[0] == '.' || d->d_name[1] != '_')
            continue;
        read_file(&b, path, d->d_name);
        rc = json_parse(b.data, b.len, &j, NULL);
        if ((d->d_name[0] == 'y' && rc < 0) ||
            (d->d_name[0] == 'n' && rc == 0)) {
            fprintf(stderr, "%s: %d\n", d->d_name, rc);
            CHECK(!"as the suite says");
        }
        json_free(j);
        buf_release(&b);
    }
    if (dir)
        closedir(dir);
    free(path);
}

static void test_first(void)
{
    static const struct {
        const char *text;
        size_t n;
    } cases[] = {
        {"{\"a\":[1]} x", 9}, {" null{", 5}, {"{}", 2}, {"", 0}, {"{\"a\"]", 5},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        CHECK(json_first(cases[i].text, strlen(cases[i].text)) == cases[i].n);
}

int main(void)
{
    test_round_trip();
    test_errors();
    test_first();
    test_access();
    test_large();
    test_depth();
    test_tokens();
    test_damage();
    test_writing();
    test_eights();
    test_vectors();
    return check_done("json");
}
