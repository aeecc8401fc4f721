/*
 * tlswire_test.c - each byte of a handshake's transcript, in both versions and
 * for both roles: what comes in two pieces is understood, and whoever gets less
 * than all waits; where a byte is missing or changed, nobody opens who heard
 * it. A sample of the bytes; with --long, all of them, and each bit.
 */
#include "tlsends.h"

#define FLIGHTS_MAX 6
#define SAMPLE 29

static size_t step_size = SAMPLE;

struct wire { /* an honest handshake: equal in all its runs */
    struct tls_config *s, *c;
    struct buf flights[FLIGHTS_MAX]; /* the client's are the even ones */
    size_t n;
};

static struct ends begin(const struct wire *w)
{
    struct ends e = {0};

    test_random_calls = 0;
    e.s = tls_new(w->s, TLS_SERVER, NULL, NOW);
    e.c = tls_new(w->c, TLS_CLIENT, "example.com", NOW);
    return e;
}

/* What the flight's sender has to say is put on this wire. */
static struct buf *flight_begin(struct ends *e, size_t flight)
{
    struct buf *wire = flight % 2 ? &e->to_c : &e->to_s;

    emit(flight % 2 ? e->s : e->c, wire);
    return wire;
}

static struct tls *receiver_of(const struct ends *e, size_t flight)
{
    return flight % 2 ? e->c : e->s;
}

static void flight_end(struct ends *e, size_t flight)
{
    if (flight % 2)
        deliver(e->c, &e->to_c, &e->got_c, 0);
    else
        deliver(e->s, &e->to_s, &e->got_s, 0);
}

static struct wire record(const struct setup *u)
{
    struct ends e = ends_new(u);
    struct wire w = {.s = tls_config_ref(e.s->config),
                     .c = tls_config_ref(e.c->config)};

    ends_release(&e);
    e = begin(&w);
    while (tls_wants_write(e.c) || tls_wants_write(e.s)) {
        struct buf *b = flight_begin(&e, w.n);

        CHECK(w.n < FLIGHTS_MAX && b->len > 0);
        buf_addstr(&w.flights[w.n], buf_str(b));
        flight_end(&e, w.n++);
    }
    CHECK(tls_state(e.s) == TLS_OPEN && tls_state(e.c) == TLS_OPEN);
    CHECK(tls_peer(e.s)->n == (u->client ? 1 : 0));
    ends_release(&e);
    return w;
}

static void wire_release(struct wire *w)
{
    for (size_t i = 0; i < w->n; i++)
        buf_release(&w->flights[i]);
    tls_config_unref(w->s);
    tls_config_unref(w->c);
}

/* Up to this flight all is well; it is on the wire. */
static struct buf *begin_at(struct ends *e, const struct wire *w, size_t flight)
{
    struct buf *b;

    *e = begin(w);
    for (size_t i = 0; i < flight; i++) {
        flight_begin(e, i);
        flight_end(e, i);
    }
    b = flight_begin(e, flight);
    if (!str_eq(buf_str(b), buf_str(&w->flights[flight])))
        CHECK(!"the same again");
    return b;
}

/* Only what stands before this byte comes; the rest much later. */
static void check_cut(const struct wire *w, size_t flight, size_t at)
{
    struct ends e;
    struct buf *b = begin_at(&e, w, flight), rest = {0};

    buf_add(&rest, b->data + at, b->len - at);
    b->len = at;
    flight_end(&e, flight);
    CHECK(tls_state(receiver_of(&e, flight)) == TLS_HANDSHAKE);
    CHECK(!tls_wants_write(receiver_of(&e, flight)) || flight == 1);
    buf_addstr(b, buf_str(&rest));
    flight_end(&e, flight);
    run(&e);
    CHECK(tls_state(e.s) == TLS_OPEN && tls_state(e.c) == TLS_OPEN);
    buf_release(&rest);
    ends_release(&e);
}

static void check_refused(struct ends *e, const struct wire *w, size_t flight,
                          size_t at, const char *what)
{
    enum tls_state state;

    flight_end(e, flight);
    run(e);
    state = tls_state(receiver_of(e, flight));
    if (state != TLS_HANDSHAKE && state != TLS_FAILED) {
        fprintf(stderr, "version %x, flight %zu, byte %zu of %zu: %s\n",
                tls_version(e->c), flight, at, w->flights[flight].len, what);
        CHECK(!"refused");
    }
    CHECK(e->got_s.len == 0 && e->got_c.len == 0);
}

static void check_missing(const struct wire *w, size_t flight, size_t at)
{
    struct ends e;
    struct buf *b = begin_at(&e, w, flight);

    b->len--;
    memmove(b->data + at, b->data + at + 1, b->len - at);
    check_refused(&e, w, flight, at, "missing");
    ends_release(&e);
}

/* The minor version of the first record each way, which means nothing (RFC
 * 8446, 5.1). */
static bool is_ignored(size_t flight, size_t at)
{
    return flight <= 1 && at == 2;
}

static void check_changed(const struct wire *w, size_t flight, size_t at,
                          unsigned mask)
{
    struct ends e;
    struct buf *b = begin_at(&e, w, flight);

    b->data[at] ^= (uint8_t)mask;
    if (is_ignored(flight, at)) {
        flight_end(&e, flight);
        run(&e);
        CHECK(tls_state(e.s) == TLS_OPEN && tls_state(e.c) == TLS_OPEN);
    } else {
        check_refused(&e, w, flight, at, "changed");
    }
    ends_release(&e);
}

static void check_byte(const struct wire *w, size_t flight, size_t at)
{
    check_cut(w, flight, at);
    check_missing(w, flight, at);
    if (step_size > 1) {
        check_changed(w, flight, at, 1U << at % 8);
        return;
    }
    for (unsigned mask = 1; mask < 256; mask <<= 1)
        check_changed(w, flight, at, mask);
    check_changed(w, flight, at, 0xff);
}

/* The first bytes, and every so many of the rest. */
static void check_wire(const struct setup *u, size_t n_flights)
{
    struct wire w = record(u);

    CHECK(w.n == n_flights);
    for (size_t i = 0; i < w.n; i++)
        for (size_t at = 0; at < w.flights[i].len;
             at += at < RECORD_HEAD ? 1 : step_size)
            check_byte(&w, i, at);
    wire_release(&w);
}

static void test_version(uint16_t version, size_t n_flights)
{
    static const enum key keys[] = {P256, RSA, ED25519};

    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        struct setup u = {.server = keys[i], .client = i ? NO_KEY : P256};

        only_version(&u, version);
        u.s.client_auth = i ? TLS_AUTH_NONE : TLS_AUTH_REQUIRE;
        check_wire(&u, n_flights);
    }
}

/* A client that is asked for a certificate, but has none. */
static void test_none(uint16_t version, size_t n_flights)
{
    struct setup u = {0};

    only_version(&u, version);
    u.s.client_auth = TLS_AUTH_REQUEST;
    check_wire(&u, n_flights);
}

static void test_retry(void)
{
    static const enum tls_group p384 = TLS_P384;
    struct setup u = {.client = P256};

    u.s.client_auth = TLS_AUTH_REQUIRE;
    u.s.groups = &p384;
    u.s.n_groups = 1;
    check_wire(&u, 5);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--long") == 0)
        step_size = 1;
    test_version(TLS_1_2, 4);
    test_version(TLS_1_3, 3);
    test_none(TLS_1_2, 4);
    test_none(TLS_1_3, 3);
    test_retry();
    return check_done("tlswire");
}
