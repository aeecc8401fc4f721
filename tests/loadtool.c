/*
 * loadtool.c - writers that remember what was acknowledged, and a check of it.
 *
 *   loadtool write THREADS FILE HOST:PORT...   PUT until SIGTERM or SIGINT,
 *       each thread to keys of its own, failing over between the servers; then
 *       write to FILE, for each key, the last acknowledged and the last tried
 *       value, and print the number of acknowledged writes and the longest
 *       time in ms between two of them
 *   loadtool verify FILE HOST:PORT             each key must hold the last
 *       acknowledged value or one tried later (a write that timed out may or
 *       may not have happened)
 *   loadtool clients N KEYS ROUNDS HOST:PORT   N kept connections, each with a
 *       request under way at any time: PUTs of 256 bytes, and GETs of what was
 *       put, until all KEYS were put ROUNDS times. One failure ends it
 */
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define KEYS 500
#define THREADS_MAX 64

struct writer {
    pthread_t thread;
    int number, n_servers;
    char **servers;
    long acked[KEYS], tried[KEYS];
    long count;
    int64_t last_ns, gap_ns; /* of acknowledgements */
};

static int stop; /* atomic */

static void on_signal(int sig)
{
    (void)sig;
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
}

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int dial(const char *server)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    struct timeval limit = {3, 0};
    char host[64];
    int port, fd;

    if (sscanf(server, "%63[^:]:%d", host, &port) != 2)
        return -1;
    a.sin_port = htons((uint16_t)port);
    inet_pton(AF_INET, host, &a.sin_addr);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
        return fd;
    close(fd);
    return -1;
}

/* One request; the status, or -1. The answers here fit in one buffer. */
static int exchange(int fd, const char *ask, char *answer, size_t n)
{
    size_t got = 0;
    char *end, *length;

    if (send(fd, ask, strlen(ask), MSG_NOSIGNAL) < 0)
        return -1;
    for (;;) {
        ssize_t k = recv(fd, answer + got, n - 1 - got, 0);

        if (k <= 0)
            return -1;
        got += (size_t)k;
        answer[got] = '\0';
        end = strstr(answer, "\r\n\r\n");
        length = end ? strstr(answer, "Content-Length: ") : NULL;
        if (length &&
            got >= (size_t)(end + 4 - answer) + strtoul(length + 16, NULL, 10))
            return atoi(answer + 9);
    }
}

static void *write_loop(void *arg)
{
    struct writer *w = arg;
    char ask[512], body[64], answer[4096];
    int fd = -1, server = w->number % w->n_servers;

    for (long n = 1; !__atomic_load_n(&stop, __ATOMIC_RELAXED); n++) {
        long key = n % KEYS;
        int status;

        if (fd < 0) {
            server = (server + 1) % w->n_servers;
            fd = dial(w->servers[server]);
        }
        if (fd < 0) {
            usleep(5000);
            continue;
        }
        snprintf(body, sizeof(body), "value=%ld", n);
        snprintf(ask, sizeof(ask),
                 "PUT /v2/keys/load/t%d/k%ld HTTP/1.1\r\nHost: x\r\n"
                 "Content-Type: application/x-www-form-urlencoded\r\n"
                 "Content-Length: %zu\r\n\r\n%s",
                 w->number, key, strlen(body), body);
        w->tried[key] = n;
        status = exchange(fd, ask, answer, sizeof(answer));
        if (status == 200 || status == 201) {
            int64_t now = now_ns();

            w->acked[key] = n;
            w->count++;
            if (w->last_ns && now - w->last_ns > w->gap_ns)
                w->gap_ns = now - w->last_ns;
            w->last_ns = now;
        } else if (status < 0) {
            close(fd);
            fd = -1;
        }
    }
    if (fd >= 0)
        close(fd);
    return NULL;
}

static int do_write(int threads, const char *path, char **servers, int n)
{
    static struct writer w[THREADS_MAX];
    int64_t gap = 0;
    long total = 0;
    FILE *f;

    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    for (int i = 0; i < threads; i++) {
        w[i].number = i;
        w[i].servers = servers;
        w[i].n_servers = n;
        pthread_create(&w[i].thread, NULL, write_loop, &w[i]);
    }
    for (int i = 0; i < threads; i++)
        pthread_join(w[i].thread, NULL);
    f = fopen(path, "w");
    if (!f) {
        perror(path);
        return 1;
    }
    for (int i = 0; i < threads; i++) {
        for (int k = 0; k < KEYS; k++)
            if (w[i].acked[k])
                fprintf(f, "%d %d %ld %ld\n", i, k, w[i].acked[k],
                        w[i].tried[k]);
        total += w[i].count;
        if (w[i].gap_ns > gap)
            gap = w[i].gap_ns;
    }
    fclose(f);
    printf("%ld acknowledged, longest gap %ld ms\n", total,
           (long)(gap / 1000000));
    return 0;
}

static int do_verify(const char *path, const char *server)
{
    int fd = dial(server), thread, key, bad = 0, checked = 0;
    char ask[256], answer[4096];
    long acked, tried;
    FILE *f = fopen(path, "r");

    if (!f || fd < 0) {
        perror(f ? server : path);
        return 1;
    }
    while (fscanf(f, "%d %d %ld %ld", &thread, &key, &acked, &tried) == 4) {
        char *value;
        long got = -1;

        snprintf(ask, sizeof(ask),
                 "GET /v2/keys/load/t%d/k%d?quorum=true HTTP/1.1\r\n"
                 "Host: x\r\n\r\n",
                 thread, key);
        if (exchange(fd, ask, answer, sizeof(answer)) == 200 &&
            (value = strstr(answer, "\"value\":\"")))
            got = atol(value + 9);
        checked++;
        if (got < acked || got > tried) {
            printf("lost: t%d/k%d acknowledged %ld, tried %ld, holds %ld\n",
                   thread, key, acked, tried, got);
            bad++;
        }
    }
    fclose(f);
    close(fd);
    printf("%d keys checked, %d lost\n", checked, bad);
    return bad || !checked;
}

/* --- Many clients in one thread. ---------------------------------------- */

#define CLIENTS_MAX 4096
#define VALUE_SIZE 256

struct client {
    char answer[4096];
    size_t got;
    long step; /* even: about to PUT, odd: to GET the same key */
};

/* Client i of n has the keys i, i + n, i + 2n...; false: it has done all. */
static bool next_request(struct client *c, int fd, int i, int n, long keys,
                         long rounds)
{
    long each = (keys - i + n - 1) / n, turn = c->step / 2;
    bool put = c->step % 2 == 0;
    char ask[VALUE_SIZE + 256];
    int len;

    if (turn == each * rounds)
        return false;
    len = snprintf(ask, sizeof(ask),
                   "%s /v2/keys/many/k%ld HTTP/1.1\r\nHost: x\r\n"
                   "Content-Type: application/x-www-form-urlencoded\r\n"
                   "Content-Length: %d\r\n\r\n",
                   put ? "PUT" : "GET", i + turn % each * n,
                   put ? VALUE_SIZE + 6 : 0);
    if (put)
        len += snprintf(ask + len, sizeof(ask) - (size_t)len, "value=%0*ld",
                        VALUE_SIZE, turn);
    c->step++;
    c->got = 0;
    return send(fd, ask, (size_t)len, MSG_NOSIGNAL) == len;
}

/* What came: 1 if the answer is complete, 0 if not yet, -1 if it is bad. */
static int take_answer(struct client *c, int fd)
{
    ssize_t n = recv(fd, c->answer + c->got, sizeof(c->answer) - 1 - c->got, 0);
    const char *end, *length;

    if (n <= 0)
        return -1;
    c->got += (size_t)n;
    c->answer[c->got] = '\0';
    end = strstr(c->answer, "\r\n\r\n");
    length = strstr(c->answer, "Content-Length: ");
    if (!end || !length)
        return 0;
    if (strncmp(c->answer + 9, "20", 2) != 0)
        return -1;
    return c->got >=
           (size_t)(end + 4 - c->answer) + strtoul(length + 16, NULL, 10);
}

static int do_clients(int n, long keys, long rounds, const char *server)
{
    static struct client clients[CLIENTS_MAX];
    static struct pollfd fds[CLIENTS_MAX];
    int64_t began = now_ns();
    int left = n;

    for (int i = 0; i < n; i++) {
        fds[i] = (struct pollfd){.fd = dial(server), .events = POLLIN};
        if (fds[i].fd < 0) {
            perror("connect");
            return 1;
        }
    }
    for (int i = 0; i < n; i++)
        if (!next_request(&clients[i], fds[i].fd, i, n, keys, rounds))
            return 1;
    while (left > 0) {
        if (poll(fds, (nfds_t)n, 10000) <= 0) {
            fprintf(stderr, "no answer for 10 s\n");
            return 1;
        }
        for (int i = 0; i < n; i++) {
            int rc = fds[i].revents ? take_answer(&clients[i], fds[i].fd) : 0;

            if (rc < 0) {
                fprintf(stderr, "client %d: %s\n", i, clients[i].answer);
                return 1;
            }
            if (rc > 0 &&
                !next_request(&clients[i], fds[i].fd, i, n, keys, rounds)) {
                fds[i].fd = ~fds[i].fd; /* stays open; poll() skips it */
                left--;
            }
        }
    }
    printf("%ld requests of %d clients in %ld ms\n", 2 * keys * rounds, n,
           (long)((now_ns() - began) / 1000000));
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 6 && strcmp(argv[1], "clients") == 0 &&
        atoi(argv[2]) <= CLIENTS_MAX)
        return do_clients(atoi(argv[2]), atol(argv[3]), atol(argv[4]), argv[5]);
    if (argc > 4 && strcmp(argv[1], "write") == 0)
        return do_write(atoi(argv[2]), argv[3], argv + 4, argc - 4);
    if (argc == 4 && strcmp(argv[1], "verify") == 0)
        return do_verify(argv[2], argv[3]);
    fprintf(stderr, "usage: see the head of loadtool.c\n");
    return 2;
}
