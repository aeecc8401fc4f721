/*
 * simv3check.c - what must hold of the v3 state at every step of a run, seen at
 * the calls of v3.h, wrapped.
 *
 * ONE MEANING  the twin (simtwin.h) says what each request of the log must
 *              answer, and what state it leaves
 * ONE STATE    answers and digests are equal on all members at equal index;
 *              keys, history, leases and alarms are the twin's now and then,
 *              and always where a state was loaded from a file: the own or
 *              the leader's
 * ONCE         each request is applied, and once: by the digest at the index
 *              that raft is told to be applied
 */
#include "sim.h"

#include "simtwin.h"
#include "storesnap.h"

#include <inttypes.h>
#include <stdio.h>

struct record { /* a request of v3's that was applied */
    raft_index index;
    uint64_t id;
    int64_t revision, compacted;
    uint64_t digest; /* of the state behind it */
    char *answer;
};

struct hashed { /* HashKV as first heard */
    int64_t revision, compacted;
    uint32_t hash;
};

static struct {
    struct record *records; /* by index */
    size_t n, cap;
    uint64_t *ids; /* of the requests, by index */
    raft_index n_ids;
    struct hashed hashes[4096];
    size_t n_hashes;
} v3;

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9e3779b97f4a7c15;
    return h ^ h >> 31;
}

/* --- What was applied. -------------------------------------------------- */

/* The newest one up to index; NULL: none yet. */
static const struct record *record_at(raft_index index)
{
    size_t lo = 0, hi = v3.n;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;

        if (v3.records[mid].index <= index)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo ? &v3.records[lo - 1] : NULL;
}

int64_t check_v3_revision(raft_index index)
{
    const struct record *r = record_at(index);

    return r ? r->revision : 1;
}

bool check_v3_answer(uint64_t id, raft_index *index, const char **answer)
{
    for (size_t i = v3.n; i-- > 0;) {
        if (v3.records[i].id != id)
            continue;
        *index = v3.records[i].index;
        *answer = v3.records[i].answer;
        return true;
    }
    return false;
}

static void add_record(struct record r)
{
    if (v3.n == v3.cap) {
        v3.cap = v3.cap * 2 + 256;
        v3.records = xrealloc(v3.records, v3.cap * sizeof(*v3.records));
    }
    v3.records[v3.n++] = r;
}

static void note_id(raft_index index, uint64_t id)
{
    if (index >= v3.n_ids) {
        raft_index n = index * 2 + 256;

        v3.ids = xrealloc(v3.ids, n * sizeof(*v3.ids));
        memset(v3.ids + v3.n_ids, 0, (n - v3.n_ids) * sizeof(*v3.ids));
        v3.n_ids = n;
    }
    v3.ids[index] = id;
}

/* --- Digests. ----------------------------------------------------------- */

static void mix_auth(void *arg, enum auth_bucket bucket, struct str key,
                     struct str value)
{
    uint64_t *h = arg;

    *h = mix(*h, bucket);
    for (size_t i = 0; i < key.n; i++)
        *h = mix(*h, (uint8_t)key.p[i]);
    for (size_t i = 0; i < value.n; i++)
        *h = mix(*h, (uint8_t)value.p[i]);
}

static uint64_t digest_of(const struct v3 *v)
{
    uint64_t h = v3_digest(v);

    auth_save(v->auth, mix_auth, &h);
    return h;
}

static void check_digest(const struct host *h, const struct v3 *v)
{
    const struct record *r = record_at(v->index);

    REQUIRE(!r || r->digest == digest_of(v),
            "One State: the v3 state of %s at index %" PRIu64
            ", revision %" PRId64 ", is another one",
            h->name, v->index, mvcc_revision(v->mvcc));
    REQUIRE(r || v3_is_untouched(v), "One State: %s has a v3 state of nothing",
            h->name);
}

/* --- Whole states. ------------------------------------------------------ */

static void check_keys_at(const struct host *h, const struct v3 *v,
                          int64_t revision)
{
    const struct mvcc_range all = {
        .key = {"\0", 1}, .range_end = {"\0", 1}, .revision = revision};
    struct mvcc_range_result r;
    const struct str *keys;
    size_t n = twin_keys(&keys), next = 0;

    REQUIRE(mvcc_range(v->mvcc, &all, &r) == 0,
            "%s does not read its keys at revision %" PRId64, h->name,
            revision);
    for (size_t k = 0; k < n; k++) {
        const struct twin_version *want = twin_at(keys[k], revision);

        if (!want)
            continue;
        REQUIRE(next < r.n && twin_is_version(r.kvs[next], want),
                "One State: %s has another %.*s at revision %" PRId64, h->name,
                STR_FMT(keys[k]), revision);
        next++;
    }
    REQUIRE(next == r.n,
            "One State: %s has a key too many at revision %" PRId64, h->name,
            revision);
    mvcc_range_release(&r);
}

/* All versions behind what is compacted are there. */
static void check_history(const struct host *h, const struct v3 *v)
{
    int64_t last = mvcc_revision(v->mvcc), compacted = mvcc_compacted(v->mvcc);
    struct mvcc_cursor c = {compacted + 1, 0};
    struct mvcc_kv *kvs[64];
    size_t n, at = 0;

    while (at < twin_size() && twin_get(at)->main <= compacted)
        at++;
    while ((n = mvcc_log_peek(v->mvcc, &c, last, kvs, ARRAY_LEN(kvs))))
        for (size_t i = 0; i < n; i++, at++)
            REQUIRE(at < twin_size() && twin_is_version(kvs[i], twin_get(at)),
                    "One State: %s has another history at revision %" PRId64,
                    h->name, kvs[i]->mod_revision);
    REQUIRE(at == twin_size() || twin_get(at)->main > last,
            "One State: %s has no revision %" PRId64, h->name,
            twin_get(at)->main);
}

static int64_t ttl_of(const struct lease_record *records, size_t n, int64_t id)
{
    for (size_t i = 0; i < n; i++)
        if (records[i].id == id)
            return records[i].ttl;
    return 0;
}

static size_t keys_on(int64_t lease)
{
    const struct str *keys;
    size_t n = twin_keys(&keys), on = 0;

    for (size_t k = 0; k < n; k++) {
        const struct twin_version *v = twin_at(keys[k], INT64_MAX);

        on += v && v->lease == lease;
    }
    return on;
}

/* Where v is at the newest index that anybody has. */
static void check_leases(const struct host *h, const struct v3 *v)
{
    const struct twin_lease *want;
    size_t n, n_want = twin_leases(&want);
    struct lease_record *records = lease_records(v->lessor, &n);

    REQUIRE(n == n_want, "One Meaning: %s has %zu leases, the twin %zu",
            h->name, n, n_want);
    for (size_t i = 0; i < n_want; i++)
        REQUIRE(ttl_of(records, n, want[i].id) == want[i].ttl &&
                    lease_n_keys(v->lessor, want[i].id) == keys_on(want[i].id),
                "One Meaning: %s has another lease %" PRId64
                " (%zu keys, the twin %zu)",
                h->name, want[i].id, lease_n_keys(v->lessor, want[i].id),
                keys_on(want[i].id));
    free(records);
}

static void check_alarms(const struct host *h, const struct v3 *v)
{
    const struct v3_alarm *want;
    size_t n = twin_alarms(&want);

    REQUIRE(n == v->n_alarms, "One Meaning: %s has %zu alarms, the twin %zu",
            h->name, v->n_alarms, n);
}

/* Members that compacted up to the same revision have equal hashes. */
static void check_hash(const struct host *h, struct hashed x)
{
    for (size_t i = 0; i < v3.n_hashes; i++) {
        struct hashed *was = &v3.hashes[i];

        if (was->revision != x.revision || was->compacted != x.compacted)
            continue;
        REQUIRE(was->hash == x.hash,
                "One State: the hash of %s at revision %" PRId64
                ", compacted at %" PRId64 ", is another one",
                h->name, x.revision, x.compacted);
        return;
    }
    if (v3.n_hashes < ARRAY_LEN(v3.hashes))
        v3.hashes[v3.n_hashes++] = x;
}

static void hash_keys(const struct host *h, const struct v3 *v)
{
    struct mvcc_hash at;

    if (mvcc_hash_open(v->mvcc, 0, &at) < 0)
        return;
    while (!at.done)
        mvcc_hash_step(&at, 1000);
    check_hash(h, (struct hashed){at.revision, at.compacted, at.result});
    mvcc_hash_close(&at);
}

void check_v3_state(const struct host *h, const struct v3 *v)
{
    const struct record *r = record_at(v->index);
    int64_t compacted = mvcc_compacted(v->mvcc);

    check_digest(h, v);
    REQUIRE(mvcc_revision(v->mvcc) == (r ? r->revision : 1) &&
                compacted == (r ? r->compacted : -1),
            "One State: %s is at revision %" PRId64 ", compacted at %" PRId64,
            h->name, mvcc_revision(v->mvcc), compacted);
    check_keys_at(h, v, mvcc_revision(v->mvcc));
    if (compacted > 0)
        check_keys_at(h, v, compacted);
    check_history(h, v);
    if (v3.n && r == &v3.records[v3.n - 1]) {
        check_leases(h, v);
        check_alarms(h, v);
    }
}

void check_v3_applied(const struct host *h, raft_index index, bool whole)
{
    const struct v3 *v = h->server->v3;

    REQUIRE(v->index >= index,
            "One State: the v3 state of %s is at index %" PRIu64
            " where %" PRIu64 " is applied",
            h->name, v->index, index);
    check_digest(h, v);
    if (!whole)
        return;
    check_v3_state(h, v);
    hash_keys(h, v);
}

/* --- Applying. ---------------------------------------------------------- */

static void apply_first(struct host *h, const struct v3 *v,
                        const struct v3_request *r, raft_index index,
                        const struct v3_result *out, struct buf *answer)
{
    int64_t min_ttl = lease_min_ttl(10, 100);
    struct buf want = {0};

    TRACE(h->n, "applies %" PRIu64 ": v3 field %" PRIu32 ": %.*s", index,
          r->field, STR_FMT(buf_str(answer)));
    if (twin_apply(&want, r->field, r->bytes, min_ttl))
        REQUIRE(str_eq(buf_str(&want), buf_str(answer)),
                "One Meaning: %s answers \"%.*s\" to index %" PRIu64
                ", field %" PRIu32 ", the twin \"%.*s\"",
                h->name, STR_FMT(buf_str(answer)), index, r->field,
                STR_FMT(buf_str(&want)));
    buf_release(&want);
    add_record((struct record){index, index < v3.n_ids ? v3.ids[index] : 0,
                               mvcc_revision(v->mvcc), mvcc_compacted(v->mvcc),
                               digest_of(v),
                               xstrndup(buf_str(answer).p, answer->len)});
    check_leases(h, v);
    check_alarms(h, v);
    if (r->field == V3_LEASE_REVOKE && out->error == V3_OK)
        v3clients_revoked(h, r->bytes);
}

bool __real_v3_apply_entry(struct server *s, const struct raft_entry *entry,
                           const struct entry_request *req, struct waiter *w);
bool __wrap_v3_apply_entry(struct server *s, const struct raft_entry *entry,
                           const struct entry_request *req, struct waiter *w);

bool __wrap_v3_apply_entry(struct server *s, const struct raft_entry *entry,
                           const struct entry_request *req, struct waiter *w)
{
    note_id(entry->index, req->id);
    return __real_v3_apply_entry(s, entry, req, w);
}

int __real_v3_apply(struct v3 *v, const struct v3_request *r,
                    const struct v3_moment *at, struct v3_result *out);
int __wrap_v3_apply(struct v3 *v, const struct v3_request *r,
                    const struct v3_moment *at, struct v3_result *out);

int __wrap_v3_apply(struct v3 *v, const struct v3_request *r,
                    const struct v3_moment *at, struct v3_result *out)
{
    struct host *h = host_self();
    struct buf answer = {0};
    int rc = __real_v3_apply(v, r, at, out);
    const struct record *known;

    if (rc < 0)
        return rc;
    twin_tell_result(&answer, out);
    sim.count.v3_applied++;
    if (v3.n == 0 || v3.records[v3.n - 1].index < at->index)
        apply_first(h, v, r, at->index, out, &answer);
    known = record_at(at->index);
    REQUIRE(known->index == at->index &&
                str_eqz(buf_str(&answer), known->answer),
            "One State: %s answers \"%.*s\" to index %" PRIu64
            ", another answered \"%s\"",
            h->name, STR_FMT(buf_str(&answer)), at->index, known->answer);
    check_digest(h, v);
    buf_release(&answer);
    return rc;
}

/* --- Files. ------------------------------------------------------------- */

int __real_v3_load(const char *path, const struct v3_config *config,
                   struct v3 **out, struct err *e);
int __wrap_v3_load(const char *path, const struct v3_config *config,
                   struct v3 **out, struct err *e);

int __wrap_v3_load(const char *path, const struct v3_config *config,
                   struct v3 **out, struct err *e)
{
    struct host *h = host_self();
    int rc = __real_v3_load(path, config, out, e);

    if (rc < 0) {
        TRACE(h->n, "does not load %s: %s", path, e->msg);
        return rc;
    }
    TRACE(h->n, "loads %s: index %" PRIu64 ", revision %" PRId64, path,
          (*out)->index, mvcc_revision((*out)->mvcc));
    sim.count.v3_loaded++;
    check_v3_state(h, *out);
    return rc;
}
