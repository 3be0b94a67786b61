/*
 * A condition implies another when each of its alternatives does. An alternative, a conjunction,
 * implies a union of conditions when some alternative of these has only parts that are implied by one
 * of its own. Parts are compared by what they say about one column, or have to be the same. That finds
 * what apps ask: the same again, a part of it, one value of several; nesting below it is not looked
 * into.
 *
 * What is limited covers only windows of the same rows in the same order.
 */

#include "client/electric/spec.h"

#include <string.h>

/* Of nodes in postfix order: the part that ends at a node. */
struct part {
    const struct coulomb_expr *e;
    size_t first;
    size_t root;
};

#define PARTS_MAX 64u

struct parts {
    struct part items[PARTS_MAX];
    size_t count;
    bool too_many;
};

/* --- Copies -------------------------------------------------------------------------------------- */

static int copy_expr(const coulomb_expr *from, struct coulomb_expr **to)
{
    if (!from)
        return COULOMB_OK;
    *to = expr_copy(from);
    return *to ? COULOMB_OK : COULOMB_E_MEMORY;
}

static int copy_order(struct coulomb_collection *coll, const coulomb_subset *subset,
                      struct spec *s)
{
    if (subset->order_count == 0)
        return COULOMB_OK;
    s->order = heap_alloc(s->heap, subset->order_count * sizeof(*s->order));
    if (!s->order)
        return client_no_memory(coll->client);
    for (size_t i = 0; i < subset->order_count; i++) {
        int column = layout_find(coll->layout, subset->order[i].column);

        s->order[i] = subset->order[i];
        if (column < 0) /* the collection checked it */
            return client_fail(coll->client, COULOMB_E_COLUMN, "no column to order by");
        s->order[i].column = coll->layout->columns[column].name;
    }
    s->order_count = subset->order_count;
    return COULOMB_OK;
}

int spec_new(struct coulomb_collection *coll, const coulomb_subset *subset,
             struct spec **out)
{
    struct spec *s = heap_zalloc(coll->heap, sizeof(*s));
    int code;

    if (!s)
        return client_no_memory(coll->client);
    s->heap = coll->heap;
    s->refs = 1;
    list_init(&s->link);
    s->limit = subset->limit;
    s->offset = subset->cursor ? 0 : subset->offset;
    code = copy_order(coll, subset, s);
    if (code == COULOMB_OK)
        code = copy_expr(subset->where, &s->where);
    if (code == COULOMB_OK && subset->cursor)
        code = copy_expr(subset->cursor->where_from, &s->where_from);
    if (code == COULOMB_OK && subset->cursor)
        code = copy_expr(subset->cursor->where_current, &s->where_current);
    if (code != COULOMB_OK) {
        spec_release(s);
        return code;
    }
    *out = s;
    return COULOMB_OK;
}

struct spec *spec_retain(struct spec *s)
{
    s->refs++;
    return s;
}

void spec_release(struct spec *s)
{
    if (!s || --s->refs > 0)
        return;
    coulomb_expr_free(s->where);
    coulomb_expr_free(s->where_from);
    coulomb_expr_free(s->where_current);
    heap_free(s->heap, s->order, s->order_count * sizeof(*s->order));
    heap_free(s->heap, s, sizeof(*s));
}

/* --- Parts ---------------------------------------------------------------------------------------- */

static const struct node *root_of(const struct part *p)
{
    return &p->e->nodes[p->root];
}

static bool is_leaf(const struct node *n)
{
    return n->type == COULOMB_NODE_COMPARE || n->type == COULOMB_NODE_IN;
}

size_t expr_first(const struct coulomb_expr *e, size_t root)
{
    size_t wanted = 1; /* parts still to be walked over, backwards */
    size_t i = root + 1;

    while (wanted > 0 && i > 0) {
        const struct node *n = &e->nodes[--i];

        wanted--;
        if (n->type == COULOMB_NODE_AND || n->type == COULOMB_NODE_OR)
            wanted += 2;
        else if (n->type == COULOMB_NODE_NOT)
            wanted++;
    }
    return i;
}

/* What a chain of one operator joins, in order. */
static void split(struct part whole, coulomb_node_type by, struct parts *out)
{
    struct part left[PARTS_MAX]; /* still to be split, the last first */
    size_t count = 1;

    out->count = 0;
    out->too_many = false;
    left[0] = whole;
    while (count > 0) {
        struct part p = left[--count];
        size_t right_first;

        if (root_of(&p)->type != by) {
            out->items[out->count++] = p;
            continue;
        }
        if (out->count + count + 2 > PARTS_MAX) {
            out->too_many = true;
            return;
        }
        right_first = expr_first(p.e, p.root - 1);
        left[count++] = (struct part){p.e, right_first, p.root - 1};
        left[count++] = (struct part){p.e, p.first, right_first - 1};
    }
}

static bool same_values(const struct node *a, const struct node *b, struct arena *arena)
{
    bool equal = true;

    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count && equal; i++) {
        arena_reset(arena);
        if (value_equal(&a->values[i], &b->values[i], arena, &equal) != COULOMB_OK)
            return false;
    }
    return equal;
}

static bool same_part(const struct part *a, const struct part *b, struct arena *arena)
{
    if (a->root - a->first != b->root - b->first)
        return false;
    for (size_t i = 0; i <= a->root - a->first; i++) {
        const struct node *x = &a->e->nodes[a->first + i];
        const struct node *y = &b->e->nodes[b->first + i];

        if (x->type != y->type)
            return false;
        if (is_leaf(x) &&
            (x->op != y->op || x->column != y->column ||
             !pointer_same(x->pointer, y->pointer) || !same_values(x, y, arena)))
            return false;
    }
    return true;
}

/* --- What one column's conditions say -------------------------------------------------------------- */

static bool comparable(const coulomb_value *a, const coulomb_value *b)
{
    if (a->type <= COULOMB_NULL || b->type <= COULOMB_NULL)
        return false;
    return a->type == b->type || (value_is_number(a->type) && value_is_number(b->type));
}

/* Every value that stands in relation `op` to v is in the relation of b to one of b's values. */
static bool value_implies(coulomb_op op, const coulomb_value *v, const struct node *b,
                          struct arena *arena)
{
    for (size_t i = 0; i < b->count; i++) {
        const coulomb_value *w = &b->values[i];
        bool yes = false;
        int order;

        arena_reset(arena);
        if (!comparable(v, w) || value_compare(v, w, arena, &order) != COULOMB_OK)
            continue;
        switch (b->op) {
        case COULOMB_EQ:
            yes = op == COULOMB_EQ && order == 0;
            break;
        case COULOMB_GT:
            yes = op == COULOMB_GT ? order >= 0
                                   : (op == COULOMB_EQ || op == COULOMB_GTE) && order > 0;
            break;
        case COULOMB_GTE:
            yes =
                (op == COULOMB_EQ || op == COULOMB_GT || op == COULOMB_GTE) && order >= 0;
            break;
        case COULOMB_LT:
            yes = op == COULOMB_LT ? order <= 0
                                   : (op == COULOMB_EQ || op == COULOMB_LTE) && order < 0;
            break;
        case COULOMB_LTE:
            yes =
                (op == COULOMB_EQ || op == COULOMB_LT || op == COULOMB_LTE) && order <= 0;
            break;
        case COULOMB_IS_NULL:
        case COULOMB_IS_ABSENT:
        case COULOMB_CONTAINS:
            break;
        }
        if (yes)
            return true;
    }
    return false;
}

static bool compares(const struct node *n)
{
    return is_leaf(n) && n->op != COULOMB_IS_NULL && n->op != COULOMB_IS_ABSENT &&
           n->op != COULOMB_CONTAINS;
}

static bool same_place(const struct node *a, const struct node *b)
{
    return a->column == b->column && pointer_same(a->pointer, b->pointer);
}

/* NOT (column IS NULL): true of whatever is compared. */
static bool is_not_null(const struct part *p, const struct node *compared)
{
    const struct node *of = p->root > 0 ? &p->e->nodes[p->root - 1] : NULL;

    return root_of(p)->type == COULOMB_NODE_NOT && of &&
           of->type == COULOMB_NODE_COMPARE && of->op == COULOMB_IS_NULL &&
           same_place(of, compared);
}

static bool part_implies(const struct part *a, const struct part *b, struct arena *arena)
{
    const struct node *x = root_of(a);
    const struct node *y = root_of(b);

    if (same_part(a, b, arena))
        return true;
    if (!compares(x))
        return false;
    if (is_not_null(b, x))
        return true;
    if (!compares(y) || !same_place(x, y))
        return false;
    for (size_t i = 0; i < x->count; i++) {
        if (!value_implies(x->op, &x->values[i], y, arena))
            return false;
    }
    return true;
}

/* One conjunction of a condition; of an IN of its perhaps only one value. */
struct alternative {
    struct parts parts;
    size_t in;                   /* the part that is replaced; PARTS_MAX: none */
    struct node in_node;         /* by this, */
    struct coulomb_expr in_expr; /* which is all of this */
};

static struct part alternative_part(const struct alternative *a, size_t i)
{
    return i == a->in ? (struct part){&a->in_expr, 0, 0} : a->parts.items[i];
}

/* Some part of the alternative implies b, or one of the parts that b joins by OR. */
static bool implies_part(const struct alternative *a, const struct part *b,
                         struct arena *arena)
{
    struct parts either;

    split(*b, COULOMB_NODE_OR, &either);
    for (size_t i = 0; i < a->parts.count; i++) {
        struct part own = alternative_part(a, i);

        if (part_implies(&own, b, arena))
            return true;
        for (size_t j = 0; !either.too_many && j < either.count; j++) {
            if (part_implies(&own, &either.items[j], arena))
                return true;
        }
    }
    return false;
}

static bool implies_all(const struct alternative *a, const struct part *b,
                        struct arena *arena)
{
    struct parts all;

    split(*b, COULOMB_NODE_AND, &all);
    for (size_t i = 0; !all.too_many && i < all.count; i++) {
        if (!implies_part(a, &all.items[i], arena))
            return false;
    }
    return !all.too_many;
}

static struct part whole(const struct coulomb_expr *e)
{
    return (struct part){e, 0, e->count - 1};
}

static bool unlimited(const struct spec *s)
{
    return s->limit == 0 && s->offset == 0 && !s->where_from;
}

static bool spec_implied(const struct alternative *a, const struct spec *s,
                         struct arena *arena)
{
    struct parts any;

    if (!unlimited(s))
        return false;
    if (!s->where)
        return true;
    split(whole(s->where), COULOMB_NODE_OR, &any);
    for (size_t i = 0; !any.too_many && i < any.count; i++) {
        if (implies_all(a, &any.items[i], arena))
            return true;
    }
    return false;
}

static bool alternative_covered(const struct alternative *a, const struct list *loaded,
                                const struct spec *more, struct arena *arena)
{
    for (const struct list *l = loaded->next; l != loaded; l = l->next) {
        if (spec_implied(a, LIST_ENTRY((struct list *)(uintptr_t)l, struct spec, link),
                         arena))
            return true;
    }
    return more && spec_implied(a, more, arena);
}

/* Each value of its first IN by itself. */
static bool values_covered(struct alternative *a, const struct list *loaded,
                           const struct spec *more, struct arena *arena)
{
    const struct node *in = NULL;

    for (size_t i = 0; i < a->parts.count && !in; i++) {
        if (root_of(&a->parts.items[i])->type == COULOMB_NODE_IN) {
            in = root_of(&a->parts.items[i]);
            a->in = i;
        }
    }
    if (!in)
        return false;
    for (size_t i = 0; i < in->count; i++) {
        a->in_node = *in;
        a->in_node.values = &in->values[i];
        a->in_node.count = 1;
        a->in_expr = (struct coulomb_expr){.nodes = &a->in_node, .count = 1};
        if (!alternative_covered(a, loaded, more, arena))
            return false;
    }
    return true;
}

static bool where_covered(const struct list *loaded, const struct spec *more,
                          const struct spec *s, struct arena *arena)
{
    struct alternative a = {.in = PARTS_MAX};
    struct parts any;

    if (!s->where) /* an alternative without parts: only all rows cover it */
        return alternative_covered(&a, loaded, more, arena);
    split(whole(s->where), COULOMB_NODE_OR, &any);
    for (size_t i = 0; !any.too_many && i < any.count; i++) {
        a.in = PARTS_MAX;
        split(any.items[i], COULOMB_NODE_AND, &a.parts);
        if (a.parts.too_many || (!alternative_covered(&a, loaded, more, arena) &&
                                 !values_covered(&a, loaded, more, arena)))
            return false;
    }
    return !any.too_many;
}

/* --- Windows ---------------------------------------------------------------------------------------- */

static bool same_expr(const struct coulomb_expr *a, const struct coulomb_expr *b,
                      struct arena *arena)
{
    struct part x;
    struct part y;

    if (!a || !b)
        return a == b;
    x = whole(a);
    y = whole(b);
    return same_part(&x, &y, arena);
}

/* The first columns of the loaded one's order are the wanted one's. */
static bool order_begins(const struct spec *loaded, const struct spec *s)
{
    if (s->order_count > loaded->order_count)
        return false;
    for (size_t i = 0; i < s->order_count; i++) {
        const coulomb_order *a = &loaded->order[i];
        const coulomb_order *b = &s->order[i];

        if (strcmp(a->column, b->column) != 0 || !a->descending != !b->descending ||
            !a->nulls_last != !b->nulls_last)
            return false;
    }
    return true;
}

static bool window_covers(const struct spec *loaded, const struct spec *s,
                          struct arena *arena)
{
    if (loaded->limit == 0 || s->limit == 0)
        return false;
    return s->offset >= loaded->offset && s->limit <= loaded->limit &&
           s->offset - loaded->offset <= loaded->limit - s->limit &&
           order_begins(loaded, s) && same_expr(loaded->where, s->where, arena) &&
           same_expr(loaded->where_from, s->where_from, arena) &&
           same_expr(loaded->where_current, s->where_current, arena);
}

bool spec_covered(const struct list *loaded, const struct spec *more,
                  const struct spec *s, struct arena *arena)
{
    if (where_covered(loaded, more, s, arena))
        return true;
    for (const struct list *l = loaded->next; l != loaded; l = l->next) {
        if (window_covers(LIST_ENTRY((struct list *)(uintptr_t)l, struct spec, link), s,
                          arena))
            return true;
    }
    return more && window_covers(more, s, arena);
}
