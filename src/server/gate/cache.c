/* See cache.h. Keyed by SHA-256, so that no token is kept in memory longer than its request. */
#include "server/gate/cache.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/list.h"
#include "base/map.h"

struct entry {
    struct list link; /* in cache.used */
    struct token *token;
    unsigned char hash[TOKEN_HASH_BYTES];
};

struct token_cache {
    pthread_mutex_t lock;
    struct map entries;
    struct list used; /* last: used most recently */
    size_t max_tokens;
    int64_t max_age_s;
    uint64_t generation;
};

static struct slice key_of(const unsigned char *hash)
{
    return slice_make((const char *)hash, TOKEN_HASH_BYTES);
}

struct token_cache *token_cache_new(size_t max_tokens, int64_t max_age_s)
{
    struct token_cache *cache = calloc(1, sizeof *cache);

    if (!cache)
        return NULL;
    pthread_mutex_init(&cache->lock, NULL);
    map_init(&cache->entries);
    list_init(&cache->used);
    cache->max_tokens = max_tokens;
    cache->max_age_s = max_age_s;
    return cache;
}

/* Under the lock. */
static void drop(struct token_cache *cache, struct entry *e)
{
    map_del(&cache->entries, key_of(e->hash));
    list_remove(&e->link);
    token_release(e->token);
    free(e);
}

static void drop_first(struct token_cache *cache)
{
    drop(cache, LIST_ENTRY(cache->used.next, struct entry, link));
}

void token_cache_clear(struct token_cache *cache)
{
    pthread_mutex_lock(&cache->lock);
    while (!list_empty(&cache->used))
        drop_first(cache);
    cache->generation++;
    pthread_mutex_unlock(&cache->lock);
}

uint64_t token_cache_generation(struct token_cache *cache)
{
    pthread_mutex_lock(&cache->lock);
    uint64_t generation = cache->generation;
    pthread_mutex_unlock(&cache->lock);
    return generation;
}

void token_cache_free(struct token_cache *cache)
{
    if (!cache)
        return;
    token_cache_clear(cache);
    map_fini(&cache->entries);
    pthread_mutex_destroy(&cache->lock);
    free(cache);
}

static bool is_old(const struct token_cache *cache, const struct token *t, int64_t now_s)
{
    return now_s >= t->ends_s || now_s >= t->verified_s + cache->max_age_s ||
           now_s < t->verified_s;
}

struct token *token_cache_get(struct token_cache *cache,
                              const unsigned char hash[TOKEN_HASH_BYTES], int64_t now_s)
{
    struct token *token = NULL;

    pthread_mutex_lock(&cache->lock);
    struct entry *e = map_get(&cache->entries, key_of(hash));
    if (e && is_old(cache, e->token, now_s)) {
        drop(cache, e);
    } else if (e) {
        list_remove(&e->link);
        list_push(&cache->used, &e->link);
        token = token_retain(e->token);
    }
    pthread_mutex_unlock(&cache->lock);
    return token;
}

void token_cache_put(struct token_cache *cache,
                     const unsigned char hash[TOKEN_HASH_BYTES], struct token *token,
                     uint64_t generation)
{
    struct entry *e = calloc(1, sizeof *e);

    if (!e)
        return;
    list_init(&e->link);
    memcpy(e->hash, hash, TOKEN_HASH_BYTES);
    e->token = token_retain(token);
    pthread_mutex_lock(&cache->lock);
    struct entry *before = map_get(&cache->entries, key_of(hash));
    if (before)
        drop(cache, before);
    bool current = cache->generation == generation;
    while (current && cache->entries.len >= cache->max_tokens)
        drop_first(cache);
    if (current && map_put(&cache->entries, key_of(hash), e, NULL) == 0) {
        list_push(&cache->used, &e->link);
        e = NULL;
    }
    pthread_mutex_unlock(&cache->lock);
    if (e) {
        token_release(e->token);
        free(e);
    }
}
