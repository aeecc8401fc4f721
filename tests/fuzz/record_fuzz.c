/*
 * record_fuzz.c - the records of users, roles and leases in a backend that may
 * hold anything: what is read can be asked about, and what is written reads
 * back to the same.
 */
#include "fuzz.h"

#include "auth.h"

/* Records one behind the other, with the room of each in front. */
static void add_record(void *arg, enum auth_bucket bucket, struct str key,
                       struct str value)
{
    struct buf *b = arg;

    buf_printf(b, "%d %zu %zu ", (int)bucket, key.n, value.n);
    buf_addstr(b, key);
    buf_addstr(b, value);
}

struct copy {
    struct auth *to;
};

static void copy_record(void *arg, enum auth_bucket bucket, struct str key,
                        struct str value)
{
    struct copy *c = arg;

    FUZZ_CHECK(auth_restore(c->to, bucket, key, value) == 0);
}

static void ask(struct auth *a, struct str key, struct str end)
{
    struct mvcc_range r = {.key = key, .range_end = end};
    struct mvcc_delete_range d = {.key = key, .range_end = end};
    const struct auth_user *u;

    for (size_t i = 0; (u = auth_user_at(a, i)) != NULL; i++) {
        struct auth_who who = {u->name, auth_revision(a)};
        int rc = auth_check_range(a, who, &r);

        FUZZ_CHECK(rc == 0 || rc == AUTH_DENIED);
        rc = auth_check_delete_range(a, who, &d);
        FUZZ_CHECK(rc == 0 || rc == AUTH_DENIED);
    }
}

static void check_auth(struct fuzz_in in)
{
    struct copy c = {auth_new()};
    struct auth *a = auth_new();
    struct buf first = {0}, second = {0};
    int rc = 0;

    while (rc == 0 && fuzz_more(&in)) {
        enum auth_bucket bucket = fuzz_u8(&in) % AUTH_N_BUCKETS;
        struct str key = fuzz_bytes(&in, fuzz_u8(&in) % 16);

        rc = auth_restore(a, bucket, key, fuzz_bytes(&in, fuzz_u8(&in)));
    }
    if (rc == 0) {
        auth_check(a);
        ask(a, STR("a"), STR("c"));
        ask(a, STR("b"), STR("\0"));
        auth_save(a, add_record, &first);
        auth_save(a, copy_record, &c);
        auth_save(c.to, add_record, &second);
        FUZZ_CHECK(str_eq(buf_str(&first), buf_str(&second)));
    }
    auth_free(a);
    auth_free(c.to);
    buf_release(&first);
    buf_release(&second);
}

static void check_lease(struct fuzz_in in)
{
    struct str key = fuzz_bytes(&in, LEASE_KEY_BYTES);
    struct lease_record r, again;
    struct buf b = {0};

    if (lease_decode(key, (struct str){(const char *)in.p, in.n}, &r) < 0)
        return;
    lease_encode(&b, &r);
    FUZZ_CHECK(lease_decode(key, buf_str(&b), &again) == 0);
    FUZZ_CHECK(again.id == r.id && again.ttl == r.ttl &&
               again.remaining_ttl == r.remaining_ttl);
    buf_release(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};

    check_auth(in);
    check_lease(in);
    return 0;
}
