/*
 * h2echo.c - a small HTTP/2 server around the engine, to try other programs'
 * clients on: h2echo PORT [STREAMS_MAX]
 *
 *   /bytes/N   N bytes, made as the client's windows allow
 *   others     the request's body, or "hello, world" if it has none
 *
 * Cleartext with prior knowledge, on 127.0.0.1 only. A thread per connection,
 * which reads and then writes; it is the only one, so there is no lock.
 */
#include "http2.h"
#include "sys.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define SOURCE_BLOB 16384

static uint32_t streams_max;
static struct blob *zeros;

static const struct hpack_field head[] = {
    HPACK_FIELD(":status", "200"), HPACK_FIELD("content-type", "text/plain")};
static const struct hpack_field trailers[] = {HPACK_FIELD("x-status", "0")};

static enum h2_pulled pull(void *arg, struct h2_sink *s, size_t room)
{
    uint64_t *left = arg;
    size_t n = (size_t)min_u64(min_u64(*left, room), SOURCE_BLOB);

    h2_sink_blob(s, zeros, 0, n);
    *left -= n;
    return *left ? H2_PULL_MORE : H2_PULL_DONE;
}

static void on_request(struct h2 *c, const struct h2_event *ev)
{
    struct str n = ev->path;
    uint64_t bytes;

    h2_headers(c, ev->stream, head, ARRAY_LEN(head), false);
    if (str_has_prefix(n, "/bytes/") &&
        str_to_u64((struct str){n.p + 7, n.n - 7}, &bytes)) {
        uint64_t *left = xmalloc(sizeof(*left));

        *left = bytes;
        h2_send_source(c, ev->stream, &(struct h2_source){pull, free, left});
    } else if (ev->end) {
        h2_send(c, ev->stream, "hello, world\n", 13);
    }
}

static void on_event(struct h2 *c, const struct h2_event *ev)
{
    if (ev->type == H2_HEADERS)
        on_request(c, ev);
    if (ev->type == H2_DATA) {
        h2_send(c, ev->stream, ev->data, ev->n);
        h2_consumed(c, ev->stream, ev->n);
    }
    if (ev->end && (ev->type == H2_HEADERS || ev->type == H2_DATA ||
                    ev->type == H2_TRAILERS))
        h2_end(c, ev->stream, trailers, ARRAY_LEN(trailers));
    if (ev->type == H2_FAILED)
        fprintf(stderr, "h2echo: %s %.*s\n", h2_code_name(ev->code),
                STR_FMT(ev->debug));
}

/* All that may be sent now. False: the client is gone. */
static bool flush(struct h2 *c, int fd)
{
    struct iovec *iov;
    int n;

    while ((n = h2_output(c, 1 << 18, &iov)) > 0) {
        ssize_t sent = writev(fd, iov, n);

        if (sent < 0 && errno != EINTR)
            return false;
        h2_sent(c, sent > 0 ? (size_t)sent : 0);
    }
    return true;
}

static void *serve(void *arg)
{
    int fd = (int)(intptr_t)arg;
    struct h2 *c =
        h2_new(&(struct h2_options){.server = true, .streams_max = streams_max},
               sys_mono_ns());
    uint8_t *buf = xmalloc(H2_INPUT_MAX);
    size_t n = 0;
    struct h2_event ev;

    while (flush(c, fd) && !h2_done(c)) {
        ssize_t got = read(fd, buf + n, H2_INPUT_MAX - n);
        size_t at = 0, used;

        if (got <= 0)
            break;
        n += (size_t)got;
        do {
            used = h2_receive(c, buf + at, n - at, sys_mono_ns(), &ev);
            at += used;
            on_event(c, &ev);
        } while (used || ev.type != H2_NONE);
        memmove(buf, buf + at, n - at);
        n -= at;
    }
    shutdown(fd, SHUT_WR);
    while (read(fd, buf, H2_INPUT_MAX) > 0)
        ; /* so that no reset overtakes our last words */
    close(fd);
    h2_free(c);
    free(buf);
    return NULL;
}

static int listen_on(uint16_t port)
{
    struct sockaddr_in sa = {.sin_family = AF_INET,
                             .sin_port = htons(port),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
        listen(fd, 64) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

int main(int argc, char **argv)
{
    int lfd, fd, on = 1;

    if (argc < 2) {
        fprintf(stderr, "usage: h2echo PORT [STREAMS_MAX]\n");
        return 2;
    }
    if (argc > 2)
        streams_max = (uint32_t)atoi(argv[2]);
    signal(SIGPIPE, SIG_IGN);
    zeros = blob_new(NULL, SOURCE_BLOB);
    memset(zeros->data, 0, SOURCE_BLOB);
    lfd = listen_on((uint16_t)atoi(argv[1]));
    if (lfd < 0) {
        perror("h2echo");
        return 1;
    }
    while ((fd = accept(lfd, NULL, NULL)) >= 0) {
        pthread_t t;

        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        if (pthread_create(&t, NULL, serve, (void *)(intptr_t)fd) == 0)
            pthread_detach(t);
        else
            close(fd);
    }
    return 0;
}
