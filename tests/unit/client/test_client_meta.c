/* Metadata that adapters hand to the library, and what they take along (sections 1.1, 3 and 7.4 of
 * the specification). */
#include "support/client.h"

static struct {
    char current[64]; /* what the adapter has; "" for nothing */
    char imported[64];
    int code; /* what its functions answer */
    size_t inserts;
    struct world *w;
} sync_state;

static int insert_meta(coulomb_blob *out, void *arg)
{
    int code = coulomb_blob_set(out, "dropped", 7);

    (void)arg;
    sync_state.inserts++;
    if (code == COULOMB_OK)
        code = coulomb_blob_set(out, "public.items", 12);
    return code != COULOMB_OK ? code : sync_state.code;
}

static int export_meta(coulomb_blob *out, void *arg)
{
    struct world *w = arg;

    assert_ptr_equal(w, sync_state.w);
    assert_int_equal(erase(w, 1, NULL, NULL), COULOMB_E_REENTRY);
    if (sync_state.current[0] == '\0' || sync_state.code != COULOMB_OK)
        return sync_state.code;
    return coulomb_blob_set(out, sync_state.current, strlen(sync_state.current));
}

static int import_meta(const void *meta, size_t len, void *arg)
{
    (void)arg;
    assert_true(len < sizeof(sync_state.imported));
    memcpy(sync_state.imported, meta, len);
    sync_state.imported[len] = '\0';
    return memcmp(meta, "nonsense", len < 8 ? len : 8) == 0 ? COULOMB_E_ARGUMENT : 0;
}

static int merge_meta(const void *current, size_t current_len, const void *incoming,
                      size_t incoming_len, coulomb_blob *out, void *arg)
{
    char both[64];
    int n = snprintf(both, sizeof(both), "%.*s+%.*s", (int)current_len,
                     (const char *)current, (int)incoming_len, (const char *)incoming);

    (void)arg;
    return coulomb_blob_set(out, both, (size_t)n);
}

static struct world *meta_world(const coulomb_adapter *adapter)
{
    struct world *w = world_open();
    coulomb_collection_options co = world_options(w);

    memset(&sync_state, 0, sizeof(sync_state));
    sync_state.w = w;
    co.adapter = adapter;
    coulomb_collection_release(w->coll);
    OK(coulomb_collection_new(w->c, &co, &w->coll));
    poll_all(w);
    return w;
}

static const coulomb_adapter whole = {.size = sizeof(coulomb_adapter),
                                      .start = world_start,
                                      .stop = world_stop,
                                      .insert_meta = insert_meta,
                                      .export_meta = export_meta,
                                      .import_meta = import_meta,
                                      .merge_meta = merge_meta};

static void sync_meta_is(coulomb_tx *tx, size_t i, const char *want)
{
    coulomb_mutation m;

    OK(coulomb_tx_mutation(tx, i, &m));
    assert_int_equal(m.sync_metadata_len, want ? strlen(want) : 0);
    if (want)
        assert_memory_equal(m.sync_metadata, want, strlen(want));
    else
        assert_null(m.sync_metadata);
}

static void an_insert_has_the_adapters_metadata(void **state)
{
    struct world *w = meta_world(&whole);
    coulomb_field ids[2] = {{"id", coulomb_int(1)}, {"id", coulomb_int(2)}};
    coulomb_item items[2] = {{&ids[0], 1}, {&ids[1], 1}};
    coulomb_tx *tx;

    (void)state;
    OK(coulomb_insert_many(w->coll, items, 2, NULL, &tx));
    assert_int_equal(sync_state.inserts, 1);
    sync_meta_is(tx, 0, "public.items");
    sync_meta_is(tx, 1, "public.items");
    coulomb_tx_release(tx);
    poll_all(w);
    sync_state.code = COULOMB_E_IO;
    assert_int_equal(insert(w, 3, 1, NULL, NULL), COULOMB_E_IO);
    assert_non_null(strstr(coulomb_last_error(w->c)->message, "insert_meta"));
    assert_false(coulomb_has(w->coll, coulomb_key_int(3)));
    world_close(w);
}

/* An update has its row's; so has what a delete and an insert are together. */
static void other_mutations_have_their_rows(void **state)
{
    struct world *w = meta_world(&whole);
    coulomb_tx *tx = explicit_tx(w);
    coulomb_mutate_options o = in_tx(tx);
    coulomb_value v[3];

    (void)state;
    OK(coulomb_sync_begin(w->sync, 0));
    for (int64_t id = 1; id <= 3; id++) {
        row_values(v, id, "x", 1);
        OK(coulomb_sync_insert(w->sync, v, id == 3 ? NULL : "row", id == 3 ? 0 : 3));
    }
    OK(coulomb_sync_commit(w->sync));
    OK(set_qty(w, 1, 5, &o, NULL));
    OK(erase(w, 2, &o, NULL));
    OK(insert(w, 2, 9, &o, NULL));
    OK(set_qty(w, 3, 5, &o, NULL));
    OK(insert(w, 4, 1, &o, NULL));
    OK(set_qty(w, 4, 2, &o, NULL));
    sync_meta_is(tx, 0, "row");
    sync_meta_is(tx, 1, "row");
    sync_meta_is(tx, 2, NULL);
    sync_meta_is(tx, 3, "public.items");
    OK(coulomb_tx_rollback(tx));
    coulomb_tx_release(tx);
    world_close(w);
}

static void what_sync_knows_is_taken_along(void **state)
{
    struct world *w = meta_world(&whole);
    const void *meta;
    size_t len;

    (void)state;
    OK(coulomb_collection_export_meta(w->coll, &meta, &len));
    assert_null(meta);
    OK(coulomb_collection_import_meta(w->coll, "a",
                                      1)); /* there is nothing to merge with */
    assert_string_equal(sync_state.imported, "a");
    snprintf(sync_state.current, sizeof(sync_state.current), "b");
    OK(coulomb_collection_export_meta(w->coll, &meta, &len));
    assert_int_equal(len, 1);
    assert_memory_equal(meta, "b", 1);
    OK(coulomb_collection_import_meta(w->coll, "c", 1));
    assert_string_equal(sync_state.imported, "b+c");
    OK(coulomb_collection_cleanup(w->coll)); /* also between sessions */
    OK(coulomb_collection_import_meta(w->coll, "d", 1));
    assert_string_equal(sync_state.imported, "b+d");
    sync_state.current[0] = '\0';
    assert_int_equal(coulomb_collection_import_meta(w->coll, "nonsense", 8),
                     COULOMB_E_ARGUMENT);
    assert_int_equal(coulomb_collection_import_meta(w->coll, NULL, 0),
                     COULOMB_E_ARGUMENT);
    sync_state.code = 5; /* any other number is a failure, too */
    assert_int_equal(coulomb_collection_export_meta(w->coll, &meta, &len),
                     COULOMB_E_FAILED);
    assert_null(meta);
    world_close(w);
}

static void an_adapter_may_have_none(void **state)
{
    struct world *w = world_open();
    const void *meta;
    size_t len;

    (void)state;
    OK(coulomb_collection_export_meta(w->coll, &meta, &len));
    assert_null(meta);
    assert_int_equal(coulomb_collection_import_meta(w->coll, "a", 1),
                     COULOMB_E_COLLECTION_OPERATION);
    world_close(w);
}

static void every_allocation_fails_once(void **state)
{
    int failed = 1;

    (void)state;
    for (size_t n = 1; failed; n++) {
        struct world *w = meta_world(&whole);
        const void *meta;
        size_t len;
        int codes[3];

        snprintf(sync_state.current, sizeof(sync_state.current), "b");
        w->heap.fail_at = n;
        w->heap.calls = 0;
        codes[0] = coulomb_collection_export_meta(w->coll, &meta, &len);
        codes[1] = coulomb_collection_import_meta(w->coll, "c", 1);
        codes[2] = insert(w, 1, 1, NULL, NULL);
        failed = w->heap.failed;
        for (int i = 0; i < 3; i++)
            assert_true(codes[i] == COULOMB_OK || codes[i] == COULOMB_E_MEMORY);
        w->heap.fail_at = 0;
        poll_all(w);
        world_close(w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_insert_has_the_adapters_metadata),
        cmocka_unit_test(other_mutations_have_their_rows),
        cmocka_unit_test(what_sync_knows_is_taken_along),
        cmocka_unit_test(an_adapter_may_have_none),
        cmocka_unit_test(every_allocation_fails_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
