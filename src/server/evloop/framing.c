/* See framing.h. */
#include "server/evloop/framing.h"

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_name_char(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_name(struct slice name)
{
    for (size_t i = 0; i < name.len; i++)
        if (!is_name_char(name.ptr[i]))
            return false;
    return name.len > 0;
}

static bool is_length(struct slice value)
{
    for (size_t i = 0; i < value.len; i++)
        if (!is_digit(value.ptr[i]))
            return false;
    return value.len > 0;
}

void framing_see(struct framing *f, struct slice name, struct slice value)
{
    if (!is_name(name)) {
        f->bad = true;
    } else if (slice_eq_nocase(name, SLICE_LIT("content-length"))) {
        f->lengths++;
        f->bad |= !is_length(slice_trim(value));
    } else if (slice_eq_nocase(name, SLICE_LIT("transfer-encoding"))) {
        f->codings++;
        f->bad |= !slice_eq_nocase(value, SLICE_LIT("chunked"));
    }
}

bool framing_fine(const struct framing *f)
{
    return !f->bad && f->lengths + f->codings <= 1;
}

size_t framing_empty_line(struct slice bytes)
{
    if (bytes.len >= 2 && bytes.ptr[0] == '\r' && bytes.ptr[1] == '\n')
        return 2;
    return bytes.len >= 1 && bytes.ptr[0] == '\n';
}
