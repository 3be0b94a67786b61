/*
 * The case of letters as the database's own C library maps it. lower, upper and ILIKE map one
 * character at a time there, whatever stands around it, so a table of the characters that have
 * another case is all there is to know; which they are depends on the locale and on the library's
 * version, so the table comes from the server (types.h).
 */

#include <stdlib.h>

#include "sql/value.h"

#define ASCII 128

struct sql_letters {
    bool plain; /* ASCII is as in English: no Turkish i */
    struct sql_letter ascii[ASCII];
    size_t count;
    struct sql_letter items[]; /* beyond ASCII, by code */
};

const struct sql_letters sql_letters_c = {.plain = true};

static int by_code(const void *a, const void *b)
{
    const struct sql_letter *x = a;
    const struct sql_letter *y = b;

    return x->code < y->code ? -1 : x->code > y->code;
}

static struct sql_letter plain_ascii(uint32_t c)
{
    return (struct sql_letter){c, c >= 'A' && c <= 'Z' ? c + 32 : c,
                               c >= 'a' && c <= 'z' ? c - 32 : c};
}

static bool is_plain(const struct sql_letters *letters)
{
    for (uint32_t c = 0; c < ASCII; c++) {
        struct sql_letter plain = plain_ascii(c);

        if (letters->ascii[c].lower != plain.lower ||
            letters->ascii[c].upper != plain.upper)
            return false;
    }
    return true;
}

struct sql_letters *sql_letters_new(const struct sql_letter *items, size_t count)
{
    struct sql_letters *letters = malloc(sizeof(*letters) + count * sizeof(*items));

    if (!letters)
        return NULL;
    letters->count = 0;
    for (uint32_t c = 0; c < ASCII; c++)
        letters->ascii[c] = (struct sql_letter){c, c, c};
    for (size_t i = 0; i < count; i++) {
        if (items[i].code < ASCII)
            letters->ascii[items[i].code] = items[i];
        else
            letters->items[letters->count++] = items[i];
    }
    letters->plain = is_plain(letters);
    qsort(letters->items, letters->count, sizeof(*items), by_code);
    return letters;
}

void sql_letters_free(struct sql_letters *letters)
{
    free(letters);
}

bool sql_letters_plain(const struct sql_letters *letters)
{
    return letters->plain;
}

static struct sql_letter find(const struct sql_letters *letters, uint32_t code)
{
    size_t low = 0, high = letters->count;

    if (code < ASCII)
        return letters->plain ? plain_ascii(code) : letters->ascii[code];
    while (low < high) {
        size_t middle = (low + high) / 2;

        if (letters->items[middle].code == code)
            return letters->items[middle];
        low = letters->items[middle].code < code ? middle + 1 : low;
        high = letters->items[middle].code < code ? high : middle;
    }
    return (struct sql_letter){code, code, code};
}

/* The character at *at, which moves on; UINT32_MAX for a byte that begins none. */
static uint32_t take_character(struct slice s, size_t *at)
{
    unsigned char first = (unsigned char)s.ptr[(*at)++];
    unsigned more = first < 0x80 ? 0 : first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : 1;
    uint32_t code = more == 0 ? first : first & (0x3Fu >> more);

    if ((first >= 0x80 && first < 0xC0) || s.len - *at < more)
        return UINT32_MAX;
    for (unsigned i = 0; i < more; i++) {
        unsigned char c = (unsigned char)s.ptr[*at + i];

        if ((c & 0xC0) != 0x80)
            return UINT32_MAX;
        code = code << 6 | (c & 0x3Fu);
    }
    *at += more;
    return code;
}

static void put_character(struct buf *out, uint32_t code)
{
    if (code < 0x80) {
        buf_putc(out, (char)code);
        return;
    }
    if (code < 0x800) {
        buf_putc(out, (char)(0xC0 | code >> 6));
    } else {
        if (code < 0x10000) {
            buf_putc(out, (char)(0xE0 | code >> 12));
        } else {
            buf_putc(out, (char)(0xF0 | code >> 18));
            buf_putc(out, (char)(0x80 | (code >> 12 & 0x3F)));
        }
        buf_putc(out, (char)(0x80 | (code >> 6 & 0x3F)));
    }
    buf_putc(out, (char)(0x80 | (code & 0x3F)));
}

enum sql_failure sql_letters_map(struct sql_call *call, struct slice s, bool upper,
                                 struct sql_value *out)
{
    struct buf mapped;
    enum sql_failure rc;
    size_t at = 0;

    buf_init(&mapped, (size_t)1 << 30);
    while (at < s.len) {
        size_t begin = at;
        uint32_t code = take_character(s, &at);

        if (code == UINT32_MAX) {
            buf_putc(&mapped, s.ptr[begin]);
        } else {
            struct sql_letter letter = find(call->letters, code);

            put_character(&mapped, upper ? letter.upper : letter.lower);
        }
    }
    rc = sql_bytes_take(call, &mapped, out);
    buf_fini(&mapped);
    return rc;
}
