/* What a subset request asks for besides its shape (shape-protocol.md 1.7): its parameters and
 * their rules, those that need no table first. Everything lives in the caller's arena. */
#ifndef COULOMB_SERVER_HTTP_SUBSET_PARAMS_H
#define COULOMB_SERVER_HTTP_SUBSET_PARAMS_H

#include "server/http/params.h"
#include "sql/expr.h"
#include "json/json.h"

struct subset_params {
    struct slice where; /* empty: none */
    struct sql_params values;
    struct slice order_by; /* empty: none */
    bool has_limit;
    int64_t limit;  /* above 0 */
    int64_t offset; /* 0 and above */
    /* What is wrong with them: later rules, behind the shape's. */
    struct param_errors errors;
};

/* The member of a plain name, or SUBSET_PARAM_COUNT. */
enum subset_param subset_params_find(struct slice name);
/* Whether a body's member of the name is one of a subset's, when the body has no "subset":
 * that includes two which mean nothing here. */
bool subset_params_is_member(struct slice name);
/* The rest of an object of values, behind its brace, as a MAP of texts: a number or flag by its
 * literal, null as the empty text, a list or object as its JSON. ERR_INVALID: bad JSON. */
int subset_params_read_values(struct json_reader *r, struct arena *arena,
                              struct param_value *out);

/* *out is NULL when no subset is asked for. Adds to *errors only that the body's subset is no
 * object; 0 or ERR_MEMORY. */
int subset_params_check(const struct params *p, struct arena *arena,
                        const struct subset_params **out, struct param_errors *errors);

struct subset_clauses {
    const struct sql_expr *where; /* NULL: every row */
    struct sql_order order;
};

/* The rules that need the table, and the errors of before. p->subset is not NULL. ERR_INVALID with
 * *errors filled; ERR_RETRY: no thread to parse on; ERR_MEMORY. The clauses are the arena's. */
int subset_params_resolve(const struct shape_params *p, const struct table *table,
                          const struct selection *selection, struct arena *arena,
                          struct subset_clauses *out, struct param_errors *errors);
/* The one error of that field, in the words of err. ERR_INVALID, or ERR_MEMORY. */
int subset_params_refuse(const char *field, const struct err *err, struct arena *arena,
                         struct param_errors *errors);

#endif
