/*
 * bootresume_test.c - the first start of a new member ended between the
 * creation of its log and the first sync of what stands in it: the second one
 * begins as the first did, from the same entries and an empty membership.
 */
#include "boot.h"
#include "check.h"
#include "simdisk.h"

#include <errno.h>

static struct config config = {
    .name = "m1",
    .data_dir = "/sim/d/data",
    .wal_dir = "",
    .member_dir = "/sim/d/data/member",
    .snap_dir = "/sim/d/data/member/snap",
    .initial_cluster = "m1=http://10.0.0.1:2380",
    .initial_cluster_token = "t",
    .discovery = "",
    .heartbeat_ms = 100,
    .election_ms = 1000,
};

/* From the moment on when the log has its name. */
static int fail_after_create(void *arg, struct simdisk *d, enum simdisk_op op,
                             const char *path, size_t *n)
{
    bool *created = arg;

    (void)d;
    (void)n;
    if (op == SIMDISK_WRITE && *created && strstr(path, "/wal/"))
        return EIO;
    *created |= op == SIMDISK_RENAME;
    return 0;
}

int main(void)
{
    struct simdisk *disk = simdisk_new("d");
    bool created = false;
    struct boot b;
    struct err e;

    CHECK(url_list_parse(STR("http://10.0.0.1:2380"),
                         &config.initial_advertise_peer_urls, &e) == 0);
    simdisk_set_hook(disk, fail_after_create, &created);
    CHECK(boot_load(&config, &b, &e) < 0);
    CHECK(created);
    simdisk_set_hook(disk, NULL, NULL);
    simdisk_crash(disk, simdisk_lose, NULL);

    CHECK(boot_load(&config, &b, &e) == 0);
    CHECK(b.fresh);
    CHECK(b.contents.n_entries == 1 && b.contents.hard_state.commit == 1);
    boot_release(&b);
    simdisk_free(disk);
    url_list_release(&config.initial_advertise_peer_urls);
    return check_done("bootresume_test");
}
