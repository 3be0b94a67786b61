/*
 * A value of its Postgres text. What most rows are made of is read here; the rest by sql/, which knows
 * all of Postgres's text forms. Numerics and json stay text: rows bring them into their normal form,
 * and check them, when they are made.
 */

#include <string.h>

#include "client/stream/reader.h"
#include "client/value/value.h"
#include "sql/types.h"

static int copy_bytes(struct reader *r, coulomb_value *v)
{
    char *copy = reader_alloc(r, v->v.s.len);

    if (!copy)
        return COULOMB_E_MEMORY;
    if (v->v.s.len > 0)
        memcpy(copy, v->v.s.ptr, v->v.s.len);
    v->v.s.ptr = copy;
    return COULOMB_OK;
}

static int copy_array(struct reader *r, coulomb_value *v)
{
    const coulomb_array *from = v->v.array;
    coulomb_array *to = reader_alloc(r, sizeof(*to));
    coulomb_value *items;
    size_t bytes = from->count * sizeof(*items);

    if (!to)
        return COULOMB_E_MEMORY;
    *to = *from;
    items = reader_alloc(r, bytes);
    if (!items)
        return COULOMB_E_MEMORY;
    if (bytes > 0)
        memcpy(items, from->items, bytes);
    for (size_t i = 0; i < from->count; i++) {
        if (value_is_bytes(items[i].type) && copy_bytes(r, &items[i]) != COULOMB_OK)
            return COULOMB_E_MEMORY;
    }
    to->items = items;
    v->v.array = to;
    return COULOMB_OK;
}

/* At most so much of a value is shown in an error. */
static int shown_len(struct slice text)
{
    return text.len < 40 ? (int)text.len : 40;
}

static int refuse_cell(struct reader *r, const struct stream_column *column,
                       struct slice text, const char *why)
{
    return reader_refuse(r, "column %.60s (%.30s): \"%.*s\" is no %s%s%.60s",
                         column->name,
                         column->pg_type[0] ? column->pg_type : "type not told",
                         shown_len(text), text.ptr ? text.ptr : "",
                         coulomb_type_name(column->type), why[0] ? ": " : "", why);
}

static int read_bool(struct reader *r, const struct stream_column *column,
                     struct slice text, coulomb_value *out)
{
    bool yes = slice_eq(text, SLICE_LIT("t")) || slice_eq(text, SLICE_LIT("true"));

    if (!yes && !slice_eq(text, SLICE_LIT("f")) && !slice_eq(text, SLICE_LIT("false")))
        return refuse_cell(r, column, text, "");
    *out = coulomb_bool(yes);
    return COULOMB_OK;
}

static int read_by_sql(struct reader *r, const struct stream_column *column,
                       struct slice text, coulomb_value *out)
{
    struct sql_type type = value_sql_type(column->type, column->element);
    struct sql_value v;
    struct err err = {0};
    int code;

    if (r->scratch.used_bytes > 0)
        arena_reset(&r->scratch);
    code = sql_value_in(type, text, &r->scratch, &v, &err);
    if (code == ERR_MEMORY)
        return COULOMB_E_MEMORY;
    if (code != 0)
        return refuse_cell(r, column, text, err.message);
    code = value_from_sql(column->type, column->element, &v, &r->scratch, out);
    if (code != COULOMB_OK)
        return code == COULOMB_E_MEMORY ? code : refuse_cell(r, column, text, "");
    if (out->type == COULOMB_ARRAY)
        return copy_array(r, out);
    return value_is_bytes(out->type) ? copy_bytes(r, out) : COULOMB_OK;
}

int cell_read(struct reader *r, const struct stream_column *column, struct slice text,
              coulomb_value *out)
{
    int64_t i;

    if (column->type == COULOMB_INT64) {
        if (!slice_to_i64(text, &i))
            return refuse_cell(r, column, text, "");
        *out = coulomb_int(i);
        return COULOMB_OK;
    }
    if (column->type == COULOMB_TEXT || column->type == COULOMB_NUMERIC ||
        column->type == COULOMB_JSON) {
        *out = coulomb_bytes_of(column->type, text.ptr, text.len);
        return copy_bytes(r, out);
    }
    if (column->type == COULOMB_BOOL)
        return read_bool(r, column, text, out);
    return read_by_sql(r, column, text, out);
}
