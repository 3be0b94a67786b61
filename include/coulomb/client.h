/* The client: what owns collections and transactions, and the loop that it lives in. */
#ifndef COULOMB_CLIENT_H
#define COULOMB_CLIENT_H

#include "coulomb/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct coulomb_client_options {
    size_t size;
    coulomb_allocator allocator; /* realloc_fn NULL: realloc and free */
    coulomb_clock_fn clock;      /* NULL: the system's monotonic clock */
    void *clock_arg;
    coulomb_log_fn log; /* NULL: nothing is logged */
    void *log_arg;
    /* Changes of rows that wait for coulomb_poll(); a call that would make more fails with
     * COULOMB_E_LIMIT. (Only a transaction that settles may bring more at once, with the sync that
     * it held back, when nothing else waits.) 0: 16,000,000. */
    size_t queued_changes_max;
    /* Mutations of one transaction. 0: 10,000,000. */
    size_t tx_mutations_max;
    unsigned flags;
} coulomb_client_options;

/* For comparing the library with TanStack DB, whose behaviour it then has where the library's is
 * another on purpose: reads without an order give optimistic inserts behind all other rows, in the
 * order of their making; a delete after an update in one transaction has the updated row as its
 * original; a throttle that does not lead fires its first call with the next poll. */
#define COULOMB_COMPAT_TANSTACK 1u

/* The calling thread owns it. *out is set only on success. */
COULOMB_API COULOMB_MUST_CHECK int
coulomb_client_open(const coulomb_client_options *options, coulomb_client **out);
/* Ends everything: adapters are stopped (their stop is called now), timers and queued work are
 * dropped, and no callback follows. Handles that are still held stay memory until they are
 * released, and their functions answer COULOMB_E_CLOSED. Not inside coulomb_poll(), where it
 * takes effect when the poll ends. NULL is fine. */
COULOMB_API void coulomb_client_close(coulomb_client *c);

/* Runs what is due: posted functions, handlers of committed transactions, timers, adapters'
 * starts, and callbacks for changes, in that order; what these cause runs in the next poll. Never
 * waits. Returns 0 when there was nothing to do, a positive number when there was, or a negative code;
 * after COULOMB_E_MEMORY nothing is lost, and the next poll goes on. COULOMB_E_REENTRY inside a
 * callback. */
COULOMB_API int coulomb_poll(coulomb_client *c);
/* A descriptor that is readable while coulomb_poll() has something to do now; owned by the client.
 * Poll it for POLLIN, read nothing from it. Negative: a code. */
COULOMB_API int coulomb_fd(coulomb_client *c);
/* 1 when coulomb_poll() has something to do now. */
COULOMB_API int coulomb_pending(const coulomb_client *c);
/* The clock's time of the next timer in ms; INT64_MAX when there is none. */
COULOMB_API int64_t coulomb_next_deadline(const coulomb_client *c);
/* Has fn run in the client's next poll. From any thread, while the client is open. The order of one
 * thread's posts is kept. COULOMB_E_MEMORY. */
COULOMB_API COULOMB_MUST_CHECK int
coulomb_post(coulomb_client *c, void (*fn)(coulomb_client *c, void *arg), void *arg);
/* The last failure of a call on this client. Successful calls leave it alone. */
COULOMB_API const coulomb_error *coulomb_last_error(const coulomb_client *c);
/* Ends a registration. Unknown and ended tokens are fine. */
COULOMB_API void coulomb_off(coulomb_client *c, coulomb_token token);

typedef struct coulomb_stats {
    size_t size; /* of this struct, set by the caller */
    size_t collections;
    size_t transactions;
    size_t subscriptions;
    size_t rows; /* of all kinds: synced, optimistic, queued, retained by the app */
    size_t registrations;
    size_t queued_changes;
    size_t bytes; /* of all blocks, as asked of the allocator */
} coulomb_stats;

COULOMB_API void coulomb_client_stats(const coulomb_client *c, coulomb_stats *stats);

/* Answers a handler that returned COULOMB_PENDING: 0 for success, else a negative code and a
 * sentence (copied; may be NULL). Exactly once; the completion is gone afterwards. On the client's
 * thread (use coulomb_post elsewhere). The effects are seen at once, callbacks in the next poll. */
COULOMB_API void coulomb_complete(coulomb_completion *done, int code,
                                  const char *message);
/* The same, with what the handler wants to say in words: the failure's code is COULOMB_E_FAILED.
 */
COULOMB_API void coulomb_fail(coulomb_completion *done, const char *message);

#ifdef __cplusplus
}
#endif

#endif
