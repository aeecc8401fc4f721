/*
 * ctlv3print.c - answers about keys in the formats of -w: simple, fields, JSON
 * and protobuf, byte for byte as etcdctl 3.4 prints them.
 */
#include "ctlv3.h"

#include <inttypes.h>
#include <stdio.h>

static const char *format_name(enum ctlv3_format f)
{
    static const char *const names[] = {"simple", "json", "fields", "protobuf",
                                        "table"};

    return names[f];
}

int ctlv3_unsupported(const struct ctl *c)
{
    return ctlv3_fail(CTLV3_BAD_FEATURE, "%s not supported as output format",
                      format_name(c->v3->format));
}

bool ctlv3_print_whole(const struct ctl *c, const struct msg_desc *d,
                       const void *msg)
{
    struct buf b = {0};

    if (c->v3->format == CTLV3_PROTOBUF) {
        msg_encode(d, msg, &b);
    } else if (c->v3->format == CTLV3_JSON) {
        ctlv3_json(&b, d, msg);
        buf_addc(&b, '\n');
    } else {
        return false;
    }
    if (b.len > 0)
        fwrite(b.data, 1, b.len, stdout);
    buf_release(&b);
    return true;
}

int ctlv3_print_plain(struct ctl *c, const struct msg_desc *d, const void *msg,
                      const struct rpcpb_response_header *h, const char *fmt,
                      ...)
{
    va_list ap;

    if (ctlv3_print_whole(c, d, msg))
        return 0;
    if (c->v3->format == CTLV3_TABLE)
        return ctlv3_unsupported(c);
    if (c->v3->format == CTLV3_FIELDS) {
        ctlv3_print_header(h);
        return 0;
    }
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    return 0;
}

int ctlv3_print_simple(struct ctl *c, const struct msg_desc *d, const void *msg,
                       const char *fmt, ...)
{
    va_list ap;

    if (ctlv3_print_whole(c, d, msg))
        return 0;
    if (c->v3->format != CTLV3_SIMPLE)
        return ctlv3_unsupported(c);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    return 0;
}

/* --- Fields. --------------------------------------------------------------------- */

void ctlv3_print_header(const struct rpcpb_response_header *h)
{
    static const struct rpcpb_response_header none;

    if (!h)
        h = &none;
    printf("\"ClusterID\" : %" PRIu64 "\n", h->cluster_id);
    printf("\"MemberID\" : %" PRIu64 "\n", h->member_id);
    printf("\"Revision\" : %" PRId64 "\n", h->revision);
    printf("\"RaftTerm\" : %" PRIu64 "\n", h->raft_term);
}

static void print_quoted(const char *prefix, const char *name, struct str s)
{
    struct buf b = {0};

    ctl_quote(&b, s);
    printf("\"%s%s\" : %s\n", prefix, name, buf_z(&b));
    buf_release(&b);
}

void ctlv3_print_quoted(const char *name, struct str value)
{
    print_quoted("", name, value);
}

static void print_int(const char *prefix, const char *name, int64_t v)
{
    printf("\"%s%s\" : %" PRId64 "\n", prefix, name, v);
}

static void kv_fields(const char *prefix, const struct rpcpb_key_value *kv)
{
    print_quoted(prefix, "Key", kv->key);
    print_int(prefix, "CreateRevision", kv->create_revision);
    print_int(prefix, "ModRevision", kv->mod_revision);
    print_int(prefix, "Version", kv->version);
    print_quoted(prefix, "Value", kv->value);
    print_int(prefix, "Lease", kv->lease);
}

static void get_fields(const struct rpcpb_range_response *r)
{
    ctlv3_print_header(r->header);
    for (size_t i = 0; i < r->kvs.n; i++)
        kv_fields("", &r->kvs.items[i]);
    printf("\"More\" : %s\n", r->more ? "true" : "false");
    print_int("", "Count", r->count);
}

static void put_fields(const struct rpcpb_put_response *r)
{
    ctlv3_print_header(r->header);
    if (r->prev_kv)
        kv_fields("Prev", r->prev_kv);
}

static void del_fields(const struct rpcpb_delete_range_response *r)
{
    ctlv3_print_header(r->header);
    print_int("", "Deleted", r->deleted);
    for (size_t i = 0; i < r->prev_kvs.n; i++)
        kv_fields("Prev", &r->prev_kvs.items[i]);
}

static void txn_fields(const struct rpcpb_txn_response *r)
{
    ctlv3_print_header(r->header);
    printf("\"Succeeded\" : %s\n", r->succeeded ? "true" : "false");
    for (size_t i = 0; i < r->responses.n; i++) {
        const struct rpcpb_response_op *op = &r->responses.items[i];

        if (op->response_delete_range)
            del_fields(op->response_delete_range);
        else if (op->response_put)
            put_fields(op->response_put);
        else if (op->response_range)
            get_fields(op->response_range);
    }
}

static void watch_fields(const struct rpcpb_watch_response *r)
{
    ctlv3_print_header(r->header);
    for (size_t i = 0; i < r->events.n; i++) {
        const struct rpcpb_event *e = &r->events.items[i];

        printf("\"Type\" : %s\n",
               msg_enum_name(&rpcpb_event_type_enum, e->type));
        if (e->prev_kv)
            kv_fields("Prev", e->prev_kv);
        if (e->kv)
            kv_fields("", e->kv);
    }
}

/* --- Simple. ------------------------------------------------------------------------- */

/* Bytes, with --hex as \x66\x6f. */
static void print_bytes(const struct ctl *c, struct str s)
{
    if (!c->v3->hex) {
        if (s.n > 0)
            fwrite(s.p, 1, s.n, stdout);
    } else {
        for (size_t i = 0; i < s.n; i++)
            printf("\\x%02x", (uint8_t)s.p[i]);
    }
    putchar('\n');
}

void ctlv3_print_kv(const struct ctl *c, const struct rpcpb_key_value *kv,
                    bool value_only)
{
    if (!value_only)
        print_bytes(c, kv->key);
    print_bytes(c, kv->value);
}

static void get_simple(struct ctl *c, const struct rpcpb_range_response *r,
                       bool value_only)
{
    for (size_t i = 0; i < r->kvs.n; i++)
        ctlv3_print_kv(c, &r->kvs.items[i], value_only);
}

static void put_simple(struct ctl *c, const struct rpcpb_put_response *r)
{
    printf("OK\n");
    if (r->prev_kv)
        ctlv3_print_kv(c, r->prev_kv, false);
}

static void del_simple(struct ctl *c,
                       const struct rpcpb_delete_range_response *r)
{
    printf("%" PRId64 "\n", r->deleted);
    for (size_t i = 0; i < r->prev_kvs.n; i++)
        ctlv3_print_kv(c, &r->prev_kvs.items[i], false);
}

static void txn_simple(struct ctl *c, const struct rpcpb_txn_response *r)
{
    printf(r->succeeded ? "SUCCESS\n" : "FAILURE\n");
    for (size_t i = 0; i < r->responses.n; i++) {
        const struct rpcpb_response_op *op = &r->responses.items[i];

        printf("\n");
        if (op->response_delete_range)
            del_simple(c, op->response_delete_range);
        else if (op->response_put)
            put_simple(c, op->response_put);
        else if (op->response_range)
            get_simple(c, op->response_range, false);
        else
            printf("unexpected response\n");
    }
}

static void watch_simple(struct ctl *c, const struct rpcpb_watch_response *r)
{
    for (size_t i = 0; i < r->events.n; i++) {
        const struct rpcpb_event *e = &r->events.items[i];

        printf("%s\n", msg_enum_name(&rpcpb_event_type_enum, e->type));
        if (e->prev_kv)
            ctlv3_print_kv(c, e->prev_kv, false);
        if (e->kv)
            ctlv3_print_kv(c, e->kv, false);
    }
}

/* --- By format. -------------------------------------------------------------------------- */

int ctlv3_print_get(struct ctl *c, const struct rpcpb_range_response *r,
                    bool value_only)
{
    if (ctlv3_print_whole(c, &rpcpb_range_response_desc, r))
        return 0;
    if (c->v3->format == CTLV3_TABLE)
        return ctlv3_unsupported(c);
    if (c->v3->format == CTLV3_FIELDS)
        get_fields(r);
    else
        get_simple(c, r, value_only);
    return 0;
}

int ctlv3_print_put(struct ctl *c, const struct rpcpb_put_response *r)
{
    if (ctlv3_print_whole(c, &rpcpb_put_response_desc, r))
        return 0;
    if (c->v3->format == CTLV3_TABLE)
        return ctlv3_unsupported(c);
    if (c->v3->format == CTLV3_FIELDS)
        put_fields(r);
    else
        put_simple(c, r);
    return 0;
}

int ctlv3_print_del(struct ctl *c, const struct rpcpb_delete_range_response *r)
{
    if (ctlv3_print_whole(c, &rpcpb_delete_range_response_desc, r))
        return 0;
    if (c->v3->format == CTLV3_TABLE)
        return ctlv3_unsupported(c);
    if (c->v3->format == CTLV3_FIELDS)
        del_fields(r);
    else
        del_simple(c, r);
    return 0;
}

int ctlv3_print_txn(struct ctl *c, const struct rpcpb_txn_response *r)
{
    if (ctlv3_print_whole(c, &rpcpb_txn_response_desc, r))
        return 0;
    if (c->v3->format == CTLV3_TABLE)
        return ctlv3_unsupported(c);
    if (c->v3->format == CTLV3_FIELDS)
        txn_fields(r);
    else
        txn_simple(c, r);
    return 0;
}

/* As of clientv3's struct, whose fields have no JSON names of their own. */
static void watch_json(const struct rpcpb_watch_response *r)
{
    static const struct rpcpb_response_header none;
    struct buf b = {0};

    buf_addc(&b, '{');
    json_add_key(&b, "Header");
    ctlv3_json(&b, &rpcpb_response_header_desc, r->header ? r->header : &none);
    json_add_key(&b, "Events");
    buf_addc(&b, '[');
    for (size_t i = 0; i < r->events.n; i++) {
        if (i > 0)
            buf_addc(&b, ',');
        ctlv3_json(&b, &rpcpb_event_desc, &r->events.items[i]);
    }
    buf_addc(&b, ']');
    ctlv3_json_int(&b, "CompactRevision", r->compact_revision);
    json_add_key(&b, "Canceled");
    buf_adds(&b, r->canceled ? "true" : "false");
    json_add_key(&b, "Created");
    buf_adds(&b, r->created ? "true" : "false");
    printf("%s}\n", buf_z(&b));
    buf_release(&b);
}

int ctlv3_print_watch(struct ctl *c, const struct rpcpb_watch_response *r)
{
    if (c->v3->format == CTLV3_TABLE)
        return ctlv3_unsupported(c);
    if (c->v3->format == CTLV3_JSON)
        watch_json(r);
    else if (c->v3->format == CTLV3_FIELDS)
        watch_fields(r);
    else if (!ctlv3_print_whole(c, &rpcpb_watch_response_desc, r))
        watch_simple(c, r);
    return 0;
}
