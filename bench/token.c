/* bench_token sign SECRET SUBJECT: prints an auth token that lives for a day.
 * bench_token verify: verifications per second on one core, "ALGORITHM RATE" a line, each with the
 * signature checked; "cached RATE" is what the same token costs from then on. */
#include <rhonabwy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http.h"
#include "server/gate/cache.h"

#define SECRET  "0123456789abcdef0123456789abcdef"
#define ROUND   50
#define FOR_S   1.0
#define PAYLOAD "{\"sub\":\"somebody\",\"exp\":%lld,\"role\":\"app_user\"}"

static const struct {
    const char *name;
    jwa_alg alg;
    int type;
    unsigned bits;
    enum token_algorithm algorithm;
} kinds[] = {{"hs256", R_JWA_ALG_HS256, 0, 0, TOKEN_HS256},
             {"rs256", R_JWA_ALG_RS256, R_KEY_TYPE_RSA, 2048, TOKEN_RS256},
             {"ps256", R_JWA_ALG_PS256, R_KEY_TYPE_RSA, 2048, TOKEN_PS256},
             {"es256", R_JWA_ALG_ES256, R_KEY_TYPE_EC, 256, TOKEN_ES256},
             {"eddsa", R_JWA_ALG_EDDSA, R_KEY_TYPE_EDDSA, 256, TOKEN_EDDSA}};

/* A signed token and the keys that verify it. */
static char *make(size_t kind, const char *payload, struct token_keys **keys)
{
    jwk_t *private = NULL;
    jwk_t *public = NULL;
    jws_t *jws = NULL;
    struct err err;

    r_jwk_init(&private);
    r_jwk_init(&public);
    r_jws_init(&jws);
    r_jws_set_alg(jws, kinds[kind].alg);
    r_jws_set_payload(jws, (const unsigned char *)payload, strlen(payload));
    if (kinds[kind].type == 0) {
        r_jwk_import_from_symmetric_key(private, (const unsigned char *)SECRET,
                                        sizeof(SECRET) - 1);
        if (token_keys_of_secret(SLICE_LIT(SECRET), keys, &err) != 0)
            die("%s", err.message);
    } else {
        if (r_jwk_generate_key_pair(private, public, kinds[kind].type, kinds[kind].bits,
                                    NULL) != RHN_OK)
            die("no key of %s", kinds[kind].name);
        char *jwk = r_jwk_export_to_json_str(public, 0);
        char set[8192];
        snprintf(set, sizeof(set), "{\"keys\":[%s]}", jwk);
        r_free(jwk);
        if (token_keys_of_text(slice_of(set), false, keys, &err) != 0)
            die("%s: %s", kinds[kind].name, err.message);
    }
    char *text = r_jws_serialize(jws, private, 0);
    r_jws_free(jws);
    r_jwk_free(private);
    r_jwk_free(public);
    return text;
}

static void verify_kind(size_t kind, const char *payload)
{
    const struct token_rules rules = {.algorithms = 1u << kinds[kind].algorithm,
                                      .subject_claim = "sub"};
    struct token_keys *keys = NULL;
    char *text = make(kind, payload, &keys);
    double began = now_s();
    unsigned long n = 0;

    if (!text)
        die("no token of %s", kinds[kind].name);
    do {
        for (int i = 0; i < ROUND; i++, n++) {
            struct token *token;
            enum token_refusal why;

            if (token_verify(keys, &rules, slice_of(text), (int64_t)wall_s(), &token,
                             &why) != 0)
                die("%s: %s", kinds[kind].name, token_refusal_text(why));
            token_release(token);
        }
    } while (now_s() - began < FOR_S);
    printf("%s %.0f\n", kinds[kind].name, (double)n / (now_s() - began));
    r_free(text);
    token_keys_release(keys);
}

static void verify_cached(const char *payload)
{
    const struct token_rules rules = {.algorithms = 1u << TOKEN_HS256,
                                      .subject_claim = "sub"};
    struct token_cache *cache = token_cache_new(1024, 3600);
    struct token_keys *keys = NULL;
    unsigned char hash[TOKEN_HASH_BYTES];
    char *text = make(0, payload, &keys);
    struct token *token;
    enum token_refusal why;
    unsigned long n = 0;

    if (token_verify(keys, &rules, slice_of(text), (int64_t)wall_s(), &token, &why) != 0)
        die("%s", token_refusal_text(why));
    token_hash(slice_of(text), hash);
    token_cache_put(cache, hash, token, token_cache_generation(cache));
    token_release(token);
    double began = now_s();
    do {
        for (int i = 0; i < ROUND; i++, n++) {
            token_hash(slice_of(text), hash);
            token = token_cache_get(cache, hash, (int64_t)wall_s());
            if (!token)
                die("a token was not in the cache");
            token_release(token);
        }
    } while (now_s() - began < FOR_S);
    printf("cached %.0f\n", (double)n / (now_s() - began));
    token_cache_free(cache);
    token_keys_release(keys);
    r_free(text);
}

int main(int argc, char **argv)
{
    char payload[512];

    if (token_global_init() != 0)
        die("no memory");
    if (argc == 4 && strcmp(argv[1], "sign") == 0) {
        char *text;

        snprintf(payload, sizeof(payload), "{\"sub\":\"%s\",\"exp\":%lld}", argv[3],
                 (long long)wall_s() + 86400);
        if (token_sign(slice_of(argv[2]), "JWT", slice_of(payload), &text, NULL) != 0)
            die("no memory");
        puts(text);
        free(text);
        return 0;
    }
    snprintf(payload, sizeof(payload), PAYLOAD, (long long)wall_s() + 86400);
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        verify_kind(i, payload);
    verify_cached(payload);
    return 0;
}
