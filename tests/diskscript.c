/*
 * diskscript.c - a member's disk code on a script, and an account of what it
 * has promised.
 *
 * What raft would order is made up here, within its rules: terms and commit
 * indexes never fall, only what is not committed is overwritten, a snapshot
 * from the leader lies behind the commit index.
 */
#include "diskscript.h"

#include "diskv3.h"
#include "snap.h"
#include "sys.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define SELF_URL "http://127.0.0.1:2380"
#define MAX_ENTRIES 4 /* in one append */

/* --- Threads: what one would do is done at once. ------------------------- */

int __wrap_sys_thread(pthread_t *out, size_t stack, void *(*fn)(void *),
                      void *arg);
int __wrap_pthread_join(pthread_t t, void **result);

int __wrap_sys_thread(pthread_t *out, size_t stack, void *(*fn)(void *),
                      void *arg)
{
    (void)stack;
    memset(out, 0, sizeof(*out));
    fn(arg);
    return 0;
}

int __wrap_pthread_join(pthread_t t, void **result)
{
    (void)t, (void)result;
    return 0;
}

/* --- What the outside would answer. -------------------------------------- */

struct secure;

void __wrap_sys_random(void *p, size_t n);
int __wrap_peer_get_members(const char *const *urls, size_t n_urls, int64_t ms,
                            struct secure *secure, struct member **out,
                            size_t *n, uint64_t *cluster, struct err *e);

void __wrap_sys_random(void *p, size_t n)
{
    static uint64_t state;
    uint8_t *at = p;

    while (n-- > 0)
        *at++ = (uint8_t)script_random(&state);
}

int __wrap_peer_get_members(const char *const *urls, size_t n_urls, int64_t ms,
                            struct secure *secure, struct member **out,
                            size_t *n, uint64_t *cluster, struct err *e)
{
    (void)urls, (void)n_urls, (void)ms, (void)secure, (void)out, (void)n,
        (void)cluster;
    return err_set(e, -1, "nobody is there");
}

/* --- Numbers. ----------------------------------------------------------- */

uint64_t script_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static uint64_t below(struct script *s, uint64_t n)
{
    return script_random(&s->rng) % n;
}

uint64_t script_hash(const void *p, size_t n)
{
    const uint8_t *at = p;
    uint64_t h = UINT64_C(0xcbf29ce484222325) + n;

    for (size_t i = 0; i < n; i++)
        h = (h ^ at[i]) * UINT64_C(0x100000001b3);
    return h;
}

/* --- The account. ------------------------------------------------------- */

static void account_add(struct account *a, enum wal_record_type type,
                        uint64_t index, uint64_t term, uint64_t what)
{
    if (a->n == a->cap) {
        a->cap = a->cap ? 2 * a->cap : 64;
        a->records = xrealloc(a->records, a->cap * sizeof(*a->records));
    }
    a->records[a->n++] = (struct record){type, index, term, what};
}

static void account_add_entry(struct account *a, const struct raft_entry *e)
{
    struct str data = blob_str(e->data);

    account_add(a, WAL_ENTRY, e->index, e->term,
                script_hash(data.p, data.n) + e->type);
}

static void account_add_state(struct account *a,
                              const struct raft_hard_state *hs)
{
    account_add(a, WAL_STATE, hs->commit, hs->term, hs->vote);
}

void account_copy(struct account *to, const struct account *from)
{
    *to = *from;
    to->cap = from->n;
    to->records = xmalloc((from->n + 1) * sizeof(*to->records));
    if (from->n)
        memcpy(to->records, from->records, from->n * sizeof(*to->records));
    to->saved = xmalloc((from->n_saved + 1) * sizeof(*to->saved));
    if (from->n_saved)
        memcpy(to->saved, from->saved, from->n_saved * sizeof(*to->saved));
}

void account_release(struct account *a)
{
    free(a->records);
    free(a->saved);
    *a = (struct account){0};
}

static struct saved *account_saved(struct account *a, struct wal_snapshot at)
{
    for (size_t i = 0; i < a->n_saved; i++)
        if (a->saved[i].at.index == at.index && a->saved[i].at.term == at.term)
            return &a->saved[i];
    a->saved = xrealloc(a->saved, (a->n_saved + 1) * sizeof(*a->saved));
    a->saved[a->n_saved] = (struct saved){.at = at, .record = SIZE_MAX};
    return &a->saved[a->n_saved++];
}

/* The last hard state in the first n records. */
static struct raft_hard_state state_at(const struct account *a, size_t n)
{
    while (n-- > 0)
        if (a->records[n].type == WAL_STATE)
            return (struct raft_hard_state){
                a->records[n].term, a->records[n].what, a->records[n].index};
    return (struct raft_hard_state){0};
}

/*
 * With the first n records in the log, is it right to start from `at`? It must
 * be known to the log and committed, and none that is newer be there for sure.
 */
static bool right_snapshot(const struct account *a, size_t n,
                           struct wal_snapshot at)
{
    struct raft_hard_state hs = state_at(a, n);
    bool known = at.index == 0;

    for (size_t i = 0; i < a->n_saved; i++) {
        const struct saved *s = &a->saved[i];

        if (s->record >= n || s->at.index > hs.commit)
            continue;
        if (s->durable && !s->doubtful && s->at.index > at.index)
            return false;
        known |= s->at.index == at.index && s->at.term == at.term;
    }
    return known;
}

/* What the first n records hold behind a snapshot: *out has the numbers of
 * the entries' records (owned). By the rules of the log, wal.h. */
static size_t entries_at(const struct account *a, size_t n,
                         struct wal_snapshot at, size_t **out)
{
    size_t *v = xmalloc((n + 1) * sizeof(*v)), count = 0;
    raft_term at_term = 0; /* of the entry at its index */

    for (size_t i = 0; i < n; i++) {
        const struct record *r = &a->records[i];

        if (r->type == WAL_ENTRY) {
            size_t keep = r->index > at.index ? r->index - at.index - 1 : 0;

            if (r->index == at.index)
                at_term = r->term;
            if (count > keep)
                count = keep;
            if (r->index > at.index)
                v[count++] = i;
        } else if (r->type == WAL_SNAPSHOT && r->index == at.index &&
                   at_term != at.term) {
            count = 0;
        }
    }
    *out = v;
    return count;
}

/* Does what was booted begin with the entries of the first n records? *count
 * says how many these are. */
static bool begins_with(const struct account *a, size_t n, const struct boot *b,
                        size_t *out_count)
{
    const struct wal_contents *c = &b->contents;
    struct wal_snapshot at = {b->snapshot.index, b->snapshot.term};
    size_t *v, count;
    bool same;

    if (!right_snapshot(a, n, at))
        return false;
    count = entries_at(a, n, at, &v);
    *out_count = count;
    same = count <= c->n_entries;
    for (size_t i = 0; i < count && same; i++) {
        const struct record *r = &a->records[v[i]];
        struct str data = blob_str(c->entries[i].data);

        same = r->index == c->entries[i].index &&
               r->term == c->entries[i].term &&
               r->what == script_hash(data.p, data.n) + c->entries[i].type;
    }
    free(v);
    return same;
}

/* Is it the state behind the first n records? */
static bool is_state_at(const struct account *a, size_t n, const struct boot *b)
{
    struct raft_hard_state hs = state_at(a, n);
    const struct raft_hard_state *found = &b->contents.hard_state;
    size_t count;

    return hs.term == found->term && hs.vote == found->vote &&
           hs.commit == found->commit && begins_with(a, n, b, &count) &&
           count == b->contents.n_entries;
}

/* Is it that, and --force-new-cluster came then? Its own entries change the
 * membership, and all is committed. */
static bool is_forced_from(const struct account *a, size_t n,
                           const struct boot *b)
{
    const struct wal_contents *c = &b->contents;
    size_t count;

    if (c->hard_state.term < state_at(a, n).term ||
        c->hard_state.commit != b->snapshot.index + c->n_entries ||
        !begins_with(a, n, b, &count))
        return false;
    for (size_t i = count; i < c->n_entries; i++)
        if (c->entries[i].type != RAFT_ENTRY_CONF_CHANGE)
            return false;
    return true;
}

/* --- Boot. -------------------------------------------------------------- */

void script_setup(void)
{
    log_set_level(LOG_CRIT + 1);
    wal_set_segment_bytes(SCRIPT_SEGMENT_BYTES);
}

static void config_init(struct config *c, const char *disk,
                        enum script_place place)
{
    struct err e;

    *c = (struct config){0};
    c->name = xstrdup("self");
    c->data_dir = xasprintf("/sim/%s/data", disk);
    c->wal_dir =
        place == APART ? xasprintf("/sim/%s/logs/self", disk) : xstrdup("");
    c->member_dir = xasprintf("%s/member", c->data_dir);
    c->snap_dir = xasprintf("%s/snap", c->member_dir);
    c->initial_cluster = xstrdup("self=" SELF_URL);
    c->initial_cluster_token = xstrdup("token");
    c->discovery = xstrdup("");
    c->max_wals = 1;
    c->max_snapshots = 1;
    c->heartbeat_ms = 100;
    c->election_ms = 1000;
    if (url_list_parse(STR(SELF_URL), &c->initial_advertise_peer_urls, &e) < 0)
        abort();
}

/* What the first boot of all writes, told by one. */
static void account_found(struct script *s)
{
    struct simdisk *d = simdisk_new("founding");
    struct config config;
    struct boot b;
    struct err e;

    config_init(&config, "founding", BESIDE);
    if (boot_load(&config, &b, &e) < 0)
        abort();
    for (size_t i = 0; i < b.contents.n_entries; i++)
        account_add_entry(&s->account, &b.contents.entries[i]);
    account_add_state(&s->account, &b.contents.hard_state);
    s->account.acked = s->account.n; /* a boot that succeeds has done it all */
    boot_release(&b);
    simdisk_free(d);
    config_release(&config);
}

void script_init(struct script *s, struct simdisk *disk, const char *name,
                 enum script_place place, const struct account *account,
                 uint64_t seed)
{
    *s = (struct script){.disk = disk, .rng = seed};
    config_init(&s->config, name, place);
    if (account)
        account_copy(&s->account, account);
    else
        account_found(s);
}

static int deaf(void *arg, struct simdisk *d, enum simdisk_op op,
                const char *path, size_t *n)
{
    (void)arg, (void)d, (void)op, (void)path, (void)n;
    return EIO;
}

/* The next db is written anew. */
static void forget_db(struct script *s)
{
    backend_file_close(s->db_file);
    s->db_file = NULL;
}

void script_stop(struct script *s)
{
    forget_db(s);
    if (s->up)
        boot_release(&s->boot);
    s->up = false;
    raft_conf_state_release(&s->conf_state);
}

void script_die(struct script *s)
{
    simdisk_set_hook(s->disk, deaf, NULL);
    script_stop(s);
    simdisk_close_all(s->disk);
    simdisk_set_hook(s->disk, NULL, NULL);
}

void script_release(struct script *s)
{
    script_die(s);
    account_release(&s->account);
    config_release(&s->config);
}

static enum script_result wrong(struct script *s, const char *what)
{
    snprintf(s->why, sizeof(s->why), "%s", what);
    return SCRIPT_WRONG;
}

static enum script_result reported(struct script *s, const struct err *e)
{
    snprintf(s->why, sizeof(s->why), "%s", e->msg);
    return SCRIPT_REPORTED;
}

static void store_json(struct store *store, struct buf *b)
{
    struct store_view *v = store_pin(store);

    store_view_json(b, v);
    store_unpin(v);
}

/* The entry at this index, which is behind the base. */
static struct raft_entry *entry_at(struct script *s, raft_index index)
{
    return &s->boot.contents.entries[index - s->base - 1];
}

static raft_index last_index(const struct script *s)
{
    return s->base + s->boot.contents.n_entries;
}

static void apply_conf_change(struct script *s, const struct raft_entry *e)
{
    struct str data = blob_str(e->data);
    struct raft_conf_change cc;

    if (raftpb_decode_conf_change(data.p, data.n, &cc) < 0)
        abort();
    cluster_apply(s->boot.cluster, s->boot.store, &cc, 1);
    if (cc.type == RAFT_ADD_NODE)
        raft_ids_add(&s->conf_state.voters, cc.node_id);
    else if (cc.type == RAFT_REMOVE_NODE)
        raft_ids_remove(&s->conf_state.voters, cc.node_id);
}

/* Eight keys in turn; the value is what the entry holds, as text. */
static void put(struct store *store, uint64_t key, uint64_t what)
{
    char path[16], value[24];
    struct store_put p = {0};
    struct store_event *event = NULL;
    struct store_error error;

    snprintf(path, sizeof(path), "/1/%d", (int)(key % 8));
    snprintf(value, sizeof(value), "%" PRIx64, what);
    p.path = str_of(path);
    p.value = str_of(value);
    if (store_set(store, &p, 1, &event, &error) != 0)
        abort();
    store_event_unref(event);
}

static void apply(struct script *s)
{
    while (s->applied < s->state.commit) {
        const struct raft_entry *e = entry_at(s, ++s->applied);
        struct str data = blob_str(e->data);

        if (e->type == RAFT_ENTRY_CONF_CHANGE)
            apply_conf_change(s, e);
        else
            put(s->boot.store, e->index, script_hash(data.p, data.n));
        s->applied_term = e->term;
    }
    /* A crash may have left db ahead of the log. */
    diskv3_advance(s->boot.v3, s->applied);
}

/* Holds what the snapshot brought against what it was made of. */
static enum script_result judge_snapshot(struct script *s)
{
    const struct boot *b = &s->boot;
    struct wal_snapshot at = {b->snapshot.index, b->snapshot.term};
    struct buf json = {0};
    const struct saved *saved;
    bool same;

    if (at.index == 0)
        return SCRIPT_OK;
    saved = account_saved(&s->account, at);
    store_json(b->store, &json);
    same = script_hash(json.data, json.len) == saved->digest;
    buf_release(&json);
    if (!same)
        return wrong(s, "the snapshot holds another store");
    if (cluster_size(b->cluster) != saved->n_members ||
        b->snapshot.conf_state.voters.n != saved->n_members)
        return wrong(s, "the snapshot has other members");
    return SCRIPT_OK;
}

static void account_forced(struct account *a, const struct boot *b)
{
    const struct wal_contents *c = &b->contents;
    size_t count;

    if (!begins_with(a, a->n, b, &count))
        abort();
    for (size_t i = count; i < c->n_entries; i++)
        account_add_entry(a, &c->entries[i]);
    account_add_state(a, &c->hard_state);
    a->acked = a->n;
}

/* A snapshot's record that is not committed yet does not show. */
static void doubt_snapshots(struct account *a)
{
    for (size_t i = 0; i < a->n_saved; i++) {
        struct saved *s = &a->saved[i];

        if (s->record != SIZE_MAX && s->record >= a->n)
            s->record = SIZE_MAX;
        else if (s->record != SIZE_MAX && s->record >= a->acked)
            s->doubtful = true;
    }
}

/* Holds what came up against the account, which then ends with it. */
static enum script_result judge(struct script *s)
{
    bool (*is_right)(const struct account *, size_t, const struct boot *) =
        s->config.force_new_cluster ? is_forced_from : is_state_at;
    struct account *a = &s->account;
    const struct boot *b = &s->boot;
    size_t first = a->acked, last;

    while (first <= a->n && !is_right(a, first, b))
        first++;
    if (first > a->n) {
        snprintf(s->why, sizeof(s->why),
                 "term %" PRIu64 ", vote %" PRIx64 ", commit %" PRIu64
                 ", snapshot %" PRIu64 " and %zu entries: of no state from "
                 "record %zu to %zu",
                 b->contents.hard_state.term, b->contents.hard_state.vote,
                 b->contents.hard_state.commit, b->snapshot.index,
                 b->contents.n_entries, a->acked, a->n);
        return SCRIPT_WRONG;
    }
    last = first;
    for (size_t n = first; n <= a->n; n++)
        if (is_right(a, n, b))
            last = n;
    a->n = last;
    a->acked = first;
    doubt_snapshots(a);
    if (s->config.force_new_cluster)
        account_forced(a, b);
    return judge_snapshot(s);
}

/* As server.c and raft do: what is booted from counts from now on. */
static void take_over(struct script *s)
{
    const struct boot *b = &s->boot;
    struct wal_snapshot at = {b->snapshot.index, b->snapshot.term};

    s->state = b->contents.hard_state;
    s->base = s->applied = s->snapshot_index = at.index;
    s->base_term = s->applied_term = at.term;
    raft_conf_state_copy(&s->conf_state, &b->snapshot.conf_state);
    if (at.index) {
        account_saved(&s->account, at)->durable = true;
    } else { /* the flags' members are a plan; the log has the real ones */
        cluster_free(s->boot.cluster);
        s->boot.cluster = cluster_new();
    }
    apply(s);
}

static enum script_result judge_v3(struct script *s, raft_index at_least)
{
    const struct v3 *v = s->boot.v3;

    if (s->without_v3)
        return SCRIPT_OK;
    if (v->index < at_least)
        return wrong(s, "the v3 state is behind the log");
    return diskv3_is_right(v) ? SCRIPT_OK
                              : wrong(s, "the v3 state is another one");
}

enum script_result script_boot(struct script *s)
{
    enum script_result rc;
    struct err e;

    if (boot_load(&s->config, &s->boot, &e) < 0)
        return reported(s, &e);
    s->up = true;
    rc = judge(s);
    if (rc == SCRIPT_OK)
        rc = judge_v3(s, s->boot.snapshot.index); /* as loaded */
    if (rc == SCRIPT_OK) {
        take_over(s);
        rc = judge_v3(s, s->applied); /* and with the log behind it */
    }
    if (rc == SCRIPT_OK && s->config.force_new_cluster &&
        (s->conf_state.voters.n != 1 ||
         s->conf_state.voters.ids[0] != s->boot.id))
        rc = wrong(s, "--force-new-cluster left others in the cluster");
    return rc;
}

/* --- What a member does. ------------------------------------------------ */

static enum script_result sync_log(struct script *s)
{
    struct err e;

    if (wal_sync(s->boot.wal, &e) < 0)
        return reported(s, &e);
    s->account.acked = s->account.n;
    return SCRIPT_OK;
}

/* The entries behind an index, and s->state; then what is committed. */
static enum script_result write_batch(struct script *s, raft_index behind)
{
    size_t n = (size_t)(last_index(s) - behind);
    const struct raft_entry *entries = n ? entry_at(s, behind + 1) : NULL;
    enum script_result rc;
    struct err e;

    for (size_t i = 0; i < n; i++)
        account_add_entry(&s->account, &entries[i]);
    account_add_state(&s->account, &s->state);
    if (wal_append(s->boot.wal, &s->state, entries, n, &e) < 0)
        return reported(s, &e);
    rc = sync_log(s);
    if (rc == SCRIPT_OK)
        apply(s);
    return rc;
}

static void add_entry(struct script *s, enum raft_entry_type type,
                      raft_term term, const void *p, size_t n)
{
    struct wal_contents *c = &s->boot.contents;
    struct raft_entry entry = {type, term, last_index(s) + 1, NULL};

    if (n)
        entry.data = blob_new(p, n);
    c->entries = xrealloc(c->entries, (c->n_entries + 1) * sizeof(*c->entries));
    c->entries[c->n_entries++] = entry;
}

/* Mostly small, some that fill several sectors or most of a segment. */
static void add_put(struct script *s, raft_term term)
{
    static const size_t sizes[] = {0, 16, 60, 60, 200, 500, 1100, 2900};
    uint8_t data[3500];
    size_t n = sizes[below(s, ARRAY_LEN(sizes))];

    n += n ? below(s, n / 8 + 1) : 0;
    for (size_t i = 0; i < n; i++)
        data[i] = (uint8_t)script_random(&s->rng);
    add_entry(s, RAFT_ENTRY_NORMAL, term, data, n);
}

/* A member comes or goes; one change at a time. */
static void add_conf_change(struct script *s)
{
    raft_id id = 2 + below(s, 3);
    bool there = raft_ids_has(&s->conf_state.voters, id);
    char *json = xasprintf("{\"id\":%" PRIu64 ",\"peerURLs\":"
                           "[\"http://127.0.0.%" PRIu64 ":2380\"]}",
                           id, id);
    struct raft_conf_change cc = {
        .type = there ? RAFT_REMOVE_NODE : RAFT_ADD_NODE,
        .node_id = id,
        .context = str_of(there ? "" : json),
    };
    struct buf data = {0};

    if (s->applied == last_index(s) &&
        !cluster_is_removed(s->boot.cluster, id)) {
        raftpb_encode_conf_change(&data, &cc);
        add_entry(s, RAFT_ENTRY_CONF_CHANGE, s->state.term, data.data,
                  data.len);
    }
    buf_release(&data);
    free(json);
}

static void truncate_log(struct script *s, raft_index behind)
{
    while (last_index(s) > behind)
        raft_entry_release(
            &s->boot.contents.entries[--s->boot.contents.n_entries]);
}

static void move_commit(struct script *s)
{
    s->state.commit += below(s, last_index(s) - s->state.commit + 1);
}

static enum script_result step_append(struct script *s)
{
    raft_index behind = last_index(s);

    if (below(s, 4) == 0)
        add_conf_change(s);
    for (uint64_t n = below(s, MAX_ENTRIES) + 1; n > 0; n--)
        add_put(s, s->state.term);
    move_commit(s);
    return write_batch(s, behind);
}

static enum script_result step_commit(struct script *s)
{
    move_commit(s);
    return write_batch(s, last_index(s));
}

/* Another term, and at times a vote in it. */
static enum script_result step_vote(struct script *s)
{
    s->state.term += 1 + below(s, 3);
    s->state.vote = below(s, 3) ? s->boot.id + below(s, 2) : 0;
    return write_batch(s, last_index(s));
}

/* Another leader's entries take the place of some that never were committed. */
static enum script_result step_overwrite(struct script *s)
{
    raft_index behind =
        s->state.commit + below(s, last_index(s) - s->state.commit + 1);

    s->state.term++;
    s->state.vote = 0;
    truncate_log(s, behind);
    for (uint64_t n = below(s, MAX_ENTRIES) + 1; n > 0; n--)
        add_put(s, s->state.term);
    return write_batch(s, behind);
}

static enum script_result save(struct script *s,
                               const struct raft_snapshot *meta,
                               struct buf *json, size_t n_members)
{
    struct wal_snapshot at = {meta->index, meta->term};
    struct saved *saved = account_saved(&s->account, at);
    struct str data = buf_str(json);
    struct err e;

    saved->digest = script_hash(json->data, json->len);
    saved->n_members = n_members;
    if (snap_save(s->config.snap_dir, meta, snap_source_str, &data, false, &e) <
        0)
        return reported(s, &e);
    account_saved(&s->account, at)->durable = true;
    return SCRIPT_OK;
}

static enum script_result mark(struct script *s, struct wal_snapshot at)
{
    struct err e;

    account_saved(&s->account, at)->record = s->account.n;
    account_saved(&s->account, at)->doubtful = false;
    account_add(&s->account, WAL_SNAPSHOT, at.index, at.term, 0);
    if (wal_append_snapshot(s->boot.wal, at, NULL, &e) < 0)
        return reported(s, &e);
    return sync_log(s);
}

static void purge(struct script *s)
{
    struct wal_deleted deleted;

    wal_purge(s->boot.wal, s->snapshot_index, s->config.max_wals, &deleted);
    wal_deleted_release(&deleted);
    snap_purge(s->config.snap_dir, s->snapshot_index, s->config.max_snapshots);
}

static enum script_result save_v3(struct script *s)
{
    struct err e;

    return diskv3_save(&s->db_file, s->config.snap_dir, s->boot.v3, &e) < 0
               ? reported(s, &e)
               : SCRIPT_OK;
}

/* As checkpoint() and then purge() of checkpoint.c. */
static enum script_result step_checkpoint(struct script *s)
{
    struct raft_snapshot meta = {.index = s->applied, .term = s->applied_term};
    struct buf json = {0};
    enum script_result rc, saved = SCRIPT_OK;

    if (s->applied == s->snapshot_index)
        return SCRIPT_OK;
    if (save_v3(s) != SCRIPT_OK)
        return SCRIPT_OK; /* without the file the log just grows */
    meta.conf_state = s->conf_state;
    store_json(s->boot.store, &json);
    rc = mark(s, (struct wal_snapshot){meta.index, meta.term});
    if (rc == SCRIPT_OK)
        saved = save(s, &meta, &json, cluster_size(s->boot.cluster));
    buf_release(&json);
    if (rc != SCRIPT_OK || saved != SCRIPT_OK)
        return rc; /* as above */
    s->snapshot_index = s->applied;
    if (below(s, 3))
        purge(s);
    return SCRIPT_OK;
}

/* The leader's snapshot takes the log's place if that lacks its last entry. */
static void install(struct script *s, struct wal_snapshot at)
{
    bool known =
        at.index <= last_index(s) && entry_at(s, at.index)->term == at.term;
    struct wal_contents *c = &s->boot.contents;
    size_t n = known ? (size_t)(at.index - s->base) : c->n_entries;

    for (size_t i = 0; i < n; i++)
        raft_entry_release(&c->entries[i]);
    c->n_entries -= n;
    memmove(c->entries, c->entries + n, c->n_entries * sizeof(*c->entries));
    s->base = s->applied = s->snapshot_index = s->state.commit = at.index;
    s->base_term = s->applied_term = at.term;
}

/* As v3_install() and v3_adopt(): when the log has the snapshot for sure. */
static void adopt(struct script *s, struct v3 *v)
{
    char *from = snap_db_path(s->config.snap_dir, v->index);
    char *to = xasprintf("%s/db", s->config.snap_dir);

    if (s->boot.v3->index > v->index) {
        v3_free(v);
    } else {
        forget_db(s);
        if (rename(from, to) == 0)
            sys_fsync_dir(s->config.snap_dir, NULL);
        v3_free(s->boot.v3);
        s->boot.v3 = v;
    }
    free(from);
    free(to);
}

/* As save_snapshot() and write_batch() of server.c. */
static enum script_result receive(struct script *s, struct wal_snapshot at)
{
    struct v3_config config = boot_v3_config(&s->config);
    struct v3 *v;
    struct err e;
    struct raft_snapshot meta = {.index = at.index, .term = at.term};
    struct buf json = {0};
    enum script_result rc;

    if (diskv3_receive(s->config.snap_dir, &config, at.index, &v, &e) < 0)
        return reported(s, &e);
    put(s->boot.store, at.index, script_random(&s->rng));
    store_json(s->boot.store, &json);
    meta.conf_state = s->conf_state;
    rc = save(s, &meta, &json, cluster_size(s->boot.cluster));
    buf_release(&json);
    if (rc == SCRIPT_OK)
        rc = mark(s, at);
    if (rc == SCRIPT_OK) {
        install(s, at);
        rc = write_batch(s, last_index(s));
    }
    if (rc == SCRIPT_OK)
        adopt(s, v);
    else
        v3_free(v);
    return rc;
}

static enum script_result step_receive(struct script *s)
{
    raft_index index = s->state.commit + 1 + below(s, 6);

    return receive(s, (struct wal_snapshot){index, s->state.term});
}

static enum script_result step_restart(struct script *s)
{
    script_stop(s);
    s->account.acked = s->account.n;
    return script_boot(s);
}

enum script_result script_live(struct script *s, int steps)
{
    static const struct {
        unsigned weight;
        enum script_result (*run)(struct script *);
    } kinds[] = {
        {10, step_append},   {2, step_commit},     {2, step_vote},
        {2, step_overwrite}, {3, step_checkpoint}, {1, step_receive},
        {1, step_restart},
    };
    enum script_result rc = SCRIPT_OK;

    while (steps-- > 0 && rc == SCRIPT_OK) {
        uint64_t at = below(s, 21);
        size_t i = 0;

        while (at >= kinds[i].weight)
            at -= kinds[i++].weight;
        rc = kinds[i].run(s);
    }
    return rc;
}

/* A checkpoint of more than there was; what it needs no more, goes. */
static enum script_result checkpoint_all(struct script *s)
{
    enum script_result rc = step_append(s);

    s->state.commit = last_index(s);
    if (rc == SCRIPT_OK)
        rc = step_commit(s);
    if (rc == SCRIPT_OK)
        rc = step_checkpoint(s);
    if (rc == SCRIPT_OK)
        purge(s);
    return rc;
}

enum script_result script_checkpoints(struct script *s)
{
    enum script_result rc = SCRIPT_OK;

    for (int i = 0; i < 4 && rc == SCRIPT_OK; i++)
        rc = checkpoint_all(s);
    return rc;
}

/* Or an older snapshot comes, late, and the log goes on from that: if it does
 * know of the newer one, the next start takes that. */
static enum script_result go_back(struct script *s, struct wal_snapshot at)
{
    enum script_result rc =
        receive(s, (struct wal_snapshot){at.index - 1, at.term});

    if (rc != SCRIPT_OK)
        return rc;
    add_put(s, at.term);
    s->state.commit = at.index;
    return write_batch(s, at.index - 1);
}

/*
 * A crash may have left the leader's snapshot without the log knowing of it.
 * The log gets there by its own entries, nearly, and has a checkpoint of its
 * own; then comes another snapshot.
 */
static enum script_result go_past(struct script *s, struct wal_snapshot at)
{
    raft_index behind = last_index(s);
    enum script_result rc;

    if (at.index - 1 > s->state.commit && below(s, 3) == 0)
        return go_back(s, at);
    while (last_index(s) < at.index - 1)
        add_put(s, at.term);
    s->state.commit = at.index - 1;
    rc = write_batch(s, behind);
    if (rc == SCRIPT_OK)
        rc = step_checkpoint(s);
    if (rc != SCRIPT_OK)
        return rc;
    purge(s);
    if (below(s, 2)) /* or it ends here */
        return SCRIPT_OK;
    rc = receive(s, (struct wal_snapshot){at.index + 1, s->state.term});
    return rc == SCRIPT_OK ? step_append(s) : rc;
}

enum script_result script_go_on(struct script *s)
{
    struct wal_snapshot ahead = {0};
    enum script_result rc;

    for (size_t i = 0; i < s->account.n_saved; i++)
        if (s->account.saved[i].at.index > ahead.index)
            ahead = s->account.saved[i].at;
    s->state.term++;
    s->state.vote = 0;
    if (ahead.index > s->state.commit)
        return go_past(s, ahead);
    rc = checkpoint_all(s);
    return rc == SCRIPT_OK ? step_append(s) : rc;
}
