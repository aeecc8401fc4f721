/*
 * rpc.h - one call of the v3 API, whichever door it came in by: gRPC
 * (grpcserver.c) or the JSON gateway (gateway.c). Services (v3*.c) are written
 * against this alone.
 *
 * A door finds the method (rpcpb.h), makes a struct rpc_call, decodes the
 * request into its arena, asks rpc.c whether it may go on (rpc_admit(): one
 * deny-by-default table, a row for each method), and runs the handler.
 *
 * THE END  A handler ends its call exactly once, now or later and from any
 * thread: rpc_reply() (a unary call), rpc_finish() (a stream that went well) or
 * rpc_fail(). That holds whatever becomes of the client: what cannot be sent any
 * more is dropped, but the call lives until its handler has ended it, and is
 * gone behind that.
 *
 * GONE  When the client cancels, hangs up or is late, or the server stops, the
 * door sets `gone` and calls on_gone(), once, if the call has not ended by
 * then. A handler that waits for events (a stream, a lock) sets on_gone and
 * ends the call there or soon after; others need not care.
 *
 * THREADS  A handler runs on the connection's own thread, which other streams
 * wait for: it must not block. One whose row is marked RPC_BLOCKING runs on a
 * thread of its own instead (their number is bounded;
 * V3_REQUEST_TOO_MANY_REQUESTS beyond), and may. on_message(), on_end(),
 * on_writable(), on_timer() and on_gone() run on the connection's thread, one
 * at a time and never during the handler, unless that is RPC_BLOCKING.
 *
 * MEMORY  The arena and all in it, the request too, last as long as the call,
 * and as a callback that is under way when another thread ends it. What is
 * answered is encoded before rpc_reply() and rpc_send() return.
 */
#ifndef RPC_H
#define RPC_H

#include "msg.h"
#include "rpcpb.h"
#include "sys.h"
#include "v3server.h"

#define RPC_MESSAGE_EXTRA (512 * 1024) /* beyond --max-request-bytes */
#define RPC_ARENA_MAX (32u << 20)      /* what one request may unfold to */
#define RPC_QUEUE_MAX (128 * 1024) /* bytes of a stream that wait to be sent */
#define RPC_BLOCKING_MAX 2048      /* threads of blocking handlers */
#define RPC_WAITING_MAX 1792       /* of them, for those that may wait long */

struct rpc_call;
struct rpc_out;

/* How a door answers; called by the functions below. */
struct rpc_door {
    bool json; /* what on_pull() is to write: JSON, or protobuf */
    void (*reply)(struct rpc_call *c, const void *response);
    void (*reply_bytes)(struct rpc_call *c, struct buf *message);
    void (*reply_paced)(struct rpc_call *c, uint64_t size,
                        void (*done)(struct rpc_call *c));
    void (*fail)(struct rpc_call *c, int grpc_code, const char *text);
    bool (*send)(struct rpc_call *c, const void *response, bool wait);
    void (*wake)(struct rpc_call *c);
    void (*set_timer)(struct rpc_call *c, int64_t at_ns);
    void (*cancel)(struct rpc_call *c, int grpc_code, const char *text);
    void (*finish)(struct rpc_call *c);
};

enum rpc_pulled {
    RPC_PULL_MORE, /* something was added, and there may be more */
    RPC_PULL_WAIT, /* nothing now: ask again after rpc_wake() */
    RPC_PULL_DONE, /* that was all (of a reply in pieces) */
};

/* Where a unary call spends its time; the rest is the handler's own. */
enum rpc_stage {
    RPC_IN_QUEUE,      /* until a leader took it, and there was room */
    RPC_IN_LOG,        /* raft and the disks */
    RPC_IN_APPLY,      /* until the batch of its entry was applied */
    RPC_IN_READ_INDEX, /* until the state was new enough */
    RPC_IN_SEND,       /* at the client's pace */
    RPC_STAGES,
};

struct rpc_call {
    const struct rpc_door *door;
    const struct rpc_method *method;
    struct server *server;
    struct arena arena;
    const void *request;      /* decoded; NULL for a client's stream */
    struct str request_bytes; /* the same as protobuf, ready for the log */
    struct v3_who who;        /* unless anybody may call it (RPC_OPEN) */
    char who_storage[256 + 8];
    struct str token; /* metadata, which may be empty; p is NULL for none */
    struct str cn;    /* of the client's certificate; or "" */
    struct str api_version; /* metadata client-api-version; or "" */
    bool has_leader;        /* metadata hasleader: true */
    bool more;     /* for v3_write(): requests follow, and the door flushes */
    bool gone;     /* atomic; see GONE */
    int gone_code; /* the door's: with which status; 0: cancelled */
    int64_t began_ns;             /* rpc_run() */
    int64_t stage_ns[RPC_STAGES]; /* how long; see rpc_stage_...() */
    int64_t stage_began_ns;
    size_t response_bytes; /* of messages that were sent */
    const char *peer;      /* the client's address; lasts as long as the call */
    int64_t deadline_ns;   /* sys_mono_ns(); 0: none */
    int64_t timer_ns;      /* of rpc_set_timer() */

    /* The handler's own; and its callbacks, each of which may be NULL, to be
     * set before it returns. */
    void *state;
    void (*listener)(struct rpc_call *c); /* rpc_listen_gone() */
    void (*on_message)(struct rpc_call *c, const void *request); /* streams; the
                                      request lasts until this returns */
    void (*on_end)(struct rpc_call *c);      /* the client half-closed */
    void (*on_writable)(struct rpc_call *c); /* room, after a refused send */
    void (*on_gone)(struct rpc_call *c);
    void (*on_timer)(struct rpc_call *c); /* once for each rpc_set_timer() */
    /*
     * For bodies that are made at the client's pace: streams whose messages
     * wait elsewhere (rpc_wake() says that there are some), and replies in
     * pieces (rpc_reply_paced()). Adds to out, about room bytes at a time.
     * Called under the connection's lock, by any thread: it must not block,
     * nor call anything here but rpc_out_...(). It may take the server's lock.
     */
    enum rpc_pulled (*on_pull)(struct rpc_call *c, struct rpc_out *out,
                               size_t room);
};

static inline bool rpc_is_gone(const struct rpc_call *c)
{
    return __atomic_load_n(&c->gone, __ATOMIC_ACQUIRE);
}

/* --- Ending a call. ------------------------------------------------------------ */

/* Encoded by the method's response descriptor. */
static inline void rpc_reply(struct rpc_call *c, const void *response)
{
    c->door->reply(c, response);
}

/* Not for JSON: the message is encoded already, behind RPC_ROOM bytes that are
 * left for the door. Takes the buffer. */
#define RPC_ROOM 5
static inline void rpc_reply_bytes(struct rpc_call *c, struct buf *message)
{
    c->door->reply_bytes(c, message);
}

/*
 * A unary answer of so many bytes (of JSON: it need not be known), that
 * on_pull() makes until it says RPC_PULL_DONE. done() is called once, when all is
 * made or the client is gone, perhaps before this returns, and ends the call by
 * rpc_finish().
 */
static inline void rpc_reply_paced(struct rpc_call *c, uint64_t size,
                                   void (*done)(struct rpc_call *c))
{
    c->stage_began_ns = sys_mono_ns();
    c->door->reply_paced(c, size, done);
}

void rpc_fail(struct rpc_call *c, int grpc_code, const char *text); /* copies */
void rpc_fail_error(struct rpc_call *c, enum v3_error e); /* not V3_OK */
/* The read did not come to be linearized, for a question that etcd puts through
 * the log: what it says is what it says of writes. */
void rpc_fail_unread(struct rpc_call *c, enum v3_error e); /* not V3_OK */

static inline void rpc_finish(struct rpc_call *c)
{
    c->door->finish(c);
}

/* --- Streams. ------------------------------------------------------------------- */

/*
 * Send one message. False: RPC_QUEUE_MAX bytes wait already (nothing was taken;
 * on_writable() tells when there is room), or the client is gone. Under no
 * lock that a callback takes.
 */
static inline bool rpc_send(struct rpc_call *c, const void *response)
{
    return c->door->send(c, response, false);
}

/* The same, waiting for room: by RPC_BLOCKING handlers. False: it is gone. */
static inline bool rpc_send_wait(struct rpc_call *c, const void *response)
{
    return c->door->send(c, response, true);
}

/* Call on_timer() at that time (sys_mono_ns(); 0: never). From the handler of a
 * stream, or its callbacks. */
static inline void rpc_set_timer(struct rpc_call *c, int64_t at_ns)
{
    c->door->set_timer(c, at_ns);
}

/* Give up on the client, from a stream's callback: it is told why, and what the
 * handler does for it is over by on_gone(), perhaps before this returns. */
static inline void rpc_cancel(struct rpc_call *c, int grpc_code,
                              const char *text)
{
    c->door->cancel(c, grpc_code, text);
}

/* on_pull() has something to give. May be called under any lock. */
static inline void rpc_wake(struct rpc_call *c)
{
    c->door->wake(c);
}

/* --- What on_pull() adds to. ------------------------------------------------------ */

/* A whole message of the method's response type, in the door's form. */
void rpc_out_message(struct rpc_call *c, struct rpc_out *out,
                     const void *response);
/* Bytes: of a reply in pieces, or between begin and end of a message (protobuf
 * only). The first copies. */
void rpc_out_add(struct rpc_out *out, const void *p, size_t n);
struct buf *rpc_out_buf(struct rpc_out *out); /* to append to */
/* Bytes that are not copied, but kept until they are sent: then
 * release(owner) is called, under the same rules as on_pull(). */
void rpc_out_ref(struct rpc_out *out, struct str bytes,
                 void (*release)(void *owner), void *owner);
void rpc_out_begin(struct rpc_out *out);
void rpc_out_end(struct rpc_call *c, struct rpc_out *out);

/* --- Stages. ---------------------------------------------------------------------- */

/* Ask for a linearized read, and say in done() that it has come. */
static inline void rpc_read_index(struct rpc_call *c, struct v3_read *op)
{
    c->stage_began_ns = sys_mono_ns();
    v3_read_index(c->server, op, 0);
}

static inline void rpc_read_came(struct rpc_call *c)
{
    c->stage_ns[RPC_IN_READ_INDEX] = sys_mono_ns() - c->stage_began_ns;
    c->stage_began_ns = 0;
}

/* --- Waiting. -------------------------------------------------------------------- */

/*
 * Go on on a thread of its own, as RPC_BLOCKING handlers run: for one that finds
 * out that it would block. False: there are too many; nothing was done.
 */
bool rpc_block(struct rpc_call *c, void (*fn)(struct rpc_call *c));

/* --- Helpers. ---------------------------------------------------------------------- */

/* The header of an answer; what is 0 is left out on the wire. */
void rpc_set_header(struct rpc_call *c, struct v3_header h,
                    struct rpcpb_response_header *out);
/* The same in the arena, which always has room for one. */
struct rpcpb_response_header *rpc_header(struct rpc_call *c,
                                         struct v3_header h);
/*
 * Propose the request in the caller's name: v3_write() with these bytes. What
 * goes wrong ends the call; else answer() does, from any thread, and r is
 * released behind it.
 */
typedef void rpc_answer(struct rpc_call *c, const struct v3_result *r);
void rpc_propose(struct rpc_call *c, uint32_t field, struct str bytes,
                 rpc_answer *answer);
/*
 * For RPC_BLOCKING handlers that wait: call fn when the client is gone, from now
 * on (NULL: no more; and it is not being called any more, either). Look at
 * rpc_is_gone() behind it: that may have been before. fn is called under a
 * lock: it must only wake somebody.
 */
void rpc_listen_gone(struct rpc_call *c, void (*fn)(struct rpc_call *c),
                     void *state);

/* --- The table: what each method needs, and who serves it. -------------------------- */

enum rpc_access {
    RPC_DENIED = 0, /* a row that is missing */
    RPC_OPEN,       /* anybody */
    RPC_ANY,        /* likewise, but a token that is given must be valid */
    RPC_KEYS,       /* likewise; who may use the keys is checked with them */
    RPC_USER,       /* any valid user, while auth is on */
    RPC_ADMIN,      /* role root */
};

enum rpc_flags {
    RPC_BLOCKING = 1, /* on a thread of its own */
    RPC_LEARNER =
        2, /* a learner serves it, too (but only serializable ranges) */
    RPC_PLAIN_ERRORS = 4,   /* of access: "auth: ...", code Unknown */
    RPC_UNKNOWN_ERRORS = 8, /* of access: with code Unknown */
    RPC_WAITS = 16, /* for others, for as long as it takes; RPC_BLOCKING */
};

typedef void rpc_handler(struct rpc_call *c);
/*
 * Is there nothing wrong with the request itself? False: the call has ended
 * with what is. etcd looks at some requests before it asks who sends them, so
 * that a client hears of both faults in that order.
 */
typedef bool rpc_check(struct rpc_call *c);

/*
 * access is what etcd 3.4 asks for, strict what it ought to have: later releases
 * closed some holes, and --strict-auth closes all of them (CVE-2026-33413,
 * CVE-2023-32082).
 */
struct rpc_row {
    enum rpc_access access, strict;
    int flags;
    rpc_handler *handler;
};

extern const struct rpc_row rpc_rows[RPC_METHOD_N]; /* rpcrows.c */
/* For the requests of who may not; handlers check all others themselves. NULL:
 * there is nothing to check. */
extern rpc_check *const rpc_checks[RPC_METHOD_N]; /* rpcrows.c */

/* May its calls last for as long as their clients like? */
static inline bool rpc_is_endless(const struct rpc_method *m)
{
    return m->streams || rpc_rows[m->id].flags & RPC_WAITS;
}

/* --- For doors. --------------------------------------------------------------------- */

/* Bytes and references, in order: a reference stands before byte `at`. */
struct rpc_out_ref {
    size_t at;
    struct str bytes;
    void (*release)(void *owner);
    void *owner;
};

struct rpc_out {
    struct buf bytes;
    struct rpc_out_ref *refs; /* owned */
    size_t n_refs, refs_cap;
    size_t mark, mark_refs;   /* of rpc_out_begin() */
    size_t pos, ref, ref_pos; /* how far it was taken */
};

/* What comes next, borrowed until rpc_out_took(); n is 0 if all is taken, and
 * then the refs are released and out is empty, ready to be filled. */
struct str rpc_out_next(struct rpc_out *out);
void rpc_out_took(struct rpc_out *out, size_t n);
void rpc_out_release(struct rpc_out *out);

/* Copies the token of the client's metadata, if there is one (p is not NULL).
 * False: it is too long. */
bool rpc_set_token(struct rpc_call *c, struct str token);
/*
 * Fill c->who, check the row, and run the handler: here or, if it is
 * RPC_BLOCKING, on a thread of its own. The call may be gone when this returns;
 * it was ended already if it was refused.
 */
void rpc_run(struct rpc_call *c);
/*
 * For streams that want a leader (has_leader), once they run: was there none for
 * three election timeouts, and at two looks of the door at least? It looks each
 * RPC_LEADER_NS, and keeps in *seen_ns when there last was one.
 */
#define RPC_LEADER_NS NS_PER_S
bool rpc_leader_is_lost(struct server *s, int64_t now, int64_t *seen_ns);
/* A message of so many bytes goes to the client. */
void rpc_sent(struct rpc_call *c, size_t bytes);
/* The handler ended the call with this status; to be told once, while c is
 * there. */
void rpc_ended(const struct rpc_call *c, int code);
/* Wait until no blocking handler runs any more: all calls are gone by then. */
void rpc_wait_idle(void);

/* --- Handlers, by the file that has them. --------------------------------------------- */

/* v3kv.c */
rpc_handler v3kv_range, v3kv_put, v3kv_delete_range, v3kv_txn, v3kv_compact,
    v3kv_range_stream;
rpc_check v3kv_check_range, v3kv_check_put, v3kv_check_delete_range,
    v3kv_check_txn;
/* v3watch.c */
rpc_handler v3watch_watch;
/* v3lease.c */
rpc_handler v3lease_grant, v3lease_revoke, v3lease_keep_alive,
    v3lease_time_to_live, v3lease_leases;
/* v3cluster.c */
rpc_handler v3cluster_add, v3cluster_remove, v3cluster_update, v3cluster_list,
    v3cluster_promote;
rpc_check v3cluster_check_add;
/* v3maint.c */
rpc_handler v3maint_alarm, v3maint_status, v3maint_defragment, v3maint_hash,
    v3maint_hash_kv, v3maint_snapshot, v3maint_move_leader, v3maint_downgrade,
    v3maint_health_check, v3maint_health_watch;
/* v3auth.c */
rpc_handler v3auth_change, v3auth_status, v3auth_authenticate, v3auth_user_add,
    v3auth_user_get, v3auth_user_list, v3auth_user_change_password,
    v3auth_role_get, v3auth_role_list;
/* v3lock.c */
rpc_handler v3lock_lock, v3lock_unlock, v3lock_campaign, v3lock_proclaim,
    v3lock_leader, v3lock_observe, v3lock_resign;
rpc_check v3lock_check_unlock, v3lock_check_proclaim, v3lock_check_observe,
    v3lock_check_resign;

#endif
