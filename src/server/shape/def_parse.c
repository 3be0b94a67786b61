/* A definition read back from its durable form (def.c gives the format). */
#include <jansson.h>
#include <stdlib.h>

#include "server/shape/def.h"

/* Reads an integer member within bounds; clears *good otherwise. */
static int64_t read_number(const json_t *object, const char *name, int64_t min,
                           int64_t max, bool *good)
{
    const json_t *v = json_object_get(object, name);
    int64_t n = json_is_integer(v) ? (int64_t)json_integer_value(v) : min - 1;
    if (!json_is_integer(v) || n < min || n > max)
        *good = false;
    return n;
}

static struct slice read_text(const json_t *object, const char *name, bool *good)
{
    const json_t *v = json_object_get(object, name);
    if (!json_is_string(v)) {
        *good = false;
        return (struct slice){"", 0};
    }
    return slice_make(json_string_value(v), json_string_length(v));
}

static bool read_flag(const json_t *object, const char *name)
{
    return json_is_true(json_object_get(object, name));
}

static size_t read_list(const json_t *object, const char *name, uint32_t *wide,
                        uint16_t *narrow, size_t max, bool *good)
{
    const json_t *list = json_object_get(object, name);
    size_t count = json_array_size(list);
    if (!json_is_array(list) || count > max) {
        *good = false;
        return 0;
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *v = json_array_get(list, i);
        if (!json_is_integer(v) || json_integer_value(v) < 0) {
            *good = false;
            return 0;
        }
        if (wide != NULL)
            wide[i] = (uint32_t)json_integer_value(v);
        else
            narrow[i] = (uint16_t)json_integer_value(v);
    }
    return count;
}

/* A pair of numbers, left alone when the member is missing. */
static void read_pair(const json_t *object, const char *name, int64_t *first,
                      int64_t *second, bool *good)
{
    const json_t *pair = json_object_get(object, name);
    if (pair == NULL)
        return;
    const json_t *a = json_array_get(pair, 0);
    const json_t *b = json_array_get(pair, 1);
    *good = *good && json_is_integer(a) && json_is_integer(b);
    *first = (int64_t)json_integer_value(a);
    *second = (int64_t)json_integer_value(b);
}

static enum sql_collation collation_of(int64_t number, bool *good)
{
    static const enum sql_collation kinds[] = {SQL_COLLATION_DEFAULT, SQL_COLLATION_C,
                                               SQL_COLLATION_DETERMINISTIC,
                                               SQL_COLLATION_OTHER};
    if (number >= 0 && number < (int64_t)(sizeof kinds / sizeof kinds[0]))
        return kinds[number];
    *good = false;
    return SQL_COLLATION_OTHER;
}

/* An owned copy, or NULL: there is none, or no memory (ERR_MEMORY). */
static int read_enum(const json_t *object, const struct sql_enum **out, bool *good)
{
    const json_t *item = json_object_get(object, "enum");
    const json_t *list = json_object_get(item, "labels");
    if (item == NULL)
        return 0;
    struct sql_enum e = {
        .oid = (uint32_t)read_number(item, "oid", 1, UINT32_MAX, good),
        .schema = read_text(item, "schema", good),
        .name = read_text(item, "name", good),
        .label_count = json_array_size(list),
    };
    struct slice *labels = calloc(e.label_count + 1, sizeof *labels);
    if (labels == NULL)
        return ERR_MEMORY;
    for (size_t i = 0; i < e.label_count; i++) {
        const json_t *v = json_array_get(list, i);
        *good = *good && json_is_string(v);
        labels[i] = slice_make(json_string_value(v), json_string_length(v));
    }
    e.labels = labels;
    *out = *good ? table_enum_copy(&e) : NULL;
    free(labels);
    return *out == NULL && *good ? ERR_MEMORY : 0;
}

static int read_facts(const json_t *item, struct table_column *c, bool *good)
{
    int64_t base_oid = 0, base_typmod = -1, kind = 0, collation = 0;
    read_pair(item, "base", &base_oid, &base_typmod, good);
    read_pair(item, "collation", &kind, &collation, good);
    c->base_oid = (uint32_t)base_oid;
    c->base_typmod = (int32_t)base_typmod;
    c->collation = collation_of(kind, good);
    c->collation_oid = (uint32_t)collation;
    return read_enum(item, &c->enum_type, good);
}

static int read_columns(const json_t *list, struct table_column *out, bool *good)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        out[i] = (struct table_column){
            .name = read_text(item, "name", good),
            .type_name = read_text(item, "type", good),
            .type_oid = (uint32_t)read_number(item, "type_oid", 0, UINT32_MAX, good),
            .typmod = (int32_t)read_number(item, "typmod", INT32_MIN, INT32_MAX, good),
            .dims = (int32_t)read_number(item, "dims", 0, INT32_MAX, good),
            .attnum = (int16_t)read_number(item, "attnum", 1, INT16_MAX, good),
            .pk_index = (int16_t)read_number(item, "pk", -1, INT16_MAX, good),
            .not_null = read_flag(item, "not_null"),
            .generated = read_flag(item, "generated"),
        };
        if (read_facts(item, &out[i], good) < 0)
            return ERR_MEMORY;
    }
    return 0;
}

/* Everything that a document says, in arrays as large as the document could need. */
struct def_document {
    struct table table; /* borrows from the document and the arrays below */
    uint16_t *selected;
    size_t selected_count;
    uint16_t *where_columns;
};

static bool indexes_fit(const uint16_t *indexes, size_t count, size_t limit)
{
    for (size_t i = 0; i < count; i++) {
        if (indexes[i] >= limit)
            return false;
    }
    return true;
}

static int unreadable(struct err *err)
{
    return err_set(err, ERR_CORRUPT, "a stored shape definition is not readable");
}

static int no_memory(struct err *err)
{
    return err_set(err, ERR_MEMORY, "no memory for a shape's definition");
}

static int read_document(const json_t *root, struct def_document *d, struct err *err)
{
    bool good = true;
    int64_t version = read_number(root, "version", 1, SHAPE_DEF_VERSION, &good);
    const json_t *columns = json_object_get(root, "columns");
    size_t column_count = json_array_size(columns);
    struct slice kind = read_text(root, "kind", &good);
    if (!good || kind.len != 1 || column_count > UINT16_MAX)
        return unreadable(err);
    struct table *t = &d->table;
    t->oid = (uint32_t)read_number(root, "oid", 0, UINT32_MAX, &good);
    t->schema = read_text(root, "schema", &good);
    t->name = read_text(root, "name", &good);
    t->kind = kind.ptr[0];
    t->replica_identity = 'f';
    t->is_partition = read_flag(root, "partition");
    t->has_pk = read_flag(root, "has_pk");
    t->collation = version > 1
                       ? collation_of(read_number(root, "collation", 0, 3, &good), &good)
                       : SQL_COLLATION_DETERMINISTIC;
    t->column_count = (uint16_t)column_count;
    t->columns = calloc(column_count + 1, sizeof *t->columns);
    t->pk = calloc(column_count + 1, sizeof *t->pk);
    d->selected = calloc(column_count + 1, sizeof *d->selected);
    size_t children = json_array_size(json_object_get(root, "children"));
    t->children = calloc(children + 1, sizeof *t->children);
    if (!t->columns || !t->pk || !d->selected || !t->children ||
        read_columns(columns, t->columns, &good) < 0)
        return no_memory(err);
    t->pk_count = (uint16_t)read_list(root, "pk", NULL, t->pk, column_count, &good);
    t->child_count =
        (uint32_t)read_list(root, "children", t->children, NULL, children, &good);
    d->selected_count =
        read_list(root, "selected", NULL, d->selected, column_count, &good);
    good = good && indexes_fit(t->pk, t->pk_count, column_count) &&
           indexes_fit(d->selected, d->selected_count, column_count);
    return good ? 0 : unreadable(err);
}

/* The clause's members, into arrays of the document, which has as many columns. */
static int read_clause(const json_t *root, struct def_document *d, size_t column_count,
                       struct shape_spec *spec, struct err *err)
{
    bool good = true;
    if (json_object_get(root, "where") == NULL)
        return 0;
    d->where_columns = calloc(column_count + 1, sizeof *d->where_columns);
    if (d->where_columns == NULL)
        return no_memory(err);
    spec->where = read_text(root, "where", &good);
    spec->where_columns = d->where_columns;
    spec->where_count =
        read_list(root, "where_columns", NULL, d->where_columns, column_count, &good);
    spec->maps_case = read_flag(root, "maps_case");
    good = good && indexes_fit(d->where_columns, spec->where_count, column_count);
    return good ? 0 : unreadable(err);
}

static int check_case_map(const struct shape_spec *spec, struct err *err)
{
    if (!spec->maps_case || spec->table->case_map != NULL)
        return 0;
    return err_set(err, ERR_CORRUPT,
                   "how the database mapped the case of letters is not stored");
}

/* With the stored mapping of case, if it is that of the document. */
static struct table *make_table(const json_t *root, struct def_document *d,
                                struct case_map *case_map, bool *good)
{
    struct slice id = json_object_get(root, "case_map") != NULL
                          ? read_text(root, "case_map", good)
                          : (struct slice){"", 0};
    if (case_map != NULL && slice_eq(case_map_id(case_map), id)) {
        d->table.case_map_id = id;
        d->table.case_map = case_map;
    }
    return table_copy(&d->table);
}

static int def_from_document(const json_t *root, struct def_document *d,
                             struct case_map *case_map, struct shape_def **out,
                             struct err *err)
{
    int rc = read_document(root, d, err);
    if (rc != 0)
        return rc;
    bool good = true;
    struct slice replica = read_text(root, "replica", &good);
    struct slice mode = read_text(root, "log", &good);
    struct table *table = make_table(root, d, case_map, &good);
    if (table == NULL)
        return no_memory(err);
    struct shape_spec spec = {
        .table = table,
        .selected = read_flag(root, "all") ? NULL : d->selected,
        .selected_count = d->selected_count,
        .replica = slice_eq(replica, SLICE_LIT("full")) ? ENCODE_REPLICA_FULL
                                                        : ENCODE_REPLICA_DEFAULT,
        .log_mode = slice_eq(mode, SLICE_LIT("changes_only")) ? SHAPE_LOG_CHANGES_ONLY
                                                              : SHAPE_LOG_FULL,
    };
    rc = good ? read_clause(root, d, table->column_count, &spec, err) : unreadable(err);
    rc = rc == 0 ? check_case_map(&spec, err) : rc;
    rc = rc == 0 ? shape_def_new(&spec, out, err) : rc;
    table_release(table);
    return rc;
}

static void document_fini(struct def_document *d)
{
    for (size_t i = 0; d->table.columns && i < d->table.column_count; i++) {
        union {
            const struct sql_enum *borrowed;
            void *owned;
        } p = {.borrowed = d->table.columns[i].enum_type};
        free(p.owned);
    }
    free(d->table.columns);
    free(d->table.pk);
    free(d->table.children);
    free(d->selected);
    free(d->where_columns);
}

/* jansson calls most of its failed allocations a syntax error: they are noted here. */
static _Thread_local bool allocation_failed;

static void *noting_malloc(size_t size)
{
    void *p = malloc(size);
    if (p == NULL)
        allocation_failed = true;
    return p;
}

static int load(struct slice text, json_t **root, struct err *err)
{
    json_set_alloc_funcs(noting_malloc, free);
    allocation_failed = false;
    *root = json_loadb(text.ptr, text.len, JSON_REJECT_DUPLICATES, NULL);
    if (*root == NULL)
        return allocation_failed ? no_memory(err) : unreadable(err);
    return 0;
}

/* --- Many --- */

void shape_def_reader_init(struct shape_def_reader *r, struct case_map *case_map)
{
    *r = (struct shape_def_reader){.case_map = case_map_retain(case_map)};
    buf_init(&r->head, SHAPE_DEF_TEXT_MAX);
}

static void forget_last(struct shape_def_reader *r)
{
    shape_def_release(r->last);
    r->last = NULL;
    buf_reset(&r->head, SIZE_MAX);
}

void shape_def_reader_fini(struct shape_def_reader *r)
{
    forget_last(r);
    buf_fini(&r->head);
    case_map_release(r->case_map);
}

/* The text is `head`, then the members of the clause: where it begins with the same bytes, all
 * that they say is known. */
static void remember(struct shape_def_reader *r, struct shape_def *def, struct slice text)
{
    struct shape_def plain = *def;
    forget_last(r);
    plain.where.len = 0;
    if (shape_def_print(&plain, &r->head) < 0) {
        forget_last(r);
        return;
    }
    r->head.len--; /* the brace */
    if (text.len > r->head.len && memcmp(text.ptr, r->head.ptr, r->head.len) == 0)
        r->last = shape_def_retain(def);
}

static bool begins_as_last(const struct shape_def_reader *r, struct slice text)
{
    return r->last != NULL && text.len > r->head.len + 1 &&
           memcmp(text.ptr, r->head.ptr, r->head.len) == 0 &&
           text.ptr[r->head.len] == ',';
}

static int read_rest(struct shape_def_reader *r, struct slice text,
                     struct shape_def **out, struct err *err)
{
    const struct shape_def *last = r->last;
    struct def_document d = {0};
    struct shape_spec spec = {.table = last->table, .log_mode = last->log_mode};
    struct buf rest;
    json_t *root = NULL;
    buf_init(&rest, SHAPE_DEF_TEXT_MAX);
    buf_putc(&rest, '{');
    buf_put(&rest, text.ptr + r->head.len + 1, text.len - r->head.len - 1);
    int rc = rest.failed ? no_memory(err) : load(buf_slice(&rest), &root, err);
    rc = rc == 0 ? read_clause(root, &d, last->table->column_count, &spec, err) : rc;
    rc = rc == 0 ? check_case_map(&spec, err) : rc;
    rc = rc == 0 ? shape_def_of(last->columns, &spec, out, err) : rc;
    json_decref(root);
    free(d.where_columns);
    buf_fini(&rest);
    return rc;
}

int shape_def_read(struct shape_def_reader *r, struct slice text, struct shape_def **out,
                   struct err *err)
{
    json_t *root;
    *out = NULL;
    if (begins_as_last(r, text))
        return read_rest(r, text, out, err);
    int rc = load(text, &root, err);
    if (rc < 0)
        return rc;
    struct def_document d = {0};
    rc = def_from_document(root, &d, r->case_map, out, err);
    document_fini(&d);
    json_decref(root);
    if (rc == 0)
        remember(r, *out, text);
    return rc;
}
