/* The rules of params.h that need the table. */
#include "server/http/params.h"

#define MESSAGE_MAX_BYTES (1024u * 1024)

static int refuse(struct param_errors *errors, const char *field, const char *text)
{
    if (!text)
        return ERR_MEMORY;
    errors->items[0] = (struct param_error){.field = field, .text = text};
    errors->count = 1;
    return ERR_INVALID;
}

/* A text under construction: a prefix and names separated by ", ". */
struct names {
    struct buf text;
    size_t count;
};

static void names_init(struct names *n, const char *prefix)
{
    buf_init(&n->text, MESSAGE_MAX_BYTES);
    buf_puts(&n->text, prefix);
    n->count = 0;
}

static void names_add(struct names *n, struct slice name)
{
    if (n->count++ > 0)
        buf_puts(&n->text, ", ");
    buf_put_slice(&n->text, name);
}

/* Ends it: an error when a name was added. */
static int names_refuse(struct names *n, const char *suffix, struct arena *arena,
                        struct param_errors *errors, const char *field)
{
    int rc = 0;

    if (n->count > 0) {
        buf_puts(&n->text, suffix);
        rc = refuse(errors, field,
                    n->text.failed ? NULL : arena_dup(arena, buf_slice(&n->text)));
    }
    buf_fini(&n->text);
    return rc;
}

/* --- Lists against the table --- */

/* Per column of the table: whether a list names it. */
static bool *marks_new(struct arena *arena, const struct table *table)
{
    return arena_calloc(arena, table->column_count ? table->column_count : 1,
                        sizeof(bool));
}

static int check_key(const struct table *table, const bool *listed, const char *prefix,
                     const char *field, struct arena *arena, struct param_errors *errors)
{
    struct names missing;

    names_init(&missing, prefix);
    for (uint16_t i = 0; i < table->pk_count; i++)
        if (!listed[table->pk[i]])
            names_add(&missing, table->columns[table->pk[i]].name);
    return names_refuse(&missing, "", arena, errors, field);
}

/* Marks the columns of a list in `listed`; those unknown, listed twice, or outside `allowed`
 * (may be NULL) are an error, but one on the primary key comes first. */
struct list_rule {
    const char *field;
    const char *missing;
    const char *unknown;
};

static int check_list(const struct ident_list *list, const struct table *table,
                      const struct list_rule *rule, const bool *allowed, bool *listed,
                      struct arena *arena, struct param_errors *errors)
{
    struct names unknown;

    names_init(&unknown, rule->unknown);
    for (size_t i = 0; i < list->count; i++) {
        int column = table_column_index(table, list->names[i]);

        if (column < 0 || listed[column] || (allowed && !allowed[column]))
            names_add(&unknown, list->names[i]);
        if (column >= 0)
            listed[column] = true;
    }
    int rc = check_key(table, listed, rule->missing, rule->field, arena, errors);
    if (rc != 0) {
        buf_fini(&unknown.text);
        return rc;
    }
    return names_refuse(&unknown, "", arena, errors, rule->field);
}

static int check_generated(const struct table *table, const bool *listed,
                           bool explicit_list, struct arena *arena,
                           struct param_errors *errors)
{
    struct names generated;

    names_init(&generated,
               "The following columns are generated and cannot be included in "
               "the shape: ");
    for (uint16_t i = 0; i < table->column_count; i++)
        if (listed[i] && table->columns[i].generated)
            names_add(&generated, table->columns[i].name);
    return names_refuse(&generated,
                        explicit_list
                            ? ""
                            : ". You can exclude them from the shape by explicitly "
                              "listing which columns to fetch in the 'columns' "
                              "query param",
                        arena, errors, "columns");
}

static int select_columns(const struct shape_params *p, const struct table *table,
                          struct arena *arena, bool *listed, struct param_errors *errors)
{
    static const struct list_rule queryable_rule = {
        "queryable_columns",
        "The list of queryable columns must include all primary key columns, missing: ",
        "The following queryable columns are not found on the table: "};
    static const struct list_rule columns_rule = {
        "columns", "The list of columns must include all primary key columns, missing: ",
        "The following columns are not found on the table: "};
    bool *queryable = NULL;
    int rc = 0;

    if (p->has_queryable) {
        queryable = marks_new(arena, table);
        rc = !queryable ? ERR_MEMORY
                        : check_list(&p->queryable, table, &queryable_rule, NULL,
                                     queryable, arena, errors);
    }
    if (rc != 0)
        return rc;
    if (p->has_columns)
        rc = check_list(&p->columns, table, &columns_rule, queryable, listed, arena,
                        errors);
    else
        for (uint16_t i = 0; i < table->column_count; i++)
            listed[i] = queryable ? queryable[i] : true;
    return rc;
}

int params_check_table(const struct shape_params *p, const struct table *table,
                       struct arena *arena, struct selection *out,
                       struct param_errors *errors)
{
    bool *listed = marks_new(arena, table);
    int rc = listed ? select_columns(p, table, arena, listed, errors) : ERR_MEMORY;

    out->all = !p->has_columns && !p->has_queryable;
    if (rc == 0)
        rc = check_generated(table, listed, !out->all, arena, errors);
    if (rc != 0)
        return rc;
    if (p->params_error)
        return refuse(errors, "params", p->params_error);
    out->columns = arena_calloc(arena, table->column_count ? table->column_count : 1,
                                sizeof *out->columns);
    if (!out->columns)
        return ERR_MEMORY;
    out->count = 0;
    for (uint16_t i = 0; i < table->column_count; i++)
        if (listed[i])
            out->columns[out->count++] = i;
    return 0;
}

int params_refuse_where(const struct err *err, struct arena *arena,
                        struct param_errors *errors)
{
    return refuse(errors, "where", arena_dup(arena, slice_of(err->message)));
}

/* Postgres doesn't tell of them: snapshots could filter by them, the stream could not. */
static int check_where_generated(const struct shape_where *where, struct arena *arena,
                                 struct param_errors *errors)
{
    const struct table *table = where->table;
    struct names generated;

    names_init(&generated,
               "The following columns are generated and cannot be used in the "
               "where clause: ");
    for (size_t i = 0; i < where->column_count; i++)
        if (table->columns[where->columns[i]].generated)
            names_add(&generated, table->columns[where->columns[i]].name);
    return names_refuse(&generated, "", arena, errors, "where");
}

int params_check_where(const struct shape_params *p, struct table *table,
                       struct arena *arena, struct shape_where **out,
                       struct param_errors *errors)
{
    struct err err = {0};

    *out = NULL;
    if (p->where.len == 0)
        return 0;
    int rc = shape_where_parse(table, p->where, &p->params, out, &err);
    if (rc == ERR_INVALID || rc == ERR_UNSUPPORTED || rc == ERR_LIMIT)
        return params_refuse_where(&err, arena, errors);
    if (rc == 0)
        rc = check_where_generated(*out, arena, errors);
    if (rc != 0) {
        shape_where_release(*out);
        *out = NULL;
    }
    return rc;
}

int params_table_missing(const struct shape_params *p, struct arena *arena,
                         struct param_errors *errors)
{
    struct buf text;

    buf_init(&text, MESSAGE_MAX_BYTES);
    buf_puts(&text, "Table \"");
    buf_put_slice(&text, p->table.schema);
    buf_puts(&text, "\".\"");
    buf_put_slice(&text, p->table.name);
    buf_puts(&text, "\" does not exist. If the table name contains capitals or special "
                    "characters you must quote it.");
    int rc =
        refuse(errors, "table", text.failed ? NULL : arena_dup(arena, buf_slice(&text)));
    buf_fini(&text);
    return rc;
}
