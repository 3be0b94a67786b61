/*
 * A condition holds where it is true, not where it is unknown. A leaf that is known beforehand to be
 * unknown (a comparison with null) is therefore false where it counts as it is, and true below a NOT:
 * `positive` tells which. The same goes for what the server is asked less exactly.
 */

#include "client/electric/sql.h"

#include <math.h>
#include <string.h>

#define ALWAYS "true = true"
#define NEVER  "true = false"

struct writer {
    const struct layout *layout;
    struct arena *arena;
    struct buf text;
    char **params;
    size_t param_count;
    size_t param_cap;
    bool failed;  /* no memory */
    bool inexact; /* more rows are asked for than are wanted */
};

/* --- Texts --------------------------------------------------------------------------------------- */

static void put_name(struct buf *out, const char *name)
{
    buf_putc(out, '"');
    for (; *name; name++) {
        if (*name == '"')
            buf_putc(out, '"');
        buf_putc(out, *name);
    }
    buf_putc(out, '"');
}

char *sql_text(const coulomb_value *v, struct arena *arena)
{
    char few[128];
    size_t len;
    char *text;

    if (coulomb_value_print(v, few, sizeof(few), &len) != COULOMB_OK)
        return NULL;
    if (len < sizeof(few))
        return arena_dup(arena, slice_make(few, len));
    text = arena_alloc(arena, len + 1);
    return text && coulomb_value_print(v, text, len + 1, NULL) == COULOMB_OK ? text
                                                                             : NULL;
}

/* $n, its text. */
static void put_param(struct writer *w, char *text)
{
    if (!text || w->param_count == w->param_cap) {
        w->failed = true;
        return;
    }
    w->params[w->param_count++] = text;
    buf_printf(&w->text, "$%zu", w->param_count);
}

/* --- Numbers for integer columns ------------------------------------------------------------------- */

enum range { WITHIN, BELOW, ABOVE };

/* The greatest integer that is not above the number, and whether they are equal. NaN is above all. */
static enum range floor_of_double(double f, int64_t *whole, bool *exact)
{
    double down = floor(f);

    if (isnan(f) || down >= 9223372036854775808.0)
        return ABOVE;
    if (down < -9223372036854775808.0)
        return BELOW;
    *whole = (int64_t)down;
    *exact = down == f;
    return WITHIN;
}

static enum range floor_of_decimal(struct slice text, int64_t *whole, bool *exact)
{
    bool negative = text.len > 0 && text.ptr[0] == '-';
    const char *dot = text.len > 0 ? memchr(text.ptr, '.', text.len) : NULL;
    size_t digits = dot ? (size_t)(dot - text.ptr) : text.len;

    *exact = true;
    for (size_t i = digits + 1; i < text.len; i++)
        *exact = *exact && text.ptr[i] == '0';
    if (!slice_to_i64(slice_make(text.ptr, digits), whole))
        return negative ? BELOW : ABOVE; /* too large, an infinity, NaN */
    if (negative && !*exact) {
        if (*whole == INT64_MIN)
            return BELOW;
        --*whole;
    }
    return WITHIN;
}

static enum range floor_of(const coulomb_value *v, int64_t *whole, bool *exact)
{
    if (v->type == COULOMB_DOUBLE)
        return floor_of_double(v->v.f, whole, exact);
    if (v->type == COULOMB_NUMERIC)
        return floor_of_decimal(value_slice(v), whole, exact);
    *whole = v->v.i;
    *exact = true;
    return WITHIN;
}

/* --- Leaves ---------------------------------------------------------------------------------------- */

static const struct column *column_of(const struct writer *w, const struct node *n)
{
    return &w->layout->columns[n->column];
}

/* Whether a value can be equal to one of the column at all. */
static bool fits_type(coulomb_type type, const coulomb_value *v)
{
    if (value_is_number(type) && value_is_number(v->type))
        return true;
    if (type != v->type)
        return false;
    return v->type != COULOMB_TEXT || v->v.s.len == 0 ||
           !memchr(v->v.s.ptr, '\0', v->v.s.len); /* no text of Postgres has one */
}

static bool fits(const struct column *c, const coulomb_value *v)
{
    return fits_type(c->type, v) &&
           (c->type != COULOMB_ARRAY || v->v.array->element == c->element ||
            v->v.array->count == 0);
}

/* Unknown whatever the row is. */
static void put_unknown(struct writer *w, bool positive)
{
    buf_puts(&w->text, positive ? NEVER : ALWAYS);
}

/* No server can be asked that. */
static void put_anything(struct writer *w, bool positive)
{
    buf_puts(&w->text, positive ? ALWAYS : NEVER);
    w->inexact = true;
}

/* What servers compare (shape-protocol.md 6.3). */
static bool has_equal(const struct column *c)
{
    return c->type != COULOMB_JSON && c->type != COULOMB_BYTES;
}

static bool has_order(const struct column *c)
{
    return has_equal(c) && c->type != COULOMB_INTERVAL && c->type != COULOMB_ARRAY;
}

/* True but where the column is null: then unknown. */
static void put_not_null(struct writer *w, const struct column *c)
{
    put_name(&w->text, c->name);
    buf_puts(&w->text, " = ");
    put_name(&w->text, c->name);
}

static const char *op_text(coulomb_op op)
{
    switch (op) {
    case COULOMB_GT:
        return " > ";
    case COULOMB_GTE:
        return " >= ";
    case COULOMB_LT:
        return " < ";
    case COULOMB_LTE:
        return " <= ";
    case COULOMB_EQ:
    case COULOMB_IS_NULL:
    case COULOMB_IS_ABSENT:
    case COULOMB_CONTAINS:
        break;
    }
    return " = ";
}

static void put_compare(struct writer *w, const struct column *c, coulomb_op op,
                        const coulomb_value *v)
{
    put_name(&w->text, c->name);
    buf_puts(&w->text, op_text(op));
    put_param(w, sql_text(v, w->arena));
}

static bool is_less(coulomb_op op)
{
    return op == COULOMB_LT || op == COULOMB_LTE;
}

static void put_integer(struct writer *w, const struct column *c, coulomb_op op,
                        const coulomb_value *v)
{
    int64_t whole = 0;
    bool exact = true;
    enum range range = floor_of(v, &whole, &exact);
    coulomb_value floor = coulomb_int(whole);

    if (range == WITHIN && exact) {
        put_compare(w, c, op, &floor);
    } else if (op == COULOMB_EQ) {
        buf_puts(&w->text, NEVER);
    } else if (range == WITHIN) {
        put_compare(w, c, is_less(op) ? COULOMB_LTE : COULOMB_GT, &floor);
    } else if (is_less(op) == (range == ABOVE)) {
        put_not_null(w, c);
    } else {
        buf_puts(&w->text, NEVER);
    }
}

/* Servers order no booleans. */
static void put_boolean(struct writer *w, const struct column *c, coulomb_op op,
                        const coulomb_value *v)
{
    bool is_true = v->v.b != 0;
    coulomb_value other = coulomb_bool(!is_true);

    if (op == COULOMB_EQ || (op == COULOMB_GTE && is_true) ||
        (op == COULOMB_LTE && !is_true))
        put_compare(w, c, COULOMB_EQ, v);
    else if (op == COULOMB_GTE || op == COULOMB_LTE)
        put_not_null(w, c);
    else if (is_less(op) == is_true)
        put_compare(w, c, COULOMB_EQ, &other);
    else
        buf_puts(&w->text, NEVER);
}

/* An element of an array's text, in quotes. */
static void put_element(struct writer *w, struct buf *out, const char *text)
{
    if (!text) {
        w->failed = true;
        return;
    }
    buf_putc(out, '"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            buf_putc(out, '\\');
        buf_putc(out, *text);
    }
    buf_putc(out, '"');
}

/* An array of those values that may be equal to one of the type, and whether null is among them. */
static size_t put_elements(struct writer *w, coulomb_type type, const struct node *n,
                           struct buf *out, bool *null)
{
    size_t count = 0;

    *null = false;
    buf_putc(out, '{');
    for (size_t i = 0; i < n->count; i++) {
        coulomb_value v = n->values[i];
        int64_t whole = 0;
        bool exact = true;

        if (v.type == COULOMB_NULL || v.type == COULOMB_ABSENT) {
            *null = true;
            continue;
        }
        if (!fits_type(type, &v))
            continue;
        if (type == COULOMB_INT64) {
            if (floor_of(&v, &whole, &exact) != WITHIN || !exact)
                continue;
            v = coulomb_int(whole);
        }
        buf_puts(out, count > 0 ? "," : "");
        put_element(w, out, sql_text(&v, w->arena));
        count++;
    }
    if (*null)
        buf_puts(out, count > 0 ? ",NULL" : "NULL");
    buf_putc(out, '}');
    if (out->failed)
        w->failed = true;
    return count;
}

/* The array has an element. */
static void put_contains(struct writer *w, const struct column *c, const struct node *n,
                         bool positive)
{
    struct buf list;
    bool null;

    if (c->type != COULOMB_ARRAY) {
        buf_puts(&w->text, NEVER);
        return;
    }
    if (c->element == COULOMB_JSON || c->element == COULOMB_BYTES) {
        put_anything(w, positive);
        return;
    }
    buf_init_from(&list, SUBSET_SQL_MAX, w->arena->mem);
    if (put_elements(w, c->element, n, &list, &null) == 0) {
        buf_puts(&w->text, NEVER);
    } else {
        put_name(&w->text, c->name);
        buf_puts(&w->text, " @> ");
        put_param(w, arena_dup(w->arena, buf_slice(&list)));
    }
    buf_fini(&list);
}

/* A value that the column can't have. A text with a NUL has a place in the order all the same. */
static void put_unfit(struct writer *w, const struct column *c, coulomb_op op,
                      const coulomb_value *v, bool positive)
{
    if (c->type == v->type && op != COULOMB_EQ)
        put_anything(w, positive);
    else
        buf_puts(&w->text, NEVER);
}

static void put_comparison(struct writer *w, const struct node *n, bool positive)
{
    const struct column *c = column_of(w, n);
    const coulomb_value *v = &n->values[0];

    if (n->pointer) {
        put_anything(w, positive);
    } else if (n->op == COULOMB_IS_NULL || (n->op == COULOMB_IS_ABSENT && positive)) {
        put_name(&w->text, c->name);
        buf_puts(&w->text, " IS NULL");
    } else if (n->op == COULOMB_IS_ABSENT) {
        buf_puts(&w->text, NEVER); /* no row of a server's lacks a column */
    } else if (v->type == COULOMB_NULL || v->type == COULOMB_ABSENT) {
        put_unknown(w, positive);
    } else if (n->op == COULOMB_CONTAINS) {
        put_contains(w, c, n, positive);
    } else if (!fits(c, v)) {
        put_unfit(w, c, n->op, v, positive);
    } else if (n->op == COULOMB_EQ ? !has_equal(c)
                                   : !has_order(c) && c->type != COULOMB_BOOL) {
        put_anything(w, positive);
    } else if (c->type == COULOMB_INT64) {
        put_integer(w, c, n->op, v);
    } else if (c->type == COULOMB_BOOL) {
        put_boolean(w, c, n->op, v);
    } else {
        put_compare(w, c, n->op, v);
    }
}

static void put_in(struct writer *w, const struct node *n, bool positive)
{
    const struct column *c = column_of(w, n);
    struct buf list;
    bool null;
    size_t count;

    if (n->pointer || !has_equal(c) || c->type == COULOMB_ARRAY) {
        put_anything(w, positive);
        return;
    }
    buf_init_from(&list, SUBSET_SQL_MAX, w->arena->mem);
    count = put_elements(w, c->type, n, &list, &null);
    if (count > 0) {
        put_name(&w->text, c->name);
        buf_puts(&w->text, " = ANY(");
        put_param(w, arena_dup(w->arena, buf_slice(&list)));
        buf_putc(&w->text, ')');
    } else if (null) {
        put_unknown(w, positive);
    } else {
        buf_puts(&w->text, NEVER);
    }
    buf_fini(&list);
}

/* --- Trees ------------------------------------------------------------------------------------------ */

/* What is still to be written, the next last: a text, or the part that ends at a node. */
struct todo {
    const char *text; /* NULL: a part */
    size_t root;
    bool positive;
};

struct stack {
    struct todo items[4 * EXPR_NODES_MAX];
    size_t count;
};

static void push_text(struct stack *s, const char *text)
{
    s->items[s->count++] = (struct todo){.text = text};
}

static void push_part(struct stack *s, size_t root, bool positive)
{
    s->items[s->count++] = (struct todo){.root = root, .positive = positive};
}

static void put_not(struct writer *w, struct stack *s, const struct coulomb_expr *e,
                    const struct todo *t)
{
    const struct node *of = &e->nodes[t->root - 1];

    if (of->type == COULOMB_NODE_COMPARE && of->op == COULOMB_IS_NULL) {
        put_name(&w->text, column_of(w, of)->name);
        buf_puts(&w->text, " IS NOT NULL");
        return;
    }
    buf_puts(&w->text, "NOT (");
    push_text(s, ")");
    push_part(s, t->root - 1, !t->positive);
}

static void put_part(struct writer *w, struct stack *s, const struct coulomb_expr *e,
                     const struct todo *t)
{
    const struct node *n = &e->nodes[t->root];

    switch (n->type) {
    case COULOMB_NODE_COMPARE:
        put_comparison(w, n, t->positive);
        break;
    case COULOMB_NODE_IN:
        put_in(w, n, t->positive);
        break;
    case COULOMB_NODE_NOT:
        put_not(w, s, e, t);
        break;
    case COULOMB_NODE_AND:
    case COULOMB_NODE_OR:
        buf_putc(&w->text, '(');
        push_text(s, ")");
        push_part(s, t->root - 1, t->positive);
        push_text(s, n->type == COULOMB_NODE_AND ? " AND " : " OR ");
        push_part(s, expr_first(e, t->root - 1) - 1, t->positive);
        break;
    }
}

static void put_expr(struct writer *w, const struct coulomb_expr *e)
{
    struct stack *s = arena_alloc(w->arena, sizeof(*s));

    if (!s) {
        w->failed = true;
        return;
    }
    s->count = 0;
    push_part(s, e->count - 1, true);
    while (s->count > 0 && !w->failed) {
        struct todo t = s->items[--s->count];

        if (t.text)
            buf_puts(&w->text, t.text);
        else
            put_part(w, s, e, &t);
    }
}

static int writer_end(struct writer *w, const char **out)
{
    int code = COULOMB_OK;

    if (w->text.failed == ERR_LIMIT)
        code = COULOMB_E_LIMIT;
    else if (w->text.failed || w->failed)
        code = COULOMB_E_MEMORY;
    else
        *out = arena_dup(w->arena, buf_slice(&w->text));
    buf_fini(&w->text);
    return code == COULOMB_OK && !*out ? COULOMB_E_MEMORY : code;
}

int sql_where(const struct layout *l, const struct coulomb_expr *const wheres[2],
              struct arena *arena, struct stream_subset *out, bool *exact)
{
    struct writer w = {.layout = l, .arena = arena};
    bool both = wheres[0] && wheres[1];

    for (size_t i = 0; i < 2; i++) /* a node has at most one parameter */
        w.param_cap += wheres[i] ? wheres[i]->count : 0;
    w.params = arena_alloc(arena, (w.param_cap + 1) * sizeof(char *));
    buf_init_from(&w.text, SUBSET_SQL_MAX, arena->mem);
    if (!w.params)
        w.failed = true;
    if (!wheres[0] && !wheres[1])
        buf_puts(&w.text, ALWAYS);
    for (size_t i = 0; i < 2; i++) {
        if (!wheres[i] || w.failed)
            continue;
        buf_puts(&w.text, both ? (i == 0 ? "(" : " AND (") : "");
        put_expr(&w, wheres[i]);
        buf_puts(&w.text, both ? ")" : "");
    }
    out->where = NULL;
    out->params = (const char *const *)w.params;
    out->param_count = w.param_count;
    *exact = !w.inexact;
    return writer_end(&w, &out->where);
}

/* --- Orders ----------------------------------------------------------------------------------------- */

static bool never_null(const char *name, const struct stream_column *columns,
                       size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(columns[i].name, name) == 0)
            return columns[i].not_null;
    }
    return false;
}

static bool ordered_by(const struct spec *s, const char *name)
{
    for (size_t i = 0; i < s->order_count; i++) {
        if (strcmp(s->order[i].column, name) == 0)
            return true;
    }
    return false;
}

int sql_order(const struct layout *l, const struct spec *s, const int *key_columns,
              size_t key_count, const struct stream_column *columns, size_t count,
              struct arena *arena, struct stream_subset *out)
{
    struct writer w = {.layout = l, .arena = arena};

    out->order_by = NULL;
    if (s->order_count == 0)
        return COULOMB_OK;
    buf_init_from(&w.text, SUBSET_SQL_MAX, arena->mem);
    for (size_t i = 0; i < s->order_count; i++) {
        const coulomb_order *o = &s->order[i];

        buf_puts(&w.text, i > 0 ? ", " : "");
        put_name(&w.text, o->column);
        buf_puts(&w.text, o->descending ? " DESC" : "");
        if (!never_null(o->column, columns, columns ? count : 0))
            buf_puts(&w.text, o->nulls_last ? " NULLS LAST" : " NULLS FIRST");
    }
    for (size_t i = 0; s->limit > 0 && i < key_count; i++) {
        const char *name = l->columns[key_columns[i]].name;

        if (!ordered_by(s, name)) {
            buf_puts(&w.text, ", ");
            put_name(&w.text, name);
        }
    }
    return writer_end(&w, &out->order_by);
}
