/* A text that tells whether the catalog still says the same of a table, cheaply: planning the query
 * of read.c takes Postgres some milliseconds.
 *
 * It names the versions (xmin) of all rows of the catalog that a definition is made of: the
 * relation's, its schema's, its columns' and its indexes'. What of a table lies elsewhere
 * (types and collations of the user's making, children) is not in it: such a table has none. Two
 * that are equal, of snapshots of one database, mean that a definition read in one is that of the
 * other. */
#ifndef COULOMB_SERVER_CATALOG_STAMP_H
#define COULOMB_SERVER_CATALOG_STAMP_H

/* The stamp of the relation with that OID, NULL when it has none, as an expression in SQL. OIDs from
 * 16384 on are users'. */
#define STAMP_SQL(oid_)                                                                  \
    "(SELECT k.oid || ' ' || k.xmin || ' ' || (SELECT n.xmin"                            \
    "  FROM pg_catalog.pg_namespace n WHERE n.oid = k.relnamespace) || ' ' || (SELECT"   \
    "  CASE WHEN pg_catalog.bool_or(a.atttypid >= 16384 OR a.attcollation >= 16384)"     \
    "   THEN NULL ELSE pg_catalog.string_agg(a.attnum || ':' || a.xmin, ' ') END"        \
    "  FROM pg_catalog.pg_attribute a WHERE a.attrelid = k.oid AND a.attnum > 0)"        \
    " || ' ' || coalesce((SELECT pg_catalog.string_agg(x.indexrelid || ':' || x.xmin,"   \
    "  ' ') FROM pg_catalog.pg_index x WHERE x.indrelid = k.oid), '')"                   \
    " FROM pg_catalog.pg_class k WHERE k.oid = " oid_ " AND NOT k.relhassubclass)"

#endif
