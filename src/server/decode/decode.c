/* pgoutput, protocol version 1, as Postgres 14 to 18 write it.
 *
 * Problem: every replicated byte passes here, and a message that is misread becomes a
 * wrong row that no later stage can notice. Approach: one straight-line function per
 * message over the sticky reader, one array per tuple from the caller's arena, texts left
 * where they are. A message must be consumed to its last byte: what follows would be a
 * field that we do not know.
 *
 * Integers are big-endian; str is NUL-terminated; lsn and time are u64 and i64
 * (microseconds since 2000-01-01).
 *
 *   B  lsn final, time commit, u32 xid
 *   C  u8 flags (0), lsn commit, lsn end, time commit
 *   O  lsn commit, str name
 *   R  u32 oid, str schema, str name, u8 relreplident, u16 n,
 *      n * { u8 flags (1: in the identity), str name, u32 type, i32 typmod }
 *   Y  u32 oid, str schema, str name
 *   I  u32 oid, 'N' tuple
 *   U  u32 oid, [ 'K' tuple | 'O' tuple ] 'N' tuple
 *   D  u32 oid, 'K' tuple | 'O' tuple
 *   T  u32 n, u8 options (1 cascade, 2 restart identity), n * u32 oid
 *   M  u8 flags (1: transactional), lsn, str prefix, u32 len, bytes
 *
 *   tuple := u16 n, n * { 'n' | 'u' | 't' u32 len bytes | 'b' u32 len bytes }
 *
 * 'n' is NULL, 'u' an unchanged TOASTed value. 'b' (binary) comes only where it was asked
 * for, which we never do. Rejected: decoding into per-value objects (an allocation each),
 * and ignoring trailing bytes (hides a protocol that changed). */
#include "server/decode/decode.h"

#include "server/decode/reader.h"

#define FLAG_IN_IDENTITY 1u
#define TRUNCATE_CASCADE 1u
#define TRUNCATE_RESTART 2u
#define COLUMN_BYTES_MIN 10u /* flags, empty name, type, typmod */

/* Told from the other reasons by its address. */
static const char why_memory[] = "out of memory";

static void read_tuple(struct reader *r, struct arena *arena, struct decode_tuple *out)
{
    uint16_t count = reader_u16(r);
    struct value *values;

    out->values = NULL;
    out->count = 0;
    if (count > DECODE_COLUMNS_MAX)
        reader_fail(r, "a row has more columns than Postgres allows");
    /* Each value takes a byte at least: a lying count fails before it costs memory. */
    if (!reader_need(r, count))
        return;
    values = arena_alloc(arena, count * sizeof(*values));
    if (!values) {
        reader_fail(r, why_memory);
        return;
    }
    for (uint16_t i = 0; i < count; i++) {
        struct slice text;

        switch (reader_u8(r)) {
        case 't':
            text = reader_bytes(r, reader_u32(r));
            values[i] = (struct value){text.ptr, (uint32_t)text.len, VALUE_TEXT};
            break;
        case 'n':
            values[i] = (struct value){NULL, 0, VALUE_NULL};
            break;
        case 'u':
            values[i] = (struct value){NULL, 0, VALUE_UNCHANGED};
            break;
        case 'b':
            reader_fail(r, "a column is in binary form ('b'), which was not asked for");
            return;
        default:
            reader_fail(r, "a column is of unknown kind (expected n, u or t)");
            return;
        }
    }
    out->values = values;
    out->count = count;
}

static void read_begin(struct reader *r, struct decode_message *out)
{
    out->kind = DECODE_BEGIN;
    out->u.begin.final_lsn = reader_u64(r);
    out->u.begin.commit_us = (int64_t)reader_u64(r);
    out->u.begin.xid = reader_u32(r);
}

static void read_commit(struct reader *r, struct decode_message *out)
{
    out->kind = DECODE_COMMIT;
    if (reader_u8(r) != 0)
        reader_fail(r, "unknown commit flags (expected 0)");
    out->u.commit.commit_lsn = reader_u64(r);
    out->u.commit.end_lsn = reader_u64(r);
    out->u.commit.commit_us = (int64_t)reader_u64(r);
}

static void read_origin(struct reader *r, struct decode_message *out)
{
    out->kind = DECODE_ORIGIN;
    reader_u64(r);
    reader_string(r);
}

static void read_column(struct reader *r, struct decode_column *out)
{
    out->in_identity = (reader_u8(r) & FLAG_IN_IDENTITY) != 0;
    out->name = reader_string(r);
    out->type_oid = reader_u32(r);
    out->typmod = (int32_t)reader_u32(r);
    if (out->name.len == 0)
        reader_fail(r, "a column has no name");
}

/* The system schema has the empty name on the wire. */
static struct slice read_schema(struct reader *r)
{
    struct slice schema = reader_string(r);

    return schema.len > 0 ? schema : SLICE_LIT("pg_catalog");
}

static void read_relation(struct reader *r, struct arena *arena,
                          struct decode_message *out)
{
    struct decode_relation *rel = &out->u.relation;
    uint16_t count;

    out->kind = DECODE_RELATION;
    rel->oid = reader_u32(r);
    rel->schema = read_schema(r);
    rel->name = reader_string(r);
    rel->replica_identity = (char)reader_u8(r);
    count = reader_u16(r);
    rel->column_count = 0;
    rel->columns = NULL;
    if (!r->why && rel->name.len == 0)
        reader_fail(r, "a relation has no name");
    if (count > DECODE_COLUMNS_MAX)
        reader_fail(r, "a relation has more columns than Postgres allows");
    if (!reader_need(r, (size_t)count * COLUMN_BYTES_MIN))
        return;
    rel->columns = arena_alloc(arena, count * sizeof(*rel->columns));
    if (!rel->columns) {
        reader_fail(r, why_memory);
        return;
    }
    for (uint16_t i = 0; i < count; i++)
        read_column(r, &rel->columns[i]);
    rel->column_count = count;
}

static void read_type(struct reader *r, struct decode_message *out)
{
    out->kind = DECODE_TYPE;
    reader_u32(r);
    reader_string(r);
    reader_string(r);
}

static void read_new_row(struct reader *r, struct arena *arena, uint8_t mark,
                         struct decode_tuple *out)
{
    if (mark != 'N')
        reader_fail(r, "expected the new row ('N')");
    read_tuple(r, arena, out);
}

static void read_insert(struct reader *r, struct arena *arena, struct decode_message *out)
{
    out->kind = DECODE_INSERT;
    out->u.insert.oid = reader_u32(r);
    read_new_row(r, arena, reader_u8(r), &out->u.insert.row);
}

/* 'K' and 'O' are followed by an old row; anything else leaves NONE. */
static enum decode_old old_kind(uint8_t mark)
{
    return mark == 'O' ? DECODE_OLD_FULL : mark == 'K' ? DECODE_OLD_KEY : DECODE_OLD_NONE;
}

static void read_update(struct reader *r, struct arena *arena, struct decode_message *out)
{
    uint8_t mark;

    out->kind = DECODE_UPDATE;
    out->u.update.oid = reader_u32(r);
    mark = reader_u8(r);
    out->u.update.old_kind = old_kind(mark);
    out->u.update.old = (struct decode_tuple){NULL, 0};
    if (out->u.update.old_kind != DECODE_OLD_NONE) {
        read_tuple(r, arena, &out->u.update.old);
        mark = reader_u8(r);
    }
    read_new_row(r, arena, mark, &out->u.update.row);
}

static void read_delete(struct reader *r, struct arena *arena, struct decode_message *out)
{
    out->kind = DECODE_DELETE;
    out->u.remove.oid = reader_u32(r);
    out->u.remove.old_kind = old_kind(reader_u8(r));
    if (out->u.remove.old_kind == DECODE_OLD_NONE)
        reader_fail(r, "expected the old row ('K' or 'O')");
    read_tuple(r, arena, &out->u.remove.old);
}

static void read_truncate(struct reader *r, struct arena *arena,
                          struct decode_message *out)
{
    uint32_t count = reader_u32(r);
    uint8_t options = reader_u8(r);
    uint32_t *oids;

    out->kind = DECODE_TRUNCATE;
    out->u.truncate.count = 0;
    out->u.truncate.oids = NULL;
    out->u.truncate.cascade = (options & TRUNCATE_CASCADE) != 0;
    out->u.truncate.restart_identity = (options & TRUNCATE_RESTART) != 0;
    if (options & ~(TRUNCATE_CASCADE | TRUNCATE_RESTART))
        reader_fail(r, "unknown truncate options (expected 0 to 3)");
    if (!reader_need(r, (size_t)count * 4))
        return;
    oids = arena_alloc(arena, (size_t)count * sizeof(*oids));
    if (!oids) {
        reader_fail(r, why_memory);
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        oids[i] = reader_u32(r);
    out->u.truncate.oids = oids;
    out->u.truncate.count = count;
}

static void read_logical_message(struct reader *r, struct decode_message *out)
{
    out->kind = DECODE_MESSAGE;
    reader_u8(r);
    reader_u64(r);
    reader_string(r);
    reader_bytes(r, reader_u32(r));
}

/* Reads the body of the message of this type; NULL when there is no such type. */
static const char *read_body(struct reader *r, uint8_t type, struct arena *arena,
                             struct decode_message *out)
{
    switch (type) {
    case 'B':
        read_begin(r, out);
        return "Begin";
    case 'C':
        read_commit(r, out);
        return "Commit";
    case 'O':
        read_origin(r, out);
        return "Origin";
    case 'R':
        read_relation(r, arena, out);
        return "Relation";
    case 'Y':
        read_type(r, out);
        return "Type";
    case 'I':
        read_insert(r, arena, out);
        return "Insert";
    case 'U':
        read_update(r, arena, out);
        return "Update";
    case 'D':
        read_delete(r, arena, out);
        return "Delete";
    case 'T':
        read_truncate(r, arena, out);
        return "Truncate";
    case 'M':
        read_logical_message(r, out);
        return "Message";
    default:
        return NULL;
    }
}

int decode_message(struct slice frame, struct arena *arena, struct decode_message *out,
                   struct err *err)
{
    struct reader r = reader_make(frame);
    uint8_t type;
    const char *name;

    if (frame.len == 0)
        return err_set(err, ERR_CORRUPT, "pgoutput sent an empty message");
    type = reader_u8(&r);
    name = read_body(&r, type, arena, out);
    if (!name)
        return err_set(
            err, ERR_CORRUPT,
            "pgoutput sent a message of unknown type 0x%02x (protocol 1 was asked "
            "for)",
            type);
    if (!r.why && reader_left(&r) > 0)
        reader_fail(&r, "bytes follow the end of the message");
    if (!r.why)
        return 0;
    if (r.why == why_memory)
        return err_set(err, ERR_MEMORY, "pgoutput %s message of %zu bytes: out of memory",
                       name, frame.len);
    return err_set(err, ERR_CORRUPT, "pgoutput %s message ('%c'), byte %zu of %zu: %s",
                   name, type, r.at, frame.len, r.why);
}
