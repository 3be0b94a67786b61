/* Behaviours A (transactions and mutations) of tests/CLIENT.md. */
#include "support/client.h"

static void a1_a_transaction_needs_a_function(void **state)
{
    struct world *w = world_open();
    coulomb_tx_options o;
    coulomb_tx *tx;

    (void)state;
    coulomb_options_init(&o, sizeof(o));
    assert_int_equal(coulomb_tx_new(w->c, &o, &tx), COULOMB_E_MISSING_MUTATION_FUNCTION);
    assert_int_equal(coulomb_last_error(w->c)->code, COULOMB_E_MISSING_MUTATION_FUNCTION);
    world_close(w);
}

static void a2_an_empty_commit_calls_nothing(void **state)
{
    struct world *w = world_open();
    coulomb_tx *tx = explicit_tx(w);

    (void)state;
    OK(coulomb_tx_commit(tx));
    assert_int_equal(coulomb_tx_status(tx), COULOMB_TX_COMPLETED);
    poll_all(w);
    assert_int_equal(w->handled, 0);
    coulomb_tx_release(tx);
    world_close(w);
}

static int do_nothing(coulomb_tx *tx, void *arg)
{
    (void)tx;
    (void)arg;
    return 0;
}

static void a3_after_the_end_each_call_has_its_error(void **state)
{
    struct world *w = world_open();
    coulomb_tx *tx = explicit_tx(w);
    coulomb_tx *failed = explicit_tx(w);

    (void)state;
    OK(coulomb_tx_commit(tx));
    assert_int_equal(coulomb_tx_mutate(tx, do_nothing, NULL),
                     COULOMB_E_TX_NOT_PENDING_MUTATE);
    assert_int_equal(coulomb_tx_commit(tx), COULOMB_E_TX_NOT_PENDING_COMMIT);
    assert_int_equal(coulomb_tx_rollback(tx), COULOMB_E_TX_COMPLETED_ROLLBACK);
    OK(coulomb_tx_rollback(failed));
    assert_int_equal(coulomb_tx_commit(failed), COULOMB_E_TX_NOT_PENDING_COMMIT);
    assert_int_equal(coulomb_tx_mutate(failed, do_nothing, NULL),
                     COULOMB_E_TX_NOT_PENDING_MUTATE);
    OK(coulomb_tx_rollback(failed)); /* it is already */
    coulomb_tx_release(tx);
    coulomb_tx_release(failed);
    world_close(w);
}

struct insert_call {
    struct world *w;
    int64_t id;
    int code;
};

static int insert_in(coulomb_tx *tx, void *arg)
{
    struct insert_call *call = arg;

    (void)tx;
    OK(insert(call->w, call->id, 1, NULL, NULL));
    return call->code;
}

static void a4_without_autocommit_mutations_gather(void **state)
{
    struct world *w = world_open();
    coulomb_tx *tx = explicit_tx(w);
    struct insert_call one = {w, 1, 0};
    struct insert_call two = {w, 2, 0};

    (void)state;
    OK(coulomb_tx_mutate(tx, insert_in, &one));
    OK(coulomb_tx_mutate(tx, insert_in, &two));
    poll_all(w);
    assert_int_equal(w->handled, 0);
    assert_int_equal(coulomb_tx_count(tx), 2);
    OK(coulomb_tx_commit(tx));
    poll_all(w);
    assert_int_equal(w->handled, 1);
    answer(w, 0, COULOMB_OK);
    assert_int_equal(coulomb_tx_status(tx), COULOMB_TX_COMPLETED);
    coulomb_tx_release(tx);
    world_close(w);
}

static void a4_a_failing_callback_leaves_the_transaction_pending(void **state)
{
    struct world *w = world_open();
    coulomb_tx_options o;
    coulomb_tx *tx;
    struct insert_call call = {w, 7, -12345};

    (void)state;
    coulomb_options_init(&o, sizeof(o));
    o.persist = world_persist;
    o.persist_arg = w;
    OK(coulomb_tx_new(w->c, &o, &tx));
    assert_int_equal(coulomb_tx_mutate(tx, insert_in, &call), -12345);
    assert_int_equal(coulomb_tx_status(tx), COULOMB_TX_PENDING);
    assert_int_equal(qty(w, 7), 1);
    assert_null(coulomb_tx_active(w->c));
    OK(coulomb_tx_rollback(tx));
    assert_int_equal(qty(w, 7), -2);
    coulomb_tx_release(tx);
    world_close(w);
}

static void a5_one_transaction_touches_several_collections(void **state)
{
    struct world *w = world_open();
    coulomb_collection_options co = world_options(w);
    coulomb_collection *other;
    coulomb_tx *tx = explicit_tx(w);
    coulomb_mutate_options o = in_tx(tx);
    coulomb_field fields[2] = {{"id", coulomb_int(1)}, {"qty", coulomb_int(5)}};

    (void)state;
    co.id = "other";
    co.start_sync = 0;
    OK(coulomb_collection_new(w->c, &co, &other));
    OK(insert(w, 1, 1, &o, NULL));
    OK(coulomb_insert(other, fields, 2, &o, NULL));
    assert_int_equal(qty(w, 1), 1);
    assert_true(coulomb_has(other, coulomb_key_int(1)));
    OK(coulomb_tx_rollback(tx));
    assert_false(coulomb_has(w->coll, coulomb_key_int(1)));
    assert_false(coulomb_has(other, coulomb_key_int(1)));
    coulomb_tx_release(tx);
    coulomb_collection_release(other);
    world_close(w);
}

struct settled {
    size_t calls;
    int code;
    const coulomb_error *error;
    coulomb_tx_state state;
};

static void on_settled(coulomb_tx *tx, const coulomb_error *error, void *arg)
{
    struct settled *s = arg;

    s->calls++;
    s->code = error->code;
    s->error = error;
    s->state = coulomb_tx_status(tx);
}

static void a6_rollback_restores_and_tells(void **state)
{
    struct world *w = world_open();
    coulomb_tx *tx = explicit_tx(w);
    coulomb_mutate_options o = in_tx(tx);
    struct settled s = {0};

    (void)state;
    synced(w, 1, 10);
    OK(set_qty(w, 1, 11, &o, NULL));
    OK(coulomb_tx_on_settled(tx, on_settled, &s, NULL));
    assert_int_equal(qty(w, 1), 11);
    OK(coulomb_tx_rollback(tx));
    assert_int_equal(qty(w, 1), 10);
    poll_all(w);
    assert_int_equal(s.calls, 1);
    assert_int_equal(s.state, COULOMB_TX_FAILED);
    assert_int_equal(s.code, 0);
    coulomb_tx_release(tx);
    world_close(w);
}

static void a7_a_failing_function_rolls_back(void **state)
{
    struct world *w = world_open();
    coulomb_tx *tx;

    (void)state;
    synced(w, 1, 10);
    OK(set_qty(w, 1, 11, NULL, &tx));
    poll_all(w);
    answer(w, 0, COULOMB_E_NON_RETRIABLE);
    assert_int_equal(coulomb_tx_status(tx), COULOMB_TX_FAILED);
    assert_int_equal(coulomb_tx_error(tx)->code, COULOMB_E_NON_RETRIABLE);
    assert_string_equal(coulomb_tx_error(tx)->message, "no");
    assert_int_equal(qty(w, 1), 10);
    coulomb_tx_release(tx);
    world_close(w);
}

static void a8_whatever_a_handler_fails_with_has_words(void **state)
{
    struct world *w = world_open();
    coulomb_tx *tx[3];

    (void)state;
    for (int64_t i = 0; i < 3; i++)
        OK(insert(w, i, 1, NULL, &tx[i]));
    poll_all(w);
    coulomb_fail(w->open[0], "in words");
    coulomb_complete(w->open[1], -77777, NULL);
    coulomb_complete(w->open[2], COULOMB_E_IO, NULL);
    w->open_count = 0;
    assert_string_equal(coulomb_tx_error(tx[0])->message, "in words");
    assert_int_equal(coulomb_tx_error(tx[0])->code, COULOMB_E_FAILED);
    assert_int_equal(coulomb_tx_error(tx[1])->code, -77777);
    assert_string_equal(coulomb_tx_error(tx[2])->message,
                        coulomb_error_text(COULOMB_E_IO));
    for (int i = 0; i < 3; i++)
        coulomb_tx_release(tx[i]);
    world_close(w);
}

static void a9_everybody_gets_the_same_error(void **state)
{
    struct world *w = world_open();
    coulomb_tx *tx;
    struct settled a = {0};
    struct settled b = {0};

    (void)state;
    OK(insert(w, 1, 1, NULL, &tx));
    OK(coulomb_tx_on_settled(tx, on_settled, &a, NULL));
    OK(coulomb_tx_on_settled(tx, on_settled, &b, NULL));
    poll_all(w);
    answer(w, 0, COULOMB_E_FAILED);
    poll_all(w);
    assert_int_equal(a.calls + b.calls, 2);
    assert_ptr_equal(a.error, b.error);
    assert_ptr_equal(a.error, coulomb_tx_error(tx));
    coulomb_tx_release(tx);
    world_close(w);
}

static void a10_a_rollback_takes_pending_ones_of_its_keys_along(void **state)
{
    struct world *w = world_open();
    coulomb_tx *persisting;
    coulomb_tx *a;
    coulomb_tx *b;
    coulomb_tx *apart;
    coulomb_mutate_options oa;
    coulomb_mutate_options ob;
    coulomb_mutate_options oc;
    struct settled s = {0};

    (void)state;
    synced(w, 1, 0);
    synced(w, 2, 0);
    OK(set_qty(w, 1, 1, NULL, &persisting));
    oa = in_tx(a = explicit_tx(w));
    ob = in_tx(b = explicit_tx(w));
    oc = in_tx(apart = explicit_tx(w));
    OK(set_qty(w, 1, 2, &oa, NULL));
    OK(set_qty(w, 1, 3, &ob, NULL));
    OK(set_qty(w, 2, 9, &oc, NULL));
    OK(coulomb_tx_on_settled(b, on_settled, &s, NULL));
    assert_int_equal(qty(w, 1), 3);
    OK(coulomb_tx_rollback(a));
    assert_int_equal(coulomb_tx_status(b), COULOMB_TX_FAILED);
    assert_int_equal(coulomb_tx_status(persisting), COULOMB_TX_PERSISTING);
    assert_int_equal(coulomb_tx_status(apart), COULOMB_TX_PENDING);
    assert_int_equal(qty(w, 1), 1);
    poll_all(w);
    assert_int_equal(s.calls, 1);
    assert_int_equal(s.code, 0);
    OK(coulomb_tx_rollback(apart));
    coulomb_tx_release(persisting);
    coulomb_tx_release(a);
    coulomb_tx_release(b);
    coulomb_tx_release(apart);
    world_close(w);
}

static void a11_rollbacks_stay_in_their_client(void **state)
{
    struct world *w = world_open();
    struct world *v = world_open();
    coulomb_tx *a = explicit_tx(w);
    coulomb_tx *b = explicit_tx(v);
    coulomb_mutate_options oa = in_tx(a);
    coulomb_mutate_options ob = in_tx(b);

    (void)state;
    OK(insert(w, 1, 1, &oa, NULL));
    OK(insert(v, 1, 1, &ob, NULL));
    OK(coulomb_tx_rollback(a));
    assert_int_equal(coulomb_tx_status(b), COULOMB_TX_PENDING);
    assert_int_equal(qty(v, 1), 1);
    OK(coulomb_tx_rollback(b));
    coulomb_tx_release(a);
    coulomb_tx_release(b);
    world_close(w);
    world_close(v);
}

static int touch_both(coulomb_tx *tx, void *arg)
{
    struct world **both = arg;
    coulomb_mutate_options o = in_tx(tx);

    /* Another client's collection: refused, and the transaction stays the ambient one. */
    assert_int_equal(insert(both[1], 1, 1, &o, NULL), COULOMB_E_FOREIGN_CLIENT);
    assert_ptr_equal(coulomb_tx_active(both[0]->c), tx);
    OK(insert(both[0], 1, 1, NULL, NULL));
    return 0;
}

static void a12_a_transaction_stays_ambient_in_its_client(void **state)
{
    struct world *both[2] = {world_open(), world_open()};
    coulomb_tx *tx = explicit_tx(both[0]);

    (void)state;
    OK(coulomb_tx_mutate(tx, touch_both, both));
    assert_int_equal(coulomb_tx_count(tx), 1);
    assert_int_equal(qty(both[1], 1), -2);
    OK(coulomb_tx_rollback(tx));
    coulomb_tx_release(tx);
    world_close(both[0]);
    world_close(both[1]);
}

static coulomb_mutation only(coulomb_tx *tx)
{
    coulomb_mutation m;

    assert_int_equal(coulomb_tx_count(tx), 1);
    OK(coulomb_tx_mutation(tx, 0, &m));
    return m;
}

static void a13_insert_then_update_is_an_insert(void **state)
{
    struct world *w = world_open();
    coulomb_tx *tx = explicit_tx(w);
    coulomb_mutate_options o = in_tx(tx);
    coulomb_field fields[2] = {{"id", coulomb_int(1)}, {"name", coulomb_text("x")}};
    coulomb_mutation m;

    (void)state;
    o.metadata = "first";
    o.metadata_len = 5;
    OK(coulomb_insert(w->coll, fields, 2, &o, NULL));
    assert_false(coulomb_tx_changed(tx, 0, "qty"));
    o.metadata = NULL;
    OK(set_qty(w, 1, 5, &o, NULL));
    m = only(tx);
    assert_int_equal(m.type, COULOMB_INSERT);
    assert_null(m.original);
    assert_int_equal(coulomb_row_int(m.modified, "qty", 0), 5);
    assert_true(coulomb_tx_changed(tx, 0, "qty"));
    assert_true(coulomb_tx_changed(tx, 0, "name"));
    assert_memory_equal(m.metadata, "first", 5);
    o.metadata = "second";
    o.metadata_len = 6;
    OK(set_qty(w, 1, 6, &o, NULL));
    assert_memory_equal(only(tx).metadata, "second", 6);
    OK(coulomb_tx_rollback(tx));
    coulomb_tx_release(tx);
    world_close(w);
}

static void a13_update_then_update_keeps_the_first_original(void **state)
{
    struct world *w = world_open();
    coulomb_tx *tx = explicit_tx(w);
    coulomb_mutate_options o = in_tx(tx);
    coulomb_field name = {"name", coulomb_text("y")};
    coulomb_mutation m;

    (void)state;
    synced(w, 1, 10);
    OK(set_qty(w, 1, 11, &o, NULL));
    OK(coulomb_set(w->coll, coulomb_key_int(1), &name, 1, &o, NULL));
    m = only(tx);
    assert_int_equal(m.type, COULOMB_UPDATE);
    assert_int_equal(coulomb_row_int(m.original, "qty", 0), 10);
    assert_true(coulomb_tx_changed(tx, 0, "qty"));
    assert_true(coulomb_tx_changed(tx, 0, "name"));
    OK(coulomb_tx_rollback(tx));
    coulomb_tx_release(tx);
    world_close(w);
}

static void a13_update_then_delete_has_the_first_original(void **state)
{
    struct world *w = world_open();
    coulomb_tx *tx = explicit_tx(w);
    coulomb_mutate_options o = in_tx(tx);
    coulomb_mutation m;

    (void)state;
    synced(w, 1, 10);
    OK(set_qty(w, 1, 11, &o, NULL));
    OK(erase(w, 1, &o, NULL));
    m = only(tx);
    assert_int_equal(m.type, COULOMB_DELETE);
    assert_int_equal(coulomb_row_int(m.original, "qty", 0), 10);
    assert_int_equal(m.key.i, 1);
    OK(coulomb_tx_rollback(tx));
    coulomb_tx_release(tx);
    world_close(w);
}

static void a13_delete_then_insert_is_an_update_of_all(void **state)
{
    struct world *w = world_open();
    coulomb_tx *tx = explicit_tx(w);
    coulomb_mutate_options o = in_tx(tx);
    coulomb_mutation m;

    (void)state;
    synced(w, 1, 10);
    OK(erase(w, 1, &o, NULL));
    OK(insert(w, 1, 20, &o, NULL));
    m = only(tx);
    assert_int_equal(m.type, COULOMB_UPDATE);
    assert_int_equal(coulomb_row_int(m.original, "qty", 0), 10);
    assert_int_equal(coulomb_row_int(m.modified, "qty", 0), 20);
    assert_true(coulomb_tx_changed(tx, 0, "name"));
    assert_int_equal(qty(w, 1), 20);
    OK(coulomb_tx_rollback(tx));
    coulomb_tx_release(tx);
    world_close(w);
}

static void a13_not_optimistic_mutations_merge_too(void **state)
{
    struct world *w = world_open();
    coulomb_tx *tx = explicit_tx(w);
    coulomb_mutate_options o = in_tx(tx);

    (void)state;
    o.not_optimistic = 1;
    OK(insert(w, 1, 1, &o, NULL));
    OK(insert(w, 1, 2, &o, NULL)); /* unseen, so no duplicate: the latest replaces */
    assert_int_equal(coulomb_row_int(only(tx).modified, "qty", 0), 2);
    synced(w, 2, 10);
    OK(erase(w, 2, &o, NULL));
    OK(erase(w, 2, &o, NULL));
    assert_int_equal(coulomb_tx_count(tx), 2);
    assert_int_equal(set_qty(w, 2, 3, &o, NULL), COULOMB_E_MERGE);
    assert_int_equal(coulomb_tx_count(tx), 2);
    OK(coulomb_tx_rollback(tx));
    coulomb_tx_release(tx);
    world_close(w);
}

static void a14_insert_then_delete_is_nothing(void **state)
{
    struct world *w = world_open();
    coulomb_tx *tx = explicit_tx(w);
    coulomb_mutate_options o = in_tx(tx);

    (void)state;
    OK(insert(w, 1, 1, &o, NULL));
    OK(erase(w, 1, &o, NULL));
    assert_int_equal(coulomb_tx_count(tx), 0);
    assert_int_equal(qty(w, 1), -2);
    OK(coulomb_tx_commit(tx));
    poll_all(w);
    assert_int_equal(w->handled, 0);
    assert_int_equal(coulomb_tx_status(tx), COULOMB_TX_COMPLETED);
    coulomb_tx_release(tx);
    world_close(w);
}

enum { MANY = 20000 };

static void a15_many_rows_in_one_call(void **state)
{
    struct world *w = world_open();
    coulomb_field(*fields)[2] = calloc(MANY, sizeof(*fields));
    coulomb_item *items = calloc(MANY, sizeof(*items));
    coulomb_tx *tx;

    (void)state;
    assert_non_null(fields);
    assert_non_null(items);
    for (int i = 0; i < MANY; i++) {
        fields[i][0] = (coulomb_field){"id", coulomb_int(i)};
        fields[i][1] = (coulomb_field){"qty", coulomb_int(i)};
        items[i] = (coulomb_item){fields[i], 2};
    }
    OK(coulomb_insert_many(w->coll, items, MANY, NULL, &tx));
    assert_int_equal(coulomb_size(w->coll), MANY);
    assert_int_equal(coulomb_tx_count(tx), MANY);
    poll_all(w);
    assert_int_equal(w->handled, 1);
    answer(w, 0, COULOMB_E_FAILED);
    assert_int_equal(coulomb_size(w->coll), 0);
    coulomb_tx_release(tx);
    free(fields);
    free(items);
    world_close(w);
}

static void a16_a_mutation_needs_a_handler_or_a_transaction(void **state)
{
    struct world *w = world_open();
    coulomb_collection_options co = world_options(w);
    coulomb_collection *plain = w->coll;
    coulomb_tx *tx = explicit_tx(w);
    coulomb_mutate_options o = in_tx(tx);

    (void)state;
    synced(w, 1, 1);
    co.on_insert = co.on_update = co.on_delete = NULL;
    co.id = "bare";
    co.start_sync = 0;
    OK(coulomb_collection_new(w->c, &co, &w->coll));
    assert_int_equal(insert(w, 1, 1, NULL, NULL), COULOMB_E_MISSING_INSERT_HANDLER);
    assert_int_equal(set_qty(w, 1, 1, NULL, NULL), COULOMB_E_MISSING_UPDATE_HANDLER);
    assert_int_equal(erase(w, 1, NULL, NULL), COULOMB_E_MISSING_DELETE_HANDLER);
    OK(insert(w, 1, 1, &o, NULL));
    OK(coulomb_tx_rollback(tx));
    coulomb_tx_release(tx);
    coulomb_collection_release(w->coll);
    w->coll = plain;
    world_close(w);
}

static void a17_the_handler_gets_transaction_and_collection(void **state)
{
    struct world *w = world_open();
    coulomb_tx *tx;

    (void)state;
    OK(insert(w, 1, 1, NULL, &tx));
    assert_int_equal(w->handled, 0); /* the overlay is there before the handler runs */
    assert_int_equal(qty(w, 1), 1);
    poll_all(w);
    assert_ptr_equal(w->last_tx, tx);
    assert_ptr_equal(w->last_coll, w->coll);
    assert_int_equal(coulomb_tx_status(tx), COULOMB_TX_PERSISTING);
    answer(w, 0, COULOMB_OK);
    assert_int_equal(coulomb_tx_status(tx), COULOMB_TX_COMPLETED);
    coulomb_tx_release(tx);
    world_close(w);
}

static void a18_duplicates_are_refused_whole(void **state)
{
    struct world *w = world_open();
    coulomb_field five[2] = {{"id", coulomb_int(5)}, {"qty", coulomb_int(1)}};
    coulomb_field six[2] = {{"id", coulomb_int(6)}, {"qty", coulomb_int(1)}};
    coulomb_item twice[3] = {{five, 2}, {six, 2}, {five, 2}};

    (void)state;
    synced(w, 1, 1);
    assert_int_equal(insert(w, 1, 2, NULL, NULL), COULOMB_E_DUPLICATE_KEY);
    assert_string_equal(coulomb_last_error(w->c)->key, "1");
    assert_int_equal(coulomb_insert_many(w->coll, twice, 3, NULL, NULL),
                     COULOMB_E_DUPLICATE_KEY);
    assert_int_equal(coulomb_size(w->coll), 1);
    poll_all(w);
    assert_int_equal(w->handled, 0);
    world_close(w);
}

static int other_name(coulomb_draft *d, size_t index, void *arg)
{
    (void)index;
    (void)arg;
    return coulomb_draft_set(d, "name", coulomb_text("other"));
}

static void a19_unknown_keys_are_refused(void **state)
{
    struct world *w = world_open();
    coulomb_key none = coulomb_key_int(1);

    (void)state;
    assert_int_equal(set_qty(w, 1, 1, NULL, NULL), COULOMB_E_UPDATE_KEY_NOT_FOUND);
    assert_int_equal(erase(w, 1, NULL, NULL), COULOMB_E_DELETE_KEY_NOT_FOUND);
    assert_int_equal(coulomb_delete_many(w->coll, NULL, 0, NULL, NULL),
                     COULOMB_E_NO_KEYS_DELETE);
    assert_int_equal(coulomb_update(w->coll, coulomb_key_int(1), NULL, NULL, NULL, NULL),
                     COULOMB_E_MISSING_UPDATE_ARGUMENT);
    assert_int_equal(coulomb_update_many(w->coll, NULL, 1, other_name, NULL, NULL, NULL),
                     COULOMB_E_MISSING_UPDATE_ARGUMENT);
    assert_int_equal(coulomb_update_many(w->coll, &none, 0, other_name, NULL, NULL, NULL),
                     COULOMB_E_NO_KEYS_UPDATE);
    world_close(w);
}

static coulomb_key bad_key(const coulomb_row *row, void *arg)
{
    coulomb_key k =
        coulomb_row_int(row, "qty", 0) == 0 ? coulomb_key_int(0) : coulomb_key_text("");

    (void)arg;
    if (coulomb_row_int(row, "qty", 0) > 1)
        k.type = (coulomb_key_type)77;
    return k;
}

static void a20_what_is_no_key(void **state)
{
    struct world *w = world_open();
    coulomb_collection_options co = world_options(w);
    coulomb_field null_id = {"id", coulomb_null()};
    coulomb_field no_id = {"qty", coulomb_int(1)};
    coulomb_collection *plain = w->coll;

    (void)state;
    assert_int_equal(coulomb_insert(w->coll, &null_id, 1, NULL, NULL),
                     COULOMB_E_INVALID_KEY);
    assert_int_equal(coulomb_insert(w->coll, &no_id, 1, NULL, NULL),
                     COULOMB_E_UNDEFINED_KEY);
    co.key_column = NULL;
    co.get_key = bad_key;
    co.start_sync = 0;
    OK(coulomb_collection_new(w->c, &co, &w->coll));
    OK(insert(w, 5, 0, NULL, NULL));
    OK(insert(w, 6, 1, NULL, NULL));
    assert_true(coulomb_has(w->coll, coulomb_key_int(0)));
    assert_true(coulomb_has(w->coll, coulomb_key_text("")));
    assert_int_equal(insert(w, 7, 2, NULL, NULL), COULOMB_E_INVALID_KEY);
    poll_all(w);
    coulomb_collection_release(w->coll);
    w->coll = plain;
    world_close(w);
}

static void a21_an_update_keeps_the_key(void **state)
{
    struct world *w = world_open();
    coulomb_field id = {"id", coulomb_int(2)};

    (void)state;
    synced(w, 1, 1);
    assert_int_equal(coulomb_set(w->coll, coulomb_key_int(1), &id, 1, NULL, NULL),
                     COULOMB_E_KEY_UPDATE);
    assert_int_equal(qty(w, 1), 1);
    world_close(w);
}

static void a22_not_optimistic_shows_nothing_until_sync(void **state)
{
    struct world *w = world_open();
    coulomb_mutate_options o = in_tx(NULL);

    (void)state;
    synced(w, 2, 1);
    watch(w, COULOMB_INITIAL_ROWS);
    o.not_optimistic = 1;
    OK(insert(w, 1, 1, &o, NULL));
    OK(erase(w, 2, &o, NULL));
    poll_all(w);
    assert_int_equal(w->heard.count, 0);
    assert_int_equal(qty(w, 1), -2);
    assert_int_equal(qty(w, 2), 1);
    answer(w, 0, COULOMB_OK);
    answer(w, 1, COULOMB_OK);
    OK(coulomb_sync_begin(w->sync, 0));
    OK(sync_row(w, 1, "x", 1));
    OK(coulomb_sync_delete(w->sync, coulomb_key_int(2)));
    OK(coulomb_sync_commit(w->sync));
    poll_all(w);
    assert_int_equal(w->heard.count, 2);
    expect(w, 0, COULOMB_INSERT, 1, 1);
    assert_true(w->heard.items[0].meta.local);
    expect(w, 1, COULOMB_DELETE, 2, 1);
    world_close(w);
}

static void a23_optimistic_is_the_default(void **state)
{
    struct world *w = world_open();
    coulomb_mutate_options o = in_tx(NULL);

    (void)state;
    o.not_optimistic = 0;
    OK(insert(w, 1, 1, NULL, NULL));
    OK(insert(w, 2, 1, &o, NULL));
    assert_int_equal(coulomb_size(w->coll), 2);
    world_close(w);
}

struct vars {
    struct world *w;
    int64_t id;
    int code;
};

static int act(coulomb_tx *tx, void *arg)
{
    struct vars *v = arg;

    (void)tx;
    OK(insert(v->w, v->id, 3, NULL, NULL));
    return v->code;
}

static void *acted_on;

static int act_persist(coulomb_tx *tx, coulomb_collection *coll, coulomb_completion *done,
                       void *arg)
{
    (void)tx;
    (void)done;
    assert_null(coll);
    acted_on = arg;
    return ((struct vars *)arg)->id == 9 ? COULOMB_E_FAILED : COULOMB_OK;
}

static void a24_an_action_applies_and_persists(void **state)
{
    struct world *w = world_open();
    coulomb_action a;
    struct vars fine = {w, 1, 0};
    struct vars asynchronous = {w, 2, COULOMB_PENDING};
    struct vars failing = {w, 9, 0};
    coulomb_tx *tx;

    (void)state;
    coulomb_options_init(&a, sizeof(a));
    a.on_mutate = act;
    a.persist = act_persist;
    OK(coulomb_action_run(w->c, &a, &fine, &tx));
    assert_int_equal(qty(w, 1), 3);
    poll_all(w);
    assert_ptr_equal(acted_on, &fine);
    assert_int_equal(coulomb_tx_status(tx), COULOMB_TX_COMPLETED);
    coulomb_tx_release(tx);
    assert_int_equal(coulomb_action_run(w->c, &a, &asynchronous, &tx),
                     COULOMB_E_ON_MUTATE_ASYNC);
    assert_int_equal(qty(w, 2), 3);
    OK(coulomb_tx_rollback(tx));
    coulomb_tx_release(tx);
    OK(coulomb_action_run(w->c, &a, &failing, &tx));
    poll_all(w);
    assert_int_equal(coulomb_tx_error(tx)->code, COULOMB_E_FAILED);
    assert_int_equal(qty(w, 9), -2);
    coulomb_tx_release(tx);
    world_close(w);
}

static void a25_metadata_reaches_the_handler(void **state)
{
    struct world *w = world_open();
    coulomb_tx_options o;
    coulomb_tx *tx;
    coulomb_mutate_options m;
    size_t len;

    (void)state;
    coulomb_options_init(&o, sizeof(o));
    o.persist = world_persist;
    o.persist_arg = w;
    o.metadata = "of tx";
    o.metadata_len = 5;
    OK(coulomb_tx_new(w->c, &o, &tx));
    m = in_tx(tx);
    m.metadata = "of it";
    m.metadata_len = 5;
    OK(insert(w, 1, 1, &m, NULL));
    OK(coulomb_tx_commit(tx));
    poll_all(w);
    assert_memory_equal(coulomb_tx_metadata(w->last_tx, &len), "of tx", 5);
    assert_int_equal(len, 5);
    assert_memory_equal(only(w->last_tx).metadata, "of it", 5);
    coulomb_tx_release(tx);
    world_close(w);
}

static void a26_an_update_of_nothing_is_completed_and_empty(void **state)
{
    struct world *w = world_open();
    coulomb_tx *outer = explicit_tx(w);
    coulomb_mutate_options o = in_tx(outer);
    coulomb_tx *tx;

    (void)state;
    synced(w, 1, 1);
    OK(set_qty(w, 1, 1, NULL, &tx));
    assert_int_equal(coulomb_tx_status(tx), COULOMB_TX_COMPLETED);
    assert_int_equal(coulomb_tx_count(tx), 0);
    coulomb_tx_release(tx);
    OK(set_qty(w, 1, 1, &o, &tx));
    assert_int_equal(coulomb_tx_status(tx), COULOMB_TX_COMPLETED);
    assert_int_equal(coulomb_tx_count(outer), 0);
    coulomb_tx_release(tx);
    OK(coulomb_tx_rollback(outer));
    coulomb_tx_release(outer);
    poll_all(w);
    assert_int_equal(w->handled, 0);
    world_close(w);
}

static void on_progress(coulomb_tx *tx, void *arg)
{
    char *states = arg;
    coulomb_mutation m;

    OK(coulomb_tx_mutation(tx, 0, &m));
    states[strlen(states)] = (char)('0' + m.state);
}

static void every_step_of_a_mutation_is_told(void **state)
{
    struct world *w = world_open();
    coulomb_tx *tx = explicit_tx(w);
    coulomb_mutate_options o = in_tx(tx);
    char states[8] = "";
    char ended[8] = "";
    coulomb_token token;

    (void)state;
    OK(insert(w, 1, 1, &o, NULL));
    OK(coulomb_tx_on_progress(tx, on_progress, states, NULL));
    OK(coulomb_tx_on_progress(tx, on_progress, ended, &token));
    poll_all(w);
    assert_string_equal(states, ""); /* nothing moved */
    OK(coulomb_tx_commit(tx));
    poll_all(w);
    assert_string_equal(states, "1");
    coulomb_off(w->c, token);
    synced(w, 1, 1); /* waits: what is kept then is named by it */
    answer(w, 0, COULOMB_OK);
    poll_all(w);
    assert_string_equal(states, "13"); /* both steps came in one poll */
    assert_string_equal(ended, "1");
    coulomb_tx_release(tx);
    world_close(w);
}

/* What is over leaves nothing behind, neither transactions nor memory. */
static void nothing_is_left_of_what_is_over(void **state)
{
    struct world *w = world_open();
    coulomb_stats before = {.size = sizeof(before)};
    coulomb_stats after = {.size = sizeof(after)};

    (void)state;
    for (int round = 0; round < 20; round++) {
        coulomb_tx *tx = explicit_tx(w);
        coulomb_mutate_options o = in_tx(tx);

        OK(insert(w, 1, round, NULL, NULL));
        OK(insert(w, 2, round, NULL, NULL));
        OK(insert(w, 3, round, &o, NULL));
        OK(erase(w, 3, &o, NULL));
        OK(insert(w, 4, round, &o, NULL));
        OK(coulomb_tx_rollback(tx));
        coulomb_tx_release(tx);
        poll_all(w);
        answer(w, 0, COULOMB_OK);
        answer(w, 1, COULOMB_E_FAILED);
        w->open_count = 0;
        synced(w, 1, round);
        OK(coulomb_sync_begin(w->sync, 0));
        OK(coulomb_sync_delete(w->sync, coulomb_key_int(1)));
        OK(coulomb_sync_commit(w->sync));
        poll_all(w);
        coulomb_client_stats(w->c, &after);
        assert_int_equal(after.transactions, 0);
        assert_int_equal(after.rows, 0);
        assert_int_equal(after.queued_changes, 0);
        if (round == 9)
            before = after;
        else if (round > 9)
            assert_int_equal(after.bytes, before.bytes);
    }
    world_close(w);
}

static void transactions_have_time_and_order(void **state)
{
    struct world *w = world_open();
    coulomb_tx *first = explicit_tx(w);
    coulomb_tx *second;

    (void)state;
    w->now_ms += 5;
    second = explicit_tx(w);
    assert_int_equal(coulomb_tx_created_ms(second), coulomb_tx_created_ms(first) + 5);
    assert_true(coulomb_tx_order(second) > coulomb_tx_order(first));
    OK(coulomb_tx_rollback(first));
    OK(coulomb_tx_rollback(second));
    coulomb_tx_release(first);
    coulomb_tx_release(second);
    world_close(w);
}

/* Each of many mutations is merged in its place, whatever vanished before it. */
static void many_merges_keep_their_places(void **state)
{
    struct world *w = world_open();
    coulomb_tx *tx = explicit_tx(w);
    coulomb_mutate_options o = in_tx(tx);
    coulomb_mutation m;
    uint64_t last = 0;

    (void)state;
    for (int64_t i = 0; i < 50; i++)
        OK(insert(w, i, 0, &o, NULL));
    for (int64_t i = 0; i < 50; i += 2)
        OK(erase(w, i, &o, NULL));
    for (int64_t i = 49; i > 0; i -= 2)
        OK(set_qty(w, i, i, &o, NULL));
    assert_int_equal(coulomb_tx_count(tx), 25);
    for (size_t i = 0; i < 25; i++) {
        OK(coulomb_tx_mutation(tx, i, &m));
        assert_int_equal(m.key.i, 2 * (int64_t)i + 1);
        assert_true(m.id > 0 && m.id != last);
        last = m.id;
        assert_int_equal(coulomb_row_int(m.modified, "qty", -1), m.key.i);
    }
    OK(coulomb_tx_rollback(tx));
    coulomb_tx_release(tx);
    world_close(w);
}

static void states_of_a_mutation(void **state)
{
    struct world *w = world_open();
    coulomb_tx *tx = explicit_tx(w);
    coulomb_mutate_options o = in_tx(tx);
    coulomb_tx *direct;

    (void)state;
    OK(insert(w, 1, 1, &o, NULL));
    assert_int_equal(only(tx).state, COULOMB_MUTATION_LOCAL);
    OK(coulomb_tx_rollback(tx));
    assert_int_equal(only(tx).state, COULOMB_MUTATION_REJECTED);
    OK(insert(w, 2, 1, NULL, &direct));
    assert_int_equal(only(direct).state, COULOMB_MUTATION_SENT);
    poll_all(w);
    answer(w, 0, COULOMB_OK);
    assert_int_equal(only(direct).state, COULOMB_MUTATION_ACKNOWLEDGED);
    synced(w, 2, 1);
    assert_int_equal(only(direct).state, COULOMB_MUTATION_OBSERVED);
    coulomb_tx_release(tx);
    coulomb_tx_release(direct);
    world_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a1_a_transaction_needs_a_function),
        cmocka_unit_test(a2_an_empty_commit_calls_nothing),
        cmocka_unit_test(a3_after_the_end_each_call_has_its_error),
        cmocka_unit_test(a4_without_autocommit_mutations_gather),
        cmocka_unit_test(a4_a_failing_callback_leaves_the_transaction_pending),
        cmocka_unit_test(a5_one_transaction_touches_several_collections),
        cmocka_unit_test(a6_rollback_restores_and_tells),
        cmocka_unit_test(a7_a_failing_function_rolls_back),
        cmocka_unit_test(a8_whatever_a_handler_fails_with_has_words),
        cmocka_unit_test(a9_everybody_gets_the_same_error),
        cmocka_unit_test(a10_a_rollback_takes_pending_ones_of_its_keys_along),
        cmocka_unit_test(a11_rollbacks_stay_in_their_client),
        cmocka_unit_test(a12_a_transaction_stays_ambient_in_its_client),
        cmocka_unit_test(a13_insert_then_update_is_an_insert),
        cmocka_unit_test(a13_update_then_update_keeps_the_first_original),
        cmocka_unit_test(a13_update_then_delete_has_the_first_original),
        cmocka_unit_test(a13_delete_then_insert_is_an_update_of_all),
        cmocka_unit_test(a13_not_optimistic_mutations_merge_too),
        cmocka_unit_test(a14_insert_then_delete_is_nothing),
        cmocka_unit_test(a15_many_rows_in_one_call),
        cmocka_unit_test(a16_a_mutation_needs_a_handler_or_a_transaction),
        cmocka_unit_test(a17_the_handler_gets_transaction_and_collection),
        cmocka_unit_test(a18_duplicates_are_refused_whole),
        cmocka_unit_test(a19_unknown_keys_are_refused),
        cmocka_unit_test(a20_what_is_no_key),
        cmocka_unit_test(a21_an_update_keeps_the_key),
        cmocka_unit_test(a22_not_optimistic_shows_nothing_until_sync),
        cmocka_unit_test(a23_optimistic_is_the_default),
        cmocka_unit_test(a24_an_action_applies_and_persists),
        cmocka_unit_test(a25_metadata_reaches_the_handler),
        cmocka_unit_test(a26_an_update_of_nothing_is_completed_and_empty),
        cmocka_unit_test(states_of_a_mutation),
        cmocka_unit_test(every_step_of_a_mutation_is_told),
        cmocka_unit_test(nothing_is_left_of_what_is_over),
        cmocka_unit_test(transactions_have_time_and_order),
        cmocka_unit_test(many_merges_keep_their_places),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
