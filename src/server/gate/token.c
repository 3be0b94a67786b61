/* Verification, in the order in which a token is refused: form, header, algorithm, key,
 * signature, then claims. The library does the cryptography; which algorithm and which keys it
 * may use is decided here, before it sees anything.
 *
 * Header and claims are parsed strictly (a member given twice is refused), so that nobody can
 * read another value than we do. */
#include "server/gate/keys.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64url.h"
#include "base/buf.h"

#define REALLY_LATE_S 253402300800 /* the year 10000 */

#define X(id, label, text) label,
static const char *const labels[] = {"accepted", TOKEN_REFUSALS(X)};
#undef X
#define X(id, label, text) text,
static const char *const texts[] = {"", TOKEN_REFUSALS(X)};
#undef X

const char *token_refusal_label(enum token_refusal why)
{
    return labels[why];
}

const char *token_refusal_text(enum token_refusal why)
{
    return texts[why];
}

int token_global_init(void)
{
    json_object_seed(0);
    return r_global_init() == RHN_OK ? 0 : ERR_MEMORY;
}

void token_hash(struct slice bytes, unsigned char out[TOKEN_HASH_BYTES])
{
    gnutls_hash_fast(GNUTLS_DIG_SHA256, bytes.ptr, bytes.len, out);
}

struct token *token_retain(struct token *token)
{
    atomic_fetch_add(&token->refs, 1);
    return token;
}

void token_release(struct token *token)
{
    if (!token || atomic_fetch_sub(&token->refs, 1) != 1)
        return;
    json_decref(token->claims);
    free(token->claims_text);
    free(token->subject);
    free(token);
}

bool token_of_header(struct slice header, struct slice *out)
{
    struct slice h = slice_trim(header);

    if (h.len < 8 || !slice_eq_nocase(slice_make(h.ptr, 7), SLICE_LIT("bearer ")))
        return false;
    *out = slice_trim(slice_make(h.ptr + 7, h.len - 7));
    return out->len > 0;
}

/* --- Form --- */

/* The JSON object of a part, or NULL. */
static json_t *read_part(struct slice part)
{
    struct buf bytes;
    json_t *object = NULL;

    buf_init(&bytes, TOKEN_MAX_BYTES);
    if (part.len > 0 && base64url_decode(part, &bytes))
        object = json_loadb(bytes.ptr, bytes.len, JSON_REJECT_DUPLICATES, NULL);
    buf_fini(&bytes);
    if (object && !json_is_object(object)) {
        json_decref(object);
        object = NULL;
    }
    return object;
}

struct parts {
    struct slice header;
    struct slice payload;
    struct slice signature;
};

static bool split(struct slice text, struct parts *out)
{
    const char *end = text.ptr + text.len;
    const char *first = memchr(text.ptr, '.', text.len);
    const char *second = first ? memchr(first + 1, '.', (size_t)(end - first - 1)) : NULL;

    if (!second || memchr(second + 1, '.', (size_t)(end - second - 1)))
        return false;
    out->header = slice_make(text.ptr, (size_t)(first - text.ptr));
    out->payload = slice_make(first + 1, (size_t)(second - first - 1));
    out->signature = slice_make(second + 1, (size_t)(end - second - 1));
    for (size_t i = 0; i < text.len; i++)
        if (text.ptr[i] != '.' && !base64url_is_digit(text.ptr[i]))
            return false;
    return out->header.len > 0 && out->payload.len > 0;
}

/* --- Header --- */

struct header {
    enum token_algorithm algorithm;
    const char *key_id; /* NULL: none; lives in the JSON */
};

static enum token_refusal read_header(const json_t *json, const struct token_rules *rules,
                                      struct header *out)
{
    static const char *const critical[] = {"crit", "b64", "zip", "cty"};
    const char *name = json_string_value(json_object_get(json, "alg"));
    const char *type = json_string_value(json_object_get(json, "typ"));
    unsigned i = 0;

    /* Members that change what the rest means; nested tokens are told by cty. */
    for (size_t c = 0; c < sizeof critical / sizeof critical[0]; c++)
        if (json_object_get(json, critical[c]))
            return TOKEN_REFUSED_MALFORMED;
    while (name && i < TOKEN_ALGORITHM_COUNT &&
           strcmp(name, token_algorithm_info((enum token_algorithm)i)->name) != 0)
        i++;
    if (!name || i == TOKEN_ALGORITHM_COUNT || !(rules->algorithms >> i & 1))
        return TOKEN_REFUSED_ALGORITHM;
    if (rules->type ? !type || strcmp(type, rules->type) != 0
                    : type && strcmp(type, TOKEN_SHAPE_TYPE) == 0)
        return TOKEN_REFUSED_TYPE;
    out->algorithm = (enum token_algorithm)i;
    out->key_id = json_string_value(json_object_get(json, "kid"));
    return TOKEN_ACCEPTED;
}

/* --- Signature --- */

static bool may_verify(const struct token_key *key, const struct header *header)
{
    const struct token_algorithm_info *info = token_algorithm_info(header->algorithm);

    return key->kind == info->kind && (!key->alg || strcmp(key->alg, info->name) == 0) &&
           (!header->key_id || !key->id || strcmp(key->id, header->key_id) == 0);
}

static enum token_refusal check_signature(const struct token_keys *keys,
                                          const struct header *header, struct slice text)
{
    enum token_refusal why = TOKEN_REFUSED_KEY;
    jws_t *jws = NULL;

    if (r_jws_init(&jws) != RHN_OK)
        return TOKEN_REFUSED_INTERNAL;
    /* Nothing that a header names is imported or fetched. */
    if (r_jws_advanced_compact_parsen(jws, text.ptr, text.len, R_PARSE_NONE,
                                      R_FLAG_IGNORE_REMOTE) != RHN_OK ||
        r_jws_get_alg(jws) != token_algorithm_info(header->algorithm)->jwa) {
        r_jws_free(jws);
        return TOKEN_REFUSED_MALFORMED;
    }
    for (size_t i = 0; i < keys->count && why != TOKEN_ACCEPTED; i++) {
        if (!may_verify(&keys->items[i], header))
            continue;
        why = TOKEN_REFUSED_SIGNATURE;
        if (r_jws_verify_signature(jws, keys->items[i].jwk, R_FLAG_IGNORE_REMOTE) ==
            RHN_OK)
            why = TOKEN_ACCEPTED;
    }
    r_jws_free(jws);
    return why;
}

/* --- Claims --- */

/* A NumericDate: whole seconds or a fraction of them. False when it is none. */
static bool read_time(const json_t *claims, const char *name, bool *present, int64_t *out)
{
    const json_t *value = json_object_get(claims, name);

    *present = value != NULL;
    if (!value)
        return true;
    if (!json_is_number(value))
        return false;
    double seconds = json_number_value(value);
    if (!(seconds >= 0 && seconds < (double)REALLY_LATE_S))
        return false;
    *out = (int64_t)seconds;
    return true;
}

static enum token_refusal check_times(const json_t *claims, int64_t skew_s, int64_t now_s,
                                      int64_t *expires_s)
{
    bool has_exp;
    bool has_nbf;
    bool has_iat;
    int64_t nbf = 0;
    int64_t iat = 0;

    if (!read_time(claims, "exp", &has_exp, expires_s) || !has_exp ||
        !read_time(claims, "nbf", &has_nbf, &nbf) ||
        !read_time(claims, "iat", &has_iat, &iat))
        return TOKEN_REFUSED_CLAIMS;
    if (now_s >= *expires_s + skew_s)
        return TOKEN_REFUSED_EXPIRED;
    return has_nbf && now_s + skew_s < nbf ? TOKEN_REFUSED_NOT_YET : TOKEN_ACCEPTED;
}

/* aud is one text or a list of them (RFC 7519, 4.1.3). */
static bool has_audience(const json_t *aud, const char *wanted)
{
    if (json_is_string(aud))
        return strcmp(json_string_value(aud), wanted) == 0;
    for (size_t i = 0; i < json_array_size(aud); i++) {
        const char *one = json_string_value(json_array_get(aud, i));

        if (one && strcmp(one, wanted) == 0)
            return true;
    }
    return false;
}

static enum token_refusal check_claims(const json_t *claims,
                                       const struct token_rules *rules, int64_t now_s,
                                       int64_t *expires_s)
{
    const char *issuer = json_string_value(json_object_get(claims, "iss"));
    enum token_refusal why = check_times(claims, rules->skew_s, now_s, expires_s);

    if (why != TOKEN_ACCEPTED)
        return why;
    if (rules->issuer && (!issuer || strcmp(issuer, rules->issuer) != 0))
        return TOKEN_REFUSED_ISSUER;
    if (rules->audience && !has_audience(json_object_get(claims, "aud"), rules->audience))
        return TOKEN_REFUSED_AUDIENCE;
    return TOKEN_ACCEPTED;
}

/* The subject, owned; NULL when there is none that could be one. */
static char *read_subject(const json_t *claims, const char *name)
{
    const json_t *value = name ? json_object_get(claims, name) : NULL;
    char number[32];

    if (!name)
        return strdup("");
    if (json_is_integer(value)) {
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(value));
        return strdup(number);
    }
    size_t len = json_is_string(value) ? json_string_length(value) : 0;
    return len > 0 && len <= TOKEN_SUBJECT_MAX ? strdup(json_string_value(value)) : NULL;
}

/* Takes claims. */
static enum token_refusal make_token(json_t *claims, const struct token_rules *rules,
                                     int64_t now_s, struct token **out)
{
    struct token *token = calloc(1, sizeof *token);
    enum token_refusal why = TOKEN_REFUSED_INTERNAL;

    if (!token) {
        json_decref(claims);
        return why;
    }
    atomic_init(&token->refs, 1);
    token->claims = claims;
    token->verified_s = now_s;
    why = check_claims(claims, rules, now_s, &token->expires_s);
    token->ends_s = token->expires_s + rules->skew_s;
    if (why == TOKEN_ACCEPTED) {
        token->claims_text = json_dumps(claims, JSON_COMPACT);
        token->subject = read_subject(claims, rules->subject_claim);
        token->role = json_string_value(json_object_get(claims, "role"));
        if (!token->claims_text)
            why = TOKEN_REFUSED_INTERNAL;
        else if (!token->subject)
            why = TOKEN_REFUSED_SUBJECT;
    }
    if (why == TOKEN_ACCEPTED)
        *out = token;
    else
        token_release(token);
    return why;
}

static enum token_refusal verify(const struct token_keys *keys,
                                 const struct token_rules *rules, struct slice text,
                                 int64_t now_s, struct token **out)
{
    struct header header;
    struct parts parts;

    if (text.len > TOKEN_MAX_BYTES)
        return TOKEN_REFUSED_TOO_LARGE;
    if (text.len == 0)
        return TOKEN_REFUSED_MISSING;
    if (!split(text, &parts))
        return TOKEN_REFUSED_MALFORMED;
    json_t *json = read_part(parts.header);
    enum token_refusal why =
        json ? read_header(json, rules, &header) : TOKEN_REFUSED_MALFORMED;
    if (why == TOKEN_ACCEPTED && parts.signature.len == 0)
        why = TOKEN_REFUSED_MALFORMED;
    if (why == TOKEN_ACCEPTED)
        why = check_signature(keys, &header, text);
    json_decref(json);
    if (why != TOKEN_ACCEPTED)
        return why;
    json_t *claims = read_part(parts.payload);
    return claims ? make_token(claims, rules, now_s, out) : TOKEN_REFUSED_CLAIMS;
}

int token_verify(const struct token_keys *keys, const struct token_rules *rules,
                 struct slice text, int64_t now_s, struct token **out,
                 enum token_refusal *why)
{
    *out = NULL;
    *why = verify(keys, rules, text, now_s, out);
    if (*why == TOKEN_REFUSED_INTERNAL)
        return ERR_MEMORY;
    return *why == TOKEN_ACCEPTED ? 0 : ERR_INVALID;
}

/* --- Issuing --- */

int token_sign(struct slice secret, const char *type, struct slice payload, char **out,
               struct err *err)
{
    jws_t *jws = NULL;
    jwk_t *jwk = NULL;
    char *text = NULL;

    *out = NULL;
    if (r_jws_init(&jws) == RHN_OK && r_jwk_init(&jwk) == RHN_OK &&
        r_jwk_import_from_symmetric_key(jwk, (const unsigned char *)secret.ptr,
                                        secret.len) == RHN_OK &&
        r_jws_set_alg(jws, R_JWA_ALG_HS256) == RHN_OK &&
        r_jws_set_header_str_value(jws, "typ", type) == RHN_OK &&
        r_jws_set_payload(jws, (const unsigned char *)payload.ptr, payload.len) == RHN_OK)
        text = r_jws_serialize(jws, jwk, R_FLAG_IGNORE_REMOTE);
    *out = text ? slice_dup(slice_of(text)) : NULL;
    r_free(text);
    r_jws_free(jws);
    r_jwk_free(jwk);
    return *out ? 0 : err_set(err, ERR_MEMORY, "a token could not be signed");
}
