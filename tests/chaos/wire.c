/*
 * wire.c - a network of our own: each port is a network namespace with one
 * interface, and this process is the switch between them, which can cut links
 * and make them slow and lossy, each way by itself. (The kernel's netem is not
 * everywhere; TAP devices nearly are.)
 *
 *   wire PORTS SEED
 *
 * Port i has the address 10.99.0.(i + 1). Prints its pid and the descriptors of
 * the namespaces, for others to enter by /proc/PID/fd/N. Reads commands:
 *
 *   link A B DELAY_US JITTER_US LOSS   frames from A to B; LOSS of 1000 are
 *                                      lost, 1000: the link is cut. Jitter
 *                                      makes them overtake each other
 *   rate A B BYTES                     so many go from A to B in a second, and
 *                                      what would wait for long is lost
 *   heal                               all links are good again
 *
 * It ends with its standard input, and with it all namespaces that nobody is
 * in: nothing is left behind, however its parent ended. Needs root.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define PORTS_MAX 16
#define FRAME_MAX 16384
#define MTU 9000
#define HELD_MAX 20000
#define LOST_ALL 1000
#define QUEUE_NS 200000000 /* of a link with a rate */

struct link {
    int64_t delay_ns, jitter_ns;
    int64_t rate;    /* bytes a second; 0: no limit */
    int64_t free_at; /* when the last frame's end has left, by that rate */
    unsigned loss;
};

struct frame { /* on its way */
    int64_t due;
    int to;
    size_t n;
    unsigned char *data;
};

static struct link links[PORTS_MAX][PORTS_MAX];
static int taps[PORTS_MAX], n_ports;
static struct frame held[HELD_MAX]; /* a heap, the next one due first */
static size_t n_held;
static uint64_t seed;

static void die(const char *what)
{
    fprintf(stderr, "wire: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static uint64_t random_below(uint64_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return n ? (seed >> 11) % n : 0;
}

/* --- Namespaces and their interfaces. ----------------------------------- */

static void mac_of(int port, unsigned char mac[6])
{
    memset(mac, 0, 6);
    mac[0] = 2; /* locally administered */
    mac[5] = (unsigned char)(port + 1);
}

static void address_of(int port, struct sockaddr *a)
{
    struct sockaddr_in in = {.sin_family = AF_INET};

    in.sin_addr.s_addr = htonl(0x0a630001u + (unsigned)port);
    memset(a, 0, sizeof(*a));
    memcpy(a, &in, sizeof(in));
}

static void set_flags(int sock, const char *name)
{
    struct ifreq r = {0};

    snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", name);
    r.ifr_flags = IFF_UP | IFF_RUNNING;
    if (ioctl(sock, SIOCSIFFLAGS, &r) < 0)
        die("set an interface up");
}

static int open_tap(void)
{
    struct ifreq r = {0};
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

    if (fd < 0)
        die("open /dev/net/tun");
    snprintf(r.ifr_name, sizeof(r.ifr_name), "wire0");
    r.ifr_flags = IFF_TAP | IFF_NO_PI;
    if (ioctl(fd, TUNSETIFF, &r) < 0)
        die("make a TAP device");
    return fd;
}

/* All neighbours are known for good: a cut link just loses what is sent. */
static void know_neighbours(int sock, int port)
{
    for (int i = 0; i < n_ports; i++) {
        struct arpreq a = {.arp_flags = ATF_PERM | ATF_COM};

        if (i == port)
            continue;
        address_of(i, &a.arp_pa);
        a.arp_ha.sa_family = ARPHRD_ETHER;
        mac_of(i, (unsigned char *)a.arp_ha.sa_data);
        snprintf(a.arp_dev, sizeof(a.arp_dev), "wire0");
        if (ioctl(sock, SIOCSARP, &a) < 0)
            die("set a neighbour");
    }
}

static void set_up_interface(int port)
{
    int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq r = {0};

    set_flags(sock, "lo");
    snprintf(r.ifr_name, sizeof(r.ifr_name), "wire0");
    r.ifr_hwaddr.sa_family = ARPHRD_ETHER;
    mac_of(port, (unsigned char *)r.ifr_hwaddr.sa_data);
    if (ioctl(sock, SIOCSIFHWADDR, &r) < 0)
        die("set the hardware address");
    r.ifr_mtu = MTU;
    if (ioctl(sock, SIOCSIFMTU, &r) < 0)
        die("set the MTU");
    address_of(port, &r.ifr_addr);
    if (ioctl(sock, SIOCSIFADDR, &r) < 0)
        die("set the address");
    ((struct sockaddr_in *)(void *)&r.ifr_netmask)->sin_addr.s_addr =
        htonl(0xffffff00);
    if (ioctl(sock, SIOCSIFNETMASK, &r) < 0)
        die("set the netmask");
    set_flags(sock, "wire0");
    know_neighbours(sock, port);
    close(sock);
}

/* Its descriptor. */
static int make_port(int port)
{
    int ns;

    if (unshare(CLONE_NEWNET) < 0)
        die("make a network namespace");
    taps[port] = open_tap();
    set_up_interface(port);
    ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (ns < 0)
        die("open the namespace");
    return ns;
}

/* --- Frames. -------------------------------------------------------------- */

static void swap(size_t a, size_t b)
{
    struct frame f = held[a];

    held[a] = held[b];
    held[b] = f;
}

static void hold(const struct frame *f)
{
    size_t i = n_held++;

    held[i] = *f;
    held[i].data = malloc(f->n);
    if (!held[i].data)
        die("hold a frame");
    memcpy(held[i].data, f->data, f->n);
    for (; i && held[i].due < held[(i - 1) / 2].due; i = (i - 1) / 2)
        swap(i, (i - 1) / 2);
}

static struct frame take_first(void)
{
    struct frame first = held[0];
    size_t i = 0, least;

    held[0] = held[--n_held];
    for (;; i = least) {
        least = i;
        for (size_t k = 2 * i + 1; k <= 2 * i + 2 && k < n_held; k++)
            if (held[k].due < held[least].due)
                least = k;
        if (least == i)
            return first;
        swap(i, least);
    }
}

static void deliver(const struct frame *f)
{
    /* One that is not taken is lost, as on any wire. */
    if (write(taps[f->to], f->data, f->n) < 0 && errno != EAGAIN &&
        errno != EIO && errno != ENOBUFS)
        die("write a frame");
}

/* When the frame has left, or INT64_MAX: the queue is full. */
static int64_t leaves_at(struct link *l, size_t n)
{
    int64_t now = now_ns();

    if (!l->rate)
        return now;
    if (l->free_at > now + QUEUE_NS)
        return INT64_MAX;
    if (l->free_at < now)
        l->free_at = now;
    l->free_at += (int64_t)n * 1000000000 / l->rate;
    return l->free_at;
}

static void carry(int from, struct frame *f)
{
    struct link *l = &links[from][f->to];

    if (l->loss && random_below(LOST_ALL) < l->loss)
        return;
    if (!l->delay_ns && !l->jitter_ns && !l->rate) {
        deliver(f);
    } else if (n_held < HELD_MAX) {
        f->due = leaves_at(l, f->n);
        if (f->due == INT64_MAX)
            return;
        f->due += l->delay_ns + (int64_t)random_below((uint64_t)l->jitter_ns);
        hold(f);
    }
}

static void receive(int port)
{
    unsigned char data[FRAME_MAX];

    for (int i = 0; i < 64; i++) {
        ssize_t n = read(taps[port], data, sizeof(data));
        struct frame f = {.data = data};

        if (n < 14)
            return;
        f.n = (size_t)n;
        for (f.to = 0; f.to < n_ports; f.to++)
            if (f.to != port && (data[0] & 1 || data[5] == f.to + 1))
                carry(port, &f);
    }
}

/* Milliseconds to the next; -1: none. */
static int deliver_due(void)
{
    int64_t now = now_ns();

    while (n_held && held[0].due <= now) {
        struct frame f = take_first();

        deliver(&f);
        free(f.data);
    }
    return n_held ? (int)((held[0].due - now) / 1000000) + 1 : -1;
}

/* --- Commands. ------------------------------------------------------------ */

static void obey(const char *line)
{
    long delay, jitter, rate;
    unsigned loss;
    int a, b;

    if (strcmp(line, "heal") == 0) {
        memset(links, 0, sizeof(links));
    } else if (sscanf(line, "link %d %d %ld %ld %u", &a, &b, &delay, &jitter,
                      &loss) == 5 &&
               a >= 0 && a < n_ports && b >= 0 && b < n_ports) {
        links[a][b].delay_ns = delay * 1000;
        links[a][b].jitter_ns = jitter * 1000;
        links[a][b].loss = loss;
    } else if (sscanf(line, "rate %d %d %ld", &a, &b, &rate) == 3 && a >= 0 &&
               a < n_ports && b >= 0 && b < n_ports) {
        links[a][b].rate = rate;
    } else {
        fprintf(stderr, "wire: what is \"%s\"?\n", line);
        exit(1);
    }
}

static void read_commands(void)
{
    static char text[65536];
    static size_t have;
    char *end;
    ssize_t n = read(0, text + have, sizeof(text) - 1 - have);

    if (n <= 0)
        exit(0); /* our parent is gone */
    have += (size_t)n;
    text[have] = '\0';
    while ((end = strchr(text, '\n'))) {
        *end = '\0';
        obey(text);
        have -= (size_t)(end + 1 - text);
        memmove(text, end + 1, have + 1);
    }
}

int main(int argc, char **argv)
{
    struct pollfd p[PORTS_MAX + 1] = {{.fd = 0, .events = POLLIN}};
    int wait = -1;

    n_ports = argc == 3 ? atoi(argv[1]) : 0;
    if (n_ports < 1 || n_ports > PORTS_MAX) {
        fprintf(stderr, "usage: see the head of wire.c\n");
        return 2;
    }
    seed = strtoull(argv[2], NULL, 10) * 2 + 1;
    printf("%d", getpid());
    for (int i = 0; i < n_ports; i++) {
        printf(" %d", make_port(i));
        p[i + 1] = (struct pollfd){.fd = taps[i], .events = POLLIN};
    }
    printf("\n");
    fflush(stdout);
    for (;;) {
        if (poll(p, (nfds_t)n_ports + 1, wait) < 0 && errno != EINTR)
            die("poll");
        if (p[0].revents)
            read_commands();
        for (int i = 0; i < n_ports; i++)
            if (p[i + 1].revents)
                receive(i);
        wait = deliver_due();
    }
}
