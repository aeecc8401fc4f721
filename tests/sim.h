/*
 * sim.h - what the files of the simulator share: the world of one run, its
 * machines, its network, what is checked.
 */
#ifndef SIM_H
#define SIM_H

#include "boot.h"
#include "server_impl.h"
#include "simdisk.h"
#include "simos.h"

#define HOSTS_MAX 7

/* A run's settings, all drawn from its seed. */
struct sim_params {
    int members; /* founders */
    int clients, keys;
    bool fifo;                /* messages of one link keep their order */
    unsigned loss, duplicate; /* per mille of the messages, while it storms */
    int64_t delay_max;        /* ns */
    bool partitions, crashes, pauses, membership, transfers, slow_disks;
    bool disk_errors, flips, restarts;
    int64_t skew_max; /* of wall clocks */
    int64_t storm;    /* how long the faults go on, ns */
    uint64_t snapshot_count, catchup;
    int64_t segment_bytes;
    bool pre_vote, strict;
    unsigned yield; /* per mille of the locks taken */
};

/* What is durable on a machine's disk, as the calls of wal.h tell it. */
struct durable {
    raft_term *terms; /* by index; 0: none, or in the snapshot */
    size_t cap;
    raft_index last;
    struct raft_hard_state hard_state;
    struct wal_snapshot snapshot;
};

struct expected { /* an entry on its way to the store */
    raft_index index;
    uint64_t id;
    bool is_v2, may_skip;
};

struct host_check {
    struct durable disk, written; /* synced; and with what is not synced */
    raft_index dirty_from;        /* first index not synced; 0: none */
    struct wal_snapshot mark;     /* of the last snapshot record */
    struct raft *raft;
    raft_term lead_term; /* it has been seen to lead in it */
    raft_index lead_last, lead_commit, lead_conf;
    struct expected *queue; /* a ring */
    size_t head, n, cap;
    raft_index handed;   /* last entry that raft gave out as committed */
    uint64_t index_seen; /* highest store index that a read showed */
    int64_t v3_seen;     /* highest v3 revision in this life, likewise */
};

enum host_state {
    HOST_DOWN,
    HOST_BOOTING,
    HOST_SERVING, /* peers are heard */
    HOST_READY,   /* and clients */
};

struct host { /* a machine with one member on it, or none */
    int n;
    char name[8], url[32], client_url[32], dir[32];
    struct simdisk *disk;
    struct sim_proc *proc;
    struct server *server;
    struct transport *transport;
    enum host_state state;
    uint64_t id; /* of the member whose data is on the disk; 0: none */
    char *initial_cluster;
    bool existing;     /* it joins */
    bool in_use;       /* is, or is going to be, a member */
    bool retired;      /* the cluster removed it */
    bool refused;      /* it would not start, for its disk was damaged */
    bool damaged;      /* bits of its disk were flipped */
    bool disk_failing; /* its disk gives errors: it may die */
    bool stop_asked;
    struct sim_queue stop;
    int handlers;       /* requests under way */
    int64_t since;      /* when its process began */
    int64_t restart_at; /* when it is down */
    int64_t sync_ns_max;
    int crash_in; /* disk operations until it crashes; 0: not */
    struct host_check check;
};

struct sim_counts { /* of what happened, for the summary */
    uint64_t writes, reads, unknown, refused, watches, events, crashes,
        restarts, messages, lost, snapshots, elections, added, removed,
        promoted, flips, pauses, transfers, applied, expired, checkpoints;
    uint64_t v3_writes, v3_reads, v3_unknown, v3_applied, v3_events, v3_resumed,
        v3_compacted, v3_leases, v3_expired, v3_renewed, v3_loaded;
};

struct world {
    uint64_t seed;
    struct sim_params p;
    struct host hosts[HOSTS_MAX + 1];       /* from 1 on */
    bool storm;                             /* faults happen */
    bool cut[HOSTS_MAX + 1][HOSTS_MAX + 1]; /* from, to */
    int64_t changed[HOSTS_MAX + 1][HOSTS_MAX + 1];
    int slow_host;           /* its messages take long; 0: none */
    raft_index acknowledged; /* the highest index that a client was told of */
    struct sim_counts count;
};

extern struct world sim;

/* --- Telling (sim_test.c). ---------------------------------------------- */

extern bool sim_tracing;
void sim_trace_line(int host, const char *fmt, ...) PRINTF(2, 3);
#define TRACE(host, ...)                                                       \
    do {                                                                       \
        if (sim_tracing)                                                       \
            sim_trace_line((host), __VA_ARGS__);                               \
    } while (0)
/* A property does not hold: the end of the run. */
_Noreturn void sim_fail(const char *fmt, ...) PRINTF(1, 2);
#define REQUIRE(cond, ...)                                                     \
    do {                                                                       \
        if (!(cond))                                                           \
            sim_fail(__VA_ARGS__);                                             \
    } while (0)

/* --- Machines (simhost.c). ---------------------------------------------- */

void host_init(struct host *h, int n);
void host_start(struct host *h);
void host_crash(struct host *h, bool power); /* may not return */
void host_stop(struct host *h);              /* asks it to end in order */
void host_wipe(struct host *h);
struct host *host_self(void); /* of the running fiber; NULL: none */
struct host *host_by_url(const char *url);
struct host *host_by_id(uint64_t id);

/* --- The network (simnet.c). -------------------------------------------- */

bool net_reaches(const struct host *from, const struct host *to);
void net_cut(int from, int to, bool cut);
void net_heal(void);

/*
 * Have serve(server, body) run on a host, as a request of a client or of a
 * peer (from NULL: a client). body is copied there, and back when the answer
 * comes. False: nobody answered in time, or the connection was refused; what
 * was asked may then have been done or not, and copies of body's pointers may
 * be used there still.
 */
typedef void net_serve(struct server *s, void *body);
enum net_outcome { NET_ANSWERED, NET_REFUSED, NET_LOST };
enum net_outcome net_call(struct host *from, struct host *to, net_serve *serve,
                          void *body, size_t n, int64_t timeout);

/* --- What must hold (simcheck.c). --------------------------------------- */

void check_init(void);
void check_sent(struct host *h, const struct raft_msg *m);
void check_host_gone(struct host *h); /* its process ended */
void check_host_wiped(struct host *h);
uint64_t check_store_digest(struct server *s);
/* json: the store, as a checkpoint or a message has it. */
void check_snapshot(const struct host *h, const struct raft_snapshot *meta,
                    struct str json);
raft_index check_last_committed(void);
/* Has it applied every change of membership that is committed? */
bool check_knows_members(const struct server *s);
/* ... that concern the member on h. */
bool check_knows_host(const struct server *s, const struct host *h);

/* A change of a key that was committed. */
struct change {
    uint64_t index; /* of the store */
    const char *action;
    const char *path;  /* without /1 */
    const char *value; /* NULL: none */
};

size_t check_changes(const struct change **out); /* all, in order */
/* The key's state when the store was at index. NULL: not there. */
const char *check_value_at(const char *path, uint64_t index,
                           uint64_t *modified);
/* What was answered for the entry at raft_index: its code and store index. */
bool check_result(raft_index raft_index, int *code, uint64_t *modified);

/* --- What must hold of the v3 state (simv3check.c). ---------------------- */

/* The revision behind the entry at index. */
int64_t check_v3_revision(raft_index index);
/* Where the request was applied, and what that gave; false: nowhere. */
bool check_v3_answer(uint64_t id, raft_index *index, const char **answer);
/* Is it what the log makes of it, in whole? */
void check_v3_state(const struct host *h, const struct v3 *v);
void check_v3_applied(const struct host *h, raft_index index, bool whole);

/* --- Clients of v3 (simv3client.c). --------------------------------------- */

void v3clients_start(void);
void v3clients_stop(void); /* returns when all have ended */
/* When nothing is asked any more: leases end, watchers have heard of all. */
void v3clients_settle(void);
/* The lease of a request to revoke is gone; bytes: the request. */
void v3clients_revoked(const struct host *h, struct str bytes);
struct str v3clients_key(void); /* one of those in use */
struct str v3clients_end(void); /* of a range */
size_t v3clients_copy_key(char out[8], struct str s);

/* --- Watchers of v3 (simv3watch.c). --------------------------------------- */

void v3watch_start(void);
void v3watch_settle(int64_t deadline); /* until all have heard of all */

/* --- Clients (simclient.c). --------------------------------------------- */

struct linear_op;

struct host *clients_pick(void); /* one that serves; NULL: none */
/* Another operation for the history, and a moment on its clock. */
struct linear_op *clients_operation(void);
int64_t clients_moment(void);

void clients_start(void);
void clients_stop(void); /* returns when all have ended */
void clients_judge(void);
bool client_write_once(struct host *h); /* for the end: does it go through? */

/* --- Faults (simfault.c). ------------------------------------------------ */

void faults_run(void); /* the storm, from its beginning to its end */
/* No more faults: all machines run, and all members have the same state
 * within a minute. */
void faults_heal(void);

#endif
