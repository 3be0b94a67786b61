/*
 * The text of offsets.
 *
 *   offset  = "-1" / tx "_" op
 *   tx      = integer            ; >= 0, or -1 when op is 0: the same as "-1"
 *   op      = integer / "inf"    ; >= 0
 *   integer = [ "+" / "-" ] 1*DIGIT
 *
 * "-0" is the integer 0. What exceeds uint64 is kept at its maximum: no log reaches it,
 * so every comparison comes out as with the true number, except that such an op equals
 * inf.
 */

#include "base/offset.h"

static size_t print_u64(uint64_t v, char *out)
{
    char digits[20];
    size_t at = sizeof(digits);

    do {
        digits[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v > 0);
    memcpy(out, digits + at, sizeof(digits) - at);
    return sizeof(digits) - at;
}

/* *negative is set only for numbers below 0. */
static bool parse_integer(struct slice s, uint64_t *value, bool *negative)
{
    bool minus = s.len > 0 && s.ptr[0] == '-';
    uint64_t v = 0;

    if (s.len > 0 && (minus || s.ptr[0] == '+')) {
        s.ptr++;
        s.len--;
    }
    if (s.len == 0)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        unsigned digit = (unsigned)(unsigned char)s.ptr[i] - '0';

        if (digit > 9)
            return false;
        if (v > (UINT64_MAX - digit) / 10)
            v = UINT64_MAX;
        else
            v = v * 10 + digit;
    }
    *value = v;
    *negative = minus && v != 0;
    return true;
}

static bool parse_op(struct slice s, uint64_t *op)
{
    bool negative;

    if (slice_eq(s, SLICE_LIT("inf"))) {
        *op = OFFSET_OP_INF;
        return true;
    }
    return parse_integer(s, op, &negative) && !negative;
}

bool offset_parse(struct slice text, struct offset *out)
{
    const char *bar = text.len ? memchr(text.ptr, '_', text.len) : NULL;
    uint64_t tx;
    uint64_t op;
    size_t at;
    bool negative;

    if (!bar) {
        if (!slice_eq(text, SLICE_LIT("-1")))
            return false;
        *out = OFFSET_BEFORE_ALL;
        return true;
    }
    at = (size_t)(bar - text.ptr);
    /* A second "_" is not a digit, so it fails in op. */
    if (!parse_integer(slice_make(text.ptr, at), &tx, &negative) ||
        !parse_op(slice_make(bar + 1, text.len - at - 1), &op))
        return false;
    if (negative) {
        if (tx != 1 || op != 0)
            return false;
        *out = OFFSET_BEFORE_ALL;
        return true;
    }
    *out = (struct offset){.tx = tx, .op = op, .before_all = false};
    return true;
}

size_t offset_print(struct offset o, char out[OFFSET_TEXT_MAX])
{
    size_t len;

    if (o.before_all) {
        memcpy(out, "-1", 3);
        return 2;
    }
    len = print_u64(o.tx, out);
    out[len++] = '_';
    if (o.op == OFFSET_OP_INF) {
        memcpy(out + len, "inf", 3);
        len += 3;
    } else {
        len += print_u64(o.op, out + len);
    }
    out[len] = '\0';
    return len;
}

int offset_cmp(struct offset a, struct offset b)
{
    if (a.before_all || b.before_all)
        return (int)b.before_all - (int)a.before_all;
    if (a.tx != b.tx)
        return a.tx < b.tx ? -1 : 1;
    return (a.op > b.op) - (a.op < b.op);
}
