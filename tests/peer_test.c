/*
 * peer_test.c - the peers' protocol: the codec of the streams byte by byte,
 * and whole transports that talk over loopback.
 */
#include "check.h"

#include "client.h"
#include "cluster.h"
#include "log.h"
#include "metrics.h"
#include "net.h"
#include "peer_impl.h"
#include "secure.h"
#include "tlscerts.h"

#include <inttypes.h>
#include <unistd.h>

/* Where the databases of snapshots go. */
static char snap_dir[] = "/tmp/peer_test.XXXXXX";

/* --- Codec. ------------------------------------------------------------- */

static struct raft_entry entry(raft_term term, raft_index index,
                               const char *data)
{
    return (struct raft_entry){
        .term = term,
        .index = index,
        .data = *data ? blob_new(data, strlen(data)) : NULL,
    };
}

/* An append of n entries with the data "<index>". */
static struct raft_msg append(raft_term term, raft_term log_term,
                              raft_index index, size_t n, raft_index commit)
{
    struct raft_msg m = {
        .type = RAFT_MSG_APP,
        .to = 2,
        .from = 1,
        .term = term,
        .log_term = log_term,
        .index = index,
        .commit = commit,
        .entries = n ? xcalloc(n, sizeof(struct raft_entry)) : NULL,
        .n_entries = n,
    };
    char data[32];

    for (size_t i = 0; i < n; i++) {
        snprintf(data, sizeof(data), "%" PRIu64, index + 1 + i);
        m.entries[i] = entry(term, index + 1 + i, data);
    }
    return m;
}

static bool same_msg(const struct raft_msg *a, const struct raft_msg *b)
{
    struct buf ba = {0}, bb = {0};
    bool same;

    raftpb_encode_msg(&ba, a);
    raftpb_encode_msg(&bb, b);
    same = str_eq(buf_str(&ba), buf_str(&bb));
    buf_release(&ba);
    buf_release(&bb);
    return same;
}

static int64_t decode_at(const struct buf *b, size_t at, size_t n, bool msgapp,
                         struct msgapp_state *st, size_t *need,
                         struct raft_msg *out)
{
    /* A copy of exactly n bytes, so that the sanitizer sees every overrun. */
    uint8_t *p = xmalloc(n);
    int64_t size;

    if (n)
        memcpy(p, b->data + at, n);
    size = msgapp ? peer_decode_msgapp(p, n, need, st, 1, 2, out)
                  : peer_decode_message(p, n, need, out);
    free(p);
    return size;
}

/* A frame decodes from all its bytes and asks for more of any prefix. */
static void check_frame(const struct buf *b, size_t at, bool msgapp,
                        struct msgapp_state *st, const struct raft_msg *want)
{
    size_t n = b->len - at, need;
    struct msgapp_state before = *st;
    struct raft_msg m;

    for (size_t i = 0; i < n; i++) {
        need = 0;
        CHECK(decode_at(b, at, i, msgapp, st, &need, &m) == 0);
        CHECK(need > i && need <= n);
        CHECK(st->term == before.term && st->index == before.index);
    }
    CHECK(decode_at(b, at, n, msgapp, st, &need, &m) == (int64_t)n);
    CHECK(same_msg(&m, want));
    raft_msg_release(&m);
}

/* No single changed byte makes the decoder crash or read too far. */
static void flip_bytes(const struct buf *b, bool msgapp,
                       struct msgapp_state before)
{
    struct buf copy = {0};

    for (size_t i = 0; i < b->len; i++) {
        for (int bit = 0; bit < 8; bit++) {
            struct msgapp_state st = before;
            struct raft_msg m;
            size_t need;
            int64_t size;

            buf_clear(&copy);
            buf_add(&copy, b->data, b->len);
            copy.data[i] ^= (uint8_t)(1 << bit);
            size = decode_at(&copy, 0, copy.len, msgapp, &st, &need, &m);
            CHECK(size <= (int64_t)copy.len);
            if (size > 0)
                raft_msg_release(&m);
        }
    }
    buf_release(&copy);
}

static void test_message_frames(void)
{
    struct raft_msg m = append(7, 6, 40, 3, 39);
    struct raft_msg alive = {.type = RAFT_MSG_HEARTBEAT};
    struct msgapp_state st = {0};
    struct buf b = {0};

    m.context = blob_new("ctx", 3);
    m.reject = true;
    m.reject_hint = 9;
    peer_encode_message(&b, &m);
    CHECK(get_u64be(b.data) == b.len - 8);
    check_frame(&b, 0, false, &st, &m);
    flip_bytes(&b, false, st);

    buf_clear(&b);
    peer_encode_message(&b, &alive);
    check_frame(&b, 0, false, &st, &alive);

    /* A length beyond the limit is refused at once. */
    put_u64be(b.data, (uint64_t)PEER_MSG_MAX + 1);
    {
        struct raft_msg out;
        size_t need;

        CHECK(peer_decode_message(b.data, 8, &need, &out) == -1);
        put_u64be(b.data, PEER_MSG_MAX);
        CHECK(peer_decode_message(b.data, 8, &need, &out) == 0);
        CHECK(need == (size_t)PEER_MSG_MAX + 8);
    }
    raft_msg_release(&m);
    buf_release(&b);
}

/* A sequence of appends, and which form each takes on the wire. */
static void test_msgapp_frames(void)
{
    static const struct {
        raft_term term, log_term;
        raft_index index;
        size_t n;
        uint8_t type;
    } cases[] = {
        {2, 1, 5, 1, 2},  /* the first of a term: in full */
        {2, 2, 6, 3, 1},  /* continues: 7, 8, 9 */
        {2, 2, 9, 0, 1},  /* only a commit */
        {2, 2, 9, 1, 1},  /* 10 */
        {2, 2, 8, 1, 2},  /* goes back */
        {2, 2, 9, 2, 1},  /* continues again */
        {3, 2, 11, 1, 2}, /* another term */
        {3, 3, 12, 0, 1}, /* and on */
    };
    struct msgapp_state out = {0}, in = {0};
    struct raft_msg alive = {.type = RAFT_MSG_HEARTBEAT};
    struct buf b = {0};

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct raft_msg m = append(cases[i].term, cases[i].log_term,
                                   cases[i].index, cases[i].n, cases[i].index);
        size_t at = b.len;
        struct msgapp_state before = in;
        struct buf frame = {0};

        peer_encode_msgapp(&b, &out, &m);
        CHECK(b.data[at] == cases[i].type);
        check_frame(&b, at, true, &in, &m);
        CHECK(in.term == out.term && in.index == out.index);
        buf_add(&frame, b.data + at, b.len - at);
        flip_bytes(&frame, true, before);
        buf_release(&frame);
        raft_msg_release(&m);
    }
    buf_clear(&b);
    peer_encode_msgapp(&b, &out, &alive);
    CHECK(b.len == 1 && b.data[0] == 0);
    check_frame(&b, 0, true, &in, &alive);
    buf_release(&b);
}

/* The compact form, byte for byte as etcd writes it. */
static void test_msgapp_bytes(void)
{
    static const uint8_t want[] = {
        1,    0, 0,    0, 0,    0, 0,    0, 1, /* one entry */
        0,    0, 0,    0, 0,    0, 0,    9,    /* of nine bytes */
        0x08, 0, 0x10, 4, 0x18, 7, 0x22, 1,    /* normal, term 4, index 7 */
        'x',                                   /* */
        0,    0, 0,    0, 0,    0, 0,    6,    /* committed */
    };
    struct msgapp_state st = {4, 6};
    struct raft_entry e = entry(4, 7, "x");
    struct raft_msg m = {.type = RAFT_MSG_APP,
                         .to = 2,
                         .from = 1,
                         .term = 4,
                         .log_term = 4,
                         .index = 6,
                         .commit = 6,
                         .entries = &e,
                         .n_entries = 1};
    struct buf b = {0};

    peer_encode_msgapp(&b, &st, &m);
    CHECK(b.len == sizeof(want) && memcmp(b.data, want, b.len) == 0);
    CHECK(st.term == 4 && st.index == 7);
    raft_entry_release(&e);
    buf_release(&b);
}

/* An append that says more than "the next entries" goes in full. */
static void test_append_with_hint(void)
{
    struct msgapp_state writer = {2, 5}, reader = {2, 5};
    struct raft_msg m = append(2, 2, 5, 1, 0), back;
    struct buf b = {0};
    size_t need;

    m.reject_hint = 4;
    peer_encode_msgapp(&b, &writer, &m);
    CHECK(peer_decode_msgapp(b.data, b.len, &need, &reader, 1, 2, &back) ==
          (int64_t)b.len);
    CHECK(same_msg(&back, &m));
    CHECK(writer.term == reader.term && writer.index == reader.index);
    raft_msg_release(&m);
    raft_msg_release(&back);
    buf_release(&b);
}

static void test_bad_frames(void)
{
    static const uint8_t unknown[] = {3};
    uint8_t many[9] = {1};
    struct msgapp_state st = {4, 6};
    struct raft_entry e = entry(4, 9, "x"); /* does not follow index 6 */
    struct raft_msg m;
    struct buf b = {0};
    size_t need;

    CHECK(peer_decode_msgapp(unknown, 1, &need, &st, 1, 2, &m) == -1);
    put_u64be(many + 1, UINT64_MAX);
    CHECK(peer_decode_msgapp(many, sizeof(many), &need, &st, 1, 2, &m) == -1);

    m = (struct raft_msg){.type = RAFT_MSG_APP,
                          .term = 4,
                          .log_term = 4,
                          .index = 6,
                          .entries = &e,
                          .n_entries = 1};
    peer_encode_msgapp(&b, &st, &m);
    st = (struct msgapp_state){4, 6};
    CHECK(b.data[0] == 1);
    CHECK(peer_decode_msgapp(b.data, b.len, &need, &st, 1, 2, &m) == -1);
    raft_entry_release(&e);
    buf_release(&b);
}

/* --- Nodes: a transport behind a server, and what it was told. ---------- */

#define CLUSTER 0xc1u
#define WAIT_MS 20000

struct node {
    uint64_t id;
    struct net_listener listener;
    struct url_list urls;
    struct http_server *server;
    struct transport *t;

    pthread_mutex_t mu; /* all below */
    pthread_cond_t cond;
    struct raft_msg *got;
    size_t n_got, cap;
    size_t unreachable, removed_self, snapshots_ok, snapshots_failed, done;
    size_t garbage;
    size_t n_last, last_at; /* messages that were the last so far; of n_got */
    uint64_t removed;       /* this member was removed */
    bool refuse;
};

static int on_message(void *arg, const struct raft_msg *m, bool last)
{
    struct node *n = arg;
    int rc;

    pthread_mutex_lock(&n->mu);
    if (n->n_got == n->cap) {
        n->cap = n->cap ? 2 * n->cap : 64;
        n->got = xrealloc(n->got, n->cap * sizeof(*n->got));
    }
    raft_msg_copy(&n->got[n->n_got++], m);
    n->n_last += last;
    if (last)
        n->last_at = n->n_got;
    rc = n->refuse ? -1 : 0;
    pthread_cond_broadcast(&n->cond);
    pthread_mutex_unlock(&n->mu);
    return rc;
}

static bool on_is_removed(void *arg, uint64_t id)
{
    struct node *n = arg;
    bool removed;

    pthread_mutex_lock(&n->mu);
    removed = n->removed == id;
    pthread_mutex_unlock(&n->mu);
    return removed;
}

static void count(struct node *n, size_t *counter)
{
    pthread_mutex_lock(&n->mu);
    ++*counter;
    pthread_cond_broadcast(&n->cond);
    pthread_mutex_unlock(&n->mu);
}

static void on_unreachable(void *arg, uint64_t id)
{
    struct node *n = arg;

    (void)id;
    count(n, &n->unreachable);
}

static void on_snapshot(void *arg, uint64_t id, bool ok)
{
    struct node *n = arg;

    (void)id;
    count(n, ok ? &n->snapshots_ok : &n->snapshots_failed);
}

static void on_removed_self(void *arg)
{
    struct node *n = arg;

    count(n, &n->removed_self);
}

static void on_done(void *from)
{
    struct node *n = from;

    count(n, &n->done);
}

static size_t seen(struct node *n, const size_t *counter)
{
    size_t v;

    pthread_mutex_lock(&n->mu);
    v = *counter;
    pthread_mutex_unlock(&n->mu);
    return v;
}

/* Wait until *counter is at least v. */
static bool wait_count(struct node *n, const size_t *counter, size_t v)
{
    int64_t deadline = sys_mono_ns() + WAIT_MS * NS_PER_MS;
    bool reached;

    pthread_mutex_lock(&n->mu);
    while (*counter < v && sys_cond_wait_until(&n->cond, &n->mu, deadline))
        ;
    reached = *counter >= v;
    pthread_mutex_unlock(&n->mu);
    return reached;
}

static void handle(struct http_exchange *x, void *arg)
{
    static const char members[] =
        "[{\"id\":14776078192863331142,\"peerURLs\":[\"http://h:1\"],"
        "\"name\":\"h\",\"clientURLs\":[\"http://h:2\"]},"
        "{\"id\":5,\"peerURLs\":[\"http://i:1\"],\"isLearner\":true}]\n";
    static const char version[] =
        "{\"etcdserver\":\"3.4.23\",\"etcdcluster\":\"3.4.0\"}";
    struct node *n = arg;

    if (str_eqz(http_path(x), "/members")) {
        http_set_header(x, "X-Etcd-Cluster-Id", "c1");
        http_reply(x, 200, "application/json", members, sizeof(members) - 1);
    } else if (str_eqz(http_path(x), "/version")) {
        http_reply(x, 200, "application/json", version, sizeof(version) - 1);
    } else if (!n->t || !transport_handle(n->t, x)) {
        http_error(x, 404, "404 page not found");
    }
}

/* Whoever opens a stream here reads nonsense. */
static void handle_badly(struct http_exchange *x, void *arg)
{
    struct node *n = arg;
    uint8_t bad[64];

    count(n, &n->garbage);
    memset(bad, 0xff, sizeof(bad));
    http_reply(x, 200, "text/plain", bad, sizeof(bad));
}

static struct secure *secure; /* nodes speak TLS; NULL: they do not */

static void node_listen(struct node *n, uint64_t id, http_handler *handler)
{
    struct str any =
        secure ? STR("https://127.0.0.1:0") : STR("http://127.0.0.1:0");
    struct http_server_options o = {
        .handler = handler, .arg = n, .conns_max = 64, .name = "test"};
    struct url url;
    struct err e;

    *n = (struct node){.id = id};
    pthread_mutex_init(&n->mu, NULL);
    sys_cond_init(&n->cond);
    CHECK(url_parse(any, &url, &e) == 0);
    CHECK(net_listen(&url, NULL, &n->listener, &e) == 0);
    url_release(&url);
    CHECK(url_list_parse(str_of(n->listener.url.raw), &n->urls, &e) == 0);
    if (handler)
        CHECK(http_server_start(&n->listener, 1, &o, &n->server, &e) == 0);
}

static void node_transport(struct node *n, uint64_t cluster)
{
    struct transport_config c = {
        .id = n->id,
        .cluster_id = cluster,
        .advertise_peer_urls = &n->urls,
        .heartbeat_ms = 10,
        .election_ms = 100,
        .snap_dir = snap_dir,
        .secure = secure,
        .callbacks = {on_message, on_is_removed, on_unreachable, on_snapshot,
                      on_removed_self, n},
    };
    struct err e;

    CHECK(transport_new(&c, &n->t, &e) == 0);
}

/* The transport is set before the server starts, which reads it. */
static void node_start(struct node *n, uint64_t id, uint64_t cluster)
{
    struct http_server_options o = {.handler = handle,
                                    .arg = n,
                                    .conns_max = 64,
                                    .secure = secure,
                                    .name = "test"};
    struct err e;

    node_listen(n, id, NULL);
    node_transport(n, cluster);
    CHECK(http_server_start(&n->listener, 1, &o, &n->server, &e) == 0);
}

static void node_clear(struct node *n)
{
    pthread_mutex_lock(&n->mu);
    for (size_t i = 0; i < n->n_got; i++)
        raft_msg_release(&n->got[i]);
    n->n_got = 0;
    pthread_mutex_unlock(&n->mu);
}

static void node_stop(struct node *n)
{
    int64_t began = sys_mono_ns();

    if (n->t)
        transport_stop(n->t);
    CHECK(sys_mono_ns() - began < NS_PER_S);
    if (n->server)
        http_server_stop(n->server, 0);
    net_listener_close(&n->listener);
    transport_free(n->t);
    node_clear(n);
    free(n->got);
    url_list_release(&n->urls);
    pthread_cond_destroy(&n->cond);
    pthread_mutex_destroy(&n->mu);
}

static void add(struct node *n, const struct node *peer)
{
    const char *urls[] = {peer->urls.urls[0].raw};

    transport_add_peer(n->t, peer->id, urls, 1);
}

/* Are both streams that lead from n to the peer open? */
static bool streams_open(struct node *n, uint64_t id)
{
    struct peer *p = peer_acquire(n->t, id);
    bool open;

    if (!p)
        return false;
    pthread_mutex_lock(&p->mu);
    open = p->lanes[LANE_MESSAGE].connected && p->lanes[LANE_MSGAPP].connected;
    pthread_mutex_unlock(&p->mu);
    peer_release(p);
    return open;
}

static bool wait_streams(struct node *n, uint64_t id)
{
    for (int i = 0; i < WAIT_MS; i++) {
        if (streams_open(n, id))
            return true;
        sys_sleep_ms(1);
    }
    return false;
}

static void connect_nodes(struct node *a, struct node *b)
{
    node_start(a, 1, CLUSTER);
    node_start(b, 2, CLUSTER);
    add(a, b);
    add(b, a);
    CHECK(wait_streams(a, b->id));
    CHECK(wait_streams(b, a->id));
    CHECK(transport_active_since(a->t, 2) > 0);
    CHECK(transport_active_count(a->t) == 1);
}

/* --- Messages. ---------------------------------------------------------- */

static void send_now(struct transport *t, const struct raft_msg *m, size_t n)
{
    transport_send(t, m, n);
    transport_flush(t);
}

#define APPENDS 500

static void test_streams(void)
{
    struct raft_msg beat = {
        .type = RAFT_MSG_HEARTBEAT, .to = 1, .from = 2, .term = 3, .commit = 9};
    struct raft_msg batch[2];
    struct transport_stats stats;
    struct node a, b;
    bool in_order = true;

    connect_nodes(&a, &b);
    for (size_t i = 0; i < APPENDS; i++) {
        struct raft_msg m = append(3, 3, i, 1, i);

        send_now(a.t, &m, 1);
        raft_msg_release(&m);
    }
    CHECK(wait_count(&b, &b.n_got, APPENDS));
    for (size_t i = 0; i < b.n_got; i++)
        in_order &= b.got[i].index == i && b.got[i].n_entries == 1 &&
                    b.got[i].from == 1 && b.got[i].to == 2;
    CHECK(in_order);
    CHECK(seen(&b, &b.n_got) == APPENDS);

    /* Two at once, and one to nobody that is known. */
    batch[0] = beat;
    batch[1] = beat;
    batch[1].to = 99;
    send_now(b.t, batch, 2);
    CHECK(wait_count(&a, &a.n_got, 1));
    CHECK(same_msg(&a.got[0], &beat));

    transport_stats(a.t, &stats);
    CHECK(stats.sent_append == APPENDS && stats.recv_append == 0);
    transport_stats(b.t, &stats);
    CHECK(stats.recv_append == APPENDS && stats.recv_pkg_rate > 0);
    node_stop(&a);
    node_stop(&b);
}

/* Of what is written together the receiver is told where it ends, on the
 * stream of appends alone. */
static void test_last_of_a_batch(void)
{
    struct raft_msg beat = {
        .type = RAFT_MSG_HEARTBEAT, .to = 1, .from = 2, .term = 3};
    struct raft_msg batch[3];
    struct node a, b;

    connect_nodes(&a, &b);
    for (size_t i = 0; i < ARRAY_LEN(batch); i++)
        batch[i] = append(3, 3, i, 1, i);
    send_now(a.t, batch, ARRAY_LEN(batch));
    CHECK(wait_count(&b, &b.n_got, ARRAY_LEN(batch)));
    CHECK(seen(&b, &b.n_last) == 1);
    CHECK(seen(&b, &b.last_at) == ARRAY_LEN(batch));
    send_now(b.t, &beat, 1);
    CHECK(wait_count(&a, &a.n_got, 1));
    CHECK(seen(&a, &a.n_last) == 0);
    for (size_t i = 0; i < ARRAY_LEN(batch); i++)
        raft_msg_release(&batch[i]);
    node_stop(&a);
    node_stop(&b);
}

/* Larger than any buffer, and than what is written at once. */
static void test_large_message(void)
{
    size_t n = 3 * 1024 * 1024 + 17;
    char *data = xmalloc(n);
    struct raft_msg m = append(3, 2, 7, 1, 0);
    struct node a, b;

    for (size_t i = 0; i < n; i++)
        data[i] = (char)(i * 31 + i / 256);
    blob_unref(m.entries[0].data);
    m.entries[0].data = blob_new(data, n);
    connect_nodes(&a, &b);
    send_now(a.t, &m, 1);
    CHECK(wait_count(&b, &b.n_got, 1));
    CHECK(same_msg(&b.got[0], &m));
    raft_msg_release(&m);
    free(data);
    node_stop(&a);
    node_stop(&b);
}

#define SENDERS 3
#define SENT 600 /* by each: more than the sockets hold */
#define SENT_BYTES 100

struct sender {
    struct node *from;
    raft_term term; /* marks what is its own */
};

/* As the newest. */
static bool has_got(struct node *n, const struct raft_msg *m)
{
    bool has;

    pthread_mutex_lock(&n->mu);
    has = n->n_got > 0 && same_msg(&n->got[n->n_got - 1], m);
    pthread_mutex_unlock(&n->mu);
    return has;
}

static void *sender_thread(void *arg)
{
    struct sender *s = arg;
    char *data = xcalloc(SENT, SENT_BYTES);

    for (size_t i = 0; i < SENT; i++) {
        struct raft_msg m = append(s->term, 2, i, 1, 0);

        blob_unref(m.entries[0].data);
        m.entries[0].data = blob_new(data, i * SENT_BYTES);
        send_now(s->from->t, &m, 1);
        raft_msg_release(&m);
    }
    free(data);
    count(s->from, &s->from->done);
    return NULL;
}

/* While nobody reads, nobody who sends has to wait; and each one's messages
 * arrive whole and in order, whoever wrote them. */
static void test_senders(void)
{
    struct sender senders[SENDERS];
    pthread_t threads[SENDERS];
    size_t next[SENDERS] = {0};
    bool in_order = true;
    struct node a, b;

    connect_nodes(&a, &b);
    pthread_mutex_lock(&b.mu);
    for (size_t i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){&a, i + 1};
        CHECK(pthread_create(&threads[i], NULL, sender_thread, &senders[i]) ==
              0);
        if (i == 0) /* alone, until the socket is full */
            CHECK(wait_count(&a, &a.done, 1));
    }
    CHECK(wait_count(&a, &a.done, SENDERS));
    CHECK(b.n_got < SENDERS * SENT);
    pthread_mutex_unlock(&b.mu);
    for (size_t i = 0; i < SENDERS; i++)
        pthread_join(threads[i], NULL);
    CHECK(wait_count(&b, &b.n_got, SENDERS * SENT));
    for (size_t i = 0; i < b.n_got; i++) {
        const struct raft_msg *m = &b.got[i];
        size_t *n = &next[(m->term - 1) % SENDERS];

        in_order &=
            m->index == *n && blob_str(m->entries[0].data).n == *n * SENT_BYTES;
        ++*n;
    }
    CHECK(in_order);
    CHECK(seen(&a, &a.unreachable) == 0);
    node_stop(&a);
    node_stop(&b);
}

/* It is taken away from under them, and comes back. */
static void test_removed_under_senders(void)
{
    struct raft_msg beat = {
        .type = RAFT_MSG_HEARTBEAT, .to = 2, .from = 1, .term = 9};
    struct sender senders[SENDERS];
    pthread_t threads[SENDERS];
    struct node a, b;

    connect_nodes(&a, &b);
    for (size_t i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){&a, i + 1};
        CHECK(pthread_create(&threads[i], NULL, sender_thread, &senders[i]) ==
              0);
    }
    CHECK(wait_count(&b, &b.n_got, SENT / 10));
    transport_remove_peer(a.t, 2);
    for (size_t i = 0; i < SENDERS; i++)
        pthread_join(threads[i], NULL);

    add(&a, &b);
    CHECK(wait_streams(&a, 2));
    send_now(a.t, &beat, 1);
    for (int i = 0; i < 2000 && !has_got(&b, &beat); i++)
        sys_sleep_ms(10);
    CHECK(has_got(&b, &beat));
    node_stop(&a);
    node_stop(&b);
}

static void write_pem(char *path, const char *name, const char *pem)
{
    snprintf(path, 64, "%s/%s", snap_dir, name);
    CHECK(sys_write_file_atomic(path, pem, strlen(pem), 0600, NULL) == 0);
}

/* What is cut short there is a record, and its rest is not the message's. */
static void test_senders_with_tls(void)
{
    char cert[64], key[64], ca[64];
    struct secure_options o = {.what = "peer",
                               .cert_file = cert,
                               .key_file = key,
                               .ca_file = ca,
                               .client_cert_auth = true};
    struct err e;

    if (!secure_available)
        return;
    write_pem(cert, "cert.pem", p256_cert);
    write_pem(key, "cert.key", p256_key);
    write_pem(ca, "ca.pem", ca_cert);
    secure = secure_new(&o, &e);
    CHECK(secure != NULL);
    test_large_message();
    test_senders();
    test_removed_under_senders();
    secure_free(secure);
    secure = NULL;
}

/* Before a stream is there, messages go by POST; and a stranger that knocks
 * is noted, so that it can be answered. */
static void test_pipeline_and_remote(void)
{
    struct raft_msg m = {.type = RAFT_MSG_VOTE, .to = 2, .from = 1, .term = 8};
    struct raft_msg answer = {
        .type = RAFT_MSG_VOTE_RESP, .to = 1, .from = 2, .term = 8};
    struct node a, b;

    node_start(&a, 1, CLUSTER);
    node_start(&b, 2, CLUSTER);
    add(&a, &b); /* but b does not know a */
    send_now(a.t, &m, 1);
    CHECK(wait_count(&b, &b.n_got, 1));
    CHECK(same_msg(&b.got[0], &m));
    send_now(b.t, &answer, 1);
    CHECK(wait_count(&a, &a.n_got, 1));
    CHECK(same_msg(&a.got[0], &answer));
    CHECK(transport_active_count(b.t) == 0);

    /* Now it is a member; the streams open at the next dial. */
    add(&b, &a);
    CHECK(wait_streams(&b, 1) && wait_streams(&a, 2));
    node_stop(&a);
    node_stop(&b);
}

/* A refused append costs its sender nothing but the message. */
static void test_reconnect(void)
{
    struct raft_msg m = append(3, 2, 1, 1, 0);
    struct raft_ids voters = {0};
    struct node a, b;
    struct peer *p;

    connect_nodes(&a, &b);
    raft_ids_add(&voters, 1);
    raft_ids_add(&voters, 2);
    CHECK(transport_longest_connected(a.t, &voters) == 2);
    raft_ids_remove(&voters, 2);
    CHECK(transport_longest_connected(a.t, &voters) == 0);
    free(voters.ids);

    /* Cut both streams under way; they come back. */
    p = peer_acquire(a.t, 2);
    pthread_mutex_lock(&p->mu);
    net_shutdown(p->lanes[LANE_MSGAPP].conn);
    net_shutdown(p->lanes[LANE_MESSAGE].conn);
    pthread_mutex_unlock(&p->mu);
    peer_release(p);
    for (int i = 0; i < WAIT_MS / 20; i++) {
        send_now(a.t, &m, 1);
        sys_sleep_ms(20);
        if (seen(&b, &b.n_got) > 3 && streams_open(&a, 2))
            break;
    }
    CHECK(wait_count(&b, &b.n_got, 2));
    CHECK(wait_streams(&a, 2));
    raft_msg_release(&m);

    transport_remove_peer(a.t, 2);
    CHECK(transport_active_since(a.t, 2) == 0);
    transport_remove_all(b.t);
    node_stop(&a);
    node_stop(&b);
}

/* --- Failures. ---------------------------------------------------------- */

static void test_unreachable(void)
{
    struct raft_msg m = {.type = RAFT_MSG_VOTE, .to = 2, .from = 1, .term = 8};
    struct node a, gone;

    node_start(&a, 1, CLUSTER);
    node_start(&gone, 2, CLUSTER);
    add(&a, &gone);
    node_stop(&gone);
    send_now(a.t, &m, 1);
    CHECK(wait_count(&a, &a.unreachable, 1));
    for (int i = 0; i < 1000; i++) /* more than a queue of posts holds */
        send_now(a.t, &m, 1);
    CHECK(wait_count(&a, &a.unreachable, 2));
    node_stop(&a);
}

static void test_cluster_mismatch(void)
{
    struct raft_msg m = {.type = RAFT_MSG_VOTE, .to = 2, .from = 1, .term = 8};
    struct node a, b;

    node_start(&a, 1, CLUSTER + 1);
    node_start(&b, 2, CLUSTER);
    add(&a, &b);
    add(&b, &a);
    send_now(a.t, &m, 1);
    CHECK(wait_count(&a, &a.unreachable, 1));
    sys_sleep_ms(50);
    CHECK(!streams_open(&a, 2) && !streams_open(&b, 1));
    CHECK(transport_active_count(a.t) == 0);
    CHECK(seen(&b, &b.n_got) == 0 && seen(&a, &a.removed_self) == 0);
    node_stop(&a);
    node_stop(&b);
}

static void test_removed(void)
{
    struct raft_msg m = {.type = RAFT_MSG_VOTE, .to = 2, .from = 1, .term = 8};
    struct node a, b;

    node_start(&a, 1, CLUSTER);
    node_start(&b, 2, CLUSTER);
    pthread_mutex_lock(&b.mu);
    b.removed = 1;
    pthread_mutex_unlock(&b.mu);
    add(&a, &b);
    send_now(a.t, &m, 1);
    CHECK(wait_count(&a, &a.removed_self, 1));
    sys_sleep_ms(250); /* both streams are dialled again */
    CHECK(seen(&a, &a.removed_self) == 1);
    CHECK(seen(&b, &b.n_got) == 0);
    node_stop(&a);
    node_stop(&b);
}

static void test_malformed_stream(void)
{
    struct node a, bad;

    node_listen(&bad, 2, handle_badly);
    node_start(&a, 1, CLUSTER);
    add(&a, &bad);
    CHECK(wait_count(&bad, &bad.garbage, 4)); /* dialled anew, each time */
    CHECK(seen(&a, &a.n_got) == 0);
    node_stop(&a);
    node_stop(&bad);
}

/* --- Snapshots. --------------------------------------------------------- */

struct source {
    struct node *owner;
    const char *data;
    size_t n;
};

/* In uneven pieces, as a walk over a tree gives them. */
static int produce(void *from, snap_sink *sink, void *arg)
{
    const struct source *s = from;
    size_t at = 0, piece = 1;

    while (at < s->n) {
        size_t n = piece < s->n - at ? piece : s->n - at;

        if (sink(arg, s->data + at, n) != 0)
            return -1;
        at += n;
        piece = piece * 3 % 50021 + 1;
    }
    return 0;
}

static void source_done(void *from)
{
    on_done(((struct source *)from)->owner);
}

static void send_snapshot_to(struct node *a, struct source *s, uint64_t to,
                             struct raft_snapshot *snap)
{
    struct raft_msg m = {.type = RAFT_MSG_SNAP,
                         .to = to,
                         .from = 1,
                         .term = 4,
                         .snapshot = snap};

    transport_send_snapshot(
        a->t, &m,
        &(struct transport_snapshot){produce, produce, s->n, s, source_done});
}

static void test_snapshot(void)
{
    size_t n = 2 * 1024 * 1024 + 5;
    char *data = xmalloc(n);
    struct raft_snapshot snap = {.index = 77, .term = 4};
    struct node a, b;
    struct source s = {&a, data, n};
    struct raft_snapshot *got;
    struct buf db = {0};
    char *path;

    for (size_t i = 0; i < n; i++)
        data[i] = (char)(i * 7 + i / 1000);
    raft_ids_add(&snap.conf_state.voters, 1);
    raft_ids_add(&snap.conf_state.voters, 2);
    raft_ids_add(&snap.conf_state.learners, 3);
    connect_nodes(&a, &b);

    send_snapshot_to(&a, &s, 2, &snap);
    CHECK(wait_count(&a, &a.snapshots_ok, 1));
    CHECK(wait_count(&a, &a.done, 1));
    CHECK(wait_count(&b, &b.n_got, 1));
    if (b.n_got == 1 && b.got[0].snapshot) {
        got = b.got[0].snapshot;
        CHECK(b.got[0].type == RAFT_MSG_SNAP && b.got[0].term == 4);
        CHECK(got->index == 77 && got->term == 4);
        CHECK(got->conf_state.voters.n == 2 && got->conf_state.learners.n == 1);
        CHECK(str_eq(blob_str(got->data), (struct str){data, n}));
    }
    /* The v3 state, here the same bytes again, was in its file before. */
    path = snap_db_path(snap_dir, 77);
    CHECK(sys_read_file(path, 2 * n, &db, NULL) == 0);
    CHECK(str_eq(buf_str(&db), (struct str){data, n}));
    CHECK(unlink(path) == 0);
    buf_release(&db);
    free(path);

    /* One that is refused, and one to a stranger. */
    pthread_mutex_lock(&b.mu);
    b.refuse = true;
    pthread_mutex_unlock(&b.mu);
    send_snapshot_to(&a, &s, 2, &snap);
    CHECK(wait_count(&a, &a.snapshots_failed, 1));
    send_snapshot_to(&a, &s, 9, &snap);
    CHECK(wait_count(&a, &a.snapshots_failed, 2));
    CHECK(wait_count(&a, &a.done, 3));
    node_stop(&a);
    node_stop(&b);
    raft_conf_state_release(&snap.conf_state);
    free(data);
}

/* A peer that takes connections and says nothing holds up nobody's end. */
static void test_mute_peer(void)
{
    struct raft_msg m = {.type = RAFT_MSG_VOTE, .to = 2, .from = 1, .term = 8};
    struct raft_snapshot snap = {.index = 77, .term = 4};
    struct node a, mute;
    struct source s = {&a, "data", 4};
    int64_t began;

    raft_ids_add(&snap.conf_state.voters, 1);
    node_start(&a, 1, CLUSTER);
    node_listen(&mute, 2, NULL);
    mute.t = NULL;
    mute.server = NULL;
    add(&a, &mute);
    send_now(a.t, &m, 1);
    send_snapshot_to(&a, &s, 2, &snap);
    sys_sleep_ms(50); /* by now all of them wait for an answer */
    began = sys_mono_ns();
    transport_stop(a.t);
    CHECK(sys_mono_ns() - began < 300 * NS_PER_MS);
    CHECK(seen(&a, &a.done) == 1);
    node_stop(&a);
    node_stop(&mute);
    raft_conf_state_release(&snap.conf_state);
}

/* The streamed frame is what the codec would have made of the whole. */
static void test_snapshot_frame(void)
{
    struct raft_snapshot snap = {
        .index = 5, .term = 2, .data = blob_new("tree", 4)};
    struct raft_msg m = {.type = RAFT_MSG_SNAP,
                         .to = 2,
                         .from = 1,
                         .term = 2,
                         .snapshot = &snap};
    struct buf whole = {0}, posted = {0};
    struct node a, b;
    struct source s = {&a, "tree", 4};

    raft_ids_add(&snap.conf_state.voters, 1);
    connect_nodes(&a, &b);
    transport_send_snapshot(
        a.t, &m,
        &(struct transport_snapshot){produce, NULL, 0, &s, source_done});
    CHECK(wait_count(&b, &b.n_got, 1));
    raftpb_encode_msg(&whole, &m);
    raftpb_encode_msg(&posted, &b.got[0]);
    CHECK(str_eq(buf_str(&whole), buf_str(&posted)));
    CHECK(wait_count(&a, &a.done, 1));
    node_stop(&a);
    node_stop(&b);
    buf_release(&whole);
    buf_release(&posted);
    blob_unref(snap.data);
    raft_conf_state_release(&snap.conf_state);
}

/* --- Answers to single requests. ---------------------------------------- */

struct question {
    const char *method, *target, *headers;
    const void *body;
    size_t n;
    int status;
    const char *text; /* NULL: not looked at */
};

static void ask_raw(struct node *n, const struct question *q)
{
    struct client_request r = {
        .method = q->method,
        .base = &n->listener.url,
        .target = q->target,
        .headers = q->headers,
        .body = q->body,
        .n_body = q->n,
        .dial_ms = 1000,
        .timeout_ms = 2000,
    };
    struct client_response resp;
    struct err e;

    if (client_do(&r, &resp, &e) < 0) {
        CHECK_STR(e.msg, "");
        return;
    }
    if (resp.status != q->status)
        fprintf(stderr, "%s %s: %d\n", q->method, q->target, resp.status);
    CHECK(resp.status == q->status);
    if (q->text)
        CHECK_STR(buf_z(&resp.body), q->text);
    client_response_release(&resp);
}

#define FROM "X-Server-From: 7\r\n"
#define VERSIONS "X-Server-Version: 3.2.6\r\nX-Min-Cluster-Version: 3.0.0\r\n"
#define RIGHT FROM VERSIONS "X-Etcd-Cluster-ID: c1\r\n"

static void test_checks(void)
{
    static const struct question questions[] = {
        {"GET", "/raft", RIGHT, NULL, 0, 405, "Method Not Allowed\n"},
        {"POST", "/raft/stream/message/7", RIGHT, NULL, 0, 405,
         "Method Not Allowed\n"},
        {"POST", "/raft", NULL, "", 0, 412, "incompatible version\n"},
        {"POST", "/raft",
         FROM "X-Server-Version: 9.0.0\r\nX-Min-Cluster-Version: 9.0.0\r\n", "",
         0, 412, "incompatible version\n"},
        {"POST", "/raft", FROM VERSIONS "X-Etcd-Cluster-ID: c2\r\n", "", 0, 412,
         "cluster ID mismatch\n"},
        {"GET", "/raft/stream/msgappv2/7", RIGHT, NULL, 0, 404,
         "invalid path\n"},
        {"GET", "/raft/stream/", RIGHT, NULL, 0, 404, "invalid path\n"},
        {"GET", "/raft/stream/msgapp/xyz", RIGHT, NULL, 0, 404,
         "invalid from\n"},
        {"GET", "/raft/stream/msgapp/6", RIGHT, NULL, 0, 410,
         "removed member\n"},
        {"GET", "/raft/stream/msgapp/7", RIGHT, NULL, 0, 404,
         "error sender not found\n"},
        {"GET", "/raft/stream/msgapp/2", RIGHT "X-Raft-To: 5\r\n", NULL, 0, 412,
         "to field mismatch\n"},
        {"POST", "/raft", RIGHT, "\x08", 1, 400,
         "error unmarshaling raft message\n"},
        {"POST", "/raft", RIGHT, "\x08\x05\x10\x01\x18\x06", 6, 403,
         "{\"message\":\"cannot process message from removed member\"}"},
        {"POST", "/raft", RIGHT, "\x08\x05\x10\x01\x18\x02", 6, 500,
         "error processing raft message\n"},
        {"POST", "/raft", RIGHT, "\x08\x05\x10\x09\x18\x02", 6, 204, ""},
        {"POST", "/raft/snapshot", RIGHT, "abc", 3, 400,
         "failed to decode raft message (unexpected EOF)\n"},
        {"POST", "/raft/snapshot", RIGHT, "\xff\0\0\0\0\0\0\0", 8, 400,
         "failed to decode raft message (too large)\n"},
        {"POST", "/raft/snapshot", RIGHT, "\0\0\0\0\0\0\0\2\x08\x05", 10, 400,
         "wrong raft message type\n"},
        {"GET", "/raft/other", RIGHT, NULL, 0, 404, "404 page not found\n"},
        {"GET", "/raft/probing", NULL, NULL, 0, 200, NULL},
    };
    const char *nowhere[] = {"http://127.0.0.1:1"};
    struct node n;

    node_start(&n, 1, CLUSTER);
    n.removed = 6;
    n.refuse = true;
    transport_add_peer(n.t, 2, nowhere, 1);
    for (size_t i = 0; i < ARRAY_LEN(questions); i++)
        ask_raw(&n, &questions[i]);
    node_stop(&n);
}

static void test_asking_peers(void)
{
    const char *urls[2] = {"http://127.0.0.1:1", NULL};
    char server[32], cluster[32];
    struct member *m;
    uint64_t cid;
    struct node n;
    struct err e;
    size_t k;

    node_start(&n, 1, CLUSTER);
    urls[1] = n.urls.urls[0].raw;
    CHECK(peer_get_members(urls, 2, 1000, NULL, &m, &k, &cid, &e) == 0);
    CHECK(k == 2 && cid == 0xc1);
    CHECK(m[0].id == UINT64_C(14776078192863331142) && !m[0].is_learner);
    CHECK_STR(m[0].name, "h");
    CHECK_STR(m[0].client_urls[0], "http://h:2");
    CHECK(m[1].is_learner && m[1].n_client_urls == 0);
    members_free(m, k);
    CHECK(peer_get_version(urls[1], 1000, NULL, NULL, server, cluster, &e) == 0);
    CHECK_STR(server, "3.4.23");
    CHECK_STR(cluster, "3.4.0");
    CHECK(peer_get_members(urls, 1, 1000, NULL, &m, &k, &cid, &e) < 0);
    CHECK_STR(e.msg, "could not retrieve cluster information from the given "
                     "URLs");
    node_stop(&n);
}

/* --- Statistics. -------------------------------------------------------- */

static void test_stats(void)
{
    struct follower_stats f = {0};
    struct metrics_page *page = metrics_page_new();
    struct raft_msg m = append(3, 2, 1, 1, 0);
    struct buf b = {0};
    struct node a, c;

    follower_succeeded(&f, 1000000, 1);
    follower_succeeded(&f, 3000000, 1);
    CHECK(f.success == 2 && f.average > 1.99 && f.average < 2.01);
    CHECK(f.minimum < 1.01 && f.maximum > 2.99);

    node_start(&a, 1, CLUSTER);
    transport_leader_stats_json(a.t, &b);
    CHECK_STR(buf_z(&b), "{\"leader\":\"1\",\"followers\":{}}");
    buf_clear(&b);
    node_start(&c, 0xabc, CLUSTER);
    add(&a, &c);
    transport_leader_stats_json(a.t, &b);
    CHECK_STR(buf_z(&b),
              "{\"leader\":\"1\",\"followers\":{\"abc\":{\"latency\":{"
              "\"current\":0,\"average\":0,\"standardDeviation\":0,"
              "\"minimum\":9223372036854776000,\"maximum\":0},"
              "\"counts\":{\"fail\":0,\"success\":0}}}}");
    m.to = 0xabc;
    send_now(a.t, &m, 1);
    CHECK(wait_count(&c, &c.n_got, 1));
    sys_sleep_ms(20);
    buf_clear(&b);
    transport_leader_stats_json(a.t, &b);
    CHECK(strstr(buf_z(&b), "\"success\":1}") != NULL);

    transport_metrics(a.t, page);
    buf_clear(&b);
    metrics_page_write(page, &b);
    CHECK(strstr(buf_z(&b), "etcd_network_peer_round_trip_time_seconds_count"
                            "{To=\"abc\"}"));
    CHECK(strstr(buf_z(&b), "etcd_network_active_peers{Local=\"1\","
                            "Remote=\"abc\"}"));
    metrics_page_free(page);
    raft_msg_release(&m);
    buf_release(&b);
    node_stop(&a);
    node_stop(&c);
}

int main(void)
{
    log_set_level(LOG_CRIT);
    if (!mkdtemp(snap_dir))
        return 1;
    test_message_frames();
    test_msgapp_frames();
    test_msgapp_bytes();
    test_append_with_hint();
    test_bad_frames();
    test_streams();
    test_last_of_a_batch();
    test_large_message();
    test_senders();
    test_removed_under_senders();
    test_senders_with_tls();
    test_pipeline_and_remote();
    test_reconnect();
    test_unreachable();
    test_cluster_mismatch();
    test_removed();
    test_malformed_stream();
    test_snapshot();
    test_mute_peer();
    test_snapshot_frame();
    test_checks();
    test_asking_peers();
    test_stats();
    sys_remove_all(snap_dir, NULL);
    return check_done("peer");
}
