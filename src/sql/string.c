/*
 * Functions of text and bytea. Characters are counted as UTF-8, the encoding of every
 * database we serve. lower and upper depend on the collation beyond ASCII: there they
 * refuse rather than guess.
 */

#include "sql/ops.h"

static struct slice unpadded(struct slice s)
{
    while (s.len > 0 && s.ptr[s.len - 1] == ' ')
        s.len--;
    return s;
}

static size_t characters(struct slice s)
{
    size_t n = 0;

    for (size_t i = 0; i < s.len; i++)
        n += ((unsigned char)s.ptr[i] & 0xC0) != 0x80;
    return n;
}

enum sql_failure sql_bpchar_to_text(struct sql_call *call, const struct sql_value *args,
                                    struct sql_value *out)
{
    (void)call;
    return sql_slice_result(out, unpadded(args[0].s));
}

enum sql_failure sql_bpchar_to_name(struct sql_call *call, const struct sql_value *args,
                                    struct sql_value *out)
{
    struct sql_value cut;

    if (sql_result_in(call, SQL_NAME, args[0].s, &cut) != SQL_FINE)
        return SQL_FAILED;
    return sql_slice_result(out, unpadded(cut.s));
}

/* The cast, which spells the value out; the output function does not. */
enum sql_failure sql_bool_to_text(struct sql_call *call, const struct sql_value *args,
                                  struct sql_value *out)
{
    (void)call;
    return sql_slice_result(out, slice_of(args[0].b ? "true" : "false"));
}

enum sql_failure sql_concat(struct sql_call *call, const struct sql_value *args,
                            struct sql_value *out)
{
    size_t total = 0;
    char *to;

    for (size_t i = 0; i < call->count; i++) {
        if (args[i].null)
            continue;
        if (args[i].s.len > SIZE_MAX / 2 - total)
            return sql_fail(call, "out of memory");
        total += args[i].s.len;
    }
    to = sql_bytes_new(call, total, out);
    if (!to)
        return SQL_FAILED;
    for (size_t i = 0; i < call->count; i++) {
        if (args[i].null || args[i].s.len == 0)
            continue;
        memcpy(to, args[i].s.ptr, args[i].s.len);
        to += args[i].s.len;
    }
    return SQL_FINE;
}

/* The same for two that are not NULL: || of text and of bytea. */
enum sql_failure sql_concat_op(struct sql_call *call, const struct sql_value *args,
                               struct sql_value *out)
{
    return sql_concat(call, args, out);
}

static enum sql_failure map_case(struct sql_call *call, struct slice s, char first,
                                 struct sql_value *out)
{
    char *to;

    if (call->letters && (!sql_letters_plain(call->letters) || !sql_is_ascii(s)))
        return sql_letters_map(call, s, first == 'a', out);
    to = sql_bytes_new(call, s.len, out);
    if (!to)
        return SQL_FAILED;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];

        if ((unsigned char)c >= 0x80)
            return sql_refuse(call, "the case of letters beyond ASCII depends on the "
                                    "database's collation, which is not known here");
        if (c >= first && c <= first + ('z' - 'a'))
            c = (char)(c ^ 0x20);
        to[i] = c;
    }
    return SQL_FINE;
}

enum sql_failure sql_lower(struct sql_call *call, const struct sql_value *args,
                           struct sql_value *out)
{
    return map_case(call, args[0].s, 'A', out);
}

enum sql_failure sql_upper(struct sql_call *call, const struct sql_value *args,
                           struct sql_value *out)
{
    return map_case(call, args[0].s, 'a', out);
}

enum sql_failure sql_text_length(struct sql_call *call, const struct sql_value *args,
                                 struct sql_value *out)
{
    (void)call;
    return sql_int_result(out, (int64_t)characters(args[0].s));
}

enum sql_failure sql_bpchar_length(struct sql_call *call, const struct sql_value *args,
                                   struct sql_value *out)
{
    (void)call;
    return sql_int_result(out, (int64_t)characters(unpadded(args[0].s)));
}

enum sql_failure sql_octet_length(struct sql_call *call, const struct sql_value *args,
                                  struct sql_value *out)
{
    (void)call;
    return sql_int_result(out, (int64_t)args[0].s.len);
}

enum sql_failure sql_starts_with(struct sql_call *call, const struct sql_value *args,
                                 struct sql_value *out)
{
    struct slice head = args[0].s;

    (void)call;
    if (head.len > args[1].s.len)
        head.len = args[1].s.len;
    return sql_bool_result(out, slice_eq(head, args[1].s));
}
