/*
 * Pages: rows in an order, by the ordered index of the order's first column.
 *
 * The index is walked in runs of equal values, forwards or backwards, with the rows without a value
 * first or last. A run is put into the whole order (its other columns, then the key) before the limit
 * cuts it, so a page costs its own rows and those of the run at its end, whatever the size of the
 * collection.
 */

#include "client/collection/index.h"

#include <string.h>

/* --- The cursor -------------------------------------------------------------------------------- */

static bool nothing(const coulomb_value *v)
{
    return v->type == COULOMB_NULL || v->type == COULOMB_ABSENT;
}

static coulomb_expr *is_nothing(struct coulomb_collection *coll, const char *column)
{
    return coulomb_or(coulomb_where(coll, column, COULOMB_IS_NULL, coulomb_null()),
                      coulomb_where(coll, column, COULOMB_IS_ABSENT, coulomb_null()));
}

static coulomb_expr *equal_to(struct coulomb_collection *coll, const coulomb_order *o,
                              const coulomb_value *v)
{
    return nothing(v) ? is_nothing(coll, o->column)
                      : coulomb_where(coll, o->column, COULOMB_EQ, *v);
}

/* Rows that come after the value in this column. */
static coulomb_expr *follows(struct coulomb_collection *coll, const coulomb_order *o,
                             const coulomb_value *v)
{
    coulomb_expr *e;

    if (nothing(v) && o->nulls_last)
        return coulomb_in(coll, o->column, NULL, 0); /* none */
    if (nothing(v))
        return coulomb_not(is_nothing(coll, o->column));
    e = coulomb_where(coll, o->column, o->descending ? COULOMB_LT : COULOMB_GT, *v);
    return o->nulls_last ? coulomb_or(e, is_nothing(coll, o->column)) : e;
}

/* c1 > v1 OR (c1 = v1 AND (c2 > v2 OR …)) */
static coulomb_expr *behind(const struct sub_load *load)
{
    struct coulomb_collection *coll = load->sub->coll;
    coulomb_expr *e = NULL;

    for (size_t i = load->from_count; i-- > 0;) {
        const coulomb_order *o = &load->order[i];
        coulomb_expr *after = follows(coll, o, &load->from[i]);

        if (i + 1 < load->from_count)
            after = coulomb_or(after, coulomb_and(equal_to(coll, o, &load->from[i]), e));
        e = after;
        if (!e)
            return NULL;
    }
    return e;
}

static int copy_from(struct sub_load *load, const coulomb_value *from, size_t count)
{
    struct coulomb_collection *coll = load->sub->coll;
    coulomb_client *c = coll->client;
    coulomb_value *values = pool_alloc(&load->pool, (count + 1) * sizeof(*values));
    int code = values ? COULOMB_OK : client_no_memory(c);

    for (size_t i = 0; i < count && code == COULOMB_OK; i++) {
        int column = layout_find(coll->layout, load->order[i].column);
        coulomb_value coerced;
        struct err err;

        arena_reset(&c->scratch);
        code = layout_coerce(coll->layout, (size_t)column, &from[i], &c->scratch,
                             &coerced, &c->error);
        if (code == COULOMB_OK)
            code = value_normal(&coerced, &c->scratch, &values[i], &err);
        if (code == COULOMB_E_INVALID_TEXT)
            client_fail(c, code, "column %s: %s", load->order[i].column, err.message);
        if (code == COULOMB_OK)
            code = value_keep(&load->pool, &values[i]);
        if (code == COULOMB_E_MEMORY)
            client_no_memory(c);
    }
    load->from = values;
    load->from_count = count;
    return code;
}

static int need_index(struct coulomb_collection *coll, const char *column)
{
    int code;

    if (index_ordered(coll, layout_find(coll->layout, column), &code))
        return COULOMB_OK;
    if (code == COULOMB_OK && coll->options.auto_index)
        return coulomb_index_new(coll, column, COULOMB_INDEX_ORDERED, NULL);
    if (code == COULOMB_OK)
        code = client_fail(coll->client, COULOMB_E_NO_INDEX,
                           "a page in the order of %s needs an ordered index of %s",
                           column, column);
    return code;
}

int page_prepare(struct sub_load *load, const coulomb_page_options *o)
{
    struct coulomb_collection *coll = load->sub->coll;
    size_t count = o->from ? o->from_count : 0;
    int code = need_index(coll, load->order[0].column);

    if (code == COULOMB_OK && count > o->order_count)
        code = client_fail(coll->client, COULOMB_E_ARGUMENT,
                           "a cursor of %zu values in an order of %zu columns", count,
                           o->order_count);
    if (code == COULOMB_OK)
        code = copy_from(load, o->from, count);
    load->page = true;
    load->has_offset = o->has_offset != 0;
    load->subset.offset = o->has_offset ? o->offset : 0;
    if (code != COULOMB_OK || count == 0)
        return code;
    load->where_from = behind(load);
    load->where_current = equal_to(coll, &load->order[0], &load->from[0]);
    if (!load->where_from || !load->where_current)
        return coll->client->error.code;
    load->cursor.where_from = load->where_from;
    load->cursor.where_current = load->where_current;
    load->subset.cursor = &load->cursor;
    return COULOMB_OK;
}

/* --- Rows -------------------------------------------------------------------------------------- */

struct page {
    struct sub_load *load;
    struct coulomb_index *ix;
    int columns[ORDER_COLUMNS_MAX];
    struct coulomb_row **rows;
    size_t count;
    size_t cap;
    int code;
};

static bool before(struct place a, struct place b)
{
    return a.chunk < b.chunk || (a.chunk == b.chunk && a.at < b.at);
}

/* Behind the rows that are less than the value or, with `after`, equal to it. */
static struct place seek(struct page *p, const coulomb_value *v, bool after)
{
    struct bound b = {.ix = p->ix, .value = v, .after = after};
    struct place at = sorted_seek(&p->ix->sorted, bound_before, &b);

    if (b.failed)
        p->code = COULOMB_E_MEMORY;
    return at;
}

/* 1, 0, COULOMB_E_MEMORY. */
static int wanted(struct page *p, const struct coulomb_row *row)
{
    struct coulomb_sub *sub = p->load->sub;
    coulomb_key key = row_key(row);
    uint32_t hash = coll_hash(sub->coll, key);

    if (ktab_get(&sub->sent, key, hash))
        return 0;
    return sub_matches(sub, row, visible_get(sub->coll, key, hash).meta);
}

/* The rows between two places, in the whole order; at most `most` of them. */
static void take_run(struct page *p, struct place from, struct place to, size_t most)
{
    struct coulomb_collection *coll = p->load->sub->coll;
    size_t begin = p->count;
    struct coulomb_row *row;
    void *rows;

    while (p->code == COULOMB_OK && before(from, to) &&
           (row = sorted_next(&p->ix->sorted, &from)) != NULL) {
        int yes = wanted(p, row);

        if (yes < 0)
            p->code = yes;
        if (yes <= 0)
            continue;
        rows = p->rows;
        p->code =
            heap_grow(coll->heap, &rows, &p->cap, begin + 2 * (p->count - begin + 1),
                      sizeof(struct coulomb_row *));
        p->rows = rows;
        if (p->code == COULOMB_OK)
            p->rows[p->count++] = row;
    }
    if (p->code == COULOMB_OK)
        p->code = sort_by_order(coll, p->load->order, p->columns, p->load->order_count,
                                p->rows + begin, p->count - begin);
    if (p->count - begin > most)
        p->count = begin + most;
}

/* Runs between two places, in the column's direction, until there are `end` rows. */
static void take_runs(struct page *p, struct place from, struct place to, size_t end)
{
    bool descending = p->load->order[0].descending != 0;

    while (p->code == COULOMB_OK && p->count < end && before(from, to)) {
        struct place at = from;
        struct coulomb_row *row = descending ? sorted_before(&p->ix->sorted, to)
                                             : sorted_next(&p->ix->sorted, &at);
        coulomb_value v = row_at(row, (size_t)p->ix->column);

        at = seek(p, &v, !descending);
        if (p->code != COULOMB_OK)
            return;
        if (descending)
            take_run(p, before(at, from) ? from : at, to, end - p->count);
        else
            take_run(p, from, before(to, at) ? to : at, end - p->count);
        if (descending)
            to = at;
        else
            from = at;
    }
}

/* All in order, from the cursor on. */
static void take_page(struct page *p)
{
    static const coulomb_value null = {COULOMB_NULL, {0}};
    const struct sub_load *load = p->load;
    const coulomb_order *o = &load->order[0];
    const coulomb_value *v = load->from_count > 0 ? &load->from[0] : NULL;
    struct place first = {0, 0};
    struct place values = seek(p, &null, true); /* before them lie the rows without one */
    struct place from = values;
    struct place to = sorted_end(&p->ix->sorted);
    bool rest = !v || !nothing(v); /* rows without a value may follow */
    size_t end;

    if (v && nothing(v)) {
        take_run(p, first, values, SIZE_MAX);
        if (o->nulls_last)
            return;
    } else if (v) {
        struct place low = seek(p, v, false);
        struct place high = seek(p, v, true);

        take_run(p, low, high, SIZE_MAX);
        if (o->descending)
            to = low;
        else
            from = high;
        rest = o->nulls_last != 0;
    }
    end = p->count + load->limit;
    if (rest && !o->nulls_last)
        take_run(p, first, values, end - p->count);
    take_runs(p, from, to, end);
    if (rest && o->nulls_last)
        take_run(p, first, values, end - p->count);
}

int page_rows(struct sub_load *load, struct coulomb_row ***rows, size_t *count,
              size_t *cap)
{
    struct coulomb_collection *coll = load->sub->coll;
    struct page p = {.load = load};

    p.code = order_columns(coll, load->order, load->order_count, p.columns);
    if (p.code == COULOMB_OK)
        p.ix = index_ordered(coll, p.columns[0], &p.code);
    if (p.code == COULOMB_OK && !p.ix)
        return client_fail(coll->client, COULOMB_E_NO_INDEX,
                           "%s has no index of %s any more", coll->id,
                           load->order[0].column);
    if (p.code == COULOMB_OK)
        take_page(&p);
    if (p.code != COULOMB_OK) {
        heap_free(coll->heap, p.rows, p.cap * sizeof(struct coulomb_row *));
        return client_no_memory(coll->client);
    }
    for (size_t i = 0; i < p.count; i++)
        row_retain(p.rows[i]);
    *rows = p.rows;
    *count = p.count;
    *cap = p.cap;
    return COULOMB_OK;
}
