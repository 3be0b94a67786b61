/* Definitions: their identity, their durable form, and whether a table still serves them.
 *
 * The identity is a hash of the durable form without what may change under a living shape
 * (nullability, partitions). The durable form
 * carries the columns' types as they were at creation, so that a restarted server
 * compares the catalog and the stream with what its logs were made from. */
#include "server/shape/def.h"

#include <stdlib.h>
#include <sys/random.h>
#include <xxhash.h>

#include "base/assert.h"
#include "base/clock.h"
#include "json/json.h"

/* --- Making --- */

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
    if (def->where.len > 0)
        buf_puts(out, " where ");
    buf_put_slice(out, def->where);
}

static atomic_uint_fast64_t identity_seed;

/* Chosen once for the process. */
static uint64_t seed(void)
{
    uint64_t known = atomic_load(&identity_seed);
    uint64_t chosen;
    if (known != 0)
        return known;
    if (getrandom(&chosen, sizeof chosen, 0) != (ssize_t)sizeof chosen)
        chosen = (uint64_t)clock_wall_us();
    chosen |= 1;
    return atomic_compare_exchange_strong(&identity_seed, &known, chosen) ? chosen
                                                                          : known;
}

static int def_identify(struct shape_def *def)
{
    struct buf text;
    buf_init(&text, SHAPE_DEF_TEXT_MAX);
    def_put_identity(&text, def);
    int rc = text.failed;
    if (rc == 0) {
        XXH128_hash_t hash = XXH3_128bits_withSeed(text.ptr, text.len, seed());
        def->identity[0] = hash.low64;
        def->identity[1] = hash.high64;
    }
    buf_fini(&text);
    return rc;
}

static int no_memory(struct err *err)
{
    return err_set(err, ERR_MEMORY, "no memory for a shape's definition");
}

int shape_def_of(struct shape_columns *columns, const struct shape_spec *spec,
                 struct shape_def **out, struct err *err)
{
    size_t reads = spec->where_count * sizeof(uint16_t);
    struct shape_def *def = calloc(1, sizeof *def + reads + spec->where.len + 1);
    if (def == NULL)
        return no_memory(err);
    atomic_init(&def->refs, 1);
    def->log_mode = spec->log_mode;
    def->columns = shape_columns_retain(columns);
    def->table = columns->table;
    def->plan = columns->plan;
    def->selected = columns->selected;
    def->selected_count = columns->selected_count;
    def->all_columns = columns->all;
    def->replica = columns->replica;
    char *text = (char *)def->tail + reads;
    if (reads > 0)
        memcpy(def->tail, spec->where_columns, reads);
    if (spec->where.len > 0)
        memcpy(text, spec->where.ptr, spec->where.len);
    def->maps_case = spec->maps_case;
    def->where_columns = def->tail;
    def->where_count = (uint16_t)spec->where_count;
    def->where = slice_make(text, spec->where.len);
    if (def_identify(def) < 0) {
        shape_def_release(def);
        return no_memory(err);
    }
    *out = def;
    return 0;
}

int shape_def_new(const struct shape_spec *spec, struct shape_def **out, struct err *err)
{
    *out = NULL;
    struct shape_columns *columns = shape_columns_new(
        spec->table, spec->selected, spec->selected_count, spec->replica);
    if (columns == NULL)
        return no_memory(err);
    int rc = shape_def_of(columns, spec, out, err);
    shape_columns_release(columns);
    return rc;
}

static struct shape_spec spec_of(const struct shape_def *def)
{
    return (struct shape_spec){
        .table = def->table,
        .selected = def->all_columns ? NULL : def->selected,
        .selected_count = def->selected_count,
        .replica = def->replica,
        .log_mode = def->log_mode,
        .where = def->where,
        .where_columns = def->where_columns,
        .where_count = def->where_count,
        .maps_case = def->maps_case,
    };
}

int shape_def_on(const struct shape_def *def, struct shape_columns *columns,
                 struct shape_def **out, struct err *err)
{
    struct shape_spec spec = spec_of(def);
    *out = NULL;
    return shape_def_of(columns, &spec, out, err);
}

/* The definition over another copy of its table, whose identity is the same. */
static int def_over(const struct shape_def *def, struct table *table,
                    struct shape_def **out, struct err *err)
{
    struct shape_spec spec = spec_of(def);
    if (table == NULL)
        return no_memory(err);
    spec.table = table;
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
    shape_columns_release(def->columns);
    free(def);
}

struct slice shape_def_identity(const struct shape_def *def)
{
    return slice_make((const char *)def->identity, sizeof def->identity);
}

/* --- The durable form ---
 *
 * {"version":2,"oid":N,"schema":"…","name":"…","kind":"r","partition":false,"has_pk":true,
 *  "collation":N,"case_map":"…",
 *  "columns":[{"name":"…","type":"…","type_oid":N,"typmod":N,"dims":N,"attnum":N,"pk":N,
 *              "not_null":b,"generated":b,
 *              "base":[oid,typmod],"collation":[kind,oid],
 *              "enum":{"oid":N,"schema":"…","name":"…","labels":["…",…]}},…],
 *  "pk":[N,…],"children":[N,…],"all":b,"selected":[N,…],"replica":"…","log":"…",
 *  "where":"…","where_columns":[N,…],"maps_case":true}
 *
 * base, collation, enum, case_map and all of where are left out where there is none; the members of
 * the clause come last (def_parse.c). Kinds of collation are 0 the database's, 1 C, 2 deterministic,
 * 3 other. */

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
    buf_printf(out, ",\"kind\":\"%c\",\"partition\":%s,\"has_pk\":%s,\"collation\":%d",
               t->kind, t->is_partition ? "true" : "false", t->has_pk ? "true" : "false",
               collation_number(t->collation));
    if (t->case_map != NULL) {
        buf_puts(out, ",\"case_map\":");
        json_put_string(out, t->case_map_id);
    }
    buf_puts(out, ",\"columns\":[");
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
        if (def->maps_case)
            buf_puts(out, ",\"maps_case\":true");
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
    if (def->maps_case && !slice_eq(was->case_map_id, now->case_map_id)) {
        say(why, "the database of", was->name, "maps the case of letters in another way");
        return false;
    }
    bool covers = def->all_columns || !was->has_pk;
    if (covers && was->column_count != now->column_count) {
        say(why, "the table", was->name, "has other columns now");
        return false;
    }
    return true;
}
