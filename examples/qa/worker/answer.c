/* A generator without a network or a model: it picks its sentences by a hash of the question and
 * repeats the question's longest words. What matters here is that an answer takes its time, comes
 * in tokens, and is the same when asked again. */
#include "answer.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define WORDS     2
#define WORD_SIZE 64 /* with the final zero; longer ones are not repeated */
#define COUNT(a)  (sizeof(a) / sizeof((a)[0]))

static const char *const openings[] = {
    ("Good question. When it comes to %s, the short answer is that it depends, and the "
     "long one is worth the time."),
    "Let us take %s step by step, since most of the trouble hides between the steps.",
    "People who work with %s every day would probably start from the other end.",
};

static const char *const middles[] = {
    ("Write down what you know for certain, then what you only suspect, and treat %s as "
     "the second kind until it has been measured."),
    ("Begin with the smallest version that could possibly work. If %s still "
     "matters after that, you will know exactly where."),
    ("Look at what happens when it fails: whatever %s does then is what it really does, "
     "and everything before that is decoration."),
};

static const char *const closings[] = {
    "Try it on a quiet afternoon, keep the notes, and ask me again with what you found.",
    "And if two ways look equally good, take the one that is easier to undo.",
    "That is usually enough; the rest can wait until somebody misses it.",
};

static uint64_t hash_of(const char *text)
{
    uint64_t hash = 0xcbf29ce484222325U; /* FNV-1a */
    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * 0x100000001b3U;
    return hash;
}

/* Letters of other scripts than ASCII are bytes from 0x80 on: a word is never cut within one of
 * its characters. */
static bool is_letter(char c)
{
    return isalpha((unsigned char)c) || (unsigned char)c >= 0x80;
}

/* The longest words of the question, those of four bytes or fewer left out; "this" in place of
 * those that it does not have. */
static void longest_words(const char *question, char words[WORDS][WORD_SIZE])
{
    size_t best[WORDS] = {4, 4};
    for (size_t w = 0; w < WORDS; w++)
        snprintf(words[w], WORD_SIZE, "this");
    for (const char *p = question; *p;) {
        size_t len = 0;
        while (is_letter(p[len]))
            len++;
        if (len < WORD_SIZE && len > best[1]) {
            size_t w = len > best[0] ? 0 : 1;
            if (w == 0) { /* the longest so far is the second now */
                memcpy(words[1], words[0], WORD_SIZE);
                best[1] = best[0];
            }
            snprintf(words[w], WORD_SIZE, "%.*s", (int)len, p);
            best[w] = len;
        }
        p += len ? len : 1;
    }
}

void answer_generate(const char *question, char out[ANSWER_MAX])
{
    char words[WORDS][WORD_SIZE];
    char opening[ANSWER_MAX / 4];
    char middle[ANSWER_MAX / 4];
    uint64_t hash = hash_of(question);
    longest_words(question, words);
    /* The formats are the tables above. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(opening, sizeof(opening), openings[hash % COUNT(openings)], words[0]);
    snprintf(middle, sizeof(middle), middles[hash / 7 % COUNT(middles)], words[1]);
#pragma GCC diagnostic pop
    snprintf(out, ANSWER_MAX, "%s %s %s", opening, middle,
             closings[hash / 49 % COUNT(closings)]);
}

size_t answer_said(const char *answer, const char *said)
{
    size_t len = strlen(said);
    return strncmp(answer, said, len) == 0 ? len : 0;
}

size_t answer_token_end(const char *answer, size_t at)
{
    while (answer[at] && answer[at] != ' ')
        at++;
    while (answer[at] == ' ')
        at++;
    return at;
}
