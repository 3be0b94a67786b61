/* All memory of a client comes from its allocator, parsers' scratch too; and the n-th allocation
 * fails, for every n, of what the scenario of test_client_alloc.c does not do. */
#include <sys/stat.h>
#include <unistd.h>

#include "client/loop/loop.h"
#include "support/client.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif

/* --- Who allocates ---------------------------------------------------------------------------- */

static volatile int
    in_library; /* volatile: the compiler thinks it knows what malloc reads */
static volatile size_t strays; /* allocations that its allocator did not make */
static volatile int in_allocator;

#if defined(__GLIBC__) && !defined(SANITIZED)
#define COUNTS_STRAYS 1

/* NOLINTNEXTLINE(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): glibc's own name */
extern void *__libc_malloc(size_t size);
/* NOLINTNEXTLINE(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): glibc's own name */
extern void *__libc_calloc(size_t count, size_t size);
/* NOLINTNEXTLINE(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): glibc's own name */
extern void *__libc_realloc(void *ptr, size_t size);

static void count_stray(void)
{
    strays += in_library && !in_allocator;
}

void *malloc(size_t size)
{
    count_stray();
    return __libc_malloc(size);
}

void *calloc(size_t nmemb, size_t size)
{
    count_stray();
    return __libc_calloc(nmemb, size);
}

void *realloc(void *ptr, size_t size)
{
    count_stray();
    return __libc_realloc(ptr, size);
}
#else
#define COUNTS_STRAYS 0
#endif

static void *counted_realloc(void *ptr, size_t size, void *arg)
{
    void *fresh;

    in_allocator++;
    fresh = world_realloc(ptr, size, arg);
    in_allocator--;
    return fresh;
}

/* --- Worlds ------------------------------------------------------------------------------------- */

static const coulomb_column columns[] = {
    {"id", COULOMB_UUID, COULOMB_ABSENT}, {"n", COULOMB_NUMERIC, COULOMB_ABSENT},
    {"j", COULOMB_JSON, COULOMB_ABSENT},  {"a", COULOMB_ARRAY, COULOMB_NUMERIC},
    {"t", COULOMB_TEXT, COULOMB_ABSENT},  {"f", COULOMB_DOUBLE, COULOMB_ABSENT},
};

/* Calls until it is done: what failed for memory may be asked again. */
#define TRY(call)                                                                        \
    do {                                                                                 \
        int code_;                                                                       \
        int tries_ = 0;                                                                  \
        in_library = 1;                                                                  \
        do                                                                               \
            code_ = (call);                                                              \
        while (code_ == COULOMB_E_MEMORY && tries_++ < 4);                               \
        in_library = 0;                                                                  \
        if (code_ < 0)                                                                   \
            print_error("%s: %s\n", #call, coulomb_error_name(code_));                   \
        assert_true(code_ >= 0);                                                         \
    } while (0)

static void drain(struct world *w)
{
    for (int i = 0; i < 60 && coulomb_pending(w->c); i++) {
        int code;

        in_library = 1;
        code = coulomb_poll(w->c);
        in_library = 0;
        assert_true(code >= 0 || code == COULOMB_E_MEMORY);
    }
}

/* A client with an allocator that fails once; its collection is the scenario's. */
static struct world *scratch_world(size_t fail_at)
{
    struct world *w = calloc(1, sizeof(*w));
    coulomb_client_options o;

    assert_non_null(w);
    w->answer = COULOMB_OK;
    w->now_ms = 1000;
    coulomb_options_init(&o, sizeof(o));
    o.allocator = (coulomb_allocator){counted_realloc, world_free, &w->heap};
    o.clock = test_clock;
    o.clock_arg = &w->now_ms;
    OK(coulomb_client_open(&o, &w->c));
    w->heap.fail_at = fail_at;
    return w;
}

/* Runs a scenario with every allocation failing once; none may be made elsewhere. */
static void every_one_fails(void (*scenario)(struct world *w), size_t least)
{
    size_t n = 1;
    int failed = 1;

    strays = 0;
    for (; failed; n++) {
        struct world *w = scratch_world(n);

        scenario(w);
        failed = w->heap.failed;
        w->heap.fail_at = 0;
        world_close(w);
        assert_true(n < 20000);
    }
    print_message("%zu allocations\n", n);
    assert_true(n > least);
    if (COUNTS_STRAYS)
        assert_int_equal(strays, 0);
}

/* --- Typed rows ------------------------------------------------------------------------------------ */

static void typed_options(struct world *w, coulomb_collection_options *co)
{
    *co = world_options(w);
    co->columns = columns;
    co->column_count = sizeof(columns) / sizeof(columns[0]);
}

static int write_row(coulomb_draft *d, size_t index, void *arg)
{
    static const char *const texts[][2] = {{"n", "1234567890123456789012345.10"},
                                           {"j", "{\"b\": [1, {\"c\": \"x\\u00e4\"}]}"},
                                           {"a", "{1.50,NULL,2}"}};
    int code = COULOMB_OK;

    (void)index;
    (void)arg;
    for (size_t i = 0; i < 3 && code == COULOMB_OK; i++)
        code = coulomb_draft_set_input(d, texts[i][0], texts[i][1], strlen(texts[i][1]));
    if (code == COULOMB_OK)
        code = coulomb_draft_json_set(d, "j", "/b/1/d", "[true]");
    if (code == COULOMB_OK)
        code = coulomb_draft_json_unset(d, "j", "/b/1/c");
    if (code == COULOMB_OK)
        code = coulomb_draft_array_push(d, "a", coulomb_numeric("0.5"));
    if (code == COULOMB_OK)
        code = coulomb_draft_array_sort(d, "a");
    return code;
}

static coulomb_value id_of(int i)
{
    unsigned char bytes[16] = {0};

    bytes[15] = (unsigned char)i;
    return coulomb_uuid(bytes);
}

static coulomb_expr *condition(struct world *w)
{
    coulomb_value items[2] = {coulomb_numeric("1"), coulomb_numeric("7")};
    coulomb_array a = {.element = COULOMB_NUMERIC, .dims = 1, .count = 2, .items = items};

    return coulomb_or(
        coulomb_and(
            coulomb_where(w->coll, "n", COULOMB_GTE, coulomb_numeric("10.0")),
            coulomb_where_json(w->coll, "j", "/b/0", COULOMB_LT, coulomb_int(100))),
        coulomb_or(coulomb_where(w->coll, "a", COULOMB_CONTAINS, coulomb_int(7)),
                   coulomb_where(w->coll, "a", COULOMB_EQ, coulomb_array_value(&a))));
}

static coulomb_expr *make_condition(struct world *w)
{
    coulomb_expr *e = NULL;

    in_library = 1;
    for (int i = 0; i < 4 && !e; i++)
        e = condition(w);
    in_library = 0;
    assert_non_null(e);
    return e;
}

static size_t found(struct world *w, const coulomb_expr *e, const coulomb_order *order)
{
    coulomb_snapshot_options o;
    coulomb_result *r;
    size_t n;

    coulomb_options_init(&o, sizeof(o));
    o.where = e;
    o.order = order;
    o.order_count = 1;
    TRY(coulomb_snapshot(w->coll, &o, &r));
    n = coulomb_result_count(r);
    coulomb_result_free(r);
    return n;
}

static void count_rows(coulomb_collection *coll, const coulomb_change *changes,
                       size_t count, void *arg)
{
    int64_t *rows = arg;

    (void)coll;
    for (size_t i = 0; i < count; i++)
        *rows +=
            (changes[i].type == COULOMB_INSERT) - (changes[i].type == COULOMB_DELETE);
}

static void sync_typed(struct world *w, const char *n, int from, int to)
{
    static const char json[] = "{ \"b\" : [ 5, {} ] }";
    coulomb_value items[2] = {coulomb_numeric("7.0"), coulomb_null()};
    coulomb_array a = {.element = COULOMB_NUMERIC, .dims = 1, .count = 2, .items = items};

    TRY(coulomb_sync_begin(w->sync, 0));
    for (int i = from; i < to; i++) {
        coulomb_value v[6] = {id_of(i),
                              coulomb_numeric(n),
                              coulomb_json(json),
                              i % 2 ? coulomb_array_value(&a) : coulomb_null(),
                              coulomb_text("text"),
                              coulomb_int(i)};

        TRY(coulomb_sync_update(w->sync, v, NULL, 0));
    }
    TRY(coulomb_sync_commit(w->sync));
}

/* Subscribed, indexed, snapshotted; all rows that match are found and heard of, whatever failed. */
static void typed_rows(struct world *w)
{
    static const coulomb_order order = {"a", 0, 0};
    static const char *const pointers[] = {"/b/0", "/b"};
    coulomb_collection_options co;
    coulomb_sub_options so;
    coulomb_sub *asking;
    coulomb_expr *e;
    coulomb_key key;
    int64_t heard = 0;
    int64_t asked = 0;

    typed_options(w, &co);
    TRY(coulomb_collection_new(w->c, &co, &w->coll));
    drain(w);
    TRY(coulomb_collection_start(w->coll));
    drain(w);
    e = make_condition(w);
    coulomb_options_init(&so, sizeof(so));
    so.initial = COULOMB_INITIAL_ROWS;
    so.where = e;
    TRY(coulomb_subscribe(w->coll, &so, count_rows, &heard, &w->sub));
    sync_typed(w, "00012.50", 1, 8);
    drain(w);
    TRY(coulomb_index_new(w->coll, "n", COULOMB_INDEX_ORDERED, NULL));
    TRY(coulomb_index_new(w->coll, "a", COULOMB_INDEX_HASH, NULL));
    for (int i = 0; i < 2; i++)
        TRY(coulomb_index_new_json(w->coll, "j", pointers[i],
                                   i ? COULOMB_INDEX_HASH : COULOMB_INDEX_ORDERED, NULL));
    assert_int_equal(found(w, e, &order), 7);
    assert_int_equal(heard, 7);
    so.initial = COULOMB_INITIAL_NONE;
    TRY(coulomb_subscribe(w->coll, &so, count_rows, &asked, &asking));
    TRY(coulomb_sub_request(asking, NULL, NULL));
    drain(w);
    assert_int_equal(asked, 7);
    sync_typed(w, "2", 1, 3); /* 1 has the array still */
    drain(w);
    assert_int_equal(heard, 6);
    assert_int_equal(asked, 6);
    coulomb_unsubscribe(asking);
    assert_int_equal(found(w, e, &order), 6);
    key = coulomb_row_key(
        coulomb_get(w->coll, coulomb_key_text("00000000-0000-0000-0000-000000000002")));
    TRY(coulomb_update(w->coll, key, write_row, NULL, NULL, NULL));
    drain(w);
    assert_int_equal(heard, 7);
    assert_int_equal(found(w, e, &order), 7);
    coulomb_expr_free(e);
}

static void typed_rows_without_memory(void **state)
{
    (void)state;
    every_one_fails(typed_rows, 200);
}

/* --- Pages, listeners, actions ------------------------------------------------------------------------ */

static int load(coulomb_sync *sync, const coulomb_subset *s, coulomb_completion *done,
                void *arg)
{
    (void)sync;
    (void)s;
    (void)done;
    (void)arg;
    return COULOMB_OK;
}

static const coulomb_adapter loading_adapter = {.size = sizeof(coulomb_adapter),
                                                .start = world_start,
                                                .stop = world_stop,
                                                .load_subset = load};

static void some_rows(struct world *w, int64_t from, int64_t to)
{
    TRY(coulomb_sync_begin(w->sync, 0));
    for (int64_t i = from; i < to; i++)
        TRY(sync_patch(w, i, i / 2));
    TRY(coulomb_sync_commit(w->sync));
}

/* Each row is heard of once, whatever failed. */
static void pages_of_rows_there(struct world *w)
{
    static const coulomb_order order[2] = {{"qty", 1, 0}, {"id", 0, 0}};
    coulomb_collection_options co = world_options(w);
    coulomb_value from[2] = {coulomb_int(5), coulomb_int(10)};
    coulomb_request_options ro;
    coulomb_page_options po;
    coulomb_token token;
    int64_t heard = 0;

    co.adapter = &loading_adapter;
    co.on_demand = co.auto_index = 1;
    co.start_sync = 0;
    TRY(coulomb_collection_new(w->c, &co, &w->coll));
    TRY(coulomb_collection_start(w->coll));
    drain(w);
    some_rows(w, 0, 12);
    TRY(coulomb_subscribe(w->coll, NULL, count_rows, &heard, &w->sub));
    coulomb_options_init(&po, sizeof(po));
    po.order = order;
    po.order_count = 2;
    po.limit = 2;
    TRY(coulomb_sub_page(w->sub, &po, NULL));
    drain(w);
    assert_int_equal(heard, 2);
    po.from = from;
    po.from_count = 2;
    TRY(coulomb_sub_page(w->sub, &po, &token));
    drain(w);
    assert_int_equal(heard, 4);
    coulomb_options_init(&ro, sizeof(ro));
    in_library = 1;
    for (int i = 0; i < 4 && !ro.where; i++)
        ro.where = coulomb_where(w->coll, "qty", COULOMB_LT, coulomb_int(2));
    in_library = 0;
    assert_non_null(ro.where);
    TRY(coulomb_sub_request(w->sub, &ro, NULL));
    coulomb_expr_free((coulomb_expr *)(uintptr_t)ro.where);
    drain(w);
    assert_int_equal(heard, 8);
    coulomb_off(w->c, token);
    TRY(coulomb_sync_begin(w->sync, 0));
    TRY(coulomb_sync_truncate(w->sync));
    TRY(sync_patch(w, 11, 5));
    TRY(coulomb_sync_commit(w->sync));
    drain(w);
    assert_int_equal(heard, 1);
}

static void pages_without_memory(void **state)
{
    (void)state;
    every_one_fails(pages_of_rows_there, 80);
}

static size_t told;

static void on_ready(coulomb_collection *coll, const coulomb_error *error, void *arg)
{
    (void)coll;
    (void)error;
    (void)arg;
    told++;
}

static void on_event(coulomb_collection *coll, const coulomb_event *event, void *arg)
{
    (void)coll;
    (void)event;
    (void)arg;
    told++;
}

static void on_settled(coulomb_tx *tx, const coulomb_error *error, void *arg)
{
    (void)tx;
    (void)error;
    (void)arg;
    told++;
}

static void on_progress(coulomb_tx *tx, void *arg)
{
    (void)tx;
    (void)arg;
}

static void on_post(coulomb_client *c, void *arg)
{
    (void)c;
    (void)arg;
    told++;
}

static int insert_one(coulomb_tx *tx, void *vars)
{
    (void)tx;
    return insert(vars, 1, 1, NULL, NULL);
}

/* on_mutate failed for memory: what it did stays in its transaction, which is rolled back. */
static int run_action(struct world *w, const coulomb_action *a, coulomb_tx **tx)
{
    int code;

    *tx = NULL;
    code = coulomb_action_run(w->c, a, w, tx);
    if (code != COULOMB_OK && *tx) {
        TRY(coulomb_tx_rollback(*tx));
        coulomb_tx_release(*tx);
    }
    return code;
}

static void listeners(struct world *w)
{
    coulomb_collection_options co = world_options(w);
    coulomb_action a;
    coulomb_tx *tx;

    told = 0;
    TRY(coulomb_collection_new(w->c, &co, &w->coll));
    TRY(coulomb_collection_preload(w->coll, on_ready, NULL, NULL));
    TRY(coulomb_collection_on(w->coll, COULOMB_EVENT_STATUS, on_event, NULL, NULL));
    TRY(coulomb_collection_wait(w->coll, COULOMB_EVENT_STATUS, COULOMB_NEVER, on_event,
                                NULL, NULL));
    drain(w);
    TRY(coulomb_sync_mark_ready(w->sync));
    TRY(coulomb_post(w->c, on_post, NULL));
    drain(w);
    assert_int_equal(told, 4);
    coulomb_options_init(&a, sizeof(a));
    a.id = "named";
    a.on_mutate = insert_one;
    a.persist = world_persist;
    a.metadata = "m";
    a.metadata_len = 1;
    w->answer = COULOMB_OK;
    TRY(run_action(w, &a, &tx));
    TRY(coulomb_tx_on_settled(tx, on_settled, NULL, NULL));
    TRY(coulomb_tx_on_progress(tx, on_progress, NULL, NULL));
    drain(w);
    assert_int_equal(told, 5);
    coulomb_tx_release(tx);
    TRY(coulomb_collection_cleanup(w->coll));
    drain(w);
    assert_int_equal(told, 6);
}

static void listeners_without_memory(void **state)
{
    (void)state;
    every_one_fails(listeners, 20);
}

/* --- Kinds --------------------------------------------------------------------------------------------- */

static char path[128];

static int set_json(coulomb_draft *d, size_t index, void *arg)
{
    (void)index;
    (void)arg;
    return coulomb_draft_set(d, "j", coulomb_json("{\"x\": \"\\u00e4\\n\"}"));
}

/* No failure loses a row of the file. */
static void a_file(struct world *w)
{
    coulomb_collection_options co;
    coulomb_collection *again;
    coulomb_field fields[3] = {{"id", id_of(1)},
                               {"n", coulomb_numeric("1.50")},
                               {"j", coulomb_json("\"\\u00e4\"")}};
    coulomb_key key = coulomb_key_text("00000000-0000-0000-0000-000000000001");
    size_t bytes = 0;
    coulomb_tx *tx;

    unlink(path);
    typed_options(w, &co);
    co.id = NULL;
    co.on_insert = co.on_update = co.on_delete = NULL;
    TRY(coulomb_local_file_new(w->c, &co, path, &w->coll));
    do { /* a write that found no memory fails its transaction */
        TRY(coulomb_insert(w->coll, fields, 3, NULL, &tx));
        drain(w);
        again = coulomb_tx_status(tx) == COULOMB_TX_FAILED ? w->coll : NULL;
        coulomb_tx_release(tx);
    } while (again);
    do {
        TRY(coulomb_update(w->coll, key, set_json, NULL, NULL, &tx));
        drain(w);
        again = coulomb_tx_status(tx) == COULOMB_TX_FAILED ? w->coll : NULL;
        coulomb_tx_release(tx);
    } while (again);
    TRY(coulomb_local_file_reload(w->coll));
    TRY(coulomb_local_file_size(w->coll, &bytes));
    assert_true(bytes > 0);
    TRY(coulomb_local_file_new(w->c, &co, path, &again));
    assert_true(coulomb_has(again, key));
    w->heap.fail_at = 0;
    assert_int_equal(
        coulomb_row_equal(coulomb_get(again, key), coulomb_get(w->coll, key)), 1);
    coulomb_collection_release(again);
}

static void a_file_without_memory(void **state)
{
    char dir[96];
    const char *tmp = getenv("TMPDIR");

    (void)state;
    snprintf(dir, sizeof(dir), "%.60s/coulomb-XXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/rows.json", dir);
    every_one_fails(a_file, 40);
    unlink(path);
    assert_int_equal(rmdir(dir), 0);
}

static int accept_all(coulomb_tx *tx, coulomb_collection *coll, coulomb_completion *done,
                      void *arg)
{
    struct world *w = arg;

    (void)coll;
    (void)done;
    return coulomb_local_accept(w->coll, tx);
}

static int count_one(const coulomb_row *row, void *arg)
{
    (void)row;
    ++*(size_t *)arg;
    return 0;
}

/* Read in the library's order and in TanStack DB's. */
static void a_local_one(struct world *w)
{
    coulomb_collection_options co = world_options(w);
    coulomb_field first[2] = {{"id", coulomb_int(1)}, {"qty", coulomb_int(1)}};
    coulomb_item item = {first, 2};
    coulomb_tx_options to;
    coulomb_mutate_options o;
    coulomb_tx_state state;
    size_t rows;

    co.on_insert = co.on_update = co.on_delete = NULL;
    TRY(coulomb_local_new(w->c, &co, &item, 1, &w->coll));
    coulomb_options_init(&to, sizeof(to));
    to.persist = accept_all;
    to.persist_arg = w;
    do { /* accepting that found no memory fails its transaction */
        coulomb_tx *tx;

        TRY(coulomb_tx_new(w->c, &to, &tx));
        o = in_tx(tx);
        TRY(insert(w, 2, 2, &o, NULL));
        rows = 0;
        w->c->compat = true;
        TRY(coulomb_each(w->coll, count_one, &rows));
        w->c->compat = false;
        assert_int_equal(rows, 2);
        TRY(coulomb_tx_commit(tx));
        drain(w);
        state = coulomb_tx_status(tx);
        coulomb_tx_release(tx);
    } while (state != COULOMB_TX_COMPLETED);
    rows = 0;
    TRY(coulomb_each(w->coll, count_one, &rows));
    assert_int_equal(rows, 2);
}

static void a_local_one_without_memory(void **state)
{
    (void)state;
    every_one_fails(a_local_one, 25);
}

static void fetch(coulomb_fetch *f, void *arg)
{
    int code = COULOMB_OK;

    (void)arg;
    for (int64_t i = 0; i < 5 && code == COULOMB_OK; i++) {
        coulomb_value v[3];

        row_values(v, i, "x", 1);
        code = coulomb_fetch_row(f, v);
    }
    coulomb_fetch_done(f, code, NULL);
}

static void polled(struct world *w)
{
    coulomb_polled_options o;
    coulomb_write writes[2];
    coulomb_value v[3];

    coulomb_options_init(&o, sizeof(o));
    o.collection = world_options(w);
    o.collection.start_sync = 0;
    o.fetch = fetch;
    o.retries = 3;
    TRY(coulomb_polled_new(w->c, &o, &w->coll));
    TRY(coulomb_collection_start(w->coll));
    drain(w);
    w->now_ms += 60000;
    drain(w);
    assert_int_equal(coulomb_size(w->coll), 5);
    row_values(v, 9, "x", 9);
    memset(writes, 0, sizeof(writes));
    writes[0].type = COULOMB_WRITE_UPSERT;
    writes[0].values = v;
    writes[1].type = COULOMB_WRITE_DELETE;
    writes[1].key = coulomb_key_int(0);
    TRY(coulomb_polled_write(w->coll, writes, 2));
    assert_int_equal(coulomb_size(w->coll), 5);
    TRY(set_qty(w, 1, 7, NULL, NULL));
    drain(w);
    w->now_ms += 60000;
    drain(w);
    TRY(coulomb_polled_refetch(w->coll));
    drain(w);
    w->now_ms += 60000;
    drain(w);
    assert_int_equal(coulomb_size(w->coll), 5);
    assert_true(coulomb_has(w->coll, coulomb_key_int(0)));
}

static void polled_without_memory(void **state)
{
    (void)state;
    every_one_fails(polled, 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(typed_rows_without_memory),
        cmocka_unit_test(pages_without_memory),
        cmocka_unit_test(listeners_without_memory),
        cmocka_unit_test(a_file_without_memory),
        cmocka_unit_test(polled_without_memory),
        cmocka_unit_test(a_local_one_without_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
