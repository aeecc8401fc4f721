/*
 * authtoken.c - logins, and the simple tokens that they are answered with.
 *
 * A token stands in a hash table, in a list of its user's, and in a list by
 * last use. As all live equally long after it, that list is in the order in
 * which they end, too.
 */
#include "auth_impl.h"

#include "hash.h"
#include "trie.h"

#include <assert.h>
#include <inttypes.h>

/* --- Passwords. -------------------------------------------------------------- */

#define PLAIN_COST 10 /* etcd's default: the flag may differ between members */

/* What nobody's password is compared with: so it takes as long. */
static const char nobodys_hash[BCRYPT_HASH_SIZE] =
    "$2a$10$abcdefghijklmnopqrstuuabcdefghijklmnopqrstuvwxyzABCDE";

void auth_hash_password(struct buf *b, struct str password, int cost,
                        const uint8_t salt[16])
{
    char hash[BCRYPT_HASH_SIZE];

    bcrypt_hash(password, cost, salt, hash);
    buf_adds(b, hash);
}

/* A salt must differ from hash to hash; it need not be a secret. */
static void derive_salt(struct str name, uint64_t index, uint8_t salt[16])
{
    struct hash h;
    uint8_t digest[SHA256_SIZE], number[8];

    put_u64be(number, index);
    hash_init(&h, HASH_SHA256);
    hash_update(&h, number, sizeof(number));
    hash_update(&h, name.p, name.n);
    hash_final(&h, digest);
    memcpy(salt, digest, 16);
}

int auth_stored_password(struct buf *b, struct str plain, struct str hashed,
                         bool no_password, struct str name, uint64_t index)
{
    uint8_t salt[16];

    if (no_password)
        return 0;
    if (hashed.n > 0)
        return base64_decode(b, hashed) < 0 ? AUTH_BAD_HASH : 0;
    derive_salt(name, index, salt);
    auth_hash_password(b, plain, PLAIN_COST, salt);
    return 0;
}

int auth_login(const struct auth *a, struct str name, struct auth_login *out)
{
    const struct auth_user *u = auth_user(a, name);

    if (!a->enabled)
        return AUTH_NOT_ENABLED;
    if (u && u->no_password)
        return AUTH_NO_PASSWORD_USER;
    out->known = u && u->password.n == BCRYPT_HASH_SIZE - 1;
    memcpy(out->hash, out->known ? u->password.p : nobodys_hash,
           BCRYPT_HASH_SIZE - 1);
    out->hash[BCRYPT_HASH_SIZE - 1] = '\0';
    out->revision = a->revision;
    return 0;
}

int auth_login_check(const struct auth_login *l, struct str password)
{
    struct str hash = {l->hash, BCRYPT_HASH_SIZE - 1};

    return bcrypt_check(password, hash) && l->known ? 0 : AUTH_FAILED;
}

bool auth_name_from_certificate(struct str common_name, bool by_gateway)
{
    return common_name.n > 0 && !by_gateway;
}

/* --- The table. ----------------------------------------------------------------- */

static struct auth_token **bucket(const struct auth *a, uint64_t hash)
{
    return &a->buckets[(size_t)hash & (a->n_buckets - 1)];
}

static void resize(struct auth *a, size_t n_buckets)
{
    free(a->buckets);
    a->buckets = xcalloc(n_buckets, sizeof(*a->buckets));
    a->n_buckets = n_buckets;
    for (struct auth_token *t = a->oldest; t; t = t->next) {
        struct auth_token **at = bucket(a, t->hash);

        t->chain = *at;
        *at = t;
    }
}

/* Not by str_eq(): its time would tell how much of a guess is right. */
static struct auth_token *find(const struct auth *a, struct str text)
{
    uint64_t hash = trie_key(text).hash;
    struct auth_token *t = a->n_buckets ? *bucket(a, hash) : NULL;

    while (t && !(t->hash == hash && t->len == text.n &&
                  ct_eq(t->text, text.p, text.n)))
        t = t->chain;
    return t;
}

/* --- Lists. ------------------------------------------------------------------------ */

static void link_newest(struct auth *a, struct auth_token *t)
{
    t->prev = a->newest;
    t->next = NULL;
    *(a->newest ? &a->newest->next : &a->oldest) = t;
    a->newest = t;
}

static void unlink_use(struct auth *a, struct auth_token *t)
{
    *(t->prev ? &t->prev->next : &a->oldest) = t->next;
    *(t->next ? &t->next->prev : &a->newest) = t->prev;
}

static void link_own(struct auth_token *t, struct user *u)
{
    t->user = u;
    t->prev_own = NULL;
    t->next_own = u->tokens;
    if (u->tokens)
        u->tokens->prev_own = t;
    u->tokens = t;
}

static void unlink_own(struct auth_token *t)
{
    *(t->prev_own ? &t->prev_own->next_own : &t->user->tokens) = t->next_own;
    if (t->next_own)
        t->next_own->prev_own = t->prev_own;
}

static void drop_token(struct auth *a, struct auth_token *t)
{
    struct auth_token **at = bucket(a, t->hash);

    while (*at != t)
        at = &(*at)->chain;
    *at = t->chain;
    unlink_use(a, t);
    unlink_own(t);
    assert(a->oldest != t);
    assert(t->user->tokens != t);
    a->n_tokens--;
    wipe(t->text, t->len);
    free(t);
}

void auth_tokens_drop_user(struct auth *a, struct user *u)
{
    while (u->tokens)
        drop_token(a, u->tokens);
}

void auth_tokens_drop_all(struct auth *a)
{
    while (a->oldest)
        drop_token(a, a->oldest);
    free(a->buckets);
    a->buckets = NULL;
    a->n_buckets = 0;
}

static void drop_expired(struct auth *a, int64_t now_ms)
{
    while (a->oldest && a->oldest->expiry_ms <= now_ms)
        drop_token(a, a->oldest);
}

/* --- Tokens. -------------------------------------------------------------------------- */

void auth_set_token_ttl(struct auth *a, int64_t ttl_ms)
{
    a->token_ttl_ms = ttl_ms;
}

size_t auth_n_tokens(const struct auth *a)
{
    return a->n_tokens;
}

/* Two bytes a letter: then no letter is likelier than another by 1/1260. */
void auth_token_letters(const uint8_t random[AUTH_TOKEN_RANDOM],
                        char out[AUTH_TOKEN_LETTERS])
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

    for (size_t i = 0; i < AUTH_TOKEN_LETTERS; i++) {
        unsigned x = random[2 * i] | (unsigned)random[2 * i + 1] << 8;

        out[i] = letters[x % (sizeof(letters) - 1)];
    }
}

static void assign(struct auth *a, struct user *u, struct str text,
                   int64_t now_ms)
{
    struct auth_token *t = find(a, text);

    if (t)
        drop_token(a, t);
    drop_expired(a, now_ms);
    if (a->n_tokens == AUTH_TOKENS_MAX)
        drop_token(a, a->oldest);
    t = xcalloc(1, sizeof(*t) + text.n);
    memcpy(t->text, text.p, text.n);
    t->len = text.n;
    t->hash = trie_key(text).hash;
    t->expiry_ms = now_ms + a->token_ttl_ms;
    link_newest(a, t);
    link_own(t, u);
    if (++a->n_tokens > a->n_buckets) {
        resize(a, a->n_buckets ? a->n_buckets * 2 : 16);
    } else {
        t->chain = *bucket(a, t->hash);
        *bucket(a, t->hash) = t;
    }
}

void auth_keep_tokens(struct auth *a, const struct auth *was)
{
    for (const struct auth_token *t = was->oldest; t && a->enabled;
         t = t->next) {
        const struct auth_user *before = &t->user->pub;
        struct user *u = auth_names_find(&a->users, before->name, NULL);

        if (u && str_eq(u->pub.password, before->password))
            assign(a, u, (struct str){t->text, t->len},
                   t->expiry_ms - a->token_ttl_ms);
    }
}

int auth_authenticate(struct auth *a, struct str name, struct str letters,
                      uint64_t index, int64_t now_ms, struct buf *token)
{
    struct user *u = auth_names_find(&a->users, name, NULL);
    struct buf text = {0};

    if (!a->enabled)
        return AUTH_NOT_ENABLED;
    if (!u)
        return AUTH_FAILED;
    if (letters.n == 0)
        return 0;
    buf_addstr(&text, letters);
    buf_addc(&text, '.');
    buf_add_u64(&text, index);
    assign(a, u, buf_str(&text), now_ms);
    if (token)
        buf_addstr(token, buf_str(&text));
    buf_release(&text);
    return 0;
}

bool auth_token_index(struct str token, uint64_t *index)
{
    struct str letters;

    return str_cut(&token, '.', &letters) && letters.n > 0 &&
           str_to_u64(token, index);
}

int auth_token_user(struct auth *a, struct str token, int64_t now_ms,
                    struct buf *user)
{
    struct auth_token *t;

    drop_expired(a, now_ms);
    t = find(a, token);
    if (!t || t->expiry_ms <= now_ms) /* the TTL may have been shortened */
        return AUTH_INVALID_TOKEN;
    t->expiry_ms = now_ms + a->token_ttl_ms;
    unlink_use(a, t);
    link_newest(a, t);
    buf_addstr(user, t->user->pub.name);
    return 0;
}
