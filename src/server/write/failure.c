/* See failure.h. Nothing of Postgres's own texts reaches a client (they quote values, names and
 * SQL), but for what the app's own functions RAISE on purpose. */
#include "server/write/failure.h"

#include <stdlib.h>
#include <string.h>

#define X(id, code, status, retry_s, text) {code, status, retry_s, text},
static const struct write_failure_info infos[] = {{"", 200, 0, ""}, WRITE_FAILURES(X)};
#undef X

const struct write_failure_info *write_failure_info(enum write_failure which)
{
    return &infos[which];
}

/* The longest match counts: whole states first, then classes. */
static const struct {
    const char *prefix;
    enum write_failure failure;
} states[] = {
    {"23505", WRITE_FAILED_UNIQUE},      {"23502", WRITE_FAILED_NOT_NULL},
    {"23503", WRITE_FAILED_FOREIGN_KEY}, {"23514", WRITE_FAILED_CHECK},
    {"23P01", WRITE_FAILED_EXCLUSION},   {"42501", WRITE_FAILED_FORBIDDEN},
    {"428C9", WRITE_FAILED_VALUE},       {"42804", WRITE_FAILED_VALUE},
    {"42846", WRITE_FAILED_VALUE},       {"42883", WRITE_FAILED_NO_FUNCTION},
    {"40001", WRITE_FAILED_CONFLICT},    {"40P01", WRITE_FAILED_CONFLICT},
    {"55P03", WRITE_FAILED_CONFLICT},    {"57014", WRITE_FAILED_TIMEOUT},
    {"CB404", WRITE_FAILED_NOT_FOUND},   {"P0001", WRITE_FAILED_REJECTED},
    {"CB413", WRITE_FAILED_ANSWER},      {"22", WRITE_FAILED_VALUE},
    {"08", WRITE_FAILED_UNAVAILABLE},    {"53", WRITE_FAILED_UNAVAILABLE},
    {"57P", WRITE_FAILED_UNAVAILABLE},   {"25006", WRITE_FAILED_UNAVAILABLE},
};

enum write_failure write_failure_of_sqlstate(const char *sqlstate, int *status)
{
    enum write_failure found = WRITE_FAILED_INTERNAL;

    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
        if (strncmp(sqlstate, states[i].prefix, strlen(states[i].prefix)) != 0)
            continue;
        found = states[i].failure;
        break;
    }
    *status = infos[found].status;
    if (strncmp(sqlstate, "PT4", 3) == 0 && strspn(sqlstate + 3, "0123456789") == 2) {
        found = WRITE_FAILED_REJECTED;
        *status = 400 + (sqlstate[3] - '0') * 10 + (sqlstate[4] - '0');
    }
    return found;
}

bool write_sqlstate_is_passing(const char *sqlstate)
{
    return strcmp(sqlstate, "40001") == 0 || strcmp(sqlstate, "40P01") == 0;
}

bool write_sqlstate_is_stale(const char *sqlstate)
{
    return strcmp(sqlstate, "42P01") == 0 || strcmp(sqlstate, "42703") == 0 ||
           strcmp(sqlstate, "42883") == 0 || strcmp(sqlstate, "42804") == 0 ||
           strcmp(sqlstate, "0A000") == 0;
}

unsigned write_failure_parameter(const PGresult *result)
{
    const char *context = PQresultErrorField(result, PG_DIAG_CONTEXT);
    const char *dollar = context ? strchr(context, '$') : NULL;
    unsigned long n = dollar ? strtoul(dollar + 1, NULL, 10) : 0;

    return n < 65536 ? (unsigned)n : 0;
}
