/*
 * dns_fuzz.c - answers of name servers: whatever they say, a name that comes
 * out of it can be asked for.
 */
#include "dns.h"
#include "fuzz.h"

#define MSG_MAX 4096

static void check_name(const char *name)
{
    struct buf b = {0};
    char back[256];
    size_t n = strlen(name);

    FUZZ_CHECK(n < 256);
    for (size_t i = 0; i < n; i++)
        FUZZ_CHECK((unsigned char)name[i] >= ' ' && name[i] != 127);
    if (n > 0 && dns_encode_query(&b, 1, name, DNS_SRV) == 0) {
        FUZZ_CHECK(dns_name(b.data, b.len, 12, back) == 0);
        FUZZ_CHECK(strcmp(name, back) == 0);
    }
    buf_release(&b);
}

static void take_answer(void *arg, enum dns_type type, const uint8_t *rdata,
                        size_t n, const uint8_t *msg, size_t n_msg)
{
    char *name = arg;

    FUZZ_CHECK(rdata >= msg && rdata + n <= msg + n_msg);
    if (type == DNS_SRV && n > 6 &&
        dns_name(msg, n_msg, (size_t)(rdata - msg) + 6, name) == 0)
        check_name(name);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint16_t id = 0x4242;
    uint8_t copy[MSG_MAX];
    char name[256] = "";
    int code;

    if (size < 2 || size > sizeof(copy))
        return 0;
    memcpy(copy, data, size);
    copy[0] = copy[1] = 0x42; /* the id must match to get any further */
    code = dns_decode_answer(copy, size, id, take_answer, name);
    FUZZ_CHECK(code == DNS_EIO || (code >= 0 && code <= DNS_CUT));
    for (size_t at = 0; at < size; at += 1 + size / 16)
        if (dns_name(copy, size, at, name) == 0)
            check_name(name);
    copy[0] ^= 1;
    FUZZ_CHECK(dns_decode_answer(copy, size, id, take_answer, name) < 0);
    return 0;
}
