/* The cache of table definitions.
 *
 * Problem: every request names a table, and thousands may name the same one at once; but
 * a definition may change at any moment, and a table without shapes sends no word of it.
 * Approach: an entry answers for a second. Questions for a name that is being asked
 * already join that lookup. catalog_forget drops the entry and detaches the lookup under
 * way: those who wait for it still get its answer (they asked before), later ones ask
 * anew, and its answer is not kept.
 *
 *     find ─> lookup (in c->lookups) ─ job ─> answered ─> entry (in c->entries),
 * callbacks └─ forget: detached ─ job ─> answered ─> callbacks only
 *
 * Negative answers are not kept: a table must be seen as soon as it is there.
 *
 * How the database maps case is asked for once, after the first table that names it, and again
 * when a table names it differently (a new version of the C library). */
#include "server/catalog/catalog.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/map.h"

#define ENTRY_LIFE_MS 1000
#define ENTRIES_MAX   10000
#define KEY_MAX_BYTES 1024
#define WAITERS_MAX   100000

struct entry {
    struct table *table;
    int64_t until_ms;
};

struct waiter {
    struct list link;
    catalog_found_fn *fn;
    void *ctx;
};

struct lookup {
    struct catalog *catalog;
    struct list waiters;
    size_t waiter_count;
    bool detached;
    char *schema;
    char *name;
};

struct catalog {
    pthread_mutex_t lock;
    struct pool *pool;
    struct map entries;        /* key → struct entry */
    struct map lookups;        /* key → struct lookup, those not detached */
    struct case_map *case_map; /* a reference, or NULL */
};

/* schema NUL name: neither can hold a NUL. */
static bool make_key(struct buf *key, struct slice schema, struct slice name)
{
    buf_init(key, KEY_MAX_BYTES);
    buf_put_slice(key, schema);
    buf_putc(key, '\0');
    buf_put_slice(key, name);
    return !key->failed;
}

int catalog_new(struct pool *pool, struct catalog **out)
{
    struct catalog *c = calloc(1, sizeof(*c));
    *out = c;
    if (!c)
        return ERR_MEMORY;
    c->pool = pool;
    pthread_mutex_init(&c->lock, NULL);
    map_init(&c->entries);
    map_init(&c->lookups);
    return 0;
}

static void entry_free(struct entry *e)
{
    if (e)
        table_release(e->table);
    free(e);
}

/* Under the lock. */
static void drop_entries(struct catalog *c)
{
    size_t it = 0;
    struct slice key;
    void *value = NULL;
    while (map_next(&c->entries, &it, &key, &value))
        entry_free(value);
    map_fini(&c->entries);
    map_init(&c->entries);
}

void catalog_free(struct catalog *c)
{
    if (!c)
        return;
    drop_entries(c);
    map_fini(&c->entries);
    map_fini(&c->lookups);
    case_map_release(c->case_map);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

struct table *catalog_cached(struct catalog *c, struct slice schema, struct slice name)
{
    struct buf key;
    struct table *table = NULL;
    if (make_key(&key, schema, name)) {
        pthread_mutex_lock(&c->lock);
        struct entry *e = map_get(&c->entries, buf_slice(&key));
        if (e && e->until_ms > clock_mono_ms())
            table = table_retain(e->table);
        pthread_mutex_unlock(&c->lock);
    }
    buf_fini(&key);
    return table;
}

/* Under the lock. Entries live for a second, so that a full cache may as well start over.
 * A failure only means that the next one asks Postgres. */
static void keep(struct catalog *c, struct slice key, struct table *table,
                 int64_t asked_ms)
{
    void *previous = NULL;
    struct entry *e = calloc(1, sizeof(*e));
    if (!e)
        return;
    if (c->entries.len >= ENTRIES_MAX)
        drop_entries(c);
    e->table = table_retain(table);
    e->until_ms = asked_ms + ENTRY_LIFE_MS;
    if (map_put(&c->entries, key, e, &previous))
        previous = e;
    entry_free(previous);
}

/* --- Lookups --- */

static void lookup_free(struct lookup *l)
{
    while (!list_empty(&l->waiters)) {
        struct waiter *w = LIST_ENTRY(list_pop(&l->waiters), struct waiter, link);
        free(w);
    }
    free(l->schema);
    free(l->name);
    free(l);
}

/* Takes the lookup out of the map and calls everybody who waits. */
static void answer(struct lookup *l, struct table *table, const struct err *err,
                   int64_t asked_ms)
{
    struct catalog *c = l->catalog;
    struct buf key;
    pthread_mutex_lock(&c->lock);
    if (make_key(&key, slice_of(l->schema), slice_of(l->name)) && !l->detached) {
        map_del(&c->lookups, buf_slice(&key));
        if (table)
            keep(c, buf_slice(&key), table, asked_ms);
    }
    pthread_mutex_unlock(&c->lock);
    buf_fini(&key);
    /* Nobody can join any more. */
    while (!list_empty(&l->waiters)) {
        struct waiter *w = LIST_ENTRY(list_pop(&l->waiters), struct waiter, link);
        w->fn(w->ctx, table, table ? NULL : err);
        free(w);
    }
    lookup_free(l);
}

/* --- The case of letters --- */

/* The known one, retained, if it has that id. */
static struct case_map *known_case_map(struct catalog *c, struct slice id)
{
    struct case_map *map = NULL;
    pthread_mutex_lock(&c->lock);
    if (c->case_map && slice_eq(case_map_id(c->case_map), id))
        map = case_map_retain(c->case_map);
    pthread_mutex_unlock(&c->lock);
    return map;
}

void catalog_know_case_map(struct catalog *c, struct case_map *map)
{
    pthread_mutex_lock(&c->lock);
    struct case_map *previous = c->case_map;
    c->case_map = case_map_retain(map);
    pthread_mutex_unlock(&c->lock);
    case_map_release(previous);
}

/* Two that ask at once may both read it: it is the same. */
static int give_case_map(struct catalog *c, PGconn *conn, struct table *table,
                         struct err *err)
{
    if (table->case_map_id.len == 0)
        return 0;
    struct case_map *map = known_case_map(c, table->case_map_id);
    if (map == NULL) {
        int rc = case_map_read(conn, table->case_map_id, &map, err);
        if (rc < 0)
            return rc;
        catalog_know_case_map(c, map);
    }
    table_set_case_map(table, map);
    case_map_release(map);
    return 0;
}

static void lookup_job(void *ctx, PGconn *conn, const struct err *why)
{
    struct lookup *l = ctx;
    struct table *table = NULL;
    struct err err;
    int64_t asked_ms = clock_mono_ms();
    err_clear(&err);
    if (!conn) {
        err = *why;
    } else if (catalog_read_table(conn, slice_of(l->schema), slice_of(l->name), &table,
                                  &err) == 0 &&
               give_case_map(l->catalog, conn, table, &err) < 0) {
        table_release(table);
        table = NULL;
    }
    if (!table && err.code != ERR_NOT_FOUND)
        err.code = ERR_RETRY;
    answer(l, table, &err, asked_ms);
    table_release(table);
}

static struct lookup *lookup_new(struct catalog *c, struct slice schema,
                                 struct slice name)
{
    struct lookup *l = calloc(1, sizeof(*l));
    if (!l)
        return NULL;
    l->catalog = c;
    list_init(&l->waiters);
    l->schema = slice_dup(schema);
    l->name = slice_dup(name);
    if (l->schema && l->name)
        return l;
    lookup_free(l);
    return NULL;
}

/* Under the lock: adds the waiter to the lookup of that name. *fresh: it must be
 * submitted. */
static int join(struct catalog *c, struct slice schema, struct slice name,
                struct waiter *waiter, struct lookup **fresh)
{
    struct buf key;
    int rc = make_key(&key, schema, name) ? 0 : ERR_MEMORY;
    struct lookup *l = rc ? NULL : map_get(&c->lookups, buf_slice(&key));
    *fresh = NULL;
    if (!rc && !l) {
        l = lookup_new(c, schema, name);
        rc = l ? map_put(&c->lookups, buf_slice(&key), l, NULL) : ERR_MEMORY;
        if (!rc)
            *fresh = l;
        else if (l)
            lookup_free(l);
    } else if (l && l->waiter_count >= WAITERS_MAX) {
        rc = ERR_LIMIT;
    }
    if (!rc) {
        list_push(&l->waiters, &waiter->link);
        l->waiter_count++;
    }
    buf_fini(&key);
    return rc;
}

static void busy(struct err *err)
{
    err_set(err, ERR_RETRY, "Too many questions to the database's catalog are waiting");
}

void catalog_find(struct catalog *c, struct slice schema, struct slice name,
                  catalog_found_fn *fn, void *ctx)
{
    struct err err;
    struct lookup *fresh = NULL;
    struct waiter *waiter = calloc(1, sizeof(*waiter));
    if (!schema.len || !name.len || schema.len + name.len + 1 > KEY_MAX_BYTES ||
        memchr(schema.ptr, '\0', schema.len) || memchr(name.ptr, '\0', name.len)) {
        free(waiter);
        err_set(&err, ERR_NOT_FOUND, "No table can have such a name");
        fn(ctx, NULL, &err);
        return;
    }
    int rc = ERR_MEMORY;
    if (waiter) {
        waiter->fn = fn;
        waiter->ctx = ctx;
        list_init(&waiter->link);
        pthread_mutex_lock(&c->lock);
        rc = join(c, schema, name, waiter, &fresh);
        pthread_mutex_unlock(&c->lock);
    }
    busy(&err);
    if (rc) {
        free(waiter);
        fn(ctx, NULL, &err);
    } else if (fresh && pool_submit(c->pool, lookup_job, fresh) != 0) {
        answer(fresh, NULL, &err, 0);
    }
}

/* Under the lock. */
static void detach_all(struct catalog *c)
{
    size_t it = 0;
    struct slice key;
    void *value = NULL;
    while (map_next(&c->lookups, &it, &key, &value))
        ((struct lookup *)value)->detached = true;
    map_fini(&c->lookups);
    map_init(&c->lookups);
}

void catalog_forget(struct catalog *c, struct slice schema, struct slice name)
{
    struct buf key;
    pthread_mutex_lock(&c->lock);
    if (make_key(&key, schema, name)) {
        struct lookup *l = map_del(&c->lookups, buf_slice(&key));
        if (l)
            l->detached = true;
        entry_free(map_del(&c->entries, buf_slice(&key)));
    }
    pthread_mutex_unlock(&c->lock);
    buf_fini(&key);
}

void catalog_forget_all(struct catalog *c)
{
    pthread_mutex_lock(&c->lock);
    detach_all(c);
    drop_entries(c);
    pthread_mutex_unlock(&c->lock);
}
