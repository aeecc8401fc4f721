/*
 * tlsrecord_fuzz.c - records of each suite between two ends that are open. The
 * input: what tlsfuzz.h's choice is, then steps: what the sender seals, what
 * happens to it on the wire, in which pieces it arrives.
 *
 * Whatever the wire does, what is received is a beginning of what was sent.
 */
#include "tlsfuzz.h"

#define WIRE_MAX 100000 /* bytes that are sent again */

struct ends {
    struct tls *sender, *receiver;
    struct buf wire, sent, got;
    size_t last; /* where the last record on the wire begins */
    bool honest; /* nothing was touched */
};

static void change_nothing(struct fuzz_tls *f, unsigned type, struct str data,
                           struct buf *out)
{
    (void)f;
    fuzz_plain(out, type, data);
}

/* An end that is open, of which a copy is cheap: two of them for each choice of
 * version and suites. */
static const struct tls *model(unsigned choice, bool receiver)
{
    static struct tls *models[N_CONFIGS][2];
    struct tls **m = models[choice];
    struct fuzz_tls f = {.change = change_nothing};

    if (!m[0]) {
        fuzz_tls_begin(&f, choice, TLS_SERVER);
        for (int i = 0; i < ROUNDS_MAX; i++) {
            fuzz_to_victim(&f);
            fuzz_from_victim(&f);
        }
        FUZZ_CHECK(f.victim->state == TLS_OPEN && f.peer->state == TLS_OPEN);
        m[0] = f.peer;
        m[1] = f.victim;
        buf_release(&f.said);
        buf_release(&f.heard);
    }
    return m[receiver];
}

static struct tls *copy_of(const struct tls *t)
{
    struct tls *copy = xcalloc(1, sizeof(*copy));

    FUZZ_CHECK(!t->hs && t->message.len == 0 && !tls_wants_write(t));
    *copy = *t;
    tls_config_ref(t->config);
    copy->peer = (struct x509_certs){0};
    copy->message = copy->output = copy->sending = (struct buf){0};
    copy->sent = 0;
    copy->name = t->name ? xstrdup(t->name) : NULL;
    copy->alpn = t->alpn ? xstrdup(t->alpn) : NULL;
    return copy;
}

static void emit(struct ends *e)
{
    struct str s = tls_output(e->sender);

    if (s.n == 0)
        return;
    e->last = e->wire.len;
    buf_addstr(&e->wire, s);
    tls_sent(e->sender, s.n);
}

/* Under keys, any type; in TLS 1.3 that of 0 is but padding. */
static void seal(struct ends *e, unsigned type, struct str s)
{
    struct str inner = s;

    if (e->sender->out_closed)
        return;
    tls_seal(e->sender, (enum record_type)type, &s, 1);
    e->honest &= type == RECORD_DATA && s.n > 0;
    if (e->sender->version == TLS_1_3 && type == 0) {
        while (inner.n > 0 && inner.p[inner.n - 1] == 0)
            inner.n--;
        if (inner.n > 0)
            type = (uint8_t)inner.p[--inner.n];
    }
    if (type == RECORD_DATA)
        buf_addstr(&e->sent, inner);
}

static void write_data(struct ends *e, struct str s)
{
    struct iovec iov = {(char *)s.p, s.n};

    if (tls_write(e->sender, &iov, 1) == s.n)
        buf_addstr(&e->sent, s);
}

/* At most n bytes more than before, as a reader's buffer has them. */
static void deliver(struct ends *e, size_t n)
{
    struct buf copy = {0};
    struct str data;
    size_t at = 0;
    ssize_t rc = 0;

    n = min_u64(n, e->wire.len);
    if (n == 0)
        return;
    buf_add(&copy, e->wire.data, n);
    do {
        rc = tls_receive(e->receiver, copy.data + at, n - at, &data);
        FUZZ_CHECK(rc <= (ssize_t)(n - at));
        if (rc > 0)
            buf_addstr(&e->got, data);
        at += rc > 0 ? (size_t)rc : 0;
    } while (rc > 0 && at < n);
    buf_release(&copy);
    buf_consume(&e->wire, at);
    e->last = e->last > at ? e->last - at : 0;
    fuzz_check(e->receiver);
    FUZZ_CHECK(
        e->got.len <= e->sent.len &&
        (e->got.len == 0 || !memcmp(e->got.data, e->sent.data, e->got.len)));
}

enum {
    DELIVER,
    DATA,
    SEAL,
    KEYS,
    CLOSE,
    RAW,
    FLIP,
    CUT,
    TWICE,
    N_STEPS,
};

static void touch(struct ends *e, unsigned what, struct fuzz_in *in)
{
    size_t at = fuzz_u8(in);
    struct buf last = {0};

    at = at | (size_t)fuzz_u8(in) << 8;
    if (what == RAW)
        buf_addstr(&e->wire, fuzz_bytes(in, at));
    if (e->wire.len == 0)
        return;
    e->honest = false;
    at %= e->wire.len;
    if (what == FLIP)
        e->wire.data[at] ^= fuzz_u8(in);
    if (what == CUT)
        e->wire.len = at;
    if (what == TWICE && e->wire.len < WIRE_MAX) {
        buf_add(&last, e->wire.data + e->last, e->wire.len - e->last);
        e->last = e->wire.len;
        buf_addstr(&e->wire, buf_str(&last));
        buf_release(&last);
    }
    e->last = min_u64(e->last, e->wire.len);
}

static void step(struct ends *e, struct fuzz_in *in)
{
    unsigned what = fuzz_u8(in) % N_STEPS;
    size_t n = what < CLOSE ? fuzz_u8(in) : 0;

    if (what == DELIVER)
        deliver(e, n << 8 | fuzz_u8(in));
    else if (what == DATA)
        write_data(e, fuzz_bytes(in, n));
    else if (what == SEAL)
        seal(e, (unsigned)n, fuzz_bytes(in, fuzz_u8(in)));
    else if (what == KEYS)
        tls_update_keys(e->sender, n & 1);
    else if (what == CLOSE)
        tls_close(e->sender);
    else
        touch(e, what, in);
    emit(e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    unsigned choice = fuzz_choice(&in);
    unsigned models = choice & (FUZZ_12 | FUZZ_SUITE | FUZZ_KEY);
    bool by_client = choice & FUZZ_CLIENT;
    struct ends e = {.sender = copy_of(model(models, !by_client)),
                     .receiver = copy_of(model(models, by_client)),
                     .honest = true};

    while (fuzz_more(&in))
        step(&e, &in);
    deliver(&e, e.wire.len);
    FUZZ_CHECK(!e.honest || e.receiver->useless > TLS_USELESS_MAX ||
               (e.receiver->state != TLS_FAILED && e.got.len == e.sent.len));
    tls_free(e.sender);
    tls_free(e.receiver);
    buf_release(&e.wire);
    buf_release(&e.sent);
    buf_release(&e.got);
    return 0;
}
