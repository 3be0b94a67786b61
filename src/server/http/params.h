/* What a shape request asks for: parameters collected from the query and a POST body, then
 * checked in the order of shape-protocol.md 1.5. Everything lives in the caller's arena. */
#ifndef COULOMB_SERVER_HTTP_PARAMS_H
#define COULOMB_SERVER_HTTP_PARAMS_H

#include "base/arena.h"
#include "base/err.h"
#include "base/offset.h"
#include "server/http/ident.h"
#include "server/shape/def.h"
#include "server/shape/where.h"

/* X(enum, name): the parameters that mean something here; all others are ignored. */
#define PARAMS(X)                                                                        \
    X(TABLE, "table")                                                                    \
    X(OFFSET, "offset")                                                                  \
    X(HANDLE, "handle")                                                                  \
    X(LIVE, "live")                                                                      \
    X(LIVE_SSE, "live_sse")                                                              \
    X(OLD_LIVE_SSE, "experimental_live_sse")                                             \
    X(CURSOR, "cursor")                                                                  \
    X(WHERE, "where")                                                                    \
    X(PARAMS, "params")                                                                  \
    X(COLUMNS, "columns")                                                                \
    X(QUERYABLE, "queryable_columns")                                                    \
    X(REPLICA, "replica")                                                                \
    X(LOG, "log")                                                                        \
    X(COMPACTION, "experimental_compaction")                                             \
    X(SECRET, "secret")                                                                  \
    X(API_SECRET, "api_secret")

#define PARAM_ENUM(id, name) PARAM_##id,
enum param { PARAMS(PARAM_ENUM) PARAM_COUNT };

enum param_kind {
    PARAM_ABSENT,
    PARAM_TEXT, /* from the query, or a JSON string */
    PARAM_BARE, /* a JSON number, true or false: its literal */
    PARAM_LIST, /* name[]=a&name[]=b, or a JSON array */
    PARAM_MAP   /* name[key]=value, or a JSON object */
};

struct param_item {
    struct param_item *next;
    struct slice key;   /* of a MAP */
    struct slice value; /* when it is text */
    bool is_text;
};

struct param_value {
    enum param_kind kind;
    struct slice text;        /* TEXT, BARE */
    struct param_item *items; /* LIST, MAP: in order */
    struct param_item *last;
};

/* X(enum, name): the members of a subset (1.7), in a query behind "subset__". */
#define SUBSET_PARAMS(X)                                                                 \
    X(WHERE, "where")                                                                    \
    X(PARAMS, "params")                                                                  \
    X(ORDER_BY, "order_by")                                                              \
    X(LIMIT, "limit")                                                                    \
    X(OFFSET, "offset")

#define SUBSET_PARAM_ENUM(id, name) SUBSET_##id,
enum subset_param { SUBSET_PARAMS(SUBSET_PARAM_ENUM) SUBSET_PARAM_COUNT };

struct params {
    struct param_value values[PARAM_COUNT];
    struct param_value subset_values[SUBSET_PARAM_COUNT];
    bool subset;         /* a subset is asked for, if only by a name that means nothing */
    bool subset_invalid; /* the body's member "subset" is no object */
};

/* Collects a query over what is there. ERR_INVALID: not UTF-8; ERR_MEMORY. */
int params_add_query(struct params *p, struct arena *arena, struct slice query);
/* The parameter of a plain name, or PARAM_COUNT. */
enum param params_find(struct slice name);
/* Appends to a LIST or MAP; false when memory is out. */
bool params_add_item(struct param_value *value, struct arena *arena,
                     struct param_item item);

#define PARAM_ERRORS_MAX 20

struct param_error {
    const char *field;
    const char *text;
    bool in_subset; /* a member of errors.subset */
    bool bare;      /* a text instead of a list of one */
};

struct param_errors {
    struct param_error items[PARAM_ERRORS_MAX];
    unsigned count;
};

enum offset_kind { OFFSET_KIND_AT, OFFSET_KIND_NOW };

struct shape_params {
    enum offset_kind offset_kind;
    struct offset offset; /* AT */
    struct slice handle;  /* empty: none */
    bool live;
    bool sse;
    struct slice cursor;
    struct ident_relation table;
    bool has_table;
    bool has_columns;
    struct ident_list columns;
    bool has_queryable;
    struct ident_list queryable;
    enum encode_replica replica;
    enum shape_log_mode log_mode;
    /* What waits for the table: later rules. */
    const char *params_error;
    struct sql_params params;           /* in order, unless params_error */
    struct slice where;                 /* empty: none */
    const struct subset_params *subset; /* subset_params.h; NULL: none is asked for */
};

enum params_use { PARAMS_READ, PARAMS_DELETE };

/* All rules that need no table. 0, ERR_INVALID with *errors filled, or ERR_MEMORY. */
int params_check(const struct params *p, enum params_use use, struct arena *arena,
                 struct shape_params *out, struct param_errors *errors);

struct selection {
    uint16_t *columns; /* ascending indexes */
    size_t count;
    bool all; /* neither `columns` nor `queryable_columns` was given */
};

/* The rules that need the table, up to the clause's. As params_check. */
int params_check_table(const struct shape_params *p, const struct table *table,
                       struct arena *arena, struct selection *out,
                       struct param_errors *errors);
/* The clause: *out is NULL when there is none. As params_check; ERR_RETRY. */
int params_check_where(const struct shape_params *p, struct table *table,
                       struct arena *arena, struct shape_where **out,
                       struct param_errors *errors);
/* An error of the clause, in the words of err. ERR_INVALID, or ERR_MEMORY. */
int params_refuse_where(const struct err *err, struct arena *arena,
                        struct param_errors *errors);
/* The error of a table that does not exist. */
int params_table_missing(const struct shape_params *p, struct arena *arena,
                         struct param_errors *errors);

#endif
