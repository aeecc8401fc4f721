/*
 * simdisk.h - disks in memory behind the file system calls of the product.
 *
 * A test program links with the symbols of tests/simdisk.wrap wrapped
 * (-Wl,--wrap=open,...). Paths below "/sim/NAME/" then lie on the disk NAME;
 * descriptors of theirs count from SIMDISK_FD_FIRST; all else passes through to
 * the kernel. A file system call does what Linux does, its errors included, and
 * remembers what a crash may do to it:
 *
 *   - what was written, truncated or allocated since the last fsync or
 *     fdatasync of a file may be there, or not, each sector by itself, in any
 *     order; a file that grew may hold zeros where its bytes never came; a
 *     sector brings all along that was in it in memory;
 *   - names made, removed or renamed since the last fsync of their directory
 *     may be there or not: of one directory, a prefix of those changes is (a
 *     rename within one directory is one change, and one across directories
 *     appears in both or in none);
 *   - what was synced stays.
 *
 * Not thread-safe: the tests that use it run in one thread.
 */
#ifndef SIMDISK_H
#define SIMDISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIMDISK_ROOT "/sim/"
#define SIMDISK_FD_FIRST (1 << 20)
#define SIMDISK_SECTOR 512

struct simdisk;

enum simdisk_op {
    SIMDISK_READ,
    SIMDISK_WRITE, /* write, pwrite */
    SIMDISK_ALLOCATE,
    SIMDISK_TRUNCATE,
    SIMDISK_SYNC,     /* fsync, fdatasync of a file */
    SIMDISK_SYNC_DIR, /* fsync of a directory */
    SIMDISK_CREATE,   /* open with O_CREAT that makes a file; mkdir */
    SIMDISK_RENAME,
    SIMDISK_UNLINK, /* and rmdir */
    SIMDISK_OPEN,   /* of what is there; stat, list */
};

/*
 * Asked before each operation: 0 to go on, or the errno to fail with; n is the
 * length of a read, write or allocation, and may be cut down to make a short
 * one. May sleep (in virtual time) and may never come back (a crash).
 *
 * A sync of a file that is made to fail does what Linux does: what it was to
 * write is seen by readers, but will not be written by later syncs, either.
 *
 * Paths are those below the disk's root, "member/wal/...", here and all through
 * this file. What would make, rename or remove nothing is asked as
 * SIMDISK_OPEN.
 */
typedef int simdisk_hook(void *arg, struct simdisk *d, enum simdisk_op op,
                         const char *path, size_t *n);

/* A fresh, empty disk, its root directory durable. The name is copied. */
struct simdisk *simdisk_new(const char *name);
void simdisk_free(struct simdisk *d); /* descriptors on it are closed */
void simdisk_set_hook(struct simdisk *d, simdisk_hook *hook, void *arg);
/* Bytes that all its files may take in sum, each to the end of what was ever
 * written or allocated; ENOSPC beyond. 0: no limit. */
void simdisk_set_capacity(struct simdisk *d, uint64_t bytes);

/* How what was not synced ends: each is asked of for a part by itself. */
enum simdisk_fate {
    SIMDISK_LOST, /* as it was before */
    SIMDISK_KEPT,
    SIMDISK_ZEROED, /* of a write beyond the durable end: grown, but zeros;
                       elsewhere as before; of all but a write: kept */
};

/*
 * The power fails: all descriptors and flocks are gone, and of everything that
 * was not synced choose() says what stays; for names it is asked once for each
 * change, in order, and the first that is LOST ends those of its directory.
 * Deterministic: parts are asked for in the order in which they were done, the
 * sectors of one write from its first.
 */
typedef enum simdisk_fate simdisk_choose(void *arg, enum simdisk_op op,
                                         const char *path, uint64_t offset,
                                         size_t n);
void simdisk_crash(struct simdisk *d, simdisk_choose *choose, void *arg);
/* All that was not synced is lost. */
simdisk_choose simdisk_lose;
/* The process ends but the machine does not: descriptors and flocks go, what
 * was written stays. */
void simdisk_close_all(struct simdisk *d);

/* A copy in the same state, unsynced parts included; no open descriptors. */
struct simdisk *simdisk_copy(const struct simdisk *d, const char *name);

/* How many unsynced parts there are that choose() would be asked about. */
size_t simdisk_pending(const struct simdisk *d);
/* Equal for disks with equal names and bytes as a reader would see them. */
uint64_t simdisk_digest(const struct simdisk *d);
/* Flip one bit of a file, durably (damage of the medium). False: no such. */
bool simdisk_flip(struct simdisk *d, const char *path, uint64_t offset,
                  int bit);
/* Files' paths, sorted ("member/wal/..."); owned: free each and the array. */
size_t simdisk_list(const struct simdisk *d, char ***paths);
/* What a reader would see of a file; borrowed until the next change. */
const uint8_t *simdisk_bytes(const struct simdisk *d, const char *path,
                             size_t *n);

#endif
