/* What a subset is: copies of what the collection wants loaded, and whether what was loaded covers it.
 * Internal. */
#ifndef COULOMB_CLIENT_ELECTRIC_SPEC_H
#define COULOMB_CLIENT_ELECTRIC_SPEC_H

#include "client/collection/collection.h"

/* Where the part of a condition begins that ends at a node. */
size_t expr_first(const struct coulomb_expr *e, size_t root);

struct spec {
    struct list link; /* of those that are loaded */
    struct heap *heap;
    size_t refs;
    struct coulomb_expr *where; /* NULL: all */
    coulomb_order *order;       /* names are the layout's */
    size_t order_count;
    size_t limit;
    size_t offset; /* 0 when there is a cursor */
    struct coulomb_expr *where_from;
    struct coulomb_expr *where_current;
};

/* COULOMB_E_MEMORY, errors are set. */
int spec_new(struct coulomb_collection *coll, const coulomb_subset *subset,
             struct spec **out);
struct spec *spec_retain(struct spec *s);
void spec_release(struct spec *s); /* NULL is fine */

/* Whether those of a list of specs (by link) together have every row that s wants; `more`, which may be
 * NULL, is one more of them. Conservative: false when it can't tell. */
bool spec_covered(const struct list *loaded, const struct spec *more,
                  const struct spec *s, struct arena *arena);

#endif
