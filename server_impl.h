/*
 * server_impl.h - what the files of the server share: server.c (log, disk,
 * apply, life), propose.c (requests, waiters), reads.c (linearizable reads),
 * reconf.c (membership, cluster version, leadership), checkpoint.c (snapshots)
 * and the v3 state's v3server.c, v3sweep.c (watchers, compaction), v3lead.c
 * (what a leader sees to) and v3who.c (users). Nobody else includes it.
 *
 * LOCK ORDER  raft_mu, then mu, then wait_mu; the transport's own locks come
 * after raft_mu. None is held over I/O.
 */
#ifndef SERVER_IMPL_H
#define SERVER_IMPL_H

#include "client.h"
#include "compactor.h"
#include "jwt.h"
#include "server.h"
#include "sys.h"
#include "v3server.h"
#include "wal.h"
#include "ways.h"

#include <sched.h>

#define REQUESTS_AHEAD_MAX 5000 /* committed but not applied: "too many" */
#define READ_RETRY_MS 500
#define SYNC_MS 500 /* TTL expiry */
#define VERSION_MS 4000
#define PURGE_MS 30000
#define LOG_BYTES_MAX (64u * 1024 * 1024) /* of entries kept in memory */
#define WAITER_BUCKETS 1024
#define HOLD_NS (1 * NS_PER_MS) /* what waits for a sync, waits so long */
#define V3_STEP 1000            /* versions that are looked at in one go */
#define PARKED_MAX 4096 /* proposals that wait for a leader, and their bytes */
#define PARKED_BYTES_MAX (32u * 1024 * 1024)

/* What the disk is to make durable next, in order. */
struct disk_batch {
    struct raft_snapshot *snapshot; /* owned; before all else */
    struct raft_entry *entries;     /* owned array, shared data */
    size_t n_entries, cap;
    struct raft_hard_state hard_state;
    bool has_hard_state, must_sync;
    uint64_t seq; /* of the last Ready in it; 0: empty */
};

/* What is to be applied next, in order: a snapshot, then entries. */
struct apply_item {
    struct apply_item *next;
    struct raft_snapshot *snapshot; /* owned, or NULL */
    struct raft_entry *entries;
    size_t n_entries, cap;
};

struct snapshot_order { /* a follower is to be sent a snapshot */
    struct snapshot_order *next;
    struct raft_msg msg;
};

struct server {
    const struct config *config;
    uint64_t id;
    struct cluster *cluster;
    char cluster_id_text[17];
    struct transport *transport;
    int lock_fd;
    int64_t start_wall_ns;
    uint64_t next_id; /* atomic: request ids */

    pthread_mutex_t raft_mu;
    struct raft *raft;        /* raft_mu */
    struct disk_batch disk;   /* raft_mu */
    struct raft_entry *spare; /* raft_mu; an empty array for the next */
    size_t spare_cap;
    bool disk_busy;                 /* raft_mu; its holder owns wal */
    int64_t disk_began_ns;          /* raft_mu; when disk_busy was set */
    int64_t last_write_ns;          /* raft_mu; how long the last batch took */
    int64_t write_ns;               /* raft_mu; the lesser of the last two */
    unsigned crowd;                 /* raft_mu; see server_work() */
    struct ways disk_ways;          /* raft_mu; see write_alone() */
    unsigned disk_awaited;          /* raft_mu; who wait there, and apply */
    unsigned n_written;             /* raft_mu for writing; atomic: batches */
    int disk_cpu;       /* raft_mu; where the disk thread must stay; or -1 */
    cpu_set_t anywhere; /* raft_mu; where it may go else; empty: unknown */
    unsigned gathered;              /* raft_mu; see server_gather() */
    unsigned held;                  /* raft_mu; proposals not handed on yet */
    bool held_commit;               /* raft_mu; so are messages of it */
    bool answer_first;              /* raft_mu; and who holds it sends them */
    bool flush_due;                 /* raft_mu; who lets it go flushes */
    int64_t heartbeat_sent_ns;      /* raft_mu; the last one; 0: none yet */
    bool flush_commit;              /* raft_mu; write even that alone */
    unsigned disk_takers;           /* raft_mu; who wait in take_disk */
    pthread_cond_t disk_cond;       /* raft_mu; work came, or disk idle */
    struct apply_item *apply_first; /* raft_mu */
    struct apply_item *apply_last;
    size_t apply_queued;        /* raft_mu; entries */
    bool apply_busy;            /* raft_mu; its holder applies */
    pthread_cond_t apply_cond;  /* raft_mu */
    pthread_cond_t leader_cond; /* raft_mu; leader or stopping changed */
    uint64_t leader;            /* raft_mu; as last seen */
    raft_term term;
    enum raft_role role;
    int64_t leader_since_ns, leader_since_wall_ns; /* raft_mu */
    int64_t leader_lost_ns;        /* raft_mu; when it was last lost */
    struct snapshot_order *orders; /* raft_mu */
    bool stopping;                 /* raft_mu */

    /* Linearizable reads: rounds of ReadIndex, shared by all who wait. */
    pthread_cond_t read_cond; /* raft_mu */
    uint64_t read_ctx;        /* raft_mu; of the round under way, 0: none */
    uint64_t read_started, read_done; /* raft_mu; numbers of rounds */
    uint64_t read_wanted;             /* raft_mu; highest round asked for */
    raft_index read_index;            /* raft_mu; of the last finished */
    int64_t read_sent_ns;             /* raft_mu */
    struct v3_read *reads_asking;     /* raft_mu; their round is not over */
    struct v3_read *reads_waiting;    /* raft_mu; for index to be applied */

    struct parked *parked_first, *parked_last; /* raft_mu */
    size_t n_parked, parked_bytes;             /* raft_mu */

    struct wal *wal; /* the holder of disk_busy */

    pthread_mutex_t mu;
    struct store *store;            /* mu */
    struct v3 *v3;                  /* mu */
    unsigned v3_era;                /* mu; counts the stores that were v3 */
    unsigned v3_held;               /* mu; who reads v3->mvcc in steps */
    struct old_store *v3_old;       /* mu; replaced, and still read */
    struct v3 *incoming;            /* mu; came with a snapshot to be applied */
    raft_index incoming_index;      /* mu; of that snapshot */
    raft_index adopt_index;         /* mu; its file is to become db; 0: none */
    int64_t compact_began_ns;       /* mu; of a compaction under way, or 0 */
    struct waiter *compact_waiters; /* mu; for a compaction's end */
    bool sweep_stopped;             /* mu */
    bool near_quota, nospace_due;   /* mu */
    raft_term primary_term;       /* mu for writing; atomic; leases run in it */
    uint64_t db_bytes;            /* mu; of the file as last written */
    raft_index db_index;          /* of that file; the checkpointer's */
    struct backend_file *db_file; /* likewise; NULL: none to go on with */
    /* mu, written by the checkpointer: it holds this v3_era (0: it cannot be
     * appended to), and so far it was compacted. */
    unsigned db_era;
    int64_t db_finished;
    uint64_t v3_bytes;       /* atomic; v3_size() as last applied */
    uint64_t apply_wants;    /* atomic; the applier waits for mu, or has it */
    raft_index last_applied; /* mu for writing; atomic for reading */
    raft_term applied_term;
    bool v2_auth_on;                   /* mu for writing; atomic for reading */
    bool is_learner;                   /* likewise; as conf_state has it */
    struct raft_conf_state conf_state; /* mu; as of last_applied */
    pthread_cond_t applied;            /* mu; last_applied moved */
    unsigned applied_waiters;          /* mu */
    bool apply_stopped;            /* mu; nothing will be applied any more */
    uint64_t bytes_since_snapshot; /* mu */
    raft_index snapshot_index;     /* mu; of the newest on disk */
    bool checkpoint_due;           /* mu */

    pthread_mutex_t wait_mu;
    struct waiter *waiters[WAITER_BUCKETS]; /* wait_mu */
    uint64_t n_waiters;

    pthread_mutex_t job_mu; /* wakes checkpoint and monitor; a leaf */
    pthread_cond_t job_cond;
    bool want_checkpoint, want_monitor, jobs_stop; /* job_mu */
    pthread_cond_t sweep_cond;                     /* job_mu */
    bool want_sweep;                               /* job_mu */

    uint64_t next_refusal_ns;  /* atomic; when a bad message may be told of */
    struct client_guard guard; /* of what the monitor asks others */

    struct jwt_options jwt; /* signed tokens; else simple ones */
    struct jwt_key jwt_key;
    struct buf jwt_secret;        /* of a MAC */
    struct pk_public *jwt_public; /* or a pair; owned; NULL: not given */
    struct pk_private *jwt_private;

    /* What the ticker does while this member leads. */
    struct compactor compactor;
    struct v3_write auto_compaction;
    bool auto_compacting;
    int auto_outcome; /* atomic; 1, -1: how it went; 0: nothing new */
    struct v3_read lease_round;
    bool lease_round_busy; /* atomic */
    int64_t next_lease_tick_ns, next_compactor_ns;

    struct member *peers; /* monitor thread: what the transport knows */
    size_t n_peers;

    bool removed; /* job_mu for writing; atomic for reading */
    pthread_cond_t removed_cond;

    pthread_t ticker, disk_thread, apply_thread, checkpointer, monitor;
    pthread_t sweeper;
    int n_threads; /* how many of them run */
};

/* --- server.c ----------------------------------------------------------- */

void server_lock_raft(struct server *s);
void server_unlock_raft(struct server *s); /* handles what became ready */
/* Let raft_mu go without that, and give the transport what is due. The one way
 * to let it go but for a wait, before which comes server_flush(). */
void server_leave_raft(struct server *s);
/* raft_mu is held, and released meanwhile if something is due. */
void server_flush(struct server *s);
/* The disk is busy, and by experience not for long. raft_mu is held. */
bool server_syncs_soon(const struct server *s);
/*
 * The disk is idle, but slow, and clients share its syncs: what is proposed stays
 * in raft until the disk thread, told of it here, has gathered the others'. Those
 * whom one sync answers come back one after the other; if the first had the next
 * sync alone, that would split the crowd into two that wait for each other's.
 * False: hand it on. raft_mu is held.
 */
bool server_gather(struct server *s);
/* Take the disk for oneself, with everything written that was queued; give it
 * back. For the checkpoint's record in the log. */
void server_take_disk(struct server *s);
void server_give_disk(struct server *s);
void server_wake_jobs(struct server *s, bool checkpoint, bool monitor);

/* A PUT below /0 in the v2 store, as if it had come by the log. By the applier,
 * mu is held. */
void server_put_membership(struct server *s, struct str path, struct str value);

/* conf_state is another one now (taken). mu is held, or nobody else is here. */
void server_set_conf_state(struct server *s, struct raft_conf_state *cs);

/* What raft has ready goes to transport, disk and applier; raft_mu is held. */
void server_handle_ready(struct server *s);
/*
 * Something was proposed. A lone client's thread writes and applies it here and
 * now, if nobody is at it. In a crowd (several entries shared a sync of late) the
 * first to come would sync its own alone, and all others wait for that: there it
 * is left to the disk and apply threads. raft_mu is held, and released meanwhile.
 */
void server_work(struct server *s);
void server_wake_workers(struct server *s); /* raft_mu is held */

/* --- propose.c ---------------------------------------------------------- */

uint64_t server_next_id(struct server *s);
int64_t server_request_timeout_ms(const struct server *s);
/* Propose data (takes it) and wait for w, at most timeout_ms. SERVER_*; 0:
 * w holds the result. */
int server_propose(struct server *s, struct blob *data, bool conf_change,
                   struct waiter *w, int64_t timeout_ms);

/* The same for one with w->finish, which is called whatever becomes of it. */
void server_propose_async(struct server *s, struct blob *data, struct waiter *w,
                          bool more);
/* Hand on what was proposed with `more`. */
void server_propose_flush(struct server *s);
/* Propose what was parked, if there is a leader now. True: raft has something
 * ready. raft_mu is held, in both. */
bool parked_retry(struct server *s);
void parked_drop(struct server *s, bool all); /* those nobody waits for */
/* Which of the timeouts is it? began_ns is when the request came. */
int server_timeout_reason(struct server *s, int64_t began_ns);

/* Whoever takes a waiter out of the table alone may finish it. NULL: nobody
 * waits (any more). */
struct waiter *waiter_take(struct server *s, uint64_t id);
void waiters_finish(struct waiter *list);      /* without a lock held */
void waiters_expire(struct server *s);         /* those that are late */
void waiters_fail(struct server *s, int code); /* all */
/* Takes those whose proposals were lost with a leader before this term. */
struct waiter *waiters_before_term(struct server *s, raft_term term);

/* --- reads.c ------------------------------------------------------------ */

void reads_finish(struct server *s, const struct raft_read *read); /* raft_mu */
void reads_retry(struct server *s, int64_t now_ns);                /* raft_mu */
/* Call those who may read now. raft_mu is held, and released meanwhile. */
void reads_tell(struct server *s);
/* Until index is applied: 0, SERVER_ETIMEOUT or SERVER_ESTOPPED. */
int server_wait_applied(struct server *s, raft_index index, int64_t deadline);
/* End those whose time is up with SERVER_*. No lock is held. */
void reads_expire(struct server *s, int64_t now_ns, int code);

/* --- reconf.c ----------------------------------------------------------- */

/* Apply a committed configuration change. Called by the applier with mu held
 * and raft_mu not; *code is what its proposer is told. */
void reconf_apply(struct server *s, const struct raft_entry *entry,
                  uint64_t *id, int *code);
bool reconf_readable(const struct raft_entry *entry); /* could it be applied? */
/* Make the members of c the transport's peers, and drop the removed ones. By
 * the monitor thread, or before it runs. */
void reconf_follow_peers(struct server *s, const struct cluster *c);
void reconf_removed_self(struct server *s);
void reconf_hand_over(struct server *s); /* leadership, before a stop */
void *reconf_monitor(void *server);      /* thread: peers, cluster version */

/* --- v3server.c --------------------------------------------------------- */

enum v3_error v3_error_of_server(int code); /* SERVER_*, CLUSTER_* or 0 */
/*
 * Apply a request of the log. By the applier, with mu held, and given up while
 * a password is hashed. w (NULL: nobody) is to be finished by the caller then,
 * unless it comes back false: later, by the sweeper.
 */
bool v3_apply_entry(struct server *s, const struct raft_entry *entry,
                    const struct entry_request *req, struct waiter *w);
/* A request as an entry's data. */
struct blob *v3_encode(uint64_t id, uint32_t field, struct str bytes,
                       struct auth_who who);
/* Propose what nobody waits for. */
void v3_propose(struct server *s, uint32_t field, struct str bytes,
                struct auth_who who);
void v3_raise_alarm(struct server *s, uint64_t member, int kind);
/* The applier's batch is done, or mu is given up: watchers hear of what was
 * applied since. mu is held. */
void v3_applied(struct server *s);

/* --- v3sweep.c ---------------------------------------------------------- */

void *v3_sweep_thread(void *server);
void v3_sweep_wake(struct server *s);
/* Finish w when the compaction of its result is; mu is held. False: it is. */
bool v3_sweep_wait(struct server *s, struct waiter *w);
/* Between two steps under mu, without it: an applier that waits comes first. */
void v3_give_way(struct server *s);
/* The thread has ended: nobody is kept waiting. */
void v3_sweep_stopped(struct server *s);
/* A leader's snapshot has been loaded: it becomes the state. mu is held. What
 * is returned, which may be NULL, is freed by the caller without the lock. */
struct v3 *v3_replace(struct server *s, struct v3 *v);
/* To read in steps what may be replaced meanwhile; mu is held. _unhold() gives
 * what is to be freed, as above. */
void v3_hold(struct server *s);
struct mvcc *v3_unhold(struct server *s, struct mvcc *m);

/* --- v3lead.c ----------------------------------------------------------- */

/* Leases begin and cease to run out on this member as it gains and loses the
 * leadership. raft_mu is held. */
void v3_follow_role(struct server *s);
/* By the ticker, without a lock: what is due. */
void v3_lead(struct server *s, int64_t now_ns);

/* --- v3corrupt.c -------------------------------------------------------- */

/* Before serving: -1 and e if another member's keys differ. Blocking. */
int v3_check_initial(struct server *s, struct err *e);
/* As the leader, raise the alarm for those whose keys differ. Blocking. */
void v3_check_members(struct server *s);

/* --- v3who.c ------------------------------------------------------------ */

int v3_who_init(struct server *s, struct err *e); /* --auth-token */
void v3_who_release(struct server *s);

/* --- v3disk.c ----------------------------------------------------------- */

/* The state at one moment, to be written while it changes. */
struct v3_pinned;
struct v3_pinned *v3_pin(struct server *s); /* mu is held */
void v3_unpin(struct v3_pinned *p);
/* What mu need not be held for: the size of the file; `db`, by the
 * checkpointer; the bytes, for which it must have been measured. */
uint64_t v3_pinned_measure(struct v3_pinned *p);
int v3_pinned_save(struct v3_pinned *p, struct err *e);
int v3_pinned_write(struct v3_pinned *p, snap_sink *sink, void *arg,
                    struct err *e);
/* The file of a leader's snapshot becomes db. By the checkpointer. */
void v3_adopt(struct server *s);
/* Load what came with a leader's snapshot, for v3_install(). -1 and e: refuse
 * the snapshot. Without a lock. */
int v3_receive(struct server *s, raft_index index, struct err *e);
/* It is the state from now on; mu is held. As v3_replace(). */
struct v3 *v3_install(struct server *s, raft_index index);

/* --- checkpoint.c ------------------------------------------------------- */

void *checkpoint_thread(void *server);
/* Is one due? Called by the applier with mu held. */
void checkpoint_consider(struct server *s);

#endif
