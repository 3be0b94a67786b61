/* The gatekeeper's parts put together: see gate.h. authorise.c asks the database. */
#include "server/gate/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX_BYTES    (256u * 1024)
#define CACHED_TOKENS_MAX 16384
#define CACHE_AGE_S       60
#define SUBJECTS_MAX      65536
#define KEYS_REFRESH_MS   600000
#define KEYS_AGAIN_MS     10000
#define SHAPE_AUDIENCE    "coulomb:shape"
#define PAYLOAD_MAX_BYTES (64u * 1024)

bool gate_is_on(const struct gate_config *c)
{
    return c->secret || c->key_file || c->jwks_url;
}

static int read_whole(FILE *file, const char *path, size_t max_bytes, char *text,
                      size_t *len, struct err *err)
{
    *len = fread(text, 1, max_bytes, file);
    text[*len] = '\0';
    if (ferror(file))
        return err_errno(err, ERR_INVALID, errno, "the file %.200s can't be read", path);
    if (*len == max_bytes)
        return err_set(err, ERR_INVALID, "the file %.200s is longer than %zu bytes", path,
                       max_bytes - 1);
    return 0;
}

int gate_read_file(const char *path, size_t max_bytes, char **out, size_t *len,
                   struct err *err)
{
    FILE *file = fopen(path, "rbe");

    *out = NULL;
    if (!file)
        return err_errno(err, ERR_INVALID, errno, "the file %.200s can't be read", path);
    char *text = malloc(max_bytes + 1);
    int rc = text ? read_whole(file, path, max_bytes, text, len, err)
                  : err_set(err, ERR_MEMORY, "no memory for the file %.200s", path);
    (void)fclose(file);
    if (rc == 0)
        *out = text;
    else
        free(text);
    return rc;
}

/* --- Making --- */

static void on_keys_changed(void *ctx)
{
    struct gate *gate = ctx;

    token_cache_clear(gate->auth_cache);
}

static int read_key_file(struct gate *gate, struct err *err)
{
    struct err why = {0};
    char *text;
    size_t len;
    int rc = gate_read_file(gate->config.key_file, FILE_MAX_BYTES, &text, &len, err);

    if (rc != 0)
        return rc;
    rc = token_keys_of_text(slice_make(text, len), true, &gate->keys, &why);
    free(text);
    return rc == 0 ? 0 : err_set(err, rc, "COULOMB_AUTH_KEY_FILE: %s", why.message);
}

static int make_keys(struct gate *gate, struct err *err)
{
    const struct gate_config *c = &gate->config;
    struct jwks_config jwks = {.log = c->log,
                               .url = c->jwks_url,
                               .refresh_ms = KEYS_REFRESH_MS,
                               .ask_again_ms = KEYS_AGAIN_MS,
                               .changed = on_keys_changed,
                               .ctx = gate};
    struct err why = {0};
    int rc;

    if (c->key_file)
        return read_key_file(gate, err);
    if (c->jwks_url) {
        rc = jwks_new(&jwks, &gate->jwks, &why);
        return rc == 0 ? 0 : err_set(err, rc, "COULOMB_AUTH_JWKS_URL: %s", why.message);
    }
    rc = token_keys_of_secret(slice_of(c->secret), &gate->keys, &why);
    return rc == 0 ? 0 : err_set(err, rc, "COULOMB_AUTH_SECRET: %s", why.message);
}

/* What is pinned when nothing is configured: never a shared secret beside public keys. */
static unsigned default_algorithms(const struct gate *gate)
{
    if (gate->config.secret)
        return 1u << TOKEN_HS256;
    return 1u << TOKEN_RS256 | 1u << TOKEN_ES256 | 1u << TOKEN_EDDSA;
}

static int pin_algorithms(struct gate *gate, struct err *err)
{
    const struct gate_config *c = &gate->config;
    struct err why = {0};
    unsigned bits = default_algorithms(gate);

    if (c->algorithms &&
        token_algorithms_parse(slice_of(c->algorithms), &bits, &why) != 0)
        return err_set(err, ERR_INVALID, "COULOMB_AUTH_ALGORITHMS: %s", why.message);
    if (bits == 0 || (gate->keys && !(bits & token_keys_algorithms(gate->keys))))
        return err_set(
            err, ERR_INVALID,
            "COULOMB_AUTH_ALGORITHMS: none of them can be verified with the keys "
            "that are configured, so no token would be accepted");
    gate->auth_rules = (struct token_rules){.algorithms = bits,
                                            .issuer = c->issuer,
                                            .audience = c->audience,
                                            .subject_claim = c->subject_claim,
                                            .skew_s = c->skew_ms / 1000};
    return 0;
}

static int make_shape_side(struct gate *gate, struct err *err)
{
    const struct gate_config *c = &gate->config;
    struct err why = {0};

    if (!c->shape_secret)
        return err_set(
            err, ERR_INVALID,
            "COULOMB_SHAPE_SECRET: it is not set, so shape tokens could not be "
            "signed. Set it to at least %u random bytes (openssl rand -hex 32)",
            TOKEN_SECRET_MIN);
    if (c->secret && strcmp(c->secret, c->shape_secret) == 0)
        return err_set(
            err, ERR_INVALID,
            "COULOMB_SHAPE_SECRET: it is the same as COULOMB_AUTH_SECRET. Whoever "
            "can sign in users could then forge grants: use another");
    if (token_keys_of_secret(slice_of(c->shape_secret), &gate->shape_keys, &why) != 0)
        return err_set(err, ERR_INVALID, "COULOMB_SHAPE_SECRET: %s", why.message);
    gate->shape_rules = (struct token_rules){.algorithms = 1u << TOKEN_HS256,
                                             .audience = SHAPE_AUDIENCE,
                                             .type = TOKEN_SHAPE_TYPE};
    return 0;
}

static int make_policy(struct gate *gate, struct err *err)
{
    const struct gate_config *c = &gate->config;
    struct err why = {0};
    char *text;
    size_t len;

    if (c->policy_file && c->function)
        return err_set(
            err, ERR_INVALID,
            "COULOMB_GATE_POLICY_FILE and COULOMB_GATE_FUNCTION contradict each "
            "other: one of the two decides. Drop the other");
    if (c->function)
        return gate_check_function(gate, err);
    if (!c->policy_file)
        return 0;
    int rc = gate_read_file(c->policy_file, FILE_MAX_BYTES, &text, &len, err);
    if (rc != 0)
        return rc;
    rc = policy_new(slice_make(text, len), &gate->policy, &why);
    free(text);
    return rc == 0 ? 0 : err_set(err, rc, "COULOMB_GATE_POLICY_FILE: %s", why.message);
}

/* Cuts "a, b" into gate->roles. */
static int read_roles(struct gate *gate, struct err *err)
{
    struct slice rest = slice_of(gate->config.roles);

    while (rest.len > 0) {
        const char *comma = memchr(rest.ptr, ',', rest.len);
        size_t len = comma ? (size_t)(comma - rest.ptr) : rest.len;
        struct slice name = slice_trim(slice_make(rest.ptr, len));

        rest = comma ? slice_make(comma + 1, rest.len - len - 1) : slice_make("", 0);
        if (name.len == 0 || name.len > 63 || gate->role_count == GATE_ROLES_MAX)
            return err_set(err, ERR_INVALID,
                           "COULOMB_WRITE_ROLES: it must be 1 to %d names of roles, "
                           "separated by commas",
                           GATE_ROLES_MAX);
        gate->roles[gate->role_count] = slice_dup(name);
        if (!gate->roles[gate->role_count++])
            return err_set(err, ERR_MEMORY, "no memory for the roles");
    }
    return 0;
}

static int make_tables(struct gate *gate, struct err *err)
{
    gate->auth_cache = token_cache_new(CACHED_TOKENS_MAX, CACHE_AGE_S);
    gate->shape_cache = token_cache_new(CACHED_TOKENS_MAX, CACHE_AGE_S);
    gate->rate =
        gate->config.rate_per_s ? rate_new(gate->config.rate_per_s, SUBJECTS_MAX) : NULL;
    gate->row_security = row_security_new();
    if (!gate->auth_cache || !gate->shape_cache || !gate->row_security ||
        (gate->config.rate_per_s && !gate->rate))
        return err_set(err, ERR_MEMORY, "no memory for the gatekeeper");
    return 0;
}

int gate_new(const struct gate_config *config, struct gate **out, struct err *err)
{
    struct gate *gate = calloc(1, sizeof *gate);
    int rc = 0;

    *out = NULL;
    if (!gate || token_global_init() != 0) {
        free(gate);
        return err_set(err, ERR_MEMORY, "no memory for the gatekeeper");
    }
    gate->config = *config;
    if (!!config->secret + !!config->key_file + !!config->jwks_url > 1)
        rc = err_set(
            err, ERR_INVALID,
            "COULOMB_AUTH_SECRET, COULOMB_AUTH_KEY_FILE and COULOMB_AUTH_JWKS_URL "
            "contradict each other: tokens are verified with one of them. Drop the "
            "others");
    rc = rc ? rc : make_tables(gate, err);
    if (gate_is_on(config)) { /* else nobody has a token that counts */
        rc = rc ? rc : make_keys(gate, err);
        rc = rc ? rc : pin_algorithms(gate, err);
        rc = rc ? rc : make_shape_side(gate, err);
    }
    rc = rc ? rc : make_policy(gate, err);
    rc = rc ? rc : read_roles(gate, err);
    if (rc != 0)
        gate_free(gate);
    else
        *out = gate;
    return rc;
}

void gate_free(struct gate *gate)
{
    if (!gate)
        return;
    jwks_free(gate->jwks); /* its thread clears the cache */
    token_keys_release(gate->keys);
    token_keys_release(gate->shape_keys);
    token_cache_free(gate->auth_cache);
    token_cache_free(gate->shape_cache);
    rate_free(gate->rate);
    policy_free(gate->policy);
    row_security_free(gate->row_security);
    for (size_t i = 0; i < gate->role_count; i++)
        free(gate->roles[i]);
    free(gate);
}

/* --- Who --- */

/* generation: of the cache, before the keys were taken. */
static int verify(struct token_cache *cache, uint64_t generation,
                  const struct token_keys *keys, const struct token_rules *rules,
                  struct slice text, int64_t now_s, struct token **out,
                  enum token_refusal *why)
{
    unsigned char hash[TOKEN_HASH_BYTES];

    if (text.len > TOKEN_MAX_BYTES) {
        *why = TOKEN_REFUSED_TOO_LARGE;
        return ERR_INVALID;
    }
    token_hash(text, hash);
    *why = TOKEN_ACCEPTED;
    *out = token_cache_get(cache, hash, now_s);
    if (*out)
        return 0;
    int rc = token_verify(keys, rules, text, now_s, out, why);
    if (rc == 0)
        token_cache_put(cache, hash, *out, generation);
    return rc;
}

int gate_verify_auth(struct gate *gate, struct slice text, int64_t now_s,
                     struct token **out, enum token_refusal *why)
{
    uint64_t generation = token_cache_generation(gate->auth_cache);
    struct token_keys *keys = gate->jwks   ? jwks_keys(gate->jwks)
                              : gate->keys ? token_keys_retain(gate->keys)
                                           : NULL;

    *out = NULL;
    if (!keys && !gate->jwks) { /* no token counts here */
        *why = TOKEN_REFUSED_KEY;
        return ERR_INVALID;
    }
    if (!keys) {
        *why = TOKEN_REFUSED_NO_KEYS;
        return ERR_RETRY;
    }
    int rc = verify(gate->auth_cache, generation, keys, &gate->auth_rules, text, now_s,
                    out, why);
    token_keys_release(keys);
    if (gate->jwks && *why == TOKEN_REFUSED_KEY)
        jwks_ask(gate->jwks);
    return rc;
}

int gate_verify_shape(struct gate *gate, struct slice text, int64_t now_s,
                      struct token **out, struct grant *grant, enum token_refusal *why)
{
    int rc = verify(gate->shape_cache, token_cache_generation(gate->shape_cache),
                    gate->shape_keys, &gate->shape_rules, text, now_s, out, why);

    if (rc == 0 && grant_read(json_object_get((*out)->claims, "shape"), grant) != 0) {
        token_release(*out);
        *out = NULL;
        *why = TOKEN_REFUSED_CLAIMS;
        rc = ERR_INVALID;
    }
    return rc;
}

int gate_role(const struct gate *gate, const struct token *token, const char **out)
{
    if (!token) {
        *out = gate->config.anonymous_role;
        return *out ? 0 : ERR_INVALID;
    }
    *out = gate->role_count > 0 ? gate->roles[0] : NULL;
    if (!token->role || gate->role_count == 0)
        return 0;
    for (size_t i = 0; i < gate->role_count; i++) {
        *out = gate->roles[i];
        if (strcmp(*out, token->role) == 0)
            return 0;
    }
    *out = NULL;
    return ERR_INVALID;
}

int64_t gate_limit(struct gate *gate, struct slice subject, int64_t now_ms)
{
    return gate->rate ? rate_take(gate->rate, subject, now_ms) : 0;
}

/* --- Issuing --- */

int gate_issue(const struct gate *gate, const json_t *grant, int64_t now_s, char **out,
               struct err *err)
{
    int64_t window_s = gate->config.shape_lifetime_ms / 2000;
    struct buf payload;
    int rc;

    window_s = window_s > 0 ? window_s : 1;
    int64_t expires_s = (now_s / window_s + 2) * window_s;
    buf_init(&payload, PAYLOAD_MAX_BYTES);
    buf_printf(&payload, "{\"aud\":\"" SHAPE_AUDIENCE "\",\"exp\":%lld,\"shape\":",
               (long long)expires_s);
    grant_print(grant, &payload);
    buf_putc(&payload, '}');
    *out = NULL;
    if (payload.failed)
        rc = err_set(err, ERR_LIMIT, "the grant is longer than a token may be");
    else
        rc = token_sign(slice_of(gate->config.shape_secret), TOKEN_SHAPE_TYPE,
                        buf_slice(&payload), out, err);
    buf_fini(&payload);
    if (rc == 0 && strlen(*out) > TOKEN_MAX_BYTES) {
        free(*out);
        *out = NULL;
        rc = err_set(err, ERR_LIMIT, "the grant's token is longer than %u bytes",
                     TOKEN_MAX_BYTES);
    }
    return rc;
}
