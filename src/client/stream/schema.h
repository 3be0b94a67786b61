/* The columns of a shape, from the electric-schema header (protocol 2.5) or the consumer's. Internal.
 * Immutable and counted: the I/O thread reads values by it, the owner tells it. */
#ifndef COULOMB_CLIENT_STREAM_SCHEMA_H
#define COULOMB_CLIENT_STREAM_SCHEMA_H

#include <stdatomic.h>

#include "base/slice.h"
#include "client/loop/heap.h"
#include "client/stream/message.h"

struct schema {
    struct heap *heap;
    atomic_uint refs;
    size_t count;
    struct stream_column columns[];
};

/* Of the header's text. With typed, its columns and types, and of the header what it says about
 * them. NULL: *why says what is wrong, a constant, or is NULL when memory is out. Any thread. */
struct schema *schema_parse(struct heap *h, struct slice header,
                            const struct schema *typed, const char **why);
/* The consumer's columns. NULL: no memory. */
struct schema *schema_typed(struct heap *h, const coulomb_column *columns, size_t count);
struct schema *schema_retain(struct schema *s); /* NULL is fine, likewise below */
void schema_release(struct schema *s);
/* The column of that name, looking at guess first; SIZE_MAX: none. */
size_t schema_find(const struct schema *s, struct slice name, size_t guess);
/* The type that values of a Postgres type get: text for all that coulomb_type does not have. */
coulomb_type schema_type(struct slice pg_type);

#endif
