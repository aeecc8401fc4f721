/*
 * fakev3.h - a server without log and peers, for tests of what is in front of
 * it: v3server.h on top of the v3 state machine, each write applied at once or,
 * if `slowly`, by a thread of its own.
 */
#ifndef FAKEV3_H
#define FAKEV3_H

#include "http.h"
#include "v3server.h"

struct server {
    struct config config;
    pthread_mutex_t mu;
    struct v3 *v3;    /* mu */
    uint64_t index;   /* mu */
    bool slowly;      /* atomic; writes are applied later, by another thread */
    unsigned n_later; /* atomic; those that are to come */
    unsigned n_waits, n_gone; /* atomic; Lock calls, and those that gave up */
    bool leaderless;          /* atomic */
    bool learner;             /* atomic */
    unsigned n_ranges;        /* atomic; read so far */
    bool hold_reads;          /* mu; reads wait for fakev3_let_reads_go() */
    struct v3_read *held;     /* mu */
};

void fakev3_init(struct server *s);
/* A door to it, on a free port; ends the program where there is none. */
uint16_t fakev3_listen(const struct http_server_options *o,
                       struct net_listener *listener,
                       struct http_server **http);
/* Until all writes are applied, as a real server has ended its own when it has
 * stopped. */
void fakev3_wait_idle(struct server *s);
void fakev3_release(struct server *s);
/* Reads come from now on only by the second call, which tells how many do. */
void fakev3_hold_reads(struct server *s);
size_t fakev3_let_reads_go(struct server *s);

#endif
