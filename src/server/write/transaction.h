/* What a client wants written: the request's body, parsed and checked as far as that needs no
 * database. Everything lives in the caller's arena and borrows from the body.
 *
 *   {"id": "…", "mutations": [
 *     {"op": "insert", "table": "todos", "values": {"id": 1, "title": "oats"}},
 *     {"op": "update", "table": "todos", "key": {"id": 1}, "values": {"done": true},
 *      "expect": {"done": false}},
 *     {"op": "upsert", "table": "todos", "values": {…}},
 *     {"op": "delete", "table": "app.todos", "key": {"id": 1}, "if_missing": "ignore"}]}
 *
 * A body may be one of these, a list of them, or {"transactions": […]}. Names are what the
 * catalog has; nothing of them is ever read as SQL. */
#ifndef COULOMB_SERVER_WRITE_TRANSACTION_H
#define COULOMB_SERVER_WRITE_TRANSACTION_H

#include "base/arena.h"
#include "base/err.h"

#define WRITE_ID_MAX     200u /* bytes of an idempotency id */
#define WRITE_VALUES_MAX 1600u
#define WRITE_NAME_MAX   63u /* bytes */

enum write_kind {
    WRITE_NULL,
    WRITE_TEXT, /* a JSON string */
    WRITE_BARE, /* a number, true or false: its literal */
    WRITE_LIST,
    WRITE_OBJECT
};

struct write_value {
    struct slice name; /* a column, an argument; "" in a list */
    enum write_kind kind;
    struct slice text; /* TEXT (unescaped, without NUL), BARE */
    struct slice raw;  /* the JSON itself */
};

struct write_values {
    struct write_value *items;
    size_t count;
};

const struct write_value *write_values_find(const struct write_values *values,
                                            struct slice name);

enum write_op { WRITE_INSERT, WRITE_UPDATE, WRITE_DELETE, WRITE_UPSERT };

struct write_mutation {
    enum write_op op;
    struct slice schema; /* "public" unless given */
    struct slice table;
    struct write_values key;    /* UPDATE, DELETE: all columns of the primary key */
    struct write_values values; /* all but DELETE */
    struct write_values expect; /* what columns must hold now; UPDATE, DELETE */
    bool ignore_missing;        /* no such row: nothing to do */
};

struct write_transaction {
    struct slice id; /* "": not idempotent */
    struct write_mutation *mutations;
    size_t count;
    struct slice raw; /* the JSON of it */
};

struct write_batch {
    struct write_transaction *transactions;
    size_t count;
    bool is_list; /* the answer is one, too */
};

struct write_limits {
    size_t max_mutations;    /* in all of a request */
    size_t max_transactions; /* in a list */
};

/* 0; ERR_INVALID or ERR_LIMIT with a sentence that says where; ERR_MEMORY. */
int write_batch_parse(struct slice body, const struct write_limits *limits,
                      struct arena *arena, struct write_batch *out, struct err *err);
/* A JSON object's members; an empty body has none. As write_batch_parse. */
int write_values_parse(struct slice body, struct arena *arena, struct write_values *out,
                       struct err *err);
/* A whole JSON text as one value. */
int write_value_parse(struct slice text, struct arena *arena, struct write_value *out,
                      struct err *err);
/* "todos" or "app.todos". ERR_INVALID. */
int write_table_parse(struct slice text, struct slice *schema, struct slice *table,
                      struct err *err);
/* The body of the write patterns' POST /changes (client-semantics.md 11.1) for one table: all of it
 * becomes one transaction without an id. columns: those that may be written. */
int write_changes_parse(struct slice body, struct slice table,
                        const struct slice *columns, size_t column_count,
                        const struct write_limits *limits, struct arena *arena,
                        struct write_transaction *out, struct err *err);

/* The text form in Postgres of a list, as an array's: {1,2,NULL,"a b"}. ERR_INVALID for objects in
 * it, unless json_elements: then each element is JSON. */
struct buf;
int write_put_array(struct slice raw, bool json_elements, struct buf *out,
                    struct err *err);

#endif
