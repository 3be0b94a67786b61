/* Definitions: their identity, their durable form, and whether a table still serves them.
 *
 * The identity is the durable form itself without what may change under a living shape
 * (nullability, partitions): two definitions are the same iff those bytes are. The durable form
 * carries the columns' types as they were at creation, so that a restarted server
 * compares the catalog and the stream with what its logs were made from. */
#include "server/shape/def.h"

#include <stdlib.h>

#include "base/assert.h"
#include "json/json.h"

/* --- Making --- */

static int uint16_cmp(const void *a, const void *b)
{
    uint16_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x < y ? -1 : x > y;
}

static int def_select(struct shape_def *def, const struct shape_spec *spec)
{
    const struct table *t = spec->table;
    size_t count = spec->selected == NULL ? t->column_count : spec->selected_count;
    def->selected = calloc(count + spec->where_count + 1, sizeof *def->selected);
    if (def->selected == NULL)
        return ERR_MEMORY;
    for (size_t i = 0; i < count; i++)
        def->selected[i] = spec->selected == NULL ? (uint16_t)i : spec->selected[i];
    qsort(def->selected, count, sizeof *def->selected, uint16_cmp);
    def->selected_count = (uint16_t)count;
    def->all_columns = spec->selected == NULL;
    def->where_columns = def->selected + count;
    def->where_count = (uint16_t)spec->where_count;
    for (size_t i = 0; i < spec->where_count; i++)
        def->where_columns[i] = spec->where_columns[i];
    return 0;
}

static void def_put_identity(struct buf *out, const struct shape_def *def)
{
    const struct table *t = def->table;
    buf_printf(out, "%u ", t->oid);
    table_put_name(out, t);
    buf_puts(out, " key");
    for (size_t i = 0; i < t->pk_count; i++) {
        buf_putc(out, ' ');
        json_put_string(out, t->columns[t->pk[i]].name);
    }
    buf_printf(out, "%s %s %s columns", t->has_pk ? "" : " none",
               def->replica == ENCODE_REPLICA_FULL ? "full" : "default",
               def->log_mode == SHAPE_LOG_CHANGES_ONLY ? "changes_only" : "full");
    if (def->all_columns)
        buf_puts(out, " *");
    for (size_t i = 0; i < def->selected_count; i++) {
        buf_putc(out, ' ');
        json_put_string(out, t->columns[def->selected[i]].name);
    }
}

static int def_derive(struct shape_def *def, struct slice where)
{
    struct buf text;
    buf_init(&text, SHAPE_DEF_TEXT_MAX);
    def_put_identity(&text, def);
    if (where.len > 0)
        buf_puts(&text, " where ");
    buf_put_slice(&text, where);
    def->identity = buf_take(&text, &def->identity_len);
    buf_fini(&text);
    if (def->identity != NULL)
        def->where = slice_make(def->identity + def->identity_len - where.len, where.len);

    buf_init(&text, SHAPE_DEF_TEXT_MAX);
    table_put_schema(&text, def->table, def->selected, def->selected_count);
    size_t len;
    def->schema_header = buf_take(&text, &len);
    buf_fini(&text);

    def->plan =
        encode_plan_new(def->table, def->selected, def->selected_count, def->replica);
    bool whole = def->identity != NULL && def->schema_header != NULL && def->plan != NULL;
    return whole ? 0 : ERR_MEMORY;
}

int shape_def_new(const struct shape_spec *spec, struct shape_def **out, struct err *err)
{
    *out = NULL;
    struct shape_def *def = calloc(1, sizeof *def);
    if (def == NULL)
        return err_set(err, ERR_MEMORY, "no memory for a shape's definition");
    atomic_init(&def->refs, 1);
    def->table = table_retain(spec->table);
    def->replica = spec->replica;
    def->log_mode = spec->log_mode;
    if (def_select(def, spec) < 0 || def_derive(def, spec->where) < 0) {
        shape_def_release(def);
        return err_set(err, ERR_MEMORY, "no memory for a shape's definition");
    }
    *out = def;
    return 0;
}

/* The definition over another copy of its table, whose identity is the same. */
static int def_over(const struct shape_def *def, struct table *table,
                    struct shape_def **out, struct err *err)
{
    if (table == NULL)
        return err_set(err, ERR_MEMORY, "no memory for a shape's definition");
    struct shape_spec spec = {
        .table = table,
        .selected = def->all_columns ? NULL : def->selected,
        .selected_count = def->selected_count,
        .replica = def->replica,
        .log_mode = def->log_mode,
        .where = def->where,
        .where_columns = def->where_columns,
        .where_count = def->where_count,
    };
    return shape_def_new(&spec, out, err);
}

int shape_def_relaxed(const struct shape_def *def, const uint16_t *columns, size_t count,
                      struct shape_def **out, struct err *err)
{
    struct table *table = table_copy(def->table);
    for (size_t i = 0; table != NULL && i < count; i++)
        table->columns[columns[i]].not_null = false;
    int rc = def_over(def, table, out, err);
    table_release(table);
    return rc;
}

int shape_def_with_children(const struct shape_def *def, uint32_t *children, size_t count,
                            struct shape_def **out, struct err *err)
{
    struct table model = *def->table;
    model.children = children;
    model.child_count = (uint32_t)count;
    struct table *table = table_copy(&model);
    int rc = def_over(def, table, out, err);
    table_release(table);
    return rc;
}

struct shape_def *shape_def_retain(struct shape_def *def)
{
    atomic_fetch_add_explicit(&def->refs, 1, memory_order_relaxed);
    return def;
}

void shape_def_release(struct shape_def *def)
{
    if (def == NULL ||
        atomic_fetch_sub_explicit(&def->refs, 1, memory_order_acq_rel) != 1)
        return;
    table_release(def->table);
    encode_plan_release(def->plan);
    free(def->selected);
    free(def->identity);
    free(def->schema_header);
    free(def);
}

struct slice shape_def_identity(const struct shape_def *def)
{
    return slice_make(def->identity, def->identity_len);
}

/* --- The durable form ---
 *
 * {"version":2,"oid":N,"schema":"…","name":"…","kind":"r","partition":false,"has_pk":true,
 *  "collation":N,
 *  "columns":[{"name":"…","type":"…","type_oid":N,"typmod":N,"dims":N,"attnum":N,"pk":N,
 *              "not_null":b,"generated":b,
 *              "base":[oid,typmod],"collation":[kind,oid],
 *              "enum":{"oid":N,"schema":"…","name":"…","labels":["…",…]}},…],
 *  "pk":[N,…],"children":[N,…],"all":b,"selected":[N,…],"replica":"…","log":"…",
 *  "where":"…","where_columns":[N,…]}
 *
 * base, collation, enum and both of where are left out where there is none. Kinds of collation
 * are 0 the database's, 1 C, 2 deterministic, 3 other. */

static int collation_number(enum sql_collation collation)
{
    switch (collation) {
    case SQL_COLLATION_DEFAULT:
        return 0;
    case SQL_COLLATION_C:
        return 1;
    case SQL_COLLATION_DETERMINISTIC:
        return 2;
    case SQL_COLLATION_OTHER:
        break;
    }
    return 3;
}

static void put_enum(struct buf *out, const struct sql_enum *e)
{
    buf_printf(out, ",\"enum\":{\"oid\":%u,\"schema\":", e->oid);
    json_put_string(out, e->schema);
    buf_puts(out, ",\"name\":");
    json_put_string(out, e->name);
    buf_puts(out, ",\"labels\":[");
    for (size_t i = 0; i < e->label_count; i++) {
        if (i > 0)
            buf_putc(out, ',');
        json_put_string(out, e->labels[i]);
    }
    buf_puts(out, "]}");
}

static void put_number_list(struct buf *out, const char *name, const uint32_t *wide,
                            const uint16_t *narrow, size_t count)
{
    ASSERT(count == 0 || wide != NULL || narrow != NULL);
    buf_printf(out, ",\"%s\":[", name);
    for (size_t i = 0; i < count; i++)
        buf_printf(out, "%s%u", i == 0 ? "" : ",", wide != NULL ? wide[i] : narrow[i]);
    buf_putc(out, ']');
}

static void put_column(struct buf *out, const struct table_column *c)
{
    buf_puts(out, "{\"name\":");
    json_put_string(out, c->name);
    buf_puts(out, ",\"type\":");
    json_put_string(out, c->type_name);
    buf_printf(out,
               ",\"type_oid\":%u,\"typmod\":%d,\"dims\":%d,\"attnum\":%d,\"pk\":%d,"
               "\"not_null\":%s,\"generated\":%s",
               c->type_oid, c->typmod, c->dims, c->attnum, c->pk_index,
               c->not_null ? "true" : "false", c->generated ? "true" : "false");
    if (c->base_oid != 0)
        buf_printf(out, ",\"base\":[%u,%d]", c->base_oid, c->base_typmod);
    if (c->collation_oid != 0)
        buf_printf(out, ",\"collation\":[%d,%u]", collation_number(c->collation),
                   c->collation_oid);
    if (c->enum_type != NULL)
        put_enum(out, c->enum_type);
    buf_putc(out, '}');
}

int shape_def_print(const struct shape_def *def, struct buf *out)
{
    const struct table *t = def->table;
    buf_printf(out, "{\"version\":%d,\"oid\":%u,\"schema\":", SHAPE_DEF_VERSION, t->oid);
    json_put_string(out, t->schema);
    buf_puts(out, ",\"name\":");
    json_put_string(out, t->name);
    buf_printf(
        out,
        ",\"kind\":\"%c\",\"partition\":%s,\"has_pk\":%s,\"collation\":%d,\"columns\":[",
        t->kind, t->is_partition ? "true" : "false", t->has_pk ? "true" : "false",
        collation_number(t->collation));
    for (size_t i = 0; i < t->column_count; i++) {
        if (i > 0)
            buf_putc(out, ',');
        put_column(out, &t->columns[i]);
    }
    buf_putc(out, ']');
    put_number_list(out, "pk", NULL, t->pk, t->pk_count);
    put_number_list(out, "children", t->children, NULL, t->child_count);
    buf_printf(out, ",\"all\":%s", def->all_columns ? "true" : "false");
    put_number_list(out, "selected", NULL, def->selected, def->selected_count);
    buf_printf(out, ",\"replica\":\"%s\",\"log\":\"%s\"",
               def->replica == ENCODE_REPLICA_FULL ? "full" : "default",
               def->log_mode == SHAPE_LOG_CHANGES_ONLY ? "changes_only" : "full");
    if (def->where.len > 0) {
        buf_puts(out, ",\"where\":");
        json_put_string(out, def->where);
        put_number_list(out, "where_columns", NULL, def->where_columns, def->where_count);
    }
    buf_putc(out, '}');
    return out->failed;
}

/* --- Does a table still serve it? --- */

static bool same_key(const struct table *a, const struct table *b)
{
    if (a->has_pk != b->has_pk || (a->has_pk && a->pk_count != b->pk_count))
        return false;
    for (size_t i = 0; a->has_pk && i < a->pk_count; i++) {
        if (!slice_eq(a->columns[a->pk[i]].name, b->columns[b->pk[i]].name))
            return false;
    }
    return true;
}

static void say(struct buf *why, const char *subject, struct slice name, const char *what)
{
    if (why != NULL)
        buf_printf(why, "%s \"%.*s\" %s", subject, (int)name.len, name.ptr, what);
}

static bool column_fits(const struct table_column *was, const struct table *now,
                        struct buf *why)
{
    int at = table_column_index(now, was->name);
    if (at < 0) {
        say(why, "column", was->name, "is gone");
        return false;
    }
    const struct table_column *is = &now->columns[at];
    if (was->type_oid != is->type_oid || was->typmod != is->typmod) {
        say(why, "column", was->name, "changed its type");
        return false;
    }
    return true;
}

static bool where_column_fits(const struct table_column *was, const struct table *now,
                              struct buf *why)
{
    if (!column_fits(was, now, why))
        return false;
    if (table_column_sql_same(was, &now->columns[table_column_index(now, was->name)]))
        return true;
    say(why, "column", was->name, "changed in what the where clause sees of it");
    return false;
}

bool shape_def_fits(const struct shape_def *def, const struct table *now, struct buf *why)
{
    const struct table *was = def->table;
    if (was->oid != now->oid || !slice_eq(was->schema, now->schema) ||
        !slice_eq(was->name, now->name)) {
        say(why, "the table", was->name, "is another one now");
        return false;
    }
    if (!same_key(was, now)) {
        say(why, "the primary key of", was->name, "changed");
        return false;
    }
    for (size_t i = 0; i < def->selected_count; i++) {
        if (!column_fits(&was->columns[def->selected[i]], now, why))
            return false;
    }
    for (size_t i = 0; i < def->where_count; i++) {
        if (!where_column_fits(&was->columns[def->where_columns[i]], now, why))
            return false;
    }
    bool covers = def->all_columns || !was->has_pk;
    if (covers && was->column_count != now->column_count) {
        say(why, "the table", was->name, "has other columns now");
        return false;
    }
    return true;
}
