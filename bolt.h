/*
 * bolt.h - files in the page format of bbolt, version 2: what etcd keeps its
 * v3 state in, and sends as a snapshot (spec: raft-and-storage, 9.1).
 *
 *     page    0 meta | 1 meta | 2 freelist | 3... leaves and branches
 *     meta    -> tree of buckets -> in each a tree of keys, or, if that is
 *                small, a leaf within the value ("inline")
 *
 * A file is written from front to back, and may then be appended to: no page
 * but the two metas is ever written over. It knows pages, buckets and keys;
 * what is in them is backend.h's.
 *
 * The writer is pure. Both hold a page per level and some 100 KiB besides,
 * whatever the size of the file; where a value is bigger, twice the value. The
 * reader believes nothing: each page that it comes to is checked first. Each
 * writer, reader and cursor is for one thread at a time.
 *
 * Functions that can fail return a BOLT_E* code and then *e says what failed,
 * in which file, at which page, and what to do.
 */
#ifndef BOLT_H
#define BOLT_H

#include "buf.h"

enum {
    BOLT_EIO = -1,     /* a system call failed */
    BOLT_EFORMAT = -2, /* not such a file, cut off, or damaged */
    BOLT_ESINK = -3,   /* the sink refused; *e is not filled */
};

#define BOLT_PAGE_BYTES 4096 /* as written; any power of two is read */
#define BOLT_KEY_MAX 32768   /* bbolt's own bound */
#define BOLT_VALUE_MAX (256 * 1024 * 1024)
#define BOLT_DEPTH_MAX 24 /* levels of a tree: a full one has five */

/* --- Writing. ------------------------------------------------------------- */

/*
 * What the first pages of a file say of the rest. It is known at the end;
 * hence either of
 *
 *   - a first pass that only measures, with sink NULL, then one that writes
 *     by its plan, front to back: for a stream, whose size is told before;
 *   - one pass without a plan, which leaves room for the first pages, and
 *     bolt_first_pages() over that room at the end: for a file. Until then
 *     nobody takes it for a complete one.
 */
struct bolt_plan {
    uint64_t n_pages; /* the file is so many times BOLT_PAGE_BYTES */
    uint64_t root, freelist, txid;
};

/* The next n bytes, borrowed. Not 0: stop. */
typedef int bolt_sink(void *arg, const void *p, size_t n);

struct bolt_writer;

/* plan is copied; NULL: not known yet. Returns owned. */
struct bolt_writer *bolt_writer_new(bolt_sink *sink, void *arg,
                                    const struct bolt_plan *plan);
void bolt_writer_free(struct bolt_writer *w); /* NULL is fine */

/*
 * Begin a bucket; then its keys. Both come in strictly ascending order, the
 * names and keys not empty and within the bounds above, which is asserted.
 * All is copied. When only measuring, values are not looked at, but counted.
 * 0 or BOLT_ESINK, after which the writer is only good to be freed.
 */
int bolt_writer_bucket(struct bolt_writer *w, struct str name);
int bolt_writer_put(struct bolt_writer *w, struct str key, struct str value);
/*
 * All is with the sink now. BOLT_EFORMAT if the plan it was given is of other
 * input than this: then what was written is no such file.
 */
int bolt_writer_end(struct bolt_writer *w, struct bolt_plan *out);

/*
 * Appending, where one bucket gets items only behind those that it has, and
 * all others are small. The full pages of that one stay; its last ones, the
 * other buckets and the roots are written anew at the end of the file, and a
 * list of the pages that are free thereby. Then a meta in place of the older
 * one (bolt_put_meta()) makes this the file. Until it is durable, and what was
 * written before it, the other meta and all of its pages stand.
 */
struct bolt_end; /* of a file: what it takes to go on from there */

/* The bucket at hand is the one that grows; not when only measuring. */
void bolt_writer_grows(struct bolt_writer *w);
/* After bolt_writer_end(), of a writer with a bucket that grows. Owned. */
struct bolt_end *bolt_writer_take_end(struct bolt_writer *w);
void bolt_end_free(struct bolt_end *end); /* NULL is fine */
/* Too much of the file is free by now: write it from the beginning. */
bool bolt_end_is_worn(const struct bolt_end *end);
const struct bolt_plan *bolt_end_plan(const struct bolt_end *end);

/* What it writes follows the file's last page. The bucket that grows has all
 * its items once it is begun; others have none. end is borrowed. */
struct bolt_writer *bolt_writer_append(bolt_sink *sink, void *arg,
                                       const struct bolt_end *end);

/* Returns where the page belongs in the file. */
uint64_t bolt_put_meta(const struct bolt_plan *plan,
                       uint8_t out[BOLT_PAGE_BYTES]);

#define BOLT_FIRST_BYTES (3 * BOLT_PAGE_BYTES)
void bolt_first_pages(const struct bolt_plan *plan,
                      uint8_t out[BOLT_FIRST_BYTES]);

/* --- Reading. --------------------------------------------------------------- */

struct bolt;

/* The newest valid meta page counts. The caller owns *out: bolt_close(). */
int bolt_open(const char *path, struct bolt **out, struct err *e);
/* The same from memory, which is borrowed; name is for messages. */
int bolt_open_bytes(struct str bytes, const char *name, struct bolt **out,
                    struct err *e);
void bolt_close(struct bolt *b);             /* NULL is fine */
uint64_t bolt_size(const struct bolt *b);    /* in use: pages, in bytes */
uint64_t bolt_txid(const struct bolt *b);    /* that wrote it last */
const char *bolt_name(const struct bolt *b); /* borrowed: for messages */

struct bolt_item {
    struct str key, value; /* borrowed until the cursor's next call */
    bool is_bucket;        /* the value is what bolt_enter() takes */
};

struct bolt_cursor;

/*
 * A cursor before the first of all buckets, or before the first key of the
 * bucket that the last item of another one is. Returns owned; b outlives it.
 */
struct bolt_cursor *bolt_buckets(struct bolt *b);
int bolt_enter(struct bolt_cursor *buckets, const struct bolt_item *bucket,
               struct bolt_cursor **out, struct err *e);
/* By name: 1, or 0 if there is no such bucket. */
int bolt_bucket(struct bolt *b, struct str name, struct bolt_cursor **out,
                struct err *e);
void bolt_cursor_free(struct bolt_cursor *c); /* NULL is fine */

/*
 * The next item; or the first that is not before key, and on from there. 1,
 * or 0 at the end. After an error the cursor is only good to be freed.
 */
int bolt_next(struct bolt_cursor *c, struct bolt_item *out, struct err *e);
int bolt_seek(struct bolt_cursor *c, struct str key, struct bolt_item *out,
              struct err *e);
/* BOLT_EFORMAT: what is wrong with the item that came last. */
int bolt_damaged(const struct bolt_cursor *c, const char *what, struct err *e);

#endif
