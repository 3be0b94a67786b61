/* Rows in order: chunks of up to 256, and a list of the chunks. Internal.
 *
 * A search is two binary ones; an insertion moves at most a chunk and, once in a hundred, the list.
 * Rows are borrowed. The order is total (it ends with the key) and may fail when memory is out: the
 * owner looks at its own flag afterwards and throws the whole away (index.c). */
#ifndef COULOMB_CLIENT_COLLECTION_SORTED_H
#define COULOMB_CLIENT_COLLECTION_SORTED_H

#include "client/value/row.h"

#define CHUNK_ROWS 256u

struct chunk {
    size_t count;
    struct coulomb_row *rows[CHUNK_ROWS];
};

typedef int sorted_cmp_fn(const struct coulomb_row *a, const struct coulomb_row *b,
                          void *arg);

struct sorted {
    struct heap *heap;
    sorted_cmp_fn *cmp;
    void *arg;
    struct chunk **chunks; /* none is empty */
    size_t chunk_count;
    size_t chunk_cap;
    size_t count;
};

/* A place between rows: behind `at` rows of a chunk. */
struct place {
    size_t chunk;
    size_t at;
};

void sorted_init(struct sorted *s, struct heap *h, sorted_cmp_fn *cmp, void *arg);
void sorted_fini(struct sorted *s);
int sorted_insert(struct sorted *s, struct coulomb_row *row);  /* COULOMB_E_MEMORY */
bool sorted_remove(struct sorted *s, struct coulomb_row *row); /* false: not there */
/* In place of old, which has the same order. */
bool sorted_replace(struct sorted *s, struct coulomb_row *old, struct coulomb_row *fresh);
/* The first row for which before() is false; it is true for a beginning of the rows. */
struct place sorted_seek(const struct sorted *s,
                         bool (*before)(const struct coulomb_row *row, void *arg),
                         void *arg);
/* The row at a place, which moves on; NULL at the end. */
struct coulomb_row *sorted_next(const struct sorted *s, struct place *p);
/* The row before a place; NULL at the beginning. */
struct coulomb_row *sorted_before(const struct sorted *s, struct place p);
/* Behind the last row. */
struct place sorted_end(const struct sorted *s);
/* About how many rows lie between two places. */
size_t sorted_distance(const struct sorted *s, struct place a, struct place b);

#endif
