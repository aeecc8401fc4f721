/*
 * dns.h - names to addresses and SRV records, by hand (RFC 1035, RFC 2782):
 * numeric addresses, "localhost", the hosts file, then the servers of
 * resolv.conf by UDP, and by TCP where an answer was cut. libc's resolver
 * loads plug-ins at run time, which a static binary cannot count on.
 */
#ifndef DNS_H
#define DNS_H

#include "buf.h"

#include <sys/socket.h>

enum { DNS_ENONE = -1, DNS_EIO = -2, DNS_ETIMEOUT = -3 };

#define DNS_ADDRS_MAX 16

struct dns_addr {
    struct sockaddr_storage ss;
    socklen_t len;
};

/*
 * 0 and addresses in the order to try (IPv4 first), or DNS_E* and e in Go's
 * words: "lookup nohost: no such host", or "lookup nohost on 10.0.0.1:53: no
 * such host" once a server was asked. Thread-safe.
 */
int dns_lookup(const char *host, uint16_t port, int64_t deadline_ns,
               struct dns_addr out[DNS_ADDRS_MAX], size_t *n, struct err *e);

struct dns_srv {
    uint16_t priority, weight, port;
    char target[256]; /* without the final dot */
};

#define DNS_SRV_MAX 64

/* name as in "_etcd-server._tcp.example.com". Sorted by priority, then by
 * falling weight. */
int dns_lookup_srv(const char *name, int64_t deadline_ns,
                   struct dns_srv out[DNS_SRV_MAX], size_t *n, struct err *e);

#define DNS_NAME_SIZE 256
#define DNS_NAMES_MAX 8

/* The names of a numeric address, without final dots: those in the hosts file,
 * else its PTR records. 0 or DNS_E* and e. */
int dns_lookup_addr(const char *ip, int64_t deadline_ns,
                    char out[DNS_NAMES_MAX][DNS_NAME_SIZE], size_t *n,
                    struct err *e);

/* For tests: other files than /etc/hosts and /etc/resolv.conf. Borrows; NULL
 * leaves one as it is. Call before other threads look up. */
void dns_set_files(const char *hosts, const char *resolv_conf);

/* --- Codec: pure. ------------------------------------------------------- */

enum dns_type {
    DNS_A = 1,
    DNS_CNAME = 5,
    DNS_PTR = 12,
    DNS_AAAA = 28,
    DNS_SRV = 33
};

/* 0 or DNS_EIO (a name that is too long). */
int dns_encode_query(struct buf *b, uint16_t id, const char *name,
                     enum dns_type type);

typedef void dns_answer(void *arg, enum dns_type type, const uint8_t *rdata,
                        size_t n, const uint8_t *msg, size_t n_msg);
enum { DNS_OK = 0, DNS_SERVFAIL = 2, DNS_NXDOMAIN = 3, DNS_CUT = 256 };

/* Calls fn for each answer record of class IN. The response code (0, 3 for no
 * such name), 256 if the answer was cut, or DNS_EIO on bad bytes, when fn may
 * have been called already. */
int dns_decode_answer(const uint8_t *msg, size_t n, uint16_t id, dns_answer *fn,
                      void *arg);
/* Expand a possibly compressed name at msg+off, without a final dot; 0 or
 * DNS_EIO. A label with a dot or a control character in it is refused. */
int dns_name(const uint8_t *msg, size_t n, size_t off, char out[256]);

#endif
