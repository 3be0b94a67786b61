/*
 * LIKE and ILIKE.
 *
 *   pattern = *( "%" / "_" / "\" CHAR / CHAR )
 *
 * % is any run of characters, _ one character, and a backslash takes the special meaning
 * of what follows. One that ends the pattern is an error, but only for a text that gets
 * matching that far; this too is as Postgres has it.
 *
 * The matcher never looks back beyond the last %: what stands before it matched already,
 * and a later place for it can't help. So there is one place to return to, no recursion,
 * and the time is at most text times pattern.
 *
 * ESCAPE is a rewriting of the pattern, like_escape(pattern, escape), in the parser of
 * Postgres too.
 */

#include "sql/ops.h"

struct matcher {
    struct slice text;
    struct slice pattern;
    bool characters; /* _ is a UTF-8 character, else a byte */
    bool fold;       /* ASCII letters of either case are equal */
    size_t t;
    size_t p;
    bool starred;
    size_t star_t; /* where the part behind the last % is tried */
    size_t star_p;
};

static bool same(const struct matcher *m, char a, char b)
{
    return m->fold ? sql_lower_ascii(a) == sql_lower_ascii(b) : a == b;
}

static size_t next_character(const struct matcher *m, size_t t)
{
    t++;
    while (m->characters && t < m->text.len &&
           ((unsigned char)m->text.ptr[t] & 0xC0) == 0x80)
        t++;
    return t;
}

static bool ends_with_escape(const struct matcher *m)
{
    return m->pattern.ptr[m->p] == '\\' && m->p + 1 == m->pattern.len;
}

/* Over a run of % and _; false when the text is too short for the _ in it. */
static bool skip_wildcards(struct matcher *m)
{
    for (; m->p < m->pattern.len; m->p++) {
        char c = m->pattern.ptr[m->p];

        if (c != '%' && c != '_')
            break;
        if (c == '%')
            continue;
        if (m->t >= m->text.len)
            return false;
        m->t = next_character(m, m->t);
    }
    m->starred = true;
    m->star_t = m->t;
    m->star_p = m->p;
    return true;
}

/* One character of the text against one of the pattern, which is no %. */
static bool match_one(struct matcher *m)
{
    char c = m->pattern.ptr[m->p];

    if (c == '_') {
        m->t = next_character(m, m->t);
        m->p++;
        return true;
    }
    if (c == '\\')
        c = m->pattern.ptr[++m->p];
    if (!same(m, m->text.ptr[m->t], c))
        return false;
    m->t++;
    m->p++;
    return true;
}

/* From `from` on where the text has that character, of which c is the first byte; its end when
 * nowhere. No byte of another character is like it. */
static size_t find_first(const struct matcher *m, size_t from, char c)
{
    const char *text = m->text.ptr;
    char low = sql_lower_ascii(c);

    if (!m->fold || (low < 'a' || low > 'z')) {
        const char *at = memchr(text + from, c, m->text.len - from);

        return at ? (size_t)(at - text) : m->text.len;
    }
    while (from < m->text.len && (text[from] | 0x20) != low)
        from++;
    return from;
}

/* The part behind the last % once more, one character later, or where its first character is found;
 * false at the text's end. */
static bool try_later(struct matcher *m)
{
    char c;

    if (!m->starred || m->star_t >= m->text.len)
        return false;
    m->star_t = next_character(m, m->star_t);
    c = m->star_p < m->pattern.len ? m->pattern.ptr[m->star_p] : '_';
    if (c != '_' && c != '\\')
        m->star_t = find_first(m, m->star_t, c);
    m->t = m->star_t;
    m->p = m->star_p;
    return true;
}

enum outcome { MATCHES, DIFFERS, BAD_ESCAPE };

static enum outcome match(struct matcher *m)
{
    for (;;) {
        bool star = m->p < m->pattern.len && m->pattern.ptr[m->p] == '%';

        if (star && m->t == m->text.len) {
            while (m->p < m->pattern.len && m->pattern.ptr[m->p] == '%')
                m->p++;
            return m->p == m->pattern.len ? MATCHES : DIFFERS;
        }
        if (star) {
            if (!skip_wildcards(m))
                return DIFFERS;
            if (m->p == m->pattern.len)
                return MATCHES;
            if (ends_with_escape(m))
                return BAD_ESCAPE;
            continue;
        }
        if (m->t == m->text.len)
            return m->p == m->pattern.len ? MATCHES : DIFFERS;
        if (m->p < m->pattern.len) {
            if (ends_with_escape(m))
                return BAD_ESCAPE;
            if (match_one(m))
                continue;
        }
        if (!try_later(m))
            return DIFFERS;
    }
}

static enum sql_failure like(struct sql_call *call, const struct sql_value *args,
                             struct matcher m, bool negated, struct sql_value *out)
{
    m.text = args[0].s;
    m.pattern = args[1].s;
    switch (match(&m)) {
    case MATCHES:
        return sql_bool_result(out, !negated);
    case DIFFERS:
        return sql_bool_result(out, negated);
    case BAD_ESCAPE:
        break;
    }
    return sql_fail(call, "LIKE pattern must not end with escape character");
}

enum sql_failure sql_like(struct sql_call *call, const struct sql_value *args,
                          struct sql_value *out)
{
    return like(call, args, (struct matcher){.characters = true}, false, out);
}

enum sql_failure sql_not_like(struct sql_call *call, const struct sql_value *args,
                              struct sql_value *out)
{
    return like(call, args, (struct matcher){.characters = true}, true, out);
}

enum sql_failure sql_bytea_like(struct sql_call *call, const struct sql_value *args,
                                struct sql_value *out)
{
    return like(call, args, (struct matcher){.characters = false}, false, out);
}

enum sql_failure sql_bytea_not_like(struct sql_call *call, const struct sql_value *args,
                                    struct sql_value *out)
{
    return like(call, args, (struct matcher){.characters = false}, true, out);
}

static enum sql_failure ilike(struct sql_call *call, const struct sql_value *args,
                              bool negated, struct sql_value *out)
{
    bool ascii = sql_is_ascii(args[0].s) && sql_is_ascii(args[1].s);

    if (call->letters && (!ascii || !sql_letters_plain(call->letters))) {
        struct sql_value low[2];

        if (sql_letters_map(call, args[0].s, false, &low[0]) != SQL_FINE ||
            sql_letters_map(call, args[1].s, false, &low[1]) != SQL_FINE)
            return SQL_FAILED;
        return like(call, low, (struct matcher){.characters = true}, negated, out);
    }
    if (!ascii)
        return sql_refuse(call, "the case of letters beyond ASCII depends on the "
                                "database's collation, which is not known here");
    return like(call, args, (struct matcher){.characters = true, .fold = true}, negated,
                out);
}

enum sql_failure sql_ilike(struct sql_call *call, const struct sql_value *args,
                           struct sql_value *out)
{
    return ilike(call, args, false, out);
}

enum sql_failure sql_not_ilike(struct sql_call *call, const struct sql_value *args,
                               struct sql_value *out)
{
    return ilike(call, args, true, out);
}

/* ---- ESCAPE ---- */

static size_t character_length(struct slice s)
{
    size_t n = 1;

    while (n < s.len && ((unsigned char)s.ptr[n] & 0xC0) == 0x80)
        n++;
    return n;
}

/* The pattern with the escape character made a backslash, and backslashes made plain. */
static size_t rewrite(struct slice pattern, struct slice escape, char *to)
{
    bool escaped = false;
    size_t n = 0;

    while (pattern.len > 0) {
        size_t length = character_length(pattern);
        struct slice c = slice_make(pattern.ptr, length);

        if (escape.len > 0 && slice_eq(c, escape) && !escaped) {
            to[n++] = '\\';
            escaped = true;
        } else {
            if (c.ptr[0] == '\\' && !escaped)
                to[n++] = '\\';
            memcpy(to + n, c.ptr, length);
            n += length;
            escaped = false;
        }
        pattern = slice_make(pattern.ptr + length, pattern.len - length);
    }
    return n;
}

enum sql_failure sql_like_escape(struct sql_call *call, const struct sql_value *args,
                                 struct sql_value *out)
{
    struct slice escape = args[1].s;
    char *to;

    if (escape.len > 0 && character_length(escape) != escape.len)
        return sql_fail(call, "invalid escape string");
    if (slice_eq(escape, SLICE_LIT("\\")))
        return sql_slice_result(out, args[0].s);
    if (args[0].s.len > SIZE_MAX / 4)
        return sql_fail(call, "out of memory");
    to = sql_bytes_new(call, args[0].s.len * 2, out);
    if (!to)
        return SQL_FAILED;
    out->s.len = rewrite(args[0].s, escape, to);
    return SQL_FINE;
}
