/* Behaviours T of tests/CLIENT.md: commit points, refetches, errors, resuming, keys. */
#include "support/electric.h"

static struct feed f;

/* --- Commit points (T1, T2, T9, T15) -------------------------------------------------------------- */

static void t1_nothing_is_seen_before_up_to_date(void **state)
{
    struct world *w = electric_open(COULOMB_EAGER);

    (void)state;
    watch(w, COULOMB_INITIAL_ROWS);
    feed_insert(&f, 0, 1, 10);
    feed_insert(&f, 0, 2, 20);
    feed_view(&f, 5, 5, NULL, 0);
    feed_send_part(&f);
    poll_all(w);
    assert_int_equal(coulomb_size(w->coll), 0);
    assert_int_equal(w->heard.batches, 0);
    assert_int_equal(coulomb_collection_status(w->coll), COULOMB_LOADING);
    feed_up_to_date(&f, 100);
    feed_send(&f);
    assert_int_equal(coulomb_size(w->coll), 2);
    assert_int_equal(coulomb_collection_status(w->coll), COULOMB_READY);
    poll_all(w);
    assert_int_equal(w->heard.count, 2);
    electric_close(w);
}

static void t1_several_messages_are_one_batch(void **state)
{
    struct world *w = electric_open(COULOMB_EAGER);

    (void)state;
    feed_insert(&f, 0, 1, 10);
    feed_insert(&f, 0, 2, 20);
    feed_up_to_date(&f, 1);
    feed_send(&f);
    watch(w, COULOMB_INITIAL_ROWS);
    feed_update(&f, 7, 1, 11);
    feed_insert(&f, 7, 3, 30);
    feed_delete(&f, 8, 2);
    feed_update(&f, 9, 1, 12);
    feed_up_to_date(&f, 900);
    feed_send(&f);
    poll_all(w);
    assert_int_equal(w->heard.batches, 1);
    assert_int_equal(w->heard.count, 3);
    assert_int_equal(qty(w, 1), 12);
    assert_int_equal(qty(w, 2), -2);
    assert_int_equal(qty(w, 3), 30);
    /* An update brought what changed, and the rest stayed. */
    assert_int_equal(
        coulomb_row_text(coulomb_get(w->coll, coulomb_key_int(1)), "name").len, 1);
    electric_close(w);
}

static void t2_a_first_error_is_the_collections(void **state)
{
    struct world *w = electric_open(COULOMB_EAGER);

    (void)state;
    fake_fail(COULOMB_E_FETCH, "the table is not there");
    assert_int_equal(coulomb_collection_status(w->coll), COULOMB_ERROR);
    assert_int_equal(coulomb_collection_error(w->coll)->code, COULOMB_E_FETCH);
    assert_string_equal(coulomb_collection_error(w->coll)->message,
                        "the table is not there");
    electric_close(w);
}

static void t2_a_later_error_keeps_the_rows(void **state)
{
    struct world *w = electric_open(COULOMB_EAGER);
    coulomb_electric_state st = {.size = sizeof(st)};

    (void)state;
    feed_insert(&f, 0, 1, 10);
    feed_up_to_date(&f, 1);
    feed_send(&f);
    fake_fail(COULOMB_E_FETCH, "gone");
    assert_int_equal(coulomb_collection_status(w->coll), COULOMB_READY);
    assert_int_equal(qty(w, 1), 10);
    OK(coulomb_electric_state_get(w->coll, &st));
    assert_int_equal(st.failed, 1);
    assert_int_equal(st.error->code, COULOMB_E_FETCH);
    electric_close(w);
}

static int errors_asked;

static int ask_again(coulomb_collection *coll, const coulomb_electric_error *e, void *arg)
{
    (void)arg;
    assert_int_equal(e->status, 401);
    errors_asked++;
    OK(coulomb_electric_set_header(coll, "authorization", "Bearer new"));
    return 1;
}

static void t2_the_app_may_have_it_tried_again(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    coulomb_electric_options o = electric_options(w, COULOMB_EAGER);
    struct stream_error e = {
        .code = COULOMB_E_FETCH, .status = 401, .message = "no", .retryable = true};

    (void)state;
    o.on_error = ask_again;
    electric_open_with(w, &o);
    errors_asked = 0;
    assert_int_equal(fake->callbacks.error(fake, &e, fake->arg), STREAM_RETRY);
    assert_int_equal(errors_asked, 1);
    assert_string_equal(fake->params[0][0], "authorization");
    assert_int_equal(coulomb_collection_status(w->coll), COULOMB_LOADING);
    /* It is kept for later sessions. */
    OK(coulomb_collection_cleanup(w->coll));
    OK(coulomb_collection_start(w->coll));
    poll_all(w);
    assert_string_equal(fake->params[0][1], "Bearer new");
    assert_int_equal(coulomb_electric_set_param(w->coll, "offset", "3"),
                     COULOMB_E_RESERVED_PARAM);
    electric_close(w);
}

static void t9_snapshot_end_commits_nothing(void **state)
{
    struct world *w = electric_open(COULOMB_EAGER);

    (void)state;
    feed_insert(&f, 0, 1, 10);
    feed_view(&f, 5, 5, NULL, 0);
    feed_send(&f);
    assert_int_equal(coulomb_size(w->coll), 0);
    feed_up_to_date(&f, 1);
    feed_send(&f);
    assert_int_equal(coulomb_size(w->coll), 1);
    electric_close(w);
}

static void t15_up_to_date_without_data_emits_nothing(void **state)
{
    struct world *w = electric_open(COULOMB_EAGER);
    uint64_t revision;

    (void)state;
    feed_insert(&f, 0, 1, 10);
    feed_up_to_date(&f, 1);
    feed_send(&f);
    watch(w, COULOMB_INITIAL_ROWS);
    revision = coulomb_revision(w->coll);
    for (uint64_t i = 2; i < 5; i++) {
        feed_up_to_date(&f, i);
        assert_int_equal(feed_send_as(&f, fake, i == 2 ? "6_0" : "7_0", false),
                         COULOMB_OK);
        poll_all(w);
    }
    assert_int_equal(w->heard.batches, 0);
    assert_int_equal(coulomb_revision(w->coll), revision);
    electric_close(w);
}

/* --- Refetches (T3, T11) ---------------------------------------------------------------------------- */

static void load_three(void)
{
    for (int64_t i = 1; i <= 3; i++)
        feed_insert(&f, 0, i, i * 10);
    feed_view(&f, 5, 5, NULL, 0);
    feed_up_to_date(&f, 100);
    feed_send(&f);
}

static void t3_a_refetch_shows_no_empty_collection(void **state)
{
    struct world *w = electric_open(COULOMB_EAGER);

    (void)state;
    load_three();
    watch(w, COULOMB_INITIAL_ROWS);
    feed_refetch(&f);
    feed_send(&f);
    poll_all(w);
    assert_int_equal(coulomb_size(w->coll), 3);
    feed_insert(&f, 0, 2, 21);
    feed_insert(&f, 0, 4, 40);
    feed_view(&f, 9, 9, NULL, 0);
    feed_send_part(&f);
    poll_all(w);
    assert_int_equal(coulomb_size(w->coll), 3);
    assert_int_equal(w->heard.batches, 0);
    feed_up_to_date(&f, 200);
    feed_send(&f);
    assert_int_equal(coulomb_size(w->coll), 2);
    poll_all(w);
    assert_int_equal(w->heard.batches, 1);
    assert_int_equal(qty(w, 2), 21);
    assert_int_equal(qty(w, 4), 40);
    electric_close(w);
}

static void t3_refetches_in_a_row(void **state)
{
    struct world *w = electric_open(COULOMB_EAGER);

    (void)state;
    load_three();
    watch(w, COULOMB_INITIAL_ROWS);
    feed_refetch(&f);
    feed_insert(&f, 0, 1, 1);
    feed_refetch(&f);
    feed_send(&f);
    feed_refetch(&f);
    feed_insert(&f, 0, 7, 70);
    feed_up_to_date(&f, 300);
    feed_send(&f);
    poll_all(w);
    assert_int_equal(coulomb_size(w->coll), 1);
    assert_int_equal(qty(w, 7), 70);
    assert_int_equal(w->heard.batches, 1);
    /* What was seen before a refetch may come again as an insert. */
    feed_insert(&f, 12, 1, 5);
    feed_up_to_date(&f, 1200);
    feed_send(&f);
    assert_int_equal(qty(w, 1), 5);
    electric_close(w);
}

static void t3_optimism_outlasts_a_refetch(void **state)
{
    struct world *w = electric_open(COULOMB_EAGER);

    (void)state;
    load_three();
    watch(w, COULOMB_INITIAL_ROWS);
    OK(insert(w, 9, 90, NULL, NULL));
    poll_all(w);
    feed_refetch(&f);
    feed_send(&f);
    answer(w, 0, COULOMB_OK); /* completes between */
    poll_all(w);
    assert_int_equal(qty(w, 9), 90);
    feed_insert(&f, 0, 1, 10);
    feed_up_to_date(&f, 200);
    feed_send(&f);
    poll_all(w);
    assert_int_equal(coulomb_size(w->coll), 2);
    assert_int_equal(qty(w, 9), 90);
    electric_close(w);
}

static void t3_a_refetch_before_the_first_rows(void **state)
{
    struct world *w = electric_open(COULOMB_EAGER);

    (void)state;
    feed_insert(&f, 0, 1, 10);
    feed_send_part(&f);
    feed_refetch(&f);
    feed_insert(&f, 0, 2, 20);
    feed_up_to_date(&f, 1);
    feed_send(&f);
    assert_int_equal(coulomb_size(w->coll), 1);
    assert_int_equal(qty(w, 2), 20);
    electric_close(w);
}

/* --- Clean-up (T14) ---------------------------------------------------------------------------------- */

static void t14_cleanup_stops_and_a_restart_syncs_again(void **state)
{
    struct world *w = electric_open(COULOMB_EAGER);
    size_t made = fakes_made;

    (void)state;
    load_three();
    feed_insert(&f, 7, 5, 50); /* not committed */
    feed_send_part(&f);
    OK(coulomb_collection_cleanup(w->coll));
    assert_int_equal(fakes_live, 0);
    OK(coulomb_collection_cleanup(w->coll));
    assert_int_equal(coulomb_size(w->coll), 0);
    OK(coulomb_collection_start(w->coll));
    poll_all(w);
    assert_int_equal(fakes_made, made + 1);
    assert_string_equal(fake->given_offset, "-1"); /* its rows are gone */
    load_three();
    assert_int_equal(coulomb_size(w->coll), 3);
    assert_int_equal(coulomb_collection_status(w->coll), COULOMB_READY);
    electric_close(w);
}

static void t14_gc_stops_the_stream(void **state)
{
    struct world *w = electric_open(COULOMB_EAGER);

    (void)state;
    load_three();
    watch(w, COULOMB_INITIAL_ROWS);
    coulomb_unsubscribe(w->sub);
    w->sub = NULL;
    w->now_ms += 300001;
    poll_all(w);
    assert_int_equal(fakes_live, 0);
    assert_int_equal(coulomb_collection_status(w->coll), COULOMB_CLEANED_UP);
    watch(w, COULOMB_INITIAL_ROWS);
    assert_int_equal(fakes_live, 1);
    load_three();
    assert_int_equal(coulomb_size(w->coll), 3);
    electric_close(w);
}

/* --- Resuming (T12, T13) ------------------------------------------------------------------------------ */

/* Metadata as a store would put it back before the rows are asked for: in an adapter's place. */
static void keep_meta(struct world *w, const char *json)
{
    OK(coulomb_collection_import_meta(w->coll, json, strlen(json)));
}

static struct world *idle_world(struct world *w, coulomb_electric_options *o)
{
    *o = electric_options(w, COULOMB_EAGER);
    o->collection.start_sync = 0;
    return w;
}

#define SHAPE_KEY "http://127.0.0.1:3000/v1/shape?table=items&where="

static void t12_an_imported_position_is_used(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    coulomb_electric_options o;

    (void)state;
    idle_world(w, &o);
    electric_open_with(w, &o);
    keep_meta(w, "{\"version\":1,\"resume\":{\"kind\":\"resume\",\"offset\":\"9_2\","
                 "\"handle\":\"h7\",\"cursor\":\"c\",\"shapeId\":\"" SHAPE_KEY
                 "\",\"updatedAt\":5},\"seenTxids\":[3,1]}");
    OK(coulomb_collection_start(w->coll));
    poll_all(w);
    assert_string_equal(fake->given_offset, "9_2");
    assert_string_equal(fake->handle, "h7");
    assert_string_equal(fake->cursor, "c");
    feed_update(&f, 30, 1, 5); /* of a row that was kept elsewhere */
    feed_up_to_date(&f, 3000);
    feed_send(&f);
    assert_int_equal(coulomb_collection_status(w->coll), COULOMB_READY);
    electric_close(w);
}

static void t12_an_explicit_position_wins(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    coulomb_electric_options o;

    (void)state;
    idle_world(w, &o);
    o.offset = "4_0";
    o.handle = "mine";
    electric_open_with(w, &o);
    keep_meta(w, "{\"version\":1,\"resume\":{\"kind\":\"resume\",\"offset\":\"9_2\","
                 "\"handle\":\"h7\",\"cursor\":\"\",\"shapeId\":\"" SHAPE_KEY
                 "\",\"updatedAt\":5}}");
    OK(coulomb_collection_start(w->coll));
    poll_all(w);
    assert_string_equal(fake->given_offset, "4_0");
    assert_string_equal(fake->handle, "mine");
    electric_close(w);
}

static void t12_a_reset_another_shape_and_nonsense_begin_anew(void **state)
{
    static const char reset[] =
        "{\"version\":1,\"resume\":{\"kind\":\"reset\",\"updatedAt\":5}}";
    static const char another[] =
        "{\"version\":1,\"resume\":{\"kind\":\"resume\",\"offset\":\"9_2\",\"handle\":"
        "\"h7\","
        "\"cursor\":\"\",\"shapeId\":\"another\",\"updatedAt\":5}}";
    static const char *const metas[] = {reset, another};
    static const char *const nonsense[] = {
        "",
        "nonsense",
        "[]",
        "{\"version\":2}",
        "{\"version\":1,\"resume\":{\"kind\":\"resume\",\"offset\":\"9_2\"}}",
        "{\"version\":1,\"resume\":{\"offset\":\"-1\",\"handle\":\"h\"}}",
        "{\"version\":1,\"seenTxids\":[1,null]}",
        "{\"version\":1,\"seenTxids\":[1,-5]}",
        "{\"version\":1,\"seenTxids\":[1,1e999]}",
        "{\"version\":1,\"seenTxids\":[1,2}",
        "{\"version\":1} more"};
    static const char before[] = "{\"version\":1,\"resume\":{\"kind\":\"resume\","
                                 "\"offset\":\"-1\",\"handle\":\"h\"}}";
    static const char no_offset[] = "{\"version\":1,\"resume\":{\"kind\":\"resume\","
                                    "\"offset\":\"x\",\"handle\":\"h\"}}";

    (void)state;
    for (size_t i = 0; i < sizeof(metas) / sizeof(metas[0]); i++) {
        struct world *w = calloc(1, sizeof(*w));
        coulomb_electric_options o;

        idle_world(w, &o);
        electric_open_with(w, &o);
        keep_meta(w, metas[i]);
        OK(coulomb_collection_start(w->coll));
        poll_all(w);
        assert_string_equal(fake->given_offset, "-1");
        electric_close(w);
    }
    for (size_t i = 0; i < sizeof(nonsense) / sizeof(nonsense[0]); i++) {
        struct world *w = calloc(1, sizeof(*w));
        coulomb_electric_options o;
        const void *meta;
        size_t len;

        idle_world(w, &o);
        electric_open_with(w, &o);
        assert_int_equal(
            coulomb_collection_import_meta(w->coll, nonsense[i], strlen(nonsense[i])),
            COULOMB_E_ARGUMENT);
        assert_int_equal(coulomb_collection_import_meta(w->coll, before, strlen(before)),
                         COULOMB_E_ARGUMENT);
        assert_int_equal(
            coulomb_collection_import_meta(w->coll, no_offset, strlen(no_offset)),
            COULOMB_E_ARGUMENT);
        OK(coulomb_collection_export_meta(w->coll, &meta, &len));
        assert_null(meta);
        electric_close(w);
    }
}

static char exported[4096];

static void take_export(struct world *w)
{
    const void *meta;
    size_t len;

    OK(coulomb_collection_export_meta(w->coll, &meta, &len));
    assert_non_null(meta);
    assert_true(len < sizeof(exported));
    memcpy(exported, meta, len);
    exported[len] = '\0';
}

static void t12_the_position_moves_with_commits_only(void **state)
{
    struct world *w = electric_open(COULOMB_EAGER);

    (void)state;
    feed_insert(&f, 0, 1, 10);
    feed_up_to_date(&f, 1);
    assert_int_equal(feed_send_as(&f, fake, "5_0", false), COULOMB_OK);
    take_export(w);
    assert_non_null(strstr(exported, "\"offset\":\"5_0\""));
    assert_non_null(strstr(exported, "\"handle\":\"h1\""));
    /* An answer that ends without an up-to-date moves the stream, not the collection. */
    feed_insert(&f, 7, 2, 20);
    assert_int_equal(feed_send_as(&f, fake, "7_0", false), COULOMB_OK);
    take_export(w);
    assert_non_null(strstr(exported, "\"offset\":\"5_0\""));
    feed_up_to_date(&f, 700);
    assert_int_equal(feed_send_as(&f, fake, "8_0", false), COULOMB_OK);
    take_export(w);
    assert_non_null(strstr(exported, "\"offset\":\"8_0\""));
    /* A refetch is recorded at once, before anything of it is seen. */
    feed_refetch(&f);
    feed_send(&f);
    take_export(w);
    assert_null(strstr(exported, "offset"));
    assert_non_null(strstr(exported, "\"kind\":\"reset\""));
    assert_int_equal(coulomb_size(w->coll), 2);
    electric_close(w);
}

static void t12_the_record_is_metadata_of_the_collection(void **state)
{
    struct world *w = electric_open(COULOMB_EAGER);
    const void *value;
    size_t len;
    coulomb_sync *sync;

    (void)state;
    load_three();
    sync = coulomb_sync_retain(w->coll->session);
    OK(coulomb_sync_meta_get(sync, "electric:resume", &value, &len));
    assert_non_null(value);
    assert_non_null(strstr(value, "\"kind\":\"resume\""));
    coulomb_sync_release(sync);
    electric_close(w);
}

static void t13_export_import_merge(void **state)
{
    struct world *w = electric_open(COULOMB_EAGER);
    struct world *v = calloc(1, sizeof(*v));
    coulomb_electric_options o;

    (void)state;
    load_three();
    feed_insert(&f, 30, 8, 1);
    feed_insert(&f, 20, 9, 1);
    feed_insert(&f, 20, 10, 1);
    feed_up_to_date(&f, 3000);
    feed_send(&f);
    take_export(w);
    assert_non_null(strstr(exported, "{\"version\":1,\"resume\":{\"kind\":\"resume\","));
    assert_non_null(strstr(exported, "\"seenTxids\":[20,30]}"));
    electric_close(w);

    idle_world(v, &o);
    electric_open_with(v, &o);
    keep_meta(v, "{\"version\":1,\"resume\":{\"kind\":\"resume\",\"offset\":\"1_1\","
                 "\"handle\":\"old\",\"cursor\":\"\",\"shapeId\":\"" SHAPE_KEY
                 "\",\"updatedAt\":5},\"seenTxids\":[7]}");
    keep_meta(v, exported);
    /* The newer position, and all transactions. */
    OK(coulomb_collection_start(v->coll));
    poll_all(v);
    assert_string_equal(fake->given_offset, "5_0");
    assert_string_equal(fake->handle, "h1");
    take_export(v);
    assert_non_null(strstr(exported, "\"seenTxids\":[7,20,30]}"));
    electric_close(v);
}

/* --- Keys and rows --------------------------------------------------------------------------------------- */

static void an_update_may_change_the_key(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    coulomb_electric_options o = electric_options(w, COULOMB_EAGER);

    (void)state;
    o.replica_full = 1;
    electric_open_with(w, &o);
    load_three();
    watch(w, COULOMB_INITIAL_ROWS);
    feed_change(&f, STREAM_UPDATE, 7, coulomb_int(8), "x", coulomb_int(10));
    f.old[0][0] = coulomb_int(1);
    f.old[0][1] = coulomb_absent();
    f.old[0][2] = coulomb_absent();
    f.m[0].old_values = f.old[0];
    feed_up_to_date(&f, 700);
    feed_send(&f);
    poll_all(w);
    assert_int_equal(qty(w, 1), -2);
    assert_int_equal(qty(w, 8), 10);
    assert_int_equal(w->heard.batches, 1);
    assert_int_equal(w->heard.count, 2);
    electric_close(w);
}

static void a_primary_key_that_changes_is_a_delete_and_an_insert(void **state)
{
    struct world *w = electric_open(COULOMB_EAGER);

    (void)state;
    load_three();
    watch(w, COULOMB_INITIAL_ROWS);
    feed_delete(&f, 7, 1);
    feed_insert(&f, 7, 11, 10);
    feed_up_to_date(&f, 700);
    feed_send(&f);
    poll_all(w);
    assert_int_equal(qty(w, 1), -2);
    assert_int_equal(qty(w, 11), 10);
    assert_int_equal(w->heard.batches, 1);
    electric_close(w);
}

static void keys_of_several_columns(void **state)
{
    static const char *const keys[] = {"id", "name"};
    struct world *w = calloc(1, sizeof(*w));
    coulomb_electric_options o = electric_options(w, COULOMB_EAGER);
    coulomb_value values[2] = {coulomb_int(1), coulomb_text("a/b")};
    char text[64];
    size_t len;

    (void)state;
    o.collection.key_column = NULL;
    o.key_columns = keys;
    o.key_column_count = 2;
    electric_open_with(w, &o);
    OK(coulomb_electric_key(values, 2, text, sizeof(text), &len));
    assert_string_equal(text, "\"1\"/\"a//b\"");
    assert_int_equal(len, 10);
    OK(coulomb_electric_key(values, 2, text, 5, &len));
    assert_string_equal(text, "\"1\"/");
    assert_int_equal(len, 10);
    feed_change(&f, STREAM_INSERT, 0, coulomb_int(1), "a/b", coulomb_int(5));
    feed_change(&f, STREAM_INSERT, 0, coulomb_int(1), "a", coulomb_int(6));
    feed_up_to_date(&f, 1);
    feed_send(&f);
    assert_int_equal(coulomb_size(w->coll), 2);
    assert_non_null(coulomb_get(w->coll, coulomb_key_text("\"1\"/\"a//b\"")));
    feed_change(&f, STREAM_DELETE, 7, coulomb_int(1), "a/b", coulomb_absent());
    feed_up_to_date(&f, 700);
    feed_send(&f);
    assert_int_equal(coulomb_size(w->coll), 1);
    /* One that is too long is refused, not cut. */
    static char longest[5000];

    memset(longest, 'a', sizeof(longest) - 1);
    feed_change(&f, STREAM_INSERT, 8, coulomb_int(1), longest, coulomb_int(6));
    assert_int_equal(feed_send_as(&f, fake, NULL, false), COULOMB_E_INVALID_KEY);
    electric_close(w);
}

static void a_message_without_the_key_says_what_would_be_right(void **state)
{
    struct world *w = electric_open(COULOMB_EAGER);
    coulomb_electric_state st = {.size = sizeof(st)};

    (void)state;
    load_three();
    feed_change(&f, STREAM_UPDATE, 7, coulomb_absent(), "x", coulomb_int(1));
    assert_int_equal(feed_send_as(&f, fake, NULL, false), COULOMB_E_UNDEFINED_KEY);
    OK(coulomb_electric_state_get(w->coll, &st));
    assert_non_null(strstr(st.error->message, "replica_full"));
    assert_int_equal(qty(w, 1), 10);
    electric_close(w);
}

static void a_key_outside_the_primary_key_needs_whole_rows(void **state)
{
    static struct stream_column columns[3] = {
        {.name = "id", .pk_index = -1, .type = COULOMB_INT64},
        {.name = "name", .pk_index = 0, .type = COULOMB_TEXT},
        {.name = "qty", .pk_index = -1, .type = COULOMB_INT64}};
    struct world *w = electric_open(COULOMB_EAGER);

    (void)state;
    fake->columns = columns;
    fake->column_count = 3;
    feed_insert(&f, 0, 1, 10);
    assert_int_equal(feed_send_as(&f, fake, NULL, false), COULOMB_E_COLLECTION_CONFIG);
    assert_int_equal(coulomb_collection_status(w->coll), COULOMB_ERROR);
    assert_non_null(strstr(coulomb_collection_error(w->coll)->message, "replica_full"));
    electric_close(w);
}

static void options_that_make_no_sense(void **state)
{
    struct world *w = electric_open(COULOMB_EAGER);
    coulomb_electric_options o = electric_options(w, COULOMB_EAGER);
    coulomb_pair reserved = {"offset", "3"};
    static const char *const unknown[] = {"nope"};
    coulomb_collection *coll;

    (void)state;
    o.url = NULL;
    assert_int_equal(coulomb_electric_collection_open(w->c, &o, &coll),
                     COULOMB_E_MISSING_URL);
    o = electric_options(w, COULOMB_EAGER);
    o.offset = "5_0";
    assert_int_equal(coulomb_electric_collection_open(w->c, &o, &coll),
                     COULOMB_E_MISSING_HANDLE);
    o = electric_options(w, COULOMB_EAGER);
    o.collection.key_column = NULL;
    assert_int_equal(coulomb_electric_collection_open(w->c, &o, &coll),
                     COULOMB_E_GET_KEY_REQUIRED);
    o.key_columns = unknown;
    o.key_column_count = 1;
    assert_int_equal(coulomb_electric_collection_open(w->c, &o, &coll), COULOMB_E_COLUMN);
    o.collection.key_column = "id";
    assert_int_equal(coulomb_electric_collection_open(w->c, &o, &coll),
                     COULOMB_E_COLLECTION_CONFIG);
    /* What only the stream knows is the collection's error. */
    o = electric_options(w, COULOMB_EAGER);
    o.extra = &reserved;
    o.extra_count = 1;
    OK(coulomb_electric_collection_open(w->c, &o, &coll));
    poll_all(w);
    assert_int_equal(coulomb_collection_status(coll), COULOMB_ERROR);
    assert_int_equal(coulomb_collection_error(coll)->code, COULOMB_E_RESERVED_PARAM);
    coulomb_collection_release(coll);
    electric_close(w);
}

static int local_persist(coulomb_tx *tx, coulomb_collection *coll,
                         coulomb_completion *done, void *arg)
{
    coulomb_mutation m;
    char *out = arg;

    (void)coll;
    (void)done;
    OK(coulomb_tx_mutation(tx, 0, &m));
    snprintf(out, 256, "%.*s", (int)m.sync_metadata_len, (const char *)m.sync_metadata);
    return 0;
}

static void mutations_know_their_relation(void **state)
{
    static char got[256];
    struct world *w = calloc(1, sizeof(*w));
    coulomb_electric_options o = electric_options(w, COULOMB_EAGER);

    (void)state;
    o.collection.on_insert = o.collection.on_update = local_persist;
    o.collection.handler_arg = got;
    o.row_headers = 1;
    electric_open_with(w, &o);
    feed_insert(&f, 7, 1, 10);
    feed_up_to_date(&f, 700);
    feed_send(&f);
    OK(insert(w, 2, 1, NULL, NULL));
    poll_all(w);
    assert_string_equal(got, "{\"relation\":[\"public\",\"items\"]}");
    OK(set_qty(w, 1, 11, NULL, NULL));
    poll_all(w);
    assert_string_equal(got,
                        "{\"operation\":\"insert\",\"relation\":[\"public\",\"items\"],"
                        "\"txids\":[7],\"lsn\":\"700\"}");
    electric_close(w);
}

static void pauses_reach_the_stream(void **state)
{
    struct world *w = electric_open(COULOMB_EAGER);
    coulomb_electric_state st = {.size = sizeof(st)};

    (void)state;
    OK(coulomb_electric_pause(w->coll));
    OK(coulomb_electric_state_get(w->coll, &st));
    assert_int_equal(st.paused, 1);
    OK(coulomb_electric_resume(w->coll));
    OK(coulomb_electric_state_get(w->coll, &st));
    assert_int_equal(st.paused, 0);
    feed_insert(&f, 7, 1, 10);
    feed_up_to_date(&f, 700);
    feed_send(&f);
    OK(coulomb_electric_state_get(w->coll, &st));
    assert_int_equal(st.started, 1);
    assert_int_equal(st.has_lsn, 1);
    assert_int_equal(st.lsn, 700);
    assert_memory_equal(st.table.ptr, "items", 5);
    assert_memory_equal(st.offset.ptr, "5_0", 3);
    electric_close(w);
}

static void other_collections_are_refused(void **state)
{
    struct world *w = world_open();
    coulomb_electric_state st = {.size = sizeof(st)};

    (void)state;
    assert_int_equal(coulomb_electric_state_get(w->coll, &st),
                     COULOMB_E_COLLECTION_OPERATION);
    assert_int_equal(coulomb_electric_pause(w->coll), COULOMB_E_COLLECTION_OPERATION);
    world_close(w);
}

static int give(struct feed *feed)
{
    struct stream_batch b = {.messages = feed->m, .count = feed->count};

    return fake->callbacks.messages(fake, &b, fake->arg);
}

static void a_full_queue_is_waited_for(void **state)
{
    struct world *w;

    (void)state;
    fake_queue_max = 4;
    w = electric_open(COULOMB_EAGER);
    fake_queue_max = 0;
    watch(w, COULOMB_INITIAL_UNFILTERED);
    load_three();
    feed_update(&f, 7, 1, 11);
    feed_update(&f, 7, 2, 21);
    feed_up_to_date(&f, 700);
    assert_int_equal(give(&f), COULOMB_E_MEMORY); /* later */
    assert_int_equal(qty(w, 1), 10);
    poll_all(w);
    OK(give(&f));
    assert_int_equal(qty(w, 1), 11);
    poll_all(w);
    assert_int_equal(w->heard.count, 5);
    memset(&f, 0, sizeof(f));
    /* One that would never fit is an error. */
    for (int64_t i = 10; i < 15; i++)
        feed_insert(&f, 8, i, i);
    feed_up_to_date(&f, 800);
    assert_int_equal(give(&f), COULOMB_E_LIMIT);
    memset(&f, 0, sizeof(f));
    electric_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(t1_nothing_is_seen_before_up_to_date),
        cmocka_unit_test(t1_several_messages_are_one_batch),
        cmocka_unit_test(t2_a_first_error_is_the_collections),
        cmocka_unit_test(t2_a_later_error_keeps_the_rows),
        cmocka_unit_test(t2_the_app_may_have_it_tried_again),
        cmocka_unit_test(t9_snapshot_end_commits_nothing),
        cmocka_unit_test(t15_up_to_date_without_data_emits_nothing),
        cmocka_unit_test(t3_a_refetch_shows_no_empty_collection),
        cmocka_unit_test(t3_refetches_in_a_row),
        cmocka_unit_test(t3_optimism_outlasts_a_refetch),
        cmocka_unit_test(t3_a_refetch_before_the_first_rows),
        cmocka_unit_test(t14_cleanup_stops_and_a_restart_syncs_again),
        cmocka_unit_test(t14_gc_stops_the_stream),
        cmocka_unit_test(t12_an_imported_position_is_used),
        cmocka_unit_test(t12_an_explicit_position_wins),
        cmocka_unit_test(t12_a_reset_another_shape_and_nonsense_begin_anew),
        cmocka_unit_test(t12_the_position_moves_with_commits_only),
        cmocka_unit_test(t12_the_record_is_metadata_of_the_collection),
        cmocka_unit_test(t13_export_import_merge),
        cmocka_unit_test(an_update_may_change_the_key),
        cmocka_unit_test(a_primary_key_that_changes_is_a_delete_and_an_insert),
        cmocka_unit_test(keys_of_several_columns),
        cmocka_unit_test(a_message_without_the_key_says_what_would_be_right),
        cmocka_unit_test(a_key_outside_the_primary_key_needs_whole_rows),
        cmocka_unit_test(options_that_make_no_sense),
        cmocka_unit_test(mutations_know_their_relation),
        cmocka_unit_test(pauses_reach_the_stream),
        cmocka_unit_test(other_collections_are_refused),
        cmocka_unit_test(a_full_queue_is_waited_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
