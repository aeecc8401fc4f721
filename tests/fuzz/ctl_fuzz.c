/*
 * ctl_fuzz.c - what etcdctl prints of a server's answer, whatever that is.
 * The first byte chooses the format.
 */
#include "ctl.h"
#include "fuzz.h"

/* Go's %q is printable ASCII, or characters beyond it, in quotes. */
static void check_quote(struct str s)
{
    struct buf b = {0};

    ctl_quote(&b, s);
    FUZZ_CHECK(b.len >= 2 && b.data[0] == '"' && b.data[b.len - 1] == '"');
    for (size_t i = 0; i < b.len; i++)
        FUZZ_CHECK(b.data[i] >= ' ' && b.data[i] != 127);
    buf_release(&b);
}

static void check_path(struct str s)
{
    struct buf once = {0}, twice = {0};

    ctl_clean_path(&once, s);
    ctl_clean_path(&twice, buf_str(&once));
    FUZZ_CHECK(str_eq(buf_str(&once), buf_str(&twice)));
    buf_release(&once);
    buf_release(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const formats[] = {"simple", "extended", "json", "xml"};
    struct fuzz_in in = {data, size};
    uint8_t op = fuzz_u8(&in);
    struct json *j;
    struct buf out = {0};

    if (json_parse(in.p, in.n, &j, NULL) == 0) {
        const char *format = formats[op % ARRAY_LEN(formats)];

        FUZZ_CHECK(ctl_format_response(&out, j, 7, format) ==
                   (strcmp(format, "xml") != 0));
        buf_clear(&out);
        ctl_format_listing(&out, j, op & 4);
        ctl_join(&out, j, ",");
        json_free(j);
    }
    check_quote((struct str){(const char *)in.p, in.n});
    check_path((struct str){(const char *)in.p, in.n});
    buf_release(&out);
    return 0;
}
