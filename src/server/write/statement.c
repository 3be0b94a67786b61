/* See statement.h.
 *
 *   insert  INSERT INTO "s"."t" ("a", "b") VALUES ($1, $2)
 *   upsert  … ON CONFLICT ("id") DO UPDATE SET "a" = EXCLUDED."a"
 *   update  WITH m AS (UPDATE … SET "a" = $1 WHERE "id" = $2 AND "b" IS NOT DISTINCT FROM $3
 *             RETURNING 1) SELECT coulomb.written(count(*)) FROM m
 *   delete  likewise
 *
 * coulomb.written raises CB404 for none, so that the commit that was sent behind it does not
 * happen: no answer needs to be awaited in between. */
#include "server/write/statement.h"

#include <stdio.h>

#include "json/json.h"

#define SQL_MAX_BYTES  (1024u * 1024)
#define JSON_OID       114
#define JSONB_OID      3802
#define JSON_LIST_OID  199
#define JSONB_LIST_OID 3807

struct builder {
    struct write_job *job;
    const struct table *table;
    int mutation;
    struct buf sql;
    const char **values;
    Oid *types;
    const struct slice **columns;
    size_t room;
    int count;
};

static bool builder_init(struct builder *b, struct write_job *job, size_t room)
{
    *b = (struct builder){.job = job, .room = room, .mutation = -1};
    buf_init(&b->sql, SQL_MAX_BYTES);
    b->values = arena_calloc(&job->arena, room + 1, sizeof *b->values);
    b->types = arena_calloc(&job->arena, room + 1, sizeof *b->types);
    b->columns = arena_calloc(&job->arena, room + 1, sizeof *b->columns);
    return b->values && b->types && b->columns;
}

static int builder_finish(struct builder *b, int rc, struct write_statement *out)
{
    char *sql =
        rc == 0 && !b->sql.failed ? arena_dup(&b->job->arena, buf_slice(&b->sql)) : NULL;

    if (rc == 0 && !sql)
        rc = ERR_MEMORY;
    *out = (struct write_statement){.sql = sql,
                                    .count = b->count,
                                    .values = b->values,
                                    .types = b->types,
                                    .columns = b->columns,
                                    .table = b->table,
                                    .mutation = b->mutation};
    buf_fini(&b->sql);
    return rc;
}

static void put_name(struct buf *out, struct slice name)
{
    buf_putc(out, '"');
    for (size_t i = 0; i < name.len; i++) {
        if (name.ptr[i] == '"')
            buf_putc(out, '"');
        buf_putc(out, name.ptr[i]);
    }
    buf_putc(out, '"');
}

/* --- Values --- */

struct target {
    struct slice name;
    uint32_t type_oid;
    bool is_json;
    bool is_json_array;
};

static bool is_json_oid(uint32_t oid)
{
    return oid == JSON_OID || oid == JSONB_OID;
}

static struct target target_of_column(const struct table_column *c)
{
    uint32_t oid = c->base_oid ? c->base_oid : c->type_oid;

    return (struct target){c->name, c->type_oid, is_json_oid(oid),
                           oid == JSON_LIST_OID || oid == JSONB_LIST_OID};
}

static int refuse_value(struct builder *b, struct slice name, const char *why)
{
    struct write_result *r = &b->job->result;

    write_refuse(b->job, WRITE_FAILED_VALUE, "\"%.*s\": %s",
                 (int)(name.len < 63 ? name.len : 63), name.ptr, why);
    snprintf(r->column, sizeof r->column, "%.*s", (int)name.len, name.ptr);
    r->mutation = b->mutation;
    return ERR_INVALID;
}

/* The text form of a value for a target; NULL for null. */
static int value_text(struct builder *b, const struct target *to,
                      const struct write_value *value, const char **out)
{
    struct arena *arena = &b->job->arena;
    struct slice text = value->text;
    struct err err = {0};
    struct buf list;

    *out = NULL;
    if (value->kind == WRITE_NULL)
        return 0;
    if (to->is_json)
        text = value->raw;
    else if (value->kind == WRITE_OBJECT)
        return refuse_value(b, to->name,
                            "an object is only for columns of json or jsonb");
    if (value->kind != WRITE_LIST || to->is_json) {
        *out = arena_dup(arena, text);
        return *out ? 0 : ERR_MEMORY;
    }
    buf_init(&list, WRITE_ARENA_MAX);
    int rc = write_put_array(value->raw, to->is_json_array, &list, &err);
    if (rc == 0)
        *out = arena_dup(arena, buf_slice(&list));
    buf_fini(&list);
    if (rc != 0)
        return refuse_value(b, to->name, err.message);
    return *out ? 0 : ERR_MEMORY;
}

/* Appends "$n" for the value. */
static int put_parameter(struct builder *b, const struct target *to,
                         const struct write_value *value, const struct slice *column)
{
    int rc = value_text(b, to, value, &b->values[b->count]);

    if (rc != 0)
        return rc;
    b->types[b->count] = to->type_oid;
    b->columns[b->count] = column;
    buf_printf(&b->sql, "$%d", ++b->count);
    return 0;
}

/* --- Mutations --- */

static void set_table(struct write_job *job, const struct write_mutation *m, int index)
{
    snprintf(job->result.table, sizeof job->result.table, "%.*s", (int)m->table.len,
             m->table.ptr);
    job->result.mutation = index;
}

/* The same words whether it does not exist or is not the caller's: nothing to probe. */
static int refuse_column(struct builder *b, const struct write_mutation *m,
                         struct slice name)
{
    write_refuse(b->job, WRITE_FAILED_FORBIDDEN,
                 "the column \"%.*s\" does not exist or may not be written",
                 (int)(name.len < 63 ? name.len : 63), name.ptr);
    set_table(b->job, m, b->mutation);
    return ERR_INVALID;
}

static const struct table_column *find_column(const struct builder *b, struct slice name)
{
    int i = table_column_index(b->table, name);

    return i < 0 ? NULL : &b->table->columns[i];
}

/* `"a", "b"` */
static int put_columns(struct builder *b, const struct write_mutation *m)
{
    for (size_t i = 0; i < m->values.count; i++) {
        const struct table_column *c = find_column(b, m->values.items[i].name);

        if (!c)
            return refuse_column(b, m, m->values.items[i].name);
        buf_puts(&b->sql, i > 0 ? ", " : "");
        put_name(&b->sql, c->name);
    }
    return 0;
}

static int put_values(struct builder *b, const struct write_mutation *m)
{
    for (size_t i = 0; i < m->values.count; i++) {
        const struct table_column *c = find_column(b, m->values.items[i].name);
        struct target to = target_of_column(c);

        buf_puts(&b->sql, i > 0 ? ", " : "");
        int rc = put_parameter(b, &to, &m->values.items[i], &c->name);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int put_insert(struct builder *b, const struct write_mutation *m)
{
    buf_puts(&b->sql, "INSERT INTO ");
    table_put_name(&b->sql, b->table);
    buf_puts(&b->sql, " (");
    int rc = put_columns(b, m);
    buf_puts(&b->sql, ") VALUES (");
    rc = rc ? rc : put_values(b, m);
    buf_putc(&b->sql, ')');
    return rc;
}

static bool is_key(const struct table *t, const struct table_column *c)
{
    return t->has_pk && c->pk_index >= 0;
}

static int refuse_key(struct builder *b, const struct write_mutation *m)
{
    write_refuse(b->job, WRITE_FAILED_INVALID,
                 b->table->has_pk
                     ? "a row is named by all columns of the table's primary key"
                     : "the table has no primary key, so its rows can only be inserted");
    set_table(b->job, m, b->mutation);
    return ERR_INVALID;
}

static int put_conflict(struct builder *b, const struct write_mutation *m)
{
    const struct table *t = b->table;
    bool any = false;

    if (!t->has_pk)
        return refuse_key(b, m);
    buf_puts(&b->sql, " ON CONFLICT (");
    for (uint16_t i = 0; i < t->pk_count; i++) {
        const struct table_column *c = &t->columns[t->pk[i]];

        if (!write_values_find(&m->values, c->name))
            return refuse_key(b, m);
        buf_puts(&b->sql, i > 0 ? ", " : "");
        put_name(&b->sql, c->name);
    }
    buf_puts(&b->sql, ") DO ");
    for (size_t i = 0; i < m->values.count; i++) {
        const struct table_column *c = find_column(b, m->values.items[i].name);

        if (is_key(t, c))
            continue;
        buf_puts(&b->sql, any ? ", " : "UPDATE SET ");
        any = true;
        put_name(&b->sql, c->name);
        buf_puts(&b->sql, " = EXCLUDED.");
        put_name(&b->sql, c->name);
    }
    if (!any)
        buf_puts(&b->sql, "NOTHING");
    return 0;
}

static int put_set(struct builder *b, const struct write_mutation *m)
{
    buf_puts(&b->sql, " SET ");
    for (size_t i = 0; i < m->values.count; i++) {
        const struct table_column *c = find_column(b, m->values.items[i].name);

        if (!c)
            return refuse_column(b, m, m->values.items[i].name);
        struct target to = target_of_column(c);
        buf_puts(&b->sql, i > 0 ? ", " : "");
        put_name(&b->sql, c->name);
        buf_puts(&b->sql, " = ");
        int rc = put_parameter(b, &to, &m->values.items[i], &c->name);
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* Types that have no equality are compared by their text. */
static bool has_equality(const struct table_column *c)
{
    static const uint32_t without[] = {JSON_OID,       142 /* xml */,     600 /* point */,
                                       602 /* path */, 604 /* polygon */, JSON_LIST_OID};
    uint32_t oid = c->base_oid ? c->base_oid : c->type_oid;

    for (size_t i = 0; i < sizeof without / sizeof without[0]; i++)
        if (without[i] == oid)
            return false;
    return true;
}

static int put_condition(struct builder *b, const struct write_mutation *m,
                         const struct write_value *value, const char *operator)
{
    const struct table_column *c = find_column(b, value->name);

    if (!c)
        return refuse_column(b, m, value->name);
    struct target to = target_of_column(c);
    const char *cast = has_equality(c) ? "" : "::text";
    put_name(&b->sql, c->name);
    buf_printf(&b->sql, "%s %s ", cast, operator);
    int rc = put_parameter(b, &to, value, &c->name);
    buf_puts(&b->sql, cast);
    return rc;
}

static int put_where(struct builder *b, const struct write_mutation *m)
{
    const struct table *t = b->table;
    int rc = 0;

    if (!t->has_pk || m->key.count != t->pk_count)
        return refuse_key(b, m);
    buf_puts(&b->sql, " WHERE ");
    for (uint16_t i = 0; rc == 0 && i < t->pk_count; i++) {
        const struct write_value *v =
            write_values_find(&m->key, t->columns[t->pk[i]].name);

        if (!v)
            return refuse_key(b, m);
        buf_puts(&b->sql, i > 0 ? " AND " : "");
        rc = put_condition(b, m, v, "=");
    }
    for (size_t i = 0; rc == 0 && i < m->expect.count; i++) {
        buf_puts(&b->sql, " AND ");
        rc = put_condition(b, m, &m->expect.items[i], "IS NOT DISTINCT FROM");
    }
    return rc;
}

static int put_change(struct builder *b, const struct write_mutation *m)
{
    bool update = m->op == WRITE_UPDATE;

    if (!m->ignore_missing)
        buf_puts(&b->sql, "WITH m AS (");
    buf_puts(&b->sql, update ? "UPDATE " : "DELETE FROM ");
    table_put_name(&b->sql, b->table);
    int rc = update ? put_set(b, m) : 0;
    rc = rc ? rc : put_where(b, m);
    if (!m->ignore_missing)
        buf_puts(&b->sql, " RETURNING 1) SELECT coulomb.written(count(*)) FROM m");
    return rc;
}

int write_statement_mutation(struct write_job *job, const struct write_mutation *m,
                             int index, const struct table *table,
                             struct write_statement *out)
{
    struct builder b;
    int rc;

    if (!builder_init(&b, job, m->key.count + m->values.count + m->expect.count))
        return ERR_MEMORY;
    b.table = table;
    b.mutation = index;
    if (m->op == WRITE_UPDATE || m->op == WRITE_DELETE)
        rc = put_change(&b, m);
    else
        rc = put_insert(&b, m);
    if (rc == 0 && m->op == WRITE_UPSERT)
        rc = put_conflict(&b, m);
    rc = builder_finish(&b, rc, out);
    out->kind = WRITE_STATEMENT_MUTATION;
    out->conditional = m->expect.count > 0;
    return rc;
}

/* --- Calls --- */

static int refuse_args(struct builder *b, const char *why)
{
    write_refuse(b->job, WRITE_FAILED_INVALID, "%s", why);
    return ERR_INVALID;
}

/* f(whole body as json) */
static int put_body_argument(struct builder *b, const struct write_call *call,
                             const struct write_function *f)
{
    const char *body =
        arena_dup(&b->job->arena, call->body.len > 0 ? call->body : SLICE_LIT("{}"));

    if (!body)
        return ERR_MEMORY;
    b->values[b->count] = body;
    b->types[b->count] = f->args[0].type_oid;
    buf_printf(&b->sql, "$%d", ++b->count);
    return 0;
}

static int put_named_arguments(struct builder *b, const struct write_call *call,
                               const struct write_function *f)
{
    size_t used = 0;

    for (size_t i = 0; i < f->arg_count; i++) {
        const struct write_function_arg *arg = &f->args[i];
        const struct write_value *v = write_values_find(&call->args, arg->name);
        struct target to = {arg->name, arg->type_oid, arg->is_json, arg->is_json_array};

        if (!v && i < f->required)
            return refuse_args(b, "the function needs an argument that is not given");
        if (!v)
            continue;
        buf_puts(&b->sql, used++ > 0 ? ", " : "");
        put_name(&b->sql, arg->name);
        buf_puts(&b->sql, " => ");
        int rc = put_parameter(b, &to, v, NULL);
        if (rc != 0)
            return rc;
    }
    return used == call->args.count
               ? 0
               : refuse_args(b, "an argument is given that the function does not have");
}

static bool takes_body(const struct write_call *call, const struct write_function *f)
{
    return f->arg_count == 1 && f->args[0].is_json &&
           !(call->args.count == 1 && f->args[0].name.len > 0 &&
             write_values_find(&call->args, f->args[0].name));
}

int write_statement_call(struct write_job *job, const struct write_call *call,
                         const struct write_function *f, bool keep_answer,
                         struct write_statement *out)
{
    struct builder b;

    if (!builder_init(&b, job, f->arg_count + 1))
        return ERR_MEMORY;
    buf_puts(&b.sql,
             keep_answer ? "SELECT set_config('coulomb.answer', coalesce(" : "SELECT ");
    buf_puts(&b.sql, "coulomb.answer((");
    buf_puts(&b.sql, f->returns_void  ? "SELECT NULL::text FROM (SELECT "
                     : f->returns_set ? "SELECT coalesce(json_agg(r), '[]')::text FROM "
                                      : "SELECT to_json(");
    put_name(&b.sql, f->schema);
    buf_putc(&b.sql, '.');
    put_name(&b.sql, f->name);
    buf_putc(&b.sql, '(');
    int rc = takes_body(call, f) ? put_body_argument(&b, call, f)
                                 : put_named_arguments(&b, call, f);
    buf_puts(&b.sql, f->returns_void  ? ")) AS r"
                     : f->returns_set ? ") AS r"
                                      : "))::text");
    buf_printf(&b.sql, "), %u)", WRITE_RESULT_MAX);
    buf_puts(&b.sql, keep_answer ? ", 'null'), true)" : "");
    rc = builder_finish(&b, rc, out);
    out->kind = WRITE_STATEMENT_CALL;
    return rc;
}
