/*
 * hpack.c - header blocks and their dynamic tables (RFC 7541).
 *
 *   FIRST BITS  MEANS                                               SECTION
 *   1.......    a field of the tables: index, 7 bits                  6.1
 *   01......    a literal, to be added to the table: name's index     6.2.1
 *   001.....    the table's new size                                  6.3
 *   0001....    a literal that nobody may ever add to a table         6.2.3
 *   0000....    a literal                                             6.2.2
 *
 * An index of 0 in a literal says that its name follows as a string. Indices go
 * on from the static table (1 to 61) to the dynamic one, the newest first.
 *
 * The dynamic table's strings lie one behind the other in the order in which
 * they came, so that evicting the oldest only moves the head. When the end is
 * reached, what is alive moves to a new place, never within the old one: a name
 * that is being added may itself lie in the table, even in an entry that has to
 * go for it (4.4).
 */
#include "hpack.h"

#define N_STATIC 61

/* clang-format off */

/* Appendix A. */
static const struct hpack_field static_table[] = {
    HPACK_FIELD(":authority", ""),
    HPACK_FIELD(":method", "GET"),
    HPACK_FIELD(":method", "POST"),
    HPACK_FIELD(":path", "/"),
    HPACK_FIELD(":path", "/index.html"),
    HPACK_FIELD(":scheme", "http"),
    HPACK_FIELD(":scheme", "https"),
    HPACK_FIELD(":status", "200"),
    HPACK_FIELD(":status", "204"),
    HPACK_FIELD(":status", "206"),
    HPACK_FIELD(":status", "304"),
    HPACK_FIELD(":status", "400"),
    HPACK_FIELD(":status", "404"),
    HPACK_FIELD(":status", "500"),
    HPACK_FIELD("accept-charset", ""),
    HPACK_FIELD("accept-encoding", "gzip, deflate"),
    HPACK_FIELD("accept-language", ""),
    HPACK_FIELD("accept-ranges", ""),
    HPACK_FIELD("accept", ""),
    HPACK_FIELD("access-control-allow-origin", ""),
    HPACK_FIELD("age", ""),
    HPACK_FIELD("allow", ""),
    HPACK_FIELD("authorization", ""),
    HPACK_FIELD("cache-control", ""),
    HPACK_FIELD("content-disposition", ""),
    HPACK_FIELD("content-encoding", ""),
    HPACK_FIELD("content-language", ""),
    HPACK_FIELD("content-length", ""),
    HPACK_FIELD("content-location", ""),
    HPACK_FIELD("content-range", ""),
    HPACK_FIELD("content-type", ""),
    HPACK_FIELD("cookie", ""),
    HPACK_FIELD("date", ""),
    HPACK_FIELD("etag", ""),
    HPACK_FIELD("expect", ""),
    HPACK_FIELD("expires", ""),
    HPACK_FIELD("from", ""),
    HPACK_FIELD("host", ""),
    HPACK_FIELD("if-match", ""),
    HPACK_FIELD("if-modified-since", ""),
    HPACK_FIELD("if-none-match", ""),
    HPACK_FIELD("if-range", ""),
    HPACK_FIELD("if-unmodified-since", ""),
    HPACK_FIELD("last-modified", ""),
    HPACK_FIELD("link", ""),
    HPACK_FIELD("location", ""),
    HPACK_FIELD("max-forwards", ""),
    HPACK_FIELD("proxy-authenticate", ""),
    HPACK_FIELD("proxy-authorization", ""),
    HPACK_FIELD("range", ""),
    HPACK_FIELD("referer", ""),
    HPACK_FIELD("refresh", ""),
    HPACK_FIELD("retry-after", ""),
    HPACK_FIELD("server", ""),
    HPACK_FIELD("set-cookie", ""),
    HPACK_FIELD("strict-transport-security", ""),
    HPACK_FIELD("transfer-encoding", ""),
    HPACK_FIELD("user-agent", ""),
    HPACK_FIELD("vary", ""),
    HPACK_FIELD("via", ""),
    HPACK_FIELD("www-authenticate", ""),
};
/* The first index of each name of it, by static_hash(), which is perfect. */
static const uint8_t name_slots[128] = {
    0, 0, 0, 24, 60, 0, 19, 0, 46, 0, 0, 2, 8, 0, 44, 0,
    56, 0, 48, 23, 34, 0, 0, 1, 0, 0, 0, 0, 0, 0, 26, 0,
    0, 36, 35, 0, 57, 47, 43, 0, 33, 16, 58, 6, 0, 0, 0, 0,
    0, 0, 0, 18, 0, 0, 0, 0, 20, 31, 0, 0, 15, 0, 0, 41,
    0, 52, 0, 0, 28, 49, 32, 0, 0, 0, 0, 25, 0, 27, 0, 0,
    53, 37, 61, 0, 59, 0, 55, 38, 17, 29, 4, 40, 0, 0, 0, 0,
    30, 0, 45, 0, 0, 0, 0, 0, 0, 0, 22, 50, 51, 0, 0, 0,
    0, 0, 0, 0, 42, 0, 0, 0, 39, 0, 0, 0, 0, 54, 0, 21,
};

/* clang-format on */

static unsigned static_hash(struct str s) /* s is not empty */
{
    return ((unsigned)s.n * 39 + (uint8_t)s.p[0] * 39u +
            (uint8_t)s.p[s.n - 1] * 44u + (uint8_t)s.p[s.n / 2]) %
           128;
}

/* --- The list. ------------------------------------------------------------ */

void hpack_list_release(struct hpack_list *l)
{
    free(l->fields);
    free(l->bytes);
    *l = (struct hpack_list){0};
}

static void list_clear(struct hpack_list *l)
{
    l->n = l->size = l->len = 0;
}

/* Room for n bytes: a new home, and all fields move with it. */
static void list_grow(struct hpack_list *l, size_t n)
{
    size_t cap = max_u64(l->len + n, l->bytes_cap ? l->bytes_cap * 2 : 512);
    char *bytes = xmalloc(cap);

    for (size_t i = 0; i < l->n; i++) {
        struct hpack_field *f = &l->fields[i];

        f->name.p = bytes + (f->name.p - l->bytes);
        f->value.p = bytes + (f->value.p - l->bytes);
    }
    if (l->len)
        memcpy(bytes, l->bytes, l->len);
    free(l->bytes);
    l->bytes = bytes;
    l->bytes_cap = cap;
}

static struct str list_copy(struct hpack_list *l, struct str s)
{
    char *at = l->bytes + l->len;

    if (s.n)
        memcpy(at, s.p, s.n);
    l->len += s.n;
    return (struct str){at, s.n};
}

static void list_add(struct hpack_list *l, struct str name, struct str value,
                     enum hpack_how how)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 16;
        l->fields = xrealloc(l->fields, l->cap * sizeof(*l->fields));
    }
    if (l->bytes_cap - l->len < name.n + value.n || !l->bytes)
        list_grow(l, name.n + value.n);
    l->fields[l->n].name = list_copy(l, name);
    l->fields[l->n].value = list_copy(l, value);
    l->fields[l->n].how = how;
    l->n++;
    l->size += name.n + value.n + HPACK_FIELD_COST;
}

/* --- The dynamic table. ----------------------------------------------------- */

static void table_release(struct hpack_table *t)
{
    free(t->ring);
    free(t->bytes);
    *t = (struct hpack_table){0};
}

/* The i-th entry, 0 being the newest. */
static const struct hpack_entry *entry_at(const struct hpack_table *t,
                                          uint32_t i)
{
    return &t->ring[(t->first + t->n - 1 - i) & (t->ring_cap - 1)];
}

static struct str entry_name(const struct hpack_table *t,
                             const struct hpack_entry *e)
{
    return (struct str){t->bytes + e->at, e->n_name};
}

static struct str entry_value(const struct hpack_table *t,
                              const struct hpack_entry *e)
{
    return (struct str){t->bytes + e->at + e->n_name, e->n_value};
}

static void evict_to(struct hpack_table *t, size_t size)
{
    while (t->size > size) {
        struct hpack_entry *e = &t->ring[t->first];
        size_t n = (size_t)e->n_name + e->n_value;

        t->size -= n + HPACK_FIELD_COST;
        t->head += n;
        t->first = (t->first + 1) & (t->ring_cap - 1);
        t->n--;
    }
    if (t->n == 0)
        t->head = t->tail; /* and not 0: see the file's head */
}

static void table_resize(struct hpack_table *t, size_t size_max)
{
    t->size_max = size_max;
    evict_to(t, size_max);
}

static void ring_grow(struct hpack_table *t)
{
    uint32_t cap = t->ring_cap ? t->ring_cap * 2 : 8;
    struct hpack_entry *ring = xmalloc(cap * sizeof(*ring));

    for (uint32_t i = 0; i < t->n; i++)
        ring[i] = t->ring[(t->first + i) & (t->ring_cap - 1)];
    free(t->ring);
    t->ring = ring;
    t->ring_cap = cap;
    t->first = 0;
}

/* Move what is alive to a new home with room for n more. Returns the old one,
 * to be freed by the caller. */
static char *bytes_move(struct hpack_table *t, size_t n)
{
    size_t live = t->tail - t->head;
    size_t cap = max_u64(256, (live + n) * 2);
    char *old = t->bytes;

    t->bytes = xmalloc(cap);
    if (old && live)
        memcpy(t->bytes, old + t->head, live);
    for (uint32_t i = 0; i < t->n; i++)
        t->ring[(t->first + i) & (t->ring_cap - 1)].at -= (uint32_t)t->head;
    t->head = 0;
    t->tail = live;
    t->bytes_cap = cap;
    return old;
}

static void append(struct hpack_table *t, struct str s)
{
    if (s.n)
        memcpy(t->bytes + t->tail, s.p, s.n);
    t->tail += s.n;
}

/* 4.4: what is larger than the table empties it and is not in it. */
static void table_add(struct hpack_table *t, struct str name, struct str value,
                      uint32_t hash)
{
    size_t n = name.n + value.n, cost = n + HPACK_FIELD_COST;
    char *old = NULL;

    if (cost > t->size_max) {
        evict_to(t, 0);
        return;
    }
    evict_to(t, t->size_max - cost);
    if (t->n == t->ring_cap)
        ring_grow(t);
    if (t->bytes_cap - t->tail < n || !t->bytes)
        old = bytes_move(t, n);
    t->ring[(t->first + t->n) & (t->ring_cap - 1)] = (struct hpack_entry){
        (uint32_t)t->tail, (uint32_t)name.n, (uint32_t)value.n, hash};
    append(t, name);
    append(t, value);
    t->n++;
    t->size += cost;
    free(old);
}

/* --- Decoder. ----------------------------------------------------------------- */

void hpack_decoder_init(struct hpack_decoder *d, size_t list_max, size_t n_max)
{
    *d = (struct hpack_decoder){
        .limit = HPACK_TABLE_SIZE, .list_max = list_max, .n_max = n_max};
    d->table.size_max = HPACK_TABLE_SIZE;
}

void hpack_decoder_release(struct hpack_decoder *d)
{
    table_release(&d->table);
    buf_release(&d->scratch);
}

void hpack_decoder_limit(struct hpack_decoder *d, size_t limit)
{
    d->limit = limit;
    d->must_shrink = d->table.size_max > limit;
}

struct reader {
    const uint8_t *p, *end;
};

/* 5.1: an integer with a prefix of so many bits. False if cut off or absurd;
 * leading zeros, which have no end, are absurd too. */
static bool read_int(struct reader *r, unsigned prefix, uint32_t *out)
{
    uint32_t most = (1u << prefix) - 1, v;

    if (r->p == r->end)
        return false;
    v = *r->p++ & most;
    for (unsigned shift = 0; v >= most; shift += 7) {
        uint32_t b;

        if (r->p == r->end || shift > 21)
            return false;
        b = *r->p++;
        v += (b & 127) << shift;
        if (b < 128)
            break;
    }
    *out = v;
    return true;
}

/* 5.2. The string lies in the block, or at the end of scratch, which does not
 * move: hpack_decode() has reserved it. */
static bool read_string(struct hpack_decoder *d, struct reader *r,
                        struct str *out)
{
    bool huffman = r->p < r->end && *r->p & 0x80;
    size_t at = d->scratch.len;
    uint32_t n;

    if (!read_int(r, 7, &n) || n > (size_t)(r->end - r->p))
        return false;
    *out = (struct str){(const char *)r->p, n};
    r->p += n;
    if (!huffman)
        return true;
    if (hpack_huffman_decode(&d->scratch, out->p, n) < 0)
        return false;
    *out = n ? (struct str){(const char *)d->scratch.data + at,
                            d->scratch.len - at}
             : STR("");
    return true;
}

static bool table_field(const struct hpack_table *t, uint32_t index,
                        struct hpack_field *out)
{
    const struct hpack_entry *e;

    if (index == 0 || index > N_STATIC + t->n)
        return false;
    if (index <= N_STATIC) {
        *out = static_table[index - 1];
        return true;
    }
    e = entry_at(t, index - N_STATIC - 1);
    *out =
        (struct hpack_field){entry_name(t, e), entry_value(t, e), HPACK_AUTO};
    return true;
}

static bool read_literal(struct hpack_decoder *d, struct reader *r,
                         unsigned prefix, struct hpack_field *out)
{
    uint32_t index;

    if (!read_int(r, prefix, &index))
        return false;
    if (index == 0) {
        if (!read_string(d, r, &out->name))
            return false;
    } else if (!table_field(&d->table, index, out)) {
        return false;
    }
    return read_string(d, r, &out->value);
}

/* 6.3, 4.2: only where a block begins, and within what we announced. */
static bool read_updates(struct hpack_decoder *d, struct reader *r)
{
    uint32_t size;

    while (r->p < r->end && (*r->p & 0xe0) == 0x20) {
        if (!read_int(r, 5, &size) || size > d->limit)
            return false;
        table_resize(&d->table, size);
        d->must_shrink = false;
    }
    return !d->must_shrink || r->p == r->end;
}

static bool read_field(struct hpack_decoder *d, struct reader *r,
                       struct hpack_field *f, bool *add)
{
    uint8_t first = *r->p;
    uint32_t index;

    *add = false;
    f->how = HPACK_AUTO;
    if (first & 0x80)
        return read_int(r, 7, &index) && table_field(&d->table, index, f);
    if (first & 0x40) {
        *add = true;
        return read_literal(d, r, 6, f);
    }
    if (first & 0x20)
        return false; /* a size update, too late */
    if (!read_literal(d, r, 4, f))
        return false;
    f->how = first & 0x10 ? HPACK_NEVER : HPACK_PLAIN;
    return true;
}

int hpack_decode(struct hpack_decoder *d, const void *p, size_t n,
                 struct hpack_list *out)
{
    struct reader r = {p, p};
    bool large = false, add;

    list_clear(out);
    if (n == 0)
        return 0;
    r.end = r.p + n;
    if (!read_updates(d, &r))
        return HPACK_EINVAL;
    while (r.p < r.end) {
        struct hpack_field f = {0};

        buf_clear(&d->scratch);
        buf_reserve(&d->scratch, (size_t)(r.end - r.p) * 8 / 5 + 4);
        if (!read_field(d, &r, &f, &add))
            return HPACK_EINVAL;
        large =
            large || out->n == d->n_max ||
            out->size + f.name.n + f.value.n + HPACK_FIELD_COST > d->list_max;
        if (!large)
            list_add(out, f.name, f.value, f.how);
        if (add)
            table_add(&d->table, f.name, f.value, 0);
    }
    buf_trim(&d->scratch, 4096);
    return large ? HPACK_ELARGE : 0;
}

/* --- Encoder. -------------------------------------------------------------------- */

void hpack_encoder_init(struct hpack_encoder *e, size_t own_max)
{
    *e = (struct hpack_encoder){.own_max = own_max, .update_least = own_max};
    e->update = own_max < HPACK_TABLE_SIZE;
    e->table.size_max = own_max;
}

void hpack_encoder_release(struct hpack_encoder *e)
{
    table_release(&e->table);
}

void hpack_encoder_limit(struct hpack_encoder *e, size_t limit)
{
    size_t size = (size_t)min_u64(limit, e->own_max);

    if (size == e->table.size_max)
        return;
    e->update_least = e->update ? (size_t)min_u64(e->update_least, size) : size;
    e->update = true;
    table_resize(&e->table, size);
}

static void add_int(struct buf *out, uint8_t bits, unsigned prefix, size_t v)
{
    size_t most = ((size_t)1 << prefix) - 1;

    if (v < most) {
        buf_addc(out, (char)(bits | v));
        return;
    }
    buf_addc(out, (char)(bits | most));
    for (v -= most; v >= 128; v >>= 7)
        buf_addc(out, (char)(128 | (v & 127)));
    buf_addc(out, (char)v);
}

static void add_string(struct buf *out, struct str s)
{
    size_t n = hpack_huffman_len(s);

    if (n < s.n) {
        add_int(out, 0x80, 7, n);
        hpack_huffman_encode(out, s);
    } else {
        add_int(out, 0, 7, s.n);
        buf_addstr(out, s);
    }
}

/* 4.2: the least size on the way, then the one that counts. */
static void add_updates(struct hpack_encoder *e, struct buf *out)
{
    if (!e->update)
        return;
    if (e->update_least < e->table.size_max)
        add_int(out, 0x20, 5, e->update_least);
    add_int(out, 0x20, 5, e->table.size_max);
    e->update = false;
}

static uint32_t hash(const struct hpack_field *f) /* FNV-1a */
{
    uint32_t h = 2166136261u;

    for (size_t i = 0; i < f->name.n; i++)
        h = (h ^ (uint8_t)f->name.p[i]) * 16777619u;
    for (size_t i = 0; i < f->value.n; i++)
        h = (h ^ (uint8_t)f->value.p[i]) * 16777619u;
    return h;
}

/* The index of the whole field, or 0, and then *name is its name's, or 0. */
static uint32_t find_static(const struct hpack_field *f, uint32_t *name)
{
    uint32_t i = f->name.n ? name_slots[static_hash(f->name)] : 0;

    if (i == 0 || !str_eq(static_table[i - 1].name, f->name))
        return 0;
    *name = i;
    for (; i <= N_STATIC && str_eq(static_table[i - 1].name, f->name); i++)
        if (str_eq(static_table[i - 1].value, f->value))
            return i;
    return 0;
}

static uint32_t find_dynamic(const struct hpack_table *t,
                             const struct hpack_field *f, uint32_t h,
                             uint32_t *name)
{
    for (uint32_t i = 0; i < t->n; i++) {
        const struct hpack_entry *e = entry_at(t, i);
        bool same = e->hash == h || *name == 0
                        ? str_eq(entry_name(t, e), f->name)
                        : false;

        if (same && e->hash == h && str_eq(entry_value(t, e), f->value))
            return N_STATIC + 1 + i;
        if (same && *name == 0)
            *name = N_STATIC + 1 + i;
    }
    return 0;
}

static enum hpack_how how_by_name(struct str name)
{
    static const char *const secret[] = {"authorization", "cookie",
                                         "proxy-authorization", "set-cookie",
                                         "token"};
    static const char *const varying[] = {
        "content-length", "date",         "etag",
        "grpc-message",   "grpc-timeout", "grpc-status-details-bin",
        "last-modified",  "location",     "x-etcd-index"};

    for (size_t i = 0; i < ARRAY_LEN(secret); i++)
        if (str_eqz(name, secret[i]))
            return HPACK_NEVER;
    for (size_t i = 0; i < ARRAY_LEN(varying); i++)
        if (str_eqz(name, varying[i]))
            return HPACK_PLAIN;
    return HPACK_AUTO;
}

static void add_field(struct hpack_encoder *e, const struct hpack_field *f,
                      struct buf *out)
{
    enum hpack_how how = f->how;
    uint32_t name = 0, h = hash(f);
    uint32_t whole = how == HPACK_NEVER ? 0 : find_static(f, &name);

    if (whole == 0 && how == HPACK_AUTO)
        whole = find_dynamic(&e->table, f, h, &name);
    if (whole) {
        add_int(out, 0x80, 7, whole);
        return;
    }
    if (how == HPACK_AUTO)
        how = how_by_name(f->name);
    /* What takes more than half of the table would only push out the rest. */
    if (how == HPACK_AUTO &&
        f->name.n + f->value.n + HPACK_FIELD_COST > e->table.size_max / 2)
        how = HPACK_PLAIN;

    if (how == HPACK_AUTO)
        add_int(out, 0x40, 6, name);
    else
        add_int(out, how == HPACK_NEVER ? 0x10 : 0, 4, name);
    if (name == 0)
        add_string(out, f->name);
    add_string(out, f->value);
    if (how == HPACK_AUTO)
        table_add(&e->table, f->name, f->value, h);
}

void hpack_encode(struct hpack_encoder *e, const struct hpack_field *fields,
                  size_t n, struct buf *out)
{
    add_updates(e, out);
    for (size_t i = 0; i < n; i++)
        add_field(e, &fields[i], out);
}
