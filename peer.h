/*
 * peer.h - rafthttp: how members talk (spec: raft-and-storage, 11).
 *
 * Each member dials every peer and keeps two endless answers open, one for
 * appends and one for all else; messages flow from the dialled to the
 * dialler. What has no stream goes by POST /raft, snapshots by POST
 * /raft/snapshot. A sender never blocks its caller: each peer has bounded
 * queues, and what does not fit is dropped and reported, for Raft repeats it.
 *
 * THREADS  per peer: two stream readers, which dial, and a poster. The writer
 * of a stream is the HTTP connection's own thread, or, while that has nothing
 * to do, whoever has something for it (transport_flush()). One prober for all,
 * and one thread for each snapshot under way.
 */
#ifndef PEER_H
#define PEER_H

#include "buf.h"
#include "http.h"
#include "raftpb.h"
#include "snap.h"
#include "url.h"

#define PEER_QUEUE_BYTES_MAX (64u * 1024 * 1024) /* per stream */
#define PEER_QUEUE_MSGS_MAX 4096
#define PEER_MSG_MAX (512u * 1024 * 1024)
#define PEER_SNAP_MAX 16 /* snapshots being received at once */

struct transport;

/* Called from the transport's threads, without any lock of it held. */
struct transport_callbacks {
    /* A message for this member; borrows m. last: nothing else has come on its
     * stream, so its thread has time, and nobody waits for an answer. -1: refuse
     * it (500). */
    int (*process)(void *arg, const struct raft_msg *m, bool last);
    bool (*is_removed)(void *arg, uint64_t id);
    void (*report_unreachable)(void *arg, uint64_t id);
    void (*report_snapshot)(void *arg, uint64_t id, bool ok);
    void (*removed_self)(void *arg); /* a peer answered that we are removed */
    void *arg;
};

struct transport_config {
    uint64_t id, cluster_id;
    const struct url_list *advertise_peer_urls; /* for X-PeerURLs; borrowed */
    int64_t heartbeat_ms, election_ms;
    /* Where the database of a snapshot that comes is put, synced, before
     * process() hears of the message (snap_save_db()). */
    const char *snap_dir;
    bool no_fsync;
    struct secure *secure; /* for https URLs of peers: client.h; borrowed */
    struct transport_callbacks callbacks;
};

int transport_new(const struct transport_config *config, struct transport **out,
                  struct err *e);
/* Closes all streams, ends all threads. Callbacks may come until it returns. */
void transport_stop(struct transport *t);
void transport_free(struct transport *t);

void transport_add_peer(struct transport *t, uint64_t id, const char **urls,
                        size_t n);
void transport_update_peer(struct transport *t, uint64_t id, const char **urls,
                           size_t n);
void transport_remove_peer(struct transport *t, uint64_t id);
void transport_remove_all(struct transport *t);

/*
 * Queue messages for their addressees. Copies, sharing blobs. Not MsgSnap. They
 * go with the next transport_flush(), which the caller owes.
 */
void transport_send(struct transport *t, const struct raft_msg *m, size_t n);
/* The same for what may wait for the next transport_send(), which may send
 * nothing of its own. */
void transport_hold(struct transport *t, const struct raft_msg *m, size_t n);
/* Write what is due, as far as no socket makes one wait; without the lock that
 * the callbacks take. */
void transport_flush(struct transport *t);

/* The parts of a MsgSnap, produced on demand (snap.h). */
struct transport_snapshot {
    snap_source *data; /* of the message: the v2 store */
    snap_source *db;   /* behind it: the v3 state, n_db bytes */
    uint64_t n_db;
    void *from; /* for both, and for: */
    void (*done)(void *from);
};

/*
 * Send a MsgSnap, on a thread of its own; done(from) is called once, after the
 * last use of the sources. The outcome comes by report_snapshot(). If no
 * thread can be had, both are called from within.
 */
void transport_send_snapshot(struct transport *t, const struct raft_msg *m,
                             const struct transport_snapshot *snap);

/*
 * Serve one exchange on a peer URL if its path is ours (/raft, /raft/...).
 * False: not ours, nothing was answered.
 */
bool transport_handle(struct transport *t, struct http_exchange *x);

/* Since when (sys_mono_ns) the peer has been connected; 0: it is not. */
int64_t transport_active_since(const struct transport *t, uint64_t id);
size_t transport_active_count(const struct transport *t);
/* The peer that has been connected longest, among voters; 0: none. */
uint64_t transport_longest_connected(const struct transport *t,
                                     const struct raft_ids *voters);

/* What /v2/stats/self counts. */
struct transport_stats {
    uint64_t recv_append, sent_append;
    double recv_pkg_rate, recv_bandwidth; /* per second, last 200 messages */
    double send_pkg_rate, send_bandwidth;
};

void transport_stats(struct transport *t, struct transport_stats *out);
/* {"leader":"ID","followers":{"ID":{"latency":{...},"counts":{...}}}} */
void transport_leader_stats_json(struct transport *t, struct buf *b);
/* Prometheus samples of etcd_network_peer_*, in the order metrics.c wants. */
struct metrics_page;
void transport_metrics(struct transport *t, struct metrics_page *page);

/* --- Codec of the streams: pure (spec 11.5). ---------------------------- */

struct msgapp_state { /* per stream and direction */
    raft_term term;
    raft_index index;
};

/* Append one frame of the message stream. */
void peer_encode_message(struct buf *b, const struct raft_msg *m);
/* Append one frame of the append stream: compact where the state allows. */
void peer_encode_msgapp(struct buf *b, struct msgapp_state *st,
                        const struct raft_msg *m);
/*
 * Decode a frame from p[0..n): bytes consumed and an owned *out; 0 if more is
 * needed (*need says how many bytes at least in all); or -1 on bad bytes. A
 * keep-alive gives *out of type RAFT_MSG_HEARTBEAT with to and from 0.
 */
int64_t peer_decode_message(const uint8_t *p, size_t n, size_t *need,
                            struct raft_msg *out);
int64_t peer_decode_msgapp(const uint8_t *p, size_t n, size_t *need,
                           struct msgapp_state *st, uint64_t from, uint64_t to,
                           struct raft_msg *out);

/* --- Asking peers by HTTP, before and beside Raft. ---------------------- */

/* secure is for https URLs: client.h. */

/* GET /members of the first of urls that answers: members and cluster id. The
 * others' failures are logged, unless e is NULL. */
struct member;
struct secure;
int peer_get_members(const char *const *urls, size_t n, int64_t timeout_ms,
                     struct secure *secure, struct member **out, size_t *n_out,
                     uint64_t *cluster_id, struct err *e);
/* GET /version: out gets "3.4.23" and, if wanted, the cluster's. guard (NULL:
 * none) may end it from another thread. */
struct client_guard;
int peer_get_version(const char *url, int64_t timeout_ms,
                     struct client_guard *guard, struct secure *secure,
                     char server[32], char cluster[32], struct err *e);

#endif
