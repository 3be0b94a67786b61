/* The catalog queries and the tables made of their rows.
 *
 * One statement gives all of a table, so that its parts belong together: one row per
 * column, with the table's own facts repeated, ordered by table and attribute number.
 * Names are parameters, everything is qualified (a role's search_path has no say), and
 * nothing needs a privilege.
 *
 * Rows: oid, schema, name, kind, replica identity, is_partition, descendants ("1 2 3"),
 * column, attnum, type OID, typmod, dims, not null, generated (and never in the stream:
 * Postgres 18 publishes stored columns, no version virtual ones), type name, position in
 * primary key, the type beneath a domain (0: none) and its typmod, collation, its kind, the
 * enum's OID, schema, name and labels (an array's text), the database's collation, and what
 * names its mapping of case. */
#include "server/catalog/read.h"

#include <stdio.h>
#include <stdlib.h>

#include "server/catalog/catalog.h"

enum field {
    F_OID,
    F_SCHEMA,
    F_NAME,
    F_KIND,
    F_IDENTITY,
    F_IS_PARTITION,
    F_CHILDREN,
    F_COLUMN,
    F_ATTNUM,
    F_TYPE_OID,
    F_TYPMOD,
    F_DIMS,
    F_NOT_NULL,
    F_GENERATED,
    F_TYPE_NAME,
    F_PK_INDEX,
    F_BASE_OID,
    F_BASE_TYPMOD,
    F_COLLATION_OID,
    F_COLLATION,
    F_ENUM_OID,
    F_ENUM_SCHEMA,
    F_ENUM_NAME,
    F_ENUM_LABELS,
    F_DATABASE_COLLATION,
    F_CASE_MAP
};

/* 'c': bytes decide. The built-in provider of Postgres 17 orders by code point whatever the
 * locale. 'd' is the database's; 'o', "other", nondeterministic. */
#define COLLATION_KIND                                                                   \
    "CASE WHEN a.attcollation = 0 OR co.collprovider = 'd' THEN 'd'"                     \
    " WHEN co.collprovider = 'b' OR (co.collprovider = 'c'"                              \
    "  AND co.collcollate IN ('C', 'POSIX')) THEN 'c'"                                   \
    " WHEN co.collisdeterministic THEN 's' ELSE 'o' END"
/* Facts of the database. Postgres 14 knows no provider but libc, and lacks the columns. Case is
 * mapped one character to one by the C library, and built in but for Unicode's full mapping. The
 * library's version is told by any locale of it but C's; else Postgres's own stands for it. */
#define DATABASE                                                                         \
    "db AS (SELECT CASE WHEN p.provider = 'b' OR (p.provider = 'c'"                      \
    "  AND d.datcollate IN ('C', 'POSIX')) THEN 'c' ELSE 's' END AS collation,"          \
    " CASE WHEN pg_catalog.pg_encoding_to_char(d.encoding) = 'UTF8' AND"                 \
    "  (p.provider = 'c' OR (p.provider = 'b' AND p.locale IN ('C', 'C.UTF-8')))"        \
    " THEN pg_catalog.concat_ws(' ', p.provider, p.locale,"                              \
    "  CASE WHEN p.locale IN ('C', 'POSIX') THEN '' ELSE coalesce((SELECT"               \
    "   pg_catalog.pg_collation_actual_version(l.oid) FROM pg_catalog.pg_collation l"    \
    "   WHERE p.provider = 'c' AND l.collprovider = 'c' AND l.collcollate !~ '^(C|P)'"   \
    "   LIMIT 1), pg_catalog.current_setting('server_version')) END) ELSE '' END"        \
    "  AS case_map FROM pg_catalog.pg_database d, LATERAL (SELECT"                       \
    "  coalesce(j.of ->> 'datlocprovider', 'c') AS provider,"                            \
    "  CASE WHEN j.of ->> 'datlocprovider' = 'b' THEN j.of ->> 'datlocale'"              \
    "   ELSE d.datctype END AS locale"                                                   \
    "  FROM (SELECT pg_catalog.to_jsonb(d) AS of) AS j) AS p"                            \
    " WHERE d.datname = pg_catalog.current_database())"

#define QUERY(where)                                                                     \
    "WITH RECURSIVE rel AS ("                                                            \
    " SELECT c.oid, n.nspname, c.relname, c.relkind, c.relreplident, c.relispartition"   \
    " FROM pg_catalog.pg_class c"                                                        \
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"                          \
    " WHERE c.relkind IN ('r', 'p')"                                                     \
    " AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND " where              \
    "), " DATABASE ", tree(root, oid) AS ("                                              \
    " SELECT rel.oid, i.inhrelid FROM rel"                                               \
    " JOIN pg_catalog.pg_inherits i ON i.inhparent = rel.oid"                            \
    " UNION SELECT tree.root, i.inhrelid FROM tree"                                      \
    " JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid"                           \
    "), below(root, oids) AS ("                                                          \
    " SELECT root, pg_catalog.string_agg(oid::text, ' ' ORDER BY oid)"                   \
    " FROM tree GROUP BY root"                                                           \
    "), domain(oid, base, typmod) AS ("                                                  \
    " SELECT t.oid, t.typbasetype, t.typtypmod FROM pg_catalog.pg_type t"                \
    " WHERE t.typtype = 'd' AND t.oid IN (SELECT a.atttypid FROM rel"                    \
    "  JOIN pg_catalog.pg_attribute a ON a.attrelid = rel.oid AND a.attnum > 0)"         \
    " UNION ALL SELECT domain.oid, t.typbasetype, t.typtypmod FROM domain"               \
    " JOIN pg_catalog.pg_type t ON t.oid = domain.base AND t.typtype = 'd') "            \
    "SELECT rel.oid, rel.nspname, rel.relname, rel.relkind, rel.relreplident,"           \
    " rel.relispartition, coalesce(below.oids, ''),"                                     \
    " a.attname, a.attnum, a.atttypid, a.atttypmod, a.attndims, a.attnotnull,"           \
    " a.attgenerated <> '' AND NOT (a.attgenerated = 's' AND"                            \
    "  pg_catalog.current_setting('server_version_num')::pg_catalog.int4 >= 180000),"    \
    " CASE WHEN a.attndims > 0 THEN coalesce(e.typname, t.typname) ELSE t.typname END,"  \
    " coalesce((SELECT k.position - 1 FROM "                                             \
    "pg_catalog.unnest(x.indkey::pg_catalog.int2[])"                                     \
    "  WITH ORDINALITY AS k(attnum, position)"                                           \
    "  WHERE k.attnum = a.attnum AND k.position <= x.indnkeyatts), -1),"                 \
    " coalesce(b.base, 0), coalesce(b.typmod, -1), a.attcollation, " COLLATION_KIND      \
    ", coalesce(en.oid, 0), coalesce(ens.nspname, ''), coalesce(en.typname, ''),"        \
    " CASE WHEN en.oid IS NULL THEN '{}' ELSE (SELECT pg_catalog.array_agg("             \
    "  l.enumlabel::text ORDER BY l.enumsortorder)"                                      \
    "  FROM pg_catalog.pg_enum l WHERE l.enumtypid = en.oid) END,"                       \
    " db.collation, db.case_map "                                                        \
    "FROM rel CROSS JOIN db LEFT JOIN below ON below.root = rel.oid "                    \
    "JOIN pg_catalog.pg_attribute a"                                                     \
    " ON a.attrelid = rel.oid AND a.attnum > 0 AND NOT a.attisdropped "                  \
    "JOIN pg_catalog.pg_type t ON t.oid = a.atttypid "                                   \
    "LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND t.typlen = -1 "             \
    "LEFT JOIN pg_catalog.pg_index x ON x.indrelid = rel.oid AND x.indisprimary "        \
    "LEFT JOIN (SELECT domain.oid, domain.base, domain.typmod, bt.typtype, bt.typelem"   \
    " FROM domain JOIN pg_catalog.pg_type bt ON bt.oid = domain.base"                    \
    " WHERE bt.typtype <> 'd') b ON b.oid = t.oid "                                      \
    "LEFT JOIN pg_catalog.pg_type en ON en.typtype = 'e' AND (en.oid ="                  \
    " coalesce(b.base, t.oid) OR (en.oid = coalesce(b.typelem, t.typelem)"               \
    " AND en.typarray = coalesce(b.base, t.oid))) "                                      \
    "LEFT JOIN pg_catalog.pg_namespace ens ON ens.oid = en.typnamespace "                \
    "LEFT JOIN pg_catalog.pg_collation co ON co.oid = a.attcollation "                   \
    "ORDER BY rel.oid, a.attnum"

static const char by_name[] = QUERY("n.nspname = $1::text AND c.relname = $2::text");
static const char by_oid[] = QUERY("c.oid = ANY ($1::pg_catalog.oid[])");

#define OIDS_MAX_BYTES   (64u << 20)
#define LABELS_MAX_BYTES (64u << 20) /* of one enum, with what parsing them takes */

void read_put_oids(struct buf *out, const uint32_t *oids, size_t count)
{
    buf_putc(out, '{');
    for (size_t i = 0; i < count; i++) {
        if (i)
            buf_putc(out, ',');
        buf_put_u64(out, oids[i]);
    }
    buf_putc(out, '}');
}

bool read_oids(const char *text, uint32_t **oids, uint32_t *count)
{
    size_t n = *text ? 1 : 0;
    for (const char *p = text; *p; p++)
        n += *p == ' ';
    *count = (uint32_t)n;
    *oids = calloc(n ? n : 1, sizeof(**oids));
    if (!*oids)
        return false;
    char *end = NULL;
    for (size_t i = 0; i < n; i++, text = end)
        (*oids)[i] = (uint32_t)strtoul(text, &end, 10);
    return true;
}

/* --- From rows to tables --- */

static int64_t number(const PGresult *rows, int row, enum field field)
{
    int64_t value = 0;
    const char *text = PQgetvalue(rows, row, (int)field);
    return slice_to_i64(slice_of(text), &value) ? value : 0;
}

static bool truth(const PGresult *rows, int row, enum field field)
{
    return *PQgetvalue(rows, row, (int)field) == 't';
}

static struct slice copy(const PGresult *rows, int row, enum field field)
{
    struct slice s = slice_make(PQgetvalue(rows, row, (int)field),
                                (size_t)PQgetlength(rows, row, (int)field));
    s.ptr = slice_dup(s);
    return s;
}

static enum sql_collation collation(const PGresult *rows, int row, enum field field)
{
    switch (*PQgetvalue(rows, row, (int)field)) {
    case 'c':
        return SQL_COLLATION_C;
    case 's':
        return SQL_COLLATION_DETERMINISTIC;
    case 'd':
        return SQL_COLLATION_DEFAULT;
    default:
        return SQL_COLLATION_OTHER;
    }
}

static struct slice borrow(const PGresult *rows, int row, enum field field)
{
    return slice_make(PQgetvalue(rows, row, (int)field),
                      (size_t)PQgetlength(rows, row, (int)field));
}

/* The column's enum, when it has one; ERR_MEMORY. An enum may be without labels. */
static int read_enum(struct table_column *c, const PGresult *rows, int row)
{
    struct sql_enum e = {.oid = (uint32_t)number(rows, row, F_ENUM_OID)};
    struct sql_value list = {.null = true};
    struct slice text = borrow(rows, row, F_ENUM_LABELS);
    struct arena arena;
    int rc = 0;
    if (e.oid == 0)
        return 0;
    arena_init(&arena, LABELS_MAX_BYTES);
    if (text.len > 0)
        rc = sql_value_in((struct sql_type){SQL_TEXT, true, 0, -1}, text, &arena, &list,
                          NULL);
    e.label_count = rc || list.null ? 0 : sql_array_count(list.array);
    struct slice *labels = arena_calloc(&arena, e.label_count + 1, sizeof *labels);
    if (rc == 0 && labels != NULL) {
        for (size_t i = 0; i < e.label_count; i++)
            labels[i] = sql_array_items(list.array)[i].s;
        e.labels = labels;
        e.schema = borrow(rows, row, F_ENUM_SCHEMA);
        e.name = borrow(rows, row, F_ENUM_NAME);
        c->enum_type = table_enum_copy(&e);
    }
    arena_fini(&arena);
    return c->enum_type ? 0 : ERR_MEMORY;
}

static bool read_column(struct table_column *c, const PGresult *rows, int row)
{
    c->name = copy(rows, row, F_COLUMN);
    c->type_name = copy(rows, row, F_TYPE_NAME);
    c->type_oid = (uint32_t)number(rows, row, F_TYPE_OID);
    c->typmod = (int32_t)number(rows, row, F_TYPMOD);
    c->dims = (int32_t)number(rows, row, F_DIMS);
    c->attnum = (int16_t)number(rows, row, F_ATTNUM);
    c->pk_index = (int16_t)number(rows, row, F_PK_INDEX);
    c->not_null = truth(rows, row, F_NOT_NULL);
    c->generated = truth(rows, row, F_GENERATED);
    c->base_oid = (uint32_t)number(rows, row, F_BASE_OID);
    c->base_typmod = (int32_t)number(rows, row, F_BASE_TYPMOD);
    c->collation_oid = (uint32_t)number(rows, row, F_COLLATION_OID);
    c->collation = collation(rows, row, F_COLLATION);
    return c->name.ptr && c->type_name.ptr && read_enum(c, rows, row) == 0;
}

/* Without a primary key all columns act as one. */
static void fill_pk(struct table *t)
{
    for (uint16_t i = 0; i < t->column_count; i++) {
        int16_t index = t->columns[i].pk_index;
        if (index >= 0 && index < (int16_t)t->column_count) {
            t->pk[index] = i;
            t->pk_count++;
        }
    }
    t->has_pk = t->pk_count > 0;
    for (uint16_t i = 0; i < t->column_count && !t->has_pk; i++)
        t->pk[i] = i;
    if (!t->has_pk)
        t->pk_count = t->column_count;
}

/* The table whose rows begin at *row, which moves behind them; NULL without memory. A
 * table has at most 1600 columns. */
static struct table *table_from_rows(const PGresult *rows, int *row)
{
    int first = *row;
    int64_t oid = number(rows, first, F_OID);
    while (*row < PQntuples(rows) && number(rows, *row, F_OID) == oid)
        (*row)++;
    size_t count = (size_t)(*row - first);
    struct table *t = calloc(1, sizeof(*t));
    if (!t)
        return NULL;
    atomic_init(&t->refs, 1);
    t->oid = (uint32_t)oid;
    t->schema = copy(rows, first, F_SCHEMA);
    t->name = copy(rows, first, F_NAME);
    t->kind = *PQgetvalue(rows, first, F_KIND);
    t->replica_identity = *PQgetvalue(rows, first, F_IDENTITY);
    t->is_partition = truth(rows, first, F_IS_PARTITION);
    t->collation = collation(rows, first, F_DATABASE_COLLATION);
    t->case_map_id = copy(rows, first, F_CASE_MAP);
    t->column_count = (uint16_t)count;
    t->columns =
        calloc(count + 1, sizeof(*t->columns)); /* never 0, which calloc may refuse */
    t->pk = calloc(count + 1, sizeof(*t->pk));
    bool ok =
        read_oids(PQgetvalue(rows, first, F_CHILDREN), &t->children, &t->child_count);
    ok = ok && t->columns && t->pk && t->schema.ptr && t->name.ptr && t->case_map_id.ptr;
    for (size_t i = 0; i < count && ok; i++)
        ok = read_column(&t->columns[i], rows, first + (int)i);
    ok = ok && table_make_sql(t) == 0;
    if (!ok) {
        table_release(t);
        return NULL;
    }
    fill_pk(t);
    return t;
}

/* --- Questions --- */

static int ask(PGconn *conn, const char *sql, int count, const char *const *params,
               PGresult **rows, struct err *err)
{
    *rows = PQexecParams(conn, sql, count, NULL, params, NULL, NULL, 0);
    if (PQresultStatus(*rows) == PGRES_TUPLES_OK)
        return 0;
    int rc = pg_fail(err, conn, *rows, "Reading the catalog failed");
    PQclear(*rows);
    *rows = NULL;
    return rc;
}

static int no_memory(struct err *err)
{
    return err_set(err, ERR_MEMORY, "No memory for a table's definition");
}

static int place_tables(const PGresult *rows, const uint32_t *oids, size_t count,
                        struct table **tables)
{
    for (int row = 0; row < PQntuples(rows);) {
        struct table *t = table_from_rows(rows, &row);
        if (!t)
            return ERR_MEMORY;
        for (size_t i = 0; i < count; i++)
            if (oids[i] == t->oid && !tables[i])
                tables[i] = table_retain(t);
        table_release(t);
    }
    return 0;
}

int read_tables(PGconn *conn, const uint32_t *oids, size_t count, struct table ***tables,
                struct err *err)
{
    struct buf list;
    PGresult *rows = NULL;
    *tables = calloc(count ? count : 1, sizeof(**tables));
    if (!*tables)
        return no_memory(err);
    buf_init(&list, OIDS_MAX_BYTES);
    read_put_oids(&list, oids, count);
    buf_putc(&list, '\0');
    int rc = list.failed ? no_memory(err) : 0;
    if (!rc)
        rc = ask(conn, by_oid, 1, (const char *const[]){list.ptr}, &rows, err);
    if (!rc && place_tables(rows, oids, count, *tables))
        rc = no_memory(err);
    PQclear(rows);
    buf_fini(&list);
    if (rc) {
        for (size_t i = 0; i < count; i++)
            table_release((*tables)[i]);
        free(*tables);
        *tables = NULL;
    }
    return rc;
}

int catalog_read_table_oid(PGconn *conn, uint32_t oid, struct table **out,
                           struct err *err)
{
    struct table **tables = NULL;
    *out = NULL;
    int rc = read_tables(conn, &oid, 1, &tables, err);
    if (rc)
        return rc;
    *out = tables[0];
    free(tables);
    return *out ? 0
                : err_set(err, ERR_NOT_FOUND, "No table has the OID %u", (unsigned)oid);
}

static int not_found(struct err *err, struct slice schema, struct slice name)
{
    return err_set(err, ERR_NOT_FOUND,
                   "Table \"%.*s\".\"%.*s\" does not exist. If the table name contains "
                   "capitals or special characters you must quote it.",
                   (int)schema.len, schema.ptr ? schema.ptr : "", (int)name.len,
                   name.ptr ? name.ptr : "");
}

/* No table can have such a name, and Postgres would refuse the parameter. */
static bool impossible(struct slice name)
{
    return name.len == 0 || name.len > 255 || memchr(name.ptr, '\0', name.len) ||
           !slice_is_utf8(name);
}

int catalog_read_table(PGconn *conn, struct slice schema, struct slice name,
                       struct table **out, struct err *err)
{
    PGresult *rows = NULL;
    struct err local;
    char names[2][256];
    *out = NULL;
    if (impossible(schema) || impossible(name))
        return not_found(err, schema, name);
    snprintf(names[0], sizeof(names[0]), "%.*s", (int)schema.len, schema.ptr);
    snprintf(names[1], sizeof(names[1]), "%.*s", (int)name.len, name.ptr);
    err_clear(&local);
    int rc =
        ask(conn, by_name, 2, (const char *const[]){names[0], names[1]}, &rows, &local);
    /* 22P05: the database's encoding lacks a character of the name. */
    if (rc == ERR_DB && strcmp(local.sqlstate, "22P05") == 0)
        return not_found(err, schema, name);
    if (rc) {
        if (err)
            *err = local;
        return rc;
    }
    if (PQntuples(rows) == 0) {
        rc = not_found(err, schema, name);
    } else {
        int row = 0;
        *out = table_from_rows(rows, &row);
        rc = *out ? 0 : no_memory(err);
    }
    PQclear(rows);
    return rc;
}
