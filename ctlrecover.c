/*
 * ctlrecover.c - etcdctl recover status: what each data directory holds, how
 * they compare, and what to type next. Nothing is changed.
 *
 * WHICH ONE  Raft elects by (term of the last entry, its index): whoever is
 * ahead by that has all that a quorum can have acknowledged, if a quorum of
 * the directories is there to be compared (paper, 5.4.1). With fewer, what
 * only the lost members had is lost, and nobody can tell how much.
 *
 * SAME LOG  Equal term at one index means equal logs up to it (paper, 5.3).
 */
#include "ctl.h"

#include "ctldata.h"
#include "log.h"
#include "sys.h"

#include <inttypes.h>
#include <stdio.h>

#define LISTED_MAX 10 /* writes that are told by name */

/* A list of owned strings. */
struct texts {
    char **v;
    size_t n;
};

/* What the directories mean together. */
struct verdict {
    const struct ctl_data *best; /* NULL: none can be started */
    struct texts says;           /* sentences */
    struct texts next;           /* commands, and comments on them */
};

static void texts_add(struct texts *t, const char *fmt, ...) PRINTF(2, 3);

static void texts_add(struct texts *t, const char *fmt, ...)
{
    struct buf b = {0};
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&b, fmt, ap);
    va_end(ap);
    t->v = xrealloc(t->v, (t->n + 1) * sizeof(*t->v));
    t->v[t->n++] = buf_steal(&b);
}

static void texts_release(struct texts *t)
{
    for (size_t i = 0; i < t->n; i++)
        free(t->v[i]);
    free(t->v);
}

/* A word of a command line, quoted for the shell if need be. */
static void add_word(struct buf *b, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789_-+=.,:/@%";

    if (*word && word[strspn(word, plain)] == '\0') {
        buf_adds(b, word);
        return;
    }
    buf_addc(b, '\'');
    for (; *word; word++)
        buf_adds(b, *word == '\'' ? "'\\''" : (char[]){*word, '\0'});
    buf_addc(b, '\'');
}

/* --- One directory, as text. -------------------------------------------- */

static void add_urls(struct buf *b, char *const *urls, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf_printf(b, "%s%s", i ? "," : "", urls[i]);
}

static const char *health_name(enum ctl_health h)
{
    return h == CTL_DATA_CLEAN  ? "clean"
           : h == CTL_DATA_TORN ? "torn tail"
                                : "damaged";
}

static void print_use(const struct ctl_data *d)
{
    char who[32] = "a process";

    if (!d->in_use)
        return;
    if (d->pid > 0)
        snprintf(who, sizeof(who), "process %d", d->pid);
    printf("  in use       by %s; what it is writing now may be missing "
           "here\n",
           who);
}

static void print_ids(const struct ctl_data *d)
{
    const struct member *self = ctl_data_self(d);

    if (d->ids.node_id == 0) {
        printf("  member       not readable\n");
        return;
    }
    printf("  member       %" PRIx64, d->ids.node_id);
    if (self && *self->name)
        printf(", name %s", self->name);
    printf(", cluster %" PRIx64 "%s\n", d->ids.cluster_id,
           d->removed ? "; removed from it" : "");
}

static void print_log(const struct ctl_data *d)
{
    raft_index last = ctl_data_last_index(d);

    printf("  term         %" PRIu64 ", vote %" PRIx64 ", commit index %" PRIu64
           "\n",
           d->hard_state.term, d->hard_state.vote, d->hard_state.commit);
    printf("  log          last index %" PRIu64 " of term %" PRIu64
           ", snapshot index %" PRIu64 "; %zu segment%s, %" PRId64 " bytes\n",
           last, ctl_data_term(d, last), d->snapshot.index, d->n_segments,
           d->n_segments == 1 ? "" : "s", d->wal_bytes);
}

static void print_members(const struct ctl_data *d)
{
    for (size_t i = 0; i < d->n_members; i++) {
        const struct member *m = &d->members[i];
        struct buf b = {0};

        buf_printf(&b, "%" PRIx64 "%s: name=%s peerURLs=", m->id,
                   *m->name ? "" : "[unstarted]", m->name);
        add_urls(&b, m->peer_urls, m->n_peer_urls);
        buf_adds(&b, " clientURLs=");
        add_urls(&b, m->client_urls, m->n_client_urls);
        printf("  %-12s %s%s\n", i ? "" : "members", buf_z(&b),
               m->is_learner ? " isLearner=true" : "");
        buf_release(&b);
    }
}

static void print_last_write(const struct ctl_data *d)
{
    char when[SYS_RFC3339_MAX];

    if (d->last_key) {
        printf("  last write   %s %s, modifiedIndex %" PRIu64, d->last_action,
               d->last_key, d->last_modified);
        if (d->last_at)
            printf(", raft index %" PRIu64 " of term %" PRIu64 "\n", d->last_at,
                   d->last_at_term);
        else
            printf(", in the snapshot\n");
    }
    sys_rfc3339(when, d->changed_ns);
    printf("  last change  of the log's file: %s\n", when);
}

static void print_health(const struct ctl_data *d)
{
    if (d->note)
        printf("  snapshot     %s\n", d->note);
    printf("  health       %s", health_name(d->health));
    if (d->health == CTL_DATA_TORN)
        printf(": the next start cuts %" PRId64
               " bytes that were never acknowledged: %s",
               d->n_torn, d->problem);
    else if (d->health == CTL_DATA_DAMAGED)
        printf(": %s; above is what could be read", d->problem);
    printf("\n");
}

static void print_data(const struct ctl_data *d)
{
    printf("%s\n", d->dir);
    print_use(d);
    print_ids(d);
    print_log(d);
    print_members(d);
    printf("  keys         %" PRIu64 ", X-Etcd-Index %" PRIu64 "\n", d->keys,
           d->etcd_index);
    if (d->v3_bytes >= 0)
        printf("  v3 data      %s/db, %" PRId64 " bytes\n", d->snap_dir,
               d->v3_bytes);
    print_last_write(d);
    print_health(d);
}

/* --- One directory, as JSON. -------------------------------------------- */

static void add_u64(struct buf *b, const char *name, uint64_t v)
{
    json_add_key(b, name);
    buf_add_u64(b, v);
}

static void add_text(struct buf *b, const char *name, const char *text)
{
    json_add_key(b, name);
    json_add_string(b, str_of(text ? text : ""));
}

static void add_id(struct buf *b, const char *name, uint64_t id)
{
    json_add_key(b, name);
    buf_printf(b, "\"%" PRIx64 "\"", id);
}

static void add_bool(struct buf *b, const char *name, bool v)
{
    json_add_key(b, name);
    buf_adds(b, v ? "true" : "false");
}

static void add_strings(struct buf *b, const char *name, char *const *s,
                        size_t n)
{
    json_add_key(b, name);
    buf_addc(b, '[');
    for (size_t i = 0; i < n; i++) {
        buf_adds(b, i ? "," : "");
        json_add_string(b, str_of(s[i]));
    }
    buf_addc(b, ']');
}

static void add_members(struct buf *b, const struct ctl_data *d)
{
    json_add_key(b, "members");
    buf_addc(b, '[');
    for (size_t i = 0; i < d->n_members; i++) {
        const struct member *m = &d->members[i];

        buf_adds(b, i ? ",{" : "{");
        add_id(b, "id", m->id);
        add_text(b, "name", m->name);
        add_strings(b, "peerURLs", m->peer_urls, m->n_peer_urls);
        add_strings(b, "clientURLs", m->client_urls, m->n_client_urls);
        add_bool(b, "isLearner", m->is_learner);
        buf_addc(b, '}');
    }
    buf_addc(b, ']');
}

static void add_last_write(struct buf *b, const struct ctl_data *d)
{
    char when[SYS_RFC3339_MAX];

    if (d->last_key) {
        json_add_key(b, "lastWrite");
        buf_addc(b, '{');
        add_text(b, "action", d->last_action);
        add_text(b, "key", d->last_key);
        add_u64(b, "modifiedIndex", d->last_modified);
        add_u64(b, "raftIndex", d->last_at);
        add_u64(b, "raftTerm", d->last_at_term);
        buf_addc(b, '}');
    }
    sys_rfc3339(when, d->changed_ns);
    add_text(b, "lastChange", when);
}

static void add_data(struct buf *b, const struct ctl_data *d)
{
    const struct member *self = ctl_data_self(d);
    raft_index last = ctl_data_last_index(d);

    buf_addc(b, '{');
    add_text(b, "dir", d->dir);
    add_bool(b, "inUse", d->in_use);
    add_u64(b, "pid", (uint64_t)d->pid);
    add_id(b, "id", d->ids.node_id);
    add_text(b, "name", self ? self->name : "");
    add_id(b, "clusterId", d->ids.cluster_id);
    add_bool(b, "removed", d->removed);
    add_u64(b, "term", d->hard_state.term);
    add_id(b, "vote", d->hard_state.vote);
    add_u64(b, "commitIndex", d->hard_state.commit);
    add_u64(b, "lastIndex", last);
    add_u64(b, "lastTerm", ctl_data_term(d, last));
    add_u64(b, "snapshotIndex", d->snapshot.index);
    add_u64(b, "walSegments", d->n_segments);
    add_u64(b, "walBytes", (uint64_t)d->wal_bytes);
    add_members(b, d);
    add_u64(b, "keys", d->keys);
    add_u64(b, "etcdIndex", d->etcd_index);
    if (d->v3_bytes >= 0)
        add_u64(b, "v3Bytes", (uint64_t)d->v3_bytes);
    add_last_write(b, d);
    add_text(b, "health", health_name(d->health));
    add_u64(b, "tornBytes", (uint64_t)d->n_torn);
    add_text(b, "problem", d->problem);
    add_text(b, "note", d->note);
    buf_addc(b, '}');
}

static void print_json(const struct ctl_data *d, size_t n,
                       const struct verdict *v)
{
    struct buf b = {0};

    buf_adds(&b, "{\"directories\":[");
    for (size_t i = 0; i < n; i++) {
        buf_adds(&b, i ? "," : "");
        add_data(&b, &d[i]);
    }
    buf_addc(&b, ']');
    add_text(&b, "best", v->best ? v->best->dir : "");
    add_strings(&b, "notes", v->says.v, v->says.n);
    add_strings(&b, "next", v->next.v, v->next.n);
    buf_adds(&b, "}\n");
    fwrite(b.data, 1, b.len, stdout);
    buf_release(&b);
}

/* --- Comparing. --------------------------------------------------------- */

static bool is_usable(const struct ctl_data *d)
{
    return d->health != CTL_DATA_DAMAGED && !d->removed;
}

static bool is_member(const struct ctl_data *best, uint64_t id)
{
    for (size_t i = 0; i < best->n_members; i++)
        if (best->members[i].id == id)
            return true;
    return false;
}

/* As raft compares logs when it votes (paper, 5.4.1). */
static bool is_ahead(const struct ctl_data *a, const struct ctl_data *b)
{
    raft_index x = ctl_data_last_index(a), y = ctl_data_last_index(b);
    raft_term s = ctl_data_term(a, x), t = ctl_data_term(b, y);

    return s != t ? s > t : x > y;
}

static const struct ctl_data *most_advanced(const struct ctl_data *d, size_t n)
{
    const struct ctl_data *best = NULL;

    for (size_t i = 0; i < n; i++)
        if (is_usable(&d[i]) && (!best || is_ahead(&d[i], best)))
            best = &d[i];
    return best;
}

/* The last index up to which both logs are known to agree; 0: none. */
static raft_index agreement(const struct ctl_data *a, const struct ctl_data *b)
{
    raft_index i =
        (raft_index)min_u64(ctl_data_last_index(a), ctl_data_last_index(b));

    for (; i > 0; i--) {
        raft_term s = ctl_data_term(a, i), t = ctl_data_term(b, i);

        if (s == 0 || t == 0)
            return 0; /* a snapshot took its place */
        if (s == t)
            return i;
    }
    return 0;
}

/* Writes of a's entries behind index: how many, and the first few in b. */
static size_t list_writes(const struct ctl_data *a, raft_index index,
                          struct buf *b)
{
    size_t n = 0;

    for (size_t i = 0; i < a->n_entries; i++) {
        const char *write = a->entries[i].write;

        if (a->snapshot.index + 1 + i <= index || !write)
            continue;
        if (n++ < LISTED_MAX)
            buf_printf(b, "%s%s", n > 1 ? ", " : "", write);
    }
    if (n > LISTED_MAX)
        buf_printf(b, " and %zu more", n - LISTED_MAX);
    return n;
}

/* Entries of a behind `from`, which b lacks. */
static void tell_missing(struct verdict *v, const struct ctl_data *a,
                         const struct ctl_data *b, raft_index from,
                         const char *remark)
{
    struct buf list = {0};
    raft_index last = ctl_data_last_index(a);
    size_t n;

    if (last <= from)
        return;
    n = list_writes(a, from, &list);
    texts_add(&v->says,
              "%s lacks raft indexes %" PRIu64 " to %" PRIu64
              " of %s: %zu write%s%s%s.%s",
              b->dir, from + 1, last, a->dir, n, n == 1 ? "" : "s",
              n ? ": " : "", buf_z(&list), remark);
    buf_release(&list);
}

/* Two logs that a committed entry tells apart have two histories. */
static bool is_contradiction(const struct ctl_data *a, const struct ctl_data *b,
                             raft_index agree)
{
    raft_index both = min_u64(a->hard_state.commit, b->hard_state.commit);

    return ctl_data_term(a, agree + 1) && ctl_data_term(b, agree + 1) &&
           agree < both;
}

/* False if they are of two histories. */
static bool compare(struct verdict *v, const struct ctl_data *best,
                    const struct ctl_data *d)
{
    raft_index agree = agreement(best, d), last = ctl_data_last_index(d);

    if (is_contradiction(best, d, agree)) {
        texts_add(&v->says,
                  "%s and %s CONTRADICT each other behind index %" PRIu64
                  ", in entries that both count as committed: one of them was "
                  "started with --force-new-cluster, or restored. Decide by "
                  "the last writes above which history is to go on.",
                  best->dir, d->dir, agree);
        return false;
    }
    if (agree == 0 && last < best->snapshot.index) {
        texts_add(&v->says,
                  "%s ends at raft index %" PRIu64 ", before the snapshot of "
                  "%s, which holds all that was committed until then.",
                  d->dir, last, best->dir);
        return true;
    }
    texts_add(&v->says, "%s and %s agree up to raft index %" PRIu64 ".%s",
              best->dir, d->dir, agree,
              is_member(best, d->ids.node_id)
                  ? ""
                  : " The latter is no member of the former's cluster.");
    tell_missing(v, best, d, agree, "");
    tell_missing(v, d, best, agree,
                 " They are of an older term, and were not acknowledged as "
                 "far as these directories tell.");
    return true;
}

/* --- What to do. -------------------------------------------------------- */

/* Voters of best's cluster, and those whose directories are at hand. */
static void count_voters(const struct ctl_data *best, const struct ctl_data *d,
                         size_t n, size_t *voters, size_t *here)
{
    *voters = *here = 0;
    for (size_t i = 0; i < best->n_members; i++) {
        bool found = false;

        if (best->members[i].is_learner)
            continue;
        for (size_t k = 0; k < n; k++)
            found |=
                is_usable(&d[k]) && d[k].ids.node_id == best->members[i].id;
        *voters += 1;
        *here += found;
    }
}

static bool is_ip_url(const char *url)
{
    const char *host = strstr(url, "://");

    host = host ? host + 3 : url;
    return host[strspn(host, "0123456789.")] == ':' || *host == '[' ||
           strncmp(host, "localhost:", 10) == 0;
}

/* An etcd can listen on what it advertises only if that is an address. */
static void add_url_flags(struct buf *b, const char *listen,
                          const char *advertise, char *const *urls, size_t n)
{
    bool all = n > 0;

    if (n == 0)
        return;
    for (size_t i = 0; i < n; i++)
        all = all && is_ip_url(urls[i]);
    buf_printf(b, " %s ", listen);
    if (all)
        add_urls(b, urls, n);
    else
        buf_adds(b, "AS-BEFORE");
    buf_printf(b, " %s ", advertise);
    add_urls(b, urls, n);
}

/* If it is not inside the data directory. */
static void add_wal_dir(struct buf *b, const struct ctl_data *d)
{
    if (strncmp(d->wal_dir, d->dir, strlen(d->dir)) == 0)
        return;
    buf_adds(b, " --wal-dir ");
    add_word(b, d->wal_dir);
}

static void plan_copy(struct verdict *v, const char *dir)
{
    char *saved = xasprintf("%s.saved", dir);
    struct buf b = {0};

    buf_adds(&b, "cp -a ");
    add_word(&b, dir);
    buf_addc(&b, ' ');
    add_word(&b, saved);
    texts_add(&v->next, "%s", buf_z(&b));
    buf_release(&b);
    free(saved);
}

static char *server_command(const struct ctl_data *d)
{
    const struct member *self = ctl_data_self(d);
    struct buf b = {0};

    buf_adds(&b, "etcd --data-dir ");
    add_word(&b, d->dir);
    add_wal_dir(&b, d);
    if (self && *self->name) {
        buf_adds(&b, " --name ");
        add_word(&b, self->name);
    }
    buf_adds(&b, " --force-new-cluster");
    if (self) {
        add_url_flags(&b, "--listen-peer-urls", "--initial-advertise-peer-urls",
                      self->peer_urls, self->n_peer_urls);
        add_url_flags(&b, "--listen-client-urls", "--advertise-client-urls",
                      self->client_urls, self->n_client_urls);
    }
    return buf_steal(&b);
}

/* "--endpoints A,B": of the other members; or what is to be filled in. */
static void add_endpoints(struct buf *b, const struct ctl_data *d, bool others)
{
    size_t n = 0;

    buf_adds(b, "--endpoints ");
    for (size_t i = 0; i < d->n_members; i++) {
        const struct member *m = &d->members[i];

        if (m->n_client_urls == 0 || (m->id == d->ids.node_id) == others)
            continue;
        buf_adds(b, n++ ? "," : "");
        add_urls(b, m->client_urls, m->n_client_urls);
    }
    if (n == 0)
        buf_adds(b, "URL-OF-A-MEMBER");
}

static void plan_forced(struct verdict *v, const struct ctl_data *best)
{
    char *command = server_command(best);
    struct buf endpoints = {0};

    plan_copy(v, best->dir);
    if (strncmp(best->wal_dir, best->dir, strlen(best->dir)) != 0)
        plan_copy(v, best->wal_dir);
    texts_add(&v->next, "%s", command);
    texts_add(&v->next, "# it is well again when this says so; from the next "
                        "start on, leave --force-new-cluster away");
    add_endpoints(&endpoints, best, false);
    texts_add(&v->next, "etcdctl %s cluster-health", buf_z(&endpoints));
    if (best->n_members > 1)
        texts_add(&v->next,
                  "# then add the others, and start each, with an empty data "
                  "directory and the settings printed, before the next");
    for (size_t i = 0; i < best->n_members; i++) {
        const struct member *m = &best->members[i];

        if (m->id == best->ids.node_id || m->n_peer_urls == 0)
            continue;
        texts_add(&v->next, "etcdctl %s member add %s %s", buf_z(&endpoints),
                  *m->name ? m->name : "NAME", m->peer_urls[0]);
    }
    buf_release(&endpoints);
    free(command);
}

/* Those that can be started as members, and are not yet; to say which. */
static void list_startable(struct buf *b, const struct ctl_data *best,
                           const struct ctl_data *d, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (is_usable(&d[i]) && !d[i].in_use &&
            is_member(best, d[i].ids.node_id))
            buf_printf(b, "%s%s", b->len ? ", " : "", d[i].dir);
}

static void judge_quorum(struct verdict *v, const struct ctl_data *d, size_t n)
{
    const struct ctl_data *best = v->best;
    struct buf list = {0};
    size_t voters, here;

    count_voters(best, d, n, &voters, &here);
    if (here >= voters / 2 + 1) {
        list_startable(&list, best, d, n);
        texts_add(&v->says,
                  "The directories of %zu of %zu voting members are here and "
                  "can be started, a quorum: nothing that was acknowledged is "
                  "lost.",
                  here, voters);
        if (list.len)
            texts_add(&v->next,
                      "# start etcd as always, without --force-new-cluster, "
                      "on: %s",
                      buf_z(&list));
        buf_release(&list);
        return;
    }
    texts_add(&v->says,
              "The directories of %zu of %zu voting members are here, which "
              "is no quorum. If the others are lost for good, what they "
              "acknowledged without these, behind raft index %" PRIu64
              ", is lost with them.",
              here, voters, ctl_data_last_index(best));
    texts_add(&v->next,
              "# if the other members run, start as always. If they are lost "
              "for good: save the directory, and make a new cluster of it");
    plan_forced(v, best);
}

static void plan_rejoin(struct verdict *v, const struct ctl_data *d)
{
    struct buf b = {0};

    buf_adds(&b, "etcdctl ");
    add_endpoints(&b, d, true);
    buf_adds(&b, " recover rejoin");
    add_wal_dir(&b, d);
    if (d->ids.node_id == 0)
        buf_adds(&b, " --name NAME");
    buf_addc(&b, ' ');
    add_word(&b, d->dir);
    texts_add(&v->next,
              "# %s is damaged; once the cluster has a quorum without it, "
              "this brings the member back",
              d->dir);
    texts_add(&v->next, "%s", buf_z(&b));
    buf_release(&b);
}

static bool one_cluster(struct verdict *v, const struct ctl_data *d, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!is_usable(&d[i]) || d[i].ids.cluster_id == v->best->ids.cluster_id)
            continue;
        texts_add(&v->says,
                  "%s is of cluster %" PRIx64 ", %s of %" PRIx64
                  ": they cannot be compared. Give those of one cluster.",
                  d[i].dir, d[i].ids.cluster_id, v->best->dir,
                  v->best->ids.cluster_id);
        return false;
    }
    return true;
}

static void tell_best(struct verdict *v, size_t n)
{
    raft_index last = ctl_data_last_index(v->best);

    if (n > 1)
        texts_add(&v->says,
                  "%s is the most advanced, as raft compares: term %" PRIu64
                  ", index %" PRIu64 ".",
                  v->best->dir, ctl_data_term(v->best, last), last);
    if (last > v->best->hard_state.commit)
        texts_add(&v->says,
                  "%s: entries %" PRIu64 " to %" PRIu64 " stand behind the "
                  "commit index that was written; some may have been "
                  "acknowledged, so --force-new-cluster keeps them all.",
                  v->best->dir, v->best->hard_state.commit + 1, last);
}

static struct verdict judge(const struct ctl_data *d, size_t n)
{
    struct verdict v = {.best = most_advanced(d, n)};
    bool one_history = true;

    for (size_t i = 0; i < n; i++)
        if (d[i].in_use)
            texts_add(&v.says,
                      "%s is in use: stop that member before anything is done "
                      "to the directory.",
                      d[i].dir);
    for (size_t i = 0; i < n; i++)
        if (d[i].removed)
            texts_add(&v.says,
                      "%s was removed from its cluster and cannot come back; "
                      "etcdctl backup makes a copy with new ids.",
                      d[i].dir);
    if (!v.best) {
        texts_add(&v.says, "No directory here can be started.");
    } else if (one_cluster(&v, d, n)) {
        tell_best(&v, n);
        for (size_t i = 0; i < n; i++)
            if (&d[i] != v.best && is_usable(&d[i]))
                one_history = compare(&v, v.best, &d[i]) && one_history;
        if (one_history)
            judge_quorum(&v, d, n);
    }
    for (size_t i = 0; i < n; i++)
        if (d[i].health == CTL_DATA_DAMAGED)
            plan_rejoin(&v, &d[i]);
    return v;
}

static void print_verdict(const struct verdict *v)
{
    for (size_t i = 0; i < v->says.n; i++)
        printf("%s%s\n", i ? "" : "\n", v->says.v[i]);
    for (size_t i = 0; i < v->next.n; i++)
        printf("%s    %s\n", i ? "" : "\nNext:\n", v->next.v[i]);
}

/* --- The command. ------------------------------------------------------- */

static int report(const struct ctl_data *d, size_t n, bool as_json)
{
    struct verdict v = judge(d, n);
    int rc = 0;

    for (size_t i = 0; i < n; i++) {
        if (!as_json) {
            printf("%s", i ? "\n" : "");
            print_data(&d[i]);
        }
        if (d[i].health == CTL_DATA_DAMAGED)
            rc = CTL_NOT_HEALTHY;
    }
    if (as_json)
        print_json(d, n, &v);
    else
        print_verdict(&v);
    texts_release(&v.says);
    texts_release(&v.next);
    return rc;
}

int ctl_recover_status(struct ctl *c)
{
    const char *wal_dir = ctl_string(c, "wal-dir", "");
    const char *format = ctl_string(c, "output", "simple");
    struct ctl_data *d;
    size_t n = 0;
    struct err e;
    int rc = 0, healthy;

    if (c->n_args == 0 || (*wal_dir && c->n_args > 1))
        return ctl_say("Provide data directories; with --wal-dir, one");
    log_set_level(LOG_WARN);
    d = xcalloc(c->n_args, sizeof(*d));
    for (size_t i = 0; i < c->n_args; i++) {
        if (ctl_data_read(c->args[i], wal_dir, &d[n], &e) == 0)
            n++;
        else
            rc = ctl_say("%s", e.msg);
    }
    healthy = n ? report(d, n, strcmp(format, "json") == 0) : 0;
    for (size_t i = 0; i < n; i++)
        ctl_data_release(&d[i]);
    free(d);
    return rc ? rc : healthy;
}
