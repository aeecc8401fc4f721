/*
 * grpc.c - gRPC's messages, codes and header fields: see grpc.h. Where the
 * documents leave room, what Go's library does decides.
 */
#include "grpc.h"

#include "crypto.h"

#include <stdio.h>

/* --- Status codes. --------------------------------------------------------- */

static const char *const names[GRPC_STATUS_N] = {"OK",
                                                 "Canceled",
                                                 "Unknown",
                                                 "InvalidArgument",
                                                 "DeadlineExceeded",
                                                 "NotFound",
                                                 "AlreadyExists",
                                                 "PermissionDenied",
                                                 "ResourceExhausted",
                                                 "FailedPrecondition",
                                                 "Aborted",
                                                 "OutOfRange",
                                                 "Unimplemented",
                                                 "Internal",
                                                 "Unavailable",
                                                 "DataLoss",
                                                 "Unauthenticated"};

const char *grpc_status_name(int status)
{
    return status >= 0 && status < GRPC_STATUS_N ? names[status] : NULL;
}

enum grpc_status grpc_status_of_http(int http)
{
    switch (http) {
    case 400:
        return GRPC_INTERNAL;
    case 401:
        return GRPC_UNAUTHENTICATED;
    case 403:
        return GRPC_PERMISSION_DENIED;
    case 404:
        return GRPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return GRPC_UNAVAILABLE;
    default:
        return GRPC_UNKNOWN;
    }
}

enum grpc_status grpc_status_of_h2(uint32_t code)
{
    switch (code) {
    case 0x3: /* FLOW_CONTROL_ERROR */
    case 0xb: /* ENHANCE_YOUR_CALM */
        return GRPC_RESOURCE_EXHAUSTED;
    case 0x7: /* REFUSED_STREAM */
        return GRPC_UNAVAILABLE;
    case 0x8: /* CANCEL */
        return GRPC_CANCELLED;
    case 0xc: /* INADEQUATE_SECURITY */
        return GRPC_PERMISSION_DENIED;
    default:
        return GRPC_INTERNAL;
    }
}

int grpc_parse_status(struct str s)
{
    uint64_t n;

    return str_to_u64(s, &n) && n <= INT32_MAX ? (int)n : GRPC_UNKNOWN;
}

bool grpc_content_type(struct str s)
{
    static const char base[] = "application/grpc";
    size_t n = sizeof(base) - 1;

    if (s.n < n || strncasecmp(s.p, base, n) != 0)
        return false;
    return s.n == n || s.p[n] == '+' || s.p[n] == ';';
}

/* --- Messages. --------------------------------------------------------------- */

void grpc_put_prefix(uint8_t out[GRPC_PREFIX], uint32_t n, bool compressed)
{
    out[0] = compressed;
    out[1] = (uint8_t)(n >> 24);
    out[2] = (uint8_t)(n >> 16);
    out[3] = (uint8_t)(n >> 8);
    out[4] = (uint8_t)n;
}

/* 1 once the prefix is there; 0 for more; or a code. */
static int read_prefix(struct grpc_reader *r, const uint8_t **p, size_t *n)
{
    size_t take = (size_t)min_u64(GRPC_PREFIX - r->have, *n);

    if (take)
        memcpy(r->prefix + r->have, *p, take);
    r->have += take;
    *p += take;
    *n -= take;
    if (r->have < GRPC_PREFIX)
        return 0;
    r->n = (uint32_t)r->prefix[1] << 24 | (uint32_t)r->prefix[2] << 16 |
           (uint32_t)r->prefix[3] << 8 | r->prefix[4];
    if (r->prefix[0] > 1)
        return GRPC_EINVAL;
    return r->n > r->n_max ? GRPC_ELARGE : 1;
}

/* What was given out is done with. A large buffer is not kept for what may
 * never come; the next message may be small. */
static void take_back(struct grpc_reader *r)
{
    if (!r->given)
        return;
    buf_trim(&r->buf, 4096);
    buf_clear(&r->buf);
    r->given = false;
}

int grpc_read(struct grpc_reader *r, const uint8_t **p, size_t *n,
              struct grpc_message *out)
{
    size_t take;

    take_back(r);
    if (r->have < GRPC_PREFIX) {
        int rc = read_prefix(r, p, n);

        if (rc <= 0)
            return rc;
    }
    take = (size_t)min_u64(r->n - r->buf.len, *n);
    if (r->buf.len + take < r->n) {
        buf_add(&r->buf, *p, take);
        *p += take;
        *n -= take;
        return 0;
    }
    if (r->buf.len) {
        buf_add(&r->buf, *p, take);
        out->bytes = buf_str(&r->buf);
        r->given = true;
    } else {
        out->bytes = take ? (struct str){(const char *)*p, take} : STR("");
    }
    out->compressed = r->prefix[0];
    *p += take;
    *n -= take;
    r->have = 0;
    return 1;
}

bool grpc_reader_idle(const struct grpc_reader *r)
{
    return r->have == 0;
}

void grpc_reader_release(struct grpc_reader *r)
{
    buf_release(&r->buf);
}

/* --- Timeouts. ------------------------------------------------------------------ */

#define TIMEOUT_DIGITS_MAX 99999999

static const struct {
    char unit;
    int64_t ns;
} units[] = {
    {'n', 1},
    {'u', 1000},
    {'m', 1000000},
    {'S', 1000000000},
    {'M', INT64_C(60) * 1000000000},
    {'H', INT64_C(3600) * 1000000000},
};

bool grpc_parse_timeout(struct str s, int64_t *ns)
{
    uint64_t v;

    if (s.n < 2 || s.n > 9 || !str_to_u64((struct str){s.p, s.n - 1}, &v))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (units[i].unit != s.p[s.n - 1])
            continue;
        *ns = v > (uint64_t)(INT64_MAX / units[i].ns)
                  ? INT64_MAX
                  : (int64_t)v * units[i].ns;
        return true;
    }
    return false;
}

size_t grpc_format_timeout(char out[GRPC_TIMEOUT_MAX], int64_t ns)
{
    size_t i = 0;
    int64_t v = ns > 0 ? ns : 0;

    while (v > TIMEOUT_DIGITS_MAX && i + 1 < ARRAY_LEN(units)) {
        i++;
        v = ns / units[i].ns + (ns % units[i].ns != 0);
    }
    return (size_t)snprintf(out, GRPC_TIMEOUT_MAX, "%u%c", (unsigned)v,
                            units[i].unit);
}

/* --- Text and bytes. -------------------------------------------------------------- */

void grpc_encode_message(struct buf *out, struct str s)
{
    static const char digits[] = "0123456789ABCDEF";

    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = (uint8_t)s.p[i];
        bool edge = c == ' ' && (i == 0 || i == s.n - 1);

        if (c >= ' ' && c <= '~' && c != '%' && !edge) {
            buf_addc(out, (char)c);
            continue;
        }
        buf_addc(out, '%');
        buf_addc(out, digits[c >> 4]);
        buf_addc(out, digits[c & 15]);
    }
}

void grpc_decode_message(struct buf *out, struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        bool room = s.p[i] == '%' && s.n - i > 2;
        int high = room ? hex_digit(s.p[i + 1]) : -1;
        int low = room ? hex_digit(s.p[i + 2]) : -1;

        if (high < 0 || low < 0) {
            buf_addc(out, s.p[i]);
            continue;
        }
        buf_addc(out, (char)(high << 4 | low));
        i += 2;
    }
}

bool grpc_is_binary(struct str name)
{
    return name.n >= 4 && memcmp(name.p + name.n - 4, "-bin", 4) == 0;
}

/* Without the padding, as Go sends it. */
void grpc_encode_binary(struct buf *out, const void *p, size_t n)
{
    base64_encode(out, p, n);
    out->len -= (3 - n % 3) % 3;
}

int grpc_decode_binary(struct buf *out, struct str s)
{
    struct buf padded = {0};
    int rc;

    if (s.n % 4 == 0)
        return base64_decode(out, s);
    buf_addstr(&padded, s);
    while (padded.len % 4)
        buf_addc(&padded, '=');
    rc = base64_decode(out, buf_str(&padded));
    buf_release(&padded);
    return rc;
}
