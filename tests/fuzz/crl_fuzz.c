/*
 * crl_fuzz.c - revocation lists, and whether a certificate is in one. The input
 * is the file.
 */
#include "fuzz.h"

#include "x509.h"

/* A chain of one, with this serial number. */
static int check_serial(const struct x509_crl *crl, struct str serial,
                        struct err *e)
{
    struct x509_cert cert = {.serial = serial}, *certs[] = {&cert};
    struct x509_certs chain = {certs, 1, 1};

    return x509_crl_check(crl, &chain, e);
}

/* Each number that is in the list is found in it. */
static void check_entries(const struct x509_crl *crl)
{
    struct str list = crl->revoked, entry, serial;
    struct err e = {.msg = ""};

    for (int i = 0; i < 100 && der_get(&list, DER_SEQ, &entry); i++) {
        FUZZ_CHECK(der_uint(&entry, &serial));
        FUZZ_CHECK(check_serial(crl, serial, &e) == X509_EVERIFY && e.msg[0]);
    }
    check_serial(crl, STR("\x01\x02\x03"), &e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = {(const char *)data, size};
    struct x509_certs none = {0};
    struct x509_crl crl;
    struct err e = {.msg = ""};

    if (x509_crl_parse(in, &crl, &e) < 0) {
        FUZZ_CHECK(e.msg[0]);
        return 0;
    }
    FUZZ_CHECK(x509_crl_check(&crl, &none, &e) == 0);
    check_entries(&crl);
    x509_crl_release(&crl);
    return 0;
}
