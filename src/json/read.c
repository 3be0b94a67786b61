/*
 * The pull reader: a state machine over one complete text, one event per call.
 *
 *   text   = ws value ws
 *   value  = "{" [ member *( "," member ) ] "}" / "[" [ value *( "," value ) ] "]"
 *          / string / number / "true" / "false" / "null"
 *   member = string ":" value
 *   string = quote *( byte >= 0x20 / "\" one of "\/bfnrt / "\u" 4HEXDIG ) quote
 *   number = [ "-" ] ( "0" / 1-9 *DIGIT ) [ "." 1*DIGIT ] [ e [ "+" / "-" ] 1*DIGIT ]
 *
 * (with ws between all tokens; quotes and backslashes only escaped inside of strings)
 *
 * What may come next is the state; which bracket closes is a stack of JSON_DEPTH_MAX
 * bytes in the reader. A string without escapes is given out in place; one with escapes
 * is rebuilt in scratch, where it can only become shorter, so the input's length bounds
 * the memory.
 *
 * The first fault ends the reading: state FAILED, and every later call reports it again.
 */

#include "json/json.h"

#include "base/assert.h"
#include "json/scan.h"

enum state {
    WANT_VALUE,        /* nothing read yet */
    WANT_VALUE_OR_END, /* just after "[" */
    WANT_NAME_OR_END,  /* just after "{" */
    WANT_COLON,        /* after a name */
    WANT_COMMA_OR_END, /* after a value inside of something */
    WANT_NOTHING,      /* after the outermost value */
    FAILED
};

static const char unexpected_end[] = "unexpected end of input";
static const char unexpected_byte[] = "unexpected byte";

void json_reader_init_from(struct json_reader *r, struct slice input,
                           const struct mem *mem)
{
    memset(r, 0, sizeof(*r));
    r->input = input;
    r->state = WANT_VALUE;
    buf_init_from(&r->scratch, input.len, mem);
}

void json_reader_init(struct json_reader *r, struct slice input)
{
    json_reader_init_from(r, input, NULL);
}

void json_reader_fini(struct json_reader *r)
{
    buf_fini(&r->scratch);
}

static enum json_event fail(struct json_reader *r, size_t pos, const char *what)
{
    r->state = FAILED;
    r->text = slice_make(NULL, 0);
    r->error = what;
    r->error_pos = pos;
    return JSON_ERROR;
}

/* The fault of a byte that should not be here, or of there being none. */
static enum json_event fail_at(struct json_reader *r, size_t pos)
{
    return fail(r, pos, pos >= r->input.len ? unexpected_end : unexpected_byte);
}

static void skip_blanks(struct json_reader *r)
{
    while (r->pos < r->input.len) {
        char c = r->input.ptr[r->pos];

        if (c != ' ' && c != '\n' && c != '\r' && c != '\t')
            return;
        r->pos++;
    }
}

/* The byte at pos, or 0 at the end (no token begins with NUL). */
static char peek(const struct json_reader *r)
{
    return r->pos < r->input.len ? r->input.ptr[r->pos] : '\0';
}

/* ---- values
 * ---------------------------------------------------------------------------- */

/* What follows a value that just ended at this depth. */
static void value_done(struct json_reader *r)
{
    r->state = r->depth > 0 ? WANT_COMMA_OR_END : WANT_NOTHING;
}

static enum json_event begin(struct json_reader *r, char open)
{
    if (r->depth == JSON_DEPTH_MAX)
        return fail(r, r->pos, "nested too deeply");
    r->stack[r->depth++] = (unsigned char)open;
    r->pos++;
    r->state = open == '{' ? WANT_NAME_OR_END : WANT_VALUE_OR_END;
    return open == '{' ? JSON_OBJECT_BEGIN : JSON_ARRAY_BEGIN;
}

/* At a closing bracket of the right kind. */
static enum json_event end(struct json_reader *r)
{
    enum json_event event =
        r->stack[r->depth - 1] == '{' ? JSON_OBJECT_END : JSON_ARRAY_END;

    r->depth--;
    r->pos++;
    value_done(r);
    return event;
}

static enum json_event literal(struct json_reader *r, const char *text,
                               enum json_event event)
{
    for (; *text; text++) {
        if (peek(r) != *text)
            return fail_at(r, r->pos);
        r->pos++;
    }
    value_done(r);
    return event;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* At least one digit; on failure pos is where it should be. */
static bool digits(struct json_reader *r)
{
    if (!is_digit(peek(r)))
        return false;
    while (is_digit(peek(r)))
        r->pos++;
    return true;
}

static enum json_event number(struct json_reader *r)
{
    size_t start = r->pos;

    if (peek(r) == '-')
        r->pos++;
    if (peek(r) == '0')
        r->pos++; /* and a digit behind it is no comma */
    else if (!digits(r))
        return fail_at(r, r->pos);
    if (peek(r) == '.') {
        r->pos++;
        if (!digits(r))
            return fail_at(r, r->pos);
    }
    if (peek(r) == 'e' || peek(r) == 'E') {
        r->pos++;
        if (peek(r) == '+' || peek(r) == '-')
            r->pos++;
        if (!digits(r))
            return fail_at(r, r->pos);
    }
    r->text = slice_make(r->input.ptr + start, r->pos - start);
    value_done(r);
    return JSON_NUMBER;
}

/* ---- strings
 * --------------------------------------------------------------------------- */

static int hex_value(char c)
{
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* The four digits of \uXXXX, pos being at the first. */
static bool hex4(struct json_reader *r, uint32_t *out)
{
    uint32_t value = 0;

    for (int i = 0; i < 4; i++) {
        int digit = hex_value(peek(r));

        if (digit < 0) {
            fail_at(r, r->pos);
            return false;
        }
        value = value << 4 | (uint32_t)digit;
        r->pos++;
    }
    *out = value;
    return true;
}

/* A backslash and u must follow; anything but a low surrogate leaves the pair open. */
static bool low_surrogate(struct json_reader *r, size_t pair_pos, uint32_t *out)
{
    static const char unpaired[] = "unpaired surrogate escape";

    for (const char *c = "\\u"; *c; c++) {
        if (r->pos == r->input.len) {
            fail_at(r, r->pos);
            return false;
        }
        if (peek(r) != *c) {
            fail(r, pair_pos, unpaired);
            return false;
        }
        r->pos++;
    }
    if (!hex4(r, out))
        return false;
    if (*out < 0xDC00 || *out > 0xDFFF) {
        fail(r, pair_pos, unpaired);
        return false;
    }
    return true;
}

static void put_code_point(struct buf *out, uint32_t c)
{
    char utf8[4];
    size_t n;

    if (c < 0x80) {
        utf8[0] = (char)c;
        n = 1;
    } else if (c < 0x800) {
        utf8[0] = (char)(unsigned char)(0xC0 | c >> 6);
        n = 2;
    } else if (c < 0x10000) {
        utf8[0] = (char)(unsigned char)(0xE0 | c >> 12);
        n = 3;
    } else {
        utf8[0] = (char)(unsigned char)(0xF0 | c >> 18);
        n = 4;
    }
    for (size_t i = 1; i < n; i++)
        utf8[i] = (char)(unsigned char)(0x80 | (c >> (6 * (n - 1 - i)) & 0x3F));
    buf_put(out, utf8, n);
}

/* \uXXXX or a pair of them, pos being behind the u. */
static bool unicode_escape(struct json_reader *r)
{
    size_t start = r->pos - 2;
    uint32_t c;
    uint32_t low;

    if (!hex4(r, &c))
        return false;
    if (c >= 0xDC00 && c <= 0xDFFF) {
        fail(r, start, "unpaired surrogate escape");
        return false;
    }
    if (c >= 0xD800 && c <= 0xDBFF) {
        if (!low_surrogate(r, start, &low))
            return false;
        c = 0x10000 + ((c - 0xD800) << 10 | (low - 0xDC00));
    }
    put_code_point(&r->scratch, c);
    return true;
}

/* One escape into scratch, pos being at its backslash. */
static bool escape(struct json_reader *r)
{
    static const char letters[] = "\"\\/bfnrt";
    static const char bytes[] = "\"\\/\b\f\n\r\t";
    const char *found;
    char c;

    r->pos++;
    c = peek(r);
    if (c == 'u') {
        r->pos++;
        return unicode_escape(r);
    }
    found = c ? strchr(letters, c) : NULL;
    if (!found) {
        fail_at(r, r->pos);
        return false;
    }
    r->pos++;
    buf_putc(&r->scratch, bytes[found - letters]);
    return true;
}

/* The bytes up to the next quote or backslash; *run borrows them from the input. */
static bool plain_run(struct json_reader *r, struct slice *run)
{
    struct slice rest = slice_make(r->input.ptr + r->pos, r->input.len - r->pos);
    size_t good;

    *run = slice_make(rest.ptr, json_clean_run(rest));
    good = slice_utf8_prefix(*run);
    if (good < run->len) {
        fail(r, r->pos + good, "malformed UTF-8");
        return false;
    }
    r->pos += run->len;
    if (peek(r) != '"' && peek(r) != '\\') {
        fail_at(r, r->pos);
        return false;
    }
    return true;
}

/* A string with its quotes into r->text, pos being at the opening one. */
static bool string(struct json_reader *r)
{
    struct slice run;

    r->pos++;
    if (!plain_run(r, &run))
        return false;
    if (peek(r) == '"') {
        r->pos++;
        r->text = run;
        return true;
    }
    buf_reset(&r->scratch, SIZE_MAX);
    buf_put_slice(&r->scratch, run);
    while (peek(r) != '"') {
        if (!escape(r) || !plain_run(r, &run))
            return false;
        buf_put_slice(&r->scratch, run);
    }
    if (r->scratch.failed) {
        fail(r, r->pos, "out of memory");
        return false;
    }
    r->pos++;
    r->text = buf_slice(&r->scratch);
    return true;
}

/* ---- the machine
 * ----------------------------------------------------------------------- */

static enum json_event read_value(struct json_reader *r)
{
    char c = peek(r);

    switch (c) {
    case '{':
    case '[':
        return begin(r, c);
    case '"':
        if (!string(r))
            return JSON_ERROR;
        value_done(r);
        return JSON_STRING;
    case 't':
        return literal(r, "true", JSON_TRUE);
    case 'f':
        return literal(r, "false", JSON_FALSE);
    case 'n':
        return literal(r, "null", JSON_NULL);
    default:
        if (c != '-' && !is_digit(c))
            return fail_at(r, r->pos);
        return number(r);
    }
}

static enum json_event read_name(struct json_reader *r)
{
    if (peek(r) != '"')
        return fail_at(r, r->pos);
    if (!string(r))
        return JSON_ERROR;
    r->state = WANT_COLON;
    return JSON_NAME;
}

static enum json_event read_after_value(struct json_reader *r)
{
    bool object = r->stack[r->depth - 1] == '{';
    char c = peek(r);

    if (c == (object ? '}' : ']'))
        return end(r);
    if (c != ',')
        return fail_at(r, r->pos);
    r->pos++;
    skip_blanks(r);
    return object ? read_name(r) : read_value(r);
}

enum json_event json_next(struct json_reader *r)
{
    enum state state = (enum state)r->state;

    r->text = slice_make(NULL, 0);
    if (state != FAILED)
        skip_blanks(r);
    switch (state) {
    case WANT_VALUE_OR_END:
        return peek(r) == ']' ? end(r) : read_value(r);
    case WANT_VALUE:
        return read_value(r);
    case WANT_NAME_OR_END:
        return peek(r) == '}' ? end(r) : read_name(r);
    case WANT_COLON:
        if (peek(r) != ':')
            return fail_at(r, r->pos);
        r->pos++;
        skip_blanks(r);
        return read_value(r);
    case WANT_COMMA_OR_END:
        return read_after_value(r);
    case WANT_NOTHING:
        return r->pos == r->input.len ? JSON_END : fail_at(r, r->pos);
    case FAILED:
        return JSON_ERROR;
    }
    assert_failed("a state of the reader", __FILE__, __LINE__);
}

bool json_skip(struct json_reader *r, enum json_event event)
{
    unsigned outside;

    if (event == JSON_NAME)
        event = json_next(r);
    if (event != JSON_OBJECT_BEGIN && event != JSON_ARRAY_BEGIN)
        return event != JSON_ERROR;
    outside = r->depth - 1;
    while (r->depth > outside) {
        if (json_next(r) == JSON_ERROR)
            return false;
    }
    return true;
}

struct slice json_rest(const struct json_reader *r)
{
    return slice_make(r->input.ptr + r->pos, r->input.len - r->pos);
}

bool json_pass(struct json_reader *r, struct slice known)
{
    if ((enum state)r->state != WANT_COLON || r->input.len - r->pos < known.len ||
        memcmp(r->input.ptr + r->pos, known.ptr, known.len) != 0)
        return false;
    r->pos += known.len;
    value_done(r);
    return true;
}
