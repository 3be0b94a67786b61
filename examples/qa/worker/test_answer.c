/* The generator: the same answer to the same question, whatever the question is made of, and
 * tokens that put together are the answer. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "answer.c" // NOLINT(bugprone-suspicious-include)

static const char *const questions[] = {
    "",
    " ",
    "?",
    "a b c",
    "How do I prune a lemon tree?",
    "100 % sure about %s and %n and %1$s?",
    ("Was ist eine \xC3\x9C"
     "berraschung?"),
    "\xE4\xBB\x80\xE4\xB9\x88\xE6\x98\xAF\xE6\x95\xB0\xE6\x8D\xAE\xE5\xBA\x93",
    "\xF0\x9F\x8D\x8B\xF0\x9F\x8D\x8B\xF0\x9F\x8D\x8B\xF0\x9F\x8D\x8B",
    "line one\nline two\ttabbed\r\n",
    "'; DROP TABLE messages; --",
};

/* Every byte of 0x80 and more belongs to a whole character of UTF-8. */
static void assert_utf8(const char *text)
{
    while (*text) {
        unsigned char c = (unsigned char)*text++;
        assert_true(c < 0x80 || (c >= 0xC2 && c < 0xF5));
        for (int more = c >= 0xF0   ? 3
                        : c >= 0xE0 ? 2
                        : c >= 0xC2 ? 1
                                    : 0;
             more > 0; more--)
            assert_int_equal((unsigned char)*text++ & 0xC0, 0x80);
    }
}

static void an_answer_is_the_same_again(void **state)
{
    char one[ANSWER_MAX];
    char two[ANSWER_MAX];

    (void)state;
    for (size_t i = 0; i < COUNT(questions); i++) {
        memset(one, 'x', sizeof(one));
        memset(two, 'y', sizeof(two));
        answer_generate(questions[i], one);
        answer_generate(questions[i], two);
        assert_string_equal(one, two);
        assert_in_range(strlen(one), 100, ANSWER_MAX - 1);
        assert_utf8(one);
    }
}

static void it_repeats_the_longest_words(void **state)
{
    static const struct {
        const char *question, *first, *second;
    } cases[] = {
        {"", "this", "this"},
        {"to be or not", "this", "this"},
        {"prune a lemon", "prune", "lemon"},
        {"lemons on a balcony", "balcony", "lemons"},
        {"balcony with lemons", "balcony", "lemons"},
        {"a database, lemons and pineapples", "pineapples", "database"},
        {"eine \xC3\x9C"
         "berraschung",
         "\xC3\x9C"
         "berraschung",
         "this"},
    };
    char words[WORDS][WORD_SIZE];

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        longest_words(cases[i].question, words);
        assert_string_equal(words[0], cases[i].first);
        assert_string_equal(words[1], cases[i].second);
    }
}

static void words_have_a_limit(void **state)
{
    char question[WORD_SIZE + 16];
    char words[WORDS][WORD_SIZE];

    (void)state;
    for (size_t len = WORD_SIZE - 2; len <= WORD_SIZE + 1; len++) {
        memset(question, 'w', len);
        memcpy(question + len, " lemon", sizeof(" lemon"));
        longest_words(question, words);
        if (len < WORD_SIZE)
            assert_int_equal(strlen(words[0]), len);
        else
            assert_string_equal(words[0], "lemon");
    }
}

/* Questions have 2000 characters at the most, which are 8000 bytes. */
static void a_very_long_question_fits(void **state)
{
    static char question[8001];
    char answer[ANSWER_MAX];

    (void)state;
    for (size_t i = 0; i + 4 < sizeof(question); i += 4)
        memcpy(question + i, i % 64 == 60 ? "    " : "\xF0\x9F\x8D\x8B", 4);
    answer_generate(question, answer);
    assert_utf8(answer);
    assert_in_range(strlen(answer), 100, ANSWER_MAX - 1);
    memset(question, 'x', sizeof(question) - 1);
    answer_generate(question, answer);
    assert_non_null(strstr(answer, "this"));
}

static void tokens_are_the_answer(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(questions); i++) {
        char answer[ANSWER_MAX];
        size_t at = 0;
        size_t tokens = 0;
        answer_generate(questions[i], answer);
        while (answer[at]) {
            char said[ANSWER_MAX];
            size_t end = answer_token_end(answer, at);
            assert_in_range(end, at + 1, strlen(answer));
            snprintf(said, sizeof(said), "%.*s", (int)end, answer);
            assert_utf8(said); /* it goes into a row like that */
            at = answer_said(answer, said);
            assert_int_equal(at, end);
            tokens++;
        }
        assert_in_range(tokens, 20, 200);
        assert_int_equal(answer_token_end(answer, at), at);
    }
}

static void a_row_that_holds_something_else_begins_anew(void **state)
{
    char answer[ANSWER_MAX];
    char longer[ANSWER_MAX + 2];

    (void)state;
    answer_generate("How do I prune a lemon tree?", answer);
    assert_int_equal(answer_said(answer, "Generating answer..."), 0);
    assert_int_equal(answer_said(answer, ""), 0);
    assert_int_equal(answer_said(answer, answer), strlen(answer));
    snprintf(longer, sizeof(longer), "%s!", answer);
    assert_int_equal(answer_said(answer, longer), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_is_the_same_again),
        cmocka_unit_test(it_repeats_the_longest_words),
        cmocka_unit_test(words_have_a_limit),
        cmocka_unit_test(a_very_long_question_fits),
        cmocka_unit_test(tokens_are_the_answer),
        cmocka_unit_test(a_row_that_holds_something_else_begins_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
