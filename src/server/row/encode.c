/*
 * Rows and changes as JSON messages.
 *
 * A message is  {"key":"…","value":{…}[,"old_value":{…}],"headers":{…}}  with the headers
 * last, so that `last` can be added to a finished message by whoever knows that it is the
 * final one of its transaction. Everything that depends on the table, the columns and the
 * mode only is escaped once, into the plan's text; a row then costs a few copies of
 * fragments and one pass over its own bytes:
 *
 *   open       {"key":"\"public\".\"t\"
 *   part       /\"<value>\"   or   /_                 per key column
 *   column     ,"col":                                per selected column (comma cut off
 *                                                     before the first)
 *   tail       },"headers":{"operation":"insert","relation":["public","t"]}}   (snapshot)
 *   head[op]   },"headers":{"operation":"…","relation":["public","t"],"txids":[   (log)
 *
 * Key text (shape-protocol.md 4.5): the relation in SQL quoting, then for each key column
 * in the key's order a slash and the value in quotes, slashes in it doubled; NULL,
 * possible only without a primary key, is a bare underscore. One function makes it for
 * the snapshot and for the stream.
 *
 * Rejected: building the message from parts per request (a JSON tree, or the database's
 * own json functions). Both cost an allocation per value, and the second can't serve the
 * stream.
 */

#include "server/row/encode.h"

#include <stdlib.h>

#include "base/assert.h"
#include "json/json.h"

/* 1600 columns with names of 63 bytes, each byte escaped to six, stay far below it. */
#define PLAN_TEXT_MAX_BYTES (4u * 1024 * 1024)

enum op { OP_INSERT, OP_UPDATE, OP_DELETE, OP_COUNT };

static const char *const op_names[OP_COUNT] = {
    [OP_INSERT] = "insert",
    [OP_UPDATE] = "update",
    [OP_DELETE] = "delete",
};

/* A piece of the plan's text. */
struct fragment {
    uint32_t at;
    uint32_t len;
};

struct plan_column {
    struct fragment label; /* ,"name": */
    uint16_t index;        /* into the table's columns, and so into a row */
    bool in_key;
};

struct encode_plan {
    atomic_uint refs;
    bool full;
    uint16_t column_count;
    uint16_t key_count;
    struct fragment open;
    struct fragment tail;
    struct fragment head[OP_COUNT];
    struct plan_column *columns;
    uint16_t *key; /* column indexes in the key's order */
    char *text;
};

/* The plan. */

static struct fragment fragment_since(const struct buf *text, size_t at)
{
    return (struct fragment){(uint32_t)at, (uint32_t)(text->len - at)};
}

static struct fragment put_open(struct buf *text, const struct table *table)
{
    size_t at = text->len;
    struct buf name;

    buf_init(&name, PLAN_TEXT_MAX_BYTES);
    table_put_name(&name, table);
    buf_puts(text, "{\"key\":\"");
    json_put_escaped(text, buf_slice(&name));
    if (name.failed)
        text->failed = name.failed;
    buf_fini(&name);
    return fragment_since(text, at);
}

static struct fragment put_head(struct buf *text, const struct table *table, enum op op,
                                const char *end)
{
    size_t at = text->len;

    buf_puts(text, "},\"headers\":{\"operation\":\"");
    buf_puts(text, op_names[op]);
    buf_puts(text, "\",\"relation\":[");
    json_put_string(text, table->schema);
    buf_putc(text, ',');
    json_put_string(text, table->name);
    buf_puts(text, end);
    return fragment_since(text, at);
}

static struct fragment put_label(struct buf *text, struct slice name)
{
    size_t at = text->len;

    buf_putc(text, ',');
    json_put_string(text, name);
    buf_putc(text, ':');
    return fragment_since(text, at);
}

static void fill_columns(struct encode_plan *plan, struct buf *text,
                         const struct table *table, const uint16_t *selected)
{
    for (size_t i = 0; i < plan->column_count; i++) {
        struct plan_column *column = &plan->columns[i];

        ASSERT(selected[i] < table->column_count);
        column->index = selected[i];
        column->in_key = false;
        column->label = put_label(text, table->columns[selected[i]].name);
        for (size_t k = 0; k < table->pk_count; k++)
            column->in_key = column->in_key || table->pk[k] == selected[i];
    }
    for (size_t k = 0; k < table->pk_count; k++)
        plan->key[k] = table->pk[k];
}

static void plan_free(struct encode_plan *plan)
{
    free(plan->columns);
    free(plan->key);
    free(plan->text);
    free(plan);
}

struct encode_plan *encode_plan_new(const struct table *table, const uint16_t *selected,
                                    size_t count, enum encode_replica replica)
{
    struct encode_plan *plan = calloc(1, sizeof(*plan));
    struct buf text;

    if (!plan)
        return NULL;
    ASSERT(count <= table->column_count);
    atomic_init(&plan->refs, 1);
    plan->full = replica == ENCODE_REPLICA_FULL;
    plan->column_count = (uint16_t)count;
    plan->key_count = table->pk_count;
    plan->columns = calloc(count ? count : 1, sizeof(*plan->columns));
    plan->key = calloc(table->pk_count ? table->pk_count : 1u, sizeof(*plan->key));
    if (!plan->columns || !plan->key) {
        plan_free(plan);
        return NULL;
    }
    buf_init(&text, PLAN_TEXT_MAX_BYTES);
    plan->open = put_open(&text, table);
    plan->tail = put_head(&text, table, OP_INSERT, "]" ENCODE_END);
    for (int op = 0; op < OP_COUNT; op++)
        plan->head[op] = put_head(&text, table, (enum op)op, "],\"txids\":[");
    fill_columns(plan, &text, table, selected);
    plan->text = buf_take(&text, NULL);
    if (!plan->text) {
        plan_free(plan);
        return NULL;
    }
    return plan;
}

void encode_plan_put_identity(struct buf *out, const struct encode_plan *plan)
{
    const struct fragment *last = &plan->columns[plan->column_count - 1].label;

    buf_putc(out, plan->full ? 'f' : 'd');
    buf_put_le32(out, plan->column_count);
    for (size_t i = 0; i < plan->column_count; i++)
        buf_put_le32(out, plan->columns[i].index);
    buf_put_le32(out, plan->key_count);
    for (size_t i = 0; i < plan->key_count; i++)
        buf_put_le32(out, plan->key[i]);
    /* The text has all names; the labels come last (fill_columns). */
    buf_put(out, plan->text, (size_t)last->at + last->len);
}

struct encode_plan *encode_plan_retain(struct encode_plan *plan)
{
    atomic_fetch_add_explicit(&plan->refs, 1, memory_order_relaxed);
    return plan;
}

void encode_plan_release(struct encode_plan *plan)
{
    if (plan && atomic_fetch_sub_explicit(&plan->refs, 1, memory_order_acq_rel) == 1)
        plan_free(plan);
}

/* Pieces of a message. */

static void put_fragment(struct buf *out, const struct encode_plan *plan,
                         struct fragment f)
{
    buf_put(out, plan->text + f.at, f.len);
}

/* "char" values above ASCII: Postgres 15 and later write them as \ooo, 14 as the raw byte,
 * which alone is never UTF-8. Both are told as \ooo. */
#define OCTAL_SIZE 5

static struct slice value_text(struct value v, char octal[OCTAL_SIZE])
{
    if (v.len != 1 || ((unsigned char)v.ptr[0] & 0x80) == 0)
        return slice_make(v.ptr, v.len);
    unsigned char byte = (unsigned char)v.ptr[0];

    octal[0] = '\\';
    octal[1] = (char)('0' + (byte >> 6));
    octal[2] = (char)('0' + (byte >> 3 & 7));
    octal[3] = (char)('0' + (byte & 7));
    octal[4] = '\0';
    return slice_make(octal, OCTAL_SIZE - 1);
}

/* A key's text value, its slashes doubled, JSON-escaped. */
static void put_key_text(struct buf *out, struct slice text)
{
    const char *slash;

    while (text.len > 0 && (slash = memchr(text.ptr, '/', text.len)) != NULL) {
        size_t n = (size_t)(slash - text.ptr) + 1;

        json_put_escaped(out, slice_make(text.ptr, n));
        buf_putc(out, '/');
        text.ptr += n;
        text.len -= n;
    }
    json_put_escaped(out, text);
}

/* The parts of a key behind the relation's name, without the closing quote. */
static void put_key_parts(struct buf *out, const struct encode_plan *plan,
                          const struct value *row)
{
    for (size_t i = 0; i < plan->key_count; i++) {
        struct value v = row[plan->key[i]];

        ASSERT(v.kind != VALUE_UNCHANGED);
        if (v.kind == VALUE_NULL) {
            buf_put(out, "/_", 2);
            continue;
        }
        buf_put(out, "/\\\"", 3);
        char octal[OCTAL_SIZE];
        put_key_text(out, value_text(v, octal));
        buf_put(out, "\\\"", 2);
    }
}

static void put_open_key(struct buf *out, const struct encode_plan *plan,
                         const struct value *row)
{
    put_fragment(out, plan, plan->open);
    put_key_parts(out, plan, row);
    buf_put(out, "\",\"value\":{", 11);
}

/* One member; *first says whether it is the object's first. */
static void put_member(struct buf *out, const struct encode_plan *plan,
                       const struct plan_column *column, struct value v, bool *first)
{
    struct fragment label = column->label;

    if (*first) {
        label.at++;
        label.len--;
        *first = false;
    }
    put_fragment(out, plan, label);
    ASSERT(v.kind != VALUE_UNCHANGED);
    char octal[OCTAL_SIZE];
    if (v.kind == VALUE_NULL)
        buf_put(out, "null", 4);
    else
        json_put_string(out, value_text(v, octal));
}

static void put_row(struct buf *out, const struct encode_plan *plan,
                    const struct value *row)
{
    bool first = true;

    for (size_t i = 0; i < plan->column_count; i++)
        put_member(out, plan, &plan->columns[i], row[plan->columns[i].index], &first);
}

static void put_key_columns(struct buf *out, const struct encode_plan *plan,
                            const struct value *row)
{
    bool first = true;

    for (size_t i = 0; i < plan->column_count; i++) {
        if (plan->columns[i].in_key)
            put_member(out, plan, &plan->columns[i], row[plan->columns[i].index], &first);
    }
}

/* The headers of a log entry up to where ENCODE_END or another header follows. */
static void put_log_head(struct buf *out, const struct encode_plan *plan, enum op op,
                         const struct encode_txn *txn, uint64_t position)
{
    put_fragment(out, plan, plan->head[op]);
    buf_put_u64(out, txn->xid);
    buf_put(out, "],\"lsn\":\"", 9);
    buf_put_u64(out, txn->lsn);
    buf_put(out, "\",\"op_position\":", 16);
    buf_put_u64(out, position);
}

static void put_end(struct buf *out)
{
    buf_put(out, ENCODE_END, sizeof(ENCODE_END) - 1);
}

/* ,"key_change_to":"<key>"  (or …_from): the open fragment holds the relation's name
 * behind
 * {"key":" . */
static void put_key_header(struct buf *out, const struct encode_plan *plan,
                           const char *label, const struct value *row)
{
    const size_t before = sizeof("{\"key\":\"") - 1;

    buf_puts(out, label);
    buf_put(out, plan->text + plan->open.at + before, plan->open.len - before);
    put_key_parts(out, plan, row);
    buf_putc(out, '"');
}

/* Messages. */

void encode_snapshot_row(struct buf *out, const struct encode_plan *plan,
                         const struct value *row)
{
    put_open_key(out, plan, row);
    put_row(out, plan, row);
    put_fragment(out, plan, plan->tail);
}

void encode_snapshot_end(struct buf *out, uint64_t xmin, uint64_t xmax,
                         const uint64_t *xip, size_t xip_count)
{
    buf_puts(out, "{\"headers\":{\"control\":\"snapshot-end\",\"xmin\":\"");
    buf_put_u64(out, xmin);
    buf_puts(out, "\",\"xmax\":\"");
    buf_put_u64(out, xmax);
    buf_puts(out, "\",\"xip_list\":[");
    for (size_t i = 0; i < xip_count; i++) {
        buf_puts(out, i == 0 ? "\"" : ",\"");
        buf_put_u64(out, xip[i]);
        buf_putc(out, '"');
    }
    buf_putc(out, ']');
    put_end(out);
}

void encode_insert(struct buf *out, const struct encode_plan *plan,
                   const struct encode_txn *txn, uint64_t op, const struct value *row)
{
    put_open_key(out, plan, row);
    put_row(out, plan, row);
    put_log_head(out, plan, OP_INSERT, txn, op);
    put_end(out);
}

/* A delete up to its end; without a primary key every column is a key column. */
static void put_delete(struct buf *out, const struct encode_plan *plan,
                       const struct encode_txn *txn, uint64_t op, const struct value *old)
{
    put_open_key(out, plan, old);
    if (plan->full)
        put_row(out, plan, old);
    else
        put_key_columns(out, plan, old);
    put_log_head(out, plan, OP_DELETE, txn, op);
}

void encode_delete(struct buf *out, const struct encode_plan *plan,
                   const struct encode_txn *txn, uint64_t op, const struct value *old)
{
    put_delete(out, plan, txn, op, old);
    put_end(out);
}

/* A TOASTed value that the change did not carry is the old one. */
static struct value new_value(const struct value *old, const struct value *row,
                              size_t index)
{
    return row[index].kind == VALUE_UNCHANGED ? old[index] : row[index];
}

static bool differs(const struct value *old, const struct value *row, size_t index)
{
    return !value_eq(old[index], new_value(old, row, index));
}

static bool any_selected_differs(const struct encode_plan *plan, const struct value *old,
                                 const struct value *row)
{
    for (size_t i = 0; i < plan->column_count; i++) {
        if (differs(old, row, plan->columns[i].index))
            return true;
    }
    return false;
}

/* },"old_value":{ and the previous values of what changed; the head behind it closes it.
 */
static void put_old_values(struct buf *out, const struct encode_plan *plan,
                           const struct value *old, const struct value *row)
{
    bool first = true;

    buf_puts(out, "},\"old_value\":{");
    for (size_t i = 0; i < plan->column_count; i++) {
        const struct plan_column *column = &plan->columns[i];

        if (differs(old, row, column->index))
            put_member(out, plan, column, old[column->index], &first);
    }
}

bool encode_update(struct buf *out, const struct encode_plan *plan,
                   const struct encode_txn *txn, uint64_t op, const struct value *old,
                   const struct value *row)
{
    bool first = true;

    if (!any_selected_differs(plan, old, row))
        return false;
    put_open_key(out, plan, old); /* the key did not change */
    for (size_t i = 0; i < plan->column_count; i++) {
        const struct plan_column *column = &plan->columns[i];

        if (plan->full || column->in_key || differs(old, row, column->index))
            put_member(out, plan, column, new_value(old, row, column->index), &first);
    }
    if (plan->full)
        put_old_values(out, plan, old, row);
    put_log_head(out, plan, OP_UPDATE, txn, op);
    put_end(out);
    return true;
}

void encode_key_change_delete(struct buf *out, const struct encode_plan *plan,
                              const struct encode_txn *txn, uint64_t op,
                              const struct value *old, const struct value *row)
{
    put_delete(out, plan, txn, op, old);
    put_key_header(out, plan, ",\"key_change_to\":\"", row);
    put_end(out);
}

void encode_key_change_insert(struct buf *out, const struct encode_plan *plan,
                              const struct encode_txn *txn, uint64_t op,
                              const struct value *old, const struct value *row)
{
    bool first = true;

    put_open_key(out, plan, row);
    for (size_t i = 0; i < plan->column_count; i++) {
        const struct plan_column *column = &plan->columns[i];

        put_member(out, plan, column, new_value(old, row, column->index), &first);
    }
    put_log_head(out, plan, OP_INSERT, txn, op);
    put_key_header(out, plan, ",\"key_change_from\":\"", old);
    put_end(out);
}

bool encode_key_differs(const struct encode_plan *plan, const struct value *old,
                        const struct value *row)
{
    for (size_t i = 0; i < plan->key_count; i++) {
        if (differs(old, row, plan->key[i]))
            return true;
    }
    return false;
}
