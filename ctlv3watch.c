/*
 * ctlv3watch.c - watch: events as they come, for ever, through lost connections
 * and other endpoints; one range of keys, or with -i as many as are typed.
 *
 * Each watch has a stream of its own. It notes the revision that comes next, so
 * that a new stream after a failure goes on exactly there. With -i each has a
 * thread, too, and output is one response at a time.
 */
#include "ctlv3.h"

#include "sys.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAUSE_MS 100 /* before a stream is opened anew */

struct watch {
    struct ctl *c;
    struct rpcpb_watch_create_request create; /* start_revision moves on */
    char **exec;                              /* NULL: none; ends with NULL */
    struct grpc_stream *stream;               /* output, for others */
    bool wants_progress;                      /* output; asked too early */
    struct watch *next;                       /* output; with -i: all */
};

/* With -i: taken for each response, and for the list of watches. */
static pthread_mutex_t output = PTHREAD_MUTEX_INITIALIZER;
static struct watch *watches;

/* --- Commands run by events. -------------------------------------------------------- */

static char *quoted(const char *name, struct str s)
{
    struct buf b = {0};

    buf_printf(&b, "%s=", name);
    ctl_quote(&b, s);
    return buf_steal(&b);
}

static int command_failed(char **argv, const char *why)
{
    struct buf b = {0};

    for (size_t i = 0; argv[i]; i++) {
        buf_adds(&b, i ? " " : "");
        ctl_quote(&b, str_of(argv[i]));
    }
    (void)ctl_flush();
    fprintf(stderr, "command [%s] error (%s)\n", buf_z(&b), why);
    buf_release(&b);
    return CTLV3_ERROR;
}

/* 0, or the exit code. */
static int run_command(char **argv, const struct rpcpb_watch_response *r,
                       const struct rpcpb_event *e)
{
    static const struct rpcpb_key_value none;
    const struct rpcpb_key_value *kv = e->kv ? e->kv : &none;
    int64_t revision = r->header ? r->header->revision : 0;
    char *more[] = {
        xasprintf("ETCD_WATCH_REVISION=%" PRId64, revision),
        quoted("ETCD_WATCH_EVENT_TYPE",
               str_of(msg_enum_name(&rpcpb_event_type_enum, e->type))),
        quoted("ETCD_WATCH_KEY", kv->key),
        quoted("ETCD_WATCH_VALUE", kv->value),
        NULL,
    };
    int status = 0, rc;
    struct err why;
    pid_t pid;

    rc = ctl_spawn(argv, more, &pid, &why);
    for (size_t i = 0; more[i]; i++)
        free(more[i]);
    if (rc == 0 && (waitpid(pid, &status, 0) != pid || status == 0))
        return 0;
    if (rc == 0 && WIFSIGNALED(status))
        err_set(&why, -1, "signal: %s", strsignal(WTERMSIG(status)));
    else if (rc == 0)
        err_set(&why, -1, "exit status %d", WEXITSTATUS(status));
    return command_failed(argv, why.msg);
}

/* --- One watch. ---------------------------------------------------------------------------- */

static bool is_progress(const struct rpcpb_watch_response *r)
{
    return r->events.n == 0 && !r->canceled && !r->created &&
           r->compact_revision == 0 && r->header && r->header->revision != 0;
}

/* 0: go on; else the exit code. */
static int show(struct watch *w, const struct rpcpb_watch_response *r)
{
    struct str reason = r->cancel_reason;
    int rc = 0;

    if (r->canceled) {
        if (r->compact_revision != 0)
            reason = STR("etcdserver: mvcc: required revision has been "
                         "compacted");
        else if (reason.n == 0)
            reason = STR("etcdserver: mvcc: required revision is a future "
                         "revision");
        fprintf(stderr, "watch was canceled (%.*s)\n", STR_FMT(reason));
    }
    if (is_progress(r))
        printf("progress notify: %" PRId64 "\n", r->header->revision);
    rc = ctlv3_print_watch(w->c, r);
    if (rc == 0)
        rc = ctl_flush(); /* the command's output comes behind */
    for (size_t i = 0; i < r->events.n && w->exec && rc == 0; i++)
        rc = run_command(w->exec, r, &r->events.items[i]);
    if (rc == 0 && r->canceled)
        rc = CTLV3_INTERRUPTED;
    return rc;
}

/* What comes next, should the stream break now. */
static void move_on(struct watch *w, const struct rpcpb_watch_response *r)
{
    size_t n = r->events.n;

    if (n > 0 && r->events.items[n - 1].kv)
        w->create.start_revision = r->events.items[n - 1].kv->mod_revision + 1;
    else if (r->header &&
             (is_progress(r) || (r->created && !w->create.start_revision)))
        w->create.start_revision = r->header->revision + 1;
}

static int take(struct watch *w, const struct rpcpb_watch_response *r)
{
    int rc = 0;

    pthread_mutex_lock(&output);
    move_on(w, r);
    if (!r->created || r->canceled)
        rc = show(w, r);
    pthread_mutex_unlock(&output);
    return rc;
}

static void send_progress_request(struct watch *w) /* output is held */
{
    struct rpcpb_watch_progress_request progress = {0};
    struct rpcpb_watch_request request = {.progress_request = &progress};

    ctlv3_send(w->stream, RPC_WATCH_WATCH, &request);
    w->wants_progress = false;
}

static int open_stream(struct watch *w, struct err *e)
{
    struct rpcpb_watch_request request = {.create_request = &w->create};
    struct grpc_stream *s;
    int rc = grpc_client_watch(w->c->v3->client,
                               rpc_methods[RPC_WATCH_WATCH].path.p, &s, e);

    if (rc != GRPC_OK)
        return rc;
    ctlv3_send(s, RPC_WATCH_WATCH, &request);
    pthread_mutex_lock(&output);
    w->stream = s;
    if (w->wants_progress)
        send_progress_request(w);
    pthread_mutex_unlock(&output);
    return GRPC_OK;
}

static void close_stream(struct watch *w)
{
    struct grpc_stream *s;

    pthread_mutex_lock(&output);
    s = w->stream;
    w->stream = NULL;
    pthread_mutex_unlock(&output);
    grpc_stream_close(s);
}

/* All responses of one stream. *rc is what ends the command, or 0 if the stream
 * has failed with *status. */
static void read_stream(struct watch *w, struct arena *a, int *status, int *rc,
                        struct err *e)
{
    do {
        struct rpcpb_watch_response r = {0};

        arena_reset(a);
        *status = ctlv3_receive(w->stream, RPC_WATCH_WATCH, a, &r, 0, e);
        if (*status == GRPC_OK)
            *rc = take(w, &r);
    } while (*status == GRPC_OK && *rc == 0);
}

/* Worth a new stream? */
static bool is_passing(struct watch *w, int status, const struct err *e)
{
    if (grpc_client_token_is_stale(status, e)) {
        grpc_client_logout(w->c->v3->client);
        return true;
    }
    if (status == GRPC_UNAVAILABLE)
        grpc_client_next(w->c->v3->client);
    return status == GRPC_UNAVAILABLE || status == GRPC_STREAM_END ||
           (status == GRPC_INTERNAL && strstr(e->msg, "RST_STREAM"));
}

/* 0 after a pause if a new stream is worth it, else the exit code. */
static int after_failure(struct watch *w, int status, const struct err *e)
{
    if (status == GRPC_UNAVAILABLE &&
        strcmp(e->msg, "etcdserver: no leader") == 0) {
        fprintf(stderr, "watch was canceled (%s)\n", e->msg);
        return CTLV3_INTERRUPTED;
    }
    if (!is_passing(w, status, e))
        return ctlv3_fail_status(w->c, CTLV3_ERROR, e);
    sys_sleep_ms(PAUSE_MS);
    return 0;
}

/* Until it is canceled, or fails for good. Returns the exit code. */
static int run_watch(struct watch *w)
{
    struct arena a = {.limit = SIZE_MAX / 2};
    int rc = 0, status;
    struct err e;

    do {
        status = open_stream(w, &e);
        if (status == GRPC_OK)
            read_stream(w, &a, &status, &rc, &e);
        close_stream(w);
        if (rc == 0)
            rc = after_failure(w, status, &e);
    } while (rc == 0);
    arena_release(&a);
    return rc;
}

/* --- Arguments. --------------------------------------------------------------------------------- */

static const char *environment(const char *name)
{
    const char *s = getenv(name);

    return s && s[0] ? s : NULL;
}

/* What is wrong with their number, or NULL. */
static const char *check_args(const struct ctl *c)
{
    if (c->v3->had_dash && c->v3->n_plain == c->n_args)
        return "bad number of arguments (found separator --, but no commands)";
    if (environment("ETCDCTL_WATCH_KEY") && c->v3->n_plain > 0)
        return "bad number of arguments (found conflicting environment key)";
    return NULL;
}

/* What is wrong with them, or NULL; copies into w. */
static const char *read_args(struct ctl *c, struct watch *w)
{
    const char *key = environment("ETCDCTL_WATCH_KEY");
    const char *end = environment("ETCDCTL_WATCH_RANGE_END");
    size_t n = c->v3->n_plain;
    struct ctlv3_range range;

    if (!key && n < 1)
        return "bad number of arguments";
    if (!key) { /* of more than two etcdctl takes the first alone */
        key = c->args[0];
        end = n == 2 ? c->args[1] : NULL;
    }
    if (end && ctl_bool(c, "prefix"))
        return "`range_end` and `--prefix` are mutually exclusive";
    range = ctlv3_range_of(c, key, end, ctl_bool(c, "prefix"), false);
    if (range.key.n == 0)
        range.key = STR("\0");
    w->create.key = range.key;
    w->create.range_end = range.end;
    w->create.start_revision = ctl_int(c, "rev", 0);
    w->create.prev_kv = ctl_bool(c, "prev-kv");
    w->create.progress_notify = ctl_bool(c, "progress-notify");
    w->exec = c->v3->had_dash ? c->args + n : NULL;
    return NULL;
}

/* --- Interactive. -------------------------------------------------------------------------------- */

/* A line of -i, which lives as long as its watch: for ever. */
struct typed {
    struct ctlv3_words words;
    struct ctl sub;
    struct watch watch;
};

static void free_typed(struct typed *t)
{
    ctlv3_sub_release(&t->sub);
    ctlv3_words_release(&t->words);
    free(t);
}

static void *watch_thread(void *arg)
{
    struct typed *t = arg;
    struct watch **at;

    if (run_watch(&t->watch) == CTLV3_BAD_FEATURE)
        _exit(CTLV3_BAD_FEATURE); /* in that format nothing can be shown */
    pthread_mutex_lock(&output);
    for (at = &watches; *at != &t->watch; at = &(*at)->next)
        assert(*at);
    *at = t->watch.next;
    pthread_mutex_unlock(&output);
    free_typed(t);
    return NULL;
}

/* With watches under way, which nobody can join. */
static _Noreturn void end_at_once(int code, const char *why)
{
    (void)ctlv3_fail(code, "%s", why);
    (void)ctl_flush();
    _exit(code);
}

static void start_typed(struct ctl *c, struct ctlv3_words *words,
                        struct str line)
{
    struct typed *t = xcalloc(1, sizeof(*t));
    struct ctlv3_words rest;
    const char *why;
    char *bad;

    t->words = *words;
    *words = (struct ctlv3_words){0};
    rest = (struct ctlv3_words){t->words.words + 1, t->words.n - 1};
    bad = ctlv3_sub_parse(c, "watch", &rest, &t->sub);
    why = bad ? bad : check_args(&t->sub);
    if (why)
        end_at_once(CTLV3_BAD_ARGS, why);
    t->watch.c = c;
    why = read_args(&t->sub, &t->watch);
    if (why) {
        fprintf(stderr, "Invalid command %.*s (%s)\n", STR_FMT(line), why);
        free_typed(t);
        return;
    }
    pthread_mutex_lock(&output);
    t->watch.next = watches;
    watches = &t->watch;
    pthread_mutex_unlock(&output);
    if (sys_thread_detached(SYS_STACK_LARGE, watch_thread, t) != 0)
        fprintf(stderr, "Invalid command %.*s (out of threads)\n",
                STR_FMT(line));
}

static void ask_progress(void)
{
    pthread_mutex_lock(&output);
    for (struct watch *w = watches; w; w = w->next) {
        w->wants_progress = true; /* else when it is open */
        if (w->stream)
            send_progress_request(w);
    }
    pthread_mutex_unlock(&output);
}

static void take_line(struct ctl *c, struct str line)
{
    struct ctlv3_words words;

    ctlv3_split(&words, line);
    if (words.n == 1 && strcmp(words.words[0], "progress") == 0)
        ask_progress();
    else if (words.n == 0)
        fprintf(stderr,
                "Invalid command: %.*s (watch and progress supported)\n",
                STR_FMT(line));
    else if (strcmp(words.words[0], "watch") != 0)
        fprintf(stderr, "Invalid command %.*s (only support watch)\n",
                STR_FMT(line));
    else if (words.n < 2 && !environment("ETCDCTL_WATCH_KEY"))
        fprintf(stderr,
                "Invalid command %.*s (command type or key is not "
                "provided)\n",
                STR_FMT(line));
    else
        start_typed(c, &words, line);
    ctlv3_words_release(&words);
}

static _Noreturn void interactive(struct ctl *c)
{
    struct buf line = {0};
    int ch;

    while ((ch = getchar()) != EOF) {
        if (ch != '\n') {
            buf_addc(&line, (char)ch);
            continue;
        }
        take_line(c, buf_str(&line));
        buf_clear(&line);
    }
    buf_release(&line);
    end_at_once(CTLV3_INVALID_INPUT, "Error reading watch request line: EOF");
}

int ctlv3_watch(struct ctl *c)
{
    const char *end = environment("ETCDCTL_WATCH_RANGE_END");
    struct watch w = {.c = c};
    const char *why;
    int rc;

    if (end && !environment("ETCDCTL_WATCH_KEY"))
        return ctlv3_fail(CTLV3_BAD_ARGS,
                          "ETCDCTL_WATCH_KEY is empty but got "
                          "ETCDCTL_WATCH_RANGE_END=\"%s\"",
                          end);
    if (ctl_bool(c, "interactive")) {
        rc = ctlv3_connect(c);
        if (rc != 0)
            return rc;
        interactive(c);
    }
    why = check_args(c);
    if (!why)
        why = read_args(c, &w);
    if (why)
        return ctlv3_fail(CTLV3_BAD_ARGS, "%s", why);
    rc = ctlv3_connect(c);
    if (rc == 0)
        rc = run_watch(&w);
    if (rc == CTLV3_INTERRUPTED)
        rc = ctlv3_fail(rc, "watch is canceled by the server");
    return rc;
}
