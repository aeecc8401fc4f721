/*
 * tlsserver_fuzz.c - what a server of TLS hears; see tlsfuzz.h.
 */
#include "tlsfuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};

    if (size > 0 && data[0] >= RECORD_CCS && data[0] <= RECORD_DATA)
        fuzz_raw(data, size, TLS_SERVER);
    else
        fuzz_tls(&in, TLS_SERVER);
    return 0;
}
