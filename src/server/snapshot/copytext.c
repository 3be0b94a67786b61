/*
 * COPY text to values, in place.
 *
 * An unescaped field is never longer than its escaped form, so it is written over itself
 * and nothing is allocated. Most fields hold no backslash at all: one search tells, and
 * such a field is not copied. A raw TAB always ends a field, except behind a backslash,
 * where it stands for itself.
 */

#include "server/snapshot/copytext.h"

struct cursor {
    char *at;
    char *end;
};

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Up to three octal digits; the value is taken modulo 256, as Postgres does. */
static char octal(struct cursor *c)
{
    unsigned value = 0;

    for (int i = 0; i < 3 && c->at < c->end && *c->at >= '0' && *c->at <= '7'; i++)
        value = value * 8 + (unsigned)(*c->at++ - '0');
    return (char)(unsigned char)(value & 0xff);
}

/* What follows "\x": up to two hex digits; without any it is a plain x. */
static char hex(struct cursor *c)
{
    unsigned value = 0;
    int i = 0;

    for (; i < 2 && c->at < c->end && hex_digit(*c->at) >= 0; i++)
        value = value * 16 + (unsigned)hex_digit(*c->at++);
    return i == 0 ? 'x' : (char)(unsigned char)value;
}

/* The byte that an escape stands for; the cursor is behind the backslash, not at the end.
 */
static char unescape(struct cursor *c)
{
    char byte = *c->at++;

    switch (byte) {
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case 'v':
        return '\v';
    case 'x':
        return hex(c);
    default:
        if (byte < '0' || byte > '7')
            return byte;
        c->at--;
        return octal(c);
    }
}

/* A field with escapes, from its first backslash on. False when one is cut off. */
static bool field_escaped(struct cursor *c, char *out, struct value *v)
{
    while (c->at < c->end && *c->at != '\t') {
        char byte = *c->at++;

        if (byte == '\\') {
            if (c->at == c->end)
                return false;
            byte = unescape(c);
        }
        *out++ = byte;
    }
    v->len = (uint32_t)(out - v->ptr);
    return true;
}

static bool is_null(const struct cursor *c)
{
    size_t left = (size_t)(c->end - c->at);

    return left >= 2 && c->at[0] == '\\' && c->at[1] == 'N' &&
           (left == 2 || c->at[2] == '\t');
}

/* Reads one field; the cursor ends at the TAB behind it or at the end. */
static bool field(struct cursor *c, struct value *v)
{
    char *start = c->at;
    char *tab;

    if (is_null(c)) {
        c->at += 2;
        *v = (struct value){NULL, 0, VALUE_NULL};
        return true;
    }
    *v = (struct value){start, 0, VALUE_TEXT};
    for (tab = start; tab < c->end && *tab != '\t' && *tab != '\\'; tab++)
        ;
    c->at = tab;
    if (tab < c->end && *tab == '\\')
        return field_escaped(c, tab, v);
    v->len = (uint32_t)(tab - start);
    return true;
}

int copytext_parse(char *line, size_t len, const uint16_t *columns, size_t count,
                   struct value *row, struct err *err)
{
    struct cursor c = {line, line + len};

    if (len > UINT32_MAX)
        return err_set(err, ERR_CORRUPT, "a line of COPY data is longer than 4 GiB");
    if (len > 0 && c.end[-1] == '\n')
        c.end--;
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && c.at == c.end)
            return err_set(err, ERR_CORRUPT,
                           "a line of COPY data ends after %zu fields of %zu", i, count);
        if (i > 0)
            c.at++; /* the TAB */
        if (!field(&c, &row[columns[i]]))
            return err_set(
                err, ERR_CORRUPT,
                "a line of COPY data ends within an escape, in field %zu of %zu", i + 1,
                count);
    }
    if (c.at != c.end)
        return err_set(err, ERR_CORRUPT, "a line of COPY data has more than %zu fields",
                       count);
    return 0;
}
