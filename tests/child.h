/*
 * child.h - processes that tests start: a program's main() whose output is
 * wanted, and a command whose output is not.
 */
#ifndef CHILD_H
#define CHILD_H

#include "buf.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

/* Until it ends: its exit code, -1 if it was killed. All that it prints, errors
 * too, is added to out. */
static inline int run_main(int (*program)(int, char **), int argc, char **argv,
                           struct buf *out)
{
    char piece[4096];
    int fds[2], status;
    ssize_t n;
    pid_t pid;

    if (pipe(fds) < 0)
        abort();
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        dup2(fds[1], 1);
        dup2(fds[1], 2);
        close(fds[0]);
        close(fds[1]);
        exit(program(argc, argv));
    }
    close(fds[1]);
    while ((n = read(fds[0], piece, sizeof(piece))) > 0)
        buf_add(out, piece, (size_t)n);
    close(fds[0]);
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Started; the caller ends it. */
static inline pid_t spawn_quietly(char **command)
{
    pid_t pid = fork();

    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);

        dup2(null, 1);
        dup2(null, 2);
        execvp(command[0], command);
        _exit(127);
    }
    return pid;
}

#endif
