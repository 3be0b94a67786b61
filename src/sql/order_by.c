/*
 * ORDER BY lists (spec 1.7): plain columns and positions, with their directions. Whatever could
 * be computed is refused, so that a list tells nothing about columns that a client may not see.
 *
 * The list is parsed behind "SELECT 1 ORDER BY ". Locations count from there, as upstream's do:
 * the list's first character is 18.
 */

#include "sql/resolve.h"

#define ORDER_PREFIX "SELECT 1 ORDER BY "

struct parse_order {
    struct parse parse; /* first */
    const uint16_t *selected;
    size_t selected_count;
    struct sql_order_item *items; /* room for each of the table's columns */
    size_t count;
};

/* ---- what is refused ---- */

static int location_of(const PgQuery__Node *node)
{
    const ProtobufCFieldDescriptor *of_node = protobuf_c_message_descriptor_get_field(
        &pg_query__node__descriptor, (unsigned)node->node_case);
    const ProtobufCMessage *message = NULL;
    const ProtobufCFieldDescriptor *field = NULL;
    int32_t location = -1;

    if (of_node && of_node->type == PROTOBUF_C_TYPE_MESSAGE)
        memcpy(&message, (const char *)node + of_node->offset, sizeof(message));
    if (message)
        field = protobuf_c_message_descriptor_get_field_by_name(message->descriptor,
                                                                "location");
    if (field && field->type == PROTOBUF_C_TYPE_INT32)
        memcpy(&location, (const char *)message + field->offset, sizeof(location));
    return location >= 0 ? location : (int)sizeof(ORDER_PREFIX) - 1;
}

static bool is_plain(const PgQuery__Node *node)
{
    return node->node_case == PG_QUERY__NODE__NODE_COLUMN_REF ||
           node->node_case == PG_QUERY__NODE__NODE_A_CONST;
}

static void refuse_expression(struct resolve *r, const PgQuery__Node *node)
{
    static const char words[] = "expressions are not allowed in ORDER BY clauses";

    while (node->node_case == PG_QUERY__NODE__NODE_TYPE_CAST) {
        const PgQuery__TypeCast *cast = node->type_cast;

        if (is_plain(cast->arg)) {
            resolve_refuse(r, cast->type_name->location, "TypeName %s", words);
            return;
        }
        node = cast->arg;
    }
    if (node->node_case == PG_QUERY__NODE__NODE_PARAM_REF)
        resolve_refuse(r, location_of(node),
                       "parameter $%d is not supported in ORDER BY clauses",
                       node->param_ref->number);
    else
        resolve_refuse(r, location_of(node), "%s %s", resolve_node_name(node), words);
}

/* ---- an item ---- */

/* A position in the list of what is selected, from 1. */
static bool read_position(struct parse_order *p, const PgQuery__AConst *c, size_t *column)
{
    struct resolve *r = p->parse.r;
    int64_t n;

    if (c->isnull || c->val_case != PG_QUERY__A__CONST__VAL_IVAL) {
        resolve_refuse(r, c->location, "non-integer constant in ORDER BY");
        return false;
    }
    n = c->ival->ival;
    if (n < 1 || (uint64_t)n > p->selected_count) {
        resolve_refuse(r, c->location, "ORDER BY position %lld is not in select list",
                       (long long)n);
        return false;
    }
    *column = p->selected[n - 1];
    return true;
}

static bool read_column(struct parse_order *p, const PgQuery__Node *node, size_t *column)
{
    struct resolve *r = p->parse.r;

    if (node->node_case == PG_QUERY__NODE__NODE_A_CONST)
        return read_position(p, node->a_const, column);
    if (node->node_case == PG_QUERY__NODE__NODE_COLUMN_REF) {
        const struct sql_expr *e = resolve_column(r, node->column_ref);

        if (e)
            *column = e->column;
        return e != NULL;
    }
    refuse_expression(r, node);
    return false;
}

/* USING < and > are ASC and DESC by another name. */
static bool read_using(struct resolve *r, const PgQuery__SortBy *s, bool *descending)
{
    const char *name = resolve_plain_name(s->use_op, s->n_use_op);

    if (!name || (strcmp(name, "<") != 0 && strcmp(name, ">") != 0)) {
        resolve_refuse(r, s->location >= 0 ? s->location : (int)r->uncounted,
                       "operator %s is not a valid ordering operator", name ? name : "");
        return false;
    }
    *descending = *name == '>';
    return true;
}

static bool read_direction(struct resolve *r, const PgQuery__SortBy *s,
                           struct sql_order_item *item)
{
    item->descending = s->sortby_dir == PG_QUERY__SORT_BY_DIR__SORTBY_DESC;
    if (s->sortby_dir == PG_QUERY__SORT_BY_DIR__SORTBY_USING &&
        !read_using(r, s, &item->descending))
        return false;
    item->nulls_first = item->descending;
    if (s->sortby_nulls == PG_QUERY__SORT_BY_NULLS__SORTBY_NULLS_FIRST)
        item->nulls_first = true;
    else if (s->sortby_nulls == PG_QUERY__SORT_BY_NULLS__SORTBY_NULLS_LAST)
        item->nulls_first = false;
    return true;
}

/* A column that is there again decides nothing any more. */
static void add(struct parse_order *p, struct sql_order_item item)
{
    for (size_t i = 0; i < p->count; i++) {
        if (p->items[i].column == item.column)
            return;
    }
    p->items[p->count++] = item;
}

static bool read_order(struct parse *parse, const PgQuery__SelectStmt *select)
{
    struct parse_order *p = (struct parse_order *)(void *)parse;

    if (select->n_sort_clause == 0 || select->where_clause)
        return false;
    for (size_t i = 0; i < select->n_sort_clause; i++) {
        const PgQuery__Node *node = select->sort_clause[i];
        struct sql_order_item item = {0};

        if (node->node_case != PG_QUERY__NODE__NODE_SORT_BY)
            return false;
        if (!read_column(p, node->sort_by->node, &item.column) ||
            !read_direction(parse->r, node->sort_by, &item))
            return true;
        add(p, item);
    }
    return true;
}

/* ---- entry ---- */

int sql_order_parse(struct slice text, const struct sql_table *table,
                    const uint16_t *selected, size_t selected_count, struct arena *arena,
                    struct sql_order *out, struct err *err)
{
    struct err own = {0};
    struct resolve r = {.table = table, .arena = arena, .err = err ? err : &own};
    struct parse_order p = {.parse = {.r = &r,
                                      .what = "order-by list",
                                      .prefix = ORDER_PREFIX,
                                      .split = "Unexpected `;` in order by",
                                      .read = read_order},
                            .selected = selected,
                            .selected_count = selected_count};
    int rc;

    *out = (struct sql_order){0};
    p.items = arena_calloc(arena, table->count, sizeof(*p.items));
    if (!p.items)
        return err_set(err, ERR_MEMORY, "out of memory for an order-by list");
    rc = parse_select(&p.parse, text);
    if (rc == 0)
        *out = (struct sql_order){p.items, p.count};
    return rc;
}

void sql_order_print(const struct sql_order *order, const struct sql_table *table,
                     struct buf *out)
{
    for (size_t i = 0; i < order->count; i++) {
        const struct sql_order_item *item = &order->items[i];

        if (i > 0)
            buf_puts(out, ", ");
        expr_put_name(out, table->columns[item->column].name);
        buf_puts(out, item->descending ? " DESC" : " ASC");
        buf_puts(out, item->nulls_first ? " NULLS FIRST" : " NULLS LAST");
    }
}
