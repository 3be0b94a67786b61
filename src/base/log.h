/* One line per event, key=value, to stderr:
 *
 *   ts=2026-01-31T12:00:00.123Z level=info event=replica.connected slot=main
 *
 * Values are quoted when they hold blanks, quotes, '=' or control characters (escaped);
 * long ones are cut at 1 KiB and end in "...". A line is at most 4 KiB (a pipe takes that
 * whole): fields that no longer fit are left out, with cut=true at the end. Secrets,
 * tokens and row contents are never passed in. A struct log is made in main and handed
 * down; it may be used by any thread (one write(2) per line). NULL as the log means: say
 * nothing. */
#ifndef COULOMB_BASE_LOG_H
#define COULOMB_BASE_LOG_H

#include "base/slice.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };

struct log {
    int fd;
    enum log_level level; /* events below it are dropped */
};

struct log_field {
    const char *key;
    enum { LOG_FIELD_TEXT, LOG_FIELD_SLICE, LOG_FIELD_U64, LOG_FIELD_I64 } kind;
    union {
        const char *text; /* NULL prints as "" */
        struct slice slice;
        uint64_t u64;
        int64_t i64;
    } v;
};

#define LOG_TEXT(k, t)                                                                   \
    ((struct log_field){.key = (k), .kind = LOG_FIELD_TEXT, .v.text = (t)})
#define LOG_SLICE(k, s)                                                                  \
    ((struct log_field){.key = (k), .kind = LOG_FIELD_SLICE, .v.slice = (s)})
#define LOG_U64(k, n)                                                                    \
    ((struct log_field){.key = (k), .kind = LOG_FIELD_U64, .v.u64 = (n)})
#define LOG_I64(k, n)                                                                    \
    ((struct log_field){.key = (k), .kind = LOG_FIELD_I64, .v.i64 = (n)})

/* As in log_event(log, LOG_INFO, "replica.connected", LOG_TEXT("slot", name)), with at
 * least one field; an event without any is log_write(log, level, event, NULL, 0). */
#define log_event(log, level, event, ...)                                                \
    log_write((log), (level), (event), (const struct log_field[]){__VA_ARGS__},          \
              sizeof((const struct log_field[]){__VA_ARGS__}) /                          \
                  sizeof(struct log_field))

void log_write(const struct log *log, enum log_level level, const char *event,
               const struct log_field *fields, size_t count);
/* "debug", "info", "warning" ("warn"), "error"; false on anything else. */
bool log_level_parse(struct slice text, enum log_level *out);

#endif
