/*
 * Drafts. A draft keeps one value for each column, in place of a log of changes: whether a column
 * is changed is decided anew with each write, by comparing with the base, so a value that is set
 * back is no change, however it came about (nested paths and list edits write the whole column).
 */

#include "client/value/draft.h"

#include <stdio.h>
#include <string.h>

int draft_init(struct coulomb_draft *d, coulomb_client *c, struct layout *l,
               const struct coulomb_row *base)
{
    *d = (struct coulomb_draft){.client = c, .layout = l, .base = base};
    pool_init(&d->pool, c->heap);
    d->values = pool_alloc(&d->pool, l->count * sizeof(*d->values));
    d->changed = pool_alloc(&d->pool, l->count * sizeof(*d->changed));
    if (!d->values || !d->changed) {
        pool_fini(&d->pool);
        return client_no_memory(c);
    }
    for (size_t i = 0; i < l->count; i++) {
        d->values[i] = base ? row_at(base, i) : coulomb_absent();
        d->changed[i] = false;
    }
    return COULOMB_OK;
}

void draft_fini(struct coulomb_draft *d)
{
    pool_fini(&d->pool);
}

int draft_column(struct coulomb_draft *d, const char *name)
{
    int i = layout_find(d->layout, name);
    int code;

    if (i >= 0)
        return i;
    code = client_fail(d->client, COULOMB_E_COLUMN, "there is no column %s",
                       name ? name : "(NULL)");
    snprintf(d->client->error.column, sizeof(d->client->error.column), "%s",
             name ? name : "");
    return code;
}

static int input_fail(struct coulomb_draft *d, int code, const struct column *col,
                      const struct err *err)
{
    client_fail(d->client, code, "column %s: %s", col->name, err->message);
    snprintf(d->client->error.column, sizeof(d->client->error.column), "%s", col->name);
    return code;
}

int draft_put(struct coulomb_draft *d, size_t column, const coulomb_value *v)
{
    coulomb_client *c = d->client;
    coulomb_value coerced;
    coulomb_value fresh;
    coulomb_value old;
    struct err err;
    bool equal = false;
    int code;

    arena_reset(&c->scratch);
    code = layout_coerce(d->layout, column, v, &c->scratch, &coerced, &c->error);
    if (code == COULOMB_OK)
        code = value_normal(&coerced, &c->scratch, &fresh, &err);
    if (code == COULOMB_E_INVALID_TEXT)
        input_fail(d, code, &d->layout->columns[column], &err);
    old = d->base ? row_at(d->base, column) : coulomb_absent();
    if (code == COULOMB_OK)
        code = value_equal(&fresh, &old, &c->scratch, &equal);
    if (code == COULOMB_OK)
        code = value_keep(&d->pool, &fresh);
    if (code != COULOMB_OK)
        return code == COULOMB_E_MEMORY ? client_no_memory(c) : code;
    d->values[column] = equal ? old : fresh;
    if (d->changed[column] != !equal)
        d->changes = equal ? d->changes - 1 : d->changes + 1;
    d->changed[column] = !equal;
    return COULOMB_OK;
}

int draft_row(struct coulomb_draft *d, const coulomb_key *key, struct coulomb_row **out)
{
    int code = row_build(d->layout, d->values, key, out);

    if (code == COULOMB_E_MEMORY)
        return client_no_memory(d->client);
    if (code != COULOMB_OK)
        return client_fail(d->client, code, "a row of more than 4 GiB");
    return COULOMB_OK;
}

coulomb_value coulomb_draft_get(const coulomb_draft *d, const char *column)
{
    int i = layout_find(d->layout, column);

    return i < 0 ? coulomb_absent() : d->values[i];
}

int coulomb_draft_set(coulomb_draft *d, const char *column, coulomb_value value)
{
    int i = draft_column(d, column);

    return i < 0 ? i : draft_put(d, (size_t)i, &value);
}

int coulomb_draft_unset(coulomb_draft *d, const char *column)
{
    return coulomb_draft_set(d, column, coulomb_absent());
}

int coulomb_draft_set_input(coulomb_draft *d, const char *column, const char *text,
                            size_t len)
{
    coulomb_client *c = d->client;
    const struct column *col;
    struct arena arena;
    struct sql_value x;
    struct err err;
    coulomb_value v;
    int i = draft_column(d, column);
    int code;

    if (i < 0)
        return i;
    col = &d->layout->columns[i];
    arena_init_from(&arena, VALUE_BYTES_MAX, &c->heap->mem);
    code = sql_value_in(value_sql_type(col->type, col->element), slice_make(text, len),
                        &arena, &x, &err);
    if (code != 0)
        code = input_fail(d, value_code(code), col, &err);
    if (code == COULOMB_OK) {
        code = value_from_sql(col->type, col->element, &x, &arena, &v);
        if (code == COULOMB_OK)
            code = draft_put(d, (size_t)i, &v);
        else
            code = client_no_memory(c);
    }
    arena_fini(&arena);
    return code;
}

int coulomb_draft_changed(const coulomb_draft *d, const char *column)
{
    int i = layout_find(d->layout, column);

    return i >= 0 && d->changed[i];
}

size_t coulomb_draft_changes(const coulomb_draft *d)
{
    return d->changes;
}
