/*
 * flags.c - the table of flags, and values of their types.
 *
 * All else about settings reads the rows: the command line, the environment,
 * the file and --help. A new flag is a new row. A value is text until
 * flag_store() turns it into a member of struct config; flag_check() is the
 * same parser without the storing, so that what was checked can be stored.
 */
#include "flags.h"
#include "sys.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>

#define NAME_LEN_MAX 63 /* of a flag that could be meant */

#define G_MEMBER "Member"
#define G_CLUSTER "Clustering"
#define G_SECURITY "Security"
#define G_AUTH "Auth"
#define G_MONITORING "Profiling and Monitoring"
#define G_LOGGING "Logging"
#define G_API "API"
#define G_UNSAFE "Unsafe feature"
#define G_OTHER "Other"

#define SERVER_TLS "client-transport-security/"
#define PEER_TLS "peer-transport-security/"

#define AT(member) ((int)offsetof(struct config, member))

/* clang-format off */
#define ROW(name, type, group, member, def, help)                              \
    {name, FLAG_##type, AT(member), 0, def, group, help, NULL, NULL}
#define ROW_EXP(name, type, group, member, def, help)                          \
    {name, FLAG_##type, AT(member), FLAG_EXPERIMENTAL, def, group, help, NULL, \
     NULL}
#define ROW_EXP_AT(name, type, group, member, def, yaml, help)                 \
    {name, FLAG_##type, AT(member), FLAG_EXPERIMENTAL, def, group, help, yaml, \
     NULL}
#define ROW_AT(name, type, group, member, def, yaml, help)                     \
    {name, FLAG_##type, AT(member), 0, def, group, help, yaml, NULL}
/* Read by name where it matters. */
#define READ(name, type, group, def, help)                                     \
    {name, FLAG_##type, FLAG_NOWHERE, 0, def, group, help, NULL, NULL}
#define ENUM(name, group, def, choices, help)                                  \
    {name, FLAG_ENUM, FLAG_NOWHERE, 0, def, group, help, NULL, choices}
#define ENUM_AT(name, group, member, def, choices, help)                       \
    {name, FLAG_ENUM, AT(member), 0, def, group, help, NULL, choices}
/* On the command line only. */
#define ARG(name, type, at, def, help)                                         \
    {name, FLAG_##type, at, FLAG_NOT_IN_FILE, def, G_OTHER, help, NULL, NULL}
#define TLS(name, type, member, yaml, help)                                    \
    {name, FLAG_##type, AT(member), FLAG_NEEDS_TLS, TLS_OFF_##type,            \
     G_SECURITY, help, yaml, NULL}
#define TLS_OFF_STRING ""
#define TLS_OFF_LIST ""
#define TLS_OFF_BOOL "false"
#define READ_TLS(name, yaml, help)                                              \
    {name, FLAG_STRING, FLAG_NOWHERE, FLAG_NEEDS_TLS, "", G_SECURITY, help,    \
     yaml, NULL}
#define NO_EFFECT(name, type, def)                                             \
    {name, FLAG_##type, FLAG_NOWHERE, FLAG_NO_EFFECT, def, NULL, NULL, NULL,   \
     NULL}
#define NO_EFFECT_EXP(name, type, def)                                         \
    {name, FLAG_##type, FLAG_NOWHERE, FLAG_NO_EFFECT | FLAG_EXPERIMENTAL, def, \
     NULL, NULL, NULL, NULL}
#define NO_EFFECT_ENUM(name, def, choices)                                     \
    {name, FLAG_ENUM, FLAG_NOWHERE, FLAG_NO_EFFECT, def, NULL, NULL, NULL,     \
     choices}

const struct flag flags[] = {
    ROW("name", STRING, G_MEMBER, name, CONFIG_NAME,
        "Human-readable name of this member."),
    ROW("data-dir", STRING, G_MEMBER, data_dir, "",
        "Path to the data directory; empty means NAME.etcd."),
    ROW("wal-dir", STRING, G_MEMBER, wal_dir, "",
        "Path to a directory of its own for the log."),
    ROW("snapshot-count", UINT64, G_MEMBER, snapshot_count, "100000",
        "Number of committed entries that trigger a snapshot."),
    ROW_EXP("snapshot-catchup-entries", UINT64, G_MEMBER,
            snapshot_catchup_entries, "5000",
            "Entries kept behind a snapshot for slow followers."),
    ROW("heartbeat-interval", MS, G_MEMBER, heartbeat_ms, "100",
        "Time (in milliseconds) of a heartbeat interval."),
    ROW("election-timeout", MS, G_MEMBER, election_ms, "1000",
        "Time (in milliseconds) for an election to time out."),
    ROW("initial-election-tick-advance", BOOL, G_MEMBER,
        initial_election_tick_advance, "true",
        "Fast-forward election ticks on boot, for a faster first election."),
    ROW("listen-peer-urls", URLS, G_MEMBER, listen_peer_urls, CONFIG_PEER_URL,
        "URLs to listen on for peer traffic."),
    ROW("listen-client-urls", URLS, G_MEMBER, listen_client_urls,
        CONFIG_CLIENT_URL,
        "URLs to listen on for client traffic."),
    READ("listen-client-http-urls", URLS_OR_EMPTY, G_MEMBER, "",
         "Further URLs to listen on for client traffic."),
    ROW("max-snapshots", UINT, G_MEMBER, max_snapshots, "5",
        "Maximum number of snapshot files to keep (0 is unlimited)."),
    ROW("max-wals", UINT, G_MEMBER, max_wals, "5",
        "Maximum number of log files to keep (0 is unlimited)."),
    ROW("quota-backend-bytes", INT64, G_MEMBER, quota_backend_bytes, "0",
        "Size of the v3 store that raises an alarm (0 is 2 GiB, -1 no quota)."),
    ROW("max-txn-ops", UINT, G_MEMBER, max_txn_ops, "128",
        "Maximum number of operations in a transaction."),
    ROW("max-request-bytes", UINT, G_MEMBER, max_request_bytes, "1572864",
        "Maximum size of a client request that the server accepts."),
    ROW("max-concurrent-streams", UINT32, G_MEMBER, max_concurrent_streams,
        "4294967295",
        "Maximum number of streams on one client connection."),
    ROW("grpc-keepalive-min-time", DURATION, G_MEMBER, grpc_keepalive_min_ns,
        "5s",
        "Shortest time that a client should wait between two pings."),
    ROW("grpc-keepalive-interval", DURATION, G_MEMBER,
        grpc_keepalive_interval_ns, "2h0m0s",
        "Time between two pings to a client (0 disables them)."),
    ROW("grpc-keepalive-timeout", DURATION, G_MEMBER,
        grpc_keepalive_timeout_ns, "20s",
        "Time to wait for the answer to a ping (0 disables it)."),
    ROW_AT("socket-reuse-port", BOOL, G_MEMBER, socket_reuse_port, "false",
           "socket-options/reuse-port", "Set SO_REUSEPORT on listeners."),
    ROW_AT("socket-reuse-address", BOOL, G_MEMBER, socket_reuse_address,
           "false", "socket-options/reuse-address",
           "Set SO_REUSEADDR on listeners."),

    ROW("initial-advertise-peer-urls", URLS, G_CLUSTER,
        initial_advertise_peer_urls, CONFIG_PEER_URL,
        "This member's peer URLs, told to the rest of the cluster."),
    ROW("initial-cluster", STRING, G_CLUSTER, initial_cluster, CONFIG_CLUSTER,
        "Members of the cluster that is to be started: NAME=URL,NAME=URL..."),
    ENUM("initial-cluster-state", G_CLUSTER, "new", "new|existing",
         "Start a cluster, or join one: 'new' or 'existing'."),
    ROW("initial-cluster-token", STRING, G_CLUSTER, initial_cluster_token,
        "etcd-cluster",
        "Token that tells this cluster from others during its start."),
    ROW("advertise-client-urls", URLS, G_CLUSTER, advertise_client_urls,
        CONFIG_CLIENT_URL,
        "This member's client URLs, told to the public."),
    ROW("discovery", STRING, G_CLUSTER, discovery, "",
        "Discovery URL, with token, used to start the cluster."),
    ENUM("discovery-fallback", G_CLUSTER, "proxy", "exit|proxy",
         "What to do when the discovered cluster is full: 'exit' or 'proxy'."),
    ROW("discovery-proxy", STRING, G_CLUSTER, discovery_proxy, "",
        "HTTP proxy for traffic to the discovery service."),
    ROW("discovery-srv", STRING, G_CLUSTER, discovery_srv, "",
        "DNS domain whose SRV records name the cluster."),
    ROW("discovery-srv-name", STRING, G_CLUSTER, discovery_srv_name, "",
        "Suffix of the SRV service name."),
    ROW("strict-reconfig-check", BOOL, G_CLUSTER, strict_reconfig_check,
        "true",
        "Refuse membership changes that would lose the quorum."),
    ROW("pre-vote", BOOL, G_CLUSTER, pre_vote, "true",
        "Ask for votes before disturbing a leader with a new term."),
    ROW("auto-compaction-mode", STRING, G_CLUSTER, auto_compaction_mode,
        "periodic",
        "How to read the retention: 'periodic' or 'revision'."),
    ROW("auto-compaction-retention", STRING, G_CLUSTER,
        auto_compaction_retention, "0",
        "Hours, duration or number of revisions to keep (0 is all)."),
    ROW_EXP("max-learners", INT, G_CLUSTER, max_learners, "1",
            "Maximum number of learners in the cluster."),
    ENUM("proxy", G_CLUSTER, "off", "off|readonly|on",
         "v2 proxy mode; only 'off' is supported."),

    ROW("cors", CORS, G_SECURITY, cors, "*",
        "Origins that may use the API from web pages: URLs, or *."),
    ROW("host-whitelist", LIST, G_SECURITY, host_whitelist, "*",
        "Host names that clients may ask for, or *."),
    TLS("cert-file", STRING, client_tls.cert_file, SERVER_TLS "cert-file",
        "Certificate of the client server."),
    TLS("key-file", STRING, client_tls.key_file, SERVER_TLS "key-file",
        "Key of the client server."),
    TLS("client-cert-file", STRING, client_tls.client_cert_file,
        SERVER_TLS "client-cert-file",
        "Certificate used as a client."),
    TLS("client-key-file", STRING, client_tls.client_key_file,
        SERVER_TLS "client-key-file",
        "Key used as a client."),
    TLS("client-cert-auth", BOOL, client_tls.client_cert_auth,
        SERVER_TLS "client-cert-auth",
        "Demand certificates of clients."),
    TLS("client-crl-file", STRING, client_tls.crl_file, NULL,
        "Revoked certificates of clients."),
    TLS("client-cert-allowed-hostname", LIST, client_tls.allowed_hostname,
        SERVER_TLS "allowed-hostname",
        "Host names allowed in certificates of clients."),
    TLS("trusted-ca-file", STRING, client_tls.trusted_ca_file,
        SERVER_TLS "trusted-ca-file",
        "Authorities whose client certificates are trusted."),
    READ_TLS("ca-file", SERVER_TLS "ca-file",
            "Deprecated: --trusted-ca-file with --client-cert-auth."),
    TLS("auto-tls", BOOL, client_tls.auto_tls, SERVER_TLS "auto-tls",
        "Make a certificate for the client server."),
    TLS("peer-cert-file", STRING, peer_tls.cert_file, PEER_TLS "cert-file",
        "Certificate of the peer server."),
    TLS("peer-key-file", STRING, peer_tls.key_file, PEER_TLS "key-file",
        "Key of the peer server."),
    TLS("peer-client-cert-file", STRING, peer_tls.client_cert_file,
        PEER_TLS "client-cert-file",
        "Certificate used towards peers."),
    TLS("peer-client-key-file", STRING, peer_tls.client_key_file,
        PEER_TLS "client-key-file",
        "Key used towards peers."),
    TLS("peer-client-cert-auth", BOOL, peer_tls.client_cert_auth,
        PEER_TLS "client-cert-auth",
        "Demand certificates of peers."),
    TLS("peer-crl-file", STRING, peer_tls.crl_file, NULL,
        "Revoked certificates of peers."),
    TLS("peer-cert-allowed-cn", LIST, peer_tls.allowed_cn,
        PEER_TLS "allowed-cn",
        "Common name demanded of peers."),
    TLS("peer-cert-allowed-hostname", LIST, peer_tls.allowed_hostname,
        PEER_TLS "allowed-hostname",
        "Host names allowed in certificates of peers."),
    TLS("peer-trusted-ca-file", STRING, peer_tls.trusted_ca_file,
        PEER_TLS "trusted-ca-file",
        "Authorities whose peer certificates are trusted."),
    READ_TLS("peer-ca-file", PEER_TLS "ca-file",
            "Deprecated: --peer-trusted-ca-file with --peer-client-cert-auth."),
    TLS("peer-auto-tls", BOOL, peer_tls.auto_tls, PEER_TLS "auto-tls",
        "Make a certificate for the peer server."),
    ROW("self-signed-cert-validity", UINT, G_SECURITY, self_signed_years, "1",
        "Years for which certificates of our own making are good."),
    ROW_EXP_AT("peer-skip-client-san-verification", BOOL, G_SECURITY,
           peer_skip_client_san, "false",
           PEER_TLS "skip-client-san-verification",
           "Let certificates of peers count from any address."),
    ROW("cipher-suites", LIST, G_SECURITY, cipher_suites, "",
        "Cipher suites of TLS 1.2, by Go's names; empty means all there are."),
    ENUM_AT("tls-min-version", G_SECURITY, tls_min_version, "TLS1.2",
            "TLS1.2|TLS1.3", "Oldest version of TLS to speak."),
    ENUM_AT("tls-max-version", G_SECURITY, tls_max_version, "",
            "TLS1.2|TLS1.3|", "Newest version of TLS to speak."),

    ROW("auth-token", STRING, G_AUTH, auth_token, "simple",
        "Kind of the v3 auth token: 'simple', or 'jwt,' and its options."),
    ROW("bcrypt-cost", UINT, G_AUTH, bcrypt_cost, "10",
        "Cost of hashing a password, 4 to 31."),
    ROW("auth-token-ttl", UINT, G_AUTH, auth_token_ttl_s, "300",
        "Time (in seconds) that an unused simple token lives."),
    ROW("strict-auth", BOOL, G_AUTH, strict_auth, "false",
        "With auth, ask for a user also where etcd 3.4 does not (leases...)."),

    ROW("listen-metrics-urls", URLS_OR_EMPTY, G_MONITORING,
        listen_metrics_urls, "",
        "Further URLs for /metrics and /health."),
    READ("metrics", STRING, G_MONITORING, "basic",
         "Detail of the metrics: 'basic' or 'extensive'."),
    ROW("enable-pprof", BOOL, G_MONITORING, enable_pprof, "false",
        "Serve /debug/pprof/ on client URLs."),
    ROW_EXP("warning-apply-duration", DURATION_MS, G_MONITORING,
            warning_apply_ms, "100ms",
            "Warn when applying a request takes longer than this."),
    ROW_EXP("warning-unary-request-duration", DURATION_MS, G_MONITORING,
            warning_unary_ms, "300ms",
            "Warn when answering a v3 request takes this long; 0: never."),

    READ("logger", STRING, G_LOGGING, "capnslog",
         "Form of the log lines: 'capnslog' (text) or 'zap' (JSON)."),
    ROW("log-outputs", LIST, G_LOGGING, log_outputs, "default",
        "'default' (stderr), 'stdout', 'stderr' or file paths."),
    READ("log-output", LIST, G_LOGGING, "default",
         "Older name of --log-outputs."),
    READ("log-level", STRING, G_LOGGING, "info",
         "debug, info, warn, error, panic or fatal."),
    ENUM("log-format", G_LOGGING, "json", "json|console",
         "Form of zap's lines: 'json', or 'console' (text)."),
    ROW("debug", BOOL, G_LOGGING, debug, "false",
        "Log at level debug."),
    ROW("log-package-levels", STRING, G_LOGGING, log_package_levels, "",
        "One log level for all; levels for single packages are not kept."),

    ROW("enable-v2", BOOL, G_API, enable_v2, "true",
        "Serve the v2 API."),
    ROW("enable-grpc-gateway", BOOL, G_API, enable_grpc_gateway, "true",
        "Serve the v3 API as JSON over HTTP."),
    ROW_EXP("watch-progress-notify-interval", DURATION, G_API,
            watch_progress_notify_ns, "0s",
            "Time between progress notes to idle watchers (0 is 10 minutes)."),

    ROW("experimental-enable-lease-checkpoint", BOOL, G_CLUSTER,
        lease_checkpoint, "false",
        "Let a new leader know how far each lease has run down."),
    ROW("experimental-enable-lease-checkpoint-persist", BOOL, G_CLUSTER,
        lease_checkpoint_persist, "false",
        "Keep that over restarts, too."),
    ROW("experimental-initial-corrupt-check", BOOL, G_CLUSTER,
        initial_corrupt_check, "false",
        "Compare the v3 store with the other members' before serving."),
    ROW_EXP("corrupt-check-time", DURATION, G_CLUSTER, corrupt_check_ns, "0s",
            "Time between comparisons of the v3 store (0: none)."),

    ROW("force-new-cluster", BOOL, G_UNSAFE, force_new_cluster, "false",
        "Start a one-member cluster from the data of an old one."),
    ROW("unsafe-no-fsync", BOOL, G_UNSAFE, unsafe_no_fsync, "false",
        "Do not sync to disk: a crash may lose acknowledged data."),

    ARG("config-file", STRING, AT(config_file), "",
        "Configuration file (YAML). Then only the file counts."),
    ARG("version", BOOL, FLAG_NOWHERE, "false",
        "Print the version and exit."),

    NO_EFFECT_EXP("backend-bbolt-freelist-type", STRING, ""),
    NO_EFFECT("backend-batch-interval", DURATION, "0s"),
    NO_EFFECT("backend-batch-limit", INT, "0"),
    NO_EFFECT("raft-read-timeout", DURATION, "5s"),
    NO_EFFECT("raft-write-timeout", DURATION, "5s"),
    NO_EFFECT("discovery-endpoints", LIST, ""),
    NO_EFFECT("discovery-token", STRING, ""),
    NO_EFFECT("discovery-dial-timeout", DURATION, "2s"),
    NO_EFFECT("discovery-request-timeout", DURATION, "5s"),
    NO_EFFECT("discovery-keepalive-time", DURATION, "2s"),
    NO_EFFECT("discovery-keepalive-timeout", DURATION, "6s"),
    NO_EFFECT("discovery-insecure-transport", BOOL, "true"),
    NO_EFFECT("discovery-insecure-skip-tls-verify", BOOL, "false"),
    NO_EFFECT("discovery-cert", STRING, ""),
    NO_EFFECT("discovery-key", STRING, ""),
    NO_EFFECT("discovery-cacert", STRING, ""),
    NO_EFFECT("discovery-user", STRING, ""),
    NO_EFFECT("discovery-password", STRING, ""),
    NO_EFFECT("next-cluster-version-compatible", BOOL, "false"),
    NO_EFFECT_ENUM("v2-deprecation", "not-yet",
                   "not-yet|write-only|write-only-skip-check|"
                   "write-only-drop-data|gone"),
    NO_EFFECT("proxy-failure-wait", UINT, "5000"),
    NO_EFFECT("proxy-refresh-interval", UINT, "30000"),
    NO_EFFECT("proxy-dial-timeout", UINT, "1000"),
    NO_EFFECT("proxy-write-timeout", UINT, "5000"),
    NO_EFFECT("proxy-read-timeout", UINT, "0"),
    NO_EFFECT("enable-log-rotation", BOOL, "false"),
    NO_EFFECT("log-rotation-config-json", STRING, ""),
    NO_EFFECT_EXP("enable-distributed-tracing", BOOL, "false"),
    NO_EFFECT_EXP("distributed-tracing-address", STRING, "localhost:4317"),
    NO_EFFECT_EXP("distributed-tracing-service-name", STRING, "etcd"),
    NO_EFFECT_EXP("distributed-tracing-instance-id", STRING, ""),
    NO_EFFECT_EXP("distributed-tracing-sampling-rate", INT, "0"),
    NO_EFFECT("feature-gates", STRING, ""),
    NO_EFFECT_EXP("compact-hash-check-time", DURATION, "1m0s"),
    NO_EFFECT("experimental-compact-hash-check-enabled", BOOL, "false"),
    NO_EFFECT("experimental-enable-v2v3", STRING, ""),
    NO_EFFECT_EXP("compaction-batch-limit", INT, "0"),
    NO_EFFECT_EXP("compaction-sleep-interval", DURATION, "0s"),
    NO_EFFECT_EXP("downgrade-check-time", DURATION, "5s"),
    NO_EFFECT_EXP("memory-mlock", BOOL, "false"),
    NO_EFFECT("experimental-txn-mode-write-with-shared-buffer", BOOL, "true"),
    NO_EFFECT_EXP("bootstrap-defrag-threshold-megabytes", UINT, "0"),
    NO_EFFECT("experimental-stop-grpc-service-on-defrag", BOOL, "false"),
};
/* clang-format on */

const size_t n_flags = ARRAY_LEN(flags);

int flag_find(struct str name)
{
    static const char prefix[] = "experimental-";
    struct str rest = {"", 0};

    if (str_has_prefix(name, prefix))
        rest = (struct str){name.p + sizeof(prefix) - 1,
                            name.n - (sizeof(prefix) - 1)};
    for (size_t i = 0; i < n_flags; i++) {
        if (str_eqz(name, flags[i].name) ||
            (flags[i].bits & FLAG_EXPERIMENTAL && str_eqz(rest, flags[i].name)))
            return (int)i;
    }
    return -1;
}

/* --- Misspelt names. ---------------------------------------------------- */

/* Insertions, deletions and changes that turn a into b; b.n is bounded. */
static size_t edit_distance(struct str a, struct str b)
{
    size_t row[NAME_LEN_MAX + 1];

    assert(b.n <= NAME_LEN_MAX);
    for (size_t j = 0; j <= b.n; j++)
        row[j] = j;
    for (size_t i = 1; i <= a.n; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= b.n; j++) {
            size_t up = row[j], best = up < row[j - 1] ? up : row[j - 1];
            size_t change = diagonal + (a.p[i - 1] != b.p[j - 1]);

            row[j] = change < best + 1 ? change : best + 1;
            diagonal = up;
        }
    }
    return row[b.n];
}

const char *flag_nearest(struct str name)
{
    size_t best = name.n / 3 + 1;
    const char *nearest = NULL;

    if (name.n > NAME_LEN_MAX)
        return NULL;
    for (size_t i = 0; i < n_flags; i++) {
        struct str known = str_of(flags[i].name);
        size_t d;

        if (flags[i].bits & FLAG_NO_EFFECT)
            continue;
        d = edit_distance(known, name);
        if (name.n >= 3 && known.n > name.n &&
            memcmp(name.p, known.p, name.n) == 0)
            d = 1; /* the beginning of it was typed */
        if (d < best) {
            best = d;
            nearest = flags[i].name;
        }
    }
    return nearest;
}

/* --- Values: text to meaning. ------------------------------------------- */

#define PARSE_ERROR "parse error"
#define RANGE_ERROR "value out of range"

bool flag_parse_bool(const char *z, bool *out)
{
    static const char *const words[2][6] = {
        {"0", "f", "F", "false", "FALSE", "False"},
        {"1", "t", "T", "true", "TRUE", "True"},
    };

    for (size_t v = 0; v < 2; v++) {
        for (size_t i = 0; i < ARRAY_LEN(words[v]); i++) {
            if (strcmp(z, words[v][i]) == 0) {
                *out = v;
                return true;
            }
        }
    }
    return false;
}

/* NULL, or what is wrong. 0x10 and 010 mean what they mean to Go and C. */
static const char *parse_uint(const char *z, uint64_t max, uint64_t *out)
{
    unsigned long long v;
    char *end;

    if (*z < '0' || *z > '9')
        return PARSE_ERROR;
    errno = 0;
    v = strtoull(z, &end, 0);
    if (*end)
        return PARSE_ERROR;
    if (errno == ERANGE || v > max)
        return RANGE_ERROR;
    *out = v;
    return NULL;
}

static const char *parse_int(const char *z, int64_t min, int64_t max,
                             int64_t *out)
{
    bool minus = *z == '-';
    uint64_t v = 0;
    const char *wrong =
        parse_uint(z + (minus || *z == '+'),
                   minus ? (uint64_t)0 - (uint64_t)min : (uint64_t)max, &v);

    if (!wrong)
        *out = minus ? (int64_t)(0 - v) : (int64_t)v;
    return wrong;
}

/* Short enough of the type's end that rules can reckon with it. */
static const char *parse_ms(const char *z, int64_t *out)
{
    uint64_t v = 0;
    const char *wrong = parse_uint(z, INT64_MAX / 16, &v);

    *out = (int64_t)v;
    return wrong;
}

static bool is_choice(const char *z, const char *choices)
{
    struct str rest = str_of(choices), one;
    bool more;

    do {
        more = str_cut(&rest, '|', &one);
        if (str_eqz(one, z))
            return true;
    } while (more);
    return false;
}

/* A value of any type. */
struct any {
    bool b;
    uint64_t u;
    int64_t i;
    struct url_list urls; /* owned */
};

static const char *parse_urls(const char *z, struct url_list *out,
                              struct err *e)
{
    *out = (struct url_list){0};
    return url_list_parse(str_of(z), out, e) < 0 ? e->msg : NULL;
}

/*
 * NULL and, for a type that is not text, its value in *out; or what is wrong,
 * perhaps in *e.
 */
static const char *parse_value(const struct flag *f, const char *z,
                               struct any *out, struct err *e)
{
    *out = (struct any){0};
    switch (f->type) {
    case FLAG_STRING:
    case FLAG_LIST:
        return NULL;
    case FLAG_ENUM:
        return is_choice(z, f->choices) ? NULL : "invalid value";
    case FLAG_CORS:
        return *z && strcmp(z, "*") != 0 ? parse_urls(z, &out->urls, e) : NULL;
    case FLAG_BOOL:
        return flag_parse_bool(z, &out->b) ? NULL : PARSE_ERROR;
    case FLAG_UINT:
    case FLAG_UINT64:
        return parse_uint(z, UINT64_MAX, &out->u);
    case FLAG_UINT32:
        return parse_uint(z, UINT32_MAX, &out->u);
    case FLAG_MS:
        return parse_ms(z, &out->i);
    case FLAG_INT:
        return parse_int(z, INT_MIN, INT_MAX, &out->i);
    case FLAG_INT64:
        return parse_int(z, INT64_MIN, INT64_MAX, &out->i);
    case FLAG_DURATION:
    case FLAG_DURATION_MS:
        return sys_parse_duration(str_of(z), &out->i) ? NULL : PARSE_ERROR;
    case FLAG_URLS_OR_EMPTY:
        return *z ? parse_urls(z, &out->urls, e) : NULL;
    case FLAG_URLS:
        return parse_urls(z, &out->urls, e);
    }
    return NULL;
}

const char *flag_check(const struct flag *f, const char *z, struct err *e)
{
    struct any v;
    const char *wrong = parse_value(f, z, &v, e);

    if (!wrong)
        url_list_release(&v.urls);
    return wrong;
}

bool flag_is_default(const struct flag *f, const char *z)
{
    struct any a, b;

    if (f->type != FLAG_DURATION)
        return strcmp(z, f->def) == 0;
    return !parse_value(f, z, &a, NULL) && !parse_value(f, f->def, &b, NULL) &&
           a.i == b.i;
}

bool flag_is_text(const struct flag *f)
{
    switch (f->type) {
    case FLAG_STRING:
    case FLAG_LIST:
    case FLAG_ENUM:
    case FLAG_CORS:
    case FLAG_URLS:
    case FLAG_URLS_OR_EMPTY:
        return true;
    default:
        return false;
    }
}

const char *flag_go_type(const struct flag *f)
{
    switch (f->type) {
    case FLAG_BOOL:
        return "bool";
    case FLAG_UINT:
    case FLAG_MS:
        return "uint";
    case FLAG_UINT64:
        return "uint64";
    case FLAG_UINT32:
        return "uint32";
    case FLAG_INT:
        return "int";
    case FLAG_INT64:
        return "int64";
    case FLAG_DURATION:
    case FLAG_DURATION_MS:
        return "time.Duration";
    case FLAG_LIST:
        return "[]string";
    default:
        return "string";
    }
}

/* --- Members. ----------------------------------------------------------- */

static void *member_of(const struct flag *f, struct config *c)
{
    return (char *)c + f->at;
}

void flag_store(const struct flag *f, const char *z, struct config *c)
{
    void *at = member_of(f, c);
    struct err e;
    struct any v;
    const char *wrong = parse_value(f, z, &v, &e);

    assert(!wrong);
    assert(f->at != FLAG_NOWHERE);
    switch (f->type) {
    case FLAG_CORS:
        url_list_release(&v.urls);
        *(char **)at = xstrdup(z);
        return;
    case FLAG_STRING:
    case FLAG_LIST:
    case FLAG_ENUM:
        *(char **)at = xstrdup(z);
        return;
    case FLAG_BOOL:
        *(bool *)at = v.b;
        return;
    case FLAG_UINT:
    case FLAG_UINT64:
    case FLAG_UINT32:
        *(uint64_t *)at = v.u;
        return;
    case FLAG_INT:
        *(int *)at = (int)v.i;
        return;
    case FLAG_INT64:
    case FLAG_MS:
    case FLAG_DURATION:
        *(int64_t *)at = v.i;
        return;
    case FLAG_DURATION_MS:
        *(int64_t *)at = v.i / NS_PER_MS;
        return;
    case FLAG_URLS:
    case FLAG_URLS_OR_EMPTY:
        *(struct url_list *)at = v.urls;
        return;
    }
}

void flag_release(const struct flag *f, struct config *c)
{
    if (f->at == FLAG_NOWHERE)
        return;
    switch (f->type) {
    case FLAG_STRING:
    case FLAG_LIST:
    case FLAG_ENUM:
    case FLAG_CORS:
        free(*(char **)member_of(f, c));
        return;
    case FLAG_URLS:
    case FLAG_URLS_OR_EMPTY:
        url_list_release(member_of(f, c));
        return;
    default:
        return;
    }
}

/* --- Help. -------------------------------------------------------------- */

/* Names only, in lines of at most 78 columns. */
static void print_no_effect(void)
{
    size_t col = 0;

    printf("\nAccepted for compatibility, without effect:\n");
    for (size_t i = 0; i < n_flags; i++) {
        size_t n = strlen(flags[i].name) + 3;

        if (!(flags[i].bits & FLAG_NO_EFFECT))
            continue;
        if (col == 0 || col + n > 78) {
            printf("\n ");
            col = 1;
        }
        printf(" --%s", flags[i].name);
        col += n;
    }
    printf("\n");
}

void flags_print_help(void)
{
    const char *group = "";

    for (size_t i = 0; i < n_flags; i++) {
        const struct flag *f = &flags[i];

        if (f->bits & FLAG_NO_EFFECT)
            continue;
        if (strcmp(group, f->group) != 0)
            printf("%s%s:\n\n", *group ? "\n" : "", f->group);
        group = f->group;
        printf("  --%s '%s'\n    %s\n", f->name, f->def, f->help);
    }
    print_no_effect();
}
