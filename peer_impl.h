/*
 * peer_impl.h - what peer.c (the transport: peers and queues), peerdial.c (what
 * we ask of peers), peerhttp.c (what they ask of us) and peerstats.c (counters)
 * share. Private to them.
 *
 * LOCKS  transport.mu, then peer.mu; stats_mu alone. No callback, log line or
 * network I/O under any of them.
 *
 * LIFE   A struct peer lives as long as someone holds a reference: the list
 * of the transport, its threads, whoever uses it for a while. transport.users
 * counts threads and exchanges under way; transport_stop() waits for zero.
 */
#ifndef PEER_IMPL_H
#define PEER_IMPL_H

#include "client.h"
#include "peer.h"
#include "sys.h"

#define PEER_PKG "rafthttp"

#define PEER_KEEP_ALIVE_NS (5 * NS_PER_S / 3)
#define PEER_READ_MS 5000 /* a stream without a byte for so long is dead */
#define PEER_REDIAL_MS 100
#define PEER_ANSWER_MS 2000 /* to a short request, at most */
#define PEER_PROBE_MS 4000
#define PEER_POSTS_MAX 64 /* messages that wait for POST /raft */
#define PEER_REMOTES_MAX 16
#define PEER_URLS_MAX 64 /* of one peer */
#define PEER_RATE_SAMPLES 200

/* The ways to a peer: the two streams that it has opened, and POST /raft. */
enum lane_kind { LANE_MESSAGE, LANE_MSGAPP, LANE_POST, LANES };
#define STREAMS LANE_POST /* those before it are streams */

struct msg_queue {
    struct raft_msg *msgs;
    size_t n, cap;
    size_t bytes; /* estimated */
};

struct lane {
    struct msg_queue queue;
    pthread_cond_t cond; /* its writer waits here */
    bool idle;           /* the writer waits and nobody has woken it yet */

    /* Of streams: the exchange that writes. A newer one raises generation,
     * which tells the older that it is over. writer is set while idle is. */
    struct stream_writer *writer;
    bool connected;
    uint64_t generation;
    struct net_stream *conn;
};

/* Connections that we dial: one for each thread that does. */
enum dial_slot { DIAL_MESSAGE, DIAL_MSGAPP, DIAL_POST, DIAL_PROBE, DIALS };

/* Kinds of log lines that are held to a number per minute. */
enum limited_line {
    LINE_DIAL,
    LINE_READ = LINE_DIAL + STREAMS,
    LINE_WRITE = LINE_READ + STREAMS,
    LINE_POST = LINE_WRITE + STREAMS,
    LINE_DROP,
    LINE_PROBE,
    LINE_CLOCK,
    LINE_REFUSED,
    LINE_PROCESS,
    /* A peer that comes and goes, and its streams: some per minute. */
    LINE_STATE,
    LINE_OPENED,
    LINE_LOST = LINE_OPENED + STREAMS,
    LINES = LINE_LOST + STREAMS
};

struct log_limit {
    int64_t since_ns;
    unsigned n;
};

/* Latency of appends, as in /v2/stats/leader; in milliseconds. */
struct follower_stats {
    uint64_t success, fail;
    double current, average, average_square, minimum, maximum;
};

#define RTT_BUCKETS 16

struct peer {
    struct transport *t;
    uint64_t id;
    bool remote;  /* not a member yet: has no streams */
    int refs;     /* transport.mu */
    bool touched; /* transport.mu: something was put into a queue */
    bool due;     /* transport.mu: and is to go by the next transport_flush() */

    pthread_mutex_t mu; /* all below */
    bool stopped;
    pthread_cond_t stop_cond; /* ends the pauses between two dials */
    unsigned running;         /* bits of threads that run */
    char **urls;
    size_t n_urls, pick;
    struct lane lanes[LANES];
    struct client *clients[DIALS]; /* used by one thread each, unlocked */
    struct client_guard guard;     /* of all of them */

    bool unreachable;     /* to be reported by the poster */
    enum lane_kind full;  /* the lane that overflowed last */
    int64_t active_since; /* sys_mono_ns, 0: not active */
    struct log_limit limits[LINES];

    struct follower_stats follower;
    uint64_t sent_bytes, received_bytes, sent_failures, received_failures;
    uint64_t disconnects;
    uint64_t rtt[RTT_BUCKETS + 1];
    double rtt_sum;
};

struct rate_queue {
    struct {
        int64_t ns;
        size_t bytes;
    } samples[PEER_RATE_SAMPLES];
    size_t first, n, bytes;
};

/* An exchange under way, so that transport_stop() can end it. */
struct guest {
    struct net_stream *conn;
    struct guest *prev, *next;
};

struct transport {
    struct transport_config config; /* without advertise_peer_urls */
    char *headers;                  /* of every request */
    int64_t dial_ms, answer_ms;     /* the second from the dial on */
    struct client_guard guard;      /* of those who send snapshots */

    pthread_mutex_t mu; /* all below */
    struct peer **peers;
    size_t n_peers;
    bool stopping;
    size_t users;
    pthread_cond_t idle_cond;  /* users has become 0 */
    pthread_cond_t probe_cond; /* ends the prober's pause */
    struct guest *guests;
    size_t receiving; /* snapshots */
    bool told_removed;
    uint64_t received_from_nobody; /* bytes of keep-alives */
    struct log_limit refused;

    pthread_mutex_t stats_mu; /* all below */
    uint64_t recv_append, sent_append;
    struct rate_queue recv_rate, send_rate;
};

/* --- peer.c ------------------------------------------------------------- */

const char *lane_name(enum lane_kind kind); /* "stream MsgApp v2" */

/* The member of this id, referenced; NULL if there is none. */
struct peer *peer_acquire(struct transport *t, uint64_t id);
/* All members and remotes, referenced; an owned array. */
struct peer **peer_acquire_all(struct transport *t, size_t *n);
void peer_release(struct peer *p); /* NULL is fine */
/* Note one who is not a member here yet, so that answers can reach it. */
void peer_note_remote(struct transport *t, uint64_t id, const char **urls,
                      size_t n);

/* Start a thread that ends with transport_release(t, p, 1). p may be NULL. */
bool transport_start_thread(struct transport *t, struct peer *p,
                            void *(*fn)(void *), void *arg);
/* Drop a reference to p, if any, and n users of t. t may be gone after. */
void transport_release(struct transport *t, struct peer *p, size_t users);
/* Those of the peer's threads that do not run yet. */
void peer_start_threads(struct peer *p);

/* May this line be logged now? At most `per_minute` are. A lock is held. */
bool log_limit_pass(struct log_limit *l, unsigned per_minute);
bool peer_may_log(struct peer *p, enum limited_line line); /* once a minute */
/* A stream of the peer, to our "reader" or from our "writer", came or went. */
void peer_log_opened(struct peer *p, enum lane_kind kind, const char *end);
void peer_log_lost(struct peer *p, enum lane_kind kind, const char *end);

void peer_activate(struct peer *p);
/* etcd's "failed to <action> <peer> on <source> (<reason>)". */
void peer_deactivate(struct peer *p, enum limited_line line, const char *action,
                     const char *source, const char *reason);
/* A peer says that this member is removed: tells the server, once. */
void transport_told_removed(struct transport *t);

/* Deliver a message that a peer has sent in `size` bytes; last as in
 * process(). -1: refused. */
int transport_receive(struct transport *t, const struct raft_msg *m,
                      size_t size, bool last);

void msg_queue_pop(struct msg_queue *q, struct raft_msg *out);
void msg_queue_clear(struct msg_queue *q);

/* --- peerhttp.c --------------------------------------------------------- */

/* Write what is queued for a stream, unless its thread is at it; wake that for
 * what this one cannot write without waiting. */
void peer_write_stream(struct peer *p, enum lane_kind kind);

/* --- peerdial.c: threads, and what ends them. --------------------------- */

void *peer_message_reader(void *peer);
void *peer_append_reader(void *peer);
void *peer_poster(void *peer);
void *transport_prober(void *transport);

/* --- peerstats.c -------------------------------------------------------- */

void rate_add(struct rate_queue *q, int64_t now_ns, size_t bytes);
void follower_succeeded(struct follower_stats *f, int64_t ns, size_t n);
void peer_observe_rtt(struct peer *p, int64_t ns); /* peer.mu is held */

#endif
