/* Why a write was refused: one table, from which status, code and what to do next come. */
#ifndef COULOMB_SERVER_WRITE_FAILURE_H
#define COULOMB_SERVER_WRITE_FAILURE_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

/* X(enum, code, HTTP status, seconds after which the same request may succeed or 0, sentence)
 * A client rolls back on 4xx (and may let its user mend the values on 422), retries on 503. */
/* clang-format off */
#define WRITE_FAILURES(X) \
    X(INVALID, "invalid_request", 400, 0, "the request is not valid") \
    X(TOO_LARGE, "too_large", 413, 0, "the request is too large") \
    X(FORBIDDEN, "forbidden", 403, 0, "this may not be written") \
    X(NOT_FOUND, "not_found", 404, 0, "there is no such row, or it may not be written") \
    X(NO_FUNCTION, "unknown_function", 404, 0, "there is no such function") \
    X(UNIQUE, "unique_violation", 409, 0, "another row has these values already") \
    X(EXCLUSION, "exclusion_violation", 409, 0, "the row conflicts with another one") \
    X(PRECONDITION, "precondition_failed", 409, 0, "the row is not what was expected") \
    X(ID_REUSED, "id_reused", 409, 0, "the id was used for another request before") \
    X(NOT_NULL, "not_null_violation", 422, 0, "a value is required") \
    X(CHECK, "check_violation", 422, 0, "a value is not allowed") \
    X(FOREIGN_KEY, "foreign_key_violation", 422, 0, "a row that is referred to does not exist, or is still referred to") \
    X(VALUE, "invalid_value", 422, 0, "a value is not one of its column's type") \
    X(REJECTED, "rejected", 422, 0, "the database rejected the write") \
    X(ANSWER, "answer_too_large", 422, 0, "the function's answer is larger than 16 MiB; nothing was written") \
    X(CONFLICT, "conflict", 503, 1, "other writes were in the way again and again") \
    X(TIMEOUT, "timeout", 503, 1, "the write took too long") \
    X(BUSY, "busy", 503, 1, "too many writes are waiting") \
    X(UNAVAILABLE, "unavailable", 503, 2, "the database can't be reached just now") \
    X(UNKNOWN_OUTCOME, "outcome_unknown", 500, 0, "the connection was lost while the write was committed: it may have been applied or not. Give writes an id to be able to retry them") \
    X(INTERNAL, "internal", 500, 0, "the write failed")
/* clang-format on */

#define WRITE_FAILURE_ENUM(id, code, status, retry_s, text) WRITE_FAILED_##id,
enum write_failure { WRITE_DONE, WRITE_FAILURES(WRITE_FAILURE_ENUM) WRITE_FAILURE_COUNT };

struct write_failure_info {
    const char *code;
    int status;
    int retry_after_s;
    const char *text;
};

const struct write_failure_info *write_failure_info(enum write_failure which);

/* What a SQLSTATE means; *status differs from the table's for RAISE … ERRCODE 'PT4xx'. */
enum write_failure write_failure_of_sqlstate(const char *sqlstate, int *status);
/* Another attempt may succeed by itself: serialization failures, deadlocks. */
bool write_sqlstate_is_passing(const char *sqlstate);
/* What was known of a table or a function is out of date. */
bool write_sqlstate_is_stale(const char *sqlstate);

/* The n of "parameter $n" in an error's context, 0 when there is none. */
unsigned write_failure_parameter(const PGresult *result);

#endif
