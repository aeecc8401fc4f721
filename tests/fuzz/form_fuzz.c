/*
 * form_fuzz.c - the parameters of a v2 request. The first line is a
 * Content-Type, the second the query, the rest the body. What was read and is
 * written comes back the same, and what passed all checks is fit for the log.
 */
#include "fuzz.h"
#include "v2.h"

static void print(struct buf *b, const struct form *f)
{
    for (size_t i = 0; i < f->n; i++) {
        if (i)
            buf_addc(b, '&');
        url_encode_query(b, f->fields[i].name);
        buf_addc(b, '=');
        url_encode_query(b, f->fields[i].value);
    }
}

static void check_form(const struct form *f)
{
    struct form again = {0};
    struct buf b = {0};
    struct str first;

    FUZZ_CHECK(f->n <= FORM_FIELDS_MAX);
    print(&b, f);
    FUZZ_CHECK(form_parse(&again, 0, buf_str(&b), NULL) == 0);
    FUZZ_CHECK(again.n == f->n);
    for (size_t i = 0; i < f->n; i++) {
        FUZZ_CHECK(str_eq(f->fields[i].name, again.fields[i].name));
        FUZZ_CHECK(str_eq(f->fields[i].value, again.fields[i].value));
    }
    if (form_get(f, "value", &first)) {
        size_t i = 0;

        while (!str_eqz(f->fields[i].name, "value"))
            i++;
        FUZZ_CHECK(str_eq(first, f->fields[i].value));
    }
    form_release(&again);
    buf_release(&b);
}

/* As it will stand in the log. */
static void check_request(const struct v2_request *r)
{
    struct buf b = {0};
    struct entry_request back;

    etcdpb_encode_v2_request(&b, r);
    FUZZ_CHECK(etcdpb_decode_entry(b.data, b.len, &back) == 0);
    FUZZ_CHECK(back.kind == ENTRY_V2);
    FUZZ_CHECK(str_eq(back.v2.val, r->val));
    FUZZ_CHECK(str_eq(back.v2.prev_value, r->prev_value));
    FUZZ_CHECK(back.v2.prev_index == r->prev_index);
    FUZZ_CHECK(back.v2.expiration == r->expiration);
    FUZZ_CHECK(back.v2.prev_exist == r->prev_exist);
    FUZZ_CHECK(back.v2.refresh == r->refresh);
    FUZZ_CHECK(back.v2.dir == r->dir && back.v2.recursive == r->recursive);
    buf_release(&b);
}

static void check_params(const struct form *f, const char *method)
{
    struct v2_params p;
    struct store_error e = {0};
    int code = v2_parse_params(f, str_of(method), &p, &e);

    if (code) {
        FUZZ_CHECK(e.code == code && e.cause && store_error_message(code));
        FUZZ_CHECK(store_error_status(code) >= 400);
        store_error_release(&e);
        return;
    }
    p.r.path = STR("/1/a");
    p.r.id = 1;
    if (p.has_ttl) {
        p.r.expiration = v2_expiration(INT64_C(1700000000000000000), p.ttl_s);
        FUZZ_CHECK(p.r.expiration >= INT64_C(1700000000000000000));
    }
    check_request(&p.r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str rest = {(const char *)data, size}, type, query;
    struct form f = {0};
    const char *why = NULL;
    bool is_form = false;
    struct err e = {0};

    str_cut(&rest, '\n', &type);
    str_cut(&rest, '\n', &query);
    if (v2_is_form(type, &is_form, &why) < 0)
        FUZZ_CHECK(why && !is_form);
    if (form_parse(&f, 0, rest, &e) < 0)
        FUZZ_CHECK(e.msg[0]);
    form_parse(&f, 1, query, NULL);
    check_form(&f);
    check_params(&f, "GET");
    check_params(&f, "PUT");
    form_release(&f);
    return 0;
}
