/*
 * msgrandom.h - random messages of any description (msg.h), from a seed.
 */
#ifndef MSGRANDOM_H
#define MSGRANDOM_H

#include "msg.h"

struct msg_random {
    uint64_t state; /* the seed */
    struct arena arena;
    int depth;
};

static inline uint64_t msg_random_u64(struct msg_random *r) /* splitmix64 */
{
    uint64_t z = r->state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static inline void *msg_random(struct msg_random *r, const struct msg_desc *d);

static inline void msg_random_value(struct msg_random *r,
                                    const struct msg_field *f, void *at);

static inline void msg_random_fill(struct msg_random *r,
                                   const struct msg_desc *d, void *msg)
{
    r->depth++;
    for (size_t i = 0; i < d->n_fields; i++) {
        const struct msg_field *f = &d->fields[i];
        size_t n = msg_random_u64(r) % (r->depth < 8 ? 4 : 1);

        if (f->flags & MSG_REPEATED) {
            n = n == 3 ? msg_random_u64(r) % 10 : n;
            while (n-- > 0)
                msg_random_value(r, f, msg_append(f, msg, &r->arena));
        } else if (n > 1) {
            msg_random_value(r, f, msg_set(d, f, msg, &r->arena));
        }
    }
    r->depth--;
}

static inline void msg_random_value(struct msg_random *r,
                                    const struct msg_field *f, void *at)
{
    uint64_t v = msg_random_u64(r);

    v >>= msg_random_u64(r) % 64;
    switch (f->type) {
    case MSG_MESSAGE:
        msg_random_fill(r, f->message, at);
        break;
    case MSG_BYTES:
    case MSG_STRING: {
        struct str s = {arena_alloc(&r->arena, 300), v % 300 % 40};

        if (v % 16 == 0)
            s.n = v / 16 % 300;
        for (size_t i = 0; i < s.n; i++) {
            uint8_t c = (uint8_t)msg_random_u64(r);

            /* A string's must be UTF-8 to come back out of JSON. */
            memset((char *)s.p + i, f->type == MSG_STRING ? c & 0x7f : c, 1);
        }
        *(struct str *)at = s;
        break;
    }
    case MSG_BOOL:
        *(bool *)at = v & 1;
        break;
    case MSG_UINT32:
        *(uint32_t *)at = (uint32_t)v;
        break;
    case MSG_ENUM:
        *(int32_t *)at = (int32_t)(v % 8 ? v % 5 : v);
        break;
    case MSG_INT64:
        *(int64_t *)at = (int64_t)(v & 1 ? 0 - v : v);
        break;
    default:
        *(uint64_t *)at = v;
    }
}

/* Lives in r->arena. */
static inline void *msg_random(struct msg_random *r, const struct msg_desc *d)
{
    void *msg = arena_alloc(&r->arena, d->size);

    msg_random_fill(r, d, msg);
    return msg;
}

#endif
