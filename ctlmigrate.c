/*
 * ctlmigrate.c - etcdctl migrate: the keys of the v2 store become v3 keys, in
 * the directory of a member that is stopped.
 *
 * A file of v2 becomes a key at the revision of its modifiedIndex, version 1,
 * without a lease; directories go, and so do hidden nodes. A transformer may do
 * otherwise: on its input are the nodes as JSON objects, one after another, and
 * on its output it gives records of mvccpb.KeyValue, each behind its length as
 * 64 bits in little-endian order.
 *
 * The database stands for the log up to its commit index then, so all v3 writes
 * of the log must be in it before: else we refuse.
 */
#include "ctlv3.h"

#include "backend.h"
#include "ctldata.h"
#include "ctldb.h"
#include "rpcpb.h"
#include "store.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define RECORD_MAX (1u << 30)

struct migration {
    const char *transformer; /* "" is none */
    bool no_ttl;
    struct buf nodes; /* JSON, for the transformer */
    struct ctl_db_version *out;
    size_t n, cap;
};

static void migration_release(struct migration *m)
{
    for (size_t i = 0; i < m->n; i++) {
        buf_release(&m->out[i].key);
        buf_release(&m->out[i].record);
    }
    free(m->out);
    buf_release(&m->nodes);
}

/* --- Versions. ------------------------------------------------------------------ */

static void add_version(struct migration *m, const struct rpcpb_key_value *kv)
{
    uint8_t revision[17] = {0};
    struct ctl_db_version *v;

    if (m->n == m->cap) {
        m->cap = m->cap ? m->cap * 2 : 256;
        m->out = xrealloc(m->out, m->cap * sizeof(*m->out));
    }
    v = &m->out[m->n++];
    *v = (struct ctl_db_version){0};
    put_u64be(revision, (uint64_t)kv->mod_revision);
    revision[8] = '_';
    buf_add(&v->key, revision, sizeof(revision));
    msg_encode(&rpcpb_key_value_desc, kv, &v->record);
}

static int compare_versions(const void *a, const void *b)
{
    const struct ctl_db_version *x = a, *y = b;

    return str_cmp(buf_str(&x->key), buf_str(&y->key));
}

/* In order; of those of one revision, which a transformer may give, one stays. */
static void sort_versions(struct migration *m)
{
    size_t n = 0;

    if (m->n == 0)
        return;
    qsort(m->out, m->n, sizeof(*m->out), compare_versions);
    for (size_t i = 1; i < m->n; i++) {
        if (compare_versions(&m->out[n], &m->out[i]) != 0) {
            m->out[++n] = m->out[i];
            continue;
        }
        buf_release(&m->out[i].key);
        buf_release(&m->out[i].record);
    }
    m->n = n + 1;
}

/* --- The v2 store. --------------------------------------------------------------- */

static uint64_t number(const struct json *node, const char *name)
{
    const struct json *j = json_get(node, name);
    uint64_t n = 0;

    if (j)
        json_u64(j, &n);
    return n;
}

/* As it came, but without what is in it; the root has its name. */
static void add_node_json(struct buf *b, const struct json *node)
{
    buf_addc(b, '{');
    if (!json_get(node, "key"))
        buf_adds(b, "\"key\":\"/\",");
    for (const struct json *f = node->first; f; f = f->next) {
        if (f->type == JSON_ARRAY)
            continue;
        json_add_string(b, f->name);
        buf_addc(b, ':');
        if (f->type == JSON_STRING)
            json_add_string(b, f->text);
        else if (f->type == JSON_NUMBER)
            buf_addstr(b, f->text);
        else
            buf_adds(b, f->boolean ? "true" : "false");
        buf_addc(b, ',');
    }
    b->data[b->len - 1] = '}';
}

/* It and all below it, which json_parse() bounds the depth of. */
static void take_node(struct migration *m, const struct json *node)
{
    const struct json *nodes = json_get(node, "nodes");
    struct rpcpb_key_value kv = {
        .key = json_text(json_get(node, "key"), "/"),
        .create_revision = (int64_t)number(node, "createdIndex"),
        .mod_revision = (int64_t)number(node, "modifiedIndex"),
        .version = 1,
    };

    if (!m->no_ttl || !json_get(node, "ttl")) {
        if (m->transformer[0]) {
            add_node_json(&m->nodes, node);
        } else if (!json_get(node, "dir")) {
            kv.value = json_text(json_get(node, "value"), "");
            add_version(m, &kv);
        }
    }
    for (const struct json *n = nodes ? nodes->first : NULL; n; n = n->next)
        take_node(m, n);
}

static int take_store(struct migration *m, struct store *s)
{
    struct store_event *event;
    struct store_error error = {0};
    struct buf text = {0};
    struct json *j;
    struct err e;
    int rc;

    if (store_get(s, STR("/1"), STORE_RECURSIVE | STORE_SORTED, &event,
                  &error) != 0) {
        store_error_release(&error);
        return 0; /* there never was a key */
    }
    store_event_json(&text, event, sys_wall_ns());
    store_event_unref(event);
    rc = json_parse(text.data, text.len, &j, &e);
    buf_release(&text);
    if (rc != 0)
        return ctlv3_fail(CTLV3_ERROR, "the v2 store: %s", e.msg);
    take_node(m, json_get(j, "node"));
    json_free(j);
    return 0;
}

/* --- The transformer. -------------------------------------------------------------- */

static int take_records(struct migration *m, const struct buf *b)
{
    const uint8_t *p = b->data, *end = p + b->len;

    while (end - p >= 8) {
        struct arena a = {.limit = RECORD_MAX};
        struct rpcpb_key_value kv;
        uint64_t n = get_u64le(p);

        p += 8;
        if (n > (uint64_t)(end - p) ||
            msg_decode(&rpcpb_key_value_desc, p, (size_t)n, &a, &kv) != 0) {
            arena_release(&a);
            return -1;
        }
        add_version(m, &kv);
        arena_release(&a);
        p += n;
    }
    return p == end ? 0 : -1;
}

/* In the child: its standard input and output are these files. */
static void become(const char *program, FILE *in, FILE *out)
{
    if (dup2(fileno(in), 0) == 0 && dup2(fileno(out), 1) == 1)
        execlp(program, program, (char *)NULL);
    fprintf(stderr, "exec: \"%s\": %s\n", program, strerror(errno));
    _exit(127);
}

static int run_transformer(struct migration *m, FILE *in, FILE *out)
{
    struct buf records = {0};
    char piece[65536];
    int status = -1;
    size_t n;
    pid_t pid;

    if (fwrite(m->nodes.data, 1, m->nodes.len, in) != m->nodes.len ||
        fflush(in) != 0 || fseek(in, 0, SEEK_SET) != 0)
        return ctlv3_fail(CTLV3_IO, "write for %s: %s", m->transformer,
                          strerror(errno));
    pid = fork();
    if (pid == 0)
        become(m->transformer, in, out);
    if (pid < 0 || waitpid(pid, &status, 0) < 0 || status != 0)
        return ctlv3_fail(CTLV3_ERROR, "the transformer %s failed",
                          m->transformer);
    rewind(out);
    while ((n = fread(piece, 1, sizeof(piece), out)) > 0)
        buf_add(&records, piece, n);
    status = take_records(m, &records);
    buf_release(&records);
    return status == 0 ? 0
                       : ctlv3_fail(CTLV3_ERROR,
                                    "what the transformer %s gave is not "
                                    "records behind their lengths",
                                    m->transformer);
}

static int transform(struct migration *m)
{
    FILE *in = tmpfile(), *out = tmpfile();
    int rc = in && out ? run_transformer(m, in, out)
                       : ctlv3_fail(CTLV3_IO, "no temporary file: %s",
                                    strerror(errno));

    if (in)
        fclose(in);
    if (out)
        fclose(out);
    return rc;
}

/* --- The command. -------------------------------------------------------------------- */

/* Up to where the log is in the database; 0 without one. */
static int applied_by(const char *db, uint64_t *applied, struct err *e)
{
    struct backend_meta meta = {0};
    struct mvcc *m = mvcc_new();
    int rc = sys_exists(db) ? backend_load(db, m, NULL, NULL, &meta, e) : 0;

    mvcc_free(m);
    *applied = meta.consistent_index;
    return rc;
}

static int migrate(struct ctl *c, struct ctl_data *d, struct migration *m)
{
    char *db = xasprintf("%s/db", d->snap_dir);
    uint64_t applied, commit = d->hard_state.commit;
    struct err e;
    int rc = 0;

    if (commit < d->snapshot.index)
        commit = d->snapshot.index;
    if (applied_by(db, &applied, &e) != 0)
        rc = ctlv3_fail(CTLV3_ERROR, "%s", e.msg);
    else if (d->v3_at > applied)
        rc = ctlv3_fail(CTLV3_ERROR,
                        "the v3 API has been used: its writes up to entry "
                        "%" PRIu64 " of the log are not in %s, and would be "
                        "lost",
                        d->v3_at, db);
    m->no_ttl = ctl_bool(c, "no-ttl");
    if (rc == 0)
        rc = take_store(m, d->store);
    if (rc == 0 && m->transformer[0])
        rc = transform(m);
    sort_versions(m);
    if (rc == 0 && ctl_db_add(db, m->out, m->n,
                              applied > commit ? applied : commit, &e) != 0)
        rc = ctlv3_fail(CTLV3_ERROR, "%s", e.msg);
    if (rc == 0)
        printf("finished transforming keys\n");
    free(db);
    return rc;
}

int ctlv3_migrate(struct ctl *c)
{
    const char *dir = ctl_string(c, "data-dir", "");
    const char *wal_dir = ctl_string(c, "wal-dir", "");
    struct migration m = {.transformer = ctl_string(c, "transformer", "")};
    struct ctl_data d;
    struct err e;
    int rc;

    if (!dir[0])
        return ctlv3_fail(CTLV3_BAD_ARGS, "migrate needs --data-dir");
    if (ctl_data_read(dir, wal_dir, &d, &e) != 0)
        return ctlv3_fail(CTLV3_ERROR, "%s", e.msg);
    if (d.in_use)
        rc =
            ctlv3_fail(CTLV3_ERROR, "%s is in use; stop the member first", dir);
    else if (d.health == CTL_DATA_DAMAGED)
        rc = ctlv3_fail(CTLV3_ERROR, "%s", d.problem);
    else
        rc = migrate(c, &d, &m);
    migration_release(&m);
    ctl_data_release(&d);
    return rc;
}
