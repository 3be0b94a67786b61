/* The relations that the stream has described, by OID.
 *
 * An entry is one block: the struct, its columns, then all the texts, so that replacing
 * one is one allocation and one free, and a pointer to it stays put while the map grows.
 */
#include <stdlib.h>

#include "base/map.h"
#include "server/decode/decode.h"

struct decode_relations {
    struct map by_oid; /* of struct decode_relation, owned */
};

struct decode_relations *decode_relations_new(void)
{
    struct decode_relations *c = malloc(sizeof(*c));

    if (c)
        map_init(&c->by_oid);
    return c;
}

void decode_relations_clear(struct decode_relations *c)
{
    size_t it = 0;
    struct slice key;
    void *entry;

    while (map_next(&c->by_oid, &it, &key, &entry))
        free(entry);
    map_fini(&c->by_oid);
    map_init(&c->by_oid);
}

void decode_relations_free(struct decode_relations *c)
{
    if (!c)
        return;
    decode_relations_clear(c);
    map_fini(&c->by_oid);
    free(c);
}

static struct slice copy_text(char **at, struct slice text)
{
    struct slice copy = slice_make(*at, text.len);

    if (text.len > 0)
        memcpy(*at, text.ptr, text.len);
    *at += text.len;
    return copy;
}

static struct decode_relation *copy_relation(const struct decode_relation *from)
{
    size_t columns_bytes = from->column_count * sizeof(*from->columns);
    size_t texts_bytes = from->schema.len + from->name.len;
    struct decode_relation *to;
    char *text;

    for (uint16_t i = 0; i < from->column_count; i++)
        texts_bytes += from->columns[i].name.len;
    to = malloc(sizeof(*to) + columns_bytes + texts_bytes);
    if (!to)
        return NULL;
    *to = *from;
    to->columns = (struct decode_column *)(void *)(to + 1);
    text = (char *)(to->columns + from->column_count);
    to->schema = copy_text(&text, from->schema);
    to->name = copy_text(&text, from->name);
    for (uint16_t i = 0; i < from->column_count; i++) {
        to->columns[i] = from->columns[i];
        to->columns[i].name = copy_text(&text, from->columns[i].name);
    }
    return to;
}

int decode_relations_put(struct decode_relations *c,
                         const struct decode_relation *relation,
                         const struct decode_relation **out)
{
    struct decode_relation *entry = copy_relation(relation);
    void *previous = NULL;

    if (!entry || map_put_u64(&c->by_oid, relation->oid, entry, &previous) != 0) {
        free(entry);
        return ERR_MEMORY;
    }
    free(previous);
    *out = entry;
    return 0;
}

const struct decode_relation *decode_relations_get(const struct decode_relations *c,
                                                   uint32_t oid)
{
    return map_get_u64(&c->by_oid, oid);
}
