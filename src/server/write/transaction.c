/* See transaction.h. One pass over the JSON with the streaming reader; numbers keep the text that
 * they were sent with, so that no digit of a numeric is lost. */
#include "server/write/transaction.h"

#include <string.h>

#include "json/json.h"

struct parser {
    struct json_reader r;
    struct arena *arena;
    const struct write_limits *limits;
    struct err *err;
    size_t mutations; /* so far */
    size_t transactions;
    const char *where; /* "mutation", "change" for sentences */
};

static int fail(struct parser *p, int code, const char *what)
{
    return err_set(p->err, code, "%s %zu: %s", p->where, p->mutations, what);
}

static int syntax(struct parser *p)
{
    return err_set(p->err, ERR_INVALID, "the body is not valid JSON: %s at byte %zu",
                   p->r.error ? p->r.error : "something else is expected",
                   p->r.error_pos);
}

/* A growing array in the arena; NULL: no memory. */
static void *grow(struct arena *arena, void *items, size_t count, size_t size)
{
    if (count != 0 && (count < 4 || (count & (count - 1)) != 0))
        return items;
    size_t room = count == 0 ? 4 : count * 2;
    char *more = arena_calloc(arena, room, size);
    if (more && count > 0)
        memcpy(more, items, count * size);
    return more;
}

/* --- Values --- */

static bool copy(struct arena *arena, struct slice text, struct slice *out)
{
    char *bytes = arena_dup(arena, text);

    *out = slice_make(bytes, text.len);
    return bytes != NULL;
}

/* Where the value that was announced by json_next at `from` begins. */
static size_t value_start(struct slice input, size_t from)
{
    while (from < input.len && input.ptr[from] && strchr(" \t\r\n:,", input.ptr[from]))
        from++;
    return from;
}

/* Reads the next value; before: the reader's position before its first event. */
static int read_value(struct json_reader *r, enum json_event event, size_t before,
                      struct arena *arena, struct write_value *out, struct err *err)
{
    size_t start = value_start(r->input, before);

    switch (event) {
    case JSON_NULL:
        out->kind = WRITE_NULL;
        break;
    case JSON_STRING:
        out->kind = WRITE_TEXT;
        if (r->text.len > 0 && memchr(r->text.ptr, '\0', r->text.len))
            return err_set(err, ERR_INVALID,
                           "a text holds the character NUL (\\u0000), "
                           "which Postgres can't store");
        if (!copy(arena, r->text, &out->text))
            return ERR_MEMORY;
        break;
    case JSON_NUMBER:
    case JSON_TRUE:
    case JSON_FALSE:
        out->kind = WRITE_BARE;
        break;
    case JSON_OBJECT_BEGIN:
    case JSON_ARRAY_BEGIN:
        out->kind = event == JSON_ARRAY_BEGIN ? WRITE_LIST : WRITE_OBJECT;
        if (!json_skip(r, event))
            return ERR_CORRUPT;
        break;
    case JSON_END:
    case JSON_ERROR:
    case JSON_OBJECT_END:
    case JSON_ARRAY_END:
    case JSON_NAME:
        return ERR_CORRUPT;
    }
    out->raw = slice_make(r->input.ptr + start, r->pos - start);
    if (out->kind == WRITE_BARE)
        out->text = out->raw;
    return 0;
}

const struct write_value *write_values_find(const struct write_values *values,
                                            struct slice name)
{
    for (size_t i = 0; i < values->count; i++)
        if (slice_eq(values->items[i].name, name))
            return &values->items[i];
    return NULL;
}

/* An object's members, behind its brace. ERR_CORRUPT: the JSON is bad. */
static int read_values(struct json_reader *r, struct arena *arena,
                       struct write_values *out, struct err *err)
{
    *out = (struct write_values){NULL, 0};
    for (;;) {
        enum json_event event = json_next(r);
        struct write_value value = {.kind = WRITE_NULL};

        if (event == JSON_OBJECT_END)
            return 0;
        if (event != JSON_NAME)
            return ERR_CORRUPT;
        if (r->text.len == 0 || memchr(r->text.ptr, '\0', r->text.len))
            return err_set(err, ERR_INVALID, "a member's name is empty or holds NUL");
        if (out->count == WRITE_VALUES_MAX)
            return err_set(err, ERR_LIMIT, "an object has more than %u members",
                           WRITE_VALUES_MAX);
        if (!copy(arena, r->text, &value.name))
            return ERR_MEMORY;
        if (write_values_find(out, value.name))
            return err_set(err, ERR_INVALID, "\"%.63s\" is given twice", value.name.ptr);
        out->items = grow(arena, out->items, out->count, sizeof *out->items);
        if (!out->items)
            return ERR_MEMORY;
        size_t before = r->pos;
        int rc = read_value(r, json_next(r), before, arena, &value, err);
        if (rc != 0)
            return rc;
        out->items[out->count++] = value;
    }
}

/* Ends a parse: bad JSON gets its sentence. */
static int finish(struct parser *p, int rc)
{
    if (rc == 0 && json_next(&p->r) != JSON_END)
        rc = ERR_CORRUPT;
    if (rc == ERR_CORRUPT)
        rc = syntax(p);
    else if (rc == ERR_MEMORY)
        err_set(p->err, rc, "no memory for the request");
    json_reader_fini(&p->r);
    return rc;
}

int write_values_parse(struct slice body, struct arena *arena, struct write_values *out,
                       struct err *err)
{
    struct parser p = {.arena = arena, .err = err};

    *out = (struct write_values){NULL, 0};
    if (slice_trim(body).len == 0)
        return 0;
    json_reader_init(&p.r, body);
    enum json_event event = json_next(&p.r);
    if (event == JSON_OBJECT_BEGIN)
        return finish(&p, read_values(&p.r, arena, out, err));
    if (event == JSON_ERROR)
        return finish(&p, ERR_CORRUPT);
    json_reader_fini(&p.r);
    return err_set(err, ERR_INVALID, "the body must be a JSON object");
}

int write_value_parse(struct slice text, struct arena *arena, struct write_value *out,
                      struct err *err)
{
    struct parser p = {.arena = arena, .err = err};

    *out = (struct write_value){.kind = WRITE_NULL};
    json_reader_init(&p.r, text);
    return finish(&p, read_value(&p.r, json_next(&p.r), 0, arena, out, err));
}

int write_table_parse(struct slice text, struct slice *schema, struct slice *table,
                      struct err *err)
{
    const char *dot = text.len > 0 ? memchr(text.ptr, '.', text.len) : NULL;

    *schema = SLICE_LIT("public");
    *table = text;
    if (dot) {
        *schema = slice_make(text.ptr, (size_t)(dot - text.ptr));
        *table = slice_make(dot + 1, text.len - schema->len - 1);
    }
    if (schema->len > 0 && table->len > 0 && schema->len <= WRITE_NAME_MAX &&
        table->len <= WRITE_NAME_MAX && !memchr(text.ptr, '\0', text.len))
        return 0;
    return err_set(
        err, ERR_INVALID,
        "\"table\" is no name of a table: NAME or SCHEMA.NAME is expected, as the "
        "catalog has them");
}

/* --- Mutations --- */

static int read_op(struct parser *p, struct write_mutation *m)
{
    static const char *const names[] = {"insert", "update", "delete", "upsert"};

    for (unsigned i = 0; i < 4; i++) {
        if (!slice_eq(p->r.text, slice_of(names[i])))
            continue;
        m->op = (enum write_op)i;
        return 0;
    }
    return fail(p, ERR_INVALID,
                "\"op\" must be \"insert\", \"update\", \"upsert\" or \"delete\"");
}

static int read_table(struct parser *p, struct write_mutation *m)
{
    struct slice text;
    struct err why = {0};

    if (!copy(p->arena, p->r.text, &text))
        return ERR_MEMORY;
    return write_table_parse(text, &m->schema, &m->table, &why) == 0
               ? 0
               : fail(p, ERR_INVALID, why.message);
}

static int read_object(struct parser *p, enum json_event event, struct write_values *out)
{
    struct err why = {0};

    if (event != JSON_OBJECT_BEGIN)
        return fail(p, ERR_INVALID, "\"key\", \"values\" and \"expect\" must be objects");
    int rc = read_values(&p->r, p->arena, out, &why);
    return rc == ERR_INVALID || rc == ERR_LIMIT ? fail(p, rc, why.message) : rc;
}

static int read_missing(struct parser *p, struct write_mutation *m)
{
    m->ignore_missing = slice_eq(p->r.text, SLICE_LIT("ignore"));
    if (m->ignore_missing || slice_eq(p->r.text, SLICE_LIT("fail")))
        return 0;
    return fail(p, ERR_INVALID, "\"if_missing\" must be \"fail\" or \"ignore\"");
}

enum member { M_OP, M_TABLE, M_KEY, M_VALUES, M_EXPECT, M_MISSING, M_COUNT };

static const char *const members[] = {"op",     "table",  "key",
                                      "values", "expect", "if_missing"};

static int read_member(struct parser *p, struct write_mutation *m, unsigned *seen)
{
    unsigned which = 0;

    while (which < M_COUNT && !slice_eq(p->r.text, slice_of(members[which])))
        which++;
    if (which == M_COUNT)
        return fail(p, ERR_INVALID,
                    "it has a member that means nothing; \"op\", \"table\", \"key\", "
                    "\"values\", \"expect\" and \"if_missing\" do");
    if (*seen >> which & 1)
        return fail(p, ERR_INVALID, "a member is given twice");
    *seen |= 1u << which;
    enum json_event event = json_next(&p->r);
    if (which == M_KEY)
        return read_object(p, event, &m->key);
    if (which == M_VALUES)
        return read_object(p, event, &m->values);
    if (which == M_EXPECT)
        return read_object(p, event, &m->expect);
    if (event == JSON_ERROR)
        return ERR_CORRUPT;
    if (event != JSON_STRING)
        return fail(p, ERR_INVALID, "\"op\", \"table\" and \"if_missing\" must be texts");
    if (which == M_OP)
        return read_op(p, m);
    return which == M_TABLE ? read_table(p, m) : read_missing(p, m);
}

static int check_mutation(struct parser *p, const struct write_mutation *m, unsigned seen)
{
    bool has_key = seen >> M_KEY & 1;
    bool has_values = m->values.count > 0;

    if (!(seen >> M_OP & 1) || !(seen >> M_TABLE & 1))
        return fail(p, ERR_INVALID, "it needs an \"op\" and a \"table\"");
    if ((m->op == WRITE_UPDATE || m->op == WRITE_DELETE) && m->key.count == 0)
        return fail(p, ERR_INVALID, "it needs a \"key\": the columns of the primary key");
    if ((m->op == WRITE_INSERT || m->op == WRITE_UPSERT) && has_key)
        return fail(p, ERR_INVALID, "the key of a new row belongs into \"values\"");
    if (m->op != WRITE_DELETE && !has_values)
        return fail(p, ERR_INVALID, "it needs \"values\"");
    if (m->op == WRITE_DELETE && (seen >> M_VALUES & 1))
        return fail(p, ERR_INVALID, "a \"delete\" has no \"values\"");
    if ((m->op == WRITE_INSERT || m->op == WRITE_UPSERT) &&
        (m->expect.count > 0 || seen >> M_MISSING & 1))
        return fail(p, ERR_INVALID,
                    "\"expect\" and \"if_missing\" are for \"update\" and \"delete\"");
    return 0;
}

static int read_mutation(struct parser *p, struct write_mutation *m)
{
    unsigned seen = 0;

    *m = (struct write_mutation){.op = WRITE_INSERT};
    for (;;) {
        enum json_event event = json_next(&p->r);

        if (event == JSON_OBJECT_END)
            return check_mutation(p, m, seen);
        if (event != JSON_NAME)
            return ERR_CORRUPT;
        int rc = read_member(p, m, &seen);
        if (rc != 0)
            return rc;
    }
}

static int read_mutations(struct parser *p, struct write_transaction *t)
{
    for (;;) {
        enum json_event event = json_next(&p->r);

        if (event == JSON_ARRAY_END)
            return 0;
        if (event == JSON_ERROR)
            return ERR_CORRUPT;
        if (event != JSON_OBJECT_BEGIN)
            return fail(p, ERR_INVALID, "it must be an object");
        if (p->mutations == p->limits->max_mutations)
            return err_set(p->err, ERR_LIMIT,
                           "the request has more than %zu mutations: send it in parts",
                           p->limits->max_mutations);
        t->mutations = grow(p->arena, t->mutations, t->count, sizeof *t->mutations);
        if (!t->mutations)
            return ERR_MEMORY;
        int rc = read_mutation(p, &t->mutations[t->count]);
        if (rc != 0)
            return rc;
        t->count++;
        p->mutations++;
    }
}

/* --- Transactions --- */

static int read_id(struct parser *p, struct write_transaction *t)
{
    if (json_next(&p->r) != JSON_STRING || p->r.text.len == 0 ||
        p->r.text.len > WRITE_ID_MAX || memchr(p->r.text.ptr, '\0', p->r.text.len))
        return p->r.error
                   ? ERR_CORRUPT
                   : err_set(p->err, ERR_INVALID,
                             "\"id\" must be a text of 1 to %u bytes", WRITE_ID_MAX);
    return copy(p->arena, p->r.text, &t->id) ? 0 : ERR_MEMORY;
}

/* list: NULL, or set when the member turns out to be a list of transactions, into which the reader
 * has come then. */
static int read_transaction_member(struct parser *p, struct write_transaction *t,
                                   bool *list)
{
    bool wrapper = list && slice_eq(p->r.text, SLICE_LIT("transactions"));

    if (slice_eq(p->r.text, SLICE_LIT("id")))
        return t->id.len > 0 ? err_set(p->err, ERR_INVALID, "\"id\" is given twice")
                             : read_id(p, t);
    if (!wrapper && !slice_eq(p->r.text, SLICE_LIT("mutations")))
        return err_set(p->err, ERR_INVALID,
                       "\"%.*s\" means nothing here; \"id\" and \"mutations\" do",
                       (int)(p->r.text.len < 40 ? p->r.text.len : 40), p->r.text.ptr);
    if (t->count > 0 || (wrapper && t->id.len > 0))
        return err_set(p->err, ERR_INVALID, "\"mutations\" are given twice");
    enum json_event event = json_next(&p->r);
    if (event == JSON_ERROR)
        return ERR_CORRUPT;
    if (event != JSON_ARRAY_BEGIN)
        return err_set(p->err, ERR_INVALID, "\"mutations\" must be a list");
    if (wrapper)
        *list = true;
    return wrapper ? 0 : read_mutations(p, t);
}

/* Behind its brace; list as above: NULL inside of one. */
static int read_transaction(struct parser *p, struct write_transaction *t, bool *list)
{
    size_t start = p->r.pos - 1;

    *t = (struct write_transaction){.count = 0};
    for (;;) {
        enum json_event event = json_next(&p->r);

        if (event == JSON_OBJECT_END)
            break;
        if (event != JSON_NAME)
            return ERR_CORRUPT;
        int rc = read_transaction_member(p, t, list);
        if (rc != 0 || (list && *list))
            return rc;
    }
    if (t->count == 0)
        return err_set(p->err, ERR_INVALID,
                       "a transaction needs \"mutations\", at least one");
    t->raw = slice_make(p->r.input.ptr + start, p->r.pos - start);
    return 0;
}

/* Behind the bracket. */
static int read_transactions(struct parser *p, struct write_batch *batch)
{
    batch->is_list = true;
    for (;;) {
        enum json_event event = json_next(&p->r);

        if (event == JSON_ARRAY_END)
            return batch->count > 0 ? 0
                                    : err_set(p->err, ERR_INVALID,
                                              "the list of transactions is empty");
        if (event == JSON_ERROR)
            return ERR_CORRUPT;
        if (event != JSON_OBJECT_BEGIN)
            return err_set(p->err, ERR_INVALID, "a transaction must be an object");
        if (batch->count == p->limits->max_transactions)
            return err_set(p->err, ERR_LIMIT,
                           "the request has more than %zu transactions: send it in parts",
                           p->limits->max_transactions);
        batch->transactions = grow(p->arena, batch->transactions, batch->count,
                                   sizeof *batch->transactions);
        if (!batch->transactions)
            return ERR_MEMORY;
        int rc = read_transaction(p, &batch->transactions[batch->count], NULL);
        if (rc != 0)
            return rc;
        batch->count++;
    }
}

int write_batch_parse(struct slice body, const struct write_limits *limits,
                      struct arena *arena, struct write_batch *out, struct err *err)
{
    struct parser p = {.arena = arena, .limits = limits, .err = err, .where = "mutation"};
    struct write_transaction *one = arena_zalloc(arena, sizeof *one);

    *out = (struct write_batch){.count = 0};
    if (!one)
        return err_set(err, ERR_MEMORY, "no memory for the request");
    json_reader_init(&p.r, body);
    enum json_event event = json_next(&p.r);
    if (event == JSON_ARRAY_BEGIN)
        return finish(&p, read_transactions(&p, out));
    if (event != JSON_OBJECT_BEGIN) {
        if (event == JSON_ERROR)
            return finish(&p, ERR_CORRUPT);
        json_reader_fini(&p.r);
        return err_set(
            err, ERR_INVALID,
            "the body must be a transaction, {\"mutations\": [...]}, or a list "
            "of them");
    }
    bool list = false;
    int rc = read_transaction(&p, one, &list);
    if (rc == 0 && list)
        rc = read_transactions(&p, out);
    if (rc == 0 && list && json_next(&p.r) != JSON_OBJECT_END)
        rc = ERR_CORRUPT;
    rc = finish(&p, rc);
    if (rc == 0 && !list) {
        out->transactions = one;
        out->count = 1;
    }
    return rc;
}

/* --- POST /changes --- */

/* Moves what is asked for out of the change's value. */
static int fill_change(struct parser *p, const struct write_values *value,
                       const struct write_value *write_id, const struct slice *columns,
                       size_t column_count, struct write_mutation *m)
{
    const struct write_value *id = write_values_find(value, SLICE_LIT("id"));
    struct write_value *items =
        arena_calloc(p->arena, column_count + 2, sizeof *m->values.items);
    size_t n = 0;

    if (!items)
        return ERR_MEMORY;
    if (!id)
        return fail(p, ERR_INVALID, "its \"value\" needs an \"id\"");
    m->key = (struct write_values){(struct write_value *)(uintptr_t)id, 1};
    if (m->op == WRITE_DELETE)
        return 0;
    for (size_t i = 0; i < column_count; i++) {
        const struct write_value *v = write_values_find(value, columns[i]);

        if (slice_eq(columns[i], SLICE_LIT("write_id")))
            v = write_id;
        if (!v || (m->op == WRITE_UPDATE && v == id))
            continue;
        items[n] = *v;
        items[n++].name = columns[i];
    }
    m->values = (struct write_values){items, n};
    if (m->op == WRITE_INSERT)
        m->key.count = 0;
    else if (n == 0)
        return fail(p, ERR_INVALID, "its \"value\" has no column to write");
    return 0;
}

static int read_change(struct parser *p, const struct write_values *change,
                       const struct slice *columns, size_t column_count,
                       struct write_mutation *m)
{
    const struct write_value *op = write_values_find(change, SLICE_LIT("operation"));
    const struct write_value *value = write_values_find(change, SLICE_LIT("value"));
    struct write_values members_of_value;
    struct err why = {0};

    if (op && slice_eq(op->text, SLICE_LIT("insert")))
        m->op = WRITE_INSERT;
    else if (op && slice_eq(op->text, SLICE_LIT("update")))
        m->op = WRITE_UPDATE;
    else if (op && slice_eq(op->text, SLICE_LIT("delete")))
        m->op = WRITE_DELETE;
    else
        return fail(p, ERR_INVALID,
                    "its \"operation\" must be \"insert\", \"update\" or \"delete\"");
    if (!value || value->kind != WRITE_OBJECT)
        return fail(p, ERR_INVALID, "its \"value\" must be an object");
    int rc = write_values_parse(value->raw, p->arena, &members_of_value, &why);
    if (rc != 0)
        return rc == ERR_MEMORY ? rc : fail(p, rc, why.message);
    m->ignore_missing = m->op == WRITE_DELETE; /* gone already: that is what was wanted */
    return fill_change(p, &members_of_value,
                       write_values_find(change, SLICE_LIT("write_id")), columns,
                       column_count, m);
}

/* The changes of one of the client's transactions, a list's text. */
static int read_changes(struct parser *p, struct slice table, const struct slice *columns,
                        size_t column_count, struct write_transaction *t)
{
    for (;;) {
        enum json_event event = json_next(&p->r);
        struct write_values change;
        struct err why = {0};

        if (event == JSON_ARRAY_END)
            return 0;
        if (event == JSON_ERROR)
            return ERR_CORRUPT;
        if (event != JSON_OBJECT_BEGIN)
            return fail(p, ERR_INVALID, "it must be an object");
        if (p->mutations == p->limits->max_mutations)
            return err_set(p->err, ERR_LIMIT, "the request has more than %zu changes",
                           p->limits->max_mutations);
        int rc = read_values(&p->r, p->arena, &change, &why);
        if (rc != 0)
            return rc == ERR_INVALID || rc == ERR_LIMIT ? fail(p, rc, why.message) : rc;
        t->mutations = grow(p->arena, t->mutations, t->count, sizeof *t->mutations);
        if (!t->mutations)
            return ERR_MEMORY;
        struct write_mutation *m = &t->mutations[t->count];
        *m = (struct write_mutation){.op = WRITE_INSERT};
        rc = write_table_parse(table, &m->schema, &m->table, p->err);
        rc = rc ? rc : read_change(p, &change, columns, column_count, m);
        if (rc != 0)
            return rc;
        t->count++;
        p->mutations++;
    }
}

/* One element of the outer list, behind its brace: {"id":…,"changes":[…]}. */
static int read_group(struct parser *p, struct slice table, const struct slice *columns,
                      size_t column_count, struct write_transaction *t)
{
    for (;;) {
        enum json_event event = json_next(&p->r);

        if (event == JSON_OBJECT_END)
            return 0;
        if (event != JSON_NAME)
            return ERR_CORRUPT;
        bool changes = slice_eq(p->r.text, SLICE_LIT("changes"));
        event = json_next(&p->r);
        if (changes && event == JSON_ARRAY_BEGIN) {
            int rc = read_changes(p, table, columns, column_count, t);

            if (rc != 0)
                return rc;
        } else if (changes) {
            return fail(p, ERR_INVALID, "\"changes\" must be a list");
        } else if (event == JSON_OBJECT_BEGIN || event == JSON_ARRAY_BEGIN) {
            if (!json_skip(&p->r, event))
                return ERR_CORRUPT;
        } else if (event == JSON_ERROR) {
            return ERR_CORRUPT;
        }
    }
}

int write_changes_parse(struct slice body, struct slice table,
                        const struct slice *columns, size_t column_count,
                        const struct write_limits *limits, struct arena *arena,
                        struct write_transaction *out, struct err *err)
{
    struct parser p = {.arena = arena, .limits = limits, .err = err, .where = "change"};
    int rc = 0;

    *out = (struct write_transaction){.count = 0};
    json_reader_init(&p.r, body);
    enum json_event event = json_next(&p.r);
    if (event != JSON_ARRAY_BEGIN)
        rc = event == JSON_ERROR ? ERR_CORRUPT : ERR_INVALID;
    while (rc == 0 && (event = json_next(&p.r)) != JSON_ARRAY_END) {
        if (event == JSON_OBJECT_BEGIN)
            rc = read_group(&p, table, columns, column_count, out);
        else
            rc = event == JSON_ERROR ? ERR_CORRUPT : ERR_INVALID;
    }
    if (rc == ERR_INVALID && err->code == 0)
        err_set(err, rc, "the body must be a list of {\"id\": ..., \"changes\": [...]}");
    rc = finish(&p, rc);
    if (rc == 0 && out->count == 0)
        rc = err_set(err, ERR_INVALID, "the body holds no change");
    return rc;
}

/* --- Arrays --- */

static void put_element(struct buf *out, struct slice text)
{
    buf_putc(out, '"');
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '"' || text.ptr[i] == '\\')
            buf_putc(out, '\\');
        buf_putc(out, text.ptr[i]);
    }
    buf_putc(out, '"');
}

static int put_scalar(struct json_reader *r, enum json_event event, bool json,
                      struct slice raw, struct buf *out)
{
    if (event == JSON_NULL)
        buf_puts(out, "NULL");
    else if (json)
        put_element(out, raw);
    else if (event == JSON_STRING)
        put_element(out, r->text);
    else if (event == JSON_TRUE || event == JSON_FALSE)
        buf_puts(out, event == JSON_TRUE ? "true" : "false");
    else if (event == JSON_NUMBER)
        buf_put_slice(out, r->text);
    else
        return ERR_INVALID;
    return 0;
}

int write_put_array(struct slice raw, bool json_elements, struct buf *out,
                    struct err *err)
{
    struct json_reader r;
    unsigned depth = 0;
    bool first = true;
    int rc = 0;

    json_reader_init(&r, raw);
    do {
        size_t before = r.pos;
        enum json_event event = json_next(&r);

        if (event == JSON_ARRAY_END) {
            buf_putc(out, '}');
            depth--;
            first = false;
            continue;
        }
        if (!first)
            buf_putc(out, ',');
        first = event == JSON_ARRAY_BEGIN && !(json_elements && depth > 0);
        if (first) {
            buf_putc(out, '{');
            depth++;
            continue;
        }
        if (json_elements && (event == JSON_OBJECT_BEGIN || event == JSON_ARRAY_BEGIN) &&
            !json_skip(&r, event))
            event = JSON_ERROR;
        size_t start = value_start(raw, before);
        if (event == JSON_ERROR || event == JSON_END)
            rc = ERR_INVALID;
        else
            rc = put_scalar(&r, event, json_elements,
                            slice_make(raw.ptr + start, r.pos - start), out);
    } while (rc == 0 && depth > 0);
    json_reader_fini(&r);
    if (rc != 0)
        return err_set(err, ERR_INVALID, "a list for an array holds an object");
    return out->failed ? err_set(err, out->failed, "a list is too long") : 0;
}
