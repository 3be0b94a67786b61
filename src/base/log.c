/*
 * Log lines.
 *
 * A line is built in a fixed buffer and leaves in one write(2). It is at most PIPE_BUF
 * bytes, which a pipe (the usual stderr of a service) takes atomically, so lines of
 * several threads and processes never mix; and logging can't fail for lack of memory. A
 * field that no longer fits is left out, and so are those after it; the line then ends in
 * cut=true.
 *
 * Values are free of anything that could forge a second event or drive a terminal:
 * control characters (C0, DEL, C1) are escaped and malformed UTF-8 becomes U+FFFD.
 */

#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

#define LINE_MAX_BYTES  4096u /* PIPE_BUF */
#define VALUE_MAX_BYTES 1024u /* as written, without the quotes */
#define CUT_MARK        " cut=true"
#define CUT_MARK_BYTES  (sizeof(CUT_MARK) - 1)
#define ELLIPSIS        "..."
#define ELLIPSIS_BYTES  (sizeof(ELLIPSIS) - 1)

struct line {
    size_t len;
    bool full;
    char bytes[LINE_MAX_BYTES];
};

/* The end of the line keeps room for the cut mark and the newline. */
static bool line_put(struct line *line, const char *bytes, size_t n)
{
    if (n > LINE_MAX_BYTES - CUT_MARK_BYTES - 1 - line->len) {
        line->full = true;
        return false;
    }
    memcpy(line->bytes + line->len, bytes, n);
    line->len += n;
    return true;
}

static bool line_puts(struct line *line, const char *text)
{
    return line_put(line, text, strlen(text));
}

static void line_put_time(struct line *line)
{
    int64_t now_us = clock_wall_us();
    time_t seconds = (time_t)(now_us / 1000000);
    struct tm tm;
    char text[64];

    if (!gmtime_r(&seconds, &tm))
        return;
    snprintf(text, sizeof(text), "ts=%04d-%02d-%02dT%02d:%02d:%02d.%03dZ",
             tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min,
             tm.tm_sec, (int)(now_us / 1000 % 1000));
    line_puts(line, text);
}

/* Length of the character at s, which is not empty; 0 when it is no well-formed UTF-8. */
static size_t character_length(struct slice s)
{
    unsigned char first = (unsigned char)s.ptr[0];
    size_t length = first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;

    if (length > s.len || !slice_is_utf8(slice_make(s.ptr, length)))
        return 0;
    return length;
}

static bool is_control(struct slice character)
{
    unsigned char first = (unsigned char)character.ptr[0];

    if (character.len == 2 && first == 0xC2)
        return (unsigned char)character.ptr[1] < 0xA0; /* C1: U+0080..U+009F */
    return first < 0x20 || first == 0x7F;
}

static bool needs_quotes(struct slice value)
{
    if (value.len == 0)
        return true;
    while (value.len > 0) {
        size_t length = character_length(value);

        if (length == 0 || is_control(slice_make(value.ptr, length)))
            return true;
        if (length == 1 && memchr(" \"=\\", value.ptr[0], 4))
            return true;
        value.ptr += length;
        value.len -= length;
    }
    return false;
}

/* Writes one character as it appears between quotes into out; returns its length. */
static size_t escape_character(struct slice character, char out[8])
{
    unsigned char last = (unsigned char)character.ptr[character.len - 1];

    if (character.len == 1 && (last == '"' || last == '\\')) {
        out[0] = '\\';
        out[1] = (char)last;
        return 2;
    }
    if (!is_control(character)) {
        memcpy(out, character.ptr, character.len);
        return character.len;
    }
    out[0] = '\\';
    out[1] = last == '\n' ? 'n' : last == '\r' ? 'r' : last == '\t' ? 't' : 'u';
    if (out[1] != 'u')
        return 2;
    /* C1's second byte is its code point. */
    return (size_t)snprintf(out, 8, "\\u%04x", (unsigned)last);
}

/* Writes the value's characters, ended by an ellipsis when they pass VALUE_MAX_BYTES. */
static bool line_put_characters(struct line *line, struct slice value)
{
    size_t written = 0;

    while (value.len > 0) {
        size_t length = character_length(value);
        char escaped[8] = "\xEF\xBF\xBD";
        size_t n = 3;

        if (length > 0)
            n = escape_character(slice_make(value.ptr, length), escaped);
        else
            length = 1;
        if (n > VALUE_MAX_BYTES - ELLIPSIS_BYTES - written && value.len > length)
            return line_put(line, ELLIPSIS, ELLIPSIS_BYTES);
        if (!line_put(line, escaped, n))
            return false;
        written += n;
        value.ptr += length;
        value.len -= length;
    }
    return true;
}

static bool line_put_value(struct line *line, struct slice value)
{
    if (!needs_quotes(value))
        return line_put_characters(line, value);
    return line_put(line, "\"", 1) && line_put_characters(line, value) &&
           line_put(line, "\"", 1);
}

static bool line_put_number(struct line *line, uint64_t magnitude, bool negative)
{
    char text[24];

    snprintf(text, sizeof(text), "%s%llu", negative ? "-" : "",
             (unsigned long long)magnitude);
    return line_puts(line, text);
}

static bool line_put_field(struct line *line, const struct log_field *field)
{
    if (!line_put(line, " ", 1) || !line_puts(line, field->key) ||
        !line_put(line, "=", 1))
        return false;
    switch (field->kind) {
    case LOG_FIELD_TEXT:
        return line_put_value(line, slice_of(field->v.text));
    case LOG_FIELD_SLICE:
        return line_put_value(line, field->v.slice);
    case LOG_FIELD_U64:
        return line_put_number(line, field->v.u64, false);
    case LOG_FIELD_I64:
        return line_put_number(
            line, field->v.i64 < 0 ? 0 - (uint64_t)field->v.i64 : (uint64_t)field->v.i64,
            field->v.i64 < 0);
    }
    return true;
}

/* A log that can't be written has no other place to complain to: errors are dropped. */
static void write_all(int fd, const char *bytes, size_t n)
{
    while (n > 0) {
        ssize_t done = write(fd, bytes, n);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return;
        bytes += done;
        n -= (size_t)done;
    }
}

static const char *level_name(enum log_level level)
{
    switch (level) {
    case LOG_DEBUG:
        return "debug";
    case LOG_INFO:
        return "info";
    case LOG_WARNING:
        return "warning";
    case LOG_ERROR:
        return "error";
    }
    return "unknown";
}

void log_write(const struct log *log, enum log_level level, const char *event,
               const struct log_field *fields, size_t count)
{
    struct line line;
    int saved_errno = errno;

    if (!log || level < log->level)
        return;
    line.len = 0;
    line.full = false;
    line_put_time(&line);
    line_puts(&line, " level=");
    line_puts(&line, level_name(level));
    line_puts(&line, " event=");
    line_puts(&line, event);
    for (size_t i = 0; i < count && !line.full; i++) {
        size_t before = line.len;

        if (!line_put_field(&line, &fields[i]))
            line.len = before;
    }
    if (line.full) {
        memcpy(line.bytes + line.len, CUT_MARK, CUT_MARK_BYTES);
        line.len += CUT_MARK_BYTES;
    }
    line.bytes[line.len++] = '\n';
    write_all(log->fd, line.bytes, line.len);
    errno = saved_errno;
}

bool log_level_parse(struct slice text, enum log_level *out)
{
    static const struct {
        const char *name;
        enum log_level level;
    } names[] = {{"debug", LOG_DEBUG},
                 {"info", LOG_INFO},
                 {"warning", LOG_WARNING},
                 {"warn", LOG_WARNING},
                 {"error", LOG_ERROR}};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (slice_eq(text, slice_of(names[i].name))) {
            *out = names[i].level;
            return true;
        }
    }
    return false;
}
