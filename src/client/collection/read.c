/*
 * Reads: one row, all in order, and snapshots under a condition.
 */

#include "client/collection/collection.h"

#include <string.h>

struct coulomb_result {
    coulomb_client *client; /* held */
    struct coulomb_row **rows;
    size_t count;
    size_t cap;
    bool indexed;
};

const coulomb_row *coulomb_get(const coulomb_collection *coll, coulomb_key key)
{
    return visible_get(coll, key, coll_hash(coll, key)).row;
}

int coulomb_has(const coulomb_collection *coll, coulomb_key key)
{
    return coulomb_get(coll, key) != NULL;
}

size_t coulomb_size(const coulomb_collection *coll)
{
    return coll->visible;
}

uint64_t coulomb_revision(const coulomb_collection *coll)
{
    return coll->revision;
}

int coulomb_row_meta(const coulomb_collection *coll, coulomb_key key, coulomb_meta *meta)
{
    struct visible v = visible_get(coll, key, coll_hash(coll, key));

    *meta = v.meta;
    return v.row != NULL;
}

static int each_compat(coulomb_collection *coll,
                       int (*fn)(const coulomb_row *row, void *arg), void *arg)
{
    size_t bytes = (coll->visible + 1) * sizeof(struct coulomb_row *);
    struct coulomb_row **rows = heap_alloc(coll->heap, bytes);
    size_t count = 0;
    int code = rows ? compat_rows(coll, rows, &count) : client_no_memory(coll->client);

    coll->client->locked++;
    for (size_t i = 0; i < count && code == 0; i++)
        code = fn(rows[i], arg);
    coll->client->locked--;
    heap_free(coll->heap, rows, bytes);
    return code;
}

int coulomb_each(coulomb_collection *coll, int (*fn)(const coulomb_row *row, void *arg),
                 void *arg)
{
    struct place at = {0, 0};
    const struct sorted *order;
    struct coulomb_row *row;
    int code = client_enter(coll->client);

    if (code != COULOMB_OK)
        return code;
    if (coll->client->compat)
        return each_compat(coll, fn, arg);
    order = order_get(coll);
    if (!order)
        return client_no_memory(coll->client);
    coll->client->locked++;
    while (code == 0 && (row = sorted_next(order, &at)) != NULL)
        code = fn(row, arg);
    coll->client->locked--;
    return code;
}

/* --- Snapshots --------------------------------------------------------------------------------- */

struct sorter {
    struct coulomb_collection *coll;
    const coulomb_order *order;
    const int *columns;
    size_t count;
    bool failed;
};

static bool nothing(const coulomb_value *v)
{
    return v->type == COULOMB_NULL || v->type == COULOMB_ABSENT;
}

static int by_order(struct sorter *s, const struct coulomb_row *a,
                    const struct coulomb_row *b)
{
    for (size_t i = 0; i < s->count; i++) {
        const coulomb_order *o = &s->order[i];
        coulomb_value x = row_at(a, (size_t)s->columns[i]);
        coulomb_value y = row_at(b, (size_t)s->columns[i]);
        int order = 0;

        if (nothing(&x) || nothing(&y)) {
            order = (int)nothing(&y) - (int)nothing(&x);
            order = o->nulls_last ? -order : order;
        } else {
            arena_reset(&s->coll->client->scratch);
            if (value_compare(&x, &y, &s->coll->client->scratch, &order) != COULOMB_OK)
                s->failed = true;
            order = o->descending ? -order : order;
        }
        if (order != 0)
            return order;
    }
    if (s->count == 0 && s->coll->options.compare) {
        int order = s->coll->options.compare(a, b, s->coll->options.compare_arg);

        if (order != 0)
            return order;
    }
    return coulomb_key_compare(row_key(a), row_key(b));
}

int sort_by_order(struct coulomb_collection *coll, const coulomb_order *order,
                  const int *columns, size_t order_count, struct coulomb_row **rows,
                  size_t count)
{
    struct sorter s = {coll, order, columns, order_count, false};
    struct coulomb_row **other = rows + count;

    for (size_t width = 1; width < count; width *= 2) {
        for (size_t begin = 0; begin < count; begin += 2 * width) {
            size_t mid = begin + width < count ? begin + width : count;
            size_t end = begin + 2 * width < count ? begin + 2 * width : count;
            size_t a = begin;
            size_t b = mid;

            for (size_t k = begin; k < end; k++) {
                bool left = b >= end || (a < mid && by_order(&s, rows[a], rows[b]) <= 0);

                other[k] = left ? rows[a++] : rows[b++];
            }
        }
        memcpy(rows, other, count * sizeof(struct coulomb_row *));
    }
    return s.failed ? client_no_memory(coll->client) : COULOMB_OK;
}

/* 1, 0, COULOMB_E_MEMORY. */
static int wanted(struct coulomb_collection *coll, const coulomb_snapshot_options *o,
                  const struct coulomb_row *row)
{
    int yes = 1;

    if (o->where) {
        coulomb_key key = row_key(row);
        coulomb_meta meta = visible_get(coll, key, coll_hash(coll, key)).meta;

        yes = expr_eval(o->where, row, meta, &coll->client->scratch);
        yes = yes < 0 ? yes : yes == 1;
    } else if (o->where_fn) {
        coll->client->locked++;
        yes = o->where_fn(row, o->where_arg) == 1;
        coll->client->locked--;
    }
    return yes;
}

int order_columns(struct coulomb_collection *coll, const coulomb_order *order,
                  size_t count, int *columns)
{
    if (count > ORDER_COLUMNS_MAX)
        return client_fail(coll->client, COULOMB_E_LIMIT,
                           "an order of more than %d columns", ORDER_COLUMNS_MAX);
    for (size_t i = 0; i < count; i++) {
        columns[i] = layout_find(coll->layout, order[i].column);
        if (columns[i] < 0)
            return client_fail(coll->client, COULOMB_E_COLUMN, "%s has no column %s",
                               coll->id, order[i].column ? order[i].column : "(NULL)");
    }
    return COULOMB_OK;
}

/* All rows, when no index has fewer: in the collection's order if that is at hand, else in none. A
 * list in order is not made for this: it would have to be kept up to date from then on. */
static int scan(struct coulomb_collection *coll, struct coulomb_row ***rows,
                size_t *count, size_t *cap, bool *ordered)
{
    const struct sorted *order = order_at_hand(coll);
    struct place at = {0, 0};
    struct coulomb_row *row;
    struct kent *ent;
    size_t it = 0;

    *ordered = order != NULL;
    *cap = coll->visible * 2 + 1;
    *rows = heap_alloc(coll->heap, *cap * sizeof(struct coulomb_row *));
    if (!*rows)
        return client_no_memory(coll->client);
    if (coll->client->compat) {
        *ordered = true;
        return compat_rows(coll, *rows, count);
    }
    while (order && (row = sorted_next(order, &at)) != NULL)
        (*rows)[(*count)++] = row;
    while (!order && (ent = ktab_next(&coll->synced, &it)) != NULL) {
        const struct local *l = coll->locals.live > 0
                                    ? local_find(coll, row_key(ent->item), ent->hash)
                                    : NULL;

        if (!l || !local_overlay(l, &row))
            (*rows)[(*count)++] = ent->item;
    }
    it = 0;
    while (!order && (ent = ktab_next(&coll->locals, &it)) != NULL) {
        if (local_overlay(ent->item, &row) && row)
            (*rows)[(*count)++] = row;
    }
    return COULOMB_OK;
}

static int keep_wanted(struct coulomb_collection *coll, const coulomb_snapshot_options *o,
                       struct coulomb_row **rows, size_t *count)
{
    size_t n = 0;

    for (size_t i = 0; i < *count; i++) {
        int yes = wanted(coll, o, rows[i]);

        if (yes < 0)
            return client_no_memory(coll->client);
        if (yes)
            rows[n++] = rows[i];
    }
    *count = n;
    return COULOMB_OK;
}

/* Offset and limit. */
static void cut(const coulomb_snapshot_options *o, struct coulomb_row **rows,
                size_t *count)
{
    size_t skip = o->offset < *count ? o->offset : *count;

    memmove(rows, rows + skip, (*count - skip) * sizeof(struct coulomb_row *));
    *count -= skip;
    if (o->limit > 0 && *count > o->limit)
        *count = o->limit;
}

static int check_options(struct coulomb_collection *coll,
                         const coulomb_snapshot_options *o)
{
    coulomb_client *c = coll->client;

    if (o->where && o->where_fn)
        return client_fail(c, COULOMB_E_BOTH_WHERE, "where and where_fn are both given");
    if (o->where && o->where->layout != coll->layout)
        return client_fail(c, COULOMB_E_ARGUMENT,
                           "the condition is of another collection");
    if ((o->limit > 0 || o->offset > 0) && o->order_count == 0)
        return client_fail(c, COULOMB_E_LIMIT_NEEDS_ORDER,
                           "a limit or offset needs an order");
    return COULOMB_OK;
}

int snapshot_rows(struct coulomb_collection *coll, const coulomb_snapshot_options *o,
                  struct coulomb_row ***rows, size_t *count, size_t *cap, bool *indexed)
{
    int columns[ORDER_COLUMNS_MAX] = {0};
    void *grown;
    bool ordered = false;
    int code = check_options(coll, o);

    *rows = NULL;
    *count = *cap = 0;
    if (code == COULOMB_OK)
        code = order_columns(coll, o->order, o->order_count, columns);
    if (code == COULOMB_OK)
        code = index_candidates(coll, o->where, rows, count, cap, indexed);
    if (code != COULOMB_OK)
        return code;
    if (!*indexed && o->optimized_only)
        return client_fail(coll->client, COULOMB_E_NO_INDEX, "no index of %s helps",
                           coll->id);
    if (!*indexed)
        code = scan(coll, rows, count, cap, &ordered);
    if (code == COULOMB_OK)
        code = keep_wanted(coll, o, *rows, count);
    if (code == COULOMB_OK && (!ordered || o->order_count > 0)) {
        grown = *rows;
        code = heap_grow(coll->heap, &grown, cap, *count * 2 + 1,
                         sizeof(struct coulomb_row *));
        *rows = grown;
        code = code == COULOMB_OK
                   ? sort_by_order(coll, o->order, columns, o->order_count, *rows, *count)
                   : client_no_memory(coll->client);
    }
    if (code != COULOMB_OK) {
        heap_free(coll->heap, *rows, *cap * sizeof(struct coulomb_row *));
        *rows = NULL;
        return code;
    }
    cut(o, *rows, count);
    for (size_t i = 0; i < *count; i++)
        row_retain((*rows)[i]);
    return COULOMB_OK;
}

int coulomb_snapshot(coulomb_collection *coll, const coulomb_snapshot_options *options,
                     coulomb_result **out)
{
    coulomb_client *c = coll->client;
    coulomb_snapshot_options o;
    struct coulomb_result *r;
    int code = client_enter(c);

    if (code == COULOMB_OK)
        code = options_read(c, &o, sizeof(o), options, "coulomb_snapshot");
    if (code == COULOMB_OK)
        code = index_auto(coll, o.where);
    if (code != COULOMB_OK)
        return code;
    r = heap_zalloc(c->heap, sizeof(*r));
    if (!r)
        return client_no_memory(c);
    code = snapshot_rows(coll, &o, &r->rows, &r->count, &r->cap, &r->indexed);
    if (code != COULOMB_OK) {
        heap_free(c->heap, r, sizeof(*r));
        return code;
    }
    r->client = c;
    client_retain(c);
    *out = r;
    return COULOMB_OK;
}

size_t coulomb_result_count(const coulomb_result *result)
{
    return result->count;
}

const coulomb_row *coulomb_result_row(const coulomb_result *result, size_t i)
{
    return i < result->count ? result->rows[i] : NULL;
}

int coulomb_result_indexed(const coulomb_result *result)
{
    return result->indexed;
}

void coulomb_result_free(coulomb_result *result)
{
    coulomb_client *c;

    if (!result)
        return;
    c = result->client;
    for (size_t i = 0; i < result->count; i++)
        row_release(result->rows[i]);
    heap_free(c->heap, result->rows, result->cap * sizeof(struct coulomb_row *));
    heap_free(c->heap, result, sizeof(*result));
    client_release(c);
}
