/*
 * tls_test.c - the TLS engine against itself, in memory: all that two of it can
 * agree on, and all that they must refuse. Where a peer has to misbehave under
 * the protection of its keys, the test uses the engine's inside. What becomes
 * of each byte on the wire is tlswire_test.c's.
 */
#include "tlsends.h"

#include "hex.h"

/* --- Data between the ends. ------------------------------------------------ */

static void say(struct tls *t, const char *text)
{
    struct iovec iov = {(char *)text, strlen(text)};

    CHECK(tls_write(t, &iov, 1) == iov.iov_len);
}

static bool both_open(const struct ends *e)
{
    if (tls_state(e->s) == TLS_OPEN && tls_state(e->c) == TLS_OPEN)
        return true;
    fprintf(stderr, "server: %s; client: %s\n", tls_error(e->s),
            tls_error(e->c));
    return false;
}

/* Data both ways, over new keys too, and an orderly end. */
static void check_talk(struct ends *e)
{
    CHECK(both_open(e));
    for (int i = 0; i < 3; i++) {
        buf_clear(&e->got_s);
        buf_clear(&e->got_c);
        say(e->c, "ping");
        say(e->s, "pong");
        run(e);
        CHECK(str_eqz(buf_str(&e->got_s), "ping"));
        CHECK(str_eqz(buf_str(&e->got_c), "pong"));
        tls_update_keys(i ? e->s : e->c, i == 1);
    }
    tls_close(e->c);
    run(e);
    CHECK(tls_state(e->s) == TLS_CLOSED && tls_state(e->c) == TLS_OPEN);
    tls_close(e->s);
    run(e);
    CHECK(tls_state(e->c) == TLS_CLOSED);
}

/* --- What two ends can agree on. ------------------------------------------ */

static void check_suite(uint16_t number, enum key key, size_t chunk)
{
    const struct tls_suite *suite = tls_suite_of(number);
    struct setup u = {.server = key};
    struct ends e;

    u.c.suites = &number;
    u.c.n_suites = 1;
    only_version(&u, suite->version);
    e = ends_new(&u);
    e.chunk = chunk;
    if (suite->version == TLS_1_3) { /* where options do not choose */
        e.s->config->suites[0] = suite;
        e.s->config->n_suites = 1;
    }
    run(&e);
    CHECK(tls_suite(e.s) == number && tls_suite(e.c) == number);
    CHECK(tls_version(e.s) == suite->version);
    CHECK(tls_peer(e.c)->n == 1 && tls_peer(e.s)->n == 0);
    check_talk(&e);
    ends_release(&e);
}

static void test_suites(void)
{
    for (enum key k = RSA; k <= ED25519; k++)
        for (size_t i = 0; tls_suite_at(i); i++) {
            uint16_t number = tls_suite_at(i);
            const struct tls_suite *s = tls_suite_of(number);

            if (s->version == TLS_1_3 || s->ecdsa == (k != RSA))
                check_suite(number, k, 0);
        }
    check_suite(0x1301, P256, 1);
    check_suite(0x1303, RSA, 7);
    check_suite(0xc02b, P256, 1);
    check_suite(0xc030, RSA, 7);
}

static void test_suite_names(void)
{
    CHECK(tls_suite_number(STR("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256")) ==
          0xc02f);
    CHECK(tls_suite_number(STR("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305")) ==
          0xcca9);
    CHECK(tls_suite_number(STR("TLS_RSA_WITH_AES_128_CBC_SHA")) == 0);
    CHECK(tls_suite_is_left_out(STR("TLS_RSA_WITH_AES_128_CBC_SHA")));
    CHECK(!tls_suite_is_left_out(STR("TLS_RSA_WITH_NULL_SHA")));
    CHECK(!tls_suite_is_left_out(STR("TLS_AES_128_GCM_SHA256")));
    CHECK_STR(tls_suite_name(0x1302), "TLS_AES_256_GCM_SHA384");
    CHECK_STR(tls_suite_name(1), "");
}

static const uint16_t versions[] = {TLS_1_2, TLS_1_3};

static void test_client_certificates(void)
{
    for (size_t v = 0; v < ARRAY_LEN(versions); v++)
        for (enum key k = NO_KEY; k <= ED25519; k++) {
            struct setup u = {.client = k};
            struct ends e;

            only_version(&u, versions[v]);
            u.s.client_auth = k ? TLS_AUTH_REQUIRE : TLS_AUTH_REQUEST;
            e = ends_new(&u);
            run(&e);
            CHECK(tls_peer(e.s)->n == (k ? 1 : 0));
            if (k == P384)
                CHECK(str_eqz(tls_peer(e.s)->certs[0]->cn, "p384"));
            check_talk(&e);
            ends_release(&e);
        }
}

static void test_groups(void)
{
    static const enum tls_group groups[] = {TLS_X25519, TLS_P256, TLS_P384,
                                            TLS_P521};

    for (size_t v = 0; v < ARRAY_LEN(versions); v++)
        for (size_t i = 0; i < ARRAY_LEN(groups); i++)
            for (size_t j = 0; j < ARRAY_LEN(groups); j++) {
                enum tls_group first[] = {groups[j], groups[i]};
                struct setup u = {0};
                struct ends e;

                /* The client has a share of another group, unless i is j. */
                only_version(&u, versions[v]);
                u.c.groups = first;
                u.c.n_groups = i == j ? 1 : 2;
                u.s.groups = &groups[i];
                u.s.n_groups = 1;
                e = ends_new(&u);
                e.chunk = i == j ? 0 : 1;
                emit(e.c, &e.to_s);
                deliver(e.s, &e.to_s, &e.got_s, e.chunk);
                if (versions[v] == TLS_1_3)
                    CHECK(e.s->hs->retried == (i != j));
                run(&e);
                check_talk(&e);
                ends_release(&e);
            }
}

/* Both speak both versions: 1.3; else what is left. */
static void test_versions(void)
{
    for (int i = 0; i < 9; i++) {
        static const uint16_t min[] = {0, TLS_1_2, TLS_1_3};
        static const uint16_t max[] = {0, TLS_1_2, TLS_1_3};
        struct setup u = {0};
        struct ends e;
        bool none;

        u.c.version_min = min[i / 3];
        u.c.version_max = max[i / 3];
        u.s.version_min = min[i % 3];
        u.s.version_max = max[i % 3];
        none = i == 5 || i == 7; /* 1.2 only meets 1.3 only */
        e = ends_new(&u);
        run(&e);
        if (none) {
            CHECK_STR(tls_error(e.c),
                      "remote error: tls: protocol version not supported");
            CHECK(tls_alert(e.s) == ALERT_PROTOCOL_VERSION);
        } else {
            CHECK(tls_version(e.c) ==
                  (i / 3 == 1 || i % 3 == 1 ? TLS_1_2 : TLS_1_3));
            check_talk(&e);
        }
        ends_release(&e);
    }
}

static void test_unsupported_version_text(void)
{
    struct setup u = {0};
    struct ends e;

    u.s.version_min = TLS_1_3;
    u.c.version_max = TLS_1_2;
    e = ends_new(&u);
    run(&e);
    CHECK_STR(tls_error(e.s),
              "tls: client offered only unsupported versions: [303]");
    ends_release(&e);
}

static void test_alpn(void)
{
    static const char *const h2[] = {"h2"}, *const h1[] = {"http/1.1"};
    static const char *const both[] = {"h2", "http/1.1"};
    static const struct {
        const char *const *c;
        size_t n_c;
        const char *const *s;
        size_t n_s;
        const char *want; /* NULL: refused */
    } cases[] = {
        {NULL, 0, h2, 1, ""},         {h2, 1, NULL, 0, ""},
        {h2, 1, h2, 1, "h2"},         {both, 2, h2, 1, "h2"},
        {both, 2, h1, 1, "http/1.1"}, {h1, 1, h2, 1, ""},
        {h2, 1, h1, 1, NULL},         {h1, 1, both, 2, "http/1.1"},
    };

    for (size_t v = 0; v < ARRAY_LEN(versions); v++)
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
            struct setup u = {0};
            struct ends e;

            only_version(&u, versions[v]);
            u.c.alpn = cases[i].c;
            u.c.n_alpn = cases[i].n_c;
            u.s.alpn = cases[i].s;
            u.s.n_alpn = cases[i].n_s;
            e = ends_new(&u);
            run(&e);
            if (cases[i].want) {
                CHECK(str_eqz(tls_alpn(e.c), cases[i].want));
                CHECK(str_eqz(tls_alpn(e.s), cases[i].want));
                check_talk(&e);
            } else {
                CHECK_STR(tls_error(e.c),
                          "remote error: tls: no application protocol");
            }
            ends_release(&e);
        }
}

static void test_server_names(void)
{
    static const struct {
        const char *name, *sent;
    } cases[] = {
        {"EXAMPLE.com", "example.com"},
        {"127.0.0.1", ""},
        {"p256.example.com", "p256.example.com"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct setup u = {.name = cases[i].name};
        struct ends e = ends_new(&u);

        run(&e);
        CHECK(str_eqz(tls_server_name(e.s), cases[i].sent));
        CHECK(str_eqz(tls_server_name(e.c), cases[i].name));
        check_talk(&e);
        ends_release(&e);
    }
}

/* Of two certificates, the one for the name; else the first that will do. */
static void test_choice_of_pairs(void)
{
    static const uint16_t ecdsa = 0xc02b, rsa = 0xc02f;
    static const struct {
        const char *name;
        const uint16_t *suite; /* TLS 1.2 with this only */
        const char *cn;
    } cases[] = {
        {"p384.example.com", NULL, "p384"}, {"example.com", NULL, "rsa"},
        {"rsa.example.com", NULL, "rsa"},   {"example.com", &ecdsa, "p384"},
        {"example.com", &rsa, "rsa"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct setup u = {
            .server = RSA, .server2 = P384, .name = cases[i].name};
        struct ends e;

        if (cases[i].suite) {
            only_version(&u, TLS_1_2);
            u.c.suites = cases[i].suite;
            u.c.n_suites = 1;
        }
        e = ends_new(&u);
        run(&e);
        CHECK(both_open(&e) && tls_peer(e.c)->n == 1 &&
              str_eqz(tls_peer(e.c)->certs[0]->cn, cases[i].cn));
        ends_release(&e);
    }
}

/* --- Data. ---------------------------------------------------------------- */

static void test_big_data(void)
{
    for (size_t v = 0; v < ARRAY_LEN(versions); v++) {
        struct buf all = {0};
        struct iovec iov[200];
        struct setup u = {0};
        struct ends e;
        size_t at = 0;

        only_version(&u, versions[v]);
        e = ends_new(&u);
        run(&e);
        for (int i = 0; i < 300000; i++)
            buf_addc(&all, (char)(i * 7 + i / 251));
        for (size_t i = 0; i < 200; i++) /* many of 0..99, then big ones */
            iov[i] = (struct iovec){NULL, i % 100};
        iov[150].iov_len = 50000;
        iov[199].iov_len = 200000;
        for (size_t i = 0; i < 200; i++) {
            iov[i].iov_base = all.data + at;
            at += iov[i].iov_len;
        }
        for (int i = 0; i < 200;) {
            size_t n = tls_write(e.s, iov + i, 200 - i);

            CHECK(n > 0);
            CHECK(e.s->output.len < TLS_OUTPUT_MAX + RECORD_MAX + 64);
            for (; i < 200 && n >= iov[i].iov_len; i++)
                n -= iov[i].iov_len;
            if (i < 200) {
                iov[i].iov_base = (char *)iov[i].iov_base + n;
                iov[i].iov_len -= n;
            }
            run(&e);
        }
        CHECK(e.got_c.len == at && !memcmp(e.got_c.data, all.data, at));
        buf_release(&all);
        ends_release(&e);
    }
}

/* What is lent to the writer stays as it is while more is added. */
static void test_output_is_stable(void)
{
    struct setup u = {0};
    struct ends e = ends_new(&u);
    struct str first, second;
    struct buf copy = {0};

    run(&e);
    say(e.s, "first");
    first = tls_output(e.s);
    buf_addstr(&copy, first);
    for (int i = 0; i < 1000; i++)
        say(e.s, "more");
    CHECK(first.n == copy.len && !memcmp(first.p, copy.data, copy.len));
    second = tls_output(e.s);
    CHECK(second.p == first.p && second.n == first.n);
    tls_sent(e.s, 3);
    tls_trim(e.s);
    second = tls_output(e.s);
    CHECK(second.p == first.p + 3 && second.n == first.n - 3);
    buf_add(&e.to_c, copy.data, 3);
    run(&e);
    CHECK(e.got_c.len == 5 + 4000);
    tls_trim(e.s);
    CHECK(!e.s->output.data && !e.s->sending.data && !e.s->message.data);
    buf_release(&copy);
    ends_release(&e);
}

static void test_nothing_before_open_or_after_close(void)
{
    struct setup u = {0};
    struct ends e = ends_new(&u);
    struct iovec iov = {"x", 1};

    CHECK(tls_write(e.c, &iov, 1) == 0 && tls_write(e.s, &iov, 1) == 0);
    run(&e);
    tls_close(e.c);
    tls_close(e.c);
    CHECK(tls_write(e.c, &iov, 1) == 0);
    tls_update_keys(e.c, true);
    run(&e);
    CHECK(tls_state(e.s) == TLS_CLOSED);
    CHECK(tls_write(e.s, &iov, 1) == 1); /* the other direction is open */
    run(&e);
    CHECK(e.got_c.len == 1);
    ends_release(&e);
}

/* --- Refusals: configuration, certificates. ------------------------------- */

static void check_fails(const struct setup *u, const char *server,
                        const char *client)
{
    struct ends e = ends_new(u);

    run(&e);
    CHECK_STR(tls_error(e.s), server);
    CHECK_STR(tls_error(e.c), client);
    CHECK(!tls_wants_write(e.c) && !tls_wants_write(e.s));
    CHECK(e.s->hs == NULL || *server == 0);
    ends_release(&e);
}

static void test_bad_certificates(void)
{
    for (size_t v = 0; v < ARRAY_LEN(versions); v++) {
        struct setup u = {.no_roots = true};

        only_version(&u, versions[v]);
        check_fails(&u, "remote error: tls: bad certificate",
                    "tls: failed to verify certificate: x509: certificate "
                    "signed by unknown authority");
        u = (struct setup){.name = "other.com"};
        only_version(&u, versions[v]);
        check_fails(&u, "remote error: tls: bad certificate",
                    "tls: failed to verify certificate: x509: certificate is "
                    "valid for example.com, p256.example.com, not other.com");
        u = (struct setup){.client_now = NOW * 4ll};
        only_version(&u, versions[v]);
        check_fails(&u, "remote error: tls: bad certificate",
                    "tls: failed to verify certificate: x509: certificate has "
                    "expired or is not yet valid: current time "
                    "2198-02-27T08:00:00Z is after 2126-11-04T16:14:25Z");
    }
}

static void test_bad_client_certificates(void)
{
    for (size_t v = 0; v < ARRAY_LEN(versions); v++) {
        struct setup u = {0};

        only_version(&u, versions[v]);
        u.s.client_auth = TLS_AUTH_REQUIRE;
        check_fails(&u, "tls: client didn't provide a certificate",
                    versions[v] == TLS_1_3
                        ? "remote error: tls: certificate required"
                        : "remote error: tls: bad certificate");
        /* It is not of an authority that was asked for, so it is not shown. */
        u.client = STRANGE;
        check_fails(&u, "tls: client didn't provide a certificate",
                    versions[v] == TLS_1_3
                        ? "remote error: tls: certificate required"
                        : "remote error: tls: bad certificate");
        u.client = P384;
        u.server_now = NOW * 4ll;
        check_fails(&u,
                    "tls: failed to verify client certificate: x509: "
                    "certificate has expired or is not yet valid: current time "
                    "2198-02-27T08:00:00Z is after 2126-11-04T16:14:25Z",
                    "remote error: tls: bad certificate");
    }
}

static int verify_calls, verify_releases;

static int refuse_cn(void *arg, const struct x509_certs *chain, struct err *e)
{
    verify_calls++;
    if (!str_eqz(chain->certs[0]->cn, arg))
        return err_set(e, -1, "CN %.*s is not %s", STR_FMT(chain->certs[0]->cn),
                       (char *)arg);
    return 0;
}

static void count_release(void *arg)
{
    (void)arg;
    verify_releases++;
}

static void test_verify_hook(void)
{
    for (size_t v = 0; v < ARRAY_LEN(versions); v++) {
        struct setup u = {.client = P384};
        struct ends e;

        only_version(&u, versions[v]);
        u.s.client_auth = TLS_AUTH_REQUIRE;
        u.s.verify = refuse_cn;
        u.s.verify_release = count_release;
        u.s.verify_arg = "p384";
        e = ends_new(&u);
        run(&e);
        check_talk(&e);
        ends_release(&e);
        u.s.verify_arg = "someone";
        check_fails(&u, "CN p384 is not someone",
                    "remote error: tls: bad certificate");
    }
    CHECK(verify_calls == 4 && verify_releases == 4);
}

static void test_skip_verify(void)
{
    struct setup u = {.server = STRANGE, .no_roots = true, .name = "any"};
    struct ends e;

    u.c.skip_verify = true;
    e = ends_new(&u);
    run(&e);
    check_talk(&e);
    ends_release(&e);
    u.no_name = true;
    e = ends_new(&u);
    run(&e);
    check_talk(&e);
    ends_release(&e);
}

/* An empty name is none: else any certificate would be for it. */
static void test_no_name(void)
{
    struct setup without = {.no_name = true}, empty = {.name = ""};
    const struct setup *const all[] = {&without, &empty};
    struct ends e;

    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        e = ends_new(all[i]);
        CHECK_STR(tls_error(e.c), "tls: either ServerName or "
                                  "InsecureSkipVerify must be specified in "
                                  "the tls.Config");
        CHECK(!tls_wants_write(e.c));
        ends_release(&e);
    }
    empty.c.server_name = "example.com";
    e = ends_new(&empty);
    run(&e);
    check_talk(&e);
    ends_release(&e);
}

static void test_nothing_in_common(void)
{
    static const uint16_t a = 0xc02b, b = 0xc02c, rsa = 0xc02f;
    static const enum tls_group x = TLS_X25519, p = TLS_P384;
    struct setup u = {0};

    only_version(&u, TLS_1_2);
    u.c.n_suites = u.s.n_suites = 1;
    u.c.suites = &a;
    u.s.suites = &b;
    check_fails(&u, "tls: no cipher suite supported by both client and server",
                "remote error: tls: handshake failure");
    u.c.suites = u.s.suites = &rsa; /* but the key is ECDSA's */
    check_fails(&u,
                "tls: peer doesn't support any of the certificate's signature "
                "algorithms",
                "remote error: tls: handshake failure");
    for (size_t v = 0; v < ARRAY_LEN(versions); v++) {
        u = (struct setup){0};
        only_version(&u, versions[v]);
        u.c.n_groups = u.s.n_groups = 1;
        u.c.groups = &x;
        u.s.groups = &p;
        check_fails(&u,
                    "tls: no ECDHE curve supported by both client and server",
                    "remote error: tls: handshake failure");
    }
}

static void test_config_errors(void)
{
    static const uint16_t tls13 = 0x1301;
    struct tls_options o = {.version_max = TLS_1_2, .random = test_random};
    struct err e;

    o.suites = &tls13;
    o.n_suites = 1;
    CHECK(tls_config_new(&o, &e) == NULL && e.code == TLS_EFAILED);
    o = (struct tls_options){.version_min = TLS_1_3, .random = test_random};
    o.version_max = TLS_1_2;
    CHECK(tls_config_new(&o, &e) == NULL);
}

/* --- Refusals: the wire. -------------------------------------------------- */

static void feed(struct tls *t, const void *p, size_t n)
{
    struct buf wire = {0}, got = {0};

    buf_add(&wire, p, n);
    deliver(t, &wire, &got, 0);
    buf_release(&wire);
    buf_release(&got);
}

static void test_not_tls(void)
{
    static const struct {
        struct str bytes;
        const char *error;
    } cases[] = {
        {{"GET / HTTP/1.1\r\n", 16},
         "tls: first record does not look like a TLS handshake"},
        {{"\x80\x2e\x01\x03\x01", 5},
         "tls: unsupported SSLv2 handshake received"},
        {{"\x17\x03\x03\x00\x01z", 6},
         "tls: first record does not look like a TLS handshake"},
        {{"\x16\x03\x01\x41\x01", 5},
         "tls: oversized record received with length 16641"},
        {{"\x16\x03\x01\x00\x00", 5}, "local error: tls: unexpected message"},
        {{"\x16\x03\x01\x00\x04\x01\x01\x00\x01", 9},
         "tls: handshake message of length 65537 bytes exceeds maximum of "
         "65536 bytes"},
        {{"\x16\x03\x01\x00\x04\x01\x00\x00\x00", 9},
         "tls: malformed ClientHello"},
        {{"\x16\x03\x01\x00\x04\x02\x00\x00\x00", 9},
         "tls: received unexpected handshake message of type 2 when waiting "
         "for ClientHello"},
        {{"\x15\x03\x01\x00\x02\x02\x28", 7},
         "remote error: tls: handshake failure"},
        {{"\x15\x03\x01\x00\x02\x02\xdd", 7}, "remote error: tls: alert(221)"},
        {{"\x15\x03\x01\x00\x02\x03\x28", 7},
         "local error: tls: unexpected message"},
        {{"\x15\x03\x01\x00\x01\x02", 6},
         "local error: tls: unexpected message"},
        {{"\x15\x03\x01\x00\x02\x01\x00", 7}, "EOF"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct setup u = {0};
        struct ends e = ends_new(&u);

        feed(e.s, cases[i].bytes.p, cases[i].bytes.n);
        CHECK(tls_state(e.s) == TLS_FAILED);
        CHECK_STR(tls_error(e.s), cases[i].error);
        ends_release(&e);
    }
}

static void test_tampered_data(void)
{
    for (size_t v = 0; v < ARRAY_LEN(versions); v++)
        for (size_t at = 0; at < 30; at++) {
            struct setup u = {0};
            struct ends e;

            only_version(&u, versions[v]);
            e = ends_new(&u);
            run(&e);
            say(e.c, "data");
            emit(e.c, &e.to_s);
            if (at >= e.to_s.len || at == 3 || at == 4) {
                ends_release(&e);
                continue;
            }
            e.to_s.data[at] ^= 0x20;
            run(&e);
            CHECK(tls_state(e.s) == TLS_FAILED && e.got_s.len == 0);
            if (at > 4) {
                CHECK_STR(tls_error(e.s), "local error: tls: bad record MAC");
                CHECK_STR(tls_error(e.c), "remote error: tls: bad record MAC");
            }
            ends_release(&e);
        }
}

/* A record again, left out, or of the other direction. */
static void test_replay(void)
{
    for (int i = 0; i < 3; i++) {
        struct setup u = {0};
        struct ends e = ends_new(&u);
        struct buf one = {0};

        run(&e);
        say(i == 2 ? e.s : e.c, "one");
        emit(i == 2 ? e.s : e.c, &one);
        if (i == 0)
            feed(e.s, one.data, one.len);
        if (i == 1) {
            say(e.c, "two");
            buf_clear(&one);
            emit(e.c, &one);
        }
        CHECK(tls_state(e.s) == TLS_OPEN);
        feed(e.s, one.data, one.len);
        CHECK_STR(tls_error(e.s), "local error: tls: bad record MAC");
        buf_release(&one);
        ends_release(&e);
    }
}

/* Records of a handshake in TLS 1.2 cut to pieces of n bytes, or joined. */
static void reframe(struct buf *wire, size_t n)
{
    struct buf out = {0}, joined = {0};
    size_t at = 0;

    while (at + RECORD_HEAD <= wire->len && wire->data[at] == 22) {
        size_t len = (size_t)wire->data[at + 3] << 8 | wire->data[at + 4];

        buf_add(&joined, wire->data + at + RECORD_HEAD, len);
        at += RECORD_HEAD + len;
    }
    for (size_t i = 0; i < joined.len; i += n) {
        size_t part = min_u64(n, joined.len - i);
        uint8_t head[] = {22, 3, 3, (uint8_t)(part >> 8), (uint8_t)part};

        buf_add(&out, head, sizeof(head));
        buf_add(&out, joined.data + i, part);
    }
    buf_add(&out, wire->data + at, wire->len - at);
    buf_release(&joined);
    buf_release(wire);
    *wire = out;
}

static void test_reframed(void)
{
    static const size_t sizes[] = {1, 3, 100, 16384};

    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct setup u = {.server = RSA, .client = RSA};
        struct ends e;

        only_version(&u, TLS_1_2);
        u.s.client_auth = TLS_AUTH_REQUIRE;
        e = ends_new(&u);
        for (int j = 0; j < 3; j++) {
            emit(e.c, &e.to_s);
            reframe(&e.to_s, sizes[i]);
            deliver(e.s, &e.to_s, &e.got_s, 0);
            emit(e.s, &e.to_c);
            if (e.c->hs && !e.c->hs->ccs_expected)
                reframe(&e.to_c, sizes[i]);
            deliver(e.c, &e.to_c, &e.got_c, 0);
        }
        check_talk(&e);
        ends_release(&e);
    }
}

/* A message behind one that changes the keys, in the same record. */
static void test_message_across_keys(void)
{
    struct setup u = {0};
    struct ends e = ends_new(&u);

    emit(e.c, &e.to_s);
    buf_addc(&e.to_s, 0);
    CHECK(++e.to_s.data[4] != 0);
    run(&e);
    CHECK_STR(tls_error(e.s), "local error: tls: unexpected message");
    ends_release(&e);
}

/* One record without use. */
static void send_useless(struct tls *t, int kind)
{
    static const uint8_t warning[] = {1, 90}, ticket[] = {4, 0, 0, 0};
    static const uint8_t update[] = {24, 0, 0, 1, 1};

    if (kind == 0)
        tls_seal(t, RECORD_DATA, &STR(""), 1);
    if (kind == 1)
        tls_send(t, RECORD_ALERT, warning, sizeof(warning));
    if (kind == 2)
        tls_send(t, RECORD_HANDSHAKE, ticket, sizeof(ticket));
    if (kind == 3) {
        tls_send(t, RECORD_HANDSHAKE, update, sizeof(update));
        half_update13(&t->out, t->suite);
    }
}

static void test_floods(void)
{
    for (size_t v = 0; v < ARRAY_LEN(versions); v++)
        for (int kind = 0; kind < (versions[v] == TLS_1_2 ? 2 : 4); kind++) {
            struct setup u = {0};
            struct ends e;

            only_version(&u, versions[v]);
            e = ends_new(&u);
            run(&e);
            for (int i = 0; i < 2 * TLS_USELESS_MAX + 1; i++) {
                CHECK(tls_state(e.c) == TLS_OPEN);
                if (i == TLS_USELESS_MAX) /* the count begins anew */
                    say(e.s, "something");
                send_useless(e.s, kind);
                emit(e.s, &e.to_c);
                deliver(e.c, &e.to_c, &e.got_c, 0);
                CHECK(tls_state(e.c) != TLS_OPEN || !tls_wants_write(e.c));
            }
            CHECK_STR(tls_error(e.c), "tls: too many ignored records");
            CHECK(e.got_c.len == strlen("something"));
            ends_release(&e);
        }
}

/* Many CCS in the handshake of TLS 1.3; one that is not as it should be; one
 * after it. */
static void test_ccs13(void)
{
    for (int kind = 0; kind < 3; kind++) {
        struct setup u = {0};
        struct ends e = ends_new(&u);
        int i;

        emit(e.c, &e.to_s);
        deliver(e.s, &e.to_s, &e.got_s, 0);
        if (kind == 1) {
            feed(e.s, "\x14\x03\x03\x00\x01\x02", 6);
        } else if (kind == 2) {
            run(&e);
            feed(e.s, "\x14\x03\x03\x00\x01\x01", 6);
        } else {
            for (i = 0; i < 100 && tls_state(e.s) != TLS_FAILED; i++)
                feed(e.s, "\x14\x03\x03\x00\x01\x01", 6);
            CHECK(i == TLS_USELESS_MAX + 1);
        }
        CHECK_STR(tls_error(e.s), kind == 0
                                      ? "tls: too many ignored records"
                                      : "local error: tls: unexpected message");
        ends_release(&e);
    }
}

/* Under the sender's keys: what may not come when all is open. */
static void test_after_handshake(void)
{
    static const struct {
        uint16_t version;
        enum tls_role sender;
        enum record_type type;
        struct str bytes;
        const char *error;
    } cases[] = {
        {TLS_1_2,
         TLS_SERVER,
         RECORD_HANDSHAKE,
         {"\0\0\0\0", 4},
         "local error: tls: no renegotiation"},
        {TLS_1_2,
         TLS_CLIENT,
         RECORD_HANDSHAKE,
         {"\x01\0\0\0", 4},
         "local error: tls: no renegotiation"},
        {TLS_1_2,
         TLS_CLIENT,
         RECORD_CCS,
         {"\x01", 1},
         "tls: unexpected change of keys"},
        {TLS_1_2,
         TLS_CLIENT,
         RECORD_HANDSHAKE,
         {"\x18\0\0\x01\0", 5},
         "tls: received unexpected handshake message of type 24 when waiting "
         "for data"},
        {TLS_1_3,
         TLS_CLIENT,
         RECORD_HANDSHAKE,
         {"\x01\0\0\0", 4},
         "tls: received unexpected handshake message of type 1 when waiting "
         "for data"},
        {TLS_1_3,
         TLS_CLIENT,
         RECORD_HANDSHAKE,
         {"\x04\0\0\0", 4},
         "tls: received unexpected handshake message of type 4 when waiting "
         "for data"},
        {TLS_1_3,
         TLS_SERVER,
         RECORD_HANDSHAKE,
         {"\x0d\0\0\0", 4},
         "tls: received unexpected handshake message of type 13 when waiting "
         "for data"},
        {TLS_1_3,
         TLS_CLIENT,
         RECORD_HANDSHAKE,
         {"\x18\0\0\x01\x02", 5},
         "tls: received a KeyUpdate of an unknown kind"},
        {TLS_1_3,
         TLS_CLIENT,
         RECORD_HANDSHAKE,
         {"\x18\0\0\x02\0\0", 6},
         "tls: malformed KeyUpdate"},
        {TLS_1_3,
         TLS_CLIENT,
         RECORD_HANDSHAKE,
         {"\x18\0\0\x01\0\x18\0\0\x01\0", 10},
         "local error: tls: unexpected message"},
        {TLS_1_3,
         TLS_CLIENT,
         RECORD_HANDSHAKE,
         {"\x18\x01\0\x01", 4},
         "tls: handshake message of length 65537 bytes exceeds maximum of "
         "65536 bytes"},
        {TLS_1_3,
         TLS_CLIENT,
         RECORD_CCS,
         {"\x01", 1},
         "local error: tls: unexpected message"},
        {TLS_1_3,
         TLS_CLIENT,
         (enum record_type)99,
         {"x", 1},
         "local error: tls: unexpected message"},
        {TLS_1_3,
         TLS_CLIENT,
         RECORD_ALERT,
         {"\x01\x2a", 2},
         "remote error: tls: bad certificate"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        bool by_client = cases[i].sender == TLS_CLIENT;
        struct setup u = {0};
        struct ends e;

        only_version(&u, cases[i].version);
        e = ends_new(&u);
        run(&e);
        tls_send(by_client ? e.c : e.s, cases[i].type, cases[i].bytes.p,
                 cases[i].bytes.n);
        run(&e);
        CHECK_STR(tls_error(by_client ? e.s : e.c), cases[i].error);
        if (tls_alert(e.s) == ALERT_NO_RENEGOTIATION)
            CHECK(tls_state(e.c) == TLS_OPEN); /* a mere warning, there */
        ends_release(&e);
    }
}

/* Data in the middle of a message; padding; nothing but padding. */
static void test_odd_records(void)
{
    static const char zeros[100];
    struct str parts[] = {{"data\x17", 5}, {zeros, 100}};
    struct setup u = {0};
    struct ends e = ends_new(&u);

    run(&e);
    tls_send(e.c, RECORD_HANDSHAKE, "\x18\0", 2);
    say(e.c, "data");
    run(&e);
    CHECK_STR(tls_error(e.s), "local error: tls: unexpected message");
    ends_release(&e);

    e = ends_new(&u); /* the record's own type then is padding, too */
    run(&e);
    tls_seal(e.c, (enum record_type)0, parts, 2);
    run(&e);
    CHECK(str_eqz(buf_str(&e.got_s), "data"));
    tls_seal(e.c, (enum record_type)0, &parts[1], 1);
    run(&e);
    CHECK_STR(tls_error(e.s), "local error: tls: unexpected message");
    ends_release(&e);
}

/* --- Refusals: a peer with keys that lies. -------------------------------- */

/* Signs with a key that is not its certificate's. */
static void test_wrong_signature(void)
{
    for (size_t v = 0; v < ARRAY_LEN(versions); v++)
        for (int by_client = 0; by_client < 2; by_client++) {
            struct setup u = {.client = P256};
            struct ends e;
            struct x509_pair other = pair_of(STRANGE);

            only_version(&u, versions[v]);
            u.s.client_auth = TLS_AUTH_REQUIRE;
            e = ends_new(&u);
            (by_client ? e.c : e.s)->config->pairs[0].key = other.key;
            run(&e);
            CHECK_STR(tls_error(by_client ? e.s : e.c),
                      by_client
                          ? "tls: invalid signature by the client certificate"
                          : "tls: invalid signature by the server certificate");
            CHECK_STR(tls_error(by_client ? e.c : e.s),
                      "remote error: tls: error decrypting message");
            x509_pair_release(&other);
            ends_release(&e);
        }
}

static void
feed_record(struct ends *e) /* the first that waits for the client */
{
    size_t n = RECORD_HEAD + ((size_t)e->to_c.data[3] << 8 | e->to_c.data[4]);

    feed(e->c, e->to_c.data, n);
    buf_consume(&e->to_c, n);
}

/* The client, or the server, finishes something that was not said: in TLS 1.3
 * by another secret, in 1.2 by a transcript that is not the peer's. */
static void test_wrong_finished(void)
{
    static const char *const errors[][2] = {
        {"tls: server's Finished message was incorrect",
         "tls: client's Finished message is incorrect"},
        {"tls: invalid server finished hash",
         "tls: invalid client finished hash"},
    };

    for (size_t v = 0; v < ARRAY_LEN(versions); v++)
        for (int by_client = 0; by_client < 2; by_client++) {
            struct setup u = {0};
            struct ends e;

            only_version(&u, versions[v]);
            e = ends_new(&u);
            emit(e.c, &e.to_s);
            deliver(e.s, &e.to_s, &e.got_s, 0);
            emit(e.s, &e.to_c);
            if (versions[v] == TLS_1_3 && by_client) {
                e.s->in.secret[0] ^= 1;
            } else if (versions[v] == TLS_1_3) {
                feed_record(&e); /* ServerHello: the client has keys now */
                e.c->in.secret[0] ^= 1;
            } else if (by_client) {
                /* Keys are derived from what was said only if extended. */
                e.s->hs->extended = e.c->hs->extended = false;
                feed_record(&e);
                e.c->hs->extended = false;
                hash_update(&e.s->hs->hash, "x", 1);
            } else {
                e.s->hs->extended = false;
                feed_record(&e);
                e.c->hs->extended = false;
                deliver(e.c, &e.to_c, &e.got_c, 0);
                hash_update(&e.c->hs->hash, "x", 1);
            }
            run(&e);
            CHECK_STR(tls_error(by_client ? e.s : e.c), errors[v][by_client]);
            CHECK_STR(tls_error(by_client ? e.c : e.s),
                      "remote error: tls: error decrypting message");
            ends_release(&e);
        }
}

/* A server that could do better says so in its random (RFC 8446, 4.1.3). */
static void test_downgrade(void)
{
    struct setup u = {.c.version_max = TLS_1_2}; /* as if it was cut out */
    struct ends e = ends_new(&u);

    e.c->config->version_max = TLS_1_3; /* what it offered, really */
    run(&e);
    CHECK_STR(tls_error(e.c), "tls: downgrade attempt detected, possibly due "
                              "to a MitM attack or a broken middlebox");
    CHECK_STR(tls_error(e.s), "remote error: tls: illegal parameter");
    ends_release(&e);
}

/* --- HelloRetryRequest, by hand. ------------------------------------------- */

/* As a record, for this client, with these extensions in hex: returns owned. */
static struct buf retry_for(const struct tls *c, const char *extensions)
{
    struct buf random =
        unhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e07"
              "9e09e2c8a8339c");
    struct buf x = unhex(extensions), b = {0};
    size_t record, message;

    put_uint(&b, RECORD_HANDSHAKE, 1);
    put_uint(&b, TLS_1_2, 2);
    record = vector_begin(&b, 2);
    put_uint(&b, MSG_SERVER_HELLO, 1);
    message = vector_begin(&b, 3);
    put_uint(&b, TLS_1_2, 2);
    buf_addstr(&b, buf_str(&random));
    put_vector(&b, 1, (struct str){(const char *)c->hs->session_id, 32});
    put_uint(&b, 0x1301, 2);
    put_uint(&b, 0, 1);
    put_vector(&b, 2, buf_str(&x));
    vector_end(&b, message, 3);
    vector_end(&b, record, 2);
    buf_release(&random);
    buf_release(&x);
    return b;
}

static void test_retry(void)
{
    static const struct {
        const char *extensions, *error;
    } cases[] = {
        {"002b00020304"
         "002c000500036b656b",
         ""},
        {"002b00020304"
         "003300020017",
         ""},
        {"002b00020304"
         "00330002001d",
         "tls: server sent an unnecessary HelloRetryRequest key_share"},
        {"002b00020304"
         "00330002001e",
         "tls: server selected unsupported group"},
        {"002b00020304",
         "tls: server sent an unnecessary HelloRetryRequest message"},
        {"002b00020304"
         "00330002",
         "tls: malformed extension"},
        {"002b00020304"
         "002c00020000",
         "tls: malformed HelloRetryRequest"},
        {"002b00020304"
         "003300020017"
         "00000000",
         "tls: server sent an unsolicited extension"},
        {"002b00020304"
         "003300020017"
         "003300020017",
         "tls: peer sent an extension twice"},
        {"002b00020303"
         "003300020017",
         "tls: server selected an invalid version after a supported_versions "
         "extension"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct setup u = {0};
        struct ends e = ends_new(&u);
        struct buf retry = retry_for(e.c, cases[i].extensions);

        emit(e.c, &e.to_s);
        feed(e.c, retry.data, retry.len);
        CHECK_STR(tls_error(e.c), cases[i].error);
        if (*cases[i].error == 0) { /* once, but not twice */
            CHECK(tls_wants_write(e.c));
            feed(e.c, retry.data, retry.len);
            CHECK_STR(tls_error(e.c),
                      "tls: server sent two HelloRetryRequest messages");
        }
        buf_release(&retry);
        ends_release(&e);
    }
}

/* The cookie comes back as it was. */
static void test_cookie(void)
{
    struct setup u = {0};
    struct ends e = ends_new(&u);
    struct buf retry = retry_for(e.c, "002b00020304002c000500036b656b");
    struct buf want = unhex("002c000500036b656b");

    emit(e.c, &e.to_s);
    buf_clear(&e.to_s);
    feed(e.c, retry.data, retry.len);
    emit(e.c, &e.to_s);
    CHECK(memmem(e.to_s.data, e.to_s.len, want.data, want.len) != NULL);
    buf_release(&retry);
    buf_release(&want);
    ends_release(&e);
}

/* A second ClientHello that is not the first one's. */
static void test_changed_after_retry(void)
{
    static const enum tls_group p256 = TLS_P256;
    struct setup u = {0};
    struct ends e;

    u.s.groups = &p256;
    u.s.n_groups = 1;
    e = ends_new(&u);
    emit(e.c, &e.to_s);
    deliver(e.s, &e.to_s, &e.got_s, 0);
    emit(e.s, &e.to_c);
    e.c->hs->client_random[5] ^= 1;
    run(&e);
    CHECK_STR(tls_error(e.s),
              "tls: client illegally modified second ClientHello");
    CHECK_STR(tls_error(e.c), "remote error: tls: illegal parameter");
    ends_release(&e);
}

/* A client that cannot make keys of our ServerHello has none for its alert. */
static void test_plain_alert(void)
{
    struct setup u = {0};
    struct ends e = ends_new(&u);

    emit(e.c, &e.to_s);
    deliver(e.s, &e.to_s, &e.got_s, 0);
    feed(e.s, "\x15\x03\x03\x00\x02\x02\x2f", 7);
    CHECK_STR(tls_error(e.s), "remote error: tls: illegal parameter");
    ends_release(&e);
}

/* --- Known answers: RFC 8448, 3. ------------------------------------------ */

static const char trace_client_hello[] =
    "010000c00303cb34ecb1e78163ba1c38c6dacb196a6dffa21a8d9912ec18a2ef6283024dec"
    "e7000006130113031302010000910000000b0009000006736572766572ff01000100000a00"
    "140012001d0017001800190100010101020103010400230000003300260024001d00209938"
    "1de560e4bd43d23d8e435a7dbafeb3c06e51c13cae4d5413691e529aaf2c002b0003020304"
    "000d0020001e04030503060302030804080508060401050106010201040205020602020200"
    "2d00020101001c00024001";

static const char trace_server_hello[] =
    "020000560303a6af06a4121860dc5e6e60249cd34c95930c8ac5cb1434dac155772ed3e269"
    "2800130100002e00330024001d0020c9828876112095fe66762bdbf7c672e156d6cc253b83"
    "3df1dd69b1b04e751f0f002b00020304";

/* Up to CertificateVerify. */
static const char trace_flight[] =
    "080000240022000a00140012001d00170018001901000101010201030104001c0002400100"
    "0000000b0001b9000001b50001b0308201ac30820115a003020102020102300d06092a8648"
    "86f70d01010b0500300e310c300a06035504031303727361301e170d313630373330303132"
    "3335395a170d3236303733303031323335395a300e310c300a060355040313037273613081"
    "9f30"
    "0d06092a864886f70d010101050003818d0030818902818100b4bb498f8279303d98083639"
    "9b36"
    "c6988c0c68de55e1bdb826d3901a2461eafd2de49a91d015abbc9a95137ace6c1af19eaa6a"
    "f98c"
    "7ced43120998e187a80ee0ccb0524b1b018c3e0b63264d449a6d38e22a5fda430846748030"
    "530e"
    "f0461c8ca9d9efbfae8ea6d1d03e2bd193eff0ab9a8002c47428a6d35a8d88d79f7f1e3f02"
    "0301"
    "0001a31a301830090603551d1304023000300b0603551d0f0404030205a0300d06092a8648"
    "86f7"
    "0d01010b05000381810085aad2a0e5b9276b908c65f73a7267170618a54c5f8a7b337d2df7"
    "a594"
    "365417f2eae8f8a58c8f8172f9319cf36b7fd6c55b80f21a03015156726096fd335e5e67f2"
    "dbf1"
    "02702e608ccae6bec1fc63a42a99be5c3eb7107c3c54e9b9eb2bd5203b1c3b84e0a8b2f759"
    "409b"
    "a3eac9d91d402dcc0cc8f8961229ac9187b42b4de100000f000084080400805a747c5d88fa"
    "9bd2"
    "e55ab085a61015b7211f824cd484145ab3ff52f1fda8477b0b7abc90db78e2d33a5c141a07"
    "8653"
    "fa6bef780c5ea248eeaaa785c4f394cab6d30bbe8d4859ee511f602957b15411ac02767145"
    "9e46"
    "445c9ea58c181e818e95b8c3fb0bf3278409d3be152a3da5043e063dda65cdf5aea20d53df"
    "acd4"
    "2f74f3";

/* The server's random, then its X25519 key. */
static void trace_random(void *p, size_t n)
{
    struct buf random = unhex(
        "a6af06a4121860dc5e6e60249cd34c95930c8ac5cb1434dac155772ed3e26928");
    struct buf key = unhex(
        "b1580eeadf6dd589b8ef4f2d5652578cc810e9980191ec8d058308cea216a21e");

    memset(p, 0, n);
    memcpy(p, n == EC_SEED_SIZE ? key.data : random.data, 32);
    buf_release(&random);
    buf_release(&key);
}

/* The server answers the trace's client as the trace's server does. */
static void test_trace_hello(void)
{
    struct setup u = {0};
    struct ends e = ends_new(&u);
    struct buf m = unhex(trace_client_hello), record = unhex("16030100c4");
    struct str out;

    e.s->config->random = trace_random;
    /* A machine without instructions for AES would choose another one. */
    e.s->config->suites[0] = tls_suite_of(0x1301);
    e.s->config->n_suites = 1;
    buf_addstr(&record, buf_str(&m));
    feed(e.s, record.data, record.len);
    out = tls_output(e.s);
    CHECK(out.n > 95 && is_hex(out.p, 5, "160303005a"));
    CHECK(is_hex(out.p + 5, 90, trace_server_hello));
    CHECK(is_hex(e.s->in.secret, 32,
                 "b3eddb126e067f35a780b3abf45e2d8f3b1a950738f52e9600746a0e27a55"
                 "a21"));
    CHECK(str_eqz(tls_server_name(e.s), "server"));
    buf_release(&m);
    buf_release(&record);
    ends_release(&e);
}

static void add_trace(struct tls *t, const char *hex)
{
    struct buf b = unhex(hex);

    transcript_add(t, buf_str(&b));
    buf_release(&b);
}

/* The schedule from the shared secret on. */
static void test_trace_schedule(void)
{
    static const char finished[] =
        "9b9b141d906337fbd2cbdce71df4deda4ab42c309572cb7fffee5454b78f0718";
    struct setup u = {0};
    struct ends e = ends_new(&u);
    struct tls *t = e.s;
    struct buf shared = unhex(
        "8bd4054fb55b9d63fdfbacf9f04b9f0d35e6d63f537563efd46272900f89492d");
    uint8_t mac[SECRET_MAX];

    t->version = TLS_1_3;
    t->suite = tls_suite_of(0x1301);
    transcript_start(t);
    add_trace(t, trace_client_hello);
    add_trace(t, trace_server_hello);
    schedule_handshake(t, shared.data, shared.len);
    CHECK(is_hex(t->hs->server_secret, 32,
                 "b67b7d690cc16c4e75e54213cb2d37b4e9c912bcded9105d42befd59d391"
                 "ad38"));
    half_set13(&t->out, t->suite, t->hs->server_secret);
    CHECK(is_hex(t->out.iv, 12, "5d313eb2671276ee13000b30"));
    add_trace(t, trace_flight);
    schedule_finished(t, t->out.secret, mac);
    CHECK(is_hex(mac, 32, finished));
    add_trace(t, "14000020");
    add_trace(t, finished);
    schedule_master(t);
    CHECK(is_hex(t->hs->client_secret, 32,
                 "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c175"
                 "04a5"));
    CHECK(is_hex(t->hs->server_secret, 32,
                 "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb63"
                 "1643"));
    buf_release(&shared);
    ends_release(&e);
}

int main(void)
{
    test_trace_hello();
    test_trace_schedule();
    test_suite_names();
    test_suites();
    test_client_certificates();
    test_groups();
    test_versions();
    test_unsupported_version_text();
    test_alpn();
    test_server_names();
    test_choice_of_pairs();
    test_big_data();
    test_output_is_stable();
    test_nothing_before_open_or_after_close();
    test_bad_certificates();
    test_bad_client_certificates();
    test_verify_hook();
    test_skip_verify();
    test_no_name();
    test_nothing_in_common();
    test_config_errors();
    test_not_tls();
    test_tampered_data();
    test_replay();
    test_reframed();
    test_message_across_keys();
    test_floods();
    test_ccs13();
    test_after_handshake();
    test_odd_records();
    test_wrong_signature();
    test_wrong_finished();
    test_downgrade();
    test_retry();
    test_cookie();
    test_changed_after_retry();
    test_plain_alert();
    return check_done("tls");
}
