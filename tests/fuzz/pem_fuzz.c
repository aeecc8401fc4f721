/*
 * pem_fuzz.c - PEM, and the keys and certificates in such files. The input's
 * first byte says what follows: a file, or a key to be put into one.
 */
#include "fuzz.h"

#include "x509.h"

/* What was read is read again when it is written anew. */
static void check_block(const struct pem_block *block)
{
    struct pem_block again = {0};
    struct buf b = {0};
    struct str text;

    pem_put(&b, "ANYTHING", buf_str(&block->der));
    text = buf_str(&b);
    FUZZ_CHECK(pem_next(&text, &again, NULL) == 1 && text.n == 0);
    FUZZ_CHECK(str_eqz(again.type, "ANYTHING") && !again.encrypted);
    FUZZ_CHECK(str_eq(buf_str(&again.der), buf_str(&block->der)));
    pem_release(&again);
    buf_release(&b);
}

static void fuzz_blocks(struct str in)
{
    struct pem_block block = {0};
    struct str text = in;
    struct err e = {.msg = ""};
    int rc;

    while ((rc = pem_next(&text, &block, &e)) > 0) {
        FUZZ_CHECK(block.type.p >= in.p && text.p + text.n == in.p + in.n);
        check_block(&block);
    }
    FUZZ_CHECK(rc == 0 || e.msg[0]);
    pem_release(&block);
}

static void fuzz_keys(struct str in)
{
    struct pk_private k;
    struct pk_public pub;
    struct err e = {.msg = ""};

    if (x509_key_load(in, &k, &e) == 0) {
        FUZZ_CHECK(k.pub.type != PK_NONE && pk_public_eq(&k.pub, &k.pub));
        pk_wipe(&k);
    } else {
        FUZZ_CHECK(e.msg[0]);
    }
    e.msg[0] = 0;
    if (x509_public_load(in, &pub, &e) == 0)
        FUZZ_CHECK(pub.type != PK_NONE);
    else
        FUZZ_CHECK(e.msg[0]);
}

static void fuzz_pair(struct str in)
{
    struct x509_certs l = {0};
    struct x509_pair p = {{0}, .key.pub.type = PK_NONE};
    struct err e;

    FUZZ_CHECK(x509_certs_add_pem(&l, in, &e) == 0 ? l.n > 0 : l.n == 0);
    if (x509_load_pair(in, in, &p, &e) == 0)
        FUZZ_CHECK(p.key.pub.type != PK_NONE && p.chain.n == l.n);
    x509_pair_release(&p);
    x509_certs_release(&l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const labels[] = {NULL, "PRIVATE KEY", "PUBLIC KEY"};
    struct fuzz_in in = {data, size};
    const char *label = labels[fuzz_u8(&in) % ARRAY_LEN(labels)];
    struct str file = {(const char *)in.p, in.n};
    struct buf b = {0};

    if (label) {
        pem_put(&b, label, file);
        file = buf_str(&b);
    }
    fuzz_blocks(file);
    fuzz_keys(file);
    fuzz_pair(file);
    buf_release(&b);
    return 0;
}
