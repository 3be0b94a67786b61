/* The letters of a database, and their durable form:
 *
 *   text   = id LF *( code SP lower SP upper LF )
 *
 * with numbers in decimal. Shapes whose clauses map case are restored without Postgres, so what
 * they were made with is kept with them. */
#include "server/catalog/case_map.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "server/pg/pg.h"

struct case_map {
    atomic_uint refs;
    struct sql_letters *letters;
    char *text;
    size_t text_len;
    size_t id_len;
};

/* See types.h. Beyond U+1FFFF Unicode has no letters with case. */
static const char letters_query[] =
    "SELECT i, pg_catalog.ascii(pg_catalog.lower(pg_catalog.chr(i))),"
    " pg_catalog.ascii(pg_catalog.upper(pg_catalog.chr(i)))"
    " FROM pg_catalog.generate_series(1, 131071) AS i WHERE i NOT BETWEEN 55296 AND 57343"
    " AND (pg_catalog.lower(pg_catalog.chr(i)) <> pg_catalog.chr(i)"
    "  OR pg_catalog.upper(pg_catalog.chr(i)) <> pg_catalog.chr(i))";

static int no_memory(struct err *err)
{
    return err_set(err, ERR_MEMORY, "no memory for the database's letters");
}

static int unreadable(struct err *err)
{
    return err_set(err, ERR_CORRUPT, "the stored letters of the database are unreadable");
}

/* The number that ends before `end`, at *at, which moves behind that. */
static bool take_number(struct slice *at, char end, uint32_t *out)
{
    const char *stop = at->len ? memchr(at->ptr, end, at->len) : NULL;
    uint64_t n = 0;
    if (stop == NULL ||
        !slice_to_u64(slice_make(at->ptr, (size_t)(stop - at->ptr)), &n) || n > 0x10FFFF)
        return false;
    *out = (uint32_t)n;
    size_t taken = (size_t)(stop - at->ptr) + 1;
    *at = slice_make(at->ptr + taken, at->len - taken);
    return true;
}

static size_t count_lines(struct slice s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++)
        n += s.ptr[i] == '\n';
    return n;
}

static int parse_letters(struct slice lines, struct case_map *map, struct err *err)
{
    size_t count = count_lines(lines);
    struct sql_letter *items = calloc(count + 1, sizeof *items);
    bool good = true;
    if (items == NULL)
        return no_memory(err);
    for (size_t i = 0; good && i < count; i++)
        good = take_number(&lines, ' ', &items[i].code) &&
               take_number(&lines, ' ', &items[i].lower) &&
               take_number(&lines, '\n', &items[i].upper);
    good = good && lines.len == 0;
    if (good)
        map->letters = sql_letters_new(items, count);
    free(items);
    if (!good)
        return unreadable(err);
    return map->letters == NULL ? no_memory(err) : 0;
}

int case_map_parse(struct slice text, struct case_map **out, struct err *err)
{
    const char *end = text.len ? memchr(text.ptr, '\n', text.len) : NULL;
    struct case_map *map = NULL;
    *out = NULL;
    if (end == NULL || end == text.ptr)
        return unreadable(err);
    map = calloc(1, sizeof *map);
    if (map == NULL)
        return no_memory(err);
    atomic_init(&map->refs, 1);
    map->text = slice_dup(text);
    map->text_len = text.len;
    map->id_len = (size_t)(end - text.ptr);
    size_t head = map->id_len + 1;
    int rc = map->text == NULL
                 ? no_memory(err)
                 : parse_letters(slice_make(map->text + head, text.len - head), map, err);
    if (rc < 0)
        case_map_release(map);
    else
        *out = map;
    return rc;
}

int case_map_read(PGconn *conn, struct slice id, struct case_map **out, struct err *err)
{
    PGresult *rows = NULL;
    struct buf text;
    *out = NULL;
    int rc = pg_exec(conn, letters_query, &rows, err);
    if (rc < 0)
        return rc;
    buf_init(&text, CASE_MAP_TEXT_MAX);
    buf_put_slice(&text, id);
    buf_putc(&text, '\n');
    for (int i = 0; i < PQntuples(rows); i++)
        buf_printf(&text, "%s %s %s\n", PQgetvalue(rows, i, 0), PQgetvalue(rows, i, 1),
                   PQgetvalue(rows, i, 2));
    PQclear(rows);
    rc = text.failed ? no_memory(err) : case_map_parse(buf_slice(&text), out, err);
    buf_fini(&text);
    return rc;
}

struct case_map *case_map_retain(struct case_map *map)
{
    if (map != NULL)
        atomic_fetch_add_explicit(&map->refs, 1, memory_order_relaxed);
    return map;
}

void case_map_release(struct case_map *map)
{
    if (map == NULL ||
        atomic_fetch_sub_explicit(&map->refs, 1, memory_order_acq_rel) != 1)
        return;
    sql_letters_free(map->letters);
    free(map->text);
    free(map);
}

struct slice case_map_id(const struct case_map *map)
{
    return slice_make(map->text, map->id_len);
}

struct slice case_map_text(const struct case_map *map)
{
    return slice_make(map->text, map->text_len);
}

const struct sql_letters *case_map_letters(const struct case_map *map)
{
    return map->letters;
}
