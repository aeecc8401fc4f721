/*
 * tlsclient_fuzz.c - what a client of TLS hears; see tlsfuzz.h. Each record may be
 * changed.
 */
#include "tlsfuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_tls(data, size, TLS_CLIENT);
    return 0;
}
