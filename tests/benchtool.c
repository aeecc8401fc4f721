/*
 * benchtool.c - what scripts/bench.sh measures by itself:
 *
 *   benchtool fsync DIR N        microseconds of one write + fdatasync of 256
 *                                bytes, the median of N, in a preallocated file
 *   benchtool watchers HOST PORT N
 *                                open N idle watches, say "ready", hold them
 *                                until standard input ends
 *   benchtool echo PORT [DIR]    the least that a server can do: answer each
 *                                request of one connection after another with
 *                                the same bytes, once a block is synced in DIR
 *   benchtool awake              burn what is idle on this core until killed,
 *                                so that no virtual core falls asleep
 *   benchtool start HOST PORT CMD...
 *                                milliseconds from starting CMD to its first
 *                                answered PUT; then CMD is killed
 */
#include "child.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LOG_BYTES 64000000

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

/* A preallocated file without a name, as a segment of the log. */
static int open_log(const char *dir)
{
    char path[4096];
    int fd;

    snprintf(path, sizeof(path), "%s/fsync.tmp", dir);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || posix_fallocate(fd, 0, LOG_BYTES) != 0 || fsync(fd) < 0) {
        perror(path);
        exit(1);
    }
    unlink(path);
    return fd;
}

static void write_block(int fd, int i)
{
    char block[256];

    memset(block, 'x', sizeof(block));
    if (pwrite(fd, block, sizeof(block), (off_t)i * 256 % LOG_BYTES) < 0 ||
        fdatasync(fd) < 0) {
        perror("fdatasync");
        exit(1);
    }
}

static int bench_fsync(const char *dir, int n)
{
    int64_t *took = calloc((size_t)n, sizeof(*took));
    int fd = open_log(dir);

    for (int i = 0; i < n; i++) {
        took[i] = now_ns();
        write_block(fd, i);
        took[i] = now_ns() - took[i];
    }
    qsort(took, (size_t)n, sizeof(*took), by_value);
    printf("%.1f\n", (double)took[n / 2] / 1000);
    free(took);
    return 0;
}

static int dial(const char *host, int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    inet_pton(AF_INET, host, &a.sin_addr);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
        return fd;
    close(fd);
    return -1;
}

static int bench_watchers(const char *host, int port, int n)
{
    struct rlimit limit;
    char ask[] = "GET /v2/keys/idle?wait=true HTTP/1.1\r\nHost: x\r\n\r\n";
    char answer[1024];

    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    for (int i = 0; i < n; i++) {
        int fd = dial(host, port);

        if (fd < 0 || write(fd, ask, sizeof(ask) - 1) < 0 ||
            read(fd, answer, sizeof(answer)) <= 0) {
            fprintf(stderr, "watcher %d: %s\n", i, strerror(errno));
            return 1;
        }
    }
    puts("ready");
    fflush(stdout);
    while (read(STDIN_FILENO, answer, sizeof(answer)) > 0)
        ;
    return 0;
}

static int bench_echo(int port, const char *dir)
{
    static const char answer[] =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        "X-Etcd-Cluster-Id: cdf818194e3a8c32\r\nX-Etcd-Index: 1004\r\n"
        "X-Raft-Index: 1005\r\nX-Raft-Term: 2\r\n"
        "Date: Mon, 23 Nov 2026 00:00:00 GMT\r\nContent-Length: 95\r\n\r\n"
        "{\"action\":\"get\",\"node\":{\"key\":\"/bench/k1\",\"value\":\"xxxxx"
        "\",\"modifiedIndex\":4,\"createdIndex\":4}}\n";
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)port),
                            .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int log = dir ? open_log(dir) : -1, one = 1, i = 0;
    int listener = socket(AF_INET, SOCK_STREAM, 0), fd;
    char ask[4096];

    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(listener, (struct sockaddr *)&a, sizeof(a)) < 0 ||
        listen(listener, 16) < 0) {
        perror("listen");
        return 1;
    }
    while ((fd = accept(listener, NULL, NULL)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        while (recv(fd, ask, sizeof(ask), 0) > 0) {
            if (dir)
                write_block(log, i++);
            send(fd, answer, sizeof(answer) - 1, MSG_NOSIGNAL);
        }
        close(fd);
    }
    return 1;
}

static int bench_awake(void)
{
    const struct sched_param none = {0};

    if (sched_setscheduler(0, SCHED_IDLE, &none) < 0) {
        perror("SCHED_IDLE");
        return 1;
    }
    for (volatile unsigned n = 0;; n++)
        ;
}

static int first_put(const char *host, int port)
{
    char ask[] = "PUT /v2/keys/first HTTP/1.1\r\nHost: x\r\nContent-Type: "
                 "application/x-www-form-urlencoded\r\nContent-Length: 7\r\n"
                 "\r\nvalue=1";
    char answer[1024];
    int fd = dial(host, port);
    ssize_t n;

    if (fd < 0)
        return 0;
    n = write(fd, ask, sizeof(ask) - 1) > 0
            ? read(fd, answer, sizeof(answer) - 1)
            : -1;
    close(fd);
    return n > 12 && memcmp(answer + 9, "201", 3) == 0;
}

static int bench_start(const char *host, int port, char **cmd)
{
    int64_t began = now_ns(), limit = began + INT64_C(30000000000);
    const struct timespec pause = {0, 500000};
    pid_t pid = spawn_quietly(cmd);

    while (!first_put(host, port) && now_ns() < limit)
        nanosleep(&pause, NULL);
    printf("%.1f\n", (double)(now_ns() - began) / 1e6);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "fsync") == 0)
        return bench_fsync(argv[2], atoi(argv[3]));
    if (argc == 5 && strcmp(argv[1], "watchers") == 0)
        return bench_watchers(argv[2], atoi(argv[3]), atoi(argv[4]));
    if ((argc == 3 || argc == 4) && strcmp(argv[1], "echo") == 0)
        return bench_echo(atoi(argv[2]), argv[3]);
    if (argc == 2 && strcmp(argv[1], "awake") == 0)
        return bench_awake();
    if (argc > 4 && strcmp(argv[1], "start") == 0)
        return bench_start(argv[2], atoi(argv[3]), argv + 4);
    fprintf(stderr, "usage: see the head of benchtool.c\n");
    return 2;
}
