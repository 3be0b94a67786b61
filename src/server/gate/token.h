/* Signed tokens (RFC 7515, 7519): keys, verification, issuing.
 *
 * What a token may be signed with is the configuration's word alone: an algorithm that is not
 * pinned is refused before any key is looked at, and a key serves only algorithms of its own
 * kind, so that a public key can't be taken for a secret. Keys or addresses of keys inside a
 * token mean nothing. No part of a token is ever put into a log or a message. */
#ifndef COULOMB_SERVER_GATE_TOKEN_H
#define COULOMB_SERVER_GATE_TOKEN_H

#include <stdatomic.h>

#include "base/err.h"
#include "base/slice.h"

/* jansson's, whose header has names of json/json.h: a file includes one of the two. */
typedef struct json_t json_t;

#define TOKEN_MAX_BYTES   8192u /* longer ones are refused unread */
#define TOKEN_SUBJECT_MAX 255u  /* bytes */
#define TOKEN_KEYS_MAX    32u
#define TOKEN_SECRET_MIN  32u   /* bytes (RFC 7518, 3.2) */
#define TOKEN_RSA_MIN     2048u /* bits (RFC 7518, 3.3) */

/* X(enum, name, kind of key) */
#define TOKEN_ALGORITHMS(X)                                                              \
    X(HS256, "HS256", TOKEN_KEY_SECRET)                                                  \
    X(HS384, "HS384", TOKEN_KEY_SECRET)                                                  \
    X(HS512, "HS512", TOKEN_KEY_SECRET)                                                  \
    X(RS256, "RS256", TOKEN_KEY_RSA)                                                     \
    X(PS256, "PS256", TOKEN_KEY_RSA)                                                     \
    X(ES256, "ES256", TOKEN_KEY_P256)                                                    \
    X(EDDSA, "EdDSA", TOKEN_KEY_ED25519)

enum token_key_kind {
    TOKEN_KEY_SECRET,
    TOKEN_KEY_RSA,
    TOKEN_KEY_P256,
    TOKEN_KEY_ED25519
};

#define TOKEN_ALGORITHM_ENUM(id, name, kind) TOKEN_##id,
enum token_algorithm { TOKEN_ALGORITHMS(TOKEN_ALGORITHM_ENUM) TOKEN_ALGORITHM_COUNT };

/* Why a token is refused. X(enum, label of the log and the metric, what the client is told) */
#define TOKEN_REFUSALS(X)                                                                \
    X(MISSING, "missing", "a bearer token is required")                                  \
    X(TOO_LARGE, "too_large", "the token is too long")                                   \
    X(MALFORMED, "malformed", "the token is not a signed JWT")                           \
    X(ALGORITHM, "algorithm", "the token's algorithm is not one that is accepted")       \
    X(KEY, "key", "the token's key is not known")                                        \
    X(SIGNATURE, "signature", "the token's signature does not verify")                   \
    X(CLAIMS, "claims", "the token's claims are not what they should be")                \
    X(TYPE, "type", "the token is one for another purpose")                              \
    X(EXPIRED, "expired", "the token has expired")                                       \
    X(NOT_YET, "not_yet", "the token is not valid yet")                                  \
    X(ISSUER, "issuer", "the token's issuer is not one that is accepted")                \
    X(AUDIENCE, "audience", "the token is for another audience")                         \
    X(SUBJECT, "subject", "the token names no subject")                                  \
    X(NO_KEYS, "no_keys", "the keys that verify tokens can't be had just now")           \
    X(INTERNAL, "internal", "the token could not be checked")

#define TOKEN_REFUSAL_ENUM(id, label, text) TOKEN_REFUSED_##id,
enum token_refusal {
    TOKEN_ACCEPTED,
    TOKEN_REFUSALS(TOKEN_REFUSAL_ENUM) TOKEN_REFUSAL_COUNT
};

const char *token_refusal_label(enum token_refusal why);
const char *token_refusal_text(enum token_refusal why);

/* --- Keys: an immutable set, shared by reference --- */

struct token_keys;

/* Of a shared secret; at least TOKEN_SECRET_MIN bytes. */
int token_keys_of_secret(struct slice secret, struct token_keys **out, struct err *err);
/* Of a file's text: a public key (or certificate) in PEM form, or a JSON Web Key Set. Shared
 * secrets ("oct") in a set are taken only when secrets is true. Keys of other kinds, sizes and
 * uses are left out; ERR_INVALID when none is left. */
int token_keys_of_text(struct slice text, bool secrets, struct token_keys **out,
                       struct err *err);
struct token_keys *token_keys_retain(struct token_keys *keys);
void token_keys_release(struct token_keys *keys); /* NULL is fine */
/* Bits 1 << enum token_algorithm: those that some key could verify. */
unsigned token_keys_algorithms(const struct token_keys *keys);

/* "RS256,ES256" to bits; ERR_INVALID names what is none. */
int token_algorithms_parse(struct slice text, unsigned *out, struct err *err);

/* --- Verification --- */

struct token_rules {
    unsigned algorithms;  /* bits; no other is accepted */
    const char *issuer;   /* NULL: any */
    const char *audience; /* NULL: any */
    const char *type;     /* the header's typ must be this; NULL: not TOKEN_SHAPE_TYPE */
    const char *subject_claim; /* NULL: none is needed */
    int64_t skew_s;            /* how far clocks may differ */
};

/* A token that was verified. Immutable, reference-counted, any thread. */
struct token {
    atomic_uint refs;
    json_t *claims;    /* an object; only to be read */
    char *claims_text; /* the same as compact JSON, without NUL */
    char *subject;     /* "" when none is needed */
    const char *role;  /* the claim "role", or NULL */
    int64_t expires_s; /* since 1970; as the token says */
    int64_t ends_s;    /* so long it counts: a clock's difference later */
    int64_t verified_s;
};

/* 0 with an owned *out; ERR_INVALID with *why; ERR_MEMORY. now_s: since 1970. */
int token_verify(const struct token_keys *keys, const struct token_rules *rules,
                 struct slice text, int64_t now_s, struct token **out,
                 enum token_refusal *why);
struct token *token_retain(struct token *token);
void token_release(struct token *token); /* NULL is fine */

/* The token of an "authorization" header's value; false when it is none (RFC 6750, 2.1). */
bool token_of_header(struct slice header, struct slice *out);

/* --- Issuing --- */

#define TOKEN_SHAPE_TYPE "shape+jwt"

/* Signs the payload's bytes with HS256, header {"alg":"HS256","typ":type}: equal input gives
 * equal bytes. *out is freed by the caller. */
int token_sign(struct slice secret, const char *type, struct slice payload, char **out,
               struct err *err);

/* Once per process, before the first call; not thread-safe. */
int token_global_init(void);

#define TOKEN_HASH_BYTES 32
/* SHA-256. */
void token_hash(struct slice bytes, unsigned char out[TOKEN_HASH_BYTES]);

#endif
