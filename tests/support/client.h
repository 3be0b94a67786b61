/* A client to test: a clock that the test moves, an allocator that counts what is live and can fail,
 * a collection of id, name, qty whose sync the test drives, recorded events. Header only. */
#ifndef COULOMB_TESTS_SUPPORT_CLIENT_H
#define COULOMB_TESTS_SUPPORT_CLIENT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "coulomb/coulomb.h"

#define OK(call) assert_int_equal((call), COULOMB_OK)

struct test_heap {
    size_t live;    /* blocks */
    size_t calls;   /* since fail_at was set */
    size_t fail_at; /* this allocation fails, counted from 1, once; 0: none */
    int failed;     /* it did */
};

static inline void *world_realloc(void *ptr, size_t size, void *arg)
{
    struct test_heap *h = arg;
    void *fresh;

    if (h->fail_at > 0 && ++h->calls == h->fail_at) {
        h->failed = 1;
        return NULL;
    }
    fresh = realloc(ptr, size);
    if (!ptr && fresh)
        h->live++;
    return fresh;
}

static inline void world_free(void *ptr, void *arg)
{
    struct test_heap *h = arg;

    if (ptr)
        h->live--;
    free(ptr);
}

static inline int64_t test_clock(void *arg)
{
    return *(int64_t *)arg;
}

#define RECORDED_MAX 4096

struct recorded {
    coulomb_change_type type;
    int64_t key;
    int64_t qty; /* -1: null or absent */
    int64_t previous_qty;
    coulomb_meta meta;
    coulomb_meta previous_meta;
};

/* What a subscription heard. */
struct heard {
    struct recorded items[RECORDED_MAX];
    size_t count;
    size_t batches;
    size_t empty;
};

static inline void hear(coulomb_collection *coll, const coulomb_change *changes,
                        size_t count, void *arg)
{
    struct heard *h = arg;

    (void)coll;
    h->batches++;
    h->empty += count == 0;
    for (size_t i = 0; i < count && h->count < RECORDED_MAX; i++) {
        struct recorded *r = &h->items[h->count++];

        r->type = changes[i].type;
        r->key = changes[i].key.i;
        r->qty = coulomb_row_int(changes[i].row, "qty", -1);
        r->previous_qty =
            changes[i].previous ? coulomb_row_int(changes[i].previous, "qty", -1) : -1;
        r->meta = changes[i].meta;
        r->previous_meta = changes[i].previous_meta;
    }
}

struct world {
    struct test_heap heap;
    int64_t now_ms;
    unsigned flags; /* of the client */
    coulomb_client *c;
    coulomb_collection *coll;
    coulomb_sync *sync; /* held, of the newest session */
    size_t starts;
    size_t stops;
    int stop_code;
    /* The handler: calls so far, what it returns, completions of those it left open. */
    size_t handled;
    int answer;
    coulomb_completion *open[64];
    size_t open_count;
    coulomb_tx *last_tx; /* borrowed */
    coulomb_collection *last_coll;
    struct heard heard;
    coulomb_sub *sub;
};

static inline int world_start(coulomb_sync *sync, void *arg)
{
    struct world *w = arg;

    coulomb_sync_release(w->sync);
    w->sync = coulomb_sync_retain(sync);
    w->starts++;
    return 0;
}

static inline int world_stop(coulomb_sync *sync, void *arg)
{
    struct world *w = arg;

    (void)sync;
    w->stops++;
    return w->stop_code;
}

static inline int world_persist(coulomb_tx *tx, coulomb_collection *coll,
                                coulomb_completion *done, void *arg)
{
    struct world *w = arg;

    w->handled++;
    w->last_tx = tx;
    w->last_coll = coll;
    if (w->answer == COULOMB_PENDING)
        w->open[w->open_count++] = done;
    return w->answer;
}

static const coulomb_column world_columns[] = {
    {"id", COULOMB_INT64, COULOMB_ABSENT},
    {"name", COULOMB_TEXT, COULOMB_ABSENT},
    {"qty", COULOMB_INT64, COULOMB_ABSENT},
};

static const coulomb_adapter world_adapter = {
    .size = sizeof(coulomb_adapter), .start = world_start, .stop = world_stop};

static inline coulomb_collection_options world_options(struct world *w)
{
    coulomb_collection_options o;

    coulomb_options_init(&o, sizeof(o));
    o.id = "items";
    o.columns = world_columns;
    o.column_count = 3;
    o.key_column = "id";
    o.adapter = &world_adapter;
    o.adapter_arg = w;
    o.start_sync = 1;
    o.on_insert = o.on_update = o.on_delete = world_persist;
    o.handler_arg = w;
    return o;
}

/* COULOMB_OK or the code of what failed; then nothing is left but what world_close ends. */
static inline int world_try(struct world *w)
{
    coulomb_client_options o;
    coulomb_collection_options co = world_options(w);
    int code;

    coulomb_options_init(&o, sizeof(o));
    o.allocator = (coulomb_allocator){world_realloc, world_free, &w->heap};
    o.clock = test_clock;
    o.clock_arg = &w->now_ms;
    o.flags = w->flags;
    code = coulomb_client_open(&o, &w->c);
    if (code == COULOMB_OK)
        code = coulomb_collection_new(w->c, &co, &w->coll);
    if (code == COULOMB_OK) {
        code = coulomb_poll(w->c);
        code = code > 0 ? COULOMB_OK : code;
    }
    return code;
}

static inline struct world *world_open_with(unsigned flags)
{
    struct world *w = calloc(1, sizeof(*w));

    assert_non_null(w);
    w->flags = flags;
    w->answer = COULOMB_PENDING;
    w->now_ms = 1000;
    OK(world_try(w));
    assert_non_null(w->sync);
    return w;
}

static inline struct world *world_open(void)
{
    return world_open_with(0);
}

/* Everything is released, and then nothing is live. */
static inline void world_close(struct world *w)
{
    coulomb_completion *open[64];
    size_t count = w->open_count;

    memcpy(open, w->open, sizeof(open));
    coulomb_unsubscribe(w->sub);
    coulomb_sync_release(w->sync);
    coulomb_collection_release(w->coll);
    coulomb_client_close(w->c);
    for (size_t i = 0; i < count; i++) {
        if (open[i])
            coulomb_complete(open[i], COULOMB_OK, NULL);
    }
    assert_int_equal(w->heap.live, 0);
    free(w);
}

static inline void poll_all(struct world *w)
{
    for (int i = 0; i < 100 && coulomb_pending(w->c); i++)
        assert_true(coulomb_poll(w->c) >= 0);
}

static inline void pass(struct world *w, int64_t ms)
{
    w->now_ms += ms;
    poll_all(w);
}

/* Answers the n-th handler that waits. */
static inline void answer(struct world *w, size_t n, int code)
{
    coulomb_completion *done = w->open[n];

    w->open[n] = NULL;
    assert_non_null(done);
    coulomb_complete(done, code, code < 0 ? "no" : NULL);
}

static inline void row_values(coulomb_value values[3], int64_t id, const char *name,
                              int64_t qty)
{
    values[0] = coulomb_int(id);
    values[1] = name ? coulomb_text(name) : coulomb_absent();
    values[2] = coulomb_int(qty);
}

static inline int sync_row(struct world *w, int64_t id, const char *name, int64_t qty)
{
    coulomb_value values[3];

    row_values(values, id, name, qty);
    return coulomb_sync_insert(w->sync, values, NULL, 0);
}

static inline int sync_patch(struct world *w, int64_t id, int64_t qty)
{
    coulomb_value values[3];

    row_values(values, id, NULL, qty);
    return coulomb_sync_update(w->sync, values, NULL, 0);
}

/* One synced row in a transaction of its own. */
static inline void synced(struct world *w, int64_t id, int64_t qty)
{
    OK(coulomb_sync_begin(w->sync, 0));
    OK(sync_row(w, id, "x", qty));
    OK(coulomb_sync_commit(w->sync));
}

static inline int insert(struct world *w, int64_t id, int64_t qty,
                         const coulomb_mutate_options *o, coulomb_tx **tx)
{
    coulomb_field fields[3] = {
        {"id", coulomb_int(id)}, {"name", coulomb_text("x")}, {"qty", coulomb_int(qty)}};

    return coulomb_insert(w->coll, fields, 3, o, tx);
}

static inline int set_qty(struct world *w, int64_t id, int64_t qty,
                          const coulomb_mutate_options *o, coulomb_tx **tx)
{
    coulomb_field field = {"qty", coulomb_int(qty)};

    return coulomb_set(w->coll, coulomb_key_int(id), &field, 1, o, tx);
}

static inline int erase(struct world *w, int64_t id, const coulomb_mutate_options *o,
                        coulomb_tx **tx)
{
    return coulomb_delete(w->coll, coulomb_key_int(id), o, tx);
}

/* qty of the visible row; -2: none. */
static inline int64_t qty(struct world *w, int64_t id)
{
    const coulomb_row *row = coulomb_get(w->coll, coulomb_key_int(id));

    return row ? coulomb_row_int(row, "qty", -1) : -2;
}

static inline void watch(struct world *w, coulomb_initial initial)
{
    coulomb_sub_options o;

    coulomb_options_init(&o, sizeof(o));
    o.initial = initial;
    OK(coulomb_subscribe(w->coll, &o, hear, &w->heard, &w->sub));
    poll_all(w);
    memset(&w->heard, 0, sizeof(w->heard));
}

static inline coulomb_tx *explicit_tx(struct world *w)
{
    coulomb_tx_options o;
    coulomb_tx *tx = NULL;

    coulomb_options_init(&o, sizeof(o));
    o.persist = world_persist;
    o.persist_arg = w;
    o.no_autocommit = 1;
    OK(coulomb_tx_new(w->c, &o, &tx));
    return tx;
}

static inline coulomb_mutate_options in_tx(coulomb_tx *tx)
{
    coulomb_mutate_options o;

    coulomb_options_init(&o, sizeof(o));
    o.tx = tx;
    return o;
}

static inline void expect(struct world *w, size_t i, coulomb_change_type type,
                          int64_t key, int64_t q)
{
    assert_true(i < w->heard.count);
    assert_int_equal(w->heard.items[i].type, type);
    assert_int_equal(w->heard.items[i].key, key);
    assert_int_equal(w->heard.items[i].qty, q);
}

#endif
