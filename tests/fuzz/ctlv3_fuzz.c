/*
 * ctlv3_fuzz.c - what is typed into etcdctl txn and watch -i: any line can be
 * split and read, and what is quoted and unquoted again is what it was.
 */
#include "ctlv3.h"
#include "fuzz.h"

static void split(struct str line)
{
    struct ctlv3_words w;
    size_t total = 0;

    ctlv3_split(&w, line);
    for (size_t i = 0; i < w.n; i++)
        total += strlen(w.words[i]);
    FUZZ_CHECK(w.n <= line.n && total <= 4 * line.n);
    ctlv3_words_release(&w);
}

static void compare(struct str line)
{
    struct arena a = {.limit = 1 << 20};
    struct rpcpb_compare c;
    struct err e;
    struct buf b = {0};

    if (ctlv3_parse_compare(&a, line, &c, &e) == 0) {
        FUZZ_CHECK(c.key.n <= line.n);
        ctlv3_json(&b, &rpcpb_compare_desc, &c);
    }
    buf_release(&b);
    arena_release(&a);
}

static void quote(struct str s)
{
    struct buf quoted = {0}, back = {0};

    ctl_quote(&quoted, s);
    FUZZ_CHECK(ctlv3_unquote(buf_str(&quoted), &back));
    FUZZ_CHECK(str_eq(buf_str(&back), s));
    buf_release(&quoted);
    buf_release(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct str line = {(const char *)p, n};

    split(line);
    compare(line);
    quote(line);
    return 0;
}
