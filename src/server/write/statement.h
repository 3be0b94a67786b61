/* The SQL of a job. Names come from the catalog, values are parameters of the columns' types. */
#ifndef COULOMB_SERVER_WRITE_STATEMENT_H
#define COULOMB_SERVER_WRITE_STATEMENT_H

#include "server/catalog/table.h"
#include "server/write/writer.h"

enum write_statement_kind {
    WRITE_STATEMENT_ID,       /* takes the id; gives the txid */
    WRITE_STATEMENT_IDENTITY, /* role and claims */
    WRITE_STATEMENT_MUTATION,
    WRITE_STATEMENT_CALL,
    WRITE_STATEMENT_ANSWER, /* keeps a function's answer with the id */
    WRITE_STATEMENT_TXID
};

struct write_statement {
    enum write_statement_kind kind;
    const char *sql;
    int count;
    const char **values; /* NULL: null */
    Oid *types;
    const struct table *table;    /* MUTATION */
    const struct slice **columns; /* of the parameters, MUTATION; NULL: none */
    int mutation;                 /* index, or -1 */
    bool conditional;             /* MUTATION with "expect" */
};

/* A function as the catalog has it. */
struct write_function_arg {
    struct slice name; /* may be "" */
    uint32_t type_oid;
    bool is_json;
    bool is_json_array;
};

struct write_function {
    struct slice schema;
    struct slice name;
    bool returns_set;
    bool returns_void;
    size_t arg_count;
    size_t required; /* the first so many have no default */
    struct write_function_arg *args;
};

/* A mutation's statement in the job's arena. ERR_INVALID and the job refused, or ERR_MEMORY. */
int write_statement_mutation(struct write_job *job, const struct write_mutation *m,
                             int index, const struct table *table,
                             struct write_statement *out);
/* The same for a call. */
int write_statement_call(struct write_job *job, const struct write_call *call,
                         const struct write_function *f, bool keep_answer,
                         struct write_statement *out);

#endif
