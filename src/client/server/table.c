/* Which table a collection's rows belong to, and its key. */

#include <string.h>

#include "client/server/server.h"

static void table_free(struct heap *h, struct attachment *a)
{
    struct server_table *t = LIST_ENTRY(a, struct server_table, base);

    heap_free_str(h, t->name);
    heap_free(h, t->key, t->key_count * sizeof(*t->key));
    heap_free(h, t, sizeof(*t));
}

const struct server_table *table_of(const struct coulomb_collection *coll)
{
    return coll->server ? LIST_ENTRY(coll->server, struct server_table, base) : NULL;
}

static int find_key(struct server_table *t, const struct coulomb_collection *coll,
                    const coulomb_server_table *o)
{
    coulomb_client *c = coll->client;
    int column = coll->layout->key_column;

    t->key_count = o->key_column_count > 0 ? o->key_column_count : 1;
    t->key = heap_zalloc(c->heap, t->key_count * sizeof(*t->key));
    if (!t->key)
        return client_no_memory(c);
    for (size_t i = 0; i < o->key_column_count; i++) {
        column = layout_find(coll->layout, o->key_columns[i]);
        if (column < 0)
            return client_fail(c, COULOMB_E_COLUMN,
                               "%s: its key column \"%s\" is none of its columns",
                               coll->id, o->key_columns[i]);
        t->key[i] = (size_t)column;
    }
    if (column < 0 && t->is_shape) { /* of which inserts can do without */
        heap_free(c->heap, t->key, t->key_count * sizeof(*t->key));
        t->key = NULL;
        t->key_count = 0;
        return COULOMB_OK;
    }
    if (column < 0)
        return client_fail(c, COULOMB_E_ARGUMENT,
                           "%s: its key is made by a function; key_columns must name the "
                           "columns of the table's primary key",
                           coll->id);
    if (o->key_column_count == 0)
        t->key[0] = (size_t)column;
    return COULOMB_OK;
}

int table_bind(struct coulomb_server *server, struct coulomb_collection *coll,
               const coulomb_server_table *o, bool is_shape)
{
    coulomb_client *c = server->client;
    struct server_table *t = heap_zalloc(c->heap, sizeof(*t));

    if (!t)
        return client_no_memory(c);
    t->base.free = table_free;
    t->server = server;
    t->name = heap_strdup(c->heap, o->table);
    t->expect_unchanged = o->expect_unchanged;
    t->ignore_missing = o->ignore_missing;
    t->is_shape = is_shape;
    int code = t->name ? find_key(t, coll, o) : client_no_memory(c);
    if (code != COULOMB_OK) {
        table_free(c->heap, &t->base);
        return code;
    }
    attachment_free(c->heap, coll->server);
    coll->server = &t->base;
    return COULOMB_OK;
}

int coulomb_server_bind(coulomb_server *server, coulomb_collection *coll,
                        const coulomb_server_table *table)
{
    coulomb_client *c = server->client;
    const struct server_table *before = table_of(coll);
    coulomb_server_table o;
    int code = client_enter(c);

    if (code == COULOMB_OK)
        code = options_read(c, &o, sizeof(o), table, "a table");
    if (code != COULOMB_OK)
        return code;
    if (coll->client != c)
        return client_fail(c, COULOMB_E_ARGUMENT, "%s belongs to another client",
                           coll->id);
    if (!o.table || !*o.table)
        return client_fail(c, COULOMB_E_ARGUMENT,
                           "%s: which table its rows belong to is missing", coll->id);
    return table_bind(server, coll, &o, before && before->is_shape);
}
