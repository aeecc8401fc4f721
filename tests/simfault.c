/*
 * simfault.c - what goes wrong in a run: the network, the processes, the disks,
 * and, at the same time, what operators do: they restart, add, promote, remove
 * members, and move leadership. At last, when no more goes wrong, all must be
 * well again.
 */
#include "sim.h"

#include <inttypes.h>
#include <stdio.h>

static int running;
static struct sim_queue ended;
static bool healing;

/* Requests of operators come from here: no partition separates it. */
#define OPERATOR (&sim.hosts[0])

static struct host *pick_host(bool (*want)(const struct host *h))
{
    struct host *found[HOSTS_MAX];
    size_t n = 0;

    for (int i = 1; i <= HOSTS_MAX; i++)
        if (want(&sim.hosts[i]))
            found[n++] = &sim.hosts[i];
    return n ? found[sim_below(n)] : NULL;
}

static bool is_running(const struct host *h)
{
    return h->proc && !h->proc->paused;
}

static bool is_serving(const struct host *h)
{
    return is_running(h) && h->state >= HOST_SERVING;
}

static bool is_ready(const struct host *h)
{
    return is_running(h) && h->state == HOST_READY;
}

static bool knows_members(const struct host *h)
{
    return is_serving(h) && check_knows_members(h->server);
}

static bool is_free(const struct host *h)
{
    return !h->in_use && !h->proc;
}

/* --- The network. ------------------------------------------------------- */

static void isolate(int n)
{
    int how = (int)sim_below(3); /* both ways, or one */

    TRACE(0, "m%d is cut off%s", n,
          how == 0   ? ""
          : how == 1 ? ", it cannot send"
                     : ", it cannot receive");
    for (int i = 1; i <= HOSTS_MAX; i++) {
        if (i == n)
            continue;
        if (how != 2)
            net_cut(n, i, true);
        if (how != 1)
            net_cut(i, n, true);
    }
}

static void split(void)
{
    unsigned side = (unsigned)sim_below(1 << HOSTS_MAX);

    TRACE(0, "the network splits: %x", side);
    for (int a = 1; a <= HOSTS_MAX; a++)
        for (int b = 1; b <= HOSTS_MAX; b++)
            if ((side >> (a - 1) & 1) != (side >> (b - 1) & 1))
                net_cut(a, b, true);
}

static void cut_links(void)
{
    for (int i = 0; i < 4; i++) {
        int a = (int)sim_between(1, HOSTS_MAX),
            b = (int)sim_between(1, HOSTS_MAX);

        if (a != b) {
            TRACE(0, "the link from m%d to m%d is cut", a, b);
            net_cut(a, b, true);
        }
    }
}

static struct host *leader(void);

static void trouble_network(void)
{
    struct host *h = sim_chance(500) ? leader() : pick_host(is_running);

    switch (sim_below(4)) {
    case 0:
        if (h)
            isolate(h->n);
        break;
    case 1:
        split();
        break;
    case 2:
        cut_links();
        break;
    default:
        sim.slow_host = h ? h->n : 0;
    }
    sim_sleep(sim_between(SIM_S / 5, 5 * SIM_S));
    TRACE(0, "the network is whole");
    net_heal();
}

/* --- Processes. --------------------------------------------------------- */

static struct host *leader(void)
{
    for (int i = 1; i <= HOSTS_MAX; i++)
        if (is_serving(&sim.hosts[i]) &&
            sim.hosts[i].server->role == RAFT_LEADER)
            return &sim.hosts[i];
    return pick_host(is_running);
}

static void crash_all(void)
{
    TRACE(0, "the power fails everywhere");
    for (int i = 1; i <= HOSTS_MAX; i++)
        host_crash(&sim.hosts[i], true);
}

static void trouble_processes(void)
{
    struct host *h = sim_chance(300) ? leader() : pick_host(is_running);

    if (!h)
        return;
    switch (sim_below(8)) {
    case 0:
        if (h->state == HOST_READY)
            host_stop(h);
        break;
    case 1:
    case 2:
        h->crash_in = (int)sim_between(1, 40);
        break;
    case 3:
        if (sim_chance(300)) {
            crash_all();
            break;
        }
        /* fall through */
    case 4:
        host_crash(h, false);
        break;
    default:
        host_crash(h, true);
    }
}

static void trouble_pauses(void)
{
    struct host *h = sim_chance(500) ? leader() : pick_host(is_running);
    struct sim_proc *life = h ? h->proc : NULL;

    if (!life)
        return;
    TRACE(h->n, "pauses");
    sim.count.pauses++;
    sim_pause(life);
    sim_sleep(sim_between(SIM_S / 10, 4 * SIM_S));
    if (h->proc == life)
        TRACE(h->n, "goes on");
    if (!life->dead)
        sim_resume(life);
}

/* --- Disks. ------------------------------------------------------------- */

static void trouble_speed(void)
{
    struct host *h = pick_host(is_running);

    if (!h)
        return;
    h->sync_ns_max = sim_between(5 * SIM_MS, 800 * SIM_MS);
    TRACE(h->n, "has a slow disk");
    sim_sleep(sim_between(SIM_S, 8 * SIM_S));
    h->sync_ns_max = SIM_MS;
}

static uint64_t bytes_used(const struct host *h)
{
    char **paths;
    size_t n = simdisk_list(h->disk, &paths), size;
    uint64_t used = 0;

    for (size_t i = 0; i < n; i++) {
        if (simdisk_bytes(h->disk, paths[i], &size))
            used += size;
        free(paths[i]);
    }
    free(paths);
    return used;
}

static void trouble_disk(void)
{
    struct host *h = pick_host(is_running);

    if (!h)
        return;
    h->disk_failing = true;
    if (sim_chance(500)) {
        simdisk_set_capacity(h->disk, bytes_used(h) + sim_below(20000));
        TRACE(h->n, "its disk is full");
    } else {
        TRACE(h->n, "its disk fails");
    }
    sim_sleep(sim_between(SIM_S, 5 * SIM_S));
    simdisk_set_capacity(h->disk, 0);
    /* What it met may still be its end a while later, and at its start. */
    if (h->proc)
        host_crash(h, false);
    h->disk_failing = false;
}

/* --- Flipped bits. ------------------------------------------------------ */

/*
 * How far the format can tell damage from an end: up to the last record but
 * one. Zeros at the border of the last record look like a clean end, and what
 * is wrong in the last record looks like a torn write.
 */
static size_t wal_guarded(const uint8_t *p, size_t n)
{
    size_t at = 0, last = 0, before = 0;

    while (n - at >= 8) {
        uint64_t word = get_u64le(p + at);
        size_t size = 8 + (size_t)(word & 0xffffff) + (word >> 56 & 7);

        if (word == 0 || size > n - at)
            break;
        before = last;
        last = at;
        at += size;
    }
    return before;
}

static bool is_named(const char *path, const char *end)
{
    size_t n = strlen(path), k = strlen(end);

    return n > k && strcmp(path + n - k, end) == 0;
}

static void flip_one(struct host *h)
{
    char **paths;
    size_t n = simdisk_list(h->disk, &paths), size = 0, pick;
    const uint8_t *p;

    pick = sim_below(n);
    if (n &&
        (is_named(paths[pick], ".wal") || is_named(paths[pick], ".snap"))) {
        p = simdisk_bytes(h->disk, paths[pick], &size);
        if (p && is_named(paths[pick], ".wal"))
            size = wal_guarded(p, size);
        if (size) {
            size_t at = sim_below(size);

            TRACE(h->n, "a bit of %s flips at %zu", paths[pick], at);
            simdisk_flip(h->disk, paths[pick], at, (int)sim_below(8));
            h->damaged = true;
            sim.count.flips++;
        }
    }
    for (size_t i = 0; i < n; i++)
        free(paths[i]);
    free(paths);
}

static struct host *damaged_host(void)
{
    for (int i = 1; i <= HOSTS_MAX; i++)
        if (sim.hosts[i].damaged)
            return &sim.hosts[i];
    return NULL;
}

/* One member at a time, and only where the others can do without it. */
static void trouble_bits(void)
{
    struct host *h = pick_host(is_ready);

    if (damaged_host() || !h || !check_knows_members(h->server) ||
        h->server->conf_state.voters.n < 3)
        return;
    host_crash(h, true);
    flip_one(h);
}

/* --- Operators. --------------------------------------------------------- */

struct op_request {
    uint64_t id;
    char url[32];
    bool learner, removed;
    int rc;
    struct member *members;
    size_t n;
};

static void serve_list(struct server *s, void *body)
{
    struct op_request *q = body;

    q->n = cluster_members(server_cluster(s), &q->members);
    q->removed = cluster_is_removed(server_cluster(s), q->id);
}

static void serve_add(struct server *s, void *body)
{
    struct op_request *q = body;
    struct url_list urls = {0};
    struct member added = {0};

    if (url_list_parse(str_of(q->url), &urls, NULL) == 0)
        q->rc = server_add_member(s, &urls, q->learner, &added);
    member_release(&added);
    url_list_release(&urls);
}

static void serve_remove(struct server *s, void *body)
{
    struct op_request *q = body;

    q->rc = server_remove_member(s, q->id);
}

static void serve_promote(struct server *s, void *body)
{
    struct op_request *q = body;

    q->rc = server_promote_member(s, q->id);
}

static void serve_update(struct server *s, void *body)
{
    struct op_request *q = body;
    struct url_list urls = {0};

    if (url_list_parse(str_of(q->url), &urls, NULL) == 0)
        q->rc = server_update_member(s, q->id, &urls);
    url_list_release(&urls);
}

static void serve_transfer(struct server *s, void *body)
{
    struct op_request *q = body;

    q->rc = server_move_leader(s, q->id, 2000);
}

static bool ask(struct host *h, net_serve *serve, struct op_request *q)
{
    return net_call(OPERATOR, h, serve, q, sizeof(*q), 8 * SIM_S) ==
           NET_ANSWERED;
}

/* What a member thinks who is in the cluster; {0} if it does not answer. */
static struct op_request list_members(struct host *h)
{
    struct op_request q = {0};

    if (!h ||
        net_call(OPERATOR, h, serve_list, &q, sizeof(q), SIM_S) != NET_ANSWERED)
        return (struct op_request){0};
    return q;
}

static void list_release(struct op_request *q)
{
    members_free(q->members, q->n);
}

static void op_add(void)
{
    struct host *h = pick_host(is_ready), *target = pick_host(is_free);
    struct op_request q = {.learner = sim_chance(500)};

    if (!h || !target)
        return;
    snprintf(q.url, sizeof(q.url), "%s", target->url);
    TRACE(target->n, "is to be added by %s%s", h->name,
          q.learner ? " as a learner" : "");
    if (ask(h, serve_add, &q) && q.rc == 0)
        sim.count.added++;
    TRACE(target->n, "is added: %s", q.rc ? server_error_text(q.rc) : "yes");
}

/* Two voters must stay, so that one is no single point of failure; and where
 * disks are damaged only those that are may go. */
static void op_remove(void)
{
    struct host *h = pick_host(is_ready), *damaged = damaged_host();
    struct op_request list = list_members(h), q = {0};
    size_t voters = 0;

    for (size_t i = 0; i < list.n; i++)
        voters += !list.members[i].is_learner;
    if (damaged && voters > 2) {
        q.id = damaged->id;
    } else if (list.n > 1) {
        const struct member *m = &list.members[sim_below(list.n)];

        if ((voters > 2 && !sim.p.flips) || m->is_learner)
            q.id = m->id;
    }
    list_release(&list);
    if (!q.id)
        return;
    TRACE(h->n, "is to remove %" PRIx64, q.id);
    if (ask(h, serve_remove, &q) && q.rc == 0)
        sim.count.removed++;
    TRACE(h->n, "removal: %s", q.rc ? server_error_text(q.rc) : "done");
}

static void op_promote(void)
{
    struct host *h = pick_host(is_ready);
    struct op_request list = list_members(h), q = {0};

    for (size_t i = 0; i < list.n; i++)
        if (list.members[i].is_learner)
            q.id = list.members[i].id;
    list_release(&list);
    if (!q.id)
        return;
    TRACE(h->n, "is to promote %" PRIx64, q.id);
    if (ask(h, serve_promote, &q) && q.rc == 0)
        sim.count.promoted++;
    TRACE(h->n, "promotion: %s", q.rc ? server_error_text(q.rc) : "done");
}

static void op_update(void)
{
    struct host *h = pick_host(is_ready), *target = pick_host(is_ready);
    struct op_request q = {.id = target ? target->id : 0};

    if (!h || !target)
        return;
    snprintf(q.url, sizeof(q.url), "%s", target->url);
    ask(h, serve_update, &q);
}

static void trouble_membership(void)
{
    switch (sim_below(7)) {
    case 0:
    case 1:
    case 2:
        op_add();
        break;
    case 3:
    case 4:
        op_promote();
        break;
    default:
        op_remove();
    }
}

static void trouble_leadership(void)
{
    struct host *h = leader(), *target = pick_host(is_ready);
    struct op_request q = {.id = target ? target->id : 0};

    if (!h || !target || h == target)
        return;
    TRACE(h->n, "is to hand leadership over to %s", target->name);
    if (ask(h, serve_transfer, &q) && q.rc == 0)
        sim.count.transfers++;
}

/* --- Keeping house: what is down is started again. ---------------------- */

static const struct member *listed(const struct op_request *list,
                                   const struct host *h)
{
    for (size_t i = 0; i < list->n; i++)
        for (size_t k = 0; k < list->members[i].n_peer_urls; k++)
            if (strcmp(list->members[i].peer_urls[k], h->url) == 0)
                return &list->members[i];
    return NULL;
}

static char *cluster_flag(const struct op_request *list)
{
    struct buf b = {0};

    for (size_t i = 0; i < list->n; i++)
        for (size_t k = 0; k < list->members[i].n_peer_urls; k++)
            buf_printf(&b, "%s%s=%s", b.len ? "," : "",
                       host_by_url(list->members[i].peer_urls[k])->name,
                       list->members[i].peer_urls[k]);
    return buf_steal(&b);
}

/* Has the cluster removed the member on h? A yes is final. */
static bool is_removed(const struct host *h)
{
    struct op_request q = {.id = h->id};
    struct host *witness = pick_host(is_serving);
    bool removed;

    if (!h->id || !witness || witness == h ||
        net_call(OPERATOR, witness, serve_list, &q, sizeof(q), SIM_S) !=
            NET_ANSWERED)
        return false;
    removed = q.removed;
    list_release(&q);
    return removed;
}

/* One that started again before it got anything from the leader knows nobody,
 * and if it is removed then, nobody tells it: the operator must end it. */
static bool is_forgotten(const struct host *h)
{
    return h->state == HOST_SERVING && h->check.disk.last == 0 && is_removed(h);
}

static void keep_member(struct host *h)
{
    if (is_forgotten(h))
        host_crash(h, false);
    if (!h->proc && (h->retired || is_removed(h))) {
        host_wipe(h);
        return;
    }
    if (h->proc || h->refused || sim_now() < h->restart_at)
        return;
    sim.count.restarts++;
    host_start(h);
}

/* A machine without data: is it in the cluster by now, or no more? While nobody
 * is there who knows, what was started once is started again as before: it may be
 * what the others wait for. */
static void keep_newcomer(struct host *h)
{
    struct op_request list = list_members(pick_host(knows_members));

    if (h->proc || h->id || sim_now() < h->restart_at) {
        list_release(&list);
        return;
    }
    if (listed(&list, h)) {
        h->in_use = h->existing = true;
        h->initial_cluster = cluster_flag(&list); /* leaked: it may be in use */
        host_start(h);
    } else if (list.n && h->in_use) {
        host_wipe(h);
    } else if (!list.n && h->in_use && h->initial_cluster) {
        host_start(h);
    }
    list_release(&list);
}

/* Founders have no member id before their first start, but do not join. */
static bool is_founder(const struct host *h)
{
    return h->in_use && !h->existing;
}

static void keep_house(void)
{
    for (int i = 1; i <= HOSTS_MAX; i++) {
        struct host *h = &sim.hosts[i];

        if (h->id || is_founder(h))
            keep_member(h);
        else if (!h->proc && (sim.p.membership || h->in_use))
            keep_newcomer(h);
    }
}

static void house_main(void *arg)
{
    (void)arg;
    while (!healing) {
        keep_house();
        sim_sleep(300 * SIM_MS);
    }
    running--;
    sim_wake(&ended);
}

/* --- The storm. --------------------------------------------------------- */

struct trouble {
    void (*make)(void);
    int64_t pause_max;
    int64_t until;
};

static void trouble_main(void *arg)
{
    const struct trouble *t = arg;

    for (;;) {
        sim_sleep(sim_between(t->pause_max / 20, t->pause_max));
        if (sim_now() >= t->until)
            break;
        t->make();
    }
    running--;
    sim_wake(&ended);
}

static void spawn_trouble(bool wanted, void (*make)(void), int64_t pause_max)
{
    struct trouble *t = xcalloc(1, sizeof(*t));

    if (!wanted)
        return;
    pause_max =
        sim_between(pause_max / 8, pause_max); /* some seeds have more */
    *t = (struct trouble){make, pause_max, sim_now() + sim.p.storm};
    running++;
    sim_spawn(NULL, trouble_main, t);
}

void faults_run(void)
{
    const struct sim_params *p = &sim.p;

    sim.storm = true;
    running++;
    sim_spawn(NULL, house_main, NULL);
    spawn_trouble(p->partitions, trouble_network, 5 * SIM_S);
    spawn_trouble(p->crashes, trouble_processes, 6 * SIM_S);
    spawn_trouble(p->pauses, trouble_pauses, 8 * SIM_S);
    spawn_trouble(p->slow_disks, trouble_speed, 6 * SIM_S);
    spawn_trouble(p->disk_errors, trouble_disk, 10 * SIM_S);
    spawn_trouble(p->flips, trouble_bits, 8 * SIM_S);
    spawn_trouble(p->membership, trouble_membership, 3 * SIM_S);
    spawn_trouble(p->membership, trouble_membership, 6 * SIM_S);
    spawn_trouble(p->membership, op_update, 600 * SIM_MS);
    spawn_trouble(p->transfers, trouble_leadership, 5 * SIM_S);
    sim_sleep(p->storm);
    sim.storm = false;
    net_heal();
    for (int i = 1; i <= HOSTS_MAX; i++)
        sim.hosts[i].crash_in = 0;
    while (running > 1) /* all but the house */
        sim_wait(&ended, SIM_NEVER);
}

/* --- Afterwards. -------------------------------------------------------- */

/* A member whose disk was damaged cannot come back: another takes its place.*/
static void remove_refused(void)
{
    for (int i = 1; i <= HOSTS_MAX; i++) {
        struct host *h = &sim.hosts[i], *by = pick_host(is_ready);
        struct op_request q = {.id = h->id};

        if (h->refused && h->id && by) {
            TRACE(by->n, "is to remove %s, which will not start", h->name);
            ask(by, serve_remove, &q);
        }
    }
}

static bool all_ready(void)
{
    for (int i = 1; i <= HOSTS_MAX; i++) {
        const struct host *h = &sim.hosts[i];

        if (h->in_use && (!is_ready(h) || server_removed(h->server)))
            return false;
    }
    return true;
}

static bool all_equal(raft_index least)
{
    const struct host *first = NULL;

    for (int i = 1; i <= HOSTS_MAX; i++) {
        const struct host *h = &sim.hosts[i];

        if (!h->in_use)
            continue;
        if (!first)
            first = h;
        if (h->server->last_applied != first->server->last_applied ||
            h->server->last_applied < least || h->server->apply_busy)
            return false;
    }
    return true;
}

static void require_one_state(void)
{
    const struct host *first = NULL;
    uint64_t digest = 0;

    for (int i = 1; i <= HOSTS_MAX; i++) {
        struct host *h = &sim.hosts[i];

        if (!h->in_use)
            continue;
        if (first)
            REQUIRE(check_store_digest(h->server) == digest,
                    "One State: %s and %s differ in the end", first->name,
                    h->name);
        first = h;
        digest = check_store_digest(h->server);
    }
}

static void tell_where_stuck(void)
{
    for (int i = 1; i <= HOSTS_MAX; i++) {
        const struct host *h = &sim.hosts[i];
        struct raft_status st = {0};

        if (h->server)
            st = raft_status(h->server->raft);
        TRACE(i,
              "in use %d, state %d, id %" PRIx64 ", leader %" PRIx64
              " term %" PRIu64 " commit %" PRIu64 " applied %" PRIu64
              " last %" PRIu64,
              h->in_use, (int)h->state, h->id, st.leader, st.term, st.commit,
              h->server ? h->server->last_applied : 0, st.last_index);
    }
}

/* A letter sent in the storm may arrive so long after it: a removal that its
 * asker was told had timed out may yet be proposed. */
#define LATEST_LETTER (5 * SIM_S)

static void wait_until_ready(int64_t deadline)
{
    int64_t latest = sim_now() + LATEST_LETTER;
    int quiet = 0;

    /* The house may be about to change something. */
    while (quiet < 3 || sim_now() < latest) {
        remove_refused();
        sim_sleep(400 * SIM_MS);
        quiet = all_ready() ? quiet + 1 : 0;
        if (sim_now() > deadline) {
            tell_where_stuck();
            sim_fail("Progress: not all members serve a minute after the end "
                     "of all faults");
        }
    }
}

void faults_heal(void)
{
    int64_t deadline = sim_now() + 60 * SIM_S;
    raft_index least;

    TRACE(0, "no more faults");
    wait_until_ready(deadline);
    healing = true;
    while (running)
        sim_wait(&ended, SIM_NEVER);
    for (int i = 1; i <= HOSTS_MAX; i++) {
        struct host *h = &sim.hosts[i];

        while (h->in_use && !client_write_once(h)) {
            if (sim_now() > deadline) {
                tell_where_stuck();
                sim_fail("Progress: %s takes no writes a minute after the end "
                         "of all faults",
                         h->name);
            }
            sim_sleep(SIM_S);
        }
    }
    least = check_last_committed();
    while (!all_equal(least)) {
        if (sim_now() > deadline) {
            tell_where_stuck();
            sim_fail("Progress: members do not reach index %" PRIu64
                     " a minute after the end of all faults",
                     least);
        }
        sim_sleep(20 * SIM_MS);
    }
    require_one_state();
}
