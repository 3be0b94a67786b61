/* What the files of route/ share.
 *
 *   relation ── group (one table's description) ── filters ── postings
 *                 │                                             │ each in one of
 *                 ├─ column ── equal, elements, prefixes        (hash tables)
 *                 │         └─ is_null, is_true, is_false       (lists)
 *                 │         └─ ranges                           (interval tree)
 *                 ├─ scan                                       (what nothing indexes)
 *                 └─ programs, shared by their text
 *
 * A filter is in a row if one of its postings is found for the row and all the programs that
 * the posting names are true. Internal to route/. */
#ifndef COULOMB_SERVER_ROUTE_INDEX_H
#define COULOMB_SERVER_ROUTE_INDEX_H

#include "server/route/route.h"

/* Prefixes are indexed by their first bytes, this many at most. */
#define ROUTE_PREFIX_MAX 64
/* Bytes of values of one change. */
#define ROUTE_ARENA_MAX ((size_t)1 << 30)

/* What makes two texts the same: 128 bits of a seeded hash. */
struct route_name {
    uint64_t low;
    uint64_t high;
};

/* Pointers to structs that begin with a route_name: open addressing, backward shift. */
struct name_set {
    struct route_name **slots;
    size_t cap;
    size_t len;
};

void *name_set_find(const struct name_set *set, struct route_name name);
int name_set_put(struct name_set *set, struct route_name *item); /* ERR_MEMORY */
void name_set_remove(struct name_set *set, const struct route_name *item);
void name_set_fini(struct name_set *set);

/* A sub-expression, however many filters verify with it. */
struct program {
    struct route_name name;
    struct sql_program *code;
    uint64_t row; /* the row that verdict is of */
    uint32_t refs;
    enum sql_verdict verdict;
    const struct err *failed; /* with SQL_IS_ERROR; in the match's arena */
};

enum place {
    PLACE_NONE, /* not in the index */
    PLACE_EQUAL,
    PLACE_ELEMENT,
    PLACE_PREFIX,
    PLACE_NULL,
    PLACE_TRUE,
    PLACE_FALSE,
    PLACE_RANGE,
    PLACE_SCAN
};

/* What a posting of more than an integer and no programs has beside it. */
struct extra {
    struct sql_value value; /* what key is the hash of, unless `hashed` */
    struct range *range;    /* PLACE_RANGE */
    uint32_t program_count;
    bool hashed; /* equal keys will do: a program verifies */
    struct program *programs[];
};

/* What a match reads comes first: with what it reads of the filter it is 40 bytes in a row. */
struct posting {
    struct posting *next; /* of the same key or list; prev of the first is NULL */
    struct extra *extra;  /* NULL: key is all there is */
    uint32_t index;       /* its place in the filter's postings */
    uint16_t column;
    uint8_t place; /* enum place */
    bool verified; /* it has programs, which have a say */
    struct posting *prev;
    uint64_t key; /* the integer itself, a hash, or the place in the scan */
};

/* What a match has found out about a filter. A side that failed counts only if the row is not
 * in by another posting: so `true OR error` is true, as in Postgres. */
enum filter_state {
    FILTER_OLD = 1,
    FILTER_NEW = 2,
    FILTER_FAILED = 4, /* FILTER_OLD * FILTER_FAILED: undecided on the old row */
    FILTER_FOUND = 16
};

struct route_filter {
    struct route_name name;
    struct group *group;
    uint32_t refs;
    uint32_t posting_count;
    struct route_entry *entries;
    uint8_t state; /* of the match that runs; 0 between matches */
    struct posting postings[];
};

static inline struct route_filter *posting_filter(struct posting *p)
{
    char *first = (char *)(p - p->index);
    return (struct route_filter *)(void *)(first -
                                           offsetof(struct route_filter, postings));
}

/* --- table.c: postings by key --- */

struct key_slot {
    uint64_t key;
    struct posting *head;
};

struct key_table {
    struct key_slot *slots;
    size_t cap;
    size_t len;
};

int key_table_reserve(struct key_table *t); /* for one key more: ERR_MEMORY */
/* value NULL: the key is the value. */
struct posting *key_table_find(const struct key_table *t, uint64_t key,
                               struct sql_type type, const struct sql_value *value);
void key_table_put(struct key_table *t, struct sql_type type, struct posting *p);
void key_table_remove(struct key_table *t, struct posting *p);
void key_table_fini(struct key_table *t);
void list_put(struct posting **head, struct posting *p);
void list_take(struct posting **head, struct posting *p);

/* --- range.c: a B-tree of ranges --- */

/* Keys order ends as their values do (sql_value_sort_key), but that different values may have
 * the same: then the values decide. A low end that is missing has key 0, a high one UINT64_MAX. Of
 * integers, dates and times both ends belong to the range, none counts as missing, and there
 * are no values. */
struct range {
    uint64_t low_key;
    uint64_t high_key;
    struct arena *arena; /* of values that are not plain, or NULL */
    bool low_missing;
    bool low_open; /* the value itself is outside */
    bool high_missing;
    bool high_open;
    struct sql_value values[]; /* low, high */
};

struct range_node;

struct range_found {
    int (*hit)(void *ctx, struct posting *p);
    void *ctx;
};

int range_new(const struct sql_cond *cond, struct range **out); /* ERR_MEMORY */
void range_free(struct range *r);                               /* NULL is fine */
/* p->extra->range into the tree and out of it. *root is NULL without any. ERR_MEMORY: nothing has
 * changed. */
int range_put(struct range_node **root, struct sql_type type, struct posting *p);
void range_remove(struct range_node **root, struct sql_type type, struct posting *p);
/* Ends with what `hit` returned, unless that was 0. */
int range_stab(const struct range_node *root, struct sql_type type,
               const struct sql_value *at, const struct range_found *found);

/* --- group.c --- */

struct column {
    size_t number; /* in the table */
    size_t postings;
    struct sql_type type;
    struct key_table equal;
    struct key_table elements;
    struct key_table prefixes;
    uint32_t prefix_lengths[ROUTE_PREFIX_MAX + 1]; /* how many postings of each */
    struct posting *is_null;
    struct posting *is_true;
    struct posting *is_false;
    struct range_node *ranges;
};

/* A posting that every row is verified with. Most rows fail its first program, and with that
 * beside it nothing else of the filter is read. */
struct scanned {
    struct posting *posting;
    struct program *first; /* NULL: it has none */
};

struct group {
    struct group *next; /* of the same relation */
    uint32_t oid;
    const struct sql_table *table;
    size_t filter_count;
    struct name_set filters;
    struct name_set programs;
    struct column **columns; /* table->count, NULL where nothing is indexed */
    uint16_t *active;        /* those that there are */
    size_t active_count;
    struct scanned *scan;
    size_t scan_len;
    size_t scan_cap;
    uint64_t seed;
    bool *reads; /* columns that some filter has read */
    /* Of the row being matched: */
    const struct decode_relation *relation; /* what order is of */
    uint16_t *order;                        /* the table's columns in the relation */
    size_t lacking; /* a column that the relation doesn't have, or SIZE_MAX */
    const struct value *values;
    struct sql_row row;
};

struct group *group_new(uint32_t oid, const struct sql_table *table, uint64_t seed,
                        struct arena *arena);
void group_free(struct group *g);
struct column *group_column(struct group *g, size_t number); /* NULL: no memory */
uint64_t group_key(const struct group *g, struct sql_type type,
                   const struct sql_value *v);
/* Whether group_key is the value itself. */
bool route_is_integer(struct sql_type type);
/* Whether a struct sql_value and its bytes are all there is of it. */
bool route_is_plain(struct sql_type type);

/* Into the index and out of it. extra->value or extra->range is set where the place needs
 * it. ERR_MEMORY: nothing has changed. */
int posting_put(struct group *g, struct posting *p, struct sql_type type);
void posting_take(struct group *g, struct posting *p);

/* --- filter.c --- */

int filter_new(struct group *g, const struct sql_expr *expr, struct route_name name,
               struct arena *scratch, struct route_filter **out, struct err *err);
void filter_free(struct route_filter *f);
struct route_name route_name_of(const struct group *g, const struct sql_expr *expr);

/* --- match.c --- */

struct match {
    struct arena *arena;
    uint64_t row; /* rises with each */
    struct route_filter **found;
    size_t found_len;
    size_t found_cap;
    const struct err **reasons; /* of found, where they failed */
};

/* Adds the filters that the row is in, or that failed on it, to found. side is FILTER_OLD or
 * FILTER_NEW. ERR_MEMORY. */
int match_row(struct match *m, struct group *g, const struct value *values,
              enum filter_state side);
void group_map(struct group *g, const struct decode_relation *relation);

#endif
