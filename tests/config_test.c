/*
 * config_test.c - command lines, environments and files, and what becomes of
 * them. Each case runs in a child of its own, which prints what it loaded;
 * a case names the exit code and a piece of the output.
 */
#include "../config.h"
#include "check.h"
#include "secure.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sys/wait.h>
#include <unistd.h>

#define RUN 42 /* the child's exit code if the server would start */

static char dir[] = "/tmp/config_test.XXXXXX";
static char *file_path, *out_path;

struct test {
    const char *args; /* separated by blanks; @ stands for the file */
    const char *env;  /* "A=1|B=2"; @ as above */
    const char *file; /* its content, or NULL */
    int code;
    const char *want; /* must stand in the output */
};

static void dump_urls(const char *name, const struct url_list *l)
{
    struct buf b = {0};

    url_list_print(&b, l, ",");
    printf(" %s=%s", name, buf_z(&b));
    buf_release(&b);
}

/* From which level on a package's lines are printed. */
static int lowest_level(const char *pkg)
{
    int level = LOG_DEBUG;

    while (level < LOG_CRIT && !log_enabled(pkg, (enum log_level)level))
        level++;
    return level;
}

static void dump_tls(const char *name, const struct tls_files *f)
{
    printf(" %s=%s,%s,%s,%s,%s,%s,%s|%s,%d,%d", name, f->cert_file, f->key_file,
           f->trusted_ca_file, f->crl_file, f->client_cert_file,
           f->client_key_file, f->allowed_cn ? f->allowed_cn : "",
           f->allowed_hostname, f->client_cert_auth, f->auto_tls);
}

static void dump(const struct config *c)
{
    printf("RUN name=%s data-dir=%s member=%s snap=%s wal=%s", c->name,
           c->data_dir, c->member_dir, c->snap_dir, c->wal_dir);
    printf(" snapshot-count=%" PRIu64 " catchup=%" PRIu64, c->snapshot_count,
           c->snapshot_catchup_entries);
    printf(" heartbeat=%" PRId64 " election=%" PRId64, c->heartbeat_ms,
           c->election_ms);
    dump_urls("lp", &c->listen_peer_urls);
    dump_urls("lc", &c->listen_client_urls);
    dump_urls("lm", &c->listen_metrics_urls);
    dump_urls("ap", &c->initial_advertise_peer_urls);
    dump_urls("ac", &c->advertise_client_urls);
    printf(" cluster=%s token=%s existing=%d", c->initial_cluster,
           c->initial_cluster_token, c->initial_cluster_existing);
    printf(" v2=%d prevote=%d strict=%d gateway=%d", c->enable_v2, c->pre_vote,
           c->strict_reconfig_check, c->enable_grpc_gateway);
    printf(" quota=%" PRId64 " request=%" PRIu64 " learners=%d",
           c->quota_backend_bytes, c->max_request_bytes, c->max_learners);
    printf(" snaps=%" PRIu64 " wals=%" PRIu64 " streams=%" PRIu64,
           c->max_snapshots, c->max_wals, c->max_concurrent_streams);
    printf(" keepalive=%" PRId64 " apply=%" PRId64 " bcrypt=%" PRIu64,
           c->grpc_keepalive_interval_ns, c->warning_apply_ms, c->bcrypt_cost);
    printf(" cors=%s hosts=%s metrics=%d pprof=%d fsync=%d reuse=%d", c->cors,
           c->host_whitelist, c->metrics_extensive, c->enable_pprof,
           !c->unsafe_no_fsync, c->socket_reuse_port);
    printf(" format=%d level=%d outputs=%s file=%s", (int)c->log_format,
           lowest_level("none"), c->log_outputs, c->config_file);
    dump_tls("client", &c->client_tls);
    dump_tls("peer", &c->peer_tls);
    printf(" tls=%s,%s,%s,%" PRIu64 ",%d", c->cipher_suites, c->tls_min_version,
           c->tls_max_version, c->self_signed_years, c->peer_skip_client_san);
    printf(" compaction=%s:%s discovery=%s.\n", c->auto_compaction_mode,
           c->auto_compaction_retention, c->discovery);
}

static int split(char *s, char **out, int max)
{
    int n = 0;

    for (char *p = strtok(s, " "); p && n < max - 1; p = strtok(NULL, " "))
        out[n++] = *p == '@' ? file_path : p;
    out[n] = NULL;
    return n;
}

static void set_env(const char *list)
{
    char *copy = xstrdup(list), *save;

    clearenv();
    for (char *p = strtok_r(copy, "|", &save); p;
         p = strtok_r(NULL, "|", &save)) {
        size_t n = strlen(p);

        if (p[n - 1] == '@')
            putenv(xasprintf("%.*s%s", (int)n - 1, p, file_path));
        else
            putenv(xstrdup(p));
    }
    free(copy);
}

static void child(const struct test *t)
{
    char *line = xasprintf("etcd %s", t->args), *argv[32];
    int argc = split(line, argv, (int)ARRAY_LEN(argv)), code = -1;
    int fd = open(out_path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
    struct config c;

    if (fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
        _exit(99);
    set_env(t->env ? t->env : "");
    if (config_load(&c, argc, argv, &code) == CONFIG_RUN) {
        dump(&c);
        code = RUN;
    }
    config_release(&c);
    fflush(NULL);
    _exit(code);
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    if (f) {
        fputs(text, f);
        fclose(f);
    }
}

static void read_file(const char *path, char *out, size_t size)
{
    FILE *f = fopen(path, "r");
    size_t n = f ? fread(out, 1, size - 1, f) : 0;

    out[n] = '\0';
    if (f)
        fclose(f);
}

/* The exit code; what was printed goes to out. */
static int run(const struct test *t, char *out, size_t size)
{
    int status = 0;
    pid_t pid;

    if (t->file)
        write_file(file_path, t->file);
    fflush(NULL);
    pid = fork();
    if (pid == 0)
        child(t);
    waitpid(pid, &status, 0);
    read_file(out_path, out, size);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void run_all(const struct test *tests, size_t n)
{
    static char out[65536];

    for (size_t i = 0; i < n; i++) {
        const struct test *t = &tests[i];
        int code = run(t, out, sizeof(out));
        bool found = strstr(out, t->want) != NULL;

        /* What needs TLS is refused without it, whatever else is wanted. */
        if (!secure_available && strstr(out, "left out of this build")) {
            CHECK(code == 1);
            continue;
        }
        CHECK(code == t->code);
        CHECK(found);
        if (code != t->code || !found)
            fprintf(stderr,
                    "etcd %s, env %s, file %s\nwant %d: %s\n"
                    "got %d: %s\n",
                    t->args, t->env ? t->env : "", t->file ? t->file : "",
                    t->code, t->want, code, out);
    }
}

#define VERIFY(text) "error verifying flags, " text ". See 'etcd --help'."

static const struct test command_line[] = {
    {"", NULL, NULL, RUN,
     "RUN name=default data-dir=default.etcd member=default.etcd/member "
     "snap=default.etcd/member/snap wal= snapshot-count=100000 catchup=5000 "
     "heartbeat=100 election=1000 lp=http://localhost:2380 "
     "lc=http://localhost:2379 lm= ap=http://localhost:2380 "
     "ac=http://localhost:2379 cluster=default=http://localhost:2380 "
     "token=etcd-cluster existing=0 v2=1 prevote=1 strict=1 gateway=1 quota=0 "
     "request=1572864 learners=1 snaps=5 wals=5 streams=4294967295 "
     "keepalive=7200000000000 apply=100 bcrypt=10 cors=* hosts=* metrics=0 "
     "pprof=0 fsync=1 reuse=0 format=0 level=1 outputs=default file= "
     "client=,,,,,,|,0,0 peer=,,,,,,|,0,0 tls=,TLS1.2,,1,0 "
     "compaction=periodic:0 discovery=."},
    {"", NULL, NULL, RUN,
     "W | etcdmain: no data-dir provided, using default data-dir "
     "./default.etcd"},

    /* syntax */
    {"--name a -data-dir=/d --debug", NULL, NULL, RUN, "name=a data-dir=/d "},
    {"--enable-v2=false --pre-vote=F", NULL, NULL, RUN, "v2=0 prevote=0"},
    {"--enable-v2 false", NULL, NULL, 1, VERIFY("'false' is not a valid flag")},
    {"--name a foo --bogus", NULL, NULL, 1,
     VERIFY("'foo' is not a valid flag")},
    {"-- --name", NULL, NULL, 1, VERIFY("'--name' is not a valid flag")},
    {"--name a --", NULL, NULL, RUN, "name=a "},
    {"-", NULL, NULL, 1, VERIFY("'-' is not a valid flag")},
    {"--name= --data-dir x", NULL, NULL, RUN, "RUN name= data-dir=x"},
    {"--name", NULL, NULL, 2,
     "flag needs an argument: -name\nSee 'etcd --help'.\n"},
    {"---x", NULL, NULL, 2, "bad flag syntax: ---x\nSee 'etcd --help'.\n"},
    {"--=x", NULL, NULL, 2, "bad flag syntax: --=x\n"},
    {"--bogus=1", NULL, NULL, 2,
     "flag provided but not defined: -bogus\nSee 'etcd --help'.\n"},
    {"--data", NULL, NULL, 2,
     "flag provided but not defined: -data\ndid you mean --data-dir?\nSee "
     "'etcd "
     "--help'.\n"},
    {"--listen-peer-url x", NULL, NULL, 2, "did you mean --listen-peer-urls?"},
    {"--debug=x", NULL, NULL, 2,
     "invalid boolean value \"x\" for -debug: parse error\n"},
    {"--election-timeout=abc", NULL, NULL, 2,
     "invalid value \"abc\" for flag -election-timeout: parse error\nSee 'etcd "
     "--help'.\n"},
    {"--snapshot-count=-1", NULL, NULL, 2,
     "invalid value \"-1\" for flag -snapshot-count: parse error\n"},
    {"--snapshot-count=99999999999999999999", NULL, NULL, 2,
     "for flag -snapshot-count: value out of range\n"},
    {"--max-concurrent-streams=4294967296", NULL, NULL, 2,
     "value out of range"},
    {"--quota-backend-bytes=-9223372036854775808", NULL, NULL, RUN,
     "quota=-9223372036854775808 "},
    {"--max-wals=0x10 --max-snapshots 010", NULL, NULL, RUN, "snaps=8 wals=16"},
    {"--grpc-keepalive-timeout=5", NULL, NULL, 2, "parse error"},
    {"--grpc-keepalive-interval=1m30s", NULL, NULL, RUN,
     "keepalive=90000000000 "},
    {"--initial-cluster-state=x", NULL, NULL, 2,
     "invalid value \"x\" for flag -initial-cluster-state: invalid value\n"},
    {"--initial-cluster-state existing", NULL, NULL, RUN, "existing=1"},
    {"--listen-client-urls=127.0.0.1:13000", NULL, NULL, 2,
     "invalid value \"127.0.0.1:13000\" for flag -listen-client-urls: parse "
     "\"127.0.0.1:13000\": first path segment in URL cannot contain colon\n"},
    {"--cors=http://a.com", NULL, NULL, 2,
     "for flag -cors: URL address does not have the form \"host:port\": "
     "http://a.com\n"},
    {"--cors=http://a.com:80,http://b.com:81", NULL, NULL, RUN,
     "cors=http://a.com:80,http://b.com:81 "},
    {"--snapshot=3 -v --vv --name a", NULL, NULL, RUN,
     "W | pkg/flags: flag \"-snapshot\" is no longer supported - ignoring."},
    {"--experimental-max-learners 3 --experimental-warning-apply-duration 2s",
     NULL, NULL, RUN, "learners=3"},
    {"--experimental-name x", NULL, NULL, 2,
     "flag provided but not defined: -experimental-name\n"},

    /* version and help */
    {"--version", NULL, NULL, 0, "etcd Version: " ETCD_VERSION "\nGit SHA: "},
    {"--version", NULL, NULL, 0, "\nGo OS/Arch: linux/"},
    {"--version=0", NULL, NULL, RUN, "RUN"},
    {"--help", NULL, NULL, 0, "Usage:\n\n  etcd [flags]\n"},
    {"-h", NULL, NULL, 0, "Clustering:\n\n"},
    {"--name a -help", NULL, NULL, 0, "  --snapshot-count '100000'\n"},
    {"gateway start", NULL, NULL, 1, "etcd gateway is not supported"},
    {"grpc-proxy start", NULL, NULL, 1, "etcd grpc-proxy is not supported"},
};

static const struct test rules[] = {
    {"--name b", NULL, NULL, RUN, "cluster=b=http://localhost:2380 "},
    {"--name b --initial-advertise-peer-urls http://b:2,http://a:1", NULL, NULL,
     RUN, "cluster=b=http://a:1,b=http://b:2 "},
    {"--listen-client-urls http://127.0.0.1:1", NULL, NULL, 1,
     VERIFY("--advertise-client-urls is required when --listen-client-urls "
            "is set explicitly")},
    {"--listen-client-urls http://127.0.0.1:1", NULL, NULL, 1,
     "E | etcdmain: When listening on specific address(es), this etcd process "
     "must advertise accessible url(s) to each connected client.\n"},
    {"--listen-client-urls http://127.0.0.1:1,http://[::1]:1,unix://a:1 "
     "--advertise-client-urls https://front:443",
     NULL, NULL, RUN, "lc=http://127.0.0.1:1,http://[::1]:1,unix://a:1 "},
    {"--listen-client-http-urls http://127.0.0.1:7", NULL, NULL, RUN,
     "lc=http://127.0.0.1:7,http://localhost:2379 "},
    {"--listen-client-http-urls http://localhost:2379", NULL, NULL, 1,
     "have a URL in common"},
    {"--listen-peer-urls http://host:1", NULL, NULL, 1,
     VERIFY("expected IP in URL for binding (http://host:1)")},
    {"--listen-metrics-urls http://:1", NULL, NULL, 1,
     VERIFY("expected IP in URL for binding (http://:1)")},
    {"--advertise-client-urls http://:1", NULL, NULL, 1,
     VERIFY("--advertise-client-urls \"http://:1\" must be \"host:port\" "
            "(unexpected empty host (http://:1))")},
    {"--initial-advertise-peer-urls http://a:1,http://:1", NULL, NULL, 1,
     VERIFY("--initial-advertise-peer-urls \"http://:1,http://a:1\" must be "
            "\"host:port\" (unexpected empty host (http://:1))")},
    {"--discovery http://a/b --initial-cluster a=http://b:1", NULL, NULL, 1,
     VERIFY("multiple discovery or bootstrap flags are set. Choose one of "
            "\"initial-cluster\", \"discovery\" or \"discovery-srv\"")},
    {"--discovery http://a/b", NULL, NULL, RUN, " cluster= "},
    {"--discovery-srv example.com", NULL, NULL, RUN, " cluster= "},
    {"--heartbeat-interval 300", NULL, NULL, 1,
     VERIFY("--election-timeout[1000ms] should be at least as 5 times as "
            "--heartbeat-interval[300ms]")},
    {"--heartbeat-interval 200", NULL, NULL, RUN, "heartbeat=200"},
    {"--election-timeout 60000", NULL, NULL, 1,
     VERIFY("--election-timeout[60000ms] is too long, and should be set less "
            "than 50000ms")},
    {"--heartbeat-interval 0", NULL, NULL, 1,
     VERIFY("--heartbeat-interval must be >0 (set to 0ms)")},
    {"--election-timeout 0", NULL, NULL, 1,
     VERIFY("--election-timeout must be >0 (set to 0ms)")},
    {"--snapshot-count 0", NULL, NULL, RUN, "snapshot-count=100000"},
    {"--auto-compaction-mode x", NULL, NULL, 1,
     VERIFY("unknown auto-compaction-mode \"x\"")},
    {"--auto-compaction-retention 5m", NULL, NULL, RUN,
     "compaction=periodic:5m"},
    {"--auto-compaction-mode revision --auto-compaction-retention 5m", NULL,
     NULL, 1, "error parsing CompactionRetention: \"5m\""},
    {"--auto-compaction-mode= --auto-compaction-retention=", NULL, NULL, RUN,
     "compaction=periodic:0"},
    {"--listen-peer-urls= --listen-client-urls=", NULL, NULL, RUN,
     "ac=http://localhost:2379 "},
    {"--auth-token x", NULL, NULL, 1, VERIFY("auth: invalid auth options")},
    {"--bcrypt-cost 99", NULL, NULL, RUN, "bcrypt=10"},
    {"--metrics extensive", NULL, NULL, RUN, "metrics=1"},

    /* the log */
    {"--logger x", NULL, NULL, 1, VERIFY("unknown logger option \"x\"")},
    {"--log-level x", NULL, NULL, 1, "unknown log-level \"x\""},
    {"--log-outputs default,stderr", NULL, NULL, 1,
     VERIFY("multi logoutput for \"default\" is not supported yet")},
    {"--log-outputs /nonexistent/x", NULL, NULL, 1,
     "open log output /nonexistent/x: no such file or directory"},
    {"--log-output stdout", NULL, NULL, RUN, "outputs=stdout "},
    {"--debug --log-level error", NULL, NULL, RUN, "level=0"},
    {"--log-level warn", NULL, NULL, RUN, "level=3"},
    {"--log-package-levels *=DEBUG,raft=ERROR", NULL, NULL, RUN, "level=0"},
    {"--log-package-levels none=WARNING", NULL, NULL, RUN, "level=3"},
    {"--debug --log-package-levels none=C,none=E", NULL, NULL, RUN, "level=4"},
    {"--debug --log-package-levels none=E,x", NULL, NULL, RUN, "level=0"},
    {"--log-package-levels asdf", NULL, NULL, RUN,
     "W | embed: couldn't parse log level string: oddly structured "
     "`pkg=level` option: asdf, continuing with default levels\n"},
    {"--logger zap", NULL, NULL, RUN, "\"msg\":\"no data-dir provided"},
    {"--logger zap --log-format console", NULL, NULL, RUN, "format=0"},

    /* TLS; what is in the files is looked at later */
    {"--cert-file x --key-file y --trusted-ca-file z --client-cert-auth", NULL,
     NULL, RUN, "client=x,y,z,,,,|,1,0 peer=,,,,,,|,0,0 "},
    {"--client-cert-file v --client-key-file w --client-crl-file x "
     "--client-cert-allowed-hostname y --auto-tls",
     NULL, NULL, RUN, "client=,,,x,v,w,|y,0,1 peer=,,,,,,|,0,0 "},
    {"--peer-cert-file x --peer-key-file y --peer-ca-file z "
     "--peer-cert-allowed-cn n --peer-auto-tls",
     NULL, NULL, RUN, "peer=x,y,z,,,,n|,1,1 "},
    {"--ca-file x", NULL, NULL, RUN, "client=,,x,,,,|,1,0 "},
    {"--ca-file x --trusted-ca-file y", NULL, NULL, RUN,
     "client=,,y,,,,|,1,0 "},
    {"--cipher-suites A,B --tls-min-version TLS1.3 --tls-max-version TLS1.3 "
     "--self-signed-cert-validity 7 "
     "--experimental-peer-skip-client-san-verification",
     NULL, NULL, RUN, "tls=A,B,TLS1.3,TLS1.3,7,1 "},
    {"", NULL, NULL, RUN, "tls=,TLS1.2,,1,0 "},
    {"--tls-min-version TLS1.1", NULL, NULL, 2, "for flag -tls-min-version"},
    {"--listen-peer-urls https://127.0.0.1:1", NULL, NULL, RUN,
     "lp=https://127.0.0.1:1 "},

    /* what this build does not do */
    {"--proxy on", NULL, NULL, 1, "--proxy on: the v2 proxy mode is not"},
    {"--proxy bog", NULL, NULL, 2, "for flag -proxy: invalid value\n"},
    {"--proxy off --discovery-fallback exit", NULL, NULL, RUN, "RUN"},
    {"--discovery-endpoints a:1 --discovery-token b", NULL, NULL, 1,
     "the v3 discovery is not supported"},
    {"--backend-batch-limit 5", NULL, NULL, RUN,
     "W | etcdmain: --backend-batch-limit is accepted, but has no effect"},
};

static const struct test environment[] = {
    {"", "ETCD_NAME=envn|ETCD_ENABLE_V2=false", NULL, RUN, "name=envn "},
    {"", "ETCD_NAME=envn|ETCD_ENABLE_V2=false", NULL, RUN, " v2=0 "},
    {"", "ETCD_NAME=envn", NULL, RUN,
     "I | pkg/flags: recognized and used environment variable "
     "ETCD_NAME=envn\n"},
    {"", "ETCD_FOO=1", NULL, RUN,
     "W | pkg/flags: unrecognized environment variable ETCD_FOO=1\n"},
    {"--data-dir q", "ETCD_DATA_DIR=/y", NULL, RUN,
     "W | pkg/flags: recognized environment variable ETCD_DATA_DIR, but "
     "unused: shadowed by corresponding flag\n"},
    {"--data-dir q", "ETCD_DATA_DIR=/y", NULL, RUN, "data-dir=q "},
    {"", "ETCD_ELECTION_TIMEOUT=abc", NULL, 1,
     VERIFY("invalid value \"abc\" for ETCD_ELECTION_TIMEOUT: parse error")},
    {"", "ETCD_CORS=abc", NULL, 1,
     VERIFY("invalid value \"abc\" for ETCD_CORS: URL scheme must be http, "
            "https, unix, or unixs: abc")},
    {"", "ETCD_NAME=|ETCD_ELECTION_TIMEOUT=", NULL, RUN, "name=default "},
    {"", "ETCD_LISTEN_CLIENT_URLS=http://127.0.0.1:1", NULL, 1,
     "--advertise-client-urls is required"},
    {"", "ETCD_VERSION=v3.4.23|ETCD_UNSUPPORTED_ARCH=arm64", NULL, RUN,
     "W | pkg/flags: cannot set special environment variable ETCD_VERSION\n"},
    {"", "ETCDCTL_API=3|ETCD=1|ETCD_name=x", NULL, RUN, "name=default "},
    {"", "ETCD_EXPERIMENTAL_MAX_LEARNERS=4", NULL, RUN, "learners=4"},
    {"", "ETCD_CONFIG_FILE=/nonexistent", NULL, 1,
     VERIFY("open /nonexistent: no such file or directory")},
    {"--name a", "ETCD_LOGGER=zap", NULL, RUN,
     "\"msg\":\"recognized and used environment variable ETCD_LOGGER=zap\""},
};

/* The sample of etcd's own documentation, without its comments. */
static const char sample[] =
    "# This is the configuration file for the etcd server.\n\n"
    "name: 'default'\n\n"
    "# Path to the data directory.\n"
    "data-dir:\nwal-dir:\nsnapshot-count: 10000\nheartbeat-interval: 100\n"
    "election-timeout: 1000\nquota-backend-bytes: 0\n"
    "listen-peer-urls: http://localhost:2380\n"
    "listen-client-urls: http://localhost:2379\n"
    "max-snapshots: 5\nmax-wals: 5\ncors:\n"
    "initial-advertise-peer-urls: http://localhost:2380\n"
    "advertise-client-urls: http://localhost:2379\n"
    "discovery:\ndiscovery-fallback: 'proxy'\ndiscovery-proxy:\n"
    "discovery-srv:\ninitial-cluster:\n"
    "initial-cluster-token: 'etcd-cluster'\ninitial-cluster-state: 'new'\n"
    "strict-reconfig-check: false\nenable-v2: true\nenable-pprof: true\n"
    "proxy: 'off'\nproxy-failure-wait: 5000\nproxy-refresh-interval: 30000\n"
    "proxy-dial-timeout: 1000\nproxy-write-timeout: 5000\n"
    "proxy-read-timeout: 0\n\n"
    "client-transport-security:\n  # TLS\n  ca-file:\n  cert-file:\n"
    "  key-file:\n  client-cert-auth: false\n  trusted-ca-file:\n"
    "  auto-tls: false\n\n"
    "peer-transport-security:\n  ca-file:\n  cert-file:\n  key-file:\n"
    "  client-cert-auth: false\n  trusted-ca-file:\n  auto-tls: false\n\n"
    "debug: false\nlog-package-levels:\nlogger: zap\n"
    "log-outputs: [stderr]\nforce-new-cluster: false\n"
    "auto-compaction-mode: periodic\nauto-compaction-retention: \"1\"\n";

/* As in a tutorial on the web: blanks at the ends of lines. */
static const char tutorial[] =
    "name: etcd-1  \n"
    "data-dir: /opt/etcd/data  \n"
    "listen-client-urls: http://192.0.2.8:2379,http://127.0.0.1:2379  \n"
    "advertise-client-urls: http://192.0.2.8:2379,http://127.0.0.1:2379  \n"
    "listen-peer-urls: http://192.0.2.8:2380  \n"
    "initial-advertise-peer-urls: http://192.0.2.8:2380  \n"
    "initial-cluster: etcd-1=http://192.0.2.8:2380,"
    "etcd-2=http://192.0.2.9:2380  \n"
    "initial-cluster-token: etcd-cluster-token  \n"
    "initial-cluster-state: new  \n\n\n";

static const struct test files[] = {
    {"--config-file @", NULL, sample, RUN, "snapshot-count=10000 "},
    {"--config-file @", NULL, sample, RUN,
     "strict=0 gateway=1 quota=0 request=1572864"},
    {"--config-file @", NULL, sample, RUN, "compaction=periodic:1 "},
    {"--config-file @", NULL, tutorial, RUN,
     "RUN name=etcd-1 data-dir=/opt/etcd/data member=/opt/etcd/data/member "},
    {"--config-file @", NULL, tutorial, RUN,
     "cluster=etcd-1=http://192.0.2.8:2380,etcd-2=http://192.0.2.9:2380 "
     "token=etcd-cluster-token existing=0"},
    {"--config-file @", NULL, "name: a\n\tdata-dir: b\n", 1,
     VERIFY("error converting YAML to JSON: yaml: line 2: found a tab "
            "character that violates indentation")},

    /* only the file counts, but the command line must be right */
    {"--name x --config-file @", "ETCD_DATA_DIR=/e", "wal-dir: /w\n", RUN,
     "RUN name=default data-dir=default.etcd "},
    {"", "ETCD_CONFIG_FILE=@|ETCD_NAME=e", "name: f\n", RUN, "RUN name=f "},
    {"--config-file @ --bogus", NULL, "name: f\n", 2, "not defined: -bogus"},
    {"--config-file @", NULL, "name: f\n", RUN,
     "\". Other configuration command line flags and environment variables "
     "will be ignored if provided.\n"},

    /* values */
    {"--config-file @", NULL, "", RUN, "name=default "},
    {"--config-file @", NULL, "NAME: a\nData-Dir: b\nunknown: [1]\n", RUN,
     "RUN name=a data-dir=b "},
    {"--config-file @", NULL, /* nothing to warn of */
     "NAME: a\nData-Dir: b\nClient-Transport-Security:\n  Auto-TLS: true\n",
     RUN, "if provided.\nRUN name=a data-dir=b "},
    {"--config-file @", NULL, "unknown: [1]\n", RUN,
     "sets unknown, which is unknown and ignored"},
    {"--config-file @", NULL, "cert-file: /x\n", RUN, /* outside its section */
     "sets cert-file, which is unknown and ignored"},
    {"--config-file @", NULL, "{\"name\":\"j\",\"max-wals\":7}", RUN,
     "name=j "},
    {"--config-file @", NULL, "name: 123\nauto-compaction-retention: 1\n", RUN,
     "RUN name=123 "},
    {"--config-file @", NULL, "name: true\n", RUN, "RUN name=true "},
    {"--config-file @", NULL, "grpc-keepalive-interval: 5000000000\n", RUN,
     "keepalive=5000000000 "},
    {"--config-file @", NULL, "warning-apply-duration: 250000000\n", RUN,
     "apply=250 "},
    {"--config-file @", NULL, "experimental-max-learners: 2\n", RUN,
     "learners=2"},
    {"--config-file @", NULL, "socket-options:\n  reuse-port: true\n", RUN,
     "reuse=1"},
    {"--config-file @", NULL, "initial-cluster-state: ''\nproxy: ''\n", RUN,
     "existing=0"},
    {"--config-file @", NULL, "listen-client-urls: http://127.0.0.1:1\n", RUN,
     "ac=http://localhost:2379 "},
    {"--config-file @", NULL, "discovery: http://a/b\n", RUN, " cluster= "},
    {"--config-file @", NULL, "log-outputs: [stdout, stderr]\n", RUN,
     "outputs=stdout,stderr "},
    {"--config-file @", NULL, "cors: http://a.b:1\nhost-whitelist: a,b\n", RUN,
     "cors=http://a.b:1 hosts=a,b "},
    {"--config-file @", NULL, "backend-batch-interval: 0\n", RUN, "RUN"},

    /* errors */
    {"--config-file /nonexistent", NULL, NULL, 1,
     VERIFY("open /nonexistent: no such file or directory")},
    {"--config-file @", NULL, "name: [a\n", 1,
     VERIFY("error converting YAML to JSON: yaml: line 1: did not find "
            "expected ',' or ']'")},
    {"--config-file @", NULL, "client-transport-security: x\n", 1,
     VERIFY("error unmarshaling JSON: while decoding JSON: json: cannot "
            "unmarshal string into Go struct field "
            "configYAML.client-transport-security of type "
            "embed.securityConfig")},
    {"--config-file @", NULL, "Client-Transport-Security: x\n", 1,
     "json: cannot unmarshal string into Go struct field "},
    {"--config-file @", NULL, "client-transport-security:\n", RUN, "RUN"},
    {"--config-file @", NULL, "heartbeat-interval: x\n", 1,
     VERIFY("error unmarshaling JSON: while decoding JSON: json: cannot "
            "unmarshal string into Go struct field "
            "configYAML.heartbeat-interval of type uint")},
    {"--config-file @", NULL, "heartbeat-interval: -5\n", 1,
     "cannot unmarshal number -5 into Go struct field "
     "configYAML.heartbeat-interval of type uint"},
    {"--config-file @", NULL,
     "client-transport-security:\n  client-cert-auth: 3\n", 1,
     "cannot unmarshal number into Go struct field "
     "securityConfig.client-transport-security.client-cert-auth of type "
     "bool"},
    {"--config-file @", NULL, "name: [a]\n", 1,
     "cannot unmarshal array into Go struct field configYAML.name of type "
     "string"},
    {"--config-file @", NULL, "backend-batch-interval: 5s\n", 1,
     "cannot unmarshal string into Go struct field "
     "configYAML.backend-batch-interval of type time.Duration"},
    {"--config-file @", NULL, "hello\n", 1,
     VERIFY("error unmarshaling JSON: while decoding JSON: json: cannot "
            "unmarshal string into Go value of type embed.configYAML")},
    {"--config-file @", NULL, "listen-client-urls: nope\n", 1,
     "\nunexpected error setting up listen-client-urls: URL scheme must be "
     "http, https, unix, or unixs: nope\n"},
    {"--config-file @", NULL, "initial-cluster-state: x\n", 1,
     VERIFY("unexpected clusterState \"x\"")},
    {"--config-file @", NULL, "name: \"a\\0b\"\n", 1,
     VERIFY("name holds a NUL byte")},
    {"--config-file @", NULL,
     "peer-transport-security:\n  cert-file: /x\n  client-cert-auth: true\n"
     "  allowed-cn: [a, b]\n  skip-client-san-verification: true\n",
     RUN, "peer=/x,,,,,,a,b|,1,0 tls=,TLS1.2,,1,1 "},
    {"--config-file @", NULL,
     "client-transport-security:\n  ca-file: /x\n  auto-tls: true\n"
     "cipher-suites: [A, B]\ntls-min-version: TLS1.3\n",
     RUN, "client=,,/x,,,,|,1,1 peer=,,,,,,|,0,0 tls=A,B,TLS1.3,,1,0 "},
};

/* Listening on all addresses, the member advertises a real one. */
static void test_default_host(void)
{
    static const struct test t = {"--listen-peer-urls http://0.0.0.0:2399",
                                  NULL, NULL, RUN, ""};
    static char out[65536];
    bool detected;

    CHECK(run(&t, out, sizeof(out)) == RUN);
    detected = strstr(out, "advertising using detected default host") != NULL;
    /* Without a route there is nothing to detect, and nothing to say. */
    CHECK(detected == !strstr(out, " ap=http://localhost:2380 "));
    CHECK(detected == !strstr(out, " cluster=default=http://localhost:2380 "));
    CHECK(!detected || strstr(out, ":2399 ac="));
}

int main(void)
{
    const char *tmp = getenv("TMPDIR");
    char *path = tmp ? xasprintf("%s/config_test.XXXXXX", tmp) : dir;

    if (!mkdtemp(path)) {
        perror(path);
        return 1;
    }
    file_path = xasprintf("%s/etcd.yml", path);
    out_path = xasprintf("%s/out", path);
    run_all(command_line, ARRAY_LEN(command_line));
    run_all(rules, ARRAY_LEN(rules));
    run_all(environment, ARRAY_LEN(environment));
    run_all(files, ARRAY_LEN(files));
    test_default_host();
    unlink(file_path);
    unlink(out_path);
    rmdir(path);
    free(file_path);
    free(out_path);
    if (tmp)
        free(path);
    return check_done("config");
}
