/*
 * bool, the text kinds, uuid and bytea: text form, order and hash.
 *
 * Text is bytes: whoever hands it in has it from Postgres, or has checked its encoding.
 * bpchar keeps its padding, and only comparison and hash look past it.
 */

#include "sql/value.h"

#define NAME_BYTES_MAX 63u

/* ---- bool ---- */

/* Any beginning of true, false, yes, no, on, off that is clear, 1 and 0. */
int sql_bool_in(struct slice text, struct arena *arena, struct sql_value *out,
                struct err *err)
{
    static const struct {
        const char *word;
        size_t least;
        bool value;
    } words[] = {{"true", 1, true}, {"false", 1, false}, {"yes", 1, true},
                 {"no", 1, false},  {"on", 2, true},     {"off", 2, false},
                 {"1", 1, true},    {"0", 1, false}};
    struct slice s = slice_trim(text);

    (void)arena;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        struct slice word = slice_of(words[i].word);

        if (s.len < words[i].least || s.len > word.len)
            continue;
        word.len = s.len;
        if (!slice_eq_nocase(s, word))
            continue;
        *out = (struct sql_value){.b = words[i].value};
        return 0;
    }
    return sql_bad_syntax(err, "boolean", text);
}

void sql_bool_out(const struct sql_value *v, struct buf *out)
{
    buf_putc(out, v->b ? 't' : 'f');
}

int sql_bool_cmp(const struct sql_value *a, const struct sql_value *b)
{
    return a->b - b->b;
}

uint64_t sql_bool_hash(const struct sql_value *v, uint64_t seed)
{
    return sql_hash_bytes(v->b ? "t" : "f", 1, seed);
}

/* ---- text ---- */

int sql_text_in(struct slice text, struct arena *arena, struct sql_value *out,
                struct err *err)
{
    (void)arena;
    (void)err;
    *out = (struct sql_value){.s = text};
    return 0;
}

/* A name is cut, silently, before the character that does not fit. */
int sql_name_in(struct slice text, struct arena *arena, struct sql_value *out,
                struct err *err)
{
    (void)arena;
    (void)err;
    if (text.len > NAME_BYTES_MAX) {
        text.len = NAME_BYTES_MAX;
        while (text.len > 0 && ((unsigned char)text.ptr[text.len] & 0xC0) == 0x80)
            text.len--;
    }
    *out = (struct sql_value){.s = text};
    return 0;
}

void sql_text_out(const struct sql_value *v, struct buf *out)
{
    buf_put_slice(out, v->s);
}

int sql_text_cmp(const struct sql_value *a, const struct sql_value *b)
{
    return slice_cmp(a->s, b->s);
}

uint64_t sql_text_hash(const struct sql_value *v, uint64_t seed)
{
    return sql_hash_bytes(v->s.ptr, v->s.len, seed);
}

static struct slice unpadded(struct slice s)
{
    while (s.len > 0 && s.ptr[s.len - 1] == ' ')
        s.len--;
    return s;
}

int sql_bpchar_cmp(const struct sql_value *a, const struct sql_value *b)
{
    return slice_cmp(unpadded(a->s), unpadded(b->s));
}

uint64_t sql_bpchar_hash(const struct sql_value *v, uint64_t seed)
{
    struct slice s = unpadded(v->s);

    return sql_hash_bytes(s.ptr, s.len, seed);
}

/* ---- uuid ---- */

static int hex_value(char c)
{
    if (sql_is_digit(c))
        return c - '0';
    c = sql_lower_ascii(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Two hexadecimal digits; -1 when they are not. */
static int hex_byte(const char *p)
{
    int high = hex_value(p[0]);
    int low = hex_value(p[1]);

    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

/* In braces or not, with a hyphen or none behind each four digits. */
int sql_uuid_in(struct slice text, struct arena *arena, struct sql_value *out,
                struct err *err)
{
    struct slice s = text;
    struct sql_value v = {.null = false};
    size_t at = 0;

    (void)arena;
    if (s.len >= 2 && s.ptr[0] == '{' && s.ptr[s.len - 1] == '}')
        s = slice_make(s.ptr + 1, s.len - 2);
    for (size_t i = 0; i < sizeof(v.uuid); i++) {
        int byte = s.len - at >= 2 ? hex_byte(s.ptr + at) : -1;

        if (byte < 0)
            return sql_bad_syntax(err, "uuid", text);
        v.uuid[i] = (unsigned char)byte;
        at += 2;
        if (i % 2 == 1 && i < 15 && at < s.len && s.ptr[at] == '-')
            at++;
    }
    if (at != s.len)
        return sql_bad_syntax(err, "uuid", text);
    *out = v;
    return 0;
}

static void put_hex(const unsigned char *bytes, size_t n, struct buf *out)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < n; i++) {
        buf_putc(out, digits[bytes[i] >> 4]);
        buf_putc(out, digits[bytes[i] & 15]);
    }
}

void sql_uuid_out(const struct sql_value *v, struct buf *out)
{
    static const unsigned char groups[] = {4, 2, 2, 2, 6};
    size_t at = 0;

    for (size_t i = 0; i < sizeof(groups); i++) {
        if (i > 0)
            buf_putc(out, '-');
        put_hex(v->uuid + at, groups[i], out);
        at += groups[i];
    }
}

int sql_uuid_cmp(const struct sql_value *a, const struct sql_value *b)
{
    int order = memcmp(a->uuid, b->uuid, sizeof(a->uuid));

    return (order > 0) - (order < 0);
}

uint64_t sql_uuid_hash(const struct sql_value *v, uint64_t seed)
{
    return sql_hash_bytes(v->uuid, sizeof(v->uuid), seed);
}

/* ---- bytea ----
 *
 *   hex    = "\x" *( [blanks] 2HEXDIG ) [blanks]
 *   escape = *( byte except "\" / "\\" / "\" [0-3] [0-7] [0-7] )
 */

static int bytea_hex(struct slice s, char *to, size_t *len, struct err *err)
{
    size_t at = 2;

    *len = 0;
    while (at < s.len) {
        char c = s.ptr[at];
        int byte;

        if (c == ' ' || c == '\n' || c == '\t' || c == '\r') {
            at++;
            continue;
        }
        if (hex_value(c) < 0)
            return err_set(err, ERR_INVALID, "invalid hexadecimal digit: \"%c\"", c);
        if (at + 1 == s.len)
            return err_set(err, ERR_INVALID,
                           "invalid hexadecimal data: odd number of digits");
        byte = hex_byte(s.ptr + at);
        if (byte < 0)
            return err_set(err, ERR_INVALID, "invalid hexadecimal digit: \"%c\"",
                           s.ptr[at + 1]);
        to[(*len)++] = (char)(unsigned char)byte;
        at += 2;
    }
    return 0;
}

static bool is_octal(char c, char most)
{
    return c >= '0' && c <= most;
}

static int bytea_escape(struct slice s, char *to, size_t *len, struct err *err)
{
    size_t at = 0;

    *len = 0;
    while (at < s.len) {
        const char *p = s.ptr + at;
        size_t left = s.len - at;

        if (p[0] != '\\') {
            to[(*len)++] = p[0];
            at++;
        } else if (left >= 2 && p[1] == '\\') {
            to[(*len)++] = '\\';
            at += 2;
        } else if (left >= 4 && is_octal(p[1], '3') && is_octal(p[2], '7') &&
                   is_octal(p[3], '7')) {
            to[(*len)++] = (char)(unsigned char)((p[1] - '0') << 6 | (p[2] - '0') << 3 |
                                                 (p[3] - '0'));
            at += 4;
        } else {
            return err_set(err, ERR_INVALID, "invalid input syntax for type bytea");
        }
    }
    return 0;
}

int sql_bytea_in(struct slice text, struct arena *arena, struct sql_value *out,
                 struct err *err)
{
    bool hex = text.len >= 2 && text.ptr[0] == '\\' && text.ptr[1] == 'x';
    char *bytes = arena_alloc(arena, text.len);
    size_t len;
    int rc;

    if (!bytes)
        return sql_no_memory(err);
    rc = hex ? bytea_hex(text, bytes, &len, err) : bytea_escape(text, bytes, &len, err);
    if (rc == 0)
        *out = (struct sql_value){.s = slice_make(bytes, len)};
    return rc;
}

void sql_bytea_out(const struct sql_value *v, struct buf *out)
{
    buf_puts(out, "\\x");
    put_hex((const unsigned char *)v->s.ptr, v->s.len, out);
}
