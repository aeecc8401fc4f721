/*
 * client.c - clients that put down all that they ask and are told.
 *
 *   client record FILE NAME SEED THREADS RATE URL...
 *       THREADS threads do RATE operations a second together on the v2 keys
 *       /chaos/NAME/k0, k1... of all members until SIGTERM, then read each key
 *       once more; the history goes to FILE
 *   client record3 ...
 *       the same on the v3 keys chaos/NAME/k0..., with transactions for what has
 *       a condition, and now and then a compaction, which no history shows
 *   client load SECONDS WRITERS READERS URL...
 *       PUTs and local reads (each reader 100 a second); prints how many writes
 *       were acknowledged, and how long the reads took
 *   client load3 ...
 *       the same on v3 keys
 *
 * https: the folder CHAOS_CERTS holds ca.pem, client.pem and client.key.
 *
 * A HISTORY has a line for each operation,
 *
 *   TYPE called returned client connection member key value prev index
 *        etcd-index outcome
 *
 * (of v3, the index is a key's mod_revision, and the etcd-index the store's
 * revision) with times in ns of the monotonic clock (returned 0: never), and TYPE
 *   r quorum read, l local read, p put, c create, v CAS by value, i CAS by
 *   index, d delete, a CAD by value;
 * outcome is `ok`, `no` (the condition did not hold) or `?` (unknown: it may
 * happen yet). Keys are numbers, and so are values: none is ever used twice.
 * Another line, `C time connection member`, is for each connection, and
 * `! text` for an answer that makes no sense.
 */
#include "../../secure.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define MS 1000000
#define MEMBERS_MAX 16
#define THREADS_MAX 128
#define KEYS 12         /* at a time */
#define OPS_PER_KEY 250 /* then the next ones take their turn */
#define KEYS_MAX 65536
#define DIAL_MS 400
#define SHAKE_MS 2000 /* for TLS, on top */
#define ANSWER_MS 2500
#define AVOID_MS 300   /* a member that cannot be reached */
#define FINAL_MS 30000 /* for the last reads */

struct answer {
    int status, code; /* of HTTP, and errorCode; status -1: none came */
    uint64_t value, index, etcd_index;
    bool held; /* of v3: the condition; or something was deleted */
};

struct connection {
    struct net_stream *stream; /* NULL: none is open */
    unsigned number;
    int64_t avoid_until;
};

struct thread {
    pthread_t thread;
    unsigned number;
    uint64_t seed, values;
    struct connection to[MEMBERS_MAX];
    /* load: */
    bool reads;
    uint64_t count;
    int64_t *took;
};

struct key { /* what was last seen there, for conditions that may hold */
    uint64_t value, index;
};

static bool v3; /* record3, load3 */
static struct url servers[MEMBERS_MAX];
static struct secure *secure; /* NULL: none of them speaks TLS */
static int n_servers;
static const char *name;
static double rate;
static int n_threads, stop;      /* stop: atomic */
static unsigned next_connection; /* atomic */
static uint64_t n_ops;           /* atomic */
static FILE *history;
static pthread_mutex_t keys_mu = PTHREAD_MUTEX_INITIALIZER;
static struct key keys[KEYS_MAX]; /* keys_mu */
static uint64_t last_revision;    /* keys_mu; of v3 */

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void sleep_until(int64_t ns)
{
    struct timespec t = {ns / 1000000000, ns % 1000000000};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR &&
           !__atomic_load_n(&stop, __ATOMIC_RELAXED))
        ;
}

static bool stopped(void)
{
    return __atomic_load_n(&stop, __ATOMIC_RELAXED) != 0;
}

static void on_signal(int sig)
{
    (void)sig;
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
}

static uint64_t random_below(struct thread *t, uint64_t n)
{
    t->seed ^= t->seed << 13;
    t->seed ^= t->seed >> 7;
    t->seed ^= t->seed << 17;
    return (t->seed >> 11) % n;
}

/* --- HTTP. ---------------------------------------------------------------- */

/*
 * What a partition kept from its way is sent again long after it has ended, even if
 * the client has hung up. Then it would be done after the history was judged. So
 * a client that hangs up takes back what has not gone.
 */
static struct net_stream *dial(const struct url *u)
{
    static const bool never;
    static const struct linger at_once = {.l_onoff = 1};
    int64_t deadline = now_ns() + (int64_t)DIAL_MS * MS;
    struct err e;
    struct net_stream *s = net_dial(u, deadline, &never, &e);

    if (s)
        setsockopt(net_fd(s), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    deadline += (int64_t)SHAKE_MS * MS;
    if (s && secure && secure_connect(secure, s, u, deadline, &e) < 0) {
        net_close(s);
        return NULL;
    }
    return s;
}

/* The number behind a name; `until` bounds where it is looked for. */
static uint64_t number_after(const char *text, const char *what,
                             const char *until)
{
    const char *at = strstr(text, what);

    return at && (!until || at < until) ? strtoull(at + strlen(what), NULL, 10)
                                        : 0;
}

/* The number that a value of v3 is, in base64; 0 if there is none. */
static uint64_t decode_number(const char *text)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint64_t value = 0;
    unsigned bits = 0, n_bits = 0;
    const char *d;

    for (; *text && *text != '=' && (d = strchr(digits, *text)); text++) {
        bits = bits << 6 | (unsigned)(d - digits);
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            value = value * 10 + (bits >> n_bits & 0xff) - '0';
        }
    }
    return value;
}

static void parse_v3(const char *body, struct answer *a)
{
    const char *kv = strstr(body, "\"kvs\":"), *value;

    a->etcd_index = number_after(body, "\"revision\":\"", NULL);
    a->held = strstr(body, "\"succeeded\":true") ||
              number_after(body, "\"deleted\":\"", NULL) > 0;
    a->index = a->etcd_index; /* of a write */
    if (!kv)
        return;
    value = strstr(kv, "\"value\":\"");
    if (value)
        a->value = decode_number(value + strlen("\"value\":\""));
    a->index = number_after(kv, "\"mod_revision\":\"", NULL);
}

/* False: the body is not all here yet. */
static bool parse_answer(char *text, size_t n, struct answer *a)
{
    char *body = strstr(text, "\r\n\r\n"), *node, *prev;

    if (!body)
        return false;
    body += 4;
    if (strstr(text, "\r\nTransfer-Encoding: chunked")
            ? !strstr(body, "0\r\n\r\n")
            : n < (size_t)(body - text) +
                      number_after(text, "\r\nContent-Length: ", body))
        return false;
    a->status = atoi(text + 9);
    if (v3) {
        parse_v3(body, a);
        return true;
    }
    a->etcd_index = number_after(text, "\r\nX-Etcd-Index: ", body);
    a->code = (int)number_after(body, "\"errorCode\":", NULL);
    node = strstr(body, "\"node\":");
    prev = strstr(body, "\"prevNode\":");
    if (node) {
        a->value = number_after(node, "\"value\":\"", prev);
        a->index = number_after(node, "\"modifiedIndex\":", prev);
    }
    return true;
}

/* Ask, and read the answer: false if there is none, or none to understand. */
static bool exchange(struct net_stream *s, const char *ask, struct answer *a)
{
    int64_t deadline = now_ns() + (int64_t)ANSWER_MS * MS;
    char text[8192];
    size_t n = 0;

    *a = (struct answer){.status = -1};
    if (net_write(s, ask, strlen(ask), deadline) < 0)
        return false;
    while (n < sizeof(text) - 1) {
        ssize_t k = net_read(s, text + n, sizeof(text) - 1 - n, deadline);

        if (k <= 0)
            return false;
        n += (size_t)k;
        text[n] = '\0';
        if (parse_answer(text, n, a))
            return true;
    }
    return false;
}

/* An open connection to a member, or NULL. */
static struct connection *connection_to(struct thread *t, int member)
{
    struct connection *c = &t->to[member];

    if (c->stream)
        return c;
    if (now_ns() < c->avoid_until)
        return NULL;
    c->stream = dial(&servers[member]);
    if (!c->stream) {
        c->avoid_until = now_ns() + (int64_t)AVOID_MS * MS;
        return NULL;
    }
    c->number = __atomic_add_fetch(&next_connection, 1, __ATOMIC_RELAXED);
    if (history)
        fprintf(history, "C %" PRId64 " %u %d\n", now_ns(), c->number, member);
    return c;
}

static void hang_up(struct connection *c)
{
    net_close(c->stream);
    c->stream = NULL;
}

/* --- Operations. ---------------------------------------------------------- */

struct op {
    char type;
    uint64_t key, value, prev;
};

static void choose(struct thread *t, struct op *op)
{
    static const char types[] = "rrrrrlllppppppvvvviiicccdda";
    uint64_t n = __atomic_fetch_add(&n_ops, 1, __ATOMIC_RELAXED);
    struct key seen;

    op->type = types[random_below(t, sizeof(types) - 1)];
    op->key = n / (KEYS * OPS_PER_KEY) * KEYS + random_below(t, KEYS);
    op->key %= KEYS_MAX;
    pthread_mutex_lock(&keys_mu);
    seen = keys[op->key];
    pthread_mutex_unlock(&keys_mu);
    op->value = op->prev = 0;
    if (strchr("pcvi", op->type))
        op->value = (uint64_t)(t->number + 1) << 32 | ++t->values;
    if (op->type == 'v' || op->type == 'a')
        op->prev = seen.value ? seen.value : 1;
    if (op->type == 'i')
        op->prev = seen.index ? seen.index : 1;
}

/* --- Operations of v3, in JSON. ------------------------------------------- */

static void add_base64(char *out, const char *text)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = strlen(text);

    for (size_t i = 0; i < n; i += 3) {
        unsigned b = (unsigned char)text[i];

        b = b << 8 | (i + 1 < n ? (unsigned char)text[i + 1] : 0);
        b = b << 8 | (i + 2 < n ? (unsigned char)text[i + 2] : 0);
        *out++ = digits[b >> 18];
        *out++ = digits[b >> 12 & 63];
        *out++ = i + 1 < n ? digits[b >> 6 & 63] : '=';
        *out++ = i + 2 < n ? digits[b & 63] : '=';
    }
    *out = '\0';
}

static void number_base64(char *out, uint64_t number)
{
    char text[24];

    snprintf(text, sizeof(text), "%" PRIu64, number);
    add_base64(out, text);
}

/* If the target compares as told, do the operation. */
static void write_txn(char *body, size_t n, const char *key, const char *target,
                      const char *field, const char *given, const char *what,
                      const char *op)
{
    snprintf(body, n,
             "{\"compare\":[{\"key\":\"%s\",\"target\":\"%s\",\"%s\":\"%s\"}],"
             "\"success\":[{\"%s\":%s}]}",
             key, target, field, given, what, op);
}

static void write_v3(const struct op *op, char *ask, size_t n)
{
    char key[200], value[40], prev[40], number[24], text[128], put[300],
        del[220], body[700];
    const char *path = "kv/txn";

    snprintf(text, sizeof(text), "chaos/%s/k%" PRIu64, name, op->key);
    add_base64(key, text);
    number_base64(value, op->value);
    number_base64(prev, op->prev);
    snprintf(number, sizeof(number), "%" PRIu64, op->prev);
    snprintf(put, sizeof(put), "{\"key\":\"%s\",\"value\":\"%s\"}", key, value);
    snprintf(del, sizeof(del), "{\"key\":\"%s\"}", key);
    snprintf(body, sizeof(body), "%s", del);
    switch (op->type) {
    case 'r':
        path = "kv/range";
        break;
    case 'l':
        path = "kv/range";
        snprintf(body, sizeof(body), "{\"key\":\"%s\",\"serializable\":true}",
                 key);
        break;
    case 'p':
        path = "kv/put";
        snprintf(body, sizeof(body), "%s", put);
        break;
    case 'c':
        write_txn(body, sizeof(body), key, "VERSION", "version", "0",
                  "request_put", put);
        break;
    case 'v':
        write_txn(body, sizeof(body), key, "VALUE", "value", prev,
                  "request_put", put);
        break;
    case 'i':
        write_txn(body, sizeof(body), key, "MOD", "mod_revision", number,
                  "request_put", put);
        break;
    case 'd':
        path = "kv/deleterange";
        break;
    case 'a':
        write_txn(body, sizeof(body), key, "VALUE", "value", prev,
                  "request_delete_range", del);
        break;
    default:
        path = "kv/compaction"; /* up to op->prev */
        snprintf(body, sizeof(body), "{\"revision\":\"%s\"}", number);
        break;
    }
    snprintf(ask, n,
             "POST /v3/%s HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n%s",
             path, strlen(body), body);
}

/* --- Operations of v2. ---------------------------------------------------- */

static void write_v2(const struct op *op, char *ask, size_t n)
{
    char query[64] = "", body[64] = "";
    const char *method = "PUT";

    switch (op->type) {
    case 'r':
        snprintf(query, sizeof(query), "?quorum=true");
        method = "GET";
        break;
    case 'l':
        method = "GET";
        break;
    case 'c':
        snprintf(query, sizeof(query), "?prevExist=false");
        break;
    case 'v':
        snprintf(query, sizeof(query), "?prevValue=%" PRIu64, op->prev);
        break;
    case 'i':
        snprintf(query, sizeof(query), "?prevIndex=%" PRIu64, op->prev);
        break;
    case 'd':
        method = "DELETE";
        break;
    case 'a':
        snprintf(query, sizeof(query), "?prevValue=%" PRIu64, op->prev);
        method = "DELETE";
        break;
    default:
        break;
    }
    if (op->value)
        snprintf(body, sizeof(body), "value=%" PRIu64, op->value);
    snprintf(ask, n,
             "%s /v2/keys/chaos/%s/k%" PRIu64 "%s HTTP/1.1\r\nHost: x\r\n"
             "Content-Type: application/x-www-form-urlencoded\r\n"
             "Content-Length: %zu\r\n\r\n%s",
             method, name, op->key, query, strlen(body), body);
}

static void write_request(const struct op *op, char *ask, size_t n)
{
    if (v3)
        write_v3(op, ask, n);
    else
        write_v2(op, ask, n);
}

/* `ok`, `no`, `?`, or NULL: this cannot be an answer to that. */
static const char *outcome_of(const struct op *op, const struct answer *a)
{
    if (v3 && a->status == 200)
        return strchr("rlp", op->type) || a->held ? "ok" : "no";
    if (v3 && a->status == 429) /* too many requests */
        return "?";
    if (a->status < 0 || a->status >= 500 || a->code >= 300)
        return "?";
    if (a->status == 200 || a->status == 201)
        return "ok";
    if (a->code == 100 && strchr("rl", op->type))
        return "ok"; /* it saw that there is nothing */
    if (a->code == 100 && strchr("vida", op->type))
        return "no";
    if (a->code == 101 && strchr("via", op->type))
        return "no";
    if (a->code == 105 && op->type == 'c')
        return "no";
    return NULL;
}

static void remember(const struct op *op, const struct answer *a)
{
    bool gone = op->type == 'd' || op->type == 'a';

    pthread_mutex_lock(&keys_mu);
    if (a->etcd_index > last_revision)
        last_revision = a->etcd_index;
    if (a->index >= keys[op->key].index) {
        keys[op->key].index = a->index;
        keys[op->key].value = gone ? 0 : a->value;
    }
    pthread_mutex_unlock(&keys_mu);
}

/* False: nobody was asked, or nobody knows the answer. */
static bool run(struct thread *t, const struct op *op, int member)
{
    struct connection *c = connection_to(t, member);
    struct answer a;
    char ask[1024];
    const char *outcome;
    int64_t called, returned;

    if (!c)
        return false;
    write_request(op, ask, sizeof(ask));
    called = now_ns();
    if (!exchange(c->stream, ask, &a))
        a.status = -1;
    returned = now_ns();
    outcome = outcome_of(op, &a);
    if (!outcome) {
        fprintf(history, "! %c %s answered %d, %d\n", op->type, ask, a.status,
                a.code);
        outcome = "?";
    }
    fprintf(history,
            "%c %" PRId64 " %" PRId64 " %u %u %d %" PRIu64 " %" PRIu64
            " %" PRIu64 " %" PRIu64 " %" PRIu64 " %s\n",
            op->type, called, *outcome == '?' ? 0 : returned, t->number,
            c->number, member, op->key,
            strchr("rl", op->type) ? a.value : op->value, op->prev, a.index,
            a.etcd_index, outcome);
    if (a.status < 0)
        hang_up(c);
    if (strcmp(outcome, "ok") == 0)
        remember(op, &a);
    return *outcome != '?';
}

/* Forget what is older than some revisions; whether it works does not matter. */
static void compact(struct thread *t, int member)
{
    struct connection *c = connection_to(t, member);
    struct op op = {.type = 'x'};
    struct answer a;
    char ask[1024];

    pthread_mutex_lock(&keys_mu);
    op.prev = last_revision > 50 ? last_revision - 50 : 0;
    pthread_mutex_unlock(&keys_mu);
    write_request(&op, ask, sizeof(ask));
    if (c && op.prev && !exchange(c->stream, ask, &a))
        hang_up(c);
}

static void *record_loop(void *arg)
{
    struct thread *t = arg;
    int64_t interval = (int64_t)(1e9 * n_threads / rate), next = now_ns();

    next += (int64_t)random_below(t, (uint64_t)interval);
    while (!stopped()) {
        struct op op;
        int64_t now;

        sleep_until(next);
        choose(t, &op);
        run(t, &op, (int)random_below(t, (uint64_t)n_servers));
        if (v3 && random_below(t, 200) == 0)
            compact(t, (int)random_below(t, (uint64_t)n_servers));
        now = now_ns();
        next += interval / 2 + (int64_t)random_below(t, (uint64_t)interval);
        if (next < now - 2 * interval)
            next = now; /* after a pause, no burst */
    }
    return NULL;
}

/* The faults are over: what does each key hold in the end? */
static bool read_all(struct thread *t)
{
    uint64_t n = (n_ops / (KEYS * OPS_PER_KEY) + 1) * KEYS;
    int64_t deadline = now_ns() + (int64_t)FINAL_MS * MS;

    if (n > KEYS_MAX)
        n = KEYS_MAX;
    for (uint64_t key = 0; key < n; key++) {
        struct op op = {.type = 'r', .key = key};

        while (!run(t, &op, (int)random_below(t, (uint64_t)n_servers))) {
            if (now_ns() > deadline)
                return false;
            usleep(10000);
        }
    }
    return true;
}

static struct thread *start_threads(int n, uint64_t seed, void *(*loop)(void *))
{
    struct thread *t = calloc((size_t)n, sizeof(*t));

    if (!t)
        exit(1);
    for (int i = 0; i < n; i++) {
        t[i].number = (unsigned)i;
        t[i].seed = (seed * 1000 + (uint64_t)i) * 2654435761u + 1;
        pthread_create(&t[i].thread, NULL, loop, &t[i]);
    }
    return t;
}

static int do_record(const char *path, uint64_t seed, int threads)
{
    struct thread *t;
    bool whole;

    history = fopen(path, "w");
    if (!history) {
        perror(path);
        return 1;
    }
    n_threads = threads;
    t = start_threads(threads, seed, record_loop);
    for (int i = 0; i < threads; i++)
        pthread_join(t[i].thread, NULL);
    whole = read_all(&t[0]);
    if (fclose(history) != 0)
        whole = false;
    free(t);
    return whole ? 0 : 1;
}

/* --- Load. ---------------------------------------------------------------- */

#define READS_PER_S 100
static int64_t load_until;

static void *write_loop(void *arg)
{
    struct thread *t = arg;
    struct op op = {.type = 'p'};
    struct answer a;
    char ask[1024];

    while (now_ns() < load_until) {
        struct connection *c = connection_to(t, (int)t->number % n_servers);

        op.key = t->number;
        op.value++;
        write_request(&op, ask, sizeof(ask));
        if (!c)
            usleep(10000);
        else if (!exchange(c->stream, ask, &a))
            hang_up(c);
        else
            t->count += a.status == 200 || a.status == 201;
    }
    return NULL;
}

static void *read_loop(void *arg)
{
    struct thread *t = arg;
    struct op op = {.type = 'l'};
    struct answer a;
    char ask[1024];
    int64_t next = now_ns();

    t->took =
        calloc((size_t)((load_until - next) / 1000000000 + 2) * READS_PER_S,
               sizeof(*t->took));
    while (now_ns() < load_until && t->took) {
        struct connection *c = connection_to(t, (int)t->number % n_servers);
        int64_t began;

        op.key = random_below(t, 4);
        write_request(&op, ask, sizeof(ask));
        sleep_until(next);
        next += 1000000000 / READS_PER_S;
        began = now_ns();
        if (c && exchange(c->stream, ask, &a))
            t->took[t->count++] = now_ns() - began;
        else if (c)
            hang_up(c);
    }
    return NULL;
}

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return x < y ? -1 : x > y;
}

static void print_load(const struct thread *w, int writers,
                       const struct thread *r, int readers)
{
    uint64_t writes = 0, reads = 0;
    int64_t *all;

    for (int i = 0; i < writers; i++)
        writes += w[i].count;
    for (int i = 0; i < readers; i++)
        reads += r[i].count;
    all = calloc(reads + 1, sizeof(*all));
    if (!all)
        exit(1);
    reads = 0;
    for (int i = 0; i < readers; i++) {
        memcpy(all + reads, r[i].took, r[i].count * sizeof(*all));
        reads += r[i].count;
    }
    qsort(all, reads, sizeof(*all), by_size);
    printf("%" PRIu64 " writes %" PRIu64 " reads p50 %.3f p99 %.3f max %.3f\n",
           writes, reads, (double)all[reads / 2] / MS,
           (double)all[reads * 99 / 100] / MS,
           (double)all[reads ? reads - 1 : 0] / MS);
    free(all);
}

static int do_load(int seconds, int writers, int readers)
{
    struct thread *w, *r;

    name = "load";
    load_until = now_ns() + (int64_t)seconds * 1000000000;
    w = start_threads(writers, 1, write_loop);
    r = start_threads(readers, 2, read_loop);
    for (int i = 0; i < writers; i++)
        pthread_join(w[i].thread, NULL);
    for (int i = 0; i < readers; i++)
        pthread_join(r[i].thread, NULL);
    print_load(w, writers, r, readers);
    return 0;
}

static void use_certificates(void)
{
    const char *folder = getenv("CHAOS_CERTS");
    char ca[512], cert[512], key[512];
    struct secure_options o = {
        .what = "client", .ca_file = ca, .cert_file = cert, .key_file = key};
    struct err e;

    snprintf(ca, sizeof(ca), "%s/ca.pem", folder ? folder : ".");
    snprintf(cert, sizeof(cert), "%s/client.pem", folder ? folder : ".");
    snprintf(key, sizeof(key), "%s/client.key", folder ? folder : ".");
    secure = secure_new(&o, &e);
    if (!secure) {
        fprintf(stderr, "client: %s\n", e.msg);
        exit(2);
    }
}

static void add_server(const char *text)
{
    struct url *u = &servers[n_servers++];
    struct err e;

    if (url_parse(str_of(text), u, &e) < 0) {
        fprintf(stderr, "client: %s: %s\n", text, e.msg);
        exit(2);
    }
    if (url_is_tls(u) && !secure)
        use_certificates();
}

int main(int argc, char **argv)
{
    bool record = argc > 7 && strncmp(argv[1], "record", 6) == 0;
    int first = record ? 7 : 5, threads;

    if (!record && (argc < 6 || strncmp(argv[1], "load", 4) != 0)) {
        fprintf(stderr, "usage: see the head of client.c\n");
        return 2;
    }
    signal(SIGTERM, on_signal);
    signal(SIGINT, SIG_IGN);
    v3 = strchr(argv[1], '3') != NULL;
    for (int i = first; i < argc && n_servers < MEMBERS_MAX; i++)
        add_server(argv[i]);
    if (!record)
        return do_load(atoi(argv[2]), atoi(argv[3]), atoi(argv[4]));
    name = argv[3];
    threads = atoi(argv[5]);
    rate = atof(argv[6]);
    if (threads < 1 || threads > THREADS_MAX || rate <= 0)
        return 2;
    return do_record(argv[2], strtoull(argv[4], NULL, 10), threads);
}
