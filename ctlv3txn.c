/*
 * ctlv3txn.c - txn: comparisons, requests on success and on failure, line by
 * line from standard input, each section ended by an empty line.
 */
#include "ctlv3.h"

#include <stdio.h>

#define OPS_MAX 100000 /* lines of a section; a server takes 128 by default */

/* A line of stdin without its end; false at the end of input. */
static bool read_line(struct buf *line)
{
    int ch;

    buf_clear(line);
    while ((ch = getchar()) != EOF && ch != '\n')
        buf_addc(line, (char)ch);
    return ch != EOF;
}

/* The next line of a section, without the blanks around it: 1, or 0 at the
 * section's end; else the negated exit code. */
static int next_line(struct buf *in, struct str *line)
{
    if (!read_line(in))
        return -ctlv3_fail(CTLV3_INVALID_INPUT, "EOF");
    *line = str_trim(buf_str(in));
    while (line->n > 0 && line->p[line->n - 1] == '\r')
        *line = str_trim((struct str){line->p, line->n - 1});
    return line->n > 0;
}

static int read_compares(struct ctl *c, struct rpcpb_txn_request *r)
{
    struct buf in = {0};
    struct str line = {0};
    struct err e;
    int rc;

    while ((rc = next_line(&in, &line)) > 0 && r->compare.n < OPS_MAX) {
        size_t n = r->compare.n, size = sizeof(*r->compare.items);

        r->compare.items = arena_grow(&c->v3->arena, r->compare.items, n * size,
                                      (n + 1) * size);
        rc = ctlv3_parse_compare(&c->v3->arena, line, &r->compare.items[n], &e);
        if (rc != 0) {
            rc = -ctlv3_fail(CTLV3_INVALID_INPUT, "%s", e.msg);
            break;
        }
        r->compare.n++;
    }
    buf_release(&in);
    return rc < 0 ? -rc : 0;
}

typedef int fill(struct ctl *sub, struct arena *a, struct rpcpb_request_op *op);

/* The request's strings are of the words, which go: keep them in the arena. */
static bool keep(struct arena *a, struct str *s)
{
    return arena_str(a, *s, s);
}

static int fill_get(struct ctl *sub, struct arena *a,
                    struct rpcpb_request_op *op)
{
    struct rpcpb_range_request *r = arena_alloc(a, sizeof(*r));
    int rc = ctlv3_get_request(sub, r);

    op->request_range = r;
    if (rc == 0 && !(keep(a, &r->key) && keep(a, &r->range_end)))
        rc = CTLV3_ERROR;
    return rc;
}

static int fill_put(struct ctl *sub, struct arena *a,
                    struct rpcpb_request_op *op)
{
    struct rpcpb_put_request *r = arena_alloc(a, sizeof(*r));
    int rc;

    sub->v3->no_stdin = true; /* the next requests come from there */
    rc = ctlv3_put_request(sub, r);
    op->request_put = r;
    if (rc == 0 && !(keep(a, &r->key) && keep(a, &r->value)))
        rc = CTLV3_ERROR;
    return rc;
}

static int fill_del(struct ctl *sub, struct arena *a,
                    struct rpcpb_request_op *op)
{
    struct rpcpb_delete_range_request *r = arena_alloc(a, sizeof(*r));
    int rc = ctlv3_del_request(sub, r);

    op->request_delete_range = r;
    if (rc == 0 && !(keep(a, &r->key) && keep(a, &r->range_end)))
        rc = CTLV3_ERROR;
    return rc;
}

static int read_request(struct ctl *c, struct str line,
                        struct rpcpb_request_op *op)
{
    static const struct {
        const char *name;
        fill *fill;
    } verbs[] = {{"get", fill_get}, {"put", fill_put}, {"del", fill_del}};
    struct ctlv3_words w;
    int rc = -1;

    ctlv3_split(&w, line);
    if (w.n < 2) /* in etcdctl's words, though it is no compare */
        rc = ctlv3_fail(CTLV3_INVALID_INPUT,
                        "invalid txn compare request: %.*s", STR_FMT(line));
    for (size_t i = 0; rc < 0 && i < ARRAY_LEN(verbs); i++) {
        struct ctlv3_words rest = {w.words + 1, w.n - 1};
        struct ctl sub;
        char *why;

        if (strcmp(w.words[0], verbs[i].name) != 0)
            continue;
        why = ctlv3_sub_parse(c, verbs[i].name, &rest, &sub);
        rc = why ? ctlv3_fail(CTLV3_INVALID_INPUT, "invalid txn request: %.*s",
                              STR_FMT(line))
                 : verbs[i].fill(&sub, &c->v3->arena, op);
        free(why);
        ctlv3_sub_release(&sub);
    }
    if (rc < 0)
        rc = ctlv3_fail(CTLV3_INVALID_INPUT, "invalid txn request: %.*s",
                        STR_FMT(line));
    ctlv3_words_release(&w);
    return rc;
}

static int read_requests(struct ctl *c, struct rpcpb_request_op **items,
                         size_t *n)
{
    struct buf in = {0};
    struct str line = {0};
    int rc;

    while ((rc = next_line(&in, &line)) > 0 && *n < OPS_MAX) {
        size_t size = sizeof(**items);

        *items = arena_grow(&c->v3->arena, *items, *n * size, (*n + 1) * size);
        rc = -read_request(c, line, &(*items)[*n]);
        if (rc < 0)
            break;
        (*n)++;
    }
    buf_release(&in);
    return rc < 0 ? -rc : 0;
}

static void prompt(const struct ctl *c, const char *text)
{
    if (!ctl_bool(c, "interactive"))
        return;
    printf("%s\n", text);
    fflush(stdout);
}

int ctlv3_txn(struct ctl *c)
{
    struct rpcpb_txn_response response = {0};
    struct rpcpb_txn_request r = {0};
    int rc;

    if (c->n_args != 0)
        return ctlv3_fail(CTLV3_BAD_ARGS,
                          "txn command does not accept argument");
    rc = ctlv3_connect(c); /* before anybody types */
    if (rc != 0)
        return rc;
    prompt(c, "compares:");
    rc = read_compares(c, &r);
    if (rc != 0)
        return rc;
    prompt(c, "success requests (get, put, del):");
    rc = read_requests(c, &r.success.items, &r.success.n);
    if (rc != 0)
        return rc;
    prompt(c, "failure requests (get, put, del):");
    rc = read_requests(c, &r.failure.items, &r.failure.n);
    if (rc == 0)
        rc = ctlv3_call(c, RPC_KV_TXN, &r, &response);
    return rc ? rc : ctlv3_print_txn(c, &response);
}
