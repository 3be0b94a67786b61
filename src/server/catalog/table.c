/* The definition of one table, and its electric-schema header.
 *
 * A table and everything it points to is one allocation's worth of small pieces owned by
 * the struct; the last release frees them. Type modifiers are understood by the type's
 * OID, never by its name, since anybody may make a type called "varchar". */
#include "server/catalog/table.h"

#include <stdlib.h>

#include "base/assert.h"
#include "json/json.h"

static bool copy_slice(struct slice *to, struct slice from)
{
    *to = (struct slice){slice_dup(from), from.len};
    return to->ptr != NULL;
}

static bool copy_array(void **to, const void *from, size_t count, size_t size)
{
    *to = calloc(count + 1, size);
    if (*to != NULL && count > 0)
        memcpy(*to, from, count * size);
    return *to != NULL;
}

static char *put_bytes(char *at, struct slice *to, struct slice from)
{
    *to = slice_make(at, from.len);
    if (from.len > 0)
        memcpy(at, from.ptr, from.len);
    return at + from.len;
}

struct sql_enum *table_enum_copy(const struct sql_enum *e)
{
    struct enum_block {
        struct sql_enum e;
        struct slice labels[];
    } * block;
    size_t bytes = e->schema.len + e->name.len;
    for (size_t i = 0; i < e->label_count; i++)
        bytes += e->labels[i].len;
    block = malloc(sizeof *block + e->label_count * sizeof(struct slice) + bytes);
    if (block == NULL)
        return NULL;
    block->e = *e;
    block->e.labels = block->labels;
    char *at = (char *)&block->labels[e->label_count];
    at = put_bytes(at, &block->e.schema, e->schema);
    at = put_bytes(at, &block->e.name, e->name);
    for (size_t i = 0; i < e->label_count; i++)
        at = put_bytes(at, &block->labels[i], e->labels[i]);
    return &block->e;
}

static struct sql_type column_type(const struct table_column *c)
{
    uint32_t oid = c->base_oid ? c->base_oid : c->type_oid;
    if (c->enum_type)
        return (struct sql_type){.base = SQL_ENUM,
                                 .array = oid != c->enum_type->oid,
                                 .oid = c->enum_type->oid,
                                 .typmod = -1};
    return sql_type_of_oid(oid, c->base_oid ? c->base_typmod : c->typmod);
}

int table_make_sql(struct table *t)
{
    struct sql_block {
        struct sql_table table;
        struct sql_column columns[];
    } *block = calloc(1, sizeof *block + t->column_count * sizeof(struct sql_column));
    if (block == NULL)
        return ERR_MEMORY;
    for (size_t i = 0; i < t->column_count; i++)
        block->columns[i] = (struct sql_column){
            .name = t->columns[i].name,
            .type = column_type(&t->columns[i]),
            .collation = t->columns[i].collation,
            .collation_oid = t->columns[i].collation_oid,
            .enumeration = t->columns[i].enum_type,
            .type_name = t->columns[i].type_name,
        };
    block->table.columns = block->columns;
    block->table.count = t->column_count;
    block->table.collation = t->collation;
    block->table.letters = t->case_map ? case_map_letters(t->case_map) : NULL;
    t->sql = &block->table;
    return 0;
}

void table_set_case_map(struct table *t, struct case_map *map)
{
    ASSERT(t->case_map == NULL && slice_eq(t->case_map_id, case_map_id(map)));
    t->case_map = case_map_retain(map);
    t->sql->letters = case_map_letters(map);
}

const struct sql_table *table_sql(const struct table *t)
{
    ASSERT(t->sql != NULL);
    return t->sql;
}

static bool column_copy(struct table_column *to, const struct table_column *from)
{
    *to = *from;
    to->type_name = (struct slice){NULL, 0};
    to->enum_type = NULL;
    bool whole =
        copy_slice(&to->name, from->name) && copy_slice(&to->type_name, from->type_name);
    if (whole && from->enum_type != NULL) {
        to->enum_type = table_enum_copy(from->enum_type);
        whole = to->enum_type != NULL;
    }
    return whole;
}

struct table *table_copy(const struct table *model)
{
    struct table *t = calloc(1, sizeof *t);
    if (t == NULL)
        return NULL;
    atomic_init(&t->refs, 1);
    t->oid = model->oid;
    t->kind = model->kind;
    t->replica_identity = model->replica_identity;
    t->is_partition = model->is_partition;
    t->has_pk = model->has_pk;
    t->pk_count = model->pk_count;
    t->child_count = model->child_count;
    t->collation = model->collation;
    void *pk = NULL, *children = NULL;
    bool whole =
        copy_slice(&t->schema, model->schema) && copy_slice(&t->name, model->name);
    whole = copy_slice(&t->case_map_id, model->case_map_id) && whole;
    t->case_map = case_map_retain(model->case_map);
    whole = copy_array(&pk, model->pk, model->pk_count, sizeof *model->pk) && whole;
    whole = copy_array(&children, model->children, model->child_count,
                       sizeof *model->children) &&
            whole;
    t->pk = pk;
    t->children = children;
    t->columns = calloc((size_t)model->column_count + 1, sizeof *t->columns);
    for (size_t i = 0; whole && t->columns && i < model->column_count; i++)
        whole = column_copy(&t->columns[t->column_count++], &model->columns[i]);
    if (!whole || t->columns == NULL || table_make_sql(t) < 0) {
        table_release(t);
        return NULL;
    }
    return t;
}

struct table *table_retain(struct table *t)
{
    atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
    return t;
}

static void free_borrowed(const void *ptr)
{
    union {
        const void *borrowed;
        void *owned;
    } p = {.borrowed = ptr};
    free(p.owned);
}

void table_release(struct table *t)
{
    if (!t || atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; t->columns && i < t->column_count; i++) {
        free_borrowed(t->columns[i].name.ptr);
        free_borrowed(t->columns[i].type_name.ptr);
        free_borrowed(t->columns[i].enum_type);
    }
    free_borrowed(t->schema.ptr);
    free_borrowed(t->name.ptr);
    free_borrowed(t->case_map_id.ptr);
    case_map_release(t->case_map);
    free(t->sql);
    free(t->columns);
    free(t->pk);
    free(t->children);
    free(t);
}

int table_column_index(const struct table *t, struct slice name)
{
    for (int i = 0; i < t->column_count; i++)
        if (slice_eq(t->columns[i].name, name))
            return i;
    return -1;
}

static void put_quoted(struct buf *out, struct slice name)
{
    buf_putc(out, '"');
    for (size_t i = 0; i < name.len; i++) {
        if (name.ptr[i] == '"')
            buf_putc(out, '"');
        buf_putc(out, name.ptr[i]);
    }
    buf_putc(out, '"');
}

void table_put_name(struct buf *out, const struct table *t)
{
    put_quoted(out, t->schema);
    buf_putc(out, '.');
    put_quoted(out, t->name);
}

static bool has_labels(const struct sql_enum *e, const struct sql_enum *of)
{
    for (size_t i = 0; i < of->label_count; i++) {
        size_t at = 0;
        while (at < e->label_count && !slice_eq(e->labels[at], of->labels[i]))
            at++;
        if (at == e->label_count)
            return false;
    }
    return true;
}

static bool enum_same(const struct sql_enum *a, const struct sql_enum *b)
{
    if (!a || !b)
        return a == b;
    return a->oid == b->oid && slice_eq(a->schema, b->schema) &&
           slice_eq(a->name, b->name) &&
           (a->label_count < b->label_count ? has_labels(b, a) : has_labels(a, b));
}

bool table_column_sql_same(const struct table_column *a, const struct table_column *b)
{
    return a->type_oid == b->type_oid && a->typmod == b->typmod &&
           a->base_oid == b->base_oid &&
           (a->base_oid == 0 || a->base_typmod == b->base_typmod) &&
           a->collation == b->collation && a->collation_oid == b->collation_oid &&
           enum_same(a->enum_type, b->enum_type);
}

static bool column_same(const struct table_column *a, const struct table_column *b)
{
    return slice_eq(a->name, b->name) && table_column_sql_same(a, b) &&
           a->pk_index == b->pk_index && a->not_null == b->not_null &&
           a->generated == b->generated;
}

bool table_same(const struct table *a, const struct table *b)
{
    if (a->oid != b->oid || !slice_eq(a->schema, b->schema) ||
        !slice_eq(a->name, b->name) || a->column_count != b->column_count ||
        a->has_pk != b->has_pk || a->pk_count != b->pk_count ||
        a->collation != b->collation || !slice_eq(a->case_map_id, b->case_map_id))
        return false;
    for (size_t i = 0; i < a->column_count; i++)
        if (!column_same(&a->columns[i], &b->columns[i]))
            return false;
    return true;
}

bool table_same_children(const struct table *a, const struct table *b)
{
    return a->child_count == b->child_count &&
           (a->child_count == 0 ||
            memcmp(a->children, b->children, a->child_count * sizeof *a->children) == 0);
}

/* --- The electric-schema header --- */

enum modifier {
    MODIFIER_OTHER,      /* "type_mod" */
    MODIFIER_MAX_LENGTH, /* typmod counts a header of 4 */
    MODIFIER_LENGTH,     /* the same */
    MODIFIER_BITS,       /* raw */
    MODIFIER_PRECISION,
    MODIFIER_NUMERIC,
    MODIFIER_INTERVAL
};

/* Built-in OIDs never change (pg_type.dat). */
static const struct modifier_rule {
    uint32_t oid;
    uint32_t array_oid;
    enum modifier modifier;
} modifier_rules[] = {
    {25, 1009, MODIFIER_MAX_LENGTH},   /* text */
    {1043, 1015, MODIFIER_MAX_LENGTH}, /* varchar */
    {1042, 1014, MODIFIER_LENGTH},     /* bpchar */
    {1560, 1561, MODIFIER_BITS},       /* bit */
    {1562, 1563, MODIFIER_BITS},       /* varbit */
    {1082, 1182, MODIFIER_PRECISION},  /* date */
    {1083, 1183, MODIFIER_PRECISION},  /* time */
    {1266, 1270, MODIFIER_PRECISION},  /* timetz */
    {1114, 1115, MODIFIER_PRECISION},  /* timestamp */
    {1184, 1185, MODIFIER_PRECISION},  /* timestamptz */
    {1700, 1231, MODIFIER_NUMERIC},    /* numeric */
    {1186, 1187, MODIFIER_INTERVAL},   /* interval */
};

static enum modifier find_modifier(const struct table_column *c)
{
    for (size_t i = 0; i < sizeof(modifier_rules) / sizeof(modifier_rules[0]); i++) {
        const struct modifier_rule *rule = &modifier_rules[i];
        if (c->type_oid == (c->dims > 0 ? rule->array_oid : rule->oid))
            return rule->modifier;
    }
    return MODIFIER_OTHER;
}

static void put_number(struct buf *out, const char *name, int64_t value)
{
    buf_puts(out, ",\"");
    buf_puts(out, name);
    buf_puts(out, "\":");
    buf_put_i64(out, value);
}

/* typmod - 4: precision in the upper half, scale as 11 bits with sign in the lower. */
static void put_numeric(struct buf *out, int32_t typmod)
{
    uint32_t bits = (uint32_t)typmod - 4u;
    put_number(out, "precision", (bits >> 16) & 0xffff);
    put_number(out, "scale", (int64_t)((bits & 0x7ff) ^ 0x400) - 0x400);
}

/* Upper half: a set of fields (0x7fff: any); lower half: precision (0xffff: any). */
static void put_interval(struct buf *out, int32_t typmod)
{
    static const struct interval_field {
        uint32_t bit;
        const char *name;
    } fields[] = {{1u << 2, "YEAR"},  {1u << 1, "MONTH"},   {1u << 3, "DAY"},
                  {1u << 10, "HOUR"}, {1u << 11, "MINUTE"}, {1u << 12, "SECOND"}};
    uint32_t set = ((uint32_t)typmod >> 16) & 0x7fff;
    uint32_t precision = (uint32_t)typmod & 0xffff;
    const char *first = NULL;
    const char *last = NULL;
    for (size_t i = 0; set != 0x7fff && i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (!(set & fields[i].bit))
            continue;
        first = first ? first : fields[i].name;
        last = fields[i].name;
    }
    if (first)
        buf_printf(out, ",\"fields\":\"%s%s%s\"", first, first == last ? "" : " TO ",
                   first == last ? "" : last);
    if (precision != 0xffff)
        put_number(out, "precision", precision);
}

static void put_modifier(struct buf *out, const struct table_column *c)
{
    enum modifier modifier = find_modifier(c);
    if (c->typmod < 0)
        return;
    switch (modifier) {
    case MODIFIER_MAX_LENGTH:
        put_number(out, "max_length", c->typmod - 4);
        break;
    case MODIFIER_LENGTH:
        put_number(out, "length", c->typmod - 4);
        break;
    case MODIFIER_BITS:
        put_number(out, "length", c->typmod);
        break;
    case MODIFIER_PRECISION:
        put_number(out, c->typmod > 0 ? "precision" : "type_mod", c->typmod);
        break;
    case MODIFIER_NUMERIC:
        put_numeric(out, c->typmod);
        break;
    case MODIFIER_INTERVAL:
        put_interval(out, c->typmod);
        break;
    case MODIFIER_OTHER:
        put_number(out, "type_mod", c->typmod);
        break;
    }
}

/* A JSON string fit for a header value: DEL, which JSON allows raw, is escaped as well.
 */
static void put_header_string(struct buf *out, struct slice s)
{
    buf_putc(out, '"');
    while (s.len) {
        const char *del = memchr(s.ptr, 0x7f, s.len);
        size_t n = del ? (size_t)(del - s.ptr) : s.len;
        json_put_escaped(out, slice_make(s.ptr, n));
        if (del)
            buf_puts(out, "\\u007f");
        n += del ? 1 : 0;
        s = slice_make(s.ptr + n, s.len - n);
    }
    buf_putc(out, '"');
}

static void put_column(struct buf *out, const struct table_column *c)
{
    put_header_string(out, c->name);
    buf_puts(out, ":{\"type\":");
    put_header_string(out, c->type_name);
    put_modifier(out, c);
    if (c->dims > 0)
        put_number(out, "dims", c->dims);
    if (c->not_null)
        buf_puts(out, ",\"not_null\":true");
    if (c->pk_index >= 0)
        put_number(out, "pk_index", c->pk_index);
    buf_putc(out, '}');
}

void table_put_schema(struct buf *out, const struct table *t, const uint16_t *selected,
                      size_t count)
{
    buf_putc(out, '{');
    for (size_t i = 0; i < count; i++) {
        ASSERT(selected[i] < t->column_count);
        if (i)
            buf_putc(out, ',');
        put_column(out, &t->columns[selected[i]]);
    }
    buf_putc(out, '}');
}
