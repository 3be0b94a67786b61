/* Values by way of sql/: order, equality, text forms, normal forms. Internal. */
#ifndef COULOMB_CLIENT_VALUE_VALUE_H
#define COULOMB_CLIENT_VALUE_VALUE_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/buf.h"
#include "client/loop/heap.h"
#include "coulomb/value.h"
#include "sql/types.h"

/* Bounds of one value. */
#define VALUE_BYTES_MAX (1u << 30)
#define VALUE_ITEMS_MAX 10000000u
/* Scratch of one comparison. */
#define COMPARE_MAX_BYTES (256u * 1024 * 1024)

struct sql_type value_sql_type(coulomb_type type, coulomb_type element);
/* The value for sql/; numerics, json and arrays are parsed into the arena. 0, COULOMB_E_MEMORY,
 * COULOMB_E_INVALID_TEXT (detail in err). Not for absent and null. */
int value_to_sql(const coulomb_value *v, struct arena *arena, struct sql_value *out,
                 struct err *err);
/* From what sql/ read; points into the arena. */
int value_from_sql(coulomb_type type, coulomb_type element, const struct sql_value *v,
                   struct arena *arena, coulomb_value *out);
/* As coulomb_value_compare, with scratch memory. */
int value_compare(const coulomb_value *a, const coulomb_value *b, struct arena *arena,
                  int *order);
/* As coulomb_value_print, with scratch from mem. */
int value_print(const coulomb_value *v, const struct mem *mem, char *text, size_t cap,
                size_t *len);
/* Whether they are the same value, byte by byte or by compare; types may differ. */
int value_equal(const coulomb_value *a, const coulomb_value *b, struct arena *arena,
                bool *equal);
/* Equal values hash alike: numbers by their value. */
int value_hash(const coulomb_value *v, uint64_t seed, struct arena *arena,
               uint64_t *hash);
/* The value in the form that rows keep: numerics and json as Postgres prints them, also in
 * arrays; text is checked for UTF-8. Points into the arena or the input. */
int value_normal(const coulomb_value *v, struct arena *arena, coulomb_value *out,
                 struct err *err);
/* What the value points to, copied into the pool; not an array's items. COULOMB_E_MEMORY: the value
 * is as before. */
int value_keep_bytes(struct pool *pool, coulomb_value *v);
/* The same of a value with all that it points to. */
int value_keep(struct pool *pool, coulomb_value *v);
/* A bool, int64 and finite double as a literal, json as itself, null; all else as a string in
 * Postgres's text form. b->failed when there is no memory. Not for absent. */
void value_put_json(struct buf *b, const coulomb_value *v, struct arena *arena);
/* ERR_ codes of base as ours. */
int value_code(int err_code);

static inline bool value_is_number(coulomb_type t)
{
    return t == COULOMB_INT64 || t == COULOMB_DOUBLE || t == COULOMB_NUMERIC;
}

static inline bool value_is_bytes(coulomb_type t)
{
    return t == COULOMB_TEXT || t == COULOMB_BYTES || t == COULOMB_NUMERIC ||
           t == COULOMB_JSON;
}

static inline struct slice value_slice(const coulomb_value *v)
{
    return (struct slice){v->v.s.ptr, v->v.s.len};
}

#endif
