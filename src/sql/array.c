/*
 * Arrays: text form, order, hash.
 *
 *   array   = blanks [ 1*( "[" [ lower ":" ] upper "]" ) "=" ] braces blanks
 *   braces  = "{" [ item *( "," item ) ] "}"
 *   item    = braces / quoted / plain / "NULL"       (blanks around each)
 *   quoted  = quote *( byte / "\" byte ) quote
 *   plain   = 1*( byte / "\" byte )                  no quote, brace or comma unescaped
 *
 * Read twice, as in Postgres: first the structure (how many of what, nested how), which
 * finds every malformed text, then the elements. Nothing recurses: depth is a counter.
 */

#include "sql/array.h"

#include <inttypes.h>

#define ITEMS_MAX 134217727u /* Postgres's own, by its largest allocation */

static int malformed(struct err *err, struct slice text)
{
    int shown = text.len > 400 ? 400 : (int)text.len;

    return err_set(err, ERR_INVALID, "malformed array literal: \"%.*s\"", shown,
                   shown > 0 ? text.ptr : "");
}

static int too_many_dims(struct err *err)
{
    return err_set(err, ERR_INVALID,
                   "number of array dimensions (%d) exceeds the maximum allowed (%d)",
                   SQL_ARRAY_DIMS_MAX + 1, SQL_ARRAY_DIMS_MAX);
}

static struct slice after(struct slice s, size_t n)
{
    return slice_make(s.ptr + n, s.len - n);
}

static struct slice skip_blanks(struct slice s)
{
    while (s.len > 0 && sql_is_blank(s.ptr[0]))
        s = after(s, 1);
    return s;
}

/* ---- tokens ---- */

enum token { OPEN, CLOSE, COMMA, ITEM, BAD };

struct item {
    struct slice raw; /* between the quotes, or without blanks around it */
    bool quoted;
    bool escaped; /* holds backslashes */
};

static enum token take_quoted(struct slice *s, struct item *item)
{
    size_t n = 1;

    item->quoted = true;
    while (n < s->len && s->ptr[n] != '"') {
        if (s->ptr[n] == '\\') {
            item->escaped = true;
            n++;
        }
        n++;
    }
    if (n >= s->len)
        return BAD;
    item->raw = slice_make(s->ptr + 1, n - 1);
    *s = after(*s, n + 1);
    return ITEM;
}

static enum token take_plain(struct slice *s, struct item *item)
{
    size_t n = 0;
    size_t end = 0; /* behind the last byte that is no blank */

    while (n < s->len && !strchr("{},\"", s->ptr[n])) {
        if (s->ptr[n] == '\\') {
            item->escaped = true;
            n++;
            if (n >= s->len)
                return BAD;
            end = n + 1;
        } else if (!sql_is_blank(s->ptr[n])) {
            end = n + 1;
        }
        n++;
    }
    if (end == 0)
        return BAD;
    item->raw = slice_make(s->ptr, end);
    *s = after(*s, n);
    return ITEM;
}

static enum token take_token(struct slice *s, struct item *item)
{
    char c;

    *s = skip_blanks(*s);
    if (s->len == 0 || s->ptr[0] == '\0')
        return BAD;
    *item = (struct item){.quoted = false};
    c = s->ptr[0];
    if (c == '"')
        return take_quoted(s, item);
    if (c != '{' && c != '}' && c != ',')
        return take_plain(s, item);
    *s = after(*s, 1);
    return c == '{' ? OPEN : c == '}' ? CLOSE : COMMA;
}

/* ---- structure ---- */

struct structure {
    int dims;
    size_t length[SQL_ARRAY_DIMS_MAX];  /* of the first array at each depth */
    size_t counted[SQL_ARRAY_DIMS_MAX]; /* in the array that is open there */
    bool known[SQL_ARRAY_DIMS_MAX];
    size_t items;
};

/* One more thing at this depth, which is or is not an array: all of a depth are alike. */
static bool add(struct structure *t, int depth, bool array)
{
    if (array ? t->dims == depth + 1 && t->items > 0
              : t->dims != 0 && t->dims != depth + 1)
        return false;
    t->counted[depth]++;
    if (!array) {
        t->dims = depth + 1;
        t->items++;
    }
    return true;
}

static bool close_array(struct structure *t, int depth)
{
    bool good = !t->known[depth] || t->length[depth] == t->counted[depth];

    t->length[depth] = t->counted[depth];
    t->known[depth] = true;
    return good;
}

/* *s is at the opening brace; afterwards it is behind the closing one. */
static int read_structure(struct slice *s, struct structure *t, struct err *err)
{
    struct slice text = *s;  /* what Postgres shows then */
    enum token last = COMMA; /* what an opening brace may follow */
    int depth = -1;
    int deepest = -1;
    struct item item;

    *t = (struct structure){.dims = 0};
    do {
        enum token token = take_token(s, &item);
        bool starts = last == OPEN || last == COMMA;
        bool good = true;

        if (token == OPEN && starts) {
            if (depth + 1 == SQL_ARRAY_DIMS_MAX)
                return too_many_dims(err);
            good = depth < 0 || add(t, depth, true);
            t->counted[++depth] = 0;
            deepest = depth > deepest ? depth : deepest;
        } else if (token == ITEM) {
            good = starts && add(t, depth, false);
        } else if (token == CLOSE) {
            good = last != COMMA && (last != OPEN || depth == 0) && close_array(t, depth);
            depth--;
        } else {
            good = token == COMMA && (last == ITEM || last == CLOSE);
        }
        if (!good)
            return malformed(err, text);
        last = token;
    } while (depth >= 0);
    if (t->dims != 0 && t->dims != deepest + 1)
        return malformed(err, text);
    *s = skip_blanks(*s);
    return s->len > 0 || t->items > ITEMS_MAX ? malformed(err, text) : 0;
}

/* ---- bounds ---- */

struct bounds {
    int dims;
    int32_t lower[SQL_ARRAY_DIMS_MAX];
    int32_t length[SQL_ARRAY_DIMS_MAX];
};

/* Postgres takes any run of digits and signs for a bound, and reads of it what it can. */
static int take_int(struct slice *s, int32_t *out, struct slice text, struct err *err)
{
    size_t n = 0;
    int64_t v;

    while (n < s->len &&
           (sql_is_digit(s->ptr[n]) || s->ptr[n] == '-' || s->ptr[n] == '+'))
        n++;
    if (n == 0)
        return malformed(err, text);
    if (!slice_to_i64(slice_make(s->ptr, n), &v) || v < INT32_MIN || v >= INT32_MAX)
        return err_set(err, ERR_UNSUPPORTED,
                       "an array's bounds have to be plain integers");
    *out = (int32_t)v;
    *s = after(*s, n);
    return 0;
}

static int read_bounds(struct slice *s, struct bounds *b, struct slice text,
                       struct err *err)
{
    *b = (struct bounds){.dims = 0};
    for (*s = skip_blanks(*s); s->len > 0 && s->ptr[0] == '['; *s = skip_blanks(*s)) {
        int32_t lower = 1;
        int32_t upper;
        int rc;

        if (b->dims == SQL_ARRAY_DIMS_MAX)
            return err_set(
                err, ERR_INVALID,
                "number of array dimensions (%d) exceeds the maximum allowed (%d)",
                SQL_ARRAY_DIMS_MAX + 1, SQL_ARRAY_DIMS_MAX);
        *s = after(*s, 1);
        rc = take_int(s, &upper, text, err);
        if (rc == 0 && s->len > 0 && s->ptr[0] == ':') {
            lower = upper;
            *s = after(*s, 1);
            rc = take_int(s, &upper, text, err);
        }
        if (rc != 0)
            return rc;
        if (s->len == 0 || s->ptr[0] != ']')
            return malformed(err, text);
        *s = after(*s, 1);
        if (upper < lower)
            return err_set(err, ERR_INVALID,
                           "upper bound cannot be less than lower bound");
        if ((int64_t)upper - lower >= INT32_MAX)
            return malformed(err, text);
        b->lower[b->dims] = lower;
        b->length[b->dims++] = upper - lower + 1;
    }
    if (b->dims == 0)
        return 0;
    if (s->len == 0 || s->ptr[0] != '=')
        return malformed(err, text);
    *s = skip_blanks(after(*s, 1));
    return 0;
}

/* ---- in ---- */

static bool is_null(const struct item *item)
{
    return !item->quoted && !item->escaped &&
           slice_eq_nocase(item->raw, SLICE_LIT("null"));
}

static int item_text(const struct item *item, struct arena *arena, struct slice *out,
                     struct err *err)
{
    char *to;
    size_t n = 0;

    *out = item->raw;
    if (!item->escaped)
        return 0;
    to = arena_alloc(arena, item->raw.len);
    if (!to)
        return sql_no_memory(err);
    for (size_t i = 0; i < item->raw.len; i++) {
        if (item->raw.ptr[i] == '\\')
            i++;
        to[n++] = item->raw.ptr[i];
    }
    *out = slice_make(to, n);
    return 0;
}

static int read_items(struct sql_type element, struct slice s, size_t count,
                      struct arena *arena, struct sql_value *items, struct err *err)
{
    size_t n = 0;

    while (n < count) {
        struct item item;
        struct slice text;
        int rc;

        if (take_token(&s, &item) != ITEM)
            continue;
        if (is_null(&item)) {
            items[n++].null = true;
            continue;
        }
        rc = item_text(&item, arena, &text, err);
        if (rc == 0)
            rc = sql_value_in(element, text, arena, &items[n++], err);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static bool same_shape(const struct bounds *b, const struct structure *t)
{
    if (b->dims != t->dims)
        return false;
    for (int i = 0; i < t->dims; i++) {
        if ((size_t)b->length[i] != t->length[i])
            return false;
    }
    return true;
}

int sql_array_in(struct sql_type type, struct slice text, struct arena *arena,
                 struct sql_value *out, struct err *err)
{
    struct slice s = text;
    struct slice body;
    struct bounds b = {.dims = 0};
    struct structure t;
    struct sql_array *a = arena_zalloc(arena, sizeof(*a));
    struct sql_value *items;
    int rc;

    if (!a)
        return sql_no_memory(err);
    rc = read_bounds(&s, &b, text, err);
    if (rc != 0)
        return rc;
    if (s.len == 0 || s.ptr[0] != '{')
        return malformed(err, text);
    body = s;
    rc = read_structure(&s, &t, err);
    if (rc != 0)
        return rc;
    if (b.dims > 0 && !same_shape(&b, &t))
        return malformed(err, text);
    items = arena_calloc(arena, t.items, sizeof(*items));
    if (!items)
        return sql_no_memory(err);
    a->count = t.items;
    a->items = items;
    a->dims = t.items > 0 ? t.dims : 0;
    for (int i = 0; i < a->dims; i++) {
        a->length[i] = (int32_t)t.length[i];
        a->lower[i] = b.dims > 0 ? b.lower[i] : 1;
    }
    *out = (struct sql_value){.array = a};
    return read_items(array_element(type), body, t.items, arena, items, err);
}

/* ---- out ---- */

static bool needs_quotes(struct slice s)
{
    if (s.len == 0 || slice_eq_nocase(s, SLICE_LIT("null")))
        return true;
    for (size_t i = 0; i < s.len; i++) {
        if (sql_is_blank(s.ptr[i]) || (s.ptr[i] != '\0' && strchr("\"\\{},", s.ptr[i])))
            return true;
    }
    return false;
}

static void put_item(struct slice s, struct buf *out)
{
    if (!needs_quotes(s)) {
        buf_put_slice(out, s);
        return;
    }
    buf_putc(out, '"');
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '"' || s.ptr[i] == '\\')
            buf_putc(out, '\\');
        buf_putc(out, s.ptr[i]);
    }
    buf_putc(out, '"');
}

static void put_bounds(const struct sql_array *a, struct buf *out)
{
    bool plain = true;

    for (int i = 0; i < a->dims; i++)
        plain = plain && a->lower[i] == 1;
    if (plain)
        return;
    for (int i = 0; i < a->dims; i++)
        buf_printf(out, "[%" PRId32 ":%" PRId64 "]", a->lower[i],
                   (int64_t)a->lower[i] + a->length[i] - 1);
    buf_putc(out, '=');
}

/* How many arrays begin, or end, in front of item i. */
static int borders(const struct sql_array *a, size_t i)
{
    size_t span = 1;
    int n = 0;

    for (int dim = a->dims - 1; dim >= 0; dim--) {
        span *= (size_t)a->length[dim];
        if (i % span != 0)
            break;
        n++;
    }
    return n;
}

static void put_repeated(char c, int n, struct buf *out)
{
    for (int i = 0; i < n; i++)
        buf_putc(out, c);
}

void sql_array_out(struct sql_type type, const struct sql_value *v, struct buf *out)
{
    const struct sql_array *a = v->array;
    struct sql_type element = array_element(type);
    struct buf text;

    if (a->count == 0) {
        buf_puts(out, "{}");
        return;
    }
    buf_init_from(&text, out->max_bytes, out->mem);
    put_bounds(a, out);
    for (size_t i = 0; i < a->count; i++) {
        int n = borders(a, i);

        if (i > 0) {
            put_repeated('}', n, out);
            buf_putc(out, ',');
        }
        put_repeated('{', n, out);
        if (a->items[i].null) {
            buf_puts(out, "NULL");
            continue;
        }
        buf_reset(&text, SIZE_MAX);
        sql_value_out(element, &a->items[i], &text);
        if (text.failed && !out->failed)
            out->failed = text.failed;
        put_item(buf_slice(&text), out);
    }
    put_repeated('}', a->dims, out);
    buf_fini(&text);
}

/* ---- order ---- */

static int cmp_items(struct sql_type element, const struct sql_value *a,
                     const struct sql_value *b)
{
    if (a->null || b->null)
        return a->null - b->null;
    return sql_value_cmp(element, a, b);
}

static int cmp_ints(const int32_t *a, const int32_t *b, int count)
{
    for (int i = 0; i < count; i++) {
        if (a[i] != b[i])
            return a[i] > b[i] ? 1 : -1;
    }
    return 0;
}

/* By elements, then how many there are, then the shape. NULLs are equal, and last. */
int sql_array_cmp(struct sql_type type, const struct sql_value *va,
                  const struct sql_value *vb)
{
    const struct sql_array *a = va->array;
    const struct sql_array *b = vb->array;
    struct sql_type element = array_element(type);
    int order;

    for (size_t i = 0; i < a->count && i < b->count; i++) {
        order = cmp_items(element, &a->items[i], &b->items[i]);
        if (order != 0)
            return order;
    }
    if (a->count != b->count)
        return a->count > b->count ? 1 : -1;
    if (a->dims != b->dims)
        return a->dims > b->dims ? 1 : -1;
    order = cmp_ints(a->length, b->length, a->dims);
    return order != 0 ? order : cmp_ints(a->lower, b->lower, a->dims);
}

uint64_t sql_array_hash(struct sql_type type, const struct sql_value *v, uint64_t seed)
{
    const struct sql_array *a = v->array;
    struct sql_type element = array_element(type);

    for (size_t i = 0; i < a->count; i++)
        seed = a->items[i].null ? sql_hash_bytes("null", 4, seed)
                                : sql_value_hash(element, &a->items[i], seed);
    return sql_hash_bytes(&a->count, sizeof(a->count), seed);
}

/* ---- access ---- */

int sql_array_dims(const struct sql_array *a)
{
    return a->dims;
}

size_t sql_array_count(const struct sql_array *a)
{
    return a->count;
}

const struct sql_value *sql_array_items(const struct sql_array *a)
{
    return a->items;
}

int32_t sql_array_length(const struct sql_array *a, int dim)
{
    return dim < a->dims ? a->length[dim] : 0;
}

int32_t sql_array_lower(const struct sql_array *a, int dim)
{
    return dim < a->dims ? a->lower[dim] : 1;
}

const struct sql_array *sql_array_make(struct arena *arena, const struct sql_value *items,
                                       size_t count)
{
    int32_t length = (int32_t)count;

    if (count > ITEMS_MAX)
        return NULL;
    return sql_array_shape(arena, items, count > 0, &length, NULL);
}

const struct sql_array *sql_array_shape(struct arena *arena,
                                        const struct sql_value *items, int dims,
                                        const int32_t *length, const int32_t *lower)
{
    struct sql_array *a = arena_zalloc(arena, sizeof(*a));
    struct sql_value *copy;
    size_t count = dims > 0;

    if (!a || dims > SQL_ARRAY_DIMS_MAX)
        return NULL;
    for (int i = 0; i < dims; i++) {
        if (length[i] < 0 || (length[i] > 0 && count > ITEMS_MAX / (size_t)length[i]))
            return NULL;
        count *= (size_t)length[i];
        a->length[i] = length[i];
        a->lower[i] = lower ? lower[i] : 1;
    }
    copy = arena_calloc(arena, count, sizeof(*copy));
    if (!copy)
        return NULL;
    if (count > 0)
        memcpy(copy, items, count * sizeof(*copy));
    a->dims = count > 0 ? dims : 0;
    a->count = count;
    a->items = copy;
    return a;
}
