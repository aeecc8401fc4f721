/*
 * storesnap.c - the v2 store's state to JSON and back.
 *
 * FORMAT (etcd's own, every field always there, in this order)
 *
 *   {"Root": NODE,
 *    "WatcherHub": {"EventHistory": {
 *        "Queue": {"Events": [EVENT or null, 1,000 times],
 *                  "Size": n, "Front": n, "Back": n, "Capacity": 1000},
 *        "StartIndex": n, "LastIndex": n}},
 *    "CurrentIndex": n, "Stats": {...}, "CurrentVersion": 2}
 *
 *   NODE = {"Path", "CreatedIndex", "ModifiedIndex", "ExpireTime", "Value",
 *           "Children": null for a file, else {name: NODE, ...} by name}
 *
 * What etcd wrote is written again byte for byte. Like etcd, JSON cannot hold
 * bytes that are not UTF-8: they come back as U+FFFD.
 *
 * Both directions work without recursion and without a copy of the document:
 * the writer gives pieces to a sink, the reader takes tokens. A snapshot comes
 * from a disk or a peer, so nothing in it is trusted.
 */
#include "storesnap.h"

#include "json.h"
#include "sys.h"

#include <stddef.h>

#define PIECE_SIZE (64 * 1024)
#define NO_TIME "0001-01-01T00:00:00Z" /* Go's zero time: permanent */

#define ADD(b, literal) buf_add(b, literal, sizeof(literal) - 1)

static const struct {
    const char *name;
    size_t offset; /* in struct store_counters */
} stats[] = {
    {"getsSuccess", offsetof(struct store_counters, get[0])},
    {"getsFail", offsetof(struct store_counters, get[1])},
    {"setsSuccess", offsetof(struct store_counters, set[0])},
    {"setsFail", offsetof(struct store_counters, set[1])},
    {"deleteSuccess", offsetof(struct store_counters, delete_[0])},
    {"deleteFail", offsetof(struct store_counters, delete_[1])},
    {"updateSuccess", offsetof(struct store_counters, update[0])},
    {"updateFail", offsetof(struct store_counters, update[1])},
    {"createSuccess", offsetof(struct store_counters, create[0])},
    {"createFail", offsetof(struct store_counters, create[1])},
    {"compareAndSwapSuccess", offsetof(struct store_counters, cas[0])},
    {"compareAndSwapFail", offsetof(struct store_counters, cas[1])},
    {"compareAndDeleteSuccess", offsetof(struct store_counters, cad[0])},
    {"compareAndDeleteFail", offsetof(struct store_counters, cad[1])},
    {"expireCount", offsetof(struct store_counters, expired)},
};

void storesnap_release(struct store_state *state)
{
    trie_unref(state->root);
    state->root = NULL;
    event_history_release(&state->history);
}

/* --- Writing. ------------------------------------------------------------ */

struct writer {
    struct buf b;
    struct buf path; /* of the open directory, escaped; "" for the root */
    struct trie_walk walk;
    bool comma; /* due before the next child */
    store_sink *sink;
    void *arg;
    int rc;
};

static void flush(struct writer *w, size_t at_least)
{
    if (w->rc != 0 || w->b.len < at_least)
        return;
    w->rc = w->sink(w->arg, w->b.data, w->b.len);
    buf_clear(&w->b);
}

static void add_number(struct buf *b, const char *name, uint64_t v)
{
    json_add_key(b, name);
    buf_add_u64(b, v);
}

void storesnap_add_stats(struct buf *b, const struct store_counters *c,
                         uint64_t watchers)
{
    buf_addc(b, '{');
    for (size_t i = 0; i < ARRAY_LEN(stats); i++) {
        uint64_t v;

        memcpy(&v, (const char *)c + stats[i].offset, sizeof(v));
        add_number(b, stats[i].name, v);
    }
    add_number(b, "watchers", watchers);
    buf_addc(b, '}');
}

/* Go would write U+FFFD for what is no UTF-8. But then a member that starts
 * from this would hold another value, or one key for two, than the others do.
 * Go's reader sees U+FFFD all the same. */
static void add_raw_string(struct buf *b, struct str s)
{
    json_add_quoted(b, s, true);
}

static void add_time(struct buf *b, int64_t ns)
{
    char text[SYS_RFC3339_MAX];

    if (ns == 0)
        ADD(b, NO_TIME);
    else
        buf_add(b, text, sys_rfc3339(text, ns));
}

/* A node whose path is w->path. A directory is entered, and left open. */
static void write_node(struct writer *w, const struct trie_node *n)
{
    struct buf *b = &w->b;

    ADD(b, "{\"Path\":\"");
    if (w->path.len)
        buf_addstr(b, buf_str(&w->path));
    else
        buf_addc(b, '/');
    ADD(b, "\",\"CreatedIndex\":");
    buf_add_u64(b, trie_created(n));
    ADD(b, ",\"ModifiedIndex\":");
    buf_add_u64(b, trie_modified(n));
    ADD(b, ",\"ExpireTime\":\"");
    add_time(b, trie_expire_ns(n));
    ADD(b, "\",\"Value\":");
    add_raw_string(b, blob_str(trie_value(n)));
    if (!trie_is_dir(n)) {
        ADD(b, ",\"Children\":null}");
        w->comma = true;
        return;
    }
    ADD(b, ",\"Children\":{");
    trie_walk_enter(&w->walk, n, TRIE_SORTED);
    w->comma = false;
}

static void pop_name(struct buf *path)
{
    while (path->len > 0 && path->data[--path->len] != '/')
        ;
}

static void write_child(struct writer *w, const struct trie_node *n)
{
    if (w->comma)
        buf_addc(&w->b, ',');
    flush(w, PIECE_SIZE);
    add_raw_string(&w->b, trie_name(n));
    buf_addc(&w->b, ':');
    buf_addc(&w->path, '/');
    json_add_escaped(&w->path, trie_name(n), true);
    write_node(w, n);
    if (!trie_is_dir(n))
        pop_name(&w->path);
}

static void write_tree(struct writer *w, const struct trie_node *root)
{
    const struct trie_node *n;

    write_node(w, root);
    while (trie_walk_dir(&w->walk) && w->rc == 0) {
        n = trie_walk_next(&w->walk);
        if (n) {
            write_child(w, n);
            continue;
        }
        trie_walk_leave(&w->walk);
        pop_name(&w->path);
        ADD(&w->b, "}}");
        w->comma = true;
    }
}

static void write_history(struct writer *w, const struct event_history *h)
{
    struct buf *b = &w->b;

    ADD(b, "{\"EventHistory\":{\"Queue\":{\"Events\":[");
    for (size_t i = 0; i < STORE_HISTORY_MAX; i++) {
        if (i > 0)
            buf_addc(b, ',');
        if (h->slots[i])
            event_add_json(b, h->slots[i]);
        else
            ADD(b, "null");
        flush(w, PIECE_SIZE);
    }
    buf_addc(b, ']');
    ADD(b, ",\"Size\":");
    buf_add_u64(b, h->size);
    add_number(b, "Front", h->front);
    add_number(b, "Back", h->back);
    add_number(b, "Capacity", STORE_HISTORY_MAX);
    buf_addc(b, '}');
    add_number(b, "StartIndex", h->start_index);
    add_number(b, "LastIndex", h->last_index);
    ADD(b, "}}");
}

int storesnap_write(const struct store_state *state, store_sink *sink,
                    void *arg)
{
    struct writer w = {.sink = sink, .arg = arg};

    ADD(&w.b, "{\"Root\":");
    write_tree(&w, state->root);
    ADD(&w.b, ",\"WatcherHub\":");
    if (w.rc == 0)
        write_history(&w, &state->history);
    ADD(&w.b, ",\"CurrentIndex\":");
    buf_add_u64(&w.b, state->index);
    ADD(&w.b, ",\"Stats\":");
    storesnap_add_stats(&w.b, &state->counters, 0);
    ADD(&w.b, ",\"CurrentVersion\":2}");
    flush(&w, 0);
    trie_walk_release(&w.walk);
    buf_release(&w.path);
    buf_release(&w.b);
    return w.rc;
}

/* --- Reading: tokens and scalars. ---------------------------------------- */

/* A node of the tree that is not complete yet. */
struct frame {
    size_t name_at; /* its name is names[name_at..) to the next frame's */
    uint64_t modified, created;
    int64_t expire_ns;
    struct trie_node *dir; /* its children so far; NULL: perhaps a file */
    bool in_children;
};

/* A node of an event. */
struct event_node {
    struct buf key, value;
    uint64_t modified, created;
    int64_t expire_ns, ttl;
    bool there, dir, has_value;
};

struct reader {
    struct json_reader json;
    struct err parse; /* what json.c says */
    struct err *e;    /* what we say */
    struct frame *frames;
    size_t n_frames, cap_frames;
    struct buf names; /* of all open frames */
    struct buf value; /* of the innermost */
    struct event_node node, prev;
    struct store_event **events; /* all slots, whatever their number */
    size_t n_events, cap_events;
};

static int fail(struct reader *r, const char *what)
{
    return err_set(r->e, -1, "v2 store snapshot: %s at byte %zu", what,
                   r->json.at);
}

static int next_token(struct reader *r, struct str *text)
{
    int token = json_read(&r->json, text);

    return token < 0 ? fail(r, r->parse.msg) : token;
}

/* The value must begin so. 0, or the error. */
static int expect(struct reader *r, int token, const char *what)
{
    struct str text;
    int got = next_token(r, &text);

    if (got < 0)
        return got;
    return got == token ? 0 : fail(r, what);
}

static int expect_object(struct reader *r)
{
    return expect(r, JSON_READ_OBJECT, "expected an object");
}

/* The next member's name: 1; the end of the object: 0; or the error. */
static int next_member(struct reader *r, struct str *name)
{
    int token = next_token(r, name);

    if (token == JSON_READ_NAME)
        return 1;
    if (token == JSON_READ_OBJECT_END)
        return 0;
    return token < 0 ? token : fail(r, "expected a member");
}

static int skip(struct reader *r)
{
    return json_skip(&r->json) < 0 ? fail(r, r->parse.msg) : 0;
}

static int read_u64(struct reader *r, uint64_t *out)
{
    struct str text;
    int token = next_token(r, &text);

    if (token < 0)
        return token;
    if (token != JSON_READ_NUMBER || !str_to_u64(text, out))
        return fail(r, "expected a number from 0 up");
    return 0;
}

static int read_i64(struct reader *r, int64_t *out)
{
    struct str text;
    int token = next_token(r, &text);

    if (token < 0)
        return token;
    if (token != JSON_READ_NUMBER || !str_to_i64(text, out))
        return fail(r, "expected a number");
    return 0;
}

static int read_bool(struct reader *r, bool *out)
{
    struct str text;
    int token = next_token(r, &text);

    if (token < 0)
        return token;
    if (token != JSON_READ_TRUE && token != JSON_READ_FALSE)
        return fail(r, "expected true or false");
    *out = token == JSON_READ_TRUE;
    return 0;
}

static int read_text(struct reader *r, struct buf *out)
{
    struct str text;
    int token = next_token(r, &text);

    if (token < 0)
        return token;
    if (token != JSON_READ_STRING || text.n > TRIE_VALUE_MAX)
        return fail(r, "expected a string");
    buf_clear(out);
    buf_addstr(out, text);
    return 0;
}

static int read_time(struct reader *r, int64_t *out)
{
    struct str text;
    int token = next_token(r, &text);

    if (token < 0)
        return token;
    if (token == JSON_READ_STRING && str_eqz(text, NO_TIME))
        *out = 0;
    else if (token != JSON_READ_STRING || !sys_parse_rfc3339(text, out))
        return fail(r, "expected a time");
    return 0;
}

/* --- Reading the tree. --------------------------------------------------- */

static struct frame *top(struct reader *r)
{
    return &r->frames[r->n_frames - 1];
}

/* A node begins. */
static int push_frame(struct reader *r, struct str name)
{
    bool is_root = r->n_frames == 0;

    if (!is_root &&
        (name.n == 0 || name.n > TRIE_NAME_MAX || memchr(name.p, '/', name.n)))
        return fail(r, "bad name of a key");
    if (r->n_frames == r->cap_frames) {
        r->cap_frames = r->cap_frames ? r->cap_frames * 2 : 16;
        r->frames = xrealloc(r->frames, r->cap_frames * sizeof(*r->frames));
    }
    r->frames[r->n_frames++] = (struct frame){.name_at = r->names.len};
    buf_addstr(&r->names, name);
    buf_clear(&r->value);
    return expect_object(r);
}

/* A node ends: it goes into its parent, or is the root. */
static int pop_frame(struct reader *r, struct store_state *out)
{
    struct frame *f = top(r);
    struct str name = buf_str(&r->names);
    struct trie_node *n = f->dir;

    name.p += f->name_at;
    name.n -= f->name_at;
    if (n)
        trie_stamp_dir(n, f->modified, f->created, f->expire_ns);
    else
        n = trie_file(name, buf_str(&r->value), f->modified, f->created,
                      f->expire_ns);
    f->dir = NULL;
    r->n_frames--;
    if (r->n_frames > 0) {
        trie_put(top(r)->dir, trie_key(name), n);
    } else {
        trie_unref(out->root);
        out->root = n;
    }
    r->names.len = f->name_at;
    return 0;
}

static int begin_children(struct reader *r)
{
    struct frame *f = top(r);
    struct str text, name = buf_str(&r->names);
    int token = next_token(r, &text);

    if (token < 0 || token == JSON_READ_NULL)
        return token < 0 ? token : 0;
    if (token != JSON_READ_OBJECT || f->dir)
        return fail(r, "expected the children of a directory");
    name.p += f->name_at;
    name.n -= f->name_at;
    f->dir = trie_dir(name, 0, 0, 0);
    f->in_children = true;
    return 0;
}

static int read_field(struct reader *r, struct str name)
{
    struct frame *f = top(r);

    if (str_eqz(name, "CreatedIndex"))
        return read_u64(r, &f->created);
    if (str_eqz(name, "ModifiedIndex"))
        return read_u64(r, &f->modified);
    if (str_eqz(name, "ExpireTime"))
        return read_time(r, &f->expire_ns);
    if (str_eqz(name, "Value"))
        return read_text(r, &r->value);
    if (str_eqz(name, "Children"))
        return begin_children(r);
    return skip(r); /* Path: the names say it already */
}

static int read_tree(struct reader *r, struct store_state *out)
{
    struct str name;
    int rc = push_frame(r, (struct str){"", 0});

    while (rc == 0 && r->n_frames > 0) {
        int more = next_member(r, &name);

        if (more < 0)
            rc = more;
        else if (more && top(r)->in_children)
            rc = push_frame(r, name);
        else if (more)
            rc = read_field(r, name);
        else if (top(r)->in_children)
            top(r)->in_children = false;
        else
            rc = pop_frame(r, out);
    }
    return rc;
}

/* --- Reading the history. ------------------------------------------------ */

static int read_event_node(struct reader *r, struct event_node *n)
{
    struct str name;
    int rc = expect_object(r), more = 1;

    n->there = true;
    while (rc == 0 && (more = next_member(r, &name)) > 0) {
        if (str_eqz(name, "key")) {
            rc = read_text(r, &n->key);
        } else if (str_eqz(name, "value")) {
            n->has_value = true;
            rc = read_text(r, &n->value);
        } else if (str_eqz(name, "dir")) {
            rc = read_bool(r, &n->dir);
        } else if (str_eqz(name, "expiration")) {
            rc = read_time(r, &n->expire_ns);
        } else if (str_eqz(name, "ttl")) {
            rc = read_i64(r, &n->ttl);
        } else if (str_eqz(name, "modifiedIndex")) {
            rc = read_u64(r, &n->modified);
        } else if (str_eqz(name, "createdIndex")) {
            rc = read_u64(r, &n->created);
        } else {
            rc = skip(r);
        }
    }
    return rc < 0 ? rc : more;
}

static void clear_event_node(struct event_node *n)
{
    struct buf key = n->key, value = n->value;

    buf_clear(&key);
    buf_clear(&value);
    *n = (struct event_node){.key = key, .value = value};
}

/* Nameless, for the event has the path; NULL if nothing is left. */
static struct trie_node *to_trie_node(const struct event_node *n)
{
    struct str name = {"", 0};

    if (n->dir)
        return trie_dir(name, n->modified, n->created, n->expire_ns);
    if (n->has_value)
        return trie_file(name, buf_str(&n->value), n->modified, n->created,
                         n->expire_ns);
    return NULL;
}

static bool find_action(struct str name, enum store_action *out)
{
    for (int a = STORE_GET; a <= STORE_EXPIRE; a++) {
        if (str_eqz(name, store_action_name((enum store_action)a))) {
            *out = (enum store_action)a;
            return true;
        }
    }
    return false;
}

static struct store_event *make_event(const struct reader *r,
                                      enum store_action action, bool refresh)
{
    const struct event_node *n = &r->node, *p = &r->prev;
    bool deletes = action == STORE_DELETE || action == STORE_EXPIRE;
    struct store_event *e = event_new(
        action, buf_str(&n->key), n->modified, n->created,
        deletes ? NULL : to_trie_node(n), p->there ? to_trie_node(p) : NULL, 0);

    e->dir = n->dir;
    e->ttl = n->ttl;
    e->prev_ttl = p->ttl;
    e->refresh = refresh;
    return e;
}

/* After an event's brace. */
static int read_event(struct reader *r, struct store_event **out)
{
    enum store_action action = STORE_GET;
    bool refresh = false;
    struct str name, text;
    int rc = 0, more = 1;

    clear_event_node(&r->node);
    clear_event_node(&r->prev);
    while (rc == 0 && (more = next_member(r, &name)) > 0) {
        if (str_eqz(name, "action")) {
            rc = next_token(r, &text);
            if (rc >= 0)
                rc = find_action(text, &action) ? 0 : fail(r, "bad action");
        } else if (str_eqz(name, "node")) {
            rc = read_event_node(r, &r->node);
        } else if (str_eqz(name, "prevNode")) {
            rc = read_event_node(r, &r->prev);
        } else if (str_eqz(name, "refresh")) {
            rc = read_bool(r, &refresh);
        } else {
            rc = skip(r);
        }
    }
    if (rc < 0 || more < 0)
        return -1;
    if (r->node.key.len == 0 || r->node.key.data[0] != '/' ||
        action == STORE_GET)
        return fail(r, "bad event");
    *out = make_event(r, action, refresh);
    return 0;
}

static int read_events(struct reader *r)
{
    struct str text;
    int rc = expect(r, JSON_READ_ARRAY, "expected an array"), token;

    while (rc == 0) {
        struct store_event *e = NULL;

        token = next_token(r, &text);
        if (token < 0 || token == JSON_READ_ARRAY_END)
            return token < 0 ? token : 0;
        if (token == JSON_READ_OBJECT)
            rc = read_event(r, &e);
        else if (token != JSON_READ_NULL)
            rc = fail(r, "expected an event or null");
        if (rc < 0)
            break;
        if (r->n_events == r->cap_events) {
            r->cap_events = r->cap_events ? r->cap_events * 2 : 1024;
            r->events = xrealloc(r->events, r->cap_events * sizeof(*r->events));
        }
        r->events[r->n_events++] = e;
    }
    return rc;
}

/* The ring as it stood, if it has our size; else its events, oldest first. */
static int fill_history(struct reader *r, uint64_t size, uint64_t front,
                        struct event_history *h)
{
    if (h->size > 0 || size > r->n_events || (size > 0 && front >= r->n_events))
        return fail(r, "bad event history");
    if (r->n_events == STORE_HISTORY_MAX)
        h->front = h->back = (uint32_t)front;
    for (uint64_t i = 0; i < size; i++) {
        struct store_event **e = &r->events[(front + i) % r->n_events];

        if (!*e)
            return fail(r, "missing event");
        event_history_add(h, *e);
        *e = NULL;
    }
    return 0;
}

static int read_queue(struct reader *r, struct event_history *h)
{
    uint64_t size = 0, front = 0;
    struct str name;
    int rc = expect_object(r), more = 1;

    while (rc == 0 && (more = next_member(r, &name)) > 0) {
        if (str_eqz(name, "Events"))
            rc = r->events ? fail(r, "two histories") : read_events(r);
        else if (str_eqz(name, "Size"))
            rc = read_u64(r, &size);
        else if (str_eqz(name, "Front"))
            rc = read_u64(r, &front);
        else
            rc = skip(r); /* Back and Capacity follow from the others */
    }
    if (rc < 0 || more < 0)
        return -1;
    return fill_history(r, size, front, h);
}

/* "EventHistory" stands in "WatcherHub", and "Queue" in it. */
static int read_hub(struct reader *r, struct event_history *h)
{
    struct str name;
    int rc = expect_object(r), more = 1, depth = 1;

    while (rc == 0 && depth > 0 && (more = next_member(r, &name)) >= 0) {
        if (!more) {
            depth--;
        } else if (depth == 1 && str_eqz(name, "EventHistory")) {
            rc = expect_object(r);
            depth++;
        } else if (depth == 2 && str_eqz(name, "Queue")) {
            rc = read_queue(r, h);
        } else {
            rc = skip(r); /* StartIndex, LastIndex: the events have them */
        }
    }
    return rc < 0 ? rc : more;
}

static int read_stats(struct reader *r, struct store_counters *c)
{
    struct str name;
    int rc = expect_object(r), more = 1;

    while (rc == 0 && (more = next_member(r, &name)) > 0) {
        uint64_t v;
        size_t i = 0;

        while (i < ARRAY_LEN(stats) && !str_eqz(name, stats[i].name))
            i++;
        if (i == ARRAY_LEN(stats)) {
            rc = skip(r);
            continue;
        }
        rc = read_u64(r, &v);
        if (rc == 0)
            memcpy((char *)c + stats[i].offset, &v, sizeof(v));
    }
    return rc < 0 ? rc : more;
}

/* --- Reading all of it. -------------------------------------------------- */

static int read_document(struct reader *r, struct store_state *out)
{
    struct str name;
    int rc = expect_object(r), more = 1;

    while (rc == 0 && (more = next_member(r, &name)) > 0) {
        if (str_eqz(name, "Root"))
            rc = read_tree(r, out);
        else if (str_eqz(name, "WatcherHub"))
            rc = read_hub(r, &out->history);
        else if (str_eqz(name, "CurrentIndex"))
            rc = read_u64(r, &out->index);
        else if (str_eqz(name, "Stats"))
            rc = read_stats(r, &out->counters);
        else
            rc = skip(r);
    }
    if (rc < 0 || more < 0)
        return -1;
    if (expect(r, JSON_READ_END, "expected the end") < 0)
        return -1;
    if (!out->root || !trie_is_dir(out->root))
        return fail(r, "there is no Root directory");
    return 0;
}

static void release_reader(struct reader *r)
{
    for (size_t i = 0; i < r->n_frames; i++)
        trie_unref(r->frames[i].dir);
    for (size_t i = 0; i < r->n_events; i++)
        store_event_unref(r->events[i]);
    free(r->frames);
    free(r->events);
    buf_release(&r->names);
    buf_release(&r->value);
    buf_release(&r->node.key);
    buf_release(&r->node.value);
    buf_release(&r->prev.key);
    buf_release(&r->prev.value);
    json_reader_release(&r->json);
}

int storesnap_read(const void *json, size_t n, struct store_state *out,
                   struct err *e)
{
    struct reader r = {.e = e};
    int rc;

    /* No bound on depth but the input: a level costs a bit and a frame. */
    json_reader_init(&r.json, json, n, SIZE_MAX, &r.parse);
    r.json.raw = true;
    rc = read_document(&r, out);
    release_reader(&r);
    return rc;
}
