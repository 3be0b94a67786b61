/* A transaction as POST /v1/transactions takes it (docs/writing.md). */

#include <stdio.h>

#include "client/server/server.h"
#include "json/json.h"

/* "name":value; an absent value goes as null: a table's column always has one. */
static void put_column(struct buf *out, const struct coulomb_row *row, size_t column,
                       struct arena *arena)
{
    coulomb_value v = row_at(row, column);

    json_put_string(out, slice_of(row->layout->columns[column].name));
    buf_putc(out, ':');
    if (v.type == COULOMB_ABSENT)
        v = coulomb_null();
    arena_reset(arena);
    value_put_json(out, &v, arena);
}

static bool is_changed(const struct mutation *m, size_t column)
{
    return !m->changed || (m->changed[column / 8] >> (column % 8) & 1) != 0;
}

/* The changed columns of row, which is the mutation's original or modified one. */
static void put_changed(struct buf *out, const struct mutation *m,
                        const struct coulomb_row *row, struct arena *arena)
{
    bool first = true;

    buf_putc(out, '{');
    for (size_t i = 0; i < row->layout->count; i++) {
        bool unset = row_at(row, i).type == COULOMB_ABSENT;

        if (!is_changed(m, i) || (unset && m->type != COULOMB_UPDATE))
            continue;
        if (!first)
            buf_putc(out, ',');
        first = false;
        put_column(out, row, i, arena);
    }
    buf_putc(out, '}');
}

static void put_key(struct buf *out, const struct server_table *t,
                    const struct coulomb_row *row, struct arena *arena)
{
    buf_puts(out, ",\"key\":{");
    for (size_t i = 0; i < t->key_count; i++) {
        if (i > 0)
            buf_putc(out, ',');
        put_column(out, row, t->key[i], arena);
    }
    buf_putc(out, '}');
}

static void put_mutation(struct buf *out, const struct server_table *t,
                         const struct mutation *m, struct arena *arena)
{
    buf_puts(out, m->type == COULOMB_INSERT   ? "{\"op\":\"insert\",\"table\":"
                  : m->type == COULOMB_UPDATE ? "{\"op\":\"update\",\"table\":"
                                              : "{\"op\":\"delete\",\"table\":");
    json_put_string(out, slice_of(t->name));
    if (m->type != COULOMB_INSERT)
        put_key(out, t, m->original, arena);
    if (m->type != COULOMB_DELETE) {
        buf_puts(out, ",\"values\":");
        put_changed(out, m, m->modified, arena);
    }
    if (m->type != COULOMB_INSERT && t->expect_unchanged) {
        buf_puts(out, ",\"expect\":");
        put_changed(out, m, m->original, arena);
    }
    if (m->type == COULOMB_DELETE && t->ignore_missing)
        buf_puts(out, ",\"if_missing\":\"ignore\"");
    buf_putc(out, '}');
}

int body_put(struct buf *out, const struct coulomb_server *server,
             const struct coulomb_tx *tx, char *message, size_t cap)
{
    struct arena *arena = &server->client->scratch;

    buf_puts(out, "{\"id\":\"");
    if (tx->id)
        json_put_escaped(out, slice_of(tx->id));
    else /* numbered from 1 in each client: the run makes it the only one */
        buf_printf(out, "%s/%s", server->run, coulomb_tx_id(tx));
    buf_puts(out, "\",\"mutations\":[");
    for (size_t i = 0; i < tx->count; i++) {
        const struct mutation *m = tx->mutations[i];
        const struct server_table *t = table_of(m->coll);

        if (!t || t->server != server) {
            snprintf(message, cap,
                     "%.100s has no table at this server: open it with "
                     "coulomb_server_collection_open(), or call coulomb_server_bind()",
                     m->coll->id);
            return COULOMB_E_ARGUMENT;
        }
        if (m->type != COULOMB_INSERT && t->key_count == 0) {
            snprintf(
                message, cap,
                "%.100s: its key is made by a function; coulomb_server_bind() with the "
                "primary key's columns lets its rows be named",
                m->coll->id);
            return COULOMB_E_ARGUMENT;
        }
        if (i > 0)
            buf_putc(out, ',');
        put_mutation(out, t, m, arena);
    }
    buf_puts(out, "]}");
    return out->failed ? COULOMB_E_MEMORY : COULOMB_OK;
}
