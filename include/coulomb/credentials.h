/* Who asks: headers and query parameters that prove it to a server, shared by everything of a client
 * that goes there (collections, writes), and renewed once, however many requests were refused. */
#ifndef COULOMB_CREDENTIALS_H
#define COULOMB_CREDENTIALS_H

#include "coulomb/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Counted; used on its client's thread. */
typedef struct coulomb_credentials coulomb_credentials;

typedef struct coulomb_credentials_options {
    size_t size;
    /* Makes new ones: adds headers and parameters and returns 0; or returns COULOMB_PENDING, adds them
     * later and calls coulomb_credentials_answer(); or returns a negative code. Called in
     * coulomb_poll(), never while an earlier call is unanswered. refused: a server answered 401 or 403
     * to the ones before. */
    int (*renew)(coulomb_credentials *credentials, int refused, void *arg);
    void (*drop)(void *arg); /* arg is not needed any more; may be NULL */
    void *arg;
    int each_request; /* ask for every request, rather than when they are refused or expire */
    unsigned refusals_max; /* in a row, until a refusal is an error; 0: 3 */
} coulomb_credentials_options;

COULOMB_API COULOMB_MUST_CHECK int
coulomb_credentials_new(coulomb_client *c, const coulomb_credentials_options *options,
                        coulomb_credentials **out);
COULOMB_API coulomb_credentials *
coulomb_credentials_retain(coulomb_credentials *credentials);
/* NULL is fine. */
COULOMB_API void coulomb_credentials_release(coulomb_credentials *credentials);

/* In renew, or before the answer: {"authorization", "Bearer …"}, say. Copied; one of that name is
 * replaced. */
COULOMB_API COULOMB_MUST_CHECK int
coulomb_credentials_header(coulomb_credentials *credentials, const char *name,
                           const char *value);
COULOMB_API COULOMB_MUST_CHECK int
coulomb_credentials_param(coulomb_credentials *credentials, const char *name,
                          const char *value);
/* The client's clock (ms) from which on they are renewed before they are used again. */
COULOMB_API void coulomb_credentials_expire_at(coulomb_credentials *credentials,
                                               int64_t deadline_ms);
/* Answers a renew that returned COULOMB_PENDING: 0, or a negative code with a sentence (copied; may
 * be NULL). Exactly once. */
COULOMB_API void coulomb_credentials_answer(coulomb_credentials *credentials, int code,
                                            const char *message);

#ifdef __cplusplus
}
#endif

#endif
