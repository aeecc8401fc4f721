/*
 * h2sane.h - what must hold of an HTTP/2 connection between any two calls.
 */
#ifndef H2SANE_H
#define H2SANE_H

#include "http2_impl.h"

/* The ring is a ring, of just those who may send. */
static inline bool h2_ring_sane(const struct h2 *c)
{
    size_t n = 0;

    for (const struct h2_stream *s = c->ring; s;) {
        if (!s->first || s->first->waiting || s->send_window <= 0 ||
            s->after->before != s || h2_find(c, s->id) != s)
            return false;
        n++;
        s = s->after == c->ring ? NULL : s->after;
    }
    for (size_t i = 0; i < c->n_buckets; i++) {
        for (const struct h2_stream *s = c->buckets[i]; s; s = s->next) {
            if (!s->after && s->first && !s->first->waiting &&
                s->send_window > 0)
                return false;
            n -= s->after != NULL;
        }
    }
    return n == 0;
}

/* Invariants 2 and 3 of http2.c, and what is counted. */
static inline bool h2_sane(const struct h2 *c)
{
    size_t queued = 0, n = 0;
    int64_t window = c->recv_window + (int64_t)c->consumed;

    for (size_t i = 0; i < c->n_buckets; i++) {
        for (const struct h2_stream *s = c->buckets[i]; s; s = s->next) {
            size_t pieces = 0;

            for (const struct piece *p = s->first; p; p = p->next)
                pieces += p->n;
            if (pieces != s->queued || (s->sent_end && s->recv_end) ||
                (s->sent_end && s->first))
                return false;
            if (!s->recv_end &&
                s->recv_window + (int64_t)s->consumed + s->unconsumed !=
                    c->o.window_stream)
                return false;
            queued += s->queued;
            window += s->unconsumed;
            n++;
        }
    }
    return queued == c->queued && n == c->n_streams &&
           (c->failed || c->broken || window == c->o.window_conn) &&
           h2_ring_sane(c);
}

#endif
