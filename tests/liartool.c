/*
 * liartool.c - a member of a cluster that lies: it has a real id and the right
 * headers, and says what no correct member says. For tests/liar_test.sh.
 *
 *   liartool INITIAL-CLUSTER OWN-PEER-URL CLIENT-URL CLIENT-URL
 *
 * INITIAL-CLUSTER names three members; the last one is the liar, who listens on
 * its peer URL and tells each lie three ways: by POST to the others, in answer
 * to the streams that they open, and, where it is bytes rather than a message,
 * raw. After each lie both honest members must take a write; how long that took
 * is printed. Exit 0 if they always did.
 */
#include "client.h"
#include "cluster.h"
#include "config.h"
#include "etcdpb.h"
#include "http.h"
#include "peer.h"
#include "sys.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#define HONEST 2
#define SERVED_WITHIN_NS (10 * NS_PER_S)
#define REPEAT 20
#define STORM_BYTES (64u * 1024 * 1024)

static struct {
    uint64_t ids[HONEST + 1], cluster_id; /* the last id is ours */
    struct url peers[HONEST];
    const char *clients[HONEST];
    char *headers[HONEST];

    pthread_mutex_t mu;
    pthread_cond_t cond;
    struct buf frame; /* what the streams say now, if anything */
    uint64_t round;
    bool stop;
    atomic_uint streams; /* that the honest ones have opened */
} w = {.mu = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};

static uint64_t our_id(void)
{
    return w.ids[HONEST];
}

/* --- Asking. ------------------------------------------------------------ */

static int ask(const struct url *base, const char *method, const char *target,
               const char *headers, const void *body, size_t n,
               struct buf *answer)
{
    struct client_request r = {.method = method,
                               .base = base,
                               .target = target,
                               .headers = headers,
                               .body = body,
                               .n_body = n,
                               .dial_ms = 1000,
                               .timeout_ms = 3000};
    struct client_response resp;
    struct err e;
    int status;

    if (client_do(&r, &resp, &e) < 0)
        return -1;
    status = resp.status;
    if (answer)
        buf_addstr(answer, buf_str(&resp.body));
    client_response_release(&resp);
    return status;
}

static bool put(size_t honest, unsigned value)
{
    static const char type[] =
        "Content-Type: application/x-www-form-urlencoded\r\n";
    struct url u;
    char body[32];
    int status;

    snprintf(body, sizeof(body), "value=%u", value);
    if (url_parse(str_of(w.clients[honest]), &u, NULL) < 0)
        return false;
    status = ask(&u, "PUT", "/v2/keys/honest", type, body, strlen(body), NULL);
    url_release(&u);
    return status == 200 || status == 201;
}

/* Both honest members take a write: how long that took, or -1. */
static int64_t until_served(void)
{
    static unsigned value;
    int64_t began = sys_mono_ns();

    for (size_t i = 0; i < HONEST; i++) {
        while (!put(i, ++value)) {
            if (sys_mono_ns() - began > SERVED_WITHIN_NS)
                return -1;
            sys_sleep_ms(20);
        }
    }
    return sys_mono_ns() - began;
}

/* Their newest term and index, as far as a client can know them. */
static uint64_t header_of(const char *name)
{
    struct client_request r = {.method = "GET",
                               .target = "/v2/keys/honest",
                               .dial_ms = 1000,
                               .timeout_ms = 3000};
    struct client_response resp;
    struct url u;
    struct err e;
    uint64_t v = 0;

    if (url_parse(str_of(w.clients[0]), &u, NULL) < 0)
        return 0;
    r.base = &u;
    if (client_do(&r, &resp, &e) == 0) {
        struct str s = http_header(&resp.head, name);

        if (!s.p || !str_to_u64(s, &v))
            v = 0;
        client_response_release(&resp);
    }
    url_release(&u);
    return v;
}

/* --- Listening: the streams that the honest ones read. ------------------ */

static void say_on_stream(struct http_exchange *x)
{
    uint64_t seen = 0;
    bool go = true;

    http_set_status(x, 200);
    if (http_begin(x) < 0)
        return;
    atomic_fetch_add(&w.streams, 1);
    while (go) {
        struct buf out = {0};

        pthread_mutex_lock(&w.mu);
        while (!w.stop && seen == w.round)
            pthread_cond_wait(&w.cond, &w.mu);
        seen = w.round;
        go = !w.stop;
        buf_addstr(&out, buf_str(&w.frame));
        pthread_mutex_unlock(&w.mu);
        if (go && out.len && http_write(x, out.data, out.len) < 0)
            go = false;
        buf_release(&out);
    }
    atomic_fetch_sub(&w.streams, 1);
    http_close_after(x);
}

static void serve(struct http_exchange *x, void *arg)
{
    (void)arg;
    if (str_has_prefix(http_path(x), "/raft/stream/"))
        say_on_stream(x);
    else
        http_reply(x, 200, "application/json", "[{\"id\":{}}\xff", 11);
}

static void say(const void *p, size_t n)
{
    pthread_mutex_lock(&w.mu);
    buf_clear(&w.frame);
    buf_add(&w.frame, p, n);
    w.round++;
    pthread_cond_broadcast(&w.cond);
    pthread_mutex_unlock(&w.mu);
}

/* --- Telling. ----------------------------------------------------------- */

static void post(size_t honest, const char *target, const void *p, size_t n)
{
    ask(&w.peers[honest], "POST", target, w.headers[honest], p, n, NULL);
}

/* By POST to both, and on the streams. Releases m. */
static void tell(struct raft_msg *m)
{
    struct buf b = {0}, framed = {0};
    struct msgapp_state none = {0, 0};
    uint64_t to = m->to;

    for (size_t i = 0; i < HONEST; i++) {
        buf_clear(&b);
        buf_clear(&framed);
        m->to = to ? to : w.ids[i];
        raftpb_encode_msg(&b, m);
        post(i, "/raft", b.data, b.len);
        if (m->type == RAFT_MSG_SNAP) {
            uint8_t len[8];

            put_u64be(len, b.len);
            buf_add(&framed, len, sizeof(len));
            buf_addstr(&framed, buf_str(&b));
            post(i, "/raft/snapshot", framed.data, framed.len);
        }
        /* The two streams differ: each gets one that it can read. */
        buf_clear(&framed);
        if (m->type == RAFT_MSG_APP)
            peer_encode_msgapp(&framed, &none, m);
        else
            peer_encode_message(&framed, m);
        say(framed.data, framed.len);
    }
    raft_msg_release(m);
    buf_release(&b);
    buf_release(&framed);
}

static struct raft_msg message(enum raft_msg_type type, uint64_t term)
{
    return (struct raft_msg){.type = type, .from = our_id(), .term = term};
}

static void add_entry(struct raft_msg *m, enum raft_entry_type type,
                      uint64_t term, uint64_t index, struct str data)
{
    m->entries = xrealloc(m->entries, (m->n_entries + 1) * sizeof(*m->entries));
    m->entries[m->n_entries++] = (struct raft_entry){
        .type = type,
        .term = term,
        .index = index,
        .data = data.n ? blob_new(data.p, data.n) : NULL,
    };
}

/* --- The lies. Each is told with the present term and index. ------------- */

static void huge_terms(uint64_t term, uint64_t index)
{
    static const uint64_t terms[] = {UINT64_MAX, UINT64_MAX / 2,
                                     UINT64_MAX - 1};
    static const enum raft_msg_type types[] = {RAFT_MSG_HEARTBEAT, RAFT_MSG_APP,
                                               RAFT_MSG_VOTE, RAFT_MSG_APP_RESP,
                                               RAFT_MSG_PRE_VOTE_RESP};
    struct raft_msg m;

    (void)term;
    for (size_t i = 0; i < ARRAY_LEN(terms); i++) {
        for (size_t k = 0; k < ARRAY_LEN(types); k++) {
            m = message(types[k], terms[i]);
            m.index = index;
            m.reject = true;
            tell(&m);
        }
    }
}

/* Which a correct member may have: the others follow it there. */
static void later_terms(uint64_t term, uint64_t index)
{
    struct raft_msg m;

    (void)index;
    for (uint64_t i = 1; i <= 5; i++) {
        m = message(RAFT_MSG_HEARTBEAT, term + i * 1000);
        tell(&m);
    }
}

static void indexes_beyond(uint64_t term, uint64_t index)
{
    static const uint64_t far[] = {UINT64_MAX, UINT64_MAX / 2, 1000000};
    struct raft_msg m;

    for (size_t i = 0; i < ARRAY_LEN(far); i++) {
        m = message(RAFT_MSG_APP, term);
        m.index = far[i] < 2000000 ? index + far[i] : far[i];
        m.log_term = term;
        m.commit = UINT64_MAX;
        tell(&m);
        m = message(RAFT_MSG_HEARTBEAT, term);
        m.commit = far[i];
        tell(&m);
        m = message(RAFT_MSG_APP_RESP, term);
        m.index = far[i];
        tell(&m);
        m = message(RAFT_MSG_APP_RESP, term);
        m.index = index;
        m.reject = true;
        m.reject_hint = far[i];
        m.log_term = far[i];
        tell(&m);
    }
}

static void entries_with_gaps(uint64_t term, uint64_t index)
{
    struct raft_msg m = message(RAFT_MSG_APP, term + 1);

    m.index = index;
    m.log_term = term;
    add_entry(&m, RAFT_ENTRY_NORMAL, term, index + 2, STR(""));
    tell(&m);
    m = message(RAFT_MSG_APP, term + 1);
    m.index = index;
    m.log_term = term + 5; /* later than the message */
    add_entry(&m, RAFT_ENTRY_NORMAL, term, index + 1, STR(""));
    tell(&m);
    m = message(RAFT_MSG_APP, term + 1);
    add_entry(&m, RAFT_ENTRY_NORMAL, term + 9, 1, STR(""));
    add_entry(&m, RAFT_ENTRY_NORMAL, 1, 2, STR(""));
    tell(&m);
    m = message(RAFT_MSG_APP, term + 1);
    m.index = UINT64_MAX / 2 - 2;
    for (uint64_t i = 0; i < 4; i++)
        add_entry(&m, RAFT_ENTRY_NORMAL, 1, m.index + 1 + i, STR(""));
    tell(&m);
}

/* Entries that nobody could apply: as a leader's, and as proposals. */
static void unreadable_entries(uint64_t term, uint64_t index)
{
    static const struct str data[] = {
        {"\xff\xff\xff\xff", 4}, {"\x0a\xff", 2}, {"\x08\x01\x12\x7f", 4}};
    struct raft_msg m;

    for (size_t i = 0; i < ARRAY_LEN(data); i++) {
        for (int type = 0; type <= RAFT_ENTRY_CONF_CHANGE_V2; type++) {
            m = message(RAFT_MSG_PROP, 0);
            add_entry(&m, (enum raft_entry_type)type, 0, 0, data[i]);
            tell(&m);
            m = message(RAFT_MSG_APP, term + 1);
            m.index = index;
            m.log_term = term;
            m.commit = index + 1;
            add_entry(&m, (enum raft_entry_type)type, term + 1, index + 1,
                      data[i]);
            tell(&m);
        }
    }
}

static void odd_proposals(uint64_t term, uint64_t index)
{
    struct v2_request r = {.id = 7, .method = STR("PUT"), .val = STR("x")};
    struct raft_msg m;
    struct buf path = {0}, b = {0};

    (void)term;
    (void)index;
    while (path.len < 100000)
        buf_adds(&path, "/a");
    r.path = buf_str(&path);
    etcdpb_encode_v2_request(&b, &r);
    m = message(RAFT_MSG_PROP, 0);
    add_entry(&m, RAFT_ENTRY_NORMAL, 0, 0, buf_str(&b));
    tell(&m);
    buf_clear(&b);
    r.path = STR("");
    r.method = STR("POST");
    etcdpb_encode_v2_request(&b, &r);
    m = message(RAFT_MSG_PROP, 0);
    m.from = 4711; /* a stranger */
    add_entry(&m, RAFT_ENTRY_NORMAL, 0, 0, buf_str(&b));
    tell(&m);
    m = message(RAFT_MSG_PROP, 0);
    add_entry(&m, RAFT_ENTRY_CONF_CHANGE, 0, 0,
              STR("\x08\x01\x10\x00\x18\x05\x22\x02{}"));
    tell(&m);
    m = message(RAFT_MSG_PROP, 0); /* of nothing */
    tell(&m);
    buf_release(&path);
    buf_release(&b);
}

static void wrong_ids(uint64_t term, uint64_t index)
{
    static const uint64_t ids[] = {0, 1, UINT64_MAX};
    struct raft_msg m;

    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        m = message(RAFT_MSG_HEARTBEAT, term);
        m.from = ids[i];
        m.commit = index;
        tell(&m);
        m = message(RAFT_MSG_APP, term);
        m.to = ids[i] ? ids[i] : 1;
        tell(&m);
    }
    for (size_t i = 0; i < HONEST; i++) { /* as if from itself */
        m = message(RAFT_MSG_APP, term);
        m.to = m.from = w.ids[i];
        tell(&m);
    }
}

static void votes_of_others(uint64_t term, uint64_t index)
{
    static const enum raft_msg_type types[] = {
        RAFT_MSG_VOTE_RESP, RAFT_MSG_PRE_VOTE_RESP, RAFT_MSG_VOTE,
        RAFT_MSG_PRE_VOTE};
    struct raft_msg m;

    for (size_t i = 0; i < HONEST; i++) {
        for (size_t k = 0; k < ARRAY_LEN(types); k++) {
            m = message(types[k], term + k);
            m.from = w.ids[i];
            m.to = w.ids[1 - i];
            m.index = index;
            m.log_term = term;
            tell(&m);
        }
    }
}

static void answers_unasked(uint64_t term, uint64_t index)
{
    static const enum raft_msg_type types[] = {
        RAFT_MSG_READ_INDEX_RESP, RAFT_MSG_APP_RESP, RAFT_MSG_HEARTBEAT_RESP,
        RAFT_MSG_READ_INDEX, RAFT_MSG_TRANSFER_LEADER};
    struct raft_msg m;

    for (size_t k = 0; k < ARRAY_LEN(types); k++) {
        for (size_t n = 0; n < 3; n++) {
            m = message(types[k], n == 2 ? 0 : term);
            m.index = index + n;
            m.context = blob_new("12345678", 8 - n);
            for (size_t i = 0; i < n; i++)
                add_entry(&m, RAFT_ENTRY_NORMAL, 0, 0, STR("12345678"));
            tell(&m);
        }
    }
}

static void local_types(uint64_t term, uint64_t index)
{
    static const enum raft_msg_type types[] = {
        RAFT_MSG_HUP, RAFT_MSG_BEAT, RAFT_MSG_UNREACHABLE, RAFT_MSG_SNAP_STATUS,
        RAFT_MSG_CHECK_QUORUM};
    static const uint8_t unknown[] = {8, 99, 16, 1, 24, 2, 32, 3};
    struct raft_msg m;

    for (size_t k = 0; k < ARRAY_LEN(types); k++) {
        m = message(types[k], term);
        m.index = index;
        tell(&m);
    }
    for (size_t i = 0; i < HONEST; i++)
        post(i, "/raft", unknown, sizeof(unknown));
}

static void false_snapshots(uint64_t term, uint64_t index)
{
    static const struct str states[] = {
        {"", 0}, {"{}", 2}, {"garbage", 7}, {"{\"Root\":{\"Path\":", 16}};

    for (size_t i = 0; i < ARRAY_LEN(states); i++) {
        struct raft_msg m = message(RAFT_MSG_SNAP, term + 1);

        m.snapshot = xcalloc(1, sizeof(*m.snapshot));
        m.snapshot->index = index + 1000;
        m.snapshot->term = term;
        m.snapshot->data =
            states[i].n ? blob_new(states[i].p, states[i].n) : NULL;
        for (size_t k = 0; k <= HONEST; k++)
            raft_ids_add(&m.snapshot->conf_state.voters, w.ids[k]);
        tell(&m);
    }
}

/* TimeoutNow is what a leader says; whoever hears it from another must not
 * campaign for ever. */
static void calls_to_campaign(uint64_t term, uint64_t index)
{
    (void)index;
    for (int i = 0; i < REPEAT; i++) {
        struct raft_msg m = message(RAFT_MSG_TIMEOUT_NOW, term);

        tell(&m);
    }
}

/* --- Lies in bytes. ------------------------------------------------------ */

static void false_lengths(uint64_t term, uint64_t index)
{
    static const uint64_t lengths[] = {UINT64_C(1) << 63, UINT64_MAX,
                                       UINT32_MAX, PEER_MSG_MAX};
    uint8_t frame[32] = {0};

    (void)term;
    (void)index;
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        put_u64be(frame, lengths[i]);
        say(frame, 16);
        for (size_t k = 0; k < HONEST; k++)
            post(k, "/raft/snapshot", frame, 16);
        for (uint8_t kind = 1; kind < 4; kind++) {
            frame[0] = kind;
            put_u64be(frame + 1, lengths[i]);
            put_u64be(frame + 9, lengths[i]);
            say(frame, sizeof(frame));
            sys_sleep_ms(5);
        }
    }
}

static void garbage(uint64_t term, uint64_t index)
{
    uint8_t noise[4096];

    (void)term;
    (void)index;
    for (int i = 0; i < REPEAT; i++) {
        sys_random(noise, sizeof(noise));
        say(noise, sizeof(noise));
        post(i % HONEST, "/raft", noise, sizeof(noise));
        post(i % HONEST, "/raft/snapshot", noise, sizeof(noise));
    }
}

/* Frames without end: signs of life, as fast as they are taken. */
static void endless_stream(uint64_t term, uint64_t index)
{
    static const struct raft_msg alive = {.type = RAFT_MSG_HEARTBEAT};
    struct buf b = {0};

    (void)term;
    (void)index;
    while (b.len < 1024 * 1024)
        peer_encode_message(&b, &alive);
    for (size_t sent = 0; sent < STORM_BYTES; sent += b.len) {
        say(b.data, b.len);
        sys_sleep_ms(5);
    }
    buf_release(&b);
}

/* A large frame that comes, and never ends: memory for what came, no more. */
static void unfinished_frame(uint64_t term, uint64_t index)
{
    struct buf b = {0};

    (void)term;
    (void)index;
    buf_reserve(&b, STORM_BYTES / 4);
    memset(b.data, 0, STORM_BYTES / 4);
    put_u64be(b.data, PEER_MSG_MAX);
    b.len = STORM_BYTES / 4;
    say(b.data, b.len);
    buf_release(&b);
    sys_sleep_ms(300);
    say("", 0);
}

/* Streams are asked for, and never read. */
static void deaf_reader(uint64_t term, uint64_t index)
{
    struct client *c[16] = {NULL};
    char *target = xasprintf("/raft/stream/msgapp/%" PRIx64, our_id());
    struct err e;

    (void)term;
    (void)index;
    for (size_t i = 0; i < ARRAY_LEN(c); i++) {
        struct client_request r = {.method = "GET",
                                   .base = &w.peers[i % HONEST],
                                   .target = target,
                                   .headers = w.headers[i % HONEST],
                                   .dial_ms = 1000};

        if (client_open(&r, &c[i], &e) < 0)
            c[i] = NULL;
    }
    for (unsigned i = 0; i < 200; i++)
        put(i % HONEST, i);
    for (size_t i = 0; i < ARRAY_LEN(c); i++)
        client_close(c[i]);
    free(target);
}

static void wrong_headers(uint64_t term, uint64_t index)
{
    static const char *const headers[] = {
        NULL,
        "X-Etcd-Cluster-ID: 1\r\n",
        "X-Server-Version: 99.0.0\r\nX-Min-Cluster-Version: 98.0.0\r\n",
        "X-Server-From: zz\r\nX-PeerURLs: http://[\r\nX-Raft-To: -1\r\n",
    };

    (void)term;
    (void)index;
    for (int n = 0; n < REPEAT; n++) {
        for (size_t i = 0; i < ARRAY_LEN(headers); i++) {
            ask(&w.peers[i % HONEST], "POST", "/raft", headers[i], "x", 1,
                NULL);
            ask(&w.peers[i % HONEST], "GET", "/raft/stream/message/zz",
                headers[i], NULL, 0, NULL);
        }
    }
}

static const struct {
    const char *name;
    void (*tell)(uint64_t term, uint64_t index);
} lies[] = {
    {"wrong headers", wrong_headers},
    {"wrong ids", wrong_ids},
    {"local and unknown types", local_types},
    {"answers to nothing", answers_unasked},
    {"indexes beyond the log", indexes_beyond},
    {"entries with gaps", entries_with_gaps},
    {"entries that are no requests", unreadable_entries},
    {"odd proposals", odd_proposals},
    {"snapshots of nothing", false_snapshots},
    {"lengths", false_lengths},
    {"garbage", garbage},
    {"a frame without end", unfinished_frame},
    {"frames without end", endless_stream},
    {"streams unread", deaf_reader},
    {"votes of others", votes_of_others},
    {"calls to campaign", calls_to_campaign},
    {"later terms", later_terms},
    {"terms that cannot be", huge_terms},
};

static bool run(void)
{
    for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
        uint64_t term = header_of("X-Raft-Term");
        uint64_t index = header_of("X-Raft-Index");
        int64_t took;

        lies[i].tell(term, index);
        say("", 0);
        took = until_served();
        printf("%-30s served again after %5.0f ms (streams to us: %u)\n",
               lies[i].name, took < 0 ? -1.0 : (double)took / NS_PER_MS,
               atomic_load(&w.streams));
        fflush(stdout);
        if (took < 0)
            return false;
    }
    return true;
}

static int fail(const char *what)
{
    fprintf(stderr, "liartool: %s\n", what);
    return 2;
}

/* The ids of the members in the order of the flag: n1, n2, and us. */
static int learn(const char *flag)
{
    struct cluster *c = cluster_new();
    struct err e;
    int rc = cluster_from_flag(c, flag, "etcd-cluster", &e);

    for (size_t i = 0; rc == 0 && i <= HONEST; i++) {
        char name[] = {'n', (char)('1' + i), '\0'};
        struct member m;

        if (!cluster_member_by_name(c, name, &m)) {
            rc = -1;
            break;
        }
        w.ids[i] = m.id;
        if (i < HONEST && url_parse(str_of(m.peer_urls[0]), &w.peers[i], &e))
            rc = -1;
        member_release(&m);
    }
    w.cluster_id = cluster_id(c);
    cluster_free(c);
    return rc;
}

int main(int argc, char **argv)
{
    struct net_listener l;
    struct http_server_options o = {.handler = serve, .conns_max = 0};
    struct http_server *server;
    struct url own;
    struct err e;
    bool ok;

    if (argc != 5 || learn(argv[1]) < 0 ||
        url_parse(str_of(argv[2]), &own, &e) < 0)
        return fail("usage: liartool INITIAL-CLUSTER OWN-URL CLIENT-URL "
                    "CLIENT-URL");
    for (size_t i = 0; i < HONEST; i++) {
        w.clients[i] = argv[3 + i];
        w.headers[i] = xasprintf(
            "X-Server-From: %" PRIx64 "\r\nX-Server-Version: " ETCD_VERSION
            "\r\nX-Min-Cluster-Version: 3.0.0\r\nX-Etcd-Cluster-ID: %" PRIx64
            "\r\nX-PeerURLs: %s\r\nX-Raft-To: %" PRIx64 "\r\n",
            our_id(), w.cluster_id, argv[2], w.ids[i]);
    }
    if (net_listen(&own, NULL, &l, &e) < 0 ||
        http_server_start(&l, 1, &o, &server, &e) < 0)
        return fail(e.msg);
    if (until_served() < 0)
        return fail("the honest members do not serve");
    ok = run();

    pthread_mutex_lock(&w.mu);
    w.stop = true;
    pthread_cond_broadcast(&w.cond);
    pthread_mutex_unlock(&w.mu);
    http_server_stop(server, 100);
    net_listener_close(&l);
    url_release(&own);
    for (size_t i = 0; i < HONEST; i++) {
        url_release(&w.peers[i]);
        free(w.headers[i]);
    }
    buf_release(&w.frame);
    return ok ? 0 : 1;
}
