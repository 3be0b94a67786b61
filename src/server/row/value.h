/* One field of a row in Postgres's text form. */
#ifndef COULOMB_SERVER_ROW_VALUE_H
#define COULOMB_SERVER_ROW_VALUE_H

#include "base/slice.h"

enum value_kind {
    VALUE_NULL,
    VALUE_TEXT,
    VALUE_UNCHANGED /* a TOASTed value that the change did not carry */
};

struct value {
    const char *ptr;
    uint32_t len;
    enum value_kind kind;
};

static inline bool value_eq(struct value a, struct value b)
{
    return a.kind == b.kind &&
           (a.kind != VALUE_TEXT || (a.len == b.len && memcmp(a.ptr, b.ptr, a.len) == 0));
}

#endif
