/* See ident.h.
 *
 *   relation   = ident | ident "." ident
 *   ident      = unquoted | '"' { character | '""' } '"'
 *   unquoted   = ( letter | "_" | non-ASCII ) { letter | digit | "_" | "$" | non-ASCII } */
#include "server/http/ident.h"

static const char *message(struct arena *arena, const char *prefix, struct slice ident)
{
    size_t n = strlen(prefix);
    char *text = arena_alloc(arena, n + ident.len + 1);

    if (!text)
        return NULL;
    memcpy(text, prefix, n);
    for (size_t i = 0; i < ident.len;
         i++) /* the text is terminated: it can't hold a NUL */
        text[n + i] = ident.ptr[i] == '\0' ? ' ' : ident.ptr[i];
    text[n + ident.len] = '\0';
    return text;
}

static const char *special(struct arena *arena, struct slice ident)
{
    return message(arena,
                   "Invalid unquoted identifier contains special characters: ", ident);
}

static size_t utf8_length(struct slice s)
{
    size_t n = 0;

    for (size_t i = 0; i < s.len; i++)
        n += ((unsigned char)s.ptr[i] & 0xC0u) != 0x80u;
    return n;
}

static bool starts_ident(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c >= 0x80;
}

static bool continues_ident(unsigned char c)
{
    return starts_ident(c) || (c >= '0' && c <= '9') || c == '$';
}

static bool parse_quoted(struct slice text, struct arena *arena, struct slice *out,
                         const char **error)
{
    struct slice inner = slice_make(text.ptr + 1, text.len - 2);
    char *name = arena_alloc(arena, inner.len + 1);
    size_t n = 0;

    *error = NULL;
    if (!name)
        return false;
    for (size_t i = 0; i < inner.len; i++) {
        if (inner.ptr[i] == '\0') {
            *error = special(arena, text);
            return false;
        }
        if (inner.ptr[i] == '"') {
            if (i + 1 >= inner.len || inner.ptr[i + 1] != '"') {
                *error =
                    message(arena, "Invalid identifier with unescaped quote: ", inner);
                return false;
            }
            i++;
        }
        name[n++] = inner.ptr[i];
    }
    name[n] = '\0';
    *out = slice_make(name, n);
    return true;
}

static bool parse_unquoted(struct slice text, struct arena *arena, struct slice *out,
                           const char **error)
{
    char *name = arena_dup(arena, text);

    *error = NULL;
    if (!name)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];

        if (i == 0 ? !starts_ident(c) : !continues_ident(c)) {
            *error = special(arena, text);
            return false;
        }
        if (c >= 'A' && c <= 'Z')
            name[i] = (char)(c - 'A' + 'a');
    }
    *out = slice_make(name, text.len);
    return true;
}

static bool parse_ident(struct slice text, struct arena *arena, struct slice *out,
                        const char **error)
{
    bool quoted = text.len >= 2 && text.ptr[0] == '"' && text.ptr[text.len - 1] == '"';

    if (text.len == 0 || (quoted && text.len == 2)) {
        *error = "Invalid zero-length delimited identifier";
        return false;
    }
    if (!(quoted ? parse_quoted : parse_unquoted)(text, arena, out, error))
        return false;
    if (utf8_length(*out) > IDENT_MAX_CHARS) {
        *error = "Identifier is too long (max length is 63)";
        return false;
    }
    return true;
}

/* Position of the first separator outside quotes at or after from; text.len when none. */
static size_t find_outside_quotes(struct slice text, size_t from, char separator)
{
    bool quoted = false;

    for (size_t i = from; i < text.len; i++) {
        if (text.ptr[i] == '"')
            quoted = !quoted;
        else if (text.ptr[i] == separator && !quoted)
            return i;
    }
    return text.len;
}

bool ident_relation_parse(struct slice text, struct arena *arena,
                          struct ident_relation *out, const char **error)
{
    size_t dot = find_outside_quotes(text, 0, '.');

    out->schema = SLICE_LIT("public");
    if (dot == text.len)
        return parse_ident(text, arena, &out->name, error);
    if (find_outside_quotes(text, dot + 1, '.') != text.len) {
        *error =
            message(arena, "Invalid relation identifier, too many delimiters: ", text);
        return false;
    }
    struct slice name = slice_make(text.ptr + dot + 1, text.len - dot - 1);
    return parse_ident(slice_make(text.ptr, dot), arena, &out->schema, error) &&
           parse_ident(name, arena, &out->name, error);
}

bool ident_list_add(struct slice text, struct arena *arena, struct ident_list *list,
                    const char **error)
{
    struct slice name;

    if (!parse_ident(text, arena, &name, error))
        return false;
    if ((list->count & (list->count - 1)) == 0) { /* full at each power of two */
        size_t room = list->count ? list->count * 2 : 1;
        struct slice *names = arena_calloc(arena, room, sizeof *names);

        if (!names) {
            *error = NULL;
            return false;
        }
        if (list->count > 0)
            memcpy(names, list->names, list->count * sizeof *names);
        list->names = names;
    }
    list->names[list->count++] = name;
    return true;
}

bool ident_list_parse(struct slice text, struct arena *arena, struct ident_list *out,
                      const char **error)
{
    size_t quotes = 0;

    *out = (struct ident_list){NULL, 0};
    for (size_t i = 0; i < text.len; i++)
        quotes += text.ptr[i] == '"';
    if (quotes % 2 != 0) {
        *error = special(arena, text);
        return false;
    }
    for (size_t at = 0;;) {
        size_t end = find_outside_quotes(text, at, ',');

        if (!ident_list_add(slice_make(text.ptr + at, end - at), arena, out, error))
            return false;
        if (end == text.len)
            return true;
        at = end + 1;
    }
}
