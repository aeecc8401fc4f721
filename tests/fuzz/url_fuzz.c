/*
 * url_fuzz.c - URLs, lists of them, percent-encoding and clean paths: what is
 * printed can be read again, and cleaning what is clean changes nothing.
 */
#include "fuzz.h"
#include "url.h"

static void check_url(struct str s)
{
    struct url u, again;
    struct err e = {0};

    if (url_parse(s, &u, &e) < 0) {
        FUZZ_CHECK(e.code == URL_EINVAL && e.msg[0]);
        return;
    }
    FUZZ_CHECK(u.scheme && u.host && u.port && u.path && u.userinfo &&
               u.raw_query);
    FUZZ_CHECK(url_parse(str_of(u.raw), &again, NULL) == 0 ||
               strlen(u.raw) < s.n); /* a NUL cut it short */
    if (strlen(u.raw) == s.n) {
        FUZZ_CHECK(strcmp(u.raw, again.raw) == 0);
        FUZZ_CHECK(strcmp(u.host, again.host) == 0);
        FUZZ_CHECK(strcmp(u.path, again.path) == 0);
    }
    url_release(&again);
    url_release(&u);
}

static void check_list(struct str s)
{
    struct url_list l, again;
    struct buf b = {0}, c = {0};

    if (url_list_parse(s, &l, NULL) < 0)
        return;
    FUZZ_CHECK(l.n > 0);
    for (size_t i = 1; i < l.n; i++)
        FUZZ_CHECK(strcmp(l.urls[i - 1].raw, l.urls[i].raw) < 0);
    url_list_print(&b, &l, ",");
    FUZZ_CHECK(url_list_parse(buf_str(&b), &again, NULL) == 0);
    FUZZ_CHECK(again.n == l.n);
    url_list_print(&c, &again, ",");
    FUZZ_CHECK(str_eq(buf_str(&b), buf_str(&c)));
    url_list_release(&l);
    url_list_release(&again);
    buf_release(&b);
    buf_release(&c);
}

typedef void encode_fn(struct buf *b, struct str s);

static void check_escapes(encode_fn *encode, struct str s, bool plus)
{
    struct buf there = {0}, back = {0};

    encode(&there, s);
    for (size_t i = 0; i < there.len; i++)
        FUZZ_CHECK(there.data[i] > ' ' && there.data[i] < 127);
    FUZZ_CHECK(url_decode(&back, buf_str(&there), plus, NULL) == 0);
    FUZZ_CHECK(str_eq(buf_str(&back), s));
    buf_release(&there);
    buf_release(&back);
}

static void check_decode(struct str s)
{
    struct buf once = {0};
    struct err e = {0};

    buf_adds(&once, "x");
    if (url_decode(&once, s, true, &e) < 0)
        FUZZ_CHECK(e.msg[0]);
    else
        FUZZ_CHECK(once.len <= 1 + s.n);
    FUZZ_CHECK(once.data[0] == 'x');
    buf_release(&once);
}

/* Does it hold an element that cleaning should have taken out? */
static void check_clean_elements(struct str path)
{
    bool rooted = path.n && path.p[0] == '/', others = false, more;
    struct str seg, rest = path;

    if (path.n == 1)
        return; /* "/" or "." */
    if (rooted)
        rest = (struct str){path.p + 1, path.n - 1};
    do {
        more = str_cut(&rest, '/', &seg);
        FUZZ_CHECK(seg.n > 0 && !str_eqz(seg, "."));
        if (str_eqz(seg, ".."))
            FUZZ_CHECK(!rooted && !others);
        else
            others = true;
    } while (more);
}

static void check_clean(struct str s)
{
    struct buf once = {0}, twice = {0};

    url_clean_path(&once, s);
    url_clean_path(&twice, buf_str(&once));
    FUZZ_CHECK(str_eq(buf_str(&once), buf_str(&twice)));
    FUZZ_CHECK(once.len <= s.n || (s.n == 0 && once.len == 1));
    check_clean_elements(buf_str(&once));
    buf_release(&once);
    buf_release(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str s = {(const char *)data, size};

    check_url(s);
    check_list(s);
    check_escapes(url_encode_path, s, false);
    check_escapes(url_encode_query, s, true);
    check_decode(s);
    check_clean(s);
    return 0;
}
