/*
 * etcdutl.c - the offline tool: what can be done with a data directory or a
 * snapshot while no server runs on it. It is the program under a third name.
 */
#include "ctlv3line.h"

#include "backend.h"
#include "ctldb.h"
#include "ctlsnapshot.h"

#include <inttypes.h>
#include <stdio.h>

#define HASH_STEP 10000 /* versions at a time */

/* --- Defrag. ------------------------------------------------------------------------ */

static int utl_defrag(struct ctl *c)
{
    const char *dir = ctl_string(c, "data-dir", "");

    if (!dir[0])
        return ctlv3_fail(CTLV3_BAD_ARGS,
                          "required flag(s) \"data-dir\" not set");
    return ctlv3_defrag_dir(dir);
}

/* --- HashKV. -------------------------------------------------------------------------- */

static int hash_of(struct ctl *c, struct mvcc *m, struct mvcc_hash *h)
{
    if (mvcc_hash_open(m, ctl_int(c, "rev", 0), h) != 0)
        return ctlv3_fail(CTLV3_ERROR, "required revision has been compacted, "
                                       "or is a future revision");
    while (!h->done)
        mvcc_hash_step(h, HASH_STEP);
    mvcc_hash_close(h);
    return 0;
}

static int print_hash(struct ctl *c, const struct mvcc_hash *h)
{
    struct ctlv3_table t = {.n_columns = 3};

    switch (c->v3->format) {
    case CTLV3_SIMPLE:
        printf("%" PRIu32 ", %" PRId64 ", %" PRId64 "\n", h->result,
               h->revision, h->compacted);
        return 0;
    case CTLV3_JSON:
        printf("{\"hash\":%" PRIu32 ",\"hashRevision\":%" PRId64
               ",\"compactRevision\":%" PRId64 "}\n",
               h->result, h->revision, h->compacted);
        return 0;
    case CTLV3_FIELDS:
        printf("\"Hash\" : %" PRIu32 "\n\"HashRevision\" : %" PRId64
               "\n\"CompactRevision\" : %" PRId64 "\n",
               h->result, h->revision, h->compacted);
        return 0;
    case CTLV3_TABLE:
        ctlv3_table_add(&t, "HASH");
        ctlv3_table_add(&t, "HASH REVISION");
        ctlv3_table_add(&t, "COMPACT REVISION");
        ctlv3_table_add(&t, "%" PRIu32, h->result);
        ctlv3_table_add(&t, "%" PRId64, h->revision);
        ctlv3_table_add(&t, "%" PRId64, h->compacted);
        ctlv3_table_print(&t);
        return 0;
    case CTLV3_PROTOBUF:
        break;
    }
    return ctlv3_unsupported(c);
}

static int utl_hashkv(struct ctl *c)
{
    struct backend_meta meta;
    struct mvcc_hash h = {0};
    struct mvcc *m;
    struct err e;
    int rc;

    if (c->n_args != 1)
        return ctlv3_fail(CTLV3_BAD_ARGS, "hashkv requires exactly one "
                                          "argument");
    m = mvcc_new();
    if (backend_load(c->args[0], m, NULL, NULL, &meta, &e) != 0)
        rc = ctlv3_fail(CTLV3_ERROR, "%s", e.msg);
    else
        rc = hash_of(c, m, &h);
    mvcc_free(m);
    return rc ? rc : print_hash(c, &h);
}

/* --- Backup. ---------------------------------------------------------------------------- */

static int utl_backup(struct ctl *c)
{
    char *from, *to;
    struct err e;
    int rc = ctl_backup(c);

    if (rc != 0 || !ctl_bool(c, "with-v3"))
        return rc;
    from = xasprintf("%s/member/snap/db", ctl_string(c, "data-dir", ""));
    to = xasprintf("%s/member/snap/db", ctl_string(c, "backup-dir", ""));
    if (ctl_db_copy(from, to, CTL_DB_ALL, 0, &e) != 0)
        rc = ctlv3_fail(CTLV3_ERROR, "%s", e.msg);
    free(from);
    free(to);
    return rc;
}

/* --- The program. ------------------------------------------------------------------------ */

static const struct ctl_option globals[] = {
    {"write-out", "w", CTL_STRING, "\"simple\"",
     "set the output format (fields, json, protobuf, simple, table)"},
    {"help", "h", CTL_BOOL, NULL, "help for etcdutl"},
    {0},
};
static const struct ctl_option defrag_options[] = {
    {"data-dir", NULL, CTL_STRING, "\"\"",
     "Required. Defragments a data directory not in use by etcd."},
    {0},
};
static const struct ctl_option hashkv_options[] = {
    {"rev", NULL, CTL_INT, "0", "maximum revision to hash (default: all)"},
    {0},
};
static const struct ctl_option backup_options[] = {
    {"data-dir", NULL, CTL_STRING, "\"\"", "Path to the etcd data dir"},
    {"wal-dir", NULL, CTL_STRING, "\"\"", "Path to the etcd wal dir"},
    {"backup-dir", NULL, CTL_STRING, "\"\"", "Path to the backup dir"},
    {"backup-wal-dir", NULL, CTL_STRING, "\"\"", "Path to the backup wal dir"},
    {"with-v3", NULL, CTL_BOOL, NULL, "Backup v3 backend data"},
    {0},
};

static const struct ctlv3_verb snapshot_verbs[] = {
    {.name = "restore",
     ctlv3_snapshot_restore,
     "<filename> [options]",
     "Restores an etcd member snapshot to an etcd directory",
     ctlv3_restore_options},
    {.name = "status",
     ctlv3_snapshot_status,
     "<filename>",
     "Gets backend snapshot status of a given file"},
    {0},
};

static const struct ctlv3_verb verbs[] = {
    {.name = "backup",
     utl_backup,
     "[options]",
     "Backs up an etcd directory",
     backup_options},
    {.name = "completion",
     .summary = "Generate the autocompletion script for a shell",
     .verbs = ctlv3_completion_verbs},
    {.name = "defrag",
     utl_defrag,
     "[options]",
     "Defragments the storage of the etcd",
     defrag_options},
    {.name = "hashkv",
     utl_hashkv,
     "<filename> [options]",
     "Prints the KV history hash of a given file",
     hashkv_options},
    {.name = "snapshot",
     .summary = "Manages etcd node snapshots",
     .verbs = snapshot_verbs},
    {.name = "version", ctlv3_version, NULL, "Prints the version of etcdutl"},
    {0},
};

static const struct ctlv3_program etcdutl = {
    .name = "etcdutl",
    .summary = "An administrative command line tool for etcd3.",
    .verbs = verbs,
    .globals = globals,
};

int etcdutl_main(int argc, char **argv)
{
    return ctl_main(argc, argv, &etcdutl);
}
