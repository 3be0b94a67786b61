/* fuzz: server/gate */
/*
 * Tokens. The input is tried as an authorization header's value, as a token, as the claims of one
 * that is properly signed (so that what lies behind the signature is reached), as a key set and as a
 * grant. No token may be accepted whose signature was not made here; what is accepted has a subject
 * and has not expired; a normalised grant is its own normal form.
 */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>

#include "server/gate/gate.h"

#define SECRET "0123456789abcdef0123456789abcdef"
#define NOW    1000000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct token_rules rules = {
    .algorithms = 1u << TOKEN_HS256, .subject_claim = "sub", .skew_s = 10};

static struct token_keys *keys(void)
{
    static struct token_keys *made;

    if (!made && (token_global_init() != 0 ||
                  token_keys_of_secret(SLICE_LIT(SECRET), &made, NULL) != 0))
        abort();
    return made;
}

static void try_token(struct slice text, bool ours)
{
    struct token *token = NULL;
    enum token_refusal why;
    int rc = token_verify(keys(), &rules, text, NOW, &token, &why);

    if ((rc == 0) != (token != NULL) || (rc == 0) != (why == TOKEN_ACCEPTED))
        abort();
    if (token && (!ours || token->subject[0] == '\0' || token->expires_s + 10 <= NOW))
        abort();
    token_release(token);
}

static void try_claims(struct slice payload)
{
    char *text = NULL;

    if (payload.len == 0 || payload.len > 4000 ||
        token_sign(SLICE_LIT(SECRET), "JWT", payload, &text, NULL) != 0)
        return;
    try_token(slice_of(text), true);
    /* One that is cut short, or has a byte changed, is nobody's. */
    size_t len = strlen(text);
    try_token(slice_make(text, len - 1), false);
    size_t at = payload.len * 7 % len;
    if (text[at] != '.') {
        text[at] = text[at] == 'A' ? 'B' : 'A';
        try_token(slice_of(text), false);
    }
    free(text);
}

static char *normal(const json_t *in)
{
    json_t *out = NULL;
    struct buf text;

    if (grant_normalise(in, &out, NULL) != 0)
        return NULL;
    buf_init(&text, 1u << 20);
    grant_print(out, &text);
    struct grant grant;
    if (grant_read(out, &grant) != 0)
        abort();
    json_decref(out);
    return buf_take(&text, NULL);
}

static void try_grant(struct slice text)
{
    json_t *in = json_loadb(text.ptr, text.len, 0, NULL);
    char *once = in ? normal(in) : NULL;
    json_t *again = once ? json_loads(once, 0, NULL) : NULL;
    char *twice = again ? normal(again) : NULL;

    if (once && (!twice || strcmp(once, twice) != 0))
        abort();
    free(once);
    free(twice);
    json_decref(in);
    json_decref(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = slice_make(size ? (const char *)data : "", size);
    struct token_keys *set = NULL;
    struct policy *policy = NULL;
    struct slice bearer;
    struct err err = {0};

    (void)keys();
    if (token_of_header(text, &bearer))
        try_token(bearer, false);
    try_token(text, false);
    try_claims(text);
    try_grant(text);
    if (token_keys_of_text(text, true, &set, &err) == 0)
        token_keys_release(set);
    if (policy_new(text, &policy, &err) == 0)
        policy_free(policy);
    return 0;
}
