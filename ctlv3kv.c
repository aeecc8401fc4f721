/*
 * ctlv3kv.c - get, put, del and compaction.
 *
 * The requests are made apart from the commands that send them: txn sends the
 * same ones.
 */
#include "ctlv3.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define VALUE_MAX (1u << 30) /* of what is read from standard input */

/* --- Get. -------------------------------------------------------------------------- */

static int read_order(const char *s, int32_t *out)
{
    if (s[0] == '\0')
        *out = RPCPB_SORT_NONE;
    else if (strcasecmp(s, "ASCEND") == 0)
        *out = RPCPB_SORT_ASCEND;
    else if (strcasecmp(s, "DESCEND") == 0)
        *out = RPCPB_SORT_DESCEND;
    else
        return ctlv3_fail(CTLV3_BAD_FEATURE, "bad sort order %s", s);
    return 0;
}

static int read_target(const char *s, int32_t *out)
{
    static const struct {
        const char *name;
        int32_t target;
    } targets[] = {
        {"", RPCPB_TARGET_KEY},        {"CREATE", RPCPB_TARGET_CREATE},
        {"KEY", RPCPB_TARGET_KEY},     {"MODIFY", RPCPB_TARGET_MOD},
        {"VALUE", RPCPB_TARGET_VALUE}, {"VERSION", RPCPB_TARGET_VERSION},
    };

    for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
        if (strcasecmp(s, targets[i].name) == 0) {
            *out = targets[i].target;
            return 0;
        }
    }
    return ctlv3_fail(CTLV3_BAD_FEATURE, "bad sort target %s", s);
}

/* What get and del say of their arguments. 0, or the exit code. */
static int check_range(const struct ctl *c, const char *verb)
{
    bool prefix = ctl_bool(c, "prefix"), from_key = ctl_bool(c, "from-key");

    if (prefix && from_key)
        return ctlv3_fail(CTLV3_BAD_ARGS,
                          "`--prefix` and `--from-key` cannot be "
                          "set at the same time, choose one");
    if (c->n_args == 0)
        return ctlv3_fail(
            CTLV3_BAD_ARGS,
            "%s command needs one argument as key and an optional "
            "argument as range_end",
            verb);
    if (c->n_args > 1 && (prefix || from_key))
        return ctlv3_fail(CTLV3_BAD_ARGS,
                          "too many arguments, only accept one argument when "
                          "`--prefix` or `--from-key` is set");
    return 0;
}

static struct ctlv3_range range_of_args(struct ctl *c)
{
    return ctlv3_range_of(c, c->args[0], c->n_args > 1 ? c->args[1] : NULL,
                          ctl_bool(c, "prefix"), ctl_bool(c, "from-key"));
}

static int read_sorting(struct ctl *c, struct rpcpb_range_request *r)
{
    int rc = read_order(ctl_string(c, "order", ""), &r->sort_order);

    if (rc == 0)
        rc = read_target(ctl_string(c, "sort-by", ""), &r->sort_target);
    /* As clientv3: keys come in their order anyway. Any other target without
     * an order is left to the server, which then counts out --limit first. */
    if (rc == 0 && r->sort_target == RPCPB_TARGET_KEY &&
        r->sort_order == RPCPB_SORT_ASCEND)
        r->sort_order = RPCPB_SORT_NONE;
    return rc;
}

int ctlv3_get_request(struct ctl *c, struct rpcpb_range_request *r)
{
    const char *consistency = ctl_string(c, "consistency", "l");
    struct ctlv3_range range;
    int rc = check_range(c, "get");

    *r = (struct rpcpb_range_request){0};
    if (rc != 0)
        return rc;
    if (strcmp(consistency, "s") == 0)
        r->serializable = true;
    else if (strcmp(consistency, "l") != 0)
        return ctlv3_fail(CTLV3_BAD_FEATURE, "unknown consistency flag \"%s\"",
                          consistency);
    range = range_of_args(c);
    r->key = range.key;
    r->range_end = range.end;
    r->limit = ctl_int(c, "limit", 0);
    r->revision = ctl_int(c, "rev", 0);
    r->keys_only = ctl_bool(c, "keys-only");
    r->count_only = ctl_bool(c, "count-only");
    r->min_create_revision = ctl_int(c, "min-create-rev", 0);
    r->max_create_revision = ctl_int(c, "max-create-rev", 0);
    r->min_mod_revision = ctl_int(c, "min-mod-rev", 0);
    r->max_mod_revision = ctl_int(c, "max-mod-rev", 0);
    return read_sorting(c, r);
}

/* May the v2 keys have what is no v3 key? Only of a plain `get KEY`. */
static bool is_bare(const struct ctl *c)
{
    return c->mode == CTL_MODE_UNSET && c->n_args == 1 &&
           c->v3->format == CTLV3_SIMPLE && !ctl_given(c, "prefix") &&
           !ctl_given(c, "from-key") && !ctl_given(c, "rev");
}

int ctlv3_get(struct ctl *c)
{
    struct rpcpb_range_response response = {0};
    struct rpcpb_range_request r;
    bool value_only = ctl_bool(c, "print-value-only");
    int rc = ctlv3_get_request(c, &r);

    if (rc == 0)
        rc = ctlv3_call(c, RPC_KV_RANGE, &r, &response);
    if (rc != 0)
        return rc;
    if (response.kvs.n == 0 && is_bare(c))
        return ctlv2_get_if_there(c);
    if (value_only && c->v3->format != CTLV3_SIMPLE)
        return ctlv3_fail(CTLV3_BAD_ARGS, "print-value-only is only for "
                                          "`--write-out=simple`");
    return ctlv3_print_get(c, &response, value_only);
}

/* --- Put. ------------------------------------------------------------------------------ */

/* All of standard input, into the arena. */
static int read_stdin(struct ctl *c, struct str *out)
{
    struct buf b = {0};
    ssize_t n;
    bool ok;

    do {
        buf_reserve(&b, 4096);
        n = read(STDIN_FILENO, b.data + b.len, b.cap - b.len);
        if (n > 0)
            b.len += (size_t)n;
    } while (n > 0 && b.len < VALUE_MAX);
    ok = n == 0 && b.len > 0 && arena_str(&c->v3->arena, buf_str(&b), out);
    buf_release(&b);
    return ok ? 0
              : ctlv3_fail(CTLV3_BAD_ARGS,
                           "put command needs 1 argument and input "
                           "from stdin or 2 arguments");
}

static int read_value(struct ctl *c, bool ignore_value, struct str *out)
{
    *out = (struct str){NULL, 0};
    if (ignore_value && c->n_args > 1)
        return ctlv3_fail(CTLV3_BAD_ARGS,
                          "put command needs only 1 argument when "
                          "'ignore-value' is set");
    if (ignore_value)
        return 0;
    if (c->n_args > 1) {
        *out = str_of(c->args[1]);
        return 0;
    }
    if (c->v3->no_stdin)
        return ctlv3_fail(CTLV3_BAD_ARGS,
                          "put command needs 1 argument and input "
                          "from stdin or 2 arguments");
    return read_stdin(c, out);
}

int ctlv3_put_request(struct ctl *c, struct rpcpb_put_request *r)
{
    bool ignore_value = ctl_bool(c, "ignore-value");
    int rc;

    *r = (struct rpcpb_put_request){0};
    if (c->n_args == 0)
        return ctlv3_fail(CTLV3_BAD_ARGS,
                          "put command needs 1 argument and input "
                          "from stdin or 2 arguments");
    r->key = str_of(c->args[0]);
    rc = read_value(c, ignore_value, &r->value);
    if (rc != 0)
        return rc;
    if (!ctlv3_lease_id(ctl_string(c, "lease", "0"), "lease ID", &r->lease))
        return CTLV3_BAD_ARGS;
    r->prev_kv = ctl_bool(c, "prev-kv");
    r->ignore_value = ignore_value;
    r->ignore_lease = ctl_bool(c, "ignore-lease");
    return 0;
}

int ctlv3_put(struct ctl *c)
{
    struct rpcpb_put_response response = {0};
    struct rpcpb_put_request r;
    int rc = ctlv3_put_request(c, &r);

    if (rc == 0)
        rc = ctlv3_call(c, RPC_KV_PUT, &r, &response);
    return rc ? rc : ctlv3_print_put(c, &response);
}

/* --- Del. ------------------------------------------------------------------------------ */

int ctlv3_del_request(struct ctl *c, struct rpcpb_delete_range_request *r)
{
    struct ctlv3_range range;
    int rc = 0;

    *r = (struct rpcpb_delete_range_request){0};
    if (c->n_args > 2)
        return ctlv3_fail(CTLV3_BAD_ARGS,
                          "del command needs one argument as key "
                          "and an optional argument as range_end");
    rc = check_range(c, "del");
    if (rc != 0)
        return rc;
    range = range_of_args(c);
    r->key = range.key;
    r->range_end = range.end;
    r->prev_kv = ctl_bool(c, "prev-kv");
    return 0;
}

int ctlv3_del(struct ctl *c)
{
    struct rpcpb_delete_range_response response = {0};
    struct rpcpb_delete_range_request r;
    int rc = ctlv3_del_request(c, &r);

    if (rc == 0)
        rc = ctlv3_call(c, RPC_KV_DELETE_RANGE, &r, &response);
    return rc ? rc : ctlv3_print_del(c, &response);
}

/* --- Compaction. -------------------------------------------------------------------------- */

int ctlv3_compaction(struct ctl *c)
{
    struct rpcpb_compaction_response response = {0};
    struct rpcpb_compaction_request r = {.physical = ctl_bool(c, "physical")};
    char *why;
    int rc;

    if (c->n_args != 1)
        return ctlv3_fail(CTLV3_BAD_ARGS,
                          "compaction command needs 1 argument");
    if (!ctlv3_parse_int(c->args[0], 10, &r.revision, &why)) {
        rc = ctlv3_fail(CTLV3_ERROR, "%s", why);
        free(why);
        return rc;
    }
    rc = ctlv3_call(c, RPC_KV_COMPACT, &r, &response);
    if (rc == 0)
        printf("compacted revision %" PRId64 "\n", r.revision);
    return rc;
}
