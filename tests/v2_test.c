/*
 * v2_test.c - the parameters of the v2 keys API: what is refused, with which
 * error, and which error wins (spec: v2-api, 1 and 5).
 */
#include "../sys.h"
#include "../url.h"
#include "../v2.h"
#include "check.h"

static void parse(const char *method, const char *query, struct form *f,
                  struct v2_params *p, struct store_error *e)
{
    *f = (struct form){0};
    *e = (struct store_error){0};
    CHECK(form_parse(f, 1, str_of(query), NULL) == 0);
    CHECK(v2_parse_params(f, str_of(method), p, e) == e->code);
}

static void done(struct form *f, struct store_error *e)
{
    free(e->cause);
    form_release(f);
}

static void test_refusals(void)
{
    static const struct {
        const char *method, *query;
        int code;
        const char *cause;
    } cases[] = {
        {"PUT", "prevIndex=", 203, "invalid value for \"prevIndex\""},
        {"PUT", "prevIndex=-1", 203, "invalid value for \"prevIndex\""},
        {"PUT", "prevIndex=18446744073709551616", 203,
         "invalid value for \"prevIndex\""},
        {"GET", "waitIndex=x", 203, "invalid value for \"waitIndex\""},
        {"GET", "recursive=", 209, "invalid value for \"recursive\""},
        {"GET", "recursive", 209, "invalid value for \"recursive\""},
        {"GET", "sorted=tRUE", 209, "invalid value for \"sorted\""},
        {"GET", "wait=2", 209, "invalid value for \"wait\""},
        {"GET", "dir=+", 209, "invalid value for \"dir\""},
        {"GET", "quorum=no", 209, "invalid value for \"quorum\""},
        {"GET", "stream=on", 209, "invalid value for \"stream\""},
        {"PUT", "wait=true", 209,
         "\"wait\" can only be used with GET requests"},
        {"HEAD", "wait=1", 209, "\"wait\" can only be used with GET requests"},
        {"PUT", "prevValue=", 201, "\"prevValue\" cannot be empty"},
        {"PUT", "noValueOnSuccess=2", 209,
         "invalid value for \"noValueOnSuccess\""},
        {"PUT", "ttl=1.5", 202, "invalid value for \"ttl\""},
        {"PUT", "prevExist=", 209, "invalid value for prevExist"},
        {"PUT", "refresh=bad", 209, "invalid value for refresh"},
        {"PUT", "refresh=true&value=a&ttl=5", 211,
         "A value was provided on a refresh"},
        {"PUT", "refresh=true", 212, "No TTL value set"},
        {"PUT", "refresh=true&ttl=", 212, "No TTL value set"},
        /* Which one wins. */
        {"PUT", "waitIndex=y&prevIndex=x&recursive=z&ttl=q", 203,
         "invalid value for \"prevIndex\""},
        {"PUT", "recursive=z&waitIndex=y&ttl=q", 203,
         "invalid value for \"waitIndex\""},
        {"PUT", "dir=x&sorted=y", 209, "invalid value for \"sorted\""},
        {"PUT", "prevValue=&wait=t", 209,
         "\"wait\" can only be used with GET requests"},
        {"PUT", "ttl=q&noValueOnSuccess=x&prevValue=", 201,
         "\"prevValue\" cannot be empty"},
        {"PUT", "ttl=q&noValueOnSuccess=x", 209,
         "invalid value for \"noValueOnSuccess\""},
        {"PUT", "prevExist=x&ttl=y", 202, "invalid value for \"ttl\""},
        {"PUT", "refresh=x&prevExist=y", 209, "invalid value for prevExist"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct store_error e;
        struct v2_params p;
        struct form f;

        parse(cases[i].method, cases[i].query, &f, &p, &e);
        CHECK(e.code == cases[i].code);
        CHECK_STR(e.cause ? e.cause : "", cases[i].cause);
        CHECK(e.index == 0);
        done(&f, &e);
    }
}

static void test_values(void)
{
    struct store_error e;
    struct v2_params p;
    struct form f;

    parse("PUT",
          "value=v+1&prevValue=old&prevIndex=18446744073709551615&ttl=60&"
          "prevExist=F&noValueOnSuccess=T&dir=1&recursive=0&value=second",
          &f, &p, &e);
    CHECK(e.code == 0);
    CHECK(str_eqz(p.r.method, "PUT"));
    CHECK(str_eqz(p.r.val, "v 1"));
    CHECK(str_eqz(p.r.prev_value, "old"));
    CHECK(p.r.prev_index == UINT64_MAX);
    CHECK(p.r.prev_exist == TRI_FALSE && p.r.refresh == TRI_UNSET);
    CHECK(p.has_ttl && p.ttl_s == 60);
    CHECK(p.no_value && p.r.dir && !p.r.recursive);
    done(&f, &e);

    parse("GET", "wait=true&stream=TRUE&waitIndex=7&quorum=true&sorted=t", &f,
          &p, &e);
    CHECK(e.code == 0);
    CHECK(p.r.wait && p.r.stream && p.r.quorum && p.r.sorted);
    CHECK(p.r.since == 7);
    done(&f, &e);

    /* Nothing given: "" is a value, an empty ttl is none. */
    parse("PUT", "ttl=&VALUE=x", &f, &p, &e);
    CHECK(e.code == 0);
    CHECK(p.r.val.n == 0 && p.r.prev_value.n == 0 && !p.has_ttl);
    CHECK(p.r.prev_exist == TRI_UNSET && p.r.expiration == 0);
    done(&f, &e);

    parse("PUT", "refresh=true&ttl=5&value=&prevExist=true", &f, &p, &e);
    CHECK(e.code == 0);
    CHECK(p.r.refresh == TRI_TRUE && p.r.prev_exist == TRI_TRUE);
    done(&f, &e);

    /* Without refresh, or with refresh=false, a value may stand beside. */
    parse("PUT", "refresh=false&value=x", &f, &p, &e);
    CHECK(e.code == 0);
    CHECK(p.r.refresh == TRI_FALSE);
    done(&f, &e);
}

static void test_is_form(void)
{
    static const struct {
        const char *type;
        int rc;
        bool form;
        const char *why;
    } cases[] = {
        {"", 0, false, ""},
        {"text/plain", 0, false, ""},
        {"application/x-www-form-urlencoded", 0, true, ""},
        {"APPLICATION/X-WWW-FORM-URLENCODED", 0, true, ""},
        {"application/x-www-form-urlencoded; charset=utf-8", 0, true, ""},
        {"application/x-www-form-urlencoded ;a=\"b;\\\"c\" ; d = e", 0, true,
         ""},
        {"application/x-www-form-urlencoded;", 0, true, ""},
        {"application/x-www-form-urlencoded; =", -1, false,
         "mime: invalid media parameter"},
        {"application/x-www-form-urlencoded; a=\"b", -1, false,
         "mime: invalid media parameter"},
        {"application/x-www-form-urlencoded; a=", -1, false,
         "mime: invalid media parameter"},
        {"application/x-www-form-urlencoded; a=b c", -1, false,
         "mime: invalid media parameter"},
        {"; a=b", -1, false, "mime: no media type"},
        {"text plain", -1, false, "mime: expected slash after first token"},
        {"text/", -1, false, "mime: expected token after slash"},
        {"text/plain x", -1, false,
         "mime: unexpected content after media subtype"},
        {"form", 0, false, ""},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *why = "";
        bool form = true;

        CHECK(v2_is_form(str_of(cases[i].type), &form, &why) == cases[i].rc);
        CHECK(form == cases[i].form);
        CHECK_STR(cases[i].rc ? why : "", cases[i].why);
    }
}

/* An absurd TTL is for ever, not in the past. */
static void test_expiration(void)
{
    int64_t now = 1795348265 * NS_PER_S;

    CHECK(v2_expiration(now, 0) == now);
    CHECK(v2_expiration(now, 60) == now + 60 * NS_PER_S);
    CHECK(v2_expiration(now, 100000000) == now + 100000000 * NS_PER_S);
    CHECK(v2_expiration(now, 100000000000u) == INT64_MAX);
    CHECK(v2_expiration(now, UINT64_MAX) == INT64_MAX);
}

int main(void)
{
    test_refusals();
    test_values();
    test_is_form();
    test_expiration();
    return check_done("v2");
}
