/* JSON pointers (RFC 6901): what lies where inside a json value. Internal. */
#ifndef COULOMB_CLIENT_VALUE_POINTER_H
#define COULOMB_CLIENT_VALUE_POINTER_H

#include "client/value/row.h"

struct pointer {
    const char *text; /* as it was given */
    size_t count;
    const struct slice *tokens; /* unescaped */
};

/* In the pool. COULOMB_E_PATH: it is no pointer; COULOMB_E_MEMORY. */
int pointer_parse(const char *text, struct pool *pool, struct pointer *out);
/* An index without leading zeros, or "-" for the length; false: neither, or beyond the length. */
bool pointer_index(struct slice token, size_t length, size_t *index);
/* What lies there, in the arena or in the value: text, numeric, bool, null or json; absent when there
 * is nothing, also in what is no json. COULOMB_E_MEMORY, COULOMB_E_INVALID_TEXT. */
int pointer_follow(const coulomb_value *json, const struct pointer *p,
                   struct arena *arena, coulomb_value *out);
/* A row's value: of the column or, with a pointer, of what lies there in it. *out points into the row
 * or the arena. COULOMB_E_MEMORY. */
int field_at(const struct coulomb_row *row, size_t column, const struct pointer *p,
             struct arena *arena, coulomb_value *out);
/* Whether both name the same place; NULL: the column itself. */
bool pointer_same(const struct pointer *a, const struct pointer *b);

#endif
