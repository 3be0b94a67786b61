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

static void read_columns(const json_t *list, struct table_column *out, bool *good)
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
    }
}

/* Everything that a document says, in arrays as large as the document could need. */
struct def_document {
    struct table table; /* borrows from the document and the arrays below */
    uint16_t *selected;
    size_t selected_count;
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
    read_number(root, "version", SHAPE_DEF_VERSION, SHAPE_DEF_VERSION, &good);
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
    t->column_count = (uint16_t)column_count;
    t->columns = calloc(column_count + 1, sizeof *t->columns);
    t->pk = calloc(column_count + 1, sizeof *t->pk);
    d->selected = calloc(column_count + 1, sizeof *d->selected);
    size_t children = json_array_size(json_object_get(root, "children"));
    t->children = calloc(children + 1, sizeof *t->children);
    if (!t->columns || !t->pk || !d->selected || !t->children)
        return no_memory(err);
    read_columns(columns, t->columns, &good);
    t->pk_count = (uint16_t)read_list(root, "pk", NULL, t->pk, column_count, &good);
    t->child_count =
        (uint32_t)read_list(root, "children", t->children, NULL, children, &good);
    d->selected_count =
        read_list(root, "selected", NULL, d->selected, column_count, &good);
    good = good && indexes_fit(t->pk, t->pk_count, column_count) &&
           indexes_fit(d->selected, d->selected_count, column_count);
    return good ? 0 : unreadable(err);
}

static int def_from_document(const json_t *root, struct def_document *d,
                             struct shape_def **out, struct err *err)
{
    int rc = read_document(root, d, err);
    if (rc != 0)
        return rc;
    bool good = true;
    struct slice replica = read_text(root, "replica", &good);
    struct slice mode = read_text(root, "log", &good);
    struct table *table = table_copy(&d->table);
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
    rc = good ? shape_def_new(&spec, out, err) : unreadable(err);
    table_release(table);
    return rc;
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

int shape_def_parse(struct slice text, struct shape_def **out, struct err *err)
{
    *out = NULL;
    json_set_alloc_funcs(noting_malloc, free);
    allocation_failed = false;
    json_t *root = json_loadb(text.ptr, text.len, JSON_REJECT_DUPLICATES, NULL);
    if (root == NULL)
        return allocation_failed ? no_memory(err) : unreadable(err);
    struct def_document d = {0};
    int rc = def_from_document(root, &d, out, err);
    free(d.table.columns);
    free(d.table.pk);
    free(d.table.children);
    free(d.selected);
    json_decref(root);
    return rc;
}
