/*
 * Filling a struct err. The text is formatted aside and then copied in, because callers
 * wrap an error by passing the old message as an argument of the new one.
 */

#include "base/err.h"

#include <stdio.h>
#include <string.h>

#include "base/slice.h"

/* Keeps what fits; a UTF-8 character that was cut in half goes. */
static void cut_whole_characters(char *text, size_t len)
{
    size_t start = len;

    while (start > 0 && len - start < 4 &&
           ((unsigned char)text[start - 1] & 0xC0) == 0x80)
        start--;
    if (start > 0 && (unsigned char)text[start - 1] >= 0xC0)
        start--;
    if (!slice_is_utf8(slice_make(text + start, len - start)))
        text[start] = '\0';
}

static int fill(struct err *err, int code, const char *message, size_t len)
{
    memset(err, 0, sizeof(*err));
    err->code = code;
    memcpy(err->message, message, len + 1);
    return code;
}

/* Formats into text, which holds size bytes; returns the length kept. */
__attribute__((format(printf, 3, 0))) static size_t
format_cut(char *text, size_t size, const char *format, va_list args)
{
    int n = vsnprintf(text, size, format, args);

    if (n < 0) {
        text[0] = '\0';
    } else if ((size_t)n >= size) {
        cut_whole_characters(text, size - 1);
    }
    return strlen(text);
}

int(err_vset)(struct err *err, int code, const char *format, va_list args)
{
    char text[sizeof(err->message)];

    if (!err)
        return code;
    return fill(err, code, text, format_cut(text, sizeof(text), format, args));
}

int(err_set)(struct err *err, int code, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    err_vset(err, code, format, args);
    va_end(args);
    return code;
}

int(err_errno)(struct err *err, int code, int errnum, const char *format, ...)
{
    char text[sizeof(err->message)];
    char reason[128];
    size_t len;
    int n;
    va_list args;

    if (!err)
        return code;
    va_start(args, format);
    len = format_cut(text, sizeof(text), format, args);
    va_end(args);
    n = snprintf(text + len, sizeof(text) - len, ": %s",
                 strerror_r(errnum, reason, sizeof(reason)));
    if (n >= 0 && (size_t)n >= sizeof(text) - len)
        cut_whole_characters(text, sizeof(text) - 1);
    return fill(err, code, text, strlen(text));
}

void err_clear(struct err *err)
{
    if (err)
        memset(err, 0, sizeof(*err));
}

const char *err_name(int code)
{
    static const char *const names[] = {
        [ERR_NONE] = "none",
        [-ERR_MEMORY] = "memory",
        [-ERR_LIMIT] = "limit",
        [-ERR_INVALID] = "invalid",
        [-ERR_IO] = "io",
        [-ERR_CORRUPT] = "corrupt",
        [-ERR_NOT_FOUND] = "not_found",
        [-ERR_EXISTS] = "exists",
        [-ERR_RETRY] = "retry",
        [-ERR_FATAL] = "fatal",
        [-ERR_CANCELLED] = "cancelled",
        [-ERR_DB] = "db",
        [-ERR_UNSUPPORTED] = "unsupported",
    };
    const int count = (int)(sizeof(names) / sizeof(names[0]));

    return code <= 0 && code > -count ? names[-code] : "unknown";
}
