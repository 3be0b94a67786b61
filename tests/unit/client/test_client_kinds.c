/* Behaviours W (local and polled collections) and E11 of tests/CLIENT.md. */
#include <sys/stat.h>
#include <unistd.h>

#include "support/client.h"

struct place {
    char dir[64];
    char path[96];
};

static struct place temp_place(void)
{
    struct place p;
    const char *tmp = getenv("TMPDIR");

    snprintf(p.dir, sizeof(p.dir), "%.40s/coulomb-XXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(p.dir));
    snprintf(p.path, sizeof(p.path), "%s/rows.json", p.dir);
    return p;
}

static void remove_place(const struct place *p)
{
    unlink(p->path);
    assert_int_equal(rmdir(p->dir), 0);
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    assert_int_equal(fclose(f), 0);
}

static coulomb_collection_options local_options(struct world *w)
{
    coulomb_collection_options co = world_options(w);

    co.id = NULL;
    co.on_insert = co.on_update = co.on_delete = NULL;
    return co;
}

/* A file collection takes the place of the world's; the world's own is released. */
static void use_file(struct world *w, const char *path)
{
    coulomb_collection_options co = local_options(w);
    coulomb_collection *coll;

    OK(coulomb_local_file_new(w->c, &co, path, &coll));
    coulomb_collection_release(w->coll);
    w->coll = coll;
}

static void e11_local_rows_are_synced_and_local(void **state)
{
    struct world *w = world_open();
    coulomb_collection_options co = local_options(w);
    coulomb_field first[2] = {{"id", coulomb_int(1)}, {"qty", coulomb_int(1)}};
    coulomb_item item = {first, 2};
    coulomb_collection *coll;
    coulomb_meta meta;
    coulomb_tx *tx;

    (void)state;
    OK(coulomb_local_new(w->c, &co, &item, 1, &coll));
    coulomb_collection_release(w->coll);
    w->coll = coll;
    assert_int_equal(coulomb_collection_status(coll), COULOMB_READY);
    watch(w, COULOMB_INITIAL_ROWS);
    OK(insert(w, 2, 2, NULL, &tx));
    OK(set_qty(w, 1, 9, NULL, NULL));
    for (int64_t id = 1; id <= 2; id++) {
        assert_true(coulomb_row_meta(coll, coulomb_key_int(id), &meta));
        assert_true(meta.synced && meta.local);
    }
    poll_all(w);
    assert_int_equal(coulomb_tx_status(tx), COULOMB_TX_COMPLETED);
    assert_int_equal(qty(w, 1), 9);
    assert_int_equal(w->heard.count, 2); /* once each: confirming changes nothing */
    coulomb_tx_release(tx);
    world_close(w);
}

static void w1_kept_and_read_again(void **state)
{
    struct place p = temp_place();
    size_t bytes;

    (void)state;
    for (int round = 0; round < 3; round++) {
        struct world *w = world_open();

        use_file(w, p.path);
        if (round == 0) {
            assert_int_equal(coulomb_size(w->coll), 0);
            for (int64_t i = 0; i < 5; i++)
                OK(insert(w, i, i * 10, NULL, NULL));
            poll_all(w);
            OK(erase(w, 4, NULL, NULL));
            OK(set_qty(w, 1, 11, NULL, NULL));
            poll_all(w);
            OK(coulomb_local_file_size(w->coll, &bytes));
            assert_true(bytes > 100);
        } else if (round == 1) {
            assert_int_equal(coulomb_size(w->coll), 4);
            assert_int_equal(qty(w, 1), 11);
            assert_int_equal(qty(w, 3), 30);
            OK(coulomb_local_file_clear(w->coll));
            assert_int_equal(coulomb_size(w->coll), 4);
        } else {
            assert_int_equal(coulomb_size(w->coll), 0);
        }
        world_close(w);
    }
    remove_place(&p);
}

static void w1_a_corrupt_file_is_empty(void **state)
{
    static const char *const texts[] = {"",
                                        "{",
                                        "[]",
                                        "{\"n:1\":5}",
                                        "{\"n:1\":{\"data\":{\"id\":\"x\"}}}",
                                        "{\"n:1\":{\"versionKey\":\"a\",\"data\":{}}}",
                                        "{} {}",
                                        "\377"};
    struct place p = temp_place();

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct world *w = world_open();

        write_file(p.path, texts[i]);
        use_file(w, p.path);
        assert_int_equal(coulomb_size(w->coll), 0);
        OK(insert(w, 1, 1, NULL, NULL));
        poll_all(w);
        assert_int_equal(qty(w, 1), 1);
        world_close(w);
    }
    remove_place(&p);
}

static void w1_another_process_changes_the_file(void **state)
{
    struct place p = temp_place();
    struct world *w = world_open();
    struct world *v = world_open();

    (void)state;
    use_file(w, p.path);
    OK(insert(w, 1, 1, NULL, NULL));
    OK(insert(w, 2, 2, NULL, NULL));
    poll_all(w);
    use_file(v, p.path);
    watch(w, COULOMB_INITIAL_ROWS);
    OK(erase(v, 1, NULL, NULL));
    OK(insert(v, 3, 3, NULL, NULL));
    poll_all(v);
    OK(coulomb_local_file_reload(w->coll));
    poll_all(w);
    assert_int_equal(w->heard.count, 2);
    assert_int_equal(qty(w, 1), -2);
    assert_int_equal(qty(w, 3), 3);
    write_file(p.path, "{");
    assert_int_equal(coulomb_local_file_reload(w->coll), COULOMB_E_INVALID_TEXT);
    assert_int_equal(qty(w, 3), 3);
    world_close(w);
    world_close(v);
    remove_place(&p);
}

static void w2_rapid_mutations_and_keys_of_two_types(void **state)
{
    struct place p = temp_place();
    struct world *w = world_open();
    coulomb_collection_options co = local_options(w);
    coulomb_field a[2] = {{"id", coulomb_int(1)}, {"name", coulomb_text("1")}};
    coulomb_collection *coll;

    (void)state;
    use_file(w, p.path);
    for (int64_t i = 0; i < 100; i++)
        OK(insert(w, i, i, NULL, NULL));
    for (int64_t i = 0; i < 100; i += 2)
        OK(set_qty(w, i, 1000 + i, NULL, NULL));
    poll_all(w);
    OK(coulomb_local_file_reload(w->coll));
    assert_int_equal(coulomb_size(w->coll), 100);
    assert_int_equal(qty(w, 98), 1098);
    OK(coulomb_local_file_clear(w->coll));
    co.key_column = "name";
    OK(coulomb_local_file_new(w->c, &co, p.path, &coll));
    OK(coulomb_insert(coll, a, 2, NULL, NULL));
    poll_all(w);
    OK(coulomb_local_file_reload(coll));
    assert_true(coulomb_has(coll, coulomb_key_text("1")));
    assert_false(coulomb_has(coll, coulomb_key_int(1)));
    coulomb_collection_release(coll);
    world_close(w);
    remove_place(&p);
}

static void w2_a_write_that_fails_fails_the_transaction(void **state)
{
    struct place p = temp_place();
    struct world *w = world_open();
    coulomb_tx *tx;

    (void)state;
    use_file(w, p.path);
    assert_int_equal(rmdir(p.dir), 0);
    OK(insert(w, 1, 1, NULL, &tx));
    poll_all(w);
    assert_int_equal(coulomb_tx_status(tx), COULOMB_TX_FAILED);
    assert_int_equal(coulomb_tx_error(tx)->code, COULOMB_E_IO);
    assert_int_equal(qty(w, 1), -2);
    coulomb_tx_release(tx);
    world_close(w);
}

/* The file can't be replaced: nothing is left beside it. */
static void w2_a_write_that_fails_leaves_nothing_behind(void **state)
{
    struct place p = temp_place();
    struct world *w = world_open();
    char beside[112];
    coulomb_tx *tx;

    (void)state;
    use_file(w, p.path);
    assert_int_equal(mkdir(p.path, 0700), 0);
    OK(insert(w, 1, 1, NULL, &tx));
    poll_all(w);
    assert_int_equal(coulomb_tx_error(tx)->code, COULOMB_E_IO);
    assert_false(coulomb_has(w->coll, coulomb_key_int(1)));
    snprintf(beside, sizeof(beside), "%s.new", p.path);
    assert_int_equal(access(beside, F_OK), -1);
    assert_int_equal(rmdir(p.path), 0);
    OK(insert(w, 1, 1, NULL, NULL)); /* now it can */
    poll_all(w);
    assert_int_equal(access(p.path, F_OK), 0);
    coulomb_tx_release(tx);
    world_close(w);
    remove_place(&p);
}

static int accept(coulomb_tx *tx, coulomb_collection *coll, coulomb_completion *done,
                  void *arg)
{
    struct world *w = arg;

    (void)coll;
    (void)done;
    OK(coulomb_local_accept(w->coll, tx));
    return w->answer;
}

static void w3_an_explicit_transaction_is_accepted(void **state)
{
    (void)state;
    for (int fails = 0; fails < 2; fails++) {
        struct world *w = world_open();
        coulomb_collection_options co = local_options(w);
        coulomb_collection *other = w->coll;
        coulomb_tx_options o;
        coulomb_mutate_options m;
        coulomb_field fields[2] = {{"id", coulomb_int(5)}, {"qty", coulomb_int(5)}};
        coulomb_tx *tx;

        OK(coulomb_local_new(w->c, &co, NULL, 0, &w->coll));
        coulomb_options_init(&o, sizeof(o));
        o.persist = accept;
        o.persist_arg = w;
        w->answer = fails ? COULOMB_E_FAILED : COULOMB_OK;
        OK(coulomb_tx_new(w->c, &o, &tx));
        m = in_tx(tx);
        OK(insert(w, 1, 1, &m, NULL));
        OK(coulomb_insert(other, fields, 2, &m,
                          NULL)); /* not of this collection: left alone */
        OK(coulomb_tx_commit(tx));
        poll_all(w);
        assert_int_equal(qty(w, 1), 1);
        assert_false(coulomb_has(other, coulomb_key_int(5)));
        assert_int_equal(coulomb_tx_status(tx),
                         fails ? COULOMB_TX_FAILED : COULOMB_TX_COMPLETED);
        coulomb_tx_release(tx);
        coulomb_collection_release(other);
        world_close(w);
    }
}

/* --- W4: polled ---------------------------------------------------------------------------------- */

static struct {
    struct world *w;
    coulomb_fetch *open; /* not answered */
    size_t fetches;
    int64_t rows[8]; /* qty by id; -1: not there */
    int later;
    int fails;
    int bare; /* no names */
} server;

static void serve(coulomb_fetch *fetch)
{
    for (int64_t i = 0; i < 8 && !server.fails; i++) {
        coulomb_value values[3];

        if (server.rows[i] < 0)
            continue;
        row_values(values, i, server.bare ? NULL : "x", server.rows[i]);
        OK(coulomb_fetch_row(fetch, values));
    }
    coulomb_fetch_done(fetch, server.fails ? COULOMB_E_IO : COULOMB_OK,
                       server.fails ? "down" : NULL);
}

static void fetch_rows(coulomb_fetch *fetch, void *arg)
{
    (void)arg;
    server.fetches++;
    if (server.later)
        server.open = fetch;
    else
        serve(fetch);
}

static void use_polled(struct world *w, int64_t interval_ms, int retries, int no_refetch)
{
    coulomb_polled_options o;
    coulomb_collection *coll;

    memset(&server, 0, sizeof(server));
    server.w = w;
    for (int i = 0; i < 8; i++)
        server.rows[i] = -1;
    coulomb_options_init(&o, sizeof(o));
    o.collection = world_options(w);
    o.collection.start_sync = 0;
    o.fetch = fetch_rows;
    o.interval_ms = interval_ms;
    o.retries = retries;
    o.no_refetch = no_refetch;
    OK(coulomb_polled_new(w->c, &o, &coll));
    coulomb_collection_release(w->coll);
    w->coll = coll;
}

static void w4_what_differs_is_what_changes(void **state)
{
    struct world *w = world_open();

    (void)state;
    use_polled(w, 0, 0, 0);
    server.rows[1] = 10;
    server.rows[2] = 20;
    watch(w, COULOMB_INITIAL_ROWS);
    assert_int_equal(coulomb_collection_status(w->coll), COULOMB_READY);
    assert_int_equal(coulomb_size(w->coll), 2);
    server.rows[1] = 11;
    server.rows[2] = -1;
    server.rows[3] = 30;
    OK(coulomb_polled_refetch(w->coll));
    poll_all(w);
    assert_int_equal(w->heard.batches, 1);
    assert_int_equal(w->heard.count, 3);
    OK(coulomb_polled_refetch(w->coll));
    poll_all(w);
    assert_int_equal(w->heard.batches, 1); /* nothing differs */
    assert_int_equal(server.fetches, 3);
    world_close(w);
}

/* A column that the server has no value for any more goes. */
static void w4_rows_are_replaced_whole(void **state)
{
    struct world *w = world_open();

    (void)state;
    use_polled(w, 0, 0, 0);
    server.rows[1] = 10;
    watch(w, COULOMB_INITIAL_ROWS);
    server.bare = 1;
    OK(coulomb_polled_refetch(w->coll));
    poll_all(w);
    assert_int_equal(w->heard.count, 1);
    expect(w, 0, COULOMB_UPDATE, 1, 10);
    assert_int_equal(
        coulomb_row_get(coulomb_get(w->coll, coulomb_key_int(1)), "name").type,
        COULOMB_ABSENT);
    OK(coulomb_polled_refetch(w->coll));
    poll_all(w);
    assert_int_equal(w->heard.batches, 1);
    world_close(w);
}

static void w4_the_transaction_settles_with_the_fetch(void **state)
{
    struct world *w = world_open();
    coulomb_tx *tx;

    (void)state;
    use_polled(w, 0, 0, 0);
    watch(w, COULOMB_INITIAL_ROWS);
    server.later = 1;
    OK(insert(w, 1, 5, NULL, &tx));
    poll_all(w);
    server.rows[1] = 6; /* as the server made it */
    answer(w, 0, COULOMB_OK);
    poll_all(w);
    assert_int_equal(coulomb_tx_status(tx), COULOMB_TX_PERSISTING);
    serve(server.open);
    poll_all(w);
    assert_int_equal(coulomb_tx_status(tx), COULOMB_TX_COMPLETED);
    assert_int_equal(qty(w, 1), 6);
    assert_int_equal(w->heard.count, 2);
    expect(w, 1, COULOMB_UPDATE, 1, 6);
    coulomb_tx_release(tx);
    world_close(w);
}

/* Answers that wait behind a transaction are counted with: each is of all rows. */
static void w4_answers_that_wait_are_of_all_rows(void **state)
{
    struct world *w = world_open();

    (void)state;
    use_polled(w, 0, 0, 0);
    server.rows[1] = 10;
    server.rows[2] = 20;
    watch(w, COULOMB_INITIAL_ROWS);
    OK(insert(w, 7, 7, NULL, NULL));
    poll_all(w);
    server.rows[1] = 11;
    server.rows[3] = 30;
    OK(coulomb_polled_refetch(w->coll));
    poll_all(w);
    server.rows[4] = 40;
    OK(coulomb_polled_refetch(w->coll));
    poll_all(w);
    assert_int_equal(qty(w, 3), -2); /* held back */
    server.rows[2] = server.rows[3] = server.rows[4] = -1;
    OK(coulomb_polled_refetch(w->coll));
    poll_all(w);
    answer(w, 0, COULOMB_OK);
    poll_all(w);
    assert_int_equal(coulomb_size(w->coll), 1);
    assert_int_equal(qty(w, 1), 11);
    world_close(w);
}

static void w4_without_refetch(void **state)
{
    struct world *w = world_open();
    coulomb_tx *tx;

    (void)state;
    use_polled(w, 0, 0, 1);
    watch(w, COULOMB_INITIAL_ROWS);
    OK(insert(w, 1, 5, NULL, &tx));
    poll_all(w);
    answer(w, 0, COULOMB_OK);
    assert_int_equal(coulomb_tx_status(tx), COULOMB_TX_COMPLETED);
    poll_all(w);
    assert_int_equal(server.fetches, 1);
    coulomb_tx_release(tx);
    world_close(w);
}

static void w4_direct_writes(void **state)
{
    struct world *w = world_open();
    coulomb_value v[3];
    coulomb_write writes[2];

    (void)state;
    use_polled(w, 0, 0, 0);
    memset(writes, 0, sizeof(writes));
    row_values(v, 1, "x", 5);
    writes[0].type = writes[1].type = COULOMB_WRITE_INSERT;
    writes[0].values = writes[1].values = v;
    assert_int_equal(coulomb_polled_write(w->coll, writes, 1),
                     COULOMB_E_SYNC_NOT_INITIALIZED);
    watch(w, COULOMB_INITIAL_ROWS);
    assert_int_equal(coulomb_polled_write(w->coll, writes, 2),
                     COULOMB_E_DUPLICATE_KEY_IN_BATCH);
    assert_int_equal(coulomb_size(w->coll), 0);
    OK(coulomb_polled_write(w->coll, writes, 1));
    assert_int_equal(qty(w, 1), 5);
    assert_int_equal(coulomb_polled_write(w->coll, writes, 1), COULOMB_E_DUPLICATE_KEY);
    writes[0].type = COULOMB_WRITE_UPDATE;
    v[1] = coulomb_absent();
    v[2] = coulomb_int(6);
    OK(coulomb_polled_write(w->coll, writes, 1));
    assert_int_equal(qty(w, 1), 6);
    assert_int_equal(
        coulomb_row_text(coulomb_get(w->coll, coulomb_key_int(1)), "name").len, 1);
    v[0] = coulomb_int(9);
    assert_int_equal(coulomb_polled_write(w->coll, writes, 1),
                     COULOMB_E_UPDATE_ITEM_NOT_FOUND);
    writes[0].type = COULOMB_WRITE_UPSERT;
    OK(coulomb_polled_write(w->coll, writes, 1));
    writes[0].type = COULOMB_WRITE_DELETE;
    writes[0].key = coulomb_key_int(1);
    OK(coulomb_polled_write(w->coll, writes, 1));
    assert_int_equal(coulomb_polled_write(w->coll, writes, 1),
                     COULOMB_E_DELETE_ITEM_NOT_FOUND);
    world_close(w);
}

static void w4_errors_and_retries(void **state)
{
    struct world *w = world_open();
    const coulomb_error *last;

    (void)state;
    use_polled(w, 0, 2, 0);
    server.fails = 1;
    watch(w, COULOMB_INITIAL_ROWS);
    assert_int_equal(coulomb_polled_errors(w->coll, &last), 1);
    assert_string_equal(last->message, "down");
    pass(w, 999);
    assert_int_equal(server.fetches, 1);
    pass(w, 1);
    assert_int_equal(server.fetches, 2);
    pass(w, 2000);
    assert_int_equal(server.fetches, 3);
    assert_int_equal(coulomb_collection_status(w->coll), COULOMB_ERROR);
    server.fails = 0;
    server.rows[1] = 1;
    OK(coulomb_polled_refetch(w->coll));
    poll_all(w);
    assert_int_equal(coulomb_collection_status(w->coll), COULOMB_READY);
    assert_int_equal(coulomb_polled_errors(w->coll, &last), 0);
    assert_null(last);
    server.fails = 1;
    OK(coulomb_polled_refetch(w->coll));
    poll_all(w);
    assert_int_equal(coulomb_collection_status(w->coll),
                     COULOMB_READY); /* the rows stay */
    assert_int_equal(coulomb_size(w->coll), 1);
    world_close(w);
}

/* Each run of failures has its retries. */
static void w4_retries_begin_anew(void **state)
{
    struct world *w = world_open();

    (void)state;
    use_polled(w, 100000, 1, 0);
    watch(w, COULOMB_INITIAL_ROWS);
    for (size_t round = 0; round < 2; round++) {
        size_t before = server.fetches;

        server.fails = 1;
        pass(w, 100000);
        assert_int_equal(server.fetches, before + 1);
        pass(w, 1000);
        assert_int_equal(server.fetches, before + 2);
        server.fails = 0;
        pass(w, 100000);
        assert_int_equal(server.fetches, before + 3);
        assert_int_equal(coulomb_polled_errors(w->coll, NULL), 0);
    }
    world_close(w);
}

static void w4_intervals_deferring_and_clean_up(void **state)
{
    struct world *w = world_open();

    (void)state;
    use_polled(w, 100, 0, 0);
    watch(w, COULOMB_INITIAL_ROWS);
    pass(w, 99);
    assert_int_equal(server.fetches, 1);
    pass(w, 1);
    assert_int_equal(server.fetches, 2);
    OK(coulomb_polled_defer(w->coll, 1));
    server.rows[1] = 1;
    pass(w, 100);
    assert_int_equal(server.fetches, 3);
    assert_int_equal(coulomb_size(w->coll), 0); /* dropped */
    OK(coulomb_polled_defer(w->coll, 0));
    poll_all(w);
    assert_int_equal(server.fetches, 4);
    assert_int_equal(coulomb_size(w->coll), 1);
    server.later = 1;
    pass(w, 100);
    OK(coulomb_collection_cleanup(w->coll));
    serve(server.open); /* of a session that is over */
    assert_int_equal(coulomb_size(w->coll), 0);
    coulomb_unsubscribe(w->sub); /* nobody looks: nothing is asked */
    w->sub = NULL;
    pass(w, 1000);
    assert_int_equal(server.fetches, 5);
    world_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(e11_local_rows_are_synced_and_local),
        cmocka_unit_test(w1_kept_and_read_again),
        cmocka_unit_test(w1_a_corrupt_file_is_empty),
        cmocka_unit_test(w1_another_process_changes_the_file),
        cmocka_unit_test(w2_rapid_mutations_and_keys_of_two_types),
        cmocka_unit_test(w2_a_write_that_fails_fails_the_transaction),
        cmocka_unit_test(w2_a_write_that_fails_leaves_nothing_behind),
        cmocka_unit_test(w3_an_explicit_transaction_is_accepted),
        cmocka_unit_test(w4_what_differs_is_what_changes),
        cmocka_unit_test(w4_rows_are_replaced_whole),
        cmocka_unit_test(w4_the_transaction_settles_with_the_fetch),
        cmocka_unit_test(w4_answers_that_wait_are_of_all_rows),
        cmocka_unit_test(w4_without_refetch),
        cmocka_unit_test(w4_direct_writes),
        cmocka_unit_test(w4_errors_and_retries),
        cmocka_unit_test(w4_retries_begin_anew),
        cmocka_unit_test(w4_intervals_deferring_and_clean_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
