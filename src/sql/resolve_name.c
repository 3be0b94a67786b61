/*
 * What has a name or is written out: columns, parameters, literals and types.
 */

#include <stdio.h>
#include <stdlib.h>

#include "sql/resolve.h"
#include "sql/value.h"

/* The C names of the parser's messages have lost an underscore that Postgres's names have. */
const char *resolve_node_name(const PgQuery__Node *node)
{
    static const char *const names[] = {"A_Expr",    "A_Const",       "A_Star",
                                        "A_Indices", "A_Indirection", "A_ArrayExpr"};
    const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field(
        &pg_query__node__descriptor, (unsigned)node->node_case);
    const char *name;

    if (!field || field->type != PROTOBUF_C_TYPE_MESSAGE)
        return "this";
    name = ((const ProtobufCMessageDescriptor *)field->descriptor)->short_name;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (name[0] == 'A' && strcmp(name + 1, names[i] + 2) == 0)
            return names[i];
    }
    return name;
}

static const char *string_of(const PgQuery__Node *node)
{
    return node->node_case == PG_QUERY__NODE__NODE_STRING ? node->string->sval : NULL;
}

const char *resolve_plain_name(PgQuery__Node *const *names, size_t n)
{
    const char *schema = n == 2 ? string_of(names[0]) : NULL;

    if (n == 0 || n > 2 || (n == 2 && (!schema || strcmp(schema, "pg_catalog") != 0)))
        return NULL;
    return string_of(names[n - 1]);
}

/* ---- columns and parameters ---- */

static bool is_plain_identifier(const char *name)
{
    if (!((*name >= 'a' && *name <= 'z') || *name == '_'))
        return false;
    for (const char *p = name; *p; p++) {
        if (!((*p >= 'a' && *p <= 'z') || sql_is_digit(*p) || *p == '_'))
            return false;
    }
    return true;
}

static void put_reference(struct buf *out, const PgQuery__ColumnRef *c)
{
    for (size_t i = 0; i < c->n_fields; i++) {
        const char *name = string_of(c->fields[i]);

        if (i > 0)
            buf_putc(out, '.');
        if (!name)
            buf_putc(out, '*');
        else if (is_plain_identifier(name))
            buf_puts(out, name);
        else
            buf_printf(out, "\"%s\"", name);
    }
}

struct sql_expr *resolve_column(struct resolve *r, const PgQuery__ColumnRef *c)
{
    const char *name = c->n_fields == 1 ? string_of(c->fields[0]) : NULL;
    struct buf text;

    for (size_t i = 0; name && i < r->table->count; i++) {
        const struct sql_column *column = &r->table->columns[i];

        if (!column->hidden && slice_eq(column->name, slice_of(name)))
            return expr_column(r, i, c->location);
    }
    buf_init(&text, 512);
    put_reference(&text, c);
    resolve_refuse(r, c->location, "unknown reference %.*s", (int)text.len,
                   text.ptr ? text.ptr : "");
    buf_fini(&text);
    return NULL;
}

static struct sql_expr *unknown(struct resolve *r, struct slice text, unsigned param,
                                int location)
{
    struct sql_value value = {.s = text};
    char *copy = arena_dup(r->arena, text);
    struct sql_expr *e;

    if (!copy)
        return resolve_memory(r);
    value.s.ptr = copy;
    e = expr_const(r, sql_plain(SQL_UNKNOWN), NULL, value, location);
    if (e)
        e->param = param;
    return e;
}

struct sql_expr *resolve_param(struct resolve *r, const PgQuery__ParamRef *p)
{
    if (p->number < 1 || (size_t)p->number > r->params->count)
        return resolve_refuse(r, p->location, "parameter $%d was not provided",
                              p->number);
    return unknown(r, r->params->values[p->number - 1], (unsigned)p->number, p->location);
}

/* ---- literals ---- */

/* What the grammar calls a float is any number that is no int4: int8 when it fits. */
static struct sql_expr *number(struct resolve *r, const char *text, int location)
{
    struct sql_value value = {0};
    struct sql_type type = sql_plain(SQL_NUMERIC);
    char *copy;
    int rc;

    if (slice_to_i64(slice_of(text), &value.i))
        return expr_const(r, sql_plain(SQL_INT8), NULL, value, location);
    copy = arena_dup(r->arena, slice_of(text));
    if (!copy)
        return resolve_memory(r);
    rc = sql_value_in(type, slice_of(copy), r->arena, &value, r->err);
    if (rc != 0)
        return resolve_failed(r, location, rc, NULL);
    return expr_const(r, type, NULL, value, location);
}

struct sql_expr *resolve_const(struct resolve *r, const PgQuery__AConst *c)
{
    struct sql_value value = {0};

    if (c->isnull)
        return expr_null(r, sql_plain(SQL_UNKNOWN), NULL, c->location);
    switch (c->val_case) {
    case PG_QUERY__A__CONST__VAL_IVAL:
        value.i = c->ival->ival;
        return expr_const(r, sql_plain(SQL_INT4), NULL, value, c->location);
    case PG_QUERY__A__CONST__VAL_FVAL:
        return number(r, c->fval->fval, c->location);
    case PG_QUERY__A__CONST__VAL_BOOLVAL:
        return expr_bool(r, c->boolval->boolval, c->location);
    case PG_QUERY__A__CONST__VAL_SVAL:
        return unknown(r, slice_of(c->sval->sval), 0, c->location);
    case PG_QUERY__A__CONST__VAL_BSVAL:
        return resolve_refuse(r, c->location, "BitString values are not supported");
    case PG_QUERY__A__CONST__VAL__NOT_SET:
    case _PG_QUERY__A__CONST__VAL__CASE_IS_INT_SIZE:
        break;
    }
    return resolve_refuse(r, c->location, "A_Const is not supported in this context");
}

/* ---- types ---- */

bool resolve_type_name(const char *name, struct sql_type *out)
{
    static const struct {
        const char *name;
        enum sql_base base;
    } types[] = {{"bool", SQL_BOOL},           {"int2", SQL_INT2},
                 {"int4", SQL_INT4},           {"int8", SQL_INT8},
                 {"float4", SQL_FLOAT4},       {"float8", SQL_FLOAT8},
                 {"numeric", SQL_NUMERIC},     {"text", SQL_TEXT},
                 {"varchar", SQL_VARCHAR},     {"bpchar", SQL_BPCHAR},
                 {"name", SQL_NAME},           {"uuid", SQL_UUID},
                 {"date", SQL_DATE},           {"time", SQL_TIME},
                 {"timestamp", SQL_TIMESTAMP}, {"timestamptz", SQL_TIMESTAMPTZ},
                 {"interval", SQL_INTERVAL},   {"bytea", SQL_BYTEA},
                 {"jsonb", SQL_JSONB}};

    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (strcmp(types[i].name, name) == 0) {
            *out = sql_plain(types[i].base);
            return true;
        }
    }
    return false;
}

static const struct sql_enum *find_enum(const struct sql_table *table, const char *schema,
                                        const char *name)
{
    for (size_t i = 0; name && i < table->count; i++) {
        const struct sql_enum *e = table->columns[i].enumeration;

        if (e && slice_eq(e->name, slice_of(name)) &&
            (!schema || slice_eq(e->schema, slice_of(schema))))
            return e;
    }
    return NULL;
}

/* varchar(n), numeric(p, s), timestamp(p) as pg_attribute.atttypmod has them. */
static bool typmod_of(enum sql_base base, const int32_t *n, size_t count, int32_t *out)
{
    switch (base) {
    case SQL_VARCHAR:
    case SQL_BPCHAR:
        *out = n[0] + 4;
        return count == 1 && n[0] >= 1 && n[0] <= 10485760;
    case SQL_NUMERIC:
        if (count == 0 || count > 2 || n[0] < 1 || n[0] > 1000 ||
            (count == 2 && (n[1] < -1000 || n[1] > 1000)))
            return false;
        *out = (n[0] << 16 | ((count == 2 ? n[1] : 0) & 0x7ff)) + 4;
        return true;
    case SQL_TIME:
    case SQL_TIMESTAMP:
    case SQL_TIMESTAMPTZ:
        *out = n[0];
        return count == 1 && n[0] >= 0 && n[0] <= 6;
    case SQL_UNKNOWN:
    case SQL_BOOL:
    case SQL_INT2:
    case SQL_INT4:
    case SQL_INT8:
    case SQL_FLOAT4:
    case SQL_FLOAT8:
    case SQL_TEXT:
    case SQL_NAME:
    case SQL_UUID:
    case SQL_DATE:
    case SQL_INTERVAL:
    case SQL_BYTEA:
    case SQL_ENUM:
    case SQL_JSONB:
    case SQL_OTHER:
    case SQL_BASES:
        break;
    }
    return false;
}

static bool read_typmod(struct resolve *r, const PgQuery__TypeName *name,
                        struct sql_type *type)
{
    int32_t numbers[2] = {0, 0};
    bool ok = name->n_typmods <= 2;

    if (name->n_typmods == 0)
        return true;
    for (size_t i = 0; ok && i < name->n_typmods; i++) {
        const PgQuery__Node *n = name->typmods[i];

        ok = n->node_case == PG_QUERY__NODE__NODE_A_CONST &&
             n->a_const->val_case == PG_QUERY__A__CONST__VAL_IVAL;
        if (ok)
            numbers[i] = n->a_const->ival->ival;
    }
    if (!ok || !typmod_of(type->base, numbers, name->n_typmods, &type->typmod))
        resolve_refuse(r, name->location, "unsupported type modifier of %s",
                       sql_type_name(*type));
    return r->rc == 0;
}

bool resolve_type(struct resolve *r, const PgQuery__TypeName *name, struct sql_type *out,
                  const struct sql_enum **enumeration)
{
    const char *plain = resolve_plain_name(name->names, name->n_names);
    const char *last =
        name->n_names > 0 ? string_of(name->names[name->n_names - 1]) : NULL;
    const char *schema = name->n_names == 2 ? string_of(name->names[0]) : NULL;

    *enumeration = NULL;
    if (name->setof || name->pct_type || name->n_names > 2 || !last) {
        resolve_refuse(r, name->location, "unsupported type %s", last ? last : "");
        return false;
    }
    if (!plain || !resolve_type_name(plain, out)) {
        *enumeration = find_enum(r->table, schema, last);
        if (!*enumeration) {
            resolve_refuse(r, name->location, "unsupported type %s", last);
            return false;
        }
        *out = sql_plain(SQL_ENUM);
        out->oid = (*enumeration)->oid;
    }
    out->array = name->n_array_bounds > 0;
    return read_typmod(r, name, out);
}
