/* Tokens that were verified, by their hash: a bounded table, oldest use first out. Any thread. */
#ifndef COULOMB_SERVER_GATE_CACHE_H
#define COULOMB_SERVER_GATE_CACHE_H

#include "server/gate/token.h"

struct token_cache;

/* max_tokens > 0. An entry answers for max_age_s at most, so that a key that was withdrawn stops
 * counting, and never beyond its token's expiry. */
struct token_cache *token_cache_new(size_t max_tokens, int64_t max_age_s);
void token_cache_free(struct token_cache *cache);
/* Retained, or NULL. */
struct token *token_cache_get(struct token_cache *cache,
                              const unsigned char hash[TOKEN_HASH_BYTES], int64_t now_s);
/* How often it was cleared: read before the keys that a token is verified with are taken. */
uint64_t token_cache_generation(struct token_cache *cache);
/* Retains; does nothing when memory is out, or when it was cleared since that generation, since the
 * keys may be others now. */
void token_cache_put(struct token_cache *cache,
                     const unsigned char hash[TOKEN_HASH_BYTES], struct token *token,
                     uint64_t generation);
void token_cache_clear(struct token_cache *cache);

#endif
