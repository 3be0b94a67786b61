/* Keys that verify tokens. A key is looked at once, when it is read: its kind decides for good
 * which algorithms it may serve. */
#include "server/gate/keys.h"

#include <stdlib.h>
#include <string.h>

#define KEYS_TEXT_MAX (256u * 1024)

#define X(id, label, kind) {label, kind, R_JWA_ALG_##id},
static const struct token_algorithm_info algorithms[] = {TOKEN_ALGORITHMS(X)};
#undef X

const struct token_algorithm_info *token_algorithm_info(enum token_algorithm which)
{
    return &algorithms[which];
}

int token_algorithms_parse(struct slice text, unsigned *out, struct err *err)
{
    unsigned bits = 0;

    while (text.len > 0) {
        const char *comma = memchr(text.ptr, ',', text.len);
        size_t len = comma ? (size_t)(comma - text.ptr) : text.len;
        struct slice name = slice_trim(slice_make(text.ptr, len));
        unsigned i = 0;

        while (i < TOKEN_ALGORITHM_COUNT && !slice_eq(name, slice_of(algorithms[i].name)))
            i++;
        if (i == TOKEN_ALGORITHM_COUNT)
            return err_set(err, ERR_INVALID,
                           "\"%.*s\" is no algorithm that is known: it is one of HS256, "
                           "HS384, HS512, RS256, PS256, ES256, EdDSA",
                           (int)(name.len < 40 ? name.len : 40), name.ptr);
        bits |= 1u << i;
        text = comma ? slice_make(comma + 1, text.len - len - 1) : slice_make("", 0);
    }
    *out = bits;
    return 0;
}

unsigned token_keys_algorithms(const struct token_keys *keys)
{
    unsigned bits = 0;

    for (size_t i = 0; i < keys->count; i++)
        for (unsigned a = 0; a < TOKEN_ALGORITHM_COUNT; a++)
            if (algorithms[a].kind == keys->items[i].kind)
                bits |= 1u << a;
    return bits;
}

/* --- One key --- */

/* False when it is of a kind, size or use that verifies nothing here. */
static bool classify(jwk_t *jwk, struct token_key *out)
{
    unsigned bits = 0;
    int type = r_jwk_key_type(jwk, &bits, R_FLAG_IGNORE_REMOTE);
    const char *curve = r_jwk_get_property_str(jwk, "crv");
    const char *use = r_jwk_get_property_str(jwk, "use");

    *out = (struct token_key){.jwk = jwk,
                              .id = r_jwk_get_property_str(jwk, "kid"),
                              .alg = r_jwk_get_property_str(jwk, "alg")};
    if (use && strcmp(use, "sig") != 0)
        return false;
    if (type & R_KEY_TYPE_SYMMETRIC) {
        out->kind = TOKEN_KEY_SECRET;
        return bits >= TOKEN_SECRET_MIN * 8;
    }
    if (type & R_KEY_TYPE_RSA) {
        out->kind = TOKEN_KEY_RSA;
        return bits >= TOKEN_RSA_MIN;
    }
    if ((type & R_KEY_TYPE_EC) && curve && strcmp(curve, "P-256") == 0) {
        out->kind = TOKEN_KEY_P256;
        return true;
    }
    out->kind = TOKEN_KEY_ED25519;
    return (type & R_KEY_TYPE_EDDSA) && curve && strcmp(curve, "Ed25519") == 0;
}

/* Takes the key. */
static void add(struct token_keys *keys, jwk_t *jwk, bool secrets)
{
    struct token_key key;

    if (keys->count < TOKEN_KEYS_MAX && classify(jwk, &key) &&
        (secrets || key.kind != TOKEN_KEY_SECRET))
        keys->items[keys->count++] = key;
    else
        r_jwk_free(jwk);
}

static struct token_keys *make(void)
{
    struct token_keys *keys = calloc(1, sizeof *keys);

    if (keys)
        atomic_init(&keys->refs, 1);
    return keys;
}

struct token_keys *token_keys_retain(struct token_keys *keys)
{
    atomic_fetch_add(&keys->refs, 1);
    return keys;
}

void token_keys_release(struct token_keys *keys)
{
    if (!keys || atomic_fetch_sub(&keys->refs, 1) != 1)
        return;
    for (size_t i = 0; i < keys->count; i++)
        r_jwk_free(keys->items[i].jwk);
    free(keys);
}

/* --- Where they come from --- */

int token_keys_of_secret(struct slice secret, struct token_keys **out, struct err *err)
{
    jwk_t *jwk = NULL;

    *out = NULL;
    if (secret.len < TOKEN_SECRET_MIN)
        return err_set(
            err, ERR_INVALID,
            "the secret has %zu bytes; it must have at least %u, or it could be "
            "guessed",
            secret.len, TOKEN_SECRET_MIN);
    struct token_keys *keys = make();
    if (!keys || r_jwk_init(&jwk) != RHN_OK ||
        r_jwk_import_from_symmetric_key(jwk, (const unsigned char *)secret.ptr,
                                        secret.len) != RHN_OK) {
        r_jwk_free(jwk);
        token_keys_release(keys);
        return err_set(err, ERR_MEMORY, "no memory for the secret");
    }
    add(keys, jwk, true);
    *out = keys;
    return 0;
}

static int read_set(struct token_keys *keys, struct slice text, bool secrets,
                    struct err *err)
{
    json_t *set = json_loadb(text.ptr, text.len, JSON_REJECT_DUPLICATES, NULL);
    const json_t *list = json_object_get(set, "keys");

    if (!json_is_array(list)) {
        json_decref(set);
        return err_set(err, ERR_INVALID,
                       "it is no JSON Web Key Set: {\"keys\":[...]} is expected");
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        jwk_t *jwk = NULL;

        if (r_jwk_init(&jwk) == RHN_OK &&
            r_jwk_import_from_json_t(jwk, json_array_get(list, i)) == RHN_OK)
            add(keys, jwk, secrets);
        else
            r_jwk_free(jwk);
    }
    json_decref(set);
    return 0;
}

static int read_pem(struct token_keys *keys, struct slice text, struct err *err)
{
    bool certificate = memmem(text.ptr, text.len, "BEGIN CERTIFICATE", 17) != NULL;
    jwk_t *jwk = NULL;

    if (memmem(text.ptr, text.len, "PRIVATE KEY", 11))
        return err_set(err, ERR_INVALID,
                       "it holds a private key; tokens are verified with the public one "
                       "(openssl pkey -in private.pem -pubout)");
    if (r_jwk_init(&jwk) != RHN_OK)
        return err_set(err, ERR_MEMORY, "no memory for a key");
    if (r_jwk_import_from_pem_der(
            jwk, certificate ? R_X509_TYPE_CERTIFICATE : R_X509_TYPE_PUBKEY, R_FORMAT_PEM,
            (const unsigned char *)text.ptr, text.len) != RHN_OK) {
        r_jwk_free(jwk);
        return err_set(err, ERR_INVALID,
                       "it is neither a public key in PEM form nor a JSON Web Key Set");
    }
    /* What the library makes up for it is no name that a token would use. */
    r_jwk_delete_property_str(jwk, "kid");
    add(keys, jwk, false);
    return 0;
}

int token_keys_of_text(struct slice text, bool secrets, struct token_keys **out,
                       struct err *err)
{
    struct token_keys *keys = make();
    struct slice trimmed = slice_trim(text);
    int rc;

    *out = NULL;
    if (!keys)
        return err_set(err, ERR_MEMORY, "no memory for keys");
    if (text.len > KEYS_TEXT_MAX)
        rc = err_set(err, ERR_LIMIT, "it is longer than %u bytes", KEYS_TEXT_MAX);
    else if (trimmed.len > 0 && (trimmed.ptr[0] == '{' || trimmed.ptr[0] == '['))
        rc = read_set(keys, trimmed, secrets, err);
    else
        rc = read_pem(keys, text, err);
    if (rc == 0 && keys->count == 0)
        rc =
            err_set(err, ERR_INVALID,
                    "it holds no key that could verify a token: RSA of at least %u bits, "
                    "P-256 or Ed25519, for signatures, is expected",
                    TOKEN_RSA_MIN);
    if (rc != 0)
        token_keys_release(keys);
    else
        *out = keys;
    return rc;
}
