/* Tokens: signing and verifying, the order of refusals, what a key may serve. The ways in which
 * tokens are attacked are tried over HTTP (tests/js/gate). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "server/gate/cache.h"
#include "server/gate/gate.h"
#include "server/gate/rate.h"

#define SECRET "0123456789abcdef0123456789abcdef"
#define NOW    1000000

static struct token_keys *keys_of(const char *secret)
{
    struct token_keys *keys = NULL;
    struct err err = {0};

    assert_int_equal(token_keys_of_secret(slice_of(secret), &keys, &err), 0);
    return keys;
}

static enum token_refusal verify(const char *text, const struct token_rules *rules)
{
    struct token_keys *keys = keys_of(SECRET);
    struct token *token = NULL;
    enum token_refusal why;
    int rc = token_verify(keys, rules, slice_of(text), NOW, &token, &why);

    assert_int_equal(rc == 0, why == TOKEN_ACCEPTED);
    assert_int_equal(rc == 0, token != NULL);
    token_release(token);
    token_keys_release(keys);
    return why;
}

/* Signs and verifies. */
static enum token_refusal try(const char *payload, const struct token_rules *rules)
{
    char *text = NULL;

    assert_int_equal(token_sign(slice_of(SECRET), "JWT", slice_of(payload), &text, NULL),
                     0);
    enum token_refusal why = verify(text, rules);
    free(text);
    return why;
}

static const struct token_rules plain = {
    .algorithms = 1u << TOKEN_HS256, .subject_claim = "sub", .skew_s = 10};

static void claims_are_checked_in_turn(void **state)
{
    struct token_rules strict = plain;

    (void)state;
    strict.issuer = "me";
    strict.audience = "you";
    assert_int_equal(try("{\"sub\":\"a\",\"exp\":1000001}", &plain), TOKEN_ACCEPTED);
    assert_int_equal(try("{\"sub\":7,\"exp\":1000001.5}", &plain), TOKEN_ACCEPTED);
    assert_int_equal(try("{\"sub\":\"a\",\"exp\":999991}", &plain), TOKEN_ACCEPTED);
    assert_int_equal(try("{\"sub\":\"a\",\"exp\":999990}", &plain),
                     TOKEN_REFUSED_EXPIRED);
    assert_int_equal(try("{\"sub\":\"a\",\"exp\":2000000,\"nbf\":1000011}", &plain),
                     TOKEN_REFUSED_NOT_YET);
    assert_int_equal(try("{\"sub\":\"a\"}", &plain), TOKEN_REFUSED_CLAIMS);
    assert_int_equal(try("{\"sub\":\"a\",\"exp\":2000000,\"iat\":\"x\"}", &plain),
                     TOKEN_REFUSED_CLAIMS);
    assert_int_equal(try("[]", &plain), TOKEN_REFUSED_CLAIMS);
    assert_int_equal(try("{\"exp\":2000000}", &plain), TOKEN_REFUSED_SUBJECT);
    assert_int_equal(try("{\"sub\":\"a\",\"exp\":2000000}", &strict),
                     TOKEN_REFUSED_ISSUER);
    assert_int_equal(try("{\"sub\":\"a\",\"exp\":2000000,\"iss\":\"me\"}", &strict),
                     TOKEN_REFUSED_AUDIENCE);
    assert_int_equal(
        try("{\"sub\":\"a\",\"exp\":2000000,\"iss\":\"me\",\"aud\":[1,\"you\"]}",
            &strict),
        TOKEN_ACCEPTED);
}

static void equal_input_gives_equal_bytes(void **state)
{
    char *one = NULL;
    char *two = NULL;
    struct token_rules shape = plain;

    (void)state;
    shape.type = TOKEN_SHAPE_TYPE;
    shape.subject_claim = NULL;
    token_sign(slice_of(SECRET), TOKEN_SHAPE_TYPE, SLICE_LIT("{\"exp\":2000000}"), &one,
               NULL);
    token_sign(slice_of(SECRET), TOKEN_SHAPE_TYPE, SLICE_LIT("{\"exp\":2000000}"), &two,
               NULL);
    assert_string_equal(one, two);
    assert_int_equal(verify(one, &shape), TOKEN_ACCEPTED);
    assert_int_equal(verify(one, &plain), TOKEN_REFUSED_TYPE);
    free(one);
    free(two);
}

static void keys_serve_their_own_kind_only(void **state)
{
    static const char set[] =
        "{\"keys\":[{\"kty\":\"oct\",\"k\":"
        "\"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY\"},"
        "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"e\","
        "\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"},"
        "{\"kty\":\"EC\",\"crv\":\"P-384\",\"x\":\"AA\",\"y\":\"AA\"},"
        "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"use\":\"enc\","
        "\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}";
    struct token_keys *keys = NULL;
    struct err err = {0};

    (void)state;
    assert_int_equal(token_keys_of_text(slice_of(set), false, &keys, &err), 0);
    assert_int_equal(token_keys_algorithms(keys), 1u << TOKEN_EDDSA);
    token_keys_release(keys);
    assert_int_equal(token_keys_of_text(slice_of(set), true, &keys, &err), 0);
    assert_int_equal(token_keys_algorithms(keys), 1u << TOKEN_EDDSA | 1u << TOKEN_HS256 |
                                                      1u << TOKEN_HS384 |
                                                      1u << TOKEN_HS512);
    token_keys_release(keys);
    static const char pem[] =
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
    static const char *const none[] = {
        "",   "x",
        "{}", "{\"keys\":[]}",
        "[]", "{\"keys\":[7,{\"kty\":\"oct\",\"k\":\"AA\"}]}",
        pem};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        assert_int_equal(token_keys_of_text(slice_of(none[i]), true, &keys, &err),
                         ERR_INVALID);
        assert_null(keys);
    }
    assert_int_equal(token_keys_of_secret(SLICE_LIT("short"), &keys, &err), ERR_INVALID);
}

static void algorithms_are_read_by_name(void **state)
{
    unsigned bits = 0;
    struct err err = {0};

    (void)state;
    assert_int_equal(token_algorithms_parse(SLICE_LIT("RS256, EdDSA"), &bits, &err), 0);
    assert_int_equal(bits, 1u << TOKEN_RS256 | 1u << TOKEN_EDDSA);
    assert_int_equal(token_algorithms_parse(SLICE_LIT("none"), &bits, &err), ERR_INVALID);
    assert_int_equal(token_algorithms_parse(SLICE_LIT("RS256,"), &bits, &err), 0);
    assert_int_equal(token_algorithms_parse(SLICE_LIT("rs256"), &bits, &err),
                     ERR_INVALID);
}

static void the_header_is_read_strictly(void **state)
{
    struct slice out;

    (void)state;
    assert_true(token_of_header(SLICE_LIT("Bearer a.b.c"), &out));
    assert_true(slice_eq(out, SLICE_LIT("a.b.c")));
    assert_true(token_of_header(SLICE_LIT(" bearer   a "), &out));
    assert_false(token_of_header(SLICE_LIT("Bearer"), &out));
    assert_false(token_of_header(SLICE_LIT("Bearer  "), &out));
    assert_false(token_of_header(SLICE_LIT("Basic abc"), &out));
    assert_false(token_of_header(SLICE_LIT("Bearera.b.c"), &out));
}

static void the_cache_is_bounded_and_forgets(void **state)
{
    struct token_cache *cache = token_cache_new(2, 60);
    struct token_keys *keys = keys_of(SECRET);
    unsigned char hash[3][TOKEN_HASH_BYTES];
    char *text = NULL;
    struct token *token = NULL;
    enum token_refusal why;

    (void)state;
    token_sign(slice_of(SECRET), "JWT", SLICE_LIT("{\"sub\":\"a\",\"exp\":1000050}"),
               &text, NULL);
    assert_int_equal(token_verify(keys, &plain, slice_of(text), NOW, &token, &why), 0);
    for (unsigned i = 0; i < 3; i++) {
        token_hash(slice_make((const char *)&i, sizeof i), hash[i]);
        token_cache_put(cache, hash[i], token, 0);
    }
    assert_null(token_cache_get(cache, hash[0], NOW)); /* the oldest made room */
    struct token *again = token_cache_get(cache, hash[1], NOW + 59);
    assert_ptr_equal(again, token);
    token_release(again);
    assert_null(token_cache_get(cache, hash[1], NOW + 60)); /* expired */
    assert_null(token_cache_get(cache, hash[2], NOW - 1));  /* the clock was put back */
    /* Verified with keys of before it was cleared. */
    uint64_t before = token_cache_generation(cache);
    token_cache_clear(cache);
    token_cache_put(cache, hash[0], token, before);
    assert_null(token_cache_get(cache, hash[0], NOW));
    token_cache_put(cache, hash[0], token, token_cache_generation(cache));
    again = token_cache_get(cache, hash[0], NOW);
    assert_ptr_equal(again, token);
    token_release(again);
    token_cache_free(cache);
    token_release(token);
    token_keys_release(keys);
    free(text);
}

static void a_rate_is_kept_for_each_subject(void **state)
{
    struct rate *rate = rate_new(10, 2);
    unsigned passed = 0;

    (void)state;
    while (rate_take(rate, SLICE_LIT("a"), 5000) == 0)
        passed++;
    assert_int_equal(passed, 20); /* twice as many at once */
    int64_t wait_ms = rate_take(rate, SLICE_LIT("a"), 5000);
    assert_true(wait_ms > 0 && wait_ms <= 101);
    assert_int_equal(rate_take(rate, SLICE_LIT("a"), 5000 + wait_ms), 0);
    assert_true(rate_take(rate, SLICE_LIT("a"), 5000 + wait_ms) > 0);
    assert_int_equal(rate_take(rate, SLICE_LIT("b"), 5000), 0);
    assert_int_equal(rate_take(rate, SLICE_LIT("c"), 5000), 0); /* "a" is forgotten */
    assert_int_equal(rate_take(rate, SLICE_LIT("a"), 5000), 0);
    rate_free(rate);
}

static void a_gate_that_makes_no_sense_is_none(void **state)
{
    static const struct gate_config good = {.secret = SECRET,
                                            .shape_secret = SECRET "x",
                                            .shape_lifetime_ms = 600000,
                                            .subject_claim = "sub"};
    struct gate_config c = good;
    struct gate *gate = NULL;
    struct err err = {0};

    (void)state;
    assert_int_equal(gate_new(&c, &gate, &err), 0);
    gate_free(gate);
    c.shape_secret = SECRET;
    assert_int_equal(gate_new(&c, &gate, &err), ERR_INVALID);
    c.shape_secret = NULL;
    assert_int_equal(gate_new(&c, &gate, &err), ERR_INVALID);
    c = good;
    c.key_file = "/dev/null";
    assert_int_equal(gate_new(&c, &gate, &err), ERR_INVALID);
    c = good;
    c.function = "a.b.c";
    assert_int_equal(gate_new(&c, &gate, &err), ERR_INVALID);
    c = good;
    c.roles = "a,,b";
    assert_int_equal(gate_new(&c, &gate, &err), ERR_INVALID);
    assert_null(gate);
}

static int start(void **state)
{
    (void)state;
    return token_global_init();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(claims_are_checked_in_turn),
        cmocka_unit_test(equal_input_gives_equal_bytes),
        cmocka_unit_test(keys_serve_their_own_kind_only),
        cmocka_unit_test(algorithms_are_read_by_name),
        cmocka_unit_test(the_header_is_read_strictly),
        cmocka_unit_test(the_cache_is_bounded_and_forgets),
        cmocka_unit_test(a_rate_is_kept_for_each_subject),
        cmocka_unit_test(a_gate_that_makes_no_sense_is_none),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
