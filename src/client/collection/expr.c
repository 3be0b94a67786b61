/*
 * Conditions: nodes in postfix order, so that making, copying and evaluating are loops, however
 * deep the expression is. Evaluation is three-valued.
 */

#include "client/collection/collection.h"

#include <string.h>

static struct coulomb_expr *expr_new(coulomb_client *c, struct layout *layout,
                                     size_t nodes)
{
    struct coulomb_expr *e = heap_zalloc(c->heap, sizeof(*e));

    if (!e)
        return NULL;
    e->client = c;
    e->heap = c->heap;
    e->layout = layout;
    client_retain(c);
    layout_retain(e->layout);
    pool_init(&e->pool, e->heap);
    e->nodes = heap_alloc(e->heap, nodes * sizeof(*e->nodes));
    if (e->nodes) {
        e->count = nodes;
        return e;
    }
    coulomb_expr_free(e);
    return NULL;
}

void coulomb_expr_free(coulomb_expr *e)
{
    coulomb_client *c;

    if (!e)
        return;
    c = e->client;
    pool_fini(&e->pool);
    layout_release(e->layout);
    heap_free(e->heap, e->nodes, e->count * sizeof(*e->nodes));
    heap_free(e->heap, e, sizeof(*e));
    client_release(c);
}

/* The node gets values and pointer of its own. COULOMB_E_MEMORY. */
static int node_keep(struct coulomb_expr *e, struct node *n, const coulomb_value *values)
{
    struct pointer *pointer;

    if (n->pointer) {
        pointer = pool_alloc(&e->pool, sizeof(*pointer));
        if (!pointer || pointer_parse(n->pointer->text, &e->pool, pointer) != COULOMB_OK)
            return COULOMB_E_MEMORY;
        n->pointer = pointer;
    }
    n->values = pool_alloc(&e->pool, (n->count + 1) * sizeof(*values));
    if (!n->values)
        return COULOMB_E_MEMORY;
    for (size_t i = 0; i < n->count; i++) {
        n->values[i] = values[i];
        if (value_keep(&e->pool, &n->values[i]) != COULOMB_OK)
            return COULOMB_E_MEMORY;
    }
    return COULOMB_OK;
}

/* What a column name stands for. COULOMB_E_COLUMN. */
static int node_column(coulomb_collection *coll, const char *column, struct node *n)
{
    if (column && strcmp(column, "$synced") == 0)
        n->column = COLUMN_SYNCED;
    else if (column && strcmp(column, "$origin") == 0)
        n->column = COLUMN_ORIGIN;
    else
        n->column = layout_find(coll->layout, column);
    if (n->column == -1)
        return client_fail(coll->client, COULOMB_E_COLUMN, "%s has no column %s",
                           coll->id, column ? column : "(NULL)");
    return COULOMB_OK;
}

int json_column(coulomb_collection *coll, const char *column, const char *pointer,
                struct pool *pool, struct pointer *out)
{
    coulomb_client *c = coll->client;
    int i = layout_find(coll->layout, column);
    int code;

    if (i < 0)
        return client_fail(c, COULOMB_E_COLUMN, "%s has no column %s", coll->id,
                           column ? column : "(NULL)");
    if (coll->layout->columns[i].type != COULOMB_JSON)
        return client_fail(c, COULOMB_E_TYPE, "column %s is %s, not json", column,
                           coulomb_type_name(coll->layout->columns[i].type));
    code = pointer_parse(pointer, pool, out);
    if (code == COULOMB_E_MEMORY)
        return client_no_memory(c);
    if (code != COULOMB_OK)
        return client_fail(c, code, "\"%s\" is no JSON pointer; one is \"/address/city\"",
                           pointer ? pointer : "(NULL)");
    return COULOMB_OK;
}

/* The values as they are compared: checked, numerics and json in their normal form, in the arena. */
static int normal_values(coulomb_client *c, const coulomb_value *values, size_t count,
                         struct arena *arena, coulomb_value *out)
{
    for (size_t i = 0; i < count; i++) {
        struct err err;
        int code;

        if ((unsigned)values[i].type > COULOMB_ARRAY ||
            (values[i].type == COULOMB_ARRAY && !values[i].v.array))
            return client_fail(c, COULOMB_E_TYPE, "a condition's value is of no type");
        code = value_normal(&values[i], arena, &out[i], &err);
        if (code == COULOMB_E_MEMORY)
            return client_no_memory(c);
        if (code != COULOMB_OK)
            return client_fail(c, code, "a condition's value: %s", err.message);
    }
    return COULOMB_OK;
}

static coulomb_expr *leaf_of(coulomb_collection *coll, struct node *node,
                             const coulomb_value *values)
{
    coulomb_client *c = coll->client;
    coulomb_value *normal;
    struct coulomb_expr *e;

    arena_reset(&c->scratch);
    normal = arena_calloc(&c->scratch, node->count, sizeof(*normal));
    if (!normal) {
        client_no_memory(c);
        return NULL;
    }
    if (normal_values(c, values, node->count, &c->scratch, normal) != COULOMB_OK)
        return NULL;
    e = expr_new(c, coll->layout, 1);
    if (e) {
        e->nodes[0] = *node;
        if (node_keep(e, &e->nodes[0], normal) == COULOMB_OK)
            return e;
        coulomb_expr_free(e);
    }
    client_no_memory(c);
    return NULL;
}

/* pointer NULL and not `json`: the column itself. */
static coulomb_expr *leaf(coulomb_collection *coll, const char *column, bool json,
                          const char *pointer, struct node node,
                          const coulomb_value *values)
{
    coulomb_client *c = coll->client;
    struct pool pool;
    struct pointer p;
    coulomb_expr *e = NULL;
    int code = client_enter(c);

    pool_init(&pool, c->heap);
    if (node.op == COULOMB_IS_NULL || node.op == COULOMB_IS_ABSENT)
        node.count = 0; /* whatever value was given */
    if (code == COULOMB_OK && (unsigned)node.op > COULOMB_CONTAINS)
        code = client_fail(c, COULOMB_E_ARGUMENT, "%d is no operator", (int)node.op);
    if (code == COULOMB_OK && node.op == COULOMB_CONTAINS &&
        values[0].type == COULOMB_ARRAY)
        code = client_fail(c, COULOMB_E_TYPE, "an array contains no arrays");
    if (code == COULOMB_OK)
        code = node_column(coll, column, &node);
    if (code == COULOMB_OK && json) {
        code = json_column(coll, column, pointer, &pool, &p);
        node.pointer = &p;
    }
    if (code == COULOMB_OK)
        e = leaf_of(coll, &node, values);
    pool_fini(&pool);
    return e;
}

coulomb_expr *coulomb_where(coulomb_collection *coll, const char *column, coulomb_op op,
                            coulomb_value value)
{
    struct node n = {.type = COULOMB_NODE_COMPARE, .op = op, .count = 1};

    return leaf(coll, column, false, NULL, n, &value);
}

coulomb_expr *coulomb_in(coulomb_collection *coll, const char *column,
                         const coulomb_value *values, size_t count)
{
    struct node n = {.type = COULOMB_NODE_IN, .op = COULOMB_EQ, .count = count};

    return leaf(coll, column, false, NULL, n, values);
}

coulomb_expr *coulomb_where_json(coulomb_collection *coll, const char *column,
                                 const char *pointer, coulomb_op op, coulomb_value value)
{
    struct node n = {.type = COULOMB_NODE_COMPARE, .op = op, .count = 1};

    return leaf(coll, column, true, pointer, n, &value);
}

coulomb_expr *coulomb_in_json(coulomb_collection *coll, const char *column,
                              const char *pointer, const coulomb_value *values,
                              size_t count)
{
    struct node n = {.type = COULOMB_NODE_IN, .op = COULOMB_EQ, .count = count};

    return leaf(coll, column, true, pointer, n, values);
}

/* Both operands' blocks go over into the joined one. */
static void pool_join(struct pool *to, struct pool *from)
{
    struct pool other = *from;

    pool_init(from, to->heap);
    if (!to->head) {
        *to = other;
        return;
    }
    pool_append(to, &other);
}

static struct node *joined_nodes(const coulomb_expr *a, const coulomb_expr *b,
                                 size_t count)
{
    struct node *nodes;

    if (count > EXPR_NODES_MAX) {
        client_fail(a->client, COULOMB_E_LIMIT, "a condition of more than %d parts",
                    EXPR_NODES_MAX);
        return NULL;
    }
    if (b && a->layout != b->layout) {
        client_fail(a->client, COULOMB_E_ARGUMENT,
                    "the conditions are of two collections");
        return NULL;
    }
    nodes = heap_alloc(a->heap, count * sizeof(*nodes));
    if (!nodes)
        client_no_memory(a->client);
    return nodes;
}

static coulomb_expr *join(coulomb_expr *a, coulomb_expr *b, coulomb_node_type type)
{
    size_t count = b ? a->count + b->count + 1 : a->count + 1;
    struct node *nodes = joined_nodes(a, b, count);

    if (!nodes) {
        coulomb_expr_free(a);
        coulomb_expr_free(b);
        return NULL;
    }
    memcpy(nodes, a->nodes, a->count * sizeof(*nodes));
    if (b) {
        memcpy(nodes + a->count, b->nodes, b->count * sizeof(*nodes));
        pool_join(&a->pool, &b->pool);
        coulomb_expr_free(b);
    }
    nodes[count - 1] = (struct node){.type = type};
    heap_free(a->heap, a->nodes, a->count * sizeof(*nodes));
    a->nodes = nodes;
    a->count = count;
    return a;
}

static coulomb_expr *join_two(coulomb_expr *a, coulomb_expr *b, coulomb_node_type type)
{
    if (a && b)
        return join(a, b, type);
    coulomb_expr_free(a);
    coulomb_expr_free(b);
    return NULL;
}

coulomb_expr *coulomb_and(coulomb_expr *a, coulomb_expr *b)
{
    return join_two(a, b, COULOMB_NODE_AND);
}

coulomb_expr *coulomb_or(coulomb_expr *a, coulomb_expr *b)
{
    return join_two(a, b, COULOMB_NODE_OR);
}

coulomb_expr *coulomb_not(coulomb_expr *a)
{
    return a ? join(a, NULL, COULOMB_NODE_NOT) : NULL;
}

/* A copy of these nodes. */
static struct coulomb_expr *copy_nodes(const struct coulomb_expr *from,
                                       const struct node *nodes, size_t count)
{
    struct coulomb_expr *e = expr_new(from->client, from->layout, count);

    for (size_t i = 0; e && i < count; i++) {
        e->nodes[i] = nodes[i];
        if (node_keep(e, &e->nodes[i], nodes[i].values) != COULOMB_OK) {
            coulomb_expr_free(e);
            e = NULL;
        }
    }
    if (!e)
        client_no_memory(from->client);
    return e;
}

struct coulomb_expr *expr_copy(const struct coulomb_expr *from)
{
    return copy_nodes(from, from->nodes, from->count);
}

static bool is_leaf(const struct node *n)
{
    return n->type == COULOMB_NODE_COMPARE || n->type == COULOMB_NODE_IN;
}

/* --- What a server can be asked ------------------------------------------------------------------ */

/* Part of the condition: where its nodes begin among those that stay. */
struct part {
    size_t begin;
    bool known;  /* to the server; else it has no nodes */
    bool weaker; /* than it was, which NOT would turn round */
};

/* Two parts and their operator become one. An AND whose one side is unknown is its other side, which
 * wants more rows; anything else with an unknown side is unknown. */
static void reduce_two(struct node *kept, size_t *count, struct part *a,
                       const struct part *b, const struct node *n)
{
    bool both = a->known && b->known;
    bool either = (a->known || b->known) && n->type == COULOMB_NODE_AND;

    if (both)
        kept[(*count)++] = *n;
    else if (!either)
        *count = a->begin;
    a->known = both || either;
    a->weaker = a->weaker || b->weaker || (either && !both);
}

static void reduce_not(struct node *kept, size_t *count, struct part *a,
                       const struct node *n)
{
    if (a->known && !a->weaker) {
        kept[(*count)++] = *n;
    } else {
        *count = a->begin;
        a->known = false;
    }
}

int expr_server_part(const struct coulomb_expr *e, struct coulomb_expr **out)
{
    struct pool pool;
    struct node *kept;
    struct part *parts;
    size_t count = 0;
    size_t top = 0;

    *out = NULL;
    pool_init(&pool, e->heap);
    kept = pool_alloc(&pool, e->count * sizeof(*kept));
    parts = pool_alloc(&pool, e->count * sizeof(*parts));
    for (size_t i = 0; kept && parts && i < e->count; i++) {
        const struct node *n = &e->nodes[i];

        if (is_leaf(n)) {
            parts[top++] = (struct part){count, n->column >= 0, false};
            if (n->column >= 0)
                kept[count++] = *n;
        } else if (n->type == COULOMB_NODE_NOT) {
            reduce_not(kept, &count, &parts[top - 1], n);
        } else {
            top--;
            reduce_two(kept, &count, &parts[top - 1], &parts[top], n);
        }
    }
    if (count > 0)
        *out = copy_nodes(e, kept, count);
    pool_fini(&pool);
    return !kept || !parts || (count > 0 && !*out) ? client_no_memory(e->client)
                                                   : COULOMB_OK;
}

/* --- Reading ---------------------------------------------------------------------------------- */

size_t coulomb_expr_count(const coulomb_expr *e)
{
    return e->count;
}

coulomb_node coulomb_expr_node(const coulomb_expr *e, size_t i)
{
    const struct node *n = &e->nodes[i];
    coulomb_node out = {n->type, n->op, NULL, NULL, n->values, n->count};

    if (is_leaf(n) && n->column == COLUMN_SYNCED)
        out.column = "$synced";
    else if (is_leaf(n) && n->column == COLUMN_ORIGIN)
        out.column = "$origin";
    else if (is_leaf(n))
        out.column = e->layout->columns[n->column].name;
    if (n->pointer)
        out.pointer = n->pointer->text;
    return out;
}

/* --- Evaluation ------------------------------------------------------------------------------- */

enum { FALSE_ = 0, TRUE_ = 1, UNKNOWN = 2 }; /* negative: no memory */

static int value_of(const struct node *n, const struct coulomb_row *row,
                    coulomb_meta meta, struct arena *arena, coulomb_value *out)
{
    if (n->column == COLUMN_SYNCED)
        *out = coulomb_bool(meta.synced);
    else if (n->column == COLUMN_ORIGIN)
        *out = coulomb_text(meta.local ? "local" : "remote");
    else
        return field_at(row, (size_t)n->column, n->pointer, arena, out);
    return COULOMB_OK;
}

static bool nothing(const coulomb_value *v)
{
    return v->type == COULOMB_NULL || v->type == COULOMB_ABSENT;
}

/* Values of different types are unequal, and neither less nor greater. */
static int compare(coulomb_op op, const coulomb_value *a, const coulomb_value *b,
                   struct arena *arena)
{
    int order;
    int code;

    if (nothing(a) || nothing(b))
        return UNKNOWN;
    if (a->type != b->type && !(value_is_number(a->type) && value_is_number(b->type)))
        return FALSE_;
    code = value_compare(a, b, arena, &order);
    if (code != COULOMB_OK)
        return code == COULOMB_E_MEMORY ? code : UNKNOWN;
    switch (op) {
    case COULOMB_EQ:
        return order == 0;
    case COULOMB_GT:
        return order > 0;
    case COULOMB_GTE:
        return order >= 0;
    case COULOMB_LT:
        return order < 0;
    case COULOMB_LTE:
        return order <= 0;
    case COULOMB_IS_NULL:
    case COULOMB_IS_ABSENT:
    case COULOMB_CONTAINS:
        break;
    }
    return UNKNOWN;
}

/* One of the array's elements is equal, as in "value = ANY (array)". What is no array has none. */
static int contains(const coulomb_value *array, const coulomb_value *v,
                    struct arena *arena)
{
    int result = FALSE_;

    if (nothing(array) || nothing(v))
        return UNKNOWN;
    for (size_t i = 0; array->type == COULOMB_ARRAY && i < array->v.array->count; i++) {
        int one = compare(COULOMB_EQ, &array->v.array->items[i], v, arena);

        if (one < 0 || one == TRUE_)
            return one;
        if (one == UNKNOWN)
            result = UNKNOWN;
    }
    return result;
}

static int eval_leaf(const struct node *n, const struct coulomb_row *row,
                     coulomb_meta meta, struct arena *arena)
{
    coulomb_value v;
    int result = value_of(n, row, meta, arena, &v);

    if (result < 0)
        return result;
    if (n->op == COULOMB_CONTAINS)
        return contains(&v, &n->values[0], arena);
    result = FALSE_;
    if (n->op == COULOMB_IS_NULL)
        return v.type == COULOMB_NULL;
    if (n->op == COULOMB_IS_ABSENT)
        return v.type == COULOMB_ABSENT;
    if (n->type == COULOMB_NODE_IN && nothing(&v))
        return UNKNOWN;
    for (size_t i = 0; i < n->count && result != TRUE_; i++) {
        int one = compare(n->op, &v, &n->values[i], arena);

        if (one < 0)
            return one;
        if (one != FALSE_)
            result = one;
    }
    return result;
}

static int both(coulomb_node_type type, int a, int b)
{
    int decides = type == COULOMB_NODE_AND ? FALSE_ : TRUE_;

    if (a == decides || b == decides)
        return decides;
    return a == UNKNOWN || b == UNKNOWN ? UNKNOWN : !decides;
}

int expr_eval(const struct coulomb_expr *e, const struct coulomb_row *row,
              coulomb_meta meta, struct arena *arena)
{
    short stack[EXPR_NODES_MAX] = {0};
    size_t top = 0;
    int one;

    arena_reset(arena);
    for (size_t i = 0; i < e->count && i < EXPR_NODES_MAX; i++) {
        const struct node *n = &e->nodes[i];

        switch (n->type) {
        case COULOMB_NODE_COMPARE:
        case COULOMB_NODE_IN:
            one = eval_leaf(n, row, meta, arena);
            if (one < 0)
                return one;
            stack[top++] = (short)one;
            break;
        case COULOMB_NODE_NOT:
            if (top > 0 && stack[top - 1] != UNKNOWN)
                stack[top - 1] = !stack[top - 1];
            break;
        case COULOMB_NODE_AND:
        case COULOMB_NODE_OR:
            if (top < 2)
                return UNKNOWN; /* no maker makes that */
            top--;
            stack[top - 1] = (short)both(n->type, stack[top - 1], stack[top]);
            break;
        }
    }
    return stack[0];
}
