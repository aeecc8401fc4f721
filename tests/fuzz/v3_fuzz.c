/*
 * v3_fuzz.c - requests of a log from bytes, applied to the v3 state machine:
 * what is called readable can be applied, to two states alike, and leaves them
 * sound.
 *
 * A request is a byte that picks its field, a byte with the length, the bytes.
 */
#include "fuzz.h"
#include "v3.h"

static const uint32_t fields[] = {
    V3_RANGE,        V3_PUT,
    V3_DELETE_RANGE, V3_TXN,
    V3_COMPACTION,   V3_LEASE_GRANT,
    V3_LEASE_REVOKE, V3_ALARM,
    V3_PUT,          V3_LEASE_CHECKPOINT,
    V3_AUTH_ENABLE,  V3_AUTH_DISABLE,
    V3_AUTHENTICATE, V3_USER_ADD,
    V3_USER_DELETE,  V3_USER_CHANGE_PASSWORD,
    V3_TXN,          V3_USER_GRANT_ROLE,
    V3_ROLE_ADD,     V3_USER_REVOKE_ROLE,
    V3_ROLE_DELETE,  V3_ROLE_GRANT_PERMISSION,
    V3_LEASE_GRANT,  V3_ROLE_REVOKE_PERMISSION,
    V3_DOWNGRADE,    0,
    V3_PUT,          12,
    V3_PUT,          100,
    V3_PUT,          V3_CLUSTER_VERSION,
};

static void apply(struct v3 *v, const struct v3_request *r, uint64_t index)
{
    const struct v3_moment at = {index, 1, (int64_t)index * 100};
    struct v3_result out;
    int rc = v3_apply(v, r, &at, &out);

    FUZZ_CHECK((rc == 0) == v3_readable(r->field, r->bytes));
    if (rc == 0)
        v3_result_release(&out);
    else
        v3_skip(v, index);
    watch_notify(v->watch);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    const struct v3_config config = {.lease = {.min_ttl = 1}};
    struct v3 *a = v3_new(&config), *b = v3_new(&config);
    uint64_t index = 0;

    while (n >= 2) {
        size_t len = p[1] < n - 2 ? p[1] : n - 2;
        struct v3_request r = {
            .field = fields[p[0] % ARRAY_LEN(fields)],
            .bytes = {(const char *)p + 2, len},
            .password = STR("$2a$04$not.a.hash"), /* hashing takes long */
        };

        if (p[0] >= 0x80) /* by whoever may do everything */
            r.who = (struct auth_who){STR("root"), auth_revision(a->auth)};
        index++;
        apply(a, &r, index);
        apply(b, &r, index);
        mvcc_compact_step(a->mvcc, 3);
        p += 2 + len;
        n -= 2 + len;
    }
    mvcc_check(a->mvcc);
    lease_check(a->lessor);
    auth_check(a->auth);
    FUZZ_CHECK(mvcc_revision(a->mvcc) == mvcc_revision(b->mvcc));
    FUZZ_CHECK(lease_digest(a->lessor) == lease_digest(b->lessor));
    v3_free(a);
    v3_free(b);
    return 0;
}
