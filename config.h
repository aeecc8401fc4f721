/*
 * config.h - settings of the server: one table of flags, and from it the
 * command line, ETCD_* environment, YAML file and --help (spec: server, 1-4).
 */
#ifndef CONFIG_H
#define CONFIG_H

#include "buf.h"
#include "log.h"
#include "url.h"

#define ETCD_VERSION "3.4.23"
#define ETCD_MIN_CLUSTER_VERSION "3.0.0"

/* Defaults that others build on. */
#define CONFIG_NAME "default"
#define CONFIG_PEER_URL "http://localhost:2380"
#define CONFIG_CLIENT_URL "http://localhost:2379"
#define CONFIG_CLUSTER CONFIG_NAME "=" CONFIG_PEER_URL

struct secure;

struct tls_files { /* see secure.h */
    char *cert_file, *key_file, *trusted_ca_file, *crl_file;
    char *client_cert_file, *client_key_file;
    char *allowed_cn, *allowed_hostname;
    bool client_cert_auth, auto_tls;
};

/* All strings owned; "" when not set. Durations in the named unit. */
struct config {
    char *name, *data_dir;
    char *wal_dir;               /* "" means member_dir/wal */
    char *member_dir, *snap_dir; /* derived: DATA/member, .../snap */
    uint64_t snapshot_count, snapshot_catchup_entries;
    int64_t heartbeat_ms, election_ms;
    bool initial_election_tick_advance;
    /* The client list also holds the --listen-client-http-urls. */
    struct url_list listen_peer_urls, listen_client_urls, listen_metrics_urls;
    uint64_t max_snapshots, max_wals; /* 0: keep all */
    uint64_t max_request_bytes, max_txn_ops;
    uint64_t max_concurrent_streams;
    int64_t quota_backend_bytes; /* 0: 2 GiB; negative: none */
    int64_t grpc_keepalive_min_ns, grpc_keepalive_interval_ns;
    int64_t grpc_keepalive_timeout_ns;
    bool socket_reuse_port, socket_reuse_address;

    struct url_list initial_advertise_peer_urls, advertise_client_urls;
    char *initial_cluster, *initial_cluster_token;
    bool initial_cluster_existing; /* --initial-cluster-state existing */
    char *discovery, *discovery_proxy, *discovery_srv, *discovery_srv_name;
    bool strict_reconfig_check, enable_v2, pre_vote;
    char *auto_compaction_mode, *auto_compaction_retention;
    bool lease_checkpoint, lease_checkpoint_persist;
    bool initial_corrupt_check;
    int64_t corrupt_check_ns; /* 0: never */
    int max_learners;

    struct tls_files client_tls, peer_tls;
    bool peer_skip_client_san;
    char *cipher_suites, *tls_min_version, *tls_max_version; /* as given */
    uint64_t self_signed_years;
    /* Borrowed, from who runs the server; NULL: no TLS for this side. Clients'
     * requests are served with the first, peers' with the second, which is
     * also what peers are dialled with. */
    struct secure *secure_client, *secure_peer;
    char *cors, *host_whitelist; /* comma lists; "*" allows all, "" none */

    char *auth_token;
    uint64_t bcrypt_cost, auth_token_ttl_s;
    bool strict_auth;

    bool enable_pprof, metrics_extensive, debug, enable_grpc_gateway;
    int64_t watch_progress_notify_ns; /* 0: 10 minutes */
    char *log_outputs, *log_package_levels;
    enum log_format log_format;

    bool force_new_cluster, unsafe_no_fsync;
    int64_t warning_apply_ms;
    int64_t warning_unary_ms; /* 0: never */

    char *config_file;
    /* The command line as given, for /debug/vars; borrowed. */
    int argc;
    char **argv;
};

enum config_outcome {
    CONFIG_RUN,
    CONFIG_EXIT, /* help or version was printed, or an error: exit_code */
};

/*
 * Read command line, environment and file, check them and fill *c (owned,
 * config_release()). Opens the log that they ask for. Prints usage and errors
 * itself, as etcd does, and then gives the exit code (0, 1 or 2).
 */
enum config_outcome config_load(struct config *c, int argc, char **argv,
                                int *exit_code);
void config_release(struct config *c); /* twice is fine */

/* What --version and the first log lines tell: "linux/amd64". */
const char *config_os_arch(void);
#define ETCD_GO_VERSION "none (C)"
#ifndef ETCD_GIT_SHA
#define ETCD_GIT_SHA "Not provided"
#endif

#endif
