/* The shapes as the last checkpoint left them, in SQLite. Nothing else here knows SQLite. The file
 * is meta.sqlite until the storage is taken over (takeover.c).
 *
 *   fact    (key, value, crc)       schema, epoch, boot, clean, durable_lsn, visible_lsn, origin.*,
 *                                   journal.* (its recorded end), fold.* (where it is read from),
 *                                   note.*
 *   shape   (id, handle, entries, bytes, tx, op, state, crc)
 *                                   state: state.c; the numbers are for people
 *   definition (id, definition, crc) of each shape: apart, since a shape's row is written often,
 *                                   and is small
 *   segment (n, epoch, kind, bytes, crc)
 *
 * SQLite does not notice a flipped bit in a value, so each row carries a CRC32C of its
 * columns. Unsigned 64-bit numbers are stored as their two's complement. WAL mode with
 * synchronous=FULL: a commit that returned is on disk. */
#include "server/shapelog/internal.h"

#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/crc32c.h"

#define SCHEMA_VERSION "3"
#define SCHEMA_BEFORE  "2"
#define BUSY_MS        5000

enum statement {
    SQL_BEGIN,
    SQL_COMMIT,
    SQL_GET,
    SQL_PUT,
    SQL_PUT_SHAPE,
    SQL_UPDATE_SHAPE,
    SQL_DELETE_SHAPE,
    SQL_PUT_DEFINITION,
    SQL_DELETE_DEFINITION,
    SQL_PUT_SEGMENT,
    SQL_DELETE_SEGMENT,
    SQL_SHAPES,
    SQL_DEFINITION,
    SQL_SEGMENTS,
    SQL_COUNT
};

static const char put_shape[] =
    "INSERT OR REPLACE INTO shape (id, entries, bytes, tx, op, state, crc, handle) "
    "VALUES (?1,?2,?3,?4,?5,?6,?7,?8)";

static const char update_shape[] =
    "UPDATE shape SET entries = ?2, bytes = ?3, tx = ?4, op = ?5, state = ?6, crc = ?7 "
    "WHERE id = ?1";

static const char *const statements[SQL_COUNT] = {
    [SQL_BEGIN] = "BEGIN IMMEDIATE",
    [SQL_COMMIT] = "COMMIT",
    [SQL_GET] = "SELECT value, crc FROM fact WHERE key = ?1",
    [SQL_PUT] = "INSERT OR REPLACE INTO fact VALUES (?1, ?2, ?3)",
    [SQL_PUT_SHAPE] = put_shape,
    [SQL_UPDATE_SHAPE] = update_shape,
    [SQL_DELETE_SHAPE] = "DELETE FROM shape WHERE id = ?1",
    [SQL_PUT_DEFINITION] = "INSERT OR REPLACE INTO definition VALUES (?1, ?2, ?3)",
    [SQL_DELETE_DEFINITION] = "DELETE FROM definition WHERE id = ?1",
    [SQL_PUT_SEGMENT] = "INSERT OR REPLACE INTO segment VALUES (?1, ?2, ?3, ?4, ?5)",
    [SQL_DELETE_SEGMENT] = "DELETE FROM segment WHERE n = ?1",
    [SQL_SHAPES] = "SELECT id, entries, bytes, tx, op, state, crc, handle FROM shape",
    [SQL_DEFINITION] = "SELECT definition, crc FROM definition WHERE id = ?1",
    [SQL_SEGMENTS] = "SELECT n, epoch, kind, bytes, crc FROM segment ORDER BY n",
};

static const char schema[] =
    "BEGIN IMMEDIATE;"
    "CREATE TABLE IF NOT EXISTS fact (key TEXT PRIMARY KEY, value TEXT NOT NULL,"
    " crc INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS definition (id INTEGER PRIMARY KEY,"
    " definition BLOB NOT NULL, crc INTEGER NOT NULL);"
    "CREATE TABLE IF NOT EXISTS shape (id INTEGER PRIMARY KEY, handle TEXT NOT NULL,"
    " entries INTEGER NOT NULL, bytes INTEGER NOT NULL, tx INTEGER NOT NULL,"
    " op INTEGER NOT NULL, state BLOB NOT NULL, crc INTEGER NOT NULL);"
    "CREATE TABLE IF NOT EXISTS segment (n INTEGER PRIMARY KEY, epoch INTEGER NOT NULL,"
    " kind INTEGER NOT NULL, bytes INTEGER NOT NULL, crc INTEGER NOT NULL);"
    "COMMIT;";

/* Version 2 had the definition in the shape's row. */
static const char from_version_2[] =
    "INSERT OR REPLACE INTO definition SELECT id, definition, definition_crc FROM shape;"
    "ALTER TABLE shape DROP COLUMN definition;"
    "ALTER TABLE shape DROP COLUMN definition_crc;";

struct meta {
    char name[PATH_BYTES]; /* of the file, for messages */
    sqlite3 *db;
    sqlite3_stmt *statement[SQL_COUNT];
};

static int code_of(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_MISMATCH:
        return ERR_CORRUPT;
    case SQLITE_NOMEM:
        return ERR_MEMORY;
    case SQLITE_BUSY:     /* another process writes, or was stopped while it did, */
    case SQLITE_PROTOCOL: /* or while it opened its WAL */
        return ERR_EXISTS;
    default:
        return ERR_IO;
    }
}

static int failed(const struct meta *meta, int rc, const char *what, struct err *err)
{
    return err_set(err, code_of(rc), "%s: can't %s: %s%s%s", meta->name, what,
                   sqlite3_errstr(rc), meta->db ? ": " : "",
                   meta->db ? sqlite3_errmsg(meta->db) : "");
}

static sqlite3_int64 to_sql(uint64_t v)
{
    sqlite3_int64 out;

    memcpy(&out, &v, sizeof(out));
    return out;
}

static uint64_t column_u64(sqlite3_stmt *st, int column)
{
    sqlite3_int64 v = sqlite3_column_int64(st, column);
    uint64_t out;

    memcpy(&out, &v, sizeof(out));
    return out;
}

static uint32_t crc_u64(uint32_t crc, uint64_t v)
{
    unsigned char bytes[8];

    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(v >> (8 * i));
    return crc32c(crc, bytes, sizeof(bytes));
}

static uint32_t crc_slice(uint32_t crc, struct slice s)
{
    crc = crc_u64(crc, s.len);
    return s.len ? crc32c(crc, s.ptr, s.len) : crc;
}

static uint32_t crc_mark(uint32_t crc, const struct mark *mark)
{
    crc = crc_u64(crc, mark->entries);
    crc = crc_u64(crc, mark->bytes);
    crc = crc_u64(crc, mark->at.tx);
    return crc_u64(crc, mark->at.op);
}

static uint32_t shape_crc(const struct meta_shape *shape)
{
    uint32_t crc = crc_u64(0, shape->id);

    crc = crc_slice(crc, shape->handle);
    crc = crc_mark(crc, &shape->log);
    return crc_slice(crc, shape->state);
}

static uint32_t definition_crc(uint64_t id, struct slice definition)
{
    return crc_slice(crc_u64(0, id), definition);
}

static uint32_t segment_crc(const struct meta_segment *segment)
{
    uint32_t crc = crc_u64(0, segment->n);

    crc = crc_u64(crc, segment->epoch);
    crc = crc_u64(crc, (uint64_t)segment->kind);
    return crc_u64(crc, segment->end);
}

static uint32_t fact_crc(const char *key, struct slice value)
{
    return crc_slice(crc_slice(0, slice_of(key)), value);
}

static void bind_slice(sqlite3_stmt *st, int at, struct slice s, bool text)
{
    const char *ptr = s.len ? s.ptr : "";

    if (text)
        sqlite3_bind_text64(st, at, ptr, s.len, SQLITE_STATIC, SQLITE_UTF8);
    else
        sqlite3_bind_blob64(st, at, ptr, s.len, SQLITE_STATIC);
}

static void bind_u64(sqlite3_stmt *st, int at, uint64_t v)
{
    sqlite3_bind_int64(st, at, to_sql(v));
}

static void bind_mark(sqlite3_stmt *st, int at, const struct mark *mark)
{
    bind_u64(st, at, mark->entries);
    bind_u64(st, at + 1, mark->bytes);
    bind_u64(st, at + 2, mark->at.tx);
    bind_u64(st, at + 3, mark->at.op);
}

static struct mark column_mark(sqlite3_stmt *st, int column)
{
    return (struct mark){
        .entries = column_u64(st, column),
        .bytes = column_u64(st, column + 1),
        .at = {column_u64(st, column + 2), column_u64(st, column + 3), false},
    };
}

/* Runs a statement that gives no rows. */
static int run(struct meta *meta, enum statement which, const char *what, struct err *err)
{
    sqlite3_stmt *st = meta->statement[which];
    int rc = sqlite3_step(st);

    if (rc != SQLITE_DONE && rc != SQLITE_ROW)
        failed(meta, rc, what, err);
    sqlite3_reset(st);
    sqlite3_clear_bindings(st);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? 0 : code_of(rc);
}

static int quick_check(struct meta *meta, bool *sound, struct err *err)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(meta->db, "PRAGMA quick_check(1)", -1, &st, NULL);

    *sound = false;
    if (rc == SQLITE_OK) {
        rc = sqlite3_step(st);
        if (rc == SQLITE_ROW) {
            const unsigned char *text = sqlite3_column_text(st, 0);

            *sound = text && strcmp((const char *)text, "ok") == 0;
            rc = SQLITE_OK;
        }
    }
    if (rc != SQLITE_OK)
        failed(meta, rc, "check it", err);
    sqlite3_finalize(st);
    return rc == SQLITE_OK ? 0 : code_of(rc);
}

/* To the check a page that can't be read just now is damage: what it finds twice is. */
static int check_sound(struct meta *meta, struct err *err)
{
    bool sound;
    int rc = quick_check(meta, &sound, err);

    if (rc == 0 && !sound)
        rc = quick_check(meta, &sound, err);
    if (rc != 0)
        return rc;
    return sound ? 0 : err_set(err, ERR_CORRUPT, "%s is damaged", meta->name);
}

static int exec(struct meta *meta, const char *sql, const char *what, struct err *err)
{
    int rc = sqlite3_exec(meta->db, sql, NULL, NULL, NULL);

    return rc == SQLITE_OK ? 0 : failed(meta, rc, what, err);
}

static int prepare(struct meta *meta, enum statement which, struct err *err)
{
    int rc = sqlite3_prepare_v3(meta->db, statements[which], -1,
                                SQLITE_PREPARE_PERSISTENT, &meta->statement[which], NULL);

    /* Tables that do not have our columns were not made by us. */
    if (rc == SQLITE_ERROR)
        return err_set(err, ERR_CORRUPT, "%s: %s", meta->name, sqlite3_errmsg(meta->db));
    return rc == SQLITE_OK ? 0 : failed(meta, rc, "read it", err);
}

static int prepare_all(struct meta *meta, struct err *err)
{
    int rc = 0;

    for (int i = 0; rc == 0 && i < SQL_COUNT; i++)
        rc = prepare(meta, (enum statement)i, err);
    return rc;
}

static int upgrade(struct meta *meta, struct err *err)
{
    int rc = shapelog_meta_begin(meta, err);

    if (rc == 0)
        rc = exec(meta, from_version_2, "bring it up to date", err);
    if (rc == 0)
        rc = shapelog_meta_put(meta, "schema", SCHEMA_VERSION, err);
    if (rc == 0)
        rc = shapelog_meta_commit(meta, err);
    if (rc != 0)
        shapelog_meta_rollback(meta);
    return rc;
}

static int check_version(struct meta *meta, struct err *err)
{
    char version[32];
    int rc = shapelog_meta_get(meta, "schema", version, sizeof(version), err);

    if (rc == ERR_NOT_FOUND) {
        err_clear(err);
        return shapelog_meta_put(meta, "schema", SCHEMA_VERSION, err);
    }
    if (rc == 0 && strcmp(version, SCHEMA_BEFORE) == 0)
        return upgrade(meta, err);
    if (rc == 0 && strcmp(version, SCHEMA_VERSION) != 0)
        rc = err_set(err, ERR_FATAL,
                     "%s has schema version %s, this server knows version %s: start "
                     "the server that wrote it, or remove the storage directory",
                     meta->name, version, SCHEMA_VERSION);
    return rc;
}

static int open_plain(struct meta *meta, const char *path, int flags, struct err *err)
{
    const char *slash = strrchr(path, '/');
    int rc;

    snprintf(meta->name, sizeof(meta->name), "%s", slash ? slash + 1 : path);
    rc = sqlite3_open_v2(path, &meta->db, flags | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_busy_timeout(meta->db, BUSY_MS);
    return rc == SQLITE_OK ? 0 : failed(meta, rc, "open it", err);
}

int shapelog_meta_open(const char *path, struct meta **out, struct err *err)
{
    struct meta *meta = calloc(1, sizeof(*meta));
    int rc;

    if (!meta)
        return err_set(err, ERR_MEMORY, "no memory for %s", path);
    rc = open_plain(meta, path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, err);
    if (rc == 0)
        rc = exec(meta, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL", "set it up",
                  err);
    if (rc == 0)
        rc = check_sound(meta, err);
    if (rc == 0)
        rc = exec(meta, schema, "make its tables", err);
    if (rc == 0)
        rc = prepare_all(meta, err);
    if (rc == 0)
        rc = check_version(meta, err);
    if (rc != 0) {
        shapelog_meta_close(meta);
        return rc;
    }
    *out = meta;
    return 0;
}

int shapelog_meta_peek(const char *path, struct meta **out, struct err *err)
{
    struct meta *meta = calloc(1, sizeof(*meta));
    int rc;

    if (!meta)
        return err_set(err, ERR_MEMORY, "no memory for %s", path);
    rc = open_plain(meta, path, SQLITE_OPEN_READWRITE, err);
    if (rc == 0)
        rc = prepare(meta, SQL_GET, err);
    if (rc != 0) {
        shapelog_meta_close(meta);
        return rc;
    }
    *out = meta;
    return 0;
}

int shapelog_meta_detach(struct meta *meta, struct err *err)
{
    return exec(meta, "PRAGMA journal_mode=DELETE", "write all of it", err);
}

static int copy_pages(struct meta *to, const struct meta *from, struct err *err)
{
    sqlite3_backup *backup = sqlite3_backup_init(to->db, "main", from->db, "main");
    int rc = backup ? sqlite3_backup_step(backup, -1) : sqlite3_errcode(to->db);

    sqlite3_backup_finish(backup);
    return rc == SQLITE_DONE ? 0 : failed(to, rc, "copy the database to it", err);
}

/* In WAL mode a reader needs nothing of a writer, and keeps it from starting its WAL anew. */
int shapelog_meta_copy(const char *from, const char *to, struct err *err)
{
    struct meta source = {.db = NULL};
    struct meta copy = {.db = NULL};
    int rc = open_plain(&source, from, SQLITE_OPEN_READWRITE, err);

    if (rc == 0)
        rc = open_plain(&copy, to, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, err);
    if (rc == 0)
        rc = copy_pages(&copy, &source, err);
    sqlite3_close(copy.db);
    sqlite3_close(source.db);
    return rc;
}

void shapelog_meta_close(struct meta *meta)
{
    if (!meta)
        return;
    for (int i = 0; i < SQL_COUNT; i++)
        sqlite3_finalize(meta->statement[i]);
    sqlite3_close(meta->db);
    free(meta);
}

int shapelog_meta_begin(struct meta *meta, struct err *err)
{
    return run(meta, SQL_BEGIN, "begin", err);
}

int shapelog_meta_commit(struct meta *meta, struct err *err)
{
    return run(meta, SQL_COMMIT, "commit", err);
}

void shapelog_meta_rollback(struct meta *meta)
{
    /* SQLite may have rolled back by itself: the error means nothing. */
    sqlite3_exec(meta->db, "ROLLBACK", NULL, NULL, NULL);
}

/* Makes of the fact's value what `take` does with it. */
static int read_fact(struct meta *meta, const char *key,
                     int (*take)(void *ctx, struct slice value), void *ctx,
                     struct err *err)
{
    sqlite3_stmt *st = meta->statement[SQL_GET];
    int rc;

    bind_slice(st, 1, slice_of(key), true);
    rc = sqlite3_step(st);
    if (rc == SQLITE_DONE) {
        rc = err_set(err, ERR_NOT_FOUND, "%s has no %s", meta->name, key);
    } else if (rc != SQLITE_ROW) {
        rc = failed(meta, rc, "read a fact", err);
    } else {
        const char *text = (const char *)sqlite3_column_text(st, 0);
        struct slice value = slice_make(text, (size_t)sqlite3_column_bytes(st, 0));

        rc = text && column_u64(st, 1) == fact_crc(key, value) ? take(ctx, value)
                                                               : ERR_CORRUPT;
        if (rc == ERR_MEMORY)
            err_set(err, rc, "no memory to read %s", meta->name);
        else if (rc != 0)
            err_set(err, rc, "%s: %s does not match its checksum", meta->name, key);
    }
    sqlite3_reset(st);
    sqlite3_clear_bindings(st);
    return rc;
}

struct short_text {
    char *out;
    size_t size;
};

static int take_short(void *ctx, struct slice value)
{
    const struct short_text *to = ctx;

    if (value.len >= to->size || memchr(value.ptr, '\0', value.len))
        return ERR_CORRUPT;
    memcpy(to->out, value.ptr, value.len);
    to->out[value.len] = '\0';
    return 0;
}

static int take_text(void *ctx, struct slice value)
{
    struct buf *out = ctx;

    buf_put_slice(out, value);
    return out->failed ? ERR_MEMORY : 0;
}

int shapelog_meta_get(struct meta *meta, const char *key, char *out, size_t size,
                      struct err *err)
{
    struct short_text to = {out, size};

    return read_fact(meta, key, take_short, &to, err);
}

int shapelog_meta_get_text(struct meta *meta, const char *key, struct buf *out,
                           struct err *err)
{
    return read_fact(meta, key, take_text, out, err);
}

int shapelog_meta_put_text(struct meta *meta, const char *key, struct slice value,
                           struct err *err)
{
    sqlite3_stmt *st = meta->statement[SQL_PUT];

    bind_slice(st, 1, slice_of(key), true);
    bind_slice(st, 2, value, true);
    bind_u64(st, 3, fact_crc(key, value));
    return run(meta, SQL_PUT, "write a fact", err);
}

int shapelog_meta_put(struct meta *meta, const char *key, const char *value,
                      struct err *err)
{
    return shapelog_meta_put_text(meta, key, slice_of(value), err);
}

int shapelog_meta_get_u64(struct meta *meta, const char *key, uint64_t *out,
                          struct err *err)
{
    char text[32];
    int rc = shapelog_meta_get(meta, key, text, sizeof(text), err);

    *out = 0;
    if (rc == ERR_NOT_FOUND) {
        if (err)
            err_clear(err);
        return 0;
    }
    if (rc == 0 && !slice_to_u64(slice_of(text), out))
        rc = err_set(err, ERR_CORRUPT, "%s: %s is no number", meta->name, key);
    return rc;
}

int shapelog_meta_put_u64(struct meta *meta, const char *key, uint64_t value,
                          struct err *err)
{
    char text[32];

    snprintf(text, sizeof(text), "%" PRIu64, value);
    return shapelog_meta_put(meta, key, text, err);
}

static int put_definition(struct meta *meta, uint64_t id, struct slice definition,
                          struct err *err)
{
    sqlite3_stmt *st = meta->statement[SQL_PUT_DEFINITION];

    bind_u64(st, 1, id);
    bind_slice(st, 2, definition, false);
    bind_u64(st, 3, definition_crc(id, definition));
    return run(meta, SQL_PUT_DEFINITION, "write a definition", err);
}

int shapelog_meta_put_shape(struct meta *meta, const struct meta_shape *shape,
                            struct err *err)
{
    enum statement which = shape->definition ? SQL_PUT_SHAPE : SQL_UPDATE_SHAPE;
    sqlite3_stmt *st = meta->statement[which];
    int rc;

    bind_u64(st, 1, shape->id);
    bind_mark(st, 2, &shape->log);
    bind_slice(st, 6, shape->state, false);
    bind_u64(st, 7, shape_crc(shape));
    if (shape->definition)
        bind_slice(st, 8, shape->handle, true);
    rc = run(meta, which, "write a shape", err);
    return rc == 0 && shape->definition
               ? put_definition(meta, shape->id, *shape->definition, err)
               : rc;
}

int shapelog_meta_delete(struct meta *meta, uint64_t id, struct err *err)
{
    int rc;

    bind_u64(meta->statement[SQL_DELETE_SHAPE], 1, id);
    rc = run(meta, SQL_DELETE_SHAPE, "delete a shape", err);
    if (rc != 0)
        return rc;
    bind_u64(meta->statement[SQL_DELETE_DEFINITION], 1, id);
    return run(meta, SQL_DELETE_DEFINITION, "delete a definition", err);
}

int shapelog_meta_delete_all(struct meta *meta, struct err *err)
{
    return exec(meta, "DELETE FROM shape; DELETE FROM definition", "delete the shapes",
                err);
}

int shapelog_meta_put_segment(struct meta *meta, const struct meta_segment *segment,
                              struct err *err)
{
    sqlite3_stmt *st = meta->statement[SQL_PUT_SEGMENT];

    bind_u64(st, 1, segment->n);
    bind_u64(st, 2, segment->epoch);
    bind_u64(st, 3, (uint64_t)segment->kind);
    bind_u64(st, 4, segment->end);
    bind_u64(st, 5, segment_crc(segment));
    return run(meta, SQL_PUT_SEGMENT, "write a segment", err);
}

int shapelog_meta_delete_segment(struct meta *meta, uint32_t n, struct err *err)
{
    bind_u64(meta->statement[SQL_DELETE_SEGMENT], 1, n);
    return run(meta, SQL_DELETE_SEGMENT, "delete a segment", err);
}

static struct slice column_slice(sqlite3_stmt *st, int column)
{
    const char *ptr = sqlite3_column_blob(st, column);
    int len = sqlite3_column_bytes(st, column);

    return slice_make(ptr, ptr && len > 0 ? (size_t)len : 0);
}

int shapelog_meta_shapes(struct meta *meta, shapelog_meta_shape_fn *fn, void *ctx,
                         struct err *err)
{
    sqlite3_stmt *st = meta->statement[SQL_SHAPES];
    int result = 0;
    int rc;

    while (result == 0 && (rc = sqlite3_step(st)) != SQLITE_DONE) {
        struct meta_shape shape = {.definition = NULL};

        if (rc != SQLITE_ROW) {
            result = failed(meta, rc, "read the shapes", err);
            break;
        }
        shape.id = column_u64(st, 0);
        shape.log = column_mark(st, 1);
        shape.state = column_slice(st, 5);
        shape.handle = column_slice(st, 7);
        result = fn(ctx, &shape, column_u64(st, 6) == shape_crc(&shape), err);
    }
    sqlite3_reset(st);
    return result;
}

int shapelog_meta_segments(struct meta *meta, shapelog_meta_segment_fn *fn, void *ctx,
                           struct err *err)
{
    sqlite3_stmt *st = meta->statement[SQL_SEGMENTS];
    int result = 0;
    int rc;

    while (result == 0 && (rc = sqlite3_step(st)) != SQLITE_DONE) {
        struct meta_segment row;

        if (rc != SQLITE_ROW) {
            result = failed(meta, rc, "read the segments", err);
            break;
        }
        row.n = (uint32_t)column_u64(st, 0);
        row.epoch = (uint32_t)column_u64(st, 1);
        row.kind = column_u64(st, 2) ? SEGMENT_BLOB : SEGMENT_JOURNAL;
        row.end = column_u64(st, 3);
        if (column_u64(st, 4) != segment_crc(&row))
            result = err_set(err, ERR_CORRUPT,
                             "%s: segment %" PRIu32 " does not match its checksum",
                             meta->name, row.n);
        else
            result = fn(ctx, &row, err);
    }
    sqlite3_reset(st);
    return result;
}

static int take_definition(struct meta *meta, uint64_t id, struct buf *out,
                           struct err *err)
{
    sqlite3_stmt *st = meta->statement[SQL_DEFINITION];
    struct slice definition = column_slice(st, 0);

    if (column_u64(st, 1) != definition_crc(id, definition))
        return err_set(err, ERR_CORRUPT, "%s: a definition does not match its checksum",
                       meta->name);
    buf_put_slice(out, definition);
    return out->failed ? err_set(err, ERR_MEMORY, "no memory for a definition") : 0;
}

int shapelog_meta_definition(struct meta *meta, uint64_t id, struct buf *out,
                             struct err *err)
{
    sqlite3_stmt *st = meta->statement[SQL_DEFINITION];
    int rc;

    bind_u64(st, 1, id);
    rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        rc = take_definition(meta, id, out, err);
    else if (rc == SQLITE_DONE)
        rc = err_set(err, ERR_NOT_FOUND, "%s has no shape %" PRIu64, meta->name, id);
    else
        rc = failed(meta, rc, "read a definition", err);
    sqlite3_reset(st);
    sqlite3_clear_bindings(st);
    return rc;
}
