/*
 * url_test.c - URLs, percent-encoding, forms: what Go's net/url does, and
 * the texts in which etcd refuses a URL.
 */
#include "../url.h"
#include "check.h"

static void test_parse(void)
{
    static const struct {
        const char *in, *scheme, *user, *host, *port, *path, *query, *raw;
    } cases[] = {
        {"http://a:1", "http", "", "a", "1", "", "", "http://a:1"},
        {"HTTPS://A.b:443/p/q?x=1&y", "https", "", "A.b", "443", "/p/q",
         "x=1&y", "https://A.b:443/p/q?x=1&y"},
        {"http://[::1]:2379", "http", "", "::1", "2379", "", "",
         "http://[::1]:2379"},
        {"http://[fe80::1]", "http", "", "fe80::1", "", "", "",
         "http://[fe80::1]"},
        {"http://u:p%40@h/%41%2F", "http", "u:p@", "h", "", "/A/", "",
         "http://u:p%40@h/%41%2F"},
        {"unix://etcd.unix:1", "unix", "", "etcd.unix", "1", "", "",
         "unix://etcd.unix:1"},
        {"http://a", "http", "", "a", "", "", "", "http://a"},
        {"http://a:", "http", "", "a", "", "", "", "http://a:"},
        {"http://:2379", "http", "", "", "2379", "", "", "http://:2379"},
        {"localhost:2379", "localhost", "", "", "", "", "", "localhost:2379"},
        {"/v2/keys", "", "", "", "", "/v2/keys", "", "/v2/keys"},
        {"http://a:1?q#f", "http", "", "a", "1", "", "q", "http://a:1?q#f"},
        {"http://a:1#f?q", "http", "", "a", "1", "", "", "http://a:1#f?q"},
        {"", "", "", "", "", "", "", ""},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct url u;
        struct err e = {0};
        int rc = url_parse(str_of(cases[i].in), &u, &e);

        CHECK_STR(e.msg, "");
        CHECK(rc == 0);
        if (rc < 0)
            continue;
        CHECK_STR(u.scheme, cases[i].scheme);
        CHECK_STR(u.userinfo, cases[i].user);
        CHECK_STR(u.host, cases[i].host);
        CHECK_STR(u.port, cases[i].port);
        CHECK_STR(u.path, cases[i].path);
        CHECK_STR(u.raw_query, cases[i].query);
        CHECK_STR(u.raw, cases[i].raw);
        url_release(&u);
    }
}

static void test_parse_errors(void)
{
    static const struct {
        const char *in, *want;
    } cases[] = {
        {"127.0.0.1:1", "first path segment in URL cannot contain colon"},
        {":1", "missing protocol scheme"},
        {"http://a:b", "invalid port \":b\" after host"},
        {"unix://localhost:etcd", "invalid port \":etcd\" after host"},
        {"http://[::1]2", "invalid port \"2\" after host"},
        {"http://[::1", "missing ']' in host"},
        {"http://a b:1", "invalid character \" \" in host name"},
        {"http://a%41:1", "invalid URL escape \"%41\""},
        {"http://a/%zz", "invalid URL escape \"%zz\""},
        {"http://a/%00", "invalid URL escape \"%00\""},
        {"http://a/%", "invalid URL escape \"%\""},
        {"http://a b@c:1", "net/url: invalid userinfo"},
        {"http://a\n:1", "net/url: invalid control character in URL"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct url u;
        struct err e = {0};
        char *want = xasprintf("parse \"%s\": %s", cases[i].in, cases[i].want);

        CHECK(url_parse(str_of(cases[i].in), &u, &e) == URL_EINVAL);
        CHECK_STR(e.msg, want);
        free(want);
    }
}

static void test_lists(void)
{
    static const struct {
        const char *in, *want; /* the list, or the error */
        int rc;
    } cases[] = {
        {"http://a:1", "http://a:1", 0},
        {"http://b:2, http://a:1\n", "http://a:1,http://b:2", 0},
        {"http://a:1,https://a:1,http://a:1", "http://a:1,https://a:1", 0},
        {"unix://x.sock:0", "unix://x.sock:0", 0},
        {"http://:2379", "http://:2379", 0},
        {"", "URL scheme must be http, https, unix, or unixs: ", URL_EINVAL},
        {"http://a:1,",
         "URL scheme must be http, https, unix, or unixs: ", URL_EINVAL},
        {"localhost:2399",
         "URL scheme must be http, https, unix, or unixs: localhost:2399",
         URL_EINVAL},
        {"ftp://10.0.0.9:1",
         "URL scheme must be http, https, unix, or unixs: ftp://10.0.0.9:1",
         URL_EINVAL},
        {"http://10.0.0.9",
         "URL address does not have the form \"host:port\": http://10.0.0.9",
         URL_EINVAL},
        {"http://[::1]",
         "URL address does not have the form \"host:port\": http://[::1]",
         URL_EINVAL},
        {"http://::1:2",
         "URL address does not have the form \"host:port\": http://::1:2",
         URL_EINVAL},
        {"http://10.0.0.9:1/",
         "URL must not contain a path: http://10.0.0.9:1/", URL_EINVAL},
        {"127.0.0.1:1",
         "parse \"127.0.0.1:1\": first path segment in URL cannot contain "
         "colon",
         URL_EINVAL},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct url_list l = {0};
        struct buf b = {0};
        struct err e = {0};

        CHECK(url_list_parse(str_of(cases[i].in), &l, &e) == cases[i].rc);
        url_list_print(&b, &l, ",");
        CHECK_STR(cases[i].rc ? e.msg : buf_z(&b), cases[i].want);
        url_list_release(&l);
        buf_release(&b);
    }
}

static void test_no_urls(void)
{
    struct url_list l;
    struct err e;

    CHECK(url_list_of(NULL, 0, &l, &e) == URL_EINVAL);
    CHECK_STR(e.msg, "no valid URLs given");
}

static void test_as_given(void)
{
    const struct str urls[] = {STR("http://b:2"), STR("http://a:1"),
                               STR("http://b:2")};
    struct url_list l;
    struct buf b = {0};

    CHECK(url_list_as_given(urls, ARRAY_LEN(urls), &l, NULL) == 0);
    url_list_print(&b, &l, ",");
    CHECK_STR(buf_z(&b), "http://b:2,http://a:1,http://b:2");
    url_list_release(&l);
    buf_clear(&b);
    CHECK(url_list_sorted(urls, ARRAY_LEN(urls), &l, NULL) == 0);
    url_list_print(&b, &l, ",");
    CHECK_STR(buf_z(&b), "http://a:1,http://b:2,http://b:2");
    buf_release(&b);
    url_list_release(&l);
}

static void test_encode(void)
{
    struct buf b = {0};
    struct err e;

    url_encode_path(&b, STR("/a b/\xc3\xa9?#%+;=~"));
    CHECK_STR(buf_z(&b), "/a%20b/%C3%A9%3F%23%25+;=~");
    buf_clear(&b);
    url_encode_query(&b, STR("/a b+&=%\n"));
    CHECK_STR(buf_z(&b), "%2Fa+b%2B%26%3D%25%0A");
    buf_clear(&b);
    CHECK(url_decode(&b, STR("a+b%20c%2Bd"), true, &e) == 0);
    CHECK(url_decode(&b, STR("+%41%6a"), false, &e) == 0);
    CHECK_STR(buf_z(&b), "a b c+d+Aj");
    CHECK(url_decode(&b, STR("x%2"), false, &e) == URL_EINVAL);
    CHECK_STR(e.msg, "invalid URL escape \"%2\"");
    CHECK_STR(buf_z(&b), "a b c+d+Aj");
    buf_release(&b);
}

static void test_clean_path(void)
{
    static const char *const cases[][2] = {
        {"", "."},
        {"/", "/"},
        {"//", "/"},
        {"/a//b/", "/a/b"},
        {"/a/../b", "/b"},
        {"/../..", "/"},
        {"/a/./b/.", "/a/b"},
        {"/...", "/..."},
        {"a/..", "."},
        {"../a/..", ".."},
        {"../../x", "../../x"},
        {"a/../../b", "../b"},
        {"/a/b/../../..", "/"},
        {"abc", "abc"},
        {"./.", "."},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf b = {0};

        buf_adds(&b, "pre:"); /* what stands in b already stays */
        url_clean_path(&b, str_of(cases[i][0]));
        CHECK_STR(buf_z(&b) + 4, cases[i][1]);
        buf_release(&b);
    }
}

static void check_field(const struct form *f, const char *name,
                        const char *want)
{
    struct str v = {0};

    CHECK(form_get(f, name, &v));
    CHECK(str_eqz(v, want));
}

static void test_form(void)
{
    struct form f = {0};
    struct err e = {0};
    struct str v;

    CHECK(form_parse(&f, 0, STR("value=a+b%20c%2Bd&&=e&flag&"), &e) == 0);
    CHECK(form_parse(&f, 1, STR("value=query&ttl=5"), &e) == 0);
    CHECK(f.n == 5);
    check_field(&f, "value", "a b c+d"); /* the body wins */
    check_field(&f, "", "e");
    check_field(&f, "flag", "");
    check_field(&f, "ttl", "5");
    CHECK(!form_get(&f, "VALUE", &v));
    form_release(&f);

    CHECK(form_parse(&f, 1, STR("a=%zz&b=2&c=%"), &e) == URL_EINVAL);
    CHECK_STR(e.msg, "invalid URL escape \"%zz\"");
    CHECK(f.n == 1);
    check_field(&f, "b", "2");
    form_release(&f);

    CHECK(form_parse(&f, 1, STR("value=a;b"), &e) == URL_EINVAL);
    CHECK_STR(e.msg, "invalid semicolon separator in query");
    CHECK(f.n == 0);
    form_release(&f);
}

static void test_form_limit(void)
{
    struct form f = {0};
    struct buf b = {0};
    struct err e;

    for (int i = 0; i < FORM_FIELDS_MAX; i++)
        buf_adds(&b, "a=1&");
    CHECK(form_parse(&f, 0, buf_str(&b), &e) == 0);
    CHECK(f.n == FORM_FIELDS_MAX);
    CHECK(form_parse(&f, 1, STR("b=1"), &e) == URL_EINVAL);
    form_release(&f);
    buf_release(&b);
}

/* Every prefix and every single-byte change of a URL must be harmless. */
static void test_mutations(void)
{
    static const char good[] = "http://u:p@[::1]:2379/a%20b?c=%41;d#e";
    char s[sizeof(good)];

    for (size_t n = 0; n < sizeof(good); n++) {
        for (int c = 0; c < 256; c++) {
            struct url u;
            struct err e;
            struct form f = {0};
            char *exact = xmalloc(n); /* so that a sanitizer sees overruns */

            memcpy(s, good, sizeof(good));
            s[n / 2] = (char)c;
            memcpy(exact, s, n);
            if (url_parse((struct str){exact, n}, &u, &e) == 0)
                url_release(&u);
            form_parse(&f, 0, (struct str){exact, n}, &e);
            form_release(&f);
            free(exact);
        }
    }
}

int main(void)
{
    test_parse();
    test_parse_errors();
    test_lists();
    test_no_urls();
    test_as_given();
    test_encode();
    test_clean_path();
    test_form();
    test_form_limit();
    test_mutations();
    return check_done("url");
}
