/*
 * Text to the parser's tree, by libpg_query: the clause behind "SELECT 1 WHERE ", which has to
 * come back as that statement and nothing more.
 *
 * The parser, its protobuf writer and the protobuf reader all recurse over the tree, the reader
 * with a kilobyte a level. So what is longer than SQL_WHERE_SHORT_BYTES is parsed on a thread
 * with a large stack, and the depth of the written tree is looked at, without recursion, before
 * it is read. Measured with 32 KiB of the worst texts (NOT NOT …, a::b::b…): the parser and the
 * writer stay within 16 MiB, the reader would not. A short text cannot be deep; the thread would be
 * half of its cost (21 of 45 µs for `a = 1`, and two changes of threads).
 *
 * The writer takes time that grows with the square of the depth, which only a chain of operators
 * can make large (150 ms for 32 KiB of 1+): so the tokens of long texts are looked at first.
 *
 * The thread ends with the call, and with it all memory that the library keeps for a thread; what
 * it keeps for a caller's thread is some ten KiB until that ends.
 */

#include <pg_query.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "sql/resolve.h"

#define STACK_BYTES ((size_t)16 * 1024 * 1024)
/* Levels of protobuf messages; one of ours takes two to four. */
#define MESSAGE_DEPTH_MAX 2000
/* Tokens of a long text without AND, OR, WHEN or a comma: half as many operators may be nested,
 * which is ten times more than a tree may have levels. */
#define CHAIN_MAX 4000

/* ---- depth ---- */

struct level {
    size_t end;
    const ProtobufCMessageDescriptor *message;
};

static bool read_varint(const uint8_t *p, size_t *at, size_t end, uint64_t *out)
{
    *out = 0;
    for (unsigned shift = 0; *at < end && shift < 64; shift += 7) {
        uint8_t byte = p[(*at)++];

        *out |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

/* Skips a field's value or, of a message, gives it as the level below. */
static bool read_field(const uint8_t *p, size_t *at, const struct level *in,
                       struct level *below)
{
    const ProtobufCFieldDescriptor *field;
    uint64_t tag, n;

    below->message = NULL;
    if (!read_varint(p, at, in->end, &tag))
        return false;
    switch (tag & 7) {
    case 0:
        return read_varint(p, at, in->end, &n);
    case 1:
    case 5:
        n = (tag & 7) == 1 ? 8 : 4;
        break;
    case 2:
        if (!read_varint(p, at, in->end, &n))
            return false;
        break;
    default:
        return false;
    }
    if (n > in->end - *at)
        return false;
    field = protobuf_c_message_descriptor_get_field(in->message, (unsigned)(tag >> 3));
    if (field && field->type == PROTOBUF_C_TYPE_MESSAGE) {
        below->message = field->descriptor;
        below->end = *at + n;
    } else {
        *at += n;
    }
    return true;
}

static bool is_shallow(PgQueryProtobuf tree)
{
    static const size_t max = MESSAGE_DEPTH_MAX;
    struct level *levels = calloc(max, sizeof(*levels));
    const uint8_t *p = (const uint8_t *)tree.data;
    size_t depth = 1;
    size_t at = 0;
    bool ok = levels != NULL;

    if (ok)
        levels[0] = (struct level){tree.len, &pg_query__parse_result__descriptor};
    while (ok && depth > 0) {
        struct level below;

        if (at == levels[depth - 1].end) {
            depth--;
            continue;
        }
        ok = read_field(p, &at, &levels[depth - 1], &below);
        if (ok && below.message) {
            ok = depth < max;
            if (ok)
                levels[depth++] = below;
        }
    }
    free(levels);
    return ok;
}

/* ---- the statement ---- */

static void refuse_plain(struct resolve *r, const char *text)
{
    if (r->rc == 0)
        r->rc = err_set(r->err, ERR_INVALID, "%s", text);
}

/* But for the clauses that callers parse. */
static bool is_plain_select(const PgQuery__SelectStmt *s)
{
    return s->n_target_list == 1 && s->n_distinct_clause == 0 && !s->into_clause &&
           s->n_from_clause == 0 && s->n_group_clause == 0 && !s->having_clause &&
           s->n_window_clause == 0 && s->n_values_lists == 0 && !s->limit_offset &&
           !s->limit_count && s->n_locking_clause == 0 && !s->with_clause &&
           s->op == PG_QUERY__SET_OPERATION__SETOP_NONE;
}

/* A ";" behind it, or several, is no split: nothing follows. */
static void read_tree(struct parse *p, const PgQuery__ParseResult *tree)
{
    const PgQuery__Node *stmt = tree->n_stmts == 1 ? tree->stmts[0]->stmt : NULL;

    if (!stmt)
        refuse_plain(p->r, p->split);
    else if (stmt->node_case != PG_QUERY__NODE__NODE_SELECT_STMT ||
             !is_plain_select(stmt->select_stmt) || !p->read(p, stmt->select_stmt))
        refuse_plain(p->r, "malformed query ending with SQL clauses");
}

/* The grammar's own errors: positions count from the wrapped text (spec 6.7). Their words may
 * quote all of the rest. */
static int refuse_grammar(struct resolve *r, const PgQueryError *error)
{
    struct slice reason = slice_of(error->message);

    reason.len = reason.len > 300 ? 300 : reason.len;
    reason.len = slice_utf8_prefix(reason);
    r->rc = err_set(r->err, ERR_INVALID, "At location %d: %.*s",
                    error->cursorpos > 0 ? error->cursorpos - 1 : 0, (int)reason.len,
                    reason.ptr);
    return r->rc;
}

/* False as well when the text has tokens that aren't: the parser says which. */
static bool has_long_chain(const char *text)
{
    PgQueryScanResult scanned = pg_query_scan(text);
    PgQuery__ScanResult *tokens = NULL;
    size_t longest = 0, chain = 0;

    if (!scanned.error)
        tokens = pg_query__scan_result__unpack(NULL, scanned.pbuf.len,
                                               (const uint8_t *)scanned.pbuf.data);
    for (size_t i = 0; tokens && i < tokens->n_tokens; i++) {
        PgQuery__Token t = tokens->tokens[i]->token;
        bool separates = t == PG_QUERY__TOKEN__ASCII_44 || t == PG_QUERY__TOKEN__AND ||
                         t == PG_QUERY__TOKEN__OR || t == PG_QUERY__TOKEN__WHEN;

        chain = separates ? 0 : chain + 1;
        longest = chain > longest ? chain : longest;
    }
    if (tokens)
        pg_query__scan_result__free_unpacked(tokens, NULL);
    pg_query_free_scan_result(scanned);
    return longest > CHAIN_MAX;
}

static void refuse_complex(struct parse *p)
{
    resolve_refuse(p->r, (int)strlen(p->prefix), "the expression is too complex");
}

static void parse_text(struct parse *p)
{
    PgQueryProtobufParseResult result = pg_query_parse_protobuf(p->r->text);
    PgQuery__ParseResult *tree = NULL;

    if (result.error)
        refuse_grammar(p->r, result.error);
    else if (!is_shallow(result.parse_tree))
        refuse_complex(p);
    else
        tree = pg_query__parse_result__unpack(NULL, result.parse_tree.len,
                                              (const uint8_t *)result.parse_tree.data);
    if (tree) {
        read_tree(p, tree);
        pg_query__parse_result__free_unpacked(tree, NULL);
    } else if (p->r->rc == 0) {
        resolve_memory(p->r);
    }
    pg_query_free_protobuf_parse_result(result);
}

static void *parse_thread(void *arg)
{
    struct parse *p = arg;

    if (!p->printed && has_long_chain(p->r->text))
        refuse_complex(p);
    else
        parse_text(p);
    return NULL;
}

/* Runs fn(arg) on a thread with a stack of STACK_BYTES and waits for it. */
static int run_on_large_stack(void *(*fn)(void *), void *arg, struct err *err)
{
    pthread_attr_t attr;
    pthread_t thread;
    int rc = pthread_attr_init(&attr);

    if (rc != 0)
        return err_errno(err, ERR_RETRY, rc, "no thread to parse on");
    rc = pthread_attr_setstacksize(&attr, STACK_BYTES);
    if (rc == 0)
        rc = pthread_create(&thread, &attr, fn, arg);
    (void)pthread_attr_destroy(&attr);
    if (rc != 0)
        return err_errno(err, ERR_RETRY, rc, "no thread to parse on");
    (void)pthread_join(thread, NULL);
    return 0;
}

/* ---- entry ---- */

static int check_text(const struct parse *p, struct slice text)
{
    struct err *err = p->r->err;

    if (!p->printed && text.len > SQL_WHERE_MAX_BYTES)
        return err_set(err, ERR_INVALID, "the %s is bigger than maximum size (%u bytes)",
                       p->what, SQL_WHERE_MAX_BYTES);
    if (text.len > 0 && memchr(text.ptr, 0, text.len))
        return err_set(err, ERR_INVALID, "a %s can't hold a NUL character", p->what);
    if (!slice_is_utf8(text))
        return err_set(err, ERR_INVALID, "a %s has to be UTF-8", p->what);
    return 0;
}

int parse_select(struct parse *p, struct slice text)
{
    int rc = check_text(p, text);

    if (rc != 0)
        return rc;
    p->r->text = arena_printf(p->r->arena, "%s%.*s", p->prefix, (int)text.len, text.ptr);
    if (!p->r->text)
        resolve_memory(p->r);
    else if (text.len <= SQL_WHERE_SHORT_BYTES)
        parse_text(p);
    else
        rc = run_on_large_stack(parse_thread, p, p->r->err);
    return rc ? rc : p->r->rc;
}

/* ---- where-clauses ---- */

static int check_params(const struct sql_params *params, struct err *err)
{
    if (params->count > SQL_PARAMS_MAX)
        return err_set(err, ERR_INVALID, "there are more than %u parameters",
                       SQL_PARAMS_MAX);
    for (size_t i = 0; i < params->count; i++) {
        struct slice v = params->values[i];

        if ((v.len > 0 && memchr(v.ptr, 0, v.len)) || !slice_is_utf8(v))
            return err_set(err, ERR_INVALID,
                           "parameter $%zu has to be UTF-8 without a NUL character",
                           i + 1);
    }
    return 0;
}

struct parse_where {
    struct parse parse; /* first */
    struct sql_expr *root;
};

static bool read_where(struct parse *p, const PgQuery__SelectStmt *select)
{
    if (!select->where_clause || select->n_sort_clause > 0)
        return false;
    ((struct parse_where *)(void *)p)->root = resolve_where(p->r, select->where_clause);
    return true;
}

static int parse_any(struct slice text, const struct sql_table *table,
                     const struct sql_params *params, bool printed, struct arena *arena,
                     const struct sql_expr **out, struct err *err)
{
    static const struct sql_params none = {0};
    struct err own = {0};
    struct resolve r = {.table = table,
                        .params = params ? params : &none,
                        .arena = arena,
                        .err = err ? err : &own,
                        .uncounted = WHERE_PREFIX_BYTES};
    struct parse_where p = {.parse = {.r = &r,
                                      .what = "where-clause",
                                      .prefix = WHERE_PREFIX,
                                      .split = "unescaped \";\" causing statement split",
                                      .printed = printed,
                                      .read = read_where}};
    int rc = check_params(r.params, r.err);

    *out = NULL;
    if (rc != 0)
        return rc;
    r.param_types = arena_calloc(arena, r.params->count, sizeof(*r.param_types));
    if (!r.param_types) {
        resolve_memory(&r);
        return r.rc;
    }
    rc = parse_select(&p.parse, text);
    *out = rc == 0 ? p.root : NULL;
    return rc;
}

int sql_where_parse(struct slice text, const struct sql_table *table,
                    const struct sql_params *params, struct arena *arena,
                    const struct sql_expr **out, struct err *err)
{
    return parse_any(text, table, params, false, arena, out, err);
}

int sql_where_reparse(struct slice printed, const struct sql_table *table,
                      struct arena *arena, const struct sql_expr **out, struct err *err)
{
    return parse_any(printed, table, NULL, true, arena, out, err);
}
