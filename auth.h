/*
 * auth.h - users, roles and permissions of v3, and who may do what. Pure: no
 * I/O, no clock, no lock.
 *
 * REVISION  Each change makes the next auth revision; it begins at 1. A
 *   request carries the revision at which its user was identified, in the
 *   header of its log entry too; one older than the current is refused
 *   (AUTH_OLD_REVISION), and the client tries again. So nothing is done by
 *   rights that were taken away between a check and its effect.
 *
 * WHERE TO CHECK  When a request is applied, by auth_check_...() with user and
 *   revision of its header; reads, and what is not proposed, when they are
 *   served. Checking before the proposal, too, spares the log. What a leader
 *   proposes on its own, such as the end of a lease, goes as "root", at the
 *   current revision.
 *
 * THE CHECKS ARE COMPLETE  Those of a request cover all that it reads and
 *   writes: previous values, both branches of a transaction at every depth,
 *   the keys that hang on a lease that is used. They take requests as they
 *   came off the wire, "\0" as range_end included, so that no caller has to
 *   translate. Older releases of etcd left gaps here (CVE-2026-33343,
 *   CVE-2026-44283, GHSA-xg4h-6gfc-h4m8, CVE-2023-32082); we have none.
 *
 * PASSWORDS  come in as bcrypt text. To propose one, hash it first
 *   (auth_hash_password(), with random salt) and send it in base64 as
 *   hashedPassword. But members before 3.5 do not know that field and would
 *   set an empty password: while the cluster's version is below 3.5, send the
 *   plain one, as they do. To apply either: auth_stored_password().
 *
 * Determinism: equal calls give equal users, roles, revisions and records on
 * every member; tokens are each member's own. One lock around a struct auth
 * serializes all calls but those that are said to need none.
 *
 * Facts: spec v3-api, 6 and 7; raft-and-storage, 4.4 and 9.2.
 */
#ifndef AUTH_H
#define AUTH_H

#include "crypto.h"
#include "lease.h"
#include "mvcc.h"

/* A negative result of a call below. */
enum auth_error {
    AUTH_ROOT_USER_NOT_EXIST = -1,
    AUTH_ROOT_ROLE_NOT_EXIST = -2,
    AUTH_USER_EXISTS = -3,
    AUTH_USER_EMPTY = -4,
    AUTH_USER_NOT_FOUND = -5,
    AUTH_ROLE_EXISTS = -6,
    AUTH_ROLE_NOT_FOUND = -7,
    AUTH_ROLE_EMPTY = -8,
    AUTH_FAILED = -9,
    AUTH_NO_PASSWORD_USER = -10,
    AUTH_PERMISSION_NOT_GIVEN = -11,
    AUTH_DENIED = -12,
    AUTH_ROLE_NOT_GRANTED = -13,
    AUTH_PERMISSION_NOT_GRANTED = -14,
    AUTH_NOT_ENABLED = -15,
    AUTH_INVALID_TOKEN = -16,
    AUTH_INVALID_MGMT = -17,
    AUTH_OLD_REVISION = -18,
    AUTH_BAD_HASH = -19, /* hashedPassword is not what it has to be */
    AUTH_CORRUPT = -20,  /* a record on disk */
};

/* What the client is told: the message, and the number of the gRPC code. */
const char *auth_error_text(int error);
int auth_error_code(int error);

struct auth;

struct auth *auth_new(void);    /* off, at revision 1, nobody known */
void auth_free(struct auth *a); /* NULL is fine */

bool auth_enabled(const struct auth *a);
uint64_t auth_revision(const struct auth *a);

/* --- What is known; borrowed until the next change. ------------------------- */

enum auth_permission_type {
    AUTH_PERM_READ,
    AUTH_PERM_WRITE,
    AUTH_PERM_READWRITE,
};

struct auth_permission {
    int type; /* enum auth_permission_type, as it came; others grant nothing */
    struct str key, range_end;
};

struct auth_role {
    struct str name;
    const struct auth_permission *permissions; /* by key */
    size_t n_permissions;
};

struct auth_user {
    struct str name, password; /* bcrypt text; "": nothing matches it */
    const struct str *roles;   /* sorted */
    size_t n_roles;
    bool no_password; /* comes by certificate only */
};

const struct auth_user *auth_user(const struct auth *a, struct str name);
const struct auth_role *auth_role(const struct auth *a, struct str name);
/* Sorted by name: the i-th, or NULL behind the last. */
const struct auth_user *auth_user_at(const struct auth *a, size_t i);
const struct auth_role *auth_role_at(const struct auth *a, size_t i);

/* --- What is applied from the log. All strings are copied. 0 or an error, and
 *     then nothing has changed. ---------------------------------------------- */

int auth_enable(struct auth *a);
int auth_disable(struct auth *a);

int auth_user_add(struct auth *a, struct str name, struct str password,
                  bool no_password);
int auth_user_delete(struct auth *a, struct str name);
/* For a user without password it only makes the next revision, as in etcd. */
int auth_user_change_password(struct auth *a, struct str name,
                              struct str password);
int auth_user_grant_role(struct auth *a, struct str name, struct str role);
int auth_user_revoke_role(struct auth *a, struct str name, struct str role);

int auth_role_add(struct auth *a, struct str name);
int auth_role_delete(struct auth *a, struct str name);
/* p NULL: the request had none. */
int auth_role_grant(struct auth *a, struct str role,
                    const struct auth_permission *p);
int auth_role_revoke(struct auth *a, struct str role, struct str key,
                     struct str range_end);

/* --- Passwords. None of these but auth_login() needs a lock; hashing and
 *     comparing take as long as the hash's cost says. ------------------------- */

/* Appends bcrypt text. cost: 4 to 31 (--bcrypt-cost). */
void auth_hash_password(struct buf *b, struct str password, int cost,
                        const uint8_t salt[16]);

/*
 * Appends what an AuthUserAdd or AuthUserChangePassword has to store: hashed,
 * in base64, wins; else plain is hashed, at etcd's usual cost and with a salt
 * that index, that of the log entry, and name make the same on every member
 * and different for each hash. Nothing for a user without password. 0 or
 * AUTH_BAD_HASH.
 */
int auth_stored_password(struct buf *b, struct str plain, struct str hashed,
                         bool no_password, struct str name, uint64_t index);

/* What comparing a password needs, copied, so that it runs without the lock. */
struct auth_login {
    char hash[BCRYPT_HASH_SIZE]; /* for nobody, too: it takes as long */
    bool known;
    uint64_t revision; /* compare again at the end: see below */
};

/*
 *     do {
 *         auth_login(a, name, &login);                       lock
 *         auth_login_check(&login, password);                no lock
 *         propose Authenticate{name, "", simple token}; wait
 *     } while (login.revision != auth_revision(a));          lock
 *
 * The loop: a password that was changed in between must not get in.
 * 0, AUTH_NOT_ENABLED or AUTH_NO_PASSWORD_USER.
 */
int auth_login(const struct auth *a, struct str name, struct auth_login *out);
int auth_login_check(const struct auth_login *l, struct str password);

/* --- Simple tokens: "ZyfReaGhJscsCoGa.33". ---------------------------------- */

/*
 * 16 random letters, proposed with the user's name, and the index of the entry
 * that made the token valid. A member knows those assigned since it started;
 * one that is not used for its TTL is forgotten, and beyond AUTH_TOKENS_MAX
 * the one that is unused for longest. A user's tokens end with the user, or
 * with the password; all end when auth is switched off. Signed tokens, which
 * need no memory, are in jwt.h.
 */
#define AUTH_TOKEN_LETTERS 16
#define AUTH_TOKEN_RANDOM 32 /* bytes that become letters */
#define AUTH_TOKEN_TTL_MS 300000
#define AUTH_TOKENS_MAX 65536

void auth_set_token_ttl(struct auth *a, int64_t ttl_ms); /* of new uses */

/* No lock. */
void auth_token_letters(const uint8_t random[AUTH_TOKEN_RANDOM],
                        char out[AUTH_TOKEN_LETTERS]);
/*
 * Authenticate, applied: AUTH_NOT_ENABLED, AUTH_FAILED for an unknown user, or
 * 0. letters "" only checks, as for signed tokens; else letters are assigned
 * to the user, and the token for the answer is appended to *token, which may
 * be NULL.
 */
int auth_authenticate(struct auth *a, struct str name, struct str letters,
                      uint64_t index, int64_t now_ms, struct buf *token);
/*
 * No lock. The index that must be applied before the token can be known here:
 * wait for it, then ask. False if it does not look like a simple token.
 */
bool auth_token_index(struct str token, uint64_t *index);
/*
 * Whose is it? Appends the name, renews the token; the revision to go with it
 * is the current one. 0 or AUTH_INVALID_TOKEN.
 */
int auth_token_user(struct auth *a, struct str token, int64_t now_ms,
                    struct buf *user);
size_t auth_n_tokens(const struct auth *a);
/* a takes the place of was, as of a later index: the tokens go on, of those
 * users who still have the same password. */
void auth_keep_tokens(struct auth *a, const struct auth *was);

/*
 * No lock. May the CommonName of a verified client certificate stand for a
 * user, as it does if there is no token? Not if the gateway brought the
 * request: there the certificate is the server's own (CVE-2018-16886).
 */
bool auth_name_from_certificate(struct str common_name, bool by_gateway);

/* --- Who may. 0, AUTH_USER_EMPTY, AUTH_OLD_REVISION or AUTH_DENIED; always 0
 *     while auth is off. ------------------------------------------------------ */

/* {0}: nobody. revision 0 means that, too. */
struct auth_who {
    struct str user;
    uint64_t revision;
};

int auth_check_range(struct auth *a, struct auth_who who,
                     const struct mvcc_range *r);
int auth_check_put(struct auth *a, struct auth_who who,
                   const struct lessor *leases, const struct mvcc_put *p);
int auth_check_delete_range(struct auth *a, struct auth_who who,
                            const struct mvcc_delete_range *d);
/*
 * t has passed mvcc_check_txn(), which bounds its depth, or comes out of the
 * log: below AUTH_TXN_DEPTH_MAX it is AUTH_DENIED for all but root.
 */
#define AUTH_TXN_DEPTH_MAX 1000
int auth_check_txn(struct auth *a, struct auth_who who,
                   const struct lessor *leases, const struct mvcc_txn *t);
/* As WatchCreateRequest has them: an empty key stands for "\0". */
int auth_check_watch(struct auth *a, struct auth_who who, struct str key,
                     struct str range_end);

/* LeaseRevoke: all its keys may be written. */
int auth_check_lease_revoke(struct auth *a, struct auth_who who,
                            const struct lessor *leases, int64_t id);
/* LeaseTimeToLive with keys: all of them may be read. */
int auth_check_lease_keys(struct auth *a, struct auth_who who,
                          const struct lessor *leases, int64_t id);

/*
 * Any user; the role root. Neither looks at the revision, as in etcd: a
 * management request that came with an older one changes just as much.
 *
 * What names no key needs one of them, too; that it did not was CVE-2026-33413.
 * Any user: LeaseGrant, LeaseKeepAlive, LeaseLeases, LeaseTimeToLive,
 * MemberList, Status, Alarm GET. root: the other alarms, Compact, Defragment,
 * Hash, HashKV, Snapshot, MoveLeader, Downgrade, members' changes, and what
 * manages users and roles, but for the two below. (3.4.23 as recorded leaves
 * those of the first row, and Compact for any user, open.)
 */
int auth_check_user(const struct auth *a, struct auth_who who);
int auth_check_admin(const struct auth *a, struct auth_who who);
/* AuthUserGet, AuthRoleGet: root, or one's own. */
int auth_check_user_get(const struct auth *a, struct auth_who who,
                        struct str user);
int auth_check_role_get(const struct auth *a, struct auth_who who,
                        struct str role);

/* --- Snapshots. --------------------------------------------------------------- */

enum auth_bucket { AUTH_BUCKET_AUTH, AUTH_BUCKET_ROLES, AUTH_BUCKET_USERS };
#define AUTH_N_BUCKETS 3
extern const char *const auth_bucket_names[AUTH_N_BUCKETS];

/* Every record, by bucket and key; the strings are borrowed for the call. */
typedef void auth_emit(void *arg, enum auth_bucket bucket, struct str key,
                       struct str value);
void auth_save(const struct auth *a, auth_emit *emit, void *arg);

/*
 * Feed a new struct auth with records in any order. Keys of AUTH_BUCKET_AUTH
 * that are not known are ignored. 0 or AUTH_CORRUPT, and then it can only be
 * freed.
 */
int auth_restore(struct auth *a, enum auth_bucket bucket, struct str key,
                 struct str value);

/* What must hold between any two calls; aborts. For tests: it walks all. */
void auth_check(const struct auth *a);

#endif
