/* What the worker says to a question. */
#ifndef QA_ANSWER_H
#define QA_ANSWER_H

#include <stddef.h>

#define ANSWER_MAX 4096

/* The answer to a question, the same one whenever it is asked: so that a worker can go on with
 * what another has begun. Writes at most ANSWER_MAX bytes with the final zero to `out`. */
void answer_generate(const char *question, char out[ANSWER_MAX]);

/* How many bytes of the answer have been said when `said` is what the row holds: 0 when that is
 * something else, as the placeholder. */
size_t answer_said(const char *answer, const char *said);

/* Where the token that begins at byte `at` ends: a word with what follows it up to the next. */
size_t answer_token_end(const char *answer, size_t at);

#endif
