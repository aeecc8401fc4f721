/*
 * flags_fuzz.c - values of flags, as the command line, the environment and the
 * file give them: the first byte chooses the flag, the rest is its value. What
 * passes the check can be stored, and a name that is meant by a wrong one
 * exists.
 */
#include "flags.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = {data, size};
    const struct flag *f = &flags[fuzz_u8(&in) % n_flags];
    struct str value = {(const char *)in.p, in.n};
    char *z = xstrndup(value.p ? value.p : "", value.n);
    struct config c = {0};
    struct err e = {0};
    const char *wrong = flag_check(f, z, &e), *meant;

    if (wrong) {
        FUZZ_CHECK(wrong[0] || e.msg[0]);
    } else {
        flag_is_default(f, z);
        if (f->at != FLAG_NOWHERE) {
            flag_store(f, z, &c);
            flag_release(f, &c);
        }
    }
    meant = flag_nearest(value);
    FUZZ_CHECK(!meant || flag_find(str_of(meant)) >= 0);
    free(z);
    return 0;
}
