/*
 * watchbatch.c - the events of one revision, encoded once for all who watch.
 *
 * An event is encoded by the first connection that comes to it, without a
 * lock: it makes the bytes and tries to set the event's pointer to them. If
 * another was faster its bytes are taken, and the own ones dropped.
 */
#include "watch.h"

#include "pb.h"

#include <assert.h>

enum { EVENTS = 11 }; /* in WatchResponse */

struct watch_batch *watch_batch_ref(struct watch_batch *b)
{
    __atomic_fetch_add(&b->refs, 1, __ATOMIC_RELAXED);
    return b;
}

void watch_batch_unref(struct watch_batch *b)
{
    if (!b || __atomic_fetch_sub(&b->refs, 1, __ATOMIC_ACQ_REL) != 1)
        return;
    for (size_t i = 0; i < b->n; i++) {
        mvcc_unref(b->events[i].kv);
        mvcc_unref(b->events[i].prev);
        blob_unref(b->events[i].encoded[0]);
        blob_unref(b->events[i].encoded[1]);
    }
    free(b);
}

static size_t nested_size(size_t n)
{
    return 1 + pb_varint_len(n) + n;
}

/* The size of a message mvccpb.Event: 1 type, 2 kv, 3 prev_kv. */
static size_t event_size(const struct watch_event *e,
                         const struct mvcc_kv *prev)
{
    size_t size = nested_size(mvcc_kv_size(e->kv, MVCC_EVENT));

    if (mvcc_is_tombstone(e->kv))
        size += 2;
    if (prev)
        size += nested_size(mvcc_kv_size(prev, MVCC_EVENT));
    return size;
}

static void add_kv(struct buf *b, uint32_t number, const struct mvcc_kv *kv)
{
    pb_add_tag(b, number, PB_BYTES);
    pb_add_varint(b, mvcc_kv_size(kv, MVCC_EVENT));
    mvcc_kv_encode(b, kv, MVCC_EVENT);
}

/* Straight into the blob: values may be large. */
static struct blob *encode(const struct watch_event *e,
                           const struct mvcc_kv *prev)
{
    size_t size = event_size(e, prev);
    struct blob *blob = blob_new(NULL, nested_size(size));
    struct buf b = {.data = blob->data, .cap = blob->len};

    pb_add_tag(&b, EVENTS, PB_BYTES);
    pb_add_varint(&b, size);
    if (mvcc_is_tombstone(e->kv))
        pb_add_u64(&b, 1, 1); /* DELETE */
    add_kv(&b, 2, e->kv);
    if (prev)
        add_kv(&b, 3, prev);
    assert(b.data == blob->data && b.len == blob->len);
    return blob;
}

size_t watch_event_size(const struct watch_batch *b, size_t i, bool prev_kv)
{
    const struct watch_event *e = &b->events[i];

    return nested_size(event_size(e, prev_kv ? e->prev : NULL));
}

struct str watch_event_encoded(struct watch_batch *b, size_t i, bool prev_kv)
{
    struct watch_event *e = &b->events[i];
    struct mvcc_kv *prev = prev_kv ? e->prev : NULL;
    struct blob **at = &e->encoded[prev != NULL], *blob, *none = NULL;

    blob = __atomic_load_n(at, __ATOMIC_ACQUIRE);
    if (blob)
        return blob_str(blob);
    blob = encode(e, prev);
    if (!__atomic_compare_exchange_n(at, &none, blob, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE)) {
        blob_unref(blob);
        blob = none; /* what is there by now */
    }
    return blob_str(blob);
}

size_t watch_fragment(const struct watch_batch *b, const uint32_t *which,
                      size_t n, size_t from, bool prev_kv, size_t overhead,
                      size_t max_bytes)
{
    size_t size = overhead, to = from;

    assert(from < n);
    for (; to < n; to++) {
        size += watch_event_size(b, which[to], prev_kv);
        if (size >= max_bytes && to > from)
            break;
    }
    return to - from;
}
