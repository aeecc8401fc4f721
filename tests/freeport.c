/*
 * freeport.c - print N ports of an address that were free a moment ago, for
 * tests: freeport N [ADDRESS]. All are held while they are chosen, so that
 * they differ.
 *
 * A test's server may be down for a while and wants its port back. So none is
 * of those that the kernel gives to outgoing connections, and tests of one run
 * (who share TMPDIR) take turns: its file "freeport" holds the last one given.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    PORT_FIRST = 15000,
    PORT_LAST = 32000, /* the kernel's begin at 32768 */
};

/* The file with the last port, locked until the program ends; or -1. */
static int open_turns(void)
{
    const char *dir = getenv("TMPDIR");
    char path[4096];
    int fd;

    if (!dir ||
        snprintf(path, sizeof(path), "%s/freeport", dir) >= (int)sizeof(path))
        return -1;
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0 && lockf(fd, F_LOCK, 0) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Anywhere, where nobody was before. */
static int first_port(int turns)
{
    struct timespec now;
    int last;

    if (turns >= 0 && pread(turns, &last, sizeof(last), 0) == sizeof(last))
        return last;
    clock_gettime(CLOCK_REALTIME, &now);
    return PORT_FIRST + (int)(((unsigned long)now.tv_nsec / 1000 +
                               (unsigned long)getpid() * 7919) %
                              (PORT_LAST - PORT_FIRST));
}

static bool is_free(const char *address, int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd < 0 || inet_pton(AF_INET, address, &a.sin_addr) != 1) {
        perror("freeport");
        exit(1);
    }
    if (bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
        return true; /* and held */
    close(fd);
    return false;
}

int main(int argc, char **argv)
{
    int n = argc > 1 ? atoi(argv[1]) : 1;
    const char *address = argc > 2 ? argv[2] : "127.0.0.1";
    int turns = open_turns(), port = first_port(turns);

    for (int tries = PORT_LAST - PORT_FIRST; n > 0 && tries > 0; tries--) {
        port = port < PORT_LAST ? port + 1 : PORT_FIRST;
        if (!is_free(address, port))
            continue;
        printf("%d\n", port);
        n--;
    }
    if (turns >= 0 && pwrite(turns, &port, sizeof(port), 0) != sizeof(port))
        n = 1;
    return n > 0;
}
