/*
 * http_impl.h - what httpin.c has for http.c alone: the budget of memory, and
 * reads from the middle of a message.
 */
#ifndef HTTP_IMPL_H
#define HTTP_IMPL_H

#include "http.h"

/* buf_reserve() of n, where the budget allows for the memory that it takes;
 * false: not so much is left. NULL is a budget without end. */
bool http_budget_reserve(struct http_budget *budget, size_t *taken,
                         struct buf *b, size_t n);
void http_budget_give(struct http_budget *budget, size_t *taken); /* all */

/* Read once, into buf; what was consumed may be dropped from it. Bytes, 0 at the
 * end, NET_E*, or -503: no memory left. */
ssize_t http_in_more(struct http_in *in, int64_t deadline_ns);
/* The body's end is lost. Returns code. */
ssize_t http_in_break(struct http_in *in, int code, const char *why);
/* Read what follows the message without moving what was read before, for the
 * head points into it. How a read ends is seen again at the next one. */
void http_in_ahead(struct http_in *in);

#endif
