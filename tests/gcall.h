/*
 * gcall.h - a small gRPC client for tests: one connection, as many calls as
 * one likes, one thread.
 */
#ifndef GCALL_H
#define GCALL_H

#include "http2.h"
#include "msg.h"

#define GC_CALLS 1200

struct gc_call {
    uint32_t stream;
    int http, status; /* status -1: not over yet; -2: reset */
    struct buf body;  /* all messages with their prefixes */
    struct buf text;  /* grpc-message */
    size_t taken;     /* of body, by gc_message() */
    bool unread;      /* its window is not opened again */
};

struct gc {
    int fd;
    struct h2 *h2;
    struct buf in;
    struct gc_call calls[GC_CALLS];
    size_t n;
    bool goaway, closed;
    uint32_t window;
};

void gc_open(struct gc *c, uint16_t port, uint32_t window);
void gc_close(struct gc *c);
/* A new call, without a message yet. extra: "name: value" lines, or NULL. */
struct gc_call *gc_call(struct gc *c, const char *path, const char *extra);
void gc_send(struct gc *c, struct gc_call *k, const void *p, size_t n,
             bool end);
void gc_send_message(struct gc *c, struct gc_call *k, const struct msg_desc *d,
                     const void *m, bool end);
/* Go on until the call is over, or has n bytes of body that were not taken, or
 * ms have passed. True but for the last. */
bool gc_wait(struct gc *c, struct gc_call *k, size_t n, int64_t ms);
/* The next whole message; false: ms have passed, or the call is over. */
bool gc_message(struct gc *c, struct gc_call *k, struct str *out, int64_t ms);
/* Forget what gc_message() gave. */
void gc_forget(struct gc_call *k);
/* Drop what has come of an unread call, and grant as much anew; its bytes. */
size_t gc_skip(struct gc *c, struct gc_call *k);
/* What is in the socket, at least something; gc_run(): what comes for so long. */
void gc_read(struct gc *c);
void gc_run(struct gc *c, int64_t ms);

#endif
