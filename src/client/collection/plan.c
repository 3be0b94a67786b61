/*
 * Which rows an index has for a condition. Each node of the condition gets a list of ranges, or none
 * when no index helps: a comparison one range, IN one for each value, OR those of both sides if both
 * have some, AND those of the side with fewer rows, two ranges of one index being cut to what they
 * share. The result holds every row that may match; the condition itself is still asked of each.
 */

#include "client/collection/index.h"

#include <stdlib.h>
#include <string.h>

struct range {
    struct coulomb_index *ix;
    const coulomb_value *low; /* NULL: none */
    const coulomb_value *high;
    bool low_open; /* greater than low, not equal */
    bool high_open;
    struct range *next;
};

struct plan {
    struct range *ranges; /* NULL: no index helps */
    size_t rows;          /* about */
};

/* Comparisons that an index could answer. */
static bool indexable(const struct node *n)
{
    return n->column >= 0 && n->op != COULOMB_IS_NULL && n->op != COULOMB_IS_ABSENT &&
           n->op != COULOMB_CONTAINS;
}

static struct coulomb_index *find_index(struct coulomb_collection *coll,
                                        const struct node *n)
{
    struct coulomb_index *found = NULL;

    for (struct list *l = coll->indexes.next; l != &coll->indexes; l = l->next) {
        struct coulomb_index *ix = LIST_ENTRY(l, struct coulomb_index, link);

        if (ix->column != n->column || !pointer_same(ix->pointer, n->pointer))
            continue;
        if (ix->type == COULOMB_INDEX_ORDERED)
            found = ix;
        else if (n->op == COULOMB_EQ)
            return ix;
    }
    return found;
}

/* COULOMB_E_MEMORY: the places are wrong. */
static int range_places(const struct range *r, struct place *from, struct place *to)
{
    struct bound low = {r->ix, r->low, r->low_open, false};
    struct bound high = {r->ix, r->high, !r->high_open, false};

    *from = (struct place){0, 0};
    *to = sorted_end(&r->ix->sorted);
    if (r->low)
        *from = sorted_seek(&r->ix->sorted, bound_before, &low);
    if (r->high)
        *to = sorted_seek(&r->ix->sorted, bound_before, &high);
    return low.failed || high.failed ? COULOMB_E_MEMORY : COULOMB_OK;
}

static size_t range_rows(const struct range *r)
{
    struct place from;
    struct place to;

    if (r->ix->type == COULOMB_INDEX_HASH)
        return 1;
    if (range_places(r, &from, &to) != COULOMB_OK)
        return r->ix->sorted.count; /* an estimate only */
    return sorted_distance(&r->ix->sorted, from, to);
}

static int plan_leaf(struct coulomb_collection *coll, const struct node *n,
                     struct pool *pool, struct plan *plan)
{
    struct coulomb_index *ix = find_index(coll, n);

    *plan = (struct plan){NULL, 0};
    if (!ix || !indexable(n) || n->count == 0)
        return COULOMB_OK;
    for (size_t i = 0; i < n->count; i++) {
        if (n->values[i].type == COULOMB_NULL || n->values[i].type == COULOMB_ABSENT)
            return COULOMB_OK;
    }
    if (index_fresh(ix) != COULOMB_OK)
        return COULOMB_E_MEMORY;
    for (size_t i = 0; i < n->count; i++) {
        struct range *r = pool_alloc(pool, sizeof(*r));

        if (!r)
            return COULOMB_E_MEMORY;
        *r = (struct range){.ix = ix, .next = plan->ranges};
        if (n->op == COULOMB_EQ || n->op == COULOMB_GT || n->op == COULOMB_GTE)
            r->low = &n->values[i];
        if (n->op == COULOMB_EQ || n->op == COULOMB_LT || n->op == COULOMB_LTE)
            r->high = &n->values[i];
        r->low_open = n->op == COULOMB_GT;
        r->high_open = n->op == COULOMB_LT;
        plan->ranges = r;
        plan->rows += range_rows(r);
    }
    return COULOMB_OK;
}

static bool one_range(const struct plan *p)
{
    return p->ranges && !p->ranges->next && p->ranges->ix->type == COULOMB_INDEX_ORDERED;
}

/* -1, 0, 1; equal when it can't be told, which keeps the wider side. */
static int bound_order(struct coulomb_collection *coll, const coulomb_value *a,
                       const coulomb_value *b)
{
    int order = 0;

    arena_reset(&coll->client->scratch);
    return value_compare(a, b, &coll->client->scratch, &order) == COULOMB_OK ? order : 0;
}

static struct plan plan_and(struct coulomb_collection *coll, struct plan a, struct plan b)
{
    struct range *x = a.ranges;
    const struct range *y = b.ranges;

    if (!x)
        return b;
    if (!y)
        return a;
    if (!one_range(&a) || !one_range(&b) || x->ix != y->ix)
        return a.rows <= b.rows ? a : b;
    if (y->low && (!x->low || bound_order(coll, y->low, x->low) > 0)) {
        x->low = y->low;
        x->low_open = y->low_open;
    }
    if (y->high && (!x->high || bound_order(coll, y->high, x->high) < 0)) {
        x->high = y->high;
        x->high_open = y->high_open;
    }
    a.rows = range_rows(x);
    return a;
}

static struct plan plan_or(struct plan a, struct plan b)
{
    struct range *last = a.ranges;

    if (!a.ranges || !b.ranges)
        return (struct plan){NULL, 0};
    while (last->next)
        last = last->next;
    last->next = b.ranges;
    a.rows += b.rows;
    return a;
}

static int plan_make(struct coulomb_collection *coll, const coulomb_expr *e,
                     struct pool *pool, struct plan *out)
{
    struct plan *stack = pool_alloc(pool, e->count * sizeof(*stack));
    size_t top = 0;

    if (!stack)
        return COULOMB_E_MEMORY;
    for (size_t i = 0; i < e->count; i++) {
        switch (e->nodes[i].type) {
        case COULOMB_NODE_COMPARE:
        case COULOMB_NODE_IN:
            if (plan_leaf(coll, &e->nodes[i], pool, &stack[top]) != COULOMB_OK)
                return COULOMB_E_MEMORY;
            top++;
            break;
        case COULOMB_NODE_NOT:
            stack[top - 1] = (struct plan){NULL, 0};
            break;
        case COULOMB_NODE_AND:
            top--;
            stack[top - 1] = plan_and(coll, stack[top - 1], stack[top]);
            break;
        case COULOMB_NODE_OR:
            top--;
            stack[top - 1] = plan_or(stack[top - 1], stack[top]);
            break;
        }
    }
    *out = stack[0];
    return COULOMB_OK;
}

struct found {
    struct heap *heap;
    struct coulomb_row **rows;
    size_t count;
    size_t cap;
};

static int found_put(struct found *f, struct coulomb_row *row)
{
    void *rows = f->rows;
    int code =
        heap_grow(f->heap, &rows, &f->cap, f->count + 1, sizeof(struct coulomb_row *));

    f->rows = rows;
    if (code == COULOMB_OK)
        f->rows[f->count++] = row;
    return code;
}

static int collect(const struct range *r, struct found *f)
{
    struct coulomb_client *c = r->ix->coll->client;
    struct place at;
    struct place to;
    uint64_t hash;
    int code = COULOMB_OK;

    if (r->ix->type == COULOMB_INDEX_HASH) {
        size_t mask = r->ix->slot_count - 1;

        arena_reset(&c->scratch);
        if (value_hash(r->low, c->seed, &c->scratch, &hash) != COULOMB_OK)
            return COULOMB_E_MEMORY;
        for (size_t i = hash & mask;
             r->ix->slot_count > 0 && r->ix->slots[i].row && code == 0;
             i = (i + 1) & mask) {
            if (r->ix->slots[i].hash == hash)
                code = found_put(f, r->ix->slots[i].row);
        }
        return code;
    }
    code = range_places(r, &at, &to);
    while (code == COULOMB_OK &&
           (at.chunk < to.chunk || (at.chunk == to.chunk && at.at < to.at))) {
        struct coulomb_row *row = sorted_next(&r->ix->sorted, &at);

        if (!row)
            break;
        code = found_put(f, row);
    }
    return code;
}

static int by_address(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t) * (struct coulomb_row *const *)a;
    uintptr_t y = (uintptr_t) * (struct coulomb_row *const *)b;

    return (x > y) - (x < y);
}

/* Ranges may overlap. */
static void unique(struct found *f)
{
    size_t n = 0;

    if (f->count < 2)
        return;
    qsort(f->rows, f->count, sizeof(struct coulomb_row *), by_address);
    for (size_t i = 0; i < f->count; i++) {
        if (n == 0 || f->rows[n - 1] != f->rows[i])
            f->rows[n++] = f->rows[i];
    }
    f->count = n;
}

int index_candidates(struct coulomb_collection *coll, const coulomb_expr *where,
                     struct coulomb_row ***rows, size_t *count, size_t *cap, bool *served)
{
    struct found f = {.heap = coll->heap};
    struct plan plan = {NULL, 0};
    struct pool pool;
    int code;

    *served = false;
    pool_init(&pool, coll->heap);
    code = where && coll->index_count > 0 ? plan_make(coll, where, &pool, &plan)
                                          : COULOMB_OK;
    for (const struct range *r = plan.ranges; r && code == COULOMB_OK; r = r->next)
        code = collect(r, &f);
    if (code == COULOMB_OK && plan.ranges) {
        if (plan.ranges->next)
            unique(&f);
        *served = true;
        *rows = f.rows;
        *count = f.count;
        *cap = f.cap;
    } else {
        heap_free(coll->heap, f.rows, f.cap * sizeof(struct coulomb_row *));
    }
    pool_fini(&pool);
    return code == COULOMB_OK ? code : client_no_memory(coll->client);
}

/* Comparisons that every matching row has to pass: those under ANDs only. */
int index_auto(struct coulomb_collection *coll, const coulomb_expr *e)
{
    for (size_t i = 0; e && i < e->count; i++) {
        if (e->nodes[i].type == COULOMB_NODE_OR || e->nodes[i].type == COULOMB_NODE_NOT)
            return COULOMB_OK;
    }
    for (size_t i = 0; e && coll->options.auto_index && i < e->count; i++) {
        const struct node *n = &e->nodes[i];
        int code;

        if (n->type == COULOMB_NODE_AND || !indexable(n) || find_index(coll, n))
            continue;
        code =
            index_add(coll, coll->layout->columns[n->column].name,
                      n->pointer ? n->pointer->text : NULL, COULOMB_INDEX_ORDERED, NULL);
        if (code != COULOMB_OK)
            return code;
    }
    return COULOMB_OK;
}
